//! What becomes of a sealed delivery when S3's answers prove nothing, or the wrong thing, through
//! the daemon (`docs/decisions/0022-what-an-answer-proves.md`).

use std::collections::HashSet;
use std::fs;

use serde_json::Value;

use super::world::{self, MANIFEST, Running, SOON, World, stop, until};
use crate::support::proxy::Proxy;
use crate::support::wire::{Call, Fault, Seen, s3_error};

const FOLDER: &str = "buckets/acme-data/in/daily/2026-01-01/000000Z";

/// A daemon with one slot to deliver, what it is told by S3, and who makes that up.
pub(super) struct Case {
    pub(super) world: World,
    pub(super) proxy: Proxy,
    pub(super) daemon: Running,
    _sandbox: Running,
}

impl Case {
    pub(super) fn new(keys: &str, script: impl FnMut(&Seen, usize) -> Option<Fault> + Send + 'static) -> Self {
        // It has ended, so that nothing fires by itself at midnight.
        let share = format!("schedule = \"@daily\"\nend = 2026-01-04\n{keys}\nto = {{ customers = [\"acme\"] }}\n");
        let both =
            world::customer("acme", 1, "us-east-1", "\"AS\"") + &world::customer("beta", 2, "us-east-1", "\"HA\"");
        let world = World::new(&world::flights(&both, "daily", &share));
        let sandbox = world.sandbox();
        let proxy = Proxy::start(&world.endpoint());
        world.configure(&proxy.endpoint, "", "");
        world.run(&["backfill", "daily", "--from", "2026-01-01", "--to", "2026-01-01"]).ended(0);
        proxy.obey(script);
        let daemon = world.daemon();
        Self { world, proxy, daemon, _sandbox: sandbox }
    }

    pub(super) fn until_logged(&mut self, text: &str, times: usize) {
        until(text, SOON, || {
            assert!(self.daemon.is_running(), "{}", self.world.log());
            self.world.log().matches(text).count() >= times
        });
    }

    /// The slot's only delivery, when its run is in that state.
    pub(super) fn until_it_has(&self, state: &str) -> Value {
        until(state, SOON, || self.world.runs().iter().any(|run| run["state"] == state));
        let runs = self.world.runs();
        assert_eq!(runs.len(), 1, "{runs:?}");
        self.shown()
    }

    pub(super) fn shown(&self) -> Value {
        shown(&self.world)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.world.path(FOLDER).join(name).exists()
    }

    /// The daemon goes over to this configuration.
    pub(super) fn becomes(&self, text: &str) {
        self.world.write("consign.toml", text);
        self.world.run(&["reload", "--wait"]).ended(0);
    }

    /// Does not wait for the next try, which may have been meanwhile.
    fn hurries(&self) {
        let run = self.world.runs()[0]["run"].clone();
        let asked = self.world.run(&["retry", run.as_str().unwrap(), "--detach"]);
        assert!(asked.code == 0 || asked.stderr.contains("has failed"), "{asked:?}");
    }
}

/// What becomes of a configuration.
pub(super) type Change = fn(&str) -> String;

fn changed(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{old}");
    text.replace(old, new)
}

/// Acme is taken off the share.
fn taken_off(text: &str) -> String {
    changed(text, "customers = [\"acme\"]", "customers = [\"beta\"]")
}

/// After this no profile leads to where its deliveries went.
pub(super) const LEADS_ELSEWHERE: [Change; 3] = [
    |text| taken_off(&changed(text, &world::customer("acme", 1, "us-east-1", "\"AS\""), "")),
    |text| {
        changed(
            text,
            "\"acme-data\"\nregion = \"us-east-1\"\nprefix = \"in/\"",
            "\"acme-data\"\nregion = \"us-east-1\"\nprefix = \"new/\"",
        )
    },
    // The same server by another name.
    |text| changed(text, "http://127.0.0.1", "http://localhost"),
];

fn all_in_one_folder(world: &World) {
    let all = world::files(&world.path("buckets/acme-data"));
    assert!(all.keys().all(|key| key.starts_with("in/daily/2026-01-01/000000Z/")), "{all:?}");
}

pub(super) fn shown(world: &World) -> Value {
    let run = world.runs()[0]["run"].clone();
    world.run(&["show", run.as_str().unwrap(), "--json"]).ended(0).json()["deliveries"][0].clone()
}

pub(super) fn open_uploads(world: &World) -> usize {
    fs::read_dir(world.path("buckets/.sandbox/uploads")).unwrap().count()
}

pub(super) fn states(delivery: &Value) -> Vec<&str> {
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

/// Whatever has become of its share, its customer, or where they lead: it is recorded as what it is, and not made anew.
#[test]
fn a_delivery_whose_manifest_is_there_commits_whatever_is_configured_by_then() {
    let slow = || Fault::Answer(503, vec![], s3_error("SlowDown", "Please reduce your request rate."));
    let keys = "success_marker = true\nretry = { attempts = 100, backoff = \"500ms\", max_backoff = \"500ms\" }";
    for change in LEADS_ELSEWHERE.into_iter().chain([taken_off as Change]) {
        let mut case =
            Case::new(keys, move |seen, _| (seen.call == Call::Complete && seen.key.ends_with("_SUCCESS")).then(slow));
        case.until_logged("to be tried again", 1);
        case.becomes(&change(&case.world.text()));
        let delivery = case.until_it_has("succeeded");
        assert_eq!((states(&delivery), &delivery["state"]), (vec!["committed"], &"committed".into()), "{delivery:#}");
        assert!(case.has(MANIFEST) && !case.has("_SUCCESS"));
        all_in_one_folder(&case.world);
        // What was left for the marker is aborted where that can be.
        stop(case.daemon);
        case.proxy.heal();
        let daemon = case.world.daemon();
        let is_open = |upload: &Value| upload["state"] == "created";
        until("no upload of it is open", SOON, || {
            !shown(&case.world)["attempts"][0]["uploads"].as_array().unwrap().iter().any(is_open)
        });
        stop(daemon);
    }
}

/// Another attempt could double it, and somebody who aborts what is to become its manifest takes the proof away.
#[test]
fn a_manifest_in_doubt_that_nobody_leads_to_waits_until_somebody_does() {
    let internal = || Fault::Answer(500, vec![], s3_error("InternalError", "We encountered an internal error."));
    let keys = "retry = { attempts = 1, backoff = \"100ms\", max_backoff = \"100ms\" }";
    for change in LEADS_ELSEWHERE {
        let mut case = Case::new(keys, move |seen, _| {
            (seen.call == Call::Complete && seen.key.ends_with(MANIFEST)).then(internal)
        });
        case.until_logged("to be tried again", 1);
        let right = case.world.text();
        case.becomes(&change(&right));
        case.until_logged("where no profile of customer acme leads any more", 1);
        let delivery = case.shown();
        assert_eq!((states(&delivery), &delivery["state"]), (vec!["sealed"], &"sealed".into()), "{delivery:#}");
        assert!(delivery["failure"]["remedy"].as_str().unwrap().contains("`bucket_owner` and `prefix`"));
        all_in_one_folder(&case.world);
        assert_eq!(case.proxy.asked(|seen| seen.call == Call::Abort && seen.key.ends_with(MANIFEST)), 0);
        case.proxy.heal();
        case.becomes(&right);
        case.hurries();
        let delivery = case.until_it_has("succeeded");
        assert_eq!(states(&delivery), ["committed"], "{delivery:#}");
        assert_eq!(open_uploads(&case.world), 0);
        all_in_one_folder(&case.world);
        stop(case.daemon);
    }
}

/// All its objects can be seen, so that only its manifest may be missing.
#[test]
fn a_manifest_in_doubt_of_who_was_taken_off_its_share_is_found_out() {
    let internal = || Fault::Answer(500, vec![], s3_error("InternalError", "We encountered an internal error."));
    let keys = "retry = { attempts = 1, backoff = \"100ms\", max_backoff = \"100ms\" }";
    let mut case =
        Case::new(keys, move |seen, _| (seen.call == Call::Complete && seen.key.ends_with(MANIFEST)).then(internal));
    case.until_logged("to be tried again", 1);
    case.becomes(&taken_off(&case.world.text()));
    let tries = case.world.log().matches("to be tried again").count();
    case.until_logged("to be tried again", tries + 1);
    case.proxy.heal();
    case.hurries();
    let delivery = case.until_it_has("succeeded");
    assert_eq!(states(&delivery), ["committed"], "{delivery:#}");
    assert!(case.has(MANIFEST));
    assert_eq!(open_uploads(&case.world), 0);
    stop(case.daemon);
}

/// Its upload is said to be gone, and the next one's only part is not taken.
#[test]
fn uploads_by_which_a_marker_was_not_had_again_are_aborted() {
    let keys = "success_marker = true\nretry = { attempts = 9, backoff = \"100ms\", max_backoff = \"100ms\" }";
    let mut parts = 0;
    let mut case = Case::new(keys, move |seen, _| {
        let (gone, slow) = (s3_error("NoSuchUpload", "gone"), s3_error("SlowDown", "not now"));
        match seen.call {
            Call::Complete if seen.key.ends_with("_SUCCESS") => Some(Fault::Answer(404, vec![], gone)),
            Call::Part if seen.key.ends_with("_SUCCESS") => {
                parts += 1;
                (parts > 1).then(|| Fault::Answer(503, vec![], slow))
            }
            _ => None,
        }
    });
    case.until_logged("to be tried again", 1);
    case.proxy.heal();
    case.until_it_has("succeeded");
    assert!(case.has("_SUCCESS"));
    stop(case.daemon);
    let daemon = case.world.daemon();
    until("nothing is left", SOON, || open_uploads(&case.world) == 0);
    stop(daemon);
}

/// Once for each bucket: whoever has read it for one need not read it with each delivery, and the other has a rule of
/// its own to be given.
#[test]
fn a_rule_for_what_cannot_be_looked_for_is_advised_once_for_each_bucket() {
    let both = world::customer("acme", 1, "us-east-1", "\"AS\"") + &world::customer("beta", 2, "us-east-1", "\"HA\"");
    let share = "schedule = \"@daily\"\nend = 2026-01-04\nto = { customers = [\"acme\", \"beta\"] }\n";
    let world = World::new(&world::flights(&both, "daily", share));
    let _sandbox = world.sandbox();
    let proxy = Proxy::start(&world.endpoint());
    world.configure(&proxy.endpoint, "", "");
    // The reply to each delivery's first upload is lost, and nobody may list.
    let mut lost = HashSet::new();
    proxy.obey(move |seen, _| match seen.call {
        Call::Create if lost.insert((seen.bucket.clone(), seen.key.clone())) => Some(Fault::LoseReply),
        Call::List => Some(Fault::Answer(403, vec![], s3_error("AccessDenied", "Access Denied"))),
        _ => None,
    });
    let daemon = world.daemon();
    let advised = |customer: &str| {
        let log = world.log();
        let lines = log.lines().filter(|line| line.contains("an upload may be left in the bucket, empty"));
        lines.filter(|line| line.contains(&format!("customer={customer}"))).count()
    };
    for day in 1..=3 {
        let slot = format!("2026-01-{day:02}T00:00:00Z");
        until("it can be asked", SOON, || world.run(&["status"]).code == 0);
        world.run(&["send", "daily", "--at", &slot]).ended(0);
        assert_eq!((advised("acme"), advised("beta")), (1, 1), "{}", world.log());
    }
    assert!(proxy.asked(|seen| seen.call == Call::List) >= 6);
    world::says(&world.log(), &["AbortIncompleteMultipartUpload"]);
    stop(daemon);
}
