//! Lists, structs, maps and unions.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, UnionFields};

use super::zoo::{Column, Json, column, instant, not_in_parquet};

pub fn all() -> Vec<Column> {
    let mut all = lists();
    all.extend([structs(), list_of_structs()]);
    all.extend(maps());
    all.extend(unions());
    all
}

fn lists() -> Vec<Column> {
    use Json::Value;
    let numbers = vec![
        Some(vec![Some(1), None, Some(-3)]),
        Some(vec![]),
        Some(vec![Some(9_007_199_254_740_993)]),
        Some(vec![None]),
        None,
    ];
    let told = ["[1,null,-3]", "[]", "[9007199254740993]", "[null]"];
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(numbers.clone());
    let large = LargeListArray::from_iter_primitive::<Int64Type, _, _>(numbers);
    let pairs = vec![
        Some(vec![Some(1), Some(2)]),
        Some(vec![None, Some(3)]),
        Some(vec![None, None]),
        Some(vec![Some(0), Some(-1)]),
        None,
    ];
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(pairs, 2);
    let mut words = ListBuilder::new(StringBuilder::new());
    words.append_value([Some("a\"b\\"), Some("🦀,\n")]);
    words.append_value([None::<&str>]);
    words.append_value([Some("")]);
    words.append_value([None::<&str>; 0]);
    words.append_null();
    let mut deep = ListBuilder::new(ListBuilder::new(BooleanBuilder::new()));
    deep.values().append_value([Some(true), None]);
    deep.values().append_null();
    deep.append(true);
    deep.values().append_value([None::<bool>; 0]);
    deep.append(true);
    deep.append(true);
    deep.values().append_value([Some(false)]);
    deep.values().append_value([Some(true)]);
    deep.append(true);
    deep.append(false);
    vec![
        column("list view", Value, ListViewArray::from(list.clone()), told),
        column("list", Value, list, told),
        column("large list", Value, large, told),
        column("fixed list", Value, fixed, ["[1,2]", "[null,3]", "[null,null]", "[0,-1]"]),
        column("words", Value, words.finish(), [r#"["a\"b\\","🦀,\n"]"#, "[null]", r#"[""]"#, "[]"]),
        column("deep", Value, deep.finish(), ["[[true,null],null]", "[[]]", "[]", "[[false],[true]]"]),
    ]
}

fn last_is_null() -> NullBuffer {
    NullBuffer::from(vec![true, true, true, true, false])
}

fn structs() -> Column {
    let dates = Int64Array::from(vec![Some(0), Some(1_709_251_199_999_999), None, Some(-1), None]);
    let decimals = Decimal128Array::from(vec![Some(150), Some(-1), None, Some(99_999), None]);
    let members: Vec<(&str, ArrayRef)> = vec![
        ("a", Arc::new(Int32Array::from(vec![Some(1), Some(-2), None, Some(4), None]))),
        ("b \"c\"", Arc::new(StringArray::from(vec![Some("x\n"), Some(""), None, Some("é"), None]))),
        ("d", Arc::new(decimals.with_precision_and_scale(5, 2).unwrap())),
        ("f", Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN), None, Some(f64::INFINITY), None]))),
        ("t", cast(&dates, &instant()).unwrap()),
    ];
    let fields: Fields =
        members.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let arrays = members.into_iter().map(|(_, array)| array).collect();
    column(
        "struct",
        Json::Value,
        StructArray::new(fields, arrays, Some(last_is_null())),
        [
            r#"{"a":1,"b \"c\"":"x\n","d":"1.50","f":0.5,"t":"1970-01-01T00:00:00.000000Z"}"#,
            r#"{"a":-2,"b \"c\"":"","d":"-0.01","f":null,"t":"2024-02-29T23:59:59.999999Z"}"#,
            r#"{"a":null,"b \"c\"":null,"d":null,"f":null,"t":null}"#,
            r#"{"a":4,"b \"c\"":"é","d":"999.99","f":null,"t":"1969-12-31T23:59:59.999999Z"}"#,
        ],
    )
}

/// Lists of structs of a list and a struct.
fn list_of_structs() -> Column {
    let xs = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1)]),
        None,
        Some(vec![]),
        Some(vec![Some(2), Some(3)]),
    ]);
    let inner = StructArray::from(vec![(
        Arc::new(Field::new("y", DataType::Boolean, true)),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)])) as ArrayRef,
    )]);
    let fields = Fields::from(vec![
        Field::new("xs", xs.data_type().clone(), true),
        Field::new("in", inner.data_type().clone(), true),
    ]);
    let valid = NullBuffer::from(vec![true, true, false, true]);
    let items = StructArray::new(fields, vec![Arc::new(xs), Arc::new(inner)], Some(valid));
    let field = Arc::new(Field::new("item", items.data_type().clone(), true));
    let offsets = OffsetBuffer::new(vec![0, 2, 2, 3, 4, 4].into());
    column(
        "list of structs",
        Json::Value,
        ListArray::new(field, offsets, Arc::new(items), Some(last_is_null())),
        [
            r#"[{"xs":[1],"in":{"y":true}},{"xs":null,"in":{"y":null}}]"#,
            "[]",
            "[null]",
            r#"[{"xs":[2,3],"in":{"y":true}}]"#,
        ],
    )
}

fn maps() -> Vec<Column> {
    let mut texts = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for entries in [&[("k \"q\"", Some(1)), ("", None)][..], &[], &[("🦀", Some(-1))], &[("a", None)]] {
        for (key, value) in entries {
            texts.keys().append_value(key);
            texts.values().append_option(*value);
        }
        texts.append(true).unwrap();
    }
    texts.append(false).unwrap();
    let mut numbers = MapBuilder::new(None, Int64Builder::new(), StringBuilder::new());
    for entries in [&[(1, Some("a")), (2, None)][..], &[], &[(-3, Some("\n"))], &[(0, Some(""))]] {
        for (key, value) in entries {
            numbers.keys().append_value(*key);
            numbers.values().append_option(*value);
        }
        numbers.append(true).unwrap();
    }
    numbers.append(false).unwrap();
    vec![
        column("map", Json::Value, texts.finish(), [r#"{"k \"q\"":1,"":null}"#, "{}", r#"{"🦀":-1}"#, r#"{"a":null}"#]),
        column(
            "numbered map",
            Json::Value,
            numbers.finish(),
            [r#"[[1,"a"],[2,null]]"#, "[]", r#"[[-3,"\n"]]"#, r#"[[0,""]]"#],
        ),
    ]
}

fn unions() -> Vec<Column> {
    let fields: UnionFields =
        [(0, Arc::new(Field::new("n", DataType::Int32, true))), (5, Arc::new(Field::new("s", DataType::Utf8, true)))]
            .into_iter()
            .collect();
    let ids: Vec<i8> = vec![0, 5, 5, 0, 5];
    let sparse = UnionArray::try_new(
        fields.clone(),
        ids.clone().into(),
        None,
        vec![
            Arc::new(Int32Array::from(vec![Some(7), None, None, Some(-8), None])),
            Arc::new(StringArray::from(vec![None, Some("x\""), Some(""), None, None])),
        ],
    );
    let dense = UnionArray::try_new(
        fields,
        ids.into(),
        Some(vec![1, 0, 1, 0, 2].into()),
        vec![Arc::new(Int32Array::from(vec![-8, 7])), Arc::new(StringArray::from(vec![Some("x\""), Some(""), None]))],
    );
    let told = ["7", r#""x\"""#, r#""""#, "-8"];
    vec![
        not_in_parquet(column("sparse union", Json::Value, sparse.unwrap(), told)),
        not_in_parquet(column("dense union", Json::Value, dense.unwrap(), told)),
    ]
}
