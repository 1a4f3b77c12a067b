//! Answers callers. Most of what they ask is the ledger's business and done here;
//! the daemon's loop is told what concerns what it has at work.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::ask::{Ask, Backfilled, Event, Judged, Paused, Released, Reloaded, Resumed, Told};
use super::overview::{Kept, Now, Overview, Running};
use super::{Caller, gone};
use crate::calendar::When;
use crate::clock::{Clock, Instant};
use crate::config::{Config, Plugin, Share};
use crate::crash::{self, Point};
use crate::daemon::Generation;
use crate::daemon::by_hand::{
    Waiting, cancelled_by, is_open, pause, release, resume, saying, to_retry, to_settle, unsettled,
};
use crate::daemon::intake::planner;
use crate::daemon::reload::{Loaded, Reloader};
use crate::daemon::settling::Settling;
use crate::domain::{Blame, CustomerName, Refused, RunId, SkipReason, Slot};
use crate::ledger::{Cancelled, Claim, DeliveryId, Ledger, Rewound, RunDetail, Unsettled, Verdict};
use crate::run::{Report, quarantine, wanted};
use crate::schedule::Planner;

/// How long the loop may take to say what it does.
const LOOP_PATIENCE: Duration = Duration::from_secs(5);

/// What the daemon's loop is to do.
pub(in crate::daemon) enum Order {
    Tell(oneshot::Sender<Now>),
    /// A run by hand has begun in the ledger. What happens to its deliveries is told.
    Begin {
        claim: Claim,
        watch: Watch,
    },
    /// Tries at once what waits for its next try. Answered with what is tried here:
    /// another consign may have the others, or they have ended.
    TryNow {
        deliveries: Vec<DeliveryId>,
        watch: Watch,
        done: oneshot::Sender<Vec<DeliveryId>>,
    },
    /// These are marked in the ledger to be ended.
    Cancel(Vec<DeliveryId>),
    /// Somebody knows what became of these, which are in doubt.
    Settle(Box<Settling>),
    /// The ledger's cursors have been changed, and this goes on from there. Not while
    /// a configuration is read, which may have seen those of before.
    PlanAnew {
        planner: Box<Planner>,
    },
    /// A plugin is no longer in quarantine.
    LetGo,
    /// If they are not ready, they are looked at now.
    LookAt(Vec<CustomerName>),
    /// Slots that a pause has left out.
    LeftOut(Vec<(Slot, SkipReason)>),
    /// A configuration is being read.
    Reloading,
    /// It has been read, to be taken or not.
    Reloaded {
        loaded: Result<Box<Loaded>, Refused>,
        done: oneshot::Sender<Result<Reloaded, Refused>>,
    },
}

/// Hears of deliveries.
pub(in crate::daemon) type Watch = mpsc::UnboundedSender<Event>;

pub(in crate::daemon) struct Office {
    pub ledger: Ledger,
    pub clock: Clock,
    pub desk: mpsc::Sender<Order>,
    pub reloader: Arc<Reloader>,
    /// What the loop works by.
    pub current: watch::Receiver<Arc<Generation>>,
    pub stopping: Arc<AtomicBool>,
    pub config: PathBuf,
    pub started: Instant,
}

impl Office {
    pub(super) async fn answer(&self, ask: Ask, caller: &mut Caller) -> Result<Value, Refused> {
        match ask {
            Ask::Status => to_value(&self.overview().await?),
            Ask::Reload { wait, may_remove } => to_value(&self.reload(wait, may_remove, caller).await?),
            Ask::Pause { share } => to_value(&self.pause(&share, caller).await?),
            Ask::Resume { share } => to_value(&self.resume(&share, caller).await?),
            Ask::Send { share, at, customers, wait } => {
                self.goes_on()?;
                let config = self.config();
                let share = wanted::share(&config, &share)?;
                let customers = wanted::customers(&share, &customers)?;
                let now = self.clock.now();
                let known = wanted::known(self.ledger.reader(), &share, at, now).await?;
                let slot = wanted::slot(&share, at, false, now, &known)?;
                self.may_begin(&share).await?;
                tracing::info!(share = %share.name, by = caller.name(), "a run by hand is asked for");
                to_value(&self.begin((slot, customers), None, wait, caller).await?)
            }
            Ask::Backfill { share, from, to, customers } => {
                to_value(&self.backfill(&share, (&from, &to), &customers, caller).await?)
            }
            Ask::Retry { run, customers, wait } => {
                self.goes_on()?;
                let (run, customers) = self.deliveries(&run, &customers).await?;
                if let Some(share) = self.config().shares.get(&run.run.share) {
                    self.may_begin(share).await?;
                }
                to_value(&self.retry(run, customers, wait, caller).await?)
            }
            Ask::Cancel { run, customers, reason } => {
                let (run, customers) = self.deliveries(&run, &customers).await?;
                to_value(&self.cancel(run, customers, reason, caller).await?)
            }
            Ask::Settle { run, customers, verdict, reason } => {
                self.goes_on()?;
                to_value(&self.settle((&run, &customers), verdict, reason.as_deref(), caller).await?)
            }
            Ask::Rewind => to_value(&self.rewind(caller).await?),
            Ask::Release { plugin } => to_value(&self.release(&plugin, caller).await?),
            Ask::LookAt { customers } => to_value(&self.look_at(&customers).await?),
        }
    }

    fn config(&self) -> Arc<Config> {
        self.current.borrow().config.clone()
    }

    /// Nothing new begins in a daemon that stops.
    fn goes_on(&self) -> Result<(), Refused> {
        if self.stopping.load(Ordering::Relaxed) { Err(stopping()) } else { Ok(()) }
    }

    pub(super) async fn order(&self, order: Order) -> Result<(), Refused> {
        self.desk.send(order).await.map_err(|_| stopping())
    }

    async fn overview(&self) -> Result<Overview, Refused> {
        let (tell, told) = oneshot::channel();
        let told = async {
            self.desk.send(Order::Tell(tell)).await.ok()?;
            told.await.ok()
        };
        let now = timeout(LOOP_PATIENCE, told).await.ok().flatten();
        let current = self.current.borrow().clone();
        let digest = |plugin: &Plugin| current.parts.digest(&plugin.name);
        let kept = Kept::read(self.ledger.reader(), &current.config, digest, self.clock.now()).await?;
        let daemon = Running {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: self.config.clone(),
            state_dir: self.config().daemon.state_dir.clone(),
            started: self.started,
            now,
        };
        Ok(Overview { daemon: Some(daemon), ledger: Some(kept) })
    }

    async fn reload(&self, wait: bool, may_remove: bool, caller: &mut Caller) -> Result<Reloaded, Refused> {
        self.goes_on()?;
        tracing::info!(by = caller.name(), "a reload is asked for");
        if wait {
            caller.waits_for_reload()?;
            // Who has begun it and goes away does not keep the loop from its end.
            let reload = tokio::spawn(self.reloader.clone().reload(may_remove));
            return tokio::select! {
                ended = reload => ended.unwrap_or_else(|error| Err(fault(&error))),
                gone = caller.gone() => Err(gone),
            };
        }
        let (generation, shares) = {
            let current = self.current.borrow();
            (current.number, current.config.shares.len())
        };
        drop(tokio::spawn(self.reloader.clone().reload(may_remove)));
        let (added, removed) = Default::default();
        Ok(Reloaded { generation, done: false, shares, warnings: Vec::new(), added, removed })
    }

    async fn pause(&self, share: &str, caller: &Caller) -> Result<Paused, Refused> {
        let share = wanted::share(&self.config(), share)?.name.clone();
        let (paused, left_out) = pause(&self.ledger, &self.clock, share).await?;
        if paused.changed {
            crash::point(Point::Paused);
            tracing::info!(share = %paused.share, by = caller.name(), "paused");
        }
        if !left_out.is_empty() {
            self.order(Order::LeftOut(left_out)).await?;
        }
        Ok(paused)
    }

    async fn resume(&self, share: &str, caller: &Caller) -> Result<Resumed, Refused> {
        let share = wanted::share(&self.config(), share)?.name.clone();
        let resumed = resume(&self.ledger, share).await?;
        if resumed.since.is_some() {
            crash::point(Point::Resumed);
            tracing::info!(share = %resumed.share, by = caller.name(), "resumed");
        }
        Ok(resumed)
    }

    async fn release(&self, plugin: &str, caller: &Caller) -> Result<Released, Refused> {
        let current = self.current.borrow().clone();
        let digest = |plugin: &Plugin| current.parts.digest(&plugin.name);
        let released = release(&self.ledger, &current.config, plugin, digest).await?;
        if !released.released.is_empty() {
            crash::point(Point::LetGo);
            tracing::info!(plugin = %released.plugin, by = caller.name(), "let go");
        }
        self.order(Order::LetGo).await?;
        Ok(released)
    }

    /// What is not configured is nobody's.
    async fn look_at(&self, named: &[String]) -> Result<(), Refused> {
        let config = self.config();
        let is_named = |name: &&CustomerName| named.is_empty() || named.iter().any(|named| named == name.as_str());
        self.order(Order::LookAt(config.customers.keys().filter(is_named).cloned().collect())).await
    }

    /// Whoever asks for a run is told at once that it would wait.
    async fn may_begin(&self, share: &Share) -> Result<(), Refused> {
        let current = self.current.borrow().clone();
        let all = self.ledger.reader().quarantined().await?;
        quarantine::may_begin(&current.config, &current.parts, share, &all)
    }

    async fn rewind(&self, caller: &Caller) -> Result<Rewound, Refused> {
        let _stays = self.reloader.stays().await;
        let rewound = self.ledger.rewind().await?;
        crash::point(Point::Rewound);
        tracing::warn!(shares = rewound.shares, by = caller.name(), "shares fire from now on, whatever was planned");
        let planner = Box::new(planner(&self.ledger, &self.config(), self.clock.now()).await?);
        self.order(Order::PlanAnew { planner }).await?;
        Ok(rewound)
    }

    async fn backfill(
        &self,
        share: &str,
        (from, to): (&str, &str),
        customers: &[String],
        caller: &mut Caller,
    ) -> Result<Backfilled, Refused> {
        let when = |text: &str| When::parse(text).map_err(|why| Refused::request(format!("'{text}' {why}"), ""));
        let (config, now) = (self.config(), self.clock.now());
        let share = wanted::share(&config, share)?;
        let customers = wanted::customers(&share, customers)?;
        let range = wanted::range(&share, (when(from)?, when(to)?), now)?;
        let slots = wanted::slots(Some(self.ledger.reader()), &share, range, now).await?;
        tracing::info!(share = %share.name, slots = slots.len(), by = caller.name(), "a backfill is asked for");
        for piece in wanted::pieces(&slots, customers.len()) {
            let filled = self.ledger.backfill(piece, customers.clone()).await?;
            crash::point(Point::Backfilled);
            // Planned is planned, whoever listens.
            if let Err(error) = caller.hears(Event::Planned(filled)).await {
                tracing::debug!(error = %error, "nobody hears what was planned");
            }
        }
        Ok(Backfilled { share: share.name.clone(), forgotten_before: wanted::forgotten_before(&config, &slots, now) })
    }

    /// The run that is meant, and its customers who are: all of them when none is named.
    async fn deliveries(&self, run: &str, named: &[String]) -> Result<(RunDetail, Vec<CustomerName>), Refused> {
        let reader = self.ledger.reader();
        let run = reader.run(wanted::run(reader, run).await?).await?;
        let customers = wanted::customers_of(&run, named)?;
        Ok((run, customers))
    }

    /// Begins a run, and hurries what waits of another. Tells the caller of all of it
    /// until its end if somebody waits.
    async fn begin(
        &self,
        (slot, mut customers): (Slot, Vec<CustomerName>),
        waiting: Option<(RunId, Waiting)>,
        wait: bool,
        caller: &mut Caller,
    ) -> Result<Report, Refused> {
        if wait {
            caller.waits()?;
        }
        let (watch, heard) = mpsc::unbounded_channel();
        let (mut going, mut hurried) = (0, None);
        if let Some((run, deliveries)) = waiting {
            let (done, here) = oneshot::channel();
            let ids = deliveries.iter().map(|(_, delivery)| *delivery).collect();
            self.order(Order::TryNow { deliveries: ids, watch: watch.clone(), done }).await?;
            let here = here.await.map_err(|_| stopping())?;
            going = here.len();
            hurried = Some(run).filter(|_| going > 0);
            // How it is with the others the ledger knows.
            let others = deliveries.into_iter().filter(|(_, delivery)| !here.contains(delivery));
            customers.extend(others.map(|(customer, _)| customer));
        }
        let started = self.ledger.start_manual(slot, customers).await?;
        if started.claim.is_some() {
            crash::point(Point::Begun);
        }
        let mut report = Report::of(&started);
        report.run = report.run.or(hurried);
        match started.claim {
            Some(claim) => {
                going += claim.deliveries.len();
                self.order(Order::Begin { claim, watch })
                    .await
                    .map_err(|refused| begun_and_stopping(refused, report.run))?;
            }
            None => drop(watch),
        }
        if wait {
            self.listen(&mut report, heard, going, caller).await?;
        }
        Ok(report.sorted())
    }

    /// Why nothing more is heard of a run.
    fn unheard(&self, run: Option<RunId>) -> Refused {
        match self.stopping.load(Ordering::Relaxed) {
            true => begun_and_stopping(stopping(), run),
            false => {
                let run = run.map(|run| run.to_string()).unwrap_or_default();
                Refused::request("it is not known how it ended", format!("`consign show {run}` tells how it stands"))
            }
        }
    }

    async fn listen(
        &self,
        report: &mut Report,
        mut heard: mpsc::UnboundedReceiver<Event>,
        mut going: usize,
        caller: &mut Caller,
    ) -> Result<(), Refused> {
        let gone = |_| gone();
        if let Some(run) = report.run {
            let (slot, deliveries) = (report.slot.clone(), going);
            caller.hears(Event::Begun { run, slot, deliveries }).await.map_err(gone)?;
        }
        while going > 0 {
            let event = tokio::select! {
                event = heard.recv() => event.ok_or_else(|| self.unheard(report.run))?,
                gone = caller.gone() => return Err(gone),
            };
            if let Event::Ended(fared) = &event {
                report.outcomes.push((**fared).clone());
                going -= 1;
            }
            caller.hears(event).await.map_err(gone)?;
        }
        Ok(())
    }

    async fn retry(
        &self,
        detail: RunDetail,
        customers: Vec<CustomerName>,
        wait: bool,
        caller: &mut Caller,
    ) -> Result<Report, Refused> {
        let (failed, waiting) = to_retry(&detail, &customers)?;
        let run = &detail.run;
        tracing::info!(run = %run.run, share = %run.share, by = caller.name(), "a run is to be tried again");
        let waiting = Some((run.run, waiting)).filter(|(_, waiting)| !waiting.is_empty());
        self.begin((run.whole_slot(), failed), waiting, wait, caller).await
    }

    async fn cancel(
        &self,
        detail: RunDetail,
        customers: Vec<CustomerName>,
        reason: Option<String>,
        caller: &Caller,
    ) -> Result<Told, Refused> {
        let run = detail.run.run;
        is_open(&detail)?;
        let why = cancelled_by(&caller.name(), reason.as_deref(), run);
        tracing::warn!(%run, share = %detail.run.share, "{}", why.message);
        let Cancelled { marked, sealed, ended, elsewhere } = self.ledger.cancel(run, customers, why).await?;
        crash::point(Point::Marked);
        let (cancelled, ids): (Vec<_>, Vec<_>) = marked.into_iter().unzip();
        self.order(Order::Cancel(ids)).await?;
        Ok(Told { run, cancelled, sealed, ended, elsewhere })
    }

    async fn settle(
        &self,
        (run, named): (&str, &[String]),
        verdict: Verdict,
        reason: Option<&str>,
        caller: &Caller,
    ) -> Result<Judged, Refused> {
        let reader = self.ledger.reader();
        let detail = reader.run(wanted::run(reader, run).await?).await?;
        let run = detail.run.run;
        if let Some(node) = self.ledger.who_else_has(run).await? {
            return Err(unsettled(run, Unsettled::Elsewhere(node)));
        }
        let deliveries = to_settle(&detail, named, verdict)?;
        let saying = saying(&caller.name(), verdict, reason);
        let (done, settled) = oneshot::channel();
        self.order(Order::Settle(Box::new(Settling { run, deliveries, saying, done }))).await?;
        let settled = settled.await.map_err(|_| stopping())??;
        Ok(Judged::of(run, verdict, settled))
    }
}

pub(super) fn stopping() -> Refused {
    Refused::request("consign is stopping", "ask again when it has started")
}

fn begun_and_stopping(refused: Refused, run: Option<RunId>) -> Refused {
    match run {
        Some(run) => Refused { help: format!("run {run} has begun, and its next start goes on with it"), ..refused },
        None => refused,
    }
}

fn fault(error: &dyn std::error::Error) -> Refused {
    Refused::new(Blame::Machine, format!("a fault in consign: {error}"), "")
}

fn to_value<T: serde::Serialize>(answer: &T) -> Result<Value, Refused> {
    serde_json::to_value(answer).map_err(|error| fault(&error))
}
