//! How single values are written.
//!
//! These are types and not closures, which cannot be told to be inlined: a call for
//! each value looks at stack and deadline, and costs a plugin more than native code.

use std::marker::PhantomData;

use super::super::Special;
use super::super::cursor::Cursor;
use super::super::lanes::Lanes;
use super::super::number::is_short_decimal;
use super::super::temporal::LastDay;
use crate::TimeUnit;

/// Writes values of one type.
pub trait Writer<V> {
    /// Whether it wrote the value.
    fn write(&mut self, cursor: &mut Cursor, value: V) -> bool;
}

/// By a function that may be called for each value.
pub struct By<F>(pub F);

impl<V, F: FnMut(&mut Cursor, V) -> bool> Writer<V> for By<F> {
    #[inline(always)]
    fn write(&mut self, cursor: &mut Cursor, value: V) -> bool {
        (self.0)(cursor, value)
    }
}

/// Writes what is nothing.
pub struct Nothing;

impl Writer<()> for Nothing {
    #[inline(always)]
    fn write(&mut self, _: &mut Cursor, (): ()) -> bool {
        true
    }
}

/// Writes no value: each has a slower way.
pub struct NoValue;

impl<V> Writer<V> for NoValue {
    #[inline(always)]
    fn write(&mut self, _: &mut Cursor, _: V) -> bool {
        false
    }
}

/// Integers that may be negative.
pub struct Signed;

impl<V: Into<i64>> Writer<V> for Signed {
    #[inline(always)]
    fn write(&mut self, cursor: &mut Cursor, value: V) -> bool {
        cursor.i64(value.into());
        true
    }
}

/// Days since 1970-01-01.
pub struct Days;

impl Writer<i32> for Days {
    #[inline(always)]
    fn write(&mut self, cursor: &mut Cursor, value: i32) -> bool {
        cursor.date(value.into());
        true
    }
}

/// The unit of a timestamp, so that the compiler divides by constants.
pub trait Unit {
    const UNIT: TimeUnit;
}

macro_rules! units {
    ($($unit:ident)*) => {
        $(
            pub struct $unit;
            impl Unit for $unit {
                const UNIT: TimeUnit = TimeUnit::$unit;
            }
        )*
    };
}

units!(Second Millisecond Microsecond Nanosecond);

/// Timestamps.
pub struct Timestamps<U> {
    last: LastDay,
    is_instant: bool,
    unit: PhantomData<U>,
}

impl<U: Unit> Timestamps<U> {
    pub fn new(is_instant: bool) -> Self {
        Self { last: LastDay::default(), is_instant, unit: PhantomData }
    }
}

impl<U: Unit> Writer<i64> for Timestamps<U> {
    #[inline(always)]
    fn write(&mut self, cursor: &mut Cursor, value: i64) -> bool {
        cursor.timestamp_after(&mut self.last, value, U::UNIT, self.is_instant);
        true
    }
}

/// Decimals of this scale that are short.
pub struct Decimal(pub i8);

impl Writer<i64> for Decimal {
    #[inline(always)]
    fn write(&mut self, cursor: &mut Cursor, value: i64) -> bool {
        let short = is_short_decimal(value, self.0);
        if short {
            cursor.short_decimal(value, self.0);
        }
        short
    }
}

impl Writer<i32> for Decimal {
    #[inline(always)]
    fn write(&mut self, cursor: &mut Cursor, value: i32) -> bool {
        self.write(cursor, i64::from(value))
    }
}

impl Writer<i128> for Decimal {
    #[inline(always)]
    fn write(&mut self, cursor: &mut Cursor, value: i128) -> bool {
        i64::try_from(value).is_ok_and(|value| self.write(cursor, value))
    }
}

/// Texts that lie in `values`; not those of the length that is left out, nor any with
/// a special byte.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    pub values: &'a [u8],
    pub but_of_length: usize,
    pub special: Special,
    /// Otherwise none of them has a special byte.
    pub are_checked: bool,
}

impl Writer<(usize, usize)> for Texts<'_> {
    #[inline(always)]
    fn write(&mut self, cursor: &mut Cursor, (start, end): (usize, usize)) -> bool {
        let text = self.values.get(start..end).unwrap_or_default();
        let is_plain = text.len() != self.but_of_length && !(self.are_checked && self.special.is_in(text));
        if is_plain {
            match text.len() {
                0..16 => cursor.bytes(text),
                _ => _ = cursor.long(text),
            }
        }
        is_plain
    }
}

/// The same of texts that have at most `PIECES` times sixteen bytes each, all of which
/// it touches; and not those that lie nearer to the end of `values`.
pub struct ShortTexts<'a, const PIECES: usize, const CHECKED: bool>(pub Texts<'a>);

impl<const PIECES: usize, const CHECKED: bool> Writer<(usize, usize)> for ShortTexts<'_, PIECES, CHECKED> {
    #[inline(always)]
    fn write(&mut self, cursor: &mut Cursor, (start, end): (usize, usize)) -> bool {
        let ShortTexts(Texts { values, but_of_length, special, .. }) = self;
        let length = end.wrapping_sub(start);
        let Some(window) = values.get(start..start.wrapping_add(16 * PIECES)) else { return false };
        let (sixteens, _) = window.as_chunks::<16>();
        let pieces: [Lanes; PIECES] = std::array::from_fn(|index| Lanes::load(&sixteens[index]));
        let is_special = CHECKED
            && pieces
                .iter()
                .enumerate()
                .any(|(index, piece)| length > 16 * index && piece.any_of_first(length - 16 * index, special));
        if length == *but_of_length || length > 16 * PIECES || is_special {
            return false;
        }
        cursor.pieces(pieces, length);
        true
    }
}
