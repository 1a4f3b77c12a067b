//! What was due since the backup was made from which a ledger was restored: nobody knows what became of it,
//! so that it is left out, on record, and each share goes on from now.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use super::intake;
use crate::clock::Instant;
use crate::config::{Config, Overlap};
use crate::domain::{CustomerName, ShareName, SkipReason};
use crate::ledger::{Ledger, LedgerError, Planned, Unknown};
use crate::schedule::Due;

/// What a ledger was told that was restored.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    pub at: Instant,
    /// By name: those of the configuration, and those of which the backup had something open.
    pub shares: Vec<Share>,
}

/// What is not known of a share.
#[derive(Clone, Debug, Serialize)]
pub struct Share {
    pub share: ShareName,
    /// It was planned so far; None: the backup does not know it.
    pub known_until: Option<Instant>,
    #[serde(flatten)]
    pub open: Unknown,
    /// Slots that were due since then.
    pub due: u64,
    /// The first and the last of these.
    pub first: Option<Instant>,
    pub last: Option<Instant>,
    pub paused: bool,
}

impl Share {
    fn new(share: ShareName, known_until: Option<Instant>) -> Self {
        let open = Unknown::default();
        Self { share, known_until, open, due: 0, first: None, last: None, paused: false }
    }

    fn was_due(&mut self, at: Instant) {
        self.due += 1;
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = self.last.max(Some(at));
    }
}

/// Tells the ledger, which is open for that, that it was restored.
pub async fn restored(ledger: &Ledger, config: &Config, now: Instant) -> Result<Restored, LedgerError> {
    let before = ledger.cursors().await?.into_iter().map(|(share, cursor)| (share, cursor.at));
    let before: BTreeMap<ShareName, Instant> = before.collect();
    let names = config.shares.keys().map(|name| (name.clone(), before.get(name).copied()));
    let mut shares: BTreeMap<ShareName, Share> =
        names.map(|(name, until)| (name.clone(), Share::new(name, until))).collect();
    for (name, open) in ledger.end_open().await? {
        let until = before.get(&name).copied();
        shares.entry(name.clone()).or_insert_with(|| Share::new(name, until)).open = open;
    }
    let mut planner = intake::planner(ledger, config, now).await?;
    let customers: HashMap<&ShareName, Arc<[CustomerName]>> =
        config.shares.iter().map(|(name, share)| (name, share.to.as_slice().into())).collect();
    loop {
        let plan = planner.due(now);
        for due in &plan.due {
            let name = &due.slot.share;
            shares.entry(name.clone()).or_insert_with(|| Share::new(name.clone(), None)).was_due(due.slot.at);
        }
        let planned = plan.due.iter().map(|due| left_out(due, customers.get(&due.slot.share)));
        ledger.plan(planned.collect(), plan.cursors.clone()).await?;
        planner.recorded(&plan);
        if !plan.more {
            break;
        }
    }
    for pause in ledger.reader().pauses().await? {
        shares.entry(pause.share.clone()).or_insert_with(|| Share::new(pause.share, None)).paused = true;
    }
    // A slot that has come and is not due yet, because of `jitter`, is still to be planned.
    let coming: HashMap<ShareName, Instant> = planner.coming(usize::MAX).into_iter().collect();
    let is_over = |share: &ShareName| coming.get(share).is_none_or(|at| *at > now);
    let all = ledger.cursors().await?.into_iter().map(|(share, _)| share);
    ledger.restored(all.filter(is_over).map(|share| (share, now)).collect()).await?;
    Ok(Restored { at: now, shares: shares.into_values().collect() })
}

fn left_out(due: &Due, customers: Option<&Arc<[CustomerName]>>) -> Planned {
    Planned {
        overlap: Overlap::Allow,
        skip: Some(SkipReason::Restored),
        ..Planned::new(due.slot.clone(), customers.cloned().unwrap_or_default(), due.origin)
    }
}
