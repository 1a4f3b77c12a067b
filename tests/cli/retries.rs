//! What failed for many, and of many runs, once more.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use consign::clock::Clock;
use consign::domain::{CustomerName, Failure, Interval, Layer, Retry, ShareName, Slot};
use consign::ledger::Ledger;
use futures::future::join_all;
use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;

use super::admin::daemon;
use super::world::{self, SOON, World, says, stop, until};
use crate::plugin::support::guest;

/// More than one line to the daemon has room for.
const MANY: usize = 1_500;

fn name(n: usize) -> String {
    format!("customer-{n:04}-of-the-many-who-get-this-share")
}

fn customers() -> Vec<CustomerName> {
    (0..MANY).map(|n| CustomerName::parse(&name(n)).unwrap()).collect()
}

fn world_of_many() -> World {
    let profiles: String = (0..MANY).map(|n| world::customer(&name(n), 1, "us-east-1", "\"AS\"")).collect();
    let keys = "schedule = \"0 6 1 1 *\"\nretry = { attempts = 1 }\nto = { groups = [\"all\"] }";
    let profiles = profiles.replace("prefix = \"in/\"\n", "prefix = \"in/\"\ngroups = [\"all\"]\n");
    World::new(&world::flights(&profiles, "tick", keys))
}

/// A run that failed for all of them.
async fn has_failed(ledger: &Ledger, year: i32, customers: Vec<CustomerName>) {
    let at: DateTime<Utc> = format!("{year}-01-01T06:00:00Z").parse().unwrap();
    let interval = Interval { start: at - TimeDelta::days(365), end: at };
    let slot = Slot { share: ShareName::parse("tick").unwrap(), at, interval };
    let claim = ledger.start_manual(slot, customers).await.unwrap().claim.unwrap();
    let fail = async |delivery| {
        let attempt = ledger.attempt_started(delivery, None).await.unwrap();
        let failure = Failure::new(Layer::Network, Retry::Later, "nobody answers", "wait");
        ledger.failed(attempt.id, failure, None).await.unwrap();
    };
    join_all(claim.deliveries.iter().map(|(_, delivery)| fail(*delivery))).await;
    ledger.run_finished(claim.run).await.unwrap();
}

/// One who failed again later is not named with the others, who are named in pieces.
#[test]
fn retry_of_thousands_who_failed_begins_all_of_them() {
    let world = world_of_many();
    let fail = async {
        let ledger = Ledger::open(&world.path("state"), Clock::system()).unwrap();
        has_failed(&ledger, 2021, customers()).await;
        has_failed(&ledger, 2022, customers()).await;
        has_failed(&ledger, 2022, vec![customers().remove(7)]).await;
    };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(fail);
    let daemon = daemon(&world);
    let made = world.run(&["retry", "--share", "tick", "--json"]).ended(0).json();
    let made = made.as_array().unwrap();
    let years: Vec<&str> = made.iter().map(|report| &report["slot"]["at"].as_str().unwrap()[..4]).collect();
    assert_eq!(years, ["2021", "2022", "2022", "2022"]);
    let runs: BTreeSet<&str> = made.iter().map(|report| report["run"].as_str().unwrap()).collect();
    assert_eq!(runs.len(), 4, "each has begun a run of its own");

    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let ledger = Connection::open_with_flags(world.path("state/ledger.db"), flags).unwrap();
    let of = "SELECT count(*), count(DISTINCT d.slot || d.customer) FROM runs r JOIN deliveries d ON d.run = r.seq WHERE r.id = ?1";
    let begun = runs.iter().map(|run| ledger.query_row(of, [run], |row| Ok((row.get(0)?, row.get(1)?))).unwrap());
    let begun: (i64, i64) = begun.fold((0, 0), |sum, of: (i64, i64)| (sum.0 + of.0, sum.1 + of.1));
    assert_eq!(begun, (2 * MANY as i64, 2 * MANY as i64));
    drop(ledger);
    stop(daemon);
}

/// Its plugin is in quarantine, which is no other's.
#[test]
fn retry_of_what_is_refused_keeps_no_other_from_being_begun() {
    let keys = "schedule = \"0 6 1 1 *\"\nretry = { attempts = 1 }\nto = { customers = [\"acme\"] }\n";
    let other = format!("[shares.other]\ndataset = \"flights\"\nplugin = \"csv\"\n{keys}");
    let customer = world::customer("acme", 1, "us-east-1", "\"AS\"");
    let bad = format!("{customer}[plugins.bad]\npath = \"bad.wasm\"\nquarantine_after = 3\n");
    let config = world::flights(&bad, "tick", &format!("options = {{ behaviour = \"none\" }}\n{keys}{other}"));
    let world = World::new(&config.replacen("plugin = \"jsonl\"", "plugin = \"bad\"", 1));
    world.write("bad.wasm", guest("hostile"));
    world.run(&["send", "tick"]).ended(1);
    world.run(&["send", "other"]).ended(1);
    let ledger = Connection::open(world.path("state/ledger.db")).unwrap();
    let halt = "INSERT INTO faults (digest, plugin, deliveries, failure, failed_at, quarantined_at)
                SELECT a.digest, 'bad', 3, d.failure, a.started_at, a.started_at
                FROM runs r JOIN deliveries d ON d.run = r.seq JOIN attempts a ON a.delivery = d.id WHERE r.share = 'tick'";
    assert_eq!(ledger.execute(halt, []).unwrap(), 1);
    drop(ledger);

    let daemon = daemon(&world);
    let told = world.run(&["retry", "--customer", "acme"]).ended(1);
    let refused = ["error: tick 20", " has not begun: plugin bad of share tick is in quarantine", "help: "];
    says(&told.stderr, &refused);
    says(&told.stdout, &["other 20", " has begun"]);
    assert!(!told.stdout.contains("tick"), "{}", told.stdout);
    stop(daemon);
    // The same without one, in the words of machines.
    let told = world.run(&["retry", "--customer", "acme", "--json"]).ended(1).json();
    let of = |share: &str| told.as_array().unwrap().iter().find(|report| report["slot"]["share"] == share).unwrap();
    let failure = |share: &str| of(share)["outcomes"][0]["failure"]["message"].as_str().unwrap();
    says(failure("tick"), &["plugin bad of share tick is in quarantine"]);
    assert!(!failure("other").contains("quarantine") && !of("other")["run"].is_null(), "{told:#}");
}

/// Somebody else's run has it, and that is not what was asked for.
#[test]
fn send_that_detaches_tells_who_is_left_alone() {
    let customers =
        world::customer("acme", 1, "us-east-1", "\"AS\"") + &world::customer("globex", 2, "us-east-1", "\"AS\"");
    let keys = "schedule = \"0 6 1 1 *\"\nto = { customers = [\"acme\", \"globex\"] }";
    let world = World::new(&world::flights(&customers, "tick", keys));
    let sandbox = world.sandbox();
    let daemon = daemon(&world);
    sandbox.signal(Signal::STOP);
    let send = |year: u32, more: &[&str]| {
        let at = format!("{year}-01-01T06:00:00Z");
        world.run(&[&["send", "tick", "--detach", "--at", &at], more].concat())
    };
    send(2024, &["--customer", "acme"]).ended(0).out_says(&["has begun"]);
    let told = send(2024, &[]).ended(1).out_says(&["has begun", "acme", "waits in run"]);
    assert!(!told.stdout.contains("globex"), "{told:?}");
    send(2025, &["--customer", "acme"]).ended(0);
    let told = send(2025, &["--json"]).ended(1).json();
    let outcomes = told["outcomes"].as_array().unwrap();
    assert!(!told["run"].is_null() && outcomes.len() == 1, "{told:#}");
    assert_eq!((&outcomes[0]["customer"], &outcomes[0]["state"]), (&"acme".into(), &"busy".into()), "{told:#}");
    // Who has it lacks nothing.
    sandbox.signal(Signal::CONT);
    until("all is delivered", SOON, || world.runs().iter().all(|run| run["state"] == "succeeded"));
    send(2023, &["--customer", "acme"]).ended(0);
    until("it is delivered", SOON, || world.runs().iter().all(|run| run["state"] == "succeeded"));
    send(2023, &[]).ended(0).out_says(&["has begun", "acme", "was delivered before"]);
    stop(daemon);
}

#[test]
fn show_has_those_who_failed_and_those_who_are_named() {
    let customers =
        world::customer("acme", 1, "us-east-1", "\"AS\"") + &world::customer("globex", 2, "us-east-1", "\"ZZ\"");
    let keys = "schedule = \"0 6 1 1 *\"\nempty = \"fail\"\nto = { customers = [\"acme\", \"globex\"] }";
    let world = World::new(&world::flights(&customers, "tick", keys));
    let _sandbox = world.sandbox();
    world.run(&["send", "tick"]).ended(1);
    let run = world.runs()[0]["run"].as_str().unwrap().to_owned();
    let shown = |more: &[&str]| {
        let shown = world.run(&[&["show", &run, "--json"], more].concat()).ended(0).json();
        assert_eq!(shown["run"]["deliveries"], 2, "the run's counts stay: {shown:#}");
        let deliveries = shown["deliveries"].as_array().unwrap();
        deliveries.iter().map(|of| of["customer"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown(&[]), ["acme", "globex"]);
    assert_eq!(shown(&["--failed"]), ["globex"]);
    assert_eq!(shown(&["--customer", "acme"]), ["acme"]);
    assert_eq!(shown(&["--customer", "acme", "--customer", "globex", "--failed"]), ["globex"]);
    let failed = world.run(&["show", &run, "--failed"]).ended(0).out_says(&["globex  failed"]);
    assert!(!failed.stdout.contains("acme"), "{}", failed.stdout);
    world.run(&["show", &run, "--failed", "--customer", "acme"]).ended(0).out_says(&["none of 1 customer has failed"]);
    world
        .run(&["show", &run, "--customer", "initech"])
        .ended(1)
        .err_says(&["has no delivery to 'initech'", "acme, globex"]);
}
