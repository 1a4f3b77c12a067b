//! A file that one process holds at a time, with its id in it for whoever comes next.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Held while it lives; the system lets go of it when the process dies.
pub struct Lock(File);

/// Why a lock was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// By whom: `process 17`, or `another process`.
    Held(String),
    Open(io::Error),
    Lock(io::Error),
}

impl Lock {
    /// Makes the file with `mode` when there is none.
    pub fn take(path: &Path, mode: u32) -> Result<Self, NotTaken> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(mode);
        let mut file = options.open(path).map_err(NotTaken::Open)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(NotTaken::Held(holder(&mut file))),
            Err(error) => return Err(NotTaken::Lock(error.into())),
        }
        // The id is only for a message, so a full disk is no reason to stop.
        if let Err(error) = note(&mut file) {
            tracing::warn!(error = %error, "cannot note the process id in {}", path.display());
        }
        Ok(Self(file))
    }

    pub fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Lock {
    /// Closing the file is not enough: a process that is being started has it
    /// open too until it becomes another program.
    fn drop(&mut self) {
        if let Err(error) = flock(&self.0, FlockOperation::Unlock) {
            tracing::warn!(error = %error, "cannot release a lock");
        }
    }
}

fn note(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut pid = String::new();
    let is_pid = file.read_to_string(&mut pid).is_ok() && pid.trim().parse::<u32>().is_ok();
    if is_pid { format!("process {}", pid.trim()) } else { "another process".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_was_dropped_is_free_although_a_copy_of_its_file_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::take(&path, 0o600).ok().unwrap();
        let Err(NotTaken::Held(holder)) = Lock::take(&path, 0o600) else { panic!("it is held") };
        assert_eq!(holder, format!("process {}", std::process::id()));
        let copy = lock.0.try_clone().unwrap();
        drop(lock);
        assert!(Lock::take(&path, 0o600).is_ok());
        drop(copy);
    }
}
