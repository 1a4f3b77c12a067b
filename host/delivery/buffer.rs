//! Bytes that wait to become a part. In memory while there is room for them; the
//! rest of a large part, and of many open objects, in temporary files without a name.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use sha2::{Digest as _, Sha256};

use super::contents::{Contents, Spilled};
use super::parts::Checksum;
use crate::domain::hex;

/// What of a part may be in memory, while it waits and while it is sent. A larger
/// part is in a file.
pub(super) const PART_MEMORY_BYTES: u64 = 8 << 20;

/// What the open objects of a delivery hold in memory together.
pub(super) struct Room {
    used: AtomicU64,
    bytes_max: u64,
    spill_dir: PathBuf,
    /// Whether what a file holds is hashed on its way in, to sign requests by it.
    signed: bool,
}

impl Room {
    pub(super) fn new(bytes_max: u64, spill_dir: PathBuf, signed: bool) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), bytes_max, spill_dir, signed })
    }

    pub(super) fn spill_dir(&self) -> &Path {
        &self.spill_dir
    }

    fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.bytes_max
    }
}

/// The bytes of one object that are in no part yet.
pub(super) struct Buffer {
    memory: BytesMut,
    spill: Option<Spill>,
    room: Arc<Room>,
}

impl Buffer {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self { memory: BytesMut::new(), spill: None, room }
    }

    pub(super) fn len(&self) -> u64 {
        self.spill.as_ref().map_or(0, |spill| spill.bytes) + self.memory.len() as u64
    }

    /// Whether [`Buffer::spill`] should be called, if this is not a part yet.
    pub(super) fn wants_to_spill(&self) -> bool {
        !self.memory.is_empty() && (self.memory.len() as u64 >= PART_MEMORY_BYTES || self.room.is_full())
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.memory.extend_from_slice(bytes);
        self.room.used.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    /// Moves what is in memory to the file. Blocks.
    pub(super) fn spill(&mut self) -> io::Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::begin(&self.room)?),
        };
        spill.write(&self.memory)?;
        self.release();
        self.memory = BytesMut::new();
        Ok(())
    }

    /// All of it as a part. Blocks when there is a file.
    pub(super) fn take(&mut self) -> io::Result<Contents> {
        if self.spill.is_some() || self.memory.len() as u64 > PART_MEMORY_BYTES {
            self.spill()?;
        }
        if let Some(spill) = self.spill.take() {
            return Ok(spill.end());
        }
        self.release();
        Ok(Contents::in_memory(self.memory.split().freeze()))
    }

    fn release(&self) {
        self.room.used.fetch_sub(self.memory.len() as u64, Ordering::Relaxed);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.release();
    }
}

/// A file that is being written. Gone with the last who holds it, also when this
/// process is killed, because it has no name.
struct Spill {
    file: File,
    bytes: u64,
    checksum: Checksum,
    sha256: Option<Sha256>,
}

impl Spill {
    fn begin(room: &Room) -> io::Result<Self> {
        std::fs::create_dir_all(&room.spill_dir)?;
        let file = tempfile::tempfile_in(&room.spill_dir)?;
        Ok(Self { file, bytes: 0, checksum: Checksum::default(), sha256: room.signed.then(Sha256::new) })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        self.checksum = self.checksum.then(Checksum::of(bytes), bytes.len() as u64);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        Ok(())
    }

    fn end(self) -> Contents {
        let sha256 = self.sha256.map(|sha256| hex(&sha256.finalize()));
        Contents::in_file(self.checksum, Spilled { file: Arc::new(self.file), bytes: self.bytes, sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(contents: &Contents) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < contents.len() {
            bytes.extend_from_slice(&contents.piece(bytes.len() as u64).unwrap());
        }
        assert!(contents.piece(contents.len()).unwrap().is_empty(), "nothing comes after the end");
        bytes
    }

    #[test]
    fn what_goes_in_comes_out_through_memory_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let room = Room::new(10, dir.path().into(), true);
        let mut buffer = Buffer::new(room.clone());
        buffer.push(b"0123456789");
        assert!(!buffer.wants_to_spill());
        buffer.push(b"abc");
        assert!(buffer.wants_to_spill());
        buffer.spill().unwrap();
        buffer.push(b"def");
        assert_eq!(buffer.len(), 16);
        let whole = b"0123456789abcdef";
        let part = buffer.take().unwrap();
        assert_eq!((read(&part).as_slice(), buffer.len()), (&whole[..], 0));
        assert_eq!(part.checksum.base64(), Checksum::of(whole).base64());
        assert_eq!(part.sha256().unwrap(), hex(&Sha256::digest(whole)));
        buffer.push(b"next");
        let part = buffer.take().unwrap();
        assert_eq!((read(&part).as_slice(), part.sha256()), (&b"next"[..], None), "from memory again");
        buffer.push(b"left over");
        drop(buffer);
        assert_eq!(room.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_large_part_is_in_a_file_whatever_room_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut buffer = Buffer::new(Room::new(u64::MAX, dir.path().into(), false));
        let bytes: Vec<u8> = (0..PART_MEMORY_BYTES + 1).map(|i| (i / 1000) as u8).collect();
        let (most, last) = bytes.split_at(bytes.len() - 1);
        buffer.push(most);
        assert!(matches!(buffer.take().unwrap().piece(0), Ok(whole) if whole.len() == most.len()), "in memory");
        // As it comes, or all at once.
        for spills in [true, false] {
            buffer.push(most);
            assert!(buffer.wants_to_spill());
            if spills {
                buffer.spill().unwrap();
            }
            buffer.push(last);
            let part = buffer.take().unwrap();
            assert!(part.piece(0).unwrap().len() < most.len(), "in pieces");
            assert!(read(&part) == bytes);
            assert_eq!((part.checksum.base64(), part.sha256()), (Checksum::of(&bytes).base64(), None));
        }
    }
}
