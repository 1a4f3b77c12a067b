//! C: zig's clang, which knows WebAssembly and brings a libc for it. consign makes
//! the component of its module.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::component::componentize;
use super::python::{self, VENV};
use super::{BuildError, Project, Tools, WIT, read};

/// `_initialize` instead of `main`; all warnings; vectors, which the engine has.
const FLAGS: [&str; 6] = ["-mexec-model=reactor", "-std=gnu11", "-O3", "-msimd128", "-Wall", "-Wextra"];

pub fn build(project: &Project, tools: &Tools<'_>) -> Result<Vec<u8>, BuildError> {
    let (compiler, mut arguments) = compiler(tools)?;
    let dir = tempfile::tempdir().map_err(|source| BuildError::Write { path: std::env::temp_dir(), source })?;
    let module = dir.path().join("module.wasm");
    arguments.extend(["--target=wasm32-wasi".into(), "-o".into(), module.clone().into()]);
    arguments.extend(FLAGS.map(OsString::from));
    arguments.extend(sources(&project.root, "src")?.into_iter().map(OsString::from));
    tools.run(&compiler, &arguments)?;
    Ok(componentize(&read(&module)?, &project.root.join(WIT))?)
}

/// Python's package of zig, of the project's version, else whatever zig there is.
fn compiler(tools: &Tools<'_>) -> Result<(PathBuf, Vec<OsString>), BuildError> {
    let python = || {
        let python = tools.find("python3", &python::folders())?;
        tools.ask(&python, &["-c", "import ziglang"]).map(|_| python)
    };
    if python().is_none()
        && let Some(zig) = tools.find("zig", &[])
    {
        return Ok((zig, vec!["cc".into()]));
    }
    let python = tools.find_or_get("zig, the C compiler,", &VENV, python)?;
    Ok((python, ["-m", "ziglang", "cc"].map(OsString::from).to_vec()))
}

/// The C files of a folder, sorted; those of folders in it too.
fn sources(root: &Path, folder: &str) -> Result<Vec<PathBuf>, BuildError> {
    let path = root.join(folder);
    let failed = |source| BuildError::Read { path: path.clone(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let inside = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            found.extend(sources(root, &inside)?);
        } else if inside.ends_with(".c") {
            found.push(inside.into());
        }
    }
    found.sort();
    Ok(found)
}
