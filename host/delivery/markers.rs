//! What comes after the manifest, for readers that do not look into it: an empty
//! `_SUCCESS`, and `latest.json`, which leads to the newest slot.
//!
//! Their bytes are stored before anything is visible, as all others are, so that
//! nothing but their completion is left when the manifest is there.

use std::slice;

use bytes::Bytes;
use serde::Serialize;

use super::bucket::{Completing, Why};
use super::completing::{asked, completed};
use super::object::Common;
use super::store::{Store, Stored};
use super::{Committed, DeliverySpec, Manifested, key_in, key_of, local};
use crate::clock::Instant;
use crate::crash::{self, Point};
use crate::domain::{
    Completion, CustomerName, Failure, LeafName, Leaves, ManifestInterval, Mode, ObjectKey, Retry, Role, SealedObject,
    ShareName,
};

const SUCCESS_TYPE: &str = "application/octet-stream";

/// To be stored.
pub(super) struct Marker {
    role: Role,
    pub(super) key: ObjectKey,
    contents: Bytes,
}

/// `latest.json`. Fields are only ever added.
#[derive(Serialize)]
struct Latest<'a> {
    latest_version: u32,
    share: &'a ShareName,
    customer: &'a CustomerName,
    slot: Instant,
    interval: ManifestInterval,
    /// Full key in the bucket.
    manifest: &'a str,
}

/// What there is to be, in this order.
pub(super) fn planned(store: &Store, spec: &DeliverySpec) -> Result<Vec<Marker>, Failure> {
    let mut planned = Vec::new();
    if spec.success_marker {
        let key = key_of(store, spec, &LeafName::success())?;
        planned.push(Marker { role: Role::SuccessMarker, key, contents: Bytes::new() });
    }
    if let Some(template) = &spec.latest_pointer {
        let manifest = key_of(store, spec, &LeafName::manifest())?;
        let latest = Latest {
            latest_version: 1,
            share: &spec.share,
            customer: &store.customer().name,
            slot: spec.slot,
            interval: ManifestInterval { start: spec.interval.start, end: spec.interval.end },
            manifest: manifest.as_str(),
        };
        let text = serde_json::to_string_pretty(&latest).map_err(|error| local(format!("latest.json: {error}")))?;
        let key = key_in(store, spec, template, &LeafName::latest())?;
        planned.push(Marker { role: Role::LatestPointer, key, contents: Bytes::from(text + "\n") });
    }
    Ok(planned)
}

impl Marker {
    /// After a failure its upload is left to be aborted.
    pub(super) async fn store(&self, common: &Common) -> Result<SealedObject, Failure> {
        let Self { role, key, contents } = self;
        let media_type = if *role == Role::SuccessMarker { SUCCESS_TYPE } else { "application/json" };
        let created = common.uploads.create(&common.store, key, media_type).await?;
        common.store.whole(*role, key, media_type, created, contents.clone()).await
    }
}

impl Manifested {
    /// Makes visible what comes after the manifest. `latest.json` only where the customer
    /// has got no later slot, so that it never goes back. What does not complete is told in
    /// [`Committed::lacking`] if it may do so later, when the delivery goes on from here.
    ///
    /// # Errors
    /// The journal cannot be read or written.
    pub async fn mark(self) -> Result<Committed, Failure> {
        let Self { common, mut markers, mode, put_by, mut committed } = self;
        let (store, uploads, journal) = (&common.store, &common.uploads, common.uploads.journal());
        for object in markers.iter_mut().filter(|object| !object.completion.is_done()) {
            if committed.lacking.is_some() {
                committed.left.push(object.upload_id.clone());
                continue;
            }
            let key = &object.key;
            if object.role == Role::LatestPointer && !journal.is_newest().await.map_err(Failure::in_doubt)? {
                committed.left.extend(uploads.abort_if_possible(store, key, &object.upload_id).await);
                continue;
            }
            let mut answer = match (object.role, mode) {
                (Role::SuccessMarker, Mode::Slot) => completed_if_missing(store, object, &mut committed.left).await,
                _ => completed(store, object).await,
            };
            if answer.is_err() {
                committed.left.push(object.upload_id.clone());
            }
            if object.role == Role::SuccessMarker
                && answer.as_ref().is_err_and(|failure| failure.leaves == Leaves::Torn)
            {
                answer = match stored_anew(&common, object, &mut committed.left).await {
                    Ok(anew) => {
                        // The next try goes on with this one, as whoever comes after a crash does.
                        journal.completions(slice::from_ref(&anew)).await.map_err(Failure::in_doubt)?;
                        put_anew(store, object, anew, &mut committed.left).await
                    }
                    Err(failure) => Err(failure),
                };
            }
            let Err(failure) = answer else {
                crash::point(Point::MarkerCompleted);
                continue;
            };
            let key = &object.key;
            match failure.retry {
                Retry::Later if failure.leaves != Leaves::Torn => committed.lacking = Some(failure),
                // The manifest is there: a repeat would only find it in its way.
                _ => {
                    tracing::warn!(key, %failure, remedy = failure.logged_remedy(), "delivered, but without this object")
                }
            }
        }
        if committed.lacking.is_some() {
            if let Some(upload_id) = put_by {
                journal.manifested(&upload_id).await.map_err(Failure::in_doubt)?;
            }
            journal.completions(&markers).await.map_err(Failure::in_doubt)?;
        }
        store.end_strays(uploads).await;
        Ok(committed)
    }
}

/// Asks for the completion of `_SUCCESS`. Where that is there, it is as it should be.
async fn completed_if_missing(store: &Store, object: &mut SealedObject, left: &mut Vec<String>) -> Result<(), Failure> {
    match asked(store, object, true).await {
        Err(incomplete) if incomplete.why == Why::Exists => {
            // Unless it is this that has become it.
            left.push(object.upload_id.clone());
            object.completion = Completion::Done(String::new());
            Ok(())
        }
        answer => answer.map_err(|incomplete| incomplete.failure),
    }
}

/// Another upload for `_SUCCESS`, whose own is gone: nothing is in it, so that it can be had again at any
/// time. An upload that comes to nothing is `left`.
async fn stored_anew(common: &Common, object: &SealedObject, left: &mut Vec<String>) -> Result<SealedObject, Failure> {
    let (store, uploads) = (&common.store, &common.uploads);
    let key = store.recorded(&object.key)?;
    let created = uploads.create(store, &key, SUCCESS_TYPE).await?;
    left.push(created.upload_id.clone());
    store.whole(object.role, &key, SUCCESS_TYPE, created, Bytes::new()).await
}

/// Asks for its completion. Where `_SUCCESS` is there by now, it is as it should be.
async fn put_anew(
    store: &Store,
    object: &mut SealedObject,
    anew: SealedObject,
    left: &mut Vec<String>,
) -> Result<(), Failure> {
    match store.complete(&anew, Completing { if_none_match: true, in_doubt: false }).await {
        Ok(Stored { etag }) => {
            left.retain(|upload_id| *upload_id != anew.upload_id);
            *object = SealedObject { completion: Completion::Done(etag), ..anew };
            Ok(())
        }
        Err(incomplete) if matches!(incomplete.why, Why::Exists) => {
            object.completion = Completion::Done(String::new());
            Ok(())
        }
        Err(incomplete) => {
            let completion = if incomplete.in_doubt { Completion::InDoubt } else { Completion::Open };
            *object = SealedObject { completion, ..anew };
            Err(incomplete.failure)
        }
    }
}
