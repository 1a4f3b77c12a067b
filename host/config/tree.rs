//! A configuration as parsed: TOML values that know where they stand, from one
//! file or merged from several.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::source::{Span, sounds_secret};

pub(crate) struct Node {
    pub span: Span,
    pub value: Value,
}

pub(crate) enum Value {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Time(Datetime),
    List(Vec<Node>),
    Table(Table),
}

pub(crate) type Table = BTreeMap<String, Entry>;

pub(crate) struct Entry {
    /// Where the key is written: the place to name when something is missing.
    pub key: Span,
    pub node: Node,
}

/// Where a number stands that does not fit its type.
pub(crate) struct TooLarge(pub Span);

impl Node {
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    pub fn table(&self) -> Option<&Table> {
        if let Value::Table(table) = &self.value { Some(table) } else { None }
    }

    /// What a person calls this type, with its article.
    pub fn type_name(&self) -> &'static str {
        match self.value {
            Value::Text(_) => "a string",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Bool(_) => "a boolean",
            Value::Time(_) => "a date or time",
            Value::List(_) => "an array",
            Value::Table(_) => "a table",
        }
    }

    /// As JSON; dates and times become strings. Err is where a number stands that JSON cannot hold.
    pub fn to_json(&self) -> Result<serde_json::Value, Span> {
        Ok(match &self.value {
            Value::Text(text) => text.as_str().into(),
            Value::Int(number) => (*number).into(),
            Value::Float(number) if number.is_finite() => (*number).into(),
            Value::Float(_) => return Err(self.span),
            Value::Bool(value) => (*value).into(),
            Value::Time(time) => time.to_string().into(),
            Value::List(list) => list.iter().map(Node::to_json).collect::<Result<Vec<_>, _>>()?.into(),
            Value::Table(table) => {
                // In the order written, which is what people expect to see again.
                let mut entries: Vec<_> = table.iter().collect();
                entries.sort_by_key(|(_, entry)| entry.key);
                let mut object = serde_json::Map::new();
                for (key, entry) in entries {
                    object.insert(key.clone(), entry.node.to_json()?);
                }
                object.into()
            }
        })
    }

    /// The node at a path, or the nearest one above it.
    pub fn nearest(&self, path: &[&str]) -> Span {
        let Some((step, rest)) = path.split_first() else { return self.span };
        match &self.value {
            Value::Table(table) => match table.get(*step) {
                // A table of its own is best shown by its name.
                Some(entry) if rest.is_empty() && entry.node.table().is_some() => entry.key,
                Some(entry) => entry.node.nearest_below(rest, entry.key),
                None => self.span,
            },
            Value::List(list) => match step.parse::<usize>().ok().and_then(|index| list.get(index)) {
                Some(node) => node.nearest(rest),
                None => self.span,
            },
            _ => self.span,
        }
    }

    /// The entry at a path of keys.
    pub fn entry(&self, path: &[&str]) -> Option<&Entry> {
        let (step, rest) = path.split_first()?;
        let entry = self.table()?.get(*step)?;
        if rest.is_empty() { Some(entry) } else { entry.node.entry(rest) }
    }

    /// Whether the place is here or somewhere below.
    pub fn holds(&self, place: Span) -> bool {
        let below = match &self.value {
            Value::Table(table) => table.values().any(|entry| entry.holds(place)),
            Value::List(list) => list.iter().any(|node| node.holds(place)),
            _ => false,
        };
        below || self.span.covers(place)
    }

    fn nearest_below(&self, path: &[&str], name: Span) -> Span {
        match (&self.value, path.first()) {
            (Value::Table(table), Some(step)) if !table.contains_key(*step) => name,
            _ => self.nearest(path),
        }
    }
}

impl Entry {
    /// Whether the place is this key or in its value.
    pub fn holds(&self, place: Span) -> bool {
        self.key.covers(place) || self.node.holds(place)
    }
}

/// Takes over a parsed document, noting what is to be hidden when it is shown.
pub(crate) fn convert(
    table: &DeTable<'_>,
    file: usize,
    hidden: &mut Vec<Range<usize>>,
    errors: &mut Vec<TooLarge>,
) -> Table {
    let mut converted = Table::new();
    for (key, value) in table {
        let node = convert_value(value, file, hidden, errors);
        let name = key.get_ref().to_string();
        if sounds_secret(&name) {
            hide_texts(&node, hidden);
        }
        converted.insert(name, Entry { key: span(file, &key.span()), node });
    }
    converted
}

fn convert_value(
    value: &Spanned<DeValue<'_>>,
    file: usize,
    hidden: &mut Vec<Range<usize>>,
    errors: &mut Vec<TooLarge>,
) -> Node {
    let span = span(file, &value.span());
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => Value::Int(number),
            Err(_) => {
                errors.push(TooLarge(span));
                Value::Int(0)
            }
        },
        DeValue::Float(digits) => match digits.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() || !digits.as_str().contains(|c: char| c.is_ascii_digit()) => {
                Value::Float(number)
            }
            _ => {
                errors.push(TooLarge(span));
                Value::Float(0.0)
            }
        },
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::Time(*time),
        DeValue::Array(list) => {
            Value::List(list.iter().map(|item| convert_value(item, file, hidden, errors)).collect())
        }
        DeValue::Table(table) => Value::Table(convert(table, file, hidden, errors)),
    };
    Node { span, value }
}

/// References name a secret and may be shown; anything else may be one.
fn hide_texts(node: &Node, hidden: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::List(list) => list.iter().for_each(|item| hide_texts(item, hidden)),
        Value::Table(table) => {
            for (key, entry) in table {
                if key != "env" && key != "credential" {
                    hide_texts(&entry.node, hidden);
                }
            }
        }
        _ => hidden.push(node.span.start..node.span.end),
    }
}

fn span(file: usize, range: &Range<usize>) -> Span {
    Span { file, start: range.start, end: range.end }
}
