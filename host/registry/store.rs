//! Pulled plugins in the cache: `<cache_dir>/components/<digits of the manifest's
//! digest>/` with `manifest.json`, `component.wasm` and `signatures.json`. Nothing
//! in it is trusted: digests and signatures are looked at whenever it is read.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::layout::{Artifact, ImageManifest};
use crate::config::Pin;
use crate::domain::ContentDigest;

/// Why what is kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} has the digest {found}, but {expected} is pinned", path.display())]
    Changed { path: PathBuf, expected: ContentDigest, found: ContentDigest },
    #[error("{} {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
}

impl StoreError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            StoreError::Io { .. } => "let the user that consign runs as read and write there".into(),
            StoreError::Changed { path, .. } | StoreError::Unreadable { path, .. } => {
                let dir = path.parent().unwrap_or(path);
                format!("find out who changed it; then remove {} and run `consign plugin pull --locked`", dir.display())
            }
        }
    }
}

const MANIFEST: &str = "manifest.json";
const COMPONENT: &str = "component.wasm";
const SIGNATURES: &str = "signatures.json";

/// What is kept of plugins from registries.
pub struct Store {
    dir: PathBuf,
    /// Another user's, which is only read.
    others: Option<PathBuf>,
}

impl Store {
    pub fn new(cache_dir: &Path, others: Option<&Path>) -> Self {
        let below = |cache: &Path| cache.join("components");
        Self { dir: below(cache_dir), others: others.map(below) }
    }

    /// What is pinned, if it is here; refused if it is not what it was.
    pub fn get(&self, pin: &Pin) -> Result<Option<Artifact>, StoreError> {
        let own = get(&self.dir, pin)?;
        match &self.others {
            Some(others) if own.is_none() => match get(others, pin) {
                // What this user may not read is not there.
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(None),
                found => found,
            },
            _ => Ok(own),
        }
    }

    /// Whether something is kept for it; what it is, is not looked at.
    pub fn has(&self, pin: &Pin) -> bool {
        let in_this = |dir: &PathBuf| dir.join(pin.manifest.digits()).join(MANIFEST).is_file();
        in_this(&self.dir) || self.others.as_ref().is_some_and(in_this)
    }

    /// Whether anything is kept that may be written here.
    pub fn has_any(&self) -> bool {
        std::fs::read_dir(&self.dir).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Keeps it in the place of what was there.
    pub fn put(&self, artifact: &Artifact) -> Result<(), StoreError> {
        let digest = artifact.manifest();
        let place = self.dir.join(digest.digits());
        let signatures = serde_json::to_vec(&artifact.signatures)
            .map_err(|error| StoreError::Unreadable { path: place.clone(), why: error.to_string() })?;
        let write = || -> io::Result<()> {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            // Whole, and then under its name.
            let made = tempfile::Builder::new().prefix("pulled-").tempdir_in(&self.dir)?;
            for (name, bytes) in
                [(COMPONENT, &artifact.component), (SIGNATURES, &signatures), (MANIFEST, &artifact.manifest)]
            {
                let mut file = std::fs::File::create_new(made.path().join(name))?;
                io::Write::write_all(&mut file, bytes)?;
                file.sync_all()?;
            }
            if place.exists() {
                std::fs::remove_dir_all(&place)?;
            }
            match std::fs::rename(made.path(), &place) {
                // Another process was quicker, with the same.
                Err(_) if place.join(MANIFEST).is_file() => Ok(()),
                renamed => renamed,
            }
        };
        write().map_err(|source| StoreError::Io { path: place.clone(), source })
    }
}

/// What a folder has of it.
fn get(dir: &Path, pin: &Pin) -> Result<Option<Artifact>, StoreError> {
    let dir = dir.join(pin.manifest.digits());
    let Some(manifest) = read(&dir.join(MANIFEST))? else { return Ok(None) };
    let component = read(&dir.join(COMPONENT))?.unwrap_or_default();
    is(&dir.join(MANIFEST), &pin.manifest, &manifest)?;
    let unreadable = |why| StoreError::Unreadable { path: dir.join(MANIFEST), why };
    let (digest, _) = ImageManifest::read(&manifest).and_then(|manifest| manifest.component()).map_err(unreadable)?;
    if digest != pin.component {
        return Err(unreadable(format!("names the component {digest}, but {} is pinned", pin.component)));
    }
    is(&dir.join(COMPONENT), &pin.component, &component)?;
    let signatures = match read(&dir.join(SIGNATURES))? {
        Some(text) => serde_json::from_slice(&text).map_err(|error| StoreError::Unreadable {
            path: dir.join(SIGNATURES),
            why: format!("is not what was written: {error}"),
        })?,
        None => Vec::new(),
    };
    Ok(Some(Artifact { manifest, component, signatures }))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Io { path: path.into(), source }),
    }
}

fn is(path: &Path, expected: &ContentDigest, bytes: &[u8]) -> Result<(), StoreError> {
    let found = ContentDigest::of(bytes);
    if found == *expected {
        return Ok(());
    }
    Err(StoreError::Changed { path: path.into(), expected: expected.clone(), found })
}
