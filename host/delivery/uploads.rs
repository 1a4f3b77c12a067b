//! The uploads that a delivery has created: written down before they hold
//! anything, so that none is left behind unknown.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::store::{Created, Store};
use super::{closed, local};
use crate::crash::{self, Point};
use crate::domain::{Failure, ObjectKey, UploadJournal};

/// Requests of one delivery at the same time that carry no data.
pub(super) const REQUESTS_AT_ONCE: usize = 8;

#[derive(Clone)]
pub(super) struct Uploads {
    journal: Arc<dyn UploadJournal>,
    known: Arc<Mutex<Vec<(String, String)>>>,
    creating: TaskTracker,
    turns: Arc<Semaphore>,
}

impl Uploads {
    pub(super) fn new(journal: Arc<dyn UploadJournal>) -> Self {
        let turns = Arc::new(Semaphore::new(REQUESTS_AT_ONCE));
        Self { journal, known: Arc::default(), creating: TaskTracker::new(), turns }
    }

    pub(super) fn journal(&self) -> &dyn UploadJournal {
        self.journal.as_ref()
    }

    /// Once it has its turn, goes on to its end even when the caller is dropped: a request that is
    /// cut off may still be carried out, and its upload would be unknown.
    pub(super) async fn create(
        &self,
        store: &Arc<Store>,
        key: &ObjectKey,
        media_type: &str,
    ) -> Result<Created, Failure> {
        let turn = self.turns.clone().acquire_owned().await.map_err(closed)?;
        let (uploads, store) = (self.clone(), store.clone());
        let (key, media_type) = (key.clone(), media_type.to_owned());
        let created = self.creating.spawn(async move {
            let created = store.create(&key, &media_type).await;
            drop(turn);
            let created = created?;
            uploads.remember(key.as_str(), &created.upload_id);
            uploads.journal.upload_created(&key, &created.upload_id).await?;
            Ok(created)
        });
        created.await.map_err(|error| local(format!("an upload was not begun: {error}")))?
    }

    pub(super) fn remember(&self, key: &str, upload_id: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).push((key.to_owned(), upload_id.to_owned()));
    }

    /// Those that this delivery is known to have.
    pub(super) fn known(&self) -> BTreeSet<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(_, upload_id)| upload_id.clone()).collect()
    }

    /// Of no more use. Tells it again if it may be there still.
    pub(super) async fn abort_if_possible(&self, store: &Store, key: &str, upload_id: &str) -> Option<String> {
        let failure = self.abort_one(store, key, upload_id).await.err()?;
        tracing::warn!(key, %failure, "an upload is left behind, and is tried again later");
        Some(upload_id.to_owned())
    }

    async fn abort_one(&self, store: &Store, key: &str, upload_id: &str) -> Result<(), Failure> {
        crash::point(Point::Aborting);
        store.abort(key, upload_id).await?;
        self.journal.upload_aborted(upload_id).await
    }

    /// Aborts all of them, also those that are being created at this moment; the
    /// first failure is told after all were tried. Once nobody answers the others are
    /// left to whoever reads the journal: each would wait as long.
    pub(super) async fn abort(&self, store: &Store) -> Result<(), Failure> {
        self.creating.close();
        self.creating.wait().await;
        let known = std::mem::take(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner));
        let mut aborts = futures::stream::iter(known)
            .map(|(key, upload_id)| async move { self.abort_one(store, &key, &upload_id).await })
            .buffer_unordered(REQUESTS_AT_ONCE);
        let mut all = Ok(());
        while let Some(one) = aborts.next().await {
            let is_silence = one.as_ref().is_err_and(Failure::is_silence);
            all = all.and(one);
            if is_silence {
                break;
            }
        }
        all
    }
}
