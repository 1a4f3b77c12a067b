//! The host's buffers as Arrow arrays: taken over, not copied, and checked.

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_schema::{DataType as Target, SchemaRef};
use consign_sdk::{Batch, Column, Error};

/// The batch in the given schema, whose columns are those of the batch.
///
/// `convert` gives new values for the columns, nested ones too, whose type in
/// the schema is not the dataset's.
pub fn record_batch(
    schema: &SchemaRef,
    batch: &Batch<'_>,
    convert: impl Fn(&Column<'_>) -> Result<Option<Vec<u8>>, Error>,
) -> Result<RecordBatch, Error> {
    let columns = batch.columns()?;
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
    for (column, field) in columns.into_iter().zip(schema.fields()) {
        arrays.push(make_array(array(column, field.data_type(), &convert)?));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.rows()));
    RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
        .map_err(|error| Error::Other(format!("the host sent a batch that its schema forbids: {error}")))
}

/// For a schema that has the dataset's own types.
pub fn no_conversion(_: &Column<'_>) -> Result<Option<Vec<u8>>, Error> {
    Ok(None)
}

fn array(
    column: Column<'_>,
    target: &Target,
    convert: &impl Fn(&Column<'_>) -> Result<Option<Vec<u8>>, Error>,
) -> Result<ArrayData, Error> {
    let name = column.name();
    let rows = column.len();
    if let Target::Null = target {
        return Ok(ArrayData::new_null(target, rows));
    }
    let converted = convert(&column)?;
    let (raw, columns) = column.into_raw();
    let children = columns.into_iter().zip(child_types(target)).map(|(child, target)| array(child, target, convert));
    let children = children.collect::<Result<Vec<_>, _>>()?;

    let offsets = raw.offsets.map(Buffer::from_vec);
    let values = Buffer::from_vec(converted.unwrap_or(raw.values));
    let buffers = match target {
        Target::List(_) | Target::LargeList(_) | Target::FixedSizeList(..) | Target::Struct(_) | Target::Map(..) => {
            offsets.into_iter().collect()
        }
        // A union has its type ids first, every other type its offsets.
        Target::Union(..) => std::iter::once(values).chain(offsets).collect(),
        _ => offsets.into_iter().chain([values]).collect(),
    };
    ArrayData::builder(target.clone())
        .len(rows)
        .null_bit_buffer(raw.validity.map(Buffer::from_vec))
        .buffers(buffers)
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
        Target::Union(members, _) => members.iter().map(|(_, member)| member.data_type()).collect(),
        _ => Vec::new(),
    }
}
