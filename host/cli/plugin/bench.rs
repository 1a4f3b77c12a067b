//! `consign plugin bench`: how fast a plugin is, beside the shipped csv.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::super::Global;
use super::super::output::{self, CliError, Exit, bytes, count, line, table, thousands};
use super::workbench;
use crate::author::{self, Data, Round, Side, Subject};
use crate::config::PluginOptions;
use crate::limits::{Isolation, Limits};
use crate::plugin::Component;

/// What every plugin is measured by.
const YARDSTICK: &str = "csv";

#[derive(Args)]
pub struct BenchArgs {
    /// A plugin's project, a component's file, or a shipped plugin.
    #[arg(default_value = ".", value_name = "DIR|FILE")]
    path: PathBuf,

    /// The plugin's options: a TOML file, as in a share's `options`.
    #[arg(long, value_name = "FILE")]
    options: Option<PathBuf>,

    /// The rows to write: a file such as input.parquet; without one, rows like TPC-H's lineitem.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// How many rows: of the file the first ones.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,

    /// How often each of the two writes them all, one more that is not counted aside.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// A limit, as in `[plugins.NAME.limits]`: `--limits memory="32 MiB"`. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    limits: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    input: Input,
    rounds: u16,
    /// The plugin, then the yardstick.
    plugins: Vec<Measured>,
    /// Of the rows a second of CPU time: the plugin's by the yardstick's.
    ratio: f64,
}

#[derive(Serialize)]
struct Input {
    name: String,
    rows: u64,
    columns: usize,
    /// As Arrow arrays.
    bytes: u64,
}

#[derive(Serialize)]
struct Measured {
    name: String,
    version: String,
    sha256: String,
    bytes_out: u64,
    cpu_ms: Spread,
    wall_ms: Spread,
    rows_per_second: Spread,
    input_mb_per_second: Spread,
    output_mb_per_second: Spread,
    peak_memory_bytes: u64,
}

/// Over the rounds. Speeds are by CPU time.
#[derive(Clone, Copy, Serialize)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

pub async fn bench(global: &Global, args: &BenchArgs) -> Result<Exit, CliError> {
    let limits = workbench::limits(&args.limits)?;
    let options =
        args.options.as_ref().map_or_else(|| Ok(PluginOptions::default()), |path| PluginOptions::load(path))?;
    let subject = workbench::subject(&args.path)?;
    let (rig, _cache) = workbench::rig(None)?;
    // Both in this process: a process of its own costs each run the same, whatever the format.
    let here = Isolation::InProcess;
    let component = workbench::load(&rig, here, &subject, &limits)?;
    let yardstick = workbench::load(&rig, here, &workbench::subject(YARDSTICK.as_ref())?, &Limits::default())?;
    let rows = args.rows as usize;
    let data = match &args.input {
        Some(path) => Data::read(&rig, path, rows).await?,
        None => tokio::task::block_in_place(|| Data::lineitem(rows))?,
    };
    workbench::accepts(&component, &options, &data.schema, args.input.is_some())?;
    let usual = Limits::default();
    let sides = [
        Side { component: &component, options: options.json(), limits: &limits },
        Side { component: &yardstick, options: "{}", limits: &usual },
    ];
    let rounds = author::bench(&sides, &data, args.rounds.into()).await.map_err(workbench::failed)?;
    let report = report(args, &subject, &[component, yardstick], &data, &rounds);
    if global.json {
        output::json(&report);
    } else {
        report.print();
    }
    Ok(Exit::Done)
}

fn report(args: &BenchArgs, subject: &Subject, components: &[Component], data: &Data, rounds: &[Vec<Round>]) -> Report {
    let mut plugins: Vec<Measured> =
        components.iter().zip(rounds).map(|(component, rounds)| Measured::new(component, data, rounds)).collect();
    // Two of one name are told apart by the file.
    if let [plugin, yardstick] = &mut plugins[..]
        && plugin.name == yardstick.name
        && let Some(file) = &subject.file
    {
        plugin.name = format!("{} ({})", plugin.name, file.display());
    }
    let speed = |number: usize| plugins.get(number).map_or(f64::NAN, |measured| measured.rows_per_second.median);
    Report {
        input: Input {
            name: data.name.clone(),
            rows: data.rows,
            columns: data.schema.fields().len(),
            bytes: data.size_bytes,
        },
        rounds: args.rounds,
        ratio: speed(0) / speed(1),
        plugins,
    }
}

impl Measured {
    fn new(component: &Component, data: &Data, rounds: &[Round]) -> Self {
        let said = component.description();
        let cpu = |round: &Round| round.cpu_time.max(Duration::from_micros(1)).as_secs_f64();
        let spread = |of: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(of).collect());
        Self {
            name: said.name.clone(),
            version: said.version.clone(),
            sha256: component.digest().to_owned(),
            bytes_out: rounds.first().map_or(0, |round| round.bytes_out),
            cpu_ms: spread(&|round| cpu(round) * 1e3),
            wall_ms: spread(&|round| round.wall_time.as_secs_f64() * 1e3),
            rows_per_second: spread(&|round| data.rows as f64 / cpu(round)),
            input_mb_per_second: spread(&|round| data.size_bytes as f64 / 1e6 / cpu(round)),
            output_mb_per_second: spread(&|round| round.bytes_out as f64 / 1e6 / cpu(round)),
            peak_memory_bytes: rounds.iter().map(|round| round.peak_memory_bytes).max().unwrap_or(0),
        }
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { median: at(values.len() / 2), lowest: at(0), highest: at(values.len().saturating_sub(1)) }
    }

    /// `12.3 (11.9 to 13.0)`
    fn text(self) -> String {
        format!("{} ({} to {})", digits(self.median), digits(self.lowest), digits(self.highest))
    }
}

/// Three digits that matter, or all before the point.
fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => thousands(value.round() as u64),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

impl Report {
    fn print(&self) {
        let Input { name, rows, columns, bytes: size } = &self.input;
        let (rows, columns) = (thousands(*rows), count(*columns, "column"));
        line(&format!("{name}: {rows} rows, {columns}, {:.1} MB as Arrow arrays", *size as f64 / 1e6));
        let rounds = count(self.rounds.into(), "round");
        line(&format!("{rounds} in turns, medians (lowest to highest); speeds by CPU time of the plugin"));
        line("");
        let row = |measured: &Measured| {
            vec![
                format!("{} {}", measured.name, measured.version),
                measured.rows_per_second.text(),
                measured.input_mb_per_second.text(),
                measured.output_mb_per_second.text(),
                measured.cpu_ms.text(),
                measured.wall_ms.text(),
                bytes(measured.peak_memory_bytes),
                bytes(measured.bytes_out),
            ]
        };
        let header = ["PLUGIN", "ROWS/S", "INPUT MB/S", "OUTPUT MB/S", "CPU MS", "WALL MS", "PEAK MEMORY", "WROTE"];
        table(&header, &self.plugins.iter().map(row).collect::<Vec<_>>());
        line("");
        line(&format!("{:.2} times the rows a second that the shipped {YARDSTICK} writes", self.ratio));
    }
}
