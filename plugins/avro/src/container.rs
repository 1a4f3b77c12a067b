//! Object container files: a header with the schema, then blocks.

use std::mem;

use consign_sdk::text::Buffer;
use consign_sdk::{Error, Object, Output, RunFacts};

use crate::codec::Codec;
use crate::encode::{write_bytes, write_long};
use crate::options::Options;

/// Bytes handed to the host at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// The counts of rows and bytes before a block and the marker behind it.
const FRAME_BYTES: u64 = 36;

/// The part by which a block can grow when it cannot be compressed.
const GROWTH: u64 = 64;

/// Writes the objects: append a row to [`row`](Container::row), call
/// [`end_row`](Container::end_row), and at the end [`finish`](Container::finish).
///
/// When the share splits, no object exceeds the limit, unless a single row does.
pub(crate) struct Container {
    header: Vec<u8>,
    sync: [u8; 16],
    codec: Codec,
    block_bytes: u64,
    block: Buffer,
    /// Where in `block` the present row begins.
    row_start: usize,
    block_rows: u64,
    object: Option<OpenObject>,
    any_object: bool,
}

struct OpenObject {
    object: Object,
    /// What the object has not got yet.
    pending: Vec<u8>,
    rows: u64,
}

impl Container {
    pub fn new(options: &Options, schema: String, run: &RunFacts) -> Result<Self, Error> {
        let codec = Codec::of(options)?;
        let sync = sync_marker(&schema, run);
        let header = header(&schema, codec.name(), &sync);
        Ok(Container {
            header,
            sync,
            codec,
            block_bytes: options.block_bytes,
            block: Buffer::new(),
            row_start: 0,
            block_rows: 0,
            object: None,
            any_object: false,
        })
    }

    /// The buffer to append the present row to. What is already in it must not
    /// be touched.
    #[inline(always)]
    pub fn row(&mut self) -> &mut Buffer {
        &mut self.block
    }

    /// The row is complete.
    pub fn end_row(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        let most = self.most_block_bytes(out);
        if self.block.len() as u64 > most && self.block_rows > 0 {
            let row = self.block.as_bytes()[self.row_start..].to_vec();
            self.block.truncate(self.row_start);
            self.end_block(out)?;
            self.block.extend(&row);
        }
        self.block_rows += 1;
        if self.block.len() as u64 >= most {
            self.end_block(out)?;
        }
        self.row_start = self.block.len();
        Ok(())
    }

    /// Finishes the last object; without any row, one that has the schema only.
    pub fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        if self.block_rows > 0 {
            self.end_block(out)?;
        }
        let open = match self.object.take() {
            Some(open) => open,
            None if self.any_object => return Ok(()),
            None => self.open(out)?,
        };
        open.finish();
        Ok(())
    }

    /// So many bytes of rows are never too many for an object of their own.
    fn most_block_bytes(&self, out: &Output<'_>) -> u64 {
        let of_object = |limit: u64| {
            let room = limit.saturating_sub(self.header.len() as u64 + FRAME_BYTES);
            (room - room / GROWTH).saturating_sub(GROWTH)
        };
        out.max_object_bytes().map_or(self.block_bytes, |limit| self.block_bytes.min(of_object(limit)))
    }

    fn end_block(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        let compressed = self.codec.compress(self.block.as_bytes())?;
        self.block.clear();
        self.row_start = 0;
        let size = compressed.len() as u64 + FRAME_BYTES;
        let mut open = match self.object.take() {
            Some(open) if out.max_object_bytes().is_some_and(|limit| open.bytes() + size > limit) => {
                open.finish();
                self.open(out)?
            }
            Some(open) => open,
            None => self.open(out)?,
        };
        let mut frame = Buffer::new();
        write_long(self.block_rows.cast_signed(), &mut frame);
        write_long(compressed.len() as i64, &mut frame);
        open.pending.extend_from_slice(frame.as_bytes());
        open.pending.extend_from_slice(&compressed);
        open.pending.extend_from_slice(&self.sync);
        open.rows += mem::take(&mut self.block_rows);
        if open.pending.len() >= CHUNK_BYTES {
            open.flush();
        }
        self.object = Some(open);
        Ok(())
    }

    fn open(&mut self, out: &mut Output<'_>) -> Result<OpenObject, Error> {
        self.any_object = true;
        Ok(OpenObject { object: out.next_object()?, pending: self.header.clone(), rows: 0 })
    }
}

impl OpenObject {
    fn bytes(&self) -> u64 {
        self.object.bytes() + self.pending.len() as u64
    }

    fn flush(&mut self) {
        self.object.write(&self.pending);
        self.pending.clear();
    }

    fn finish(mut self) {
        self.flush();
        self.object.finish(self.rows);
    }
}

fn header(schema: &str, codec: &str, sync: &[u8; 16]) -> Vec<u8> {
    let mut header = Buffer::new();
    header.extend(b"Obj\x01");
    let metadata = [("avro.codec", codec), ("avro.schema", schema)];
    write_long(metadata.len() as i64, &mut header);
    for (key, value) in metadata {
        write_bytes(key.as_bytes(), &mut header);
        write_bytes(value.as_bytes(), &mut header);
    }
    write_long(0, &mut header);
    header.extend(sync);
    header.as_bytes().to_vec()
}

/// What stands between blocks. It has to be unlikely in the data, not a secret;
/// and two attempts at a delivery have to be the same. So it is a hash (FNV-1a of
/// 128 bits) of what the delivery is.
fn sync_marker(schema: &str, run: &RunFacts) -> [u8; 16] {
    let facts = ["share", "customer", "slot", "object-stem"].map(|key| run.get(key).unwrap_or_default());
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for text in facts.iter().map(String::as_str).chain([schema]) {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    hash.to_be_bytes()
}
