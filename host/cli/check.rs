//! `consign check`: everything that can be known without network, all at once.

mod datasets;
mod keys;
mod places;
mod plugins;

use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::output::{self, CliError, Exit, count, line};
use super::{Global, setup};
use crate::clock::{Clock, Instant, to_the_second};
use crate::config::{Config, ConfigErrors, Environment, Problem, Severity, Share};
use crate::delivery::Target;
use crate::domain::{DatasetName, ShareName};
use crate::run::Parts;

/// Firings shown for each share.
const SHOWN: usize = 3;

#[derive(Serialize)]
struct Report {
    shares: Vec<Firings>,
    customers: usize,
    warnings: Vec<serde_json::Value>,
    /// Datasets whose files are behind the network, so that only their text was checked.
    not_read: Vec<DatasetName>,
}

#[derive(Serialize)]
struct Firings {
    share: ShareName,
    timezone: String,
    customers: usize,
    next: Vec<Instant>,
}

#[derive(Args)]
pub struct CheckArgs {
    /// Print only what is wrong.
    #[arg(short, long)]
    quiet: bool,
}

pub async fn check(global: &Global, args: &CheckArgs) -> Result<Exit, CliError> {
    let (config, mut found) = Config::survey(&global.config, &Environment::of_process())?;
    let clock = Clock::system();
    // Whoever checks need not be who delivers.
    for missing in config.check_secrets().problems() {
        found.push(Problem { severity: Severity::Warning, ..missing.clone() });
    }
    keys::check(&config, &clock, &mut found);
    profiles(&config, &mut found);
    let (config, _cache) = setup::with_cache(config)?;
    let (parts, unusable) = match Parts::build_leniently(&config, clock.clone()).await {
        Ok(built) => built,
        Err(_) if found.has_errors() => return Err(found.into()),
        Err(failure) => return Err(failure.into()),
    };
    plugins::unusable(&config, unusable, &mut found);
    let read = datasets::check(&config, &parts, &mut found).await;
    plugins::options(&config, &parts, &read.schemas, &mut found);
    if config.shares.is_empty() && !found.has_errors() {
        let message = "nothing will be delivered, because there is no share";
        let help = "add `[shares.NAME]`, or `include` the files that have them; config/minimal.toml is a start";
        found.push(Problem::warning(crate::config::Location::file(&global.config), message, help));
    }
    found.sort(&config);
    let warnings = found.warnings()?;

    let report = report(&config, &clock, &warnings, read.not_read);
    if global.json {
        output::json(&report);
    } else {
        output::warnings(&warnings);
        if !args.quiet {
            print(&config, &report);
        }
    }
    Ok(Exit::Done)
}

/// A profile of which no session policy can be made would fail every delivery.
fn profiles(config: &Config, found: &mut ConfigErrors) {
    for (name, customer) in &config.customers {
        if let Err(failure) = Target::check(customer) {
            refuse(found, config.locate(&["customers", name.as_str(), "prefix"]), failure);
        }
    }
}

fn report(config: &Config, clock: &Clock, warnings: &[Problem], not_read: Vec<DatasetName>) -> Report {
    let firings = |(name, share): (&ShareName, &Arc<Share>)| {
        let next = keys::firings(&share.calendar, clock).take(SHOWN).collect();
        Firings { share: name.clone(), timezone: share.timezone.to_string(), customers: share.to.len(), next }
    };
    Report {
        shares: config.shares.iter().map(firings).collect(),
        customers: config.customers.len(),
        warnings: warnings.iter().map(Problem::to_json).collect(),
        not_read,
    }
}

fn print(config: &Config, report: &Report) {
    let (shares, customers) = (count(report.shares.len(), "share"), count(report.customers, "customer"));
    line(&format!("the configuration is good: {shares}, {customers}"));
    for name in &report.not_read {
        line(&format!("  dataset {name} is behind the network: its files were not looked at"));
    }
    if report.shares.is_empty() {
        return;
    }
    line("");
    let mut rows = Vec::new();
    for (firings, share) in report.shares.iter().zip(config.shares.values()) {
        if firings.next.is_empty() {
            let (name, schedule, customers) = (firings.share.to_string(), share.schedule.clone(), firings.customers);
            rows.push(vec![name, schedule, customers.to_string(), "no slot to come: its end has passed".to_owned()]);
        }
        for (i, at) in firings.next.iter().enumerate() {
            let first = |text: String| if i == 0 { text } else { String::new() };
            rows.push(vec![
                first(firings.share.to_string()),
                first(share.schedule.clone()),
                first(firings.customers.to_string()),
                at.with_timezone(&share.timezone).format("%a %Y-%m-%d %H:%M:%S %Z").to_string(),
                to_the_second(*at),
            ]);
        }
    }
    output::table(&["SHARE", "SCHEDULE", "CUSTOMERS", "NEXT", "UTC"], &rows);
}

/// `customer `a` and 2 more`, for what is wrong in the same way with all of them.
fn one_of<T: std::fmt::Display>(first: T, all: usize) -> String {
    match all {
        0 | 1 => format!("customer `{first}`"),
        _ => format!("customer `{first}` and {} more", all - 1),
    }
}

/// Puts one problem of a profile, dataset, share or plugin among the others.
fn refuse(found: &mut ConfigErrors, place: crate::config::Location, failure: crate::domain::Failure) {
    found.push(Problem::error(place, failure.message, failure.remedy));
}
