//! `consign preflight`: whether customers' set-ups would take a delivery.

use std::sync::Arc;

use clap::Args;
use futures::{StreamExt, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::client::{AT_ONCE, Client};
use super::customer::named;
use super::output::{self, CliError, Exit, count, line};
use super::{Global, serve, setup};
use crate::clock::Clock;
use crate::config::{Config, Customer};
use crate::daemon::admin::ask::Ask;
use crate::delivery::{Finding, Outcome, Preflight, Probe, Vendor};
use crate::domain::Failure;

/// Customers that are looked at at the same time.
const LOOKS: usize = 8;

/// Customers whom a running daemon is told by their names.
const NAMED: usize = 500;

#[derive(Args)]
pub struct PreflightArgs {
    /// The customers; all if none is named.
    customers: Vec<String>,

    /// All customers of the configuration.
    #[arg(long, conflicts_with = "customers")]
    all: bool,
}

#[derive(Serialize)]
struct Report {
    /// All of them are.
    ready: bool,
    /// In the order of their names.
    customers: Vec<Preflight>,
}

pub async fn preflight(global: &Global, args: &PreflightArgs) -> Result<Exit, CliError> {
    // Whose own profile has an error in it would be left out of all, so that needs a whole configuration.
    let config = if args.customers.is_empty() { setup::config(global)? } else { setup::config_as_it_is(global)? };
    let customers = wanted(&config, &args.customers)?;
    if customers.is_empty() {
        match global.json {
            true => output::json(&Report { ready: true, customers: Vec::new() }),
            false => line("no customers yet; `consign customer add` makes the first one"),
        }
        return Ok(Exit::Done);
    }
    let vendor = Vendor::new(&config.aws, config.customers.len(), Clock::system())
        .await
        .map_err(|error| CliError::new(Exit::Config, Failure::chain(&error), ""))?;
    let stop = CancellationToken::new();
    let (first, second) = (serve::told_to_stop()?, serve::told_to_stop()?);
    let stops = stop.clone();
    // What is begun is ended, so that nothing is left behind; who says it twice means it.
    let told_twice = async move {
        first.await;
        stops.cancel();
        second.await;
    };
    let report = tokio::select! {
        report = look(global, vendor, &customers, stop) => report,
        () = told_twice => {
            let help = "uploads of a customer whose report is missing may be left in the bucket, invisible";
            return Err(CliError::new(Exit::Failed, "stopped in the middle", help));
        }
    };
    match global.json {
        true => output::json(&report),
        false => print_sum(&report),
    }
    tell_daemon(global, &report).await;
    Ok(if report.ready { Exit::Done } else { Exit::Failed })
}

/// What waits for a customer who is ready by now need not wait longer. Whether a daemon hears
/// it is no part of the report.
async fn tell_daemon(global: &Global, report: &Report) {
    let mut customers: Vec<String> =
        report.customers.iter().filter(|found| found.ready).map(|found| found.customer.to_string()).collect();
    if customers.is_empty() {
        return;
    }
    if customers.len() > NAMED {
        customers.clear();
    }
    if let Ok(Some(client)) = Client::connect(global).await {
        let _: Result<(), CliError> = client.ask(Ask::LookAt { customers }, AT_ONCE, drop).await;
    }
}

async fn look(global: &Global, vendor: Vendor, customers: &[Arc<Customer>], stop: CancellationToken) -> Report {
    let probe = Probe::new(vendor, stop).await;
    let mut found = stream::iter(customers).map(|customer| probe.customer(customer)).buffered(LOOKS);
    let mut report = Report { ready: true, customers: Vec::new() };
    while let Some(preflight) = found.next().await {
        if !global.json {
            print(&preflight, report.customers.is_empty());
        }
        report.ready &= preflight.ready;
        report.customers.push(preflight);
    }
    report
}

/// By name, each once; all of them when none is named.
fn wanted(config: &Config, names: &[String]) -> Result<Vec<Arc<Customer>>, CliError> {
    for name in names {
        named(config, name)?;
    }
    let is_wanted =
        |customer: &&Arc<Customer>| names.is_empty() || names.iter().any(|name| name == customer.name.as_str());
    Ok(config.customers.values().filter(is_wanted).cloned().collect())
}

/// A report that can be forwarded as it is: it has no secrets in it.
fn print(preflight: &Preflight, is_first: bool) {
    let Preflight { customer, role_arn, bucket, region, prefix, checks, .. } = preflight;
    if !is_first {
        line("");
    }
    line(&format!("{customer}: {}", verdict(preflight)));
    line(&format!("  role    {role_arn}"));
    line(&format!("  bucket  {bucket} in {region}, prefix '{prefix}'"));
    line("");
    let mut told = Vec::new();
    let mut rows = Vec::new();
    for finding in checks {
        let details = match finding.outcome {
            Outcome::Ok | Outcome::NotTried => finding.message.clone(),
            Outcome::Warning | Outcome::Failed | Outcome::Critical => {
                told.push(finding);
                let layer = finding.layer.map(|layer| layer.to_string()).unwrap_or_default();
                format!("{layer}: see {} below", told.len())
            }
        };
        rows.push(vec![format!("  {}", finding.check.as_str()), finding.outcome.as_str().to_owned(), details]);
    }
    output::table(&["  CHECK", "RESULT", "DETAILS"], &rows);
    for (number, finding) in (1..).zip(told) {
        line("");
        explain(number, finding);
    }
}

fn explain(number: usize, finding: &Finding) {
    let Finding { check, outcome, message, remedy, .. } = finding;
    line(&format!("  {number}. {}, {}: {message}", check.as_str(), outcome.as_str()));
    if !remedy.is_empty() {
        line(&format!("     help: {}", remedy.replace('\n', "\n     ")));
    }
}

fn verdict(preflight: &Preflight) -> String {
    let warnings = preflight.count(Outcome::Warning);
    if preflight.ready {
        return match warnings {
            0 => "ready".to_owned(),
            _ => format!("ready, with {}", count(warnings, "warning")),
        };
    }
    let counts = [Outcome::Critical, Outcome::Failed, Outcome::Warning, Outcome::NotTried];
    let counts = counts.map(|outcome| (preflight.count(outcome), outcome.as_str()));
    let told: Vec<String> =
        counts.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    format!("NOT READY: {}", told.join(", "))
}

fn print_sum(report: &Report) {
    let all = report.customers.len();
    if all < 2 {
        return;
    }
    let ready = report.customers.iter().filter(|preflight| preflight.ready).count();
    line("");
    line(&format!("{}: {ready} ready, {} not", count(all, "customer"), all - ready));
    for preflight in report.customers.iter().filter(|preflight| !preflight.ready) {
        line(&format!("  {}: {}", preflight.customer, verdict(preflight)));
    }
}
