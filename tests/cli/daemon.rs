//! `consign run` against `consign sandbox`: slots are delivered while time goes
//! by, an end is an end, and a crash loses and doubles nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use consign::clock::Clock;
use consign::domain::{
    AccountId, BucketName, CustomerName, CustomerPrefix, Destination, Failure, Interval, KeyFacts, KeyTemplate, Layer,
    LeafName, Retry, ShareName, Slot,
};
use consign::ledger::{Ledger, RunState};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::audit::Audit;
use super::timing::at;
use super::world::{self, Running, SOON, World, stop, until};
use crate::support::disk::SmallDisk;
use crate::support::proxy::Proxy;
use crate::support::wire::Call;

pub(super) const SHARE: &str = r#"
schedule = "*/1 * * * * *"
overlap = "allow"
to = { customers = ["acme"] }
"#;

fn config(carriers: &str) -> String {
    world::flights(&world::customer("acme", 1, "us-east-1", carriers), "tick", SHARE)
}

fn world(carriers: &str) -> World {
    World::new(&config(carriers))
}

/// Runs by id.
pub(super) fn in_state<'a>(runs: &'a [Value], state: &str) -> BTreeSet<&'a str> {
    runs.iter().filter(|run| run["state"] == state).map(|run| run["run"].as_str().unwrap()).collect()
}

/// Waits until the ledger is as wanted, while the daemon lives.
pub(super) fn wait(world: &World, daemon: &mut Running, what: &str, done: impl Fn(&[Value]) -> bool) {
    // Slots come all the time, and a busy machine takes long for each.
    until(what, SOON * 3, || {
        assert!(daemon.is_running(), "{}", world.log());
        done(&world.runs())
    });
}

/// Ends the daemon once nothing is at work: what waits for a place when it is told to stop begins with the
/// next start, and on a busy machine there may always be some.
pub(super) fn stop_idle(world: &World, mut daemon: Running) {
    world.run(&["pause", "tick"]).ended(0);
    wait(world, &mut daemon, "what has begun is over", |runs| in_state(runs, "running").is_empty());
    stop(daemon);
}

/// All that was planned was delivered. Returns the slots in order.
pub(super) fn audit(world: &World, rows: u64, kills: usize) -> Vec<DateTime<Utc>> {
    assert!(world.runs().iter().all(|run| run["origin"] == "schedule"));
    Audit { world, customers: &[("acme", rows)], kills, failed: false }.slots()
}

#[test]
fn daemon_delivers_each_slot_and_ends_when_told() {
    let world = world("\"AS\"");
    let _sandbox = world.sandbox();
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "two slots are committed", |runs| in_state(runs, "succeeded").len() >= 2);
    stop(daemon);
    // What was planned at the last moment begins with the next life.
    let mut slots: Vec<_> = world.runs().iter().map(|run| at(&run["slot"])).collect();
    slots.sort_unstable();
    for pair in slots.windows(2) {
        assert_eq!((pair[1] - pair[0]).num_seconds(), 1, "a slot is missing: {slots:?}");
    }
    // A second life goes on where the first ended.
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "another slot is committed", |runs| in_state(runs, "succeeded").len() > slots.len());
    stop_idle(&world, daemon);
    assert_eq!(audit(&world, 714, 0)[..slots.len()], slots);
}

#[test]
fn daemon_that_was_killed_goes_on() {
    let world = world(r#"["UA", "B6"]"#);
    let _sandbox = world.sandbox();
    let (mut killed, mut kills) = (BTreeSet::<String>::new(), 0);
    // Twice in the middle of a run; a kill that came too late for that is tried again.
    for _ in 0..10 {
        let mut daemon = world.daemon();
        let is_new = |runs: &[Value]| in_state(runs, "running").iter().any(|run| !killed.contains(*run));
        wait(&world, &mut daemon, "a run is at work", is_new);
        daemon.signal(Signal::KILL);
        assert_eq!(daemon.wait(SOON).code(), None);
        kills += 1;
        let runs = world.runs();
        killed.extend(in_state(&runs, "running").into_iter().map(str::to_owned));
        if killed.len() >= 2 {
            break;
        }
    }
    assert!(killed.len() >= 2, "no kill met a run at work");

    let mut daemon = world.daemon();
    let before = world.runs().len();
    wait(&world, &mut daemon, "the killed runs and two new ones are committed", |runs| {
        let succeeded = in_state(runs, "succeeded");
        killed.iter().all(|run| succeeded.contains(run.as_str())) && succeeded.len() >= before + 2
    });
    stop_idle(&world, daemon);
    let slots = audit(&world, 58_665 + 54_635, kills);
    assert!(slots.len() >= before + 2);
}

/// What is not done within `drain_timeout` is cut off, without uploads that nobody might
/// ever abort, and begun anew by the next start.
#[test]
fn daemon_cuts_off_what_takes_longer_than_its_drain() {
    let world = world(r#"["UA", "B6"]"#);
    let _sandbox = world.sandbox();
    let text = world.text();
    world.write("consign.toml", text.replace("[daemon]\n", "[daemon]\ndrain_timeout = \"0s\"\n"));
    let log = || world.log();
    let delivery = |run: &str| world.run(&["show", run, "--json"]).ended(0).json()["deliveries"][0].clone();
    // What is sealed stays so, and is completed by the next start; what has not begun, begins then.
    let is_cut_off = |run: &&str| {
        let delivery = delivery(run);
        delivery["state"] != "sealed" && delivery["attempts"].as_array().is_some_and(|attempts| !attempts.is_empty())
    };
    let mut left = BTreeSet::<String>::new();
    // A stop that came too late for a run at work is tried again.
    for _ in 0..10 {
        let mut daemon = world.daemon();
        wait(&world, &mut daemon, "a run is at work", |runs| !in_state(runs, "running").is_empty());
        stop(daemon);
        left = in_state(&world.runs(), "running").into_iter().filter(is_cut_off).map(str::to_owned).collect();
        if !left.is_empty() {
            break;
        }
    }
    assert!(!left.is_empty(), "no stop met a run at work: {}", log());
    assert!(log().contains("not finished in time"), "{}", log());
    for delivery in left.iter().map(|run| delivery(run)) {
        let attempts = delivery["attempts"].as_array().unwrap();
        let uploads = attempts.iter().flat_map(|attempt| attempt["uploads"].as_array().unwrap());
        assert!(uploads.clone().all(|upload| upload["state"] == "aborted"), "{delivery:#}");
        assert_eq!(delivery["state"], "pending", "{delivery:#}");
        assert!(attempts.iter().all(|attempt| attempt["state"] == "interrupted"), "{delivery:#}");
    }
    assert!(!log().contains("uploads may be left"), "{}", log());
    world.write("consign.toml", &text);
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "what was cut off is committed", |runs| {
        let succeeded = in_state(runs, "succeeded");
        left.iter().all(|run| succeeded.contains(run.as_str()))
    });
    stop_idle(&world, daemon);
    audit(&world, 58_665 + 54_635, 10);
}

/// A run that had ended stays as it is: of it only uploads are left, and one that
/// cannot be aborted now is no reason not to start.
#[test]
fn daemon_starts_when_an_ended_run_left_an_upload() {
    let world = world("\"AS\"");
    let run = leave_an_upload(&world);
    let mut daemon = world.daemon();
    until("the upload could not be aborted", SOON, || {
        assert!(daemon.is_running(), "{}", world.log());
        world.log().contains("an upload is left behind")
    });
    stop(daemon);
    let states = |of: &Value| {
        let upload = &of["deliveries"][0]["attempts"][0]["uploads"][0];
        (of["run"]["state"].as_str().unwrap().to_owned(), upload["state"].as_str().unwrap().to_owned())
    };
    let shown = |world: &World| world.run(&["show", &run, "--json"]).ended(0).json();
    assert_eq!(states(&shown(&world)), ("failed".into(), "created".into()));
    // It was made at another endpoint, so it is given up, and the run is still what it was.
    let _sandbox = world.sandbox();
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "the upload is ended", |_| states(&shown(&world)).1 != "created");
    stop(daemon);
    assert_eq!(states(&shown(&world)), ("failed".into(), "abandoned".into()));
}

/// A failed run of an old slot, with an upload that was never aborted. Returns the run.
fn leave_an_upload(world: &World) -> String {
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let (start, end) = (at("2024-01-01T00:00:00Z"), at("2024-01-01T00:00:01Z"));
    let slot = Slot { share: ShareName::parse("tick").unwrap(), at: end, interval: Interval { start, end } };
    let acme = CustomerName::parse("acme").unwrap();
    let facts = KeyFacts { share: &slot.share, customer: &acme, slot: slot.at, interval: slot.interval };
    let prefix = CustomerPrefix::parse("in/").unwrap();
    let key = prefix.key(&KeyTemplate::default(), &facts, &LeafName::parse("tick.jsonl").unwrap()).unwrap();
    let ledger = Ledger::open(&world.path("state"), Clock::system()).unwrap();
    let work = async {
        let claim = ledger.start_manual(slot, vec![acme]).await.unwrap().claim.unwrap();
        let destination = Destination {
            endpoint: Some("http://127.0.0.1:1/".into()),
            bucket: BucketName::parse("acme-data").unwrap(),
            owner: AccountId::parse("100000000001").unwrap(),
            manifest_key: "in/_manifest.json".into(),
        };
        let attempt = ledger.attempt_started(claim.deliveries[0].1, Some(destination)).await.unwrap();
        ledger.upload_created(attempt.id, &key, "gone").await.unwrap();
        let failure = Failure::new(Layer::Network, Retry::Never, "no answer", "wait");
        ledger.failed(attempt.id, failure, None).await.unwrap();
        assert_eq!(ledger.run_finished(claim.run).await.unwrap(), RunState::Failed);
        claim.run.to_string()
    };
    tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(work)
}

/// The endpoint goes away in the middle of the work and comes back later: what
/// failed is tried again until it is delivered, sealed or not, once.
#[test]
fn daemon_tries_again_what_may_pass() {
    let retry = "[shares.tick]\nretry = { attempts = 100, backoff = \"200ms\", max_backoff = \"1s\" }";
    let world = World::new(&config("\"AS\"").replace("[shares.tick]", retry));
    let sandbox = world.sandbox();
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "a slot is committed", |runs| !in_state(runs, "succeeded").is_empty());
    drop(sandbox);
    let log = || world.log();
    until("a delivery is to be tried again", SOON, || log().contains("to be tried again"));
    let gone = world.runs().len();
    wait(&world, &mut daemon, "more slots fail", |runs| runs.len() >= gone + 2);
    let _sandbox = world.sandbox_again();
    wait(&world, &mut daemon, "all that failed is committed", |runs| {
        runs.len() > gone + 3 && runs.iter().rev().take(gone + 2).all(|run| run["state"] == "succeeded")
    });
    stop_idle(&world, daemon);
    audit(&world, 714, 1);
}

/// A failure that will not pass by itself ends the delivery at once.
#[test]
fn daemon_does_not_try_again_what_will_not_pass() {
    let query = "query = \"SELECT *, CAST(carrier AS INT) AS number FROM flights\"\ntenant_column";
    let world = World::new(&config("\"AS\"").replace("tenant_column", query));
    let _sandbox = world.sandbox();
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "a run has failed", |runs| !in_state(runs, "failed").is_empty());
    stop(daemon);
    let runs = world.runs();
    for run in in_state(&runs, "failed") {
        let shown = world.run(&["show", run, "--json"]).ended(0).json();
        assert_eq!(shown["deliveries"][0]["attempts"].as_array().unwrap().len(), 1, "{shown}");
        assert_eq!(shown["deliveries"][0]["failure"]["layer"], "dataset");
    }
}

/// No slot is lost while nobody knows who the vendor is, or its key is not one (yet): what STS does not hear is no try.
#[test]
fn daemon_waits_for_the_vendors_own_identity() {
    let retry = "[shares.tick]\ncatch_up = \"all\"\nretry = { attempts = 1 }";
    let world = World::new(&config("\"AS\"").replace("[shares.tick]", retry));
    let _sandbox = world.sandbox();
    let text = world.text();
    let without: Vec<&str> = text.lines().filter(|line| !line.contains("access_key")).collect();
    world.write("consign.toml", without.join("\n"));
    // So near their end that they are asked for again each time.
    let script = "#!/bin/sh\nsed s/SOON/$(date -u -d '5 seconds' +%FT%TZ)/ keys\n";
    world.write("vendor", script);
    fs::set_permissions(world.path("vendor"), fs::Permissions::from_mode(0o755)).unwrap();
    let dir = world.dir().display();
    world.write("aws", format!("[default]\ncredential_process = sh -c 'cd {dir} && ./vendor'\n"));
    let keys = |secret: &str| {
        let keys = json!({"Version": 1, "AccessKeyId": "AKIACONSIGNSANDBOX00", "SecretAccessKey": secret, "Expiration": "SOON"});
        world.write("keys", keys.to_string());
    };
    let aws = world.path("aws").display().to_string();
    let environment = [("AWS_CONFIG_FILE", aws.as_str()), ("AWS_EC2_METADATA_DISABLED", "true")];
    let mut daemon = world.start(&[], &["run"], &environment);
    let log = || world.log();
    wait(&world, &mut daemon, "there is no identity", |_| log().contains("there are no vendor credentials"));
    keys("of-another-key");
    wait(&world, &mut daemon, "its key is refused", |_| log().contains("SignatureDoesNotMatch"));
    let before = world.runs().len();
    keys("consign-sandbox-secret");
    wait(&world, &mut daemon, "all that failed is committed", |runs| {
        runs.iter().rev().take(before).all(|run| run["state"] == "succeeded")
    });
    stop_idle(&world, daemon);
    assert!(in_state(&world.runs(), "failed").is_empty());
    audit(&world, 714, 0);
}

/// A full disk stops the work where it is. Nothing is lost, and it goes on by
/// itself when there is room.
#[test]
fn daemon_goes_on_when_its_full_disk_has_room() {
    let world = world(r#"["UA", "B6"]"#);
    fs::create_dir(world.path("state")).unwrap();
    let Some(disk) = SmallDisk::mount(&world.path("state"), 64) else { return };
    let _sandbox = world.sandbox();
    let mut daemon = world.daemon();
    let log = || world.log();
    wait(&world, &mut daemon, "a slot is committed and another at work", |runs| {
        !in_state(runs, "succeeded").is_empty() && !in_state(runs, "running").is_empty()
    });
    disk.fill();
    let full = ["cannot record slots", "could not be recorded"];
    wait(&world, &mut daemon, "there is no room", |_| full.iter().all(|text| log().contains(text)));
    let left = world.runs();
    disk.make_room();
    wait(&world, &mut daemon, "what was at work and a new slot are committed", |runs| {
        let succeeded = in_state(runs, "succeeded");
        left.iter().all(|run| succeeded.contains(run["run"].as_str().unwrap())) && succeeded.len() > left.len()
    });
    assert!(log().contains("the ledger can be written again"));
    stop_idle(&world, daemon);
    audit(&world, 58_665 + 54_635, 0);
}

/// Nothing is asked of S3 any more once the manifest is put: the customer may have taken all of it away by the time
/// that the ledger can be written again, and would get it a second time.
#[test]
fn daemon_puts_no_manifest_twice_because_its_disk_is_full() {
    let world = World::new(&config("\"AS\"").replace("*/1 * * * * *\"", "@daily\"\nend = 2026-01-04"));
    fs::create_dir(world.path("state")).unwrap();
    let Some(disk) = SmallDisk::mount(&world.path("state"), 64) else { return };
    let _sandbox = world.sandbox();
    let proxy = Proxy::start(&world.endpoint());
    world.configure(&proxy.endpoint, "", "");
    world.run(&["backfill", "tick", "--from", "2026-01-01", "--to", "2026-01-01"]).ended(0);
    let disk = Arc::new(disk);
    let fills = disk.clone();
    proxy.obey(move |seen, _| {
        if seen.call == Call::Complete && seen.key.ends_with(world::MANIFEST) {
            fills.fill();
        }
        None
    });
    let mut daemon = world.daemon();
    let is_told = || world.log().contains("could not be recorded yet");
    wait(&world, &mut daemon, "the ledger cannot be written", |_| is_told());
    let bucket = world.path("buckets/acme-data");
    let delivered = world::files(&bucket);
    delivered.keys().for_each(|key| fs::remove_file(bucket.join(key)).unwrap());
    assert!(delivered.keys().any(|key| key.ends_with(world::MANIFEST)), "{delivered:?}");
    let asked = proxy.requests();
    // Nor is there time for another try of its own: who frees some room often starts it again at once.
    disk.make_room();
    stop(daemon);
    let run = world.runs().remove(0);
    let shown = world.run(&["show", run["run"].as_str().unwrap(), "--json"]).ended(0).json();
    assert_eq!(shown["deliveries"][0]["state"], "committed", "{}", world.log());
    let lives = || world.log().matches("consign is ready").count();
    let before = lives();
    let mut daemon = world.daemon();
    let is_done = |runs: &[Value]| lives() > before && in_state(runs, "succeeded").len() == 1;
    wait(&world, &mut daemon, "it goes on, and the run has ended", is_done);
    assert_eq!(proxy.requests(), asked, "S3 was asked for something");
    // What fills the disk is not to outlive it.
    proxy.heal();
    assert!(world::files(&bucket).is_empty());
    stop(daemon);
}

/// A fault in consign costs tries of one delivery. The slots that follow go on.
#[test]
fn daemon_outlives_the_task_of_a_delivery() {
    let retry = "[shares.tick]\nretry = { attempts = 2, backoff = \"100ms\" }";
    let world = World::new(&config("\"AS\"").replace("[shares.tick]", retry).replace("\"allow\"", "\"skip\""));
    let _sandbox = world.sandbox();
    for (point, state) in [("started", "failed"), ("object-completed", "sealed")] {
        let before = in_state(&world.runs(), "failed").len();
        let mut daemon = world.start(&[], &["run"], &[("CONSIGN_PANIC_AT", point)]);
        wait(&world, &mut daemon, "two runs have failed", |runs| in_state(runs, "failed").len() >= before + 2);
        stop(daemon);
        let runs = world.runs();
        let failed = runs.iter().find(|run| run["state"] == "failed").unwrap();
        let shown = world.run(&["show", failed["run"].as_str().unwrap(), "--json"]).ended(0).json();
        let delivery = &shown["deliveries"][0];
        assert_eq!(delivery["failure"]["layer"], "local", "{shown}");
        assert!(delivery["failure"]["message"].as_str().unwrap().contains("a fault in consign"), "{shown}");
        let attempts = delivery["attempts"].as_array().unwrap();
        // What is sealed stays so, and only its completion is tried again.
        assert_eq!(attempts.len(), if state == "sealed" { 1 } else { 2 }, "{shown}");
    }
    let mut daemon = world.daemon();
    wait(&world, &mut daemon, "a slot is committed", |runs| !in_state(runs, "succeeded").is_empty());
    stop(daemon);
}
