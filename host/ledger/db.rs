//! The connection that the commands work on. They are one code for every
//! database: SQL that each of them understands, numbers and text for values.
//!
//! Text of statements has its values as `?1`, `?2`, and is kept prepared by it.

use rusqlite::types::{FromSql, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, RowIndex, params_from_iter};

use super::LedgerError;
use crate::clock::Instant;

/// A connection, inside of a transaction while a command has it.
pub(super) enum Db {
    Sqlite(Connection),
}

/// One row of an answer.
pub(super) enum Row<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
}

/// What a statement is given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Null,
    Number(i64),
    Text(&'a str),
}

/// Values of a statement, of any type that is a [`Value`].
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::ledger::db::Value::from($value)),*] };
}
pub(super) use values;

impl Db {
    /// Returns how many rows it changed.
    pub(super) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize, LedgerError> {
        match self {
            Db::Sqlite(connection) => Ok(connection.prepare_cached(sql)?.execute(params_from_iter(values))?),
        }
    }

    /// All rows, as `read` takes them.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> Result<T, LedgerError>,
    ) -> Result<Vec<T>, LedgerError> {
        match self {
            Db::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let mut rows = statement.query(params_from_iter(values))?;
                let mut all = Vec::new();
                while let Some(row) = rows.next()? {
                    all.push(read(&Row::Sqlite(row))?);
                }
                Ok(all)
            }
        }
    }

    /// The first row, if there is any.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> Result<T, LedgerError>,
    ) -> Result<Option<T>, LedgerError> {
        match self {
            Db::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let found = statement.query_row(params_from_iter(values), |row| Ok(read(&Row::Sqlite(row))));
                found.optional()?.transpose()
            }
        }
    }

    /// The only column of the only row, of an answer that always has one.
    pub(super) fn only<T: Column>(&self, sql: &str, values: &[Value<'_>]) -> Result<T, LedgerError> {
        let nothing = || LedgerError::Unreadable { what: "no answer to", text: sql.to_owned() };
        self.first(sql, values, |row| row.get(0))?.ok_or_else(nothing)
    }

    /// What a row that this inserts is given by the database: the statement ends in `RETURNING`.
    pub(super) fn insert(&self, sql: &str, values: &[Value<'_>]) -> Result<i64, LedgerError> {
        self.only(sql, values)
    }

    /// Runs `work` on one snapshot: all its queries see the same.
    pub(super) fn snapshot<T>(&self, work: impl FnOnce(&Self) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        match self {
            Db::Sqlite(connection) => {
                // Ends when dropped.
                let _snapshot = connection.unchecked_transaction()?;
                work(self)
            }
        }
    }

    pub(super) fn begin(&self) -> Result<(), LedgerError> {
        self.control("BEGIN IMMEDIATE")
    }

    pub(super) fn commit(&self) -> Result<(), LedgerError> {
        self.control("COMMIT")
    }

    /// Undoes the transaction, if there still is one: a full disk may have ended it.
    pub(super) fn roll_back(&self) {
        if self.is_in_transaction()
            && let Err(error) = self.control("ROLLBACK")
        {
            tracing::error!(error = %error, "the ledger could not roll back");
        }
    }

    /// Marks what [`Db::undo`] goes back to.
    pub(super) fn mark(&self) -> Result<(), LedgerError> {
        self.control("SAVEPOINT command")
    }

    pub(super) fn undo(&self) -> Result<(), LedgerError> {
        self.control("ROLLBACK TO command")
    }

    pub(super) fn unmark(&self) -> Result<(), LedgerError> {
        self.control("RELEASE command")
    }

    pub(super) fn is_in_transaction(&self) -> bool {
        match self {
            Db::Sqlite(connection) => !connection.is_autocommit(),
        }
    }

    fn control(&self, sql: &str) -> Result<(), LedgerError> {
        self.execute(sql, &[]).map(drop)
    }
}

impl Row<'_> {
    pub(super) fn get<T: Column>(&self, column: impl Name) -> Result<T, LedgerError> {
        match self {
            Row::Sqlite(row) => Ok(row.get(column)?),
        }
    }
}

/// A type that columns have.
pub(super) trait Column: FromSql {}
impl<T: FromSql> Column for T {}

/// A column's name, or its place.
pub(super) trait Name: RowIndex {}
impl<T: RowIndex> Name for T {}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Value::Null => ValueRef::Null,
            Value::Number(number) => ValueRef::Integer(number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Value::Number(number)
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Value::Number(number.into())
    }
}

/// An instant is microseconds since 1970.
impl From<Instant> for Value<'_> {
    fn from(at: Instant) -> Self {
        Value::Number(at.timestamp_micros())
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(text)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Value::Text(text)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}
