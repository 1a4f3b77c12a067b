//! What came of a run that somebody asked for, customer by customer.

use serde::{Deserialize, Serialize};

use super::{Difference, Work};
use crate::domain::{CustomerName, Failure, MANIFEST_NAME, Manifest, RunId, Slot};
use crate::ledger::Started;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub slot: Slot,
    /// None when nobody was left to deliver to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<RunId>,
    /// In order of the customers' names.
    pub outcomes: Vec<Fared>,
}

/// How one customer fared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fared {
    pub customer: CustomerName,
    pub state: Fate,
    /// Where the manifest is: `s3://bucket/key`, or a path.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub place: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub manifest: Option<Manifest>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<Failure>,
    /// What would not be made again as it was delivered.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub differences: Vec<Difference>,
    /// The run that delivered it earlier, or is about to, or in which it had its try.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub earlier: Option<RunId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    Committed,
    AlreadyCommitted,
    /// Another run is to deliver it, or is doing so.
    Busy,
    /// Its plugin is in quarantine, and it is delivered when that is over.
    Waiting,
    /// Stored whole, and not known to be complete there: of what is visible already only a marker may be lacking, or
    /// the manifest may be in doubt. The next `send` or `run` goes on from there.
    Sealed,
    Failed,
    /// To a directory.
    Written,
    /// Delivered earlier, and would be made again byte for byte.
    Same,
    /// Delivered earlier, and would not.
    Different,
}

impl Report {
    /// Of a run that is yet to come to its end: who is left alone, and why.
    pub fn of(started: &Started) -> Self {
        let earlier = |list: &[(CustomerName, RunId)], fate| {
            list.iter().map(|(customer, run)| Fared::earlier(customer.clone(), fate, *run)).collect::<Vec<_>>()
        };
        let mut outcomes = earlier(&started.committed, Fate::AlreadyCommitted);
        outcomes.extend(earlier(&started.busy, Fate::Busy));
        Self { slot: started.slot.clone(), run: started.claim.as_ref().map(|claim| claim.run), outcomes }
    }

    /// Puts the customers in the order of their names.
    pub fn sorted(mut self) -> Self {
        self.outcomes.sort_by(|a, b| a.customer.cmp(&b.customer));
        self
    }

    /// Nobody is left without the slot, or with another than would be made now.
    pub fn is_whole(&self) -> bool {
        let bad = [Fate::Failed, Fate::Sealed, Fate::Busy, Fate::Waiting, Fate::Different];
        !self.outcomes.iter().any(|fared| bad.contains(&fared.state))
    }
}

impl Fared {
    pub fn new(customer: CustomerName, state: Fate) -> Self {
        Self { customer, state, place: None, manifest: None, failure: None, differences: Vec::new(), earlier: None }
    }

    pub fn earlier(customer: CustomerName, state: Fate, run: RunId) -> Self {
        Self { earlier: Some(run), ..Self::new(customer, state) }
    }

    pub fn failed(customer: CustomerName, state: Fate, failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::new(customer, state) }
    }

    /// What was delivered earlier, made again.
    pub fn verified(customer: CustomerName, run: RunId, differences: Vec<Difference>) -> Self {
        let state = if differences.is_empty() { Fate::Same } else { Fate::Different };
        Self { differences, ..Self::earlier(customer, state, run) }
    }

    /// In the customer's bucket.
    pub fn committed(work: &Work, manifest: Manifest) -> Self {
        let place = Some(format!("s3://{}/{}", work.customer.bucket, key_of(work, &manifest)));
        Self { place, manifest: Some(manifest), ..Self::new(work.customer.name.clone(), Fate::Committed) }
    }

    /// Under a directory.
    pub fn written(work: &Work, dir: &std::path::Path, manifest: Manifest) -> Self {
        let place = dir.join(work.customer.bucket.as_str()).join(key_of(work, &manifest));
        let place = Some(place.display().to_string());
        Self { place, manifest: Some(manifest), ..Self::new(work.customer.name.clone(), Fate::Written) }
    }
}

fn key_of(work: &Work, manifest: &Manifest) -> String {
    work.manifest_key().map_or_else(|_| format!("{}/{MANIFEST_NAME}", manifest.share), |key| key.to_string())
}
