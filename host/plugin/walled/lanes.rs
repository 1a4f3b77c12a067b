//! Memory that the daemon and a worker have in common, for what is too much to go
//! through a socket: rows one way, output the other.
//!
//! Each lane has one side that writes. The rows' cannot be written by the worker at
//! all, by the kernel's word; what the worker writes into the other, the daemon copies
//! once and takes for bytes that mean nothing to it. Neither can be made shorter, which
//! would end whoever reads it. What is where is said in the socket ([`super::wire`]),
//! where the daemon holds it against the lane's size.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::alloc::Allocation;
use arrow::buffer::Buffer;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Batches that are on their way or with the plugin at the same time.
pub const BATCHES: usize = 3;

/// Of a batch, as it is sent: what the contract allows, and what Arrow's stream adds.
/// A longer one goes through the socket.
const BATCH_BYTES: usize = 17 << 20;

/// Chunks of output that are on their way at the same time.
pub const CHUNKS: usize = 8;

/// Of these, how many are freed by one word.
pub const CHUNKS_FREED: u8 = 4;

/// Of a chunk of output.
const CHUNK_BYTES: usize = crate::plugin::output::CHUNK_BYTES;

/// Slots of one size, used one after the other: each side counts for itself whose turn it is.
pub struct Lane {
    map: MmapRaw,
    slot_bytes: usize,
    turn: AtomicUsize,
}

/// Both lanes, as one side has them.
pub struct Lanes {
    pub rows: Lane,
    pub output: Lane,
}

impl Lanes {
    /// For the daemon, which passes them on through the socket.
    pub fn make(socket: &UnixStream) -> io::Result<Self> {
        let fixed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        let rows = memory("consign-rows", BATCHES * BATCH_BYTES)?;
        let output = memory("consign-output", CHUNKS * CHUNK_BYTES)?;
        // From here on nobody can get what may write the rows but who has it already.
        let lanes = Self {
            rows: Lane::new(MmapOptions::new().map_raw(&rows)?, BATCH_BYTES),
            output: Lane::new(MmapOptions::new().map_raw_read_only(&output)?, CHUNK_BYTES),
        };
        fcntl_add_seals(&rows, fixed | SealFlags::FUTURE_WRITE)?;
        fcntl_add_seals(&output, fixed)?;
        let files = [rows.as_fd(), output.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
        Ok(lanes)
    }

    /// For the worker, before anything else is read from the socket.
    pub fn take(socket: &UnixStream) -> io::Result<Self> {
        let [rows, output] = passed(socket)?;
        Ok(Self {
            rows: Lane::new(MmapOptions::new().map_raw_read_only(&rows)?, BATCH_BYTES),
            output: Lane::new(MmapOptions::new().map_raw(&output)?, CHUNK_BYTES),
        })
    }
}

/// The open files that came with the first byte.
fn passed(socket: &UnixStream) -> io::Result<[OwnedFd; 2]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let files: Vec<OwnedFd> = control
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => files.collect(),
            _ => Vec::new(),
        })
        .collect();
    files.try_into().map_err(|_| io::Error::other("it was passed no memory"))
}

fn memory(name: &str, bytes: usize) -> io::Result<File> {
    let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.set_len(bytes as u64)?;
    Ok(file)
}

impl Lane {
    fn new(map: MmapRaw, slot_bytes: usize) -> Self {
        Self { map, slot_bytes, turn: AtomicUsize::new(0) }
    }

    pub fn fits(&self, bytes: usize) -> bool {
        bytes <= self.slot_bytes
    }

    /// Writes the next slot, which nobody may be reading.
    pub fn write<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        let (slot, mut written) = (self.slot(), 0);
        for piece in pieces {
            if !self.fits(written + piece.len()) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let to = slot.wrapping_add(written);
            // SAFETY: all of it is within the slot, as seen above, and so within the mapping,
            // which is this side's to write; no reference to it is ever made on this side.
            unsafe { to.copy_from_nonoverlapping(piece.as_ptr(), piece.len()) };
            written += piece.len();
        }
        self.is_used();
        Ok(())
    }

    /// A copy of the beginning of the next slot. None when the slot is not so long.
    pub fn copy(&self, bytes: usize) -> Option<Vec<u8>> {
        if !self.fits(bytes) {
            return None;
        }
        let mut copy = Vec::with_capacity(bytes);
        // SAFETY: both are so long. Should the other side write at the same time, against
        // what was agreed, the bytes are any bytes, which is what they are taken for.
        unsafe {
            self.slot().copy_to_nonoverlapping(copy.as_mut_ptr(), bytes);
            copy.set_len(bytes);
        }
        self.is_used();
        Some(copy)
    }

    /// The beginning of the next slot, without a copy; `owner` has this lane.
    ///
    /// # Safety
    ///
    /// Until the owner is dropped, the other side does not write the slot.
    pub unsafe fn lend(&self, bytes: usize, owner: Arc<dyn Allocation>) -> Option<Buffer> {
        let slot = NonNull::new(self.slot()).filter(|_| self.fits(bytes))?;
        self.is_used();
        // SAFETY: it is so long, mapped as long as its owner is there, and does not change.
        Some(unsafe { Buffer::from_custom_allocation(slot, bytes, owner) })
    }

    fn slot(&self) -> *mut u8 {
        let slots = self.map.len() / self.slot_bytes;
        self.map.as_mut_ptr().wrapping_add(self.turn.load(Ordering::Relaxed) % slots * self.slot_bytes)
    }

    /// One thread of this side writes, or reads: what it tells the other side goes through the socket.
    fn is_used(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::ftruncate;

    use super::*;

    #[test]
    fn rows_are_written_by_the_daemon_alone_and_neither_lane_can_be_cut() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let lanes = Lanes::make(&ours).unwrap();
        let [rows, output] = passed(&theirs).unwrap();
        assert!(MmapOptions::new().map_raw(&rows).is_err());
        assert!(File::from(rows.try_clone().unwrap()).set_len(1).is_err());
        assert!(ftruncate(&output, 0).is_err());
        // Also where it is written already.
        lanes.rows.write([&b"rows"[..]].into_iter()).unwrap();
        let theirs = Lane::new(MmapOptions::new().map_raw_read_only(&rows).unwrap(), BATCH_BYTES);
        assert_eq!(theirs.copy(4).unwrap(), b"rows");
    }

    #[test]
    fn a_slot_ends_where_the_next_begins() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (daemon, worker) = (Lanes::make(&ours).unwrap(), Lanes::take(&theirs).unwrap());
        let whole = vec![7; CHUNK_BYTES];
        // What is too long has no turn.
        assert!(worker.output.write([&whole[..], &b"x"[..]].into_iter()).is_err());
        assert!(daemon.output.copy(CHUNK_BYTES + 1).is_none());
        for turn in 0..2 * CHUNKS {
            let chunk = vec![u8::try_from(turn).unwrap(); CHUNK_BYTES];
            worker.output.write([&chunk[..]].into_iter()).unwrap();
            assert_eq!(daemon.output.copy(CHUNK_BYTES).unwrap(), chunk);
        }
        assert_eq!(daemon.output.copy(1), Some(vec![u8::try_from(CHUNKS).unwrap()]), "they come round");
    }
}
