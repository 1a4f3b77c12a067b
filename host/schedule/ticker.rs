//! Wakes the planner every second. Nothing depends on it but lateness, because
//! tokio-cron-scheduler may lose, double or delay a tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_cron_scheduler::{Job, JobScheduler};

use super::ScheduleError;

/// One UTC job that ticks every second, and a watchdog that wakes in its place when it stops.
pub struct Ticker {
    pulse: Arc<Pulse>,
    scheduler: JobScheduler,
    watchdog: JoinHandle<()>,
}

#[derive(Default)]
struct Pulse {
    wake: Notify,
    ticks: AtomicU64,
}

impl Ticker {
    /// Ticks begin within about two seconds. Without one for `patience` the watchdog wakes instead.
    pub async fn start(patience: Duration) -> Result<Self, ScheduleError> {
        let failed = |error: tokio_cron_scheduler::JobSchedulerError| ScheduleError::Clock { why: error.to_string() };
        let pulse = Arc::new(Pulse::default());
        let scheduler = JobScheduler::new().await.map_err(failed)?;
        let ticking = Arc::clone(&pulse);
        let job = Job::new("* * * * * *", move |_, _| ticking.tick()).map_err(failed)?;
        scheduler.add(job).await.map_err(failed)?;
        scheduler.start().await.map_err(failed)?;
        let watchdog = tokio::spawn(watch(Arc::clone(&pulse), patience));
        Ok(Self { pulse, scheduler, watchdog })
    }

    /// Waits for the next wake. Wakes that nobody waited for count as one.
    pub async fn wake(&self) {
        self.pulse.wake.notified().await;
    }

    /// Ticks so far, the watchdog's wakes not counted.
    pub fn ticks(&self) -> u64 {
        self.pulse.ticks.load(Ordering::Relaxed)
    }

    pub async fn stop(mut self) {
        self.watchdog.abort();
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::warn!(error = %error, "the clock did not stop cleanly");
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.watchdog.abort();
    }
}

impl Pulse {
    fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        self.wake.notify_one();
    }
}

/// What the watchdog knows of the clock.
#[derive(Default)]
struct Watchdog {
    seen: u64,
    stopped: bool,
}

impl Watchdog {
    /// Whether the clock has stopped since the last look; told when that changes.
    fn looks(&mut self, ticks: u64, patience: Duration) -> bool {
        let stands = ticks == self.seen;
        self.seen = ticks;
        if stands != self.stopped {
            self.stopped = stands;
            if stands {
                tracing::warn!(
                    patience_s = patience.as_secs(),
                    "the clock stopped ticking; the watchdog wakes the planner"
                );
            } else {
                tracing::info!("the clock ticks again");
            }
        }
        stands
    }
}

async fn watch(pulse: Arc<Pulse>, patience: Duration) {
    let mut every = tokio::time::interval(patience);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    every.tick().await;
    let mut watchdog = Watchdog { seen: pulse.ticks.load(Ordering::Relaxed), stopped: false };
    loop {
        every.tick().await;
        if watchdog.looks(pulse.ticks.load(Ordering::Relaxed), patience) {
            pulse.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_watchdog_wakes_when_no_tick_comes() {
        let pulse = Arc::new(Pulse::default());
        let watchdog = tokio::spawn(watch(Arc::clone(&pulse), Duration::from_millis(5)));
        for _ in 0..3 {
            pulse.wake.notified().await;
        }
        assert_eq!(pulse.ticks.load(Ordering::Relaxed), 0);
        watchdog.abort();
    }

    #[test]
    fn the_watchdog_wakes_while_the_clock_stands_and_no_longer() {
        let mut watchdog = Watchdog::default();
        let looks = [(3, false), (6, false), (6, true), (6, true), (7, false), (9, false), (9, true), (10, false)];
        for (ticks, wakes) in looks {
            assert_eq!(watchdog.looks(ticks, Duration::from_secs(5)), wakes, "at tick {ticks}");
            assert_eq!(watchdog.stopped, wakes, "at tick {ticks}");
        }
    }

    /// Whoever waits is woken while ticks stop for long, and by ticks when they come back.
    #[tokio::test]
    async fn a_clock_that_stops_and_comes_back_wakes_all_the_time() {
        let pulse = Arc::new(Pulse::default());
        let watchdog = tokio::spawn(watch(Arc::clone(&pulse), Duration::from_millis(20)));
        for round in 1..=3 {
            for _ in 0..5 {
                pulse.tick();
                pulse.wake.notified().await;
            }
            assert_eq!(pulse.ticks.load(Ordering::Relaxed), 5 * round);
            // It stands for three of the watchdog's looks.
            for _ in 0..3 {
                tokio::time::timeout(Duration::from_secs(60), pulse.wake.notified()).await.expect("a wake");
            }
            assert_eq!(pulse.ticks.load(Ordering::Relaxed), 5 * round, "nobody ticked");
        }
        watchdog.abort();
    }

    #[tokio::test]
    async fn the_clock_ticks() {
        let ticker = Ticker::start(Duration::from_secs(3600)).await.unwrap();
        ticker.wake().await;
        ticker.wake().await;
        assert!(ticker.ticks() >= 2);
        ticker.stop().await;
    }
}
