//! Random commands, legal and not, against a model of a few maps; the process
//! "restarts" now and then. The model knows nothing of `state.rs`.

use std::collections::{BTreeMap, BTreeSet};

use consign::domain::{Failure, RunId, SkipReason};
use consign::ledger::{AttemptId, AttemptState, Claim, DeliveryId, DeliveryState, History, Ledger, Planned, RunState};
use proptest::prelude::*;
use proptest::sample::Index;

use super::{customers, key, lasting, object, open, passing, receipt, share, slot, start};

const NAMES: [&str; 3] = ["acme", "globex", "initech"];
const SHARES: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
enum Op {
    Plan { share: usize, hours: Vec<i64>, who: u8, skip: bool, cursor: i64 },
    Claim(usize),
    Send { share: usize, hour: i64, who: u8 },
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

fn op() -> impl Strategy<Value = Op> {
    let pick = any::<Index>;
    prop_oneof![
        2 => (0..2usize, proptest::collection::vec(0..6i64, 1..4), 1..8u8, prop::bool::weighted(0.2), 0..9i64)
            .prop_map(|(share, hours, who, skip, cursor)| Op::Plan { share, hours, who, skip, cursor }),
        2 => (1..4usize).prop_map(Op::Claim),
        2 => (0..2usize, 0..6i64, 1..8u8).prop_map(|(share, hour, who)| Op::Send { share, hour, who }),
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
    Running,
    Done,
    Skipped,
}

struct SlotModel {
    is: SlotIs,
    /// How many were recorded before it.
    recorded: usize,
    scheduled: bool,
    who: BTreeSet<&'static str>,
}

struct RunModel {
    id: RunId,
    slot: SlotKey,
    is: RunState,
    deliveries: Vec<usize>,
}

struct DeliveryModel {
    id: DeliveryId,
    slot: SlotKey,
    customer: &'static str,
    is: DeliveryState,
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

    /// What is to be claimed, oldest first; of one hour, in the order of recording.
    fn pending(&self) -> Vec<SlotKey> {
        let pending = self.slots.iter().filter(|(_, slot)| slot.is == SlotIs::Pending);
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

    /// Takes over the ids of a run that the ledger began, and checks who is in it.
    fn began(&mut self, slot: SlotKey, who: &BTreeSet<&'static str>, claim: &Claim) {
        assert_eq!(claim.deliveries.iter().map(|d| d.0.clone()).collect::<Vec<_>>(), list(who));
        let first = self.deliveries.len();
        for (customer, (_, id)) in who.iter().zip(&claim.deliveries) {
            let (is, attempts) = (DeliveryState::Pending, Vec::new());
            self.deliveries.push(DeliveryModel { id: *id, slot, customer, is, attempts });
        }
        let deliveries = (first..self.deliveries.len()).collect();
        self.runs.push(RunModel { id: claim.run, slot, is: RunState::Running, deliveries });
    }

    fn end(&mut self, attempt: usize, from: &[AttemptState], to: AttemptState, delivery: DeliveryState) -> bool {
        let legal = from.contains(&self.attempts[attempt].is);
        if legal {
            self.attempts[attempt].is = to;
            let of = self.attempts[attempt].delivery;
            self.deliveries[of].is = delivery;
        }
        legal
    }
}

async fn step(ledger: &Ledger, model: &mut Model, op: &Op) {
    match op {
        Op::Plan { .. } | Op::Claim(_) | Op::Send { .. } => step_slots(ledger, model, op).await,
        Op::Start(at) if !model.deliveries.is_empty() => {
            let at = at.index(model.deliveries.len());
            let result = ledger.attempt_started(model.deliveries[at].id, None).await;
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
        Op::Plan { share: at, hours, who, skip, cursor } => {
            let who = names(*who);
            let skip = skip.then_some(SkipReason::Missed);
            let plan = |hour: &i64| Planned { slot: slot(SHARES[*at], *hour), customers: list(&who), skip };
            let to = start() + chrono::TimeDelta::hours(*cursor);
            let new = ledger.plan(hours.iter().map(plan).collect(), vec![(share(SHARES[*at]), to)]).await.unwrap();
            let known = model.slots.len();
            for hour in hours {
                let is = if skip.is_some() { SlotIs::Skipped } else { SlotIs::Pending };
                let old = model.slots.get(&(*at, *hour));
                if old.is_none() || old.is_some_and(|old| !old.scheduled && skip.is_none()) {
                    let recorded = old.map_or(model.slots.len(), |old| old.recorded);
                    let planned = SlotModel { is, recorded, scheduled: true, who: who.clone() };
                    model.slots.insert((*at, *hour), planned);
                }
            }
            assert_eq!(new, model.slots.len() - known);
            let kept = model.cursors.entry(*at).or_insert(*cursor);
            *kept = (*kept).max(*cursor);
        }
        Op::Claim(limit) => {
            let claims = ledger.claim(*limit).await.unwrap();
            let mut found = claims.iter();
            for key in model.pending().into_iter().take(*limit) {
                model.slots.get_mut(&key).unwrap().is = SlotIs::Running;
                let who = model.free(key, &model.slots[&key].who);
                if who.is_empty() {
                    model.finish_slot(key);
                    continue;
                }
                let claim = found.next().unwrap();
                assert_eq!(claim.slot, slot(SHARES[key.0], key.1));
                model.began(key, &who, claim);
            }
            assert_eq!(found.count(), 0);
        }
        Op::Send { share: at, hour, who } => {
            let (key, who) = ((*at, *hour), names(*who));
            let started = ledger.start_manual(slot(SHARES[*at], *hour), list(&who)).await.unwrap();
            let free = model.free(key, &who);
            let (is, scheduled) = (SlotIs::Running, false);
            let recorded = model.slots.len();
            let known = model.slots.entry(key).or_insert(SlotModel { is, recorded, scheduled, who: who.clone() });
            let stays_pending = known.is == SlotIs::Pending && known.scheduled;
            if !free.is_empty() && !stays_pending {
                known.is = SlotIs::Running;
            }
            assert_eq!(started.claim.is_some(), !free.is_empty());
            assert_eq!(started.committed.len() + started.busy.len(), who.len() - free.len());
            if let Some(claim) = &started.claim {
                model.began(key, &free, claim);
            }
        }
        _ => unreachable!(),
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
                (true, AttemptState::Sealed) => true,
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
    let result = ledger.run_finished(model.runs[at].id).await;
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
    assert_eq!(runs, model.runs.iter().map(|run| (run.id, run.is)).collect::<Vec<_>>());
    for run in &model.runs {
        let detail = ledger.reader().run(run.id).await.unwrap();
        for (found, expected) in detail.deliveries.iter().zip(&run.deliveries) {
            let expected = &model.deliveries[*expected];
            assert_eq!((found.customer.as_str(), found.state), (expected.customer, expected.is));
            for (found, expected) in found.attempts.iter().zip(&expected.attempts) {
                let expected = &model.attempts[*expected];
                let open = found.uploads.iter().filter(|u| u.ended.is_none()).count();
                assert_eq!((found.state, open), (expected.is, expected.uploads.values().filter(|o| **o).count()));
            }
        }
    }
    let skipped = ledger.reader().skipped(None, 999).await.unwrap().len();
    assert_eq!(skipped, model.slots.values().filter(|slot| slot.is == SlotIs::Skipped).count());
    let cursor = |(at, hour): (&usize, &i64)| (share(SHARES[*at]), start() + chrono::TimeDelta::hours(*hour));
    assert_eq!(ledger.cursors().await.unwrap(), model.cursors.iter().map(cursor).collect::<Vec<_>>());
    let unfinished = ledger.unfinished().await.unwrap();
    let leaks = |run: &RunModel| {
        let mut attempts = run.deliveries.iter().flat_map(|d| &model.deliveries[*d].attempts);
        attempts.any(|a| model.attempts[*a].uploads.values().any(|open| *open))
    };
    let expected = model.runs.iter().filter(|run| run.is == RunState::Running || leaks(run));
    assert_eq!(unfinished.iter().map(|u| u.run).collect::<Vec<_>>(), expected.map(|run| run.id).collect::<Vec<_>>());
    for (key, one_per_slot) in model.slots.keys().flat_map(|key| NAMES.map(|name| (key, name))) {
        let live = model
            .deliveries
            .iter()
            .filter(|d| d.slot == *key && d.customer == one_per_slot && d.is != DeliveryState::Failed);
        assert!(live.count() <= 1, "two deliveries of one slot to one customer");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

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
