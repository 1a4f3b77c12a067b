//! JSON Schemas of options: which are refused, how far they are followed, and
//! that values are judged as others judge them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use consign::plugin::{Endless, OptionsSchema};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::support::needs::not_tested;

fn judged(schema: &Value, options: &Value) -> Result<bool, Endless> {
    let schema = OptionsSchema::read(&schema.to_string()).unwrap_or_else(|why| panic!("{schema} {why}"));
    schema.judge(options).map(|misfits| misfits.is_empty())
}

#[test]
fn a_schema_that_cannot_be_followed_is_refused() {
    let long = "k".repeat(1001);
    let many: serde_json::Map<String, Value> = (0..10_001).map(|n| (format!("o{n}"), json!({}))).collect();
    let patterns: Vec<Value> = (0..501).map(|_| json!({ "pattern": "a" })).collect();
    let refused = [
        (json!([]), "is not a JSON object"),
        (
            json!({ "$schema": "http://json-schema.org/draft-07/schema#" }),
            "is written for \"http://json-schema.org/draft-07",
        ),
        (json!({ "type": "text" }), "has the type \"text\", which JSON does not have (at `#`)"),
        (json!({ "properties": { "a": { "type": 1 } } }), "(at `#/properties/a`)"),
        (json!({ "properties": [] }), "has a `properties` that is not an object"),
        (json!({ "properties": { "a/b": 7 } }), "neither an object nor a boolean (at `#/properties/a~1b`)"),
        (json!({ "required": [1] }), "has a `required` that is not a list of strings"),
        (json!({ "minimum": "1" }), "has a `minimum` that is not a number"),
        (json!({ "minLength": -1 }), "has a `minLength` that is not an integer from 0"),
        (json!({ "multipleOf": 0 }), "has a `multipleOf` that is not above 0"),
        (json!({ "items": [{}] }), "has a list as `items`, which 2020-12 writes `prefixItems`"),
        (json!({ "$ref": "#/$defs/none" }), "refers to \"#/$defs/none\", which is not in it"),
        (json!({ "$ref": "#none" }), "refers to \"#none\", which is not in it"),
        (json!({ "$ref": "file:///etc/passwd" }), "schemas are never fetched"),
        (json!({ "not": { "$ref": "http://169.254.169.254/" } }), "schemas are never fetched (at `#/not`)"),
        (json!({ "$dynamicRef": "#a" }), "has `$dynamicRef`, which consign does not follow"),
        (json!({ "not": { "$id": "http://example.com/" } }), "has an `$id` below its root"),
        (json!({ "pattern": "(" }), "is no regular expression"),
        (json!({ "pattern": "(?=a)" }), "without look-around"),
        (json!({ "pattern": "((a{1000}){1000}){1000}" }), "which is too large"),
        (json!({ "allOf": patterns }), "has more than 500 patterns"),
        (json!({ "properties": many }), "has more than 10000 subschemas"),
        (json!({ "properties": { long: {} } }), "below keys of more than 1000 bytes"),
        (json!({ "description": "d".repeat(1 << 20) }), "at most 1048576 are read"),
    ];
    for (schema, why) in refused {
        let shown: String = schema.to_string().chars().take(80).collect();
        let said = OptionsSchema::read(&schema.to_string()).err().unwrap_or_else(|| panic!("{shown} is taken"));
        assert!(said.contains(why), "{shown}: {said}");
    }
    let deep = format!("{}{{}}{}", "{\"not\":".repeat(5000), "}".repeat(5000));
    assert!(OptionsSchema::read(&deep).err().unwrap().contains("is not JSON"));
}

/// Each of these would keep `check` busy for ever, or end the process.
#[test]
fn a_hostile_schema_is_given_up() {
    let defs = |count: usize, body: &dyn Fn(usize) -> Value| {
        let all: serde_json::Map<String, Value> =
            (0..count).map(|n| (n.to_string(), body(n))).chain([(count.to_string(), json!({}))]).collect();
        json!({ "$ref": "#/$defs/0", "$defs": all })
    };
    let next = |n: usize| json!({ "$ref": format!("#/$defs/{}", n + 1) });
    let options = json!({ "a": 1 });
    assert_eq!(judged(&json!({ "$ref": "#" }), &options), Err(Endless::Depth));
    assert_eq!(
        judged(&json!({ "properties": { "a": { "anyOf": [{ "not": { "$ref": "#/properties/a" } }] } } }), &options),
        Err(Endless::Depth)
    );
    // A chain of references that is longer than a stack is deep.
    assert_eq!(judged(&defs(9000, &next), &options), Err(Endless::Depth));
    for word in ["allOf", "anyOf", "oneOf"] {
        let doubled = defs(60, &|n| json!({ word: [next(n), next(n), { "type": "null" }] }));
        assert_eq!(judged(&doubled, &options), Err(Endless::Steps), "{word}");
    }
    let branching = defs(60, &|n| json!({ "if": next(n), "then": next(n), "else": next(n) }));
    assert_eq!(judged(&branching, &options), Err(Endless::Steps));
    let values: Vec<Value> = (0..2000).map(Value::from).collect();
    assert_eq!(judged(&json!({ "uniqueItems": true }), &json!(values)), Err(Endless::Steps));
    // The engine of patterns has no bad cases; there are only too many.
    let pattern = json!({ "items": { "pattern": "^(a+)+$" } });
    assert_eq!(judged(&pattern, &json!([format!("{}b", "a".repeat(1000))])), Ok(false));
    assert_eq!(judged(&pattern, &json!(vec!["a"; 5000])), Err(Endless::Steps));
}

/// Schemas as formats have them, and values that nearly fit.
fn schemas() -> impl Strategy<Value = Value> {
    let number = prop_oneof![Just(json!(0)), Just(json!(2)), Just(json!(2.5)), Just(json!(-1))];
    let count = 0..3_u64;
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!(false)),
        prop::sample::select(vec!["null", "boolean", "string", "integer", "number", "array", "object"])
            .prop_map(|kind| json!({ "type": kind })),
        (number.clone(), number.clone()).prop_map(|(a, b)| json!({ "minimum": a, "exclusiveMaximum": b })),
        number.clone().prop_map(|a| json!({ "const": a })),
        Just(json!({ "enum": ["a", "b", 1, true, null] })),
        Just(json!({ "pattern": "^a" })),
        Just(json!({ "multipleOf": 0.5 })),
        (count.clone(), count).prop_map(|(a, b)| json!({ "minLength": a, "maxItems": b, "minProperties": a })),
        Just(json!({ "required": ["a"], "dependentRequired": { "b": ["a"] } })),
        Just(json!({ "uniqueItems": true })),
        Just(json!({ "$ref": "#/$defs/leaf" })),
    ];
    leaf.prop_recursive(3, 24, 3, |inner| {
        let (a, b, c) = (inner.clone(), inner.clone(), inner);
        (a, b, c, 0..10_u8).prop_map(|(a, b, c, form)| match form {
            0 => json!({ "allOf": [a, b] }),
            1 => json!({ "anyOf": [a, b] }),
            2 => json!({ "oneOf": [a, b, c] }),
            3 => json!({ "not": a }),
            4 => json!({ "if": a, "then": b, "else": c }),
            5 => json!({ "properties": { "a": a, "b": b }, "additionalProperties": c }),
            6 => json!({ "patternProperties": { "^a": a }, "propertyNames": { "maxLength": 1 }, "additionalProperties": b }),
            7 => json!({ "prefixItems": [a], "items": b }),
            8 => json!({ "contains": a, "maxContains": 1, "unevaluatedItems": b }),
            _ => json!({ "anyOf": [{ "properties": { "a": a } }, { "properties": { "b": b } }], "unevaluatedProperties": c }),
        })
    })
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(2),
        json!(2.0),
        json!(2.5),
        json!(-1),
        json!(""),
        json!("a"),
        json!("ab"),
        json!("b"),
    ]);
    leaf.prop_recursive(2, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(
                prop::sample::select(vec!["a", "b", "aa", "c"]).prop_map(str::to_owned),
                inner,
                0..4
            )
            .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Python's jsonschema is the yardstick.
#[test]
fn values_are_judged_as_by_python() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    if !python.exists() {
        return not_tested("no .venv (make setup)");
    }
    let mut runner = TestRunner::deterministic();
    let pair = (schemas(), values());
    let pairs: Vec<(Value, Value)> = (0..4000).map(|_| pair.new_tree(&mut runner).unwrap().current()).collect();
    let whole = |schema: &Value| json!({ "allOf": [schema], "$defs": { "leaf": { "type": ["string", "integer"] } } });
    let script = "import json, sys, jsonschema\n\
        for line in sys.stdin:\n    schema, value = json.loads(line)\n    \
        print(int(jsonschema.Draft202012Validator(schema).is_valid(value)))\n";
    let mut child =
        Command::new(python).args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines: String = pairs.iter().map(|(schema, value)| format!("{}\n", json!([whole(schema), value]))).collect();
    let writing = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let theirs = String::from_utf8(output.stdout).unwrap();
    assert_eq!(theirs.lines().count(), pairs.len());
    let mut fitting = 0;
    for ((schema, value), theirs) in pairs.iter().zip(theirs.lines()) {
        let ours = judged(&whole(schema), value).unwrap();
        assert_eq!(ours, theirs == "1", "{schema} {value}");
        fitting += usize::from(ours);
    }
    assert!((pairs.len() / 10..pairs.len() * 9 / 10).contains(&fitting), "{fitting} of {} fit", pairs.len());
}
