//! Every type, value by value.

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, IntervalDayTimeType,
};
use arrow_array::*;
use arrow_buffer::{IntervalDayTime, NullBuffer, OffsetBuffer, i256};
use arrow_schema::{DataType, Field, TimeUnit};

use crate::support::{metadata, one_object, read};

/// What is read back of a column `c`.
fn back(column: ArrayRef) -> ArrayRef {
    let batch = RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap();
    let stored = one_object("{}", &batch).unwrap();
    assert_eq!(stored.rows, batch.num_rows() as u64);
    read(&stored).column(0).clone()
}

fn same(column: impl Array + 'static) {
    let column: ArrayRef = Arc::new(column);
    assert_eq!(&back(column.clone()), &column);
}

fn same_values<T: ArrowPrimitiveType>(values: impl IntoIterator<Item = Option<T::Native>>)
where
    PrimitiveArray<T>: FromIterator<Option<T::Native>>,
{
    same(PrimitiveArray::<T>::from_iter(values));
}

#[test]
fn integers_at_their_limits() {
    same_values::<types::Int8Type>([Some(i8::MIN), None, Some(i8::MAX)]);
    same_values::<types::Int16Type>([Some(i16::MIN), None, Some(i16::MAX)]);
    same_values::<types::Int32Type>([Some(i32::MIN), None, Some(i32::MAX)]);
    same_values::<types::Int64Type>([Some(i64::MIN), None, Some(i64::MAX)]);
    same_values::<types::UInt8Type>([Some(0), None, Some(u8::MAX)]);
    same_values::<types::UInt16Type>([Some(0), None, Some(u16::MAX)]);
    same_values::<types::UInt32Type>([Some(0), None, Some(u32::MAX)]);
    same_values::<types::UInt64Type>([Some(0), None, Some(u64::MAX)]);
}

#[test]
fn booleans_and_nothing_but_nulls() {
    same(BooleanArray::from(vec![Some(true), None, Some(false)]));
    same(BooleanArray::from(vec![None, None]));
    same(NullArray::new(3));
}

#[test]
fn floats_bit_by_bit() {
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, f64::MIN_POSITIVE, f64::MAX, 5e-324, 0.1];
    let column = Float64Array::from_iter(values.iter().map(|v| Some(*v)).chain([None]));
    let read = back(Arc::new(column));
    let read = read.as_any().downcast_ref::<Float64Array>().unwrap();
    let bits: Vec<_> = read.iter().map(|v| v.map(f64::to_bits)).collect();
    let expected: Vec<_> = values.iter().map(|v| Some(v.to_bits())).chain([None]).collect();
    assert_eq!(bits, expected);

    same_values::<types::Float32Type>([Some(f32::MAX), None, Some(f32::NEG_INFINITY), Some(-0.0)]);
    let halves = [Some("1.5"), None, Some("-65504"), Some("inf")];
    same(Float16Array::from_iter(halves.map(|text| text.map(|text| text.parse().unwrap()))));
}

#[test]
fn decimals_of_every_width() {
    same(PrimitiveArray::<Decimal32Type>::from(vec![Some(999_999_999), None]).with_precision_and_scale(9, 2).unwrap());
    same(PrimitiveArray::<Decimal64Type>::from(vec![Some(-1), None]).with_precision_and_scale(18, 18).unwrap());
    let nines = 10i128.pow(38) - 1;
    let wide = PrimitiveArray::<Decimal128Type>::from(vec![Some(nines), None, Some(-nines), Some(0)]);
    same(wide.clone().with_precision_and_scale(38, 0).unwrap());
    same(wide.with_precision_and_scale(38, 38).unwrap());
    let widest = i256::from_string(&"9".repeat(76)).unwrap();
    let widest = PrimitiveArray::<Decimal256Type>::from(vec![Some(widest), None, Some(-widest)]);
    same(widest.with_precision_and_scale(76, 10).unwrap());
    same(PrimitiveArray::<Decimal128Type>::from(vec![Some(7), None]).with_precision_and_scale(1, 0).unwrap());
}

#[test]
fn dates_and_times_of_day() {
    same(Date32Array::from(vec![Some(i32::MIN), None, Some(-1), Some(0), Some(i32::MAX)]));
    same(Time32MillisecondArray::from(vec![Some(0), None, Some(86_399_999)]));
    same(Time64MicrosecondArray::from(vec![Some(0), None, Some(86_399_999_999)]));
    same(Time64NanosecondArray::from(vec![Some(0), None, Some(86_399_999_999_999)]));
}

#[test]
fn timestamps_with_and_without_a_zone() {
    same(TimestampMillisecondArray::from(vec![Some(i64::MIN), None, Some(i64::MAX)]));
    same(TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("UTC"));
    same(TimestampNanosecondArray::from(vec![Some(i64::MAX), None]).with_timezone("America/New_York"));
    same(TimestampNanosecondArray::from(vec![Some(1), None]).with_timezone("+05:30"));
}

#[test]
fn durations_and_intervals() {
    same(DurationSecondArray::from(vec![Some(i64::MIN), None, Some(1)]));
    same(DurationNanosecondArray::from(vec![Some(i64::MAX), None]));
    same(IntervalYearMonthArray::from(vec![Some(14), None]));
    same_values::<IntervalDayTimeType>([Some(IntervalDayTime::new(3, 1500)), None]);
}

#[test]
fn texts_and_binaries() {
    let long = "x".repeat(100_000);
    let texts = [Some(""), None, Some("a\"b\nc\r,;\t"), Some("🛫 Zürich ☂"), Some("\0"), Some(long.as_str())];
    same(StringArray::from_iter(texts));
    same(LargeStringArray::from_iter(texts));
    let bytes = [Some(&b""[..]), None, Some(&[0, 255, 10][..])];
    same(BinaryArray::from_iter(bytes));
    same(LargeBinaryArray::from_iter(bytes));
    let fixed = [Some([1u8, 2]), None, Some([255, 0])];
    same(FixedSizeBinaryArray::try_from_sparse_iter_with_size(fixed.into_iter(), 2).unwrap());
}

#[test]
fn lists_structs_and_maps() {
    // The specification's names; others come back as these, see below.
    let item = |data_type: DataType| Arc::new(Field::new("element", data_type, true));
    let mut lists = ListBuilder::new(Int32Builder::new()).with_field(item(DataType::Int32));
    lists.append_value([Some(1), None, Some(3)]);
    lists.append_null();
    lists.append_value([]);
    let lists = lists.finish();
    same(lists.clone());

    let outer = item(lists.data_type().clone());
    same(LargeListArray::new(outer, OffsetBuffer::from_lengths([2, 0, 1]), Arc::new(lists.clone()), None));

    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
    let members = vec![
        (Arc::new(Field::new("list", lists.data_type().clone(), true)), Arc::new(lists) as ArrayRef),
        (Arc::new(Field::new("name", DataType::Utf8, true)), names),
    ];
    let (fields, arrays): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    same(StructArray::new(fields.into(), arrays, Some(NullBuffer::from(vec![true, false, true]))));

    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), Int32Builder::new());
    maps.keys().append_value("one");
    maps.values().append_value(1);
    maps.keys().append_value("none");
    maps.values().append_null();
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    maps.append(true).unwrap();
    same(maps.finish());
}

#[test]
fn members_get_the_names_of_the_specification() {
    let item = Arc::new(Field::new_list_field(DataType::Int32, true));
    let items = Int32Array::from(vec![1, 2]);
    let lists = ListArray::new(item, OffsetBuffer::from_lengths([2]), Arc::new(items.clone()), None);
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    maps.keys().append_value("one");
    maps.values().append_value(1);
    maps.append(true).unwrap();
    let columns: [(&str, ArrayRef); 2] = [("list", Arc::new(lists)), ("map", Arc::new(maps.finish()))];
    let stored = one_object("{}", &RecordBatch::try_from_iter(columns).unwrap()).unwrap();

    let names: Vec<String> =
        metadata(&stored).file_metadata().schema_descr().columns().iter().map(|c| c.path().string()).collect();
    assert_eq!(names, ["list.list.element", "map.key_value.key", "map.key_value.value"]);
    assert_eq!(read(&stored)["list"].as_list::<i32>().values().as_ref(), &items as &dyn Array);
}

#[test]
fn lists_of_a_fixed_size() {
    let pairs = Int32Array::from(vec![Some(1), Some(2), None, None, Some(5), None]);
    let item = Arc::new(Field::new("element", DataType::Int32, true));
    let nulls = NullBuffer::from(vec![true, false, true]);
    same(FixedSizeListArray::new(item, 2, Arc::new(pairs), Some(nulls)));
}

#[test]
fn seconds_become_milliseconds() {
    let read =
        back(Arc::new(TimestampSecondArray::from(vec![Some(1_700_000_000), None, Some(-1)]).with_timezone("UTC")));
    let expected = TimestampMillisecondArray::from(vec![Some(1_700_000_000_000), None, Some(-1000)]);
    assert_eq!(read.as_ref(), &expected.with_timezone("UTC") as &dyn Array);

    let read = back(Arc::new(Time32SecondArray::from(vec![Some(86_399), None])));
    assert_eq!(read.as_ref(), &Time32MillisecondArray::from(vec![Some(86_399_000), None]) as &dyn Array);
    assert_eq!(read.data_type(), &DataType::Time32(TimeUnit::Millisecond));
}

#[test]
fn dates_in_milliseconds_become_days() {
    let day = 86_400_000;
    let read = back(Arc::new(Date64Array::from(vec![Some(0), None, Some(-day), Some(19_000 * day)])));
    assert_eq!(read.as_ref(), &Date32Array::from(vec![Some(0), None, Some(-1), Some(19_000)]) as &dyn Array);
}
