//! What other consign on the same ledger leave and say.

use tokio::time::Instant;

use super::Desk;
use crate::ledger::LedgerError;

impl Desk {
    /// With each heartbeat of the ledger, if it has any: takes up what is left of
    /// a consign that is no more, and ends what another one has given up. Of its
    /// own it finds what it was not told that it has: the answer was lost.
    pub(super) async fn look_after_others(&mut self) -> Result<(), LedgerError> {
        let Some(every) = self.ledger.heartbeat() else { return Ok(()) };
        if self.looked.is_some_and(|looked| looked.elapsed() < every) {
            return Ok(());
        }
        let known = self.open.keys().chain(&self.unrecorded.runs).copied();
        let left = self.ledger.left_by_others(known.collect()).await?;
        self.take_up(left).await?;
        for delivery in self.ledger.cancelled().await? {
            self.cancel(delivery).await?;
        }
        self.looked = Some(Instant::now());
        Ok(())
    }
}
