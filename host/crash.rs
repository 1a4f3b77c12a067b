//! Places where a test can have the process die, as it would of a power cut, stand
//! still, as it would on a machine that is suspended, or the task die, as it would
//! of a fault in consign: around every change of state. `tests/cli/sweeps/points.rs`
//! walks all of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point { $($(#[$doc])* $point,)+ }

        impl Point {
            pub const ALL: &[Point] = &[$(Point::$point,)+];

            /// What `CONSIGN_CRASH_AT` says.
            pub fn name(self) -> &'static str {
                match self { $(Point::$point => $name,)+ }
            }
        }
    };
}

points! {
    /// The daemon may begin again what an earlier process held.
    Released = "released",
    /// Slots and cursors are in the ledger.
    Planned = "planned",
    /// A run is in the ledger, and none of its deliveries has begun.
    Claimed = "claimed",
    /// Slots were looked at, and none began: they are held, or left out.
    Held = "held",
    /// It is in the ledger who of a slot's customers does not get it.
    LeftOut = "left-out",
    /// Deliveries are marked to be ended, and whoever has them at work does not know.
    Marked = "marked",
    /// A run that was asked for is in the ledger, and the daemon's loop does not know.
    Begun = "begun",
    /// What another consign left is this one's.
    TakenOver = "taken-over",
    /// An attempt is in the ledger, and it has asked for nothing.
    Started = "started",
    /// S3 has created an upload, and the ledger does not know.
    UploadAnswered = "upload-answered",
    UploadCreated = "upload-created",
    /// Every part is stored, and the ledger has what the manifest is to say.
    Drafted = "drafted",
    Sealed = "sealed",
    /// An object can be seen, others perhaps not.
    ObjectCompleted = "object-completed",
    /// All objects can be seen, the manifest cannot.
    Completed = "completed",
    /// The manifest is in the bucket, and the ledger does not know.
    Manifest = "manifest",
    /// What comes after the manifest can be seen, or a part of it.
    MarkerCompleted = "marker-completed",
    Committed = "committed",
    RunFinished = "run-finished",
    /// A delivery has failed and is to be tried again.
    Waiting = "waiting",
    /// A delivery waits for its customer to be ready, and the daemon does not know.
    HeldBack = "held-back",
    /// A customer is ready, and what waits does not know.
    Ready = "ready",
    /// A delivery has failed for good.
    Failed = "failed",
    /// A delivery has ended by its plugin's fault, which is in quarantine, and the daemon does not know.
    Quarantined = "quarantined",
    /// Somebody has let a plugin go, and the daemon does not know.
    LetGo = "let-go",
    /// An attempt is over that an earlier process left, and no other has begun.
    Interrupted = "interrupted",
    /// An upload is of no more use, and S3 has it still.
    Aborting = "aborting",
    /// S3 has aborted an upload, and the ledger does not know.
    AbortAnswered = "abort-answered",
    Aborted = "aborted",
    /// An upload that no profile leads to is given up.
    Abandoned = "abandoned",
    Paused = "paused",
    Resumed = "resumed",
    Backfilled = "backfilled",
    /// Deliveries that nobody has at work were ended by a command.
    GivenUp = "given-up",
    /// Slots ahead of the clock are forgotten, and their shares' cursors are still there.
    ForgottenAhead = "forgotten-ahead",
    /// Cursors were put back, and the planner does not know.
    Rewound = "rewound",
    /// Somebody has settled a delivery in doubt, and what waits for it does not know.
    Settled = "settled",
    /// Another configuration is the daemon's.
    Adopted = "adopted",
    /// What ended long ago is forgotten.
    Pruned = "pruned",
}

/// Ends the process when `CONSIGN_CRASH_AT` names this place, without unwinding
/// or flushing anything; stops it as SIGSTOP does when `CONSIGN_STOP_AT` does; panics
/// when `CONSIGN_PANIC_AT` does. `sealed:3` is the third time only, and
/// `sealed,committed:2` is either. Compiled into builds with debug assertions only.
#[expect(clippy::panic, reason = "a test asks for it")]
pub(crate) fn point(point: Point) {
    static PASSED: [AtomicUsize; Point::ALL.len()] = [const { AtomicUsize::new(0) }; Point::ALL.len()];
    if !cfg!(debug_assertions) {
        return;
    }
    let time = 1 + PASSED[point as usize].fetch_add(1, Ordering::Relaxed);
    let is_wanted = |variable| std::env::var(variable).is_ok_and(|wanted| names(&wanted, point, time));
    if is_wanted("CONSIGN_CRASH_AT") {
        std::process::abort();
    }
    if is_wanted("CONSIGN_STOP_AT") && kill_process(getpid(), Signal::STOP).is_ok() {
        // The signal may reach another thread first: this one goes no further until it is over.
        std::thread::sleep(Duration::from_millis(100));
    }
    if is_wanted("CONSIGN_PANIC_AT") {
        panic!("CONSIGN_PANIC_AT names {}", point.name());
    }
}

fn names(wanted: &str, point: Point, time: usize) -> bool {
    wanted.split(',').any(|one| match one.split_once(':') {
        None => one == point.name(),
        Some((name, of)) => name == point.name() && of.parse() == Ok(time),
    })
}
