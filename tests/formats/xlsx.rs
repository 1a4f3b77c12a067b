//! Workbooks, read by openpyxl.

use arrow::array::Array;
use arrow::datatypes::DataType;
use serde_json::{Value, json};

use super::world::{only, typed};
use super::zoo::{self, Column, Json, ROWS};

/// What a cell must hold of a value.
fn expected(column: &Column, row: usize) -> Value {
    let Some(text) = &column.texts[row] else { return Value::Null };
    match column.array.data_type() {
        _ if column.json == Json::Value => json!(text),
        DataType::Boolean => json!(text == "true"),
        DataType::Date32 | DataType::Date64 => moment(text, &format!("{text}T00:00:00.000"), "yyyy-mm-dd"),
        DataType::Time32(_) | DataType::Time64(_) => timed(text, "hh:mm:ss"),
        DataType::Timestamp(..) => timed(text, "yyyy-mm-dd hh:mm:ss"),
        kind if kind.is_numeric() => {
            let digits = text.trim_start_matches('-');
            let whole = digits.split('e').next().unwrap().replace('.', "");
            let significant = if digits.contains('.') { whole.trim_end_matches('0') } else { &whole };
            let floating = matches!(kind, DataType::Float16 | DataType::Float32 | DataType::Float64);
            match floating && !text.contains(['N', 'I']) || significant.trim_start_matches('0').len() <= 15 && !floating
            {
                true => json!({ "n": text.parse::<f64>().unwrap().to_string() }),
                false => json!(text),
            }
        }
        _ => json!(text),
    }
}

/// To the millisecond, or the text.
fn timed(text: &str, format: &str) -> Value {
    let (whole, places) = text.trim_end_matches('Z').split_once('.').unwrap_or((text.trim_end_matches('Z'), ""));
    let (shown, finer) = places.split_at(places.len().min(3));
    let format = if places.is_empty() { format.into() } else { format!("{format}.000") };
    match finer.bytes().all(|digit| digit == b'0') {
        true => moment(text, &format!("{whole}.{shown:0<3}"), &format),
        false => json!(text),
    }
}

/// Of the years that all readers agree on, or the text.
fn moment(text: &str, shown: &str, format: &str) -> Value {
    let is_time = text.as_bytes().get(2) == Some(&b':');
    let known = text.starts_with(|first: char| first.is_ascii_digit()) && ("1900-03-01".."9999-12-32").contains(&text);
    if is_time || known { json!({ "at": shown, "format": format }) } else { json!(text) }
}

/// Numbers as numbers, whatever their text.
fn same(read: &Value, expected: &Value) -> bool {
    match (read["n"].as_str(), expected["n"].as_str()) {
        (Some(read), Some(expected)) => read.parse::<f64>().unwrap() == expected.parse::<f64>().unwrap(),
        _ => read == expected,
    }
}

#[test]
fn openpyxl_reads_every_value_of_every_type() {
    let columns = zoo::all();
    let bytes = only("xlsx", "{}", zoo::batch(&columns).schema(), zoo::batches(&columns));
    let Some(mut rows) = typed("xlsx", &bytes) else { return };
    let about = rows.remove(0);
    assert_eq!(about, [json!("Data"), json!(ROWS), json!("A2"), json!(true), json!(8.0)]);
    assert_eq!(rows.remove(0), columns.iter().map(|column| json!(column.name)).collect::<Vec<_>>());
    // The last one is of nulls, which are no cells.
    assert_eq!(rows.len(), ROWS - 1);
    for (row, read) in rows.iter().enumerate() {
        for (column, read) in columns.iter().zip(read) {
            let expected = expected(column, row);
            assert!(same(read, &expected), "column {:?}, row {row}: {read} is not {expected}", column.name);
        }
    }
}

#[test]
fn openpyxl_reads_sheets_one_after_another() {
    let columns: Vec<Column> = zoo::all().into_iter().filter(|column| column.name == "i8").collect();
    let bytes = only("xlsx", r#"{"sheet_rows":3}"#, zoo::batch(&columns).schema(), zoo::batches(&columns));
    let Some(rows) = typed("xlsx", &bytes) else { return };
    let titles: Vec<&Value> = rows[..3].iter().map(|about| &about[0]).collect();
    assert_eq!(titles, ["Data", "Data 2", "Data 3"]);
    let values: Vec<&Value> = rows[3..].iter().map(|row| &row[0]).collect();
    let numbers = ["-128", "127", "0", "1"].map(|digits| json!({ "n": digits }));
    let [a, b, c, d] = &numbers;
    let name = &json!("i8");
    assert_eq!(values, [name, a, b, name, c, d, name]);
}

#[test]
fn no_rows_are_a_sheet_with_a_header() {
    let columns = zoo::all();
    let schema = zoo::batch(&columns).schema();
    let Some(rows) = typed("xlsx", &only("xlsx", "{}", schema.clone(), vec![])) else { return };
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1].len(), columns.len());
    let without = typed("xlsx", &only("xlsx", r#"{"header":false}"#, schema, vec![])).unwrap();
    assert!(without[1..].iter().flatten().all(Value::is_null));
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    let columns = zoo::all();
    let bytes = || only("xlsx", "{}", zoo::batch(&columns).schema(), zoo::batches(&columns));
    assert!(bytes() == bytes());
}
