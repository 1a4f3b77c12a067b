//! How fast a format is, beside the shipped csv over the same rows.

use std::path::Path;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use futures::{StreamExt, stream};

use super::case::table;
use super::rig::{self, Keep, Rig};
use super::sample;
use crate::config::{CaseSettings, FileFormat};
use crate::domain::{Failure, Layer, Retry};
use crate::limits::Limits;
use crate::plugin::{Component, Failed, Job};

/// Rows in memory, in batches as a dataset gives them.
pub struct Data {
    pub name: String,
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub rows: u64,
    /// As Arrow arrays.
    pub size_bytes: u64,
}

/// One of the two that are compared.
pub struct Side<'a> {
    pub component: &'a Component,
    /// JSON text, an object.
    pub options: &'a str,
    pub limits: &'a Limits,
}

/// One writing of all rows.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Of the plugin, and of the host's work for it.
    pub cpu_time: Duration,
    pub wall_time: Duration,
    pub bytes_out: u64,
    pub peak_memory_bytes: u64,
}

impl Data {
    /// A table like TPC-H's `lineitem`.
    pub fn lineitem(rows: usize) -> Result<Self, Failure> {
        let batches = sample::lineitem(rows);
        let batches = batches.map_err(|error| {
            let message = format!("cannot make rows: {error}");
            Failure::new(Layer::Local, Retry::Never, message, "give it fewer with --rows, or a file's with --input")
        })?;
        let schema = batches.first().map(RecordBatch::schema).ok_or_else(|| none("0 rows were asked for"))?;
        Ok(Self::new("lineitem", schema, batches))
    }

    /// The first rows of a file, read as a dataset reads it.
    pub async fn read(rig: &Rig, path: &Path, rows: usize) -> Result<Self, Failure> {
        let shown = path.display();
        let format = FileFormat::of_path(&path.to_string_lossy()).ok_or_else(|| {
            let why = format!("the format of {shown} cannot be told from its extension");
            Failure::new(Layer::Dataset, Retry::Never, why, "name a file .parquet, .csv, .tsv, .jsonl, .avro or .arrow")
        })?;
        let interval = CaseSettings::default().interval;
        let plan = rig.plan("input", table(path, format), None, interval).await?;
        let schema = plan.schema();
        let (mut stream, mut batches, mut left) = (plan.stream()?, Vec::new(), rows);
        while let Some(batch) = stream.next().await.filter(|_| left > 0) {
            let batch = batch?;
            let batch = batch.slice(0, batch.num_rows().min(left));
            left -= batch.num_rows();
            batches.push(batch);
        }
        Ok(Self::new(&shown.to_string(), schema, batches))
    }

    pub fn new(name: &str, schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let arrays = batches.iter().flat_map(RecordBatch::columns);
        let sizes = arrays.map(|array| array.to_data().get_slice_memory_size().unwrap_or(0) as u64);
        Self { name: name.to_owned(), schema, rows, size_bytes: sizes.sum(), batches }
    }
}

fn none(why: &str) -> Failure {
    Failure::new(
        Layer::Dataset,
        Retry::Never,
        format!("there is nothing to measure: {why}"),
        "ask for more with --rows",
    )
}

/// The rounds of each side, after one that is not counted. They take turns, so
/// that a machine that gets slower is slower for both.
pub async fn bench(sides: &[Side<'_>], data: &Data, rounds: usize) -> Result<Vec<Vec<Round>>, Failed> {
    let mut measured = vec![Vec::new(); sides.len()];
    for round in 0..=rounds {
        for turn in 0..sides.len() {
            let number = (round + turn) % sides.len();
            let once = write(&sides[number], data).await?;
            if round > 0 {
                measured[number].push(once);
            }
        }
    }
    Ok(measured)
}

async fn write(side: &Side<'_>, data: &Data) -> Result<Round, Failed> {
    let job = Job {
        facts: rig::facts(&CaseSettings::default()).list(),
        options: side.options.to_owned(),
        schema: data.schema.clone(),
        limits: side.limits.clone(),
        slot_at: CaseSettings::default().slot,
        span: tracing::Span::current(),
    };
    let batches = stream::iter(data.batches.clone().into_iter().map(Ok));
    let ran = rig::run(side.component, job, batches, Keep::Sizes).await;
    let formatted = ran.ended?;
    Ok(Round {
        cpu_time: formatted.cpu_time,
        wall_time: ran.wall_time,
        bytes_out: formatted.bytes_out,
        peak_memory_bytes: formatted.peak_memory_bytes,
    })
}
