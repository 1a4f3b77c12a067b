//! JavaScript: componentize-js, which puts SpiderMonkey and the project into one
//! component.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;

use super::{BuildError, Tools, WIT, read};

/// What gets the packages of a project's `package.json`.
const NODE_MODULES: [&[&str]; 1] = [&["npm", "install"]];

pub fn build(tools: &Tools<'_>) -> Result<Vec<u8>, BuildError> {
    let find = || tools.find("componentize-js", &[PathBuf::from("node_modules/.bin")]);
    let program = tools.find_or_get("componentize-js", &NODE_MODULES, find)?;
    let dir = tempfile::tempdir().map_err(|source| BuildError::Write { path: env::temp_dir(), source })?;
    let component = dir.path().join("component.wasm");
    let arguments = ["src/plugin.js", "--wit", WIT, "--world-name", "format-plugin"];
    // Nothing of WASI, most of which is not there.
    let disabled = ["--disable", "stdio", "random", "clocks", "http", "fetch-event", "--out"];
    let arguments = arguments.into_iter().chain(disabled).map(OsStr::new).chain([component.as_os_str()]);
    tools.run(&program, &arguments.collect::<Vec<_>>())?;
    read(&component)
}
