//! Run a formatter without a host: batches made of plain values, objects kept
//! in memory. For tests and benchmarks; the sandbox is the same but for speed.

use std::cell::RefCell;
use std::rc::Rc;

use crate::{
    Batch, BatchSource, DataType, Error, Field, Formatter, Naming, ObjectSink, Output, RawColumn, RunFacts, Schema,
    Sink, options,
};

/// An object that a formatter wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WrittenObject {
    /// Its leaf name.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The rows it was finished with; none when it was not finished.
    pub rows: Option<u64>,
}

/// A sink that keeps everything.
#[derive(Debug, Default)]
pub struct MemorySink {
    objects: RefCell<Vec<Rc<RefCell<WrittenObject>>>>,
}

/// A batch in memory. It has no Arrow IPC and no JSON lines view: those are
/// empty unless set.
#[derive(Debug, Clone, Default)]
pub struct MemoryBatch {
    /// Number of rows.
    pub rows: usize,
    /// Every column, nested ones in preorder.
    pub columns: Vec<RawColumn>,
    /// The Arrow IPC view.
    pub arrow_ipc: Vec<u8>,
    /// The JSON lines view.
    pub json_lines: Vec<u8>,
}

/// A schema and its data, added column by column.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The columns' names and types.
    pub schema: Schema,
    /// The one batch.
    pub batch: MemoryBatch,
}

/// Formats `batches` as one delivery with the given options (JSON text).
pub fn format<F: Formatter>(
    options: &str,
    schema: &Schema,
    batches: &[MemoryBatch],
    run: &RunFacts,
) -> Result<Vec<WrittenObject>, Error> {
    let sink = MemorySink::default();
    let mut naming = Naming::new(run, F::EXTENSION, F::MEDIA_TYPE)?;
    let mut formatter = F::open(options::parse(options)?, schema, run)?;
    for batch in batches {
        formatter.write(&Batch::new(schema, batch), &mut Output::new(&sink, &mut naming))?;
    }
    formatter.finish(&mut Output::new(&sink, &mut naming))?;
    Ok(sink.objects())
}

impl Table {
    /// No columns yet.
    pub fn new() -> Self {
        Table::default()
    }

    /// Adds a column with its nodes in preorder: its own, then its children's.
    pub fn column(mut self, name: &str, data_type: DataType, nodes: Vec<RawColumn>) -> Self {
        self.schema.fields.push(Field::new(name, data_type));
        self.batch.rows = nodes.first().map_or(0, |node| node.length);
        self.batch.columns.extend(nodes);
        self
    }

    /// Formats the table in one batch.
    pub fn format<F: Formatter>(&self, options: &str, run: &RunFacts) -> Result<Vec<WrittenObject>, Error> {
        format::<F>(options, &self.schema, std::slice::from_ref(&self.batch), run)
    }
}

/// A node of values of fixed width, as little-endian bytes.
pub fn fixed<const N: usize>(values: impl IntoIterator<Item = Option<[u8; N]>>) -> RawColumn {
    let values: Vec<_> = values.into_iter().collect();
    let bytes = values.iter().flat_map(|value| value.unwrap_or([0; N])).collect();
    RawColumn { values: bytes, ..node(values.iter().map(Option::is_some)) }
}

/// A node of a boolean column.
pub fn bools(values: impl IntoIterator<Item = Option<bool>>) -> RawColumn {
    let values: Vec<_> = values.into_iter().collect();
    let bits = bits(values.iter().map(|value| value.unwrap_or(false)));
    RawColumn { values: bits, ..node(values.iter().map(Option::is_some)) }
}

/// A node of a text or binary column with 4-byte offsets.
pub fn texts<T: AsRef<[u8]>>(values: impl IntoIterator<Item = Option<T>>) -> RawColumn {
    let values: Vec<_> = values.into_iter().collect();
    let lengths = values.iter().map(|value| value.as_ref().map_or(0, |v| v.as_ref().len()));
    let offsets = Some(offsets(lengths));
    let bytes = values.iter().flatten().flat_map(|value| value.as_ref().iter().copied()).collect();
    RawColumn { values: bytes, offsets, ..node(values.iter().map(Option::is_some)) }
}

/// A node of a list or map column with 4-byte offsets: the number of items of
/// each row.
pub fn lists(lengths: impl IntoIterator<Item = Option<usize>>) -> RawColumn {
    let lengths: Vec<_> = lengths.into_iter().collect();
    let offsets = Some(offsets(lengths.iter().map(|length| length.unwrap_or(0))));
    RawColumn { offsets, ..node(lengths.iter().map(Option::is_some)) }
}

/// A node without values: of a struct, a fixed-size list or a null column.
pub fn node(valid: impl IntoIterator<Item = bool>) -> RawColumn {
    let valid: Vec<_> = valid.into_iter().collect();
    let null_count = valid.iter().filter(|valid| !**valid).count();
    let length = valid.len();
    let validity = (null_count > 0).then(|| bits(valid.into_iter()));
    RawColumn { length, null_count, validity, ..RawColumn::default() }
}

fn bits(values: impl Iterator<Item = bool>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, value) in values.enumerate() {
        if at % 8 == 0 {
            bytes.push(0);
        }
        if let Some(last) = bytes.last_mut() {
            *last |= u8::from(value) << (at % 8);
        }
    }
    bytes
}

fn offsets(lengths: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut end = 0u32;
    let mut bytes = end.to_le_bytes().to_vec();
    for length in lengths {
        end += length as u32;
        bytes.extend(end.to_le_bytes());
    }
    bytes
}

impl MemorySink {
    /// What has been written so far.
    pub fn objects(&self) -> Vec<WrittenObject> {
        self.objects.borrow().iter().map(|object| object.borrow().clone()).collect()
    }
}

impl Sink for MemorySink {
    fn create(&self, name: &str, media_type: &str) -> Box<dyn ObjectSink> {
        let object = WrittenObject { name: name.into(), media_type: media_type.into(), ..WrittenObject::default() };
        let object = Rc::new(RefCell::new(object));
        self.objects.borrow_mut().push(Rc::clone(&object));
        Box::new(MemoryObject(object))
    }
}

struct MemoryObject(Rc<RefCell<WrittenObject>>);

impl ObjectSink for MemoryObject {
    fn write(&mut self, bytes: &[u8]) {
        self.0.borrow_mut().bytes.extend_from_slice(bytes);
    }

    fn finish(self: Box<Self>, rows: u64) {
        self.0.borrow_mut().rows = Some(rows);
    }
}

impl BatchSource for MemoryBatch {
    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> Vec<RawColumn> {
        self.columns.clone()
    }

    fn arrow_ipc(&self) -> Vec<u8> {
        self.arrow_ipc.clone()
    }

    fn json_lines(&self) -> Vec<u8> {
        self.json_lines.clone()
    }
}
