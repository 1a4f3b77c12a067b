//! The thread that writes. Commands that wait together are committed together:
//! one fsync then pays for all of them. SQLite has one such thread; PostgreSQL,
//! where much of the time goes into waiting for answers, a few.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::LedgerError;
use super::db::Db;
use super::postgres::Node;
use crate::lock::Lock;

/// Commands of one transaction, where one thread commits all.
const BATCH_MAX: usize = 512;
/// The same where others could do some of them, or wait for their rows.
const BATCH_OF_SEVERAL: usize = 64;
/// How often a command is run that others were in the way of.
const TRIES_MAX: usize = 5;
/// Commands that may wait before callers do.
const QUEUE_MAX: usize = 4096;

/// Owns the connections through their threads. Dropping it waits until what was
/// sent is committed and the lock released.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Command>>>,
    threads: Vec<JoinHandle<()>>,
    /// Leaves when what was sent is committed.
    node: Option<Node>,
}

/// What somebody waits for.
trait Command: Send {
    /// Does it; what comes of it is told later. May be undone and done again.
    fn run(&mut self, db: &Db) -> Ran;

    /// Tells how it ended: `None` when the batch is on disk.
    fn answer(self: Box<Self>, failed: Option<&LedgerError>);
}

/// What there is to do with the changes of a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ran {
    Done,
    ToUndo,
    /// To be undone, and done again.
    InTheWay,
}

struct Waiting<T, W> {
    work: W,
    came: Option<Result<T, LedgerError>>,
    tell: oneshot::Sender<Result<T, LedgerError>>,
}

impl<T: Send, W: Fn(&Db) -> Result<T, LedgerError> + Send> Command for Waiting<T, W> {
    fn run(&mut self, db: &Db) -> Ran {
        let came = (self.work)(db);
        let ran = match &came {
            Ok(_) => Ran::Done,
            Err(LedgerError::Conflict) => Ran::InTheWay,
            Err(_) => Ran::ToUndo,
        };
        self.came = Some(came);
        ran
    }

    fn answer(self: Box<Self>, failed: Option<&LedgerError>) {
        let answer = match (self.came, failed) {
            (_, Some(error)) if error.is_fatal() => Err(error.clone()),
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
    /// One thread for each of `connections`. `lock` and `node` end when the last
    /// command is committed.
    pub(super) fn start(connections: Vec<Db>, lock: Option<Lock>, node: Option<Node>) -> Result<Self, std::io::Error> {
        let batch_max = if connections.len() == 1 { BATCH_MAX } else { BATCH_OF_SEVERAL };
        let (queue, commands) = mpsc::channel(QUEUE_MAX);
        let shared = Arc::new((Mutex::new(commands), lock));
        let mut writer = Self { queue: Some(queue), threads: Vec::new(), node };
        for db in connections {
            let shared = Arc::clone(&shared);
            let work = move || write(&db, &shared.0, batch_max);
            writer.threads.push(std::thread::Builder::new().name("ledger".to_owned()).spawn(work)?);
        }
        Ok(writer)
    }

    pub(super) fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Runs `work` in a transaction and answers when it is on disk. An error of
    /// `work` undoes its own changes and no other command's. It may be undone and
    /// run again, so it does nothing but what the transaction undoes. Once sent it
    /// runs, also when the caller stops waiting.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&Db) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        if self.node.as_ref().is_some_and(Node::is_fenced) {
            return Err(LedgerError::Fenced);
        }
        let (tell, told) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(LedgerError::Stopped)?;
        queue.send(Box::new(Waiting { work, came: None, tell })).await.map_err(|_| LedgerError::Stopped)?;
        told.await.map_err(|_| LedgerError::Stopped)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("the ledger's writer ended in a panic");
            }
        }
    }
}

fn write(db: &Db, commands: &Mutex<mpsc::Receiver<Box<dyn Command>>>, batch_max: usize) {
    let mut batch = Vec::with_capacity(batch_max);
    // Whoever waits for commands has the others wait for it.
    let next = |batch: &mut Vec<_>| {
        let mut commands = commands.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        commands.blocking_recv_many(batch, batch_max)
    };
    while next(&mut batch) > 0 {
        let failed = commit(db, &mut batch).err();
        for command in batch.drain(..) {
            command.answer(failed.as_ref());
        }
    }
}

fn commit(db: &Db, batch: &mut [Box<dyn Command>]) -> Result<(), LedgerError> {
    let mut ended = Err(LedgerError::Conflict);
    for _ in 0..TRIES_MAX {
        ended = match together(db, batch) {
            Ok(Some(())) => Ok(()),
            // Hardly ever does one fail, and then it costs a second time instead of a mark each time.
            Ok(None) => one_by_one(db, batch),
            Err(error) => Err(error),
        };
        if !ended.as_ref().is_err_and(|error| db.may_try_again(error)) {
            break;
        }
    }
    ended
}

/// Commits all, or none: that is when one of them is to be undone.
fn together(db: &Db, batch: &mut [Box<dyn Command>]) -> Result<Option<()>, LedgerError> {
    db.begin()?;
    if !batch.iter_mut().all(|command| command.run(db) == Ran::Done) {
        db.roll_back();
        return Ok(None);
    }
    db.commit().map(Some).inspect_err(|_| db.roll_back())
}

/// Commits all but those that fail.
fn one_by_one(db: &Db, batch: &mut [Box<dyn Command>]) -> Result<(), LedgerError> {
    db.begin()?;
    batch
        .iter_mut()
        .try_for_each(|command| one(db, &mut **command))
        .and_then(|()| db.commit())
        .inspect_err(|_| db.roll_back())
}

fn one(db: &Db, command: &mut dyn Command) -> Result<(), LedgerError> {
    for tries in 1.. {
        db.mark()?;
        let ran = command.run(db);
        db.is_in_transaction()?;
        if ran != Ran::Done {
            db.undo()?;
        }
        db.unmark()?;
        if ran != Ran::InTheWay || tries == TRIES_MAX {
            break;
        }
    }
    Ok(())
}
