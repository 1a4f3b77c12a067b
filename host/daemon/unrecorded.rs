//! What has happened and is not yet written down.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::job::Job;
use crate::domain::RunId;
use crate::ledger::DeliveryId;

/// What the ledger had no room for, or did not answer: taken up again after a while.
#[derive(Default)]
pub(super) struct Unrecorded {
    pub deliveries: BTreeMap<DeliveryId, Job>,
    pub runs: BTreeSet<RunId>,
    /// What an earlier process held.
    pub release: bool,
    pub since: Option<(Instant, &'static str)>,
}

impl Unrecorded {
    /// From now on there is something in it; `why` the ledger could not take it.
    pub(super) fn begin(&mut self, why: &'static str) {
        self.since.get_or_insert_with(|| (Instant::now(), why));
    }
}
