//! `consign history` and `consign show`: what the ledger remembers.

use chrono::SecondsFormat;
use clap::Args;

use super::output::{self, CliError, Exit, bytes, line, thousands};
use super::{Global, setup};
use crate::clock::Instant;
use crate::domain::{CustomerName, Invalid, RunId, ShareName};
use crate::ledger::{AttemptDetail, DeliveryDetail, History, Ledger, Reader, RunDetail, RunSummary};

#[derive(Args)]
pub struct HistoryArgs {
    /// Only runs of this share.
    #[arg(long, value_name = "SHARE", value_parser = parsed(ShareName::parse))]
    share: Option<ShareName>,
    /// Only runs with a delivery to this customer.
    #[arg(long, value_name = "CUSTOMER", value_parser = parsed(CustomerName::parse))]
    customer: Option<CustomerName>,
    /// At most this many.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    limit: usize,
}

#[derive(Args)]
pub struct ShowArgs {
    /// The run's id, from `consign history`; its first characters will do if no other run has them.
    run: String,
}

fn parsed<T>(parse: fn(&str) -> Result<T, Invalid>) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| parse(text).map_err(|why| format!("'{text}' {why}"))
}

pub async fn history(global: &Global, args: &HistoryArgs) -> Result<Exit, CliError> {
    let reader = reader(global)?;
    let filter =
        History { share: args.share.clone(), customer: args.customer.clone(), limit: args.limit, ..History::default() };
    let runs = reader.history(filter).await?;
    if global.json {
        output::json(&runs);
        return Ok(Exit::Done);
    }
    let row = |run: &RunSummary| {
        vec![
            run.run.to_string(),
            run.share.to_string(),
            time(run.slot),
            run.state.to_string(),
            format!("{}/{}", run.committed, run.deliveries),
            thousands(run.rows),
            bytes(run.bytes),
            time(run.started),
        ]
    };
    let rows: Vec<_> = runs.iter().map(row).collect();
    output::table(&["RUN", "SHARE", "SLOT", "STATE", "DELIVERED", "ROWS", "SIZE", "STARTED"], &rows);
    Ok(Exit::Done)
}

pub async fn show(global: &Global, args: &ShowArgs) -> Result<Exit, CliError> {
    let reader = reader(global)?;
    let run = find(&reader, &args.run).await?;
    let detail = reader.run(run).await?;
    if global.json {
        output::json(&detail);
    } else {
        print(&detail);
    }
    Ok(Exit::Done)
}

fn reader(global: &Global) -> Result<Reader, CliError> {
    let config = setup::config(global)?;
    Ok(Ledger::read_only(&config.daemon.state_dir)?)
}

async fn find(reader: &Reader, text: &str) -> Result<RunId, CliError> {
    if let Ok(run) = RunId::parse(text) {
        return Ok(run);
    }
    let runs = reader.history(History { limit: 10_000, ..History::default() }).await?;
    let mut found = runs.iter().map(|run| run.run).filter(|run| run.to_string().starts_with(text));
    match (found.next(), found.next()) {
        (Some(run), None) => Ok(run),
        (Some(_), Some(_)) => {
            Err(CliError::new(Exit::Failed, format!("several runs begin with '{text}'"), "give more of the id"))
        }
        _ => Err(CliError::new(Exit::Failed, format!("there is no run '{text}'"), "`consign history` lists them")),
    }
}

fn print(detail: &RunDetail) {
    let run = &detail.run;
    line(&format!("run       {}", run.run));
    line(&format!("share     {}", run.share));
    line(&format!("slot      {}  ({})", time(run.slot), run.origin));
    line(&format!("data      {} to {}", time(run.interval.start), time(run.interval.end)));
    line(&format!("state     {}", run.state));
    line(&format!("started   {}", time(run.started)));
    if let Some(finished) = run.finished {
        line(&format!("finished  {}", time(finished)));
    }
    for delivery in &detail.deliveries {
        print_delivery(delivery);
    }
}

fn print_delivery(delivery: &DeliveryDetail) {
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
    for attempt in &delivery.attempts {
        print_attempt(attempt);
    }
    if let Some(key) = &delivery.manifest_key {
        line(&format!("  manifest   {key}"));
    }
}

fn print_attempt(attempt: &AttemptDetail) {
    let ended = attempt.ended.map(|at| format!(" to {}", time(at))).unwrap_or_default();
    line(&format!("  attempt {}  {}  {}{ended}", attempt.number, attempt.state, time(attempt.started)));
    let row = |object: &crate::ledger::ObjectDetail| {
        vec![format!("    {}", object.key), bytes(object.bytes), format!("{} rows", thousands(object.rows))]
    };
    let rows: Vec<_> = attempt.objects.iter().map(row).collect();
    output::rows(&rows);
}

fn time(at: Instant) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
