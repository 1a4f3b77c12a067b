//! A directory in the place of a bucket (`consign send --dry-run DIR`): the same
//! keys as paths, each file under a temporary name until it is complete.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bucket::{Completing, Incomplete, Part};
use super::contents::Contents;
use super::store::{Created, Stored};
use super::vendor::Vendor;
use crate::config::Customer;
use crate::domain::{Failure, Layer, ObjectKey, Retry, SealedObject, SealedPart};

pub(super) struct Directory {
    root: PathBuf,
    pub(super) customer: Arc<Customer>,
    pub(super) vendor: Vendor,
}

impl Directory {
    pub(super) fn new(root: PathBuf, customer: Arc<Customer>, vendor: Vendor) -> Self {
        Self { root, customer, vendor }
    }

    pub(super) async fn open(&self) -> Result<(), Failure> {
        self.on_disk(self.root.clone(), |root| fs::create_dir_all(root)).await
    }

    pub(super) async fn create(&self, key: &ObjectKey) -> Result<Created, Failure> {
        let path = self.path(key.as_str());
        let temporary = temporary(&path);
        self.on_disk(temporary.clone(), move |temporary| {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            File::create(temporary).map(drop)
        })
        .await?;
        let upload_id = temporary.to_string_lossy().into_owned();
        Ok(Created { upload_id, created: self.vendor.clock().now(), full_checksum: true })
    }

    pub(super) async fn part(&self, part: Part<'_>, contents: Contents) -> Result<SealedPart, Failure> {
        let temporary = temporary(&self.path(part.key.as_str()));
        let offset = part.offset;
        let checksum = contents.checksum.base64();
        self.on_disk(temporary, move |temporary| {
            let file = OpenOptions::new().write(true).open(temporary)?;
            let mut at = 0;
            while at < contents.len() {
                let piece = contents.piece(at)?;
                file.write_all_at(&piece, offset + at)?;
                at += piece.len() as u64;
            }
            Ok(())
        })
        .await?;
        Ok(SealedPart { etag: checksum.clone(), checksum_crc64nvme: checksum })
    }

    pub(super) async fn complete(&self, object: &SealedObject, how: Completing) -> Result<Stored, Incomplete> {
        let path = self.path(&object.key);
        let temporary = temporary(&path);
        let exists = self
            .on_disk(path, move |path| match (how.if_none_match, File::open(&temporary)) {
                (_, Err(error)) if error.kind() == io::ErrorKind::NotFound && how.in_doubt => Ok(false),
                (_, Err(error)) => Err(error),
                (false, Ok(file)) => {
                    file.sync_all()?;
                    fs::rename(&temporary, path).map(|()| false)
                }
                (true, Ok(file)) => {
                    file.sync_all()?;
                    // A link, unlike a rename, does not replace what is there.
                    let linked = fs::hard_link(&temporary, path);
                    fs::remove_file(&temporary)?;
                    match linked {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(true),
                        linked => linked.map(|()| false),
                    }
                }
            })
            .await?;
        if exists {
            let message = format!("'{}' is already there", self.path(&object.key).display());
            let remedy = "write into an empty directory, or remove the earlier delivery from this one";
            let failure = Failure::new(Layer::Conflict, Retry::Never, message, remedy);
            return Err(failure.into());
        }
        Ok(Stored { etag: String::new() })
    }

    pub(super) async fn abort(&self, key: &str) -> Result<(), Failure> {
        let temporary = temporary(&self.path(key));
        self.on_disk(temporary, |temporary| match fs::remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        path: PathBuf,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let shown = path.display().to_string();
        let done = tokio::task::spawn_blocking(move || work(&path)).await;
        let error = match done {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let message = format!("'{shown}' was not written: {error}");
        Err(Failure::new(
            Layer::Local,
            Retry::Never,
            message,
            "name a directory that consign may write to, with room for the delivery",
        ))
    }
}

/// Next to the file, so that the rename stays within one file system, and with a
/// beginning that no leaf can have. One name for all attempts: a later attempt
/// replaces what an earlier one left.
fn temporary(path: &Path) -> PathBuf {
    let leaf = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("_manifest.unfinished.{leaf}"))
}
