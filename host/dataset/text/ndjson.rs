//! JSON, one object a line.

use std::borrow::Cow;
use std::io::{BufRead, Read};

use serde::de::IgnoredAny;

use super::exact::Scalar;
use super::kinds::{Column, named};
use super::{Declared, RECORD_BYTES_MAX, Seen, empty, malformed, unread};
use crate::dataset::error::DatasetError;

const AGAIN: &str = "write the file again, whole and in one format, or leave it out of the table's `path`";

/// Sees every line, because a key that first comes up late would else be left out silently.
pub(super) fn see(mut input: impl BufRead, declared: &[Declared]) -> Result<Seen, DatasetError> {
    let mut seen = Seen::default();
    let mut text = Vec::new();
    let mut line = 0;
    loop {
        text.clear();
        let most = RECORD_BYTES_MAX as u64 + 1;
        if (&mut input).take(most).read_until(b'\n', &mut text).map_err(unread)? == 0 {
            break;
        }
        line += 1;
        if text.len() > RECORD_BYTES_MAX {
            let what = format!("malformed JSON: line {line} has more than {} MiB", RECORD_BYTES_MAX >> 20);
            return Err(malformed(what, "write one object a line; if objects are this large, use Parquet"));
        }
        let text = text.trim_ascii();
        if !text.is_empty() {
            object(&mut seen, check(text, line)?, line, declared)?;
        }
    }
    if seen.columns.is_empty() { Err(empty()) } else { Ok(seen) }
}

/// One well-formed object.
fn check(text: &[u8], line: u64) -> Result<&str, DatasetError> {
    let bad = |why: String| malformed(format!("malformed JSON: line {line}: {why}"), AGAIN);
    let text =
        std::str::from_utf8(text).map_err(|error| bad(format!("not UTF-8 after byte {}", error.valid_up_to())))?;
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(bad(error.to_string().replace("line 1 column", "column")));
    }
    if text.starts_with('{') { Ok(text) } else { Err(bad("not an object; each line is one object".into())) }
}

/// The keys of a line are the columns.
fn object(seen: &mut Seen, text: &str, line: u64, declared: &[Declared]) -> Result<(), DatasetError> {
    seen.record_bytes = seen.record_bytes.max(text.len());
    let mut walk = Walk { rest: text, line };
    walk.members(|walk, key, at| walk.value(named(&mut seen.columns, key, at, || Column::new(key, declared))))
}

/// Goes through text that is known to be JSON.
struct Walk<'a> {
    rest: &'a str,
    line: u64,
}

impl<'a> Walk<'a> {
    fn value(&mut self, column: &mut Column) -> Result<(), DatasetError> {
        match self.peek() {
            b'{' => {
                column.object(self.line)?;
                self.members(|walk, key, at| walk.value(column.key(key, at)))
            }
            b'[' => {
                let item = column.list(self.line)?;
                self.take(1);
                while self.peek() != b']' {
                    self.value(item)?;
                    self.comma();
                }
                self.take(1);
                Ok(())
            }
            b'"' => {
                let text = self.string();
                column.scalar(Scalar::Text(&text), self.line)
            }
            _ => match self.word() {
                "null" => Ok(()),
                word @ ("true" | "false") => column.scalar(Scalar::Boolean(word), self.line),
                number => column.scalar(Scalar::Number(number), self.line),
            },
        }
    }

    /// The members of an object: each key, with its number, before its value.
    fn members(
        &mut self,
        mut each: impl FnMut(&mut Self, &str, usize) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        self.take(1);
        let mut at = 0;
        while self.peek() == b'"' {
            let key = self.string();
            // The colon.
            self.peek();
            self.take(1);
            each(self, &key, at)?;
            self.comma();
            at += 1;
        }
        self.take(1);
        Ok(())
    }

    /// The next byte that is no blank.
    fn peek(&mut self) -> u8 {
        self.rest = self.rest.trim_ascii_start();
        // A closing bracket ends every loop.
        self.rest.bytes().next().unwrap_or(b']')
    }

    fn comma(&mut self) {
        if self.peek() == b',' {
            self.take(1);
        }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// A number or a literal.
    fn word(&mut self) -> &'a str {
        let length = self.rest.bytes().take_while(|byte| !b",]} \t\r\n".contains(byte)).count();
        self.take(length)
    }

    fn string(&mut self) -> Cow<'a, str> {
        let bytes = self.rest.as_bytes();
        let mut length = 1;
        while let Some(byte) = bytes.get(length) {
            match byte {
                b'"' => break,
                b'\\' => length += 2,
                _ => length += 1,
            }
        }
        let written = self.take(length + 1);
        if written.contains('\\') {
            return Cow::Owned(serde_json::from_str(written).unwrap_or_default());
        }
        Cow::Borrowed(written.trim_matches('"'))
    }
}
