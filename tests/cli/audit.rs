//! What holds after any number of crashes: the ledger, the buckets and the
//! manifests say the same, and nothing is left that nobody knows of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::world::{self, World};

/// Uploads that may be between S3's answer and the ledger at one instant: those
/// that one delivery creates at the same time.
const UNKNOWN_UPLOADS_MAX: usize = 8;

/// The key of an upload by which a customer is looked at, and what its one part holds.
const PROBE: (&str, &str) = ("_consign-preflight", "consign preflight");

pub struct Audit<'a> {
    pub world: &'a World,
    /// Who gets every slot, and how many rows; their buckets are `NAME-data`.
    pub customers: &'a [(&'a str, u64)],
    /// Processes that died at an instant of nobody's choosing.
    pub kills: usize,
    /// Runs may have failed, if another one made up for them.
    pub failed: bool,
}

impl Audit<'_> {
    /// Every slot was committed once for each customer; there is one manifest for
    /// each and nothing that no manifest names; no upload is left but what a kill
    /// kept the ledger from hearing of, and those are empty, or of a look at a
    /// customer that was killed; the ledger is whole.
    /// Returns the slots in order.
    pub fn slots(&self) -> Vec<DateTime<Utc>> {
        let manifests: BTreeMap<&str, BTreeMap<String, Value>> =
            self.customers.iter().map(|(name, _)| (*name, world::manifests(&self.bucket(name)))).collect();
        let (mut slots, mut delivered, mut uploads) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for run in self.world.runs() {
            let state = run["state"].as_str().unwrap();
            assert!(state == "succeeded" || (self.failed && state == "failed"), "{run}");
            let slot: DateTime<Utc> = run["slot"].as_str().unwrap().parse().unwrap();
            slots.insert(slot);
            let shown = self.world.run(&["show", run["run"].as_str().unwrap(), "--json"]).ended(0).json();
            let mut rows = 0;
            for delivery in shown["deliveries"].as_array().unwrap() {
                uploads.extend(known(delivery));
                if state == "failed" && delivery["state"] == "failed" {
                    continue;
                }
                assert_eq!(delivery["state"], "committed", "{shown}");
                let customer = delivery["customer"].as_str().unwrap().to_owned();
                let of_customer = &manifests[customer.as_str()];
                let key = delivery["manifest_key"].as_str().unwrap();
                let manifest = of_customer.get(key).unwrap_or_else(|| panic!("{key} of {customer} is not there"));
                for part in ["run", "slot", "interval"] {
                    assert_eq!(manifest[part], run[part], "{part} of {key}");
                }
                assert_eq!(manifest["rows"], delivery["rows"], "{key}");
                rows += manifest["rows"].as_u64().unwrap();
                assert!(delivered.insert((customer, slot, key.to_owned())), "twice {key}");
            }
            assert!(state == "failed" || run["rows"] == rows, "{run}");
        }
        self.each_once(&slots, &delivered, &manifests);
        self.uploads(&uploads);
        self.world.run(&["ledger", "check"]).ended(0).out_says(&["the ledger is whole"]);
        slots.into_iter().collect()
    }

    fn each_once(
        &self,
        slots: &BTreeSet<DateTime<Utc>>,
        delivered: &BTreeSet<(String, DateTime<Utc>, String)>,
        manifests: &BTreeMap<&str, BTreeMap<String, Value>>,
    ) {
        for (customer, rows) in self.customers {
            let theirs = || delivered.iter().filter(|(name, ..)| name == customer);
            let of_slots: Vec<_> = theirs().map(|(_, slot, _)| *slot).collect();
            assert_eq!(of_slots, slots.iter().copied().collect::<Vec<_>>(), "slots of {customer}, each once");
            let keys: BTreeSet<&String> = theirs().map(|(.., key)| key).collect();
            assert_eq!(keys, manifests[customer].keys().collect(), "manifests of {customer}");
            assert!(manifests[customer].values().all(|manifest| manifest["rows"] == *rows), "rows of {customer}");
        }
    }

    fn uploads(&self, known: &BTreeSet<String>) {
        let folder = self.world.path("buckets/.sandbox/uploads");
        let left = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: Vec<String> = left.collect();
        assert!(!known.is_empty() && left.iter().all(|id| !known.contains(id)), "known uploads are left: {left:?}");
        // Each kill may come between S3's answer and the ledger, for each delivery at work.
        let most = self.kills * UNKNOWN_UPLOADS_MAX * self.customers.len();
        assert!(left.len() <= most, "{} uploads are left after {} kills: {left:?}", left.len(), self.kills);
        let (looks, unknown): (Vec<String>, Vec<String>) = left.into_iter().partition(|id| is_look(&folder.join(id)));
        assert!(looks.len() <= self.kills * self.customers.len(), "more looks than a kill cuts off: {looks:?}");
        for id in unknown {
            let files = fs::read_dir(folder.join(&id)).unwrap().count();
            assert_eq!(files, 1, "the upload {id} that nobody knows of has parts, which somebody pays for");
        }
    }

    fn bucket(&self, customer: &str) -> std::path::PathBuf {
        self.world.path(&format!("buckets/{customer}-data"))
    }
}

/// An upload was begun to look at a customer, and holds no more than what is sent for that.
fn is_look(upload: &Path) -> bool {
    let told: Value = serde_json::from_slice(&fs::read(upload.join("upload.json")).unwrap()).unwrap();
    let (probe, contents) = PROBE;
    if told["key"] != format!("in/{probe}") {
        return false;
    }
    let files = fs::read_dir(upload).unwrap().count();
    let holds_it = || fs::read_to_string(upload.join("part-00001")).unwrap() == contents;
    // The part has a sidecar.
    assert!(files == 1 || (files == 3 && holds_it()), "{told} has {files} files");
    true
}

/// Uploads of a delivery; none of them is open, and what was given up is not ours any more.
fn known(delivery: &Value) -> Vec<String> {
    let attempts = delivery["attempts"].as_array().unwrap().iter();
    let uploads = attempts.flat_map(|attempt| attempt["uploads"].as_array().unwrap());
    let uploads = uploads.inspect(|upload| assert_ne!(upload["state"], "created", "an upload is open: {delivery}"));
    let ours = uploads.filter(|upload| upload["state"] != "abandoned");
    ours.map(|upload| upload["upload_id"].as_str().unwrap().to_owned()).collect()
}
