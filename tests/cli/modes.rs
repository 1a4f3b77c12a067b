//! Slots that take each other's place, and what comes after a manifest, through the
//! binary and into the sandbox.

use std::fs;

use serde_json::Value;

use super::world::{self, MANIFEST, Ran, SOON, World, until};

fn config(keys: &str) -> String {
    let share = format!("schedule = \"@daily\"\n{keys}\nto = {{ customers = [\"acme\"] }}\n");
    world::flights(&world::customer("acme", 1, "us-east-1", "\"AS\""), "daily", &share)
}

fn send(world: &World, day: u32) -> Ran {
    world.run(&["send", "daily", "--at", &format!("2026-01-{day:02}T00:00:00Z"), "--json"])
}

fn object(world: &World, key: &str) -> Value {
    let path = world.path("buckets/acme-data/in").join(key);
    serde_json::from_slice(&fs::read(&path).unwrap_or_else(|error| panic!("{key}: {error}"))).unwrap()
}

fn keys(world: &World) -> Vec<String> {
    world::files(&world.path("buckets/acme-data/in/daily")).into_keys().collect()
}

#[test]
fn replace_goes_forward_and_never_back() {
    let world = World::new(&config("mode = \"replace\""));
    let _sandbox = world.sandbox();
    send(&world, 2).ended(0);
    assert_eq!(keys(&world), [MANIFEST, "daily.jsonl"]);
    let manifest = object(&world, "daily/_manifest.json");
    assert_eq!((&manifest["mode"], &manifest["slot"]), (&"replace".into(), &"2026-01-02T00:00:00Z".into()));
    let refused = send(&world, 1).ended(1);
    assert!(refused.stdout.contains("has been delivered"), "{refused:?}");
    assert_eq!(object(&world, "daily/_manifest.json"), manifest);
    send(&world, 3).ended(0);
    assert_eq!(object(&world, "daily/_manifest.json")["slot"], "2026-01-03T00:00:00Z");
    assert_eq!(keys(&world).len(), 2);
    let backfill = ["backfill", "daily", "--from", "2025-12-01", "--to", "2025-12-05"];
    world.run(&backfill).ended(1).err_says(&["mode = \"replace\"", "consign send daily"]);
    assert_eq!(world.run(&["ledger", "check"]).code, 0);
}

#[test]
fn the_latest_pointer_stays_at_the_latest() {
    let world = World::new(&config("latest_pointer = true\nsuccess_marker = true"));
    let _sandbox = world.sandbox();
    for (day, latest) in [(2, 2), (1, 2), (3, 3)] {
        send(&world, day).ended(0);
        let pointer = object(&world, "daily/latest.json");
        assert_eq!(pointer["slot"], format!("2026-01-{latest:02}T00:00:00Z"), "after day {day}");
        let manifest = pointer["manifest"].as_str().unwrap().strip_prefix("in/").unwrap();
        assert_eq!(object(&world, manifest)["slot"], pointer["slot"]);
        assert!(keys(&world).contains(&format!("2026-01-{day:02}/000000Z/_SUCCESS")));
    }
    assert_eq!(fs::read_dir(world.path("buckets/.sandbox/uploads")).unwrap().count(), 0);
    world.run(&["send", "daily", "--at", "2026-01-03T00:00:00Z", "--verify"]).ended(0);
}

/// A slot that was left on its way is in the way of all others, and nobody else brings it to its end.
#[test]
fn send_alone_takes_up_what_an_earlier_slot_left() {
    for point in ["upload-created", "sealed", "completed", "manifest"] {
        let world = World::new(&config("mode = \"replace\""));
        let _sandbox = world.sandbox();
        let args = ["--config", "consign.toml", "send", "daily", "--at", "2026-01-02T00:00:00Z"];
        let died = world::command(world.dir(), &args).env("CONSIGN_CRASH_AT", point).output().unwrap();
        assert_eq!(died.status.code(), None, "{point}: {died:?}");
        send(&world, 3).ended(0);
        assert_eq!(object(&world, "daily/_manifest.json")["slot"], "2026-01-03T00:00:00Z", "{point}");
        assert!(world.runs().iter().all(|run| run["state"] == "succeeded"), "{point}: {:?}", world.runs());
    }
}

/// A customer may be called otherwise by now: what counts is where it goes.
#[test]
fn a_customer_who_is_renamed_gets_the_next_slot_and_no_earlier_one() {
    let world = World::new(&config("mode = \"replace\""));
    let _sandbox = world.sandbox();
    send(&world, 2).ended(0);
    let text = world.text().replace("[customers.acme]", "[customers.acme-inc]").replace("\"acme\"", "\"acme-inc\"");
    world.write("consign.toml", text);
    send(&world, 1).ended(1);
    send(&world, 3).ended(0);
    let manifest = object(&world, "daily/_manifest.json");
    assert_eq!((&manifest["customer"], &manifest["slot"]), (&"acme-inc".into(), &"2026-01-03T00:00:00Z".into()));
}

#[test]
fn the_latest_pointer_stays_at_the_latest_of_a_customer_who_is_renamed() {
    let world = World::new(&config("latest_pointer = true"));
    let _sandbox = world.sandbox();
    send(&world, 2).ended(0);
    let text = world.text().replace("[customers.acme]", "[customers.acme-inc]").replace("\"acme\"", "\"acme-inc\"");
    world.write("consign.toml", text);
    for (day, latest) in [(1, 2), (3, 3)] {
        send(&world, day).ended(0);
        assert_eq!(object(&world, "daily/latest.json")["slot"], format!("2026-01-{latest:02}T00:00:00Z"), "{day}");
    }
}

/// What an earlier slot could take the place of is not forgotten.
#[test]
fn the_newest_slot_outlives_retention() {
    let world = World::new(&config("mode = \"replace\""));
    let _sandbox = world.sandbox();
    send(&world, 2).ended(0);
    send(&world, 3).ended(0);
    world.run(&["ledger", "prune", "--older-than", "1s"]).ended(0);
    send(&world, 1).ended(1).out_says(&["has been delivered"]);
    assert_eq!(object(&world, "daily/_manifest.json")["slot"], "2026-01-03T00:00:00Z");
}

/// Nor of one that is on record in another ledger, or was in one that is lost: whoever has it keeps it as it is.
#[test]
fn nothing_is_replaced_of_a_slot_that_the_ledger_has_forgotten() {
    let world = World::new(&config("success_marker = true"));
    let _sandbox = world.sandbox();
    send(&world, 2).ended(0);
    let bucket = world.path("buckets/acme-data");
    let before = world::files(&bucket);
    let forget: [&dyn Fn(); 2] = [
        &|| drop(world.run(&["ledger", "prune", "--older-than", "0s"]).ended(0).out_says(&["forgot 1 slots"])),
        &|| fs::remove_dir_all(world.path("state")).unwrap(),
    ];
    for forget in forget {
        forget();
        send(&world, 2).ended(1).out_says(&["nothing was replaced", "_manifest.json"]);
        // Nor by whoever tries once more.
        send(&world, 2).ended(1).out_says(&["nothing was replaced"]);
        assert_eq!(world::files(&bucket), before);
        assert_eq!(fs::read_dir(world.path("buckets/.sandbox/uploads")).unwrap().count(), 0);
    }
    send(&world, 3).ended(0);
}

/// Whatever step it died at, the next life ends with the markers there.
#[test]
fn markers_outlive_a_crash() {
    for point in ["sealed", "manifest", "marker-completed", "marker-completed:2"] {
        let world = World::new(&config("latest_pointer = true\nsuccess_marker = true\nend = 2026-01-04"));
        let _sandbox = world.sandbox();
        let mut died =
            world::command(world.dir(), &["--config", "consign.toml", "send", "daily", "--at", "2026-01-02T00:00:00Z"]);
        let died = died.env("CONSIGN_CRASH_AT", point).output().unwrap();
        assert_eq!(died.status.code(), None, "{point}: {died:?}");
        let daemon = world.daemon();
        until("it is delivered", SOON, || world.runs()[0]["state"] == "succeeded");
        world::stop(daemon);
        assert_eq!(object(&world, "daily/latest.json")["slot"], "2026-01-02T00:00:00Z", "{point}");
        assert_eq!(keys(&world).len(), 4, "{point}: {:?}", keys(&world));
        assert_eq!(fs::read_dir(world.path("buckets/.sandbox/uploads")).unwrap().count(), 0, "{point}");
    }
}

#[test]
fn modes_that_contradict_themselves_are_refused() {
    for (keys, why) in [
        ("mode = \"replace\"\nkey = \"{share}/{slot}/{name}\"", "has an instant"),
        ("mode = \"replace\"\noverlap = \"allow\"", "side by side"),
        ("mode = \"replace\"\nlatest_pointer = true", "is of no use"),
        ("mode = \"replace\"\nsuccess_marker = true", "is of no use"),
        ("latest_pointer = true\noverlap = \"allow\"", "could go back"),
        ("latest_pointer = true\nkey = \"{slot:%Y}/{share}/{slot}/{name}\"", "has no place"),
        ("key = \"{share}/{name}\"", "mode = \"replace\""),
        ("mode = \"append\"", "replace"),
    ] {
        let world = World::new(&config(keys));
        world.run(&["check"]).ended(3).err_says(&[why]);
    }
    World::new(&config("mode = \"replace\"\noverlap = \"queue\"")).run(&["check"]).ended(0);
}
