//! Compiled plugins on disk. Precompiled code is trusted without a check by the
//! runtime, so nothing is loaded from here but what this user wrote.

use std::fs::{self, DirBuilder, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crc_fast::{CrcAlgorithm::Crc64Nvme, Digest as Checksum};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::compiled::Compiled;
use crate::domain::hex;

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("cannot use {} as the cache of compiled plugins", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{} {why}; compiled plugins run as native code, so the cache must be this user's alone: \
         remove it, take the others' right to write away (chmod go-w), or set `daemon.cache_dir` to a directory of your own",
        path.display()
    )]
    NotOurs { path: PathBuf, why: String },
}

/// `<cache_dir>/plugins`: for each component and engine the machine code
/// (`.cwasm`) and the checksum that it must have (`.crc64`). It is to find damage,
/// not what somebody wrote on purpose: nobody else may write here.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
    /// Part of the file names: code of another engine, CPU or setting is never found.
    fingerprint: String,
}

impl Cache {
    pub fn open(cache_dir: &Path, engine: &Engine) -> Result<Self, CacheError> {
        let dir = cache_dir.join("plugins");
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|source| io_error(&dir, source))?;
        kept_from_others(cache_dir)?;
        owned(&dir, &fs::symlink_metadata(&dir).map_err(|source| io_error(&dir, source))?, Kind::Dir)?;
        let mut hasher = Fingerprint(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { dir, fingerprint: hex(&hasher.0.finalize()[..8]) })
    }

    /// The compiled component, if it is here whole, and its code. A damaged entry is no entry.
    pub fn get(&self, engine: &Engine, digest: &str) -> Result<Option<(Component, Compiled)>, CacheError> {
        let (code, sum) = self.paths(digest);
        let (Some(file), Some(mut expected)) = (open(&code)?, open(&sum)?) else { return Ok(None) };
        let (mut read, mut wanted) = (Checksum::new(Crc64Nvme), Vec::new());
        let compiled = Compiled::read(file, |piece| read.update(piece)).map_err(|source| io_error(&code, source))?;
        expected.read_to_end(&mut wanted).map_err(|source| io_error(&sum, source))?;
        if written(&read).as_bytes() != wanted {
            tracing::warn!(path = %code.display(), "a compiled plugin in the cache is damaged; compiling it again");
            return Ok(None);
        }
        // SAFETY: these very bytes have the checksum that `put` wrote beside them for
        // this engine, and both were read from open files that belong to this user
        // and that nobody else may write. Who could still change them could as well
        // change consign.
        match unsafe { compiled.component(engine) } {
            Ok(component) => Ok(Some((component, compiled))),
            Err(error) => {
                tracing::warn!(path = %code.display(), %error, "a compiled plugin in the cache is unusable; compiling it again");
                Ok(None)
            }
        }
    }

    /// Keeps compiled code. The checksum is written last: without it there is no entry.
    pub fn put(&self, digest: &str, compiled: &[u8]) -> Result<(), CacheError> {
        let (code, sum) = self.paths(digest);
        self.write(&code, compiled)?;
        let mut checksum = Checksum::new(Crc64Nvme);
        checksum.update(compiled);
        self.write(&sum, written(&checksum).as_bytes())
    }

    /// Removes all but the newest. What cannot be removed stays.
    pub fn forget(&self, but: usize) {
        let mut kept: Vec<_> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let written = fs::metadata(&path).and_then(|found| found.modified()).ok()?;
                (path.extension()? == "cwasm").then_some((written, path))
            })
            .collect();
        kept.sort();
        let old = kept.len().saturating_sub(but);
        for (_, path) in &kept[..old] {
            // The checksum first: without it there is no entry.
            let _ = fs::remove_file(path.with_extension("crc64"));
            let _ = fs::remove_file(path);
        }
    }

    fn paths(&self, digest: &str) -> (PathBuf, PathBuf) {
        let stem = format!("{digest}-{}", self.fingerprint);
        (self.dir.join(format!("{stem}.cwasm")), self.dir.join(format!("{stem}.crc64")))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
        let write = || -> io::Result<()> {
            // Made with mode 0600, and seen under its name only when it is whole.
            let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|source| io_error(path, source))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Dir,
    File,
}

/// The file, if it exists; refused if it is not ours.
fn open(path: &Path) -> Result<Option<File>, CacheError> {
    let named = match fs::symlink_metadata(path) {
        Ok(named) => named,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error(path, source)),
    };
    owned(path, &named, Kind::File)?;
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (opened, file) = opened.map_err(|source| io_error(path, source))?;
    owned(path, &opened, Kind::File)?;
    Ok(Some(file))
}

/// Whoever may write to the folder above may put another in the cache's place.
fn kept_from_others(cache_dir: &Path) -> Result<(), CacheError> {
    let mode = fs::metadata(cache_dir).map_err(|source| io_error(cache_dir, source))?.permissions().mode() & 0o7777;
    // In a sticky folder, as /tmp is one, people can move their own files alone.
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        let why = format!("may be written by other users (mode {mode:04o})");
        return Err(CacheError::NotOurs { path: cache_dir.into(), why });
    }
    Ok(())
}

fn owned(path: &Path, metadata: &fs::Metadata, kind: Kind) -> Result<(), CacheError> {
    let refuse = |why: String| Err(CacheError::NotOurs { path: path.into(), why });
    let expected = if kind == Kind::Dir { metadata.is_dir() } else { metadata.is_file() };
    if !expected {
        return refuse("is a link or not of the expected kind".into());
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return refuse(format!("belongs to user {}, not to user {user} who runs consign", metadata.uid()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return refuse(format!("may be written by other users (mode {mode:04o})"));
    }
    Ok(())
}

fn io_error(path: &Path, source: io::Error) -> CacheError {
    CacheError::Io { path: path.into(), source }
}

/// As it is kept. Not a cryptographic hash, which takes longer than all else in loading a plugin.
fn written(checksum: &Checksum) -> String {
    format!("{:016x}", checksum.finalize())
}

/// Collects what the engine hashes, with a hash that is the same in every build.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
