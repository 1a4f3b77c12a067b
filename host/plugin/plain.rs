//! Takes Arrow's encodings off: dictionary, run-end, view and list-view columns
//! become the plain type they encode. The contract knows no encodings.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, GenericListViewArray, MapArray, OffsetSizeTrait,
    RecordBatch, RecordBatchOptions, StructArray, UInt64Array, UnionArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Int16Type, Int32Type, Int64Type, RunEndIndexType, Schema, SchemaRef,
};
use arrow::error::ArrowError;

/// The schema with every encoding taken off.
pub fn schema(schema: &Schema) -> Schema {
    Schema::new_with_metadata(fields(schema.fields()), schema.metadata().clone())
}

/// The batch in `plain`, which is [`schema`] of its own.
pub fn batch(batch: &RecordBatch, plain: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch
        .columns()
        .iter()
        .zip(plain.fields())
        .map(|(column, field)| array(column, field.data_type()))
        .collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(plain.clone(), columns, &options)
}

/// Bytes that the rows of a plain array take up when they are copied out. Not
/// what Arrow counts, which for a slice of a list is all of the list's values.
pub fn bytes(array: &ArrayRef) -> usize {
    let rows = array.len();
    let values = match array.data_type() {
        DataType::Null => 0,
        DataType::Boolean => rows / 8,
        DataType::Utf8 => 4 * rows + span(array.as_string::<i32>().offsets()).len(),
        DataType::Binary => 4 * rows + span(array.as_binary::<i32>().offsets()).len(),
        DataType::LargeUtf8 => 8 * rows + span(array.as_string::<i64>().offsets()).len(),
        DataType::LargeBinary => 8 * rows + span(array.as_binary::<i64>().offsets()).len(),
        DataType::List(_) => 4 * rows + part(array.as_list::<i32>().values(), span(array.as_list::<i32>().offsets())),
        DataType::LargeList(_) => {
            8 * rows + part(array.as_list::<i64>().values(), span(array.as_list::<i64>().offsets()))
        }
        DataType::FixedSizeList(..) => bytes(array.as_fixed_size_list().values()),
        DataType::FixedSizeBinary(size) => rows * usize::try_from(*size).unwrap_or(0),
        DataType::Struct(_) => array.as_struct().columns().iter().map(bytes).sum(),
        DataType::Map(..) => {
            let map = array.as_map();
            4 * rows + map.entries().columns().iter().map(|column| part(column, span(map.offsets()))).sum::<usize>()
        }
        DataType::Union(members, _) => {
            let union = array.as_union();
            // A dense union's children are not cut with it: its rows get their share of them.
            let share = |child: &ArrayRef| bytes(child) / child.len().max(1) * rows.min(child.len());
            5 * rows + members.iter().map(|(id, _)| share(union.child(id))).sum::<usize>()
        }
        kind => rows * kind.primitive_width().unwrap_or(0),
    };
    values + array.nulls().map_or(0, |_| rows / 8)
}

/// What the rows of any array hold in memory; of an encoded one, all that its buffers do.
pub fn held(array: &ArrayRef) -> usize {
    if &data_type(array.data_type()) == array.data_type() { bytes(array) } else { array.get_array_memory_size() }
}

fn part(values: &ArrayRef, span: Range<usize>) -> usize {
    bytes(&values.slice(span.start, span.len()))
}

/// Where the values are that offsets refer to.
fn span<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> Range<usize> {
    offsets[0].as_usize()..offsets[offsets.len() - 1].as_usize()
}

/// The first column that is a union, or has one in it.
pub fn union(schema: &Schema) -> Option<&str> {
    fn is_in(kind: &DataType) -> bool {
        match kind {
            DataType::Union(..) => true,
            DataType::Struct(members) => members.iter().any(|member| is_in(member.data_type())),
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::Map(item, _) => is_in(item.data_type()),
            _ => false,
        }
    }
    schema.fields().iter().find(|field| is_in(field.data_type())).map(|field| field.name().as_str())
}

fn fields(fields: &Fields) -> Fields {
    fields.iter().map(field).collect()
}

fn field(field: &FieldRef) -> FieldRef {
    let plain = data_type(field.data_type());
    if &plain == field.data_type() {
        return field.clone();
    }
    // The metadata may describe the encoding (extension types); the name and the nulls stay.
    Arc::new(Field::new(field.name(), plain, field.is_nullable()).with_metadata(field.metadata().clone()))
}

fn data_type(encoded: &DataType) -> DataType {
    match encoded {
        DataType::Dictionary(_, values) => data_type(values),
        DataType::RunEndEncoded(_, values) => data_type(values.data_type()),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) | DataType::ListView(item) => DataType::List(field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(field(item), *size),
        DataType::Struct(members) => DataType::Struct(fields(members)),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        DataType::Union(members, mode) => {
            DataType::Union(members.iter().map(|(id, member)| (id, field(member))).collect(), *mode)
        }
        plain => plain.clone(),
    }
}

/// The array as `plain`, which is [`data_type`] of its own.
fn array(encoded: &ArrayRef, plain: &DataType) -> Result<ArrayRef, ArrowError> {
    if encoded.data_type() == plain {
        return Ok(encoded.clone());
    }
    match (encoded.data_type(), plain) {
        (DataType::Dictionary(..), _) => {
            let dictionary = encoded.as_any_dictionary();
            take(&array(dictionary.values(), plain)?, dictionary.keys(), None)
        }
        (DataType::RunEndEncoded(ends, _), _) => match ends.data_type() {
            DataType::Int16 => runs::<Int16Type>(encoded, plain),
            DataType::Int32 => runs::<Int32Type>(encoded, plain),
            _ => runs::<Int64Type>(encoded, plain),
        },
        (DataType::Utf8View | DataType::BinaryView, _) => cast(encoded, plain),
        (DataType::List(_), DataType::List(item)) => list(encoded.as_list::<i32>(), item),
        (DataType::LargeList(_), DataType::LargeList(item)) => list(encoded.as_list::<i64>(), item),
        (DataType::ListView(_), DataType::List(item)) => list_view(encoded.as_list_view::<i32>(), item),
        (DataType::LargeListView(_), DataType::LargeList(item)) => list_view(encoded.as_list_view::<i64>(), item),
        (DataType::FixedSizeList(..), DataType::FixedSizeList(item, size)) => {
            let list = encoded.as_fixed_size_list();
            let values = array(list.values(), item.data_type())?;
            let (nulls, len) = (list.nulls().cloned(), list.len());
            Ok(Arc::new(FixedSizeListArray::try_new_with_length(item.clone(), *size, values, nulls, len)?))
        }
        (DataType::Struct(_), DataType::Struct(members)) => Ok(Arc::new(structure(encoded.as_struct(), members)?)),
        (DataType::Map(..), DataType::Map(entries, sorted)) => map(encoded.as_map(), entries, *sorted),
        (DataType::Union(..), DataType::Union(members, _)) => {
            let union = encoded.as_union();
            let children = members
                .iter()
                .map(|(id, member)| array(union.child(id), member.data_type()))
                .collect::<Result<_, _>>()?;
            let (ids, offsets) = (union.type_ids().clone(), union.offsets().cloned());
            Ok(Arc::new(UnionArray::try_new(members.clone(), ids, offsets, children)?))
        }
        (from, to) => Err(ArrowError::NotYetImplemented(format!("cannot hand out {from} as {to}"))),
    }
}

fn runs<R: RunEndIndexType>(encoded: &ArrayRef, plain: &DataType) -> Result<ArrayRef, ArrowError> {
    let runs = encoded.as_run::<R>();
    let ends = runs.run_ends();
    let mut run = if runs.is_empty() { 0 } else { ends.get_physical_index(0) };
    let rows = ends.offset()..ends.offset() + runs.len();
    let indices: UInt64Array = rows
        .map(|row| {
            while arrow::datatypes::ArrowNativeType::as_usize(ends.values()[run]) <= row {
                run += 1;
            }
            run as u64
        })
        .collect();
    take(&array(runs.values(), plain)?, &indices, None)
}

/// Drops the values that a slice does not refer to before they are decoded.
fn trimmed<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, values: &ArrayRef) -> (OffsetBuffer<O>, ArrayRef) {
    let span = span(offsets);
    let values = values.slice(span.start, span.len());
    let offsets = offsets.iter().map(|offset| *offset - offsets[0]).collect::<Vec<_>>();
    (OffsetBuffer::new(ScalarBuffer::from(offsets)), values)
}

fn list<O: OffsetSizeTrait>(list: &GenericListArray<O>, item: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let (offsets, values) = trimmed(list.offsets(), list.values());
    let values = array(&values, item.data_type())?;
    Ok(Arc::new(GenericListArray::try_new(item.clone(), offsets, values, list.nulls().cloned())?))
}

/// Views may overlap and come in any order, so the values are gathered row by row.
fn list_view<O: OffsetSizeTrait>(list: &GenericListViewArray<O>, item: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let mut indices: Vec<u64> = Vec::new();
    let mut offsets = Vec::with_capacity(list.len() + 1);
    offsets.push(O::usize_as(0));
    for row in 0..list.len() {
        if list.is_valid(row) {
            let begin = list.offsets()[row].as_usize() as u64;
            indices.extend(begin..begin + list.sizes()[row].as_usize() as u64);
        }
        let end = O::from_usize(indices.len()).ok_or_else(|| {
            ArrowError::ComputeError("a list-view column has too many values for 32-bit offsets".into())
        })?;
        offsets.push(end);
    }
    let values = take(list.values(), &UInt64Array::from(indices), None)?;
    let values = array(&values, item.data_type())?;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(GenericListArray::try_new(item.clone(), offsets, values, list.nulls().cloned())?))
}

fn structure(encoded: &StructArray, members: &Fields) -> Result<StructArray, ArrowError> {
    let columns = encoded
        .columns()
        .iter()
        .zip(members)
        .map(|(column, member)| array(column, member.data_type()))
        .collect::<Result<_, _>>()?;
    StructArray::try_new_with_length(members.clone(), columns, encoded.nulls().cloned(), encoded.len())
}

fn map(map: &MapArray, entries: &FieldRef, sorted: bool) -> Result<ArrayRef, ArrowError> {
    let whole: ArrayRef = Arc::new(map.entries().clone());
    let (offsets, trimmed) = trimmed(map.offsets(), &whole);
    let DataType::Struct(members) = entries.data_type() else {
        return Err(ArrowError::SchemaError("a map's entries are not a struct".into()));
    };
    let plain = structure(trimmed.as_struct(), members)?;
    Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, plain, map.nulls().cloned(), sorted)?))
}
