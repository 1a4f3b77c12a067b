//! Components that end by their own fault, again and again: how often in a row, and
//! from when on nothing more of them is started.

use serde::{Deserialize, Serialize};

use super::claim::{leave_out, read, release_next, release_where};
use super::db::{Db, Row, values};
use super::row::{at, batches, json, parsed, size, to_json};
use super::shared::share_lock;
use super::{Attempt, AttemptId, DeliveryId, Ledger, LedgerError, Order, Reader, write};
use crate::clock::Instant;
use crate::domain::{ContentDigest, Destination, Failure, PluginName, ShareName, SkipReason, Slot};

/// A component of which no attempt begins, until somebody lets it go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// What it was called when it failed last.
    pub plugin: PluginName,
    pub digest: ContentDigest,
    pub since: Instant,
    /// That ended by its fault, one after the other.
    pub deliveries: u64,
    /// Of the last one, and when.
    pub failure: Failure,
    pub failed: Instant,
}

/// What formats a delivery.
#[derive(Clone, Debug)]
pub struct Formatter {
    pub plugin: PluginName,
    /// Of its component.
    pub digest: ContentDigest,
    /// So many deliveries in a row that end by its fault; 0 for never.
    pub quarantine_after: u32,
}

/// What is there to be delivered, and has not begun or is to be tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Of runs that have begun.
    pub deliveries: u64,
    /// Whose runs have not.
    pub slots: u64,
}

impl Ledger {
    /// As [`Ledger::attempt_started`]. [`LedgerError::Quarantined`] when the component of
    /// `formatter`, which is None for files, is in quarantine; [`LedgerError::NotYet`] and
    /// [`LedgerError::Overtaken`] when the order of the share's slots forbids it.
    pub async fn attempt_by(
        &self,
        formatter: Option<Formatter>,
        order: Order,
        delivery: DeliveryId,
        destination: Option<Destination>,
    ) -> Result<Attempt, LedgerError> {
        let now = self.clock.now();
        let begin = move |ledger: &Db| {
            write::attempt_started(ledger, now, delivery, destination.as_ref(), (formatter.as_ref(), &order))
        };
        self.writer.run(begin).await
    }

    /// As [`Ledger::failed`]. A plugin's fault is counted, once for each delivery; true when its
    /// component is in quarantine then.
    pub async fn failed_by(
        &self,
        formatter: Option<Formatter>,
        attempt: AttemptId,
        failure: Failure,
        again: Option<Instant>,
    ) -> Result<bool, LedgerError> {
        let now = self.clock.now();
        let fail = move |ledger: &Db| {
            let counted = count(ledger, now, attempt, &failure, formatter.as_ref())?;
            write::failed(ledger, now, attempt, &failure, again)?;
            Ok(counted)
        };
        self.writer.run(fail).await
    }

    /// As [`Ledger::failed`] with `again`, and without a try: nothing of the delivery was tried.
    pub async fn unanswered(&self, attempt: AttemptId, failure: Failure, again: Instant) -> Result<(), LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| write::ended(ledger, now, attempt, (&failure, 0), Some(again))).await
    }

    /// Lets a plugin's components go, and the one of this digest, whatever it was called.
    /// Returns those that were in quarantine.
    pub async fn release(
        &self,
        plugin: PluginName,
        digest: Option<ContentDigest>,
    ) -> Result<Vec<Quarantine>, LedgerError> {
        self.writer.run(move |ledger| release(ledger, &plugin, digest.as_ref())).await
    }

    /// All components that are in quarantine, by digest.
    pub async fn quarantined(&self) -> Result<Vec<Quarantine>, LedgerError> {
        self.own.read(quarantined).await
    }

    /// Keeps pending slots of shares whose plugins are in quarantine: none of them is
    /// left out for another one when they begin at last. Those whose deadline has
    /// passed are left out now, whatever they waited for besides; returns them.
    pub async fn keep_waiting(&self, shares: Vec<ShareName>) -> Result<Vec<(Slot, SkipReason)>, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| keep_waiting(ledger, now, &shares)).await
    }
}

impl Reader {
    /// All components that are in quarantine, by digest.
    pub async fn quarantined(&self) -> Result<Vec<Quarantine>, LedgerError> {
        self.read(quarantined).await
    }

    /// What waits of these shares.
    pub async fn waiting(&self, shares: Vec<ShareName>) -> Result<Waiting, LedgerError> {
        self.read(move |ledger| waiting(ledger, &shares)).await
    }
}

/// No attempt begins with a component that is in quarantine.
pub(super) fn refuse(ledger: &Db, formatter: &Formatter) -> Result<(), LedgerError> {
    let Formatter { digest, quarantine_after, .. } = formatter;
    if *quarantine_after == 0 {
        return Ok(());
    }
    let is_quarantined = "SELECT EXISTS (SELECT 1 FROM faults WHERE digest = ?1 AND quarantined_at IS NOT NULL)";
    match ledger.only(is_quarantined, values![&digest.to_string()])? {
        true => Err(LedgerError::Quarantined { digest: digest.clone() }),
        false => Ok(()),
    }
}

/// Whether the component that formatted a share last is in quarantine. What a daemon has not
/// heard of yet, the ledger knows.
pub(super) fn halts(ledger: &Db, share: &ShareName) -> Result<bool, LedgerError> {
    let any: bool = ledger.only("SELECT EXISTS (SELECT 1 FROM faults WHERE quarantined_at IS NOT NULL)", &[])?;
    if !any {
        return Ok(false);
    }
    let last = "SELECT EXISTS (SELECT 1 FROM faults WHERE quarantined_at IS NOT NULL AND digest =
                    (SELECT a.digest FROM attempts a JOIN deliveries d ON d.id = a.delivery JOIN runs r ON r.seq = d.run
                     WHERE r.share = ?1 AND a.digest IS NOT NULL ORDER BY r.seq DESC LIMIT 1))";
    ledger.only(last, values![share.as_str()])
}

/// Its component has done well: what it failed before is no longer in a row. What is in
/// quarantine stays there, whatever had begun before.
pub(super) fn forgive(ledger: &Db, digest: &str) -> Result<(), LedgerError> {
    let forgive = "DELETE FROM faults WHERE digest = ?1 AND quarantined_at IS NULL";
    ledger.execute(forgive, values![digest]).map(drop)
}

/// Counts a plugin's fault; true when its component is in quarantine then.
fn count(
    ledger: &Db,
    now: Instant,
    attempt: AttemptId,
    failure: &Failure,
    formatter: Option<&Formatter>,
) -> Result<bool, LedgerError> {
    let counts = |formatter: &&Formatter| failure.plugin_fault && formatter.quarantine_after > 0;
    let Some(Formatter { plugin, quarantine_after, .. }) = formatter.filter(counts) else { return Ok(false) };
    // What formatted it may be another component than what would now.
    let (delivery, Some(digest)) = write::of(ledger, attempt)? else { return Ok(false) };
    let is_new = !has_failed_before(ledger, delivery, &digest)?;
    let count = "INSERT INTO faults (digest, plugin, deliveries, failure, failed_at, quarantined_at)
                 VALUES (?1, ?2, 1, ?3, ?4, CASE WHEN CAST(?5 AS BIGINT) <= 1 THEN CAST(?4 AS BIGINT) END)
                 ON CONFLICT (digest) DO UPDATE SET
                     plugin = excluded.plugin, failure = excluded.failure, failed_at = excluded.failed_at,
                     deliveries = faults.deliveries + CAST(?6 AS BIGINT),
                     quarantined_at = coalesce(faults.quarantined_at,
                         CASE WHEN faults.deliveries + CAST(?6 AS BIGINT) >= CAST(?5 AS BIGINT)
                              THEN excluded.failed_at END)
                 RETURNING quarantined_at IS NOT NULL";
    let failure = to_json(failure)?;
    let values = values![&digest, plugin.as_str(), &failure, now, *quarantine_after, i64::from(is_new)];
    ledger.only(count, values)
}

/// Each try of one delivery counts as the first.
fn has_failed_before(ledger: &Db, delivery: i64, digest: &str) -> Result<bool, LedgerError> {
    let failed = "SELECT failure FROM attempts WHERE delivery = ?1 AND digest = ?2 AND state = 'failed'";
    let failures = ledger.all(failed, values![delivery, digest], |row| json::<Failure>(row.get("failure")?))?;
    Ok(failures.iter().any(|failure| failure.plugin_fault))
}

/// What failed long ago and is not in quarantine is no longer in a row with what fails now.
pub(super) fn forget(ledger: &Db, before: Instant) -> Result<(), LedgerError> {
    let old = "DELETE FROM faults WHERE quarantined_at IS NULL AND failed_at < ?1";
    ledger.execute(old, values![before]).map(drop)
}

fn release(ledger: &Db, plugin: &PluginName, digest: Option<&ContentDigest>) -> Result<Vec<Quarantine>, LedgerError> {
    let digest = digest.map(ToString::to_string);
    let these = "(plugin = ?1 OR digest = CAST(?2 AS TEXT))";
    let values = values![plugin.as_str(), digest.as_ref()];
    let released = format!("SELECT * FROM faults WHERE {these} AND quarantined_at IS NOT NULL ORDER BY digest");
    let released = ledger.all(&released, values, quarantine)?;
    ledger.execute(&format!("DELETE FROM faults WHERE {these}"), values)?;
    Ok(released)
}

fn quarantined(ledger: &Db) -> Result<Vec<Quarantine>, LedgerError> {
    ledger.all("SELECT * FROM faults WHERE quarantined_at IS NOT NULL ORDER BY digest", &[], quarantine)
}

fn quarantine(row: &Row<'_>) -> Result<Quarantine, LedgerError> {
    Ok(Quarantine {
        plugin: parsed(row, "plugin", PluginName::parse)?,
        digest: parsed(row, "digest", ContentDigest::parse)?,
        since: at(row, "quarantined_at")?,
        deliveries: size(row, "deliveries")?,
        failure: json(row.get("failure")?)?,
        failed: at(row, "failed_at")?,
    })
}

fn keep_waiting(ledger: &Db, now: Instant, shares: &[ShareName]) -> Result<Vec<(Slot, SkipReason)>, LedgerError> {
    let of_these = format!("share IN (SELECT value ->> 0 FROM {})", ledger.given());
    let keep = format!(
        "UPDATE slots SET overlap = 'queue' WHERE id IN
             (SELECT id FROM slots WHERE state IN ('pending', 'held') AND {of_these} AND overlap = 'skip'
              ORDER BY id {})",
        ledger.locked_if_free()
    );
    let is_late = format!("{of_these} AND deadline_at <= ?2 AND origin <> 'backfill'");
    let late_held = format!("state = 'held' AND {is_late}");
    let late = format!(
        "SELECT * FROM slots WHERE state = 'pending' AND {is_late} ORDER BY at, id {}",
        ledger.locked_if_free()
    );
    let mut left_out = Vec::new();
    for shares in batches(shares.iter().map(|share| [share])) {
        let shares = shares?;
        ledger.execute(&keep, values![&shares])?;
        release_where(ledger, &late_held, values![&shares, now])?;
        for pending in ledger.all(&late, values![&shares, now], read)? {
            // Another node is at it.
            if !ledger.alone_if_free(&share_lock(&pending.slot.share))? {
                continue;
            }
            let any = leave_out(ledger, now, &pending, SkipReason::Quarantine)?;
            release_next(ledger, &pending, pending.customers.clone())?;
            if any {
                left_out.push((pending.slot, SkipReason::Quarantine));
            }
        }
    }
    Ok(left_out)
}

fn waiting(ledger: &Db, shares: &[ShareName]) -> Result<Waiting, LedgerError> {
    let these = format!("IN (SELECT value ->> 0 FROM {})", ledger.given());
    let deliveries = format!(
        "SELECT count(*) FROM runs r JOIN deliveries d ON d.run = r.seq
         WHERE r.state = 'running' AND d.state IN ('pending', 'waiting') AND r.share {these}"
    );
    let slots = format!("SELECT count(*) FROM slots WHERE state IN ('pending', 'held') AND share {these}");
    let mut waiting = Waiting::default();
    for shares in batches(shares.iter().map(|share| [share])) {
        let shares = shares?;
        waiting.deliveries += ledger.only::<i64>(&deliveries, values![&shares])?.cast_unsigned();
        waiting.slots += ledger.only::<i64>(&slots, values![&shares])?.cast_unsigned();
    }
    Ok(waiting)
}
