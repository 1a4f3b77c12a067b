//! Text files: CSV and newline-delimited JSON. Each is read twice: once to its
//! end to see what its values are, so that no type is guessed from a part of
//! them, and once for its rows.

mod csv;
mod exact;
mod kinds;
mod ndjson;
mod scan;

use std::io::{BufRead, BufReader, Cursor, Read};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use datafusion::common::DataFusionError;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;

use super::error::{DatasetError, Kind};
use super::named::shortened;
use super::stream::BATCH_ROWS;
use crate::config::FileFormat;
pub(super) use exact::can_be_declared;
pub(super) use kinds::Column;
pub(super) use scan::TextScan;

/// Bytes of one record, at most. A quote that is never closed would else gather the rest of a file.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// Bytes of the records of one batch, about.
const BATCH_BYTES: usize = 32 << 20;

/// What reading a file, or several, to the end has shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// In the order of the file.
    pub columns: Vec<Column>,
    /// Bytes of the largest record.
    pub record_bytes: usize,
}

impl Seen {
    /// Rows of a batch, so that it is bounded in bytes too.
    pub fn batch_rows(&self) -> usize {
        (BATCH_BYTES / self.record_bytes.max(1)).clamp(1, BATCH_ROWS)
    }
}

/// A column whose type the configuration says.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub column: String,
    /// As it is written there.
    pub sql: String,
    pub data_type: DataType,
}

/// Reads a file to its end: fails if it is malformed, or if a value cannot be held without a loss.
pub(super) async fn see(
    format: &FileFormat,
    declared: &[Declared],
    store: &Arc<dyn ObjectStore>,
    meta: &ObjectMeta,
) -> Result<Seen, DatasetError> {
    let (format, declared, store, meta) = (format.clone(), declared.to_vec(), store.clone(), meta.clone());
    let seen = tokio::task::spawn_blocking(move || {
        let input = open(&store, &meta).map_err(|error| DatasetError::engine(&error))?;
        match format {
            FileFormat::Csv { header, delimiter, quote } => csv::see(input, header, delimiter, quote, &declared),
            _ => ndjson::see(input, &declared),
        }
    });
    seen.await.map_err(|error| DatasetError::new(Kind::Internal, error.to_string(), ""))?
}

/// The columns `wanted` of a file's rows, as batches.
fn rows(
    format: &FileFormat,
    input: impl BufRead + 'static,
    schema: &SchemaRef,
    wanted: &[usize],
    batch_rows: usize,
) -> Result<Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>, ArrowError> {
    Ok(match format {
        FileFormat::Csv { header, delimiter, quote } => Box::new(
            arrow::csv::ReaderBuilder::new(schema.clone())
                .with_header(*header)
                .with_delimiter(*delimiter)
                .with_quote(*quote)
                .with_projection(wanted.to_vec())
                .with_batch_size(batch_rows)
                .build_buffered(input)?,
        ),
        _ => Box::new(
            arrow::json::ReaderBuilder::new(Arc::new(schema.project(wanted)?))
                .with_batch_size(batch_rows)
                // A number that is declared as text is what is written.
                .with_coerce_primitive(true)
                .build(input)?,
        ),
    })
}

/// A file's bytes, decompressed, without a byte order mark. For a thread that may wait.
fn open(store: &Arc<dyn ObjectStore>, meta: &ObjectMeta) -> Result<impl BufRead + use<>, DataFusionError> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let runtime = Handle::current();
    let stream = runtime.block_on(store.get(&meta.location))?.into_stream();
    let mut bytes = compression(meta).convert_read(Blocking { stream, chunk: Bytes::new(), runtime })?;
    let mut head = Vec::new();
    (&mut bytes).take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut head)?;
    if head == BYTE_ORDER_MARK {
        head.clear();
    }
    Ok(BufReader::with_capacity(64 << 10, Cursor::new(head).chain(bytes)))
}

/// By the file's suffix.
fn compression(meta: &ObjectMeta) -> FileCompressionType {
    match meta.location.extension().map(str::to_ascii_lowercase).as_deref() {
        Some("gz") => FileCompressionType::GZIP,
        Some("zst") => FileCompressionType::ZSTD,
        Some("bz2") => FileCompressionType::BZIP2,
        Some("xz") => FileCompressionType::XZ,
        _ => FileCompressionType::UNCOMPRESSED,
    }
}

/// Bytes from the object store for a thread that may wait.
struct Blocking {
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    chunk: Bytes,
    runtime: Handle,
}

impl Read for Blocking {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(Ok(chunk)) if chunk.is_empty() => return Err(std::io::Error::other(shortened())),
                Some(chunk) => self.chunk = chunk.map_err(std::io::Error::other)?,
                None => return Ok(0),
            }
        }
        let taken = self.chunk.split_to(buffer.len().min(self.chunk.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}

fn unread(error: std::io::Error) -> DatasetError {
    DatasetError::engine(&DataFusionError::IoError(error))
}

fn malformed(what: String, remedy: &str) -> DatasetError {
    DatasetError::new(Kind::Data, what, remedy)
}

fn empty() -> DatasetError {
    malformed("the file is empty".into(), "write a whole file, with its header, or none")
}

/// A value as an error shows it: in part, if it is long.
fn shown(value: &str) -> String {
    const CHARS: usize = 60;
    match value.char_indices().nth(CHARS) {
        Some((at, _)) => format!("'{}…'", &value[..at]),
        None => format!("'{value}'"),
    }
}
