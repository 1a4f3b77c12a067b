use consign_sdk::{Error, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::entries::is_routing_number;

/// What is the same in every file: who sends to whom, as agreed with the bank.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Routing number of the bank or operator that gets the file: nine digits.
    pub immediate_destination: String,
    /// Its name, up to 23 characters.
    pub destination_name: String,
    /// Who sends the file, as the bank says: up to ten characters.
    pub immediate_origin: String,
    /// Its name, up to 23 characters.
    pub origin_name: String,
    /// Who the entries are from, as the receivers see it: up to 16 characters.
    pub company_name: String,
    /// Its identification, as the bank says: up to ten characters.
    pub company_id: String,
    /// What the entries are for, as the receivers see it, such as `PAYROLL`: up
    /// to ten characters.
    pub entry_description: String,
    /// Routing number of the bank that originates the entries: nine digits.
    pub originating_bank: String,
    /// Whose accounts the entries are for.
    pub entry_class: EntryClass,
    /// Which entries there may be; others end the delivery.
    #[serde(default)]
    pub service_class: ServiceClass,
    /// Tells files of the same day apart: one of A to Z and 0 to 9.
    #[serde(default = "first_of_the_day")]
    pub file_id_modifier: String,
    /// What ends each record.
    #[serde(default)]
    pub line_ending: LineEnding,
}

/// Whose accounts the entries are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EntryClass {
    /// Those of persons, with their agreement.
    Ppd,
    /// Those of companies.
    Ccd,
}

/// Which entries there may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceClass {
    /// Debits and credits.
    #[default]
    Mixed,
    /// Credits only.
    Credits,
    /// Debits only.
    Debits,
}

/// What ends each record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LineEnding {
    /// `\n`.
    #[default]
    Lf,
    /// `\r\n`.
    Crlf,
    /// Nothing.
    None,
}

impl Options {
    /// Refuses what types cannot say, with all there is to say.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        let mut wrong = |path: &str, message: String| problems.push(Problem { path: path.into(), message });
        for (path, value) in
            [("/immediate_destination", &self.immediate_destination), ("/originating_bank", &self.originating_bank)]
        {
            if !is_routing_number(value) {
                wrong(
                    path,
                    format!("`{value}` is not a routing number: write its nine digits, the last a check digit"),
                );
            }
        }
        let texts = [
            ("/destination_name", &self.destination_name, 23),
            ("/immediate_origin", &self.immediate_origin, 10),
            ("/origin_name", &self.origin_name, 23),
            ("/company_name", &self.company_name, 16),
            ("/company_id", &self.company_id, 10),
            ("/entry_description", &self.entry_description, 10),
        ];
        for (path, text, width) in texts {
            if text.trim().is_empty() || text.len() > width || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                wrong(path, format!("`{text}` is not a text of 1 to {width} ASCII characters"));
            }
        }
        if !matches!(self.file_id_modifier.as_bytes(), [b'A'..=b'Z' | b'0'..=b'9']) {
            wrong("/file_id_modifier", format!("`{}` is not one of A to Z and 0 to 9", self.file_id_modifier));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::InvalidOptions(problems)) }
    }

    /// Without the check digit.
    pub(crate) fn originating_bank(&self) -> &str {
        self.originating_bank.get(..8).unwrap_or_default()
    }
}

impl EntryClass {
    pub(crate) fn code(self) -> &'static str {
        match self {
            EntryClass::Ppd => "PPD",
            EntryClass::Ccd => "CCD",
        }
    }
}

impl ServiceClass {
    pub(crate) fn code(self) -> u64 {
        match self {
            ServiceClass::Mixed => 200,
            ServiceClass::Credits => 220,
            ServiceClass::Debits => 225,
        }
    }

    pub(crate) fn allows(self, debit: bool) -> bool {
        match self {
            ServiceClass::Mixed => true,
            ServiceClass::Credits => !debit,
            ServiceClass::Debits => debit,
        }
    }
}

impl LineEnding {
    pub(crate) fn text(self) -> &'static str {
        match self {
            LineEnding::Lf => "\n",
            LineEnding::Crlf => "\r\n",
            LineEnding::None => "",
        }
    }
}

fn first_of_the_day() -> String {
    "A".into()
}
