//! What the instances that make one delivery have used up together, held against
//! limits that are the delivery's.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::limits::Limits;

/// Of one delivery. Nothing is ever given back.
#[derive(Debug, Default)]
pub struct Spent {
    cpu_nanos: AtomicU64,
    output_bytes: AtomicU64,
    objects: AtomicU32,
    log_lines: AtomicU32,
}

impl Spent {
    /// Goes on from what was used up elsewhere.
    pub fn from_cpu_time(used: Duration) -> Self {
        let spent = Self::default();
        spent.compute(used);
        spent
    }

    pub fn cpu_time(&self) -> Duration {
        Duration::from_nanos(self.cpu_nanos.load(Ordering::Relaxed))
    }

    pub fn compute(&self, time: Duration) {
        self.cpu_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether so many more bytes of output are within the limit.
    pub fn write(&self, bytes: usize, limits: &Limits) -> bool {
        let before = self.output_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        before.saturating_add(bytes as u64) <= limits.output_bytes
    }

    /// Whether one more object is.
    pub fn begin_object(&self, limits: &Limits) -> bool {
        self.objects.fetch_add(1, Ordering::Relaxed) < limits.objects
    }

    /// Whether one more line of the log is.
    pub fn log(&self, limit: u32) -> bool {
        self.log_lines.fetch_add(1, Ordering::Relaxed) < limit
    }
}
