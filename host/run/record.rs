//! One delivery with its steps written down, so that a later process can go on.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Delivered, Parts, Work, deliver};
use crate::delivery::Delivery;
use crate::delivery::Target;
use crate::domain::{Failure, Manifest, ObjectKey, SealedObject, UploadJournal};
use crate::ledger::{
    self, AttemptId, AttemptState, DeliveryId, DeliveryState, Ledger, LedgerError, OpenAttempt, OpenDelivery,
};

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
        self.ledger.upload_created(self.attempt, key, upload_id).await.map_err(|error| error.to_failure())
    }

    async fn upload_aborted(&self, upload_id: &str) -> Result<(), Failure> {
        self.ledger.upload_aborted(self.attempt, upload_id).await.map_err(|error| error.to_failure())
    }

    async fn drafted(&self, draft: &Manifest) -> Result<(), Failure> {
        self.ledger.drafted(self.attempt, draft).await.map_err(|error| error.to_failure())
    }

    async fn sealed(&self, objects: &[SealedObject]) -> Result<(), Failure> {
        self.ledger.sealed(self.attempt, objects).await.map_err(|error| error.to_failure())
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
    let attempt = ledger.attempt_started(delivery).await?;
    let journal = Arc::new(Journal { ledger: ledger.clone(), attempt: attempt.id });
    let delivered = match Target::bucket(&parts.vendor, &work.customer, work.run) {
        Ok(target) => deliver(parts, work, attempt.number, target, journal).await,
        Err(failure) => Err(failure),
    };
    record(ledger, attempt.id, delivered).await
}

/// Records a delivery that could not even begin.
pub async fn fail_recorded(ledger: &Ledger, delivery: DeliveryId, failure: Failure) -> Result<Outcome, LedgerError> {
    let attempt = ledger.attempt_started(delivery).await?;
    record(ledger, attempt.id, Err(failure)).await
}

/// Takes up what an earlier process left of a delivery: a sealed one rolls
/// forward without reading its source again, another begins anew once its uploads
/// are aborted. None when only uploads were left of a delivery that had ended.
pub async fn resume(
    parts: &Parts,
    ledger: &Ledger,
    work: &Work,
    open: OpenDelivery,
) -> Result<Option<Outcome>, LedgerError> {
    let target = match Target::bucket(&parts.vendor, &work.customer, work.run) {
        Ok(target) => target,
        Err(failure) => return fail_open(ledger, open, failure).await,
    };
    let OpenDelivery { id, state, attempt, uploads, .. } = open;
    if let Some(OpenAttempt { id: attempt, state: AttemptState::Sealed, objects, draft: Some(draft), .. }) = attempt {
        let manifest_key = work.manifest_key().map(|key| key.to_string()).unwrap_or_default();
        let ours = uploads.into_iter().filter(|upload| upload.attempt == attempt && upload.key == manifest_key);
        let manifest_uploads = ours.map(|upload| upload.upload_id).collect();
        let journal = Arc::new(Journal { ledger: ledger.clone(), attempt });
        let finished = finish_sealed(parts, work, target, journal, objects, manifest_uploads, draft).await;
        return record(ledger, attempt, finished).await.map(Some);
    }
    for upload in uploads {
        // What cannot be aborted now stays in the ledger for the next start.
        match target.abort_upload(&upload.key, &upload.upload_id).await {
            Ok(()) => ledger.upload_aborted(upload.attempt, &upload.upload_id).await?,
            Err(failure) => tracing::warn!(key = upload.key, %failure, "an upload is left behind"),
        }
    }
    if let Some(attempt) = attempt {
        ledger.interrupted(attempt.id).await?;
    }
    match state {
        DeliveryState::Committed | DeliveryState::Failed => Ok(None),
        _ => deliver_recorded(parts, ledger, work, id).await.map(Some),
    }
}

async fn finish_sealed(
    parts: &Parts,
    work: &Work,
    target: Target,
    journal: Arc<Journal>,
    objects: Vec<SealedObject>,
    manifest_uploads: Vec<String>,
    draft: Manifest,
) -> Result<Delivered, Failure> {
    let spec = work.spec(parts);
    let sealed = Delivery::resume(target, spec, journal, objects, manifest_uploads).await?;
    super::finish(parts, sealed, draft).await
}

/// Gives up what an earlier process left of a delivery, because of `failure`.
pub async fn fail_open(ledger: &Ledger, open: OpenDelivery, failure: Failure) -> Result<Option<Outcome>, LedgerError> {
    match (open.state, open.attempt) {
        (DeliveryState::Committed | DeliveryState::Failed, _) => Ok(None),
        (_, Some(attempt)) => record(ledger, attempt.id, Err(failure)).await.map(Some),
        (_, None) => fail_recorded(ledger, open.id, failure).await.map(Some),
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
