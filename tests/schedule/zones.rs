//! Known changes of offset, one by one.

use chrono_tz::Tz;

use super::{calendar, show, slots, utc};

fn day(text: &str, zone: Tz, from: &str, n: usize, expected: &str) {
    assert_eq!(slots(text, zone, from, n).join(" "), expected, "{text} {zone}");
}

/// 2024-03-10: 02:00 EST becomes 03:00 EDT, at 07:00Z.
#[test]
fn new_york_spring() {
    let (ny, eve) = (Tz::America__New_York, "2024-03-09T12:00:00Z");
    // A fixed time in the gap fires once, at its end.
    day("30 2 * * *", ny, eve, 2, "2024-03-10T07:00:00Z 2024-03-11T06:30:00Z");
    // So does a list, however many of its times are in the gap, and whatever else fires at its end.
    day("15,45 2 * * *", ny, eve, 3, "2024-03-10T07:00:00Z 2024-03-11T06:15:00Z 2024-03-11T06:45:00Z");
    day("0 2,3 * * *", ny, eve, 3, "2024-03-10T07:00:00Z 2024-03-11T06:00:00Z 2024-03-11T07:00:00Z");
    day(
        "0 1-4 * * *",
        ny,
        eve,
        4,
        "2024-03-10T06:00:00Z 2024-03-10T07:00:00Z 2024-03-10T08:00:00Z 2024-03-11T05:00:00Z",
    );
    // A time outside the gap is only earlier in UTC.
    day("0 6 * * *", ny, eve, 2, "2024-03-10T10:00:00Z 2024-03-11T10:00:00Z");
    // Steps and wildcards follow elapsed time: nothing is added, nothing lost.
    day(
        "*/30 * * * *",
        ny,
        "2024-03-10T06:15:00Z",
        3,
        "2024-03-10T06:30:00Z 2024-03-10T07:00:00Z 2024-03-10T07:30:00Z",
    );
    day("30 * * * *", ny, "2024-03-10T06:15:00Z", 3, "2024-03-10T06:30:00Z 2024-03-10T07:30:00Z 2024-03-10T08:30:00Z");
    // An hour that the clock never shows does not come.
    day("0 */2 * * *", ny, "2024-03-10T04:30:00Z", 3, "2024-03-10T05:00:00Z 2024-03-10T08:00:00Z 2024-03-10T10:00:00Z");
}

/// 2024-11-03: 02:00 EDT becomes 01:00 EST, at 06:00Z.
#[test]
fn new_york_autumn() {
    let (ny, eve) = (Tz::America__New_York, "2024-11-02T12:00:00Z");
    // A fixed time that comes twice fires once, the first time.
    day("30 1 * * *", ny, eve, 2, "2024-11-03T05:30:00Z 2024-11-04T06:30:00Z");
    day("15,45 1 * * *", ny, eve, 3, "2024-11-03T05:15:00Z 2024-11-03T05:45:00Z 2024-11-04T06:15:00Z");
    day("0 1,2 * * *", ny, eve, 3, "2024-11-03T05:00:00Z 2024-11-03T07:00:00Z 2024-11-04T06:00:00Z");
    // Asked within the second pass, the first is over.
    day("30 1 * * *", ny, "2024-11-03T06:10:00Z", 1, "2024-11-04T06:30:00Z");
    // Steps and wildcards go on through both passes.
    day(
        "*/30 * * * *",
        ny,
        "2024-11-03T05:15:00Z",
        4,
        "2024-11-03T05:30:00Z 2024-11-03T06:00:00Z 2024-11-03T06:30:00Z 2024-11-03T07:00:00Z",
    );
    day("30 * * * *", ny, "2024-11-03T05:15:00Z", 3, "2024-11-03T05:30:00Z 2024-11-03T06:30:00Z 2024-11-03T07:30:00Z");
    day(
        "*/30 1 * * *",
        ny,
        eve,
        5,
        "2024-11-03T05:00:00Z 2024-11-03T05:30:00Z 2024-11-03T06:00:00Z 2024-11-03T06:30:00Z 2024-11-04T06:00:00Z",
    );
}

/// 2024-03-31 and 2024-10-27, both at 01:00Z.
#[test]
fn london() {
    let london = Tz::Europe__London;
    day("30 1 * * *", london, "2024-03-30T12:00:00Z", 2, "2024-03-31T01:00:00Z 2024-04-01T00:30:00Z");
    day("30 1 * * *", london, "2024-10-26T12:00:00Z", 2, "2024-10-27T00:30:00Z 2024-10-28T01:30:00Z");
}

/// Half an hour: 2024-04-07 02:00 (+11) becomes 01:30 (+10:30), 2024-10-06 the other way.
#[test]
fn lord_howe() {
    let howe = Tz::Australia__Lord_Howe;
    day("45 1 * * *", howe, "2024-04-06T00:00:00Z", 2, "2024-04-06T14:45:00Z 2024-04-07T15:15:00Z");
    day("15 2 * * *", howe, "2024-10-05T00:00:00Z", 2, "2024-10-05T15:30:00Z 2024-10-06T15:15:00Z");
}

/// Casablanca goes back an hour for Ramadan: 2024-03-10 at 02:00Z, forward on 2024-04-14.
#[test]
fn casablanca() {
    let casablanca = Tz::Africa__Casablanca;
    day("30 2 * * *", casablanca, "2024-03-09T12:00:00Z", 2, "2024-03-10T01:30:00Z 2024-03-11T02:30:00Z");
    day("30 2 * * *", casablanca, "2024-04-13T12:00:00Z", 2, "2024-04-14T02:00:00Z 2024-04-15T01:30:00Z");
}

/// Troll changes by two hours at 01:00Z: 2024-03-31 01:00 becomes 03:00.
#[test]
fn troll() {
    let troll = Tz::Antarctica__Troll;
    day("30 1,2 * * *", troll, "2024-03-30T12:00:00Z", 2, "2024-03-31T01:00:00Z 2024-03-31T23:30:00Z");
    day(
        "30 1,2 * * *",
        troll,
        "2024-10-26T12:00:00Z",
        3,
        "2024-10-26T23:30:00Z 2024-10-27T00:30:00Z 2024-10-28T01:30:00Z",
    );
}

/// Apia had no 30 December 2011: it went from 29th 24:00 (-10) to 31st 00:00 (+14), at 10:00Z.
#[test]
fn apia_skips_a_day() {
    let apia = Tz::Pacific__Apia;
    day("0 6 * * *", apia, "2011-12-29T00:00:00Z", 3, "2011-12-29T16:00:00Z 2011-12-30T10:00:00Z 2011-12-30T16:00:00Z");
    day("0 6 30 12 *", apia, "2011-01-01T00:00:00Z", 2, "2011-12-30T10:00:00Z 2012-12-29T16:00:00Z");
    day("0 * * * *", apia, "2011-12-30T08:30:00Z", 3, "2011-12-30T09:00:00Z 2011-12-30T10:00:00Z 2011-12-30T11:00:00Z");
}

#[test]
fn kathmandu_never_changes() {
    day("0 6 * * *", Tz::Asia__Kathmandu, "2024-03-09T12:00:00Z", 2, "2024-03-10T00:15:00Z 2024-03-11T00:15:00Z");
}

/// Midnight itself is what some zones skip: Santiago, 2024-09-08 at 04:00Z.
#[test]
fn santiago_skips_midnight() {
    day("@daily", Tz::America__Santiago, "2024-09-07T12:00:00Z", 2, "2024-09-08T04:00:00Z 2024-09-09T03:00:00Z");
}

#[test]
fn intervals_on_the_days_of_change() {
    let daily = calendar("30 2 * * *", Tz::America__New_York);
    let interval = daily.slot_at(utc("2024-03-10T07:00:00Z"));
    assert_eq!(
        (show(interval.start), show(interval.end)),
        ("2024-03-09T07:30:00Z".into(), "2024-03-10T07:00:00Z".into())
    );
    let interval = daily.slot_at(utc("2024-03-11T06:30:00Z"));
    assert_eq!(show(interval.start), "2024-03-10T07:00:00Z");
}
