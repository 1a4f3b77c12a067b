//! The parquet format: every column with its own type, nested ones included.
//!
//! Pages are compressed as they are encoded and a row group is handed to the
//! host as soon as it is full, so memory depends on the size of a row group and
//! the number of columns, never on the dataset.

mod convert;
mod options;
mod types;

use std::io;
use std::mem;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use consign_sdk::{Batch, Diagnostic, Error, Formatter, Object, Output, RunFacts, Schema};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::errors::ParquetError;

pub use options::{Compression, Options, Statistics};

/// Rows encoded at once. Sizes are looked at in between, so this is how exact
/// row groups and objects are cut.
const STEP_ROWS: usize = 8192;

/// What the footer says of one column of one row group: place, sizes,
/// statistics and the index of its pages. Measured on tables of plain columns.
const FOOTER_BYTES_PER_CHUNK: u64 = 320;

/// Bytes handed to the host at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// The parquet format.
pub struct Parquet {
    schema: SchemaRef,
    /// Parquet's columns: the plain ones at the leaves of nested types.
    leaves: usize,
    writer_options: ArrowWriterOptions,
    file: Option<File>,
    any_object: bool,
}

/// One object that is being written.
struct File {
    object: Object,
    writer: ArrowWriter<Spool>,
    leaves: usize,
    rows: u64,
    /// What the last step added, to foresee the next.
    step_bytes: u64,
}

/// What the Parquet writer has written and the object has not got yet.
///
/// The writer wants something that may change threads, which a host's object
/// may not; and full chunks are larger than what the writer passes on.
#[derive(Default)]
struct Spool {
    chunks: Vec<Vec<u8>>,
}

impl Formatter for Parquet {
    const NAME: &'static str = "parquet";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const EXTENSION: &'static str = "parquet";
    const MEDIA_TYPE: &'static str = "application/vnd.apache.parquet";

    type Options = Options;

    fn open(options: Options, schema: &Schema, _run: &RunFacts) -> Result<Self, Error> {
        let arrow = types::schema(schema)?;
        let leaves = types::leaves(schema);
        Ok(Parquet {
            schema: arrow.into(),
            leaves,
            writer_options: options.writer_options(leaves)?,
            file: None,
            any_object: false,
        })
    }

    fn write(&mut self, batch: &Batch<'_>, out: &mut Output<'_>) -> Result<(), Error> {
        let batch = consign_sdk_arrow::record_batch(&self.schema, batch, convert::convert)?;
        for start in (0..batch.num_rows()).step_by(STEP_ROWS) {
            let rows = STEP_ROWS.min(batch.num_rows() - start);
            let mut file = self.take_file(out)?;
            file.write(&batch.slice(start, rows))?;
            match out.max_object_bytes() {
                Some(limit) if file.is_full(limit) => file.finish()?,
                _ => self.file = Some(file),
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        // When the last object was cut exactly at the end of the data, another
        // one without rows would only puzzle the customer.
        if self.file.is_none() && self.any_object { Ok(()) } else { self.take_file(out)?.finish() }
    }

    fn check(options: &str, schema: &Schema) -> Vec<Diagnostic> {
        let mut findings = consign_sdk::options::check::<Self>(options, schema);
        findings.extend(types::warnings(schema));
        findings
    }
}

impl Parquet {
    fn take_file(&mut self, out: &mut Output<'_>) -> Result<File, Error> {
        if let Some(file) = self.file.take() {
            return Ok(file);
        }
        let options = self.writer_options.clone();
        let writer = ArrowWriter::try_new_with_options(Spool::default(), self.schema.clone(), options);
        self.any_object = true;
        let object = out.next_object()?;
        Ok(File { object, writer: writer.map_err(failed)?, leaves: self.leaves, rows: 0, step_bytes: 0 })
    }
}

impl File {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let before = self.bytes();
        self.writer.write(batch).map_err(failed)?;
        self.rows += batch.num_rows() as u64;
        self.step_bytes = self.bytes().saturating_sub(before);
        self.writer.inner_mut().drain_into(&mut self.object);
        Ok(())
    }

    /// Whether another step like the last would make the object too large.
    fn is_full(&self, limit: u64) -> bool {
        self.bytes() + self.step_bytes > limit
    }

    /// About how large the object would be if it were finished now.
    fn bytes(&self) -> u64 {
        let row_groups = self.writer.flushed_row_groups().len() + 1;
        let chunks = (row_groups * self.leaves) as u64;
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64 + chunks * FOOTER_BYTES_PER_CHUNK
    }

    fn finish(mut self) -> Result<(), Error> {
        let mut rest = self.writer.into_inner().map_err(failed)?;
        rest.drain_into(&mut self.object);
        self.object.finish(self.rows);
        Ok(())
    }
}

impl Spool {
    fn drain_into(&mut self, object: &mut Object) {
        for chunk in mem::take(&mut self.chunks) {
            object.write(&chunk);
        }
    }
}

impl io::Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.chunks.last_mut().filter(|chunk| chunk.len() + bytes.len() <= chunk.capacity()) {
            Some(chunk) => chunk.extend_from_slice(bytes),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES.max(bytes.len()));
                chunk.extend_from_slice(bytes);
                self.chunks.push(chunk);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(error: ParquetError) -> Error {
    Error::Other(format!("the Parquet writer failed: {error}"))
}

consign_sdk::export!(Parquet);
