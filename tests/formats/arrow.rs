//! Arrow IPC, read by pyarrow and by the arrow crate's reader.

use std::io::Cursor;

use arrow::array::{Array, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::reader::{FileReader, StreamReader};
use serde_json::json;

use super::world::{only, run, typed};
use super::zoo::{self, Column};

const OPTIONS: [&str; 2] = ["{}", r#"{"format":"stream"}"#];

fn read(bytes: &[u8]) -> RecordBatch {
    let (schema, batches): (SchemaRef, Vec<RecordBatch>) = match bytes.starts_with(b"ARROW1") {
        true => {
            let reader = FileReader::try_new(Cursor::new(bytes), None).unwrap();
            (reader.schema(), reader.map(Result::unwrap).collect())
        }
        false => {
            let reader = StreamReader::try_new(Cursor::new(bytes), None).unwrap();
            (reader.schema(), reader.map(Result::unwrap).collect())
        }
    };
    concat_batches(&schema, &batches).unwrap()
}

/// What the host makes of the encodings.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::ListView(item) => DataType::List(item.clone()),
        other => other.clone(),
    }
}

#[test]
fn arrow_says_every_value_of_every_type() {
    let columns = zoo::all();
    for options in OPTIONS {
        let bytes = only("arrow", options, zoo::batch(&columns).schema(), zoo::batches(&columns));
        let read = read(&bytes);
        assert_eq!(read.num_rows(), zoo::ROWS);
        for (index, column) in columns.iter().enumerate() {
            let expected = plain(column.array.data_type());
            assert_eq!((read.schema().field(index).name(), read.column(index).data_type()), (&column.name, &expected));
            let expected = cast(&column.array, &expected).unwrap();
            assert_eq!(read.column(index).to_data(), expected.to_data(), "column {:?}", column.name);
        }
    }
}

#[test]
fn pyarrow_reads_every_value_of_every_type() {
    // Those two intervals it knows in C++ alone.
    let known = |column: &Column| !["months", "days"].contains(&column.name.as_str());
    let columns: Vec<Column> = zoo::all().into_iter().filter(known).collect();
    for options in OPTIONS {
        let bytes = only("arrow", options, zoo::batch(&columns).schema(), zoo::batches(&columns));
        let Some(rows) = typed("arrow", &bytes) else { return };
        assert_eq!(rows.len(), 2 + zoo::ROWS);
        for (index, column) in columns.iter().enumerate() {
            assert_eq!(rows[0][index], json!(column.name));
            for row in 0..zoo::ROWS {
                let expected = column.expected_typed(row);
                assert_eq!(rows[2 + row][index], expected, "{options}: column {:?}, row {row}", column.name);
            }
        }
        let types = |name: &str| rows[1][columns.iter().position(|column| column.name == name).unwrap()].clone();
        assert_eq!(types("ts ms Berlin"), json!("timestamp[ms, tz=Europe/Berlin]"));
        assert_eq!(types("d38_10"), json!("decimal128(38, 10)"));
        assert_eq!(types("fixed binary"), json!("fixed_size_binary[3]"));
    }
}

#[test]
fn no_rows_are_a_file_with_the_schema() {
    let columns = zoo::all();
    for options in OPTIONS {
        let schema = zoo::batch(&columns).schema();
        let none = read(&only("arrow", options, schema.clone(), vec![]));
        let some = read(&only("arrow", options, schema, zoo::batches(&columns)));
        assert_eq!((none.num_rows(), none.schema()), (0, some.schema()));
    }
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    let columns = zoo::all();
    for options in OPTIONS {
        let bytes = || only("arrow", options, zoo::batch(&columns).schema(), zoo::batches(&columns));
        assert!(bytes() == bytes(), "{options}");
    }
}

/// IANA's names for the two.
#[test]
fn a_stream_is_named_otherwise_than_a_file() {
    let columns = zoo::all();
    let name = |options| run("arrow", options, None, zoo::batch(&columns).schema(), vec![]).unwrap().remove(0).0;
    assert_eq!((name(OPTIONS[0]), name(OPTIONS[1])), ("daily.arrow".into(), "daily.arrows".into()));
}
