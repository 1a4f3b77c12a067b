//! Python: componentize-py, which puts CPython and the project into one component.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{BuildError, Tools, WIT, read};

/// What gets the packages of a project's `requirements.txt`.
pub const VENV: [&[&str]; 2] =
    [&["python3", "-m", "venv", ".venv"], &[".venv/bin/pip", "install", "-r", "requirements.txt"]];

/// The project's own environment.
const VENV_DIR: &str = ".venv";

/// Where Python's programs are: in the project's own environment, or the active one.
pub fn folders() -> Vec<PathBuf> {
    let active = env::var_os("VIRTUAL_ENV").map(|environment| PathBuf::from(environment).join("bin"));
    [Path::new(VENV_DIR).join("bin")].into_iter().chain(active).collect()
}

pub fn build(tools: &Tools<'_>) -> Result<Vec<u8>, BuildError> {
    let find = || tools.find("componentize-py", &folders());
    let program = tools.find_or_get("componentize-py", &VENV, find)?;
    let dir = tempfile::tempdir().map_err(|source| BuildError::Write { path: env::temp_dir(), source })?;
    let component = dir.path().join("component.wasm");
    let arguments = ["--quiet", "--wit-path", WIT, "--world", "format-plugin", "componentize"];
    let arguments = arguments.into_iter().chain(["--stub-wasi", "--python-path", "src", "plugin", "--output"]);
    let arguments: Vec<&OsStr> = arguments.map(OsStr::new).chain([component.as_os_str()]).collect();
    // By this it finds the packages of the environment that it is in itself.
    let own = tools.path(VENV_DIR);
    let environment = program.starts_with(&own).then_some(("VIRTUAL_ENV", own.as_path()));
    tools.run_with(environment, &program, &arguments)?;
    read(&component)
}
