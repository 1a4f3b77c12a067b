//! Changes of the configuration's files: checked as a whole, then written, each file
//! at once or not at all.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;

use crate::cli::Global;
use crate::cli::output::{CliError, Exit};
use crate::config::{Config, ConfigErrors, Edits, Environment};
use crate::domain::Failure;
use crate::replace::folder;

/// What is to be written. Until that is done nobody else changes the configuration
/// by these commands.
pub struct Change {
    main: PathBuf,
    edits: Edits,
    /// What each file held when it was read; None for one that was not there.
    seen: BTreeMap<PathBuf, Option<String>>,
    _turn: File,
}

impl Change {
    /// Waits for its turn.
    pub fn begin(global: &Global) -> Result<Self, CliError> {
        let main = global.config.clone();
        let folder = folder(&main);
        let turn = File::open(folder)
            .and_then(|file| flock(&file, FlockOperation::LockExclusive).map(|()| file).map_err(Into::into))
            .map_err(|error| {
                let message = format!("cannot use the configuration's folder {}: {error}", folder.display());
                CliError::new(Exit::Config, message, "name the configuration with --config")
            })?;
        Ok(Self { main, edits: Edits::default(), seen: BTreeMap::new(), _turn: turn })
    }

    /// What a file will hold, as far as that is known now; empty for a new one.
    pub fn text(&mut self, path: &Path) -> Result<String, CliError> {
        let edited = self.edits.iter().find(|(edited, _)| *edited == path).map(|(_, text)| text.map(str::to_owned));
        if let Some(text) = edited {
            return Ok(text.unwrap_or_default());
        }
        let found = now(path)?;
        Ok(self.seen.entry(path.to_owned()).or_insert(found).clone().unwrap_or_default())
    }

    pub fn set(&mut self, path: &Path, text: String) {
        self.edits.set(path, text);
    }

    pub fn remove(&mut self, path: &Path) {
        self.edits.remove(path);
    }

    /// The configuration with the changes, and all that is wrong with it.
    pub fn survey(&self) -> Result<(Config, ConfigErrors), ConfigErrors> {
        Config::survey_with(&self.main, &Environment::of_process(), &self.edits)
    }

    /// The configuration as it will be. Err: something is wrong with it, and nothing is written.
    pub fn checked(&self) -> Result<Config, CliError> {
        self.checked_besides(&ConfigErrors::new())
    }

    /// The same for who is not to be kept by what is wrong `already`.
    pub fn checked_besides(&self, already: &ConfigErrors) -> Result<Config, CliError> {
        let (config, found) = self.survey().map_err(unwritten)?;
        let warnings = found.besides(already).warnings().map_err(unwritten)?;
        Ok(Config { warnings, ..config })
    }

    /// Writes all of it. What cannot be finished is taken back.
    pub fn write(mut self) -> Result<(), CliError> {
        let paths: Vec<PathBuf> = self.edits.iter().map(|(path, _)| path.to_owned()).collect();
        for path in &paths {
            self.text_seen(path)?;
        }
        let mut ready = Vec::new();
        for (path, text) in self.edits.iter() {
            let file = text.map(|text| self.temporary(path, text)).transpose()?;
            ready.push((path.to_owned(), file));
        }
        // Profiles that go, go last: until then whoever reads finds what shares name.
        ready.sort_by_key(|(_, file)| file.is_none());
        for (path, before) in &self.seen {
            if now(path)? != *before {
                let message = format!("{} was changed meanwhile", path.display());
                return Err(CliError::new(Exit::Failed, message, "nothing is written; repeat this"));
            }
        }
        let mut done = Vec::new();
        for (path, file) in ready {
            let result = match file {
                Some(file) => file.persist(target(&path)).map(drop).map_err(|error| error.error),
                None => std::fs::remove_file(&path),
            };
            if let Err(error) = result.and_then(|()| sync(&path)) {
                self.take_back(&done);
                let what = format!("cannot write {}, and nothing is changed", path.display());
                return Err(CliError::internal(&what, &error));
            }
            done.push(path);
        }
        Ok(())
    }

    fn text_seen(&mut self, path: &Path) -> Result<(), CliError> {
        if !self.seen.contains_key(path) {
            let found = now(path)?;
            self.seen.insert(path.to_owned(), found);
        }
        Ok(())
    }

    fn take_back(&self, done: &[PathBuf]) {
        for path in done {
            let result = match self.seen.get(path) {
                Some(Some(text)) => self.temporary(path, text).and_then(|file| {
                    file.persist(target(path)).map(drop).map_err(|error| unwritable(path, &error.error))
                }),
                _ => std::fs::remove_file(path).map_err(|error| unwritable(path, &error)),
            };
            if let Err(error) = result {
                tracing::error!("{}", error.message);
            }
        }
    }

    /// A file beside `path` with this text, on disk, with the rights and the owner of what is
    /// there. A new one is the main file's owner's; whoever may read that one may read it.
    fn temporary(&self, path: &Path, text: &str) -> Result<NamedTempFile, CliError> {
        let target = target(path);
        let make = || -> std::io::Result<NamedTempFile> {
            make_folder(folder(&target), &std::fs::metadata(folder(&self.main))?)?;
            let mut file = tempfile::Builder::new().prefix(".consign-").suffix(".tmp").tempfile_in(folder(&target))?;
            file.write_all(text.as_bytes())?;
            let own = file.as_file().metadata()?;
            let (like, rights) = match std::fs::metadata(&target) {
                Ok(there) => {
                    let rights = there.mode() & 0o7777;
                    (there, rights)
                }
                Err(_) => {
                    let main = std::fs::metadata(&self.main)?;
                    // The daemon may be a user that is neither owner nor in the group.
                    let rights = 0o640 | (main.mode() & 0o004);
                    (main, rights)
                }
            };
            give(file.as_file(), &own, &like)?;
            file.as_file().set_permissions(Permissions::from_mode(rights))?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        make().map_err(|error| unwritable(path, &error))
    }
}

/// Made with the rights and the owner of the main file's folder, whatever this process's umask is: the daemon
/// may be another user.
fn make_folder(path: &Path, like: &Metadata) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    make_folder(folder(path), like)?;
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    let made = File::open(path)?;
    give(&made, &made.metadata()?, like)?;
    made.set_permissions(Permissions::from_mode(like.mode() & 0o7777))?;
    File::open(folder(path))?.sync_all()
}

/// Gives a file to whom another one belongs.
fn give(file: &File, own: &Metadata, like: &Metadata) -> std::io::Result<()> {
    if (own.uid(), own.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    fchown(file, Some(like.uid()), Some(like.gid())).map_err(|error| {
        let why = format!("its owner (user {}, group {}) cannot be kept: {error}", like.uid(), like.gid());
        std::io::Error::new(error.kind(), why)
    })
}

/// With an error in the configuration nothing is written.
fn unwritten(errors: ConfigErrors) -> CliError {
    CliError { help: "nothing is written".to_owned(), ..errors.into() }
}

fn unwritable(path: &Path, error: &std::io::Error) -> CliError {
    let help = match error.kind() {
        ErrorKind::PermissionDenied => "nothing is written; do this as root, or as whoever owns the configuration",
        _ => "nothing is written",
    };
    CliError::new(Exit::Internal, format!("cannot write {}: {}", path.display(), Failure::chain(error)), help)
}

/// What is to be replaced: behind a symbolic link the file, so that the link stays.
fn target(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A rename lasts once its folder is on disk.
fn sync(path: &Path) -> std::io::Result<()> {
    File::open(folder(&target(path)))?.sync_all()
}

fn now(path: &Path) -> Result<Option<String>, CliError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(CliError::new(Exit::Config, format!("cannot read {}: {error}", path.display()), "nothing is written"))
        }
    }
}
