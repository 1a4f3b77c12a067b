//! The calendar: a pure function from an instant to a schedule's next slot.
//! The rules, with examples, are in `docs/calendar.md`.

mod expression;
mod field;
mod jitter;
mod steps;
mod when;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, Weak};

use chrono::TimeDelta;
use chrono_tz::Tz;

use crate::clock::Instant;
use crate::domain::Interval;
use expression::Expression;
pub use jitter::Jitter;
pub use when::When;

/// A cron expression in a time zone, from its start to its end if it has any.
/// Slots are whole seconds on the UTC time line. Cheap to clone: equal
/// expressions share one parsed form.
#[derive(Clone)]
pub struct Calendar {
    expression: Arc<Expression>,
    zone: Tz,
    /// No slot is before it.
    start: Option<Instant>,
    /// No slot is after it.
    end: Option<Instant>,
}

/// Clocks that were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub at: Instant,
    /// How far the clock on the wall went forward; back when negative.
    pub by: TimeDelta,
}

/// Why a text is no schedule. What to write instead follows a `; `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    #[error("schedule is empty; write five fields (minute, hour, day of month, month, day of week) such as 0 6 * * *")]
    Empty,
    #[error("schedule '{}' has {found} fields; write five (minute, hour, day of month, month, day of week) or six \
             with seconds first{}", text.trim(), if *found == 7 { "; there is no year field" } else { "" })]
    FieldCount { text: String, found: usize },
    /// `at` are the bytes of `text` that are wrong.
    #[error("schedule '{}' has '{}' as its {field} (column {}), which {why}", text.trim(), &text[at.clone()], at.start + 1)]
    Field { text: String, field: &'static str, at: Range<usize>, why: String },
    #[error("schedule '{}' is not a known name; write @hourly, @daily, @weekly, @monthly or @yearly{}", text.trim(),
            if text.trim().eq_ignore_ascii_case("@reboot") { " (starting consign is not a schedule)" } else { "" })]
    Nickname { text: String },
    #[error("schedule '{}' names a date that never comes; check its day of month against its months", text.trim())]
    NeverComes { text: String },
    #[error("schedule '{}' is not a cron expression ({why}); write five fields such as 0 6 * * *", text.trim())]
    Refused { text: String, why: String },
}

impl CalendarError {
    /// The bytes of the schedule's text that are wrong, when it is not the whole.
    pub fn span(&self) -> Option<Range<usize>> {
        match self {
            CalendarError::Field { at, .. } => Some(at.clone()),
            _ => None,
        }
    }
}

impl Calendar {
    /// Reads five fields, six with seconds first, or a name such as `@daily`.
    pub fn parse(text: &str, zone: Tz) -> Result<Self, CalendarError> {
        Ok(Self { expression: shared(text)?, zone, start: None, end: None })
    }

    /// The same with no slot before `start` and none after `end`. Intervals stay what they were.
    pub fn between(self, start: Option<Instant>, end: Option<Instant>) -> Self {
        Self { start, end, ..self }
    }

    /// The part of a stretch in which there may be slots; both ends are included.
    pub fn within(&self, from: Instant, to: Instant) -> Option<(Instant, Instant)> {
        let from = self.start.map_or(from, |start| start.max(from));
        let to = self.end.map_or(to, |end| end.min(to));
        (from <= to).then_some((from, to))
    }

    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first slot strictly after `after`. None after the last one, and at the end of the time line.
    pub fn next(&self, after: Instant) -> Option<Instant> {
        let after = match self.start {
            Some(start) if start > after => start.checked_sub_signed(TimeDelta::nanoseconds(1))?,
            _ => after,
        };
        self.endless_next(after).filter(|at| self.end.is_none_or(|end| *at <= end))
    }

    /// The last slot strictly before `at`.
    pub fn previous(&self, at: Instant) -> Option<Instant> {
        let at = match self.end {
            Some(end) if end < at => end.checked_add_signed(TimeDelta::nanoseconds(1))?,
            _ => at,
        };
        steps::previous(&self.expression, self.zone, at).filter(|at| self.start.is_none_or(|start| *at >= start))
    }

    /// What the slot at `at` covers: from the firing before it to `at`, also when
    /// that was before the calendar's start.
    pub fn slot_at(&self, at: Instant) -> Interval {
        Interval { start: steps::previous(&self.expression, self.zone, at).unwrap_or(at), end: at }
    }

    /// The change of clocks on the local day of `at`, if there is one.
    pub fn change_on_day_of(&self, at: Instant) -> Option<Change> {
        let day = at.with_timezone(&self.zone).date_naive();
        let second = TimeDelta::seconds(1);
        let from = When::Day(day).first(self.zone)?.checked_sub_signed(second)?;
        let to = When::Day(day.succ_opt()?).first(self.zone)?.checked_sub_signed(second)?;
        let at = steps::change_between(self.zone, from, to)?;
        Some(Change { at, by: steps::offset(self.zone, at) - steps::offset(self.zone, at - second) })
    }

    /// Firings go on after the end.
    fn endless_next(&self, after: Instant) -> Option<Instant> {
        steps::next(&self.expression, self.zone, after)
    }
}

impl std::fmt::Debug for Calendar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calendar").field("zone", &self.zone).finish_non_exhaustive()
    }
}

/// Thousands of shares use a few dozen expressions of 5 KB each. The table only
/// holds what some calendar still uses.
fn shared(text: &str) -> Result<Arc<Expression>, CalendarError> {
    static TABLE: LazyLock<Mutex<HashMap<String, Weak<Expression>>>> = LazyLock::new(Mutex::default);
    let key = text.trim().to_uppercase();
    let lookup = |key: &str| {
        let table = TABLE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        table.get(key).and_then(Weak::upgrade)
    };
    if let Some(known) = lookup(&key) {
        return Ok(known);
    }
    let parsed = Arc::new(Expression::parse(text)?);
    let mut table = TABLE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if table.len() >= 64 && table.len().is_power_of_two() {
        table.retain(|_, known| known.strong_count() > 0);
    }
    table.insert(key, Arc::downgrade(&parsed));
    Ok(parsed)
}
