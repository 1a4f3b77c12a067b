//! Whole objects, line by line.

#![cfg(test)]

use consign_fixed_width::FixedWidth;
use consign_sdk::testing::{Table, bools, fixed, node, texts};
use consign_sdk::{DataType, Diagnostic, Field, Formatter, RunFacts, Severity, TimeUnit};

fn table() -> Table {
    let amount = DataType::Decimal128 { precision: 12, scale: 2 };
    let instant = DataType::Timestamp { unit: TimeUnit::Second, timezone: Some("UTC".into()) };
    Table::new()
        .column("id", DataType::Int64, vec![fixed([Some(7i64), Some(-42), None].map(|id| id.map(i64::to_le_bytes)))])
        .column("name", DataType::Utf8, vec![texts([Some("Ada"), Some("Zoë"), None])])
        .column(
            "amount",
            amount,
            vec![fixed([Some(1250i128), Some(-5), None].map(|value| value.map(i128::to_le_bytes)))],
        )
        .column("at", instant, vec![fixed([Some(0i64), Some(86_399), None].map(|at| at.map(i64::to_le_bytes)))])
        .column("open", DataType::Boolean, vec![bools([Some(true), Some(false), None])])
}

/// The texts of the objects, as ISO 8859-1 where they are not UTF-8.
fn written(options: &str, facts: &[(&str, &str)]) -> Vec<String> {
    let run = RunFacts::of(facts.iter().copied());
    let objects = table().format::<FixedWidth>(options, &run).unwrap();
    assert_eq!(objects.iter().filter_map(|object| object.rows).sum::<u64>(), 3);
    let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(latin) => latin.as_bytes().iter().map(|byte| char::from(*byte)).collect(),
    };
    objects.into_iter().map(|object| text(object.bytes)).collect()
}

fn refused(options: &str) -> String {
    table().format::<FixedWidth>(options, &RunFacts::none()).unwrap_err().to_string()
}

fn found(options: &str) -> Vec<Diagnostic> {
    FixedWidth::check(options, &table().schema)
}

#[test]
fn values_stand_in_their_places() {
    let options = r#"{
        "columns": [
            { "column": "id", "width": 5, "pad": "0", "null": "?" },
            { "text": "|", "width": 1 },
            { "column": "name", "width": 6, "pad": "." },
            { "text": "", "width": 2 },
            { "column": "amount", "width": 8, "pad": "0", "point": false, "sign": "both", "align": "right" },
            { "column": "at", "width": 9, "format": "%Y%m%d" },
            { "column": "open", "width": 2, "align": "right" },
            { "column": "id", "width": 4, "align": "left" }
        ],
        "encoding": "latin-1", "booleans": ["Y", "N"], "line_ending": "crlf"
    }"#;
    let nulls = format!("{:37}\r\n", "    ?|");
    let expected = ["00007|Ada...  +000125019700101  Y7   \r\n", "-0042|Zoë...  -000000519700101  N-42 \r\n", &nulls];
    assert_eq!(written(options, &[]), [expected.concat()]);
}

#[test]
fn a_header_and_a_trailer_know_the_run() {
    let options = r#"{
        "header": [
            { "text": "HDR", "width": 3 }, { "fact": "customer", "width": 8 },
            { "fact": "slot", "width": 14, "format": "%d.%m.%Y%H%M" }, { "fact": "interval-start", "width": 20 }
        ],
        "columns": [{ "column": "id", "width": 4 }],
        "trailer": [{ "text": "TRL", "width": 3 }, { "fact": "rows", "width": 6, "pad": "0" }]
    }"#;
    let facts = [("customer", "acme"), ("slot", "2024-02-29T23:59:58Z"), ("interval-start", "2024-02-28T23:59:58Z")];
    let whole = "HDRacme    29.02.202423592024-02-28T23:59:58Z\n   7\n -42\n    \nTRL000003\n";
    assert_eq!(written(options, &facts), [whole]);

    // Of each object its own, and all of it within the limit.
    let limit = [&facts[..], &[("max-object-bytes", "70")]].concat();
    let objects = written(options, &limit);
    assert_eq!(objects.len(), 2);
    assert!(objects[0].ends_with("TRL000002\n") && objects[1].ends_with("TRL000001\n"), "{objects:?}");
    assert!(objects.iter().all(|object| object.starts_with("HDRacme") && object.len() <= 70), "{objects:?}");
}

#[test]
fn no_rows_are_a_header_and_a_trailer() {
    let mut empty = table();
    empty.batch.rows = 0;
    empty.batch.columns.clear();
    let options = r#"{
        "header": [{ "text": "HDR", "width": 4 }],
        "columns": [{ "column": "id", "width": 4 }],
        "trailer": [{ "fact": "rows", "width": 3, "pad": "0" }]
    }"#;
    let objects = consign_sdk::testing::format::<FixedWidth>(options, &empty.schema, &[], &RunFacts::none()).unwrap();
    assert_eq!(objects[0].bytes, b"HDR \n000\n");
}

#[test]
fn a_text_that_does_not_fit_is_told_or_cut() {
    let place = |more: &str| format!(r#"{{"columns":[{{"column":"name","width":2{more}}}]}}"#);
    let told = refused(&place(""));
    assert_eq!(
        told,
        "column `name` of row 1 is `Ada`, which has 3 characters, and its place has 2: widen it, shorten it in the query, \
         or write overflow = \"truncate\""
    );
    assert_eq!(written(&place(r#","overflow":"truncate""#), &[]), ["Ad\nZo\n  \n"]);
    let everywhere = r#"{"columns":[{"column":"name","width":2}],"overflow":"truncate"}"#;
    assert_eq!(written(everywhere, &[]), ["Ad\nZo\n  \n"]);

    // A number that is cut would be another number.
    let numbers = r#"{"columns":[{"column":"id","width":2}],"overflow":"truncate"}"#;
    assert_eq!(
        refused(numbers),
        "column `id` of row 2 is `-42`, which has 3 characters, and its place has 2: widen it"
    );
    let wide = r#"{"columns":[{"column":"id","width":5}],"trailer":[{"fact":"rows","width":1}]}"#;
    assert_eq!(written(wide, &[]), ["    7\n  -42\n     \n3\n"]);
}

#[test]
fn what_an_encoding_does_not_have_is_told() {
    let ascii = refused(r#"{"columns":[{"column":"name","width":6}]}"#);
    assert_eq!(
        ascii,
        "column `name` of row 2 has `ë`, which ASCII does not have: set options.encoding, or replace it in the query"
    );
    let utf8 = written(r#"{"columns":[{"column":"name","width":4}],"encoding":"utf-8"}"#, &[]);
    assert_eq!(utf8, ["Ada \nZoë \n    \n"]);
}

#[test]
fn control_characters_are_told_or_blanks() {
    let lines = Table::new().column("t", DataType::Utf8, vec![texts([Some("a\r\nb")])]);
    let format = |options: &str| lines.format::<FixedWidth>(options, &RunFacts::none());
    let told = format(r#"{"columns":[{"column":"t","width":6}]}"#).unwrap_err().to_string();
    assert!(told.starts_with("column `t` of row 1 has the control character U+000D: "), "{told}");
    let objects = format(r#"{"columns":[{"column":"t","width":6}],"control_characters":"space"}"#).unwrap();
    assert_eq!(objects[0].bytes, b"a  b  \n");
}

#[test]
fn a_layout_that_makes_no_sense_is_told_place_by_place() {
    let cases = [
        (r"{}", "/columns", "say where each column is"),
        (r#"{"columns":[{"column":"nmae","width":3}]}"#, "/columns/0/column", "no column `nmae`; it has `id`, `name`"),
        (r#"{"columns":[{"column":"id","width":0}]}"#, "/columns/0/width", "from 1 to 65536, not 0"),
        (r#"{"columns":[{"width":3}]}"#, "/columns/0", "one of `column`, `text` and `fact`"),
        (r#"{"columns":[{"text":"abc","width":2}]}"#, "/columns/0/text", "has 3 characters, and its place has 2"),
        (r#"{"columns":[{"text":"a","width":2,"null":"x"}]}"#, "/columns/0/null", "means nothing here"),
        (r#"{"columns":[{"fact":"rows","width":2}]}"#, "/columns/0/fact", "in the trailer only"),
        (r#"{"columns":[{"column":"id","width":9,"format":"%Y"}]}"#, "/columns/0/format", "only dates, times"),
        (r#"{"columns":[{"column":"at","width":9,"format":"%Q"}]}"#, "/columns/0/format", "`%Q` is not possible"),
        (
            r#"{"columns":[{"column":"id","width":9,"overflow":"truncate"}]}"#,
            "/columns/0/overflow",
            "nothing can be cut",
        ),
        (r#"{"columns":[{"column":"id","width":9,"point":false}]}"#, "/columns/0/point", "only decimals"),
        (r#"{"columns":[{"column":"name","width":9,"sign":"both"}]}"#, "/columns/0/sign", "only numbers"),
        (r#"{"columns":[{"column":"id","width":9,"pad":"é"}]}"#, "/columns/0/pad", "one printable ASCII character"),
        (
            r#"{"columns":[{"text":"x","width":1}],"header":[{"column":"id","width":9}]}"#,
            "/header/0/column",
            "in `columns`",
        ),
        (r#"{"columns":[{"column":"id","widht":9}]}"#, "/columns/0/widht", "unknown field `widht`"),
    ];
    for (options, path, said) in cases {
        let findings = found(options);
        let finding = findings.iter().find(|finding| finding.severity == Severity::Error);
        let finding = finding.unwrap_or_else(|| panic!("{options}: {findings:?}"));
        assert_eq!(finding.path, path, "{options}: {}", finding.message);
        assert!(finding.message.contains(said), "{options}: {}", finding.message);
    }
    let both = found(r#"{"columns":[{"column":"x","width":3},{"column":"id","width":0}]}"#);
    assert_eq!(both.len(), 2, "{both:?}");
}

#[test]
fn nested_columns_have_no_width() {
    let list = DataType::List(Box::new(Field::new("item", DataType::Int8)));
    let nested = Table::new().column("tags", list, vec![node([]), node([])]);
    let findings = FixedWidth::check(r#"{"columns":[{"column":"tags","width":9}]}"#, &nested.schema);
    assert!(findings[0].message.starts_with("column `tags` is list<int8>, which has no width"), "{findings:?}");
}

#[test]
fn columns_that_are_left_out_are_warned_about() {
    let findings =
        found(r#"{"columns":[{"column":"id","width":9},{"column":"name","width":9},{"column":"at","width":20}]}"#);
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(finding.message, "no place has the column `amount`, `open`: it is not delivered");
}
