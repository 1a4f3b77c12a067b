//! The one thread that writes. Commands that wait together are committed
//! together: one fsync then pays for all of them.

use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::LedgerError;
use super::db::Db;
use crate::lock::Lock;

/// Commands of one transaction.
const BATCH_MAX: usize = 512;
/// Commands that may wait before callers do.
const QUEUE_MAX: usize = 4096;

/// Owns the connection through its thread. Dropping it waits until what was
/// sent is committed and the lock released.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Command>>>,
    thread: Option<JoinHandle<()>>,
}

/// What somebody waits for.
trait Command: Send {
    /// Does it; what comes of it is told later. May be undone and done again.
    /// True when its changes are to be committed.
    fn run(&mut self, db: &Db) -> bool;

    /// Tells how it ended: `None` when the batch is on disk.
    fn answer(self: Box<Self>, failed: Option<&LedgerError>);
}

struct Waiting<T, W> {
    work: W,
    came: Option<Result<T, LedgerError>>,
    tell: oneshot::Sender<Result<T, LedgerError>>,
}

impl<T: Send, W: Fn(&Db) -> Result<T, LedgerError> + Send> Command for Waiting<T, W> {
    fn run(&mut self, db: &Db) -> bool {
        let came = (self.work)(db);
        let keep = came.is_ok();
        self.came = Some(came);
        keep
    }

    fn answer(self: Box<Self>, failed: Option<&LedgerError>) {
        let answer = match (self.came, failed) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(error)) => Err(error.clone()),
            (Some(Ok(done)), None) => Ok(done),
            (None, None) => Err(LedgerError::Stopped),
        };
        // Nobody listens when the caller was cancelled.
        let _ = self.tell.send(answer);
    }
}

impl Writer {
    pub(super) fn start(db: Db, lock: Lock) -> Result<Self, std::io::Error> {
        let (queue, commands) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            write(&db, commands);
            drop(db);
            drop(lock);
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Runs `work` in a transaction and answers when it is on disk. An error of
    /// `work` undoes its own changes and no other command's. It may be undone and
    /// run again, so it does nothing but what the transaction undoes. Once sent it
    /// runs, also when the caller stops waiting.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&Db) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (tell, told) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(LedgerError::Stopped)?;
        queue.send(Box::new(Waiting { work, came: None, tell })).await.map_err(|_| LedgerError::Stopped)?;
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

fn write(db: &Db, mut commands: mpsc::Receiver<Box<dyn Command>>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while commands.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        let failed = commit(db, &mut batch).err();
        for command in batch.drain(..) {
            command.answer(failed.as_ref());
        }
    }
}

fn commit(db: &Db, batch: &mut [Box<dyn Command>]) -> Result<(), LedgerError> {
    // Hardly ever does one fail, and then it costs a second time instead of a mark each time.
    let done = together(db, batch)?;
    if !done {
        one_by_one(db, batch)?;
    }
    Ok(())
}

/// Commits all, or none: false when one of them is to be undone.
fn together(db: &Db, batch: &mut [Box<dyn Command>]) -> Result<bool, LedgerError> {
    db.begin()?;
    if !batch.iter_mut().all(|command| command.run(db)) {
        db.roll_back();
        return Ok(false);
    }
    db.commit().map(|()| true).inspect_err(|_| db.roll_back())
}

/// Commits all but those that fail.
fn one_by_one(db: &Db, batch: &mut [Box<dyn Command>]) -> Result<(), LedgerError> {
    db.begin()?;
    let each = |command: &mut Box<dyn Command>| {
        db.mark()?;
        let keep = command.run(db);
        if !db.is_in_transaction() {
            return Err(lost());
        }
        if !keep {
            db.undo()?;
        }
        db.unmark()
    };
    batch.iter_mut().try_for_each(each).and_then(|()| db.commit()).inspect_err(|_| db.roll_back())
}

/// SQLite itself rolls a transaction back when the disk is full.
fn lost() -> LedgerError {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
    LedgerError::from(rusqlite::Error::SqliteFailure(code, Some("the transaction was rolled back".to_owned())))
}
