//! `consign check`: whether the configuration can be carried out, and when shares fire.

mod limits;

use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::output::{self, CliError, Exit, count, line};
use super::{Global, setup};
use crate::check::{self, Checked};
use crate::clock::{Clock, Instant, to_the_second};
use crate::config::{Config, Environment, Problem, Severity, Share};
use crate::domain::{DatasetName, ShareName};
use crate::registry::Fetch;

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
    /// What the plugin may use up in one delivery; None without a plugin.
    limits: Option<limits::Shown>,
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
    let (config, _cache) = setup::with_cache(config)?;
    let Checked { mut warnings, not_read, .. } =
        check::check(&config, &clock, found, Fetch::Never, None, |_| None).await?;
    setup::without_shares(global, &config).into_iter().for_each(|problem| warnings.insert(0, problem));

    let report = report(&config, &clock, &warnings, not_read);
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

fn report(config: &Config, clock: &Clock, warnings: &[Problem], not_read: Vec<DatasetName>) -> Report {
    let firings = |(name, share): (&ShareName, &Arc<Share>)| {
        let next = check::firings(&share.calendar, clock).take(SHOWN).collect();
        let (share, timezone) = (&**share, share.timezone.to_string());
        let limits = config.limits(share).map(limits::Shown::from);
        Firings { share: name.clone(), timezone, customers: share.to.len(), next, limits }
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
    print_limits(config);
}

/// Of the shares that have any of their own.
fn print_limits(config: &Config) {
    let own = |share: &Arc<Share>| (share.name.to_string(), limits::own(config, share));
    let own: Vec<_> = config.shares.values().map(own).filter(|(_, limits)| !limits.is_empty()).collect();
    if own.is_empty() {
        return;
    }
    line("");
    line("limits of a share's own");
    for (share, limits) in own {
        line(&format!("  {share}: {}", limits.join(", ")));
    }
}
