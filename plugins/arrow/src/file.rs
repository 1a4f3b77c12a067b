//! One object.

use std::io::{self, BufWriter};

use arrow_array::{Array, RecordBatch};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{ArrowError, DataType, FieldRef, SchemaRef};
use consign_sdk::{Error, Object};

use crate::options::Format;

/// Bytes handed to the host at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// What the footer says of one record batch: where it is.
const FOOTER_BYTES_PER_BATCH: u64 = 24;
/// The end of a stream, and what frames the footer.
const END_BYTES: u64 = 256;
/// What a message says of itself besides its columns.
const MESSAGE_BYTES: u64 = 512;
/// What a message says of a plain column, or of a level of a nested one, and
/// what may be added to align its three buffers.
const MESSAGE_BYTES_PER_NODE: u64 = 320;

/// One object that is being written.
pub(crate) struct File {
    writer: Writer,
    schema: SchemaRef,
    schema_bytes: u64,
    nodes: u64,
    batches: u64,
    rows: u64,
}

enum Writer {
    File(FileWriter<BufWriter<Object>>),
    Stream(StreamWriter<BufWriter<Object>>),
}

impl File {
    pub fn begin(object: Object, format: Format, schema: &SchemaRef) -> Result<Self, Error> {
        let out = BufWriter::with_capacity(CHUNK_BYTES, object);
        let writer = match format {
            Format::File => FileWriter::try_new(out, schema).map(Writer::File),
            Format::Stream => StreamWriter::try_new(out, schema).map(Writer::Stream),
        };
        let mut file = File {
            writer: writer.map_err(failed)?,
            schema: schema.clone(),
            schema_bytes: 0,
            nodes: schema.fields().iter().map(nodes).sum(),
            batches: 0,
            rows: 0,
        };
        file.schema_bytes = file.bytes();
        Ok(file)
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let written = match &mut self.writer {
            Writer::File(writer) => writer.write(batch),
            Writer::Stream(writer) => writer.write(batch),
        };
        self.batches += 1;
        self.rows += batch.num_rows() as u64;
        written.map_err(failed)
    }

    /// Whether the object would still be within `limit` with this batch. How much
    /// it takes exactly is known only when it has been written; that is tried when
    /// it decides.
    pub fn has_room(&self, batch: &RecordBatch, limit: u64) -> Result<bool, Error> {
        let footer = match self.writer {
            Writer::File(_) => self.schema_bytes + (self.batches + 1) * FOOTER_BYTES_PER_BATCH,
            Writer::Stream(_) => 0,
        };
        let room = limit.saturating_sub(self.bytes() + footer + END_BYTES);
        if self.most_bytes(batch).is_some_and(|bytes| bytes <= room) {
            return Ok(true);
        }
        Ok(self.message_bytes(batch)? <= room)
    }

    pub fn finish(self) -> Result<(), Error> {
        let out = match self.writer {
            Writer::File(writer) => writer.into_inner(),
            Writer::Stream(writer) => writer.into_inner(),
        };
        let object = out.map_err(failed)?.into_inner();
        object.map_err(|error| failed(error.into_error().into()))?.finish(self.rows);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        let out = match &self.writer {
            Writer::File(writer) => writer.get_ref(),
            Writer::Stream(writer) => writer.get_ref(),
        };
        out.get_ref().bytes() + out.buffer().len() as u64
    }

    /// What the batch takes at most; none for types whose size Arrow cannot tell.
    fn most_bytes(&self, batch: &RecordBatch) -> Option<u64> {
        let sizes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
        let values = sizes.sum::<Result<usize, ArrowError>>().ok()? as u64;
        // Columns without nulls are written with a bit for each value.
        let valid = self.nodes * (batch.num_rows() as u64 / 8);
        Some(MESSAGE_BYTES + self.nodes * MESSAGE_BYTES_PER_NODE + values + valid)
    }

    /// What the batch takes.
    fn message_bytes(&self, batch: &RecordBatch) -> Result<u64, Error> {
        let mut scratch = StreamWriter::try_new(Counter(0), &self.schema).map_err(failed)?;
        let before = scratch.get_ref().0;
        scratch.write(batch).map_err(failed)?;
        Ok(scratch.get_ref().0 - before)
    }
}

/// Counts bytes.
struct Counter(u64);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The field and all within it.
fn nodes(field: &FieldRef) -> u64 {
    let within: u64 = match field.data_type() {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => nodes(item),
        DataType::Struct(members) => members.iter().map(nodes).sum(),
        DataType::Union(members, _) => members.iter().map(|(_, member)| nodes(member)).sum(),
        _ => 0,
    };
    1 + within
}

fn failed(error: ArrowError) -> Error {
    Error::Other(format!("the Arrow writer failed: {error}"))
}
