//! The daemon's steps, one by one, under a clock that stands: how it goes over to
//! another configuration.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;

use super::DaemonError;
use super::desk::Desk;
use crate::clock::{Clock, Instant};
use crate::config::{Config, Environment};
use crate::domain::{CustomerName, Interval, Origin, ShareName, Slot};
use crate::ledger::{History, Ledger, Planned, RunState};
use crate::run::Parts;

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
        let shares = shares.iter().map(|share| {
            format!(
                "[shares.{share}]\nschedule = \"* * * * * *\"\ndataset = \"files\"\noverlap = \"allow\"\n\
                 to = {{ customers = [\"acme\"] }}\n"
            )
        });
        let text = format!(
            r#"
[daemon]
cache_dir = "cache"
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
    let parts = world.parts(&new).await;
    assert_eq!(desk.adopt(new, parts).await.unwrap(), 2);
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

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_change_while_it_runs_is_refused() {
    let world = World::new();
    let mut desk = world.desk(world.config("", "old", &["a"])).await;
    let new = world.config("state_dir = \"elsewhere\"\n", "new", &["a"]);
    let parts = world.parts(&new).await;
    let refused = desk.adopt(new, parts).await.unwrap_err();
    assert!(matches!(&refused, DaemonError::NeedsRestart(keys) if keys == &["daemon.state_dir"]), "{refused}");
    let message = "daemon.state_dir cannot change while consign runs; restart it, or put back what was there";
    assert_eq!(refused.to_string(), message);
    world.second(&mut desk, 1);
    until(&mut desk, "the old one goes on", |_| world.silence.asked_for("old") == 1).await;
    assert_eq!((desk.generation.number, world.silence.asked_for("new")), (1, 0));
}

/// A delivery ends while the ledger looks for what is pending: what it made room for is looked for at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_pending_during_a_look_is_looked_for_again() {
    let world = World::new();
    let mut desk = world.desk(world.config("", "old", &["a"])).await;
    desk.claim();
    desk.intake.look_for_pending();
    let answer = desk.calls.answer().await.unwrap();
    desk.hear(answer).unwrap();
    desk.claim();
    let answer = desk.calls.answer().await.expect("it is looked for again");
    desk.hear(answer).unwrap();
    desk.claim();
    assert!(desk.calls.is_empty(), "and not once more");
}

/// Deliveries that fail before they ask anybody, because their share is gone: what the
/// daemon itself can do. `cargo test --lib -- --ignored --nocapture daemon::tests::rate`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn rate_of_deliveries_that_do_nothing() {
    const SLOTS: i64 = 20_000;
    for (concurrency, shares) in [(8, 1000), (64, 1000), (1024, 1000), (64, 1)] {
        let world = World::new();
        let daemon = format!("concurrency = {concurrency}\nshare_concurrency = 1024\ncustomer_concurrency = 1024\n");
        let mut desk = world.desk(world.config(&daemon, "old", &["a"])).await;
        let acme = CustomerName::parse("acme").unwrap();
        let planned = (0..SLOTS).map(|n| {
            let at = start() + TimeDelta::seconds(n / shares);
            let slot = Slot {
                share: ShareName::parse(&format!("gone-{}", n % shares)).unwrap(),
                at,
                interval: Interval { start: at - TimeDelta::seconds(1), end: at },
            };
            Planned::new(slot, vec![acme.clone()], Origin::Schedule)
        });
        let began = std::time::Instant::now();
        desk.ledger.plan(planned.collect(), Vec::new()).await.unwrap();
        let planned = began.elapsed();
        let began = std::time::Instant::now();
        while desk.tally.failed < SLOTS.cast_unsigned() || !desk.calls.is_empty() {
            desk.go_on();
            tokio::select! {
                Some(ended) = desk.work.join_next_with_id() => desk.ended(ended).unwrap(),
                Some(answer) = desk.calls.answer() => desk.hear(answer).unwrap(),
                () = tokio::time::sleep(Duration::from_millis(20)) => desk.tick(),
            }
        }
        let rate = 20_000.0 / began.elapsed().as_secs_f64();
        println!("concurrency {concurrency}, {shares} shares: {rate:.0} deliveries/s; planned in {planned:?}");
    }
}
