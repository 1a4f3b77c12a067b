//! A case of a plugin's tests: a folder with an input, and what is to become of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{CaseSettings, ConfigErrors, FileFormat, PluginOptions, TableSource};

/// `cases/NAME`, read.
pub struct Case {
    pub name: String,
    pub dir: PathBuf,
    pub settings: CaseSettings,
    pub options: PluginOptions,
    pub input: TableSource,
    pub expected: Expected,
}

/// What is to come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nobody has said so yet.
    Unsaid,
    /// The bytes of each object, from `expected/`.
    Objects(BTreeMap<String, Vec<u8>>),
    /// What consign says when it refuses the options or the rows, from `error.txt`.
    Refusal(String),
}

/// Why a folder is not a case that can be run.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("{0}")]
    Settings(ConfigErrors),
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error(
        "there is no input: put the rows into input.parquet (or .csv, .tsv, .jsonl, .ndjson, .avro, .arrow), \
         or name a file as `input` in {}",
        Case::SETTINGS
    )]
    NoInput,
    #[error("there are several inputs: {}; keep one, or name it as `input` in {}", names.join(", "), Case::SETTINGS)]
    Inputs { names: Vec<String> },
    #[error("there are {} and {}/: a case is refused, or it writes objects", Case::REFUSAL, Case::OBJECTS)]
    Both,
}

impl Case {
    /// What is another than usual in its run; may be missing.
    pub const SETTINGS: &str = "case.toml";
    /// The plugin's options; may be missing.
    pub const OPTIONS: &str = "options.toml";
    /// The folder of the objects that are expected.
    pub const OBJECTS: &str = "expected";
    /// The text of the refusal that is expected.
    pub const REFUSAL: &str = "error.txt";
    /// Keeps a folder in git in which nothing is expected.
    pub const EMPTY: &str = ".gitkeep";

    /// Reads the case of this name under `cases`.
    pub fn read(cases: &Path, name: &str) -> Result<Self, Broken> {
        let dir = cases.join(name);
        let there = |leaf: &str| Some(dir.join(leaf)).filter(|path| path.exists());
        let settings =
            there(Self::SETTINGS).map_or_else(|| Ok(CaseSettings::default()), |path| CaseSettings::load(&path));
        let mut settings = settings.map_err(Broken::Settings)?;
        let options =
            there(Self::OPTIONS).map_or_else(|| Ok(PluginOptions::default()), |path| PluginOptions::load(&path));
        let options = options.map_err(Broken::Settings)?;
        let input = match settings.input.take() {
            Some(input) => input,
            None => input(&dir)?,
        };
        let expected = match (there(Self::OBJECTS), there(Self::REFUSAL)) {
            (None, None) => Expected::Unsaid,
            (Some(_), Some(_)) => return Err(Broken::Both),
            (Some(objects), None) => Expected::Objects(files(&objects)?),
            (None, Some(path)) => {
                let text = fs::read_to_string(&path).map_err(|source| Broken::Unreadable { path, source })?;
                Expected::Refusal(text)
            }
        };
        Ok(Self { name: name.to_owned(), dir, settings, options, input, expected })
    }
}

/// The names of the cases under a folder, sorted.
pub fn cases(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The only file `input.*`.
fn input(dir: &Path) -> Result<TableSource, Broken> {
    let unreadable = |source| Broken::Unreadable { path: dir.into(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        if name.starts_with("input.")
            && let Some(format) = FileFormat::of_path(&name)
        {
            found.push((name, format));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    match found.pop() {
        None => Err(Broken::NoInput),
        Some((name, format)) if found.is_empty() => Ok(table(&dir.join(name), format)),
        Some((last, _)) => {
            let names = found.into_iter().map(|(name, _)| name).chain([last]).collect();
            Err(Broken::Inputs { names })
        }
    }
}

/// A file as a table, with the columns that are found in it.
pub fn table(path: &Path, format: FileFormat) -> TableSource {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let path = path.to_string_lossy().into_owned();
    TableSource { path, format, partitions: Vec::new(), columns: BTreeMap::new() }
}

/// The files of a folder by their names.
pub fn files(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>, Broken> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        |source| Broken::Unreadable { path, source }
    };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(unreadable(dir))? {
        let entry = entry.map_err(unreadable(dir))?;
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        if name != Case::EMPTY {
            files.insert(name, fs::read(&path).map_err(unreadable(&path))?);
        }
    }
    Ok(files)
}
