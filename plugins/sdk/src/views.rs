//! Typed views of a column's buffers. None of them can panic or read outside
//! its buffer: a row past the end reads as null or as zero.

use std::marker::PhantomData;
use std::ops::Range;

use crate::schema::{DataType, IntervalUnit};
use crate::{Column, Error, Validity};

/// A value of fixed width, as it lies in a buffer.
pub trait Native: Copy + Default + 'static {
    /// `[u8; N]`.
    type Bytes: Copy + 'static;
    /// The whole values in `bytes`.
    fn split(bytes: &[u8]) -> &[Self::Bytes];
    /// The value of its little-endian bytes.
    fn from_bytes(bytes: Self::Bytes) -> Self;
}

macro_rules! native {
    ($($type:ty, $width:literal, $bytes:ident => $make:expr;)*) => {$(
        impl Native for $type {
            type Bytes = [u8; $width];
            #[inline(always)]
            fn split(bytes: &[u8]) -> &[[u8; $width]] {
                bytes.as_chunks().0
            }
            #[inline(always)]
            fn from_bytes($bytes: [u8; $width]) -> Self {
                $make
            }
        }
    )*};
}

native! {
    i8, 1, b => i8::from_le_bytes(b);
    i16, 2, b => i16::from_le_bytes(b);
    i32, 4, b => i32::from_le_bytes(b);
    i64, 8, b => i64::from_le_bytes(b);
    i128, 16, b => i128::from_le_bytes(b);
    u8, 1, b => b[0];
    u16, 2, b => u16::from_le_bytes(b);
    u32, 4, b => u32::from_le_bytes(b);
    u64, 8, b => u64::from_le_bytes(b);
    f32, 4, b => f32::from_le_bytes(b);
    f64, 8, b => f64::from_le_bytes(b);
    Half, 2, b => Half(u16::from_le_bytes(b));
    I256, 32, b => I256::from_le_bytes(b);
    DayTime, 8, b => DayTime {
        days: i32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        milliseconds: i32::from_le_bytes([b[4], b[5], b[6], b[7]]),
    };
    MonthDayNano, 16, b => MonthDayNano {
        months: i32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        days: i32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        nanoseconds: i64::from_le_bytes([b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]),
    };
}

/// An IEEE 754 binary16 value, as its bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Half(pub u16);

/// A 256-bit two's complement integer, least significant word first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct I256(pub [u64; 4]);

/// A day-time interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it all")]
pub struct DayTime {
    pub days: i32,
    pub milliseconds: i32,
}

/// A month-day-nano interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it all")]
pub struct MonthDayNano {
    pub months: i32,
    pub days: i32,
    pub nanoseconds: i64,
}

impl Half {
    /// The same value; every half is exact in single precision.
    pub fn to_f32(self) -> f32 {
        let sign = u32::from(self.0 & 0x8000) << 16;
        let exponent = u32::from(self.0 >> 10) & 0x1f;
        let fraction = u32::from(self.0 & 0x3ff);
        match exponent {
            // Zero and subnormals: a multiple of 2^-24, exact in single precision.
            0 => f32::from_bits((fraction as f32 / 16_777_216.0).to_bits() | sign),
            31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
            _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
        }
    }
}

impl I256 {
    /// The value of its 32 little-endian bytes.
    pub fn from_le_bytes(bytes: [u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        I256(words)
    }

    /// The same value, wider.
    pub fn from_i128(value: i128) -> Self {
        let high = (value >> 127) as u64;
        I256([value as u64, (value >> 64) as u64, high, high])
    }
}

/// Values of fixed width.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a, T: Native> {
    items: &'a [T::Bytes],
    validity: Validity<'a>,
    kind: PhantomData<T>,
}

impl<'a, T: Native> Values<'a, T> {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The value at `row`, none when it is null.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<T> {
        if self.validity.is_valid(row) { self.items.get(row).map(|b| T::from_bytes(*b)) } else { None }
    }

    /// What lies at `row`, whatever it is when the value is null.
    #[inline(always)]
    pub fn value(&self, row: usize) -> T {
        self.items.get(row).map_or_else(T::default, |b| T::from_bytes(*b))
    }

    /// What lies at each row, whatever it is when the value is null.
    #[inline(always)]
    pub(crate) fn present(&self) -> impl Iterator<Item = T> + 'a {
        self.items.iter().map(|bytes| T::from_bytes(*bytes))
    }

    /// The `rows` values from `first` on, but for the nulls among them.
    #[inline(always)]
    pub(crate) fn slice(&self, first: usize, rows: usize) -> Self {
        let items = self.items.get(first..).unwrap_or_default();
        Values { items: items.get(..rows).unwrap_or(items), ..*self }
    }

    /// Every value, in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<T>> + 'a {
        let values = *self;
        (0..values.len()).map(move |row| values.get(row))
    }
}

/// Booleans.
#[derive(Debug, Clone, Copy)]
pub struct Bools<'a> {
    bits: &'a [u8],
    rows: usize,
    validity: Validity<'a>,
}

impl<'a> Bools<'a> {
    /// The value at `row`, none when it is null.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<bool> {
        self.validity.is_valid(row).then(|| self.value(row))
    }

    /// What lies at `row`, whatever it is when the value is null.
    #[inline(always)]
    pub fn value(&self, row: usize) -> bool {
        self.bits.get(row >> 3).is_some_and(|byte| (byte >> (row & 7)) & 1 == 1)
    }

    /// Every value, in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<bool>> + 'a {
        let bools = *self;
        (0..bools.rows).map(move |row| bools.get(row))
    }
}

/// Where each row's items lie in one shared buffer.
#[derive(Debug, Clone, Copy)]
enum Offsets<'a> {
    Small(&'a [[u8; 4]]),
    Large(&'a [[u8; 8]]),
    Every(usize),
}

impl Offsets<'_> {
    /// The range of `row`; empty past the end.
    #[inline(always)]
    fn range(&self, row: usize) -> Range<usize> {
        match self {
            Offsets::Small(offsets) => match offsets.get(row..).unwrap_or_default() {
                [start, end, ..] => u32::from_le_bytes(*start) as usize..u32::from_le_bytes(*end) as usize,
                _ => 0..0,
            },
            Offsets::Large(offsets) => match offsets.get(row..).unwrap_or_default() {
                [start, end, ..] => u64::from_le_bytes(*start) as usize..u64::from_le_bytes(*end) as usize,
                _ => 0..0,
            },
            Offsets::Every(size) => row * size..(row + 1) * size,
        }
    }
}

/// The offsets of `rows` rows.
fn part<T>(offsets: &[T], first: usize, rows: usize) -> &[T] {
    offsets.get(first..=first + rows).unwrap_or_default()
}

/// Byte strings, of text or binary columns.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    values: &'a [u8],
    offsets: Offsets<'a>,
    rows: usize,
    validity: Validity<'a>,
}

impl<'a> Bytes<'a> {
    /// The value at `row`, none when it is null.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<&'a [u8]> {
        if self.validity.is_valid(row) { Some(self.value(row)) } else { None }
    }

    /// What lies at `row`, whatever it is when the value is null.
    #[inline(always)]
    pub fn value(&self, row: usize) -> &'a [u8] {
        self.values.get(self.offsets.range(row)).unwrap_or_default()
    }

    /// Every value, in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&'a [u8]>> + 'a {
        let bytes = *self;
        (0..bytes.rows).map(move |row| bytes.get(row))
    }

    /// The `rows` values from `first` on, but for the nulls among them.
    pub(crate) fn slice(&self, first: usize, rows: usize) -> Self {
        let (values, offsets) = match self.offsets {
            Offsets::Small(offsets) => (self.values, Offsets::Small(part(offsets, first, rows))),
            Offsets::Large(offsets) => (self.values, Offsets::Large(part(offsets, first, rows))),
            Offsets::Every(size) => (self.values.get(first * size..).unwrap_or_default(), Offsets::Every(size)),
        };
        Bytes { values, offsets, rows, ..*self }
    }

    /// Number of values.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The buffer that all values lie in.
    pub(crate) fn values(&self) -> &'a [u8] {
        self.values
    }

    /// Where in it each value begins, and the last ends.
    pub(crate) fn small_offsets(&self) -> Option<&'a [[u8; 4]]> {
        match self.offsets {
            Offsets::Small(offsets) => Some(offsets),
            _ => None,
        }
    }

    /// The bytes from the first value to the last.
    pub(crate) fn whole(&self) -> &'a [u8] {
        let last = self.offsets.range(self.rows.saturating_sub(1));
        self.values.get(self.offsets.range(0).start..last.end).unwrap_or_default()
    }

    /// The buffer that all values lie in, and where `row`'s does.
    #[inline(always)]
    pub fn place(&self, row: usize) -> (&'a [u8], Range<usize>) {
        (self.values, self.offsets.range(row))
    }
}

/// Texts.
#[derive(Debug, Clone, Copy)]
pub struct Strs<'a> {
    text: &'a str,
    bytes: Bytes<'a>,
}

impl<'a> Strs<'a> {
    /// The value at `row`, none when it is null.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<&'a str> {
        if self.bytes.validity.is_valid(row) { Some(self.value(row)) } else { None }
    }

    /// What lies at `row`, whatever it is when the value is null.
    #[inline(always)]
    pub fn value(&self, row: usize) -> &'a str {
        self.text.get(self.bytes.offsets.range(row)).unwrap_or_default()
    }

    /// Every value, in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&'a str>> + 'a {
        let strs = *self;
        (0..strs.bytes.rows).map(move |row| strs.get(row))
    }
}

/// Where each row of a list or map lies in its one child.
#[derive(Debug, Clone, Copy)]
pub struct Ranges<'a> {
    offsets: Offsets<'a>,
    validity: Validity<'a>,
}

impl Ranges<'_> {
    /// The child's rows that belong to `row`, none when it is null.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<Range<usize>> {
        if self.validity.is_valid(row) { Some(self.offsets.range(row)) } else { None }
    }
}

/// Which member of a union each row is.
#[derive(Debug, Clone, Copy)]
pub struct Members<'a> {
    ids: &'a [u8],
    positions: Option<&'a [[u8; 4]]>,
    known: &'a [i8],
}

impl Members<'_> {
    /// The number of the child and the row in it; none when the host sent a
    /// type id that the schema does not have.
    #[inline]
    pub fn get(&self, row: usize) -> Option<(usize, usize)> {
        let id = *self.ids.get(row)? as i8;
        let child = self.known.iter().position(|known| *known == id)?;
        match self.positions {
            None => Some((child, row)),
            Some(positions) => Some((child, u32::from_le_bytes(*positions.get(row)?) as usize)),
        }
    }
}

macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident: $type:ty => { $($pattern:pat_param)|+ };)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> Result<Values<'_, $type>, Error> {
            match &self.field.data_type {
                $($pattern)|+ => Ok(self.fixed()),
                _ => Err(self.not_a(stringify!($name))),
            }
        }
    )*};
}

/// The typed views. Each fails, naming the column, when its type is another.
impl Column<'_> {
    accessors! {
        /// The values of an int8 column.
        i8s: i8 => { DataType::Int8 };
        /// The values of an int16 column.
        i16s: i16 => { DataType::Int16 };
        /// The values of an int32, date32 or time32 column, the months of a
        /// year-month interval, the unscaled values of a decimal32.
        i32s: i32 => { DataType::Int32 | DataType::Date32 | DataType::Time32(_)
            | DataType::Interval(IntervalUnit::YearMonth) | DataType::Decimal32 { .. } };
        /// The values of an int64, date64, time64, timestamp or duration
        /// column, the unscaled values of a decimal64.
        i64s: i64 => { DataType::Int64 | DataType::Date64 | DataType::Time64(_)
            | DataType::Timestamp { .. } | DataType::Duration(_) | DataType::Decimal64 { .. } };
        /// The values of a uint8 column.
        u8s: u8 => { DataType::UInt8 };
        /// The values of a uint16 column.
        u16s: u16 => { DataType::UInt16 };
        /// The values of a uint32 column.
        u32s: u32 => { DataType::UInt32 };
        /// The values of a uint64 column.
        u64s: u64 => { DataType::UInt64 };
        /// The values of a float16 column.
        f16s: Half => { DataType::Float16 };
        /// The values of a float32 column.
        f32s: f32 => { DataType::Float32 };
        /// The values of a float64 column.
        f64s: f64 => { DataType::Float64 };
        /// The unscaled values of a decimal128 column.
        decimal128s: i128 => { DataType::Decimal128 { .. } };
        /// The unscaled values of a decimal256 column.
        decimal256s: I256 => { DataType::Decimal256 { .. } };
        /// The values of a day-time interval column.
        day_times: DayTime => { DataType::Interval(IntervalUnit::DayTime) };
        /// The values of a month-day-nano interval column.
        month_day_nanos: MonthDayNano => { DataType::Interval(IntervalUnit::MonthDayNano) };
    }

    /// The values of a boolean column.
    pub fn bools(&self) -> Result<Bools<'_>, Error> {
        match self.field.data_type {
            DataType::Boolean => Ok(Bools { bits: &self.raw.values, rows: self.raw.length, validity: self.validity() }),
            _ => Err(self.not_a("bools")),
        }
    }

    /// The values of a text column. Also fails when they are not UTF-8.
    pub fn strs(&self) -> Result<Strs<'_>, Error> {
        if !matches!(self.field.data_type, DataType::Utf8 | DataType::LargeUtf8) {
            return Err(self.not_a("strs"));
        }
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(&self.raw.values)
            .ok()
            .filter(|text| (0..bytes.rows).all(|row| text.is_char_boundary(bytes.offsets.range(row).start)));
        match text {
            Some(text) => Ok(Strs { text, bytes }),
            None => Err(Error::Other(format!("column `{}` holds text that is not UTF-8", self.field.name))),
        }
    }

    /// The values of a binary, fixed-size binary or text column.
    pub fn bytes(&self) -> Result<Bytes<'_>, Error> {
        let offsets = match self.field.data_type {
            DataType::Binary | DataType::Utf8 => self.small(),
            DataType::LargeBinary | DataType::LargeUtf8 => self.large(),
            DataType::FixedSizeBinary(size) => Offsets::Every(size as usize),
            _ => return Err(self.not_a("bytes")),
        };
        let validity = self.validity();
        Ok(Bytes { values: &self.raw.values, offsets, rows: self.raw.length, validity })
    }

    /// The rows of a list or map column, as ranges of its one child.
    pub fn ranges(&self) -> Result<Ranges<'_>, Error> {
        let offsets = match self.field.data_type {
            DataType::List(_) | DataType::Map { .. } => self.small(),
            DataType::LargeList(_) => self.large(),
            DataType::FixedSizeList { size, .. } => Offsets::Every(size as usize),
            _ => return Err(self.not_a("ranges")),
        };
        Ok(Ranges { offsets, validity: self.validity() })
    }

    /// Which member each row of a union column is.
    pub fn members(&self) -> Result<Members<'_>, Error> {
        let (known, positions) = match &self.field.data_type {
            DataType::SparseUnion { ids, .. } => (ids, None),
            DataType::DenseUnion { ids, .. } => {
                (ids, Some(self.raw.offsets.as_deref().unwrap_or_default().as_chunks().0))
            }
            _ => return Err(self.not_a("members")),
        };
        Ok(Members { ids: &self.raw.values, positions, known })
    }

    fn fixed<T: Native>(&self) -> Values<'_, T> {
        let items = T::split(&self.raw.values);
        let items = items.get(..self.raw.length).unwrap_or(items);
        Values { items, validity: self.validity(), kind: PhantomData }
    }

    fn small(&self) -> Offsets<'_> {
        Offsets::Small(self.raw.offsets.as_deref().unwrap_or_default().as_chunks().0)
    }

    fn large(&self) -> Offsets<'_> {
        Offsets::Large(self.raw.offsets.as_deref().unwrap_or_default().as_chunks().0)
    }

    fn not_a(&self, view: &str) -> Error {
        let Column { field, .. } = self;
        Error::Other(format!("column `{}` is {}, which `{view}` cannot read", field.name, field.data_type))
    }
}
