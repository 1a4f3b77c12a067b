//! Deliveries that are to be tried again later.

use std::collections::{BTreeMap, HashMap};

use super::job::Job;
use crate::clock::Instant;
use crate::ledger::DeliveryId;

#[derive(Default)]
pub(super) struct Retries {
    jobs: BTreeMap<(Instant, DeliveryId), Job>,
    due: HashMap<DeliveryId, Instant>,
}

impl Retries {
    pub fn push(&mut self, due: Instant, job: Job) {
        self.due.insert(job.delivery.id, due);
        self.jobs.insert((due, job.delivery.id), job);
    }

    /// One that is due.
    pub fn next(&mut self, now: Instant) -> Option<Job> {
        let entry = self.jobs.first_entry().filter(|entry| entry.key().0 <= now)?;
        self.due.remove(&entry.key().1);
        Some(entry.remove())
    }

    pub fn remove(&mut self, delivery: DeliveryId) -> Option<Job> {
        self.jobs.remove(&(self.due.remove(&delivery)?, delivery))
    }

    pub fn has(&self, delivery: DeliveryId) -> bool {
        self.due.contains_key(&delivery)
    }

    pub fn len(&self) -> usize {
        self.jobs.len()
    }
}
