//! Shares with `max_object_size`: every object is a complete file of its own.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use consign::plugin::SHIPPED;
use serde_json::{Value, json};

use super::world::{Objects, component, parquet, python, run, typed};

/// Rows that do not compress well, in batches as a dataset gives them.
fn batches(rows: i64) -> Vec<RecordBatch> {
    let scattered = |id: i64| id.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
    let batch = |start: i64| {
        let ids = start..(start + 8192).min(rows);
        let texts =
            ids.clone().map(|id| if id % 7 == 0 { None } else { Some(format!("{id},\"\n{:x}", scattered(id))) });
        RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(Int64Array::from_iter_values(ids.clone())) as _, false),
            ("number", Arc::new(Int64Array::from_iter_values(ids.map(scattered))) as _, true),
            ("text", Arc::new(texts.collect::<StringArray>()) as _, true),
        ])
        .unwrap()
    };
    (0..rows).step_by(8192).map(batch).collect()
}

fn split(name: &str, limit: u64, batches: &[RecordBatch]) -> Objects {
    let objects = run(name, "{}", Some(limit), batches[0].schema(), batches.to_vec()).unwrap();
    assert!(objects.len() > 2, "only {} objects", objects.len());
    let extension = component(name).description().extension.clone();
    for (number, (object, bytes, rows)) in objects.iter().enumerate() {
        assert_eq!(*object, format!("daily-{number:05}.{extension}"));
        assert!(bytes.len() as u64 <= limit, "{object} has {} bytes", bytes.len());
        assert!(*rows > 0, "{object} is empty");
    }
    objects
}

fn ids(rows: impl Iterator<Item = Value>) -> Vec<i64> {
    let digits = |value: Value| value.as_str().or(value["n"].as_str()).unwrap().parse().unwrap();
    rows.map(digits).collect()
}

#[test]
fn csv_is_split_between_rows_and_each_object_has_its_header() {
    let batches = batches(20_000);
    let mut all = Vec::new();
    for (object, bytes, told) in split("csv", 100_000, &batches) {
        let mut rows = python("csv", &bytes);
        assert_eq!(rows.remove(0), [json!("id"), json!("number"), json!("text")], "{object}");
        assert_eq!(rows.len() as u64, told, "{object}");
        all.extend(ids(rows.into_iter().map(|row| row[0].clone())));
    }
    assert_eq!(all, (0..20_000).collect::<Vec<_>>());
}

#[test]
fn jsonl_is_split_between_rows() {
    let batches = batches(20_000);
    let mut all = Vec::new();
    for (object, bytes, told) in split("jsonl", 150_000, &batches) {
        let rows = python("jsonl", &bytes);
        assert_eq!(rows.len() as u64, told, "{object}");
        all.extend(ids(rows.into_iter().map(|row| row[0].clone())));
    }
    assert_eq!(all, (0..20_000).collect::<Vec<_>>());
}

#[test]
fn parquet_is_split_into_whole_files() {
    let batches = batches(100_000);
    let objects = split("parquet", 1 << 20, &batches);
    let read: Vec<RecordBatch> = objects
        .iter()
        .map(|(object, bytes, told)| {
            let read = parquet(bytes);
            assert_eq!(read.num_rows() as u64, *told, "{object}");
            read
        })
        .collect();
    let whole = concat_batches(&batches[0].schema(), &batches).unwrap();
    let read = concat_batches(&read[0].schema(), &read).unwrap();
    assert_eq!(read.columns(), whole.columns());
}

#[test]
fn arrow_and_avro_are_split_into_whole_files() {
    let batches = batches(100_000);
    for name in ["arrow", "avro"] {
        let mut all = Vec::new();
        for (object, bytes, told) in split(name, 1 << 20, &batches) {
            let Some(rows) = typed(name, &bytes) else { return };
            assert_eq!(rows.len() as u64 - 2, told, "{object}");
            all.extend(ids(rows.into_iter().skip(2).map(|row| row[0].clone())));
        }
        assert!(all == (0..100_000).collect::<Vec<_>>(), "{name}");
    }
}

/// A row larger than the limit is not cut and not lost: it has an object to itself.
#[test]
fn a_row_over_the_limit_is_alone() {
    let texts = ["a".to_owned(), "b".repeat(5_000), "c".into(), "d".repeat(5_000), "e".repeat(5_000)];
    let column = Arc::new(StringArray::from_iter_values(&texts)) as _;
    let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
    for name in ["csv", "jsonl"] {
        let objects = run(name, "{}", Some(1_000), batch.schema(), vec![batch.clone()]).unwrap();
        let rows: Vec<u64> = objects.iter().map(|(_, _, rows)| *rows).collect();
        assert_eq!(rows, [1, 1, 1, 1, 1], "{name}");
        for ((_, bytes, _), text) in objects.iter().zip(&texts) {
            assert_eq!(*python(name, bytes).pop().unwrap(), [json!(text)]);
        }
    }
}

/// A limit that is never reached still numbers the one object.
#[test]
fn one_object_of_a_share_that_splits_is_numbered() {
    for name in SHIPPED {
        let extension = component(name).description().extension.clone();
        // The only one that must be told something.
        let options = if name == "fixed-width" { r#"{"columns":[{"column":"id","width":20}]}"# } else { "{}" };
        for batches in [batches(10), vec![]] {
            let schema = super::splitting::batches(1)[0].schema();
            let rows = batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
            let objects = run(name, options, Some(1 << 30), schema, batches).unwrap();
            let told: Vec<_> = objects.iter().map(|(object, _, rows)| (object.clone(), *rows)).collect();
            assert_eq!(told, [(format!("daily-00000.{extension}"), rows)]);
        }
    }
}
