//! Delivery of one run to one customer: all or nothing, into the bucket, under
//! the customer's own role.
//!
//! A delivery goes through states, each of which consumes the one before, so
//! that nothing completes that has not been sealed:
//!
//! ```text
//! Delivery ──seal──▶ Sealed ──complete──▶ Completed ──manifest──▶ Manifested ──mark──▶ Committed
//!  bytes in,          every byte is        objects are             the manifest
//!  parts out          stored, nothing      visible                 names them
//!                     is visible
//! ```
//!
//! Every object, the manifest too, is a multipart upload, however small. So an
//! object's permissions, key and encryption have been tried before anything is
//! visible, a sealed delivery survives a crash whole, and a lost reply can be
//! told from a conflict by asking for the upload instead of the object
//! (`docs/decisions/0006-every-object-is-an-upload.md`).
//!
//! This is the only module that names AWS types.

mod bucket;
mod buffer;
mod completing;
mod compress;
mod contents;
mod directory;
mod failure;
mod identity;
mod manifest;
mod markers;
mod nowhere;
mod object;
mod parts;
mod policy;
mod probe;
mod proxy;
mod session;
mod store;
mod strays;
mod uploads;
mod vendor;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{AcquireError, mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

pub use completing::{Completed, Manifested, Sealed};
pub use probe::{Check, Finding, LeftUpload, Outcome, Preflight, Probe, essential, exposure};
pub use store::Target;
pub use vendor::{Vendor, VendorKeys};

use crate::clock::Instant;
use crate::config::Compression;
use crate::domain::{
    Completion, Failure, Interval, Invalid, KeyFacts, KeyTemplate, Layer, LeafName, ManifestObject, ObjectKey,
    OutputEvent, Retry, SealedObject, ShareName, UploadJournal,
};
use compress::Compressor;
use manifest::Place;
use markers::Marker;
use object::{Common, Step};
use store::{Created, Store};

/// Settings that no delivery can work with.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("[aws] part_size of {0} bytes is not what S3 takes; use 5 MiB to 5 GiB")]
    PartBytes(u64),
    #[error("[aws] part_concurrency is 0, so no part would ever be sent; use 1 or more")]
    PartConcurrency,
}

/// What one delivery is about, besides its target.
#[derive(Clone, Debug)]
pub struct DeliverySpec {
    pub share: ShareName,
    pub slot: Instant,
    pub interval: Interval,
    pub template: KeyTemplate,
    /// `_SUCCESS` comes after the manifest.
    pub success_marker: bool,
    /// Where `latest.json` is, if there is to be one.
    pub latest_pointer: Option<KeyTemplate>,
    pub compression: Compression,
    /// Whether it comes in pieces, several of them at the same time.
    pub in_pieces: bool,
    /// For temporary files without a name: large parts, and many open objects.
    pub spill_dir: PathBuf,
}

/// What an earlier process wrote down of a delivery that it had sealed.
#[derive(Clone, Debug)]
pub struct Left {
    /// Also what comes after the manifest.
    pub objects: Vec<SealedObject>,
    pub manifest_key: String,
    /// Uploads of the manifest that may be there still, and when they were created; the newest last.
    pub manifest_uploads: Vec<(String, Instant)>,
    /// The manifest is known to be there.
    pub manifested: bool,
    /// Nobody has asked for it yet. Only where there are no objects to tell.
    pub unasked: bool,
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Objects begun.
    pub objects: u32,
    /// Bytes taken from the plugin, before compression.
    pub accepted_bytes: u64,
    /// Bytes that the store has acknowledged, after compression, and in how many parts.
    pub stored_bytes: u64,
    pub stored_parts: u64,
    /// When any of these last changed.
    pub moved: Option<tokio::time::Instant>,
}

impl Progress {
    fn moves(to: &watch::Sender<Self>, how: impl FnOnce(&mut Self)) {
        to.send_modify(|progress| {
            how(progress);
            progress.moved = Some(tokio::time::Instant::now());
        });
    }
}

/// Takes output and stores it, with nothing visible yet.
///
/// Dropped, it stops its work but leaves its uploads to whoever reads the
/// journal; [`Delivery::abort`] cleans up.
pub struct Delivery {
    common: Arc<Common>,
    spec: DeliverySpec,
    compressor: Compressor,
    /// What comes after the manifest.
    markers: Vec<Marker>,
    taken: Mutex<Taken>,
    /// Once all of them are, with the upload that is to be the manifest.
    stored: Option<(Vec<SealedObject>, Created)>,
}

/// What was begun. Objects are in the order of pieces, and in each in that of creation.
#[derive(Default)]
struct Taken {
    keys: BTreeSet<ObjectKey>,
    objects: BTreeMap<ObjectNumber, Writing>,
}

/// Piece and object.
type ObjectNumber = (u32, u32);

struct Writing {
    key: ObjectKey,
    /// Gone when the object is finished.
    steps: Option<mpsc::Sender<Step>>,
    task: AbortOnDropHandle<Result<SealedObject, Failure>>,
}

/// The delivery is done.
#[derive(Clone, Debug)]
pub struct Committed {
    pub manifest_key: ObjectKey,
    /// As in the manifest.
    pub objects: Vec<ManifestObject>,
    /// Uploads that are of no use and may be there still.
    pub left: Vec<String>,
    /// Why not all is there that comes after the manifest, if that may pass: their uploads are in `left`.
    pub lacking: Option<Failure>,
}

impl Delivery {
    /// Opens the customer's session; nothing is written yet.
    ///
    /// # Errors
    /// The role cannot be assumed, or the share's template makes no keys for this customer.
    pub async fn begin(target: Target, spec: DeliverySpec, journal: Arc<dyn UploadJournal>) -> Result<Self, Failure> {
        // Learns now whether the template works, not after the query.
        key_of(&target.0, &spec, &LeafName::manifest())?;
        let markers = markers::planned(&target.0, &spec)?;
        let mut taken = Taken::default();
        taken.keys.extend(markers.iter().map(|marker| marker.key.clone()));
        let common = Common::new(target.0, journal, spec.spill_dir.clone());
        common.store.open().await?;
        let compressor = Compressor::new(spec.compression, spec.in_pieces);
        Ok(Self { common, spec, compressor, markers, taken: taken.into(), stored: None })
    }

    /// Pieces whose output may come at the same time.
    pub fn pieces_at_once(&self) -> usize {
        self.compressor.pieces_at_once()
    }

    /// Takes one step of the output, waiting while the bucket is slower.
    ///
    /// # Errors
    /// The first failure of any object; the delivery can then only be aborted.
    pub async fn accept(&self, event: OutputEvent) -> Result<(), Failure> {
        self.accept_of(0, event).await
    }

    /// The same for one of several pieces, each of which numbers its own objects.
    pub async fn accept_of(&self, piece: u32, event: OutputEvent) -> Result<(), Failure> {
        if let Some(failure) = self.common.failed.get() {
            return Err(failure.clone());
        }
        match event {
            OutputEvent::Create { object, name, media_type } => self.create((piece, object), &name, media_type).await,
            OutputEvent::Bytes { object, bytes } => self.bytes((piece, object), bytes).await,
            OutputEvent::Finish { object, rows } => self.finish((piece, object), rows).await,
        }
    }

    /// Waits until every byte is stored, which may take long and can still be
    /// given up. After a failure the delivery can only be aborted.
    pub async fn settle(&mut self) -> Result<(), Failure> {
        if self.stored.is_some() {
            return Ok(());
        }
        let Taken { objects, .. } = self.taken.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = objects.values().find(|writing| writing.steps.is_some()) {
            return Err(plugin(
                format!("'{}' was never finished", open.key),
                "have the plugin finish every object it creates",
            ));
        }
        let mut stored = Vec::new();
        for writing in objects.values_mut() {
            let task = (&mut writing.task).await;
            stored.push(task.map_err(|error| local(format!("the upload of '{}' ended: {error}", writing.key)))??);
        }
        for marker in &self.markers {
            stored.push(marker.store(&self.common).await?);
        }
        // Whether it may be written is known before anything is visible.
        let key = key_of(&self.common.store, &self.spec, &LeafName::manifest())?;
        let manifest = self.common.uploads.create(&self.common.store, &key, manifest::MEDIA_TYPE).await?;
        self.stored = Some((stored, manifest));
        Ok(())
    }

    /// Stores what is left and says so in the journal. After a failure before
    /// that, the uploads are aborted.
    ///
    /// # Errors
    /// An object is unfinished or failed, or the journal cannot be written. In
    /// the last case the uploads stay, as the journal may say sealed.
    pub async fn seal(mut self) -> Result<Sealed, Failure> {
        if let Err(failure) = self.settle().await {
            if let Err(left) = self.abort().await {
                tracing::warn!(failure = %left, "uploads are left behind");
            }
            return Err(failure);
        }
        let Some((mut stored, created)) = self.stored else { return Err(local("nothing is stored")) };
        let key = key_of(&self.common.store, &self.spec, &LeafName::manifest())?;
        // For whoever comes after a crash each of them may have been asked for: from here on they are.
        self.common.uploads.journal().sealed(&stored).await?;
        stored.iter_mut().for_each(|object| object.completion = Completion::Open);
        Ok(Sealed::new(self.common, stored, Place::new(key, created), true))
    }

    /// Stops all work and aborts every upload.
    ///
    /// # Errors
    /// The first upload that could not be aborted; the journal has it still.
    pub async fn abort(self) -> Result<(), Failure> {
        let objects = std::mem::take(&mut self.taken().objects);
        for (_, writing) in objects {
            drop(writing.steps);
            writing.task.abort();
            // One that has failed was asked already.
            if !writing.task.is_finished() {
                let _ = writing.task.await;
            }
        }
        // With an object's task its parts' are told to end, and do so when they next come to a wait. S3 keeps a part that
        // comes after the abort of its upload.
        self.common.flying.close();
        self.common.flying.wait().await;
        let aborted = self.common.uploads.abort(&self.common.store).await;
        self.common.store.end_strays(&self.common.uploads).await;
        aborted
    }

    /// Follows the delivery, also after it was sealed.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.common.progress.subscribe()
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn create(&self, object: ObjectNumber, name: &LeafName, media_type: String) -> Result<(), Failure> {
        let named = self.compressor.rename(name, media_type);
        let (name, media_type) = named.map_err(|why| {
            plugin(format!("object name '{name}', with the suffix of its compression, {why}"), "use a shorter name")
        })?;
        let key = key_of(&self.common.store, &self.spec, &name)?;
        let open = self.begin_object(object, &key).ok_or_else(|| {
            plugin(format!("two objects have the name '{name}'"), "give every object of a delivery a name of its own")
        })?;
        let (steps, receiver) = mpsc::channel(1);
        let steps = self.compressor.in_front_of(steps, open, self.common.failed.clone()).await?;
        let task = tokio::spawn(object::upload(self.common.clone(), key.clone(), media_type, receiver));
        let writing = Writing { key, steps: Some(steps), task: AbortOnDropHandle::new(task) };
        self.taken().objects.insert(object, writing);
        Progress::moves(&self.common.progress, |progress| progress.objects += 1);
        Ok(())
    }

    /// How many others of the piece are open. None if number or key is taken.
    fn begin_object(&self, (piece, number): ObjectNumber, key: &ObjectKey) -> Option<usize> {
        let mut taken = self.taken();
        let is_new = !taken.objects.contains_key(&(piece, number)) && taken.keys.insert(key.clone());
        let of_piece = taken.objects.range((piece, 0)..=(piece, u32::MAX));
        is_new.then(|| of_piece.filter(|(_, writing)| writing.steps.is_some()).count())
    }

    async fn bytes(&self, object: ObjectNumber, bytes: Bytes) -> Result<(), Failure> {
        let count = bytes.len() as u64;
        self.step(object, Step::Bytes(bytes)).await?;
        Progress::moves(&self.common.progress, |progress| progress.accepted_bytes += count);
        Ok(())
    }

    async fn finish(&self, object: ObjectNumber, rows: u64) -> Result<(), Failure> {
        self.step(object, Step::End { rows }).await?;
        if let Some(writing) = self.taken().objects.get_mut(&object) {
            writing.steps = None;
        }
        Ok(())
    }

    async fn step(&self, object: ObjectNumber, step: Step) -> Result<(), Failure> {
        let steps = self.taken().objects.get(&object).and_then(|writing| writing.steps.clone());
        let Some(steps) = steps else {
            return Err(plugin(
                format!("object {} was written, but is not open", object.1),
                "report this to the plugin's author",
            ));
        };
        if steps.send(step).await.is_ok() {
            return Ok(());
        }
        // The object's task has hung up; it knows why, and is asked once.
        let Some(writing) = self.taken().objects.remove(&object) else {
            return Err(local("an object was given up"));
        };
        match writing.task.await {
            Ok(Err(failure)) => Err(failure),
            Ok(Ok(_)) => Err(local("an object was written after its end")),
            Err(error) => Err(local(format!("an object's upload ended: {error}"))),
        }
    }
}

fn key_of(store: &Store, spec: &DeliverySpec, name: &LeafName) -> Result<ObjectKey, Failure> {
    key_in(store, spec, &spec.template, name)
}

fn key_in(store: &Store, spec: &DeliverySpec, template: &KeyTemplate, name: &LeafName) -> Result<ObjectKey, Failure> {
    let customer = store.customer();
    let facts = KeyFacts { share: &spec.share, customer: &customer.name, slot: spec.slot, interval: spec.interval };
    customer.prefix.key(template, &facts, name).map_err(|Invalid(why)| {
        let (prefix, template) = (&customer.prefix, template.as_str());
        let message = format!("'{name}' under the prefix '{prefix}' and the template '{template}' {why}");
        let remedy = format!("change key of share '{}' or the object's name", spec.share);
        Failure::new(Layer::Config, Retry::Never, message, remedy)
    })
}

fn plugin(message: String, remedy: &str) -> Failure {
    Failure::new(Layer::Plugin, Retry::Never, message, remedy)
}

/// What waited for its turn has nothing to wait for any more.
fn closed(_: AcquireError) -> Failure {
    local("the delivery is closed")
}

/// Something of consign's own that has ended.
fn local(message: impl Into<String>) -> Failure {
    let remedy = "nothing is lost: the delivery can be made again; if it ends so again, report it with the log";
    Failure::new(Layer::Local, Retry::Later, message, remedy)
}
