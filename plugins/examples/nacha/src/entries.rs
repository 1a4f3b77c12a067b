//! The dataset's columns as entries.

use consign_sdk::text::Buffer;
use consign_sdk::{Column, DataType, Error, Schema, Strs, Values};

/// The columns that the dataset must have, and what to write in the query.
const COLUMNS: [(&str, &str); 7] = [
    ("effective_date", "a date"),
    ("transaction_code", "an int"),
    ("routing_number", "a varchar"),
    ("account_number", "a varchar"),
    ("amount", "a decimal(10, 2)"),
    ("individual_id", "a varchar"),
    ("individual_name", "a varchar"),
];

/// The entries of a batch of the dataset.
pub(crate) struct Entries<'a> {
    effective_date: Values<'a, i32>,
    transaction_code: Values<'a, i32>,
    routing_number: Strs<'a>,
    account_number: Strs<'a>,
    amount: Values<'a, i128>,
    individual_id: Strs<'a>,
    individual_name: Strs<'a>,
}

/// One entry: some money into or out of an account.
pub(crate) struct Entry<'a> {
    /// Days since 1970.
    pub effective_date: i32,
    pub transaction_code: u64,
    pub is_debit: bool,
    pub routing_number: &'a str,
    /// The routing number without its check digit.
    pub receiving_bank: u64,
    pub account_number: &'a str,
    pub cents: u64,
    pub individual_id: &'a str,
    pub individual_name: &'a str,
}

/// Refuses a dataset that has not all columns, and names those that it has not.
pub(crate) fn check(schema: &Schema) -> Result<(), Error> {
    let has =
        |wanted: &str| schema.fields.iter().any(|field| field.name == wanted && has_its_type(wanted, &field.data_type));
    let missing = COLUMNS.iter().filter(|(name, _)| !has(name));
    let missing: Vec<String> = missing.map(|(name, wanted)| format!("`{name}` as {wanted}")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Unsupported(format!("a NACHA file needs more columns: select {} in the query", missing.join(", "))))
}

fn has_its_type(name: &str, data_type: &DataType) -> bool {
    match name {
        "effective_date" => *data_type == DataType::Date32,
        "transaction_code" => *data_type == DataType::Int32,
        "amount" => matches!(data_type, DataType::Decimal128 { scale: 2, .. }),
        _ => matches!(data_type, DataType::Utf8 | DataType::LargeUtf8),
    }
}

impl<'a> Entries<'a> {
    pub fn of(columns: &'a [Column<'_>]) -> Result<Self, Error> {
        let find = |name: &str| {
            let column = columns.iter().find(|column| column.name() == name);
            column.ok_or_else(|| Error::Other(format!("the batch has no column `{name}`")))
        };
        Ok(Entries {
            effective_date: find("effective_date")?.i32s()?,
            transaction_code: find("transaction_code")?.i32s()?,
            routing_number: find("routing_number")?.strs()?,
            account_number: find("account_number")?.strs()?,
            amount: find("amount")?.decimal128s()?,
            individual_id: find("individual_id")?.strs()?,
            individual_name: find("individual_name")?.strs()?,
        })
    }

    /// The entry at `row`; `number` counts those of the file from 1.
    pub fn get(&self, row: usize, number: u64) -> Result<Entry<'a>, Error> {
        let wrong = |what: String| Error::Unsupported(format!("entry {number}: {what}"));
        let missing = |name: &str| wrong(format!("`{name}` is null"));
        let code = self.transaction_code.get(row).ok_or_else(|| missing("transaction_code"))?;
        let Some((is_debit, prenote)) = kind(code) else {
            return Err(wrong(format!(
                "`transaction_code` is {code}, which is none of 22, 23, 32, 33 (credits) and 27, 28, 37, 38 (debits)"
            )));
        };
        let routing_number = self.routing_number.get(row).ok_or_else(|| missing("routing_number"))?;
        if !is_routing_number(routing_number) {
            return Err(wrong(format!(
                "`routing_number` is `{routing_number}`, which is not nine digits with the right check digit"
            )));
        }
        let amount = self.amount.get(row).ok_or_else(|| missing("amount"))?;
        let cents = u64::try_from(amount).ok().filter(|cents| (*cents == 0) == prenote);
        let cents = cents.ok_or_else(|| {
            let wanted = if prenote { "0, as it is a prenote" } else { "more than 0" };
            wrong(format!("`amount` is {amount} cents, and must be {wanted}"))
        })?;
        Ok(Entry {
            effective_date: self.effective_date.get(row).ok_or_else(|| missing("effective_date"))?,
            transaction_code: code.unsigned_abs().into(),
            is_debit,
            routing_number,
            receiving_bank: routing_number.get(..8).and_then(|digits| digits.parse().ok()).unwrap_or_default(),
            account_number: self.account_number.get(row).ok_or_else(|| missing("account_number"))?,
            cents,
            individual_id: self.individual_id.get(row).unwrap_or_default(),
            individual_name: self.individual_name.get(row).ok_or_else(|| missing("individual_name"))?,
        })
    }
}

/// Whether a transaction code is of a debit, and whether of a prenote, which
/// moves no money.
fn kind(code: i32) -> Option<(bool, bool)> {
    match code {
        22 | 32 => Some((false, false)),
        23 | 33 => Some((false, true)),
        27 | 37 => Some((true, false)),
        28 | 38 => Some((true, true)),
        _ => None,
    }
}

/// Nine digits, weighted 3, 7, 1, whose sum is a multiple of ten.
pub(crate) fn is_routing_number(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).map(|digit| u32::from(digit - b'0'));
    let sum: u32 = digits.zip([3, 7, 1].into_iter().cycle()).map(|(digit, weight)| digit * weight).sum();
    text.len() == 9 && text.bytes().all(|byte| byte.is_ascii_digit()) && sum.is_multiple_of(10)
}

/// `260228`.
pub(crate) fn yymmdd(days: i32) -> String {
    let mut date = Buffer::new();
    date.date(days.into());
    let date = String::from_utf8_lossy(date.as_bytes());
    match date.len() {
        10 => [&date[2..4], &date[5..7], &date[8..10]].concat(),
        // Not of four digits of years; too long for its field, which is said there.
        _ => date.into_owned(),
    }
}
