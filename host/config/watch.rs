//! What the files of a configuration look like from outside, to see that they have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files;
use super::model::Config;
use super::report::ConfigErrors;

/// The files that make up a configuration, those that are yet to come included.
#[derive(Clone, Debug)]
pub struct Watched {
    main: PathBuf,
    files: BTreeSet<PathBuf>,
    /// Of `include`.
    patterns: Vec<String>,
}

/// How they looked at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look(BTreeMap<PathBuf, Option<Stamp>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    /// A file that took the place of another.
    inode: u64,
}

impl Watched {
    pub fn of(main: &Path, config: &Config) -> Self {
        let patterns = files::includes(config.origin.root()).into_iter().map(|(pattern, _)| pattern).collect();
        let files = config.origin.files().into_iter().chain([config.lock_path.clone()]).collect();
        Self { main: main.to_owned(), files, patterns }
    }

    /// The files that are at fault too: they may be new.
    pub fn and(mut self, errors: &ConfigErrors) -> Self {
        self.files.extend(errors.problems().iter().map(|problem| problem.location.path().to_owned()));
        self
    }

    /// Reads no file, only what the folders say of them.
    pub fn look(&self) -> Look {
        let matching = self.patterns.iter().filter_map(|pattern| files::matches(&self.main, pattern).ok()).flatten();
        let all = self.files.iter().cloned().chain([self.main.clone()]).chain(matching);
        Look(all.map(|path| (path.clone(), Stamp::of(&path))).collect())
    }
}

impl Look {
    /// The same files, as they were where that is known.
    pub fn as_before(mut self, before: Self) -> Self {
        for (path, stamp) in before.0 {
            if let Some(known) = self.0.get_mut(&path) {
                *known = stamp;
            }
        }
        self
    }
}

impl Stamp {
    /// None for a file that is not there.
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self { modified: found.modified().ok(), bytes: found.len(), inode: found.ino() })
    }
}
