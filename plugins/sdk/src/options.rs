//! Options: how their JSON text is parsed, described and checked.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use crate::Formatter;
use crate::error::{Diagnostic, Error, Problem};
use crate::run::RunFacts;
use crate::schema::Schema;

/// The options of a format that has none.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}

/// What stands on the share itself and is easily put among the options.
const SET_ON_THE_SHARE: [&str; 4] = ["compression", "max_object_size", "key", "empty"];

/// Parses options (JSON text, an object), finding every problem at once: each
/// unknown key, with the key that was probably meant, and each wrong value.
pub fn parse<O: DeserializeOwned + JsonSchema>(options: &str) -> Result<O, Error> {
    let mut object = match serde_json::from_str(options) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return Err(Error::invalid_option("", "options must be a table of keys and values")),
        Err(error) => return Err(Error::invalid_option("", format!("options are not JSON: {error}"))),
    };
    let mut problems = take_unknown_keys::<O>(&mut object);
    let mut removed: Vec<String> = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize(Value::Object(object.clone())) {
            Ok(options) if problems.is_empty() => return Ok(options),
            Ok(_) => return Err(Error::InvalidOptions(problems)),
            Err(error) => error,
        };
        let (key, path) = pointer(error.path());
        let message = error.into_inner().to_string();
        // A key that was taken out below is not missing.
        if !removed.iter().any(|key| message == format!("missing field `{key}`")) {
            problems.push(Problem { path, message });
        }
        // Without the wrong key, the next round finds the next wrong one.
        match key.filter(|key| object.remove(key).is_some()) {
            Some(key) => removed.push(key),
            None => return Err(Error::InvalidOptions(problems)),
        }
    }
}

/// The JSON Schema (2020-12) of options.
pub fn schema<O: JsonSchema>() -> String {
    schemars::schema_for!(O).as_value().to_string()
}

/// What [`Formatter::check`] does unless a formatter says otherwise: parses the
/// options and tries `open`.
pub fn check<F: Formatter>(options: &str, schema: &Schema) -> Vec<Diagnostic> {
    let opened = parse(options).and_then(|options| F::open(options, schema, &RunFacts::none()));
    match opened {
        Ok(_) => Vec::new(),
        Err(error) => error.into_diagnostics(),
    }
}

fn take_unknown_keys<O: JsonSchema>(object: &mut Map<String, Value>) -> Vec<Problem> {
    let schema = schemars::schema_for!(O);
    let closed = schema.get("additionalProperties").is_none_or(|more| more == false);
    if !closed {
        return Vec::new();
    }
    let known: Vec<&str> = match schema.get("properties") {
        Some(Value::Object(properties)) => properties.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let unknown: Vec<String> = object.keys().filter(|key| !known.contains(&key.as_str())).cloned().collect();
    unknown
        .into_iter()
        .map(|key| {
            object.remove(&key);
            Problem { path: format!("/{}", escape(&key)), message: unknown_key(&key, &known) }
        })
        .collect()
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    if SET_ON_THE_SHARE.contains(&key) {
        return format!("`{key}` is not an option of the format: write it on the share, next to `options`");
    }
    let near = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(key, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match near {
        Some((_, candidate)) => format!("unknown option `{key}`: did you mean `{candidate}`?"),
        None if known.is_empty() => format!("unknown option `{key}`: this format has no options"),
        None => format!("unknown option `{key}`: the options are {}", list(known)),
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The path's top-level key and the whole path as a JSON Pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> (Option<String>, String) {
    let mut top = None;
    let mut pointer = String::new();
    for segment in path {
        let part = match segment {
            Segment::Map { key } => key.clone(),
            Segment::Seq { index } => index.to_string(),
            Segment::Enum { .. } | Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&escape(&part));
        top.get_or_insert(part);
    }
    (top, pointer)
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
