//! What `consign status` tells: what is wrong, what is at work, what is to come.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::{Instant, ahead_from};
use crate::config::{Config, Plugin};
use crate::domain::{ContentDigest, CustomerName, Mode, Refused, RunId, ShareName};
use crate::ledger::{
    Exposed, FailedShare, Failing, History, LedgerError, Origins, Pause, Quarantine, Reader, RunSummary, Standing,
    Unready, Waiting,
};
use crate::run::quarantine;

/// Entries of each list.
const LISTED: usize = 50;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overview {
    /// None when no daemon runs.
    pub daemon: Option<Running>,
    /// None when there is no ledger yet.
    pub ledger: Option<Kept>,
}

/// A daemon, as it knows itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    pub pid: u32,
    pub version: String,
    pub config: PathBuf,
    pub state_dir: PathBuf,
    pub started: Instant,
    /// None when its loop does not answer.
    pub now: Option<Now>,
}

/// What its loop says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Now {
    /// Of the configuration: 1 at the start, one more with each that took its place.
    pub generation: u64,
    pub since: Instant,
    pub stopping: bool,
    /// Why nothing new begins, if the ledger cannot be written.
    pub unable: Option<String>,
    pub shares: usize,
    pub customers: usize,
    /// Deliveries at work at the same time, at most.
    pub concurrency: usize,
    /// Deliveries since the start.
    pub delivered: u64,
    pub failed: u64,
    /// Slots since the start that nobody got, or not everybody.
    pub left_out: u64,
    /// Buckets that do not answer, by name.
    #[serde(default)]
    pub shut: Vec<Shut>,
    /// Customers for whose roles STS does not answer, by name.
    #[serde(default)]
    pub unasked: Vec<Unasked>,
    /// How far what is at work here is.
    #[serde(default)]
    pub at_work: Vec<Moving>,
    /// The next slots that are due.
    pub next: Vec<(ShareName, Instant)>,
    pub reload: Option<LastReload>,
}

/// A bucket in which nothing is begun for a while, because it did not answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shut {
    pub bucket: String,
    /// None while one delivery tries.
    pub until: Option<Instant>,
}

/// A customer for whom nothing is begun for a while, because STS did not answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unasked {
    pub customer: CustomerName,
    /// None while one delivery tries.
    pub until: Option<Instant>,
    /// What is wrong on this side, where it is not STS that is silent.
    #[serde(default)]
    pub why: Option<String>,
}

/// A delivery at work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Moving {
    pub run: RunId,
    pub customer: CustomerName,
    /// Of the configuration that it began with.
    pub generation: u64,
    /// Read from the dataset.
    pub rows: u64,
    /// Written by the plugin, before compression.
    pub bytes: u64,
    /// That the bucket has.
    pub parts: u64,
    /// Since anything of it moved; None when nothing has yet.
    pub still_seconds: Option<u64>,
}

/// How the last reload ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastReload {
    pub at: Instant,
    /// Why the configuration was not taken; None if it was.
    pub refused: Option<Refused>,
}

/// What the ledger knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    pub size_bytes: u64,
    /// When it was made, and when it was restored.
    #[serde(default)]
    pub origins: Origins,
    pub standing: Standing,
    pub paused: Vec<Pause>,
    /// Shares of the configuration that were planned ahead of the clock, the furthest first.
    #[serde(default)]
    pub ahead: Vec<Ahead>,
    /// As many there are, however many are listed.
    #[serde(default)]
    pub ahead_count: u64,
    /// Plugins in quarantine, by name.
    #[serde(default)]
    pub quarantined: Vec<Halted>,
    /// Customers to whom nothing is delivered for now, by name.
    #[serde(default)]
    pub unready: Vec<NotReady>,
    /// Customers to whom deliveries go although somebody else may get at their buckets, by name.
    #[serde(default)]
    pub exposed: Vec<Exposed>,
    /// What somebody lacks of what is configured, the newest first.
    pub failed: Vec<FailedShare>,
    /// As many there are, however many are listed.
    #[serde(default)]
    pub failed_count: u64,
    pub last: Option<RunSummary>,
}

/// A plugin of which nothing is started, and what waits for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Halted {
    #[serde(flatten)]
    pub quarantine: Quarantine,
    pub waiting: Waiting,
    /// What ends it.
    pub remedy: String,
}

/// A customer whose own set-up refuses deliveries, and what waits for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NotReady {
    /// With the remedy, in `failure`.
    #[serde(flatten)]
    pub unready: Unready,
    /// Deliveries.
    pub waiting: u64,
}

/// A share that does not fire until the clock is where it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ahead {
    pub share: ShareName,
    /// It is planned so far.
    pub planned: Instant,
    /// Its first slot after that; None if there is none.
    pub fires: Option<Instant>,
}

impl Kept {
    /// `digest` is of the component that a plugin is.
    pub async fn read(
        reader: &Reader,
        config: &Arc<Config>,
        digest: impl Fn(&Plugin) -> Option<ContentDigest>,
        now: Instant,
    ) -> Result<Self, LedgerError> {
        let ahead = reader.ahead(ahead_from(now)).await?;
        let known = ahead.into_iter().filter_map(|(share, planned)| {
            let fires = config.shares.get(&share)?.calendar.next(planned);
            Some(Ahead { share, planned, fires })
        });
        let mut ahead: Vec<Ahead> = known.collect();
        let ahead_count = ahead.len() as u64;
        ahead.truncate(LISTED);
        let Failing { shares: failed_count, list: failed } = reader.failing(delivered(config), LISTED).await?;
        Ok(Self {
            size_bytes: reader.bytes().await?,
            origins: reader.origins().await?,
            standing: reader.standing_now(LISTED, now).await?,
            paused: reader.pauses().await?,
            quarantined: halted(reader, config, digest).await?,
            unready: unready(reader, config).await?,
            exposed: exposed(reader, config).await?,
            ahead,
            ahead_count,
            failed,
            failed_count,
            last: reader.history(History { limit: 1, ..History::default() }).await?.into_iter().next(),
        })
    }
}

/// To whom a share is delivered, and how its slots are to each other.
fn delivered(config: &Arc<Config>) -> impl Fn(&ShareName, &CustomerName) -> Option<Mode> + Send + 'static {
    let config = config.clone();
    move |share, customer| {
        let share = config.shares.get(share)?;
        share.goes_to(customer).then_some(share.mode)
    }
}

/// Of those that are configured.
async fn unready(reader: &Reader, config: &Config) -> Result<Vec<NotReady>, LedgerError> {
    let all = reader.unready().await?.into_iter().map(|(unready, waiting)| NotReady { unready, waiting });
    Ok(all.filter(|found| config.customers.contains_key(&found.unready.customer)).collect())
}

async fn exposed(reader: &Reader, config: &Config) -> Result<Vec<Exposed>, LedgerError> {
    let all = reader.exposed().await?.into_iter();
    Ok(all.filter(|found| config.customers.contains_key(&found.customer)).collect())
}

async fn halted(
    reader: &Reader,
    config: &Config,
    digest: impl Fn(&Plugin) -> Option<ContentDigest>,
) -> Result<Vec<Halted>, LedgerError> {
    let all = reader.quarantined().await?;
    let mut halted = Vec::new();
    for (plugin, quarantine) in quarantine::quarantined(config, digest, &all) {
        let remedy = quarantine::remedy(&plugin);
        let one = BTreeMap::from([(plugin.clone(), quarantine.clone())]);
        let waiting = reader.waiting(quarantine::shares_of(config, &one)).await?;
        halted.push(Halted { quarantine: Quarantine { plugin, ..quarantine }, waiting, remedy });
    }
    Ok(halted)
}
