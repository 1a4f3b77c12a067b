//! From the contract's types to the SDK's and back.

use crate::bindings::consign::format::{data, output, types};
use crate::schema::preorder::{FlatField, FlatType};
use crate::{
    BatchSource, DataType, Diagnostic, Error, IntervalUnit, ObjectSink, RawColumn, Schema, Severity, Sink, TimeUnit,
};

pub(super) fn schema(fields: Vec<types::Field>) -> Result<Schema, Error> {
    let flat = fields.into_iter().map(|field| FlatField {
        name: field.name,
        data_type: data_type(field.data_type),
        nullable: field.nullable,
        children: field.children,
    });
    Schema::from_preorder(flat.collect())
}

pub(super) fn diagnostic(finding: Diagnostic) -> types::Diagnostic {
    types::Diagnostic {
        severity: match finding.severity {
            Severity::Warning => types::Severity::Warning,
            Severity::Error => types::Severity::Error,
        },
        path: finding.path,
        message: finding.message,
    }
}

pub(super) fn error(error: Error) -> types::Error {
    let text = error.to_string();
    match error {
        Error::InvalidOptions(_) => types::Error::InvalidOptions(text),
        Error::Unsupported(_) => types::Error::Unsupported(text),
        Error::Quota(_) => types::Error::Quota(text),
        Error::Retryable(_) => types::Error::Retryable(text),
        Error::Other(_) => types::Error::Other(text),
    }
}

pub(super) fn reentered() -> types::Error {
    types::Error::Other("the host called the formatter while it was at work".into())
}

fn data_type(wit: types::DataType) -> FlatType {
    use types::DataType as Wit;
    FlatType::Plain(match wit {
        Wit::ListOf => return FlatType::List,
        Wit::LargeListOf => return FlatType::LargeList,
        Wit::FixedSizeListOf(size) => return FlatType::FixedSizeList(size),
        Wit::StructOf => return FlatType::Struct,
        Wit::MapOf(sorted) => return FlatType::Map(sorted),
        Wit::SparseUnionOf(ids) => return FlatType::SparseUnion(ids),
        Wit::DenseUnionOf(ids) => return FlatType::DenseUnion(ids),
        Wit::Null => DataType::Null,
        Wit::Boolean => DataType::Boolean,
        Wit::Int8 => DataType::Int8,
        Wit::Int16 => DataType::Int16,
        Wit::Int32 => DataType::Int32,
        Wit::Int64 => DataType::Int64,
        Wit::Uint8 => DataType::UInt8,
        Wit::Uint16 => DataType::UInt16,
        Wit::Uint32 => DataType::UInt32,
        Wit::Uint64 => DataType::UInt64,
        Wit::Float16 => DataType::Float16,
        Wit::Float32 => DataType::Float32,
        Wit::Float64 => DataType::Float64,
        Wit::Decimal32(d) => DataType::Decimal32 { precision: d.precision, scale: d.scale },
        Wit::Decimal64(d) => DataType::Decimal64 { precision: d.precision, scale: d.scale },
        Wit::Decimal128(d) => DataType::Decimal128 { precision: d.precision, scale: d.scale },
        Wit::Decimal256(d) => DataType::Decimal256 { precision: d.precision, scale: d.scale },
        Wit::Date32 => DataType::Date32,
        Wit::Date64 => DataType::Date64,
        Wit::Time32(u) => DataType::Time32(unit(u)),
        Wit::Time64(u) => DataType::Time64(unit(u)),
        Wit::Timestamp(t) => DataType::Timestamp { unit: unit(t.unit), timezone: t.timezone },
        Wit::Duration(u) => DataType::Duration(unit(u)),
        Wit::Interval(types::IntervalUnit::YearMonth) => DataType::Interval(IntervalUnit::YearMonth),
        Wit::Interval(types::IntervalUnit::DayTime) => DataType::Interval(IntervalUnit::DayTime),
        Wit::Interval(types::IntervalUnit::MonthDayNano) => DataType::Interval(IntervalUnit::MonthDayNano),
        Wit::Binary => DataType::Binary,
        Wit::Utf8 => DataType::Utf8,
        Wit::LargeBinary => DataType::LargeBinary,
        Wit::LargeUtf8 => DataType::LargeUtf8,
        Wit::FixedSizeBinary(size) => DataType::FixedSizeBinary(size),
    })
}

fn unit(wit: types::TimeUnit) -> TimeUnit {
    match wit {
        types::TimeUnit::Second => TimeUnit::Second,
        types::TimeUnit::Millisecond => TimeUnit::Millisecond,
        types::TimeUnit::Microsecond => TimeUnit::Microsecond,
        types::TimeUnit::Nanosecond => TimeUnit::Nanosecond,
    }
}

impl BatchSource for data::Batch {
    fn rows(&self) -> usize {
        data::Batch::rows(self) as usize
    }

    fn columns(&self) -> Vec<RawColumn> {
        let columns = data::Batch::columns(self).into_iter();
        columns
            .map(|column| RawColumn {
                length: column.length as usize,
                null_count: column.null_count as usize,
                validity: column.validity,
                offsets: column.offsets,
                values: column.values,
            })
            .collect()
    }

    fn arrow_ipc(&self) -> Vec<u8> {
        data::Batch::arrow_ipc(self)
    }

    fn json_lines(&self) -> Vec<u8> {
        data::Batch::json_lines(self)
    }
}

impl Sink for output::Sink {
    fn create(&self, name: &str, media_type: &str) -> Box<dyn ObjectSink> {
        Box::new(HostObject(output::Sink::create(self, name, media_type)))
    }
}

struct HostObject(output::Object);

impl ObjectSink for HostObject {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn finish(self: Box<Self>, rows: u64) {
        self.0.finish(rows);
    }
}
