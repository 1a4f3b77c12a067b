//! The compiler and runtime that all plugins share.

use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, WasmBacktraceDetails};

use super::observe::Observe;

/// Length of an epoch: the grain of every budget.
pub const TICK: Duration = Duration::from_millis(10);

/// The same where each epoch is a sample.
pub const PROFILE_TICK: Duration = Duration::from_millis(1);

/// Frames of a trap that are worth showing.
pub const FRAMES_MAX: usize = 20;

/// Frames of a sample, so that what is called from deep below has its callers.
const PROFILE_FRAMES_MAX: usize = 200;

/// What host functions may use on a guest's stack beyond the guest's own share.
const HOST_STACK_BYTES: usize = 2 << 20;

/// An engine whose guests have this much stack: the one limit that belongs to
/// the engine and not to the store. Code compiled for one fits them all.
///
/// An author's engine also keeps what debug information a component has, so that
/// frames have lines. The code is the same.
pub fn new(stack_bytes: usize, observe: Option<Observe>) -> wasmtime::Result<Engine> {
    let (details, frames) = match observe {
        None => (WasmBacktraceDetails::Disable, FRAMES_MAX),
        Some(Observe { profile: false, .. }) => (WasmBacktraceDetails::Enable, FRAMES_MAX),
        Some(Observe { profile: true, .. }) => (WasmBacktraceDetails::Enable, PROFILE_FRAMES_MAX),
    };
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        // Memory keeps its default reservation and guards: without them each
        // access is checked by an instruction.
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_init_cow(true)
        // Epochs cost a third less than fuel, and the time they measure is what operators set.
        .epoch_interruption(true)
        .consume_fuel(false)
        .max_wasm_stack(stack_bytes)
        .async_stack_size(stack_bytes + HOST_STACK_BYTES)
        .concurrency_support(false)
        .wasm_component_model(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        // The same rows have to give the same bytes on every machine.
        .cranelift_nan_canonicalization(true)
        .wasm_memory64(false)
        .wasm_multi_memory(true)
        .wasm_backtrace_details(details)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(frames))
        .coredump_on_trap(observe.is_some_and(|observe| observe.coredump));
    Engine::new(&config)
}

/// Counts epochs on a thread of its own until the engine and everything that
/// was compiled with it are gone. A thread of the operating system, because a
/// tokio worker may be late exactly when a guest keeps the machine busy.
pub fn tick(engine: &Engine, observe: Option<Observe>) -> std::io::Result<()> {
    let engine = engine.weak();
    let tick = if observe.is_some_and(|observe| observe.profile) { PROFILE_TICK } else { TICK };
    std::thread::Builder::new().name("plugin-epoch".into()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(tick);
        }
    })?;
    Ok(())
}
