//! Where everything in a configuration stands.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use super::model::Config;
use super::report::locate;
use super::source::{Location, SourceFile, Span, within};
use super::tree::{Entry, Node, Table, Value};
use crate::domain::ShareName;

/// The files as read; empty for a configuration that was not.
#[derive(Clone, Default)]
pub struct Origin(Option<Arc<Read>>);

struct Read {
    files: Vec<Arc<SourceFile>>,
    root: Node,
}

static NOTHING: LazyLock<Table> = LazyLock::new(Table::default);

impl Origin {
    pub(super) fn new(files: Vec<Arc<SourceFile>>, root: Table) -> Self {
        let span = Span::START;
        Self(Some(Arc::new(Read { files, root: Node { span, value: Value::Table(root) } })))
    }

    pub(crate) fn root(&self) -> &Table {
        self.0.as_ref().and_then(|read| read.root.table()).unwrap_or(&NOTHING)
    }

    /// The folder of a file, absolute: what its relative paths are relative to.
    pub(super) fn directory(&self, file: usize) -> PathBuf {
        let path =
            self.0.as_ref().and_then(|read| read.files.get(file)).map(|file| file.path.clone()).unwrap_or_default();
        let path = std::path::absolute(&path).unwrap_or(path);
        path.parent().map(PathBuf::from).unwrap_or_default()
    }

    /// The files that were read, the main one first.
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.iter().flat_map(|read| read.files.iter().map(|file| file.path.clone())).collect()
    }

    /// All of it as JSON, as [`Node::to_json`].
    pub(super) fn to_json(&self) -> Result<serde_json::Value, Span> {
        self.0.as_ref().map_or_else(|| Ok(serde_json::Map::new().into()), |read| read.root.to_json())
    }

    /// Where the part of a value stands that a JSON Pointer (RFC 6901) names: its
    /// key, or its value.
    pub(super) fn locate_pointer(&self, below: &[&str], pointer: &str, key: bool) -> Location {
        let steps = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
        let steps: Vec<String> = steps.collect();
        let path: Vec<&str> = below.iter().copied().chain(steps.iter().map(String::as_str)).collect();
        if key { self.locate_key(&path) } else { self.locate(&path) }
    }

    fn locate_key(&self, path: &[&str]) -> Location {
        match self.entry(path) {
            Some((read, entry)) => locate(&read.files, entry.key),
            None => self.locate(path),
        }
    }

    fn locate(&self, path: &[&str]) -> Location {
        match &self.0 {
            Some(read) => locate(&read.files, read.root.nearest(path)),
            None => Location::file("".as_ref()),
        }
    }

    fn entry(&self, path: &[&str]) -> Option<(&Read, &Entry)> {
        let read = self.0.as_deref()?;
        Some((read, read.root.entry(path)?))
    }
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.files()).finish()
    }
}

impl Config {
    /// Where the value at a path of keys stands, such as `["shares", "daily",
    /// "schedule"]` or `["plugins", "x", "path"]`; for what is not written, the
    /// nearest table's name.
    pub fn locate(&self, path: &[&str]) -> Location {
        self.origin.locate(path)
    }

    /// Where the key itself stands rather than its value.
    pub fn locate_key(&self, path: &[&str]) -> Location {
        self.origin.locate_key(path)
    }

    /// Where a part (in bytes) of a string stands; the whole string, if it is
    /// not written as it reads.
    pub fn locate_inside(&self, path: &[&str], part: &Range<usize>) -> Location {
        let inside = self.origin.entry(path).and_then(|(read, entry)| {
            let (span, value) = (entry.node.span, entry.node.text()?);
            let file = read.files.get(span.file())?;
            let part = within(file, &span.range(), value, part)?;
            Some(Location { file: file.clone(), span: Some(part) })
        });
        inside.unwrap_or_else(|| self.locate(path))
    }

    /// Whether something is written at this path.
    pub fn has(&self, path: &[&str]) -> bool {
        self.origin.entry(path).is_some()
    }

    /// The texts of an array at this path, as they are written.
    pub fn texts(&self, path: &[&str]) -> Vec<String> {
        let list = self.origin.entry(path).map(|(_, entry)| &entry.node.value);
        let Some(Value::List(list)) = list else { return Vec::new() };
        list.iter().filter_map(|item| item.text().map(str::to_owned)).collect()
    }

    /// Whose profile a place is in, and which key of it: `bucket`, or of params `params.NAME`.
    pub fn customer_at(&self, location: &Location) -> Option<(String, Option<String>)> {
        let customers = self.origin.root().get("customers")?.node.table()?;
        let start = location.span.as_ref()?.start;
        let is_at = |span: Span| {
            let here = locate(&self.origin.0.as_ref()?.files, span);
            Some(here.path() == location.path() && here.span?.start == start)
        };
        let found = |entry: &Entry| [entry.key, entry.node.span].into_iter().any(|span| is_at(span) == Some(true));
        for (name, entry) in customers.iter() {
            let keys = entry.node.table().into_iter().flat_map(Table::iter);
            for (key, value) in keys {
                let mut inner = value.node.table().into_iter().flat_map(Table::iter);
                if let Some((param, _)) = inner.find(|(_, inner)| found(inner)) {
                    return Some((name.to_owned(), Some(format!("{key}.{param}"))));
                }
                let is_item = matches!(&value.node.value, Value::List(list) if list.iter().any(|item| is_at(item.span) == Some(true)));
                if found(value) || is_item {
                    return Some((name.to_owned(), Some(key.to_owned())));
                }
            }
            if found(entry) {
                return Some((name.to_owned(), None));
            }
        }
        None
    }

    /// Where a part of a share's options stands, by its JSON Pointer (RFC 6901):
    /// `/delimiter`. The option's key, or its value.
    pub fn locate_option(&self, share: &ShareName, pointer: &str, key: bool) -> Location {
        self.origin.locate_pointer(&["shares", share.as_str(), "options"], pointer, key)
    }
}
