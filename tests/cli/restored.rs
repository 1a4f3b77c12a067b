//! A ledger that is restored from a backup, with the daemon before and after: nothing that was delivered
//! since is touched, what is not known is on record, and the next slots are delivered.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitStatus;

use serde_json::Value;

use super::daemon::stop_idle;
use super::world::{self, MANIFEST, Ran, SOON, World, stop, until};
use crate::support::strace::may_trace;

/// One share of every second, one whose slots have keys of their own, and one whose slots replace each other.
pub(super) fn config() -> String {
    let of = |name: &str, keys: &str| {
        format!(
            "[shares.{name}]\ndataset = \"flights\"\nplugin = \"jsonl\"\nto = {{ customers = [\"acme\"] }}\n\
             catch_up = \"all\"\n{keys}\n"
        )
    };
    let tick = "schedule = \"* * * * * *\"\noverlap = \"queue\"\ncatch_up = \"all\"\nto = { customers = [\"acme\"] }\n";
    world::flights(&world::customer("acme", 1, "us-east-1", "\"AS\""), "tick", tick)
        + &of("daily", "schedule = \"@daily\"\nend = 2026-01-04")
        + &of("newest", "schedule = \"@daily\"\nend = 2026-01-04\nmode = \"replace\"")
}

const TWO: &str = "2026-01-02T00:00:00Z";
const THREE: &str = "2026-01-03T00:00:00Z";

fn succeeded(world: &World, share: &str) -> BTreeSet<String> {
    let runs = world.runs().into_iter().filter(|run| run["share"] == share && run["state"] == "succeeded");
    runs.map(|run| run["slot"].as_str().unwrap().to_owned()).collect()
}

/// The daemon's life until so many more slots of `tick` are delivered than there are, and this one of these. Of
/// `tick` nothing is left that was planned and has not begun, which whoever restores the ledger would end.
fn live(world: &World, more: usize, other: &[(&str, &str)]) {
    let before = succeeded(world, "tick").len();
    let mut daemon = world.daemon();
    until("slots are delivered", SOON, || {
        assert!(daemon.is_running(), "{}", world.log());
        let are_there = other.iter().all(|(share, slot)| succeeded(world, share).contains(*slot));
        are_there && succeeded(world, "tick").len() >= before + more
    });
    stop_idle(world, daemon);
    world.run(&["resume", "tick"]).ended(0);
}

/// Slots of a share that nobody is known to have, with the customers where it is not all.
fn unknown(world: &World, share: &str) -> Vec<(String, Value)> {
    let skipped = world.run(&["history", "--skipped", "--share", share, "-n", "100000", "--json"]).ended(0).json();
    let restored = skipped.as_array().unwrap().iter().filter(|slot| slot["reason"] == "restored");
    restored.map(|slot| (slot["slot"]["at"].as_str().unwrap().to_owned(), slot["customers"].clone())).collect()
}

fn slot_of(bucket: &Path, manifest: &str) -> String {
    let manifest: Value = serde_json::from_slice(&fs::read(bucket.join(manifest)).unwrap()).unwrap();
    manifest["slot"].as_str().unwrap().to_owned()
}

/// Delivers, makes a backup while two slots are stored and not complete, delivers on, restores it by
/// `restore`, and delivers on. Whatever was in the bucket before is there, untouched.
pub(super) fn nothing_is_delivered_twice(world: &World, backup: impl FnOnce(), restore: impl FnOnce() -> Ran) {
    let _sandbox = world.sandbox();
    let bucket = world.path("buckets/acme-data");
    live(world, 2, &[]);
    for share in ["daily", "newest"] {
        let args = ["--config", "consign.toml", "send", share, "--at", TWO];
        let died = world::command(world.dir(), &args).env("CONSIGN_CRASH_AT", "sealed").output().unwrap();
        assert_eq!(died.status.code(), None, "{share}: {died:?}");
    }
    backup();
    let known = succeeded(world, "tick");
    live(world, 2, &[("daily", TWO), ("newest", TWO)]);
    world.run(&["send", "newest", "--at", THREE]).ended(0);
    let later: BTreeSet<String> = succeeded(world, "tick").difference(&known).cloned().collect();
    assert!(later.len() >= 2, "{later:?}");
    let before = world::files(&bucket);
    let manifest = format!("in/newest/{MANIFEST}");
    assert_eq!(slot_of(&bucket, &manifest), THREE);

    let told = restore().ended(0);
    let phrases =
        ["share tick: known until", "share newest: known until", "open deliveries ended: 1", "mode = \"replace\""];
    let told = told.out_says(&phrases).out_says(&["`consign history --skipped` lists it", "`consign backfill SHARE"]);
    assert!(!told.stdout.contains("more had nothing open"), "{told:?}");
    let of_tick: BTreeSet<String> = unknown(world, "tick").into_iter().map(|(at, _)| at).collect();
    assert!(later.is_subset(&of_tick), "{later:?} {of_tick:?}");
    assert!(known.is_disjoint(&of_tick), "{known:?} {of_tick:?}");
    for share in ["daily", "newest"] {
        assert_eq!(unknown(world, share), [(TWO.to_owned(), serde_json::json!(["acme"]))], "{share}");
    }

    live(world, 2, &[]);
    let after = world::files(&bucket);
    for (key, was) in &before {
        assert_eq!(after.get(key), Some(was), "{key}");
    }
    let newest_unknown = of_tick.last().unwrap();
    for key in after.keys().filter(|key| !before.contains_key(*key) && key.ends_with(MANIFEST)) {
        let slot = slot_of(&bucket, key);
        assert!(
            slot > *newest_unknown,
            "{slot} was delivered, and up to {newest_unknown} it is not known who has what"
        );
    }
    assert_eq!(fs::read_dir(world.path("buckets/.sandbox/uploads")).unwrap().count(), 0, "{}", world.log());
    world.run(&["ledger", "check"]).ended(0).out_says(&["the ledger is whole"]);
    // Nor does who tries again all that failed.
    let alone = "2 that may have been delivered before the ledger was restored are left alone";
    world.run(&["retry", "--customer", "acme"]).ended(0).err_says(&[alone]).out_says(&["nothing that failed in this"]);
    // Nor is the newest given up for an earlier one by hand.
    world.run(&["send", "newest", "--at", "2026-01-01T00:00:00Z"]).ended(1).out_says(&["or may have been"]);
    assert_eq!(slot_of(&bucket, &manifest), THREE);
    // Who sends one by hand that is there after all, though the backup has it stored and not complete, replaces nothing.
    let refused = world.run(&["send", "daily", "--at", TWO]).ended(1);
    refused.out_says(&["is already in bucket", "nothing was replaced"]);
    let after = world::files(&bucket);
    for (key, was) in before.iter().filter(|(key, _)| key.starts_with("in/daily/")) {
        assert_eq!(after.get(key), Some(was), "{key}");
    }
}

#[test]
fn restored_from_a_backup_delivers_nothing_twice() {
    let world = World::new(&config());
    let state = world.path("state");
    let backup = || drop(world.run(&["ledger", "backup", "copy.db"]).ended(0));
    nothing_is_delivered_twice(&world, backup, || {
        let told = world.run(&["ledger", "restore", "copy.db"]);
        let kept = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let kept = kept.filter(|name| name.starts_with("ledger.db.replaced-")).collect::<Vec<_>>();
        assert_eq!(kept.len(), 1, "{kept:?}");
        told.out_says(&[&kept[0]])
    });
}

/// As it was done at night before there was a command for it.
#[test]
fn restored_by_hand_is_not_gone_on_with_until_it_is_told() {
    let world = World::new(&config());
    let backup = || drop(world.run(&["ledger", "backup", "copy.db"]).ended(0));
    nothing_is_delivered_twice(&world, backup, || {
        fs::copy(world.path("copy.db"), world.path("state/ledger.db")).unwrap();
        for command in [&["run"][..], &["send", "tick"], &["pause", "tick"]] {
            world.run(command).ended(4).err_says(&["was restored from a copy", "`consign ledger restored`"]);
        }
        world.run(&["ledger", "restored"])
    });
}

/// A command from whose write of this number on there is no room for what is added to the ledger.
fn without_room(world: &World, number: usize, command: &[&str]) -> (ExitStatus, String) {
    let wal = world.path("state/ledger.db-wal");
    let strace = format!(
        "strace -D -f -qq -o /dev/null -P {} -e trace=pwrite64 -e inject=pwrite64:error=ENOSPC:when={number}+ --",
        wal.display()
    );
    let strace: Vec<String> = strace.split(' ').map(str::to_owned).collect();
    let before = world.log().len();
    let status = world.start(&strace, command, &[]).wait(SOON);
    (status, world.log().split_off(before))
}

/// The backup is in its place then, and who reads that it goes on by itself would wait for it.
#[test]
fn restored_without_room_says_that_it_has_to_be_told_again() {
    if !may_trace() {
        return;
    }
    let world = World::new(&config());
    let _sandbox = world.sandbox();
    live(&world, 1, &[]);
    world.run(&["ledger", "backup", "copy.db"]).ended(0);
    for command in [&["ledger", "restore", "copy.db"][..], &["ledger", "restored"]] {
        // Up to where it says no more that nothing was changed.
        let (status, said) = (1..50)
            .map(|number| without_room(&world, number, command))
            .find(|(_, said)| !said.contains("nothing was changed"))
            .unwrap();
        assert_eq!(status.code(), Some(4), "{said}");
        world::says(&said, &["the disk of the ledger is full", "run `consign ledger restored`"]);
        assert!(!said.contains("by itself"), "{said}");
        world.run(&["send", "tick"]).ended(4).err_says(&["`consign ledger restored`"]);
    }
    world.run(&["ledger", "restored"]).ended(0).out_says(&["what was delivered since the backup is not known"]);
    live(&world, 1, &[]);
}

#[test]
fn restored_is_refused_while_a_daemon_runs() {
    let world = World::new(&config());
    world.run(&["ledger", "restored"]).ended(4).err_says(&["there is no ledger at"]);
    let _sandbox = world.sandbox();
    let mut daemon = world.daemon();
    until("it has delivered", SOON, || {
        assert!(daemon.is_running(), "{}", world.log());
        !succeeded(&world, "tick").is_empty()
    });
    world.run(&["ledger", "backup", "copy.db"]).ended(0);
    for command in [&["ledger", "restored"][..], &["ledger", "restore", "copy.db"]] {
        world.run(command).ended(4).err_says(&["is held by process", "systemctl stop consign"]);
    }
    stop(daemon);
    world.run(&["ledger", "restore", "nothing.db"]).ended(4).err_says(&["nothing.db (it is not there)"]);
    // In JSON, and what is in the backup and in the configuration no more.
    let text = world.text();
    world.write("consign.toml", text.replace("[shares.tick]", "[shares.tock]"));
    let told = world.run(&["ledger", "restore", "copy.db", "--json"]).ended(0).json();
    assert!(told["kept"].as_str().unwrap().contains("ledger.db.replaced-"), "{told:#}");
    let of = |share: &str| told["shares"].as_array().unwrap().iter().find(|one| one["share"] == share).cloned();
    let tock = of("tock").unwrap();
    assert_eq!((&tock["known_until"], &tock["slots"]), (&Value::Null, &0.into()), "{tock}");
    assert!(of("daily").unwrap()["known_until"].is_string(), "{told:#}");
    // It begins where it is put back, and not where it was.
    world.write("consign.toml", text);
    let before = world::files(&world.path("buckets/acme-data"));
    live(&world, 1, &[]);
    let restored = told["at"].as_str().unwrap();
    for key in world::files(&world.path("buckets/acme-data")).keys().filter(|key| !before.contains_key(*key)) {
        if key.ends_with(MANIFEST) {
            let slot = slot_of(&world.path("buckets/acme-data"), key);
            assert!(*slot > restored[..19], "{slot} {restored}");
        }
    }
}
