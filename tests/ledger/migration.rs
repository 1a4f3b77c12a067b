//! Ledgers of earlier versions, kept as they were written.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use chrono::TimeDelta;
use consign::clock::Clock;
use consign::config::Database;
use consign::domain::{Origin, ProfileHash, SkipReason};
use consign::ledger::{DeliveryState, History, Ledger, LedgerError, Reader, RunState};

use super::{customers, share, utc};
use crate::support::disk::SmallDisk;
use crate::support::postgres::{LEASE, Postgres};

/// A ledger as a consign of that version left it when it was killed: a daemon with one share, `tick`.
fn version(number: i64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(format!("tests/golden/ledger/{number}.db"), dir.path().join("ledger.db")).unwrap();
    dir
}

/// Until there was a column for it, only the failure said that a delivery was left out.
const LEFT_OUT: &str = r#"{"layer":"schedule","retry":"never","message":"slot tick@2026-11-25T09:00:00Z was left out: missed while down","remedy":"send it"}"#;

fn tells_left_out(skipped: &[consign::ledger::Skipped]) {
    let told: Vec<_> = skipped.iter().filter(|slot| slot.customers.is_some()).map(|slot| slot.reason).collect();
    assert_eq!(told, [SkipReason::Missed]);
}

/// The only run at work has an upload, and can be brought to its end.
async fn has_one_at_work(ledger: &Ledger) {
    let left = ledger.unfinished().await.unwrap();
    let [left] = &left[..] else { panic!("{left:?}") };
    assert_eq!((left.state, left.deliveries.len()), (RunState::Running, 1));
    let delivery = &left.deliveries[0];
    assert_eq!((delivery.state, delivery.uploads.len()), (DeliveryState::Working, 1));
    let attempt = delivery.attempt.as_ref().unwrap().id;
    ledger.interrupted(attempt).await.unwrap();
    ledger.upload_aborted(attempt, &delivery.uploads[0].upload_id).await.unwrap();
    let again = ledger.attempt_started(delivery.id, None).await.unwrap();
    assert_eq!(again.number, 2);
}

#[tokio::test]
async fn a_ledger_of_version_1_goes_on() {
    let dir = version(1);
    let (count, before) = tables(dir.path());
    assert_eq!(before, 1);
    // Who only reads does not change it.
    let error = Ledger::read_only(dir.path()).err().expect("must be refused");
    assert!(matches!(error, LedgerError::Older { found: 1, known: 7, .. }), "{error:?}");
    assert!(error.to_string().contains("`consign run` and `consign send` bring it there"), "{error}");
    // A copy can be made before it is changed.
    let copies = tempfile::tempdir().unwrap();
    Ledger::backup(dir.path(), &copies.path().join("ledger.db")).unwrap();
    assert_eq!(tables(copies.path()), (count, 1));

    let now = utc("2026-11-25T12:00:00Z");
    let ledger = Ledger::open(dir.path(), Clock::fixed(now)).unwrap();
    let runs = ledger.reader().history(History { limit: 99, ..History::default() }).await.unwrap();
    let of = |state| runs.iter().filter(|run| run.state == state).count();
    assert_eq!((of(RunState::Succeeded), of(RunState::Failed), of(RunState::Running)), (3, 1, 1));
    assert!(runs.iter().all(|run| run.share == share("tick") && run.slot == run.interval.end));
    assert_eq!(runs.iter().filter(|run| run.origin == Origin::Manual).count(), 1);
    let skipped = ledger.reader().skipped(None, None, 99).await.unwrap();
    assert!(!skipped.is_empty() && skipped.iter().all(|slot| slot.reason == SkipReason::Missed));
    // What was at work can be brought to its end, uploads and all.
    let left = ledger.unfinished().await.unwrap();
    assert_eq!(left.iter().filter(|left| left.state == RunState::Running).count(), 1);
    let open: Vec<_> = left.iter().flat_map(|left| &left.deliveries).collect();
    assert!(open.iter().any(|delivery| delivery.state == DeliveryState::Working && !delivery.uploads.is_empty()));
    assert!(open.iter().all(|delivery| delivery.cancel.is_none()));
    // And new work goes by the new rules.
    let cursor = ledger.cursor(&share("tick")).await.unwrap().unwrap();
    let at = cursor - TimeDelta::seconds(7);
    let interval = consign::domain::Interval { start: at - TimeDelta::minutes(1), end: at };
    let new = consign::domain::Slot { share: share("tick"), at, interval };
    let filled = ledger.backfill(vec![new, skipped[0].slot.clone()], customers(&["acme"])).await.unwrap();
    assert!(filled.iter().all(|filling| filling.to_deliver.len() == 1));
    assert_eq!(ledger.pause(share("tick")).await.unwrap().earlier, None);
    drop(ledger);
    assert_eq!(tables(dir.path()).1, 7);
    assert!(tables(dir.path()).0 >= count, "no row is lost");
    Ledger::read_only(dir.path()).unwrap();
}

#[tokio::test]
async fn a_ledger_of_version_2_goes_on() {
    let dir = version(2);
    assert_eq!(tables(dir.path()).1, 2);
    let raw = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    raw.execute_batch(&format!(
        "UPDATE runs SET state = 'failed' WHERE seq = (SELECT min(run) FROM deliveries WHERE state = 'committed');
         UPDATE deliveries SET state = 'failed', manifest_key = NULL, failure = '{LEFT_OUT}'
             WHERE run = (SELECT min(seq) FROM runs WHERE state = 'failed')"
    ))
    .unwrap();
    drop(raw);
    let ledger = Ledger::open(dir.path(), Clock::fixed(utc("2026-11-25T12:00:00Z"))).unwrap();
    let succeeded = |share_name: Option<&str>| History {
        share: share_name.map(share),
        state: Some(RunState::Succeeded),
        limit: 99,
        ..History::default()
    };
    for (filter, runs) in [(succeeded(None), 3), (succeeded(Some("tick")), 3), (succeeded(Some("other")), 0)] {
        assert_eq!(ledger.reader().history(filter).await.unwrap().len(), runs);
    }
    assert_eq!(ledger.reader().pauses().await.unwrap().len(), 1);
    tells_left_out(&ledger.reader().skipped(None, None, 99).await.unwrap());
    has_one_at_work(&ledger).await;
    assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
    drop(ledger);
    assert_eq!(tables(dir.path()).1, 7);
}

#[tokio::test]
async fn a_ledger_of_version_3_goes_on() {
    let dir = version(3);
    assert_eq!(tables(dir.path()).1, 3);
    let ledger = Ledger::open(dir.path(), Clock::fixed(utc("2026-11-29T12:00:00Z"))).unwrap();
    let succeeded = History { state: Some(RunState::Succeeded), limit: 99, ..History::default() };
    assert_eq!(ledger.reader().history(succeeded).await.unwrap().len(), 3);
    assert_eq!(ledger.quarantined().await.unwrap(), []);
    has_one_at_work(&ledger).await;
    drop(ledger);
    assert_eq!(tables(dir.path()).1, 7);
}

/// Whoever has got something was ready for it, and is not looked at again first.
#[tokio::test]
async fn a_ledger_of_version_4_goes_on() {
    let dir = version(4);
    assert_eq!(tables(dir.path()).1, 4);
    let ledger = Ledger::open(dir.path(), Clock::fixed(utc("2026-11-29T12:00:00Z"))).unwrap();
    assert_eq!(ledger.quarantined().await.unwrap().len(), 1);
    let customer = |name: &str| customers(&[name]).remove(0);
    let profile = || ProfileHash::of([("role_arn", Some("one".to_owned()))]);
    assert!(ledger.has_seen(customer("acme"), profile()).await.unwrap());
    assert!(!ledger.has_seen(customer("other"), profile()).await.unwrap());
    assert_eq!(ledger.unready().await.unwrap(), []);
    has_one_at_work(&ledger).await;
    drop(ledger);
    assert_eq!(tables(dir.path()).1, 7);
}

/// What was found of customers stands, as of the profiles that they have now; other ones were never tried.
async fn has_customers_of_earlier_versions(ledger: &Ledger) {
    let customer = |name: &str| customers(&[name]).remove(0);
    let unready = ledger.unready().await.unwrap();
    let found: Vec<_> = unready.iter().map(|found| (&found.customer, found.looks)).collect();
    assert_eq!(found, [(&customer("globex"), 3)]);
    let exposed = ledger.exposed().await.unwrap();
    assert_eq!(exposed.iter().map(|found| &found.customer).collect::<Vec<_>>(), [&customer("initech")]);
    let [now, later] = ["now", "later"].map(|role| ProfileHash::of([("role_arn", Some(role.to_owned()))]));
    for name in ["acme", "globex", "initech"] {
        for (profile, seen) in [(&now, true), (&later, false), (&now, true)] {
            assert_eq!(ledger.has_seen(customer(name), profile.clone()).await.unwrap(), seen, "{name}");
        }
    }
}

#[tokio::test]
async fn a_ledger_of_version_5_goes_on() {
    let dir = version(5);
    assert_eq!(tables(dir.path()).1, 5);
    let ledger = Ledger::open(dir.path(), Clock::fixed(utc("2026-11-29T12:00:00Z"))).unwrap();
    has_customers_of_earlier_versions(&ledger).await;
    has_one_at_work(&ledger).await;
    drop(ledger);
    assert_eq!(tables(dir.path()).1, 7);
}

/// Nothing that has ended was settled by anybody.
async fn nobody_has_settled(ledger: &Ledger) {
    let runs = ledger.reader().history(History { limit: 99, ..History::default() }).await.unwrap();
    assert!(!runs.is_empty());
    for run in runs {
        let deliveries = ledger.reader().run(run.run).await.unwrap().deliveries;
        assert!(deliveries.iter().all(|delivery| delivery.settled.is_none() && delivery.in_doubt.is_none()));
    }
}

#[tokio::test]
async fn a_ledger_of_version_6_goes_on() {
    let dir = version(6);
    assert_eq!(tables(dir.path()).1, 6);
    let ledger = Ledger::open(dir.path(), Clock::fixed(utc("2026-11-29T12:00:00Z"))).unwrap();
    nobody_has_settled(&ledger).await;
    has_customers_of_earlier_versions(&ledger).await;
    has_one_at_work(&ledger).await;
    drop(ledger);
    assert_eq!(tables(dir.path()).1, 7);
}

#[tokio::test]
async fn a_postgres_ledger_of_version_4_or_5_goes_on() {
    let Some(server) = Postgres::shared() else { return };
    for number in [4, 5] {
        server.psql(&format!("CREATE DATABASE version_{number}"));
        let url = server.url().replace("/postgres", &format!("/version_{number}"));
        let dump = format!("tests/golden/ledger/postgres-{number}.sql");
        Postgres::ask(&url, &fs::read_to_string(dump).unwrap());
        let database = Database::new(&url, "consign", LEASE);
        let ledger = Ledger::connect(&database, Clock::fixed(utc("2026-11-29T12:00:00Z"))).unwrap();
        nobody_has_settled(&ledger).await;
        has_customers_of_earlier_versions(&ledger).await;
        assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
    }
}

/// The first version in PostgreSQL, as `pg_dump` wrote it.
#[tokio::test]
async fn a_postgres_ledger_of_version_1_goes_on() {
    let Some(server) = Postgres::shared() else { return };
    server.psql("CREATE DATABASE version_1");
    let url = server.url().replace("/postgres", "/version_1");
    Postgres::ask(&url, &fs::read_to_string("tests/golden/ledger/postgres-1.sql").unwrap());
    let failed = "SELECT max(id) FROM consign.deliveries WHERE state = 'failed'";
    Postgres::ask(&url, &format!("UPDATE consign.deliveries SET failure = '{LEFT_OUT}' WHERE id = ({failed})"));
    let database = Database::new(&url, "consign", LEASE);
    let error = Reader::connect(&database).err().expect("must be refused");
    assert!(matches!(error, LedgerError::Older { found: 1, known: 6, .. }), "{error:?}");
    let ledger = Ledger::connect(&database, Clock::fixed(utc("2026-11-25T12:00:00Z"))).unwrap();
    let failed = History { state: Some(RunState::Failed), limit: 99, ..History::default() };
    assert_eq!(ledger.reader().history(failed).await.unwrap().len(), 4);
    tells_left_out(&ledger.reader().skipped(None, None, 99).await.unwrap());
    assert_eq!(ledger.reader().pauses().await.unwrap().len(), 1);
    // Its node died a while ago, and is marked so by whoever is there for the length of a lease.
    Postgres::ask(&url, "UPDATE consign.nodes SET state = 'dead', ended_at = lease_until WHERE id = 1");
    has_one_at_work(&ledger).await;
    assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
    Reader::connect(&database).unwrap();
}

/// Whoever raises the version keeps a ledger of the one before, and has it go on.
#[tokio::test]
async fn every_version_has_its_golden() {
    let now = || Clock::fixed(utc("2026-11-25T12:00:00Z"));
    let dir = tempfile::tempdir().unwrap();
    drop(Ledger::open(dir.path(), now()).unwrap());
    let newest = tables(dir.path()).1;
    for number in 1..newest {
        let file = format!("tests/golden/ledger/{number}.db");
        assert!(Path::new(&file).exists(), "{file}: keep a ledger of version {number}, as it is left by a kill");
        let dir = version(number);
        assert_eq!(tables(dir.path()).1, number);
        let ledger = Ledger::open(dir.path(), now()).unwrap();
        assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
        assert_eq!(tables(dir.path()).1, newest);
    }
    let Some(server) = Postgres::shared() else { return };
    drop(Ledger::connect(&server.database("newest"), now()).unwrap());
    let newest: i64 = server.psql("SELECT version FROM newest.consign_ledger").parse().unwrap();
    for number in 1..newest {
        let file = format!("tests/golden/ledger/postgres-{number}.sql");
        let dump =
            fs::read_to_string(&file).unwrap_or_else(|_| panic!("{file}: keep what pg_dump says of version {number}"));
        server.psql(&format!("CREATE DATABASE golden_{number}"));
        let url = server.url().replace("/postgres", &format!("/golden_{number}"));
        Postgres::ask(&url, &dump);
        let of = || Postgres::ask(&url, "SELECT version FROM consign.consign_ledger").parse::<i64>().unwrap();
        assert_eq!(of(), number);
        let ledger = Ledger::connect(&Database::new(&url, "consign", LEASE), now()).unwrap();
        assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
        assert_eq!(of(), newest);
    }
}

fn files(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "ledger.lock").collect();
    names.sort();
    names
}

/// An earlier consign goes on with nothing else.
#[tokio::test]
async fn a_ledger_is_kept_before_it_is_brought_up_to_date() {
    let now = || Clock::fixed(utc("2026-11-30T12:00:00Z"));
    let dir = version(5);
    let before = tables(dir.path());
    let path = |name: &str| dir.path().join(name);
    // Of an earlier time, and of a try that was cut off: neither is what is there now.
    fs::write(path("ledger.db.v3"), "an older one").unwrap();
    fs::write(path("ledger.db.v5"), "half of it").unwrap();
    drop(Ledger::open(dir.path(), now()).unwrap());
    assert_eq!(files(dir.path()), ["ledger.db", "ledger.db.v5"], "one is kept");
    assert_eq!(tables(dir.path()).1, 7);
    assert_eq!(fs::metadata(path("ledger.db.v5")).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = tempfile::tempdir().unwrap();
    fs::copy(path("ledger.db.v5"), kept.path().join("ledger.db")).unwrap();
    assert_eq!(tables(kept.path()), before);
    // Opened again, there is nothing to keep.
    drop(Ledger::open(dir.path(), now()).unwrap());
    assert_eq!(files(dir.path()), ["ledger.db", "ledger.db.v5"]);

    // To an earlier consign this one is newer, and it is told what it can go back to.
    let raw = rusqlite::Connection::open(path("ledger.db")).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    let newer = Ledger::open(dir.path(), now()).err().expect("must be refused");
    assert!(matches!(newer, LedgerError::Newer { found: 99, known: 7, .. }), "{newer:?}");
    let back = format!("or go back with `consign ledger restore {}`", path("ledger.db.v5").display());
    assert!(newer.to_string().contains(&back), "{newer}");
    let (ledger, replaced) = Ledger::restore(dir.path(), &path("ledger.db.v5"), now()).unwrap();
    assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
    ledger.end_open().await.unwrap();
    ledger.restored(Vec::new()).await.unwrap();
    drop(ledger);
    assert!(replaced.unwrap().exists() && path("ledger.db.v5").exists());
    Ledger::open(dir.path(), now()).unwrap();
}

/// Without a copy nobody could go back.
#[tokio::test]
async fn a_ledger_that_cannot_be_kept_is_left_as_it_is() {
    let now = || Clock::fixed(utc("2026-11-30T12:00:00Z"));
    let top = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(top.path(), 1) else { return };
    fs::copy("tests/golden/ledger/5.db", top.path().join("ledger.db")).unwrap();
    // For what it takes to look at it, and less than it has.
    disk.fill_but_for(96 << 10);
    let before = fs::read(top.path().join("ledger.db")).unwrap();
    let refused = Ledger::open(top.path(), now()).err().expect("there is no room");
    assert!(matches!(refused, LedgerError::NotKept { .. }), "{refused:?}");
    assert!(refused.to_string().contains("ledger.db.v5") && refused.to_string().contains("make room"), "{refused}");
    assert!(fs::read(top.path().join("ledger.db")).unwrap() == before, "it was changed");
    disk.make_room();
    drop(Ledger::open(top.path(), now()).unwrap());
    assert_eq!(tables(top.path()).1, 7);
    assert!(top.path().join("ledger.db.v5").exists());
}

/// Cut off at a later version, the ledger is what it was: the one that is kept stays the one to go back to.
#[tokio::test]
async fn a_ledger_is_brought_up_to_date_as_a_whole_or_not_at_all() {
    let dir = version(1);
    let raw = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    raw.execute_batch("CREATE TABLE customers (in_the_way INTEGER)").unwrap();
    drop(raw);
    let before = tables(dir.path());
    let now = || Clock::fixed(utc("2026-11-30T12:00:00Z"));
    Ledger::open(dir.path(), now()).err().expect("version 5 makes such a table");
    assert_eq!(tables(dir.path()), before);
    assert!(dir.path().join("ledger.db.v1").exists());
    let raw = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    raw.execute_batch("DROP TABLE customers").unwrap();
    drop(raw);
    drop(Ledger::open(dir.path(), now()).unwrap());
    assert_eq!(tables(dir.path()).1, 7);
    assert!(dir.path().join("ledger.db.v1").exists());
}

/// Rows of all old tables, and the version; what refers to what is whole.
fn tables(dir: &Path) -> (i64, i64) {
    let raw = rusqlite::Connection::open(dir.join("ledger.db")).unwrap();
    let one = |sql: &str| raw.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(one("SELECT count(*) FROM pragma_foreign_key_check"), 0);
    let names = ["shares", "slots", "runs", "deliveries", "attempts", "uploads", "objects"];
    (names.iter().map(|name| one(&format!("SELECT count(*) FROM {name}"))).sum(), one("PRAGMA user_version"))
}
