//! The daemon: ticks, plans, claims, bounds what runs at once, drains.
//!
//! The ledger is the queue. What is in memory is only what is being worked on,
//! so that stopping at any instant loses nothing but the work of that instant.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinSet};
use tracing::Instrument;

use crate::config::{Config, ConfigErrors};
use crate::domain::{CustomerName, Failure, Retry, RunId, ShareName, Slot};
use crate::ledger::{Claim, DeliveryId, Ledger, LedgerError, OpenDelivery, Planned, RunState};
use crate::run::{self, Outcome, Parts, Work};
use crate::schedule::{Calendar, Planner, Recurring, ScheduleError, Ticker};

/// Without a tick for this long, the watchdog wakes the planner.
const TICK_PATIENCE: Duration = Duration::from_secs(5);

/// Why the daemon cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the clock cannot be started")]
    Clock(#[from] ScheduleError),
}

/// When each share fires; every schedule that cannot be read is an error at its place.
pub fn calendars(config: &Config) -> Result<BTreeMap<ShareName, Calendar>, ConfigErrors> {
    let mut errors = ConfigErrors::new();
    let mut calendars = BTreeMap::new();
    for (name, share) in &config.shares {
        match Calendar::parse(&share.schedule, share.timezone) {
            Ok(calendar) => {
                calendars.insert(name.clone(), calendar);
            }
            Err(error) => {
                let place = config.locate(&["shares", name.as_str(), "schedule"]);
                errors.at(place, Failure::chain(&error), "five fields such as `0 6 * * *`; see docs/calendar.md");
            }
        }
    }
    errors.into_result().map(|()| calendars)
}

/// Delivers every share on its schedule until `stop` is ready, then lets running
/// deliveries finish within `daemon.drain_timeout`.
pub async fn run(
    config: Arc<Config>,
    parts: Arc<Parts>,
    ledger: Ledger,
    calendars: BTreeMap<ShareName, Calendar>,
    stop: impl Future<Output = ()>,
) -> Result<(), DaemonError> {
    let ticker = Ticker::start(TICK_PATIENCE).await?;
    let mut planner = planner(&ledger, calendars, &parts).await?;
    let room = Arc::new(Semaphore::new(config.daemon.concurrency));
    let (open, tasks) = (HashMap::new(), HashMap::new());
    let mut desk = Desk { config, parts, ledger, room, open, work: JoinSet::new(), tasks };
    desk.resume().await?;
    tracing::info!(shares = desk.config.shares.len(), "consign is ready");
    let mut stop = std::pin::pin!(stop);
    let mut full = false;
    loop {
        // A disk without room stops new work, not the daemon: the next tick tries again.
        match desk.plan(&mut planner).await {
            Ok(()) if full => {
                tracing::info!("the ledger has room again");
                full = false;
            }
            Ok(()) => {}
            Err(LedgerError::Full { .. }) if full => {}
            Err(error @ LedgerError::Full { .. }) => {
                tracing::error!(error = Failure::chain(&error), "cannot record slots");
                full = true;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = &mut stop => break,
            () = ticker.wake() => {}
            Some(ended) = desk.work.join_next_with_id() => desk.ended(ended).await?,
        }
    }
    ticker.stop().await;
    desk.drain().await
}

async fn planner(
    ledger: &Ledger,
    calendars: BTreeMap<ShareName, Calendar>,
    parts: &Parts,
) -> Result<Planner, LedgerError> {
    let cursors: HashMap<ShareName, _> = ledger.cursors().await?.into_iter().collect();
    let recurring = calendars.into_iter().map(|(share, calendar)| {
        let cursor = cursors.get(&share).copied();
        Recurring { share, calendar, cursor }
    });
    Ok(Planner::new(recurring, parts.clock.now()))
}

/// What is being worked on.
struct Desk {
    config: Arc<Config>,
    parts: Arc<Parts>,
    ledger: Ledger,
    room: Arc<Semaphore>,
    /// Deliveries still open, by run that has not ended.
    open: HashMap<RunId, usize>,
    work: JoinSet<Result<(), LedgerError>>,
    tasks: HashMap<Id, (RunId, CustomerName)>,
}

impl Desk {
    /// Records what is due and begins as much of it as there is room for.
    async fn plan(&mut self, planner: &mut Planner) -> Result<(), LedgerError> {
        loop {
            let plan = planner.due(self.parts.clock.now());
            if !plan.is_empty() {
                let recipients = |slot: &Slot| self.config.shares.get(&slot.share).map(|share| share.to.clone());
                let planned = plan.due.iter().map(|due| Planned {
                    slot: due.slot.clone(),
                    customers: recipients(&due.slot).unwrap_or_default(),
                    skip: due.skip,
                });
                self.ledger.plan(planned.collect(), plan.cursors.clone()).await?;
                for due in plan.due.iter().filter(|due| due.skip.is_some()) {
                    let reason = due.skip.map(|reason| reason.as_str());
                    tracing::warn!(share = %due.slot.share, slot = %due.slot.at, reason, "slot skipped");
                }
                planner.recorded(&plan);
            }
            if !plan.more {
                break;
            }
        }
        while self.work.len() < self.config.daemon.concurrency {
            let claims = self.ledger.claim(1).await?;
            if claims.is_empty() {
                break;
            }
            for claim in claims {
                self.begin(claim).await?;
            }
        }
        Ok(())
    }

    async fn begin(&mut self, claim: Claim) -> Result<(), LedgerError> {
        tracing::info!(run = %claim.run, slot = %claim.slot, deliveries = claim.deliveries.len(), "run begins");
        if claim.deliveries.is_empty() {
            self.ledger.run_finished(claim.run).await?;
            return Ok(());
        }
        for (customer, delivery) in claim.deliveries {
            self.spawn(claim.run, claim.slot.clone(), customer, Task::Deliver(delivery));
            *self.open.entry(claim.run).or_default() += 1;
        }
        Ok(())
    }

    /// What an earlier process left: sealed deliveries roll forward, the others
    /// begin anew after their uploads are aborted. Of a run that had ended only
    /// uploads are left, and its end stands.
    async fn resume(&mut self) -> Result<(), LedgerError> {
        for unfinished in self.ledger.unfinished().await? {
            let (run, slot, running) = (unfinished.run, unfinished.slot, unfinished.state == RunState::Running);
            let deliveries = unfinished.deliveries.len();
            match running {
                true => tracing::warn!(%run, %slot, deliveries, "resuming what an earlier process left"),
                false => tracing::info!(%run, %slot, deliveries, "aborting uploads that an ended run left"),
            }
            if unfinished.deliveries.is_empty() && running {
                self.ledger.run_finished(run).await?;
            }
            for delivery in unfinished.deliveries {
                let customer = delivery.customer.clone();
                self.spawn(run, slot.clone(), customer, Task::Resume(Box::new(delivery)));
                if running {
                    *self.open.entry(run).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    fn spawn(&mut self, run: RunId, slot: Slot, customer: CustomerName, task: Task) {
        let (config, parts, ledger) = (self.config.clone(), self.parts.clone(), self.ledger.clone());
        let room = self.room.clone();
        let span = tracing::info_span!("delivery", %run, share = %slot.share, slot = %slot.at, %customer);
        let name = customer.clone();
        let work = async move {
            // Never closed, so this only waits.
            let _permit = room.acquire_owned().await;
            // Boxed, so that the whole can be sent between threads (rust-lang/rust#102211).
            carry_out(&config, &parts, &ledger, run, &slot, &name, task).boxed().await
        };
        let id = self.work.spawn(work.instrument(span)).id();
        self.tasks.insert(id, (run, customer));
    }

    /// One delivery has ended, whichever way; the last of a run ends the run.
    async fn ended(
        &mut self,
        ended: Result<(Id, Result<(), LedgerError>), tokio::task::JoinError>,
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
        let Some((run, customer)) = self.tasks.remove(&id) else { return Ok(()) };
        if let Err(error) = result {
            tracing::error!(%run, %customer, error = Failure::chain(&error), "the ledger could not record a delivery");
            return match error {
                LedgerError::Full { .. } => Ok(()),
                other => Err(other),
            };
        }
        if let Some(open) = self.open.get_mut(&run) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&run);
                let state = self.ledger.run_finished(run).await?;
                tracing::info!(%run, ?state, "run ended");
            }
        }
        Ok(())
    }

    async fn drain(mut self) -> Result<(), DaemonError> {
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
            match tokio::time::timeout_at(deadline, self.work.join_next_with_id()).await {
                Ok(Some(ended)) => self.ended(ended).await?,
                Ok(None) => return Ok(()),
                Err(_) => {
                    tracing::warn!(deliveries = self.work.len(), "not finished in time; the next start resumes them");
                    self.work.shutdown().await;
                    return Ok(());
                }
            }
        }
    }
}

enum Task {
    Deliver(DeliveryId),
    Resume(Box<OpenDelivery>),
}

async fn carry_out(
    config: &Arc<Config>,
    parts: &Parts,
    ledger: &Ledger,
    run: RunId,
    slot: &Slot,
    customer: &CustomerName,
    task: Task,
) -> Result<(), LedgerError> {
    let work = Work::new(config, slot, customer, run);
    let outcome = match (work, task) {
        (Ok(work), Task::Deliver(delivery)) => run::deliver_recorded(parts, ledger, &work, delivery).await?,
        (Ok(work), Task::Resume(open)) => match run::resume(parts, ledger, &work, *open).await? {
            Some(outcome) => outcome,
            None => return Ok(()),
        },
        (Err(failure), Task::Deliver(delivery)) => run::fail_recorded(ledger, delivery, failure).await?,
        (Err(failure), Task::Resume(open)) => match run::fail_open(ledger, *open, failure).await? {
            Some(outcome) => outcome,
            None => return Ok(()),
        },
    };
    match outcome {
        Outcome::Committed(manifest) => {
            let bytes: u64 = manifest.objects.iter().map(|object| object.bytes).sum();
            tracing::info!(
                output.objects = manifest.objects.len(),
                output.rows = manifest.rows,
                output.size_bytes = bytes,
                "delivered"
            );
        }
        Outcome::Failed(failure) => {
            let retry = failure.retry == Retry::Later;
            let layer = failure.layer.as_str();
            tracing::error!(layer, retry, remedy = failure.remedy, "delivery failed: {}", failure.message);
        }
    }
    Ok(())
}
