//! The connection that the commands work on. They are one code for both
//! databases: SQL that each of them understands, numbers and text for values.
//! Where they differ is here, and in what is done to a ledger as a whole.
//!
//! Text of statements has its values as `?1`, `?2`, and is kept prepared by it.

use std::error::Error;
use std::fmt::Display;

use bytes::BytesMut;
use postgres::types::{FromSqlOwned, IsNull, Type, to_sql_checked};
use rusqlite::types::{FromSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::LedgerError;
use super::postgres::{Session, is_gone};
use crate::clock::Instant;

/// A connection, inside of a transaction while a command has it.
pub(super) enum Db {
    Sqlite(Connection),
    Postgres(Box<Session>),
}

/// One row of an answer.
pub(super) enum Row<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a postgres::Row),
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
            Db::Postgres(session) => session.execute(sql, values),
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
            Db::Postgres(session) => session.query(sql, values)?.iter().map(|row| read(&Row::Postgres(row))).collect(),
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
            Db::Postgres(session) => {
                session.query(sql, values)?.first().map(|row| read(&Row::Postgres(row))).transpose()
            }
        }
    }

    /// The only column of the only row, of an answer that always has one.
    pub(super) fn only<T: Column>(&self, sql: &str, values: &[Value<'_>]) -> Result<T, LedgerError> {
        let nothing = || LedgerError::Unreadable { what: "no answer to", text: sql.to_owned() };
        self.first(sql, values, |row| row.get(0))?.ok_or_else(nothing)
    }

    /// The rows of a JSON array `?1` (see `row::batches`), to select from: `value ->> 0`
    /// is the first column of each.
    pub(super) fn given(&self) -> &'static str {
        match self {
            Db::Sqlite(_) => "json_each(?1) AS given",
            // JSON would be read from its start for each column.
            Db::Postgres(_) => "jsonb_array_elements(CAST(?1 AS TEXT)::JSONB) AS given (value)",
        }
    }

    /// The condition for a column that is before it: among the numbers of `?1`, as [`list`] writes them.
    pub(super) fn among(&self) -> &'static str {
        match self {
            Db::Sqlite(_) => "IN (SELECT value FROM json_each('[' || ?1 || ']'))",
            Db::Postgres(_) => "= ANY (CAST(string_to_array(?1, ',') AS BIGINT[]))",
        }
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
            Db::Postgres(session) => {
                session.begin_reading()?;
                // Also where the work ends in a panic.
                let _snapshot = Snapshot(session);
                work(self)
            }
        }
    }

    pub(super) fn begin(&self) -> Result<(), LedgerError> {
        match self {
            Db::Sqlite(_) => self.control("BEGIN IMMEDIATE"),
            Db::Postgres(session) => session.begin(),
        }
    }

    /// Err([`LedgerError::Conflict`]): nothing of it was kept, and it may be done again.
    pub(super) fn commit(&self) -> Result<(), LedgerError> {
        match self {
            Db::Sqlite(_) => self.control("COMMIT"),
            Db::Postgres(session) => session.commit(),
        }
    }

    /// Nothing was kept, and all may be done again at once: another writer was in the way,
    /// or a connection ended and its server is there.
    pub(super) fn may_try_again(&self, error: &LedgerError) -> bool {
        match (self, error) {
            (_, LedgerError::Conflict) => true,
            (Db::Postgres(session), LedgerError::Away { source }) => is_gone(source) && !session.is_lost(),
            _ => false,
        }
    }

    /// Undoes the transaction, if there still is one.
    pub(super) fn roll_back(&self) {
        match self {
            Db::Sqlite(_) if self.is_in_transaction().is_err() => {}
            Db::Sqlite(_) => {
                if let Err(error) = self.control("ROLLBACK") {
                    tracing::error!(error = %error, "the ledger could not roll back");
                }
            }
            Db::Postgres(session) => session.roll_back(),
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

    /// Err says what ended the transaction: a full disk, a lost connection.
    pub(super) fn is_in_transaction(&self) -> Result<(), LedgerError> {
        match self {
            Db::Sqlite(connection) if connection.is_autocommit() => {
                // SQLite itself rolls back when the disk is full.
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
                let why = Some("the transaction was rolled back".to_owned());
                Err(rusqlite::Error::SqliteFailure(code, why).into())
            }
            Db::Sqlite(_) => Ok(()),
            Db::Postgres(session) => session.is_connected(),
        }
    }

    fn control(&self, sql: &str) -> Result<(), LedgerError> {
        match self {
            Db::Sqlite(connection) => Ok(connection.prepare_cached(sql)?.execute([]).map(drop)?),
            Db::Postgres(session) => session.control(sql),
        }
    }
}

/// What several writers need, and the one writer of SQLite does not: the rows
/// and names that one of them has to itself until its transaction ends.
impl Db {
    /// Ends a SELECT whose rows are then changed.
    pub(super) fn locked(&self) -> &'static str {
        match self {
            Db::Postgres(session) if session.is_writer() => "FOR UPDATE",
            _ => "",
        }
    }

    /// The same, without the rows that another writer has.
    pub(super) fn locked_if_free(&self) -> &'static str {
        if self.locked().is_empty() { "" } else { "FOR UPDATE SKIP LOCKED" }
    }

    /// Has the row of a slot to itself, once others are done with it.
    pub(super) fn lock_slot(&self, slot: i64) -> Result<(), LedgerError> {
        match self.locked() {
            "" => Ok(()),
            locked => {
                let select = format!("SELECT id FROM slots WHERE id = ?1 {locked}");
                self.all(&select, values![slot], |_| Ok(())).map(drop)
            }
        }
    }

    /// Has `name` to itself, once others are done with it.
    pub(super) fn alone(&self, name: &str) -> Result<(), LedgerError> {
        match self {
            Db::Sqlite(_) => Ok(()),
            Db::Postgres(session) => session.lock("pg_advisory_xact_lock", name).map(drop),
        }
    }

    /// Has `name` to itself and others who ask like this.
    pub(super) fn together(&self, name: &str) -> Result<(), LedgerError> {
        match self {
            Db::Sqlite(_) => Ok(()),
            Db::Postgres(session) => session.lock("pg_advisory_xact_lock_shared", name).map(drop),
        }
    }

    /// Has `name` to itself, or gives way.
    pub(super) fn alone_if_free(&self, name: &str) -> Result<bool, LedgerError> {
        match self {
            Db::Sqlite(_) => Ok(true),
            Db::Postgres(session) => session.lock("pg_try_advisory_xact_lock", name),
        }
    }
}

/// A session that reads, until this is dropped.
struct Snapshot<'a>(&'a Session);

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        self.0.roll_back();
    }
}

/// Numbers as one value.
pub(super) fn list(numbers: &[i64]) -> String {
    numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

impl Row<'_> {
    pub(super) fn get<T: Column>(&self, column: impl Name) -> Result<T, LedgerError> {
        match self {
            Row::Sqlite(row) => Ok(row.get(column)?),
            Row::Postgres(row) => Ok(row.try_get(column)?),
        }
    }
}

/// A type that columns have.
pub(super) trait Column: FromSql + FromSqlOwned {}
impl<T: FromSql + FromSqlOwned> Column for T {}

/// A column's name, or its place.
pub(super) trait Name: rusqlite::RowIndex + postgres::row::RowIndex + Display {}
impl<T: rusqlite::RowIndex + postgres::row::RowIndex + Display> Name for T {}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Value::Null => ValueRef::Null,
            Value::Number(number) => ValueRef::Integer(number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

impl postgres::types::ToSql for Value<'_> {
    fn to_sql(&self, column: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Number(number) if *column == Type::INT8 => number.to_sql(column, out),
            Value::Text(text) if *column == Type::TEXT => text.to_sql(column, out),
            value => Err(format!("{value:?} is no {column}").into()),
        }
    }

    fn accepts(column: &Type) -> bool {
        [Type::INT8, Type::TEXT].contains(column)
    }

    to_sql_checked!();
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
