//! The configuration, read again while deliveries go on.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use super::daemon::stop_idle;
use super::world::{self, Running, SOON, World, says, stop, until};

const SHARE: &str = r#"
schedule = "* * * * * *"
overlap = "allow"
key = "first/{share}/{slot:%Y-%m-%d}/{slot:%H%M%SZ}/{name}"
to = { customers = ["acme"] }
"#;

fn world() -> World {
    World::new(&world::flights(&world::customer("acme", 1, "us-east-1", "\"AS\""), "tick", SHARE))
}

/// A daemon that delivers.
fn daemon(world: &World) -> Running {
    let daemon = world.daemon();
    until("a slot is delivered", SOON, || world.runs().iter().any(|run| run["state"] == "succeeded"));
    daemon
}

/// The keys of the manifests that are in the bucket, once there is one of this kind.
fn delivered(world: &World, under: &str) -> Vec<String> {
    let keys =
        || world::files(&world.path("buckets/acme-data")).into_keys().filter(|key| key.ends_with(world::MANIFEST));
    until(&format!("something is delivered under {under}"), SOON, || {
        keys().any(|key| key.starts_with(&format!("in/{under}/")))
    });
    keys().collect()
}

fn rewrite(world: &World, old: &str, new: &str) {
    let text = world.text();
    assert!(text.contains(old));
    // As editors do it: nobody reads half a file.
    world.write("consign.new", text.replace(old, new));
    fs::rename(world.path("consign.new"), world.path("consign.toml")).unwrap();
}

fn now(world: &World) -> Value {
    world.run(&["status", "--json"]).ended(0).json()["daemon"]["now"].clone()
}

/// What is at work ends under the configuration that it began with.
#[test]
fn reload_goes_over_while_deliveries_finish_under_the_old_one() {
    let world = world();
    let sandbox = world.sandbox();
    let daemon = daemon(&world);
    sandbox.signal(Signal::STOP);
    let at_work = || {
        let standing = world.run(&["status", "--json"]).ended(0).json()["ledger"]["standing"]["at_work"].clone();
        let working = standing.as_array().unwrap().iter().filter(|open| open["state"] == "working");
        working.map(|open| open["run"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("a delivery is at work", SOON, || !at_work().is_empty());
    let before = at_work();
    rewrite(&world, "first/", "second/");
    world.run(&["reload", "--wait"]).ended(0).out_says(&["generation 2 of the configuration runs: 1 share"]);
    assert_eq!(now(&world)["generation"], 2);
    sandbox.signal(Signal::CONT);
    let succeeded = |run: &str| world.runs().iter().any(|of| of["run"] == *run && of["state"] == "succeeded");
    until("what was at work is delivered", SOON, || before.iter().all(|run| succeeded(run)));
    for run in &before {
        let shown = world.run(&["show", run, "--json"]).ended(0).json();
        let key = shown["deliveries"][0]["manifest_key"].as_str().unwrap();
        assert!(key.starts_with("in/first/"), "{key}");
        assert_eq!(shown["deliveries"][0]["attempts"].as_array().unwrap().len(), 1, "{shown:#}");
    }
    delivered(&world, "second");
    stop_idle(&world, daemon);
    // Every slot once, under either.
    let mut slots: Vec<Value> = world.runs().into_iter().map(|run| run["slot"].clone()).collect();
    let all = slots.len();
    slots.dedup();
    assert_eq!(slots.len(), all);
    assert_eq!(world::manifests(&world.path("buckets/acme-data")).len(), all);
}

#[test]
fn reload_of_a_bad_configuration_changes_nothing_and_says_why() {
    let world = world();
    let _sandbox = world.sandbox();
    let daemon = daemon(&world);
    let good = world.text();
    rewrite(&world, "region = \"us-east-1\"\nprefix", "region = \"us-east\"\nprefix");
    rewrite(&world, "plugin = \"jsonl\"", "plugin = \"jsonl\"\noptions = { nul = 1 }");
    let check = world.run(&["check", "--json"]).ended(3).json();
    let reload = world.run(&["reload", "--wait", "--json"]).ended(3).json();
    // All that `check` says, but for the path, which the daemon knows in full.
    let told = |said: &Value| {
        let problems = said["error"]["problems"].as_array().unwrap().iter();
        problems.map(|problem| (problem["message"].clone(), problem["line"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(told(&reload), told(&check), "{reload:#}");
    assert_eq!(told(&reload).len(), 2);
    let shown = world.run(&["reload", "--wait"]).ended(3);
    says(&shown.stderr, &["us-east", "^^^^", "nul", "2 errors in the configuration"]);
    assert_eq!(now(&world)["generation"], 1);
    let status = world.run(&["status"]).ended(0).stdout;
    says(&status, &["its files were refused at 20", "2 errors in the configuration", "generation 1 since"]);
    says(&world.log(), &["the new configuration is refused, and the old one runs on", "options = { nul = 1 }"]);
    // What has happened is told all the same.
    world.run(&["history", "-n", "1"]).ended(0).err_says(&["warning: 1 error in the configuration; `consign check`"]);
    // Not even TOML.
    world.write("consign.toml", format!("{good}\n[oops"));
    world.run(&["reload", "--wait"]).ended(3).err_says(&["consign.toml:", "[oops"]);
    let delivered = now(&world)["delivered"].as_u64().unwrap();
    until("the old one delivers", SOON, || now(&world)["delivered"].as_u64().unwrap() > delivered);
    world.write("consign.toml", good);
    world.run(&["reload", "--wait"]).ended(0).out_says(&["generation 2"]);
    assert!(!world.run(&["status"]).ended(0).stdout.contains("refused"));
    stop(daemon);
}

#[test]
fn reload_refuses_what_needs_a_restart() {
    let world = world();
    let _sandbox = world.sandbox();
    let daemon = daemon(&world);
    rewrite(&world, "state_dir = \"state\"", "state_dir = \"state\" # moved\n");
    world.run(&["reload", "--wait"]).ended(0);
    // The socket is where the daemon is, and not where it would be.
    let cache = world.text().lines().find(|line| line.starts_with("cache_dir")).unwrap().to_owned();
    rewrite(&world, &cache, "cache_dir = \"elsewhere\"");
    let shown = world.run(&["reload", "--wait"]).ended(3);
    says(&shown.stderr, &["`daemon.cache_dir` cannot change while consign runs", "elsewhere", "restart consign"]);
    stop(daemon);
}

#[test]
fn reload_at_sighup_and_by_several_at_once() {
    let world = world();
    let _sandbox = world.sandbox();
    let daemon = daemon(&world);
    rewrite(&world, "first/", "second/");
    daemon.signal(Signal::HUP);
    delivered(&world, "second");
    rewrite(&world, "second/", "third/");
    let mut all: Vec<Running> = (0..5)
        .map(|_| {
            let mut command = world::command(world.dir(), &["--config", "consign.toml", "reload", "--wait"]);
            Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))
        })
        .collect();
    assert!(all.iter_mut().all(|one| one.wait(SOON).code() == Some(0)));
    let generation = now(&world)["generation"].as_u64().unwrap();
    assert!((3..=7).contains(&generation), "{generation}");
    delivered(&world, "third");
    world.run(&["reload"]).ended(0).out_says(&["is being read"]);
    until("it has been read", SOON, || now(&world)["generation"] == generation + 1);
    stop(daemon);
}

#[test]
fn reload_by_itself_when_files_change() {
    let world = world();
    let _sandbox = world.sandbox();
    rewrite(&world, "[daemon]\n", "include = [\"more/*.toml\"]\n[daemon]\nwatch = true\n");
    let daemon = daemon(&world);
    fs::create_dir(world.path("more")).unwrap();
    world.write("more/acme.toml", "[shares.tock]\nschedule = \"sometimes\"\n");
    let refused = "the new configuration is refused";
    until("a bad one is refused", SOON, || world.log().contains(refused));
    std::thread::sleep(std::time::Duration::from_secs(7));
    assert_eq!(world.log().matches(refused).count(), 1, "it is said once: {}", world.log());
    let tock = SHARE.replace("first/", "tock/");
    world.write("more/acme.toml", format!("[shares.tock]\ndataset = \"flights\"\nplugin = \"jsonl\"\n{tock}"));
    delivered(&world, "tock");
    assert_eq!(now(&world)["shares"], 2);
    stop(daemon);
}

/// Nothing is read that nobody has said is ready, unless the configuration says so.
#[test]
fn reload_does_not_happen_by_itself_when_nobody_wants_it() {
    let world = world();
    let _sandbox = world.sandbox();
    let daemon = daemon(&world);
    rewrite(&world, "first/", "second/");
    // Longer than a watched file takes.
    std::thread::sleep(std::time::Duration::from_secs(8));
    assert_eq!(now(&world)["generation"], 1);
    let log = world.log();
    assert!(!log.contains("have changed") && !log.contains("adopted"), "{log}");
    world.run(&["reload", "--wait"]).ended(0).out_says(&["generation 2"]);
    stop(daemon);
}

/// What the daemon says and keeps of a mistake in every share has a bound.
#[test]
fn reload_of_many_errors_tells_the_first_of_them() {
    let world = world();
    let _sandbox = world.sandbox();
    let daemon = daemon(&world);
    let mut text = world.text();
    for n in 0..3_000 {
        text += &format!("[shares.s{n}]\ndataset = \"flights\"\nplugin = \"jsonl\"\ncolour = 1\n{SHARE}\n");
    }
    world.write("consign.new", text);
    fs::rename(world.path("consign.new"), world.path("consign.toml")).unwrap();
    let check = world.run(&["check", "--json"]).ended(3).json()["error"].clone();
    assert_eq!((check["problems"].as_array().unwrap().len(), &check["omitted"]), (3_000, &0.into()));
    let reload = world.run(&["reload", "--wait", "--json"]).ended(3).json()["error"].clone();
    assert_eq!((reload["problems"].as_array().unwrap().len(), &reload["omitted"]), (100, &2_900.into()));
    assert_eq!(reload["message"], "3000 errors in the configuration");
    let shown = world.run(&["reload", "--wait"]).ended(3);
    says(&shown.stderr, &["… and 2900 more errors:\n", "  2900 in ", "3000 errors in the configuration"]);
    let status = world.run(&["status", "--json"]).ended(0).stdout;
    assert!(status.len() < 200_000, "{}", status.len());
    assert!(world.log().len() < 500_000, "{}", world.log().len());
    stop(daemon);
}

/// Files that are not all there, or cut off, are a configuration too.
#[test]
fn reload_of_what_lacks_most_is_refused_unless_that_is_asked_for() {
    let world = world();
    let _sandbox = world.sandbox();
    rewrite(&world, "[daemon]\n", "include = [\"more/*.toml\"]\n[daemon]\nwatch = true\n");
    fs::create_dir(world.path("more")).unwrap();
    for n in 2..=7 {
        let name = format!("c{n}");
        world.write(&format!("more/{name}.toml"), world::customer(&name, n, "us-east-1", "\"AS\""));
    }
    let daemon = daemon(&world);
    let moved = |from: &str, to: &str| fs::rename(world.path(from), world.path(to)).unwrap();
    let customers = |number: usize| until("they are there", SOON, || now(&world)["customers"] == number);
    customers(7);
    let told =
        ["of 7 customers most would go: 6 customers (c2, c3, c4, c5, c6 and 1 more)", "`consign reload --remove`"];

    // By itself.
    moved("more", "away");
    until("it is refused", SOON, || world.log().contains("the new configuration is refused"));
    says(&world.log(), &["of 7 customers most would go: 6 customers (c2, c3, c4, c5, c6 and 1 more)"]);
    let status = world.run(&["status", "--check"]).ended(1).stdout;
    says(&status, &["generation 1 since", "its files were refused at", "of 7 customers most would go", told[1]]);
    // Whoever asks, and `check` finds nothing.
    world.run(&["reload", "--wait"]).ended(3).err_says(&told);
    let refused = world.log().matches("is refused").count();
    daemon.signal(Signal::HUP);
    until("it is refused again", SOON, || world.log().matches("is refused").count() > refused);
    world.run(&["check"]).ended(0);
    assert_eq!((&now(&world)["generation"], &now(&world)["customers"]), (&1.into(), &7.into()));
    // They are back.
    moved("away", "more");
    until("it is taken", SOON, || now(&world)["generation"] == 2);
    assert!(!world.run(&["status"]).ended(0).stdout.contains("refused"));

    // Some may always go.
    for n in 2..=3 {
        fs::remove_file(world.path(&format!("more/c{n}.toml"))).unwrap();
    }
    world.run(&["reload", "--wait"]).ended(0);
    customers(5);
    moved("more", "away");
    world.run(&["reload", "--wait"]).ended(0);
    customers(1);
    moved("away", "more");
    world.run(&["reload", "--wait"]).ended(0);
    for n in 8..=9 {
        let name = format!("c{n}");
        world.write(&format!("more/{name}.toml"), world::customer(&name, n, "us-east-1", "\"AS\""));
    }
    world.run(&["reload", "--wait"]).ended(0);
    customers(7);
    moved("more", "away");
    world
        .run(&["reload", "--wait", "--remove"])
        .ended(0)
        .out_says(&["removed  6 customers (c4, c5, c6, c7, c8 and 1 more)"]);
    // Who watches the files does not take it back.
    let generation = now(&world)["generation"].clone();
    std::thread::sleep(std::time::Duration::from_secs(7));
    assert_eq!((&now(&world)["generation"], &now(&world)["customers"]), (&generation, &1.into()));

    // No share is never a few.
    let text = world.text();
    let cut = text.find("[shares.tick]").unwrap();
    world.write("consign.toml", &text[..cut]);
    world.run(&["reload", "--wait"]).ended(3).err_says(&["no share is left: 1 share (tick) would go", told[1]]);
    world.run(&["reload", "--wait", "--remove"]).ended(0).out_says(&["0 shares", "removed  1 share (tick)"]);
    stop(daemon);
}

/// At a start there is nothing that it could be held against but what the ledger has.
#[test]
fn reload_cannot_say_what_a_start_finds_gone_but_the_log_can() {
    let world = world();
    let sandbox = world.sandbox();
    let mut daemon = daemon(&world);
    sandbox.signal(Signal::STOP);
    until("a delivery is at work", SOON, || {
        let standing = world.run(&["status", "--json"]).ended(0).json()["ledger"]["standing"]["at_work"].clone();
        standing.as_array().unwrap().iter().any(|open| open["state"] == "working")
    });
    daemon.signal(Signal::KILL);
    daemon.wait(SOON);
    sandbox.signal(Signal::CONT);
    rewrite(&world, "[shares.tick]", "[shares.tock]");
    let daemon = world.daemon();
    let said = "what was left of shares or customers who are not configured fails";
    until("what is left fails", SOON, || world.log().contains("share tick is no longer configured"));
    assert_eq!(world.log().matches(said).count(), 1, "{}", world.log());
    says(&world.log(), &["1 share (tick)"]);
    stop(daemon);
}
