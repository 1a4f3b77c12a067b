//! Schema, documentation and examples tell the same story as the reader.

use std::collections::BTreeSet;
use std::path::Path;

use consign::config::{Config, Environment, reference, schema};
use serde_json::Value;

use super::load;

/// Paths of all keys, `*` for a name: `customers.*.bucket`.
fn keys(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if matches!(name.as_str(), "env" | "credential") {
            continue;
        }
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        keys(property, &path, found);
        found.insert(path);
    }
    for alternative in schema["anyOf"].as_array().into_iter().flatten() {
        keys(alternative, path, found);
    }
    if schema["additionalProperties"].is_object() {
        keys(&schema["additionalProperties"], &format!("{path}.*"), found);
    }
}

fn all_keys() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    keys(&schema(), "", &mut found);
    found
}

/// Whether a parsed file has a key of this path.
fn has(value: &toml::Value, path: &[&str]) -> bool {
    let Some((step, rest)) = path.split_first() else { return true };
    match value.as_table() {
        Some(table) if *step == "*" => table.values().any(|value| has(value, rest)),
        Some(table) => table.get(*step).is_some_and(|value| has(value, rest)),
        None => false,
    }
}

/// The example with its commented keys (`#key = …`, `#[table]`) switched on.
fn example_with_everything() -> String {
    let text = std::fs::read_to_string("config/consign.example.toml").unwrap();
    let switched = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(switched).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_schema_is_a_schema() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["customers"]["additionalProperties"]["required"][0], "role_arn");
    assert_eq!(schema["properties"]["daemon"]["properties"]["concurrency"]["default"], 8);
    assert!(all_keys().len() > 70);
}

#[test]
fn every_key_is_described_with_an_example() {
    fn walk(schema: &Value, path: &str) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            if matches!(name.as_str(), "env" | "credential") {
                continue;
            }
            assert!(property["description"].as_str().is_some_and(|text| text.ends_with(['.', '`'])), "{path}.{name}");
            assert!(property["examples"][0] != Value::Null, "{path}.{name} has an example that is not TOML");
            walk(property, &format!("{path}.{name}"));
        }
        walk_inside(schema, path);
    }
    fn walk_inside(schema: &Value, path: &str) {
        schema["anyOf"].as_array().into_iter().flatten().for_each(|alternative| walk(alternative, path));
        if schema["additionalProperties"].is_object() {
            walk(&schema["additionalProperties"], &format!("{path}.*"));
        }
    }
    walk(&schema(), "");
}

#[test]
fn the_reader_takes_no_key_that_the_schema_lacks() {
    for path in all_keys() {
        let mut steps: Vec<&str> = path.split('.').collect();
        *steps.last_mut().unwrap() = "no_such_key";
        let text = format!("{} = 1\n", steps.join(".").replace('*', "x"));
        let errors = load(&text).unwrap_err().to_string();
        // Below a name of `params` or `tags` anything is a name.
        assert!(errors.contains("unknown key `no_such_key`"), "{text}{errors}");
    }
}

#[test]
fn the_example_has_every_key_and_loads() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("credentials")).unwrap();
    std::fs::write(folder.path().join("credentials/aws-session-token"), "token").unwrap();
    let env = Environment::from_pairs([
        ("VENDOR_KEY_ID", "id"),
        ("VENDOR_SECRET", "secret"),
        ("CREDENTIALS_DIRECTORY", folder.path().join("credentials").to_str().unwrap()),
    ]);
    let everything = example_with_everything();
    let path = folder.path().join("consign.toml");
    std::fs::write(&path, &everything).unwrap();
    let config = Config::load(&path, &env).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.warnings.len(), 0, "{:?}", config.warnings);
    let parsed: toml::Value = toml::from_str(&everything).unwrap();
    let alone = ["aws.profile", "customers.*.allow_missing_external_id", "shares.*.to.all", "datasets.*.shared"];
    for key in all_keys().iter().filter(|key| !alone.contains(&key.as_str())) {
        assert!(has(&parsed, &key.split('.').collect::<Vec<_>>()), "config/consign.example.toml lacks {key}");
    }
    for key in alone {
        let name = key.rsplit('.').next().unwrap();
        assert!(everything.contains(&format!("{name} = ")), "config/consign.example.toml lacks {key}");
    }
}

#[test]
fn the_files_as_shipped_load() {
    for name in ["config/consign.example.toml", "config/minimal.toml"] {
        let config = Config::load(Path::new(name), &Environment::default()).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(config.warnings.is_empty(), "{name}: {:?}", config.warnings);
        assert!(!config.shares.is_empty());
    }
}

#[test]
fn the_documentation_has_the_reference() {
    const BEGIN: &str = "<!-- reference: begin -->\n";
    const END: &str = "<!-- reference: end -->";
    let text = std::fs::read_to_string("docs/configuration.md").unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let now = format!("\n{}", reference());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write("docs/configuration.md", format!("{before}{BEGIN}{now}{END}{after}")).unwrap();
        return;
    }
    assert!(written == now, "docs/configuration.md is behind: run BLESS=1 cargo test the_documentation");
    for key in all_keys() {
        let name = key.rsplit('.').next().unwrap();
        assert!(written.contains(&format!("| `{name}` |")), "docs/configuration.md lacks {key}");
    }
}
