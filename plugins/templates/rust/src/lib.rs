//! A format: the text format of PostgreSQL's COPY. One row is a line, its values
//! separated by a tab or by the option `delimiter`; null is `\N`; in texts a
//! backslash stands before a backslash, a delimiter or a line break.
//!
//! Make it yours: the constants say what the format is, `CopyOptions` what its
//! options are, `Cell::of` which columns it can write, `write` how.
//! vendor/consign-sdk/README.md has the rest.

use consign_sdk::text::{Around, BinaryText, Buffer, Plain, Scalar, Special};
use consign_sdk::{
    Batch, Bools, Bytes, Column, DataType, Error, Field, Formatter, Output, RowWriter, RunFacts, Schema,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The options of a share with this plugin.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CopyOptions {
    /// Between two values: a tab, or one ASCII character that no number or date
    /// has, such as `|` or `;`.
    delimiter: char,
}

impl Default for CopyOptions {
    fn default() -> Self {
        CopyOptions { delimiter: '\t' }
    }
}

/// One delivery.
pub struct Copy {
    delimiter: u8,
    /// What lets a text be copied as it is. Control characters are among it for
    /// the line breaks' sake.
    special: Special,
    rows: RowWriter,
}

impl Formatter for Copy {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const EXTENSION: &'static str = "txt";
    const MEDIA_TYPE: &'static str = "text/plain; charset=utf-8";

    type Options = CopyOptions;

    fn open(options: CopyOptions, schema: &Schema, _: &RunFacts) -> Result<Self, Error> {
        let delimiter = delimiter(options.delimiter)?;
        if schema.fields.is_empty() {
            return Err(Error::Unsupported("the dataset has no columns: select at least one in the query".into()));
        }
        let refused: Vec<String> = schema.fields.iter().filter(|field| is_nested(field)).map(refusal).collect();
        if !refused.is_empty() {
            return Err(Error::Unsupported(refused.join("; ")));
        }
        Ok(Copy { delimiter, special: Special::new(b'\\', delimiter, true), rows: RowWriter::new("") })
    }

    fn write(&mut self, batch: &Batch<'_>, out: &mut Output<'_>) -> Result<(), Error> {
        let Copy { delimiter, special, rows } = self;
        let columns = batch.columns()?;
        let cells = columns.iter().map(Cell::of).collect::<Result<Vec<_>, _>>()?;
        let befores: [&[u8]; 2] = [b"", &[*delimiter]];
        let arounds = befores.map(|before| Around::new(before, None, &[before, b"\\N"].concat()));
        rows.write_columns(batch.rows(), out, |block| {
            for (index, (cell, column)) in cells.iter().zip(&columns).enumerate() {
                let nth = usize::from(index > 0);
                match cell {
                    Cell::Text(texts) => {
                        let plain = Plain { special: *special, but_of_length: None };
                        let other = |text: &[u8], line: &mut Buffer| escaped(text, *delimiter, line);
                        block.texts(texts, column.validity(), &arounds[nth], &plain, other);
                    }
                    Cell::Scalar(scalar) => block.scalars(scalar, column.validity(), &arounds[nth]),
                    Cell::Bool(bools) => block.bools(bools, column.validity(), &arounds[nth], [b"t", b"f"]),
                    Cell::Binary(values) => {
                        block.literal(befores[nth]);
                        block.cells(|row, line| match values.get(row) {
                            Some(bytes) => hexadecimal(bytes, line),
                            None => line.extend(b"\\N"),
                        });
                    }
                    Cell::Null => block.literal(&[befores[nth], b"\\N"].concat()),
                }
            }
            block.literal(b"\n");
        })
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        self.rows.finish(out)
    }
}

consign_sdk::export!(Copy);

fn delimiter(delimiter: char) -> Result<u8, Error> {
    let why = match delimiter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '\\' | '+' | '-' | '.' | ':' => {
            "numbers, dates and words have this character in them"
        }
        '\t' | ' '..='~' => return Ok(delimiter as u8),
        _ => "is not one ASCII character",
    };
    let message = format!("{why}: write one ASCII character such as `|` `;` or a tab (\"\\t\")");
    Err(Error::invalid_option("/delimiter", message))
}

fn is_nested(field: &Field) -> bool {
    !field.children().is_empty()
}

fn refusal(field: &Field) -> String {
    format!(
        "column `{}` is a {}, which has no place in a line: convert it to numbers or text in the query, or leave it out",
        field.name, field.data_type
    )
}

/// One column of a batch and how its values are written.
enum Cell<'a> {
    Null,
    Text(Bytes<'a>),
    Scalar(Scalar<'a>),
    Bool(Bools<'a>),
    Binary(Bytes<'a>),
}

impl<'a> Cell<'a> {
    fn of(column: &'a Column<'_>) -> Result<Self, Error> {
        Ok(match column.data_type() {
            DataType::Null => Cell::Null,
            DataType::Boolean => Cell::Bool(column.bools()?),
            DataType::Utf8 | DataType::LargeUtf8 => Cell::Text(column.bytes()?),
            DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => Cell::Binary(column.bytes()?),
            // Numbers, dates, times and intervals.
            _ => Cell::Scalar(Scalar::of(column)?.ok_or_else(|| Error::Unsupported(refusal(column.field())))?),
        })
    }
}

/// As PostgreSQL reads `bytea`, with the backslash doubled.
fn hexadecimal(bytes: &[u8], line: &mut Buffer) {
    line.extend(b"\\\\x");
    line.binary(bytes, BinaryText::Hex);
}

/// Appends a text that may have special bytes.
fn escaped(text: &[u8], delimiter: u8, line: &mut Buffer) {
    for byte in text {
        match byte {
            b'\n' => line.extend(b"\\n"),
            b'\r' => line.extend(b"\\r"),
            byte if *byte == b'\\' || *byte == delimiter => line.extend(&[b'\\', *byte]),
            byte => line.push(*byte),
        }
    }
}
