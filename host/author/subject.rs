//! The component that is to be run, wherever it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::project::{Project, ProjectError};
use crate::domain::{Invalid, PluginName};
use crate::limits::Isolation;
use crate::plugin::{SHIPPED, shipped};

/// A component and where it is from.
#[derive(Clone, Debug)]
pub struct Subject {
    /// As one would name it in a configuration: by its file.
    pub name: PluginName,
    /// None for a shipped one.
    pub file: Option<PathBuf>,
    pub bytes: Vec<u8>,
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("a component cannot be named: it {0}")]
    Name(Invalid),
}

impl Subject {
    /// The component of a project's folder, a component's file, or a shipped plugin by its name.
    pub fn find(path: &Path) -> Result<Self, SubjectError> {
        let shipped = path.to_str().filter(|name| SHIPPED.contains(name)).and_then(shipped);
        match shipped {
            Some(bytes) => Ok(Self { name: name(path)?, file: None, bytes: bytes.to_vec() }),
            None if path.is_dir() => Self::read(Project::read(path)?.built()?),
            None => Self::read(path),
        }
    }

    /// Where a daemon has its code run, unless the configuration says otherwise.
    pub fn isolation(&self) -> Isolation {
        if self.file.is_some() { Isolation::Process } else { Isolation::InProcess }
    }

    fn read(path: &Path) -> Result<Self, SubjectError> {
        let bytes = fs::read(path).map_err(|source| SubjectError::Unreadable { path: path.into(), source })?;
        Ok(Self { name: name(path)?, file: Some(path.into()), bytes })
    }
}

/// By the file's name, as one would in the configuration.
fn name(path: &Path) -> Result<PluginName, SubjectError> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_ascii_lowercase();
    PluginName::parse(&stem).or_else(|_| PluginName::parse("component")).map_err(SubjectError::Name)
}
