//! The commands on runs and what is below them, each inside the writer's transaction.

use super::claim::release;
use super::db::{Db, Row, values};
use super::row::{count, customer, maybe_json, number, slot, state, step, to_json};
use super::slots::finish_slot;
use super::state::{
    AttemptEvent, AttemptState, DeliveryEvent, DeliveryState, RunEvent, RunState, State, UploadEvent, UploadState,
};
use super::{
    Attempt, AttemptId, Committed, DeliveryId, Formatter, Holder, LedgerError, Order, completing, faults,
    order as orders, ready,
};
use crate::clock::Instant;
use crate::domain::{Destination, Draft, Failure, Leaves, RunId, SealedObject};

pub(super) fn attempt_started(
    ledger: &Db,
    now: Instant,
    delivery: DeliveryId,
    destination: Option<&Destination>,
    (formatter, order): (Option<&Formatter>, &Order),
) -> Result<Attempt, LedgerError> {
    if let Some(formatter) = formatter {
        faults::refuse(ledger, formatter)?;
    }
    orders::allows(ledger, now, delivery, destination, order)?;
    step::<DeliveryState>(ledger, delivery.0, DeliveryEvent::Work, "due_at = NULL", &[])?;
    if let Some(destination) = destination {
        // Of two that begin at once, the second sees the first.
        ledger.alone(&format!("key {} {}", destination.bucket, destination.manifest_key))?;
        if let Some(by) = key_taken(ledger, delivery, destination, order)? {
            return Err(LedgerError::KeyTaken { key: destination.manifest_key.clone(), by: Box::new(by) });
        }
    }
    let counts = "SELECT 1 + (SELECT count(*) FROM attempts WHERE delivery = ?1) AS number, tries, cancel
                  FROM deliveries WHERE id = ?1";
    let counts = ledger.first(counts, values![delivery.0], |row| {
        Ok((number(row, "number")?, number(row, "tries")?, maybe_json(row, "cancel")?))
    })?;
    let unknown = || LedgerError::Unknown { record: format!("delivery {}", delivery.0) };
    let (number, tries, cancel) = counts.ok_or_else(unknown)?;
    let component = formatter.map(|formatter| formatter.digest.to_string());
    let (endpoint, bucket, owner, key) = match destination {
        Some(Destination { endpoint, bucket, owner, manifest_key }) => {
            (endpoint.as_deref(), Some(bucket.as_str()), Some(owner.as_str()), Some(manifest_key.as_str()))
        }
        None => (None, None, None, None),
    };
    let id = ledger.insert(
        "INSERT INTO attempts (delivery, number, state, started_at, endpoint, bucket, owner, manifest_key, digest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) RETURNING id",
        values![
            delivery.0,
            number,
            AttemptState::Working.as_str(),
            now,
            endpoint,
            bucket,
            owner,
            key,
            component.as_ref()
        ],
    )?;
    let is_first = completing::is_first(ledger, AttemptId(id))?;
    Ok(Attempt { id: AttemptId(id), number, tries, cancel, is_first })
}

/// Another slot, or another customer's, whose delivery has the same manifest or is about to.
/// Slots of one share may have it in common where each takes the place of the one before.
fn key_taken(
    ledger: &Db,
    delivery: DeliveryId,
    destination: &Destination,
    order: &Order,
) -> Result<Option<Holder>, LedgerError> {
    let Destination { endpoint, bucket, manifest_key, .. } = destination;
    let other = match order {
        Order::Any | Order::OneByOne { .. } => {
            "(d.slot, d.customer) <> (SELECT slot, customer FROM deliveries WHERE id = ?4)"
        }
        Order::Forward => "s.share <> (SELECT s.share FROM deliveries d JOIN slots s ON s.id = d.slot WHERE d.id = ?4)",
    };
    let taken = format!(
        "SELECT s.share, s.at, s.interval_start, s.interval_end, d.customer, a.state = 'committed' AS has_it
             FROM attempts a JOIN deliveries d ON d.id = a.delivery JOIN slots s ON s.id = d.slot
             WHERE a.manifest_key = ?1 AND a.state IN ('working', 'sealed', 'committed')
               AND a.bucket = ?2 AND a.endpoint IS NOT DISTINCT FROM ?3 AND {other} LIMIT 1"
    );
    let holder = |row: &Row<'_>| Ok(Holder { slot: slot(row)?, customer: customer(row)?, has_it: row.get("has_it")? });
    ledger.first(&taken, values![manifest_key, bucket.as_str(), endpoint.as_deref(), delivery.0], holder)
}

pub(super) fn upload_created(
    ledger: &Db,
    now: Instant,
    attempt: AttemptId,
    key: &str,
    upload_id: &str,
) -> Result<(), LedgerError> {
    delivery_of(ledger, attempt)?;
    ledger
        .execute(
            "INSERT INTO uploads (attempt, key, upload_id, state, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (attempt, upload_id) DO NOTHING",
            values![attempt.0, key, upload_id, UploadState::Created.as_str(), now],
        )
        .map(drop)
}

/// Ends an upload without its object. Once more changes nothing.
pub(super) fn upload_ended(
    ledger: &Db,
    now: Instant,
    attempt: AttemptId,
    upload_id: &str,
    event: UploadEvent,
) -> Result<(), LedgerError> {
    let select = "SELECT id, state FROM uploads WHERE attempt = ?1 AND upload_id = ?2";
    let read = |row: &Row<'_>| Ok((row.get("id")?, state::<UploadState>(row, "state")?));
    let found = ledger.first(select, values![attempt.0, upload_id], read)?;
    let (id, before) = found.ok_or_else(|| LedgerError::Unknown { record: format!("upload {upload_id}") })?;
    if before != UploadState::Created && UploadState::Created.after(event) == Some(before) {
        return Ok(());
    }
    step::<UploadState>(ledger, id, event, "ended_at = ?3", values![now])?;
    Ok(())
}

pub(super) fn drafted(ledger: &Db, attempt: AttemptId, draft: &Draft) -> Result<(), LedgerError> {
    let update = "UPDATE attempts SET draft = ?2 WHERE id = ?1 AND state = 'working'";
    match ledger.execute(update, values![attempt.0, &to_json(draft)?])? {
        0 => Err(LedgerError::Unknown { record: "attempt at work".into() }),
        _ => Ok(()),
    }
}

pub(super) fn sealed(ledger: &Db, attempt: AttemptId, objects: &[SealedObject]) -> Result<(), LedgerError> {
    step::<AttemptState>(ledger, attempt.0, AttemptEvent::Seal, "", &[])?;
    step::<DeliveryState>(ledger, delivery_of(ledger, attempt)?, DeliveryEvent::Seal, "", &[])?;
    let insert = "INSERT INTO objects (attempt, ordinal, key, bytes, rows, sealed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    for (ordinal, object) in (0i64..).zip(objects) {
        let (bytes, rows) = (count(object.bytes), count(object.rows));
        ledger.execute(insert, values![attempt.0, ordinal, &object.key, bytes, rows, &to_json(object)?])?;
    }
    Ok(())
}

pub(super) fn committed(
    ledger: &Db,
    now: Instant,
    attempt: AttemptId,
    committed: &Committed,
) -> Result<(), LedgerError> {
    let (delivery, component) = is_delivered(ledger, now, attempt, committed)?;
    // Without rows it may not have been asked at all, and has done neither well nor ill.
    let has_formatted = committed.rows > 0 || !committed.objects.is_empty();
    if let Some(component) = component.filter(|_| has_formatted) {
        faults::forgive(ledger, &component)?;
    }
    ready::has_delivered(ledger, now, delivery)
}

/// The same by somebody's word, which says nothing of its plugin and its customer.
pub(super) fn is_delivered(
    ledger: &Db,
    now: Instant,
    attempt: AttemptId,
    committed: &Committed,
) -> Result<(i64, Option<String>), LedgerError> {
    step::<AttemptState>(ledger, attempt.0, AttemptEvent::Commit, "ended_at = ?3", values![now])?;
    let (delivery, component) = of(ledger, attempt)?;
    let also = "failure = NULL, due_at = NULL, manifest_key = ?3, rows = ?4, bytes = ?5";
    let Committed { manifest_key, rows, bytes, objects, left } = committed;
    let values = values![manifest_key, count(*rows), count(*bytes)];
    step::<DeliveryState>(ledger, delivery, DeliveryEvent::Commit, also, values)?;
    let complete = "UPDATE objects SET etag = ?3 WHERE attempt = ?1 AND key = ?2";
    for object in objects {
        if ledger.execute(complete, values![attempt.0, &object.key, &object.etag])? == 0 {
            return Err(LedgerError::Unknown { record: format!("sealed object {} of the attempt", object.key) });
        }
    }
    let open = "SELECT id, upload_id FROM uploads WHERE attempt = ?1 AND state = 'created'";
    let open = ledger.all(open, values![attempt.0], |row| Ok((row.get("id")?, row.get::<String>("upload_id")?)))?;
    for (id, _) in open.into_iter().filter(|(_, upload_id)| !left.contains(upload_id)) {
        step::<UploadState>(ledger, id, UploadEvent::Complete, "ended_at = ?3", values![now])?;
    }
    release(ledger, delivery)?;
    Ok((delivery, component))
}

pub(super) fn failed(
    ledger: &Db,
    now: Instant,
    attempt: AttemptId,
    failure: &Failure,
    again: Option<Instant>,
) -> Result<(), LedgerError> {
    ended(ledger, now, attempt, (failure, 1), again)
}

/// An attempt has ended without its object, which is so many tries.
pub(super) fn ended(
    ledger: &Db,
    now: Instant,
    attempt: AttemptId,
    (failure, tries): (&Failure, i64),
    again: Option<Instant>,
) -> Result<(), LedgerError> {
    let (delivery, text) = (delivery_of(ledger, attempt)?, to_json(failure)?);
    // Where an upload of it is gone, nothing is left to go on with.
    if let Some(again) = again.filter(|_| failure.leaves != Leaves::Torn) {
        let postponed = ledger.execute(
            "UPDATE deliveries SET failure = ?2, due_at = ?3, tries = tries + ?5 WHERE id = ?1 AND state = 'sealed'
                 AND EXISTS (SELECT 1 FROM attempts WHERE id = ?4 AND state = 'sealed')",
            values![delivery, &text, again, attempt.0, tries],
        )?;
        if postponed > 0 {
            return release(ledger, delivery);
        }
    }
    let also = "ended_at = ?3, failure = ?4";
    step::<AttemptState>(ledger, attempt.0, AttemptEvent::Fail, also, values![now, &text])?;
    let event = if again.is_some() { DeliveryEvent::Wait } else { DeliveryEvent::Fail };
    let also = "failure = ?3, due_at = ?4, tries = tries + ?5";
    step::<DeliveryState>(ledger, delivery, event, also, values![&text, again, tries])?;
    release(ledger, delivery)
}

pub(super) fn put_off(
    ledger: &Db,
    deliveries: &[DeliveryId],
    failure: &Failure,
    due: Instant,
) -> Result<(), LedgerError> {
    let text = to_json(failure)?;
    for delivery in deliveries {
        let select = "SELECT state FROM deliveries WHERE id = ?1";
        match ledger.first(select, values![delivery.0], |row| state(row, "state"))? {
            Some(DeliveryState::Pending) => {
                let also = "failure = ?3, due_at = ?4";
                step::<DeliveryState>(ledger, delivery.0, DeliveryEvent::Wait, also, values![&text, due])?;
                release(ledger, delivery.0)?;
            }
            // For another reason, and for longer.
            Some(DeliveryState::Waiting) => {
                let longer = "UPDATE deliveries SET failure = ?2, due_at = ?3 WHERE id = ?1";
                ledger.execute(longer, values![delivery.0, &text, due])?;
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn interrupted(ledger: &Db, now: Instant, attempt: AttemptId) -> Result<(), LedgerError> {
    step::<AttemptState>(ledger, attempt.0, AttemptEvent::Interrupt, "ended_at = ?3", values![now])?;
    step::<DeliveryState>(ledger, delivery_of(ledger, attempt)?, DeliveryEvent::Interrupt, "due_at = NULL", &[])?;
    Ok(())
}

pub(super) fn run_finished(ledger: &Db, now: Instant, run: RunId) -> Result<RunState, LedgerError> {
    let select = "SELECT seq, slot FROM runs WHERE id = ?1";
    let (seq, slot): (i64, i64) = ledger
        .first(select, values![&run.to_string()], |row| Ok((row.get("seq")?, row.get("slot")?)))?
        .ok_or_else(|| LedgerError::Unknown { record: format!("run {run}") })?;
    let select = "SELECT id, state FROM deliveries WHERE run = ?1";
    let deliveries = ledger.all(select, values![seq], |row| Ok((row.get("id")?, state(row, "state")?)))?;
    let (mut open, mut ended, mut event) = (0, RunState::Succeeded, RunEvent::Succeed);
    for (id, state) in deliveries {
        match state {
            DeliveryState::Committed => continue,
            DeliveryState::Failed => {}
            DeliveryState::Waiting => {
                step::<DeliveryState>(ledger, id, DeliveryEvent::Fail, "due_at = NULL", &[])?;
            }
            DeliveryState::Pending | DeliveryState::Working | DeliveryState::Sealed => open += 1,
        }
        (ended, event) = (RunState::Failed, RunEvent::Fail);
    }
    if open > 0 {
        return Err(LedgerError::StillOpen { run: run.to_string(), open });
    }
    step::<RunState>(ledger, seq, event, "finished_at = ?3", values![now])?;
    finish_slot(ledger, slot)?;
    Ok(ended)
}

fn delivery_of(ledger: &Db, attempt: AttemptId) -> Result<i64, LedgerError> {
    of(ledger, attempt).map(|(delivery, _)| delivery)
}

/// The delivery of an attempt, and the component that formats it.
pub(super) fn of(ledger: &Db, attempt: AttemptId) -> Result<(i64, Option<String>), LedgerError> {
    ledger
        .first("SELECT delivery, digest FROM attempts WHERE id = ?1", values![attempt.0], |row| {
            Ok((row.get("delivery")?, row.get("digest")?))
        })?
        .ok_or_else(|| LedgerError::Unknown { record: format!("attempt {}", attempt.0) })
}
