//! When a share is delivered, from the outside: overlap, deadline, pauses, what
//! is filled in later, and what is to come.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use chrono::{DateTime, Utc};
use consign::clock::Clock;
use rustix::process::Signal;
use serde_json::Value;

use super::world::{self, Running, SOON, World, stop, until};

/// So many rows, and so much work on them, that a delivery takes longer than the second between two slots.
pub(super) const MANY: &str = r#"["UA", "B6", "EV", "DL", "AA", "MQ"]"#;
pub(super) const WORK: &str = "compression = { codec = \"gzip\", level = 9 }\n";
/// Longer than anybody waits here.
const TOO_MUCH: &str = "compression = { codec = \"zstd\", level = 19 }\n";

pub(super) fn world(schedule: &str, carriers: &str, more: &str) -> World {
    let customer = world::customer("acme", 1, "us-east-1", carriers);
    let keys = format!("schedule = \"{schedule}\"\n{more}\nto = {{ customers = [\"acme\"] }}");
    World::new(&world::flights(&customer, "tick", &keys))
}

pub(super) fn wait(world: &World, daemon: &mut Running, what: &str, done: impl Fn() -> bool) {
    // Slots come all the time, and a busy machine takes long for each.
    until(what, SOON * 3, || {
        assert!(daemon.is_running(), "{}", world.log());
        done()
    });
}

pub(super) fn at(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

pub(super) fn skipped(world: &World) -> Vec<Value> {
    let said = world.run(&["history", "--skipped", "-n", "100000", "--json"]).ended(0).json();
    said.as_array().unwrap().clone()
}

pub(super) fn in_state(world: &World, state: &str) -> usize {
    world.runs().iter().filter(|run| run["state"] == state).count()
}

/// No two of these runs of a share were at work at once, by the attempts of their one delivery:
/// a run ends a moment after it, when another may have begun.
pub(super) fn one_after_another(world: &World, runs: &[Value]) {
    let work = runs.iter().map(|run| {
        let shown = world.run(&["show", run["run"].as_str().unwrap(), "--json"]).ended(0).json();
        let attempts = shown["deliveries"][0]["attempts"].as_array().unwrap();
        (at(&attempts[0]["started"]), at(&attempts[attempts.len() - 1]["ended"]))
    });
    let mut work: Vec<_> = work.collect();
    work.sort_unstable();
    assert!(work.windows(2).all(|pair| pair[0].1 <= pair[1].0), "two slots of the share were at work: {work:?}");
}

/// Of its one delivery there is no attempt.
fn has_not_begun(world: &World, run: &Value) -> bool {
    let shown = world.run(&["show", run["run"].as_str().unwrap(), "--json"]).ended(0).json();
    shown["deliveries"][0]["attempts"].as_array().is_none_or(Vec::is_empty)
}

/// The failed runs, each with its one delivery. It failed by the share's own rules, and left nothing.
fn given_up(world: &World) -> Vec<(Value, Value)> {
    let left = fs::read_dir(world.path("buckets/.sandbox/uploads")).unwrap();
    let left: BTreeSet<String> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let failed = world.runs().into_iter().filter(|run| run["state"] == "failed");
    let shown = failed.map(|run| {
        let shown = world.run(&["show", run["run"].as_str().unwrap(), "--json"]).ended(0).json();
        let delivery = shown["deliveries"][0].clone();
        assert_eq!(delivery["failure"]["layer"], "schedule", "{shown}");
        for upload in delivery["attempts"].as_array().unwrap().iter().flat_map(|of| of["uploads"].as_array().unwrap()) {
            assert_eq!(upload["state"], "aborted", "{shown}");
            assert!(!left.contains(upload["upload_id"].as_str().unwrap()), "{shown}");
        }
        (run, delivery)
    });
    shown.collect()
}

/// Every second has its slot, and each is either delivered or on record as left out.
#[test]
fn timing_overlap_skips_and_says_so() {
    let world = world("* * * * * *", MANY, WORK);
    let _sandbox = world.sandbox();
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "slots are delivered and left out", || {
        in_state(&world, "succeeded") >= 2 && skipped(&world).len() >= 2
    });
    stop(daemon);
    let runs = world.runs();
    let mut seconds = BTreeMap::new();
    for run in &runs {
        assert_eq!(seconds.insert(at(&run["slot"]), "run"), None);
    }
    let (delivered, left): (Vec<Value>, Vec<Value>) = runs.into_iter().partition(|run| run["state"] == "succeeded");
    // One may have been planned as the daemon was told to stop, and begins with the next start.
    assert!(left.len() <= 1, "{left:?}");
    assert!(left.iter().all(|run| run["state"] == "running" && has_not_begun(&world, run)), "{left:?}");
    one_after_another(&world, &delivered);
    for slot in skipped(&world) {
        assert_eq!(slot["reason"], "overlap");
        assert_eq!(seconds.insert(at(&slot["slot"]["at"]), "skipped"), None);
    }
    let seconds: Vec<_> = seconds.into_keys().collect();
    assert!(seconds.windows(2).all(|pair| (pair[1] - pair[0]).num_seconds() == 1), "a slot is missing: {seconds:?}");
    assert!(world.log().contains("slot skipped"), "{}", world.log());
}

/// The newest slot ends what is before it; nothing of what was given up is left.
#[test]
fn timing_overlap_cancels_cleanly() {
    let world = world("*/4 * * * * *", MANY, &format!("{TOO_MUCH}overlap = \"cancel\""));
    let _sandbox = world.sandbox();
    let mut daemon = world.daemon();
    let has_upload = |run: &Value| {
        let shown = world.run(&["show", run["run"].as_str().unwrap(), "--json"]).ended(0).json();
        let attempts = shown["deliveries"][0]["attempts"].as_array().unwrap();
        attempts.iter().any(|attempt| !attempt["uploads"].as_array().unwrap().is_empty())
    };
    // On a busy machine the first ones may be given up before they store anything.
    wait(&world, &mut daemon, "two runs were given up, and one of them had begun to store", || {
        let failed: Vec<Value> = world.runs().into_iter().filter(|run| run["state"] == "failed").collect();
        failed.len() >= 2 && failed.iter().any(has_upload)
    });
    drop(daemon);
    for (_, delivery) in given_up(&world) {
        world::says(delivery["failure"]["message"].as_str().unwrap(), &["given up for slot tick@"]);
    }
    assert_eq!(world::manifests(&world.path("buckets/acme-data")).len(), 0);
}

#[test]
fn timing_a_deadline_ends_what_takes_longer() {
    let more = format!("{TOO_MUCH}deadline = \"2s\"\noverlap = \"allow\"\ncatch_up = \"none\"");
    let world = world("*/5 * * * * *", MANY, &more);
    let _sandbox = world.sandbox();
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "a run has failed", || in_state(&world, "failed") >= 1);
    drop(daemon);
    for (run, delivery) in given_up(&world) {
        let message = delivery["failure"]["message"].as_str().unwrap();
        world::says(message, &["not delivered by", "the deadline of slot tick@"]);
        assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1, "it is not tried again");
        assert!((at(&run["finished"]) - at(&run["slot"])).num_seconds() < 30, "{run}");
    }
}

/// What may pass is not tried again when the next try would be too late.
#[test]
fn timing_a_deadline_bounds_tries() {
    let more =
        "deadline = \"3s\"\noverlap = \"allow\"\nretry = { attempts = 100, backoff = \"500ms\", max_backoff = \"1s\" }";
    let world = world("*/5 * * * * *", "\"AS\"", more);
    // Nobody is at the endpoint.
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "a run has failed", || in_state(&world, "failed") >= 1);
    stop(daemon);
    let failed: Vec<Value> = world.runs().into_iter().filter(|run| run["state"] == "failed").collect();
    let shown = world.run(&["show", failed[0]["run"].as_str().unwrap(), "--json"]).ended(0).json();
    let delivery = &shown["deliveries"][0];
    let ended = at(&shown["run"]["finished"]) - at(&shown["run"]["slot"]);
    assert!(ended.num_seconds() < 30, "{ended} after its slot");
    assert!(delivery["attempts"].as_array().unwrap().len() < 100);
    let message = delivery["failure"]["message"].as_str().unwrap();
    assert!(message.contains("deadline"), "{message}");
}

/// What is sealed is completed however late: neither whoever takes it up gives it up,
/// nor a try of its completion that fails.
#[test]
fn timing_a_deadline_does_not_give_up_what_is_sealed() {
    let retry = "retry = { attempts = 100, backoff = \"200ms\", max_backoff = \"500ms\" }";
    let more = format!("deadline = \"2s\"\noverlap = \"allow\"\ncatch_up = \"none\"\n{retry}");
    let world = world("*/5 * * * * *", "\"AS\"", &more);
    let mut sandbox = world.sandbox();
    let mut daemon = world.start(&[], &["run"], &[("CONSIGN_CRASH_AT", "sealed")]);
    assert_eq!(daemon.wait(SOON).code(), None, "{}", world.log());
    sandbox.signal(Signal::INT);
    sandbox.wait(SOON);
    let run = world.runs()[0].clone();
    let shown = || world.run(&["show", run["run"].as_str().unwrap(), "--json"]).ended(0).json();
    assert_eq!(shown()["deliveries"][0]["state"], "sealed");
    let deadline = at(&run["slot"]) + chrono::TimeDelta::seconds(2);
    until("the deadline has passed", SOON, || Clock::system().now() > deadline);
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "its completion is to be tried again", || {
        let delivery = shown()["deliveries"][0].clone();
        assert_eq!(delivery["state"], "sealed", "{delivery}");
        delivery["due"].is_string()
    });
    let _sandbox = world.sandbox_again();
    wait(&world, &mut daemon, "it is delivered", || shown()["run"]["state"] == "succeeded");
    stop(daemon);
    let shown = shown();
    let attempts = shown["deliveries"][0]["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["state"]), (1, &"committed".into()), "it was not begun again: {shown}");
    assert!(at(&shown["run"]["finished"]) > deadline);
}

#[test]
fn timing_pause_leaves_slots_out_until_resume() {
    let world = world("* * * * * *", "\"AS\"", "overlap = \"allow\"");
    let _sandbox = world.sandbox();
    world.run(&["resume", "tick"]).ended(0).out_says(&["was not paused"]);
    world.run(&["pause", "tick"]).ended(0).out_says(&["share tick is paused"]);
    world.run(&["pause", "tick"]).ended(0).out_says(&["was paused already"]);
    world.run(&["next", "tick"]).ended(0).out_says(&["paused since", "consign resume tick"]);
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "slots are left out", || skipped(&world).len() >= 2);
    stop(daemon);
    assert_eq!(world.runs().len(), 0);
    assert!(skipped(&world).iter().all(|slot| slot["reason"] == "paused"));
    world.run(&["resume", "tick", "--json"]).ended(0).out_says(&["\"changed\": true"]);
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "slots are delivered", || in_state(&world, "succeeded") >= 2);
    stop(daemon);
    let left_out: BTreeSet<_> = skipped(&world).iter().map(|slot| at(&slot["slot"]["at"])).collect();
    let last = left_out.last().unwrap();
    assert!(world.runs().iter().all(|run| at(&run["slot"]) > *last), "a slot of the pause was made up for");
}

#[test]
fn timing_backfill_delivers_what_nobody_has() {
    let world = world("0 6 1 1 *", "\"AS\"", "");
    let _sandbox = world.sandbox();
    world.run(&["send", "tick", "--at", "2023-01-01T06:00:00Z"]).ended(0);
    let range = ["--from", "2022-01-01", "--to", "2024-01-01"];
    let dry = world.run(&[&["backfill", "tick", "--dry-run"][..], &range].concat()).ended(0);
    let dry = dry.err_says(&["older than `ledger.retention`"]);
    dry.out_says(&["3 slots, 2 deliveries would be planned", "1 delivery committed before", "2022-01-01T06:00:00Z"]);
    let said = world.run(&[&["backfill", "tick", "--json"][..], &range].concat()).ended(0).json();
    let open: Vec<_> = said["slots"].as_array().unwrap().iter().map(|slot| slot["to_deliver"].clone()).collect();
    assert_eq!(Value::from(open), serde_json::json!([["acme"], [], ["acme"]]));
    let again = world.run(&[&["backfill", "tick"][..], &range].concat()).ended(0);
    again.out_says(&["3 slots, 0 deliveries planned", "2 deliveries under way already"]);
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "all are delivered", || in_state(&world, "succeeded") == 3);
    stop(daemon);
    let mut runs = world.runs();
    runs.sort_by_key(|run| run["slot"].as_str().unwrap().to_owned());
    let origins: Vec<_> = runs.iter().map(|run| run["origin"].as_str().unwrap()).collect();
    assert_eq!(origins, ["backfill", "manual", "backfill"]);
    assert_eq!(at(&runs[0]["interval"]["start"]).to_rfc3339(), "2021-01-01T06:00:00+00:00");
    assert_eq!(world::manifests(&world.path("buckets/acme-data")).len(), 3);

    world.run(&["backfill", "tick", "--from", "2024-03-03", "--to", "2024-03-01"]).ended(1).err_says(&["exchange"]);
    world.run(&["backfill", "tick", "--from", "2999-01-01", "--to", "2999-02-01"]).ended(1).err_says(&["no past slot"]);
    let unknown = ["backfill", "tick", "--from", "2024-03-01", "--to", "2024-03-01", "--customer", "globex"];
    world.run(&unknown).ended(1).err_says(&["does not go to 'globex'"]);
    world.run(&["backfill", "tick", "--from", "then", "--to", "now"]).ended(2).err_says(&["2026-01-31T06:00:00Z"]);
}

#[test]
fn timing_next_lists_slots_to_come() {
    let more = "timezone = \"America/New_York\"\njitter = \"10min\"\nend = 2026-03-11";
    let world = world("30 2 * * *", "\"AS\"", more);
    let args = ["next", "tick", "--from", "2026-03-07T00:00:00Z", "-n", "4"];
    let said = world.run(&[&args[..], &["--json"]].concat()).ended(0).json();
    let slots = said["slots"].as_array().unwrap();
    let texts = |key: &str| slots.iter().map(|slot| slot[key].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(
        texts("slot"),
        ["2026-03-07T07:30:00Z", "2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z", "2026-03-10T06:30:00Z"]
    );
    assert_eq!(texts("local")[..2], ["2026-03-07T02:30:00-05:00", "2026-03-08T03:00:00-04:00"]);
    assert_eq!(slots[2]["interval"]["start"], "2026-03-08T07:00:00Z");
    assert_eq!(slots[1]["clock_change"], serde_json::json!({ "at": "2026-03-08T07:00:00Z", "seconds": 3600 }));
    assert_eq!((&slots[0]["clock_change"], &said["paused_since"]), (&Value::Null, &Value::Null));
    let late: BTreeSet<i64> =
        slots.iter().map(|slot| (at(&slot["due"]) - at(&slot["slot"])).num_milliseconds()).collect();
    assert!(late.len() == 1 && (1..600_000).contains(late.first().unwrap()), "{late:?}");
    world.run(&args).ended(0).out_says(&[
        "SLOT",
        "Sun 2026-03-08 03:00:00 EDT",
        "clocks go forward 1h at 2026-03-08T07:00:00Z",
    ]);
    let ended = ["next", "tick", "--from", "2026-03-12T00:00:00Z"];
    world.run(&ended).ended(0).out_says(&["share tick has no slot to come"]);
    world.run(&["next", "tock"]).ended(1).err_says(&["there is no share 'tock'"]);
}
