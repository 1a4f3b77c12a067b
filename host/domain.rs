//! The words of consign as types. Nothing here does I/O.

mod destination;
mod failure;
mod key;
mod manifest;
mod name;
mod oci;
mod output;
mod profile;
mod refused;
mod secret;
mod slot;
mod spread;

pub use destination::Destination;
pub use failure::{Asked, Failure, Layer, Leaves, Retry};
pub use key::{CustomerPrefix, KeyFacts, KeyTemplate, LATEST_NAME, LeafName, MANIFEST_NAME, ObjectKey, SUCCESS_NAME};
pub use manifest::{
    Draft, Interval as ManifestInterval, Manifest, ManifestField, ManifestObject, ManifestPlugin, Mode,
};
pub use name::{CustomerName, DatasetName, GroupName, PluginName, ShareName, TableName};
pub(crate) use oci::is_registry;
pub use oci::{ContentDigest, OciReference};
pub use output::{Completion, OutputEvent, Role, SealedObject, SealedPart, UploadJournal};
pub use profile::{AccountId, BucketName, ExternalId, ParamValue, Principal, ProfileHash, Region, RoleArn};
pub use refused::{Blame, Refused};
pub use secret::Secret;
pub use slot::{Interval, Origin, RunId, SkipReason, Slot};
pub(crate) use spread::spread;

/// Why a text is not the value it should be: a fragment such as
/// `has an uppercase letter; use a-z, 0-9 and '-'`, to be put after the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A word of a command for `sh`: everything between single quotes is itself.
pub(crate) fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl Invalid {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}
