//! What a delivery writes down on its way, into the ledger or nowhere.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use crate::crash::{self, Point};
use crate::domain::{Draft, Failure, ObjectKey, SealedObject, UploadJournal};
use crate::ledger::{AttemptId, Ledger};

/// Writes into the ledger what [`UploadJournal`] asks for.
pub(super) struct Journal {
    pub(super) ledger: Ledger,
    pub(super) attempt: AttemptId,
    pub(super) sealed: AtomicBool,
}

#[async_trait]
impl UploadJournal for Journal {
    async fn upload_created(&self, key: &ObjectKey, upload_id: &str) -> Result<(), Failure> {
        crash::point(Point::UploadAnswered);
        self.ledger.upload_created(self.attempt, key, upload_id).await.map_err(|error| error.to_failure())?;
        crash::point(Point::UploadCreated);
        Ok(())
    }

    async fn upload_aborted(&self, upload_id: &str) -> Result<(), Failure> {
        crash::point(Point::AbortAnswered);
        self.ledger.upload_aborted(self.attempt, upload_id).await.map_err(|error| error.to_failure())?;
        crash::point(Point::Aborted);
        Ok(())
    }

    async fn drafted(&self, draft: &Draft) -> Result<(), Failure> {
        self.ledger.drafted(self.attempt, draft.clone()).await.map_err(|error| error.to_failure())?;
        crash::point(Point::Drafted);
        Ok(())
    }

    async fn sealed(&self, objects: &[SealedObject]) -> Result<(), Failure> {
        self.ledger.sealed(self.attempt, objects).await.map_err(|error| error.to_failure())?;
        self.sealed.store(true, Ordering::Relaxed);
        crash::point(Point::Sealed);
        Ok(())
    }

    async fn completions(&self, objects: &[SealedObject]) -> Result<(), Failure> {
        self.ledger.completions(self.attempt, objects).await.map_err(|error| error.to_failure())
    }

    async fn manifest_is_next(&self) -> Result<(), Failure> {
        self.ledger.manifest_is_next(self.attempt).await.map_err(|error| error.to_failure())
    }

    async fn manifested(&self, upload_id: &str) -> Result<(), Failure> {
        self.ledger.manifested(self.attempt, upload_id).await.map_err(|error| error.to_failure())
    }

    async fn is_ours(&self) -> Result<(), Failure> {
        self.ledger.is_ours().await.map_err(|error| error.to_failure())
    }

    async fn is_newest(&self) -> Result<bool, Failure> {
        self.ledger.is_newest(self.attempt).await.map_err(|error| error.to_failure())
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

    async fn drafted(&self, _: &Draft) -> Result<(), Failure> {
        Ok(())
    }

    async fn sealed(&self, _: &[SealedObject]) -> Result<(), Failure> {
        Ok(())
    }

    async fn completions(&self, _: &[SealedObject]) -> Result<(), Failure> {
        Ok(())
    }

    async fn manifest_is_next(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn manifested(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    async fn is_ours(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn is_newest(&self) -> Result<bool, Failure> {
        Ok(true)
    }
}
