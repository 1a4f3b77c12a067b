//! Uploads that an ended run left because they could not be aborted either: its
//! customer pays for them, so they are tried again and not only by the next start.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::calls::Answer;
use super::desk::Desk;
use super::job::{Delivery, Job, Task};
use crate::domain::Failure;
use crate::ledger::{DeliveryId, LedgerError, Unfinished};

const EVERY: Duration = Duration::from_secs(3600);

/// The longest time between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Deliveries of which one look tries the uploads. The others are left to the next.
const AT_ONCE: usize = 500;

#[derive(Default)]
pub(super) struct Leftover {
    /// When the ledger was last asked, or the daemon began, which looks itself.
    looked: Option<Instant>,
    tries: HashMap<DeliveryId, Try>,
}

struct Try {
    next: Instant,
    pause: Duration,
}

impl Leftover {
    fn wants_to_look(&mut self, now: Instant) -> bool {
        let looked = *self.looked.get_or_insert(now);
        let wants = now - looked >= EVERY;
        if wants {
            self.looked = Some(now);
        }
        wants
    }

    /// Which of those that are left to try now. What is not among them is forgotten.
    fn due(&mut self, left: &[DeliveryId], now: Instant) -> HashSet<DeliveryId> {
        let is_left: HashSet<&DeliveryId> = left.iter().collect();
        self.tries.retain(|delivery, _| is_left.contains(delivery));
        let is_due = |delivery: &&DeliveryId| self.tries.get(*delivery).is_none_or(|tried| tried.next <= now);
        let due: HashSet<DeliveryId> = left.iter().filter(is_due).take(AT_ONCE).copied().collect();
        for delivery in &due {
            let Try { next, pause } = self.tries.entry(*delivery).or_insert(Try { next: now, pause: EVERY });
            *next = now + *pause;
            *pause = (*pause * 2).min(PAUSE_MAX);
        }
        due
    }
}

impl Desk {
    pub fn look_for_leftover(&mut self) {
        if self.leftover.wants_to_look(Instant::now()) {
            self.sweep();
        }
    }

    pub fn sweep(&mut self) {
        let ledger = self.ledger.clone();
        self.calls.ask(async move { Answer::Leftover(ledger.ended_with_uploads().await) });
    }

    /// They wait behind all that is on time.
    pub fn leftover_found(&mut self, found: Result<Vec<Unfinished>, LedgerError>) -> Result<(), LedgerError> {
        let found = match found {
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                tracing::debug!(error = Failure::chain(&error), "uploads that are left cannot be looked for");
                return Ok(());
            }
            Ok(found) => found,
        };
        let ids: Vec<DeliveryId> = found.iter().flat_map(|left| &left.deliveries).map(|open| open.id).collect();
        let due = self.leftover.due(&ids, Instant::now());
        for Unfinished { run, slot, origin, deliveries, .. } in found {
            for open in deliveries.into_iter().filter(|open| due.contains(&open.id)) {
                let (id, slot, customer) = (open.id, slot.clone(), open.customer.clone());
                if self.has(id) {
                    continue;
                }
                tracing::info!(%run, share = %slot.share, %customer, "aborting uploads that an ended run left");
                let delivery = Delivery { id, run, slot, customer, origin, late: true, deadline: None };
                self.enqueue(Job { delivery, task: Task::Resume(Box::new(open)) });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_aborted_is_tried_less_and_less_often() {
        let (mut leftover, start) = (Leftover::default(), Instant::now());
        let hour = |n: u64| start + EVERY * u32::try_from(n).unwrap();
        assert!(!leftover.wants_to_look(start), "the start looks itself");
        assert!(leftover.wants_to_look(hour(1)) && !leftover.wants_to_look(hour(1)));
        let id = DeliveryId(7);
        let tried: Vec<u64> = (1..=80).filter(|n| !leftover.due(&[id], hour(*n)).is_empty()).collect();
        assert_eq!(tried, [1, 2, 4, 8, 16, 32, 56, 80]);
        // One that is gone and comes again is a new one.
        assert!(leftover.due(&[], hour(81)).is_empty());
        assert_eq!(leftover.due(&[id], hour(81)).len(), 1);
        let many: Vec<DeliveryId> = (0..1200).map(DeliveryId).collect();
        let mut again = Leftover::default();
        let all: HashSet<DeliveryId> = (0..3).flat_map(|_| again.due(&many, start)).collect();
        assert_eq!(all.len(), 1200, "each gets its turn");
    }
}
