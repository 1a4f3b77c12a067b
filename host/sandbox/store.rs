//! Objects and unfinished uploads: bytes in plain files, everything about them in sidecars.
//!
//! ```text
//! DIR/<bucket>/<key>                     the bytes, under the key's own path where it can be one
//! DIR/.sandbox/objects/<bucket>/<hash>.json
//! DIR/.sandbox/uploads/<id>/upload.json  and the parts
//! DIR/.sandbox/tmp/                      bytes on their way in
//! ```
//! Files appear by rename, so nobody sees half of one. Nothing is flushed to the disk on purpose:
//! a sandbox may lose its last second with the machine.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tempfile::TempPath;

use super::checksum::{Algorithm, Coverage, Sums};
use super::keys;
use crate::clock::Instant;

/// What a request says about an object besides its bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Attributes {
    pub media_type: Option<String>,
    pub content_encoding: Option<String>,
    pub content_disposition: Option<String>,
    pub content_language: Option<String>,
    pub cache_control: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub tags: Vec<(String, String)>,
    pub storage_class: Option<String>,
    pub encryption: Option<String>,
    pub kms_key_id: Option<String>,
    pub acl: Option<String>,
}

/// An object, complete.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredObject {
    pub key: String,
    pub size_bytes: u64,
    /// Without quotes.
    pub etag: String,
    pub checksums: Sums,
    pub coverage: Coverage,
    pub attributes: Attributes,
    pub modified: Instant,
    /// ARN of who wrote it.
    pub written_by: String,
    /// The multipart upload it came from.
    pub upload_id: Option<String>,
    /// Where the bytes are, below the bucket's directory.
    pub path: PathBuf,
}

/// A multipart upload that is neither completed nor aborted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredUpload {
    pub id: String,
    pub bucket: String,
    pub key: String,
    /// ARN of the user or role that began it.
    pub initiator: String,
    pub initiated: Instant,
    pub attributes: Attributes,
    /// As asked for at the beginning.
    pub checksum: Option<(Algorithm, Coverage)>,
    pub parts: BTreeMap<i32, StoredPart>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredPart {
    pub number: i32,
    pub size_bytes: u64,
    /// MD5 in hex.
    pub etag: String,
    pub checksums: Sums,
    pub modified: Instant,
}

pub(super) struct Store {
    root: PathBuf,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    objects: BTreeMap<String, BTreeMap<String, StoredObject>>,
    uploads: BTreeMap<String, StoredUpload>,
    locks: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
    reserved: HashSet<(String, String)>,
}

/// Keeps conditional writes of one key apart; released when dropped.
pub(super) struct Reservation<'a> {
    store: &'a Store,
    name: (String, String),
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.store.index().reserved.remove(&self.name);
    }
}

impl Store {
    /// Opens the directory, making it if need be, and reads what an earlier sandbox left in it.
    /// Nobody else may be using it.
    pub fn open<'a>(root: &Path, buckets: impl Iterator<Item = &'a str>) -> io::Result<Self> {
        let inner = root.join(".sandbox");
        let _ = fs::remove_dir_all(inner.join("tmp"));
        fs::create_dir_all(inner.join("tmp"))?;
        fs::create_dir_all(inner.join("uploads"))?;
        let mut index = Index::default();
        for bucket in buckets {
            fs::create_dir_all(root.join(bucket))?;
            let sidecars = inner.join("objects").join(bucket);
            fs::create_dir_all(&sidecars)?;
            let objects = index.objects.entry(bucket.to_owned()).or_default();
            for sidecar in json_files(&sidecars)? {
                let object: StoredObject = read_json(&sidecar)?;
                if object.path.components().any(|part| !matches!(part, Component::Normal(_))) {
                    return Err(broken(&sidecar, &format!("the path {} leads elsewhere", object.path.display())));
                }
                // A person may have tidied up the files by hand.
                if root.join(bucket).join(&object.path).is_file() {
                    objects.insert(object.key.clone(), object);
                }
            }
        }
        for entry in fs::read_dir(inner.join("uploads"))? {
            let folder = entry?.path();
            if !folder.join("upload.json").is_file() {
                continue;
            }
            let mut upload: StoredUpload = read_json(&folder.join("upload.json"))?;
            if folder.file_name() != Some(upload.id.as_ref()) {
                return Err(broken(&folder.join("upload.json"), &"the id is not the folder's name"));
            }
            for sidecar in json_files(&folder)?.into_iter().filter(|path| !path.ends_with("upload.json")) {
                let part: StoredPart = read_json(&sidecar)?;
                upload.parts.insert(part.number, part);
            }
            index.uploads.insert(upload.id.clone(), upload);
        }
        Ok(Self { root: root.to_owned(), index: Mutex::new(index) })
    }

    pub fn list(&self, bucket: &str) -> Vec<StoredObject> {
        self.index().objects.get(bucket).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    pub fn uploads(&self, bucket: &str) -> Vec<StoredUpload> {
        self.index().uploads.values().filter(|upload| upload.bucket == bucket).cloned().collect()
    }

    pub fn object(&self, bucket: &str, key: &str) -> Option<StoredObject> {
        self.index().objects.get(bucket)?.get(key).cloned()
    }

    /// An object together with its open file, so that both are of the same write.
    pub fn open_object(&self, bucket: &str, key: &str) -> io::Result<Option<(StoredObject, File)>> {
        let index = self.index();
        let Some(object) = index.objects.get(bucket).and_then(|objects| objects.get(key)) else { return Ok(None) };
        let file = File::open(self.root.join(bucket).join(&object.path))?;
        Ok(Some((object.clone(), file)))
    }

    /// A new file for bytes on their way in; it vanishes unless it is put somewhere.
    pub fn temporary(&self) -> io::Result<(File, TempPath)> {
        Ok(tempfile::NamedTempFile::new_in(self.root.join(".sandbox/tmp"))?.into_parts())
    }

    /// Claims a key for one conditional write; `None` while another one has it.
    pub fn reserve(&self, bucket: &str, key: &str) -> Option<Reservation<'_>> {
        let name = (bucket.to_owned(), key.to_owned());
        let free = self.index().reserved.insert(name.clone());
        // Made only then, because a reservation that is dropped gives the key free.
        free.then(|| Reservation { store: self, name })
    }

    /// Makes `bytes` the object, unless `allowed` refuses what is there.
    pub fn commit<E: From<io::Error>>(
        &self,
        bucket: &str,
        mut object: StoredObject,
        bytes: TempPath,
        allowed: impl FnOnce(Option<&StoredObject>) -> Result<(), E>,
    ) -> Result<StoredObject, E> {
        let mut index = self.index();
        let objects = index.objects.entry(bucket.to_owned()).or_default();
        let before = objects.get(&object.key);
        allowed(before)?;
        let base = self.root.join(bucket);
        object.path = match before {
            Some(before) => before.path.clone(),
            None => free_path(&base, &object.key),
        };
        bytes.persist(base.join(&object.path)).map_err(|failed| failed.error)?;
        write_json(&self.sidecar(bucket, &object.key), &object)?;
        objects.insert(object.key.clone(), object.clone());
        Ok(object)
    }

    /// Changes the tags of an object; false if there is none.
    pub fn set_tags(&self, bucket: &str, key: &str, tags: Vec<(String, String)>) -> io::Result<bool> {
        let mut index = self.index();
        let Some(object) = index.objects.get_mut(bucket).and_then(|objects| objects.get_mut(key)) else {
            return Ok(false);
        };
        object.attributes.tags = tags;
        write_json(&self.sidecar(bucket, key), object)?;
        Ok(true)
    }

    /// Removes an object, and the folders that are empty without it.
    pub fn delete(&self, bucket: &str, key: &str) -> io::Result<()> {
        let mut index = self.index();
        let Some(object) = index.objects.get_mut(bucket).and_then(|objects| objects.remove(key)) else { return Ok(()) };
        let base = self.root.join(bucket);
        fs::remove_file(self.sidecar(bucket, key))?;
        fs::remove_file(base.join(&object.path))?;
        let mut folder = object.path.parent();
        while let Some(path) = folder.filter(|path| !path.as_os_str().is_empty()) {
            if fs::remove_dir(base.join(path)).is_err() {
                break;
            }
            folder = path.parent();
        }
        Ok(())
    }

    pub fn begin_upload(&self, upload: StoredUpload) -> io::Result<()> {
        let folder = self.upload_dir(&upload.id);
        fs::create_dir_all(&folder)?;
        write_json(&folder.join("upload.json"), &upload)?;
        self.index().uploads.insert(upload.id.clone(), upload);
        Ok(())
    }

    pub fn upload(&self, bucket: &str, key: &str, id: &str) -> Option<StoredUpload> {
        self.index().uploads.get(id).filter(|upload| upload.bucket == bucket && upload.key == key).cloned()
    }

    /// Held while an upload is completed, aborted or given a part, so that these never overlap.
    pub async fn lock_upload(&self, id: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = self.index().locks.entry(id.to_owned()).or_default().clone();
        lock.lock_owned().await
    }

    /// Adds a part, or replaces the one of its number; false if the upload is gone.
    pub fn put_part(&self, id: &str, part: StoredPart, bytes: TempPath) -> io::Result<bool> {
        let mut index = self.index();
        let Some(upload) = index.uploads.get_mut(id) else { return Ok(false) };
        let path = self.part_path(id, part.number);
        bytes.persist(&path).map_err(|failed| failed.error)?;
        write_json(&path.with_extension("json"), &part)?;
        upload.parts.insert(part.number, part);
        Ok(true)
    }

    pub fn part_path(&self, id: &str, number: i32) -> PathBuf {
        self.upload_dir(id).join(format!("part-{number:05}"))
    }

    /// Forgets an upload and its parts; false if it is unknown.
    pub fn end_upload(&self, id: &str) -> io::Result<bool> {
        let known = self.index().uploads.remove(id).is_some();
        if known {
            fs::remove_dir_all(self.upload_dir(id))?;
        }
        Ok(known)
    }

    /// Drops the lock of an upload that nobody can ask for again.
    pub fn forget_lock(&self, id: &str) {
        let mut index = self.index();
        if !index.uploads.contains_key(id) {
            index.locks.remove(id);
        }
    }

    fn upload_dir(&self, id: &str) -> PathBuf {
        self.root.join(".sandbox/uploads").join(id)
    }

    fn sidecar(&self, bucket: &str, key: &str) -> PathBuf {
        let name = keys::hashed_path_of(key).with_extension("json");
        self.root.join(".sandbox/objects").join(bucket).join(name)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key's own path, or the one without folders if something is in the way.
fn free_path(base: &Path, key: &str) -> PathBuf {
    let path = keys::path_of(key);
    let made = path.parent().is_none_or(|folder| fs::create_dir_all(base.join(folder)).is_ok());
    if made && !base.join(&path).exists() { path } else { keys::hashed_path_of(key) }
}

fn json_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect())
}

fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let unfinished = path.with_extension("json.tmp");
    fs::write(&unfinished, serde_json::to_vec_pretty(value)?)?;
    fs::rename(&unfinished, path)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?).map_err(|error| broken(path, &error))
}

fn broken(path: &Path, why: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}; delete it or the directory", path.display()))
}
