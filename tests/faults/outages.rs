//! What stays wrong for a while, or for one customer alone: a bucket that is down, a
//! session that has expired, a role that is throttled or refused. Others get what is
//! due to them, and so does this one in the end, without a hand.

use std::collections::BTreeMap;
use std::fs;

use super::scene::{AT_ONCE, Plan, Scene, Server};
use super::storm::refusal;
use crate::cli::world::{Running, SOON, stop, until};
use crate::support::wire::{Call, Seen};

/// The only one that fires while these tests run.
const OFTEN: &str = "schedule = \"*/2 * * * * *\"\noverlap = \"allow\"\nto = { all = true }\n\
    catch_up = \"all\"\nretry = { attempts = 2, backoff = \"1s\", max_backoff = \"2s\" }";
const IN_ORDER: &str = "schedule = \"*/2 * * * * *\"\noverlap = \"queue\"\nto = { customers = [\"acme\"] }\n\
    catch_up = \"all\"\nretry = { attempts = 20, backoff = \"100ms\", max_backoff = \"1s\" }";
const YEARLY: &str = "schedule = \"@yearly\"\nto = { customers = [\"acme\"] }";

/// `FAILURES` of `host/daemon/breaker.rs`.
const FAILURES: u64 = 3;
/// Requests of one operation, its retries included (docs/delivery.md).
const TRIES: u64 = 4;
/// Of one delivery of rows.
const OBJECTS_MAX: u64 = 4;

fn scene() -> Scene {
    scene_of([OFTEN, YEARLY, YEARLY])
}

fn scene_of(shares: [&str; 3]) -> Scene {
    let [rows, files, newest] = shares.map(str::to_owned);
    // Nothing may be asked twice because the machine is busy.
    let patience = ["60s", "120s"];
    // So that requests can be counted: none is a look's.
    let (server, preflight) = (Server::Sandbox, "never");
    Scene::new(&Plan { server, rows, files, newest, patience, large: true, preflight, postgres: None })
}

/// A daemon that is at work.
fn daemon(scene: &Scene) -> Running {
    let daemon = scene.start("consign.toml", &["run"]);
    scene.settles();
    daemon
}

fn committed(scene: &Scene, customer: &str) -> u64 {
    scene.count(&format!("deliveries WHERE customer = '{customer}' AND state = 'committed'"))
}

fn attempts(scene: &Scene) -> u64 {
    scene.count("attempts a JOIN deliveries d ON d.id = a.delivery WHERE d.customer = 'acme'")
}

/// Both others get so many slots more.
fn others_get(scene: &Scene, slots: u64) {
    let others = ["beta", "gamma"].map(|customer| (customer, committed(scene, customer) + slots));
    until("the others get their own", SOON, || {
        others.iter().all(|(customer, slots)| committed(scene, customer) >= *slots)
    });
}

/// Whatever was due to acme is delivered, by the daemon, and no try of it is the last.
fn acme_gets_all(scene: &Scene) {
    assert_eq!(scene.run(&["pause", "rows"]).code(), Some(0));
    // A bucket that was down is tried again after half a minute at most, and then one slot after the other.
    until("acme gets all", SOON * 3, || scene.count("runs WHERE state = 'running'") == 0 && scene.missing().is_empty());
    assert_eq!(scene.count("deliveries WHERE state = 'failed'"), 0, "{}", scene.failures());
}

fn is_acmes_role(scene: &Scene) -> impl Fn(&Seen) -> bool + Send + 'static {
    let role = scene.profiles[0].role_arn.clone();
    move |seen| seen.call == Call::AssumeRole && seen.form().get("RoleArn") == Some(&role)
}

#[test]
fn faults_of_a_bucket_that_is_down_are_its_own() {
    let scene = scene();
    scene.proxy.obey(|seen, _| seen.bucket.starts_with("acme").then(|| refusal(seen.call, 503, "SlowDown")));
    let daemon = daemon(&scene);
    let shut = || scene.log().matches("does not answer: nothing more is begun there").count() as u64;
    until("nothing more is begun there", SOON, || shut() > 0);
    // With the places that acme does not take. Each slot is due to acme too.
    others_get(&scene, 10);
    // Asked in this order, because both go on.
    let asked = scene.proxy.asked(|seen| seen.bucket.starts_with("acme")) as u64;
    let (attempts, shut) = (attempts(&scene), shut());
    println!("{asked} requests of {attempts} attempts, shut {shut} times");
    // Those that had begun when it was shut, and each time one to see.
    assert!(attempts < FAILURES + AT_ONCE + shut, "{attempts} attempts, shut {shut} times");
    assert!(asked <= attempts * OBJECTS_MAX * TRIES, "{asked} requests of {attempts} attempts");
    assert_eq!(committed(&scene, "acme"), 0);
    scene.proxy.heal();
    acme_gets_all(&scene);
    stop(daemon);
    scene.story(0).holds("a bucket that was down");
}

/// All requests of the session are refused from that moment on.
#[test]
fn faults_of_an_expired_session_cost_no_second_attempt() {
    for at in [Call::Part, Call::Complete] {
        let scene = scene();
        let (folder, mut expired) = (scene.world.path("files/acme"), None);
        scene.proxy.obey(move |seen, before| {
            if expired.is_none() && seen.call == at && before == 1 {
                expired = Some(seen.access_key().to_owned());
                if at == Call::Complete {
                    // Nobody reads it again.
                    fs::remove_dir_all(&folder).unwrap();
                }
            }
            (expired.as_deref() == Some(seen.access_key())).then(|| refusal(seen.call, 400, "ExpiredToken"))
        });
        let sent = scene.run(&["send", "files", "--at", "2020-01-01T00:00:00Z"]);
        assert_eq!(sent.code(), Some(0), "{at:?}: {}", scene.log());
        let mut done: BTreeMap<_, u32> = BTreeMap::new();
        for event in scene.proxy.history().iter().filter(|event| event.carried_out.is_some()) {
            let seen = &event.seen;
            let part = seen.query.get("partNumber").cloned();
            *done.entry((seen.call, seen.key.clone(), part)).or_default() += 1;
        }
        let assumed = done.remove(&(Call::AssumeRole, String::new(), None));
        assert_eq!(assumed, Some(2), "{at:?}: a new session, and no more");
        assert!(done.values().all(|times| *times == 1), "{at:?}: in the same uploads, each part once: {done:?}");
        assert_eq!(attempts(&scene), 1, "{at:?}");
        scene.story(0).holds(&format!("a session that expired at {at:?}"));
    }
}

#[test]
fn faults_of_a_role_that_is_throttled_are_its_own() {
    let scene = scene();
    let is_its = is_acmes_role(&scene);
    scene.proxy.obey(move |seen, _| is_its(seen).then(|| refusal(seen.call, 400, "Throttling")));
    let daemon = daemon(&scene);
    others_get(&scene, 4);
    let (asked, attempts) = (scene.proxy.asked(is_acmes_role(&scene)) as u64, attempts(&scene));
    assert!(attempts > 0 && asked <= attempts * TRIES, "{asked} requests of {attempts} attempts");
    assert_eq!(scene.proxy.asked(|seen| seen.bucket.starts_with("acme")), 0);
    scene.proxy.heal();
    acme_gets_all(&scene);
    // Half of the backoff at least, after each try that failed.
    let soon = "attempts a JOIN attempts b ON b.delivery = a.delivery AND b.number = a.number + 1
                WHERE b.started_at - a.ended_at < 500000";
    assert_eq!(scene.count(soon), 0);
    stop(daemon);
    scene.story(0).holds("a role that was throttled");
}

#[test]
fn faults_of_a_role_that_is_refused_are_its_own() {
    let scene = scene();
    let is_its = is_acmes_role(&scene);
    scene.proxy.obey(move |seen, _| is_its(seen).then(|| refusal(seen.call, 403, "AccessDenied")));
    let daemon = daemon(&scene);
    others_get(&scene, 4);
    // What is due to it waits after the first refusal.
    let attempts = attempts(&scene);
    assert!(attempts > 0 && attempts <= AT_ONCE, "{attempts}");
    assert_eq!(scene.proxy.asked(|seen| seen.bucket.starts_with("acme")), 0);
    scene.proxy.heal();
    // Has it looked at without waiting for its time.
    assert_eq!(scene.run(&["reload"]).code(), Some(0));
    acme_gets_all(&scene);
    stop(daemon);
    scene.story(0).holds("a role that was refused");
}

/// A slot that is stored and cannot be completed is in the way of the next one, which would have the same keys.
#[test]
fn faults_of_completions_keep_slots_in_order() {
    let scene = scene_of([YEARLY, YEARLY, IN_ORDER]);
    scene.proxy.obey(|seen, _| (seen.call == Call::Complete).then(|| refusal(seen.call, 500, "InternalError")));
    let daemon = daemon(&scene);
    // The first has failed, and the next ones have had their turn.
    until("it is tried again", SOON, || scene.count("deliveries WHERE state = 'sealed' AND tries > 0") == 1);
    until("others are due", SOON, || scene.count("slots WHERE share = 'newest'") >= 5);
    assert_eq!(scene.count("deliveries WHERE state = 'sealed'"), 1);
    scene.proxy.heal();
    assert_eq!(scene.run(&["pause", "newest"]).code(), Some(0));
    until("acme gets all", SOON * 3, || scene.count("runs WHERE state = 'running'") == 0);
    stop(daemon);
    assert!(scene.missing().iter().all(|missing| missing.overtaken), "{:?}", scene.missing());
    scene.story(0).holds("completions that fail for a while");
}
