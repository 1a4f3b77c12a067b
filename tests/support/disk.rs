//! File systems so small that they fill up.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::needs::not_tested;

/// A file system of its own at a directory, unmounted with the test.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None, and a word, where the machine does not let the test mount one.
    pub fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        if !mount(at, &format!("size={megabytes}m")) {
            not_tested("only root may mount a file system");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    pub fn resize(&self, megabytes: u32) {
        assert!(mount(&self.0, &format!("remount,size={megabytes}m")));
    }

    /// Takes all the room there is, to the last block.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    /// The same, but for so many bytes.
    pub fn fill_but_for(&self, bytes: u64) {
        self.fill();
        let filler = File::options().write(true).open(self.filler()).unwrap();
        filler.set_len(filler.metadata().unwrap().len().saturating_sub(bytes)).unwrap();
    }

    pub fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing is left to do about it when it fails.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn mount(at: &Path, options: &str) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", options, "consign-test"]).arg(at);
    mount.output().is_ok_and(|output| output.status.success())
}
