//! What every command needs before it starts: the log and the runtime.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use super::Global;
use super::output::{self, CliError, Exit};
use crate::clock::Clock;
use crate::config::{Config, Daemon, Environment};
use crate::ledger::{Ledger, LedgerError};

/// Sends the log to stderr: text for a terminal or journald, no colours unless
/// a person is watching, or a JSON object a line. A filter that does not parse is
/// said and replaced.
pub fn logging(filter: Option<&str>, default: &str, json: bool) {
    let wanted = filter.unwrap_or(default);
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|error| {
        super::output::stderr(&format!("warning: --log '{wanted}' is not understood ({error}); using '{default}'"));
        EnvFilter::new(default)
    });
    let terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    // journald stamps each line itself.
    let under_journald = std::env::var_os("JOURNAL_STREAM").is_some();
    let result = match (json, under_journald) {
        (true, _) => log.json().try_init(),
        (false, true) => log.without_time().try_init(),
        (false, false) => log.try_init(),
    };
    if let Err(error) = result {
        super::output::stderr(&format!("warning: the log could not be set up: {error}"));
    }
}

/// Runs `work` on a multi-threaded runtime of its own.
pub fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("consign")
        .build()
        .map_err(|error| CliError::internal("cannot start the runtime", &error))?;
    runtime.block_on(work)
}

/// Loads the configuration that `--config` names; warnings go to stderr.
pub fn config(global: &Global) -> Result<Config, CliError> {
    let config = Config::load(&global.config, &Environment::of_process())?;
    for warning in &config.warnings {
        output::stderr(&warning.render(output::on_terminal()));
    }
    Ok(config)
}

/// The configuration with a cache that this user may use: its own, or else a
/// temporary one. Looking must not make a cache that the daemon's user could
/// then not use.
pub fn with_cache(config: Config) -> Result<(Config, Option<tempfile::TempDir>), CliError> {
    if is_ours(&config.daemon.cache_dir) {
        return Ok((config, None));
    }
    let cache = tempfile::Builder::new()
        .prefix("consign-cache-")
        .tempdir()
        .map_err(|error| CliError::internal("cannot make a temporary cache", &error))?;
    let daemon = Daemon { cache_dir: cache.path().to_owned(), ..config.daemon.clone() };
    Ok((Config { daemon, ..config }, Some(cache)))
}

fn is_ours(cache: &Path) -> bool {
    use rustix::fs::{Access, access};
    let user = rustix::process::geteuid().as_raw();
    let ours = |dir: &Path| {
        let owned = std::fs::metadata(dir).is_ok_and(|found| found.is_dir() && found.uid() == user);
        owned && access(dir, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    };
    let below = |name: &str| !cache.join(name).exists() || ours(&cache.join(name));
    ours(cache) && below("plugins") && below("spill")
}

/// Opens the configuration's ledger and takes its lock.
pub fn ledger(config: &Config, clock: &Clock) -> Result<Ledger, CliError> {
    Ok(Ledger::open(&config.daemon.state_dir, clock.clone())?)
}

/// The same for who has something to tell the daemon, which must not be running.
pub fn idle_ledger(config: &Config, clock: &Clock) -> Result<Ledger, CliError> {
    Ledger::open(&config.daemon.state_dir, clock.clone()).map_err(|error| match error {
        LedgerError::Held { dir, holder } => {
            let message = format!("the ledger in {} is held by {holder}", dir.display());
            let help = "a running daemon would have to be told over a socket, which it does not have yet: stop it, repeat \
                        this, and start it again";
            CliError::new(Exit::Ledger, message, help)
        }
        error => error.into(),
    })
}
