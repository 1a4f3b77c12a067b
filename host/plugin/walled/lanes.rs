//! Memory that the daemon and a worker have in common, for what is too much to go
//! through a socket: rows one way, output the other.
//!
//! Each lane has one side that writes. The rows' cannot be written by the worker at
//! all, by the kernel's word; what the worker writes into the other, the daemon copies
//! once and takes for bytes that mean nothing to it. Neither can be made shorter, which
//! would end whoever reads it. What is where is said in the socket ([`super::wire`]),
//! where the daemon holds it against the lane's size.
//!
//! Batches go through their slots one after the other. A chunk of output is gathered
//! in whichever slot is free, of objects that are written side by side.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

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

/// Chunks of output that are gathered or on their way at the same time.
pub const CHUNKS: u8 = 8;

/// Of these, how many are freed by one word.
pub const CHUNKS_FREED: u8 = 4;

/// How many may be gathered, so that enough others are left for that word to be said.
pub const CHUNKS_GATHERED: u8 = CHUNKS - CHUNKS_FREED;

/// Of a chunk of output.
const CHUNK_BYTES: usize = crate::plugin::output::CHUNK_BYTES;

/// Slots of one size.
pub struct Lane {
    map: MmapRaw,
    slot_bytes: usize,
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
        let output = memory("consign-output", usize::from(CHUNKS) * CHUNK_BYTES)?;
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
        Self { map, slot_bytes }
    }

    pub fn fits(&self, bytes: usize) -> bool {
        bytes <= self.slot_bytes
    }

    /// Writes a slot that nobody is reading, from `at` on.
    pub fn write<'a>(&self, slot: usize, at: usize, pieces: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        let mut at = at;
        for piece in pieces {
            let to = self.slot(slot, at + piece.len()).ok_or(io::ErrorKind::InvalidInput)?.wrapping_add(at);
            // SAFETY: all of it is within the slot, as seen above, and so within the mapping,
            // which is this side's to write; no reference to it is there while it is written.
            unsafe { to.copy_from_nonoverlapping(piece.as_ptr(), piece.len()) };
            at += piece.len();
        }
        Ok(())
    }

    /// A copy of the beginning of a slot. None when there is no such slot, or it is not so long.
    pub fn copy(&self, slot: usize, bytes: usize) -> Option<Vec<u8>> {
        let from = self.slot(slot, bytes)?;
        let mut copy = Vec::with_capacity(bytes);
        // SAFETY: both are so long. Should the other side write at the same time, against
        // what was agreed, the bytes are any bytes, which is what they are taken for.
        unsafe {
            from.copy_to_nonoverlapping(copy.as_mut_ptr(), bytes);
            copy.set_len(bytes);
        }
        Some(copy)
    }

    /// The beginning of a slot, without a copy; `owner` has this lane.
    ///
    /// # Safety
    ///
    /// Until the owner is dropped, the other side does not write the slot.
    pub unsafe fn lend(&self, slot: usize, bytes: usize, owner: Arc<dyn Allocation>) -> Option<Buffer> {
        let from = NonNull::new(self.slot(slot, bytes)?)?;
        // SAFETY: it is so long, mapped as long as its owner is there, and does not change.
        Some(unsafe { Buffer::from_custom_allocation(from, bytes, owner) })
    }

    /// Which slot these bytes begin, if they are in this lane.
    fn of(&self, bytes: &[u8]) -> Option<u8> {
        let from = bytes.as_ptr().addr().checked_sub(self.map.as_ptr().addr())?;
        u8::try_from(from / self.slot_bytes).ok().filter(|_| from < self.map.len())
    }

    /// Where a slot begins that has so many bytes.
    fn slot(&self, slot: usize, bytes: usize) -> Option<*mut u8> {
        let begin = slot.checked_mul(self.slot_bytes)?;
        (self.fits(bytes) && begin < self.map.len()).then(|| self.map.as_mut_ptr().wrapping_add(begin))
    }
}

/// Slots of the output's lane, as the worker has them.
pub struct Slots {
    lane: Arc<Lane>,
    /// Used again from the end: what was copied last is still near the processor, and what is never
    /// needed is never touched.
    free: Vec<u8>,
    /// That the daemon has copied.
    freed: Receiver<u8>,
    gathered: u8,
}

impl Slots {
    /// All of them are free at first. The other end is for those that are freed.
    pub fn new(lane: Lane) -> (Self, SyncSender<u8>) {
        let (frees, freed) = sync_channel(CHUNKS.into());
        (Self { lane: Arc::new(lane), free: (0..CHUNKS).collect(), freed, gathered: 0 }, frees)
    }

    /// A slot to gather a chunk in, when one is free; None when enough are gathered at the same time.
    pub fn gather(&mut self) -> Option<Slot> {
        if self.gathered == CHUNKS_GATHERED {
            return None;
        }
        let number = self.next()?;
        self.gathered += 1;
        Some(Slot { lane: self.lane.clone(), number, bytes: 0 })
    }

    /// One that is free, or the next that is freed; None when the daemon is gone.
    fn next(&mut self) -> Option<u8> {
        self.free.extend(self.freed.try_iter());
        self.free.pop().or_else(|| self.freed.recv().ok())
    }

    /// The slot of a chunk that goes to the daemon, which may have to be copied into one.
    pub fn send(&mut self, chunk: &[u8]) -> io::Result<u8> {
        if let Some(slot) = self.lane.of(chunk) {
            self.gathered -= 1;
            return Ok(slot);
        }
        let slot = self.next().ok_or(io::ErrorKind::BrokenPipe)?;
        self.lane.write(slot.into(), 0, std::iter::once(chunk))?;
        Ok(slot)
    }
}

/// Where a chunk of output is gathered. It is the worker's to write until it is sent.
pub struct Slot {
    lane: Arc<Lane>,
    number: u8,
    bytes: usize,
}

impl Slot {
    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn extend(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.lane.write(self.number.into(), self.bytes, std::iter::once(bytes))?;
        self.bytes += bytes.len();
        Ok(())
    }
}

impl AsRef<[u8]> for Slot {
    fn as_ref(&self) -> &[u8] {
        let begin = self.lane.slot(self.number.into(), self.bytes).unwrap_or(std::ptr::dangling_mut());
        // SAFETY: so much of it was written, and only `extend` writes more.
        unsafe { std::slice::from_raw_parts(begin, self.bytes) }
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
        lanes.rows.write(0, 0, [&b"rows"[..]].into_iter()).unwrap();
        let theirs = Lane::new(MmapOptions::new().map_raw_read_only(&rows).unwrap(), BATCH_BYTES);
        assert_eq!(theirs.copy(0, 4).unwrap(), b"rows");
    }

    #[test]
    fn a_slot_ends_where_the_next_begins() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (daemon, worker) = (Lanes::make(&ours).unwrap(), Lanes::take(&theirs).unwrap());
        let whole = vec![7; CHUNK_BYTES];
        assert!(worker.output.write(0, 0, [&whole[..], &b"x"[..]].into_iter()).is_err());
        assert!(worker.output.write(CHUNKS.into(), 0, [&b"x"[..]].into_iter()).is_err());
        for (slot, bytes) in [(0, CHUNK_BYTES + 1), (CHUNKS.into(), 1), (usize::MAX, 1)] {
            assert!(daemon.output.copy(slot, bytes).is_none(), "{bytes} of slot {slot}");
        }
        for slot in 0..usize::from(CHUNKS) {
            let chunk = vec![u8::try_from(slot).unwrap(); CHUNK_BYTES];
            worker.output.write(slot, 0, [&chunk[..]].into_iter()).unwrap();
        }
        for slot in 0..CHUNKS {
            assert_eq!(daemon.output.copy(slot.into(), CHUNK_BYTES).unwrap(), vec![slot; CHUNK_BYTES]);
        }
    }

    #[test]
    fn chunks_are_gathered_in_slots_and_some_are_left_for_others() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (daemon, worker) = (Lanes::make(&ours).unwrap(), Lanes::take(&theirs).unwrap());
        let (mut slots, frees) = Slots::new(worker.output);
        let mut gathered: Vec<Slot> = (0..CHUNKS_GATHERED).map(|_| slots.gather().unwrap()).collect();
        assert!(slots.gather().is_none());
        for (slot, letter) in gathered.iter_mut().zip(b'a'..) {
            slot.extend(&[letter]).unwrap();
            slot.extend(&[letter; 2]).unwrap();
            slot.extend(&[letter; CHUNK_BYTES]).unwrap_err();
            assert_eq!((slot.len(), slot.as_ref()), (3, &[letter; 3][..]));
        }
        // In the order of their ends; as little as one byte is in its own slot.
        let last = slots.send(gathered[2].as_ref()).unwrap();
        assert_eq!(daemon.output.copy(last.into(), 3).unwrap(), b"ccc");
        let beside = slots.send(b"beside").unwrap();
        assert_eq!(daemon.output.copy(beside.into(), 6).unwrap(), b"beside");
        // One that is sent makes room for another, once the daemon has copied enough.
        let others: Vec<u8> = (1..CHUNKS_FREED).map(|_| slots.send(b"beside").unwrap()).collect();
        frees.try_send(last).unwrap();
        assert_eq!(slots.gather().unwrap().number, last);
        let mut all: Vec<u8> =
            others.into_iter().chain([beside]).chain(gathered.iter().map(|slot| slot.number)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..CHUNKS).collect::<Vec<_>>());
    }
}
