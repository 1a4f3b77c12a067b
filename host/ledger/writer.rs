//! The one thread that writes. Commands that wait together are committed
//! together: one fsync then pays for all of them.

use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::LedgerError;
use crate::lock::Lock;

/// Commands of one transaction.
const BATCH_MAX: usize = 512;
/// Commands that may wait before callers do.
const QUEUE_MAX: usize = 4096;

/// Owns the connection through its thread. Dropping it waits until what was
/// sent is committed and the lock released.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// Given an error instead of a connection, it only hands that to its caller.
type Command = Box<dyn FnOnce(Result<&Connection, LedgerError>) -> Ran + Send>;
/// Tells the caller how it ended: `None` when the batch is on disk.
type Answer = Box<dyn FnOnce(Option<LedgerError>) + Send>;

/// What a command did, to be told once the batch is on disk.
struct Ran {
    /// Its changes are to be committed.
    keep: bool,
    answer: Answer,
}

impl Writer {
    pub(super) fn start(connection: Connection, lock: Lock) -> Result<Self, std::io::Error> {
        let (queue, commands) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            write(&connection, commands);
            drop(connection);
            drop(lock);
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Runs `work` in a transaction and answers when it is on disk. An error of
    /// `work` undoes its own changes and no other command's. Once sent it runs,
    /// also when the caller stops waiting.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (tell, told) = oneshot::channel();
        let command: Command = Box::new(move |connection| {
            let result = connection.and_then(work);
            let keep = result.is_ok();
            let answer: Answer = Box::new(move |failed| {
                // Nobody listens when the caller was cancelled.
                let _ = tell.send(match failed {
                    Some(error) => result.and(Err(error)),
                    None => result,
                });
            });
            Ran { keep, answer }
        });
        let queue = self.queue.as_ref().ok_or(LedgerError::Stopped)?;
        queue.send(command).await.map_err(|_| LedgerError::Stopped)?;
        told.await.map_err(|_| LedgerError::Stopped)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the ledger's writer ended in a panic");
        }
    }
}

fn write(connection: &Connection, mut commands: mpsc::Receiver<Command>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while commands.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        let mut rest = batch.drain(..);
        // A batch ends early when SQLite itself rolled it back (a full disk): the rest gets a new one.
        while rest.len() > 0 {
            commit(connection, &mut rest);
        }
    }
}

fn commit(connection: &Connection, commands: &mut dyn Iterator<Item = Command>) {
    let begun = sql(connection, "BEGIN IMMEDIATE");
    let mut answers: Vec<Answer> = Vec::new();
    let mut failed = begun.err();
    for command in commands {
        let begun = failed.is_none().then(|| sql(connection, "SAVEPOINT command"));
        if let Some(Err(error)) = begun {
            failed = Some(error);
        }
        if let Some(error) = &failed {
            // There is no transaction: the command must not run, but its caller must hear.
            answers.push(command(Err(error.clone())).answer);
            continue;
        }
        let ran = command(Ok(connection));
        answers.push(ran.answer);
        if connection.is_autocommit() {
            failed = Some(lost());
            break;
        }
        let undone = if ran.keep { Ok(()) } else { sql(connection, "ROLLBACK TO command") };
        if let Err(error) = undone.and_then(|()| sql(connection, "RELEASE command")) {
            failed = Some(error);
            break;
        }
    }
    if failed.is_none() {
        failed = sql(connection, "COMMIT").err();
    }
    if failed.is_some()
        && !connection.is_autocommit()
        && let Err(error) = sql(connection, "ROLLBACK")
    {
        tracing::error!(error = %error, "the ledger could not roll back");
    }
    for answer in answers {
        answer(failed.clone());
    }
}

fn lost() -> LedgerError {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
    LedgerError::from(rusqlite::Error::SqliteFailure(code, Some("the transaction was rolled back".to_owned())))
}

fn sql(connection: &Connection, text: &str) -> Result<(), LedgerError> {
    connection.prepare_cached(text)?.execute([])?;
    Ok(())
}
