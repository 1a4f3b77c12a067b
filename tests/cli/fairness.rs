//! Who hangs holds up nobody else: a bucket that never answers, a plugin that
//! never ends, next to customers and shares that do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use chrono::{DateTime, Utc};
use rustix::process::Signal;
use serde_json::Value;

use super::world::{self, Running, SOON, World, stop, until};
use crate::plugin::support::guest;
use crate::support::stall::Stall;

/// As many slots as have to be delivered while others hang. There are fewer places.
const SLOTS: usize = 8;

/// What a busy machine may add to a delivery. Whoever waits for the one that hangs waits for longer.
const BUSY_S: f64 = 10.0;

/// The slots that the hanging ones need to take all places that they can get.
const SETTLING: usize = 3;

const OTHERS: [&str; 3] = ["acme", "globex", "initech"];

fn wait(world: &World, daemon: &mut Running, what: &str, done: impl Fn() -> bool) {
    until(what, SOON, || {
        assert!(daemon.is_running(), "{}", world.log());
        done()
    });
}

/// The manifests in a customer's bucket, while others come: each slot, and when it was delivered.
fn manifests(world: &World, customer: &str) -> BTreeMap<DateTime<Utc>, DateTime<Utc>> {
    let bucket = world.path(&format!("buckets/{customer}-data"));
    let manifests = world::files(&bucket).into_keys().filter(|key| key.ends_with(world::MANIFEST));
    let read = |key: String| serde_json::from_slice(&fs::read(bucket.join(key)).ok()?).ok();
    let at = |manifest: &Value, key: &str| manifest[key].as_str().unwrap().parse().unwrap();
    manifests.filter_map(read).map(|manifest: Value| (at(&manifest, "slot"), at(&manifest, "finished"))).collect()
}

fn delivered(world: &World, customer: &str) -> BTreeSet<DateTime<Utc>> {
    manifests(world, customer).into_keys().collect()
}

/// Seconds from the slot to its manifest of which 99 of 100 need no more, over all of the others.
fn p99(world: &World) -> f64 {
    let of = |customer: &&str| manifests(world, customer).into_iter().skip(SETTLING).take(SLOTS).collect::<Vec<_>>();
    let mut all: Vec<f64> =
        OTHERS.iter().flat_map(of).map(|(slot, finished)| (finished - slot).as_seconds_f64()).collect();
    assert_eq!(all.len(), OTHERS.len() * SLOTS);
    all.sort_unstable_by(f64::total_cmp);
    all[all.len() * 99 / 100]
}

/// A slot each second for these customers, on four places, through an endpoint that never
/// answers for the bucket of `stalled`.
fn ticking(customers: &[&str]) -> (World, Running, Stall) {
    let profiles = (1..).zip(customers).map(|(n, name)| world::customer(name, n, "us-east-1", "\"AS\""));
    let share = "schedule = \"* * * * * *\"\noverlap = \"allow\"\nto = { all = true }";
    let world = World::new(&world::flights(&profiles.collect::<String>(), "tick", share));
    let sandbox = world.sandbox();
    let text = world.text();
    let behind = text.split("endpoint_url = \"").nth(1).unwrap().split('"').next().unwrap();
    let stall = Stall::start(behind, "/stalled-data");
    // Looked at first, the bucket that never answers would not be asked by deliveries.
    let daemon = "[daemon]\nconcurrency = 4\npreflight = \"never\"\n";
    let text = text.replace(behind, &stall.endpoint).replace("[daemon]\n", daemon);
    world.write("consign.toml", text);
    (world, sandbox, stall)
}

fn until_the_others_have_their_slots(world: &World, daemon: &mut Running) {
    wait(world, daemon, "the others have their slots", || {
        OTHERS.iter().all(|customer| has_first(world, customer, SETTLING + SLOTS))
    });
}

/// No slot is missing between the first and the last.
fn is_whole(slots: &BTreeSet<DateTime<Utc>>) -> bool {
    slots.iter().zip(slots.iter().skip(1)).all(|(one, next)| (*next - *one).num_seconds() == 1)
}

/// It has so many slots, one after the other. Of those after them one may be there before another.
fn has_first(world: &World, customer: &str, count: usize) -> bool {
    let slots: BTreeSet<_> = delivered(world, customer).into_iter().take(count).collect();
    slots.len() == count && is_whole(&slots)
}

fn deliveries(world: &World, run: &Value) -> BTreeMap<String, String> {
    let shown = world.run(&["show", run["run"].as_str().unwrap(), "--json"]).ended(0).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let deliveries = shown["deliveries"].as_array().unwrap().iter();
    deliveries.map(|delivery| (text(&delivery["customer"]), text(&delivery["state"]))).collect()
}

/// Each slot goes to a customer whose bucket never answers, and to three others.
/// Without the limits of a customer, a bucket and a share (all of them 4) the others have no
/// slot any more after four of them. With them they wait no longer than without that customer.
#[test]
fn fairness_a_bucket_that_never_answers_holds_up_nobody_else() {
    let (alone, sandbox, _) = ticking(&OTHERS);
    let mut daemon = alone.daemon();
    until_the_others_have_their_slots(&alone, &mut daemon);
    stop(daemon);
    drop(sandbox);

    let (world, _sandbox, stall) = ticking(&[&["stalled"][..], &OTHERS].concat());
    let mut daemon = world.daemon();
    until_the_others_have_their_slots(&world, &mut daemon);
    assert!(stall.stalled() >= 1, "nobody asked the bucket that never answers");
    let [without, with] = [&alone, &world].map(p99);
    println!("99 of 100 slots were delivered within {without:.2} s, and beside a bucket that hangs within {with:.2} s");
    assert!(with < 2.0 * without + BUSY_S, "{with:.2} s instead of {without:.2} s");
    // It has two of the places; what else is for it waits.
    let states: Vec<String> = world.runs().iter().filter_map(|run| deliveries(&world, run).remove("stalled")).collect();
    let count = |state: &str| states.iter().filter(|of| *of == state).count();
    assert_eq!((count("working"), count("committed")), (2, 0), "{states:?}");
    assert!(count("pending") >= SLOTS - 2, "{states:?}");
    daemon.signal(Signal::KILL);
}

/// Beside what is configured, shares like `share` whose plugin never ends.
fn hanging(mut config: String, names: &[&str], share: &str) -> World {
    config.push_str("[plugins.hostile]\npath = \"hostile.wasm\"\n");
    for name in names {
        config.push_str(&format!(
            "[shares.{name}]\ndataset = \"flights\"\nplugin = \"hostile\"\n\
             options = {{ behaviour = \"sleep\" }}\n{share}\n"
        ));
    }
    let world = World::new(&config);
    world.write("hostile.wasm", guest("hostile"));
    world
}

/// A share whose plugin never ends has three of the four places, and not the last one.
#[test]
fn fairness_a_plugin_that_hangs_holds_up_no_other_share() {
    let share = "schedule = \"* * * * * *\"\noverlap = \"allow\"\nto = { customers = [\"acme\"] }";
    let config = world::flights(&world::customer("acme", 1, "us-east-1", "\"AS\""), "tick", share);
    let world = hanging(config, &["hangs"], share);
    let _sandbox = world.sandbox();
    let text = world.text();
    world.write("consign.toml", text.replace("[daemon]\n", "[daemon]\nconcurrency = 4\ndrain_timeout = \"0s\"\n"));

    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "the other share has its slots", || has_first(&world, "acme", SLOTS));
    let runs = world.runs();
    let of =
        |share: &str, state: &str| runs.iter().filter(|run| run["share"] == share && run["state"] == state).count();
    assert_eq!((of("hangs", "running"), of("hangs", "succeeded")), (3, 0), "the rest is pending in the ledger");
    assert!(of("tick", "succeeded") >= SLOTS - 1, "the last one may be about to be recorded");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
}

/// Two shares with such a plugin go to three customers, and get a part of the places of each.
#[test]
fn fairness_a_plugin_that_hangs_leaves_its_customers_a_place() {
    let share = format!("schedule = \"* * * * * *\"\noverlap = \"allow\"\nto = {{ customers = {OTHERS:?} }}");
    let profiles: String = (1..).zip(OTHERS).map(|(n, name)| world::customer(name, n, "us-east-1", "\"AS\"")).collect();
    let config = world::flights(&profiles, "tick", &share);
    let world = hanging(config, &["hangs", "hangs-too"], &share);
    let _sandbox = world.sandbox();
    let mut daemon = world.daemon();
    for customer in OTHERS {
        wait(&world, &mut daemon, "the other share has its slots", || has_first(&world, customer, SLOTS));
    }
    daemon.signal(Signal::KILL);
}
