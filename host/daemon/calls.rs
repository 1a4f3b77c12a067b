//! What the ledger was asked and has not answered yet. The loop waits for no
//! answer: so what is asked at the same time is committed together, and a long
//! transaction holds up nothing else.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::nodes::Left;
use super::settling::Settling;
use crate::domain::{RunId, ShareName, SkipReason, Slot};
use crate::ledger::{
    Claims, DeliveryId, Exposed, LedgerError, OpenDelivery, Quarantine, Recorded, RunState, Settlement, Unfinished,
    Unready, Unsettled,
};
use crate::schedule::Plan;

/// Without any answer for this long the daemon does not get on.
const PATIENCE: Duration = Duration::from_millis(700);

type Result<T> = std::result::Result<T, LedgerError>;

/// What was asked, and what came of it.
pub(super) enum Answer {
    Planned(Plan, Result<Recorded>),
    Claimed(Result<Claims>),
    /// A delivery that is to be ended.
    Cancelled(DeliveryId, Result<Box<OpenDelivery>>),
    RunEnded(RunId, ShareName, Result<RunState>),
    Released(Result<()>),
    /// What other consign on the same ledger left, and what they want ended.
    Others(Result<Left>),
    /// Ended runs, with uploads that they left.
    Leftover(Result<Vec<Unfinished>>),
    /// Components in quarantine.
    Quarantined(Result<Vec<Quarantine>>),
    /// Customers who are not ready, and who are exposed.
    Unready(Result<(Vec<Unready>, Vec<Exposed>)>),
    /// Customers who are not configured any more.
    Forgot(Result<()>),
    /// Slots that were left out while they waited for a plugin in quarantine.
    Kept(Result<Vec<(Slot, SkipReason)>>),
    /// Deliveries that wait for their bucket.
    PutOff(Result<()>),
    /// Deliveries in doubt of which somebody knows.
    Settled(Box<Settling>, Result<std::result::Result<Vec<Settlement>, Unsettled>>),
}

pub(super) struct Calls {
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// When the last answer came, or the first question after it. A slow ledger that
    /// answers one after the other is not one that stands still.
    heard: Instant,
}

impl Default for Calls {
    fn default() -> Self {
        Self { asked: FuturesUnordered::new(), heard: Instant::now() }
    }
}

impl Calls {
    pub fn ask(&mut self, call: impl Future<Output = Answer> + Send + 'static) {
        if self.asked.is_empty() {
            self.heard = Instant::now();
        }
        self.asked.push(Box::pin(call));
    }

    /// The next answer; None when nothing is asked.
    pub async fn answer(&mut self) -> Option<Answer> {
        let answer = self.asked.next().await?;
        self.heard = Instant::now();
        Some(answer)
    }

    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// The ledger does not answer.
    pub fn is_stuck(&self) -> bool {
        !self.asked.is_empty() && self.heard.elapsed() > PATIENCE
    }
}
