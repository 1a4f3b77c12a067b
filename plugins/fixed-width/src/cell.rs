//! The values of a column as they stand in their place.

use consign_sdk::text::{BinaryText, Buffer, Pattern, Scalar};
use consign_sdk::{Bools, Bytes, Column, DataType, Error, Validity};

use crate::options::Sign;
use crate::place::{Fit, Misfit};

/// How the values of a column are written.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub pattern: Option<Pattern>,
    pub point: bool,
    pub sign: Sign,
    /// What stands for null, as wide as the place.
    pub null: Vec<u8>,
    pub booleans: [String; 2],
    pub binary: BinaryText,
}

/// One column of a batch in its place.
pub(crate) struct Cell<'a> {
    validity: Validity<'a>,
    kind: Kind<'a>,
    rule: &'a Rule,
    fit: &'a Fit,
}

enum Kind<'a> {
    Null,
    Text(Bytes<'a>),
    Scalar(Scalar<'a>),
    /// Numbers that have a sign, or decimals without their point.
    Number(Scalar<'a>),
    Patterned(Scalar<'a>, &'a Pattern),
    Bool(Bools<'a>),
    Binary(Bytes<'a>),
}

/// Whether the type's values are numbers, which stand at the right.
pub(crate) fn is_number(data_type: &DataType) -> bool {
    is_decimal(data_type)
        || matches!(
            data_type,
            DataType::Int8
                | DataType::Int16
                | DataType::Int32
                | DataType::Int64
                | DataType::UInt8
                | DataType::UInt16
                | DataType::UInt32
                | DataType::UInt64
                | DataType::Float16
                | DataType::Float32
                | DataType::Float64
        )
}

pub(crate) fn is_decimal(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Decimal32 { .. }
            | DataType::Decimal64 { .. }
            | DataType::Decimal128 { .. }
            | DataType::Decimal256 { .. }
    )
}

/// Whether a value may be cut and still be what it was, only less of it.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8)
}

impl<'a> Cell<'a> {
    pub fn of(column: &'a Column<'_>, rule: &'a Rule, fit: &'a Fit) -> Result<Self, Error> {
        let kind = match (Scalar::of(column)?, &rule.pattern) {
            (Some(scalar), Some(pattern)) => Kind::Patterned(scalar, pattern),
            (Some(scalar), None) if rule.sign == Sign::Both || !rule.point => Kind::Number(scalar),
            (Some(scalar), None) => Kind::Scalar(scalar),
            (None, _) => match column.data_type() {
                DataType::Boolean => Kind::Bool(column.bools()?),
                DataType::Utf8 | DataType::LargeUtf8 => Kind::Text(column.bytes()?),
                DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
                    Kind::Binary(column.bytes()?)
                }
                _ => Kind::Null,
            },
        };
        Ok(Cell { validity: column.validity(), kind, rule, fit })
    }

    /// Appends the value at `row` in its place. `scratch` is for its text.
    #[inline]
    pub fn write(&self, row: usize, scratch: &mut Buffer, out: &mut Buffer) -> Result<(), Misfit> {
        if !self.validity.is_valid(row) {
            out.extend(&self.rule.null);
            return Ok(());
        }
        scratch.clear();
        match &self.kind {
            Kind::Text(texts) => self.fit.text(texts.value(row), out),
            Kind::Scalar(scalar) => {
                scalar.write(row, scratch);
                self.fit.plain(scratch.as_bytes(), out)
            }
            other => {
                self.write_rare(other, row, scratch);
                self.fit.text(scratch.as_bytes(), out)
            }
        }
    }

    #[inline(never)]
    fn write_rare(&self, kind: &Kind<'_>, row: usize, scratch: &mut Buffer) {
        match kind {
            Kind::Number(scalar) => {
                scalar.write(row, scratch);
                self.reform(scratch);
            }
            Kind::Patterned(scalar, pattern) => scalar.write_as(row, pattern, scratch),
            Kind::Bool(values) => {
                let [yes, no] = &self.rule.booleans;
                scratch.extend(if values.value(row) { yes } else { no }.as_bytes());
            }
            Kind::Binary(values) => scratch.binary(values.value(row), self.rule.binary),
            Kind::Null | Kind::Text(_) | Kind::Scalar(_) => {}
        }
    }

    /// A number with a sign, or without its point.
    fn reform(&self, number: &mut Buffer) {
        let text = number.as_bytes().to_vec();
        number.clear();
        if self.rule.sign == Sign::Both && text.first() != Some(&b'-') {
            number.push(b'+');
        }
        let kept = text.into_iter().filter(|byte| self.rule.point || *byte != b'.');
        kept.for_each(|byte| number.push(byte));
    }
}
