//! What the ledger says, held against the buckets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Breach, MANIFEST, Recorded, Rule, Share, Story, say};
use crate::support::wire::{Call, element};

/// Uploads that may be between S3's answer and the ledger at one instant, of one delivery.
const UNKNOWN_UPLOADS_MAX: usize = 8;

/// Less than any request is given.
const PATIENCE_MIN: Duration = Duration::from_millis(300);

impl Story {
    pub(super) fn records(&self, found: &mut Vec<Breach>) {
        self.committed(found);
        self.planned(found);
        self.slots(found);
        self.left(found);
    }

    fn committed(&self, found: &mut Vec<Breach>) {
        let mut unsaid: BTreeMap<(&str, &str), _> =
            self.manifests().map(|(bucket, key, manifest)| ((bucket, key), manifest)).collect();
        let puts = self.puts();
        for recorded in &self.ledger.deliveries {
            let Recorded { share, customer, run, state, manifest_key, rows, .. } = recorded;
            match state.as_str() {
                "committed" => {
                    let bucket = self.profiles.iter().find(|profile| profile.name == *customer);
                    let bucket = bucket.map_or("", |profile| profile.bucket.as_str());
                    let newest = self.committed_of(share, customer).map(Recorded::at).max();
                    if self.replaces(bucket, manifest_key) && newest > Some(recorded.at()) {
                        // Its manifest was there once.
                        if !puts.iter().any(|put| put.is_at(bucket, manifest_key) && put.run == *run) {
                            say(found, Rule::Ledger, format!("{recorded:?}, and it put no manifest"));
                        }
                        continue;
                    }
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

    fn planned(&self, found: &mut Vec<Breach>) {
        let planned = self.shares.iter().filter_map(|share| Some((share, self.ledger.planned.get(&share.name)?)));
        for (Share { name, replaces, every, .. }, slots) in planned {
            let Some(every) = every else { continue };
            let missed = slots.keys().zip(slots.keys().skip(1)).filter(|(at, next)| *next - *at != every * 1_000_000);
            for (at, next) in missed {
                say(found, Rule::Planned, format!("{name} has no slot between {at} and {next}"));
            }
            // One that a later one is wanted for has not begun.
            let reasons = ["", "the share was paused", "another slot of the share was at work"];
            let reasons = if *replaces { &reasons[..] } else { &reasons[..2] };
            for (at, reason) in slots.iter().filter(|(_, reason)| !reasons.contains(&reason.as_str())) {
                say(found, Rule::Planned, format!("{name} {at} was left out: {reason}"));
            }
        }
    }

    fn slots(&self, found: &mut Vec<Breach>) {
        let mut times: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
        for (share, slot, customer) in &self.ledger.slots {
            times.insert((share, slot, customer), 0);
        }
        for of in self.ledger.deliveries.iter().filter(|of| of.is_committed()) {
            *times.entry((&of.share, &of.slot, &of.customer)).or_default() += 1;
        }
        for (slot, times) in times.iter().filter(|(_, times)| **times != 1) {
            if *times > 1 || !self.is_overtaken(*slot) {
                say(found, Rule::Slots, format!("{slot:?} was delivered {times} times"));
            }
        }
    }

    /// A later slot has taken its place before it was delivered, and that is on record.
    fn is_overtaken(&self, (share, slot, customer): (&str, &str, &str)) -> bool {
        let replaces = self.shares.iter().any(|of| of.name == share && of.replaces);
        let mut of_it = self.ledger.deliveries.iter().filter(|of| of.slot == slot);
        let is_told = of_it.any(|of| of.share == share && of.customer == customer && of.state == "failed");
        let mut others = self.committed_of(share, customer);
        replaces && is_told && others.any(|of| of.at() > slot.parse().unwrap())
    }

    fn left(&self, found: &mut Vec<Breach>) {
        let known: BTreeMap<&str, &str> =
            self.ledger.uploads.iter().map(|(id, state)| (id.as_str(), state.as_str())).collect();
        for (id, _) in known.iter().filter(|(_, state)| **state == "created") {
            say(found, Rule::Uploads, format!("{id} is open, as the ledger says"));
        }
        let (unheard, gone, given_up) = (self.unheard(), self.said_to_be_gone(), self.given_up());
        let (mut unknown, mut cut_off) = (0, 0);
        for (id, parts) in &self.uploads {
            if gone.contains(id.as_str()) {
                // As consign was told, and has no reason to ask for.
            } else if known.get(id.as_str()) == Some(&"aborted") && given_up.contains(id.as_str()) {
                cut_off += 1;
            } else if let Some(state) = known.get(id.as_str()) {
                say(found, Rule::Uploads, format!("{id} is there still, and the ledger says {state}"));
            } else if self.is_probe(id) {
                // What could not be aborted, the lifecycle rule ends.
            } else if *parts > 0 {
                say(found, Rule::Uploads, format!("{id}, which nobody knows of, has {parts} parts"));
            } else if !unheard.contains(id) {
                unknown += 1;
            }
        }
        if cut_off > self.kills {
            let kills = self.kills;
            say(found, Rule::Uploads, format!("{cut_off} uploads that were given up are there, after {kills} kills"));
        }
        let most = self.kills * UNKNOWN_UPLOADS_MAX * self.profiles.len();
        if unknown > most {
            let kills = self.kills;
            say(found, Rule::Uploads, format!("{unknown} uploads are left that nobody knows of, after {kills} kills"));
        }
    }

    /// Uploads of which a fault says that there are none such.
    fn said_to_be_gone(&self) -> BTreeSet<&str> {
        let faults = self.events.iter().filter(|event| event.fault.is_some() && event.carried_out.is_none());
        let said = faults.filter(|event| event.told.is_some_and(|(_, status)| status == 404));
        said.map(|event| event.seen.upload_id()).collect()
    }

    /// Uploads of manifests that somebody else wrote at the same time. That they are given up is written down before they
    /// are aborted: who dies in between leaves one to the lifecycle rule (decision 22).
    fn given_up(&self) -> BTreeSet<&str> {
        let completions = self.events.iter().filter(|event| event.seen.call == Call::Complete);
        let contended = completions.filter(|event| event.told.is_some_and(|(_, status)| status == 409));
        contended.filter(|event| event.seen.key.ends_with(MANIFEST)).map(|event| event.seen.upload_id()).collect()
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
