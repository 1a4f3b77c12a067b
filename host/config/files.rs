//! From paths to one tree: the main file and those it includes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use super::edits::Edits;
use super::origin::Origin;
use super::report::{ConfigErrors, Problem, Problems, Severity, quote};
use super::source::{Location, SourceFile, Span, line_starts, mask, passwords, secret_lines};
use super::tree::{Entry, Keyed, Node, Reading, Table, Value};

/// Tables whose entries may come from several files.
const SPREAD: [&str; 4] = ["datasets", "plugins", "customers", "shares"];

/// One file, parsed as far as it can be.
struct Parsed {
    source: SourceFile,
    table: Table,
    /// Where, what, help.
    errors: Vec<(Span, String, String)>,
}

/// Reads everything. Err: a file cannot be read or is not TOML, and nothing
/// else could be said that is not a consequence of it.
pub(crate) fn read(path: &Path) -> Result<(Origin, Problems), ConfigErrors> {
    read_with(path, &Edits::default())
}

/// The same, as it would be with these changes.
pub(super) fn read_with(path: &Path, edits: &Edits) -> Result<(Origin, Problems), ConfigErrors> {
    let mut reading = Reading::default();
    let main = match edits.read(path) {
        Ok(bytes) => parse(path, bytes, 0, &mut reading),
        Err(error) => return Err(unreadable(path, &error)),
    };
    let mut notes = Vec::new();
    if main.source.text.trim().is_empty() {
        let help = "put back what was there; one that has nothing to say yet says so in a comment";
        notes.push((Span::START, "the file is empty: whoever wrote it was cut off".into(), help.into()));
    }
    let mut parsed = vec![main];
    let patterns = includes(&parsed[0].table);
    let mut known = BTreeSet::from([absolute(path)]);
    for (pattern, span) in patterns {
        match matches_with(path, &pattern, edits) {
            Err((message, help)) => notes.push((span, message, help)),
            Ok(paths) => {
                for path in paths.into_iter().filter(|path| known.insert(absolute(path))) {
                    match edits.read(&path) {
                        Ok(bytes) => parsed.push(parse(&path, bytes, parsed.len(), &mut reading)),
                        Err(error) => {
                            let message = format!("cannot read {} ({})", path.display(), error.kind());
                            notes.push((span, message, "make it readable for consign, or do not include it".into()));
                        }
                    }
                }
            }
        }
    }
    collect(parsed, notes)
}

/// One file that includes no others.
pub(crate) fn read_alone(path: &Path, bytes: Vec<u8>) -> Result<(Origin, Problems), ConfigErrors> {
    collect(vec![parse(path, bytes, 0, &mut Reading::default())], Vec::new())
}

fn collect(parsed: Vec<Parsed>, mut notes: Vec<(Span, String, String)>) -> Result<(Origin, Problems), ConfigErrors> {
    let mut tables = Vec::new();
    let mut sources = Vec::new();
    for file in parsed {
        sources.push(Arc::new(file.source));
        tables.push(file.table);
        notes.extend(file.errors);
    }
    let mut problems = Problems::new(sources.clone());
    for (span, message, help) in notes {
        problems.error(span, message, help);
    }
    if problems.has_errors() {
        return Err(problems.sorted());
    }
    let root = merge(tables, &mut problems);
    Ok((Origin::new(sources, root), problems))
}

/// What the files say of one text, however wrong the rest of them is.
pub(crate) enum Glimpse {
    Says {
        file: PathBuf,
        text: String,
    },
    Silent,
    /// It is written there, and cannot be read.
    Illegible(Location),
}

/// Looks for a key of one of the main tables.
pub(crate) fn glimpse(path: &Path, table: &str, key: &str) -> Glimpse {
    let mut reading = Reading::default();
    let mut parsed = |path: &Path| Some(parse(path, std::fs::read(path).ok()?, 0, &mut reading));
    let Some(main) = parsed(path) else { return Glimpse::Silent };
    let included = includes(&main.table).into_iter().filter_map(|(pattern, _)| matches(path, &pattern).ok()).flatten();
    let mut found = look(main, table, key);
    for path in included {
        if !matches!(found, Glimpse::Silent) {
            break;
        }
        found = parsed(&path).map_or(Glimpse::Silent, |file| look(file, table, key));
    }
    found
}

fn look(file: Parsed, table: &str, key: &str) -> Glimpse {
    let Parsed { source, table: root, errors } = file;
    let says = |root: &Table| {
        let table = root.get(table).and_then(|entry| entry.node.table());
        let text = table.and_then(|table| table.get(key)).or_else(|| root.get(key))?.node.text()?;
        (!text.trim().is_empty()).then(|| text.to_owned())
    };
    if let Some(text) = says(&root) {
        return Glimpse::Says { file: source.path, text };
    }
    if errors.is_empty() {
        return match root.get(table).and_then(|entry| entry.node.table()?.get(key)) {
            Some(entry) => {
                let span = Some(entry.node.span.range());
                Glimpse::Illegible(Location { file: Arc::new(source), span })
            }
            None => Glimpse::Silent,
        };
    }
    // The parser may have lost its way before: the line alone is asked.
    let mut start = 0;
    for line in source.text.split_inclusive('\n') {
        let range = start..start + line.trim_end().len();
        start += line.len();
        if !line.contains(key) || line.trim_start().starts_with('#') {
            continue;
        }
        let alone = DeTable::parse(line).ok();
        return match alone.and_then(|line| says(&Reading::default().table(line.get_ref(), 0))) {
            Some(text) => Glimpse::Says { file: source.path, text },
            None => Glimpse::Illegible(Location { file: Arc::new(source), span: Some(range) }),
        };
    }
    Glimpse::Silent
}

fn unreadable(path: &Path, error: &std::io::Error) -> ConfigErrors {
    let (why, help) = match error.kind() {
        std::io::ErrorKind::NotFound => {
            ("there is no such file".to_owned(), "name the file with --config, or start from config/minimal.toml")
        }
        std::io::ErrorKind::IsADirectory => ("it is a directory".to_owned(), "name the file in it"),
        other => (other.to_string(), "make it readable for the user that runs consign"),
    };
    let message = format!("cannot read the configuration: {why}");
    let mut errors = ConfigErrors::new();
    errors.push(Problem::new(Severity::Error, Location::file(path), message, help));
    errors
}

fn parse(path: &Path, bytes: Vec<u8>, file: usize, reading: &mut Reading) -> Parsed {
    let mut errors = Vec::new();
    let mut text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let start = error.utf8_error().valid_up_to();
            let span = Span::new(file, start..start + '\u{fffd}'.len_utf8());
            errors.push((span, "the file is not UTF-8 here".into(), "save it as UTF-8".into()));
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        }
    };
    let (document, failures) = DeTable::parse_recoverable(&text);
    let mut hidden = secret_lines(&text);
    hidden.extend(passwords(&text));
    let table = reading.table(document.get_ref(), file);
    hidden.append(&mut reading.hidden);
    if errors.is_empty() {
        let (mut lines, starts) = (BTreeSet::new(), line_starts(&text));
        for failure in failures {
            let range = failure.span().unwrap_or(text.len()..text.len());
            // What follows on the same line is mostly a consequence.
            if lines.insert(starts.partition_point(|start| *start <= range.start)) {
                let span = Span::new(file, range.clone());
                let (message, help) = syntax(failure.message(), text.get(range).unwrap_or(""));
                errors.push((span, message, help));
            }
        }
    }
    for span in reading.too_large.drain(..) {
        errors.push((span, "the number does not fit in 64 bits".into(), "write a smaller one, or a string".into()));
    }
    drop(document);
    mask(&mut text, &hidden);
    Parsed { source: SourceFile::new(path, text), table, errors }
}

/// The parser's message, and what to write for the mistakes that people make.
fn syntax(message: &str, found: &str) -> (String, String) {
    let help = if message.contains("duplicate key") {
        "keep one of them"
    } else if message.contains("quoted") || message.contains("literal string") || message.contains("basic string") {
        "write strings between quotes, on one line: key = \"value\""
    } else if message.contains("key with no value") {
        "write key = value, or [table] for a table's name"
    } else {
        "see https://toml.io for how TOML is written"
    };
    let message = match message {
        "duplicate key" => format!("{} is written twice", quote(found)),
        other => other.to_owned(),
    };
    (message, help.into())
}

pub(super) fn includes(table: &Table) -> Vec<(String, Span)> {
    match table.get("include").map(|entry| &entry.node.value) {
        Some(Value::List(list)) => list.iter().filter_map(|item| Some((item.text()?.to_owned(), item.span))).collect(),
        _ => Vec::new(),
    }
}

/// The files of one include, sorted.
pub(super) fn matches(main: &Path, pattern: &str) -> Result<Vec<PathBuf>, (String, String)> {
    matches_with(main, pattern, &Edits::default())
}

fn matches_with(main: &Path, pattern: &str, edits: &Edits) -> Result<Vec<PathBuf>, (String, String)> {
    if !pattern.contains(['*', '?', '[']) {
        let path = main.parent().unwrap_or(Path::new("")).join(pattern);
        if !edits.is_file(&path) {
            let message = format!("the included file {} is not there", quote(pattern));
            return Err((message, "write a path relative to this file, or a glob, which may match nothing".into()));
        }
        return Ok(vec![path]);
    }
    let bad = |error: &dyn std::fmt::Display| {
        (format!("{} is not a glob ({error})", quote(pattern)), "write for example \"customers.d/*.toml\"".to_owned())
    };
    let whole = whole(main, pattern).ok_or_else(|| bad(&"the folder's name is not UTF-8"))?;
    let found = glob::glob(&whole).map_err(|error| bad(&error.msg))?;
    // What cannot be read is not taken for empty: its shares would vanish without a word.
    let unreadable = |path: &Path, error: &std::io::Error| {
        let message = format!("cannot read {}, which {} names: {error}", path.display(), quote(pattern));
        (message, "let the user that consign runs as read it, or take it out of `include`".to_owned())
    };
    let mut paths = Vec::new();
    for path in found {
        let path = path.map_err(|error| unreadable(error.path(), error.error()))?;
        match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => paths.push(path),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unreadable(&path, &error)),
            _ => {}
        }
    }
    edits.amend(&whole, &mut paths);
    paths.sort();
    Ok(paths)
}

/// A glob of the main file with the folder that it is relative to.
pub(super) fn whole(main: &Path, pattern: &str) -> Option<String> {
    let folder = main.parent().unwrap_or(Path::new(""));
    Some(match folder.to_str()? {
        _ if Path::new(pattern).is_absolute() => pattern.to_owned(),
        "" => pattern.to_owned(),
        folder => format!("{}/{pattern}", glob::Pattern::escape(folder)),
    })
}

/// One root of all files. A table or name may be in one of them only.
fn merge(tables: Vec<Table>, problems: &mut Problems) -> Table {
    let mut root: Vec<Keyed> = Vec::new();
    // Names of tables that are in several files: put in order once, when all are here.
    let mut spread: BTreeMap<Arc<str>, Vec<Keyed>> = BTreeMap::new();
    for (file, table) in tables.into_iter().enumerate() {
        for (key, entry) in table.into_entries() {
            if &*key == "include" && file > 0 {
                let help = "include it from the main file";
                problems.error(entry.key, "an included file cannot include others", help);
                continue;
            }
            let is_spread = SPREAD.contains(&&*key);
            let first = root.iter().find(|(known, _)| *known == key).map(|(_, first)| first);
            match (first.map(|first| (first.key, &first.node.value)), entry.node.value) {
                (None, value) => {
                    let node = Node { span: entry.node.span, value };
                    root.push((key, Entry { key: entry.key, node }));
                }
                (Some((_, Value::Table(_))), Value::Table(names)) if is_spread => {
                    spread.entry(key).or_default().extend(names.into_entries());
                }
                (Some((first, _)), _) => twice(&format!("`[{key}]`"), entry.key, first, problems),
            }
        }
    }
    for (key, entry) in &mut root {
        let Some(more) = spread.remove(key) else { continue };
        if let Value::Table(names) = &mut entry.node.value {
            let mut all = std::mem::take(names).into_entries();
            all.extend(more);
            let (joined, again) = Table::new(all);
            for (name, entry) in again {
                let first = joined.get(&name).map_or(entry.key, |first| first.key);
                twice(&format!("`[{key}.{name}]`"), entry.key, first, problems);
            }
            *names = joined;
        }
    }
    Table::new(root).0
}

fn twice(what: &str, second: Span, first: Span, problems: &mut Problems) {
    let message = format!("{what} is in two files");
    let also = [(first, "the first is here".to_owned())];
    problems.add(Severity::Error, second, message, "keep one, or give them names of their own".into(), &also);
}

fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.into())
}
