//! The calendar: a pure function from an instant to a schedule's next slot.
//! The rules, with examples, are in `docs/calendar.md`.

mod expression;
mod field;
mod steps;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, Weak};

use chrono_tz::Tz;

use crate::clock::Instant;
use crate::domain::Interval;
use expression::Expression;

/// A cron expression in a time zone. Slots are whole seconds on the UTC time
/// line. Cheap to clone: equal expressions share one parsed form.
#[derive(Clone)]
pub struct Calendar {
    expression: Arc<Expression>,
    zone: Tz,
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
        Ok(Self { expression: shared(text)?, zone })
    }

    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first slot strictly after `after`. None only at the ends of the time line.
    pub fn next(&self, after: Instant) -> Option<Instant> {
        steps::next(&self.expression, self.zone, after)
    }

    /// The last slot strictly before `at`.
    pub fn previous(&self, at: Instant) -> Option<Instant> {
        steps::previous(&self.expression, self.zone, at)
    }

    /// What the slot at `at` covers: from the slot before it to `at`. Also says
    /// what a run by hand at any other instant would cover.
    pub fn slot_at(&self, at: Instant) -> Interval {
        Interval { start: self.previous(at).unwrap_or(at), end: at }
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
