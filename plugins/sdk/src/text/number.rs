//! Integers, floating point numbers and decimals.

use super::Buffer;
use super::cursor::Cursor;
use crate::I256;

pub(super) const ZEROS: u64 = 0x3030_3030_3030_3030;
const TEN_TO_8: u64 = 100_000_000;
const TEN_TO_16: u64 = TEN_TO_8 * TEN_TO_8;
const TEN_TO_18: u64 = 1_000_000_000_000_000_000;

/// The eight decimal digits of a number below 10^8, the first in the least
/// significant byte, as numbers 0 to 9. All digits are split at the same time:
/// in halves of four, then pairs, then single ones, dividing by multiplication.
/// (`x - y * 100` into the upper and `y` into the lower half of a field is one
/// multiplication, too.)
#[inline(always)]
pub(super) fn digits(number: u64) -> u64 {
    let high = (number * 109_951_163) >> 40;
    let fours = (number << 32).wrapping_sub(high * ((10_000 << 32) - 1));
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    digits_of_pairs((fours << 16).wrapping_sub(hundreds * ((100 << 16) - 1)))
}

/// The two digits of each of four numbers below 100, which are sixteen bits apart.
#[inline(always)]
pub(super) fn digits_of_pairs(pairs: u64) -> u64 {
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    (pairs << 8).wrapping_sub(tens * ((10 << 8) - 1))
}

/// The four digits of a number below 10^4.
#[inline(always)]
fn four_digits(number: u32) -> u32 {
    let hundreds = (number * 5_243) >> 19;
    let pairs = (number << 16).wrapping_sub(hundreds * ((100 << 16) - 1));
    let tens = ((pairs * 103) >> 10) & 0x000f_000f;
    (pairs << 8).wrapping_sub(tens * ((10 << 8) - 1))
}

/// The same as ASCII.
#[inline(always)]
pub(super) fn ascii_digits(number: u64) -> u64 {
    digits(number) | ZEROS
}

/// Every finite number has an exact text; `NaN`, `Infinity` and `-Infinity`
/// stand for the others.
impl Buffer {
    /// Appends an integer.
    #[inline(always)]
    pub fn u64(&mut self, value: u64) {
        self.value(|cursor| cursor.u64(value));
    }

    /// Appends an integer.
    #[inline(always)]
    pub fn i64(&mut self, value: i64) {
        self.value(|cursor| cursor.i64(value));
    }

    /// Appends the shortest text that reads back as the same number: `0.1`,
    /// `1.0`, `1e-7`.
    #[inline(always)]
    pub fn f64(&mut self, value: f64) {
        self.value(|cursor| cursor.f64(value));
    }

    /// Appends the shortest text that reads back as the same single-precision
    /// number.
    #[inline(always)]
    pub fn f32(&mut self, value: f32) {
        self.value(|cursor| cursor.f32(value));
    }

    /// Appends `value / 10^scale` with all `scale` places.
    #[inline(always)]
    pub fn decimal64(&mut self, value: i64, scale: i8) {
        if is_short_decimal(value, scale) {
            self.value(|cursor| cursor.short_decimal(value, scale));
        } else {
            let start = self.start_decimal(value < 0);
            self.u64(value.unsigned_abs());
            self.set_point(start, scale);
        }
    }

    /// Appends `value / 10^scale` with all `scale` places.
    #[inline(always)]
    pub fn decimal128(&mut self, value: i128, scale: i8) {
        match i64::try_from(value) {
            Ok(value) => self.decimal64(value, scale),
            Err(_) => self.decimal256(I256::from_i128(value), scale),
        }
    }

    /// Appends `value / 10^scale` with all `scale` places.
    #[inline(never)]
    pub fn decimal256(&mut self, value: I256, scale: i8) {
        let mut words = value.0;
        let negative = words[3] >> 63 == 1;
        if negative {
            let mut carry = true;
            for word in &mut words {
                (*word, carry) = (!*word).overflowing_add(u64::from(carry));
            }
        }
        let start = self.start_decimal(negative);
        // Groups of 18 digits, the least significant first.
        let mut groups = [0; 5];
        let mut count = 0;
        for group in &mut groups {
            *group = divide(&mut words, TEN_TO_18);
            count += 1;
            if words == [0; 4] {
                break;
            }
        }
        let mut groups = groups[..count].iter().rev();
        self.u64(groups.next().copied().unwrap_or_default());
        for group in groups {
            self.word(ascii_digits(group / TEN_TO_16) >> 48, 2);
            self.word(ascii_digits(group / TEN_TO_8 % TEN_TO_8), 8);
            self.word(ascii_digits(group % TEN_TO_8), 8);
        }
        self.set_point(start, scale);
    }

    /// The sign; the digits begin where the answer says.
    fn start_decimal(&mut self, negative: bool) -> usize {
        self.minus_if(negative);
        self.len()
    }

    #[inline(always)]
    pub(super) fn minus_if(&mut self, negative: bool) {
        self.word(u64::from(b'-'), usize::from(negative));
    }

    /// Puts the point into the digits that begin at `start`.
    #[inline(never)]
    fn set_point(&mut self, start: usize, scale: i8) {
        let digits = self.len() - start;
        let places = usize::from(scale.unsigned_abs());
        if scale > 0 {
            // A zero at least stands before the point.
            self.insert_zeros(start, (places + 1).saturating_sub(digits));
            self.insert(self.len() - places, b'.');
        } else if self.as_bytes().get(start..) != Some(b"0") {
            self.insert_zeros(self.len(), places);
        }
    }
}

/// Whether [`Cursor::short_decimal`] can write it.
#[inline(always)]
pub(super) fn is_short_decimal(value: i64, scale: i8) -> bool {
    scale == 0 || (1..=7).contains(&scale) && value.unsigned_abs() < TEN_TO_16
}

impl Cursor {
    #[inline(always)]
    pub fn u64(&mut self, value: u64) {
        if value < 10_000 {
            self.below_ten_to_4(value as u32);
        } else if value < TEN_TO_8 {
            self.below_ten_to_8(value);
        } else {
            *self = self.at_least_ten_to_8(value);
        }
    }

    #[inline(always)]
    pub fn i64(&mut self, value: i64) {
        self.push_if(b'-', value < 0);
        self.u64(value.unsigned_abs());
    }

    #[inline(always)]
    pub fn f64(&mut self, value: f64) {
        // A decimal of at most 15 digits that reads back as the number is the
        // shortest one. With at most six places it is found by rounding.
        let size = value.abs();
        if (1e-3..1e9).contains(&size) {
            let millionths = (size * 1e6 + 0.5) as u64;
            if millionths as f64 / 1e6 == size {
                self.push_if(b'-', value < 0.0);
                return self.millionths(millionths);
            }
        }
        *self = self.shortest(value);
    }

    #[inline(always)]
    pub fn f32(&mut self, value: f32) {
        // As above, with at most six digits.
        let size = f64::from(value.abs());
        if (1e-3..1e3).contains(&size) {
            let thousandths = (size * 1e3 + 0.5) as u64;
            if (thousandths as f64 / 1e3) as f32 == value.abs() {
                self.push_if(b'-', value < 0.0);
                return self.millionths(thousandths * 1000);
            }
        }
        *self = self.shortest(value);
    }

    /// Writes `value / 10^scale` if it [is short](is_short_decimal).
    #[inline(always)]
    pub fn short_decimal(&mut self, value: i64, scale: i8) {
        self.push_if(b'-', value < 0);
        let value = value.unsigned_abs();
        if scale == 0 {
            return self.u64(value);
        }
        // The usual amount of money: whole and places from one or two words.
        let scale = u32::from(scale.unsigned_abs().min(7));
        let (whole, digits) = if value < TEN_TO_8 {
            let digits = digits(value);
            let zeros = ((digits | 1 << 56).trailing_zeros() / 8).min(7 - scale);
            (8 - zeros - scale, digits >> (zeros * 8) | ZEROS)
        } else {
            self.below_ten_to_8(value / TEN_TO_8 % TEN_TO_8);
            (8 - scale, ascii_digits(value % TEN_TO_8))
        };
        self.word(digits, whole as usize);
        self.word(u64::from(b'.') | digits >> (whole * 8) << 8, 1 + scale as usize);
    }

    /// Writes a number without its leading zeros.
    #[inline(always)]
    fn below_ten_to_4(&mut self, value: u32) {
        let digits = four_digits(value);
        // The last digit counts even when it is zero.
        let zeros = (digits | 1 << 24).trailing_zeros() / 8;
        self.half_word(digits >> (zeros * 8) | ZEROS as u32, 4 - zeros as usize);
    }

    /// The same.
    #[inline(always)]
    fn below_ten_to_8(&mut self, value: u64) {
        let digits = digits(value);
        // The last digit counts even when it is zero.
        let zeros = (digits | 1 << 56).trailing_zeros() / 8;
        self.word(digits >> (zeros * 8) | ZEROS, 8 - zeros as usize);
    }

    #[inline(never)]
    fn at_least_ten_to_8(mut self, value: u64) -> Self {
        let high = value / TEN_TO_8;
        if high < TEN_TO_8 {
            self.below_ten_to_8(high);
        } else {
            self.below_ten_to_8(high / TEN_TO_8);
            self.word(ascii_digits(high % TEN_TO_8), 8);
        }
        self.word(ascii_digits(value % TEN_TO_8), 8);
        self
    }

    /// Writes millionths without trailing zeros, but with one place at least.
    #[inline(always)]
    fn millionths(&mut self, value: u64) {
        self.u64(value / 1_000_000);
        let places = digits(value % 1_000_000) >> 16;
        let used = 8 - ((places | 1).leading_zeros() / 8) as usize;
        self.word(u64::from(b'.') | (places | ZEROS) << 8, 1 + used);
    }

    #[inline(never)]
    fn shortest<F: zmij::Float + Into<f64>>(mut self, value: F) -> Self {
        let wide: f64 = value.into();
        if wide.is_finite() {
            self.bytes(zmij::Buffer::new().format_finite(value).as_bytes());
        } else if wide.is_nan() {
            self.bytes(b"NaN");
        } else {
            self.push_if(b'-', wide < 0.0);
            self.bytes(b"Infinity");
        }
        self
    }
}

/// Divides in place and returns the remainder.
fn divide(words: &mut [u64; 4], divisor: u64) -> u64 {
    let mut remainder = 0;
    for word in words.iter_mut().rev() {
        let number = u128::from(remainder) << 64 | u128::from(*word);
        *word = (number / u128::from(divisor)) as u64;
        remainder = (number % u128::from(divisor)) as u64;
    }
    remainder
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(write: impl FnOnce(&mut Buffer)) -> String {
        let mut buffer = Buffer::new();
        write(&mut buffer);
        String::from_utf8(buffer.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn every_number_of_digits_is_written_whole() {
        let mut edge = 1u64;
        for _ in 0..20 {
            for value in [edge - 1, edge, edge + 1, edge / 10 * 9] {
                assert_eq!(text(|b| b.u64(value)), value.to_string());
            }
            edge = edge.saturating_mul(10).min(u64::MAX - 1);
        }
        assert_eq!(text(|b| b.u64(u64::MAX)), u64::MAX.to_string());
        assert_eq!(text(|b| b.i64(i64::MIN)), i64::MIN.to_string());
    }

    #[test]
    fn decimals_keep_every_place() {
        let cases: [(i128, i8, &str); 13] = [
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-5, 2, "-0.05"),
            (12345, 2, "123.45"),
            (99_999_999, 7, "9.9999999"),
            (100_000_000, 7, "10.0000000"),
            (1_234_567_890_123_456, 4, "123456789012.3456"),
            (12_345_678_901_234_567, 4, "1234567890123.4567"),
            (7, 12, "0.000000000007"),
            (0, -3, "0"),
            (-12, -3, "-12000"),
            (-99_999_999_999_999_999_999_999_999_999_999_999_999, 38, "-0.99999999999999999999999999999999999999"),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
        ];
        for (value, scale, expected) in cases {
            assert_eq!(text(|b| b.decimal128(value, scale)), expected);
            assert_eq!(text(|b| b.decimal256(I256::from_i128(value), scale)), expected);
        }
        // The largest and the smallest number of 256 bits.
        let digits = "57896044618658097711785492504343953926634992332820282019728792003956564819967";
        assert_eq!(text(|b| b.decimal256(I256([u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 1]), 0)), digits);
        assert_eq!(text(|b| b.decimal256(I256([0, 0, 0, 1 << 63]), 77)), format!("-0.{}8", &digits[..76]));
    }

    #[test]
    fn numbers_that_are_not_finite_have_names() {
        let all = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e300];
        assert_eq!(all.map(|v| text(|b| b.f64(v))), ["NaN", "Infinity", "-Infinity", "0.0", "-0.0", "1e+300"]);
    }

    proptest! {
        #[test]
        fn integers(value: i64) {
            prop_assert_eq!(text(|b| b.i64(value)), value.to_string());
            prop_assert_eq!(text(|b| b.i64(value >> 20)), (value >> 20).to_string());
            prop_assert_eq!(text(|b| b.i64(value >> 40)), (value >> 40).to_string());
        }

        #[test]
        fn floats_are_the_shortest(value in proptest::num::f64::ANY) {
            if value.is_finite() {
                let expected = zmij::Buffer::new().format(value).to_owned();
                prop_assert_eq!(text(|b| b.f64(value)), expected);
            }
        }

        #[test]
        fn rounded_floats_are_the_shortest(number in -1_000_000_000_000_000i64..1_000_000_000_000_000, places in 0i32..9) {
            let value = number as f64 / 10f64.powi(places);
            let expected = zmij::Buffer::new().format(value).to_owned();
            prop_assert_eq!(text(|b| b.f64(value)), expected);
            let value = (number % 10_000_000) as f32 / 10f32.powi(places);
            let expected = zmij::Buffer::new().format(value).to_owned();
            prop_assert_eq!(text(|b| b.f32(value)), expected);
        }

        #[test]
        fn decimals(value: i128, shift in 0u32..127, scale in 0i8..40) {
            let value = value >> shift;
            let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale as usize + 1);
            let (whole, places) = digits.split_at(digits.len() - scale as usize);
            let minus = if value < 0 { "-" } else { "" };
            let point = if scale > 0 { "." } else { "" };
            prop_assert_eq!(text(|b| b.decimal128(value, scale)), format!("{minus}{whole}{point}{places}"));
        }
    }
}
