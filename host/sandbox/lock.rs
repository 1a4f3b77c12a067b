//! One sandbox to a directory: what is written on condition is only sure within one process, and
//! each sandbox clears away what it finds half-written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::SandboxError;

/// Held while it lives; the system lets go of it when the process dies.
pub(super) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    pub fn take(dir: &Path) -> Result<Self, SandboxError> {
        let dir_error = |source| SandboxError::Dir { dir: dir.to_owned(), source };
        let mut file = open(dir).map_err(dir_error)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(SandboxError::Held { dir: dir.to_owned(), holder: holder(&mut file) });
            }
            Err(error) => return Err(dir_error(error.into())),
        }
        // The pid is only for whoever comes next, so a full disk is no reason to stop.
        let _ = note(&mut file);
        Ok(Self(file))
    }
}

fn open(dir: &Path) -> io::Result<File> {
    let inner = dir.join(".sandbox");
    fs::create_dir_all(&inner)?;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(inner.join("lock"))
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
