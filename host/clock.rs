//! The one place that reads the real clock, so that tests decide what time it is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// A point on the UTC time line.
pub type Instant = DateTime<Utc>;

/// RFC 3339, with as much of the second as there is: what tells instants apart.
pub fn exact(at: Instant) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// RFC 3339 to the second, for people.
pub fn to_the_second(at: Instant) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The instant that was `age` before `now`, or the first one of the time line.
pub fn ago(now: Instant, age: Duration) -> Instant {
    let age = TimeDelta::from_std(age).ok();
    age.and_then(|age| now.checked_sub_signed(age)).unwrap_or(Instant::MIN_UTC)
}

/// Tells the time. Clones share the same hands.
#[derive(Clone)]
pub struct Clock(Hands);

#[derive(Clone)]
enum Hands {
    System,
    Fixed(Arc<Mutex<Instant>>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Hands::System)
    }

    /// A clock that stands at `at` until [`Clock::set`] moves it.
    pub fn fixed(at: Instant) -> Self {
        Self(Hands::Fixed(Arc::new(Mutex::new(at))))
    }

    #[expect(clippy::disallowed_methods, reason = "the one reader of the real clock")]
    pub fn now(&self) -> Instant {
        match &self.0 {
            Hands::System => Utc::now(),
            Hands::Fixed(at) => *at.lock().unwrap_or_else(|poisoned| poisoned.into_inner()),
        }
    }

    /// Moves a fixed clock, forward or back; the system clock is left alone.
    pub fn set(&self, to: Instant) {
        if let Hands::Fixed(at) = &self.0 {
            *at.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = to;
        }
    }
}
