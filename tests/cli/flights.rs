//! The demo's flights, read with other readers than consign's, and what others
//! read from what was delivered.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int16Type, TimeUnit, TimestampMillisecondType};
use chrono::{DateTime, SecondsFormat};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::world::checkout;

/// A row's values as text, None for null.
pub type Row = Vec<Option<String>>;

/// The columns, in their order.
pub const COLUMNS: [&str; 19] = [
    "year",
    "month",
    "day",
    "dep_time",
    "sched_dep_time",
    "dep_delay",
    "arr_time",
    "sched_arr_time",
    "arr_delay",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "air_time",
    "distance",
    "hour",
    "minute",
    "time_hour",
];
const TEXTS: [&str; 5] = ["carrier", "tailnum", "origin", "dest", "time_hour"];

/// The demo's slot: the year 2013 in New York.
const YEAR: std::ops::Range<&str> = "2013-01-01T05:00:00.000Z".."2014-01-01T05:00:00.000Z";

/// Where a column is.
pub fn at(column: &str) -> usize {
    COLUMNS.iter().position(|name| *name == column).unwrap()
}

/// What the airlines of these carriers are to get, as the parquet crate reads it.
pub fn of(carriers: &[&str]) -> Vec<Row> {
    let mut rows = parquet(&checkout("config/demo/flights.parquet"));
    let is_theirs = |row: &Row| row[at("carrier")].as_deref().is_some_and(|carrier| carriers.contains(&carrier));
    let is_due = |row: &Row| row[at("time_hour")].as_deref().is_some_and(|hour| YEAR.contains(&hour));
    rows.retain(|row| is_theirs(row) && is_due(row));
    assert!(!rows.is_empty());
    rows
}

/// A Parquet file of flights.
pub fn parquet(path: &Path) -> Vec<Row> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let fields = reader.schema().fields().clone();
    assert_eq!(fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), COLUMNS);
    for field in &fields {
        let right = match field.name().as_str() {
            "time_hour" => {
                matches!(field.data_type(), DataType::Timestamp(TimeUnit::Millisecond, Some(zone)) if **zone == *"UTC")
            }
            name if TEXTS.contains(&name) => *field.data_type() == DataType::Utf8,
            _ => *field.data_type() == DataType::Int16,
        };
        assert!(right, "{}: {field}", path.display());
    }
    let mut rows = Vec::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        rows.extend((0..batch.num_rows()).map(|row| {
            let columns = batch.columns().iter();
            columns.map(|column| cell(column, row)).collect::<Row>()
        }));
    }
    rows
}

fn cell(column: &dyn Array, row: usize) -> Option<String> {
    column.is_valid(row).then(|| match column.data_type() {
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        _ => {
            let millis = column.as_primitive::<TimestampMillisecondType>().value(row);
            DateTime::from_timestamp_millis(millis).unwrap().to_rfc3339_opts(SecondsFormat::Millis, true)
        }
    })
}

/// What Python's csv module reads, with the header first.
pub fn csv(path: &Path) -> Vec<Vec<String>> {
    python("csv", path)
}

/// A CSV file of flights, `NA` being null.
pub fn flights_csv(path: &Path) -> Vec<Row> {
    let mut rows = csv(path).into_iter();
    assert_eq!(rows.next().unwrap(), COLUMNS);
    rows.map(|row| row.into_iter().map(|cell| (cell != "NA").then_some(cell)).collect()).collect()
}

/// A file of JSON lines of flights, as Python's json module reads it.
pub fn flights_jsonl(path: &Path) -> Vec<Row> {
    assert_eq!(python::<Vec<String>>("names", path), [COLUMNS]);
    let value = |(column, value): (&str, Value)| match value {
        Value::Null => None,
        Value::String(text) if TEXTS.contains(&column) => Some(text),
        Value::Object(number) if !TEXTS.contains(&column) => Some(number["n"].as_str().unwrap().to_owned()),
        other => panic!("{column} is {other}"),
    };
    let rows: Vec<Vec<Value>> = python("jsonl", path);
    rows.into_iter()
        .map(|row| {
            assert_eq!(row.len(), COLUMNS.len());
            COLUMNS.into_iter().zip(row).map(value).collect()
        })
        .collect()
}

fn python<T: serde::de::DeserializeOwned>(kind: &str, path: &Path) -> Vec<T> {
    let of_checkout = checkout(".venv/bin/python");
    let python = if of_checkout.exists() { of_checkout } else { "python3".into() };
    let read = Command::new(python).arg(checkout("tests/support/readers.py")).arg(kind).arg(path).output().unwrap();
    assert!(read.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&read.stderr));
    let text = String::from_utf8(read.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The delivered rows are the expected ones, all of them once, value by value,
/// ordered as the query says: by the hour and the flight's number. (Rows that
/// have both in common may come in any order.)
pub fn same(delivered: Vec<Row>, expected: Vec<Row>) {
    let order = |row: &Row| {
        let number: i64 = row[at("flight")].as_deref().unwrap().parse().unwrap();
        (row[at("time_hour")].clone(), number)
    };
    for pair in delivered.windows(2) {
        assert!(order(&pair[0]) <= order(&pair[1]), "out of order: {pair:?}");
    }
    same_rows(delivered, expected);
}

/// As [`same`], in any order.
pub fn same_rows(mut delivered: Vec<Row>, mut expected: Vec<Row>) {
    assert_eq!(delivered.len(), expected.len());
    delivered.sort();
    expected.sort();
    for (delivered, expected) in delivered.iter().zip(&expected) {
        assert_eq!(delivered, expected);
    }
}
