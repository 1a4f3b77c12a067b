//! The slots of a stretch of time, so that each moment of it is in one of them: those that are on record, and where
//! there are none the firings of the calendar.

use std::iter::once;

use chrono::TimeDelta;

use super::firings;
use crate::calendar::Calendar;
use crate::clock::Instant;
use crate::domain::{Interval, ShareName, Slot};
use crate::ledger::OnRecord;

/// What the calendar and the ledger say of a share.
#[derive(Clone, Copy)]
pub struct Tiles<'a> {
    pub share: &'a ShareName,
    pub calendar: &'a Calendar,
    pub record: &'a OnRecord,
}

/// What no slot on record covers: after one of them, and up to where the next one begins. Before the first there is
/// no bound, nor after the last.
#[derive(Clone, Copy)]
struct Gap {
    begins: Option<Instant>,
    ends: Option<Instant>,
}

impl Gap {
    fn is_empty(self) -> bool {
        self.begins.zip(self.ends).is_some_and(|(begins, ends)| ends <= begins)
    }
}

impl<'a> Tiles<'a> {
    /// The slots from one instant to another, both included, in order. The record is that of this stretch.
    pub fn between(self, from: Instant, to: Instant) -> impl Iterator<Item = Slot> + use<'a> {
        let slots = &self.record.slots;
        let begins = once(None).chain(slots.iter().map(|slot| Some(slot.interval.end)));
        let next = slots.iter().map(Some).chain(once(None));
        let within = self.calendar.within(from, to);
        within.into_iter().flat_map(move |(from, to)| {
            begins.clone().zip(next.clone()).flat_map(move |(begins, next)| {
                let gap = Gap { begins, ends: next.map(|next| next.interval.start) };
                let next = next.filter(|next| from <= next.at && next.at <= to);
                self.fill(gap, from, to).chain(next.cloned())
            })
        })
    }

    /// The firings in a gap. What is left of it after the last one is a slot as well, which ends where the gap does: by
    /// the schedule that planned what comes then, mostly, it would have been one.
    fn fill(self, gap: Gap, from: Instant, to: Instant) -> impl Iterator<Item = Slot> + use<'a> {
        let first = gap.begins.map_or(from, |begins| from.max(begins + TimeDelta::microseconds(1)));
        let last = gap.ends.map_or(to, |ends| to.min(ends));
        let firings = (!gap.is_empty() && first <= last).then(|| firings(self.calendar, first));
        let firings = firings.into_iter().flatten().take_while(move |at| *at <= last && Some(*at) != gap.ends);
        let rest = gap.ends.filter(|ends| !gap.is_empty() && first <= *ends && *ends <= last);
        firings.chain(rest).map(move |at| self.slot(at, gap))
    }

    fn slot(self, at: Instant, Gap { begins, .. }: Gap) -> Slot {
        let new = || {
            let start = self.calendar.slot_at(at).start;
            let start = begins.map_or(start, |begins| begins.max(start));
            Slot { share: self.share.clone(), at, interval: Interval { start, end: at } }
        };
        // It may have been sent before the schedule has planned it.
        self.record.others.get(&at).cloned().unwrap_or_else(new)
    }
}
