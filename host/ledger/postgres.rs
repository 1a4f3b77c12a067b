//! A session with PostgreSQL: the transactions of one writer, or one reader.
//!
//! A session that breaks is made anew. Whoever writes shows in each transaction
//! that its node is alive (`node.rs`); the answer to a COMMIT that was lost with
//! the connection is asked for.

mod error;
mod node;
mod open;
mod server;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use postgres::types::ToSql;
use postgres::{Client, Row, SimpleQueryMessage, Statement};
use tokio::time::Instant;

use super::LedgerError;
use super::db::Value;
pub(super) use error::is_gone;
pub(super) use node::Node;
pub(super) use open::{readable, writable};
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
    /// The node that writes; None: reads only.
    node: Option<i64>,
    client: RefCell<Option<Client>>,
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
    backend: String,
}

impl Session {
    pub(super) fn new(server: Server, node: Option<i64>) -> Self {
        let (client, prepared, transaction) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { server, node, client, prepared, transaction, lost: Cell::new(false) }
    }

    pub(super) fn is_writer(&self) -> bool {
        self.node.is_some()
    }

    /// Begins a transaction that changes things, and has its node alive until it ends.
    pub(super) fn begin(&self) -> Result<(), LedgerError> {
        let node = self.node.ok_or(LedgerError::Stopped)?;
        let begin = format!(
            "BEGIN; SELECT pg_current_xact_id(), pg_backend_pid() FROM nodes
             WHERE id = {node} AND state = 'alive' FOR KEY SHARE"
        );
        let row = self.first_words(&begin)?.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((row.get(0)?.to_owned(), row.get(1)?.to_owned())),
            _ => None,
        });
        let Some((id, backend)) = row else {
            self.roll_back();
            return Err(LedgerError::Fenced);
        };
        self.transaction.replace(Some(Transaction { id, backend }));
        Ok(())
    }

    pub(super) fn begin_reading(&self) -> Result<(), LedgerError> {
        self.first_words("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").map(drop)
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
        let Transaction { id, backend } = transaction;
        // It may not have noticed yet that nobody listens. The number of a process may be another one's by now.
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE pid = {backend} AND backend_xid::TEXT = ({id}::NUMERIC % 4294967296)::TEXT"
        );
        let status = format!("SELECT pg_xact_status('{id}')");
        let deadline = Instant::now() + PATIENCE;
        loop {
            // An error is no answer; whether there is one is asked below.
            let _ = self.simple(&end);
            match self.simple(&status).map(first_text) {
                Ok(Some(status)) if status == "committed" => return Ok(()),
                Ok(Some(status)) if status == "aborted" => return Err(LedgerError::Conflict),
                // After a failover the server may never have heard of it.
                Err(error) if !is_passing(&error) => return Err(LedgerError::Conflict),
                _ if Instant::now() > deadline => return Err(LedgerError::Unsure),
                _ => std::thread::sleep(PAUSE_MIN),
            }
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
        match self.simple(sql) {
            Err(error) if is_passing(&error) => self.simple(sql),
            answer => answer,
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
            match self.server.connect(self.node) {
                Ok(client) => {
                    self.client.replace(Some(client));
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
