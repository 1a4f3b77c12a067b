use std::{iter, slice};

use consign_sdk::json::{JsonOptions, JsonValues};
use consign_sdk::text::{Around, BinaryText, Block, Buffer, Pattern, Plain, Scalar, Special};
use consign_sdk::{Bools, Bytes, Column, DataType, Error, Schema, Validity};

use crate::options::{CsvOptions, Quoting};

/// The rules of one delivery, worked out once.
pub struct Style {
    quote: u8,
    delimiter: u8,
    null: Vec<u8>,
    /// A number, date, time or interval may have the null text, and is quoted then.
    null_may_be_plain: bool,
    quote_texts: bool,
    quote_all: bool,
    escape_formulas: bool,
    /// What lets a text be copied as it is. Control characters are among it for
    /// the line breaks' sake; a second look tells which it was.
    special: Special,
    booleans: [Vec<u8>; 2],
    binary: BinaryText,
    json: JsonOptions,
    date: Option<Pattern>,
    time: Option<Pattern>,
    timestamp: Option<Pattern>,
}

/// One column of a batch and how its values are written.
pub struct Cell<'a> {
    validity: Validity<'a>,
    kind: Kind<'a>,
    around: Around,
    delimiter: &'a [u8],
    /// There is no other column.
    only: bool,
}

enum Kind<'a> {
    Null,
    Plain(Scalar<'a>),
    Patterned(Scalar<'a>, &'a Pattern),
    Bool(Bools<'a>),
    Text(Bytes<'a>),
    Binary(Bytes<'a>),
    Json(JsonValues<'a>),
}

impl Style {
    /// The rules that the options state.
    pub fn new(options: CsvOptions) -> Self {
        let (quote, delimiter) = (options.quote.0, options.delimiter.0);
        let quote_texts = options.quoting != Quoting::Minimal;
        Style {
            quote,
            delimiter,
            null_may_be_plain: options.quoting != Quoting::All && may_be_plain(&options.null),
            null: options.null.into_bytes(),
            quote_texts,
            quote_all: options.quoting == Quoting::All,
            escape_formulas: options.formula_escaping,
            special: if quote_texts { Special::new(quote, quote, false) } else { Special::new(quote, delimiter, true) },
            booleans: options.booleans.map(String::into_bytes),
            binary: options.binary,
            json: JsonOptions { binary: options.binary, ..JsonOptions::default() },
            date: options.date_format.map(|format| format.0),
            time: options.time_format.map(|format| format.0),
            timestamp: options.timestamp_format.map(|format| format.0),
        }
    }

    /// Appends the columns' names.
    pub fn header(&self, schema: &Schema, out: &mut Buffer) {
        let mut name = Buffer::new();
        for (index, field) in schema.fields.iter().enumerate() {
            if index > 0 {
                out.push(self.delimiter);
            }
            name.clear();
            self.text(field.name.as_bytes(), &mut name);
            if schema.fields.len() == 1 {
                self.keep_line(&mut name);
            }
            out.extend(name.as_bytes());
        }
    }

    /// Appends a text, quoted where it must be.
    fn text(&self, text: &[u8], out: &mut Buffer) {
        if self.escape_formulas && is_formula(text) {
            self.quoted(text, true, out);
        } else if self.quote_texts {
            self.quoted(text, false, out);
        } else {
            self.minimal(text, out);
        }
    }

    /// Appends a text, quoted if it could be misread without.
    fn minimal(&self, text: &[u8], out: &mut Buffer) {
        let structural = [self.quote, self.delimiter, b'\n', b'\r'];
        if text == self.null || text.iter().any(|byte| structural.contains(byte)) {
            self.quoted(text, false, out);
        } else {
            out.extend(text);
        }
    }

    fn quoted(&self, text: &[u8], is_formula: bool, out: &mut Buffer) {
        out.push(self.quote);
        if is_formula {
            // The quote itself may be `'`, and is doubled then.
            out.extend(if self.quote == b'\'' { b"''" } else { b"'" });
        }
        self.doubled(text, out);
        out.push(self.quote);
    }

    /// Appends a text with its quotes doubled.
    fn doubled(&self, text: &[u8], out: &mut Buffer) {
        let mut parts = text.split(|byte| *byte == self.quote);
        out.extend(parts.next().unwrap_or_default());
        for part in parts {
            out.extend(&[self.quote, self.quote]);
            out.extend(part);
        }
    }

    /// Quotes a value that has nothing to quote for its own sake if all are, or if
    /// it is the null text.
    fn end_plain(&self, out: &mut Buffer) {
        if self.quote_all || out.as_bytes() == self.null {
            let value = out.as_bytes().to_vec();
            out.clear();
            self.quoted(&value, false, out);
        }
    }

    /// Quotes the only value of a line if it leaves the line blank: many readers
    /// skip such lines. A null stays, for quoted it would be a text.
    fn keep_line(&self, line: &mut Buffer) {
        if is_blank(line.as_bytes()) && line.as_bytes() != self.null {
            let text = line.as_bytes().to_vec();
            line.clear();
            self.quoted(&text, false, line);
        }
    }

    fn pattern(&self, data_type: &DataType) -> Option<&Pattern> {
        match data_type {
            DataType::Date32 | DataType::Date64 => self.date.as_ref(),
            DataType::Time32(_) | DataType::Time64(_) => self.time.as_ref(),
            DataType::Timestamp { .. } => self.timestamp.as_ref(),
            _ => None,
        }
    }
}

impl<'a> Cell<'a> {
    /// The writers of `columns`.
    pub fn all(columns: &'a [Column<'_>], style: &'a Style) -> Result<Vec<Self>, Error> {
        let only = columns.len() == 1;
        let delimiters = iter::once(&[][..]).chain(iter::repeat(slice::from_ref(&style.delimiter)));
        columns.iter().zip(delimiters).map(|(column, delimiter)| Cell::of(column, delimiter, only, style)).collect()
    }

    fn of(column: &'a Column<'_>, delimiter: &'a [u8], only: bool, style: &'a Style) -> Result<Self, Error> {
        let kind = match (Scalar::of(column)?, style.pattern(column.data_type())) {
            (Some(scalar), Some(pattern)) => Kind::Patterned(scalar, pattern),
            (Some(scalar), None) => Kind::Plain(scalar),
            (None, _) => match column.data_type() {
                DataType::Null => Kind::Null,
                DataType::Boolean => Kind::Bool(column.bools()?),
                DataType::Utf8 | DataType::LargeUtf8 => Kind::Text(column.bytes()?),
                DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
                    Kind::Binary(column.bytes()?)
                }
                _ => Kind::Json(JsonValues::of(column, &style.json)?),
            },
        };
        let is_quoted = if matches!(kind, Kind::Text(_)) { style.quote_texts } else { style.quote_all };
        let quote = is_quoted.then_some(style.quote);
        let before: Vec<u8> = delimiter.iter().copied().chain(quote).collect();
        let around = Around::new(&before, quote, &[delimiter, &style.null].concat());
        Ok(Cell { validity: column.validity(), kind, around, delimiter, only })
    }

    /// Appends the column to the rows of `block`. `scratch` is for values that must
    /// be looked at before they are written.
    pub fn write(&self, style: &Style, scratch: &mut Buffer, block: &mut Block) {
        let Cell { validity, kind, around, delimiter, only } = self;
        match kind {
            Kind::Plain(scalar) if !only && !style.null_may_be_plain => block.scalars(scalar, *validity, around),
            Kind::Bool(bools) if !only => {
                block.bools(bools, *validity, around, [&style.booleans[0], &style.booleans[1]])
            }
            Kind::Text(texts) if !only && !style.escape_formulas => {
                let but_of_length = (!style.quote_texts).then_some(style.null.len());
                let plain = Plain { special: style.special, but_of_length };
                block.texts(texts, *validity, around, &plain, |text, out| match style.quote_texts {
                    true => style.doubled(text, out),
                    false => style.minimal(text, out),
                });
            }
            _ => {
                block.literal(delimiter);
                block.cells(|row, out| self.write_one(row, style, scratch, out));
            }
        }
    }

    /// Appends the value at `row`, which is all that `out` has.
    fn write_one(&self, row: usize, style: &Style, scratch: &mut Buffer, out: &mut Buffer) {
        if self.validity.is_valid(row) {
            self.kind.write(row, style, scratch, out);
        } else {
            out.extend(&style.null);
        }
        if self.only {
            style.keep_line(out);
        }
    }
}

impl Kind<'_> {
    fn write(&self, row: usize, style: &Style, scratch: &mut Buffer, out: &mut Buffer) {
        scratch.clear();
        match self {
            Kind::Text(texts) => style.text(texts.value(row), out),
            Kind::Plain(scalar) => {
                scalar.write(row, out);
                style.end_plain(out);
            }
            Kind::Bool(bools) => {
                let [yes, no] = &style.booleans;
                out.extend(if bools.value(row) { yes } else { no });
                style.end_plain(out);
            }
            Kind::Binary(values) => {
                scratch.binary(values.value(row), style.binary);
                // Base64 may begin with a `+`, but it can call nothing.
                style.not_formula(scratch.as_bytes(), style.quote_texts, out);
            }
            Kind::Patterned(scalar, pattern) => {
                scalar.write_as(row, pattern, scratch);
                style.not_formula(scratch.as_bytes(), style.quote_all, out);
            }
            Kind::Json(values) if values.is_null(row) => out.extend(&style.null),
            Kind::Json(values) => {
                values.write(row, scratch);
                style.not_formula(scratch.as_bytes(), style.quote_texts, out);
            }
            Kind::Null => out.extend(&style.null),
        }
    }
}

impl Style {
    fn not_formula(&self, text: &[u8], quote: bool, out: &mut Buffer) {
        if quote { self.quoted(text, false, out) } else { self.minimal(text, out) }
    }
}

/// Whether it may be the text of a number, date, time or interval: all but three
/// have a digit.
fn may_be_plain(null: &str) -> bool {
    null.bytes().any(|byte| byte.is_ascii_digit()) || ["NaN", "Infinity", "-Infinity"].contains(&null)
}

/// Whether a line of this alone may be skipped.
pub fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b' ' | b'\t'))
}

/// Whether a spreadsheet may run the text. The bytes of three are the
/// full-width forms of `=`, `+`, `-` and `@`.
fn is_formula(text: &[u8]) -> bool {
    matches!(
        text,
        [b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r' | b'\n', ..] | [0xef, 0xbc, 0x9d | 0x8b | 0x8d | 0xa0, ..]
    )
}
