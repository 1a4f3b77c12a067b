//! Forgets what ended long ago, so that the ledger does not grow for ever.

use std::time::{Duration, Instant as Monotonic};

use chrono::TimeDelta;
use tokio::sync::watch;

use crate::clock::{Clock, Instant, ago};
use crate::crash::{self, Point};
use crate::domain::Failure;
use crate::ledger::Ledger;

const EVERY: Duration = Duration::from_secs(3600);

/// How old something is, as far as that can be known: a clock that is ahead when the daemon starts would have it
/// forget everything.
pub(super) struct Age {
    clock: Clock,
    /// When the last run had begun before this daemon started.
    last: Option<Instant>,
    started: Monotonic,
}

impl Age {
    pub fn new(clock: Clock, last: Option<Instant>) -> Self {
        Self { clock, last, started: Monotonic::now() }
    }

    fn now(&self) -> Instant {
        reckoned(self.clock.now(), self.last, self.started.elapsed())
    }
}

/// The clock's time, but not more after the last run than this daemon has been there.
fn reckoned(now: Instant, last: Option<Instant>, up: Duration) -> Instant {
    last.and_then(|last| last.checked_add_signed(TimeDelta::from_std(up).ok()?)).map_or(now, |known| now.min(known))
}

/// Never ends. A failure is told and tried again at the next hour: it keeps
/// nothing from being delivered.
pub(super) async fn keep(ledger: Ledger, age: Age, retention: watch::Receiver<Duration>) {
    loop {
        let before = ago(age.now(), *retention.borrow());
        match ledger.prune(before).await {
            Ok(0) => {}
            Ok(slots) => {
                crash::point(Point::Pruned);
                tracing::info!(slots, "forgot what ended before the ledger's retention");
            }
            Err(error) => tracing::warn!(error = Failure::chain(&error), "cannot forget old slots"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_ahead_makes_nothing_old() {
        let last = Instant::UNIX_EPOCH;
        let (year, hour) = (TimeDelta::days(365), TimeDelta::hours(1));
        assert_eq!(reckoned(last + year, Some(last), Duration::ZERO), last);
        assert_eq!(reckoned(last + year, Some(last), EVERY), last + hour);
        assert_eq!(reckoned(last - hour, Some(last), EVERY), last - hour, "the last run began while it was ahead");
        assert_eq!(reckoned(last + year, None, EVERY), last + year, "nothing is there to forget");
    }
}
