//! A customer who is called otherwise from some time on.

use chrono::{DateTime, TimeDelta, Utc};
use consign::clock::Clock;
use consign::domain::{CustomerName, Interval, Origin, ShareName, Slot};
use consign::ledger::{Ledger, Planned};

use super::admin::daemon;
use super::world::{self, SOON, World, says, stop, until};

const KEYS: &str = "schedule = \"0 6 1 1 *\"\nto = { customers = [\"acme\"] }";
const AT: &str = "2023-01-01T06:00:00Z";

fn world() -> World {
    World::new(&world::flights(&world::customer("acme", 1, "us-east-1", "\"AS\""), "tick", KEYS))
}

/// In the profile and wherever it is named; all else of it stays.
fn rename(world: &World) {
    let text = world.text().replace("[customers.acme]", "[customers.apex]");
    world.write("consign.toml", text.replace("customers = [\"acme\"]", "customers = [\"apex\"]"));
}

#[test]
fn renamed_customers_do_not_get_at_their_place_what_is_there() {
    let world = world();
    let _sandbox = world.sandbox();
    world.run(&["send", "tick", "--at", AT]).ended(0);
    let before = world::files(&world.path("buckets/acme-data"));
    rename(&world);
    let told =
        ["customer acme has got slot tick@2023-01-01T06:00:00Z, at the same key 'in/tick/", "nothing is left to do"];
    world.run(&["send", "tick", "--at", AT]).ended(1).out_says(&told);
    let daemon = daemon(&world);
    world.run(&["backfill", "tick", "--from", AT, "--to", AT]).ended(0);
    let failed =
        || world.runs().into_iter().filter(|run| run["state"] == "failed" && run["origin"] == "backfill").count();
    until("it has failed", SOON, || failed() == 1);
    says(&world.run(&["history", "--customer", "apex", "--json"]).ended(0).stdout, &["failed"]);
    stop(daemon);
    assert_eq!(world::files(&world.path("buckets/acme-data")), before);
    // The next slot is nobody's yet.
    world.run(&["send", "tick"]).ended(0);
}

/// It was planned, and nobody is called so any more.
#[test]
fn renamed_customers_are_told_how_to_get_what_was_planned_before() {
    let world = world();
    let at: DateTime<Utc> = AT.parse().unwrap();
    let slot = Slot {
        share: ShareName::parse("tick").unwrap(),
        at,
        interval: Interval { start: at - TimeDelta::days(365), end: at },
    };
    let planned = Planned::new(slot, vec![CustomerName::parse("acme").unwrap()], Origin::Schedule);
    let plan = async {
        let ledger = Ledger::open(&world.path("state"), Clock::system()).unwrap();
        ledger.plan(vec![planned], vec![(ShareName::parse("tick").unwrap(), at)]).await.unwrap();
    };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(plan);
    let _sandbox = world.sandbox();
    rename(&world);
    let daemon = daemon(&world);
    let failed = || world.runs().into_iter().find(|run| run["state"] == "failed" && run["slot"] == AT);
    until("it has failed", SOON, || failed().is_some());
    let run = failed().unwrap()["run"].as_str().unwrap().to_owned();
    let told =
        ["share tick no longer goes to customer acme", "`consign send tick --at 2023-01-01T06:00:00Z --customer NAME`"];
    world.run(&["show", &run]).ended(0).out_says(&told);
    world.run(&["send", "tick", "--at", AT, "--customer", "apex"]).ended(0);
    stop(daemon);
}

#[test]
fn renamed_customers_and_shares_are_told_by_a_reload() {
    let world = world();
    let daemon = daemon(&world);
    world.run(&["reload", "--wait"]).ended(0);
    rename(&world);
    world.write("consign.toml", world.text().replace("[shares.tick]", "[shares.tock]"));
    let told = [
        "runs: 1 share\n",
        "  added    1 share (tock), 1 customer (apex)\n",
        "  removed  1 share (tick), 1 customer (acme)\n",
    ];
    world.run(&["reload", "--wait"]).ended(0).out_says(&told);
    says(&world.log(), &["names=1 share (tock), 1 customer (apex)", "are gone with it"]);
    let told = world.run(&["reload", "--wait", "--json"]).ended(0).json();
    assert_eq!((&told["added"]["shares"]["count"], &told["removed"]["customers"]["count"]), (&0.into(), &0.into()));

    let more: String = (2..10).map(|n| world::customer(&format!("new-{n}"), n, "us-east-1", "\"AS\"")).collect();
    world.write("consign.toml", world.text() + &more);
    let told = world.run(&["reload", "--wait", "--json"]).ended(0).json();
    let names = serde_json::json!({ "count": 8, "first": ["new-2", "new-3", "new-4", "new-5", "new-6"] });
    assert_eq!(told["added"]["customers"], names);
    stop(daemon);
}
