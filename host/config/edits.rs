//! A configuration as it would be: files changed, new or gone, so that all of it can
//! be checked before any of it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::files;
use super::model::Config;
use crate::replace::folder;

/// What is to become of files.
#[derive(Clone, Debug, Default)]
pub struct Edits(BTreeMap<PathBuf, Edit>);

#[derive(Clone, Debug)]
struct Edit {
    /// As whoever edits calls it.
    path: PathBuf,
    /// None: it goes.
    text: Option<String>,
}

impl Edits {
    /// What a file is to hold. One that is in no folder that is included is not part of the
    /// configuration.
    pub fn set(&mut self, path: &Path, text: String) {
        self.0.insert(identity(path), Edit { path: path.to_owned(), text: Some(text) });
    }

    pub fn remove(&mut self, path: &Path) {
        self.0.insert(identity(path), Edit { path: path.to_owned(), text: None });
    }

    /// The files with their texts; None for one that goes.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, Option<&str>)> {
        self.0.values().map(|edit| (edit.path.as_path(), edit.text.as_deref()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.get(path) {
            None => std::fs::read(path),
            Some(Edit { text: Some(text), .. }) => Ok(text.clone().into_bytes()),
            Some(Edit { text: None, .. }) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether it will be a file.
    pub(super) fn is_file(&self, path: &Path) -> bool {
        self.get(path).map_or_else(|| path.is_file(), |edit| edit.text.is_some())
    }

    /// Makes what a glob finds into what it would find.
    pub(super) fn amend(&self, whole: &str, found: &mut Vec<PathBuf>) {
        if self.0.is_empty() {
            return;
        }
        let mut there = BTreeSet::new();
        found.retain(|path| {
            let same = identity(path);
            let stays = self.0.get(&same).is_none_or(|edit| edit.text.is_some());
            there.insert(same);
            stays
        });
        let new = self.0.iter().filter(|(same, edit)| edit.text.is_some() && !there.contains(*same));
        found.extend(new.map(|(_, edit)| edit.path.clone()).filter(|path| fits(whole, path)));
    }

    fn get(&self, path: &Path) -> Option<&Edit> {
        if self.0.is_empty() { None } else { self.0.get(&identity(path)) }
    }
}

impl Config {
    /// The main file.
    pub fn path(&self) -> PathBuf {
        self.origin.files().into_iter().next().unwrap_or_default()
    }

    /// Whether a file would be read, were it there, because of a glob in `include`.
    pub fn includes(&self, file: &Path) -> bool {
        let main = self.path();
        files::includes(self.origin.root()).iter().any(|(pattern, _)| {
            let is_glob = pattern.contains(['*', '?', '[']);
            is_glob && files::whole(&main, pattern).is_some_and(|whole| fits(&whole, file))
        })
    }
}

/// As the globs of `include` are matched: a star stays within its folder.
fn fits(whole: &str, path: &Path) -> bool {
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    let plain = |text: &str| text.replace("/./", "/").trim_start_matches("./").to_owned();
    let (Ok(pattern), Some(path)) = (Pattern::new(&plain(whole)), path.to_str()) else { return false };
    pattern.matches_with(&plain(path), options)
}

/// The one name of a file, whether or not it is there yet.
fn identity(path: &Path) -> PathBuf {
    if let Ok(whole) = std::fs::canonicalize(path) {
        return whole;
    }
    let folder = folder(path);
    let folder = std::fs::canonicalize(folder).or_else(|_| std::path::absolute(folder)).unwrap_or(folder.to_owned());
    path.file_name().map_or(folder.clone(), |name| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_names_what_is_in_its_folder() {
        for (pattern, path, is_named) in [
            ("customers.d/*.toml", "customers.d/a.toml", true),
            ("./customers.d/*.toml", "customers.d/a.toml", true),
            ("/etc/consign/customers.d/*.toml", "/etc/consign/customers.d/a.toml", true),
            ("customers.d/*.toml", "customers.d/x/a.toml", false),
            ("*.toml", "customers.d/a.toml", false),
            ("customers.d/[", "customers.d/[", false),
        ] {
            assert_eq!(fits(pattern, Path::new(path)), is_named, "{pattern} {path}");
        }
    }
}
