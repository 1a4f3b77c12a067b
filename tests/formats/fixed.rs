//! Records of fixed width, cut into slices by Python: the shipped format, and the
//! example of a bank's.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Date32Array, Decimal128Array, Int32Array, RecordBatch, StringArray};
use consign::plugin::{Cause, PluginHost};
use serde_json::{Value, json};

use super::world::{load, only, python, run, run_component};
use super::zoo::{self, Column, ROWS};

/// Every column with a width.
fn columns() -> Vec<Column> {
    zoo::all().into_iter().filter(|column| !column.array.data_type().is_nested()).collect()
}

/// As wide as the longest value, and one blank.
fn width(column: &Column) -> usize {
    column.texts.iter().flatten().map(|text| text.chars().count()).max().unwrap_or(0) + 1
}

fn options(columns: &[Column]) -> String {
    let places = columns.iter().map(|column| json!({ "column": column.name, "width": width(column) }));
    let places: Vec<Value> = places.collect();
    json!({ "columns": places, "encoding": "utf-8", "control_characters": "space" }).to_string()
}

#[test]
fn fixed_width_says_every_value_of_every_type() {
    let columns = columns();
    let bytes = only("fixed-width", &options(&columns), zoo::batch(&columns).schema(), zoo::batches(&columns));
    let widths: Vec<String> = columns.iter().map(|column| width(column).to_string()).collect();
    let lines = python(&format!("fixed:{}", widths.join(",")), &bytes);
    assert_eq!(lines.len(), ROWS);
    for (row, line) in lines.iter().enumerate() {
        for (column, value) in columns.iter().zip(line) {
            let text = column.texts[row].as_deref().unwrap_or("").replace(char::is_control, " ");
            let width = width(column);
            let kind = column.array.data_type();
            let expected = if kind.is_numeric() { format!("{text:>width$}") } else { format!("{text:width$}") };
            assert_eq!(*value, json!(expected), "column {:?}, row {row}", column.name);
        }
    }
}

#[test]
fn no_rows_are_no_lines() {
    let columns = columns();
    assert_eq!(only("fixed-width", &options(&columns), zoo::batch(&columns).schema(), vec![]), b"");
}

#[test]
fn a_value_wider_than_its_place_ends_the_delivery() {
    let columns = columns();
    let options = r#"{"columns":[{"column":"u64","width":10}]}"#;
    let failed = run("fixed-width", options, None, zoo::batch(&columns).schema(), zoo::batches(&columns)).unwrap_err();
    assert_eq!(failed.cause, Cause::Unsupported, "{failed:?}");
    assert!(format!("{failed:?}").contains("column `u64` of row 2 is `18446744073709551615`"), "{failed:?}");
}

const NACHA_OPTIONS: &str = r#"{
    "immediate_destination": "021000021", "destination_name": "EXAMPLE BANK",
    "immediate_origin": "1234567890", "origin_name": "VENDOR INC",
    "company_name": "VENDOR INC", "company_id": "1234567890",
    "entry_description": "PAYOUT", "originating_bank": "121042882", "entry_class": "ppd"
}"#;

/// Entries of several days, in batches as a dataset gives them.
fn entries(count: i32) -> Vec<RecordBatch> {
    let batch = |first: i32| {
        let rows = first..(first + 8192).min(count);
        let text =
            |of: &dyn Fn(i32) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.clone().map(of))) };
        let cents = Decimal128Array::from_iter_values(rows.clone().map(|row| i128::from(row) * 37 % 99_999_999 + 1));
        let columns: [(&str, ArrayRef); 7] = [
            ("effective_date", Arc::new(Date32Array::from_iter_values(rows.clone().map(|row| 20_787 + row / 3_000)))),
            (
                "transaction_code",
                Arc::new(Int32Array::from_iter_values(rows.clone().map(|row| [22, 27, 32][row as usize % 3]))),
            ),
            ("routing_number", text(&|row| ["021000021", "121042882"][row as usize % 2].into())),
            ("account_number", text(&|row| format!("{row:09}"))),
            ("amount", Arc::new(cents.with_precision_and_scale(10, 2).unwrap())),
            ("individual_id", text(&|row| format!("ID-{row}"))),
            ("individual_name", text(&|row| format!("PERSON {row}"))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    };
    (0..count).step_by(8192).map(batch).collect()
}

/// The hash of so many entries has more than ten digits.
#[test]
fn the_example_of_a_bank_adds_up() {
    static NACHA: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/nacha.wasm"));
    let cache = tempfile::tempdir().unwrap();
    let component = load(&PluginHost::new(cache.path()).unwrap(), "nacha", NACHA);
    let batches = entries(20_000);
    let schema = batches[0].schema();
    let mut objects = run_component(component.clone(), NACHA_OPTIONS, None, schema.clone(), batches).unwrap();
    let (name, bytes, rows) = objects.remove(0);
    assert_eq!((name.as_str(), rows, objects.len()), ("daily.ach", 20_000, 0));
    let records = python("nacha", &bytes);
    let of = |kind: &str| records.iter().filter(|record| record[0] == kind).count();
    assert_eq!([of("1"), of("5"), of("6"), of("8"), of("9")], [1, 7, 20_000, 7, 1]);
    assert_eq!(
        records[2][4..8],
        [json!("000000000        "), json!("0000000001"), json!("ID-0           "), json!("PERSON 0              ")]
    );
    assert_eq!([&records[0][4], &records[0][5]], ["240102", "0304"], "the slot");

    let none = run_component(component, NACHA_OPTIONS, None, schema, vec![]).unwrap();
    assert_eq!(python("nacha", &none[0].1).len(), 2);
}
