//! Files that are put in the place of others, which are whole at any instant.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tempfile::NamedTempFile;

/// The file of this name from now on, with the rights of the one that was there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    persist(beside(path, bytes)?, path)
}

/// A new file in the folder of `path`, to be put in its place, with its rights; gone when it is dropped.
pub fn beside(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(".consign-").tempfile_in(folder(path))?;
    file.write_all(bytes)?;
    let there = fs::metadata(path).ok();
    if let Some(there) = &there {
        // Only root may give a file away; what anybody else writes is his.
        let _ = fchown(file.as_file(), Some(there.uid()), Some(there.gid()));
    }
    // Others read it too, as any file of a project or a configuration.
    let rights = there.map_or(Permissions::from_mode(0o644), |there| there.permissions());
    file.as_file().set_permissions(rights)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Puts a file from [`beside`] in its place.
pub fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.persist(path).map_err(|error| error.error)?;
    sync(path)
}

/// Has two files of one folder change places in one step. False: the file system cannot.
pub fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => sync(other).map(|()| true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// After a power cut the folder has the names that it has now, where the file system can say so.
fn sync(path: &Path) -> io::Result<()> {
    match File::open(folder(path))?.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// The one that a path's file is in.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rights_stay_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        replace(&path, b"one").unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode()), (b"one".to_vec(), 0o644));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode()), (b"two".to_vec(), 0o640));
        drop(beside(&path, b"three").unwrap());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn two_files_change_places() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        fs::write(&one, "1").unwrap();
        assert_eq!(exchange(&one, &other).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&other, "2").unwrap();
        if exchange(&one, &other).unwrap() {
            assert_eq!((fs::read(&one).unwrap(), fs::read(&other).unwrap()), (b"2".to_vec(), b"1".to_vec()));
        }
    }
}
