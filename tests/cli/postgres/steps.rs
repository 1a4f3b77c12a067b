//! A daemon is killed, or stands still beyond its lease, at each step of a delivery, and
//! another one has its work: every delivery is committed once, whatever the first one
//! still does. The table in docs/ledger.md, "What a paused process can still do", is
//! gone through row by row.
//!
//! By default some of the steps; `CONSIGN_SWEEP=all` takes all.

use std::os::unix::process::ExitStatusExt as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use consign::crash::Point;
use rustix::process::Signal;

use super::super::audit::Audit;
use super::super::sweeps::{in_lanes, is_whole};
use super::super::world::{self, Running, SOON, is_stopped, stop, until};
use super::Pair;
use crate::support::postgres::{Postgres, SHORT_LEASE};

/// Worlds at the same time: each waits for leases most of the time.
const LANES: usize = 4;

const ROWS: u64 = 714;

/// A small delivery each second, one at a time: the first to come to a step is the first of all.
fn pair(server: &Postgres, keys: &str) -> Pair {
    let share = format!("schedule = \"* * * * * *\"\noverlap = \"allow\"\n{keys}\nto = {{ customers = [\"acme\"] }}\n");
    let customer = world::customer("acme", 1, "us-east-1", "\"AS\"");
    Pair::with(&server.url(), "concurrency = 1", &world::flights(&customer, "tick", &share)).with_short_lease()
}

const SEVERAL_OBJECTS: &str = "max_object_size = \"100 kB\"";
const TRIED_AGAIN_SOON: &str = "retry = { attempts = 20, backoff = \"50ms\", max_backoff = \"200ms\" }";

/// Does all, or the first `some` of them.
fn each<T: std::fmt::Debug + Sync>(all: &[T], some: usize, one: impl Fn(&Postgres, &T) + Sync) {
    let Some(server) = Postgres::shared() else { return };
    let all = if is_whole() { all } else { &all[..some] };
    in_lanes(LANES, all, |step| {
        let begun = Instant::now();
        one(server, step);
        println!("{step:?}: {:.1?}", begun.elapsed());
    });
}

impl Pair {
    fn is_dead(&self, node: &str) -> bool {
        self.psql(&format!("SELECT state FROM nodes WHERE id = {node}")) == "dead"
    }

    /// What a node had at work, ended by another.
    fn is_taken_over(&self, had: &[String]) -> bool {
        let open = "SELECT id FROM runs WHERE state = 'running'";
        let open = self.psql(open);
        !had.iter().any(|run| open.contains(run.as_str()))
    }

    /// The states of the attempts of a run's only delivery.
    fn attempts(&self, run: &str) -> String {
        self.psql(&format!(
            "SELECT string_agg(a.state, ' ' ORDER BY a.number) FROM runs r JOIN deliveries d ON d.run = r.seq
             JOIN attempts a ON a.delivery = d.id WHERE r.id = '{run}'"
        ))
    }

    /// Nothing more begins, what failed is sent by hand, and all is there once.
    fn ends_well(&self, daemon: Running, kills: usize, failed: bool) {
        self.settle();
        stop(daemon);
        let runs = self.world.runs();
        for run in runs.iter().filter(|run| failed && run["state"] == "failed") {
            self.world.run(&["send", "tick", "--at", run["slot"].as_str().unwrap()]).ended(0);
        }
        let slots = Audit { world: &self.world, customers: &[("acme", ROWS)], kills, failed }.slots();
        assert!(!slots.is_empty());
        self.is_sound();
    }
}

/// The first ones are those of every run of the tests.
const KILLED_AT: [Point; 19] = [
    Point::UploadAnswered,
    Point::Sealed,
    Point::Manifest,
    Point::TakenOver,
    Point::Released,
    Point::Planned,
    Point::Claimed,
    Point::Started,
    Point::UploadCreated,
    Point::Drafted,
    Point::ObjectCompleted,
    Point::Completed,
    Point::Committed,
    Point::RunFinished,
    Point::Waiting,
    Point::Interrupted,
    Point::Aborting,
    Point::AbortAnswered,
    Point::Aborted,
];

#[test]
fn postgres_killed_at_every_point_commits_once() {
    each(&KILLED_AT, 4, |server, point| killed_at(server, *point));
}

fn killed_at(server: &Postgres, point: Point) {
    let mut pair = pair(server, if point == Point::Waiting { TRIED_AGAIN_SOON } else { SEVERAL_OBJECTS });
    let of_who_takes_over = matches!(
        point,
        Point::TakenOver | Point::Interrupted | Point::Aborting | Point::AbortAnswered | Point::Aborted
    );
    if point == Point::Waiting {
        // Nobody answers.
        pair.sandbox = None;
    }
    let dies_at = |point: Point| {
        let (mut daemon, node) = pair.daemon_at(&[("CONSIGN_CRASH_AT", point.name())]);
        assert!(daemon.wait(SOON).signal().is_some(), "{}: {}", point.name(), pair.world.log());
        node
    };
    let mut kills = 1;
    let one = dies_at(if of_who_takes_over { Point::UploadCreated } else { point });
    let left = pair.at_work(&one);
    if of_who_takes_over {
        kills += 1;
        dies_at(point);
    }
    let has_nothing = matches!(point, Point::Released | Point::Planned | Point::RunFinished);
    assert!(has_nothing || !left.is_empty(), "{} leaves nothing", point.name());
    if point == Point::Waiting {
        pair.sandbox = Some(pair.world.sandbox_again());
    }
    let (mut last, node) = pair.daemon();
    pair.wait_for(&mut last, "what was left is delivered", &left);
    until("and what comes", SOON, || pair.has(&node, "succeeded") > u32::try_from(left.len()).unwrap());
    assert!(pair.is_dead(&one) || left.is_empty());
    pair.ends_well(last, kills, false);
}

/// What a daemon does when it stands still.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// As its life goes: the point, and the states of the attempts when all is over.
    Plain(&'static str, &'static str),
    /// It ends an attempt at work, for which it is too late.
    TooLate(Point),
    /// It has given up a sealed attempt.
    GivenUp(Point),
    /// It goes on with what a killed one left.
    Second(Point),
}

/// The first ones are those of every run of the tests.
const PAUSED_AT: [Step; 20] = [
    // Parts of an upload that the other one aborts.
    Step::Plain("upload-created:1", "interrupted committed"),
    // A sealed upload is completed by both.
    Step::Plain("sealed:1", "committed"),
    // The manifest: to be put by this one, put by the other.
    Step::Plain("completed:1", "committed"),
    // Uploads of a sealed attempt: asked whether they are its own, and not aborted yet.
    Step::GivenUp(Point::Aborting),
    Step::Plain("claimed:1", "committed"),
    Step::Plain("started:1", "interrupted committed"),
    Step::Plain("upload-answered:1", "interrupted committed"),
    Step::Plain("drafted:1", "interrupted committed"),
    Step::Plain("object-completed:1", "committed"),
    Step::Plain("upload-created:2", "interrupted committed"),
    Step::Plain("upload-answered:2", "interrupted committed"),
    Step::Plain("manifest:1", "committed"),
    Step::Plain("committed:1", "committed"),
    // Uploads of an attempt at work.
    Step::TooLate(Point::Aborting),
    Step::TooLate(Point::AbortAnswered),
    Step::TooLate(Point::Aborted),
    Step::GivenUp(Point::Failed),
    Step::GivenUp(Point::AbortAnswered),
    Step::Second(Point::TakenOver),
    Step::Second(Point::Interrupted),
];

#[test]
fn postgres_paused_at_every_step_commits_once() {
    each(&PAUSED_AT, 4, |server, step| paused_at(server, *step));
}

fn stands_still(pair: &Pair, daemon: &mut Running) {
    until("it stands still", SOON, || {
        assert!(daemon.is_running(), "{}", pair.world.log());
        is_stopped(daemon)
    });
}

fn paused_at(server: &Postgres, step: Step) {
    let keys = match step {
        Step::Plain("object-completed:1", _) => SEVERAL_OBJECTS,
        Step::TooLate(_) => "deadline = \"1s\"",
        // What is made up for is not given up because its bucket is away.
        Step::GivenUp(_) => "retry = { attempts = 1 }\ncatch_up = \"none\"",
        _ => "",
    };
    let mut pair = pair(server, keys);
    let first = |points: &str| {
        let (mut daemon, node) = pair.daemon_at(&[("CONSIGN_STOP_AT", points)]);
        stands_still(&pair, &mut daemon);
        (daemon, node)
    };
    let (mut paused, one) = match step {
        Step::Plain(point, _) => first(point),
        Step::TooLate(point) => {
            let (mut paused, one) = first(&format!("upload-created:1,{}:1", point.name()));
            // Nothing more is stored until it knows that it is too late.
            pair.sandbox.as_ref().unwrap().signal(Signal::STOP);
            sleep(Duration::from_secs(1));
            paused.signal(Signal::CONT);
            sleep(Duration::from_millis(1500));
            pair.sandbox.as_ref().unwrap().signal(Signal::CONT);
            stands_still(&pair, &mut paused);
            (paused, one)
        }
        Step::GivenUp(point) => {
            let (mut paused, one) = first(&format!("sealed:1,failed:1,{}:1", point.name()));
            pair.sandbox = None;
            paused.signal(Signal::CONT);
            stands_still(&pair, &mut paused);
            pair.sandbox = Some(pair.world.sandbox_again());
            if point != Point::Failed {
                paused.signal(Signal::CONT);
                until("it stands still again", SOON, || is_stopped(&paused));
            }
            (paused, one)
        }
        Step::Second(point) => {
            let (mut killed, _) = pair.daemon_at(&[("CONSIGN_CRASH_AT", "upload-created:1")]);
            assert!(killed.wait(SOON).signal().is_some());
            first(&format!("{}:1", point.name()))
        }
    };
    let had = pair.at_work(&one);
    assert!(!had.is_empty(), "{step:?}: it has nothing at work");
    let (mut other, _) = pair.daemon();
    until("another one has ended what it had", SHORT_LEASE * 30, || {
        assert!(other.is_running() && is_stopped(&paused), "{}", pair.world.log());
        pair.is_dead(&one) && pair.is_taken_over(&had)
    });
    if let Step::Plain(_, attempts) = step {
        assert_eq!(pair.attempts(&had[0]), attempts, "{step:?}");
    }
    let failed = matches!(step, Step::TooLate(_) | Step::GivenUp(_));
    if failed {
        // And who did not get it has got it by hand, before the first one wakes.
        for run in pair.world.runs().iter().filter(|run| had.contains(&run["run"].as_str().unwrap().to_owned())) {
            assert!(run["state"] == "failed" || run["run"] != had[0].as_str(), "{step:?}: {run}");
            pair.world.run(&["send", "tick", "--at", run["slot"].as_str().unwrap()]).ended(0);
        }
    }
    paused.signal(Signal::CONT);
    assert_eq!(paused.wait(SOON).code(), Some(4), "{step:?}: {}", pair.world.log());
    world::says(&pair.world.log(), &["the lease on this consign's work ran out"]);
    pair.ends_well(other, if matches!(step, Step::Second(_)) { 2 } else { 1 }, failed);
}
