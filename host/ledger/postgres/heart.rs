//! What keeps a node alive: renews its lease, and marks those dead whose own has
//! run out. On a thread and a connection of its own, because a writer that is busy
//! must not cost the lease; and no answer is waited for longer than the lease bears.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::Server;
use super::node::lease;
use super::server::Unblocked;
use crate::domain::Failure;

/// In each lease, this many heartbeats.
const BEATS: u32 = 3;
/// A heartbeat that failed is tried again after this, or sooner where the lease is short.
const AGAIN: Duration = Duration::from_secs(1);
/// What is not answered by then is asked on another connection; sooner where the lease is short.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a node that ended is remembered, if it left nothing.
const REMEMBERED: &str = "7 days";

pub(super) struct Heart {
    server: Server,
    id: i64,
    connection: Option<Unblocked>,
    fenced: Arc<AtomicBool>,
    /// Since when each renewal came in time.
    steady: Instant,
    /// The last one failed.
    failing: bool,
}

/// The time between two heartbeats.
pub(super) fn every(lease: Duration) -> Duration {
    lease / BEATS
}

impl Heart {
    pub(super) fn new(server: Server, id: i64, fenced: Arc<AtomicBool>) -> Self {
        Self { server, id, connection: None, fenced, steady: Instant::now(), failing: false }
    }

    pub(super) async fn beat_until(mut self, mut stopped: oneshot::Receiver<()>) {
        let again = AGAIN.min(self.server.lease / 10);
        loop {
            let pause = if self.failing { again } else { every(self.server.lease) };
            tokio::select! {
                () = sleep(pause) => self.beat().await,
                _ = &mut stopped => break,
            }
        }
        self.leave().await;
    }

    async fn beat(&mut self) {
        let (id, lease) = (self.id, lease(&self.server));
        // Not a change of its key, so that writers need not wait for it.
        let renew = format!(
            "UPDATE nodes SET lease_until = clock_timestamp() + {lease}
             FROM (SELECT lease_until AS until FROM nodes WHERE id = {id}) AS before
             WHERE id = {id} AND state = 'alive' RETURNING before.until > clock_timestamp() AS in_time"
        );
        // A connection that has broken since the last time is no failure yet.
        let mut renewed = self.ask(&renew).await;
        if renewed.is_err() && !self.failing {
            renewed = self.ask(&renew).await;
        }
        match renewed {
            Ok(rows) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(node = id, "the lease is renewed again");
                }
                match rows.first() {
                    None => self.end(),
                    Some(row) => self.look_at_others(row.get("in_time") == Some("t")).await,
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(node = id, error, "the lease could not be renewed; it is tried again and again");
                }
            }
        }
    }

    /// Another node has the work.
    fn end(&self) {
        if !self.fenced.swap(true, Ordering::Relaxed) {
            tracing::error!(node = self.id, "the lease ran out, and another consign has the work");
        }
    }

    /// Where this node could not renew its lease in time, the others could not either,
    /// for all it knows: they get a whole lease from then on to do so.
    async fn look_at_others(&mut self, in_time: bool) {
        if !in_time {
            self.steady = Instant::now();
        }
        if self.steady.elapsed() >= self.server.lease {
            self.reap().await;
        }
    }

    /// Marks those dead whose lease has run out, and forgets those that left nothing.
    async fn reap(&mut self) {
        // One with a transaction in flight has its row locked, and is looked at again at the next beat. Whoever has slept
        // since it renewed its own lease knows nothing of the others'.
        let own = self.id;
        let reap = format!(
            "UPDATE nodes SET state = 'dead', ended_at = clock_timestamp()
             WHERE EXISTS (SELECT 1 FROM nodes WHERE id = {own} AND state = 'alive' AND lease_until >= clock_timestamp())
             AND id IN (SELECT id FROM nodes WHERE state = 'alive' AND lease_until < clock_timestamp() FOR UPDATE SKIP LOCKED)
                 RETURNING id, name;
             DELETE FROM nodes n WHERE state <> 'alive' AND ended_at < clock_timestamp() - INTERVAL '{REMEMBERED}'
             AND NOT EXISTS (SELECT 1 FROM runs WHERE node = n.id AND state = 'running')"
        );
        match self.ask(&reap).await {
            Ok(dead) => {
                for row in dead {
                    let (node, name) = (row.get("id"), row.get("name"));
                    tracing::warn!(node, name, "the lease of another consign ran out; its work is taken over");
                }
            }
            Err(error) => tracing::warn!(error, "dead nodes could not be looked for"),
        }
    }

    async fn leave(&mut self) {
        let id = self.id;
        let leave = format!(
            "UPDATE nodes SET state = 'left', ended_at = clock_timestamp() WHERE id = {id} AND state = 'alive'"
        );
        if let Err(error) = self.ask(&leave).await {
            tracing::debug!(error, "the lease could not be given back; it runs out");
        }
    }

    /// The rows that come of it; whatever goes wrong costs the connection.
    async fn ask(&mut self, sql: &str) -> Result<Vec<SimpleQueryRow>, String> {
        let patience = ANSWER.min(self.server.lease / 4);
        let Self { server, connection, .. } = self;
        let asked = timeout(patience, async {
            let Unblocked { client, .. } = match connection {
                Some(connection) => connection,
                None => connection.insert(server.connect_unblocked(patience).await?),
            };
            client.simple_query(sql).await
        });
        let answer = match asked.await {
            Ok(answer) => answer.map_err(|error| Failure::chain(&error)),
            Err(_) => Err(format!("no answer within {} ms", patience.as_millis())),
        };
        if answer.is_err() {
            self.connection = None;
        }
        let rows = answer?.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.collect())
    }
}
