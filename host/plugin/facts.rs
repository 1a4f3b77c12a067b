//! What a plugin may know of its run. The keys are part of the contract.

use chrono_tz::Tz;

use crate::clock::{Instant, exact};
use crate::domain::Interval;

/// The facts of one run.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    pub share: &'a str,
    pub customer: &'a str,
    pub dataset: &'a str,
    pub run: String,
    pub attempt: u32,
    pub slot: Instant,
    pub interval: Interval,
    pub timezone: Tz,
    /// Split objects at this size.
    pub max_object_bytes: Option<u64>,
}

impl Facts<'_> {
    /// By the keys of `run.get`.
    pub fn list(&self) -> Vec<(String, String)> {
        let mut facts = vec![
            ("share", self.share.to_owned()),
            ("customer", self.customer.to_owned()),
            ("dataset", self.dataset.to_owned()),
            ("run", self.run.clone()),
            ("attempt", self.attempt.to_string()),
            ("slot", exact(self.slot)),
            ("interval-start", exact(self.interval.start)),
            ("interval-end", exact(self.interval.end)),
            ("timezone", self.timezone.to_string()),
            ("object-stem", self.share.to_owned()),
        ];
        if let Some(bytes) = self.max_object_bytes {
            facts.push(("max-object-bytes", bytes.to_string()));
        }
        facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}
