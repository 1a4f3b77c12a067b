//! What a guest may use up, measured on the thread it runs on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio_util::sync::CancellationToken;
use wasmtime::ResourceLimiter;

use super::engine::TICK;
use super::failed::{Cause, Stop};
use super::spent::Spent;
use crate::limits::Limits;

/// Longest time between two looks at the budget, in epochs.
const LOOK_TICKS: u64 = 10;

/// CPU time, wall time and the wish to stop.
///
/// CPU time is the thread's own, so that neither waiting for an upload nor a
/// busy machine is charged to the guest. What the host computes for a guest
/// (its views of a batch) is.
#[derive(Debug)]
pub struct Meter {
    cpu_limit: Duration,
    wall_limit: Duration,
    began: Instant,
    used: Duration,
    since: Option<Duration>,
    /// By all instances of the delivery, but for what each has computed since it last looked.
    spent: Arc<Spent>,
    cancel: CancellationToken,
}

impl Meter {
    pub fn new(limits: &Limits, spent: Arc<Spent>, cancel: CancellationToken) -> Self {
        Self {
            cpu_limit: limits.cpu_time,
            wall_limit: limits.wall_time,
            began: Instant::now(),
            used: Duration::ZERO,
            since: None,
            spent,
            cancel,
        }
    }

    /// The guest's turn begins. Returns the epochs until the next look.
    pub fn resume(&mut self) -> u64 {
        self.since = Some(thread_cpu_time());
        self.ticks()
    }

    /// The guest's turn is over.
    pub fn pause(&mut self) {
        self.charge();
        self.since = None;
    }

    /// What the turn has taken so far is the delivery's.
    fn charge(&mut self) {
        let Some(since) = self.since else { return };
        let now = thread_cpu_time();
        let turn = now.saturating_sub(since);
        self.used += turn;
        self.spent.compute(turn);
        self.since = Some(now);
    }

    /// Of this instance.
    pub fn cpu_time(&self) -> Duration {
        self.used + self.turn()
    }

    fn turn(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| thread_cpu_time().saturating_sub(since))
    }

    fn spent(&self) -> Duration {
        self.spent.cpu_time() + self.turn()
    }

    /// Called while the guest computes: the epochs until the next look, or why it has to end.
    pub fn look(&mut self) -> Result<u64, Stop> {
        // Others of the delivery may be in turns of their own, which have no end.
        self.charge();
        if self.spent() >= self.cpu_limit {
            return Err(cpu_time(self.cpu_limit));
        }
        if self.began.elapsed() >= self.wall_limit {
            return Err(wall_time(self.wall_limit));
        }
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        Ok(self.ticks())
    }

    fn ticks(&self) -> u64 {
        let left = self.cpu_limit.saturating_sub(self.spent());
        let ticks = u64::try_from(left.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
        // One more, because the current epoch has already begun.
        ticks.saturating_add(1).min(LOOK_TICKS)
    }
}

pub fn cpu_time(limit: Duration) -> Stop {
    let limit = humantime::format_duration(limit);
    Stop::new(Cause::CpuTime, format!("used up its {limit} of CPU time"))
}

pub fn wall_time(limit: Duration) -> Stop {
    let limit = humantime::format_duration(limit);
    Stop::new(Cause::WallTime, format!("was not done after {limit}, waiting included"))
}

pub fn cancelled() -> Stop {
    Stop::new(Cause::Cancelled, "was ended because the run was given up")
}

pub fn thread_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Memory and tables, over everything a guest instantiates.
#[derive(Debug)]
pub struct Space {
    memory_limit: u64,
    memory: u64,
    memory_peak: u64,
    table_limit: usize,
    table: usize,
    /// What the last permitted step asked for, in case it is not carried out.
    memory_step: u64,
    table_step: usize,
}

impl Space {
    pub fn new(limits: &Limits) -> Self {
        Self {
            memory_limit: limits.memory_bytes,
            memory: 0,
            memory_peak: 0,
            table_limit: limits.table_elements,
            table: 0,
            memory_step: 0,
            table_step: 0,
        }
    }

    pub fn memory_peak(&self) -> u64 {
        self.memory_peak
    }
}

impl ResourceLimiter for Space {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let step = desired.saturating_sub(current) as u64;
        let wanted = self.memory.saturating_add(step);
        if wanted > self.memory_limit {
            let (wanted, limit) = (bytesize::ByteSize(wanted), bytesize::ByteSize(self.memory_limit));
            return Err(Stop::new(Cause::Memory, format!("wanted {wanted} of memory; its limit is {limit}")).into());
        }
        self.memory_step = step;
        self.memory = wanted;
        self.memory_peak = self.memory_peak.max(wanted);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory -= std::mem::take(&mut self.memory_step);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let step = desired.saturating_sub(current);
        let wanted = self.table.saturating_add(step);
        if wanted > self.table_limit {
            let limit = self.table_limit;
            return Err(Stop::new(Cause::Table, format!("wanted {wanted} table elements; its limit is {limit}")).into());
        }
        self.table_step = step;
        self.table = wanted;
        Ok(true)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.table -= std::mem::take(&mut self.table_step);
        Ok(())
    }

    // Interpreted languages come as some dozens of modules around one memory.
    fn instances(&self) -> usize {
        256
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        16
    }
}
