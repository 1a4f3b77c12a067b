//! What moves slots or cuts them off, with random calendars in random zones: jitter
//! stays before the next slot, and between a start and an end nothing is lost.

use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use consign::calendar::{Calendar, Jitter};
use consign::clock::Instant;
use consign::domain::ShareName;
use proptest::prelude::*;

use super::brute::{Cron, changes, cron, cron_of_seconds, instant, is_taken, zone};
use super::calendar;

/// As many slots as are looked at in a row.
const SLOTS: usize = 60;

fn any_cron() -> impl Strategy<Value = Cron> {
    prop_oneof![2 => cron(), 1 => cron_of_seconds()]
}

/// Up to more than a year, short ones as often as long ones.
fn within() -> impl Strategy<Value = Duration> {
    (0u32..26, 0.0..1.0).prop_map(|(bits, part): (u32, f64)| Duration::from_secs_f64(part * f64::from(1 << bits)))
}

/// On the days before and after a change of the zone's clocks, where slots are nearest to each other.
fn near_a_change(zone: Tz, pick: proptest::sample::Index, from: Instant) -> Instant {
    let changes = changes(zone);
    if changes.is_empty() { from } else { changes[pick.index(changes.len())] - TimeDelta::hours(1) }
}

/// The first slots from `from` on, itself included.
fn first_slots(calendar: &Calendar, from: Instant) -> Vec<Instant> {
    let first = calendar.next(from - TimeDelta::nanoseconds(1));
    std::iter::successors(first, |at| calendar.next(*at)).take(SLOTS).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn jitter_never_reaches_the_next_slot(
        cron in any_cron(), zone in zone(), name in "[a-z][a-z0-9-]{0,30}[a-z0-9]", within in within(),
        pick in any::<proptest::sample::Index>(), from in instant(),
    ) {
        prop_assume!(is_taken(&cron));
        let calendar = calendar(&cron.text(), zone);
        let jitter = Jitter::new(&ShareName::parse(&name).unwrap(), within);
        for from in [from, near_a_change(zone, pick, from)] {
            let slots = first_slots(&calendar, from);
            let last = calendar.clone().between(None, slots.last().copied());
            for pair in slots.windows(2) {
                let due = jitter.due(&calendar, pair[0]);
                prop_assert!(pair[0] <= due && due < pair[1], "{} {zone} {name}: {due} of {pair:?}", cron.text());
                prop_assert!(due - pair[0] <= TimeDelta::from_std(within).unwrap());
                // Nor does an end of the share change what the jitter makes of it.
                prop_assert_eq!(jitter.due(&last, pair[0]), due);
            }
        }
    }

    #[test]
    fn a_start_and_an_end_cut_off_slots_and_nothing_else(
        cron in any_cron(), zone in zone(), pick in any::<proptest::sample::Index>(), from in instant(),
        first in 0..SLOTS / 2, last in 0..SLOTS / 2, off in prop::array::uniform2(-1i64..=1),
    ) {
        prop_assume!(is_taken(&cron));
        let endless = calendar(&cron.text(), zone);
        for from in [from, near_a_change(zone, pick, from)] {
            let all = first_slots(&endless, from);
            prop_assume!(all.len() == SLOTS);
            // At a slot, or right beside it.
            let [start, end] = [all[first], all[SLOTS / 2 + last]];
            let (start, end) = (start + TimeDelta::nanoseconds(off[0]), end + TimeDelta::nanoseconds(off[1]));
            let expected: Vec<Instant> = all.iter().copied().filter(|at| (start..=end).contains(at)).collect();
            let bounded = endless.clone().between(Some(start), Some(end));
            let forward: Vec<Instant> =
                std::iter::successors(bounded.next(Instant::MIN_UTC), |at| bounded.next(*at)).collect();
            prop_assert_eq!(&forward, &expected, "{} {}", cron.text(), zone);
            let mut backward: Vec<Instant> =
                std::iter::successors(bounded.previous(Instant::MAX_UTC), |at| bounded.previous(*at)).collect();
            backward.reverse();
            prop_assert_eq!(&backward, &expected, "{} {}", cron.text(), zone);
            // The first interval begins where it would without a start; after it they tile.
            let Some(opening) = expected.first() else { continue };
            let mut covered = endless.slot_at(*opening).start;
            prop_assert_eq!(endless.next(covered), Some(*opening));
            for at in expected {
                let interval = bounded.slot_at(at);
                prop_assert_eq!((interval.start, interval.end), (covered, at), "{} {}", cron.text(), zone);
                covered = at;
            }
        }
    }
}
