use super::{Buffer, Pattern};
use crate::views::Values;
use crate::{Column, DataType, DayTime, Error, Half, I256, IntervalUnit, MonthDayNano, TimeUnit};

/// The values of a column of numbers, dates, times or intervals, as text:
/// which writer serves the column is decided once, not for each value.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the variants are the types")]
pub enum Scalar<'a> {
    I8(Values<'a, i8>),
    I16(Values<'a, i16>),
    I32(Values<'a, i32>),
    I64(Values<'a, i64>),
    U8(Values<'a, u8>),
    U16(Values<'a, u16>),
    U32(Values<'a, u32>),
    U64(Values<'a, u64>),
    F16(Values<'a, Half>),
    F32(Values<'a, f32>),
    F64(Values<'a, f64>),
    Decimal32(Values<'a, i32>, i8),
    Decimal64(Values<'a, i64>, i8),
    Decimal128(Values<'a, i128>, i8),
    Decimal256(Values<'a, I256>, i8),
    Date32(Values<'a, i32>),
    Date64(Values<'a, i64>),
    Time32(Values<'a, i32>, TimeUnit),
    Time64(Values<'a, i64>, TimeUnit),
    Timestamp(Values<'a, i64>, TimeUnit, bool),
    Duration(Values<'a, i64>, TimeUnit),
    YearMonth(Values<'a, i32>),
    DayTime(Values<'a, DayTime>),
    MonthDayNano(Values<'a, MonthDayNano>),
}

impl<'a> Scalar<'a> {
    /// The writer of `column`; none for booleans, text, binary, nested and null
    /// columns.
    pub fn of(column: &'a Column<'_>) -> Result<Option<Self>, Error> {
        Ok(Some(match *column.data_type() {
            DataType::Int8 => Scalar::I8(column.i8s()?),
            DataType::Int16 => Scalar::I16(column.i16s()?),
            DataType::Int32 => Scalar::I32(column.i32s()?),
            DataType::Int64 => Scalar::I64(column.i64s()?),
            DataType::UInt8 => Scalar::U8(column.u8s()?),
            DataType::UInt16 => Scalar::U16(column.u16s()?),
            DataType::UInt32 => Scalar::U32(column.u32s()?),
            DataType::UInt64 => Scalar::U64(column.u64s()?),
            DataType::Float16 => Scalar::F16(column.f16s()?),
            DataType::Float32 => Scalar::F32(column.f32s()?),
            DataType::Float64 => Scalar::F64(column.f64s()?),
            DataType::Decimal32 { scale, .. } => Scalar::Decimal32(column.i32s()?, scale),
            DataType::Decimal64 { scale, .. } => Scalar::Decimal64(column.i64s()?, scale),
            DataType::Decimal128 { scale, .. } => Scalar::Decimal128(column.decimal128s()?, scale),
            DataType::Decimal256 { scale, .. } => Scalar::Decimal256(column.decimal256s()?, scale),
            DataType::Date32 => Scalar::Date32(column.i32s()?),
            DataType::Date64 => Scalar::Date64(column.i64s()?),
            DataType::Time32(unit) => Scalar::Time32(column.i32s()?, unit),
            DataType::Time64(unit) => Scalar::Time64(column.i64s()?, unit),
            DataType::Timestamp { unit, ref timezone } => Scalar::Timestamp(column.i64s()?, unit, timezone.is_some()),
            DataType::Duration(unit) => Scalar::Duration(column.i64s()?, unit),
            DataType::Interval(IntervalUnit::YearMonth) => Scalar::YearMonth(column.i32s()?),
            DataType::Interval(IntervalUnit::DayTime) => Scalar::DayTime(column.day_times()?),
            DataType::Interval(IntervalUnit::MonthDayNano) => Scalar::MonthDayNano(column.month_day_nanos()?),
            _ => return Ok(None),
        }))
    }

    /// Appends the value at `row`, which must not be null.
    #[inline(always)]
    pub fn write(&self, row: usize, out: &mut Buffer) {
        // What there is most of is written in place; the others are a call.
        let integer = match self {
            Scalar::I16(v) => v.value(row).into(),
            Scalar::I32(v) => v.value(row).into(),
            Scalar::I64(v) => v.value(row),
            other => return other.write_other(row, out),
        };
        out.i64(integer);
    }

    #[inline(never)]
    fn write_other(&self, row: usize, out: &mut Buffer) {
        match self {
            Scalar::I8(v) => out.i64(v.value(row).into()),
            Scalar::I16(v) => out.i64(v.value(row).into()),
            Scalar::I32(v) => out.i64(v.value(row).into()),
            Scalar::I64(v) => out.i64(v.value(row)),
            Scalar::U8(v) => out.u64(v.value(row).into()),
            Scalar::U16(v) => out.u64(v.value(row).into()),
            Scalar::U32(v) => out.u64(v.value(row).into()),
            Scalar::U64(v) => out.u64(v.value(row)),
            Scalar::F16(v) => out.f32(v.value(row).to_f32()),
            Scalar::F32(v) => out.f32(v.value(row)),
            Scalar::F64(v) => out.f64(v.value(row)),
            Scalar::Decimal32(v, scale) => out.decimal64(v.value(row).into(), *scale),
            Scalar::Decimal64(v, scale) => out.decimal64(v.value(row), *scale),
            Scalar::Decimal128(v, scale) => out.decimal128(v.value(row), *scale),
            Scalar::Decimal256(v, scale) => out.decimal256(v.value(row), *scale),
            Scalar::Date32(v) => out.date(v.value(row).into()),
            Scalar::Date64(v) => out.date(days_of_millis(v.value(row))),
            Scalar::Time32(v, unit) => out.time(v.value(row).into(), *unit),
            Scalar::Time64(v, unit) => out.time(v.value(row), *unit),
            // One arm for each unit, so that the compiler divides by constants.
            Scalar::Timestamp(v, TimeUnit::Second, instant) => {
                out.timestamp(v.value(row), TimeUnit::Second, *instant);
            }
            Scalar::Timestamp(v, TimeUnit::Millisecond, instant) => {
                out.timestamp(v.value(row), TimeUnit::Millisecond, *instant);
            }
            Scalar::Timestamp(v, TimeUnit::Microsecond, instant) => {
                out.timestamp(v.value(row), TimeUnit::Microsecond, *instant);
            }
            Scalar::Timestamp(v, TimeUnit::Nanosecond, instant) => {
                out.timestamp(v.value(row), TimeUnit::Nanosecond, *instant);
            }
            Scalar::Duration(v, unit) => out.duration(v.value(row), *unit),
            Scalar::YearMonth(v) => out.year_month(v.value(row)),
            Scalar::DayTime(v) => out.day_time(v.value(row)),
            Scalar::MonthDayNano(v) => out.month_day_nano(v.value(row)),
        }
    }

    /// Appends the value at `row` as `pattern` says; only dates, times of day
    /// and timestamps have one, and a time outside of the day has none either.
    pub fn write_as(&self, row: usize, pattern: &Pattern, out: &mut Buffer) {
        let (value, unit, instant, of_day) = match self {
            Scalar::Date32(v) => (i64::from(v.value(row)) * 86_400, TimeUnit::Second, false, false),
            Scalar::Date64(v) => (v.value(row), TimeUnit::Millisecond, false, false),
            Scalar::Time32(v, unit) => (v.value(row).into(), *unit, false, true),
            Scalar::Time64(v, unit) => (v.value(row), *unit, false, true),
            Scalar::Timestamp(v, unit, instant) => (v.value(row), *unit, *instant, false),
            _ => return self.write(row, out),
        };
        let per_second = unit.per_second();
        let seconds = value.div_euclid(per_second);
        if of_day && !(0..86_400).contains(&seconds) {
            return self.write(row, out);
        }
        let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
        pattern.write(out, seconds, nanos as u32, instant);
    }

    /// The first row whose value is `NaN` or infinite.
    pub fn first_non_finite(&self) -> Option<usize> {
        match self {
            Scalar::F16(v) => v.iter().position(|v| v.is_some_and(|v| !v.to_f32().is_finite())),
            Scalar::F32(v) => v.iter().position(|v| v.is_some_and(|v| !v.is_finite())),
            Scalar::F64(v) => v.iter().position(|v| v.is_some_and(|v| !v.is_finite())),
            _ => None,
        }
    }

    /// Whether the value at `row` is neither `NaN` nor infinite.
    #[inline(always)]
    pub fn is_finite(&self, row: usize) -> bool {
        match self {
            Scalar::F16(v) => v.value(row).to_f32().is_finite(),
            Scalar::F32(v) => v.value(row).is_finite(),
            Scalar::F64(v) => v.value(row).is_finite(),
            _ => true,
        }
    }
}

/// The day that a number of milliseconds after 1970 is in.
pub(super) fn days_of_millis(millis: i64) -> i64 {
    millis.div_euclid(86_400_000)
}
