//! The arrow format, natively; what other readers make of it is tested with the
//! component, in the root package's `tests/formats`.

#![cfg(test)]

use std::io::Cursor;

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use consign_arrow::Arrow;
use consign_sdk::testing::{self, MemoryBatch, Table, WrittenObject, fixed, texts};
use consign_sdk::{DataType, Formatter, RunFacts};

/// Numbers that do not compress, and a text.
fn table(rows: u64) -> Table {
    let number = |row: u64| Some(row.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    Table::new().column("number", DataType::UInt64, vec![fixed((0..rows).map(number))]).column(
        "text",
        DataType::Utf8,
        vec![texts((0..rows).map(|row| (row % 3 > 0).then(|| row.to_string())))],
    )
}

fn format(options: &str, batches: &[MemoryBatch], run: &RunFacts) -> Vec<WrittenObject> {
    testing::format::<Arrow>(options, &table(0).schema, batches, run).unwrap()
}

fn read(object: &WrittenObject) -> Vec<RecordBatch> {
    let bytes = Cursor::new(&object.bytes);
    match object.name.ends_with(".arrow") {
        true => FileReader::try_new(bytes, None).unwrap().map(Result::unwrap).collect(),
        false => StreamReader::try_new(bytes, None).unwrap().map(Result::unwrap).collect(),
    }
}

const EVERY: [&str; 2] = ["{}", r#"{"format":"stream"}"#];

#[test]
fn each_batch_is_a_record_batch() {
    let batches = [table(100).batch, table(7).batch];
    for options in EVERY {
        let objects = format(options, &batches, &RunFacts::none());
        let [object] = objects.as_slice() else { panic!("{options}: {} objects", objects.len()) };
        assert_eq!(object.rows, Some(107));
        let rows: Vec<usize> = read(object).iter().map(RecordBatch::num_rows).collect();
        assert_eq!(rows, [100, 7], "{options}");
    }
}

#[test]
fn the_name_and_the_media_type_are_the_formats() {
    let of = |options| {
        let object = format(options, &[], &RunFacts::none()).remove(0);
        (object.name, object.media_type)
    };
    assert_eq!(of("{}"), ("data.arrow".into(), "application/vnd.apache.arrow.file".into()));
    assert_eq!(of(EVERY[1]), ("data.arrows".into(), "application/vnd.apache.arrow.stream".into()));
}

/// As exactly as the batches can be cut.
#[test]
fn no_object_exceeds_the_limit_and_none_is_far_below_it() {
    let batches = [table(20_000).batch, table(20_000).batch];
    for options in EVERY {
        for limit in [60_000, 200_000] {
            let run = RunFacts::of([("max-object-bytes", limit.to_string())]);
            let objects = format(options, &batches, &run);
            assert!(objects.len() > 2, "{options}: {} objects", objects.len());
            for (number, object) in objects.iter().enumerate() {
                let bytes = object.bytes.len();
                assert!(bytes <= limit, "{options}: {} has {bytes} bytes", object.name);
                let last = number + 1 == objects.len();
                assert!(last || bytes > limit / 2, "{options}: {} has only {bytes} bytes", object.name);
                let rows: usize = read(object).iter().map(RecordBatch::num_rows).sum();
                assert_eq!(object.rows, Some(rows as u64));
            }
            assert_eq!(objects.iter().filter_map(|object| object.rows).sum::<u64>(), 40_000);
        }
    }
}

#[test]
fn a_row_over_the_limit_is_alone() {
    let run = RunFacts::of([("max-object-bytes", "10")]);
    for options in EVERY {
        let objects = format(options, &[table(3).batch], &run);
        assert_eq!(objects.iter().map(|object| object.rows).collect::<Vec<_>>(), [Some(1); 3], "{options}");
    }
}

#[test]
fn wrong_options_say_what_to_write() {
    let cases = [
        (r#"{"container":"file"}"#, "/container", "the options are"),
        (r#"{"format":"feather"}"#, "/format", "unknown variant `feather`"),
        (r#"{"compression":"zstd"}"#, "/compression", "write it on the share"),
    ];
    for (options, path, message) in cases {
        let findings = Arrow::check(options, &table(0).schema);
        let [finding] = findings.as_slice() else { panic!("{options}: {findings:?}") };
        assert_eq!(finding.path, path, "{options}");
        assert!(finding.message.contains(message), "{options}: {}", finding.message);
    }
}
