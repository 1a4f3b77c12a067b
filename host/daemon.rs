//! The daemon: ticks, plans, claims, bounds what runs at once, drains.
//!
//! The ledger is the queue. What is in memory is only what is being worked on,
//! so that stopping at any instant loses nothing but the work of that instant.

mod job;
mod nodes;
mod notify;
mod retention;
mod unrecorded;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{AcquireError, Semaphore};
use tokio::task::{Id, JoinSet};
use tracing::Instrument;
use tracing::field::Empty;

use job::{Job, Progress, Task, carry_out};
use notify::{Manager, Status};
use unrecorded::Unrecorded;

use crate::clock::{Instant, exact};
use crate::config::{Config, Overlap};
use crate::domain::{Failure, RunId, ShareName, SkipReason, Slot};
use crate::ledger::{Claim, DeliveryId, Ledger, LedgerError, Planned, RunState, Unfinished};
use crate::run::{Parts, passed};
use crate::schedule::{Due, Planner, Recurring, ScheduleError, Ticker};

/// Without a tick for this long, the watchdog wakes the planner.
const TICK_PATIENCE: Duration = Duration::from_secs(5);

/// How long a full disk is left alone before what it had no room for is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Looks for something to begin, before what has happened meanwhile is looked at.
const CLAIMS_MAX: usize = 64;

/// How often a drain says that it is getting on.
const DRAIN_TICK: Duration = Duration::from_secs(1);

/// Why the daemon cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the clock cannot be started")]
    Clock(#[from] ScheduleError),
}

/// Delivers every share on its schedule until `stop` is ready, then lets running
/// deliveries finish within `daemon.drain_timeout`.
pub async fn run(
    config: Arc<Config>,
    parts: Arc<Parts>,
    ledger: Ledger,
    stop: impl Future<Output = ()>,
) -> Result<(), DaemonError> {
    let ended = until_stopped(config, parts, ledger, stop).await;
    if let Err(error) = &ended {
        notify::failed(&Failure::chain(error));
    }
    ended
}

async fn until_stopped(
    config: Arc<Config>,
    parts: Arc<Parts>,
    ledger: Ledger,
    stop: impl Future<Output = ()>,
) -> Result<(), DaemonError> {
    let ticker = Ticker::start(TICK_PATIENCE).await?;
    let mut planner = planner(&ledger, &config, &parts).await?;
    let room = Arc::new(Semaphore::new(config.daemon.concurrency));
    let late_room = Arc::new(Semaphore::new(late(config.daemon.concurrency)));
    let (open, tasks, waiting) = (HashMap::new(), HashMap::new(), BTreeMap::new());
    let (work, unrecorded, looked) = (JoinSet::new(), Unrecorded::default(), None);
    let (tally, mut manager) = (Tally::default(), Manager::of_process());
    let mut desk =
        Desk { config, parts, ledger, room, late_room, open, work, tasks, waiting, unrecorded, looked, tally };
    desk.resume().await?;
    tracing::info!(shares = desk.config.shares.len(), "consign is ready");
    let retention = retention::keep(desk.ledger.clone(), desk.parts.clock.clone(), desk.config.ledger.retention);
    let mut retention = std::pin::pin!(retention);
    let mut unable = None;
    manager.ready(&desk.status(planner.next(), unable));
    let mut stop = std::pin::pin!(stop);
    loop {
        // A disk without room, or a database that does not answer, stops new work and not the
        // daemon: the next tick tries again.
        match desk.go_on(&mut planner, &mut manager).await {
            Ok(()) if unable.is_some() => {
                tracing::info!("the ledger can be written again");
                unable = None;
            }
            Ok(()) => {}
            Err(error) => match error.passes() {
                None => return Err(error.into()),
                why if unable.is_some() => unable = why,
                why => {
                    tracing::error!(error = Failure::chain(&error), "cannot record slots");
                    unable = why;
                }
            },
        }
        manager.progress();
        if manager.wants_status() {
            manager.status(&desk.status(planner.next(), unable));
        }
        tokio::select! {
            () = &mut stop => break,
            () = &mut retention => {}
            () = ticker.wake() => {}
            Some(ended) = desk.work.join_next_with_id() => desk.ended(ended).await?,
        }
    }
    manager.stopping();
    ticker.stop().await;
    desk.drain(&mut manager).await
}

async fn planner(ledger: &Ledger, config: &Config, parts: &Parts) -> Result<Planner, LedgerError> {
    let cursors: HashMap<ShareName, _> = ledger.cursors().await?.into_iter().collect();
    let recurring = config.shares.iter().map(|(name, share)| {
        let (calendar, jitter, catch_up) = (share.calendar.clone(), share.jitter, share.catch_up);
        Recurring { share: name.clone(), calendar, jitter, catch_up, cursor: cursors.get(name).copied() }
    });
    Ok(Planner::new(recurring, parts.clock.now()))
}

/// Of `concurrency`, the deliveries that may be late ones: caught up, or filled
/// in. The rest is kept for what is on time.
fn late(concurrency: usize) -> usize {
    (concurrency / 2).max(1)
}

/// What is being worked on.
struct Desk {
    config: Arc<Config>,
    parts: Arc<Parts>,
    ledger: Ledger,
    /// Closed when nothing may begin any more.
    room: Arc<Semaphore>,
    /// Taken before `room` by what is late.
    late_room: Arc<Semaphore>,
    /// Deliveries still open, by run that has not ended.
    open: HashMap<RunId, usize>,
    work: JoinSet<Result<Progress, LedgerError>>,
    tasks: HashMap<Id, Job>,
    /// What is to be tried again, by when.
    waiting: BTreeMap<(Instant, DeliveryId), Job>,
    unrecorded: Unrecorded,
    /// When it was last looked for what others on the same ledger left.
    looked: Option<tokio::time::Instant>,
    tally: Tally,
}

/// Deliveries since the start.
#[derive(Default)]
struct Tally {
    delivered: u64,
    failed: u64,
}

impl Desk {
    async fn go_on(&mut self, planner: &mut Planner, manager: &mut Manager) -> Result<(), LedgerError> {
        self.stop_what_is_late();
        self.look_after_others().await?;
        self.plan(planner, manager).await?;
        self.take_up_unrecorded().await?;
        let now = self.parts.clock.now();
        while let Some(entry) = self.waiting.first_entry().filter(|entry| entry.key().0 <= now) {
            // It stays when that cannot be read now.
            let open = self.ledger.open_delivery(entry.key().1).await?;
            let job = entry.remove();
            self.spawn(job, Task::Resume(Box::new(open)));
        }
        Ok(())
    }

    /// Has what is at work ended whose deadline has passed.
    fn stop_what_is_late(&self) {
        let now = self.parts.clock.now();
        for job in self.tasks.values() {
            if let Some(deadline) = job.deadline.filter(|deadline| *deadline <= now) {
                job.stopper.stop(passed(&job.slot, deadline));
            }
        }
    }

    /// Records what is due and begins as much of it as there is room for.
    async fn plan(&mut self, planner: &mut Planner, manager: &mut Manager) -> Result<(), LedgerError> {
        loop {
            let plan = planner.due(self.parts.clock.now());
            if !plan.is_empty() {
                let planned = plan.due.iter().map(|due| self.planned(due));
                self.ledger.plan(planned.collect(), plan.cursors.clone()).await?;
                for due in &plan.due {
                    if let Some(reason) = due.skip {
                        skipped(&due.slot, reason);
                    }
                }
                planner.recorded(&plan);
                manager.progress();
            }
            if !plan.more {
                break;
            }
        }
        for _ in 0..CLAIMS_MAX {
            let concurrency = self.config.daemon.concurrency;
            let late_tasks = self.tasks.values().filter(|job| job.late).count();
            let on_time = usize::from(self.tasks.len() - late_tasks < concurrency);
            let late = usize::from(late_tasks < late(concurrency));
            if on_time + late == 0 {
                return Ok(());
            }
            let claims = self.ledger.claim(on_time, late).await?;
            if claims.looked_at == 0 {
                return Ok(());
            }
            for (slot, reason) in claims.skipped {
                skipped(&slot, reason);
            }
            for delivery in claims.cancelled {
                self.cancel(delivery).await?;
            }
            for claim in claims.runs {
                self.begin(claim).await?;
            }
            manager.progress();
        }
        Ok(())
    }

    fn planned(&self, due: &Due) -> Planned {
        let share = self.config.shares.get(&due.slot.share);
        Planned {
            slot: due.slot.clone(),
            customers: share.map(|share| share.to.clone()).unwrap_or_default(),
            origin: due.origin,
            overlap: share.map_or(Overlap::Allow, |share| share.overlap),
            deadline: share.and_then(|share| share.deadline).map(|deadline| due.slot.at + deadline),
            skip: due.skip,
        }
    }

    /// Has a delivery ended that the ledger has marked for it, at work or waiting.
    async fn cancel(&mut self, delivery: DeliveryId) -> Result<(), LedgerError> {
        let open = self.ledger.open_delivery(delivery).await?;
        let Some(why) = open.cancel.clone() else { return Ok(()) };
        if let Some(job) = self.tasks.values().find(|job| job.delivery == delivery) {
            job.stopper.stop(why);
            return Ok(());
        }
        let waiting = self.waiting.keys().find(|(_, waiting)| *waiting == delivery).copied();
        if let Some(job) = waiting.and_then(|key| self.waiting.remove(&key)) {
            self.spawn(job, Task::Resume(Box::new(open)));
        }
        Ok(())
    }

    async fn begin(&mut self, claim: Claim) -> Result<(), LedgerError> {
        let (run, share, slot) = (claim.run, &claim.slot.share, exact(claim.slot.at));
        tracing::info!(%run, %share, %slot, deliveries = claim.deliveries.len(), "run begins");
        if claim.deliveries.is_empty() {
            self.ledger.run_finished(claim.run).await?;
            return Ok(());
        }
        for (customer, delivery) in claim.deliveries {
            let (slot, late, deadline) = (claim.slot.clone(), claim.origin.is_late(), claim.deadline);
            let job = Job { run: claim.run, slot, customer, delivery, late, deadline, stopper: Arc::default() };
            self.spawn(job, Task::Deliver);
            *self.open.entry(claim.run).or_default() += 1;
        }
        Ok(())
    }

    /// What an earlier process left: sealed deliveries roll forward, the others
    /// begin anew after their uploads are aborted. Of a run that had ended only
    /// uploads are left, and its end stands.
    async fn resume(&mut self) -> Result<(), LedgerError> {
        self.release_held().await?;
        let left = self.ledger.unfinished().await?;
        self.take_up(left).await
    }

    async fn take_up(&mut self, left: Vec<Unfinished>) -> Result<(), LedgerError> {
        for unfinished in left {
            let (run, slot, running) = (unfinished.run, unfinished.slot, unfinished.state == RunState::Running);
            let (share, at, deliveries) = (&slot.share, exact(slot.at), unfinished.deliveries.len());
            match running {
                true => tracing::warn!(%run, %share, slot = %at, deliveries, "resuming what an earlier process left"),
                false => {
                    tracing::info!(%run, %share, slot = %at, deliveries, "aborting uploads that an ended run left")
                }
            }
            if unfinished.deliveries.is_empty() && running {
                self.finish(run).await?;
            }
            for delivery in unfinished.deliveries {
                // Uploads that an ended run left are no reason for a slot to wait.
                let late = unfinished.origin.is_late() || !running;
                let (customer, deadline) = (delivery.customer.clone(), unfinished.deadline);
                let (slot, stopper) = (slot.clone(), Arc::default());
                let job = Job { run, slot, customer, delivery: delivery.id, late, deadline, stopper };
                match delivery.due.filter(|_| delivery.cancel.is_none()) {
                    Some(due) => drop(self.waiting.insert((due, job.delivery), job)),
                    None => self.spawn(job, Task::Resume(Box::new(delivery))),
                }
                if running {
                    *self.open.entry(run).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    fn spawn(&mut self, job: Job, task: Task) {
        let (config, parts, ledger) = (self.config.clone(), self.parts.clone(), self.ledger.clone());
        let (room, late_room) = (self.room.clone(), self.late_room.clone());
        let Job { run, slot, customer, .. } = &job;
        let (share, at) = (&slot.share, exact(slot.at));
        let span = tracing::info_span!("delivery", %run, %share, slot = %at, %customer, attempt = Empty);
        let this = job.clone();
        let work = async move {
            let place = async {
                let late = if this.late { Some(late_room.acquire_owned().await?) } else { None };
                Ok::<_, AcquireError>((late, room.acquire_owned().await?))
            };
            let stop = this.stopper.listen(this.deadline);
            let is_begun = matches!(&task, Task::Resume(open) if open.attempt.is_some() || !open.uploads.is_empty());
            let _place = tokio::select! {
                place = place => match place {
                    Ok(place) => Some(place),
                    Err(_closed) => return Ok(Progress::NotBegun),
                },
                // Nothing of it is in a bucket: its end is to be recorded, which needs no place.
                _ = stop.told(), if !is_begun => None,
            };
            // Boxed, so that the whole can be sent between threads (rust-lang/rust#102211).
            carry_out(&config, &parts, &ledger, &this, stop, task).boxed().await
        };
        let id = self.work.spawn(work.instrument(span)).id();
        self.tasks.insert(id, job);
    }

    /// One delivery has ended, whichever way; the last of a run ends the run.
    async fn ended(
        &mut self,
        ended: Result<(Id, Result<Progress, LedgerError>), tokio::task::JoinError>,
    ) -> Result<(), LedgerError> {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => {
                // Its state stays `working` in the ledger, and the next start begins it anew.
                tracing::error!(error = %error, "a delivery's task died; this is a fault in consign");
                self.tasks.remove(&error.id());
                return Ok(());
            }
        };
        let Some(job) = self.tasks.remove(&id) else { return Ok(()) };
        let Job { run, customer, .. } = &job;
        let run = *run;
        match result {
            Ok(Progress::NotBegun) => return Ok(()),
            Ok(Progress::Waits(due)) => {
                self.waiting.insert((due, job.delivery), job);
                return Ok(());
            }
            Ok(Progress::Delivered) => self.tally.delivered += 1,
            Ok(Progress::Failed) => self.tally.failed += 1,
            Ok(Progress::Tidied) => {}
            Err(error) => {
                tracing::error!(%run, %customer, error = Failure::chain(&error), "a delivery could not be recorded");
                if error.is_fatal() {
                    return Err(error);
                }
                if let Some(why) = error.passes() {
                    self.unrecorded.deliveries.insert(job.delivery, job);
                    self.unrecorded.begin(why);
                }
                return Ok(());
            }
        }
        if let Some(open) = self.open.get_mut(&run) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&run);
                self.finish(run).await?;
            }
        }
        Ok(())
    }

    async fn finish(&mut self, run: RunId) -> Result<(), LedgerError> {
        match self.ledger.run_finished(run).await {
            Ok(state) => tracing::info!(%run, ?state, "run ended"),
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                tracing::error!(%run, error = Failure::chain(&error), "the end of a run could not be recorded");
                if let Some(why) = error.passes() {
                    self.unrecorded.runs.insert(run);
                    self.unrecorded.begin(why);
                }
            }
        }
        Ok(())
    }

    /// What an earlier process held begins again, once there is room to write that down.
    async fn release_held(&mut self) -> Result<(), LedgerError> {
        match self.ledger.release_held().await {
            Err(error) if let Some(why) = error.passes() => {
                self.unrecorded.release = true;
                self.unrecorded.begin(why);
                Ok(())
            }
            released => released,
        }
    }

    /// Goes on with what the ledger had no room for, as a restart would.
    async fn take_up_unrecorded(&mut self) -> Result<(), LedgerError> {
        if self.unrecorded.since.is_none_or(|(since, _)| since.elapsed() < AGAIN_AFTER) {
            return Ok(());
        }
        if std::mem::take(&mut self.unrecorded.release) {
            self.release_held().await?;
        }
        while let Some(entry) = self.unrecorded.deliveries.first_entry() {
            // It stays when that cannot be read now.
            let open = self.ledger.open_delivery(*entry.key()).await?;
            let job = entry.remove();
            self.spawn(job, Task::Resume(Box::new(open)));
        }
        self.unrecorded.since = None;
        for run in std::mem::take(&mut self.unrecorded.runs) {
            self.finish(run).await?;
        }
        Ok(())
    }

    /// Lets what has begun come to its end. What waits for room stays in the ledger.
    async fn drain(mut self, manager: &mut Manager) -> Result<(), DaemonError> {
        self.room.close();
        self.late_room.close();
        if self.work.is_empty() {
            return Ok(());
        }
        let patience = self.config.daemon.drain_timeout;
        tracing::info!(
            deliveries = self.work.len(),
            seconds = patience.as_secs(),
            "stopping: letting deliveries finish"
        );
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let now = tokio::time::Instant::now();
            self.stop_what_is_late();
            manager.draining(self.work.len(), deadline.saturating_duration_since(now));
            match tokio::time::timeout_at(deadline.min(now + DRAIN_TICK), self.work.join_next_with_id()).await {
                Ok(Some(ended)) => self.ended(ended).await?,
                Ok(None) => return Ok(()),
                Err(_) if now < deadline => {}
                Err(_) => {
                    tracing::warn!(deliveries = self.work.len(), "not finished in time; the next start resumes them");
                    self.work.shutdown().await;
                    return Ok(());
                }
            }
        }
    }

    fn status(&self, next: Option<Instant>, unable: Option<&'static str>) -> Status {
        let at_work = self.config.daemon.concurrency - self.room.available_permits();
        Status {
            unable: unable.or(self.unrecorded.since.map(|(_, why)| why)),
            shares: self.config.shares.len(),
            next,
            at_work,
            waiting: self.work.len().saturating_sub(at_work),
            again: self.waiting.len(),
            delivered: self.tally.delivered,
            failed: self.tally.failed,
        }
    }
}

fn skipped(slot: &Slot, reason: SkipReason) {
    tracing::warn!(share = %slot.share, slot = %exact(slot.at), reason = reason.as_str(), "slot skipped");
}
