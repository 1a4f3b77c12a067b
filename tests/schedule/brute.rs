//! The calendar against a rule that shares no code with it: it looks at every
//! minute, over all zones.

use std::collections::BTreeSet;

use chrono::{Datelike, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike};
use chrono_tz::{TZ_VARIANTS, Tz};
use consign::clock::Instant;
use proptest::prelude::*;

use super::{calendar, utc};

const MINUTE: TimeDelta = TimeDelta::minutes(1);

/// A field as text and as the values it means.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    values: BTreeSet<u32>,
    star: bool,
    repeats: bool,
}

#[derive(Clone, Debug)]
struct Cron {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Cron {
    fn text(&self) -> String {
        [&self.minute, &self.hour, &self.day, &self.month, &self.weekday].map(|f| f.text.as_str()).join(" ")
    }

    fn matches(&self, at: NaiveDateTime) -> bool {
        let day = self.day.values.contains(&at.day());
        let weekday = self.weekday.values.contains(&at.weekday().num_days_from_sunday());
        let date = match (self.day.star, self.weekday.star) {
            (true, _) => weekday,
            (_, true) => day,
            _ => day || weekday,
        };
        date && self.month.values.contains(&at.month())
            && self.hour.values.contains(&at.hour())
            && self.minute.values.contains(&at.minute())
    }

    /// Every slot in `[from, to)`, by looking at each minute.
    fn slots(&self, zone: Tz, from: Instant, to: Instant) -> BTreeSet<Instant> {
        let mut slots = BTreeSet::new();
        let local = |at: Instant| zone.from_utc_datetime(&at.naive_utc()).naive_local();
        if self.minute.repeats || self.hour.repeats {
            let mut at = from;
            while at < to {
                slots.extend(self.matches(local(at)).then_some(at));
                at += MINUTE;
            }
            return slots;
        }
        let mut wall = from.naive_utc() - TimeDelta::days(3);
        while wall < to.naive_utc() + TimeDelta::days(3) {
            if self.matches(wall) {
                slots.insert(match zone.from_local_datetime(&wall) {
                    MappedLocalTime::Single(at) => at.to_utc(),
                    MappedLocalTime::Ambiguous(first, _) => first.to_utc(),
                    MappedLocalTime::None => {
                        let mut at = wall.and_utc() - TimeDelta::days(2);
                        while local(at) < wall {
                            at += MINUTE;
                        }
                        at
                    }
                });
            }
            wall += MINUTE;
        }
        slots.into_iter().filter(|at| (from..to).contains(at)).collect()
    }
}

fn field(min: u32, max: u32) -> impl Strategy<Value = Field> {
    let one = move |values: BTreeSet<u32>, text: String| Field { text, values, star: false, repeats: false };
    prop_oneof![
        3 => Just(Field { text: "*".into(), values: (min..=max).collect(), star: true, repeats: true }),
        3 => (min..=max).prop_map(move |v| one([v].into(), v.to_string())),
        2 => proptest::collection::btree_set(min..=max, 1..5).prop_map(move |values| {
            let text = values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            one(values, text)
        }),
        1 => (min..=max, min..=max).prop_map(move |(a, b)| {
            let (a, b) = (a.min(b), a.max(b));
            one((a..=b).collect(), format!("{a}-{b}"))
        }),
        1 => (min..=max, min..=max, 1..=(max - min)).prop_map(move |(a, b, step)| {
            let (a, b) = (a.min(b), a.max(b));
            let values = (a..=b).step_by(step as usize).collect();
            Field { text: format!("{a}-{b}/{step}"), values, star: false, repeats: true }
        }),
    ]
}

/// `*/n`, which the day fields only allow when the other one is free.
fn time_field(max: u32) -> impl Strategy<Value = Field> {
    prop_oneof![
        4 => field(0, max),
        1 => (1..=max).prop_map(move |step| Field {
            text: format!("*/{step}"),
            values: (0..=max).step_by(step as usize).collect(),
            star: false,
            repeats: true,
        }),
    ]
}

fn cron() -> impl Strategy<Value = Cron> {
    (time_field(59), time_field(23), field(1, 28), field(1, 12), field(0, 6))
        .prop_map(|(minute, hour, day, month, weekday)| Cron { minute, hour, day, month, weekday })
}

fn zone() -> impl Strategy<Value = Tz> {
    (0..TZ_VARIANTS.len()).prop_map(|n| TZ_VARIANTS[n])
}

/// Seconds from 2000 to 2040.
fn instant() -> impl Strategy<Value = Instant> {
    (946_684_800i64..2_208_988_800).prop_map(|s| Instant::from_timestamp(s, 0).unwrap())
}

/// Instants at which a zone's offset changes, years 2000 to 2040.
fn changes(zone: Tz) -> Vec<Instant> {
    let offset = |at: Instant| zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    let (mut at, mut found) = (utc("2000-01-01T00:00:00Z"), Vec::new());
    while at < utc("2040-01-01T00:00:00Z") {
        let next = at + TimeDelta::days(7);
        if offset(at) != offset(next) {
            let (mut low, mut high) = (at, next);
            while high - low > TimeDelta::seconds(1) {
                let middle = low + (high - low) / 2;
                if offset(middle) == offset(at) { low = middle } else { high = middle }
            }
            found.push(high - TimeDelta::nanoseconds(i64::from(high.nanosecond())));
        }
        at = next;
    }
    found
}

/// The calendar's slots in `[from, to)`, checked to rise and to tile on the way.
fn walked(cron: &Cron, zone: Tz, from: Instant, to: Instant) -> BTreeSet<Instant> {
    let calendar = calendar(&cron.text(), zone);
    let (mut at, mut slots) = (from - TimeDelta::seconds(1), BTreeSet::new());
    let mut last = None;
    loop {
        let next = calendar.next(at).unwrap();
        assert!(next > at, "{} {zone}: {next} is not after {at}", cron.text());
        if slots.len() < 50 {
            let interval = calendar.slot_at(next);
            assert!(interval.start < next && interval.end == next);
            assert_eq!(calendar.next(interval.start), Some(next), "{} {zone}", cron.text());
            if let Some(last) = last {
                assert_eq!(interval.start, last, "{} {zone}: the interval of {next}", cron.text());
            }
        }
        if next >= to {
            return slots;
        }
        slots.insert(next);
        (at, last) = (next, Some(next));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_days_agree_with_looking_at_every_minute(cron in cron(), zone in zone(), from in instant()) {
        let from = from - TimeDelta::seconds(from.timestamp().rem_euclid(60));
        let to = from + TimeDelta::days(9);
        prop_assert_eq!(walked(&cron, zone, from, to), cron.slots(zone, from, to), "{} {}", cron.text(), zone);
    }

    #[test]
    fn days_of_change_agree_with_looking_at_every_minute(cron in cron(), zone in zone(), pick in any::<proptest::sample::Index>()) {
        let changes = changes(zone);
        prop_assume!(!changes.is_empty());
        let at = changes[pick.index(changes.len())];
        let (from, to) = (at - TimeDelta::days(2), at + TimeDelta::days(2));
        prop_assert_eq!(walked(&cron, zone, from, to), cron.slots(zone, from, to), "{} {}", cron.text(), zone);
    }

    #[test]
    fn slots_rise_and_tile_far_away(cron in cron(), zone in zone(), from in instant()) {
        let calendar = calendar(&cron.text(), zone);
        let first = calendar.next(from).unwrap();
        let second = calendar.next(first).unwrap();
        prop_assert!(from < first && first < second);
        prop_assert_eq!(calendar.previous(second), Some(first));
        prop_assert!(calendar.previous(first).unwrap() <= from);
    }
}

/// One zone for all that have the same offsets in these years, with its changes.
fn histories() -> Vec<(Tz, Vec<Instant>)> {
    let offset = |zone: Tz, at: Instant| zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
    let mut known = BTreeSet::new();
    let new = |zone: Tz| {
        let changes = changes(zone);
        let start = (utc("2000-01-01T00:00:00Z"), offset(zone, utc("2000-01-01T00:00:00Z")));
        let history: Vec<_> = changes.iter().map(|at| (*at, offset(zone, *at))).chain([start]).collect();
        known.insert(history).then_some((zone, changes))
    };
    TZ_VARIANTS.into_iter().filter_map(new).collect()
}

/// Every zone at every change from 2000 to 2040, with the expressions that changes hurt most.
#[test]
fn no_zone_loses_or_doubles_a_slot_at_its_changes() {
    let one = |n: u32| Field { text: n.to_string(), values: [n].into(), star: false, repeats: false };
    let any = |min: u32, max: u32| Field { text: "*".into(), values: (min..=max).collect(), star: true, repeats: true };
    let step = |text: &str, max: u32, n: usize| {
        let values = (0..=max).step_by(n).collect();
        Field { text: text.into(), values, star: false, repeats: true }
    };
    let list = Field { text: "0-3".into(), values: (0..=3).collect(), star: false, repeats: false };
    let quarters = Field { text: "15,45".into(), values: [15, 45].into(), star: false, repeats: false };
    let cron = |minute, hour| {
        let (day, month, weekday) = (any(1, 31), any(1, 12), any(0, 6));
        Cron { minute, hour, day, month, weekday }
    };
    let crons = [
        cron(one(30), one(2)),
        cron(quarters, list),
        cron(step("*/20", 59, 20), any(0, 23)),
        cron(one(0), step("*/2", 23, 2)),
    ];
    let (mut seen, mut places) = (0, BTreeSet::new());
    for (zone, changes) in histories() {
        for at in changes {
            let local = |at: Instant| zone.from_utc_datetime(&at.naive_utc()).naive_local();
            // Zones that change at the same moment in the same way.
            if !places.insert((at, local(at - TimeDelta::seconds(1)), local(at))) {
                continue;
            }
            let (from, to) = (at - TimeDelta::hours(27), at + TimeDelta::hours(27));
            for cron in &crons {
                let slots = walked(cron, zone, from, to);
                assert_eq!(slots, cron.slots(zone, from, to), "{} {zone} {at}", cron.text());
                seen += slots.len();
            }
        }
    }
    assert!(places.len() > 2_000 && seen > 200_000, "{} changes, {seen} slots", places.len());
}

/// Whatever the clocks do, a day has one slot: none is lost and none doubled in 40 years.
#[test]
fn every_day_of_every_zone_has_its_slot() {
    let histories = histories();
    assert!(histories.len() > 100, "{}", histories.len());
    let days = (utc("2040-01-01T00:00:00Z") - utc("2000-01-01T00:00:00Z")).num_days();
    for (zone, _) in histories {
        let daily = calendar("30 2 * * *", zone);
        let wall = |text: &str| zone.from_local_datetime(&text.parse().unwrap()).earliest().unwrap().to_utc();
        let (mut at, end, mut count) = (wall("2000-01-01T00:00:00"), wall("2040-01-01T00:00:00"), 0);
        while let Some(next) = daily.next(at).filter(|next| *next < end) {
            assert!(next > at && next - at <= TimeDelta::hours(49), "{zone}: {at} to {next}");
            (at, count) = (next, count + 1);
        }
        assert_eq!(count, days, "{zone}");
    }
}
