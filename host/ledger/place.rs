//! Where a ledger is: a file in the state directory, or a database.

use std::sync::Arc;

use super::db::Db;
use super::postgres::{self, Server, Session};
use super::writer::Writer;
use super::{Ledger, LedgerError, Reader};
use crate::clock::Clock;
use crate::config::{Config, Database};

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

    /// Opens the ledger in a PostgreSQL database, which others may be writing too.
    pub fn connect(database: &Database, clock: Clock) -> Result<Self, LedgerError> {
        let server = Server::new(database)?;
        let node = postgres::writable(&server)?;
        let session = |_| Db::Postgres(Box::new(Session::new(server.clone(), Some(node.id()))));
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
