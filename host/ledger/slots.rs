//! The commands on slots: what is planned, sent by hand, filled in later, and
//! left out because its share is paused. Each inside the writer's transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::claim::{self, Pending, leave_out, pending_of, release_share};
use super::db::{Db, values};
use super::row::{at, batches, maybe_at, maybe_reason, run_id, state, step, to_json};
use super::shared::share_lock;
use super::state::{DeliveryState, RunState, SlotEvent, SlotState, State as _};
use super::{Claim, DeliveryId, Filling, LedgerError, Planned, Started};
use crate::clock::Instant;
use crate::config::Overlap;
use crate::domain::{CustomerName, Origin, RunId, ShareName, SkipReason, Slot};

/// What came of planning. A slot that was there already is in neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub new: usize,
    /// Those that nobody gets, and those already sent by hand that the others do not get.
    pub left_out: Vec<(Slot, SkipReason)>,
}

/// What came of pausing a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pausing {
    /// Since when it was paused already.
    pub earlier: Option<Instant>,
    /// What was planned and had not begun, and nobody gets, or not everybody.
    pub left_out: Vec<(Slot, SkipReason)>,
}

/// A slot to record, and as what.
struct New<'a> {
    plan: &'a Planned,
    state: SlotState,
    reason: Option<SkipReason>,
}

impl New<'_> {
    fn order(&self) -> (Instant, &ShareName) {
        (self.plan.slot.at, &self.plan.slot.share)
    }
}

pub(super) fn plan(
    ledger: &Db,
    now: Instant,
    planned: &[Planned],
    cursors: &[(ShareName, Instant)],
) -> Result<Recorded, LedgerError> {
    ledger.together(PAUSES)?;
    let pauses = pauses(ledger)?;
    let new = |plan| {
        let reason = reason(plan, &pauses);
        New { plan, state: reason.map_or(SlotState::Pending, |_| SlotState::Skipped), reason }
    };
    let mut slots: Vec<New<'_>> = planned.iter().map(new).collect();
    // All nodes in one order, so that none waits for one that waits for it.
    slots.sort_by(|one, other| one.order().cmp(&other.order()));
    slots.dedup_by(|one, other| one.order() == other.order());
    let mut recorded = insert(ledger, now, &slots)?;
    if recorded.new < slots.len() {
        recorded.left_out.extend(take_over_manual(ledger, now, &slots)?);
    }
    let mut newest = BTreeMap::new();
    for (share, cursor) in cursors {
        let cursor = cursor.timestamp_micros();
        newest.entry(share).and_modify(|newest: &mut i64| *newest = cursor.max(*newest)).or_insert(cursor);
    }
    let move_cursors = format!(
        "INSERT INTO shares (name, cursor) SELECT value ->> 0, CAST(value ->> 1 AS BIGINT) FROM {} WHERE true
         ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor WHERE excluded.cursor > shares.cursor",
        ledger.given()
    );
    for cursors in batches(newest) {
        let cursors = cursors?;
        ledger.execute(&move_cursors, values![&cursors])?;
    }
    Ok(recorded)
}

/// Nobody pauses a share while slots are planned, and the other way round.
pub(super) const PAUSES: &str = "pauses";

/// The times of pauses by share; a pause that lasts has no end.
type Pauses = HashMap<ShareName, Vec<(Instant, Option<Instant>)>>;

fn pauses(ledger: &Db) -> Result<Pauses, LedgerError> {
    let mut pauses = Pauses::new();
    let all = ledger.all("SELECT share, since, until FROM pauses", &[], |row| {
        Ok((super::row::share(row)?, at(row, "since")?, maybe_at(row, "until")?))
    })?;
    for (share, since, until) in all {
        pauses.entry(share).or_default().push((since, until));
    }
    Ok(pauses)
}

/// Why a slot is left out, if it is. Its share is paused now, or was when the slot
/// was: a slot of a pause is left out also when it is planned after the pause.
fn reason(plan: &Planned, pauses: &Pauses) -> Option<SkipReason> {
    let Slot { share, at, .. } = &plan.slot;
    let is_paused = |(since, until): &(Instant, Option<Instant>)| until.is_none_or(|until| since <= at && *at < until);
    let paused = || pauses.get(share).is_some_and(|pauses| pauses.iter().any(is_paused));
    plan.skip.or_else(|| paused().then_some(SkipReason::Paused))
}

/// Slots that were sent by hand before their time came are still planned: for whoever
/// did not get them then, who gets them now or is left out. Returns what is left out.
fn take_over_manual(ledger: &Db, now: Instant, slots: &[New<'_>]) -> Result<Vec<(Slot, SkipReason)>, LedgerError> {
    let mut left_out = Vec::new();
    let select = format!(
        "SELECT s.*, CAST(value ->> 0 AS BIGINT) AS nth FROM {}
         JOIN slots s ON s.share = value ->> 1 AND s.at = CAST(value ->> 2 AS BIGINT)
         WHERE s.origin = 'manual' ORDER BY nth {}",
        ledger.given(),
        ledger.locked()
    );
    let keys = slots
        .iter()
        .enumerate()
        .map(|(nth, New { plan, .. })| (nth, plan.slot.share.as_str(), plan.slot.at.timestamp_micros()));
    for keys in batches(keys) {
        let keys = keys?;
        let manual = ledger.all(&select, values![&keys], |row| Ok((row.get::<i64>("nth")?, claim::read(row)?)))?;
        for (nth, sent) in manual {
            let Some(New { plan, reason, .. }) = usize::try_from(nth).ok().and_then(|nth| slots.get(nth)) else {
                continue;
            };
            replan(ledger, sent.id, plan)?;
            let Some(reason) = *reason else { continue };
            let customers = plan.customers.iter().cloned().collect();
            if leave_out(ledger, now, &Pending { origin: plan.origin, customers, ..sent }, reason)? {
                left_out.push((plan.slot.clone(), reason));
            }
        }
    }
    Ok(left_out)
}

/// Makes a slot that is there pending again, as planned now. It keeps its interval, and the deadline of what is
/// under way: what is filled in has none.
fn replan(ledger: &Db, id: i64, plan: &Planned) -> Result<(), LedgerError> {
    let also = "reason = NULL, origin = ?3, customers = ?4, overlap = ?5, deadline_at = coalesce(CAST(?6 AS BIGINT), deadline_at)";
    let (origin, customers) = (plan.origin.as_str(), to_json(&&*plan.customers)?);
    let overlap = plan.overlap.as_str();
    step::<SlotState>(ledger, id, SlotEvent::Plan, also, values![origin, &customers, overlap, plan.deadline])
}

/// Records those slots that are not there yet, many with each statement.
fn insert(ledger: &Db, now: Instant, slots: &[New<'_>]) -> Result<Recorded, LedgerError> {
    let insert = format!(
        "INSERT INTO slots (share, at, interval_start, interval_end, origin, customers, overlap, deadline_at,
                            state, reason, planned_at)
         SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT),
                value ->> 4, value ->> 5, value ->> 6, CAST(value ->> 7 AS BIGINT), value ->> 8, value ->> 9,
                CAST(?2 AS BIGINT)
         FROM {} WHERE true
         ON CONFLICT (share, at) DO NOTHING RETURNING share, at, interval_start, interval_end, reason",
        ledger.given()
    );
    let rows = slots.iter().map(|New { plan, state, reason }| {
        let Planned { slot, customers, origin, overlap, deadline, .. } = plan;
        (
            slot.share.as_str(),
            slot.at.timestamp_micros(),
            slot.interval.start.timestamp_micros(),
            slot.interval.end.timestamp_micros(),
            origin.as_str(),
            &**customers,
            overlap.as_str(),
            deadline.map(|deadline| deadline.timestamp_micros()),
            state.as_str(),
            reason.map(SkipReason::as_str),
        )
    });
    let mut recorded = Recorded::default();
    for rows in batches(rows) {
        let rows = rows?;
        let new = ledger.all(&insert, values![&rows, now], |row| {
            let reason = maybe_reason(row)?;
            reason.map(|reason| Ok((super::row::slot(row)?, reason))).transpose()
        })?;
        recorded.new += new.len();
        recorded.left_out.extend(new.into_iter().flatten());
    }
    Ok(recorded)
}

/// One slot; false when it is there already.
fn insert_one(ledger: &Db, now: Instant, plan: &Planned, state: SlotState) -> Result<bool, LedgerError> {
    Ok(insert(ledger, now, &[New { plan, state, reason: None }])?.new == 1)
}

/// A slot that is there.
struct Known {
    state: SlotState,
    /// Why nobody got it.
    reason: Option<SkipReason>,
    plan: Pending,
}

fn known(ledger: &Db, slot: &Slot) -> Result<Option<Known>, LedgerError> {
    let select = format!("SELECT * FROM slots WHERE share = ?1 AND at = ?2 {}", ledger.locked());
    ledger.first(&select, values![slot.share.as_str(), slot.at], |row| {
        Ok(Known { state: state(row, "state")?, reason: maybe_reason(row)?, plan: claim::read(row)? })
    })
}

impl Known {
    fn is_to_begin(&self) -> bool {
        matches!(self.state, SlotState::Pending | SlotState::Held)
    }

    /// It was skipped, and is now for `some`: that the others were left out stays on record.
    fn keep_left_out(&self, ledger: &Db, now: Instant, some: &[CustomerName]) -> Result<(), LedgerError> {
        let Some(reason) = self.reason else { return Ok(()) };
        let mut others = self.plan.customers.clone();
        others.retain(|customer| !some.contains(customer));
        match others.is_empty() {
            true => Ok(()),
            false => claim::fail(ledger, now, &self.plan, others, reason),
        }
    }
}

pub(super) fn start_manual(
    ledger: &Db,
    now: Instant,
    asked: &Slot,
    customers: &[CustomerName],
) -> Result<Started, LedgerError> {
    if customers.is_empty() {
        return Ok(Started { claim: None, slot: asked.clone(), committed: Vec::new(), busy: Vec::new() });
    }
    let plan = Planned::new(asked.clone(), customers.to_vec(), Origin::Manual);
    insert_one(ledger, now, &plan, SlotState::Running)?;
    let unknown = || LedgerError::Unknown { record: format!("slot {asked}") };
    let known = known(ledger, asked)?.ok_or_else(unknown)?;
    let (id, slot) = (known.plan.id, known.plan.slot.clone());
    let mut open = BTreeSet::from_iter(plan.customers.iter().cloned());
    let (mut committed, mut busy) = (Vec::new(), Vec::new());
    for (customer, run, state) in taken(ledger, id)? {
        if open.remove(&customer) {
            let list = if state == DeliveryState::Committed { &mut committed } else { &mut busy };
            list.push((customer, run));
        }
    }
    // A planned slot that is still to begin stays so, for its other customers.
    let to_begin = known.is_to_begin() && known.plan.origin != Origin::Manual;
    if !to_begin && !open.is_empty() {
        step::<SlotState>(ledger, id, SlotEvent::Start, "reason = NULL", &[])?;
    }
    let claim = match open.is_empty() {
        true => None,
        false => {
            // First, because the slot is done when no run of it is left.
            let claim = begin(ledger, now, id, slot.clone(), Origin::Manual, open)?;
            known.keep_left_out(ledger, now, customers)?;
            Some(claim)
        }
    };
    Ok(Started { claim, slot, committed, busy })
}

/// How a past slot stands for the customers who are to have it.
pub(super) fn standing(ledger: &Db, asked: &Slot, customers: &[CustomerName]) -> Result<Filling, LedgerError> {
    Ok(stands(ledger, asked, customers)?.1)
}

fn stands(ledger: &Db, asked: &Slot, customers: &[CustomerName]) -> Result<(Option<Known>, Filling), LedgerError> {
    let known = known(ledger, asked)?;
    let mut filling = Filling {
        slot: known.as_ref().map_or(asked, |known| &known.plan.slot).clone(),
        to_deliver: Vec::new(),
        committed: Vec::new(),
        under_way: Vec::new(),
    };
    let taken = match &known {
        Some(known) => taken(ledger, known.plan.id)?,
        None => Vec::new(),
    };
    let to_begin = known.as_ref().filter(|known| known.is_to_begin());
    // Filled in for some, it would be known, and the schedule would not plan it for the others. What it has planned
    // already it does not plan again, wherever it is now.
    let is_planned = known.as_ref().is_some_and(|known| known.plan.origin != Origin::Manual);
    let cursor = super::cursor::cursor(ledger, &asked.share)?;
    let yet_to_plan = !is_planned && cursor.is_some_and(|cursor| cursor < asked.at);
    for customer in customers {
        let state = taken.iter().find(|(other, ..)| other == customer).map(|(.., state)| *state);
        let planned = to_begin.is_some_and(|known| known.plan.customers.contains(customer));
        let list = match state {
            Some(DeliveryState::Committed) => &mut filling.committed,
            Some(_) => &mut filling.under_way,
            None if planned || yet_to_plan => &mut filling.under_way,
            None => &mut filling.to_deliver,
        };
        list.push(customer.clone());
    }
    Ok((known, filling))
}

/// Plans past slots for those customers who have not got them.
pub(super) fn backfill(
    ledger: &Db,
    now: Instant,
    slots: &[Slot],
    customers: &[CustomerName],
) -> Result<Vec<Filling>, LedgerError> {
    let mut all = Vec::with_capacity(slots.len());
    for asked in slots {
        ledger.alone(&share_lock(&asked.share))?;
        let (known, filling) = stands(ledger, asked, customers)?;
        if !filling.to_deliver.is_empty() {
            let mut plan = Planned::new(filling.slot.clone(), filling.to_deliver.clone(), Origin::Backfill);
            plan.overlap = Overlap::Queue;
            match known {
                None if insert_one(ledger, now, &plan, SlotState::Pending)? => {}
                None => return Err(LedgerError::Conflict),
                Some(known) if known.is_to_begin() => {
                    let all = to_json(&known.plan.customers.iter().chain(&*plan.customers).collect::<BTreeSet<_>>())?;
                    ledger.execute("UPDATE slots SET customers = ?2 WHERE id = ?1", values![known.plan.id, &all])?;
                    // It waits for those who were there before.
                    if known.state == SlotState::Held {
                        step::<SlotState>(ledger, known.plan.id, SlotEvent::Release, "", &[])?;
                    }
                }
                Some(known) => {
                    replan(ledger, known.plan.id, &plan)?;
                    known.keep_left_out(ledger, now, &plan.customers)?;
                }
            }
        }
        all.push(filling);
    }
    Ok(all)
}

/// Pauses a share from `now` on. What the schedule had planned and nobody had
/// begun is left out.
pub(super) fn pause(ledger: &Db, now: Instant, share: &ShareName) -> Result<Pausing, LedgerError> {
    ledger.alone(PAUSES)?;
    ledger.alone(&share_lock(share))?;
    let select = "SELECT since FROM pauses WHERE share = ?1 AND until IS NULL";
    if let Some(since) = ledger.first(select, values![share.as_str()], |row| at(row, "since"))? {
        return Ok(Pausing { earlier: Some(since), left_out: Vec::new() });
    }
    // Resumed and paused within the same instant: it goes on.
    ledger.execute(
        "INSERT INTO pauses (share, since) VALUES (?1, ?2) ON CONFLICT (share, since) DO UPDATE SET until = NULL",
        values![share.as_str(), now],
    )?;
    release_share(ledger, share)?;
    let mut left_out = Vec::new();
    for pending in pending_of(ledger, share)? {
        if leave_out(ledger, now, &pending, SkipReason::Paused)? {
            left_out.push((pending.slot, SkipReason::Paused));
        }
    }
    Ok(Pausing { earlier: None, left_out })
}

/// Ends a pause; returns since when it was, if it was. Slots of the pause stay left out.
pub(super) fn resume(ledger: &Db, now: Instant, share: &ShareName) -> Result<Option<Instant>, LedgerError> {
    ledger.first(
        "UPDATE pauses SET until = CASE WHEN since > ?2 THEN since ELSE ?2 END
         WHERE share = ?1 AND until IS NULL RETURNING since",
        values![share.as_str(), now],
        |row| at(row, "since"),
    )
}

/// Customers who have this slot already, or are getting it.
pub(super) fn taken(ledger: &Db, slot: i64) -> Result<Vec<(CustomerName, RunId, DeliveryState)>, LedgerError> {
    ledger.all(
        "SELECT d.customer, d.state, r.id AS run_id FROM deliveries d JOIN runs r ON r.seq = d.run
             WHERE d.slot = ?1 AND d.state <> 'failed' ORDER BY d.customer",
        values![slot],
        |row| Ok((super::row::customer(row)?, run_id(row)?, state(row, "state")?)),
    )
}

/// Begins a run of a slot for `customers`.
pub(super) fn begin(
    ledger: &Db,
    now: Instant,
    slot_id: i64,
    slot: Slot,
    origin: Origin,
    customers: BTreeSet<CustomerName>,
) -> Result<Claim, LedgerError> {
    let run = RunId::new(now);
    let (share, state) = (slot.share.as_str(), RunState::Running.as_str());
    let seq = ledger.insert(
        "INSERT INTO runs (id, slot, share, origin, state, started_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING seq",
        values![&run.to_string(), slot_id, share, origin.as_str(), state, now],
    )?;
    let insert = "INSERT INTO deliveries (run, slot, customer, state) VALUES (?1, ?2, ?3, ?4) RETURNING id";
    let mut deliveries = Vec::with_capacity(customers.len());
    for customer in customers {
        let id = ledger.insert(insert, values![seq, slot_id, customer.as_str(), DeliveryState::Pending.as_str()])?;
        deliveries.push((customer, DeliveryId(id)));
    }
    Ok(Claim { run, slot, origin, deadline: None, deliveries })
}

/// A slot is done when its last run is, unless something of it is yet to begin.
pub(super) fn finish_slot(ledger: &Db, slot: i64) -> Result<(), LedgerError> {
    // Another node's run of it may be ending too.
    ledger.lock_slot(slot)?;
    let running: bool = ledger.only(
        "SELECT state = 'running' AND NOT EXISTS (SELECT 1 FROM runs WHERE slot = ?1 AND state = 'running')
             FROM slots WHERE id = ?1",
        values![slot],
    )?;
    if running {
        step::<SlotState>(ledger, slot, SlotEvent::Finish, "", &[])?;
    }
    Ok(())
}
