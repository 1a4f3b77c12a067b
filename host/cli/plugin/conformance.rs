//! `consign plugin conformance`: what the contract asks of every plugin.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::super::Global;
use super::super::output::{self, CliError, Exit, line};
use super::workbench::{self, About};
use crate::author::Data;
use crate::author::conformance::{CHECKS, Check, Checked, Suite, Verdict};
use crate::config::{PluginOptions, listed, near};
use crate::limits::Isolation;

/// Rows of an input that are used: the checks have each of them in a batch of its own.
const ROWS: usize = 2_000;

#[derive(Args)]
pub struct ConformanceArgs {
    /// A plugin's project, a component's file, or a shipped plugin.
    #[arg(default_value = ".", value_name = "DIR|FILE")]
    path: PathBuf,

    /// Names of checks; without any, all of them.
    #[arg(value_name = "CHECK")]
    names: Vec<String>,

    /// Options that the plugin needs: a TOML file, as in a share's `options`.
    #[arg(long, value_name = "FILE")]
    options: Option<PathBuf>,

    /// Rows that the plugin takes, for one that wants certain columns: a file such as input.parquet.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// A limit, as in `[plugins.NAME.limits]`: `--limits memory="32 MiB"`. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    limits: Vec<String>,

    /// Where its code runs, as in `[plugins.NAME]`: `in-process`, or `process`.
    ///
    /// A process of its own is ended where a plugin does not end by itself, which then is not seen.
    #[arg(long, value_name = "WHERE", value_parser = workbench::isolation)]
    isolation: Option<Isolation>,
}

#[derive(Serialize)]
struct Report {
    plugin: About,
    checks: Vec<Told>,
    passed: usize,
    failed: usize,
    skipped: usize,
}

#[derive(Serialize)]
struct Told {
    check: &'static str,
    wants: &'static str,
    outcome: &'static str,
    /// What was found; may be empty.
    found: String,
    /// What to do, where it failed.
    help: &'static str,
    took_ms: u128,
}

pub async fn conformance(global: &Global, args: &ConformanceArgs) -> Result<Exit, CliError> {
    let limits = workbench::limits(&args.limits)?;
    let options =
        args.options.as_ref().map_or_else(|| Ok(PluginOptions::default()), |path| PluginOptions::load(path))?;
    let checks = chosen(&args.names)?;
    let subject = workbench::subject(&args.path)?;
    let (rig, _cache) = workbench::rig(None)?;
    let component = workbench::load(&rig, args.isolation.unwrap_or_default(), &subject, &limits)?;
    let data = match &args.input {
        Some(path) => Some(Data::read(&rig, path, ROWS).await?),
        None => None,
    };
    let unmade = |error: arrow::error::ArrowError| CliError::internal("cannot make rows", &error);
    let suite = Suite::new(component.clone(), options.json(), &limits, data.as_ref()).map_err(unmade)?;
    workbench::accepts(&component, &options, suite.schema(), data.is_some())?;
    let plugin = About::of(&component, &subject);
    if !global.json {
        line(&format!("{} {}  sha256 {}…", plugin.name, plugin.version, &plugin.sha256[..12]));
    }
    let mut report = Report { plugin, checks: Vec::new(), passed: 0, failed: 0, skipped: 0 };
    for check in checks {
        let checked = suite.run(check).await;
        if !global.json {
            print(&checked);
        }
        report.add(&checked);
    }
    if global.json {
        output::json(&report);
    } else {
        line(&format!("{} passed, {} failed, {} skipped", report.passed, report.failed, report.skipped));
    }
    Ok(if report.failed > 0 { Exit::Failed } else { Exit::Done })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Check>, CliError> {
    let all = || CHECKS.iter().copied().flatten();
    if names.is_empty() {
        return Ok(all().collect());
    }
    let find = |name: &String| {
        all().find(|check| check.name == name).ok_or_else(|| {
            let known = all().map(|check| check.name);
            let help = match near(name, known.clone()) {
                Some(meant) => format!("did you mean '{meant}'?"),
                None => format!("the checks are {}", listed(known)),
            };
            CliError::new(Exit::Failed, format!("there is no check '{name}'"), help)
        })
    };
    names.iter().map(find).collect()
}

impl Report {
    fn add(&mut self, checked: &Checked) {
        let (outcome, found, count) = match &checked.verdict {
            Verdict::Passed(note) => ("passed", note, &mut self.passed),
            Verdict::Failed(why) => ("failed", why, &mut self.failed),
            Verdict::Skipped(why) => ("skipped", why, &mut self.skipped),
        };
        *count += 1;
        let Check { name, wants, remedy, .. } = checked.check;
        let help = if outcome == "failed" { *remedy } else { "" };
        let took_ms = checked.took.as_millis();
        self.checks.push(Told { check: name, wants, outcome, found: found.clone(), help, took_ms });
    }
}

fn print(checked: &Checked) {
    let Check { name, wants, remedy, .. } = checked.check;
    match &checked.verdict {
        Verdict::Passed(note) if note.is_empty() => line(&format!("  pass  {name:<15} {wants}")),
        Verdict::Passed(note) => line(&format!("  pass  {name:<15} {wants} ({note})")),
        Verdict::Skipped(why) => line(&format!("  skip  {name:<15} {why}")),
        Verdict::Failed(why) => {
            line(&format!("  FAIL  {name:<15} {wants}"));
            why.lines().for_each(|text| line(&format!("        {text}")));
            line(&format!("        help: {remedy}"));
        }
    }
}
