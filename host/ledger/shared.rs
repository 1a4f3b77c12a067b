//! What there is to do when several processes have one ledger: each run is of
//! the node that began it, or took it over.
//!
//! A new run gets its node from the session (`postgres/0001_first.sql`), so that
//! the commands need not know of it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::claim::{held_for_nothing, release_where};
use super::db::{Db, list, values};
use super::postgres::Node;
use super::read::OPEN_RUNS;
use super::{DeliveryId, Ledger, LedgerError};
use crate::clock::Instant;
use crate::domain::{RunId, ShareName};

impl Ledger {
    /// Deliveries of this process that are to be ended: another one says so.
    pub async fn cancelled(&self) -> Result<Vec<DeliveryId>, LedgerError> {
        self.writer.run(cancelled).await
    }

    /// Slots that wait for nothing are looked at again; true when there were any.
    pub async fn release_idle(&self) -> Result<bool, LedgerError> {
        self.writer.run(release_idle).await
    }

    /// How often to look after what other processes leave and say; None when
    /// there can be no other.
    pub fn heartbeat(&self) -> Option<Duration> {
        self.writer.node().map(Node::every)
    }

    /// Err when this process has lost its work to another one: nothing may be
    /// taken from the bucket any more.
    pub async fn is_ours(&self) -> Result<(), LedgerError> {
        match self.writer.node() {
            None => Ok(()),
            Some(_) => self.writer.run(|_| Ok(())).await,
        }
    }
}

/// Runs that one look takes over. The others are left to the next, or to another node.
const RUNS_MAX: i64 = 200;

/// What `node` of a session's own runs is.
const OWN: &str = "current_setting('consign.node')::BIGINT";

/// Takes over what nodes left that are no more; returns the runs.
pub(super) fn take_over(ledger: &Db, share: Option<&str>, at: Option<Instant>) -> Result<BTreeSet<i64>, LedgerError> {
    let Db::Postgres(_) = ledger else { return Ok(BTreeSet::new()) };
    let left = format!(
        "UPDATE runs SET node = {OWN} WHERE seq IN
             (SELECT r.seq FROM runs r JOIN slots s ON s.id = r.slot
              WHERE r.seq IN ({OPEN_RUNS}) AND r.node NOT IN (SELECT id FROM nodes WHERE state = 'alive')
                AND (s.share = ?1 OR ?1 IS NULL) AND (s.at = ?2 OR ?2 IS NULL)
              ORDER BY r.seq LIMIT ?3 FOR UPDATE OF r SKIP LOCKED)
         RETURNING seq"
    );
    Ok(ledger.all(&left, values![share, at, RUNS_MAX], |row| row.get("seq"))?.into_iter().collect())
}

/// The same, of one run that has not ended.
pub(super) fn take_over_run(ledger: &Db, run: RunId) -> Result<(), LedgerError> {
    let Db::Postgres(_) = ledger else { return Ok(()) };
    let take = format!(
        "UPDATE runs SET node = {OWN} WHERE id = ?1 AND state = 'running'
             AND node NOT IN (SELECT id FROM nodes WHERE state = 'alive')"
    );
    ledger.execute(&take, values![&run.to_string()]).map(drop)
}

/// The name of another process that has a run, and is alive as far as is known.
pub(super) fn has(ledger: &Db, run: RunId) -> Result<Option<String>, LedgerError> {
    let Db::Postgres(_) = ledger else { return Ok(None) };
    let node = format!(
        "SELECT n.name FROM runs r JOIN nodes n ON n.id = r.node
         WHERE r.id = ?1 AND r.state = 'running' AND n.id <> {OWN} AND n.state = 'alive'"
    );
    ledger.first(&node, values![&run.to_string()], |row| row.get("name"))
}

/// The condition for a run `r` to be this node's.
pub(super) fn is_own(ledger: &Db) -> String {
    match ledger {
        Db::Sqlite(_) => String::new(),
        Db::Postgres(_) => format!("AND r.node = {OWN}"),
    }
}

/// Deliveries of this node that are to be ended, and that nobody has told it of.
pub(super) fn cancelled(ledger: &Db) -> Result<Vec<DeliveryId>, LedgerError> {
    let Db::Postgres(_) = ledger else { return Ok(Vec::new()) };
    let marked = format!(
        "SELECT d.id FROM runs r JOIN deliveries d ON d.run = r.seq
         WHERE r.node = {OWN} AND r.state = 'running' AND d.cancel IS NOT NULL
           AND d.state IN ('pending', 'working', 'waiting')"
    );
    ledger.all(&marked, &[], |row| row.get("id").map(DeliveryId))
}

/// Slots that wait for what is over: a delivery came to its end in another session while the slot was being held or
/// ended for others, and neither saw the other. At each claim, where nothing of the share is at work.
pub(super) fn release_stale(ledger: &Db) -> Result<(), LedgerError> {
    let Db::Postgres(_) = ledger else { return Ok(()) };
    release_where(ledger, held_for_nothing!(), &[])
}

/// The same where others of the share are at work: a customer of the slot has nothing that its end would come from.
/// It looks at each who waits, so that it is asked now and then.
fn release_idle(ledger: &Db) -> Result<bool, LedgerError> {
    let Db::Postgres(_) = ledger else { return Ok(false) };
    let idle = "SELECT id FROM slots WHERE state = 'held' AND EXISTS
                    (SELECT 1 FROM jsonb_array_elements_text(slots.customers::JSONB) AS waiting (name)
                     WHERE (slots.share, waiting.name) NOT IN
                         (SELECT r.share, d.customer FROM runs r JOIN deliveries d ON d.run = r.seq
                          WHERE r.state = 'running' AND r.origin <> 'manual'
                            AND d.state IN ('pending', 'working', 'sealed') AND d.due_at IS NULL))";
    let idle: Vec<i64> = ledger.all(idle, &[], |row| row.get("id"))?;
    release_where(ledger, &format!("state = 'held' AND id {}", ledger.among()), values![&list(&idle)])?;
    Ok(!idle.is_empty())
}

/// What is changed for a whole share is done by one at a time.
pub(super) fn share_lock(share: &ShareName) -> String {
    format!("share {share}")
}
