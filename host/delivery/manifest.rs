//! The manifest: put where there is none yet, or in the place of an earlier slot's.

use bytes::Bytes;

use super::bucket::{Aborted, Completing, Incomplete};
use super::store::Store;
use super::{Committed, Completed, Manifested, before_known, failure, local};
use crate::domain::{Failure, Layer, Manifest, Mode, Retry, Role};

/// How often it is tried while somebody else writes the same key.
const TRIES: u32 = 3;

impl Completed {
    /// Puts the manifest: if there is none yet, or in the place of an earlier slot's.
    ///
    /// # Errors
    /// [`Layer::Conflict`] when a committed delivery is there that is not this one.
    pub async fn manifest(mut self, manifest: &Manifest) -> Result<Manifested, Failure> {
        let mut text = serde_json::to_vec_pretty(manifest).map_err(|error| local(format!("the manifest: {error}")))?;
        text.push(b'\n');
        let text = Bytes::from(text);
        // Nothing there would tell that it is this run's, as `If-None-Match` does.
        if manifest.mode == Mode::Replace && self.was_ours().await? {
            self.end_earlier().await;
            return Ok(self.manifested());
        }
        let mut tries = 1;
        loop {
            let Err(incomplete) = self.put(text.clone(), manifest.mode).await else {
                self.end_earlier().await;
                return Ok(self.manifested());
            };
            if incomplete.contended && tries < TRIES {
                tries += 1;
                continue;
            }
            if incomplete.contended {
                let what = format!("'{}' is being written by somebody else all the time", self.manifest_key);
                let remedy = "find out who else delivers with this profile";
                return Err(Failure::new(Layer::Conflict, Retry::Later, what, remedy));
            }
            if incomplete.exists && self.was_ours().await? {
                self.end_earlier().await;
                return Ok(self.manifested());
            }
            return Err(before_known(incomplete.failure, &self.earlier));
        }
    }

    /// One try, which leaves no upload that it knows to be there.
    async fn put(&self, text: Bytes, mode: Mode) -> Result<(), Incomplete> {
        let (store, uploads, key) = (&self.common.store, &self.common.uploads, &self.manifest_key);
        let media_type = "application/json";
        let created = uploads.create(store, key, media_type).await?;
        let upload_id = created.upload_id.clone();
        let object = match store.whole(Role::Data, key, media_type, created, text).await {
            Ok(object) => object,
            Err(failure) => {
                if let Err(left) = uploads.abort_one(store, key.as_str(), &upload_id).await {
                    tracing::warn!(failure = %left, "the manifest's upload is left behind");
                }
                return Err(failure.into());
            }
        };
        let how = Completing { if_none_match: mode == Mode::Slot, resumed: false };
        match store.complete(&object, how).await {
            Ok(_) => Ok(()),
            Err(incomplete) => self.give_up(&object.upload_id, incomplete).await,
        }
    }

    /// Ends an upload of the manifest that did not complete. Nobody else completes
    /// it: whether it is still there tells what became of it.
    async fn give_up(&self, upload_id: &str, incomplete: Incomplete) -> Result<(), Incomplete> {
        let (store, journal) = (&self.common.store, self.common.uploads.journal());
        // Asked before anything is written down, so that whoever comes after a crash finds the same.
        if incomplete.may_have_acted && matches!(store.is_open(&self.manifest_key, upload_id).await, Ok(false)) {
            return Ok(());
        }
        let key = self.manifest_key.as_str();
        if incomplete.exists {
            // First, because after a crash an upload that we had aborted would
            // look like one that had completed (`was_ours`).
            journal.upload_aborted(upload_id).await?;
        }
        let aborted = store.abort(key, upload_id).await;
        if incomplete.may_have_acted && matches!(aborted, Ok(Aborted::WasGone)) {
            return Ok(());
        }
        if !incomplete.exists && aborted.is_ok() {
            journal.upload_aborted(upload_id).await?;
        }
        let provable = matches!(aborted, Ok(Aborted::Now));
        let contended = incomplete.contended && provable;
        let failure = match store.as_ref() {
            Store::Bucket(_) if incomplete.exists => failure::conflict(key, store.customer(), provable),
            // It may be there, and nobody can say yet: only asking later tells, whatever was answered now.
            _ if incomplete.may_have_acted && aborted.is_err() => Failure { retry: Retry::Later, ..incomplete.failure },
            _ => incomplete.failure,
        };
        Err(Incomplete { failure, contended, ..incomplete })
    }

    /// There is a manifest. It is this run's if an earlier process had made an
    /// upload of it that is no longer there.
    async fn was_ours(&mut self) -> Result<bool, Failure> {
        let (store, key) = (&self.common.store, &self.manifest_key);
        while let Some(upload_id) = self.earlier.first().cloned() {
            // Only asked, and not aborted: whoever comes after a crash has to find the same.
            let asked = store.is_open(key, &upload_id).await;
            let is_open = asked.map_err(|failure| before_known(failure, &self.earlier))?;
            self.earlier.remove(0);
            if !is_open {
                return Ok(true);
            }
            // First, for the same reason as in `give_up`.
            self.common.uploads.journal().upload_aborted(&upload_id).await?;
            store.abort(key.as_str(), &upload_id).await?;
        }
        Ok(false)
    }

    /// Our manifest is there: ends what earlier processes had begun of it besides.
    async fn end_earlier(&self) {
        let (store, key) = (&self.common.store, self.manifest_key.as_str());
        for upload_id in &self.earlier {
            if let Err(left) = self.common.uploads.abort_one(store, key, upload_id).await {
                tracing::warn!(key, failure = %left, "an upload is left to its bucket's lifecycle rule");
            }
        }
    }

    fn manifested(self) -> Manifested {
        let Self { common, manifest_key, objects, markers, .. } = self;
        Manifested { common, markers, committed: Committed { manifest_key, objects, left: Vec::new() } }
    }
}
