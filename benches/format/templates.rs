//! Plugins of the templates, made and built as their authors do, through `consign plugin bench`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::WORKER;

/// Those that there are.
pub const LANGUAGES: [&str; 4] = ["rust", "c", "python", "javascript"];

/// What one of them does, over rows like TPC-H's `lineitem`.
pub struct Measured {
    /// MB of output in a second of CPU time.
    pub megabytes: f64,
    /// Of the shipped csv's rows in a second of CPU time.
    pub rows: f64,
}

/// None where what the language is built with is not there. It is looked for in the
/// checkout's `.venv`, in the folder that `CONSIGN_TEST_NPM` names, and on the `PATH`.
pub fn measure(language: &str) -> Option<Measured> {
    let folder = tempfile::tempdir().expect("a temporary directory");
    consign(folder.path(), &["new", "mine", "--lang", language])?;
    consign(folder.path(), &["build", "mine"])?;
    let said = consign(folder.path(), &["bench", "mine", "--json"])?;
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let number = |value: &Value| value.as_f64().expect("a number");
    Some(Measured {
        megabytes: number(&said["plugins"][0]["output_mb_per_second"]["median"]),
        rows: number(&said["ratio"]),
    })
}

fn consign(folder: &Path, args: &[&str]) -> Option<String> {
    let npm = std::env::var("CONSIGN_TEST_NPM").unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin");
    let output = Command::new(WORKER)
        .arg("plugin")
        .args(args)
        .current_dir(folder)
        .env("PATH", format!("{}:{npm}:{path}", venv.display()))
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("consign runs");
    if !output.status.success() {
        eprintln!("consign plugin {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
