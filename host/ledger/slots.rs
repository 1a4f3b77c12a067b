//! The commands on slots: what is planned, sent by hand, filled in later, and
//! left out because its share is paused. Each inside the writer's transaction.

use std::collections::BTreeSet;

use super::claim::{leave_out, pending_of, release_share};
use super::db::{Db, values};
use super::row::{at, json, run_id, state, step, to_json};
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
    /// Of these, those that nobody gets.
    pub left_out: Vec<(Slot, SkipReason)>,
}

pub(super) fn plan(
    ledger: &Db,
    now: Instant,
    planned: &[Planned],
    cursors: &[(ShareName, Instant)],
) -> Result<Recorded, LedgerError> {
    ledger.together(PAUSES)?;
    let any_pause: bool = ledger.only("SELECT EXISTS (SELECT 1 FROM pauses)", &[])?;
    let mut recorded = Recorded::default();
    for plan in planned {
        let inserted = insert(ledger, now, plan, SlotState::Pending)?;
        recorded.new += usize::from(inserted.is_some());
        let skip = match plan.skip {
            None if any_pause && is_paused(ledger, &plan.slot)? => Some(SkipReason::Paused),
            skip => skip,
        };
        match (skip, inserted) {
            (Some(reason), Some(id)) => {
                step::<SlotState>(ledger, id, SlotEvent::Skip, "reason = ?3", values![reason.as_str()])?;
                recorded.left_out.push((plan.slot.clone(), reason));
            }
            (None, None) => take_over_manual(ledger, plan)?,
            _ => {}
        }
    }
    let move_cursor = "INSERT INTO shares (name, cursor) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor WHERE excluded.cursor > shares.cursor";
    for (share, cursor) in cursors {
        ledger.execute(move_cursor, values![share.as_str(), *cursor])?;
    }
    Ok(recorded)
}

/// Nobody pauses a share while slots are planned, and the other way round.
const PAUSES: &str = "pauses";

/// Now, or when the slot was: a slot of a pause is left out also when it is
/// planned after the pause.
fn is_paused(ledger: &Db, slot: &Slot) -> Result<bool, LedgerError> {
    ledger.only(
        "SELECT EXISTS (SELECT 1 FROM pauses
         WHERE share = ?1 AND (until IS NULL OR (since <= ?2 AND ?2 < until)))",
        values![slot.share.as_str(), slot.at],
    )
}

/// A slot that was sent by hand before its time came is still planned: for
/// whoever did not get it then.
fn take_over_manual(ledger: &Db, plan: &Planned) -> Result<(), LedgerError> {
    let select = "SELECT id FROM slots WHERE share = ?1 AND at = ?2 AND origin = 'manual'";
    let manual = ledger.first(select, values![plan.slot.share.as_str(), plan.slot.at], |row| row.get(0))?;
    if let Some(id) = manual {
        replan(ledger, id, plan)?;
    }
    Ok(())
}

/// Makes a slot that is there pending again, as planned now. It keeps its interval.
fn replan(ledger: &Db, id: i64, plan: &Planned) -> Result<(), LedgerError> {
    let also = "reason = NULL, origin = ?3, customers = ?4, overlap = ?5, deadline_at = ?6";
    let (origin, customers) = (plan.origin.as_str(), to_json(&plan.customers)?);
    let overlap = plan.overlap.as_str();
    step::<SlotState>(ledger, id, SlotEvent::Plan, also, values![origin, &customers, overlap, plan.deadline])
}

/// The id of the slot, when it is new.
fn insert(ledger: &Db, now: Instant, plan: &Planned, state: SlotState) -> Result<Option<i64>, LedgerError> {
    let Planned { slot, customers, origin, overlap, deadline, .. } = plan;
    ledger.first(
        "INSERT INTO slots (share, at, interval_start, interval_end, origin, customers, overlap, deadline_at,
                                state, planned_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (share, at) DO NOTHING RETURNING id",
        values![
            slot.share.as_str(),
            slot.at,
            slot.interval.start,
            slot.interval.end,
            origin.as_str(),
            &to_json(customers)?,
            overlap.as_str(),
            *deadline,
            state.as_str(),
            now,
        ],
        |row| row.get("id"),
    )
}

/// A slot that is there.
struct Known {
    id: i64,
    state: SlotState,
    origin: Origin,
    slot: Slot,
    customers: BTreeSet<CustomerName>,
}

fn known(ledger: &Db, slot: &Slot) -> Result<Option<Known>, LedgerError> {
    let select = format!("SELECT * FROM slots WHERE share = ?1 AND at = ?2 {}", ledger.locked());
    ledger.first(&select, values![slot.share.as_str(), slot.at], |row| {
        let (id, state) = (row.get("id")?, state(row, "state")?);
        let (origin, customers) = (super::row::origin(row)?, json(row.get("customers")?)?);
        Ok(Known { id, state, origin, slot: super::row::slot(row)?, customers })
    })
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
    insert(ledger, now, &plan, SlotState::Running)?;
    let unknown = || LedgerError::Unknown { record: format!("slot {asked}") };
    let Known { id, state, origin, slot, .. } = known(ledger, asked)?.ok_or_else(unknown)?;
    let mut open = BTreeSet::from_iter(plan.customers);
    let (mut committed, mut busy) = (Vec::new(), Vec::new());
    for (customer, run, state) in taken(ledger, id)? {
        if open.remove(&customer) {
            let list = if state == DeliveryState::Committed { &mut committed } else { &mut busy };
            list.push((customer, run));
        }
    }
    // A planned slot that is still to begin stays so, for its other customers.
    let to_begin = matches!(state, SlotState::Pending | SlotState::Held) && origin != Origin::Manual;
    if !to_begin && !open.is_empty() {
        step::<SlotState>(ledger, id, SlotEvent::Start, "reason = NULL", &[])?;
    }
    let claim = match open.is_empty() {
        true => None,
        false => Some(begin(ledger, now, id, slot.clone(), Origin::Manual, open)?),
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
        slot: known.as_ref().map_or(asked, |known| &known.slot).clone(),
        to_deliver: Vec::new(),
        committed: Vec::new(),
        under_way: Vec::new(),
    };
    let taken = match &known {
        Some(known) => taken(ledger, known.id)?,
        None => Vec::new(),
    };
    let to_begin = known.as_ref().filter(|known| matches!(known.state, SlotState::Pending | SlotState::Held));
    // Filled in for some, it would be known, and the schedule would not plan it for the others.
    let yet_to_plan = super::read::cursor(ledger, &asked.share)?.is_some_and(|cursor| cursor < asked.at);
    for customer in customers {
        let state = taken.iter().find(|(other, ..)| other == customer).map(|(.., state)| *state);
        let planned = to_begin.is_some_and(|known| known.customers.contains(customer));
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
                None => drop(insert(ledger, now, &plan, SlotState::Pending)?.ok_or(LedgerError::Conflict)?),
                Some(known) if matches!(known.state, SlotState::Pending | SlotState::Held) => {
                    let all = to_json(&known.customers.iter().chain(&plan.customers).collect::<BTreeSet<_>>())?;
                    ledger.execute("UPDATE slots SET customers = ?2 WHERE id = ?1", values![known.id, &all])?;
                }
                Some(known) => replan(ledger, known.id, &plan)?,
            }
        }
        all.push(filling);
    }
    Ok(all)
}

/// Pauses a share from `now` on. What the schedule had planned and nobody had
/// begun is left out. Returns since when it was paused, if it was.
pub(super) fn pause(ledger: &Db, now: Instant, share: &ShareName) -> Result<Option<Instant>, LedgerError> {
    ledger.alone(PAUSES)?;
    ledger.alone(&share_lock(share))?;
    let select = "SELECT since FROM pauses WHERE share = ?1 AND until IS NULL";
    if let Some(since) = ledger.first(select, values![share.as_str()], |row| at(row, "since"))? {
        return Ok(Some(since));
    }
    // Resumed and paused within the same instant: it goes on.
    ledger.execute(
        "INSERT INTO pauses (share, since) VALUES (?1, ?2) ON CONFLICT (share, since) DO UPDATE SET until = NULL",
        values![share.as_str(), now],
    )?;
    release_share(ledger, share)?;
    for pending in pending_of(ledger, share)? {
        leave_out(ledger, now, pending, SkipReason::Paused)?;
    }
    Ok(None)
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
