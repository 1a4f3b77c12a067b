//! One delivery with its steps written down, so that a later process can go on.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::TimeDelta;

use super::{Delivered, Parts, Work, crash, deliver};
use crate::config::{Config, Customer};
use crate::delivery::{Delivery, Left, Target};
use crate::domain::{CustomerName, Failure, Manifest, ObjectKey, RunId, SealedObject, Slot, UploadJournal};
use crate::ledger::{
    self, AttemptId, AttemptState, DeliveryId, DeliveryState, Ledger, LedgerError, OpenAttempt, OpenDelivery,
    OpenUpload,
};

/// For how long each start tries to abort an upload that an earlier one could not.
const ABANDONED_AFTER: TimeDelta = TimeDelta::days(7);

/// How a delivery ended.
pub enum Outcome {
    Committed(Box<Manifest>),
    Failed(Failure),
}

/// Writes into the ledger what [`UploadJournal`] asks for.
struct Journal {
    ledger: Ledger,
    attempt: AttemptId,
}

#[async_trait]
impl UploadJournal for Journal {
    async fn upload_created(&self, key: &ObjectKey, upload_id: &str) -> Result<(), Failure> {
        self.ledger.upload_created(self.attempt, key, upload_id).await.map_err(|error| error.to_failure())?;
        crash::point("upload-created");
        Ok(())
    }

    async fn upload_aborted(&self, upload_id: &str) -> Result<(), Failure> {
        self.ledger.upload_aborted(self.attempt, upload_id).await.map_err(|error| error.to_failure())
    }

    async fn drafted(&self, draft: &Manifest) -> Result<(), Failure> {
        self.ledger.drafted(self.attempt, draft).await.map_err(|error| error.to_failure())
    }

    async fn sealed(&self, objects: &[SealedObject]) -> Result<(), Failure> {
        self.ledger.sealed(self.attempt, objects).await.map_err(|error| error.to_failure())?;
        crash::point("sealed");
        Ok(())
    }
}

/// Remembers nothing: for output that stays on this machine.
pub struct NoJournal;

#[async_trait]
impl UploadJournal for NoJournal {
    async fn upload_created(&self, _: &ObjectKey, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    async fn upload_aborted(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    async fn drafted(&self, _: &Manifest) -> Result<(), Failure> {
        Ok(())
    }

    async fn sealed(&self, _: &[SealedObject]) -> Result<(), Failure> {
        Ok(())
    }
}

/// One attempt at one delivery. Err only when the ledger itself cannot be written.
pub async fn deliver_recorded(
    parts: &Parts,
    ledger: &Ledger,
    work: &Work,
    delivery: DeliveryId,
) -> Result<Outcome, LedgerError> {
    // Without a destination the delivery fails before it asks for an upload.
    let attempt = match ledger.attempt_started(delivery, work.destination().ok()).await {
        Err(LedgerError::KeyTaken { key, slot }) => {
            return fail_recorded(ledger, delivery, work.key_taken(&key, &slot)).await;
        }
        attempt => attempt?,
    };
    let journal = Arc::new(Journal { ledger: ledger.clone(), attempt: attempt.id });
    let delivered = match Target::bucket(&parts.vendor, &work.customer, work.run) {
        Ok(target) => deliver(parts, work, attempt.number, target, journal).await,
        Err(failure) => Err(failure),
    };
    record(ledger, attempt.id, delivered).await
}

/// Records a delivery that could not even begin.
pub async fn fail_recorded(ledger: &Ledger, delivery: DeliveryId, failure: Failure) -> Result<Outcome, LedgerError> {
    let attempt = ledger.attempt_started(delivery, None).await?;
    record(ledger, attempt.id, Err(failure)).await
}

/// Takes up what an earlier process left of a delivery. A sealed one rolls forward
/// without reading its source again, if its profile still leads to where it was
/// stored. Any other begins anew, once its uploads are ended. None when only
/// uploads were left of a delivery that had ended.
pub async fn resume(
    parts: &Parts,
    ledger: &Ledger,
    config: &Arc<Config>,
    run: RunId,
    slot: &Slot,
    open: OpenDelivery,
) -> Result<Option<Outcome>, LedgerError> {
    let OpenDelivery { id, customer, state, attempt, uploads } = open;
    let work = Work::new(config, slot, &customer, run);
    if let (Ok(work), Some(attempt)) = (&work, &attempt)
        && let Some((left, draft)) = sealed(attempt, &uploads)
        && attempt.destination.as_ref().is_some_and(|to| work.leads_to(to, &to.manifest_key))
    {
        let journal = Arc::new(Journal { ledger: ledger.clone(), attempt: attempt.id });
        let finished = roll_forward(parts, work, journal, left, draft).await;
        return record(ledger, attempt.id, finished).await.map(Some);
    }
    for upload in uploads {
        end_upload(parts, ledger, config, run, &customer, upload).await?;
    }
    if matches!(state, DeliveryState::Committed | DeliveryState::Failed) {
        return Ok(None);
    }
    let work = match (work, &attempt) {
        (Ok(work), _) => work,
        (Err(failure), Some(attempt)) => return record(ledger, attempt.id, Err(failure)).await.map(Some),
        (Err(failure), None) => return fail_recorded(ledger, id, failure).await.map(Some),
    };
    if let Some(attempt) = attempt {
        ledger.interrupted(attempt.id).await?;
    }
    deliver_recorded(parts, ledger, &work, id).await.map(Some)
}

/// What completes a sealed attempt.
fn sealed(attempt: &OpenAttempt, uploads: &[OpenUpload]) -> Option<(Left, Manifest)> {
    let (draft, manifest_key) = (attempt.draft.clone()?, attempt.destination.as_ref()?.manifest_key.clone());
    let manifests = uploads.iter().filter(|upload| upload.attempt == attempt.id && upload.key == manifest_key);
    let manifest_uploads = manifests.map(|upload| (upload.upload_id.clone(), upload.created)).collect();
    let left = Left { objects: attempt.objects.clone(), manifest_key, manifest_uploads };
    (attempt.state == AttemptState::Sealed).then_some((left, draft))
}

async fn roll_forward(
    parts: &Parts,
    work: &Work,
    journal: Arc<Journal>,
    left: Left,
    draft: Manifest,
) -> Result<Delivered, Failure> {
    let target = Target::bucket(&parts.vendor, &work.customer, work.run)?;
    let sealed = Delivery::resume(target, journal, parts.spill_dir.clone(), left).await?;
    super::finish(parts, sealed, draft).await
}

/// Aborts an upload that an earlier process left. What cannot be aborted now stays
/// in the ledger for the next start, and is given up when nothing leads to it.
async fn end_upload(
    parts: &Parts,
    ledger: &Ledger,
    config: &Config,
    run: RunId,
    customer: &CustomerName,
    upload: OpenUpload,
) -> Result<(), LedgerError> {
    let OpenUpload { attempt, destination, key, upload_id, created } = upload;
    let within_reach =
        |profile: &&Arc<Customer>| destination.as_ref().is_some_and(|to| super::leads_to(config, profile, to, &key));
    let Some(profile) = config.customers.get(customer).filter(within_reach) else {
        let bucket = destination.map(|to| to.to_string()).unwrap_or_default();
        tracing::warn!(
            key,
            bucket,
            "an upload is left to its bucket's lifecycle rule: no profile leads there any more"
        );
        return ledger.upload_abandoned(attempt, &upload_id).await;
    };
    let aborted = match Target::bucket(&parts.vendor, profile, run) {
        Ok(target) => target.abort_upload(&key, &upload_id).await,
        Err(failure) => Err(failure),
    };
    match aborted {
        Ok(()) => ledger.upload_aborted(attempt, &upload_id).await,
        Err(failure) if parts.clock.now() - created > ABANDONED_AFTER => {
            tracing::warn!(key, %failure, "an upload is left to its bucket's lifecycle rule: it could not be aborted");
            ledger.upload_abandoned(attempt, &upload_id).await
        }
        Err(failure) => {
            tracing::warn!(key, %failure, "an upload is left behind; the next start tries again");
            Ok(())
        }
    }
}

async fn record(
    ledger: &Ledger,
    attempt: AttemptId,
    delivered: Result<Delivered, Failure>,
) -> Result<Outcome, LedgerError> {
    match delivered {
        Ok(Delivered { manifest, committed }) => {
            let committed = ledger::Committed {
                manifest_key: committed.manifest_key.to_string(),
                rows: manifest.rows,
                bytes: manifest.objects.iter().map(|object| object.bytes).sum(),
                objects: manifest.objects.clone(),
            };
            ledger.committed(attempt, committed).await?;
            Ok(Outcome::Committed(Box::new(manifest)))
        }
        Err(failure) => {
            ledger.failed(attempt, failure.clone()).await?;
            Ok(Outcome::Failed(failure))
        }
    }
}
