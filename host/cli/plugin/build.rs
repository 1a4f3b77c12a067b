//! `consign plugin build`: the language's own tools, and a look at what they made.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::super::Global;
use super::super::log::Priority;
use super::super::output::{self, CliError, Exit, bytes, line};
use super::workbench;
use crate::author::{self, BuildError, Project, ProjectError, Tools};
use crate::domain::Failure;

#[derive(Args)]
pub struct BuildArgs {
    /// The plugin's project: the folder of its `plugin.toml`.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Get the tools that are missing, each command shown before it runs.
    ///
    /// They go into the project's own .venv (pip) or node_modules (npm), or into
    /// the Rust toolchain (rustup).
    #[arg(long)]
    install: bool,
}

#[derive(Serialize)]
struct Built {
    component: PathBuf,
    name: String,
    version: String,
    sha256: String,
    bytes: u64,
}

pub fn build(global: &Global, args: &BuildArgs) -> Result<Exit, CliError> {
    let project = Project::read(&args.dir).map_err(|error| {
        let exit = if matches!(error, ProjectError::Unreadable { .. }) { Exit::Internal } else { Exit::Failed };
        CliError::new(exit, Failure::chain(&error), "")
    })?;
    let say = |command: &str| output::stderr(Priority::Info, command);
    author::build(&project, &Tools::new(&project.root, args.install, &say)).map_err(|error| {
        let exit = match error {
            BuildError::Read { .. } | BuildError::Write { .. } | BuildError::Start { .. } => Exit::Internal,
            _ => Exit::Failed,
        };
        CliError::new(exit, Failure::chain(&error), "")
    })?;
    let built = loaded(project)?;
    if global.json {
        output::json(&built);
        return Ok(Exit::Done);
    }
    line(&format!("built       {}", built.component.display()));
    line(&format!("name        {} {}", built.name, built.version));
    line(&format!("sha256      {}", built.sha256));
    line(&format!("size        {}", bytes(built.bytes)));
    Ok(Exit::Done)
}

/// What was built is what consign can run: it is asked who it is.
fn loaded(project: Project) -> Result<Built, CliError> {
    let subject = workbench::subject(&project.component)?;
    let loaded = workbench::look(&subject)?;
    let said = loaded.description();
    Ok(Built {
        name: said.name.clone(),
        version: said.version.clone(),
        sha256: loaded.digest().to_owned(),
        bytes: subject.bytes.len() as u64,
        component: project.component,
    })
}
