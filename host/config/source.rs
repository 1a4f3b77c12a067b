//! The files of a configuration and places in them.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// One file as it may be shown: what looks like a secret is masked, byte for byte.
pub(crate) struct SourceFile {
    pub path: PathBuf,
    pub text: String,
    /// Where each line begins, once somebody asks: there may be an error in every one.
    lines: OnceLock<Vec<usize>>,
}

impl SourceFile {
    pub fn new(path: impl Into<PathBuf>, text: String) -> Self {
        Self { path: path.into(), text, lines: OnceLock::new() }
    }

    /// The number of a line, from 0.
    fn line_at(&self, offset: usize) -> usize {
        self.lines().partition_point(|start| *start <= offset).saturating_sub(1)
    }

    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| line_starts(&self.text))
    }

    /// The lines that have this stretch, with one more on either side, and the number
    /// of the first, from 1.
    pub fn around(&self, range: &Range<usize>) -> (Range<usize>, usize) {
        let first = self.line_at(range.start).saturating_sub(1);
        let last = self.line_at(range.end) + 1;
        let offset = |line: usize| self.lines().get(line).copied().unwrap_or(self.text.len());
        (offset(first)..offset(last + 1), first + 1)
    }
}

pub(super) fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

/// A stretch of one file, by its number in the order of reading. There are two
/// for each key of a configuration, so it is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    file: u32,
    start: u32,
    end: u32,
}

impl Span {
    /// Where the main file begins.
    pub const START: Span = Span { file: 0, start: 0, end: 0 };

    pub fn new(file: usize, range: Range<usize>) -> Self {
        // Nobody reads messages about what is beyond 4 GB.
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self { file: small(file), start: small(range.start), end: small(range.end) }
    }

    pub fn file(self) -> usize {
        self.file as usize
    }

    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Whether one of these, which are sorted, is inside.
    pub fn covers_any(self, sorted: &[Span]) -> bool {
        let from = sorted.partition_point(|other| (other.file, other.start) < (self.file, self.start));
        let begin = |other: &&Span| other.file == self.file && other.start <= self.end;
        sorted[from..].iter().take_while(begin).any(|other| other.end <= self.end)
    }
}

/// A place in a configuration file, to be underlined in a message.
#[derive(Clone)]
pub struct Location {
    pub(super) file: Arc<SourceFile>,
    /// None is the file as a whole.
    pub(super) span: Option<Range<usize>>,
}

impl Location {
    /// A file as a whole.
    pub fn file(path: &Path) -> Self {
        Self { file: Arc::new(SourceFile::new(path, String::new())), span: None }
    }

    /// A stretch of a text that was read by somebody else, of whatever format.
    pub(crate) fn within(file: &Arc<SourceFile>, span: Range<usize>) -> Self {
        Self { file: file.clone(), span: Some(span) }
    }

    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// From 1; 1 for the file as a whole.
    pub fn line(&self) -> usize {
        self.file.line_at(self.start()) + 1
    }

    /// In characters from 1; 1 for the file as a whole.
    pub fn column(&self) -> usize {
        let line = self.file.lines().get(self.line() - 1).copied().unwrap_or(0);
        self.file.text.get(line..self.start()).unwrap_or("").chars().count() + 1
    }

    fn start(&self) -> usize {
        self.span.as_ref().map_or(0, |span| span.start)
    }
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.path().display(), self.line(), self.column())
    }
}

/// Where a part of a string's value stands, when the value is written without escapes.
pub(super) fn within(
    file: &SourceFile,
    literal: &Range<usize>,
    value: &str,
    part: &Range<usize>,
) -> Option<Range<usize>> {
    let written = file.text.get(literal.clone())?;
    let mut found = written.match_indices(value);
    let (at, _) = found.next()?;
    let part = value.get(part.clone()).filter(|part| !part.is_empty()).map(|_| part)?;
    let start = literal.start + at;
    found.next().is_none().then_some(start + part.start..start + part.end)
}

/// Replaces every byte of the ranges by `*`, so that offsets stay what they are.
pub(super) fn mask(text: &mut String, hidden: &[Range<usize>]) {
    let mut bytes = std::mem::take(text).into_bytes();
    for range in hidden {
        for byte in bytes.get_mut(range.clone()).unwrap_or_default() {
            if !byte.is_ascii_whitespace() {
                *byte = b'*';
            }
        }
    }
    // Ranges begin and end at characters; should one not, showing nothing is better than failing.
    *text = String::from_utf8(bytes).unwrap_or_default();
}

/// Values of keys that sound like secrets, found line by line: the parser may
/// have failed before or at such a value.
pub(super) fn secret_lines(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        for (at, _) in line.match_indices('=') {
            let key = line[..at].trim_end();
            let key = key.rsplit(|c: char| c.is_whitespace() || "{,.[\"'".contains(c)).find(|k| !k.is_empty());
            let value = line[at + 1..].trim_start();
            if key.is_some_and(sounds_secret) && !value.starts_with('{') && !value.is_empty() {
                let start = offset + line.len() - value.len();
                found.push(start..offset + line.len());
            }
        }
        offset += line.len();
    }
    found
}

/// What stands before the `@` of a URL.
pub(super) fn passwords(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("://") {
        let start = at + 3;
        let rest = &text[start..];
        let end = rest.find(|c: char| c.is_whitespace() || "/\"'".contains(c)).unwrap_or(rest.len());
        if let Some(length) = rest[..end].rfind('@') {
            found.push(start..start + length);
        }
    }
    found
}

/// Whether the value of a key of this name should not be shown, misspelt or not.
pub(crate) fn sounds_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["secret", "token", "passw", "access_key", "key_id", "private"].iter().any(|word| key.contains(word))
}
