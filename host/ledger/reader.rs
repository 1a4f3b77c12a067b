//! Reading, on a thread and a connection of its own: it waits for nobody who writes,
//! and for none of the threads that deliveries hold.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;

use super::db::Db;
use super::{LedgerError, read, upkeep};
use crate::clock::Instant;
use crate::domain::RunId;

/// The ledger, open for reading: sees what was committed when it asks. Clones
/// share one connection, which answers one after the other.
#[derive(Clone)]
pub struct Reader(Arc<Asked>);

type Question = Box<dyn FnOnce(&Db) + Send>;

struct Asked {
    questions: Option<Sender<Question>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub(super) fn start(db: Db) -> std::io::Result<Self> {
        let (questions, asked) = channel::<Question>();
        let answer = move || {
            for question in asked {
                // A fault is the end of one answer and not of all that come after it.
                drop(catch_unwind(AssertUnwindSafe(|| question(&db))));
            }
        };
        let thread = Builder::new().name("ledger-reader".to_owned()).spawn(answer)?;
        Ok(Self(Arc::new(Asked { questions: Some(questions), thread: Some(thread) })))
    }

    /// Runs whose id begins like this, at most `limit`.
    pub async fn runs_beginning(&self, id: &str, limit: usize) -> Result<Vec<RunId>, LedgerError> {
        let id = id.to_owned();
        self.read(move |ledger| read::runs_beginning(ledger, &id, limit)).await
    }

    /// Slots that are due and that nobody has begun.
    pub async fn pending(&self, now: Instant) -> Result<u64, LedgerError> {
        self.read(move |ledger| read::pending(ledger, now)).await
    }

    /// When the last run began, by the clock of whoever began it.
    pub async fn last_begun(&self) -> Result<Option<Instant>, LedgerError> {
        self.read(upkeep::last_begun).await
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Db) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (tell, told) = oneshot::channel();
        let question: Question = Box::new(move |db| {
            // Who asked may have gone meanwhile.
            if !tell.is_closed() {
                let _ = tell.send(db.snapshot(work));
            }
        });
        let questions = self.0.questions.as_ref().ok_or(LedgerError::Stopped)?;
        questions.send(question).map_err(|_| LedgerError::Stopped)?;
        told.await.map_err(|_| LedgerError::Unanswered)?
    }
}

impl Drop for Asked {
    /// The connection is closed then, so that another one can be the last.
    fn drop(&mut self) {
        drop(self.questions.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the ledger's reader ended in a panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::clock::Clock;
    use crate::ledger::Ledger;

    const SOON: Duration = Duration::from_secs(20);

    /// Neither for a caller who reads for long, nor for the threads that deliveries hold.
    #[test]
    fn what_deliveries_ask_waits_for_nobody() {
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
        let runtime = threads.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), Clock::fixed(Instant::UNIX_EPOCH)).unwrap();
        let (go_on, goes_on) = channel::<()>();
        let (caller_goes_on, caller_waits) = channel::<()>();
        runtime.block_on(async {
            let held = tokio::task::spawn_blocking(move || goes_on.recv());
            timeout(SOON, ledger.reader().pauses()).await.expect("a thread is missing").unwrap();
            let reader = ledger.reader().clone();
            let long = tokio::spawn(async move { reader.read(move |_| Ok(caller_waits.recv())).await });
            tokio::task::yield_now().await;
            timeout(SOON, ledger.cursors()).await.expect("a caller is in the way").unwrap();
            drop((go_on, caller_goes_on));
            assert!(held.await.unwrap().is_err() && long.await.unwrap().unwrap().is_err());
        });
    }

    #[tokio::test]
    async fn a_fault_costs_one_answer() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), Clock::fixed(Instant::UNIX_EPOCH)).unwrap();
        let fault = ledger.reader().read::<()>(|_| std::panic::panic_any("a fault")).await;
        assert!(matches!(&fault, Err(LedgerError::Unanswered)));
        assert!(!fault.unwrap_err().is_fatal());
        ledger.reader().pauses().await.unwrap();
    }
}
