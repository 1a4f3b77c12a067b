use std::borrow::Cow;

use consign_sdk::text::BinaryText;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// The options of a share with `plugin = "fixed-width"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The places of a row from left to right, such as
    /// `[{ column = "id", width = 8, pad = "0" }, { text = "|", width = 1 }]`.
    /// Required.
    pub columns: Vec<Place>,
    /// The places of a line before the rows of each object; none when empty.
    pub header: Vec<Place>,
    /// The places of a line behind the rows of each object, where the fact
    /// `rows` is how many they are; none when empty.
    pub trailer: Vec<Place>,
    /// What ends each line.
    pub line_ending: LineEnding,
    /// How characters become bytes. A width counts characters, which are bytes
    /// in `ascii` and `latin-1`. What an encoding does not have ends the delivery.
    pub encoding: Encoding,
    /// What happens to a text that is wider than its place: `error` ends the
    /// delivery, `truncate` cuts its end. Numbers, dates and times are never cut.
    pub overflow: Overflow,
    /// What happens to line breaks and other control characters in texts:
    /// `error` ends the delivery, `space` writes a blank instead.
    pub control_characters: Controls,
    /// The texts of true and false.
    pub booleans: [String; 2],
    /// How binary data is written.
    pub binary: BinaryText,
}

/// One place of a line: a width, and either `column`, `text` or `fact`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The column of the dataset that is here.
    pub column: Option<String>,
    /// A text that is always here; `""` for a gap.
    pub text: Option<String>,
    /// A fact of the run that is here.
    pub fact: Option<Fact>,
    /// Characters.
    #[schemars(range(min = 1, max = 65_536))]
    pub width: u32,
    /// To which side; numbers are at the right unless told otherwise, all else
    /// at the left.
    pub align: Option<Align>,
    /// What fills the rest: one ASCII character, a blank unless told otherwise.
    /// A sign stands before zeros.
    pub pad: Option<Pad>,
    /// As for all columns, for this one.
    pub overflow: Option<Overflow>,
    /// What stands for null, in the whole place; nothing but padding by blanks
    /// unless told otherwise.
    pub null: Option<String>,
    /// How dates, times, timestamps and instants (in UTC) are written, as a
    /// strftime pattern; by default ISO 8601.
    pub format: Option<String>,
    /// Whether decimals have their point: `12.50` is `1250` without.
    #[serde(default = "yes")]
    pub point: bool,
    /// Which numbers have a sign.
    #[serde(default)]
    pub sign: Sign,
}

/// A fact of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// The share's name.
    Share,
    /// The customer's name.
    Customer,
    /// The scheduled instant.
    Slot,
    /// Where the data interval begins.
    IntervalStart,
    /// Where the data interval ends.
    IntervalEnd,
    /// How many rows the object has; in a trailer only.
    Rows,
}

/// What ends each line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LineEnding {
    /// `\n`.
    #[default]
    Lf,
    /// `\r\n`.
    Crlf,
    /// Nothing: all lines are equally long.
    None,
}

/// How characters become bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// One byte each.
    #[default]
    Ascii,
    /// ISO 8859-1, one byte each.
    #[serde(rename = "latin-1")]
    Latin1,
    /// One to four bytes each.
    #[serde(rename = "utf-8")]
    Utf8,
}

/// What happens to a text that is wider than its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// The delivery ends.
    #[default]
    Error,
    /// Its end is cut.
    Truncate,
}

/// What happens to control characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Controls {
    /// The delivery ends.
    #[default]
    Error,
    /// A blank instead of each.
    Space,
}

/// Sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Align {
    /// Padded at the right.
    Left,
    /// Padded at the left.
    Right,
}

/// Which numbers have a sign.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sign {
    /// `-` for negative ones.
    #[default]
    Minus,
    /// `+` for the others.
    Both,
}

/// A character to pad with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pad(pub u8);

impl Default for Options {
    fn default() -> Self {
        Options {
            columns: Vec::new(),
            header: Vec::new(),
            trailer: Vec::new(),
            line_ending: LineEnding::default(),
            encoding: Encoding::default(),
            overflow: Overflow::default(),
            control_characters: Controls::default(),
            booleans: ["true".into(), "false".into()],
            binary: BinaryText::default(),
        }
    }
}

impl LineEnding {
    pub(crate) fn bytes(self) -> &'static [u8] {
        match self {
            LineEnding::Lf => b"\n",
            LineEnding::Crlf => b"\r\n",
            LineEnding::None => b"",
        }
    }
}

impl Fact {
    /// Its key among the facts of the run.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Fact::Share => "share",
            Fact::Customer => "customer",
            Fact::Slot => "slot",
            Fact::IntervalStart => "interval-start",
            Fact::IntervalEnd => "interval-end",
            Fact::Rows => "rows",
        }
    }

    pub(crate) fn is_instant(self) -> bool {
        matches!(self, Fact::Slot | Fact::IntervalStart | Fact::IntervalEnd)
    }
}

impl TryFrom<String> for Pad {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_bytes() {
            [byte @ b' '..=b'~'] => Ok(Pad(*byte)),
            _ => Err(format!("`{text}` is not one printable ASCII character such as \" \" or \"0\"")),
        }
    }
}

impl JsonSchema for Pad {
    fn schema_name() -> Cow<'static, str> {
        "Pad".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 1 })
    }
}

fn yes() -> bool {
    true
}
