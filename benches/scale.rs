//! What many shares and many deliveries cost, against the targets of the project.
//!
//! ```text
//! make bench-scale                                     # in the profile of the tests, about 9 minutes
//! CONSIGN_BENCH_SHARES=10000 make bench-scale
//! CONSIGN_BENCH_ONLY=ledger make bench-scale           # or slots, fire, daemon, config, errors, idle, fairness
//! ```
//!
//! Ends with 1 when a target is missed. The ledger is in SQLite, and in PostgreSQL where there
//! is one; both wait for their disk.
//!
//! - **ledger**: deliveries without rows, plugin or bucket, through every step that a
//!   real one writes down: claimed, attempt, two uploads, draft, sealed, committed,
//!   run ended. Against one at a time, and against bare SQLite.
//! - **config**: `Config::load` of many shares in many files, in a process of its own
//!   for its peak memory (`VmHWM`). Against the bare parser over the same files.
//! - **slots**: every share fires in the same minute, until all slots are pending in
//!   the ledger.
//! - **fire**: `consign run` itself, with every share due in the same minute; from the minute
//!   to the last slot, as its ledger says.
//! - **daemon**: `consign run` itself, with deliveries that do nothing.
//! - **errors**: `consign check` of the same shares, each with a mistake.
//! - **idle**: the CPU time of `consign run` while none of its shares is due.
//! - **fairness**: how long a share's customers wait for their slots while the bucket
//!   of another customer never answers, or the plugin of other shares never ends.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench prints its figures and may panic"
)]

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use consign::calendar::{Calendar, Jitter};
use consign::clock::Clock;
use consign::config::{CatchUp, Database};
use consign::domain::{
    AccountId, BucketName, CustomerName, CustomerPrefix, Destination, Interval, KeyFacts, KeyTemplate, LeafName,
    Manifest, ManifestInterval, ManifestObject, ObjectKey, Origin, SealedObject, SealedPart, ShareName, Slot,
};
use consign::ledger::{Claim, Committed, Ledger, Planned};
use consign::schedule::{Planner, Recurring};
use postgres::Postgres;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

#[path = "scale/config.rs"]
mod config;
#[path = "scale/fairness.rs"]
mod fairness;
#[path = "scale/fire.rs"]
mod fire;

/// What is said where there is no server.
#[path = "../tests/support/needs.rs"]
mod needs;

/// Ports that are nobody else's.
#[path = "../tests/support/ports.rs"]
#[expect(clippy::unwrap_used, reason = "the tests' own")]
mod ports;

/// Where the tests have them.
mod support {
    pub(crate) use crate::ports;
}

/// The tests' server.
#[path = "../tests/support/postgres.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "the tests' own, of which this uses a part")]
mod postgres;

/// The binary in a directory of its own.
#[path = "../tests/cli/world.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "the tests' own, of which this uses a part")]
mod world;

/// An endpoint of which a part never answers.
#[path = "../tests/support/stall.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "the tests' own, of which this uses a part")]
mod stall;

/// Plugins that misbehave.
#[path = "../tests/plugin/support.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "the tests' own, of which this uses a part")]
mod guests;

/// Where the ledger is, and what it is to do there.
struct Backend {
    name: &'static str,
    deliveries_per_second: f64,
    /// None where there is none of this kind.
    open: fn(&Path) -> Option<Ledger>,
}

const BACKENDS: [Backend; 2] = [
    Backend {
        name: "SQLite",
        deliveries_per_second: 5_000.0,
        open: |dir| Some(Ledger::open(dir, Clock::system()).expect("a ledger")),
    },
    Backend {
        name: "PostgreSQL",
        deliveries_per_second: 1_000.0,
        open: |dir| {
            let schema = dir.file_name()?.to_str()?.replace('-', "_");
            let database = Database::new(&server()?.url(), &schema, Duration::from_secs(60));
            Some(Ledger::connect(&database, Clock::system()).expect("a ledger"))
        },
    },
];

/// One that waits for its disk, as the targets mean it.
fn server() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    let server = SERVER.get_or_init(|| Postgres::start_with("-c fsync=on -c synchronous_commit=on")).as_ref()?;
    assert_eq!(server.psql("SHOW fsync") + &server.psql("SHOW synchronous_commit"), "onon");
    Some(server)
}

fn main() -> ExitCode {
    if let Ok(path) = std::env::var("CONSIGN_BENCH_LOAD") {
        config::load(Path::new(&path));
        return ExitCode::SUCCESS;
    }
    let only = std::env::var("CONSIGN_BENCH_ONLY").ok();
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    let shares = number("CONSIGN_BENCH_SHARES").unwrap_or(100_000);
    let profile = if cfg!(debug_assertions) { "dev (opt-level 1)" } else { "release" };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("profile {profile}, {cores} cores, {shares} shares");
    println!("{:<60} {:>12} {:>12}  met", "figure", "measured", "target");
    for backend in BACKENDS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        if wanted("ledger") {
            ledger(&backend, dir.path());
        }
        if wanted("slots") {
            slots(&backend, &dir.path().join("slots"), shares);
        }
    }
    if wanted("fairness") {
        fairness::fairness();
    }
    if wanted("fire") {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fire::minute(dir.path(), shares);
    }
    if wanted("daemon") {
        fire::nothing();
    }
    if wanted("config") || wanted("errors") || wanted("idle") {
        let dir = tempfile::tempdir().expect("a temporary directory");
        config::write(dir.path(), shares, &config::never);
        if wanted("config") {
            config::read(dir.path(), shares);
        }
        if wanted("errors") {
            config::errors(dir.path(), shares);
        }
        if wanted("idle") {
            config::idle(dir.path());
        }
    }
    match MISSED.load(Ordering::Relaxed) {
        0 => ExitCode::SUCCESS,
        missed => {
            println!("{missed} targets are missed");
            ExitCode::FAILURE
        }
    }
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Targets that were missed.
static MISSED: AtomicUsize = AtomicUsize::new(0);

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
        Target::AtLeast(least) => (show(least), Some(measured >= least)),
        Target::Under(most) => (format!("< {}", show(most)), Some(measured < most)),
        Target::None => (String::new(), None),
    };
    MISSED.fetch_add(usize::from(met == Some(false)), Ordering::Relaxed);
    let met = met.map_or("", |met| if met { "yes" } else { "NO" });
    println!("{figure:<60} {:>12} {wanted:>12}  {met}", show(measured));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

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
    if name != "SQLite" {
        return;
    }
    let bare = bare_sqlite(&dir.join("bare.db"), deliveries);
    row("bare SQLite, 5 rows a delivery, 512 deliveries a commit", bare, "/s", Target::None);
    row(&format!("{name}, 512 at once against bare SQLite"), rates[3] / bare, "times", Target::None);
}

/// Seconds from the first claim to the end of the last run.
async fn deliver(ledger: Ledger, count: usize, at_once: usize) -> f64 {
    let shares: Vec<ShareName> = (0..1_000.min(count)).map(share_name).collect();
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
        let committed =
            Committed { manifest_key: manifest.to_string(), rows: 1000, bytes: 100_000, objects, left: Vec::new() };
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
        mode: consign::domain::Mode::Slot,
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
        role: consign::domain::Role::Data,
        upload_id: "upload-of-the-object-0123456789abcdef".into(),
        created: first(),
        media_type: "text/csv".into(),
        rows: 1000,
        bytes: 100_000,
        checksum_crc64nvme: "AAAAAAAAAAA=".into(),
        full_checksum: true,
        parts: vec![SealedPart { etag: "\"0123456789abcdef\"".into(), checksum_crc64nvme: "AAAAAAAAAAA=".into() }],
        completion: consign::domain::Completion::InDoubt,
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
        last: Some(minute - TimeDelta::days(1)),
        customers: 1,
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
            new += ledger.plan(planned.collect(), plan.cursors.clone()).await.expect("slots are planned").new;
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
