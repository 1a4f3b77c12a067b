//! The world around a guest: parts of WASI 0.2 that are empty or pinned.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

use rand_core::TryRng;
use sha2::{Digest, Sha256};
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiView};

use super::logs::{Logs, Source};
use crate::clock::Instant;

/// Bytes of one request for random bytes.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// A context without arguments, environment, files and sockets, where the wall
/// clock stands at `at` and randomness follows from `seed`.
pub fn context(at: Instant, seed: &Seed, logs: &Logs) -> WasiCtx {
    WasiCtx::builder()
        .stdout(logs.stream(Source::Stdout))
        .stderr(logs.stream(Source::Stderr))
        .wall_clock(Pinned(Duration::new(u64::try_from(at.timestamp()).unwrap_or(0), at.timestamp_subsec_nanos())))
        .monotonic_clock(Counted(Cell::new(0)))
        .secure_random(seed.random("secure"))
        .insecure_random(seed.random("insecure"))
        .insecure_random_seed(seed.number("insecure seed"))
        .max_random_size(RANDOM_BYTES_MAX)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

/// Defines the interfaces that [`super::inspect`] allows, and no other.
pub fn link<T: WasiView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<T, Table>(linker, |t| t.ctx().table)?;
    io::poll::add_to_linker::<T, Table>(linker, |t| t.ctx().table)?;
    io::streams::add_to_linker::<T, Table>(linker, |t| t.ctx().table)?;
    clocks::wall_clock::add_to_linker::<T, WasiClocks>(linker, T::clocks)?;
    clocks::monotonic_clock::add_to_linker::<T, WasiClocks>(linker, T::clocks)?;
    random::random::add_to_linker::<T, WasiRandom>(linker, |t| t.ctx().ctx.random())?;
    random::insecure::add_to_linker::<T, WasiRandom>(linker, |t| t.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<T, WasiRandom>(linker, |t| t.ctx().ctx.random())?;
    cli::environment::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::exit::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::stdin::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::stdout::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::stderr::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    filesystem::types::add_to_linker::<T, WasiFilesystem>(linker, T::filesystem)?;
    filesystem::preopens::add_to_linker::<T, WasiFilesystem>(linker, T::filesystem)?;
    Ok(())
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// Where the randomness of a run comes from: the same slot and customer give
/// the same bytes in every attempt.
#[derive(Clone, Debug)]
pub struct Seed([u8; 32]);

impl Seed {
    pub fn new(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            // With its length, so that ("ab", "c") and ("a", "bc") differ.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    fn random(&self, purpose: &str) -> Random {
        let mut hash = Sha256::new_with_prefix(self.0);
        hash.update(purpose);
        Random { key: hash.finalize().into(), block: [0; 32], used: 32, counter: 0 }
    }

    fn number(&self, purpose: &str) -> u128 {
        let mut bytes = [0; 16];
        self.random(purpose).fill(&mut bytes);
        u128::from_le_bytes(bytes)
    }
}

/// SHA-256 in counter mode: its bytes stay the same whatever version of a
/// generator crate is linked.
struct Random {
    key: [u8; 32],
    block: [u8; 32],
    used: usize,
    counter: u64,
}

impl Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.block.len() {
                let mut hash = Sha256::new_with_prefix(self.key);
                hash.update(self.counter.to_le_bytes());
                self.block = hash.finalize().into();
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.fill(bytes);
        Ok(())
    }
}

struct Pinned(Duration);

impl HostWallClock for Pinned {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

/// Moves by a microsecond each time it is read, so that a guest that waits for
/// it to move does not hang and two runs still see the same.
struct Counted(Cell<u64>);

impl HostMonotonicClock for Counted {
    fn resolution(&self) -> u64 {
        1000
    }

    fn now(&self) -> u64 {
        let now = self.0.get();
        self.0.set(now + 1000);
        now
    }
}
