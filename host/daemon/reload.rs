//! Reads the configuration again while deliveries go on, and hands it to the loop
//! when all of it is good: because somebody asks, at SIGHUP, or because its files
//! have changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

use super::admin::Order;
use super::admin::ask::{Named, Reloaded};
use super::generation::{Generation, needs_restart};
use super::intake;
use crate::check::{self, Checked, Earlier, Unsound};
use crate::clock::Clock;
use crate::config::{Config, ConfigErrors, Environment, Location, Look, Watched, rendered};
use crate::domain::{Blame, PluginName, Refused};
use crate::ledger::Ledger;
use crate::registry::Fetch;
use crate::run::Parts;
use crate::schedule::Planner;

/// How often the files are looked at. They are read when two looks in a row are
/// alike, so that nothing half written is taken.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a configuration is left alone that was refused for something that may
/// pass: the first time, and at most.
const AGAIN_AFTER: Duration = LOOK_EVERY;
const AGAIN_MAX: Duration = Duration::from_secs(300);

/// Shares, or customers, that may always go at once.
const GO_MAX: usize = 4;

/// What to do where that was meant.
const REMOVES: &str = "`consign reload --remove` takes it";

/// A configuration that can be carried out.
pub(super) struct Loaded {
    pub config: Arc<Config>,
    pub parts: Arc<Parts>,
    pub planner: Planner,
    /// Laid out for people.
    pub warnings: Vec<String>,
    /// What it has that the running one has not, and the other way round.
    pub added: Named,
    pub removed: Named,
}

pub(super) struct Reloader {
    path: PathBuf,
    clock: Clock,
    ledger: Ledger,
    desk: mpsc::Sender<Order>,
    current: watch::Receiver<Arc<Generation>>,
    /// Held while the files are read.
    turn: Mutex<Turn>,
}

struct Turn {
    watched: Watched,
    /// How the files looked before they were last read.
    read: Look,
    last: Option<Last>,
    /// They are to be read again then, though they have not changed.
    again: Option<Again>,
}

#[derive(Clone, Copy)]
struct Again {
    at: Instant,
    pause: Duration,
}

impl Again {
    /// None when the configuration was taken, or is itself wrong.
    fn after(ended: &Result<Reloaded, Refused>, earlier: Option<Self>) -> Option<Self> {
        let refused = ended.as_ref().err().filter(|refused| refused.blame != Blame::Config)?;
        let pause = earlier.map_or(AGAIN_AFTER, |earlier| (earlier.pause * 2).min(AGAIN_MAX));
        tracing::debug!(why = refused.message, pause = pause.as_secs(), "to be read again");
        Some(Self { at: Instant::now() + pause, pause })
    }
}

/// The last reload.
struct Last {
    began: Instant,
    may_remove: bool,
    ended: Result<Reloaded, Refused>,
}

impl Reloader {
    pub fn new(
        path: PathBuf,
        clock: Clock,
        ledger: Ledger,
        desk: mpsc::Sender<Order>,
        current: watch::Receiver<Arc<Generation>>,
    ) -> Self {
        let watched = Watched::of(&path, &current.borrow().config);
        let turn = Mutex::new(Turn { read: watched.look(), watched, last: None, again: None });
        Self { path, clock, ledger, desk, current, turn }
    }

    /// Goes over to what the files say now, or stays with what there is. Who asks
    /// while another reload is under way waits for it, and then for the next one,
    /// which all who wait have in common. One that lacks most of what the running one
    /// has is taken only if it `may_remove` that.
    pub async fn reload(self: Arc<Self>, may_remove: bool) -> Result<Reloaded, Refused> {
        let asked = Instant::now();
        let mut turn = self.turn.lock().await;
        let is_common = |last: &&Last| last.began >= asked && (last.may_remove || !may_remove);
        if let Some(last) = turn.last.as_ref().filter(is_common) {
            return last.ended.clone();
        }
        let began = Instant::now();
        self.order(Order::Reloading).await?;
        let before = tokio::task::block_in_place(|| turn.watched.look());
        let reading = self.clone();
        // A task, so that a fault in it is an answer too.
        let (loaded, watched) = match tokio::spawn(async move { reading.load(may_remove).await }).await {
            Ok(read) => read,
            Err(error) => (Err(Refused::new(Blame::Machine, format!("a fault in consign: {error}"), "")), None),
        };
        if let Some(watched) = watched {
            turn.watched = watched;
        }
        turn.read = tokio::task::block_in_place(|| turn.watched.look()).as_before(before);
        let (done, ended) = oneshot::channel();
        self.order(Order::Reloaded { loaded: loaded.map(Box::new), done }).await?;
        let ended = ended.await.unwrap_or_else(|_| Err(stopping()));
        turn.again = Again::after(&ended, turn.again);
        turn.last = Some(Last { began, may_remove, ended: ended.clone() });
        ended
    }

    /// While what it returns is held, no other configuration is read or taken.
    pub async fn stays(&self) -> impl Drop + '_ {
        self.turn.lock().await
    }

    async fn order(&self, order: Order) -> Result<(), Refused> {
        self.desk.send(order).await.map_err(|_| stopping())
    }

    /// And which files to watch from now on.
    async fn load(&self, may_remove: bool) -> (Result<Loaded, Refused>, Option<Watched>) {
        let surveyed = tokio::task::block_in_place(|| Config::survey(&self.path, &Environment::of_process()));
        let (config, mut found) = match surveyed {
            Ok(surveyed) => surveyed,
            Err(errors) => {
                let watched = Watched::of(&self.path, &self.current.borrow().config).and(&errors);
                return (Err(errors.into()), Some(watched));
            }
        };
        let watched = Watched::of(&self.path, &config);
        for missing in config.check_secrets().problems() {
            found.push(missing.clone());
        }
        let running = self.current.borrow().clone();
        fixed(&running.config, &config, &mut found);
        let parts = &*running.parts;
        let earlier = |plugin: &PluginName| Some(Earlier::running(&config, plugin, parts.digest(plugin)?));
        let checked = check::check(&config, &self.clock, found, Fetch::Missing, Some(parts), earlier).await;
        let checked = checked.map_err(|unsound| match unsound {
            Unsound::Config(errors) => errors.into(),
            Unsound::Failure(failure) => failure.into(),
        });
        let loaded = match checked {
            Ok(checked) => self.make_ready(&running.config, config, checked, may_remove).await,
            Err(refused) => Err(refused),
        };
        (loaded, Some(watched))
    }

    /// Does here what would hold the loop up.
    async fn make_ready(
        &self,
        running: &Config,
        config: Config,
        checked: Checked,
        may_remove: bool,
    ) -> Result<Loaded, Refused> {
        let Checked { parts, warnings, .. } = checked;
        let (added, removed) = (Named::missing(&config, running), Named::missing(running, &config));
        if !may_remove {
            self.keeps_most(running, &config, &removed)?;
        }
        let planner = intake::planner(&self.ledger, &config, self.clock.now()).await?;
        let warnings = rendered(&warnings, false);
        Ok(Loaded { config: Arc::new(config), parts: Arc::new(parts), planner, warnings, added, removed })
    }

    /// Files that are cut off, or not all there yet, are a configuration too: what waits for those
    /// who are not in it would fail for good.
    fn keeps_most(&self, running: &Config, config: &Config, removed: &Named) -> Result<(), Refused> {
        let (shares, customers) = (running.shares.len(), running.customers.len());
        let is_most = |gone: usize, of: usize| gone > GO_MAX && gone > of / 2;
        let mut found = ConfigErrors::new();
        let mut lacks = |what: String| {
            found.at(Location::file(&self.path), what, "put back what is missing, if it is");
        };
        match (config.shares.is_empty(), removed.shares.told("share")) {
            (true, Some(gone)) => lacks(format!("no share is left: {gone} would go")),
            (false, Some(gone)) if is_most(removed.shares.count, shares) => {
                lacks(format!("of {shares} shares most would go: {gone}"));
            }
            _ => {}
        }
        match removed.customers.told("customer") {
            Some(gone) if is_most(removed.customers.count, customers) => {
                lacks(format!("of {customers} customers most would go: {gone}"));
            }
            _ => {}
        }
        match found.has_errors() {
            true => Err(Refused { help: REMOVES.to_owned(), ..found.into() }),
            false => Ok(()),
        }
    }

    /// Reloads at each SIGHUP, and whenever the files have changed if the
    /// configuration says `watch = true`. Never ends. What comes of it the loop logs.
    pub async fn keep(self: Arc<Self>, mut hangup: Signal) {
        let mut seen: Option<Look> = None;
        loop {
            tokio::select! {
                Some(()) = hangup.recv() => {
                    tracing::info!("SIGHUP: reading the configuration again");
                    drop(self.clone().reload(false).await);
                }
                () = sleep(LOOK_EVERY) => {
                    if !self.current.borrow().config.daemon.watch {
                        seen = None;
                        continue;
                    }
                    let (look, is_read, again) = self.look().await;
                    let is_quiet = seen.as_ref() == Some(&look);
                    if is_quiet && !is_read {
                        tracing::info!("the configuration's files have changed: reading them again");
                        drop(self.clone().reload(false).await);
                    } else if is_quiet && again.is_some_and(|again| again.at <= Instant::now()) {
                        tracing::info!("the configuration could not be taken: reading it again");
                        drop(self.clone().reload(false).await);
                    }
                    seen = Some(look);
                }
            }
        }
    }

    /// How the files look now, whether they have been read like that, and when they are to be read all the same.
    async fn look(&self) -> (Look, bool, Option<Again>) {
        let turn = self.turn.lock().await;
        let look = tokio::task::block_in_place(|| turn.watched.look());
        let is_read = look == turn.read;
        (look, is_read, turn.again)
    }
}

/// What cannot change while the daemon runs.
fn fixed(running: &Config, new: &Config, found: &mut ConfigErrors) {
    for key in needs_restart(running, new) {
        let path: Vec<&str> = key.split('.').collect();
        let message = format!("`{key}` cannot change while consign runs");
        found.at(new.locate(&path), message, "put back what was there, or restart consign");
    }
}

pub(super) fn stopping() -> Refused {
    Refused::request("consign is stopping", "the next start reads the configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each key by itself, where it is written.
    #[test]
    fn what_cannot_change_is_pointed_at() {
        let dir = tempfile::tempdir().unwrap();
        let config = |text: &str| {
            let path = dir.path().join("consign.toml");
            std::fs::write(&path, text).unwrap();
            Config::load(&path, &Environment::from_pairs::<String, String>([]))
                .unwrap_or_else(|errors| panic!("{errors}"))
        };
        let refused = |old: &str, new: &str| {
            let mut found = ConfigErrors::new();
            fixed(&config(old), &config(new), &mut found);
            let told = |problem: &crate::config::Problem| {
                let key = problem.message.split('`').nth(1).unwrap_or_default();
                format!("{} {key}", problem.location.line())
            };
            found.problems().iter().map(told).collect::<Vec<_>>()
        };
        let ledger = |url: &str, schema: &str, lease: &str| {
            format!("[ledger]\nurl = \"postgres://{url}/c\"\nschema = \"{schema}\"\nlease = \"{lease}\"\n")
        };
        let old = ledger("a", "one", "30s");
        assert_eq!(refused(&old, &old), Vec::<String>::new());
        assert_eq!(refused(&old, &ledger("b", "one", "30s")), ["2 ledger.url"]);
        assert_eq!(refused(&old, &ledger("a", "two", "60s")), ["3 ledger.schema", "4 ledger.lease"]);
        assert_eq!(refused(&old, "[ledger]\nretention = \"30d\"\n"), ["1 ledger.url"]);
        assert_eq!(refused("# nothing yet", &old), ["2 ledger.url"]);
        let moved = "[daemon]\nstate_dir = \"elsewhere\"\n";
        assert_eq!(refused("[daemon]\ncache_dir = \"cache\"\n", moved), ["2 daemon.state_dir", "1 daemon.cache_dir"]);
    }
}
