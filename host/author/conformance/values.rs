//! Rows that are made up: common columns with awkward values, and every type of
//! the contract with its extremes.

use std::sync::Arc;

use arrow::array::{
    ArrayData, ArrayRef, BinaryArray, BooleanArray, Date32Array, FixedSizeBinaryArray, FixedSizeListArray,
    Float64Array, Int32Array, Int64Array, LargeListArray, ListArray, MapArray, NullArray, RecordBatch, StringArray,
    StructArray, UnionArray, make_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit, UnionFields};
use arrow::error::ArrowError;

/// Rows of the sample.
const ROWS: usize = 300;

/// Texts that formats get wrong.
const TEXTS: [&str; 12] = [
    "plain",
    "",
    "a,b;c|d\te",
    "said \"so\"",
    "it's",
    "two\nlines",
    "two\r\nlines",
    " around ",
    "ünïcödé 漢字 🦀",
    "back\\slash",
    "null",
    "<a href=\"x\">&amp;</a>",
];

/// Columns that most formats have.
pub fn sample() -> Result<RecordBatch, ArrowError> {
    let rows = || 0..ROWS;
    let some = |row: usize| row % 11 != 5;
    let ids = Int64Array::from_iter_values(rows().map(|row| row as i64));
    let texts: StringArray = rows().map(|row| some(row).then_some(TEXTS[row % TEXTS.len()])).collect();
    let numbers: Float64Array = rows().map(|row| some(row + 1).then_some(row as f64 * 1.5 - 100.0)).collect();
    let flags: BooleanArray = rows().map(|row| some(row + 2).then_some(row % 2 == 0)).collect();
    let days: Date32Array = rows().map(|row| some(row + 3).then_some(19_000 + row as i32)).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as ArrayRef, false),
        ("name", Arc::new(texts), true),
        ("amount", Arc::new(numbers), true),
        ("active", Arc::new(flags), true),
        ("day", Arc::new(days), true),
    ])
}

/// A column of each type of the contract, with a null as its last value.
pub fn every_type() -> Vec<(&'static str, ArrayRef)> {
    let mut all: Vec<(&'static str, ArrayRef)> = vec![("null", Arc::new(NullArray::new(5)))];
    all.push(("boolean", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))));
    all.extend(fixed().into_iter().map(|(name, kind, width)| (name, extremes(kind, width))));
    all.extend(moderate());
    all.extend(variable());
    // What Arrow cannot make is a defect of this list, which its test sees.
    all.extend(nested().unwrap_or_default());
    all
}

/// Types of which any bits are a value.
fn fixed() -> Vec<(&'static str, DataType, usize)> {
    use DataType::{
        Date32, Duration, Float16, Float32, Float64, Int8, Int16, Int32, Int64, Interval, Timestamp, UInt8, UInt16,
        UInt32, UInt64,
    };
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    vec![
        ("int8", Int8, 1),
        ("int16", Int16, 2),
        ("int32", Int32, 4),
        ("int64", Int64, 8),
        ("uint8", UInt8, 1),
        ("uint16", UInt16, 2),
        ("uint32", UInt32, 4),
        ("uint64", UInt64, 8),
        ("float16", Float16, 2),
        ("float32", Float32, 4),
        ("float64", Float64, 8),
        ("date32", Date32, 4),
        ("timestamp(second)", Timestamp(Second, None), 8),
        ("timestamp(millisecond)", Timestamp(Millisecond, None), 8),
        ("timestamp(microsecond)", Timestamp(Microsecond, None), 8),
        ("timestamp(nanosecond)", Timestamp(Nanosecond, None), 8),
        ("timestamp(millisecond, Europe/Berlin)", Timestamp(Millisecond, Some("Europe/Berlin".into())), 8),
        ("timestamp(nanosecond, +05:30)", Timestamp(Nanosecond, Some("+05:30".into())), 8),
        ("duration(second)", Duration(Second), 8),
        ("duration(millisecond)", Duration(Millisecond), 8),
        ("duration(microsecond)", Duration(Microsecond), 8),
        ("duration(nanosecond)", Duration(Nanosecond), 8),
        ("interval(year-month)", Interval(IntervalUnit::YearMonth), 4),
        ("interval(day-time)", Interval(IntervalUnit::DayTime), 8),
        ("interval(month-day-nano)", Interval(IntervalUnit::MonthDayNano), 16),
    ]
}

/// 0, 1, all bits, the least and the greatest of a two's complement number, and a null.
fn extremes(kind: DataType, width: usize) -> ArrayRef {
    let top = 1_u128 << (8 * width - 1);
    let values = [0, 1, u128::MAX, top, top - 1, 0];
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()[..width].to_vec()).collect();
    array(kind, bytes, values.len())
}

/// The last of `rows` values is null.
fn array(kind: DataType, bytes: Vec<u8>, rows: usize) -> ArrayRef {
    let nulls = NullBuffer::from_iter((0..rows).map(|row| row + 1 < rows));
    let data = ArrayData::builder(kind).len(rows).nulls(Some(nulls)).add_buffer(Buffer::from_vec(bytes));
    // A buffer of this length and any bits is such an array.
    data.build().map_or_else(|_| Arc::new(NullArray::new(rows)), make_array)
}

/// Types whose values have bounds of their own.
fn moderate() -> Vec<(&'static str, ArrayRef)> {
    let small: ArrayRef = Arc::new(Int32Array::from(vec![Some(0), Some(1), Some(86_399), None]));
    let large: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(86_399_000), None]));
    let digits: ArrayRef = Arc::new(StringArray::from(vec![Some("0"), Some("-1.5"), Some("99999.99"), None]));
    let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), Some(-1), Some(20_000), None]));
    let of = |array: &ArrayRef, kind: DataType| cast(array, &kind).unwrap_or_else(|_| array.clone());
    vec![
        ("date64", of(&days, DataType::Date64)),
        ("time32(second)", of(&small, DataType::Time32(TimeUnit::Second))),
        ("time32(millisecond)", of(&small, DataType::Time32(TimeUnit::Millisecond))),
        ("time64(microsecond)", of(&large, DataType::Time64(TimeUnit::Microsecond))),
        ("time64(nanosecond)", of(&large, DataType::Time64(TimeUnit::Nanosecond))),
        ("decimal32", of(&digits, DataType::Decimal32(9, 2))),
        ("decimal64", of(&digits, DataType::Decimal64(18, 2))),
        ("decimal128", of(&digits, DataType::Decimal128(38, 10))),
        ("decimal128 of negative scale", of(&large, DataType::Decimal128(10, -3))),
        ("decimal256", of(&digits, DataType::Decimal256(76, 20))),
    ]
}

fn variable() -> Vec<(&'static str, ArrayRef)> {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some(""), Some("a\0b"), Some(TEXTS[8]), None]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from_opt_vec(vec![Some(b""), Some(b"\xff\0"), Some(b"a"), None]));
    let of = |array: &ArrayRef, kind: DataType| cast(array, &kind).unwrap_or_else(|_| array.clone());
    let fixed = [Some([0, 1, 2]), Some([0xff; 3]), None];
    let mut all = vec![
        ("large-utf8", of(&texts, DataType::LargeUtf8)),
        ("utf8", texts),
        ("large-binary", of(&bytes, DataType::LargeBinary)),
        ("binary", bytes),
    ];
    if let Ok(fixed) = FixedSizeBinaryArray::try_from_sparse_iter_with_size(fixed.into_iter(), 3) {
        all.push(("fixed-size-binary", Arc::new(fixed)));
    }
    all
}

fn nested() -> Result<Vec<(&'static str, ArrayRef)>, ArrowError> {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c", "d"]));
    let item = || Arc::new(Field::new_list_field(DataType::Int64, true));
    let nulls = || Some(NullBuffer::from(vec![true, true, false]));
    let members =
        Fields::from(vec![Field::new("number", DataType::Int64, true), Field::new("text", DataType::Utf8, true)]);
    let structs = |rows: usize, nulls| {
        StructArray::try_new(members.clone(), vec![numbers.slice(0, rows), texts.slice(0, rows)], nulls)
    };
    let entries =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int64, true)]);
    let entry = Arc::new(Field::new("entries", DataType::Struct(entries.clone()), false));
    let pairs = StructArray::try_new(entries, vec![texts.clone(), numbers.clone()], None)?;
    let choices: UnionFields = [
        (0, Arc::new(Field::new("number", DataType::Int64, true))),
        (3, Arc::new(Field::new("text", DataType::Utf8, true))),
    ]
    .into_iter()
    .collect();
    let ids = || ScalarBuffer::from(vec![0_i8, 3, 0, 3]);
    let children = || vec![numbers.clone(), texts.clone()];
    let positions = ScalarBuffer::from(vec![0, 0, 1, 1]);
    let three = OffsetBuffer::<i32>::from_lengths([3, 0, 1]);
    let large_three = OffsetBuffer::<i64>::from_lengths([3, 0, 1]);
    Ok(vec![
        ("list", Arc::new(ListArray::try_new(item(), three.clone(), numbers.clone(), nulls())?)),
        ("large-list", Arc::new(LargeListArray::try_new(item(), large_three, numbers.clone(), nulls())?)),
        ("fixed-size-list", Arc::new(FixedSizeListArray::try_new(item(), 2, numbers.clone(), None)?)),
        ("struct", Arc::new(structs(3, nulls())?)),
        ("map", Arc::new(MapArray::try_new(entry, three, pairs, nulls(), false)?)),
        ("sparse-union", Arc::new(UnionArray::try_new(choices.clone(), ids(), None, children())?)),
        ("dense-union", Arc::new(UnionArray::try_new(choices, ids(), Some(positions), children())?)),
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// As many as `wit/v1` has, each of its own type and with a null where there is one.
    #[test]
    fn there_is_a_column_of_every_type() {
        let all = every_type();
        let names: BTreeSet<&str> = all.iter().map(|(name, _)| name.split('(').next().unwrap()).collect();
        for wanted in [
            "null",
            "boolean",
            "int8",
            "int64",
            "uint64",
            "float16",
            "float64",
            "decimal32",
            "decimal64",
            "decimal128",
            "decimal256",
            "date32",
            "date64",
            "time32",
            "time64",
            "timestamp",
            "duration",
            "interval",
            "binary",
            "utf8",
            "large-binary",
            "large-utf8",
            "fixed-size-binary",
            "list",
            "large-list",
            "fixed-size-list",
            "struct",
            "map",
            "sparse-union",
            "dense-union",
        ] {
            assert!(names.contains(wanted), "{wanted}");
        }
        let kinds: BTreeSet<String> = all.iter().map(|(_, array)| array.data_type().to_string()).collect();
        assert_eq!(kinds.len(), all.len(), "{kinds:?}");
    }

    #[test]
    fn extremes_are_those_of_the_type() {
        let array = extremes(DataType::Int16, 2);
        let array = array.as_any().downcast_ref::<arrow::array::Int16Array>().unwrap();
        assert_eq!(
            array.iter().collect::<Vec<_>>(),
            [Some(0), Some(1), Some(-1), Some(i16::MIN), Some(i16::MAX), None]
        );
        let array = extremes(DataType::Int8, 1);
        let array = array.as_any().downcast_ref::<arrow::array::Int8Array>().unwrap();
        assert_eq!(array.iter().collect::<Vec<_>>(), [Some(0), Some(1), Some(-1), Some(i8::MIN), Some(i8::MAX), None]);
    }
}
