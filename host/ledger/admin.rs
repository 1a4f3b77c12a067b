//! What an operator asks of the ledger: what there is to do now, and to have the
//! deliveries of a run ended.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::claim::{LEFT_OUT, cancel as mark, release};
use super::db::{Db, Row, values};
use super::row::{
    at, batches, count, customer, maybe_at, maybe_json, origin, run_id, share, size, state, step, to_json,
};
use super::slots::PAUSES;
use super::state::DeliveryEvent;
use super::{Backlog, DeliveryId, DeliveryState, Ledger, LedgerError, Pause, Reader, read, settle, shared, write};
use crate::clock::{Instant, ahead_from};
use crate::crash::{self, Point};
use crate::domain::{CustomerName, Failure, Mode, Origin, RunId, ShareName, SkipReason};

/// All that is not at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Deliveries at work, those that began first.
    pub at_work: Vec<Open>,
    /// Deliveries of runs that have begun, without an attempt at work.
    pub pending: u64,
    /// Deliveries that failed and are to be tried again, the next ones first.
    pub again: Vec<Open>,
    /// As many of each there are, however many are listed.
    pub at_work_count: u64,
    pub again_count: u64,
    /// Of those, the first whose manifest may be in the bucket.
    #[serde(default)]
    pub in_doubt: Vec<Open>,
    /// Planned slots that nobody has begun.
    pub slots: u64,
    /// Shares of which slots wait for another slot of theirs, and how many.
    pub held: Vec<(ShareName, u64)>,
}

/// A delivery that is not at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Open {
    pub run: RunId,
    pub share: ShareName,
    pub slot: Instant,
    pub origin: Origin,
    pub customer: CustomerName,
    pub state: DeliveryState,
    /// Of the last attempt; None before the first.
    pub attempt: Option<u32>,
    pub since: Option<Instant>,
    /// When it is tried again, and after what.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub due: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<Failure>,
    /// Key of its manifest that may be in the bucket: whether it is, nobody knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_doubt: Option<String>,
    /// It has been told to end.
    pub cancelled: bool,
}

/// Shares of which somebody lacks something, the last failure first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failing {
    /// However many are listed.
    pub shares: u64,
    pub list: Vec<FailedShare>,
}

/// What of a share has failed: one that fails at each slot must not hide the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedShare {
    /// How many of its runs.
    pub runs: u64,
    /// The newest of them.
    #[serde(flatten)]
    pub last: FailedRun,
}

/// A run in which somebody did not get the slot, and lacks it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedRun {
    pub run: RunId,
    pub share: ShareName,
    pub slot: Instant,
    /// When the run ended, or this failed while others of the run go on.
    pub finished: Instant,
    /// How many did not.
    pub failed: u64,
    /// One of those who did not get it, and why.
    pub customer: CustomerName,
    pub failure: Option<Failure>,
}

/// What became of deliveries that are to be ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Are marked: whoever has them at work, or takes them up, ends them.
    pub marked: Vec<(CustomerName, DeliveryId)>,
    /// Every byte of them is stored, so that they complete.
    pub sealed: Vec<CustomerName>,
    /// Had ended before.
    pub ended: Vec<CustomerName>,
    /// Another consign that has the run, and ends what is marked.
    pub elsewhere: Option<String>,
}

/// What was taken back that had been planned ahead of the clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewound {
    /// From then on the shares fire again.
    pub to: Instant,
    pub shares: u64,
    /// How far the furthest of them had been planned.
    pub from: Option<Instant>,
    /// Slots later than `to` that nobody had begun.
    pub forgotten: u64,
    /// Slots later than `to` that somebody had begun, and that stay as they are.
    pub kept: u64,
}

/// Slots that one transaction forgets: others want to write too.
const REWOUND_MAX: i64 = 5_000;

impl Ledger {
    /// Ends without it: whoever drops the last one waits for its writer, which waits for the disk.
    pub fn forsake(self) {
        std::mem::forget(self);
    }

    /// Has shares fire from now on that were planned ahead of the clock. Later slots
    /// are forgotten, unless somebody has begun them: those are not begun again.
    pub async fn rewind(&self) -> Result<Rewound, LedgerError> {
        let now = self.clock.now();
        let mut forgotten = 0;
        // Cursors last: cut off before that, it is done again.
        loop {
            match self.writer.run(move |ledger| forget_ahead(ledger, now)).await? {
                0 => break,
                some => forgotten += some,
            }
        }
        crash::point(Point::ForgottenAhead);
        self.writer.run(move |ledger| rewind(ledger, now, forgotten)).await
    }

    /// Marks deliveries of a run to be ended, of these customers or of all when none
    /// is named. Whoever has them at work is to be told.
    pub async fn cancel(
        &self,
        run: RunId,
        customers: Vec<CustomerName>,
        why: Failure,
    ) -> Result<Cancelled, LedgerError> {
        self.writer.run(move |ledger| cancel(ledger, run, &customers, &why)).await
    }

    /// The same for who is not at work itself: what has not begun ends here and now,
    /// and with the last delivery the run. Not where another process has the run.
    pub async fn give_up(
        &self,
        run: RunId,
        customers: Vec<CustomerName>,
        why: Failure,
    ) -> Result<Cancelled, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| give_up(ledger, now, run, &customers, &why)).await
    }
}

impl Reader {
    /// What is not at its end, at most `limit` of each kind.
    pub async fn standing_now(&self, limit: usize, now: Instant) -> Result<Standing, LedgerError> {
        self.read(move |ledger| standing(ledger, limit, now)).await
    }

    /// Shares of which somebody lacks something since a run failed, `limit` of them; [`LACKING`] says what
    /// that is. Of a share and a customer `mode` says how slots are to each other; None: it is not delivered
    /// any more, and nobody lacks it.
    pub async fn failing(
        &self,
        mode: impl Fn(&ShareName, &CustomerName) -> Option<Mode> + Send + 'static,
        limit: usize,
    ) -> Result<Failing, LedgerError> {
        self.read(move |ledger| failing(ledger, mode, limit)).await
    }

    /// Shares that are planned beyond `now`, with how far they are: none of them
    /// fires before. The furthest first.
    pub async fn ahead(&self, now: Instant) -> Result<Vec<(ShareName, Instant)>, LedgerError> {
        self.read(move |ledger| {
            let select = "SELECT name AS share, cursor FROM shares WHERE cursor > ?1 ORDER BY cursor DESC, name";
            ledger.all(select, values![now], |row| Ok((share(row)?, at(row, "cursor")?)))
        })
        .await
    }

    /// The first slot that the pause since `since` left out. It may be before `since`:
    /// what was planned and had not begun is left out as well.
    pub async fn first_left_out(&self, share: ShareName, since: Instant) -> Result<Option<Instant>, LedgerError> {
        self.read(move |ledger| first_left_out(ledger, &share, since)).await
    }
}

const OPEN: &str = "
    SELECT r.id AS run_id, r.share, s.at, r.origin, d.id AS delivery, d.customer, d.state, d.due_at, d.failure,
           d.cancel IS NOT NULL AS cancelled, a.number, a.started_at
    FROM runs r JOIN slots s ON s.id = r.slot JOIN deliveries d ON d.run = r.seq
    LEFT JOIN attempts a ON a.delivery = d.id
         AND a.number = (SELECT max(number) FROM attempts WHERE delivery = d.id)
    WHERE r.state = 'running' AND d.state IN ('working', 'sealed', 'waiting')";

/// At most `limit` of each list.
fn standing(ledger: &Db, limit: usize, now: Instant) -> Result<Standing, LedgerError> {
    let mut standing = Standing::default();
    let counts = "SELECT d.state, d.due_at IS NOT NULL AS again, count(*) AS deliveries
                  FROM runs r JOIN deliveries d ON d.run = r.seq WHERE r.state = 'running' GROUP BY 1, 2";
    let counts = ledger
        .all(counts, &[], |row| Ok((state(row, "state")?, row.get::<bool>("again")?, size(row, "deliveries")?)))?;
    for (state, again, deliveries) in counts {
        match state {
            DeliveryState::Pending => standing.pending += deliveries,
            // Those of customers who are not ready are told with these.
            DeliveryState::Waiting if !again => {}
            DeliveryState::Waiting => standing.again_count += deliveries,
            DeliveryState::Sealed if again => standing.again_count += deliveries,
            DeliveryState::Working | DeliveryState::Sealed => standing.at_work_count += deliveries,
            DeliveryState::Committed | DeliveryState::Failed => {}
        }
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let list = |which: &str| ledger.all(&format!("{OPEN} {which} LIMIT ?1"), values![limit], |row| open(ledger, row));
    standing.at_work = list("AND d.state <> 'waiting' AND d.due_at IS NULL ORDER BY a.started_at, d.id")?;
    standing.again = list("AND d.due_at IS NOT NULL ORDER BY d.due_at, d.id")?;
    // Before its upload is on record, nobody has asked for a manifest.
    standing.in_doubt = list(
        "AND d.state = 'sealed' AND d.due_at IS NOT NULL
         AND EXISTS (SELECT 1 FROM uploads u WHERE u.attempt = a.id AND u.key = a.manifest_key)
         ORDER BY d.due_at, d.id",
    )?;
    standing.in_doubt.retain(|open| open.in_doubt.is_some());
    standing.slots = read::pending(ledger, now)?;
    let held = "SELECT share, count(*) AS slots FROM slots WHERE state = 'held' GROUP BY share ORDER BY share";
    standing.held = ledger.all(held, &[], |row| Ok((share(row)?, size(row, "slots")?)))?;
    Ok(standing)
}

fn open(ledger: &Db, row: &Row<'_>) -> Result<Open, LedgerError> {
    let (state, due) = (state(row, "state")?, maybe_at(row, "due_at")?);
    // What is being completed is not in doubt before that has failed.
    let in_doubt = match due {
        Some(_) => settle::in_doubt(ledger, DeliveryId(row.get("delivery")?), state)?,
        None => None,
    };
    Ok(Open {
        run: run_id(row)?,
        share: share(row)?,
        slot: at(row, "at")?,
        origin: origin(row)?,
        customer: customer(row)?,
        state,
        attempt: row.get::<Option<i64>>("number")?.and_then(|number| number.try_into().ok()),
        since: maybe_at(row, "started_at")?,
        due,
        failure: maybe_json(row, "failure")?,
        in_doubt,
        cancelled: row.get("cancelled")?,
    })
}

pub(super) fn pauses(ledger: &Db) -> Result<Vec<Pause>, LedgerError> {
    let select = "SELECT share, since FROM pauses WHERE until IS NULL ORDER BY share";
    ledger.all(select, &[], |row| Ok(Pause { share: share(row)?, since: at(row, "since")? }))
}

pub(super) fn backlogs(ledger: &Db, slots: u64, now: Instant) -> Result<Vec<Backlog>, LedgerError> {
    let select = "SELECT share, count(*) AS slots, min(at) AS oldest FROM (
                      SELECT share, at FROM slots WHERE state = 'pending' AND origin = 'schedule'
                      UNION ALL SELECT share, at FROM slots WHERE state = 'held' AND origin = 'schedule') AS waiting
                  WHERE at <= ?2 GROUP BY share HAVING count(*) > ?1 ORDER BY 2 DESC, 1 LIMIT 20";
    ledger.all(select, values![count(slots), ahead_from(now)], |row| {
        Ok(Backlog { share: share(row)?, slots: size(row, "slots")?, oldest: at(row, "oldest")? })
    })
}

/// Deliveries that failed and whose customers have not got the slot since: of the newest 10,000 runs that failed, and
/// as many that go on for others, as far as each of these have [`LOOKED_AT`] deliveries. The newest of each share are looked at before the next of any, so
/// that one that always fails hides no other. What a rule or somebody has left out is marked.
const LACKING: &str = "
    WITH failed AS (SELECT seq, share, state FROM runs WHERE state = 'failed' ORDER BY seq DESC LIMIT 10000),
    running AS (SELECT seq, share, state FROM runs WHERE state = 'running' ORDER BY +seq DESC LIMIT 10000),
    newest AS MATERIALIZED (SELECT * FROM failed UNION ALL SELECT * FROM running),
    sized AS
        (SELECT seq, share, state, row_number() OVER (PARTITION BY share, state ORDER BY seq DESC) AS nth,
                (SELECT count(*) FROM deliveries d WHERE d.run = newest.seq) AS size FROM newest),
    summed AS
        (SELECT seq, share, sum(size) OVER (PARTITION BY state ORDER BY nth, seq DESC) - size AS before FROM sized),
    looked AS MATERIALIZED (SELECT seq, share FROM summed WHERE before < CAST(?1 AS BIGINT))
    SELECT looked.seq, looked.share, d.id, d.customer, (d.reason IS NOT NULL OR d.cancel IS NOT NULL) AS left_out
    FROM looked JOIN deliveries d ON d.run = looked.seq
    WHERE d.state = 'failed' AND NOT EXISTS
        (SELECT 1 FROM deliveries got WHERE got.slot = d.slot AND got.customer = d.customer
                                        AND got.state <> 'failed' AND got.state = 'committed')
    ORDER BY looked.seq DESC, d.id";

/// Deliveries that one question looks at.
const LOOKED_AT: i64 = 100_000;

/// A delivery of which its customer lacks the slot.
struct Lacking {
    run: i64,
    share: ShareName,
    delivery: i64,
    /// It counts until the customer has had a later slot: that takes its place, or nobody meant it to have this one.
    yields: bool,
}

/// What is lacking of a share.
struct Lack {
    /// The newest run, the first delivery of it, and how many there are.
    last: i64,
    delivery: i64,
    failed: u64,
    /// Runs, and the one that was counted last.
    runs: u64,
    seen: Option<i64>,
}

fn failing(
    ledger: &Db,
    mode: impl Fn(&ShareName, &CustomerName) -> Option<Mode>,
    limit: usize,
) -> Result<Failing, LedgerError> {
    let lacking = ledger.all(LACKING, values![LOOKED_AT], |row| {
        let (share, customer) = (share(row)?, customer(row)?);
        let Some(mode) = mode(&share, &customer) else { return Ok(None) };
        let yields = mode == Mode::Replace || row.get("left_out")?;
        Ok(Some(Lacking { run: row.get("seq")?, share, delivery: row.get("id")?, yields }))
    })?;
    let yielding = lacking.iter().flatten().filter(|lacking| lacking.yields).map(|lacking| [lacking.delivery]);
    let followed = followed(ledger, yielding)?;
    let lacking = lacking.into_iter().flatten().filter(|lacking| !followed.contains(&lacking.delivery));
    let mut shares = BTreeMap::<ShareName, Lack>::new();
    // The newest first.
    for Lacking { run, share, delivery, .. } in lacking {
        let new = Lack { last: run, delivery, failed: 0, runs: 0, seen: None };
        let lack = shares.entry(share).or_insert(new);
        lack.failed += u64::from(run == lack.last);
        lack.runs += u64::from(lack.seen.replace(run) != Some(run));
    }
    let mut shares: Vec<Lack> = shares.into_values().collect();
    shares.sort_by_key(|lack| Reverse(lack.last));
    let mut failing = Failing { shares: shares.len() as u64, list: Vec::new() };
    let select = "SELECT r.id AS run_id, r.share, s.at, d.customer, d.failure,
                         coalesce(r.finished_at, (SELECT max(ended_at) FROM attempts WHERE delivery = d.id),
                                  r.started_at) AS failed_at
                  FROM deliveries d JOIN runs r ON r.seq = d.run JOIN slots s ON s.id = r.slot WHERE d.id = ?1";
    for Lack { runs, failed, delivery, .. } in shares.into_iter().take(limit) {
        let last = ledger.first(select, values![delivery], |row| {
            Ok(FailedRun {
                run: run_id(row)?,
                share: share(row)?,
                slot: at(row, "at")?,
                finished: at(row, "failed_at")?,
                failed,
                customer: customer(row)?,
                failure: maybe_json(row, "failure")?,
            })
        })?;
        failing.list.extend(last.map(|last| FailedShare { runs, last }));
    }
    Ok(failing)
}

/// Those of these deliveries of which the customer has had a later slot of the share, however that ended.
fn followed(ledger: &Db, deliveries: impl Iterator<Item = [i64; 1]>) -> Result<BTreeSet<i64>, LedgerError> {
    let find = format!(
        "SELECT d.id FROM {} JOIN deliveries d ON d.id = CAST(value ->> 0 AS BIGINT)
             JOIN runs r ON r.seq = d.run JOIN slots s ON s.id = d.slot
         WHERE EXISTS
             (SELECT 1 FROM runs later JOIN slots l ON l.id = later.slot
                  JOIN deliveries ld ON ld.run = later.seq AND ld.customer = d.customer
              WHERE later.share = r.share AND later.seq > r.seq AND l.at > s.at
                AND ld.state IN ('committed', 'failed'))",
        ledger.given()
    );
    let mut followed = BTreeSet::new();
    for given in batches(deliveries) {
        followed.extend(ledger.all(&find, values![&given?], |row| row.get::<i64>("id"))?);
    }
    Ok(followed)
}

/// Has deliveries of a run ended: of these customers, or of all when none is named.
fn cancel(ledger: &Db, run: RunId, customers: &[CustomerName], why: &Failure) -> Result<Cancelled, LedgerError> {
    let mut cancelled = Cancelled { elsewhere: shared::has(ledger, run)?, ..Cancelled::default() };
    let why = to_json(why)?;
    for (id, customer, state) in deliveries(ledger, run)? {
        if !customers.is_empty() && !customers.contains(&customer) {
            continue;
        }
        match state {
            DeliveryState::Pending | DeliveryState::Working | DeliveryState::Waiting => {
                mark(ledger, id, &why)?;
                cancelled.marked.push((customer, DeliveryId(id)));
            }
            DeliveryState::Sealed => cancelled.sealed.push(customer),
            DeliveryState::Committed | DeliveryState::Failed => cancelled.ended.push(customer),
        }
    }
    Ok(cancelled)
}

/// The same for who is not at work: what has not begun ends here and now, if no other
/// process has the run. What was cut off is ended by the next start, which aborts its uploads.
fn give_up(
    ledger: &Db,
    now: Instant,
    run: RunId,
    customers: &[CustomerName],
    why: &Failure,
) -> Result<Cancelled, LedgerError> {
    shared::take_over_run(ledger, run)?;
    let cancelled = cancel(ledger, run, customers, why)?;
    if cancelled.elsewhere.is_some() {
        return Ok(cancelled);
    }
    let why = to_json(why)?;
    let mut ended = false;
    for (id, customer, state) in deliveries(ledger, run)? {
        let is_marked = cancelled.marked.iter().any(|(marked, _)| *marked == customer);
        if is_marked && state != DeliveryState::Working {
            step::<DeliveryState>(ledger, id, DeliveryEvent::Fail, "failure = ?3, due_at = NULL", values![&why])?;
            release(ledger, id)?;
            ended = true;
        }
    }
    let is_open = |state: DeliveryState| !state.has_ended();
    if ended && !deliveries(ledger, run)?.into_iter().any(|(_, _, state)| is_open(state)) {
        write::run_finished(ledger, now, run)?;
    }
    Ok(cancelled)
}

pub(super) fn deliveries(ledger: &Db, run: RunId) -> Result<Vec<(i64, CustomerName, DeliveryState)>, LedgerError> {
    let all = "SELECT d.id, d.customer, d.state FROM runs r JOIN deliveries d ON d.run = r.seq
               WHERE r.id = ?1 ORDER BY d.customer";
    ledger.all(all, values![&run.to_string()], |row| Ok((row.get("id")?, customer(row)?, state(row, "state")?)))
}

/// Forgets some of the slots that were planned ahead of the clock and that nobody has begun.
fn forget_ahead(ledger: &Db, now: Instant) -> Result<u64, LedgerError> {
    let forget = format!(
        "DELETE FROM slots WHERE id IN (
             SELECT s.id FROM slots s
             WHERE s.at > ?1 AND s.share IN (SELECT name FROM shares WHERE cursor > ?1)
               AND s.state IN ('pending', 'held', 'skipped')
               AND NOT EXISTS (SELECT 1 FROM runs WHERE slot = s.id)
             LIMIT {REWOUND_MAX} {})",
        ledger.locked_if_free()
    );
    // Nobody plans meanwhile. What somebody is just beginning stays.
    ledger.alone(PAUSES)?;
    Ok(ledger.execute(&forget, values![now])? as u64)
}

fn rewind(ledger: &Db, now: Instant, forgotten: u64) -> Result<Rewound, LedgerError> {
    ledger.alone(PAUSES)?;
    let ahead = "SELECT max(cursor) AS cursor FROM shares WHERE cursor > ?1";
    let from = ledger.first(ahead, values![now], |row| maybe_at(row, "cursor"))?.flatten();
    let kept = "SELECT count(*) FROM shares h JOIN slots s ON s.share = h.name AND s.at > ?1 WHERE h.cursor > ?1";
    let kept = ledger.only::<i64>(kept, values![now])?.cast_unsigned();
    // A pause that ended ahead of the clock would go on until then.
    ledger.execute("DELETE FROM pauses WHERE since > ?1 AND until IS NOT NULL", values![now])?;
    ledger.execute("UPDATE pauses SET until = ?1 WHERE since <= ?1 AND until > ?1", values![now])?;
    let shares = ledger.execute("UPDATE shares SET cursor = ?1 WHERE cursor > ?1", values![now])? as u64;
    Ok(Rewound { to: now, shares, from, forgotten, kept })
}

fn first_left_out(ledger: &Db, share: &ShareName, since: Instant) -> Result<Option<Instant>, LedgerError> {
    let first = format!(
        "SELECT at FROM slots WHERE share = ?1
           AND ((state = 'skipped' AND reason = ?2)
                OR id IN (SELECT d.slot FROM deliveries d WHERE {LEFT_OUT} AND d.reason = ?2))
           AND at >= coalesce((SELECT max(until) FROM pauses WHERE share = ?1 AND since < ?3), at)
         ORDER BY at LIMIT 1"
    );
    ledger.first(&first, values![share.as_str(), SkipReason::Paused.as_str(), since], |row| at(row, "at"))
}
