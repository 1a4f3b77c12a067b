//! Columns of numbers, dates, times and intervals.

use super::super::cursor::Cursor;
use super::super::scalar::{Scalar, days_of_millis};
use super::writers::{
    By, Days, Decimal, Microsecond, Millisecond, Nanosecond, NoValue, Second, Signed, Timestamps, Writer,
};
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
        let column = ColumnOf { block: self, scalar, validity, around };
        // SAFETY: what is written touches the number of bytes that is said.
        unsafe {
            match *scalar {
                Scalar::I8(v) => column.some(&v, INTEGER_8, Signed),
                Scalar::I16(v) => column.some(&v, INTEGER_16, Signed),
                Scalar::I32(v) => column.some(&v, INTEGER_32, Signed),
                Scalar::I64(v) => column.some(&v, NUMBER, Signed),
                Scalar::U8(v) => column.all(&v, INTEGER_8, |c, v| c.u64(v.into())),
                Scalar::U16(v) => column.all(&v, INTEGER_16, |c, v| c.u64(v.into())),
                Scalar::U32(v) => column.all(&v, INTEGER_32, |c, v| c.u64(v.into())),
                Scalar::U64(v) => column.all(&v, NUMBER, |c, v| c.u64(v)),
                Scalar::F32(v) => column.all(&v, NUMBER, |c, v| c.f32(v)),
                Scalar::F64(v) => column.all(&v, NUMBER, |c, v| c.f64(v)),
                Scalar::Decimal32(v, scale) => column.some(&v, NUMBER, Decimal(scale)),
                Scalar::Decimal64(v, scale) => column.some(&v, NUMBER, Decimal(scale)),
                Scalar::Decimal128(v, scale) => column.some(&v, NUMBER, Decimal(scale)),
                Scalar::Date32(v) => column.some(&v, DATE, Days),
                Scalar::Date64(v) => column.all(&v, OTHER, |c, v| c.date(days_of_millis(v))),
                Scalar::Time32(v, unit) => column.all(&v, OTHER, move |c, v| c.time(v.into(), unit)),
                Scalar::Time64(v, unit) => column.all(&v, OTHER, move |c, v| c.time(v, unit)),
                Scalar::Timestamp(v, TimeUnit::Second, instant) => {
                    column.some(&v, OTHER, Timestamps::<Second>::new(instant))
                }
                Scalar::Timestamp(v, TimeUnit::Millisecond, instant) => {
                    column.some(&v, OTHER, Timestamps::<Millisecond>::new(instant))
                }
                Scalar::Timestamp(v, TimeUnit::Microsecond, instant) => {
                    column.some(&v, OTHER, Timestamps::<Microsecond>::new(instant))
                }
                Scalar::Timestamp(v, TimeUnit::Nanosecond, instant) => {
                    column.some(&v, OTHER, Timestamps::<Nanosecond>::new(instant))
                }
                Scalar::F16(v) => column.all(&v, NUMBER, |c, v| c.f32(v.to_f32())),
                Scalar::Decimal256(v, _) => column.some(&v, 0, NoValue),
                Scalar::Duration(v, _) => column.some(&v, 0, NoValue),
                Scalar::YearMonth(v) => column.some(&v, 0, NoValue),
                Scalar::DayTime(v) => column.some(&v, 0, NoValue),
                Scalar::MonthDayNano(v) => column.some(&v, 0, NoValue),
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
            let writer = By(|cursor: &mut Cursor, value| {
                write(cursor, value);
                true
            });
            self.some(values, width, writer);
        }
    }

    /// Appends those values by `writer` that it writes.
    ///
    /// # Safety
    /// It must not write more than `width` bytes, nor touch sixteen more.
    #[inline(always)]
    unsafe fn some<T: Native>(self, values: &Values<'_, T>, width: usize, writer: impl Writer<T>) {
        let ColumnOf { block, scalar, validity, around } = self;
        // SAFETY: the caller's promise.
        unsafe { block.values(values, validity, around, width, writer, |row, out| scalar.write(row, out)) }
    }
}
