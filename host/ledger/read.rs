//! What the ledger tells: history for people, leftovers for recovery.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::claim::LEFT_OUT;
use super::completing::{self, is_manifested};
use super::db::{Db, Row, Value, values};
use super::row::{
    at, customer, destination, maybe_at, maybe_json, maybe_reason, number, origin, run_id, size, slot, state,
};
use super::settle::{self, Settled};
use super::shared;
use super::state::State;
use super::{AttemptId, AttemptState, DeliveryId, DeliveryState, LedgerError, RunState, UploadState};
use crate::clock::{Instant, ahead_from};
use crate::domain::{
    CustomerName, Destination, Draft, Failure, Interval, Origin, RunId, SealedObject, ShareName, SkipReason, Slot,
};

/// Which runs to list. What is None does not restrict.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub share: Option<ShareName>,
    pub customer: Option<CustomerName>,
    pub state: Option<RunState>,
    /// At most this many, the newest.
    pub limit: usize,
}

/// A run on one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    pub run: RunId,
    pub share: ShareName,
    pub slot: Instant,
    pub interval: Interval,
    pub origin: Origin,
    pub state: RunState,
    pub started: Instant,
    pub finished: Option<Instant>,
    /// Deliveries of the run, and how many of them committed and failed.
    pub deliveries: u64,
    pub committed: u64,
    pub failed: u64,
    /// Over the committed deliveries.
    pub rows: u64,
    pub bytes: u64,
}

impl RunSummary {
    /// The run's slot, as commands take it.
    pub fn whole_slot(&self) -> Slot {
        Slot { share: self.share.clone(), at: self.slot, interval: self.interval }
    }
}

/// A slot that was not run, or not for everybody.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Skipped {
    pub slot: Slot,
    pub reason: SkipReason,
    /// Who did not get it, by name; None for nobody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customers: Option<Vec<CustomerName>>,
    pub recorded: Instant,
}

/// A run with everything in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunDetail {
    pub run: RunSummary,
    /// In order of the customers' names.
    pub deliveries: Vec<DeliveryDetail>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeliveryDetail {
    #[serde(skip)]
    pub id: DeliveryId,
    pub customer: CustomerName,
    pub state: DeliveryState,
    /// Of the last attempt that failed; None once committed.
    pub failure: Option<Failure>,
    /// When it is tried again after that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<Instant>,
    /// Key of its manifest that may be in the bucket: whether it is, nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_doubt: Option<String>,
    /// Who has said what became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settled>,
    /// Why it was not begun, or is not known.
    #[serde(skip)]
    pub left_out: Option<SkipReason>,
    pub manifest_key: Option<String>,
    pub rows: Option<u64>,
    pub bytes: Option<u64>,
    pub attempts: Vec<AttemptDetail>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptDetail {
    #[serde(skip)]
    pub id: AttemptId,
    pub number: u32,
    pub state: AttemptState,
    pub started: Instant,
    pub ended: Option<Instant>,
    pub failure: Option<Failure>,
    /// Of the component that formats it; None for files.
    pub digest: Option<String>,
    pub objects: Vec<ObjectDetail>,
    pub uploads: Vec<UploadDetail>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObjectDetail {
    pub key: String,
    pub bytes: u64,
    pub rows: u64,
    /// None until it can be seen, as far as that is known.
    pub etag: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UploadDetail {
    pub key: String,
    pub upload_id: String,
    pub state: UploadState,
    pub created: Instant,
    pub ended: Option<Instant>,
}

/// A run that an earlier process left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Unfinished {
    pub run: RunId,
    pub slot: Slot,
    pub origin: Origin,
    /// What is not committed then has failed.
    pub deadline: Option<Instant>,
    /// `Running`: bring its deliveries to an end, then call `run_finished`.
    /// Otherwise only uploads are left to abort.
    pub state: RunState,
    /// It was another process's until now.
    pub taken_over: bool,
    /// Every delivery that is not at its end or still has open uploads.
    pub deliveries: Vec<OpenDelivery>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OpenDelivery {
    pub id: DeliveryId,
    pub customer: CustomerName,
    pub state: DeliveryState,
    /// How often it has failed.
    pub tries: u32,
    /// When it is to be tried again; None for at once.
    pub due: Option<Instant>,
    /// Why it is to be ended instead.
    pub cancel: Option<Failure>,
    /// The attempt at work when the process ended, if any.
    pub attempt: Option<OpenAttempt>,
    /// Uploads of any of its attempts that may still be in the bucket. Those of
    /// a sealed attempt are what rolls forward; others are to be aborted.
    pub uploads: Vec<OpenUpload>,
}

impl OpenDelivery {
    /// Something of it may be in a bucket.
    pub fn has_begun(&self) -> bool {
        self.attempt.is_some() || !self.uploads.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct OpenAttempt {
    pub id: AttemptId,
    pub number: u32,
    /// `Working`: begin anew. `Sealed`: complete `objects`.
    pub state: AttemptState,
    pub started: Instant,
    pub objects: Vec<SealedObject>,
    /// What the manifest is to say, its objects aside.
    pub draft: Option<Draft>,
    pub destination: Option<Destination>,
    /// Its manifest is known to be in the bucket.
    pub manifested: bool,
    /// As far as the ledger knows, no other attempt has left anything of the slot there.
    pub is_first: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OpenUpload {
    pub attempt: AttemptId,
    /// Of its attempt.
    pub destination: Option<Destination>,
    pub key: String,
    pub upload_id: String,
    pub created: Instant,
}

const SUMMARY: &str = "
    SELECT r.seq, r.id AS run_id, r.origin, r.state, r.started_at, r.finished_at,
           s.share, s.at, s.interval_start, s.interval_end,
           (SELECT count(*) FROM deliveries d WHERE d.run = r.seq) AS deliveries,
           (SELECT count(*) FROM deliveries d WHERE d.run = r.seq AND d.state = 'committed') AS committed,
           (SELECT count(*) FROM deliveries d WHERE d.run = r.seq AND d.state = 'failed') AS failed,
           (SELECT CAST(coalesce(sum(rows), 0) AS BIGINT) FROM deliveries d WHERE d.run = r.seq AND d.state = 'committed') AS rows,
           (SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM deliveries d WHERE d.run = r.seq AND d.state = 'committed') AS bytes
    FROM runs r JOIN slots s ON s.id = r.slot";

pub(super) fn history(ledger: &Db, filter: &History) -> Result<Vec<RunSummary>, LedgerError> {
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    // Only what is asked for, and the state as a word: otherwise no index would be of use.
    let (mut values, mut conditions) = (vec![Value::from(limit)], Vec::new());
    conditions.extend(filter.state.map(|state| format!("r.state = '{}'", State::as_str(state))));
    if let Some(share) = &filter.share {
        values.push(share.as_str().into());
        conditions.push(format!("r.share = ?{}", values.len()));
    }
    if let Some(customer) = &filter.customer {
        values.push(customer.as_str().into());
        let theirs = format!("d.run = r.seq AND d.customer = ?{}", values.len());
        conditions.push(format!("EXISTS (SELECT 1 FROM deliveries d WHERE {theirs})"));
    }
    let which = if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
    ledger.all(&format!("{SUMMARY} {which} ORDER BY r.seq DESC LIMIT ?1"), &values, summary)
}

pub(super) fn runs_beginning(ledger: &Db, id: &str, limit: usize) -> Result<Vec<RunId>, LedgerError> {
    // Ids are hex digits and dashes, of which each comes before 'g'. In the order of some
    // languages dashes do not count, so the range is only the way there.
    let begins = "SELECT id AS run_id FROM runs WHERE id >= ?1 AND id < ?2 AND id LIKE ?3 ORDER BY id LIMIT ?4";
    if !id.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f' | '-')) {
        return Ok(Vec::new());
    }
    let (behind, like) = (format!("{id}g"), format!("{id}%"));
    ledger.all(begins, values![id, &behind, &like, i64::try_from(limit).unwrap_or(i64::MAX)], run_id)
}

pub(super) fn pending(ledger: &Db, now: Instant) -> Result<u64, LedgerError> {
    let due = "SELECT count(*) FROM slots WHERE state = 'pending' AND at <= ?1";
    ledger.only(due, values![ahead_from(now)]).map(i64::cast_unsigned)
}

pub(super) fn skipped(
    ledger: &Db,
    share: Option<&ShareName>,
    customer: Option<&CustomerName>,
    limit: usize,
) -> Result<Vec<Skipped>, LedgerError> {
    let mut values = values![share.map(ShareName::as_str), i64::try_from(limit).unwrap_or(i64::MAX)].to_vec();
    let (mut planned, mut theirs) = ("", "");
    let quoted = customer.map(|customer| format!("\"{customer}\""));
    if let (Some(customer), Some(quoted)) = (customer, &quoted) {
        values.extend([Value::from(customer.as_str()), quoted.into()]);
        // A list of names as JSON, which need no escaping.
        (planned, theirs) = ("AND customers <> replace(customers, ?4, '')", "AND d.customer = ?3");
    }
    let slots = format!(
        "SELECT * FROM slots
         WHERE ((state = 'skipped' {planned}) OR id IN (SELECT d.slot FROM deliveries d WHERE {LEFT_OUT} {theirs}))
           AND (share = ?1 OR ?1 IS NULL) ORDER BY at DESC, id DESC LIMIT ?2"
    );
    let slots = ledger.all(&slots, &values, |row| {
        Ok((row.get::<i64>("id")?, slot(row)?, maybe_reason(row)?, at(row, "planned_at")?))
    })?;
    let mut all = Vec::with_capacity(slots.len());
    for (id, slot, reason, recorded) in slots {
        match reason {
            Some(reason) => all.push(Skipped { slot, reason, customers: None, recorded }),
            None => all.extend(left_out_of(ledger, id, &slot, customer)?),
        }
    }
    Ok(all)
}

/// Who did not get a slot that others did, by the reasons.
fn left_out_of(ledger: &Db, id: i64, slot: &Slot, only: Option<&CustomerName>) -> Result<Vec<Skipped>, LedgerError> {
    let deliveries = format!(
        "SELECT d.customer, d.reason, r.started_at FROM deliveries d JOIN runs r ON r.seq = d.run
         WHERE d.slot = ?1 AND {LEFT_OUT} ORDER BY d.customer"
    );
    let deliveries =
        ledger.all(&deliveries, values![id], |row| Ok((customer(row)?, maybe_reason(row)?, at(row, "started_at")?)))?;
    let mut all: Vec<Skipped> = Vec::new();
    for (customer, reason, recorded) in deliveries {
        let Some(reason) = reason.filter(|_| only.is_none_or(|only| *only == customer)) else { continue };
        match all.iter_mut().find(|known| known.reason == reason) {
            Some(Skipped { customers: Some(customers), .. }) => customers.push(customer),
            _ => all.push(Skipped { slot: slot.clone(), reason, customers: Some(vec![customer]), recorded }),
        }
    }
    Ok(all)
}

pub(super) fn run(ledger: &Db, run: RunId) -> Result<RunDetail, LedgerError> {
    let (seq, run) = ledger
        .first(&format!("{SUMMARY} WHERE r.id = ?1"), values![&run.to_string()], |row| {
            Ok((row.get("seq")?, summary(row)?))
        })?
        .ok_or_else(|| LedgerError::Unknown { record: format!("run {run}") })?;
    let deliveries = deliveries(ledger, seq)?;
    Ok(RunDetail { run, deliveries })
}

fn summary(row: &Row<'_>) -> Result<RunSummary, LedgerError> {
    let slot = slot(row)?;
    Ok(RunSummary {
        run: run_id(row)?,
        share: slot.share,
        slot: slot.at,
        interval: slot.interval,
        origin: origin(row)?,
        state: state(row, "state")?,
        started: at(row, "started_at")?,
        finished: maybe_at(row, "finished_at")?,
        deliveries: size(row, "deliveries")?,
        committed: size(row, "committed")?,
        failed: size(row, "failed")?,
        rows: size(row, "rows")?,
        bytes: size(row, "bytes")?,
    })
}

fn deliveries(ledger: &Db, run: i64) -> Result<Vec<DeliveryDetail>, LedgerError> {
    let maybe_size = |row: &Row<'_>, column: &str| {
        Ok::<_, LedgerError>(row.get::<Option<i64>>(column)?.and_then(|n| n.try_into().ok()))
    };
    ledger.all("SELECT * FROM deliveries WHERE run = ?1 ORDER BY customer", values![run], |row| {
        let id = DeliveryId(row.get("id")?);
        Ok(DeliveryDetail {
            id,
            customer: customer(row)?,
            state: state(row, "state")?,
            failure: maybe_json(row, "failure")?,
            due: maybe_at(row, "due_at")?,
            in_doubt: settle::in_doubt(ledger, id, state(row, "state")?)?,
            settled: maybe_json(row, "settled")?,
            left_out: maybe_reason(row)?,
            manifest_key: row.get("manifest_key")?,
            rows: maybe_size(row, "rows")?,
            bytes: maybe_size(row, "bytes")?,
            attempts: attempts(ledger, id)?,
        })
    })
}

fn attempts(ledger: &Db, delivery: DeliveryId) -> Result<Vec<AttemptDetail>, LedgerError> {
    ledger.all("SELECT * FROM attempts WHERE delivery = ?1 ORDER BY number", values![delivery.0], |row| {
        let id = AttemptId(row.get("id")?);
        Ok(AttemptDetail {
            id,
            number: number(row, "number")?,
            state: state(row, "state")?,
            started: at(row, "started_at")?,
            ended: maybe_at(row, "ended_at")?,
            failure: maybe_json(row, "failure")?,
            digest: row.get("digest")?,
            objects: objects(ledger, id)?,
            uploads: uploads(ledger, id)?,
        })
    })
}

fn objects(ledger: &Db, attempt: AttemptId) -> Result<Vec<ObjectDetail>, LedgerError> {
    ledger.all("SELECT * FROM objects WHERE attempt = ?1 ORDER BY ordinal", values![attempt.0], |row| {
        let (bytes, rows) = (size(row, "bytes")?, size(row, "rows")?);
        Ok(ObjectDetail { key: row.get("key")?, bytes, rows, etag: row.get("etag")? })
    })
}

fn uploads(ledger: &Db, attempt: AttemptId) -> Result<Vec<UploadDetail>, LedgerError> {
    ledger.all("SELECT * FROM uploads WHERE attempt = ?1 ORDER BY id", values![attempt.0], |row| {
        Ok(UploadDetail {
            key: row.get("key")?,
            upload_id: row.get("upload_id")?,
            state: state(row, "state")?,
            created: at(row, "created_at")?,
            ended: maybe_at(row, "ended_at")?,
        })
    })
}

/// Runs that did not end, or left uploads.
pub(super) const OPEN_RUNS: &str = "
    SELECT seq FROM runs WHERE state = 'running' UNION
    SELECT d.run FROM uploads u JOIN attempts a ON a.id = u.attempt JOIN deliveries d ON d.id = a.delivery
    WHERE u.state = 'created'";

/// What is left of processes that are no more, and is not among `known`; of one slot, if that is said.
pub(super) fn unfinished(
    ledger: &Db,
    known: Option<&BTreeSet<RunId>>,
    of: Option<&(ShareName, Option<Instant>)>,
) -> Result<Vec<Unfinished>, LedgerError> {
    let (share, slot_at) = of.map_or((None, None), |(share, at)| (Some(share.as_str()), *at));
    let taken = shared::take_over(ledger, share, slot_at)?;
    let which = format!(
        "r.seq IN ({OPEN_RUNS}) AND (s.share = ?1 OR ?1 IS NULL) AND (s.at = ?2 OR ?2 IS NULL) {}",
        shared::is_own(ledger)
    );
    let mut left = left(ledger, &which, values![share, slot_at])?;
    for (seq, unfinished) in &mut left {
        unfinished.taken_over = taken.contains(seq);
    }
    // While work goes on, uploads that ended runs of one's own left are not told again and again.
    let is_new = |left: &Unfinished| {
        let open = left.state == RunState::Running || left.taken_over;
        known.is_none_or(|known| open && !known.contains(&left.run))
    };
    with_deliveries(ledger, left.into_iter().filter(|(_, left)| is_new(left)).collect())
}

/// Runs that have ended and left uploads, of this process.
pub(super) fn ended_with_uploads(ledger: &Db) -> Result<Vec<Unfinished>, LedgerError> {
    let which = format!("r.seq IN ({OPEN_RUNS}) AND r.state <> 'running' {}", shared::is_own(ledger));
    let left = left(ledger, &which, &[])?;
    with_deliveries(ledger, left.into_iter().collect())
}

/// Runs by their numbers, without their deliveries.
fn left(ledger: &Db, which: &str, values: &[Value<'_>]) -> Result<Vec<(i64, Unfinished)>, LedgerError> {
    let select = format!(
        "SELECT r.seq, r.id AS run_id, r.origin, r.state, s.share, s.at, s.interval_start, s.interval_end,
                CASE WHEN r.origin IN ('manual', 'backfill') THEN NULL ELSE s.deadline_at END AS deadline
         FROM runs r JOIN slots s ON s.id = r.slot WHERE {which}"
    );
    ledger.all(&select, values, |row| {
        let (run, slot, origin, state) = (run_id(row)?, slot(row)?, origin(row)?, state(row, "state")?);
        let (deadline, taken_over, deliveries) = (maybe_at(row, "deadline")?, false, Vec::new());
        Ok((row.get("seq")?, Unfinished { run, slot, origin, deadline, state, taken_over, deliveries }))
    })
}

fn with_deliveries(ledger: &Db, mut left: BTreeMap<i64, Unfinished>) -> Result<Vec<Unfinished>, LedgerError> {
    for (seq, unfinished) in &mut left {
        unfinished.deliveries = open_deliveries(ledger, *seq)?;
    }
    Ok(left.into_values().collect())
}

fn open_deliveries(ledger: &Db, run: i64) -> Result<Vec<OpenDelivery>, LedgerError> {
    let select = "SELECT * FROM deliveries WHERE run = ?1 ORDER BY customer";
    let all = ledger.all(select, values![run], |row| open(ledger, row))?;
    Ok(all.into_iter().filter(|open| !open.state.has_ended() || !open.uploads.is_empty()).collect())
}

pub(super) fn open_delivery(ledger: &Db, delivery: DeliveryId) -> Result<OpenDelivery, LedgerError> {
    ledger
        .first("SELECT * FROM deliveries WHERE id = ?1", values![delivery.0], |row| open(ledger, row))?
        .ok_or_else(|| LedgerError::Unknown { record: format!("delivery {}", delivery.0) })
}

fn open(ledger: &Db, row: &Row<'_>) -> Result<OpenDelivery, LedgerError> {
    let id = DeliveryId(row.get("id")?);
    let (attempt, uploads) = (open_attempt(ledger, id)?, open_uploads(ledger, id)?);
    let (customer, state) = (customer(row)?, state(row, "state")?);
    let (tries, due) = (number(row, "tries")?, maybe_at(row, "due_at")?);
    let cancel = maybe_json(row, "cancel")?;
    Ok(OpenDelivery { id, customer, state, tries, due, cancel, attempt, uploads })
}

pub(super) fn open_attempt(ledger: &Db, delivery: DeliveryId) -> Result<Option<OpenAttempt>, LedgerError> {
    let select = "SELECT * FROM attempts WHERE delivery = ?1 AND state IN ('working', 'sealed')";
    ledger.first(select, values![delivery.0], |row| {
        let id = AttemptId(row.get("id")?);
        let objects = completing::sealed_objects(ledger, id)?;
        let (state, started) = (state(row, "state")?, at(row, "started_at")?);
        let draft = maybe_json(row, "draft")?;
        let (destination, manifested) = (destination(row)?, is_manifested(ledger, id)?);
        let (number, is_first) = (number(row, "number")?, completing::is_first(ledger, id)?);
        Ok(OpenAttempt { id, number, state, started, objects, draft, destination, manifested, is_first })
    })
}

fn open_uploads(ledger: &Db, delivery: DeliveryId) -> Result<Vec<OpenUpload>, LedgerError> {
    ledger.all(
        "SELECT u.*, a.endpoint, a.bucket, a.owner, a.manifest_key FROM attempts a JOIN uploads u ON u.attempt = a.id
             WHERE a.delivery = ?1 AND u.state = 'created' ORDER BY u.id",
        values![delivery.0],
        |row| {
            Ok(OpenUpload {
                attempt: AttemptId(row.get("attempt")?),
                destination: destination(row)?,
                key: row.get("key")?,
                upload_id: row.get("upload_id")?,
                created: at(row, "created_at")?,
            })
        },
    )
}
