//! A session with PostgreSQL: the transactions of one writer, or one reader.
//!
//! A session that breaks is made anew. Whoever writes shows in each transaction
//! that its node is alive (`node.rs`); the answer to a COMMIT that was lost with
//! the connection is asked for.

mod error;
mod heart;
mod node;
mod open;
mod server;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, Row, SimpleQueryMessage, Statement};
use tokio::time::Instant;

use super::LedgerError;
use super::db::Value;
use super::open::Opening;
pub(super) use error::is_gone;
pub(super) use node::Node;
pub(super) use open::{MARK, readable, writable};
use server::Connection;
pub(super) use server::Server;

/// How long a command waits for a database that does not answer any more: as
/// long as a restart of it may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same once it was in vain.
const PATIENCE_LOST: Duration = Duration::from_secs(1);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

pub(super) struct Session {
    server: Server,
    /// The node that writes, and what for; None: reads only.
    node: Option<(i64, Opening)>,
    client: RefCell<Option<Client>>,
    /// The server's process that answered when the connection was made.
    process: RefCell<String>,
    /// Statements by their text.
    prepared: RefCell<HashMap<String, Statement>>,
    transaction: RefCell<Option<Transaction>>,
    /// The last try to connect was in vain.
    lost: Cell<bool>,
}

/// What there is to know of a transaction when its end is not heard of.
struct Transaction {
    id: String,
    /// The process of the server that has it.
    process: String,
}

impl Session {
    pub(super) fn new(server: Server, node: Option<(i64, Opening)>) -> Self {
        let (client, process, prepared) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { server, node, client, process, prepared, transaction: RefCell::default(), lost: Cell::new(false) }
    }

    pub(super) fn is_writer(&self) -> bool {
        self.node.is_some()
    }

    /// The server could not be reached when it was last tried.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// Begins a transaction that changes things, and has its node alive until it ends.
    pub(super) fn begin(&self) -> Result<(), LedgerError> {
        let (node, opening) = self.node.ok_or(LedgerError::Stopped)?;
        // Commands see what others committed while they waited for a lock. Not READ WRITE: who
        // has the database read only by default wants nothing to be written. The settings are
        // the transaction's, whoever else the connection may be for.
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL search_path TO \"{}\"; SET LOCAL consign.node = '{node}';
             SELECT pg_current_xact_id(), (SELECT version FROM consign_ledger), pg_backend_pid(),
                    (SELECT {} FROM consign_ledger) FROM nodes
             WHERE id = {node} AND state = 'alive' FOR KEY SHARE",
            self.server.schema,
            open::IS_ITSELF
        );
        let row = self.first_words(&begin)?.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some([0usize, 1, 2, 3].map(|column| row.get(column).map(str::to_owned))),
            _ => None,
        });
        let refused = match row {
            Some([Some(id), Some(version), Some(process), is_itself]) => match version.parse::<i64>() {
                Ok(found) if found > open::VERSION => open::newer(&self.server, found),
                _ if opening == Opening::GoOn && is_itself.as_deref() != Some("t") => open::restored(&self.server),
                _ if *self.process.borrow() != process => LedgerError::Pooled,
                _ => {
                    self.transaction.replace(Some(Transaction { id, process }));
                    return Ok(());
                }
            },
            _ => LedgerError::Fenced,
        };
        self.roll_back();
        Err(refused)
    }

    pub(super) fn begin_reading(&self) -> Result<(), LedgerError> {
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path TO \"{}\"; SELECT pg_backend_pid()",
            self.server.schema
        );
        if first_text(self.first_words(&begin)?).as_ref() == Some(&*self.process.borrow()) {
            return Ok(());
        }
        self.roll_back();
        Err(LedgerError::Pooled)
    }

    pub(super) fn commit(&self) -> Result<(), LedgerError> {
        let transaction = self.transaction.take();
        let ended = self.control("COMMIT");
        match (ended, transaction) {
            (Err(_), Some(transaction)) if self.client.borrow().is_none() => self.ask_for(&transaction),
            (ended, _) => ended,
        }
    }

    /// What became of a transaction whose answer was lost.
    fn ask_for(&self, transaction: &Transaction) -> Result<(), LedgerError> {
        let Transaction { id, process } = transaction;
        // It may not have noticed yet that nobody listens. The number of a process may be another one's by now.
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE pid = {process} AND backend_xid::TEXT = ({id}::NUMERIC % 4294967296)::TEXT"
        );
        // A standby may not have heard of it yet.
        let status = format!("SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE pg_xact_status('{id}') END");
        let deadline = Instant::now() + PATIENCE;
        loop {
            // An error is no answer; whether there is one is asked below.
            let _ = self.simple(&end);
            let told = self.simple(&status).map(first_text);
            match &told {
                Ok(Some(status)) if status == "committed" => return Ok(()),
                Ok(Some(status)) if status == "aborted" => return Err(LedgerError::Conflict),
                // Its number is yet to come: the server has taken over from one that had it, and never heard of it.
                Err(error) if is_unknown_number(error) => return Err(LedgerError::Conflict),
                _ if Instant::now() > deadline => return Err(LedgerError::Unsure),
                // Whoever is asked next may be another one.
                Ok(Some(status)) if status == "standby" => self.drop_client(),
                _ => {}
            }
            std::thread::sleep(PAUSE_MIN);
        }
    }

    pub(super) fn roll_back(&self) {
        self.transaction.take();
        if self.client.borrow().is_some()
            && let Err(error) = self.control("ROLLBACK")
        {
            tracing::debug!(error = %error, "the ledger's database could not roll back");
        }
    }

    pub(super) fn is_connected(&self) -> Result<(), LedgerError> {
        if self.client.borrow().is_some() { Ok(()) } else { Err(LedgerError::Conflict) }
    }

    pub(super) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize, LedgerError> {
        let changed = self.with_statement(sql, |client, statement| client.execute(statement, &by_reference(values)))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    pub(super) fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, LedgerError> {
        self.with_statement(sql, |client, statement| client.query(statement, &by_reference(values)))
    }

    /// Calls `function` for the lock of `name`, which ends with the transaction.
    pub(super) fn lock(&self, function: &str, name: &str) -> Result<bool, LedgerError> {
        let text =
            format!("SELECT {function}(hashtextextended(current_schema() || ' ' || ?1, 0))::TEXT <> 'false' AS has");
        let rows = self.query(&text, &[Value::Text(name)])?;
        Ok(rows.first().is_some_and(|row| row.get("has")))
    }

    /// A statement with neither values nor an answer.
    pub(super) fn control(&self, sql: &str) -> Result<(), LedgerError> {
        self.with_client(|client| client.batch_execute(sql))
    }

    fn with_statement<T>(
        &self,
        sql: &str,
        work: impl FnOnce(&mut Client, &Statement) -> Result<T, postgres::Error>,
    ) -> Result<T, LedgerError> {
        self.with_client(|client| {
            let mut prepared = self.prepared.borrow_mut();
            let statement = match prepared.get(sql) {
                Some(statement) => statement,
                None => {
                    let statement = client.prepare(&sql.replace('?', "$"))?;
                    prepared.entry(sql.to_owned()).or_insert(statement)
                }
            };
            work(client, statement)
        })
    }

    fn with_client<T>(&self, work: impl FnOnce(&mut Client) -> Result<T, postgres::Error>) -> Result<T, LedgerError> {
        let done = match &mut *self.client.borrow_mut() {
            Some(client) => work(client),
            None => return Err(LedgerError::Conflict),
        };
        done.map_err(|error| {
            if is_gone(&error) {
                self.drop_client();
            }
            LedgerError::from(error)
        })
    }

    /// Statements outside of a transaction, on a connection that is made if there is none.
    fn simple(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, LedgerError> {
        self.connect()?;
        self.with_client(|client| client.simple_query(sql))
    }

    /// The same, to begin with: once more if the connection has broken since it was last used.
    fn first_words(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, LedgerError> {
        let said = || self.simple(sql).inspect_err(|error| self.take_back(error));
        match said() {
            Err(error) if is_passing(&error) => said(),
            answer => answer,
        }
    }

    /// A transaction could not begin. Some of the words may have been heard. Another
    /// connection may lead to another server, or to other settings: whether it is read
    /// only is decided when it is made.
    fn take_back(&self, error: &LedgerError) {
        match error {
            LedgerError::Away { .. } => self.drop_client(),
            _ => self.roll_back(),
        }
    }

    fn connect(&self) -> Result<(), LedgerError> {
        if self.client.borrow().is_some() {
            return Ok(());
        }
        let patience = if self.lost.get() { PATIENCE_LOST } else { PATIENCE };
        let deadline = Instant::now() + patience;
        let mut pause = PAUSE_MIN;
        loop {
            match self.server.connect() {
                Ok(Connection { client, process }) => {
                    self.client.replace(Some(client));
                    self.process.replace(process);
                    self.lost.set(false);
                    return Ok(());
                }
                Err(_) if Instant::now() + pause < deadline => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(error) => {
                    self.lost.set(true);
                    return Err(LedgerError::from(error));
                }
            }
        }
    }

    fn drop_client(&self) {
        self.prepared.borrow_mut().clear();
        if let Some(client) = self.client.take() {
            off_runtime(|| drop(client));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.drop_client();
    }
}

/// Work that blocks or drops a client, which has a runtime of its own: neither
/// is allowed on the threads of another.
fn off_runtime<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The server has not given the number of a transaction yet.
fn is_unknown_number(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Database { source } if source.code() == Some(&SqlState::INVALID_PARAMETER_VALUE))
}

fn is_passing(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Away { .. } | LedgerError::Conflict)
}

fn by_reference<'a>(values: &'a [Value<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn first_text(messages: Vec<SimpleQueryMessage>) -> Option<String> {
    messages.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}
