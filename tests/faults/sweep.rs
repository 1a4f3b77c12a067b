//! Each single fault at each request of a delivery. The next process makes it good,
//! where that is needed at all.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cli::sweeps::{in_lanes, is_whole};
use crate::cli::world::{SOON, until};
use crate::support::promises::PROBE;
use crate::support::wire::{Call, Event, Fault, Seen, element};

use super::scene::{Plan, Scene, Server};
use super::seeds::{Daemons, tidies};
use super::storm::refusal;

/// Scenes at the same time: each waits for the SDK's backoff most of the time.
const LANES: usize = 3;

const TO_ONE: &str = "schedule = \"@daily\"\nto = { customers = [\"acme\"] }";

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
    /// Days of January 2020 and on, so that each has a slot of its own. Every other has as many objects.
    day: u32,
}

/// ministack takes seconds for a part of 5 MiB: there files are small, and the sandbox alone has those of two parts.
fn scene(server: Server) -> Scene {
    scene_with(server, "never")
}

fn scene_with(server: Server, preflight: &'static str) -> Scene {
    let large = server == Server::Sandbox;
    let [rows, files, newest] = [(); 3].map(|()| TO_ONE.to_owned());
    let patience = ["2s", "20s"];
    Scene::new(&Plan { server, rows, files, newest, patience, large, preflight, postgres: None })
}

fn slot(day: u32) -> String {
    let first: chrono::NaiveDate = "2020-01-01".parse().unwrap();
    format!("{}T00:00:00Z", first + chrono::Days::new(day.into()))
}

/// A `send` whose requests are counted; None is a death.
fn send(scene: &Scene, share: &str, day: u32) -> Option<i32> {
    scene.run(&["send", share, "--at", &slot(day)]).code()
}

/// One fault for each life. Of all lives every `step`-th, unless all are wanted, and whoever dies when
/// something has just become visible.
fn sweep(server: Server, share: &'static str, step: usize) {
    let calls = calls(server, share);
    // Steps that have no divisor in common with the number of actions come by each of them.
    let step = if is_whole() { 1 } else { step };
    let is_wanted = |(number, (request, action)): &(usize, (usize, Action))| {
        number % step == 0 || *action == Action::KillAfter && calls[*request] == Call::Complete
    };
    let lives = single(&calls).into_iter().enumerate().filter(is_wanted).map(|(_, fault)| vec![fault]);
    live_all(server, share, calls.len(), lives.collect());
}

/// A death for each life, and a fault while it is made good. As many as there can be are too many.
fn sweep_twice(server: Server, share: &'static str, step: usize) {
    let calls = calls(server, share);
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
    live_all(server, share, calls.len(), lives);
}

/// With which pair the sweep begins: `CONSIGN_SWEEP_FROM=7` takes those between the usual ones.
fn first_of_pairs() -> usize {
    std::env::var("CONSIGN_SWEEP_FROM").map_or(0, |from| from.parse().expect("a number"))
}

/// The requests of a delivery.
fn calls(server: Server, share: &str) -> Vec<Call> {
    let scene = scene(server);
    assert_eq!(send(&scene, share, 0), Some(0), "{}", scene.log());
    scene.story(0).holds("without a fault");
    scene.proxy.history().iter().map(|event| event.seen.call).collect()
}

fn single(calls: &[Call]) -> Vec<(usize, Action)> {
    let all = (0..calls.len()).flat_map(|request| ACTIONS.map(|action| (request, action)));
    all.filter(|(request, action)| action.fault(calls[*request]).is_some()).collect()
}

fn live_all(server: Server, share: &str, requests: usize, lives: Vec<Vec<(usize, Action)>>) {
    let lives: Vec<Life> = lives.into_iter().zip((2..).step_by(2)).map(|(faults, day)| Life { faults, day }).collect();
    let begun = Instant::now();
    let lanes: Vec<Vec<Life>> =
        (0..LANES).map(|lane| lives.iter().skip(lane).step_by(LANES).cloned().collect()).collect();
    let (hit, stumbled) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    in_lanes(LANES, &lanes, |lives| {
        let scene = scene(server);
        for life in lives {
            hit.fetch_add(live(&scene, share, life, &stumbled), Ordering::Relaxed);
        }
        // What leads to the newest slot stays, and so does what has the place of an earlier one.
        let earlier = send(&scene, share, 1);
        assert_eq!(earlier, Some(i32::from(share == "newest")), "{}\n{}", scene.log(), scene.failures());
        if scene.count("uploads WHERE state = 'created'") > 0 {
            tidies(&scene, "consign.toml");
        }
        scene.story(0).holds(&format!("{server:?}, {share}: {lives:?}"));
        assert!(scene.world.run(&["ledger", "check"]).code == 0);
    });
    let (hit, stumbled) = (hit.into_inner(), stumbled.into_inner().unwrap());
    println!("{server:?}, {share}: {requests} requests, {} lives, {hit} hit, {:.0?}", lives.len(), begun.elapsed());
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
fn live(scene: &Scene, share: &str, life: &Life, stumbled: &Mutex<Vec<String>>) -> usize {
    let Life { faults, day } = life;
    let (mut hit, mut is_done) = (0, false);
    for (request, action) in faults.iter().copied() {
        let before = scene.proxy.requests();
        let mut number = 0;
        scene.proxy.obey(move |seen, _| {
            number += 1;
            if number - 1 == request { action.fault(seen.call) } else { None }
        });
        let status = scene.run(&["send", share, "--at", &slot(*day)]);
        scene.proxy.heal();
        is_done = status.code() == Some(0);
        let history = scene.proxy.history();
        let met = history[before..].iter().find(|event| event.fault.is_some()).map(|event| event.seen.call);
        let Some(call) = met else { continue };
        hit += 1;
        let told = || format!("{life:?}: {action:?} at {call:?}: {status}");
        match status.code() {
            _ if action.kills() => assert!(status.signal().is_some(), "{}", told()),
            Some(0) => {}
            Some(_) if !action.passes(call) => {}
            _ => stumbled.lock().unwrap().push(told()),
        }
    }
    if !is_done {
        forgets_what_completed(scene);
        let (sent, failures) = (send(scene, share, *day), scene.failures());
        assert_eq!(sent, Some(0), "{life:?} and then again:\n{}\n{failures}", scene.log());
    }
    hit
}

/// The daemon delivers a slot to a customer at whom nobody has looked yet. It is begun anew when it dies, and reads its
/// configuration again when the customer seems not to be ready, which has it looked at without a pause.
fn delivers_first(scene: &Scene, day: u32) {
    scene.forgets_customers();
    let at = slot(day);
    let (planned, committed) = (scene.run(&["backfill", "rows", "--from", &at, "--to", &at]), committed(scene));
    assert_eq!(planned.code(), Some(0), "{}", scene.log());
    let mut daemon = Daemons::start(scene, &["consign.toml"]);
    until("the slot is delivered", SOON, || {
        daemon.tend();
        if scene.count("customers WHERE unready_since IS NOT NULL") > 0 {
            scene.run(&["reload"]);
        }
        self::committed(scene) > committed
    });
    scene.settles();
    daemon.stop();
}

fn committed(scene: &Scene) -> u64 {
    scene.count("deliveries WHERE state = 'committed'")
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
    let scene = scene_with(Server::Sandbox, "first");
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
        let scene = scene_with(Server::Sandbox, "first");
        for ((request, action), day) in lives {
            let (before, mut number) = (scene.proxy.requests(), 0);
            let (request, action) = (*request, *action);
            scene.proxy.obey(move |seen, _| {
                number += 1;
                if number - 1 == request { action.fault(seen.call) } else { None }
            });
            delivers_first(&scene, *day);
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
    sweep(Server::Sandbox, "rows", 11);
}

/// A file of two parts, and a small one.
#[test]
fn faults_each_alone_at_each_request_of_files() {
    sweep(Server::Sandbox, "files", 13);
}

#[test]
fn faults_each_alone_at_each_request_of_rows_elsewhere() {
    sweep(Server::Ministack, "rows", 23);
}

#[test]
fn faults_each_alone_at_each_request_of_files_elsewhere() {
    sweep(Server::Ministack, "files", 13);
}

/// In the place of the slot before.
#[test]
fn faults_each_alone_at_each_request_of_the_newest() {
    sweep(Server::Sandbox, "newest", 19);
}

#[test]
fn faults_each_alone_at_each_request_of_the_newest_elsewhere() {
    sweep(Server::Ministack, "newest", 29);
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
