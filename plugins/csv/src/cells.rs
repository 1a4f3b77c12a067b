use consign_sdk::json::{JsonOptions, JsonValues};
use consign_sdk::text::{BinaryText, Buffer, Pattern, Scalar, Special};
use consign_sdk::{Bools, Bytes, Column, DataType, Error, Validity};

use crate::options::{CsvOptions, Quoting};

/// The rules of one delivery, worked out once.
pub struct Style {
    quote: u8,
    delimiter: u8,
    null: Vec<u8>,
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

    /// Appends a text, quoted where it must be.
    pub fn text(&self, text: &[u8], out: &mut Buffer) {
        self.text_at(text, 0..text.len(), out);
    }

    #[inline(always)]
    fn text_at(&self, values: &[u8], range: std::ops::Range<usize>, out: &mut Buffer) {
        let text = || values.get(range.clone()).unwrap_or_default();
        if self.escape_formulas && is_formula(text()) {
            return self.quoted(text(), true, out);
        }
        if self.quote_texts {
            out.push(self.quote);
            if out.extend_plain(values, range.clone(), &self.special) {
                return out.push(self.quote);
            }
            out.truncate(out.len() - 1);
            return self.quoted(text(), false, out);
        }
        let is_null_text = range.len() == self.null.len() && text() == self.null;
        if is_null_text || !out.extend_plain(values, range.clone(), &self.special) {
            self.special_text(text(), is_null_text, out);
        }
    }

    /// A text that is the null text or has a byte of `special`.
    #[inline(never)]
    fn special_text(&self, text: &[u8], is_null_text: bool, out: &mut Buffer) {
        let structural = [self.quote, self.delimiter, b'\n', b'\r'];
        if is_null_text || text.iter().any(|byte| structural.contains(byte)) {
            self.quoted(text, false, out);
        } else {
            out.extend(text);
        }
    }

    #[inline(never)]
    fn quoted(&self, text: &[u8], is_formula: bool, out: &mut Buffer) {
        out.push(self.quote);
        if is_formula {
            // The quote itself may be `'`, and is doubled then.
            out.extend(if self.quote == b'\'' { b"''" } else { b"'" });
        }
        let mut parts = text.split(|byte| *byte == self.quote);
        out.extend(parts.next().unwrap_or_default());
        for part in parts {
            out.extend(&[self.quote, self.quote]);
            out.extend(part);
        }
        out.push(self.quote);
    }

    /// Ends a value, from `start` on, that has nothing to quote for its own sake.
    #[inline(always)]
    fn end_plain(&self, start: usize, out: &mut Buffer) {
        if self.quote_all || out.len() - start == self.null.len() {
            self.quote_plain(start, out);
        }
    }

    /// Quotes the value if all are, or if it is the null text.
    #[inline(never)]
    fn quote_plain(&self, start: usize, out: &mut Buffer) {
        let value = out.as_bytes().get(start..).unwrap_or_default();
        if self.quote_all || value == self.null {
            let value = value.to_vec();
            out.truncate(start);
            self.quoted(&value, false, out);
        }
    }

    /// Quotes the only value of a line, from `start` on, if it leaves the line
    /// blank: many readers skip such lines. A null stays, for quoted it would be
    /// a text.
    pub fn keep_line(&self, start: usize, out: &mut Buffer) {
        let text = out.as_bytes().get(start..).unwrap_or_default();
        if is_blank(text) && text != self.null {
            let text = text.to_vec();
            out.truncate(start);
            self.quoted(&text, false, out);
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
    /// The writer of `column`.
    pub fn of(column: &'a Column<'_>, style: &'a Style) -> Result<Self, Error> {
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
        Ok(Cell { validity: column.validity(), kind })
    }

    /// Appends the value at `row`. `scratch` is for values that must be looked
    /// at before they are written.
    #[inline(always)]
    pub fn write(&self, row: usize, style: &Style, scratch: &mut Buffer, out: &mut Buffer) {
        if !self.validity.is_valid(row) {
            return out.extend(&style.null);
        }
        let start = out.len();
        match &self.kind {
            Kind::Text(texts) => {
                let (values, range) = texts.place(row);
                style.text_at(values, range, out);
            }
            Kind::Plain(scalar) => {
                scalar.write(row, out);
                style.end_plain(start, out);
            }
            Kind::Bool(bools) => {
                let [yes, no] = &style.booleans;
                out.extend(if bools.value(row) { yes } else { no });
                style.end_plain(start, out);
            }
            other => other.write_rare(row, style, scratch, out),
        }
    }
}

impl Kind<'_> {
    #[inline(never)]
    fn write_rare(&self, row: usize, style: &Style, scratch: &mut Buffer, out: &mut Buffer) {
        scratch.clear();
        match self {
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
            _ => out.extend(&style.null),
        }
    }
}

impl Style {
    fn not_formula(&self, text: &[u8], quote: bool, out: &mut Buffer) {
        if quote { self.quoted(text, false, out) } else { self.special_text(text, text == self.null, out) }
    }
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
