//! From the last byte to the last object: what is stored becomes visible, the
//! manifest after all objects.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use futures::StreamExt as _;

use super::bucket::{Completing, Incomplete, Why};
use super::manifest::Place;
use super::object::Common;
use super::store::{Store, Target};
use super::uploads::REQUESTS_AT_ONCE;
use super::{Committed, Delivery, Left, failure};
use crate::crash::{self, Point};
use crate::domain::{Completion, Failure, Leaves, ManifestObject, Mode, Retry, Role, SealedObject, UploadJournal};

/// Every byte is stored, and the journal says so.
pub struct Sealed {
    common: Arc<Common>,
    objects: Vec<SealedObject>,
    markers: Vec<SealedObject>,
    place: Place,
    /// Nobody has asked for the manifest yet.
    unasked: bool,
    if_new: bool,
}

/// All objects are visible; the manifest is not.
pub struct Completed {
    pub(super) common: Arc<Common>,
    pub(super) objects: Vec<ManifestObject>,
    pub(super) markers: Vec<SealedObject>,
    pub(super) place: Place,
}

/// The manifest is there, and not yet what comes after it.
pub struct Manifested {
    pub(super) common: Arc<Common>,
    pub(super) markers: Vec<SealedObject>,
    pub(super) mode: Mode,
    /// The upload that has become the manifest. None if the journal has it already.
    pub(super) put_by: Option<String>,
    pub(super) committed: Committed,
}

impl Delivery {
    /// Takes up a delivery that was sealed before.
    ///
    /// # Errors
    /// The role cannot be assumed, or the profile's prefix has changed since.
    pub async fn resume(
        target: Target,
        journal: Arc<dyn UploadJournal>,
        spill_dir: PathBuf,
        left: Left,
    ) -> Result<Sealed, Failure> {
        let may_be_there = left.may_be_manifested();
        let resumed = resume(target, journal, spill_dir, left).await;
        resumed.map_err(|failure| if may_be_there { failure.in_doubt() } else { failure })
    }
}

async fn resume(
    target: Target,
    journal: Arc<dyn UploadJournal>,
    spill_dir: PathBuf,
    left: Left,
) -> Result<Sealed, Failure> {
    for object in &left.objects {
        target.0.recorded(&object.key)?;
    }
    let place = Place::left(&target.0, &left)?;
    let common = Common::new(target.0, journal, spill_dir);
    let manifests = left.manifest_uploads.iter().map(|(upload_id, _)| (&left.manifest_key, upload_id));
    let uploads = left.objects.iter().map(|object| (&object.key, &object.upload_id)).chain(manifests);
    uploads.for_each(|(key, upload_id)| common.uploads.remember(key, upload_id));
    // Whose manifest is there is delivered, whoever refuses what comes after it.
    if !left.manifested {
        common.store.open().await?;
    }
    let open = left.objects.iter().filter(|object| object.completion == Completion::Open).cloned();
    let asked: Vec<SealedObject> = open.map(|open| SealedObject { completion: Completion::InDoubt, ..open }).collect();
    if !asked.is_empty() {
        // For whoever comes after a crash: from here on they may have been asked for.
        common.uploads.journal().completions(&asked).await?;
    }
    Ok(Sealed::new(common, left.objects, place, left.unasked))
}

impl Left {
    /// The manifest may have been asked for: before that, all objects are known to be done.
    pub fn may_be_manifested(&self) -> bool {
        SealedObject::may_be_manifested(&self.objects, self.unasked)
    }
}

impl Sealed {
    pub(super) fn new(common: Arc<Common>, stored: Vec<SealedObject>, place: Place, unasked: bool) -> Self {
        let (objects, markers) = stored.into_iter().partition(|object| object.role == Role::Data);
        Self { common, objects, markers, place, unasked, if_new: false }
    }

    /// Has each object completed only if nothing has its key, and the first before all others: so that nothing of a delivery
    /// is replaced of which nobody knows any more.
    pub fn if_new(self, if_new: bool) -> Self {
        Self { if_new, ..self }
    }

    /// What the manifest is to name.
    pub fn objects(&self) -> &[SealedObject] {
        &self.objects
    }

    /// Makes all objects visible.
    ///
    /// # Errors
    /// An object did not complete. Others may have: the delivery stays sealed,
    /// and [`Delivery::resume`] goes on from here, unless [`Leaves::Torn`](crate::domain::Leaves).
    /// [`Layer::Conflict`](crate::domain::Layer) when something has the key of one that is to be new.
    pub async fn complete(self) -> Result<Completed, Failure> {
        let common = self.common.clone();
        common.tidied(self.complete_all().await).await
    }

    async fn complete_all(self) -> Result<Completed, Failure> {
        let Self { common, mut objects, markers, place, unasked, if_new } = self;
        let (failed, was_done) = (OnceLock::new(), objects.iter().all(|object| object.completion.is_done()));
        let (store, first) = (&common.store, &failed);
        let others = objects.split_off(usize::from(if_new).min(objects.len()));
        let alone = futures::future::join_all(objects.into_iter().map(|object| complete(store, object, first, true)));
        let mut objects = alone.await;
        objects.extend(
            futures::stream::iter(others)
                // Owned, so that the whole can be sent between threads (rust-lang/rust#102211).
                .map(|object| complete(store, object, first, if_new))
                // To the end of each that was asked for: a request that is cut off would be in doubt.
                .buffered(REQUESTS_AT_ONCE)
                .collect::<Vec<SealedObject>>()
                .await,
        );
        let journal = common.uploads.journal();
        let kept = match was_done {
            true if objects.is_empty() && unasked => journal.manifest_is_next().await,
            true => Ok(()),
            false => journal.completions(&objects).await,
        };
        if let Some(failure) = failed.into_inner() {
            return Err(failure);
        }
        kept?;
        let objects = objects.into_iter().map(ManifestObject::from).collect();
        Ok(Completed { common, objects, markers, place })
    }
}

impl Completed {
    /// What the manifest has to name, in order of creation.
    pub fn objects(&self) -> &[ManifestObject] {
        &self.objects
    }
}

async fn complete(store: &Store, mut object: SealedObject, failed: &OnceLock<Failure>, if_new: bool) -> SealedObject {
    if object.completion.is_done() || failed.get().is_some() {
        return object;
    }
    // That something has its key is known of what is spoiled.
    let answer = match if_new && object.completion != Completion::Spoiled {
        true => completed_if_new(store, &mut object).await,
        false => completed(store, &mut object).await,
    };
    match answer {
        Ok(()) => crash::point(Point::ObjectCompleted),
        // Whichever is the first is told.
        Err(failure) => drop(failed.set(failure)),
    }
    object
}

/// Asks for an object's completion, and keeps how far that is.
pub(super) async fn completed(store: &Store, object: &mut SealedObject) -> Result<(), Failure> {
    asked(store, object, false).await.map_err(|incomplete| incomplete.failure)
}

/// The same, if nothing has its key.
async fn completed_if_new(store: &Store, object: &mut SealedObject) -> Result<(), Failure> {
    let Err(Incomplete { failure, in_doubt, why }) = asked(store, object, true).await else { return Ok(()) };
    match why {
        // Asked whatever the attempts were told: not all that is between here and S3 tells the truth.
        Why::Exists => {
            if !object.completion.is_in_doubt() {
                object.completion = Completion::InDoubt;
            }
            if !store.is_gone(object).await? {
                object.completion = Completion::Open;
                return Err(failure::taken(&object.key, store.customer()));
            }
            // A lifecycle rule may have ended it.
            if !store.is_young(object.created) {
                return Err(Failure { retry: Retry::Later, leaves: Leaves::Torn, ..failure });
            }
            object.completion = Completion::Done(String::new());
            Ok(())
        }
        // S3 wants another upload then (S3 User Guide, "Add preconditions to S3 operations with conditional requests").
        Why::Contended if !in_doubt => Err(Failure { leaves: Leaves::Torn, ..failure }),
        _ => Err(failure),
    }
}

pub(super) async fn asked(store: &Store, object: &mut SealedObject, if_none_match: bool) -> Result<(), Incomplete> {
    let how = Completing { if_none_match, in_doubt: object.completion.is_in_doubt() };
    let answer = store.complete(object, how).await;
    match &answer {
        Ok(stored) => object.completion = Completion::Done(stored.etag.clone()),
        Err(Incomplete { why: Why::Spoiled, .. }) => object.completion = Completion::Spoiled,
        // No answer to this request settles what came of an earlier one.
        Err(_) if object.completion.is_in_doubt() || object.completion == Completion::Spoiled => {}
        Err(incomplete) if incomplete.in_doubt => object.completion = Completion::InDoubt,
        Err(_) => object.completion = Completion::Open,
    }
    answer.map(drop)
}

impl Common {
    /// After a failure the uploads stay, for the next try. Those that nobody knows of are of no use to it.
    pub(super) async fn tidied<T>(&self, ended: Result<T, Failure>) -> Result<T, Failure> {
        if ended.is_err() {
            self.store.end_strays(&self.uploads).await;
        }
        ended
    }
}
