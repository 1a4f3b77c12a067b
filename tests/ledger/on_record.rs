//! The slots of a stretch of time, after schedules that were changed: those on record, and firings where none is.

use chrono::TimeDelta;
use chrono_tz::Tz;
use consign::calendar::Calendar;
use consign::clock::Instant;
use consign::domain::{Interval, Origin, SkipReason, Slot};
use consign::ledger::{Ledger, OnRecord, Planned};
use consign::run::wanted::tiles::Tiles;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{customers, open, share, utc};

const LIMIT: usize = 100_000;

fn calendar(schedule: &str) -> Calendar {
    Calendar::parse(schedule, Tz::UTC).unwrap()
}

/// March 2013, `6` for 06:00, counted on from the first: `30` is 06:00 of the second.
fn hour(hour: i64) -> Instant {
    utc("2013-03-01T00:00:00Z") + TimeDelta::hours(hour)
}

fn day(day: i64, hour: i64) -> Instant {
    self::hour((day - 1) * 24 + hour)
}

fn slot(start: Instant, at: Instant) -> Slot {
    Slot { share: share("a"), at, interval: Interval { start, end: at } }
}

/// Nobody gets it.
fn missed(slot: Slot) -> Planned {
    Planned { skip: Some(SkipReason::Missed), ..Planned::new(slot, customers(&["acme"]), Origin::Schedule) }
}

fn by_hand(slot: Slot) -> Planned {
    Planned { origin: Origin::Manual, ..missed(slot) }
}

/// As planners have planned these schedules one after the other, each up to an instant.
fn planned_by(epochs: &[(&str, Instant)], mut cursor: Instant) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::new();
    for (schedule, until) in epochs {
        let calendar = calendar(schedule);
        while let Some(at) = calendar.next(cursor).filter(|at| at <= until) {
            let interval = calendar.slot_at(at).after(slots.last().map(|slot| slot.at));
            slots.push(Slot { share: share("a"), at, interval });
            cursor = at;
        }
    }
    slots
}

async fn plan(ledger: &Ledger, slots: impl IntoIterator<Item = Planned>, cursor: Option<Instant>) {
    let cursors = cursor.map(|cursor| (share("a"), cursor)).into_iter().collect();
    ledger.plan(slots.into_iter().collect(), cursors).await.unwrap();
}

async fn on_record(ledger: &Ledger, from: Instant, to: Instant) -> OnRecord {
    ledger.reader().on_record(share("a"), (from, to), LIMIT).await.unwrap()
}

/// The slots of a stretch by the schedule that the share has now.
async fn slots(ledger: &Ledger, schedule: &str, from: Instant, to: Instant) -> Vec<Slot> {
    slots_of(ledger, &calendar(schedule), from, to).await
}

async fn slots_of(ledger: &Ledger, calendar: &Calendar, from: Instant, to: Instant) -> Vec<Slot> {
    let record = on_record(ledger, from, to).await;
    Tiles { share: &share("a"), calendar, record: &record }.between(from, to).collect()
}

/// From 06:00 to 04:00 at noon of the 12th; the ledger begins with the 10th.
async fn changed(ledger: &Ledger) -> Vec<Slot> {
    let slots = planned_by(&[("0 6 * * *", day(12, 12)), ("0 4 * * *", day(14, 12))], day(9, 12));
    plan(ledger, slots.iter().cloned().map(missed), Some(day(14, 4))).await;
    slots
}

#[tokio::test]
async fn what_is_on_record_is_the_list_and_firings_fill_what_it_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let known = changed(&ledger).await;
    let last = slot(day(12, 6), day(13, 4));
    assert_eq!(
        known,
        [
            slot(day(9, 6), day(10, 6)),
            slot(day(10, 6), day(11, 6)),
            slot(day(11, 6), day(12, 6)),
            last,
            slot(day(13, 4), day(14, 4))
        ]
    );
    let mut expected = vec![
        slot(day(7, 4), day(8, 4)),
        slot(day(8, 4), day(9, 4)),
        // The rest of what is before the ledger.
        slot(day(9, 4), day(9, 6)),
    ];
    expected.extend(known.clone());
    expected.push(slot(day(14, 4), day(15, 4)));
    assert_eq!(slots(&ledger, "0 4 * * *", day(8, 4), day(15, 4)).await, expected);
    // What is listed, of any stretch and any schedule, is what is listed of the whole.
    assert_eq!(slots(&ledger, "0 4 * * *", day(8, 5), day(10, 5)).await, expected[1..3]);
    assert_eq!(slots(&ledger, "0 4 * * *", day(10, 7), day(11, 5)).await, [], "a firing in what a slot covers is none");
    assert_eq!(slots(&ledger, "0 0 1 * *", day(10, 0), day(13, 5)).await, known[..4]);
    let monthly = slots(&ledger, "0 0 1 * *", day(9, 0), day(40, 0)).await;
    assert_eq!(monthly[0], slot(day(1, 0), day(9, 6)));
    assert_eq!((monthly.len(), &monthly[6]), (7, &slot(day(14, 4), day(32, 0))));

    // Of a share without a ledger all is the calendar's.
    let nothing = OnRecord::default();
    let of_calendar = Tiles { share: &share("a"), calendar: &calendar("0 4 * * *"), record: &nothing };
    let firings: Vec<Slot> = of_calendar.between(day(10, 4), day(11, 4)).collect();
    assert_eq!(firings, [slot(day(9, 4), day(10, 4)), slot(day(10, 4), day(11, 4))]);
}

#[tokio::test]
async fn no_slot_is_made_before_a_start_or_after_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let known = changed(&ledger).await;
    let calendar = calendar("0 4 * * *").between(Some(day(8, 6)), Some(day(13, 4)));
    let listed = slots_of(&ledger, &calendar, day(1, 0), day(40, 0)).await;
    assert_eq!(listed[..2], [slot(day(8, 4), day(9, 4)), slot(day(9, 4), day(9, 6))]);
    assert_eq!(listed[2..], known[..4]);
    let calendar = self::calendar("0 4 * * *").between(Some(day(9, 7)), None);
    assert_eq!(slots_of(&ledger, &calendar, day(1, 0), day(11, 0)).await, known[..1]);
}

#[tokio::test]
async fn what_is_forgotten_is_filled_by_the_calendar_from_slot_to_slot() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let all = planned_by(&[("0 6 * * *", day(16, 12)), ("0 4 * * *", day(18, 12))], day(9, 12));
    let kept = all.iter().filter(|slot| ![day(12, 6), day(13, 6), day(14, 6)].contains(&slot.at));
    plan(&ledger, kept.cloned().map(missed), Some(day(18, 4))).await;
    let listed = slots(&ledger, "0 4 * * *", day(11, 6), day(15, 6)).await;
    let filled = [
        slot(day(11, 6), day(12, 4)),
        slot(day(12, 4), day(13, 4)),
        slot(day(13, 4), day(14, 4)),
        slot(day(14, 4), day(14, 6)),
    ];
    assert_eq!(listed[0], all[1]);
    assert_eq!(listed[1..5], filled);
    assert_eq!(listed[5..], all[5..6]);
}

#[tokio::test]
async fn what_covers_the_same_as_planned_slots_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let known = changed(&ledger).await;
    // By hand after the change, and of another month.
    let sent = [slot(day(10, 4), day(11, 4)), slot(day(11, 4), day(12, 4)), slot(day(0, 0), day(10, 0))];
    plan(&ledger, sent.clone().map(by_hand), None).await;
    let listed = slots(&ledger, "0 4 * * *", day(10, 0), day(13, 4)).await;
    assert_eq!(listed, known[..4]);
    let record = on_record(&ledger, day(10, 0), day(13, 4)).await;
    assert_eq!(record.at(day(11, 4)), Some(&sent[0]), "it keeps its interval");
    assert_eq!(record.at(day(11, 6)), Some(&known[1]));
    assert_eq!(record.at(day(11, 5)), None);
    // In what no slot covers it is one.
    plan(&ledger, [by_hand(slot(day(7, 4), day(8, 4)))], None).await;
    assert_eq!(
        slots(&ledger, "0 5 * * *", day(8, 0), day(9, 7)).await,
        [
            slot(day(7, 4), day(8, 4)),
            slot(day(8, 4), day(8, 5)),
            slot(day(8, 5), day(9, 5)),
            slot(day(9, 5), day(9, 6)),
        ]
    );
}

/// Sent before its time, it is planned in its turn, whatever was sent by then.
#[tokio::test]
async fn what_the_schedule_is_yet_to_plan_is_the_calendars() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    changed(&ledger).await;
    let sent = [slot(day(14, 4), day(15, 4)), slot(day(15, 0), day(16, 0))];
    plan(&ledger, sent.clone().map(by_hand), None).await;
    let listed = slots(&ledger, "0 4 * * *", day(14, 5), day(17, 4)).await;
    assert_eq!(listed, [sent[0].clone(), slot(day(15, 4), day(16, 4)), slot(day(16, 4), day(17, 4))]);
    assert_eq!(on_record(&ledger, day(16, 0), day(16, 0)).await.at(day(16, 0)), Some(&sent[1]));
    let changed_again = slots(&ledger, "0 3 * * *", day(14, 5), day(16, 4)).await;
    assert_eq!(changed_again, [slot(day(14, 4), day(15, 3)), slot(day(15, 3), day(16, 3))]);
}

/// No daemon has ever planned it: all was sent by hand.
#[tokio::test]
async fn of_a_share_that_nobody_plans_all_that_was_sent_counts() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    plan(&ledger, [by_hand(slot(day(9, 6), day(10, 6)))], None).await;
    let expected = [slot(day(9, 4), day(9, 6)), slot(day(9, 6), day(10, 6)), slot(day(10, 6), day(11, 4))];
    assert_eq!(slots(&ledger, "0 4 * * *", day(9, 5), day(11, 4)).await, expected);
    assert_eq!(ledger.reader().last_planned(share("a")).await.unwrap(), Some(day(10, 6)));
}

/// More than is read at once; and no more is listed than was asked for.
#[tokio::test]
async fn a_long_record_is_read_in_pieces_and_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let all = planned_by(&[("* * * * *", hour(500))], hour(0));
    assert_eq!(all.len(), 30_000);
    for piece in all.chunks(5_000) {
        plan(&ledger, piece.iter().cloned().map(missed), Some(piece.last().unwrap().at)).await;
    }
    let listed = slots(&ledger, "0 4 * * *", hour(1), hour(400)).await;
    assert_eq!(listed, all[59..24_000]);
    let some = ledger.reader().on_record(share("a"), (hour(1), hour(400)), 3).await.unwrap();
    assert_eq!(some.slots, &all[58..63], "one before, and one after");
    let none = ledger.reader().on_record(share("b"), (hour(1), hour(400)), 3).await.unwrap();
    assert_eq!(none, OnRecord::default());
}

on_postgres! {
    what_is_on_record_is_the_list_and_firings_fill_what_it_leaves,
    no_slot_is_made_before_a_start_or_after_an_end,
    what_is_forgotten_is_filled_by_the_calendar_from_slot_to_slot,
    what_covers_the_same_as_planned_slots_is_passed_over,
    what_the_schedule_is_yet_to_plan_is_the_calendars,
    of_a_share_that_nobody_plans_all_that_was_sent_counts,
    a_long_record_is_read_in_pieces_and_within_bounds,
}

const SCHEDULES: [&str; 6] = ["0 6 * * *", "0 4 * * *", "0 */6 * * *", "30 5 * * MON", "0 0 1 * *", "0 5 * * *"];

fn schedule() -> impl Strategy<Value = &'static str> {
    (0..SCHEDULES.len()).prop_map(|nth| SCHEDULES[nth])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the schedule was, is, and was sent by hand or forgotten: each moment is in one slot, and slots on record
    /// are what they were.
    #[test]
    fn slots_tile_whatever_is_on_record(
        epochs in proptest::collection::vec((schedule(), 0..8i64), 1..5),
        forgotten in proptest::collection::vec(any::<Index>(), 0..6),
        sent in proptest::collection::vec((schedule(), 0..40i64 * 24), 0..8),
        now in schedule(),
        some in (0..44i64 * 24, 0..44i64 * 24),
    ) {
        let mut until = day(10, 12);
        let epochs: Vec<(&str, Instant)> = epochs.into_iter().map(|(schedule, days)| {
            until += TimeDelta::days(days);
            (schedule, until)
        }).collect();
        let mut all = planned_by(&epochs, day(10, 0));
        let cursor = all.last().map(|slot| slot.at);
        for index in &forgotten {
            // The last one is kept.
            if all.len() > 1 {
                all.remove(index.index(all.len() - 1));
            }
        }
        let sent = sent.into_iter().filter_map(|(schedule, after)| {
            let calendar = calendar(schedule);
            let at = calendar.next(hour(after)).filter(|at| cursor.is_none_or(|cursor| *at <= cursor))?;
            Some(by_hand(Slot { share: share("a"), at, interval: calendar.slot_at(at) }))
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let ledger = open(dir.path());
            plan(&ledger, all.iter().cloned().map(missed), cursor).await;
            plan(&ledger, sent, None).await;
            let (from, to) = (hour(0), day(45, 0));
            let listed = slots(&ledger, now, from, to).await;
            for pair in listed.windows(2) {
                assert_eq!(pair[0].interval.end, pair[1].interval.start, "{listed:#?}");
            }
            assert!(listed.iter().all(|slot| slot.at == slot.interval.end && slot.interval.start < slot.at));
            let standing = ledger.reader().standing(listed.clone(), Vec::new()).await.unwrap();
            assert_eq!(standing.into_iter().map(|standing| standing.slot).collect::<Vec<_>>(), listed, "as on record");
            if let Some(cursor) = cursor {
                assert!(listed.iter().any(|slot| slot.at == cursor), "the next interval begins there");
            }
            // Of a part of it the same.
            let (from, to) = (hour(some.0.min(some.1)), hour(some.0.max(some.1)));
            let part = slots(&ledger, now, from, to).await;
            let within = |slot: &&Slot| from <= slot.at && slot.at <= to;
            assert_eq!(part, listed.iter().filter(within).cloned().collect::<Vec<_>>());
            // What is filled in is on record, and the same by any other schedule.
            ledger.backfill(part.clone(), customers(&["acme"])).await.unwrap();
            let again = slots(&ledger, "0 5 * * *", from, to).await;
            assert!(again.windows(2).all(|pair| pair[0].interval.end == pair[1].interval.start), "{again:#?}");
            assert_eq!(slots(&ledger, now, from, to).await, part);
        });
    }
}
