//! Commands on runs, deliveries, attempts and uploads.

use std::collections::{BTreeMap, BTreeSet};

use consign::domain::{Failure, Layer, Manifest, Retry};
use consign::ledger::{AttemptState, Cancelled, DeliveryId, DeliveryState, Ledger, UploadState};
use proptest::sample::Index;

use super::super::{key, lasting, object, passing, receipt, slot};
use super::state::Told;
use super::{AttemptModel, Model, Op, Real, SHARES, at, list, names, slots};

pub(super) async fn step(real: &Real, model: &mut Model, op: &Op) {
    let ledger = &real.ledger;
    match op {
        Op::Clock(hours) => {
            model.now = (model.now + hours).max(0);
            real.clock.set(at(model.now));
        }
        Op::ReleaseHeld => {
            ledger.release_held().await.unwrap();
            (0..SHARES.len()).for_each(|share| model.release(share));
        }
        Op::Start(of) => start_one(ledger, model, of).await,
        Op::Finish(of) if !model.runs.is_empty() => finish(ledger, model, of.index(model.runs.len())).await,
        Op::Cancel(of, who) | Op::GiveUp(of, who) if !model.runs.is_empty() => {
            let (of, who) = (of.index(model.runs.len()), names(*who));
            let (run, customers) = (model.runs[of].id.unwrap(), list(&who));
            let (told, expected) = match op {
                Op::Cancel(..) => (ledger.cancel(run, customers, why()).await, model.cancel(of, &who)),
                _ => (ledger.give_up(run, customers, why()).await, model.give_up(of, &who)),
            };
            told_as(told.unwrap(), &expected, model);
        }
        Op::Finish(_) | Op::Cancel(..) | Op::GiveUp(..) => {}
        Op::Upload(of)
        | Op::Abort(of)
        | Op::Abandon(of)
        | Op::Draft(of)
        | Op::Seal(of)
        | Op::Commit(of)
        | Op::Fail(of, _)
        | Op::Interrupt(of) => {
            // SQLite gives the numbers of what was forgotten to others.
            let there = |of: &usize| !model.deliveries[model.attempts[*of].delivery].gone;
            let all: Vec<usize> = (0..model.attempts.len()).filter(there).collect();
            if !all.is_empty() {
                attempt(ledger, model, op, all[of.index(all.len())]).await;
            }
        }
        _ => slots::step(ledger, model, op).await,
    }
}

pub(super) fn why() -> Failure {
    Failure::new(Layer::Schedule, Retry::Never, "cancelled by root", "`consign retry` begins it again")
}

fn told_as(told: Cancelled, expected: &Told, model: &Model) {
    let marked = |of: &usize| (model.deliveries[*of].customer.to_owned(), model.deliveries[*of].id.unwrap());
    let expected_marked: BTreeSet<(String, DeliveryId)> = expected.marked.iter().map(marked).collect();
    assert_eq!(told.marked.iter().map(|(name, id)| (name.to_string(), *id)).collect::<BTreeSet<_>>(), expected_marked);
    assert_eq!((told.sealed, told.ended), (list(&expected.sealed), list(&expected.ended)));
    assert_eq!(told.elsewhere, None);
}

async fn start_one(ledger: &Ledger, model: &mut Model, of: &Index) {
    let all: Vec<usize> = (0..model.deliveries.len()).filter(|of| !model.deliveries[*of].gone).collect();
    if all.is_empty() {
        return;
    }
    let of = all[of.index(all.len())];
    let result = ledger.attempt_started(model.deliveries[of].id.unwrap(), None).await;
    let legal = matches!(model.deliveries[of].is, DeliveryState::Pending | DeliveryState::Waiting);
    assert_eq!(result.is_ok(), legal, "{result:?}");
    if let Ok(attempt) = result {
        let delivery = &mut model.deliveries[of];
        (delivery.is, delivery.due) = (DeliveryState::Working, None);
        delivery.attempts.push(model.attempts.len());
        assert_eq!((attempt.number as usize, attempt.tries), (delivery.attempts.len(), delivery.tries));
        let (is, uploads) = (AttemptState::Working, BTreeMap::new());
        model.attempts.push(AttemptModel { id: attempt.id, delivery: of, is, drafted: false, uploads });
    }
}

pub(super) fn draft() -> Manifest {
    super::super::draft(&slot("a", 0))
}

async fn attempt(ledger: &Ledger, model: &mut Model, op: &Op, of: usize) {
    let open = [AttemptState::Working, AttemptState::Sealed];
    let objects = || [object(&key(&slot("a", 0), "rows.csv"), "u0")];
    let id = model.attempts[of].id;
    let (result, legal) = match op {
        Op::Upload(_) => {
            let name = format!("u{}", model.attempts[of].uploads.len() / 2);
            model.attempts[of].uploads.entry(name.clone()).or_insert(UploadState::Created);
            (ledger.upload_created(id, &key(&slot("a", 0), "rows.csv"), &name).await, true)
        }
        Op::Abort(_) | Op::Abandon(_) => {
            let known = model.attempts[of].uploads.iter_mut().next();
            let name = known.as_ref().map_or("none".to_owned(), |(name, _)| (*name).clone());
            let (result, ended) = match op {
                Op::Abort(_) => (ledger.upload_aborted(id, &name).await, UploadState::Aborted),
                _ => (ledger.upload_abandoned(id, &name).await, UploadState::Abandoned),
            };
            // Once more changes nothing.
            let legal = known.as_ref().is_some_and(|(_, state)| [UploadState::Created, ended].contains(state));
            if let Some((_, state)) = known.filter(|_| legal) {
                *state = ended;
            }
            (result, legal)
        }
        Op::Draft(_) => {
            let legal = model.attempts[of].is == AttemptState::Working;
            model.attempts[of].drafted |= legal;
            (ledger.drafted(id, &draft()).await, legal)
        }
        Op::Seal(_) => {
            let legal = model.end(of, &open[..1], AttemptState::Sealed, DeliveryState::Sealed);
            (ledger.sealed(id, &objects()).await, legal)
        }
        Op::Commit(_) => {
            let result = ledger.committed(id, receipt(&objects())).await;
            let legal = model.end(of, &open[1..], AttemptState::Committed, DeliveryState::Committed);
            for upload in model.attempts[of].uploads.values_mut().filter(|_| legal) {
                if *upload == UploadState::Created {
                    *upload = UploadState::Completed;
                }
            }
            (result, legal)
        }
        Op::Fail(_, may_pass) => {
            let due = may_pass.then_some(model.now + 1);
            let failure = if *may_pass { passing() } else { lasting() };
            (ledger.failed(id, failure, due.map(at)).await, fail(model, of, due))
        }
        Op::Interrupt(_) => {
            let result = ledger.interrupted(id).await;
            (result, model.end(of, &open, AttemptState::Interrupted, DeliveryState::Pending))
        }
        _ => unreachable!(),
    };
    assert_eq!(result.is_ok(), legal, "{op:?}: {result:?}");
}

/// An attempt fails, and its delivery is tried again if there is a time for it.
fn fail(model: &mut Model, attempt: usize, due: Option<i64>) -> bool {
    let open = [AttemptState::Working, AttemptState::Sealed];
    let of = model.attempts[attempt].delivery;
    let legal = match (due, model.attempts[attempt].is) {
        // What is sealed stays so until it is given up.
        (Some(_), AttemptState::Sealed) => {
            model.release_for(of);
            true
        }
        (Some(_), _) => model.end(attempt, &open, AttemptState::Failed, DeliveryState::Waiting),
        (None, _) => model.end(attempt, &open, AttemptState::Failed, DeliveryState::Failed),
    };
    if legal {
        model.deliveries[of].due = due;
        model.deliveries[of].tries += 1;
    }
    legal
}

async fn finish(ledger: &Ledger, model: &mut Model, of: usize) {
    let states: Vec<_> = model.runs[of].deliveries.iter().map(|d| model.deliveries[*d].is).collect();
    let settled =
        |s: &DeliveryState| matches!(s, DeliveryState::Committed | DeliveryState::Failed | DeliveryState::Waiting);
    let running = model.runs[of].finished.is_none();
    let legal = running && states.iter().all(settled);
    let result = ledger.run_finished(model.runs[of].id.unwrap()).await;
    assert_eq!(result.is_ok(), legal, "{result:?}");
    if legal {
        model.finish(of);
        assert_eq!(result.unwrap(), model.runs[of].is);
    }
}
