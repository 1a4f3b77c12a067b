//! Keys of a share's calendar, from the outside: what waits and what was missed,
//! through the end of a daemon; the first and the last slot; late work.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{DateTime, Datelike as _, NaiveTime, SubsecRound as _, TimeDelta, Timelike as _, Utc};
use consign::clock::Clock;
use consign::domain::{Interval, Origin, ShareName, SkipReason, Slot};
use consign::ledger::{Ledger, Planned};
use rustix::process::Signal;
use serde_json::Value;

use super::timing::{MANY, WORK, at, in_state, one_after_another, skipped, wait, world};
use super::world::{self, World, stop};

fn now() -> DateTime<Utc> {
    Clock::system().now()
}

/// The ledger of a daemon that went away at these instants.
fn left_at(world: &World, cursors: &[(&str, DateTime<Utc>)]) {
    plan(world, Vec::new(), cursors);
}

fn plan(world: &World, planned: Vec<Planned>, cursors: &[(&str, DateTime<Utc>)]) {
    let cursors = cursors.iter().map(|(share, at)| (ShareName::parse(share).unwrap(), *at)).collect();
    let ledger = Ledger::open(&world.path("state"), Clock::system()).unwrap();
    let planned = ledger.plan(planned, cursors);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(planned).unwrap();
}

/// What one column of the ledger has, instants of it.
fn ask(state: &Path, sql: &str) -> BTreeSet<DateTime<Utc>> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let ledger = rusqlite::Connection::open_with_flags(state.join("ledger.db"), flags).unwrap();
    let mut asked = ledger.prepare(sql).unwrap();
    let micros: Vec<i64> = asked.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    micros.into_iter().map(|at| DateTime::from_timestamp_micros(at).unwrap()).collect()
}

fn sorted_by(mut all: Vec<Value>, key: &str) -> Vec<Value> {
    all.sort_by_key(|one| at(&one[key]));
    all
}

fn of_share<'a>(all: &'a [Value], share: &str) -> Vec<&'a Value> {
    all.iter().filter(|run| run["share"] == share).collect()
}

/// Slots that wait for the one before are not forgotten when the daemon dies; each is
/// delivered, in its turn, and none is left out.
#[test]
fn calendar_queue_goes_on_after_a_crash() {
    let world = world("* * * * * *", MANY, &format!("{WORK}overlap = \"queue\""));
    let _sandbox = world.sandbox();
    let held = || ask(&world.path("state"), "SELECT at FROM slots WHERE state = 'held'");
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "slots wait", || in_state(&world, "succeeded") >= 1 && held().len() >= 2);
    daemon.signal(Signal::KILL);
    daemon.wait(world::SOON);
    let waited = held();
    assert!(waited.len() >= 2, "{waited:?}");

    let mut daemon = world.daemon();
    let delivered = || {
        let runs = world.runs().into_iter().filter(|run| run["state"] == "succeeded");
        runs.map(|run| at(&run["slot"])).collect::<BTreeSet<_>>()
    };
    wait(&world, &mut daemon, "what waited is delivered", || waited.is_subset(&delivered()));
    drop(daemon);
    let runs = sorted_by(world.runs(), "slot");
    let done: Vec<Value> = runs.into_iter().take_while(|run| run["state"] == "succeeded").collect();
    let slots: Vec<DateTime<Utc>> = done.iter().map(|run| at(&run["slot"])).collect();
    assert!(slots.windows(2).all(|pair| (pair[1] - pair[0]).num_seconds() == 1), "a slot is missing: {slots:?}");
    assert!(slots.last() >= waited.last(), "{slots:?} {waited:?}");
    one_after_another(&world, &done);
    assert_eq!(skipped(&world), Vec::<Value>::new());
}

/// Three slots were missed half an hour ago and earlier, and `catch_up` says which are made up for.
#[test]
fn calendar_catch_up_none_makes_up_for_nothing() {
    let began = now();
    let schedule = format!("{} * * * *", (began - TimeDelta::minutes(30)).minute());
    let customer = world::customer("acme", 1, "us-east-1", "\"AS\"");
    let keys = |catch_up: &str| {
        format!("schedule = \"{schedule}\"\ncatch_up = \"{catch_up}\"\nto = {{ customers = [\"acme\"] }}\n")
    };
    let mut config = world::flights(&customer, "none", &keys("none"));
    for name in ["latest", "all"] {
        config += &format!("[shares.{name}]\ndataset = \"flights\"\nplugin = \"jsonl\"\n{}", keys(name));
    }
    let world = World::new(&config);
    let _sandbox = world.sandbox();
    left_at(&world, &["none", "latest", "all"].map(|share| (share, began - TimeDelta::minutes(170))));

    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "missed slots are made up for", || in_state(&world, "succeeded") >= 4);
    stop(daemon);
    let runs = sorted_by(world.runs(), "slot");
    let late: Vec<i64> = of_share(&runs, "all").iter().map(|run| (began - at(&run["slot"])).num_minutes()).collect();
    assert_eq!(late.len(), 3, "{runs:#?}");
    assert!(late.iter().zip([150, 90, 30]).all(|(is, about)| is.abs_diff(about) <= 1), "{late:?}");
    let latest = of_share(&runs, "latest");
    assert_eq!((latest.len(), &latest[0]["slot"]), (1, &of_share(&runs, "all")[2]["slot"]));
    assert_eq!(of_share(&runs, "none").len(), 0, "{runs:#?}");
    let skipped = skipped(&world);
    let skipped_of = |share: &str| skipped.iter().filter(|slot| slot["slot"]["share"] == share).count();
    assert_eq!(["none", "latest", "all"].map(skipped_of), [3, 2, 0], "{skipped:#?}");
    assert!(skipped.iter().all(|slot| slot["reason"] == "missed"), "{skipped:#?}");
}

/// Both are included; nothing comes before the one or after the other.
#[test]
fn calendar_start_and_end_bound_what_is_delivered() {
    let start = now().trunc_subsecs(0) - TimeDelta::seconds(10);
    let end = start + TimeDelta::seconds(13);
    let iso = |at: DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let more = format!("overlap = \"allow\"\nstart = {}\nend = {}\n", iso(start), iso(end));
    let world = world("* * * * * *", "\"AS\"", &more);
    let _sandbox = world.sandbox();
    // As after a minute of downtime, so that slots before the start would be made up for.
    left_at(&world, &[("tick", start - TimeDelta::seconds(50))]);
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "all are delivered", || in_state(&world, "succeeded") >= 14);
    world::until("the end is past", world::SOON, || now() > end + TimeDelta::seconds(3));
    stop(daemon);
    let runs = sorted_by(world.runs(), "slot");
    let slots: Vec<DateTime<Utc>> = runs.iter().map(|run| at(&run["slot"])).collect();
    assert_eq!(slots, (0..14).map(|second| start + TimeDelta::seconds(second)).collect::<Vec<_>>());
    assert_eq!(at(&runs[0]["interval"]["start"]), start - TimeDelta::seconds(1), "the first interval is not cut");
    assert_eq!(skipped(&world), Vec::<Value>::new());
    world.run(&["next", "tick"]).ended(0).out_says(&["share tick has no slot to come"]);
}

/// The schedule was another one when it had its last slot; whoever asks is told the interval that it will have.
#[test]
fn calendar_a_changed_schedule_goes_on_where_the_last_slot_ended() {
    let customer = world::customer("acme", 1, "us-east-1", "\"AS\"");
    let keys = "schedule = \"0 0 1 1 *\"\nto = { customers = [\"acme\"] }\n";
    let world = World::new(&world::flights(&customer, "yearly", keys));
    let _sandbox = world.sandbox();
    let new_year = now().with_month(1).unwrap().with_day(1).unwrap().with_time(NaiveTime::MIN).unwrap();
    let last = (new_year + (now() - new_year) / 2).trunc_subsecs(0);
    let slots = [(new_year, new_year - TimeDelta::days(3)), (last, new_year)].map(|(at, start)| {
        let slot = Slot { share: ShareName::parse("yearly").unwrap(), at, interval: Interval { start, end: at } };
        Planned { skip: Some(SkipReason::Missed), ..Planned::new(slot, Vec::new(), Origin::Schedule) }
    });
    plan(&world, slots.into(), &[("yearly", last)]);

    let next = world.run(&["next", "yearly", "-n", "2", "--json"]).ended(0).json();
    let starts = [0, 1].map(|nth: usize| at(&next["slots"][nth]["interval"]["start"]));
    assert_eq!(starts, [last, at(&next["slots"][0]["slot"])]);
    let coming = next["slots"][0]["slot"].as_str().unwrap();
    let tried = world.run(&["send", "yearly", "--at", coming, "--dry-run", "out", "--json"]).ended(0).json();
    assert_eq!(at(&tried["slot"]["interval"]["start"]), last);
    // What is on record stays what it was, whoever asks.
    let text = new_year.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let tried = world.run(&["send", "yearly", "--at", &text, "--dry-run", "out", "--json"]).ended(0).json();
    let filled =
        world.run(&["backfill", "yearly", "--from", &text, "--to", &text, "--dry-run", "--json"]).ended(0).json();
    let sent = world.run(&["send", "yearly", "--at", &text, "--json"]).ended(0).json();
    let told = [&tried["slot"], &filled["slots"][0]["slot"], &sent["slot"]].map(|slot| at(&slot["interval"]["start"]));
    assert_eq!(told, [new_year - TimeDelta::days(3); 3]);
    let manifests = world::manifests(&world.path("buckets/acme-data"));
    let manifest = manifests.values().next().unwrap();
    assert_eq!(at(&manifest["interval"]["start"]), new_year - TimeDelta::days(3));
    world.run(&["send", "yearly", "--at", &text, "--verify"]).ended(0);
}

/// What is filled in has half of the places, goes one by one for each share and customer,
/// and holds up nothing that is on time.
#[test]
fn calendar_late_work_is_throttled() {
    const SHARES: [&str; 4] = ["late-a", "late-b", "late-c", "late-d"];
    let customers =
        world::customer("acme", 1, "us-east-1", MANY) + &world::customer("globex", 2, "us-east-1", "\"AS\"");
    let on_time = "schedule = \"* * * * * *\"\noverlap = \"allow\"\nto = { customers = [\"globex\"] }\n";
    let mut config = world::flights(&customers, "tick", on_time);
    for share in SHARES {
        config += &format!(
            "[shares.{share}]\ndataset = \"flights\"\nplugin = \"jsonl\"\nschedule = \"0 6 1 1 *\"\n\
             to = {{ customers = [\"acme\"] }}\n"
        );
    }
    let config = format!("{config}[ledger]\nretention = \"36500d\"\n");
    let world = World::new(&config);
    let _sandbox = world.sandbox();
    world.write("consign.toml", world.text().replace("[daemon]\n", "[daemon]\nconcurrency = 4\n"));
    for share in SHARES {
        world.run(&["backfill", share, "--from", "2023-01-01", "--to", "2024-12-31"]).ended(0);
    }
    let mut daemon = world.daemon();
    let late_done =
        || world.runs().iter().filter(|run| run["origin"] == "backfill" && run["state"] == "succeeded").count();
    wait(&world, &mut daemon, "what is filled in is delivered", || late_done() == 2 * SHARES.len());
    stop(daemon);

    let runs = sorted_by(world.runs(), "started");
    let (mut edges, mut slots) = (Vec::new(), Vec::new());
    for run in runs.iter().filter(|run| run["origin"] == "backfill") {
        let shown = world.run(&["show", run["run"].as_str().unwrap(), "--json"]).ended(0).json();
        let attempt = &shown["deliveries"][0]["attempts"][0];
        let (began, ended) = (at(&attempt["started"]), at(&attempt["ended"]));
        edges.extend([(began, 1), (ended, -1)]);
        slots.push((run["share"].as_str().unwrap().to_owned(), at(&run["slot"]), began, ended));
    }
    edges.sort_unstable();
    let mut at_work = 0;
    let most = edges.iter().map(|(_, by)| (at_work += by, at_work).1).max();
    assert_eq!(most, Some(2), "at most half of four places, and not fewer: {slots:#?}");
    slots.sort_unstable();
    for pair in slots.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        assert!(pair[0].3 <= pair[1].2, "two late slots of a share were at work: {pair:?}");
    }
    let (from, to) = (edges[0].0, edges[edges.len() - 1].0);
    let ticks = of_share(&runs, "tick").into_iter().filter(|run| (from..to).contains(&at(&run["slot"])));
    let waited = ticks.map(|run| at(&run["started"]) - at(&run["slot"])).max().expect("slots that were on time");
    assert!(waited < TimeDelta::seconds(10), "a slot on time waited for {waited}");
}
