//! The promises of docs/SEMANTICS.md, held against a history: every request as S3 saw
//! it, what is in the buckets when all is over, and what the ledger says.

mod bucket;
mod ledger;
mod order;
mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use serde_json::Value;

use super::wire::Event;

pub const MANIFEST: &str = "_manifest.json";
pub const SUCCESS: &str = "_SUCCESS";
pub const LATEST: &str = "latest.json";
/// The name of sessions that only try what a customer allows, and whether it lets in strangers
/// (`host/delivery/probe.rs`). Nothing completes under one.
pub const PROBE: &str = "consign-preflight";
/// The only key that is tried, in the customer's folder.
pub const PROBE_LEAF: &str = "_consign-preflight";

/// What must hold. Each is broken by a forged history of its own in `tests/faults/forged.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Only calls that `s3:PutObject` and the right to abort allow, and asking for uploads.
    Rights,
    /// Each S3 request names the account that must own the bucket.
    Owner,
    /// Each request and each object is in its customer's folder.
    Prefix,
    /// Each request is made under a session of that customer's role.
    Session,
    /// Each session is asked for with the customer's external ID.
    ExternalId,
    /// Each session is narrowed to the customer's folder.
    SessionPolicy,
    /// No row or file of another customer goes anywhere, also not into what is never completed.
    Foreign,
    /// Nothing completes before every part of the delivery is acknowledged.
    Seal,
    /// The manifest completes after all that it names.
    ManifestLast,
    /// It is put where there is none.
    ManifestCondition,
    /// And once.
    OneManifest,
    /// Nothing changes after that, until a later slot takes its place.
    Unchanged,
    /// Where slots take each other's place, and in `latest.json`, none comes after a later
    /// one, and the last one stays.
    Forward,
    /// Of such a share one slot at a time is on its way.
    OneByOne,
    /// `_SUCCESS` and `latest.json` come after their manifest, say what it says, and are there
    /// unless they were refused.
    Marker,
    /// What the manifest names is there, byte by byte, and all rows are.
    Content,
    /// Nothing is there that no manifest names.
    Unnamed,
    /// The ledger says committed where the manifest is, and only there.
    Ledger,
    /// No upload is left that the ledger knows, none that has parts, and no other
    /// but those whose answer got lost.
    Uploads,
    /// Each firing of a share is a slot, and is left out for a reason that there was.
    Planned,
    /// Every customer has every slot once; of those that take each other's place the newest.
    Slots,
}

impl Rule {
    pub const ALL: [Rule; 21] = [
        Rule::Rights,
        Rule::Owner,
        Rule::Prefix,
        Rule::Session,
        Rule::ExternalId,
        Rule::SessionPolicy,
        Rule::Foreign,
        Rule::Seal,
        Rule::ManifestLast,
        Rule::ManifestCondition,
        Rule::OneManifest,
        Rule::Unchanged,
        Rule::Forward,
        Rule::OneByOne,
        Rule::Marker,
        Rule::Content,
        Rule::Unnamed,
        Rule::Ledger,
        Rule::Uploads,
        Rule::Planned,
        Rule::Slots,
    ];
}

pub struct Breach {
    pub rule: Rule,
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// A customer as configured.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    pub role_arn: String,
    pub external_id: String,
    pub bucket: String,
    pub owner: String,
    /// With the slash at its end.
    pub prefix: String,
    /// Of each delivery of rows.
    pub rows: u64,
}

/// A share as configured. Its folder has its name.
#[derive(Clone, Debug, Default)]
pub struct Share {
    pub name: String,
    /// Its slots take each other's place.
    pub replaces: bool,
    /// `_SUCCESS` is next to each manifest.
    pub success: bool,
    /// `latest.json` leads to the newest one.
    pub latest: bool,
    /// Seconds from one firing to the next, where it fires while the story goes on, and all is caught up.
    pub every: Option<i64>,
}

/// One delivery as the ledger has it.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub share: String,
    /// The slot's instant, in the ledger's way.
    pub slot: String,
    pub customer: String,
    pub run: String,
    pub state: String,
    pub manifest_key: String,
    pub rows: u64,
}

impl Recorded {
    fn at(&self) -> i64 {
        self.slot.parse().unwrap()
    }

    fn is_committed(&self) -> bool {
        self.state == "committed"
    }
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Share, instant and customer of every slot that was not left out.
    pub slots: BTreeSet<(String, String, String)>,
    /// Of each share every slot, and why it was left out.
    pub planned: BTreeMap<String, BTreeMap<i64, String>>,
    pub deliveries: Vec<Recorded>,
    /// Id and state.
    pub uploads: Vec<(String, String)>,
}

/// All that there is to judge by, when all is over.
pub struct Story {
    pub profiles: Vec<Profile>,
    pub shares: Vec<Share>,
    pub events: Vec<Event>,
    /// By bucket and key.
    pub objects: BTreeMap<(String, String), Bytes>,
    /// Unfinished uploads and how many parts each has.
    pub uploads: BTreeMap<String, usize>,
    pub ledger: Ledger,
    /// How many processes died.
    pub kills: usize,
}

impl Story {
    pub fn breaches(&self) -> Vec<Breach> {
        let mut found = Vec::new();
        self.requests(&mut found);
        self.order(&mut found);
        self.sequence(&mut found);
        self.contents(&mut found);
        self.records(&mut found);
        found
    }

    /// Fails with every breach and what led to it.
    pub fn holds(&self, told: &str) {
        let breaches = self.breaches();
        if breaches.is_empty() {
            return;
        }
        for event in &self.events {
            println!("{}", line(event));
        }
        for recorded in &self.ledger.deliveries {
            println!("{recorded:?}");
        }
        let breaches: Vec<String> = breaches.iter().map(Breach::to_string).collect();
        panic!("{told}: {} breaches, after the above\n{}", breaches.len(), breaches.join("\n"));
    }

    fn profile(&self, bucket: &str) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.bucket == bucket)
    }

    /// Whose folder a key is in.
    fn share(&self, bucket: &str, key: &str) -> Option<&Share> {
        let inner = key.strip_prefix(&self.profile(bucket)?.prefix)?;
        self.shares.iter().find(|share| inner.split('/').next() == Some(share.name.as_str()))
    }

    fn replaces(&self, bucket: &str, key: &str) -> bool {
        self.share(bucket, key).is_some_and(|share| share.replaces)
    }

    /// What is committed to a customer of a share.
    fn committed_of<'a>(&'a self, share: &'a str, customer: &'a str) -> impl Iterator<Item = &'a Recorded> {
        let all = self.ledger.deliveries.iter().filter(|of| of.is_committed());
        all.filter(move |of| of.share == share && of.customer == customer)
    }

    fn manifests(&self) -> impl Iterator<Item = (&str, &str, Value)> {
        let manifests = self.objects.iter().filter(|((_, key), _)| key.ends_with(MANIFEST));
        manifests.map(|((bucket, key), bytes)| {
            (bucket.as_str(), key.as_str(), serde_json::from_slice(bytes).unwrap_or(Value::Null))
        })
    }
}

fn folder(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn leaf(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

/// The slot that a manifest or a pointer is of, in the ledger's way.
fn slot_in(value: &Value) -> Option<i64> {
    let text = value["slot"].as_str()?;
    Some(chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros())
}

fn say(found: &mut Vec<Breach>, rule: Rule, what: impl Into<String>) {
    found.push(Breach { rule, what: what.into() });
}

/// One event, to be read by a person.
fn line(event: &Event) -> String {
    let Event { seen, began, fault, carried_out, told, .. } = event;
    let part = seen.query.get("partNumber").map(|number| format!(" part {number}")).unwrap_or_default();
    let id: String = seen.upload_id().chars().rev().take(8).collect();
    let fault = fault.as_ref().map(|fault| format!(" [{fault:?}]")).unwrap_or_default();
    let done = carried_out.as_ref().map(|(at, answer)| {
        let code = super::wire::code_in(&answer.body).unwrap_or_default();
        format!(" done {at}: {} {code}", answer.status)
    });
    let told = told.map(|(at, status)| format!(" told {at}: {status}")).unwrap_or_default();
    let done = done.unwrap_or_default();
    format!("{began:5} {:?} {}/{}{part} …{id}{fault}{done}{told}", seen.call, seen.bucket, seen.key)
}
