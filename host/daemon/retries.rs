//! Deliveries that are to be tried again later.

use std::collections::{BTreeMap, HashMap};

use super::job::Job;
use crate::clock::Instant;
use crate::domain::{CustomerName, ShareName};
use crate::ledger::DeliveryId;

#[derive(Default)]
pub(super) struct Retries {
    jobs: BTreeMap<(Instant, DeliveryId), Job>,
    due: HashMap<DeliveryId, Instant>,
}

impl Retries {
    /// Comes out when its deadline has passed at the latest, unless something of it is in a bucket.
    pub fn push(&mut self, due: Instant, job: Job) {
        let due = job.deadline().map_or(due, |deadline| deadline.min(due));
        self.due.insert(job.delivery.id, due);
        self.jobs.insert((due, job.delivery.id), job);
    }

    /// Takes out those that are due. What comes back meanwhile is left for the next time.
    pub fn due(&mut self, now: Instant) -> Vec<Job> {
        let mut due = Vec::new();
        while let Some(entry) = self.jobs.first_entry().filter(|entry| entry.key().0 <= now) {
            self.due.remove(&entry.key().1);
            due.push(entry.remove());
        }
        due
    }

    /// The clock is behind what it said before: all that waits is due.
    pub fn were_told_wrong(&mut self, now: Instant) {
        for ((due, _), job) in std::mem::take(&mut self.jobs) {
            self.push(due.min(now), job);
        }
    }

    pub fn remove(&mut self, delivery: DeliveryId) -> Option<Job> {
        self.jobs.remove(&(self.due.remove(&delivery)?, delivery))
    }

    /// Takes out what is to go to a customer of a share.
    pub fn of(&mut self, share: &ShareName, customer: &CustomerName) -> Vec<Job> {
        let is_it = |job: &Job| job.delivery.slot.share == *share && job.delivery.customer == *customer;
        let ids: Vec<DeliveryId> = self.jobs.values().filter(|job| is_it(job)).map(|job| job.delivery.id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    pub fn has(&self, delivery: DeliveryId) -> bool {
        self.due.contains_key(&delivery)
    }

    pub fn len(&self) -> usize {
        self.jobs.len()
    }
}
