//! One delivery with its steps written down, so that a later process can go on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::journal::Journal;
use super::retry::{self, Retrying};
use super::sealed::Stored;
use super::{Delivered, Gauge, Parts, Stop, Turn, Work, deliver, quarantine};
use crate::clock::{Instant, exact};
use crate::config::{Config, Missed, Preflight, RetryPolicy};
use crate::crash::{self, Point};
use crate::delivery::Target;
use crate::domain::{Asked, CustomerName, Failure, Layer, Leaves, Manifest, Retry, RunId, Slot};
use crate::ledger::{
    self, AttemptId, AttemptState, Begun, DeliveryId, Ledger, LedgerError, OpenAttempt, OpenDelivery, Setback,
};

/// How a try at a delivery ended.
pub enum Outcome {
    Committed(Box<Manifest>),
    /// To be tried again.
    Waits {
        failure: Failure,
        due: Instant,
        /// Every byte is stored, so that only its completion is tried again.
        sealed: bool,
    },
    Failed(Failure),
    /// Its customer is not ready, for this reason; it waits until that is over.
    Held {
        failure: Failure,
        /// Every byte is stored.
        sealed: bool,
    },
    /// Nothing of its plugin is started, which is in quarantine; the delivery is as it was.
    Quarantined(Failure),
    /// Another slot of the share goes first, or its own time has not come; the delivery is as it was.
    NotYet(Failure),
    /// The process is stopping, and the next one begins it again.
    Interrupted(Failure),
    /// It is delivered, and the ledger could not take that; it may later. Not of a person's one try.
    Unrecorded {
        finished: Box<Finished>,
        error: LedgerError,
        why: &'static str,
    },
}

/// A delivery that is in the bucket, manifest and all, which is all that the ledger is to be told.
#[derive(Clone, Debug)]
pub struct Finished {
    pub attempt: AttemptId,
    pub committed: ledger::Committed,
    pub manifest: Manifest,
}

/// Carries out one delivery of a run, each step of it written down. Errors only
/// when the ledger itself cannot be written.
pub struct Recorder<'a> {
    pub parts: &'a Parts,
    pub ledger: &'a Ledger,
    pub config: &'a Arc<Config>,
    pub run: RunId,
    pub slot: &'a Slot,
    pub customer: &'a CustomerName,
    pub retrying: Retrying,
    pub stop: Stop,
    pub gauge: Gauge,
}

/// An attempt at work, and how often its delivery has failed.
#[derive(Clone, Copy)]
pub(super) struct Try {
    pub(super) delivery: DeliveryId,
    pub(super) attempt: AttemptId,
    /// Of the attempt, from 1.
    number: u32,
    tries: u32,
}

impl Try {
    /// Until the next one of a delivery that is spared. What is not stored whole may have read and stored much
    /// before it came to its end, unless that was at STS.
    fn wait(&self, work: &Work, sealed: bool, failure: &Failure) -> Duration {
        let is_cheap = sealed || failure.asked == Some(Asked::Sts);
        let tries = if is_cheap { self.tries } else { self.number.saturating_sub(1) };
        retry::wait(&work.share.retry, tries, self.delivery.seed())
    }
}

impl Recorder<'_> {
    /// The next attempt at a delivery.
    pub async fn deliver(&self, delivery: DeliveryId) -> Result<Outcome, LedgerError> {
        if let Some(why) = self.too_early() {
            return self.not_yet(delivery, why).await;
        }
        match self.work() {
            Ok(work) => self.attempt(&work, delivery).await,
            Err(failure) => self.refuse(delivery, failure).await,
        }
    }

    /// What there is to do, unless it is too late for it.
    fn work(&self) -> Result<Work, Failure> {
        match self.stop.reason(self.slot, self.parts.clock.now()) {
            Some(why) => Err(why),
            None => Work::new(self.config, self.slot, self.customer, self.run),
        }
    }

    fn too_early(&self) -> Option<Failure> {
        self.slot.is_early(self.parts.clock.now()).then(|| yet_to_come(self.slot))
    }

    async fn not_yet(&self, delivery: DeliveryId, why: Failure) -> Result<Outcome, LedgerError> {
        match self.retrying {
            Retrying::Daemon | Retrying::Schedule => Ok(Outcome::NotYet(why)),
            // Nobody would try it later.
            Retrying::Person => self.refuse(delivery, why).await,
        }
    }

    /// Takes up what an earlier try or process left of a delivery. A sealed one
    /// rolls forward without reading its source again, if its profile still leads
    /// to where it was stored, or if its manifest may be there. Any other begins anew,
    /// once its uploads are ended. None when only uploads were left of a delivery that had ended.
    pub async fn resume(&self, open: OpenDelivery) -> Result<Option<Outcome>, LedgerError> {
        let OpenDelivery { id, state, tries, attempt, uploads, cancel, .. } = open;
        let configured = Work::new(self.config, self.slot, self.customer, self.run);
        if let Some(attempt) = &attempt
            && let Some(stored) = Stored::of(attempt, &uploads)
        {
            let at_work = Try { delivery: id, attempt: attempt.id, number: attempt.number, tries };
            let outcome = self.go_on(at_work, stored, configured.as_ref().ok()).await?;
            if outcome.is_some() {
                return Ok(outcome);
            }
        }
        if state.has_ended() {
            self.end_uploads_until_told(uploads).await?;
            return Ok(None);
        }
        let work = match cancel {
            Some(why) => Err(why),
            None => self.work(),
        };
        // What begins anew leaves nothing behind. What is too late has failed first: nobody waits for that.
        let work = match work {
            Ok(work) => self.end_uploads_until_told(uploads).await?.map_or(Ok(work), Err),
            too_late => too_late,
        };
        let work = match work {
            Ok(work) => work,
            Err(failure) => {
                let outcome = match &attempt {
                    Some(attempt) => {
                        let at_work = Try { delivery: id, attempt: attempt.id, number: attempt.number, tries };
                        self.record(at_work, None, false, Err(failure)).await?
                    }
                    None => self.refuse(id, failure).await?,
                };
                if matches!(outcome, Outcome::Failed(_)) {
                    self.end_left(id).await?;
                }
                return Ok(Some(outcome));
            }
        };
        if let Some(attempt) = attempt {
            self.end_strays(&work, &attempt).await;
            self.ledger.interrupted(attempt.id).await?;
            crash::point(Point::Interrupted);
        }
        match self.too_early() {
            Some(why) => self.not_yet(id, why).await.map(Some),
            None => self.attempt(&work, id).await.map(Some),
        }
    }

    async fn attempt(&self, work: &Work, delivery: DeliveryId) -> Result<Outcome, LedgerError> {
        // Without a destination the delivery fails before it asks for an upload.
        let formatter = self.parts.formatter(&work.config, &work.share);
        let order = work.order();
        let destination = work.destination().ok();
        let begun = if self.holds(work) {
            self.look_first(work).await?;
            self.ledger.attempt_when_ready(formatter, order, delivery, destination).await
        } else {
            self.ledger.attempt_by(formatter, order, delivery, destination).await.map(Begun::Attempt)
        };
        let attempt = match begun {
            Ok(Begun::Attempt(attempt)) => attempt,
            Ok(Begun::Held(unready)) => {
                crash::point(Point::HeldBack);
                return Ok(Outcome::Held { failure: unready.failure, sealed: false });
            }
            Err(LedgerError::KeyTaken { key, by }) => {
                return self.refuse(delivery, work.key_taken(&key, &by)).await;
            }
            Err(LedgerError::Overtaken { by }) => return self.refuse(delivery, work.overtaken(&by)).await,
            Err(LedgerError::NotYet { behind }) => {
                return self.not_yet(delivery, work.not_yet(&behind)).await;
            }
            Err(LedgerError::Quarantined { digest }) => {
                let why = quarantine::waits(work.share.plugin.as_ref(), &digest);
                return match self.retrying {
                    Retrying::Daemon | Retrying::Schedule => Ok(Outcome::Quarantined(why)),
                    // Nobody would try it later.
                    Retrying::Person => self.refuse(delivery, why).await,
                };
            }
            Err(error) => return Err(error),
        };
        crash::point(Point::Started);
        say_attempt(attempt.number);
        let (journal, turn) =
            (self.journal(attempt.id, false), Turn { attempt: attempt.number, is_first: attempt.is_first });
        let target = match attempt.cancel {
            // Marked before there was anybody to be told.
            Some(why) => Err(why),
            None => Target::bucket(&self.parts.vendor, &work.customer, work.run),
        };
        let delivered = match target {
            Ok(target) => deliver(self.parts, work, turn, target, journal.clone(), (&self.stop, &self.gauge)).await,
            Err(failure) => Err(failure),
        };
        let at_work = Try { delivery, attempt: attempt.id, number: attempt.number, tries: attempt.tries };
        self.record(at_work, Some(work), journal.sealed.load(Ordering::Relaxed), delivered).await
    }

    /// Whether it waits for its customer to be ready. What nobody makes up for need not.
    pub(super) fn holds(&self, work: &Work) -> bool {
        matches!(self.retrying, Retrying::Schedule) && work.share.catch_up.missed != Missed::None
    }

    /// Before anything is delivered to a customer for the first time.
    async fn look_first(&self, work: &Work) -> Result<(), LedgerError> {
        if work.config.daemon.preflight == Preflight::Never {
            return Ok(());
        }
        let readiness = &self.parts.readiness;
        tokio::select! {
            looked = readiness.look_first(self.ledger, &self.parts.vendor, &work.customer) => looked,
            _ = self.stop.told() => Ok(()),
        }
    }

    /// Records that the delivery's task died of a fault. It is tried again as the
    /// share says: the fault may be one of this try only.
    pub async fn died(&self, delivery: DeliveryId) -> Result<Outcome, LedgerError> {
        let message = "the delivery's task died, which is a fault in consign";
        let remedy = "report it, with the lines of the log before this one";
        let failure = Failure::new(Layer::Local, Retry::Later, message, remedy);
        let OpenDelivery { tries, attempt, uploads, .. } = self.ledger.open_delivery(delivery).await?;
        let Some(attempt) = attempt else { return self.refuse(delivery, failure).await };
        let sealed = attempt.state == AttemptState::Sealed;
        let stored = Stored::of(&attempt, &uploads);
        let failure = match stored.is_some_and(|stored| stored.left.may_be_manifested()) {
            true => failure.in_doubt(),
            false => failure,
        };
        if !sealed {
            self.end_uploads(uploads).await?;
        }
        let work = Work::new(self.config, self.slot, self.customer, self.run).ok();
        let at_work = Try { delivery, attempt: attempt.id, number: attempt.number, tries };
        self.record(at_work, work.as_ref(), sealed, Err(failure)).await
    }

    /// Records a delivery that could not even begin.
    async fn refuse(&self, delivery: DeliveryId, failure: Failure) -> Result<Outcome, LedgerError> {
        if self.stop.is_interrupted() {
            return Ok(Outcome::Interrupted(failure));
        }
        let attempt = self.ledger.attempt_started(delivery, None).await?;
        let at_work = Try { delivery, attempt: attempt.id, number: attempt.number, tries: attempt.tries };
        self.record(at_work, None, false, Err(failure)).await
    }

    pub(super) async fn record(
        &self,
        at_work: Try,
        work: Option<&Work>,
        sealed: bool,
        delivered: Result<Delivered, Failure>,
    ) -> Result<Outcome, LedgerError> {
        let now = self.parts.clock.now();
        let again = |failure: &Failure, sealed| {
            let (tries, seed) = (at_work.tries, at_work.delivery.seed());
            let policy = match work {
                Some(work) => work.share.retry,
                // It has not failed before that is known, though its share or customer is gone.
                None if failure.leaves == Leaves::InDoubt => RetryPolicy::default(),
                None => return None,
            };
            retry::again(self.retrying, &policy, failure, (sealed, tries), (now, seed))
        };
        let delivered = delivered.and_then(|delivered| match &delivered.committed.lacking {
            Some(lacking) if again(lacking, sealed).is_some() => Err(lacking.clone()),
            _ => Ok(delivered),
        });
        let mut failure = match delivered {
            Ok(Delivered { manifest, committed }) => {
                return self.commit(at_work, manifest, committed.manifest_key.to_string(), committed.left).await;
            }
            // The next start begins it again, as after a crash.
            Err(_) if self.stop.is_forsaken() => return std::future::pending().await,
            Err(why) if self.stop.is_interrupted() && !sealed => {
                self.ledger.interrupted(at_work.attempt).await?;
                crash::point(Point::Interrupted);
                return Ok(Outcome::Interrupted(why));
            }
            Err(failure) => failure,
        };
        // Of what is torn nothing is left to complete: it begins anew.
        let (was_sealed, sealed) = (sealed, sealed && failure.leaves != Leaves::Torn);
        // What is sealed waits until it is told that it has waited in vain.
        let told = self.stop.in_vain().filter(|_| sealed && failure.is_of_setup());
        if let Some(why) = &told {
            failure.message = format!("{}; {}", failure.message, why.message);
        }
        if let Some(work) = work.filter(|work| told.is_none() && failure.is_of_setup() && self.holds(work)) {
            return self.set_back(at_work, work, sealed, failure).await;
        }
        let spared = work.filter(|work| self.spares(work, &failure, now));
        let due = match spared {
            Some(work) => Some(now + at_work.wait(work, sealed, &failure)),
            None => again(&failure, sealed),
        };
        // What is sealed is only completed, however late.
        let late = due.filter(|_| !sealed).and_then(|due| self.stop.too_late(due));
        if let Some(deadline) = late {
            let too_late = format!("; not tried again, because the deadline {} would be past", exact(deadline));
            failure.message.push_str(&too_late);
        }
        let due = due.filter(|_| late.is_none());
        // A sealed delivery makes no new attempts, so `tries` is its only counter for the back-off and is raised even where
        // the try is spared.
        let is_uncounted = spared.is_some() && (!sealed || failure.asked == Some(Asked::Sts));
        if let Some(due) = due.filter(|_| is_uncounted) {
            self.ledger.unanswered(at_work.attempt, failure.clone(), due).await?;
            crash::point(Point::Waiting);
            return Ok(Outcome::Waits { failure: self.with_way_out(failure), due, sealed });
        }
        let formatter = work.and_then(|work| self.parts.formatter(&work.config, &work.share));
        if self.ledger.failed_by(formatter, at_work.attempt, failure.clone(), due).await? {
            crash::point(Point::Quarantined);
        }
        crash::point(if due.is_some() { Point::Waiting } else { Point::Failed });
        let Some(due) = due else { return self.fails(at_work, was_sealed, failure).await };
        if was_sealed && !sealed {
            self.end_left(at_work.delivery).await?;
        }
        Ok(Outcome::Waits { failure: self.with_way_out(failure), due, sealed })
    }

    /// It is delivered. Uploads that are `left` are still to be aborted.
    pub(super) async fn commit(
        &self,
        at_work: Try,
        manifest: Manifest,
        manifest_key: String,
        left: Vec<String>,
    ) -> Result<Outcome, LedgerError> {
        let bytes = manifest.objects.iter().map(|object| object.bytes).sum();
        let (rows, objects) = (manifest.rows, manifest.objects.clone());
        let committed = ledger::Committed { manifest_key, rows, bytes, objects, left };
        self.write_down(Box::new(Finished { attempt: at_work.attempt, committed, manifest })).await
    }

    /// Asks for nothing but the ledger: the customer may have taken the manifest away by now, and by a completion
    /// it would be there once more.
    pub async fn write_down(&self, finished: Box<Finished>) -> Result<Outcome, LedgerError> {
        match self.ledger.committed(finished.attempt, finished.committed.clone()).await {
            Ok(()) => {
                crash::point(Point::Committed);
                Ok(Outcome::Committed(Box::new(finished.manifest)))
            }
            // Nobody would write it down later.
            Err(error) if matches!(self.retrying, Retrying::Person) => Err(error),
            Err(error) if let Some(why) = error.passes() => Ok(Outcome::Unrecorded { finished, error, why }),
            Err(error) => Err(error),
        }
    }

    /// It has failed; what was stored of it is of no more use.
    async fn fails(&self, at_work: Try, sealed: bool, failure: Failure) -> Result<Outcome, LedgerError> {
        if sealed {
            self.end_left(at_work.delivery).await?;
        }
        Ok(Outcome::Failed(failure))
    }

    /// Nothing that is the matter with this delivery: if it is on schedule, it costs none of its tries, for as long
    /// as the share makes up for what is missed.
    fn spares(&self, work: &Work, failure: &Failure, now: Instant) -> bool {
        let share = &work.share;
        // What is late has as long from when it began.
        let is_young = || self.run.began().is_some_and(|began| now < began + share.catch_up.window);
        failure.is_elsewhere() && self.holds(work) && (is_young() || share.makes_up_for(self.slot.at, now))
    }

    /// The customer's set-up refuses: it waits until that is right. If it is, and only this
    /// delivery is refused, it is tried again as if that might pass.
    async fn set_back(
        &self,
        at_work: Try,
        work: &Work,
        sealed: bool,
        mut failure: Failure,
    ) -> Result<Outcome, LedgerError> {
        let (now, passing) = (self.parts.clock.now(), Failure { retry: Retry::Later, ..failure.clone() });
        let tried = (at_work.tries, at_work.delivery.seed());
        let due = retry::again(self.retrying, &work.share.retry, &passing, (sealed, tried.0), (now, tried.1));
        let due = due.filter(|due| sealed || self.stop.too_late(*due).is_none());
        match self.ledger.refused(at_work.attempt, work.customer.hash(), failure.clone(), due).await? {
            Setback::Held => {
                crash::point(Point::HeldBack);
                Ok(Outcome::Held { failure: self.with_way_out(failure), sealed })
            }
            Setback::Again => {
                crash::point(Point::Waiting);
                failure.retry = Retry::Later;
                Ok(Outcome::Waits { failure: self.with_way_out(failure), due: due.unwrap_or(now), sealed })
            }
            Setback::Failed => {
                crash::point(Point::Failed);
                self.fails(at_work, sealed, failure).await
            }
        }
    }

    pub(super) fn journal(&self, attempt: AttemptId, sealed: bool) -> Arc<Journal> {
        Arc::new(Journal { ledger: self.ledger.clone(), attempt, sealed: sealed.into() })
    }

    /// A process that died may not have written down every upload that it had created.
    async fn end_strays(&self, work: &Work, attempt: &OpenAttempt) {
        let to = attempt.destination.as_ref().filter(|to| work.leads_to(to, &to.manifest_key));
        let Some(to) = to else { return };
        if let Ok(target) = Target::bucket(&self.parts.vendor, &work.customer, work.run) {
            let pointer = work.pointer();
            target.end_strays(&to.manifest_key, pointer.as_ref(), self.journal(attempt.id, false).as_ref()).await;
        }
    }
}

/// Why nothing of a slot is begun that is ahead of the clock.
pub fn yet_to_come(slot: &Slot) -> Failure {
    let message = format!("slot {slot} is yet to come: the clock was ahead when it was planned");
    let remedy = "nothing: it is delivered when its time has come, and its data are complete";
    Failure::new(Layer::Schedule, Retry::Later, message, remedy)
}

/// From here on, what the daemon logs of this delivery names the attempt.
pub(super) fn say_attempt(number: u32) {
    tracing::Span::current().record("attempt", number);
}
