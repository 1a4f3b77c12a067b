use consign_sdk::text::BinaryText;
use consign_sdk::{Error, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::workbook::SHEET_ROWS;

/// The options of a share with `plugin = "xlsx"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// What the sheet is called; further ones have a number behind it.
    #[schemars(length(min = 1, max = 24))]
    pub sheet: String,
    /// Whether the first row of each sheet names the columns.
    pub header: bool,
    /// Whether that row stays in view.
    pub freeze_header: bool,
    /// Rows after which the next sheet begins, the header among them; 1,048,576
    /// is all that a sheet can have.
    #[schemars(range(min = 2, max = 1_048_576))]
    pub sheet_rows: u32,
    /// Numbers of more than 15 digits, NaN and infinities, dates before
    /// 1900-03-01 or after 9999, and times finer than a millisecond, none of
    /// which a cell can hold: a `text` that says them exactly, or an `error`.
    pub beyond: Beyond,
    /// How dates are shown, as a number format of Excel.
    pub date_format: String,
    /// How times of day are shown, as a number format of Excel; `hh:mm:ss` when
    /// absent, with `.000` where the type has more than seconds.
    pub time_format: Option<String>,
    /// How timestamps are shown, as a number format of Excel;
    /// `yyyy-mm-dd hh:mm:ss` when absent, with `.000` as above. Those with a zone
    /// are in UTC.
    pub timestamp_format: Option<String>,
    /// How binary data is written.
    pub binary: BinaryText,
    /// How hard to compress: 0 to 9. Higher is smaller and slower.
    #[schemars(range(max = 9))]
    pub compression_level: u32,
}

/// What becomes of values that a cell cannot hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Beyond {
    /// A text that says them exactly.
    #[default]
    Text,
    /// The delivery ends.
    Error,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            sheet: "Data".into(),
            header: true,
            freeze_header: true,
            sheet_rows: SHEET_ROWS,
            beyond: Beyond::default(),
            date_format: "yyyy-mm-dd".into(),
            time_format: None,
            timestamp_format: None,
            binary: BinaryText::default(),
            compression_level: 6,
        }
    }
}

impl Options {
    /// Every option that makes no sense.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        let mut wrong = |path: &str, message: String| problems.push(Problem { path: path.into(), message });
        let forbidden = |character: char| "[]:*?/\\".contains(character) || character.is_control();
        let quoted = self.sheet.starts_with('\'') || self.sheet.ends_with('\'');
        let fits = (1..=24).contains(&self.sheet.encode_utf16().count());
        if !fits || quoted || self.sheet.contains(forbidden) || self.sheet.eq_ignore_ascii_case("history") {
            let message = format!(
                "a sheet cannot be called `{}`: write 1 to 24 characters without [ ] : * ? / \\ and not `History`",
                self.sheet.escape_debug()
            );
            wrong("/sheet", message);
        }
        if !(2..=SHEET_ROWS).contains(&self.sheet_rows) {
            wrong("/sheet_rows", format!("`sheet_rows` must be from 2 to {SHEET_ROWS}, not {}", self.sheet_rows));
        }
        if self.compression_level > 9 {
            wrong("/compression_level", format!("the levels are 0 to 9, not {}", self.compression_level));
        }
        let formats = [
            ("/date_format", Some(&self.date_format)),
            ("/time_format", self.time_format.as_ref()),
            ("/timestamp_format", self.timestamp_format.as_ref()),
        ];
        for (path, format) in formats.into_iter().filter_map(|(path, format)| Some((path, format?))) {
            if format.is_empty() || format.chars().count() > 255 || format.contains(char::is_control) {
                wrong(path, "must be a number format of 1 to 255 characters, such as \"dd/mm/yyyy\"".into());
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::InvalidOptions(problems)) }
    }
}
