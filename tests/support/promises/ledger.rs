//! What the ledger says, held against the buckets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Breach, Recorded, Rule, Story, say};
use crate::support::wire::{Call, element};

/// Uploads that may be between S3's answer and the ledger at one instant, of one delivery.
const UNKNOWN_UPLOADS_MAX: usize = 8;

/// Less than any request is given.
const PATIENCE_MIN: Duration = Duration::from_millis(300);

impl Story {
    pub(super) fn records(&self, found: &mut Vec<Breach>) {
        self.committed(found);
        self.slots(found);
        self.left(found);
    }

    fn committed(&self, found: &mut Vec<Breach>) {
        let mut unsaid: BTreeMap<(&str, &str), _> =
            self.manifests().map(|(bucket, key, manifest)| ((bucket, key), manifest)).collect();
        for recorded in &self.ledger.deliveries {
            let Recorded { customer, run, state, manifest_key, rows, .. } = recorded;
            match state.as_str() {
                "committed" => {
                    let bucket = self.profiles.iter().find(|profile| profile.name == *customer);
                    let bucket = bucket.map_or("", |profile| profile.bucket.as_str());
                    match unsaid.remove(&(bucket, manifest_key.as_str())) {
                        Some(manifest) if manifest["run"] == run.as_str() && manifest["rows"] == *rows => {}
                        manifest => say(found, Rule::Ledger, format!("{recorded:?}, and its manifest is {manifest:?}")),
                    }
                }
                "failed" => {}
                state => say(found, Rule::Ledger, format!("{customer} by {run} is {state} when all is over")),
            }
        }
        for (bucket, key) in unsaid.keys() {
            say(found, Rule::Ledger, format!("{bucket}/{key} is not committed"));
        }
    }

    fn slots(&self, found: &mut Vec<Breach>) {
        let mut times: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
        for (share, slot, customer) in &self.ledger.slots {
            times.insert((share, slot, customer), 0);
        }
        for of in self.ledger.deliveries.iter().filter(|of| of.state == "committed") {
            *times.entry((&of.share, &of.slot, &of.customer)).or_default() += 1;
        }
        for (slot, times) in times.iter().filter(|(_, times)| **times != 1) {
            say(found, Rule::Slots, format!("{slot:?} was delivered {times} times"));
        }
    }

    fn left(&self, found: &mut Vec<Breach>) {
        let known: BTreeMap<&str, &str> =
            self.ledger.uploads.iter().map(|(id, state)| (id.as_str(), state.as_str())).collect();
        for (id, _) in known.iter().filter(|(_, state)| **state == "created") {
            say(found, Rule::Uploads, format!("{id} is open, as the ledger says"));
        }
        let unheard = self.unheard();
        let mut unknown = 0;
        for (id, parts) in &self.uploads {
            if let Some(state) = known.get(id.as_str()) {
                say(found, Rule::Uploads, format!("{id} is there still, and the ledger says {state}"));
            } else if self.is_probe(id) {
                // What could not be aborted, the lifecycle rule ends.
            } else if *parts > 0 {
                say(found, Rule::Uploads, format!("{id}, which nobody knows of, has {parts} parts"));
            } else if !unheard.contains(id) {
                unknown += 1;
            }
        }
        let most = self.kills * UNKNOWN_UPLOADS_MAX * self.profiles.len();
        if unknown > most {
            let kills = self.kills;
            say(found, Rule::Uploads, format!("{unknown} uploads are left that nobody knows of, after {kills} kills"));
        }
    }

    /// Uploads whose creation was answered to nobody.
    fn unheard(&self) -> BTreeSet<String> {
        let creations = self.events.iter().filter(|event| event.seen.call == Call::Create);
        // Late or in drips, it may have come when nobody waited any more.
        let unheard =
            creations.filter(|event| event.told.is_none() || event.fault.is_some() || event.took > PATIENCE_MIN);
        let answers = unheard.filter_map(|event| event.carried_out.as_ref());
        answers.filter_map(|(_, answer)| element(std::str::from_utf8(&answer.body).ok()?, "UploadId")).collect()
    }
}
