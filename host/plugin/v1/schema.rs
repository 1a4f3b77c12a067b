//! Arrow's schema as the contract's: fields in preorder.

use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, TimeUnit, UnionFields, UnionMode};

use super::types::{self, DecimalType, TimestampType};

/// The fields of a plain schema. The error names the column.
pub fn fields(schema: &Schema) -> Result<Vec<types::Field>, String> {
    let mut out = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        push(field, &mut out)?;
    }
    Ok(out)
}

fn push(field: &Field, out: &mut Vec<types::Field>) -> Result<(), String> {
    let data_type = data_type(field.data_type()).map_err(|why| format!("column {:?} {why}", field.name()))?;
    let at = out.len();
    out.push(types::Field { name: field.name().clone(), data_type, nullable: field.is_nullable(), children: 0 });
    let mut children = 0;
    match field.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            push(item, out)?;
            children = 1;
        }
        DataType::Map(entries, _) => {
            push(entries, out)?;
            children = 1;
        }
        DataType::Struct(members) => {
            members.iter().try_for_each(|member| push(member, out))?;
            children = members.len();
        }
        DataType::Union(members, _) => {
            members.iter().try_for_each(|(_, member)| push(member, out))?;
            children = members.len();
        }
        _ => {}
    }
    out[at].children = u32::try_from(children).map_err(|_| "has too many members".to_owned())?;
    Ok(())
}

fn data_type(plain: &DataType) -> Result<types::DataType, String> {
    use types::DataType as Wit;
    let decimal = |precision: u8, scale: i8| DecimalType { precision, scale };
    let width = |size: i32| u32::try_from(size).map_err(|_| format!("has a negative size ({size})"));
    Ok(match plain {
        DataType::Null => Wit::Null,
        DataType::Boolean => Wit::Boolean,
        DataType::Int8 => Wit::Int8,
        DataType::Int16 => Wit::Int16,
        DataType::Int32 => Wit::Int32,
        DataType::Int64 => Wit::Int64,
        DataType::UInt8 => Wit::Uint8,
        DataType::UInt16 => Wit::Uint16,
        DataType::UInt32 => Wit::Uint32,
        DataType::UInt64 => Wit::Uint64,
        DataType::Float16 => Wit::Float16,
        DataType::Float32 => Wit::Float32,
        DataType::Float64 => Wit::Float64,
        DataType::Decimal32(precision, scale) => Wit::Decimal32(decimal(*precision, *scale)),
        DataType::Decimal64(precision, scale) => Wit::Decimal64(decimal(*precision, *scale)),
        DataType::Decimal128(precision, scale) => Wit::Decimal128(decimal(*precision, *scale)),
        DataType::Decimal256(precision, scale) => Wit::Decimal256(decimal(*precision, *scale)),
        DataType::Date32 => Wit::Date32,
        DataType::Date64 => Wit::Date64,
        DataType::Time32(unit) => Wit::Time32(time_unit(*unit)),
        DataType::Time64(unit) => Wit::Time64(time_unit(*unit)),
        DataType::Timestamp(unit, zone) => {
            let timezone = zone.as_deref().map(str::to_owned);
            Wit::Timestamp(TimestampType { unit: time_unit(*unit), timezone })
        }
        DataType::Duration(unit) => Wit::Duration(time_unit(*unit)),
        DataType::Interval(unit) => Wit::Interval(match unit {
            IntervalUnit::YearMonth => types::IntervalUnit::YearMonth,
            IntervalUnit::DayTime => types::IntervalUnit::DayTime,
            IntervalUnit::MonthDayNano => types::IntervalUnit::MonthDayNano,
        }),
        DataType::Binary => Wit::Binary,
        DataType::Utf8 => Wit::Utf8,
        DataType::LargeBinary => Wit::LargeBinary,
        DataType::LargeUtf8 => Wit::LargeUtf8,
        DataType::FixedSizeBinary(size) => Wit::FixedSizeBinary(width(*size)?),
        DataType::List(_) => Wit::ListOf,
        DataType::LargeList(_) => Wit::LargeListOf,
        DataType::FixedSizeList(_, size) => Wit::FixedSizeListOf(width(*size)?),
        DataType::Struct(_) => Wit::StructOf,
        DataType::Map(_, sorted) => Wit::MapOf(*sorted),
        DataType::Union(members, UnionMode::Sparse) => Wit::SparseUnionOf(ids(members)),
        DataType::Union(members, UnionMode::Dense) => Wit::DenseUnionOf(ids(members)),
        other => return Err(format!("has the type {other}, which the plugin contract cannot say")),
    })
}

fn ids(members: &UnionFields) -> Vec<i8> {
    members.iter().map(|(id, _)| id).collect()
}

fn time_unit(unit: TimeUnit) -> types::TimeUnit {
    match unit {
        TimeUnit::Second => types::TimeUnit::Second,
        TimeUnit::Millisecond => types::TimeUnit::Millisecond,
        TimeUnit::Microsecond => types::TimeUnit::Microsecond,
        TimeUnit::Nanosecond => types::TimeUnit::Nanosecond,
    }
}
