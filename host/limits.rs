//! What one plugin may use up in one delivery.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Deliveries at work at the same time, at most.
pub const CONCURRENCY_MAX: usize = 1024;

/// The part of `all` places that one of `several` may have, so that it leaves some to
/// the others: the only one has all, one of four or more a quarter.
pub fn places_of_one(all: usize, several: usize) -> usize {
    all.div_ceil(several.clamp(1, 4))
}

/// Objects of one delivery that may be open at the same time while the host
/// compresses them: each has a thread and an encoder.
pub const COMPRESSED_OBJECTS_OPEN: usize = 64;

/// What those encoders may hold together, in bytes; of large ones fewer may be open.
pub const ENCODER_BYTES: usize = 384 << 20;

/// Where what a plugin says is cut: a log line, an error, a finding.
pub const SAID_BYTES_MAX: usize = 4 << 10;

/// What stands between a plugin and the daemon, besides WebAssembly itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Nothing: it runs in the daemon's process.
    #[default]
    InProcess,
    /// A process of its own, that may do nothing but compute and talk to the daemon.
    Process,
}

impl Isolation {
    pub const ALL: [Self; 2] = [Self::Process, Self::InProcess];

    /// What each is called in the configuration, in the same order.
    pub const NAMES: [&str; 2] = [Self::Process.as_str(), Self::InProcess.as_str()];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProcess => "in-process",
            Self::Process => "process",
        }
    }
}

/// Limits of one plugin instance. Every one of them ends the plugin, never the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// Linear memory, all memories together, in bytes.
    pub memory_bytes: u64,
    /// Time spent computing in the guest; waiting for uploads does not count.
    pub cpu_time: Duration,
    /// Time from first call to last, waiting included.
    pub wall_time: Duration,
    /// Bytes over all objects, before compression.
    pub output_bytes: u64,
    /// Objects of one delivery.
    pub objects: u32,
    /// Log lines, those on stdout and stderr included.
    pub log_lines: u32,
    /// Native stack for guest calls, in bytes.
    pub stack_bytes: usize,
    /// Elements over all tables.
    pub table_elements: usize,
    /// Bytes handed over in one call to the host.
    pub call_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            cpu_time: Duration::from_secs(30 * 60),
            wall_time: Duration::from_secs(4 * 60 * 60),
            output_bytes: 1 << 40,
            objects: 10_000,
            log_lines: 10_000,
            stack_bytes: 1 << 20,
            table_elements: 100_000,
            call_bytes: 16 << 20,
        }
    }
}
