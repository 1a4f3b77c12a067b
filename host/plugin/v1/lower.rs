//! Arrow's arrays as the contract's columns: preorder, offsets that begin at 0,
//! bits that begin at bit 0. What is there as the contract wants it is shared, and
//! copied once, into the guest.

use arrow::array::{Array, ArrayRef, AsArray, GenericByteArray, OffsetSizeTrait, RecordBatch, UnionArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{ArrowNativeType, ByteArrayType, DataType, UnionFields};
use bytes::Bytes;
use wasmtime::component::{ComponentType, Lower};

#[cfg(target_endian = "big")]
compile_error!("the contract's buffers are little-endian and are copied as they are");

/// `column` of the contract.
#[derive(ComponentType, Lower)]
#[component(record)]
pub struct Column {
    length: u32,
    #[component(name = "null-count")]
    null_count: u32,
    validity: Option<Bytes>,
    offsets: Option<Bytes>,
    values: Bytes,
}

/// Every column of a plain batch. The error names the column.
pub fn columns(batch: &RecordBatch) -> Result<Vec<Column>, String> {
    let mut out = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        lower(column, &mut out).map_err(|why| format!("column {:?} {why}", field.name()))?;
    }
    Ok(out)
}

fn lower(array: &ArrayRef, out: &mut Vec<Column>) -> Result<(), String> {
    let at = out.len();
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
    out.push(Column {
        length: count(array.len())?,
        null_count: count(nulls.map_or(0, NullBuffer::null_count))?,
        validity: nulls.map(|nulls| bits(nulls.inner())),
        offsets: None,
        values: Bytes::new(),
    });
    let (offsets, values) = match array.data_type() {
        DataType::Null => {
            out[at].null_count = out[at].length;
            (None, Bytes::new())
        }
        DataType::Boolean => (None, bits(array.as_boolean().values())),
        DataType::Utf8 => bytes(array.as_string::<i32>()),
        DataType::LargeUtf8 => bytes(array.as_string::<i64>()),
        DataType::Binary => bytes(array.as_binary::<i32>()),
        DataType::LargeBinary => bytes(array.as_binary::<i64>()),
        DataType::FixedSizeBinary(size) => (None, fixed(array, size.as_usize())?),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            lower(&range(list.offsets(), list.values()), out)?;
            (Some(rebased(list.offsets())), Bytes::new())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            lower(&range(list.offsets(), list.values()), out)?;
            (Some(rebased(list.offsets())), Bytes::new())
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let entries: ArrayRef = std::sync::Arc::new(map.entries().clone());
            lower(&range(map.offsets(), &entries), out)?;
            (Some(rebased(map.offsets())), Bytes::new())
        }
        DataType::FixedSizeList(_, size) => {
            let list = array.as_fixed_size_list();
            lower(&list.values().slice(0, list.len() * size.as_usize()), out)?;
            (None, Bytes::new())
        }
        DataType::Struct(_) => {
            array.as_struct().columns().iter().try_for_each(|member| lower(member, out))?;
            (None, Bytes::new())
        }
        DataType::Union(members, _) => (union(array.as_union(), members, out)?, union_ids(array.as_union())),
        kind => match kind.primitive_width() {
            Some(width) => (None, fixed(array, width)?),
            None => return Err(format!("has the type {kind}, which the plugin contract cannot say")),
        },
    };
    out[at].offsets = offsets;
    out[at].values = values;
    Ok(())
}

fn bytes<T: ByteArrayType>(array: &GenericByteArray<T>) -> (Option<Bytes>, Bytes) {
    let offsets = array.offsets();
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    (Some(rebased(offsets)), shared(array.values().slice_with_length(first, last - first)))
}

/// The values of a type with a fixed number of bytes.
fn fixed(array: &ArrayRef, width: usize) -> Result<Bytes, String> {
    let data = array.to_data();
    let (begin, length) = (data.offset() * width, data.len() * width);
    match data.buffers() {
        [values, ..] if values.len() >= begin + length => Ok(shared(values.slice_with_length(begin, length))),
        _ => Err("has fewer bytes than values".into()),
    }
}

/// The bits from the first on; those after the last are 0.
fn bits(bits: &BooleanBuffer) -> Bytes {
    let mut bytes = bits.sliced().as_slice()[..bits.len().div_ceil(8)].to_vec();
    if let (Some(last), used @ 1..) = (bytes.last_mut(), bits.len() % 8) {
        *last &= (1 << used) - 1;
    }
    bytes.into()
}

/// The part of a list's values that its offsets refer to.
fn range<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, values: &ArrayRef) -> ArrayRef {
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    values.slice(first, last - first)
}

fn rebased<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> Bytes {
    let first = offsets[0];
    if first.as_usize() == 0 {
        return shared(offsets.inner().inner().clone());
    }
    native(offsets.iter().map(|offset| *offset - first).collect())
}

/// The bytes of a list of native values.
fn native<T: ArrowNativeType>(values: Vec<T>) -> Bytes {
    shared(Buffer::from_vec(values))
}

fn shared(buffer: Buffer) -> Bytes {
    struct Owner(Buffer);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.as_slice()
        }
    }
    Bytes::from_owner(Owner(buffer))
}

fn union_ids(union: &UnionArray) -> Bytes {
    shared(union.type_ids().inner().clone())
}

/// A union's children, and for a dense one the positions in them. A slice of a
/// dense union keeps its children whole, so they are cut here to what it uses.
fn union(union: &UnionArray, members: &UnionFields, out: &mut Vec<Column>) -> Result<Option<Bytes>, String> {
    let Some(offsets) = union.offsets() else {
        members.iter().try_for_each(|(id, _)| lower(union.child(id), out))?;
        return Ok(None);
    };
    let mut used = [(i32::MAX, -1); 128];
    for (id, position) in union.type_ids().iter().zip(offsets) {
        let (first, last) = &mut used[id.unsigned_abs() as usize];
        *first = (*first).min(*position);
        *last = (*last).max(*position);
    }
    for (id, _) in members.iter() {
        let (first, last) = used[id.unsigned_abs() as usize];
        let (first, len) = if last < 0 { (0, 0) } else { (first.as_usize(), (last - first).as_usize() + 1) };
        lower(&union.child(id).slice(first, len), out)?;
    }
    let positions = union.type_ids().iter().zip(offsets);
    Ok(Some(native(positions.map(|(id, position)| position - used[id.unsigned_abs() as usize].0).collect())))
}

fn count(len: usize) -> Result<u32, String> {
    u32::try_from(len).map_err(|_| format!("has {len} values in one batch, more than the plugin contract can count"))
}
