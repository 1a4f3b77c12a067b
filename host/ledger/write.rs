//! The commands, each inside the writer's transaction.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::row::{At, count, json, run_id, slot, state, step, to_json};
use super::state::{
    AttemptEvent, AttemptState, DeliveryEvent, DeliveryState, RunEvent, RunState, SlotEvent, SlotState, State,
    UploadEvent, UploadState,
};
use super::{Attempt, AttemptId, Claim, Committed, DeliveryId, LedgerError, Origin, Planned, Started};
use crate::clock::Instant;
use crate::domain::{CustomerName, Destination, Failure, Manifest, RunId, SealedObject, ShareName, Slot};

pub(super) fn plan(
    ledger: &Connection,
    now: Instant,
    planned: &[Planned],
    cursors: &[(ShareName, Instant)],
) -> Result<usize, LedgerError> {
    let mut new = 0;
    for Planned { slot, customers, skip } in planned {
        let customers = to_json(customers)?;
        let inserted = insert_slot(ledger, now, slot, Origin::Schedule, &customers, SlotState::Pending)?;
        new += usize::from(inserted);
        match skip {
            Some(reason) if inserted => {
                let id = ledger.last_insert_rowid();
                step::<SlotState>(ledger, id, SlotEvent::Skip, "reason = ?3", &[&reason.as_str()])?;
            }
            None if !inserted => take_over_manual(ledger, slot, &customers)?,
            _ => {}
        }
    }
    let mut move_cursor = ledger.prepare_cached(
        "INSERT INTO shares (name, cursor) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET cursor = max(cursor, excluded.cursor)",
    )?;
    for (share, cursor) in cursors {
        move_cursor.execute(params![share.as_str(), At(*cursor)])?;
    }
    Ok(new)
}

/// A slot that was sent by hand before its time came is still planned: for
/// whoever did not get it then.
fn take_over_manual(ledger: &Connection, slot: &Slot, customers: &str) -> Result<(), LedgerError> {
    let manual: Option<i64> = ledger
        .prepare_cached("SELECT id FROM slots WHERE share = ?1 AND at = ?2 AND origin = 'manual'")?
        .query_row(params![slot.share.as_str(), At(slot.at)], |row| row.get(0))
        .optional()?;
    if let Some(id) = manual {
        let also = "reason = NULL, origin = 'schedule', customers = ?3";
        step::<SlotState>(ledger, id, SlotEvent::Plan, also, &[&customers])?;
    }
    Ok(())
}

fn insert_slot(
    ledger: &Connection,
    now: Instant,
    slot: &Slot,
    origin: Origin,
    customers: &str,
    state: SlotState,
) -> Result<bool, LedgerError> {
    let inserted = ledger
        .prepare_cached(
            "INSERT INTO slots (share, at, interval_start, interval_end, origin, customers, state, planned_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (share, at) DO NOTHING",
        )?
        .execute(params![
            slot.share.as_str(),
            At(slot.at),
            At(slot.interval.start),
            At(slot.interval.end),
            origin.as_str(),
            customers,
            state.as_str(),
            At(now),
        ])?;
    Ok(inserted > 0)
}

pub(super) fn claim(ledger: &Connection, now: Instant, limit: usize) -> Result<Vec<Claim>, LedgerError> {
    let pending: Vec<(i64, Slot, Vec<CustomerName>)> = ledger
        .prepare_cached("SELECT * FROM slots WHERE state = 'pending' ORDER BY at, id LIMIT ?1")?
        .query_and_then([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok((row.get("id")?, slot(row)?, json(row.get("customers")?)?))
        })?
        .collect::<Result<_, LedgerError>>()?;
    let mut claims = Vec::with_capacity(pending.len());
    for (id, slot, customers) in pending {
        step::<SlotState>(ledger, id, SlotEvent::Start, "", &[])?;
        let mut open = BTreeSet::from_iter(customers);
        for taken in taken(ledger, id)? {
            open.remove(&taken.0);
        }
        if open.is_empty() {
            finish_slot(ledger, id)?;
            continue;
        }
        claims.push(begin(ledger, now, id, slot, Origin::Schedule, open)?);
    }
    Ok(claims)
}

pub(super) fn start_manual(
    ledger: &Connection,
    now: Instant,
    asked: &Slot,
    customers: Vec<CustomerName>,
) -> Result<Started, LedgerError> {
    if customers.is_empty() {
        return Ok(Started { claim: None, slot: asked.clone(), committed: Vec::new(), busy: Vec::new() });
    }
    insert_slot(ledger, now, asked, Origin::Manual, &to_json(&customers)?, SlotState::Running)?;
    let (id, origin, state, slot) = ledger
        .prepare_cached("SELECT * FROM slots WHERE share = ?1 AND at = ?2")?
        .query_and_then(params![asked.share.as_str(), At(asked.at)], |row| {
            let (id, state): (i64, SlotState) = (row.get("id")?, state(row, "state")?);
            Ok::<_, LedgerError>((id, super::row::origin(row)?, state, slot(row)?))
        })?
        .next()
        .ok_or_else(|| LedgerError::Unknown { record: format!("slot {asked}") })??;
    let mut open = BTreeSet::from_iter(customers);
    let (mut committed, mut busy) = (Vec::new(), Vec::new());
    for (customer, run, state) in taken(ledger, id)? {
        if open.remove(&customer) {
            let list = if state == DeliveryState::Committed { &mut committed } else { &mut busy };
            list.push((customer, run));
        }
    }
    // A scheduled slot that is still pending stays so, for its other customers.
    let scheduled = state == SlotState::Pending && origin == Origin::Schedule;
    if !scheduled && !open.is_empty() {
        step::<SlotState>(ledger, id, SlotEvent::Start, "reason = NULL", &[])?;
    }
    let claim = match open.is_empty() {
        true => None,
        false => Some(begin(ledger, now, id, slot.clone(), Origin::Manual, open)?),
    };
    Ok(Started { claim, slot, committed, busy })
}

/// Customers who have this slot already, or are getting it.
fn taken(ledger: &Connection, slot: i64) -> Result<Vec<(CustomerName, RunId, DeliveryState)>, LedgerError> {
    ledger
        .prepare_cached(
            "SELECT d.customer, d.state, r.id AS run_id FROM deliveries d JOIN runs r ON r.seq = d.run
             WHERE d.slot = ?1 AND d.state <> 'failed' ORDER BY d.customer",
        )?
        .query_and_then([slot], |row| Ok((super::row::customer(row)?, run_id(row)?, state(row, "state")?)))?
        .collect()
}

fn begin(
    ledger: &Connection,
    now: Instant,
    slot_id: i64,
    slot: Slot,
    origin: Origin,
    customers: BTreeSet<CustomerName>,
) -> Result<Claim, LedgerError> {
    let run = RunId::new(now);
    ledger
        .prepare_cached("INSERT INTO runs (id, slot, origin, state, started_at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![run.to_string(), slot_id, origin.as_str(), RunState::Running.as_str(), At(now)])?;
    let seq = ledger.last_insert_rowid();
    let mut insert =
        ledger.prepare_cached("INSERT INTO deliveries (run, slot, customer, state) VALUES (?1, ?2, ?3, ?4)")?;
    let mut deliveries = Vec::with_capacity(customers.len());
    for customer in customers {
        insert.execute(params![seq, slot_id, customer.as_str(), DeliveryState::Pending.as_str()])?;
        deliveries.push((customer, DeliveryId(ledger.last_insert_rowid())));
    }
    Ok(Claim { run, slot, origin, deliveries })
}

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
    Ok(())
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
            return Ok(());
        }
    }
    let also = "ended_at = ?3, failure = ?4";
    step::<AttemptState>(ledger, attempt.0, AttemptEvent::Fail, also, &[&At(now), &text])?;
    let event = if again.is_some() { DeliveryEvent::Wait } else { DeliveryEvent::Fail };
    let also = "failure = ?3, due_at = ?4, tries = tries + 1";
    step::<DeliveryState>(ledger, delivery, event, also, &[&text, &again.map(At)])?;
    Ok(())
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

/// A slot is done when its last run is, unless its scheduled work is yet to come.
fn finish_slot(ledger: &Connection, slot: i64) -> Result<(), LedgerError> {
    let running: bool = ledger
        .prepare_cached(
            "SELECT state = 'running' AND NOT EXISTS (SELECT 1 FROM runs WHERE slot = ?1 AND state = 'running')
             FROM slots WHERE id = ?1",
        )?
        .query_row([slot], |row| row.get(0))?;
    if running {
        step::<SlotState>(ledger, slot, SlotEvent::Finish, "", &[])?;
    }
    Ok(())
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
