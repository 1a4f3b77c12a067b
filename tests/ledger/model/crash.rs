//! The process dies while a command is under way, and the next one finds the ledger
//! as it was before the command or as it is after it. In PostgreSQL it is taken for
//! dead, and whatever it says from then on is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use consign::domain::RunId;
use consign::ledger::{Ledger, LedgerError, Planned, Saying, Verdict};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use super::super::nodes::{TAKE_FOR_DEAD, is_fenced};
use super::super::{customers, key, object, passing, psql, receipt, share, slot, start};
use super::seen::compare;
use super::{MICROS_MAX, Model, Op, Real, at, open_at, steps};

impl Real {
    /// Goes on with what the files were so many microseconds after the process was
    /// asked. What was answered by then is there.
    pub(super) async fn crash(self, model: &mut Model, op: &Op, micros: u64) -> Self {
        if super::super::ON_POSTGRES.get() {
            steps::step(&self, model, op).await;
            // The server is asked much for that: not each time.
            return if micros < MICROS_MAX / 5 { self.taken_over(model).await } else { self };
        }
        let before = (model.clone(), rows(self.dir.path()));
        let answered = Arc::new(AtomicBool::new(false));
        let (from, is_answered) = (self.dir.path().to_owned(), answered.clone());
        let copying = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(micros));
            let late = is_answered.load(Ordering::SeqCst);
            (copy(&from), late)
        });
        steps::step(&self, model, op).await;
        answered.store(true, Ordering::SeqCst);
        let (dir, late) = copying.join().unwrap();
        let ledger = Ledger::open(dir.path(), self.clock.clone()).unwrap();
        let (found, after) = (rows(dir.path()), rows(self.dir.path()));
        if found != after {
            assert!(!late, "{op:?} was answered: {found:#?} is not {after:#?}");
            *model = if found == before.1 { before.0 } else { within(before.0, op) };
        }
        compare(&ledger, model).await;
        Self { dir, ledger, clock: self.clock }
    }

    /// Another process has its work.
    pub(super) async fn taken_over(self, model: &mut Model) -> Self {
        let Self { dir, clock, ledger } = self;
        if psql(dir.path(), TAKE_FOR_DEAD).is_none() {
            drop(ledger);
            let ledger = open_at(dir.path(), clock.clone());
            return Self { dir, clock, ledger };
        }
        let next = open_at(dir.path(), clock.clone());
        compare(&next, model).await;
        nothing_is_taken(&ledger, model).await;
        compare(&next, model).await;
        Self { dir, clock, ledger: next }
    }
}

/// What the ledger is in the middle of those commands that take several transactions.
fn within(mut model: Model, op: &Op) -> Model {
    match op {
        Op::Prune(hour) => model.forget_pauses(*hour),
        Op::Rewind => drop(model.forget_ahead()),
        _ => panic!("{op:?} is done in part"),
    }
    model
}

/// Every row of every table: what cannot be asked of a ledger has its say later.
fn rows(dir: &Path) -> BTreeMap<String, Vec<Vec<Value>>> {
    let raw = Connection::open_with_flags(dir.join("ledger.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let all = |sql: &str| -> Vec<Vec<Value>> {
        let mut statement = raw.prepare(sql).unwrap();
        let columns = 0..statement.column_count();
        let rows = statement.query_map([], |row| columns.clone().map(|column| row.get(column)).collect());
        rows.unwrap().map(Result::unwrap).collect()
    };
    let tables = all("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'");
    let names = tables.into_iter().map(|mut row| match row.remove(0) {
        Value::Text(name) => name,
        other => panic!("{other:?} is no name"),
    });
    names.map(|name| (name.clone(), all(&format!("SELECT * FROM {name} ORDER BY 1, 2")))).collect()
}

/// The files as they are at one instant: of the main file nothing changes meanwhile,
/// and the journal only grows.
fn copy(from: &Path) -> tempfile::TempDir {
    let read = |name: &str| match fs::read(from.join(name)) {
        // Before the first write there is no journal.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.unwrap(),
    };
    let to = tempfile::tempdir().unwrap();
    loop {
        let (main, journal) = (read("ledger.db"), read("ledger.db-wal"));
        if main == read("ledger.db") {
            fs::write(to.path().join("ledger.db"), main).unwrap();
            fs::write(to.path().join("ledger.db-wal"), journal).unwrap();
            return to;
        }
    }
}

/// Every command there is, of a process whose work another one has.
async fn nothing_is_taken(late: &Ledger, model: &Model) {
    let (new, acme) = (slot("a", 7), customers(&["acme"]));
    let run = model.runs.last().map_or(RunId::new(start()), |run| run.id.unwrap());
    let planned = Planned::new(new.clone(), acme.clone(), consign::domain::Origin::Schedule);
    let mut refused = vec![
        ("plan", none(late.plan(vec![planned], vec![(share("a"), new.at)]).await)),
        ("claim", none(late.claim(9, 9).await)),
        ("release_held", none(late.release_held().await)),
        ("pause", none(late.pause(share("a")).await)),
        ("resume", none(late.resume(share("a")).await)),
        ("backfill", none(late.backfill(vec![new.clone()], acme.clone()).await)),
        ("start_manual", none(late.start_manual(new, acme.clone()).await)),
        ("run_finished", none(late.run_finished(run).await)),
        ("cancel", none(late.cancel(run, Vec::new(), steps::why()).await)),
        ("give_up", none(late.give_up(run, Vec::new(), steps::why()).await)),
        ("settle", none(late.settle(run, acme.clone(), saying()).await)),
        ("settle_idle", none(late.settle_idle(run, acme.clone(), saying()).await)),
        ("who_else_has", none(late.who_else_has(run).await)),
        ("rewind", none(late.rewind().await)),
        ("prune", none(late.prune(at(99)).await)),
        ("unfinished", none(late.unfinished().await)),
        ("left_by_others", none(late.left_by_others([].into()).await)),
        ("ended_with_uploads", none(late.ended_with_uploads().await)),
        ("cancelled", none(late.cancelled().await)),
        ("is_ours", none(late.is_ours().await)),
    ];
    if let Some(delivery) = model.deliveries.last() {
        refused.push(("attempt_started", none(late.attempt_started(delivery.id.unwrap(), None).await)));
    }
    if let Some(id) = model.attempts.last().map(|attempt| attempt.id) {
        let key = key(&slot("a", 0), "rows.csv");
        let objects = [object(&key, "u0")];
        refused.extend([
            ("upload_created", none(late.upload_created(id, &key, "u0").await)),
            ("upload_aborted", none(late.upload_aborted(id, "u0").await)),
            ("upload_abandoned", none(late.upload_abandoned(id, "u0").await)),
            ("drafted", none(late.drafted(id, &steps::draft()).await)),
            ("sealed", none(late.sealed(id, &objects).await)),
            ("committed", none(late.committed(id, receipt(&objects)).await)),
            ("failed", none(late.failed(id, passing(), Some(start())).await)),
            ("interrupted", none(late.interrupted(id).await)),
        ]);
    }
    for (command, result) in refused {
        assert!(is_fenced(result.clone()), "{command}: {result:?}");
    }
}

fn saying() -> Saying {
    Saying { verdict: Verdict::Failed, by: "root".to_owned(), reason: None }
}

fn none<T>(result: Result<T, LedgerError>) -> Result<(), LedgerError> {
    result.map(drop)
}
