//! What is being worked on, and what becomes of it. Nothing here waits: each step
//! takes what has happened and begins what may begin.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::admin::ask::Event;
use super::breaker::Breakers;
use super::calls::{Answer, Calls};
use super::generation::Generation;
use super::intake::Intake;
use super::job::{Delivery, Job, Progress, Task, carry_out};
use super::leftover::Leftover;
use super::nodes::Others;
use super::notify::Status;
use super::orders::Callers;
use super::quarantine::Quarantined;
use super::queue::{Limits, Place, Queue};
use super::recovery::Unrecorded;
use super::retries::Retries;
use super::unready::Waiting;
use crate::clock::{Clock, Instant, exact};
use crate::config::Config;
use crate::crash::{self, Point};
use crate::domain::{Failure, Layer, Retry, RunId, ShareName};
use crate::ledger::{DeliveryId, DeliveryState, Ledger, LedgerError, OpenDelivery, RunState};
use crate::run::{Fared, Fate, Gauge, Parts, Stopper, passed};
use crate::schedule::Planner;

/// The daemon at work.
pub(super) struct Desk {
    pub(super) generation: Arc<Generation>,
    pub(super) ledger: Ledger,
    pub(super) clock: Clock,
    pub(super) intake: Intake,
    /// What waits for a place.
    pub(super) queue: Queue<Job>,
    /// What waits for its next try.
    pub(super) retries: Retries,
    /// Who does not answer.
    pub(super) breakers: Breakers,
    /// What waits for its plugin to be let go.
    pub(super) quarantine: Quarantined,
    /// What waits for its customer to be ready.
    pub(super) waiting: Waiting,
    /// What is being settled by hand.
    pub(super) settling: BTreeMap<DeliveryId, Job>,
    pub(super) work: JoinSet<Result<Progress, LedgerError>>,
    pub(super) at_work: HashMap<Id, AtWork>,
    /// What the ledger was asked.
    pub(super) calls: Calls,
    /// Deliveries still open, by run that has not ended.
    pub(super) open: HashMap<RunId, usize>,
    pub(super) unrecorded: Unrecorded,
    pub(super) others: Others,
    pub(super) leftover: Leftover,
    /// Slots that are due and still in the ledger alone, when it was last asked.
    pub(super) behind: Arc<AtomicU64>,
    pub(super) tally: Tally,
    pub(super) callers: Callers,
    /// How long what has ended is remembered.
    pub(super) retention: watch::Sender<Duration>,
    /// When the last second had gone by.
    pub(super) ticked: Instant,
}

/// By how much the clock goes back before what waits no longer goes by it.
const PUT_BACK: TimeDelta = TimeDelta::minutes(1);

/// A delivery whose task runs.
pub(super) struct AtWork {
    pub delivery: Delivery,
    pub stopper: Stopper,
    pub gauge: Gauge,
    /// Of the generation that it began with.
    pub generation: u64,
    /// None of one whose end is only recorded.
    pub place: Option<Place>,
    /// It only writes down that its task has died.
    is_of_dead: bool,
    began: Instant,
    /// Names it in the log.
    span: Span,
}

/// Since the start.
#[derive(Default)]
pub(super) struct Tally {
    pub delivered: u64,
    pub failed: u64,
    /// Slots that nobody got, or not everybody.
    pub left_out: u64,
}

impl Desk {
    pub async fn open(config: Arc<Config>, parts: Arc<Parts>, ledger: Ledger) -> Result<Self, LedgerError> {
        let clock = parts.clock.clone();
        let intake = Intake::open(&ledger, &config, clock.now()).await?;
        let queue = Queue::new(Limits::of(&config));
        let (retention, _) = watch::channel(config.ledger.retention);
        let generation = Arc::new(Generation { number: 1, config, parts });
        let ticked = clock.now();
        let callers = Callers::new(generation.clone(), ticked);
        Ok(Self {
            generation,
            ledger,
            clock,
            intake,
            queue,
            retries: Retries::default(),
            breakers: Breakers::default(),
            quarantine: Quarantined::default(),
            waiting: Waiting::default(),
            settling: BTreeMap::new(),
            work: JoinSet::new(),
            at_work: HashMap::new(),
            calls: Calls::default(),
            open: HashMap::new(),
            unrecorded: Unrecorded::default(),
            others: Others::default(),
            leftover: Leftover::default(),
            behind: Arc::default(),
            tally: Tally::default(),
            callers,
            retention,
            ticked,
        })
    }

    /// Goes over to another configuration, which is then the next generation. What
    /// is at work ends under the one that it began with; all else goes on under this
    /// one. Slots of a share or customer that is gone fail and say so.
    pub fn adopt(&mut self, config: Arc<Config>, parts: Arc<Parts>, planner: Planner) -> u64 {
        let planner = self.intake.adopt(planner, self.clock.now());
        self.queue.renew(Limits::of(&config), |job| job.turn(&config));
        self.retention.send_replace(config.ledger.retention);
        let number = self.generation.number + 1;
        let shares = config.shares.len();
        let generation = std::mem::replace(&mut self.generation, Arc::new(Generation { number, config, parts }));
        let seen = self.callers.current.send_replace(self.generation.clone());
        crash::point(Point::Adopted);
        self.go_by_quarantine();
        self.look_at_all_customers();
        self.forget_customers();
        self.forget_unconfigured();
        // With many shares this takes a while too.
        drop(tokio::task::spawn_blocking(move || drop((planner, generation, seen))));
        tracing::info!(generation = number, shares, "the configuration is adopted");
        number
    }

    /// A second has gone by.
    pub fn tick(&mut self) {
        self.intake.look();
        self.look_at_clock();
        self.stop_what_is_late();
        self.keep_what_waits();
        self.end_what_waits_in_vain();
        self.look_for_leftover();
        self.look_at_work();
    }

    /// What waits until an instant was told it by a clock that was ahead, when that is put back: it is asked for
    /// at once, and then goes by the clock again.
    fn look_at_clock(&mut self) {
        let now = self.clock.now();
        self.intake.look_at_clock(now);
        if std::mem::replace(&mut self.ticked, now) - now < PUT_BACK {
            return;
        }
        tracing::warn!("the clock was put back: what waits for its next try is tried now");
        self.breakers.were_told_wrong(now);
        self.retries.were_told_wrong(now);
        self.look_at_all_customers();
    }

    /// Begins all that may begin.
    pub fn go_on(&mut self) {
        let now = self.clock.now();
        self.look_after_others();
        self.look_at_quarantine();
        self.look_at_customers();
        self.plan(now);
        // First: what is put off until now would be put off until now again.
        self.try_again(now);
        self.take_up_unrecorded();
        for job in self.retries.due(now) {
            self.enqueue(job);
        }
        while let Some(job) = self.queue.overdue(now) {
            self.end(job, None);
        }
        while let Some((job, place)) = self.queue.next() {
            self.begin(job, Some(place), Stopper::default());
        }
        self.claim();
    }

    /// The ledger answers, so that the daemon gets on.
    pub fn is_alive(&self) -> bool {
        !self.calls.is_stuck()
    }

    /// An answer of the ledger.
    pub fn hear(&mut self, answer: Answer) -> Result<(), LedgerError> {
        match answer {
            Answer::Planned(plan, planned) => self.planned(&plan, planned)?,
            Answer::Claimed(claims) => self.claimed(claims)?,
            Answer::Cancelled(delivery, Ok(open)) => self.cancelled(delivery, *open),
            // Its mark is found again.
            Answer::Cancelled(_, Err(error)) if error.is_fatal() => return Err(error),
            Answer::Cancelled(_, Err(error)) => {
                tracing::debug!(error = Failure::chain(&error), "a delivery that is to be ended could not be read");
            }
            Answer::Others(found) => self.others_left(found)?,
            Answer::Leftover(found) => self.leftover_found(found)?,
            Answer::RunEnded(run, share, ended) => self.run_ended(run, share, ended)?,
            Answer::Released(released) => self.released(released)?,
            Answer::Quarantined(all) => self.quarantined(all)?,
            Answer::Kept(kept) => self.kept(kept)?,
            Answer::PutOff(put_off) => self.were_put_off(put_off)?,
            Answer::Settled(settling, settled) => self.settled(*settling, settled)?,
            Answer::Unready(all) => self.unready(all)?,
            Answer::Forgot(forgot) => self.forgot(forgot)?,
        }
        Ok(())
    }

    /// Has what is at work ended whose deadline has passed.
    pub fn stop_what_is_late(&self) {
        let now = self.clock.now();
        for AtWork { delivery, stopper, .. } in self.at_work.values() {
            if let Some(deadline) = delivery.deadline.filter(|deadline| *deadline <= now) {
                stopper.stop(passed(&delivery.slot, deadline));
            }
        }
    }

    /// It is at work here, waits for a place, or for its next try.
    pub fn has(&self, delivery: DeliveryId) -> bool {
        let waits = self.queue.has(delivery) || self.retries.has(delivery) || self.quarantine.has(delivery);
        let waits = waits || self.waiting.has(delivery) || self.unrecorded.has(delivery);
        waits || self.settling.contains_key(&delivery) || self.is_at_work(delivery)
    }

    pub fn is_at_work(&self, delivery: DeliveryId) -> bool {
        self.at_work.values().any(|at_work| at_work.delivery.id == delivery)
    }

    /// Has it wait for a place, or for what it cannot begin without: its bucket, its plugin.
    pub fn enqueue(&mut self, job: Job) {
        match self.shut_until(&job) {
            Some((of, until)) => self.put_off(vec![job], &self.unasked(&of, until), until),
            None => self.enqueue_now(job),
        }
    }

    /// The same of one that somebody wants tried now.
    pub fn enqueue_now(&mut self, job: Job) {
        // What is in a bucket is looked at first: it may be whole, or has to be taken away.
        if self.quarantine.holds(&job.delivery.slot.share) && !job.has_begun() {
            return self.park(job);
        }
        let turn = job.turn(&self.generation.config);
        self.queue.push(job.delivery.id, turn, job.deadline(), job);
    }

    /// Its task finds why: that it has waited in vain, that it is too late, or what the ledger or the
    /// configuration has against it.
    pub fn end(&mut self, job: Job, why: Option<Failure>) {
        let stopper = Stopper::default();
        why.into_iter().for_each(|why| stopper.in_vain(why));
        self.begin(job, None, stopper);
    }

    pub fn begin(&mut self, job: Job, place: Option<Place>, stopper: Stopper) {
        let Job { delivery, task } = job;
        let (generation, ledger, this) = (self.generation.clone(), self.ledger.clone(), delivery.clone());
        let Delivery { run, slot, customer, .. } = &delivery;
        let (share, at) = (&slot.share, exact(slot.at));
        let span = tracing::info_span!("delivery", %run, %share, slot = %at, %customer, attempt = Empty);
        let (stop, gauge) = (stopper.listen(delivery.deadline), Gauge::default());
        let (seen, number, is_of_dead) = (gauge.clone(), generation.number, matches!(task, Task::Died));
        // Boxed, so that the whole can be sent between threads (rust-lang/rust#102211).
        let work = async move { carry_out(&generation, &ledger, &this, (stop, gauge), task).boxed().await };
        let id = self.work.spawn(work.instrument(span.clone())).id();
        let began = self.clock.now();
        let at_work = AtWork { delivery, stopper, gauge: seen, generation: number, place, is_of_dead, began, span };
        self.at_work.insert(id, at_work);
    }

    /// Has a delivery ended that the ledger has marked for it, at work or waiting. What
    /// is stored whole completes. What is only on its way here finds the mark when it begins.
    fn cancelled(&mut self, delivery: DeliveryId, open: OpenDelivery) {
        let begun = open.has_begun();
        let Some(why) = open.cancel.filter(|_| open.state != DeliveryState::Sealed) else { return };
        if let Some(at_work) = self.at_work.values().find(|at_work| at_work.delivery.id == delivery) {
            at_work.stopper.stop(why);
            return;
        }
        let Some(Job { delivery, .. }) = self.take_out(delivery) else { return };
        // It may have come further since it was read.
        let job = Job { delivery, task: Task::Again { begun } };
        match job.has_begun() {
            true => self.enqueue(job),
            false => self.end(job, None),
        }
    }

    /// One delivery has ended, whichever way; the last of a run ends the run.
    pub fn ended(&mut self, ended: Result<(Id, Result<Progress, LedgerError>), JoinError>) -> Result<(), LedgerError> {
        self.intake.look_for_pending();
        let (id, result) = match ended {
            Ok((id, result)) => (id, Ok(result)),
            Err(died) => (died.id(), Err(died)),
        };
        let Some(at_work) = self.at_work.remove(&id) else { return Ok(()) };
        let AtWork { delivery, place, stopper, span, began, is_of_dead, .. } = at_work;
        self.give_back(place, result.as_ref().ok().and_then(|ended| ended.as_ref().ok()), began);
        let Delivery { id, run, slot, customer, .. } = delivery.clone();
        self.go_on_behind(id);
        let failed = |failure| Event::Ended(Box::new(Fared::failed(customer.clone(), Fate::Failed, failure)));
        match result {
            Ok(Ok(Progress::Quarantined)) => {
                self.wait_in_quarantine(Job { delivery, task: Task::Again { begun: false } });
                return Ok(());
            }
            Ok(Ok(Progress::NotYet)) => {
                self.wait_for_turn(delivery, &stopper);
                return Ok(());
            }
            Ok(Ok(Progress::Held { failure, sealed })) => {
                let job = Job { delivery, task: Task::Again { begun: sealed } };
                self.wait_for_customer(job, failure, stopper.is_told());
                return Ok(());
            }
            Ok(Ok(Progress::Waits { due, sealed, failure })) => {
                self.look_at_fault(&failure);
                self.callers.tell(id, Some(Event::Waits { customer, due, failure }));
                self.retries.push(due, Job { delivery, task: Task::Again { begun: sealed } });
                self.look_whether_told(id, &stopper);
                return Ok(());
            }
            Ok(Ok(Progress::Delivered(fared))) => {
                self.tally.delivered += 1;
                self.callers.tell(id, fared.map(Event::Ended));
            }
            Ok(Ok(Progress::Failed(failure))) => {
                self.tally.failed += 1;
                self.look_at_fault(&failure);
                self.callers.tell(id, Some(failed(failure)));
            }
            Ok(Ok(Progress::Tidied)) => self.callers.tell(id, None),
            Ok(Ok(Progress::Unrecorded { finished, why })) => {
                self.unrecorded.job(Job { delivery, task: Task::WriteDown(finished) }, why);
                return Ok(());
            }
            // Its run goes on with the next start.
            Ok(Ok(Progress::Interrupted)) => {
                self.callers.tell(id, None);
                return Ok(());
            }
            Ok(Err(error)) => {
                span.in_scope(|| tracing::error!(error = Failure::chain(&error), "the delivery could not be recorded"));
                let Some(failure) = self.not_recorded(delivery, &stopper, error)? else { return Ok(()) };
                self.tally.failed += 1;
                self.callers.tell(id, Some(failed(failure)));
            }
            Err(died) if !is_of_dead => return self.write_down_death(delivery, stopper, &span, &died),
            Err(died) => {
                // Its state stays `working` in the ledger, and the next start begins it anew.
                span.in_scope(|| tracing::error!(error = %died, "the task died; this is a fault in consign"));
                self.tally.failed += 1;
                self.callers.tell(id, Some(failed(task_died())));
            }
        }
        self.one_less(run, slot.share);
        Ok(())
    }

    /// The fault that a task died of may be one of this try only. What it was told stands.
    fn write_down_death(
        &mut self,
        delivery: Delivery,
        stopper: Stopper,
        span: &Span,
        died: &JoinError,
    ) -> Result<(), LedgerError> {
        span.in_scope(|| tracing::error!(error = %died, "the task died; this is a fault in consign"));
        self.begin(Job { delivery, task: Task::Died }, None, stopper);
        Ok(())
    }

    /// Gives the place of a delivery back, whose end says something of STS and its bucket.
    fn give_back(&mut self, place: Option<Place>, ended: Option<&Progress>, began: Instant) {
        if let Some(place) = place {
            self.look_at_answers(&place, ended, began);
            self.queue.done(place);
        }
    }

    /// It came to its end before it heard that it is to end, which is then not to wait for the next try.
    pub fn look_whether_told(&mut self, id: DeliveryId, stopper: &Stopper) {
        if stopper.is_told() {
            self.look_at_cancelled(id);
        }
    }

    /// A delivery of a run has ended, and with the last one the run.
    fn one_less(&mut self, run: RunId, share: ShareName) {
        if let Some(open) = self.open.get_mut(&run) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&run);
                self.finish(run, share);
            }
        }
    }

    /// All deliveries of a run have ended.
    pub fn finish(&mut self, run: RunId, share: ShareName) {
        let ledger = self.ledger.clone();
        self.calls.ask(async move { Answer::RunEnded(run, share, ledger.run_finished(run).await) });
    }

    fn run_ended(
        &mut self,
        run: RunId,
        share: ShareName,
        ended: Result<RunState, LedgerError>,
    ) -> Result<(), LedgerError> {
        match ended {
            Ok(state) => {
                crash::point(Point::RunFinished);
                tracing::info!(%run, %share, %state, "run ended");
            }
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                let error_chain = Failure::chain(&error);
                tracing::error!(%run, %share, error = error_chain, "the end of a run could not be recorded");
                if let Some(why) = error.passes() {
                    self.unrecorded.run(run, share, why);
                }
            }
        }
        Ok(())
    }

    /// Why the ledger cannot be written.
    pub fn unable(&self) -> Option<&'static str> {
        self.intake.unable().or(self.unrecorded.why())
    }

    pub fn status(&self) -> Status {
        Status {
            refused: self.callers.refused(),
            unable: self.unable(),
            shares: self.generation.config.shares.len(),
            next: self.intake.next_slot(),
            at_work: self.queue.at_work(),
            waiting: self.queue.waiting() + self.quarantine.len() + self.waiting.len(),
            behind: self.behind.load(Ordering::Relaxed),
            again: self.retries.len(),
            quarantined: self.quarantine.plugins().cloned().collect(),
            unready: self.waiting.customers_of(&self.generation.config).cloned().collect(),
            delivered: self.tally.delivered,
            failed: self.tally.failed,
            left_out: self.tally.left_out,
        }
    }
}

fn task_died() -> Failure {
    let (message, remedy) = ("the delivery's task died, a fault in consign", "restart it, and report this");
    Failure::new(Layer::Local, Retry::Later, message, remedy)
}
