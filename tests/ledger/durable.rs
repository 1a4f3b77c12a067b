//! An answer means that the change is on disk, and stays there when the power fails: of
//! SQLite the system calls are looked at, of PostgreSQL what its transactions go by.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use consign::clock::Clock;
use consign::config::Database;
use consign::ledger::Ledger;

use super::crash::{kill, run_child_under};
use super::nodes::begun;
use super::start;
use crate::support::postgres::{LEASE, Postgres};
use crate::support::strace::may_trace;

/// Acknowledgements that are looked at.
const COUNT: usize = 20;

#[test]
fn an_answer_follows_its_fsync() {
    if !may_trace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace");
    let calls = "trace=pwrite64,fdatasync,fsync,write";
    let strace = ["strace", "-D", "-f", "-qq", "-y", "-s", "80", "-e", calls, "-o", file.to_str().unwrap(), "--"];
    // One delivery after the other: nobody else's change is on its way when one is acknowledged.
    let (child, ..) = run_child_under(&strace, &dir.path().join("ledger"), 1, COUNT);
    kill(child);
    let begun = Instant::now();
    let trace = loop {
        let trace = fs::read_to_string(&file).unwrap();
        if trace.matches("\"\\nacknowledged ").count() >= COUNT {
            break trace;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{trace}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(acknowledged_too_early(&trace), Vec::<&str>::new());
    let without = |call: &str| trace.lines().filter(|line| !line.contains(call)).collect::<Vec<_>>().join("\n");
    let careless = without("sync(").replace("sync resumed", "");
    assert!(acknowledged_too_early(&careless).len() >= COUNT, "this would not find a ledger that does not wait");
}

/// Acknowledgements before which the journal was not written, or was not synced since it last was.
fn acknowledged_too_early(trace: &str) -> Vec<&str> {
    let (mut written, mut unsynced, mut syncing, mut early) = (false, false, BTreeSet::new(), Vec::new());
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(char::is_whitespace) else { continue };
        let call = call.trim_start();
        let of_journal = call.contains("ledger.db-wal>");
        let is_sync = call.starts_with("fdatasync(") || call.starts_with("fsync(");
        let is_over = call.contains("sync resumed") && syncing.remove(thread);
        if is_sync && of_journal && call.contains("<unfinished") {
            syncing.insert(thread);
        } else if (is_sync && of_journal || is_over) && call.ends_with("= 0") {
            unsynced = false;
        } else if call.starts_with("pwrite64(") && of_journal {
            (written, unsynced) = (true, true);
        } else if call.starts_with("write(") && call.contains("acknowledged ") {
            if unsynced || !written {
                early.push(line);
            }
            written = false;
        }
    }
    early
}

/// Whatever the database, or the role, has: an answer to COMMIT is waited for until it is on disk.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_postgres_is_on_its_disk() {
    let Some(server) = Postgres::shared() else { return };
    server.psql("CREATE DATABASE careless");
    server.psql("ALTER DATABASE careless SET synchronous_commit = off");
    let url = server.url().replace("/postgres", "/careless");
    let ask = |sql: &str| Postgres::ask(&url, sql);
    assert_eq!(ask("SHOW synchronous_commit"), "off");
    let ledger = Ledger::connect(&Database::new(&url, "consign", LEASE), Clock::fixed(start())).unwrap();
    // Each change leaves what its transaction went by, and of which session it was.
    ask("CREATE TABLE public.went_by (session INT, setting TEXT);
         CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.went_by VALUES (pg_backend_pid(), current_setting('synchronous_commit'));
             RETURN NULL;
         END $$;
         CREATE TRIGGER tell AFTER INSERT ON consign.slots EXECUTE FUNCTION public.tell();
         CREATE TRIGGER tell AFTER INSERT ON consign.attempts EXECUTE FUNCTION public.tell()");
    let mut sessions = BTreeSet::new();
    for round in 0..2 {
        let work = (0..30).map(|n| begun(&ledger, round * 100 + n));
        futures::future::join_all(work).await;
        assert_eq!(ask("SELECT DISTINCT setting FROM public.went_by"), "on");
        let used = ask("SELECT DISTINCT session FROM public.went_by");
        sessions.extend(used.lines().map(str::to_owned));
        // The next ones are new.
        ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN (SELECT session FROM public.went_by)");
    }
    assert!(sessions.len() >= 2, "{sessions:?}");
}
