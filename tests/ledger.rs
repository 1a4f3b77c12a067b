//! The ledger: what it promises, on a real file and in a real PostgreSQL.

/// The same tests again, on PostgreSQL.
macro_rules! on_postgres {
    ($($(#[$attribute:meta])* $test:ident),+ $(,)?) => {
        mod on_postgres {
            $(
                #[test]
                $(#[$attribute])*
                fn $test() {
                    crate::ledger::with_postgres(super::$test);
                }
            )+
        }
    };
}

mod admin;
mod admission;
mod completing;
mod crash;
mod durable;
mod errors;
mod faults;
mod files;
mod left_out;
mod migration;
mod model;
mod nodes;
mod on_record;
mod order;
mod ready;
mod restored;
mod schema;
mod server;
mod settled;
mod upkeep;

use std::cell::Cell;
use std::path::Path;

use chrono::DateTime;
use consign::clock::{Clock, Instant};
use consign::config::Database;
use consign::domain::{
    AccountId, BucketName, Completion, CustomerName, CustomerPrefix, Destination, Failure, Interval, KeyFacts,
    KeyTemplate, Layer, LeafName, Manifest, ManifestInterval, ManifestObject, Mode, ObjectKey, Origin, Retry, Role,
    RunId, SealedObject, ShareName, SkipReason, Slot,
};
use consign::ledger::{
    AttemptId, AttemptState, Committed, Cursor, DeliveryState, History, Ledger, LedgerError, Planned, Reader, RunState,
    Started, UploadState,
};

use crate::support::postgres::{LEASE, Postgres};

fn utc(text: &str) -> Instant {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn start() -> Instant {
    utc("2024-01-01T00:00:00Z")
}

thread_local! {
    /// The tests on this thread are about PostgreSQL.
    static ON_POSTGRES: Cell<bool> = const { Cell::new(false) };
}

/// In the process of its own that a test starts: the server.
const POSTGRES_URL: &str = "CONSIGN_TEST_POSTGRES";

/// Runs a test whose ledgers are in PostgreSQL, if there is one.
fn with_postgres(test: fn()) {
    if Postgres::shared().is_some() {
        ON_POSTGRES.set(true);
        test();
        ON_POSTGRES.set(false);
    }
}

/// Where the ledger of `dir` is, if it is in PostgreSQL.
fn database(dir: &Path) -> Option<Database> {
    let url = match std::env::var(POSTGRES_URL) {
        Ok(url) => url,
        Err(_) if ON_POSTGRES.get() => Postgres::shared().unwrap().url(),
        Err(_) => return None,
    };
    let letters = dir.file_name().unwrap().to_str().unwrap().bytes().map(|byte| format!("{byte:x}"));
    Some(Database::new(&url, &format!("t{}", letters.collect::<String>()), LEASE))
}

/// Has something done behind the back of the ledger of `dir`, if it is in PostgreSQL.
fn psql(dir: &Path, sql: &str) -> Option<String> {
    let Database { schema, .. } = database(dir)?;
    Some(Postgres::shared()?.psql(&format!("SET search_path TO {schema}; {sql}")))
}

fn open(dir: &Path) -> Ledger {
    open_at(dir, Clock::fixed(start()))
}

fn open_at(dir: &Path, clock: Clock) -> Ledger {
    match database(dir) {
        None => Ledger::open(dir, clock).unwrap(),
        Some(database) => Ledger::connect(&database, clock).unwrap(),
    }
}

fn read_only(dir: &Path) -> Reader {
    match database(dir) {
        None => Ledger::read_only(dir).unwrap(),
        Some(database) => Reader::connect(&database).unwrap(),
    }
}

/// Every slot counts, of every share, for every customer.
fn any(_: &ShareName, _: &CustomerName) -> Option<Mode> {
    Some(Mode::Slot)
}

fn share(name: &str) -> ShareName {
    ShareName::parse(name).unwrap()
}

fn customers(names: &[&str]) -> Vec<CustomerName> {
    names.iter().map(|name| CustomerName::parse(name).unwrap()).collect()
}

/// The slot of `name` at the `n`-th hour.
/// The slots that the tests count from here have all come.
fn long_ago() -> Instant {
    start() - chrono::TimeDelta::days(1000)
}

fn slot(name: &str, n: i64) -> Slot {
    let at = long_ago() + chrono::TimeDelta::hours(n);
    Slot { share: share(name), at, interval: Interval { start: at - chrono::TimeDelta::hours(1), end: at } }
}

/// As [`slot`] counts.
fn hour(slot: &Slot) -> i64 {
    (slot.at - long_ago()).num_hours()
}

fn planned(slot: Slot, names: &[&str]) -> Planned {
    Planned::new(slot, customers(names), Origin::Schedule)
}

fn key(slot: &Slot, name: &str) -> ObjectKey {
    let customer = CustomerName::parse("acme").unwrap();
    let facts = KeyFacts { share: &slot.share, customer: &customer, slot: slot.at, interval: slot.interval };
    CustomerPrefix::parse("in").unwrap().key(&KeyTemplate::default(), &facts, &LeafName::parse(name).unwrap()).unwrap()
}

fn object(key: &ObjectKey, upload_id: &str) -> SealedObject {
    SealedObject {
        key: key.to_string(),
        role: Role::Data,
        upload_id: upload_id.into(),
        created: start(),
        media_type: "text/csv".into(),
        rows: 3,
        bytes: 40,
        checksum_crc64nvme: "AAAAAAAAAAA=".into(),
        full_checksum: true,
        parts: Vec::new(),
        completion: Completion::InDoubt,
    }
}

/// What the manifest of a delivery to acme is to say.
fn draft(slot: &Slot) -> Manifest {
    Manifest {
        manifest_version: 1,
        share: slot.share.clone(),
        slot: slot.at,
        interval: ManifestInterval { start: slot.interval.start, end: slot.interval.end },
        customer: CustomerName::parse("acme").unwrap(),
        mode: Mode::Slot,
        run: RunId::new(start()),
        rows: 3,
        objects: Vec::new(),
        schema: Vec::new(),
        plugin: None,
        consign_version: "0".to_owned(),
        started: start(),
        finished: start(),
    }
}

fn receipt(objects: &[SealedObject]) -> Committed {
    let done = |object: &SealedObject| ManifestObject {
        key: object.key.clone(),
        bytes: object.bytes,
        rows: object.rows,
        checksum_crc64nvme: object.checksum_crc64nvme.clone(),
        etag: "e1".into(),
        media_type: object.media_type.clone(),
    };
    Committed {
        manifest_key: "in/_manifest.json".into(),
        rows: 3,
        bytes: 40,
        objects: objects.iter().map(done).collect(),
        left: Vec::new(),
    }
}

fn passing() -> Failure {
    Failure::new(Layer::Network, Retry::Later, "no answer from s3", "wait")
}

fn lasting() -> Failure {
    Failure::new(Layer::TrustPolicy, Retry::Never, "sts refused the role", "add the external ID")
}

/// One attempt from its start to the commit, with one upload.
async fn deliver(ledger: &Ledger, slot: &Slot, attempt: AttemptId, upload_id: &str) -> Result<(), LedgerError> {
    let key = key(slot, "rows.csv");
    ledger.upload_created(attempt, &key, upload_id).await?;
    let objects = [object(&key, upload_id)];
    ledger.sealed(attempt, &objects).await?;
    ledger.committed(attempt, receipt(&objects)).await
}

#[tokio::test]
async fn a_run_from_slot_to_commit() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slot = slot("orders", 6);
    let both = planned(slot.clone(), &["globex", "acme"]);
    assert_eq!(ledger.plan(vec![both], vec![(share("orders"), slot.at)]).await.unwrap().new, 1);
    assert_eq!(ledger.cursor(&share("orders")).await.unwrap(), Some(slot.at));

    let [claim] = &ledger.claim(10, 0).await.unwrap().runs[..] else { panic!("one claim") };
    assert_eq!((claim.slot.clone(), claim.origin, claim.deliveries.len()), (slot.clone(), Origin::Schedule, 2));
    assert!(ledger.claim(10, 0).await.unwrap().runs.is_empty());

    let (acme, globex) = (claim.deliveries[0].1, claim.deliveries[1].1);
    assert_ne!(acme.seed(), globex.seed(), "what fails together does not come back together");
    let first = ledger.attempt_started(acme, None).await.unwrap();
    deliver(&ledger, &slot, first.id, "u1").await.unwrap();
    let first = ledger.attempt_started(globex, None).await.unwrap();
    ledger.failed(first.id, passing(), Some(start())).await.unwrap();
    let second = ledger.attempt_started(globex, None).await.unwrap();
    assert_eq!((first.number, second.number), (1, 2));
    assert!(matches!(ledger.run_finished(claim.run).await, Err(LedgerError::StillOpen { open: 1, .. })));
    ledger.failed(second.id, lasting(), None).await.unwrap();
    assert_eq!(ledger.run_finished(claim.run).await.unwrap(), RunState::Failed);

    let detail = ledger.reader().run(claim.run).await.unwrap();
    assert_eq!((detail.run.deliveries, detail.run.committed, detail.run.failed, detail.run.rows), (2, 1, 1, 3));
    let [to_acme, to_globex] = &detail.deliveries[..] else { panic!("two deliveries") };
    assert_eq!(to_acme.manifest_key.as_deref(), Some("in/_manifest.json"));
    assert_eq!(to_acme.attempts[0].objects[0].etag.as_deref(), Some("e1"));
    assert_eq!(to_acme.attempts[0].uploads[0].state, UploadState::Completed);
    assert_eq!((to_globex.state, to_globex.failure.clone()), (DeliveryState::Failed, Some(lasting())));
    assert_eq!(to_globex.attempts[0].failure, Some(passing()));
    assert!(ledger.unfinished().await.unwrap().is_empty());
    let json = serde_json::to_value(&detail).unwrap();
    assert_eq!(json["run"]["state"], "failed");
    assert_eq!(json["deliveries"][1]["failure"]["layer"], "trust-policy");
}

#[tokio::test]
async fn planning_again_changes_nothing_and_cursors_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let (one, two) = (slot("a", 1), slot("a", 2));
    let plan = || vec![planned(one.clone(), &["acme"]), planned(two.clone(), &["acme"])];
    assert_eq!(ledger.plan(plan(), vec![(share("a"), two.at)]).await.unwrap().new, 2);
    let claims = ledger.claim(1, 0).await.unwrap().runs;
    assert_eq!(claims[0].slot, one);
    assert_eq!(ledger.plan(plan(), vec![(share("a"), one.at)]).await.unwrap().new, 0);
    assert_eq!(ledger.cursors().await.unwrap(), [(share("a"), Cursor { at: two.at, last: Some(two.at) })]);
    let claims = ledger.claim(9, 0).await.unwrap().runs;
    assert_eq!(claims.iter().map(|c| c.slot.clone()).collect::<Vec<_>>(), [two]);
}

#[tokio::test]
async fn skipped_slots_are_on_record_and_are_not_claimed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let skip = Planned { skip: Some(SkipReason::Missed), ..planned(slot("a", 1), &[]) };
    ledger.plan(vec![skip.clone(), skip], Vec::new()).await.unwrap();
    assert!(ledger.claim(9, 0).await.unwrap().runs.is_empty());
    let skipped = ledger.reader().skipped(Some(share("a")), None, 9).await.unwrap();
    assert_eq!((skipped.len(), skipped[0].reason), (1, SkipReason::Missed));
    // It can still be sent by hand.
    let started = ledger.start_manual(slot("a", 1), customers(&["acme"])).await.unwrap();
    assert_eq!(started.claim.unwrap().deliveries.len(), 1);
    assert!(ledger.reader().skipped(None, None, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_repeat_by_hand_only_redoes_what_failed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slot = slot("a", 1);
    let all = || customers(&["acme", "globex", "initech"]);
    let Started { claim: Some(first), .. } = ledger.start_manual(slot.clone(), all()).await.unwrap() else { panic!() };
    let attempt = ledger.attempt_started(first.deliveries[0].1, None).await.unwrap();
    deliver(&ledger, &slot, attempt.id, "u1").await.unwrap();
    let attempt = ledger.attempt_started(first.deliveries[1].1, None).await.unwrap();
    ledger.failed(attempt.id, lasting(), None).await.unwrap();

    let mut other = slot.clone();
    other.interval.start -= chrono::TimeDelta::hours(5);
    let second = ledger.start_manual(other, all()).await.unwrap();
    assert_eq!(second.slot, slot, "a recorded slot keeps its interval");
    assert_eq!(second.committed, [(customers(&["acme"])[0].clone(), first.run)]);
    assert_eq!(second.busy, [(customers(&["initech"])[0].clone(), first.run)]);
    let claim = second.claim.unwrap();
    assert_eq!(claim.deliveries.iter().map(|d| d.0.clone()).collect::<Vec<_>>(), customers(&["globex"]));
    let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap();
    deliver(&ledger, &slot, attempt.id, "u2").await.unwrap();
    assert_eq!(ledger.run_finished(claim.run).await.unwrap(), RunState::Succeeded);
    let third = ledger.start_manual(slot, customers(&["acme", "globex"])).await.unwrap();
    assert_eq!((third.claim, third.committed.len()), (None, 2));
}

#[tokio::test]
async fn a_slot_sent_early_by_hand_is_still_planned_for_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slot = slot("a", 1);
    let claim = ledger.start_manual(slot.clone(), customers(&["acme"])).await.unwrap().claim.unwrap();
    let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap();
    deliver(&ledger, &slot, attempt.id, "u1").await.unwrap();
    ledger.run_finished(claim.run).await.unwrap();
    ledger.plan(vec![planned(slot, &["acme", "globex"])], Vec::new()).await.unwrap();
    let claims = ledger.claim(9, 0).await.unwrap().runs;
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].deliveries.iter().map(|d| d.0.clone()).collect::<Vec<_>>(), customers(&["globex"]));
}

#[tokio::test]
async fn what_a_dead_process_left_is_told_and_can_be_ended() {
    let dir = tempfile::tempdir().unwrap();
    let slot = slot("a", 1);
    let ledger = open(dir.path());
    let names = ["sealed", "untouched", "working"];
    ledger.plan(vec![planned(slot.clone(), &names)], Vec::new()).await.unwrap();
    let claim = ledger.claim(1, 0).await.unwrap().runs.remove(0);
    let sealed = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap();
    let objects = [object(&key(&slot, "rows.csv"), "u1")];
    ledger.upload_created(sealed.id, &key(&slot, "rows.csv"), "u1").await.unwrap();
    ledger.sealed(sealed.id, &objects).await.unwrap();
    let working = ledger.attempt_started(claim.deliveries[2].1, None).await.unwrap();
    ledger.upload_created(working.id, &key(&slot, "rows.csv"), "u2").await.unwrap();
    drop(ledger);

    let ledger = open(dir.path());
    let [left] = &ledger.unfinished().await.unwrap()[..] else { panic!("one run") };
    assert_eq!((left.run, left.slot.clone(), left.state), (claim.run, slot.clone(), RunState::Running));
    let states: Vec<_> = left.deliveries.iter().map(|d| d.state).collect();
    assert_eq!(states, [DeliveryState::Sealed, DeliveryState::Pending, DeliveryState::Working]);
    let begun: Vec<_> = left.deliveries.iter().map(|delivery| delivery.has_begun()).collect();
    assert_eq!(begun, [true, false, true]);
    assert_eq!(left.deliveries[0].attempt.as_ref().unwrap().objects, objects);
    // The sealed one rolls forward, the working one begins anew.
    ledger.committed(sealed.id, receipt(&objects)).await.unwrap();
    assert_eq!(left.deliveries[2].uploads[0].upload_id, "u2");
    ledger.interrupted(working.id).await.unwrap();
    ledger.upload_aborted(working.id, "u2").await.unwrap();
    for (n, at) in [1, 2].into_iter().enumerate() {
        let attempt = ledger.attempt_started(claim.deliveries[at].1, None).await.unwrap();
        assert_eq!(attempt.number, at as u32);
        deliver(&ledger, &slot, attempt.id, &format!("v{n}")).await.unwrap();
    }
    assert_eq!(ledger.run_finished(claim.run).await.unwrap(), RunState::Succeeded);
    assert!(ledger.unfinished().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_upload_left_by_a_failed_attempt_is_told_until_it_is_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slot = slot("a", 1);
    let claim = ledger.start_manual(slot.clone(), customers(&["acme"])).await.unwrap().claim.unwrap();
    let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap();
    ledger.upload_created(attempt.id, &key(&slot, "rows.csv"), "u1").await.unwrap();
    ledger.failed(attempt.id, lasting(), None).await.unwrap();
    ledger.run_finished(claim.run).await.unwrap();
    let left = ledger.unfinished().await.unwrap();
    assert_eq!((left[0].state, left[0].deliveries[0].uploads[0].upload_id.as_str()), (RunState::Failed, "u1"));
    assert!(left[0].deliveries[0].has_begun(), "an upload is enough");
    ledger.upload_aborted(attempt.id, "u1").await.unwrap();
    assert!(ledger.unfinished().await.unwrap().is_empty());
}

/// Sent by hand, planned while that is at work, claimed with nobody left to serve.
#[tokio::test]
async fn a_slot_is_not_done_while_a_run_by_hand_is_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slot = slot("a", 1);
    let claim = ledger.start_manual(slot.clone(), customers(&["acme"])).await.unwrap().claim.unwrap();
    ledger.plan(vec![planned(slot.clone(), &["acme"])], Vec::new()).await.unwrap();
    assert_eq!(ledger.claim(10, 0).await.unwrap().runs, []);
    let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap();
    deliver(&ledger, &slot, attempt.id, "u1").await.unwrap();
    assert_eq!(ledger.run_finished(claim.run).await.unwrap(), RunState::Succeeded);
    assert!(ledger.unfinished().await.unwrap().is_empty());
}

fn destination(manifest_key: &str) -> Destination {
    Destination {
        endpoint: None,
        bucket: BucketName::parse("acme-data").unwrap(),
        owner: AccountId::parse("123456789012").unwrap(),
        manifest_key: manifest_key.into(),
    }
}

/// Whose manifest it is stays so until the delivery has failed.
#[tokio::test]
async fn a_manifest_key_belongs_to_one_slot() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let begin = async |n| {
        let claim = ledger.start_manual(slot("a", n), customers(&["acme"])).await.unwrap().claim.unwrap();
        claim.deliveries[0].1
    };
    let (first, second) = (begin(1).await, begin(2).await);
    let attempt = ledger.attempt_started(first, Some(destination("in/m"))).await.unwrap();
    let taken = async |there: Destination| match ledger.attempt_started(second, Some(there)).await {
        Err(LedgerError::KeyTaken { key, by }) => (key, by.slot, by.has_it),
        other => panic!("{other:?}"),
    };
    assert_eq!(taken(destination("in/m")).await, ("in/m".into(), slot("a", 1), false));
    deliver(&ledger, &slot("a", 1), attempt.id, "u1").await.unwrap();
    assert_eq!(taken(destination("in/m")).await, ("in/m".into(), slot("a", 1), true));
    // It has begun nothing, so it can begin elsewhere: under another key, or in another bucket.
    let elsewhere = Destination { bucket: BucketName::parse("other-data").unwrap(), ..destination("in/m") };
    let attempt = ledger.attempt_started(second, Some(elsewhere)).await.unwrap();
    assert_eq!(attempt.number, 1);
    // One that failed leaves its key to others, and to itself.
    ledger.failed(attempt.id, passing(), Some(start())).await.unwrap();
    let attempt = ledger.attempt_started(second, Some(destination("in/n"))).await.unwrap();
    ledger.failed(attempt.id, lasting(), None).await.unwrap();
    ledger.attempt_started(begin(3).await, Some(destination("in/n"))).await.unwrap();
}

/// It waits where it is: working ones for another attempt, sealed ones for their completion.
#[tokio::test]
async fn what_is_to_be_tried_again_says_when() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let due = start() + chrono::TimeDelta::minutes(3);
    let claim = ledger.start_manual(slot("a", 1), customers(&["acme"])).await.unwrap().claim.unwrap();
    let id = claim.deliveries[0].1;
    let attempt = ledger.attempt_started(id, None).await.unwrap();
    assert_eq!((attempt.number, attempt.tries), (1, 0));
    ledger.failed(attempt.id, passing(), Some(due)).await.unwrap();
    let open = ledger.open_delivery(id).await.unwrap();
    assert_eq!((open.state, open.tries, open.due), (DeliveryState::Waiting, 1, Some(due)));
    assert_eq!(ledger.unfinished().await.unwrap()[0].deliveries, [open]);

    let attempt = ledger.attempt_started(id, None).await.unwrap();
    assert_eq!((attempt.number, attempt.tries), (2, 1));
    assert_eq!(ledger.open_delivery(id).await.unwrap().due, None);
    let object = [object(&key(&slot("a", 1), "rows.csv"), "u1")];
    ledger.upload_created(attempt.id, &key(&slot("a", 1), "rows.csv"), "u1").await.unwrap();
    ledger.sealed(attempt.id, &object).await.unwrap();
    for tries in [2, 3] {
        ledger.failed(attempt.id, passing(), Some(due)).await.unwrap();
        let open = ledger.open_delivery(id).await.unwrap();
        assert_eq!((open.state, open.tries, open.due), (DeliveryState::Sealed, tries, Some(due)));
        assert_eq!(open.attempt.unwrap().state, AttemptState::Sealed);
        assert!(ledger.run_finished(claim.run).await.is_err(), "a sealed delivery is still to come");
    }
    ledger.committed(attempt.id, receipt(&object)).await.unwrap();
    let open = ledger.open_delivery(id).await.unwrap();
    assert_eq!((open.state, open.due), (DeliveryState::Committed, None));
    assert_eq!(ledger.run_finished(claim.run).await.unwrap(), RunState::Succeeded);
}

#[tokio::test]
async fn what_an_attempt_left_says_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slot = slot("a", 1);
    let claim = ledger.start_manual(slot.clone(), customers(&["acme"])).await.unwrap().claim.unwrap();
    let there = Destination { endpoint: Some("http://127.0.0.1:9000/".into()), ..destination("in/m") };
    let attempt = ledger.attempt_started(claim.deliveries[0].1, Some(there.clone())).await.unwrap();
    ledger.upload_created(attempt.id, &key(&slot, "rows.csv"), "u1").await.unwrap();
    let left = ledger.unfinished().await.unwrap();
    let open = &left[0].deliveries[0];
    assert_eq!(open.attempt.as_ref().unwrap().destination, Some(there.clone()));
    assert_eq!(open.uploads[0].destination, Some(there));
    ledger.upload_abandoned(attempt.id, "u1").await.unwrap();
    assert!(ledger.unfinished().await.unwrap()[0].deliveries[0].uploads.is_empty());
    let shown = ledger.reader().run(claim.run).await.unwrap();
    assert_eq!(shown.deliveries[0].attempts[0].uploads[0].state, UploadState::Abandoned);
}

#[tokio::test]
async fn a_command_that_fails_undoes_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let claim = ledger.start_manual(slot("a", 1), customers(&["acme"])).await.unwrap().claim.unwrap();
    let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap();
    let good = object(&key(&slot("a", 1), "rows.csv"), "u1");
    ledger.sealed(attempt.id, std::slice::from_ref(&good)).await.unwrap();
    let mut wrong = receipt(std::slice::from_ref(&good));
    wrong.objects[0].key = "elsewhere".into();
    // Together in the queue, so in one transaction.
    let (bad, planned) =
        tokio::join!(ledger.committed(attempt.id, wrong), ledger.plan(vec![planned(slot("b", 1), &["acme"])], vec![]));
    assert!(matches!(bad, Err(LedgerError::Unknown { .. })), "{bad:?}");
    assert_eq!(planned.unwrap().new, 1);
    assert_eq!(ledger.reader().run(claim.run).await.unwrap().deliveries[0].state, DeliveryState::Sealed);
    ledger.committed(attempt.id, receipt(&[good])).await.unwrap();
}

#[tokio::test]
async fn history_is_filtered_and_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    for (n, name) in ["a", "b", "a"].into_iter().enumerate() {
        let names: &[&str] = if n == 0 { &["acme"] } else { &["acme", "globex"] };
        ledger.start_manual(slot(name, n as i64), customers(names)).await.unwrap();
    }
    let all = History { limit: 9, ..History::default() };
    let list = async |filter: History| {
        let runs = ledger.reader().history(filter).await.unwrap();
        runs.into_iter().map(|run| format!("{}{}", run.share, (run.slot - long_ago()).num_hours())).collect::<Vec<_>>()
    };
    assert_eq!(list(all.clone()).await, ["a2", "b1", "a0"]);
    assert_eq!(list(History { limit: 1, ..all.clone() }).await, ["a2"]);
    assert_eq!(list(History { share: Some(share("a")), ..all.clone() }).await, ["a2", "a0"]);
    assert_eq!(list(History { customer: customers(&["globex"]).pop(), ..all.clone() }).await, ["a2", "b1"]);
    assert!(list(History { state: Some(RunState::Failed), ..all }).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_whole_commits_while_the_writer_works() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let reader = read_only(dir.path());
    let writing = tokio::spawn(async move {
        for n in 0..60 {
            ledger.start_manual(slot("a", n), customers(&["acme", "globex"])).await.unwrap();
        }
        ledger
    });
    let mut seen = 0;
    while seen < 60 {
        let runs = reader.history(History { limit: 100, ..History::default() }).await.unwrap();
        assert!(runs.len() >= seen && runs.iter().all(|run| run.deliveries == 2));
        seen = runs.len();
    }
    drop(writing.await.unwrap());
}

/// Prints how many deliveries a second pass through all their states, each
/// answered only when on disk. Run with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn throughput() {
    const DELIVERIES: i64 = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slots = (0..DELIVERIES).map(|n| planned(slot("a", n), &["acme"])).collect();
    let clock = std::time::Instant::now();
    ledger.plan(slots, Vec::new()).await.unwrap();
    let claims = ledger.claim(usize::MAX, 0).await.unwrap().runs;
    let claimed = clock.elapsed();
    let clock = std::time::Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let claims = std::sync::Arc::new(tokio::sync::Mutex::new(claims));
    for _ in 0..512 {
        let (ledger, claims) = (ledger.clone(), claims.clone());
        tasks.spawn(async move {
            loop {
                let Some(claim) = claims.lock().await.pop() else { break };
                let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap();
                deliver(&ledger, &claim.slot, attempt.id, "u").await.unwrap();
                ledger.run_finished(claim.run).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let rate = DELIVERIES as f64 / clock.elapsed().as_secs_f64();
    println!("{DELIVERIES} slots planned and claimed in {claimed:?}; then {rate:.0} deliveries/s of 5 commits each");
}

on_postgres! {
    a_run_from_slot_to_commit,
    planning_again_changes_nothing_and_cursors_never_go_back,
    skipped_slots_are_on_record_and_are_not_claimed,
    a_repeat_by_hand_only_redoes_what_failed,
    a_slot_sent_early_by_hand_is_still_planned_for_the_others,
    what_a_dead_process_left_is_told_and_can_be_ended,
    an_upload_left_by_a_failed_attempt_is_told_until_it_is_aborted,
    a_slot_is_not_done_while_a_run_by_hand_is_at_work,
    a_manifest_key_belongs_to_one_slot,
    what_is_to_be_tried_again_says_when,
    what_an_attempt_left_says_where_it_is,
    a_command_that_fails_undoes_only_itself,
    history_is_filtered_and_newest_first,
    readers_see_whole_commits_while_the_writer_works,
    #[ignore = "a measurement"] throughput,
}
