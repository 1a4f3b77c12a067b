//! The other commands: what they print, how they exit.

use std::fs;

use consign::plugin::SHIPPED;
use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::flights;
use super::world::{self, Ran, SOON, World, checkout, consign, demo, until};

const SLOT: &str = "2014-01-01T05:00:00Z";

fn in_demo(args: &[&str]) -> Ran {
    consign(&demo().dir, &[&["--config", "consign.toml"], args].concat())
}

/// The demo's share for Southwest alone, delivered nowhere yet.
fn southwest() -> World {
    World::new(
        r#"
@AWS@
[customers.southwest]
role_arn = "arn:aws:iam::100000000002:role/flight-data"
external_id = "demo-90d4e6aa-southwest"
bucket = "southwest-lake"
region = "us-west-2"
prefix = "partners/aa/"
params = { carrier = "WN" }
[datasets.flights]
tables.flights = "@FLIGHTS@"
query = """
  select * from flights where time_hour >= $interval_start and time_hour < $interval_end order by time_hour, flight
"""
tenant_column = "carrier"
[shares.flights]
schedule = "0 0 1 1 *"
timezone = "America/New_York"
dataset = "flights"
plugin = "csv"
options = { null = "NA" }
to = { customers = ["southwest"] }
"#,
    )
}

#[test]
fn send_to_a_directory_writes_there_and_records_nothing() {
    let world = southwest();
    let args = ["send", "flights", "--at", SLOT, "--dry-run", "out"];
    let base = "out/southwest-lake/partners/aa/flights/2014-01-01/050000Z";
    world.run(&args).ended(0).out_says(&[
        "flights: slot 2014-01-01T05:00:00Z, run ",
        "data from 2013-01-01T05:00:00Z to 2014-01-01T05:00:00Z",
        "southwest      written  12,275 rows",
        base,
        "flights.csv",
        "crc64nvme ",
        "_manifest.json",
    ]);
    let manifests = world::manifests(&world.path("out/southwest-lake"));
    assert_eq!(manifests.keys().collect::<Vec<_>>(), ["partners/aa/flights/2014-01-01/050000Z/_manifest.json"]);
    flights::same(flights::flights_csv(&world.path(base).join("flights.csv")), flights::of(&["WN"]));

    // No ledger was made, so there is no history.
    assert!(!world.path("state").exists());
    assert_eq!(world.run(&["history", "--json"]).ended(0).json(), Value::Array(Vec::new()));
    world.run(&["history"]).ended(0).out_says(&["no runs yet"]);
    world.run(&["show", "abc"]).ended(1).err_says(&["there is no run 'abc'"]);
    // And what is there is not overwritten.
    let before = world::files(&world.path("out"));
    world.run(&args).ended(1).out_says(&["FAILED  conflict: ", "_manifest.json' is already there", "help: "]);
    let contents = |dir| world::files(dir).into_iter().map(|(name, (_, sum, _))| (name, sum)).collect::<Vec<_>>();
    let before: Vec<_> = before.into_iter().map(|(name, (_, sum, _))| (name, sum)).collect();
    assert_eq!(contents(&world.path("out")), before);
}

#[test]
fn send_of_what_is_not_configured() {
    let said = in_demo(&["send", "nope"]).ended(1).err_says(&["there is no share 'nope'", "flights-csv", "today"]);
    assert_eq!(said.stdout, "");
    let args = ["send", "flights-csv", "--customer", "delta", "--dry-run", "nowhere"];
    in_demo(&args).ended(1).err_says(&["share flights-csv does not go to 'delta'", "southwest, united"]);
    assert!(!demo().dir.join("nowhere").exists());
}

#[test]
fn history_and_show_tell_what_the_ledger_has() {
    let runs = in_demo(&["history", "--json"]).ended(0).json();
    let runs = runs.as_array().unwrap();
    let shares: Vec<&str> = runs.iter().map(|run| run["share"].as_str().unwrap()).collect();
    // The newest first.
    assert_eq!(shares, ["flights-jsonl", "flights-movements", "flights-parquet", "flights-jsonl", "flights-csv"]);
    let states: Vec<&str> = runs.iter().map(|run| run["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["failed", "succeeded", "succeeded", "succeeded", "succeeded"]);
    let count = |args: &[&str]| in_demo(args).ended(0).json().as_array().unwrap().len();
    assert_eq!(count(&["history", "--json", "-n", "2"]), 2);
    assert_eq!(count(&["history", "--json", "--share", "flights-jsonl"]), 2);
    assert_eq!(count(&["history", "--json", "--customer", "delta"]), 1);
    in_demo(&["history", "--customer", "nobody"]).ended(1).err_says(&["there is no customer 'nobody'", "southwest"]);
    in_demo(&["history", "--share", "flights-cvs"]).ended(1).err_says(&["did you mean 'flights-csv'?"]);
    let text = in_demo(&["history"]).ended(0).out_says(&["RUN ", "DELIVERED", "32,729", "0/1", "2/2"]).stdout;
    assert_eq!(text.lines().count(), 6);

    let ids: Vec<&str> = runs.iter().map(|run| run["run"].as_str().unwrap()).collect();
    let of_csv = ids[4];
    let alone = |length: &usize| ids.iter().filter(|id| id.starts_with(&of_csv[..*length])).count() == 1;
    let prefix = &of_csv[..(1..of_csv.len()).find(alone).unwrap()];
    let whole = in_demo(&["show", of_csv, "--json"]).ended(0).json();
    assert_eq!(in_demo(&["show", prefix, "--json"]).ended(0).json(), whole);
    assert_eq!(whole["run"], runs[4]);
    let deliveries = whole["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.iter().map(|d| d["customer"].as_str().unwrap()).collect::<Vec<_>>(), ["southwest", "united"]);
    let key = "partners/aa/flights-csv/2014-01-01/050000Z/flights-csv.csv.gz";
    assert_eq!(deliveries[0]["attempts"][0]["objects"][0]["key"], key);
    in_demo(&["show", prefix]).ended(0).out_says(&[
        of_csv,
        "share     flights-csv",
        "slot      2014-01-01T05:00:00Z  (manual)",
        "state     succeeded",
        "southwest  committed  12,275 rows",
        "united  committed  58,665 rows",
        "attempt 1  committed",
        key,
        "manifest   s3://southwest-lake/partners/aa/flights-csv/2014-01-01/050000Z/_manifest.json",
    ]);
    in_demo(&["show", &of_csv[..1]]).ended(1).err_says(&["several runs begin with", "more of the id"]);
    for unknown in ["ffff", "ffffffff-ffff-7fff-bfff-ffffffffffff"] {
        in_demo(&["show", unknown]).ended(1).err_says(&[unknown, "consign history"]);
    }
}

#[test]
fn what_answers_hold_is_documented() {
    let runs = in_demo(&["history", "--json"]).ended(0).json();
    world::documented(&runs);
    for run in runs.as_array().unwrap() {
        let shown = in_demo(&["show", run["run"].as_str().unwrap(), "--json"]).ended(0).json();
        assert!(!shown["deliveries"].as_array().unwrap().is_empty());
        world::documented(&shown);
    }
    world::documented(&demo().said["reports"]);
    world::documented(&demo().said["refused"]);
    world::documented(&in_demo(&["status", "--json"]).ended(1).json());
    world::documented(&in_demo(&["next", "flights-csv", "--json"]).ended(0).json());
    let backfill = ["backfill", "flights-csv", "--from", SLOT, "--to", SLOT, "--dry-run", "--json"];
    world::documented(&in_demo(&backfill).ended(0).json());
}

#[test]
fn schema_is_a_json_schema() {
    let dir = tempfile::tempdir().unwrap();
    let schema = consign(dir.path(), &["schema"]).ended(0).json();
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"));
    let keys: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    for key in ["include", "daemon", "aws", "datasets", "plugins", "customers", "shares"] {
        assert!(keys.iter().any(|known| *known == key), "{keys:?}");
    }
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(consign(dir.path(), &["schema", "--json"]).ended(0).json(), schema);
}

#[test]
fn plugin_inspect_describes_components_and_refuses_others() {
    let dir = &demo().dir;
    let component = fs::read(dir.join("movements.wasm")).unwrap();
    let digest: String = Sha256::digest(&component).iter().map(|byte| format!("{byte:02x}")).collect();
    let said = consign(dir, &["plugin", "inspect", "movements.wasm", "--json"]).ended(0).json();
    assert_eq!((&said["name"], &said["extension"]), (&"fixed-flights".into(), &"mvt".into()));
    assert_eq!((&said["sha256"], &said["bytes"]), (&digest.as_str().into(), &component.len().into()));
    assert_eq!(said["contract"], "consign:format@1.0.0");
    let text = ["fixed-flights", "consign:format@1", &digest, ".mvt  text/plain; charset=us-ascii"];
    consign(dir, &["plugin", "inspect", "movements.wasm"]).ended(0).out_says(&text);
    let text = ["header  true or false; default true", "line_ending  \"lf\" or \"crlf\"", "empty text `\"\"`."];
    consign(dir, &["plugin", "inspect", "csv"]).ended(0).out_says(&text);
    for shipped in SHIPPED {
        let said = consign(dir, &["plugin", "inspect", shipped, "--json"]).ended(0).json();
        assert_eq!((&said["name"], &said["options_schema"]["type"]), (&shipped.into(), &"object".into()));
    }

    let world = tempfile::tempdir().unwrap();
    let refused: [(&[u8], &str); 6] = [
        (b"", "the file is empty"),
        (b"garbage", "does not begin with the WebAssembly header"),
        (b"\0asm\x01\0\0\0", "core module"),
        (b"\x7fELF\x02\x01\x01\0", "native or precompiled code"),
        (b"(component)", "text format"),
        // A component of nothing.
        (b"\0asm\x0d\0\x01\0", "does not export consign:format/formatter@1.0.0"),
    ];
    for (bytes, why) in refused {
        fs::write(world.path().join("p.wasm"), bytes).unwrap();
        let said = consign(world.path(), &["plugin", "inspect", "p.wasm"]).ended(1).err_says(&[
            "error: plugin p ",
            why,
            "help: ",
        ]);
        assert_eq!((said.stdout.as_str(), said.stderr.matches(why).count()), ("", 1), "{}", said.stderr);
    }
    fs::write(world.path().join("p.wasm"), &component[..component.len() / 2]).unwrap();
    consign(world.path(), &["plugin", "inspect", "p.wasm"]).ended(1).err_says(&["does not compile"]);
    consign(world.path(), &["plugin", "inspect", "gone.wasm"]).ended(1).err_says(&["cannot read gone.wasm"]);
}

#[test]
fn wrong_arguments_exit_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let wrong: [&[&str]; 10] = [
        &[],
        &["frobnicate"],
        &["send"],
        &["send", "share", "--at", "yesterday"],
        &["send", "share", "extra"],
        &["show"],
        &["history", "-n", "many"],
        &["history", "--share", "No Share"],
        &["plugin", "eat"],
        &["sandbox", "--listen", "0.0.0.0:0"],
    ];
    for args in wrong {
        let said = consign(dir.path(), args).ended(2);
        assert_eq!(said.stdout, "", "{args:?}");
        assert!(said.stderr.contains("--help") || said.stderr.contains("Usage"), "{args:?}: {}", said.stderr);
    }
    let zones = format!("time zones {}", chrono_tz::IANA_TZDB_VERSION);
    consign(dir.path(), &["--version"]).ended(0).out_says(&[env!("CARGO_PKG_VERSION"), &zones]);
    let short = consign(dir.path(), &["-V"]).ended(0).stdout;
    assert_eq!(short, format!("consign {}\n", env!("CARGO_PKG_VERSION")));
    consign(dir.path(), &["--help"]).ended(0).out_says(&[
        "Exit codes:",
        "`status --check`",
        "output that",
        "check",
        "send",
        "run",
        "demo",
        "sandbox",
    ]);
    consign(dir.path(), &["check"])
        .ended(3)
        .err_says(&["cannot read the configuration: there is no such file", "/etc/consign/consign.toml"]);
}

#[test]
fn ledger_that_cannot_be_used_exits_with_4() {
    let world = southwest();
    let mut daemon = world.daemon();
    until("the daemon has its ledger", SOON, || {
        assert!(daemon.is_running(), "{}", world.log());
        world.path("state/ledger.db").exists()
    });
    let held = format!("is held by process {}", daemon.id());
    // Who can leave it to the daemon does; the others are told.
    for args in [&["ledger", "prune"][..], &["run"]] {
        let said = world.run(args).ended(4).err_says(&["error: ", &held]);
        assert_eq!(said.stdout, "");
    }
    // Reading and trying are possible all the same.
    assert_eq!(world.run(&["history", "--json"]).ended(0).json(), Value::Array(Vec::new()));
    world.run(&["send", "flights", "--at", SLOT, "--dry-run", "out"]).ended(0);
    until("the daemon is ready for its end", SOON, || world.log().contains("consign is ready"));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(SOON).code(), Some(0));

    fs::copy(checkout("README.md"), world.path("state/ledger.db")).unwrap();
    for args in [&["history"][..], &["send", "flights", "--at", SLOT], &["run"]] {
        world.run(args).ended(4).err_says(&["is not a consign ledger"]);
    }
    fs::write(world.path("state/ledger.db"), "").unwrap();
    world.run(&["history"]).ended(4).err_says(&["is damaged", "it is empty"]);
}

#[test]
fn every_failure_has_one_shape_for_machines() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("sandbox.toml"),
        "dir = \"x\"\nlisten = \"0.0.0.0:0\"\n\
        vendor = { access_key_id = \"k\", secret_access_key = \"s\" }\n",
    )
    .unwrap();
    fs::write(dir.path().join("broken.toml"), "dir = [").unwrap();
    let failures: [(i32, &[&str], &str); 8] = [
        (2, &["frobnicate"], "unrecognized subcommand"),
        (2, &["history", "-n", "many"], "invalid value"),
        (3, &["check"], "1 error in the configuration"),
        (3, &["history"], "1 error in the configuration"),
        (3, &["sandbox", "--file", "gone.toml"], "cannot read gone.toml"),
        (3, &["sandbox", "--file", "broken.toml"], "1 error in the configuration"),
        (3, &["sandbox", "--file", "sandbox.toml"], " in the configuration"),
        (1, &["plugin", "inspect", "gone.wasm"], "cannot read gone.wasm"),
    ];
    for (exit, args, message) in failures {
        let said = consign(dir.path(), &[args, &["--json"]].concat()).ended(exit);
        assert_eq!(said.stderr, "", "{args:?}");
        let said = said.json();
        assert_eq!(said["error"]["exit"], exit, "{args:?}");
        assert!(said["error"]["message"].as_str().unwrap().contains(message), "{said:#}");
        assert!(said["error"]["help"].is_string() && said["error"]["problems"].is_array(), "{said:#}");
        assert_eq!(said.as_object().unwrap().len(), 1);
    }
    let problem = &consign(dir.path(), &["show", "x", "--json"]).ended(3).json()["error"]["problems"][0];
    assert_eq!((&problem["file"], &problem["line"]), (&"/etc/consign/consign.toml".into(), &1.into()));
    let said = in_demo(&["send", "nope", "--json"]).ended(1);
    assert_eq!((said.stderr.as_str(), &said.json()["error"]["message"]), ("", &"there is no share 'nope'".into()));
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let mut command = world::command(&demo().dir, &["--config", "consign.toml", "check"]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let ended = command.stdout(full).output().unwrap();
    assert_eq!(ended.status.code(), Some(5));
    world::says(&String::from_utf8(ended.stderr).unwrap(), &["error: cannot write to stdout: "]);
}

#[test]
fn daemon_logs_json_and_sandbox_ends_well() {
    let world = southwest();
    let mut sandbox = world.sandbox();
    let log = world.path("json.log");
    let mut command = world::command(world.dir(), &["--config", "consign.toml", "run", "--json"]);
    let mut daemon = world::Running::start(command.stderr(fs::File::create(&log).unwrap()));
    until("the daemon is ready", SOON, || fs::read_to_string(&log).unwrap().contains("consign is ready"));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
    for line in fs::read_to_string(&log).unwrap().lines() {
        let said: Value = serde_json::from_str(line).unwrap();
        assert!(said["timestamp"].is_string() && said["message"].is_string(), "{line}");
    }
    sandbox.signal(Signal::TERM);
    assert_eq!(sandbox.wait(SOON).code(), Some(0));
}
