//! Uploads that are of no more use: what an attempt left, and what failed after it was sealed.

use std::sync::{Arc, OnceLock};

use chrono::TimeDelta;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::Recorder;
use crate::config::Customer;
use crate::crash::{self, Point};
use crate::delivery::Target;
use crate::domain::Failure;
use crate::ledger::{AttemptId, DeliveryId, LedgerError, OpenUpload};

/// For how long an upload is tried again that could not be aborted.
const ABANDONED_AFTER: TimeDelta = TimeDelta::days(7);

/// Uploads of a delivery that are aborted at the same time.
const ABORTS_AT_ONCE: usize = 8;

/// Where uploads are that are to be aborted.
struct Way<'a> {
    profile: &'a Arc<Customer>,
    target: Result<Target, Failure>,
    /// Once nobody has answered, the others are not asked for either: each would wait as long.
    silence: OnceLock<Failure>,
}

impl Recorder<'_> {
    /// Aborts uploads that are of no more use. What cannot be aborted now stays in
    /// the ledger for another try, and is given up when nothing leads to it.
    pub(super) async fn end_uploads(&self, uploads: Vec<OpenUpload>) -> Result<(), LedgerError> {
        if uploads.is_empty() {
            return Ok(());
        }
        // One target, because each has a session of its own.
        let way = match self.config.customers.get(self.customer) {
            Some(profile) => Some(Way { profile, target: self.open(profile).await, silence: OnceLock::new() }),
            None => None,
        };
        let ending = stream::iter(uploads).map(|upload| self.end_upload(upload, way.as_ref()));
        ending.buffer_unordered(ABORTS_AT_ONCE).try_collect().await
    }

    /// The same, for as long as nobody tells the delivery to end; returns why it is to.
    pub(super) async fn end_uploads_until_told(
        &self,
        uploads: Vec<OpenUpload>,
    ) -> Result<Option<Failure>, LedgerError> {
        tokio::select! {
            ended = self.end_uploads(uploads) => ended.map(|()| None),
            why = self.stop.told() => Ok(Some(why)),
        }
    }

    async fn open(&self, profile: &Arc<Customer>) -> Result<Target, Failure> {
        let target = Target::bucket(&self.parts.vendor, profile, self.run)?;
        target.open().await.map(|()| target)
    }

    async fn end_upload(&self, upload: OpenUpload, way: Option<&Way<'_>>) -> Result<(), LedgerError> {
        let OpenUpload { attempt, destination, key, upload_id, created } = upload;
        let leads =
            |way: &&Way<'_>| destination.as_ref().is_some_and(|to| super::leads_to(self.config, way.profile, to, &key));
        let Some(Way { target, silence, .. }) = way.filter(leads) else {
            let bucket = destination.map(|to| to.to_string()).unwrap_or_default();
            tracing::warn!(key, bucket, "an upload is left to its bucket's lifecycle rule: no profile leads there");
            return self.abandon(attempt, &upload_id).await;
        };
        // Another consign that has taken over may be completing it.
        self.ledger.is_ours().await?;
        crash::point(Point::Aborting);
        let aborted = match (target, silence.get()) {
            (Err(failure), _) | (Ok(_), Some(failure)) => Err(failure.clone()),
            (Ok(target), None) => target.abort_upload(&key, &upload_id).await,
        };
        if let Err(failure) = &aborted
            && failure.is_silence()
        {
            silence.get_or_init(|| failure.clone());
        }
        match aborted {
            Ok(()) => {
                crash::point(Point::AbortAnswered);
                self.ledger.upload_aborted(attempt, &upload_id).await?;
                crash::point(Point::Aborted);
                Ok(())
            }
            Err(failure) if self.parts.clock.now() - created > ABANDONED_AFTER => {
                tracing::warn!(key, %failure, "an upload is left to its bucket's lifecycle rule: it cannot be aborted");
                self.abandon(attempt, &upload_id).await
            }
            Err(failure) => {
                tracing::warn!(key, %failure, "an upload is left behind, and is tried again later");
                Ok(())
            }
        }
    }

    /// All that is left of it.
    pub(super) async fn end_left(&self, delivery: DeliveryId) -> Result<(), LedgerError> {
        self.end_uploads(self.ledger.open_delivery(delivery).await?.uploads).await
    }

    async fn abandon(&self, attempt: AttemptId, upload_id: &str) -> Result<(), LedgerError> {
        self.ledger.upload_abandoned(attempt, upload_id).await?;
        crash::point(Point::Abandoned);
        Ok(())
    }
}
