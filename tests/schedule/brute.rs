//! The calendar against a rule that shares no code with it: it looks at every
//! minute, or every second, over all zones.

use std::collections::BTreeSet;

use chrono::{
    Datelike, Days, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Timelike,
    Weekday,
};
use chrono_tz::{TZ_VARIANTS, Tz};
use consign::calendar::{Calendar, CalendarError};
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

/// A field of days as text and as the days it means.
#[derive(Clone, Debug)]
struct Date {
    text: String,
    star: bool,
    on: On,
}

#[derive(Clone, Debug)]
enum On {
    Days(BTreeSet<u32>),
    /// `L`, `LW`, `15W`.
    LastDay,
    LastWorkday,
    Workday(u32),
    /// From Sunday.
    Weekdays(BTreeSet<u32>),
    /// `FRI#2`, `FRIL`.
    Nth(u32, u32),
    Last(u32),
}

fn weekday(day: NaiveDate) -> u32 {
    day.weekday().num_days_from_sunday()
}

fn is_workday(day: &NaiveDate) -> bool {
    !matches!(day.weekday(), Weekday::Sat | Weekday::Sun)
}

/// The days of the month that the day is in.
fn month(day: NaiveDate) -> impl Iterator<Item = NaiveDate> {
    day.with_day(1).unwrap().iter_days().take_while(move |other| other.month() == day.month())
}

impl On {
    fn has(&self, day: NaiveDate) -> bool {
        let last = |days: &mut dyn Iterator<Item = NaiveDate>| days.last() == Some(day);
        match self {
            On::Days(days) => days.contains(&day.day()),
            On::LastDay => last(&mut month(day)),
            On::LastWorkday => last(&mut month(day).filter(is_workday)),
            // Of two that are as near, there is none: a Saturday has its Friday, a Sunday its Monday.
            On::Workday(near) => {
                let away = |other: &NaiveDate| other.day().abs_diff(*near);
                month(day).filter(is_workday).min_by_key(away) == Some(day)
            }
            On::Weekdays(days) => days.contains(&weekday(day)),
            On::Nth(wanted, nth) => {
                month(day).filter(|other| weekday(*other) == *wanted).nth(*nth as usize - 1) == Some(day)
            }
            On::Last(wanted) => last(&mut month(day).filter(|other| weekday(*other) == *wanted)),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Cron {
    /// `@daily`, for what the fields say.
    name: Option<&'static str>,
    /// None: five fields.
    second: Option<Field>,
    minute: Field,
    hour: Field,
    day: Date,
    month: Field,
    weekday: Date,
}

impl Cron {
    pub(super) fn text(&self) -> String {
        if let Some(name) = self.name {
            return name.to_owned();
        }
        let rest = [&self.minute.text, &self.hour.text, &self.day.text, &self.month.text, &self.weekday.text];
        let all = self.second.iter().map(|second| &second.text).chain(rest);
        all.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// The step that sees every slot.
    fn step(&self) -> TimeDelta {
        if self.second.is_some() { TimeDelta::seconds(1) } else { MINUTE }
    }

    fn has_day(&self, day: NaiveDate) -> bool {
        let (by_day, by_weekday) = (self.day.on.has(day), self.weekday.on.has(day));
        let date = match (self.day.star, self.weekday.star) {
            (true, _) => by_weekday,
            (_, true) => by_day,
            _ => by_day || by_weekday,
        };
        date && self.month.values.contains(&day.month())
    }

    fn has_time(&self, at: NaiveTime) -> bool {
        let second = self.second.as_ref().map_or(at.second() == 0, |second| second.values.contains(&at.second()));
        second && self.hour.values.contains(&at.hour()) && self.minute.values.contains(&at.minute())
    }

    fn matches(&self, at: NaiveDateTime) -> bool {
        self.has_time(at.time()) && self.has_day(at.date())
    }

    /// Whether a day of 2000 to 2040 has it: `0 0 31 2 *` does not.
    fn comes(&self) -> bool {
        let days = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap().iter_days();
        days.take_while(|day| day.year() < 2041).any(|day| self.has_day(day))
    }

    fn repeats(&self) -> bool {
        self.minute.repeats || self.hour.repeats || self.second.as_ref().is_some_and(|second| second.repeats)
    }

    /// Every slot in `[from, to)`, by looking at each step.
    fn slots(&self, zone: Tz, from: Instant, to: Instant) -> BTreeSet<Instant> {
        let mut slots = BTreeSet::new();
        let local = |at: Instant| zone.from_utc_datetime(&at.naive_utc()).naive_local();
        if self.repeats() {
            let mut at = from;
            while at < to {
                slots.extend(self.matches(local(at)).then_some(at));
                at += self.step();
            }
            return slots;
        }
        let (first, last) = (from.date_naive() - Days::new(3), to.date_naive() + Days::new(3));
        for day in first.iter_days().take_while(|day| *day <= last).filter(|day| self.has_day(*day)) {
            let mut wall = day.and_time(NaiveTime::MIN);
            while wall.date() == day {
                if self.has_time(wall.time()) {
                    slots.insert(the_first(zone, wall, local));
                }
                wall += self.step();
            }
        }
        slots.into_iter().filter(|at| (from..to).contains(at)).collect()
    }
}

/// When a fixed time comes: the first time, or at the end of the gap that it is in.
fn the_first(zone: Tz, wall: NaiveDateTime, local: impl Fn(Instant) -> NaiveDateTime) -> Instant {
    match zone.from_local_datetime(&wall) {
        MappedLocalTime::Single(at) => at.to_utc(),
        MappedLocalTime::Ambiguous(first, _) => first.to_utc(),
        MappedLocalTime::None => {
            // Clocks change at whole minutes.
            let minute = wall.with_second(0).unwrap();
            let mut at = minute.and_utc() - TimeDelta::days(2);
            while local(at) < minute {
                at += MINUTE;
            }
            at
        }
    }
}

fn field(min: u32, max: u32) -> impl Strategy<Value = Field> {
    let one = move |values: BTreeSet<u32>, text: String| Field { text, values, star: false, repeats: false };
    prop_oneof![
        3 => Just(any_value(min, max)),
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

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// One value, by its name in letters of any case.
fn named(names: &'static [&'static str], first: u32) -> impl Strategy<Value = Field> {
    (0..names.len(), any::<bool>()).prop_map(move |(n, lower)| {
        let text = if lower { names[n].to_lowercase() } else { names[n].to_owned() };
        Field { text, values: [n as u32 + first].into(), star: false, repeats: false }
    })
}

fn day() -> impl Strategy<Value = Date> {
    let special = |text: &str, on: On| Just(Date { text: text.to_owned(), star: false, on });
    let of = |field: Field| Date { text: field.text, star: field.star, on: On::Days(field.values) };
    prop_oneof![
        6 => field(1, 31).prop_map(of),
        2 => (29..=31u32).prop_map(|n| Date { text: n.to_string(), star: false, on: On::Days([n].into()) }),
        1 => Just(Date { text: "?".to_owned(), star: true, on: On::Days((1..=31).collect()) }),
        1 => special("L", On::LastDay),
        1 => special("LW", On::LastWorkday),
        2 => (1..=28u32).prop_map(|n| Date { text: format!("{n}W"), star: false, on: On::Workday(n) }),
    ]
}

fn day_of_week() -> impl Strategy<Value = Date> {
    let of = |field: Field| Date { text: field.text, star: field.star, on: On::Weekdays(field.values) };
    let name = |n: u32, named: bool| if named { WEEKDAYS[n as usize].to_owned() } else { n.to_string() };
    prop_oneof![
        6 => field(0, 6).prop_map(of),
        1 => named(&WEEKDAYS, 0).prop_map(of),
        1 => Just(Date { text: "7".to_owned(), star: false, on: On::Weekdays([0].into()) }),
        2 => (0..=6u32, 1..=5u32, any::<bool>()).prop_map(move |(n, nth, named)| Date {
            text: format!("{}#{nth}", name(n, named)),
            star: false,
            on: On::Nth(n, nth),
        }),
        2 => (0..=6u32, any::<bool>())
            .prop_map(move |(n, named)| Date { text: format!("{}L", name(n, named)), star: false, on: On::Last(n) }),
    ]
}

pub(super) fn cron() -> impl Strategy<Value = Cron> {
    let month = prop_oneof![4 => field(1, 12), 1 => named(&MONTHS, 1)];
    (time_field(59), time_field(23), day(), month, day_of_week()).prop_map(|(minute, hour, day, month, weekday)| Cron {
        name: None,
        second: None,
        minute,
        hour,
        day,
        month,
        weekday,
    })
}

/// With seconds, on any day: their hours are what is looked at.
pub(super) fn cron_of_seconds() -> impl Strategy<Value = Cron> {
    (time_field(59), time_field(59), time_field(23))
        .prop_map(|(second, minute, hour)| Cron { second: Some(second), ..every_day(minute, hour) })
}

fn any_value(min: u32, max: u32) -> Field {
    Field { text: "*".into(), values: (min..=max).collect(), star: true, repeats: true }
}

fn every_day(minute: Field, hour: Field) -> Cron {
    let date = |on: On| Date { text: "*".into(), star: true, on };
    let (day, weekday) = (date(On::Days((1..=31).collect())), date(On::Weekdays((0..=6).collect())));
    Cron { name: None, second: None, minute, hour, day, month: any_value(1, 12), weekday }
}

pub(super) fn zone() -> impl Strategy<Value = Tz> {
    (0..TZ_VARIANTS.len()).prop_map(|n| TZ_VARIANTS[n])
}

/// Seconds from 2000 to 2040.
pub(super) fn instant() -> impl Strategy<Value = Instant> {
    (946_684_800i64..2_208_988_800).prop_map(|s| Instant::from_timestamp(s, 0).unwrap())
}

/// Instants at which a zone's offset changes, years 2000 to 2040.
pub(super) fn changes(zone: Tz) -> Vec<Instant> {
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
        // All of a few; of many the first, and then each seventh.
        if slots.len() < 1_000 || slots.len() % 7 == 0 {
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

/// Whether the calendar takes it: what never comes it refuses, and nothing else.
pub(super) fn is_taken(cron: &Cron) -> bool {
    let refused = Calendar::parse(&cron.text(), Tz::UTC).err();
    match refused {
        None => assert!(cron.comes(), "{} never comes", cron.text()),
        Some(CalendarError::NeverComes { .. }) => assert!(!cron.comes(), "{} comes", cron.text()),
        Some(other) => panic!("{other}"),
    }
    cron.comes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_days_agree_with_looking_at_every_minute(cron in cron(), zone in zone(), from in instant()) {
        prop_assume!(is_taken(&cron));
        let from = from - TimeDelta::seconds(from.timestamp().rem_euclid(60));
        let to = from + TimeDelta::days(33);
        prop_assert_eq!(walked(&cron, zone, from, to), cron.slots(zone, from, to), "{} {}", cron.text(), zone);
    }

    #[test]
    fn days_of_change_agree_with_looking_at_every_minute(cron in cron(), zone in zone(), pick in any::<proptest::sample::Index>(), from in instant()) {
        let changes = changes(zone);
        prop_assume!(is_taken(&cron));
        // Half of the zones have none in these years.
        let at = if changes.is_empty() { from } else { changes[pick.index(changes.len())] };
        let at = at - TimeDelta::seconds(at.timestamp().rem_euclid(60));
        let (from, to) = (at - TimeDelta::days(2), at + TimeDelta::days(2));
        prop_assert_eq!(walked(&cron, zone, from, to), cron.slots(zone, from, to), "{} {}", cron.text(), zone);
    }

    #[test]
    fn seconds_agree_with_looking_at_each(cron in cron_of_seconds(), zone in zone(), pick in any::<proptest::sample::Index>(), from in instant()) {
        let changes = changes(zone);
        let at = if changes.is_empty() { from } else { changes[pick.index(changes.len())] };
        for at in [at, from] {
            let (from, to) = (at - TimeDelta::minutes(90), at + TimeDelta::minutes(90));
            prop_assert_eq!(walked(&cron, zone, from, to), cron.slots(zone, from, to), "{} {}", cron.text(), zone);
        }
    }

    #[test]
    fn names_mean_what_their_fields_say(zone in zone(), from in instant()) {
        let one = |n: u32| Field { text: n.to_string(), values: [n].into(), star: false, repeats: false };
        let day = |on: On| Date { text: String::new(), star: false, on };
        let hourly = every_day(one(0), any_value(0, 23));
        let daily = every_day(one(0), one(0));
        let weekly = Cron { weekday: day(On::Weekdays([0].into())), ..daily.clone() };
        let monthly = Cron { day: day(On::Days([1].into())), ..daily.clone() };
        let yearly = Cron { month: one(1), ..monthly.clone() };
        let all = [
            ("@hourly", &hourly, 3), ("@daily", &daily, 9), ("@midnight", &daily, 9), ("@weekly", &weekly, 30),
            ("@monthly", &monthly, 70), ("@yearly", &yearly, 400), ("@annually", &yearly, 400),
        ];
        for (name, cron, days) in all {
            let cron = Cron { name: Some(name), ..cron.clone() };
            let from = from - TimeDelta::seconds(from.timestamp().rem_euclid(60));
            let to = from + TimeDelta::days(days);
            prop_assert_eq!(walked(&cron, zone, from, to), cron.slots(zone, from, to), "{} {}", name, zone);
        }
    }

    #[test]
    fn slots_rise_and_tile_far_away(cron in cron(), zone in zone(), from in instant()) {
        prop_assume!(is_taken(&cron));
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
    let step = |text: &str, max: u32, n: usize| {
        let values = (0..=max).step_by(n).collect();
        Field { text: text.into(), values, star: false, repeats: true }
    };
    let list = Field { text: "0-3".into(), values: (0..=3).collect(), star: false, repeats: false };
    let quarters = Field { text: "15,45".into(), values: [15, 45].into(), star: false, repeats: false };
    let crons = [
        every_day(one(30), one(2)),
        every_day(quarters, list),
        every_day(step("*/20", 59, 20), any_value(0, 23)),
        every_day(one(0), step("*/2", 23, 2)),
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
