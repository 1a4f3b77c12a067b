//! A plugin's options, as its JSON Schema describes them.

use serde_json::Value;

/// One option.
pub struct Described {
    pub name: String,
    /// What it takes, with its article; may be empty.
    pub takes: String,
    /// As JSON.
    pub default: Option<String>,
    /// In one line; may be empty.
    pub doc: String,
}

impl Described {
    /// What to write, and what for.
    pub fn help(&self) -> String {
        let first = self.doc.split_once(". ").map_or(self.doc.trim_end_matches('.'), |(first, _)| first);
        match (self.takes.as_str(), first) {
            (takes, "") => format!("`{}` takes {takes}", self.name),
            ("", doc) => format!("`{}`: {doc}", self.name),
            (takes, doc) => format!("`{}` takes {takes}: {doc}", self.name),
        }
    }
}

/// The options in the schema's order.
pub fn described(schema: &str) -> Vec<Described> {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    let properties = schema.get("properties").and_then(Value::as_object);
    let described = |(name, option): (&String, &Value)| {
        let doc = option.get("description").and_then(Value::as_str).unwrap_or_default();
        Described {
            name: name.clone(),
            takes: takes(option, &schema, 0),
            default: option.get("default").filter(|value| !value.is_null()).map(ToString::to_string),
            doc: doc.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    };
    properties.into_iter().flatten().map(described).collect()
}

fn takes(option: &Value, root: &Value, depth: usize) -> String {
    if depth > 4 {
        return String::new();
    }
    let below = |value: &Value| takes(value, root, depth + 1);
    let either = |list: &Vec<Value>| {
        let texts: Vec<String> = list.iter().map(below).filter(|text| !text.is_empty()).collect();
        texts.join(" or ")
    };
    if let Some(pointer) = option.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#')) {
        return root.pointer(pointer).map(below).unwrap_or_default();
    }
    if let Some(word) = option.get("const") {
        return word.to_string();
    }
    if let Some(words) = option.get("enum").and_then(Value::as_array) {
        return words.iter().filter(|word| !word.is_null()).map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if let Some(list) = option.get(key).and_then(Value::as_array) {
            return either(list);
        }
    }
    let named = match option.get("type") {
        Some(Value::String(name)) => Some(name.as_str()),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    };
    match named {
        Some("boolean") => "true or false",
        Some("string") if option.get("maxLength").is_some_and(|length| *length == 1) => "one character",
        Some("string") => "a string",
        Some("integer") => "an integer",
        Some("number") => "a number",
        Some("array") => "an array",
        Some("object") => "a table",
        _ => "",
    }
    .to_owned()
}
