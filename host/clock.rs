//! The one place that reads the real clock, so that tests decide what time it is.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};

/// A point on the UTC time line.
pub type Instant = DateTime<Utc>;

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
