//! Each single fault at each request of a delivery. The next process makes it good,
//! where that is needed at all.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cli::sweeps::{in_lanes, is_whole};
use crate::support::wire::{Call, Fault};

use super::scene::{Plan, Scene, Server};
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
            Action::Refuse(status, code) => refusal(call, status, code),
            Action::Stall => Fault::Stall,
            Action::Late => Fault::Late(Duration::from_millis(300)),
            // Longer than anybody waits: a second, and three for a completion.
            Action::Delayed => Fault::Delayed(Duration::from_millis(if call == Call::Complete { 3500 } else { 1500 })),
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

/// One delivery and what goes wrong with it.
#[derive(Clone, Copy, Debug)]
struct Life {
    request: usize,
    action: Action,
    /// Days of January 2020 and on, so that each has a slot of its own.
    day: u32,
}

/// ministack takes seconds for a part of 5 MiB: there files are small, and the sandbox alone has those of two parts.
fn scene(server: Server) -> Scene {
    let large = server == Server::Sandbox;
    Scene::new(&Plan { server, rows: TO_ONE, files: TO_ONE, patience: "1s", large, postgres: None })
}

fn slot(day: u32) -> String {
    let first: chrono::NaiveDate = "2020-01-01".parse().unwrap();
    format!("{}T00:00:00Z", first + chrono::Days::new(day.into()))
}

/// A `send` whose requests are counted; None is a death.
fn send(scene: &Scene, share: &str, day: u32) -> Option<i32> {
    scene.run(&["send", share, "--at", &slot(day)]).code()
}

/// Of all lives every `step`-th, unless all are wanted.
fn sweep(server: Server, share: &'static str, step: usize) {
    let first = scene(server);
    assert_eq!(send(&first, share, 0), Some(0), "{}", first.log());
    let calls: Vec<Call> = first.proxy.history().iter().map(|event| event.seen.call).collect();
    first.story(0).holds("without a fault");
    drop(first);

    let all = (0..calls.len()).flat_map(|request| ACTIONS.map(|action| (request, action)));
    let all: Vec<_> = all.filter(|(request, action)| action.fault(calls[*request]).is_some()).collect();
    // Steps that have no divisor in common with the number of actions come by each of them.
    let step = if is_whole() { 1 } else { step };
    let lives: Vec<Life> = (all.iter().step_by(step).zip(1..))
        .map(|((request, action), day)| Life { request: *request, action: *action, day })
        .collect();
    let begun = Instant::now();
    let lanes: Vec<Vec<Life>> =
        (0..LANES).map(|lane| lives.iter().skip(lane).step_by(LANES).copied().collect()).collect();
    let (hit, stumbled) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    in_lanes(LANES, &lanes, |lives| {
        let scene = scene(server);
        for life in lives {
            if live(&scene, share, *life, &stumbled) {
                hit.fetch_add(1, Ordering::Relaxed);
            }
        }
        scene.story(0).holds(&format!("{server:?}, {share}: {lives:?}"));
        assert!(scene.world.run(&["ledger", "check"]).code == 0);
    });
    let (hit, stumbled) = (hit.into_inner(), stumbled.into_inner().unwrap());
    println!(
        "{server:?}, {share}: {} requests, {} lives, {hit} hit, {:.0?}",
        calls.len(),
        lives.len(),
        begun.elapsed()
    );
    assert!(stumbled.is_empty(), "{server:?}, {share}: one fault was too many:\n{}", stumbled.join("\n"));
    assert!(hit * 10 >= lives.len() * 9, "{hit} of {} faults came to pass", lives.len());
}

/// Whether the fault came to pass.
fn live(scene: &Scene, share: &str, life: Life, stumbled: &Mutex<Vec<String>>) -> bool {
    let Life { request, action, day } = life;
    let before = scene.proxy.requests();
    let mut number = 0;
    scene.proxy.obey(move |seen, _| {
        number += 1;
        if number - 1 == request { action.fault(seen.call) } else { None }
    });
    let status = scene.run(&["send", share, "--at", &slot(day)]);
    scene.proxy.heal();
    let history = scene.proxy.history();
    let met = history[before..].iter().find(|event| event.fault.is_some()).map(|event| event.seen.call);
    let Some(call) = met else { return false };
    let told = || format!("{life:?} at {call:?}: {status}");
    match status.code() {
        _ if action.kills() => assert!(status.signal().is_some(), "{}", told()),
        Some(0) => {}
        Some(_) if !action.passes(call) => {}
        _ => stumbled.lock().unwrap().push(told()),
    }
    if status.code() != Some(0) {
        assert_eq!(
            send(scene, share, day),
            Some(0),
            "{} and then again:\n{}\n{}",
            told(),
            scene.log(),
            scene.failures()
        );
    }
    true
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
