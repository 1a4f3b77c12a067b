//! A cron expression: read strictly here, so that a mistake is shown where it
//! is, then handed to croner, which knows the days.

use std::ops::Range;

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Weekday};
use croner::CronPattern;
use croner::parser::{CronParser, Seconds, Year};

use super::CalendarError;
use super::field::{self, Field};

/// The longest wait between two days of a possible expression: 29 February as a
/// fifth Monday comes every 28 years, and every 40 across a century without a leap day.
const YEARS_MAX: i32 = 41;

/// A parsed expression, free of any zone. It has at least one matching day in every 41 years.
pub(super) struct Expression {
    /// Bit n is set when the field matches n.
    seconds: u64,
    minutes: u64,
    hours: u64,
    /// Matches days; about 5 KB, which is why expressions are shared.
    days: CronPattern,
    /// The time of day has a `*` or a step: follows elapsed time instead of the clock on the wall.
    pub(super) follows_elapsed_time: bool,
}

impl Expression {
    pub(super) fn parse(text: &str) -> Result<Self, CalendarError> {
        let fields = read_fields(text)?;
        let canonical: Vec<&str> = fields.iter().map(|f| f.canonical.as_str()).collect();
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
        let cron = parser
            .parse(&canonical.join(" "))
            .map_err(|source| CalendarError::Refused { text: text.to_owned(), why: source.to_string() })?;
        let days = cron.pattern;
        let bits = |values: Vec<u16>| values.into_iter().fold(0u64, |bits, value| bits | 1 << value);
        let expression = Self {
            seconds: bits(days.seconds.values()),
            minutes: bits(days.minutes.values()),
            hours: bits(days.hours.values()),
            follows_elapsed_time: fields.iter().take(3).any(|f| f.repeats),
            days,
        };
        // Without this a share that never fires would look like one that waits.
        if expression.day_from(NaiveDate::default()).is_none() {
            return Err(CalendarError::NeverComes { text: text.to_owned() });
        }
        Ok(expression)
    }

    /// The first matching local second at or after `from`.
    pub(super) fn local_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let day = self.day_from(from.date())?;
        if day == from.date()
            && let Some(time) = self.time_from(from.time())
        {
            return Some(day.and_time(time));
        }
        let day = if day == from.date() { self.day_from(day.checked_add_days(Days::new(1))?)? } else { day };
        Some(day.and_time(self.time_from(NaiveTime::MIN)?))
    }

    /// The first matching day at or after `from`.
    pub(super) fn day_from(&self, from: NaiveDate) -> Option<NaiveDate> {
        let mut day = from;
        while day.year() <= from.year().checked_add(YEARS_MAX)? {
            if !self.days.month_match(day.month()).ok()? {
                let (year, month) = if day.month() == 12 { (day.year() + 1, 1) } else { (day.year(), day.month() + 1) };
                day = NaiveDate::from_ymd_opt(year, month, 1)?;
                continue;
            }
            if self.days.day_match(day.year(), day.month(), day.day(), weekday(day)).ok()? {
                return Some(day);
            }
            day = day.succ_opt()?;
        }
        None
    }

    fn time_from(&self, from: NaiveTime) -> Option<NaiveTime> {
        let (hour, minute, second) = (from.hour(), from.minute(), from.second());
        let at = |h, m, s| NaiveTime::from_hms_opt(h, m, s);
        let first = |bits: u64| bits.trailing_zeros();
        if self.hours >> hour & 1 == 1 {
            if self.minutes >> minute & 1 == 1
                && let Some(s) = bit_from(self.seconds, second)
            {
                return at(hour, minute, s);
            }
            if let Some(m) = bit_from(self.minutes, minute + 1) {
                return at(hour, m, first(self.seconds));
            }
        }
        at(bit_from(self.hours, hour + 1)?, first(self.minutes), first(self.seconds))
    }
}

/// The lowest set bit at or above `from`.
fn bit_from(bits: u64, from: u32) -> Option<u32> {
    let above = bits.checked_shr(from)?;
    (above != 0).then(|| from + above.trailing_zeros())
}

/// Six fields, seconds first, each in the form that croner takes.
fn read_fields(text: &str) -> Result<Vec<Field>, CalendarError> {
    let body = text.trim();
    if body.is_empty() {
        return Err(CalendarError::Empty);
    }
    let expanded = if body.starts_with('@') { Some(nickname(text, body)?) } else { None };
    let source = expanded.unwrap_or(text);
    let words: Vec<Range<usize>> = words(source);
    let rules = match words.len() {
        5 => &field::RULES[1..],
        6 => &field::RULES[..],
        found => return Err(CalendarError::FieldCount { text: text.to_owned(), found }),
    };
    let mut fields = Vec::with_capacity(6);
    if words.len() == 5 {
        fields.push(Field { canonical: "0".to_owned(), repeats: false });
    }
    for (rule, at) in rules.iter().zip(&words) {
        fields.push(rule.read(source, at.clone())?);
    }
    refuse_stepped_days(source, &words[words.len() - 3..])?;
    Ok(fields)
}

/// Vixie's cron reads `*/2` in one day field as "every day" when the other one
/// is restricted, and then wants both to match; others want either.
fn refuse_stepped_days(text: &str, days: &[Range<usize>]) -> Result<(), CalendarError> {
    let [of_month, _, of_week] = days else { return Ok(()) };
    let free = |at: &Range<usize>| matches!(&text[at.clone()], "*" | "?");
    for (stepped, other, rule) in [(of_month, of_week, &field::RULES[3]), (of_week, of_month, &field::RULES[5])] {
        if text[stepped.clone()].starts_with("*/") && !free(other) {
            let written = text[stepped.clone()].replacen('*', &format!("{}-{}", rule.min, rule.last), 1);
            let why = format!(
                "means different things in different crons while the other day field is restricted too; write \
                 {written} for days that match either field, or * for the other field"
            );
            return Err(CalendarError::Field { text: text.to_owned(), field: rule.name, at: stepped.clone(), why });
        }
    }
    Ok(())
}

fn words(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (c.is_whitespace(), start) {
            (true, Some(from)) => {
                words.push(from..at);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    words
}

fn nickname(text: &str, body: &str) -> Result<&'static str, CalendarError> {
    match body.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        "@monthly" => Ok("0 0 1 * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@hourly" => Ok("0 * * * *"),
        _ => Err(CalendarError::Nickname { text: text.to_owned() }),
    }
}

fn weekday(day: NaiveDate) -> croner::Weekday {
    match day.weekday() {
        Weekday::Mon => croner::Weekday::Monday,
        Weekday::Tue => croner::Weekday::Tuesday,
        Weekday::Wed => croner::Weekday::Wednesday,
        Weekday::Thu => croner::Weekday::Thursday,
        Weekday::Fri => croner::Weekday::Friday,
        Weekday::Sat => croner::Weekday::Saturday,
        Weekday::Sun => croner::Weekday::Sunday,
    }
}
