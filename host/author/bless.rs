//! Takes what a case wrote for what is expected of it from now on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::case::{self, Broken, Case};
use super::trial::{Outcome, Trial};
use crate::replace::replace;

/// What was done to one file of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Below the case's folder.
    pub file: String,
    pub done: Done,
    pub size_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Added,
    Replaced,
    Removed,
}

/// Writes `expected/`, or `error.txt`, and removes what is no longer written.
/// Each file is replaced as a whole; one that is as it was is left alone.
pub fn bless(case: &Case, trial: &Trial) -> Result<Vec<Change>, Broken> {
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        |source| Broken::Unwritable { path, source }
    };
    let folder = case.dir.join(Case::OBJECTS);
    let mut wanted: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    match &trial.outcome {
        Outcome::Refused(refusal) => {
            wanted.insert(Case::REFUSAL.into(), format!("{}\n", refusal.text).into_bytes());
        }
        Outcome::Wrote => {
            let objects = trial.objects().iter();
            wanted.extend(objects.map(|object| (format!("{}/{}", Case::OBJECTS, object.name), object.bytes.clone())));
            if wanted.is_empty() {
                wanted.insert(format!("{}/{}", Case::OBJECTS, Case::EMPTY), Vec::new());
            }
            fs::create_dir_all(&folder).map_err(unwritable(&folder))?;
        }
    }
    let before = there(case, &folder)?;
    let mut changes = Vec::new();
    for (file, bytes) in &wanted {
        let done = match before.get(file) {
            Some(same) if same == bytes => continue,
            Some(_) => Done::Replaced,
            None => Done::Added,
        };
        let path = case.dir.join(file);
        replace(&path, bytes).map_err(unwritable(&path))?;
        changes.push(Change { file: file.clone(), done, size_bytes: bytes.len() as u64 });
    }
    for (file, bytes) in before.iter().filter(|(file, _)| !wanted.contains_key(*file)) {
        let path = case.dir.join(file);
        fs::remove_file(&path).map_err(unwritable(&path))?;
        changes.push(Change { file: file.clone(), done: Done::Removed, size_bytes: bytes.len() as u64 });
    }
    if matches!(trial.outcome, Outcome::Refused(_)) && folder.exists() {
        fs::remove_dir(&folder).map_err(unwritable(&folder))?;
    }
    Ok(changes)
}

/// What is expected now, by the paths below the case's folder.
fn there(case: &Case, folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, Broken> {
    let mut there = BTreeMap::new();
    if folder.exists() {
        let below = |name: &str| format!("{}/{name}", Case::OBJECTS);
        there.extend(case::files(folder)?.into_iter().map(|(name, bytes)| (below(&name), bytes)));
        if folder.join(Case::EMPTY).exists() {
            there.insert(below(Case::EMPTY), Vec::new());
        }
    }
    let refusal = case.dir.join(Case::REFUSAL);
    if refusal.exists() {
        let bytes = fs::read(&refusal).map_err(|source| Broken::Unreadable { path: refusal, source })?;
        there.insert(Case::REFUSAL.into(), bytes);
    }
    Ok(there)
}
