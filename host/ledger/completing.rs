//! How far a sealed attempt's objects are on their way to be seen.

use super::db::{Db, Row, values};
use super::row::{json, maybe_json, to_json};
use super::state::UploadEvent;
use super::{AttemptId, Ledger, LedgerError, write};
use crate::domain::{Completion, Draft, Role, SealedObject, SkipReason};

impl Ledger {
    /// Keeps how far the completion of each of these objects is.
    pub async fn completions(&self, attempt: AttemptId, objects: &[SealedObject]) -> Result<(), LedgerError> {
        let objects = objects.to_vec();
        self.writer.run(move |ledger| completions(ledger, attempt, &objects)).await
    }

    /// The manifest of a sealed attempt may be asked for from here on.
    pub async fn manifest_is_next(&self, attempt: AttemptId) -> Result<(), LedgerError> {
        self.writer.run(move |ledger| manifest_is_next(ledger, attempt)).await
    }

    /// The manifest is in the bucket, put by this upload. What comes after it may not be.
    pub async fn manifested(&self, attempt: AttemptId, upload_id: &str) -> Result<(), LedgerError> {
        let (now, upload_id) = (self.clock.now(), upload_id.to_owned());
        let work = move |ledger: &Db| write::upload_ended(ledger, now, attempt, &upload_id, UploadEvent::Complete);
        self.writer.run(work).await
    }
}

fn completions(ledger: &Db, attempt: AttemptId, objects: &[SealedObject]) -> Result<(), LedgerError> {
    let keep = "UPDATE objects SET etag = ?3, sealed = ?4 WHERE attempt = ?1 AND key = ?2
                AND EXISTS (SELECT 1 FROM attempts WHERE id = ?1 AND state = 'sealed')";
    for object in objects {
        let etag = match &object.completion {
            Completion::Done(etag) => Some(etag.as_str()),
            _ => None,
        };
        if ledger.execute(keep, values![attempt.0, &object.key, etag, &to_json(object)?])? == 0 {
            return Err(LedgerError::Unknown { record: format!("object {} of a sealed attempt", object.key) });
        }
    }
    Ok(())
}

fn manifest_is_next(ledger: &Db, attempt: AttemptId) -> Result<(), LedgerError> {
    let select = "SELECT draft FROM attempts WHERE id = ?1 AND state = 'sealed'";
    let draft = ledger.first(select, values![attempt.0], |row| maybe_json::<Draft>(row, "draft"))?.flatten();
    let Some(draft) = draft.filter(|draft| draft.unasked) else { return Ok(()) };
    let asked = to_json(&Draft { unasked: false, ..draft })?;
    ledger.execute("UPDATE attempts SET draft = ?2 WHERE id = ?1", values![attempt.0, &asked]).map(drop)
}

/// In order of creation.
pub(super) fn sealed_objects(ledger: &Db, attempt: AttemptId) -> Result<Vec<SealedObject>, LedgerError> {
    let select = "SELECT sealed FROM objects WHERE attempt = ?1 ORDER BY ordinal";
    ledger.all(select, values![attempt.0], |row| json(row.get("sealed")?))
}

/// Whether no other attempt at the same delivery of the slot, to the same place, may have made an object visible. A delivery that a
/// person has declared lost does not count, nor one that was open in a backup: should its objects be there after all, the
/// conditional completion refuses instead of replacing them.
pub(super) fn is_first(ledger: &Db, attempt: AttemptId) -> Result<bool, LedgerError> {
    let others = "SELECT o.sealed FROM attempts own
                  JOIN deliveries od ON od.id = own.delivery
                  JOIN runs r ON r.slot = od.slot
                  JOIN deliveries d ON d.run = r.seq AND d.customer = od.customer
                  JOIN attempts a ON a.delivery = d.id
                  JOIN objects o ON o.attempt = a.id
                  WHERE own.id = ?1 AND a.id <> own.id AND a.bucket = own.bucket AND a.manifest_key = own.manifest_key
                    AND NOT (a.state = 'committed' AND d.state = 'failed') AND coalesce(d.reason, '') <> ?2";
    let read = |row: &Row<'_>| json::<SealedObject>(row.get("sealed")?);
    let others = ledger.all(others, values![attempt.0, SkipReason::Restored.as_str()], read)?;
    // What comes after the manifest comes after these.
    let mut data = others.iter().filter(|object| object.role == Role::Data);
    Ok(data.all(|object| object.completion == Completion::Open))
}

/// Whether the manifest of an attempt is known to be in the bucket.
pub(super) fn is_manifested(ledger: &Db, attempt: AttemptId) -> Result<bool, LedgerError> {
    let find = "SELECT EXISTS (SELECT 1 FROM attempts a JOIN uploads u ON u.attempt = a.id AND u.key = a.manifest_key
                               WHERE a.id = ?1 AND u.state = 'completed')";
    ledger.only(find, values![attempt.0])
}
