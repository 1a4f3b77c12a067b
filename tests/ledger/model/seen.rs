//! All that can be read of a ledger, and what of it the model expects.

use std::collections::{BTreeMap, BTreeSet};

use consign::clock::Instant;
use consign::domain::{RunId, ShareName};
use consign::ledger::{
    AttemptId, AttemptState, DeliveryId, DeliveryState, History, Ledger, RunState, Skipped, UploadState,
};

use super::super::{hour, share};
use super::state::is_open;
use super::{Model, SHARES, SlotIs, at};

/// Equal for two ledgers that say the same.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// With when they ended, oldest first.
    runs: Vec<(RunId, RunState, Option<Instant>)>,
    deliveries: Vec<SeenDelivery>,
    attempts: Vec<(AttemptId, AttemptState, BTreeMap<String, UploadState>)>,
    /// Slots that nobody got, and who did not get those that others have.
    skipped: BTreeSet<(usize, i64)>,
    left_out: BTreeSet<(usize, i64, String)>,
    pending: u64,
    held: Vec<(ShareName, u64)>,
    paused: Vec<(ShareName, Instant)>,
    cursors: Vec<(ShareName, Instant)>,
    /// The last slot up to each cursor.
    last: Vec<(ShareName, Option<Instant>)>,
    ahead: Vec<(ShareName, Instant)>,
    unfinished: Vec<RunId>,
    findings: Vec<String>,
}

#[derive(Debug, PartialEq)]
struct SeenDelivery {
    id: DeliveryId,
    customer: String,
    state: DeliveryState,
    tries: u32,
    due: Option<Instant>,
    cancelled: bool,
    /// Of the attempt at work, and whether it has a draft.
    at_work: Option<(AttemptId, bool)>,
}

/// Everything that can be read equals the model.
pub(super) async fn compare(ledger: &Ledger, model: &Model) {
    assert_eq!(seen(ledger, at(model.now)).await, model.expected());
    for (key, customer) in model.slots.keys().flat_map(|key| super::NAMES.map(|name| (key, name))) {
        let live = model
            .deliveries
            .iter()
            .filter(|of| !of.gone && of.slot == *key && of.customer == customer && of.is != DeliveryState::Failed);
        assert!(live.count() <= 1, "two deliveries of one slot to one customer");
    }
}

pub(super) async fn seen(ledger: &Ledger, now: Instant) -> Seen {
    let reader = ledger.reader();
    let mut seen = Seen { findings: reader.check().await.unwrap().findings, ..Seen::default() };
    let history = reader.history(History { limit: 999, ..History::default() }).await.unwrap();
    for run in history.iter().rev() {
        seen.runs.push((run.run, run.state, run.finished));
        for found in reader.run(run.run).await.unwrap().deliveries {
            let open = ledger.open_delivery(found.id).await.unwrap();
            assert_eq!((open.state, open.due), (found.state, found.due));
            seen.deliveries.push(SeenDelivery {
                id: found.id,
                customer: found.customer.to_string(),
                state: found.state,
                tries: open.tries,
                due: open.due,
                cancelled: open.cancel.is_some(),
                at_work: open.attempt.map(|attempt| (attempt.id, attempt.draft.is_some())),
            });
            for (attempt, number) in found.attempts.into_iter().zip(1..) {
                assert_eq!((attempt.number, attempt.ended.is_none()), (number, is_at_work(attempt.state)));
                let uploads = attempt.uploads.into_iter().map(|upload| (upload.upload_id, upload.state));
                seen.attempts.push((attempt.id, attempt.state, uploads.collect()));
            }
        }
    }
    for Skipped { slot, customers, .. } in reader.skipped(None, None, 999).await.unwrap() {
        let of = SHARES.iter().position(|name| *name == slot.share.as_str()).unwrap();
        let hour = hour(&slot);
        match customers {
            None => assert!(seen.skipped.insert((of, hour))),
            Some(customers) => customers.iter().for_each(|customer| {
                assert!(seen.left_out.insert((of, hour, customer.to_string())), "{customer} is told twice");
            }),
        }
    }
    let standing = reader.standing_now(9, Instant::MAX_UTC).await.unwrap();
    (seen.pending, seen.held) = (standing.slots, standing.held);
    seen.paused = reader.pauses().await.unwrap().into_iter().map(|pause| (pause.share, pause.since)).collect();
    let cursors = ledger.cursors().await.unwrap();
    seen.last = cursors.iter().map(|(share, cursor)| (share.clone(), cursor.last)).collect();
    seen.cursors = cursors.into_iter().map(|(share, cursor)| (share, cursor.at)).collect();
    seen.ahead = reader.ahead(now).await.unwrap();
    seen.unfinished = ledger.unfinished().await.unwrap().into_iter().map(|left| left.run).collect();
    seen
}

fn is_at_work(state: AttemptState) -> bool {
    matches!(state, AttemptState::Working | AttemptState::Sealed)
}

impl Model {
    pub(super) fn expected(&self) -> Seen {
        let mut seen = Seen::default();
        for run in self.runs.iter().filter(|run| !run.gone) {
            let id = run.id.unwrap();
            seen.runs.push((id, run.is, run.finished.map(at)));
            if run.is == RunState::Running || self.leaks(run) {
                seen.unfinished.push(id);
            }
            for of in run.deliveries.iter().map(|of| &self.deliveries[*of]) {
                let attempts = || of.attempts.iter().map(|of| &self.attempts[*of]);
                let at_work = attempts().find(|attempt| is_at_work(attempt.is));
                assert!(at_work.is_none() || is_open(of.is));
                seen.deliveries.push(SeenDelivery {
                    id: of.id.unwrap(),
                    customer: of.customer.to_owned(),
                    state: of.is,
                    tries: of.tries,
                    due: of.due.map(at),
                    cancelled: of.cancelled,
                    at_work: at_work.map(|attempt| (attempt.id, attempt.drafted)),
                });
                seen.attempts.extend(attempts().map(|attempt| (attempt.id, attempt.is, attempt.uploads.clone())));
            }
        }
        let in_state = |is: SlotIs| self.slots.iter().filter(move |(_, slot)| slot.is == is).map(|(key, _)| *key);
        seen.skipped = in_state(SlotIs::Skipped).collect();
        seen.left_out = self.left_out().into_iter().map(|(of, hour, name)| (of, hour, name.to_owned())).collect();
        seen.pending = in_state(SlotIs::Pending).count() as u64;
        for (of, name) in SHARES.iter().enumerate() {
            let held = in_state(SlotIs::Held).filter(|key| key.0 == of).count() as u64;
            seen.held.extend((held > 0).then(|| (share(name), held)));
            let lasts = self.pauses.iter().find(|pause| pause.share == of && pause.until.is_none());
            seen.paused.extend(lasts.map(|pause| (share(name), at(pause.since))));
        }
        let cursor = |(of, hour): (&usize, &i64)| (share(SHARES[*of]), at(*hour));
        seen.cursors = self.cursors.iter().map(cursor).collect();
        let last = |of, until| self.slots.keys().filter(|key| key.0 == of && key.1 <= until).map(|key| at(key.1)).max();
        seen.last = self.cursors.iter().map(|(of, until)| (share(SHARES[*of]), last(*of, *until))).collect();
        seen.ahead = self.cursors.iter().filter(|(_, hour)| **hour > self.now).map(cursor).collect();
        // The furthest first.
        seen.ahead.sort_by_key(|(_, cursor)| std::cmp::Reverse(*cursor));
        seen
    }
}
