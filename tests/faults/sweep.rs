//! Each single fault at each request of a delivery, by hand and by the daemon. The next process makes it
//! good, where that is needed at all.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use consign::clock::Clock;
use consign::domain::{CustomerName, Interval, Origin, ShareName, Slot};
use consign::ledger::{Ledger, Planned};
use rustix::process::Signal;

use crate::cli::sweeps::{in_lanes, is_whole};
use crate::cli::world::SOON;
use crate::support::promises::PROBE;
use crate::support::wire::{Call, Event, Fault, Seen, element};

use super::scene::{Plan, SHARES, Scene, Server};
use super::seeds::tidies;
use super::storm::refusal;

/// Scenes at the same time: each waits for the SDK's backoff most of the time.
const LANES: usize = 3;

/// Whoever seems not to be ready is waited for, however old the slot is, and what fails is tried again at once.
const PATIENT: &str = "catch_up = \"all\"\ncatch_up_window = \"366days\"\n\
    retry = { attempts = 9, backoff = \"50ms\", max_backoff = \"200ms\" }";

/// What goes wrong once.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    /// Status and code.
    Refuse(u16, &'static str),
    Stall,
    Late,
    Delayed,
    Reset,
    LoseReply,
    Truncate,
    Drip,
    CutOff,
    Hang,
    KillBefore,
    KillAfter,
}

const ACTIONS: [Action; 18] = [
    Action::Refuse(503, "SlowDown"),
    Action::Refuse(500, "InternalError"),
    Action::Refuse(200, "InternalError"),
    Action::Refuse(403, "AccessDenied"),
    Action::Refuse(400, "ExpiredToken"),
    Action::Refuse(409, "ConditionalRequestConflict"),
    Action::Refuse(404, "NoSuchUpload"),
    Action::Stall,
    Action::Late,
    Action::Delayed,
    Action::Reset,
    Action::LoseReply,
    Action::Truncate,
    Action::Drip,
    Action::CutOff,
    Action::Hang,
    Action::KillBefore,
    Action::KillAfter,
];

impl Action {
    /// None where that cannot be said of such a request.
    fn fault(self, call: Call) -> Option<Fault> {
        Some(match self {
            Action::Refuse(200, code) if call == Call::Complete => refusal(call, 200, code),
            Action::Refuse(200, _) => return None,
            Action::Refuse(409 | 404, _) if call == Call::AssumeRole => return None,
            // Of no upload that is open.
            Action::Refuse(404, _) if call == Call::Abort => return None,
            Action::Refuse(status, code) => refusal(call, status, code),
            Action::Stall => Fault::Stall,
            Action::Late => Fault::Late(Duration::from_millis(300)),
            // Longer than anybody waits: two seconds, and six for a completion.
            Action::Delayed => Fault::Delayed(Duration::from_millis(if call == Call::Complete { 6500 } else { 2500 })),
            Action::Reset => Fault::Reset,
            Action::LoseReply => Fault::LoseReply,
            Action::Truncate => Fault::Truncate,
            Action::Drip => Fault::Drip(Duration::from_millis(400)),
            Action::CutOff => Fault::Partition { hangs: false, lasts: Duration::from_millis(400) },
            Action::Hang => Fault::Partition { hangs: true, lasts: Duration::from_millis(400) },
            Action::KillBefore => Fault::Kill { carried_out: false },
            Action::KillAfter => Fault::Kill { carried_out: true },
        })
    }

    /// The delivery gets over it by itself.
    fn passes(self, call: Call) -> bool {
        match self {
            Action::Refuse(503 | 500 | 200, _) => true,
            Action::Refuse(400, _) => call != Call::AssumeRole,
            Action::Refuse(..) | Action::KillBefore | Action::KillAfter => false,
            _ => true,
        }
    }

    fn kills(self) -> bool {
        matches!(self, Action::KillBefore | Action::KillAfter)
    }
}

/// One delivery and what goes wrong with it, in one process after the other: at which request, and what.
#[derive(Clone, Debug)]
struct Life {
    faults: Vec<(usize, Action)>,
    /// Of its slot, so that each has one of its own. Every other has as many objects.
    number: u32,
}

/// Who delivers: a process from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Driver {
    /// `consign send`.
    Send,
    /// `consign run`, until the slot has come to its end.
    Daemon,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Delivered,
    Failed,
    Died,
}

impl Driver {
    /// What a share has besides what makes it what it is. None fires by itself while a daemon runs.
    fn keys(self, share: &str) -> String {
        let to = "to = { customers = [\"acme\"] }";
        match (self, share) {
            (Driver::Send, _) => format!("schedule = \"@daily\"\n{to}"),
            (Driver::Daemon, "newest") => {
                format!("schedule = \"@hourly\"\nend = {}\n{PATIENT}\n{to}", yesterday().format("%F"))
            }
            (Driver::Daemon, _) => format!("schedule = \"@daily\"\nend = 2025-12-31\n{PATIENT}\n{to}"),
        }
    }

    /// Of the past. What a daemon has planned by the schedule must not be too long ago to be waited for.
    fn slot(self, share: &str, number: u32) -> DateTime<Utc> {
        let number = i32::try_from(number).unwrap();
        match (self, share) {
            (Driver::Daemon, "newest") => {
                yesterday() - TimeDelta::days(360)
                    + TimeDelta::days(2) * (number / 16)
                    + TimeDelta::hours(1) * (number % 16)
            }
            _ => "2020-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(1) * number,
        }
    }

    fn delivers(self, scene: &Scene, share: &str, number: u32) -> End {
        let at = self.slot(share, number);
        if self == Driver::Daemon {
            plans(scene, share, at);
            return runs_until_its_end(scene, share, at);
        }
        match scene.run(&["send", share, "--at", &at.to_rfc3339()]).code() {
            Some(0) => End::Delivered,
            Some(_) => End::Failed,
            None => End::Died,
        }
    }

    /// Gets over it in the same process. A daemon tries again whatever may pass, and waits for whoever is not ready.
    fn passes(self, action: Action, call: Call) -> bool {
        match self {
            Driver::Send => action.passes(call),
            Driver::Daemon => !action.kills(),
        }
    }
}

/// Its first moment, also when another day begins meanwhile.
fn yesterday() -> DateTime<Utc> {
    static YESTERDAY: OnceLock<DateTime<Utc>> = OnceLock::new();
    *YESTERDAY
        .get_or_init(|| Clock::system().now().date_naive().and_time(NaiveTime::MIN).and_utc() - TimeDelta::days(1))
}

fn of_slot(share: &str, at: DateTime<Utc>) -> String {
    format!("s.share = '{share}' AND s.at = {}", at.timestamp_micros())
}

/// Has the slot begin when a daemon does, unless it goes on then by itself: it is filled in, or was due, where filling in is
/// refused.
fn plans(scene: &Scene, share: &str, at: DateTime<Utc>) {
    let state = scene.world.path("state");
    let goes_on = || scene.count(&format!("slots s WHERE {} AND state <> 'done'", of_slot(share, at))) > 0;
    if state.join("ledger.db").exists() && goes_on() {
        return;
    }
    if share != "newest" {
        let at = at.to_rfc3339();
        let filled = scene.run(&["backfill", share, "--from", &at, "--to", &at]);
        return assert_eq!(filled.code(), Some(0), "{}", scene.log());
    }
    let interval = Interval { start: at - TimeDelta::hours(1), end: at };
    let slot = Slot { share: ShareName::parse(share).unwrap(), at, interval };
    let planned = Planned::new(slot, vec![CustomerName::parse("acme").unwrap()], Origin::Schedule);
    let ledger = Ledger::open(&state, Clock::system()).unwrap();
    let recorded = ledger.plan(vec![planned], Vec::new());
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(recorded).unwrap();
}

/// A daemon until the slot is done with or the daemon is dead. It reads its configuration again when the customer seems not to
/// be ready, which has it looked at without a pause.
fn runs_until_its_end(scene: &Scene, share: &str, at: DateTime<Utc>) -> End {
    let (slot, mut daemon) = (of_slot(share, at), scene.start("consign.toml", &["run"]));
    let begun = Instant::now();
    let is_done = || scene.count(&format!("slots s WHERE {slot} AND state = 'done'")) == 1;
    while daemon.is_running() && !is_done() {
        assert!(begun.elapsed() < SOON, "{share} {at} has not come to its end:\n{}\n{}", scene.log(), scene.failures());
        if scene.count("customers WHERE unready_since IS NOT NULL") > 0 {
            scene.run(&["reload"]);
        }
        sleep(Duration::from_millis(20));
    }
    if daemon.is_running() {
        scene.settles();
        daemon.signal(Signal::TERM);
    }
    let status = daemon.wait(SOON);
    if status.signal() == Some(Signal::KILL.as_raw()) {
        return End::Died;
    }
    assert_eq!(status.code(), Some(0), "{status}: {}", scene.log());
    let committed = format!("deliveries d JOIN slots s ON s.id = d.slot WHERE {slot} AND d.state = 'committed'");
    if scene.count(&committed) == 1 { End::Delivered } else { End::Failed }
}

/// ministack takes seconds for a part of 5 MiB: there files are small, and the sandbox alone has those of two parts.
fn scene(driver: Driver, server: Server) -> Scene {
    scene_with(driver, server, "never")
}

fn scene_with(driver: Driver, server: Server, preflight: &'static str) -> Scene {
    let large = server == Server::Sandbox;
    let [rows, files, newest] = SHARES.map(|share| driver.keys(share));
    let patience = ["2s", "20s"];
    Scene::new(&Plan { server, rows, files, newest, patience, large, preflight, postgres: None })
}

/// One fault for each life. Of all lives every `step`-th, unless all are wanted, and whoever dies when
/// something has just become visible; of each kind of fault one at least.
fn sweep(driver: Driver, server: Server, share: &'static str, step: usize) {
    let calls = calls(driver, server, share);
    let all = single(&calls);
    // Steps that have no divisor in common with the number of actions come by most of them.
    let step = if is_whole() { 1 } else { step };
    let is_wanted = |(number, (request, action)): &(usize, (usize, Action))| {
        number % step == 0 || *action == Action::KillAfter && calls[*request] == Call::Complete
    };
    let mut lives: Vec<_> = all.iter().copied().enumerate().filter(is_wanted).map(|(_, fault)| vec![fault]).collect();
    for action in ACTIONS {
        let mut such = all.iter().filter(|(_, of)| *of == action);
        if !lives.iter().flatten().any(|(_, of)| *of == action) {
            lives.extend(such.nth(such.clone().count() / 2).map(|fault| vec![*fault]));
        }
    }
    live_all(driver, server, share, calls.len(), lives);
}

/// A death for each life, and a fault while it is made good. As many as there can be are too many.
fn sweep_twice(server: Server, share: &'static str, step: usize) {
    let calls = calls(Driver::Send, server, share);
    let all = single(&calls);
    let deaths = all.iter().filter(|(_, action)| action.kills());
    // Nor is an upload said to be gone that may have completed.
    let thens = || all.iter().filter(|(_, action)| !matches!(action, Action::Refuse(404, _)));
    let step = if is_whole() { step / 20 } else { step };
    let pairs = deaths.flat_map(|death| thens().map(|then| vec![*death, *then]));
    let mut lives: Vec<_> = pairs.skip(first_of_pairs()).step_by(step).collect();
    // The manifest is there, nobody knows, and everything is refused that could tell.
    let put = (1..calls.len()).rfind(|number| calls[number - 1..=*number] == [Call::Part, Call::Complete]).unwrap();
    let refused = Action::Refuse(403, "AccessDenied");
    lives.extend((0..8).map(|request| vec![(put, Action::KillAfter), (request, refused)]));
    live_all(Driver::Send, server, share, calls.len(), lives);
}

/// With which pair the sweep begins: `CONSIGN_SWEEP_FROM=7` takes those between the usual ones.
fn first_of_pairs() -> usize {
    std::env::var("CONSIGN_SWEEP_FROM").map_or(0, |from| from.parse().expect("a number"))
}

/// The requests of a delivery.
fn calls(driver: Driver, server: Server, share: &str) -> Vec<Call> {
    let scene = scene(driver, server);
    // Each of them once.
    scene.has_time(&["consign.toml"]);
    assert_eq!(driver.delivers(&scene, share, 0), End::Delivered, "{}", scene.log());
    scene.story(0).holds("without a fault");
    scene.proxy.history().iter().map(|event| event.seen.call).collect()
}

fn single(calls: &[Call]) -> Vec<(usize, Action)> {
    let all = (0..calls.len()).flat_map(|request| ACTIONS.map(|action| (request, action)));
    all.filter(|(request, action)| action.fault(calls[*request]).is_some()).collect()
}

fn live_all(driver: Driver, server: Server, share: &str, requests: usize, lives: Vec<Vec<(usize, Action)>>) {
    let numbers = (2..).step_by(2);
    let lives: Vec<Life> = lives.into_iter().zip(numbers).map(|(faults, number)| Life { faults, number }).collect();
    let begun = Instant::now();
    let lanes: Vec<Vec<Life>> =
        (0..LANES).map(|lane| lives.iter().skip(lane).step_by(LANES).cloned().collect()).collect();
    let (hit, stumbled) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    in_lanes(LANES, &lanes, |lives| {
        let scene = scene(driver, server);
        for life in lives {
            hit.fetch_add(live(driver, &scene, share, life, &stumbled), Ordering::Relaxed);
        }
        // What leads to the newest slot stays, and so does what has the place of an earlier one.
        let at = driver.slot(share, 1).to_rfc3339();
        let earlier = scene.run(&["send", share, "--at", &at]).code();
        assert_eq!(earlier, Some(i32::from(share == "newest")), "{}\n{}", scene.log(), scene.failures());
        if scene.count("uploads WHERE state = 'created'") > 0 {
            tidies(&scene, "consign.toml");
        }
        scene.story(0).holds(&format!("{driver:?}, {server:?}, {share}: {lives:?}"));
        assert!(scene.world.run(&["ledger", "check"]).code == 0);
    });
    let (hit, stumbled) = (hit.into_inner(), stumbled.into_inner().unwrap());
    let took = begun.elapsed();
    println!("{driver:?}, {server:?}, {share}: {requests} requests, {} lives, {hit} hit, {took:.0?}", lives.len());
    assert!(stumbled.is_empty(), "{server:?}, {share}: one fault was too many:\n{}", stumbled.join("\n"));
    assert!(hit * 10 >= lives.len() * 9, "{hit} of {} faults came to pass", lives.len());
}

/// As S3 does after a while, the server no longer knows uploads that have completed.
fn forgets_what_completed(scene: &Scene) {
    let done = scene.proxy.history().into_iter().filter(|event| event.seen.call == Call::Complete);
    let done = done.filter(|event| event.carried_out.as_ref().is_some_and(|(_, answer)| answer.is_success()));
    let done: HashSet<String> = done.map(|event| event.seen.upload_id().to_owned()).collect();
    scene.proxy.obey(move |seen, _| {
        let is_gone = seen.call == Call::Complete && done.contains(seen.upload_id());
        is_gone.then(|| refusal(seen.call, 404, "NoSuchUpload"))
    });
}

/// How many of the faults came to pass.
fn live(driver: Driver, scene: &Scene, share: &str, life: &Life, stumbled: &Mutex<Vec<String>>) -> usize {
    let Life { faults, number } = life;
    let (mut hit, mut is_done) = (0, false);
    for (request, action) in faults.iter().copied() {
        let before = scene.proxy.requests();
        fails_once(scene, request, action);
        let end = driver.delivers(scene, share, *number);
        scene.proxy.heal();
        is_done = end == End::Delivered;
        let history = scene.proxy.history();
        let met = history[before..].iter().find(|event| event.fault.is_some()).map(|event| event.seen.call);
        let Some(call) = met else { continue };
        hit += 1;
        let told = || format!("{life:?}: {action:?} at {call:?}: {end:?}");
        match end {
            _ if action.kills() => assert_eq!(end, End::Died, "{}", told()),
            End::Delivered => {}
            End::Failed if !driver.passes(action, call) => {}
            _ => stumbled.lock().unwrap().push(told()),
        }
    }
    if !is_done {
        forgets_what_completed(scene);
        let (end, failures) = (driver.delivers(scene, share, *number), scene.failures());
        assert_eq!(end, End::Delivered, "{life:?} and then again:\n{}\n{failures}", scene.log());
    }
    hit
}

/// From now on, once, at that request.
fn fails_once(scene: &Scene, request: usize, action: Action) {
    let mut number = 0;
    scene.proxy.obey(move |seen, _| {
        number += 1;
        if number - 1 == request { action.fault(seen.call) } else { None }
    });
}

/// The daemon delivers a slot to a customer at whom nobody has looked yet, and is begun anew when it dies.
fn delivers_first(scene: &Scene, number: u32) {
    scene.forgets_customers();
    let mut end = End::Died;
    while end == End::Died {
        end = Driver::Daemon.delivers(scene, "rows", number);
    }
    assert_eq!(end, End::Delivered, "{}\n{}", scene.log(), scene.failures());
}

/// Whose request it is that only tries what a customer allows.
fn is_of_look(sessions: &HashSet<String>, seen: &Seen) -> bool {
    match seen.call {
        Call::AssumeRole => seen.form().get("RoleSessionName").is_some_and(|name| name == PROBE),
        _ => sessions.contains(seen.access_key()),
    }
}

/// Whether the customer was looked at: its role, an upload, and whom else the role lets in.
fn looks(scene: &Scene, from: usize) -> Vec<Call> {
    let history = scene.proxy.history();
    let granted = history.iter().filter(|event| is_of_look(&HashSet::new(), &event.seen));
    let key = |event: &Event| element(std::str::from_utf8(&event.carried_out.as_ref()?.1.body).ok()?, "AccessKeyId");
    let sessions: HashSet<String> = granted.filter_map(key).collect();
    let looks = history[from..].iter().filter(|event| is_of_look(&sessions, &event.seen));
    looks.map(|event| event.seen.call).collect()
}

/// One fault in the look before the first delivery, or where the delivery begins.
#[test]
fn faults_each_alone_before_the_first_delivery() {
    let scene = scene_with(Driver::Daemon, Server::Sandbox, "first");
    scene.has_time(&["consign.toml"]);
    delivers_first(&scene, 0);
    scene.story(0).holds("without a fault");
    let looked = looks(&scene, 0);
    let assume = Call::AssumeRole;
    assert_eq!(looked, [assume, Call::Create, Call::Part, Call::Abort, assume, assume]);
    let calls: Vec<Call> = scene.proxy.history().iter().map(|event| event.seen.call).take(looked.len() + 2).collect();
    assert_eq!(calls, [&looked[..], &[assume, Call::Create]].concat());
    let step = if is_whole() { 1 } else { 5 };
    let lives: Vec<_> = single(&calls).into_iter().step_by(step).zip((2..).step_by(2)).collect();
    let lanes: Vec<Vec<_>> = (0..LANES).map(|lane| lives.iter().skip(lane).step_by(LANES).collect()).collect();
    let (begun, hit) = (Instant::now(), AtomicUsize::new(0));
    in_lanes(LANES, &lanes, |lives| {
        let scene = scene_with(Driver::Daemon, Server::Sandbox, "first");
        for ((request, action), number) in lives {
            let before = scene.proxy.requests();
            let (request, action) = (*request, *action);
            fails_once(&scene, request, action);
            delivers_first(&scene, *number);
            scene.proxy.heal();
            let history = scene.proxy.history();
            hit.fetch_add(usize::from(history[before..].iter().any(|event| event.fault.is_some())), Ordering::Relaxed);
            let looked = looks(&scene, before);
            // The vendor's own session has expired, which says nothing of the customer: it is delivered to, and looked
            // at before the next.
            let says_nothing = request == 0 && matches!(action, Action::Refuse(400, _));
            assert!(says_nothing || looked.len() >= 2, "{action:?} at {request}: it was not looked at: {looked:?}");
            assert_eq!(scene.count("customers WHERE unready_since IS NOT NULL OR failure IS NOT NULL"), 0);
        }
        tidies(&scene, "consign.toml");
        scene.story(0).holds(&format!("looked at first: {lives:?}"));
        assert!(scene.world.run(&["ledger", "check"]).code == 0);
    });
    let hit = hit.into_inner();
    println!("looked at first: {} lives, {hit} hit, {:.0?}", lives.len(), begun.elapsed());
    assert!(hit * 10 >= lives.len() * 9, "{hit} of {} faults came to pass", lives.len());
}

#[test]
fn faults_each_alone_at_each_request_of_rows() {
    sweep(Driver::Send, Server::Sandbox, "rows", 11);
}

/// A file of two parts, and a small one.
#[test]
fn faults_each_alone_at_each_request_of_files() {
    sweep(Driver::Send, Server::Sandbox, "files", 13);
}

#[test]
fn faults_each_alone_at_each_request_of_rows_elsewhere() {
    sweep(Driver::Send, Server::Ministack, "rows", 23);
}

#[test]
fn faults_each_alone_at_each_request_of_files_elsewhere() {
    sweep(Driver::Send, Server::Ministack, "files", 13);
}

/// In the place of the slot before.
#[test]
fn faults_each_alone_at_each_request_of_the_newest() {
    sweep(Driver::Send, Server::Sandbox, "newest", 19);
}

#[test]
fn faults_each_alone_at_each_request_of_the_newest_elsewhere() {
    sweep(Driver::Send, Server::Ministack, "newest", 29);
}

/// The same lives, of the daemon.
#[test]
fn faults_each_alone_at_each_request_of_rows_by_the_daemon() {
    sweep(Driver::Daemon, Server::Sandbox, "rows", 13);
}

#[test]
fn faults_each_alone_at_each_request_of_files_by_the_daemon() {
    sweep(Driver::Daemon, Server::Sandbox, "files", 17);
}

#[test]
fn faults_each_alone_at_each_request_of_the_newest_by_the_daemon() {
    sweep(Driver::Daemon, Server::Sandbox, "newest", 13);
}

#[test]
fn faults_each_alone_at_each_request_of_rows_by_the_daemon_elsewhere() {
    sweep(Driver::Daemon, Server::Ministack, "rows", 13);
}

/// Also while it is made good that somebody has died.
#[test]
fn faults_each_alone_after_a_death() {
    sweep_twice(Server::Sandbox, "rows", 311);
}

#[test]
fn faults_each_alone_after_a_death_elsewhere() {
    sweep_twice(Server::Ministack, "newest", 613);
}
