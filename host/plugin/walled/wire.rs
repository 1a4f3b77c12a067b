//! What daemon and worker say to each other: frames of a kind (one byte), a length
//! (u32, little-endian) and that many bytes.
//!
//! ```text
//! to the worker     REQUEST JSON, SCHEMA Arrow's, BATCH number and Arrow's stream, END,
//!                   LENT number and length of a batch, FREED slots of the output
//! from the worker   CREATE JSON, FINISH object and rows,
//!                   LINE source and text, BEGUN number of a batch, ANSWER JSON,
//!                   LENT object, length and slot of a chunk, FREED count of batches
//! ```
//!
//! What is LENT is in a slot of the side's lane ([`super::lanes`]): a batch in the next one.
//! What is FREED may be used again.

use std::io::{self, Read, Write};
use std::time::Duration;

use arrow::buffer::Buffer;
use arrow::datatypes::Schema;
use arrow::ipc::writer::StreamEncoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tracing::Level;

use super::attempt::{Attempt, Outside};
use super::confine::Wall;
use crate::clock::Instant;
use crate::domain::{LeafName, OutputEvent};
use crate::limits::Limits;
use crate::plugin::failed::Failed;
use crate::plugin::logs::Source;
use crate::plugin::{Description, Diagnostic, Formatted, Observed};

pub const REQUEST: u8 = 1;
pub const SCHEMA: u8 = 2;
pub const BATCH: u8 = 3;

/// What waits in a lane.
pub const LENT: u8 = 5;

/// As many more may be sent.
pub const FREED: u8 = 6;

/// No more batches.
pub const END: u8 = 4;

const CREATE: u8 = 16;
const FINISH: u8 = 18;
const LINE: u8 = 19;
const ANSWER: u8 = 20;
const BEGUN: u8 = 21;

const HEADER: usize = 5;

/// Of one frame from a worker: an answer with an options schema.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// Buffers smaller than this are sent together.
const SMALL: usize = 32 << 10;

#[derive(Serialize, Deserialize)]
pub enum Request {
    Describe {
        limits: Limits,
    },
    Check {
        limits: Limits,
        options: String,
    },
    Format(Format),
    /// What the filter of system calls refuses; or what there is outside, for one of the
    /// other layers alone.
    Attempt(Option<Outside>),
}

#[derive(Serialize, Deserialize)]
pub struct Format {
    pub facts: Vec<(String, String)>,
    pub options: String,
    pub limits: Limits,
    pub slot_at: Instant,
    pub stem: Option<String>,
    /// By other instances of the same delivery.
    pub cpu_time_spent: Duration,
}

#[derive(Serialize, Deserialize)]
pub enum Answer {
    Described(Description, Wall),
    Checked(Vec<Diagnostic>),
    /// A run, however it ended.
    Ran(Result<Formatted, Failed>, Observed),
    Attempted(Wall, Vec<Attempt>),
    Failed(Failed),
}

/// What a worker says.
pub enum Heard {
    Output(OutputEvent),
    Line(Source, Vec<u8>),
    /// The plugin gets the batch of this number.
    Begun(u64),
    /// Output of an object, so many bytes in a slot of the lane.
    Lent {
        object: u32,
        bytes: usize,
        slot: u8,
    },
    /// As many batches are no longer needed.
    Freed(usize),
    Answer(Answer),
}

fn header(kind: u8, bytes: usize) -> io::Result<[u8; HEADER]> {
    let bytes = u32::try_from(bytes).map_err(|_| io::Error::other("a batch of more than 4 GiB"))?;
    let [a, b, c, d] = bytes.to_le_bytes();
    Ok([kind, a, b, c, d])
}

fn frame(to: &mut Vec<u8>, kind: u8, bytes: &[u8]) -> io::Result<()> {
    to.extend(header(kind, bytes.len())?);
    to.extend_from_slice(bytes);
    Ok(())
}

/// Appends a request, and the schema that it is about.
pub fn request(to: &mut Vec<u8>, request: &Request, schema: Option<&Schema>) -> io::Result<()> {
    frame(to, REQUEST, &serde_json::to_vec(request)?)?;
    if let Some(schema) = schema {
        let buffers = StreamEncoder::try_new(schema).and_then(StreamEncoder::finish).map_err(io::Error::other)?;
        frame(to, SCHEMA, &buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Bytes of a part of Arrow's stream.
pub fn length(buffers: &[Buffer]) -> usize {
    buffers.iter().map(Buffer::len).sum()
}

/// Sends a part of Arrow's stream; its large buffers as they are.
pub async fn send_batch(
    writer: &mut (impl AsyncWrite + Unpin),
    batch_number: u64,
    buffers: &[Buffer],
) -> io::Result<()> {
    let bytes = length(buffers);
    let mut small = Vec::with_capacity(2 * SMALL);
    small.extend(header(BATCH, 8 + bytes)?);
    small.extend(batch_number.to_le_bytes());
    for buffer in buffers {
        if buffer.len() >= SMALL || small.len() >= SMALL {
            writer.write_all(&small).await?;
            small.clear();
        }
        match buffer.len() >= SMALL {
            true => writer.write_all(buffer.as_slice()).await?,
            false => small.extend_from_slice(buffer.as_slice()),
        }
    }
    writer.write_all(&small).await
}

/// Waits for what the worker says next. An error of the kind `InvalidData` is nonsense.
pub async fn hear(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Heard> {
    let mut header = [0; HEADER];
    reader.read_exact(&mut header).await?;
    let (kind, bytes) = measured(header, FRAME_BYTES_MAX)?;
    let mut payload = Vec::with_capacity(bytes);
    // Not zeroed first, here and below: most frames are large.
    reader.take(bytes as u64).read_to_end(&mut payload).await?;
    heard(kind, whole(payload, bytes)?)
}

/// The same, for who has nothing else to do.
pub fn hear_blocking(reader: &mut impl Read) -> io::Result<Heard> {
    let (kind, payload) = next(reader, FRAME_BYTES_MAX)?;
    heard(kind, payload)
}

/// How many frames a worker has sent that can be understood, before the first that cannot.
pub fn heard_all(mut bytes: &[u8]) -> usize {
    std::iter::from_fn(|| hear_blocking(&mut bytes).ok()).count()
}

/// The next frame from the daemon, which may be as long as a batch is.
pub fn told(reader: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    next(reader, u32::MAX as usize)
}

fn next(reader: &mut impl Read, bytes_max: usize) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; HEADER];
    reader.read_exact(&mut header)?;
    let (kind, bytes) = measured(header, bytes_max)?;
    let mut payload = Vec::with_capacity(bytes);
    reader.take(bytes as u64).read_to_end(&mut payload)?;
    Ok((kind, whole(payload, bytes)?))
}

fn measured([kind, bytes @ ..]: [u8; HEADER], bytes_max: usize) -> io::Result<(u8, usize)> {
    match usize::try_from(u32::from_le_bytes(bytes)) {
        Ok(bytes) if bytes <= bytes_max => Ok((kind, bytes)),
        _ => Err(nonsense("sent a frame that is too large")),
    }
}

/// Unless the other end was gone before its end.
fn whole(payload: Vec<u8>, bytes: usize) -> io::Result<Vec<u8>> {
    if payload.len() < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(payload) }
}

fn heard(kind: u8, payload: Vec<u8>) -> io::Result<Heard> {
    match kind {
        CREATE => {
            let (object, name, media_type): (u32, String, String) = read(&payload)?;
            let name = LeafName::parse(&name).map_err(|why| nonsense(&format!("named an object that {why}")))?;
            Ok(Heard::Output(OutputEvent::Create { object, name, media_type }))
        }
        FINISH => {
            let (object, rows) = read(&payload)?;
            Ok(Heard::Output(OutputEvent::Finish { object, rows }))
        }
        LINE => match payload.split_first() {
            Some((source, text)) => Ok(Heard::Line(spoken(*source)?, text.to_vec())),
            None => Err(nonsense("sent an empty line")),
        },
        BEGUN => Ok(Heard::Begun(read(&payload)?)),
        LENT => {
            let (slot, rest) = payload.split_last().ok_or_else(too_short)?;
            let (object, bytes) = lent(rest).ok_or_else(too_short)?;
            Ok(Heard::Lent { object: u32::try_from(object).map_err(|_| too_short())?, bytes, slot: *slot })
        }
        FREED => Ok(Heard::Freed(usize::from(*payload.first().ok_or_else(too_short)?))),
        ANSWER => Ok(Heard::Answer(read(&payload)?)),
        kind => Err(nonsense(&format!("sent a frame of the unknown kind {kind}"))),
    }
}

pub fn read<T: DeserializeOwned>(payload: &[u8]) -> io::Result<T> {
    serde_json::from_slice(payload).map_err(|error| nonsense(&format!("cannot be understood: {error}")))
}

fn too_short() -> io::Error {
    nonsense("sent a frame that is too short")
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What waits in the lane: of which batch or object, and how much.
pub fn lent(payload: &[u8]) -> Option<(u64, usize)> {
    let (of, rest) = payload.split_first_chunk()?;
    let (bytes, _) = rest.split_first_chunk()?;
    Some((u64::from_le_bytes(*of), usize::try_from(u64::from_le_bytes(*bytes)).ok()?))
}

/// The frame of what waits in the lane; of the output, with its slot.
pub fn lent_frame(of: u64, bytes: usize, slot: Option<u8>) -> io::Result<Vec<u8>> {
    let mut all = header(LENT, 16 + usize::from(slot.is_some()))?.to_vec();
    all.extend(of.to_le_bytes());
    all.extend((bytes as u64).to_le_bytes());
    all.extend(slot);
    Ok(all)
}

/// The frame that says that there are no more batches.
pub fn end_frame() -> io::Result<Vec<u8>> {
    Ok(header(END, 0)?.to_vec())
}

/// The frame that says what is free again: slots, or a count of batches.
pub fn freed_frame(freed: &[u8]) -> io::Result<Vec<u8>> {
    let mut all = Vec::with_capacity(HEADER + freed.len());
    frame(&mut all, FREED, freed)?;
    Ok(all)
}

/// The frame of the batch that the plugin gets.
pub fn begun_frame(batch_number: u64) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    frame(&mut all, BEGUN, &serde_json::to_vec(&batch_number)?)?;
    Ok(all)
}

const SPOKEN: [Source; 7] = [
    Source::Stdout,
    Source::Stderr,
    Source::Call(Level::ERROR),
    Source::Call(Level::WARN),
    Source::Call(Level::INFO),
    Source::Call(Level::DEBUG),
    Source::Call(Level::TRACE),
];

fn spoken(number: u8) -> io::Result<Source> {
    SPOKEN.get(usize::from(number)).copied().ok_or_else(|| nonsense("sent a line of no source"))
}

/// The next frame of a run from the daemon, however long its dataset takes.
pub fn told_patiently(reader: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    told(&mut Patient(reader))
}

/// Reads on when the time for reading is over.
struct Patient<R>(R);

impl<R: Read> Read for Patient<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

/// The frame of what a plugin writes; the bytes of an object are in a slot.
pub fn output_frame(event: &OutputEvent, slot: Option<u8>) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    match event {
        OutputEvent::Create { object, name, media_type } => {
            frame(&mut all, CREATE, &serde_json::to_vec(&(object, name.as_str(), media_type))?)?;
        }
        OutputEvent::Bytes { object, bytes } => return lent_frame((*object).into(), bytes.len(), slot),
        OutputEvent::Finish { object, rows } => frame(&mut all, FINISH, &serde_json::to_vec(&(object, rows))?)?,
    }
    Ok(all)
}

pub fn tell_line(writer: &mut impl Write, source: Source, text: &str) -> io::Result<()> {
    let number = SPOKEN.iter().position(|spoken| *spoken == source).unwrap_or(0);
    let mut said = vec![u8::try_from(number).unwrap_or(0)];
    said.extend_from_slice(text.as_bytes());
    let mut small = Vec::new();
    frame(&mut small, LINE, &said)?;
    writer.write_all(&small)
}

pub fn tell_answer(writer: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let mut small = Vec::new();
    frame(&mut small, ANSWER, &serde_json::to_vec(answer)?)?;
    writer.write_all(&small)
}
