//! CSV and JSON lines, read by Python's own modules.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use consign::plugin::Cause;
use consign_sdk::testing::{self, MemoryBatch, WrittenObject};
use consign_sdk::{BatchSource, RunFacts};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::lent::{self, Lent};
use super::world::{component, only, python, run};
use super::zoo::{self, Column, Json, ROWS};

fn names(columns: &[Column]) -> Vec<Value> {
    columns.iter().map(|column| json!(column.name)).collect()
}

fn assert_rows(read: &[Vec<Value>], columns: &[Column], expected: impl Fn(&Column, usize) -> Value) {
    assert_eq!(read.len(), ROWS);
    for (row, read) in read.iter().enumerate() {
        assert_eq!(read.len(), columns.len(), "row {row}");
        for (read, column) in read.iter().zip(columns) {
            assert_eq!(*read, expected(column, row), "column {:?}, row {row}", column.name);
        }
    }
}

#[test]
fn csv_says_every_value_of_every_type() {
    let columns = zoo::all();
    for (options, null) in [
        (r#"{"null":"NULL!"}"#, "NULL!"),
        ("{}", ""),
        (r#"{"null":"NULL!","quoting":"all","line_ending":"crlf"}"#, "NULL!"),
        (r#"{"null":"NULL!","quoting":"strings"}"#, "NULL!"),
    ] {
        let bytes = only("csv", options, zoo::batch(&columns).schema(), zoo::batches(&columns));
        let rows = python("csv", &bytes);
        assert_eq!(rows[0], names(&columns), "{options}");
        assert_rows(&rows[1..], &columns, |column, row| json!(column.texts[row].as_deref().unwrap_or(null)));
    }
}

/// Null is nothing, the empty text is two quotes: readers that look can tell.
#[test]
fn csv_keeps_null_and_the_empty_text_apart() {
    let columns: Vec<Column> = zoo::all().into_iter().filter(|column| column.name == "utf8").collect();
    let bytes = only("csv", r#"{"header":false}"#, zoo::batch(&columns).schema(), zoo::batches(&columns));
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text, "\"\"\n\"a,b\"\"c\"\"\r\nd\"\n🦀 é \u{2028}\n=1+1\n\n");
}

/// Readers skip blank lines, Python's and consign's own among them.
#[test]
fn csv_of_one_column_has_no_blank_lines() {
    let one = |name: &str, column: ArrayRef| {
        let schema = Schema::new(vec![Field::new(name, column.data_type().clone(), true)]);
        RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap()
    };
    let texts =
        || one("", Arc::new(StringArray::from(vec![Some("a"), Some(""), None, Some(" \t"), Some("NULL"), Some("")])));
    let batch = texts();
    let bytes = only("csv", r#"{"null":"NULL"}"#, batch.schema(), vec![batch]);
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), "\"\"\na\n\"\"\nNULL\n\" \t\"\n\"NULL\"\n\"\"\n");
    let read: Vec<Value> = python("csv", &bytes).into_iter().map(Value::from).collect();
    assert_eq!(
        read,
        [json!([""]), json!(["a"]), json!([""]), json!(["NULL"]), json!([" \t"]), json!(["NULL"]), json!([""])]
    );

    let binary = one("b", Arc::new(BinaryArray::from(vec![Some(b"".as_slice()), Some(b"x")])));
    let flags = one("f", Arc::new(BooleanArray::from(vec![true, false])));
    let (nothing, no) =
        (r#"{"null":"NULL","header":false}"#, r#"{"null":"NULL","header":false,"booleans":["",  "no"]}"#);
    assert_eq!(only("csv", nothing, binary.schema(), vec![binary]), b"\"\"\neA==\n");
    assert_eq!(only("csv", no, flags.schema(), vec![flags]), b"\"\"\nno\n");

    // In company nothing is quoted for this; and a null that is nothing has to stay so, which is said before.
    let batch = texts();
    let csv = String::from_utf8(only("csv", r#"{"header":false}"#, batch.schema(), vec![batch.clone()])).unwrap();
    assert_eq!(csv, "a\n\"\"\n\n\" \t\"\nNULL\n\"\"\n");
    for (options, warned) in [("{}", true), (r#"{"null":" "}"#, true), (r#"{"null":"NULL"}"#, false)] {
        let found = component("csv").check(options, &batch.schema()).unwrap();
        let said: Vec<&str> = found.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(said.iter().any(|said| said.contains("is written as a blank line")), warned, "{said:?}");
    }
}

#[test]
fn jsonl_says_every_value_of_every_type() {
    let columns = zoo::all();
    let bytes = only("jsonl", "{}", zoo::batch(&columns).schema(), zoo::batches(&columns));
    assert_eq!(python("names", &bytes), [names(&columns)]);
    assert_rows(&python("jsonl", &bytes), &columns, Column::expected_json);
}

/// With these options no value is lost by any reader.
#[test]
fn jsonl_says_what_is_not_finite_when_asked() {
    let floats = ["f16", "f32", "f64", "more f64", "i64", "u64"];
    let columns: Vec<Column> = zoo::all().into_iter().filter(|column| floats.contains(&column.name.as_str())).collect();
    let options = r#"{"non_finite":"string","int64":"string"}"#;
    let bytes = only("jsonl", options, zoo::batch(&columns).schema(), zoo::batches(&columns));
    assert_rows(&python("jsonl", &bytes), &columns, |column, row| match &column.texts[row] {
        None => Value::Null,
        Some(text) if text.contains('N') || text.contains("Inf") || column.name.ends_with("i64") => json!(text),
        Some(text) if column.name == "u64" => json!(text),
        Some(text) => json!({ "n": text }),
    });
    let options = r#"{"non_finite":"error"}"#;
    let failed = run("jsonl", options, None, zoo::batch(&columns).schema(), zoo::batches(&columns)).unwrap_err();
    assert_eq!(failed.cause, Cause::Unsupported, "{failed:?}");
}

#[test]
fn no_rows_are_a_header_and_nothing() {
    let columns = zoo::all();
    let schema = zoo::batch(&columns).schema();
    assert_eq!(python("csv", &only("csv", "{}", schema.clone(), vec![])), [names(&columns)]);
    assert_eq!(only("csv", r#"{"header":false}"#, schema.clone(), vec![]), b"");
    assert_eq!(only("jsonl", "{}", schema, vec![]), b"");
}

#[test]
fn csv_without_columns_is_refused() {
    let failed = run("csv", "{}", None, Arc::new(Schema::empty()), vec![]).unwrap_err();
    assert_eq!(failed.cause, Cause::Unsupported, "{failed:?}");
}

/// A value alone must be what it is in company.
#[test]
fn every_column_is_the_same_alone() {
    for column in zoo::all() {
        let columns = [column];
        let bytes = only("jsonl", "{}", zoo::batch(&columns).schema(), zoo::batches(&columns));
        assert_rows(&python("jsonl", &bytes), &columns, Column::expected_json);
        assert!(columns[0].json != Json::Value || columns[0].texts.iter().any(Option::is_some));
    }
}

/// The component has sixteen bytes in a register where the native code has words.
#[test]
fn the_sandbox_writes_what_the_native_code_writes() {
    let flights = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/demo/flights.parquet")).unwrap();
    let flights = ParquetRecordBatchReaderBuilder::try_new(flights).unwrap().with_limit(5000).build().unwrap();
    for batches in [consign::author::lineitem(9000).unwrap(), flights.collect::<Result<_, _>>().unwrap()] {
        let schema = batches[0].schema();
        let lent: Vec<MemoryBatch> = batches
            .iter()
            .map(|batch| MemoryBatch {
                rows: batch.num_rows(),
                columns: Lent(batch).columns(),
                ..MemoryBatch::default()
            })
            .collect();
        let native = |format: Native, options: &str| {
            let objects = format(options, &lent::schema(&schema), &lent, &RunFacts::of([("object-stem", "daily")]));
            objects.unwrap().pop().unwrap().bytes
        };
        for options in ["{}", r#"{"quoting":"all","null":"0"}"#, r#"{"quoting":"strings","delimiter":" "}"#] {
            let bytes = only("csv", options, schema.clone(), batches.clone());
            assert!(bytes == native(testing::format::<consign_csv::Csv>, options), "csv with {options}");
        }
        for options in ["{}", r#"{"nulls":"omit","decimal":"number"}"#] {
            let bytes = only("jsonl", options, schema.clone(), batches.clone());
            assert!(bytes == native(testing::format::<consign_jsonl::Jsonl>, options), "jsonl with {options}");
        }
    }
}

type Native =
    fn(&str, &consign_sdk::Schema, &[MemoryBatch], &RunFacts) -> Result<Vec<WrittenObject>, consign_sdk::Error>;
