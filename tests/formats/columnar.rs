//! Parquet, read by the parquet crate's Arrow reader.

use arrow::array::Array;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use consign::plugin::Cause;

use super::world::{only, parquet, run};
use super::zoo::{self, Column};

fn columns() -> Vec<Column> {
    zoo::all().into_iter().filter(|column| column.in_parquet).collect()
}

/// What Parquet makes of a type: it has no dictionaries, views, seconds and dates in milliseconds.
fn stored(data_type: &DataType) -> DataType {
    use arrow::datatypes::TimeUnit::{Millisecond, Second};
    match data_type {
        DataType::Dictionary(_, values) => stored(values),
        DataType::RunEndEncoded(_, values) => stored(values.data_type()),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(Second) => DataType::Time32(Millisecond),
        DataType::Timestamp(Second, zone) => DataType::Timestamp(Millisecond, zone.clone()),
        other => other.clone(),
    }
}

#[test]
fn parquet_says_every_value_of_every_type() {
    let columns = columns();
    for options in ["{}", r#"{"compression":"snappy","dictionary":false,"row_group_rows":2,"data_page_rows":1}"#] {
        let bytes = only("parquet", options, zoo::batch(&columns).schema(), zoo::batches(&columns));
        let read = parquet(&bytes);
        assert_eq!(read.num_rows(), zoo::ROWS);
        for (index, column) in columns.iter().enumerate() {
            let (field, read) = (read.schema().field(index).clone(), read.column(index).clone());
            assert_eq!(*field.name(), column.name);
            let expected_type = stored(column.array.data_type());
            if !expected_type.is_nested() {
                assert_eq!(*read.data_type(), expected_type, "{}", column.name);
            }
            let expected = cast(&column.array, read.data_type()).unwrap();
            assert_eq!(read.to_data(), expected.to_data(), "column {:?}", column.name);
            assert_eq!(read.null_count(), expected.null_count());
        }
    }
}

#[test]
fn no_rows_are_a_file_with_the_schema() {
    let columns = columns();
    let schema = zoo::batch(&columns).schema();
    let none = parquet(&only("parquet", "{}", schema.clone(), vec![]));
    let some = parquet(&only("parquet", "{}", schema, zoo::batches(&columns)));
    assert_eq!(none.num_rows(), 0);
    assert_eq!(none.schema(), some.schema());
}

#[test]
fn what_parquet_has_no_type_for_is_refused_by_name() {
    for column in zoo::all().into_iter().filter(|column| !column.in_parquet) {
        let columns = [column];
        let failed = run("parquet", "{}", None, zoo::batch(&columns).schema(), zoo::batches(&columns)).unwrap_err();
        assert_eq!(failed.cause, Cause::Unsupported, "{failed:?}");
        let told = format!("{failed:?}");
        assert!(told.contains(&columns[0].name) && told.contains("Parquet cannot hold"), "{told}");
    }
}
