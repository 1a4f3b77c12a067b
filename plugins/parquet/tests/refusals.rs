//! What Parquet cannot hold, and options that make no sense.

use std::sync::Arc;

use arrow_array::*;
use consign_parquet::Parquet;
use consign_sdk::{DataType, Error, Field, Formatter, IntervalUnit, RunFacts, Schema, Severity};

use crate::support::one_object;

fn schema(data_type: DataType) -> Schema {
    Schema { fields: vec![Field::new("outer", DataType::List(Box::new(Field::new("item", data_type))))] }
}

/// What `check` and `open` both say.
fn refusal(schema: &Schema) -> String {
    let findings = Parquet::check("{}", schema);
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!(finding.severity, Severity::Error);
    match Parquet::open(Default::default(), schema, &RunFacts::none()) {
        Err(Error::Unsupported(message)) => assert_eq!(message, finding.message),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("was opened"),
    }
    finding.message.clone()
}

#[test]
fn types_that_parquet_has_not_are_refused_with_their_column() {
    let member = || vec![Field::new("a", DataType::Int32)];
    let types = [
        DataType::SparseUnion { ids: vec![0], members: member() },
        DataType::DenseUnion { ids: vec![0], members: member() },
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::FixedSizeBinary(0),
        DataType::Struct(Vec::new()),
        DataType::Decimal128 { precision: 10, scale: -2 },
        DataType::Decimal128 { precision: 2, scale: 3 },
    ];
    for data_type in types {
        let message = refusal(&schema(data_type));
        assert!(message.starts_with("column `outer.item`: Parquet cannot hold "), "{message}");
    }
}

#[test]
fn every_refused_column_is_named_at_once() {
    let interval = || DataType::Interval(IntervalUnit::MonthDayNano);
    let fields = vec![Field::new("a", interval()), Field::new("b", DataType::Int8), Field::new("c", interval())];
    let message = refusal(&Schema { fields });
    assert!(message.contains("`a`") && message.contains("`c`") && !message.contains("`b`"), "{message}");
}

#[test]
fn a_file_needs_columns_of_different_names() {
    let message = refusal(&Schema { fields: Vec::new() });
    assert_eq!(message, "a Parquet file needs at least one column: select one in the query");
    let message = refusal(&Schema { fields: vec![Field::new("a", DataType::Int8), Field::new("a", DataType::Utf8)] });
    assert_eq!(message, "two columns are named `a`: rename one in the query (`as`)");
}

#[test]
fn durations_are_written_with_a_warning() {
    let findings = Parquet::check("{}", &schema(DataType::Duration(consign_sdk::TimeUnit::Second)));
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.message.contains("`outer`") && finding.message.contains("int64 seconds"), "{}", finding.message);
}

#[test]
fn values_that_would_change_are_refused() {
    let refusal = |column: ArrayRef| {
        let batch = RecordBatch::try_from_iter([("when", column)]).unwrap();
        match one_object("{}", &batch) {
            Err(Error::Unsupported(message)) => message,
            other => panic!("{other:?}"),
        }
    };
    let message = refusal(Arc::new(Date64Array::from(vec![1])));
    assert!(message.contains("`when`") && message.contains("time of day"), "{message}");
    let message = refusal(Arc::new(TimestampSecondArray::from(vec![i64::MAX])));
    assert!(message.contains("`when`") && message.contains("milliseconds"), "{message}");
}

#[test]
fn wrong_options_say_what_to_write() {
    let good = Schema { fields: vec![Field::new("a", DataType::Int8)] };
    let cases = [
        (r#"{"compresion": "zstd"}"#, "/compresion", "did you mean `compression`?"),
        (r#"{"max_object_size": 5}"#, "/max_object_size", "write it on the share"),
        (r#"{"compression": "lzo"}"#, "/compression", "unknown variant `lzo`"),
        (r#"{"compression_level": 20}"#, "/compression_level", "`zstd` has the levels 1 to 19, not 20"),
        (r#"{"compression_level": 0}"#, "/compression_level", "`zstd` has the levels 1 to 19, not 0"),
        (r#"{"compression": "gzip", "compression_level": 10}"#, "/compression_level", "0 to 9, not 10"),
        (r#"{"compression": "none", "compression_level": 1}"#, "/compression_level", "only `zstd` and `gzip`"),
        (r#"{"row_group_rows": 0}"#, "/row_group_rows", "must be at least 1, not 0"),
        (r#"{"row_group_bytes": 1}"#, "/row_group_bytes", "must be from 65536 to 134217728, not 1"),
        (r#"{"data_page_rows": 0}"#, "/data_page_rows", "must be at least 1, not 0"),
    ];
    for (options, path, message) in cases {
        let findings = Parquet::check(options, &good);
        let [finding] = findings.as_slice() else { panic!("{options}: {findings:?}") };
        assert_eq!(finding.path, path, "{options}");
        assert!(finding.message.contains(message), "{options}: {}", finding.message);
    }
    let both = Parquet::check(r#"{"row_group_rows": 0, "data_page_rows": 0}"#, &good);
    assert_eq!(both.len(), 2, "{both:?}");
}
