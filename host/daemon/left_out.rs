//! Slots that nobody gets, or not everybody, as the log tells them: a line for
//! each share and reason, because after a long downtime there are many.

use std::collections::HashMap;

use crate::clock::{Instant, exact};
use crate::domain::{ShareName, SkipReason, Slot};

#[derive(Default)]
pub(super) struct LeftOut(HashMap<(ShareName, SkipReason), Range>);

struct Range {
    slots: u64,
    first: Instant,
    last: Instant,
}

impl LeftOut {
    pub fn add(&mut self, slot: &Slot, reason: SkipReason) {
        let range = self.0.entry((slot.share.clone(), reason));
        let range = range.or_insert(Range { slots: 0, first: slot.at, last: slot.at });
        range.slots += 1;
        range.first = range.first.min(slot.at);
        range.last = range.last.max(slot.at);
    }

    /// Logs them; returns how many they are.
    pub fn tell(self) -> u64 {
        let mut all: Vec<_> = self.0.into_iter().collect();
        all.sort_unstable_by(|((a, _), one), ((b, _), other)| (a, one.first).cmp(&(b, other.first)));
        for ((share, reason), Range { slots, first, last }) in &all {
            let (first, last, reason) = (exact(*first), exact(*last), reason.as_str());
            match slots {
                1 => tracing::warn!(%share, slot = first, reason, "slot skipped"),
                _ => tracing::warn!(%share, slots, first, last, reason, "slots skipped"),
            }
        }
        all.iter().map(|(_, range)| range.slots).sum()
    }
}
