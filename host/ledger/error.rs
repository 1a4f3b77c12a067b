//! What can go wrong with the ledger.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

use crate::domain::{Blame, ContentDigest, CustomerName, Failure, Layer, Refused, Retry, Slot};

#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger in {dir} is held by {holder}; stop that consign first, or use another state directory", dir = .dir.display())]
    Held { dir: PathBuf, holder: String },
    #[error("there is no ledger at {path}; `consign run` and `consign send` make one", path = .path.display())]
    Missing { path: PathBuf },
    #[error("{path} is not a consign ledger ({why}); move it away or name another state directory", path = .path.display())]
    Foreign { path: PathBuf, why: String },
    #[error("the ledger {path} has version {found} and this consign knows up to {known}; install the newer consign again{or}", path = .path.display(), or = or_go_back(.kept.as_deref()))]
    Newer { path: PathBuf, found: i64, known: i64, kept: Option<PathBuf> },
    #[error("the ledger {path} has version {found} and is read from version {known} on; `consign run` and `consign send` bring it there", path = .path.display())]
    Older { path: PathBuf, found: i64, known: i64 },
    #[error("the ledger {path} is damaged ({why}); restore it from a backup, or move it away to begin anew", path = .path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("the ledger {path} was restored from a copy, and knows nothing of what was delivered since that was made; `consign ledger restored` sees to that, and nothing is delivered before", path = .path.display())]
    Restored { path: PathBuf },
    #[error("cannot keep the ledger as {path} before it is brought up to date ({why}); nothing was changed: make room for as much as the ledger has", path = .path.display())]
    NotKept { path: PathBuf, why: String },
    #[error("cannot restore {path} ({why}); nothing was changed", path = .path.display())]
    NotRestored { path: PathBuf, why: String },
    #[error("the disk of the ledger is full; free some room, and work goes on by itself")]
    Full {
        #[source]
        source: Arc<rusqlite::Error>,
    },
    #[error("cannot open the ledger at {place}: {why}; {remedy}")]
    Unreachable { place: String, why: String, remedy: String },
    #[error("the ledger's database does not answer; work goes on by itself when it does")]
    Away {
        #[source]
        source: Arc<postgres::Error>,
    },
    #[error("the ledger's database refuses; see its log")]
    Database {
        #[source]
        source: Arc<postgres::Error>,
    },
    #[error(
        "between consign and the ledger's database is a pooler that shares out transactions; have it pool sessions, or name the database itself in `url` of [ledger]"
    )]
    Pooled,
    #[error("another consign was in the way in the ledger's database, again and again")]
    Conflict,
    #[error("the lease on this consign's work ran out, and another one has it; start it again")]
    Fenced,
    #[error(
        "the ledger's database was lost at the end of a transaction, so it is unknown whether that counts; start consign again"
    )]
    Unsure,
    #[error("cannot read or write the ledger; check its disk and permissions")]
    Storage {
        #[source]
        source: Arc<rusqlite::Error>,
    },
    #[error("cannot {action} {path}; check the permissions of the state directory", path = .path.display())]
    Files {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: Arc<std::io::Error>,
    },
    #[error("cannot write the backup {path} ({why}); name a file that is not there yet, in a folder with room", path = .path.display())]
    Backup { path: PathBuf, why: String },
    #[error("the ledger holds {what} '{text}', which this consign cannot read; restore a backup or report it")]
    Unreadable { what: &'static str, text: String },
    #[error("{record} is {state}, so '{event}' cannot happen; this is a fault in consign, please report it")]
    Illegal { record: String, state: &'static str, event: String },
    #[error("'{key}' belongs to slot {}; give the share a `key` that tells its slots apart", by.slot)]
    KeyTaken { key: String, by: Box<Holder> },
    #[error("slot {behind} of the share is on its way to the same customer, and one goes at a time")]
    NotYet { behind: Box<Slot> },
    #[error("the customer has got slot {by} already, which is later, and would get an earlier one in its place")]
    Overtaken { by: Box<Slot> },
    #[error("the component {digest} is in quarantine; `consign plugin release` lets it go")]
    Quarantined { digest: ContentDigest },
    #[error("the ledger has no {record}; `consign history` lists what it has")]
    Unknown { record: String },
    #[error("run {run} still has {open} deliveries at work; this is a fault in consign, please report it")]
    StillOpen { run: String, open: u64 },
    #[error("the ledger did not answer one question; this is a fault in consign, please report it")]
    Unanswered,
    #[error("the ledger has stopped; restart consign")]
    Stopped,
}

/// Whose manifest is, or is about to be, at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub slot: Slot,
    pub customer: CustomerName,
    /// It is there.
    pub has_it: bool,
}

/// To what was kept before it became newer.
fn or_go_back(kept: Option<&Path>) -> String {
    let to = |kept: &Path| format!(", or go back with `consign ledger restore {}`", kept.display());
    kept.map(to).unwrap_or_default()
}

impl LedgerError {
    /// Whether nothing can be recorded any more, as opposed to this one thing.
    pub fn is_fatal(&self) -> bool {
        use LedgerError::{Damaged, Database, Fenced, Newer, Pooled, Restored, Stopped, Storage, Unsure};
        let of_the_database =
            matches!(self, Database { .. } | Newer { .. } | Restored { .. } | Pooled | Fenced | Unsure);
        of_the_database || matches!(self, Storage { .. } | Damaged { .. } | Stopped)
    }

    /// What is the matter, if it passes without anybody restarting consign.
    pub fn passes(&self) -> Option<&'static str> {
        match self {
            LedgerError::Full { .. } => Some("the disk of the ledger is full"),
            LedgerError::Away { .. } | LedgerError::Conflict => Some("the ledger's database does not answer"),
            _ => None,
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            error if error.passes().is_some() => Retry::Later,
            LedgerError::Storage { .. } | LedgerError::Fenced | LedgerError::Unsure => Retry::Later,
            LedgerError::Pooled | LedgerError::Newer { .. } | LedgerError::Restored { .. } => Retry::Later,
            _ => Retry::Never,
        }
    }

    /// As a delivery's failure.
    pub fn to_failure(&self) -> Failure {
        let remedy = match self {
            LedgerError::Away { .. } | LedgerError::Database { .. } | LedgerError::Conflict | LedgerError::Unsure => {
                "check the database of [ledger], and the network to it"
            }
            LedgerError::Pooled => "have the pooler in between pool sessions, or name the database itself",
            LedgerError::Newer { .. } => "install the newer consign, and start it",
            LedgerError::Restored { .. } => "`consign ledger restored`, once every consign on this ledger is stopped",
            LedgerError::Fenced => "nothing: the consign that has the work delivers it",
            LedgerError::Illegal { .. }
            | LedgerError::StillOpen { .. }
            | LedgerError::Unreadable { .. }
            | LedgerError::Unanswered => "report it, with the lines of the log before this one",
            LedgerError::Unknown { .. } => "`consign history` lists what there is",
            LedgerError::Full { .. } => "free some room on the disk that holds consign's state directory",
            _ => "check the disk and permissions of consign's state directory",
        };
        Failure::new(Layer::Ledger, self.retry(), Failure::chain(self), remedy)
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        // The second one: there is no room for the file by which the writer and readers know of each other.
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull)
            || error.sqlite_extended_error_code() == Some(SQLITE_IOERR_SHMSIZE);
        let source = Arc::new(error);
        if full { LedgerError::Full { source } } else { LedgerError::Storage { source } }
    }
}

impl From<LedgerError> for Refused {
    fn from(error: LedgerError) -> Self {
        let blame = if matches!(error, LedgerError::Unknown { .. }) { Blame::Request } else { Blame::Ledger };
        Self::new(blame, Failure::chain(&error), "")
    }
}
