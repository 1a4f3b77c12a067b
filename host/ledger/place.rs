//! Where a ledger is: a file in the state directory, or a database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::db::Db;
use super::open::Opening;
use super::postgres::{self, Server, Session};
use super::writer::Writer;
use super::{Ledger, LedgerError, Reader, open, restore, upkeep};
use crate::clock::Clock;
use crate::config::{Config, Database};
use crate::lock::Lock;

/// Sessions that write to a PostgreSQL ledger at the same time.
const WRITERS: usize = 3;

impl Ledger {
    /// Opens the ledger where `config` says it is: in its database, or in its `state_dir`.
    /// Connects, so call it where blocking is fine.
    pub fn of(config: &Config, clock: Clock) -> Result<Self, LedgerError> {
        match &config.ledger.database {
            None => Self::open(&config.daemon.state_dir, clock),
            Some(database) => Self::connect(database, clock),
        }
    }

    /// Opens the ledger in `dir` (made with mode 0700 when missing) and takes
    /// its lock. Reads the whole file once to find damage; call it where blocking is fine.
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, LedgerError> {
        let (db, lock) = open::writable(dir, clock.now())?;
        Self::in_file(dir, db, lock, clock)
    }

    fn in_file(dir: &Path, db: Db, lock: Lock, clock: Clock) -> Result<Self, LedgerError> {
        let (reader, own) = (Self::read_only(dir)?, Self::read_only(dir)?);
        let failed =
            |error| LedgerError::Files { action: "start the writer of", path: dir.to_owned(), source: Arc::new(error) };
        let writer = Writer::start(vec![db], Some(lock), None).map_err(failed)?;
        Ok(Self { reader, own, writer: Arc::new(writer), clock })
    }

    /// Opens the ledger in `dir` for reading, with no lock: a daemon may be writing it.
    pub fn read_only(dir: &Path) -> Result<Reader, LedgerError> {
        Reader::new(open::readable(dir)?)
    }

    /// Copies the ledger in `dir` to the new file `to`, as it is at one instant.
    /// A daemon may be writing it. Blocks.
    pub fn backup(dir: &Path, to: &Path) -> Result<(), LedgerError> {
        upkeep::backup(dir, to)
    }

    /// Puts the backup `from` in the place of the ledger in `dir`, and opens it to be told so
    /// ([`Ledger::end_open`]). Returns where the one is that was there. Blocks.
    pub fn restore(dir: &Path, from: &Path, clock: Clock) -> Result<(Self, Option<PathBuf>), LedgerError> {
        let (db, lock, kept) = restore::put_back(dir, from, clock.now())?;
        Ok((Self::in_file(dir, db, lock, clock)?, kept))
    }

    /// Opens the ledger where `config` says it is, to be told that it was restored.
    pub fn of_restored(config: &Config, clock: Clock) -> Result<Self, LedgerError> {
        match &config.ledger.database {
            None => Self::open_restored(&config.daemon.state_dir, clock),
            Some(database) => Self::connect_restored(database, clock),
        }
    }

    /// The same of the ledger in `dir`, in whichever way it came there.
    pub fn open_restored(dir: &Path, clock: Clock) -> Result<Self, LedgerError> {
        let (db, lock) = restore::in_place(dir, clock.now())?;
        Self::in_file(dir, db, lock, clock)
    }

    /// The same of one in a database.
    pub fn connect_restored(database: &Database, clock: Clock) -> Result<Self, LedgerError> {
        Self::connect_for(database, clock, Opening::Restored)
    }

    /// Opens the ledger in a PostgreSQL database, which others may be writing too.
    pub fn connect(database: &Database, clock: Clock) -> Result<Self, LedgerError> {
        Self::connect_for(database, clock, Opening::GoOn)
    }

    fn connect_for(database: &Database, clock: Clock, opening: Opening) -> Result<Self, LedgerError> {
        let server = Server::new(database)?;
        let node = postgres::writable(&server, clock.now(), opening)?;
        let session = |_| Db::Postgres(Box::new(Session::new(server.clone(), Some((node.id(), opening)))));
        let writers = (0..WRITERS).map(session).collect();
        let reader = |session| Reader::new(Db::Postgres(Box::new(session)));
        let own = reader(Session::new(server.clone(), None))?;
        let reader = reader(postgres::readable(server)?)?;
        let writer = Writer::start(writers, None, Some(node));
        let failed = |error| LedgerError::Files {
            action: "start the writer of",
            path: "the ledger".into(),
            source: Arc::new(error),
        };
        Ok(Self { reader, own, writer: Arc::new(writer.map_err(failed)?), clock })
    }
}

impl Reader {
    /// Opens the ledger where `config` says it is, for reading, with no lock.
    pub fn of(config: &Config) -> Result<Self, LedgerError> {
        match &config.ledger.database {
            None => Ledger::read_only(&config.daemon.state_dir),
            Some(database) => Self::connect(database),
        }
    }

    /// Opens the ledger in a PostgreSQL database for reading.
    pub fn connect(database: &Database) -> Result<Self, LedgerError> {
        Self::new(Db::Postgres(Box::new(postgres::readable(Server::new(database)?)?)))
    }

    pub(super) fn new(db: Db) -> Result<Self, LedgerError> {
        Self::start(db).map_err(|error| LedgerError::Files {
            action: "start a reader of",
            path: "the ledger".into(),
            source: Arc::new(error),
        })
    }
}
