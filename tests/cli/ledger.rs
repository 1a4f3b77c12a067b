//! `consign ledger` as people use it.

use std::fs;

use super::world::{self, SOON, World, says, until};

const SHARE: &str = r#"
schedule = "*/1 * * * * *"
to = { customers = ["acme"] }
"#;

fn world() -> World {
    World::new(&world::flights(&world::customer("acme", 1, "us-east-1", "\"AS\""), "tick", SHARE))
}

const OLD: &str = "2020-01-01T00:00:00Z";

#[test]
fn ledger_is_checked_copied_and_pruned() {
    let world = world();
    world.run(&["ledger", "check"]).ended(4).err_says(&["there is no ledger at", "`consign run`"]);
    let _sandbox = world.sandbox();
    world.run(&["send", "tick", "--at", OLD]).ended(0);
    world.run(&["send", "tick"]).ended(0);
    world.run(&["ledger", "check"]).ended(0).out_says(&["the ledger is whole; 2 slots, 2 runs, 2 deliveries"]);
    world.run(&["ledger", "backup", "copy.db"]).ended(0).out_says(&["copied to copy.db"]);
    world.run(&["ledger", "backup", "copy.db"]).ended(4).err_says(&["copy.db (it is there already)"]);

    // Nothing ended longer ago than the retention, whatever slot it was of.
    world.run(&["ledger", "prune"]).ended(0).out_says(&["forgot 0 slots that ended before"]);
    assert_eq!(
        world.run(&["ledger", "prune", "--older-than", "0s", "--dry-run", "--json"]).ended(0).json()["slots"],
        2
    );
    assert_eq!(world.runs().len(), 2);
    world.run(&["ledger", "prune", "--older-than", "0s"]).ended(0).out_says(&["forgot 2 slots"]);
    assert!(world.runs().is_empty());
    world.run(&["ledger", "rewind"]).ended(0).out_says(&["no share is planned ahead of the clock"]);
    world.run(&["ledger", "prune", "--older-than", "100000000y"]).ended(0).out_says(&["forgot 0 slots"]);
    world.run(&["ledger", "prune", "--older-than", "9"]).ended(2);

    // What was forgotten is in the copy, and a restored copy knows it was delivered.
    world.run(&["ledger", "restore", "copy.db"]).ended(0);
    assert_eq!(world.runs().len(), 2);
    world.run(&["send", "tick", "--at", OLD]).ended(0).out_says(&["was delivered before"]);
}

/// A backup mends a damaged file, and nothing else.
#[test]
fn ledger_that_says_what_can_never_be_is_told_from_a_damaged_one() {
    let world = world();
    let _sandbox = world.sandbox();
    world.run(&["send", "tick", "--at", OLD]).ended(0);
    let path = world.path("state/ledger.db");
    let whole = fs::read(&path).unwrap();
    let ledger = rusqlite::Connection::open(&path).unwrap();
    ledger.execute("UPDATE attempts SET state = 'failed'", []).unwrap();
    drop(ledger);
    let told = world.run(&["ledger", "check"]).ended(4);
    let told = told.out_says(&["wrong: delivery 1 is committed, but no attempt is", "Deliveries go on", "report it"]);
    assert!(!told.stdout.contains("damaged") && !told.stdout.contains("ledger restore"), "{told:?}");
    let told = world.run(&["ledger", "check", "--json"]).ended(4).json();
    let lists = ["damage", "findings"].map(|list| told[list].as_array().unwrap().len());
    assert_eq!(lists, [0, 1], "{told}");
    world.run(&["send", "tick"]).ended(0).out_says(&["delivered"]);

    // A page of an index that nobody comes by.
    let ledger = rusqlite::Connection::open(&path).unwrap();
    ledger.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let of_index = "SELECT rootpage FROM sqlite_schema WHERE name = 'runs_by_share'";
    let page: i64 = ledger.query_row(of_index, [], |row| row.get(0)).unwrap();
    let page = usize::try_from(page).unwrap();
    drop(ledger);
    let mut bad = fs::read(&path).unwrap();
    assert!(bad.len() >= whole.len());
    bad[(page - 1) * 4096 + 8..page * 4096].fill(0xA5);
    fs::write(&path, &bad).unwrap();
    let told = world.run(&["ledger", "check"]).ended(4).out_says(&["damaged: ", "the ledger is damaged; "]);
    says(&told.stdout, &["`consign ledger restore FILE`"]);
    assert!(!told.stdout.contains("Deliveries go on"), "{told:?}");
}

/// A state directory that is not mounted looks like that of a first start.
#[test]
fn ledger_that_is_new_is_told_once() {
    let world = world();
    let _sandbox = world.sandbox();
    let told = || world.log().matches("a new ledger was made: shares begin now").count();
    for lives in 1..=2 {
        let before = world.path("daemon.log").exists().then(|| world.log().matches("consign is ready").count());
        let mut daemon = world.daemon();
        until("it is ready", SOON, || {
            assert!(daemon.is_running(), "{}", world.log());
            world.log().matches("consign is ready").count() > before.unwrap_or(0)
        });
        assert_eq!(told(), 1, "in life {lives}: {}", world.log());
        world::stop(daemon);
    }
    assert!(world.log().contains(" WARN a new ledger was made"), "{}", world.log());
    let kept = world.run(&["status", "--json"]).ended(1).json()["ledger"]["origins"].clone();
    let made = &kept["made"].as_str().unwrap()[..19];
    assert!(kept["restored"].is_null(), "{kept}");
    world.run(&["status"]).ended(1).out_says(&[&format!(", made {made}Z")]);
    world.run(&["ledger", "check"]).ended(0).out_says(&["the ledger is whole", &format!(", made {made}Z")]);
    world.run(&["ledger", "backup", "copy.db"]).ended(0);
    world.run(&["ledger", "restore", "copy.db"]).ended(0);
    world.run(&["status"]).ended(1).out_says(&[&format!(", made {made}Z, restored ")]);
}

/// The daemon forgets by itself, tells so, and keeps others from pruning.
#[test]
fn ledger_is_pruned_by_the_daemon() {
    let world = world();
    let _sandbox = world.sandbox();
    world.run(&["send", "tick", "--at", OLD]).ended(0);
    // As if it had been delivered a year ago.
    let ledger = rusqlite::Connection::open(world.path("state/ledger.db")).unwrap();
    let year = 366 * 24 * 3600 * 1_000_000_i64;
    ledger.execute("UPDATE slots SET planned_at = planned_at - ?1", [year]).unwrap();
    ledger.execute("UPDATE runs SET finished_at = finished_at - ?1", [year]).unwrap();
    drop(ledger);
    let mut daemon = world.daemon();
    let log = || world.log();
    until("it is forgotten", SOON, || {
        assert!(daemon.is_running(), "{}", log());
        log().contains("forgot what ended before the ledger's retention")
    });
    assert!(world.runs().iter().all(|run| run["slot"] != OLD));
    world.run(&["ledger", "check"]).ended(0).out_says(&["the ledger is whole"]);
    let help = ["is held by", "a daemon prunes by itself each hour: `ledger.retention` says what"];
    let told = world.run(&["ledger", "prune"]).ended(4).err_says(&help);
    assert!(!told.stderr.contains("stop that consign"), "{}", told.stderr);
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
}

/// A damaged one is not taken for one without pauses.
#[test]
fn ledger_that_cannot_be_read_is_told_by_next() {
    let world = world();
    world.run(&["next", "tick", "-n", "1"]).ended(0);
    let none = world.run(&["next", "tick", "-n", "1"]).ended(0);
    assert_eq!(none.stderr, "", "there is none yet, which is no fault");
    fs::create_dir_all(world.path("state")).unwrap();
    world.write("state/ledger.db", "SQLite format 3\0 and then nothing");
    let damaged = world.run(&["next", "tick", "-n", "1"]).ended(0).out_says(&["SLOT"]);
    says(&damaged.stderr, &["warning: whether the share is paused is not known: ", "ledger.db is"]);
}
