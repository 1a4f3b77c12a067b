use std::borrow::Cow;

use consign_sdk::text::{BinaryText, DateFormat, TimeFormat, TimestampFormat};
use consign_sdk::{Error, Problem};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// The options of a share with `plugin = "csv"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CsvOptions {
    /// Between two values: one ASCII character that no number, date or base64
    /// text has, such as `,` `;` `|` or a tab (`"\t"`).
    pub delimiter: Ascii,
    /// Around values that need it; doubled inside of them.
    pub quote: Ascii,
    /// Whether the first line of each object names the columns.
    pub header: bool,
    /// What stands for null. The text itself as a value is quoted, so that the
    /// two stay distinct; by default null is nothing and the empty text `""`.
    /// Set it when there is one column only: its nulls are blank lines otherwise,
    /// which many readers skip.
    pub null: String,
    /// `lf`, or `crlf` as in RFC 4180. Every loader takes `lf`, while tools
    /// that split at it leave the `cr` of a `crlf` in the last value.
    pub line_ending: LineEnding,
    /// Which values are quoted.
    pub quoting: Quoting,
    /// The texts of true and false.
    pub booleans: [String; 2],
    /// How dates are written; by default ISO 8601.
    pub date_format: Option<DateFormat>,
    /// How times of day are written; by default ISO 8601.
    pub time_format: Option<TimeFormat>,
    /// How timestamps are written; by default ISO 8601, in UTC with `Z` when
    /// they have a zone.
    pub timestamp_format: Option<TimestampFormat>,
    /// How binary data is written.
    pub binary: BinaryText,
    /// Whether `'` is put before texts that a spreadsheet would run as a
    /// formula: those that begin with `=` `+` `-` `@`, their full-width forms,
    /// a tab or a line break (OWASP, "CSV Injection"). Numbers are left alone.
    pub formula_escaping: bool,
    /// Whether each object begins with a UTF-8 byte order mark, which Excel
    /// needs to read it as UTF-8.
    pub bom: bool,
}

/// A character that values may be separated or quoted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Ascii(pub u8);

/// Line endings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LineEnding {
    /// `\n`.
    #[default]
    Lf,
    /// `\r\n`.
    Crlf,
}

/// Which values are quoted. Null never is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Quoting {
    /// Those that could be misread without (RFC 4180).
    #[default]
    Minimal,
    /// All.
    All,
    /// Texts, binary and nested values; no numbers, booleans, dates and times.
    Strings,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions {
            delimiter: Ascii(b','),
            quote: Ascii(b'"'),
            header: true,
            null: String::new(),
            line_ending: LineEnding::default(),
            quoting: Quoting::default(),
            booleans: ["true".into(), "false".into()],
            date_format: None,
            time_format: None,
            timestamp_format: None,
            binary: BinaryText::default(),
            formula_escaping: false,
            bom: false,
        }
    }
}

impl CsvOptions {
    /// Refuses options that are right one by one but not together.
    pub fn check(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        let mut wrong = |path: &str, message: &str| {
            problems.push(Problem { path: path.into(), message: message.into() });
        };
        let structural = [self.delimiter.0, self.quote.0, b'\n', b'\r'];
        let is_plain = |text: &str| !text.bytes().any(|byte| structural.contains(&byte));
        if self.delimiter.0 == self.quote.0 {
            wrong("/quote", "must not be the delimiter");
        }
        if !is_plain(&self.null) {
            wrong("/null", "must have no delimiter, quote or line break in it");
        }
        let [yes, no] = &self.booleans;
        if !is_plain(yes) || !is_plain(no) {
            wrong("/booleans", "must have no delimiter, quote or line break in them");
        }
        if yes == no || [yes, no].contains(&&self.null) {
            wrong("/booleans", "true, false and null must have three different texts");
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::InvalidOptions(problems)) }
    }
}

impl TryFrom<String> for Ascii {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let say = |what: &str| Err(format!("{what}: write one ASCII character such as `,` `;` `|` or a tab (\"\\t\")"));
        let byte = match text.as_bytes() {
            [byte] if byte.is_ascii() => *byte,
            // A tab as TOML's literal strings and shells write it.
            [b'\\', b't'] => b'\t',
            [] => return say("is empty"),
            _ => return say(&format!("`{text}` is not one ASCII character")),
        };
        match byte {
            b'\n' | b'\r' | 0 => say("a line break or NUL cannot be used"),
            b'+' | b'-' | b'.' | b':' | b'/' | b'=' => say("numbers, dates and base64 have this character in them"),
            byte if byte.is_ascii_alphanumeric() => say("numbers and words have this character in them"),
            byte => Ok(Ascii(byte)),
        }
    }
}

impl JsonSchema for Ascii {
    fn schema_name() -> Cow<'static, str> {
        "Ascii".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 2 })
    }
}
