//! Commands on slots.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use consign::config::Overlap;
use consign::domain::{Origin, SkipReason};
use consign::ledger::{DeliveryId, History, Ledger, Planned, RunState};

use super::super::{share, slot};
use super::{Kind, Model, Op, PauseModel, SHARES, SlotIs, SlotKey, SlotModel, at, list, names};

pub(super) async fn step(ledger: &Ledger, model: &mut Model, op: &Op) {
    match op {
        Op::Plan { share: of, hours, who, kind, cursor } => {
            let plan = |hour: &i64| planned(*of, *hour, *who, *kind);
            let cursors = vec![(share(SHARES[*of]), at(*cursor))];
            let recorded = ledger.plan(hours.iter().map(plan).collect(), cursors).await.unwrap();
            let known = model.slots.len();
            let hours: BTreeSet<i64> = hours.iter().copied().collect();
            for hour in hours {
                plan_one(model, (*of, hour), *who, *kind);
            }
            assert_eq!(recorded.new, model.slots.len() - known);
            adopt(ledger, model).await;
            let kept = model.cursors.entry(*of).or_insert(*cursor);
            *kept = (*kept).max(*cursor);
        }
        Op::Claim(on_time, late) => claim(ledger, model, *on_time, *late).await,
        Op::Send { share: of, hour, who } => {
            let (key, who) = ((*of, *hour), names(*who));
            let started = ledger.start_manual(slot(SHARES[*of], *hour), list(&who)).await.unwrap();
            let free = model.free(key, &who);
            let others = model.others(key, &who);
            let (recorded, planned) = model.recording(key);
            let (is, origin, overlap) = (SlotIs::Running, Origin::Manual, Overlap::Allow);
            let sent = SlotModel { is, recorded, planned, origin, overlap, deadline: None, who: who.clone() };
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
        Op::Backfill { share: of, hours, who } => {
            let slots = hours.iter().map(|hour| slot(SHARES[*of], *hour)).collect();
            let filled = ledger.backfill(slots, list(&names(*who))).await.unwrap();
            for (hour, filling) in hours.iter().zip(filled) {
                let open = fill(model, (*of, *hour), &names(*who));
                assert_eq!(filling.to_deliver, list(&open));
                let all = filling.to_deliver.len() + filling.committed.len() + filling.under_way.len();
                assert_eq!(all, names(*who).len());
            }
            adopt(ledger, model).await;
        }
        Op::Pause(of) => pause(ledger, model, *of).await,
        Op::Resume(of) => {
            let was = ledger.resume(share(SHARES[*of])).await.unwrap();
            let now = model.now;
            let lasts = model.pauses.iter_mut().find(|pause| pause.share == *of && pause.until.is_none());
            assert_eq!(was, lasts.as_ref().map(|pause| at(pause.since)));
            if let Some(pause) = lasts {
                pause.until = Some(now.max(pause.since));
            }
        }
        Op::Prune(before) => {
            model.forget_pauses(*before);
            assert_eq!(ledger.prune(at(*before)).await.unwrap(), model.forget(*before));
        }
        Op::Rewind => {
            let furthest = (0..SHARES.len()).filter(|of| model.is_ahead(*of));
            let from = furthest.map(|of| at(model.cursors[&of])).max();
            let rewound = ledger.rewind().await.unwrap();
            assert_eq!((rewound.to, rewound.from, rewound.forgotten), (at(model.now), from, model.forget_ahead()));
            let kept = model.slots.keys().filter(|key| key.1 > model.now && model.is_ahead(key.0)).count();
            let shares = (0..SHARES.len()).filter(|of| model.is_ahead(*of)).count();
            assert_eq!((rewound.kept, rewound.shares), (kept as u64, shares as u64));
            model.put_back();
        }
        _ => unreachable!(),
    }
}

fn planned(of: usize, hour: i64, who: u8, kind: Kind) -> Planned {
    let origin = if kind.late { Origin::CatchUp } else { Origin::Schedule };
    let slot = slot(SHARES[of], hour);
    Planned {
        overlap: kind.overlap,
        deadline: kind.deadline.map(|hours| slot.at + TimeDelta::hours(hours)),
        skip: kind.skip.then_some(SkipReason::Missed),
        ..Planned::new(slot, list(&names(who)), origin)
    }
}

fn plan_one(model: &mut Model, key: SlotKey, who: u8, kind: Kind) {
    let skip = kind.skip || model.is_in_pause(key);
    let old = model.slots.get(&key);
    if old.is_some_and(|old| old.origin != Origin::Manual) {
        return;
    }
    let (recorded, planned) = model.recording(key);
    let origin = if kind.late { Origin::CatchUp } else { Origin::Schedule };
    let Kind { overlap, deadline, .. } = kind;
    let (is, deadline) = (SlotIs::Pending, deadline.map(|hours| key.1 + hours));
    model.slots.insert(key, SlotModel { is, recorded, planned, origin, overlap, deadline, who: names(who) });
    if skip {
        model.leave_out(key);
    }
}

/// Who has yet to get a slot that is filled in.
fn fill(model: &mut Model, key: SlotKey, who: &BTreeSet<&'static str>) -> BTreeSet<&'static str> {
    // What is after the cursor the schedule is yet to plan, unless it has done so before it was taken back.
    let is_planned = model.slots.get(&key).is_some_and(|known| known.origin != Origin::Manual);
    if !is_planned && model.cursors.get(&key.0).is_some_and(|cursor| *cursor < key.1) {
        return BTreeSet::new();
    }
    let mut open = model.free(key, who);
    let others = model.others(key, &open);
    match model.slots.get_mut(&key) {
        Some(old) if matches!(old.is, SlotIs::Pending | SlotIs::Held) => {
            open.retain(|name| !old.who.contains(name));
            old.who.extend(&open);
            if !open.is_empty() {
                old.is = SlotIs::Pending;
            }
        }
        _ if !open.is_empty() => {
            let (recorded, planned) = model.recording(key);
            let (is, origin, overlap) = (SlotIs::Pending, Origin::Backfill, Overlap::Queue);
            let filled = SlotModel { is, recorded, planned, origin, overlap, deadline: None, who: open.clone() };
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
    let ids: BTreeSet<DeliveryId> = ended.iter().map(|of| model.deliveries[*of].id.unwrap()).collect();
    assert_eq!(claims.cancelled.into_iter().collect::<BTreeSet<_>>(), ids);
    ended.into_iter().for_each(|of| model.deliveries[of].cancelled = true);
}

async fn pause(ledger: &Ledger, model: &mut Model, of: usize) {
    let was = ledger.pause(share(SHARES[of])).await.unwrap().earlier;
    assert_eq!(was.is_some(), model.is_paused(of));
    if was.is_some() {
        return;
    }
    let (share, since) = (of, model.now);
    match model.pauses.iter_mut().find(|pause| pause.share == of && pause.since == since) {
        Some(pause) => pause.until = None,
        None => model.pauses.push(PauseModel { share, since, until: None }),
    }
    model.release(of);
    let waiting = model.slots.iter().filter(|(key, slot)| key.0 == of && slot.is == SlotIs::Pending);
    let scheduled = waiting.filter(|(_, slot)| slot.origin != Origin::Backfill);
    let mut keys: Vec<SlotKey> = scheduled.map(|(key, _)| *key).collect();
    keys.sort_by_key(|(_, hour)| *hour);
    keys.into_iter().for_each(|key| model.leave_out(key));
    adopt(ledger, model).await;
}

/// Learns the ids of what has begun, and checks that it is what should have.
async fn adopt(ledger: &Ledger, model: &mut Model) {
    let history = ledger.reader().history(History { limit: 999, ..History::default() }).await.unwrap();
    let runs = model.runs.iter_mut().filter(|run| !run.gone);
    let runs: Vec<_> = runs.collect();
    assert_eq!(history.len(), runs.len());
    for (found, run) in history.iter().rev().zip(runs).filter(|(_, run)| run.id.is_none()) {
        run.id = Some(found.run);
        assert_eq!((found.slot, found.origin), (slot(SHARES[run.slot.0], run.slot.1).at, run.origin));
        let detail = ledger.reader().run(found.run).await.unwrap();
        assert_eq!(detail.deliveries.len(), run.deliveries.len());
        for (found, of) in detail.deliveries.iter().zip(&run.deliveries) {
            assert_eq!(found.customer.as_str(), model.deliveries[*of].customer);
            model.deliveries[*of].id = Some(found.id);
        }
    }
}
