//! Dates, times, timestamps, durations and intervals in ISO 8601.

use super::Buffer;
use super::cursor::Cursor;
use super::number::{ZEROS, ascii_digits, digits, digits_of_pairs};
use crate::{DayTime, MonthDayNano, TimeUnit};

pub(super) const SECONDS_OF_DAY: i64 = 86_400;
const DAYS_OF_ERA: i64 = 146_097;
const YEARS_OF_ERA: i64 = 400;

/// A day of the proleptic Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Civil {
    pub year: i64,
    pub month: u32,
    pub day: u32,
}

/// The day of the last timestamp: its first instant, and its text.
pub(super) struct LastDay {
    first: i64,
    text: [u64; 2],
}

impl LastDay {
    /// The day of `value`, of which a day has `per_day`; none if its year has not four digits.
    #[inline(never)]
    fn of(value: i64, per_day: i64) -> Option<Self> {
        let day = value.div_euclid(per_day);
        Some(LastDay { first: day * per_day, text: Civil::of_days(day).text()? })
    }
}

impl Default for LastDay {
    fn default() -> Self {
        LastDay { first: 0, text: Civil::of_days(0).text().unwrap_or_default() }
    }
}

impl Civil {
    /// The day that lies `days` after 1970-01-01. The method is that of Neri
    /// and Schneider, "Euclidean affine functions and their application to
    /// calendar algorithms" (2023): years begin in March, so that the leap day
    /// is the last, and each division by a constant is a multiplication.
    #[inline(always)]
    pub fn of_days(days: i64) -> Self {
        // Days since 0000-03-01, within one era of 400 years at first.
        let since_march = days.wrapping_add(719_468);
        let (era, day_of_era) = if (0..DAYS_OF_ERA * 25).contains(&since_march) {
            (0, since_march as u32)
        } else {
            (since_march.div_euclid(DAYS_OF_ERA), since_march.rem_euclid(DAYS_OF_ERA) as u32)
        };
        let quarters = 4 * day_of_era + 3;
        let century = quarters / DAYS_OF_ERA as u32;
        let day_of_century = quarters % DAYS_OF_ERA as u32 / 4;
        let product = 2_939_745 * u64::from(4 * day_of_century + 3);
        let year_of_century = (product >> 32) as u32;
        let day_of_year = product as u32 / 2_939_745 / 4;
        let months = 2_141 * day_of_year + 197_913;
        let (month, day) = (months >> 16, (months & 0xffff) / 2_141 + 1);
        let next_year = u32::from(day_of_year >= 306);
        Civil {
            year: era * YEARS_OF_ERA + i64::from(100 * century + year_of_century + next_year),
            month: month - 12 * next_year,
            day,
        }
    }

    /// `2024-02-29` in two words, of the second one two bytes; none if the year has
    /// not four digits.
    #[inline(always)]
    fn text(self) -> Option<[u64; 2]> {
        let year = u32::try_from(self.year).ok().filter(|year| *year < 10_000)?;
        let pairs = u64::from(year / 100) | u64::from(year % 100) << 16;
        let text = digits_of_pairs(pairs | u64::from(self.month) << 32 | u64::from(self.day) << 48) | ZEROS;
        let dashes = u64::from(b'-') << 32 | u64::from(b'-') << 56;
        Some([text & 0xffff_ffff | (text >> 32 & 0xffff) << 40 | dashes, text >> 48])
    }

    /// The day's number in its year, from 1.
    pub fn day_of_year(self) -> u32 {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let month = self.month.clamp(1, 12);
        before[month as usize - 1] + self.day + u32::from(leap && month > 2)
    }
}

impl Buffer {
    /// Appends the date that lies `days` after 1970-01-01: `2024-02-29`. Years
    /// before 0 and after 9999 have a sign (ISO 8601 expanded years).
    #[inline(always)]
    pub fn date(&mut self, days: i64) {
        self.value(|cursor| cursor.date(days));
    }

    /// Appends a time of day, with as many places as the unit has:
    /// `23:59:59.999`. A time outside of the day has more hours or a sign.
    #[inline(always)]
    pub fn time(&mut self, value: i64, unit: TimeUnit) {
        self.value(|cursor| cursor.time(value, unit));
    }

    /// Appends `value` units after 1970-01-01T00:00:00, with as many places as
    /// the unit has: `2024-02-29T23:59:59.999999`, and a `Z` when it is an
    /// instant.
    #[inline(always)]
    pub fn timestamp(&mut self, value: i64, unit: TimeUnit, instant: bool) {
        self.value(|cursor| cursor.timestamp(value, unit, instant));
    }

    /// Appends a length of time in hours, minutes and seconds: `PT26H3M4.5S`,
    /// `-PT0.001S`, `PT0S`.
    pub fn duration(&mut self, value: i64, unit: TimeUnit) {
        self.minus_if(value < 0);
        self.extend(b"PT");
        let size = value.unsigned_abs();
        let per_second = unit.per_second() as u64;
        let (seconds, fraction) = (size / per_second, size % per_second);
        for (count, letter) in [(seconds / 3600, b'H'), (seconds / 60 % 60, b'M')] {
            if count > 0 {
                self.u64(count);
                self.push(letter);
            }
        }
        if seconds % 60 > 0 || fraction > 0 || size == 0 {
            self.u64(seconds % 60);
            self.trimmed_fraction(fraction, unit);
            self.push(b'S');
        }
    }

    /// Appends an interval of months: `P1Y2M`, `P0M`.
    pub fn year_month(&mut self, months: i32) {
        self.push(b'P');
        if months == 0 {
            self.extend(b"0M");
        }
        self.months(months);
    }

    /// Appends an interval of days and milliseconds: `P1DT-0.5S`, `PT0S`. Each
    /// part has its own sign, as they may differ.
    pub fn day_time(&mut self, value: DayTime) {
        self.interval(0, value.days, value.milliseconds.into(), TimeUnit::Millisecond);
    }

    /// Appends an interval of months, days and nanoseconds:
    /// `P1Y2M3DT4H5M6.000000007S`. Each part has its own sign.
    pub fn month_day_nano(&mut self, value: MonthDayNano) {
        self.interval(value.months, value.days, value.nanoseconds, TimeUnit::Nanosecond);
    }

    /// At least four digits and always a sign.
    pub(super) fn far_year(&mut self, year: i64) {
        self.value(|cursor| cursor.far_year(year));
    }

    #[inline(always)]
    pub(super) fn two_digits(&mut self, number: u32) {
        self.value(|cursor| cursor.two_digits(number));
    }

    /// The point and the places of the unit but trailing zeros; nothing for zero.
    fn trimmed_fraction(&mut self, value: u64, unit: TimeUnit) {
        if value == 0 {
            return;
        }
        let nanos = value * (1_000_000_000 / unit.per_second() as u64);
        self.push(b'.');
        let (first, last) = (nanos / 10, nanos % 10);
        if last > 0 {
            self.word(ascii_digits(first), 8);
            self.push(b'0' + last as u8);
        } else {
            let used = 8 - digits(first).leading_zeros() / 8;
            self.word(ascii_digits(first), used as usize);
        }
    }

    fn months(&mut self, months: i32) {
        for (count, letter) in [(months / 12, b'Y'), (months % 12, b'M')] {
            if count != 0 {
                self.i64(count.into());
                self.push(letter);
            }
        }
    }

    fn interval(&mut self, months: i32, days: i32, time: i64, unit: TimeUnit) {
        self.push(b'P');
        self.months(months);
        if days != 0 {
            self.i64(days.into());
            self.push(b'D');
        }
        if time == 0 && (months != 0 || days != 0) {
            return;
        }
        self.push(b'T');
        let size = time.unsigned_abs();
        let per_second = unit.per_second() as u64;
        let (seconds, fraction) = (size / per_second, size % per_second);
        for (count, letter) in [(seconds / 3600, b'H'), (seconds / 60 % 60, b'M')] {
            if count > 0 {
                self.minus_if(time < 0);
                self.u64(count);
                self.push(letter);
            }
        }
        if seconds % 60 > 0 || fraction > 0 || time == 0 {
            self.minus_if(time < 0);
            self.u64(seconds % 60);
            self.trimmed_fraction(fraction, unit);
            self.push(b'S');
        }
    }
}

impl Cursor {
    #[inline(always)]
    pub fn date(&mut self, days: i64) {
        let civil = Civil::of_days(days);
        match civil.text() {
            Some(text) => self.date_text(text),
            None => *self = self.far_date(civil),
        }
    }

    #[inline(always)]
    pub fn time(&mut self, value: i64, unit: TimeUnit) {
        let per_second = unit.per_second();
        let size = value.unsigned_abs();
        self.push_if(b'-', value < 0);
        self.clock(size / per_second as u64);
        self.fraction(size % per_second as u64, unit);
    }

    #[inline(always)]
    pub fn timestamp(&mut self, value: i64, unit: TimeUnit, instant: bool) {
        let per_second = unit.per_second();
        let seconds = value.div_euclid(per_second);
        self.date(seconds.div_euclid(SECONDS_OF_DAY));
        self.push(b'T');
        self.clock(seconds.rem_euclid(SECONDS_OF_DAY) as u64);
        self.fraction(value.rem_euclid(per_second) as u64, unit);
        self.push_if(b'Z', instant);
    }

    /// The same; days after days are mostly the same, so that `last` saves their work.
    #[inline(always)]
    pub fn timestamp_after(&mut self, last: &mut LastDay, value: i64, unit: TimeUnit, instant: bool) {
        let per_day = (SECONDS_OF_DAY * unit.per_second()) as u64;
        let mut since = value.wrapping_sub(last.first) as u64;
        if since >= per_day {
            let Some(day) = LastDay::of(value, per_day as i64) else {
                *self = self.far_timestamp(value, unit, instant);
                return;
            };
            *last = day;
            since = value.wrapping_sub(last.first) as u64;
        }
        let (seconds, fraction) = match unit {
            TimeUnit::Second => (since as u32, 0),
            TimeUnit::Millisecond => (since as u32 / 1_000, since as u32 % 1_000),
            // Halved as often as a million can be, it fits into 32 bits.
            TimeUnit::Microsecond => {
                let seconds = (since >> 6) as u32 / (1_000_000 >> 6);
                (seconds, (since - u64::from(seconds) * 1_000_000) as u32)
            }
            TimeUnit::Nanosecond => ((since / 1_000_000_000) as u32, (since % 1_000_000_000) as u32),
        };
        self.date_text(last.text);
        self.push(b'T');
        self.clock(seconds.into());
        self.fraction(fraction.into(), unit);
        self.push_if(b'Z', instant);
    }

    #[cold]
    #[inline(never)]
    fn far_timestamp(mut self, value: i64, unit: TimeUnit, instant: bool) -> Self {
        self.timestamp(value, unit, instant);
        self
    }

    #[inline(always)]
    fn date_text(&mut self, [first, last]: [u64; 2]) {
        self.word(first, 8);
        self.word(last, 2);
    }

    #[cold]
    fn far_date(mut self, civil: Civil) -> Self {
        self.far_year(civil.year);
        self.push(b'-');
        self.two_digits(civil.month);
        self.push(b'-');
        self.two_digits(civil.day);
        self
    }

    /// At least four digits and always a sign.
    fn far_year(&mut self, year: i64) {
        self.push(if year < 0 { b'-' } else { b'+' });
        let size = year.unsigned_abs();
        if size < 10_000 {
            self.word(ascii_digits(size) >> 32, 4);
        } else {
            self.u64(size);
        }
    }

    #[inline(always)]
    fn two_digits(&mut self, number: u32) {
        self.word(ascii_digits(u64::from(number)) >> 48, 2);
    }

    /// Hours, minutes and seconds of a count of seconds.
    #[inline(always)]
    fn clock(&mut self, seconds: u64) {
        if seconds >= 360_000 {
            // More hours than two digits hold: not a time of day at all.
            self.u64(seconds / 3600);
            self.push(b':');
            self.two_digits((seconds / 60 % 60) as u32);
            self.push(b':');
            return self.two_digits((seconds % 60) as u32);
        }
        let seconds = seconds as u32;
        let minutes = seconds / 60;
        let hours = minutes / 60;
        let pairs = u64::from(hours) | u64::from(minutes % 60) << 16 | u64::from(seconds % 60) << 32;
        let text = digits_of_pairs(pairs) | ZEROS;
        let colons = u64::from(b':') << 16 | u64::from(b':') << 40;
        self.word(text & 0xffff | (text >> 16 & 0xffff) << 24 | (text >> 32 & 0xffff) << 48 | colons, 8);
    }

    /// The point and all places of the unit; nothing for seconds.
    #[inline(always)]
    fn fraction(&mut self, value: u64, unit: TimeUnit) {
        let point = u64::from(b'.');
        match unit {
            TimeUnit::Second => {}
            TimeUnit::Millisecond => self.word(point | ascii_digits(value) >> 40 << 8, 4),
            TimeUnit::Microsecond => self.word(point | ascii_digits(value) >> 16 << 8, 7),
            TimeUnit::Nanosecond => {
                let first = ascii_digits(value / 10);
                self.word(point | first << 8, 8);
                self.word(first >> 56 | (value % 10 + 0x30) << 8, 2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Buffer)) -> String {
        let mut buffer = Buffer::new();
        write(&mut buffer);
        String::from_utf8(buffer.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn every_day_of_five_eras_follows_the_day_before() {
        let days_of = |year: i64, month: u32| match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut expected = Civil { year: -801, month: 3, day: 1 };
        let mut day_of_year = 60;
        for days in -719_468 - 801 * 365 - 195..1_000_000 {
            let civil = Civil::of_days(days);
            if days == -719_468 - 801 * 365 - 195 {
                expected = civil;
                day_of_year = civil.day_of_year();
            }
            assert_eq!(civil, expected);
            assert_eq!(civil.day_of_year(), day_of_year);
            expected.day += 1;
            day_of_year += 1;
            if expected.day > days_of(expected.year, expected.month) {
                (expected.month, expected.day) = (expected.month + 1, 1);
            }
            if expected.month > 12 {
                (expected.year, expected.month, day_of_year) = (expected.year + 1, 1, 1);
            }
        }
    }

    #[test]
    fn dates_of_the_whole_range() {
        let cases = [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (-719_528, "0000-01-01"),
            (-719_529, "-0001-12-31"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+10000-01-01"),
            (i64::from(i32::MAX), "+5881580-07-11"),
            (i64::from(i32::MIN), "-5877641-06-23"),
        ];
        for (days, expected) in cases {
            assert_eq!(text(|b| b.date(days)), expected);
        }
    }

    #[test]
    fn timestamps_of_the_whole_range() {
        use TimeUnit::*;
        let cases = [
            (0, Second, "1970-01-01T00:00:00Z"),
            (-1, Millisecond, "1969-12-31T23:59:59.999Z"),
            (1_709_251_199_999_999, Microsecond, "2024-02-29T23:59:59.999999Z"),
            (i64::MAX, Nanosecond, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, Nanosecond, "1677-09-21T00:12:43.145224192Z"),
            (i64::MAX, Second, "+292277026596-12-04T15:30:07Z"),
            (i64::MIN, Second, "-292277022657-01-27T08:29:52Z"),
        ];
        for (value, unit, expected) in cases {
            assert_eq!(text(|b| b.timestamp(value, unit, true)), expected);
            assert_eq!(text(|b| b.timestamp(value, unit, false)), expected.trim_end_matches('Z'));
        }
    }

    #[test]
    fn times_durations_and_intervals() {
        use TimeUnit::*;
        assert_eq!(text(|b| b.time(86_399_999, Millisecond)), "23:59:59.999");
        assert_eq!(text(|b| b.time(0, Second)), "00:00:00");
        assert_eq!(text(|b| b.time(-1, Nanosecond)), "-00:00:00.000000001");
        assert_eq!(text(|b| b.time(i64::MAX, Nanosecond)), "2562047:47:16.854775807");
        assert_eq!(text(|b| b.duration(0, Second)), "PT0S");
        assert_eq!(text(|b| b.duration(-93_784_500, Millisecond)), "-PT26H3M4.5S");
        assert_eq!(text(|b| b.duration(7, Nanosecond)), "PT0.000000007S");
        assert_eq!(text(|b| b.duration(i64::MIN, Second)), "-PT2562047788015215H30M8S");
        assert_eq!(text(|b| b.year_month(-14)), "P-1Y-2M");
        assert_eq!(text(|b| b.year_month(0)), "P0M");
        assert_eq!(text(|b| b.day_time(DayTime { days: 1, milliseconds: -500 })), "P1DT-0.5S");
        assert_eq!(text(|b| b.day_time(DayTime::default())), "PT0S");
        let all = MonthDayNano { months: 14, days: -3, nanoseconds: 14_706_000_000_070 };
        assert_eq!(text(|b| b.month_day_nano(all)), "P1Y2M-3DT4H5M6.00000007S");
    }
}
