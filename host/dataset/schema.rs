//! The columns of a table: read or inferred file by file, so that what is wrong
//! is said of the file that it is wrong in, and merged without guessing.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::file_format::FileFormat as Reader;
use datafusion::execution::session_state::SessionState;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::error::{DatasetError, Kind, near};
use super::source::Found;
use super::text::{self, Column, Declared, Seen};
use crate::config::{FileFormat, TableSource};
use crate::domain::TableName;

/// Files whose head is looked at, or whose text is read, at the same time.
const LOOKED_AT: usize = 8;

/// The schema of files that carry their types, without partition columns.
pub(super) async fn of_files(
    table: &TableName,
    source: &TableSource,
    found: &Found,
    reader: &Arc<dyn Reader>,
    session: &SessionState,
) -> Result<SchemaRef, DatasetError> {
    if let Some(column) = source.columns.keys().next() {
        let what = format!("`columns` has '{column}', but these files carry their own types");
        let error = DatasetError::new(Kind::Config, what, "remove `columns`, and cast in `query`");
        return Err(error.in_table(table, None));
    }
    let schemas =
        each(table, found, |meta| async move { of_file(source, &found.store, &meta, reader, session).await }.boxed())
            .await?;
    let schema = merge(&schemas).map_err(|(file, error)| error.in_table(table, Some(&file)))?;
    check_partitions(&schema, source).map_err(|error| error.in_table(table, None))?;
    Ok(schema)
}

/// The schema of text files, and what else was seen in them.
pub(super) async fn of_text(
    table: &TableName,
    source: &TableSource,
    found: &Found,
    session: &SessionState,
) -> Result<(SchemaRef, Seen), DatasetError> {
    let unnamed = |error: DatasetError| error.in_table(table, None);
    let declared = declared(source, session).await.map_err(unnamed)?;
    let types = &declared;
    let files =
        each(table, found, |meta| async move { text::see(&source.format, types, &found.store, &meta).await }.boxed())
            .await?;
    let csv = matches!(source.format, FileFormat::Csv { .. });
    let seen = join(files, csv).map_err(|(file, error)| error.in_table(table, Some(&file)))?;
    let names: Vec<&str> = seen.columns.iter().map(|column| column.name.as_str()).collect();
    if let Some(gone) = declared.iter().find(|declared| !names.contains(&declared.column.as_str())) {
        let column = &gone.column;
        let what = match near(column, names.iter().copied()) {
            Some(near) => format!("`columns` has '{column}', which is in no file; did you mean '{near}'?"),
            None => format!("`columns` has '{column}', which is in no file; there are {}", names.join(", ")),
        };
        return Err(unnamed(DatasetError::new(Kind::Config, what, "")));
    }
    let schema = Arc::new(Schema::new(seen.columns.iter().map(Column::field).collect::<Vec<_>>()));
    check_partitions(&schema, source).map_err(unnamed)?;
    Ok((schema, seen))
}

/// What `look` says of each file, by the file's name. Takes and gives what is owned and boxed, so
/// that the whole can be sent between threads (rust-lang/rust#102211).
async fn each<'a, T: Send + 'a>(
    table: &'a TableName,
    found: &'a Found,
    look: impl Fn(ObjectMeta) -> BoxFuture<'a, Result<T, DatasetError>>,
) -> Result<Vec<(String, T)>, DatasetError> {
    stream::iter(found.files.iter().cloned())
        .map(|meta| {
            let file = format!("{}{}", found.root, meta.location);
            let looked = look(meta);
            async move {
                match looked.await {
                    Ok(seen) => Ok((file, seen)),
                    Err(error) => Err(error.in_table(table, Some(&file))),
                }
            }
            .boxed()
        })
        .buffered(LOOKED_AT)
        .try_collect()
        .await
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
    let schema = reader
        .infer_schema(session, store, std::slice::from_ref(meta))
        .await
        .map_err(|error| DatasetError::engine(&error))?;
    if schema.fields().is_empty() {
        return Err(empty());
    }
    match source.format {
        FileFormat::ArrowIpc => check_ipc_end(store, meta).await?,
        FileFormat::Avro => check_avro_end(store, meta).await?,
        FileFormat::Parquet | FileFormat::Csv { .. } | FileFormat::Ndjson => {}
    }
    Ok(schema)
}

fn empty() -> DatasetError {
    DatasetError::new(Kind::Data, "the file is empty", "write a whole file, or none")
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

type InFile = (String, DatasetError);

/// What was seen in text files, joined. CSV's columns have places, so all files must have the
/// same ones in the same order.
fn join(files: Vec<(String, Seen)>, csv: bool) -> Result<Seen, InFile> {
    let mut files = files.into_iter();
    let (first, mut seen) = files.next().unwrap_or_default();
    let names = |seen: &Seen| seen.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    for (file, other) in files {
        if csv && names(&other) != names(&seen) {
            let (its, those) = (names(&other).join(", "), names(&seen).join(", "));
            let what = format!("its columns are {its}, while {first} has {those}");
            let remedy = "give all files of a table the same columns in the same order";
            return Err((file, DatasetError::new(Kind::Data, what, remedy)));
        }
        seen.record_bytes = seen.record_bytes.max(other.record_bytes);
        for column in &other.columns {
            let Some(known) = seen.columns.iter_mut().find(|known| known.name == column.name) else {
                seen.columns.push(column.clone());
                continue;
            };
            if let Err((path, known, its)) = known.join(column, csv) {
                let what = format!("its column '{path}' has the type {its}, while the files before it have {known}");
                let remedy = "write values of one type, or name the column's type in the table's `columns`";
                return Err((file, DatasetError::new(Kind::Data, what, remedy)));
            }
        }
    }
    Ok(seen)
}

/// Columns by name, in order of first appearance; those that a file lacks are NULL there.
fn merge(schemas: &[(String, SchemaRef)]) -> Result<SchemaRef, InFile> {
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
            let Some(joined) = same(known.data_type(), field.data_type()) else {
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

/// The types that the configuration gives to columns.
async fn declared(source: &TableSource, session: &SessionState) -> Result<Vec<Declared>, DatasetError> {
    let mut declared = Vec::new();
    for (column, sql) in &source.columns {
        let data_type = sql_type(column, sql, session).await?;
        declared.push(Declared { column: column.clone(), sql: sql.clone(), data_type });
    }
    Ok(declared)
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
    let words = sql.to_ascii_lowercase();
    let zoned = words.contains("timestamptz") || words.contains("with time zone");
    let plan = session
        .create_logical_plan(&format!("SELECT CAST(NULL AS {sql})"))
        .await
        .map_err(|error| bad(format!("is no type: {}", DatasetError::engine(&error).message)))?;
    match plan.schema().fields().first() {
        Some(field) => match field.data_type() {
            // The query engine drops the zone.
            DataType::Timestamp(unit, None) if zoned => Ok(DataType::Timestamp(*unit, Some("UTC".into()))),
            known if text::can_be_declared(known) => Ok(known.clone()),
            _ => Err(bad("is not read from text".into())),
        },
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
