//! A plugin that ends by its own fault again and again: nothing more of it is
//! started, nothing is lost meanwhile, and everybody else gets theirs.

use rustix::process::Signal;
use serde_json::Value;

use super::world::{self, Running, SOON, World, says, stop, until};
use crate::plugin::support::guest;
use crate::support::registry::digest;

/// Shares of every second: one through the guest `hostile` to acme, whose deliveries
/// panic, and one through the shipped jsonl to globex.
pub(super) fn config(keys: &str) -> String {
    let (acme, globex) =
        (world::customer("acme", 1, "us-east-1", "\"AS\""), world::customer("globex", 2, "us-east-1", "\"HA\""));
    format!(
        r#"@AWS@
{acme}{globex}
[plugins.bad]
path = "bad.wasm"
quarantine_after = 3
[datasets.flights]
tables.flights = "@FLIGHTS@"
tenant_column = "carrier"
[shares.halting]
schedule = "* * * * * *"
dataset = "flights"
plugin = "bad"
options = {{ behaviour = "panic" }}
to = {{ customers = ["acme"] }}
{keys}
[shares.fine]
schedule = "* * * * * *"
overlap = "allow"
dataset = "flights"
plugin = "jsonl"
to = {{ customers = ["globex"] }}
"#
    )
}

/// The same behaviour under another digest: a custom section at the end.
pub fn variant(mut component: Vec<u8>, name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    component.extend([0, length + 1, length]);
    component.extend(name.bytes());
    component
}

/// Of its slots none is left out for another, however slow the machine is.
const QUEUE: &str = "overlap = \"queue\"";

fn world(keys: &str) -> World {
    let world = World::new(&config(keys));
    world.write("bad.wasm", guest("hostile"));
    world
}

fn kept(world: &World) -> Value {
    let status = world.run(&["status", "--json"]);
    assert!(status.code <= 1, "{status:?}");
    status.json()["ledger"].clone()
}

/// The only plugin in quarantine, if there is one.
fn halted(world: &World) -> Option<Value> {
    let kept = kept(world);
    let all = kept["quarantined"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(all.len() <= 1, "{all:?}");
    all.first().cloned()
}

fn wait_until_halted(world: &World) -> Value {
    let mut found = None;
    until("the plugin is in quarantine", SOON, || {
        found = halted(world);
        found.is_some()
    });
    found.unwrap()
}

/// Runs of a share in this state.
fn count(world: &World, share: &str, state: &str) -> usize {
    world.runs().iter().filter(|run| run["share"] == share && run["state"] == state).count()
}

/// Of the other share some more are delivered.
fn others_go_on(world: &World) {
    let before = count(world, "fine", "succeeded");
    until("the other share goes on", SOON, || count(world, "fine", "succeeded") >= before + 2);
}

/// Nothing of the share was left out but what it missed while nothing ran.
fn is_whole(world: &World) {
    let skipped = world.run(&["history", "--skipped", "--share", "halting", "--json"]).ended(0).json();
    let reasons = skipped.as_array().unwrap().iter().map(|slot| slot["reason"].as_str().unwrap().to_owned());
    let lost: Vec<String> = reasons.filter(|reason| reason != "missed").collect();
    assert_eq!(lost, Vec::<String>::new(), "{skipped:#}");
}

/// Has the plugin do well from now on. It is the same component.
fn mend(world: &World) {
    world.write("consign.toml", world.text().replace("behaviour = \"panic\"", "behaviour = \"none\""));
    world.run(&["reload", "--wait"]).ended(0);
}

fn waits(world: &World, slots: u64) {
    until("slots wait", SOON, || {
        halted(world).is_some_and(|halted| halted["waiting"]["slots"].as_u64() >= Some(slots))
    });
}

/// All that waited is delivered, in whatever time it takes.
fn all_is_delivered(world: &World) {
    let before = count(world, "halting", "succeeded");
    until("what waited is delivered", SOON, || {
        let kept = kept(world);
        let is_halted = kept["quarantined"].as_array().is_some_and(|all| !all.is_empty());
        !is_halted && count(world, "halting", "succeeded") >= before + 4
    });
    is_whole(world);
}

#[test]
fn a_plugin_that_traps_again_and_again_is_halted_until_it_is_let_go() {
    let world = world(QUEUE);
    let _sandbox = world.sandbox();
    let daemon = world.daemon();
    let halted = wait_until_halted(&world);
    assert_eq!((&halted["plugin"], &halted["deliveries"]), (&"bad".into(), &3.into()));
    assert_eq!(halted["digest"], digest(&guest("hostile")));
    says(halted["failure"]["message"].as_str().unwrap(), &["bad: panicked at", "gives up on batch"]);
    waits(&world, 3);
    others_go_on(&world);
    assert_eq!(count(&world, "halting", "failed"), 3);
    says(&world.log(), &["a plugin is in quarantine: nothing more of it is started", "consign plugin release bad"]);
    let told = world.run(&["status"]).ended(0).stdout;
    let sum = digest(&guest("hostile"));
    says(
        &told,
        &[
            "plugin bad is in quarantine since 20",
            &sum,
            "3 deliveries in a row ended by its fault",
            "nothing more of it is started: ",
            "another component ends it, or `consign plugin release bad`",
        ],
    );
    assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
    // Who asks for a run is told at once.
    let refused = ["plugin bad of share halting is in quarantine since", "consign plugin release bad"];
    world.run(&["send", "halting"]).ended(1).err_says(&refused);
    let failed = world.runs().into_iter().find(|run| run["state"] == "failed").unwrap();
    world.run(&["retry", failed["run"].as_str().unwrap()]).ended(1).err_says(&refused);
    world.run(&["plugin", "release", "nobody"]).ended(1).err_says(&["there is no plugin 'nobody'", "bad"]);

    // A restart changes nothing; what it tells without a daemon is the same.
    stop(daemon);
    world.run(&["status"]).ended(1).out_says(&["plugin bad is in quarantine since"]);
    world.run(&["send", "halting"]).ended(1).err_says(&refused);
    let daemon = world.daemon();
    others_go_on(&world);
    assert_eq!(count(&world, "halting", "failed"), 3);

    // Nor do other options: it is the same component.
    mend(&world);
    others_go_on(&world);
    assert!(halted_since(&world) == halted["since"]);
    let released = world.run(&["plugin", "release", "bad", "--json"]).ended(0).json();
    assert_eq!((&released["changed"], &released["released"][0]["deliveries"]), (&true.into(), &3.into()));
    all_is_delivered(&world);
    says(&world.log(), &["a plugin is no longer in quarantine: what waited for it goes on"]);
    world.run(&["plugin", "release", "bad"]).ended(0).out_says(&["plugin bad was not in quarantine"]);
    assert_eq!(count(&world, "halting", "failed"), 3);
    stop(daemon);
}

fn halted_since(world: &World) -> Value {
    halted(world).map(|halted| halted["since"].clone()).unwrap_or_default()
}

#[test]
fn another_component_is_not_in_quarantine() {
    let world = world(QUEUE);
    let _sandbox = world.sandbox();
    let daemon = world.daemon();
    wait_until_halted(&world);
    waits(&world, 2);
    world.write("bad.wasm", variant(guest("hostile"), "mended"));
    mend(&world);
    all_is_delivered(&world);
    // The earlier one is what it was.
    world.write("bad.wasm", guest("hostile"));
    world.run(&["reload", "--wait"]).ended(0);
    wait_until_halted(&world);
    stop(daemon);
    // Let go without a daemon.
    world.run(&["plugin", "release", "bad"]).ended(0).out_says(&["plugin bad goes on; it was in quarantine since"]);
    let daemon = world.daemon();
    all_is_delivered(&world);
    stop(daemon);
}

#[test]
fn what_waits_for_a_plugin_heeds_its_deadline() {
    let world = world("deadline = \"10s\"");
    let _sandbox = world.sandbox();
    let daemon = world.daemon();
    wait_until_halted(&world);
    let skipped = || world.run(&["history", "--skipped", "--share", "halting", "--json"]).ended(0).json();
    // Where the first deliveries were slow, others were left out for the overlap before.
    until("slots are too late", SOON, || {
        skipped().as_array().unwrap().iter().filter(|slot| slot["reason"] == "quarantine").count() >= 2
    });
    says(&world.log(), &["its deadline passed while its plugin was in quarantine"]);
    stop(daemon);
}

/// Of a run that has begun the first delivery halts the plugin, and the other one waits in the
/// daemon until it is too late: it ends by that, its run with it, and says what it waited for.
#[test]
fn a_delivery_that_waits_for_its_plugin_ends_at_its_deadline() {
    let both = config("deadline = \"6s\"\noverlap = \"queue\"")
        .replace("quarantine_after = 3", "quarantine_after = 1")
        .replace(
            "plugin = \"bad\"\noptions = { behaviour = \"panic\" }\nto = { customers = [\"acme\"] }",
            "plugin = \"bad\"\noptions = { behaviour = \"panic\" }\nto = { all = true }",
        );
    let world = World::new(&both);
    world.write("bad.wasm", guest("hostile"));
    let _sandbox = world.sandbox();
    // One at a time.
    world.write("consign.toml", world.text().replacen("[daemon]\n", "[daemon]\nconcurrency = 1\n", 1));
    let daemon = world.daemon();
    let halted = wait_until_halted(&world);
    let ended = || {
        let runs = world.runs().into_iter().filter(|run| run["share"] == "halting" && run["state"] == "failed");
        let shown = runs.map(|run| world.run(&["show", run["run"].as_str().unwrap(), "--json"]).ended(0).json());
        // The run whose other delivery it was that failed; one may have been too late before.
        let messages = |run: &Value| -> Vec<String> {
            let all = run["deliveries"].as_array().unwrap().iter();
            all.map(|delivery| delivery["failure"]["message"].as_str().unwrap_or_default().to_owned()).collect()
        };
        let mut messages = shown.map(|run| (messages(&run), run["run"].clone()));
        messages.find(|(messages, _)| messages.iter().any(|message| message.contains("panicked at")))
    };
    let mut found = None;
    until("its run has ended", SOON, || {
        found = ended();
        found.is_some()
    });
    let (messages, run) = found.unwrap();
    let [late] = &messages.iter().filter(|message| !message.contains("panicked at")).collect::<Vec<_>>()[..] else {
        panic!("{messages:?}")
    };
    let since = halted["since"].as_str().unwrap().split('.').next().unwrap().trim_end_matches('Z');
    says(
        late,
        &[
            "not delivered by ",
            "which is the deadline of slot halting@",
            &format!("; its plugin bad is in quarantine since {since}"),
        ],
    );
    assert_eq!((run["deliveries"].as_u64(), run["failed"].as_u64()), (Some(2), Some(2)), "{run:#}");
    assert!(run["finished"].is_string(), "{run:#}");
    // Nobody was asked for it: the plugin did not run.
    assert_eq!(wait_until_halted(&world)["deliveries"], 1);
    stop(daemon);
}

/// Runs by hand, one after another, because their order is what matters.
#[test]
fn one_bad_customer_among_good_ones_halts_nobody() {
    let world = world(QUEUE);
    let _sandbox = world.sandbox();
    let good = "[shares.good]\nschedule = \"* * * * * *\"\ndataset = \"flights\"\nplugin = \"bad\"\n\
                options = { behaviour = \"none\" }\nto = { customers = [\"globex\"] }\n";
    world.write("consign.toml", world.text() + good);
    let mut minute = 0;
    let mut send = |share: &str, code: i32| {
        minute += 1;
        world.run(&["send", share, "--at", &format!("2025-01-01T00:{minute:02}:00Z")]).ended(code)
    };
    for _ in 0..3 {
        send("halting", 1).out_says(&["panicked at"]);
        send("halting", 1);
        send("good", 0);
    }
    assert_eq!(halted(&world), None);
    send("halting", 1);
    send("halting", 1);
    send("halting", 1).out_says(&["panicked at"]);
    assert_eq!(halted(&world).unwrap()["deliveries"], 3);
    send("halting", 1).err_says(&["is in quarantine since"]);
    // It is the component that is, for whomever.
    send("good", 1).err_says(&["plugin bad of share good is in quarantine since"]);
    send("fine", 0);
    // Trying it out writes nothing down, and is how one sees that it is mended.
    world.run(&["send", "halting", "--dry-run", "out"]).ended(1).out_says(&["panicked at"]);
}

#[test]
fn a_crash_when_it_begins_or_ends_changes_nothing() {
    let world = world(QUEUE);
    let _sandbox = world.sandbox();
    let at = |point: &str| world.start(&[], &["run"], &[("CONSIGN_CRASH_AT", point)]);
    let died = |mut daemon: Running| assert_eq!(daemon.wait(SOON).code(), None, "{}", world.log());
    died(at("quarantined"));
    let halted = wait_until_halted(&world);
    assert_eq!(count(&world, "halting", "failed") + count(&world, "halting", "running"), 3);
    let daemon = at("let-go");
    others_go_on(&world);
    assert_eq!(halted_since(&world), halted["since"]);
    mend(&world);
    assert_ne!(world.run(&["plugin", "release", "bad"]).code, 0);
    died(daemon);
    assert_eq!(self::halted(&world), None);
    let daemon = world.daemon();
    all_is_delivered(&world);
    assert_eq!(count(&world, "halting", "failed"), 3);
    daemon.signal(Signal::KILL);
}
