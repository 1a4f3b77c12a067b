//! Uploads whose creation nobody was told of, at the sandbox, by the real binary: ended where the customer's
//! role lets consign look for them, left to the bucket's lifecycle where it does not.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::scene::{Plan, Scene, Server};
use crate::cli::world::{SOON, checkout, stop, until};
use crate::support::promises::Profile;
use crate::support::wire::{Call, Event, Fault};

const YEARLY: &str = "schedule = \"@yearly\"\nto = { customers = [\"acme\"] }\n\
    retry = { attempts = 9, backoff = \"50ms\", max_backoff = \"200ms\" }";
const SLOT: &str = "2020-01-01T00:00:00Z";

/// S3 may tell whole seconds, and a look that is as old as the process may be another's.
const A_SECOND: Duration = Duration::from_millis(1100);

fn scene() -> Scene {
    let [rows, files, newest] = [(); 3].map(|()| YEARLY.to_owned());
    let (server, preflight) = (Server::Sandbox, "first");
    Scene::new(&Plan {
        server,
        rows,
        files,
        newest,
        patience: ["60s", "120s"],
        large: false,
        preflight,
        postgres: None,
    })
}

/// What docs/delivery.md has customers add who want it.
fn documented(profile: &Profile) -> Value {
    let document = fs::read_to_string(checkout("docs/delivery.md")).unwrap();
    let blocks = document.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut statements = blocks.filter_map(|block| serde_json::from_str::<Value>(block).ok());
    let mut statement = statements.find(|value| value["Action"] == "s3:ListBucketMultipartUploads").unwrap();
    assert_eq!(statement["Resource"], "arn:aws:s3:::acme-data");
    statement["Resource"] = format!("arn:aws:s3:::{}", profile.bucket).into();
    statement
}

/// A daemon that dies of what the proxy does.
fn dies(scene: &Scene) {
    let died = scene.start("consign.toml", &["run"]).wait(SOON);
    assert_eq!(died.signal(), Some(Signal::KILL.as_raw()), "{}", scene.log());
}

/// One dies when it looks at the customer, the next one when it delivers, and both as an upload has been begun. Of the third
/// the same is told to nobody, and it goes on.
fn creations_are_lost(scene: &Scene) {
    assert_eq!(scene.run(&["backfill", "rows", "--from", SLOT, "--to", SLOT]).code(), Some(0), "{}", scene.log());
    let mut number = 0;
    scene.proxy.obey(move |seen, _| {
        number += usize::from(seen.call == Call::Create);
        match number {
            _ if seen.call != Call::Create => None,
            // That of the first look at the customer; after the second look, that of an object, twice.
            1 | 4 => Some(Fault::Kill { carried_out: true }),
            // The first of these got no answer. Nor did another one.
            3 | 6 => Some(Fault::LoseReply),
            _ => None,
        }
    });
    dies(scene);
    sleep(A_SECOND);
    dies(scene);
    sleep(A_SECOND);
    let daemon = scene.start("consign.toml", &["run"]);
    until("the slot is delivered", SOON, || scene.count("deliveries WHERE state = 'committed'") == 1);
    scene.settles();
    stop(daemon);
    let history = scene.proxy.history();
    assert_eq!(history.iter().filter(|event| event.fault.is_some()).count(), 4, "{}", scene.log());
}

fn listings(history: &[Event]) -> Vec<Option<u16>> {
    let listings = history.iter().filter(|event| event.seen.call == Call::List);
    listings.map(|event| event.told.map(|(_, status)| status)).collect()
}

/// Requests for a session that may list, and what came of them.
fn sessions_that_list(history: &[Event]) -> Vec<Option<u16>> {
    let asked =
        history.iter().filter(|event| event.seen.form().get("Policy").is_some_and(|policy| policy.contains("List")));
    asked.map(|event| event.told.map(|(_, status)| status)).collect()
}

#[test]
fn faults_that_lose_creations_leave_nothing_where_the_role_may_list() {
    let mut scene = scene();
    scene.allow(documented);
    creations_are_lost(&scene);
    let story = scene.story(0);
    assert!(story.uploads.is_empty(), "{:?}\n{}", story.uploads, scene.log());
    let (sessions, listings) = (sessions_that_list(&story.events), listings(&story.events));
    // The folder and the key of the look after the death; the key whose creation was not answered.
    assert!(sessions.len() >= 2 && sessions.iter().all(|told| *told == Some(200)), "{sessions:?}");
    assert!(listings.len() >= 3 && listings.iter().all(|told| *told == Some(200)), "{listings:?}");
    assert_eq!(story.kills, 2);
    story.holds("creations were lost");
}

/// It is delivered to all the same, and told what ends them.
#[test]
fn faults_that_lose_creations_leave_them_to_the_bucket_where_the_role_may_not_list() {
    let scene = scene();
    creations_are_lost(&scene);
    let story = scene.story(0);
    let parts: Vec<usize> = story.uploads.values().copied().collect();
    assert_eq!(parts, [0; 4], "empty, and those of which nobody was told\n{}", scene.log());
    let (sessions, listings) = (sessions_that_list(&story.events), listings(&story.events));
    assert!(sessions.iter().all(|told| *told == Some(200)), "{sessions:?}");
    assert!(listings.len() >= 2 && listings.iter().all(|told| *told == Some(403)), "{listings:?}");
    let advice = scene.log().matches("an upload may be left in the bucket, empty, and cannot be looked for").count();
    assert_eq!(advice, 1, "once for each bucket: {}", scene.log());
    story.holds("creations were lost, and may not be looked for");
}

/// Nobody dies, and the delivery looks for it by itself.
#[test]
fn faults_that_lose_a_creation_leave_nothing_when_the_delivery_ends() {
    let mut scene = scene();
    scene.allow(documented);
    scene.proxy.obey(|seen, before| (seen.call == Call::Create && before == 0).then_some(Fault::LoseReply));
    let begun = Instant::now();
    assert_eq!(scene.run(&["send", "rows", "--at", SLOT]).code(), Some(0), "{}", scene.log());
    let story = scene.story(0);
    assert!(story.uploads.is_empty(), "{:?} after {:?}\n{}", story.uploads, begun.elapsed(), scene.log());
    assert_eq!(listings(&story.events), [Some(200)]);
    story.holds("a creation was lost");
}
