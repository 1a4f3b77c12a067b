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

mod calls;
mod desk;
mod generation;
mod intake;
mod job;
mod left_out;
mod notify;
mod queue;
mod recovery;
mod retention;
mod retries;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use desk::Desk;
pub use generation::{Generation, needs_restart};
use notify::Manager;

use crate::config::Config;
use crate::domain::Failure;
use crate::ledger::{Ledger, LedgerError};
use crate::run::Parts;
use crate::schedule::{ScheduleError, Ticker};

/// Without a tick for this long, the watchdog wakes the planner.
const TICK_PATIENCE: Duration = Duration::from_secs(5);

/// How often a drain says that it is getting on.
const DRAIN_TICK: Duration = Duration::from_secs(1);

/// Why the daemon cannot go on, or not over to another configuration.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the clock cannot be started")]
    Clock(#[from] ScheduleError),
    #[error("{} cannot change while consign runs; restart it, or put back what was there", .0.join(" and "))]
    NeedsRestart(Vec<&'static str>),
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
    let mut desk = Desk::open(config, parts, ledger).await?;
    desk.resume().await?;
    let mut manager = Manager::of_process();
    tracing::info!(shares = desk.generation.config.shares.len(), "consign is ready");
    let retention = retention::keep(desk.ledger.clone(), desk.clock.clone(), desk.retention.subscribe());
    let mut retention = std::pin::pin!(retention);
    manager.ready(&desk.status());
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
            () = ticker.wake() => desk.tick(),
            Some(ended) = desk.work.join_next_with_id() => desk.ended(ended)?,
            Some(answer) = desk.calls.answer() => desk.hear(answer)?,
        }
    }
    manager.stopping();
    ticker.stop().await;
    drain(desk, &mut manager).await
}

/// Lets what has begun come to its end. What waits for a place stays in the ledger.
async fn drain(mut desk: Desk, manager: &mut Manager) -> Result<(), DaemonError> {
    let patience = desk.generation.config.daemon.drain_timeout;
    if !desk.work.is_empty() {
        let (deliveries, seconds) = (desk.work.len(), patience.as_secs());
        tracing::info!(deliveries, seconds, "stopping: letting deliveries finish");
    }
    let deadline = tokio::time::Instant::now() + patience;
    while !desk.work.is_empty() || !desk.calls.is_empty() {
        let now = tokio::time::Instant::now();
        desk.stop_what_is_late();
        manager.draining(desk.work.len(), deadline.saturating_duration_since(now));
        tokio::select! {
            Some(ended) = desk.work.join_next_with_id() => desk.ended(ended)?,
            Some(answer) = desk.calls.answer() => desk.hear(answer)?,
            () = tokio::time::sleep_until(deadline.min(now + DRAIN_TICK)) => {
                if now >= deadline && !desk.work.is_empty() {
                    tracing::warn!(deliveries = desk.work.len(), "not finished in time; the next start resumes them");
                    desk.work.shutdown().await;
                }
            }
        }
    }
    Ok(())
}
