//! `consign send`: one run of one share, now.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use futures::{StreamExt, stream};

use super::client::Client;
use super::log::Priority;
use super::output::{self, CliError, Exit};
use super::progress::Progress;
use super::{Global, report, setup, waiting};
use crate::clock::{Clock, Instant, to_the_second};
use crate::config::{Config, Share};
use crate::crash::{self, Point};
use crate::daemon::admin::ask::Ask;
use crate::delivery::Target;
use crate::domain::{CustomerName, Failure, Layer, Manifest, Refused, Retry, RunId, Slot};
use crate::ledger::{Claim, DeliveryId, DeliveryState, Ledger, LedgerError, OnRecord, RunState, Unfinished};
use crate::run::{
    self, Fared, Fate, Gauge, NoJournal, Outcome, Parts, Recorder, Report, Retrying, Stop, Stopper, Turn, Work,
    quarantine, wanted,
};

#[derive(Args)]
pub struct SendArgs {
    /// The share to run.
    share: String,

    /// Only to this customer; may be given more than once.
    #[arg(long = "customer", value_name = "CUSTOMER")]
    customers: Vec<String>,

    /// A firing of the share, such as `2026-03-01T06:00:00Z`, or a slot that it had by an
    /// earlier schedule; default: the latest one.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    at: Option<Instant>,

    /// Return as soon as the running daemon has begun it.
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,

    /// Write to this directory instead of the buckets: no AWS call, nothing recorded.
    #[arg(long, value_name = "DIR")]
    dry_run: Option<PathBuf>,

    /// Make what was delivered again, to nowhere, and compare: no AWS call, nothing recorded.
    ///
    /// Objects, rows, bytes and checksums must be those on record. The same data give the
    /// same bytes; where they do not, the data, the query or the plugin has changed.
    #[arg(long, conflicts_with_all = ["dry_run", "detach"])]
    verify: bool,
}

fn instant(text: &str) -> Result<Instant, &'static str> {
    text.parse().map_err(|_| "it is not an instant; write for example 2026-03-01T06:00:00Z")
}

/// One share to send, everything looked up.
pub struct Sending {
    pub config: Arc<Config>,
    pub parts: Arc<Parts>,
    pub slot: Slot,
    pub customers: Vec<CustomerName>,
}

pub async fn send(global: &Global, args: &SendArgs) -> Result<Exit, CliError> {
    if args.verify {
        return verify(global, args).await;
    }
    if args.dry_run.is_none()
        && let Some(client) = Client::connect(global).await?
    {
        let (share, at, customers) = (args.share.clone(), args.at, args.customers.clone());
        return waiting::run(global, client, Ask::Send { share, at, customers, wait: !args.detach }).await;
    }
    if args.detach {
        return Err(waiting::nobody());
    }
    let mut config = setup::config(global)?;
    let _cache;
    match &args.dry_run {
        None => config.check_secrets().into_result()?,
        Some(_) => (config, _cache) = setup::with_cache(config)?,
    }
    let config = Arc::new(config);
    let clock = Clock::system();
    let share = wanted::share(&config, &args.share)?;
    let customers = wanted::customers(&share, &args.customers)?;
    let now = clock.now();
    // The ledger first: when a daemon holds it, nothing else matters.
    let (ledger, known) = match &args.dry_run {
        None => {
            // Whoever asks for what is no slot makes none.
            if matches!(setup::reader(&config), Ok(None)) {
                wanted::slot(&share, args.at, false, now, &OnRecord::default())?;
            }
            let ledger = setup::ledger(&config, &clock)?;
            let known = wanted::known(ledger.reader(), &share, args.at, now).await?;
            (Some(ledger), known)
        }
        Some(_) => (None, known(&config, &share, args.at, now).await),
    };
    let slot = wanted::slot(&share, args.at, args.dry_run.is_some(), now, &known)?;
    let parts = Arc::new(Parts::build(&config, clock).await?);
    let sending = Sending { config, parts, slot, customers };
    let progress = Progress::start(!global.json, &sending.slot.share, sending.customers.len());
    let made = match (&ledger, &args.dry_run) {
        (Some(ledger), _) => sending.to_buckets(ledger, &progress).await?,
        (None, dir) => sending.to_directory(dir.as_deref().unwrap_or(Path::new(".")), &progress).await,
    };
    progress.finish();
    Ok(show(global, &made))
}

/// Whoever only tries something needs no ledger.
async fn known(config: &Config, share: &Share, at: Option<Instant>, now: Instant) -> OnRecord {
    let known = match setup::reader(config) {
        Ok(Some(reader)) => wanted::known(&reader, share, at, now).await.map_err(CliError::from),
        Ok(None) => Ok(OnRecord::default()),
        Err(error) => Err(error),
    };
    known.unwrap_or_else(|error| {
        let text = format!("warning: whether the slot is on record is not known: {}", error.message);
        output::stderr(Priority::Warning, &text);
        OnRecord::default()
    })
}

/// Beside a running daemon too: it reads the ledger, and writes nothing.
async fn verify(global: &Global, args: &SendArgs) -> Result<Exit, CliError> {
    let (config, _cache) = setup::with_cache(setup::config(global)?)?;
    let config = Arc::new(config);
    let clock = Clock::system();
    let share = wanted::share(&config, &args.share)?;
    let customers = wanted::customers(&share, &args.customers)?;
    let (now, reader) = (clock.now(), setup::reader(&config)?);
    let known = match &reader {
        Some(reader) => wanted::known(reader, &share, args.at, now).await?,
        None => OnRecord::default(),
    };
    let slot = wanted::slot(&share, args.at, false, now, &known)?;
    let on_record = match &reader {
        Some(reader) => reader.delivered(&slot.share, slot.at).await?,
        None => Vec::new(),
    };
    let parts = Arc::new(Parts::build(&config, clock).await?);
    let progress = Progress::start(!global.json, &slot.share, customers.len());
    let one = async |customer: CustomerName| {
        let Some(delivered) = on_record.iter().find(|delivered| delivered.customer == customer) else {
            return Fared::failed(customer, Fate::Failed, not_on_record());
        };
        let verified = match Work::new(&config, &slot, &customer, delivered.run) {
            Ok(work) => run::verify(&parts, &work, delivered).await,
            Err(failure) => Err(failure),
        };
        progress.done(&customer);
        match verified {
            Ok(differences) => Fared::verified(customer, delivered.run, differences),
            Err(failure) => Fared::failed(customer, Fate::Failed, failure),
        }
    };
    let outcomes = stream::iter(customers).map(one).buffer_unordered(config.daemon.concurrency).collect().await;
    progress.finish();
    Ok(show(global, &Report { slot, run: None, outcomes }.sorted()))
}

fn not_on_record() -> Failure {
    let message = "the ledger has no delivery of this slot to compare with";
    let remedy = "`consign history --share SHARE` lists what was delivered; `ledger.retention` says for how long";
    Failure::new(Layer::Local, Retry::Never, message, remedy)
}

/// Tells what came of it.
pub fn show(global: &Global, made: &Report) -> Exit {
    match global.json {
        true => output::json(made),
        false => report::print(made),
    }
    report::exit(made)
}

impl Sending {
    /// Delivers, recorded in the ledger; a customer who has the slot is left alone.
    pub async fn to_buckets(&self, ledger: &Ledger, progress: &Progress) -> Result<Report, CliError> {
        self.may_begin(ledger).await?;
        if self.is_early(&self.slot) {
            let Failure { message, remedy, .. } = run::yet_to_come(&self.slot);
            return Err(Refused::request(message, remedy).into());
        }
        let tried = self.take_up(ledger).await?;
        let had_their_try: BTreeSet<&CustomerName> = tried.iter().map(|fared| &fared.customer).collect();
        let others = self.customers.iter().filter(|customer| !had_their_try.contains(customer)).cloned().collect();
        let started = ledger.start_manual(self.slot.clone(), others).await?;
        let mut report = Report::of(&started);
        report.outcomes.extend(tried);
        progress.skip(report.outcomes.len());
        if let Some(claim) = started.claim {
            crash::point(Point::Claimed);
            report.outcomes.extend(self.deliver(ledger, &claim, progress).await?);
            finish(ledger, claim.run).await?;
        }
        Ok(report.sorted())
    }

    /// Nobody has it wait here until its plugin is let go.
    async fn may_begin(&self, ledger: &Ledger) -> Result<(), CliError> {
        let Some(share) = self.config.shares.get(&self.slot.share) else { return Ok(()) };
        let all = ledger.quarantined().await?;
        Ok(quarantine::may_begin(&self.config, &self.parts, share, &all)?)
    }

    /// What waits for its time is the next daemon's, who has it wait.
    fn is_early(&self, slot: &Slot) -> bool {
        slot.is_early(self.parts.clock.now())
    }

    /// Whether another slot of the share could be in the way, which nobody else may bring to its end.
    fn in_order(&self) -> bool {
        self.config.shares.get(&self.slot.share).is_some_and(|share| share.is_in_order())
    }

    /// Goes on with what an earlier process left of these deliveries, once nothing is in their way. Whoever has
    /// the ledger's lock knows that nobody else is at work on them. Tells how those fared who had their try by this.
    async fn take_up(&self, ledger: &Ledger) -> Result<Vec<Fared>, CliError> {
        let unfinished = ledger.unfinished_of(&self.slot, self.in_order()).await?;
        let unfinished = unfinished.into_iter().filter(|left| !self.is_early(&left.slot));
        let (asked, others): (Vec<_>, Vec<_>) = unfinished.partition(|left| left.slot.at == self.slot.at);
        for left in others {
            self.clear(ledger, left).await?;
        }
        let mut tried = Vec::new();
        for left in asked {
            tried.extend(self.go_on(ledger, left).await?);
        }
        Ok(tried)
    }

    /// Of another slot of the share only what is in the way of this one, and by its own rule: what is on schedule
    /// waits for its next try.
    async fn clear(&self, ledger: &Ledger, left: Unfinished) -> Result<(), CliError> {
        let Unfinished { run, slot, origin, deadline, state, deliveries, .. } = left;
        let (stopper, mut open) = (Stopper::default(), 0);
        for delivery in deliveries.into_iter().filter(|delivery| !delivery.state.has_ended()) {
            let is_in_the_way = matches!(delivery.state, DeliveryState::Working | DeliveryState::Sealed);
            if !is_in_the_way || !self.customers.contains(&delivery.customer) {
                open += 1;
                continue;
            }
            let (customer, retrying) = (delivery.customer.clone(), Retrying::of(origin));
            let of_person = self.recorder(ledger, run, &slot, &customer);
            let outcome = Recorder { retrying, stop: stopper.listen(deadline), ..of_person }.resume(delivery).await?;
            let Some(outcome) = outcome else { continue };
            if let Outcome::Unrecorded { error, .. } = outcome {
                return Err(error.into());
            }
            open += usize::from(!matches!(outcome, Outcome::Committed(_) | Outcome::Failed(_)));
            tell_cleared((run, &slot, &customer), &outcome);
        }
        // What waits is the next daemon's: the run's end would have it fail.
        if state == RunState::Running && open == 0 {
            finish(ledger, run).await?;
        }
        Ok(())
    }

    /// One try of each, as for who begins.
    async fn go_on(&self, ledger: &Ledger, left: Unfinished) -> Result<Vec<Fared>, CliError> {
        let Unfinished { run, slot, state, deliveries, .. } = left;
        let (own, others): (Vec<_>, Vec<_>) =
            deliveries.into_iter().partition(|open| self.customers.contains(&open.customer));
        let mut tried = Vec::new();
        for delivery in own {
            let customer = delivery.customer.clone();
            let outcome = self.recorder(ledger, run, &slot, &customer).resume(delivery).await?;
            let has_it = |customer, _| Ok(Fared::earlier(customer, Fate::AlreadyCommitted, run));
            let Some(outcome) = outcome else { continue };
            tried.push(Fared { earlier: Some(run), ..fared(customer, outcome, has_it)? });
        }
        // What waits for somebody else is the next daemon's: the run's end would have it fail.
        if state == RunState::Running && others.iter().all(|open| open.state.has_ended()) {
            finish(ledger, run).await?;
        }
        Ok(tried)
    }

    async fn deliver(&self, ledger: &Ledger, claim: &Claim, progress: &Progress) -> Result<Vec<Fared>, CliError> {
        let one = async |(customer, delivery): (CustomerName, DeliveryId)| {
            // Without it that one delivery fails, and says so.
            let work = self.work(&customer, claim.run, claim.slot.clone());
            let outcome = self.recorder(ledger, claim.run, &claim.slot, &customer).deliver(delivery).await?;
            progress.done(&customer);
            fared(customer, outcome, |_, manifest| Ok(Fared::committed(&work?, manifest)))
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
        Recorder { parts, ledger, config, run, slot, customer, retrying, stop, gauge: Gauge::default() }
    }

    /// Writes what would be delivered under `dir/<bucket>/`, and records nothing.
    pub async fn to_directory(&self, dir: &Path, progress: &Progress) -> Report {
        let run = RunId::new(self.parts.clock.now());
        let one = async |customer: CustomerName| {
            let written = match self.work(&customer, run, self.slot.clone()) {
                Ok(work) => {
                    let target = Target::directory(&self.parts.vendor, dir.to_owned(), &work.customer);
                    let (journal, stop, gauge) = (Arc::new(NoJournal), Stop::never(), Gauge::default());
                    let delivered =
                        run::deliver(&self.parts, &work, Turn::ALONE, target, journal, (&stop, &gauge)).await;
                    delivered.map(|done| (work, done.manifest))
                }
                Err(failure) => Err(failure),
            };
            progress.done(&customer);
            match written {
                Ok((work, manifest)) => Fared::written(&work, dir, manifest),
                Err(failure) => Fared::failed(customer, Fate::Failed, failure),
            }
        };
        let outcomes = stream::iter(self.customers.clone()).map(one);
        let outcomes = outcomes.buffer_unordered(self.config.daemon.concurrency).collect().await;
        Report { slot: self.slot.clone(), run: Some(run), outcomes }.sorted()
    }

    fn work(&self, customer: &CustomerName, run: RunId, slot: Slot) -> Result<Work, Failure> {
        Work::new(&self.config, &slot, customer, run)
    }
}

/// What came of a person's one try.
fn fared(
    customer: CustomerName,
    outcome: Outcome,
    committed: impl FnOnce(CustomerName, Manifest) -> Result<Fared, CliError>,
) -> Result<Fared, CliError> {
    Ok(match outcome {
        Outcome::Committed(manifest) => committed(customer, *manifest)?,
        Outcome::Unrecorded { error, .. } => return Err(error.into()),
        Outcome::Waits { failure, .. } => Fared::failed(customer, Fate::Sealed, failure),
        Outcome::Failed(failure)
        | Outcome::Interrupted(failure)
        | Outcome::Quarantined(failure)
        | Outcome::NotYet(failure)
        | Outcome::Held { failure, .. } => Fared::failed(customer, Fate::Failed, failure),
    })
}

/// Nobody has asked for that slot, so that no report has it.
fn tell_cleared((run, slot, customer): (RunId, &Slot, &CustomerName), outcome: &Outcome) {
    let (priority, what) = match outcome {
        Outcome::Committed(_) | Outcome::Unrecorded { .. } => (Priority::Info, "is delivered".to_owned()),
        Outcome::Waits { failure, due, .. } => {
            (Priority::Warning, format!("is to be tried again at {}: {failure}", to_the_second(*due)))
        }
        Outcome::Held { failure, .. } => (Priority::Warning, format!("waits for its customer: {failure}")),
        Outcome::Failed(failure) => (Priority::Error, format!("has failed: {failure}")),
        Outcome::Interrupted(why) | Outcome::Quarantined(why) | Outcome::NotYet(why) => {
            (Priority::Warning, format!("waits: {why}"))
        }
    };
    output::stderr(
        priority,
        &format!("slot {slot} to {customer}, which was in the way, {what} (`consign show {run}`)"),
    );
}

/// Ends a run, unless something of it is left for a later process.
async fn finish(ledger: &Ledger, run: RunId) -> Result<(), LedgerError> {
    match ledger.run_finished(run).await {
        Ok(_) => {
            crash::point(Point::RunFinished);
            Ok(())
        }
        Err(LedgerError::StillOpen { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
