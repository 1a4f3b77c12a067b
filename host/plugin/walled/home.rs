//! The daemon, as the worker speaks to it: on the thread of the guest, which waits for no
//! other thread that way.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::lanes::{Slot, Slots};
use super::wire::{self, Answer};
use crate::domain::OutputEvent;
use crate::plugin::logs::Source;

/// Clones speak to the same daemon.
#[derive(Clone)]
pub struct Home(Arc<Inner>);

struct Inner {
    socket: Mutex<UnixStream>,
    slots: Mutex<Slots>,
    /// Batches that the plugin is done with and that the daemon was not told of yet.
    done: AtomicU8,
}

impl Home {
    pub fn new(socket: UnixStream, slots: Slots) -> Self {
        Self(Arc::new(Inner { socket: Mutex::new(socket), slots: Mutex::new(slots), done: AtomicU8::new(0) }))
    }

    /// Where a chunk is gathered that need not be copied again; None when there are enough of them.
    pub fn gather(&self) -> Option<Slot> {
        lock(&self.0.slots).gather()
    }

    /// Sends what the guest writes; waits while the daemon is behind.
    pub fn output(&self, event: &OutputEvent) -> io::Result<()> {
        let slot = match event {
            OutputEvent::Bytes { bytes, .. } => Some(lock(&self.0.slots).send(bytes)?),
            _ => None,
        };
        self.send(&wire::output_frame(event, slot)?)
    }

    pub fn line(&self, source: Source, text: &str) -> io::Result<()> {
        wire::tell_line(&mut *lock(&self.0.socket), source, text)
    }

    pub fn answer(&self, answer: &Answer) -> io::Result<()> {
        wire::tell_answer(&mut *lock(&self.0.socket), answer)
    }

    /// There is room for another batch, as the daemon is told with what is said next of them.
    pub fn done(&self) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells of the batches that the plugin is done with.
    pub fn freed(&self) -> io::Result<()> {
        match self.0.done.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            count => self.send(&wire::freed_frame(&[count])?),
        }
    }

    /// Tells of these, and of the one that the plugin gets: one word, because each wakes the daemon.
    pub fn begun(&self, batch_number: u64) -> io::Result<()> {
        let mut frames = wire::begun_frame(batch_number)?;
        match self.0.done.swap(0, Ordering::Relaxed) {
            0 => {}
            count => frames.extend(wire::freed_frame(&[count])?),
        }
        self.send(&frames)
    }

    fn send(&self, frames: &[u8]) -> io::Result<()> {
        lock(&self.0.socket).write_all(frames)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
