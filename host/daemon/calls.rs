//! What the ledger was asked and has not answered yet. The loop waits for no
//! answer: so what is asked at the same time is committed together, and a long
//! transaction holds up nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::domain::{RunId, ShareName};
use crate::ledger::{Claims, DeliveryId, LedgerError, OpenDelivery, Recorded, RunState, Unfinished};
use crate::schedule::Plan;

/// Without an answer for this long the daemon does not get on.
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
    Others(Result<(Vec<Unfinished>, Vec<DeliveryId>)>),
    /// Ended runs, with uploads that they left.
    Leftover(Result<Vec<Unfinished>>),
}

#[derive(Default)]
pub(super) struct Calls {
    asked: FuturesUnordered<BoxFuture<'static, (u64, Answer)>>,
    /// By number, which is the order in which they were asked.
    since: BTreeMap<u64, Instant>,
    number: u64,
}

impl Calls {
    pub fn ask(&mut self, call: impl Future<Output = Answer> + Send + 'static) {
        let number = self.number;
        self.number += 1;
        self.since.insert(number, Instant::now());
        self.asked.push(Box::pin(async move { (number, call.await) }));
    }

    /// The next answer; None when nothing is asked.
    pub async fn answer(&mut self) -> Option<Answer> {
        let (number, answer) = self.asked.next().await?;
        self.since.remove(&number);
        Some(answer)
    }

    pub fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// The ledger does not answer.
    pub fn is_stuck(&self) -> bool {
        self.since.first_key_value().is_some_and(|(_, since)| since.elapsed() > PATIENCE)
    }
}
