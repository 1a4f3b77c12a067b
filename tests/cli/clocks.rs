//! The binary while the machine's clock does what clocks do: changes of summer
//! time, and jumps. libfaketime plays the clock (Debian: faketime); where it is
//! not installed these tests say so and test nothing.

use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use consign::clock::Clock;
use rustix::process::Signal;

use super::world::{self, Ran, Running, SOON, World, says, until};
use crate::support::needs::not_tested;

const SHARE: &str = r#"
[shares.@NAME@]
schedule = "@SCHEDULE@"
timezone = "@ZONE@"
dataset = "flights"
plugin = "jsonl"
overlap = "allow"
to = { customers = ["acme"] }
retry = { attempts = 100, backoff = "200ms", max_backoff = "1s" }
"#;

/// Of the false clock, in each second of the true one. Less than what counts as late.
const STEP: TimeDelta = TimeDelta::seconds(120);

fn faketime() -> Option<String> {
    let found = fs::read_dir("/usr/lib").ok()?.filter_map(|entry| {
        let library = entry.ok()?.path().join("faketime/libfaketimeMT.so.1");
        library.exists().then(|| library.to_str().unwrap().to_owned())
    });
    let found = found.into_iter().next();
    if found.is_none() {
        not_tested("libfaketime is not installed (on Debian, apt-get install faketime)");
    }
    found
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A daemon and a sandbox whose clock this test sets.
struct Clocked {
    world: World,
    now: DateTime<Utc>,
    daemon: Running,
    sandbox: Option<Running>,
}

impl Clocked {
    /// None where there is no libfaketime.
    fn start(now: &str, zone: &str, shares: &[(&str, &str, &str)]) -> Option<Self> {
        let library = faketime()?;
        let mut config = format!(
            "@AWS@{}[datasets.flights]\ntables.flights = \"@FLIGHTS@\"\ntenant_column = \"carrier\"\n",
            world::customer("acme", 1, "us-east-1", "\"AS\"")
        );
        for (name, schedule, more) in shares {
            config += &SHARE.replace("@NAME@", name).replace("@SCHEDULE@", schedule).replace("@ZONE@", zone);
            config += more;
        }
        let mut world = World::new(&config);
        set_clock(&world, at(now));
        world.set("LD_PRELOAD", &library);
        world.set("FAKETIME_TIMESTAMP_FILE", world.path("clock").to_str().unwrap());
        world.set("FAKETIME_CACHE_DURATION", "1");
        // As a machine does: what waits is not hurried when the clock is set.
        world.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let sandbox = world.sandbox();
        let mut daemon = world.daemon();
        let log = || world.log();
        until("the daemon is ready", SOON, || {
            assert!(daemon.is_running(), "{}", log());
            log().contains("consign is ready")
        });
        sleep(Duration::from_secs(2));
        Some(Self { world, now: at(now), daemon, sandbox: Some(sandbox) })
    }

    /// Time goes by, quickly.
    fn pass_until(&mut self, to: &str) {
        while self.now < at(to) {
            self.now = (self.now + STEP).min(at(to));
            set_clock(&self.world, self.now);
            sleep(Duration::from_secs(1));
        }
    }

    /// Somebody sets the clock.
    fn jump(&mut self, by: TimeDelta) {
        self.now += by;
        set_clock(&self.world, self.now);
        // Until everybody has looked, and the planner has had its ticks.
        sleep(Duration::from_secs(4));
    }

    /// A command, under the same clock.
    fn run(&self, args: &[&str]) -> Ran {
        let mut command = world::command(self.world.dir(), &[&["--config", "consign.toml"], args].concat());
        command.envs(self.world.environment().iter().map(|(name, value)| (name, value)));
        let ran = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: ran.status.code().unwrap(), stdout: text(ran.stdout), stderr: text(ran.stderr) }
    }

    /// Waits for so many runs to succeed.
    fn wait(&mut self, count: usize) {
        self.wait_for("the slots are delivered", |world| {
            world.runs().iter().filter(|run| run["state"] == "succeeded").count() >= count
        });
    }

    /// A clock that has leapt is believed after a minute.
    fn wait_for(&mut self, what: &str, done: impl Fn(&World) -> bool) {
        let world = &self.world;
        until(what, SOON * 2, || {
            assert!(self.daemon.is_running(), "{}", world.log());
            done(world)
        });
    }

    /// Ends the daemon. Slots that ran, by share, in the order of time; each has
    /// the interval since the one before, and was delivered once.
    fn slots(&mut self) -> BTreeMap<String, Vec<String>> {
        self.daemon.signal(Signal::TERM);
        assert_eq!(self.daemon.wait(SOON).code(), Some(0));
        let mut slots: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut ends: BTreeMap<String, String> = BTreeMap::new();
        let mut runs = self.world.runs();
        runs.sort_by_key(|run| run["slot"].as_str().unwrap().to_owned());
        for run in &runs {
            assert_eq!((&run["state"], &run["rows"]), (&"succeeded".into(), &714.into()), "{run}");
            let share = run["share"].as_str().unwrap().to_owned();
            let text =
                |value: &serde_json::Value| at(value.as_str().unwrap()).to_rfc3339_opts(SecondsFormat::Secs, true);
            if let Some(end) = ends.insert(share.clone(), text(&run["interval"]["end"])) {
                assert!(end <= text(&run["interval"]["start"]), "{run}");
            }
            slots.entry(share).or_default().push(text(&run["slot"])[11..16].to_owned());
        }
        let manifests = world::manifests(&self.world.path("buckets/acme-data"));
        assert_eq!(manifests.len(), runs.len(), "one manifest for each");
        slots
    }
}

fn set_clock(world: &World, to: DateTime<Utc>) {
    let offset = (to - Clock::system().now()).num_seconds();
    world.write("clock.new", format!("{offset:+}\n"));
    // In one step, so that nobody reads half of it.
    fs::rename(world.path("clock.new"), world.path("clock")).unwrap();
}

fn expected(shares: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
    let of = |(name, slots): &(&str, &str)| ((*name).to_owned(), slots.split(' ').map(str::to_owned).collect());
    shares.iter().map(of).collect()
}

/// New York, 8 March 2026: 02:00 becomes 03:00 at 07:00Z. As docs/calendar.md says.
#[test]
fn clocks_go_forward() {
    let shares = [
        ("fixed", "30 2 * * *", ""),
        ("list", "15,45 2 * * *", ""),
        ("half-hours", "*/30 * * * *", ""),
        ("even-hours", "0 */2 * * *", ""),
    ];
    let Some(mut clocked) = Clocked::start("2026-03-08T06:20:00Z", "America/New_York", &shares) else { return };
    clocked.pass_until("2026-03-08T08:05:00Z");
    clocked.wait(7);
    let slots = expected(&[
        ("fixed", "07:00"),
        ("list", "07:00"),
        ("half-hours", "06:30 07:00 07:30 08:00"),
        ("even-hours", "08:00"),
    ]);
    assert_eq!(clocked.slots(), slots);
}

/// New York, 1 November 2026: 02:00 becomes 01:00 at 06:00Z.
#[test]
fn clocks_go_back() {
    let shares = [
        ("fixed", "30 1 * * *", ""),
        ("list", "0 1,2 * * *", ""),
        ("half-hours", "*/30 * * * *", ""),
        ("of-one-hour", "*/30 1 * * *", ""),
    ];
    let Some(mut clocked) = Clocked::start("2026-11-01T04:50:00Z", "America/New_York", &shares) else { return };
    clocked.pass_until("2026-11-01T07:05:00Z");
    clocked.wait(12);
    let slots = expected(&[
        ("fixed", "05:30"),
        ("list", "05:00 07:00"),
        ("half-hours", "05:00 05:30 06:00 06:30 07:00"),
        ("of-one-hour", "05:00 05:30 06:00 06:30"),
    ]);
    assert_eq!(clocked.slots(), slots);
}

/// Two hours forward are downtime, two hours back fire nothing twice.
#[test]
fn clocks_jump() {
    let shares = [("all", "*/30 * * * *", "catch_up = \"all\"\n"), ("latest", "*/30 * * * *", "")];
    let Some(mut clocked) = Clocked::start("2026-06-01T10:20:00Z", "UTC", &shares) else { return };
    clocked.pass_until("2026-06-01T10:33:00Z");
    clocked.wait(2);
    clocked.jump(TimeDelta::hours(2));
    clocked.wait(2 + 4 + 1);
    clocked.jump(TimeDelta::hours(-2));
    assert_eq!(clocked.world.runs().len(), 7, "a slot fired twice, or before its time");
    clocked.pass_until("2026-06-01T11:02:00Z");
    assert_eq!(clocked.world.runs().len(), 7, "a slot fired twice");
    clocked.jump(TimeDelta::hours(2));
    clocked.wait(9);
    let slots = expected(&[("all", "10:30 11:00 11:30 12:00 12:30 13:00"), ("latest", "10:30 12:30 13:00")]);
    assert_eq!(clocked.slots(), slots);
    let skipped = clocked.world.run(&["history", "--skipped", "--share", "latest", "--json"]).ended(0).json();
    let skipped: Vec<_> = skipped.as_array().unwrap().iter().map(|slot| slot["slot"]["at"].as_str().unwrap()).collect();
    assert_eq!(skipped, ["2026-06-01T12:00:00Z", "2026-06-01T11:30:00Z", "2026-06-01T11:00:00Z"]);
}

/// More than a year ahead for some seconds, and right again: what the shares do not do
/// until then is said, and taken back.
#[test]
fn clocks_put_right_after_a_year_leave_shares_that_say_so() {
    let Some(mut clocked) = Clocked::start("2026-06-01T10:20:00Z", "UTC", &[("half", "*/30 * * * *", "")]) else {
        return;
    };
    clocked.pass_until("2026-06-01T10:33:00Z");
    clocked.wait(1);
    // For some seconds: nobody believes it.
    clocked.jump(TimeDelta::days(400));
    clocked.wait_for("it is noticed", |world| world.log().contains("the clock leapt ahead"));
    clocked.jump(TimeDelta::days(-400));
    says(&clocked.world.log(), &["the clock leapt ahead", "to=\"2027-07-06T10:33:"]);
    clocked.jump(TimeDelta::days(400));
    assert_eq!(clocked.world.runs().len(), 1, "nothing is missed yet");
    clocked.wait(2);
    clocked.jump(TimeDelta::days(-400));
    let log = |clocked: &Clocked| clocked.world.log();
    until("it is noticed", SOON, || log(&clocked).contains("the clock was ahead"));
    says(&log(&clocked), &["shares=1 share=\"half\" until=\"2027-07-06T10:30:00Z\"", "consign ledger rewind"]);
    let wrong =
        ["wrong", "share half fires next at 2027-07-06T11:00:00Z: the clock was ahead", "consign ledger rewind"];
    clocked.run(&["status"]).ended(0).out_says(&wrong);
    let next =
        clocked.run(&["next", "half", "-n", "1"]).ended(0).out_says(&["nothing fires until 2027-07-06T10:30:00Z"]);
    assert!(next.stdout.contains("2027-07-06T11:00:00Z") && !next.stdout.contains("2026-"), "{}", next.stdout);
    clocked.pass_until("2026-06-01T11:03:00Z");
    assert_eq!(clocked.world.runs().len(), 2, "nothing fires");

    let rewound = clocked.run(&["ledger", "rewind", "--json"]).ended(0).json();
    assert_eq!((&rewound["shares"], &rewound["kept"]), (&1.into(), &1.into()), "{rewound:#}");
    assert_eq!(rewound["from"], "2027-07-06T10:30:00Z");
    assert!(rewound["forgotten"].as_u64().unwrap() > 19_000, "{rewound:#}");
    clocked.run(&["ledger", "rewind"]).ended(0).out_says(&["no share is planned ahead of the clock"]);
    assert!(!clocked.run(&["status"]).ended(0).stdout.contains("the clock was ahead"));
    until("it is known", SOON, || log(&clocked).contains("no share is planned ahead of the clock any more"));
    // One by one: ticks stop with a clock that goes back, and the planner is woken every few seconds.
    clocked.pass_until("2026-06-01T11:33:00Z");
    clocked.wait(3);
    clocked.pass_until("2026-06-01T12:03:00Z");
    clocked.wait(4);
    // What the clock left out before it was put right is past by now, and on record.
    let at = "2026-06-01T11:00:00Z";
    clocked.run(&["backfill", "half", "--from", at, "--to", at]).ended(0);
    clocked.wait(5);
    says(&log(&clocked), &["run ended", "share=half state=succeeded"]);
    let slots = expected(&[("half", "10:30 11:00 11:30 12:00 10:30")]);
    assert_eq!(clocked.slots(), slots);
}

/// What a clock that is ahead has begun waits, when it is put right, until its time has come: its data are
/// complete only then.
#[test]
fn clocks_put_right_leave_what_is_yet_to_come_for_its_time() {
    let shares = [("half", "*/30 * * * *", "catch_up = \"all\"\n")];
    let Some(mut clocked) = Clocked::start("2026-06-01T10:20:00Z", "UTC", &shares) else { return };
    clocked.pass_until("2026-06-01T10:33:00Z");
    clocked.wait(1);
    clocked.sandbox = None;
    clocked.jump(TimeDelta::hours(2));
    clocked.wait_for("a slot of the future has begun", |world| world.runs().len() >= 2);
    clocked.jump(TimeDelta::hours(-2));
    let early = clocked.world.runs().into_iter().find(|run| run["state"] == "running").unwrap();
    clocked.wait_for("it waits for its time", |world| {
        let shown = world.run(&["show", early["run"].as_str().unwrap(), "--json"]).ended(0).json();
        shown["deliveries"][0]["failure"]["message"].as_str().is_some_and(|why| why.contains("is yet to come"))
    });
    clocked.sandbox = Some(clocked.world.sandbox_again());
    clocked.pass_until("2026-06-01T12:33:00Z");
    clocked.wait(5);
    assert_eq!(clocked.slots(), expected(&[("half", "10:30 11:00 11:30 12:00 12:30")]));
}
