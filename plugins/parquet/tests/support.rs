//! Arrow data as a host would lower it, and a sink that keeps what it gets.

use std::cell::RefCell;
use std::rc::Rc;

use arrow_array::{Array, RecordBatch, make_array};
use arrow_data::ArrayData;
use arrow_schema as arrow;
use bytes::Bytes;
use consign_parquet::{Options, Parquet};
use consign_sdk::{
    Batch, BatchSource, DataType, Error, Field, Formatter, IntervalUnit, Naming, ObjectSink, Output, RawColumn,
    RunFacts, Schema, Sink, TimeUnit,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};

/// One finished object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stored {
    pub name: String,
    pub media_type: String,
    pub bytes: Vec<u8>,
    pub rows: u64,
}

/// Formats `batches` with options (JSON text).
pub fn format(options: &str, batches: &[RecordBatch], run: &RunFacts) -> Result<Vec<Stored>, Error> {
    let fields = batches.first().map(|batch| fields(batch.schema().fields())).unwrap_or_default();
    let schema = Schema { fields };
    let options: Options = consign_sdk::options::parse(options)?;
    let mut formatter = Parquet::open(options, &schema, run)?;
    let mut naming = Naming::new(run, Parquet::EXTENSION, Parquet::MEDIA_TYPE)?;
    let memory = Memory::default();
    for batch in batches {
        let source = Lowered(batch.clone());
        formatter.write(&Batch::new(&schema, &source), &mut Output::new(&memory, &mut naming))?;
    }
    formatter.finish(&mut Output::new(&memory, &mut naming))?;
    Ok(memory.0.take())
}

/// One object that holds `batch`.
pub fn one_object(options: &str, batch: &RecordBatch) -> Result<Stored, Error> {
    let mut objects = format(options, std::slice::from_ref(batch), &RunFacts::none())?;
    assert_eq!(objects.len(), 1);
    Ok(objects.remove(0))
}

/// Reads a whole Parquet file as one batch.
pub fn read(stored: &Stored) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(stored.bytes.clone())).unwrap();
    let mut reader = reader.with_batch_size(1 << 24).build().unwrap();
    let schema = arrow_array::RecordBatchReader::schema(&reader);
    let batch = reader.next().transpose().unwrap();
    assert!(reader.next().is_none());
    batch.unwrap_or_else(|| RecordBatch::new_empty(schema))
}

/// The footer of a Parquet file.
pub fn metadata(stored: &Stored) -> ParquetMetaData {
    SerializedFileReader::new(Bytes::from(stored.bytes.clone())).unwrap().metadata().clone()
}

fn fields(fields: &arrow::Fields) -> Vec<Field> {
    let field = |field: &arrow::FieldRef| Field {
        name: field.name().clone(),
        data_type: data_type(field.data_type()),
        nullable: field.is_nullable(),
    };
    fields.iter().map(field).collect()
}

fn child(field: &arrow::FieldRef) -> Box<Field> {
    Box::new(fields(&vec![field.clone()].into()).remove(0))
}

fn data_type(arrow: &arrow::DataType) -> DataType {
    use arrow::DataType as A;
    match arrow {
        A::Null => DataType::Null,
        A::Boolean => DataType::Boolean,
        A::Int8 => DataType::Int8,
        A::Int16 => DataType::Int16,
        A::Int32 => DataType::Int32,
        A::Int64 => DataType::Int64,
        A::UInt8 => DataType::UInt8,
        A::UInt16 => DataType::UInt16,
        A::UInt32 => DataType::UInt32,
        A::UInt64 => DataType::UInt64,
        A::Float16 => DataType::Float16,
        A::Float32 => DataType::Float32,
        A::Float64 => DataType::Float64,
        A::Decimal32(precision, scale) => DataType::Decimal32 { precision: *precision, scale: *scale },
        A::Decimal64(precision, scale) => DataType::Decimal64 { precision: *precision, scale: *scale },
        A::Decimal128(precision, scale) => DataType::Decimal128 { precision: *precision, scale: *scale },
        A::Decimal256(precision, scale) => DataType::Decimal256 { precision: *precision, scale: *scale },
        A::Date32 => DataType::Date32,
        A::Date64 => DataType::Date64,
        A::Time32(u) => DataType::Time32(unit(*u)),
        A::Time64(u) => DataType::Time64(unit(*u)),
        A::Timestamp(u, zone) => DataType::Timestamp { unit: unit(*u), timezone: zone.as_deref().map(str::to_owned) },
        A::Duration(u) => DataType::Duration(unit(*u)),
        A::Interval(arrow::IntervalUnit::YearMonth) => DataType::Interval(IntervalUnit::YearMonth),
        A::Interval(arrow::IntervalUnit::DayTime) => DataType::Interval(IntervalUnit::DayTime),
        A::Interval(arrow::IntervalUnit::MonthDayNano) => DataType::Interval(IntervalUnit::MonthDayNano),
        A::Binary => DataType::Binary,
        A::LargeBinary => DataType::LargeBinary,
        A::FixedSizeBinary(size) => DataType::FixedSizeBinary(size.cast_unsigned()),
        A::Utf8 => DataType::Utf8,
        A::LargeUtf8 => DataType::LargeUtf8,
        A::List(item) => DataType::List(child(item)),
        A::LargeList(item) => DataType::LargeList(child(item)),
        A::FixedSizeList(item, size) => DataType::FixedSizeList { item: child(item), size: size.cast_unsigned() },
        A::Struct(members) => DataType::Struct(fields(members)),
        A::Map(entries, sorted) => DataType::Map { entries: child(entries), sorted: *sorted },
        A::Union(members, _) => {
            let (ids, members): (Vec<i8>, Vec<_>) = members.iter().map(|(id, field)| (id, *child(field))).unzip();
            DataType::SparseUnion { ids, members }
        }
        other => panic!("the host would have decoded {other}"),
    }
}

fn unit(unit: arrow::TimeUnit) -> TimeUnit {
    match unit {
        arrow::TimeUnit::Second => TimeUnit::Second,
        arrow::TimeUnit::Millisecond => TimeUnit::Millisecond,
        arrow::TimeUnit::Microsecond => TimeUnit::Microsecond,
        arrow::TimeUnit::Nanosecond => TimeUnit::Nanosecond,
    }
}

struct Lowered(RecordBatch);

impl BatchSource for Lowered {
    fn rows(&self) -> usize {
        self.0.num_rows()
    }

    fn columns(&self) -> Vec<RawColumn> {
        let mut columns = Vec::new();
        for column in self.0.columns() {
            lower(&column.to_data(), &mut columns);
        }
        columns
    }

    fn arrow_ipc(&self) -> Vec<u8> {
        panic!("the parquet format reads columns");
    }

    fn json_lines(&self) -> Vec<u8> {
        panic!("the parquet format reads columns");
    }
}

/// The test's arrays are whole, so that every buffer begins at 0.
fn lower(data: &ArrayData, columns: &mut Vec<RawColumn>) {
    use arrow::DataType as A;
    assert_eq!(data.offset(), 0);
    let buffer = |index: usize| data.buffers()[index].to_vec();
    let (offsets, values) = match data.data_type() {
        A::Null | A::FixedSizeList(..) | A::Struct(_) => (None, Vec::new()),
        A::List(_) | A::LargeList(_) | A::Map(..) => (Some(buffer(0)), Vec::new()),
        A::Utf8 | A::LargeUtf8 | A::Binary | A::LargeBinary => (Some(buffer(0)), buffer(1)),
        _ => (None, buffer(0)),
    };
    columns.push(RawColumn {
        length: data.len(),
        null_count: data.null_count(),
        validity: data.nulls().map(|nulls| nulls.validity().to_vec()),
        offsets,
        values,
    });
    for child in data.child_data() {
        // A fixed-size list's or struct's members may be longer than it.
        lower(&make_array(child.clone()).to_data(), columns);
    }
}

#[derive(Default)]
struct Memory(Rc<RefCell<Vec<Stored>>>);

struct MemoryObject {
    all: Rc<RefCell<Vec<Stored>>>,
    stored: Stored,
}

impl Sink for Memory {
    fn create(&self, name: &str, media_type: &str) -> Box<dyn ObjectSink> {
        let stored = Stored { name: name.into(), media_type: media_type.into(), ..Stored::default() };
        Box::new(MemoryObject { all: self.0.clone(), stored })
    }
}

impl ObjectSink for MemoryObject {
    fn write(&mut self, bytes: &[u8]) {
        self.stored.bytes.extend_from_slice(bytes);
    }

    fn finish(mut self: Box<Self>, rows: u64) {
        self.stored.rows = rows;
        self.all.borrow_mut().push(self.stored);
    }
}
