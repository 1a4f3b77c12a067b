//! Which slots are due. Pure: the same shares, cursors and time give the same
//! plan, however often and however late it is asked.

use std::collections::{BTreeSet, HashMap};

use chrono::TimeDelta;

use super::Calendar;
use crate::calendar::Jitter;
use crate::clock::{Instant, ahead_from};
use crate::config::{CatchUp, Missed};
use crate::domain::{Interval, Origin, ShareName, SkipReason, Slot};

/// A slot that is at most this late fires as if it were on time. Beyond that the
/// process was down (or stopped, or the clock jumped), and catching up applies.
const LATE_MAX: TimeDelta = TimeDelta::minutes(5);

/// Slots of one plan, so that one ledger transaction stays short.
const SLOTS_MAX: usize = 20_000;

/// Customers of all slots of one plan, each counted with each: that is what the ledger writes down. A single slot may have
/// more of them.
const CUSTOMERS_MAX: usize = 250_000;

/// Slots of one share in one plan, so that a share that missed a year of
/// minutes does not hold up the others.
const SHARE_SLOTS_MAX: usize = 1_000;

/// A share that fires again and again.
#[derive(Clone, Debug)]
pub struct Recurring {
    pub share: ShareName,
    pub calendar: Calendar,
    pub jitter: Jitter,
    pub catch_up: CatchUp,
    /// How far the ledger has it planned. None for a new share, which begins now.
    pub cursor: Option<Instant>,
    /// The last slot on record up to there, of whatever schedule: the next one covers what comes after it.
    pub last: Option<Instant>,
    /// How many get each slot.
    pub customers: usize,
}

/// One slot that is due: to run, or to be recorded as skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub slot: Slot,
    /// The schedule, on time or late.
    pub origin: Origin,
    pub skip: Option<SkipReason>,
}

/// What to put into the ledger in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order of time within each share.
    pub due: Vec<Due>,
    /// Where each share stands once `due` is in the ledger.
    pub cursors: Vec<(ShareName, Instant)>,
    /// There is more to plan at once: record this plan and ask again.
    pub more: bool,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.due.is_empty() && self.cursors.is_empty()
    }
}

/// Knows when each share is due next. A plan counts only after [`Planner::recorded`]:
/// when the ledger could not take it, the next wake makes it again.
pub struct Planner {
    shares: HashMap<ShareName, Entry>,
    /// Every share by when it is due next, so that a wake with nothing due looks at one element.
    queue: BTreeSet<(Instant, ShareName)>,
    /// Cursors of new shares that no plan has recorded yet.
    fresh: Vec<(ShareName, Instant)>,
    /// The latest cursor.
    furthest: Instant,
}

struct Entry {
    calendar: Calendar,
    jitter: Jitter,
    catch_up: CatchUp,
    cursor: Instant,
    last: Option<Instant>,
    customers: usize,
    /// `cursor` is itself a slot of this calendar, so the next interval begins there.
    on_slot: bool,
    next: Option<Next>,
}

/// A slot to come. Only `due` knows of the jitter: the slot and its interval never move.
#[derive(Clone, Copy)]
struct Next {
    at: Instant,
    due: Instant,
}

impl Planner {
    /// For a changed configuration make a new one, with the ledger's cursors, and have it [`Planner::go_on_from`]
    /// the one before.
    pub fn new(shares: impl IntoIterator<Item = Recurring>, now: Instant) -> Self {
        let (shares_by_name, queue, fresh) = (HashMap::new(), BTreeSet::new(), Vec::new());
        let mut planner = Self { shares: shares_by_name, queue, fresh, furthest: Instant::MIN_UTC };
        for Recurring { share, calendar, jitter, catch_up, cursor, last, customers } in shares {
            if cursor.is_none() {
                planner.fresh.push((share.clone(), now));
            }
            let cursor = cursor.unwrap_or(now);
            planner.furthest = planner.furthest.max(cursor);
            let on_slot = is_slot(&calendar, cursor);
            let mut entry = Entry { calendar, jitter, catch_up, cursor, last, customers, on_slot, next: None };
            entry.next = entry.after(cursor);
            planner.queue.extend(entry.next.map(|next| (next.due, share.clone())));
            planner.shares.insert(share, entry);
        }
        planner
    }

    /// When the next slot is due, over all shares.
    pub fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// The slots that are due next, of so many shares.
    pub fn coming(&self, limit: usize) -> Vec<(ShareName, Instant)> {
        let next = |share: &ShareName| Some((share.clone(), self.shares.get(share)?.next?.at));
        self.queue.iter().take(limit).filter_map(|(_, share)| next(share)).collect()
    }

    /// Whether a share is planned ahead of the clock.
    pub fn is_ahead(&self, now: Instant) -> bool {
        self.furthest > ahead_from(now)
    }

    /// The shares of which that is so, with how far they are planned.
    pub fn ahead(&self, now: Instant) -> Vec<(&ShareName, Instant)> {
        let from = ahead_from(now);
        let ahead = self.shares.iter().filter(|(_, entry)| entry.cursor > from);
        ahead.map(|(share, entry)| (share, entry.cursor)).collect()
    }

    /// The slots that are due at `now`. Changes nothing.
    pub fn due(&self, now: Instant) -> Plan {
        let mut plan = Plan { cursors: self.fresh.clone(), ..Plan::default() };
        let mut customers = CUSTOMERS_MAX;
        for (_, share) in self.queue.iter().take_while(|(at, _)| *at <= now) {
            let Some(entry) = self.shares.get(share) else { continue };
            let (before, each) = (plan.due.len(), entry.customers.max(1));
            // However many get it, one slot has a plan to itself.
            let by_customers = (customers / each).max(usize::from(before == 0));
            let room = SLOTS_MAX.saturating_sub(before).min(SHARE_SLOTS_MAX).min(by_customers);
            if room == 0 {
                plan.more = true;
                break;
            }
            plan.more |= entry.due(share, now, room, &mut plan);
            customers = customers.saturating_sub((plan.due.len() - before) * each);
        }
        plan
    }

    /// Moves on, after the ledger has committed `plan`. Never moves back.
    pub fn recorded(&mut self, plan: &Plan) {
        self.fresh.clear();
        for (share, cursor) in &plan.cursors {
            self.move_on(share, (*cursor, Some(*cursor)), |_| true);
        }
    }

    /// Moves on to where the planner before was when this one took its place, because
    /// it went on while this one was made. But not ahead of the clock: that is in the
    /// ledger, or has been taken back there (`Ledger::rewind`).
    pub fn go_on_from(&mut self, before: &Self, now: Instant) {
        let from = ahead_from(now);
        for (share, entry) in before.shares.iter().filter(|(_, entry)| entry.cursor <= from) {
            self.move_on(share, (entry.cursor, entry.last), |calendar| is_slot(calendar, entry.cursor));
        }
        // New to the ledger, and not to the planner before: it began with that one.
        for (share, began) in std::mem::take(&mut self.fresh) {
            let known = before.shares.get(&share).filter(|entry| entry.cursor <= from);
            if let Some(Entry { cursor, last, .. }) = known {
                self.move_to(&share, (*cursor, *last), |calendar| is_slot(calendar, *cursor));
            }
            self.fresh.push((share, known.map_or(began, |entry| entry.cursor)));
        }
    }

    /// Moves on, after the ledger has committed a plan of the planner before.
    pub fn catch_up(&mut self, cursors: &[(ShareName, Instant)]) {
        for (share, cursor) in cursors {
            self.move_on(share, (*cursor, Some(*cursor)), |calendar| is_slot(calendar, *cursor));
        }
    }

    fn move_on(&mut self, share: &ShareName, to: (Instant, Option<Instant>), is_slot: impl FnOnce(&Calendar) -> bool) {
        if self.shares.get(share).is_some_and(|entry| entry.cursor < to.0) {
            self.move_to(share, to, is_slot);
        }
    }

    fn move_to(
        &mut self,
        share: &ShareName,
        (cursor, last): (Instant, Option<Instant>),
        is_slot: impl FnOnce(&Calendar) -> bool,
    ) {
        let Some(entry) = self.shares.get_mut(share) else { return };
        let next = entry.after(cursor);
        if let Some(old) = std::mem::replace(&mut entry.next, next) {
            self.queue.remove(&(old.due, share.clone()));
        }
        self.queue.extend(next.map(|next| (next.due, share.clone())));
        entry.cursor = cursor;
        entry.last = last;
        entry.on_slot = is_slot(&entry.calendar);
        self.furthest = self.furthest.max(cursor);
    }
}

fn is_slot(calendar: &Calendar, at: Instant) -> bool {
    calendar.next(at - TimeDelta::seconds(1)) == Some(at)
}

impl Entry {
    fn after(&self, at: Instant) -> Option<Next> {
        let at = self.calendar.next(at)?;
        Some(Next { at, due: self.jitter.due(&self.calendar, at) })
    }

    /// Adds up to `room` slots; true when more are due.
    fn due(&self, share: &ShareName, now: Instant, room: usize, plan: &mut Plan) -> bool {
        let mut before = self.on_slot.then_some(self.cursor);
        let mut next = self.next;
        let mut left = room;
        while let Some(Next { at, due }) = next.filter(|next| next.due <= now) {
            if left == 0 {
                return true;
            }
            left -= 1;
            let interval = match before {
                Some(start) => Interval { start, end: at },
                // Another schedule may have planned some of it.
                None => self.calendar.slot_at(at).after(self.last),
            };
            next = self.after(at);
            before = Some(at);
            let newer_is_due = next.is_some_and(|next| next.due <= now);
            let (origin, skip) = fate(self.catch_up, now - due, newer_is_due);
            plan.due.push(Due { slot: Slot { share: share.clone(), at, interval }, origin, skip });
            match plan.cursors.last_mut() {
                Some((last, cursor)) if last == share => *cursor = at,
                _ => plan.cursors.push((share.clone(), at)),
            }
        }
        false
    }
}

/// What becomes of a slot that is found due this late.
fn fate(catch_up: CatchUp, late: TimeDelta, newer_is_due: bool) -> (Origin, Option<SkipReason>) {
    if late <= LATE_MAX {
        return (Origin::Schedule, None);
    }
    let window = TimeDelta::from_std(catch_up.window).unwrap_or(TimeDelta::MAX);
    let skip = match catch_up.missed {
        _ if late > window => Some(SkipReason::TooOld),
        Missed::None => Some(SkipReason::Missed),
        Missed::Latest => newer_is_due.then_some(SkipReason::Missed),
        Missed::All => None,
    };
    (Origin::CatchUp, skip)
}
