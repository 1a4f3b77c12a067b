//! A plugin as a registry has it.

use serde::{Deserialize, Serialize};

use crate::domain::ContentDigest;

/// Components of interpreted languages carry their interpreter (about 40 MB).
pub(super) const COMPONENT_BYTES_MAX: u64 = 256 << 20;

/// Manifests have some kilobytes; registries take up to 4 MiB.
pub(super) const MANIFEST_BYTES_MAX: u64 = 4 << 20;

pub(super) const WASM: &str = "application/wasm";
pub(super) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What may be answered: an index too, so that it can be told that it is one.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";

/// A pulled plugin: its manifest and component, whose digests agree, and the
/// signatures that were found with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    pub(super) manifest: Vec<u8>,
    pub(super) component: Vec<u8>,
    pub(super) signatures: Vec<Signature>,
}

/// What somebody signed, and the signature. (Whether it is one is not said.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signature {
    /// The text that was signed, which names the digest of a manifest.
    pub payload: String,
    /// Base64.
    pub signature: String,
}

impl Artifact {
    /// Digest of the manifest: what a reference is pinned to, and what is signed.
    pub fn manifest(&self) -> ContentDigest {
        ContentDigest::of(&self.manifest)
    }

    /// Of the component.
    pub fn component(&self) -> ContentDigest {
        ContentDigest::of(&self.component)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.component
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.component
    }
}

/// The parts of an image manifest that matter here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageManifest {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// Only an index has them.
    #[serde(default)]
    manifests: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
}

impl ImageManifest {
    /// Err says what it is instead.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| format!("has a manifest that cannot be read: {error}"))?;
        match manifest.media_type.as_deref() {
            Some(INDEX) => Err("is an index of several; name one of them by its digest".into()),
            _ if manifest.manifests.is_some() => Err("is an index of several; name one of them by its digest".into()),
            None | Some(MANIFEST) => Ok(manifest),
            Some(other) => Err(format!("has a manifest of the type {other:?}, not {MANIFEST}")),
        }
    }

    /// The digest and size of the only layer of WebAssembly.
    pub fn component(&self) -> Result<(ContentDigest, u64), String> {
        let mut layers = self.layers.iter().filter(|layer| layer.media_type == WASM);
        let (Some(layer), None) = (layers.next(), layers.next()) else {
            let types: Vec<&str> = self.layers.iter().take(5).map(|layer| layer.media_type.as_str()).collect();
            return Err(format!("has not one layer of the type {WASM}; its layers are {types:?}"));
        };
        let digest = ContentDigest::parse(&layer.digest).map_err(|why| format!("has a layer whose digest {why}"))?;
        if layer.size > COMPONENT_BYTES_MAX {
            return Err(format!("has {} bytes; a plugin has at most {COMPONENT_BYTES_MAX}", layer.size));
        }
        Ok((digest, layer.size))
    }
}
