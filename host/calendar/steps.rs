//! From local times to instants, across the changes of a zone's offset.

use chrono::{Days, MappedLocalTime, NaiveDateTime, Offset, SubsecRound, TimeDelta, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};

use super::expression::Expression;
use crate::clock::Instant;

const SECOND: TimeDelta = TimeDelta::seconds(1);
const DAY: TimeDelta = TimeDelta::days(1);

/// How far back the slot before an instant is looked for: the longest wait of any expression.
const LOOK_BACK: TimeDelta = TimeDelta::days(42 * 366);

pub(super) fn next(expression: &Expression, zone: Tz, after: Instant) -> Option<Instant> {
    // Slots are whole seconds, so one after 10:00:00.7 is one after 10:00:00.
    let after = after.trunc_subsecs(0);
    if expression.follows_elapsed_time {
        next_elapsed(expression, zone, after.checked_add_signed(SECOND)?)
    } else {
        next_fixed(expression, zone, after)
    }
}

/// Bisects on [`next`], so that both directions can never disagree about what a slot is.
pub(super) fn previous(expression: &Expression, zone: Tz, at: Instant) -> Option<Instant> {
    // Everything before 10:00:00.7 is what is before 10:00:01.
    let at = if at.timestamp_subsec_nanos() == 0 { at } else { at.trunc_subsecs(0).checked_add_signed(SECOND)? };
    let slot_before = |from: Instant| next(expression, zone, from).filter(|slot| *slot < at);
    let (mut back, mut none_from) = (SECOND, at);
    let mut found = loop {
        let from = at.checked_sub_signed(back)?;
        if let Some(slot) = slot_before(from) {
            break slot;
        }
        if back > LOOK_BACK {
            return None;
        }
        none_from = from;
        back = back.checked_mul(2)?;
    };
    // `found` is a slot, and there is none between `none_from` and `at`.
    while found < none_from {
        let middle = found + TimeDelta::seconds((none_from - found).num_seconds() / 2);
        match slot_before(middle) {
            Some(later) => found = later,
            None if middle == found => break,
            None => none_from = middle,
        }
    }
    Some(found)
}

/// Local times in order, each mapped to one instant. The mapping never goes
/// back, so what is at or before `after`'s local time is not after `after`.
fn next_fixed(expression: &Expression, zone: Tz, after: Instant) -> Option<Instant> {
    let mut from = local(zone, after)?.checked_add_signed(SECOND)?;
    loop {
        let wall = expression.local_from(from)?;
        let slot = settle(zone, wall)?;
        if slot > after {
            return Some(slot);
        }
        from = wall.checked_add_signed(SECOND)?;
    }
}

/// The one instant of a local time: the first when the clock shows it twice,
/// the end of the gap when it never does.
pub(super) fn settle(zone: Tz, wall: NaiveDateTime) -> Option<Instant> {
    match zone.from_local_datetime(&wall) {
        MappedLocalTime::Single(at) => Some(at.to_utc()),
        MappedLocalTime::Ambiguous(first, second) => Some(first.to_utc().min(second.to_utc())),
        MappedLocalTime::None => GapInfo::new(&wall, &zone)?.end.map(|end| end.to_utc()),
    }
}

/// Walks real time from `from` on, in pieces of one offset, and takes every
/// instant whose local time matches.
fn next_elapsed(expression: &Expression, zone: Tz, from: Instant) -> Option<Instant> {
    let mut from = from;
    loop {
        let wall = local(zone, from)?;
        let day = expression.day_from(wall.date())?;
        // Nothing matches before `day`; offsets are less than a day, so this stays before it.
        if let Some(jump) = day.checked_sub_days(Days::new(2)).map(|d| d.and_time(Default::default()).and_utc())
            && jump > from
        {
            from = jump;
            continue;
        }
        let end = piece_end(zone, from)?;
        if let Some(slot) = expression.local_from(wall)
            && let Some(slot) = from.checked_add_signed(slot - wall)
            && slot < end
        {
            return Some(slot);
        }
        from = end;
    }
}

/// The end of a stretch of at most a day from `from` on in which the offset stays.
fn piece_end(zone: Tz, from: Instant) -> Option<Instant> {
    let end = from.checked_add_signed(DAY)?;
    Some(change_between(zone, from, end).unwrap_or(end))
}

/// The first second of another offset, if `to` has another one than `from`.
pub(super) fn change_between(zone: Tz, from: Instant, to: Instant) -> Option<Instant> {
    let (mut same, mut other) = (from, to);
    if offset(zone, from) == offset(zone, to) {
        return None;
    }
    while other - same > SECOND {
        let middle = same + TimeDelta::seconds((other - same).num_seconds() / 2);
        if offset(zone, middle) == offset(zone, from) {
            same = middle;
        } else {
            other = middle;
        }
    }
    Some(other)
}

/// How far the zone's clock is ahead of UTC.
pub(super) fn offset(zone: Tz, at: Instant) -> TimeDelta {
    TimeDelta::seconds(i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()))
}

fn local(zone: Tz, at: Instant) -> Option<NaiveDateTime> {
    let utc = at.with_timezone(&Utc).naive_utc();
    utc.checked_add_offset(zone.offset_from_utc_datetime(&utc).fix())
}
