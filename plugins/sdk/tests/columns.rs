//! Rows that are written column by column are those that are written one by one.

#![cfg(test)]

use consign_sdk::json::{self, JsonObjects, JsonOptions};
use consign_sdk::testing::{MemorySink, Table, bools, fixed, texts};
use consign_sdk::text::{Around, Block, Buffer, Plain, Scalar, Special};
use consign_sdk::{Batch, Column, DataType, IntervalUnit, Naming, Output, RowWriter, RunFacts, TimeUnit};
use proptest::prelude::*;

const SPECIAL: Special = Special::new(b'"', b',', true);

/// One column of each type that a block writes, with values from edges to edges.
fn table(seeds: &[(Option<u64>, String)]) -> Table {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let wide = |at: usize| {
        move |(index, (seed, _)): (usize, &(Option<u64>, String))| {
            // Other rows are null in each column, and others are small.
            let bits = seed.filter(|seed| !(seed >> at).is_multiple_of(5))?;
            let mixed = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(at as u32 * 7);
            Some(mixed >> ((index * 11 + at) % 64))
        }
    };
    let mut table = Table::new();
    let types = [
        DataType::Int8,
        DataType::UInt8,
        DataType::Int16,
        DataType::UInt16,
        DataType::Float16,
        DataType::Int32,
        DataType::UInt32,
        DataType::Float32,
        DataType::Date32,
        DataType::Decimal32 { precision: 9, scale: 3 },
        DataType::Time32(Second),
        DataType::Time32(Millisecond),
        DataType::Interval(IntervalUnit::YearMonth),
        DataType::Int64,
        DataType::UInt64,
        DataType::Float64,
        DataType::Date64,
        DataType::Decimal64 { precision: 18, scale: 0 },
        DataType::Decimal64 { precision: 18, scale: 7 },
        DataType::Time64(Microsecond),
        DataType::Time64(Nanosecond),
        DataType::Timestamp { unit: Second, timezone: None },
        DataType::Timestamp { unit: Millisecond, timezone: Some("UTC".into()) },
        DataType::Timestamp { unit: Microsecond, timezone: None },
        DataType::Timestamp { unit: Nanosecond, timezone: Some("UTC".into()) },
        DataType::Duration(Millisecond),
        DataType::Interval(IntervalUnit::DayTime),
        DataType::Decimal128 { precision: 38, scale: 2 },
        DataType::Decimal128 { precision: 38, scale: -2 },
        DataType::Decimal128 { precision: 38, scale: 20 },
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Decimal256 { precision: 76, scale: 5 },
    ];
    for (at, data_type) in types.into_iter().enumerate() {
        let words = seeds.iter().enumerate().map(wide(at));
        let bytes = |word: u64| word.to_le_bytes();
        let node = match data_type {
            DataType::Int8 | DataType::UInt8 => fixed(words.map(|word| word.map(|word| [word as u8]))),
            DataType::Int16 | DataType::UInt16 | DataType::Float16 => {
                fixed(words.map(|word| word.map(|word| (word as u16).to_le_bytes())))
            }
            DataType::Int64
            | DataType::UInt64
            | DataType::Float64
            | DataType::Date64
            | DataType::Decimal64 { .. }
            | DataType::Time64(_)
            | DataType::Timestamp { .. }
            | DataType::Duration(_)
            | DataType::Interval(IntervalUnit::DayTime) => fixed(words.map(|word| word.map(bytes))),
            DataType::Decimal128 { .. } | DataType::Interval(IntervalUnit::MonthDayNano) => {
                // Few have more than 64 bits.
                let wide = |word: u64| i128::from(word as i64) << (if word.is_multiple_of(7) { 40 } else { 0 });
                fixed(words.map(|word| word.map(|word| wide(word).to_le_bytes())))
            }
            DataType::Decimal256 { .. } => fixed(words.map(|word| {
                word.map(|word| {
                    let mut all = [0; 32];
                    all[word as usize % 25..][..8 - word as usize % 8]
                        .copy_from_slice(&bytes(word)[word as usize % 8..]);
                    all
                })
            })),
            _ => fixed(words.map(|word| word.map(|word| (word as u32).to_le_bytes()))),
        };
        table = table.column(&format!("column of {data_type}, the name of which is {at} bytes"), data_type, vec![node]);
    }
    let truths = seeds.iter().map(|(seed, _)| seed.map(|seed| seed.is_multiple_of(3)));
    table = table.column("b", DataType::Boolean, vec![bools(truths)]);
    let words = seeds.iter().map(|(seed, text)| seed.filter(|seed| !seed.is_multiple_of(11)).map(|_| text));
    table.column("text", DataType::Utf8, vec![texts(words)])
}

fn rows() -> impl Strategy<Value = Vec<(Option<u64>, String)>> {
    let text = prop_oneof![4 => "[ -~é]{0,40}", 1 => "[a-z]{0,20}", 1 => "[ab\",\n]{0,600}", 1 => "[a\"]{3000,9000}"];
    proptest::collection::vec((proptest::option::weighted(0.9, any::<u64>()), text), 0..200)
}

/// What `write` writes of a table.
fn written(table: &Table, write: impl FnOnce(&[Column<'_>], &mut RowWriter, &mut Output<'_>)) -> String {
    let sink = MemorySink::default();
    let mut naming = Naming::new(&RunFacts::of([("object-stem", "x")]), "txt", "text/plain").unwrap();
    let mut out = Output::new(&sink, &mut naming);
    let mut rows = RowWriter::new("");
    write(&Batch::new(&table.schema, &table.batch).columns().unwrap(), &mut rows, &mut out);
    rows.finish(&mut out).unwrap();
    let object = sink.objects().pop().unwrap();
    assert_eq!(object.rows, Some(table.batch.rows as u64));
    String::from_utf8(object.bytes).unwrap()
}

/// Appends a column to the rows of a block, with what stands around its values.
fn append(column: &Column<'_>, (before, quote, null): (&[u8], Option<u8>, &[u8]), block: &mut Block) {
    let around = Around::new(before, quote, null);
    match (Scalar::of(column).unwrap(), column.data_type()) {
        (Some(scalar), _) => block.scalars(&scalar, column.validity(), &around),
        (_, DataType::Boolean) => {
            block.bools(
                &column.bools().unwrap(),
                column.validity(),
                &around,
                [b"yes, it is so and not otherwise", b""],
            );
        }
        _ => {
            let plain = Plain { special: SPECIAL, but_of_length: Some(2) };
            block.texts(&column.bytes().unwrap(), column.validity(), &around, &plain, other_text);
        }
    }
}

fn append_one(column: &Column<'_>, row: usize, (before, quote, null): (&[u8], Option<u8>, &[u8]), out: &mut Buffer) {
    if column.is_null(row) {
        return out.extend(null);
    }
    out.extend(before);
    match (Scalar::of(column).unwrap(), column.data_type()) {
        (Some(scalar), _) => scalar.write(row, out),
        (_, DataType::Boolean) if column.bools().unwrap().value(row) => out.extend(b"yes, it is so and not otherwise"),
        (_, DataType::Boolean) => {}
        _ => other_text(column.bytes().unwrap().value(row), out),
    }
    out.extend(quote.as_slice());
}

/// Longer where it is not plain.
fn other_text(text: &[u8], out: &mut Buffer) {
    let is_special = text.len() == 2 || text.iter().any(|byte| matches!(byte, b'"' | b',' | 0..0x20));
    out.extend(text);
    if is_special {
        out.extend(b"<");
        out.extend(text);
        out.extend(b">");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn columns_are_rows(rows in rows(), before in "[a-z]{0,40}", quoted: bool, null in "[A-Z]{0,20}") {
        let table = table(&rows);
        let quote = quoted.then_some(b'\'');
        let nulls = [null.clone(), format!("{before}{null}")];
        let around = |at: usize| (before.as_bytes(), quote, nulls[at % 2].as_bytes());
        let by_columns = written(&table, |columns, writer, out| {
            let block = |block: &mut Block| {
                columns.iter().enumerate().for_each(|(at, column)| append(column, around(at), block));
                block.literal(b";");
                block.cells(|row, out| out.u64(row as u64));
                block.literal(b" and so the line ends.\n");
            };
            writer.write_columns(table.batch.rows, out, block).unwrap();
        });
        let by_rows = written(&table, |columns, writer, out| {
            for row in 0..table.batch.rows {
                let line = writer.row();
                columns.iter().enumerate().for_each(|(at, column)| append_one(column, row, around(at), line));
                line.extend(b";");
                line.u64(row as u64);
                line.extend(b" and so the line ends.\n");
                writer.end_row(out).unwrap();
            }
        });
        prop_assert_eq!(by_columns, by_rows);
    }

    #[test]
    fn json_lines_are_objects(rows in rows(), omit: bool, string: bool) {
        let table = table(&rows);
        let mut options = JsonOptions::default();
        if omit {
            options.nulls = json::Nulls::Omit;
        }
        if string {
            (options.int64, options.decimal) = (json::Int64Text::String, json::DecimalText::Number);
            options.non_finite = json::NonFinite::String;
        }
        let by_columns = written(&table, |columns, writer, out| {
            let objects = JsonObjects::of(columns, &options).unwrap();
            writer.write_columns(table.batch.rows, out, |block| objects.write_lines(block)).unwrap();
        });
        let by_rows = written(&table, |columns, writer, out| {
            let objects = JsonObjects::of(columns, &options).unwrap();
            for row in 0..table.batch.rows {
                objects.write(row, writer.row());
                writer.row().push(b'\n');
                writer.end_row(out).unwrap();
            }
        });
        prop_assert_eq!(by_columns, by_rows);
    }
}
