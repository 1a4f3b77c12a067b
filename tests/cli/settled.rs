//! Deliveries in doubt that a person settles who knows what became of them
//! (`docs/decisions/0022-what-an-answer-proves.md`).

use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::doubts::{Case, LEADS_ELSEWHERE, open_uploads, shown, states};
use super::world::{self, MANIFEST, Ran, Running, SOON, World, says, stop, until};
use crate::support::proxy::Proxy;
use crate::support::wire::{Call, Fault, Seen, s3_error};

/// What fails once is not tried again in this test.
const ONCE: &str = "retry = { attempts = 1, backoff = \"1h\", max_backoff = \"1h\" }";

/// Nobody knows what comes of a manifest, and none is put.
fn unanswered(seen: &Seen) -> Option<Fault> {
    let internal = || Fault::Answer(500, vec![], s3_error("InternalError", "We encountered an internal error."));
    (seen.call == Call::Complete && seen.key.ends_with(MANIFEST)).then(internal)
}

fn doubtful(keys: &str) -> Case {
    let mut case = Case::new(&format!("{keys}\n{ONCE}"), |seen, _| unanswered(seen));
    case.until_logged("to be tried again", 1);
    case.proxy.heal();
    case
}

/// The only run, or the first.
fn run(world: &World) -> String {
    world.runs().last().unwrap()["run"].as_str().unwrap().to_owned()
}

fn settle(world: &World, verdict: &str) -> Ran {
    world.run(&["settle", &run(world), "--customer", "acme", verdict, "--reason", "asked\nacme"])
}

fn is_settled(delivery: &Value, state: &str) {
    assert_eq!(delivery["state"], state, "{delivery:#}");
    assert_eq!((&delivery["settled"]["by"], &delivery["settled"]["reason"]), (&json!("root"), &json!("asked acme")));
    assert!(delivery["in_doubt"].is_null() && delivery["due"].is_null(), "{delivery:#}");
}

fn as_state(verdict: &str) -> (&str, &str) {
    match verdict {
        "--committed" => ("committed", "succeeded"),
        _ => ("failed", "failed"),
    }
}

const VERDICTS: [&str; 2] = ["--committed", "--failed"];

/// Wherever its profile leads by then: to another place, or nowhere.
#[test]
fn what_somebody_knows_of_a_delivery_in_doubt_is_on_record() {
    for (verdict, change) in VERDICTS.into_iter().flat_map(|verdict| LEADS_ELSEWHERE.map(|change| (verdict, change))) {
        let case = doubtful("success_marker = true");
        let (world, (state, of_run)) = (&case.world, as_state(verdict));
        let right = world.text();
        case.becomes(&change(&right));
        let way_out = format!("consign settle {} --customer acme --committed", run(world));
        says(&world.log(), &[&way_out]);
        world.run(&["status"]).ended(0).out_says(&["its manifest may be there: `consign settle`"]);
        world.run(&["status", "--check"]).ended(1).out_says(&["daily to acme is in doubt"]);
        let told = world.run(&["show", &run(world)]).ended(0);
        told.out_says(&["in doubt   ", "in/daily/2026-01-01/000000Z/_manifest.json", &way_out, "or with `--failed`"]);
        let said = settle(world, verdict).ended(0).out_says(&["acme           is on record as "]);
        assert_eq!(said.stdout.contains("may be missing: in/daily/2026-01-01/000000Z/_SUCCESS"), state == "committed");
        let delivery = case.until_it_has(of_run);
        is_settled(&delivery, state);
        assert_eq!((states(&delivery), delivery["attempts"][0]["ended"].is_string()), (vec![state], true));
        says(&world.log(), &["settled by hand: its manifest is "]);
        let text =
            world.run(&["show", &run(world)]).ended(0).out_says(&["settled    by root, 20", ": asked acme"]).stdout;
        assert!(!text.contains("in doubt"), "{text}");
        // Nothing can be aborted where no profile leads.
        until("no upload is known to be open", SOON, || {
            let uploads = shown(world)["attempts"][0]["uploads"].as_array().unwrap().clone();
            uploads.iter().all(|upload| upload["state"] != "created")
        });
        assert!(!case.has(MANIFEST));
        let again = world.run(&["retry", &run(world)]);
        assert_eq!(again.stderr.contains("nothing of run"), state == "committed", "{again:?}");
        stop(case.daemon);
    }
}

/// Who has said that it is not there gets it by another attempt.
#[test]
fn what_is_settled_as_failed_begins_again() {
    for without_daemon in [false, true] {
        let Case { world, daemon, .. } = &mut doubtful("success_marker = true");
        if without_daemon {
            daemon.signal(rustix::process::Signal::TERM);
            daemon.wait(SOON);
        }
        let said = settle(world, "--failed").ended(0);
        let again = format!("`consign retry {} --customer acme` begins it again", run(world));
        says(&said.stdout, &[&again]);
        let failure = shown(world)["failure"].clone();
        assert_eq!((&failure["layer"], &failure["remedy"]), (&"schedule".into(), &again.into()));
        let message = "settled by root, as its manifest is not in the bucket: asked acme";
        assert_eq!(failure["message"], message);
        until("its run has ended", SOON, || world.runs().last().unwrap()["state"] == "failed");
        is_settled(&shown_of(world, &run(world)), "failed");
        world.run(&["retry", &run(world), "--customer", "acme"]).ended(0).out_says(&["acme", "delivered"]);
        let there = world::manifests(&world.path("buckets/acme-data"));
        assert_eq!(there.len(), 1);
        let newest = world.runs()[0]["run"].clone();
        assert_eq!(there.values().next().unwrap()["run"], newest);
        if without_daemon {
            *daemon = world.daemon();
        }
        until("what was left of the first one is aborted", SOON, || open_uploads(world) == 0);
        assert_eq!(world.run(&["ledger", "check"]).code, 0);
    }
}

/// A customer has lost what was delivered, or it was wrong, and is to have the slot again. Who errs replaces nothing.
#[test]
fn what_was_delivered_and_is_there_no_more_is_delivered_again() {
    let share = "schedule = \"@yearly\"\nto = { customers = [\"acme\", \"beta\"] }\n";
    let customers =
        world::customer("acme", 1, "us-east-1", "\"AS\"") + &world::customer("beta", 2, "us-east-1", "\"UA\"");
    for with_daemon in [false, true] {
        let world = World::new(&world::flights(&customers, "daily", share));
        let sandbox = world.sandbox();
        world.run(&["send", "daily", "--at", "2026-01-01T00:00:00Z"]).ended(0);
        let (first, bucket) = (run(&world), world.path("buckets/acme-data"));
        let daemon = with_daemon.then(|| world.daemon());
        until("it is ready", SOON, || daemon.is_none() || world.log().contains("consign is ready"));
        world.run(&["settle", &first, "--failed"]).ended(1).err_says(&["no delivery of run", "is in doubt"]);
        settle(&world, "--committed").ended(1).err_says(&["it is committed", "no more is said so by --failed"]);
        world.run(&["retry", &first, "--customer", "acme"]).ended(1).err_says(&["nothing of run"]);
        let again = format!("`consign retry {first} --customer acme` begins it again");
        settle(&world, "--failed").ended(0).out_says(&["acme           is on record as failed", &again]);
        let summary = world.runs()[0].clone();
        assert_eq!((&summary["state"], &summary["committed"]), (&json!("failed"), &json!(1)), "{summary}");
        let of = |customer: &str| {
            let shown = world.run(&["show", &first, "--json"]).ended(0).json();
            shown["deliveries"].as_array().unwrap().iter().find(|one| one["customer"] == customer).unwrap().clone()
        };
        is_settled(&of("acme"), "failed");
        assert_eq!(of("beta")["state"], "committed");
        assert_eq!(world.run(&["ledger", "check"]).code, 0);

        // It is there all the same.
        let before = world::files(&bucket);
        world.run(&["retry", &first, "--customer", "acme"]).ended(1).out_says(&["nothing was replaced"]);
        assert_eq!(world::files(&bucket), before);
        drop(sandbox);
        std::fs::remove_dir_all(bucket.join("in/daily")).unwrap();
        let _sandbox = world.sandbox_again();
        world.run(&["retry", &first, "--customer", "acme"]).ended(0).out_says(&["acme", "delivered"]);
        let there = world::manifests(&bucket);
        assert_eq!(there.values().map(|manifest| &manifest["run"]).collect::<Vec<_>>(), [&world.runs()[0]["run"]]);
        world.run(&["send", "daily", "--at", "2026-01-01T00:00:00Z", "--verify"]).ended(0).out_says(&["acme", "beta"]);
        world.run(&["retry", "--share", "daily"]).ended(0).out_says(&["nothing that failed"]);
        assert_eq!(world.run(&["ledger", "check"]).code, 0);
        if let Some(daemon) = daemon {
            says(&world.log(), &["settled by hand: its manifest, which was delivered, is there no more"]);
            stop(daemon);
        }
    }
}

fn shown_of(world: &World, run: &str) -> Value {
    world.run(&["show", run, "--json"]).ended(0).json()["deliveries"][0].clone()
}

/// Nobody is at work then, and the record alone is changed.
#[test]
fn without_a_daemon_the_ledger_is_told_at_once() {
    for verdict in VERDICTS {
        let case = doubtful("");
        let Case { world, daemon, .. } = case;
        stop(daemon);
        let said = world.run(&["settle", &run(&world), verdict, "--json"]).ended(0).json();
        let (state, of_run) = as_state(verdict);
        assert_eq!((&said["run"], &said["verdict"]), (&run(&world).into(), &state.into()), "{said:#}");
        assert_eq!((&said["customers"], &said["lacking"]), (&json!(["acme"]), &json!([])), "{said:#}");
        assert_eq!(world.runs()[0]["state"], of_run);
        assert_eq!(shown(&world)["settled"]["by"], "root");
        world.run(&["ledger", "check"]).ended(0);
        // Once.
        let help = if state == "failed" { "begins it again" } else { "is said so by --failed" };
        settle(&world, verdict).ended(1).err_says(&["the delivery to acme is not in doubt", help]);
    }
}

/// A share whose slots take each other's place, its first slot in doubt.
struct Replacing {
    world: World,
    proxy: Proxy,
    daemon: Running,
    _sandbox: Running,
}

impl Replacing {
    fn new() -> Self {
        let share = format!(
            "schedule = \"@daily\"\nend = 2026-01-04\nmode = \"replace\"\n{ONCE}\nto = {{ customers = [\"acme\"] }}\n"
        );
        let customer = world::customer("acme", 1, "us-east-1", "\"AS\"");
        let mut world = World::new(&world::flights(&customer, "daily", &share));
        // What is not begun is said there alone.
        world.set("CONSIGN_LOG", "consign=debug");
        let sandbox = world.sandbox();
        let proxy = Proxy::start(&world.endpoint());
        world.configure(&proxy.endpoint, "", "");
        proxy.obey(|seen, _| unanswered(seen));
        let daemon = world.daemon();
        until("it can be asked", SOON, || world.run(&["status"]).code == 0);
        let new = Self { world, proxy, daemon, _sandbox: sandbox };
        new.send(2);
        new.until_logged("to be tried again");
        new.proxy.heal();
        new
    }

    fn send(&self, day: u32) {
        let slot = format!("2026-01-{day:02}T00:00:00Z");
        self.world.run(&["send", "daily", "--at", &slot, "--detach"]).ended(0);
    }

    fn until_logged(&self, text: &str) {
        until(text, SOON, || self.world.log().contains(text));
    }

    fn manifest(&self) -> Option<Value> {
        let there = std::fs::read(self.world.path("buckets/acme-data/in/daily/_manifest.json")).ok()?;
        Some(serde_json::from_slice(&there).unwrap())
    }
}

/// Its place is not taken before it is known what is in it.
#[test]
fn a_later_slot_goes_on_once_the_one_before_it_is_settled() {
    for verdict in VERDICTS {
        let case = Replacing::new();
        let world = &case.world;
        case.send(3);
        case.until_logged("not begun: ");
        assert!(world.runs().iter().all(|run| run["state"] == "running") && case.manifest().is_none());
        settle(world, verdict).ended(0);
        until("the later slot is delivered", SOON, || case.manifest().is_some());
        assert_eq!(case.manifest().unwrap()["slot"], "2026-01-03T00:00:00Z");
        until("both runs have ended", SOON, || world.runs().iter().all(|run| run["state"] != "running"));
        is_settled(&shown_of(world, &run(world)), as_state(verdict).0);
        until("nothing is left", SOON, || open_uploads(world) == 0);
        // What was settled does not come after it.
        if verdict == "--failed" {
            world.run(&["retry", &run(world)]).ended(1).out_says(&["has been delivered"]);
            assert_eq!(case.manifest().unwrap()["slot"], "2026-01-03T00:00:00Z");
        }
        stop(case.daemon);
    }
}

/// The log has no policies to paste, and what can be done all the same.
#[test]
fn a_role_that_refuses_while_a_manifest_is_in_doubt_does_not_hide_what_can_be_done() {
    let case = Replacing::new();
    let denied = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>User: u is not authorized to perform: \
                  sts:AssumeRole on resource: r</Message></Error></ErrorResponse>";
    let xml = ("content-type", "text/xml");
    case.proxy
        .obey(move |seen, _| (seen.call == Call::AssumeRole).then(|| Fault::Answer(403, vec![xml], denied.to_owned())));
    let run = run(&case.world);
    case.world.run(&["retry", &run, "--detach"]).ended(0);
    let way_out = format!("consign settle {run} --customer acme");
    until("it is refused, and said to be in doubt", SOON, || {
        case.world.log().lines().any(|line| line.contains("`consign preflight`") && line.contains(&way_out))
    });
    until("it waits again", SOON, || shown_of(&case.world, &run)["failure"]["layer"] == "trust-policy");
    case.world.run(&["show", &run]).ended(0).out_says(&["sts:AssumeRole", "in doubt", &way_out]);
    stop(case.daemon);
}

/// Of several nobody knows all without looking, and what is in no doubt needs nobody's word.
#[test]
fn what_cannot_be_settled_says_why_and_what_to_do() {
    let both = world::customer("acme", 1, "us-east-1", "\"AS\"") + &world::customer("beta", 2, "us-east-1", "\"HA\"");
    let share =
        format!("schedule = \"@daily\"\nend = 2026-01-04\n{ONCE}\nto = {{ customers = [\"acme\", \"beta\"] }}\n");
    let world = World::new(&world::flights(&both, "daily", &share));
    let _sandbox = world.sandbox();
    let proxy = Proxy::start(&world.endpoint());
    world.configure(&proxy.endpoint, "", "");
    world.run(&["backfill", "daily", "--from", "2026-01-01", "--to", "2026-01-01"]).ended(0);
    proxy.obey(|seen, _| unanswered(seen));
    let daemon = world.daemon();
    until("both are in doubt", SOON, || world.log().matches("to be tried again").count() == 2);
    let run = run(&world);
    let refused = |args: &[&str], code: i32, why: &[&str]| {
        world.run(&[&["settle"], args].concat()).ended(code).err_says(why);
    };
    refused(&["--committed"], 2, &["Usage"]);
    refused(&[&run], 2, &["--committed"]);
    refused(&[&run, "--committed", "--failed"], 2, &["cannot be used with"]);
    refused(&["nope", "--failed"], 1, &["there is no run 'nope'"]);
    refused(&[&run, "--failed"], 1, &["are in doubt: those to acme, beta", "--customer"]);
    refused(&[&run, "--failed", "--customer", "globex"], 1, &["no delivery to 'globex'", "acme, beta"]);
    // A try that nobody answers.
    let stalls = Arc::new(AtomicBool::new(false));
    let has_stalled = stalls.clone();
    proxy.obey(move |seen, _| {
        let is_it = seen.call == Call::Part && seen.bucket == "acme-data" && seen.key.ends_with(MANIFEST);
        has_stalled.fetch_or(is_it, Ordering::SeqCst);
        is_it.then_some(Fault::Stall).or_else(|| unanswered(seen))
    });
    world.run(&["retry", &run, "--customer", "acme", "--detach"]).ended(0);
    until("it is asked about", SOON, || stalls.load(Ordering::SeqCst));
    refused(&[&run, "--committed", "--customer", "acme"], 1, &["to acme is at work", "repeat this when that is over"]);
    // One that cannot be settled keeps the other from it.
    let named = [&run, "--committed", "--customer", "acme", "--customer", "beta"];
    refused(&named, 1, &["to acme is at work"]);
    world.run(&["settle", &run, "--committed", "--customer", "beta"]).ended(0);
    refused(&named, 1, &["the delivery to beta is not in doubt: it is committed"]);
    let all = world.run(&["show", &run, "--json"]).ended(0).json()["deliveries"].clone();
    assert_eq!((&all[0]["state"], &all[1]["state"]), (&"sealed".into(), &"committed".into()), "{all:#}");
    drop(daemon);
    // Its only one in doubt by now.
    proxy.heal();
    world.run(&["settle", &run, "--failed"]).ended(0).out_says(&["acme           is on record as failed"]);
    refused(&[&run, "--failed"], 1, &["no delivery of run", "consign show"]);
}

/// An object of it has yet to complete: S3 will tell, and nobody else need.
#[test]
fn what_is_stored_and_not_asked_for_is_not_settled() {
    let slow = || Fault::Answer(503, vec![], s3_error("SlowDown", "Please reduce your request rate."));
    let keys = "retry = { attempts = 2, backoff = \"1h\", max_backoff = \"1h\" }";
    let mut case = Case::new(keys, move |seen, _| (seen.call == Call::Complete).then(slow));
    case.until_logged("to be tried again", 1);
    assert!(!case.world.log().contains("consign settle"));
    let shown = case.world.run(&["show", &run(&case.world)]).ended(0).stdout;
    assert!(shown.contains("sealed") && !shown.contains("in doubt"), "{shown}");
    settle(&case.world, "--failed").ended(1).err_says(&["its objects have yet to complete"]);
    assert_eq!(case.shown()["state"], "sealed");
    stop(case.daemon);
}

/// The record is whole, and the next start does what is left to do.
#[test]
fn a_crash_when_it_is_settled_changes_nothing() {
    for (verdict, without_daemon) in [("--committed", false), ("--failed", false), ("--failed", true)] {
        let case = doubtful("");
        let Case { world, daemon, .. } = case;
        stop(daemon);
        let crash = [("CONSIGN_CRASH_AT", "settled")];
        let run = run(&world);
        let args = ["settle", &run, "--customer", "acme", verdict, "--reason", "asked acme"];
        let mut dies = if without_daemon {
            world.start(&[], &args, &crash)
        } else {
            let daemon = world.start(&[], &["run"], &crash);
            until("it can be asked", SOON, || world.run(&["status"]).code == 0);
            assert_ne!(world.run(&args).code, 0, "it has answered");
            daemon
        };
        assert!(dies.wait(SOON).signal().is_some(), "{}", world.log());
        is_settled(&shown(&world), as_state(verdict).0);
        let daemon = world.daemon();
        until("its run has ended", SOON, || world.runs()[0]["state"] == as_state(verdict).1);
        until("nothing is left", SOON, || open_uploads(&world) == 0);
        stop(daemon);
        world.run(&["ledger", "check"]).ended(0);
    }
}
