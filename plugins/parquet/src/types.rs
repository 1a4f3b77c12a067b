//! The dataset's types as Arrow types that Parquet can say, value by value the
//! same. Parquet knows neither seconds nor dates in milliseconds: they become
//! milliseconds and days.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema as arrow;
use consign_sdk::{DataType, Diagnostic, Error, Field, IntervalUnit, Schema, TimeUnit};

/// The file's schema, or everything in it that Parquet cannot say.
pub(crate) fn schema(schema: &Schema) -> Result<arrow::Schema, Error> {
    let mut problems = Vec::new();
    if schema.fields.is_empty() {
        problems.push("a Parquet file needs at least one column: select one in the query".to_owned());
    }
    let mut names = BTreeSet::new();
    for field in &schema.fields {
        if !names.insert(field.name.as_str()) {
            problems.push(format!("two columns are named `{}`: rename one in the query (`as`)", field.name));
        }
    }
    let fields = schema
        .fields
        .iter()
        .map(|top| arrow::Field::new(&top.name, data_type(&top.data_type, &top.name, &mut problems), top.nullable));
    let fields: Vec<_> = fields.collect();
    if problems.is_empty() { Ok(arrow::Schema::new(fields)) } else { Err(Error::Unsupported(problems.join("; "))) }
}

/// What is written, though with less meaning than the dataset has.
pub(crate) fn warnings(schema: &Schema) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for top in &schema.fields {
        visit(top, &mut |field| {
            if let DataType::Duration(unit) = &field.data_type {
                let message = format!(
                    "column `{}`: Parquet has no durations, readers without Arrow see int64 {}",
                    top.name,
                    plural(*unit)
                );
                warnings.push(Diagnostic::warning("", message));
            }
        });
    }
    warnings
}

/// How many of Parquet's plain columns the schema makes.
pub(crate) fn leaves(schema: &Schema) -> usize {
    let mut leaves = 0;
    for top in &schema.fields {
        visit(top, &mut |field| leaves += usize::from(field.children().is_empty()));
    }
    leaves
}

fn visit(field: &Field, look: &mut impl FnMut(&Field)) {
    look(field);
    for child in field.children() {
        visit(child, look);
    }
}

fn data_type(wanted: &DataType, path: &str, problems: &mut Vec<String>) -> arrow::DataType {
    if let Some((what, instead)) = beyond_parquet(wanted) {
        problems.push(format!("column `{path}`: Parquet cannot hold {what}: {instead}"));
        return arrow::DataType::Null;
    }
    let mut child = |member: &Field, name: &str| {
        let path = format!("{path}.{name}");
        Arc::new(arrow::Field::new(name, data_type(&member.data_type, &path, problems), member.nullable))
    };
    match wanted {
        DataType::List(item) => arrow::DataType::List(child(item, &item.name)),
        DataType::LargeList(item) => arrow::DataType::LargeList(child(item, &item.name)),
        DataType::FixedSizeList { item, size } => {
            arrow::DataType::FixedSizeList(child(item, &item.name), size.cast_signed())
        }
        DataType::Struct(members) => {
            arrow::DataType::Struct(members.iter().map(|member| child(member, &member.name)).collect())
        }
        DataType::Map { entries, sorted } => {
            let key_and_value = entries.children().iter().zip(["key", "value"]);
            let mut entry: Vec<_> = key_and_value.map(|(member, name)| child(member, name)).collect();
            if let Some(key) = entry.first_mut() {
                *key = Arc::new(key.as_ref().clone().with_nullable(false));
            }
            let entry = arrow::DataType::Struct(entry.into());
            arrow::DataType::Map(Arc::new(arrow::Field::new(&entries.name, entry, false)), *sorted)
        }
        plain => plain_type(plain),
    }
}

/// What of this type, its members aside, Parquet cannot hold, and what to do.
fn beyond_parquet(wanted: &DataType) -> Option<(String, &'static str)> {
    let what = match wanted {
        DataType::SparseUnion { .. } | DataType::DenseUnion { .. } => {
            return Some(("a union".into(), "select one of its members in the query"));
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => "an interval of months, days and nanoseconds".into(),
        DataType::Decimal32 { precision, scale }
        | DataType::Decimal64 { precision, scale }
        | DataType::Decimal128 { precision, scale }
        | DataType::Decimal256 { precision, scale } => {
            let sound = *precision > 0 && (0..=i16::from(*precision)).contains(&i16::from(*scale));
            return (!sound).then(|| (wanted.to_string(), "cast it to a decimal with a scale from 0 to its precision"));
        }
        DataType::FixedSizeBinary(size) if !(1..=i32::MAX as u32).contains(size) => {
            format!("binary values of {size} bytes")
        }
        DataType::FixedSizeList { size, .. } if *size > i32::MAX as u32 => format!("lists of {size} items"),
        DataType::Struct(members) if members.is_empty() => "a struct without members".into(),
        DataType::Time64(TimeUnit::Second | TimeUnit::Millisecond) => wanted.to_string(),
        DataType::Time32(TimeUnit::Microsecond | TimeUnit::Nanosecond) => wanted.to_string(),
        _ => return None,
    };
    Some((what, "cast it to another type in the query, or leave it out"))
}

/// A type without children.
fn plain_type(plain: &DataType) -> arrow::DataType {
    match plain {
        DataType::Date64 => arrow::DataType::Date32,
        DataType::Time32(_) => arrow::DataType::Time32(arrow::TimeUnit::Millisecond),
        DataType::Timestamp { unit: TimeUnit::Second, timezone } => {
            arrow::DataType::Timestamp(arrow::TimeUnit::Millisecond, timezone.as_deref().map(Arc::from))
        }
        plain => consign_sdk_arrow::data_type(plain),
    }
}

fn plural(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "seconds",
        TimeUnit::Millisecond => "milliseconds",
        TimeUnit::Microsecond => "microseconds",
        TimeUnit::Nanosecond => "nanoseconds",
    }
}
