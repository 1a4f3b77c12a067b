//! What every command needs before it starts: the runtime, the configuration, the ledger.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::Global;
use super::log::Priority;
use super::output::{self, CliError, Exit};
use crate::clock::Clock;
use crate::config::{Config, Daemon, Environment, Location, Problem};
use crate::ledger::{Ledger, LedgerError, Reader};
use crate::limits::CONCURRENCY_MAX;
use crate::registry::Depot;

/// What still computes or waits for a disk when a command has ended is not waited
/// for longer than this: whoever says stop twice means it.
const REMAINS: Duration = Duration::from_millis(500);

/// Threads that a delivery may hold while it waits for its bucket: the plugin's, and
/// one for each text file that its query reads at the same time.
const HELD_BY_ONE: usize = 4;

/// Threads of pieces that begin before their turn.
const SPARE: usize = CONCURRENCY_MAX;

/// Threads for work that ends without anybody's help: parts that wait in files, folders that are read.
const AT_ONCE: usize = 512;

/// Runs `work` on a multi-threaded runtime of its own.
pub fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = runtime().map_err(|error| CliError::internal("cannot start the runtime", &error))?;
    let ended = runtime.block_on(work);
    runtime.shutdown_timeout(REMAINS);
    ended
}

/// Threads that block begin when they are needed. There may be so many that deliveries
/// which wait for their buckets leave some to those by which they get on.
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .thread_name("consign")
        .max_blocking_threads(CONCURRENCY_MAX * HELD_BY_ONE + SPARE + AT_ONCE)
        .build()
}

/// Loads the configuration that `--config` names; warnings go to stderr.
pub fn config(global: &Global) -> Result<Config, CliError> {
    let config = Config::load(&global.config, &Environment::of_process())?;
    output::warnings(&config.warnings);
    Ok(config)
}

/// What to say where nothing will ever happen.
pub fn without_shares(global: &Global, config: &Config) -> Option<Problem> {
    config.shares.is_empty().then(|| {
        let message = "nothing will be delivered, because there is no share";
        let help = "add `[shares.NAME]`, or `include` the files that have them; config/minimal.toml is a start";
        Problem::warning(Location::file(&global.config), message, help)
    })
}

/// The same for who only looks at what has happened: an error in the configuration
/// that is there now is no reason not to tell.
pub fn config_as_it_is(global: &Global) -> Result<Config, CliError> {
    let (config, found) = Config::survey(&global.config, &Environment::of_process())?;
    if found.has_errors() && !global.json {
        let text = format!("warning: {}; `consign check` tells them", found.summary());
        output::stderr(Priority::Warning, &text);
    }
    Ok(config)
}

/// The configuration with a cache that this user may use: its own, or else a
/// temporary one. Looking must not make a cache that the daemon's user could
/// then not use; what was pulled into that is read nevertheless, since every byte
/// of it is held against its digest.
pub fn with_cache(config: Config) -> Result<(Config, Option<tempfile::TempDir>), CliError> {
    if is_ours(&config.daemon.cache_dir) {
        return Ok((config, None));
    }
    let cache = tempfile::Builder::new()
        .prefix("consign-cache-")
        .tempdir()
        .map_err(|error| CliError::internal("cannot make a temporary cache", &error))?;
    let configured = config.daemon.cache_dir.clone();
    let daemon =
        Daemon { cache_dir: cache.path().to_owned(), read_cache_dir: Some(configured), ..config.daemon.clone() };
    Ok((Config { daemon, ..config }, Some(cache)))
}

/// Says so when what was pulled is gone with this command.
pub fn tell_not_kept(config: &Config) {
    if let Some(dir) = config.daemon.read_cache_dir.as_ref().filter(|_| Depot::new(config).has_pulled()) {
        output::warn(&format!(
            "{} is not there or not this user's, so nothing was kept; the daemon fetches what is pinned when it starts",
            dir.display()
        ));
    }
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

/// Opens the configuration's ledger: takes its lock, or becomes one of its nodes.
pub fn ledger(config: &Config, clock: &Clock) -> Result<Ledger, CliError> {
    Ok(Ledger::of(config, clock.clone())?)
}

/// The same for who has something to tell the daemon, which does not listen.
pub fn idle_ledger(config: &Config, clock: &Clock) -> Result<Ledger, CliError> {
    Ledger::of(config, clock.clone()).map_err(|error| match error {
        LedgerError::Held { dir, holder } => {
            let message = format!("the ledger in {} is held by {holder}, which has no socket", dir.display());
            let help = "it may be starting, or sending something by hand: repeat this in a moment";
            CliError::new(Exit::Ledger, message, help)
        }
        error => error.into(),
    })
}

/// The configuration's ledger, to be read. None before the first run.
pub fn reader(config: &Config) -> Result<Option<Reader>, CliError> {
    match Reader::of(config) {
        Ok(reader) => Ok(Some(reader)),
        Err(LedgerError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A stall of all: each plugin waits for its bucket, and the parts that would go there wait for a thread.
    #[test]
    fn as_many_plugins_as_there_may_be_leave_threads_to_others() {
        let runtime = runtime().unwrap();
        let (begun, begins) = mpsc::channel();
        let waiting: Vec<_> = (0..CONCURRENCY_MAX)
            .map(|_| {
                let (go_on, goes_on) = mpsc::channel::<()>();
                let begun = begun.clone();
                runtime.spawn_blocking(move || {
                    begun.send(()).unwrap();
                    goes_on.recv()
                });
                go_on
            })
            .collect();
        let soon = Duration::from_secs(20);
        for number in 0..CONCURRENCY_MAX {
            begins.recv_timeout(soon).unwrap_or_else(|_| panic!("only {number} begin"));
        }
        let (done, is_done) = mpsc::channel();
        runtime.spawn_blocking(move || done.send(()));
        is_done.recv_timeout(soon).expect("a part finds no thread");
        drop(waiting);
    }
}
