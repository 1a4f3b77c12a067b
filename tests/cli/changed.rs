//! A share whose schedule was changed: what it had planned before is filled in and sent as it was planned.

use std::collections::BTreeSet;
use std::fs;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use consign::clock::Clock;
use consign::domain::{CustomerName, Interval, Origin, ShareName, SkipReason, Slot};
use consign::ledger::{Ledger, Planned};
use serde_json::Value;

use super::admin::daemon;
use super::flights::{self, Row};
use super::timing::at;
use super::world::{self, MANIFEST, Running, SOON, World, stop, until};

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Two customers, and the flights of each interval.
fn world(schedule: &str, more: &str) -> World {
    let customers =
        world::customer("acme", 1, "us-east-1", "\"AS\"") + &world::customer("globex", 2, "us-east-1", "\"HA\"");
    let keys = format!(
        "schedule = \"{schedule}\"\n{more}\ncatch_up = \"none\"\nto = {{ customers = [\"acme\", \"globex\"] }}\n"
    );
    let query = "query = \"select * from flights where time_hour >= $interval_start and time_hour < $interval_end\"\n";
    let config = world::flights(&customers, "daily", &keys).replace("tenant_column", &format!("{query}tenant_column"));
    World::new(&(config + "[ledger]\nretention = \"36500d\"\n"))
}

/// Slots that were missed, each of a day, up to the last one.
fn plan(world: &World, slots: &[DateTime<Utc>]) {
    let share = ShareName::parse("daily").unwrap();
    let customers = ["acme", "globex"].map(|name| CustomerName::parse(name).unwrap());
    let missed = |at: &DateTime<Utc>| {
        let slot =
            Slot { share: share.clone(), at: *at, interval: Interval { start: *at - TimeDelta::days(1), end: *at } };
        Planned { skip: Some(SkipReason::Missed), ..Planned::new(slot, customers.to_vec(), Origin::Schedule) }
    };
    let ledger = Ledger::open(&world.path("state"), Clock::system()).unwrap();
    let planned = ledger.plan(slots.iter().map(missed).collect(), vec![(share.clone(), *slots.last().unwrap())]);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(planned).unwrap();
}

/// The share's last slot, so that none fires by itself while a daemon lives.
const LAST: &str = "2026-01-04T10:00:00Z";

/// It fired at 16:00 from 2013-03-11 to this day, and fires at 10:00 since.
fn changed_after(last: u32) -> (World, Running) {
    let world = world("0 10 * * *", &format!("end = {LAST}"));
    let sandbox = world.sandbox();
    let before: Vec<_> = (11..=last).map(|day| utc(&format!("2013-03-{day}T16:00:00Z"))).collect();
    plan(&world, &before);
    (world, sandbox)
}

/// What is in a customer's bucket, and each of its rows as often as it is there.
fn delivered(world: &World, customer: &str) -> (BTreeSet<DateTime<Utc>>, Vec<Row>) {
    let bucket = world.path(&format!("buckets/{customer}-data"));
    let (mut slots, mut rows) = (BTreeSet::new(), Vec::new());
    for (key, manifest) in world::manifests(&bucket) {
        assert!(key.ends_with(MANIFEST) && slots.insert(at(&manifest["slot"])), "{key}");
        for object in manifest["objects"].as_array().unwrap().iter().filter(|object| object["rows"] != 0) {
            rows.extend(flights::flights_jsonl(&bucket.join(object["key"].as_str().unwrap())));
        }
    }
    (slots, rows)
}

/// The flights of a carrier from one instant to another.
fn flights_of(carrier: &str, from: &str, to: &str) -> Vec<Row> {
    let hour = |row: &Row| utc(row[flights::at("time_hour")].as_deref().unwrap());
    let mut rows = flights::of(&[carrier]);
    rows.retain(|row| utc(from) <= hour(row) && hour(row) < utc(to));
    assert!(!rows.is_empty());
    rows
}

fn slots_of(filled: &Value) -> Vec<Value> {
    filled["slots"].as_array().unwrap().iter().map(|filling| filling["slot"].clone()).collect()
}

/// From 16:00 to 10:00, and the ledger has the slots of both. Whoever is new gets each row once, and so does everybody.
#[test]
fn changed_schedules_are_filled_in_without_a_gap_and_nothing_twice() {
    let (world, sandbox) = changed_after(15);
    let range = ["--from", "2013-03-08", "--to", "2013-03-18"];
    let foreseen = world.run(&[&["backfill", "daily", "--dry-run", "--json"][..], &range].concat()).ended(0).json();
    let shown = world.run(&[&["backfill", "daily", "--dry-run"][..], &range].concat()).ended(0);
    shown.out_says(&["DATA FROM", "2013-03-10T16:00:00Z  2013-03-10T10:00:00Z  acme, globex"]);

    // The daemon plans what the new schedule has after the last one, as missed.
    let daemon = daemon(&world);
    let planned = || world.run(&["history", "--skipped", "-n", "1", "--json"]).ended(0).json();
    until("all that it had to plan is planned", SOON * 3, || at(&planned()[0]["slot"]["at"]) == utc(LAST));
    // What was planned at 16:00 is a slot still, with or without a daemon.
    let sent = ["send", "daily", "--at", "2013-03-12T16:00:00Z", "--json"];
    let sent_to = |more: &[&str]| world.run(&[&sent[..], more].concat()).ended(0).json();
    let slot = sent_to(&["--customer", "acme"])["slot"].clone();
    assert_eq!(slot, sent_to(&["--dry-run", "out"])["slot"]);
    assert_eq!(at(&slot["interval"]["start"]), utc("2013-03-11T16:00:00Z"));
    let nothing = ["send", "daily", "--at", "2013-03-12T13:00:00Z"];
    world.run(&nothing).ended(1).err_says(&["does not fire at", "2013-03-11T16:00:00Z and 2013-03-12T16:00:00Z"]);

    let filled =
        world.run(&[&["backfill", "daily", "--json", "--customer", "globex"][..], &range].concat()).ended(0).json();
    assert_eq!(slots_of(&filled), slots_of(&foreseen));
    let others = world.run(&[&["backfill", "daily", "--json"][..], &range].concat()).ended(0).json();
    assert_eq!(slots_of(&others), slots_of(&foreseen));
    let expected: BTreeSet<_> = slots_of(&foreseen).iter().map(|slot| at(&slot["at"])).collect();
    assert_eq!(expected.len(), 3 + 1 + 5 + 3);
    let done = || {
        world
            .runs()
            .iter()
            .filter(|run| run["state"] == "succeeded")
            .map(|run| run["committed"].as_u64().unwrap())
            .sum::<u64>()
    };
    until("all is delivered", SOON * 3, || done() == 2 * expected.len() as u64);
    stop(daemon);
    for (customer, carrier) in [("acme", "AS"), ("globex", "HA")] {
        let (slots, rows) = delivered(&world, customer);
        assert_eq!(slots, expected, "{customer}");
        flights::same_rows(rows, flights_of(carrier, "2013-03-07T10:00:00Z", "2013-03-18T10:00:00Z"));
    }
    // And by itself it finds nothing left to do.
    world
        .run(&[&["backfill", "daily"][..], &range].concat())
        .ended(0)
        .out_says(&["12 slots, 0 deliveries planned", "24 deliveries committed"]);
    drop(sandbox);
    world.run(&["send", "daily", "--at", "2013-03-12T16:00:00Z", "--verify"]).ended(0);
}

/// By itself too; a slot of 16:00 that was skipped is sent by hand, and the next one fills in the rest.
#[test]
fn changed_schedules_are_sent_and_filled_in_without_a_daemon() {
    let (world, _sandbox) = changed_after(13);
    let missed = world.run(&["history", "--skipped", "--json"]).ended(0).json();
    let skipped = missed[1]["slot"]["at"].as_str().unwrap().to_owned();
    let sent = world.run(&["send", "daily", "--at", &skipped, "--json"]).ended(0).json();
    assert_eq!(sent["slot"], missed[1]["slot"]);
    // What is left before the ledger is one, and what backfill lists can be sent.
    let rest = world.run(&["send", "daily", "--at", "2013-03-10T16:00:00Z", "--json"]).ended(0).json();
    assert_eq!(at(&rest["slot"]["interval"]["start"]), utc("2013-03-10T10:00:00Z"));
    let range = ["--from", "2013-03-10T10:00:00Z", "--to", "2013-03-13T16:00:00Z"];
    let filled = world.run(&[&["backfill", "daily", "--json"][..], &range].concat()).ended(0).json();
    let done: Vec<usize> =
        filled["slots"].as_array().unwrap().iter().map(|slot| slot["committed"].as_array().unwrap().len()).collect();
    assert_eq!(done, [0, 2, 0, 2, 0]);
    world
        .run(&["backfill", "daily", "--from", "2013-03-11T17:00:00Z", "--to", "2013-03-12T15:00:00Z"])
        .ended(1)
        .err_says(&["no past slot"]);
    let daemon = daemon(&world);
    // Five slots, for both. What is late goes customer by customer, so that a slot may take two runs.
    let committed = || world.runs().iter().map(|run| run["committed"].as_u64().unwrap()).sum::<u64>();
    until("all is delivered", SOON * 3, || committed() == 10);
    stop(daemon);
    let (_, rows) = delivered(&world, "globex");
    flights::same_rows(rows, flights_of("HA", "2013-03-09T10:00:00Z", "2013-03-13T16:00:00Z"));
}

/// Without an instant it is the latest slot, and not a firing that it has covered.
#[test]
fn changed_schedules_send_the_latest_slot_on_record() {
    let now = Clock::system().now().trunc_subsecs(0);
    let (earlier, last) = (now - TimeDelta::hours(3), now - TimeDelta::hours(1));
    let world = world(&earlier.format("%S %M %H * * *").to_string(), "");
    let latest = || world.run(&["send", "daily", "--dry-run", "out", "--json"]).ended(0).json()["slot"].clone();
    assert_eq!(at(&latest()["at"]), earlier);
    fs::remove_dir_all(world.path("out")).unwrap();
    plan(&world, &[last]);
    let slot = latest();
    assert_eq!((at(&slot["at"]), at(&slot["interval"]["start"])), (last, last - TimeDelta::days(1)));
    // By the hour, the next firing after it begins where it ended.
    let hourly = (now - TimeDelta::minutes(5)).format("%S %M * * * *").to_string();
    let daily = earlier.format("%S %M %H * * *").to_string();
    world.write("consign.toml", world.text().replace(&daily, &hourly));
    fs::remove_dir_all(world.path("out")).unwrap();
    let slot = latest();
    assert_eq!((at(&slot["at"]), at(&slot["interval"]["start"])), (now - TimeDelta::minutes(5), last));
}
