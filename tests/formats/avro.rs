//! Avro, read by fastavro.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date64Array, Int64Array, RecordBatch, StructArray, Time64NanosecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Fields, TimeUnit};
use consign::plugin::{Cause, Severity};
use serde_json::{Value, json};

use super::world::{component, only, run, typed};
use super::zoo::{self, Column, Json, ROWS};

const CODECS: [&str; 4] = ["deflate", "zstd", "snappy", "none"];

/// What Avro has no type for, and values that its types cannot hold.
const REFUSED: [&str; 8] = ["months", "days", "mixed", "thousands", "sparse union", "dense union", "u64", "time64 ns"];

/// The columns that Avro can hold, under names that it allows.
fn columns() -> Vec<Column> {
    let known = |column: &Column| !REFUSED.contains(&column.name.as_str());
    let columns = zoo::all().into_iter().filter(known).enumerate();
    columns.map(|(index, column)| Column { name: format!("c{index}"), ..as_avro(column) }).collect()
}

/// Seconds are milliseconds in Avro, and lengths of time plain numbers.
fn as_avro(mut column: Column) -> Column {
    match column.array.data_type() {
        DataType::Time32(TimeUnit::Second) | DataType::Timestamp(TimeUnit::Second, _) => {
            column.texts.iter_mut().flatten().for_each(|text| text.push_str(".000"));
        }
        DataType::Duration(_) => {
            let numbers = cast(&column.array, &DataType::Int64).unwrap();
            let numbers: &Int64Array = numbers.as_primitive();
            column.texts = numbers.iter().map(|number| number.map(|number| number.to_string())).collect();
            column.json = Json::Number;
        }
        DataType::Struct(_) => {
            column.texts.iter_mut().flatten().for_each(|text| *text = text.replace("b \\\"c\\\"", "b_c"));
            let (fields, arrays, nulls) = column.array.as_struct().clone().into_parts();
            let renamed = |name: &str| name.replace("b \"c\"", "b_c");
            let fields = fields.iter().map(|field| field.as_ref().clone().with_name(renamed(field.name())));
            column.array = Arc::new(StructArray::new(Fields::from_iter(fields), arrays, nulls));
        }
        _ => {}
    }
    column
}

#[test]
fn fastavro_reads_every_value_of_every_type() {
    let columns = columns();
    for codec in CODECS {
        let options = json!({ "compression": codec, "nanoseconds": "nanos" }).to_string();
        let bytes = only("avro", &options, zoo::batch(&columns).schema(), zoo::batches(&columns));
        let Some(rows) = typed("avro", &bytes) else { return };
        assert_eq!(rows.len(), 2 + ROWS);
        for (index, column) in columns.iter().enumerate() {
            assert_eq!(rows[0][index], json!(column.name));
            for row in 0..ROWS {
                let expected = column.expected_typed(row);
                assert_eq!(rows[2 + row][index], expected, "{codec}: {}, row {row}", column.array.data_type());
            }
        }
    }
}

/// A column and what its values read as, when its type says them in another unit.
#[test]
fn values_are_said_in_avros_units() {
    let day = 86_400_000;
    let cases: [(ArrayRef, Value, [Value; 2]); 5] = [
        (Arc::new(Date64Array::from(vec![day, -day])), json!("date"), [json!("1970-01-02"), json!("1969-12-31")]),
        (
            Arc::new(Time64NanosecondArray::from(vec![1_000, 86_399_999_999_000])),
            json!("time-micros"),
            [json!("00:00:00.000001"), json!("23:59:59.999999")],
        ),
        (
            Arc::new(TimestampNanosecondArray::from(vec![-1_000, 0]).with_timezone("Europe/Berlin")),
            json!("timestamp-micros"),
            [json!("1969-12-31T23:59:59.999999Z"), json!("1970-01-01T00:00:00.000000Z")],
        ),
        (
            Arc::new(TimestampSecondArray::from(vec![-1, 1])),
            json!("local-timestamp-millis"),
            [json!("1969-12-31T23:59:59.000"), json!("1970-01-01T00:00:01.000")],
        ),
        (
            Arc::new(UInt64Array::from(vec![0, i64::MAX.cast_unsigned()])),
            Value::Null,
            [json!({ "n": "0" }), json!({ "n": i64::MAX.to_string() })],
        ),
    ];
    for (array, logical, values) in cases {
        let batch = RecordBatch::try_from_iter_with_nullable([("v", array, false)]).unwrap();
        let Some(rows) = typed("avro", &only("avro", "{}", batch.schema(), vec![batch])) else { return };
        assert_eq!(rows[1][0].get("logicalType").unwrap_or(&Value::Null), &logical);
        assert_eq!([&rows[2][0], &rows[3][0]], [&values[0], &values[1]]);
    }
}

/// What would not be the same afterwards is no file at all.
#[test]
fn values_that_would_change_end_the_delivery() {
    let cases: [(ArrayRef, &str); 5] = [
        (Arc::new(UInt64Array::from(vec![u64::MAX])), "decimal(20, 0)"),
        (Arc::new(Date64Array::from(vec![1])), "time of day"),
        (Arc::new(Time64NanosecondArray::from(vec![1])), "nanoseconds"),
        (Arc::new(TimestampNanosecondArray::from(vec![i64::MAX])), "options.nanoseconds"),
        (Arc::new(TimestampSecondArray::from(vec![i64::MAX])), "milliseconds"),
    ];
    for (array, said) in cases {
        let batch = RecordBatch::try_from_iter([("the_column", array)]).unwrap();
        let failed = run("avro", "{}", None, batch.schema(), vec![batch]).unwrap_err();
        assert_eq!(failed.cause, Cause::Unsupported, "{failed:?}");
        let told = format!("{failed:?}");
        assert!(told.contains("`the_column`") && told.contains(said), "{told}");
    }
}

#[test]
fn what_avro_has_no_type_for_is_refused_by_name_before_anything_runs() {
    for column in zoo::all().into_iter().filter(|column| REFUSED[..6].contains(&column.name.as_str())) {
        let column = Column { name: "the_column".into(), ..column };
        let found = component("avro").check("{}", &zoo::batch(&[column]).schema()).unwrap();
        let [finding] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(finding.severity, Severity::Error);
        let told = &finding.message;
        assert!(told.starts_with("column `the_column`: Avro cannot hold "), "{told}");
        assert!(told.contains("in the query") || told.contains("cast it"), "{told}");
    }
}

#[test]
fn no_rows_are_a_file_with_the_schema() {
    let columns = columns();
    let schema = zoo::batch(&columns).schema();
    let options = r#"{"nanoseconds":"nanos","name":"com.example.Order"}"#;
    let Some(none) = typed("avro", &only("avro", options, schema.clone(), vec![])) else { return };
    let some = typed("avro", &only("avro", options, schema, zoo::batches(&columns))).unwrap();
    assert_eq!(none, some[..2]);
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    let columns = columns();
    for codec in CODECS {
        let options = json!({ "compression": codec, "nanoseconds": "nanos" }).to_string();
        let bytes = || only("avro", &options, zoo::batch(&columns).schema(), zoo::batches(&columns));
        assert!(bytes() == bytes(), "{codec}");
    }
}
