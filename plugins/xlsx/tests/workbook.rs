//! Workbooks, natively: how they are cut into sheets and objects, and what is
//! refused. What other readers make of them is tested with the component, in the
//! root package's `tests/formats`.

#![cfg(test)]

use std::io::Read as _;

use consign_sdk::testing::{self, Table, WrittenObject, fixed, texts};
use consign_sdk::{DataType, Field, Formatter, RunFacts, Schema};
use consign_xlsx::Xlsx;
use flate2::read::DeflateDecoder;

fn table(rows: u64) -> Table {
    let number = |row: u64| Some((row.wrapping_mul(0x9e37_79b9_7f4a_7c15) as u32).to_le_bytes());
    Table::new().column("number", DataType::UInt32, vec![fixed((0..rows).map(number))]).column(
        "text",
        DataType::Utf8,
        vec![texts((0..rows).map(|row| Some(format!("row <{row}>"))))],
    )
}

/// The parts of a workbook, in the order of the ZIP's directory.
fn parts(object: &WrittenObject) -> Vec<(String, String)> {
    let bytes = &object.bytes;
    let number = |at: usize, size: usize| {
        bytes[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let end = bytes.len() - 22;
    let (count, mut at) = (number(end + 10, 2), number(end + 16, 4));
    let mut parts = Vec::new();
    for _ in 0..count {
        let (name, local) = (number(at + 28, 2), number(at + 42, 4));
        let mut text = String::new();
        DeflateDecoder::new(&bytes[local + 30 + name..]).read_to_string(&mut text).unwrap();
        assert_eq!(text.len(), number(at + 24, 4));
        parts.push((String::from_utf8(bytes[at + 46..at + 46 + name].to_vec()).unwrap(), text));
        at += 46 + name;
    }
    assert_eq!(at, end);
    parts
}

fn part(object: &WrittenObject, name: &str) -> String {
    parts(object).into_iter().find(|(other, _)| other == name).unwrap().1
}

fn sheets(object: &WrittenObject) -> Vec<String> {
    let parts = parts(object).into_iter().filter(|(name, _)| name.starts_with("xl/worksheets/"));
    parts.map(|(_, text)| text).collect()
}

#[test]
fn a_sheet_that_is_full_is_followed_by_another() {
    let options = r#"{"sheet_rows":4,"sheet":"Orders & more"}"#;
    let objects = table(7).format::<Xlsx>(options, &RunFacts::none()).unwrap();
    assert_eq!((objects.len(), objects[0].rows), (1, Some(7)));
    let sheets = sheets(&objects[0]);
    let rows: Vec<usize> = sheets.iter().map(|sheet| sheet.matches("<row ").count()).collect();
    assert_eq!(rows, [4, 4, 2], "each with its header");
    assert!(sheets.iter().all(|sheet| sheet.contains("<c r=\"A1\" s=\"1\" t=\"inlineStr\"><is><t>number</t>")));
    let workbook = part(&objects[0], "xl/workbook.xml");
    for name in ["\"Orders &amp; more\"", "\"Orders &amp; more 2\"", "\"Orders &amp; more 3\""] {
        assert!(workbook.contains(name), "{workbook}");
    }
}

#[test]
fn objects_are_cut_near_the_limit() {
    let limit = 300_000;
    let run = RunFacts::of([("max-object-bytes", limit.to_string())]);
    let batches = [table(30_000).batch, table(30_000).batch];
    let objects = testing::format::<Xlsx>("{}", &table(0).schema, &batches, &run).unwrap();
    assert!(objects.len() > 2, "{}", objects.len());
    for (number, object) in objects.iter().enumerate() {
        let bytes = object.bytes.len();
        assert!(bytes <= limit, "{bytes} bytes");
        assert!(bytes > limit / 2 || number + 1 == objects.len(), "{bytes} bytes");
        let rows: usize = sheets(object).iter().map(|sheet| sheet.matches("<row ").count() - 1).sum();
        assert_eq!(object.rows, Some(rows as u64));
    }
    assert_eq!(objects.iter().filter_map(|object| object.rows).sum::<u64>(), 60_000);
}

#[test]
fn the_header_is_as_the_options_say() {
    let of = |options: &str| sheets(&table(1).format::<Xlsx>(options, &RunFacts::none()).unwrap()[0]).remove(0);
    let usual = of("{}");
    assert!(usual.contains("state=\"frozen\"") && usual.matches("<row ").count() == 2, "{usual}");
    let moving = of(r#"{"freeze_header":false}"#);
    assert!(!moving.contains("<pane") && moving.matches("<row ").count() == 2, "{moving}");
    let without = of(r#"{"header":false}"#);
    assert!(!without.contains("<pane") && without.matches("<row ").count() == 1, "{without}");
    assert!(without.contains("<row r=\"1\"><c r=\"A1\"><v>0</v></c>"), "{without}");
}

#[test]
fn columns_are_as_wide_as_what_they_show() {
    let wide = Table::new()
        .column("a", DataType::Utf8, vec![texts([Some("x"), None])])
        .column("b", DataType::Utf8, vec![texts([Some("x".repeat(20)), None])])
        .column("c", DataType::Utf8, vec![texts([Some("x".repeat(200)), None])])
        .column("a name of some length", DataType::Utf8, vec![texts([Some("x"), None])]);
    let sheet = sheets(&wide.format::<Xlsx>("{}", &RunFacts::none()).unwrap()[0]).remove(0);
    for (column, width) in [(1, 8), (2, 22), (3, 60), (4, 23)] {
        assert!(sheet.contains(&format!("<col min=\"{column}\" max=\"{column}\" width=\"{width}\"")), "{sheet}");
    }
}

#[test]
fn rows_in_any_batches_are_the_same_workbook() {
    const ROWS: usize = 320;
    // Wider from row to row; several sheets; and rows so long that fewer are looked at.
    for (options, longer) in [("{}", 0.2), (r#"{"sheet_rows":90}"#, 0.2), ("{}", 100.0)] {
        let rows = |rows: std::ops::Range<usize>| {
            let text = |row: usize| Some("x".repeat((row as f64 * longer) as usize));
            Table::new().column("text", DataType::Utf8, vec![texts(rows.map(text))])
        };
        let made = |size: usize| {
            let begins = (0..ROWS).step_by(size);
            let batches: Vec<_> = begins.map(|begin| rows(begin..ROWS.min(begin + size)).batch).collect();
            testing::format::<Xlsx>(options, &rows(0..0).schema, &batches, &RunFacts::none()).unwrap()
        };
        let whole = made(ROWS);
        assert_eq!(sheets(&whole[0])[0].contains("width=\"41\""), longer < 1.0, "by the first 200 rows");
        for size in [1, 7, 200] {
            assert!(made(size)[0].bytes == whole[0].bytes, "{options}, in batches of {size}");
        }
    }
}

#[test]
fn a_text_that_no_cell_holds_is_refused() {
    let of = |text: String| {
        let table = Table::new().column("note", DataType::Utf8, vec![texts([Some(text)])]);
        table.format::<Xlsx>("{}", &RunFacts::none()).map(drop).map_err(|error| error.to_string())
    };
    of("é".repeat(32_767)).unwrap();
    // Excel counts in UTF-16.
    let told = of("🦀".repeat(16_384)).unwrap_err();
    assert_eq!(
        told,
        "column `note` has a text of 32768 characters, and a cell of Excel holds 32767: shorten it in the query \
         (`left(…, 32767)`)"
    );
}

#[test]
fn what_a_cell_cannot_hold_is_an_error_when_asked() {
    let big = Table::new().column("id", DataType::Int64, vec![fixed([Some(1_234_567_890_123_456i64.to_le_bytes())])]);
    let told = big.format::<Xlsx>(r#"{"beyond":"error"}"#, &RunFacts::none()).unwrap_err().to_string();
    assert!(told.starts_with("column `id` has 1234567890123456, which a cell of Excel cannot hold exactly"), "{told}");
    let sheet = sheets(&big.format::<Xlsx>("{}", &RunFacts::none()).unwrap()[0]).remove(0);
    assert!(sheet.contains("<is><t>1234567890123456</t></is>"), "{sheet}");
}

#[test]
fn what_makes_no_sense_is_told_before_anything_runs() {
    let cases = [
        (r#"{"sheet":""}"#, "/sheet", "1 to 24 characters"),
        (r#"{"sheet":"a/b"}"#, "/sheet", "cannot be called `a/b`"),
        (r#"{"sheet":"history"}"#, "/sheet", "not `History`"),
        (r#"{"sheet_rows":1}"#, "/sheet_rows", "from 2 to 1048576, not 1"),
        (r#"{"compression_level":10}"#, "/compression_level", "0 to 9, not 10"),
        (r#"{"date_format":""}"#, "/date_format", "a number format"),
        (r#"{"sheets":3}"#, "/sheets", "did you mean `sheet`"),
    ];
    for (options, path, said) in cases {
        let findings = Xlsx::check(options, &table(0).schema);
        let [finding] = findings.as_slice() else { panic!("{options}: {findings:?}") };
        assert_eq!(finding.path, path, "{options}");
        assert!(finding.message.contains(said), "{options}: {}", finding.message);
    }
    let many = Schema { fields: (0..16_385).map(|index| Field::new(index.to_string(), DataType::Int8)).collect() };
    let findings = Xlsx::check("{}", &many);
    assert!(findings[0].message.starts_with("the dataset has 16385 columns, and a sheet of Excel holds 16384"));
    assert!(!Xlsx::check("{}", &Schema::default()).is_empty());
}
