//! New projects: the templates that the binary carries, written out.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::domain::PluginName;

// `FILES`: every file of `plugins/templates`, `plugins/sdk` and `wit`, by its path
// there, made by `build.rs`.
include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// The dependencies' versions that consign's own formats are built and tested with.
const LOCK: &str = include_str!("../../Cargo.lock");

/// What stands in a template for the plugin's name.
const NAME: &str = "my-format";

/// A language that consign has a template for and builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Rust,
    Python,
    JavaScript,
    C,
}

/// Why a project was not made.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error(
        "the name '{name}' begins with no letter; a plugin's name is 1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter"
    )]
    Name { name: PluginName },
    #[error("{} is there and is not empty; name another folder with --dir, nothing is overwritten", dir.display())]
    Taken { dir: PathBuf },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Language {
    pub const ALL: [Self; 4] = [Self::Rust, Self::Python, Self::JavaScript, Self::C];

    /// As `--lang` and `plugin.toml` have it, and the folder of its template.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::C => "c",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.name() == name)
    }
}

/// Writes a new project into `dir`, which is empty or not there yet.
pub fn create(name: &PluginName, language: Language, dir: &Path) -> Result<(), TemplateError> {
    // Cargo and npm have this rule.
    if !name.as_str().starts_with(|first: char| first.is_ascii_lowercase()) {
        return Err(TemplateError::Name { name: name.clone() });
    }
    let failed = |path: &Path, source| TemplateError::Write { path: path.into(), source };
    match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => return Err(TemplateError::Taken { dir: dir.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(dir, error)),
    }
    for (path, bytes) in files(name, language) {
        let path = dir.join(path);
        write_new(&path, &bytes).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// The project's files, by their paths in it.
fn files(name: &PluginName, language: Language) -> Vec<(PathBuf, Vec<u8>)> {
    let template = Path::new("plugins/templates");
    let (own, shared) = (template.join(language.name()), template.join("shared"));
    let mut found = Vec::new();
    for (path, bytes) in FILES {
        let path = Path::new(path);
        if let Ok(path) = path.strip_prefix(&own).or_else(|_| path.strip_prefix(&shared)) {
            found.push((path.to_owned(), named(bytes, name)));
        } else if path.starts_with("wit") {
            found.push((path.to_owned(), bytes.to_vec()));
        } else if let (Language::Rust, Ok(path)) = (language, path.strip_prefix("plugins/sdk")) {
            let bytes = if path == Path::new("Cargo.toml") { without_workspace(bytes) } else { bytes.to_vec() };
            found.push((Path::new("vendor/consign-sdk").join(path), bytes));
        }
    }
    if language == Language::Rust {
        // Cargo takes out what the project does not use.
        found.push(("Cargo.lock".into(), LOCK.into()));
    }
    found
}

/// Everything in a template is text.
fn named(bytes: &[u8], name: &PluginName) -> Vec<u8> {
    String::from_utf8_lossy(bytes).replace(NAME, name.as_str()).into_bytes()
}

/// A member's manifest as that of a package of its own: what it inherits from the
/// workspace is not there.
fn without_workspace(manifest: &[u8]) -> Vec<u8> {
    let mut inherits = false;
    let mut kept = String::new();
    for line in String::from_utf8_lossy(manifest).lines() {
        if line.starts_with('[') {
            inherits = ["[lints]", "[dev-dependencies]"].contains(&line.trim());
        }
        if !inherits {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept.into_bytes()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create_new(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_a_whole_template() {
        let name = PluginName::parse("mine").unwrap();
        for language in Language::ALL {
            let files = files(&name, language);
            let has = |wanted: &str| files.iter().any(|(path, _)| path == Path::new(wanted));
            for wanted in ["plugin.toml", "README.md", ".gitignore", "wit/v1/format.wit", "cases/first/input.csv"] {
                assert!(has(wanted), "{language:?} has no {wanted}");
            }
            let text = |path: &Path| files.iter().find(|(found, _)| found == path).map(|(_, bytes)| bytes.clone());
            let manifest = String::from_utf8(text(Path::new("plugin.toml")).unwrap()).unwrap();
            assert!(manifest.contains(&format!("language  = \"{}\"", language.name())), "{manifest}");
            let forgotten = files.iter().filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains(NAME));
            assert_eq!(forgotten.count(), usize::from(language == Language::Rust), "the SDK's README alone says it");
        }
    }

    #[test]
    fn a_vendored_package_inherits_nothing() {
        let manifest = "[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n\n[dependencies]\na = \"1\"\n\n[dev-dependencies]\nb = \"1\"\n";
        let kept = String::from_utf8(without_workspace(manifest.as_bytes())).unwrap();
        assert_eq!(kept, "[package]\nname = \"x\"\n\n[dependencies]\na = \"1\"\n\n");
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let name = PluginName::parse("mine").unwrap();
        fs::write(dir.path().join("README.md"), "mine").unwrap();
        let refused = create(&name, Language::C, dir.path()).unwrap_err();
        assert!(matches!(refused, TemplateError::Taken { .. }));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let digits = PluginName::parse("7up").unwrap();
        assert!(matches!(create(&digits, Language::C, &dir.path().join("new")), Err(TemplateError::Name { .. })));
    }
}
