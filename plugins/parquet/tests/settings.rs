//! What the options change in the file, and how objects are cut.

use std::sync::Arc;

use arrow_array::*;
use bytes::Bytes;
use consign_sdk::RunFacts;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::support::{format, metadata, one_object, read};

const ROWS: i64 = 50_000;

/// Rows of few texts and of numbers that do not repeat.
fn table(rows: i64) -> RecordBatch {
    let carriers = ["UA", "B6", "EV", "DL", "AA"];
    let carrier: StringArray = (0..rows).map(|row| (row % 11 != 0).then(|| carriers[row as usize % 5])).collect();
    let number: Int64Array = (0..rows).map(|row| Some(row.wrapping_mul(0x5851_f42d_4c95_7f2d) >> 16)).collect();
    let columns: [(&str, ArrayRef); 2] = [("carrier", Arc::new(carrier)), ("number", Arc::new(number))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn written(options: &str) -> ParquetMetaData {
    let table = table(ROWS);
    let stored = one_object(options, &table).unwrap();
    assert_eq!(read(&stored), table, "{options}");
    metadata(&stored)
}

fn carrier(metadata: &ParquetMetaData) -> &ColumnChunkMetaData {
    metadata.row_group(0).column(0)
}

#[test]
fn every_codec_is_used_and_read() {
    let cases = [
        ("{}", Compression::ZSTD(Default::default())),
        (r#"{"compression": "zstd", "compression_level": 19}"#, Compression::ZSTD(Default::default())),
        (r#"{"compression": "snappy"}"#, Compression::SNAPPY),
        (r#"{"compression": "gzip", "compression_level": 1}"#, Compression::GZIP(Default::default())),
        (r#"{"compression": "none"}"#, Compression::UNCOMPRESSED),
    ];
    for (options, codec) in cases {
        let read = written(options);
        let codec_of = |codec: Compression| std::mem::discriminant(&codec);
        assert_eq!(codec_of(carrier(&read).compression()), codec_of(codec), "{options}");
    }
}

#[test]
fn row_groups_end_by_rows_or_bytes() {
    let rows = |options: &str| -> Vec<i64> { written(options).row_groups().iter().map(|g| g.num_rows()).collect() };
    assert_eq!(rows("{}"), [ROWS]);
    assert_eq!(rows(r#"{"row_group_rows": 20000}"#), [20_000, 20_000, 10_000]);
    let by_bytes = rows(r#"{"row_group_bytes": 65536, "compression": "none"}"#);
    assert!(by_bytes.len() >= 5, "{by_bytes:?}");
}

#[test]
fn pages_dictionaries_and_statistics_as_asked() {
    let plain = written("{}");
    assert!(carrier(&plain).dictionary_page_offset().is_some());
    assert_eq!(carrier(&plain).statistics().unwrap().min_bytes_opt(), Some(&b"AA"[..]));
    assert!(carrier(&plain).column_index_offset().is_some());

    let without = written(r#"{"dictionary": false, "statistics": "none"}"#);
    assert!(carrier(&without).dictionary_page_offset().is_none());
    assert!(!carrier(&without).encodings().any(|encoding| encoding == Encoding::RLE_DICTIONARY));
    assert!(carrier(&without).statistics().is_none());

    let chunk = written(r#"{"statistics": "chunk"}"#);
    assert!(carrier(&chunk).statistics().is_some() && carrier(&chunk).column_index_offset().is_none());

    let small = one_object(r#"{"data_page_rows": 100}"#, &table(1000)).unwrap();
    let reader = SerializedFileReader::new(Bytes::from(small.bytes)).unwrap();
    let pages = reader.get_row_group(0).unwrap().get_column_page_reader(1).unwrap().count();
    assert!(pages >= 10, "{pages}");
}

#[test]
fn the_footer_names_the_format_and_nothing_of_the_run() {
    let metadata = written("{}");
    let file = metadata.file_metadata();
    assert_eq!(file.created_by(), Some(concat!("consign-parquet version ", env!("CARGO_PKG_VERSION"))));
    let keys = |file: &parquet::file::metadata::FileMetaData| -> Vec<String> {
        file.key_value_metadata().into_iter().flatten().map(|pair| pair.key.clone()).collect()
    };
    assert_eq!(keys(file), ["ARROW:schema"]);
    let without = written(r#"{"arrow_schema": false}"#);
    assert!(keys(without.file_metadata()).is_empty());

    let run = |attempt: &str| RunFacts::of([("attempt", attempt), ("run", attempt)]);
    let batches = [table(1000)];
    assert_eq!(format("{}", &batches, &run("1")).unwrap(), format("{}", &batches, &run("2")).unwrap());
}

#[test]
fn no_rows_make_one_file_with_the_schema() {
    let stored = one_object("{}", &table(0)).unwrap();
    assert_eq!((stored.name.as_str(), stored.rows), ("data.parquet", 0));
    assert_eq!(stored.media_type, "application/vnd.apache.parquet");
    let read = read(&stored);
    assert_eq!((read.num_rows(), read.schema()), (0, table(0).schema()));
}

#[test]
fn objects_are_cut_near_the_limit_and_each_is_a_file() {
    let limit = 200_000;
    let run = RunFacts::of([("max-object-bytes", limit.to_string()), ("object-stem", "flights".into())]);
    let batches = [table(ROWS), table(ROWS)];
    let objects = format(r#"{"compression": "snappy"}"#, &batches, &run).unwrap();
    assert!(objects.len() > 3, "{}", objects.len());
    let mut numbers = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        assert_eq!(object.name, format!("flights-{number:05}.parquet"));
        let read = read(object);
        assert_eq!(read.num_rows() as u64, object.rows);
        assert!(object.bytes.len() < limit + limit / 10, "{} bytes", object.bytes.len());
        numbers.extend(read["number"].as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec());
    }
    let expected: Vec<i64> = batches
        .iter()
        .flat_map(|b| b["number"].as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec())
        .collect();
    assert_eq!(numbers, expected);
}
