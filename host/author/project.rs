//! `plugin.toml`: what consign has to know of a plugin's project.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::domain::Failure;

/// A folder in which a plugin is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The folder of its `plugin.toml`.
    pub root: PathBuf,
    /// In what it is written: `rust`, `go`, `python`, …
    pub language: String,
    /// Where a build leaves the component; below or beside `root`.
    pub component: PathBuf,
}

/// Why a folder is not a project that consign can work with.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    #[error(
        "there is no {} in {}; name a plugin's project, as `consign plugin new` makes it, or a component's file",
        Project::FILE,
        dir.display()
    )]
    Missing { dir: PathBuf },
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// The message shows the place.
    #[error("{} is not a plugin's manifest: {message}", path.display())]
    Malformed { path: PathBuf, message: String },
    #[error("{} has not been built: there is no {}; run `consign plugin build {}`", root.display(), component.display(), root.display())]
    NotBuilt { root: PathBuf, component: PathBuf },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    language: String,
    component: PathBuf,
}

impl Project {
    /// The manifest at the root of a project.
    pub const FILE: &str = "plugin.toml";

    /// The project at `dir`, built or not.
    pub fn read(dir: &Path) -> Result<Self, ProjectError> {
        let path = dir.join(Self::FILE);
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ProjectError::Missing { dir: dir.into() },
            _ => ProjectError::Unreadable { path: path.clone(), source },
        })?;
        let raw: Raw = toml::from_str(&text).map_err(|error| ProjectError::Malformed {
            path: path.clone(),
            message: Failure::chain(&error).trim_end().to_owned(),
        })?;
        if raw.component.as_os_str().is_empty() {
            let message = "`component` is empty; write where the build leaves the component".to_owned();
            return Err(ProjectError::Malformed { path, message });
        }
        Ok(Self { root: dir.into(), language: raw.language, component: dir.join(raw.component) })
    }

    /// The component's file, if a build has left one.
    pub fn built(&self) -> Result<&Path, ProjectError> {
        if self.component.is_file() {
            return Ok(&self.component);
        }
        Err(ProjectError::NotBuilt { root: self.root.clone(), component: self.component.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Project, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(Project::FILE), text).unwrap();
        Project::read(dir.path()).map_err(|error| Failure::chain(&error)).map(|project| {
            let component = project.component.strip_prefix(dir.path()).unwrap().to_owned();
            assert!(matches!(project.built(), Err(ProjectError::NotBuilt { .. })));
            fs::write(&project.component, "").unwrap();
            assert_eq!(project.built().unwrap(), project.component);
            Project { root: PathBuf::new(), component, ..project }
        })
    }

    #[test]
    fn a_manifest_names_language_and_component() {
        let project = read("language = \"rust\"\ncomponent = \"made.wasm\"\n").unwrap();
        assert_eq!((project.language.as_str(), project.component.as_path()), ("rust", Path::new("made.wasm")));
    }

    #[test]
    fn what_is_wrong_with_a_manifest_is_said_with_its_place() {
        let unknown = read("language = \"rust\"\ncomponet = \"made.wasm\"\n").unwrap_err();
        assert!(
            unknown.contains("plugin.toml") && unknown.contains("componet") && unknown.contains("line 2"),
            "{unknown}"
        );
        assert!(read("language = \"c\"\ncomponent = \"\"\n").unwrap_err().contains("`component` is empty"));
        let dir = tempfile::tempdir().unwrap();
        let missing = Project::read(dir.path()).unwrap_err().to_string();
        assert!(missing.contains("plugin.toml") && missing.contains("consign plugin new"), "{missing}");
    }
}
