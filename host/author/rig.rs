//! Runs a component as a delivery would: the dataset's batches go in, and what
//! comes out is kept in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use futures::Stream;
use serde::Serialize;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::subject::Subject;
use crate::config::{CaseSettings, TableDataset, TableSource};
use crate::dataset::{Datasets, Plan, Request, VendorCredentials, VendorKeys, VendorStore};
use crate::domain::{DatasetName, Failure, Interval, Layer, OutputEvent, Retry, RunId, TableName};
use crate::limits::{Isolation, Limits};
use crate::plugin::{self, Component, Facts, Failed, Formatted, Job, Observe, Observed, PluginError, PluginHost};

/// What queries over inputs may hold, as in a daemon.
const QUERY_MEMORY_BYTES: usize = 256 << 20;

/// Output that waits for whoever takes it, in events; as in a delivery.
const OUTPUT_QUEUE: usize = 8;

/// The table that a query of a case speaks of.
const INPUT: &str = "input";

/// An engine and a reader of datasets, on this machine alone.
pub struct Rig {
    host: PluginHost,
    datasets: Datasets,
    _spill: TempDir,
}

/// What becomes of the bytes of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// In memory; a run that writes more than this many is given up.
    Bytes(u64),
    /// Only how many they are.
    Sizes,
}

/// How the output is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// As it comes.
    Prompt,
    /// Each event after a pause, like a bucket that is far away.
    Slow(Duration),
    /// The first events, and then no more, like an upload that has failed.
    Closed { after: usize },
}

/// A run, however it ended.
#[derive(Debug)]
pub struct Ran {
    pub ended: Result<Formatted, Failed>,
    /// In order of creation. Of a run that failed, what there was by then.
    pub objects: Vec<Object>,
    pub observed: Observed,
    /// From the first call to the last, reading included.
    pub wall_time: Duration,
}

/// What a plugin wrote under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub name: String,
    pub media_type: String,
    /// Empty where only sizes are kept.
    pub bytes: Vec<u8>,
    pub size_bytes: u64,
    /// None: it was not finished.
    pub rows: Option<u64>,
}

/// What a run took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    pub rows: u64,
    pub batches: u64,
    pub objects: usize,
    pub bytes: u64,
    pub cpu_ms: f64,
    pub wall_ms: f64,
    pub peak_memory_bytes: u64,
    pub host_calls: u64,
    /// Computed by the host in those calls, which is part of `cpu_ms`.
    pub host_ms: f64,
}

impl Ran {
    pub fn figures(&self) -> Figures {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let Observed { rows, batches, cpu_time, peak_memory_bytes, host_calls, host_time, .. } = self.observed;
        Figures {
            rows,
            batches,
            objects: self.objects.len(),
            bytes: self.objects.iter().map(|object| object.size_bytes).sum(),
            cpu_ms: ms(cpu_time),
            wall_ms: ms(self.wall_time),
            peak_memory_bytes,
            host_calls,
            host_ms: ms(host_time),
        }
    }
}

/// Components that stay compiled: those of the last edits are not asked for again.
const COMPILED_MAX: usize = 16;

impl Rig {
    /// Keeps compiled components under `cache`, which must be this user's alone.
    ///
    /// Without `observe` runs are as the daemon's, to the last instruction.
    pub fn new(cache: &Path, observe: Option<Observe>) -> Result<Self, Failure> {
        let failed = |why: String, remedy: String| Failure::new(Layer::Local, Retry::Never, why, remedy);
        let host = match observe {
            Some(observe) => PluginHost::observing(cache, observe),
            None => PluginHost::new(cache),
        };
        let host = host.map_err(|error| failed(Failure::chain(&error), error.remedy()))?;
        let spill = tempfile::tempdir().map_err(|error| {
            failed(format!("cannot make a temporary folder: {error}"), "set TMPDIR to where there is room".into())
        })?;
        let (region, credentials) = ("us-east-1".to_owned(), Arc::new(Nobody));
        let vendor = VendorStore { endpoint: None, region, path_style: false, credentials };
        let datasets = Datasets::new(QUERY_MEMORY_BYTES, spill.path(), vendor)?;
        Ok(Self { host, datasets, _spill: spill })
    }

    /// Compiles a component, or takes it from the cache. Computes for seconds the first time.
    pub fn load(&self, isolation: Isolation, subject: &Subject, limits: &Limits) -> Result<Component, PluginError> {
        let component = self.host.load_in(isolation, &subject.name, &subject.bytes, limits);
        self.host.forget(COMPILED_MAX);
        component
    }

    /// Plans to read an input: every row of it, or what a query over the table `input` makes of it.
    pub async fn plan(
        &self,
        dataset: &str,
        input: TableSource,
        query: Option<String>,
        interval: Interval,
    ) -> Result<Plan, Failure> {
        let invalid = |why: crate::domain::Invalid| {
            Failure::new(Layer::Config, Retry::Never, why.0, "correct `dataset` in case.toml")
        };
        let name = DatasetName::parse(dataset).map_err(invalid)?;
        let tables = BTreeMap::from([(TableName::parse(INPUT).map_err(invalid)?, input)]);
        let dataset = TableDataset { name, tables, query, tenant: None, shared: true };
        let request = Request { interval, params: &BTreeMap::new() };
        Ok(self.datasets.plan(&dataset, &request).await?)
    }
}

/// Runs a component over batches to its end.
pub async fn run<S>(component: &Component, job: Job, batches: S, keep: Keep) -> Ran
where
    S: Stream<Item = Result<RecordBatch, Failure>> + Send + Unpin + 'static,
{
    run_taking(component, job, batches, keep, Taking::Prompt).await
}

/// As [`run`], with output that is taken like this.
pub async fn run_taking<S>(component: &Component, job: Job, batches: S, keep: Keep, taking: Taking) -> Ran
where
    S: Stream<Item = Result<RecordBatch, Failure>> + Send + Unpin + 'static,
{
    let began = Instant::now();
    let (sender, mut events) = mpsc::channel(if taking == Taking::Prompt { OUTPUT_QUEUE } else { 1 });
    let formatting = plugin::observe(component.clone(), job, batches, sender);
    let taking = async move {
        let (mut taken, mut count) = (Taken { objects: Vec::new(), bytes: 0 }, 0);
        // Dropping the receiver ends the plugin.
        while taking != (Taking::Closed { after: count })
            && let Some(event) = events.recv().await
        {
            if let Taking::Slow(pause) = taking {
                tokio::time::sleep(pause).await;
            }
            count += 1;
            if !taken.take(event, keep) {
                break;
            }
        }
        taken
    };
    let ((ended, observed), taken) = tokio::join!(formatting, taking);
    let ended = match keep {
        Keep::Bytes(max) if taken.bytes > max => {
            let max = bytesize::ByteSize(max);
            Err(Failed::new(plugin::Cause::Output, format!("wrote more than {max}, which is all that is kept here")))
        }
        _ => ended,
    };
    Ran { ended, objects: taken.objects, observed, wall_time: began.elapsed() }
}

/// What a plugin may know of a run that nobody scheduled.
pub fn facts(settings: &CaseSettings) -> Facts<'_> {
    Facts {
        share: &settings.share,
        customer: &settings.customer,
        dataset: &settings.dataset,
        run: RunId::new(settings.slot).to_string(),
        attempt: settings.attempt,
        slot: settings.slot,
        interval: settings.interval,
        timezone: settings.timezone,
        max_object_bytes: settings.max_object_bytes,
    }
}

struct Taken {
    objects: Vec<Object>,
    bytes: u64,
}

impl Taken {
    /// Whether there is room for more.
    fn take(&mut self, event: OutputEvent, keep: Keep) -> bool {
        match event {
            OutputEvent::Create { name, media_type, .. } => self.objects.push(Object {
                name: name.to_string(),
                media_type,
                bytes: Vec::new(),
                size_bytes: 0,
                rows: None,
            }),
            OutputEvent::Bytes { object, bytes } => {
                self.bytes += bytes.len() as u64;
                if matches!(keep, Keep::Bytes(max) if self.bytes > max) {
                    return false;
                }
                if let Some(object) = self.objects.get_mut(object as usize) {
                    object.size_bytes += bytes.len() as u64;
                    if keep != Keep::Sizes {
                        object.bytes.extend_from_slice(&bytes);
                    }
                }
            }
            OutputEvent::Finish { object, rows } => {
                if let Some(object) = self.objects.get_mut(object as usize) {
                    object.rows = Some(rows);
                }
            }
        }
        true
    }
}

/// Inputs are files of this machine.
struct Nobody;

impl VendorCredentials for Nobody {
    fn keys(&self) -> Pin<Box<dyn Future<Output = Result<VendorKeys, Failure>> + Send + '_>> {
        let why = "there are no credentials to read a bucket with";
        let failure = Failure::new(Layer::Dataset, Retry::Never, why, "copy the object into a file, and name that");
        Box::pin(std::future::ready(Err(failure)))
    }
}
