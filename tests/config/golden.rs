//! Every refused configuration is a pair of `NAME.toml` (or `NAME/consign.toml`
//! with what it includes) and `NAME.err`, which is reviewed as product.
//! `BLESS=1 cargo test golden` writes the `.err` files anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use consign::config::Config;

use super::{environment, golden_dir};

/// What loading prints, with the folder left out so that paths are short.
fn report(path: &Path) -> String {
    // Whoever sends needs the secrets too.
    let whole = |config: Config| config.check_secrets().into_result().map(|()| config);
    let shown = match Config::load(path, &environment()).and_then(whole) {
        Err(errors) => errors.to_string(),
        Ok(config) => {
            let mut shown = String::new();
            for warning in &config.warnings {
                writeln!(shown, "{}\n", warning.render(false)).unwrap();
            }
            shown + "no error"
        }
    };
    let mut shown = shown.replace(&format!("{}/", path.parent().unwrap().display()), "");
    shown.push('\n');
    shown
}

fn pairs() -> Vec<(PathBuf, PathBuf)> {
    let mut pairs = Vec::new();
    for entry in std::fs::read_dir(golden_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            pairs.push((path.clone(), path.with_extension("err")));
        } else if path.join("consign.toml").is_file() {
            pairs.push((path.join("consign.toml"), path.with_extension("err")));
        }
    }
    pairs.sort();
    pairs
}

#[test]
fn every_refusal_reads_as_reviewed() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut differing = String::new();
    for (toml, err) in pairs() {
        let shown = report(&toml);
        if bless {
            std::fs::write(&err, &shown).unwrap();
        }
        let reviewed = std::fs::read_to_string(&err).unwrap_or_default();
        if shown != reviewed {
            writeln!(differing, "{}\n--- reviewed\n{reviewed}--- now\n{shown}", toml.display()).unwrap();
        }
    }
    assert!(differing.is_empty(), "{differing}");
}

#[test]
fn there_is_a_pair_for_every_mistake() {
    let pairs = pairs();
    assert!(pairs.len() >= 60, "only {} pairs", pairs.len());
    for entry in std::fs::read_dir(golden_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "err") {
            assert!(pairs.iter().any(|(_, err)| *err == path), "{} belongs to nothing", path.display());
        }
    }
}

#[test]
fn no_report_shows_a_secret() {
    for (_, err) in pairs() {
        let text = std::fs::read_to_string(&err).unwrap();
        for secret in ["wJalrXUtnFEMI", "hunter2", "AKIAIOSFODNN7"] {
            assert!(!text.contains(secret), "{} shows {secret}", err.display());
        }
    }
}

#[test]
fn a_report_says_what_to_do() {
    for (_, err) in pairs() {
        let text = std::fs::read_to_string(&err).unwrap();
        let problems = text.lines().filter(|l| l.starts_with("error: ") || l.starts_with("warning: ")).count();
        let helps = text.lines().filter(|l| l.trim_start().starts_with("= help: ")).count();
        assert_eq!(problems, helps, "{}", err.display());
    }
}
