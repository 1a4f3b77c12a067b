//! `consign history` and `consign show`: what the ledger remembers.

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};

use super::output::{self, CliError, Exit, bytes, line, thousands};
use super::{Global, setup};
use crate::clock::{exact, to_the_second};
use crate::config::{Config, near};
use crate::domain::{CustomerName, Invalid, RunId, ShareName};
use crate::ledger::{
    AttemptDetail, DeliveryDetail, DeliveryState, History, RunDetail, RunState, RunSummary, Settled, Skipped,
};
use crate::run::{wanted, way_out};

#[derive(Args)]
pub struct HistoryArgs {
    /// Only runs of this share.
    #[arg(long, value_name = "SHARE", value_parser = parsed(ShareName::parse))]
    share: Option<ShareName>,
    /// Only runs with a delivery to this customer; with `--skipped`, slots that it did not get.
    #[arg(long, value_name = "CUSTOMER", value_parser = parsed(CustomerName::parse))]
    customer: Option<CustomerName>,
    /// Only runs in this state.
    #[arg(long, value_enum, value_name = "STATE")]
    state: Option<State>,
    /// At most this many.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    limit: usize,
    /// Slots that nobody got, or not everybody, and why, instead of runs.
    #[arg(long, conflicts_with = "state")]
    skipped: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    Running,
    /// Everybody has got it.
    Succeeded,
    /// Somebody has not.
    Failed,
}

impl From<State> for RunState {
    fn from(state: State) -> Self {
        match state {
            State::Running => RunState::Running,
            State::Succeeded => RunState::Succeeded,
            State::Failed => RunState::Failed,
        }
    }
}

#[derive(Args)]
pub struct ShowArgs {
    /// The run's id, from `consign history`; its first characters will do if no other run has them.
    run: String,
    /// Only for this customer; may be given more than once.
    #[arg(long = "customer", value_name = "CUSTOMER")]
    customers: Vec<String>,
    /// Only those who have failed.
    #[arg(long)]
    failed: bool,
}

pub(super) fn parsed<T>(parse: fn(&str) -> Result<T, Invalid>) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| parse(text).map_err(|why| format!("'{text}' {why}"))
}

pub async fn history(global: &Global, args: &HistoryArgs) -> Result<Exit, CliError> {
    let config = setup::config_as_it_is(global)?;
    if args.skipped {
        return skipped(global, &config, args).await;
    }
    let (share, customer, state) = (args.share.clone(), args.customer.clone(), args.state.map(RunState::from));
    let is_filtered = share.is_some() || customer.is_some() || state.is_some();
    let filter = History { share, customer, state, limit: args.limit };
    let runs = match setup::reader(&config)? {
        Some(reader) => reader.history(filter).await?,
        None => Vec::new(),
    };
    if runs.is_empty() {
        known(&config, args)?;
    }
    if global.json {
        output::json(&runs);
        return Ok(Exit::Done);
    }
    if runs.is_empty() {
        line(if is_filtered { "no such run" } else { "no runs yet" });
        return Ok(Exit::Done);
    }
    let row = |run: &RunSummary| {
        vec![
            run.run.to_string(),
            run.share.to_string(),
            exact(run.slot),
            run.state.to_string(),
            format!("{}/{}", run.committed, run.deliveries),
            thousands(run.rows),
            bytes(run.bytes),
            to_the_second(run.started),
        ]
    };
    let rows: Vec<_> = runs.iter().map(row).collect();
    output::table(&["RUN", "SHARE", "SLOT", "STATE", "DELIVERED", "ROWS", "SIZE", "STARTED"], &rows);
    Ok(Exit::Done)
}

async fn skipped(global: &Global, config: &Config, args: &HistoryArgs) -> Result<Exit, CliError> {
    let slots = match setup::reader(config)? {
        Some(reader) => reader.skipped(args.share.clone(), args.customer.clone(), args.limit).await?,
        None => Vec::new(),
    };
    if slots.is_empty() {
        known(config, args)?;
    }
    if global.json {
        output::json(&slots);
        return Ok(Exit::Done);
    }
    if slots.is_empty() {
        line("no slot was left out");
        return Ok(Exit::Done);
    }
    let row = |skipped: &Skipped| {
        let Skipped { slot, reason, customers, recorded } = skipped;
        let customers = customers.as_deref().map_or("all".to_owned(), some_of);
        vec![slot.share.to_string(), exact(slot.at), customers, reason.to_string(), to_the_second(*recorded)]
    };
    let rows: Vec<_> = slots.iter().map(row).collect();
    output::table(&["SHARE", "SLOT", "CUSTOMERS", "REASON", "RECORDED"], &rows);
    Ok(Exit::Done)
}

/// The first of them by name, and how many more.
fn some_of(customers: &[CustomerName]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<&str> = customers.iter().take(SHOWN).map(CustomerName::as_str).collect();
    match customers.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What is in neither the ledger nor the configuration is a slip.
fn known(config: &Config, args: &HistoryArgs) -> Result<(), CliError> {
    let unknown = |what: &str, name: &str, names: Vec<&str>| {
        let help = match near(name, names.iter().copied()) {
            Some(meant) => format!("did you mean '{meant}'?"),
            None => format!("{what}s are: {}", names.join(", ")),
        };
        Err(CliError::new(Exit::Failed, format!("there is no {what} '{name}'"), help))
    };
    match (&args.share, &args.customer) {
        (Some(share), _) if !config.shares.contains_key(share) => {
            unknown("share", share.as_str(), config.shares.keys().map(|name| name.as_str()).collect())
        }
        (_, Some(customer)) if !config.customers.contains_key(customer) => {
            unknown("customer", customer.as_str(), config.customers.keys().map(|name| name.as_str()).collect())
        }
        _ => Ok(()),
    }
}

pub async fn show(global: &Global, args: &ShowArgs) -> Result<Exit, CliError> {
    let config = setup::config_as_it_is(global)?;
    let Some(reader) = setup::reader(&config)? else {
        let message = format!("there is no run '{}', because nothing has run yet", args.run);
        return Err(CliError::new(Exit::Failed, message, "`consign run` and `consign send` make runs"));
    };
    let run = wanted::run(&reader, &args.run).await?;
    let mut detail = reader.run(run).await?;
    let customers = BTreeSet::from_iter(wanted::customers_of(&detail, &args.customers)?);
    detail.deliveries.retain(|delivery| {
        let is_wanted = !args.failed || delivery.state == DeliveryState::Failed;
        is_wanted && customers.contains(&delivery.customer)
    });
    if global.json {
        output::json(&detail);
    } else {
        print(&config, &detail);
        if args.failed && detail.deliveries.is_empty() {
            line("");
            line(&format!("none of {} has failed", output::count(customers.len(), "customer")));
        }
    }
    Ok(Exit::Done)
}

fn print(config: &Config, detail: &RunDetail) {
    let run = &detail.run;
    line(&format!("run       {}", run.run));
    line(&format!("share     {}", run.share));
    line(&format!("slot      {}  ({})", exact(run.slot), run.origin));
    line(&format!("data      {} to {}", exact(run.interval.start), exact(run.interval.end)));
    line(&format!("state     {}", run.state));
    line(&format!("started   {}", to_the_second(run.started)));
    if let Some(finished) = run.finished {
        line(&format!("finished  {}", to_the_second(finished)));
    }
    for delivery in &detail.deliveries {
        print_delivery(config, run.run, delivery);
    }
}

fn print_delivery(config: &Config, run: RunId, delivery: &DeliveryDetail) {
    // The ledger has keys; the bucket is the customer's, as long as it is one.
    let bucket = config.customers.get(&delivery.customer).map(|customer| format!("s3://{}/", customer.bucket));
    let bucket = bucket.unwrap_or_default();
    let rows = delivery.rows.map(|rows| format!("  {} rows", thousands(rows))).unwrap_or_default();
    let size = delivery.bytes.map(|size| format!("  {}", bytes(size))).unwrap_or_default();
    line("");
    line(&format!("{}  {}{rows}{size}", delivery.customer, delivery.state));
    if let Some(failure) = &delivery.failure {
        line(&format!("  {failure}"));
        if !failure.remedy.is_empty() {
            line(&format!("  help: {}", failure.remedy.replace('\n', "\n  ")));
        }
    }
    // What is being completed is not in doubt before that has failed.
    if let Some(key) = delivery.in_doubt.as_ref().filter(|_| delivery.due.is_some()) {
        line(&format!("  in doubt   {bucket}{key}"));
        line(&format!("  help: {}", way_out(run, &delivery.customer)));
    }
    if let Some(Settled { by, at, reason }) = &delivery.settled {
        let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        line(&format!("  settled    by {by}, {}{reason}", to_the_second(*at)));
    }
    for attempt in &delivery.attempts {
        print_attempt(&bucket, attempt);
    }
    if let Some(key) = &delivery.manifest_key {
        line(&format!("  manifest   {bucket}{key}"));
    }
}

fn print_attempt(bucket: &str, attempt: &AttemptDetail) {
    let ended = attempt.ended.map(|at| format!(" to {}", to_the_second(at))).unwrap_or_default();
    line(&format!("  attempt {}  {}  {}{ended}", attempt.number, attempt.state, to_the_second(attempt.started)));
    let row = |object: &crate::ledger::ObjectDetail| {
        vec![format!("    {bucket}{}", object.key), bytes(object.bytes), format!("{} rows", thousands(object.rows))]
    };
    let rows: Vec<_> = attempt.objects.iter().map(row).collect();
    output::rows(&rows);
}
