//! What the author of a plugin runs: cases, figures, conformance.

mod bench;
mod cases;
pub mod conformance;

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::world::{Ran, consign};
use crate::plugin::support::guest;

/// A folder of the author's, gone with the test.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a component of `tests/guests`.
    fn with_guest(name: &str) -> Self {
        let desk = Self::new();
        fs::write(desk.path(&format!("{name}.wasm")), guest(name)).unwrap();
        desk
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.0.path().join(below)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn run(&self, args: &[&str]) -> Ran {
        consign(self.0.path(), &[&["plugin"], args].concat())
    }
}

#[test]
fn inspect_tells_what_a_component_asks_for_and_gets() {
    let desk = Desk::with_guest("hostile");
    desk.run(&["inspect", "hostile.wasm"]).ended(0).out_says(&[
        "contract    consign:format@1.0.0",
        "exports     consign:format/formatter@1.0.0",
        "consign:format/data@1.0.0",
        "the rows, batch by batch",
        "wasi:filesystem/types@0.2.",
        "no files",
        "wasi:clocks/wall-clock@0.2.",
        "stands at the slot's instant",
        "gets no files, no network, no environment, no real clock",
        "options     none",
    ]);
    let said = desk.run(&["inspect", "csv", "--json"]).ended(0).json();
    let imports = said["imports"].as_array().unwrap();
    assert!(imports.iter().any(|import| import["name"] == "consign:format/output@1.0.0"), "{said}");
    assert!(imports.iter().all(|import| import["gets"] != ""), "{said}");
    assert_eq!(said["exports"], serde_json::json!(["consign:format/formatter@1.0.0"]));
}

/// Where a daemon would have it run: what is not consign's own, in a process of its own.
#[test]
fn who_looks_at_a_component_is_behind_the_second_wall_too() {
    let desk = Desk::with_guest("echo");
    desk.write("cases/plain/input.csv", "a\n1\n");
    let walled = |args: &[&str]| {
        let ran = desk.run(&[args, &["--log", "consign=info"]].concat());
        ran.stderr.contains("has processes of its own")
    };
    let wanted = [
        (["inspect", "echo.wasm"].as_slice(), true),
        (&["inspect", "csv"], false),
        (&["test", "echo.wasm"], true),
        (&["test", "echo.wasm", "--isolation", "in-process"], false),
        (&["test", "echo.wasm", "--profile", "p"], false),
        (&["test", "csv"], false),
        (&["conformance", "echo.wasm", "rows"], false),
        (&["conformance", "echo.wasm", "rows", "--isolation", "process"], true),
    ];
    for (args, is_walled) in wanted {
        assert_eq!(walled(args), is_walled, "{args:?}");
    }
    desk.run(&["test", "echo.wasm", "--isolation", "none"]).ended(2).err_says(&["it is one of process, in-process"]);
    desk.run(&["test", "echo.wasm", "--isolation", "process", "--profile", "p"])
        .ended(2)
        .err_says(&["leave out --isolation"]);
}

#[test]
fn a_project_is_found_by_its_manifest() {
    let desk = Desk::with_guest("echo");
    desk.write("mine/plugin.toml", "language = \"rust\"\ncomponent = \"../echo.wasm\"\n");
    desk.run(&["inspect", "mine"]).ended(0).out_says(&["name        echo 1.0.0"]);
    desk.write("mine/plugin.toml", "language = \"rust\"\ncomponent = \"gone.wasm\"\n");
    desk.run(&["inspect", "mine"]).ended(1).err_says(&["has not been built", "gone.wasm", "consign plugin build mine"]);
    desk.write("mine/plugin.toml", "language = 7\n");
    desk.run(&["inspect", "mine"]).ended(1).err_says(&["mine/plugin.toml is not a plugin's manifest", "line 1"]);
    fs::remove_file(desk.path("mine/plugin.toml")).unwrap();
    desk.run(&["test", "mine", "--cases", "mine"]).ended(1).err_says(&["there are no cases in mine"]);
    desk.write("cases/one/input.csv", "a\n1\n");
    desk.run(&["test", "mine", "--cases", "cases"]).ended(1).err_says(&["there is no plugin.toml in mine"]);
    desk.run(&["test", "gone.wasm"]).ended(1).err_says(&["cannot read gone.wasm", "help: name a plugin's project"]);
    assert!(Path::new(&desk.path("cases/one")).is_dir());
}
