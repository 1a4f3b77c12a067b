//! Files of every format, and datasets of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use consign::config::{FileFormat, TableDataset, TableSource, Tenant};
use consign::dataset::{DatasetError, Datasets, Request, VendorKeys, VendorStore};
use consign::domain::{DatasetName, Failure, Interval, ParamValue, Secret, TableName};
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::Value;
use tempfile::TempDir;

pub type Params = BTreeMap<String, ParamValue>;

/// A folder with files and the daemon's reader over them.
pub struct World {
    dir: TempDir,
    pub datasets: Datasets,
}

impl World {
    pub fn new() -> Self {
        Self::with_memory(64 << 20)
    }

    pub fn with_memory(bytes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = VendorKeys { access_key_id: Secret::new("AKIANOBODY"), secret: Secret::new("none"), token: None };
        let vendor =
            VendorStore { endpoint: None, region: "eu-west-1".into(), path_style: true, credentials: Arc::new(keys) };
        let datasets = Datasets::new(bytes, &dir.path().join("spill"), vendor).unwrap();
        Self { dir, datasets }
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A file with these bytes, and its folders.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = PathBuf::from(self.path(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        self.path(name)
    }

    pub fn table(&self, name: &str) -> TableSource {
        table(&self.path(name))
    }

    /// The rows that the dataset has for a customer with these params.
    pub async fn rows(&self, dataset: &TableDataset, params: &Params) -> Result<Vec<Value>, Failure> {
        rows(&self.datasets, dataset, params).await
    }

    /// Why the dataset cannot be planned.
    pub async fn plan_error(&self, dataset: &TableDataset, params: &Params) -> DatasetError {
        let request = Request { interval: interval(), params };
        match self.datasets.plan(dataset, &request).await {
            Ok(plan) => panic!("planned: {}", plan.explain()),
            Err(error) => error,
        }
    }

    /// Why a dataset that can be planned cannot be read to its end.
    pub async fn run_failure(&self, dataset: &TableDataset, params: &Params) -> Failure {
        let request = Request { interval: interval(), params };
        let batches = self.datasets.plan(dataset, &request).await.unwrap().stream().unwrap();
        batches.try_for_each(|_| async { Ok(()) }).await.unwrap_err()
    }
}

pub async fn rows(datasets: &Datasets, dataset: &TableDataset, params: &Params) -> Result<Vec<Value>, Failure> {
    let request = Request { interval: interval(), params };
    let batches: Vec<RecordBatch> = datasets.plan(dataset, &request).await?.stream()?.try_collect().await?;
    Ok(json(&batches))
}

/// Each row as an object, without its nulls.
pub fn json(batches: &[RecordBatch]) -> Vec<Value> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
    let text = String::from_utf8(writer.into_inner()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The numbers in column `id`.
pub fn ids(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|row| row["id"].as_i64().unwrap()).collect()
}

/// `[2024-05-01T06:00Z, 2024-05-02T06:00Z)`.
pub fn interval() -> Interval {
    let at = |text: &str| text.parse().unwrap();
    Interval { start: at("2024-05-01T06:00:00Z"), end: at("2024-05-02T06:00:00Z") }
}

pub fn table(path: &str) -> TableSource {
    let leaf = path.rsplit('/').next().unwrap();
    let format = match leaf.split('.').nth(1) {
        Some("csv") => FileFormat::Csv { header: true, delimiter: b',', quote: b'"' },
        Some("ndjson") => FileFormat::Ndjson,
        Some("arrow") => FileFormat::ArrowIpc,
        Some("avro") => FileFormat::Avro,
        _ => FileFormat::Parquet,
    };
    TableSource { path: path.into(), format, partitions: Vec::new(), columns: BTreeMap::new() }
}

pub fn dataset(tables: Vec<(&str, TableSource)>, query: &str) -> TableDataset {
    TableDataset {
        name: DatasetName::parse("orders").unwrap(),
        tables: tables.into_iter().map(|(name, source)| (TableName::parse(name).unwrap(), source)).collect(),
        query: (!query.is_empty()).then(|| query.into()),
        tenant: None,
        shared: false,
    }
}

/// Confined to the rows whose `column` is the customer's param of the same name.
pub fn confined(dataset: TableDataset, column: &str) -> TableDataset {
    TableDataset { tenant: Some(Tenant { column: column.into(), param: column.into() }), ..dataset }
}

pub fn params(values: &[(&str, ParamValue)]) -> Params {
    values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

pub fn text(value: &str) -> ParamValue {
    ParamValue::Text(value.into())
}

/// Four orders of three customers, with a null and everything that CSV has to quote.
pub fn orders() -> RecordBatch {
    batch(vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3, -4]))),
        ("customer", Arc::new(StringArray::from(vec!["acme", "globex", "acme", "initech"]))),
        ("amount", Arc::new(Float64Array::from(vec![0.5, 1e9, -2.25, 3.0]))),
        ("note", Arc::new(StringArray::from(vec![Some("plain"), None, Some("a, \"b\"\nc"), Some("é 🦀")]))),
        // 2024-05-01 and the days after.
        ("day", Arc::new(Date32Array::from(vec![19_844, 19_845, 19_846, 19_847]))),
    ])
}

pub fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

/// Row groups of `rows`.
pub fn parquet_of(batches: &[RecordBatch], rows: usize) -> Vec<u8> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), Some(properties)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.into_inner().unwrap()
}

pub fn parquet(batch: &RecordBatch) -> Vec<u8> {
    parquet_of(std::slice::from_ref(batch), 1 << 20)
}

pub fn csv(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    arrow::csv::Writer::new(&mut bytes).write(batch).unwrap();
    bytes
}

pub fn ndjson(batch: &RecordBatch) -> Vec<u8> {
    json(std::slice::from_ref(batch)).iter().flat_map(|row| format!("{row}\n").into_bytes()).collect()
}

pub fn arrow_file(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

pub fn arrow_stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// [`orders`] as an Avro object container, written by hand after the specification.
pub fn orders_avro() -> Vec<u8> {
    let schema = r#"{"type":"record","name":"order","fields":[{"name":"id","type":"long"},
        {"name":"customer","type":"string"},{"name":"amount","type":"double"},
        {"name":"note","type":["null","string"]},{"name":"day","type":{"type":"int","logicalType":"date"}}]}"#;
    const SYNC: [u8; 16] = *b"consign's avro..";
    let long = |out: &mut Vec<u8>, value: i64| {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    };
    let string = |out: &mut Vec<u8>, text: &str| {
        long(out, text.len() as i64);
        out.extend(text.as_bytes());
    };
    let mut rows = Vec::new();
    let all = json(&[orders()]);
    for (row, day) in all.iter().zip(19_844..) {
        long(&mut rows, row["id"].as_i64().unwrap());
        string(&mut rows, row["customer"].as_str().unwrap());
        rows.extend(row["amount"].as_f64().unwrap().to_le_bytes());
        match row.get("note") {
            None => long(&mut rows, 0),
            Some(note) => {
                long(&mut rows, 1);
                string(&mut rows, note.as_str().unwrap());
            }
        }
        long(&mut rows, day);
    }
    let mut file = b"Obj\x01".to_vec();
    long(&mut file, 2);
    string(&mut file, "avro.schema");
    string(&mut file, schema);
    string(&mut file, "avro.codec");
    string(&mut file, "null");
    file.push(0);
    file.extend(SYNC);
    long(&mut file, all.len() as i64);
    long(&mut file, rows.len() as i64);
    file.extend(rows);
    file.extend(SYNC);
    file
}

/// Bytes of regular files below a folder.
pub fn bytes_below(folder: &str) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        bytes += match path.is_dir() {
            true => bytes_below(path.to_str().unwrap()),
            false => File::open(&path).map_or(0, |file| file.metadata().unwrap().len()),
        };
    }
    bytes
}
