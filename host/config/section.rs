//! Reading values out of a table whose shape has been checked. What is missing
//! or of another type reads as None: it has been reported already.

use std::time::Duration;

use crate::domain::Invalid;

use super::report::Problems;
use super::shape::{Shape, invalid};
use super::source::Span;
use super::tree::{Node, Table, Value};
use super::units;

/// A table, what it is called, and its description.
#[derive(Clone, Copy)]
pub(crate) struct Section<'a> {
    pub name: &'a str,
    pub name_span: Span,
    pub table: &'a Table,
    pub shape: &'static Shape,
}

impl<'a> Section<'a> {
    /// The subtables of a table of names, those that are tables.
    pub fn each(parent: Option<&'a Table>, shape: &'static Shape) -> impl Iterator<Item = Section<'a>> {
        parent.into_iter().flat_map(Table::iter).filter_map(move |(name, entry)| {
            Some(Section { name, name_span: entry.key, table: entry.node.table()?, shape })
        })
    }

    pub fn node(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(self.shape.keys.iter().any(|k| k.name == key), "`{key}` is not described");
        self.table.get(key).map(|entry| &entry.node)
    }

    pub fn has(&self, key: &str) -> bool {
        self.node(key).is_some()
    }

    pub fn section(&self, key: &str, shape: &'static Shape) -> Option<Section<'a>> {
        let (name, entry) = self.table.get_key_value(key)?;
        Some(Section { name, name_span: entry.key, table: entry.node.table()?, shape })
    }

    /// Where the value stands, or else the name of the table it is missing from.
    pub fn span(&self, key: &str) -> Span {
        self.table
            .get(key)
            .map_or(self.name_span, |entry| if entry.node.table().is_some() { entry.key } else { entry.node.span })
    }

    /// Where the key stands.
    pub fn key_span(&self, key: &str) -> Span {
        self.table.get(key).map_or(self.name_span, |entry| entry.key)
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.node(key)?.text()
    }

    pub fn bool(&self, key: &str) -> Option<bool> {
        if let Value::Bool(value) = self.node(key)?.value { Some(value) } else { None }
    }

    pub fn int<N: TryFrom<i64>>(&self, key: &str) -> Option<N> {
        if let Value::Int(number) = self.node(key)?.value { N::try_from(number).ok() } else { None }
    }

    pub fn size(&self, key: &str) -> Option<u64> {
        units::size_in(self.text(key)?, 0, u64::MAX).ok()
    }

    pub fn duration(&self, key: &str) -> Option<Duration> {
        units::duration_in(self.text(key)?, 0, u64::MAX).ok()
    }

    /// Texts of an array, each with its place.
    pub fn texts(&self, key: &str) -> Vec<(&'a str, Span)> {
        match self.node(key).map(|node| &node.value) {
            Some(Value::List(list)) => list.iter().filter_map(|item| Some((item.text()?, item.span))).collect(),
            _ => Vec::new(),
        }
    }

    /// A text by its own rule, reporting what the rule says.
    pub fn parse<T>(&self, key: &str, rule: impl Fn(&str) -> Result<T, Invalid>, problems: &mut Problems) -> Option<T> {
        let text = self.text(key)?;
        match rule(text) {
            Ok(value) => Some(value),
            Err(why) => {
                let described = self.shape.keys.iter().find(|k| k.name == key);
                let example = described.map_or(String::new(), |k| format!("{} = {}", k.name, k.example));
                invalid(self.span(key), key, text, &why, &example, problems);
                None
            }
        }
    }

    /// Refuses keys that make no sense here.
    pub fn refuse(&self, keys: &[&str], why: &str, help: &str, problems: &mut Problems) {
        for key in keys.iter().filter(|key| self.has(key)) {
            problems.error(self.key_span(key), format!("`{key}` {why}"), help);
        }
    }
}
