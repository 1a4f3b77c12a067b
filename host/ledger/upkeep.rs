//! Keeping the file in order: looking for what is wrong, copying, forgetting.

use std::fs::{DirEntry, File};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};
use serde::Serialize;
use tempfile::NamedTempFile;

use super::claim::held_for_nothing;
use super::db::{Db, list, values};
use super::row::at;
use super::{LedgerError, Origins, open, order, restored};
use crate::clock::Instant;

/// Slots that one transaction forgets: others want to write too.
const SLOTS_MAX: i64 = 200;

/// Free pages that one transaction gives back to the file system.
const PAGES_MAX: u32 = 1000;

/// What a copy is called that is being made.
const COPYING: &str = ".ledger-backup-";

/// Findings of one kind that are told.
const FINDINGS_MAX: usize = 20;

/// What the ledger has, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub slots: u64,
    pub runs: u64,
    pub deliveries: u64,
    pub bytes: u64,
    #[serde(flatten)]
    pub origins: Origins,
    /// What is wrong with its file; empty when all is well.
    pub damage: Vec<String>,
    /// What can never be, and is; empty when all is well.
    pub findings: Vec<String>,
}

impl Checked {
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.findings.is_empty()
    }
}

/// What can never be, with a query for the records for which it is.
const RULES: [(&str, &str); 6] = [
    (
        "delivery {} is committed, but no attempt is",
        "SELECT id FROM deliveries d WHERE state = 'committed'
         AND NOT EXISTS (SELECT 1 FROM attempts WHERE delivery = d.id AND state = 'committed')",
    ),
    (
        "delivery {} is at work, but no attempt is",
        "SELECT id FROM deliveries d WHERE state IN ('working', 'sealed')
         AND NOT EXISTS (SELECT 1 FROM attempts WHERE delivery = d.id AND state = d.state)",
    ),
    (
        "attempt {} is at work, but its delivery is not",
        "SELECT a.id FROM attempts a JOIN deliveries d ON d.id = a.delivery
         WHERE a.state IN ('working', 'sealed') AND d.state <> a.state",
    ),
    (
        "run {} has ended, but not all its deliveries",
        "SELECT id FROM runs r WHERE state <> 'running'
         AND EXISTS (SELECT 1 FROM deliveries WHERE run = r.seq AND state NOT IN ('committed', 'failed'))",
    ),
    (
        "slot {} is running, but no run is",
        "SELECT id FROM slots s WHERE state = 'running'
         AND NOT EXISTS (SELECT 1 FROM runs WHERE slot = s.id AND state = 'running')",
    ),
    (
        "delivery {} is of another slot than its run",
        "SELECT d.id FROM deliveries d JOIN runs r ON r.seq = d.run WHERE d.slot <> r.slot",
    ),
];

/// Nor can this, where one process writes. Of several, one may hold a slot while what it waits for ends with another,
/// and whoever looks next lets go of it.
const OF_ONE_WRITER: (&str, &str) = (
    "slot {} waits for another one of its share, but none is at work",
    concat!("SELECT id FROM slots WHERE ", held_for_nothing!()),
);

/// Reads every page and every index, and asks for what can never be.
pub(super) fn check(ledger: &Db) -> Result<Checked, LedgerError> {
    let (damage, mut findings) = (damage(ledger)?, Vec::new());
    let of_one = match ledger {
        Db::Sqlite(_) => Some(OF_ONE_WRITER),
        Db::Postgres(_) => None,
    };
    // Of a file that cannot be read no more can be told.
    let is_readable = damage.is_empty();
    for (text, query) in RULES.into_iter().chain(of_one).filter(|_| is_readable) {
        let records = format!("SELECT CAST(id AS TEXT) AS id FROM ({query}) AS found LIMIT {FINDINGS_MAX}");
        let records = ledger.all(&records, &[], |row| Ok(text.replace("{}", &row.get::<String>("id")?)))?;
        findings.extend(records);
    }
    let count = |table: &str| match number(ledger, &format!("SELECT count(*) FROM {table}")) {
        Err(_) if !is_readable => Ok(0),
        counted => counted,
    };
    let (slots, runs, deliveries) = (count("slots")?, count("runs")?, count("deliveries")?);
    let origins = match restored::origins(ledger) {
        Err(_) if !is_readable => Origins::default(),
        told => told?,
    };
    Ok(Checked { slots, runs, deliveries, bytes: bytes(ledger)?, origins, damage, findings })
}

/// What SQLite finds wrong with its file. PostgreSQL looks after its own.
fn damage(ledger: &Db) -> Result<Vec<String>, LedgerError> {
    let Db::Sqlite(_) = ledger else { return Ok(Vec::new()) };
    let whole = format!("PRAGMA integrity_check({FINDINGS_MAX})");
    let mut findings: Vec<String> = match ledger.all(&whole, &[], |row| row.get(0)) {
        Err(LedgerError::Storage { source }) if source.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            vec![source.to_string()]
        }
        found => found?,
    };
    findings.retain(|found| found != "ok");
    if !findings.is_empty() {
        return Ok(findings);
    }
    let orphans = ledger.all("PRAGMA foreign_key_check", &[], |row| {
        let (table, id, parent): (String, Option<i64>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(format!("row {} of {table} belongs to a row of {parent} that is not there", id.unwrap_or_default()))
    })?;
    findings.extend(orphans.into_iter().take(FINDINGS_MAX));
    Ok(findings)
}

/// Bytes of the file, without its journal; of the tables and indexes in PostgreSQL.
pub(super) fn bytes(ledger: &Db) -> Result<u64, LedgerError> {
    if let Db::Postgres(_) = ledger {
        let sizes = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::BIGINT FROM pg_class c
                     WHERE c.relnamespace = current_schema()::REGNAMESPACE AND c.relkind = 'r'";
        return number(ledger, sizes);
    }
    Ok(number(ledger, "PRAGMA page_count")? * number(ledger, "PRAGMA page_size")?)
}

/// A count, which is never negative.
fn number(ledger: &Db, sql: &str) -> Result<u64, LedgerError> {
    ledger.only(sql, &[]).map(i64::cast_unsigned)
}

pub(super) fn last_begun(ledger: &Db) -> Result<Option<Instant>, LedgerError> {
    ledger.first("SELECT started_at FROM runs ORDER BY seq DESC LIMIT 1", &[], |row| at(row, "started_at"))
}

/// Copies the ledger in `dir` to the new file `to`, as it is at one instant,
/// while another process may be writing it. The copy is whole or not there.
pub(super) fn backup(dir: &Path, to: &Path) -> Result<(), LedgerError> {
    let ledger = open::copyable(dir)?;
    let failed = |why: String| LedgerError::Backup { path: to.to_owned(), why };
    let io = |error: std::io::Error| failed(error.to_string());
    if to.exists() {
        return Err(failed("it is there already".to_owned()));
    }
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let copy = copy(&ledger, &folder, true).map_err(failed)?;
    copy.persist_noclobber(to).map_err(|error| io(error.error))?;
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(io)
}

/// A ledger as it is at one instant, in a new file that is gone when it is dropped; or why not.
/// It says of itself whether it is only a copy.
pub(super) fn copy(ledger: &Connection, folder: &Path, is_copy: bool) -> Result<NamedTempFile, String> {
    remove_leftovers(folder);
    // A temporary file is its owner's only, and SQLite takes an empty one.
    let copy = tempfile::Builder::new().prefix(COPYING).tempfile_in(folder).map_err(|why| why.to_string())?;
    copy.as_file().lock().map_err(|why| why.to_string())?;
    if !copy.path().exists() {
        return Err("another consign took it for one that was left over; repeat this".to_owned());
    }
    let name = copy.path().to_str().ok_or("its folder's name is not UTF-8")?;
    let copied = ledger.execute("VACUUM INTO ?1", [name]).and_then(|_| {
        let of_its_own = Connection::open(name)?;
        open::mark(&of_its_own, is_copy)
    });
    copied.map_err(|why| why.to_string())?;
    copy.as_file().sync_all().map_err(|why| why.to_string())?;
    Ok(copy)
}

/// Copies of which whoever made them was killed, each as large as a ledger: nobody holds those. What cannot be
/// looked at or removed stays, and is in nobody's way but for the room.
fn remove_leftovers(folder: &Path) {
    let named = |entry: &DirEntry| entry.file_name().as_encoded_bytes().starts_with(COPYING.as_bytes());
    let is_file = |entry: &DirEntry| entry.file_type().is_ok_and(|of| of.is_file());
    for entry in
        std::fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| named(entry) && is_file(entry))
    {
        let path = entry.path();
        let is_held = |file: File| file.try_lock().is_err();
        if File::open(&path).map_or(true, is_held) {
            continue;
        }
        match std::fs::remove_file(&path) {
            Ok(()) => tracing::info!(file = %path.display(), "removed a copy of a ledger that was never finished"),
            Err(error) => {
                tracing::debug!(error = %error, file = %path.display(), "cannot remove what is left of a copy")
            }
        }
    }
}

/// Slots that ended before `?1` with all that belongs to them. One with an
/// upload that may still be in a bucket is not among them, nor one that the
/// schedule is yet to plan, nor the last that it has: the next interval begins there.
const FORGETTABLE: &str = "
    FROM slots s WHERE s.state IN ('done', 'skipped') AND s.at < ?1 AND s.planned_at < ?1
    AND s.at < coalesce((SELECT cursor FROM shares WHERE name = s.share), s.at + 1)
    AND NOT EXISTS (SELECT 1 FROM runs WHERE slot = s.id AND (finished_at IS NULL OR finished_at >= ?1))
    AND NOT EXISTS (SELECT 1 FROM deliveries d JOIN attempts a ON a.delivery = d.id
                    JOIN uploads u ON u.attempt = a.id WHERE d.slot = s.id AND u.state = 'created')";

/// Nor the newest of a share whose slots take each other's place.
fn forgettable_slots() -> String {
    format!("{FORGETTABLE} AND NOT {}", order::KEPT)
}

pub(super) fn forgettable(ledger: &Db, before: Instant) -> Result<u64, LedgerError> {
    ledger.only(&format!("SELECT count(*) {}", forgettable_slots()), values![before]).map(i64::cast_unsigned)
}

/// Forgets some slots that ended before; returns how many, zero at the end.
/// Cursors stay, so that no slot is ever planned again.
pub(super) fn forget(ledger: &Db, before: Instant) -> Result<usize, LedgerError> {
    // One node at a time.
    if !ledger.alone_if_free("prune")? {
        return Ok(0);
    }
    let forgettable = forgettable_slots();
    let oldest = format!("SELECT s.id {forgettable} ORDER BY s.at LIMIT {SLOTS_MAX} {}", ledger.locked_if_free());
    let found: Vec<i64> = ledger.all(&oldest, values![before], |row| row.get(0))?;
    if found.is_empty() {
        return Ok(0);
    }
    // Before a slot was locked it may have been begun, and ended, once more.
    let still = format!("SELECT s.id {forgettable} AND s.id {}", ledger.among().replace("?1", "?2"));
    let slots: Vec<i64> = ledger.all(&still, values![before, &list(&found)], |row| row.get(0))?;
    let these = ledger.among();
    let deliveries = format!("SELECT id FROM deliveries WHERE slot {these}");
    let attempts = format!("SELECT id FROM attempts WHERE delivery IN ({deliveries})");
    for what in [
        format!("objects WHERE attempt IN ({attempts})"),
        format!("uploads WHERE attempt IN ({attempts})"),
        format!("attempts WHERE delivery IN ({deliveries})"),
        format!("deliveries WHERE slot {these}"),
        format!("runs WHERE slot {these}"),
        format!("slots WHERE id {these}"),
    ] {
        ledger.execute(&format!("DELETE FROM {what}"), values![&list(&slots)])?;
    }
    Ok(slots.len())
}

/// Forgets pauses that ended before, and that no slot can be planned in any more.
pub(super) fn forget_pauses(ledger: &Db, before: Instant) -> Result<(), LedgerError> {
    let over = "DELETE FROM pauses WHERE until < ?1
                AND until <= coalesce((SELECT cursor FROM shares WHERE name = pauses.share), until)";
    ledger.execute(over, values![before]).map(drop)
}

/// Gives some free pages back to the file system; false when there are none.
pub(super) fn shrink(ledger: &Db) -> Result<bool, LedgerError> {
    // PostgreSQL's autovacuum has the room used again.
    let Db::Sqlite(_) = ledger else { return Ok(false) };
    let free = || number(ledger, "PRAGMA freelist_count");
    let before = free()?;
    if before == 0 {
        return Ok(false);
    }
    // A step for each page.
    ledger.all(&format!("PRAGMA incremental_vacuum({PAGES_MAX})"), &[], |_| Ok(()))?;
    Ok(free()? < before)
}

/// Keeps the file from growing beyond about `bytes`.
pub(super) fn limit_bytes(ledger: &Db, bytes: u64) -> Result<(), LedgerError> {
    let pages = bytes / number(ledger, "PRAGMA page_size")?;
    ledger.all(&format!("PRAGMA max_page_count({pages})"), &[], |_| Ok(())).map(drop)
}
