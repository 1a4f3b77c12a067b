//! Values in Avro's binary encoding.

use consign_sdk::text::Buffer;
use consign_sdk::{Bools, Bytes, Column, DataType, Error, Half, I256, Ranges, Validity, Values};

use crate::convert::convert;
use crate::types::{Kind as Of, Type};

/// One column of a batch, or a member of one, and how its values are written.
pub(crate) struct Encoder<'a> {
    optional: bool,
    validity: Validity<'a>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Null,
    Bool(Bools<'a>),
    I8(Values<'a, i8>),
    I16(Values<'a, i16>),
    I32(Values<'a, i32>),
    I64(Values<'a, i64>),
    U8(Values<'a, u8>),
    U16(Values<'a, u16>),
    U32(Values<'a, u32>),
    Converted(Vec<i64>),
    F16(Values<'a, Half>),
    F32(Values<'a, f32>),
    F64(Values<'a, f64>),
    Decimal32(Values<'a, i32>),
    Decimal64(Values<'a, i64>),
    Decimal128(Values<'a, i128>),
    Decimal256(Values<'a, I256>),
    Bytes(Bytes<'a>),
    Fixed(Bytes<'a>),
    Array(Ranges<'a>, Box<Encoder<'a>>),
    Map(Ranges<'a>, Bytes<'a>, Box<Encoder<'a>>),
    Record(Vec<Encoder<'a>>),
}

impl<'a> Encoder<'a> {
    pub fn of(column: &'a Column<'_>, to: &Type) -> Result<Self, Error> {
        Ok(Encoder { optional: to.optional, validity: column.validity(), kind: Kind::of(column, &to.kind)? })
    }

    /// Appends the value at `row`.
    #[inline]
    pub fn write(&self, row: usize, out: &mut Buffer) {
        if self.optional {
            if !self.validity.is_valid(row) {
                return out.push(0);
            }
            // The second branch of the union, in zigzag.
            out.push(2);
        }
        self.kind.write(row, out);
    }
}

impl<'a> Kind<'a> {
    fn of(column: &'a Column<'_>, to: &Of) -> Result<Self, Error> {
        let children = column.children();
        Ok(match (to, children) {
            (Of::Boolean, _) => Kind::Bool(column.bools()?),
            (Of::Converted(_, conversion), _) => Kind::Converted(convert(column, *conversion)?),
            (Of::Integer(_), _) => match column.data_type() {
                DataType::Int8 => Kind::I8(column.i8s()?),
                DataType::Int16 => Kind::I16(column.i16s()?),
                DataType::UInt8 => Kind::U8(column.u8s()?),
                DataType::UInt16 => Kind::U16(column.u16s()?),
                DataType::UInt32 => Kind::U32(column.u32s()?),
                DataType::Int32 | DataType::Date32 | DataType::Time32(_) => Kind::I32(column.i32s()?),
                _ => Kind::I64(column.i64s()?),
            },
            (Of::Float, _) => match column.data_type() {
                DataType::Float16 => Kind::F16(column.f16s()?),
                _ => Kind::F32(column.f32s()?),
            },
            (Of::Double, _) => Kind::F64(column.f64s()?),
            (Of::Decimal { .. }, _) => match column.data_type() {
                DataType::Decimal32 { .. } => Kind::Decimal32(column.i32s()?),
                DataType::Decimal64 { .. } => Kind::Decimal64(column.i64s()?),
                DataType::Decimal128 { .. } => Kind::Decimal128(column.decimal128s()?),
                _ => Kind::Decimal256(column.decimal256s()?),
            },
            (Of::Bytes | Of::String, _) => Kind::Bytes(column.bytes()?),
            (Of::Fixed { .. }, _) => Kind::Fixed(column.bytes()?),
            (Of::Array(to), [items]) => Kind::Array(column.ranges()?, Box::new(Encoder::of(items, to)?)),
            (Of::Map(to), [entries]) => match entries.children() {
                [keys, values] => Kind::Map(column.ranges()?, keys.bytes()?, Box::new(Encoder::of(values, to)?)),
                _ => Kind::Null,
            },
            (Of::Record { members, .. }, _) => {
                let members = children.iter().zip(members).map(|(child, (_, to))| Encoder::of(child, to));
                Kind::Record(members.collect::<Result<_, _>>()?)
            }
            _ => Kind::Null,
        })
    }

    #[inline]
    fn write(&self, row: usize, out: &mut Buffer) {
        match self {
            Kind::I16(values) => write_long(values.value(row).into(), out),
            Kind::I32(values) => write_long(values.value(row).into(), out),
            Kind::I64(values) => write_long(values.value(row), out),
            Kind::Bytes(values) => write_bytes(values.value(row), out),
            Kind::Converted(values) => write_long(values.get(row).copied().unwrap_or_default(), out),
            other => other.write_other(row, out),
        }
    }

    #[inline(never)]
    fn write_other(&self, row: usize, out: &mut Buffer) {
        match self {
            Kind::Bool(values) => out.push(u8::from(values.value(row))),
            Kind::I8(values) => write_long(values.value(row).into(), out),
            Kind::U8(values) => write_long(values.value(row).into(), out),
            Kind::U16(values) => write_long(values.value(row).into(), out),
            Kind::U32(values) => write_long(values.value(row).into(), out),
            Kind::F16(values) => out.extend(&values.value(row).to_f32().to_le_bytes()),
            Kind::F32(values) => out.extend(&values.value(row).to_le_bytes()),
            Kind::F64(values) => out.extend(&values.value(row).to_le_bytes()),
            Kind::Decimal32(values) => write_decimal(&values.value(row).to_be_bytes(), out),
            Kind::Decimal64(values) => write_decimal(&values.value(row).to_be_bytes(), out),
            Kind::Decimal128(values) => write_decimal(&values.value(row).to_be_bytes(), out),
            Kind::Decimal256(values) => {
                let [a, b, c, d] = values.value(row).0.map(u64::to_be_bytes);
                write_decimal([d, c, b, a].as_flattened(), out);
            }
            Kind::Fixed(values) => out.extend(values.value(row)),
            Kind::Array(ranges, items) => {
                let range = ranges.get(row).unwrap_or_default();
                write_items(range, out, |item, out| items.write(item, out));
            }
            Kind::Map(ranges, keys, values) => {
                let range = ranges.get(row).unwrap_or_default();
                write_items(range, out, |item, out| {
                    write_bytes(keys.value(item), out);
                    values.write(item, out);
                });
            }
            Kind::Record(members) => members.iter().for_each(|member| member.write(row, out)),
            // The others are written in place.
            _ => {}
        }
    }
}

/// All in one block, then the end.
fn write_items(range: std::ops::Range<usize>, out: &mut Buffer, write: impl Fn(usize, &mut Buffer)) {
    if !range.is_empty() {
        write_long(range.len() as i64, out);
        range.for_each(|item| write(item, out));
    }
    write_long(0, out);
}

/// The fewest bytes of two's complement that say the number, the most
/// significant first.
fn write_decimal(bytes: &[u8], out: &mut Buffer) {
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let filler = if negative { 0xff } else { 0 };
    let spare = |pair: &[u8]| matches!(pair, [first, second] if *first == filler && (*second >= 0x80) == negative);
    let dropped = bytes.windows(2).take_while(|pair| spare(pair)).count();
    write_bytes(bytes.get(dropped..).unwrap_or_default(), out);
}

/// Appends a length and that many bytes.
pub(crate) fn write_bytes(bytes: &[u8], out: &mut Buffer) {
    write_long(bytes.len() as i64, out);
    out.extend(bytes);
}

/// Appends an int or a long: in zigzag, seven bits a byte, the least significant
/// first.
#[inline]
pub(crate) fn write_long(value: i64, out: &mut Buffer) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
