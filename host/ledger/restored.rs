//! What a ledger is told that was restored from a backup. What it had open, and what was due since, may have
//! been delivered or not: it is ended and left out, so that nothing of it is delivered by itself.
//!
//! From the first of these commands to the last, nobody can go on with the ledger; cut off between them, all
//! is done again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::claim::{self, leave_out};
use super::db::{Db, Row, values};
use super::row::{at, customer, maybe_at, run_id, share, size, slot, state, step, to_json};
use super::state::{AttemptEvent, AttemptState, DeliveryEvent, DeliveryState};
use super::{Ledger, LedgerError, Reader, open, postgres, write};
use crate::clock::{Instant, exact};
use crate::domain::{CustomerName, Failure, Layer, Retry, ShareName, SkipReason, Slot};

/// What is not known of one share since the ledger was restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// Deliveries that were open in the backup, and of slots that others had got; they are ended.
    pub deliveries: u64,
    /// Slots that waited in it or were due since, and are left out.
    pub slots: u64,
    /// The first and the last of these.
    pub first: Option<Instant>,
    pub last: Option<Instant>,
}

/// Where a ledger is from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origins {
    /// None: by a version that has not written it down.
    pub made: Option<Instant>,
    /// From a backup, the last time.
    pub restored: Option<Instant>,
}

impl Ledger {
    /// Ends what the backup has open, and has nobody go on with the ledger until [`Ledger::restored`].
    /// [`LedgerError::Held`] when somebody does.
    pub async fn end_open(&self) -> Result<(), LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| end_open(ledger, now)).await
    }

    /// What was ended and left out since the ledger was last told that it was restored: also by a command that
    /// was cut off.
    pub async fn unknown(&self) -> Result<BTreeMap<ShareName, Unknown>, LedgerError> {
        self.reader().read(unknown).await
    }

    /// Moves the cursors of these shares on; from then on the ledger is gone on with. What was due before
    /// is to be planned by then.
    pub async fn restored(&self, cursors: Vec<(ShareName, Instant)>) -> Result<(), LedgerError> {
        self.plan(Vec::new(), cursors).await?;
        let now = self.clock.now();
        let tell = move |ledger: &Db| {
            ledger.execute("UPDATE consign_ledger SET restored_at = ?1", values![now])?;
            mark(ledger, false)
        };
        self.writer.run(tell).await
    }
}

impl Reader {
    /// When the ledger was made, and when it was restored.
    pub async fn origins(&self) -> Result<Origins, LedgerError> {
        self.read(origins).await
    }
}

pub(super) fn origins(ledger: &Db) -> Result<Origins, LedgerError> {
    let found = ledger.first("SELECT made_at, restored_at FROM consign_ledger", &[], |row| {
        Ok(Origins { made: maybe_at(row, "made_at")?, restored: maybe_at(row, "restored_at")? })
    })?;
    Ok(found.unwrap_or_default())
}

/// Whether the ledger is a copy, which nobody goes on with.
fn mark(ledger: &Db, is_copy: bool) -> Result<(), LedgerError> {
    match (ledger, is_copy) {
        (Db::Sqlite(connection), _) => Ok(open::mark(connection, is_copy)?),
        (Db::Postgres(_), true) => ledger.execute(postgres::MARK[0], &[]).map(drop),
        (Db::Postgres(_), false) => postgres::MARK.iter().try_for_each(|sql| ledger.execute(sql, &[]).map(drop)),
    }
}

fn end_open(ledger: &Db, now: Instant) -> Result<(), LedgerError> {
    only_one(ledger)?;
    mark(ledger, true)?;
    claim::release_all(ledger)?;
    for pending in ledger.all("SELECT * FROM slots WHERE state = 'pending' ORDER BY at, id", &[], claim::read)? {
        leave_out(ledger, now, &pending, SkipReason::Restored)?;
    }
    let open = "SELECT d.id, d.state, d.customer, s.share, s.at, s.interval_start, s.interval_end
                FROM runs r JOIN deliveries d ON d.run = r.seq JOIN slots s ON s.id = r.slot
                WHERE r.state = 'running' AND d.state NOT IN ('committed', 'failed') ORDER BY d.id";
    let read = |row: &Row<'_>| Ok((row.get("id")?, state(row, "state")?, customer(row)?, slot(row)?));
    for (id, state, customer, slot) in ledger.all(open, &[], read)? {
        end(ledger, now, (id, state), &why(&slot, Some(&customer)))?;
    }
    // Their uploads are aborted as those of any run that has ended, by whoever goes on with the ledger.
    for run in ledger.all("SELECT id AS run_id FROM runs WHERE state = 'running' ORDER BY seq", &[], run_id)? {
        write::run_finished(ledger, now, run)?;
    }
    Ok(())
}

fn unknown(ledger: &Db) -> Result<BTreeMap<ShareName, Unknown>, LedgerError> {
    // What was left out at an earlier restoration had been planned and ended by then.
    let before = ledger.only::<i64>("SELECT coalesce(max(restored_at), 0) FROM consign_ledger", &[])?;
    let which = values![SkipReason::Restored.as_str(), before];
    let slots = "SELECT share, count(*) AS slots, min(at) AS first, max(at) AS last FROM slots
                 WHERE state = 'skipped' AND reason = ?1 AND planned_at > ?2 GROUP BY share";
    let slots = ledger.all(slots, which, |row| {
        let (slots, first, last) = (size(row, "slots")?, Some(at(row, "first")?), Some(at(row, "last")?));
        Ok((share(row)?, Unknown { deliveries: 0, slots, first, last }))
    })?;
    let mut unknown: BTreeMap<ShareName, Unknown> = slots.into_iter().collect();
    let deliveries = "SELECT r.share, count(*) AS deliveries FROM deliveries d JOIN runs r ON r.seq = d.run
                      WHERE d.reason = ?1 AND r.finished_at > ?2 GROUP BY r.share";
    for (name, deliveries) in ledger.all(deliveries, which, |row| Ok((share(row)?, size(row, "deliveries")?)))? {
        unknown.entry(name).or_default().deliveries = deliveries;
    }
    Ok(unknown)
}

/// Ends a delivery of which it is not known what has become of it.
fn end(ledger: &Db, now: Instant, (delivery, state): (i64, DeliveryState), why: &Failure) -> Result<(), LedgerError> {
    let why = to_json(why)?;
    if matches!(state, DeliveryState::Working | DeliveryState::Sealed) {
        let at_work = "SELECT id FROM attempts WHERE delivery = ?1 AND state IN ('working', 'sealed')";
        for attempt in ledger.all(at_work, values![delivery], |row| row.get(0))? {
            step::<AttemptState>(
                ledger,
                attempt,
                AttemptEvent::Fail,
                "ended_at = ?3, failure = ?4",
                values![now, &why],
            )?;
        }
    }
    let also = "failure = ?3, reason = ?4, due_at = NULL";
    step::<DeliveryState>(ledger, delivery, DeliveryEvent::Fail, also, values![&why, SkipReason::Restored.as_str()])
}

/// Why a slot was left out of which it is not known whether it was delivered.
pub(super) fn why(slot: &Slot, customer: Option<&CustomerName>) -> Failure {
    let message = format!(
        "slot {slot}: the ledger was restored from a backup, and whether this was delivered since is not known"
    );
    let to = customer.map(|customer| format!(" --customer {customer}")).unwrap_or_default();
    let remedy = format!(
        "where `mode = \"replace\"` nothing: the next slot takes its place. Otherwise have the customer look for the \
         slot's manifest: only if it is not there, `consign send {} --at {}{to}` delivers it",
        slot.share,
        exact(slot.at)
    );
    Failure::new(Layer::Ledger, Retry::Never, message, remedy)
}

/// In PostgreSQL others may have the ledger open. Those of the time of the backup are no more.
fn only_one(ledger: &Db) -> Result<(), LedgerError> {
    let Db::Postgres(_) = ledger else { return Ok(()) };
    let other = "SELECT name FROM nodes WHERE state = 'alive' AND lease_until > clock_timestamp()
                 AND id <> current_setting('consign.node')::BIGINT ORDER BY id LIMIT 1";
    if let Some(holder) = ledger.first(other, &[], |row| row.get("name"))? {
        return Err(LedgerError::Held { dir: "the database".into(), holder });
    }
    let dead = "UPDATE nodes SET state = 'dead', ended_at = clock_timestamp()
                WHERE state = 'alive' AND id <> current_setting('consign.node')::BIGINT";
    ledger.execute(dead, &[]).map(drop)
}
