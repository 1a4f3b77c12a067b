//! When something is due, and for which stretch of data.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Invalid, ShareName};
use crate::clock::{Instant, ahead_from, exact};

/// Half-open stretch of time `[start, end)` that a slot's data covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interval {
    pub start: Instant,
    pub end: Instant,
}

impl Interval {
    /// Begins at `last`, a slot that is on record, if that is within: what it covered is not covered twice.
    pub fn after(self, last: Option<Instant>) -> Self {
        let start = last.filter(|last| self.start < *last && *last < self.end);
        Self { start: start.unwrap_or(self.start), ..self }
    }
}

/// One scheduled firing of a share. `at` equals `interval.end` for scheduled slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slot {
    pub share: ShareName,
    pub at: Instant,
    pub interval: Interval,
}

impl Slot {
    /// It was planned by a clock that was ahead: its data are complete only when its time has come.
    pub fn is_early(&self, now: Instant) -> bool {
        self.at > ahead_from(now)
    }
}

/// Who asked for a slot's work, or for one run of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The schedule, on time.
    Schedule,
    /// The schedule, after the slot was missed.
    CatchUp,
    /// A person, for a range of the past.
    Backfill,
    /// A person, at once.
    Manual,
}

impl Origin {
    pub const ALL: [Origin; 4] = [Origin::Schedule, Origin::CatchUp, Origin::Backfill, Origin::Manual];

    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Schedule => "schedule",
            Origin::CatchUp => "catch-up",
            Origin::Backfill => "backfill",
            Origin::Manual => "manual",
        }
    }

    /// Waits behind what is on time.
    pub fn is_late(self) -> bool {
        matches!(self, Origin::CatchUp | Origin::Backfill)
    }
}

/// Why a slot was not run. Written to the ledger by its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// Missed while consign was down, and not caught up.
    Missed,
    /// Missed while consign was down, longer ago than slots are caught up.
    TooOld,
    /// An earlier slot of the share was still at work, or a later one took its place.
    Overlap,
    /// The share's deadline passed before the work began.
    Deadline,
    /// The share was paused.
    Paused,
    /// The share's plugin was in quarantine until the deadline passed.
    Quarantine,
    /// The ledger was restored from a backup: whether it was delivered since then is not known.
    Restored,
}

impl SkipReason {
    pub const ALL: [SkipReason; 7] = [
        SkipReason::Missed,
        SkipReason::TooOld,
        SkipReason::Overlap,
        SkipReason::Deadline,
        SkipReason::Paused,
        SkipReason::Quarantine,
        SkipReason::Restored,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            SkipReason::Missed => "missed while down",
            SkipReason::TooOld => "missed while down, too old to catch up",
            SkipReason::Overlap => "another slot of the share was at work",
            SkipReason::Deadline => "its deadline passed before it began",
            SkipReason::Paused => "the share was paused",
            SkipReason::Quarantine => "its deadline passed while its plugin was in quarantine",
            SkipReason::Restored => "not known since the ledger was restored",
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.share, exact(self.at))
    }
}

/// Identity of a run: a version 7 UUID, so that runs sort by when they began.
/// It is also the STS session name that the customer sees in CloudTrail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(Uuid);

impl RunId {
    pub fn new(now: Instant) -> Self {
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        let stamp = uuid::Timestamp::from_unix(uuid::NoContext, seconds, now.timestamp_subsec_nanos());
        Self(Uuid::new_v7(stamp))
    }

    /// When the run began, as its id has it.
    pub fn began(self) -> Option<Instant> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        Instant::from_timestamp(i64::try_from(seconds).ok()?, nanos)
    }

    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Uuid::try_parse(text).map(Self).map_err(|_| Invalid::new("is not a run id; `consign history` lists them"))
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl TryFrom<String> for RunId {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<RunId> for String {
    fn from(run: RunId) -> String {
        run.to_string()
    }
}
