//! Crash sweeps: consign dies at its first write to the ledger, at its second,
//! and so on, and at every named point; and the same with errors of the disk.
//! Each time the next process makes everything good.
//!
//! By default each sweep takes some of the numbers, spread over the whole life;
//! `CONSIGN_SWEEP=all` takes every one. strace does it (Debian: strace); where it
//! is not installed or may not trace, those tests say so and test nothing.

mod points;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use consign::clock::Clock;
use consign::domain::{Interval, Origin, ShareName, SkipReason, Slot};
use consign::ledger::{Ledger, Planned};
use rustix::process::Signal;
use serde_json::Value;

use super::audit::Audit;
use super::world::{self, MANIFEST, SOON, World, checkout, stop};
use crate::support::strace::may_trace;

/// Several objects and pieces for each delivery, two slots that were missed, and another try at once.
const SHARE: &str = r#"
schedule = "@daily"
success_marker = true
catch_up = "all"
catch_up_window = "3days"
max_object_size = "100 kB"
piece_rows = 400
retry = { attempts = 20, backoff = "50ms", max_backoff = "200ms" }
to = { customers = ["acme", "beta"] }
"#;

const CUSTOMERS: [(&str, u64); 2] = [("acme", 714), ("beta", 342)];

/// Lives at the same time: each waits for disks and sockets most of the time.
const LANES: usize = 3;

/// A process that was disturbed and gets nowhere is ended after this.
const PATIENCE: Duration = Duration::from_secs(4);

/// All of a sweep is wanted, and not a part.
pub fn is_whole() -> bool {
    std::env::var("CONSIGN_SWEEP").is_ok_and(|wanted| wanted == "all")
}

/// Does one after the other, so many at the same time.
pub fn in_lanes<T: Sync>(lanes: usize, all: &[T], one: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while let Some(of) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    one(of);
                }
            });
        }
    });
}

/// The first of the two slots. The share ends with the other one, so that a day that begins meanwhile changes neither.
fn first_slot() -> DateTime<Utc> {
    static FIRST: OnceLock<DateTime<Utc>> = OnceLock::new();
    *FIRST.get_or_init(|| Clock::system().now().date_naive().and_time(NaiveTime::MIN).and_utc() - TimeDelta::days(1))
}

/// What the process does whose calls are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    /// `consign send`, into a ledger that is there or that it makes.
    Send { new_ledger: bool },
    /// `consign run`: forgets an old slot, catches up with two, ends when told.
    Daemon,
    /// A command that finds a ledger of this earlier version, and has nothing to do but to bring it up to date.
    Migration(u8),
}

impl Life {
    fn args(self) -> Vec<String> {
        let args = match self {
            Life::Send { .. } => format!("send daily --at {}", first_slot().to_rfc3339()),
            Life::Daemon => "run".to_owned(),
            Life::Migration(_) => "ledger prune --older-than 36500days".to_owned(),
        };
        args.split(' ').map(str::to_owned).collect()
    }

    fn world(self) -> World {
        let customers =
            world::customer("acme", 1, "us-east-1", "\"AS\"") + &world::customer("beta", 2, "us-east-1", "\"HA\"");
        let keys = format!("end = {}\n{SHARE}", (first_slot() + TimeDelta::days(1)).format("%FT%TZ"));
        // An upload that is only tried is in no ledger.
        let world = World::new(&format!("preflight = \"never\"\n{}", world::flights(&customers, "daily", &keys)));
        match self {
            Life::Send { new_ledger: true } => {}
            Life::Migration(_) => {
                fs::create_dir(world.path("state")).unwrap();
                fs::copy(self.golden().unwrap(), world.path("state/ledger.db")).unwrap();
            }
            _ => prepare(&world),
        }
        world
    }

    /// The ledger that a life begins with, where it is kept for that.
    fn golden(self) -> Option<PathBuf> {
        let Life::Migration(version) = self else { return None };
        Some(checkout(&format!("tests/golden/ledger/{version}.db")))
    }

    /// One process, from its start to its end, whoever ends it.
    fn live(self, world: &World, wrapper: &[String], environment: &[(&str, &str)]) -> ExitStatus {
        let args = self.args();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut process = world.start(wrapper, &args, environment);
        if self == Life::Daemon {
            let (begun, earlier) = (Instant::now(), readiness(world));
            let is_done = || readiness(world) > earlier && has_all(world);
            let mut disturbed = wrapper.is_empty().then_some(begun);
            let loses_patience = |since: Instant| since.elapsed() > PATIENCE;
            while process.is_running() && !is_done() && !disturbed.is_some_and(loses_patience) {
                assert!(begun.elapsed() < SOON, "nothing disturbs it, and it gets nowhere: {}", log(world));
                disturbed = disturbed.or_else(|| is_injected(world).then(Instant::now));
                sleep(Duration::from_millis(20));
            }
            if process.is_running() {
                process.signal(Signal::TERM);
            }
        }
        process.wait(SOON)
    }

    /// All is right, and every slot is there that this process was to deliver.
    fn audit(self, audit: &Audit<'_>) {
        if let Some(golden) = self.golden() {
            audit.world.run(&["ledger", "check"]).ended(0).out_says(&["the ledger is whole"]);
            return assert_eq!(rows(&audit.world.path("state/ledger.db")), rows(&golden));
        }
        let slots = audit.slots();
        for day in 0..if self == Life::Daemon { 2 } else { 1 } {
            let slot = first_slot() + TimeDelta::days(day);
            assert!(slots.contains(&slot), "{slot} is lost: {slots:?}");
        }
    }

    /// A process that nothing happens to: it leaves nothing undone.
    fn make_good(self, world: &World) {
        match self {
            Life::Send { .. } | Life::Migration(_) => {
                let args = self.args();
                world.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).ended(0);
            }
            Life::Daemon => daemon_until(world, "both slots are committed", |runs| {
                if let Some(failed) = runs.iter().find(|run| run["state"] == "failed") {
                    let shown = world.run(&["show", failed["run"].as_str().unwrap(), "--json"]).ended(0);
                    panic!("{}\n{}", shown.stdout, log(world));
                }
                runs.len() >= 2 && runs.iter().all(|run| run["state"] == "succeeded")
            }),
        }
    }
}

/// What a ledger has of everything.
fn rows(file: &Path) -> Vec<i64> {
    let ledger = rusqlite::Connection::open(file).unwrap();
    let tables = ["shares", "slots", "runs", "deliveries", "attempts", "uploads", "objects"];
    let count = |table| ledger.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
    tables.iter().map(|table| count(table).unwrap()).collect()
}

/// A ledger that knows a slot to be forgotten, and that two have been missed since.
fn prepare(world: &World) {
    let share = ShareName::parse("daily").unwrap();
    let at: DateTime<Utc> = "2020-01-02T00:00:00Z".parse().unwrap();
    let interval = Interval { start: at - TimeDelta::days(1), end: at };
    let slot = Slot { share: share.clone(), at, interval };
    let skip = Some(SkipReason::Missed);
    let old = Planned { skip, ..Planned::new(slot, Vec::new(), Origin::Schedule) };
    let ledger = Ledger::open(&world.path("state"), Clock::fixed(at)).unwrap();
    let planned = ledger.plan(vec![old], vec![(share, first_slot() - TimeDelta::days(1))]);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(planned).unwrap();
}

fn manifests(world: &World) -> usize {
    fn count(folder: &Path) -> usize {
        let Ok(entries) = fs::read_dir(folder) else { return 0 };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.map(|path| if path.is_dir() { count(&path) } else { usize::from(path.ends_with(MANIFEST)) }).sum()
    }
    CUSTOMERS.iter().map(|(name, _)| count(&world.path(&format!("buckets/{name}-data")))).sum()
}

/// All of both slots.
fn has_all(world: &World) -> bool {
    manifests(world) >= 2 * CUSTOMERS.len()
}

fn daemon_until(world: &World, what: &str, done: impl Fn(&[Value]) -> bool) {
    let earlier = readiness(world);
    let mut daemon = world.daemon();
    let begun = Instant::now();
    while !(readiness(world) > earlier && done(&world.runs())) {
        assert!(daemon.is_running() && begun.elapsed() < SOON, "{what}: {:?}\n{}", world.runs(), log(world));
        sleep(Duration::from_millis(10));
    }
    stop(daemon);
}

/// How often a daemon was ready: before that, a signal just ends it.
fn readiness(world: &World) -> usize {
    log(world).matches("consign is ready").count()
}

fn log(world: &World) -> String {
    fs::read_to_string(world.path("daemon.log")).unwrap_or_default()
}

/// What happens to one of the system calls on the ledger's files.
#[derive(Clone, Copy)]
struct Fault {
    calls: &'static str,
    /// As strace says it.
    what: &'static str,
    /// That call and all that follow.
    for_good: bool,
}

impl Fault {
    const fn new(calls: &'static str, what: &'static str) -> Self {
        Self { calls, what, for_good: false }
    }

    fn is_kill(self) -> bool {
        self.what.starts_with("signal")
    }

    /// Calls are counted for each thread, and the ledger's files are written by one.
    fn strace(self, life: Life, world: &World, number: usize) -> Vec<String> {
        let Fault { calls, what, .. } = self;
        let on = if self.for_good { "+" } else { "" };
        let mut words = vec!["strace".to_owned(), "-D".to_owned(), "-f".to_owned(), "-qq".to_owned()];
        words.extend(["-o".to_owned(), world.path("trace").display().to_string()]);
        // A new ledger has another name while it is made, and one that is changed may have another journal.
        if !matches!(life, Life::Send { new_ledger: true } | Life::Migration(_)) {
            for file in ["ledger.db", "ledger.db-wal"] {
                words.extend(["-P".to_owned(), world.path(&format!("state/{file}")).display().to_string()]);
            }
        }
        words.extend(["-e".to_owned(), format!("trace={calls}")]);
        words.extend(["-e".to_owned(), format!("inject={calls}:{what}:when={number}{on}"), "--".to_owned()]);
        words
    }

    /// Whether it came to pass.
    fn has_hit(self, world: &World, status: ExitStatus) -> bool {
        match self.is_kill() {
            true => status.signal() == Some(Signal::KILL.as_raw()),
            false => is_injected(world),
        }
    }
}

fn is_injected(world: &World) -> bool {
    fs::read_to_string(world.path("trace")).is_ok_and(|trace| trace.contains("INJECTED"))
}

/// Has the fault happen at call number 1, 1 + `step` and so on, until a life goes
/// by without it. After each, what is left is made good and audited.
fn sweep(life: Life, fault: Fault, step: usize) {
    if !may_trace() {
        return;
    }
    let step = if is_whole() { 1 } else { step };
    let (next, over, hits) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicUsize::new(0));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let number = 1 + step * next.fetch_add(1, Ordering::Relaxed);
                    let one = std::panic::catch_unwind(|| one(life, fault, number));
                    match one {
                        Ok(true) => drop(hits.fetch_add(1, Ordering::Relaxed)),
                        Ok(false) => over.store(true, Ordering::Relaxed),
                        Err(_) => failed.lock().unwrap().push(number),
                    }
                }
            });
        }
    });
    let (hits, failed) = (hits.into_inner(), failed.into_inner().unwrap());
    println!("{life:?}, {} at {}: {hits} times, {} breaches", fault.what, fault.calls, failed.len());
    assert!(failed.is_empty(), "{life:?}, {} at {} number {failed:?}: see above", fault.what, fault.calls);
    assert!(hits > 2, "{hits} of the calls were hit: are they still those that the ledger makes?");
}

fn one(life: Life, fault: Fault, number: usize) -> bool {
    let world = life.world();
    let _sandbox = life.golden().is_none().then(|| world.sandbox());
    let strace = fault.strace(life, &world, number);
    let status = life.live(&world, &strace, &[]);
    let hit = fault.has_hit(&world, status);
    assert!(hit || life != Life::Daemon || has_all(&world), "it ended before its work did: {}", log(&world));
    // What cannot be written down of an upload is as unknown as after a kill.
    let mut kills = usize::from(hit);
    if fault.is_kill() && hit {
        // And at the same number again, on the way back.
        kills += usize::from(life.live(&world, &strace, &[]).signal().is_some());
    } else {
        assert!(status.code().is_some(), "{status}: {}", log(&world));
    }
    life.make_good(&world);
    life.audit(&Audit { world: &world, customers: &CUSTOMERS, kills, failed: !fault.is_kill() });
    hit
}

const SEND: Life = Life::Send { new_ledger: false };
const KILL: &str = "signal=KILL";

#[test]
fn sweep_kills_send_at_every_fsync() {
    sweep(SEND, Fault::new("fsync,fdatasync", KILL), 2);
}

#[test]
fn sweep_kills_send_at_every_write() {
    sweep(SEND, Fault::new("pwrite64", KILL), 23);
}

#[test]
fn sweep_kills_send_that_makes_its_ledger() {
    let life = Life::Send { new_ledger: true };
    sweep(life, Fault::new("fsync,fdatasync", KILL), 4);
    sweep(life, Fault::new("pwrite64", KILL), 41);
}

#[test]
fn sweep_kills_the_daemon_at_every_fsync() {
    sweep(Life::Daemon, Fault::new("fsync,fdatasync", KILL), 5);
}

#[test]
fn sweep_kills_the_daemon_at_every_write() {
    sweep(Life::Daemon, Fault::new("pwrite64", KILL), 53);
}

/// Cut off while it is brought up to date, a ledger is of the earlier version or of the later one.
#[test]
fn sweep_kills_a_migration() {
    let golden = |version: &u8| Life::Migration(*version).golden().is_some_and(|file| file.exists());
    let versions: Vec<u8> = (1..).take_while(golden).collect();
    assert!(versions.len() >= 5, "{versions:?}");
    for version in versions {
        sweep(Life::Migration(version), Fault::new("fsync,fdatasync", KILL), 1);
        // The earlier it is, the more there is to write.
        let step = if version < 3 { 7 } else { 3 };
        sweep(Life::Migration(version), Fault::new("pwrite64", KILL), step);
    }
}

/// A disk that fails once: the process ends, or the delivery is tried again.
#[test]
fn sweep_of_errors_of_the_disk() {
    sweep(Life::Daemon, Fault::new("fsync,fdatasync", "error=EIO"), 9);
    sweep(Life::Daemon, Fault::new("pwrite64", "error=EIO"), 97);
    sweep(SEND, Fault::new("fsync,fdatasync", "error=EIO"), 5);
}

/// A disk that is full, for once or from then on: the daemon waits for room.
#[test]
fn sweep_of_a_full_disk() {
    sweep(Life::Daemon, Fault::new("pwrite64", "error=ENOSPC"), 97);
    sweep(Life::Daemon, Fault { for_good: true, ..Fault::new("pwrite64", "error=ENOSPC") }, 97);
    sweep(SEND, Fault::new("pwrite64", "error=ENOSPC"), 53);
}
