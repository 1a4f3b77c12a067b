//! The columns of a table: read or inferred file by file, so that what is wrong
//! is said of the file that it is wrong in, and merged without guessing.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::reader::infer_json_schema_from_iterator;
use bytes::Bytes;
use datafusion::common::DataFusionError;
use datafusion::datasource::file_format::FileFormat as Reader;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::execution::session_state::SessionState;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde_json::Value;
use tokio::runtime::Handle;

use super::error::{DatasetError, Kind, near};
use super::source::Found;
use crate::config::{FileFormat, TableSource};
use crate::domain::TableName;

/// Lines that CSV's types are inferred from.
pub(super) const CSV_LINES_SEEN: usize = 1000;

/// Files whose head is looked at, at the same time.
const LOOKED_AT: usize = 8;

/// The schema of the files, without partition columns.
pub(super) async fn of_files(
    table: &TableName,
    source: &TableSource,
    found: &Found,
    reader: &Arc<dyn Reader>,
    session: &SessionState,
) -> Result<SchemaRef, DatasetError> {
    let schemas: Vec<(String, SchemaRef)> = stream::iter(found.files.iter().cloned())
        // Boxed, so that the whole can be sent between threads (rust-lang/rust#102211).
        .map(|meta| {
            async move {
                let file = format!("{}{}", found.root, meta.location);
                let schema = match source.format {
                    FileFormat::Ndjson => of_ndjson(&found.store, &meta).await,
                    _ => of_file(source, &found.store, &meta, reader, session).await,
                };
                schema.map(|schema| (file.clone(), schema)).map_err(|error| error.in_table(table, Some(&file)))
            }
            .boxed()
        })
        .buffered(LOOKED_AT)
        .try_collect()
        .await?;
    let merged = match source.format {
        FileFormat::Csv { .. } => merge_csv(&schemas),
        FileFormat::Ndjson => merge(&schemas, widen),
        FileFormat::Parquet | FileFormat::ArrowIpc | FileFormat::Avro => merge(&schemas, same),
    }
    .map_err(|(file, error)| error.in_table(table, Some(&file)))?;
    let schema = declare(merged, source, session).await.map_err(|error| error.in_table(table, None))?;
    check_partitions(&schema, source).map_err(|error| error.in_table(table, None))?;
    Ok(schema)
}

async fn of_file(
    source: &TableSource,
    store: &Arc<dyn ObjectStore>,
    meta: &ObjectMeta,
    reader: &Arc<dyn Reader>,
    session: &SessionState,
) -> Result<SchemaRef, DatasetError> {
    if meta.size == 0 {
        return Err(empty());
    }
    let schema = match source.format {
        FileFormat::Csv { header, delimiter, quote } => {
            let format = Format::default().with_header(header).with_delimiter(delimiter).with_quote(quote);
            of_csv(format, store, meta).await?
        }
        _ => reader
            .infer_schema(session, store, std::slice::from_ref(meta))
            .await
            .map_err(|error| DatasetError::engine(&error))?,
    };
    if schema.fields().is_empty() {
        return Err(empty());
    }
    if source.format == FileFormat::ArrowIpc {
        check_ipc_end(store, meta).await?;
    }
    if source.format == FileFormat::Avro {
        check_avro_end(store, meta).await?;
    }
    if matches!(source.format, FileFormat::Csv { .. }) {
        let mut names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let what = format!("the header has the column '{}' twice", twice[0]);
            return Err(DatasetError::new(Kind::Data, what, "give every column a name of its own"));
        }
    }
    Ok(schema)
}

fn empty() -> DatasetError {
    DatasetError::new(Kind::Data, "the file is empty", "write a whole file, with its header, or none")
}

/// An IPC stream that was cut between two messages looks complete but for its end mark
/// (Arrow columnar format, "IPC Streaming Format"); a file has its own magic number there.
async fn check_ipc_end(store: &Arc<dyn ObjectStore>, meta: &ObjectMeta) -> Result<(), DatasetError> {
    const END_OF_STREAM: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    let tail = store
        .get_range(&meta.location, meta.size.saturating_sub(8)..meta.size)
        .await
        .map_err(|error| DatasetError::store(&error))?;
    if tail.ends_with(b"ARROW1") || *tail == END_OF_STREAM {
        return Ok(());
    }
    let what = "the Arrow IPC data ends too early: it has no end mark";
    Err(DatasetError::new(Kind::Data, what, "write the file again, and close the writer"))
}

/// Avro readers take a block that was cut off for the end; but a whole file ends in the marker that
/// its header ends in (Avro specification, "Object Container Files").
async fn check_avro_end(store: &Arc<dyn ObjectStore>, meta: &ObjectMeta) -> Result<(), DatasetError> {
    const MARKER: u64 = 16;
    let range = |from: u64, to: u64| store.get_range(&meta.location, from..to);
    let refused = |error| DatasetError::store(&error);
    let tail = range(meta.size.saturating_sub(MARKER), meta.size).await.map_err(refused)?;
    let mut length = meta.size.min(64 << 10);
    loop {
        let head = range(0, length).await.map_err(refused)?;
        match avro_marker(&head) {
            Some(marker) if *marker == *tail => return Ok(()),
            None if length < meta.size => length = meta.size.min(length * 16),
            _ => {
                let what = "the Avro data ends too early: its last block is cut off";
                return Err(DatasetError::new(Kind::Data, what, "write the file again, and close the writer"));
            }
        }
    }
}

/// The marker after the header's map of metadata; none if the header goes on beyond `head`.
fn avro_marker(head: &[u8]) -> Option<&[u8]> {
    let mut rest = head.get(4..)?;
    loop {
        let mut entries = avro_long(&mut rest)?;
        if entries == 0 {
            return rest.get(..16);
        }
        if entries < 0 {
            // The block's size in bytes follows.
            avro_long(&mut rest)?;
            entries = entries.checked_neg()?;
        }
        // A key and a value each.
        for _ in 0..entries.checked_mul(2)? {
            let length = usize::try_from(avro_long(&mut rest)?).ok()?;
            rest = rest.get(length..)?;
        }
    }
}

/// A zigzag varint.
fn avro_long(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

/// The schema of the first lines. DataFusion would cut the file into pieces, and lose its place when
/// there are line breaks in quotes (object_store's `LineDelimiter` looks for a piece's end from behind).
async fn of_csv(format: Format, store: &Arc<dyn ObjectStore>, meta: &ObjectMeta) -> Result<SchemaRef, DatasetError> {
    let compression = compression(meta);
    let bytes = store.get(&meta.location).await.map_err(|error| DatasetError::store(&error))?.into_stream();
    let bytes = Blocking { stream: bytes, chunk: Bytes::new(), runtime: Handle::current() };
    let infer = move || -> Result<Schema, DataFusionError> {
        Ok(format.infer_schema(compression.convert_read(bytes)?, Some(CSV_LINES_SEEN))?.0)
    };
    let schema = tokio::task::spawn_blocking(infer)
        .await
        .map_err(|error| DatasetError::new(Kind::Internal, error.to_string(), ""))?
        .map_err(|error| DatasetError::engine(&error))?;
    Ok(Arc::new(schema))
}

/// The schema of every line, because a key that first comes up late would else be left out silently.
async fn of_ndjson(store: &Arc<dyn ObjectStore>, meta: &ObjectMeta) -> Result<SchemaRef, DatasetError> {
    let compression = compression(meta);
    let bytes = store.get(&meta.location).await.map_err(|error| DatasetError::store(&error))?.into_stream();
    let bytes = Blocking { stream: bytes, chunk: Bytes::new(), runtime: Handle::current() };
    let infer = move || -> Result<Schema, DataFusionError> {
        let lines = Lines { reader: BufReader::new(compression.convert_read(bytes)?), line: 0, text: Vec::new() };
        Ok(infer_json_schema_from_iterator(lines)?)
    };
    let schema = tokio::task::spawn_blocking(infer)
        .await
        .map_err(|error| DatasetError::new(Kind::Internal, error.to_string(), ""))?
        .map_err(|error| DatasetError::engine(&error))?;
    if schema.fields().is_empty() { Err(empty()) } else { Ok(Arc::new(schema)) }
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
                Some(chunk) => self.chunk = chunk.map_err(std::io::Error::other)?,
                None => return Ok(0),
            }
        }
        let taken = self.chunk.split_to(buffer.len().min(self.chunk.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}

/// The JSON objects of a text, one a line; errors name the line.
struct Lines<R> {
    reader: R,
    line: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Value, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.text.clear();
            match self.reader.read_until(b'\n', &mut self.text) {
                Ok(0) => return None,
                Ok(_) => self.line += 1,
                Err(error) => return Some(Err(ArrowError::IoError(error.to_string(), error))),
            }
            let text = self.text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let bad = |why: String| ArrowError::JsonError(format!("line {}: {why}", self.line));
            if let Err(error) = std::str::from_utf8(text) {
                return Some(Err(bad(format!("not UTF-8 after byte {}", error.valid_up_to()))));
            }
            return Some(match serde_json::from_slice::<Value>(text) {
                Ok(value @ Value::Object(_)) => Ok(value),
                Ok(_) => Err(bad("not an object; each line is one object".into())),
                Err(error) => Err(bad(format!("{error}").replace("line 1 column", "column"))),
            });
        }
    }
}

/// By the file's suffix.
pub(super) fn compression(meta: &ObjectMeta) -> FileCompressionType {
    match meta.location.extension() {
        Some("gz") => FileCompressionType::GZIP,
        Some("zst") => FileCompressionType::ZSTD,
        Some("bz2") => FileCompressionType::BZIP2,
        Some("xz") => FileCompressionType::XZ,
        _ => FileCompressionType::UNCOMPRESSED,
    }
}

type InFile = (String, DatasetError);

/// CSV's columns have places, so all files must have the same ones in the same order.
fn merge_csv(schemas: &[(String, SchemaRef)]) -> Result<SchemaRef, InFile> {
    let Some((first, schema)) = schemas.first() else {
        return Ok(Arc::new(Schema::empty()));
    };
    let names = |schema: &SchemaRef| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    for (file, other) in schemas {
        if names(other) != names(schema) {
            let what =
                format!("its columns are {}, while {first} has {}", names(other).join(", "), names(schema).join(", "));
            let remedy = "give all files of a table the same columns in the same order";
            return Err((file.clone(), DatasetError::new(Kind::Data, what, remedy)));
        }
    }
    merge(schemas, |a, b| Some(widen(a, b).unwrap_or(DataType::Utf8)))
}

/// Columns by name, in order of first appearance; those that a file lacks are NULL there.
fn merge(
    schemas: &[(String, SchemaRef)],
    join: impl Fn(&DataType, &DataType) -> Option<DataType>,
) -> Result<SchemaRef, InFile> {
    let mut fields: Vec<(Field, &str)> = Vec::new();
    for (number, (file, schema)) in schemas.iter().enumerate() {
        for (known, _) in &mut fields {
            if schema.index_of(known.name()).is_err() {
                known.set_nullable(true);
            }
        }
        for field in schema.fields() {
            let Some((known, origin)) = fields.iter_mut().find(|(known, _)| known.name() == field.name()) else {
                fields.push((field.as_ref().clone().with_nullable(field.is_nullable() || number > 0), file));
                continue;
            };
            let Some(joined) = join(known.data_type(), field.data_type()) else {
                let what = format!(
                    "its column '{}' has the type {}, while {origin} has {}",
                    field.name(),
                    field.data_type(),
                    known.data_type()
                );
                let remedy = "write all files of a table with the same types";
                return Err((file.clone(), DatasetError::new(Kind::Data, what, remedy)));
            };
            *known = known.clone().with_data_type(joined).with_nullable(known.is_nullable() || field.is_nullable());
        }
    }
    Ok(Arc::new(Schema::new(fields.into_iter().map(|(field, _)| field).collect::<Vec<_>>())))
}

/// Equal types, a dictionary being the same as its values.
fn same(a: &DataType, b: &DataType) -> Option<DataType> {
    let plain = |t: &DataType| match t {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        other => other.clone(),
    };
    if a.equals_datatype(b) {
        return Some(a.clone());
    }
    (plain(a) == plain(b)).then(|| plain(a))
}

/// What text can be inferred to be, joined.
fn widen(a: &DataType, b: &DataType) -> Option<DataType> {
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (DataType::Null, other) | (other, DataType::Null) => Some(other.clone()),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => Some(DataType::Float64),
        (DataType::List(a), DataType::List(b)) => {
            let item = widen(a.data_type(), b.data_type())?;
            Some(DataType::List(Arc::new(a.as_ref().clone().with_data_type(item))))
        }
        (DataType::Struct(a), DataType::Struct(b)) => {
            let mut fields: Vec<FieldRef> = a.iter().cloned().collect();
            for field in b {
                match fields.iter_mut().find(|known| known.name() == field.name()) {
                    Some(known) => {
                        let joined = widen(known.data_type(), field.data_type())?;
                        *known = Arc::new(known.as_ref().clone().with_data_type(joined));
                    }
                    None => fields.push(field.clone()),
                }
            }
            Some(DataType::Struct(fields.into()))
        }
        _ => None,
    }
}

/// Puts the declared types in, and text where nothing was ever seen.
async fn declare(schema: SchemaRef, source: &TableSource, session: &SessionState) -> Result<SchemaRef, DatasetError> {
    let inferred = matches!(source.format, FileFormat::Csv { .. } | FileFormat::Ndjson);
    if !inferred {
        return match source.columns.keys().next() {
            Some(column) => Err(DatasetError::new(
                Kind::Config,
                format!("`columns` has '{column}', but these files carry their own types"),
                "remove `columns`, and cast in `query`",
            )),
            None => Ok(schema),
        };
    }
    let mut declared = BTreeMap::new();
    for (column, sql) in &source.columns {
        if schema.index_of(column).is_err() {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let what = match near(column, names.iter().copied()) {
                Some(near) => format!("`columns` has '{column}', which is in no file; did you mean '{near}'?"),
                None => format!("`columns` has '{column}', which is in no file; there are {}", names.join(", ")),
            };
            return Err(DatasetError::new(Kind::Config, what, ""));
        }
        declared.insert(column.as_str(), sql_type(column, sql, session).await?);
    }
    let fields = schema.fields().iter().map(|field| {
        let data_type = match (declared.get(field.name().as_str()), field.data_type()) {
            (Some(declared), _) => declared.clone(),
            (None, DataType::Null) => DataType::Utf8,
            (None, inferred) => inferred.clone(),
        };
        field.as_ref().clone().with_data_type(data_type).with_nullable(true)
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// The Arrow type of an SQL type's name, as CAST understands it.
async fn sql_type(column: &str, sql: &str, session: &SessionState) -> Result<DataType, DatasetError> {
    let bad = |why: String| {
        let what = format!("`columns` gives '{column}' the type '{sql}', which {why}");
        DatasetError::new(
            Kind::Config,
            what,
            "write an SQL type such as varchar, bigint, double, decimal(18,2), date or timestamp",
        )
    };
    if !sql.chars().all(|c| c.is_ascii_alphanumeric() || " (),_".contains(c)) {
        return Err(bad("is not the name of a type".into()));
    }
    let plan = session
        .create_logical_plan(&format!("SELECT CAST(NULL AS {sql})"))
        .await
        .map_err(|error| bad(format!("is no type: {}", DatasetError::engine(&error).message)))?;
    match plan.schema().fields().first() {
        Some(field) => Ok(field.data_type().clone()),
        None => Err(bad("is no type".into())),
    }
}

fn check_partitions(schema: &SchemaRef, source: &TableSource) -> Result<(), DatasetError> {
    match source.partitions.iter().find(|column| schema.index_of(column).is_ok()) {
        None => Ok(()),
        Some(column) => Err(DatasetError::new(
            Kind::Config,
            format!("the column '{column}' is both in the files and in `partitions`"),
            "remove it from `partitions`; the files have it already",
        )),
    }
}
