//! Two slots with the same keys would overwrite each other.

use chrono::TimeDelta;

use crate::calendar::Calendar;
use crate::clock::{Clock, Instant, to_the_second};
use crate::config::{Config, ConfigErrors};
use crate::domain::{Interval, KeyFacts, Mode};

/// A key with a year in it, which all have, repeats within a year of its slot if
/// ever: what differs from year to year are leap days and the changes of clocks.
const YEARS: i64 = 10;

/// Enough for every hour of two years. More frequent slots repeat sooner.
const SLOTS: usize = 20_000;

pub(super) fn check(config: &Config, clock: &Clock, found: &mut ConfigErrors) {
    for (name, share) in config.shares.iter().filter(|(_, share)| share.mode == Mode::Slot && !share.key.is_whole()) {
        let Some(customer) = share.to.first() else { continue };
        let calendar = &share.calendar;
        let end = clock.now() + TimeDelta::days(366 * YEARS);
        let mut previous = firings(calendar, clock).next().map_or(end, |first| calendar.slot_at(first).start);
        let facts = firings(calendar, clock).take_while(|slot| *slot < end).take(SLOTS).map(|slot| {
            let interval = Interval { start: std::mem::replace(&mut previous, slot), end: slot };
            KeyFacts { share: name, customer, slot, interval }
        });
        if let Some((one, other)) = share.key.repeats(facts) {
            let message = format!(
                "key `{}` is the same for the slots {} and {}, so the second would overwrite the first",
                share.key.as_str(),
                to_the_second(one),
                to_the_second(other)
            );
            let place = config.locate(&["shares", name.as_str(), "key"]);
            found.at(place, message, "write the slot in full, as in {slot:%Y-%m-%d}/{slot:%H%M%SZ}");
        }
    }
}

pub fn firings<'a>(calendar: &'a Calendar, clock: &Clock) -> impl Iterator<Item = Instant> + use<'a> {
    std::iter::successors(calendar.next(clock.now()), |at| calendar.next(*at))
}
