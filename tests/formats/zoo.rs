//! A column of every type, with its extremes, and what each value must read as.

use std::sync::Arc;

use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type, IntervalDayTime, IntervalMonthDayNano, Schema, TimeUnit, i256};
use serde_json::{Map, Value, json};

use super::nested;

/// Four values and a null.
pub const ROWS: usize = 5;

/// How a value's text stands in JSON.
#[derive(Clone, Copy, PartialEq)]
pub enum Json {
    /// As a number, or null where it is not finite.
    Number,
    /// As a string.
    Text,
    /// The text is JSON itself, in CSV, too.
    Value,
}

pub struct Column {
    pub name: String,
    pub array: ArrayRef,
    pub texts: Vec<Option<String>>,
    pub json: Json,
    /// Parquet has the type.
    pub in_parquet: bool,
}

pub fn column(name: &str, json: Json, array: impl Array + 'static, texts: [&str; 4]) -> Column {
    let array: ArrayRef = Arc::new(array);
    assert_eq!(array.len(), ROWS, "{name}");
    let texts = texts.iter().map(|text| Some((*text).to_owned())).chain([None]).collect();
    Column { name: name.into(), array, texts, json, in_parquet: true }
}

pub fn not_in_parquet(column: Column) -> Column {
    Column { in_parquet: false, ..column }
}

impl Column {
    pub fn expected_json(&self, row: usize) -> Value {
        match (&self.texts[row], self.json) {
            (None, _) => Value::Null,
            (Some(text), Json::Text) => json!(text),
            (Some(text), Json::Number) if text.contains('N') || text.contains("Inf") => Value::Null,
            (Some(text), Json::Number) => match text.as_str() {
                "true" => json!(true),
                "false" => json!(false),
                digits => json!({ "n": digits }),
            },
            (Some(text), Json::Value) => marked(serde_json::from_str(text).unwrap()),
        }
    }
}

impl Column {
    /// What typed_readers.py makes of it: with what is not finite.
    pub fn expected_typed(&self, row: usize) -> Value {
        match (&self.texts[row], self.json) {
            (Some(text), Json::Number) if text.contains('N') || text.contains("Inf") => json!({ "n": text }),
            _ => self.expected_json(row),
        }
    }
}

/// Numbers as readers.py tells them.
fn marked(value: Value) -> Value {
    match value {
        Value::Number(number) => json!({ "n": number.to_string() }),
        Value::Array(items) => items.into_iter().map(marked).collect(),
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(key, value)| (key, marked(value))).collect::<Map<_, _>>())
        }
        other => other,
    }
}

pub fn all() -> Vec<Column> {
    let null = Column {
        name: "null".into(),
        array: Arc::new(NullArray::new(ROWS)),
        texts: vec![None; ROWS],
        json: Json::Text,
        in_parquet: true,
    };
    let mut all = vec![null];
    all.extend(integers());
    all.extend(floats_and_decimals());
    all.extend(dates());
    all.extend(timestamps());
    all.extend(lengths_of_time());
    all.extend(texts());
    all.extend(nested::all());
    all
}

pub fn batch(columns: &[Column]) -> RecordBatch {
    let field = |column: &Column| Field::new(&column.name, column.array.data_type().clone(), true);
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.iter().map(|column| column.array.clone()).collect()).unwrap()
}

/// The rows in three batches, two of them beginning in the middle.
pub fn batches(columns: &[Column]) -> Vec<RecordBatch> {
    let whole = batch(columns);
    vec![whole.slice(0, 1), whole.slice(1, 3), whole.slice(4, 1)]
}

fn integers() -> Vec<Column> {
    use Json::Number;
    macro_rules! ints {
        ($name:literal, $array:ident, $native:ident, $texts:expr) => {
            column(
                $name,
                Number,
                $array::from(vec![Some($native::MIN), Some($native::MAX), Some(0), Some(1), None]),
                $texts,
            )
        };
    }
    let bools = BooleanArray::from(vec![Some(true), Some(false), Some(false), Some(true), None]);
    vec![
        column("bool", Number, bools, ["true", "false", "false", "true"]),
        ints!("i8", Int8Array, i8, ["-128", "127", "0", "1"]),
        ints!("i16", Int16Array, i16, ["-32768", "32767", "0", "1"]),
        ints!("i32", Int32Array, i32, ["-2147483648", "2147483647", "0", "1"]),
        ints!("i64", Int64Array, i64, ["-9223372036854775808", "9223372036854775807", "0", "1"]),
        ints!("u8", UInt8Array, u8, ["0", "255", "0", "1"]),
        ints!("u16", UInt16Array, u16, ["0", "65535", "0", "1"]),
        ints!("u32", UInt32Array, u32, ["0", "4294967295", "0", "1"]),
        ints!("u64", UInt64Array, u64, ["0", "18446744073709551615", "0", "1"]),
    ]
}

fn floats_and_decimals() -> Vec<Column> {
    use Json::{Number, Text};
    let half = Float32Array::from(vec![Some(65504.0), Some(-0.5), Some(f32::NAN), Some(5.960_464_5e-8), None]);
    let half = cast(&half, &DataType::Float16).unwrap();
    let single = vec![Some(f32::MAX), Some(0.1), Some(f32::NEG_INFINITY), Some(1e-45), None];
    let double = vec![Some(f64::MAX), Some(5e-324), Some(f64::NAN), Some(-0.0), None];
    let more = vec![Some(0.1), Some(1e21), Some(f64::INFINITY), Some(123_456_789.125), None];
    let nines = i128::pow(10, 38) - 1;
    let wide = vec![Some(nines), Some(-nines), Some(0), Some(1), None];
    let (d38, d38_10) = (Decimal128Array::from(wide.clone()), Decimal128Array::from(wide));
    let widest = i256::from_string(&"9".repeat(76)).unwrap();
    let d76 = Decimal256Array::from(vec![Some(widest), Some(-widest), Some(i256::ZERO), Some(i256::ONE), None]);
    let d9 = Decimal32Array::from(vec![Some(999_999_999), Some(-1), Some(0), Some(100), None]);
    let d18 = Decimal64Array::from(vec![Some(999_999_999_999_999_999), Some(-1), Some(0), Some(10_000), None]);
    let thousands = Decimal64Array::from(vec![Some(12), Some(-1), Some(0), Some(999), None]);
    let n38 = "9".repeat(38);
    let n76 = format!("{n38}.{n38}");
    let (whole, places) = n38.split_at(28);
    let n38_10 = format!("{whole}.{places}");
    vec![
        column("f16", Number, half, ["65504.0", "-0.5", "NaN", "5.9604645e-8"]),
        column("f32", Number, Float32Array::from(single), ["3.4028235e+38", "0.1", "-Infinity", "1e-45"]),
        column("f64", Number, Float64Array::from(double), ["1.7976931348623157e+308", "5e-324", "NaN", "-0.0"]),
        column("more f64", Number, Float64Array::from(more), ["0.1", "1e+21", "Infinity", "123456789.125"]),
        column("d38", Text, d38.with_precision_and_scale(38, 0).unwrap(), [&n38, &format!("-{n38}"), "0", "1"]),
        column(
            "d38_10",
            Text,
            d38_10.with_precision_and_scale(38, 10).unwrap(),
            [&n38_10, &format!("-{n38_10}"), "0.0000000000", "0.0000000001"],
        ),
        column(
            "d76",
            Text,
            d76.with_precision_and_scale(76, 38).unwrap(),
            [&n76, &format!("-{n76}"), &format!("0.{}", "0".repeat(38)), &format!("0.{}1", "0".repeat(37))],
        ),
        column("d9", Text, d9.with_precision_and_scale(9, 2).unwrap(), ["9999999.99", "-0.01", "0.00", "1.00"]),
        column(
            "d18",
            Text,
            d18.with_precision_and_scale(18, 4).unwrap(),
            ["99999999999999.9999", "-0.0001", "0.0000", "1.0000"],
        ),
        not_in_parquet(column(
            "thousands",
            Text,
            thousands.with_precision_and_scale(18, -3).unwrap(),
            ["12000", "-1000", "0", "999000"],
        )),
    ]
}

fn dates() -> Vec<Column> {
    use Json::Text;
    const DAY: i64 = 86_400_000;
    let date32 = vec![Some(-719_529), Some(2_932_896), Some(i32::MAX), Some(11_016), None];
    let date64 = vec![Some(0), Some(11_016 * DAY), Some(-DAY), Some(2_932_896 * DAY), None];
    let seconds = vec![Some(0), Some(86_399), Some(3_661), Some(43_200), None];
    let millis = vec![Some(0), Some(86_399_999), Some(1), Some(43_200_000), None];
    let micros = vec![Some(0), Some(86_399_999_999), Some(1), Some(43_200_000_000), None];
    let nanos = vec![Some(0), Some(86_399_999_999_999), Some(1), Some(43_200_000_000_000), None];
    let times = ["00:00:00", "23:59:59", "01:01:01", "12:00:00"];
    vec![
        column(
            "date32",
            Text,
            Date32Array::from(date32),
            ["-0001-12-31", "9999-12-31", "+5881580-07-11", "2000-02-29"],
        ),
        column("date64", Text, Date64Array::from(date64), ["1970-01-01", "2000-02-29", "1969-12-31", "9999-12-31"]),
        column("time32 s", Text, Time32SecondArray::from(seconds), times),
        column(
            "time32 ms",
            Text,
            Time32MillisecondArray::from(millis),
            ["00:00:00.000", "23:59:59.999", "00:00:00.001", "12:00:00.000"],
        ),
        column(
            "time64 us",
            Text,
            Time64MicrosecondArray::from(micros),
            ["00:00:00.000000", "23:59:59.999999", "00:00:00.000001", "12:00:00.000000"],
        ),
        column(
            "time64 ns",
            Text,
            Time64NanosecondArray::from(nanos),
            ["00:00:00.000000000", "23:59:59.999999999", "00:00:00.000000001", "12:00:00.000000000"],
        ),
    ]
}

fn timestamps() -> Vec<Column> {
    use Json::Text;
    let s = vec![Some(0), Some(253_402_300_799), Some(-62_135_596_800), Some(951_825_599), None];
    let ms = vec![Some(0), Some(-1), Some(1_709_251_199_999), Some(253_402_300_799_999), None];
    let us = vec![Some(i64::MAX), Some(-1), Some(1_709_251_199_999_999), Some(0), None];
    let ns = vec![Some(i64::MAX), Some(i64::MIN), Some(-1), Some(0), None];
    let in_s = ["1970-01-01T00:00:00", "9999-12-31T23:59:59", "0001-01-01T00:00:00", "2000-02-29T11:59:59"];
    let in_ms = [
        "1970-01-01T00:00:00.000Z",
        "1969-12-31T23:59:59.999Z",
        "2024-02-29T23:59:59.999Z",
        "9999-12-31T23:59:59.999Z",
    ];
    let in_us = [
        "+294247-01-10T04:00:54.775807",
        "1969-12-31T23:59:59.999999",
        "2024-02-29T23:59:59.999999",
        "1970-01-01T00:00:00.000000",
    ];
    let in_ns = [
        "2262-04-11T23:47:16.854775807",
        "1677-09-21T00:12:43.145224192",
        "1969-12-31T23:59:59.999999999",
        "1970-01-01T00:00:00.000000000",
    ];
    let with_z: Vec<String> = in_ns.iter().map(|text| format!("{text}Z")).collect();
    let with_z: [&str; 4] = [&with_z[0], &with_z[1], &with_z[2], &with_z[3]];
    let berlin = TimestampMillisecondArray::from(ms).with_timezone("Europe/Berlin");
    let offset = TimestampNanosecondArray::from(ns.clone()).with_timezone("+05:30");
    vec![
        column("ts s", Text, TimestampSecondArray::from(s), in_s),
        column("ts ms Berlin", Text, berlin, in_ms),
        column("ts us", Text, TimestampMicrosecondArray::from(us), in_us),
        column("ts ns", Text, TimestampNanosecondArray::from(ns), in_ns),
        column("ts ns +05:30", Text, offset, with_z),
    ]
}

fn lengths_of_time() -> Vec<Column> {
    use Json::Text;
    let day_time = |days, millis| Some(IntervalDayTime::new(days, millis));
    let days = vec![day_time(1, 500), day_time(0, 0), day_time(2, 0), day_time(0, 3_600_000), None];
    let of = |months, days, nanos| Some(IntervalMonthDayNano::new(months, days, nanos));
    let mixed = vec![of(14, 3, 4_500_000_000), of(0, 0, -1), of(0, 0, 0), of(-1, -2, 3_600_000_000_000), None];
    vec![
        column(
            "duration s",
            Text,
            DurationSecondArray::from(vec![Some(93_784), Some(0), Some(-60), Some(3_600), None]),
            ["PT26H3M4S", "PT0S", "-PT1M", "PT1H"],
        ),
        column(
            "duration ms",
            Text,
            DurationMillisecondArray::from(vec![Some(-1), Some(1_500), Some(0), Some(60_000), None]),
            ["-PT0.001S", "PT1.5S", "PT0S", "PT1M"],
        ),
        column(
            "duration ns",
            Text,
            DurationNanosecondArray::from(vec![Some(1), Some(-1_000), Some(0), Some(1_000_000_000), None]),
            ["PT0.000000001S", "-PT0.000001S", "PT0S", "PT1S"],
        ),
        column(
            "months",
            Text,
            IntervalYearMonthArray::from(vec![Some(14), Some(0), Some(-1), Some(12), None]),
            ["P1Y2M", "P0M", "P-1M", "P1Y"],
        ),
        column("days", Text, IntervalDayTimeArray::from(days), ["P1DT0.5S", "PT0S", "P2D", "PT1H"]),
        not_in_parquet(column(
            "mixed",
            Text,
            IntervalMonthDayNanoArray::from(mixed),
            ["P1Y2M3DT4.5S", "PT-0.000000001S", "PT0S", "P-1M-2DT1H"],
        )),
    ]
}

/// What CSV has to quote and JSON to escape, in names, too.
fn texts() -> Vec<Column> {
    use Json::Text;
    let long = "0123456789".repeat(1000);
    let a = ["", "a,b\"c\"\r\nd", "🦀 é \u{2028}", "=1+1"];
    let b = ["NULL", " lead, trail ", "\u{1}\t\\\u{7f}", "\""];
    let c = ["\n", "\r", "one text that is longer than a view keeps inside", &long];
    let d = ["a", "b", "a", ""];
    fn of<T>(texts: [&str; 4]) -> T
    where
        T: for<'a> FromIterator<Option<&'a str>>,
    {
        texts.into_iter().map(Some).chain([None]).collect()
    }
    let bytes: [&[u8]; 4] = [b"", &[0, 255, 16], b"f", b"foo"];
    let some: Vec<Option<&[u8]>> = bytes.into_iter().map(Some).chain([None]).collect();
    let base64 = ["", "AP8Q", "Zg==", "Zm9v"];
    let three: [&[u8]; 4] = [&[0, 255, 16], b"foo", b"bar", &[0; 3]];
    let three = three.into_iter().map(Some).chain([None]);
    let three = FixedSizeBinaryArray::try_from_sparse_iter_with_size(three, 3).unwrap();
    vec![
        column("utf8", Text, of::<StringArray>(a), a),
        column("a,\"b\"\nc 🦀", Text, of::<LargeStringArray>(b), b),
        column("view", Text, of::<StringViewArray>(c), c),
        column("dictionary", Text, of::<DictionaryArray<Int32Type>>(d), d),
        column("runs", Text, of::<RunArray<Int32Type>>(d), d),
        column("binary", Text, BinaryArray::from(some.clone()), base64),
        column("large binary", Text, LargeBinaryArray::from(some.clone()), base64),
        column("binary view", Text, BinaryViewArray::from_iter(some), base64),
        column("fixed binary", Text, three, ["AP8Q", "Zm9v", "YmFy", "AAAA"]),
    ]
}

/// Microseconds in UTC, for nested columns.
pub fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}
