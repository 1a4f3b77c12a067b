//! The description of the format for editors (JSON Schema) and for people.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::ROOT;
use super::shape::{Key, Kind, Need, Shape};

/// The JSON Schema (draft 2020-12) of the configuration.
pub fn schema() -> Value {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "consign.toml",
    });
    if let (Some(schema), Value::Object(root)) = (schema.as_object_mut(), of_shape(&ROOT)) {
        schema.extend(root);
    }
    schema
}

fn of_shape(shape: &Shape) -> Value {
    let properties: Map<String, Value> = shape.keys.iter().map(|key| (key.name.to_owned(), of_key(key))).collect();
    let required: Vec<&str> = shape.keys.iter().filter(|k| matches!(k.need, Need::Required)).map(|k| k.name).collect();
    let mut schema = json!({ "type": "object", "description": shape.doc, "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema["additionalProperties"] = json!(false);
    schema
}

fn of_key(key: &Key) -> Value {
    let mut schema = of_kind(&key.kind);
    let mut doc = key.doc.to_owned();
    match key.need {
        Need::Default(written) => match toml_value(written) {
            Some(value) => schema["default"] = value,
            None => doc = format!("{doc} Default: {written}."),
        },
        Need::Required | Need::Optional => {}
    }
    schema["description"] = json!(doc);
    if let Some(example) = toml_value(key.example) {
        schema["examples"] = json!([example]);
    }
    schema
}

fn of_kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text("") => json!({ "type": "string" }),
        Kind::Text(pattern) => json!({ "type": "string", "pattern": pattern }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Size(..) => {
            json!({ "type": "string", "pattern": "^\\s*[0-9]+(\\.[0-9]+)?\\s*([KkMmGgTtPpEe][Ii]?)?[Bb]?\\s*$" })
        }
        Kind::Duration(..) => json!({ "type": "string", "pattern": "^\\s*([0-9]+\\s*[a-zA-Zµ]+\\s*)+$" }),
        Kind::Date => json!({ "type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2}([Tt ].+)?$" }),
        Kind::Secret => {
            let reference = |word: &str| {
                json!({
                    "type": "object",
                    "properties": { word: { "type": "string" } },
                    "required": [word],
                    "additionalProperties": false,
                })
            };
            json!({ "oneOf": [reference("env"), reference("credential")] })
        }
        Kind::Param => {
            let scalar = json!({ "type": ["string", "number", "boolean"] });
            json!({ "anyOf": [scalar, { "type": "array", "items": scalar }] })
        }
        Kind::Free => json!({ "type": "object" }),
        Kind::List(kind) => json!({ "type": "array", "items": of_kind(kind) }),
        Kind::Table(shape) => of_shape(shape),
        Kind::Map(names) => json!({
            "type": "object",
            "propertyNames": { "pattern": names.pattern },
            "additionalProperties": of_kind(&names.value),
        }),
        Kind::Either(kinds) => json!({ "anyOf": kinds.iter().map(of_kind).collect::<Vec<_>>() }),
    }
}

/// A value as written in TOML; None for words.
fn toml_value(text: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(&format!("value = {text}")).ok()?;
    match table.get("value")? {
        // As editors see it.
        toml::Value::Datetime(time) => Some(json!(time.to_string())),
        value => serde_json::to_value(value).ok(),
    }
}

/// The reference of every key, as Markdown: a section for each table.
pub fn reference() -> String {
    let mut text = String::new();
    write_shape(&ROOT, "", &mut text);
    text
}

fn write_shape(shape: &Shape, path: &str, text: &mut String) {
    let heading = if path.is_empty() { "Top level".to_owned() } else { format!("`[{path}]`") };
    // Writing into a String does not fail.
    let _ = write!(
        text,
        "### {heading}\n\n{}\n\n| Key | Type | Default | Meaning and rule |\n|---|---|---|---|\n",
        shape.doc
    );
    for key in shape.keys {
        let default = match key.need {
            Need::Required => "**required**".to_owned(),
            Need::Optional => "–".to_owned(),
            Need::Default(written) if toml_value(written).is_some() => format!("`{written}`"),
            Need::Default(words) => words.to_owned(),
        };
        let doc = format!("{} Example: `{} = {}`", key.doc, key.name, key.example).replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | {} | {default} | {doc} |", key.name, words(&key.kind).replace('|', "\\|"));
    }
    text.push('\n');
    for key in shape.keys {
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        write_nested(&key.kind, &path, text);
    }
}

fn write_nested(kind: &Kind, path: &str, text: &mut String) {
    match kind {
        Kind::Table(shape) => write_shape(shape, path, text),
        Kind::Map(names) => write_nested(&names.value, &format!("{path}.NAME"), text),
        Kind::Either(kinds) => kinds.iter().for_each(|kind| write_nested(kind, path, text)),
        _ => {}
    }
}

fn words(kind: &Kind) -> String {
    match kind {
        Kind::Choice(choices) => choices.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", "),
        Kind::Int(min, max) => format!("integer, {min} to {max}"),
        Kind::Text(_) => "string".into(),
        Kind::Bool => "boolean".into(),
        Kind::Size(..) => "size".into(),
        Kind::Duration(..) => "duration".into(),
        Kind::Date => "date, or date and time".into(),
        Kind::Secret => "secret reference".into(),
        Kind::Param => "value or array".into(),
        Kind::List(_) => "array of strings".into(),
        Kind::Free | Kind::Table(_) => "table".into(),
        Kind::Map(names) => format!("table of {}s by name", names.noun),
        Kind::Either(kinds) => kinds.iter().map(words).collect::<Vec<_>>().join(", or "),
    }
}
