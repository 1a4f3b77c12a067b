//! The configuration, from the outside: what is refused and how it is said, what
//! is read, and that schema, documentation and examples tell the same story.

mod edits;
mod golden;
mod many;
mod reading;
mod schema;
mod watch;

use std::path::{Path, PathBuf};

use consign::config::{Config, ConfigErrors, Environment};

/// What the tests' configurations may refer to.
fn environment() -> Environment {
    Environment::from_pairs([
        ("VENDOR_KEY_ID", "AKIAVENDORSKEYID"),
        ("VENDOR_SECRET", "hunter2-from-the-environment"),
        ("EMPTY", ""),
        ("CREDENTIALS_DIRECTORY", "tests/golden/config/credentials"),
    ])
}

fn golden_dir() -> PathBuf {
    Path::new("tests/golden/config").into()
}

/// Loads a text as the only file of a configuration.
fn load(text: &str) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("consign.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(&path, &environment())
}
