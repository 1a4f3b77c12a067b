//! A configuration as parsed: TOML values that know where they stand, from one
//! file or merged from several.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::source::{Span, sounds_secret};

pub(crate) struct Node {
    pub span: Span,
    pub value: Value,
}

pub(crate) enum Value {
    Text(Arc<str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Time(Box<Datetime>),
    List(Box<[Node]>),
    Table(Table),
}

/// Keys in order, each with its value. There are three tables in each of a
/// hundred thousand shares, so this is a sorted list: each of a `BTreeMap`'s nodes
/// has room for eleven entries.
#[derive(Default)]
pub(crate) struct Table(Box<[Keyed]>);

pub(crate) type Keyed = (Arc<str>, Entry);

pub(crate) struct Entry {
    /// Where the key is written: the place to name when something is missing.
    pub key: Span,
    pub node: Node,
}

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
            Value::Text(text) => (**text).into(),
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
                    object.insert(key.to_owned(), entry.node.to_json()?);
                }
                object.into()
            }
        })
    }

    /// The node at a path, or the nearest one above it.
    pub fn nearest(&self, path: &[&str]) -> Span {
        let Some((step, rest)) = path.split_first() else { return self.span };
        match &self.value {
            Value::Table(table) => match table.get(step) {
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

    /// The entry at a path of keys, and of numbers in arrays.
    pub fn entry(&self, path: &[&str]) -> Option<&Entry> {
        let (step, rest) = path.split_first()?;
        if let Value::List(list) = &self.value {
            return list.get(step.parse::<usize>().ok()?)?.entry(rest);
        }
        let entry = self.table()?.get(step)?;
        if rest.is_empty() { Some(entry) } else { entry.node.entry(rest) }
    }

    /// Whether one of the places, which are sorted, is here or somewhere below.
    fn holds_any(&self, places: &[Span]) -> bool {
        let below = match &self.value {
            Value::Table(table) => table.iter().any(|(_, entry)| entry.holds_any(places)),
            Value::List(list) => list.iter().any(|node| node.holds_any(places)),
            _ => false,
        };
        below || self.span.covers_any(places)
    }

    fn nearest_below(&self, path: &[&str], name: Span) -> Span {
        match (&self.value, path.first()) {
            (Value::Table(table), Some(step)) if !table.contains_key(step) => name,
            _ => self.nearest(path),
        }
    }
}

impl Entry {
    /// Whether one of the places, which are sorted, is this key or in its value.
    pub fn holds_any(&self, places: &[Span]) -> bool {
        self.key.covers_any(places) || self.node.holds_any(places)
    }
}

impl Table {
    /// Of entries in any order. Of those with one key the first stays; the others are returned.
    pub fn new(mut entries: Vec<Keyed>) -> (Self, Vec<Keyed>) {
        // Stable, so that the first stays first.
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut again = Vec::new();
        let mut kept: Vec<Keyed> = Vec::with_capacity(entries.len());
        for (key, entry) in entries {
            match kept.last() {
                Some((last, _)) if *last == key => again.push((key, entry)),
                _ => kept.push((key, entry)),
            }
        }
        (Self(kept.into()), again)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(key)).ok().map(|index| &self.0[index].1)
    }

    pub fn get_key_value(&self, key: &str) -> Option<(&str, &Entry)> {
        let index = self.0.binary_search_by(|(other, _)| (**other).cmp(key)).ok()?;
        let (key, entry) = &self.0[index];
        Some((key, entry))
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(key, entry)| (&**key, entry))
    }

    pub fn into_entries(self) -> Vec<Keyed> {
        self.0.into_vec()
    }
}

/// A parsed document as it is taken over, one file after another.
#[derive(Default)]
pub(crate) struct Reading {
    /// Each text once: most keys and values are written again and again.
    texts: HashSet<Arc<str>>,
    /// Of the file at hand: what is to be hidden when it is shown.
    pub hidden: Vec<Range<usize>>,
    /// Of the file at hand: where numbers stand that do not fit their type.
    pub too_large: Vec<Span>,
}

impl Reading {
    pub fn table(&mut self, table: &DeTable<'_>, file: usize) -> Table {
        let entries = table.iter().map(|(key, value)| {
            let node = self.node(value, file);
            let name = key.get_ref();
            if sounds_secret(name) {
                hide_texts(&node, &mut self.hidden);
            }
            (self.text(name), Entry { key: Span::new(file, key.span()), node })
        });
        // A parsed table has each key once.
        Table::new(entries.collect()).0
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, file: usize) -> Node {
        let span = Span::new(file, value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(self.text(text)),
            DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(number) => Value::Int(number),
                Err(_) => {
                    self.too_large.push(span);
                    Value::Int(0)
                }
            },
            DeValue::Float(digits) => match digits.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() || !digits.as_str().contains(|c: char| c.is_ascii_digit()) => {
                    Value::Float(number)
                }
                _ => {
                    self.too_large.push(span);
                    Value::Float(0.0)
                }
            },
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(time) => Value::Time(Box::new(*time)),
            DeValue::Array(list) => Value::List(list.iter().map(|item| self.node(item, file)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table, file)),
        };
        Node { span, value }
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        match self.texts.get(text) {
            Some(known) => known.clone(),
            None => {
                let text = Arc::<str>::from(text);
                self.texts.insert(text.clone());
                text
            }
        }
    }
}

/// References name a secret and may be shown; anything else may be one.
fn hide_texts(node: &Node, hidden: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::List(list) => list.iter().for_each(|item| hide_texts(item, hidden)),
        Value::Table(table) => {
            for (key, entry) in table.iter() {
                if key != "env" && key != "credential" {
                    hide_texts(&entry.node, hidden);
                }
            }
        }
        _ => hidden.push(node.span.range()),
    }
}
