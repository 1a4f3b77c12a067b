//! `consign plugin conformance`: what is shipped passes, and each check sees the fault that it is for.

use serde_json::Value;

use super::Desk;

/// In the order in which they are run.
pub const CHECKS: [&str; 21] = [
    "description",
    "unknown-option",
    "wrong-option",
    "rows",
    "empty",
    "one-row",
    "batches",
    "repeat",
    "nulls",
    "long-values",
    "names",
    "split",
    "types",
    "check-agrees",
    "nesting",
    "column-names",
    "slow-output",
    "closed-output",
    "small-memory",
    "cancel",
    "large",
];

/// Each check with how it ended.
pub fn outcomes(said: &Value) -> Vec<(&str, &str)> {
    let text = |value: &'_ Value, key: &str| value[key].as_str().unwrap().to_owned().leak() as &str;
    said["checks"].as_array().unwrap().iter().map(|check| (text(check, "check"), text(check, "outcome"))).collect()
}

/// Everything; `large` with little memory, so that little is enough to be more than it.
fn conforms(desk: &Desk, plugin: &str) {
    let (most, last) = CHECKS.split_at(CHECKS.len() - 1);
    for (checks, memory) in [(most, "memory=256 MiB"), (last, "memory=16 MiB")] {
        let args = [&["conformance", plugin, "--json", "--limits", memory], checks].concat();
        let said = desk.run(&args).ended(0).json();
        let passed: Vec<_> = checks.iter().map(|check| (*check, "passed")).collect();
        assert_eq!(outcomes(&said), passed, "{plugin}: {said:#}");
        assert_eq!((&said["passed"], &said["failed"]), (&checks.len().into(), &0.into()));
    }
}

#[test]
fn csv_and_jsonl_conform() {
    let desk = Desk::new();
    conforms(&desk, "csv");
    conforms(&desk, "jsonl");
}

/// Of its rows a workbook holds back the first, and no more of them than that.
#[test]
fn xlsx_conforms() {
    conforms(&Desk::new(), "xlsx");
}

/// Parquet gathers row groups, up to a bound that 16 MiB are too small for.
#[test]
fn parquet_conforms() {
    let desk = Desk::new();
    let said = desk.run(&[&["conformance", "parquet", "--json"], &CHECKS[..CHECKS.len() - 1]].concat()).ended(0).json();
    assert!(outcomes(&said).iter().all(|(_, outcome)| *outcome == "passed"), "{said:#}");
}

#[test]
fn a_plugin_that_wants_certain_columns_is_given_them() {
    let desk = Desk::new();
    let movements = super::super::world::checkout("config/demo/flights.parquet");
    std::fs::write(desk.path("movements.wasm"), consign::plugin::FIXED_FLIGHTS).unwrap();
    desk.run(&["conformance", "movements.wasm"]).ended(1).err_says(&[
        "the plugin does not take these options and the columns of the rows that are made up for it",
        "--input FILE",
    ]);
    let input = movements.to_str().unwrap();
    // All but `large`, which has a test of its own.
    let checks = CHECKS.iter().filter(|check| **check != "large").copied().collect::<Vec<_>>();
    let args = [&["conformance", "movements.wasm", "--input", input, "--json"], &checks[..]].concat();
    let said = desk.run(&args).json();
    let failed: Vec<_> = outcomes(&said).into_iter().filter(|(_, outcome)| *outcome == "failed").collect();
    assert!(failed.is_empty(), "{said:#}");
}

#[test]
fn a_plugin_without_a_fault_passes_all() {
    conforms(&Desk::with_guest("sloppy"), "sloppy.wasm");
}

#[test]
fn every_check_fails_for_a_plugin_with_its_fault() {
    let desk = Desk::with_guest("sloppy");
    // All but the one about what a plugin says before it has options.
    for check in CHECKS.iter().filter(|check| **check != "description") {
        desk.write("fault.toml", &format!("fault = \"{check}\"\n"));
        let memory = if *check == "large" { "memory=16 MiB" } else { "memory=256 MiB" };
        let limits = ["--limits", "cpu_time=5s", "--limits", memory];
        let args = [&["conformance", "sloppy.wasm", check, "--options", "fault.toml"], &limits[..]].concat();
        let said = desk.run(&[&args[..], &["--json"]].concat());
        assert_eq!(said.code, 1, "{check}: {said:?}");
        let said = said.json();
        assert_eq!(outcomes(&said), [(*check, "failed")], "{said:#}");
        assert!(!said["checks"][0]["found"].as_str().unwrap().is_empty(), "{said:#}");
        assert!(!said["checks"][0]["help"].as_str().unwrap().is_empty(), "{said:#}");
    }
}

#[test]
fn a_description_without_an_object_fails() {
    let desk = Desk::with_guest("hostile");
    desk.run(&["conformance", "hostile.wasm", "description"]).ended(1).out_says(&[
        "hostile 1.0.0",
        "FAIL  description",
        "it has no `type`, and options are an object",
        "help: correct `options-schema` in `describe`",
        "0 passed, 1 failed, 0 skipped",
    ]);
    let said = desk.run(&["conformance", "hostile.wasm", "desciption"]).ended(1);
    said.err_says(&["there is no check 'desciption'", "did you mean 'description'?"]);
}
