//! A share's options, held against its plugin's JSON Schema. Every refused
//! configuration is a pair of `tests/golden/options/NAME.toml` and `NAME.err`,
//! which is reviewed as product; `BLESS=1 cargo test options` writes the `.err`
//! files anew. Their plugin `fixed` has the options of `schema.json` there.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::world::{World, checkout, says};
use crate::plugin::support::guest;

/// The guest `echo` with these for its options.
pub fn with_options(schema: &str) -> Vec<u8> {
    let usual = b"{\"type\":\"object\"}        ";
    let mut component = guest("echo");
    let at = component.windows(usual.len()).position(|window| window == usual).unwrap();
    let room = component[at..].iter().position(|byte| *byte == b'\n').unwrap();
    assert!(schema.len() <= room, "{} bytes, but there is room for {room}", schema.len());
    component[at..at + room].fill(b' ');
    component[at..at + schema.len()].copy_from_slice(schema.as_bytes());
    component
}

/// A world with the plugin `fixed` and a little data, whose configuration is `included`.
fn world(schema: &str, name: &str, included: &str) -> World {
    let world = World::new("[plugins.fixed]\npath = \"fixed.wasm\"\n");
    world.write("consign.toml", format!("include = [\"{name}\"]\n{}", world.text()));
    world.write("fixed.wasm", with_options(schema));
    world.write("numbers.csv", "n,m\n1,2\n");
    world.write(name, included);
    world
}

fn golden(name: &str) -> PathBuf {
    checkout("tests/golden/options").join(name)
}

#[test]
fn every_misfit_reads_as_reviewed() {
    let bless = std::env::var_os("BLESS").is_some();
    let schema = fs::read_to_string(golden("schema.json")).unwrap();
    let mut differing = String::new();
    let mut pairs = 0;
    let entries = fs::read_dir(golden("")).unwrap().map(|entry| entry.unwrap().path());
    for toml in entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        pairs += 1;
        let name = toml.file_name().unwrap().to_str().unwrap();
        let world = world(&schema, name, &fs::read_to_string(&toml).unwrap());
        let shown = world.run(&["check"]).ended(3).stderr;
        let err = toml.with_extension("err");
        if bless {
            fs::write(&err, &shown).unwrap();
        }
        let reviewed = fs::read_to_string(&err).unwrap_or_default();
        if shown != reviewed {
            writeln!(differing, "{name}\n--- reviewed\n{reviewed}--- now\n{shown}").unwrap();
        }
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(differing.is_empty(), "{differing}");
    assert!(pairs >= 9, "only {pairs} pairs");
}

/// A schema is looked at when its plugin is loaded, and never fetched.
#[test]
fn a_plugin_whose_schema_is_wrong_is_refused() {
    let schema = r#"{ "properties": { "a": { "$ref": "https://example.com/a.json" } } }"#;
    let shares = fs::read_to_string(golden("missing.toml")).unwrap();
    world(schema, "shares.toml", &shares).run(&["check"]).ended(3).err_says(&[
        "plugin fixed describes itself wrongly: its options schema refers to \"https://example.com/a.json\"",
        "schemas are never fetched (at `#/properties/a`)",
        "path = \"fixed.wasm\"",
    ]);
}

/// Following it would take longer than the world has been there.
#[test]
fn a_schema_without_end_is_an_error_of_its_plugin() {
    let level = |n: u32| {
        format!(r##""l{n}": {{ "allOf": [{{ "$ref": "#/$defs/l{0}" }}, {{ "$ref": "#/$defs/l{0}" }}] }}"##, n + 1)
    };
    let levels: Vec<String> = (0..60).map(level).collect();
    let doubling = format!(r##"{{ "$ref": "#/$defs/l0", "$defs": {{ {}, "l60": {{}} }} }}"##, levels.join(", "));
    let shares = fs::read_to_string(golden("missing.toml")).unwrap();
    for (schema, why) in
        [(doubling.as_str(), "takes more than 200000 steps"), (r##"{ "$ref": "#" }"##, "refers to itself")]
    {
        let told = world(schema, "shares.toml", &shares).run(&["check"]).ended(3);
        says(&told.stderr, &["the options schema of plugin fixed ", why, "plugin = \"fixed\"", "^^^^^^^"]);
    }
}

/// What is right is still asked about: all of it is told at once.
#[test]
fn the_plugin_is_asked_about_what_fits() {
    let shares = fs::read_to_string(golden("missing.toml")).unwrap();
    let (head, _) = shares.split_once("\n[shares.").unwrap();
    let share = "\n[shares.a]\nschedule = \"0 6 * * *\"\ndataset = \"numbers\"\nplugin = \"csv\"\nto = { all = true }\n\
        options = { header = 1, delimiter = \"ab\", quote = \";\", null = \";\" }\n";
    let told = world(r#"{"type":"object"}"#, "shares.toml", &format!("{head}{share}")).run(&["check"]).ended(3);
    says(&told.stderr, &["option `header` is an integer, not true or false", "`ab` is not one ASCII character"]);
    says(&told.stderr, &["2 errors in the configuration"]);
}

/// Options are looked at without the data, which may be behind the network.
#[test]
fn options_of_a_dataset_that_is_not_read_are_checked() {
    let shares = fs::read_to_string(golden("shipped.toml")).unwrap();
    let shares = shares.replace("\"numbers.csv\"", "\"s3://bucket/numbers.csv\"");
    let told = world(r#"{"type":"object"}"#, "shares.toml", &shares).run(&["check"]).ended(3);
    says(&told.stderr, &["option `header` is a string, not true or false", "unknown option `nul`"]);
}
