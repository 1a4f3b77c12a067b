//! Random commands, legal and not, against a model of a few maps, while time goes
//! by and processes end, die in the middle of a command, or are taken for dead. The
//! model knows nothing of `state.rs`.

mod crash;
mod seen;
mod slots;
mod state;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use consign::clock::{Clock, Instant};
use consign::config::Overlap;
use consign::domain::{Origin, RunId};
use consign::ledger::{AttemptId, AttemptState, DeliveryId, DeliveryState, Ledger, RunState, UploadState};
use proptest::prelude::*;
use proptest::sample::Index;

use super::{customers, long_ago, open_at};

const NAMES: [&str; 3] = ["acme", "globex", "initech"];
const SHARES: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
enum Op {
    Plan {
        share: usize,
        hours: Vec<i64>,
        who: u8,
        kind: Kind,
        cursor: i64,
    },
    Claim(usize, usize),
    Send {
        share: usize,
        hour: i64,
        who: u8,
    },
    Backfill {
        share: usize,
        hours: Vec<i64>,
        who: u8,
    },
    Pause(usize),
    Resume(usize),
    ReleaseHeld,
    Start(Index),
    Upload(Index),
    Abort(Index),
    Abandon(Index),
    Draft(Index),
    Seal(Index),
    Commit(Index),
    Fail(Index, bool),
    Interrupt(Index),
    Finish(Index),
    /// Nobody in particular is everybody.
    Cancel(Index, u8),
    GiveUp(Index, u8),
    /// What ended before that hour.
    Prune(i64),
    Rewind,
    /// So many hours go by, or the clock is put back.
    Clock(i64),
    /// The process ends, and another one begins.
    Restart,
    /// It dies so many microseconds after it was asked for that.
    Crash(Box<Op>, u64),
    /// It is taken for dead, and speaks on.
    Takeover,
}

/// How slots are planned.
#[derive(Clone, Copy, Debug)]
struct Kind {
    skip: bool,
    late: bool,
    overlap: Overlap,
    /// Hours after the slot.
    deadline: Option<i64>,
}

fn kind() -> impl Strategy<Value = Kind> {
    let overlap = (0..Overlap::ALL.len()).prop_map(|n| Overlap::ALL[n]);
    let deadline = prop::option::weighted(0.2, 0..4i64);
    (prop::bool::weighted(0.1), prop::bool::weighted(0.3), overlap, deadline)
        .prop_map(|(skip, late, overlap, deadline)| Kind { skip, late, overlap, deadline })
}

/// What one process is asked for.
fn command() -> impl Strategy<Value = Op> {
    let pick = any::<Index>;
    let hours = || proptest::collection::vec(0..6i64, 1..4);
    prop_oneof![
        6 => (0..2usize, hours(), 1..8u8, kind(), 0..9i64)
            .prop_map(|(share, hours, who, kind, cursor)| Op::Plan { share, hours, who, kind, cursor }),
        8 => (0..4usize, 0..3usize).prop_map(|(on_time, late)| Op::Claim(on_time, late)),
        4 => (0..2usize, 0..6i64, 1..8u8).prop_map(|(share, hour, who)| Op::Send { share, hour, who }),
        2 => (0..2usize, hours(), 1..8u8).prop_map(|(share, hours, who)| Op::Backfill { share, hours, who }),
        2 => (0..2usize).prop_map(Op::Pause),
        2 => (0..2usize).prop_map(Op::Resume),
        2 => Just(Op::ReleaseHeld),
        12 => pick().prop_map(Op::Start),
        6 => pick().prop_map(Op::Upload),
        2 => pick().prop_map(Op::Abort),
        1 => pick().prop_map(Op::Abandon),
        2 => pick().prop_map(Op::Draft),
        10 => pick().prop_map(Op::Seal),
        10 => pick().prop_map(Op::Commit),
        4 => (pick(), any::<bool>()).prop_map(|(at, passing)| Op::Fail(at, passing)),
        2 => pick().prop_map(Op::Interrupt),
        5 => pick().prop_map(Op::Finish),
        2 => (pick(), 0..8u8).prop_map(|(at, who)| Op::Cancel(at, who)),
        2 => (pick(), 0..8u8).prop_map(|(at, who)| Op::GiveUp(at, who)),
        2 => (0..10i64).prop_map(Op::Prune),
        1 => Just(Op::Rewind),
        2 => (-2..4i64).prop_map(Op::Clock),
    ]
}

/// After that, most commands are answered.
const MICROS_MAX: u64 = 500;

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        44 => command(),
        1 => Just(Op::Restart),
        2 => (command(), 0..MICROS_MAX).prop_map(|(command, micros)| Op::Crash(Box::new(command), micros)),
        1 => Just(Op::Takeover),
    ]
}

type SlotKey = (usize, i64);

#[derive(Clone, Copy, Debug, PartialEq)]
enum SlotIs {
    Pending,
    Held,
    Running,
    Done,
    Skipped,
}

#[derive(Clone)]
struct SlotModel {
    is: SlotIs,
    /// How many were recorded before it, and when it was.
    recorded: usize,
    planned: i64,
    origin: Origin,
    overlap: Overlap,
    deadline: Option<i64>,
    who: BTreeSet<&'static str>,
}

#[derive(Clone)]
struct RunModel {
    /// None until the ledger was asked for it.
    id: Option<RunId>,
    slot: SlotKey,
    origin: Origin,
    is: RunState,
    finished: Option<i64>,
    deliveries: Vec<usize>,
    /// Forgotten, with its deliveries and their attempts.
    gone: bool,
}

#[derive(Clone)]
struct DeliveryModel {
    id: Option<DeliveryId>,
    run: usize,
    slot: SlotKey,
    customer: &'static str,
    is: DeliveryState,
    tries: u32,
    /// Waits, or is sealed and to be completed later.
    due: Option<i64>,
    cancelled: bool,
    left_out: bool,
    attempts: Vec<usize>,
    gone: bool,
}

#[derive(Clone)]
struct AttemptModel {
    id: AttemptId,
    delivery: usize,
    is: AttemptState,
    drafted: bool,
    uploads: BTreeMap<String, UploadState>,
}

#[derive(Clone)]
struct PauseModel {
    share: usize,
    since: i64,
    until: Option<i64>,
}

/// Of the slots some have come, and some not.
const BEGIN: i64 = 3;

#[derive(Clone, Default)]
struct Model {
    /// Hours since the start.
    now: i64,
    slots: BTreeMap<SlotKey, SlotModel>,
    /// Slots that were ever recorded.
    recorded: usize,
    cursors: BTreeMap<usize, i64>,
    pauses: Vec<PauseModel>,
    runs: Vec<RunModel>,
    deliveries: Vec<DeliveryModel>,
    attempts: Vec<AttemptModel>,
}

fn names(who: u8) -> BTreeSet<&'static str> {
    (0..3).filter(|bit| who >> bit & 1 == 1).map(|bit| NAMES[bit]).collect()
}

fn list(names: &BTreeSet<&'static str>) -> Vec<consign::domain::CustomerName> {
    customers(&names.iter().copied().collect::<Vec<_>>())
}

fn at(hour: i64) -> Instant {
    long_ago() + chrono::TimeDelta::hours(hour)
}

/// The ledger that the model is of.
struct Real {
    dir: tempfile::TempDir,
    clock: Clock,
    ledger: Ledger,
}

impl Real {
    fn new() -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(at(BEGIN)));
        let ledger = open_at(dir.path(), clock.clone());
        Self { dir, clock, ledger }
    }

    async fn go(self, model: &mut Model, op: &Op) -> Self {
        match op {
            Op::Restart => {
                let Self { dir, clock, ledger } = self;
                drop(ledger);
                let ledger = open_at(dir.path(), clock.clone());
                seen::compare(&ledger, model).await;
                Self { dir, clock, ledger }
            }
            Op::Crash(op, micros) => self.crash(model, op, *micros).await,
            Op::Takeover => self.taken_over(model).await,
            op => {
                steps::step(&self, model, op).await;
                self
            }
        }
    }
}

/// Fewer, where each command asks a server.
fn cases() -> u32 {
    if super::ON_POSTGRES.get() { 16 } else { 64 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_commands_agree_with_the_model(ops in proptest::collection::vec(op(), 30..90)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut real, mut model) = (Real::new(), Model { now: BEGIN, ..Model::default() });
            for op in &ops {
                real = real.go(&mut model, op).await;
            }
            seen::compare(&real.ledger, &model).await;
        });
    }
}

on_postgres! { random_commands_agree_with_the_model }
