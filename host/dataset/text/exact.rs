//! What a text says, read strictly, and whether a type holds all of it.

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{NaiveDate, NaiveTime, TimeDelta, Timelike};

pub(super) const UNITS: [TimeUnit; 4] =
    [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];

/// A value as it is written.
#[derive(Clone, Copy)]
pub(super) enum Scalar<'a> {
    /// A field of CSV.
    Field(&'a str),
    /// A string of JSON.
    Text(&'a str),
    /// A number of JSON.
    Number(&'a str),
    /// `true` or `false` in JSON.
    Boolean(&'a str),
}

impl<'a> Scalar<'a> {
    pub fn written(self) -> &'a str {
        match self {
            Self::Field(text) | Self::Text(text) | Self::Number(text) | Self::Boolean(text) => text,
        }
    }
}

/// Types that `columns` may declare.
pub(in crate::dataset) fn can_be_declared(data_type: &DataType) -> bool {
    use DataType::{Boolean, Date32, Decimal128, Decimal256, Float32, Float64, Time64, Timestamp, Utf8};
    data_type.is_integer()
        || matches!(
            data_type,
            Utf8 | Boolean | Float32 | Float64 | Decimal128(..) | Decimal256(..) | Date32 | Time64(_) | Timestamp(..)
        )
}

/// Whether a column of a declared type holds the value with nothing lost.
/// A `double` or `real` is as near as it can be.
pub(super) fn holds(data_type: &DataType, value: Scalar<'_>) -> bool {
    let text = match value {
        _ if *data_type == DataType::Utf8 => return true,
        Scalar::Boolean(_) => return *data_type == DataType::Boolean,
        Scalar::Field(text) if *data_type == DataType::Boolean => return boolean(text),
        Scalar::Number(text) => return number_holds(data_type, text),
        Scalar::Field(text) | Scalar::Text(text) => text,
    };
    match data_type {
        DataType::Date32 => loose_date(text) || Stamp::of(text).is_some_and(|stamp| stamp.midnight && !stamp.zoned),
        DataType::Timestamp(unit, zone) => {
            let stamp = date(text).map(Stamp::of_date).or_else(|| Stamp::of(text));
            stamp.is_some_and(|stamp| stamp.fits(*unit) && (zone.is_some() || !stamp.zoned))
        }
        DataType::Time64(unit) => time(text).is_some_and(|(_, digits)| digits <= digits_of(*unit)),
        _ => number_holds(data_type, text),
    }
}

fn number_holds(data_type: &DataType, text: &str) -> bool {
    let whole = |least: i128, most: i128| {
        text.trim_ascii().parse::<i128>().is_ok_and(|number| (least..=most).contains(&number))
    };
    match data_type {
        DataType::Int8 => whole(i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => whole(i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => whole(i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => whole(i64::MIN.into(), i64::MAX.into()),
        DataType::UInt8 => whole(0, u8::MAX.into()),
        DataType::UInt16 => whole(0, u16::MAX.into()),
        DataType::UInt32 => whole(0, u32::MAX.into()),
        DataType::UInt64 => whole(0, u64::MAX.into()),
        DataType::Float32 | DataType::Float64 => {
            let text = text.trim_ascii();
            let word = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
            let finite = match data_type {
                DataType::Float32 => text.parse().is_ok_and(f32::is_finite),
                _ => text.parse().is_ok_and(f64::is_finite),
            };
            matches!(word.as_str(), "nan" | "inf" | "infinity") || (Number::of(text).is_some() && finite)
        }
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            Number::of(text).is_some_and(|number| number.is_decimal(*precision, *scale))
        }
        _ => false,
    }
}

pub(super) fn boolean(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
}

/// A number in digits, with a sign, a point and an exponent or without.
pub(super) struct Number<'a> {
    text: &'a str,
    whole: &'a [u8],
    fraction: &'a [u8],
    pointed: bool,
    exponent: Option<i32>,
}

impl<'a> Number<'a> {
    pub fn of(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let unsigned = bytes.strip_prefix(b"-").or_else(|| bytes.strip_prefix(b"+")).unwrap_or(bytes);
        let digits = |bytes: &'a [u8]| bytes.split_at(bytes.iter().take_while(|byte| byte.is_ascii_digit()).count());
        let (whole, rest) = digits(unsigned);
        let (pointed, (fraction, rest)) = match rest.strip_prefix(b".") {
            Some(rest) => (true, digits(rest)),
            None => (false, (&rest[..0], rest)),
        };
        let exponent = match rest {
            [] => None,
            [b'e' | b'E', exponent @ ..] => Some(std::str::from_utf8(exponent).ok()?.parse().ok()?),
            _ => return None,
        };
        let some = !whole.is_empty() || !fraction.is_empty();
        some.then_some(Self { text, whole, fraction, pointed, exponent })
    }

    /// Begins with a zero or a plus sign: rather a postcode, an account or a telephone.
    pub fn is_code(&self) -> bool {
        self.text.starts_with('+') || (self.whole.len() > 1 && self.whole[0] == b'0')
    }

    pub fn is_i64(&self) -> bool {
        !self.pointed && self.exponent.is_none() && self.text != "-0" && self.text.parse::<i64>().is_ok()
    }

    /// Whether a 64-bit fraction, printed with as many digits, is this number again.
    pub fn is_f64(&self) -> bool {
        // Any 15 digits come back (IEEE 754, binary64), and no number is written with more than 767.
        const ALWAYS: usize = 15;
        const EVER: usize = 767;
        let (digits, point) = (self.significant().count(), self.point());
        if digits == 0 || (digits <= ALWAYS && (-290..=290).contains(&point)) {
            return true;
        }
        let Some(value) = self.text.parse::<f64>().ok().filter(|value| value.is_finite() && digits <= EVER) else {
            return false;
        };
        let printed = format!("{:.*e}", digits - 1, value.abs());
        Number::of(&printed).is_some_and(|back| back.point() == point && back.significant().eq(self.significant()))
    }

    fn is_decimal(&self, precision: u8, scale: i8) -> bool {
        // The row reader counts digits in a byte.
        const DIGITS: usize = 200;
        let fraction = self.fraction.len() - self.fraction.iter().rev().take_while(|digit| **digit == b'0').count();
        let whole = self.whole.iter().skip_while(|digit| **digit == b'0').count();
        let scale = usize::try_from(scale).unwrap_or(0);
        self.exponent.is_none()
            && self.text.len() <= DIGITS
            && fraction <= scale
            && whole + scale <= usize::from(precision)
    }

    /// The digits from the first that is not zero.
    fn significant(&self) -> impl Iterator<Item = u8> {
        self.whole.iter().chain(self.fraction).copied().skip_while(|digit| *digit == b'0')
    }

    /// Where the point stands, counted from the first significant digit.
    fn point(&self) -> i64 {
        let zeros = self.whole.iter().chain(self.fraction).take_while(|digit| **digit == b'0').count();
        self.whole.len() as i64 - zeros as i64 + i64::from(self.exponent.unwrap_or(0))
    }
}

/// `2024-05-01`
pub(super) fn date(text: &str) -> Option<NaiveDate> {
    if text.len() != 10 {
        return None;
    }
    ymd(text.split('-'))
}

/// Also `2024-5-1` and `20240501`, if somebody says that it is a date.
fn loose_date(text: &str) -> bool {
    let compact = || Some([text.get(..4)?, text.get(4..6)?, text.get(6..)?]);
    match text.len() {
        8 if !text.contains('-') => compact().is_some_and(|parts| ymd(parts.into_iter()).is_some()),
        8..=10 => ymd(text.split('-')).is_some(),
        _ => false,
    }
}

fn ymd<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<NaiveDate> {
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let fits = year.len() == 4 && month.len() <= 2 && day.len() <= 2 && parts.next().is_none();
    NaiveDate::from_ymd_opt(number(year)?.try_into().ok()?, number(month)?, number(day)?).filter(|_| fits)
}

/// `10:20:30.123`, and how many digits of the fraction are needed.
fn time(text: &str) -> Option<(NaiveTime, usize)> {
    let (clock, fraction) = match text.split_at_checked(8)? {
        (clock, "") => (clock, ""),
        (clock, rest) => (clock, rest.strip_prefix('.').filter(|digits| (1..=9).contains(&digits.len()))?),
    };
    let mut parts = clock.split(':');
    let mut part = || parts.next().filter(|part| part.len() == 2).and_then(number);
    let (hour, minute, second) = (part()?, part()?, part()?);
    let nanos = if fraction.is_empty() { 0 } else { number(fraction)? * 10_u32.pow(9 - fraction.len() as u32) };
    Some((NaiveTime::from_hms_nano_opt(hour, minute, second, nanos)?, fraction.trim_end_matches('0').len()))
}

/// Digits alone.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `2024-05-01T10:20:30.123+02:00`, with a blank for the `T` and without an offset too.
pub(super) struct Stamp {
    pub zoned: bool,
    midnight: bool,
    /// Digits of the fraction that are needed.
    digits: usize,
    /// Nanoseconds reach from 1677 to 2262.
    in_nanos: bool,
}

impl Stamp {
    pub fn of(text: &str) -> Option<Self> {
        let day = date(text.get(..10)?)?;
        let rest = text[10..].strip_prefix(['T', ' '])?;
        let end = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
        let (clock, zone) = rest.split_at(end);
        let (time, digits) = time(clock)?;
        let offset = offset(zone)?;
        let utc = day.and_time(time).checked_sub_signed(TimeDelta::seconds(offset))?.and_utc();
        let midnight = time.num_seconds_from_midnight() == 0 && time.nanosecond() == 0;
        Some(Self { zoned: !zone.is_empty(), midnight, digits, in_nanos: utc.timestamp_nanos_opt().is_some() })
    }

    fn of_date(day: NaiveDate) -> Self {
        let in_nanos = day.and_time(NaiveTime::MIN).and_utc().timestamp_nanos_opt().is_some();
        Self { zoned: false, midnight: true, digits: 0, in_nanos }
    }

    pub fn fits(&self, unit: TimeUnit) -> bool {
        self.digits <= digits_of(unit) && (self.in_nanos || unit != TimeUnit::Nanosecond)
    }
}

fn digits_of(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// Seconds east of UTC: nothing, `Z`, `+02`, `+0200` or `+02:00`.
fn offset(zone: &str) -> Option<i64> {
    let (sign, digits) = match zone.split_at_checked(1) {
        None => return Some(0),
        Some(("Z" | "z", "")) => return Some(0),
        Some(("+", digits)) => (1, digits),
        Some(("-", digits)) => (-1, digits),
        Some(_) => return None,
    };
    let minutes = digits.get(2..).map(|rest| rest.strip_prefix(':').unwrap_or(rest))?;
    let (hours, minutes) = match minutes {
        "" if digits.len() == 2 => (number(digits)?, 0),
        minutes if minutes.len() == 2 => (number(&digits[..2])?, number(minutes)?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * i64::from(hours * 3600 + minutes * 60))
}
