//! `consign run`: the daemon.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::output::{self, CliError, Exit};
use super::{Global, setup};
use crate::clock::Clock;
use crate::config::Config;
use crate::daemon::{self, Source};
use crate::domain::Failure;
use crate::ledger::Ledger;
use crate::run::Parts;

/// Why it failed, however early, is also the service's status.
pub async fn serve(global: &Global) -> Result<Exit, CliError> {
    let ended = start(global).await;
    if let Err(error) = &ended {
        daemon::failed(&error.message);
    }
    ended
}

async fn start(global: &Global) -> Result<Exit, CliError> {
    let starting = daemon::Starting::begin("reading the configuration and the ledger, compiling plugins");
    // First of all, because it ends a process that does not listen for it.
    let hangup = listen(SignalKind::hangup())?;
    let config = Arc::new(setup::config(global)?);
    config.check_secrets().into_result()?;
    output::warnings(setup::without_shares(global, &config).as_slice());
    let clock = Clock::steady();
    let ledger = setup::ledger(&config, &clock)?;
    let parts = Arc::new(Parts::build(&config, clock).await?);
    drop(starting);
    until_stopped(config, parts, ledger, Source { path: global.config.clone(), hangup }).await
}

/// Runs until SIGTERM or SIGINT, then drains; a second signal ends at once.
pub async fn until_stopped(
    config: Arc<Config>,
    parts: Arc<Parts>,
    ledger: Ledger,
    source: Source,
) -> Result<Exit, CliError> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let (asked, stop) = tokio::sync::oneshot::channel::<()>();
    let signals = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        let _ = asked.send(());
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    let stop = async {
        let _ = stop.await;
    };
    let kept = ledger.clone();
    tokio::select! {
        ended = daemon::run(config, parts, ledger, source, stop) => match ended {
            Ok(()) => Ok(Exit::Done),
            Err(daemon::DaemonError::Ledger(error)) => Err(error.into()),
            Err(error) => Err(CliError::new(Exit::Internal, Failure::chain(&error), "")),
        },
        () = signals => {
            tracing::warn!("told to stop again: ending at once; the next start resumes");
            kept.forsake();
            Ok(Exit::Done)
        }
    }
}

/// Ready at SIGTERM or SIGINT, from now on.
pub fn told_to_stop() -> Result<impl Future<Output = ()>, CliError> {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    })
}

pub fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal, CliError> {
    signal(kind).map_err(|error| CliError::internal("cannot listen for signals", &error))
}
