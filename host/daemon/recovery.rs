//! What an earlier process left, and what the ledger could not take.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::admin::ask::{Named, Names};
use super::breaker;
use super::calls::Answer;
use super::desk::Desk;
use super::job::{Delivery, Job, Task};
use crate::clock::exact;
use crate::crash::{self, Point};
use crate::domain::{Failure, RunId, ShareName};
use crate::ledger::{DeliveryId, LedgerError, OpenDelivery, RunState, Unfinished};
use crate::run::Stopper;

/// How long a full disk, or a database that is away, is left alone before what it had no room for is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What the ledger had no room for, or did not answer: taken up again after a while.
#[derive(Default)]
pub(super) struct Unrecorded {
    deliveries: BTreeMap<DeliveryId, Job>,
    runs: BTreeMap<RunId, ShareName>,
    /// What an earlier process held.
    release: bool,
    /// From then on there is something in it, and why the ledger could not take it.
    since: Option<(Instant, &'static str)>,
}

impl Unrecorded {
    pub fn why(&self) -> Option<&'static str> {
        self.since.map(|(_, why)| why)
    }

    pub fn runs(&self) -> &BTreeMap<RunId, ShareName> {
        &self.runs
    }

    pub fn has(&self, delivery: DeliveryId) -> bool {
        self.deliveries.contains_key(&delivery)
    }

    pub fn job(&mut self, job: Job, why: &'static str) {
        self.deliveries.insert(job.delivery.id, job);
        self.begin(why);
    }

    pub fn run(&mut self, run: RunId, share: ShareName, why: &'static str) {
        self.runs.insert(run, share);
        self.begin(why);
    }

    fn release(&mut self, why: &'static str) {
        self.release = true;
        self.begin(why);
    }

    fn begin(&mut self, why: &'static str) {
        self.since.get_or_insert_with(|| (Instant::now(), why));
    }
}

impl Desk {
    /// Sealed deliveries of an earlier process roll forward, the others begin anew
    /// after their uploads are aborted. Of a run that had ended only uploads are
    /// left, and its end stands.
    pub async fn resume(&mut self) -> Result<(), LedgerError> {
        let quarantined = self.ledger.quarantined().await;
        self.quarantined(quarantined)?;
        self.resume_customers().await?;
        let released = self.ledger.release_held().await;
        self.released(released)?;
        let unfinished = self.ledger.unfinished().await?;
        self.tell_nobodys(&unfinished);
        for unfinished in unfinished {
            self.take_up(unfinished);
        }
        Ok(())
    }

    /// What is left of shares and customers who are not configured fails, and that may not be what
    /// whoever wrote the configuration meant.
    fn tell_nobodys(&self, all: &[Unfinished]) {
        let config = &self.generation.config;
        let (mut deliveries, mut shares, mut customers) = (0, BTreeSet::new(), BTreeSet::new());
        for Unfinished { slot, state, deliveries: open, .. } in all {
            if *state != RunState::Running {
                continue;
            }
            for OpenDelivery { customer, .. } in open {
                let has_share = config.shares.contains_key(&slot.share);
                let has_customer = config.customers.contains_key(customer);
                deliveries += usize::from(!has_share || !has_customer);
                shares.extend((!has_share).then_some(&slot.share));
                customers.extend((!has_customer).then_some(customer));
            }
        }
        if deliveries > 0 {
            let names = Named { shares: Names::of(shares.into_iter()), customers: Names::of(customers.into_iter()) };
            tracing::warn!(
                deliveries, %names,
                "what was left of shares or customers who are not configured fails; once they are configured again, \
                 `consign retry` makes up for it"
            );
        }
    }

    pub fn take_up(&mut self, unfinished: Unfinished) {
        let Unfinished { run, slot, origin, deadline, state, deliveries, .. } = unfinished;
        let (share, at, count) = (&slot.share, exact(slot.at), deliveries.len());
        let latest = self.clock.now() + self.longest_wait(share);
        let is_running = state == RunState::Running;
        match is_running {
            true => {
                tracing::warn!(%run, %share, slot = %at, deliveries = count, "resuming what an earlier process left")
            }
            false => {
                tracing::info!(%run, %share, slot = %at, deliveries = count, "aborting uploads that an ended run left");
            }
        }
        match (is_running, count) {
            (true, 0) => self.finish(run, share.clone()),
            (true, count) => drop(self.open.insert(run, count)),
            (false, _) => {}
        }
        // Uploads that an ended run left are no reason for a slot to wait.
        let late = origin.is_late() || !is_running;
        for open in deliveries {
            let OpenDelivery { id, due, .. } = open;
            let (slot, customer, due) = (slot.clone(), open.customer.clone(), due.filter(|_| open.cancel.is_none()));
            let delivery = Delivery { id, run, slot, customer, origin, late, deadline };
            let job = Job { delivery, task: Task::Resume(Box::new(open)) };
            match due {
                Some(due) => self.retries.push(due.min(latest), job),
                None => self.enqueue(job),
            }
        }
    }

    /// For how long a delivery of this share waits for its next try, at most. What is to wait for longer
    /// was told so by a clock that was ahead.
    fn longest_wait(&self, share: &ShareName) -> Duration {
        let shares = &self.generation.config.shares;
        shares.get(share).map_or(breaker::LONGEST, |share| share.retry.max_backoff.max(breaker::LONGEST))
    }

    /// What an earlier process held begins again, once there is room to write that down.
    pub fn released(&mut self, released: Result<(), LedgerError>) -> Result<(), LedgerError> {
        self.intake.look_for_pending();
        match released {
            Err(error) if let Some(why) = error.passes() => {
                self.unrecorded.release(why);
                Ok(())
            }
            Ok(()) => {
                crash::point(Point::Released);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The ledger could not take how a try has ended. Where that passes it is for later; otherwise the delivery
    /// is to fail, and where not even that can be recorded this returns why.
    pub fn not_recorded(
        &mut self,
        delivery: Delivery,
        stopper: &Stopper,
        error: LedgerError,
    ) -> Result<Option<Failure>, LedgerError> {
        if error.is_fatal() {
            return Err(error);
        }
        let (why, failure) = (error.passes(), error.to_failure());
        let again = Job { delivery, task: Task::Again { begun: true } };
        match why {
            Some(why) => self.unrecorded.job(again, why),
            None if stopper.is_told() => return Ok(Some(failure)),
            // Once: open for ever, it would keep later slots from the customer.
            None => {
                let stopper = Stopper::default();
                stopper.stop(failure);
                self.begin(again, None, stopper);
            }
        }
        Ok(None)
    }

    /// Has what is delivered recorded: that needs no place, for nobody is asked but the ledger. Also before the process
    /// ends, because the next one would put it into the bucket again.
    pub fn write_down(&mut self) {
        let delivered = self.unrecorded.deliveries.extract_if(.., |_, job| matches!(job.task, Task::WriteDown(_)));
        let delivered: Vec<Job> = delivered.map(|(_, job)| job).collect();
        for job in delivered {
            self.begin(job, None, Stopper::default());
        }
    }

    /// Goes on with what the ledger had no room for, as a restart would; but what is delivered is only written down.
    pub fn take_up_unrecorded(&mut self) {
        if self.unrecorded.since.is_none_or(|(since, _)| since.elapsed() < AGAIN_AFTER) {
            return;
        }
        self.write_down();
        let Unrecorded { deliveries, runs, release, .. } = std::mem::take(&mut self.unrecorded);
        if release {
            let ledger = self.ledger.clone();
            self.calls.ask(async move { Answer::Released(ledger.release_held().await) });
        }
        for job in deliveries.into_values() {
            // What is stored may only be left to complete: it goes on whatever the time.
            self.enqueue(job);
        }
        for (run, share) in runs {
            self.finish(run, share);
        }
    }
}
