//! The manifest: put if there is none yet, or in the place of an earlier slot's.
//!
//! An upload id completes at most once, so the manifest has one upload, and goes on with it for as
//! long as it is there. Nobody aborts it while its completion is in doubt: that it is gone
//! is what tells that it has completed (`docs/decisions/0022-what-an-answer-proves.md`).

use bytes::Bytes;

use super::bucket::{Completing, Why};
use super::store::{Created, Store};
use super::{Committed, Completed, Left, Manifested, failure, local};
use crate::domain::{Failure, Layer, Leaves, Manifest, Mode, ObjectKey, Retry, Role, SealedObject};

pub(super) const MEDIA_TYPE: &str = "application/json";

/// How many uploads are tried while somebody else writes the same key, or ends them.
const TRIES: u32 = 3;

/// Where the manifest goes, and what is to become it.
pub(super) struct Place {
    key: ObjectKey,
    /// The newest last.
    uploads: Vec<Upload>,
    /// So old that a lifecycle rule may have ended them: they prove nothing.
    old: Vec<String>,
    /// One of them may have become it.
    may_be_by_old: bool,
    /// The journal says that it is there.
    is_taken: bool,
}

#[derive(Clone)]
struct Upload {
    created: Created,
    /// Its completion may have been asked for, and carried out.
    asked: bool,
}

impl Place {
    pub(super) fn new(key: ObjectKey, created: Created) -> Self {
        Self {
            key,
            uploads: vec![Upload { created, asked: false }],
            old: Vec::new(),
            may_be_by_old: false,
            is_taken: false,
        }
    }

    pub(super) fn left(store: &Store, left: &Left) -> Result<Self, Failure> {
        let key = store.recorded(&left.manifest_key)?;
        // The store is the same, and says the same of all.
        let full_checksum = left.objects.iter().any(|object| object.full_checksum);
        let (young, old): (Vec<_>, Vec<_>) =
            left.manifest_uploads.iter().cloned().partition(|(_, created)| store.is_young(*created));
        let uploads = young.into_iter().map(|(upload_id, created)| Upload {
            created: Created { upload_id, created, full_checksum },
            asked: left.may_be_manifested(),
        });
        let old: Vec<String> = old.into_iter().map(|(upload_id, _)| upload_id).collect();
        let may_be_by_old = !old.is_empty() && left.may_be_manifested();
        Ok(Self { key, uploads: uploads.collect(), old, may_be_by_old, is_taken: left.manifested })
    }
}

impl Completed {
    /// Puts the manifest: if there is none yet, or in the place of an earlier slot's. Its uploads
    /// are left to whoever writes down what came of it.
    ///
    /// # Errors
    /// [`Layer::Conflict`] when a committed delivery is there that is not this one.
    pub async fn manifest(self, manifest: &Manifest) -> Result<Manifested, Failure> {
        let common = self.common.clone();
        common.tidied(self.put(manifest).await).await
    }

    async fn put(mut self, manifest: &Manifest) -> Result<Manifested, Failure> {
        if self.place.is_taken {
            return Ok(self.manifested(manifest.mode, None).await);
        }
        let mut text = serde_json::to_vec_pretty(manifest).map_err(|error| local(format!("the manifest: {error}")))?;
        text.push(b'\n');
        let text = Bytes::from(text);
        for _ in 0..TRIES {
            if let Some(upload_id) = self.try_to_put(&text, manifest.mode).await? {
                return Ok(self.manifested(manifest.mode, Some(upload_id)).await);
            }
        }
        let what = format!("'{}': somebody else writes it, or ends what is to become it, all the time", self.place.key);
        let remedy = "find out who else delivers with this profile";
        Err(self.doubted(Failure::new(Layer::Conflict, Retry::Later, what, remedy)))
    }

    /// Tells which upload has put it; none if another upload is needed.
    async fn try_to_put(&mut self, text: &Bytes, mode: Mode) -> Result<Option<String>, Failure> {
        let object = self.filled(text).await?;
        let how = Completing { if_none_match: mode == Mode::Slot, in_doubt: false };
        let answer = self.common.store.complete(&object, how).await;
        let Err(incomplete) = answer else { return Ok(Some(object.upload_id)) };
        let (failure, in_doubt) = (incomplete.failure, incomplete.in_doubt);
        self.newest_was_asked(in_doubt || matches!(incomplete.why, Why::Exists | Why::Gone));
        match incomplete.why {
            Why::Gone => Ok(None),
            Why::Contended | Why::Spoiled if !in_doubt => self.give_up_newest().await,
            // Asked whatever the attempts were told: not all that is between here and S3 tells the truth.
            Why::Exists => match self.ours(text).await {
                Ok(Some(upload_id)) => Ok(Some(upload_id)),
                // One that is gone proves nothing after so long, but nor does that this manifest is another's.
                Ok(None) if self.place.may_be_by_old => Err(self.conflict().in_doubt()),
                Ok(None) => Err(self.conflict()),
                Err(_) => Err(failure.in_doubt()),
            },
            _ if in_doubt => match self.ours(text).await {
                // Of an earlier one nobody knows whether it has.
                Ok(Some(upload_id)) if upload_id == object.upload_id => Ok(Some(upload_id)),
                _ => Err(failure.in_doubt()),
            },
            _ => Err(self.doubted(failure)),
        }
    }

    /// The newest upload with the manifest in it, or another one where that is gone.
    async fn filled(&mut self, text: &Bytes) -> Result<SealedObject, Failure> {
        if let Some(object) = self.refilled(text).await.map_err(|failure| self.doubted(failure))? {
            return Ok(object);
        }
        let (store, uploads) = (&self.common.store, &self.common.uploads);
        let created = uploads.create(store, &self.place.key, MEDIA_TYPE).await;
        let created = created.map_err(|failure| self.doubted(failure))?;
        self.place.uploads.push(Upload { created: created.clone(), asked: false });
        self.fill(created, text).await.map_err(|failure| self.doubted(failure))
    }

    /// The part is also the question: it is taken only while the upload is there.
    async fn refilled(&mut self, text: &Bytes) -> Result<Option<SealedObject>, Failure> {
        let Some(newest) = self.place.uploads.last().cloned() else { return Ok(None) };
        match self.fill(newest.created.clone(), text).await {
            Ok(object) => {
                self.newest_was_asked(false);
                Ok(Some(object))
            }
            Err(gone) if gone.leaves == Leaves::Torn => {
                if !newest.asked {
                    // Somebody else has ended it, and nobody is to take it for one that has completed.
                    self.common.uploads.journal().upload_aborted(&newest.created.upload_id).await?;
                    self.place.uploads.pop();
                }
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn fill(&self, upload: Created, text: &Bytes) -> Result<SealedObject, Failure> {
        self.common.store.whole(Role::Data, &self.place.key, MEDIA_TYPE, upload, text.clone()).await
    }

    /// There is a manifest. It is this delivery's if an upload that may have become it is gone.
    async fn ours(&self, text: &Bytes) -> Result<Option<String>, Failure> {
        for Upload { created, .. } in self.place.uploads.iter().rev().filter(|upload| upload.asked) {
            match self.fill(created.clone(), text).await {
                Ok(_) => {}
                Err(gone) if gone.leaves == Leaves::Torn => return Ok(Some(created.upload_id.clone())),
                Err(failure) => return Err(failure),
            }
        }
        Ok(None)
    }

    fn newest_was_asked(&mut self, asked: bool) {
        if let Some(newest) = self.place.uploads.last_mut() {
            newest.asked = asked;
        }
    }

    /// Another upload is needed. Written down first: whoever comes after a crash is not to take one
    /// that we have aborted for one that has completed.
    async fn give_up_newest(&mut self) -> Result<Option<String>, Failure> {
        let Some(Upload { created, .. }) = self.place.uploads.pop() else { return Ok(None) };
        let given_up = self.common.uploads.journal().upload_aborted(&created.upload_id).await;
        given_up.map_err(|failure| self.doubted(failure))?;
        let key = self.place.key.as_str();
        if let Err(failure) = self.common.store.abort(key, &created.upload_id).await {
            tracing::warn!(key, %failure, "an upload is left to its bucket's lifecycle rule");
        }
        Ok(None)
    }

    fn conflict(&self) -> Failure {
        failure::conflict(self.place.key.as_str(), self.common.store.customer(), self.place.old.is_empty())
    }

    fn doubted(&self, failure: Failure) -> Failure {
        match self.place.may_be_by_old || self.place.uploads.iter().any(|upload| upload.asked) {
            true => failure.in_doubt(),
            false => Failure { leaves: Leaves::Whole, ..failure },
        }
    }

    /// Ends what else was to become it.
    async fn manifested(self, mode: Mode, put_by: Option<String>) -> Manifested {
        let Self { common, objects, markers, place: Place { key, uploads, old, .. } } = self;
        let mut others: Vec<String> = uploads.into_iter().map(|upload| upload.created.upload_id).chain(old).collect();
        others.retain(|upload_id| Some(upload_id) != put_by.as_ref());
        let mut left = Vec::new();
        for upload_id in others {
            left.extend(common.uploads.abort_if_possible(&common.store, key.as_str(), &upload_id).await);
        }
        let committed = Committed { manifest_key: key, objects, left, lacking: None };
        Manifested { common, markers, mode, put_by, committed }
    }
}
