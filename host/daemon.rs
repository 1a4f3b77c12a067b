//! The daemon: ticks, plans, claims, bounds what runs at once, drains.
//!
//! The ledger is the queue of slots. What is in memory is only what is being worked
//! on and a little that waits for a place, so that stopping at any instant loses
//! nothing but the work of that instant.
//!
//! ```text
//! tick ─▶ intake: plan, claim ─▶ queue: whose turn it is ─▶ job: one delivery ─▶ desk: what came of it
//!                                  ▲                                                │
//!                                  └────────────── retries, when they are due ◀─────┘
//! ```
//!
//! One loop does all of it and waits for nothing but the next thing to happen:
//! deliveries are tasks, and so are questions to the ledger (`calls`).

pub mod admin;
mod backlog;
mod breaker;
pub mod by_hand;
mod calls;
mod desk;
mod generation;
mod intake;
mod job;
mod left_out;
mod leftover;
mod nodes;
mod notify;
mod orders;
mod quarantine;
mod queue;
mod recovery;
mod reload;
pub mod restored;
mod retention;
mod retries;
mod settling;
#[cfg(test)]
mod tests;
mod unready;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use admin::socket::SocketError;
use admin::{Office, Serving, Socket};
use desk::Desk;
pub use generation::Generation;
use notify::Manager;
pub use notify::{Starting, failed};
use reload::Reloader;
use retention::Age;

use crate::config::Config;
use crate::domain::Failure;
use crate::ledger::{Ledger, LedgerError};
use crate::run::Parts;
use crate::schedule::{ScheduleError, Ticker};

/// Without a tick for this long, the watchdog wakes the planner.
const TICK_PATIENCE: Duration = Duration::from_secs(5);

/// What callers may want of the loop before they wait.
const ORDERS_MAX: usize = 64;

/// How often a drain says that it is getting on.
const DRAIN_TICK: Duration = Duration::from_secs(1);

/// How long a drain waits beyond `drain_timeout`: for what it cuts off to abort its
/// uploads, and for a ledger that does not answer.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// Why the daemon cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the clock cannot be started")]
    Clock(#[from] ScheduleError),
    #[error(transparent)]
    Socket(#[from] SocketError),
}

/// Where the configuration comes from, to be read again.
pub struct Source {
    pub path: PathBuf,
    /// SIGHUP, listened for since before there was a daemon.
    pub hangup: Signal,
}

/// Delivers every share on its schedule until `stop` is ready, then lets running
/// deliveries finish within `daemon.drain_timeout`.
pub async fn run(
    config: Arc<Config>,
    parts: Arc<Parts>,
    ledger: Ledger,
    source: Source,
    stop: impl Future<Output = ()>,
) -> Result<(), DaemonError> {
    let starting = Starting::begin("taking up what was left");
    let socket = open_socket(&config)?;
    let ticker = Ticker::start(TICK_PATIENCE).await?;
    let mut desk = Desk::open(config, parts, ledger).await?;
    desk.resume().await?;
    let age = Age::new(desk.clock.clone(), desk.ledger.reader().last_begun().await?);
    let mut manager = Manager::of_process();
    tracing::info!(shares = desk.generation.config.shares.len(), "consign is ready");
    let retention = retention::keep(desk.ledger.clone(), age, desk.retention.subscribe());
    let mut retention = std::pin::pin!(retention);
    let backlog = backlog::watch(desk.ledger.reader().clone(), desk.clock.clone(), desk.behind.clone());
    let mut backlog = std::pin::pin!(backlog);
    drop(starting);
    manager.ready(&desk.status());
    let (orders, mut ordered) = mpsc::channel(ORDERS_MAX);
    let serving = serve(&desk, socket, source, orders);
    let mut stop = std::pin::pin!(stop);
    loop {
        desk.go_on();
        if desk.is_alive() {
            manager.progress();
            if manager.wants_status() {
                manager.status(&desk.status());
            }
        }
        tokio::select! {
            () = &mut stop => break,
            () = &mut retention => {}
            () = &mut backlog => {}
            () = ticker.wake() => desk.tick(),
            Some(ended) = desk.work.join_next_with_id() => desk.ended(ended)?,
            Some(answer) = desk.calls.answer() => desk.hear(answer)?,
            Some(looked) = desk.waiting.looked() => desk.looked(looked)?,
            Some(order) = ordered.recv() => desk.obey(order, &mut manager),
        }
    }
    manager.stopping();
    desk.callers.stopping.store(true, Ordering::Relaxed);
    ticker.stop().await;
    let ended = drain(desk, &mut manager, &mut ordered).await;
    serving.close().await;
    ended
}

/// A daemon that cannot be asked delivers all the same, unless another one has its place.
fn open_socket(config: &Config) -> Result<Option<Socket>, SocketError> {
    match Socket::open(&config.daemon.state_dir) {
        Ok(socket) => Ok(Some(socket)),
        Err(held @ SocketError::Held { .. }) => Err(held),
        Err(error) => {
            tracing::error!(error = Failure::chain(&error), "`consign status` and the like will not reach this daemon");
            Ok(None)
        }
    }
}

/// Lets callers in, and watches for what has the configuration read again.
fn serve(desk: &Desk, socket: Option<Socket>, source: Source, orders: mpsc::Sender<admin::Order>) -> Serving {
    let Source { path, hangup } = source;
    let config = std::path::absolute(&path).unwrap_or(path);
    let (clock, current) = (desk.clock.clone(), desk.callers.current.subscribe());
    let ledger = desk.ledger.clone();
    let reloader =
        Arc::new(Reloader::new(config.clone(), clock.clone(), ledger.clone(), orders.clone(), current.clone()));
    let office = Office {
        started: clock.now(),
        clock,
        ledger,
        desk: orders,
        reloader: reloader.clone(),
        current,
        stopping: desk.callers.stopping.clone(),
        config,
    };
    let mut serving = Serving::default();
    serving.also(reloader.keep(hangup));
    if let Some(socket) = socket {
        serving.also(socket.serve(office));
    }
    serving
}

/// Lets what has begun come to its end. What waits for a place stays in the ledger.
async fn drain(
    mut desk: Desk,
    manager: &mut Manager,
    ordered: &mut mpsc::Receiver<admin::Order>,
) -> Result<(), DaemonError> {
    let patience = desk.generation.config.daemon.drain_timeout;
    desk.write_down();
    if !desk.work.is_empty() {
        let (deliveries, seconds) = (desk.work.len(), patience.as_secs());
        tracing::info!(deliveries, seconds, "stopping: letting deliveries finish");
    }
    let deadline = tokio::time::Instant::now() + patience;
    let mut is_cut_off = false;
    while !desk.work.is_empty() || !desk.calls.is_empty() || desk.is_looking() {
        let now = tokio::time::Instant::now();
        desk.stop_what_is_late();
        if now >= deadline + DRAIN_GRACE {
            if !desk.is_alive() {
                tracing::error!("the ledger does not answer; ending all the same");
                desk.ledger.clone().forsake();
            }
            if !desk.work.is_empty() {
                let deliveries = desk.work.len();
                tracing::warn!(deliveries, "uploads may be left in their buckets until the next start aborts them");
                drop(tokio::time::timeout(DRAIN_TICK, desk.work.shutdown()).await);
            }
            break;
        }
        if now >= deadline && !is_cut_off && !desk.work.is_empty() {
            is_cut_off = true;
            tracing::warn!(deliveries = desk.work.len(), "not finished in time; the next start resumes them");
            desk.at_work.values().for_each(|at_work| at_work.stopper.interrupt());
        }
        // Who vouches for a ledger that does not answer is never ended.
        if desk.is_alive() && now < deadline {
            manager.draining(desk.work.len(), deadline - now);
        }
        let next = if now < deadline { deadline } else { deadline + DRAIN_GRACE };
        tokio::select! {
            Some(ended) = desk.work.join_next_with_id() => desk.ended(ended)?,
            Some(answer) = desk.calls.answer() => desk.hear(answer)?,
            Some(looked) = desk.waiting.looked() => desk.looked(looked)?,
            Some(order) = ordered.recv() => desk.obey(order, manager),
            () = tokio::time::sleep_until(next.min(now + DRAIN_TICK)) => {}
        }
    }
    tracing::info!("consign has stopped");
    Ok(())
}
