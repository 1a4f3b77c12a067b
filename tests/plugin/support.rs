//! Builds the guests once, and runs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use consign::clock::Instant;
use consign::domain::{Failure, OutputEvent, PluginName};
use consign::limits::{Isolation, Limits};
use consign::plugin::{Component, Diagnostic, Failed, Formatted, Job, PluginError, PluginHost, format};
use futures::stream;
use tokio::sync::mpsc;

/// The bytes of a guest of `tests/guests`.
pub fn guest(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let dir = BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = root.join("target/guests");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root).args(["build", "--quiet", "--profile", "plugin", "--target", "wasm32-wasip2"]);
        cargo
            .args([
                "-p",
                "guest-echo",
                "-p",
                "guest-hostile",
                "-p",
                "guest-sloppy",
                "-p",
                "guest-socket",
                "--target-dir",
            ])
            .arg(&target);
        // What the tests themselves are built with does not suit another target.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(name);
        }
        assert!(cargo.status().unwrap().success(), "the guests do not build");
        target.join("wasm32-wasip2/plugin")
    });
    std::fs::read(dir.join(format!("guest_{}.wasm", name.replace('-', "_")))).unwrap()
}

/// One host for all tests, as in the daemon.
pub fn host() -> &'static PluginHost {
    static HOST: OnceLock<(tempfile::TempDir, PluginHost)> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let host = PluginHost::new(dir.path()).unwrap().with_worker(Path::new(env!("CARGO_BIN_EXE_consign")));
        (dir, host)
    };
    &HOST.get_or_init(make).1
}

pub fn name(text: &str) -> PluginName {
    PluginName::parse(text).unwrap()
}

/// A guest in the process of the test, and in processes of its own.
#[derive(Clone)]
pub struct Guest {
    pub within: Component,
    pub walled: Component,
}

impl Guest {
    pub fn load(guest_name: &str, limits: &Limits) -> Self {
        let load = |isolation| host().load_in(isolation, &name(guest_name), &guest(guest_name), limits).unwrap();
        Self { within: load(Isolation::InProcess), walled: load(Isolation::Process) }
    }

    pub fn both(&self) -> [Component; 2] {
        [self.within.clone(), self.walled.clone()]
    }

    /// What both find.
    pub fn check(&self, options: &str, schema: &Schema) -> Result<Vec<Diagnostic>, PluginError> {
        let [within, walled] = self.both().map(|component| component.check(options, schema));
        if let (Ok(within), Ok(walled)) = (&within, &walled) {
            assert_eq!(within, walled);
        }
        assert_eq!(within.is_ok(), walled.is_ok());
        within
    }
}

pub fn hostile() -> Guest {
    static HOSTILE: OnceLock<Guest> = OnceLock::new();
    HOSTILE.get_or_init(|| Guest::load("hostile", &Limits::default())).clone()
}

pub fn echo() -> Guest {
    static ECHO: OnceLock<Guest> = OnceLock::new();
    ECHO.get_or_init(|| Guest::load("echo", &Limits::default())).clone()
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// 2024-01-02T03:04:05Z.
pub fn slot_at() -> Instant {
    Instant::from_timestamp(1_704_164_645, 0).unwrap()
}

pub fn job(options: &str, schema: SchemaRef) -> Job {
    let fact = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Job {
        facts: vec![
            fact("share", "daily"),
            fact("customer", "acme"),
            fact("slot", "2024-01-02T03:04:05Z"),
            fact("object-stem", "daily"),
        ],
        options: options.into(),
        schema,
        limits: Limits { wall_time: Duration::from_secs(60), ..Limits::default() },
        slot_at: slot_at(),
        span: tracing::Span::none(),
    }
}

/// What a run left: objects by name (finished or not), with their rows.
#[derive(Debug, Default, PartialEq)]
pub struct Delivered {
    pub objects: BTreeMap<String, Vec<u8>>,
    pub rows: BTreeMap<String, u64>,
    pub largest_event: usize,
}

/// Runs to the end and gathers the output, in both ways: how it ends and what it
/// leaves must be the same.
pub fn run(guest: Guest, job: Job, batches: Vec<RecordBatch>) -> (Result<Formatted, Failed>, Delivered) {
    let run = |component| run_in(component, job.clone(), batches.clone());
    let [within, walled] = guest.both().map(run);
    match (&within, &walled) {
        ((Ok(formatted), delivered), (Ok(formatted_too), delivered_too)) => {
            assert_eq!(told(formatted), told(formatted_too));
            assert!(delivered == delivered_too, "the two leave other objects");
        }
        ((Err(failed), _), (Err(failed_too), _)) => {
            let told = |failed: &Failed| (failed.cause, failed.message.clone(), failed.batch_number);
            assert_eq!(told(failed), told(failed_too), "{failed:?} {failed_too:?}");
            assert_eq!(failed.stderr_tail, failed_too.stderr_tail);
        }
        ((within, _), (walled, _)) => panic!("{within:?}, but behind the wall {walled:?}"),
    }
    within
}

fn told(formatted: &Formatted) -> (u64, u32, u64, u64) {
    let Formatted { rows, objects, bytes_out, peak_memory_bytes, .. } = *formatted;
    (rows, objects, bytes_out, peak_memory_bytes)
}

/// In one of them alone.
pub fn run_in(component: Component, job: Job, batches: Vec<RecordBatch>) -> (Result<Formatted, Failed>, Delivered) {
    runtime().block_on(run_async(component, job, batches.into_iter().map(Ok).collect()))
}

pub async fn run_async(
    component: Component,
    job: Job,
    batches: Vec<Result<RecordBatch, Failure>>,
) -> (Result<Formatted, Failed>, Delivered) {
    let (sender, mut receiver) = mpsc::channel(4);
    let gather = tokio::spawn(async move {
        let (mut delivered, mut names) = (Delivered::default(), Vec::new());
        while let Some(event) = receiver.recv().await {
            match event {
                OutputEvent::Create { object, name, .. } => {
                    assert_eq!(object as usize, names.len());
                    names.push(name.to_string());
                    delivered.objects.insert(name.to_string(), Vec::new());
                }
                OutputEvent::Bytes { object, bytes } => {
                    assert!(!bytes.is_empty());
                    delivered.largest_event = delivered.largest_event.max(bytes.len());
                    let gathered = delivered.objects.get_mut(&names[object as usize]).unwrap();
                    // Floods are counted elsewhere; here only their beginning is kept.
                    if gathered.len() < 64 << 20 {
                        gathered.extend(bytes);
                    }
                }
                OutputEvent::Finish { object, rows } => {
                    delivered.rows.insert(names[object as usize].clone(), rows);
                }
            }
        }
        delivered
    });
    let result = format(component, job, stream::iter(batches), sender).await;
    (result, gather.await.unwrap())
}

/// A batch with one column `n` of these values.
pub fn numbers(values: std::ops::Range<i64>) -> RecordBatch {
    let column = Int64Array::from_iter_values(values);
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(column)]).unwrap()
}
