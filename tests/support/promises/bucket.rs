//! What is in the buckets when all is over.

use std::collections::BTreeSet;

use serde_json::Value;

use super::order::Put;
use super::requests::{at, bare, is_done};
use super::{Breach, LATEST, MANIFEST, Profile, Rule, SUCCESS, Story, folder, leaf, say, slot_in};
use crate::support::proxy::{canaries, stamps};
use crate::support::wire::element;

impl Story {
    pub(super) fn contents(&self, found: &mut Vec<Breach>) {
        let mut named = BTreeSet::new();
        let puts = self.puts();
        for (bucket, key, manifest) in self.manifests() {
            let Some(profile) = self.profile(bucket) else { continue };
            let objects: Vec<&Value> = manifest["objects"].as_array().into_iter().flatten().collect();
            let mut rows = 0;
            for object in &objects {
                let name = object["key"].as_str().unwrap_or_default();
                rows += object["rows"].as_u64().unwrap_or_default();
                if let Some(why) = self.differs(profile, (object, name), slot_in(&manifest)) {
                    say(found, Rule::Content, format!("{bucket}/{name} {why}"));
                }
                if folder(name) != folder(key) || !named.insert((bucket.to_owned(), name.to_owned())) {
                    say(found, Rule::Content, format!("{bucket}/{key} names {name}, which is not its own"));
                }
            }
            // Files have none.
            let expected = if manifest["plugin"].is_object() { profile.rows } else { 0 };
            if manifest["customer"] != profile.name.as_str() || manifest["rows"] != rows || rows != expected {
                say(found, Rule::Content, format!("{bucket}/{key}: {rows} rows of {expected}: {manifest}"));
            }
        }
        for ((bucket, key), bytes) in &self.objects {
            let Some(profile) = self.profile(bucket) else {
                say(found, Rule::Prefix, format!("{bucket} is nobody's"));
                continue;
            };
            if !key.starts_with(&profile.prefix) {
                say(found, Rule::Prefix, format!("{bucket}/{key} is there"));
            }
            if canaries(bytes).iter().any(|name| *name != profile.name) {
                say(found, Rule::Foreign, format!("{bucket}/{key} is there"));
            }
            if !named.contains(&(bucket.clone(), key.clone())) && !self.is_beside(&puts, bucket, key) {
                say(found, Rule::Unnamed, format!("{bucket}/{key}"));
            }
        }
    }

    /// Whether an object need not be named: it is a manifest, what belongs to one, or what an
    /// earlier slot had and the one that took its place has not.
    fn is_beside(&self, puts: &[Put<'_>], bucket: &str, key: &str) -> bool {
        let Some(share) = self.share(bucket, key) else { return false };
        let manifest = format!("{}/{MANIFEST}", folder(key));
        let last = |key: &str| puts.iter().rfind(|put| put.is_at(bucket, key));
        match leaf(key) {
            MANIFEST => true,
            SUCCESS => share.success && last(&manifest).is_some(),
            LATEST => share.latest,
            _ => {
                share.replaces
                    && last(key).zip(last(&manifest)).is_some_and(|(object, manifest)| object.slot < manifest.slot)
            }
        }
    }

    /// How an object is not what its manifest says.
    fn differs(&self, profile: &Profile, (object, name): (&Value, &str), slot: Option<i64>) -> Option<String> {
        let Some(bytes) = self.objects.get(&(profile.bucket.clone(), name.to_owned())) else {
            return Some("is not there".to_owned());
        };
        let (size, sum) = (bytes.len() as u64, crate::cli::world::crc64nvme(bytes));
        if object["bytes"] != size || object["checksum_crc64nvme"] != sum.as_str() {
            return Some(format!("has {size} bytes, {sum}: {object}"));
        }
        let rows = object["rows"].as_u64().unwrap_or_default();
        let canaries = canaries(bytes).len() as u64;
        if rows > 0 && rows != canaries {
            return Some(format!("has {canaries} rows, not {rows}"));
        }
        if let Some(other) = stamps(bytes).into_iter().find(|of| Some(*of) != slot) {
            return Some(format!("has rows of slot {other}, not {slot:?}"));
        }
        let here = |event: &&super::Event| event.seen.bucket == profile.bucket && event.seen.key == name;
        let last = self.completions().filter(here).filter(|event| is_done(event)).max_by_key(|event| at(event))?;
        let (_, answer) = last.carried_out.as_ref()?;
        let etag = element(std::str::from_utf8(&answer.body).unwrap_or_default(), "ETag").unwrap_or_default();
        let told = object["etag"].as_str().unwrap_or_default();
        // One whose answer was lost has none.
        (!told.is_empty() && bare(told) != bare(&etag)).then(|| format!("has the ETag {etag}, not {told}"))
    }
}
