//! What becomes of a sealed delivery when S3's answers prove nothing, or the wrong thing, through
//! the daemon (`docs/decisions/0022-what-an-answer-proves.md`).

use std::fs;

use serde_json::Value;

use super::world::{self, MANIFEST, Running, SOON, World, stop, until};
use crate::support::proxy::Proxy;
use crate::support::wire::{Call, Fault, Seen, s3_error};

const FOLDER: &str = "buckets/acme-data/in/daily/2026-01-01/000000Z";

/// A daemon with one slot to deliver, what it is told by S3, and who makes that up.
struct Case {
    world: World,
    proxy: Proxy,
    daemon: Running,
    _sandbox: Running,
}

impl Case {
    fn new(keys: &str, script: impl FnMut(&Seen, usize) -> Option<Fault> + Send + 'static) -> Self {
        let share = format!("schedule = \"@daily\"\n{keys}\nto = {{ customers = [\"acme\"] }}\n");
        let world = World::new(&world::flights(&world::customer("acme", 1, "us-east-1", "\"AS\""), "daily", &share));
        let sandbox = world.sandbox();
        let proxy = Proxy::start(&world.endpoint());
        world.configure(&proxy.endpoint, "", "");
        world.run(&["backfill", "daily", "--from", "2026-01-01", "--to", "2026-01-01"]).ended(0);
        proxy.obey(script);
        let daemon = world.daemon();
        Self { world, proxy, daemon, _sandbox: sandbox }
    }

    fn until_logged(&mut self, text: &str, times: usize) {
        until(text, SOON, || {
            assert!(self.daemon.is_running(), "{}", self.world.log());
            self.world.log().matches(text).count() >= times
        });
    }

    /// The slot's only delivery, when its run is in that state.
    fn until_it_has(&self, state: &str) -> Value {
        until(state, SOON, || self.world.runs().iter().any(|run| run["state"] == state));
        let runs = self.world.runs();
        assert_eq!(runs.len(), 1, "{runs:?}");
        self.shown()
    }

    fn shown(&self) -> Value {
        let run = self.world.runs()[0]["run"].clone();
        self.world.run(&["show", run.as_str().unwrap(), "--json"]).ended(0).json()["deliveries"][0].clone()
    }

    fn has(&self, name: &str) -> bool {
        self.world.path(FOLDER).join(name).exists()
    }
}

fn open_uploads(world: &World) -> usize {
    fs::read_dir(world.path("buckets/.sandbox/uploads")).unwrap().count()
}

fn states(delivery: &Value) -> Vec<&str> {
    delivery["attempts"].as_array().unwrap().iter().map(|attempt| attempt["state"].as_str().unwrap()).collect()
}

/// Only another attempt can deliver what was stored in it.
#[test]
fn an_upload_that_somebody_ends_costs_an_attempt_and_no_slot() {
    let gone = || Fault::Answer(404, vec![], s3_error("NoSuchUpload", "The specified upload does not exist."));
    let keys = "retry = { attempts = 3, backoff = \"100ms\" }";
    let case = Case::new(keys, move |seen, before| (seen.call == Call::Complete && before == 0).then(gone));
    let delivery = case.until_it_has("succeeded");
    assert_eq!(states(&delivery), ["failed", "committed"], "{delivery:#}");
    assert_eq!(delivery["attempts"][0]["failure"]["layer"], "bucket");
    assert_eq!(open_uploads(&case.world), 0, "what was left of the first one is ended");
    world::manifests(&case.world.path("buckets/acme-data"));
    stop(case.daemon);
}

/// Whether it is there has to be known before the delivery can have failed.
#[test]
fn a_manifest_in_doubt_outlives_the_tries_of_its_share() {
    let internal = || Fault::Answer(500, vec![], s3_error("InternalError", "We encountered an internal error."));
    let keys = "retry = { attempts = 1, backoff = \"100ms\", max_backoff = \"100ms\" }";
    let mut case =
        Case::new(keys, move |seen, _| (seen.call == Call::Complete && seen.key.ends_with(MANIFEST)).then(internal));
    case.until_logged("to be tried again", 2);
    assert_eq!(case.shown()["state"], "sealed");
    assert!(!case.has(MANIFEST));
    case.proxy.heal();
    let delivery = case.until_it_has("succeeded");
    assert_eq!(states(&delivery), ["committed"], "{delivery:#}");
    assert_eq!(open_uploads(&case.world), 0);
    stop(case.daemon);
}

/// Whose manifest is there has not failed, whatever becomes of what comes after it.
#[test]
fn a_marker_that_fails_to_the_last_try_does_not_undo_the_manifest() {
    let slow = || Fault::Answer(503, vec![], s3_error("SlowDown", "Please reduce your request rate."));
    let keys = "success_marker = true\nretry = { attempts = 1 }";
    let case =
        Case::new(keys, move |seen, _| (seen.call == Call::Complete && seen.key.ends_with("_SUCCESS")).then(slow));
    let delivery = case.until_it_has("succeeded");
    assert_eq!(delivery["state"], "committed");
    assert!(case.has(MANIFEST) && !case.has("_SUCCESS"));
    assert_eq!(open_uploads(&case.world), 1);
    let Case { world, proxy, daemon, _sandbox } = case;
    stop(daemon);
    proxy.heal();
    let daemon = world.daemon();
    until("the marker's upload is aborted", SOON, || open_uploads(&world) == 0);
    stop(daemon);
}

/// With a try left it is completed, and the manifest is not asked about again.
#[test]
fn a_marker_that_fails_once_is_completed_by_the_next_try() {
    let slow = || Fault::Answer(503, vec![], s3_error("SlowDown", "Please reduce your request rate."));
    let keys = "success_marker = true\nretry = { attempts = 9, backoff = \"100ms\", max_backoff = \"100ms\" }";
    let mut case =
        Case::new(keys, move |seen, _| (seen.call == Call::Complete && seen.key.ends_with("_SUCCESS")).then(slow));
    case.until_logged("to be tried again", 1);
    case.proxy.heal();
    let delivery = case.until_it_has("succeeded");
    assert_eq!(states(&delivery), ["committed"], "{delivery:#}");
    assert!(case.has("_SUCCESS"));
    let creations = case.proxy.history().into_iter().filter(|event| event.seen.call == Call::Create);
    assert_eq!(creations.filter(|event| event.seen.key.ends_with(MANIFEST)).count(), 1);
    stop(case.daemon);
}
