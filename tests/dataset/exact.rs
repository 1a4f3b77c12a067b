//! A value of a text file is what is written there, whatever its column's type.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use consign::config::TableSource;
use consign::dataset::{Kind, Request};
use serde_json::{Value, json};

use super::world::*;

async fn schema(world: &World, file: &str) -> Arc<Schema> {
    let params = params(&[]);
    let request = Request { interval: interval(), params: &params };
    world.datasets.plan(&dataset(vec![("t", world.table(file))], ""), &request).await.unwrap().schema()
}

/// The type of column `v` with these values, and the values as they come out.
async fn csv_of(values: &[&str]) -> (DataType, Vec<Value>) {
    let world = World::new();
    let lines = values.iter().enumerate().map(|(id, value)| format!("{id},{value}\n"));
    world.write("a.csv", format!("id,v\n{}", lines.collect::<String>()));
    let data_type = schema(&world, "a.csv").await.field(1).data_type().clone();
    let rows = world.rows(&dataset(vec![("t", world.table("a.csv"))], ""), &params(&[])).await.unwrap();
    (data_type, rows.into_iter().map(|row| row.get("v").cloned().unwrap_or_default()).collect())
}

#[tokio::test]
async fn csv_has_the_type_that_holds_every_value() {
    let stamp = |unit, zone: Option<&str>| DataType::Timestamp(unit, zone.map(Into::into));
    let cases: [(&[&str], DataType, Value); 16] = [
        (&["1", "", "-20"], DataType::Int64, json!([1, null, -20])),
        (&["9223372036854775807", "0"], DataType::Int64, json!([i64::MAX, 0])),
        (&["1", "2.5", "-0", ".5", "1e3"], DataType::Float64, json!([1.0, 2.5, -0.0, 0.5, 1000.0])),
        // As C and R print 0.1, with 17 digits.
        (&["0.10000000000000001", "0.30000000000000004"], DataType::Float64, json!([0.1, 0.30000000000000004])),
        (&["true", "FALSE"], DataType::Boolean, json!([true, false])),
        (&["2024-05-01", "1582-10-15"], DataType::Date32, json!(["2024-05-01", "1582-10-15"])),
        (
            &["2024-01-01T10:00:00", "2024-01-01 10:00:00.5"],
            stamp(TimeUnit::Millisecond, None),
            json!(["2024-01-01T10:00:00", "2024-01-01T10:00:00.500"]),
        ),
        (
            &["2024-01-01T10:00:00.000000001", "2024-01-01T10:00:00"],
            stamp(TimeUnit::Nanosecond, None),
            json!(["2024-01-01T10:00:00.000000001", "2024-01-01T10:00:00"]),
        ),
        (
            &["2024-01-01T10:00:00+02:00", "2024-01-01 10:00:00Z", "2024-01-01T10:00:00-0130"],
            stamp(TimeUnit::Second, Some("UTC")),
            json!(["2024-01-01T08:00:00Z", "2024-01-01T10:00:00Z", "2024-01-01T11:30:00Z"]),
        ),
        (&["00123", "7"], DataType::Utf8, json!(["00123", "7"])),
        (&["+4912345", "1"], DataType::Utf8, json!(["+4912345", "1"])),
        (&["12345678901234567.89"], DataType::Utf8, json!(["12345678901234567.89"])),
        (&["1e400", "1.5"], DataType::Utf8, json!(["1e400", "1.5"])),
        (&["9007199254740993", "1.5"], DataType::Utf8, json!(["9007199254740993", "1.5"])),
        (&["18446744073709551615"], DataType::Utf8, json!(["18446744073709551615"])),
        (&["2024-01-01", "2024-01-01T10:00:00"], DataType::Utf8, json!(["2024-01-01", "2024-01-01T10:00:00"])),
    ];
    for (values, data_type, expected) in cases {
        assert_eq!(csv_of(values).await, (data_type, expected.as_array().unwrap().clone()), "{values:?}");
    }
    for text in
        ["2024-02-30", "24:00:00", "2024-01-01T10:00", "2024-01-01T10:00:60", "1,5", "NaN", "-", ".", "0x1F", " 1"]
    {
        let quoted = format!("\"{text}\"");
        assert_eq!(csv_of(&[&quoted]).await, (DataType::Utf8, vec![json!(text)]));
    }
}

/// What comes late counts as much as what comes first.
#[tokio::test]
async fn late_values_are_not_cut_to_the_type_of_the_first() {
    for (early, late, out) in [
        ("2024-01-01T10:00:00", "2024-01-01T10:00:00.987", "2024-01-01T10:00:00.987"),
        ("2024-01-01", "2024-01-01T23:59:58", "2024-01-01T23:59:58"),
        ("17", "x17", "x17"),
    ] {
        let values: Vec<&str> = std::iter::repeat_n(early, 5_000).chain([late]).collect();
        assert_eq!(csv_of(&values).await.1.last(), Some(&json!(out)));
    }
    // In another file, too.
    let world = World::new();
    world.write("lake/a.csv", "id\n9007199254740993\n");
    world.write("lake/b.csv", "id\n0.5\n");
    let source = TableSource { path: world.path("lake/"), ..world.table("a.csv") };
    let rows = world.rows(&dataset(vec![("t", source)], ""), &params(&[])).await.unwrap();
    assert_eq!(rows, [json!({"id": "9007199254740993"}), json!({"id": "0.5"})]);
}

#[tokio::test]
async fn ndjson_has_every_value_or_says_what_holds_it() {
    let world = World::new();
    let lines = "\u{feff}{\"n\":1,\"f\":0.5,\"s\":\"a\\\"\\u00e9\",\"l\":[1,null],\"o\":{\"a.b\":{\"c\":true}},\"z\":null}\n\
                 { \"f\" : 2 , \"n\" : -9223372036854775808 , \"l\" : [ ] , \"o\" : { \"d\" : [ {\"e\":\"}\"} ] } }\r\n";
    world.write("a.ndjson", lines);
    let rows = world.rows(&dataset(vec![("t", world.table("a.ndjson"))], ""), &params(&[])).await.unwrap();
    let expected = [
        json!({"n": 1, "f": 0.5, "s": "a\"é", "l": [1, null], "o": {"a.b": {"c": true}}}),
        json!({"n": i64::MIN, "f": 2.0, "l": [], "o": {"d": [{"e": "}"}]}}),
    ];
    assert_eq!(rows, expected);

    for (lines, says, remedy) in [
        (
            "{\"a\":1}\n\n{\"a\":18446744073709551615}\n",
            &["line 3", "'a'", "'18446744073709551615'"][..],
            "decimal(38, 0)",
        ),
        ("{\"a\":9007199254740993}\n{\"a\":1.5}\n", &["line 2", "'1.5'", "'9007199254740993' on line 1"], "decimal"),
        ("{\"a\":1e400}\n", &["line 1", "'1e400'"], "varchar"),
        ("{\"a\":1}\n{\"a\":\"x\"}\n", &["line 2", "the text 'x'", "the number '1' on line 1"], "varchar"),
        ("{\"a\":[1]}\n{\"a\":{}}\n", &["line 2", "an object", "a list on line 1"], "one type"),
        ("{\"a\":{\"b\":[1]}}\n{\"a\":{\"b\":[true]}}\n", &["line 2", "'a.b[]'", "true"], "one type"),
        ("{\"a\":{\"b\":1e999}}\n", &["'a.b'"], "as text"),
    ] {
        world.write("b.ndjson", lines);
        let error = world.plan_error(&dataset(vec![("t", world.table("b.ndjson"))], ""), &params(&[])).await;
        assert_eq!(error.kind, Kind::Data, "{error:?}");
        assert!(says.iter().all(|phrase| error.message.contains(phrase)), "{says:?}: {error:?}");
        assert!(error.remedy.contains(remedy), "{error:?}");
    }
}

fn declared(world: &World, file: &str, sql: &str) -> TableSource {
    TableSource { columns: [("v".to_owned(), sql.to_owned())].into(), ..world.table(file) }
}

/// The same of CSV and of JSON strings; of JSON numbers where it is one.
#[tokio::test]
async fn declared_types_take_what_they_hold_and_nothing_else() {
    let world = World::new();
    let held: [(&str, &str, Value); 12] = [
        ("varchar", "00123", json!("00123")),
        ("bigint", "00123", json!(123)),
        ("decimal(38, 0)", "18446744073709551615", json!("18446744073709551615")),
        ("decimal(10, 2)", "1.2300", json!("1.23")),
        ("double", "0.1234567890123456789", json!(0.12345678901234568)),
        ("date", "2024-01-01T00:00:00", json!("2024-01-01")),
        ("date", "20240131", json!("2024-01-31")),
        ("timestamp", "2024-01-01", json!("2024-01-01T00:00:00")),
        ("timestamp(3)", "2024-01-01T10:00:00.987000", json!("2024-01-01T10:00:00.987")),
        ("timestamp", "2024-01-01 10:00:00.123456789", json!("2024-01-01T10:00:00.123456789")),
        ("timestamp with time zone", "2024-01-01T10:00:00+02:00", json!("2024-01-01T08:00:00Z")),
        ("time", "10:20:30.5", json!("10:20:30.500")),
    ];
    for (sql, value, expected) in held {
        world.write("a.csv", format!("id,v\n1,{value}\n"));
        world.write("a.ndjson", format!("{{\"id\":1,\"v\":\"{value}\"}}\n"));
        for file in ["a.csv", "a.ndjson"] {
            let source = declared(&world, file, sql);
            let query =
                if sql.starts_with("decimal") { "select cast(v as varchar) as v from t" } else { "select v from t" };
            let rows = world.rows(&dataset(vec![("t", source)], query), &params(&[])).await.unwrap();
            assert_eq!(rows, [json!({ "v": expected })], "{sql} in {file}");
        }
    }
    let lost = [
        ("decimal(10, 2)", "1.239"),
        ("decimal(3, 2)", "12.5"),
        ("bigint", "1.9"),
        ("smallint", "70000"),
        ("double", "1e400"),
        ("date", "2024-01-01T23:59:59"),
        ("date", "2024-02-30"),
        ("timestamp(0)", "2024-01-01T10:00:00.987"),
        ("timestamp", "2024-01-01T10:00:00+02:00"),
        ("timestamp", "1066-10-14T09:00:00"),
        ("time", "24:30:00"),
    ];
    for (sql, value) in lost {
        world.write("a.csv", format!("id,v\n1,\n2,{value}\n"));
        world.write("a.ndjson", format!("{{\"id\":1}}\n{{\"id\":2,\"v\":\"{value}\"}}\n"));
        for (file, line) in [("a.csv", "line 3"), ("a.ndjson", "line 2")] {
            let error = world.plan_error(&dataset(vec![("t", declared(&world, file, sql))], ""), &params(&[])).await;
            assert_eq!(error.kind, Kind::Data, "{error:?}");
            for phrase in [file, line, "'v'", &format!("'{value}'"), &format!("its type {sql} ")] {
                assert!(error.message.contains(phrase), "{phrase}: {error:?}");
            }
        }
    }
    for (sql, number) in [("bigint", "1.9"), ("decimal(10, 2)", "1.239"), ("date", "19723"), ("boolean", "1")] {
        world.write("a.ndjson", format!("{{\"v\":{number}}}\n"));
        let error = world.plan_error(&dataset(vec![("t", declared(&world, "a.ndjson", sql))], ""), &params(&[])).await;
        assert!(error.message.contains(&format!("'{number}'")), "{error:?}");
    }
    // What is written, digit by digit, and whatever it is.
    world.write("a.ndjson", "{\"v\":18446744073709551616.10}\n{\"v\":\"x\"}\n{\"v\":true}\n");
    let source = declared(&world, "a.ndjson", "varchar");
    let rows = world.rows(&dataset(vec![("t", source)], ""), &params(&[])).await.unwrap();
    assert_eq!(rows, [json!({"v": "18446744073709551616.10"}), json!({"v": "x"}), json!({"v": "true"})]);
}

/// Rows can be counted and partitions selected without any column of the files.
#[tokio::test]
async fn text_without_its_columns_has_its_rows() {
    let world = World::new();
    world.write("lake/day=1/a.csv", "id,v\n1,a\n2,b\n");
    world.write("lake/day=2/a.csv", "id,v\n3,c\n");
    let source =
        |path: &str| TableSource { partitions: vec!["day".into()], path: world.path(path), ..world.table("a.csv") };
    let count = dataset(vec![("t", source("lake/"))], "select count(*) as n from t");
    assert_eq!(world.rows(&count, &params(&[])).await.unwrap(), [json!({"n": 3})]);
    let days = dataset(vec![("t", source("lake/"))], "select day from t");
    assert_eq!(
        world.rows(&days, &params(&[])).await.unwrap(),
        [json!({"day": "1"}), json!({"day": "1"}), json!({"day": "2"})]
    );
    let swapped = dataset(vec![("t", source("lake/"))], "select v, day, id from t where day = '2' limit 1");
    assert_eq!(world.rows(&swapped, &params(&[])).await.unwrap(), [json!({"v": "c", "day": "2", "id": 3})]);
}
