//! The host's buffers as Arrow arrays: taken over, not copied, and checked.

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_schema::{DataType as Target, SchemaRef};
use consign_sdk::{Column, DataType, Error, Native, TimeUnit, Values};

const DAY_MILLISECONDS: i64 = 24 * 60 * 60 * 1000;

/// The batch in the file's schema.
pub(crate) fn record_batch(schema: &SchemaRef, rows: usize, columns: Vec<Column<'_>>) -> Result<RecordBatch, Error> {
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
    for (column, field) in columns.into_iter().zip(schema.fields()) {
        arrays.push(make_array(array(column, field.data_type())?));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
        .map_err(|error| Error::Other(format!("the host sent a batch that its schema forbids: {error}")))
}

fn array(column: Column<'_>, target: &Target) -> Result<ArrayData, Error> {
    let name = column.name();
    let rows = column.len();
    if let Target::Null = target {
        return Ok(ArrayData::new_null(target, rows));
    }
    let converted = convert(&column)?;
    let (raw, columns) = column.into_raw();
    let children = columns.into_iter().zip(child_types(target)).map(|(child, target)| array(child, target));
    let children = children.collect::<Result<Vec<_>, _>>()?;

    let offsets = raw.offsets.map(Buffer::from_vec);
    let values = match target {
        Target::List(_) | Target::LargeList(_) | Target::FixedSizeList(..) | Target::Struct(_) | Target::Map(..) => {
            None
        }
        _ => Some(Buffer::from_vec(converted.unwrap_or(raw.values))),
    };
    ArrayData::builder(target.clone())
        .len(rows)
        .null_bit_buffer(raw.validity.map(Buffer::from_vec))
        .buffers(offsets.into_iter().chain(values).collect())
        .child_data(children)
        // The contract aligns to one byte, Arrow to the value.
        .align_buffers(true)
        .build()
        .map_err(|error| Error::Other(format!("the host sent a broken batch: column `{name}`: {error}")))
}

fn child_types(target: &Target) -> Vec<&Target> {
    match target {
        Target::List(item) | Target::LargeList(item) | Target::FixedSizeList(item, _) | Target::Map(item, _) => {
            vec![item.data_type()]
        }
        Target::Struct(members) => members.iter().map(|member| member.data_type()).collect(),
        _ => Vec::new(),
    }
}

/// New values for the types that Parquet says differently.
fn convert(column: &Column<'_>) -> Result<Option<Vec<u8>>, Error> {
    let name = column.name();
    match column.data_type() {
        DataType::Timestamp { unit: TimeUnit::Second, .. } => {
            let beyond = || format!("column `{name}`: a timestamp is beyond what milliseconds can count");
            each(column.i64s()?, beyond, |second| second.checked_mul(1000).map(i64::to_le_bytes))
        }
        DataType::Time32(TimeUnit::Second) => {
            let beyond = || format!("column `{name}`: a time is not within a day");
            each(column.i32s()?, beyond, |second| second.checked_mul(1000).map(i32::to_le_bytes))
        }
        DataType::Date64 => {
            let beyond = || {
                format!(
                    "column `{name}`: a date has a time of day, which Parquet's dates have not: cast it to a timestamp"
                )
            };
            each(column.i64s()?, beyond, |milliseconds| match milliseconds % DAY_MILLISECONDS {
                0 => i32::try_from(milliseconds / DAY_MILLISECONDS).ok().map(i32::to_le_bytes),
                _ => None,
            })
        }
        _ => Ok(None),
    }
}

fn each<T: Native, const WIDTH: usize>(
    values: Values<'_, T>,
    beyond: impl Fn() -> String,
    convert: impl Fn(T) -> Option<[u8; WIDTH]>,
) -> Result<Option<Vec<u8>>, Error> {
    let mut bytes = Vec::with_capacity(values.len() * WIDTH);
    for value in values.iter() {
        match value.map(&convert) {
            None => bytes.extend_from_slice(&[0; WIDTH]),
            Some(Some(value)) => bytes.extend_from_slice(&value),
            Some(None) => return Err(Error::Unsupported(beyond())),
        }
    }
    Ok(Some(bytes))
}
