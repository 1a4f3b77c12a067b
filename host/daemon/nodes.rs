//! What other consign on the same ledger leave and say.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::calls::Answer;
use super::desk::Desk;
use crate::crash::{self, Point};
use crate::domain::{Failure, RunId};
use crate::ledger::{DeliveryId, LedgerError, Unfinished};

/// What others have left and said.
pub(super) struct Left {
    unfinished: Vec<Unfinished>,
    cancelled: Vec<DeliveryId>,
    /// Slots that waited for nothing, between them.
    released: bool,
}

/// What has been found of others.
#[derive(Default)]
pub(super) struct Others {
    looking: bool,
    looked: Option<Instant>,
    /// Of this process's own, found once: it may be on its way from the ledger.
    seen: BTreeSet<RunId>,
}

impl Desk {
    /// With each heartbeat of the ledger, if it has any: looks for what is left of a
    /// consign that is no more, and for what another one has given up. Of its own it
    /// finds what it was not told that it has: the answer was lost.
    pub fn look_after_others(&mut self) {
        let Some(every) = self.ledger.heartbeat() else { return };
        if self.others.looking || self.others.looked.is_some_and(|looked| looked.elapsed() < every) {
            return;
        }
        self.others.looking = true;
        let known = self.open.keys().chain(self.unrecorded.runs().keys()).copied().collect();
        let ledger = self.ledger.clone();
        self.calls.ask(async move {
            let found = async {
                let (unfinished, cancelled) = (ledger.left_by_others(known).await?, ledger.cancelled().await?);
                Ok(Left { unfinished, cancelled, released: ledger.release_idle().await? })
            };
            Answer::Others(found.await)
        });
    }

    pub fn others_left(&mut self, found: Result<Left, LedgerError>) -> Result<(), LedgerError> {
        self.others.looking = false;
        self.others.looked = Some(Instant::now());
        let Left { unfinished: left, cancelled, released } = match found {
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                // It is looked for again with the next heartbeat.
                tracing::debug!(error = Failure::chain(&error), "what others left could not be read");
                return Ok(());
            }
            Ok(found) => found,
        };
        if left.iter().any(|unfinished| unfinished.taken_over) {
            crash::point(Point::TakenOver);
        }
        let seen = std::mem::take(&mut self.others.seen);
        for unfinished in left {
            let run = unfinished.run;
            if self.open.contains_key(&run) || self.unrecorded.runs().contains_key(&run) {
                continue;
            }
            // What was another's until now is on its way to nobody.
            match unfinished.taken_over || seen.contains(&run) {
                true => self.take_up(unfinished),
                false => drop(self.others.seen.insert(run)),
            }
        }
        for delivery in cancelled {
            self.look_at_cancelled(delivery);
        }
        if released {
            self.intake.look_for_pending();
        }
        Ok(())
    }
}
