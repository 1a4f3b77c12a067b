//! Values as cells.

use consign_sdk::json::{JsonOptions, JsonValues};
use consign_sdk::text::{BinaryText, Buffer, Scalar};
use consign_sdk::{Bools, Bytes, Column, DataType, Error, TimeUnit, Validity};

use crate::options::Beyond;
use crate::styles::Style;
use crate::xml;

/// UTF-16 code units of a cell's text.
pub(crate) const TEXT_UNITS_MAX: usize = 32_767;
/// Digits that Excel keeps of a number.
const DIGITS_MAX: usize = 15;

/// In the place of the row's number where that is not known yet. No XML has this byte.
pub(crate) const LATER: u8 = 0;

const DAY_MILLISECONDS: i64 = 86_400_000;
/// 1970-01-01 in Excel's count of days, which takes 1900 for a leap year: only
/// from 1900-03-01 on do all readers agree.
const EPOCH_SERIAL: i64 = 25_569;
const FIRST_SERIAL: i64 = 61;
/// 9999-12-31.
const LAST_SERIAL: i64 = 2_958_465;

/// How the cells of a column are written.
pub(crate) struct Rule {
    /// The letters of the column.
    pub letters: String,
    pub style: Style,
    pub beyond: Beyond,
    pub binary: BinaryText,
}

/// One column of a batch.
pub(crate) struct Cell<'a> {
    name: &'a str,
    rule: &'a Rule,
    validity: Validity<'a>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Null,
    Bool(Bools<'a>),
    /// Whole numbers, floating point numbers and decimals.
    Number(Scalar<'a>),
    /// Days, whatever their unit is called.
    Date(Scalar<'a>),
    /// Of the day or since 1970.
    Time(Scalar<'a>, TimeUnit),
    /// What has only a text.
    Said(Scalar<'a>),
    Text(Bytes<'a>),
    Binary(Bytes<'a>),
    Json(JsonValues<'a>),
}

impl<'a> Cell<'a> {
    pub fn of(column: &'a Column<'_>, rule: &'a Rule) -> Result<Self, Error> {
        let kind = match (Scalar::of(column)?, column.data_type()) {
            (Some(scalar), DataType::Date32 | DataType::Date64) => Kind::Date(scalar),
            (Some(scalar), DataType::Time32(unit) | DataType::Time64(unit) | DataType::Timestamp { unit, .. }) => {
                Kind::Time(scalar, *unit)
            }
            (Some(scalar), DataType::Duration(_) | DataType::Interval(_)) => Kind::Said(scalar),
            (Some(scalar), _) => Kind::Number(scalar),
            (None, DataType::Boolean) => Kind::Bool(column.bools()?),
            (None, DataType::Utf8 | DataType::LargeUtf8) => Kind::Text(column.bytes()?),
            (None, DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_)) => {
                Kind::Binary(column.bytes()?)
            }
            (None, DataType::Null) => Kind::Null,
            (None, _) => {
                let options = JsonOptions { binary: rule.binary, ..JsonOptions::default() };
                Kind::Json(JsonValues::of(column, &options)?)
            }
        };
        Ok(Cell { name: column.name(), rule, validity: column.validity(), kind })
    }

    /// Appends the cell at `row` of the batch, which is `number` in its sheet, or
    /// [`LATER`] known; nothing for null. `scratch` is for its text.
    pub fn write(&self, row: usize, number: Option<u32>, scratch: &mut Buffer, out: &mut Buffer) -> Result<(), Error> {
        if !self.validity.is_valid(row) {
            return Ok(());
        }
        scratch.clear();
        match &self.kind {
            Kind::Number(scalar) => {
                scalar.write(row, scratch);
                let exact = match scalar {
                    Scalar::F16(_) | Scalar::F32(_) | Scalar::F64(_) => scalar.is_finite(row),
                    Scalar::I8(_) | Scalar::I16(_) | Scalar::I32(_) | Scalar::U8(_) | Scalar::U16(_) => true,
                    _ => significant_digits(scratch.as_bytes()) <= DIGITS_MAX,
                };
                if exact {
                    self.number(number, scratch.as_bytes(), out);
                    return Ok(());
                }
            }
            Kind::Date(scalar) => match days(scalar, row).and_then(serial) {
                Some(serial) => {
                    scratch.i64(serial);
                    self.number(number, scratch.as_bytes(), out);
                    return Ok(());
                }
                None => scalar.write(row, scratch),
            },
            Kind::Time(scalar, unit) => match moment(scalar, *unit, row) {
                Some(moment) => {
                    scratch.f64(moment);
                    self.number(number, scratch.as_bytes(), out);
                    return Ok(());
                }
                None => scalar.write(row, scratch),
            },
            other => return self.write_text(other, row, number, scratch, out),
        }
        match self.rule.beyond {
            Beyond::Text => self.text(number, scratch.as_bytes(), out),
            Beyond::Error => Err(Error::Unsupported(format!(
                "column `{}` has {}, which a cell of Excel cannot hold exactly: set options.beyond to \"text\", or \
                 round it in the query",
                self.name,
                String::from_utf8_lossy(scratch.as_bytes())
            ))),
        }
    }

    /// About how many characters the value at `row` shows.
    pub fn shown(&self, row: usize, scratch: &mut Buffer) -> usize {
        if !self.validity.is_valid(row) {
            return 0;
        }
        scratch.clear();
        match &self.kind {
            Kind::Text(texts) => {
                let text = String::from_utf8_lossy(texts.value(row));
                return text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            }
            Kind::Number(scalar) | Kind::Date(scalar) | Kind::Time(scalar, _) | Kind::Said(scalar) => {
                scalar.write(row, scratch);
            }
            Kind::Binary(values) => scratch.binary(values.value(row), self.rule.binary),
            Kind::Json(values) => values.write(row, scratch),
            Kind::Bool(_) | Kind::Null => return 5,
        }
        scratch.len()
    }

    fn write_text(
        &self,
        kind: &Kind<'_>,
        row: usize,
        number: Option<u32>,
        scratch: &mut Buffer,
        out: &mut Buffer,
    ) -> Result<(), Error> {
        match kind {
            Kind::Text(texts) => return self.text(number, texts.value(row), out),
            Kind::Bool(values) => {
                self.begin(number, out);
                out.extend(if values.value(row) { b" t=\"b\"><v>1</v></c>" } else { b" t=\"b\"><v>0</v></c>" });
                return Ok(());
            }
            Kind::Said(scalar) => scalar.write(row, scratch),
            Kind::Binary(values) => scratch.binary(values.value(row), self.rule.binary),
            // A union's null is its member's.
            Kind::Json(values) if values.is_null(row) => return Ok(()),
            Kind::Json(values) => values.write(row, scratch),
            _ => return Ok(()),
        }
        self.text(number, scratch.as_bytes(), out)
    }

    fn begin(&self, number: Option<u32>, out: &mut Buffer) {
        out.extend(b"<c r=\"");
        out.extend(self.rule.letters.as_bytes());
        match number {
            Some(number) => out.u64(number.into()),
            None => out.push(LATER),
        }
        out.push(b'"');
        if self.rule.style.0 > 0 {
            out.extend(b" s=\"");
            out.u64(self.rule.style.0 as u64);
            out.push(b'"');
        }
    }

    fn number(&self, number: Option<u32>, digits: &[u8], out: &mut Buffer) {
        self.begin(number, out);
        out.extend(b"><v>");
        out.extend(digits);
        out.extend(b"</v></c>");
    }

    fn text(&self, number: Option<u32>, text: &[u8], out: &mut Buffer) -> Result<(), Error> {
        // No text has more units than bytes.
        if text.len() > TEXT_UNITS_MAX {
            let units = String::from_utf8_lossy(text).encode_utf16().count();
            if units > TEXT_UNITS_MAX {
                return Err(Error::Unsupported(format!(
                    "column `{}` has a text of {units} characters, and a cell of Excel holds {TEXT_UNITS_MAX}: shorten \
                     it in the query (`left(…, {TEXT_UNITS_MAX})`)",
                    self.name
                )));
            }
        }
        self.begin(number, out);
        push_inline(text, out);
        Ok(())
    }
}

/// The rest of a cell that holds a text.
pub(crate) fn push_inline(text: &[u8], out: &mut Buffer) {
    out.extend(b" t=\"inlineStr\"><is><t");
    if xml::needs_space(text) {
        out.extend(b" xml:space=\"preserve\"");
    }
    out.push(b'>');
    xml::push_text(text, out);
    out.extend(b"</t></is></c>");
}

/// Digits of a number without those zeros that are not needed.
fn significant_digits(number: &[u8]) -> usize {
    let is_digit = |byte: &&u8| byte.is_ascii_digit();
    let digits: Vec<&u8> = number.iter().filter(is_digit).skip_while(|digit| **digit == b'0').collect();
    let zeros = match number.contains(&b'.') {
        true => digits.iter().rev().take_while(|digit| ***digit == b'0').count(),
        false => 0,
    };
    digits.len() - zeros
}

fn days(scalar: &Scalar<'_>, row: usize) -> Option<i64> {
    match scalar {
        Scalar::Date32(values) => Some(values.value(row).into()),
        Scalar::Date64(values) => Some(values.value(row).div_euclid(DAY_MILLISECONDS)),
        _ => None,
    }
}

/// Excel's number of a day, if all readers agree on it.
fn serial(days: i64) -> Option<i64> {
    Some(days + EPOCH_SERIAL).filter(|serial| (FIRST_SERIAL..=LAST_SERIAL).contains(serial))
}

/// A time of day or a timestamp in days, if it is a whole number of milliseconds
/// and one that Excel can show.
fn moment(scalar: &Scalar<'_>, unit: TimeUnit, row: usize) -> Option<f64> {
    let (value, of_day) = match scalar {
        Scalar::Time32(values, _) => (values.value(row).into(), true),
        Scalar::Time64(values, _) => (values.value(row), true),
        Scalar::Timestamp(values, ..) => (values.value(row), false),
        _ => return None,
    };
    let milliseconds = match unit {
        TimeUnit::Second => value.checked_mul(1000)?,
        _ => {
            let part = unit.per_second() / 1000;
            if value % part == 0 { value / part } else { return None }
        }
    };
    let days = milliseconds.div_euclid(DAY_MILLISECONDS);
    let whole = if of_day { Some(days).filter(|days| *days == 0) } else { serial(days) }?;
    // Exact to far less than a millisecond.
    Some((whole * DAY_MILLISECONDS + milliseconds.rem_euclid(DAY_MILLISECONDS)) as f64 / DAY_MILLISECONDS as f64)
}
