//! Bytes that wait to become a part. In memory while there is room for it; when
//! many objects are open at the same time, in a temporary file without a name.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};

/// What the open objects of a delivery hold in memory together.
pub(super) struct Room {
    used: AtomicU64,
    bytes_max: u64,
    spill_dir: PathBuf,
}

impl Room {
    pub(super) fn new(bytes_max: u64, spill_dir: PathBuf) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), bytes_max, spill_dir })
    }

    fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.bytes_max
    }
}

/// The bytes of one object that are in no part yet.
pub(super) struct Buffer {
    memory: BytesMut,
    spilled: Option<File>,
    spilled_bytes: u64,
    room: Arc<Room>,
}

impl Buffer {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self { memory: BytesMut::new(), spilled: None, spilled_bytes: 0, room }
    }

    pub(super) fn len(&self) -> u64 {
        self.spilled_bytes + self.memory.len() as u64
    }

    /// Whether [`Buffer::spill`] should be called.
    pub(super) fn wants_to_spill(&self) -> bool {
        !self.memory.is_empty() && self.room.is_full()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.memory.extend_from_slice(bytes);
        self.room.used.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    /// Moves what is in memory to the file. Blocks.
    pub(super) fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.spilled {
            Some(file) => file,
            none => none.insert(unnamed(&self.room.spill_dir)?),
        };
        file.write_all(&self.memory)?;
        self.spilled_bytes += self.memory.len() as u64;
        self.release(self.memory.len() as u64);
        self.memory = BytesMut::new();
        Ok(())
    }

    /// The first `count` bytes, those in the file included. Blocks when there is a file.
    pub(super) fn take(&mut self, count: u64) -> io::Result<Bytes> {
        if self.spilled_bytes == 0 {
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.memory.len());
            self.release(count as u64);
            return Ok(self.memory.split_to(count).freeze());
        }
        let mut part = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
        if let Some(mut file) = self.spilled.take() {
            file.rewind()?;
            file.read_to_end(&mut part)?;
        }
        self.spilled_bytes = 0;
        // What was spilled is at most a part: it is cut as soon as there is enough.
        let rest = usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(part.len()).min(self.memory.len());
        self.release(rest as u64);
        part.extend_from_slice(&self.memory.split_to(rest));
        Ok(part.into())
    }

    fn release(&self, count: u64) {
        self.room.used.fetch_sub(count, Ordering::Relaxed);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.release(self.memory.len() as u64);
    }
}

fn unnamed(dir: &Path) -> io::Result<File> {
    std::fs::create_dir_all(dir)?;
    tempfile::tempfile_in(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_through_memory_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let room = Room::new(10, dir.path().into());
        let mut buffer = Buffer::new(room.clone());
        buffer.push(b"0123456789");
        assert!(!buffer.wants_to_spill());
        buffer.push(b"abc");
        assert!(buffer.wants_to_spill());
        buffer.spill().unwrap();
        buffer.push(b"def");
        assert_eq!(buffer.len(), 16);
        assert_eq!(buffer.take(14).unwrap(), &b"0123456789abcd"[..]);
        assert_eq!(buffer.take(2).unwrap(), &b"ef"[..]);
        buffer.push(b"left over");
        drop(buffer);
        assert_eq!(room.used.load(Ordering::Relaxed), 0);
    }
}
