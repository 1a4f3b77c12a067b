//! Several processes on one ledger, which only PostgreSQL has: they share the
//! work, take over what a dead one left, and who was taken for dead writes nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use consign::clock::Clock;
use consign::config::{Database, Overlap};
use consign::domain::Slot;
use consign::ledger::{Attempt, Claim, DeliveryState, History, Ledger, LedgerError, Planned, Reader, RunState};

use super::{customers, deliver, destination, key, object, passing, planned, receipt, share, slot, start};
use crate::support::postgres::{LEASE, Postgres, SHORT_LEASE};

/// What another node does when the lease of the last one has run out: it has its
/// row to itself, so that what is under way there is over.
pub(super) const TAKE_FOR_DEAD: &str = "UPDATE nodes SET state = 'dead', ended_at = clock_timestamp()
    WHERE id = (SELECT id FROM nodes ORDER BY id DESC LIMIT 1 FOR UPDATE)";

/// A ledger in a schema of its own.
pub(super) struct Shared {
    pub(super) server: &'static Postgres,
    pub(super) schema: String,
}

impl Shared {
    pub(super) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let schema = format!("shared{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Some(Self { server: Postgres::shared()?, schema })
    }

    pub(super) fn database(&self) -> Database {
        self.server.database(&self.schema)
    }

    /// Another process, as far as the ledger can tell.
    pub(super) fn open(&self) -> Ledger {
        Ledger::connect(&self.database(), Clock::fixed(start())).unwrap()
    }

    pub(super) fn psql(&self, sql: &str) -> String {
        self.server.psql(&format!("SET search_path TO {}; {sql}", self.schema))
    }

    pub(super) async fn is_sound(&self) {
        let reader = Reader::connect(&self.database()).unwrap();
        assert_eq!(reader.check().await.unwrap().findings, Vec::<String>::new());
    }
}

/// A delivery of the `n`-th slot at work.
pub(super) async fn begun(ledger: &Ledger, n: i64) -> (Slot, Claim, Attempt) {
    let slot = slot("orders", n);
    let claim = ledger.start_manual(slot.clone(), customers(&["acme"])).await.unwrap().claim.unwrap();
    let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap();
    ledger.upload_created(attempt.id, &key(&slot, "rows.csv"), "u1").await.unwrap();
    (slot, claim, attempt)
}

pub(super) fn is_fenced<T: std::fmt::Debug>(result: Result<T, LedgerError>) -> bool {
    matches!(result, Err(LedgerError::Fenced))
}

/// Whatever a node says after it was taken for dead changes nothing: 100 of 100.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_were_taken_for_dead_write_nothing() {
    let Some(shared) = Shared::new() else { return };
    let next = shared.open();
    let mut refused = 0;
    for round in 0..4 {
        let late = shared.open();
        let mut work = Vec::new();
        for n in 0..25 {
            let (slot, claim, attempt) = begun(&late, round * 25 + n).await;
            let objects = vec![object(&key(&slot, "rows.csv"), "u1")];
            if n % 2 == 0 {
                late.sealed(attempt.id, &objects).await.unwrap();
            }
            work.push((claim, attempt, objects, n % 2 == 0));
        }
        shared.psql(TAKE_FOR_DEAD);
        for (claim, attempt, objects, sealed) in &work {
            let said = match sealed {
                true => late.committed(attempt.id, receipt(objects)).await,
                false => late.sealed(attempt.id, objects).await,
            };
            refused += usize::from(is_fenced(said));
            assert!(is_fenced(late.failed(attempt.id, passing(), None).await));
            assert!(is_fenced(late.run_finished(claim.run).await));
        }
        assert!(is_fenced(late.plan(vec![planned(slot("other", round), &["acme"])], vec![]).await));
        assert!(is_fenced(late.is_ours().await));
        let left = next.unfinished().await.unwrap();
        assert_eq!(left.len(), 25);
        for (left, (_, attempt, objects, sealed)) in left.iter().zip(&work) {
            let expected = if *sealed { DeliveryState::Sealed } else { DeliveryState::Working };
            assert_eq!(left.deliveries[0].state, expected);
            if !sealed {
                next.sealed(attempt.id, objects).await.unwrap();
            }
            next.committed(attempt.id, receipt(objects)).await.unwrap();
            assert_eq!(next.run_finished(left.run).await.unwrap(), RunState::Succeeded);
        }
    }
    assert_eq!(refused, 100);
    shared.is_sound().await;
}

/// A completion that is under way while its node is taken for dead counts once:
/// either it, or that of the node that took over.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_race_with_who_takes_over_commit_once() {
    let Some(shared) = Shared::new() else { return };
    let next = shared.open();
    for n in 0..20 {
        let late = shared.open();
        let (slot, _, attempt) = begun(&late, n).await;
        let objects = vec![object(&key(&slot, "rows.csv"), "u1")];
        late.sealed(attempt.id, &objects).await.unwrap();
        let pause = Duration::from_millis(3 * n.unsigned_abs());
        let (own, other) = tokio::join!(
            async {
                tokio::time::sleep(pause).await;
                late.committed(attempt.id, receipt(&objects)).await
            },
            async {
                tokio::task::block_in_place(|| shared.psql(TAKE_FOR_DEAD));
                next.unfinished().await.unwrap();
                next.committed(attempt.id, receipt(&objects)).await
            }
        );
        assert!(own.is_ok() != other.is_ok(), "{own:?} {other:?}");
    }
    shared.is_sound().await;
}

/// The lease of a process that is no more runs out, and others have its work then.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_take_over_when_a_lease_runs_out() {
    let Some(shared) = Shared::new() else { return };
    let gone = shared.open();
    let (_, claim, _) = begun(&gone, 1).await;
    // Nobody renews this one.
    shared.psql(
        "UPDATE nodes SET id = DEFAULT WHERE id = 1;
         UPDATE runs SET node = (SELECT max(id) FROM nodes)",
    );
    let lease = SHORT_LEASE * 2;
    let database = Database::new(&shared.server.url(), &shared.schema, lease);
    let next = Ledger::connect(&database, Clock::fixed(start())).unwrap();
    assert!(next.unfinished().await.unwrap().is_empty(), "it is alive");
    shared.psql("UPDATE nodes SET lease_until = clock_timestamp() WHERE id IN (SELECT node FROM runs)");
    let begun = std::time::Instant::now();
    let left = loop {
        let left = next.left_by_others([].into()).await.unwrap();
        if !left.is_empty() {
            break left;
        }
        assert!(begun.elapsed() < lease * 5);
        tokio::time::sleep(next.heartbeat().unwrap() / 4).await;
    };
    assert_eq!((left[0].run, left[0].taken_over), (claim.run, true));
    assert!(!next.left_by_others([].into()).await.unwrap()[0].taken_over, "now it is its own");
    assert!(next.left_by_others([claim.run].into()).await.unwrap().is_empty(), "it is this one's now, and known");
    assert!(is_fenced(gone.is_ours().await), "its node has another number by now");
}

/// Who ends leaves its work at once, and nobody waits for its lease.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_end_leave_their_work_at_once() {
    let Some(shared) = Shared::new() else { return };
    let first = shared.open();
    let (.., claim, _) = begun(&first, 1).await;
    let second = shared.open();
    assert_eq!(second.heartbeat(), Some(LEASE / 3));
    assert!(second.unfinished().await.unwrap().is_empty());
    drop(first);
    assert_eq!(shared.psql("SELECT state FROM nodes WHERE id = 1"), "left", "it has waited to say so");
    let left = second.unfinished_of(&slot("orders", 2), false).await.unwrap();
    assert!(left.is_empty(), "of another slot");
    assert_eq!(second.unfinished_of(&slot("orders", 1), false).await.unwrap()[0].run, claim.run);
}

/// Every slot is claimed once, by whichever asks first; planning is the same for all.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_what_there_is_to_begin() {
    let Some(shared) = Shared::new() else { return };
    let nodes = [shared.open(), shared.open(), shared.open()];
    let plan = || (0..60).map(|n| planned(slot(&format!("share-{}", n % 12), n), &["acme"])).collect::<Vec<_>>();
    let cursors = || (0..12).map(|n| (share(&format!("share-{n}")), slot("a", 60).at)).collect::<Vec<_>>();
    let new = futures::future::join_all(nodes.iter().map(|node| node.plan(plan(), cursors()))).await;
    assert_eq!(new.into_iter().map(|recorded| recorded.unwrap().new).sum::<usize>(), 60);
    let work = |node: Ledger| async move {
        let mut begun = Vec::new();
        let mut idle = 0;
        while idle < 5 {
            let claims = node.claim(2, 0).await.unwrap();
            idle = if claims.runs.is_empty() { idle + 1 } else { 0 };
            for claim in claims.runs {
                let attempt = node.attempt_started(claim.deliveries[0].1, None).await.unwrap();
                deliver(&node, &claim.slot, attempt.id, "u1").await.unwrap();
                assert_eq!(node.run_finished(claim.run).await.unwrap(), RunState::Succeeded);
                begun.push(claim.slot);
            }
        }
        begun
    };
    let tasks: Vec<_> = nodes.iter().map(|node| tokio::spawn(work(node.clone()))).collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    assert_eq!(all.len(), 60);
    all.sort_by_key(|slot| slot.at);
    all.dedup();
    assert_eq!(all.len(), 60, "none twice");
    let not_done = shared.psql("SELECT count(*) FROM slots WHERE state <> 'done'");
    assert_eq!(not_done, "0");
    shared.is_sound().await;
}

/// What is at work on one node is in the way on another, and what is given up
/// there is told to its own.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_heed_what_is_at_work_elsewhere() {
    let Some(shared) = Shared::new() else { return };
    let (one, two) = (shared.open(), shared.open());
    let plan = |overlap, n| vec![Planned { overlap, ..planned(slot("a", n), &["acme"]) }];
    one.plan(plan(Overlap::Queue, 1), vec![]).await.unwrap();
    let first = one.claim(1, 0).await.unwrap().runs.remove(0);
    two.plan(plan(Overlap::Queue, 2), vec![]).await.unwrap();
    let claims = two.claim(9, 0).await.unwrap();
    assert_eq!((claims.runs.len(), claims.looked_at), (0, 1), "it is held");
    two.plan(plan(Overlap::Cancel, 3), vec![]).await.unwrap();
    assert!(one.cancelled().await.unwrap().is_empty());
    let claims = two.claim(9, 0).await.unwrap();
    assert_eq!(claims.cancelled, [first.deliveries[0].1]);
    assert_eq!(one.cancelled().await.unwrap(), [first.deliveries[0].1]);
    assert!(two.cancelled().await.unwrap().is_empty(), "it is not this one's");
    let attempt = one.attempt_started(first.deliveries[0].1, None).await.unwrap();
    one.failed(attempt.id, passing(), None).await.unwrap();
    one.run_finished(first.run).await.unwrap();
    assert_eq!(two.claim(9, 0).await.unwrap().runs.len(), 1, "what was held goes on");
    shared.is_sound().await;
}

/// Of two that begin at once with one key, one does.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_no_key() {
    let Some(shared) = Shared::new() else { return };
    let (one, two) = (shared.open(), shared.open());
    for n in 0..30 {
        let begin = async |ledger: &Ledger, name: &str| {
            let claim = ledger.start_manual(slot(name, n), customers(&["acme"])).await.unwrap().claim.unwrap();
            claim.deliveries[0].1
        };
        let (a, b) = (begin(&one, "a").await, begin(&two, "b").await);
        let to = Some(destination(&format!("{n}/_manifest.json")));
        let (a, b) = tokio::join!(one.attempt_started(a, to.clone()), two.attempt_started(b, to));
        let refused = [a.err(), b.err()].into_iter().flatten().collect::<Vec<_>>();
        assert!(matches!(refused[..], [LedgerError::KeyTaken { .. }]), "{n}: {refused:?}");
    }
}

/// Held at the very time at which what it waits for comes to its end: neither
/// sees the other, and the next look finds it.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_find_what_was_held_for_nothing() {
    let Some(shared) = Shared::new() else { return };
    let node = shared.open();
    node.plan(vec![planned(slot("a", 1), &["acme"])], vec![]).await.unwrap();
    shared.psql("UPDATE slots SET state = 'held'");
    assert_eq!(node.claim(9, 0).await.unwrap().runs.len(), 1);
}

/// The same for one customer, while others of the share are at work: a heartbeat finds it.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_find_who_waits_for_nothing() {
    let Some(shared) = Shared::new() else { return };
    let node = shared.open();
    let plan = |n| Planned { overlap: Overlap::Queue, ..planned(slot("a", n), &["acme", "globex"]) };
    node.plan(vec![plan(1), plan(2)], vec![]).await.unwrap();
    assert_eq!(node.claim(9, 0).await.unwrap().runs.len(), 1);
    assert!(!node.release_idle().await.unwrap(), "both wait for the first slot");
    shared.psql("UPDATE deliveries SET state = 'failed' WHERE customer = 'acme'");
    assert_eq!(node.claim(9, 0).await.unwrap().looked_at, 0);
    assert!(node.release_idle().await.unwrap());
    let next = node.claim(9, 0).await.unwrap().runs.remove(0);
    assert_eq!((next.slot, next.deliveries.len()), (slot("a", 2), 1));
    assert_eq!(next.deliveries[0].0.as_str(), "acme");
    assert!(!node.release_idle().await.unwrap(), "globex has the first slot at work");
}

/// Pauses and plans of several at once: nothing that is paused stays pending.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_pause_for_all() {
    let Some(shared) = Shared::new() else { return };
    let (one, two) = (shared.open(), shared.open());
    for n in 0..20 {
        let plan = vec![planned(slot("a", n), &["acme"])];
        let (paused, planned) = tokio::join!(one.pause(share("a")), two.plan(plan, vec![]));
        paused.unwrap();
        planned.unwrap();
        assert!(two.claim(9, 0).await.unwrap().runs.is_empty());
        two.resume(share("a")).await.unwrap();
    }
}

/// The database restarts in the middle of it: commands wait, none counts twice, none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_go_on_when_the_database_comes_back() {
    let Some(mut server) = Postgres::start() else { return };
    let database = Database::new(&server.url(), "consign", Duration::from_secs(60));
    let ledger = Ledger::connect(&database, Clock::fixed(start())).unwrap();
    let work = |task: i64| {
        let ledger = ledger.clone();
        async move {
            for n in 0..60 {
                let (slot, claim, attempt) = begun(&ledger, task * 1000 + n).await;
                let objects = [object(&key(&slot, "rows.csv"), "u1")];
                ledger.sealed(attempt.id, &objects).await.unwrap();
                ledger.committed(attempt.id, receipt(&objects)).await.unwrap();
                ledger.run_finished(claim.run).await.unwrap();
            }
        }
    };
    let tasks: Vec<_> = (0..4).map(|task| tokio::spawn(work(task))).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..3 {
        tokio::task::block_in_place(|| server.restart(Duration::from_millis(300)));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let runs = ledger.reader().history(History { limit: 999, ..History::default() }).await.unwrap();
    assert_eq!(runs.iter().filter(|run| run.state == RunState::Succeeded).count(), 240);
    assert_eq!(runs.len(), 240, "none was begun twice");
    assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
}

/// Sent by hand from two machines at once: one has it, the other says who.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_send_the_same_slot_once() {
    let Some(shared) = Shared::new() else { return };
    let nodes = [shared.open(), shared.open()];
    for n in 0..20 {
        let [one, two] = nodes.each_ref().map(|node| node.start_manual(slot("a", n), customers(&["acme", "globex"])));
        let (one, two) = tokio::join!(one, two);
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(usize::from(one.claim.is_some()) + usize::from(two.claim.is_some()), 1);
        assert_eq!(one.busy.len() + two.busy.len(), 2);
    }
    assert_eq!(shared.psql("SELECT count(*) FROM runs WHERE origin = 'manual'"), "20");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_refuse_what_is_not_their_ledger() {
    let Some(shared) = Shared::new() else { return };
    let opened = |database: &Database| Ledger::connect(database, Clock::fixed(start())).err().unwrap().to_string();
    let missing = Reader::connect(&shared.database()).err().unwrap();
    assert!(matches!(missing, LedgerError::Missing { .. }), "{missing}");
    drop(shared.open());
    shared.psql("UPDATE consign_ledger SET version = 99");
    assert!(opened(&shared.database()).contains("has version 99"));
    shared.server.psql("CREATE SCHEMA other; CREATE TABLE other.things (id INT)");
    assert!(opened(&shared.server.database("other")).contains("tables of another program"));
    let at = |url: &str| opened(&Database::new(url, "consign", LEASE));
    let url = shared.server.url();
    let no_database = at(&url.replace("/postgres", "/nowhere"));
    assert!(no_database.contains("nowhere") && no_database.contains("createdb"), "{no_database}");
    let no_answer = at("postgres://consign:secret@127.0.0.1:1/postgres");
    assert!(
        no_answer.contains("postgres://127.0.0.1:1/postgres") && no_answer.contains("runs and listens"),
        "{no_answer}"
    );
    assert!(!no_answer.contains("secret"), "{no_answer}");
    let no_user = at(&url.replace("consign@", "nobody@"));
    assert!(no_user.contains("\"nobody\"") && no_user.contains("pg_hba.conf"), "{no_user}");
    shared.server.psql("CREATE ROLE poor LOGIN; REVOKE ALL ON DATABASE postgres FROM poor");
    let no_right = at(&url.replace("consign@", "poor@"));
    assert!(no_right.contains("permission denied") && no_right.contains("grant"), "{no_right}");
}

/// A certificate that nobody vouches for, or of another host, is not answered to.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_check_who_answers() {
    let Some(server) = Postgres::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(authority) = server.with_tls(dir.path()) else { return };
    let at = |host: &str, query: &str| {
        let url = server.url().replace("127.0.0.1", host) + "?" + query;
        Ledger::connect(&Database::new(&url, "consign", LEASE), Clock::fixed(start()))
            .map_err(|error| error.to_string())
    };
    let trusted = format!("sslmode=verify-full&sslrootcert={}", authority.display());
    // The server hears of its certificate a moment after it was told.
    let told = std::time::Instant::now();
    let ledger = loop {
        match at("localhost", &trusted) {
            Ok(ledger) => break ledger,
            Err(error) => assert!(told.elapsed() < LEASE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    ledger.plan(vec![planned(slot("a", 1), &["acme"])], vec![]).await.unwrap();
    let unencrypted = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity USING (pid)
                       WHERE application_name = 'consign' AND NOT ssl";
    assert_eq!(server.psql(unencrypted), "0");
    let unknown = at("localhost", "sslmode=verify-full").err().unwrap();
    assert!(unknown.contains("UnknownIssuer") && unknown.contains("sslrootcert"), "{unknown}");
    let other = at("127.0.0.1", &trusted).err().unwrap();
    assert!(other.contains("not valid for name") && other.contains("as its certificate does"), "{other}");
}
