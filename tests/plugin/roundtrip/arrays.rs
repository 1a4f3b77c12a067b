//! Random arrays of every type: as they may come (encoded, sliced), and the
//! plain array that each of them means.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{
    DataType, Field, Fields, Int8Type, Int16Type, Int32Type, Int64Type, IntervalUnit, TimeUnit, UInt8Type, UnionFields,
};
use proptest::prelude::*;

/// What an array is built as.
#[derive(Clone, Debug)]
pub enum Shape {
    Leaf(DataType),
    /// A dictionary whose values have this shape; the number picks the keys' type.
    Dictionary(u8, Box<Shape>),
    Runs(u8, Box<Shape>),
    /// `Utf8View` or `BinaryView`.
    View(bool),
    List {
        large: bool,
        view: bool,
        item: Box<Shape>,
    },
    FixedList(i32, Box<Shape>),
    Struct(Vec<Shape>),
    Map(Box<Shape>),
    Union {
        dense: bool,
        members: Vec<Shape>,
    },
}

impl Shape {
    pub fn has_union(&self) -> bool {
        match self {
            Shape::Union { .. } => true,
            Shape::Leaf(_) | Shape::View(_) => false,
            Shape::Dictionary(_, of) | Shape::Runs(_, of) | Shape::FixedList(_, of) | Shape::Map(of) => of.has_union(),
            Shape::List { item, .. } => item.has_union(),
            Shape::Struct(members) => members.iter().any(Shape::has_union),
        }
    }
}

/// Every type without children.
pub fn leaves() -> Vec<DataType> {
    use DataType::*;
    let mut all = vec![Null, Boolean, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64];
    all.extend([Float16, Float32, Float64, Date32, Date64, Binary, Utf8, LargeBinary, LargeUtf8]);
    all.extend([Decimal32(9, 2), Decimal64(18, -3), Decimal128(38, 10), Decimal256(76, 38)]);
    all.extend([FixedSizeBinary(0), FixedSizeBinary(5)]);
    all.extend([Time32(TimeUnit::Second), Time32(TimeUnit::Millisecond)]);
    all.extend([Time64(TimeUnit::Microsecond), Time64(TimeUnit::Nanosecond)]);
    all.extend([IntervalUnit::YearMonth, IntervalUnit::DayTime, IntervalUnit::MonthDayNano].map(Interval));
    for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        all.extend([Duration(unit), Timestamp(unit, None), Timestamp(unit, Some("Europe/Berlin".into()))]);
    }
    all
}

/// Every layout with children, around this one.
pub fn nestings(inner: Shape) -> Vec<Shape> {
    let boxed = || Box::new(inner.clone());
    let lists = [(false, false), (false, true), (true, false), (true, true)];
    let mut all: Vec<Shape> = lists.map(|(large, view)| Shape::List { large, view, item: boxed() }).into();
    all.extend([Shape::FixedList(3, boxed()), Shape::FixedList(0, boxed()), Shape::Map(boxed())]);
    all.push(Shape::Struct(vec![inner.clone(), Shape::View(true)]));
    all.push(Shape::Union { dense: false, members: vec![inner.clone(), Shape::View(false)] });
    all.push(Shape::Union { dense: true, members: vec![inner.clone(), Shape::Leaf(DataType::Utf8)] });
    if encodable(&inner) {
        all.extend((0..3).flat_map(|kind| [Shape::Dictionary(kind, boxed()), Shape::Runs(kind, boxed())]));
    }
    all
}

/// Whether a dictionary or run may hold it: one of unions would have nulls that
/// no union can say.
pub fn encodable(shape: &Shape) -> bool {
    match shape {
        Shape::Union { .. } => false,
        Shape::Dictionary(_, values) | Shape::Runs(_, values) => encodable(values),
        shape => gatherable(shape),
    }
}

/// arrow 59's `take` loses the length of values without bytes (lists of no
/// values, texts of no bytes), and so cannot pick rows from what contains one.
fn gatherable(shape: &Shape) -> bool {
    match shape {
        Shape::FixedList(0, _) | Shape::Leaf(DataType::FixedSizeBinary(0)) => false,
        Shape::Leaf(_) | Shape::View(_) => true,
        Shape::Dictionary(_, inner) | Shape::Runs(_, inner) | Shape::FixedList(_, inner) | Shape::Map(inner) => {
            gatherable(inner)
        }
        Shape::List { item, .. } => gatherable(item),
        Shape::Struct(members) | Shape::Union { members, .. } => members.iter().all(gatherable),
    }
}

pub fn shapes() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        6 => proptest::sample::select(leaves()).prop_map(Shape::Leaf),
        1 => any::<bool>().prop_map(Shape::View),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let encodable = inner.clone().prop_filter("can be encoded", encodable).prop_map(Box::new);
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            (0..3_u8, encodable.clone()).prop_map(|(kind, values)| Shape::Dictionary(kind, values)),
            (0..3_u8, encodable).prop_map(|(kind, values)| Shape::Runs(kind, values)),
            (any::<bool>(), any::<bool>(), boxed.clone()).prop_map(|(large, view, item)| Shape::List {
                large,
                view,
                item
            }),
            (0..4, boxed.clone()).prop_map(|(size, item)| Shape::FixedList(size, item)),
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Shape::Struct),
            boxed.prop_map(Shape::Map),
            (any::<bool>(), proptest::collection::vec(inner, 1..3))
                .prop_map(|(dense, members)| Shape::Union { dense, members }),
        ]
    })
}

/// xorshift: small, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    fn nulls(&mut self, len: usize) -> Option<NullBuffer> {
        match self.below(3) {
            0 => None,
            _ => Some(NullBuffer::new(BooleanBuffer::collect_bool(len, |_| self.below(4) > 0))),
        }
    }
}

/// The array as it comes, and what it means. Both have been cut from a longer
/// one at random, so that every buffer may begin anywhere.
pub fn build(shape: &Shape, len: usize, random: &mut Random) -> (ArrayRef, ArrayRef) {
    let (before, after) = (random.below(10), random.below(3));
    let (given, plain) = whole(shape, before + len + after, random);
    (given.slice(before, len), plain.slice(before, len))
}

fn whole(shape: &Shape, len: usize, random: &mut Random) -> (ArrayRef, ArrayRef) {
    match shape {
        Shape::Leaf(kind) => {
            let array = leaf(kind, len, random);
            (array.clone(), array)
        }
        Shape::View(text) => {
            let (plain, view) =
                if *text { (DataType::Utf8, DataType::Utf8View) } else { (DataType::Binary, DataType::BinaryView) };
            let plain = leaf(&plain, len, random);
            (cast(&plain, &view).unwrap(), plain)
        }
        Shape::Dictionary(kind, values) => dictionary(*kind, values, len, random),
        Shape::Runs(kind, values) => runs(*kind, values, len, random),
        Shape::List { large, view, item } => list(*large, *view && gatherable(item), item, len, random),
        Shape::FixedList(size, item) => {
            let (given, plain) = build(item, len * *size as usize, random);
            let nulls = random.nulls(len);
            let make = |values: ArrayRef| -> ArrayRef {
                let item = item_field(&values);
                Arc::new(FixedSizeListArray::try_new_with_length(item, *size, values, nulls.clone(), len).unwrap())
            };
            (make(given), make(plain))
        }
        Shape::Struct(members) => {
            let (given, plain): (Vec<_>, Vec<_>) = members.iter().map(|member| build(member, len, random)).unzip();
            let nulls = random.nulls(len);
            let make = |columns: Vec<ArrayRef>| -> ArrayRef {
                let fields = columns.iter().enumerate().map(member_field).collect();
                Arc::new(StructArray::try_new_with_length(fields, columns, nulls.clone(), len).unwrap())
            };
            (make(given), make(plain))
        }
        Shape::Map(values) => map(values, len, random),
        Shape::Union { dense, members } => union(*dense, members, len, random),
    }
}

fn item_field(values: &ArrayRef) -> Arc<Field> {
    Arc::new(Field::new("item", values.data_type().clone(), true))
}

fn member_field((i, column): (usize, &ArrayRef)) -> Field {
    Field::new(format!("m{i}"), column.data_type().clone(), true)
}

fn leaf(kind: &DataType, len: usize, random: &mut Random) -> ArrayRef {
    let nulls = random.nulls(len);
    let word =
        |random: &mut Random| "añ\"\n𝄞,;x".chars().cycle().skip(random.below(8)).take(random.below(20)).collect();
    let words: Vec<String> = (0..len).map(|_| word(random)).collect();
    let texts =
        || words.iter().enumerate().map(|(i, text)| nulls.as_ref().is_none_or(|n| n.is_valid(i)).then_some(text));
    match kind {
        DataType::Null => Arc::new(NullArray::new(len)),
        DataType::Boolean => {
            Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(len, |_| random.below(2) > 0), nulls.clone()))
        }
        DataType::Utf8 => Arc::new(StringArray::from_iter(texts())),
        DataType::LargeUtf8 => Arc::new(LargeStringArray::from_iter(texts())),
        DataType::Binary => Arc::new(BinaryArray::from_iter(texts())),
        DataType::LargeBinary => Arc::new(LargeBinaryArray::from_iter(texts())),
        DataType::FixedSizeBinary(size) => {
            let bytes: Vec<u8> = (0..len * *size as usize).map(|_| random.next() as u8).collect();
            let array = FixedSizeBinaryArray::try_new_with_len(*size, Buffer::from_vec(bytes), nulls.clone(), len);
            Arc::new(array.unwrap())
        }
        kind => {
            let width = kind.primitive_width().unwrap();
            let mut bytes = MutableBuffer::new(len * width);
            for _ in 0..len {
                // Small enough to be a valid value of every type.
                let value = (random.next() % 200_000) as i64 - if width > 4 { 100_000 } else { 0 };
                let extended = [i128::from(value), if value < 0 { -1 } else { 0 }];
                let all: Vec<u8> = extended.iter().flat_map(|part| part.to_le_bytes()).collect();
                bytes.extend_from_slice(&all[..width]);
            }
            let data = ArrayData::builder(kind.clone()).len(len).add_buffer(bytes.into()).nulls(nulls.clone());
            make_array(data.build().unwrap())
        }
    }
}

fn dictionary(kind: u8, values: &Shape, len: usize, random: &mut Random) -> (ArrayRef, ArrayRef) {
    let count = 1 + random.below(7);
    let (given, plain) = build(values, count, random);
    let nulls = random.nulls(len);
    let keys: Vec<usize> = (0..len).map(|_| random.below(count)).collect();
    let picks = UInt32Array::new(keys.iter().map(|key| *key as u32).collect(), nulls.clone());
    let expected = take(&plain, &picks, None).unwrap();
    let array: ArrayRef = match kind {
        0 => {
            let keys = PrimitiveArray::<Int8Type>::new(keys.iter().map(|key| *key as i8).collect(), nulls);
            Arc::new(DictionaryArray::new(keys, given))
        }
        1 => {
            let keys = PrimitiveArray::<UInt8Type>::new(keys.iter().map(|key| *key as u8).collect(), nulls);
            Arc::new(DictionaryArray::new(keys, given))
        }
        _ => {
            let keys = PrimitiveArray::<Int64Type>::new(keys.iter().map(|key| *key as i64).collect(), nulls);
            Arc::new(DictionaryArray::new(keys, given))
        }
    };
    (array, expected)
}

fn runs(kind: u8, values: &Shape, len: usize, random: &mut Random) -> (ArrayRef, ArrayRef) {
    let mut ends: Vec<usize> = Vec::new();
    while ends.last().copied().unwrap_or(0) < len {
        ends.push((ends.last().copied().unwrap_or(0) + 1 + random.below(5)).min(len));
    }
    let (given, plain) = build(values, ends.len(), random);
    let picks: UInt32Array = (0..len).map(|row| ends.partition_point(|end| *end <= row) as u32).collect();
    let expected = take(&plain, &picks, None).unwrap();
    let array: ArrayRef = match kind {
        0 => {
            let ends = PrimitiveArray::<Int16Type>::from_iter_values(ends.iter().map(|end| *end as i16));
            Arc::new(RunArray::try_new(&ends, &given).unwrap())
        }
        1 => {
            let ends = PrimitiveArray::<Int32Type>::from_iter_values(ends.iter().map(|end| *end as i32));
            Arc::new(RunArray::try_new(&ends, &given).unwrap())
        }
        _ => {
            let ends = PrimitiveArray::<Int64Type>::from_iter_values(ends.iter().map(|end| *end as i64));
            Arc::new(RunArray::try_new(&ends, &given).unwrap())
        }
    };
    (array, expected)
}

fn list(large: bool, view: bool, item: &Shape, len: usize, random: &mut Random) -> (ArrayRef, ArrayRef) {
    let sizes: Vec<usize> = (0..len).map(|_| random.below(4)).collect();
    let total: usize = sizes.iter().sum();
    let (given, plain) = build(item, total + 2, random);
    let nulls = random.nulls(len);
    // The first value belongs to nobody, so that offsets do not begin at 0.
    let begins: Vec<usize> = sizes.iter().scan(1, |at, size| Some(std::mem::replace(at, *at + size))).collect();
    let plain_list = |large: bool, values: ArrayRef| -> ArrayRef {
        let ends = begins.iter().copied().chain([total + 1]);
        let item = item_field(&values);
        if large {
            let offsets: Vec<i64> = ends.map(|end| end as i64).collect();
            Arc::new(LargeListArray::new(item, OffsetBuffer::new(offsets.into()), values, nulls.clone()))
        } else {
            let offsets: Vec<i32> = ends.map(|end| end as i32).collect();
            Arc::new(ListArray::new(item, OffsetBuffer::new(offsets.into()), values, nulls.clone()))
        }
    };
    let expected = plain_list(large, plain);
    let array: ArrayRef = match (view, large) {
        (false, _) => plain_list(large, given),
        (true, false) => {
            let begins: ScalarBuffer<i32> = begins.iter().map(|at| *at as i32).collect();
            let sizes: ScalarBuffer<i32> = sizes.iter().map(|size| *size as i32).collect();
            Arc::new(ListViewArray::new(item_field(&given), begins, sizes, given, nulls))
        }
        (true, true) => {
            let begins: ScalarBuffer<i64> = begins.iter().map(|at| *at as i64).collect();
            let sizes: ScalarBuffer<i64> = sizes.iter().map(|size| *size as i64).collect();
            Arc::new(LargeListViewArray::new(item_field(&given), begins, sizes, given, nulls))
        }
    };
    (array, expected)
}

fn map(values: &Shape, len: usize, random: &mut Random) -> (ArrayRef, ArrayRef) {
    let offsets: Vec<i32> =
        (0..=len).scan(1, |at, _| Some(std::mem::replace(at, *at + random.below(3) as i32))).collect();
    let total = *offsets.last().unwrap() as usize + 1;
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..total).map(|i| format!("k{i}"))));
    let (given, plain) = build(values, total, random);
    let nulls = random.nulls(len);
    let make = |keys: ArrayRef, values: ArrayRef| -> ArrayRef {
        let key = Field::new("key", keys.data_type().clone(), false);
        let fields = Fields::from(vec![key, Field::new("value", values.data_type().clone(), true)]);
        let entries = StructArray::new(fields.clone(), vec![keys, values], None);
        let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
        Arc::new(MapArray::new(field, OffsetBuffer::new(offsets.clone().into()), entries, nulls.clone(), false))
    };
    (make(keys.clone(), given), make(keys, plain))
}

fn union(dense: bool, members: &[Shape], len: usize, random: &mut Random) -> (ArrayRef, ArrayRef) {
    let ids: Vec<i8> = (0..len).map(|_| 3 * random.below(members.len()) as i8).collect();
    let mut used = vec![0; members.len()];
    let mut position = |id: i8| {
        used[id as usize / 3] += 1;
        used[id as usize / 3] - 1
    };
    let positions: Vec<i32> = ids.iter().map(|id| position(*id)).collect();
    let long = |member: usize| if dense { used[member] as usize + 1 } else { len };
    let (given, plain): (Vec<_>, Vec<_>) =
        members.iter().enumerate().map(|(i, member)| build(member, long(i), random)).unzip();
    let make = |children: Vec<ArrayRef>| -> ArrayRef {
        let fields: UnionFields =
            children.iter().enumerate().map(|(i, child)| (3 * i as i8, Arc::new(member_field((i, child))))).collect();
        let offsets = dense.then(|| positions.clone().into());
        Arc::new(UnionArray::try_new(fields, ids.clone().into(), offsets, children).unwrap())
    };
    (make(given), make(plain))
}
