//! What one run owns while it lasts. Nothing outlives it and nothing is shared.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::Span;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::failed::{Cause, Stop};
use super::logs::Logs;
use super::meter::{Meter, Space};
use super::observe::Watch;
use super::output::Output;
use super::spent::Spent;
use super::wasi::{self, Seed};
use crate::clock::Instant;
use crate::limits::Limits;

/// Handles a guest may hold at the same time.
const HANDLES_MAX: usize = 50_000;

/// The host's side of one guest.
pub struct State {
    wasi: WasiCtx,
    pub table: ResourceTable,
    pub meter: Meter,
    pub space: Space,
    pub logs: Logs,
    pub span: Span,
    pub watch: Watch,
    output: Option<Box<Output>>,
    facts: Vec<(String, String)>,
}

/// What a run is given.
pub struct Setting<'a> {
    pub limits: &'a Limits,
    pub facts: Vec<(String, String)>,
    pub at: Instant,
    pub logs: Logs,
    pub span: Span,
    pub cancel: CancellationToken,
    /// None where nothing is written (`describe`, `check`).
    pub output: Option<Output>,
    pub spent: Arc<Spent>,
    /// As in [`super::Ends`].
    pub stem: Option<String>,
    pub watch: Watch,
}

/// A new store, under every limit.
pub fn new(engine: &Engine, setting: Setting<'_>) -> Store<State> {
    let Setting { limits, facts, at, logs, span, cancel, output, spent, stem, watch } = setting;
    let fact = |key: &str| facts.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value);
    // Not the run and not the attempt: a repeat must give the same bytes.
    let run = [fact("share"), fact("slot"), fact("customer")];
    // Instances of one delivery must not make up the same identity for two things.
    let seed = Seed::new(&[&run[..], stem.as_deref().as_slice()].concat());
    let mut table = ResourceTable::new();
    table.set_max_capacity(HANDLES_MAX);
    let state = State {
        wasi: wasi::context(at, &seed, &logs),
        table,
        meter: Meter::new(limits, spent, cancel),
        space: Space::new(limits),
        logs,
        span,
        watch,
        output: output.map(Box::new),
        facts,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.space);
    store.set_hostcall_fuel(limits.call_bytes);
    store.set_max_component_handles(HANDLES_MAX);
    store.epoch_deadline_callback(|mut store| {
        Watch::sample(&mut store);
        let State { meter, watch, .. } = store.data_mut();
        Ok(UpdateDeadline::Continue(watch.ticks(meter.look()?)))
    });
    store
}

impl State {
    /// The guest's turn begins. Returns the epochs until the next look at it.
    pub fn resume(&mut self) -> u64 {
        self.watch.resume();
        let budget = self.meter.resume();
        self.watch.ticks(budget)
    }

    /// What the host does for the guest, in one call.
    pub fn host<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let began = self.watch.begin();
        let done = work(self);
        self.watch.end(began);
        done
    }

    pub fn output(&mut self) -> Result<&mut Output, Stop> {
        self.output.as_deref_mut().ok_or_else(no_output)
    }

    /// For a moment in which the store is borrowed as well; see [`State::put_output`].
    pub fn take_output(&mut self) -> Result<Box<Output>, Stop> {
        self.output.take().ok_or_else(no_output)
    }

    pub fn put_output(&mut self, output: Box<Output>) {
        self.output = Some(output);
    }

    pub fn fact(&self, key: &str) -> Option<&str> {
        self.facts.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

fn no_output() -> Stop {
    Stop::new(Cause::Protocol, "wrote output outside of `write` and `finish`")
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
