//! `consign run` as a service: what it tells systemd, what its log gives journald.
//! `make test-systemd` has the same under a real systemd.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use consign::clock::Clock;
use consign::ledger::Ledger;
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use super::world::{self, Running, SOON, World, command, says, until};

const SHARE: &str = r#"
schedule = "* * * * * *"
to = { customers = ["acme"] }
"#;

fn world() -> World {
    World::new(&world::flights(&world::customer("acme", 1, "us-east-1", "\"AS\""), "tick", SHARE))
}

/// Listens where systemd would.
struct Manager(UnixDatagram);

impl Manager {
    /// A daemon that is watched as with `WatchdogSec=20s`.
    fn start(world: &World) -> (Self, Running) {
        let path = world.path("notify.sock");
        let manager = Self(UnixDatagram::bind(&path).unwrap());
        let log = File::create(world.path("daemon.log")).unwrap();
        let mut command = command(world.dir(), &["--config", "consign.toml", "run"]);
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000000");
        (manager, Running::start(command.stdout(Stdio::null()).stderr(log)))
    }

    /// The next message, if there is one by then.
    fn hears_within(&self, patience: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(patience.max(Duration::from_millis(1)))).unwrap();
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }

    /// Waits for a message that has `words`.
    fn hears(&self, words: &str) -> String {
        self.waits_for(words, |message| message.contains(words))
    }

    /// Waits for a status that counts deliveries.
    fn hears_of_deliveries(&self) -> String {
        let counts = |message: &str| message.contains("since the start ") && !message.contains(" 0 delivered");
        self.waits_for("that something is delivered", counts)
    }

    fn waits_for(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + SOON;
        let mut heard = Vec::new();
        while let Some(message) = self.hears_within(end.saturating_duration_since(Instant::now())) {
            if is_it(&message) {
                return message;
            }
            heard.push(message);
        }
        panic!("{what} was not said: {heard:#?}");
    }

    /// What is said during this time.
    fn listens(&self, patience: Duration) -> Vec<String> {
        let end = Instant::now() + patience;
        let left = || Some(end.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
        std::iter::from_fn(|| self.hears_within(left()?)).collect()
    }
}

#[test]
fn service_says_that_it_is_ready_alive_and_stopping() {
    let world = world();
    let _sandbox = world.sandbox();
    let (manager, mut daemon) = Manager::start(&world);
    // It asks for time until it is ready: what was left is taken up, the ledger its own.
    let first = manager.hears_within(SOON).unwrap();
    says(&first, &["STATUS=starting: reading the configuration and the ledger, compiling plugins"]);
    says(&manager.hears_within(SOON).unwrap(), &["EXTEND_TIMEOUT_USEC=30000000\n"]);
    let ready = manager.hears("READY=1");
    says(&ready, &["READY=1\n", "STATUS=1 share, next slot 20", "; 0 at work, 0 waiting, 0 to be tried again"]);
    says(&world.log(), &["consign is ready"]);
    says(&manager.hears_of_deliveries(), &["STATUS=1 share, next slot", ", 0 failed"]);
    // However busy it is, the status does not lag behind.
    let statuses =
        manager.listens(Duration::from_secs(4)).into_iter().filter(|said| said.starts_with("STATUS=")).count();
    assert!(statuses >= 2, "{statuses} statuses in four seconds, with a slot in each");
    let lives = manager.listens(Duration::from_secs(5)).iter().filter(|said| said.contains("WATCHDOG=1\n")).count();
    assert!((3..=11).contains(&lives), "said {lives} times in five seconds that it is alive");
    daemon.signal(Signal::TERM);
    manager.hears("STOPPING=1\n");
    assert_eq!(daemon.wait(SOON).code(), Some(0));
}

/// The loop's own progress is what is told: here the ledger's file is locked, so it cannot go on.
#[test]
fn service_that_hangs_does_not_say_that_it_is_alive() {
    let world = world();
    let _sandbox = world.sandbox();
    let (manager, daemon) = Manager::start(&world);
    manager.hears("WATCHDOG=1");
    let ledger = Connection::open(world.path("state/ledger.db")).unwrap();
    ledger.busy_timeout(SOON).unwrap();
    ledger.execute_batch("BEGIN IMMEDIATE").unwrap();
    // It hangs with the next slot, for less than what it takes for an error.
    let locked = Instant::now();
    while let Some(said) = manager.hears_within(Duration::from_secs(2)) {
        assert!(locked.elapsed() < SOON, "it goes on to say {said}");
    }
    ledger.execute_batch("COMMIT").unwrap();
    manager.hears("WATCHDOG=1");
    drop(daemon);
}

#[test]
fn service_asks_for_time_while_deliveries_finish_and_ends_at_the_second_signal() {
    let world = world();
    let sandbox = world.sandbox();
    let (manager, mut daemon) = Manager::start(&world);
    manager.hears_of_deliveries();
    // Whatever is at work stays so.
    sandbox.signal(Signal::STOP);
    until("a delivery is at work", SOON, || world.runs()[0]["state"] == "running");
    daemon.signal(Signal::TERM);
    manager.hears("STOPPING=1\n");
    let draining = manager.hears("EXTEND_TIMEOUT_USEC=15000000\n");
    says(&draining, &["STATUS=stopping: ", " at work, cut off in "]);
    manager.hears("WATCHDOG=1\n");
    let again = manager.hears("EXTEND_TIMEOUT_USEC=15000000\n");
    says(&again, &["STATUS=stopping: ", " at work, cut off in 2"]);
    let began = Instant::now();
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?} are not at once", began.elapsed());
    says(&world.log(), &["told to stop again"]);
}

/// Why it ended stays to be seen in `systemctl status`.
#[test]
fn service_that_fails_says_why() {
    let world = world();
    let _sandbox = world.sandbox();
    let (manager, mut daemon) = Manager::start(&world);
    manager.hears("WATCHDOG=1");
    let ledger = Connection::open(world.path("state/ledger.db")).unwrap();
    ledger.busy_timeout(SOON).unwrap();
    ledger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let said = manager.hears("STATUS=cannot read or write the ledger");
    assert_eq!(said.lines().count(), 1, "{said}");
    ledger.execute_batch("ROLLBACK").unwrap();
    assert_eq!(daemon.wait(SOON).code(), Some(4));
}

/// However early it fails, why is the service's status.
#[test]
fn service_that_cannot_start_says_why() {
    let world = world();
    let text = world.text();
    let fails = |status: &str, code: i32| {
        let (manager, mut daemon) = Manager::start(&world);
        let said = manager.hears(status);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(daemon.wait(SOON).code(), Some(code));
        drop(manager);
        fs::remove_file(world.path("notify.sock")).unwrap();
    };
    world.write("consign.toml", text.replace("* * * * * *", "sometimes"));
    fails("STATUS=1 error in the configuration", 3);
    let own = text.replace("plugin = \"jsonl\"", "plugin = \"own\"");
    world.write("consign.toml", own + "[plugins.own]\npath = \"gone.wasm\"\n");
    fails("cannot read plugin own", 1);
    world.write("consign.toml", &text);
    let ledger = Ledger::open(&world.path("state"), Clock::system()).unwrap();
    fails("is held by", 4);
    drop(ledger);
}

/// Has it write to a file as if that were journald's.
fn to_journal<'a>(command: &'a mut Command, path: &Path) -> &'a mut Command {
    let log = File::create(path).unwrap();
    let found = log.metadata().unwrap();
    command.env("JOURNAL_STREAM", format!("{}:{}", found.dev(), found.ino())).stderr(log)
}

/// What a daemon has told journald when it has delivered and ended.
fn journal_of_a_delivery(world: &World, json: bool, environment: &[(&str, &str)]) -> String {
    let path = world.path(if json { "json.log" } else { "text.log" });
    let args = ["--config", "consign.toml", "run", "--json"];
    let mut command = command(world.dir(), if json { &args } else { &args[..3] });
    command.envs(environment.iter().copied()).stdout(Stdio::null());
    let daemon = Running::start(to_journal(&mut command, &path));
    let text = || fs::read_to_string(&path).unwrap();
    until("a delivery is logged", SOON, || text().contains("delivered"));
    world::stop(daemon);
    text()
}

/// A panic too is one entry, and an error.
#[test]
fn service_tells_journald_of_a_fault() {
    let world = world();
    let _sandbox = world.sandbox();
    for json in [false, true] {
        let text = journal_of_a_delivery(&world, json, &[("CONSIGN_PANIC_AT", "started:1")]);
        assert!(text.lines().all(|line| line.starts_with('<')), "{text}");
        let is_fault = |line: &&str| line.contains("a fault in consign, please report it");
        let faults: Vec<&str> = text.lines().filter(is_fault).collect();
        let [fault] = faults[..] else { panic!("one line: {text}") };
        assert!(fault.starts_with("<3>"), "{fault}");
        says(fault, &["CONSIGN_PANIC_AT names started", "host/crash.rs:"]);
    }
}

#[test]
fn service_logs_as_journald_wants_it() {
    let world = world();
    let _sandbox = world.sandbox();
    for json in [false, true] {
        let text = journal_of_a_delivery(&world, json, &[]);
        let (new, others): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.contains("a new ledger was made"));
        // A warning, at the first start alone.
        assert!(new.len() == usize::from(!json) && new.iter().all(|line| line.starts_with("<4>")), "{new:?}");
        // A busy machine leaves out slots, and says so.
        for line in others.into_iter().filter(|line| !line.contains("slot skipped")) {
            assert!(line.starts_with("<6>") && !line.contains('\x1b'), "{line}");
            assert!(json || !line[3..].starts_with("20"), "a time is journald's business: {line}");
        }
        let delivered = text.lines().find(|line| line.contains("delivered")).unwrap();
        if json {
            let said: Value = serde_json::from_str(&delivered[3..]).unwrap();
            assert_eq!((&said["message"], &said["level"]), (&"delivered".into(), &"INFO".into()), "{said}");
            let of = &said["span"];
            assert_eq!((&of["share"], &of["customer"], &of["attempt"]), (&"tick".into(), &"acme".into(), &1.into()));
            assert!(of["run"].is_string() && of["slot"].is_string() && said["output.rows"] == 714, "{said}");
        } else {
            says(delivered, &["run=", "share=tick", "slot=20", "customer=acme", "attempt=1", "output.rows=714"]);
        }
    }
}

/// What is wrong is an error for `journalctl -p err`, line by line.
#[test]
fn service_tells_journald_of_a_bad_configuration() {
    let world = World::new("[shares.tick]\nschedule = \"sometimes\"\n");
    let path = world.path("stderr.log");
    let mut check = command(world.dir(), &["--config", "consign.toml", "check"]);
    assert_eq!(Running::start(to_journal(&mut check, &path)).wait(SOON).code(), Some(3));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().all(|line| line.starts_with("<3>")), "{text}");
    says(&text, &["sometimes"]);
    // So is what is wrong with the command line.
    let mut nonsense = command(world.dir(), &["run", "--nonsense"]);
    assert_eq!(Running::start(to_journal(&mut nonsense, &path)).wait(SOON).code(), Some(2));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().all(|line| line.starts_with("<3>")), "{text}");
    says(&text, &["--nonsense"]);
}

/// `systemctl reload` returns when this is over, and its status says how it went.
#[test]
fn service_says_that_it_reloads_and_what_came_of_it() {
    let world = world();
    let _sandbox = world.sandbox();
    let (manager, mut daemon) = Manager::start(&world);
    manager.hears("READY=1");
    let good = world.text();
    world.write("consign.toml", good.replace("us-east-1", "us-east"));
    daemon.signal(Signal::HUP);
    says(&manager.hears("RELOADING=1"), &["MONOTONIC_USEC="]);
    let said = manager.hears("READY=1");
    says(
        &said,
        &["STATUS=the new configuration is refused (", "in the configuration) and the old one runs on; 1 share"],
    );
    world.write("consign.toml", good);
    daemon.signal(Signal::HUP);
    manager.hears("RELOADING=1");
    says(&manager.hears("READY=1"), &["STATUS=1 share, next slot"]);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
}

/// With `--json` the log is all there is on stderr, and stdout has nothing.
#[test]
fn service_tells_a_json_log_why_it_cannot_start() {
    let world = World::new("[shares.tick]\nschedule = \"sometimes\"\n");
    for (args, exit) in [(&["run", "--json"][..], 3), (&["--json", "run", "--nonsense"], 2)] {
        let ran = world.run(args).ended(exit);
        assert_eq!(ran.stdout, "");
        let [line] = ran.stderr.lines().collect::<Vec<_>>()[..] else { panic!("one line: {}", ran.stderr) };
        let said: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&said["level"], &said["exit"]), (&"ERROR".into(), &exit.into()), "{said}");
        assert!(said["timestamp"].is_string() && said["message"].is_string(), "{said}");
        assert_eq!(said["problems"].as_array().unwrap().is_empty(), exit == 2, "{said}");
    }
}
