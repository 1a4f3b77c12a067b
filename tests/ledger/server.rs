//! What a server of PostgreSQL, its settings and what is in between do to the
//! nodes of a ledger, and what they do with it.

use std::time::{Duration, Instant};

use consign::clock::Clock;
use consign::config::Database;
use consign::domain::{Failure, Layer, Retry, SkipReason};
use consign::ledger::{DeliveryState, Ledger, LedgerError, Planned, RunState};
use tokio::time::timeout;
use tokio_postgres::NoTls;

use super::nodes::{Shared, begun, is_fenced};
use super::{customers, deliver, planned, share, slot, start};
use crate::support::postgres::{LEASE, Postgres, SHORT_LEASE};
use crate::support::way::{NOWHERE, Way};

impl Shared {
    /// A ledger of a user of its own, with settings of its own.
    fn of_user(&self, settings: &[&str]) -> Database {
        let user = format!("user_{}", self.schema);
        self.server.psql(&format!("CREATE ROLE {user} LOGIN; GRANT CREATE ON DATABASE postgres TO {user}"));
        for setting in settings {
            self.server.psql(&format!("ALTER ROLE {user} SET {setting}"));
        }
        Database::new(&self.server.url().replace("consign@", &format!("{user}@")), &self.schema, LEASE)
    }

    /// Ends all connections of that user.
    fn end_connections(&self) {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename =";
        self.server.psql(&format!("{end} 'user_{}'", self.schema));
    }

    /// Another writer, in the middle of a transaction that has done this.
    async fn writer(&self, first: &str) -> Writer {
        let (client, connection) = tokio_postgres::connect(&self.server.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let begin = format!("BEGIN; SET LOCAL search_path TO {}; {first}", self.schema);
        client.batch_execute(&begin).await.unwrap();
        Writer(client)
    }

    /// Marks those dead whose lease has run out, as another node does; returns the states of all.
    fn reap(&self) -> String {
        self.psql(
            "UPDATE nodes SET state = 'dead', ended_at = clock_timestamp()
             WHERE state = 'alive' AND lease_until < clock_timestamp();
             SELECT string_agg(state, ' ' ORDER BY id) FROM nodes",
        )
    }
}

/// Its transaction is open until it goes on.
struct Writer(tokio_postgres::Client);

impl Writer {
    /// Until somebody waits for it.
    async fn is_waited_for(&self) {
        let waits = "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))";
        let began = Instant::now();
        while self.0.query(waits, &[]).await.unwrap().is_empty() {
            assert!(began.elapsed() < LEASE, "nobody waits");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// As soon as somebody waits for it.
    async fn goes_on_when_waited_for(self, last: &str) {
        self.is_waited_for().await;
        self.goes_on(last).await;
    }

    /// Does this and commits.
    async fn goes_on(self, last: &str) {
        self.0.batch_execute(&format!("{last}; COMMIT")).await.unwrap();
    }
}

fn connect(database: &Database) -> Ledger {
    Ledger::connect(database, Clock::fixed(start())).unwrap()
}

fn why() -> Failure {
    Failure::new(Layer::Schedule, Retry::Never, "cancelled by root", "`consign retry` begins it again")
}

async fn plan(ledger: &Ledger, n: i64) -> Result<usize, LedgerError> {
    let cursors = vec![(share("orders"), slot("orders", n).at)];
    Ok(ledger.plan(vec![planned(slot("orders", n), &["acme"])], cursors).await?.new)
}

/// A failover, or an operator who wants nothing to be written: it is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_only_reads_is_waited_for() {
    let Some(shared) = Shared::new() else { return };
    let ledger = connect(&shared.of_user(&[]));
    assert_eq!(plan(&ledger, 1).await.unwrap(), 1);
    let user = format!("user_{}", shared.schema);
    shared.server.psql(&format!("ALTER ROLE {user} SET default_transaction_read_only = on"));
    shared.end_connections();
    for _ in 0..2 {
        let error = plan(&ledger, 2).await.unwrap_err();
        assert!(error.passes().is_some() && !error.is_fatal(), "{error:?}");
    }
    shared.server.psql(&format!("ALTER ROLE {user} RESET default_transaction_read_only"));
    assert_eq!(plan(&ledger, 2).await.unwrap(), 1);
}

/// Whatever the server has as its default, a command sees what was committed while it waited.
#[tokio::test(flavor = "multi_thread")]
async fn server_with_another_isolation_has_no_old_pictures() {
    let Some(shared) = Shared::new() else { return };
    let ledger = connect(&shared.of_user(&["default_transaction_isolation = 'repeatable read'"]));
    plan(&ledger, 1).await.unwrap();
    // A pause, by whoever has the lock that is taken for it.
    let lock = format!("SELECT pg_advisory_xact_lock(hashtextextended('{} pauses', 0))", shared.schema);
    let paused = shared.writer(&lock).await;
    let (recorded, ()) = tokio::join!(
        ledger.plan(vec![planned(slot("orders", 2), &["acme"])], vec![]),
        paused.goes_on_when_waited_for("INSERT INTO pauses VALUES ('orders', 1, NULL)"),
    );
    assert_eq!(recorded.unwrap().left_out, [(slot("orders", 2), SkipReason::Paused)]);
}

/// The other way round: a pause leaves out what is being planned.
#[tokio::test(flavor = "multi_thread")]
async fn server_with_a_plan_under_way_has_a_pause_wait_for_it() {
    let Some(shared) = Shared::new() else { return };
    let ledger = connect(&shared.of_user(&["default_transaction_isolation = 'repeatable read'"]));
    plan(&ledger, 1).await.unwrap();
    // A plan, by one of those who have the lock that is taken for it.
    let lock = format!("SELECT pg_advisory_xact_lock_shared(hashtextextended('{} pauses', 0))", shared.schema);
    let plans = shared.writer(&lock).await;
    let copy = "INSERT INTO slots
                    (share, at, interval_start, interval_end, origin, customers, overlap, state, planned_at)
                SELECT share, at + hour, interval_start + hour, interval_end + hour, origin, customers, overlap, state,
                       planned_at FROM slots, (VALUES (3600000000)) AS v (hour)";
    let (paused, ()) = tokio::join!(ledger.pause(share("orders")), plans.goes_on_when_waited_for(copy));
    assert_eq!(paused.unwrap().left_out, [1, 2].map(|n| (slot("orders", n), SkipReason::Paused)));
    assert_eq!(shared.psql("SELECT DISTINCT state FROM slots"), "skipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_with_short_timeouts_has_them_for_others() {
    let Some(shared) = Shared::new() else { return };
    let settings = ["statement_timeout = '200ms'", "lock_timeout = '200ms'", "idle_session_timeout = '200ms'"];
    let ledger = connect(&shared.of_user(&settings));
    plan(&ledger, 1).await.unwrap();
    let busy = shared.writer("LOCK TABLE shares").await;
    // For longer than any of these.
    let (planned, ()) = tokio::join!(plan(&ledger, 2), busy.goes_on_when_waited_for("SELECT pg_sleep(1)"));
    assert_eq!(planned.unwrap(), 1);
}

/// A ledger in a database that does not say what became of a transaction, with the way to it and
/// the database's URL.
async fn untold(shared: &Shared) -> (Ledger, Way, String) {
    let (server, database, user) = (shared.server, format!("db_{}", shared.schema), format!("asks_{}", shared.schema));
    server.psql(&format!("CREATE DATABASE {database}"));
    let way = Way::to(server.port());
    let here = server.url().replace("/postgres", &format!("/{database}"));
    let rights = |sql: &str| drop(Postgres::ask(&here, sql));
    rights(&format!("CREATE ROLE {user} LOGIN; REVOKE EXECUTE ON FUNCTION pg_xact_status FROM PUBLIC"));
    rights(&format!("GRANT CREATE ON DATABASE {database} TO {user}"));
    let url = format!("postgres://{user}@127.0.0.1:{}/{database}", way.port);
    let ledger = connect(&Database::new(&url, "consign", LEASE));
    plan(&ledger, 1).await.unwrap();
    (ledger, way, here)
}

/// What comes of it. A writer that goes on for ever is not waited for.
async fn answer<T>(ledger: &Ledger, asked: impl Future<Output = T>) -> T {
    match timeout(LEASE, asked).await {
        Ok(came) => came,
        Err(_) => {
            ledger.clone().forsake();
            panic!("there is no answer");
        }
    }
}

/// An answer to COMMIT is lost, and the server does not say at once whether it counts:
/// it is asked until it does, and nothing is done twice.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_does_not_say_what_counts_is_asked_again() {
    let Some(shared) = Shared::new() else { return };
    let (ledger, way, here) = untold(&shared).await;
    way.loses_the_next_commit();
    let planned = tokio::spawn({
        let ledger = ledger.clone();
        async move { plan(&ledger, 2).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!planned.is_finished());
    Postgres::ask(&here, "GRANT EXECUTE ON FUNCTION pg_xact_status TO PUBLIC");
    assert_eq!(planned.await.unwrap().unwrap(), 1, "done again, it would be none");
}

/// It never does: nobody can know, so that nothing more is written before somebody has looked.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_never_says_what_counts_ends_the_daemon() {
    let Some(shared) = Shared::new() else { return };
    let (ledger, way, here) = untold(&shared).await;
    way.loses_the_next_commit();
    let error = answer(&ledger, plan(&ledger, 2)).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unsure) && error.is_fatal(), "{error:?}");
    assert_eq!(Postgres::ask(&here, "SELECT count(*) FROM consign.slots"), "2", "it did count");
}

/// Nor does a server that is no more.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_gone_with_its_answer_to_a_commit_ends_the_daemon() {
    let Some(shared) = Shared::new() else { return };
    let way = Way::to(shared.server.port());
    let url = format!("postgres://consign@127.0.0.1:{}/postgres", way.port);
    let ledger = connect(&Database::new(&url, &shared.schema, LEASE));
    plan(&ledger, 1).await.unwrap();
    way.loses_the_next_commit_and_leads_to(NOWHERE);
    let error = answer(&ledger, plan(&ledger, 2)).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unsure) && error.is_fatal(), "{error:?}");
    assert_eq!(shared.psql("SELECT count(*) FROM slots"), "2", "it did count");
}

/// For longer than a command waits: whoever asks is told so, and goes on when it is there again.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_away_for_longer_than_anybody_waits_is_used_again() {
    let Some(shared) = Shared::new() else { return };
    let way = Way::to(shared.server.port());
    shared.of_user(&[]);
    let url = format!("postgres://user_{}@127.0.0.1:{}/postgres", shared.schema, way.port);
    let ledger = connect(&Database::new(&url, &shared.schema, LEASE));
    plan(&ledger, 1).await.unwrap();
    ledger.reader().pauses().await.unwrap();
    way.leads_to(NOWHERE);
    shared.end_connections();
    let both = async { tokio::join!(plan(&ledger, 2), ledger.reader().pauses()) };
    let (planned, read) = answer(&ledger, both).await;
    let again = answer(&ledger, ledger.reader().pauses()).await;
    for error in [planned.unwrap_err(), read.unwrap_err(), again.unwrap_err()] {
        assert!(matches!(error, LedgerError::Away { .. }) && error.passes().is_some(), "{error:?}");
    }
    way.leads_to(shared.server.port());
    // The reader has one connection, and the writers have three, any of which may be asked.
    answer(&ledger, ledger.reader().pauses()).await.unwrap();
    for n in 2..10 {
        assert_eq!(answer(&ledger, plan(&ledger, n)).await.unwrap(), 1);
    }
    assert_eq!(shared.psql("SELECT count(*) FROM slots"), "9");
}

/// A failover: who cannot know of a COMMIT does not say what became of it, and what the new server
/// has never heard of is done again there.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_takes_over_is_believed_when_it_is_no_standby() {
    let Some(first) = Postgres::start() else { return };
    let way = Way::to(first.port());
    let url = format!("postgres://consign@127.0.0.1:{}/postgres", way.port);
    let ledger = connect(&Database::new(&url, "consign", LEASE));
    plan(&ledger, 1).await.unwrap();
    let standby = first.standby();
    way.loses_the_next_commit_and_leads_to(standby.port());
    let (led, sent) = (way.led(), ledger.clone());
    let planned = tokio::spawn(async move { plan(&sent, 2).await });
    let began = Instant::now();
    // One connection may be to the first server, and each further one is made when the standby has answered on the
    // one before.
    while way.led() < led + 3 {
        assert!(!planned.is_finished() && began.elapsed() < LEASE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    way.leads_to(first.port());
    assert_eq!(planned.await.unwrap().unwrap(), 1, "done again, it would be none");

    standby.psql("SELECT pg_promote()");
    way.loses_the_next_commit_and_leads_to(standby.port());
    assert_eq!(answer(&ledger, plan(&ledger, 3)).await.unwrap(), 1);
    let slots = |server: &Postgres| server.psql("SELECT count(*), max(at) - min(at) FROM consign.slots");
    assert_eq!((slots(&first), slots(&standby)), ("3|7200000000".to_owned(), "2|7200000000".to_owned()));
}

/// Nor is anything taken for done that is not: here COMMIT never arrives, and the transaction is still open.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_has_not_heard_of_a_commit_hears_of_it_all_again() {
    let Some(shared) = Shared::new() else { return };
    let way = Way::to(shared.server.port());
    let url = format!("postgres://consign@127.0.0.1:{}/postgres", way.port);
    let ledger = connect(&Database::new(&url, &shared.schema, LEASE));
    plan(&ledger, 1).await.unwrap();
    way.swallows_the_next_commit();
    assert_eq!(plan(&ledger, 2).await.unwrap(), 1);
    assert_eq!(shared.psql("SELECT count(*) FROM slots"), "2");
}

/// Whoever was in the way may not be there again.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_ends_a_transaction_for_another_one_is_asked_again() {
    let Some(shared) = Shared::new() else { return };
    let ledger = shared.open();
    // What a sequence has given is not taken back.
    shared.psql(
        "CREATE SEQUENCE tries;
         CREATE FUNCTION in_the_way() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries') <= 2 THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER in_the_way BEFORE INSERT ON slots FOR EACH ROW EXECUTE FUNCTION in_the_way()",
    );
    assert_eq!(plan(&ledger, 1).await.unwrap(), 1);
    assert_eq!(shared.psql("SELECT count(*) FROM slots"), "1");
}

/// That passes when somebody mends it, and nobody would if it was only waited for.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_refuses_for_good_ends_the_daemon() {
    let Some(shared) = Shared::new() else { return };
    let ledger = shared.open();
    plan(&ledger, 1).await.unwrap();
    shared.psql("ALTER TABLE slots RENAME TO gone");
    let error = plan(&ledger, 2).await.unwrap_err();
    assert!(matches!(error, LedgerError::Database { .. }) && error.is_fatal(), "{error:?}");
    assert_eq!(error.passes(), None);
}

/// Two that judge a share's slots at the same time would each miss what the other one begins.
#[tokio::test(flavor = "multi_thread")]
async fn server_with_a_share_judged_elsewhere_has_it_left_alone() {
    let Some(shared) = Shared::new() else { return };
    let ledger = shared.open();
    for name in ["a", "b"] {
        ledger.plan(vec![planned(slot(name, 1), &["acme"])], vec![]).await.unwrap();
    }
    let lock = format!("SELECT pg_advisory_xact_lock(hashtextextended('{} share a', 0))", shared.schema);
    let other = shared.writer(&lock).await;
    let begun = async || ledger.claim(9, 0).await.unwrap().runs.into_iter().map(|claim| claim.slot).collect::<Vec<_>>();
    assert_eq!(begun().await, [slot("b", 1)]);
    other.goes_on("SELECT 1").await;
    assert_eq!(begun().await, [slot("a", 1)]);
}

/// Two nodes end the last two runs of a slot: if neither waited for the other one, each would see that
/// run at work, and the slot would never end.
#[tokio::test(flavor = "multi_thread")]
async fn server_with_two_runs_of_a_slot_ending_has_the_slot_end() {
    let Some(shared) = Shared::new() else { return };
    let ledger = shared.open();
    let slot = slot("orders", 1);
    let mut runs = Vec::new();
    for (name, upload) in [("acme", "u1"), ("globex", "u2")] {
        let claim = ledger.start_manual(slot.clone(), customers(&[name])).await.unwrap().claim.unwrap();
        let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap();
        deliver(&ledger, &slot, attempt.id, upload).await.unwrap();
        runs.push(claim.run);
    }
    // The other one has looked, and its run has yet to end for all others.
    let looks = "SELECT FROM slots FOR UPDATE; UPDATE runs SET state = 'succeeded', finished_at = 1 WHERE seq = 1";
    let other = shared.writer(looks).await;
    let (ended, ()) = tokio::join!(ledger.run_finished(runs[1]), other.goes_on_when_waited_for("SELECT 1"));
    assert_eq!(ended.unwrap(), RunState::Succeeded);
    assert_eq!(shared.psql("SELECT state FROM slots"), "done");
    shared.is_sound().await;
}

/// Whoever ends at once need not wait until what was sent is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_keeps_a_writer_waiting_keeps_nobody_who_forsakes_it() {
    let Some(shared) = Shared::new() else { return };
    let ledger = shared.open();
    let busy = shared.writer("LOCK TABLE slots").await;
    let sent = ledger.clone();
    let planned = tokio::spawn(async move { plan(&sent, 1).await });
    busy.is_waited_for().await;
    planned.abort();
    assert!(planned.await.unwrap_err().is_cancelled());
    let forsaken = tokio::task::spawn_blocking(move || ledger.forsake());
    let forsaken = timeout(Duration::from_secs(15), forsaken).await;
    busy.is_waited_for().await;
    busy.goes_on("SELECT 1").await;
    forsaken.expect("it waits for the writer").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn server_behind_a_pooler_of_transactions_is_refused() {
    let Some(shared) = Shared::new() else { return };
    let way = Way::to(shared.server.port());
    shared.of_user(&[]);
    let url = format!("postgres://user_{}@127.0.0.1:{}/postgres", shared.schema, way.port);
    let database = Database::new(&url, &shared.schema, LEASE);
    let ledger = connect(&database);
    plan(&ledger, 1).await.unwrap();
    ledger.reader().pauses().await.unwrap();
    way.pools();
    shared.end_connections();
    let error = plan(&ledger, 2).await.unwrap_err();
    assert!(matches!(error, LedgerError::Pooled) && error.is_fatal(), "{error:?}");
    assert!(error.to_string().contains("have it pool sessions"), "{error}");
    assert!(matches!(ledger.reader().pauses().await, Err(LedgerError::Pooled)));
    assert!(matches!(Ledger::connect(&database, Clock::fixed(start())), Err(LedgerError::Pooled)));
    assert_eq!(shared.psql("SELECT count(*) FROM slots"), "1");
}

/// The connection of the heart is open and leads nowhere: it is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_goes_silent_does_not_cost_the_lease() {
    let Some(shared) = Shared::new() else { return };
    let way = Way::to(shared.server.port());
    let url = format!("postgres://consign@127.0.0.1:{}/postgres", way.port);
    let lease = SHORT_LEASE * 6;
    let node = connect(&Database::new(&url, &shared.schema, lease));
    let renewed = async || {
        let until = || shared.psql("SELECT lease_until FROM nodes");
        let (before, began) = (until(), Instant::now());
        while until() == before {
            assert_eq!(shared.reap(), "alive");
            assert!(began.elapsed() < lease * 2);
            tokio::time::sleep(lease / 100).await;
        }
    };
    // Over the connection that goes silent then.
    renewed().await;
    way.goes_silent();
    renewed().await;
    node.is_ours().await.unwrap();
}

/// Nobody could renew a lease, so that nobody is dead for it.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_away_for_longer_than_a_lease_costs_nobody_its_work() {
    let Some(mut server) = Postgres::start() else { return };
    let lease = SHORT_LEASE * 3;
    let database = Database::new(&server.url(), "consign", lease);
    let nodes = [connect(&database), connect(&database), connect(&database)];
    // Each of them may take others for dead by now.
    tokio::time::sleep(lease * 3 / 2).await;
    tokio::task::block_in_place(|| server.restart(lease * 3 / 2));
    tokio::time::sleep(lease * 3 / 2).await;
    for (n, node) in (1..).zip(&nodes) {
        node.is_ours().await.unwrap();
        assert_eq!(plan(node, n).await.unwrap(), 1);
    }
    // And who is gone from then on is.
    server.psql("INSERT INTO consign.nodes (name, state, lease_until) VALUES ('gone', 'alive', clock_timestamp())");
    let began = Instant::now();
    while server.psql("SELECT state FROM consign.nodes WHERE name = 'gone'") != "dead" {
        assert!(began.elapsed() < lease * 5);
        tokio::time::sleep(lease / 10).await;
    }
}

/// A machine that slept with its database and its nodes: by the database's clock all leases ran out at
/// once. Who wakes first gives the others a whole lease.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_slept_with_its_nodes_costs_nobody_its_work() {
    let Some(shared) = Shared::new() else { return };
    let lease = SHORT_LEASE * 2;
    let node = connect(&Database::new(&shared.server.url(), &shared.schema, lease));
    let is_taken_for_dead = async |name: &str| {
        let began = Instant::now();
        while shared.psql(&format!("SELECT state FROM nodes WHERE name = '{name}'")) != "dead" {
            assert!(began.elapsed() < LEASE, "{name} is alive");
            tokio::time::sleep(lease / 40).await;
        }
    };
    let runs_out = |name: &str| {
        let ago = "clock_timestamp() - INTERVAL '1 hour'";
        format!("INSERT INTO nodes (name, state, lease_until) VALUES ('{name}', 'alive', {ago})")
    };
    // When that is so, it has been there for a lease.
    shared.psql(&runs_out("gone"));
    is_taken_for_dead("gone").await;
    shared.psql(&format!(
        "CREATE TABLE woken (at TIMESTAMPTZ);
         CREATE FUNCTION wakes() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
             IF OLD.lease_until < clock_timestamp() AND NEW.lease_until > clock_timestamp() THEN
                 INSERT INTO woken VALUES (clock_timestamp());
             END IF;
             RETURN NULL;
         END $$;
         CREATE TRIGGER wakes AFTER UPDATE ON nodes FOR EACH ROW EXECUTE FUNCTION wakes();
         UPDATE nodes SET lease_until = clock_timestamp() - INTERVAL '1 hour' WHERE state = 'alive'; {}",
        runs_out("asleep")
    ));
    is_taken_for_dead("asleep").await;
    let patience = "SELECT extract(epoch FROM ended_at - (SELECT min(at) FROM woken)) FROM nodes WHERE name = 'asleep'";
    let patience: f64 = shared.psql(patience).parse().unwrap();
    assert!(patience >= lease.as_secs_f64(), "after {patience} s");
    node.is_ours().await.unwrap();
}

/// What is begun anew while it is being forgotten stays.
#[tokio::test(flavor = "multi_thread")]
async fn server_keeps_what_is_begun_while_it_is_pruned() {
    let Some(shared) = Shared::new() else { return };
    let ledger = shared.open();
    let skipped = |n| Planned { skip: Some(SkipReason::Missed), ..planned(slot("orders", n), &["acme"]) };
    ledger.plan((-5..0).map(skipped).collect(), vec![]).await.unwrap();
    let later = start() + chrono::TimeDelta::hours(1);
    let backfill = shared.writer("UPDATE slots SET state = 'pending', reason = NULL WHERE id = 2").await;
    assert_eq!(ledger.prune(later).await.unwrap(), 4);
    backfill.goes_on("SELECT 1").await;
    assert_eq!(shared.psql("SELECT id, state FROM slots"), "2|pending");
    assert_eq!(ledger.prune(later).await.unwrap(), 0);
}

/// `consign cancel` where no daemon runs, of a run that another machine's has at work.
#[tokio::test(flavor = "multi_thread")]
async fn server_with_another_node_at_work_has_its_runs_only_marked() {
    let Some(shared) = Shared::new() else { return };
    let one = shared.open();
    let begin = async |ledger: &Ledger, n| {
        let customers = customers(&["acme", "globex"]);
        ledger.start_manual(slot("orders", n), customers).await.unwrap().claim.unwrap()
    };
    let (claim, left) = (begin(&one, 1).await, begin(&one, 2).await);
    let two = shared.open();
    let cancelled = two.give_up(claim.run, vec![], why()).await.unwrap();
    let name = shared.psql("SELECT name FROM nodes WHERE id = 1");
    assert_eq!((cancelled.marked.len(), cancelled.elsewhere), (2, Some(name)));
    assert_eq!(shared.psql("SELECT string_agg(DISTINCT state, ' ') FROM deliveries"), "pending");
    assert_eq!(one.cancelled().await.unwrap().len(), 2, "it is told with its next heartbeat");
    // The other one is no more: nobody else would do it.
    drop(one);
    let cancelled = two.give_up(left.run, vec![], why()).await.unwrap();
    assert_eq!((cancelled.marked.len(), cancelled.elsewhere), (2, None));
    assert_eq!(
        shared.psql(&format!("SELECT node FROM runs WHERE id = '{}'", left.run)),
        "2",
        "nobody else takes it over"
    );
    let detail = two.reader().run(left.run).await.unwrap();
    assert_eq!(detail.run.state, RunState::Failed);
    assert!(detail.deliveries.iter().all(|delivery| delivery.state == DeliveryState::Failed));
    shared.is_sound().await;
}

/// Whoever still runs when a newer one has brought the ledger up to date writes no more.
#[tokio::test(flavor = "multi_thread")]
async fn server_with_a_newer_ledger_stops_older_nodes() {
    let Some(shared) = Shared::new() else { return };
    let old = shared.open();
    let (_, _, attempt) = begun(&old, 1).await;
    shared.psql("UPDATE consign_ledger SET version = 99");
    let refused = old.sealed(attempt.id, &[]).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Newer { found: 99, .. }) && refused.is_fatal(), "{refused:?}");
    assert!(refused.to_string().contains("install the newer consign"), "{refused}");
    assert!(!is_fenced(old.is_ours().await));
    assert_eq!(shared.psql("SELECT state FROM deliveries"), "working");
}
