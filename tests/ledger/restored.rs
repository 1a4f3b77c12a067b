//! A ledger that was restored: what it had open is ended, and nobody goes on with it before it knows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use chrono::TimeDelta;
use consign::clock::{Clock, exact};
use consign::config::Overlap;
use consign::domain::{Origin, SkipReason};
use consign::ledger::{
    AttemptState, DeliveryId, DeliveryState, History, Ledger, LedgerError, Order, Planned, Reader, RunState, Unknown,
    UploadState,
};

use super::{
    customers, database, deliver, destination, key, lasting, object, open, passing, planned, share, slot, start,
};

/// When it is restored: all slots are past.
fn now() -> Clock {
    Clock::fixed(start() + TimeDelta::days(1))
}

/// The ledger of `dir`, to be told that it was restored.
fn restored(dir: &Path) -> Result<Ledger, LedgerError> {
    match database(dir) {
        None => Ledger::open_restored(dir, now()),
        Some(database) => Ledger::connect_restored(&database, now()),
    }
}

fn go_on(dir: &Path) -> Result<Ledger, LedgerError> {
    match database(dir) {
        None => Ledger::open(dir, now()),
        Some(database) => Ledger::connect(&database, now()),
    }
}

async fn attempt(ledger: &Ledger, delivery: DeliveryId) -> consign::ledger::AttemptId {
    let at = destination(&format!("{}/_manifest.json", delivery.seed()));
    ledger.attempt_by(None, Order::Any, delivery, Some(at)).await.unwrap().id
}

/// A slot of `share`, sent to acme, and its delivery.
async fn begun(ledger: &Ledger, share: &str) -> DeliveryId {
    let claim = ledger.start_manual(slot(share, 1), customers(&["acme"])).await.unwrap().claim.unwrap();
    claim.deliveries[0].1
}

/// In each state that is not an end there is a delivery or a slot, of a share of that name; and two that had ended.
async fn in_all_states(ledger: &Ledger) {
    begun(ledger, "pending").await;
    attempt(ledger, begun(ledger, "fresh").await).await;
    let working = attempt(ledger, begun(ledger, "working").await).await;
    ledger.upload_created(working, &key(&slot("working", 1), "rows.csv"), "u-working").await.unwrap();
    let sealed = attempt(ledger, begun(ledger, "sealed").await).await;
    let (at, id) = (key(&slot("sealed", 1), "rows.csv"), "u-sealed");
    ledger.upload_created(sealed, &at, id).await.unwrap();
    ledger.sealed(sealed, &[object(&at, id)]).await.unwrap();
    let waiting = attempt(ledger, begun(ledger, "waiting").await).await;
    ledger.failed(waiting, passing(), Some(start())).await.unwrap();
    let committed = attempt(ledger, begun(ledger, "committed").await).await;
    deliver(ledger, &slot("committed", 1), committed, "u-committed").await.unwrap();
    let failed = attempt(ledger, begun(ledger, "failed").await).await;
    ledger.failed(failed, lasting(), None).await.unwrap();
    // A slot that nobody has begun, one that waits for another one of its share, and one that some have got.
    let queued = |n| Planned { overlap: Overlap::Queue, ..planned(slot("held", n), &["acme"]) };
    ledger.plan(vec![queued(1), queued(2)], vec![(share("held"), slot("held", 2).at)]).await.unwrap();
    assert_eq!(ledger.claim(9, 0).await.unwrap().runs.len(), 1);
    ledger.plan(vec![planned(slot("planned", 1), &["acme"])], vec![]).await.unwrap();
    ledger.plan(vec![planned(slot("committed", 1), &["acme", "globex"])], vec![]).await.unwrap();
}

const OPEN: [&str; 6] = ["fresh", "held", "pending", "sealed", "waiting", "working"];

#[tokio::test]
async fn what_was_open_is_ended_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    in_all_states(&ledger).await;
    drop(ledger);
    let ledger = restored(dir.path()).unwrap();
    // Cut off and done again, it tells the same.
    for _ in 0..2 {
        ledger.end_open().await.unwrap();
        let told = ledger.unknown().await.unwrap();
        for name in OPEN.iter().chain(&["planned", "committed"]) {
            let left_out = |at| Unknown { deliveries: 0, slots: 1, first: Some(at), last: Some(at) };
            let expected = match *name {
                "planned" => left_out(slot(name, 1).at),
                "held" => Unknown { deliveries: 1, ..left_out(slot(name, 2).at) },
                _ => Unknown { deliveries: 1, ..Unknown::default() },
            };
            assert_eq!(told.get(&share(name)), Some(&expected), "{name}");
        }
        assert_eq!(told.len(), OPEN.len() + 2, "{told:?}");
    }
    let cursors = vec![(share("held"), start() + TimeDelta::days(1))];
    ledger.restored(cursors.clone()).await.unwrap();
    let told = ledger.cursors().await.unwrap().into_iter().map(|(share, cursor)| (share, cursor.at));
    assert_eq!(told.collect::<Vec<_>>(), cursors);
    drop(ledger);

    let ledger = go_on(dir.path()).unwrap();
    let reader = ledger.reader();
    assert_eq!(reader.check().await.unwrap().findings, Vec::<String>::new());
    assert_eq!(reader.origins().await.unwrap().restored, Some(start() + TimeDelta::days(1)));
    assert_eq!(ledger.unknown().await.unwrap(), BTreeMap::new(), "of a later restoration it is none");
    assert_eq!(reader.pending(start()).await.unwrap(), 0);
    assert_eq!(ledger.claim(99, 99).await.unwrap().looked_at, 0);
    // Of what had begun only the uploads are left, to be aborted.
    let unfinished = ledger.unfinished().await.unwrap();
    assert!(unfinished.iter().all(|left| left.state == RunState::Failed), "{unfinished:?}");
    let uploads = unfinished.iter().flat_map(|left| &left.deliveries).flat_map(|delivery| &delivery.uploads);
    let mut uploads: Vec<&str> = uploads.map(|upload| upload.upload_id.as_str()).collect();
    uploads.sort_unstable();
    assert_eq!(uploads, ["u-sealed", "u-working"]);
    // Who has it has it, and what had failed has failed as it did.
    let runs = reader.history(History { limit: 99, ..History::default() }).await.unwrap();
    for run in &runs {
        let shown = reader.run(run.run).await.unwrap();
        for delivery in &shown.deliveries {
            let (name, of) = (run.share.as_str(), delivery.customer.as_str());
            match (name, of) {
                ("committed", "acme") => assert_eq!(delivery.state, DeliveryState::Committed),
                ("failed", _) => assert_eq!(delivery.failure, Some(lasting())),
                _ => {
                    let why = delivery.failure.as_ref().unwrap();
                    assert_eq!(delivery.state, DeliveryState::Failed, "{name}");
                    assert!(why.message.contains("was restored from a backup"), "{name}: {why}");
                    let send = format!("`consign send {name} --at {}", exact(slot(name, 1).at));
                    assert!(why.remedy.contains(&send), "{why:?}");
                }
            }
            let is_over = |state| !matches!(state, AttemptState::Working | AttemptState::Sealed);
            assert!(delivery.attempts.iter().all(|attempt| is_over(attempt.state)), "{name}");
            let mut uploads = delivery.attempts.iter().flat_map(|attempt| &attempt.uploads);
            assert!(uploads.all(|upload| (upload.state == UploadState::Created) != (name == "committed")), "{name}");
        }
    }
    // All of it is listed, and what had failed before is not.
    let skipped = reader.skipped(None, None, 99).await.unwrap();
    assert!(skipped.iter().all(|skipped| skipped.reason == SkipReason::Restored), "{skipped:?}");
    assert_eq!(skipped.len(), OPEN.len() + 3, "held has two: {skipped:#?}");
}

/// Cut off before it is told all, it is told once more, and nobody goes on with it until then.
#[tokio::test]
async fn nobody_goes_on_with_a_ledger_that_is_being_told() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    in_all_states(&ledger).await;
    drop(ledger);
    let ledger = restored(dir.path()).unwrap();
    ledger.end_open().await.unwrap();
    drop(ledger);
    let refused = go_on(dir.path()).err().expect("must be refused");
    assert!(matches!(refused, LedgerError::Restored { .. }) && refused.is_fatal(), "{refused:?}");
    assert!(refused.to_string().contains("`consign ledger restored`"), "{refused}");
    // Who only looks may.
    super::read_only(dir.path()).pauses().await.unwrap();
    let ledger = restored(dir.path()).unwrap();
    ledger.end_open().await.unwrap();
    assert_eq!(ledger.unknown().await.unwrap().len(), OPEN.len() + 2);
    ledger.restored(Vec::new()).await.unwrap();
    drop(ledger);
    go_on(dir.path()).unwrap();
}

/// A share's slots that take each other's place: one of which it is not known whether it was
/// delivered counts as delivered.
#[tokio::test]
async fn no_slot_takes_the_place_of_a_later_one_that_may_have_been_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    attempt(&ledger, begun(&ledger, "open").await).await;
    drop(ledger);
    let ledger = restored(dir.path()).unwrap();
    ledger.end_open().await.unwrap();
    let due =
        Planned { skip: Some(SkipReason::Restored), origin: Origin::CatchUp, ..planned(slot("due", 1), &["acme"]) };
    ledger.plan(vec![due], vec![(share("due"), slot("due", 1).at)]).await.unwrap();
    ledger.restored(Vec::new()).await.unwrap();
    for name in ["open", "due"] {
        for (hour, goes) in [(0, false), (2, true)] {
            let claim = ledger.start_manual(slot(name, hour), customers(&["acme"])).await.unwrap().claim.unwrap();
            let (delivery, at) = (claim.deliveries[0].1, Some(destination(&format!("{name}/_manifest.json"))));
            let pointer = Order::OneByOne { pointer: format!("{name}/latest.json") };
            let with_pointer = ledger.attempt_by(None, pointer, delivery, at.clone()).await.unwrap();
            assert_eq!(ledger.is_newest(with_pointer.id).await.unwrap(), goes, "{name} {hour}");
            ledger.failed(with_pointer.id, passing(), Some(start())).await.unwrap();
            let begun = ledger.attempt_by(None, Order::Forward, delivery, at).await;
            match goes {
                true => assert!(begun.is_ok(), "{name}: {begun:?}"),
                false => assert!(matches!(begun, Err(LedgerError::Overtaken { .. })), "{name}: {begun:?}"),
            }
        }
    }
}

on_postgres! {
    what_was_open_is_ended_and_nothing_else,
    nobody_goes_on_with_a_ledger_that_is_being_told,
    no_slot_takes_the_place_of_a_later_one_that_may_have_been_delivered,
}

/// A ledger with one slot, its backup, and the ledger again, with another one.
async fn behind() -> (tempfile::TempDir, tempfile::TempDir) {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ledger = open(dir.path());
    ledger.plan(vec![planned(slot("a", 1), &["acme"])], vec![]).await.unwrap();
    Ledger::backup(dir.path(), &copies.path().join("copy.db")).unwrap();
    ledger.plan(vec![planned(slot("a", 2), &["acme"])], vec![]).await.unwrap();
    (dir, copies)
}

async fn slots(reader: &Reader) -> u64 {
    reader.check().await.unwrap().slots
}

fn is_restored(error: Result<Ledger, LedgerError>) -> bool {
    matches!(error, Err(LedgerError::Restored { .. }))
}

/// The ledger before is kept, with what its journal has.
#[tokio::test]
async fn a_backup_takes_the_place_of_the_ledger_which_is_kept() {
    let (dir, copies) = behind().await;
    let copy = copies.path().join("copy.db");
    let held = open(dir.path());
    let refused = Ledger::restore(dir.path(), &copy, now()).err().expect("somebody has it");
    assert!(matches!(refused, LedgerError::Held { .. }), "{refused}");
    drop(held);
    let refused = Ledger::restore(dir.path(), &copies.path().join("other.db"), now()).err().expect("there is none");
    assert!(matches!(refused, LedgerError::NotRestored { .. }), "{refused}");
    assert!(refused.to_string().contains("other.db (it is not there); nothing was changed"), "{refused}");
    assert_eq!(slots(&Ledger::read_only(dir.path()).unwrap()).await, 2);

    let (ledger, kept) = Ledger::restore(dir.path(), &copy, now()).unwrap();
    assert_eq!(slots(ledger.reader()).await, 1);
    let kept = kept.expect("there was one");
    assert_eq!(kept, dir.path().join("ledger.db.replaced-20240102T000000Z"));
    drop(ledger);
    assert!(is_restored(Ledger::open(dir.path(), now())));
    // It can be put back in its turn.
    let (ledger, _) = Ledger::restore(dir.path(), &kept, Clock::fixed(start() + TimeDelta::days(2))).unwrap();
    assert_eq!(slots(ledger.reader()).await, 2);
    ledger.restored(Vec::new()).await.unwrap();
    drop(ledger);
    Ledger::open(dir.path(), now()).unwrap();
    assert!(copy.exists() && kept.exists());
}

/// A ledger that is damaged, or is none, is no reason not to restore: it is kept as it is.
#[tokio::test]
async fn a_damaged_ledger_is_replaced_and_kept_as_it_is() {
    let (dir, copies) = behind().await;
    let path = dir.path().join("ledger.db");
    fs::write(&path, "SQLite format 3\0 and then nothing").unwrap();
    fs::write(dir.path().join("ledger.db-wal"), "no journal").unwrap();
    let (ledger, kept) = Ledger::restore(dir.path(), &copies.path().join("copy.db"), now()).unwrap();
    assert_eq!(slots(ledger.reader()).await, 1);
    let kept = kept.unwrap();
    assert_eq!(fs::read(&kept).unwrap(), b"SQLite format 3\0 and then nothing");
    assert_eq!(fs::read(format!("{}-wal", kept.display())).unwrap(), b"no journal");
    // A backup that is damaged is none.
    drop(ledger);
    let refused = Ledger::restore(dir.path(), &kept, now()).err().expect("must be refused");
    assert!(matches!(refused, LedgerError::Damaged { .. } | LedgerError::Foreign { .. }), "{refused:?}");
    assert_eq!(slots(&Ledger::read_only(dir.path()).unwrap()).await, 1);
}

/// Wherever restoring is cut off, there is the ledger before, or nobody goes on until it is done.
#[tokio::test]
async fn a_restoration_that_was_cut_off_leaves_no_new_ledger() {
    let (dir, copies) = behind().await;
    let path = |name: &str| dir.path().join(name);
    fs::copy(copies.path().join("copy.db"), path("ledger.db.restoring")).unwrap();
    assert_eq!(slots(open(dir.path()).reader()).await, 2, "the ledger is still there");
    fs::rename(path("ledger.db"), path("ledger.db.replaced-1")).unwrap();
    fs::write(path("ledger.db-wal"), "of the ledger before").unwrap();
    for _ in 0..2 {
        assert!(is_restored(Ledger::open(dir.path(), now())));
        assert!(!path("ledger.db").exists());
        let _ = fs::remove_file(path("ledger.db-wal"));
    }
    let ledger = Ledger::open_restored(dir.path(), now()).unwrap();
    assert_eq!(slots(ledger.reader()).await, 1);
    drop(ledger);
    assert!(is_restored(Ledger::open(dir.path(), now())) && !path("ledger.db.restoring").exists());
    let nothing = tempfile::tempdir().unwrap();
    assert!(matches!(Ledger::open_restored(nothing.path(), now()), Err(LedgerError::Missing { .. })));
}

/// Somebody has copied it there, as one does at night, beside the journal of the ledger before.
#[tokio::test]
async fn a_backup_that_was_put_there_by_hand_is_known_for_one() {
    let (dir, copies) = behind().await;
    let path = |name: &str| dir.path().join(name);
    // What the ledger has written since it was opened is in its journal alone.
    let ledger = open(dir.path());
    ledger.plan((3..9).map(|n| planned(slot("a", n), &["acme"])).collect(), vec![]).await.unwrap();
    let journal = fs::read(path("ledger.db-wal")).unwrap();
    assert!(!journal.is_empty());
    drop(ledger);
    fs::copy(copies.path().join("copy.db"), path("ledger.db")).unwrap();
    fs::write(path("ledger.db-wal"), &journal).unwrap();
    assert!(is_restored(Ledger::open(dir.path(), now())));
    let ledger = Ledger::open_restored(dir.path(), now()).unwrap();
    assert_eq!(slots(ledger.reader()).await, 1, "the journal is another ledger's");
    assert_eq!(fs::read(path("ledger.db.replaced-20240102T000000Z-wal")).unwrap(), journal);
    ledger.restored(Vec::new()).await.unwrap();
    drop(ledger);
    assert_eq!(slots(Ledger::open(dir.path(), now()).unwrap().reader()).await, 1);
}
