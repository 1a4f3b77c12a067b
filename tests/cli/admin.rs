//! A running daemon, asked and told over its socket.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::world::{self, Running, SOON, World, says, stop, until};

/// More than a second's work.
const MANY: &str = r#"["UA", "B6", "EV", "DL", "AA", "MQ"]"#;
const TOO_MUCH: &str = "compression = { codec = \"zstd\", level = 19 }\n";

pub fn world(schedule: &str, carriers: &str, more: &str) -> World {
    let customer = world::customer("acme", 1, "us-east-1", carriers);
    let keys = format!("schedule = \"{schedule}\"\n{more}\nto = {{ customers = [\"acme\"] }}");
    World::new(&world::flights(&customer, "tick", &keys))
}

/// A daemon that can be asked.
pub fn daemon(world: &World) -> Running {
    let daemon = world.daemon();
    until("the daemon can be asked", SOON, || world.run(&["status"]).code == 0);
    daemon
}

pub fn in_state(world: &World, state: &str) -> Vec<String> {
    let runs = world.runs().into_iter().filter(|run| run["state"] == state);
    runs.map(|run| run["run"].as_str().unwrap().to_owned()).collect()
}

fn show(world: &World, run: &str) -> Value {
    world.run(&["show", run, "--json"]).ended(0).json()
}

/// One line to the socket, and the daemon's last line.
pub fn say(world: &World, line: &[u8]) -> String {
    let mut socket = UnixStream::connect(world.path("state/consign.sock")).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    // It may be turned away before all of it is said.
    let _ = socket.write_all(line).and_then(|()| socket.write_all(b"\n"));
    BufReader::new(socket).lines().map_while(Result::ok).last().unwrap_or_default()
}

#[test]
fn admin_status_tells_what_the_daemon_does() {
    let world = world("* * * * * *", "\"AS\"", "");
    world.run(&["status"]).ended(1).out_says(&["no consign runs", "there is no ledger yet"]);
    let sandbox = world.sandbox();
    let daemon = daemon(&world);
    until("a slot is delivered", SOON, || !in_state(&world, "succeeded").is_empty());
    let said = world.run(&["status", "--json"]).ended(0).json();
    let (of, now) = (&said["daemon"], &said["daemon"]["now"]);
    assert_eq!((&of["pid"], &of["version"]), (&daemon.id().into(), &env!("CARGO_PKG_VERSION").into()), "{said:#}");
    assert_eq!(of["config"], world.path("consign.toml").to_str().unwrap());
    assert_eq!((&now["generation"], &now["shares"], &now["customers"]), (&1.into(), &1.into(), &1.into()), "{said:#}");
    assert_eq!((&now["stopping"], &now["unable"], &now["reload"]), (&false.into(), &Value::Null, &Value::Null));
    assert!(now["delivered"].as_u64().unwrap() > 0 && now["next"][0][0] == "tick", "{said:#}");
    assert!(said["ledger"]["size_bytes"].as_u64().unwrap() > 0, "{said:#}");
    assert_eq!(said["wrong"], json!([]), "{said:#}");
    world::documented(&said);
    world.run(&["status", "--check"]).ended(0).out_says(&["generation 1 since"]);
    // What is at work stays so.
    sandbox.signal(Signal::STOP);
    let at_work = || world.run(&["status", "--json"]).ended(0).json()["ledger"]["standing"]["at_work"].clone();
    until("a delivery is at work", SOON, || at_work()[0]["state"] == "working");
    let open = &at_work()[0];
    assert_eq!((&open["share"], &open["customer"], &open["attempt"]), (&"tick".into(), &"acme".into(), &1.into()));
    world.run(&["pause", "tick"]).ended(0);
    let paused = &world.run(&["status", "--check", "--json"]).ended(1).json()["wrong"][0];
    assert_eq!((&paused["kind"], &paused["why"], &paused["help"]), (&"paused".into(), &json!([]), &json!([])));
    says(paused["message"].as_str().unwrap(), &["share tick is paused since 20"]);
    let text = world.run(&["status"]).ended(0).stdout;
    let (wrong, work) = (text.find("wrong").unwrap(), text.find("at work: 1 of 8").unwrap());
    assert!(wrong < work, "what is wrong comes first: {text}");
    says(&text, &["generation 1 since", "share tick is paused since", "to acme: streaming", "next slots", "ledger: "]);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    sandbox.signal(Signal::CONT);
    stop(daemon);
    world.run(&["status"]).ended(1).out_says(&["no consign runs", "share tick is paused", "last run: "]);
}

/// One that fails at each slot hides no other.
#[test]
fn admin_status_and_history_tell_all_that_fail() {
    let keys = |schedule: &str| {
        format!(
            "schedule = \"{schedule}\"\nempty = \"fail\"\nretry = {{ attempts = 1 }}\nto = {{ customers = [\"acme\"] }}\n"
        )
    };
    let other = keys("0 6 1 1 *") + "dataset = \"flights\"\nplugin = \"jsonl\"\n";
    let keys = keys("* * * * * *") + "[shares.other]\n" + &other;
    let world = World::new(&world::flights(&world::customer("acme", 1, "us-east-1", "\"ZZ\""), "tick", &keys));
    let _sandbox = world.sandbox();
    world.run(&["send", "other"]).ended(1);
    let daemon = daemon(&world);
    until("many have failed", SOON, || in_state(&world, "failed").len() > 12);
    let said = world.run(&["status", "--json"]).ended(0).json();
    let failed = said["ledger"]["failed"].as_array().unwrap();
    let told: Vec<&Value> = failed.iter().map(|failed| &failed["share"]).collect();
    assert_eq!(told, ["tick", "other"], "{said:#}");
    assert!(failed[0]["runs"].as_u64().unwrap() >= 12 && failed[1]["runs"] == 1, "{said:#}");
    let wrong: Vec<&Value> = said["wrong"].as_array().unwrap().iter().filter(|one| one["kind"] == "failed").collect();
    assert_eq!(wrong.len(), 2, "{said:#}");
    world::documented(&said);
    for (wrong, failed) in wrong.into_iter().zip(failed) {
        says(wrong["message"].as_str().unwrap(), &[&format!("{} failed for acme", failed["share"].as_str().unwrap())]);
        assert_eq!(wrong["help"][0], format!("consign show {}", failed["run"].as_str().unwrap()));
        let (why, message) = (wrong["why"][0].as_str().unwrap(), failed["failure"]["message"].as_str().unwrap());
        assert!(why.ends_with(message), "whole: {why}");
    }
    let text = world.run(&["status"]).ended(0).stdout;
    says(
        &text,
        &["tick failed for acme", " of its runs: consign history --share tick --state failed", "other failed for acme"],
    );
    // For what watches over consign: the same, and how it ended.
    world.run(&["status", "--check"]).ended(1).out_says(&["tick failed for acme"]);
    assert_eq!(world.run(&["status", "--check", "--json"]).ended(1).json()["ledger"]["failed"][1]["share"], "other");
    stop(daemon);
    let listed = |args: &[&str]| world.run(&[&["history", "--json", "-n", "1000"], args].concat()).ended(0).json();
    assert_eq!(listed(&["--state", "failed", "--share", "other"]).as_array().unwrap().len(), 1);
    assert_eq!(listed(&["--state", "succeeded"]), json!([]));
    world.run(&["history", "--state", "running"]).ended(0).out_says(&["no such run"]);
    world.run(&["history", "--state", "gone"]).ended(2).err_says(&["running, succeeded, failed"]);
}

/// It runs with what was there before, and is to hear of what is there now.
#[test]
fn admin_finds_the_daemon_of_a_configuration_that_cannot_be_read() {
    let world = world("0 6 1 1 *", "\"AS\"", "");
    let daemon = daemon(&world);
    let good = world.text();
    for (old, broken) in [
        ("[daemon]", "[daemon"),
        ("[daemon]", "[daemon]\nconcurrency = = 8"),
        ("[daemon]", "[daemon]\nconcurrency = \"\"\"8"),
        ("[daemon]", "x = [1, {\n[daemon]\n# state_dir = elsewhere"),
        ("[daemon]\nstate_dir", "daemon.state_dir"),
        ("[customers.acme]", "[customers.acme"),
    ] {
        world.write("consign.toml", good.replacen(old, broken, 1));
        world.run(&["status"]).ended(0).out_says(&["generation 1 since"]);
        world.run(&["reload", "--wait"]).ended(3).err_says(&["error", "in the configuration"]);
    }
    for broken in ["state_dir = 5", "state_dir = \"\"", "state_dir == \"state\""] {
        world.write("consign.toml", good.replacen("state_dir = \"state\"", broken, 1));
        world.run(&["status"]).ended(3).err_says(&["`state_dir` cannot be read here", broken, "with --socket"]);
        let named = ["status", "--socket", "state/consign.sock"];
        world.run(&named).ended(0).out_says(&["generation 1 since"]);
    }
    world.run(&["reload", "--socket", "state/consign.sock", "--wait"]).ended(3).err_says(&["state_dir =="]);
    world.run(&["status", "--socket", "gone.sock"]).ended(1).err_says(&["no consign listens at gone.sock"]);
    stop(daemon);
}

#[test]
fn admin_the_socket_is_for_one_user_and_one_daemon() {
    let world = world("0 6 1 1 *", "\"AS\"", "");
    let mut first = daemon(&world);
    let socket = world.path("state/consign.sock");
    let found = fs::metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(world.path("state")).unwrap().permissions().mode() & 0o777, 0o700);
    // A socket that a killed daemon left is in nobody's way.
    first.signal(Signal::KILL);
    first.wait(SOON);
    assert!(socket.exists());
    world.run(&["status"]).ended(1).out_says(&["no consign runs"]);
    world.run(&["reload"]).ended(1).err_says(&["no consign listens at", "state/consign.sock", "--config"]);
    let second = daemon(&world);
    stop(second);
    assert!(!socket.exists(), "it is taken away at the end");
}

/// The kernel takes 108 bytes of a socket's address.
#[test]
fn admin_a_long_state_directory_has_a_socket_too() {
    let world = world("0 6 1 1 *", "\"AS\"", "");
    let long = format!("{}/{}", "s".repeat(100), "t".repeat(100));
    world.configure("http://127.0.0.1:1", "state_dir = \"state\"", &format!("state_dir = \"{long}\""));
    let daemon = daemon(&world);
    world.run(&["pause", "tick"]).ended(0).out_says(&["share tick is paused"]);
    stop(daemon);
    assert!(!world.path(&long).join("consign.sock").exists());
}

/// The daemon is told, and says what it would have said without it.
#[test]
fn admin_pause_resume_and_backfill_reach_the_daemon() {
    let world = world("* * * * * *", "\"AS\"", "overlap = \"allow\"");
    let _sandbox = world.sandbox();
    let daemon = daemon(&world);
    world.run(&["pause", "tick"]).ended(0).out_says(&["share tick is paused"]);
    let again = world.run(&["pause", "tick"]).ended(0).out_says(&["was paused already, since 20"]).stdout;
    assert!(!again.contains('.'), "parts of a second are nobody's business: {again}");
    let range = ["backfill", "tick", "--from", "2026-01-22", "--to", "2026-01-20"];
    world.run(&range).ended(1).err_says(&["ends at 2026-01-20T23:59:59Z, before it begins at 2026-01-22T00:00:00Z"]);
    world.run(&["pause", "tock"]).ended(1).err_says(&["there is no share 'tock'", "shares are: tick"]);
    let skipped = || world.run(&["history", "--skipped", "-n", "100000", "--json"]).ended(0).json();
    until("slots are left out", SOON, || skipped().as_array().unwrap().len() >= 2);
    let counted = || world.run(&["status", "--json"]).ended(0).json()["daemon"]["now"]["left_out"].as_u64().unwrap();
    until("they are counted", SOON, || counted() >= 2);
    says(&world.log(), &["slot skipped", "the share was paused"]);
    assert_eq!(
        world.run(&["history", "--skipped", "--customer", "acme", "-n", "1", "--json"]).ended(0).json()[0]["reason"],
        "paused"
    );
    world.run(&["history", "--skipped", "--customer", "globex"]).ended(1).err_says(&["there is no customer 'globex'"]);
    let resumed = world.run(&["resume", "tick"]).ended(0).out_says(&["share tick goes on", "consign backfill tick"]);
    // From the first slot that was left out, whether or not the pause had begun then.
    let left_out = skipped();
    let first = left_out.as_array().unwrap().last().unwrap()["slot"]["at"].as_str().unwrap().to_owned();
    let last = left_out[0]["slot"]["at"].as_str().unwrap().to_owned();
    says(&resumed.stdout, &[&format!("--from {first}")]);
    let said = world.run(&["backfill", "tick", "--from", &first, "--to", &last, "--json"]).ended(0).json();
    assert_eq!(said["slots"].as_array().unwrap().len(), left_out.as_array().unwrap().len(), "{said:#}");
    until("what was left out is delivered", SOON, || {
        let runs = world.runs();
        let is_filled = |run: &&Value| run["origin"] == "backfill" && run["state"] == "succeeded";
        runs.iter().filter(is_filled).count() == left_out.as_array().unwrap().len()
    });
    stop(daemon);
}

#[test]
fn admin_send_through_the_daemon_reports_the_same() {
    let world = world("0 6 1 1 *", "\"AS\"", "");
    let sandbox = world.sandbox();
    let direct = world.run(&["send", "tick", "--at", "2023-01-01T06:00:00Z", "--json"]).ended(0).json();
    world.run(&["send", "tick", "--detach"]).ended(1).err_says(&["no consign runs that could go on with it"]);
    let daemon = daemon(&world);
    let asked = world.run(&["send", "tick", "--at", "2024-01-01T06:00:00Z", "--json"]).ended(0).json();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&asked), keys(&direct));
    let (of_direct, of_asked) = (&direct["outcomes"][0], &asked["outcomes"][0]);
    assert_eq!(keys(of_asked), keys(of_direct));
    assert_eq!(keys(&of_asked["manifest"]), keys(&of_direct["manifest"]));
    assert_eq!((&of_asked["state"], &of_asked["customer"]), (&"committed".into(), &"acme".into()), "{asked:#}");
    // What is told is what is in the bucket.
    let place = of_asked["place"].as_str().unwrap().strip_prefix("s3://acme-data/").unwrap();
    assert_eq!(world::manifests(&world.path("buckets/acme-data"))[place], of_asked["manifest"]);
    let again = ["send", "tick", "--at", "2024-01-01T06:00:00Z"];
    world.run(&again).ended(0).out_says(&["acme           was delivered before, by run"]);
    world.run(&["send", "tick", "--at", "2024-01-01T06:00:01Z"]).ended(1).err_says(&["does not fire at", "nearest"]);
    world.run(&["send", "tock"]).ended(1).err_says(&["there is no share 'tock'"]);
    let detached = world.run(&["send", "tick", "--at", "2022-01-01T06:00:00Z", "--detach"]).ended(0);
    says(&detached.out_says(&["has begun; `consign show "]).stdout, &["run "]);
    until("what was left to the daemon is delivered", SOON, || in_state(&world, "succeeded").len() == 3);

    // Who stops waiting stops nothing else.
    sandbox.signal(Signal::STOP);
    let mut command =
        world::command(world.dir(), &["--config", "consign.toml", "send", "tick", "--at", "2021-01-01T06:00:00Z"]);
    let errors = fs::File::create(world.path("send.err")).unwrap();
    let mut waits = Running::start(command.stdout(Stdio::null()).stderr(errors));
    until("the run is at work", SOON, || !in_state(&world, "running").is_empty());
    until("the client knows of it", SOON, || {
        waits.signal(Signal::INT);
        !waits.is_running()
    });
    assert_eq!(waits.wait(SOON).code(), Some(1));
    says(&fs::read_to_string(world.path("send.err")).unwrap(), &["not waited for"]);
    sandbox.signal(Signal::CONT);
    until("it is delivered all the same", SOON, || in_state(&world, "succeeded").len() == 4);
    stop(daemon);
}

#[test]
fn admin_cancel_ends_what_is_at_work_and_leaves_nothing() {
    let world = world("0 6 1 1 *", MANY, TOO_MUCH);
    let _sandbox = world.sandbox();
    let daemon = daemon(&world);
    world.run(&["send", "tick", "--detach"]).ended(0);
    let uploads = || fs::read_dir(world.path("buckets/.sandbox/uploads")).map_or(0, |found| found.count());
    until("something is in the bucket", SOON, || uploads() > 0);
    let run = in_state(&world, "running").remove(0);
    world.run(&["cancel", &run, "--customer", "globex"]).ended(1).err_says(&["no delivery to 'globex'", "acme"]);
    world.run(&["cancel", "nope"]).ended(1).err_says(&["there is no run 'nope'"]);
    let reason = ["cancel", &run, "--reason", "wrong\nprices", "--json"];
    let said = world.run(&reason).ended(0).json();
    assert_eq!((&said["cancelled"], &said["sealed"]), (&json!(["acme"]), &json!([])), "{said:#}");
    until("the run has ended", SOON, || in_state(&world, "failed") == [run.clone()]);
    let shown = show(&world, &run);
    let failure = &shown["deliveries"][0]["failure"];
    assert_eq!(failure["layer"], "schedule", "{shown:#}");
    assert_eq!(failure["message"], "cancelled by root: wrong prices");
    assert_eq!(failure["remedy"], format!("`consign retry {run}` begins it again"));
    assert_eq!(shown["deliveries"][0]["attempts"][0]["uploads"][0]["state"], "aborted", "{shown:#}");
    assert_eq!(uploads(), 0);
    world.run(&["cancel", &run]).ended(1).err_says(&["has ended already", "failed"]);
    stop(daemon);
}

/// Nobody is at work then, and the record alone is changed.
#[test]
fn admin_cancel_without_a_daemon_ends_what_waits() {
    let retry = "retry = { attempts = 9, backoff = \"1h\", max_backoff = \"1h\" }";
    // Nobody is at the endpoint.
    let world = world("0 6 1 1 *", "\"AS\"", retry);
    let daemon = daemon(&world);
    world.run(&["send", "tick", "--detach"]).ended(0);
    until("it waits for its next try", SOON, || world.log().contains("to be tried again"));
    let text = world.run(&["status"]).ended(0).stdout;
    says(&text, &["to be tried again: 1", "  tick ", " to acme: at 20", "    network: "]);
    stop(daemon);
    let run = in_state(&world, "running").remove(0);
    world.run(&["cancel", &run]).ended(0).out_says(&["acme           is ended"]);
    let shown = show(&world, &run);
    assert_eq!(
        (&shown["run"]["state"], &shown["deliveries"][0]["failure"]["message"]),
        (&"failed".into(), &"cancelled by root".into())
    );
}

#[test]
fn admin_retry_begins_again_what_failed_and_hurries_what_waits() {
    let retry = "retry = { attempts = 2, backoff = \"1h\", max_backoff = \"1h\" }";
    let world = world("0 6 1 1 *", "\"AS\"", retry);
    let sandbox = world.sandbox();
    drop(sandbox);
    let daemon = daemon(&world);
    world.run(&["send", "tick", "--detach"]).ended(0);
    until("it waits for its next try", SOON, || world.log().contains("to be tried again"));
    let run = in_state(&world, "running").remove(0);
    // Its second try is its last.
    world.run(&["retry", &run]).ended(1).out_says(&["FAILED  network: "]);
    until("the run has failed", SOON, || in_state(&world, "failed") == [run.clone()]);
    assert_eq!(show(&world, &run)["deliveries"][0]["attempts"].as_array().unwrap().len(), 2);
    let _sandbox = world.sandbox_again();
    let said = world.run(&["retry", &run, "--json"]).ended(0).json();
    assert_eq!(said["outcomes"][0]["state"], "committed", "{said:#}");
    let again = said["run"].as_str().unwrap();
    assert_ne!(again, run);
    let shown = show(&world, again);
    assert_eq!(
        (&shown["run"]["origin"], &shown["run"]["slot"]),
        (&"manual".into(), &show(&world, &run)["run"]["slot"])
    );
    world.run(&["retry", again]).ended(1).err_says(&["nothing of run", "has failed"]);
    // Who has it by now is left alone.
    world.run(&["retry", &run]).ended(0).out_says(&["was delivered before"]);
    stop(daemon);
    world.run(&["retry", &run]).ended(0).out_says(&["was delivered before"]);
}

/// A role that was wrong for a day is mended: all that the customer has not got, by one command.
#[test]
fn admin_retry_of_a_customer_begins_all_that_it_has_not_got() {
    let world = world("0 6 1 1 *", "\"AS\"", "retry = { attempts = 1 }");
    drop(world.sandbox());
    for year in 2021..2024 {
        world.run(&["send", "tick", "--at", &format!("{year}-01-01T06:00:00Z")]).ended(1);
    }
    world.run(&["retry"]).ended(2);
    world.run(&["retry", "--customer", "globex"]).ended(1).err_says(&["there is no customer 'globex'"]);
    world.run(&["retry", "--share", "tock"]).ended(1).err_says(&["there is no share 'tock'"]);
    world.run(&["retry", "--customer", "acme", "--since", "0s"]).ended(0).out_says(&["nothing that failed"]);
    let _sandbox = world.sandbox_again();
    world.run(&["send", "tick", "--at", "2022-01-01T06:00:00Z"]).ended(0);
    let daemon = daemon(&world);
    let begun = world.run(&["retry", "--customer", "acme"]).ended(0).stdout;
    let slots: Vec<&str> = begun.lines().map(|line| line.split(": run ").next().unwrap()).collect();
    assert_eq!(slots, ["tick 2021-01-01T06:00:00Z", "tick 2023-01-01T06:00:00Z"], "{begun}");
    until("all is delivered", SOON, || in_state(&world, "succeeded").len() == 3);
    assert_eq!(world.run(&["retry", "--share", "tick", "--json"]).ended(0).json(), json!([]));
    stop(daemon);
    world.run(&["retry", "--share", "tick"]).ended(0).out_says(&["nothing that failed"]);
}
