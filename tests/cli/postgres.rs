//! Several daemons on one ledger in PostgreSQL: they share the work, and what a
//! dead or a paused one had is delivered once.

mod quarantine;
mod restored;
mod settled;
mod steps;
mod unready;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ::postgres::{Client, NoTls};
use rustix::process::Signal;

use super::daemon::{SHARE, audit, in_state, wait};
use super::world::{self, Running, SOON, World, says, stop, until};
use crate::support::postgres::{Postgres, SHORT_LEASE};

const CARRIERS: &str = r#"["UA", "B6"]"#;
const ROWS: u64 = 58_665 + 54_635;

/// Longer than a busy machine keeps a daemon waiting.
const LONG_LEASE: Duration = Duration::from_secs(10);

fn lease(lease: Duration) -> String {
    format!("lease = \"{}s\"", lease.as_secs())
}

/// Daemons that have one ledger, each with a part of the work.
struct Pair {
    world: World,
    sandbox: Option<Running>,
    schema: String,
    url: String,
}

impl Pair {
    /// `keys` are of `[daemon]`.
    fn new(url: &str, keys: &str) -> Self {
        Self::with(url, keys, &world::flights(&world::customer("acme", 1, "us-east-1", CARRIERS), "tick", SHARE))
    }

    fn with(url: &str, keys: &str, flights: &str) -> Self {
        let mut pair = Self::with_nobody(url, &format!("{keys}\n{flights}"));
        pair.sandbox = Some(pair.world.sandbox());
        pair
    }

    /// Without the sandbox.
    fn with_nobody(url: &str, config: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let schema = format!("daemons{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let ledger = format!("[ledger]\nurl = \"{url}\"\nschema = \"{schema}\"\n{}\n", lease(LONG_LEASE));
        let world = World::new(&format!("{config}\n{ledger}"));
        Self { world, sandbox: None, schema, url: url.to_owned() }
    }

    /// The same with leases that run out soon. Nobody has the ledger yet.
    fn with_short_lease(self) -> Self {
        let (text, long) = (self.world.text(), lease(LONG_LEASE));
        assert!(text.contains(&long));
        self.world.write("consign.toml", text.replace(&long, &lease(SHORT_LEASE)));
        self
    }

    fn psql(&self, sql: &str) -> String {
        Postgres::ask(&self.url, &format!("SET search_path TO {}; {sql}", self.schema))
    }

    /// A daemon with a state directory of its own, and its node. Commands do not go to it.
    fn daemon(&self) -> (Running, String) {
        self.daemon_at(&[])
    }

    /// The same, to die or to stand still at a point.
    fn daemon_at(&self, points: &[(&str, &str)]) -> (Running, String) {
        let text = self.world.text();
        let started = self.daemon_in(&Self::of_its_own(), points);
        self.world.write("consign.toml", text);
        started
    }

    /// The same for commands to go to.
    fn daemon_to_ask(&self) -> (Running, String) {
        self.daemon_in(&Self::of_its_own(), &[])
    }

    fn of_its_own() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("of-its-own/{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Has the configuration name this state directory.
    fn configure(&self, state_dir: &str) {
        let text = self.world.text();
        let line = text.lines().find(|line| line.starts_with("state_dir")).unwrap();
        self.world.write("consign.toml", text.replace(line, &format!("state_dir = \"{state_dir}\"")));
    }

    fn daemon_in(&self, state_dir: &str, points: &[(&str, &str)]) -> (Running, String) {
        self.configure(state_dir);
        let daemon = self.world.start(&[], &["run"], points);
        let node = format!("SELECT id FROM nodes WHERE name LIKE '%process {}'", daemon.id());
        let mut id = String::new();
        until("the daemon is a node", SOON, || {
            // There may be no table yet.
            let there = self.psql("SELECT to_regclass('nodes') IS NOT NULL");
            id = if there == "t" { self.psql(&node) } else { String::new() };
            !id.is_empty()
        });
        (daemon, id)
    }

    /// How many runs in `state` a node has.
    fn has(&self, node: &str, state: &str) -> u32 {
        self.psql(&format!("SELECT count(*) FROM runs WHERE node = {node} AND state = '{state}'")).parse().unwrap()
    }

    /// Runs that a node has at work.
    fn at_work(&self, node: &str) -> Vec<String> {
        let ids = self.psql(&format!("SELECT id FROM runs WHERE node = {node} AND state = 'running' ORDER BY seq"));
        ids.lines().map(str::to_owned).collect()
    }

    /// Stops a daemon, and lets it go on if it has no run at work.
    fn stands_still_at_work(&self, daemon: &Running, node: &str) -> bool {
        daemon.signal(Signal::STOP);
        until("it stands still", SOON, || world::is_stopped(daemon));
        // What was on its way to the server has arrived by then.
        let (before, then) = (self.at_work(node), self.at_work(node));
        let stays = !then.is_empty() && before == then;
        if !stays {
            daemon.signal(Signal::CONT);
        }
        stays
    }

    fn wait_for(&self, daemon: &mut Running, what: &str, runs: &[String]) {
        wait(&self.world, daemon, what, |all| {
            let succeeded = in_state(all, "succeeded");
            runs.iter().all(|run| succeeded.contains(run.as_str()))
        });
    }

    /// Nothing more begins, and what has begun ends: a stop leaves what it finds claimed to the next start.
    fn settle(&self) {
        self.world.run(&["pause", "tick"]).ended(0);
        until("nothing is at work", SOON, || self.psql("SELECT count(*) FROM runs WHERE state = 'running'") == "0");
    }

    fn is_sound(&self) {
        self.world.run(&["ledger", "check"]).ended(0).out_says(&["the ledger is whole"]);
    }
}

#[test]
fn postgres_two_daemons_share_and_a_killed_ones_work_is_taken_over() {
    let Some(server) = Postgres::shared() else { return };
    let pair = Pair::new(&server.url(), "concurrency = 1").with_short_lease();
    let mut daemons = vec![pair.daemon(), pair.daemon()];
    // Whichever has something, for the first to ask gets it. Standing still, it keeps that.
    let mut at = None;
    until("one has something at work", SOON, || {
        at = daemons.iter().position(|(daemon, node)| pair.stands_still_at_work(daemon, node));
        at.is_some()
    });
    let (mut killed, one) = daemons.remove(at.unwrap());
    let (mut second, two) = daemons.remove(0);
    let left = pair.at_work(&one);
    assert!(!left.is_empty());
    killed.signal(Signal::KILL);
    killed.wait(SOON);
    pair.wait_for(&mut second, "what the killed one had is delivered", &left);
    until("the other one begins what comes", SOON, || pair.has(&two, "succeeded") > u32::try_from(left.len()).unwrap());
    assert_eq!(pair.psql(&format!("SELECT state FROM nodes WHERE id = {one}")), "dead");
    pair.settle();
    stop(second);
    audit(&pair.world, ROWS, 1);
    pair.is_sound();
}

#[test]
fn postgres_a_daemon_paused_beyond_its_lease_is_fenced() {
    let Some(server) = Postgres::shared() else { return };
    let pair = Pair::new(&server.url(), "").with_short_lease();
    let (mut paused, one) = pair.daemon();
    let (mut other, _) = pair.daemon();
    until("it is paused in the middle of a run", SOON, || pair.stands_still_at_work(&paused, &one));
    let had = pair.at_work(&one);
    pair.wait_for(&mut other, "what the paused one had is delivered", &had);
    assert_eq!(pair.psql(&format!("SELECT state FROM nodes WHERE id = {one}")), "dead");
    paused.signal(Signal::CONT);
    assert_eq!(paused.wait(SOON).code(), Some(4), "{}", pair.world.log());
    world::says(&pair.world.log(), &["the lease on this consign's work ran out"]);
    // As systemd does.
    let (mut again, three) = pair.daemon();
    // Or the other one might be quicker with every slot.
    stop(other);
    until("it is back, as another node", SOON, || {
        assert!(again.is_running(), "{}", pair.world.log());
        pair.has(&three, "succeeded") > 0
    });
    pair.settle();
    stop(again);
    audit(&pair.world, ROWS, 1);
    pair.is_sound();
}

#[test]
fn postgres_that_restarts_does_not_end_the_daemon() {
    let Some(mut server) = Postgres::start() else { return };
    let pair = Pair::new(&server.url(), "");
    let (mut daemon, node) = pair.daemon();
    let mut had = Vec::new();
    for _ in 0..2 {
        until("something is at work", SOON, || !pair.at_work(&node).is_empty());
        had.extend(pair.at_work(&node));
        server.restart(Duration::from_millis(500));
        assert!(daemon.is_running(), "{}", pair.world.log());
    }
    pair.wait_for(&mut daemon, "what was at work is delivered", &had);
    let before = pair.has(&node, "succeeded");
    until("it goes on", SOON, || {
        assert!(daemon.is_running(), "{}", pair.world.log());
        pair.has(&node, "succeeded") >= before + 2
    });
    pair.settle();
    stop(daemon);
    audit(&pair.world, ROWS, 0);
    pair.is_sound();
}

/// Whoever is told to stop again ends, whatever the database makes of what it was told.
#[test]
fn postgres_that_stands_still_keeps_no_daemon_that_is_told_to_stop_again() {
    let Some(server) = Postgres::shared() else { return };
    let pair = Pair::new(&server.url(), "");
    let (mut daemon, _) = pair.daemon();
    let mut busy = Client::connect(&pair.url, NoTls).unwrap();
    // It is read all the same.
    busy.batch_execute(&format!("BEGIN; LOCK TABLE {}.slots IN EXCLUSIVE MODE", pair.schema)).unwrap();
    let waits = "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))";
    until("a writer waits", SOON, || !busy.query(waits, &[]).unwrap().is_empty());
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
    says(&pair.world.log(), &["told to stop again"]);
}

/// Told to one daemon, or where there is none, it reaches the one that has the delivery.
#[test]
fn postgres_cancel_reaches_the_daemon_that_has_it() {
    let Some(server) = Postgres::shared() else { return };
    let pair = Pair::new(&server.url(), "concurrency = 4");
    // Longer work than anybody waits for, so that what is at work stays so.
    let work = "overlap = \"allow\"\ncompression = { codec = \"zstd\", level = 19 }";
    let all = r#"["UA", "B6", "EV", "DL", "AA", "MQ"]"#;
    let text = pair.world.text().replace(CARRIERS, all).replace("overlap = \"allow\"", work);
    pair.world.write("consign.toml", text);
    let daemon = |state: &str| {
        let (daemon, node) = pair.daemon_in(state, &[]);
        until("it can be asked", SOON, || pair.world.path(state).join("consign.sock").exists());
        (daemon, node)
    };
    let (mut one, node) = daemon("one");
    let (mut two, _) = daemon("two");
    let newest = format!(
        "SELECT r.id FROM runs r JOIN deliveries d ON d.run = r.seq
         WHERE r.node = {node} AND d.state = 'working' ORDER BY r.seq DESC LIMIT 1"
    );
    for asked in ["two", "nobody"] {
        let mut run = String::new();
        until("the first one has a delivery at work", SOON, || {
            run = pair.psql(&newest);
            !run.is_empty()
        });
        pair.configure(asked);
        pair.world.run(&["cancel", &run]).ended(0).out_says(&["acme", "is to be ended by"]);
        let ended = format!("SELECT node FROM runs WHERE id = '{run}' AND state = 'failed'");
        until("the run has ended", SOON, || {
            assert!(one.is_running() && two.is_running(), "{}", pair.world.log());
            !pair.psql(&ended).is_empty()
        });
        assert_eq!(pair.psql(&ended), node, "the first one ended it");
        let shown = pair.world.run(&["show", &run, "--json"]).ended(0).json();
        assert_eq!(shown["deliveries"][0]["failure"]["message"], "cancelled by root", "{shown}");
    }
    pair.is_sound();
}

/// `consign cancel` on a machine without a daemon: what another machine's has at work is left to it.
#[test]
fn postgres_a_run_of_another_daemon_is_cancelled_there() {
    let Some(server) = Postgres::shared() else { return };
    let pair = Pair::new(&server.url(), "");
    let (mut daemon, _) = pair.daemon();
    let elsewhere = pair.world.text().replace("state_dir = \"state\"", "state_dir = \"elsewhere\"");
    pair.world.write("elsewhere.toml", elsewhere);
    let begun = "SELECT r.id FROM runs r JOIN deliveries d ON d.run = r.seq WHERE d.state IN ('pending', 'working')";
    let mut run = String::new();
    until("it stands still in the middle of a run", SOON, || {
        daemon.signal(Signal::STOP);
        run = pair.psql(&format!("{begun} LIMIT 1"));
        if run.is_empty() {
            daemon.signal(Signal::CONT);
        }
        !run.is_empty()
    });
    let cancel = ["--config", "elsewhere.toml", "cancel", &run];
    let has = format!("process {}, which has it", daemon.id());
    world::consign(pair.world.dir(), &cancel).ended(0).out_says(&["is to be ended by", &has]);
    let state = format!("SELECT state FROM runs WHERE id = '{run}'");
    assert_eq!(pair.psql(&state), "running");
    daemon.signal(Signal::CONT);
    until("it ends there", SOON, || {
        assert!(daemon.is_running(), "{}", pair.world.log());
        pair.psql(&state) != "running"
    });
    stop(daemon);
    pair.is_sound();
}

/// As if another database or schema were named than before.
#[test]
fn postgres_a_new_ledger_is_told_once() {
    let Some(server) = Postgres::shared() else { return };
    let pair = Pair::new(&server.url(), "");
    for lives in 1..=2u32 {
        let (daemon, node) = pair.daemon();
        until("it delivers", SOON, || pair.has(&node, "succeeded") > 0);
        assert_eq!(pair.world.log().matches("a new ledger was made: shares").count(), 1, "in life {lives}");
        stop(daemon);
    }
    assert!(!pair.psql("SELECT made_at FROM consign_ledger").is_empty());
}

/// `consign send`, `pause` and `ledger` beside a running daemon.
#[test]
fn postgres_takes_commands_while_a_daemon_runs() {
    let Some(server) = Postgres::shared() else { return };
    let pair = Pair::new(&server.url(), "");
    let (daemon, _) = pair.daemon();
    pair.world.run(&["send", "tick", "--at", "2024-03-01T06:00:00Z"]).ended(0).out_says(&["delivered"]);
    pair.world.run(&["send", "tick", "--at", "2024-03-01T06:00:00Z"]).ended(0).out_says(&["was delivered before"]);
    pair.world.run(&["pause", "tick"]).ended(0);
    pair.world.run(&["next", "tick"]).ended(0).out_says(&["paused"]);
    pair.world.run(&["resume", "tick"]).ended(0);
    pair.world.run(&["ledger", "prune", "--older-than", "1d"]).ended(0);
    pair.world.run(&["ledger", "backup", "copy.db"]).ended(2).err_says(&["pg_dump"]);
    pair.is_sound();
    stop(daemon);
    // No file of SQLite was made.
    assert!(!pair.world.path("state/ledger.db").exists());
}

/// It has a socket also where no file of a ledger has made it a folder. What waits in
/// another daemon is not tried by this one, which says so.
#[test]
fn postgres_a_retry_of_what_another_daemon_has_says_so() {
    let Some(server) = Postgres::shared() else { return };
    let mut pair = Pair::new(&server.url(), "");
    drop(pair.sandbox.take());
    let (first, one) = pair.daemon();
    let waits = format!(
        "SELECT r.id FROM runs r JOIN deliveries d ON d.run = r.seq WHERE r.node = {one} AND d.state = 'waiting'
         AND d.due_at > extract(epoch FROM now() + interval '10 seconds') * 1000000 LIMIT 1"
    );
    until("something waits for its next try", SOON, || !pair.psql(&waits).is_empty());
    let (second, _) = pair.daemon_to_ask();
    until("the second one can be asked", SOON, || pair.world.run(&["status"]).code == 0);
    let run = pair.psql(&waits);
    pair.world.run(&["retry", &run]).ended(1).out_says(&["waits in run", &run, "the consign that has it goes on"]);
    first.signal(Signal::KILL);
    second.signal(Signal::KILL);
}
