//! Random commands, legal and not, against a model of a few maps; the process
//! "restarts" now and then. The model knows nothing of `state.rs`.

use std::collections::{BTreeMap, BTreeSet};

use consign::config::Overlap;
use consign::domain::{Failure, Origin, RunId, SkipReason};
use consign::ledger::{AttemptId, AttemptState, DeliveryId, DeliveryState, History, Ledger, Planned, RunState};
use proptest::prelude::*;
use proptest::sample::Index;

use super::{customers, key, lasting, object, open, passing, receipt, share, slot, start};

const NAMES: [&str; 3] = ["acme", "globex", "initech"];
const SHARES: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
enum Op {
    Plan { share: usize, hours: Vec<i64>, who: u8, kind: Kind, cursor: i64 },
    Claim(usize, usize),
    Send { share: usize, hour: i64, who: u8 },
    Backfill { share: usize, hours: Vec<i64>, who: u8 },
    Pause(usize),
    Resume(usize),
    ReleaseHeld,
    Start(Index),
    Upload(Index),
    Abort(Index),
    Seal(Index),
    Commit(Index),
    Fail(Index, bool),
    Interrupt(Index),
    Finish(Index),
    Restart,
}

/// How slots are planned.
#[derive(Clone, Copy, Debug)]
struct Kind {
    skip: bool,
    late: bool,
    overlap: Overlap,
    /// Has passed already.
    deadline: bool,
}

fn kind() -> impl Strategy<Value = Kind> {
    let overlap = (0..Overlap::ALL.len()).prop_map(|n| Overlap::ALL[n]);
    (prop::bool::weighted(0.1), prop::bool::weighted(0.3), overlap, prop::bool::weighted(0.1))
        .prop_map(|(skip, late, overlap, deadline)| Kind { skip, late, overlap, deadline })
}

fn op() -> impl Strategy<Value = Op> {
    let pick = any::<Index>;
    let hours = || proptest::collection::vec(0..6i64, 1..4);
    prop_oneof![
        3 => (0..2usize, hours(), 1..8u8, kind(), 0..9i64)
            .prop_map(|(share, hours, who, kind, cursor)| Op::Plan { share, hours, who, kind, cursor }),
        4 => (0..4usize, 0..3usize).prop_map(|(on_time, late)| Op::Claim(on_time, late)),
        2 => (0..2usize, 0..6i64, 1..8u8).prop_map(|(share, hour, who)| Op::Send { share, hour, who }),
        1 => (0..2usize, hours(), 1..8u8).prop_map(|(share, hours, who)| Op::Backfill { share, hours, who }),
        1 => (0..2usize).prop_map(Op::Pause),
        1 => (0..2usize).prop_map(Op::Resume),
        1 => Just(Op::ReleaseHeld),
        6 => pick().prop_map(Op::Start),
        3 => pick().prop_map(Op::Upload),
        1 => pick().prop_map(Op::Abort),
        5 => pick().prop_map(Op::Seal),
        5 => pick().prop_map(Op::Commit),
        2 => (pick(), any::<bool>()).prop_map(|(at, passing)| Op::Fail(at, passing)),
        1 => pick().prop_map(Op::Interrupt),
        2 => pick().prop_map(Op::Finish),
        1 => Just(Op::Restart),
    ]
}

type SlotKey = (usize, i64);

#[derive(Clone, Copy, Debug, PartialEq)]
enum SlotIs {
    Pending,
    Held,
    Running,
    Done,
    Skipped,
}

struct SlotModel {
    is: SlotIs,
    /// How many were recorded before it.
    recorded: usize,
    origin: Origin,
    overlap: Overlap,
    deadline: bool,
    who: BTreeSet<&'static str>,
}

struct RunModel {
    /// None until the ledger was asked for it.
    id: Option<RunId>,
    slot: SlotKey,
    origin: Origin,
    is: RunState,
    deliveries: Vec<usize>,
}

struct DeliveryModel {
    id: Option<DeliveryId>,
    run: usize,
    slot: SlotKey,
    customer: &'static str,
    is: DeliveryState,
    /// Sealed, and to be completed later.
    postponed: bool,
    cancelled: bool,
    attempts: Vec<usize>,
}

struct AttemptModel {
    id: AttemptId,
    delivery: usize,
    is: AttemptState,
    /// Uploads by name, and whether they are still open.
    uploads: BTreeMap<String, bool>,
}

#[derive(Default)]
struct Model {
    slots: BTreeMap<SlotKey, SlotModel>,
    cursors: BTreeMap<usize, i64>,
    paused: BTreeSet<usize>,
    runs: Vec<RunModel>,
    deliveries: Vec<DeliveryModel>,
    attempts: Vec<AttemptModel>,
}

fn names(who: u8) -> BTreeSet<&'static str> {
    (0..3).filter(|bit| who >> bit & 1 == 1).map(|bit| NAMES[bit]).collect()
}

fn list(names: &BTreeSet<&'static str>) -> Vec<consign::domain::CustomerName> {
    customers(&names.iter().copied().collect::<Vec<_>>())
}

impl Model {
    fn free(&self, slot: SlotKey, who: &BTreeSet<&'static str>) -> BTreeSet<&'static str> {
        let taken = |name: &&&str| {
            self.deliveries.iter().any(|d| d.slot == slot && d.customer == **name && d.is != DeliveryState::Failed)
        };
        who.iter().filter(|name| !taken(name)).copied().collect()
    }

    /// Who else was left out of a skipped slot, and by what.
    fn others(&self, key: SlotKey, some: &BTreeSet<&'static str>) -> Option<(Origin, BTreeSet<&'static str>)> {
        let slot = self.slots.get(&key).filter(|slot| slot.is == SlotIs::Skipped)?;
        Some((slot.origin, slot.who.difference(some).copied().collect()))
    }

    fn still_left_out(&mut self, key: SlotKey, others: Option<(Origin, BTreeSet<&'static str>)>) {
        if let Some((origin, who)) = others.filter(|(_, who)| !who.is_empty()) {
            self.began(key, &who, origin, true);
        }
    }

    /// Who was left out of which slot that others have, as the last that is known of them there.
    fn left_out(&self) -> BTreeSet<(usize, i64, &'static str)> {
        let mut last = BTreeMap::new();
        for delivery in &self.deliveries {
            last.insert((delivery.slot.0, delivery.slot.1, delivery.customer), delivery);
        }
        let left_out = |of: &DeliveryModel| of.is == DeliveryState::Failed && of.attempts.is_empty();
        last.into_iter().filter(|(_, delivery)| left_out(delivery)).map(|(who, _)| who).collect()
    }

    /// What is to be claimed, oldest first; of one hour, in the order of recording.
    fn pending(&self, origin: Origin) -> Vec<SlotKey> {
        let pending = self.slots.iter().filter(|(_, slot)| slot.is == SlotIs::Pending && slot.origin == origin);
        let mut keys: Vec<_> = pending.map(|(key, slot)| (key.1, slot.recorded, *key)).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, _, key)| key).collect()
    }

    fn finish_slot(&mut self, key: SlotKey) {
        let running = self.runs.iter().any(|run| run.slot == key && run.is == RunState::Running);
        let slot = self.slots.get_mut(&key).unwrap();
        if !running && slot.is == SlotIs::Running {
            slot.is = SlotIs::Done;
        }
    }

    /// A run that the ledger has begun, or one that only says who was left out.
    fn began(&mut self, slot: SlotKey, who: &BTreeSet<&'static str>, origin: Origin, left_out: bool) {
        let (first, run) = (self.deliveries.len(), self.runs.len());
        let is = if left_out { DeliveryState::Failed } else { DeliveryState::Pending };
        for customer in who.iter().copied() {
            let (id, postponed, cancelled, attempts) = (None, false, false, Vec::new());
            self.deliveries.push(DeliveryModel { id, run, slot, customer, is, postponed, cancelled, attempts });
        }
        let deliveries = (first..self.deliveries.len()).collect();
        let is = if left_out { RunState::Failed } else { RunState::Running };
        self.runs.push(RunModel { id: None, slot, origin, is, deliveries });
    }

    /// A slot that is looked at; adds the deliveries that it has ended.
    fn admit(&mut self, key: SlotKey, ended: &mut BTreeSet<usize>) {
        let SlotModel { origin, overlap, deadline, .. } = self.slots[&key];
        let who = self.free(key, &self.slots[&key].who);
        if who.is_empty() {
            self.slots.get_mut(&key).unwrap().is = SlotIs::Running;
            return self.finish_slot(key);
        }
        let on_time = origin == Origin::Schedule;
        let waits = |slot: &SlotModel| matches!(slot.is, SlotIs::Pending | SlotIs::Held);
        let newer = self
            .slots
            .iter()
            .any(|(other, slot)| other.0 == key.0 && other.1 > key.1 && slot.origin == Origin::Schedule && waits(slot));
        if deadline || (on_time && overlap == Overlap::Cancel && newer) {
            return self.leave_out(key);
        }
        let (mut free, mut held, mut left_out) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for name in who {
            let (mut on_time_at_work, mut late_at_work) = (false, false);
            for (at, delivery) in self.deliveries.iter().enumerate() {
                let run = &self.runs[delivery.run];
                let rival = delivery.slot.0 == key.0 && delivery.slot != key && delivery.customer == name;
                if !rival || run.is != RunState::Running || run.origin == Origin::Manual {
                    continue;
                }
                use DeliveryState::{Pending, Sealed, Waiting, Working};
                let open = matches!(delivery.is, Pending | Working | Sealed | Waiting);
                let at_work = open && delivery.is != Waiting && !delivery.postponed;
                let late = run.origin != Origin::Schedule;
                on_time_at_work |= at_work && !late;
                late_at_work |= at_work && late;
                let older = delivery.slot.1 < key.1;
                if on_time && overlap == Overlap::Cancel && older && !late && open && delivery.is != Sealed {
                    ended.insert(at);
                }
            }
            let list = match (overlap, on_time) {
                (Overlap::Allow, true) => &mut free,
                (Overlap::Allow, false) if !late_at_work => &mut free,
                _ if !on_time_at_work && !late_at_work => &mut free,
                (Overlap::Skip, true) if on_time_at_work => &mut left_out,
                _ => &mut held,
            };
            list.insert(name);
        }
        if free.is_empty() && held.is_empty() {
            return self.leave_out(key);
        }
        let slot = self.slots.get_mut(&key).unwrap();
        slot.is = if held.is_empty() { SlotIs::Running } else { SlotIs::Held };
        if !held.is_empty() {
            slot.who = held;
        }
        if !free.is_empty() {
            self.began(key, &free, origin, false);
        }
        if !left_out.is_empty() {
            self.began(key, &left_out, origin, true);
            self.finish_slot(key);
        }
    }

    fn leave_out(&mut self, key: SlotKey) {
        let who = self.free(key, &self.slots[&key].who);
        let slot = self.slots.get_mut(&key).unwrap();
        if !self.runs.iter().any(|run| run.slot == key) {
            slot.is = SlotIs::Skipped;
            return;
        }
        slot.is = SlotIs::Running;
        let origin = slot.origin;
        if !who.is_empty() {
            self.began(key, &who, origin, true);
        }
        self.finish_slot(key);
    }

    fn release(&mut self, share: usize) {
        for (_, slot) in self.slots.iter_mut().filter(|(key, slot)| key.0 == share && slot.is == SlotIs::Held) {
            slot.is = SlotIs::Pending;
        }
    }

    fn end(&mut self, attempt: usize, from: &[AttemptState], to: AttemptState, delivery: DeliveryState) -> bool {
        let legal = from.contains(&self.attempts[attempt].is);
        if legal {
            self.attempts[attempt].is = to;
            let of = self.attempts[attempt].delivery;
            self.deliveries[of].is = delivery;
            self.deliveries[of].postponed = false;
            if delivery != DeliveryState::Pending && delivery != DeliveryState::Sealed {
                self.release(self.deliveries[of].slot.0);
            }
        }
        legal
    }
}

async fn step(ledger: &Ledger, model: &mut Model, op: &Op) {
    match op {
        Op::Plan { .. } | Op::Claim(..) | Op::Send { .. } | Op::Backfill { .. } => step_slots(ledger, model, op).await,
        Op::Pause(share) => pause(ledger, model, *share).await,
        Op::Resume(at) => {
            let was = ledger.resume(share(SHARES[*at])).await.unwrap();
            assert_eq!(was.is_some(), model.paused.remove(at));
        }
        Op::ReleaseHeld => {
            ledger.release_held().await.unwrap();
            (0..SHARES.len()).for_each(|share| model.release(share));
        }
        Op::Start(at) if !model.deliveries.is_empty() => {
            let at = at.index(model.deliveries.len());
            let result = ledger.attempt_started(model.deliveries[at].id.unwrap(), None).await;
            let legal = matches!(model.deliveries[at].is, DeliveryState::Pending | DeliveryState::Waiting);
            assert_eq!(result.is_ok(), legal, "{result:?}");
            if let Ok(attempt) = result {
                model.deliveries[at].is = DeliveryState::Working;
                model.deliveries[at].attempts.push(model.attempts.len());
                assert_eq!(attempt.number as usize, model.deliveries[at].attempts.len());
                let (is, uploads) = (AttemptState::Working, BTreeMap::new());
                model.attempts.push(AttemptModel { id: attempt.id, delivery: at, is, uploads });
            }
        }
        Op::Finish(at) if !model.runs.is_empty() => finish(ledger, model, at.index(model.runs.len())).await,
        Op::Start(_) | Op::Finish(_) | Op::Restart => {}
        _ if model.attempts.is_empty() => {}
        _ => step_attempt(ledger, model, op).await,
    }
}

async fn step_slots(ledger: &Ledger, model: &mut Model, op: &Op) {
    match op {
        Op::Plan { share: at, hours, who, kind, cursor } => {
            let to = start() + chrono::TimeDelta::hours(*cursor);
            let plan = |hour: &i64| planned(*at, *hour, *who, *kind);
            let recorded = ledger.plan(hours.iter().map(plan).collect(), vec![(share(SHARES[*at]), to)]).await.unwrap();
            let known = model.slots.len();
            let hours: BTreeSet<i64> = hours.iter().copied().collect();
            for hour in hours {
                plan_one(model, (*at, hour), *who, *kind);
            }
            assert_eq!(recorded.new, model.slots.len() - known);
            adopt(ledger, model).await;
            let kept = model.cursors.entry(*at).or_insert(*cursor);
            *kept = (*kept).max(*cursor);
        }
        Op::Claim(on_time, late) => claim(ledger, model, *on_time, *late).await,
        Op::Send { share: at, hour, who } => {
            let (key, who) = ((*at, *hour), names(*who));
            let started = ledger.start_manual(slot(SHARES[*at], *hour), list(&who)).await.unwrap();
            let free = model.free(key, &who);
            let others = model.others(key, &who);
            let is = SlotIs::Running;
            let recorded = model.slots.len();
            let (origin, overlap, deadline) = (Origin::Manual, Overlap::Allow, false);
            let sent = SlotModel { is, recorded, origin, overlap, deadline, who: who.clone() };
            let known = model.slots.entry(key).or_insert(sent);
            let to_begin = matches!(known.is, SlotIs::Pending | SlotIs::Held) && known.origin != Origin::Manual;
            if !free.is_empty() && !to_begin {
                known.is = SlotIs::Running;
            }
            assert_eq!(started.claim.is_some(), !free.is_empty());
            assert_eq!(started.committed.len() + started.busy.len(), who.len() - free.len());
            if started.claim.is_some() {
                model.began(key, &free, Origin::Manual, false);
                model.still_left_out(key, others);
            }
            adopt(ledger, model).await;
        }
        Op::Backfill { share: at, hours, who } => {
            let slots = hours.iter().map(|hour| slot(SHARES[*at], *hour)).collect();
            let filled = ledger.backfill(slots, list(&names(*who))).await.unwrap();
            for (hour, filling) in hours.iter().zip(filled) {
                let open = fill(model, (*at, *hour), &names(*who));
                assert_eq!(filling.to_deliver, list(&open));
                let all = filling.to_deliver.len() + filling.committed.len() + filling.under_way.len();
                assert_eq!(all, names(*who).len());
            }
            adopt(ledger, model).await;
        }
        _ => unreachable!(),
    }
}

fn planned(at: usize, hour: i64, who: u8, kind: Kind) -> Planned {
    let origin = if kind.late { Origin::CatchUp } else { Origin::Schedule };
    Planned {
        overlap: kind.overlap,
        deadline: kind.deadline.then(start),
        skip: kind.skip.then_some(SkipReason::Missed),
        ..Planned::new(slot(SHARES[at], hour), list(&names(who)), origin)
    }
}

fn plan_one(model: &mut Model, key: SlotKey, who: u8, kind: Kind) {
    let skip = kind.skip || model.paused.contains(&key.0);
    let old = model.slots.get(&key);
    if old.is_some_and(|old| old.origin != Origin::Manual) {
        return;
    }
    let recorded = old.map_or(model.slots.len(), |old| old.recorded);
    let origin = if kind.late { Origin::CatchUp } else { Origin::Schedule };
    let Kind { overlap, deadline, .. } = kind;
    let is = SlotIs::Pending;
    model.slots.insert(key, SlotModel { is, recorded, origin, overlap, deadline, who: names(who) });
    if skip {
        model.leave_out(key);
    }
}

/// Who has yet to get a slot that is filled in.
fn fill(model: &mut Model, key: SlotKey, who: &BTreeSet<&'static str>) -> BTreeSet<&'static str> {
    // What is after the cursor the schedule is yet to plan.
    if model.cursors.get(&key.0).is_some_and(|cursor| *cursor < key.1) {
        return BTreeSet::new();
    }
    let mut open = model.free(key, who);
    let others = model.others(key, &open);
    let recorded = model.slots.len();
    match model.slots.get_mut(&key) {
        Some(old) if matches!(old.is, SlotIs::Pending | SlotIs::Held) => {
            open.retain(|name| !old.who.contains(name));
            old.who.extend(&open);
        }
        old if !open.is_empty() => {
            let recorded = old.map_or(recorded, |old| old.recorded);
            let (is, origin, overlap) = (SlotIs::Pending, Origin::Backfill, Overlap::Queue);
            let filled = SlotModel { is, recorded, origin, overlap, deadline: false, who: open.clone() };
            model.slots.insert(key, filled);
            model.still_left_out(key, others);
        }
        _ => {}
    }
    open
}

async fn claim(ledger: &Ledger, model: &mut Model, on_time: usize, late: usize) {
    let claims = ledger.claim(on_time, late).await.unwrap();
    let (known, mut ended, mut looked_at, mut late) = (model.runs.len(), BTreeSet::new(), 0, late);
    for origin in [Origin::Schedule, Origin::CatchUp, Origin::Backfill] {
        let limit = if origin == Origin::Schedule { on_time } else { late };
        let keys: Vec<SlotKey> = model.pending(origin).into_iter().take(limit).collect();
        looked_at += keys.len();
        if origin != Origin::Schedule {
            late -= keys.len();
        }
        keys.into_iter().for_each(|key| model.admit(key, &mut ended));
    }
    assert_eq!(claims.looked_at, looked_at);
    adopt(ledger, model).await;
    let begun = model.runs[known..].iter().filter(|run| run.is == RunState::Running);
    let begun: Vec<_> = begun.map(|run| (run.id.unwrap(), slot(SHARES[run.slot.0], run.slot.1))).collect();
    assert_eq!(claims.runs.iter().map(|claim| (claim.run, claim.slot.clone())).collect::<Vec<_>>(), begun);
    let ids: BTreeSet<DeliveryId> = ended.iter().map(|at| model.deliveries[*at].id.unwrap()).collect();
    assert_eq!(claims.cancelled.into_iter().collect::<BTreeSet<_>>(), ids);
    ended.into_iter().for_each(|at| model.deliveries[at].cancelled = true);
}

async fn pause(ledger: &Ledger, model: &mut Model, at: usize) {
    let was = ledger.pause(share(SHARES[at])).await.unwrap().earlier;
    assert_eq!(was.is_some(), !model.paused.insert(at));
    if was.is_none() {
        model.release(at);
        let waiting = model.slots.iter().filter(|(key, slot)| key.0 == at && slot.is == SlotIs::Pending);
        let scheduled = waiting.filter(|(_, slot)| slot.origin != Origin::Backfill);
        let mut keys: Vec<SlotKey> = scheduled.map(|(key, _)| *key).collect();
        keys.sort_by_key(|(_, hour)| *hour);
        keys.into_iter().for_each(|key| model.leave_out(key));
        adopt(ledger, model).await;
    }
}

/// Learns the ids of what has begun, and checks that it is what should have.
async fn adopt(ledger: &Ledger, model: &mut Model) {
    let history = ledger.reader().history(History { limit: 999, ..History::default() }).await.unwrap();
    assert_eq!(history.len(), model.runs.len());
    for (found, run) in history.iter().rev().zip(&mut model.runs).filter(|(_, run)| run.id.is_none()) {
        run.id = Some(found.run);
        assert_eq!((found.slot, found.origin), (slot(SHARES[run.slot.0], run.slot.1).at, run.origin));
        let detail = ledger.reader().run(found.run).await.unwrap();
        assert_eq!(detail.deliveries.len(), run.deliveries.len());
        for (found, at) in detail.deliveries.iter().zip(&run.deliveries) {
            assert_eq!(found.customer.as_str(), model.deliveries[*at].customer);
            model.deliveries[*at].id = Some(found.id);
        }
    }
}

async fn step_attempt(ledger: &Ledger, model: &mut Model, op: &Op) {
    let pick = |at: &Index| at.index(model.attempts.len());
    let open = [AttemptState::Working, AttemptState::Sealed];
    let (result, legal) = match op {
        Op::Upload(at) => {
            let at = pick(at);
            let name = format!("u{}", model.attempts[at].uploads.len() / 2);
            model.attempts[at].uploads.entry(name.clone()).or_insert(true);
            (ledger.upload_created(model.attempts[at].id, &key(&slot("a", 0), "rows.csv"), &name).await, true)
        }
        Op::Abort(at) => {
            let at = pick(at);
            let name = model.attempts[at].uploads.keys().next().cloned().unwrap_or("none".into());
            let legal = model.attempts[at].uploads.get_mut(&name).is_some_and(std::mem::take);
            (ledger.upload_aborted(model.attempts[at].id, &name).await, legal)
        }
        Op::Seal(at) => {
            let at = pick(at);
            let result = ledger.sealed(model.attempts[at].id, &[object(&key(&slot("a", 0), "rows.csv"), "u0")]).await;
            (result, model.end(at, &open[..1], AttemptState::Sealed, DeliveryState::Sealed))
        }
        Op::Commit(at) => {
            let at = pick(at);
            let objects = [object(&key(&slot("a", 0), "rows.csv"), "u0")];
            let result = ledger.committed(model.attempts[at].id, receipt(&objects)).await;
            let legal = model.end(at, &open[1..], AttemptState::Committed, DeliveryState::Committed);
            if legal {
                model.attempts[at].uploads.values_mut().for_each(|open| *open = false);
            }
            (result, legal)
        }
        Op::Fail(at, may_pass) => {
            let at = pick(at);
            let (failure, again): (Failure, _) = match may_pass {
                true => (passing(), Some(start())),
                false => (lasting(), None),
            };
            let result = ledger.failed(model.attempts[at].id, failure, again).await;
            let legal = match (may_pass, model.attempts[at].is) {
                // What is sealed stays so until it is given up.
                (true, AttemptState::Sealed) => {
                    let of = model.attempts[at].delivery;
                    model.deliveries[of].postponed = true;
                    model.release(model.deliveries[of].slot.0);
                    true
                }
                (true, _) => model.end(at, &open, AttemptState::Failed, DeliveryState::Waiting),
                (false, _) => model.end(at, &open, AttemptState::Failed, DeliveryState::Failed),
            };
            (result, legal)
        }
        Op::Interrupt(at) => {
            let at = pick(at);
            let result = ledger.interrupted(model.attempts[at].id).await;
            (result, model.end(at, &open, AttemptState::Interrupted, DeliveryState::Pending))
        }
        _ => unreachable!(),
    };
    assert_eq!(result.is_ok(), legal, "{op:?}: {result:?}");
}

async fn finish(ledger: &Ledger, model: &mut Model, at: usize) {
    let states: Vec<_> = model.runs[at].deliveries.iter().map(|d| model.deliveries[*d].is).collect();
    let settled =
        |s: &DeliveryState| matches!(s, DeliveryState::Committed | DeliveryState::Failed | DeliveryState::Waiting);
    let legal = model.runs[at].is == RunState::Running && states.iter().all(settled);
    let result = ledger.run_finished(model.runs[at].id.unwrap()).await;
    assert_eq!(result.is_ok(), legal, "{result:?}");
    if !legal {
        return;
    }
    for delivery in model.runs[at].deliveries.clone() {
        let is = &mut model.deliveries[delivery].is;
        *is = if *is == DeliveryState::Waiting { DeliveryState::Failed } else { *is };
    }
    let all = states.iter().all(|s| *s == DeliveryState::Committed);
    model.runs[at].is = if all { RunState::Succeeded } else { RunState::Failed };
    assert_eq!(result.unwrap(), model.runs[at].is);
    model.finish_slot(model.runs[at].slot);
}

/// Everything that can be read equals the model.
async fn compare(ledger: &Ledger, model: &Model) {
    let history = ledger.reader().history(History { limit: 999, ..History::default() }).await.unwrap();
    let runs: Vec<_> = history.iter().rev().map(|run| (run.run, run.state)).collect();
    assert_eq!(runs, model.runs.iter().map(|run| (run.id.unwrap(), run.is)).collect::<Vec<_>>());
    for run in &model.runs {
        let detail = ledger.reader().run(run.id.unwrap()).await.unwrap();
        for (found, expected) in detail.deliveries.iter().zip(&run.deliveries) {
            let expected = &model.deliveries[*expected];
            assert_eq!((found.customer.as_str(), found.state), (expected.customer, expected.is));
            let open = ledger.open_delivery(found.id).await.unwrap();
            assert_eq!(open.cancel.is_some(), expected.cancelled);
            for (found, expected) in found.attempts.iter().zip(&expected.attempts) {
                let expected = &model.attempts[*expected];
                let open = found.uploads.iter().filter(|u| u.ended.is_none()).count();
                assert_eq!((found.state, open), (expected.is, expected.uploads.values().filter(|o| **o).count()));
            }
        }
    }
    assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
    let skipped = ledger.reader().skipped(None, 999).await.unwrap();
    let (some, whole): (Vec<_>, Vec<_>) = skipped.into_iter().partition(|skipped| skipped.customers.is_some());
    assert_eq!(whole.len(), model.slots.values().filter(|slot| slot.is == SlotIs::Skipped).count());
    let mut left_out = BTreeSet::new();
    for skipped in &some {
        let at = SHARES.iter().position(|name| *name == skipped.slot.share.as_str()).unwrap();
        let hour = (skipped.slot.at - start()).num_hours();
        for customer in skipped.customers.iter().flatten() {
            assert!(left_out.insert((at, hour, customer.as_str())), "{customer} is told twice");
        }
    }
    assert_eq!(left_out, model.left_out());
    let paused = ledger.reader().pauses().await.unwrap();
    let expected: Vec<_> = model.paused.iter().map(|at| share(SHARES[*at])).collect();
    assert_eq!(paused.into_iter().map(|pause| pause.share).collect::<Vec<_>>(), expected);
    let cursor = |(at, hour): (&usize, &i64)| (share(SHARES[*at]), start() + chrono::TimeDelta::hours(*hour));
    assert_eq!(ledger.cursors().await.unwrap(), model.cursors.iter().map(cursor).collect::<Vec<_>>());
    let unfinished = ledger.unfinished().await.unwrap();
    let leaks = |run: &RunModel| {
        let mut attempts = run.deliveries.iter().flat_map(|d| &model.deliveries[*d].attempts);
        attempts.any(|a| model.attempts[*a].uploads.values().any(|open| *open))
    };
    let expected = model.runs.iter().filter(|run| run.is == RunState::Running || leaks(run));
    assert_eq!(
        unfinished.iter().map(|u| u.run).collect::<Vec<_>>(),
        expected.map(|run| run.id.unwrap()).collect::<Vec<_>>()
    );
    for (key, one_per_slot) in model.slots.keys().flat_map(|key| NAMES.map(|name| (key, name))) {
        let live = model
            .deliveries
            .iter()
            .filter(|d| d.slot == *key && d.customer == one_per_slot && d.is != DeliveryState::Failed);
        assert!(live.count() <= 1, "two deliveries of one slot to one customer");
    }
}

/// Fewer, where each command asks a server.
fn cases() -> u32 {
    if super::ON_POSTGRES.get() { 16 } else { 64 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_commands_agree_with_the_model(ops in proptest::collection::vec(op(), 30..90)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut ledger = open(dir.path());
            let mut model = Model::default();
            for op in &ops {
                step(&ledger, &mut model, op).await;
                if matches!(op, Op::Restart) {
                    drop(ledger);
                    ledger = open(dir.path());
                    compare(&ledger, &model).await;
                }
            }
            compare(&ledger, &model).await;
        });
    }
}

on_postgres! { random_commands_agree_with_the_model }
