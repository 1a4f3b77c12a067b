//! What PostgreSQL's errors mean to the ledger.

use std::sync::Arc;

use postgres::error::{Severity, SqlState};

use super::super::LedgerError;

/// The connection is of no more use.
pub(in super::super) fn is_gone(error: &postgres::Error) -> bool {
    match error.as_db_error() {
        Some(told) => matches!(told.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
        None => error.is_closed() || is_io(error),
    }
}

/// It had no answer, or may have another one later: a restart, a failover, no room.
fn is_away(error: &postgres::Error) -> bool {
    let Some(code) = error.code() else { return error.is_closed() || is_io(error) };
    let classes = ["08", "53", "57", "58"];
    classes.contains(&&code.code()[..2]) || *code == SqlState::READ_ONLY_SQL_TRANSACTION || is_too_long(code)
}

/// The process stood still in the middle of a transaction, or that took longer than
/// the server lets one take (`transaction_timeout`, PostgreSQL 17).
fn is_too_long(code: &SqlState) -> bool {
    *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT || code.code() == "25P04"
}

/// The server's process is not the one that was told a statement, or it was told
/// another one by the same name: the process changes with each transaction.
fn is_pooled(code: &SqlState) -> bool {
    [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT].contains(code)
}

/// Another writer was in the way, and the transaction may be done again.
fn is_conflict(code: &SqlState) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::UNIQUE_VIOLATION,
        SqlState::LOCK_NOT_AVAILABLE,
    ]
    .contains(code)
}

fn is_io(error: &postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<std::io::Error>() {
            return true;
        }
        source = error.source();
    }
    // tokio-postgres has no name for it.
    error.to_string().starts_with("timeout waiting")
}

impl From<postgres::Error> for LedgerError {
    fn from(error: postgres::Error) -> Self {
        if error.code().is_some_and(is_conflict) {
            return LedgerError::Conflict;
        }
        if error.code().is_some_and(is_pooled) {
            return LedgerError::Pooled;
        }
        let away = is_away(&error);
        let source = Arc::new(error);
        if away { LedgerError::Away { source } } else { LedgerError::Database { source } }
    }
}
