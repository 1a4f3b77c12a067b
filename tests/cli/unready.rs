//! Customers who are not ready: what is due to them waits with its reason to be seen, and
//! begins when they are; nobody else waits for it.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::daemon::in_state;
use super::world::{self, MANIFEST, Running, SOON, World, files, says, stop, until};
use crate::support::proxy::Proxy;
use crate::support::wire::{Call, Fault, sts_error};

fn world(keys: &str) -> World {
    World::new(&config(keys))
}

/// A share of every second to both, of which each customer gets what it can.
pub(super) fn config(keys: &str) -> String {
    let (acme, globex) =
        (world::customer("acme", 1, "us-east-1", "\"AS\""), world::customer("globex", 2, "us-east-1", "\"HA\""));
    let keys = format!("schedule = \"* * * * * *\"\nto = {{ customers = [\"acme\", \"globex\"] }}\n{keys}");
    world::flights(&format!("{acme}{globex}"), "each", &keys)
}

/// What acme has set up does not fit its profile.
pub(super) const WRONG: [(&str, &str); 1] = [("external_id = \"test-1f-acme\"", "external_id = \"another\"")];

fn kept(world: &World) -> Value {
    let status = world.run(&["status", "--json"]);
    assert!(status.code <= 1, "{status:?}");
    status.json()["ledger"].clone()
}

/// The only customer who is not ready, if there is one.
fn unready(world: &World) -> Option<Value> {
    let kept = kept(world);
    let all = kept["unready"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(all.len() <= 1, "{all:?}");
    all.first().cloned()
}

fn waits(world: &World) -> Value {
    let mut found = None;
    until("acme's delivery waits", SOON, || {
        found = unready(world).filter(|found| found["waiting"].as_u64() > Some(0));
        found.is_some()
    });
    found.unwrap()
}

fn delivered(world: &World, bucket: &str) -> usize {
    files(&world.path("buckets").join(bucket)).keys().filter(|key| key.ends_with(MANIFEST)).count()
}

fn globex_goes_on(world: &World) {
    let before = delivered(world, "globex-data");
    until("the other customer gets its own", SOON, || delivered(world, "globex-data") >= before + 2);
}

fn acme_gets_its_own(world: &World) {
    let before = delivered(world, "acme-data");
    until("acme gets its own", SOON, || unready(world).is_none() && delivered(world, "acme-data") >= before + 2);
}

/// Acme's deliveries that have failed, with why.
fn failures(world: &World) -> Vec<String> {
    let failed = world.run(&["history", "--state", "failed", "-n", "9", "--json"]).ended(0).json();
    let of = |run: &Value| -> Vec<String> {
        let run = world.run(&["show", run["run"].as_str().unwrap(), "--json"]).ended(0).json();
        let deliveries = run["deliveries"].as_array().unwrap().clone();
        let acme = deliveries.into_iter().filter(|delivery| delivery["customer"] == "acme");
        acme.map(|delivery| format!("{}: {}", delivery["failure"]["layer"], delivery["failure"]["message"])).collect()
    };
    failed.as_array().unwrap().iter().flat_map(of).collect()
}

#[test]
fn a_share_to_who_is_not_ready_waits_and_fires_when_it_is() {
    let world = world("");
    let sandbox = world.sandbox_of(&WRONG);
    let daemon = world.daemon();
    let found = waits(&world);
    assert_eq!((&found["customer"], &found["failure"]["layer"]), (&"acme".into(), &"trust-policy".into()));
    says(found["failure"]["remedy"].as_str().unwrap(), &["test-1f-acme", "\"Principal\""]);
    globex_goes_on(&world);
    let told = world.run(&["status"]).ended(0).stdout;
    says(
        &told,
        &[
            "customer acme is not ready since 20",
            "trust policy",
            "times in vain, again at 20",
            "consign preflight acme",
        ],
    );
    assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
    says(&world.log(), &["a customer is not ready: what is due to it waits", "consign preflight"]);
    assert_eq!(delivered(&world, "acme-data"), 0);
    // Who asks for a run is told at once.
    world.run(&["send", "each", "--customer", "acme", "--at", "2026-01-01T00:00:00Z"]).ended(1).out_says(&[
        "acme",
        "FAILED",
        "trust policy",
    ]);
    drop(sandbox);

    let _sandbox = world.sandbox_of(&[]);
    world.run(&["preflight", "acme"]).ended(0);
    acme_gets_its_own(&world);
    says(&world.log(), &["a customer is ready: what waited for it goes on"]);
    // Only the latest slot is made up for, and it is said of the others why they were not delivered.
    let failures = failures(&world);
    assert!(failures.iter().any(|why| why.contains("only the latest slot")), "{failures:?}");
    // On a slow machine slots are left out because of one another, too.
    let of_it = |why: &&String| !why.starts_with("\"schedule\"");
    assert!(failures.iter().filter(of_it).all(|why| why.starts_with("\"trust-policy\"")), "{failures:?}");
    stop(daemon);
    // A remedy has the trust policy in it, which who reads logs need not have.
    assert!(!world.log().contains("test-1f-acme"), "{}", world.log());
}

/// Nothing is told: the daemon looks again by itself.
#[test]
fn who_becomes_ready_is_noticed() {
    // None is left out because another one takes long.
    let slower = config("catch_up = \"all\"\noverlap = \"queue\"").replace("\"* * * * * *\"", "\"*/3 * * * * *\"");
    let world = World::new(&slower);
    let sandbox = world.sandbox_of(&WRONG);
    let daemon = world.daemon();
    waits(&world);
    drop(sandbox);
    let _sandbox = world.sandbox_of(&[]);
    let mut waited = BTreeSet::new();
    // After a minute at most, or two more if the first look met no sandbox.
    until("it is noticed", SOON * 4, || {
        waited.extend(in_state(&world.runs(), "running").into_iter().map(str::to_owned));
        unready(&world).is_none()
    });
    // How many there are depends on when the next look was due.
    assert!(!waited.is_empty());
    until("all that waited is delivered", SOON * 3, || {
        let runs = world.runs();
        let succeeded = in_state(&runs, "succeeded");
        waited.iter().all(|run| succeeded.contains(run.as_str()))
    });
    stop(daemon);
}

#[test]
fn what_waits_for_its_customer_survives_restarts_and_kills() {
    let world = world("catch_up = \"all\"");
    let sandbox = world.sandbox_of(&WRONG);
    let daemon = world.daemon();
    let since = waits(&world)["since"].clone();
    let first = world.runs().last().unwrap()["run"].as_str().unwrap().to_owned();
    stop(daemon);
    assert_eq!(unready(&world).unwrap()["since"], since, "without a daemon too");
    let mut daemon = world.daemon();
    globex_goes_on(&world);
    assert_eq!(waits(&world)["since"], since);
    daemon.signal(Signal::KILL);
    daemon.wait(SOON);
    drop(sandbox);
    let _sandbox = world.sandbox_of(&[]);
    // Each start looks at once.
    let daemon = world.daemon();
    acme_gets_its_own(&world);
    until("the first slot is delivered to both", SOON, || {
        world.run(&["show", &first, "--json"]).ended(0).json()["run"]["state"] == "succeeded"
    });
    stop(daemon);
}

/// Its role is taken away when all is stored, and given back.
#[test]
fn what_is_sealed_waits_for_its_customer_and_is_completed() {
    let keys = "schedule = \"* * * * * *\"\nto = { customers = [\"acme\"] }\ncatch_up = \"all\"";
    let world = World::new(&world::flights(&world::customer("acme", 1, "us-east-1", "\"AS\""), "each", keys));
    let sandbox = world.sandbox();
    let mut dies = world.start(&[], &["run"], &[("CONSIGN_CRASH_AT", "sealed")]);
    assert_eq!(dies.wait(SOON).code(), None);
    drop(sandbox);
    let run = world.runs().last().unwrap()["run"].as_str().unwrap().to_owned();
    let delivery = || world.run(&["show", &run, "--json"]).ended(0).json()["deliveries"][0].clone();
    let sandbox = world.sandbox_of(&WRONG);
    let daemon = world.daemon();
    waits(&world);
    until("it has been refused", SOON, || delivery()["failure"]["layer"] == "trust-policy");
    assert_eq!(delivery()["state"], "sealed");
    // What follows is neither begun nor left out.
    until("others wait", SOON, || waits(&world)["waiting"].as_u64() > Some(2));
    assert!(failures(&world).is_empty(), "{:?}", failures(&world));
    drop(sandbox);
    let _sandbox = world.sandbox_of(&[]);
    world.run(&["preflight", "acme"]).ended(0);
    until("it is completed", SOON, || delivery()["state"] == "committed");
    assert_eq!(delivery()["attempts"].as_array().unwrap().len(), 1, "it is not read again");
    acme_gets_its_own(&world);
    stop(daemon);
}

#[test]
fn a_reload_looks_at_who_is_not_ready() {
    let world = world("");
    let _sandbox = world.sandbox();
    let right = world.text();
    world.write("consign.toml", right.replace("test-1f-acme", "a-typo"));
    let daemon = world.daemon();
    waits(&world);
    world.write("consign.toml", right);
    world.run(&["reload", "--wait"]).ended(0);
    acme_gets_its_own(&world);
    stop(daemon);
}

#[test]
fn a_deadline_ends_what_waits_for_its_customer() {
    let world = world("deadline = \"3s\"\ncatch_up = \"all\"");
    let _sandbox = world.sandbox_of(&WRONG);
    let daemon = world.daemon();
    // A first one may be too late before it is known that the customer is not ready.
    let mut late = Vec::new();
    until("its deadline has passed", SOON, || {
        late = failures(&world);
        late.retain(|why| why.contains("the customer is not ready since") && why.contains("which is the deadline"));
        !late.is_empty()
    });
    assert!(late.iter().all(|why| why.starts_with("\"trust-policy\"")), "{late:?}");
    globex_goes_on(&world);
    stop(daemon);
}

/// What nobody makes up for need not wait.
#[test]
fn without_catch_up_nothing_waits_for_its_customer() {
    let world = world("catch_up = \"none\"");
    let _sandbox = world.sandbox_of(&WRONG);
    let daemon = world.daemon();
    until("it fails", SOON, || !failures(&world).is_empty());
    assert_eq!(unready(&world).map(|found| found["waiting"].clone()), None);
    stop(daemon);
}

/// Its bucket refuses, which is found before its dataset is read.
#[test]
fn customers_are_looked_at_before_the_first_delivery() {
    let world = world("");
    let wrong = (
        "bucket = \"acme-data\"\nregion = \"us-east-1\"\nprefix = \"in/\"",
        "bucket = \"acme-data\"\nregion = \"us-east-1\"\nprefix = \"other/\"",
    );
    let _sandbox = world.sandbox_of(&[wrong]);
    let daemon = world.daemon();
    let found = waits(&world);
    assert_eq!(found["failure"]["layer"], "role-policy");
    says(found["failure"]["message"].as_str().unwrap(), &["CreateMultipartUpload", "in/_consign-preflight"]);
    globex_goes_on(&world);
    stop(daemon);
}

/// The role's maximum is its customer's to change, and no slot is lost over it.
#[test]
fn a_role_of_shorter_sessions_has_deliveries_wait() {
    let world = world("catch_up = \"all\"");
    let sandbox = world.sandbox();
    world.write("consign.toml", world.text().replace("[aws]\n", "[aws]\nsession_duration = \"2h\"\n"));
    let daemon = world.daemon();
    let waits = |customer: &str| {
        let unready = kept(&world)["unready"].as_array().cloned().unwrap_or_default();
        unready.into_iter().find(|found| found["customer"] == customer && found["waiting"].as_u64() > Some(0))
    };
    let mut found = None;
    until("both wait", SOON, || {
        found = waits("acme").filter(|_| waits("globex").is_some());
        found.is_some()
    });
    let failure = found.unwrap()["failure"].clone();
    assert_eq!(failure["layer"], "role-policy");
    says(failure["remedy"].as_str().unwrap(), &["session_duration", "--max-session-duration"]);
    assert_eq!(failures(&world), [] as [String; 0]);
    stop(daemon);
    drop(sandbox);
}

/// Whose role anybody could name gets its deliveries, and that is not passed over.
#[test]
fn a_role_that_lets_in_whoever_names_it_is_told_until_it_does_not() {
    let world = world("");
    let open = [("external_id = \"test-1f-acme\"", "allow_missing_external_id = true")];
    let sandbox = world.sandbox_of(&open);
    let exposed = |world: &World| kept(world)["exposed"].as_array().cloned().unwrap_or_default();
    let daemon = world.daemon();
    until("it is found", SOON, || !exposed(&world).is_empty());
    let found = exposed(&world).remove(0);
    assert_eq!((&found["customer"], &found["failure"]["layer"]), (&"acme".into(), &"trust-policy".into()));
    says(found["failure"]["message"].as_str().unwrap(), &["without any external ID", "confused deputy"]);
    says(found["failure"]["remedy"].as_str().unwrap(), &["test-1f-acme", "\"Principal\""]);
    acme_gets_its_own(&world);
    let told = world.run(&["status"]).ended(0).stdout;
    says(&told, &["customer acme: critical: its role lets in whoever names it", "consign preflight acme"]);
    says(&world.log(), &["ERROR", "critical: a role lets in whoever names it", "customer=acme"]);
    assert!(!world.log().contains("test-1f-acme"), "{}", world.log());
    // It outlives the daemon, and is looked at again at the start.
    stop(daemon);
    assert_eq!(exposed(&world).len(), 1);
    let daemon = world.daemon();
    until("it is told again", SOON, || world.log().matches("critical: a role").count() >= 2);
    assert_eq!(exposed(&world).len(), 1);
    drop(sandbox);
    let _sandbox = world.sandbox_of(&[]);
    world.run(&["preflight", "acme"]).ended(0);
    until("it is no longer so", SOON, || exposed(&world).is_empty());
    acme_gets_its_own(&world);
    stop(daemon);
}

#[test]
fn customers_are_looked_at_at_the_start() {
    let world = world("start = 2099-01-01T00:00:00Z");
    let sandbox = world.sandbox_of(&WRONG);
    let at_start = |world: &World| {
        world.write("consign.toml", world.text().replace("[daemon]\n", "[daemon]\npreflight = \"start\"\n"));
    };
    at_start(&world);
    let daemon = world.daemon();
    until("acme is found not to be ready", SOON, || unready(&world).is_some());
    assert_eq!(unready(&world).unwrap()["waiting"], 0);
    assert_eq!(world.runs().len(), 0);
    drop(sandbox);
    stop(daemon);
}

/// It would begin when acme is ready, and is not to.
#[test]
fn what_waits_for_its_customer_can_be_cancelled() {
    let world = world("catch_up = \"all\"");
    let _sandbox = world.sandbox_of(&WRONG);
    let daemon: Running = world.daemon();
    waits(&world);
    let run =
        world.runs().iter().rev().find(|run| run["state"] == "running").unwrap()["run"].as_str().unwrap().to_owned();
    world.run(&["cancel", &run, "--reason", "not wanted"]).ended(0);
    until("it has ended", SOON, || world.run(&["show", &run, "--json"]).ended(0).json()["run"]["state"] == "failed");
    says(&failures(&world).concat(), &["not wanted"]);
    stop(daemon);
}

/// A send has only its own customers' deliveries tried, and ends no run that somebody else waits in.
#[test]
fn what_waits_for_one_customer_outlives_a_send_to_another() {
    // All slots of the share are looked at, because they go in order.
    let world = World::new(&config("latest_pointer = true").replace("\"* * * * * *\"", "\"@daily\"\nend = 2026-01-04"));
    let sandbox = world.sandbox_of(&WRONG);
    world.run(&["backfill", "each", "--from", "2026-01-01", "--to", "2026-01-02"]).ended(0);
    let daemon = world.daemon();
    let waiting = || unready(&world).map(|found| found["waiting"].clone());
    until("both of acme's wait", SOON, || waiting() == Some(2.into()) && delivered(&world, "globex-data") == 2);
    stop(daemon);
    world.run(&["send", "each", "--customer", "globex", "--at", "2026-01-02T00:00:00Z"]).ended(0);
    assert_eq!((waiting(), failures(&world)), (Some(2.into()), vec![]));
    drop(sandbox);
    let _sandbox = world.sandbox_of(&[]);
    let daemon = world.daemon();
    until("both are delivered", SOON, || delivered(&world, "acme-data") == 2);
    stop(daemon);
}

/// It is found while its deadline passes, which would stop what is not stored whole.
#[test]
fn a_deadline_does_not_end_what_is_sealed_and_waits_for_its_customer() {
    let keys = "schedule = \"*/5 * * * * *\"\nto = { customers = [\"acme\"] }\ncatch_up = \"all\"\ndeadline = \"2s\"";
    let world = World::new(&world::flights(&world::customer("acme", 1, "us-east-1", "\"AS\""), "each", keys));
    let _sandbox = world.sandbox();
    let proxy = Proxy::start(&world.endpoint());
    world.configure(&proxy.endpoint, "", "");
    let mut dies = world.start(&[], &["run"], &[("CONSIGN_CRASH_AT", "sealed")]);
    assert_eq!(dies.wait(SOON).code(), None);
    // One that was too slow to be sealed has failed, and the next one was tried.
    let run = world.runs()[0]["run"].as_str().unwrap().to_owned();
    let delivery = || world.run(&["show", &run, "--json"]).ended(0).json()["deliveries"][0].clone();
    proxy.obey(|seen, _| {
        (seen.call == Call::AssumeRole).then(|| {
            sleep(Duration::from_secs(4));
            Fault::Answer(403, vec![], sts_error("AccessDenied", "not any more"))
        })
    });
    let daemon = world.daemon();
    until("it has been refused", SOON, || delivery()["failure"]["layer"] == "trust-policy");
    assert_eq!(delivery()["state"], "sealed", "{}", delivery());
    proxy.heal();
    world.run(&["preflight", "acme"]).ended(0);
    until("it is completed", SOON, || delivery()["state"] == "committed");
    stop(daemon);
}

/// Nobody would look at it any more: it says what the configuration has against it.
#[test]
fn what_waits_for_its_customer_ends_when_its_share_no_longer_goes_there() {
    let changes = [
        ("[shares.each]", "[shares.other]", "share each is no longer configured"),
        ("\"acme\", \"globex\"]", "\"globex\"]", "share each no longer goes to customer acme"),
    ];
    for (old, new, why) in changes {
        let world = world("catch_up = \"all\"");
        let _sandbox = world.sandbox_of(&WRONG);
        let daemon = world.daemon();
        waits(&world);
        let run = world.runs().last().unwrap()["run"].as_str().unwrap().to_owned();
        world.write("consign.toml", world.text().replace(old, new));
        world.run(&["reload", "--wait"]).ended(0);
        let shown = || world.run(&["show", &run, "--json"]).ended(0).json();
        until(why, SOON, || shown()["run"]["state"] == "failed");
        let failure = shown()["deliveries"][0]["failure"].clone();
        assert_eq!((&failure["layer"], &failure["message"]), (&"config".into(), &why.into()));
        stop(daemon);
    }
}

/// Its customer is looked at without a pause.
#[test]
fn a_retry_of_what_waits_for_its_customer_delivers_it() {
    let world = world("catch_up = \"all\"");
    let sandbox = world.sandbox_of(&WRONG);
    let daemon = world.daemon();
    waits(&world);
    let run = world.runs().last().unwrap()["run"].as_str().unwrap().to_owned();
    drop(sandbox);
    let _sandbox = world.sandbox_of(&[]);
    world.run(&["retry", &run, "--json"]).ended(0).out_says(&["\"acme\"", "\"committed\""]);
    stop(daemon);
}
