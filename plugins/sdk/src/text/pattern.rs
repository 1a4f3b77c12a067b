//! Dates and times in a pattern of the user's: a subset of strftime.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::Buffer;
use super::number::ascii_digits;
use super::temporal::{Civil, SECONDS_OF_DAY};

/// A checked strftime pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    pieces: Vec<Piece>,
}

/// What a pattern is for, and so which conversions it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternKind {
    /// `%Y %y %m %d %e %j %b %B %a %A %F %%`.
    Date,
    /// `%H %I %M %S %p %3f %6f %9f %T %%`.
    Time,
    /// Both, and `%s` (seconds since 1970), `%z`, `%:z`, `%Z` (`+0000`,
    /// `+00:00` and `UTC` for an instant, nothing for a local time).
    Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Year,
    YearOfCentury,
    Month,
    MonthName { short: bool },
    Day,
    DaySpaced,
    DayOfYear,
    Weekday { short: bool },
    Hour,
    HourOfHalfDay,
    Minute,
    Second,
    Fraction(u8),
    HalfOfDay,
    Unix,
    Offset { colon: bool },
    Zone,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Pattern {
    /// Parses a pattern; the error says which conversions there are.
    pub fn parse(text: &str, kind: PatternKind) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            let (literal, conversion) = rest.split_at(at);
            push_literal(&mut pieces, literal);
            let (length, found) = conversion_of(conversion);
            let allowed = found.filter(|found| found.iter().all(|piece| piece.fits(kind)));
            let Some(found) = allowed else {
                let shown: String = conversion.chars().take(length).collect();
                return Err(format!("`{shown}` is not possible here: use {}", kind.conversions()));
            };
            found.into_iter().for_each(|piece| match piece {
                Piece::Literal(text) => push_literal(&mut pieces, &text),
                piece => pieces.push(piece),
            });
            rest = &conversion[length..];
        }
        push_literal(&mut pieces, rest);
        if pieces.is_empty() { Err("the pattern is empty".into()) } else { Ok(Pattern { pieces }) }
    }

    /// Appends the moment `seconds` (and `nanos`) after 1970-01-01T00:00:00.
    pub fn write(&self, out: &mut Buffer, seconds: i64, nanos: u32, instant: bool) {
        let days = seconds.div_euclid(SECONDS_OF_DAY);
        let second = seconds.rem_euclid(SECONDS_OF_DAY) as u32;
        let civil = Civil::of_days(days);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend(text.as_bytes()),
                Piece::Year if (0..10_000).contains(&civil.year) => {
                    out.word(ascii_digits(civil.year as u64) >> 32, 4);
                }
                Piece::Year => out.far_year(civil.year),
                Piece::YearOfCentury => out.two_digits(civil.year.rem_euclid(100) as u32),
                Piece::Month => out.two_digits(civil.month),
                Piece::MonthName { short } => {
                    out.name(MONTHS.get(civil.month.wrapping_sub(1) as usize), *short);
                }
                Piece::Day => out.two_digits(civil.day),
                Piece::DaySpaced if civil.day < 10 => out.extend(&[b' ', b'0' + civil.day as u8]),
                Piece::DaySpaced => out.two_digits(civil.day),
                Piece::DayOfYear => out.word(ascii_digits(civil.day_of_year().into()) >> 40, 3),
                Piece::Weekday { short } => {
                    // 1970-01-01 was a Thursday.
                    out.name(WEEKDAYS.get((days + 4).rem_euclid(7) as usize), *short);
                }
                Piece::Hour => out.two_digits(second / 3600),
                Piece::HourOfHalfDay => out.two_digits((second / 3600 + 11) % 12 + 1),
                Piece::Minute => out.two_digits(second / 60 % 60),
                Piece::Second => out.two_digits(second % 60),
                Piece::Fraction(3) => out.word(ascii_digits(u64::from(nanos / 1_000_000)) >> 40, 3),
                Piece::Fraction(6) => out.word(ascii_digits(u64::from(nanos / 1_000)) >> 16, 6),
                Piece::Fraction(_) => {
                    out.word(ascii_digits(u64::from(nanos / 10)), 8);
                    out.push(b'0' + (nanos % 10) as u8);
                }
                Piece::HalfOfDay => out.extend(if second < 43_200 { b"AM" } else { b"PM" }),
                Piece::Unix => out.i64(seconds),
                Piece::Offset { colon: true } if instant => out.extend(b"+00:00"),
                Piece::Offset { colon: false } if instant => out.extend(b"+0000"),
                Piece::Zone if instant => out.extend(b"UTC"),
                Piece::Offset { .. } | Piece::Zone => {}
            }
        }
    }
}

impl Buffer {
    fn name(&mut self, name: Option<&&str>, short: bool) {
        let name = name.copied().unwrap_or_default();
        self.extend(name.as_bytes().get(..3).filter(|_| short).unwrap_or(name.as_bytes()));
    }
}

impl PatternKind {
    fn conversions(self) -> &'static str {
        match self {
            PatternKind::Date => "%Y %y %m %d %e %j %b %B %a %A %F %%",
            PatternKind::Time => "%H %I %M %S %p %3f %6f %9f %T %%",
            PatternKind::Timestamp => "%Y %y %m %d %e %j %b %B %a %A %F %H %I %M %S %p %3f %6f %9f %T %s %z %:z %Z %%",
        }
    }
}

impl Piece {
    fn fits(&self, kind: PatternKind) -> bool {
        let date = matches!(
            self,
            Piece::Year
                | Piece::YearOfCentury
                | Piece::Month
                | Piece::MonthName { .. }
                | Piece::Day
                | Piece::DaySpaced
                | Piece::DayOfYear
                | Piece::Weekday { .. }
        );
        let time = matches!(
            self,
            Piece::Hour | Piece::HourOfHalfDay | Piece::Minute | Piece::Second | Piece::Fraction(_) | Piece::HalfOfDay
        );
        match kind {
            _ if matches!(self, Piece::Literal(_)) => true,
            PatternKind::Date => date,
            PatternKind::Time => time,
            PatternKind::Timestamp => true,
        }
    }
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Literal(before)) => before.push_str(text),
        _ => pieces.push(Piece::Literal(text.into())),
    }
}

/// The length in bytes of the conversion that `text` begins with, and what it
/// stands for.
fn conversion_of(text: &str) -> (usize, Option<Vec<Piece>>) {
    let mut letters = text.chars().skip(1);
    let (length, piece) = match (letters.next(), letters.next()) {
        (Some(digit @ ('3' | '6' | '9')), Some('f')) => (3, Piece::Fraction(digit as u8 - b'0')),
        (Some(':'), Some('z')) => (3, Piece::Offset { colon: true }),
        (Some(letter), _) => {
            let piece = match letter {
                'Y' => Piece::Year,
                'y' => Piece::YearOfCentury,
                'm' => Piece::Month,
                'B' => Piece::MonthName { short: false },
                'b' => Piece::MonthName { short: true },
                'd' => Piece::Day,
                'e' => Piece::DaySpaced,
                'j' => Piece::DayOfYear,
                'A' => Piece::Weekday { short: false },
                'a' => Piece::Weekday { short: true },
                'H' => Piece::Hour,
                'I' => Piece::HourOfHalfDay,
                'M' => Piece::Minute,
                'S' => Piece::Second,
                'p' => Piece::HalfOfDay,
                's' => Piece::Unix,
                'z' => Piece::Offset { colon: false },
                'Z' => Piece::Zone,
                '%' => Piece::Literal("%".into()),
                'F' => return (2, Some(joined([Piece::Year, Piece::Month, Piece::Day], "-"))),
                'T' => return (2, Some(joined([Piece::Hour, Piece::Minute, Piece::Second], ":"))),
                _ => return (1 + letter.len_utf8(), None),
            };
            (2, piece)
        }
        (None, _) => return (1, None),
    };
    (length, Some(vec![piece]))
}

fn joined([a, b, c]: [Piece; 3], by: &str) -> Vec<Piece> {
    let by = Piece::Literal(by.into());
    vec![a, by.clone(), b, by, c]
}

macro_rules! option {
    ($($(#[$doc:meta])* $name:ident, $kind:ident, $title:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(pub Pattern);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                Pattern::parse(&text, PatternKind::$kind).map($name)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "minLength": 1, "description": $title })
            }
        }
    )*};
}

option! {
    /// An option that is a pattern for dates.
    DateFormat, Date, "A strftime pattern of %Y %y %m %d %e %j %b %B %a %A %F %%";
    /// An option that is a pattern for times of day.
    TimeFormat, Time, "A strftime pattern of %H %I %M %S %p %3f %6f %9f %T %%";
    /// An option that is a pattern for timestamps.
    TimestampFormat, Timestamp,
        "A strftime pattern of %Y %y %m %d %e %j %b %B %a %A %F %H %I %M %S %p %3f %6f %9f %T %s %z %:z %Z %%";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pattern: &str, seconds: i64, nanos: u32, instant: bool) -> String {
        let mut buffer = Buffer::new();
        Pattern::parse(pattern, PatternKind::Timestamp).unwrap().write(&mut buffer, seconds, nanos, instant);
        String::from_utf8(buffer.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn each_conversion() {
        // 2024-02-05 was a Monday.
        let cases = [
            ("%Y|%y|%m|%d|%e|%j|%F", "2024|24|02|05| 5|036|2024-02-05"),
            ("%b %B %a %A", "Feb February Mon Monday"),
            ("%H|%I|%M|%S|%p|%T", "15|03|04|09|PM|15:04:09"),
            ("%3f|%6f|%9f", "012|012345|012345678"),
            ("%s %z %:z %Z 100%%", "1707145449 +0000 +00:00 UTC 100%"),
        ];
        for (pattern, expected) in cases {
            assert_eq!(written(pattern, 1_707_145_449, 12_345_678, true), expected);
        }
        assert_eq!(written("%T%z%:z%Z", 0, 0, false), "00:00:00");
        assert_eq!(written("%I%p", 0, 0, false), "12AM");
        assert_eq!(written("%Y %A", i64::MIN, 0, false), "-292277022657 Sunday");
    }

    #[test]
    fn what_is_not_possible_is_named() {
        let error = |text, kind| Pattern::parse(text, kind).unwrap_err();
        assert_eq!(
            error("%Y %H", PatternKind::Date),
            "`%H` is not possible here: use %Y %y %m %d %e %j %b %B %a %A %F %%"
        );
        assert!(error("%f", PatternKind::Time).starts_with("`%f` is not possible here"));
        assert!(error("%é", PatternKind::Time).starts_with("`%é`"));
        assert!(error("100%", PatternKind::Timestamp).starts_with("`%` is"));
        assert_eq!(error("", PatternKind::Time), "the pattern is empty");
    }
}
