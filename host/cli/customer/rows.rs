//! A list of customers as it is exported from elsewhere: CSV with headings, or JSON;
//! read into rows whose every cell knows where it stands.

use std::ops::Range;

use csv_core::{ReadFieldResult, ReaderBuilder};
use serde_json::Value;

/// One customer as written.
#[derive(Debug)]
pub struct Row {
    /// Where it begins.
    pub at: Range<usize>,
    pub cells: Vec<Cell>,
}

#[derive(Debug)]
pub struct Cell {
    /// The column's heading, or the key; of a nested object `params.NAME`.
    pub heading: String,
    pub heading_at: Range<usize>,
    pub value: Value,
    pub at: Range<usize>,
}

/// Where a list cannot be read, and why.
#[derive(Debug)]
pub struct Unread {
    pub at: Range<usize>,
    pub message: String,
    pub help: String,
}

fn unread(at: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Unread {
    Unread { at, message: message.into(), help: help.into() }
}

/// Rows of a CSV: separated by commas, semicolons or tabs, whichever the first line has most
/// of. A cell without text says nothing.
pub fn csv(text: &str) -> Result<Vec<Row>, Vec<Unread>> {
    let mut records = records(text).map_err(|unread| vec![unread])?.into_iter();
    let Some(headings) = records.next() else {
        return Err(vec![unread(0..0, "the list is empty", "the first line has the headings")]);
    };
    let mut faults = Vec::new();
    let mut rows = Vec::new();
    for record in records {
        let whole = record.first().map_or(0, |(at, _)| at.start)..record.last().map_or(0, |(at, _)| at.end);
        let mut cells = Vec::new();
        for (number, (at, value)) in record.into_iter().enumerate().filter(|(_, (_, value))| !value.trim().is_empty()) {
            let Some((heading_at, heading)) = headings.get(number) else {
                let message = format!("the line has more cells than the {} headings", headings.len());
                faults.push(unread(at, message, "put a cell with a separator in it between double quotes"));
                break;
            };
            let value = Value::String(value.trim().to_owned());
            cells.push(Cell { heading: heading.trim().to_owned(), heading_at: heading_at.clone(), value, at });
        }
        if !cells.is_empty() {
            rows.push(Row { at: whole, cells });
        }
    }
    if faults.is_empty() { Ok(rows) } else { Err(faults) }
}

/// Cells with their places.
type Record = Vec<(Range<usize>, String)>;

fn records(text: &str) -> Result<Vec<Record>, Unread> {
    let first = text.lines().next().unwrap_or_default();
    let delimiter =
        b",;\t".iter().rev().copied().max_by_key(|c| first.bytes().filter(|b| b == c).count()).unwrap_or(b',');
    let mut reader = ReaderBuilder::new().delimiter(delimiter).build();
    let (mut records, mut record) = (Vec::new(), Vec::new());
    let (mut at, mut from) = (0, 0);
    let (mut field, mut room) = (Vec::new(), vec![0; text.len().clamp(64, 64 << 10)]);
    loop {
        let (result, read, wrote) = reader.read_field(&text.as_bytes()[at..], &mut room);
        at += read;
        field.extend_from_slice(&room[..wrote]);
        match result {
            ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => {}
            ReadFieldResult::Field { record_end } => {
                let place = trimmed(text, from..at, delimiter);
                // To csv_core all that follows is one cell, and the list has ended well.
                if at == text.len() && is_open(&text[place.clone()]) {
                    let help = "close it, or double it if it is a part of the cell";
                    return Err(unread(
                        place.start..place.start + 1,
                        "the quote that begins here is never closed",
                        help,
                    ));
                }
                record.push((place, String::from_utf8_lossy(&field).into_owned()));
                field.clear();
                from = at;
                if record_end {
                    records.push(std::mem::take(&mut record));
                }
            }
            ReadFieldResult::End => break,
        }
    }
    records.retain(|record| record.iter().any(|(_, cell)| !cell.trim().is_empty()));
    Ok(records)
}

/// Whether a cell begins with a quote that does not end. Within it one is doubled.
fn is_open(cell: &str) -> bool {
    let Some(within) = cell.strip_prefix('"') else { return false };
    let mut letters = within.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '"' && letters.next_if_eq(&'"').is_none() {
            return false;
        }
    }
    true
}

/// A cell without the line's ends, blanks and the separator around it.
fn trimmed(text: &str, at: Range<usize>, delimiter: u8) -> Range<usize> {
    let Some(raw) = text.get(at.clone()) else { return at };
    let outside = |c: char| c.is_whitespace() || c == char::from(delimiter);
    let start = at.start + (raw.len() - raw.trim_start_matches(['\r', '\n', ' ']).len());
    let length = text[start..at.end].trim_end_matches(outside).len();
    start..start + length
}

/// Rows of JSON: an array of objects, or an object of them by the customers' names; either may
/// be the value of `customers`.
pub fn json(text: &str) -> Result<Vec<Row>, Vec<Unread>> {
    const SHAPE: &str = "write [{ \"name\": \"acme\", \"role_arn\": … }, …]";
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let at = offset(text, error.line(), error.column());
        return Err(vec![unread(at, format!("the list is not JSON: {error}"), SHAPE)]);
    }
    let mut scan = Scan { text, at: 0 };
    let mut root = scan.node();
    if let Shape::Object(entries) = &mut root.shape
        && let [(key, _, _)] = entries.as_slice()
        && key == "customers"
    {
        let (_, _, inner) = entries.remove(0);
        root = inner;
    }
    let mut faults = Vec::new();
    let mut rows = Vec::new();
    let mut row = |name: Option<(String, Range<usize>)>, node: Node| match node.shape {
        Shape::Object(entries) => {
            let mut cells = Vec::new();
            if let Some((name, at)) = name {
                cells.push(Cell { heading: "name".into(), heading_at: at.clone(), value: name.into(), at });
            }
            entries.into_iter().for_each(|(key, key_at, value)| flatten(text, key, &key_at, value, &mut cells));
            rows.push(Row { at: node.at.start..node.at.start + 1, cells });
        }
        _ => faults.push(unread(node.at, "this is no customer, but another value than an object", SHAPE)),
    };
    match root.shape {
        Shape::List(items) => items.into_iter().for_each(|item| row(None, item)),
        Shape::Object(entries) => entries.into_iter().for_each(|(key, at, value)| row(Some((key, at)), value)),
        Shape::Leaf => faults.push(unread(root.at, "the list is neither an array nor an object", SHAPE)),
    }
    if faults.is_empty() { Ok(rows) } else { Err(faults) }
}

/// What is in an object of an object is named by both: `params.customer_id`.
fn flatten(text: &str, heading: String, heading_at: &Range<usize>, node: Node, cells: &mut Vec<Cell>) {
    if let Shape::Object(entries) = node.shape {
        for (key, at, value) in entries {
            flatten(text, format!("{heading}.{key}"), &at, value, cells);
        }
        return;
    }
    let value = text.get(node.at.clone()).and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or(Value::Null);
    let is_silent = value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
    if !is_silent {
        cells.push(Cell { heading, heading_at: heading_at.clone(), value, at: node.at });
    }
}

/// Where line and column are, both from 1.
fn offset(text: &str, line: usize, column: usize) -> Range<usize> {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut at = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at..at
}

/// A value of JSON, and where it stands.
struct Node {
    at: Range<usize>,
    shape: Shape,
}

enum Shape {
    Object(Vec<(String, Range<usize>, Node)>),
    List(Vec<Node>),
    Leaf,
}

/// Walks through what is known to be JSON, so that each thing it looks for is there. The depth
/// is bounded by serde_json's, which has read it before.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn node(&mut self) -> Node {
        self.blanks();
        let start = self.at;
        let shape = match self.peek() {
            b'{' => Shape::Object(self.entries()),
            b'[' => Shape::List(self.items()),
            b'"' => {
                self.string();
                Shape::Leaf
            }
            _ => {
                while !matches!(self.peek(), b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n' | 0) {
                    self.at += 1;
                }
                Shape::Leaf
            }
        };
        Node { at: start..self.at, shape }
    }

    fn entries(&mut self) -> Vec<(String, Range<usize>, Node)> {
        let mut entries = Vec::new();
        self.at += 1;
        while self.goes_on(b'}') {
            let start = self.at;
            self.string();
            let at = start..self.at;
            let key = serde_json::from_str(&self.text[at.clone()]).unwrap_or_default();
            self.blanks();
            // The colon.
            self.at += 1;
            entries.push((key, at, self.node()));
        }
        entries
    }

    fn items(&mut self) -> Vec<Node> {
        let mut items = Vec::new();
        self.at += 1;
        while self.goes_on(b']') {
            items.push(self.node());
        }
        items
    }

    /// Whether something comes before the end, which is passed, as is a comma.
    fn goes_on(&mut self, end: u8) -> bool {
        self.blanks();
        if self.peek() == b',' {
            self.at += 1;
            self.blanks();
        }
        let more = self.peek() != end && self.peek() != 0;
        if !more {
            self.at += 1;
        }
        more
    }

    fn string(&mut self) {
        self.at += 1;
        while !matches!(self.peek(), b'"' | 0) {
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
    }

    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str, rows: &[Row]) -> Vec<Vec<(String, String, String)>> {
        let cell = |cell: &Cell| (cell.heading.clone(), cell.value.to_string(), text[cell.at.clone()].to_owned());
        rows.iter().map(|row| row.cells.iter().map(cell).collect()).collect()
    }

    fn three(heading: &str, value: &str, text: &str) -> (String, String, String) {
        (heading.to_owned(), value.to_owned(), text.to_owned())
    }

    #[test]
    fn cells_of_a_csv_know_where_they_stand() {
        let text = "name;Bucket\r\nacme;\"a;\"\"b\"\r\n\r\n;\r\nzoo;\r\nx;é\n";
        let rows = csv(text).unwrap();
        let wanted = [
            vec![three("name", "\"acme\"", "acme"), three("Bucket", "\"a;\\\"b\"", "\"a;\"\"b\"")],
            vec![three("name", "\"zoo\"", "zoo")],
            vec![three("name", "\"x\"", "x"), three("Bucket", "\"é\"", "é")],
        ];
        assert_eq!(seen(text, &rows), wanted);
        for whole in ["a\n\"b\"", "a\n\"b\"\"\"", "a\n\"\"", "a\n\"b\"c\"d", "a\nb\"c", "a\n\"b\"\r\n"] {
            assert!(csv(whole).is_ok(), "{whole}");
        }
        for (open, at) in [("a,b\nx,\"oops\ny,z\n", 6), ("a\n\"b\"\"", 2), ("a\n\"", 2)] {
            assert_eq!(csv(open).unwrap_err()[0].at, at..at + 1, "{open}");
        }
        let more = csv("a,b\n1,2,3\n4,5,,\n").unwrap_err();
        assert_eq!((more.len(), more[0].at.clone()), (1, 8..9));
        assert_eq!(seen("a\tb\n\"x\ny\"\tz", &csv("a\tb\n\"x\ny\"\tz").unwrap())[0][0].1, "\"x\\ny\"");
    }

    #[test]
    fn values_of_json_know_where_they_stand() {
        let text = r#"{ "customers": [ {"name": "ac\"me", "params": {"id": 42, "x": [1, "]"]}, "no": null}, {} ] }"#;
        let rows = json(text).unwrap();
        let wanted = vec![
            three("name", r#""ac\"me""#, r#""ac\"me""#),
            three("params.id", "42", "42"),
            three("params.x", r#"[1,"]"]"#, r#"[1, "]"]"#),
        ];
        assert_eq!(seen(text, &rows), [wanted, vec![]]);
        let text = r#"{"acme": {"bucket": "b"}}"#;
        assert_eq!(seen(text, &json(text).unwrap())[0][0], three("name", "\"acme\"", "\"acme\""));
        let wrong = json("[\n  {\"a\": }\n]").unwrap_err();
        assert_eq!(wrong[0].at.start, 10);
        assert_eq!(json("[1, {}]").unwrap_err()[0].at, 1..2);
        assert!(json("7").is_err());
    }
}
