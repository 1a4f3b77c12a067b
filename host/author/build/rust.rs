//! Rust: cargo, for the target that makes components.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{BuildError, Project, Tools, read};

const TARGET: &str = "wasm32-wasip2";

/// One line of what `cargo build --message-format json` prints.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

pub fn build(project: &Project, tools: &Tools<'_>) -> Result<Vec<u8>, BuildError> {
    let get = "install Rust as https://rustup.rs says";
    let cargo = tools.find("cargo", &[]).ok_or(BuildError::Wanting { what: "cargo", get })?;
    tools.find_or_get("the Rust target wasm32-wasip2", &[&["rustup", "target", "add", TARGET]], || {
        let folder = tools.ask(Path::new("rustc"), &["--print", "target-libdir", "--target", TARGET])?;
        Some(PathBuf::from(folder)).filter(|folder| folder.is_dir())
    })?;
    let format = "--message-format=json-render-diagnostics";
    let said = tools.output(&cargo, &["build", "--release", "--target", TARGET, format])?;
    let manifest = project.root.join("Cargo.toml");
    let manifest = manifest.canonicalize().map_err(|source| BuildError::Read { path: manifest, source })?;
    let component = component(&String::from_utf8_lossy(&said), &manifest);
    let component = component.ok_or_else(|| BuildError::Nothing {
        program: "cargo",
        what: format!("component; {} wants `crate-type = [\"cdylib\"]` under `[lib]`", manifest.display()),
    })?;
    read(&component)
}

/// The component among what cargo says it made. Wherever that is: the target
/// directory is the user's choice.
fn component(said: &str, manifest: &Path) -> Option<PathBuf> {
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let artifacts = messages.filter(|it| it.reason == "compiler-artifact" && it.manifest_path == manifest);
    let mut files = artifacts.flat_map(|artifact| artifact.filenames);
    files.find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_s_own_component_is_found_among_what_cargo_made() {
        let said = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/p/vendor/x/Cargo.toml","filenames":["/t/x.wasm"]}"#,
            "\n{\"reason\":\"build-script-executed\"}\nnot JSON\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","filenames":["/t/m.rlib","/t/m.wasm"]}"#,
        );
        assert_eq!(component(said, Path::new("/p/Cargo.toml")), Some("/t/m.wasm".into()));
        assert_eq!(component(said, Path::new("/q/Cargo.toml")), None);
    }
}
