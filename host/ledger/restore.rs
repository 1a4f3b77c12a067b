//! Putting a backup in the place of a ledger. The ledger that was there is kept, and wherever this is
//! cut off, nobody makes a new one or goes on with the backup as it is.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::db::Db;
use super::open::{self, FILE, JOURNAL, Opening, STAGED, beside, files};
use super::{LedgerError, upkeep};
use crate::clock::Instant;
use crate::lock::Lock;

/// What SQLite has beside a ledger: what is not folded into it yet, and by whom it is read.
const BESIDE: [&str; 2] = [JOURNAL, "-shm"];

/// Puts `from` in the place of the ledger in `dir`; returns where that is from now on, if there was one.
pub(super) fn put_back(dir: &Path, from: &Path, now: Instant) -> Result<(Db, Lock, Option<PathBuf>), LedgerError> {
    let lock = open::locked(dir)?;
    let failed = |why: String| LedgerError::NotRestored { path: from.to_owned(), why };
    let backup = open::looked_at(from).map_err(|error| match error {
        LedgerError::Missing { .. } => failed("it is not there".to_owned()),
        error => error,
    })?;
    open::check(&backup, from)?;
    let copy = upkeep::copy(&backup, dir, true).map_err(failed)?;
    open::give_away(dir, copy.as_file())?;
    let staged = dir.join(STAGED);
    copy.persist(&staged).map_err(|error| files("create", &staged)(error.error))?;
    sync(dir)?;
    let kept = set_aside(dir, now)?;
    take_place(dir)?;
    Ok((Db::Sqlite(open::opened(&dir.join(FILE), Opening::Restored)?), lock, kept))
}

/// The ledger that is there, put back in whichever way, also where [`put_back`] was cut off.
pub(super) fn in_place(dir: &Path, now: Instant) -> Result<(Db, Lock), LedgerError> {
    let (path, staged) = (dir.join(FILE), dir.join(STAGED));
    if !path.exists() && !staged.exists() {
        return Err(LedgerError::Missing { path });
    }
    let lock = open::locked(dir)?;
    if path.exists() && staged.exists() {
        let why =
            "a restoration was cut off before it: repeat `consign ledger restore`, or remove that file".to_owned();
        return Err(LedgerError::NotRestored { path: staged, why });
    }
    match path.exists() {
        false => take_place(dir)?,
        // Put there by hand. What is beside it is the journal of the ledger before.
        true if open::is_fresh_copy(&path)? => keep_journal(&path, now)?,
        true => {}
    }
    // Root may have put it there, and the service is another user.
    open::give_away(dir, &File::open(&path).map_err(files("read", &path))?)?;
    Ok((Db::Sqlite(open::opened(&path, Opening::Restored)?), lock))
}

/// Keeps the ledger under another name, and takes it away. It is gone before its journal is: what has
/// only a journal is taken for damaged.
fn set_aside(dir: &Path, now: Instant) -> Result<Option<PathBuf>, LedgerError> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let kept = kept(&path, now);
    link(&path, &kept).map_err(files("keep", &path))?;
    let journal = beside(&path, JOURNAL);
    link(&journal, &beside(&kept, JOURNAL)).map_err(files("keep", &journal))?;
    sync(dir)?;
    fs::remove_file(&path).map_err(files("move", &path))?;
    Ok(Some(kept))
}

/// The name under which the ledger that was at `path` is kept.
fn kept(path: &Path, now: Instant) -> PathBuf {
    beside(path, &format!(".replaced-{}", now.format("%Y%m%dT%H%M%SZ")))
}

fn keep_journal(path: &Path, now: Instant) -> Result<(), LedgerError> {
    let [journal, shared] = BESIDE.map(|end| beside(path, end));
    link(&journal, &beside(&kept(path, now), JOURNAL)).map_err(files("keep", &journal))?;
    [journal, shared].iter().try_for_each(|rest| remove(rest))
}

/// Puts what is staged where no ledger is any more. The journal of the one before is none of it.
fn take_place(dir: &Path) -> Result<(), LedgerError> {
    let (path, staged) = (dir.join(FILE), dir.join(STAGED));
    BESIDE.iter().try_for_each(|end| remove(&beside(&path, end)))?;
    sync(dir)?;
    fs::rename(&staged, &path).map_err(files("move", &staged))?;
    sync(dir)
}

/// If it is there.
fn remove(path: &Path) -> Result<(), LedgerError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(files("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A second name for a file, if there is anything in it.
fn link(path: &Path, name: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Of a journal, whoever only reads leaves that much.
        Ok(found) if found.len() == 0 => Ok(()),
        found => found.and_then(|_| fs::hard_link(path, name)),
    }
}

fn sync(dir: &Path) -> Result<(), LedgerError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(files("sync", dir))
}
