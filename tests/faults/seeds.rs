//! Faults of all kinds, deaths and restarts together, drawn from a seed. What is at
//! work when it is over comes to its end, and then every promise must hold.
//!
//! `CONSIGN_SOAK_SEEDS=500` draws as many, `CONSIGN_SOAK_HOURS=2` draws for so long,
//! `CONSIGN_SEED=17` draws one again.

use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::scene::{Missing, Plan, SHARES, Scene, Server};
use super::storm::{Chance, storm};
use crate::cli::world::{Running, SOON, until};
use crate::support::postgres::Postgres;

/// Scenes at the same time: each waits for schedules and backoff most of the time.
const LANES: usize = 4;

/// For what takes a start of the daemon, on a machine that is busy with all the others.
const PATIENCE: Duration = Duration::from_secs(180);

/// Of `make test`.
const FEW: u64 = 24;

/// Slots come all the time, and whatever fails is tried again at once.
const OFTEN: &str = "schedule = \"*/2 * * * * *\"\noverlap = \"allow\"\nto = { all = true }\n\
    retry = { attempts = 20, backoff = \"50ms\", max_backoff = \"200ms\" }";
const SELDOM: &str = "schedule = \"*/3 * * * * *\"\noverlap = \"queue\"\nto = { customers = [\"acme\", \"beta\"] }\n\
    retry = { attempts = 3, backoff = \"50ms\", max_backoff = \"200ms\" }";
/// One takes the place of another.
const NEWEST: &str = "schedule = \"*/3 * * * * *\"\nto = { customers = [\"beta\", \"gamma\"] }\n\
    retry = { attempts = 6, backoff = \"50ms\", max_backoff = \"200ms\" }";
const CATCH_UP: &str = "catch_up = \"all\"\ncatch_up_window = \"1h\"\n";

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// Draws, in lanes, and tells of every seed that broke a promise.
pub fn draw(what: &str, few: u64, one: impl Fn(u64) -> String + Sync) {
    if let Some(seed) = number("CONSIGN_SEED") {
        println!("{what}, seed {seed}: {}", one(seed));
        return;
    }
    let lasts = number("CONSIGN_SOAK_HOURS").map(|hours| Duration::from_secs(hours * 3600));
    let many = lasts.map_or_else(|| number("CONSIGN_SOAK_SEEDS").unwrap_or(few), |_| u64::MAX);
    // Others than those of the last time, where it goes on for hours.
    let first = if lasts.is_some() { u64::from(std::process::id()) << 20 } else { 0 };
    let (next, done, broken) = (AtomicU64::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= many || lasts.is_some_and(|lasts| begun.elapsed() > lasts) {
                        break;
                    }
                    let seed = first + number;
                    match catch_unwind(AssertUnwindSafe(|| one(seed))) {
                        Ok(told) => println!("{what}, seed {seed}: {told}"),
                        Err(_) => broken.lock().unwrap().push(seed),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (done, broken) = (done.into_inner(), broken.into_inner().unwrap());
    println!("{what}: {done} seeds, {} broken, {:.0?}", broken.len(), begun.elapsed());
    assert!(broken.is_empty(), "{what}: see above; again with CONSIGN_SEED={broken:?}, one of them");
}

/// Daemons, each of which is started again when it dies.
pub struct Daemons<'a> {
    scene: &'a Scene,
    configs: Vec<&'static str>,
    running: Vec<Running>,
    /// Deaths that no fault of the proxy was.
    pub kills: usize,
    pub starts: usize,
}

impl<'a> Daemons<'a> {
    pub fn start(scene: &'a Scene, configs: &[&'static str]) -> Self {
        let running = configs.iter().map(|config| scene.start(config, &["run"])).collect();
        Self { scene, configs: configs.to_vec(), running, kills: 0, starts: configs.len() }
    }

    /// Starts again whoever has died.
    pub fn tend(&mut self) {
        for (config, running) in self.configs.iter().zip(&mut self.running) {
            if !running.is_running() {
                *running = self.scene.start(config, &["run"]);
                self.starts += 1;
            }
        }
    }

    pub fn signal(&mut self, one: u64, signal: Signal) {
        let one = usize::try_from(one).unwrap() % self.running.len();
        if self.running[one].is_running() {
            self.running[one].signal(signal);
            self.kills += usize::from(signal == Signal::KILL);
        }
    }

    /// Ends all of them well. Of several, one that was kept waiting by a busy machine may have lost its lease.
    pub fn stop(mut self) -> (usize, usize) {
        for running in &self.running {
            running.signal(Signal::TERM);
        }
        for running in &mut self.running {
            let status = running.wait(SOON);
            // Before it is ready, the signal itself ends it.
            let is_well = status.code() == Some(0) || status.signal() == Some(Signal::TERM.as_raw());
            let is_fenced =
                || status.code() == Some(4) && self.scene.log().contains("the lease on this consign's work ran out");
            assert!(is_well || is_fenced(), "{status}: {}", self.scene.log());
        }
        (self.kills, self.starts)
    }
}

/// Uploads that could not be aborted are tried again at the next start.
pub fn tidies(scene: &Scene, config: &'static str) {
    let mut last = Daemons::start(scene, &[config]);
    until("nothing is left behind", SOON, || {
        last.tend();
        scene.count("uploads WHERE state = 'created'") == 0
    });
    scene.settles();
    last.stop();
}

/// However many there are on a busy machine: as long as one after the other ends, nothing hangs.
fn comes_to_its_end(scene: &Scene, daemons: &mut Daemons<'_>) {
    let (mut left, mut since) = (u64::MAX, Instant::now());
    while left > 0 {
        daemons.tend();
        let open = scene.count("deliveries WHERE state NOT IN ('committed', 'failed')");
        let now = open
            + scene.count("slots WHERE state IN ('pending', 'held')")
            + scene.count("runs WHERE state = 'running'");
        if now < left {
            (left, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "all has come to its end: {now} have not, and nothing for {PATIENCE:?}");
        sleep(Duration::from_millis(20));
    }
}

/// Bad weather for a while, then good; returns what came of it.
pub fn weather(scene: &Scene, configs: &[&'static str], seed: u64) -> String {
    let mut chance = Chance::new(seed);
    let (rate, deaths) = (4 + chance.below(16), chance.below(30));
    let lasts = Duration::from_millis(2500 + chance.below(2500));
    scene.proxy.obey(storm(seed, rate, deaths));
    let begun = Instant::now();
    let mut daemons = Daemons::start(scene, configs);
    let mut next = Duration::from_millis(300 + chance.below(2500));
    while begun.elapsed() < lasts {
        if begun.elapsed() > next {
            let signal = if chance.below(3) == 0 { Signal::TERM } else { Signal::KILL };
            daemons.signal(chance.next() >> 8, signal);
            next += Duration::from_millis(700 + chance.below(3000));
        }
        daemons.tend();
        sleep(Duration::from_millis(20));
    }
    scene.proxy.heal();
    scene.has_time(configs);
    // Which also has customers looked at who seemed not to be ready: by itself a daemon waits a minute and more.
    until("the daemons know it", PATIENCE, || {
        daemons.tend();
        configs.iter().all(|config| scene.start(config, &["reload"]).wait(SOON).code() == Some(0))
    });
    // A daemon that is told to end at this moment ends; the next one stays.
    until("nothing is planned any more", PATIENCE, || {
        daemons.tend();
        SHARES.iter().all(|share| scene.run(&["pause", share]).code() == Some(0))
    });
    comes_to_its_end(scene, &mut daemons);
    let (kills, starts) = daemons.stop();
    let missing = scene.missing();
    let (overtaken, wanted): (Vec<_>, Vec<_>) = missing.iter().partition(|missing| missing.overtaken);
    // Of those whose place is taken one tells as much as all.
    for Missing { share, at, overtaken } in wanted.into_iter().chain(overtaken.into_iter().next_back()) {
        let status = scene.run(&["send", share, "--at", at]);
        let told = || format!("seed {seed}, {share} {at}: {}\n{}", scene.log(), scene.failures());
        assert_eq!(status.code(), Some(i32::from(*overtaken)), "{}", told());
    }
    tidies(scene, configs[0]);
    assert!(scene.world.run(&["ledger", "check"]).code == 0);
    let story = scene.story(kills);
    let faults = story.events.iter().filter(|event| event.fault.is_some()).count();
    let told = format!(
        "{} requests, {faults} faults, {} deaths, {starts} starts, {} deliveries, {} by hand, {:.1?}",
        story.events.len(),
        story.kills,
        story.ledger.deliveries.len(),
        missing.len(),
        begun.elapsed()
    );
    story.holds(&format!("seed {seed}: {told}"));
    told
}

/// Every fourth at the other server; every fifth of the others with files of two parts, which take longer. Of three two
/// look at customers first, as is the default.
/// Where slots take each other's place, the next one waits or has the one before given up.
fn plan(seed: u64, postgres: Option<&'static Postgres>) -> Plan {
    let server = if seed % 4 == 3 { Server::Ministack } else { Server::Sandbox };
    let large = server == Server::Sandbox && seed.is_multiple_of(5);
    let patience = [if large { "1500ms" } else { "500ms" }, "8s"];
    let [rows, files, newest] = [OFTEN, SELDOM, NEWEST].map(|keys| format!("{keys}\n{CATCH_UP}"));
    let overlap = if seed.is_multiple_of(2) { "queue" } else { "cancel" };
    let newest = format!("{newest}overlap = \"{overlap}\"");
    let preflight = if seed % 3 == 1 { "never" } else { "first" };
    Plan { server, rows, files, newest, patience, large, preflight, postgres }
}

fn one(seed: u64) -> String {
    weather(&Scene::new(&plan(seed, None)), &["consign.toml"], seed)
}

#[test]
fn faults_at_random_with_deaths_and_restarts() {
    draw("one daemon", FEW, one);
}

/// Two daemons on one ledger, either of which may die.
pub fn pair(seed: u64, postgres: &'static Postgres) -> String {
    let scene = Scene::new(&plan(seed, Some(postgres)));
    let text = scene.world.text();
    scene.world.write("other.toml", text.replace("state_dir = \"state\"", "state_dir = \"other\""));
    weather(&scene, &["consign.toml", "other.toml"], seed)
}
