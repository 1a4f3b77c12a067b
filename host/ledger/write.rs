//! The commands on runs and what is below them, each inside the writer's transaction.

use rusqlite::{Connection, OptionalExtension, params};

use super::claim::release;
use super::row::{At, count, slot, state, step, to_json};
use super::slots::finish_slot;
use super::state::{
    AttemptEvent, AttemptState, DeliveryEvent, DeliveryState, RunEvent, RunState, State, UploadEvent, UploadState,
};
use super::{Attempt, AttemptId, Committed, DeliveryId, LedgerError};
use crate::clock::Instant;
use crate::domain::{Destination, Failure, Manifest, RunId, SealedObject, Slot};

pub(super) fn attempt_started(
    ledger: &Connection,
    now: Instant,
    delivery: DeliveryId,
    destination: Option<&Destination>,
) -> Result<Attempt, LedgerError> {
    step::<DeliveryState>(ledger, delivery.0, DeliveryEvent::Work, "due_at = NULL", &[])?;
    if let Some(destination) = destination
        && let Some(slot) = key_taken(ledger, delivery, destination)?
    {
        return Err(LedgerError::KeyTaken { key: destination.manifest_key.clone(), slot: Box::new(slot) });
    }
    let (number, tries): (u32, u32) = ledger
        .prepare_cached(
            "SELECT 1 + (SELECT count(*) FROM attempts WHERE delivery = ?1), tries FROM deliveries WHERE id = ?1",
        )?
        .query_row([delivery.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (endpoint, bucket, owner, key) = match destination {
        Some(Destination { endpoint, bucket, owner, manifest_key }) => {
            (endpoint.as_deref(), Some(bucket.as_str()), Some(owner.as_str()), Some(manifest_key.as_str()))
        }
        None => (None, None, None, None),
    };
    ledger
        .prepare_cached(
            "INSERT INTO attempts (delivery, number, state, started_at, endpoint, bucket, owner, manifest_key)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![delivery.0, number, AttemptState::Working.as_str(), At(now), endpoint, bucket, owner, key])?;
    Ok(Attempt { id: AttemptId(ledger.last_insert_rowid()), number, tries })
}

/// Another slot, or another customer's, whose delivery has the same manifest or is about to.
fn key_taken(
    ledger: &Connection,
    delivery: DeliveryId,
    destination: &Destination,
) -> Result<Option<Slot>, LedgerError> {
    let Destination { endpoint, bucket, manifest_key, .. } = destination;
    ledger
        .prepare_cached(
            "SELECT s.share, s.at, s.interval_start, s.interval_end
             FROM attempts a JOIN deliveries d ON d.id = a.delivery JOIN slots s ON s.id = d.slot
             WHERE a.manifest_key = ?1 AND a.state IN ('working', 'sealed', 'committed')
               AND a.bucket = ?2 AND a.endpoint IS ?3
               AND (d.slot, d.customer) <> (SELECT slot, customer FROM deliveries WHERE id = ?4) LIMIT 1",
        )?
        .query_and_then(params![manifest_key, bucket.as_str(), endpoint.as_deref(), delivery.0], slot)?
        .next()
        .transpose()
}

pub(super) fn upload_created(
    ledger: &Connection,
    now: Instant,
    attempt: AttemptId,
    key: &str,
    upload_id: &str,
) -> Result<(), LedgerError> {
    delivery_of(ledger, attempt)?;
    ledger
        .prepare_cached(
            "INSERT INTO uploads (attempt, key, upload_id, state, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (attempt, upload_id) DO NOTHING",
        )?
        .execute(params![attempt.0, key, upload_id, UploadState::Created.as_str(), At(now)])?;
    Ok(())
}

/// Ends an upload without its object.
pub(super) fn upload_ended(
    ledger: &Connection,
    now: Instant,
    attempt: AttemptId,
    upload_id: &str,
    event: UploadEvent,
) -> Result<(), LedgerError> {
    let id: Option<i64> = ledger
        .prepare_cached("SELECT id FROM uploads WHERE attempt = ?1 AND upload_id = ?2")?
        .query_row(params![attempt.0, upload_id], |row| row.get(0))
        .optional()?;
    let id = id.ok_or_else(|| LedgerError::Unknown { record: format!("upload {upload_id}") })?;
    step::<UploadState>(ledger, id, event, "ended_at = ?3", &[&At(now)])?;
    Ok(())
}

pub(super) fn drafted(ledger: &Connection, attempt: AttemptId, draft: &Manifest) -> Result<(), LedgerError> {
    let mut update = ledger.prepare_cached("UPDATE attempts SET draft = ?2 WHERE id = ?1 AND state = 'working'")?;
    match update.execute(params![attempt.0, to_json(draft)?])? {
        0 => Err(LedgerError::Unknown { record: "attempt at work".into() }),
        _ => Ok(()),
    }
}

pub(super) fn sealed(ledger: &Connection, attempt: AttemptId, objects: &[SealedObject]) -> Result<(), LedgerError> {
    step::<AttemptState>(ledger, attempt.0, AttemptEvent::Seal, "", &[])?;
    step::<DeliveryState>(ledger, delivery_of(ledger, attempt)?, DeliveryEvent::Seal, "", &[])?;
    let mut insert = ledger.prepare_cached(
        "INSERT INTO objects (attempt, ordinal, key, bytes, rows, sealed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (ordinal, object) in (0i64..).zip(objects) {
        let (bytes, rows) = (count(object.bytes), count(object.rows));
        insert.execute(params![attempt.0, ordinal, object.key, bytes, rows, to_json(object)?])?;
    }
    Ok(())
}

pub(super) fn committed(
    ledger: &Connection,
    now: Instant,
    attempt: AttemptId,
    committed: &Committed,
) -> Result<(), LedgerError> {
    step::<AttemptState>(ledger, attempt.0, AttemptEvent::Commit, "ended_at = ?3", &[&At(now)])?;
    let delivery = delivery_of(ledger, attempt)?;
    let also = "failure = NULL, due_at = NULL, manifest_key = ?3, rows = ?4, bytes = ?5";
    let Committed { manifest_key, rows, bytes, objects } = committed;
    let values: [&dyn rusqlite::ToSql; 3] = [manifest_key, &count(*rows), &count(*bytes)];
    step::<DeliveryState>(ledger, delivery, DeliveryEvent::Commit, also, &values)?;
    let mut complete = ledger.prepare_cached("UPDATE objects SET etag = ?3 WHERE attempt = ?1 AND key = ?2")?;
    for object in objects {
        if complete.execute(params![attempt.0, object.key, object.etag])? == 0 {
            return Err(LedgerError::Unknown { record: format!("sealed object {} of the attempt", object.key) });
        }
    }
    let mut open = ledger.prepare_cached("SELECT id FROM uploads WHERE attempt = ?1 AND state = 'created'")?;
    let ids: Vec<i64> = open.query_map([attempt.0], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for id in ids {
        step::<UploadState>(ledger, id, UploadEvent::Complete, "ended_at = ?3", &[&At(now)])?;
    }
    release(ledger, delivery)
}

pub(super) fn failed(
    ledger: &Connection,
    now: Instant,
    attempt: AttemptId,
    failure: &Failure,
    again: Option<Instant>,
) -> Result<(), LedgerError> {
    let (delivery, text) = (delivery_of(ledger, attempt)?, to_json(failure)?);
    if let Some(again) = again {
        let postponed = ledger
            .prepare_cached(
                "UPDATE deliveries SET failure = ?2, due_at = ?3, tries = tries + 1 WHERE id = ?1 AND state = 'sealed'
                 AND EXISTS (SELECT 1 FROM attempts WHERE id = ?4 AND state = 'sealed')",
            )?
            .execute(params![delivery, text, At(again), attempt.0])?;
        if postponed > 0 {
            return release(ledger, delivery);
        }
    }
    let also = "ended_at = ?3, failure = ?4";
    step::<AttemptState>(ledger, attempt.0, AttemptEvent::Fail, also, &[&At(now), &text])?;
    let event = if again.is_some() { DeliveryEvent::Wait } else { DeliveryEvent::Fail };
    let also = "failure = ?3, due_at = ?4, tries = tries + 1";
    step::<DeliveryState>(ledger, delivery, event, also, &[&text, &again.map(At)])?;
    release(ledger, delivery)
}

pub(super) fn interrupted(ledger: &Connection, now: Instant, attempt: AttemptId) -> Result<(), LedgerError> {
    step::<AttemptState>(ledger, attempt.0, AttemptEvent::Interrupt, "ended_at = ?3", &[&At(now)])?;
    step::<DeliveryState>(ledger, delivery_of(ledger, attempt)?, DeliveryEvent::Interrupt, "due_at = NULL", &[])?;
    Ok(())
}

pub(super) fn run_finished(ledger: &Connection, now: Instant, run: RunId) -> Result<RunState, LedgerError> {
    let (seq, slot): (i64, i64) = ledger
        .prepare_cached("SELECT seq, slot FROM runs WHERE id = ?1")?
        .query_row([run.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .ok_or_else(|| LedgerError::Unknown { record: format!("run {run}") })?;
    let deliveries: Vec<(i64, DeliveryState)> = ledger
        .prepare_cached("SELECT id, state FROM deliveries WHERE run = ?1")?
        .query_and_then([seq], |row| Ok((row.get("id")?, state(row, "state")?)))?
        .collect::<Result<_, LedgerError>>()?;
    let (mut open, mut event) = (0, RunEvent::Succeed);
    for (id, state) in deliveries {
        match state {
            DeliveryState::Committed => continue,
            DeliveryState::Failed => {}
            DeliveryState::Waiting => {
                step::<DeliveryState>(ledger, id, DeliveryEvent::Fail, "due_at = NULL", &[])?;
            }
            DeliveryState::Pending | DeliveryState::Working | DeliveryState::Sealed => open += 1,
        }
        event = RunEvent::Fail;
    }
    if open > 0 {
        return Err(LedgerError::StillOpen { run: run.to_string(), open });
    }
    let ended = step::<RunState>(ledger, seq, event, "finished_at = ?3", &[&At(now)])?;
    finish_slot(ledger, slot)?;
    Ok(ended)
}

pub(super) fn limit_bytes(ledger: &Connection, bytes: u64) -> Result<(), LedgerError> {
    let page: i64 = ledger.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok(ledger.pragma_update_and_check(None, "max_page_count", count(bytes) / page, |_| Ok(()))?)
}

fn delivery_of(ledger: &Connection, attempt: AttemptId) -> Result<i64, LedgerError> {
    ledger
        .prepare_cached("SELECT delivery FROM attempts WHERE id = ?1")?
        .query_row([attempt.0], |row| row.get(0))
        .optional()?
        .ok_or_else(|| LedgerError::Unknown { record: format!("attempt {}", attempt.0) })
}
