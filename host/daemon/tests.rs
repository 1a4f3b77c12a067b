//! The daemon's steps, one by one, under a clock that stands: how it goes over to
//! another configuration.

mod ends;
mod planning;
mod reloads;
mod settled;
mod silence;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;

use super::desk::Desk;
use super::intake;
use crate::clock::{Clock, Instant};
use crate::config::{Config, Environment};
use crate::domain::{CustomerName, Interval, Origin, ShareName, Slot};
use crate::ledger::{DeliveryState, History, Ledger, Planned, RunState};
use crate::run::{Gauge, Parts, Recorder, Retrying, Stopper};
use crate::schedule::Planner;

/// An endpoint that never answers, and the bodies of what it was asked.
struct Silence {
    url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Silence {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let hears = heard.clone();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            while let Ok((mut caller, _)) = listener.accept() {
                let hears = hears.clone();
                open.push(caller.try_clone().unwrap());
                std::thread::spawn(move || {
                    let (mut bytes, mut text) = ([0; 4096], String::new());
                    while let Ok(length @ 1..) = caller.read(&mut bytes) {
                        text.push_str(&String::from_utf8_lossy(&bytes[..length]));
                        if text.contains("Expect: 100-continue") || text.contains("expect: 100-continue") {
                            caller.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
                        }
                        if text.contains("RoleArn=") {
                            hears.lock().unwrap().push(std::mem::take(&mut text));
                        }
                    }
                });
            }
        });
        Self { url, heard }
    }

    /// How many asked to be this role.
    fn asked_for(&self, role: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|body| body.contains(&format!("%3Arole%2F{role}&"))).count()
    }
}

struct World {
    dir: tempfile::TempDir,
    silence: Silence,
    clock: Clock,
}

fn start() -> Instant {
    "2026-03-01T06:00:00Z".parse().unwrap()
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file.txt"), "text").unwrap();
        Self { dir, silence: Silence::start(), clock: Clock::fixed(start()) }
    }

    fn config(&self, daemon: &str, role: &str, shares: &[&str]) -> Arc<Config> {
        self.scheduled("* * * * * *", daemon, role, shares)
    }

    fn scheduled(&self, schedule: &str, daemon: &str, role: &str, shares: &[&str]) -> Arc<Config> {
        let shares = shares.iter().map(|share| {
            format!(
                "[shares.{share}]\nschedule = \"{schedule}\"\ndataset = \"files\"\noverlap = \"allow\"\n\
                 to = {{ customers = [\"acme\"] }}\n"
            )
        });
        let text = format!(
            r#"
[daemon]
cache_dir = "cache"
preflight = "never"
{daemon}
[aws]
region = "us-east-1"
endpoint_url = "{}"
access_key_id = {{ env = "KEY" }}
secret_access_key = {{ env = "SECRET" }}
[datasets.files]
files = "*.txt"
[customers.acme]
role_arn = "arn:aws:iam::100000000001:role/{role}"
external_id = "an-id-of-acme"
bucket = "acme-data"
region = "us-east-1"
prefix = "in/"
{}"#,
            self.silence.url,
            shares.collect::<String>()
        );
        let path = self.dir.path().join("consign.toml");
        std::fs::write(&path, text).unwrap();
        let env = Environment::from_pairs([("KEY", "AKIAEXAMPLE"), ("SECRET", "secret")]);
        Arc::new(Config::load(Path::new(&path), &env).unwrap_or_else(|errors| panic!("{errors}")))
    }

    async fn parts(&self, config: &Config) -> Arc<Parts> {
        match Parts::build(config, self.clock.clone()).await {
            Ok(parts) => Arc::new(parts),
            Err(failure) => panic!("{failure}"),
        }
    }

    async fn desk(&self, config: Arc<Config>) -> Desk {
        let parts = self.parts(&config).await;
        let ledger = Ledger::open(&self.dir.path().join("state"), self.clock.clone()).unwrap();
        Desk::open(config, parts, ledger).await.unwrap()
    }

    /// What a reload makes beside the loop.
    async fn loaded(&self, desk: &Desk, config: &Arc<Config>) -> (Arc<Config>, Arc<Parts>, Planner) {
        let planner = intake::planner(&desk.ledger, config, self.clock.now()).await.unwrap();
        (config.clone(), self.parts(config).await, planner)
    }

    fn second(&self, desk: &mut Desk, second: i64) {
        self.clock.set(start() + TimeDelta::seconds(second));
        desk.tick();
    }
}

/// Goes on until it is as wanted.
async fn until(desk: &mut Desk, what: &str, done: impl Fn(&Desk) -> bool) {
    for _ in 0..1500 {
        desk.go_on();
        if done(desk) {
            return;
        }
        tokio::select! {
            Some(ended) = desk.work.join_next_with_id() => desk.ended(ended).unwrap(),
            Some(answer) = desk.calls.answer() => desk.hear(answer).unwrap(),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    panic!("{what}: not within 30 seconds");
}

/// The ledger's next answer.
async fn answered(desk: &mut Desk, what: &str) {
    let answer = desk.calls.answer().await.expect(what);
    desk.hear(answer).unwrap();
}

/// How many runs of a share there are in this state.
async fn runs(desk: &Desk, share: &str, state: RunState) -> usize {
    let all = desk.ledger.reader().history(History { limit: 1000, ..History::default() }).await.unwrap();
    all.iter().filter(|run| run.share.as_str() == share && run.state == state).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_at_work_ends_under_its_own_generation() {
    let world = World::new();
    let mut desk = world.desk(world.config("concurrency = 2\nshare_concurrency = 2\n", "old", &["a", "b"])).await;
    let silence = &world.silence;
    world.second(&mut desk, 1);
    until(&mut desk, "both are at work", |_| silence.asked_for("old") == 2).await;
    // No place is left for these: one waits here, and one in the ledger.
    world.second(&mut desk, 2);
    until(&mut desk, "one waits", |desk| desk.queue.waiting() == 1 && desk.calls.is_empty()).await;

    // `b` is gone, there is a `c`, and the role is another.
    let new = world.config("concurrency = 6\n", "new", &["a", "c"]);
    let (new, parts, planner) = world.loaded(&desk, &new).await;
    assert_eq!(desk.adopt(new, parts, planner), 2);
    until(&mut desk, "what waited began under the new one", |desk| {
        silence.asked_for("new") == 1 && desk.tally.failed == 1
    })
    .await;
    assert_eq!((silence.asked_for("old"), desk.queue.at_work(), desk.queue.waiting()), (2, 3, 0));
    until(&mut desk, "the run of the share that is gone has ended", |desk| desk.calls.is_empty()).await;
    assert_eq!((runs(&desk, "b", RunState::Failed).await, runs(&desk, "b", RunState::Running).await), (1, 1));

    // From now on the schedule is the new one's, and a slot that was planned is not planned again.
    world.second(&mut desk, 3);
    until(&mut desk, "both new shares are at work", |_| silence.asked_for("new") == 3).await;
    let running = [runs(&desk, "a", RunState::Running).await, runs(&desk, "c", RunState::Running).await];
    assert_eq!((running, runs(&desk, "b", RunState::Running).await), ([3, 1], 1));
    assert_eq!(silence.asked_for("old"), 2, "what had begun was begun again");
}

/// The old schedule goes on until the new one takes its place, and its answers come later still.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_planned_while_a_configuration_was_read_is_not_planned_again() {
    let world = World::new();
    let mut desk = world.desk(world.scheduled("*/2 * * * * *", "", "old", &["a"])).await;
    world.second(&mut desk, 2);
    until(&mut desk, "a slot has begun", |desk| desk.at_work.len() == 1 && desk.calls.is_empty()).await;
    let (new, parts, planner) = world.loaded(&desk, &world.scheduled("1-59/2 * * * * *", "", "new", &["a", "c"])).await;
    world.second(&mut desk, 4);
    until(&mut desk, "another slot has begun", |desk| desk.at_work.len() == 2 && desk.calls.is_empty()).await;
    world.second(&mut desk, 6);
    desk.go_on();
    assert!(!desk.calls.is_empty(), "a plan is under way");
    desk.adopt(new, parts, planner);
    until(&mut desk, "all has begun", |desk| desk.at_work.len() + desk.queue.waiting() == 5).await;
    until(&mut desk, "nothing is asked", |desk| desk.calls.is_empty()).await;
    let all = desk.ledger.reader().history(History { limit: 1000, ..History::default() }).await.unwrap();
    let mut slots: Vec<(&str, i64)> =
        all.iter().map(|run| (run.share.as_str(), (run.slot - start()).num_seconds())).collect();
    slots.sort_unstable();
    // `a` goes on from its last slot, and `c` began when the planner was made.
    assert_eq!(slots, [("a", 2), ("a", 4), ("a", 6), ("c", 3), ("c", 5)]);
    let cursors = desk.ledger.cursors().await.unwrap();
    let seconds: Vec<i64> = cursors.iter().map(|(_, cursor)| (cursor.at - start()).num_seconds()).collect();
    assert_eq!(seconds, [6, 5]);
    // The last slot of the old schedule is none of the new one's, which goes on from it all the same.
    world.second(&mut desk, 7);
    until(&mut desk, "the next ones have begun", |desk| desk.at_work.len() + desk.queue.waiting() == 7).await;
    let all = desk.ledger.reader().history(History { limit: 1000, ..History::default() }).await.unwrap();
    let next = all.iter().find(|run| run.share.as_str() == "a" && run.slot == start() + TimeDelta::seconds(7));
    assert_eq!(next.unwrap().interval.start, start() + TimeDelta::seconds(6));
}

/// How long a reload holds the loop up. `cargo test --lib -- --ignored --nocapture daemon::tests::reload`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn reload_of_many_shares() {
    const SHARES: usize = 100_000;
    let world = World::new();
    let names: Vec<String> = (0..SHARES).map(|n| format!("share-{n:06}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let config = world.scheduled("30 7 1 1 *", "", "old", &names);
    let cursors = config.shares.keys().map(|share| (share.clone(), start())).collect();
    let mut desk = world.desk(config).await;
    desk.ledger.plan(Vec::new(), cursors).await.unwrap();
    for _ in 0..3 {
        let new = world.scheduled("30 7 1 1 *", "", "new", &names);
        let began = std::time::Instant::now();
        let (new, parts, planner) = world.loaded(&desk, &new).await;
        let beside = began.elapsed();
        let began = std::time::Instant::now();
        desk.adopt(new, parts, planner);
        println!("{SHARES} shares: made ready in {beside:?}, the loop held up for {:?}", began.elapsed());
    }
}

/// A process that ends takes away threads, timers and connections, and what fails for
/// want of them is not the delivery's failure. The next start begins it again.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_because_the_process_ends_has_not_failed() {
    let world = World::new();
    let config = world.config("", "old", &["a"]);
    let parts = world.parts(&config).await;
    let ledger = Ledger::open(&world.dir.path().join("state"), world.clock.clone()).unwrap();
    let (share, interval) = (ShareName::parse("gone").unwrap(), Interval { start: start(), end: start() });
    let (slot, acme) = (Slot { share, at: start(), interval }, CustomerName::parse("acme").unwrap());
    ledger.plan(vec![Planned::new(slot.clone(), vec![acme.clone()], Origin::Schedule)], Vec::new()).await.unwrap();
    let claim = ledger.claim(1, 0).await.unwrap().runs.remove(0);
    let (run, delivery) = (claim.run, claim.deliveries[0].1);
    let stopper = Stopper::default();
    let deliver = async |stop, patience| {
        let (slot, customer, retrying) = (&slot, &acme, Retrying::Daemon);
        let (parts, ledger, config, gauge) = (&parts, &ledger, &config, Gauge::default());
        let recorder = Recorder { parts, ledger, config, run, slot, customer, retrying, stop, gauge };
        tokio::time::timeout(patience, recorder.deliver(delivery)).await.map(|outcome| outcome.is_ok())
    };
    let state = async || ledger.open_delivery(delivery).await.unwrap().state;

    let forsaken = Stopper::default().listen(None);
    assert!(deliver(forsaken, Duration::from_secs(2)).await.is_err(), "forsaken, it went on");
    assert_eq!(state().await, DeliveryState::Working);
    ledger.interrupted(ledger.open_delivery(delivery).await.unwrap().attempt.unwrap().id).await.unwrap();
    assert_eq!(deliver(stopper.listen(None), Duration::from_secs(60)).await, Ok(true));
    assert_eq!(state().await, DeliveryState::Failed);
}

/// A delivery ends while the ledger looks for what is pending: what it made room for is looked for at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_pending_during_a_look_is_looked_for_again() {
    let world = World::new();
    let mut desk = world.desk(world.config("", "old", &["a"])).await;
    desk.claim();
    desk.intake.look_for_pending();
    answered(&mut desk, "it is looked for").await;
    desk.claim();
    answered(&mut desk, "it is looked for again").await;
    desk.claim();
    assert!(desk.calls.is_empty(), "and not once more");
}
