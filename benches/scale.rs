//! What many shares and many deliveries cost, against the targets of the project.
//!
//! ```text
//! make bench-scale                                     # in the profile of the tests, about 3 minutes
//! CONSIGN_BENCH_SHARES=10000 make bench-scale
//! CONSIGN_BENCH_ONLY=ledger make bench-scale           # or config, slots, idle
//! ```
//!
//! - **ledger**: deliveries without rows, plugin or bucket, through every step that a
//!   real one writes down: claimed, attempt, two uploads, draft, sealed, committed,
//!   run ended. Against one at a time, and against bare SQLite.
//! - **config**: `Config::load` of many shares in many files, in a process of its own
//!   for its peak memory (`VmHWM`). Against the bare parser over the same files.
//! - **slots**: every share fires in the same minute, until all slots are pending in
//!   the ledger.
//! - **idle**: the CPU time of `consign run` while none of its shares is due.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench prints its figures and may panic"
)]

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use consign::calendar::{Calendar, Jitter};
use consign::clock::Clock;
use consign::config::{CatchUp, Config, Environment};
use consign::domain::{
    AccountId, BucketName, CustomerName, CustomerPrefix, Destination, Interval, KeyFacts, KeyTemplate, LeafName,
    Manifest, ManifestInterval, ManifestObject, ObjectKey, Origin, SealedObject, SealedPart, ShareName, Slot,
};
use consign::ledger::{Claim, Committed, Ledger, Planned};
use consign::schedule::{Planner, Recurring};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const CONSIGN: &str = env!("CARGO_BIN_EXE_consign");
const IDLE: Duration = Duration::from_secs(30);

/// `USER_HZ`, which programs see as 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Where the ledger is, and what it is to do there.
struct Backend {
    name: &'static str,
    deliveries_per_second: f64,
    /// None where there is none of this kind.
    open: fn(&Path) -> Option<Ledger>,
}

const BACKENDS: [Backend; 1] = [Backend {
    name: "SQLite",
    deliveries_per_second: 5_000.0,
    open: |dir| Some(Ledger::open(dir, Clock::system()).expect("a ledger")),
}];

fn main() {
    if let Ok(path) = std::env::var("CONSIGN_BENCH_LOAD") {
        return load(Path::new(&path));
    }
    let only = std::env::var("CONSIGN_BENCH_ONLY").ok();
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    let shares = number("CONSIGN_BENCH_SHARES").unwrap_or(100_000);
    let profile = if cfg!(debug_assertions) { "dev (opt-level 1)" } else { "release" };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("profile {profile}, {cores} cores, {shares} shares");
    println!("{:<60} {:>12} {:>12}  {}", "figure", "measured", "target", "met");
    for backend in BACKENDS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        if wanted("ledger") {
            ledger(&backend, dir.path());
        }
        if wanted("slots") {
            slots(&backend, &dir.path().join("slots"), shares);
        }
    }
    if wanted("config") || wanted("idle") {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write_config(dir.path(), shares);
        if wanted("config") {
            config(dir.path(), shares);
        }
        if wanted("idle") {
            idle(dir.path());
        }
    }
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

enum Target {
    AtLeast(f64),
    Under(f64),
    None,
}

fn row(figure: &str, measured: f64, unit: &str, target: Target) {
    let show = |value: f64| {
        let digits = if value < 10.0 { 2 } else { 0 };
        format!("{value:.digits$} {unit}")
    };
    let (wanted, met) = match target {
        Target::AtLeast(least) => (show(least), if measured >= least { "yes" } else { "NO" }),
        Target::Under(most) => (format!("< {}", show(most)), if measured < most { "yes" } else { "NO" }),
        Target::None => (String::new(), ""),
    };
    println!("{figure:<60} {:>12} {wanted:>12}  {met}", show(measured));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

// ---- ledger

fn ledger(backend: &Backend, dir: &Path) {
    let deliveries = number("CONSIGN_BENCH_DELIVERIES").unwrap_or(20_000);
    let name = backend.name;
    let mut rates = Vec::new();
    for (at_once, count) in [(1, deliveries / 100), (8, deliveries / 20), (64, deliveries / 2), (512, deliveries)] {
        let Some(ledger) = (backend.open)(&dir.join(format!("ledger-{at_once}"))) else {
            println!("{:<60} not measured: there is none", format!("{name}, deliveries"));
            return;
        };
        let seconds = runtime().block_on(deliver(ledger, count.max(at_once), at_once));
        let rate = count.max(at_once) as f64 / seconds;
        let target = if at_once == 512 { Target::AtLeast(backend.deliveries_per_second) } else { Target::None };
        row(&format!("{name}, deliveries a second, {at_once} at once"), rate, "/s", target);
        rates.push(rate);
    }
    row(&format!("{name}, 512 at once against 1 at a time"), rates[3] / rates[0], "times", Target::None);
    let bare = bare_sqlite(&dir.join("bare.db"), deliveries);
    row("bare SQLite, 5 rows a delivery, 512 deliveries a commit", bare, "/s", Target::None);
    row(&format!("{name}, 512 at once against bare SQLite"), rates[3] / bare, "times", Target::None);
}

/// Seconds from the first claim to the end of the last run.
async fn deliver(ledger: Ledger, count: usize, at_once: usize) -> f64 {
    let shares: Vec<ShareName> = (0..1_000.min(count)).map(|n| share_name(n)).collect();
    let planned = (0..count).map(|n| {
        let at = first() + TimeDelta::minutes((n / shares.len()) as i64);
        let slot = Slot { share: shares[n % shares.len()].clone(), at, interval: Interval { start: first(), end: at } };
        Planned::new(slot, vec![customer_name(n % 100)], Origin::Schedule)
    });
    let planned: Vec<Planned> = planned.collect();
    for piece in planned.chunks(10_000) {
        ledger.plan(piece.to_vec(), Vec::new()).await.expect("slots are planned");
    }
    let room = Arc::new(Semaphore::new(at_once));
    let mut work = JoinSet::new();
    let started = Instant::now();
    loop {
        let places = room.clone().acquire_many_owned(at_once.div_ceil(4) as u32).await.expect("room");
        let claims = ledger.claim(at_once.div_ceil(4), 0).await.expect("slots are claimed");
        if claims.looked_at == 0 {
            break;
        }
        let places = Arc::new(places);
        for claim in claims.runs {
            let (ledger, places) = (ledger.clone(), places.clone());
            work.spawn(async move {
                one_delivery(&ledger, claim).await;
                drop(places);
            });
        }
    }
    while let Some(ended) = work.join_next().await {
        ended.expect("a delivery");
    }
    let seconds = started.elapsed().as_secs_f64();
    let checked = ledger.reader().check().await.expect("a whole ledger");
    assert_eq!((checked.runs as usize, checked.findings.len()), (count, 0), "{:?}", checked.findings);
    seconds
}

/// What `run::Recorder` writes down of one delivery with one object.
async fn one_delivery(ledger: &Ledger, claim: Claim) {
    let slot = &claim.slot;
    for (customer, delivery) in &claim.deliveries {
        let (object, manifest) = (key(slot, customer, "data.csv"), key(slot, customer, "index.csv"));
        let destination = Destination {
            endpoint: None,
            bucket: BucketName::parse("acme-data").expect("a bucket"),
            owner: AccountId::parse("100000000001").expect("an account"),
            manifest_key: manifest.to_string(),
        };
        let attempt = ledger.attempt_started(*delivery, Some(destination)).await.expect("an attempt").id;
        ledger.upload_created(attempt, &object, "upload-of-the-object-0123456789abcdef").await.expect("an upload");
        ledger.drafted(attempt, &draft(&claim, customer)).await.expect("a draft");
        ledger.sealed(attempt, &[sealed(&object)]).await.expect("sealed");
        ledger.upload_created(attempt, &manifest, "upload-of-the-manifest-0123456789abcd").await.expect("an upload");
        let objects = vec![completed(&object)];
        let committed = Committed { manifest_key: manifest.to_string(), rows: 1000, bytes: 100_000, objects };
        ledger.committed(attempt, committed).await.expect("committed");
    }
    ledger.run_finished(claim.run).await.expect("the run's end");
}

/// Rows of the same size, without states, indexes over them, or answers to anybody.
fn bare_sqlite(path: &Path, deliveries: usize) -> f64 {
    let ledger = rusqlite::Connection::open(path).expect("a file");
    ledger
        .execute_batch(
            "PRAGMA journal_mode = wal; PRAGMA synchronous = full;
             CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;",
        )
        .expect("a table");
    let text = "x".repeat(300);
    let started = Instant::now();
    let mut left = deliveries;
    while left > 0 {
        let some = left.min(512);
        ledger.execute_batch("BEGIN IMMEDIATE").expect("a transaction");
        let mut insert = ledger.prepare_cached("INSERT INTO rows (text) VALUES (?1)").expect("a statement");
        for _ in 0..5 * some {
            insert.execute([&text]).expect("a row");
        }
        ledger.execute_batch("COMMIT").expect("a commit");
        left -= some;
    }
    deliveries as f64 / started.elapsed().as_secs_f64()
}

fn first() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().expect("an instant")
}

fn share_name(n: usize) -> ShareName {
    ShareName::parse(&format!("share-{n:06}")).expect("a name")
}

fn customer_name(n: usize) -> CustomerName {
    CustomerName::parse(&format!("customer-{n:05}")).expect("a name")
}

fn key(slot: &Slot, customer: &CustomerName, name: &str) -> ObjectKey {
    let facts = KeyFacts { share: &slot.share, customer, slot: slot.at, interval: slot.interval };
    let prefix = CustomerPrefix::parse(customer.as_str()).expect("a prefix");
    prefix.key(&KeyTemplate::default(), &facts, &LeafName::parse(name).expect("a name")).expect("a key")
}

fn draft(claim: &Claim, customer: &CustomerName) -> Manifest {
    let interval = claim.slot.interval;
    Manifest {
        manifest_version: 1,
        share: claim.slot.share.clone(),
        slot: claim.slot.at,
        interval: ManifestInterval { start: interval.start, end: interval.end },
        customer: customer.clone(),
        run: claim.run,
        rows: 1000,
        objects: Vec::new(),
        schema: Vec::new(),
        plugin: None,
        consign_version: "0".into(),
        started: claim.slot.at,
        finished: claim.slot.at,
    }
}

fn sealed(key: &ObjectKey) -> SealedObject {
    SealedObject {
        key: key.to_string(),
        upload_id: "upload-of-the-object-0123456789abcdef".into(),
        created: first(),
        media_type: "text/csv".into(),
        rows: 1000,
        bytes: 100_000,
        checksum_crc64nvme: "AAAAAAAAAAA=".into(),
        full_checksum: true,
        parts: vec![SealedPart { etag: "\"0123456789abcdef\"".into(), checksum_crc64nvme: "AAAAAAAAAAA=".into() }],
    }
}

fn completed(key: &ObjectKey) -> ManifestObject {
    ManifestObject {
        key: key.to_string(),
        bytes: 100_000,
        rows: 1000,
        checksum_crc64nvme: "AAAAAAAAAAA=".into(),
        etag: "\"0123456789abcdef0123456789abcdef-1\"".into(),
        media_type: "text/csv".into(),
    }
}

// ---- slots

fn slots(backend: &Backend, dir: &Path, shares: usize) {
    let Some(ledger) = (backend.open)(dir) else { return };
    let calendar = Calendar::parse("0 6 * * *", chrono_tz::Tz::UTC).expect("a calendar");
    let minute: DateTime<Utc> = "2026-01-02T06:00:00Z".parse().expect("an instant");
    let recurring = |n: usize| Recurring {
        share: share_name(n),
        calendar: calendar.clone(),
        jitter: Jitter::default(),
        catch_up: CatchUp::default(),
        cursor: Some(minute - TimeDelta::days(1)),
    };
    let started = Instant::now();
    let mut planner = Planner::new((0..shares).map(recurring), minute - TimeDelta::seconds(1));
    row(&format!("planner, {shares} shares made ready"), started.elapsed().as_secs_f64(), "s", Target::None);
    let customers = vec![customer_name(0)];
    let work = async {
        let mut seen = HashSet::new();
        let mut new = 0;
        let started = Instant::now();
        loop {
            let plan = planner.due(minute);
            let planned = plan.due.iter().map(|due| {
                assert!(due.slot.at == minute && due.skip.is_none(), "{due:?}");
                Planned::new(due.slot.clone(), customers.clone(), due.origin)
            });
            new += ledger.plan(planned.collect(), plan.cursors.clone()).await.expect("slots are planned");
            planner.recorded(&plan);
            seen.extend(plan.due.into_iter().map(|due| due.slot.share));
            if !plan.more {
                break;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        assert_eq!((new, seen.len()), (shares, shares), "slots lost or doubled");
        assert!(planner.due(minute).is_empty(), "slots fire twice");
        let checked = ledger.reader().check().await.expect("a whole ledger");
        assert_eq!((checked.slots as usize, checked.findings.len()), (shares, 0), "{:?}", checked.findings);
        seconds
    };
    let seconds = runtime().block_on(work);
    let figure = format!("{}, {shares} slots of one minute are pending", backend.name);
    row(&figure, seconds, "s", Target::Under(2.0));
}

// ---- config

fn write_config(dir: &Path, shares: usize) {
    let customers = shares.div_ceil(10);
    let state = "[daemon]\nstate_dir = \"state\"\ncache_dir = \"cache\"\n";
    let main = format!(
        "include = [\"customers.d/*.toml\", \"shares.d/*.toml\"]\n{state}[aws]\nregion = \"us-east-1\"\n\
         endpoint_url = \"http://127.0.0.1:1\"\naccess_key_id = {{ env = \"KEY\" }}\n\
         secret_access_key = {{ env = \"SECRET\" }}\n[datasets.orders]\ntables.orders = \"orders.csv\"\n\
         tenant_column = \"customer_id\"\n"
    );
    fs::write(dir.join("consign.toml"), main).expect("the configuration");
    fs::write(dir.join("orders.csv"), "customer_id,amount\n1,2\n").expect("a table");
    let write = |folder: &str, count: usize, one: &dyn Fn(usize) -> String| {
        fs::create_dir_all(dir.join(folder)).expect("a folder");
        for first in (0..count).step_by(1_000) {
            let text: String = (first..count.min(first + 1_000)).map(one).collect();
            fs::write(dir.join(folder).join(format!("{first:06}.toml")), text).expect("a file");
        }
    };
    write("customers.d", customers, &|n| {
        format!(
            "[customers.customer-{n:05}]\nrole_arn = \"arn:aws:iam::{:012}:role/consign-delivery\"\n\
             external_id = \"bench-{n:08}-7f0c\"\nbucket = \"bench-{n:05}\"\nregion = \"eu-west-1\"\n\
             prefix = \"in/\"\nparams = {{ customer_id = {n} }}\n",
            100_000_000_000 + n
        )
    });
    write("shares.d", shares, &|n| {
        // A few dozen schedules, none of which is due soon.
        let (minute, hour) = (n % 6 * 10, n / 6 % 10);
        format!(
            "[shares.share-{n:06}]\nschedule = \"{minute} {hour} 1 1 *\"\ntimezone = \"America/New_York\"\n\
             dataset = \"orders\"\nplugin = \"csv\"\noptions = {{ delimiter = \";\" }}\ncompression = \"gzip\"\n\
             to = {{ customers = [\"customer-{:05}\"] }}\n",
            n / 10
        )
    });
}

fn environment() -> Environment {
    Environment::from_pairs([("KEY", "AKIACONSIGNSANDBOX00"), ("SECRET", "consign-sandbox-secret")])
}

/// In a process of its own.
fn load(path: &Path) {
    let started = Instant::now();
    let config = Config::load(path, &environment()).unwrap_or_else(|errors| panic!("{errors}"));
    println!("{} {}", started.elapsed().as_secs_f64(), config.shares.len());
    let status = fs::read_to_string("/proc/self/status").expect("its status");
    println!("{}", peak_kb(&status));
}

fn config(dir: &Path, shares: usize) {
    let mut files: Vec<PathBuf> = vec![dir.join("consign.toml")];
    for folder in ["customers.d", "shares.d"] {
        files.extend(fs::read_dir(dir.join(folder)).expect("a folder").map(|entry| entry.expect("a file").path()));
    }
    let started = Instant::now();
    let mut bytes = 0;
    for file in &files {
        let text = fs::read_to_string(file).expect("a file");
        bytes += text.len();
        std::hint::black_box(toml::from_str::<toml::Table>(&text).expect("TOML"));
    }
    let bare = started.elapsed().as_secs_f64();
    let child = Command::new(std::env::current_exe().expect("this program"))
        .env("CONSIGN_BENCH_LOAD", dir.join("consign.toml"))
        .output()
        .expect("a process that loads");
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    let mut words = said.split_whitespace().map(|word| word.parse::<f64>().expect("a number"));
    let mut next = || words.next().expect("three numbers");
    let (seconds, loaded, peak) = (next(), next(), next());
    assert_eq!(loaded as usize, shares);
    row(&format!("bare TOML parser, {} files, {:.1} MB", files.len(), bytes as f64 / 1e6), bare, "s", Target::None);
    row(&format!("configuration of {shares} shares, time"), seconds, "s", Target::Under(2.0));
    row("  against the bare parser", seconds / bare, "times", Target::None);
    row("  peak memory", peak / 1e3, "MB", Target::Under(200.0));
    let started = Instant::now();
    let mut check = consign(dir, &["check", "--quiet"]).stdout(Stdio::null()).spawn().expect("consign check");
    let peak = watch(&mut check);
    row("`consign check` of it, time", started.elapsed().as_secs_f64(), "s", Target::None);
    row("  peak memory", peak as f64 / 1e3, "MB", Target::None);
}

fn consign(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(CONSIGN);
    command.args(["--config", "consign.toml"]).args(args).current_dir(dir);
    command.env("KEY", "AKIACONSIGNSANDBOX00").env("SECRET", "consign-sandbox-secret");
    command
}

/// Polls the child's own high-water mark until it ends well.
fn watch(child: &mut Child) -> u64 {
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        peak = peak.max(peak_kb(&status));
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            assert!(status.success(), "it failed: see above");
            return peak;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn peak_kb(status: &str) -> u64 {
    let mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    mark.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

// ---- idle

fn idle(dir: &Path) {
    let log = dir.join("daemon.log");
    let started = Instant::now();
    let mut daemon = consign(dir, &["run"])
        .stdout(Stdio::null())
        .stderr(File::create(&log).expect("a log"))
        .spawn()
        .expect("consign run");
    let mut text = String::new();
    while !text.contains("consign is ready") {
        assert!(daemon.try_wait().expect("the daemon").is_none(), "{text}");
        std::thread::sleep(Duration::from_millis(20));
        text = fs::read_to_string(&log).expect("a log");
    }
    row("`consign run` of it, from start to ready", started.elapsed().as_secs_f64(), "s", Target::None);
    // What comes right after the start is not idleness.
    std::thread::sleep(Duration::from_secs(10));
    let before = cpu_seconds(daemon.id());
    std::thread::sleep(IDLE);
    let percent = (cpu_seconds(daemon.id()) - before) / IDLE.as_secs_f64() * 100.0;
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("its status");
    daemon.kill().expect("the daemon is ended");
    daemon.wait().expect("the daemon has ended");
    row(&format!("  CPU time while nothing is due, over {} s", IDLE.as_secs()), percent, "%", Target::Under(1.0));
    row("  peak memory", peak_kb(&status) as f64 / 1e3, "MB", Target::None);
}

/// User and system time so far: proc_pid_stat(5), fields 14 and 15.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its stat");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}
