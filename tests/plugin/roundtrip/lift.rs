//! The way back: what a guest was given, as Arrow arrays again. This is the
//! inverse of the host's `lower`, written from the contract alone.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer};
use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, TimeUnit, UnionMode};

/// The batch that `tests/guests/echo` has written out.
pub fn batch(bytes: &[u8], schema: &Schema, rows: usize) -> Vec<ArrayRef> {
    let mut input = Input(bytes);
    let arrays: Vec<ArrayRef> =
        schema.fields().iter().map(|field| make_array(input.column(field.data_type()))).collect();
    assert!(input.0.is_empty(), "more columns than the schema has");
    assert!(arrays.iter().all(|array| array.len() == rows));
    arrays
}

/// Each row as text, so that arrays of different layout can be compared.
pub fn values(array: &ArrayRef) -> Vec<String> {
    (0..array.len()).map(|row| value(array.as_ref(), row)).collect()
}

fn value(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return "null".into();
    }
    let all = |values: ArrayRef| self::values(&values).join(", ");
    match array.data_type() {
        DataType::List(_) => format!("[{}]", all(array.as_list::<i32>().value(row))),
        DataType::LargeList(_) => format!("[{}]", all(array.as_list::<i64>().value(row))),
        DataType::FixedSizeList(..) => format!("[{}]", all(array.as_fixed_size_list().value(row))),
        DataType::Map(..) => format!("map[{}]", all(Arc::new(array.as_map().value(row)) as ArrayRef)),
        DataType::Struct(_) => {
            let members = array.as_struct().columns().iter().map(|member| value(member, row));
            format!("({})", members.collect::<Vec<_>>().join(", "))
        }
        DataType::Union(..) => {
            let union = array.as_union();
            format!("{}:{}", union.type_id(row), value(&union.value(row), 0))
        }
        // The bytes themselves: no formatter can hide a difference.
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Utf8 => format!("{:?}", array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => format!("{:?}", array.as_string::<i64>().value(row)),
        DataType::Binary => format!("{:?}", array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => format!("{:?}", array.as_binary::<i64>().value(row)),
        DataType::FixedSizeBinary(_) => format!("{:?}", array.as_fixed_size_binary().value(row)),
        kind => {
            let (data, width) = (array.to_data(), kind.primitive_width().unwrap());
            let begin = (data.offset() + row) * width;
            format!("{:?}", &data.buffers()[0].as_slice()[begin..begin + width])
        }
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn number(&mut self) -> usize {
        let (number, rest) = self.0.split_first_chunk::<4>().unwrap();
        self.0 = rest;
        u32::from_le_bytes(*number) as usize
    }

    fn buffer(&mut self) -> Option<Buffer> {
        let len = self.number().checked_sub(1)?;
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        // Copied, because Arrow wants its values aligned.
        let mut aligned = MutableBuffer::new(len);
        aligned.extend_from_slice(bytes);
        Some(aligned.into())
    }

    fn column(&mut self, kind: &DataType) -> ArrayData {
        let (len, null_count) = (self.number(), self.number());
        let (validity, offsets, values) = (self.buffer(), self.buffer(), self.buffer().unwrap());
        let mut data = ArrayData::builder(kind.clone()).len(len);
        match &validity {
            Some(bits) => {
                assert_eq!(bits.len(), len.div_ceil(8));
                let nulls = NullBuffer::new(BooleanBuffer::new(bits.clone(), 0, len));
                assert!(null_count > 0 && nulls.null_count() == null_count);
                data = data.nulls(Some(nulls));
            }
            None => assert_eq!(null_count, if kind == &DataType::Null { len } else { 0 }),
        }
        let exactly = |bytes: usize| assert_eq!(values.len(), bytes, "{kind}");
        match kind {
            DataType::Null => exactly(0),
            DataType::Boolean => exactly(len.div_ceil(8)),
            DataType::FixedSizeBinary(size) => exactly(len * *size as usize),
            DataType::Union(..) => exactly(len),
            kind => kind.primitive_width().into_iter().for_each(|width| exactly(len * width)),
        }
        if let Some(offsets) = &offsets
            && !matches!(kind, DataType::Union(..))
        {
            let width = if matches!(kind, DataType::LargeList(_) | DataType::LargeUtf8 | DataType::LargeBinary) {
                8
            } else {
                4
            };
            assert_eq!(offsets.len(), (len + 1) * width);
            assert!(offsets[..width].iter().all(|byte| *byte == 0), "the first offset is not 0");
        }
        data = match kind {
            DataType::Null => data,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
                data.add_buffer(offsets.unwrap()).add_buffer(values)
            }
            DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => {
                data.add_buffer(offsets.unwrap()).add_child_data(self.column(item.data_type()))
            }
            DataType::FixedSizeList(item, _) => data.add_child_data(self.column(item.data_type())),
            DataType::Struct(members) => {
                data.child_data(members.iter().map(|member| self.column(member.data_type())).collect())
            }
            DataType::Union(members, mode) => {
                assert_eq!(offsets.is_some(), *mode == UnionMode::Dense);
                let buffers = [Some(values), offsets].into_iter().flatten().collect();
                let children = members.iter().map(|(_, member)| self.column(member.data_type())).collect();
                data.buffers(buffers).child_data(children)
            }
            _ => data.add_buffer(values),
        };
        let data = data.build().unwrap();
        data.validate_full().unwrap();
        data
    }
}

/// The schema as `tests/guests/echo` writes it.
pub fn schema_text(schema: &Schema) -> String {
    let mut out = String::new();
    schema.fields().iter().for_each(|field| field_text(field, &mut out));
    out
}

fn field_text(field: &Field, out: &mut String) {
    let children: Vec<&Field> = match field.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => vec![item],
        DataType::Map(entries, _) => vec![entries],
        DataType::Struct(members) => members.iter().map(AsRef::as_ref).collect(),
        DataType::Union(members, _) => members.iter().map(|(_, member)| member.as_ref()).collect(),
        _ => Vec::new(),
    };
    let nullable = if field.is_nullable() { "null" } else { "not null" };
    out.push_str(&format!("{}|{}|{nullable}|{}\n", field.name(), kind_text(field.data_type()), children.len()));
    children.into_iter().for_each(|child| field_text(child, out));
}

fn kind_text(kind: &DataType) -> String {
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    };
    match kind {
        DataType::Decimal32(p, s) => format!("decimal32({p},{s})"),
        DataType::Decimal64(p, s) => format!("decimal64({p},{s})"),
        DataType::Decimal128(p, s) => format!("decimal128({p},{s})"),
        DataType::Decimal256(p, s) => format!("decimal256({p},{s})"),
        DataType::Time32(u) => format!("time32({})", unit(u)),
        DataType::Time64(u) => format!("time64({})", unit(u)),
        DataType::Timestamp(u, zone) => format!("timestamp({},{})", unit(u), zone.as_deref().unwrap_or("-")),
        DataType::Duration(u) => format!("duration({})", unit(u)),
        DataType::Interval(IntervalUnit::YearMonth) => "interval(ym)".into(),
        DataType::Interval(IntervalUnit::DayTime) => "interval(dt)".into(),
        DataType::Interval(IntervalUnit::MonthDayNano) => "interval(mdn)".into(),
        DataType::LargeBinary => "large-binary".into(),
        DataType::LargeUtf8 => "large-utf8".into(),
        DataType::FixedSizeBinary(size) => format!("fixed-size-binary({size})"),
        DataType::List(_) => "list".into(),
        DataType::LargeList(_) => "large-list".into(),
        DataType::FixedSizeList(_, size) => format!("fixed-size-list({size})"),
        DataType::Struct(_) => "struct".into(),
        DataType::Map(_, sorted) => format!("map({sorted})"),
        DataType::Union(members, mode) => {
            let ids: Vec<i8> = members.iter().map(|(id, _)| id).collect();
            format!("{}-union({ids:?})", if *mode == UnionMode::Dense { "dense" } else { "sparse" })
        }
        plain => plain.to_string().to_lowercase(),
    }
}
