//! `consign check`: everything that can be known without network, all at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::SecondsFormat;
use serde::Serialize;

use super::Global;
use super::output::{self, CliError, Exit, line};
use crate::clock::{Clock, Instant};
use crate::config::{Config, ConfigErrors, Dataset, Problem, Share, TableDataset};
use crate::daemon;
use crate::domain::{DatasetName, Failure, KeyFacts, ShareName};
use crate::plugin::Severity;
use crate::run::Parts;
use crate::schedule::Calendar;

/// Firings shown for each share.
const SHOWN: usize = 3;

/// Slots whose keys have to differ from each other.
const KEYS_COMPARED: usize = 60;

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

pub async fn check(global: &Global) -> Result<Exit, CliError> {
    let config =
        Arc::new(Config::load(&global.config, &crate::config::Environment::of_process()).map_err(|e| told(global, e))?);
    let clock = Clock::system();
    let mut errors = ConfigErrors::new();
    let mut warnings = config.warnings.clone();
    let calendars = daemon::calendars(&config).unwrap_or_else(|found| {
        found.problems().iter().for_each(|problem| errors.push(problem.clone()));
        BTreeMap::new()
    });
    check_keys(&config, &calendars, &clock, &mut errors);
    let (parts, bad) = Parts::build_leniently(&config, clock.clone()).await?;
    for bad in bad {
        let place = config.locate(&["plugins", bad.plugin.as_str(), "path"]);
        errors.at(place, bad.failure.message, bad.failure.remedy);
    }
    let (schemas, not_read) = check_datasets(&config, &parts, &mut errors).await;
    check_options(&config, &parts, &schemas, &mut errors, &mut warnings);
    errors.into_result().map_err(|errors| told(global, errors))?;

    let report = report(&config, &calendars, &clock, &warnings, not_read);
    if global.json {
        output::json(&report);
    } else {
        warnings.iter().for_each(|warning| output::stderr(&warning.render(output::on_terminal())));
        print(&config, &calendars, &report);
    }
    Ok(Exit::Done)
}

/// With `--json` the problems go to stdout, for whatever called.
fn told(global: &Global, errors: ConfigErrors) -> CliError {
    if global.json {
        let problems: Vec<_> = errors.problems().iter().map(Problem::to_json).collect();
        output::json(&serde_json::json!({ "problems": problems }));
    }
    errors.into()
}

/// Two slots with the same keys would overwrite each other.
fn check_keys(config: &Config, calendars: &BTreeMap<ShareName, Calendar>, clock: &Clock, errors: &mut ConfigErrors) {
    for (name, share) in &config.shares {
        let (Some(calendar), Some(customer)) = (calendars.get(name), share.to.first()) else { continue };
        let slots: Vec<Instant> = firings(calendar, clock).take(KEYS_COMPARED).collect();
        let facts =
            slots.iter().map(|slot| KeyFacts { share: name, customer, slot: *slot, interval: calendar.slot_at(*slot) });
        if !share.key.tells_apart(facts) {
            let place = config.locate(&["shares", name.as_str(), "key"]);
            let message = format!("key '{}' is the same for several of the coming slots", share.key.as_str());
            errors.at(place, message, "write the slot in full, as in {slot:%Y-%m-%d}/{slot:%H%M%SZ}");
        }
    }
}

fn firings<'a>(calendar: &'a Calendar, clock: &Clock) -> impl Iterator<Item = Instant> + 'a {
    std::iter::successors(calendar.next(clock.now()), |at| calendar.next(*at))
}

/// Plans every query, with the parameters of a customer who gets it.
async fn check_datasets(
    config: &Config,
    parts: &Parts,
    errors: &mut ConfigErrors,
) -> (BTreeMap<DatasetName, SchemaRef>, Vec<DatasetName>) {
    let mut schemas = BTreeMap::new();
    let mut not_read = Vec::new();
    for (name, dataset) in &config.datasets {
        let Dataset::Tables(dataset) = &**dataset else { continue };
        if dataset.tables.values().any(|table| table.path.starts_with("s3://")) {
            not_read.push(name.clone());
            continue;
        }
        match parts.datasets.check(dataset, example(config, dataset).as_ref()).await {
            Ok(schema) => {
                schemas.insert(name.clone(), schema);
            }
            Err(error) => {
                let place = config.locate(&["datasets", name.as_str(), place_of(&error, dataset)]);
                let failure = Failure::from(error);
                errors.at(place, failure.message, failure.remedy);
            }
        }
    }
    (schemas, not_read)
}

/// Which key of the dataset an error is about.
fn place_of(error: &crate::dataset::DatasetError, dataset: &TableDataset) -> &'static str {
    use crate::dataset::Kind;
    match error.kind {
        Kind::Tenant => "tenant_column",
        Kind::Query | Kind::Parameter if dataset.query.is_some() => "query",
        _ => "tables",
    }
}

fn example(config: &Config, dataset: &TableDataset) -> Option<BTreeMap<String, crate::domain::ParamValue>> {
    let share = config.shares.values().find(|share| share.dataset == dataset.name)?;
    Some(config.customers.get(share.to.first()?)?.params.clone())
}

/// Asks every plugin about its options and the columns it will get.
fn check_options(
    config: &Config,
    parts: &Parts,
    schemas: &BTreeMap<DatasetName, SchemaRef>,
    errors: &mut ConfigErrors,
    warnings: &mut Vec<Problem>,
) {
    for (name, share) in &config.shares {
        let Some(schema) = schemas.get(&share.dataset) else { continue };
        let Ok((component, _)) = parts.component(config, share) else { continue };
        match tokio::task::block_in_place(|| component.check(&share.options, schema)) {
            Ok(found) => {
                for finding in found {
                    let place = config.locate_option(name, &finding.path);
                    match finding.severity {
                        Severity::Error => errors.at(place, finding.message, ""),
                        Severity::Warning => {
                            warnings.push(Problem::new(crate::config::Severity::Warning, place, finding.message, ""));
                        }
                    }
                }
            }
            Err(error) => {
                let place = config.locate(&["shares", name.as_str(), "plugin"]);
                errors.at(place, Failure::chain(&error), "");
            }
        }
    }
}

fn report(
    config: &Config,
    calendars: &BTreeMap<ShareName, Calendar>,
    clock: &Clock,
    warnings: &[Problem],
    not_read: Vec<DatasetName>,
) -> Report {
    let firings = |(name, share): (&ShareName, &Arc<Share>)| {
        let next = calendars.get(name).map(|calendar| firings(calendar, clock).take(SHOWN).collect());
        let customers = share.to.len();
        Firings { share: name.clone(), timezone: share.timezone.to_string(), customers, next: next.unwrap_or_default() }
    };
    Report {
        shares: config.shares.iter().map(firings).collect(),
        customers: config.customers.len(),
        warnings: warnings.iter().map(Problem::to_json).collect(),
        not_read,
    }
}

fn print(config: &Config, calendars: &BTreeMap<ShareName, Calendar>, report: &Report) {
    let (shares, customers) = (report.shares.len(), report.customers);
    line(&format!("the configuration is good: {shares} shares, {customers} customers"));
    for name in &report.not_read {
        line(&format!("  dataset {name} is behind the network: its query and columns were not checked"));
    }
    line("");
    let mut rows = Vec::new();
    for firings in &report.shares {
        let zone = calendars.get(&firings.share).map(Calendar::zone).unwrap_or(chrono_tz::UTC);
        let schedule = config.shares.get(&firings.share).map(|share| share.schedule.clone()).unwrap_or_default();
        for (i, at) in firings.next.iter().enumerate() {
            let first = |text: String| if i == 0 { text } else { String::new() };
            rows.push(vec![
                first(firings.share.to_string()),
                first(schedule.clone()),
                first(firings.customers.to_string()),
                at.with_timezone(&zone).format("%a %Y-%m-%d %H:%M:%S %Z").to_string(),
                at.to_rfc3339_opts(SecondsFormat::Secs, true),
            ]);
        }
    }
    output::table(&["SHARE", "SCHEDULE", "CUSTOMERS", "NEXT", "UTC"], &rows);
}
