//! From the text of a JSON Schema (2020-12) to rules. What is not understood is
//! refused here, once, when the plugin is loaded: an option that would be judged
//! by half of its rules is worse than none.

use std::collections::{BTreeMap, HashMap};

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Number, Value};

use super::escaped;
use super::rule::{Id, Kind, Node, Rule};

/// Largest schema, in bytes and in subschemas. Those of real formats have some
/// kilobytes and some dozens.
const BYTES_MAX: usize = 1 << 20;
const NODES_MAX: usize = 10_000;

/// Length of the path to a subschema, which each of them has.
const POINTER_BYTES_MAX: usize = 1000;

/// Patterns of one schema, and the memory that each may take when compiled.
const PATTERNS_MAX: usize = 500;
const PATTERN_BYTES_MAX: usize = 256 << 10;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Keywords that change what others mean, and that no format needs.
const REFUSED: [&str; 3] = ["$dynamicRef", "$recursiveRef", "$vocabulary"];

/// Reads a schema. Err says what is wrong with it, after "its options schema".
pub(super) fn compile(text: &str) -> Result<(Value, Vec<Node>), String> {
    if text.len() > BYTES_MAX {
        return Err(format!("has {} bytes; at most {BYTES_MAX} are read", text.len()));
    }
    let root: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    let Value::Object(object) = &root else { return Err("is not a JSON object".into()) };
    if let Some(dialect) = object.get("$schema").filter(|dialect| !is_dialect(dialect)) {
        return Err(format!("is written for {dialect}; write it for \"{DIALECT}\""));
    }
    let mut anchors = HashMap::new();
    if text.contains("nchor\"") {
        find_anchors(&root, String::new(), &mut anchors);
    }
    let mut compiler =
        Compiler { root: &root, anchors, nodes: Vec::new(), waiting: Vec::new(), ids: HashMap::new(), patterns: 0 };
    compiler.id(String::new(), &root)?;
    // A list instead of recursion: a chain of references may be long.
    while let Some((id, at, value)) = compiler.waiting.pop() {
        let rules = compiler.rules(&at, value).map_err(|why| format!("{why} (at `#{at}`)"))?;
        compiler.nodes[id].rules = rules;
    }
    let nodes = compiler.nodes;
    Ok((root, nodes))
}

fn is_dialect(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.trim_end_matches('#') == DIALECT)
}

struct Compiler<'a> {
    root: &'a Value,
    /// Where the subschemas are that have a name.
    anchors: HashMap<&'a str, String>,
    nodes: Vec<Node>,
    /// Known, and not yet read.
    waiting: Vec<(Id, String, &'a Value)>,
    /// By JSON Pointer.
    ids: HashMap<String, Id>,
    patterns: usize,
}

impl<'a> Compiler<'a> {
    fn id(&mut self, at: String, value: &'a Value) -> Result<Id, String> {
        if let Some(id) = self.ids.get(&at) {
            return Ok(*id);
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(format!("has more than {NODES_MAX} subschemas"));
        }
        if at.len() > POINTER_BYTES_MAX {
            return Err(format!("has a subschema below keys of more than {POINTER_BYTES_MAX} bytes"));
        }
        let id = self.nodes.len();
        self.nodes.push(Node { at: at.clone(), rules: Vec::new() });
        self.ids.insert(at.clone(), id);
        self.waiting.push((id, at, value));
        Ok(id)
    }

    fn rules(&mut self, at: &str, schema: &'a Value) -> Result<Vec<Rule>, String> {
        let object = match schema {
            Value::Bool(true) => return Ok(Vec::new()),
            Value::Bool(false) => return Ok(vec![Rule::Never]),
            Value::Object(object) => object,
            _ => return Err("has a subschema that is neither an object nor a boolean".into()),
        };
        if !at.is_empty() && object.contains_key("$id") {
            return Err("has an `$id` below its root; write one schema with `$defs`".into());
        }
        if let Some(word) = REFUSED.iter().find(|word| object.contains_key(**word)) {
            return Err(format!("has `{word}`, which consign does not follow; write `$ref` to `$defs`"));
        }
        let mut rules = Vec::new();
        for (key, value) in object {
            if let Some(rule) = self.rule(at, key, value, object)? {
                rules.push(rule);
            }
        }
        // These look at what the others have left.
        rules.sort_by_key(|rule| matches!(rule, Rule::UnevaluatedItems(_) | Rule::UnevaluatedProperties(_)));
        Ok(rules)
    }

    /// The rule of one keyword; none for annotations, and for what is part of another's rule.
    fn rule(
        &mut self,
        at: &str,
        key: &str,
        value: &'a Value,
        object: &'a Map<String, Value>,
    ) -> Result<Option<Rule>, String> {
        let below = || format!("{at}/{key}");
        Ok(Some(match key {
            "type" => Rule::Type(kinds(value)?),
            "enum" => Rule::Enum(list(key, value)?.clone()),
            "const" => Rule::Enum(vec![value.clone()]),
            "minimum" => Rule::Minimum(number(key, value)?),
            "maximum" => Rule::Maximum(number(key, value)?),
            "exclusiveMinimum" => Rule::Above(number(key, value)?),
            "exclusiveMaximum" => Rule::Below(number(key, value)?),
            "multipleOf" => match number(key, value)? {
                step if step.as_f64().is_some_and(|step| step > 0.0) => Rule::MultipleOf(step),
                _ => return Err("has a `multipleOf` that is not above 0".into()),
            },
            "minLength" => Rule::MinLength(count(key, value)?),
            "maxLength" => Rule::MaxLength(count(key, value)?),
            "pattern" => Rule::Pattern(self.pattern(text(key, value)?)?),
            "minItems" => Rule::MinItems(count(key, value)?),
            "maxItems" => Rule::MaxItems(count(key, value)?),
            "uniqueItems" if boolean(key, value)? => Rule::Unique,
            "prefixItems" | "items" => return self.items(at, key, object),
            "contains" => Rule::Contains {
                item: self.id(below(), value)?,
                min: object.get("minContains").map_or(Ok(1), |value| count("minContains", value))?,
                max: object.get("maxContains").map(|value| count("maxContains", value)).transpose()?,
            },
            "minProperties" => Rule::MinProperties(count(key, value)?),
            "maxProperties" => Rule::MaxProperties(count(key, value)?),
            "required" => Rule::Required(texts(key, value)?),
            "properties" | "patternProperties" | "additionalProperties" => return self.properties(at, key, object),
            "propertyNames" => Rule::Names(self.id(below(), value)?),
            "dependentRequired" => {
                let each = table(key, value)?.iter().map(|(name, value)| Ok((name.clone(), texts(key, value)?)));
                Rule::DependentRequired(each.collect::<Result<_, String>>()?)
            }
            "dependentSchemas" => Rule::DependentSchemas(self.named(&below(), table(key, value)?)?),
            "$ref" => {
                let (target, found) = self.target(text(key, value)?)?;
                Rule::Ref(self.id(target, found)?)
            }
            "allOf" => Rule::All(self.several(&below(), list(key, value)?)?),
            "anyOf" => Rule::Any(self.several(&below(), list(key, value)?)?),
            "oneOf" => Rule::One(self.several(&below(), list(key, value)?)?),
            "not" => Rule::Not(self.id(below(), value)?),
            "if" => {
                let mut branch = |key: &str| object.get(key).map(|value| self.id(format!("{at}/{key}"), value));
                let (then, otherwise) = (branch("then").transpose()?, branch("else").transpose()?);
                Rule::If { condition: self.id(below(), value)?, then, otherwise }
            }
            "unevaluatedProperties" => Rule::UnevaluatedProperties(self.id(below(), value)?),
            "unevaluatedItems" => Rule::UnevaluatedItems(self.id(below(), value)?),
            "$defs" | "definitions" => {
                self.named(&below(), table(key, value)?)?;
                return Ok(None);
            }
            _ => return Ok(None),
        }))
    }

    /// `prefixItems` and `items` are one rule, made where the first of them stands.
    fn items(&mut self, at: &str, key: &str, object: &'a Map<String, Value>) -> Result<Option<Rule>, String> {
        let prefix = object.get("prefixItems");
        if key == "items" && prefix.is_some() {
            return Ok(None);
        }
        let rest = match object.get("items") {
            Some(Value::Array(_)) => return Err("has a list as `items`, which 2020-12 writes `prefixItems`".into()),
            Some(rest) => Some(self.id(format!("{at}/items"), rest)?),
            None => None,
        };
        let prefix = match prefix {
            Some(prefix) => self.several(&format!("{at}/prefixItems"), list("prefixItems", prefix)?)?,
            None => Vec::new(),
        };
        Ok(Some(Rule::Items { prefix, rest }))
    }

    /// The three are one rule, made where the first of them stands.
    fn properties(&mut self, at: &str, key: &str, object: &'a Map<String, Value>) -> Result<Option<Rule>, String> {
        const WORDS: [&str; 3] = ["properties", "patternProperties", "additionalProperties"];
        if WORDS.into_iter().find(|word| object.contains_key(*word)) != Some(key) {
            return Ok(None);
        }
        let named = match object.get(WORDS[0]) {
            Some(value) => self.named(&format!("{at}/{}", WORDS[0]), table(WORDS[0], value)?)?,
            None => BTreeMap::new(),
        };
        let mut patterns = Vec::new();
        if let Some(value) = object.get(WORDS[1]) {
            for (pattern, id) in self.named(&format!("{at}/{}", WORDS[1]), table(WORDS[1], value)?)? {
                patterns.push((self.pattern(&pattern)?, id));
            }
        }
        let rest = object.get(WORDS[2]).map(|value| self.id(format!("{at}/{}", WORDS[2]), value)).transpose()?;
        Ok(Some(Rule::Properties { named, patterns, rest }))
    }

    fn named(&mut self, at: &str, table: &'a Map<String, Value>) -> Result<BTreeMap<String, Id>, String> {
        let each =
            table.iter().map(|(name, value)| Ok((name.clone(), self.id(format!("{at}/{}", escaped(name)), value)?)));
        each.collect()
    }

    fn several(&mut self, at: &str, list: &'a [Value]) -> Result<Vec<Id>, String> {
        list.iter().enumerate().map(|(number, value)| self.id(format!("{at}/{number}"), value)).collect()
    }

    fn pattern(&mut self, text: &str) -> Result<Regex, String> {
        self.patterns += 1;
        if self.patterns > PATTERNS_MAX {
            return Err(format!("has more than {PATTERNS_MAX} patterns"));
        }
        RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build().map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("has the pattern {text:?}, which is too large"),
            _ => format!(
                "has the pattern {text:?}, which is no regular expression without look-around and back references"
            ),
        })
    }

    /// What a reference points at, which must be in this schema.
    fn target(&self, reference: &str) -> Result<(String, &'a Value), String> {
        let outside = || format!("refers to {reference:?}, which is not in it; schemas are never fetched");
        let own = self.root.get("$id").and_then(Value::as_str).map_or("", |id| id.trim_end_matches('#'));
        let fragment = match reference.split_once('#') {
            Some((document, fragment)) if document.is_empty() || document == own => decoded(fragment),
            None if reference == own && !own.is_empty() => String::new(),
            _ => return Err(outside()),
        };
        if fragment.is_empty() || fragment.starts_with('/') {
            let found = self.root.pointer(&fragment).ok_or_else(outside)?;
            return Ok((fragment, found));
        }
        let found = self.anchors.get(fragment.as_str()).ok_or_else(outside)?;
        let value = self.root.pointer(found).ok_or_else(outside)?;
        Ok((found.clone(), value))
    }
}

/// The JSON reader bounds how deep this goes.
fn find_anchors<'a>(value: &'a Value, at: String, found: &mut HashMap<&'a str, String>) {
    if at.len() > POINTER_BYTES_MAX {
        return;
    }
    match value {
        Value::Object(object) => {
            for name in ["$anchor", "$dynamicAnchor"].iter().filter_map(|key| object.get(*key)?.as_str()) {
                found.entry(name).or_insert_with(|| at.clone());
            }
            object.iter().for_each(|(key, value)| find_anchors(value, format!("{at}/{}", escaped(key)), found));
        }
        Value::Array(list) => {
            list.iter().zip(0..).for_each(|(value, number)| find_anchors(value, format!("{at}/{number}"), found));
        }
        _ => {}
    }
}

/// A fragment of a URI reference without its percent encoding.
fn decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match code.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn kinds(value: &Value) -> Result<Vec<Kind>, String> {
    let one = |value: &Value| {
        let named = value.as_str().and_then(|name| Kind::ALL.into_iter().find(|kind| kind.name() == name));
        named.ok_or_else(|| format!("has the type {value}, which JSON does not have"))
    };
    match value {
        Value::Array(list) => list.iter().map(one).collect(),
        _ => Ok(vec![one(value)?]),
    }
}

fn wrong(key: &str, wanted: &str) -> String {
    format!("has a `{key}` that is not {wanted}")
}

fn number(key: &str, value: &Value) -> Result<Number, String> {
    value.as_number().cloned().ok_or_else(|| wrong(key, "a number"))
}

fn count(key: &str, value: &Value) -> Result<u64, String> {
    let whole = |number: f64| (number >= 0.0 && number.fract() == 0.0).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole)).ok_or_else(|| wrong(key, "an integer from 0"))
}

fn boolean(key: &str, value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| wrong(key, "true or false"))
}

fn text<'a>(key: &str, value: &'a Value) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| wrong(key, "a string"))
}

fn texts(key: &str, value: &Value) -> Result<Vec<String>, String> {
    let each = list(key, value)?.iter().map(|value| text(key, value).map(str::to_owned));
    each.collect::<Result<_, _>>().map_err(|_| wrong(key, "a list of strings"))
}

fn list<'a>(key: &str, value: &'a Value) -> Result<&'a Vec<Value>, String> {
    value.as_array().ok_or_else(|| wrong(key, "a list"))
}

fn table<'a>(key: &str, value: &'a Value) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| wrong(key, "an object"))
}
