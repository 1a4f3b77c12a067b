//! A node: one open ledger among those that write to one database. It has a
//! lease, renewed while the process lives. Whose lease has run out is dead for
//! ever: whoever is alive marks it so and takes its work over, and each of its
//! own transactions finds that out before it changes anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use postgres::Client;
use tokio::sync::oneshot;

use super::super::LedgerError;
use super::Server;
use super::heart::{self, Heart};

pub(in super::super) struct Node {
    id: i64,
    every: Duration,
    fenced: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    pub(super) fn begin(server: &Server, client: &mut Client) -> Result<Self, LedgerError> {
        let name = format!("{} process {}", hostname(), std::process::id());
        let insert = format!(
            "INSERT INTO nodes (name, state, lease_until) VALUES ($1, 'alive', clock_timestamp() + {}) RETURNING id",
            lease(server)
        );
        let id: i64 = client.query_one(&insert, &[&name]).map_err(|error| server.refused(&error))?.get(0);
        let fenced = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = oneshot::channel();
        let failed = |error| LedgerError::Files {
            action: "start a thread for the lease of",
            path: server.place.clone().into(),
            source: Arc::new(error),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let heart = Heart::new(server.clone(), id, fenced.clone());
        let beat = move || runtime.block_on(heart.beat_until(stopped));
        let thread = std::thread::Builder::new().name("ledger-lease".to_owned()).spawn(beat).map_err(failed)?;
        Ok(Self { id, every: heart::every(server.lease), fenced, stop: Some(stop), thread: Some(thread) })
    }

    pub(in super::super) fn id(&self) -> i64 {
        self.id
    }

    /// The time between two heartbeats.
    pub(in super::super) fn every(&self) -> Duration {
        self.every
    }

    /// Another node has this one's work: nothing can be written any more.
    pub(in super::super) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }
}

impl Drop for Node {
    /// Leaves at once, so that nobody waits for the lease to run out.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the ledger's lease ended in a panic");
        }
    }
}

/// As an SQL interval.
pub(super) fn lease(server: &Server) -> String {
    format!("INTERVAL '{} milliseconds'", server.lease.as_millis())
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
