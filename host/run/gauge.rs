//! How far a delivery at work is, read from outside of it: whether it is slow or hangs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::delivery::Progress;

/// Clones are the same gauge.
#[derive(Clone, Default)]
pub struct Gauge(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    rows: u64,
    /// When the last of them came.
    moved: Option<Instant>,
    stored: Option<watch::Receiver<Progress>>,
}

/// What it shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Read from the dataset.
    pub rows: u64,
    /// Taken from the plugin or the files, before compression.
    pub bytes: u64,
    /// That the bucket has acknowledged.
    pub parts: u64,
    /// Since the last of all these; None when there was none yet.
    pub still: Option<Duration>,
}

impl Gauge {
    pub(super) fn follows(&self, stored: watch::Receiver<Progress>) {
        self.state(|state| *state = State { stored: Some(stored), ..State::default() });
    }

    pub(super) fn rows(&self, rows: usize) {
        self.state(|state| {
            state.rows += rows as u64;
            state.moved = Some(Instant::now());
        });
    }

    /// The delivery has got a session of its customer's role.
    pub fn has_session(&self) -> bool {
        self.state(|state| state.stored.is_some())
    }

    pub fn read(&self) -> Reading {
        self.state(|State { rows, moved, stored }| {
            let stored = stored.as_ref().map(|stored| *stored.borrow()).unwrap_or_default();
            let moved = (*moved).max(stored.moved);
            let still = moved.map(|moved| moved.elapsed());
            Reading { rows: *rows, bytes: stored.accepted_bytes, parts: stored.stored_parts, still }
        })
    }

    fn state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
