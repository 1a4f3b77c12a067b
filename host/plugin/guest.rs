//! A plugin's code in this process: its calls, under what can end them.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use wasmtime::{Engine, Store};

use super::failed::{Cause, Failed, Stop};
use super::logs::Logs;
use super::observe::{Observe, Observed, Watch};
use super::output::{Outlet, Output};
use super::spent::Spent;
use super::store::{self, Setting, State};
use super::v1::{self, Said};
use super::{Formatted, Job, failed, meter, output, plain};
use crate::clock::Instant;
use crate::domain::{Failure, Layer, PluginName, Retry};
use crate::limits::Limits;

/// Most rows of one batch, by the contract.
const BATCH_ROWS_MAX: usize = 65_536;

/// Bytes from which a batch is split further, so that wide rows do not fill a
/// guest's memory. One row is never split.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Where the output goes, and what ends the run while it waits; and what it has in
/// common with the other instances of its delivery.
#[derive(Clone)]
pub struct Ends {
    pub output: Outlet,
    pub cancel: CancellationToken,
    pub spent: Arc<Spent>,
    /// What its objects' names have to begin with, if it is one of several.
    pub stem: Option<String>,
}

/// A component, compiled and linked.
pub struct Code {
    pub engine: Engine,
    pub prepared: v1::Prepared,
    /// What its author wants to see, and what to call it there.
    pub observed: Option<(Observe, PluginName)>,
}

impl Code {
    /// The run, under what can end it while it waits. (What can end it while it
    /// computes is in [`meter::Meter::look`].)
    pub async fn format<S>(
        &self,
        job: &Job,
        batches: S,
        logs: Logs,
        ends: Ends,
    ) -> (Result<Formatted, Failed>, Observed)
    where
        S: Stream<Item = Result<RecordBatch, Failure>> + Unpin,
    {
        let (outside, wall_time) = (ends.clone(), job.limits.wall_time);
        let mut run = match Run::new(self, job, logs.clone(), ends) {
            Ok(run) => run,
            Err(error) => return (Err(failed::classify(&error, logs.finish())), Observed::default()),
        };
        let ended = match outside.unless_ended(wall_time, run.whole(self, job, batches)).await {
            Ok(ended) => ended,
            Err(stop) => Err(Ended::Failed(stop.into())),
        };
        let observed = run.observed(self, ended.as_ref().err());
        let (stderr_tail, batch_number) = (logs.finish(), run.batch_number);
        (ended.map_err(|ended| Failed { batch_number, ..ended.failed(stderr_tail) }), observed)
    }

    fn watch(&self) -> wasmtime::Result<Watch> {
        let Some((observe, name)) = &self.observed else { return Ok(Watch::default()) };
        Watch::new(Some(*observe), name, self.prepared.instance_pre().component())
    }

    /// Calls a function that moves no data on a thread of its own: callers may or
    /// may not be inside a runtime.
    pub fn quick<T: Send>(
        &self,
        limits: &Limits,
        logs: &Logs,
        call: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<T> + Send,
    ) -> Result<T, Failed> {
        let host = |error: std::io::Error| Failed::new(Cause::Host, format!("cannot start a runtime: {error}"));
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(host)?;
            runtime.block_on(self.call(limits, logs, call))
        };
        std::thread::scope(|scope| {
            let thread = scope.spawn(work);
            thread.join().unwrap_or_else(|_| Err(Failed::new(Cause::Host, "the plugin host panicked")))
        })
    }

    /// The same, for who is inside a runtime of one thread.
    pub async fn call<T>(
        &self,
        limits: &Limits,
        logs: &Logs,
        call: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<T, Failed> {
        let setting = Setting {
            limits,
            facts: Vec::new(),
            at: Instant::UNIX_EPOCH,
            logs: logs.clone(),
            span: tracing::Span::none(),
            cancel: CancellationToken::new(),
            output: None,
            spent: Arc::default(),
            stem: None,
            watch: Watch::default(),
        };
        let mut store = store::new(&self.engine, setting);
        match tokio::time::timeout(limits.wall_time, call(&mut store)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(failed::classify(&error, logs.finish())),
            Err(_) => Err(Failed { stderr_tail: logs.finish(), ..meter::wall_time(limits.wall_time).into() }),
        }
    }
}

impl Ends {
    /// Of the only instance.
    pub fn of(output: impl Into<Outlet>) -> Self {
        Self { output: output.into(), cancel: CancellationToken::new(), spent: Arc::default(), stem: None }
    }

    /// The work's end, or what ended it before.
    pub async fn unless_ended<T>(&self, wall_time: Duration, work: impl Future<Output = T>) -> Result<T, Stop> {
        // Not of the task's budget, which work that always has something to do uses up.
        let too_late = tokio::task::unconstrained(tokio::time::sleep(wall_time));
        tokio::select! {
            biased;
            ended = work => Ok(ended),
            () = self.cancel.cancelled() => Err(meter::cancelled()),
            () = self.output.closed() => Err(output::closed()),
            () = too_late => Err(meter::wall_time(wall_time)),
        }
    }
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
    fn new(code: &Code, job: &Job, logs: Logs, ends: Ends) -> wasmtime::Result<Self> {
        let setting = Setting {
            limits: &job.limits,
            facts: job.facts.clone(),
            at: job.slot_at,
            logs,
            span: job.span.clone(),
            output: Some(Output::new(&ends, &job.limits)),
            cancel: ends.cancel,
            spent: ends.spent,
            stem: ends.stem,
            watch: code.watch()?,
        };
        let store = store::new(&code.engine, setting);
        Ok(Self { store, plain: Arc::new(plain::schema(&job.schema)), batch_number: 0, rows_in: 0 })
    }

    async fn whole<S>(&mut self, code: &Code, job: &Job, mut batches: S) -> Result<Formatted, Ended>
    where
        S: Stream<Item = Result<RecordBatch, Failure>> + Unpin,
    {
        let formatter = v1::Formatter::open(&mut self.store, &code.prepared, &job.options, &self.plain).await??;
        while let Some(batch) = batches.next().await {
            // Batches that are always there would keep the run from being told to end.
            tokio::task::consume_budget().await;
            let batch = batch.map_err(|failure| Ended::Failed(Failed::input(failure)))?;
            self.batch_number += 1;
            self.rows_in += batch.num_rows() as u64;
            for part in parts(&batch, &self.plain) {
                formatter.write(&mut self.store, part.map_err(Ended::Failed)?).await??;
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

    fn observed(&mut self, code: &Code, ended: Option<&Ended>) -> Observed {
        let coredump = match (ended, &code.observed) {
            (Some(Ended::Guest(error)), Some((_, name))) => Watch::coredump(error, &mut self.store, name),
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

/// What a batch is handed over as: plain, and in pieces that the contract allows.
pub fn parts(batch: &RecordBatch, plain: &SchemaRef) -> impl Iterator<Item = Result<RecordBatch, Failed>> {
    let pieces = (0..batch.num_rows()).step_by(BATCH_ROWS_MAX).map(move |begin| {
        let rows = BATCH_ROWS_MAX.min(batch.num_rows() - begin);
        plain::batch(&batch.slice(begin, rows), plain).map(halved).map_err(not_plain)
    });
    pieces.flat_map(|piece| match piece {
        Ok(halves) => halves.into_iter().map(Ok).collect(),
        Err(failed) => vec![Err(failed)],
    })
}

/// A batch that is too large to hand over at once, in halves of halves.
fn halved(batch: RecordBatch) -> Vec<RecordBatch> {
    let bytes: usize = batch.columns().iter().map(plain::bytes).sum();
    let half = batch.num_rows() / 2;
    if half == 0 || bytes <= BATCH_BYTES_MAX {
        return vec![batch];
    }
    let mut all = halved(batch.slice(0, half));
    all.extend(halved(batch.slice(half, batch.num_rows() - half)));
    all
}

fn not_plain(error: arrow::error::ArrowError) -> Failed {
    let message = format!("a batch cannot be handed to the plugin: {error}");
    let remedy = "cast the column in the dataset's query to a plain type";
    Failed::input(Failure::new(Layer::Dataset, Retry::Never, message, remedy))
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

/// The limits of a call that moves no data.
pub fn quick_limits(limits: &Limits) -> Limits {
    Limits {
        cpu_time: limits.cpu_time.min(Duration::from_secs(10)),
        wall_time: limits.wall_time.min(Duration::from_secs(30)),
        ..limits.clone()
    }
}
