//! What the ledger ought to do.

use std::collections::{BTreeMap, BTreeSet};

use consign::config::Overlap;
use consign::domain::Origin;
use consign::ledger::{AttemptState, DeliveryState, RunState, UploadState};

use super::{DeliveryModel, Model, PauseModel, RunModel, SlotIs, SlotKey, SlotModel};

/// What became of deliveries that are to be ended, by name; their places where they are marked.
#[derive(Default)]
pub(super) struct Told {
    pub(super) marked: Vec<usize>,
    pub(super) sealed: BTreeSet<&'static str>,
    pub(super) ended: BTreeSet<&'static str>,
}

impl Model {
    pub(super) fn free(&self, slot: SlotKey, who: &BTreeSet<&'static str>) -> BTreeSet<&'static str> {
        let has = |of: &DeliveryModel| !of.gone && of.slot == slot && of.is != DeliveryState::Failed;
        let taken = |name: &&&str| self.deliveries.iter().any(|of| has(of) && of.customer == **name);
        who.iter().filter(|name| !taken(name)).copied().collect()
    }

    fn has_runs(&self, slot: SlotKey) -> bool {
        self.runs.iter().any(|run| !run.gone && run.slot == slot)
    }

    /// Who else was left out of a skipped slot, and by what.
    pub(super) fn others(
        &self,
        key: SlotKey,
        some: &BTreeSet<&'static str>,
    ) -> Option<(Origin, BTreeSet<&'static str>)> {
        let slot = self.slots.get(&key).filter(|slot| slot.is == SlotIs::Skipped)?;
        Some((slot.origin, slot.who.difference(some).copied().collect()))
    }

    pub(super) fn still_left_out(&mut self, key: SlotKey, others: Option<(Origin, BTreeSet<&'static str>)>) {
        if let Some((origin, who)) = others.filter(|(_, who)| !who.is_empty()) {
            self.began(key, &who, origin, true);
        }
    }

    /// Who was left out of which slot that others have, as the last that is known of them there.
    pub(super) fn left_out(&self) -> BTreeSet<(usize, i64, &'static str)> {
        let mut last = BTreeMap::new();
        for delivery in self.deliveries.iter().filter(|delivery| !delivery.gone) {
            last.insert((delivery.slot.0, delivery.slot.1, delivery.customer), delivery);
        }
        last.into_iter().filter(|(_, delivery)| delivery.left_out).map(|(who, _)| who).collect()
    }

    /// What is to be claimed, oldest first; of one hour, in the order of recording.
    pub(super) fn pending(&self, origin: Origin) -> Vec<SlotKey> {
        let pending = self.slots.iter().filter(|(_, slot)| slot.is == SlotIs::Pending && slot.origin == origin);
        let pending = pending.filter(|(key, _)| key.1 <= self.now);
        let mut keys: Vec<_> = pending.map(|(key, slot)| (key.1, slot.recorded, *key)).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, _, key)| key).collect()
    }

    /// The number of a slot that was there, or the next one, and when it was recorded.
    pub(super) fn recording(&mut self, key: SlotKey) -> (usize, i64) {
        if let Some(old) = self.slots.get(&key) {
            return (old.recorded, old.planned);
        }
        self.recorded += 1;
        (self.recorded, self.now)
    }

    pub(super) fn finish_slot(&mut self, key: SlotKey) {
        let running = self.runs.iter().any(|run| run.slot == key && run.is == RunState::Running);
        let slot = self.slots.get_mut(&key).unwrap();
        if !running && slot.is == SlotIs::Running {
            slot.is = SlotIs::Done;
        }
    }

    /// A run that the ledger has begun, or one that only says who was left out.
    pub(super) fn began(&mut self, slot: SlotKey, who: &BTreeSet<&'static str>, origin: Origin, left_out: bool) {
        let (first, run) = (self.deliveries.len(), self.runs.len());
        let is = if left_out { DeliveryState::Failed } else { DeliveryState::Pending };
        for customer in who.iter().copied() {
            self.deliveries.push(DeliveryModel {
                id: None,
                run,
                slot,
                customer,
                is,
                tries: 0,
                due: None,
                cancelled: false,
                left_out,
                attempts: Vec::new(),
                gone: false,
            });
        }
        let deliveries = (first..self.deliveries.len()).collect();
        let is = if left_out { RunState::Failed } else { RunState::Running };
        let finished = left_out.then_some(self.now);
        self.runs.push(RunModel { id: None, slot, origin, is, finished, deliveries, gone: false });
    }

    /// A slot that is looked at; adds the deliveries that it has ended.
    pub(super) fn admit(&mut self, key: SlotKey, ended: &mut BTreeSet<usize>) {
        let SlotModel { origin, overlap, deadline, .. } = self.slots[&key];
        let on_time = origin == Origin::Schedule;
        let who = self.free(key, &self.slots[&key].who);
        let have_it = self.slots[&key].who.difference(&who).copied().collect();
        self.release_behind(key.0, !on_time, &have_it);
        if who.is_empty() {
            self.slots.get_mut(&key).unwrap().is = SlotIs::Running;
            return self.finish_slot(key);
        }
        let waits = |slot: &SlotModel| matches!(slot.is, SlotIs::Pending | SlotIs::Held);
        let has_come = |other: &SlotKey| other.1 > key.1 && other.1 <= self.now;
        let newer = self
            .slots
            .iter()
            .any(|(other, slot)| other.0 == key.0 && has_come(other) && slot.origin == Origin::Schedule && waits(slot));
        let passed = deadline.is_some_and(|deadline| deadline <= self.now);
        if passed || (on_time && overlap == Overlap::Cancel && newer) {
            self.leave_out(key);
            return self.release_behind(key.0, !on_time, &who);
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
                let open = is_open(delivery.is);
                let at_work = open && delivery.is != DeliveryState::Waiting && delivery.due.is_none();
                let late = run.origin != Origin::Schedule;
                on_time_at_work |= at_work && !late;
                late_at_work |= at_work && late;
                let older = delivery.slot.1 < key.1;
                let may_end = open && delivery.is != DeliveryState::Sealed;
                if on_time && overlap == Overlap::Cancel && older && !late && may_end {
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
            // It is not left out for one that has waited with it.
            slot.overlap = if overlap == Overlap::Skip { Overlap::Queue } else { overlap };
        }
        if !free.is_empty() {
            self.began(key, &free, origin, false);
        }
        if !left_out.is_empty() {
            self.began(key, &left_out, origin, true);
            self.finish_slot(key);
        }
    }

    pub(super) fn leave_out(&mut self, key: SlotKey) {
        let who = self.free(key, &self.slots[&key].who);
        let has_runs = self.has_runs(key);
        let slot = self.slots.get_mut(&key).unwrap();
        if !has_runs {
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

    pub(super) fn release(&mut self, share: usize) {
        for (_, slot) in self.slots.iter_mut().filter(|(key, slot)| key.0 == share && slot.is == SlotIs::Held) {
            slot.is = SlotIs::Pending;
        }
    }

    /// The next slot that waits for each of these, of those on time or of those late.
    fn release_behind(&mut self, share: usize, late: bool, who: &BTreeSet<&'static str>) {
        let held = self.slots.iter().filter(|(key, slot)| key.0 == share && slot.is == SlotIs::Held);
        let held = held.filter(|(_, slot)| (slot.origin != Origin::Schedule) == late);
        let mut keys: Vec<SlotKey> = held.map(|(key, _)| *key).collect();
        keys.sort_by_key(|key| (self.slots[key].origin == Origin::Backfill, key.1));
        let mut who = who.clone();
        for key in keys {
            let slot = self.slots.get_mut(&key).unwrap();
            let before = who.len();
            who.retain(|name| !slot.who.contains(name));
            if who.len() < before {
                slot.is = SlotIs::Pending;
            }
        }
    }

    /// A delivery is no longer at work.
    pub(super) fn release_for(&mut self, delivery: usize) {
        let DeliveryModel { slot, customer, .. } = &self.deliveries[delivery];
        let (share, who) = (slot.0, BTreeSet::from([*customer]));
        [false, true].into_iter().for_each(|late| self.release_behind(share, late, &who));
    }

    pub(super) fn end(
        &mut self,
        attempt: usize,
        from: &[AttemptState],
        to: AttemptState,
        delivery: DeliveryState,
    ) -> bool {
        let legal = from.contains(&self.attempts[attempt].is);
        if legal {
            self.attempts[attempt].is = to;
            let of = self.attempts[attempt].delivery;
            self.deliveries[of].is = delivery;
            self.deliveries[of].due = None;
            if delivery != DeliveryState::Pending && delivery != DeliveryState::Sealed {
                self.release_for(of);
            }
        }
        legal
    }

    /// Marks those deliveries of a run that are to be ended.
    pub(super) fn cancel(&mut self, run: usize, who: &BTreeSet<&'static str>) -> Told {
        let mut told = Told::default();
        for at in self.runs[run].deliveries.clone() {
            let of = &mut self.deliveries[at];
            if of.gone || !(who.is_empty() || who.contains(of.customer)) {
                continue;
            }
            match of.is {
                DeliveryState::Sealed => drop(told.sealed.insert(of.customer)),
                is if is_open(is) => {
                    of.cancelled = true;
                    told.marked.push(at);
                }
                _ => drop(told.ended.insert(of.customer)),
            }
        }
        told
    }

    /// The same, and ends those that nobody has at work.
    pub(super) fn give_up(&mut self, run: usize, who: &BTreeSet<&'static str>) -> Told {
        let told = self.cancel(run, who);
        let idle = |at: &&usize| self.deliveries[**at].is != DeliveryState::Working;
        let ended: Vec<usize> = told.marked.iter().filter(idle).copied().collect();
        for at in &ended {
            self.deliveries[*at].is = DeliveryState::Failed;
            self.deliveries[*at].due = None;
            self.release_for(*at);
        }
        if !ended.is_empty() && !self.runs[run].deliveries.iter().any(|at| is_open(self.deliveries[*at].is)) {
            self.finish(run);
        }
        told
    }

    /// All of a run's deliveries have ended, or only wait.
    pub(super) fn finish(&mut self, run: usize) {
        for at in self.runs[run].deliveries.clone() {
            let of = &mut self.deliveries[at];
            if of.is == DeliveryState::Waiting {
                (of.is, of.due) = (DeliveryState::Failed, None);
            }
        }
        let all = self.runs[run].deliveries.iter().all(|at| self.deliveries[*at].is == DeliveryState::Committed);
        self.runs[run].is = if all { RunState::Succeeded } else { RunState::Failed };
        self.runs[run].finished = Some(self.now);
        self.finish_slot(self.runs[run].slot);
    }

    pub(super) fn is_paused(&self, share: usize) -> bool {
        self.pauses.iter().any(|pause| pause.share == share && pause.until.is_none())
    }

    /// Whether a slot is left out for a pause that lasts, or that it was in.
    pub(super) fn is_in_pause(&self, (share, hour): SlotKey) -> bool {
        let within = |pause: &PauseModel| pause.until.is_none_or(|until| pause.since <= hour && hour < until);
        self.pauses.iter().any(|pause| pause.share == share && within(pause))
    }

    pub(super) fn forget_pauses(&mut self, before: i64) {
        let cursors = &self.cursors;
        let planned = |share, until| cursors.get(&share).is_none_or(|cursor| until <= *cursor);
        let over = |pause: &PauseModel| pause.until.is_some_and(|until| until < before && planned(pause.share, until));
        self.pauses.retain(|pause| !over(pause));
    }

    /// Forgets what ended before that hour; returns how many slots.
    pub(super) fn forget(&mut self, before: i64) -> usize {
        let over = |(key, slot): &(&SlotKey, &SlotModel)| {
            // The last one that is planned is kept too: the next begins there.
            let planned = self.cursors.get(&key.0).is_none_or(|cursor| key.1 < *cursor);
            let ended = matches!(slot.is, SlotIs::Done | SlotIs::Skipped);
            ended && planned && key.1 < before && slot.planned < before && self.runs_are_over(**key, before)
        };
        let keys: Vec<SlotKey> = self.slots.iter().filter(over).map(|(key, _)| *key).collect();
        for key in &keys {
            self.slots.remove(key);
            self.runs.iter_mut().filter(|run| run.slot == *key).for_each(|run| run.gone = true);
            self.deliveries.iter_mut().filter(|of| of.slot == *key).for_each(|of| of.gone = true);
        }
        keys.len()
    }

    /// And nothing of them is left in a bucket.
    fn runs_are_over(&self, slot: SlotKey, before: i64) -> bool {
        let mut runs = self.runs.iter().filter(|run| !run.gone && run.slot == slot);
        runs.all(|run| run.finished.is_some_and(|at| at < before) && !self.leaks(run))
    }

    pub(super) fn leaks(&self, run: &RunModel) -> bool {
        let mut attempts = run.deliveries.iter().flat_map(|at| &self.deliveries[*at].attempts);
        attempts.any(|at| self.attempts[*at].uploads.values().any(|upload| *upload == UploadState::Created))
    }

    pub(super) fn is_ahead(&self, share: usize) -> bool {
        self.cursors.get(&share).is_some_and(|cursor| *cursor > self.now)
    }

    /// Forgets what was planned ahead of the clock and nobody has begun; returns how many slots.
    pub(super) fn forget_ahead(&mut self) -> u64 {
        let ahead = |(key, slot): &(&SlotKey, &SlotModel)| {
            let idle = matches!(slot.is, SlotIs::Pending | SlotIs::Held | SlotIs::Skipped);
            key.1 > self.now && self.is_ahead(key.0) && idle && !self.has_runs(**key)
        };
        let keys: Vec<SlotKey> = self.slots.iter().filter(ahead).map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| drop(self.slots.remove(key)));
        keys.len() as u64
    }

    /// Puts the cursors back, and ends the pauses that were to end later.
    pub(super) fn put_back(&mut self) {
        let now = self.now;
        self.pauses.retain(|pause| pause.since <= now || pause.until.is_none());
        for pause in self.pauses.iter_mut().filter(|pause| pause.since <= now) {
            pause.until = pause.until.map(|until| until.min(now));
        }
        self.cursors.values_mut().for_each(|cursor| *cursor = now.min(*cursor));
    }
}

pub(super) fn is_open(state: DeliveryState) -> bool {
    !matches!(state, DeliveryState::Committed | DeliveryState::Failed)
}
