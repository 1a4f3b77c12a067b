//! One object on its way: bytes in, stored parts out. A task of its own, so that
//! objects may be written in turns and parts travel while the plugin computes.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::bucket::Part;
use super::buffer::{Buffer, Room};
use super::parts::{Checksum, OBJECT_BYTES_MAX, PARTS_MAX, part_bytes};
use super::store::{Created, Store};
use super::uploads::Uploads;
use super::{Progress, closed, local};
use crate::domain::{
    Asked, Completion, Failure, Layer, ObjectKey, Retry, Role, SealedObject, SealedPart, UploadJournal,
};

/// Bytes of open objects that wait in memory to become parts, per delivery;
/// beyond that they wait in temporary files.
const ROOM_BYTES: u64 = 64 << 20;
/// Objects of one delivery that may have all their parts on the way at once.
const OBJECTS_AT_ONCE: usize = 2;

/// What flows towards an object.
pub(super) enum Step {
    Bytes(Bytes),
    End { rows: u64 },
}

/// What the objects of a delivery share.
pub(super) struct Common {
    pub(super) store: Arc<Store>,
    pub(super) uploads: Uploads,
    pub(super) room: Arc<Room>,
    /// Places for parts on their way: of this delivery, of its customer's deliveries, of all.
    places: [Arc<Semaphore>; 3],
    /// Parts on their way, also those of objects that have failed.
    pub(super) flying: TaskTracker,
    pub(super) progress: watch::Sender<Progress>,
    /// Why the delivery cannot succeed any more.
    pub(super) failed: Arc<OnceLock<Failure>>,
}

impl Common {
    pub(super) fn new(store: Arc<Store>, journal: Arc<dyn UploadJournal>, spill_dir: PathBuf) -> Arc<Self> {
        let vendor = store.vendor();
        let own = Arc::new(Semaphore::new(vendor.aws().part_concurrency * OBJECTS_AT_ONCE));
        let places = [own, vendor.places_of(&store.customer().name), vendor.places()];
        let room = Room::new(ROOM_BYTES, spill_dir, store.vendor().signs_payload());
        Arc::new(Self {
            store,
            uploads: Uploads::new(journal),
            room,
            places,
            flying: TaskTracker::new(),
            progress: watch::Sender::default(),
            failed: Arc::default(),
        })
    }
}

/// Uploads what `steps` brings and returns once every byte is stored. Ends
/// with an error when `steps` ends early; the upload then remains to be aborted.
pub(super) async fn upload(
    common: Arc<Common>,
    key: ObjectKey,
    media_type: String,
    steps: mpsc::Receiver<Step>,
) -> Result<SealedObject, Failure> {
    let failed = common.failed.clone();
    // The first failure counts; what others die of after it is its consequence.
    store(common, key, media_type, steps).await.map_err(|failure| failed.get_or_init(|| failure).clone())
}

async fn store(
    common: Arc<Common>,
    key: ObjectKey,
    media_type: String,
    mut steps: mpsc::Receiver<Step>,
) -> Result<SealedObject, Failure> {
    let created = common.uploads.create(&common.store, &key, &media_type).await?;
    let mut object = Object::new(common, key, media_type, created);
    loop {
        match steps.recv().await {
            Some(Step::Bytes(bytes)) => object.push(bytes).await?,
            Some(Step::End { rows }) => return object.finish(rows).await,
            None => return Err(object.given_up()),
        }
    }
}

struct Object {
    common: Arc<Common>,
    key: ObjectKey,
    media_type: String,
    created: Created,
    buffer: Buffer,
    flying: JoinSet<Result<(u32, SealedPart), Failure>>,
    parts: Vec<(u32, SealedPart)>,
    cut: u32,
    bytes: u64,
    checksum: Checksum,
}

impl Object {
    fn new(common: Arc<Common>, key: ObjectKey, media_type: String, created: Created) -> Self {
        let buffer = Buffer::new(common.room.clone());
        let (flying, parts, checksum) = (JoinSet::new(), Vec::new(), Checksum::default());
        Self { common, key, media_type, created, buffer, flying, parts, cut: 0, bytes: 0, checksum }
    }

    async fn push(&mut self, mut bytes: Bytes) -> Result<(), Failure> {
        let smallest = self.common.store.vendor().aws().part_bytes;
        while !bytes.is_empty() {
            let size = part_bytes(smallest, self.bytes);
            // Never more than the part needs, so that a cut leaves nothing to move.
            let missing = usize::try_from(size - self.buffer.len()).unwrap_or(usize::MAX);
            self.buffer.push(&bytes.split_to(missing.min(bytes.len())));
            if self.buffer.len() == size {
                self.cut().await?;
            } else if self.buffer.wants_to_spill() {
                self.on_buffer(Buffer::spill).await?;
            }
        }
        while let Some(part) = self.flying.try_join_next() {
            self.parts.push(landed(part)?);
        }
        Ok(())
    }

    async fn finish(mut self, rows: u64) -> Result<SealedObject, Failure> {
        // An empty object is one empty part.
        if self.buffer.len() > 0 || self.cut == 0 {
            self.cut().await?;
        }
        while let Some(part) = self.flying.join_next().await {
            self.parts.push(landed(part)?);
        }
        self.parts.sort_by_key(|(number, _)| *number);
        Ok(SealedObject {
            key: self.key.as_str().to_owned(),
            role: Role::Data,
            upload_id: self.created.upload_id,
            created: self.created.created,
            media_type: self.media_type,
            rows,
            bytes: self.bytes,
            checksum_crc64nvme: self.checksum.base64(),
            full_checksum: self.created.full_checksum,
            parts: self.parts.into_iter().map(|(_, part)| part).collect(),
            completion: Completion::InDoubt,
        })
    }

    /// Sends what was gathered on its way, when there is a place for it.
    async fn cut(&mut self) -> Result<(), Failure> {
        let (offset, size) = (self.bytes, self.buffer.len());
        self.bytes += size;
        self.cut += 1;
        if self.cut > PARTS_MAX || self.bytes > OBJECT_BYTES_MAX {
            return Err(Failure::new(
                Layer::Plugin,
                Retry::Never,
                format!("'{}' is larger than the 5 TiB of an S3 object", self.key),
                "set max_object_size for the share, so that its output is split",
            ));
        }
        while self.flying.len() >= self.common.store.vendor().aws().part_concurrency {
            if let Some(part) = self.flying.join_next().await {
                self.parts.push(landed(part)?);
            }
        }
        let places = self.places().await?;
        let contents = self.on_buffer(Buffer::take).await?;
        self.checksum = self.checksum.then(contents.checksum, size);
        let (common, key, upload_id, number) =
            (self.common.clone(), self.key.clone(), self.created.upload_id.clone(), self.cut);
        self.flying.spawn(self.common.flying.track_future(async move {
            let part = Part { key: &key, upload_id: &upload_id, number, offset };
            let stored = common.store.part(part, contents).await?;
            drop(places);
            Progress::moves(&common.progress, |progress| {
                progress.stored_bytes += size;
                progress.stored_parts += 1;
            });
            Ok((number, stored))
        }));
        Ok(())
    }

    /// A place for the part within this delivery, then among its customer's, and then among all of them.
    async fn places(&self) -> Result<[OwnedSemaphorePermit; 3], Failure> {
        let [own, customers, all] = self.common.places.clone();
        let own = own.acquire_owned().await.map_err(closed)?;
        let customers = customers.acquire_owned().await.map_err(closed)?;
        Ok([own, customers, all.acquire_owned().await.map_err(closed)?])
    }

    /// Works on the buffer, off the async threads where that may touch the disk.
    async fn on_buffer<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Buffer) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let mut buffer = std::mem::replace(&mut self.buffer, Buffer::new(self.common.room.clone()));
        let worked = tokio::task::spawn_blocking(move || {
            let result = work(&mut buffer);
            (buffer, result)
        });
        let (buffer, result) = worked.await.map_err(|error| self.unspilled(&io::Error::other(error)))?;
        self.buffer = buffer;
        result.map_err(|error| self.unspilled(&error))
    }

    fn unspilled(&self, error: &io::Error) -> Failure {
        let dir = self.common.room.spill_dir().display();
        let message = format!("'{}' could not wait in a temporary file in '{dir}': {error}", self.key);
        let remedy = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room there, or let daemon.cache_dir be where there is some; with a max_object_size parts stay small. Nothing is \
                 lost: the delivery can be made again"
            }
            _ => {
                "let consign make files there: permissions, the limit of open files (LimitNOFILE, ulimit -n), the disk itself"
            }
        };
        Failure { asked: Some(Asked::Vendor), ..Failure::new(Layer::Local, Retry::Later, message, remedy) }
    }

    fn given_up(&self) -> Failure {
        local(format!("'{}' was given up before its end", self.key))
    }
}

fn landed(
    part: Result<Result<(u32, SealedPart), Failure>, tokio::task::JoinError>,
) -> Result<(u32, SealedPart), Failure> {
    part.map_err(|error| local(format!("a part's upload ended: {error}")))?
}
