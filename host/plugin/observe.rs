//! What the author of a plugin sees of a run beside its outcome. The daemon's
//! engines show none of it: it costs a little, and a core dump has rows in it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::component::Component;
use wasmtime::{GuestProfiler, Store, StoreContextMut, WasmBacktrace, WasmCoreDump};

use super::engine::PROFILE_TICK;
use super::failed;
use super::meter::thread_cpu_time;
use super::store::State;
use crate::domain::PluginName;

/// What an engine shows of what it runs. Guests run as they do in the daemon,
/// under the same limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observe {
    /// Keep a guest's memory and stack when it traps.
    pub coredump: bool,
    /// Look every millisecond at what a guest computes.
    pub profile: bool,
}

/// What was seen of one run, however it ended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Observed {
    pub rows: u64,
    /// As they came from the dataset.
    pub batches: u64,
    /// Of the guest and of the host's work for it.
    pub cpu_time: Duration,
    pub peak_memory_bytes: u64,
    /// Calls of the contract's imports; 0 where nobody observes.
    pub host_calls: u64,
    /// What the host computed in them, which is part of `cpu_time`. Copying
    /// arguments and results in and out of the guest's memory is the guest's time.
    pub host_time: Duration,
    /// WebAssembly core dump of a trap. Like a profile, of what runs in this process alone.
    #[serde(skip)]
    pub coredump: Option<Vec<u8>>,
    #[serde(skip)]
    pub profile: Option<Profile>,
}

/// Where a guest spent its time.
#[derive(Debug, Default)]
pub struct Profile {
    /// JSON that <https://profiler.firefox.com> shows.
    pub firefox: Vec<u8>,
    /// CPU time by call stack, outermost first, demangled: what flame graphs are made of.
    pub stacks: BTreeMap<Vec<String>, Duration>,
}

/// The eye on one run.
#[derive(Default)]
pub struct Watch {
    /// None where nobody observes.
    host: Option<(u64, Duration)>,
    profiler: Option<Box<Profiler>>,
}

struct Profiler {
    guest: GuestProfiler,
    stacks: BTreeMap<Vec<String>, Duration>,
    /// CPU time of the thread at the last sample.
    seen: Duration,
}

impl Watch {
    /// `observe` is None for the daemon's runs.
    pub fn new(observe: Option<Observe>, name: &PluginName, code: &Component) -> wasmtime::Result<Self> {
        let Some(observe) = observe else { return Ok(Self::default()) };
        let profiler = match observe.profile {
            false => None,
            true => {
                let (engine, code) = (code.engine(), code.clone());
                let guest = GuestProfiler::new_component(engine, name.as_str(), PROFILE_TICK, code, [])?;
                Some(Box::new(Profiler { guest, stacks: BTreeMap::new(), seen: thread_cpu_time() }))
            }
        };
        Ok(Self { host: Some((0, Duration::ZERO)), profiler })
    }

    /// A call of the host begins; hand the answer to [`Watch::end`].
    pub fn begin(&self) -> Option<Duration> {
        self.host.is_some().then(thread_cpu_time)
    }

    pub fn end(&mut self, began: Option<Duration>) {
        if let (Some(began), Some((calls, time))) = (began, &mut self.host) {
            *calls += 1;
            *time += thread_cpu_time().saturating_sub(began);
        }
    }

    /// Epochs until the next look at the guest.
    pub fn ticks(&self, budget: u64) -> u64 {
        if self.profiler.is_some() { 1 } else { budget }
    }

    /// The guest's turn begins: what the thread did meanwhile is not the guest's.
    pub fn resume(&mut self) {
        if let Some(profiler) = &mut self.profiler {
            profiler.seen = thread_cpu_time();
        }
    }

    /// Takes a sample, if this run is profiled.
    pub fn sample(store: &mut StoreContextMut<'_, State>) {
        let Some(mut profiler) = store.data_mut().watch.profiler.take() else { return };
        let now = thread_cpu_time();
        let spent = now.saturating_sub(profiler.seen);
        profiler.seen = now;
        profiler.guest.sample(&*store, spent);
        let trace = WasmBacktrace::force_capture(&*store);
        let stack = trace.frames().iter().rev().map(failed::function).collect();
        *profiler.stacks.entry(stack).or_default() += spent;
        store.data_mut().watch.profiler = Some(profiler);
    }

    /// The core dump of a trap, if the engine makes one.
    pub fn coredump(error: &wasmtime::Error, store: &mut Store<State>, name: &PluginName) -> Option<Vec<u8>> {
        Some(error.downcast_ref::<WasmCoreDump>()?.serialize(store, name.as_str()))
    }

    /// Ends the watch.
    pub fn finish(&mut self) -> Observed {
        let (host_calls, host_time) = self.host.unwrap_or_default();
        let profile = self.profiler.take().map(|profiler| {
            let Profiler { guest, stacks, .. } = *profiler;
            let mut firefox = Vec::new();
            // Writing into memory does not fail.
            let _ = guest.finish(&mut firefox);
            Profile { firefox, stacks }
        });
        Observed { host_calls, host_time, profile, ..Observed::default() }
    }
}

impl Profile {
    /// One line for each stack: frames joined by `;`, and microseconds. What
    /// flame graph programs read.
    pub fn folded(&self) -> String {
        let line = |(stack, time): (&Vec<String>, &Duration)| {
            let frames: Vec<String> = stack.iter().map(|frame| frame.replace(';', ",")).collect();
            format!("{} {}\n", frames.join(";"), time.as_micros())
        };
        self.stacks.iter().filter(|(stack, _)| !stack.is_empty()).map(line).collect()
    }

    /// The functions that computed most themselves, with their part of all.
    pub fn hottest(&self, count: usize) -> Vec<(&str, f64)> {
        let all: Duration = self.stacks.values().sum();
        let mut own: BTreeMap<&str, Duration> = BTreeMap::new();
        for (stack, time) in &self.stacks {
            if let Some(last) = stack.last() {
                *own.entry(last).or_default() += *time;
            }
        }
        let mut own: Vec<(&str, Duration)> = own.into_iter().collect();
        own.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        own.truncate(count);
        let part = |time: Duration| time.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE);
        own.into_iter().map(|(name, time)| (name, part(time))).collect()
    }
}
