//! Signatures as `cosign sign --key` makes them ("simple signing"): a short JSON
//! text that names the digest of a manifest, signed with ECDSA P-256 and SHA-256.
//! All of it is verified here, offline.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::Deserialize;

use super::layout::{Artifact, Signature};
use crate::domain::ContentDigest;

/// Why a plugin is not taken for signed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("cannot read the public key {}", path.display())]
    Key { path: PathBuf, source: std::io::Error },
    #[error("{} {why}", path.display())]
    NotAKey { path: PathBuf, why: &'static str },
    #[error("is not signed")]
    Unsigned,
    #[error("has {} that none of the keys in `signatures.keys` has made", signatures(*.0))]
    Strange(usize),
    #[error("has a good signature, but for {0}")]
    Other(String),
}

fn signatures(number: usize) -> String {
    if number == 1 { "a signature".into() } else { format!("{number} signatures") }
}

/// What comes before the point of a P-256 key in its `SubjectPublicKeyInfo` (RFC 5480).
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// An uncompressed point: 0x04 and two coordinates.
const P256_POINT_BYTES: usize = 65;

const TYPE: &str = "cosign container image signature";

/// Public keys that a plugin may be signed with.
pub struct Keys(Vec<Key>);

struct Key {
    path: PathBuf,
    point: Vec<u8>,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

impl Keys {
    /// Reads the files of keys.
    pub fn read(paths: &[PathBuf]) -> Result<Self, SignatureError> {
        paths.iter().map(|path| Key::read(path)).collect::<Result<_, _>>().map(Self)
    }

    /// The file of the key that signed it.
    pub fn verify(&self, artifact: &Artifact) -> Result<PathBuf, SignatureError> {
        let expected = artifact.manifest();
        let mut others = Vec::new();
        for signature in &artifact.signatures {
            let Some(key) = self.0.iter().find(|key| key.made(signature)) else { continue };
            match signed(&signature.payload) {
                Some(digest) if digest == expected => return Ok(key.path.clone()),
                Some(digest) => others.push(digest.to_string()),
                None => others.push("something else than a manifest".into()),
            }
        }
        Err(match others.pop() {
            Some(other) => SignatureError::Other(other),
            None if artifact.signatures.is_empty() => SignatureError::Unsigned,
            None => SignatureError::Strange(artifact.signatures.len()),
        })
    }
}

impl Key {
    fn read(path: &Path) -> Result<Self, SignatureError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| SignatureError::Key { path: path.to_owned(), source })?;
        let not = |why| SignatureError::NotAKey { path: path.to_owned(), why };
        let body = text
            .split_once("-----BEGIN PUBLIC KEY-----")
            .and_then(|(_, rest)| rest.split_once("-----END PUBLIC KEY-----"))
            .map(|(body, _)| body.split_whitespace().collect::<String>())
            .ok_or_else(|| not("has no public key in PEM; write what `cosign public-key --key KEY` prints"))?;
        let der = BASE64.decode(body).map_err(|_| not("has a public key that is not base64"))?;
        match der.strip_prefix(P256_SPKI.as_slice()) {
            Some(point) if point.len() == P256_POINT_BYTES => {
                Ok(Self { path: path.to_owned(), point: point.to_owned() })
            }
            _ => Err(not("has a public key of another kind than ECDSA P-256, which cosign's own keys are of")),
        }
    }

    fn made(&self, signature: &Signature) -> bool {
        let Ok(bytes) = BASE64.decode(signature.signature.trim()) else { return false };
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point);
        key.verify(signature.payload.as_bytes(), &bytes).is_ok()
    }
}

/// The digest that a payload is about.
fn signed(payload: &str) -> Option<ContentDigest> {
    let payload: Payload = serde_json::from_str(payload).ok()?;
    let digest = ContentDigest::parse(&payload.critical.image.docker_manifest_digest).ok()?;
    (payload.critical.kind == TYPE).then_some(digest)
}
