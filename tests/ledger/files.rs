//! The file: what is refused, who may open it, and a full disk.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use consign::clock::Clock;
use consign::ledger::{Ledger, LedgerError};

use super::{customers, key, open, planned, share, slot, start};
use crate::support::disk::SmallDisk;
use crate::support::needs::not_tested;

fn refused(dir: &Path) -> LedgerError {
    let before = fs::read(dir.join("ledger.db")).ok();
    let error = Ledger::open(dir, Clock::fixed(start())).err().expect("must be refused");
    assert_eq!(fs::read(dir.join("ledger.db")).ok(), before, "the file must be left as it is");
    error
}

/// A directory with a closed ledger of some size.
async fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slots = (0..2_000).map(|n| planned(slot("orders", n), &["acme", "globex"])).collect();
    ledger.plan(slots, vec![(share("orders"), start())]).await.unwrap();
    ledger.claim(500, 0).await.unwrap();
    dir
}

#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("state/consign");
    let ledger = open(&dir);
    ledger.plan(vec![planned(slot("a", 1), &["acme"])], vec![]).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.lock"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 4, "nothing else is left behind");
}

/// Root looks after the ledger of a service, which goes on with it as another user.
#[tokio::test]
async fn what_root_makes_is_the_state_directorys_owners() {
    let dir = tempfile::tempdir().unwrap();
    if lchown(dir.path(), Some(4711), Some(4712)).is_err() {
        return not_tested("only root may give a file away");
    }
    let ledger = open(dir.path());
    ledger.plan(vec![planned(slot("a", 1), &["acme"])], vec![]).await.unwrap();
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.lock"] {
        let file = fs::metadata(dir.path().join(file)).unwrap();
        assert_eq!((file.uid(), file.gid()), (4711, 4712), "{file:?}");
    }
}

#[tokio::test]
async fn a_second_ledger_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let error = refused(dir.path());
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    let clone = ledger.clone();
    drop(ledger);
    refused(dir.path());
    drop(clone);
    open(dir.path());
}

#[tokio::test]
async fn damaged_and_foreign_files_are_refused_and_left_alone() {
    let dir = filled().await;
    let path = dir.path().join("ledger.db");
    let good = fs::read(&path).unwrap();
    assert!(good.len() > 200_000 && !dir.path().join("ledger.db-wal").exists());

    fs::write(&path, b"").unwrap();
    assert!(matches!(refused(dir.path()), LedgerError::Damaged { why, .. } if why.contains("empty")));
    fs::write(&path, b"not a database at all, but a letter").unwrap();
    assert!(matches!(refused(dir.path()), LedgerError::Foreign { .. }));
    assert!(matches!(Ledger::read_only(dir.path()), Err(LedgerError::Foreign { .. })));
    fs::write(&path, &good[..10]).unwrap();
    assert!(matches!(refused(dir.path()), LedgerError::Foreign { .. }));
    for kept in [100, 4096, good.len() / 2, good.len() - 4096] {
        fs::write(&path, &good[..kept]).unwrap();
        let error = refused(dir.path());
        assert!(matches!(error, LedgerError::Damaged { .. } | LedgerError::Foreign { .. }), "{kept}: {error:?}");
    }
    for page in 1..good.len() / 4096 {
        if page % 7 == 1 {
            let mut bad = good.clone();
            bad[page * 4096..page * 4096 + 64].fill(0xA5);
            fs::write(&path, &bad).unwrap();
            assert!(matches!(refused(dir.path()), LedgerError::Damaged { .. }), "page {page}");
        }
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(open(dir.path()).claim(9_999, 0).await.unwrap().runs.len(), 1_500);
}

#[tokio::test]
async fn a_lost_main_file_with_its_journal_still_there_is_refused() {
    let dir = filled().await;
    fs::rename(dir.path().join("ledger.db"), dir.path().join("ledger.db-wal")).unwrap();
    assert!(matches!(refused(dir.path()), LedgerError::Damaged { .. }));
}

#[tokio::test]
async fn another_programs_or_a_newer_database_is_refused() {
    let dir = filled().await;
    let path = dir.path().join("ledger.db");
    let patch = |at: u64, value: u32| {
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&value.to_be_bytes()).unwrap();
    };
    // Offsets of user_version and application_id: SQLite's "Database File Format", 1.3.
    patch(60, 99);
    let error = refused(dir.path());
    assert!(matches!(error, LedgerError::Newer { found: 99, .. }), "{error:?}");
    assert!(error.to_string().contains("install the newer consign"), "{error}");
    patch(60, 1);
    patch(68, 0);
    assert!(matches!(refused(dir.path()), LedgerError::Foreign { .. }));
}

#[test]
fn reading_where_there_is_no_ledger_says_so_and_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Ledger::read_only(dir.path()), Err(LedgerError::Missing { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Plans slots from `from` on until the ledger is full; returns how many it took.
async fn fill_up(ledger: &Ledger, from: i64) -> i64 {
    for n in (from..from + 1_000_000).step_by(50) {
        let plan = (n..n + 50).map(|n| planned(slot("filler", n), &["acme", "globex"])).collect();
        match ledger.plan(plan, vec![]).await {
            Ok(recorded) => assert_eq!(recorded.new, 50),
            Err(error) => {
                assert!(matches!(error, LedgerError::Full { .. }), "{error:?}");
                assert!(error.to_string().contains("free some room"));
                assert_eq!(error.retry(), consign::domain::Retry::Later);
                return n - from;
            }
        }
    }
    panic!("it never filled up");
}

#[tokio::test]
async fn a_full_ledger_fails_clearly_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    ledger.limit_bytes(400_000).await.unwrap();
    let took = fill_up(&ledger, 0).await;
    assert!(took >= 500, "{took}");
    // Refused work left nothing behind, and readers are not disturbed.
    ledger.start_manual(slot("orders", 1), customers(&["acme"])).await.ok();
    ledger.limit_bytes(1 << 30).await.unwrap();
    assert_eq!(ledger.plan(vec![planned(slot("filler", took), &["acme"])], vec![]).await.unwrap().new, 1);
    assert_eq!(ledger.claim(usize::MAX, 0).await.unwrap().runs.len() as i64, took + 1);
}

/// SQLite itself undoes the whole transaction then. Whoever waits for the same one is told why,
/// and not that the ledger is unusable.
#[tokio::test]
async fn all_who_are_undone_by_a_full_ledger_are_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slot = slot("orders", 1);
    let claim = ledger.start_manual(slot.clone(), customers(&["acme"])).await.unwrap().claim.unwrap();
    let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap().id;
    ledger.limit_bytes(300_000).await.unwrap();
    let key = key(&slot, "rows.csv");
    let (mut kept, mut refused) = (0, 0);
    while refused == 0 {
        let ids: Vec<String> = (kept..kept + 20).map(|n| format!("{n:0>500}")).collect();
        let all = ids.iter().map(|id| ledger.upload_created(attempt, &key, id));
        for created in futures::future::join_all(all).await {
            match created {
                Ok(()) => kept += 1,
                Err(error) => {
                    assert!(matches!(error, LedgerError::Full { .. }), "{error:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 1, "they were not together");
    ledger.limit_bytes(1 << 30).await.unwrap();
    ledger.upload_created(attempt, &key, "one more").await.unwrap();
    let shown = ledger.reader().run(claim.run).await.unwrap();
    assert_eq!(shown.deliveries[0].attempts[0].uploads.len(), kept + 1);
}

/// A real full disk, where the machine lets the test mount one.
#[tokio::test]
async fn a_full_disk_fails_clearly_and_goes_on_when_there_is_room() {
    let top = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(top.path(), 1) else { return };
    let ledger = open(top.path());
    let took = fill_up(&ledger, 0).await;
    assert!(took > 0);
    disk.resize(64);
    assert_eq!(ledger.plan(vec![planned(slot("filler", took), &["acme"])], vec![]).await.unwrap().new, 1);
    assert_eq!(ledger.claim(usize::MAX, 0).await.unwrap().runs.len() as i64, took + 1);
    drop(ledger);
    open(top.path());
}

/// The file that readers and the writer share needs room too, and says so by another number.
#[test]
fn no_room_for_what_readers_share_is_no_room() {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_SHMSIZE);
    let error = LedgerError::from(rusqlite::Error::SqliteFailure(code, None));
    assert!(matches!(error, LedgerError::Full { .. }), "{error:?}");
}
