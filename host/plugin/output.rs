//! Gathers what a guest writes into chunks that are worth sending.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Ends;
use super::failed::{Cause, Stop};
use super::spent::Spent;
use super::walled::{Home, Slot};
use super::words::shown;
use crate::domain::{LeafName, OutputEvent};
use crate::limits::Limits;

/// Bytes of one event.
pub const CHUNK_BYTES: usize = 512 << 10;

/// Bytes that wait for their chunk to fill, over all objects: a guest may have
/// thousands of objects open.
const GATHERED_BYTES_MAX: usize = 16 << 20;

/// Chunks that have all of their room from their first byte on.
const RESERVED_MAX: usize = GATHERED_BYTES_MAX / CHUNK_BYTES;

const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// Where output goes.
#[derive(Clone)]
pub enum Outlet {
    Channel(mpsc::Sender<OutputEvent>),
    /// From a process of its own.
    Daemon(Home),
}

impl From<mpsc::Sender<OutputEvent>> for Outlet {
    fn from(sender: mpsc::Sender<OutputEvent>) -> Self {
        Self::Channel(sender)
    }
}

impl Outlet {
    /// Waits while the other end is behind.
    pub async fn send(&self, event: OutputEvent) -> Result<(), Stop> {
        match self {
            Self::Channel(sender) => sender.send(event).await.map_err(|_| closed()),
            Self::Daemon(home) => home
                .output(&event)
                .map_err(|error| Stop::new(Cause::Host, format!("its process cannot hand its output on: {error}"))),
        }
    }

    /// Waits until nobody takes it any more.
    pub async fn closed(&self) {
        match self {
            Self::Channel(sender) => sender.closed().await,
            // This process ends with it.
            Self::Daemon(_) => std::future::pending().await,
        }
    }

    /// Where the next chunk of an object is gathered that will be full.
    fn chunk(&self) -> Chunk {
        match self {
            Self::Channel(_) => None,
            Self::Daemon(home) => home.gather(),
        }
        .map_or_else(|| Chunk::Own(Vec::with_capacity(CHUNK_BYTES)), Chunk::Lent)
    }
}

/// What is gathered of an object.
enum Chunk {
    Own(Vec<u8>),
    /// Where the daemon finds it.
    Lent(Slot),
}

impl Chunk {
    const NONE: Self = Self::Own(Vec::new());

    fn len(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Lent(slot) => slot.len(),
        }
    }

    fn extend(&mut self, with: &[u8]) -> Result<(), Stop> {
        match self {
            Self::Own(bytes) => bytes.extend_from_slice(with),
            Self::Lent(slot) => slot.extend(with).map_err(|error| Stop::new(Cause::Host, error.to_string()))?,
        }
        Ok(())
    }

    fn into_event(self, object: u32) -> OutputEvent {
        let bytes = match self {
            Self::Own(bytes) => bytes.into(),
            Self::Lent(slot) => Bytes::from_owner(slot),
        };
        OutputEvent::Bytes { object, bytes }
    }
}

/// The output of one run.
pub struct Output {
    outlet: Outlet,
    /// Made, but not sent yet.
    ready: VecDeque<OutputEvent>,
    objects: Vec<Object>,
    names: HashSet<LeafName>,
    gathered: usize,
    reserved: usize,
    bytes: u64,
    /// In finished objects, as the guest says.
    rows: u64,
    limits: Limits,
    spent: Arc<Spent>,
    /// What names have to begin with.
    stem: Option<String>,
}

struct Object {
    name: LeafName,
    chunk: Chunk,
    /// Has filled a chunk before, and so is likely to fill the next.
    large: bool,
    /// Its chunk has all of its room.
    reserved: bool,
    finished: bool,
}

impl Object {
    /// What is gathered of it.
    fn take(&mut self, reserved: &mut usize) -> Chunk {
        *reserved -= usize::from(std::mem::take(&mut self.reserved));
        std::mem::replace(&mut self.chunk, Chunk::NONE)
    }
}

impl Output {
    pub fn new(ends: &Ends, limits: &Limits) -> Self {
        Self {
            outlet: ends.output.clone(),
            ready: VecDeque::new(),
            objects: Vec::new(),
            names: HashSet::new(),
            gathered: 0,
            reserved: 0,
            bytes: 0,
            rows: 0,
            limits: limits.clone(),
            spent: ends.spent.clone(),
            stem: ends.stem.clone(),
        }
    }

    /// Begins an object and returns its number.
    pub fn create(&mut self, name: &str, media_type: &str) -> Result<u32, Stop> {
        let shown = shown(name);
        let name = LeafName::parse(name)
            .map_err(|why| Stop::new(Cause::ObjectName, format!("named an object {shown}, which {why}")))?;
        if media_type.len() > MEDIA_TYPE_BYTES_MAX || !media_type.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
            let why = format!("gave object {shown} a media type that is not up to 255 bytes of printable ASCII");
            return Err(Stop::new(Cause::Protocol, why));
        }
        if let Some(stem) = self.stem.as_ref().filter(|stem| !name.as_str().starts_with(stem.as_str())) {
            let why = format!(
                "named an object {shown}, which does not begin with its `object-stem` {stem}; without that the share cannot have \
                 `piece_rows`"
            );
            return Err(Stop::new(Cause::ObjectName, why));
        }
        if !self.spent.begin_object(&self.limits) {
            return Err(Stop::new(Cause::Objects, format!("began more than {} objects", self.limits.objects)));
        }
        if !self.names.insert(name.clone()) {
            return Err(Stop::new(Cause::ObjectName, format!("named two objects {shown}; each needs its own name")));
        }
        let number = self.objects();
        self.ready.push_back(OutputEvent::Create { object: number, name: name.clone(), media_type: media_type.into() });
        self.objects.push(Object { name, chunk: Chunk::NONE, large: false, reserved: false, finished: false });
        Ok(number)
    }

    /// Appends to an object. One copy; full chunks become ready.
    pub fn write(&mut self, number: u32, mut bytes: &[u8]) -> Result<(), Stop> {
        if bytes.len() > self.limits.call_bytes {
            let (len, max) = (bytes.len(), self.limits.call_bytes);
            return Err(Stop::new(Cause::Call, format!("wrote {len} bytes in one call; at most {max} are taken")));
        }
        self.count(bytes.len())?;
        let object = open(&mut self.objects, number, "wrote to")?;
        let before = object.chunk.len();
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK_BYTES - object.chunk.len()));
            if object.large && object.chunk.len() == 0 && self.reserved < RESERVED_MAX {
                object.chunk = self.outlet.chunk();
                object.reserved = true;
                self.reserved += 1;
            }
            object.chunk.extend(now)?;
            bytes = rest;
            if object.chunk.len() == CHUNK_BYTES {
                object.large = true;
                self.ready.push_back(object.take(&mut self.reserved).into_event(number));
            }
        }
        self.gathered = self.gathered - before + object.chunk.len();
        if self.gathered > GATHERED_BYTES_MAX {
            for number in 0..self.objects.len() {
                self.flush(number);
            }
        }
        Ok(())
    }

    pub fn finish(&mut self, number: u32, rows: u64) -> Result<(), Stop> {
        open(&mut self.objects, number, "finished")?.finished = true;
        self.flush(number as usize);
        self.rows = self.rows.saturating_add(rows);
        self.ready.push_back(OutputEvent::Finish { object: number, rows });
        Ok(())
    }

    /// What another process says that a guest wrote, under the same rules; nothing is
    /// gathered again.
    pub fn accept(&mut self, event: OutputEvent) -> Result<(), Stop> {
        match event {
            OutputEvent::Create { object, name, media_type } => {
                let number = self.create(name.as_str(), &media_type)?;
                if number != object {
                    return Err(Stop::new(Cause::Protocol, format!("began object {object} where {number} is next")));
                }
            }
            OutputEvent::Bytes { object, bytes } => {
                self.count(bytes.len())?;
                open(&mut self.objects, object, "wrote to")?;
                self.ready.push_back(OutputEvent::Bytes { object, bytes });
            }
            OutputEvent::Finish { object, rows } => self.finish(object, rows)?,
        }
        Ok(())
    }

    /// The guest says that it is done: every object has to be, and every one of
    /// the `rows` that it was given in one of them.
    pub fn end(&self, rows: u64) -> Result<(), Stop> {
        if let Some(object) = self.objects.iter().find(|object| !object.finished) {
            let why = format!("ended without finishing object {}", shown(object.name.as_str()));
            return Err(Stop::new(Cause::Protocol, why));
        }
        if self.rows != rows {
            let why = format!("was given {rows} rows and finished objects of {}", self.rows);
            return Err(Stop::new(Cause::Protocol, why));
        }
        Ok(())
    }

    /// The next event to send, and where to.
    pub fn next(&mut self) -> Option<(OutputEvent, Outlet)> {
        Some((self.ready.pop_front()?, self.outlet.clone()))
    }

    pub fn objects(&self) -> u32 {
        u32::try_from(self.objects.len()).unwrap_or(u32::MAX)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn count(&mut self, bytes: usize) -> Result<(), Stop> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if !self.spent.write(bytes, &self.limits) {
            let max = bytesize::ByteSize(self.limits.output_bytes);
            return Err(Stop::new(Cause::Output, format!("wrote more than {max} of output")));
        }
        Ok(())
    }

    fn flush(&mut self, number: usize) {
        let chunk = self.objects[number].take(&mut self.reserved);
        self.gathered -= chunk.len();
        if chunk.len() > 0 {
            self.ready.push_back(chunk.into_event(u32::try_from(number).unwrap_or(u32::MAX)));
        }
    }
}

/// An object that is not finished, of which the guest `did` something.
fn open<'a>(objects: &'a mut [Object], number: u32, did: &str) -> Result<&'a mut Object, Stop> {
    match objects.get_mut(number as usize) {
        Some(object) if object.finished => {
            let why = format!("{did} object {} after finishing it", shown(object.name.as_str()));
            Err(Stop::new(Cause::Protocol, why))
        }
        Some(object) => Ok(object),
        None => Err(Stop::new(Cause::Host, format!("object {number} is unknown"))),
    }
}

/// Why an event could not be sent.
pub fn closed() -> Stop {
    Stop::new(Cause::OutputClosed, "was ended because its output is no longer taken")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> Output {
        Output::new(&Ends::of(mpsc::channel(1).0), &Limits::default())
    }

    fn sizes(output: &mut Output) -> Vec<usize> {
        let bytes = |event| match event {
            OutputEvent::Bytes { bytes, .. } => Some(bytes.len()),
            _ => None,
        };
        std::iter::from_fn(|| output.next()).filter_map(|(event, _)| bytes(event)).collect()
    }

    #[test]
    fn small_writes_become_chunks_and_large_ones_are_cut() {
        let mut output = output();
        let object = output.create("a", "text/csv").unwrap();
        for _ in 0..CHUNK_BYTES / 1024 + 1 {
            output.write(object, &[1; 1024]).unwrap();
        }
        assert_eq!(sizes(&mut output), [CHUNK_BYTES]);
        output.write(object, &vec![2; 2 * CHUNK_BYTES]).unwrap();
        output.finish(object, 7).unwrap();
        assert_eq!(sizes(&mut output), [CHUNK_BYTES, CHUNK_BYTES, 1024]);
        assert_eq!((output.bytes(), output.gathered), (3 * CHUNK_BYTES as u64 + 1024, 0));
        output.end(7).unwrap();
    }

    #[test]
    fn few_of_many_large_objects_have_room_for_what_is_not_there() {
        let mut output = output();
        let objects: Vec<u32> = (0..100).map(|i| output.create(&i.to_string(), "").unwrap()).collect();
        let capacity = |output: &Output| -> usize {
            let capacities = output.objects.iter().map(|object| match &object.chunk {
                Chunk::Own(bytes) => bytes.capacity(),
                Chunk::Lent(slot) => slot.len(),
            });
            capacities.sum()
        };
        for _ in 0..2 {
            objects.iter().for_each(|object| output.write(*object, &[1; CHUNK_BYTES + 1]).unwrap());
            assert!(capacity(&output) <= GATHERED_BYTES_MAX + 100 * 1024, "{}", capacity(&output));
            assert_eq!((output.gathered, output.reserved), (objects.len(), RESERVED_MAX));
            objects.iter().for_each(|object| output.write(*object, &[1; CHUNK_BYTES - 1]).unwrap());
            assert_eq!((output.gathered, output.reserved, capacity(&output)), (0, 0, 0));
        }
        objects.iter().for_each(|object| output.finish(*object, 0).unwrap());
        assert_eq!(sizes(&mut output), vec![CHUNK_BYTES; 400]);
    }

    #[test]
    fn many_open_objects_do_not_gather_without_bound() {
        let mut output = output();
        for i in 0..200 {
            let object = output.create(&i.to_string(), "").unwrap();
            output.write(object, &vec![0; CHUNK_BYTES - 1]).unwrap();
            assert!(output.gathered <= GATHERED_BYTES_MAX);
        }
        assert!(output.end(0).is_err());
    }
}
