//! The calendar, the planner and the clock. `docs/calendar.md` takes its examples from here.

mod bounds;
mod brute;
mod planner;
mod tzdata;
mod zones;

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta};
use chrono_tz::Tz;
use consign::calendar::{Calendar, CalendarError, Change, Jitter, When};
use consign::clock::Instant;
use consign::domain::ShareName;

fn utc(text: &str) -> Instant {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn calendar(text: &str, zone: Tz) -> Calendar {
    Calendar::parse(text, zone).unwrap_or_else(|error| panic!("{error}"))
}

fn show(at: Instant) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The first `n` slots after `from`.
fn slots(text: &str, zone: Tz, from: &str, n: usize) -> Vec<String> {
    let calendar = calendar(text, zone);
    let mut at = utc(from);
    (0..n)
        .map(|_| {
            at = calendar.next(at).unwrap();
            show(at)
        })
        .collect()
}

fn refusal(text: &str) -> String {
    Calendar::parse(text, Tz::UTC).unwrap_err().to_string()
}

/// Published examples: crontab(5) of Vixie cron and cronie, POSIX crontab's, the examples of
/// crontab.guru, and Quartz's CronTrigger tutorial where it writes as we do.
#[test]
fn published_expressions_mean_what_their_manuals_say() {
    let from = "2024-01-01T00:00:00Z";
    for (text, expected) in [
        // Five minutes after midnight, every day.
        ("5 0 * * *", "2024-01-01T00:05:00Z 2024-01-02T00:05:00Z"),
        // 14:15 on the first of every month.
        ("15 14 1 * *", "2024-01-01T14:15:00Z 2024-02-01T14:15:00Z"),
        // 22:00 on weekdays.
        ("0 22 * * 1-5", "2024-01-01T22:00:00Z 2024-01-02T22:00:00Z"),
        // 23 minutes after every second hour.
        ("23 0-23/2 * * *", "2024-01-01T00:23:00Z 2024-01-01T02:23:00Z"),
        ("5 4 * * sun", "2024-01-07T04:05:00Z 2024-01-14T04:05:00Z"),
        // Either day field: the 1st and 15th, and every Friday.
        ("30 4 1,15 * 5", "2024-01-01T04:30:00Z 2024-01-05T04:30:00Z"),
        ("0 0 1,15 * 1", "2024-01-08T00:00:00Z 2024-01-15T00:00:00Z"),
        ("0 0 13 * FRI", "2024-01-05T00:00:00Z 2024-01-12T00:00:00Z"),
        ("5 0 * 8 *", "2024-08-01T00:05:00Z 2024-08-02T00:05:00Z"),
        ("23 0-20/2 * * *", "2024-01-01T00:23:00Z 2024-01-01T02:23:00Z"),
        ("0 0,12 1 */2 *", "2024-01-01T12:00:00Z 2024-03-01T00:00:00Z"),
        ("0 4 8-14 * *", "2024-01-08T04:00:00Z 2024-01-09T04:00:00Z"),
        ("0 0 1,15 * 3", "2024-01-03T00:00:00Z 2024-01-10T00:00:00Z"),
        ("*/5 1,2,3 * * *", "2024-01-01T01:00:00Z 2024-01-01T01:05:00Z"),
        // Quartz, seconds first.
        ("0 0 12 * * ?", "2024-01-01T12:00:00Z 2024-01-02T12:00:00Z"),
        ("0 15 10 ? * *", "2024-01-01T10:15:00Z 2024-01-02T10:15:00Z"),
        ("0 * 14 * * ?", "2024-01-01T14:00:00Z 2024-01-01T14:01:00Z"),
        ("0 0-5 14 * * ?", "2024-01-01T14:00:00Z 2024-01-01T14:01:00Z"),
        ("0 10,44 14 ? 3 WED", "2024-03-06T14:10:00Z 2024-03-06T14:44:00Z"),
        ("0 15 10 ? * MON-FRI", "2024-01-01T10:15:00Z 2024-01-02T10:15:00Z"),
        ("0 15 10 15 * ?", "2024-01-15T10:15:00Z 2024-02-15T10:15:00Z"),
        ("0 15 10 L * ?", "2024-01-31T10:15:00Z 2024-02-29T10:15:00Z"),
        ("0 11 11 11 11 ?", "2024-11-11T11:11:00Z 2025-11-11T11:11:00Z"),
        ("@hourly", "2024-01-01T01:00:00Z 2024-01-01T02:00:00Z"),
        ("@Daily", "2024-01-02T00:00:00Z 2024-01-03T00:00:00Z"),
        ("@weekly", "2024-01-07T00:00:00Z 2024-01-14T00:00:00Z"),
        ("@monthly", "2024-02-01T00:00:00Z 2024-03-01T00:00:00Z"),
        ("@yearly", "2025-01-01T00:00:00Z 2026-01-01T00:00:00Z"),
        // Seven is Sunday too, and a range may end on it.
        ("0 0 * * 7", "2024-01-07T00:00:00Z 2024-01-14T00:00:00Z"),
        ("0 0 * * SAT-SUN", "2024-01-06T00:00:00Z 2024-01-07T00:00:00Z"),
        ("0 0 * jan-mar/2 *", "2024-01-02T00:00:00Z 2024-01-03T00:00:00Z"),
        // Seconds first, when there are six.
        ("*/30 * * * * *", "2024-01-01T00:00:30Z 2024-01-01T00:01:00Z"),
        ("15 30 6 * * *", "2024-01-01T06:30:15Z 2024-01-02T06:30:15Z"),
        // Extensions.
        ("0 6 L * *", "2024-01-31T06:00:00Z 2024-02-29T06:00:00Z"),
        ("0 6 LW * *", "2024-01-31T06:00:00Z 2024-02-29T06:00:00Z"),
        ("0 6 15W * ?", "2024-01-15T06:00:00Z 2024-02-15T06:00:00Z"),
        ("0 6 ? * FRI#2", "2024-01-12T06:00:00Z 2024-02-09T06:00:00Z"),
        ("0 6 * * FRIL", "2024-01-26T06:00:00Z 2024-02-23T06:00:00Z"),
        // Rare, but possible.
        ("0 0 29 2 *", "2024-02-29T00:00:00Z 2028-02-29T00:00:00Z"),
        ("0 0 * 2 MON#5", "2044-02-29T00:00:00Z 2072-02-29T00:00:00Z"),
        // The impossible day is no harm when the weekday is enough.
        ("0 0 31 2 MON", "2024-02-05T00:00:00Z 2024-02-12T00:00:00Z"),
    ] {
        assert_eq!(slots(text, Tz::UTC, from, 2).join(" "), expected, "{text}");
    }
}

#[test]
fn names_do_not_leak_into_other_fields_or_into_each_other() {
    for text in ["0 MON * * *", "0 0 * * SUNMON", "0 0 JAN * *", "JAN 0 * * *", "0 0 * MON *", "0 0 * * MONDAY"] {
        assert!(matches!(Calendar::parse(text, Tz::UTC), Err(CalendarError::Field { .. })), "{text}");
    }
}

#[test]
fn refusals_say_where_and_what_to_write() {
    for (text, part, says) in [
        ("61 * * * *", "61", "outside 0-59"),
        ("0 24 * * *", "24", "outside 0-23"),
        ("0 0 0 * *", "0", "outside 1-31"),
        ("0 0 * 13 *", "13", "outside 1-12"),
        ("0 0 * * 8", "8", "outside 0-7"),
        ("0 22-2 * * *", "22-2", "write 22-23,0-2"),
        ("0 0 * * FRI-MON", "FRI-MON", "write 5-6,0-1"),
        ("5/10 * * * *", "5/10", "write 5-59/10"),
        ("/10 * * * *", "/10", "write */10"),
        ("*/60 * * * *", "*/60", "write 0 alone"),
        ("*/0 * * * *", "*/0", "from 1 to 59"),
        ("1,,2 * * * *", "1,,2", "extra comma"),
        ("*,5 * * * *", "*,5", "write * alone"),
        ("0 0 * * L", "L", "FRIL"),
        ("0 0 * * FRI#6", "FRI#6", "1 to 5"),
        ("0 0 */2 * MON", "*/2", "1-31/2"),
        ("0 0 13 * */2", "*/2", "0-6/2"),
        ("0 0 1 * +MON", "+MON", "0-7"),
        ("0 0 x * *", "x", "1-31"),
        ("-1 0 * * *", "-1", "not a number"),
        ("0 é * * *", "é", "not a number"),
    ] {
        let error = Calendar::parse(text, Tz::UTC).unwrap_err();
        assert!(error.to_string().contains(says), "{text}: {error}");
        assert_eq!(&text[error.span().unwrap()], part, "{text}");
    }
    assert!(refusal("").contains("five fields"));
    assert!(refusal("0 6 * *").contains("4 fields"));
    assert!(refusal("0 0 6 * * * 2025").contains("no year field"));
    assert!(refusal("@reboot").contains("@daily"));
    assert!(refusal("@fortnightly").contains("@daily"));
}

#[test]
fn dates_that_never_come_are_refused() {
    for text in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 FEB *"] {
        assert_eq!(
            Calendar::parse(text, Tz::UTC).unwrap_err(),
            CalendarError::NeverComes { text: text.to_owned() },
            "{text}"
        );
    }
}

#[test]
fn instants_within_a_second_see_the_slots_around_them() {
    let calendar = calendar("*/10 * * * * *", Tz::UTC);
    let within = utc("2024-01-01T00:00:10.7Z");
    assert_eq!(show(calendar.next(within).unwrap()), "2024-01-01T00:00:20Z");
    assert_eq!(show(calendar.previous(within).unwrap()), "2024-01-01T00:00:10Z");
    assert_eq!(show(calendar.previous(utc("2024-01-01T00:00:10Z")).unwrap()), "2024-01-01T00:00:00Z");
}

#[test]
fn the_ends_of_the_time_line_are_quiet() {
    let daily = calendar("0 0 * * *", Tz::America__New_York);
    assert_eq!(daily.next(Instant::MAX_UTC), None);
    assert_eq!(daily.previous(Instant::MIN_UTC), None);
    assert!(daily.slot_at(Instant::MIN_UTC).start == Instant::MIN_UTC);
}

#[test]
fn a_calendar_has_a_start_and_an_end() {
    let ny = Tz::America__New_York;
    let when = |text: &str| When::parse(text).unwrap();
    let daily = calendar("@daily", ny).between(when("2024-03-09").first(ny), when("2024-03-11").last(ny));
    let all: Vec<_> = std::iter::successors(daily.next(Instant::MIN_UTC), |at| daily.next(*at)).map(show).collect();
    assert_eq!(all, ["2024-03-09T05:00:00Z", "2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z"]);
    assert_eq!(daily.previous(Instant::MAX_UTC).map(show).as_deref(), Some("2024-03-11T04:00:00Z"));
    assert_eq!(daily.previous(utc("2024-03-09T05:00:00Z")), None);
    // The first interval is not cut.
    assert_eq!(show(daily.slot_at(utc("2024-03-09T05:00:00Z")).start), "2024-03-08T05:00:00Z");
    // Instants are included at both ends.
    let at = Some(utc("2024-01-01T10:00:00Z"));
    let hourly = calendar("@hourly", Tz::UTC).between(at, at);
    assert_eq!((hourly.next(Instant::MIN_UTC), hourly.previous(Instant::MAX_UTC)), (at, at));
}

#[test]
fn days_and_times_are_those_of_the_zone() {
    let ny = Tz::America__New_York;
    let both = |text: &str, zone| {
        let when = When::parse(text).unwrap();
        [when.first(zone), when.last(zone)].map(|at| at.unwrap().to_rfc3339_opts(SecondsFormat::AutoSi, true))
    };
    assert_eq!(both("2024-03-10", ny), ["2024-03-10T05:00:00Z", "2024-03-11T03:59:59.999999999Z"]);
    assert_eq!(both("2024-11-03", ny), ["2024-11-03T04:00:00Z", "2024-11-04T04:59:59.999999999Z"]);
    assert_eq!(both("2024-03-10T02:30:00", ny)[0], "2024-03-10T07:00:00Z");
    assert_eq!(both("2024-03-10T02:30:00-08:00", ny)[1], "2024-03-10T10:30:00Z");
    // A day that does not begin at midnight, and one that never was.
    assert_eq!(both("2024-09-08", Tz::America__Santiago)[0], "2024-09-08T04:00:00Z");
    assert_eq!(both("2011-12-30", Tz::Pacific__Apia)[0], "2011-12-30T10:00:00Z");
    for text in ["", "tomorrow", "2024-02-30", "2024-01-01 25:00", "06:00"] {
        assert!(When::parse(text).unwrap_err().to_string().contains("2026-01-31"), "{text}");
    }
}

#[test]
fn days_on_which_clocks_change_are_known() {
    let change = |zone, at: &str| calendar("@daily", zone).change_on_day_of(utc(at));
    let hours = |at: &str, by| Some(Change { at: utc(at), by: TimeDelta::minutes(by) });
    let ny = Tz::America__New_York;
    assert_eq!(change(ny, "2024-03-10T05:00:00Z"), hours("2024-03-10T07:00:00Z", 60));
    assert_eq!(change(ny, "2024-03-11T03:59:59Z"), hours("2024-03-10T07:00:00Z", 60));
    assert_eq!((change(ny, "2024-03-10T04:59:59Z"), change(ny, "2024-03-11T04:00:00Z")), (None, None));
    assert_eq!(change(ny, "2024-11-03T12:00:00Z"), hours("2024-11-03T06:00:00Z", -60));
    assert_eq!(change(Tz::Australia__Lord_Howe, "2024-10-06T00:00:00Z"), hours("2024-10-05T15:30:00Z", 30));
    // At midnight: forward on the day that begins late, back on the day that ends late.
    assert_eq!(change(Tz::America__Santiago, "2024-09-08T12:00:00Z"), hours("2024-09-08T04:00:00Z", 60));
    assert_eq!(change(Tz::America__Santiago, "2024-09-07T12:00:00Z"), None);
    assert_eq!(change(Tz::America__Santiago, "2024-04-06T12:00:00Z"), hours("2024-04-07T03:00:00Z", -60));
    assert_eq!(change(Tz::Asia__Kathmandu, "2024-03-10T05:00:00Z"), None);
}

/// What a share's name makes of its jitter must not change from one version to the next.
#[test]
fn jitter_follows_from_the_name_alone() {
    let name = |text: &str| ShareName::parse(text).unwrap();
    let late = |share: &str, text: &str, zone, within: u64| {
        let calendar = calendar(text, zone);
        let at = calendar.next(utc("2024-03-10T00:00:00Z")).unwrap();
        (Jitter::new(&name(share), Duration::from_secs(within)).due(&calendar, at) - at).num_seconds()
    };
    assert_eq!(late("daily-orders", "@daily", Tz::UTC, 600), 412);
    assert_eq!(late("daily-orders", "@daily", Tz::America__New_York, 600), 412);
    assert_eq!(late("a", "@daily", Tz::UTC, 600), 474);
    assert_eq!(late("a", "@daily", Tz::UTC, 0), 0);
    // No further than the next slot, whatever is asked for.
    assert_eq!(late("a", "* * * * *", Tz::UTC, 7 * 86_400), 47);
    let mut halves = [0, 0];
    for n in 0..1000 {
        let late = late(&format!("share-{n}"), "@hourly", Tz::UTC, 3600);
        assert!((0..3600).contains(&late));
        halves[usize::from(late >= 1800)] += 1;
    }
    assert!(halves.iter().all(|half| *half > 400), "{halves:?}");
}
