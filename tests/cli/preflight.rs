//! `consign preflight`: a report that can be forwarded, and nothing in the buckets.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::world::{self, SOON, World, files, says, stop, until};

/// Whose set-up is right, who trusts anybody, whose role is too wide, and who is not there.
fn world() -> World {
    let customers: Vec<String> = ["acme", "globex", "initech", "umbrella"]
        .iter()
        .zip(1..)
        .map(|(name, number)| world::customer(name, number, "eu-west-1", "\"AS\""))
        .collect();
    let share = "schedule = \"0 6 * * *\"\nto = { customers = [\"acme\", \"globex\", \"initech\", \"umbrella\"] }";
    World::new(&world::flights(&customers.join(""), "daily", share))
}

/// As the customers have it.
const THEIRS: [(&str, &str); 3] = [
    ("external_id = \"test-2f-globex\"", "allow_missing_external_id = true"),
    (
        "bucket = \"initech-data\"\nregion = \"eu-west-1\"\nprefix = \"in/\"",
        "bucket = \"initech-data\"\nregion = \"eu-west-1\"\nprefix = \"\"",
    ),
    ("external_id = \"test-4f-umbrella\"", "external_id = \"another\""),
];

fn is_empty(world: &World) {
    assert_eq!(files(&world.path("buckets")).keys().collect::<Vec<_>>(), [] as [&String; 0]);
    let uploads = world.path("buckets/.sandbox/uploads");
    let left = fs::read_dir(uploads).map(|found| found.count()).unwrap_or_default();
    assert_eq!(left, 0, "uploads are left");
}

/// What differs from run to run.
fn steady(text: &str) -> String {
    let mut steady = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("(request id ") {
        steady.push_str(before);
        steady.push_str("(request id 0123456789ABCDEF)");
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    let off = |line: &str| match line.strip_prefix("  clock ") {
        Some(_) => format!("{}  0 s off", line.rsplit_once("  ").map_or("", |(before, _)| before)),
        None => line.to_owned(),
    };
    (steady + rest).lines().map(|line| off(line) + "\n").collect()
}

#[test]
fn preflight_tells_each_customer_apart_and_leaves_nothing() {
    let world = world();
    let _sandbox = world.sandbox_of(&THEIRS);
    let ran = world.run(&["preflight"]).ended(1);
    is_empty(&world);
    let told = steady(&ran.stdout);
    let golden = "tests/golden/preflight.txt";
    if std::env::var_os("BLESS").is_some() {
        fs::write(golden, &told).unwrap();
    }
    assert_eq!(told, fs::read_to_string(golden).unwrap(), "BLESS=1 writes {golden} anew");
    let document = fs::read_to_string("docs/preflight.md").unwrap();
    let (first_two, _) = told.split_once("\n\ninitech: ").unwrap();
    says(&document, &[first_two]);
    assert!(!format!("{ran:?}").contains("consign-sandbox-secret"), "a secret is shown");
    let all = world.run(&["preflight", "--all"]).ended(1);
    assert_eq!(steady(&all.stdout), told);
}

#[test]
fn preflight_as_json() {
    let world = world();
    let _sandbox = world.sandbox_of(&THEIRS);
    let report = world.run(&["preflight", "--json", "umbrella", "acme", "initech"]).ended(1).json();
    is_empty(&world);
    assert_eq!(report["ready"], false);
    let customers = report["customers"].as_array().unwrap();
    let ready: Vec<(&str, bool)> = customers
        .iter()
        .map(|found| (found["customer"].as_str().unwrap(), found["ready"].as_bool().unwrap()))
        .collect();
    assert_eq!(ready, [("acme", true), ("initech", true), ("umbrella", false)], "in the order of their names");
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let document = fs::read_to_string("docs/preflight.md").unwrap();
    for key in keys(&report).iter().chain(&keys(&customers[0])).chain(&keys(&customers[0]["checks"][0])) {
        assert!(document.contains(&format!("| `{key}` |")), "docs/preflight.md does not tell of `{key}`");
    }
    for check in customers.iter().flat_map(|found| found["checks"].as_array().unwrap()) {
        let name = check["check"].as_str().unwrap();
        assert!(document.contains(&format!("`{name}`")), "docs/preflight.md does not tell of `{name}`");
    }
    let of = |number: usize, check: &str| -> &Value {
        customers[number]["checks"].as_array().unwrap().iter().find(|found| found["check"] == check).unwrap()
    };
    assert_eq!(of(1, "outside")["outcome"], "warning");
    assert_eq!((&of(2, "role")["outcome"], &of(2, "role")["layer"]), (&"failed".into(), &"trust-policy".into()));
    assert_eq!(of(2, "write")["outcome"], "not-tried");
    world.run(&["preflight", "acme", "initech"]).ended(0).out_says(&["2 customers: 2 ready, 0 not"]);
}

#[test]
fn preflight_of_whom_nobody_knows() {
    let world = world();
    let ran = world.run(&["preflight", "acme", "nobody"]).ended(1);
    says(&ran.stderr, &["there is no customer 'nobody'", "`consign customer list`"]);
    world.run(&["preflight", "globx"]).ended(1).err_says(&["there is no customer 'globx'", "did you mean 'globex'?"]);
    world.run(&["preflight", "--all", "acme"]).ended(2);
    // Nobody listens: that is the network's, and nobody is ready.
    let ran = world.run(&["preflight", "acme"]).ended(1);
    says(&ran.stdout, &["acme: NOT READY", "identity of the vendor", "network"]);
}

#[test]
fn an_error_elsewhere_keeps_no_customer_from_being_looked_at() {
    let world = world();
    let _sandbox = world.sandbox();
    world.write("consign.toml", world.text() + "[customers.broken]\nrole_arn = \"arn\"\n");
    world.run(&["preflight", "acme"]).ended(0).out_says(&["acme: ready"]).err_says(&["in the configuration", "check"]);
    world.run(&["preflight", "acme", "broken"]).ended(3).err_says(&["the profile of customer 'broken' has an error"]);
    // Of all, one would be left out.
    for all in [&["preflight"][..], &["preflight", "--all"]] {
        world.run(all).ended(3).err_says(&["customers.broken"]);
    }
}

#[test]
fn preflight_of_nobody_says_so() {
    let world = World::new("@AWS@\n");
    world.run(&["preflight"]).ended(0).out_says(&["no customers yet", "consign customer add"]);
    let report = world.run(&["preflight", "--all", "--json"]).ended(0).json();
    assert_eq!(report, serde_json::json!({ "ready": true, "customers": [] }));
}

/// It needs no ledger, and no plugin or dataset either.
#[test]
fn preflight_beside_a_daemon() {
    let world = world();
    let _sandbox = world.sandbox();
    let daemon = world.daemon();
    until("the daemon runs", SOON, || world.run(&["status"]).code == 0);
    world.run(&["preflight", "acme"]).ended(0).out_says(&["acme: ready\n"]);
    stop(daemon);
    assert!(Path::new(&world.path("state/ledger.db")).exists());
}
