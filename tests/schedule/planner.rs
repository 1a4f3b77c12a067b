//! The planner under good and bad clocks. Ticks only say when it is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use consign::calendar::{Jitter, When};
use consign::clock::Instant;
use consign::config::{CatchUp, Missed};
use consign::domain::{Origin, ShareName, SkipReason};
use consign::schedule::{Due, Plan, Planner, Recurring};
use proptest::prelude::*;

use super::{calendar, show, utc};

fn recurring(name: &str, text: &str, cursor: Option<&str>) -> Recurring {
    Recurring {
        share: ShareName::parse(name).unwrap(),
        calendar: calendar(text, Tz::America__New_York),
        jitter: Jitter::default(),
        catch_up: CatchUp::default(),
        cursor: cursor.map(utc),
        last: None,
        customers: 1,
    }
}

/// One whose last slot is on record.
fn planned_before(name: &str, text: &str, last: &str) -> Recurring {
    Recurring { last: Some(utc(last)), ..recurring(name, text, Some(last)) }
}

/// What becomes of nine missed hours.
fn caught_up(missed: Missed, window_h: u64) -> Record {
    let catch_up = CatchUp { missed, window: Duration::from_secs(window_h * 3600) };
    let now = utc("2024-01-01T09:30:00Z");
    let share = Recurring { catch_up, ..recurring("hourly", "@hourly", Some("2024-01-01T00:00:00Z")) };
    let mut planner = Planner::new([share], now);
    let mut record = Record::default();
    wake(&mut planner, now, &mut record);
    assert_eq!(record.slots.len(), 9);
    record
}

#[test]
fn catch_up_says_which_missed_slots_are_made_up_for() {
    let latest = caught_up(Missed::Latest, 24);
    assert_eq!((latest.fired(), latest.skipped(SkipReason::Missed)), (vec!["2024-01-01T09:00:00Z".into()], 8));
    let all = caught_up(Missed::All, 24);
    assert_eq!((all.fired().len(), all.skipped(SkipReason::Missed)), (9, 0));
    assert!(all.slots.values().all(|due| due.origin == Origin::CatchUp));
    // Bounded by the window, whichever.
    let all = caught_up(Missed::All, 3);
    assert_eq!((all.fired().len(), all.skipped(SkipReason::TooOld)), (3, 6));
    let none = caught_up(Missed::None, 24);
    assert_eq!((none.fired().len(), none.skipped(SkipReason::Missed)), (0, 9));
}

#[test]
fn a_slot_that_is_only_late_is_no_missed_one() {
    for missed in [Missed::Latest, Missed::All, Missed::None] {
        let catch_up = CatchUp { missed, ..CatchUp::default() };
        let share = Recurring { catch_up, ..recurring("minutes", "* * * * *", Some("2024-01-01T00:00:00Z")) };
        let mut planner = Planner::new([share], utc("2024-01-01T00:00:10Z"));
        let mut record = Record::default();
        wake(&mut planner, utc("2024-01-01T00:04:30Z"), &mut record);
        assert_eq!(record.fired().len(), 4);
        assert!(record.slots.values().all(|due| due.origin == Origin::Schedule), "{missed:?}");
    }
}

#[test]
fn jitter_moves_when_a_slot_begins_and_nothing_else() {
    let jitter = Jitter::new(&ShareName::parse("hourly").unwrap(), Duration::from_secs(1800));
    let share = || Recurring { jitter, ..recurring("hourly", "@hourly", Some("2024-01-01T00:00:00Z")) };
    let at = utc("2024-01-01T01:00:00Z");
    let due = jitter.due(&share().calendar, at);
    assert!(due > at && due < at + TimeDelta::minutes(30), "{due}");
    let mut planner = Planner::new([share()], utc("2024-01-01T00:30:00Z"));
    assert_eq!(planner.next(), Some(due));
    assert!(planner.due(due - TimeDelta::milliseconds(1)).is_empty());
    let plan = planner.due(due);
    let [one] = &plan.due[..] else { panic!("{plan:?}") };
    assert_eq!((one.slot.at, one.origin, one.slot.interval.start), (at, Origin::Schedule, at - TimeDelta::hours(1)));
    assert_eq!(plan.cursors[0].1, at);
    planner.recorded(&plan);
    assert_eq!(planner.next(), Some(due + TimeDelta::hours(1)));
    // A restart before it begins loses nothing, and lateness counts from when it begins.
    let planner = Planner::new([share()], due - TimeDelta::seconds(1));
    assert!(planner.due(due - TimeDelta::seconds(1)).is_empty());
    assert_eq!(planner.due(due + TimeDelta::minutes(4)).due[0].origin, Origin::Schedule);
    assert_eq!(planner.due(due + TimeDelta::minutes(6)).due[0].origin, Origin::CatchUp);
}

#[test]
fn a_share_fires_from_its_start_to_its_end() {
    let zone = Tz::America__New_York;
    let day = |text: &str| When::parse(text).unwrap();
    let between = |share: Recurring| {
        let (start, end) = (day("2024-01-03").first(zone), day("2024-01-05").last(zone));
        Recurring { calendar: share.calendar.between(start, end), ..share }
    };
    let now = utc("2024-01-01T00:00:00Z");
    let mut planner = Planner::new([between(recurring("daily", "0 12 * * *", None))], now);
    let mut record = Record::default();
    for hour in 0..24 * 9 {
        wake(&mut planner, now + TimeDelta::hours(hour), &mut record);
    }
    assert_eq!(record.fired(), ["2024-01-03T17:00:00Z", "2024-01-04T17:00:00Z", "2024-01-05T17:00:00Z"]);
    // The first interval is that of the schedule, and they tile as always.
    let first = record.slots.values().next().unwrap();
    assert_eq!(show(first.slot.interval.start), "2024-01-02T17:00:00Z");
    assert_eq!(planner.next(), None);
}

/// What the planner would make the ledger hold: fired and skipped slots, and cursors.
#[derive(Default)]
struct Record {
    slots: BTreeMap<(String, Instant), Due>,
    cursors: BTreeMap<ShareName, Instant>,
    doubled: usize,
}

impl Record {
    fn take(&mut self, plan: &Plan) {
        for due in &plan.due {
            let old = self.slots.insert((due.slot.share.to_string(), due.slot.at), due.clone());
            self.doubled += usize::from(old.is_some());
        }
        for (share, cursor) in &plan.cursors {
            let kept = self.cursors.entry(share.clone()).or_insert(*cursor);
            *kept = (*kept).max(*cursor);
        }
    }

    fn fired(&self) -> Vec<String> {
        self.slots.values().filter(|due| due.skip.is_none()).map(|due| show(due.slot.at)).collect()
    }

    fn skipped(&self, reason: SkipReason) -> usize {
        self.slots.values().filter(|due| due.skip == Some(reason)).count()
    }
}

fn wake(planner: &mut Planner, now: Instant, record: &mut Record) {
    loop {
        let plan = planner.due(now);
        record.take(&plan);
        planner.recorded(&plan);
        if !plan.more {
            break;
        }
    }
}

#[test]
fn a_new_share_begins_now_and_its_cursor_is_recorded_at_once() {
    let now = utc("2024-01-01T00:30:00Z");
    let mut planner = Planner::new([recurring("hourly", "@hourly", None)], now);
    let plan = planner.due(now);
    assert_eq!((plan.due.len(), plan.cursors.len()), (0, 1));
    assert_eq!(plan.cursors[0].1, now);
    planner.recorded(&plan);
    assert!(planner.due(now).is_empty());
    let plan = planner.due(utc("2024-01-01T01:00:00Z"));
    assert_eq!(plan.due.len(), 1);
    // The first interval reaches back to the slot before, not to when the share was made.
    assert_eq!(show(plan.due[0].slot.interval.start), "2024-01-01T00:00:00Z");
}

#[test]
fn a_plan_that_the_ledger_refused_is_made_again() {
    let mut planner =
        Planner::new([recurring("hourly", "@hourly", Some("2024-01-01T00:00:00Z"))], utc("2024-01-01T00:30:00Z"));
    let now = utc("2024-01-01T01:00:01Z");
    let plan = planner.due(now);
    assert_eq!(planner.due(now), plan);
    planner.recorded(&plan);
    planner.recorded(&plan);
    assert!(planner.due(now).is_empty());
    assert_eq!(planner.next().map(show).as_deref(), Some("2024-01-01T02:00:00Z"));
}

#[test]
fn after_downtime_the_latest_slot_fires_and_the_others_are_recorded() {
    let now = utc("2024-01-03T12:30:00Z");
    let mut planner = Planner::new([recurring("hourly", "@hourly", Some("2024-01-02T06:00:00Z"))], now);
    let mut record = Record::default();
    wake(&mut planner, now, &mut record);
    assert_eq!(record.fired(), ["2024-01-03T12:00:00Z"]);
    // 07:00 to 12:00 of the day before are over 24 hours old, 13:00 on is not.
    assert_eq!((record.skipped(SkipReason::TooOld), record.skipped(SkipReason::Missed)), (6, 23));
    let latest = record.slots.values().last().unwrap();
    assert_eq!(show(latest.slot.interval.start), "2024-01-03T11:00:00Z");
}

#[test]
fn a_slot_missed_for_longer_than_the_window_does_not_fire() {
    let now = utc("2024-01-10T12:00:00Z");
    let mut planner = Planner::new([recurring("weekly", "0 0 * * SUN", Some("2023-12-31T05:00:00Z"))], now);
    let mut record = Record::default();
    wake(&mut planner, now, &mut record);
    assert_eq!((record.fired().len(), record.skipped(SkipReason::TooOld)), (0, 1));
}

#[test]
fn the_clock_going_back_fires_nothing_twice() {
    let mut planner =
        Planner::new([recurring("minutes", "* * * * *", Some("2024-01-01T00:00:00Z"))], utc("2024-01-01T00:00:30Z"));
    let mut record = Record::default();
    for now in ["2024-01-01T00:03:00Z", "2023-12-31T22:00:00Z", "2024-01-01T00:01:30Z", "2024-01-01T00:04:00Z"] {
        wake(&mut planner, utc(now), &mut record);
    }
    assert_eq!((record.fired().len(), record.doubled), (4, 0));
}

#[test]
fn long_downtime_is_planned_in_pieces() {
    let now = utc("2024-03-01T00:00:00Z");
    let mut planner = Planner::new([recurring("minutes", "* * * * *", Some("2024-01-01T00:00:00Z"))], now);
    assert!(planner.due(now).more && planner.due(now).due.len() <= 1_000);
    let mut record = Record::default();
    wake(&mut planner, now, &mut record);
    assert_eq!(record.slots.len(), 60 * 24 * 60);
    // Within the lateness that counts as on time every slot fires.
    assert_eq!(record.fired().len(), 6);
}

/// What the ledger writes of a plan are the customers of each slot.
#[test]
fn many_customers_make_for_fewer_slots_in_a_plan() {
    let now = utc("2024-01-02T00:00:00Z");
    let of =
        |name: &str, customers| Recurring { customers, ..recurring(name, "* * * * *", Some("2024-01-01T00:00:00Z")) };
    let mut planner = Planner::new([of("many", 5_000), of("some", 1_000), of("few", 1), of("most", 1_000_000)], now);
    let customers = |name: &str| match name {
        "many" => 5_000,
        "some" => 1_000,
        "most" => 1_000_000,
        _ => 1,
    };
    let (mut record, mut alone) = (Record::default(), 0);
    loop {
        let plan = planner.due(now);
        let sum: usize = plan.due.iter().map(|due| customers(due.slot.share.as_str())).sum();
        let is_alone = plan.due.len() == 1 && sum == 1_000_000;
        assert!(sum <= 250_000 || is_alone, "{sum} customers in a plan of {} slots", plan.due.len());
        alone += usize::from(is_alone);
        record.take(&plan);
        planner.recorded(&plan);
        if !plan.more {
            break;
        }
    }
    assert_eq!((record.slots.len(), record.doubled, alone), (4 * 24 * 60, 0, 24 * 60));
}

#[test]
fn many_shares_of_one_minute_are_all_planned() {
    let names: Vec<String> = (0..50_000).map(|n| format!("share-{n}")).collect();
    let start = utc("2024-01-01T00:00:00Z");
    let mut planner =
        Planner::new(names.iter().map(|name| recurring(name, "0 * * * *", Some("2024-01-01T00:00:00Z"))), start);
    assert!(planner.due(utc("2024-01-01T00:59:59Z")).is_empty());
    let mut record = Record::default();
    wake(&mut planner, utc("2024-01-01T01:00:00Z"), &mut record);
    assert_eq!((record.fired().len(), record.doubled), (50_000, 0));
}

/// What the one before planned meanwhile is not planned by another schedule once more.
#[test]
fn a_planner_goes_on_from_the_one_before() {
    let at = |text: &str| utc(&format!("2024-01-01T{text}Z"));
    let of = |text: &str, cursor| Planner::new([recurring("a", text, cursor)], at("00:10:00"));
    let mut before = of("*/10 * * * *", Some("2024-01-01T00:10:00Z"));
    let mut planner = of("5-55/10 * * * *", Some("2024-01-01T00:10:00Z"));
    before.recorded(&before.due(at("00:20:00")));
    planner.go_on_from(&before, at("00:20:00"));
    let [one] = &planner.due(at("00:26:00")).due[..] else { panic!("one slot") };
    // It covers what comes after that, though 00:20 is no slot of the new schedule.
    assert_eq!((one.slot.at, one.slot.interval.start), (at("00:25:00"), at("00:20:00")));
    // Nor is a plan of the one before that is recorded last.
    planner.catch_up(&[(one.slot.share.clone(), at("00:30:00"))]);
    let [one] = &planner.due(at("00:36:00")).due[..] else { panic!("one slot") };
    assert_eq!((one.slot.at, one.slot.interval.start), (at("00:35:00"), at("00:30:00")));
}

/// What is due of a share whose last slot was by another schedule, up to a time.
fn changed(last: &str, text: &str, now: &str) -> Vec<(String, String)> {
    let mut planner = Planner::new([planned_before("a", text, last)], utc(last));
    let mut record = Record::default();
    wake(&mut planner, utc(now), &mut record);
    record.slots.values().map(|due| (show(due.slot.interval.start), show(due.slot.at))).collect()
}

#[test]
fn the_first_interval_of_a_changed_schedule_begins_where_the_last_one_ended() {
    let cases: [(&str, &str, &str, &[&str]); 6] = [
        // 06:00 in New York, and 04:00 from now on: two hours were covered twice.
        (
            "2024-01-10T11:00:00Z",
            "0 4 * * *",
            "2024-01-12T09:00:00Z",
            &["2024-01-11T09:00:00Z", "2024-01-12T09:00:00Z"],
        ),
        // And the other way round: nothing is left out.
        (
            "2024-01-10T09:00:00Z",
            "0 6 * * *",
            "2024-01-11T11:00:00Z",
            &["2024-01-10T11:00:00Z", "2024-01-11T11:00:00Z"],
        ),
        ("2024-01-10T05:00:00Z", "@monthly", "2024-02-01T05:00:00Z", &["2024-02-01T05:00:00Z"]),
        ("2024-02-01T05:00:00Z", "@daily", "2024-02-02T05:00:00Z", &["2024-02-02T05:00:00Z"]),
        ("2024-01-10T11:00:00Z", "@hourly", "2024-01-10T13:30:00Z", &["2024-01-10T12:00:00Z", "2024-01-10T13:00:00Z"]),
        // Over a night that lost an hour.
        (
            "2024-03-09T07:30:00Z",
            "0 3 * * *",
            "2024-03-11T07:00:00Z",
            &["2024-03-09T08:00:00Z", "2024-03-10T07:00:00Z", "2024-03-11T07:00:00Z"],
        ),
    ];
    for (last, text, now, slots) in cases {
        let starts = [last].into_iter().chain(slots.iter().copied());
        let expected: Vec<_> = starts.zip(slots).map(|(start, end)| (start.to_owned(), (*end).to_owned())).collect();
        assert_eq!(changed(last, text, now), expected, "{text} after {last}");
    }
}

/// Somebody wants nothing of the time before.
#[test]
fn a_start_after_the_last_slot_has_the_interval_of_the_schedule() {
    let start = When::parse("2024-02-01").unwrap().first(Tz::America__New_York);
    let share = planned_before("a", "0 6 * * *", "2024-01-10T09:00:00Z");
    let share = Recurring { calendar: share.calendar.between(start, None), ..share };
    let plan = Planner::new([share], utc("2024-01-10T12:00:00Z")).due(utc("2024-02-01T11:00:00Z"));
    let [one] = &plan.due[..] else { panic!("{plan:?}") };
    assert_eq!(
        (show(one.slot.interval.start), show(one.slot.at)),
        ("2024-01-31T11:00:00Z".into(), "2024-02-01T11:00:00Z".into())
    );
}

/// The clock was ahead, and its cursors have been taken back in the ledger since.
#[test]
fn a_planner_does_not_go_ahead_of_the_clock_after_the_one_before() {
    let at = |text: &str| utc(&format!("2024-01-01T{text}Z"));
    let of = |cursor| Planner::new([recurring("a", "*/10 * * * *", cursor)], at("00:10:00"));
    let mut before = of(Some("2024-01-01T00:10:00Z"));
    before.recorded(&before.due(at("05:00:00")));
    assert!(before.is_ahead(at("00:12:00")));
    let mut planner = of(Some("2024-01-01T00:12:00Z"));
    planner.go_on_from(&before, at("00:12:00"));
    assert!(!planner.is_ahead(at("00:12:00")));
    let [one] = &planner.due(at("00:20:00")).due[..] else { panic!("one slot") };
    assert_eq!(one.slot.at, at("00:20:00"));
    // What the ledger still has ahead stays so.
    let mut planner = of(Some("2024-01-01T05:00:00Z"));
    planner.go_on_from(&before, at("00:12:00"));
    assert_eq!(planner.due(at("04:00:00")).due.len(), 0);
}

/// A share that is new began when the first planner did that had it, also if the ledger does not know yet.
#[test]
fn a_new_share_does_not_begin_again_with_another_planner() {
    let (began, later) = (utc("2024-01-01T00:30:00Z"), utc("2024-01-01T01:30:00Z"));
    let before = Planner::new([recurring("hourly", "@hourly", None)], began);
    let mut planner = Planner::new([recurring("hourly", "@hourly", None), recurring("new", "@hourly", None)], later);
    planner.go_on_from(&before, later);
    let plan = planner.due(later);
    assert_eq!(plan.due.iter().map(|due| show(due.slot.at)).collect::<Vec<_>>(), ["2024-01-01T01:00:00Z"]);
    let mut record = Record::default();
    record.take(&plan);
    assert_eq!(
        record.cursors.values().copied().map(show).collect::<Vec<_>>(),
        ["2024-01-01T01:00:00Z", "2024-01-01T01:30:00Z"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Ticks that are dropped, doubled, delayed (up to the lateness that counts
    /// as on time), plans that the ledger refuses, restarts from its cursors, and reloads.
    #[test]
    fn bad_ticks_and_restarts_lose_and_double_nothing(
        ticks in proptest::collection::vec((0i64..250, 0u8..8), 40..120),
    ) {
        let start = utc("2024-03-10T05:30:00Z");
        let shares = || [("a", "* * * * *"), ("b", "*/7 * * * *"), ("c", "0,30 1-3 * * *"), ("d", "*/20 * * * * *")];
        let jitter = |name: &str| Duration::from_secs(if name < "c" { 0 } else { 25 });
        let make = |record: &Record, now| {
            let of = |(name, text)| {
                let mut share = recurring(name, text, None);
                share.cursor = Some(record.cursors.get(&share.share).copied().unwrap_or(start));
                // Some shares begin later than their slots, which changes nothing either.
                share.jitter = Jitter::new(&share.share, jitter(name));
                share
            };
            Planner::new(shares().map(of), now)
        };
        let mut record = Record::default();
        let (mut now, mut planner) = (start, make(&record, start));
        for (wait, kind) in ticks {
            now += TimeDelta::seconds(wait);
            match kind {
                // The ledger does not take the plan, but is asked again before it counts as downtime.
                0 => { let _ = planner.due(now); }
                // The process dies after the commit, before the planner moves on.
                1 => { record.take(&planner.due(now)); planner = make(&record, now); }
                2 => { planner = make(&record, now); }
                // A reload: the one before goes on while another is made.
                3 => {
                    let mut other = make(&record, now);
                    wake(&mut planner, now, &mut record);
                    other.go_on_from(&planner, now);
                    planner = other;
                }
                // And its last plan is recorded only after the other has taken its place.
                4 => {
                    let mut other = make(&record, now);
                    let plan = planner.due(now);
                    other.go_on_from(&planner, now);
                    record.take(&plan);
                    other.catch_up(&plan.cursors);
                    planner = other;
                }
                _ => {}
            }
            wake(&mut planner, now, &mut record);
        }
        prop_assert_eq!(record.doubled, 0);
        for (name, text) in shares() {
            let calendar = calendar(text, Tz::America__New_York);
            let (mut at, mut expected) = (start, Vec::new());
            let jitter = Jitter::new(&ShareName::parse(name).unwrap(), jitter(name));
            while let Some(next) = calendar.next(at).filter(|next| jitter.due(&calendar, *next) <= now) {
                expected.push(next);
                at = next;
            }
            let fired: Vec<Instant> = record.slots.iter()
                .filter(|((share, _), due)| share == name && due.skip.is_none())
                .map(|((_, at), _)| *at).collect();
            prop_assert_eq!(fired, expected, "{}", text);
        }
        let mut ends = BTreeMap::new();
        for due in record.slots.values() {
            if let Some(end) = ends.insert(due.slot.share.clone(), due.slot.at) {
                prop_assert_eq!(due.slot.interval.start, end);
            }
        }
    }

    /// By reloads and by restarts, once or again before anything is due, to what is coarser, finer, or in another zone.
    #[test]
    fn intervals_follow_each_other_whatever_a_schedule_becomes(
        steps in proptest::collection::vec((0usize..8, 0i64..2_000, any::<bool>()), 5..40),
    ) {
        let schedules = [
            ("0 6 * * *", Tz::America__New_York), ("0 4 * * *", Tz::America__New_York), ("@hourly", Tz::UTC),
            ("@weekly", Tz::UTC), ("*/25 * * * *", Tz::Asia__Kolkata), ("30 2 * * *", Tz::America__New_York),
            ("0 0 1,15 * *", Tz::Australia__Lord_Howe), ("7 */5 * * *", Tz::Europe__Berlin),
        ];
        let start = utc("2024-03-09T00:00:00Z");
        let share = ShareName::parse("a").unwrap();
        let make = |record: &Record, which: usize, now| {
            let (text, zone) = schedules[which];
            let cursor = record.cursors.get(&share).copied();
            let last = record.slots.keys().map(|(_, at)| *at).max();
            Planner::new([Recurring { calendar: calendar(text, zone), cursor, last, ..recurring("a", text, None) }], now)
        };
        let mut record = Record::default();
        let (mut now, mut planner) = (start, make(&record, 0, start));
        wake(&mut planner, now, &mut record);
        for (which, minutes, by_reload) in steps {
            let mut other = make(&record, which, now);
            now += TimeDelta::minutes(minutes);
            if by_reload {
                wake(&mut planner, now, &mut record);
                other.go_on_from(&planner, now);
            }
            planner = other;
            wake(&mut planner, now, &mut record);
        }
        prop_assert_eq!(record.doubled, 0);
        let slots: Vec<&Due> = record.slots.values().collect();
        for pair in slots.windows(2) {
            prop_assert_eq!(pair[1].slot.interval.start, pair[0].slot.at);
        }
    }

    /// Ticks that stop for hours, a clock that is set forward and back: whatever
    /// the share says, every slot is on record once, and fires or says why not.
    #[test]
    fn a_stopped_or_jumping_clock_leaves_no_slot_unrecorded(
        moves in proptest::collection::vec(-7_200i64..20_000, 10..40),
        policy in 0usize..3, window_h in 1u64..30, jitter_s in 0u64..3_600,
    ) {
        let missed = [Missed::Latest, Missed::All, Missed::None][policy];
        let catch_up = CatchUp { missed, window: Duration::from_secs(window_h * 3600) };
        let start = utc("2024-11-02T12:00:00Z");
        let share = ShareName::parse("a").unwrap();
        let jitter = Jitter::new(&share, Duration::from_secs(jitter_s));
        let make = |record: &Record, now| {
            let cursor = Some(record.cursors.get(&share).copied().unwrap_or(start));
            Planner::new([Recurring { jitter, catch_up, cursor, ..recurring("a", "*/20 * * * *", None) }], now)
        };
        let mut record = Record::default();
        let (mut now, mut latest, mut planner) = (start, start, make(&record, start));
        for (n, by) in moves.into_iter().enumerate() {
            now += TimeDelta::seconds(by);
            latest = latest.max(now);
            if n % 5 == 4 {
                planner = make(&record, now);
            }
            let before = record.slots.len();
            wake(&mut planner, now, &mut record);
            let new: Vec<&Due> = record.slots.values().skip(before).collect();
            let caught_up = new.iter().filter(|due| due.skip.is_none() && due.origin == Origin::CatchUp).count();
            match missed {
                Missed::Latest => prop_assert!(caught_up <= 1),
                Missed::None => prop_assert_eq!(caught_up, 0),
                Missed::All => prop_assert!(new.iter().all(|due| due.skip.is_none_or(|why| why == SkipReason::TooOld))),
            }
        }
        prop_assert_eq!(record.doubled, 0);
        let calendar = calendar("*/20 * * * *", Tz::America__New_York);
        let (mut at, mut expected) = (start, Vec::new());
        while let Some(next) = calendar.next(at).filter(|next| jitter.due(&calendar, *next) <= latest) {
            expected.push(next);
            at = next;
        }
        prop_assert_eq!(record.slots.values().map(|due| due.slot.at).collect::<Vec<_>>(), expected);
    }
}

/// A clock that is put back by seconds is none that was wrong.
#[test]
fn shares_that_are_planned_ahead_of_the_clock_are_known() {
    let cursor = "2025-02-04T10:00:00Z";
    let shares = || [recurring("far", "@hourly", Some(cursor)), recurring("near", "@hourly", None)];
    let planner = Planner::new(shares(), utc("2024-01-01T00:00:00Z"));
    let far = ShareName::parse("far").unwrap();
    assert_eq!(planner.ahead(utc("2024-01-01T00:00:00Z")), [(&far, utc(cursor))]);
    assert!(planner.is_ahead(utc("2025-02-04T09:54:00Z")) && !planner.is_ahead(utc("2025-02-04T09:56:00Z")));
    assert!(planner.ahead(utc("2025-02-04T09:56:00Z")).is_empty());
    // Also one that gets there while it plans.
    let mut planner = Planner::new([recurring("near", "@hourly", None)], utc("2024-01-01T00:00:00Z"));
    wake(&mut planner, utc("2024-01-03T00:00:00Z"), &mut Record::default());
    assert!(planner.is_ahead(utc("2024-01-01T12:00:00Z")) && !planner.is_ahead(utc("2024-01-03T00:00:00Z")));
}
