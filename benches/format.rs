//! How fast the shipped formats are, what the sandbox costs, and whether the
//! project's targets of speed are met. Ends with 1 when one is missed.
//!
//! ```text
//! cargo bench --bench format                                # 1,000,000 rows
//! CONSIGN_BENCH_ROWS=100000 cargo bench --bench format
//! ```
//!
//! Each format writes the same batches four ways, in turns:
//!
//! - `sandbox`: the shipped component, through `consign::plugin::format`, its
//!   output taken from the channel and dropped. Compiling it is not counted.
//! - `native`: the same formatter, compiled for this machine. Like the host it
//!   copies a batch's buffers out of Arrow, and its output is only counted.
//! - `arrow`: the writer of arrow-ipc, arrow-csv, arrow-json or parquet, whose
//!   output is only counted.
//! - `process`: as `sandbox`, but in a process of the plugin's own.
//!
//! After that, what `piece_rows` of a share gives: one instance, and several side by side.
//! At the end, plugins of the templates, where the tools they are built with are there.
//! `CONSIGN_BENCH_ONLY="csv starts"` measures these alone: formats, `starts`, `pieces`, `templates`.
//!
//! Time is CPU time of the whole process, which a busy machine does not change
//! much, and below it wall time. The formatter computes on one thread; in the
//! sandbox another one takes the output. What a process of its own costs is
//! told in wall time, because two processes work at the same time.
//!
//! The component is always built with fat LTO, the native code with what the
//! bench profile says.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench prints and may panic"
)]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::writer::FileWriter;
use arrow::json::writer::LineDelimited;
use consign::domain::{OutputEvent, PluginName};
use consign::limits::{Isolation, Limits};
use consign::plugin::{Component, Job, PluginHost, format, shipped};
use consign_sdk::{Batch, Formatter, Naming, ObjectSink, Output, RunFacts, Sink};
use futures::stream;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

#[path = "format/data.rs"]
mod data;
#[path = "format/lent.rs"]
mod lent;
#[path = "format/pieces.rs"]
mod pieces;
#[path = "format/starts.rs"]
mod starts;
#[path = "format/targets.rs"]
mod targets;
#[path = "format/templates.rs"]
mod templates;

use data::{flights, lineitem};
use lent::Lent;
use targets::Targets;

const ROUNDS: usize = 9;

/// What is started to have a plugin in a process of its own.
const WORKER: &str = env!("CARGO_BIN_EXE_consign");

const SIDES: [&str; 4] = ["sandbox", "native", "arrow", "process"];

/// One format, with options that make the others write what Arrow writes.
struct Format {
    name: &'static str,
    options: fn(&Data) -> String,
    native: fn(&Data, &str) -> u64,
    /// None where Arrow has no writer, or none that consign links.
    arrow: Option<fn(&Data) -> u64>,
}

const FORMATS: [Format; 7] = [
    Format { name: "arrow", options: none, native: native::<consign_arrow::Arrow>, arrow: Some(arrow_ipc) },
    Format { name: "avro", options: none, native: native::<consign_avro::Avro>, arrow: None },
    Format { name: "csv", options: none, native: native::<consign_csv::Csv>, arrow: Some(arrow_csv) },
    Format { name: "fixed-width", options: places, native: native::<consign_fixed_width::FixedWidth>, arrow: None },
    // Arrow has no other way to write decimals.
    Format {
        name: "jsonl",
        options: |_| r#"{"decimal": "number"}"#.into(),
        native: native::<consign_jsonl::Jsonl>,
        arrow: Some(arrow_json),
    },
    Format { name: "parquet", options: none, native: native::<consign_parquet::Parquet>, arrow: Some(arrow_parquet) },
    Format { name: "xlsx", options: none, native: native::<consign_xlsx::Xlsx>, arrow: None },
];

fn none(_: &Data) -> String {
    "{}".into()
}

/// Wide enough for what the datasets have.
fn places(data: &Data) -> String {
    let places = data.schema.fields().iter().map(|field| {
        let width = if matches!(field.data_type(), DataType::Utf8) { 44 } else { 24 };
        format!(r#"{{"column":"{}","width":{width}}}"#, field.name())
    });
    format!(r#"{{"columns":[{}]}}"#, places.collect::<Vec<_>>().join(","))
}

/// One dataset, in memory.
struct Data {
    name: &'static str,
    rows: usize,
    schema: SchemaRef,
    plugin_schema: consign_sdk::Schema,
    batches: Vec<RecordBatch>,
}

/// One writing of a dataset.
#[derive(Clone, Copy)]
struct Run {
    bytes: u64,
    cpu: Duration,
    wall: Duration,
}

fn main() {
    let rows = std::env::var("CONSIGN_BENCH_ROWS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let sandbox = Sandbox::new();
    if cfg!(debug_assertions) {
        println!("not a release build: the figures mean nothing but for the sandbox's guest");
    }
    let only = std::env::var("CONSIGN_BENCH_ONLY").ok();
    let is_wanted = |what: &str| only.as_ref().is_none_or(|only| only.split_whitespace().any(|one| one == what));
    let mut targets = Targets::default();
    println!("MB/s of each one's own output, medians of {ROUNDS} rounds; ratios of the speeds in rows");
    for data in [lineitem(rows), flights(rows)] {
        println!("\n{}: {} rows, {} columns", data.name, data.rows, data.schema.fields().len());
        let [a, b, c, d] = SIDES;
        println!("{:17}{:^28}{:^32}{:^26}", "", "MB of output", "MB/s", "ratio of sandbox to");
        println!("{:17}{a:>10}{b:>9}{c:>9}{a:>8}{b:>8}{c:>8}{d:>8}{b:>10}{c:>8}{d:>9}", "");
        for format in FORMATS.iter().filter(|format| is_wanted(format.name)) {
            let [within, own] =
                [Isolation::InProcess, Isolation::Process].map(|place| sandbox.load(format.name, place));
            let runs = measure(&sandbox, format, [&within, &own], &data);
            report(format, &runs);
            let nothing = || [&within, &own].map(|component| starts::run_of_nothing(&sandbox, component, &data));
            targets.formats(format.name, &runs, nothing);
        }
        if is_wanted("starts") {
            targets.starts(&sandbox, &data);
        }
        if is_wanted("pieces") {
            pieces::report(&sandbox, &data, &mut targets);
        }
    }
    if is_wanted("templates") {
        targets.templates();
    }
    if !targets.report() {
        std::process::exit(1);
    }
}

/// The runs of each side, after one that is not counted.
fn measure(sandbox: &Sandbox, format: &Format, [within, own]: [&Component; 2], data: &Data) -> [Vec<Run>; 4] {
    let options = (format.options)(data);
    let side = |side: usize| match side {
        0 => Some(timed(|| sandbox.write(within, data, &options))),
        1 => Some(timed(|| (format.native)(data, &options))),
        2 => format.arrow.map(|arrow| timed(|| arrow(data))),
        _ => Some(timed(|| sandbox.write(own, data, &options))),
    };
    let mut runs = [const { Vec::new() }; 4];
    for round in 0..=ROUNDS {
        // Each side goes first, second and last in turn.
        for number in (0..SIDES.len()).map(|turn| (round + turn) % SIDES.len()) {
            let run = side(number);
            if round > 0 {
                runs[number].extend(run);
            }
        }
    }
    runs
}

fn report(format: &Format, runs: &[Vec<Run>; 4]) {
    let bytes = [0, 1, 2, 3].map(|side| runs[side].first().map_or(0, |run| run.bytes));
    let megabytes = bytes.map(|bytes| bytes as f64 / 1e6);
    let shown = |value: f64, places: usize| match value.is_finite() && value > 0.0 {
        true => format!("{value:.places$}"),
        false => "-".into(),
    };
    for (clock, time) in [("cpu", CPU), ("wall", WALL)] {
        let times = [0, 1, 2, 3].map(|side| median(runs[side].iter().map(time)).as_secs_f64());
        print!("{:12}{clock:5}", format.name);
        for side in [0, 1, 2] {
            print!("{:>w$}", shown(megabytes[side], 1), w = if side == 0 { 10 } else { 9 });
        }
        // The CPU time of a process of its own is not known here.
        let sides = if clock == "cpu" { 3 } else { 4 };
        let speed = |side: usize| if side < sides { shown(megabytes[side] / times[side], 0) } else { "-".into() };
        (0..4).for_each(|side| print!("{:>8}", speed(side)));
        let ratio = |side: usize| if side < sides { shown(times[side] / times[0], 2) } else { "-".into() };
        println!("{:>10}{:>8}{:>9}", ratio(1), ratio(2), ratio(3));
    }
    if bytes[0] != bytes[1] || bytes[0] != bytes[3] {
        println!(
            "{:12}the sandbox wrote {} bytes, the native code {}, a process {}",
            format.name, bytes[0], bytes[1], bytes[3]
        );
    }
}

/// Which of a run's times counts.
type Time = fn(&Run) -> Duration;
const CPU: Time = |run| run.cpu;
const WALL: Time = |run| run.wall;

fn wall<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    drop(work());
    started.elapsed()
}

fn timed(work: impl FnOnce() -> u64) -> Run {
    let (cpu, wall) = (process_cpu_time(), Instant::now());
    let bytes = work();
    Run { bytes, cpu: process_cpu_time() - cpu, wall: wall.elapsed() }
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn process_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}

struct Sandbox {
    runtime: tokio::runtime::Runtime,
    host: PluginHost,
    _cache: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Self {
        let cache = tempfile::tempdir().expect("a temporary directory");
        let host = PluginHost::new(cache.path()).expect("the plugin engine starts").with_worker(Path::new(WORKER));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        Self { runtime, host, _cache: cache }
    }

    fn load(&self, format: &str, isolation: Isolation) -> Component {
        let name = PluginName::parse(format).expect("a plugin's name");
        let bytes = shipped(format).expect("a shipped format");
        self.host.load_in(isolation, &name, bytes, &Limits::default()).expect("a shipped format loads")
    }

    fn write(&self, component: &Component, data: &Data, options: &str) -> u64 {
        let job = job(data, options);
        let batches = stream::iter(data.batches.clone().into_iter().map(Ok));
        self.runtime.block_on(async {
            let (sender, mut receiver) = mpsc::channel(4);
            let drain = async {
                let mut total = 0;
                while let Some(event) = receiver.recv().await {
                    if let OutputEvent::Bytes { bytes, .. } = event {
                        total += bytes.len() as u64;
                    }
                }
                total
            };
            let (formatted, bytes) = tokio::join!(format(component.clone(), job, batches, sender), drain);
            let formatted = formatted.expect("the format writes the dataset");
            assert_eq!((formatted.rows, formatted.bytes_out), (data.rows as u64, bytes));
            bytes
        })
    }
}

fn job(data: &Data, options: &str) -> Job {
    Job {
        facts: ["share", "customer", "object-stem"].map(|key| (key.to_owned(), "bench".to_owned())).into(),
        options: options.into(),
        schema: data.schema.clone(),
        limits: Limits::default(),
        slot_at: consign::clock::Instant::UNIX_EPOCH,
        span: tracing::Span::none(),
    }
}

/// Counts bytes, for whomever.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU64>);

impl Count {
    fn add(&self, bytes: &[u8]) {
        self.0.fetch_add(std::hint::black_box(bytes).len() as u64, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Sink for Count {
    fn create(&self, _name: &str, _media_type: &str) -> Box<dyn ObjectSink> {
        Box::new(self.clone())
    }
}

impl ObjectSink for Count {
    fn write(&mut self, bytes: &[u8]) {
        self.add(bytes);
    }

    fn finish(self: Box<Self>, _rows: u64) {}
}

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn native<F: Formatter>(data: &Data, options: &str) -> u64 {
    let (sink, run) = (Count::default(), RunFacts::of([("object-stem", "bench")]));
    let mut naming = Naming::new(&run, F::EXTENSION, F::MEDIA_TYPE).expect("no facts that are wrong");
    let options = consign_sdk::options::parse(options).expect("options of the format");
    let mut formatter = F::open(options, &data.plugin_schema, &run).expect("the format can write the schema");
    for batch in &data.batches {
        let lent = Lent(batch);
        let batch = Batch::new(&data.plugin_schema, &lent);
        formatter.write(&batch, &mut Output::new(&sink, &mut naming)).expect("the format writes a batch");
    }
    formatter.finish(&mut Output::new(&sink, &mut naming)).expect("the format ends its object");
    sink.total()
}

fn arrow_ipc(data: &Data) -> u64 {
    let count = Count::default();
    let mut writer = FileWriter::try_new(count.clone(), &data.schema).expect("Arrow writes the schema");
    for batch in &data.batches {
        writer.write(batch).expect("Arrow writes a batch");
    }
    writer.finish().expect("Arrow ends its file");
    count.total()
}

fn arrow_csv(data: &Data) -> u64 {
    let count = Count::default();
    let mut writer = arrow::csv::Writer::new(count.clone());
    for batch in &data.batches {
        writer.write(batch).expect("Arrow writes a batch");
    }
    drop(writer);
    count.total()
}

fn arrow_json(data: &Data) -> u64 {
    let count = Count::default();
    let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, LineDelimited>(count.clone());
    for batch in &data.batches {
        writer.write(batch).expect("Arrow writes a batch");
    }
    writer.finish().expect("Arrow ends its output");
    count.total()
}

/// With the properties that the format's own options have unless told otherwise.
fn arrow_parquet(data: &Data) -> u64 {
    let count = Count::default();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).expect("a level of zstd")))
        .set_max_row_group_row_count(Some(1024 * 1024))
        .set_max_row_group_bytes(Some(64 * 1024 * 1024))
        .set_data_page_row_count_limit(20_000)
        .set_coerce_types(true)
        .build();
    let writer = ArrowWriter::try_new(count.clone(), data.schema.clone(), Some(properties));
    let mut writer = writer.expect("Parquet can hold the schema");
    for batch in &data.batches {
        writer.write(batch).expect("Parquet writes a batch");
    }
    writer.close().expect("Parquet ends its file");
    count.total()
}

impl Data {
    fn new(name: &'static str, batches: Vec<RecordBatch>) -> Self {
        let schema = batches.first().expect("a dataset of the bench has rows").schema();
        let plugin_schema = lent::schema(&schema);
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        Self { name, rows, schema, plugin_schema, batches }
    }

    fn without_rows(&self) -> Self {
        self.with(Vec::new())
    }

    /// Its batches, dealt out to so many.
    fn parts(&self, count: usize) -> Vec<Self> {
        let part = |number| self.batches.iter().skip(number).step_by(count).cloned().collect();
        (0..count).map(|number| self.with(part(number))).collect()
    }

    /// As large as so many of it.
    fn times(&self, count: usize) -> Self {
        self.with(vec![&self.batches[..]; count].concat())
    }

    fn with(&self, batches: Vec<RecordBatch>) -> Self {
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let (schema, plugin_schema) = (self.schema.clone(), self.plugin_schema.clone());
        Self { name: self.name, rows, schema, plugin_schema, batches }
    }
}
