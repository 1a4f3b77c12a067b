//! A node: one open ledger among those that write to one database. It has a
//! lease, renewed while the process lives. Whose lease has run out is dead for
//! ever: whoever is alive marks it so and takes its work over, and each of its
//! own transactions finds that out before it changes anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use postgres::Client;

use super::super::LedgerError;
use super::Server;

/// In each lease, this many heartbeats.
const BEATS: u32 = 3;

/// How long a node that ended is remembered, if it left nothing.
const REMEMBERED: &str = "7 days";

pub(in super::super) struct Node {
    id: i64,
    every: Duration,
    fenced: Arc<AtomicBool>,
    stop: Option<Sender<()>>,
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
        let every = server.lease / BEATS;
        let (stop, stopped) = mpsc::channel();
        let fenced = Arc::new(AtomicBool::new(false));
        let mut heart = Heart { server: server.clone(), id, client: None, fenced: fenced.clone() };
        let beat = move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                heart.beat();
            }
            heart.leave();
        };
        let thread = std::thread::Builder::new().name("ledger-lease".to_owned()).spawn(beat);
        let failed = |error| LedgerError::Files {
            action: "start a thread for the lease of",
            path: server.place.clone().into(),
            source: Arc::new(error),
        };
        Ok(Self { id, every, fenced, stop: Some(stop), thread: Some(thread.map_err(failed)?) })
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

/// What keeps a node alive, on a thread and a connection of its own: a writer
/// that is busy must not cost the lease.
struct Heart {
    server: Server,
    id: i64,
    client: Option<Client>,
    fenced: Arc<AtomicBool>,
}

impl Heart {
    fn beat(&mut self) {
        let (id, lease) = (self.id, lease(&self.server));
        // Not a change of its key, so that writers need not wait for it.
        let renew =
            format!("UPDATE nodes SET lease_until = clock_timestamp() + {lease} WHERE id = {id} AND state = 'alive'");
        match self.ask(|client| client.execute(&renew, &[])) {
            Ok(0) => {
                if !self.fenced.swap(true, Ordering::Relaxed) {
                    tracing::error!(node = id, "the lease ran out, and another consign has the work");
                }
            }
            Ok(_) => self.reap(),
            Err(error) => {
                tracing::warn!(error = %crate::domain::Failure::chain(&error), "the lease could not be renewed")
            }
        }
    }

    /// Marks those dead whose lease has run out, and forgets those that left nothing.
    fn reap(&mut self) {
        // One with a transaction in flight has its row locked, and is looked at again at the next beat.
        let dead = "UPDATE nodes SET state = 'dead', ended_at = clock_timestamp() WHERE id IN
            (SELECT id FROM nodes WHERE state = 'alive' AND lease_until < clock_timestamp() FOR UPDATE SKIP LOCKED)
            RETURNING id, name";
        let old = format!(
            "DELETE FROM nodes n WHERE state <> 'alive' AND ended_at < clock_timestamp() - INTERVAL '{REMEMBERED}'
             AND NOT EXISTS (SELECT 1 FROM runs WHERE node = n.id AND state = 'running')"
        );
        let reaped = self.ask(|client| {
            let dead = client.query(dead, &[])?;
            client.execute(&old, &[])?;
            Ok(dead)
        });
        match reaped {
            Ok(dead) => {
                for row in dead {
                    let (node, name): (i64, String) = (row.get("id"), row.get("name"));
                    tracing::warn!(node, name, "the lease of another consign ran out; its work is taken over");
                }
            }
            Err(error) => tracing::warn!(error = %error, "dead nodes could not be looked for"),
        }
    }

    fn leave(&mut self) {
        let id = self.id;
        let leave = format!(
            "UPDATE nodes SET state = 'left', ended_at = clock_timestamp() WHERE id = {id} AND state = 'alive'"
        );
        if let Err(error) = self.ask(|client| client.execute(&leave, &[])) {
            tracing::debug!(error = %error, "the lease could not be given back; it runs out");
        }
    }

    fn ask<T>(&mut self, work: impl FnOnce(&mut Client) -> Result<T, postgres::Error>) -> Result<T, postgres::Error> {
        let client = match &mut self.client {
            Some(client) => client,
            None => self.client.insert(self.server.connect(None)?),
        };
        work(client).inspect_err(|_| self.client = None)
    }
}

/// As an SQL interval.
fn lease(server: &Server) -> String {
    format!("INTERVAL '{} milliseconds'", server.lease.as_millis())
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
