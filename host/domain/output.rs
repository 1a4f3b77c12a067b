//! What flows from a plugin (or an asset) into a delivery, and what of it has to
//! outlive a crash.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Draft, Failure, LeafName, ManifestObject, ObjectKey};
use crate::clock::Instant;

/// What an object is to whoever reads the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Made by the plugin, or a file: the manifest names it.
    #[default]
    Data,
    /// `_SUCCESS`, next to the manifest and after it.
    SuccessMarker,
    /// `latest.json`, which says where the newest slot's manifest is.
    LatestPointer,
}

impl Role {
    fn is_data(&self) -> bool {
        *self == Role::Data
    }
}

/// One step of the output. Objects are numbered from 0 in order of creation and
/// may be written in turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputEvent {
    Create {
        object: u32,
        name: LeafName,
        media_type: String,
    },
    Bytes {
        object: u32,
        bytes: Bytes,
    },
    /// `rows` as told by the plugin; 0 for assets.
    Finish {
        object: u32,
        rows: u64,
    },
}

/// An object whose every byte is stored but which nobody can see yet: all that is
/// needed to complete it, also by a later process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedObject {
    /// Full key in the bucket.
    pub key: String,
    #[serde(default, skip_serializing_if = "Role::is_data")]
    pub role: Role,
    pub upload_id: String,
    /// When the upload was created. Bounds how long its disappearance can be read as completion.
    pub created: Instant,
    pub media_type: String,
    pub rows: u64,
    /// As stored, so after compression.
    pub bytes: u64,
    /// CRC64NVME of the whole object, base64 of 8 bytes big-endian.
    pub checksum_crc64nvme: String,
    /// The store has agreed to check the whole object's checksum on completion.
    pub full_checksum: bool,
    /// In order, numbered from 1.
    pub parts: Vec<SealedPart>,
    #[serde(default)]
    pub completion: Completion,
}

impl SealedObject {
    /// Whether the manifest of a delivery of these may have been asked for: before that, all that it
    /// names are known to be done. Where it names none, only what is written down tells.
    pub fn may_be_manifested(all: &[Self], unasked: bool) -> bool {
        let mut data =
            all.iter().filter(|object| object.role == Role::Data).map(|object| &object.completion).peekable();
        match data.peek() {
            None => !unasked,
            Some(_) => data.all(|is| is.is_done() || *is == Completion::Unsaid),
        }
    }
}

impl From<SealedObject> for ManifestObject {
    fn from(object: SealedObject) -> Self {
        let etag = match object.completion {
            Completion::Done(etag) => etag,
            _ => String::new(),
        };
        let SealedObject { key, bytes, rows, checksum_crc64nvme, media_type, .. } = object;
        Self { key, bytes, rows, checksum_crc64nvme, etag, media_type }
    }
}

/// How far an object's completion is, for whoever asks for it next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Completion {
    /// A consign that did not keep this has sealed it: the manifest may have been asked for too.
    #[default]
    Unsaid,
    /// It may have been asked for, and nobody knows what came of that.
    InDoubt,
    /// Nobody has asked for it, or it was refused: its upload is there, unless somebody else has ended it.
    Open,
    /// An object can be seen that is not what was sent: another attempt has to take its place.
    Spoiled,
    /// The object can be seen. With its ETag, which is empty where the answer was lost.
    Done(String),
}

impl Completion {
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Completion::Unsaid | Completion::InDoubt)
    }

    pub fn is_done(&self) -> bool {
        matches!(self, Completion::Done(_))
    }
}

/// A stored part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedPart {
    /// As S3 answered, quotes included.
    pub etag: String,
    /// CRC64NVME of the part, base64.
    pub checksum_crc64nvme: String,
}

/// Where a delivery writes down what a later process must know, before it matters.
#[async_trait]
pub trait UploadJournal: Send + Sync {
    /// An upload exists and can be billed. Awaited before its first part goes out.
    async fn upload_created(&self, key: &ObjectKey, upload_id: &str) -> Result<(), Failure>;

    /// An upload is gone from the bucket, unfinished.
    async fn upload_aborted(&self, upload_id: &str) -> Result<(), Failure>;

    /// What the manifest is to say, its objects and end aside. Awaited before `sealed`.
    async fn drafted(&self, draft: &Draft) -> Result<(), Failure>;

    /// Every byte of every object is stored. Awaited before the first completion;
    /// from here the delivery rolls forward and its source is not read again.
    async fn sealed(&self, objects: &[SealedObject]) -> Result<(), Failure>;

    /// How far the completion of each of these is. Awaited before any is asked for that was
    /// written down as open, and before the manifest is.
    async fn completions(&self, objects: &[SealedObject]) -> Result<(), Failure>;

    /// The manifest may be asked for from here on. Awaited before it is, where it names no object that would tell.
    async fn manifest_is_next(&self) -> Result<(), Failure>;

    /// The manifest is there, put by this upload, and what comes after it is not.
    async fn manifested(&self, upload_id: &str) -> Result<(), Failure>;

    /// Nobody else has taken the delivery over: what was found in the bucket before is its own.
    async fn is_ours(&self) -> Result<(), Failure>;

    /// Whether the customer has got no later slot of the share.
    async fn is_newest(&self) -> Result<bool, Failure>;
}
