//! What a process that died leaves, and what the next one makes of it, also when
//! the configuration has changed in between.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::world::{self, MANIFEST, Running, SOON, World, command, until};

const SHARE: &str = r#"
schedule = "@daily"
key = "{share}/{slot:%Y-%m-%d}/{name}"
to = { customers = ["acme"] }
"#;

fn config() -> String {
    let customers =
        world::customer("acme", 1, "us-east-1", "\"AS\"") + &world::customer("beta", 2, "us-east-1", "\"HA\"");
    world::flights(&customers, "daily", SHARE)
}

/// The share has ended, so that nothing fires by itself at midnight while a daemon lives.
fn ended() -> String {
    config().replace("@daily\"", "@daily\"\nend = 2026-01-04")
}

const SLOT: &str = "2026-01-01T00:00:00Z";
const SEND: [&str; 5] = ["send", "daily", "--at", SLOT, "--json"];
const ROWS: u64 = 714;

/// A `send` that died at this point.
fn crashed(world: &World, point: &str) {
    let args = [&["--config", "consign.toml"], &SEND[..]].concat();
    let mut command = command(world.dir(), &args);
    let output = command.env("CONSIGN_CRASH_AT", point).output().unwrap();
    assert_eq!(output.status.code(), None, "{point}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(world.runs()[0]["state"], "running", "{point}");
}

fn change(world: &World, old: &str, new: &str) {
    let text = world.text();
    assert!(text.contains(old));
    world.write("consign.toml", text.replace(old, new));
}

fn open_uploads(world: &World) -> usize {
    fs::read_dir(world.path("buckets/.sandbox/uploads")).unwrap().count()
}

fn shown(world: &World, run: &Value) -> Value {
    world.run(&["show", run.as_str().unwrap(), "--json"]).ended(0).json()
}

/// The states of the only delivery's attempts, and of all their uploads.
fn attempts(shown: &Value) -> (Vec<&str>, Vec<&str>) {
    let attempts = shown["deliveries"][0]["attempts"].as_array().unwrap();
    let states = attempts.iter().map(|attempt| attempt["state"].as_str().unwrap()).collect();
    let uploads = attempts.iter().flat_map(|attempt| attempt["uploads"].as_array().unwrap());
    (states, uploads.map(|upload| upload["state"].as_str().unwrap()).collect())
}

/// The only manifest in a bucket; all that it names is there, and nothing else.
fn manifest(world: &World, bucket: &str) -> (String, Value) {
    let mut manifests = world::manifests(&world.path("buckets").join(bucket));
    assert_eq!(manifests.len(), 1, "{manifests:?}");
    manifests.pop_first().unwrap()
}

fn daemon_until(world: &World, what: &str, done: impl Fn() -> bool) {
    let mut daemon = world.daemon();
    until(what, SOON, || {
        assert!(daemon.is_running(), "{}", world.log());
        done()
    });
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
}

/// At whatever step the process died, the slot is committed once, and `send`
/// takes up what it finds instead of asking for the daemon.
#[test]
fn recovery_after_every_step_commits_once() {
    // The second upload is the manifest's.
    for point in ["upload-created", "upload-created:2", "sealed", "object-completed", "completed", "manifest"] {
        let world = World::new(&config());
        let _sandbox = world.sandbox();
        crashed(&world, point);
        let run = world.runs()[0]["run"].clone();
        let said = world.run(&SEND).ended(0).json();
        assert_eq!(said["outcomes"][0]["state"], "already-committed", "{point}: {said}");
        assert_eq!(said["outcomes"][0]["earlier"], run, "{point}");
        let (_, manifest) = manifest(&world, "acme-data");
        assert_eq!((&manifest["run"], &manifest["rows"]), (&run, &json!(ROWS)), "{point}");
        let shown = shown(&world, &run);
        assert_eq!(shown["run"]["state"], "succeeded", "{point}");
        let (states, uploads) = attempts(&shown);
        let begins_anew = point.starts_with("upload-created");
        let expected = if begins_anew { vec!["interrupted", "committed"] } else { vec!["committed"] };
        assert_eq!(states, expected, "{point}");
        assert!(!uploads.contains(&"created"), "{point}: {uploads:?}");
        assert_eq!(open_uploads(&world), 0, "{point}");
    }
}

/// A process that found the manifest to be its own dies before it has written that down.
#[test]
fn recovery_that_dies_too_still_finds_its_own_manifest() {
    let world = World::new(&config());
    let _sandbox = world.sandbox();
    crashed(&world, "manifest");
    let run = world.runs()[0]["run"].clone();
    for point in ["aborted", "manifest", "manifest"] {
        crashed(&world, point);
    }
    let said = world.run(&SEND).ended(0).json();
    assert_eq!(said["outcomes"][0]["state"], "already-committed", "{said}");
    assert_eq!(manifest(&world, "acme-data").1["run"], run);
}

/// What was stored in one bucket is not looked for in another.
#[test]
fn recovery_does_not_take_another_bucket_for_the_one_it_stored_in() {
    for point in ["upload-created", "sealed"] {
        let world = World::new(&ended());
        let mut sandbox = world.sandbox();
        crashed(&world, point);
        sandbox.signal(Signal::INT);
        sandbox.wait(SOON);
        let run = world.runs()[0]["run"].clone();
        let moved = ended().replace("acme-data", "acme-new").replace("000000000001", "000000000003");
        let world = world.with(&moved);
        let _sandbox = world.sandbox();
        daemon_until(&world, "the slot is committed", || {
            world.runs().iter().any(|of| of["run"] == run && of["state"] == "succeeded")
        });
        let (_, manifest) = manifest(&world, "acme-new");
        assert_eq!((&manifest["run"], &manifest["rows"]), (&run, &json!(ROWS)), "{point}");
        assert!(world::files(&world.path("buckets/acme-data")).is_empty(), "{point}");
        let shown = shown(&world, &run);
        let (states, uploads) = attempts(&shown);
        assert_eq!(states, ["interrupted", "committed"], "{point}");
        // What is sealed has the manifest's too.
        let (abandoned, completed) = uploads.split_at(if point == "sealed" { 2 } else { 1 });
        assert!(abandoned.iter().all(|state| *state == "abandoned"), "{point}: {uploads:?}");
        assert!(completed.iter().all(|state| *state == "completed"), "{point}: {uploads:?}");
    }
}

/// Nor where there is no object to tell whether the manifest was asked for: that is written down.
#[test]
fn recovery_of_a_delivery_of_nothing_knows_whether_its_manifest_may_be_there() {
    let config = config().replace("\"AS\"", "\"ZZ\"").replace("\"@daily\"", "\"@daily\"\nempty = \"skip\"");
    for (point, moves) in [("sealed", true), ("completed", false)] {
        let world = World::new(&config);
        let mut sandbox = world.sandbox();
        crashed(&world, point);
        sandbox.signal(Signal::INT);
        sandbox.wait(SOON);
        let run = world.runs()[0]["run"].clone();
        let world = world.with(&config.replace("acme-data", "acme-new").replace("000000000001", "000000000003"));
        let _sandbox = world.sandbox();
        if !moves {
            let told = "where no profile of customer acme leads any more";
            daemon_until(&world, "it is in doubt", || world.log().contains(told));
            assert_eq!(attempts(&shown(&world, &run)).0, ["sealed"]);
            continue;
        }
        daemon_until(&world, "the slot is committed", || {
            world.runs().iter().any(|of| of["run"] == run && of["state"] == "succeeded")
        });
        let (_, manifest) = manifest(&world, "acme-new");
        assert_eq!((&manifest["run"], &manifest["rows"]), (&run, &json!(0)));
        assert_eq!(attempts(&shown(&world, &run)).0, ["interrupted", "committed"]);
    }
}

/// Rows that were read as another's by mistake are given to nobody once that is put right; what has its manifest, or may
/// have it, stays what it is.
#[test]
fn recovery_reads_again_what_was_read_by_a_mistake() {
    let right = "carrier = \"AS\"";
    let cases = [
        ("sealed", "carrier = \"UA\"", vec!["interrupted", "committed"]),
        ("completed", "carrier = \"UA\"", vec!["committed"]),
        // Nothing that its dataset names.
        ("sealed", "carrier = \"AS\", another = 1", vec!["committed"]),
    ];
    for (point, wrong, expected) in cases {
        let world = World::new(&config().replace(right, wrong));
        let _sandbox = world.sandbox();
        crashed(&world, point);
        let run = world.runs()[0]["run"].clone();
        change(&world, wrong, right);
        world.run(&SEND).ended(0);
        assert_eq!(attempts(&shown(&world, &run)).0, expected, "{point} {wrong}");
        let (_, manifest) = manifest(&world, "acme-data");
        let is_right = manifest["rows"] == ROWS;
        assert_eq!(is_right, point == "sealed", "{point} {wrong}: {manifest}");
    }
}

/// What was stored by one key of KMS is completed by that, whichever the profile names since.
#[test]
fn recovery_completes_what_an_earlier_key_encrypts() {
    let key =
        |id: &str| format!("\"acme-data\"\nencryption = {{ kms = \"arn:aws:kms:us-east-1:100000000001:key/{id}\" }}");
    let world = World::new(&config().replace("\"acme-data\"", &key("0a1b")));
    world.write("sandbox.toml", KEYS);
    let mut sandbox = command(world.dir(), &["sandbox", "--file", "sandbox.toml", "--listen", "127.0.0.1:0", "--json"]);
    let (_sandbox, endpoint) = world::serving(&mut sandbox, &world.path("sandbox.json"), &world.path("sandbox.log"));
    world.configure(&endpoint, "", "");
    crashed(&world, "sealed");
    let run = world.runs()[0]["run"].clone();
    change(&world, "key/0a1b", "key/2c3d");
    world.run(&SEND).ended(0);
    assert_eq!(attempts(&shown(&world, &run)).0, ["committed"]);
}

/// Acme's account, whose role may use both keys.
const KEYS: &str = r#"
dir = "buckets"
[vendor]
access_key_id = "AKIACONSIGNSANDBOX00"
secret_access_key = "consign-sandbox-secret"
[[accounts]]
id = "100000000001"
[[accounts.roles]]
name = "flight-data"
policy = """{ "Version": "2012-10-17", "Statement": [
  { "Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::acme-data/in/*" },
  { "Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": "arn:aws:kms:us-east-1:100000000001:key/*" }
] }"""
[accounts.roles.trust]
principal = "999999999999"
external_id = "test-1f-acme"
[[accounts.buckets]]
name = "acme-data"
region = "us-east-1"
[[accounts.keys]]
id = "0a1b"
region = "us-east-1"
[[accounts.keys]]
id = "2c3d"
region = "us-east-1"
"#;

/// A customer who was taken off a share gets nothing more of it, sealed or not.
#[test]
fn recovery_gives_nothing_to_a_customer_who_was_taken_off() {
    for point in ["upload-created", "sealed"] {
        let world = World::new(&ended());
        let _sandbox = world.sandbox();
        crashed(&world, point);
        let run = world.runs()[0]["run"].clone();
        change(&world, "customers = [\"acme\"]", "customers = [\"beta\"]");
        daemon_until(&world, "the run has ended", || {
            world.runs().iter().any(|of| of["run"] == run && of["state"] == "failed")
        });
        let shown = shown(&world, &run);
        let failure = &shown["deliveries"][0]["failure"];
        assert_eq!(failure["layer"], "config", "{point}: {shown}");
        assert_eq!(failure["message"], "share daily no longer goes to customer acme", "{point}");
        assert!(world::files(&world.path("buckets/acme-data")).is_empty(), "{point}");
        assert_eq!(open_uploads(&world), 0, "{point}");
    }
}

/// A sealed delivery keeps the key that it was sealed with.
#[test]
fn recovery_puts_the_manifest_next_to_its_objects() {
    for point in ["sealed", "manifest"] {
        let world = World::new(&config());
        let _sandbox = world.sandbox();
        crashed(&world, point);
        change(&world, "{share}/{slot:%Y-%m-%d}/{name}", "v2/{share}/{slot:%Y-%m-%d}/{name}");
        world.run(&SEND).ended(0);
        assert_eq!(manifest(&world, "acme-data").0, format!("in/daily/2026-01-01/{MANIFEST}"), "{point}");
    }
}

/// A run by hand that died, of a slot that the daemon then plans itself.
#[test]
fn recovery_of_a_slot_that_is_planned_meanwhile() {
    let world = World::new(&config().replace("@daily", "* * * * * *").replace("%Y-%m-%d", "%Y-%m-%dT%H%M%S"));
    let _sandbox = world.sandbox();
    daemon_until(&world, "the share has a cursor", || !world.runs().is_empty());
    // A second that the daemon has delivered is no slot to send: the next one is.
    until("a send died", SOON, || {
        let mut command = command(world.dir(), &["--config", "consign.toml", "send", "daily"]);
        command.env("CONSIGN_CRASH_AT", "sealed").output().unwrap().status.code().is_none()
    });
    let run = world.runs().iter().find(|run| run["origin"] == "manual").unwrap()["run"].clone();
    let of = |run: &Value| world.runs().into_iter().find(|of| of["run"] == *run).unwrap();
    daemon_until(&world, "it is committed, and others after it", || {
        of(&run)["state"] == "succeeded"
            && world.runs().iter().any(|later| later["slot"].as_str() > of(&run)["slot"].as_str())
    });
    daemon_until(&world, "a second start finds nothing wrong", || world.log().matches("consign is ready").count() >= 3);
}

/// Two slots with one key: the second is refused before it has stored anything.
#[test]
fn recovery_is_not_needed_of_a_slot_that_another_has_the_key_of() {
    let config = config().replace("@daily", "0 */6 * * *");
    let world = World::new(&config);
    let _sandbox = world.sandbox();
    world.run(&SEND).ended(0);
    let before = world::files(&world.path("buckets"));
    let said = world.run(&["send", "daily", "--at", "2026-01-01T06:00:00Z", "--json"]).ended(1).json();
    let failure = &said["outcomes"][0]["failure"];
    assert_eq!(failure["layer"], "conflict", "{said}");
    let message = failure["message"].as_str().unwrap();
    world::says(message, &["in/daily/2026-01-01/_manifest.json", "belongs to slot daily@2026-01-01T00:00:00Z"]);
    assert_eq!(world::files(&world.path("buckets")), before);
}

/// A stop begins nothing more: what waits for its turn waits for the next start.
#[test]
fn recovery_of_what_a_stop_kept_from_beginning() {
    let mut config = config().replace("@daily", "* * * * * *").replace("%Y-%m-%d", "%Y-%m-%dT%H%M%S");
    config = config.replace("customers = [\"acme\"]", "all = true");
    for n in 10..22 {
        config.push_str(&world::customer(&format!("c{n}"), n, "us-east-1", "\"UA\""));
    }
    let world = World::new(&config);
    let _sandbox = world.sandbox();
    change(&world, "[daemon]\n", "[daemon]\nconcurrency = 1\n");
    let began = |run: &Value| {
        let shown = shown(&world, run);
        let deliveries = shown["deliveries"].as_array().unwrap();
        (deliveries.iter().filter(|of| !of["attempts"].as_array().unwrap().is_empty()).count(), deliveries.len())
    };
    let mut daemon: Running = world.daemon();
    until("a run is at work", SOON, || world.runs().last().is_some_and(|run| began(&run["run"]).0 > 0));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
    let run = world.runs().last().unwrap()["run"].clone();
    let (begun, all) = began(&run);
    assert!(begun < all, "{begun} of {all} were begun before the end");
    daemon_until(&world, "the rest is delivered", || {
        world.runs().iter().any(|of| of["run"] == run && of["state"] == "succeeded")
    });
}
