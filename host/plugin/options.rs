//! A plugin's options, as its JSON Schema (2020-12) describes them: what they
//! are, and what of a share's options does not fit.
//!
//! A schema is a plugin's word, so following it is bounded as its code is: what
//! is read, how deep and how far it is followed, what its patterns may cost.

mod compile;
mod judge;
mod rule;
mod words;

use serde_json::Value;

use judge::Fault;
use rule::{Id, Node, Rule};

use crate::config::near;

pub use judge::Endless;

/// A schema that was read and understood.
pub struct OptionsSchema {
    root: Value,
    /// The first is the whole.
    nodes: Vec<Node>,
}

/// One thing about a share's options that does not fit the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// JSON Pointer into the options; empty for the whole.
    pub pointer: String,
    /// The key is at fault, and not its value.
    pub of_key: bool,
    pub message: String,
    /// What to write instead; may be empty.
    pub help: String,
}

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

/// How deep subschemas of the same value are looked into for what can be written.
const DEPTH: usize = 4;

/// Alternatives that are told.
const ALTERNATIVES_MAX: usize = 8;

impl OptionsSchema {
    /// Err says what is wrong with it, after "its options schema".
    pub fn read(text: &str) -> Result<Self, String> {
        let (root, nodes) = compile::compile(text)?;
        Ok(Self { root, nodes })
    }

    /// Everything that does not fit, in the order of the schema.
    pub fn judge(&self, options: &Value) -> Result<Vec<Misfit>, Endless> {
        let faults = judge::judge(&self.nodes, options)?;
        let is_misspelt = |missing: &Fault<'_, '_>| {
            let name = missing.detail.filter(|_| matches!(missing.rule, Rule::Required(_)));
            faults.iter().any(|fault| fault.is_unknown_in(&missing.pointer) && near(&fault.key(), name).is_some())
        };
        Ok(faults.iter().filter(|fault| !is_misspelt(fault)).map(|fault| words::tell(self, fault)).collect())
    }

    fn rules_of(&self, node: Id) -> impl Iterator<Item = &Rule> {
        self.nodes.get(node).into_iter().flat_map(|node| &node.rules)
    }

    /// The options in the schema's order.
    pub fn described(&self) -> Vec<Described> {
        let properties = self.root.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().map(|(name, option)| Described::of(name, option, &self.root)).collect()
    }

    /// What may be written at a place: as the whole schema says of an option, or as
    /// the subschema says that found something there.
    fn described_at(&self, pointer: &str, node: Id, name: &str) -> Described {
        let option = self.root.get("properties").and_then(|properties| properties.get(name));
        let option = option.filter(|_| pointer.matches('/').count() == 1);
        let own = || self.nodes.get(node).and_then(|node| self.root.pointer(&node.at));
        Described::of(name, option.or_else(own).unwrap_or(&Value::Null), &self.root)
    }

    /// A key of the tables that a subschema is about.
    fn described_key(&self, node: Id, name: &str) -> Option<Described> {
        let rules = &self.nodes.get(node)?.rules;
        let named =
            rules.iter().find_map(|rule| if let Rule::Properties { named, .. } = rule { Some(named) } else { None });
        let own = self.nodes.get(*named?.get(name)?)?;
        Some(Described::of(name, self.root.pointer(&own.at)?, &self.root))
    }

    /// The keys that a table may have, by a subschema and those it is made of.
    fn keys_of(&self, node: Id) -> Vec<&str> {
        let mut keys = Vec::new();
        self.gather(node, DEPTH, &mut |rule| {
            if let Rule::Properties { named, .. } = rule {
                keys.extend(named.keys().map(String::as_str));
            }
        });
        keys
    }

    /// The values that may be chosen from, by any of these subschemas.
    fn choices(&self, nodes: &[Id]) -> Vec<&Value> {
        let mut choices = Vec::new();
        for node in nodes.iter().take(100) {
            self.gather(*node, DEPTH, &mut |rule| {
                if let Rule::Enum(values) = rule {
                    choices.extend(values);
                }
            });
        }
        choices
    }

    /// The rules about one value, of a subschema and those it is made of.
    fn gather<'a>(&'a self, node: Id, depth: usize, take: &mut impl FnMut(&'a Rule)) {
        for rule in self.nodes.get(node).iter().flat_map(|node| &node.rules) {
            take(rule);
            let below: &[Id] = match rule {
                Rule::Ref(node) => std::slice::from_ref(node),
                Rule::All(nodes) | Rule::Any(nodes) | Rule::One(nodes) => nodes,
                _ => &[],
            };
            if depth > 0 {
                below.iter().take(ALTERNATIVES_MAX).for_each(|node| self.gather(*node, depth - 1, take));
            }
        }
    }
}

impl Described {
    /// Of a subschema.
    fn of(name: &str, option: &Value, root: &Value) -> Self {
        let doc = option.get("description").and_then(Value::as_str).unwrap_or_default();
        Described {
            name: name.to_owned(),
            takes: takes(option, root, 0),
            default: option.get("default").filter(|value| !value.is_null()).map(ToString::to_string),
            doc: doc.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }

    /// What to write, and what for.
    pub fn help(&self) -> String {
        let first = self.doc.split_once(". ").map_or(self.doc.trim_end_matches('.'), |(first, _)| first);
        match (self.takes.as_str(), first) {
            ("", "") => String::new(),
            (takes, "") => format!("`{}` takes {takes}", self.name),
            ("", doc) => format!("`{}`: {doc}", self.name),
            (takes, doc) => format!("`{}` takes {takes}: {doc}", self.name),
        }
    }
}

/// The options of a schema, in its order; none of one that cannot be read.
pub fn described(schema: &str) -> Vec<Described> {
    OptionsSchema::read(schema).map(|schema| schema.described()).unwrap_or_default()
}

/// A key as a step of a JSON Pointer (RFC 6901).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

fn takes(option: &Value, root: &Value, depth: usize) -> String {
    if depth > DEPTH {
        return String::new();
    }
    let below = |value: &Value| takes(value, root, depth + 1);
    let either = |list: &Vec<Value>| {
        let mut texts: Vec<String> = Vec::new();
        for text in list.iter().take(ALTERNATIVES_MAX).map(below) {
            if !text.is_empty() && !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts.join(" or ")
    };
    if let Some(pointer) = option.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#')) {
        return root.pointer(pointer).map(below).unwrap_or_default();
    }
    if let Some(word) = option.get("const") {
        return word.to_string();
    }
    if let Some(words) = option.get("enum").and_then(Value::as_array) {
        return words
            .iter()
            .filter(|word| !word.is_null())
            .take(ALTERNATIVES_MAX * 4)
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" or ");
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
