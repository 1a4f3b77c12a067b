//! A file that one process holds at a time, with its id in it for whoever comes next.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Held while it lives; the system lets go of it when the process dies.
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

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
