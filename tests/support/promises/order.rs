//! In which order objects became what they are: the manifest after what it names,
//! what leads to it after the manifest, a later slot after an earlier one.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use serde_json::Value;

use super::requests::{at, bare, is_done, listed};
use super::{Breach, LATEST, MANIFEST, PROBE, Recorded, Rule, SUCCESS, Share, Story, folder, leaf, say, slot_in};
use crate::support::wire::{Call, Event};

/// An upload that became an object.
pub(super) struct Put<'a> {
    pub event: &'a Event,
    pub at: u64,
    pub run: String,
    /// In the ledger's way; None of a run that it does not know.
    pub slot: Option<i64>,
}

impl Put<'_> {
    pub fn is_at(&self, bucket: &str, key: &str) -> bool {
        self.event.seen.bucket == bucket && self.event.seen.key == key
    }

    fn key(&self) -> &str {
        &self.event.seen.key
    }

    fn is_beside(&self, other: &Put<'_>) -> bool {
        self.event.seen.bucket == other.event.seen.bucket && folder(self.key()) == folder(other.key())
    }
}

impl Story {
    /// In the order of time. A completion that is asked for again answers as it did, and changes nothing.
    pub(super) fn puts(&self) -> Vec<Put<'_>> {
        let (run_of, mut known) = (self.runs(), HashSet::new());
        let slots: HashMap<&str, i64> = self.ledger.deliveries.iter().map(|of| (of.run.as_str(), of.at())).collect();
        let mut done: Vec<&Event> = self.completions().filter(|event| is_done(event)).collect();
        done.sort_by_key(|event| at(event));
        done.retain(|event| known.insert(event.seen.upload_id()));
        let put = |event| {
            let run = run_of(event);
            Put { event, at: at(event), slot: slots.get(run.as_str()).copied(), run }
        };
        done.into_iter().map(put).collect()
    }

    pub(super) fn sequence(&self, found: &mut Vec<Breach>) {
        let puts = self.puts();
        for (bucket, key, _) in self.manifests() {
            if !puts.iter().any(|put| put.is_at(bucket, key)) {
                say(found, Rule::ManifestLast, format!("{bucket}/{key} was put by nobody"));
            }
        }
        let mut times: BTreeMap<_, usize> = BTreeMap::new();
        for (number, put) in puts.iter().enumerate().filter(|(_, put)| leaf(put.key()) == MANIFEST) {
            let (bucket, key) = (&put.event.seen.bucket, put.key());
            let replaces = self.replaces(bucket, key);
            // Where slots replace each other a delivery may put it again, and nothing else: what tells it
            // elsewhere that it has, is there already.
            let before = puts[..number].iter().rfind(|before| before.is_beside(put));
            let again = replaces && before.is_some_and(|before| before.is_at(bucket, key) && before.run == put.run);
            *times.entry((bucket, key, put.slot.filter(|_| replaces))).or_default() += usize::from(!again);
            self.manifest_is_last(&puts, put, found);
            for later in puts[number + 1..].iter().filter(|later| later.is_beside(put)) {
                let is_marker = leaf(later.key()) == SUCCESS && later.run == put.run;
                if leaf(later.key()) != MANIFEST && !is_marker && (!replaces || later.slot == put.slot) {
                    say(found, Rule::Unchanged, format!("{bucket}/{} at {}", later.key(), later.at));
                }
                if replaces && later.slot < put.slot {
                    let (key, at) = (later.key(), later.at);
                    say(found, Rule::Forward, format!("{bucket}/{key} at {at} is of an earlier slot than {}", put.at));
                }
            }
        }
        for ((bucket, key, _), times) in times.into_iter().filter(|(_, times)| *times > 1) {
            say(found, Rule::OneManifest, format!("{bucket}/{key} was put {times} times"));
        }
        self.one_by_one(found);
        self.markers_come_after(&puts, found);
        self.newest_stays(found);
    }

    /// From a run's first completion to its last it is sealed, and no other has begun.
    fn one_by_one(&self, found: &mut Vec<Breach>) {
        let run_of = self.runs();
        let mut works: BTreeMap<_, BTreeMap<String, Vec<&Event>>> = BTreeMap::new();
        let is_work = |event: &&Event| matches!(event.seen.call, Call::Create | Call::Part | Call::Complete);
        for event in self.events.iter().filter(is_work) {
            let (bucket, key) = (&event.seen.bucket, &event.seen.key);
            if let Some(share) = self.share(bucket, key).filter(|share| share.replaces || share.latest) {
                works.entry((bucket, &share.name)).or_default().entry(run_of(event)).or_default().push(event);
            }
        }
        for ((bucket, share), runs) in &works {
            for (run, events) in runs {
                let completions = events.iter().filter(|event| event.seen.call == Call::Complete);
                let began: Vec<u64> = completions.map(|event| event.began).collect();
                let Some((first, last)) = began.iter().min().zip(began.iter().max()) else { continue };
                let others = runs.iter().filter(|(other, _)| *other != run).flat_map(|(_, events)| events);
                for other in others.filter(|other| (*first..*last).contains(&other.began)) {
                    let (call, at) = (other.seen.call, other.began);
                    say(found, Rule::OneByOne, format!("{bucket} {share}: {call:?} at {at}, while {run} is sealed"));
                }
            }
        }
    }

    /// All that a manifest names is there when it is put, and by the same run.
    fn manifest_is_last(&self, puts: &[Put<'_>], put: &Put<'_>, found: &mut Vec<Breach>) {
        let bucket = &put.event.seen.bucket;
        let Some(manifest) = self.json_of(put.event) else {
            return say(found, Rule::ManifestLast, format!("{bucket}/{} is no manifest", put.key()));
        };
        let objects = manifest["objects"].as_array().into_iter().flatten();
        for name in objects.filter_map(|object| object["key"].as_str()) {
            let before = puts.iter().rfind(|of| of.is_at(bucket, name) && of.at < put.event.began);
            if before.is_none_or(|before| before.run != put.run) {
                let at = put.event.began;
                say(found, Rule::ManifestLast, format!("{bucket}/{name} was not complete when {at} was put"));
            }
        }
    }

    fn markers_come_after(&self, puts: &[Put<'_>], found: &mut Vec<Breach>) {
        for event in self.completions() {
            let (bucket, key) = (&event.seen.bucket, &event.seen.key);
            let manifest = match leaf(key) {
                SUCCESS => format!("{}/{MANIFEST}", folder(key)),
                LATEST => {
                    let pointer = self.json_of(event).unwrap_or_default();
                    pointer["manifest"].as_str().unwrap_or_default().to_owned()
                }
                _ => continue,
            };
            if !puts.iter().any(|put| put.is_at(bucket, &manifest) && put.at < event.began) {
                say(found, Rule::Marker, format!("{bucket}/{key} at {} came before {manifest:?}", event.began));
            }
        }
        // What leads to the newest slot does not follow a later one that is there already.
        for (number, put) in puts.iter().enumerate().filter(|(_, put)| leaf(put.key()) == LATEST) {
            let share = |put: &Put<'_>| self.share(&put.event.seen.bucket, put.key()).map(|share| &share.name);
            let is_of_it = |other: &&Put<'_>| {
                matches!(leaf(other.key()), MANIFEST | LATEST)
                    && other.event.seen.bucket == put.event.seen.bucket
                    && share(other) == share(put)
            };
            if puts[..number].iter().filter(is_of_it).any(|before| before.slot > put.slot) {
                let bucket = &put.event.seen.bucket;
                say(found, Rule::Forward, format!("{bucket}/{} at {} went back", put.key(), put.at));
            }
        }
    }

    /// In the end.
    fn newest_stays(&self, found: &mut Vec<Breach>) {
        for (bucket, key, _) in self.manifests() {
            let marker = format!("{}/{SUCCESS}", folder(key));
            let there = self.objects.get(&(bucket.to_owned(), marker.clone()));
            let wanted = self.share(bucket, key).is_some_and(|share| share.success);
            let refused = || self.is_refused(bucket, &marker, None);
            if there.is_some_and(|bytes| !bytes.is_empty()) || (wanted && there.is_none() && !refused()) {
                say(found, Rule::Marker, format!("{bucket}/{marker}: {there:?}"));
            }
        }
        for profile in &self.profiles {
            for share in &self.shares {
                let newest = self.committed_of(&share.name, &profile.name).max_by_key(|of| of.at());
                let Some(newest) = newest else { continue };
                let bucket = &profile.bucket;
                if share.replaces {
                    let manifest = self.json_at(bucket, &newest.manifest_key);
                    if manifest.as_ref().and_then(slot_in) != Some(newest.at()) {
                        say(found, Rule::Forward, format!("{bucket}/{}: {newest:?}", newest.manifest_key));
                    }
                }
                if share.latest {
                    self.pointer_leads(bucket, (share, &profile.prefix), newest, found);
                }
            }
        }
    }

    fn pointer_leads(&self, bucket: &str, (share, prefix): (&Share, &str), newest: &Recorded, found: &mut Vec<Breach>) {
        let key = format!("{prefix}{}/{LATEST}", share.name);
        let refused = self.is_refused(bucket, &key, Some(&newest.run));
        let Some(pointer) = self.json_at(bucket, &key) else {
            if !refused {
                say(found, Rule::Marker, format!("{bucket}/{key} is not there"));
            }
            return;
        };
        let manifest = pointer["manifest"].as_str().and_then(|manifest| self.json_at(bucket, manifest));
        let slot = manifest.as_ref().and_then(slot_in);
        if slot.is_none() || slot != slot_in(&pointer) {
            say(found, Rule::Marker, format!("{bucket}/{key} leads to {manifest:?}: {pointer}"));
        } else if slot != Some(newest.at()) && !refused {
            say(found, Rule::Forward, format!("{bucket}/{key} is not of {newest:?}: {pointer}"));
        }
    }

    /// Whoever asked was told that it may not be completed, or got no session to ask.
    fn is_refused(&self, bucket: &str, key: &str, run: Option<&str>) -> bool {
        let run_of = self.runs();
        let here = self.completions().filter(|event| event.seen.bucket == bucket && event.seen.key == key);
        let mut by_run = here.filter(|event| run.is_none_or(|run| run_of(event) == run));
        let is_refused = |event: &Event| event.told.is_some_and(|(_, status)| status == 403);
        let role = self.profile(bucket).map(|profile| &profile.role_arn);
        // Of what only tries, a refusal says nothing: that of a stranger is as it should be.
        let is_to_deliver = |event: &&Event| {
            let asked = event.seen.form();
            asked.get("RoleArn") == role && asked.get("RoleSessionName").is_none_or(|name| name != PROBE)
        };
        let sessions = self.events.iter().filter(|event| event.seen.call == Call::AssumeRole);
        by_run.any(is_refused) || sessions.filter(is_to_deliver).any(is_refused)
    }

    fn json_at(&self, bucket: &str, key: &str) -> Option<Value> {
        serde_json::from_slice(self.objects.get(&(bucket.to_owned(), key.to_owned()))?).ok()
    }

    fn json_of(&self, completion: &Event) -> Option<Value> {
        serde_json::from_slice(self.body(completion)?).ok()
    }

    /// What an upload of one part holds.
    fn body(&self, completion: &Event) -> Option<&Bytes> {
        let (number, etag) = listed(completion).into_iter().next()?;
        let is_it = |part: &&Event| {
            let seen = &part.seen;
            let here = seen.upload_id() == completion.seen.upload_id();
            let told = part.carried_out.as_ref().and_then(|(_, answer)| answer.header("etag"));
            here && seen.query.get("partNumber") == Some(&number) && told.map(bare) == Some(bare(&etag))
        };
        let parts = self.events.iter().filter(|event| event.seen.call == Call::Part);
        parts.filter(is_it).map(|part| &part.seen.body).next()
    }
}
