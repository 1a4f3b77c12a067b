//! Shares of one minute, begun apart.

use std::time::Duration;

use chrono::TimeDelta;
use sha2::{Digest, Sha256};

use super::Calendar;
use crate::clock::Instant;
use crate::domain::ShareName;

/// How much later than its slots a share begins. It follows from the share's
/// name alone, so it is the same on every day and after every restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter {
    within: TimeDelta,
    /// Of `within`, in parts of 2^64.
    part: u64,
}

impl Jitter {
    pub fn new(share: &ShareName, within: Duration) -> Self {
        let hash: [u8; 32] = Sha256::digest(share.as_str()).into();
        let part = hash.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Self { within: TimeDelta::from_std(within).unwrap_or(TimeDelta::MAX), part }
    }

    /// When the slot at `at` begins: before the next one is.
    pub fn due(&self, calendar: &Calendar, at: Instant) -> Instant {
        if self.within.is_zero() {
            return at;
        }
        let within = calendar.endless_next(at).map_or(self.within, |next| self.within.min(next - at));
        // Whole seconds, and less than `within` whatever the part is.
        let late_s = (i128::from(within.num_seconds()) * i128::from(self.part)) >> 64;
        let late = i64::try_from(late_s).ok().and_then(TimeDelta::try_seconds).unwrap_or_default();
        at.checked_add_signed(late).unwrap_or(at)
    }
}
