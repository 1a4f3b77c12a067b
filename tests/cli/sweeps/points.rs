//! consign dies at every named point (`host/crash.rs`), by whichever way it comes there.
//!
//! By default each point once and by one way; `CONSIGN_SWEEP=all` takes every way, and
//! every time that a life comes by.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use consign::clock::Clock;
use consign::crash::Point;
use consign::domain::{Interval, Origin, ShareName, SkipReason, Slot};
use consign::ledger::{Ledger, Planned};
use rustix::process::Signal;
use serde_json::Value;

use super::super::audit::Audit;
use super::super::world::{self, Running, SOON, World, is_stopped, stop, until};
use super::{CUSTOMERS, LANES, Life, daemon_until, first_slot, has_all, in_lanes, is_whole, readiness};

/// How a process comes to a point.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// As the daemon's life goes.
    Plainly,
    /// As the daemon goes on with what died when its first upload was created.
    Recovering,
    /// The same, and the customers' prefixes are others by then.
    Moved,
    /// There is no S3.
    NoAnswer,
    /// The plugin may not make as many objects as it has to.
    Narrow,
    /// STS refuses the role to the vendor, until somebody has set that right.
    Unready,
    /// That has been found, and is right by now.
    GettingReady,
    /// A command without a daemon, after another one.
    Command(Option<&'static str>, &'static str),
    /// The same commands, of which a daemon is asked.
    Asked(Option<&'static str>, &'static str),
    /// A daemon is told to end what it has at work.
    Cancelling,
    /// Without a daemon, what died is given up.
    GivingUp,
    /// The configuration is read again while deliveries are at work.
    Reloading,
    /// Slots meet, and the share has this `overlap`.
    Meeting(&'static str),
    /// A delivery's deadline passes when it has an upload.
    TooLate,
    /// The share was planned ahead of the clock, and is put back; by the daemon if it is asked.
    Ahead { asked: bool },
    /// Another daemon dies first: `tests/cli/postgres/steps.rs`.
    OnPostgres,
    /// A plugin ends by its own fault: `tests/cli/quarantine.rs`.
    InQuarantine,
    /// Somebody settles a delivery in doubt: `tests/cli/settled.rs`.
    InDoubt,
}

const PAUSE: &str = "pause daily";
const RESUME: &str = "resume daily";
const BACKFILL: &str = "backfill daily --from 2025-01-01 --to 2025-01-02";
const SEND: &str = "send daily --at 2025-01-01T00:00:00Z";

fn ways(point: Point) -> &'static [Way] {
    match point {
        Point::Released | Point::Planned | Point::Claimed | Point::Started | Point::Pruned => &[Way::Plainly],
        Point::UploadAnswered | Point::UploadCreated | Point::Drafted | Point::Sealed => &[Way::Plainly],
        Point::ObjectCompleted | Point::Completed | Point::Manifest | Point::MarkerCompleted => &[Way::Plainly],
        Point::Committed | Point::RunFinished => &[Way::Plainly],
        Point::Interrupted => &[Way::Recovering],
        Point::Aborting | Point::AbortAnswered | Point::Aborted => &[Way::Recovering, Way::TooLate],
        Point::Abandoned => &[Way::Moved],
        Point::Waiting => &[Way::NoAnswer],
        Point::Failed => &[Way::Narrow],
        Point::HeldBack => &[Way::Unready],
        Point::Ready => &[Way::GettingReady],
        Point::Held => &[Way::Meeting("queue"), Way::Meeting("skip")],
        Point::LeftOut => &[Way::Meeting("skip")],
        Point::Marked => &[Way::Meeting("cancel"), Way::Cancelling],
        Point::Begun => &[Way::Asked(None, SEND)],
        Point::TakenOver => &[Way::OnPostgres],
        Point::Paused => &[Way::Asked(None, PAUSE), Way::Command(None, PAUSE)],
        Point::Resumed => &[Way::Asked(Some(PAUSE), RESUME), Way::Command(Some(PAUSE), RESUME)],
        Point::Backfilled => &[Way::Asked(None, BACKFILL), Way::Command(None, BACKFILL)],
        Point::GivenUp => &[Way::GivingUp],
        Point::ForgottenAhead => &[Way::Ahead { asked: true }, Way::Ahead { asked: false }],
        Point::Rewound => &[Way::Ahead { asked: true }],
        Point::Adopted => &[Way::Reloading],
        Point::Quarantined | Point::LetGo => &[Way::InQuarantine],
        Point::Settled => &[Way::InDoubt],
    }
}

#[test]
fn sweep_of_all_points() {
    let of_point = |point: &'static Point| {
        let ways = ways(*point);
        ways[..if is_whole() { ways.len() } else { 1 }].iter().map(move |way| (*point, *way))
    };
    let is_here = |(_, way): &(Point, Way)| !matches!(way, Way::OnPostgres | Way::InQuarantine | Way::InDoubt);
    let all: Vec<(Point, Way)> = Point::ALL.iter().flat_map(of_point).filter(is_here).collect();
    in_lanes(LANES, &all, |(point, way)| {
        let begun = Instant::now();
        let times = if is_whole() { 1..=way.times_max() } else { 1..=1 };
        let died = times.into_iter().take_while(|time| dies_at(*point, *way, *time)).count();
        println!("{}, {way:?}: {died} times, {:.1?}", point.name(), begun.elapsed());
        assert!(died > 0, "{} is never reached: {way:?}", point.name());
    });
}

impl Way {
    /// Some lives come by for as long as they last.
    fn times_max(self) -> usize {
        match self {
            Way::Plainly | Way::Recovering | Way::Moved | Way::NoAnswer | Way::Narrow => usize::MAX,
            Way::Meeting(_) => 2,
            _ => 1,
        }
    }
}

/// False when the life goes by without reaching the point so many times.
fn dies_at(point: Point, way: Way, time: usize) -> bool {
    let wanted = format!("{}:{time}", point.name());
    match way {
        Way::Meeting(_) | Way::TooLate | Way::Ahead { .. } => ticking_dies_at(way, &wanted),
        way => daily_dies_at(point, way, &wanted),
    }
}

fn words(command: &'static str) -> Vec<&'static str> {
    command.split(' ').collect()
}

/// The process was ended by a signal, of whose making ever.
fn has_died(process: &mut Running) -> bool {
    process.wait(SOON).signal().is_some()
}

fn daily_dies_at(point: Point, way: Way, wanted: &str) -> bool {
    let world = Life::Daemon.world();
    let crash = [("CONSIGN_CRASH_AT", wanted)];
    let at = |point: &str| Life::Daemon.live(&world, &[], &[("CONSIGN_CRASH_AT", point)]).signal().is_some();
    let change = |old: &str, new: &str| {
        assert!(world.text().contains(old));
        world.write("consign.toml", world.text().replace(old, new));
    };
    let mut sandbox = if way == Way::NoAnswer { None } else { Some(world.sandbox()) };
    let mut kills = 1;
    let died = match way {
        Way::Plainly => at(wanted),
        Way::NoAnswer => {
            let died = at(wanted);
            sandbox = Some(world.sandbox());
            died
        }
        Way::Narrow => {
            let (right, wrong) = ("retry = {", "limits = { objects = 1 }\nretry = {");
            change(right, wrong);
            let died = at(wanted);
            change(wrong, right);
            died
        }
        Way::Unready | Way::GettingReady => {
            kills += 1;
            unready_dies_at(way, wanted, at, change)
        }
        Way::Recovering | Way::Moved => {
            kills += 1;
            assert!(at(Point::UploadCreated.name()));
            if way == Way::Moved {
                // The roles are made of the configuration that the sandbox finds.
                drop(sandbox.take());
                change("prefix = \"in/\"", "prefix = \"moved/\"");
                sandbox = Some(world.sandbox_again());
            }
            at(wanted)
        }
        Way::Command(before, command) => {
            if let Some(before) = before {
                world.run(&words(before)).ended(0);
            }
            let died = has_died(&mut world.start(&[], &words(command), &crash));
            world.run(&words(command)).ended(0);
            // What is paused is not delivered.
            world.run(&words(RESUME)).ended(0);
            died
        }
        Way::Asked(before, command) => {
            let mut daemon = world.start(&[], &["run"], &crash);
            // Pausing leaves out what is planned.
            until("both slots are there", SOON, || {
                has_all(&world) && world.runs().iter().all(|run| run["state"] == "succeeded")
            });
            if let Some(before) = before {
                world.run(&words(before)).ended(0);
            }
            assert_ne!(world.run(&words(command)).code, 0, "it has answered");
            let died = has_died(&mut daemon);
            world.run(&words(command)).ended(0);
            world.run(&words(RESUME)).ended(0);
            died
        }
        Way::GivingUp => {
            kills += 1;
            assert!(at(Point::UploadCreated.name()));
            let run = running(&world).unwrap();
            has_died(&mut world.start(&[], &["cancel", &run], &crash))
        }
        Way::Cancelling | Way::Reloading => {
            let sandbox = sandbox.as_ref().unwrap();
            sandbox.signal(Signal::STOP);
            let mut daemon = world.start(&[], &["run"], &crash);
            let mut run = None;
            until("a run is at work", SOON, || {
                run = running(&world);
                run.is_some() && readiness(&world) > 0
            });
            if way == Way::Reloading {
                change(
                    "max_object_size = \"100 kB\"",
                    "max_object_size = \"80 kB\"\nkey = \"v2/{share}/{slot:%Y-%m-%d}/{name}\"",
                );
                daemon.signal(Signal::HUP);
            } else {
                assert_ne!(world.run(&["cancel", &run.unwrap()]).code, 0, "it has answered");
            }
            let died = has_died(&mut daemon);
            sandbox.signal(Signal::CONT);
            died
        }
        Way::Meeting(_) | Way::TooLate | Way::Ahead { .. } => unreachable!(),
        Way::OnPostgres | Way::InQuarantine | Way::InDoubt => unreachable!(),
    };
    let failed = matches!(way, Way::Narrow | Way::Cancelling | Way::GivingUp);
    let runs_min = match point {
        Point::Backfilled => 4,
        Point::Begun => 3,
        _ => 2,
    };
    daemon_until(&world, "what was planned has ended", |runs| {
        let ended = |run: &Value| run["state"] == "succeeded" || (failed && run["state"] == "failed");
        runs.len() >= runs_min && runs.iter().all(ended)
    });
    if failed {
        for day in [0, 1] {
            let slot = (first_slot() + TimeDelta::days(day)).to_rfc3339();
            world.run(&["send", "daily", "--at", &slot]).ended(0);
        }
    }
    Life::Daemon.audit(&Audit { world: &world, customers: &CUSTOMERS, kills, failed });
    drop(sandbox);
    died
}

fn unready_dies_at(way: Way, wanted: &str, at: impl Fn(&str) -> bool, change: impl Fn(&str, &str)) -> bool {
    change("test-1f-acme", "test-1f-wrong");
    let died = at(Point::HeldBack.name());
    change("test-1f-wrong", "test-1f-acme");
    if way == Way::Unready { died } else { at(wanted) }
}

/// A run that has not ended.
fn running(world: &World) -> Option<String> {
    let runs = world.runs();
    let run = runs.iter().find(|run| run["state"] == "running")?;
    Some(run["run"].as_str().unwrap().to_owned())
}

/// A share with a slot each second.
fn ticking(keys: &str) -> World {
    let share = format!(
        "schedule = \"* * * * * *\"\nmax_object_size = \"100 kB\"\n{keys}\nto = {{ customers = [\"acme\"] }}\n"
    );
    World::new(&world::flights(&world::customer("acme", 1, "us-east-1", "\"AS\""), "tick", &share))
}

fn ticking_dies_at(way: Way, wanted: &str) -> bool {
    let crash = [("CONSIGN_CRASH_AT", wanted)];
    let (world, _sandbox, died) = match way {
        Way::Meeting(overlap) => {
            let world = ticking(&format!("overlap = \"{overlap}\""));
            let sandbox = world.sandbox();
            // So the first slot is at work until the second one comes.
            sandbox.signal(Signal::STOP);
            let died = has_died(&mut world.start(&[], &["run"], &crash));
            sandbox.signal(Signal::CONT);
            (world, sandbox, died)
        }
        Way::TooLate => {
            let world = ticking("overlap = \"allow\"\ndeadline = \"2s\"");
            let sandbox = world.sandbox();
            let stops = [crash[0], ("CONSIGN_STOP_AT", "upload-created:1")];
            let mut daemon = world.start(&[], &["run"], &stops);
            until("it stands still with an upload", SOON, || is_stopped(&daemon));
            // Nothing more is stored until it knows that it is too late.
            sandbox.signal(Signal::STOP);
            std::thread::sleep(Duration::from_secs(2));
            daemon.signal(Signal::CONT);
            std::thread::sleep(Duration::from_millis(1500));
            sandbox.signal(Signal::CONT);
            let died = has_died(&mut daemon);
            (world, sandbox, died)
        }
        Way::Ahead { asked } => {
            let world = ticking("overlap = \"allow\"");
            let sandbox = world.sandbox();
            plan_ahead(&world);
            let rewind = ["ledger", "rewind"];
            let mut daemon = asked.then(|| world.start(&[], &["run"], &crash));
            let died = match &mut daemon {
                None => has_died(&mut world.start(&[], &rewind, &crash)),
                Some(daemon) => {
                    until("it can be asked", SOON, || readiness(&world) > 0 && world.run(&["status"]).code == 0);
                    assert_ne!(world.run(&rewind).code, 0, "it has answered");
                    has_died(daemon)
                }
            };
            world.run(&rewind).ended(0);
            (world, sandbox, died)
        }
        _ => unreachable!(),
    };
    make_ticking_good(&world);
    died
}

/// A clock that was an hour ahead has been here.
fn plan_ahead(world: &World) {
    let (share, now) = (ShareName::parse("tick").unwrap(), Clock::system().now());
    let at = now + TimeDelta::minutes(30);
    let slot = Slot { share: share.clone(), at, interval: Interval { start: at - TimeDelta::seconds(1), end: at } };
    let ahead = Planned { skip: Some(SkipReason::Missed), ..Planned::new(slot, Vec::new(), Origin::Schedule) };
    let ledger = Ledger::open(&world.path("state"), Clock::fixed(now)).unwrap();
    let planned = ledger.plan(vec![ahead], vec![(share, now + TimeDelta::hours(1))]);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(planned).unwrap();
}

/// What was at work comes to its end, and who did not get a slot gets it by hand.
fn make_ticking_good(world: &World) {
    let known = world.runs().len();
    let daemon = world.daemon();
    let is_done = || {
        let runs = world.runs();
        // The newest are first.
        let (new, old) = runs.split_at(runs.len() - known);
        !new.is_empty() && old.iter().all(|run| run["state"] != "running")
    };
    until("what was at work has ended, and something has begun", SOON, is_done);
    world.run(&["pause", "tick"]).ended(0);
    until("all has ended", SOON, || running(world).is_none());
    stop(daemon);
    let failed = world.runs().into_iter().filter(|run| run["state"] == "failed");
    for slot in failed.map(|run| run["slot"].as_str().unwrap().to_owned()) {
        world.run(&["send", "tick", "--at", &slot]).ended(0);
    }
    Audit { world, customers: &[("acme", 714)], kills: 1, failed: true }.slots();
}
