//! The last object of a delivery: it names all the others and where they came from.

use serde::{Deserialize, Serialize};

use super::{CustomerName, RunId, ShareName};
use crate::clock::Instant;

/// How a share's slots are to each other in the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Each has keys of its own.
    #[default]
    Slot,
    /// Each takes the place of the one before.
    Replace,
}

impl Mode {
    pub const NAMES: [&str; 2] = ["slot", "replace"];

    fn is_slot(&self) -> bool {
        *self == Mode::Slot
    }
}

/// Version 1 of the manifest. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always 1.
    pub manifest_version: u32,
    pub share: ShareName,
    pub slot: Instant,
    pub interval: Interval,
    pub customer: CustomerName,
    /// Absent where each slot has keys of its own.
    #[serde(default, skip_serializing_if = "Mode::is_slot")]
    pub mode: Mode,
    pub run: RunId,
    /// Rows read from the dataset for this customer; 0 for assets.
    pub rows: u64,
    /// In order of creation.
    pub objects: Vec<ManifestObject>,
    /// Columns as read, empty for assets.
    pub schema: Vec<ManifestField>,
    /// Absent for assets.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plugin: Option<ManifestPlugin>,
    pub consign_version: String,
    pub started: Instant,
    pub finished: Instant,
}

/// What is kept of a manifest until it is put: what it is to say, its objects and end aside, and what it says to nobody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    #[serde(flatten)]
    pub manifest: Manifest,
    /// Tells apart by what it was decided whose rows are delivered. None: kept by a consign that did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Nobody has asked for it yet, which its objects tell where it has any. False also where that is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unasked: bool,
}

impl From<&Manifest> for Draft {
    fn from(manifest: &Manifest) -> Self {
        Self::from(manifest.clone())
    }
}

impl From<Manifest> for Draft {
    fn from(manifest: Manifest) -> Self {
        Self { manifest, source: None, unasked: false }
    }
}

/// The data interval `[start, end)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub start: Instant,
    pub end: Instant,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestObject {
    /// Full key in the bucket.
    pub key: String,
    /// As stored, so after compression.
    pub bytes: u64,
    /// As told by the plugin; 0 for assets.
    pub rows: u64,
    /// CRC64NVME of the stored bytes, base64 of 8 bytes big-endian, as S3 shows it.
    pub checksum_crc64nvme: String,
    /// As S3 answered, without quotes.
    pub etag: String,
    pub media_type: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestField {
    pub name: String,
    /// Arrow's name of the type.
    #[serde(rename = "type")]
    pub data_type: String,
    pub nullable: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestPlugin {
    pub name: String,
    pub version: String,
    /// `sha256:` and 64 hex digits, of the component's bytes.
    pub digest: String,
    /// Where it was pulled from, with the digest of its manifest; absent for others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reference: Option<String>,
}
