//! What comes after the manifest, for readers that do not look into it: an empty
//! `_SUCCESS`, and `latest.json`, which leads to the newest slot.
//!
//! Their bytes are stored before anything is visible, as all others are, so that
//! nothing but their completion is left when the manifest is there.

use bytes::Bytes;
use serde::Serialize;

use super::bucket::Completing;
use super::object::Common;
use super::store::Store;
use super::{Committed, DeliverySpec, Manifested, key_in, key_of, local};
use crate::clock::Instant;
use crate::crash::{self, Point};
use crate::domain::{
    CustomerName, Failure, LeafName, ManifestInterval, ObjectKey, Retry, Role, SealedObject, ShareName,
};

/// To be stored.
pub(super) struct Marker {
    role: Role,
    pub(super) key: ObjectKey,
    contents: Bytes,
}

/// Stored, and not visible.
pub(super) struct Markers {
    pub(super) objects: Vec<SealedObject>,
    /// An earlier process may have completed them already.
    pub(super) resumed: bool,
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
        let media_type = if *role == Role::SuccessMarker { "application/octet-stream" } else { "application/json" };
        let created = common.uploads.create(&common.store, key, media_type).await?;
        common.store.whole(*role, key, media_type, created, contents.clone()).await
    }
}

impl Manifested {
    /// Makes visible what comes after the manifest. `latest.json` only where the customer
    /// has got no later slot, so that it never goes back.
    ///
    /// # Errors
    /// One of them did not complete: the delivery stays sealed, and goes on from here.
    pub async fn mark(self) -> Result<Committed, Failure> {
        let Self { common, markers, mut committed } = self;
        let how = Completing { if_none_match: false, resumed: markers.resumed };
        for object in markers.objects {
            let key = &object.key;
            if object.role == Role::LatestPointer && !common.uploads.journal().is_newest().await? {
                if let Err(failure) = common.uploads.abort_one(&common.store, key, &object.upload_id).await {
                    tracing::warn!(key, %failure, "an upload is left behind, and is tried again later");
                    committed.left.push(object.upload_id);
                }
                continue;
            }
            match common.store.complete(&object, how).await.map_err(|incomplete| incomplete.failure) {
                Ok(_) => crash::point(Point::MarkerCompleted),
                Err(failure) if failure.retry == Retry::Later => return Err(failure),
                // The manifest is there: a repeat would only find it in its way.
                Err(failure) => {
                    tracing::warn!(key, %failure, remedy = failure.logged_remedy(), "delivered, but without this object");
                    committed.left.push(object.upload_id);
                }
            }
        }
        common.store.end_strays(common.uploads.journal()).await;
        Ok(committed)
    }
}
