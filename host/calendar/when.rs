//! A day or a point in time, as people write it.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use chrono_tz::Tz;

use super::steps;
use crate::clock::Instant;
use crate::domain::Invalid;

/// What somebody means by `2026-01-31`, `2026-01-31T06:00:00` or `2026-01-31T06:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// A whole day of a zone.
    Day(NaiveDate),
    /// As the clock of a zone shows it.
    Local(NaiveDateTime),
    At(Instant),
}

impl When {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let day = || text.parse().map(When::Day).ok();
        let local = || text.parse().map(When::Local).ok();
        let at = || DateTime::parse_from_rfc3339(text).map(|at| When::At(at.to_utc())).ok();
        let wrong = || Invalid::new("is not a date or an instant; write 2026-01-31 or 2026-01-31T06:00:00Z");
        day().or_else(local).or_else(at).ok_or_else(wrong)
    }

    /// The first moment of it. None at the ends of the time line.
    pub fn first(self, zone: Tz) -> Option<Instant> {
        match self {
            When::Day(day) => steps::settle(zone, day.and_time(NaiveTime::MIN)),
            When::Local(wall) => steps::settle(zone, wall),
            When::At(at) => Some(at),
        }
    }

    /// The last moment of it: the end of a day, or the instant itself.
    pub fn last(self, zone: Tz) -> Option<Instant> {
        match self {
            When::Day(day) => When::Day(day.succ_opt()?).first(zone)?.checked_sub_signed(TimeDelta::nanoseconds(1)),
            _ => self.first(zone),
        }
    }
}
