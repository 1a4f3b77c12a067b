//! The one place that reads the real clock, so that tests decide what time it is.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rustix::time::{ClockId, clock_gettime};

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

/// More than a clock that is kept right is ever put back.
const PUT_BACK_MAX: TimeDelta = TimeDelta::minutes(5);

/// A slot that is later than this is ahead of the clock, which told another time when it was planned: it does not
/// fire until then.
pub fn ahead_from(now: Instant) -> Instant {
    now.checked_add_signed(PUT_BACK_MAX).unwrap_or(now)
}

/// By how much more than has passed a clock may go on and be believed at once. S3 refuses the requests of a clock
/// that is off by more (RequestTimeTooSkewed).
const LEAP_MAX: TimeDelta = TimeDelta::minutes(15);

/// How long a clock that has leapt must stay there before it is believed.
const LEAP_HOLDS: Duration = Duration::from_secs(60);

/// Tells the time. Clones share the same hands.
#[derive(Clone)]
pub struct Clock(Hands);

#[derive(Clone)]
enum Hands {
    System,
    Steady(Arc<Mutex<Steady>>),
    Fixed(Arc<Mutex<Instant>>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Hands::System)
    }

    /// The machine's clock for a process that stays. Where it leaps ahead, it is believed a minute later: deadlines
    /// pass, and slots are missed, by no clock that is wrong for some seconds.
    pub fn steady() -> Self {
        Self(Hands::Steady(Arc::default()))
    }

    /// A clock that stands at `at` until [`Clock::set`] moves it.
    pub fn fixed(at: Instant) -> Self {
        Self(Hands::Fixed(Arc::new(Mutex::new(at))))
    }

    #[expect(clippy::disallowed_methods, reason = "the one reader of the real clock")]
    pub fn now(&self) -> Instant {
        match &self.0 {
            Hands::System => Utc::now(),
            Hands::Steady(steady) => lock(steady).now(Utc::now(), since_boot()),
            Hands::Fixed(at) => *lock(at),
        }
    }

    /// The same without steadiness: for what somebody else's clock decides, who does not wait for a minute.
    pub fn as_it_is(&self) -> Self {
        match &self.0 {
            Hands::System | Hands::Steady(_) => Self::system(),
            Hands::Fixed(at) => Self(Hands::Fixed(at.clone())),
        }
    }

    /// Moves a fixed clock, forward or back; the system clock is left alone.
    pub fn set(&self, to: Instant) {
        if let Hands::Fixed(at) = &self.0 {
            *lock(at) = to;
        }
    }
}

/// What a clock told last, and when that was.
#[derive(Default)]
struct Steady {
    told: Option<(Instant, Duration)>,
    /// Since when it is ahead of the time that has passed.
    ahead_since: Option<Duration>,
}

impl Steady {
    /// The time, when a machine that has been up for `up` says that it is `said`.
    fn now(&mut self, said: Instant, up: Duration) -> Instant {
        let passed =
            self.told.and_then(|(told, at)| told.checked_add_signed(TimeDelta::from_std(up.saturating_sub(at)).ok()?));
        let now = match passed {
            Some(passed) if said - passed > LEAP_MAX && !self.holds(said, up) => passed,
            _ => {
                self.ahead_since = None;
                said
            }
        };
        self.told = Some((now, up));
        now
    }

    fn holds(&mut self, said: Instant, up: Duration) -> bool {
        let since = *self.ahead_since.get_or_insert_with(|| {
            let seconds = LEAP_HOLDS.as_secs();
            tracing::warn!(
                to = to_the_second(said),
                seconds,
                "the clock leapt ahead: it is believed if it stays there"
            );
            up
        });
        up.saturating_sub(since) >= LEAP_HOLDS
    }
}

/// While the machine sleeps, too: what it has slept is no leap.
fn since_boot() -> Duration {
    let up = clock_gettime(ClockId::Boottime);
    Duration::try_from(up).unwrap_or_default()
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::UNIX_EPOCH;

    fn up(seconds: i64) -> Duration {
        Duration::from_secs(1_000 + u64::try_from(seconds).unwrap())
    }

    /// What is told where a clock says so much, each in seconds, and the machine has been up for so long.
    fn told(said: &[(i64, i64)]) -> Vec<i64> {
        let mut steady = Steady::default();
        let told = said.iter().map(|(at, seconds)| steady.now(START + TimeDelta::seconds(*at), up(*seconds)));
        told.map(|told| (told - START).num_seconds()).collect()
    }

    #[test]
    fn a_clock_that_leaps_is_believed_when_it_stays_there() {
        let (year, leap) = (365 * 86_400, 15 * 60);
        assert_eq!(told(&[(0, 0), (1, 1), (year + 2, 2), (year + 61, 61), (year + 62, 62)]), [0, 1, 2, 61, year + 62]);
        // For some seconds: nobody hears of it.
        assert_eq!(told(&[(0, 0), (year, 30), (31, 31), (year, 80), (120, 120)]), [0, 30, 31, 80, 120]);
        assert_eq!(told(&[(0, 0), (leap + 9, 9), (2 * leap + 20, 20)]), [0, leap + 9, 2 * leap + 20]);
        assert_eq!(told(&[(0, 0), (leap + 10, 9)]), [0, 9], "one second more");
    }

    #[test]
    fn what_passes_unseen_is_no_leap_and_back_is_believed_at_once() {
        assert_eq!(told(&[(0, 0), (86_400, 86_400)]), [0, 86_400]);
        assert_eq!(told(&[(0, 0), (-9_000, 1), (-8_999, 2), (-9_500, 3)]), [0, -9_000, -8_999, -9_500]);
        // It stays where it is, and is put back before a minute is over and after it.
        assert_eq!(told(&[(0, 0), (9_000, 10), (9_060, 70), (80, 80)]), [0, 10, 9_060, 80]);
    }
}
