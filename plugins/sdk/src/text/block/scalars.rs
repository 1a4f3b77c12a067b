//! Columns of numbers, dates, times and intervals.

use super::super::cursor::Cursor;
use super::super::number::is_short_decimal;
use super::super::scalar::{Scalar, days_of_millis};
use super::super::temporal::LastDay;
use super::{Around, Block};
use crate::views::{Native, Values};
use crate::{TimeUnit, Validity};

/// The most bytes of a number, unless it is a decimal that is not short.
const NUMBER: usize = 24;
/// Of an integer of so many bits.
const INTEGER_8: usize = 4;
const INTEGER_16: usize = 6;
const INTEGER_32: usize = 11;
/// The most bytes of a day whose year has at most 8 digits, as those of 32 bits have.
const DATE: usize = 16;
/// Of anything else that a [`Cursor`] writes.
const OTHER: usize = Cursor::ROOM - 16;

impl Block {
    /// Appends the values of a column of numbers, dates, times or intervals.
    pub fn scalars(&mut self, scalar: &Scalar<'_>, validity: Validity<'_>, around: &Around) {
        let decimal = |cursor: &mut Cursor, value: i64, scale: i8| {
            let short = is_short_decimal(value, scale);
            if short {
                cursor.short_decimal(value, scale);
            }
            short
        };
        let mut last = LastDay::default();
        let column = ColumnOf { block: self, scalar, validity, around };
        // SAFETY: what is written touches the number of bytes that is said.
        unsafe {
            match *scalar {
                Scalar::I8(v) => column.all(&v, INTEGER_8, |c, v| c.i64(v.into())),
                Scalar::I16(v) => column.all(&v, INTEGER_16, |c, v| c.i64(v.into())),
                Scalar::I32(v) => column.all(&v, INTEGER_32, |c, v| c.i64(v.into())),
                Scalar::I64(v) => column.all(&v, NUMBER, |c, v| c.i64(v)),
                Scalar::U8(v) => column.all(&v, INTEGER_8, |c, v| c.u64(v.into())),
                Scalar::U16(v) => column.all(&v, INTEGER_16, |c, v| c.u64(v.into())),
                Scalar::U32(v) => column.all(&v, INTEGER_32, |c, v| c.u64(v.into())),
                Scalar::U64(v) => column.all(&v, NUMBER, |c, v| c.u64(v)),
                Scalar::F32(v) => column.all(&v, NUMBER, |c, v| c.f32(v)),
                Scalar::F64(v) => column.all(&v, NUMBER, |c, v| c.f64(v)),
                Scalar::Decimal32(v, scale) => column.some(&v, NUMBER, move |c, v| decimal(c, v.into(), scale)),
                Scalar::Decimal64(v, scale) => column.some(&v, NUMBER, move |c, v| decimal(c, v, scale)),
                Scalar::Decimal128(v, scale) => {
                    column.some(&v, NUMBER, move |c, v| i64::try_from(v).is_ok_and(|v| decimal(c, v, scale)));
                }
                Scalar::Date32(v) => column.all(&v, DATE, |c, v| c.date(v.into())),
                Scalar::Date64(v) => column.all(&v, OTHER, |c, v| c.date(days_of_millis(v))),
                Scalar::Time32(v, unit) => column.all(&v, OTHER, move |c, v| c.time(v.into(), unit)),
                Scalar::Time64(v, unit) => column.all(&v, OTHER, move |c, v| c.time(v, unit)),
                // One arm for each unit, so that the compiler divides by constants.
                Scalar::Timestamp(v, TimeUnit::Second, instant) => {
                    column.all(&v, OTHER, move |c, v| c.timestamp_after(&mut last, v, TimeUnit::Second, instant));
                }
                Scalar::Timestamp(v, TimeUnit::Millisecond, instant) => {
                    column.all(&v, OTHER, move |c, v| c.timestamp_after(&mut last, v, TimeUnit::Millisecond, instant));
                }
                Scalar::Timestamp(v, TimeUnit::Microsecond, instant) => {
                    column.all(&v, OTHER, move |c, v| c.timestamp_after(&mut last, v, TimeUnit::Microsecond, instant));
                }
                Scalar::Timestamp(v, TimeUnit::Nanosecond, instant) => {
                    column.all(&v, OTHER, move |c, v| c.timestamp_after(&mut last, v, TimeUnit::Nanosecond, instant));
                }
                Scalar::F16(v) => column.all(&v, NUMBER, |c, v| c.f32(v.to_f32())),
                Scalar::Decimal256(v, _) => column.some(&v, 0, |_, _| false),
                Scalar::Duration(v, _) => column.some(&v, 0, |_, _| false),
                Scalar::YearMonth(v) => column.some(&v, 0, |_, _| false),
                Scalar::DayTime(v) => column.some(&v, 0, |_, _| false),
                Scalar::MonthDayNano(v) => column.some(&v, 0, |_, _| false),
            }
        }
    }
}

struct ColumnOf<'a> {
    block: &'a mut Block,
    scalar: &'a Scalar<'a>,
    validity: Validity<'a>,
    around: &'a Around,
}

impl ColumnOf<'_> {
    /// Appends all values by `write`.
    ///
    /// # Safety
    /// It must not write more than `width` bytes, nor touch sixteen more.
    #[inline(always)]
    unsafe fn all<T: Native>(self, values: &Values<'_, T>, width: usize, mut write: impl FnMut(&mut Cursor, T)) {
        // SAFETY: the caller's promise.
        unsafe {
            self.some(values, width, |cursor, value| {
                write(cursor, value);
                true
            });
        }
    }

    /// Appends those values by `write` that it writes, which it answers.
    ///
    /// # Safety
    /// It must not write more than `width` bytes, nor touch sixteen more.
    #[inline(always)]
    unsafe fn some<T: Native>(self, values: &Values<'_, T>, width: usize, write: impl FnMut(&mut Cursor, T) -> bool) {
        let ColumnOf { block, scalar, validity, around } = self;
        // SAFETY: the caller's promise.
        unsafe { block.values(values, validity, around, width, write, |row, out| scalar.write(row, out)) }
    }
}
