//! `consign send`: one run of one share, now.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::TimeDelta;
use clap::Args;
use futures::{StreamExt, stream};
use serde::Serialize;

use super::output::{self, CliError, Exit, bytes, line, thousands};
use super::progress::Progress;
use super::{Global, setup};
use crate::clock::{Clock, Instant, exact};
use crate::config::{Config, Share};
use crate::delivery::Target;
use crate::domain::{CustomerName, Failure, MANIFEST_NAME, Manifest, RunId, Slot};
use crate::ledger::{Claim, DeliveryId, Ledger, LedgerError, RunState};
use crate::run::{self, NoJournal, Outcome, Parts, Recorder, Retrying, Stop, Work};

#[derive(Args)]
pub struct SendArgs {
    /// The share to run.
    share: String,

    /// Only to this customer; may be given more than once.
    #[arg(long = "customer", value_name = "CUSTOMER")]
    customers: Vec<String>,

    /// A firing of the share, such as `2026-03-01T06:00:00Z`; default: the latest one.
    #[arg(long, value_name = "INSTANT")]
    at: Option<Instant>,

    /// Write to this directory instead of the buckets: no AWS call, nothing recorded.
    #[arg(long, value_name = "DIR")]
    dry_run: Option<PathBuf>,
}

/// One share to send, everything looked up.
pub struct Sending {
    pub config: Arc<Config>,
    pub parts: Arc<Parts>,
    pub share: Arc<Share>,
    pub slot: Slot,
    pub customers: Vec<CustomerName>,
}

/// What came of it, customer by customer.
#[derive(Serialize)]
pub struct Report {
    pub slot: Slot,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    pub outcomes: Vec<Report1>,
}

/// How one customer fared.
#[derive(Serialize)]
pub struct Report1 {
    pub customer: CustomerName,
    pub state: State,
    /// Where the manifest is: `s3://bucket/key`, or a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The run that delivered it earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earlier: Option<RunId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Committed,
    AlreadyCommitted,
    Busy,
    /// Stored whole but not visible: the next `send` or `run` goes on from there.
    Sealed,
    Failed,
    Written,
}

pub async fn send(global: &Global, args: &SendArgs) -> Result<Exit, CliError> {
    let mut config = setup::config(global)?;
    let _cache;
    match &args.dry_run {
        None => config.check_secrets().into_result()?,
        Some(_) => (config, _cache) = setup::with_cache(config)?,
    }
    let config = Arc::new(config);
    let clock = Clock::system();
    let share = share(&config, &args.share)?;
    let customers = customers(&share, &args.customers)?;
    let slot = slot(&share, args.at, args.dry_run.is_some(), &clock)?;
    // The ledger first: when a daemon holds it, nothing else matters.
    let ledger = match &args.dry_run {
        None => Some(setup::ledger(&config, &clock)?),
        Some(_) => None,
    };
    let parts = Arc::new(Parts::build(&config, clock).await?);
    let sending = Sending { config, parts, share, slot, customers };
    let progress = Progress::start(!global.json, &sending.share.name, sending.customers.len());
    let report = match (&ledger, &args.dry_run) {
        (Some(ledger), _) => sending.to_buckets(ledger, &progress).await?,
        (None, dir) => sending.to_directory(dir.as_deref().unwrap_or(Path::new(".")), &progress).await,
    };
    progress.finish();
    if global.json {
        output::json(&report);
    } else {
        report.print();
    }
    Ok(report.exit())
}

impl Sending {
    /// Delivers, recorded in the ledger; a customer who has the slot is left alone.
    pub async fn to_buckets(&self, ledger: &Ledger, progress: &Progress) -> Result<Report, CliError> {
        self.take_up(ledger).await?;
        let started = ledger.start_manual(self.slot.clone(), self.customers.clone()).await?;
        let mut outcomes: Vec<Report1> = Vec::new();
        for (customer, run) in started.committed {
            outcomes.push(Report1 { earlier: Some(run), ..Report1::new(customer, State::AlreadyCommitted) });
        }
        for (customer, run) in started.busy {
            outcomes.push(Report1 { earlier: Some(run), ..Report1::new(customer, State::Busy) });
        }
        progress.skip(outcomes.len());
        let run = started.claim.as_ref().map(|claim| claim.run);
        if let Some(claim) = started.claim {
            outcomes.extend(self.deliver(ledger, &claim, progress).await?);
            finish(ledger, claim.run).await?;
        }
        outcomes.sort_by(|a, b| a.customer.cmp(&b.customer));
        Ok(Report { slot: started.slot, run, outcomes })
    }

    /// Brings to its end what an earlier process left of these deliveries. Whoever
    /// has the ledger's lock knows that nobody else is at work on them.
    async fn take_up(&self, ledger: &Ledger) -> Result<(), CliError> {
        for left in ledger.unfinished_of(&self.slot).await? {
            for delivery in left.deliveries.into_iter().filter(|open| self.customers.contains(&open.customer)) {
                let customer = delivery.customer.clone();
                self.recorder(ledger, left.run, &left.slot, &customer).resume(delivery).await?;
            }
            if left.state == RunState::Running {
                finish(ledger, left.run).await?;
            }
        }
        Ok(())
    }

    async fn deliver(&self, ledger: &Ledger, claim: &Claim, progress: &Progress) -> Result<Vec<Report1>, CliError> {
        let one = async |(customer, delivery): (CustomerName, DeliveryId)| {
            let work = self.work(&customer, claim.run, claim.slot.clone())?;
            let outcome = self.recorder(ledger, claim.run, &claim.slot, &customer).deliver(delivery).await?;
            progress.done(&customer);
            Ok::<_, CliError>(match outcome {
                Outcome::Committed(manifest) => {
                    let manifest_key = manifest_key(&work, &manifest);
                    let place = format!("s3://{}/{manifest_key}", work.customer.bucket);
                    Report1 {
                        place: Some(place),
                        manifest: Some(*manifest),
                        ..Report1::new(customer, State::Committed)
                    }
                }
                Outcome::Waits { failure, .. } => {
                    Report1 { failure: Some(failure), ..Report1::new(customer, State::Sealed) }
                }
                Outcome::Failed(failure) => Report1 { failure: Some(failure), ..Report1::new(customer, State::Failed) },
            })
        };
        let deliveries = stream::iter(claim.deliveries.clone()).map(one);
        let ended: Vec<_> = deliveries.buffer_unordered(self.config.daemon.concurrency).collect().await;
        ended.into_iter().collect()
    }

    fn recorder<'a>(
        &'a self,
        ledger: &'a Ledger,
        run: RunId,
        slot: &'a Slot,
        customer: &'a CustomerName,
    ) -> Recorder<'a> {
        let (parts, config) = (&*self.parts, &self.config);
        let (retrying, stop) = (Retrying::Person, Stop::never());
        Recorder { parts, ledger, config, run, slot, customer, retrying, stop }
    }

    /// Writes what would be delivered under `dir/<bucket>/`, and records nothing.
    pub async fn to_directory(&self, dir: &Path, progress: &Progress) -> Report {
        let run = RunId::new(self.parts.clock.now());
        let one = async |customer: CustomerName| {
            let written = match self.work(&customer, run, self.slot.clone()) {
                Ok(work) => {
                    let target = Target::directory(&self.parts.vendor, dir.to_owned(), &work.customer);
                    let (journal, stop) = (Arc::new(NoJournal), Stop::never());
                    let delivered = run::deliver(&self.parts, &work, 1, target, journal, &stop).await;
                    delivered.map(|done| (work, done.manifest))
                }
                Err(failure) => Err(failure),
            };
            progress.done(&customer);
            match written {
                Ok((work, manifest)) => {
                    let place = dir.join(work.customer.bucket.as_str()).join(manifest_key(&work, &manifest));
                    let place = Some(place.display().to_string());
                    Report1 { place, manifest: Some(manifest), ..Report1::new(customer, State::Written) }
                }
                Err(failure) => Report1 { failure: Some(failure), ..Report1::new(customer, State::Failed) },
            }
        };
        let outcomes = stream::iter(self.customers.clone()).map(one);
        let mut outcomes: Vec<_> = outcomes.buffer_unordered(self.config.daemon.concurrency).collect().await;
        outcomes.sort_by(|a, b| a.customer.cmp(&b.customer));
        Report { slot: self.slot.clone(), run: Some(run), outcomes }
    }

    fn work(&self, customer: &CustomerName, run: RunId, slot: Slot) -> Result<Work, Failure> {
        Work::new(&self.config, &slot, customer, run)
    }
}

/// Ends a run, unless something of it is left for a later process.
async fn finish(ledger: &Ledger, run: RunId) -> Result<(), LedgerError> {
    match ledger.run_finished(run).await {
        Ok(_) | Err(LedgerError::StillOpen { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Report1 {
    fn new(customer: CustomerName, state: State) -> Self {
        Self { customer, state, place: None, manifest: None, failure: None, earlier: None }
    }

    fn print(&self) {
        let Report1 { customer, state, .. } = self;
        match state {
            State::Committed | State::Written => {
                let rows = self.manifest.as_ref().map_or(0, |manifest| manifest.rows);
                let word = if *state == State::Committed { "delivered" } else { "written" };
                line(&format!("  {customer:<14} {word}  {} rows", thousands(rows)));
                self.print_objects();
            }
            State::AlreadyCommitted => {
                let run = self.earlier.map(|run| run.to_string()).unwrap_or_default();
                line(&format!("  {customer:<14} was delivered before, by run {run}"));
            }
            State::Busy => {
                let run = self.earlier.map(|run| run.to_string()).unwrap_or_default();
                line(&format!("  {customer:<14} waits in run {run}; `consign run` takes it up"));
            }
            State::Failed | State::Sealed => {
                let word = match state {
                    State::Sealed => "is stored, but not yet to be seen; send it again to go on from there:",
                    _ => "FAILED",
                };
                if let Some(failure) = &self.failure {
                    line(&format!("  {customer:<14} {word}  {failure}"));
                    if !failure.remedy.is_empty() {
                        line(&format!("    help: {}", failure.remedy.replace('\n', "\n    ")));
                    }
                }
            }
        }
    }

    fn print_objects(&self) {
        let (Some(manifest), Some(place)) = (&self.manifest, &self.place) else { return };
        let base = place.strip_suffix(&format!("/{MANIFEST_NAME}")).unwrap_or(place);
        line(&format!("    {base}/"));
        let row = |object: &crate::domain::ManifestObject| {
            let name = object.key.rsplit('/').next().unwrap_or(&object.key).to_owned();
            let rows = format!("{} rows", thousands(object.rows));
            vec![format!("      {name}"), bytes(object.bytes), rows, format!("crc64nvme {}", object.checksum_crc64nvme)]
        };
        const SHOWN: usize = 6;
        let rows: Vec<_> = manifest.objects.iter().take(SHOWN).map(row).collect();
        output::rows(&rows);
        if manifest.objects.len() > SHOWN {
            line(&format!("      … and {} more, all in the manifest", manifest.objects.len() - SHOWN));
        }
        line(&format!("      {MANIFEST_NAME}"));
    }
}

impl Report {
    pub fn print(&self) {
        let run = self.run.map(|run| format!(", run {run}")).unwrap_or_default();
        let (start, end) = (exact(self.slot.interval.start), exact(self.slot.interval.end));
        line(&format!("{}: slot {}{run}", self.slot.share, exact(self.slot.at)));
        line(&format!("  data from {start} to {end}"));
        for outcome in &self.outcomes {
            outcome.print();
        }
    }

    /// Failed when any customer did not get the slot.
    pub fn exit(&self) -> Exit {
        let bad = |outcome: &Report1| matches!(outcome.state, State::Failed | State::Sealed | State::Busy);
        if self.outcomes.iter().any(bad) { Exit::Failed } else { Exit::Done }
    }
}

fn manifest_key(work: &Work, manifest: &Manifest) -> String {
    work.manifest_key().map_or_else(|_| format!("{}/{MANIFEST_NAME}", manifest.share), |key| key.to_string())
}

pub fn share(config: &Config, name: &str) -> Result<Arc<Share>, CliError> {
    config.shares.get(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = config.shares.keys().map(|name| name.as_str()).collect();
        CliError::new(Exit::Failed, format!("there is no share '{name}'"), format!("shares are: {}", names.join(", ")))
    })
}

pub fn customers(share: &Share, wanted: &[String]) -> Result<Vec<CustomerName>, CliError> {
    if wanted.is_empty() {
        return Ok(share.to.clone());
    }
    let find = |name: &String| {
        share.to.iter().find(|customer| customer.as_str() == name).cloned().ok_or_else(|| {
            let names: Vec<&str> = share.to.iter().map(|name| name.as_str()).collect();
            let message = format!("share {} does not go to '{name}'", share.name);
            CliError::new(Exit::Failed, message, format!("it goes to: {}", names.join(", ")))
        })
    };
    let mut found: Vec<CustomerName> = wanted.iter().map(find).collect::<Result<_, _>>()?;
    found.sort();
    found.dedup();
    Ok(found)
}

/// The slot of the firing at `at`, or of the latest one. With `early` it may be yet to come.
pub fn slot(share: &Share, at: Option<Instant>, early: bool, clock: &Clock) -> Result<Slot, CliError> {
    let (calendar, now) = (&share.calendar, clock.now());
    let refused = |what: String, help: String| CliError::new(Exit::Failed, what, help);
    let never = || refused(format!("share {} has never fired", share.name), "give --at INSTANT".to_owned());
    // `previous` is strictly before, and a firing of this very second counts.
    let latest = |at: Instant| calendar.previous(at.checked_add_signed(TimeDelta::microseconds(1))?);
    let at = match at {
        None => latest(now).ok_or_else(never)?,
        Some(at) if latest(at) == Some(at) => at,
        Some(at) => {
            let around = [latest(at), calendar.next(at)].into_iter().flatten().map(exact).collect::<Vec<_>>();
            let what = format!("share {} does not fire at {}", share.name, exact(at));
            let help = format!("a slot is one firing of the share's schedule; the nearest: {}", around.join(" and "));
            return Err(refused(what, help));
        }
    };
    if at > now && !early {
        let what = format!("the slot {} of share {} is yet to come", exact(at), share.name);
        let help = match latest(now) {
            Some(last) => format!("its data are complete at that time only; the latest firing was {}", exact(last)),
            None => "its data are complete at that time only".to_owned(),
        };
        return Err(refused(what, help));
    }
    Ok(Slot { share: share.name.clone(), at, interval: calendar.slot_at(at) })
}
