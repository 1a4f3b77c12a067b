//! The dataset's types as Arrow's, one to one.

use std::sync::Arc;

use arrow_schema as arrow;
use consign_sdk::{DataType, Field, IntervalUnit, Schema, TimeUnit};

/// The Arrow schema of a dataset.
pub fn schema(schema: &Schema) -> arrow::Schema {
    arrow::Schema::new(schema.fields.iter().map(field).collect::<Vec<_>>())
}

/// The Arrow field of a column or of a member of one.
pub fn field(field: &Field) -> arrow::Field {
    arrow::Field::new(&field.name, data_type(&field.data_type), field.nullable)
}

/// The Arrow type of a column.
pub fn data_type(of: &DataType) -> arrow::DataType {
    let child = |member: &Field| Arc::new(field(member));
    match of {
        DataType::List(item) => arrow::DataType::List(child(item)),
        DataType::LargeList(item) => arrow::DataType::LargeList(child(item)),
        DataType::FixedSizeList { item, size } => arrow::DataType::FixedSizeList(child(item), size.cast_signed()),
        DataType::Struct(members) => arrow::DataType::Struct(members.iter().map(child).collect()),
        DataType::Map { entries, sorted } => arrow::DataType::Map(Arc::new(map_entries(entries)), *sorted),
        DataType::SparseUnion { ids, members } => {
            arrow::DataType::Union(union_members(ids, members), arrow::UnionMode::Sparse)
        }
        DataType::DenseUnion { ids, members } => {
            arrow::DataType::Union(union_members(ids, members), arrow::UnionMode::Dense)
        }
        plain => plain_type(plain),
    }
}

/// Neither an entry of a map nor its key can be null, whatever the dataset says.
fn map_entries(entries: &Field) -> arrow::Field {
    let mut members: Vec<_> = entries.children().iter().map(field).collect();
    if let Some(key) = members.first_mut() {
        key.set_nullable(false);
    }
    arrow::Field::new(&entries.name, arrow::DataType::Struct(members.into()), false)
}

fn union_members(ids: &[i8], members: &[Field]) -> arrow::UnionFields {
    ids.iter().copied().zip(members.iter().map(|member| Arc::new(field(member)))).collect()
}

fn plain_type(plain: &DataType) -> arrow::DataType {
    match plain {
        DataType::Boolean => arrow::DataType::Boolean,
        DataType::Int8 => arrow::DataType::Int8,
        DataType::Int16 => arrow::DataType::Int16,
        DataType::Int32 => arrow::DataType::Int32,
        DataType::Int64 => arrow::DataType::Int64,
        DataType::UInt8 => arrow::DataType::UInt8,
        DataType::UInt16 => arrow::DataType::UInt16,
        DataType::UInt32 => arrow::DataType::UInt32,
        DataType::UInt64 => arrow::DataType::UInt64,
        DataType::Float16 => arrow::DataType::Float16,
        DataType::Float32 => arrow::DataType::Float32,
        DataType::Float64 => arrow::DataType::Float64,
        DataType::Decimal32 { precision, scale } => arrow::DataType::Decimal32(*precision, *scale),
        DataType::Decimal64 { precision, scale } => arrow::DataType::Decimal64(*precision, *scale),
        DataType::Decimal128 { precision, scale } => arrow::DataType::Decimal128(*precision, *scale),
        DataType::Decimal256 { precision, scale } => arrow::DataType::Decimal256(*precision, *scale),
        DataType::Date32 => arrow::DataType::Date32,
        DataType::Date64 => arrow::DataType::Date64,
        DataType::Time32(time_unit) => arrow::DataType::Time32(unit(*time_unit)),
        DataType::Time64(time_unit) => arrow::DataType::Time64(unit(*time_unit)),
        DataType::Timestamp { unit: time_unit, timezone } => {
            arrow::DataType::Timestamp(unit(*time_unit), timezone.as_deref().map(Arc::from))
        }
        DataType::Duration(time_unit) => arrow::DataType::Duration(unit(*time_unit)),
        DataType::Interval(IntervalUnit::YearMonth) => arrow::DataType::Interval(arrow::IntervalUnit::YearMonth),
        DataType::Interval(IntervalUnit::DayTime) => arrow::DataType::Interval(arrow::IntervalUnit::DayTime),
        DataType::Interval(IntervalUnit::MonthDayNano) => arrow::DataType::Interval(arrow::IntervalUnit::MonthDayNano),
        DataType::Binary => arrow::DataType::Binary,
        DataType::LargeBinary => arrow::DataType::LargeBinary,
        DataType::FixedSizeBinary(size) => arrow::DataType::FixedSizeBinary(size.cast_signed()),
        DataType::Utf8 => arrow::DataType::Utf8,
        DataType::LargeUtf8 => arrow::DataType::LargeUtf8,
        // The null type; nested ones do not come here.
        _ => arrow::DataType::Null,
    }
}

fn unit(unit: TimeUnit) -> arrow::TimeUnit {
    match unit {
        TimeUnit::Second => arrow::TimeUnit::Second,
        TimeUnit::Millisecond => arrow::TimeUnit::Millisecond,
        TimeUnit::Microsecond => arrow::TimeUnit::Microsecond,
        TimeUnit::Nanosecond => arrow::TimeUnit::Nanosecond,
    }
}
