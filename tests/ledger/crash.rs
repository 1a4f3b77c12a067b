//! A process that is killed while it writes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use consign::clock::Clock;
use consign::ledger::{DeliveryState, History, Ledger, LedgerError};

use super::{POSTGRES_URL, customers, database, deliver, long_ago, open, slot, start};
use crate::support::postgres::Postgres;

const DIR: &str = "CONSIGN_TEST_LEDGER";
/// How many deliveries the process makes at the same time.
const AT_ONCE: &str = "CONSIGN_TEST_AT_ONCE";

/// Not a test: the process that is killed. Says each delivery that it was told is on disk.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests below as a process of its own"]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let ledger = open(Path::new(&dir));
    let first = ledger.reader().history(History { limit: 1, ..History::default() }).await.unwrap();
    let from = first.first().map_or(0, |run| (run.slot - long_ago()).num_hours() + 10_000);
    let mut tasks = tokio::task::JoinSet::new();
    let at_once: usize = std::env::var(AT_ONCE).unwrap().parse().unwrap();
    for task in 0..i64::try_from(at_once).unwrap() {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            for n in (from + task..).step_by(at_once) {
                let slot = slot("orders", n);
                let claim = ledger.start_manual(slot.clone(), customers(&["acme"])).await.unwrap().claim.unwrap();
                let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap();
                deliver(&ledger, &slot, attempt.id, "u").await.unwrap();
                let line = format!("\nacknowledged {}\n", claim.run);
                std::io::stdout().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    tasks.join_all().await;
}

/// Starts the child on `dir` and reads `count` acknowledgements.
fn run_child(dir: &Path, count: usize) -> (Child, Vec<String>, BufReader<std::process::ChildStdout>) {
    run_child_under(&[], dir, 8, count)
}

/// The same, started by another program, with so many deliveries at the same time.
pub(super) fn run_child_under(
    wrapper: &[&str],
    dir: &Path,
    at_once: usize,
    count: usize,
) -> (Child, Vec<String>, BufReader<std::process::ChildStdout>) {
    let this = std::env::current_exe().unwrap();
    let mut words = wrapper.iter().copied().chain([this.to_str().unwrap()]);
    let mut child = Command::new(words.next().unwrap())
        .args(words)
        .args(["--exact", "ledger::crash::child", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .env(AT_ONCE, at_once.to_string())
        .envs(database(dir).map(|_| (POSTGRES_URL, Postgres::shared().unwrap().url())))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    while acknowledged.len() < count {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the child ended early");
        acknowledged.extend(line.strip_prefix("acknowledged ").map(|run| run.trim().to_owned()));
    }
    (child, acknowledged, lines)
}

pub(super) fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn killed_at_any_moment_every_acknowledged_commit_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for count in [1, 5, 20, 61] {
        let (child, acknowledged, rest) = run_child(dir.path(), count);
        all.extend(acknowledged);
        kill(child);
        // What it said before it died, though we only read it now, counts too.
        all.extend(
            rest.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("acknowledged ").map(str::to_owned)),
        );

        let ledger = open(dir.path());
        for run in &all {
            // A kill may cut the last line short.
            let Ok(run) = consign::domain::RunId::parse(run) else { continue };
            let detail = ledger.reader().run(run).await.unwrap();
            assert_eq!(detail.deliveries[0].state, DeliveryState::Committed);
        }
        for left in ledger.unfinished().await.unwrap() {
            for attempt in left.deliveries.iter().filter_map(|delivery| delivery.attempt.as_ref()) {
                ledger.interrupted(attempt.id).await.unwrap();
            }
        }
        if database(dir.path()).is_some() {
            assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
            continue;
        }
        drop(ledger);
        let raw = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
        let found: String = raw.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(found, "ok");
        let broken: Option<i64> =
            raw.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |r| r.get(0)).unwrap();
        assert_eq!(broken, Some(0));
    }
    assert!(all.len() >= 87);
}

#[tokio::test]
async fn a_living_process_holds_the_ledger_and_a_killed_one_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let (child, ..) = run_child(dir.path(), 1);
    let error = Ledger::open(dir.path(), Clock::fixed(start())).err().expect("must be refused");
    assert!(matches!(error, LedgerError::Held { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("process {}", child.id())), "{error}");
    // Reading needs no lock.
    let reader = Ledger::read_only(dir.path()).unwrap();
    assert!(!reader.history(History { limit: 1, ..History::default() }).await.unwrap().is_empty());
    kill(child);
    open(dir.path());
}

on_postgres! { killed_at_any_moment_every_acknowledged_commit_is_there }
