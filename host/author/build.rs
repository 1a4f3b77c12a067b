//! Builds a project with its language's own tools, so that its component lies where
//! `plugin.toml` says.

mod c;
mod javascript;
mod python;
mod rust;
mod tools;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::component::ComponentError;
use super::{Language, Project};
use crate::replace::replace;

pub use tools::Tools;

/// Where a project has the contract, by its `plugin.toml`'s folder.
const WIT: &str = "wit/v1";

/// Why a project was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(
        "consign does not build {language:?}, only rust, python, javascript and c; \
         build it with its own tools and leave the component at {}",
        component.display()
    )]
    Language { language: String, component: PathBuf },
    /// What to run to get it; `--install` runs it.
    #[error("{what} is not there; get it with `consign plugin build --install`, which runs: {}", get.join("; "))]
    Missing { what: &'static str, get: Vec<String> },
    /// Nothing that consign could install.
    #[error("{what} is not there; {get}")]
    Wanting { what: &'static str, get: &'static str },
    #[error("cannot start {program}")]
    Start { program: String, source: io::Error },
    /// What went wrong has been shown.
    #[error("{program} ended with {status}; what it said is above")]
    Failed { program: String, status: ExitStatus },
    #[error("{program} left no {what}")]
    Nothing { program: &'static str, what: String },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Component(#[from] ComponentError),
}

/// Builds `project`. `tools` runs the programs, and gets those that are missing if
/// it was told to.
pub fn build(project: &Project, tools: &Tools<'_>) -> Result<(), BuildError> {
    let Some(language) = Language::named(&project.language) else {
        let (language, component) = (project.language.clone(), project.component.clone());
        return Err(BuildError::Language { language, component });
    };
    if let Some(folder) = project.component.parent() {
        fs::create_dir_all(folder).map_err(|source| BuildError::Write { path: folder.into(), source })?;
    }
    let component = match language {
        Language::Rust => rust::build(project, tools)?,
        Language::Python => python::build(tools)?,
        Language::JavaScript => javascript::build(tools)?,
        Language::C => c::build(project, tools)?,
    };
    // As a whole or not at all, for a daemon may be reading it.
    let failed = |source| BuildError::Write { path: project.component.clone(), source };
    replace(&project.component, &component).map_err(failed)
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(|source| BuildError::Read { path: path.into(), source })
}
