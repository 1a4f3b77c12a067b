//! What was due since the backup was made from which a ledger was restored: nobody knows what became of it,
//! so that it is left out, on record, and each share goes on from now.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    pub unknown: Unknown,
    pub paused: bool,
}

/// Tells the ledger, which is open for that, that it was restored.
pub async fn restored(ledger: &Ledger, config: &Config, now: Instant) -> Result<Restored, LedgerError> {
    let before = ledger.cursors().await?.into_iter().map(|(share, cursor)| (share, cursor.at));
    let before: BTreeMap<ShareName, Instant> = before.collect();
    ledger.end_open().await?;
    let mut planner = intake::planner(ledger, config, now).await?;
    let customers: HashMap<&ShareName, Arc<[CustomerName]>> =
        config.shares.iter().map(|(name, share)| (name, share.to.as_slice().into())).collect();
    loop {
        let plan = planner.due(now);
        let planned = plan.due.iter().map(|due| left_out(due, customers.get(&due.slot.share)));
        ledger.plan(planned.collect(), plan.cursors.clone()).await?;
        planner.recorded(&plan);
        if !plan.more {
            break;
        }
    }
    let (mut unknown, paused) = (ledger.unknown().await?, ledger.reader().pauses().await?);
    let paused: BTreeSet<ShareName> = paused.into_iter().map(|pause| pause.share).collect();
    let names: BTreeSet<&ShareName> = config.shares.keys().chain(unknown.keys()).chain(&paused).collect();
    let names: Vec<ShareName> = names.into_iter().cloned().collect();
    let told = names.into_iter().map(|share| {
        let unknown = unknown.remove(&share).unwrap_or_default();
        // Of one that was cut off before, the cursor has moved.
        let known_until = before.get(&share).map(|at| unknown.first.map_or(*at, |first| first.min(*at)));
        Share { known_until, paused: paused.contains(&share), unknown, share }
    });
    let shares = told.collect();
    // A slot that has come and is not due yet, because of `jitter`, is still to be planned.
    let coming: HashMap<ShareName, Instant> = planner.coming(usize::MAX).into_iter().collect();
    let is_over = |share: &ShareName| coming.get(share).is_none_or(|at| *at > now);
    let all = ledger.cursors().await?.into_iter().map(|(share, _)| share);
    ledger.restored(all.filter(is_over).map(|share| (share, now)).collect()).await?;
    Ok(Restored { at: now, shares })
}

fn left_out(due: &Due, customers: Option<&Arc<[CustomerName]>>) -> Planned {
    Planned {
        overlap: Overlap::Allow,
        skip: Some(SkipReason::Restored),
        ..Planned::new(due.slot.clone(), customers.cloned().unwrap_or_default(), due.origin)
    }
}
