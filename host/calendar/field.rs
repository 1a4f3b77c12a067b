//! One field of a cron expression: what may stand in it, and what to write
//! instead of what may not. croner forgives too much here: it skips empty list
//! items, takes weekday names as hours and reads `SUNMON` as Monday.

use std::ops::Range;

use super::CalendarError;

/// The six fields in their order, seconds first.
pub(super) const RULES: [Rule; 6] = [
    Rule { name: "second", min: 0, max: 59, last: 59, names: &[], kind: Kind::Time },
    Rule { name: "minute", min: 0, max: 59, last: 59, names: &[], kind: Kind::Time },
    Rule { name: "hour", min: 0, max: 23, last: 23, names: &[], kind: Kind::Time },
    Rule { name: "day of month", min: 1, max: 31, last: 31, names: &[], kind: Kind::DayOfMonth },
    Rule { name: "month", min: 1, max: 12, last: 12, names: &MONTHS, kind: Kind::Month },
    Rule { name: "day of week", min: 0, max: 7, last: 6, names: &WEEKDAYS, kind: Kind::DayOfWeek },
];

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A field as read.
pub(super) struct Field {
    /// With numbers for names, and `*` for `?`.
    pub(super) canonical: String,
    /// Has a `*` or a step.
    pub(super) repeats: bool,
}

pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) min: u32,
    /// Highest number that may be written.
    max: u32,
    /// Highest distinct value: 7 is Sunday again.
    pub(super) last: u32,
    /// Names of the values from `min` on.
    names: &'static [&'static str],
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Time,
    DayOfMonth,
    Month,
    DayOfWeek,
}

impl Rule {
    /// Reads the field that stands at `at` in `text`.
    pub(super) fn read(&self, text: &str, at: Range<usize>) -> Result<Field, CalendarError> {
        let refuse =
            |at: Range<usize>, why: String| CalendarError::Field { text: text.to_owned(), field: self.name, at, why };
        let whole = &text[at.clone()];
        if whole == "?" && matches!(self.kind, Kind::DayOfMonth | Kind::DayOfWeek) {
            return Ok(Field { canonical: "*".to_owned(), repeats: true });
        }
        let mut parts = Vec::new();
        let mut start = at.start;
        for part in whole.split(',') {
            let here = start..start + part.len();
            start = here.end + 1;
            parts.push(self.part(&part.to_uppercase()).map_err(|why| {
                let shown = if here.is_empty() { at.clone() } else { here };
                refuse(shown, why)
            })?);
        }
        if parts.len() > 1 && parts.iter().any(|p| p == "*") {
            return Err(refuse(at, "has '*' beside other values, which it already covers; write * alone".to_owned()));
        }
        // croner keeps one mark for both, and then forgets the plain last day.
        if parts.iter().any(|p| p == "L") && parts.iter().any(|p| p == "LW") {
            return Err(refuse(at, "has both L and LW; use two shares, or one of them".to_owned()));
        }
        Ok(Field { canonical: parts.join(","), repeats: whole.contains(['*', '/']) })
    }

    /// One item of the list, in upper case; the error reads after "which".
    fn part(&self, part: &str) -> Result<String, String> {
        if part.is_empty() {
            return Err("has an empty list item; remove the extra comma".to_owned());
        }
        if part == "*" {
            return Ok(part.to_owned());
        }
        if let Some((range, step)) = part.split_once('/') {
            return self.stepped(range, step);
        }
        if let Some(special) = self.special(part) {
            return special;
        }
        match part.split_once('-') {
            Some((from, to)) => self.range(from, to),
            None => Ok(self.value(part)?.to_string()),
        }
    }

    fn stepped(&self, range: &str, step: &str) -> Result<String, String> {
        let span = self.last - self.min;
        let Some(number) = step.parse::<u32>().ok().filter(|n| *n > 0 && !step.starts_with('+')) else {
            return Err(format!("has the step '{step}'; a step is a number from 1 to {span}"));
        };
        if number > span {
            return Err(format!(
                "has the step {number}, which is longer than the field ({}-{}) and never comes round; write {} alone",
                self.min, self.last, self.min
            ));
        }
        match range.split_once('-') {
            _ if range == "*" => Ok(format!("*/{number}")),
            Some((from, to)) => Ok(format!("{}/{number}", self.range(from, to)?)),
            None if range.is_empty() => Err(format!("has a step without a range; write */{number}")),
            None => {
                let from = self.value(range)?;
                Err(format!("has a step on a single value; write {from}-{}/{number}", self.last))
            }
        }
    }

    fn range(&self, from: &str, to: &str) -> Result<String, String> {
        let (first, mut last) = (self.value(from)?, self.value(to)?);
        // A range may end on Sunday, which is then the seventh day.
        if self.kind == Kind::DayOfWeek && last == 0 && first > 0 {
            last = 7;
        }
        if first <= last {
            return Ok(format!("{first}-{last}"));
        }
        Err(format!(
            "has a range that runs backwards; write {first}-{},{}-{last} to go over the end",
            self.last, self.min
        ))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse::<u32>() {
                Ok(number) if (self.min..=self.max).contains(&number) => Ok(number),
                _ => Err(format!("is outside {}-{}", self.min, self.max)),
            };
        }
        if let Some(found) = self.names.iter().position(|name| *name == text) {
            return u32::try_from(found).map(|n| n + self.min).map_err(|_| "is out of range".to_owned());
        }
        Err(match self.names {
            [] => format!("is not a number; write {}-{}, * or a list of those", self.min, self.max),
            [first, .., last] => format!("is not a value; write {}-{}, {first}-{last} or *", self.min, self.max),
            [one] => format!("is not a value; write {one} or *"),
        })
    }

    /// `L`, `LW`, `15W` in the day of month; `FRIL`, `FRI#2` in the day of week.
    fn special(&self, part: &str) -> Option<Result<String, String>> {
        match self.kind {
            Kind::DayOfMonth if part == "L" || part == "LW" => Some(Ok(part.to_owned())),
            Kind::DayOfMonth => {
                let day = part.strip_suffix('W')?;
                Some(self.value(day).map(|day| format!("{day}W")))
            }
            Kind::DayOfWeek if part == "L" => {
                Some(Err("is 'last' of no weekday; write FRIL for the last Friday of the month".to_owned()))
            }
            Kind::DayOfWeek => {
                if let Some((day, nth)) = part.split_once('#') {
                    let nth = nth.parse::<u32>().ok().filter(|n| (1..=5).contains(n));
                    return Some(match (self.value(day), nth) {
                        (Ok(day), Some(nth)) => Ok(format!("{day}#{nth}")),
                        (Ok(_), None) => Err("has no number from 1 to 5 after '#'; write FRI#2".to_owned()),
                        (Err(why), _) => Err(why),
                    });
                }
                let day = part.strip_suffix('L')?;
                Some(self.value(day).map(|day| format!("{day}L")))
            }
            Kind::Time | Kind::Month => None,
        }
    }
}
