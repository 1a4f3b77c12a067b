//! Values as columns.

use serde::de::DeserializeOwned;

use super::LedgerError;
use super::db::{Db, Row, Value};
use super::state::State;
use crate::clock::Instant;
use crate::config::Overlap;
use crate::domain::{
    AccountId, BucketName, CustomerName, Destination, Interval, Invalid, Origin, RunId, ShareName, SkipReason, Slot,
};

/// A count or size as a column; sizes beyond 2^63 do not exist.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn size(row: &Row<'_>, column: &str) -> Result<u64, LedgerError> {
    Ok(u64::try_from(row.get::<i64>(column)?).unwrap_or(0))
}

pub(super) fn number(row: &Row<'_>, column: &str) -> Result<u32, LedgerError> {
    Ok(u32::try_from(row.get::<i64>(column)?).unwrap_or(u32::MAX))
}

pub(super) fn at(row: &Row<'_>, column: &str) -> Result<Instant, LedgerError> {
    instant(row.get(column)?)
}

pub(super) fn maybe_at(row: &Row<'_>, column: &str) -> Result<Option<Instant>, LedgerError> {
    row.get::<Option<i64>>(column)?.map(instant).transpose()
}

/// From microseconds since 1970.
fn instant(micros: i64) -> Result<Instant, LedgerError> {
    let unreadable = || LedgerError::Unreadable { what: "an instant", text: micros.to_string() };
    Instant::from_timestamp_micros(micros).ok_or_else(unreadable)
}

pub(super) fn share(row: &Row<'_>) -> Result<ShareName, LedgerError> {
    parsed(row, "share", ShareName::parse)
}

pub(super) fn customer(row: &Row<'_>) -> Result<CustomerName, LedgerError> {
    parsed(row, "customer", CustomerName::parse)
}

pub(super) fn run_id(row: &Row<'_>) -> Result<RunId, LedgerError> {
    parsed(row, "run_id", RunId::parse)
}

/// From the columns `share`, `at`, `interval_start` and `interval_end`.
pub(super) fn slot(row: &Row<'_>) -> Result<Slot, LedgerError> {
    let interval = Interval { start: at(row, "interval_start")?, end: at(row, "interval_end")? };
    Ok(Slot { share: share(row)?, at: at(row, "at")?, interval })
}

/// From the columns `endpoint`, `bucket`, `owner` and `manifest_key`.
pub(super) fn destination(row: &Row<'_>) -> Result<Option<Destination>, LedgerError> {
    let Some(manifest_key) = row.get::<Option<String>>("manifest_key")? else { return Ok(None) };
    let (bucket, owner) = (parsed(row, "bucket", BucketName::parse)?, parsed(row, "owner", AccountId::parse)?);
    Ok(Some(Destination { endpoint: row.get("endpoint")?, bucket, owner, manifest_key }))
}

pub(super) fn state<S: State>(row: &Row<'_>, column: &str) -> Result<S, LedgerError> {
    parse_state(row.get(column)?)
}

pub(super) fn origin(row: &Row<'_>) -> Result<Origin, LedgerError> {
    let text: String = row.get("origin")?;
    let known = Origin::ALL.into_iter().find(|origin| origin.as_str() == text);
    known.ok_or(LedgerError::Unreadable { what: "an origin", text })
}

pub(super) fn overlap(row: &Row<'_>) -> Result<Overlap, LedgerError> {
    let text: String = row.get("overlap")?;
    let known = Overlap::ALL.into_iter().find(|overlap| overlap.as_str() == text);
    known.ok_or(LedgerError::Unreadable { what: "a rule of overlap", text })
}

pub(super) fn maybe_reason(row: &Row<'_>) -> Result<Option<SkipReason>, LedgerError> {
    let Some(text) = row.get::<Option<String>>("reason")? else { return Ok(None) };
    match SkipReason::ALL.into_iter().find(|reason| reason.as_str() == text) {
        None => Err(LedgerError::Unreadable { what: "a reason", text }),
        known => Ok(known),
    }
}

pub(super) fn json<T: DeserializeOwned>(text: String) -> Result<T, LedgerError> {
    serde_json::from_str(&text).map_err(|_| LedgerError::Unreadable { what: "a JSON value", text })
}

pub(super) fn maybe_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<Option<T>, LedgerError> {
    row.get::<Option<String>>(column)?.map(json).transpose()
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<String, LedgerError> {
    let failed = |error: serde_json::Error| LedgerError::Unreadable { what: "a value", text: error.to_string() };
    serde_json::to_string(value).map_err(failed)
}

/// Text of the rows that one statement takes; more at once are no faster.
const BATCH_BYTES: usize = 256 << 10;

/// Rows for statements that take many at once (`Db::given`): arrays of columns in JSON arrays.
/// Each is made when it is asked for.
pub(super) fn batches<T: serde::Serialize>(
    rows: impl IntoIterator<Item = T>,
) -> impl Iterator<Item = Result<String, LedgerError>> {
    let mut rows = rows.into_iter();
    std::iter::from_fn(move || {
        let mut batch = String::new();
        for row in rows.by_ref() {
            batch.push(if batch.is_empty() { '[' } else { ',' });
            match to_json(&row) {
                Ok(row) => batch.push_str(&row),
                Err(error) => return Some(Err(error)),
            }
            if batch.len() >= BATCH_BYTES {
                break;
            }
        }
        (!batch.is_empty()).then(|| Ok(batch + "]"))
    })
}

/// Takes the record `id` through `event`, and sets `also` (such as
/// `ended_at = ?3`) in the same statement; `values` are `?3` and on.
pub(super) fn step<S: State>(
    ledger: &Db,
    id: i64,
    event: S::Event,
    also: &str,
    values: &[Value<'_>],
) -> Result<(), LedgerError> {
    let mut from = S::ALL.iter().filter_map(|state| Some((*state, state.after(event)?)));
    let (first, to) = from.next().ok_or(LedgerError::Stopped)?;
    let mut states = format!("'{}'", first.as_str());
    for (state, _) in from {
        states.push_str(&format!(", '{}'", state.as_str()));
    }
    let comma = if also.is_empty() { "" } else { ", " };
    let update =
        format!("UPDATE {} SET state = ?2{comma}{also} WHERE {} = ?1 AND state IN ({states})", S::TABLE, S::ID);
    let mut all = vec![Value::from(id), to.as_str().into()];
    all.extend_from_slice(values);
    match ledger.execute(&update, &all)? {
        0 => Err(refused::<S>(ledger, id, event)?),
        _ => Ok(()),
    }
}

/// Why a record did not take a step.
fn refused<S: State>(ledger: &Db, id: i64, event: S::Event) -> Result<LedgerError, LedgerError> {
    let record = format!("{} {id}", S::TABLE.trim_end_matches('s').replace("deliverie", "delivery"));
    let select = format!("SELECT state FROM {} WHERE {} = ?1", S::TABLE, S::ID);
    let found = ledger.first(&select, &[id.into()], |row| state::<S>(row, "state"))?;
    Ok(match found {
        None => LedgerError::Unknown { record },
        Some(state) => {
            let event = format!("{event:?}").to_lowercase();
            LedgerError::Illegal { record, state: state.as_str(), event }
        }
    })
}

pub(super) fn parsed<T>(
    row: &Row<'_>,
    column: &'static str,
    parse: impl Fn(&str) -> Result<T, Invalid>,
) -> Result<T, LedgerError> {
    let text: String = row.get(column)?;
    parse(&text).map_err(|_| LedgerError::Unreadable { what: column, text })
}

fn parse_state<S: State>(text: String) -> Result<S, LedgerError> {
    S::parse(&text).ok_or(LedgerError::Unreadable { what: "a state", text })
}
