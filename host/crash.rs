//! Places where a test can have the process die, as it would of a power cut, or
//! the task, as it would of a fault in consign: around every change of state.
//! `tests/cli/sweeps.rs` walks all of them.

use std::sync::atomic::{AtomicUsize, Ordering};

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
    Committed = "committed",
    RunFinished = "run-finished",
    /// A delivery has failed and is to be tried again.
    Waiting = "waiting",
    /// A delivery has failed for good.
    Failed = "failed",
    /// An attempt is over that an earlier process left, and no other has begun.
    Interrupted = "interrupted",
    /// S3 has aborted an upload, and the ledger does not know.
    AbortAnswered = "abort-answered",
    Aborted = "aborted",
    /// An upload that no profile leads to is given up.
    Abandoned = "abandoned",
    Paused = "paused",
    Resumed = "resumed",
    Backfilled = "backfilled",
    /// What ended long ago is forgotten.
    Pruned = "pruned",
}

/// Ends the process when `CONSIGN_CRASH_AT` names this place, without unwinding
/// or flushing anything; panics when `CONSIGN_PANIC_AT` does. `sealed:3` is the
/// third time only. Compiled into builds with debug assertions only.
#[expect(clippy::panic, reason = "a test asks for it")]
pub(crate) fn point(point: Point) {
    if !cfg!(debug_assertions) {
        return;
    }
    if is_wanted("CONSIGN_CRASH_AT", point) {
        std::process::abort();
    }
    if is_wanted("CONSIGN_PANIC_AT", point) {
        panic!("CONSIGN_PANIC_AT names {}", point.name());
    }
}

fn is_wanted(variable: &str, point: Point) -> bool {
    static PASSED: AtomicUsize = AtomicUsize::new(0);
    let Ok(wanted) = std::env::var(variable) else { return false };
    match wanted.split_once(':') {
        None => wanted == point.name(),
        Some((name, time)) => name == point.name() && time.parse() == Ok(PASSED.fetch_add(1, Ordering::Relaxed) + 1),
    }
}
