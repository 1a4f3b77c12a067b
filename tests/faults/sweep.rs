//! Each single fault at each request of a delivery. The next process makes it good,
//! where that is needed at all.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cli::sweeps::{in_lanes, is_whole};
use crate::support::wire::{Call, Fault};

use super::scene::{Plan, Scene, Server};
use super::seeds::tidies;
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
    let large = server == Server::Sandbox;
    let [rows, files, newest] = [(); 3].map(|()| TO_ONE.to_owned());
    Scene::new(&Plan { server, rows, files, newest, patience: ["2s", "20s"], large, postgres: None })
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
    let mut lives: Vec<_> = deaths.flat_map(|death| thens().map(|then| vec![*death, *then])).step_by(step).collect();
    // The manifest is there, nobody knows, and everything is refused that could tell.
    let put = (1..calls.len()).rfind(|number| calls[number - 1..=*number] == [Call::Part, Call::Complete]).unwrap();
    let refused = Action::Refuse(403, "AccessDenied");
    lives.extend((0..8).map(|request| vec![(put, Action::KillAfter), (request, refused)]));
    live_all(server, share, calls.len(), lives);
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
