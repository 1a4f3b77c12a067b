//! Looking for damage, copying, forgetting.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use consign::clock::{Clock, Instant};
use consign::domain::SkipReason;
use consign::ledger::{Checked, Cursor, History, Ledger, LedgerError, Planned};
use rusqlite::Connection;
use tokio::time::timeout;

use super::{customers, deliver, key, lasting, long_ago, planned, share, slot};

/// On a busy machine too.
const SOON: Duration = Duration::from_secs(60);

fn at(hour: i64) -> Instant {
    long_ago() + TimeDelta::hours(hour)
}

/// The ledger as of another time.
fn open_at(dir: &Path, hour: i64) -> Ledger {
    super::open_at(dir, Clock::fixed(at(hour)))
}

/// Slots 0 to `slots`, each delivered to acme at its own hour.
async fn delivered(dir: &Path, slots: i64) {
    for hour in 0..slots {
        let ledger = open_at(dir, hour);
        let slot = slot("orders", hour);
        ledger.plan(vec![planned(slot.clone(), &["acme"])], vec![(share("orders"), slot.at)]).await.unwrap();
        let claim = ledger.claim(1, 0).await.unwrap().runs.remove(0);
        let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap();
        deliver(&ledger, &slot, attempt.id, &format!("u{hour}")).await.unwrap();
        ledger.run_finished(claim.run).await.unwrap();
    }
}

async fn check(ledger: &Ledger) -> Checked {
    ledger.reader().check().await.unwrap()
}

#[tokio::test]
async fn what_ended_before_is_forgotten_and_never_planned_again() {
    let dir = tempfile::tempdir().unwrap();
    delivered(dir.path(), 10).await;
    let ledger = open_at(dir.path(), 20);
    assert_eq!(ledger.reader().prunable(at(7)).await.unwrap(), 7);
    assert_eq!(ledger.prune(at(7)).await.unwrap(), 7);
    assert_eq!(ledger.prune(at(7)).await.unwrap(), 0);
    let left = ledger.reader().history(History { limit: 99, ..History::default() }).await.unwrap();
    assert_eq!(left.iter().map(|run| run.slot).collect::<Vec<_>>(), [at(9), at(8), at(7)]);
    let Checked { slots, runs, deliveries, findings, .. } = check(&ledger).await;
    assert_eq!((slots, runs, deliveries, findings), (3, 3, 3, vec![]));
    assert_eq!(ledger.cursor(&share("orders")).await.unwrap(), Some(at(9)));
}

/// Sent by hand before the schedule planned it: forgotten, it would be planned again.
#[tokio::test]
async fn what_the_schedule_is_yet_to_plan_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    delivered(dir.path(), 3).await;
    let ledger = open_at(dir.path(), 3);
    let sent = ledger.start_manual(slot("orders", 4), customers(&["acme"])).await.unwrap().claim.unwrap();
    let attempt = ledger.attempt_started(sent.deliveries[0].1, None).await.unwrap();
    deliver(&ledger, &slot("orders", 4), attempt.id, "u4").await.unwrap();
    ledger.run_finished(sent.run).await.unwrap();
    assert_eq!(ledger.prune(at(50)).await.unwrap(), 2);
    assert_eq!(check(&ledger).await.slots, 2);
    ledger.plan(Vec::new(), vec![(share("orders"), at(5))]).await.unwrap();
    assert_eq!(ledger.prune(at(50)).await.unwrap(), 2);
}

/// However long ago it was: a share may have no other in years, and its schedule may change meanwhile.
#[tokio::test]
async fn the_last_slot_is_kept_for_the_next_interval_to_begin_there() {
    let dir = tempfile::tempdir().unwrap();
    delivered(dir.path(), 3).await;
    let ledger = open_at(dir.path(), 100);
    let last = async || ledger.cursors().await.unwrap()[0].1.last;
    assert_eq!(ledger.prune(at(99)).await.unwrap(), 2);
    assert_eq!(last().await, Some(at(2)));
    assert_eq!(ledger.reader().last_planned(share("orders")).await.unwrap(), Some(at(2)));
    assert_eq!(ledger.reader().last_planned(share("others")).await.unwrap(), None);
    // One that was sent by hand and is yet to be planned is not the last.
    ledger.start_manual(slot("orders", 9), customers(&["acme"])).await.unwrap();
    assert_eq!(last().await, Some(at(2)));
    ledger.plan(vec![planned(slot("orders", 9), &["acme"])], vec![(share("orders"), at(9))]).await.unwrap();
    assert_eq!(ledger.prune(at(99)).await.unwrap(), 1);
    assert_eq!(last().await, Some(at(9)));
}

/// Also of a share that was planned ahead of the clock, and is not any more.
#[tokio::test]
async fn the_last_slot_of_a_share_that_was_rewound_is_the_last_before() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open_at(dir.path(), 2);
    let all = [1, 2, 9].map(|hour| planned(slot("orders", hour), &["acme"]));
    ledger.plan(all.into(), vec![(share("orders"), at(9))]).await.unwrap();
    // It has been begun, and stays.
    ledger.start_manual(slot("orders", 9), customers(&["acme"])).await.unwrap();
    assert_eq!(ledger.rewind().await.unwrap().kept, 1);
    assert_eq!(ledger.cursors().await.unwrap(), [(share("orders"), Cursor { at: at(2), last: Some(at(2)) })]);
}

/// What is at work, what ended lately, and what may still be in a bucket stays.
#[tokio::test]
async fn what_is_not_over_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let early = open_at(dir.path(), 0);
    let skipped = Planned { skip: Some(SkipReason::Missed), ..planned(slot("skipped", 0), &["acme"]) };
    let all = vec![planned(slot("pending", 9), &["acme"]), planned(slot("running", 0), &["acme"]), skipped];
    early.plan(all, vec![]).await.unwrap();
    early.claim(1, 0).await.unwrap();
    // It failed, and its upload could not be aborted.
    let leaking = early.start_manual(slot("leaking", 0), customers(&["acme"])).await.unwrap().claim.unwrap();
    let attempt = early.attempt_started(leaking.deliveries[0].1, None).await.unwrap();
    early.upload_created(attempt.id, &key(&slot("leaking", 0), "rows.csv"), "u1").await.unwrap();
    early.failed(attempt.id, lasting(), None).await.unwrap();
    early.run_finished(leaking.run).await.unwrap();
    let late = early.start_manual(slot("late", 0), customers(&["acme"])).await.unwrap().claim.unwrap();
    drop(early);
    let ledger = open_at(dir.path(), 50);
    let attempt_late = ledger.attempt_started(late.deliveries[0].1, None).await.unwrap();
    ledger.failed(attempt_late.id, lasting(), None).await.unwrap();
    ledger.run_finished(late.run).await.unwrap();

    assert_eq!(ledger.prune(at(40)).await.unwrap(), 1, "only the skipped one is over");
    assert!(ledger.reader().skipped(None, None, 9).await.unwrap().is_empty());
    ledger.upload_aborted(attempt.id, "u1").await.unwrap();
    assert_eq!(ledger.prune(at(40)).await.unwrap(), 1, "now the leaking one is");
    assert_eq!(check(&ledger).await.slots, 3);
}

/// A pause that is over is kept while a slot in it may still be planned.
#[tokio::test]
async fn pauses_are_forgotten_once_no_slot_is_planned_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(at(2));
    let ledger = super::open_at(dir.path(), clock.clone());
    ledger.pause(share("orders")).await.unwrap();
    ledger.pause(share("others")).await.unwrap();
    clock.set(at(10));
    ledger.resume(share("orders")).await.unwrap();
    clock.set(at(50));
    let plan = async |hour, cursor| {
        let slot = planned(slot("orders", hour), &["acme"]);
        ledger.plan(vec![slot], vec![(share("orders"), at(cursor))]).await.unwrap().left_out.len()
    };
    ledger.plan(vec![], vec![(share("orders"), at(9))]).await.unwrap();
    ledger.prune(at(40)).await.unwrap();
    assert_eq!(plan(9, 10).await, 1, "it was before the horizon, but not all of it was planned");
    ledger.prune(at(10)).await.unwrap();
    assert_eq!(plan(8, 10).await, 1, "it was not before the horizon");
    ledger.prune(at(11)).await.unwrap();
    assert_eq!(plan(7, 10).await, 0, "it is forgotten");
    assert_eq!(ledger.reader().pauses().await.unwrap().len(), 1, "one that lasts is kept");
}

#[tokio::test]
async fn the_room_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open_at(dir.path(), 0);
    for n in (0..20_000).step_by(500) {
        let skip = Some(SkipReason::Missed);
        let plan = (n..n + 500).map(|n| Planned { skip, ..planned(slot("filler", -n), &["acme", "globex"]) });
        ledger.plan(plan.collect(), vec![]).await.unwrap();
    }
    let full = ledger.reader().bytes().await.unwrap();
    drop(ledger);
    let ledger = open_at(dir.path(), 2);
    assert_eq!(ledger.prune(at(1)).await.unwrap(), 20_000);
    let left = ledger.reader().bytes().await.unwrap();
    assert!(left * 10 < full, "{left} of {full} bytes are left");
    drop(ledger);
    assert!(fs::metadata(dir.path().join("ledger.db")).unwrap().len() * 10 < full);
}

/// Files that version 1 made cannot shrink. What is forgotten makes room in them for what comes.
#[tokio::test]
async fn a_file_that_cannot_shrink_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy("tests/golden/ledger/1.db", dir.path().join("ledger.db")).unwrap();
    let ledger = open_at(dir.path(), 0);
    let filled = async || {
        for n in (0..4_000).step_by(500) {
            let skip = Some(SkipReason::Missed);
            let plan = (n..n + 500).map(|n| Planned { skip, ..planned(slot("filler", -n), &["acme", "globex"]) });
            assert_eq!(ledger.plan(plan.collect(), vec![]).await.unwrap().new, 500);
        }
        ledger.reader().bytes().await.unwrap()
    };
    let full = filled().await;
    let pruned = timeout(SOON, ledger.prune(at(1))).await.expect("it looks for room for ever");
    assert_eq!(pruned.unwrap(), 4_000);
    assert_eq!(ledger.reader().bytes().await.unwrap(), full);
    let again = filled().await;
    assert!(again * 10 < full * 11, "{again} bytes, of which {full} were there");
}

/// Where there is room for it: on another disk than the ledger.
#[tokio::test]
async fn a_backup_goes_to_another_file_system() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
    let device = |dir: &Path| fs::metadata(dir).unwrap().dev();
    assert_ne!(device(dir.path()), device(to.path()), "temporary files are elsewhere than in /dev/shm");
    delivered(dir.path(), 3).await;
    Ledger::backup(dir.path(), &to.path().join("ledger.db")).unwrap();
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1, "nothing else is left");
    let copy = Ledger::read_only(to.path()).unwrap();
    let Checked { slots, runs, deliveries, findings, .. } = copy.check().await.unwrap();
    assert_eq!((slots, runs, deliveries, findings), (3, 3, 3, vec![]));
}

/// Each is as large as a ledger, and a backup of every night that is killed would fill the disk.
#[tokio::test]
async fn what_a_killed_backup_left_is_removed_by_the_next_one() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    delivered(dir.path(), 1).await;
    let path = |name: &str| to.path().join(name);
    for name in [".ledger-backup-left", ".ledger-backup-held", "ledger-backup-other"] {
        fs::write(path(name), "half of a ledger").unwrap();
    }
    fs::create_dir(path(".ledger-backup-dir")).unwrap();
    std::os::unix::fs::symlink("ledger-backup-other", path(".ledger-backup-link")).unwrap();
    let held = fs::File::open(path(".ledger-backup-held")).unwrap();
    held.lock().unwrap();
    Ledger::backup(dir.path(), &path("copy.db")).unwrap();
    let mut left: Vec<_> =
        fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort_unstable();
    let others = [".ledger-backup-dir", ".ledger-backup-held", ".ledger-backup-link", "copy.db", "ledger-backup-other"];
    assert_eq!(left, others);
}

#[tokio::test]
async fn a_backup_is_whole_while_the_ledger_is_written() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    delivered(dir.path(), 3).await;
    let ledger = open_at(dir.path(), 5);
    let file = to.path().join("ledger.db");
    Ledger::backup(dir.path(), &file).unwrap();
    ledger.plan(vec![planned(slot("orders", 5), &["acme"])], vec![]).await.unwrap();

    let refused = Ledger::backup(dir.path(), &file).unwrap_err();
    assert!(matches!(refused, LedgerError::Backup { .. }), "{refused}");
    assert!(refused.to_string().contains("it is there already"), "{refused}");
    let missing = Ledger::backup(dir.path(), &to.path().join("no/such.db")).unwrap_err();
    assert!(matches!(missing, LedgerError::Backup { .. }), "{missing}");
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1, "nothing half-made is left");

    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // It is a ledger: it can be read, and has what there was.
    let copy = Ledger::read_only(to.path()).unwrap();
    let Checked { slots, runs, deliveries, findings, .. } = copy.check().await.unwrap();
    assert_eq!((slots, runs, deliveries, findings), (3, 3, 3, vec![]));
    let all = History { limit: 99, ..History::default() };
    assert_eq!(copy.history(all.clone()).await.unwrap(), ledger.reader().history(all).await.unwrap());
}

/// Each rule of `check` finds what it is for.
#[tokio::test]
async fn what_can_never_be_is_found() {
    let damages = [
        ("UPDATE attempts SET state = 'failed'", "is committed, but no attempt is"),
        ("UPDATE deliveries SET state = 'sealed', manifest_key = NULL", "is at work, but no attempt is"),
        ("UPDATE attempts SET state = 'working', ended_at = NULL", "is at work, but its delivery is not"),
        ("UPDATE deliveries SET state = 'pending', manifest_key = NULL", "has ended, but not all its deliveries"),
        ("UPDATE slots SET state = 'running'", "is running, but no run is"),
        ("UPDATE deliveries SET slot = (SELECT max(id) FROM slots)", "is of another slot than its run"),
    ];
    let own = [
        ("DELETE FROM slots WHERE id = 1", "belongs to a row of slots that is not there"),
        ("UPDATE slots SET state = 'held' WHERE state = 'pending'", "waits for another one of its share"),
    ];
    // PostgreSQL itself lets nobody take away what others refer to, and between nodes a slot is held for nothing at times.
    let own = own.iter().filter(|_| !super::ON_POSTGRES.get());
    for (damage, expected) in damages.iter().chain(own) {
        let dir = tempfile::tempdir().unwrap();
        delivered(dir.path(), 1).await;
        let ledger = open_at(dir.path(), 5);
        ledger.plan(vec![planned(slot("orders", 5), &["acme"])], vec![]).await.unwrap();
        assert_eq!(check(&ledger).await.findings, Vec::<String>::new());
        break_in(dir.path(), damage);
        let Checked { findings, damage: of_the_file, .. } = check(&ledger).await;
        let is_of_the_file = damage.starts_with("DELETE");
        assert_eq!((findings.is_empty(), of_the_file.is_empty()), (is_of_the_file, !is_of_the_file), "{damage}");
        let findings = [findings, of_the_file].concat();
        assert!(findings.iter().any(|found| found.contains(expected)), "{damage}: {findings:?}");
    }
}

/// It is let go of by whoever looks next, and until then it is nothing wrong.
#[tokio::test]
async fn a_slot_that_another_node_holds_for_nothing_is_no_fault() {
    if !super::ON_POSTGRES.get() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ledger = open_at(dir.path(), 5);
    ledger.plan(vec![planned(slot("orders", 5), &["acme"])], vec![]).await.unwrap();
    break_in(dir.path(), "UPDATE slots SET state = 'held' WHERE state = 'pending'");
    assert!(check(&ledger).await.is_sound());
    assert_eq!(ledger.claim(1, 0).await.unwrap().runs.len(), 1);
}

/// Changes the ledger behind its back.
fn break_in(dir: &Path, damage: &str) {
    if super::psql(dir, damage).is_some() {
        return;
    }
    let raw = Connection::open(dir.join("ledger.db")).unwrap();
    raw.pragma_update(None, "foreign_keys", false).unwrap();
    raw.execute_batch(damage).unwrap();
}

on_postgres! {
    what_ended_before_is_forgotten_and_never_planned_again,
    what_the_schedule_is_yet_to_plan_is_kept,
    the_last_slot_is_kept_for_the_next_interval_to_begin_there,
    the_last_slot_of_a_share_that_was_rewound_is_the_last_before,
    what_is_not_over_is_kept,
    pauses_are_forgotten_once_no_slot_is_planned_in_them,
    what_can_never_be_is_found,
    a_slot_that_another_node_holds_for_nothing_is_no_fault,
}
