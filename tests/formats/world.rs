//! Runs shipped components and hands their objects to other readers.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use consign::clock::Instant;
use consign::domain::{OutputEvent, PluginName};
use consign::limits::Limits;
use consign::plugin::{Component, Failed, Job, PluginHost, SHIPPED, format, shipped};
use futures::stream;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::support::needs::not_tested;

/// What a run left, in order of creation: name, bytes, rows.
pub type Objects = Vec<(String, Vec<u8>, u64)>;

pub fn component(name: &str) -> Component {
    static LOADED: OnceLock<(tempfile::TempDir, BTreeMap<&str, Component>)> = OnceLock::new();
    let load = || {
        let dir = tempfile::tempdir().unwrap();
        let host = PluginHost::new(dir.path()).unwrap();
        let load = |name| load(&host, name, shipped(name).unwrap());
        let all = SHIPPED.into_iter().map(|name| (name, load(name))).collect();
        (dir, all)
    };
    LOADED.get_or_init(load).1[name].clone()
}

/// A component, compiled.
pub fn load(host: &PluginHost, name: &str, component: &[u8]) -> Component {
    host.load(&PluginName::parse(name).unwrap(), component, &Limits::default()).unwrap()
}

/// Runs a shipped format over batches of this schema.
pub fn run(
    name: &str,
    options: &str,
    limit: Option<u64>,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
) -> Result<Objects, Failed> {
    run_component(component(name), options, limit, schema, batches)
}

/// Runs any format.
pub fn run_component(
    component: Component,
    options: &str,
    limit: Option<u64>,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
) -> Result<Objects, Failed> {
    let mut facts = vec![
        ("share".to_owned(), "daily".to_owned()),
        ("customer".into(), "acme".into()),
        ("slot".into(), "2024-01-02T03:04:05Z".into()),
        ("object-stem".into(), "daily".into()),
    ];
    facts.extend(limit.map(|bytes| ("max-object-bytes".to_owned(), bytes.to_string())));
    let job = Job {
        facts,
        options: options.into(),
        schema,
        limits: Limits::default(),
        slot_at: Instant::from_timestamp(1_704_164_645, 0).unwrap(),
        span: tracing::Span::none(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, receiver) = mpsc::channel(4);
        let gathered = tokio::spawn(gather(receiver));
        let formatted = format(component, job, stream::iter(batches.into_iter().map(Ok)), sender).await?;
        let (objects, finished) = gathered.await.unwrap();
        assert_eq!(objects.len(), finished, "objects that are not finished");
        assert_eq!(objects.iter().map(|(_, _, rows)| rows).sum::<u64>(), formatted.rows);
        Ok(objects)
    })
}

async fn gather(mut receiver: mpsc::Receiver<OutputEvent>) -> (Objects, usize) {
    let (mut objects, mut finished) = (Objects::new(), 0);
    while let Some(event) = receiver.recv().await {
        match event {
            OutputEvent::Create { name, .. } => objects.push((name.to_string(), Vec::new(), 0)),
            OutputEvent::Bytes { object, bytes } => objects[object as usize].1.extend(bytes),
            OutputEvent::Finish { object, rows } => {
                objects[object as usize].2 = rows;
                finished += 1;
            }
        }
    }
    (objects, finished)
}

/// The only object of a run that does not split.
pub fn only(name: &str, options: &str, schema: SchemaRef, batches: Vec<RecordBatch>) -> Vec<u8> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut objects = run(name, options, None, schema, batches).unwrap();
    let (object, bytes, told) = objects.pop().unwrap();
    assert!(objects.is_empty());
    assert!(object.starts_with("daily.") && told == rows as u64, "{object} has {told} of {rows} rows");
    bytes
}

/// What `tests/support/readers.py` makes of the bytes, row by row.
pub fn python(kind: &str, bytes: &[u8]) -> Vec<Vec<Value>> {
    read_by("readers.py", kind, bytes)
}

/// What `tests/support/typed_readers.py` makes of the bytes: the columns' names,
/// their types, then row by row. None, and a word, without the libraries it uses.
pub fn typed(kind: &str, bytes: &[u8]) -> Option<Vec<Vec<Value>>> {
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/readers").exists() {
        not_tested("pyarrow, fastavro and their like are not in .venv (`make test` puts them there)");
        return None;
    }
    Some(read_by("typed_readers.py", kind, bytes))
}

fn read_by(script: &str, kind: &str, bytes: &[u8]) -> Vec<Vec<Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut python = Command::new(root.join(".venv/bin/python"));
    let output = python.arg(root.join("tests/support").join(script)).arg(kind).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the parquet crate's Arrow reader makes of the bytes.
pub fn parquet(bytes: &[u8]) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(bytes)).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}
