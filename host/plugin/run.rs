//! One run: every batch through the guest, under what can end it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wasmtime::Store;

use super::failed::{self, Stop};
use super::logs::Logs;
use super::observe::Watch;
use super::store::{self, Setting, State};
use super::v1::{self, Said};
use super::{Component, Failed, Formatted, Job, Observed, meter, output, plain};
use crate::domain::{Failure, Layer, OutputEvent, Retry};

/// Most rows of one batch, by the contract.
const BATCH_ROWS_MAX: usize = 65_536;

/// Bytes from which a batch is split further, so that wide rows do not fill a
/// guest's memory. One row is never split.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// The run, under what can end it while it waits. (What can end it while it
/// computes is in [`meter::Meter::look`].)
pub async fn bounded<S>(
    component: Component,
    job: Job,
    batches: S,
    output: mpsc::Sender<OutputEvent>,
    cancel: CancellationToken,
) -> (Result<Formatted, Failed>, Observed)
where
    S: Stream<Item = Result<RecordBatch, Failure>> + Unpin,
{
    let logs = Logs::new(component.name().to_string(), job.span.clone(), job.limits.log_lines);
    let wall_time = job.limits.wall_time;
    let mut run = match Run::new(&component, &job, output.clone(), cancel.clone(), logs.clone()) {
        Ok(run) => run,
        Err(error) => return (Err(failed::classify(&error, logs.finish())), Observed::default()),
    };
    let ended = tokio::select! {
        biased;
        ended = run.whole(&component, &job, batches) => ended,
        () = cancel.cancelled() => Err(meter::cancelled().into()),
        () = output.closed() => Err(output::closed().into()),
        () = tokio::time::sleep(wall_time) => Err(meter::wall_time(wall_time).into()),
    };
    let observed = run.observed(&component, ended.as_ref().err());
    let stderr_tail = logs.finish();
    let batch_number = run.batch_number;
    if let Ok(formatted) = &ended {
        formatted.log(component.name(), &job.span);
    }
    (ended.map_err(|ended| Failed { batch_number, ..ended.failed(stderr_tail) }), observed)
}

struct Run {
    store: Store<State>,
    plain: SchemaRef,
    batch_number: u64,
    rows_in: u64,
}

/// How a run ended badly, before it is told in words.
enum Ended {
    Guest(wasmtime::Error),
    Said(Said),
    Failed(Failed),
}

impl Run {
    fn new(
        component: &Component,
        job: &Job,
        output: mpsc::Sender<OutputEvent>,
        cancel: CancellationToken,
        logs: Logs,
    ) -> wasmtime::Result<Self> {
        let setting = Setting {
            limits: &job.limits,
            facts: job.facts.clone(),
            at: job.slot_at,
            logs,
            span: job.span.clone(),
            cancel,
            output: Some(output),
            watch: Watch::new(component.0.observe, component.name(), component.0.code())?,
        };
        let store = store::new(&component.0.engine, setting);
        Ok(Self { store, plain: Arc::new(plain::schema(&job.schema)), batch_number: 0, rows_in: 0 })
    }

    async fn whole<S>(&mut self, component: &Component, job: &Job, mut batches: S) -> Result<Formatted, Ended>
    where
        S: Stream<Item = Result<RecordBatch, Failure>> + Unpin,
    {
        let prepared = &component.0.prepared;
        let formatter = v1::Formatter::open(&mut self.store, prepared, &job.options, &self.plain).await??;
        while let Some(batch) = batches.next().await {
            // Batches that are always there would keep the run from being told to end.
            tokio::task::consume_budget().await;
            let batch = batch.map_err(|failure| Ended::Failed(Failed::input(failure)))?;
            self.batch_number += 1;
            self.rows_in += batch.num_rows() as u64;
            for begin in (0..batch.num_rows()).step_by(BATCH_ROWS_MAX) {
                let rows = BATCH_ROWS_MAX.min(batch.num_rows() - begin);
                let plain = plain::batch(&batch.slice(begin, rows), &self.plain).map_err(not_plain)?;
                for part in parts(plain) {
                    formatter.write(&mut self.store, part).await??;
                }
            }
        }
        formatter.finish(&mut self.store).await??;
        let State { meter, space, .. } = self.store.data();
        let (cpu_time, peak_memory_bytes) = (meter.cpu_time(), space.memory_peak());
        let output = self.store.data_mut().output().map_err(wasmtime::Error::from)?;
        output.end(self.rows_in).map_err(wasmtime::Error::from)?;
        let (objects, bytes_out) = (output.objects(), output.bytes());
        Ok(Formatted { rows: self.rows_in, objects, bytes_out, cpu_time, peak_memory_bytes })
    }

    fn observed(&mut self, component: &Component, ended: Option<&Ended>) -> Observed {
        let coredump = match ended {
            Some(Ended::Guest(error)) => Watch::coredump(error, &mut self.store, component.name()),
            _ => None,
        };
        let State { meter, space, watch, .. } = self.store.data_mut();
        Observed {
            rows: self.rows_in,
            batches: self.batch_number,
            cpu_time: meter.cpu_time(),
            peak_memory_bytes: space.memory_peak(),
            coredump,
            ..watch.finish()
        }
    }
}

/// A batch that is too large to hand over at once, in halves of halves.
fn parts(batch: RecordBatch) -> Vec<RecordBatch> {
    let bytes: usize = batch.columns().iter().map(plain::bytes).sum();
    let half = batch.num_rows() / 2;
    if half == 0 || bytes <= BATCH_BYTES_MAX {
        return vec![batch];
    }
    let mut all = parts(batch.slice(0, half));
    all.extend(parts(batch.slice(half, batch.num_rows() - half)));
    all
}

fn not_plain(error: arrow::error::ArrowError) -> Ended {
    let message = format!("a batch cannot be handed to the plugin: {error}");
    let remedy = "cast the column in the dataset's query to a plain type";
    Ended::Failed(Failed::input(Failure::new(Layer::Dataset, Retry::Never, message, remedy)))
}

impl Ended {
    fn failed(self, stderr_tail: Vec<String>) -> Failed {
        match self {
            Ended::Guest(error) => failed::classify(&error, stderr_tail),
            Ended::Said(said) => Failed { stderr_tail, ..Failed::new(said.cause, said.message) },
            Ended::Failed(failed) => Failed { stderr_tail, ..failed },
        }
    }
}

impl From<wasmtime::Error> for Ended {
    fn from(error: wasmtime::Error) -> Self {
        Ended::Guest(error)
    }
}

impl From<Said> for Ended {
    fn from(said: Said) -> Self {
        Ended::Said(said)
    }
}

/// Ended from outside, while it waited.
impl From<Stop> for Ended {
    fn from(stop: Stop) -> Self {
        Ended::Failed(Failed::new(stop.cause, stop.message))
    }
}
