//! `consign send` and `retry` without a daemon, and what one has left that ran before.

use serde_json::Value;

use super::world::{self, Running, SOON, World, stop, until};

/// Longer than a test waits for the next try.
const RETRY: &str = "retry = { attempts = 3, backoff = \"2h\", max_backoff = \"2h\" }";

fn world(keys: &str) -> World {
    // Nothing else comes of it, at whatever time of day.
    let share =
        format!("schedule = \"@daily\"\nend = 2026-01-04\n{keys}\n{RETRY}\nto = {{ customers = [\"acme\"] }}\n");
    World::new(&world::flights(&world::customer("acme", 1, "us-east-1", "\"AS\""), "daily", &share))
}

fn at(day: u32) -> String {
    format!("2026-01-{day:02}T00:00:00Z")
}

/// Slots of the past that a daemon is to deliver, whoever has them delivered by hand meanwhile.
fn backfill(world: &World, day: u32) {
    let day = format!("2026-01-{day:02}");
    world.run(&["backfill", "daily", "--from", &day, "--to", &day]).ended(0);
}

/// A daemon that has tried once to deliver what it was to, in vain, and is no more.
fn has_tried(world: &World) {
    let mut daemon = world.daemon();
    until("it waits for its next try", SOON, || {
        assert!(daemon.is_running(), "{}", world.log());
        world.log().contains("to be tried again")
    });
    stop(daemon);
}

fn died(world: &World, point: &str) {
    let mut daemon: Running = world.start(&[], &["run"], &[("CONSIGN_CRASH_AT", point)]);
    assert_eq!(daemon.wait(SOON).code(), None, "{}", world.log());
}

/// The state of the only run of a slot, and its only delivery.
fn slot(world: &World, day: u32) -> (String, Value) {
    let runs: Vec<Value> = world.runs().into_iter().filter(|run| run["slot"] == at(day)).collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    let shown = world.run(&["show", runs[0]["run"].as_str().unwrap(), "--json"]).ended(0).json();
    (runs[0]["state"].as_str().unwrap().to_owned(), shown["deliveries"][0].clone())
}

fn attempts(delivery: &Value) -> usize {
    delivery["attempts"].as_array().unwrap().len()
}

/// It is the next daemon's, who tries it again when it is due.
#[test]
fn send_alone_leaves_another_slot_that_waits_for_its_next_try() {
    for keys in ["latest_pointer = true", "mode = \"replace\"\noverlap = \"queue\""] {
        let world = world(keys);
        drop(world.sandbox());
        if keys.starts_with("mode") {
            // Of what is replaced no past is filled in: an earlier slot that somebody asked a daemon for.
            let daemon = super::admin::daemon(&world);
            world.run(&["send", "daily", "--at", &at(1), "--detach"]).ended(0);
            until("it waits for its next try", SOON, || world.log().contains("to be tried again"));
            stop(daemon);
        } else {
            backfill(&world, 1);
            has_tried(&world);
        }
        let waits = |world: &World| {
            let (run, delivery) = slot(world, 1);
            assert_eq!((&*run, &delivery["state"]), ("running", &"waiting".into()), "{keys}: {delivery:#}");
            assert_eq!(attempts(&delivery), 1, "{keys}: {delivery:#}");
        };
        waits(&world);
        // Whether the bucket answers or not.
        world.run(&["send", "daily", "--at", &at(2)]).ended(1);
        waits(&world);
        let _sandbox = world.sandbox_again();
        world.run(&["send", "daily", "--at", &at(2)]).ended(0);
        waits(&world);
    }
}

/// A bucket that does not answer costs it one try and not the slot, and whoever asks for another one is told.
#[test]
fn send_alone_goes_on_with_what_is_in_the_way_by_its_own_rule() {
    for (point, state) in [("upload-created", "waiting"), ("sealed", "sealed")] {
        let world = world("latest_pointer = true");
        let sandbox = world.sandbox();
        backfill(&world, 1);
        died(&world, point);
        drop(sandbox);
        let told = world.run(&["send", "daily", "--at", &at(2)]).ended(1);
        world::says(
            &told.stderr,
            &["slot daily@2026-01-01T00:00:00Z to acme, which was in the way, is to be tried again at"],
        );
        let (run, delivery) = slot(&world, 1);
        assert_eq!((&*run, &delivery["state"]), ("running", &state.into()), "{point}: {delivery:#}");
        assert!(!delivery["due"].is_null(), "{point}: {delivery:#}");
        let _sandbox = world.sandbox_again();
        let told = world.run(&["send", "daily", "--at", &at(2)]).ended(0);
        let is_delivered = told.stderr.contains("which was in the way, is delivered");
        // What waits is in nobody's way.
        assert_eq!(is_delivered, state == "sealed", "{point}: {told:?}");
        let (run, delivery) = slot(&world, 1);
        let expected = if state == "sealed" { ("succeeded", "committed") } else { ("running", "waiting") };
        assert_eq!((&*run, delivery["state"].as_str().unwrap()), expected, "{point}: {delivery:#}");
    }
}

/// One try: the one of what waits is that, and nothing is read a second time.
#[test]
fn send_and_retry_alone_try_what_waits_once() {
    let asked: [fn(&World) -> Vec<String>; 2] = [
        |_| vec!["send".to_owned(), "daily".to_owned(), "--at".to_owned(), at(1)],
        |world| vec!["retry".to_owned(), world.runs()[0]["run"].as_str().unwrap().to_owned()],
    ];
    for words in asked {
        let world = world("");
        drop(world.sandbox());
        backfill(&world, 1);
        has_tried(&world);
        let run = world.runs()[0]["run"].clone();
        let mut words = words(&world);
        words.push("--json".to_owned());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let told = world.run(&words).ended(1).json();
        let outcome = &told["outcomes"][0];
        assert_eq!((&outcome["state"], &outcome["earlier"]), (&"failed".into(), &run), "{told:#}");
        assert_eq!(outcome["failure"]["layer"], "network", "{told:#}");
        let (state, delivery) = slot(&world, 1);
        assert_eq!((&*state, attempts(&delivery)), ("failed", 2), "{delivery:#}");
        // The next one is a new run.
        let _sandbox = world.sandbox_again();
        world.run(&["send", "daily", "--at", &at(1)]).ended(0);
    }
}

/// What is stored whole stays so, and the report says it.
#[test]
fn send_alone_tells_of_what_is_still_sealed() {
    let world = world("");
    let sandbox = world.sandbox();
    backfill(&world, 1);
    died(&world, "sealed");
    drop(sandbox);
    let told = world.run(&["send", "daily", "--at", &at(1), "--json"]).ended(1).json();
    assert_eq!((told["outcomes"].as_array().unwrap().len(), &told["outcomes"][0]["state"]), (1, &"sealed".into()));
    let _sandbox = world.sandbox_again();
    let told = world.run(&["send", "daily", "--at", &at(1), "--json"]).ended(0).json();
    assert_eq!(told["outcomes"][0]["state"], "already-committed", "{told:#}");
}
