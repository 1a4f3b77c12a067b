//! Which planned slots begin now: what is on time before what is late, and of
//! one share only what its rule of overlap lets in. Inside the writer's transaction.
//!
//! Everything is decided per customer, so that one who is slow holds up nobody else.

use std::collections::{BTreeMap, BTreeSet};

use super::db::{Db, Row, Value, values};
use super::row::{at, customer, json, maybe_at, origin, overlap, share, slot, state, step, to_json};
use super::shared::{self, share_lock};
use super::slots::{begin, finish_slot, taken};
use super::state::{DeliveryEvent, DeliveryState, SlotEvent, SlotState};
use super::{Claim, Claims, DeliveryId, LedgerError, Wanted, faults, restored, write};
use crate::clock::{Instant, ahead_from, exact};
use crate::config::Overlap;
use crate::domain::{CustomerName, Failure, Layer, Origin, Retry, ShareName, SkipReason, Slot};

/// A slot as it was planned, mostly one with something left to begin.
pub(super) struct Pending {
    pub(super) id: i64,
    pub(super) slot: Slot,
    pub(super) origin: Origin,
    pub(super) overlap: Overlap,
    pub(super) deadline: Option<Instant>,
    pub(super) customers: BTreeSet<CustomerName>,
}

/// A delivery of another slot of the share that is not at its end.
struct Other {
    id: i64,
    customer: CustomerName,
    state: DeliveryState,
    /// To be tried again later, so at work now it is not.
    waits: bool,
    origin: Origin,
    at: Instant,
}

/// Who of a slot's customers may begin.
#[derive(Default)]
struct Sorted {
    free: BTreeSet<CustomerName>,
    /// Until another slot of theirs is done.
    held: BTreeSet<CustomerName>,
    left_out: BTreeSet<CustomerName>,
    /// Deliveries that make room.
    cancelled: Vec<i64>,
}

pub(super) fn claim(ledger: &Db, now: Instant, on_time: &Wanted, late: &Wanted) -> Result<Claims, LedgerError> {
    shared::release_stale(ledger)?;
    let (mut claims, mut late) = (Claims::default(), late.clone());
    for origin in [Origin::Schedule, Origin::CatchUp, Origin::Backfill] {
        let pending = pending(ledger, now, origin, if origin.is_late() { &late } else { on_time })?;
        if origin.is_late() {
            late.slots -= pending.len();
        }
        for pending in pending {
            // What is at work is judged by one node at a time; another one comes back to it.
            if !ledger.alone_if_free(&share_lock(&pending.slot.share))? {
                continue;
            }
            claims.looked_at += 1;
            admit(ledger, now, pending, &mut claims)?;
        }
    }
    Ok(claims)
}

/// Late slots of one share that are held while nobody has begun them, before those behind them are looked at.
const HELD_MAX: u32 = 32;

/// The oldest of one origin. A slot ahead of the clock waits for its time: its data are complete only then.
fn pending(ledger: &Db, now: Instant, of: Origin, wanted: &Wanted) -> Result<Vec<Pending>, LedgerError> {
    if wanted.slots == 0 {
        return Ok(Vec::new());
    }
    // What is on time is looked at when it is due: it may begin for some.
    let mut full = if of.is_late() { full(ledger)? } else { Vec::new() };
    full.retain(|(share, _)| !wanted.except.contains(share));
    let except = wanted.except.iter().chain(full.iter().map(|(share, _)| share));
    let except = to_json(&except.map(|share| [share]).collect::<Vec<_>>())?;
    let limit = i64::try_from(wanted.slots).unwrap_or(i64::MAX);
    let oldest = format!(
        "SELECT * FROM slots WHERE state = 'pending' AND origin = ?2 AND at <= ?4
           AND share NOT IN (SELECT value ->> 0 FROM {}) ORDER BY at, id LIMIT ?3 {}",
        ledger.given(),
        ledger.locked_if_free()
    );
    let mut oldest = ledger.all(&oldest, values![&except, of.as_str(), limit, ahead_from(now)], read)?;
    let before = format!(
        "SELECT * FROM slots WHERE state = 'pending' AND origin = ?2 AND at <= ?4 AND share = ?1 AND at < ?5
             ORDER BY at, id LIMIT ?3 {}",
        ledger.locked_if_free()
    );
    for (share, first) in full {
        let values = values![share.as_str(), of.as_str(), limit, ahead_from(now), first];
        oldest.extend(ledger.all(&before, values, read)?);
    }
    oldest.sort_unstable_by_key(|pending| (pending.slot.at, pending.id));
    oldest.truncate(wanted.slots);
    Ok(oldest)
}

/// Shares of which enough late slots are held, with the first of these: what is behind it stays pending.
fn full(ledger: &Db) -> Result<Vec<(ShareName, Instant)>, LedgerError> {
    let enough = format!(
        "SELECT share, min(at) AS first FROM slots
         WHERE state = 'held' AND origin {} AND NOT EXISTS (SELECT 1 FROM runs WHERE slot = slots.id)
         GROUP BY share HAVING count(*) >= {HELD_MAX}",
        alike(true)
    );
    ledger.all(&enough, &[], |row| Ok((share(row)?, at(row, "first")?)))
}

/// What the schedule has planned of a share and nobody has begun.
pub(super) fn pending_of(ledger: &Db, share: &ShareName) -> Result<Vec<Pending>, LedgerError> {
    let planned = format!(
        "SELECT * FROM slots WHERE share = ?1 AND state = 'pending' AND origin IN ('schedule', 'catch-up')
         ORDER BY at {}",
        ledger.locked()
    );
    ledger.all(&planned, values![share.as_str()], read)
}

pub(super) fn read(row: &Row<'_>) -> Result<Pending, LedgerError> {
    let origin = origin(row)?;
    Ok(Pending {
        id: row.get("id")?,
        slot: slot(row)?,
        origin,
        overlap: overlap(row)?,
        // Of a slot that is filled in it is that of its earlier runs.
        deadline: maybe_at(row, "deadline_at")?.filter(|_| origin != Origin::Backfill),
        customers: json(row.get("customers")?)?,
    })
}

/// Takes one slot out of what is pending, in whichever way.
fn admit(ledger: &Db, now: Instant, mut pending: Pending, claims: &mut Claims) -> Result<(), LedgerError> {
    let Pending { id, origin, overlap, deadline, .. } = pending;
    let taken = taken(ledger, id)?;
    let have_it: Vec<_> = taken.iter().filter_map(|(customer, ..)| pending.customers.take(customer)).collect();
    // For these nothing of it comes to an end.
    release_next(ledger, &pending, have_it.into_iter().collect())?;
    if pending.customers.is_empty() {
        step::<SlotState>(ledger, id, SlotEvent::Start, "", &[])?;
        return finish_slot(ledger, id);
    }
    let overtaken =
        overlap == Overlap::Cancel && origin == Origin::Schedule && newer_waits(ledger, now, &pending.slot)?;
    let passed = deadline.is_some_and(|deadline| deadline <= now);
    if let Some(reason) = overtaken.then_some(SkipReason::Overlap).or(passed.then_some(SkipReason::Deadline)) {
        claims.skipped.push((pending.slot.clone(), reason));
        leave_out(ledger, now, &pending, reason)?;
        return release_next(ledger, &pending, pending.customers.clone());
    }
    // Where nothing is in the way, a long backlog need not be looked through for each of its slots.
    let others = match overlap == Overlap::Allow && !origin.is_late() {
        true => Vec::new(),
        false => others(ledger, id, &pending.slot.share)?,
    };
    let Sorted { free, mut held, mut left_out, cancelled } = sort(&pending, &others);
    if !left_out.is_empty() && faults::halts(ledger, &pending.slot.share)? {
        // What is in the way is not slow: it has not begun, and waits for its plugin as this slot does.
        let has_begun = |other: &Other| !other.waits && other.state != DeliveryState::Pending;
        let is_slow =
            |customer: &CustomerName| others.iter().any(|other| other.customer == *customer && has_begun(other));
        held.extend(left_out.extract_if(.., |customer| !is_slow(customer)));
    }
    let why = to_json(&superseded(&pending.slot))?;
    for delivery in cancelled {
        cancel(ledger, delivery, &why)?;
        claims.cancelled.push(DeliveryId(delivery));
    }
    if !left_out.is_empty() {
        claims.skipped.push((pending.slot.clone(), SkipReason::Overlap));
    }
    if free.is_empty() && held.is_empty() {
        return leave_out(ledger, now, &pending, SkipReason::Overlap).map(drop);
    }
    match held.is_empty() {
        true => step::<SlotState>(ledger, id, SlotEvent::Start, "", &[])?,
        // For these alone. Whoever begins now has had its turn, however that ends. What has waited once is not left
        // out when one begins that has waited with it.
        false => {
            let also = "customers = ?3, overlap = CASE overlap WHEN 'skip' THEN 'queue' ELSE overlap END";
            step::<SlotState>(ledger, id, SlotEvent::Hold, also, values![&to_json(&held)?])?;
        }
    }
    // First, because the slot is done when no run of it is left.
    if !free.is_empty() {
        let claim = begin(ledger, now, id, pending.slot.clone(), origin, free)?;
        claims.runs.push(Claim { deadline, ..claim });
    }
    match left_out.is_empty() {
        true => Ok(()),
        false => fail(ledger, now, &pending, left_out, SkipReason::Overlap),
    }
}

fn sort(pending: &Pending, others: &[Other]) -> Sorted {
    let (late, overlap) = (pending.origin.is_late(), pending.overlap);
    let mut sorted = Sorted::default();
    let mut all = BTreeMap::<&CustomerName, Vec<&Other>>::new();
    others.iter().for_each(|other| all.entry(&other.customer).or_default().push(other));
    for customer in &pending.customers {
        let theirs = || all.get(customer).into_iter().flatten();
        if !late && overlap == Overlap::Cancel {
            // What is sealed is only completed. What waits for another try is given up as well.
            let given_up = theirs().filter(|other| other.at < pending.slot.at && !other.origin.is_late());
            let given_up = given_up.filter(|other| other.state != DeliveryState::Sealed);
            sorted.cancelled.extend(given_up.map(|other| other.id));
        }
        let at_work =
            || theirs().filter(|other| !other.waits && (overlap != Overlap::Allow || (late && other.origin.is_late())));
        let list = if at_work().next().is_none() {
            &mut sorted.free
        } else if !late && overlap == Overlap::Skip && at_work().any(|other| !other.origin.is_late()) {
            &mut sorted.left_out
        } else {
            // What is late goes one by one; for it a slot on time waits, and is not left out.
            &mut sorted.held
        };
        list.insert(customer.clone());
    }
    sorted
}

/// Runs by hand are somebody's wish and not in the way.
fn others(ledger: &Db, slot: i64, share: &ShareName) -> Result<Vec<Other>, LedgerError> {
    ledger.all(
        "SELECT d.id, d.customer, d.state, d.state = 'waiting' OR d.due_at IS NOT NULL AS waits, r.origin, s.at
             FROM runs r JOIN deliveries d ON d.run = r.seq JOIN slots s ON s.id = r.slot
             WHERE r.share = ?1 AND r.state = 'running' AND r.slot <> ?2 AND r.origin <> 'manual'
               AND d.state IN ('pending', 'working', 'sealed', 'waiting')",
        values![share.as_str(), slot],
        |row| {
            let (id, waits, at) = (row.get("id")?, row.get("waits")?, at(row, "at")?);
            Ok(Other { id, customer: customer(row)?, state: state(row, "state")?, waits, origin: origin(row)?, at })
        },
    )
}

/// With `overlap = "cancel"` only the newest slot counts.
fn newer_waits(ledger: &Db, now: Instant, slot: &Slot) -> Result<bool, LedgerError> {
    ledger.only(
        "SELECT EXISTS (SELECT 1 FROM slots WHERE share = ?1 AND at > ?2 AND at <= ?3 AND origin = 'schedule'
                            AND state IN ('pending', 'held'))",
        values![slot.share.as_str(), slot.at, ahead_from(now)],
    )
}

/// A delivery is to be ended. Whoever has it at work is told, and so is whoever takes it up.
pub(super) fn cancel(ledger: &Db, delivery: i64, why: &str) -> Result<(), LedgerError> {
    let mark = "UPDATE deliveries SET cancel = coalesce(cancel, ?2) WHERE id = ?1";
    ledger.execute(mark, values![delivery, why]).map(drop)
}

/// Whoever of a pending slot's customers has not got it does not get it; false when
/// there is nobody like that.
pub(super) fn leave_out(ledger: &Db, now: Instant, pending: &Pending, reason: SkipReason) -> Result<bool, LedgerError> {
    let id = pending.id;
    let has_runs: bool = ledger.only("SELECT EXISTS (SELECT 1 FROM runs WHERE slot = ?1)", values![id])?;
    if !has_runs {
        step::<SlotState>(ledger, id, SlotEvent::Skip, "reason = ?3", values![reason.as_str()])?;
        return Ok(true);
    }
    // Some have it or are getting it: these deliveries were left out, the slot was not.
    step::<SlotState>(ledger, id, SlotEvent::Start, "", &[])?;
    let mut customers = pending.customers.clone();
    for (taken, ..) in taken(ledger, id)? {
        customers.remove(&taken);
    }
    let any = !customers.is_empty();
    match any {
        true => fail(ledger, now, pending, customers, reason)?,
        false => finish_slot(ledger, id)?,
    }
    Ok(any)
}

/// A run in which nobody gets anything, so that it is on record who did not.
pub(super) fn fail(
    ledger: &Db,
    now: Instant,
    pending: &Pending,
    customers: BTreeSet<CustomerName>,
    reason: SkipReason,
) -> Result<(), LedgerError> {
    let Pending { id, slot, origin, .. } = pending;
    let why = to_json(&match reason {
        SkipReason::Restored => restored::why(slot, None),
        _ => {
            let remedy = format!("`consign send {} --at {}` delivers it", slot.share, exact(slot.at));
            let message = format!("slot {slot} was left out: {reason}");
            Failure::new(Layer::Schedule, Retry::Never, message, remedy)
        }
    })?;
    let claim = begin(ledger, now, *id, slot.clone(), *origin, customers)?;
    for (_, delivery) in &claim.deliveries {
        let also = "failure = ?3, reason = ?4";
        step::<DeliveryState>(ledger, delivery.0, DeliveryEvent::Fail, also, values![&why, reason.as_str()])?;
    }
    write::run_finished(ledger, now, claim.run)?;
    Ok(())
}

/// The condition for a delivery `d` that was left out, and of which nothing newer is known.
pub(super) const LEFT_OUT: &str = "d.reason IS NOT NULL AND NOT EXISTS
    (SELECT 1 FROM deliveries newer WHERE newer.slot = d.slot AND newer.customer = d.customer AND newer.id > d.id)";

fn superseded(by: &Slot) -> Failure {
    let message = format!("given up for slot {by}, because the share says overlap = \"cancel\"");
    let remedy = "if it is wanted still, `consign send` delivers it; if slots often meet, let them be further apart";
    Failure::new(Layer::Schedule, Retry::Never, message, remedy)
}

/// A delivery is no longer at work: the oldest slot that waited for it, of those on time and of those that are late, is
/// looked at again. The others would be held again, for this one.
pub(super) fn release(ledger: &Db, delivery: i64) -> Result<(), LedgerError> {
    // Most of the time there is none, and this is asked after every delivery.
    let any: bool = ledger.only("SELECT EXISTS (SELECT 1 FROM slots WHERE state = 'held')", &[])?;
    if !any {
        return Ok(());
    }
    for late in [false, true] {
        release_where(ledger, &format!("id IN ({})", waiting_for(late)), values![delivery])?;
    }
    Ok(())
}

/// Nothing of a slot will come to an end for these customers: the next one that waits for each is looked at now.
pub(super) fn release_next(
    ledger: &Db,
    of: &Pending,
    mut customers: BTreeSet<CustomerName>,
) -> Result<(), LedgerError> {
    if customers.is_empty() {
        return Ok(());
    }
    let share = of.slot.share.as_str();
    // One by one: mostly the first has them all, and lists of customers may be long.
    for id in ledger.all(&held(of.origin.is_late()), values![share], |row| row.get::<i64>("id"))? {
        let waiting = "SELECT customers FROM slots WHERE id = ?1";
        let waiting =
            ledger.first(waiting, values![id], |row| json::<BTreeSet<CustomerName>>(row.get("customers")?))?;
        let before = customers.len();
        customers.retain(|customer| waiting.as_ref().is_none_or(|waiting| !waiting.contains(customer)));
        if customers.len() < before {
            release_where(ledger, "id = ?1 AND state = 'held'", values![id])?;
        }
        if customers.is_empty() {
            break;
        }
    }
    Ok(())
}

// Both in the order in which slots are claimed, and by the index of what is held: that of all slots that there ever
// were has them in order, hence the `+`.

/// The first slot that waits for the customer of delivery `?1`.
fn waiting_for(late: bool) -> String {
    // In a list of names as JSON, which need no escaping.
    format!(
        "SELECT s.id FROM deliveries d JOIN runs r ON r.seq = d.run JOIN slots s ON s.share = r.share
         WHERE d.id = ?1 AND s.state = 'held' AND s.origin {}
           AND s.customers <> replace(s.customers, '\"' || d.customer || '\"', '')
         ORDER BY s.origin = 'backfill', +s.at, s.id LIMIT 1",
        alike(late)
    )
}

/// All of share `?1` that wait.
fn held(late: bool) -> String {
    format!(
        "SELECT id FROM slots WHERE state = 'held' AND share = ?1 AND origin {}
         ORDER BY origin = 'backfill', +at, id",
        alike(late)
    )
}

/// The condition for the origin of slots that wait for each other.
fn alike(is_late: bool) -> &'static str {
    if is_late { "<> 'schedule'" } else { "= 'schedule'" }
}

pub(super) fn release_share(ledger: &Db, share: &ShareName) -> Result<(), LedgerError> {
    release_where(ledger, "state = 'held' AND share = ?1", values![share.as_str()])
}

pub(super) fn release_all(ledger: &Db) -> Result<(), LedgerError> {
    release_where(ledger, "state = 'held'", &[])
}

/// The condition for a slot to wait for another one of its share while none is at work, or about to be.
macro_rules! held_for_nothing {
    () => {
        "state = 'held' AND NOT EXISTS
             (SELECT 1 FROM runs r JOIN deliveries d ON d.run = r.seq
              WHERE r.share = slots.share AND r.state = 'running' AND r.slot <> slots.id
                AND d.state IN ('pending', 'working', 'sealed') AND d.due_at IS NULL)
             AND NOT EXISTS (SELECT 1 FROM slots next
                             WHERE next.share = slots.share AND next.state = 'pending' AND next.at <= slots.at)"
    };
}
pub(super) use held_for_nothing;

pub(super) fn release_where(ledger: &Db, which: &str, values: &[Value<'_>]) -> Result<(), LedgerError> {
    let held = format!("SELECT id FROM slots WHERE {which} ORDER BY id {}", ledger.locked_if_free());
    for id in ledger.all(&held, values, |row| row.get(0))? {
        step::<SlotState>(ledger, id, SlotEvent::Release, "", &[])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::ledger::Ledger;

    /// After every delivery: a share may have had a hundred thousand slots.
    #[tokio::test]
    async fn what_waits_is_found_among_what_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), Clock::fixed(Instant::UNIX_EPOCH)).unwrap();
        for (sql, value) in [false, true].into_iter().flat_map(|late| [(waiting_for(late), "1"), (held(late), "a")]) {
            let plan = format!("EXPLAIN QUERY PLAN {sql}");
            let steps = move |ledger: &Db| ledger.all(&plan, values![value], |row| row.get::<String>("detail"));
            let steps = ledger.reader().read(steps).await.unwrap().join("; ");
            assert!(steps.contains("USING INDEX slots_held (share=?)"), "{steps}");
        }
    }
}
