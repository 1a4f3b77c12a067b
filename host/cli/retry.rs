//! `consign retry`: what failed of a run, or of many, once more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::client::{AT_ONCE, Client};
use super::history::parsed;
use super::log::Priority;
use super::output::{self, CliError, Exit, line};
use super::progress::Progress;
use super::send::{self, Sending};
use super::{Global, report, setup, waiting};
use crate::clock::{Clock, ago, exact};
use crate::config::Config;
use crate::daemon::admin::ask::{Ask, LINE_MAX};
use crate::daemon::by_hand;
use crate::domain::{CustomerName, Failure, Layer, Refused, Retry, RunId, ShareName, SkipReason, Slot};
use crate::ledger::{DeliveryState, History, Reader, RunState};
use crate::run::{Fared, Fate, Parts, Report, wanted};

/// Runs of one customer or share that are looked at: so many that failed, and so many that go on.
const RUNS_MAX: usize = 10_000;

/// Bytes of names in one question to the daemon, which has other things in it too.
const NAMES_BYTES: usize = LINE_MAX - 1024;

/// Refusals that are told to people.
const SHOWN: usize = 20;

#[derive(Args)]
pub struct RetryArgs {
    /// The run's id, from `consign history`; its first characters will do if no other run has them.
    #[arg(required_unless_present_any = ["share", "customers"])]
    run: Option<String>,
    /// Only for this customer; may be given more than once. Without a run: all that it has not got.
    #[arg(long = "customer", value_name = "CUSTOMER", value_parser = parsed(CustomerName::parse))]
    customers: Vec<CustomerName>,
    /// Instead of a run: all of this share that somebody has not got.
    #[arg(long, value_name = "SHARE", conflicts_with = "run", value_parser = parsed(ShareName::parse))]
    share: Option<ShareName>,
    /// Without a run: of runs that began within this time.
    #[arg(long, value_name = "DURATION", default_value = "24h", conflicts_with = "run", value_parser = humantime::parse_duration)]
    since: Duration,
    /// Return as soon as the running daemon has begun it. Without a run it always does.
    #[arg(long)]
    detach: bool,
}

/// Who has not got a slot, and the last run in which they failed.
struct Failed {
    run: RunId,
    slot: Slot,
    customers: Vec<CustomerName>,
    /// How many failed in it.
    of: usize,
}

pub async fn retry(global: &Global, args: &RetryArgs) -> Result<Exit, CliError> {
    match &args.run {
        Some(run) => one(global, run, args).await,
        None => many(global, args).await,
    }
}

async fn one(global: &Global, run: &str, args: &RetryArgs) -> Result<Exit, CliError> {
    let customers = names(&args.customers);
    if let Some(client) = Client::connect(global).await? {
        let ask = Ask::Retry { run: run.to_owned(), customers, wait: !args.detach };
        return waiting::run(global, client, ask).await;
    }
    if args.detach {
        return Err(waiting::nobody());
    }
    let config = Arc::new(setup::config(global)?);
    config.check_secrets().into_result()?;
    let clock = Clock::system();
    let ledger = setup::ledger(&config, &clock)?;
    let reader = ledger.reader();
    let detail = reader.run(wanted::run(reader, run).await?).await?;
    let customers = wanted::customers_of(&detail, &customers)?;
    let (mut customers, waiting) = by_hand::to_retry(&detail, &customers)?;
    customers.extend(waiting.into_iter().map(|(customer, _)| customer));
    let parts = Arc::new(Parts::build(&config, clock).await?);
    let slot = detail.run.whole_slot();
    let progress = Progress::start(!global.json, &slot.share, customers.len());
    let made = Sending { config, parts, slot, customers }.to_buckets(&ledger, &progress).await?;
    progress.finish();
    Ok(send::show(global, &made))
}

/// Each slot that somebody has not got begins again, the oldest first.
async fn many(global: &Global, args: &RetryArgs) -> Result<Exit, CliError> {
    let config = setup::config_as_it_is(global)?;
    known(&config, args)?;
    let failed = match setup::reader(&config)? {
        Some(reader) => failed(&reader, args).await?,
        None => Vec::new(),
    };
    let asks_a_daemon = Client::connect(global).await?.is_some();
    let made = match asks_a_daemon {
        true => ask(global, failed).await,
        false if args.detach => return Err(waiting::nobody()),
        false => make(global, failed).await?,
    };
    match global.json {
        true => output::json(&made.reports()),
        false => made.print_rest(),
    }
    Ok(made.exit())
}

/// What came of it, run by run: what one is refused keeps no other from being begun.
#[derive(Default)]
struct Made {
    begun: Vec<Report>,
    refused: Vec<Refusal>,
}

/// Who of a run that failed has not been begun again, and why.
struct Refusal {
    slot: Slot,
    customers: Vec<CustomerName>,
    error: CliError,
}

impl Made {
    fn refused(&mut self, slot: Slot, customers: Vec<CustomerName>, error: CliError) {
        self.refused.push(Refusal { slot, customers, error });
    }

    /// Of all runs: for who was refused, with the reason as a failure.
    fn reports(&self) -> Vec<Report> {
        let refused = self.refused.iter().map(|Refusal { slot, customers, error }| {
            let failure = Failure::new(Layer::Local, Retry::Never, error.message.clone(), error.help.clone());
            let fared = |customer: &CustomerName| Fared::failed(customer.clone(), Fate::Failed, failure.clone());
            Report { slot: slot.clone(), run: None, outcomes: customers.iter().map(fared).collect() }
        });
        self.begun.iter().cloned().chain(refused).collect()
    }

    /// What has begun was told when it did: it may take long until all have.
    fn print_rest(&self) {
        if self.begun.is_empty() && self.refused.is_empty() {
            line("nothing that failed in this time is still to be delivered");
        }
        for Refusal { slot, error: CliError { message, help, .. }, .. } in self.refused.iter().take(SHOWN) {
            let text = format!("error: {} {} has not begun: {message}", slot.share, exact(slot.at));
            output::stderr(Priority::Error, &text);
            if !help.is_empty() {
                output::stderr(Priority::Error, &format!("help: {help}"));
            }
        }
        let more = self.refused.len().saturating_sub(SHOWN);
        if more > 0 {
            output::stderr(Priority::Error, &format!("error: nor have {more} more"));
        }
    }

    fn exit(&self) -> Exit {
        match self.refused.first() {
            Some(refusal) => refusal.error.exit,
            None if self.begun.iter().all(Report::is_whole) => Exit::Done,
            None => Exit::Failed,
        }
    }
}

/// One question for each run, or more where its line would be too long.
async fn ask(global: &Global, failed: Vec<Failed>) -> Made {
    let mut made = Made::default();
    for Failed { run, slot, mut customers, of } in failed {
        while !customers.is_empty() {
            let is_all = customers.len() == of;
            let rest = if is_all { Vec::new() } else { customers.split_off(in_one_line(&customers)) };
            // Who failed in it needs no names.
            let named = if is_all { Vec::new() } else { names(&customers) };
            match begin(global, Ask::Retry { run: run.to_string(), customers: named, wait: false }).await {
                Ok(report) => {
                    if !global.json {
                        tell_begun(&report);
                    }
                    made.begun.push(report);
                }
                Err(error) => {
                    // Not refused: whoever does not answer would have each of them wait.
                    let is_over = error.exit == Exit::Internal;
                    customers.extend(rest);
                    made.refused(slot, customers, error);
                    if is_over {
                        return made;
                    }
                    break;
                }
            }
            customers = rest;
        }
    }
    made
}

fn tell_begun(report: &Report) {
    match report.run {
        Some(run) => {
            line(&format!("{} {}: run {run} has begun", report.slot.share, exact(report.slot.at)));
            report::left_alone(report);
        }
        None => report::print(report),
    }
}

async fn begin(global: &Global, ask: Ask) -> Result<Report, CliError> {
    Client::needed(global).await?.ask(ask, AT_ONCE, drop).await
}

/// How many of them there is room for in what a daemon hears.
fn in_one_line(customers: &[CustomerName]) -> usize {
    let mut room = NAMES_BYTES;
    // In quotes, with a comma.
    let fits = |customer: &&CustomerName| {
        room = room.saturating_sub(customer.as_str().len() + 3);
        room > 0
    };
    customers.iter().take_while(fits).count().max(1)
}

async fn make(global: &Global, failed: Vec<Failed>) -> Result<Made, CliError> {
    let mut made = Made::default();
    if failed.is_empty() {
        return Ok(made);
    }
    let config = Arc::new(setup::config(global)?);
    config.check_secrets().into_result()?;
    let clock = Clock::system();
    let ledger = setup::ledger(&config, &clock)?;
    let parts = Arc::new(Parts::build(&config, clock).await?);
    for Failed { slot, customers, .. } in failed {
        let progress = Progress::start(!global.json, &slot.share, customers.len());
        let (config, parts) = (config.clone(), parts.clone());
        let sending = Sending { config, parts, slot, customers };
        let came = sending.to_buckets(&ledger, &progress).await;
        progress.finish();
        match came {
            Ok(report) => {
                if !global.json {
                    report::print(&report);
                }
                made.begun.push(report);
            }
            Err(error) => made.refused(sending.slot, sending.customers, error),
        }
    }
    Ok(made)
}

async fn failed(reader: &Reader, args: &RetryArgs) -> Result<Vec<Failed>, CliError> {
    let earliest = ago(Clock::system().now(), args.since);
    let customers = match args.customers.is_empty() {
        true => vec![None],
        false => args.customers.iter().cloned().map(Some).collect(),
    };
    let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::<RunId, Failed>::new());
    let mut left_alone = 0;
    for customer in customers {
        let mut runs = Vec::new();
        // Also of a run that goes on for others.
        for state in [RunState::Failed, RunState::Running] {
            let (share, customer) = (args.share.clone(), customer.clone());
            let filter = History { share, state: Some(state), customer, limit: RUNS_MAX };
            runs.extend(reader.history(filter).await?);
        }
        // The newest first.
        runs.sort_unstable_by_key(|run| Reverse(run.run));
        for run in runs.into_iter().filter(|run| run.started >= earliest) {
            let (id, slot) = (run.run, run.whole_slot());
            let is_wanted = |one: &CustomerName| customer.as_ref().is_none_or(|only| only == one);
            let mut deliveries = reader.run(id).await?.deliveries;
            deliveries.retain(|delivery| delivery.state == DeliveryState::Failed);
            let of = deliveries.len();
            for delivery in deliveries.into_iter().filter(|delivery| is_wanted(&delivery.customer)) {
                let this = (slot.share.clone(), slot.at, delivery.customer.clone());
                if !seen.insert(this) {
                    continue;
                }
                // It may have been delivered before.
                if delivery.left_out == Some(SkipReason::Restored) {
                    left_alone += 1;
                } else {
                    let new = || Failed { run: id, slot: slot.clone(), customers: Vec::new(), of };
                    last.entry(id).or_insert_with(new).customers.push(delivery.customer);
                }
            }
        }
    }
    if left_alone > 0 {
        output::warn(&format!(
            "{left_alone} that may have been delivered before the ledger was restored are left alone; `consign retry RUN`, \
             or `consign send`, delivers one that is known to be missing"
        ));
    }
    let mut left = Vec::new();
    for mut failed in last.into_values() {
        let standing = reader.standing(vec![failed.slot.clone()], failed.customers).await?;
        failed.customers = standing.into_iter().flat_map(|slot| slot.to_deliver).collect();
        if !failed.customers.is_empty() {
            left.push(failed);
        }
    }
    Ok(left)
}

/// A name with a slip in it has no failures.
fn known(config: &Config, args: &RetryArgs) -> Result<(), CliError> {
    if let Some(share) = &args.share {
        wanted::share(config, share.as_str())?;
    }
    match args.customers.iter().find(|customer| !config.customers.contains_key(*customer)) {
        Some(stranger) => {
            let help = "customers are in the configuration's [customers]";
            Err(Refused::request(format!("there is no customer '{stranger}'"), help).into())
        }
        None => Ok(()),
    }
}

fn names(customers: &[CustomerName]) -> Vec<String> {
    customers.iter().map(ToString::to_string).collect()
}
