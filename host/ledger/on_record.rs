//! The slots of a share that are on record, whatever its schedule was when they were planned.

use std::collections::{BTreeMap, VecDeque};

use super::LedgerError;
use super::cursor::cursor;
use super::db::{Db, values};
use super::reader::Reader;
use super::row::slot;
use crate::clock::Instant;
use crate::domain::{ShareName, Slot};

/// Slots that are read at once: at first few, because most ask for the last, and then more of a share that may have a
/// hundred thousand.
const PAGES: [u32; 2] = [100, 10_000];

/// What the ledger has of a share in a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnRecord {
    /// In order, and no two of them cover the same: those whose instants are in the stretch, the last one before it and
    /// the first one after it.
    pub slots: VecDeque<Slot>,
    /// Others by their instants: what was sent by hand of another schedule covers what a slot covers, and what was sent
    /// before its time the schedule is yet to plan.
    pub others: BTreeMap<Instant, Slot>,
}

impl OnRecord {
    pub fn at(&self, at: Instant) -> Option<&Slot> {
        self.others.get(&at).or_else(|| self.slots.iter().find(|slot| slot.at == at))
    }
}

impl Reader {
    /// What is on record from one instant to another, both included: the slots that follow each other up to the last
    /// one that was planned. At most `limit` of those in between, the first ones.
    pub async fn on_record(
        &self,
        share: ShareName,
        stretch: (Instant, Instant),
        limit: usize,
    ) -> Result<OnRecord, LedgerError> {
        self.read(move |ledger| on_record(ledger, &share, stretch, limit)).await
    }
}

/// Back from the last slot, where the next one begins, to the one that ended where it began, and so on: with each
/// schedule it is so. What is in between was planned by nobody.
fn on_record(
    ledger: &Db,
    share: &ShareName,
    (from, to): (Instant, Instant),
    limit: usize,
) -> Result<OnRecord, LedgerError> {
    let page = "SELECT share, at, interval_start, interval_end FROM slots WHERE share = ?1 AND at < ?2
                ORDER BY at DESC LIMIT ?3";
    let (cursor, mut record) = (cursor(ledger, share)?, OnRecord::default());
    let (mut begins, mut before, [mut most, then]) = (None, i64::MAX, PAGES);
    loop {
        let slots = ledger.all(page, values![share.as_str(), before, most], slot)?;
        let last = slots.last().map(|slot| slot.at);
        for slot in slots {
            let is_planned = cursor.is_none_or(|cursor| slot.at <= cursor);
            if !is_planned || begins.is_some_and(|begins| begins < slot.interval.end) {
                if slot.at <= to {
                    record.others.insert(slot.at, slot);
                }
                continue;
            }
            begins = Some(slot.interval.start);
            if slot.at > to {
                record.slots.clear();
            }
            let is_before = slot.at < from;
            record.slots.push_front(slot);
            // With one before and one after.
            record.slots.truncate(limit.saturating_add(2));
            if is_before {
                return Ok(record);
            }
        }
        let Some(last) = last else { return Ok(record) };
        (before, most) = (last.timestamp_micros(), then);
    }
}
