//! What the csv crate reads of tables of all lengths, natively. The component is
//! tested in the root package's `tests/formats`.

#![cfg(test)]

use consign_csv::Csv;
use consign_sdk::testing::{Table, bools, fixed, texts};
use consign_sdk::{DataType, RunFacts};
use proptest::prelude::*;

type Row = (Option<i64>, Option<String>, Option<bool>, Option<i32>, Option<String>);

fn row() -> impl Strategy<Value = Row> {
    let text = || prop_oneof![6 => "[ -~é\n\t]{0,30}", 1 => Just(String::from("NA")), 1 => "[a\"]{500,3000}"];
    let int = prop_oneof![any::<i64>(), -20_000i64..20_000, -200_000_000i64..200_000_000];
    let some = |weight| proptest::option::weighted(weight, any::<bool>());
    (
        proptest::option::weighted(0.8, int),
        proptest::option::weighted(0.8, text()),
        some(0.5),
        proptest::option::weighted(0.9, -90_000i32..90_000),
        proptest::option::weighted(0.9, "[a-z]{0,6}"),
    )
}

fn table(rows: &[Row]) -> Table {
    Table::new()
        .column("int", DataType::Int64, vec![fixed(rows.iter().map(|row| row.0.map(i64::to_le_bytes)))])
        .column("text", DataType::Utf8, vec![texts(rows.iter().map(|row| row.1.as_ref()))])
        .column("bool", DataType::Boolean, vec![bools(rows.iter().map(|row| row.2))])
        .column("small", DataType::Int32, vec![fixed(rows.iter().map(|row| row.3.map(i32::to_le_bytes)))])
        .column("word", DataType::Utf8, vec![texts(rows.iter().map(|row| row.4.as_ref()))])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_is_read_again(
        rows in proptest::collection::vec(row(), 0..200),
        quoting in prop_oneof![Just("minimal"), Just("all"), Just("strings")],
        null in prop_oneof![Just(""), Just("NA"), Just("-1"), Just("a null of more than sixteen bytes")],
        semicolons: bool,
    ) {
        let (delimiter, line_ending) = if semicolons { (";", "crlf") } else { (",", "lf") };
        let options = format!(
            r#"{{"quoting":"{quoting}","null":"{null}","delimiter":"{delimiter}","line_ending":"{line_ending}"}}"#
        );
        let objects = table(&rows).format::<Csv>(&options, &RunFacts::of([("object-stem", "x")])).unwrap();
        let bytes = &objects[0].bytes;
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter.as_bytes()[0]).from_reader(&bytes[..]);
        let read: Vec<Vec<String>> =
            reader.records().map(|record| record.unwrap().iter().map(String::from).collect()).collect();
        let expected: Vec<Vec<String>> = rows
            .iter()
            .map(|(int, text, bool, small, word)| {
                let or_null = |text: Option<String>| text.unwrap_or_else(|| null.into());
                vec![
                    or_null(int.map(|v| v.to_string())),
                    or_null(text.clone()),
                    or_null(bool.map(|v| v.to_string())),
                    or_null(small.map(|v| v.to_string())),
                    or_null(word.clone()),
                ]
            })
            .collect();
        prop_assert_eq!(read, expected);
    }

    /// A null is never quoted, and a value that looks like one is.
    #[test]
    fn nulls_stay_apart(
        values in proptest::collection::vec(proptest::option::of(-3i64..3), 1..150),
        null in prop_oneof![Just("1"), Just("-2"), Just("NULL")],
    ) {
        let table = Table::new()
            .column("a", DataType::Int64, vec![fixed(values.iter().map(|value| value.map(i64::to_le_bytes)))])
            .column("b", DataType::Utf8, vec![texts(values.iter().map(|value| value.map(|v| v.to_string())))]);
        let options = format!(r#"{{"null":"{null}","header":false}}"#);
        let objects = table.format::<Csv>(&options, &RunFacts::of([("object-stem", "x")])).unwrap();
        let shown = |value: Option<i64>| match value.map(|value| value.to_string()) {
            None => null.to_owned(),
            Some(text) if text == null => format!("\"{text}\""),
            Some(text) => text,
        };
        let expected: String = values.iter().map(|value| format!("{0},{0}\n", shown(*value))).collect();
        prop_assert_eq!(String::from_utf8(objects[0].bytes.clone()).unwrap(), expected);
    }
}
