//! Rust files as far as `tidy` must understand them.

use std::fs;
use std::ops::Range;
use std::path::Path;

/// One Rust file.
pub struct Source {
    /// From the root of the checkout, with `/`.
    pub path: String,
    /// The text with comments and the contents of texts blanked out; the lines
    /// stay where they are.
    pub code: String,
}

/// Every Rust file in these folders (or files), except what was built.
pub fn rust_sources(places: &[&str]) -> Vec<Source> {
    let sources = files(places, "rs").into_iter();
    sources.map(|path| Source { code: without_comments_and_texts(&text(&path)), path }).collect()
}

/// The files with this extension in these folders; `.` is the root alone.
pub fn files(places: &[&str], extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    for place in places {
        match *place {
            "." => collect("", extension, false, &mut found),
            place if Path::new(super::root()).join(place).is_file() => found.push(place.to_owned()),
            place => collect(place, extension, true, &mut found),
        }
    }
    found.sort();
    found
}

/// A file of the checkout.
pub fn text(path: &str) -> String {
    fs::read_to_string(super::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn collect(folder: &str, extension: &str, deep: bool, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(super::root().join(folder)) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let is_folder = entry.file_type().unwrap().is_dir();
        if is_folder && deep && name != "target" {
            collect(&path, extension, deep, found);
        } else if !is_folder && Path::new(&name).extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

impl Source {
    /// The top-level module of `host/` that the file belongs to.
    pub fn module(&self) -> &str {
        let inside = self.path.strip_prefix("host/").unwrap_or(&self.path);
        let first = inside.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// The first part of every path that begins with `crate::` (in the binary,
    /// `consign::`), groups included.
    pub fn crate_modules(&self) -> Vec<String> {
        let root = if self.path == "host/main.rs" { "consign" } else { "crate" };
        let mut modules = Vec::new();
        for (at, name) in identifiers(&self.code) {
            let Some(rest) = self.code[at + name.len()..].strip_prefix("::").filter(|_| name == root) else { continue };
            match rest.strip_prefix('{') {
                Some(group) => modules.extend(group_heads(group)),
                None => modules.extend(first_identifier(rest)),
            }
        }
        modules.sort();
        modules.dedup();
        // Macros and functions of the crate root would be found here too; there
        // are none.
        modules
    }

    /// What is passed to each of these, which end in `(`, as it is written, and in which line that
    /// begins; what the file's own tests do is left out.
    pub fn calls(&self, function: &str) -> Vec<(usize, String)> {
        // Blanked character by character, so that both have as many.
        let (code, written): (Vec<char>, Vec<char>) = (self.code.chars().collect(), text(&self.path).chars().collect());
        let function: Vec<char> = function.chars().collect();
        let tests: Vec<char> = "#[cfg(test)]\nmod ".chars().collect();
        let end = code.windows(tests.len()).position(|here| here == tests).unwrap_or(code.len());
        let begins = code[..end].windows(function.len()).enumerate().filter(|(_, here)| *here == function);
        begins
            .map(|(at, _)| {
                let start = at + function.len();
                let mut depth = 1;
                let inside = code[start..].iter().take_while(|c| {
                    depth += i32::from(**c == '(') - i32::from(**c == ')');
                    depth > 0
                });
                let line = code[..at].iter().filter(|c| **c == '\n').count() + 1;
                (line, written[start..start + inside.count()].iter().collect())
            })
            .collect()
    }

    /// Each function's name and how many lines it has.
    pub fn functions(&self) -> Vec<(String, usize)> {
        let mut functions = Vec::new();
        for (at, _) in identifiers(&self.code).filter(|(_, name)| *name == "fn") {
            let rest = &self.code[at + 2..];
            let Some(name) = first_identifier(rest.trim_start()) else { continue };
            // A declaration of a trait ends before any brace.
            let Some(open) = rest.find(['{', ';']).filter(|open| rest.as_bytes()[*open] == b'{') else { continue };
            functions.push((name, rest[..end_of_block(rest, open)].matches('\n').count() + 1));
        }
        functions
    }

    /// Each test's path, as the test runner tells it.
    pub fn tests(&self) -> Vec<String> {
        let inside = self.path.split_once('/').map_or("", |(_, inside)| inside);
        let file = inside.strip_suffix(".rs").unwrap_or(inside).replace('/', "::");
        let blocks = self.inline_modules();
        let mut tests = Vec::new();
        for (at, _) in identifiers(&self.code).filter(|(_, name)| *name == "fn") {
            let Some(name) = first_identifier(self.code[at + 2..].trim_start()) else { continue };
            let before = &self.code[..at];
            let attributes = &before[before.rfind(['{', '}', ';']).map_or(0, |end| end + 1)..];
            let is_test = attributes.contains("#[test]") || attributes.contains("#[tokio::test");
            if is_test && !attributes.contains("#[ignore") {
                let around = blocks.iter().filter(|(_, block)| block.contains(&at)).map(|(module, _)| module.as_str());
                let path: Vec<&str> = [file.as_str()].into_iter().chain(around).chain([name.as_str()]).collect();
                tests.push(path.join("::"));
            }
        }
        tests
    }

    /// Modules that are in the file itself, the outer first, and where each is.
    fn inline_modules(&self) -> Vec<(String, Range<usize>)> {
        let mut modules = Vec::new();
        for (at, _) in identifiers(&self.code).filter(|(_, name)| *name == "mod") {
            let rest = &self.code[at + 3..];
            let Some(name) = first_identifier(rest.trim_start()) else { continue };
            let Some(open) = rest.find(['{', ';']).filter(|open| rest.as_bytes()[*open] == b'{') else { continue };
            modules.push((name, at + 3 + open..at + 3 + end_of_block(rest, open)));
        }
        modules
    }
}

/// Where the block ends that begins with the brace at `open`.
fn end_of_block(code: &str, open: usize) -> usize {
    let mut depth = 0;
    let close = code[open..].char_indices().find(|(_, c)| {
        depth += i32::from(*c == '{') - i32::from(*c == '}');
        depth == 0
    });
    close.map_or(code.len(), |(close, _)| open + close)
}

/// Where each identifier begins, and itself.
pub fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + code[at..].find(is_part)?;
        let length = code[start..].find(|c| !is_part(c)).unwrap_or(code.len() - start);
        at = start + length;
        Some((start, &code[start..at]))
    })
}

fn first_identifier(text: &str) -> Option<String> {
    let (at, name) = identifiers(text).next()?;
    (at == 0).then(|| name.to_owned())
}

/// The first part of each member of `a, b::c, d::{e, f}}…`.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut member = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.extend(first_identifier(group[member..at].trim()));
                member = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

/// Blanks comments, texts and characters; keeps line breaks.
fn without_comments_and_texts(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest),
            'r' | 'b' | 'c' if !code.ends_with(|c: char| c.is_alphanumeric() || c == '_') => raw_or_prefixed(rest),
            '\'' => character(rest),
            _ => 0,
        };
        let length = if skipped > 0 { skipped } else { c.len_utf8() };
        match skipped {
            0 => code.push(c),
            _ => code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
        }
        rest = &rest[length..];
    }
    code
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Length of a text that begins with its quote.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// Length of `r"…"`, `r#"…"#`, `b"…"`, `b'…'`, `br"…"` or `c"…"`; 0 when it is
/// none of them.
fn raw_or_prefixed(text: &str) -> usize {
    let prefix = text.find(|c| !matches!(c, 'r' | 'b' | 'c')).unwrap_or(text.len());
    if prefix > 2 {
        return 0;
    }
    let rest = &text[prefix..];
    let hashes = rest.find(|c| c != '#').unwrap_or(rest.len());
    let body = &rest[hashes..];
    match text[..prefix].contains('r') {
        true if body.starts_with('"') => {
            let end = format!("\"{}", "#".repeat(hashes));
            body[1..].find(&end).map_or(text.len(), |at| prefix + hashes + 1 + at + end.len())
        }
        false if rest.starts_with('"') => prefix + quoted(rest),
        false if rest.starts_with('\'') => prefix + character(rest),
        _ => 0,
    }
}

/// Length of a character; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, c))) => {
            let from = escaped + c.len_utf8();
            text[from..].find('\'').map_or(0, |at| from + at + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

#[test]
fn comments_and_texts_are_blanked() {
    let text = "let a = \"x \\\" // {\"; // }\nlet b = r#\"\"{\"#; /* /* { */ } */ let c = ('{', b'}', '\\'', 'a);";
    let code = without_comments_and_texts(text);
    assert!(!code.contains(['{', '}', '"', '/']), "{code}");
    assert!(code.contains("let c = (") && code.contains("'a);"), "{code}");
    assert_eq!(code.lines().count(), 2);
}

#[test]
fn groups_are_split_at_their_own_commas() {
    assert_eq!(group_heads("a, b::{c, d}, e::f}; g"), ["a", "b", "e"]);
}
