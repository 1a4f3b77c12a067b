//! Deliveries in doubt that somebody settles by hand. Whoever settles one has taken it out of what
//! waits first, so that nobody begins a try at it meanwhile.

use tokio::sync::oneshot;

use super::admin::ask::Event;
use super::by_hand::unsettled;
use super::calls::Answer;
use super::desk::Desk;
use super::job::{Job, Task};
use crate::clock::exact;
use crate::crash::{self, Point};
use crate::domain::{CustomerName, Refused, RunId};
use crate::ledger::{DeliveryId, LedgerError, Saying, Settlement, Unsettled};
use crate::run::{Fared, Fate, Work};

/// One of which somebody says something.
pub struct Named {
    pub customer: CustomerName,
    pub delivery: DeliveryId,
    /// On record as committed: it is in nobody's hands.
    pub has_ended: bool,
}

/// What somebody says of deliveries of a run.
pub(super) struct Settling {
    pub run: RunId,
    pub deliveries: Vec<Named>,
    pub saying: Saying,
    pub done: oneshot::Sender<Result<Vec<Settlement>, Refused>>,
}

impl Desk {
    pub fn settle(&mut self, settling: Box<Settling>) {
        if let Err(refused) = self.hold_for(&settling) {
            drop(settling.done.send(Err(refused)));
            return;
        }
        let ledger = self.ledger.clone();
        self.calls.ask(async move {
            let customers = settling.deliveries.iter().map(|named| named.customer.clone()).collect();
            let settled = ledger.settle(settling.run, customers, settling.saying.clone()).await;
            Answer::Settled(settling, settled)
        });
    }

    /// Takes it out of whatever it waits in.
    pub fn take_out(&mut self, delivery: DeliveryId) -> Option<Job> {
        let waiting = self.queue.remove(delivery).or_else(|| self.retries.remove(delivery));
        let waiting = waiting.or_else(|| self.quarantine.remove(delivery));
        waiting.or_else(|| self.waiting.remove(delivery))
    }

    /// Takes all of them out of what waits, or none.
    fn hold_for(&mut self, Settling { run, deliveries, .. }: &Settling) -> Result<(), Refused> {
        for Named { customer, delivery, has_ended } in deliveries {
            if self.is_at_work(*delivery) || self.settling.contains_key(delivery) {
                let message = format!("the delivery to {customer} is at work: it is just being asked about");
                let help = format!("repeat this when that is over, which `consign show {run}` tells");
                return Err(Refused::request(message, help));
            }
            if self.unrecorded.has(*delivery) {
                let message = format!("what became of the delivery to {customer} could not be written down yet");
                return Err(Refused::request(message, "it is tried again by itself; `consign status` says why"));
            }
            if !has_ended && !self.has(*delivery) {
                let message = format!("the delivery to {customer} is not at hand here");
                let help = format!("`consign show {run}` tells how it stands; if it is open still, repeat this");
                return Err(Refused::request(message, help));
            }
        }
        for Named { delivery, .. } in deliveries {
            if let Some(job) = self.take_out(*delivery) {
                self.settling.insert(*delivery, job);
            }
        }
        Ok(())
    }

    /// What the ledger says to it. They go on as it has them by then: what is settled has at most uploads that
    /// are to be aborted.
    pub fn settled(
        &mut self,
        settling: Settling,
        settled: Result<Result<Vec<Settlement>, Unsettled>, LedgerError>,
    ) -> Result<(), LedgerError> {
        let Settling { run, deliveries, saying, done } = settling;
        let settled = match settled {
            Ok(Ok(settled)) => {
                crash::point(Point::Settled);
                settled.iter().for_each(|one| self.is_settled(run, &saying, one));
                Ok(settled)
            }
            Ok(Err(why)) => Err(unsettled(run, why)),
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => Err(error.into()),
        };
        for Named { delivery: id, .. } in deliveries {
            if let Some(Job { delivery, .. }) = self.settling.remove(&id) {
                self.enqueue_now(Job { delivery, task: Task::Again { begun: true } });
            }
        }
        drop(done.send(settled));
        Ok(())
    }

    /// Whoever waits for it hears of it, and what waits behind it goes on.
    fn is_settled(&mut self, run: RunId, saying: &Saying, settlement: &Settlement) {
        let Settlement { customer, delivery: id, outcome, lacking } = settlement;
        let by = &saying.by;
        let Some(slot) = self.settling.get(id).map(|job| job.delivery.slot.clone()) else {
            tracing::warn!(%run, %customer, %by, "settled by hand: its manifest, which was delivered, is there no more");
            return;
        };
        let (share, at) = (&slot.share, exact(slot.at));
        let event = match outcome {
            Ok(manifest) => {
                tracing::warn!(%run, %share, slot = %at, %customer, %by, "settled by hand: its manifest is there");
                for key in lacking {
                    tracing::warn!(%run, %customer, key, "delivered, but without this object");
                }
                self.tally.delivered += 1;
                let work = Work::new(&self.generation.config, &slot, customer, run).ok();
                work.map(|work| Fared::committed(&work, (**manifest).clone()))
            }
            Err(failure) => {
                tracing::warn!(%run, %share, slot = %at, %customer, %by, "settled by hand: its manifest is not there");
                self.tally.failed += 1;
                Some(Fared::failed(customer.clone(), Fate::Failed, failure.clone()))
            }
        };
        self.callers.tell(*id, event.map(|fared| Event::Ended(Box::new(fared))));
        self.intake.look_for_pending();
        self.go_on_behind(*id);
        for job in self.retries.of(share, customer) {
            self.enqueue(job);
        }
    }
}
