//! How far shares are planned.

use super::db::{Db, Row, values};
use super::reader::Reader;
use super::row::{at, maybe_at, share};
use super::{Ledger, LedgerError};
use crate::clock::Instant;
use crate::domain::ShareName;

/// How far a share is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// What is not later is not planned any more.
    pub at: Instant,
    /// The last slot on record up to there, where the next interval begins. None for a share that has had none.
    pub last: Option<Instant>,
}

impl Ledger {
    /// The last instant planned for a share; None for one that was never planned.
    pub async fn cursor(&self, share: &ShareName) -> Result<Option<Instant>, LedgerError> {
        let share = share.clone();
        self.own.read(move |ledger| cursor(ledger, &share)).await
    }

    /// All cursors, in order of the shares' names.
    pub async fn cursors(&self) -> Result<Vec<(ShareName, Cursor)>, LedgerError> {
        self.own.read(cursors).await
    }
}

impl Reader {
    /// The last slot of a share on record, without those that the schedule is yet to plan. A share that no schedule has
    /// planned begins with the first daemon, and goes on where that finds it.
    pub async fn last_planned(&self, share: ShareName) -> Result<Option<Instant>, LedgerError> {
        self.read(move |ledger| last_planned(ledger, &share)).await
    }
}

pub(super) fn cursor(ledger: &Db, share: &ShareName) -> Result<Option<Instant>, LedgerError> {
    ledger.first("SELECT cursor FROM shares WHERE name = ?1", values![share.as_str()], |row| at(row, "cursor"))
}

fn cursors(ledger: &Db) -> Result<Vec<(ShareName, Cursor)>, LedgerError> {
    let select = "SELECT name AS share, cursor, (SELECT max(at) FROM slots WHERE share = name AND at <= cursor) AS last
                  FROM shares ORDER BY name";
    let cursor = |row: &Row<'_>| Ok((share(row)?, Cursor { at: at(row, "cursor")?, last: maybe_at(row, "last")? }));
    ledger.all(select, &[], cursor)
}

fn last_planned(ledger: &Db, share: &ShareName) -> Result<Option<Instant>, LedgerError> {
    let select = "SELECT max(at) AS last FROM slots
                  WHERE share = ?1 AND at <= coalesce((SELECT cursor FROM shares WHERE name = ?1), at)";
    Ok(ledger.first(select, values![share.as_str()], |row| maybe_at(row, "last"))?.flatten())
}
