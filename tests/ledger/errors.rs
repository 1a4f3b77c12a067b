//! What an error of the ledger means to the delivery that met it, and to the daemon.

use std::collections::HashSet;
use std::io;
use std::mem::discriminant;
use std::sync::Arc;

use consign::domain::{ContentDigest, Layer, Retry};
use consign::ledger::{Holder, LedgerError};

use super::{customers, slot};

/// Each kind of error. A delivery of which one cannot be recorded any more is not lost when it is
/// tried again, and one that fails for good is not tried again.
#[test]
fn each_error_says_whether_it_passes_and_what_to_do() {
    let state_dir = "check the disk and permissions of consign's state directory";
    let database = "check the database of [ledger], and the network to it";
    let report = "report it, with the lines of the log before this one";
    let all = [
        (passing(), Retry::Later, false),
        (ending_and_tried_again(), Retry::Later, true),
        (ending(), Retry::Never, true),
        (of_one_thing(), Retry::Never, false),
    ];
    let mut seen = HashSet::new();
    for (errors, retry, is_fatal) in all {
        for error in errors {
            assert!(seen.insert(discriminant(&error)), "{error:?} is there twice");
            assert_eq!((error.retry(), error.is_fatal()), (retry, is_fatal), "{error:?}");
            let remedy = match &error {
                LedgerError::Full { .. } => "free some room on the disk that holds consign's state directory",
                LedgerError::Away { .. } | LedgerError::Conflict => database,
                LedgerError::Database { .. } | LedgerError::Unsure => database,
                LedgerError::Pooled => "have the pooler in between pool sessions, or name the database itself",
                LedgerError::Newer { .. } => "install the newer consign, and start it",
                LedgerError::Restored { .. } => {
                    "`consign ledger restored`, once every consign on this ledger is stopped"
                }
                LedgerError::Illegal { .. } | LedgerError::StillOpen { .. } => report,
                LedgerError::Unreadable { .. } | LedgerError::Unanswered => report,
                LedgerError::Unknown { .. } => "`consign history` lists what there is",
                LedgerError::Fenced => "nothing: the consign that has the work delivers it",
                _ => state_dir,
            };
            let failure = error.to_failure();
            assert_eq!((failure.layer, failure.retry, &*failure.remedy), (Layer::Ledger, retry, remedy), "{error:?}");
            assert!(failure.message.starts_with(&error.to_string()), "{failure:?}");
        }
    }
    let kinds = include_str!("../../host/ledger/error.rs").matches("#[error(").count();
    assert_eq!(seen.len(), kinds, "each kind has its place here");
}

/// The daemon says so, and waits.
#[test]
fn errors_that_pass_say_what_is_the_matter() {
    let why: Vec<_> = passing().iter().map(LedgerError::passes).collect();
    let silent = Some("the ledger's database does not answer");
    assert_eq!(why, [Some("the disk of the ledger is full"), silent, silent]);
    for error in [ending_and_tried_again(), ending(), of_one_thing()].into_iter().flatten() {
        assert_eq!(error.passes(), None, "{error:?}");
    }
}

fn passing() -> Vec<LedgerError> {
    let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
    vec![
        LedgerError::Full { source: Arc::new(rusqlite::Error::SqliteFailure(full, None)) },
        LedgerError::Away { source: of_postgres() },
        LedgerError::Conflict,
    ]
}

/// Nothing more can be recorded until the daemon has been started again.
fn ending_and_tried_again() -> Vec<LedgerError> {
    vec![
        LedgerError::Storage { source: Arc::new(rusqlite::Error::InvalidQuery) },
        LedgerError::Fenced,
        LedgerError::Unsure,
        LedgerError::Pooled,
        LedgerError::Newer { path: "ledger.db".into(), found: 99, known: 6, kept: None },
        LedgerError::Restored { path: "ledger.db".into() },
    ]
}

/// Nor then, before somebody has mended something.
fn ending() -> Vec<LedgerError> {
    vec![
        LedgerError::Database { source: of_postgres() },
        LedgerError::Damaged { path: "ledger.db".into(), why: "it is empty".into() },
        LedgerError::Stopped,
    ]
}

/// Everything else is recorded as before.
fn of_one_thing() -> Vec<LedgerError> {
    let (path, why) = (|| "ledger.db".into(), || "why".to_owned());
    let (digest, slot) = (ContentDigest::of(b"component"), || Box::new(slot("a", 1)));
    let holder = Holder { slot: *slot(), customer: customers(&["acme"]).remove(0), has_it: true };
    vec![
        LedgerError::Held { dir: "state".into(), holder: "process 1".into() },
        LedgerError::Missing { path: path() },
        LedgerError::Foreign { path: path(), why: why() },
        LedgerError::Older { path: path(), found: 1, known: 6 },
        LedgerError::Unreachable { place: "the database".into(), why: why(), remedy: "mend it".into() },
        LedgerError::Files { action: "open", path: path(), source: Arc::new(io::Error::other("why")) },
        LedgerError::Backup { path: path(), why: why() },
        LedgerError::NotKept { path: path(), why: why() },
        LedgerError::NotRestored { path: path(), why: why() },
        LedgerError::Unreadable { what: "a state", text: "odd".into() },
        LedgerError::Illegal { record: "slot 1".into(), state: "done", event: "skip".into() },
        LedgerError::KeyTaken { key: "in/manifest".into(), by: Box::new(holder) },
        LedgerError::NotYet { behind: slot() },
        LedgerError::Overtaken { by: slot() },
        LedgerError::Quarantined { digest },
        LedgerError::Unknown { record: "run 1".into() },
        LedgerError::StillOpen { run: "1".into(), open: 1 },
        LedgerError::Unanswered,
    ]
}

fn of_postgres() -> Arc<tokio_postgres::Error> {
    Arc::new("nothing=like-it".parse::<tokio_postgres::Config>().unwrap_err())
}
