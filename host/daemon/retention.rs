//! Forgets what ended long ago, so that the ledger does not grow for ever.

use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, ago};
use crate::crash::{self, Point};
use crate::domain::Failure;
use crate::ledger::Ledger;

const EVERY: Duration = Duration::from_secs(3600);

/// Never ends. A failure is told and tried again at the next hour: it keeps
/// nothing from being delivered.
pub(super) async fn keep(ledger: Ledger, clock: Clock, retention: watch::Receiver<Duration>) {
    loop {
        let before = ago(clock.now(), *retention.borrow());
        match ledger.prune(before).await {
            Ok(0) => {}
            Ok(slots) => {
                crash::point(Point::Pruned);
                tracing::info!(slots, "forgot what ended before the ledger's retention");
            }
            Err(error) => tracing::warn!(error = Failure::chain(&error), "cannot forget old slots"),
        }
        tokio::time::sleep(EVERY).await;
    }
}
