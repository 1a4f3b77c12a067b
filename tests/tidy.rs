//! The rules of the house that no lint knows: floors, sizes, who may name what,
//! a test for each hostile guest, documents that point at things that are there.
//!
//! Pure reading of the checkout. Each test names every breach at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

mod source;

use source::{Source, identifiers, rust_sources, text};

/// The floor of each module of `host/`. Imports go down; on the second floor,
/// where the peers are, never sideways.
const FLOORS: [(&str, u8); 25] = [
    ("domain", 0),
    ("calendar", 0),
    ("clock", 0),
    ("crash", 0),
    ("limits", 0),
    ("lock", 0),
    ("metrics", 0),
    ("replace", 0),
    ("config", 1),
    ("policy", 1),
    ("schedule", 2),
    ("dataset", 2),
    ("plugin", 2),
    ("registry", 2),
    ("delivery", 2),
    ("ledger", 2),
    ("sandbox", 2),
    ("pack", 2),
    ("run", 3),
    ("check", 4),
    ("author", 4),
    ("daemon", 4),
    ("status", 4),
    ("cli", 5),
    ("main", 5),
];
const PEERS: u8 = 2;

/// What begins a path or an identifier, and the only modules of `host/` that
/// may say it.
const ONLY_IN: [(&str, &[&str]); 24] = [
    ("aws_", &["delivery"]),
    ("datafusion", &["dataset"]),
    ("object_store", &["dataset"]),
    ("parquet", &["dataset"]),
    ("wasmtime", &["plugin"]),
    ("reqwest", &["registry"]),
    ("ring", &["registry", "ledger"]),
    ("rusqlite", &["ledger"]),
    ("postgres", &["ledger"]),
    ("tokio_postgres", &["ledger"]),
    ("tokio_cron_scheduler", &["schedule"]),
    ("croner", &["calendar"]),
    ("sd_notify", &["daemon"]),
    ("s3s", &["sandbox"]),
    ("similar", &["author"]),
    ("hyper", &["sandbox"]),
    ("wit_component", &["author"]),
    ("wit_parser", &["author"]),
    ("toml_edit", &["config", "cli"]),
    ("clap", &["cli"]),
    ("csv_core", &["cli"]),
    ("getrandom", &["cli"]),
    ("indicatif", &["cli"]),
    ("schemars", &["config", "cli"]),
];

#[test]
fn imports_only_go_down() {
    let floors = BTreeMap::from(FLOORS);
    let mut breaches = Vec::new();
    for source in rust_sources(&["host"]) {
        let module = source.module();
        if module == "lib" {
            continue;
        }
        let Some(floor) = floors.get(module) else {
            breaches.push(format!("{}: module `{module}` has no floor in tests/tidy.rs", source.path));
            continue;
        };
        for imported in source.crate_modules().into_iter().filter(|imported| imported != module) {
            match floors.get(imported.as_str()) {
                None => breaches.push(format!("{}: `{imported}` has no floor in tests/tidy.rs", source.path)),
                Some(other) if other > floor => {
                    breaches.push(format!("{} (floor {floor}) imports `{imported}` (floor {other})", source.path));
                }
                Some(&PEERS) if *floor == PEERS => {
                    breaches.push(format!("{} imports its peer `{imported}`: let run.rs pass it", source.path));
                }
                Some(_) => {}
            }
        }
    }
    none(&breaches);
}

#[test]
fn libraries_stay_behind_the_module_that_owns_them() {
    let mut breaches = Vec::new();
    for source in rust_sources(&["host"]) {
        let names: BTreeSet<&str> = identifiers(&source.code).map(|(_, name)| name).collect();
        for (library, modules) in ONLY_IN {
            let is_library = |name: &&&str| match library.ends_with('_') {
                true => name.starts_with(library),
                false => **name == library || name.starts_with(&format!("{library}_")),
            };
            // A module may be called like the library's crate: `parquet` is a format.
            let paths = || names.iter().filter(is_library).filter(|name| source.code.contains(&format!("{name}::")));
            if !modules.contains(&source.module()) {
                breaches.extend(paths().map(|name| format!("{} names `{name}`, only {modules:?} may", source.path)));
            }
        }
        let in_v1 = source.path.starts_with("host/plugin/v1");
        if !in_v1 && (source.code.contains("consign::format::") || source.code.contains("bindgen!")) {
            breaches.push(format!("{} names WIT types, only host/plugin/v1* may", source.path));
        }
    }
    none(&breaches);
}

#[test]
fn the_real_clock_is_read_in_one_place() {
    const CLOCKS: [&str; 3] = ["SystemTime::now", "Utc::now", "Local::now"];
    let mut breaches = Vec::new();
    for source in rust_sources(&["host"]).into_iter().filter(|source| source.path != "host/clock.rs") {
        for clock in CLOCKS.iter().filter(|clock| source.code.contains(**clock)) {
            breaches.push(format!("{} calls {clock}: take the injected `Clock`", source.path));
        }
    }
    none(&breaches);
}

#[test]
fn config_only_reads_its_files() {
    let mut breaches = Vec::new();
    for source in rust_sources(&["host"]).into_iter().filter(|source| source.module() == "config") {
        for io in ["std::net", "std::process", "tokio", "fs::write", "File::create", "remove_file", "reqwest"] {
            if source.code.contains(io) {
                breaches.push(format!("{} names `{io}`", source.path));
            }
        }
    }
    none(&breaches);
}

#[test]
fn secrets_are_not_printed() {
    let source = text("host/domain/secret.rs");
    let derive = source.lines().rev().skip_while(|line| !line.contains("pub struct Secret")).nth(1).unwrap();
    assert!(derive.starts_with("#[derive("), "{derive}");
    for printer in ["Debug", "Display", "Serialize"] {
        assert!(!derive.contains(printer), "{derive}");
    }
    for source in rust_sources(&["host"]) {
        for printer in ["Debug for Secret", "Display for Secret", "Serialize for Secret"] {
            assert!(!source.code.contains(printer), "{}", source.path);
        }
    }
}

#[test]
fn files_and_functions_fit_a_screen() {
    let mut breaches = Vec::new();
    for source in rust_sources(&["host", "plugins", "tests", "benches", "build.rs"]) {
        let (file_lines, function_lines) = if source.is_test() { (700, 120) } else { (500, 80) };
        let lines = source.code.lines().count();
        if lines > file_lines {
            breaches.push(format!("{} has {lines} lines, {file_lines} are allowed", source.path));
        }
        for (name, lines) in source.functions().into_iter().filter(|(_, lines)| *lines > function_lines) {
            breaches.push(format!("{}: `{name}` has {lines} lines, {function_lines} are allowed", source.path));
        }
        if source.path.ends_with("/mod.rs") {
            breaches.push(format!("{}: a module `x` is `x.rs`", source.path));
        }
    }
    none(&breaches);
}

/// Whoever reads a failure is told what to do. A remedy that is made elsewhere is not seen here.
#[test]
fn failures_have_a_remedy() {
    let mut breaches = Vec::new();
    for source in rust_sources(&["host"]).into_iter().filter(|source| !source.is_test()) {
        let without = source.calls("Failure::new(").into_iter().filter(|(_, call)| {
            let call = call.trim_end_matches(|c: char| c == ',' || c.is_whitespace());
            let empty = ["\"\"", "String::new()", "\"\".into()"].into_iter().find_map(|empty| call.strip_suffix(empty));
            empty.is_some_and(|before| before.trim_end().ends_with(','))
        });
        breaches.extend(without.map(|(line, _)| format!("{}:{line}: a failure without a remedy", source.path)));
    }
    none(&breaches);
}

#[test]
fn lints_are_expected_not_allowed() {
    let mut breaches = Vec::new();
    for source in rust_sources(&["host", "plugins", "tests", "benches", "build.rs"]) {
        for attribute in ["#[allow(", "#![allow("] {
            if source.code.contains(attribute) {
                breaches.push(format!("{}: `{attribute}`: use `expect` with a reason", source.path));
            }
        }
    }
    none(&breaches);
}

#[test]
fn every_hostile_behaviour_has_its_test() {
    let guest = text("tests/guests/hostile/src/lib.rs");
    let behaviours: BTreeSet<String> = guest.lines().filter_map(behaviour).collect();
    assert!(!behaviours.is_empty(), "no arm like `\"endless_loop\" =>` in the hostile guest");
    let tests: BTreeSet<String> = rust_sources(&["tests"])
        .iter()
        .filter(|source| source.path.starts_with("tests/plugin"))
        .flat_map(Source::functions)
        .filter_map(|(name, _)| name.strip_prefix("hostile_").map(str::to_owned))
        .collect();
    let missing = behaviours.difference(&tests).map(|name| format!("no test `hostile_{name}` in tests/plugin*"));
    none(&missing.collect::<Vec<_>>());
}

/// The behaviour of a match arm `"endless_loop" => …`.
fn behaviour(line: &str) -> Option<String> {
    let (name, rest) = line.trim_start().strip_prefix('"')?.split_once('"')?;
    let named = name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && name.contains(|c: char| c != '_');
    (named && rest.trim_start().starts_with("=>")).then(|| name.to_owned())
}

#[test]
fn decisions_are_numbered_without_gaps() {
    let mut names: Vec<String> = fs::read_dir(root().join("docs/decisions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for (index, name) in names.iter().enumerate() {
        let number = index + 1;
        assert!(
            name.starts_with(&format!("{number:04}-")) && name.ends_with(".md"),
            "{name} should be {number:04}-….md"
        );
        let text = text(&format!("docs/decisions/{name}"));
        assert!(text.starts_with(&format!("# {number}. ")), "{name} should begin with `# {number}. `");
        assert!(text.lines().any(|line| line.starts_with("Status: ")), "{name} has no `Status: `");
    }
}

#[test]
fn documents_name_make_targets_that_exist() {
    let makefile = text("Makefile");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|line| line.split_once(':').filter(|(_, rest)| !rest.starts_with('=')).map(|(target, _)| target))
        .collect();
    let mut breaches = Vec::new();
    for path in documents() {
        let text = text(&path);
        for (at, _) in text.match_indices("make ") {
            // Only commands: at the start of a line or right after a backtick.
            let is_command = text[..at].chars().next_back().is_none_or(|before| matches!(before, '\n' | '`'));
            let word = text[at + "make ".len()..].split(|c: char| !c.is_ascii_lowercase() && c != '-').next();
            if let Some(word) = word.filter(|word| is_command && !targets.contains(word)) {
                breaches.push(format!("{path}: the Makefile has no target `{word}`"));
            }
        }
    }
    none(&breaches);
}

#[test]
fn links_in_documents_resolve() {
    let mut breaches = Vec::new();
    for path in documents() {
        let folder = Path::new(&path).parent().unwrap();
        for link in links(&text(&path)) {
            let file = link.split('#').next().unwrap_or_default();
            let elsewhere = link.contains("://") || link.starts_with("mailto:") || file.is_empty();
            if !elsewhere && !root().join(folder).join(file).exists() {
                breaches.push(format!("{path}: there is no {file}"));
            }
        }
    }
    none(&breaches);
}

/// The targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let after = text.match_indices("](").map(|(at, found)| &text[at + found.len()..]);
    after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

#[test]
fn promises_name_tests_that_exist() {
    let tests: BTreeSet<String> = rust_sources(&["host", "tests"]).iter().flat_map(Source::tests).collect();
    // Which is found by its whole path, in a module within its file.
    let known = ["tidy::promises_name_tests_that_exist", "delivery::parts::tests::a_completion_has_minutes"];
    assert!(known.iter().all(|known| tests.contains(*known)), "tests are not found");
    let mut breaches = Vec::new();
    for named in text("docs/SEMANTICS.md").split('`').skip(1).step_by(2).filter(|code| code.contains("::")) {
        let name = named.rsplit("::").next().unwrap_or_default();
        let is_function = name.starts_with(|c: char| c.is_ascii_lowercase());
        if is_function && !tests.contains(named) {
            breaches.push(format!("docs/SEMANTICS.md: there is no test `{named}`"));
        }
    }
    none(&breaches);
}

#[test]
fn every_plugin_is_built_and_tested() {
    let makefile = text("Makefile");
    let packages = makefile.lines().find_map(|line| line.strip_prefix("PACKAGES := ")).unwrap();
    let packages: BTreeSet<&str> = packages.split_whitespace().collect();
    for folder in ["plugins", "plugins/examples"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let manifest = entry.unwrap().path().join("Cargo.toml");
            let Ok(text) = fs::read_to_string(&manifest) else { continue };
            let name = text.lines().find_map(|line| line.strip_prefix("name = ")).unwrap().trim_matches('"');
            assert!(packages.contains(name), "`{name}` is not among the Makefile's PACKAGES, so not tested");
            let is_format = text.contains("cdylib");
            assert!(!is_format || self::text("build.rs").contains(&format!("\"{name}\"")), "build.rs lacks `{name}`");
        }
    }
}

/// The documents of the checkout.
fn documents() -> Vec<String> {
    source::files(&[".", "config", "docs", "packaging", "plugins", "tests", "wit"], "md")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn none(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}
