//! Forged histories, each with one breach, which is found; and the one without a
//! breach, in which none is.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::json;
use url::form_urlencoded;

use crate::cli::world::crc64nvme;
use crate::support::promises::{Ledger, Profile, Recorded, Rule, Story};
use crate::support::proxy::canary;
use crate::support::wire::{Answer, Call, Event, Fault, Seen, s3_error};

const FOLDER: &str = "in/rows/2020-01-01";
const RUN: &str = "019cae34-7b68-7c3e-9b1f-3d1f0f6f2a55";

fn profile(name: &str, number: u8) -> Profile {
    Profile {
        name: name.to_owned(),
        role_arn: format!("arn:aws:iam::10000000000{number}:role/{name}"),
        external_id: format!("test-{name}"),
        bucket: format!("{name}-data"),
        owner: format!("10000000000{number}"),
        prefix: "in/".to_owned(),
        rows: 3,
    }
}

/// Writes events one after the other.
struct Forger {
    story: Story,
    now: u64,
}

impl Forger {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn answered(&mut self, seen: Seen, answer: Answer) {
        let (began, done, told) = (self.tick(), self.tick(), self.tick());
        let status = answer.status;
        let (carried_out, told) = (Some((done, answer)), Some((told, status)));
        let event = Event { seen, began, fault: None, carried_out, told, took: Duration::ZERO };
        self.story.events.push(event);
    }

    fn assumes(&mut self, profile: &Profile, access_key: &str) {
        let objects = format!("arn:aws:s3:::{}/{}*", profile.bucket, profile.prefix);
        let statement = json!({ "Effect": "Allow", "Action": ["s3:PutObject"], "Resource": objects });
        let policy = json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", "AssumeRole")
            .append_pair("RoleArn", &profile.role_arn)
            .append_pair("RoleSessionName", RUN)
            .append_pair("ExternalId", &profile.external_id)
            .append_pair("Policy", &policy)
            .finish();
        let seen = Seen::new(Method::POST, "/".to_owned(), HeaderMap::new(), form.into());
        self.answered(seen, Answer::new(200, Vec::new(), format!("<AccessKeyId>{access_key}</AccessKeyId>")));
    }

    fn asks(&mut self, method: Method, target: &str, headers: &[(&str, &str)], body: impl Into<Bytes>, answer: Answer) {
        let usual = [("authorization", "AWS4-HMAC-SHA256 Credential=ASIA1/20200101/x"), OWNER];
        let headers = usual
            .iter()
            .chain(headers)
            .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap()));
        self.answered(Seen::new(method, target.to_owned(), headers.collect(), body.into()), answer);
    }

    fn creates(&mut self, key: &str, id: &str) {
        let answer = Answer::new(200, Vec::new(), format!("<UploadId>{id}</UploadId>"));
        self.asks(Method::POST, &format!("/acme-data/{key}?uploads"), &[], "", answer);
    }

    fn fills(&mut self, key: &str, id: &str, body: String) {
        let answer = Answer::new(200, vec![("etag".to_owned(), format!("\"part-{id}\""))], "");
        self.asks(Method::PUT, &format!("/acme-data/{key}?partNumber=1&uploadId={id}"), &[], body, answer);
    }

    fn completes(&mut self, key: &str, id: &str, headers: &[(&str, &str)]) {
        let body = format!("<Part><ETag>&quot;part-{id}&quot;</ETag><PartNumber>1</PartNumber></Part>");
        let answer = Answer::new(200, Vec::new(), format!("<ETag>&quot;whole-{id}&quot;</ETag>"));
        self.asks(Method::POST, &format!("/acme-data/{key}?uploadId={id}"), headers, body, answer);
    }

    /// An upload from its beginning to its end.
    fn uploads(&mut self, key: &str, id: &str) {
        self.creates(key, id);
        self.fills(key, id, canary("acme"));
        self.completes(key, id, &[]);
    }
}

const OWNER: (&str, &str) = ("x-amz-expected-bucket-owner", "100000000001");
const WHERE_NONE_IS: (&str, &str) = ("if-none-match", "*");

fn key(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// A delivery as it should be: two objects and their manifest.
fn good() -> Forger {
    let profiles = vec![profile("acme", 1), profile("beta", 2)];
    let story = Story {
        profiles,
        events: Vec::new(),
        objects: Default::default(),
        uploads: Default::default(),
        ledger: Ledger::default(),
        kills: 0,
    };
    let mut forger = Forger { story, now: 0 };
    let acme = forger.story.profiles[0].clone();
    forger.assumes(&acme, "ASIA1");
    let objects = [("a.jsonl", canary("acme").repeat(2)), ("b.jsonl", canary("acme"))];
    for (name, bytes) in &objects {
        forger.creates(&key(name), name);
        forger.fills(&key(name), name, bytes.clone());
    }
    for (name, _) in &objects {
        forger.completes(&key(name), name, &[]);
    }
    forger.creates(&key("_manifest.json"), "m");
    forger.fills(&key("_manifest.json"), "m", String::new());
    forger.completes(&key("_manifest.json"), "m", &[WHERE_NONE_IS]);
    let named = objects.iter().zip([2, 1]).map(|((name, bytes), rows)| {
        json!({
            "key": key(name), "bytes": bytes.len(), "rows": rows,
            "checksum_crc64nvme": crc64nvme(bytes.as_bytes()), "etag": format!("whole-{name}"),
        })
    });
    let named: Vec<_> = named.collect();
    let manifest = json!({ "customer": "acme", "run": RUN, "rows": 3, "plugin": {}, "objects": named });
    for (name, bytes) in objects.into_iter().chain([("_manifest.json", manifest.to_string())]) {
        forger.story.objects.insert(("acme-data".to_owned(), key(name)), bytes.into());
    }
    let slot = ("rows".to_owned(), "0".to_owned(), "acme".to_owned());
    forger.story.ledger.slots.insert(slot);
    forger.story.ledger.deliveries.push(Recorded {
        share: "rows".to_owned(),
        slot: "0".to_owned(),
        customer: "acme".to_owned(),
        run: RUN.to_owned(),
        state: "committed".to_owned(),
        manifest_key: key("_manifest.json"),
        rows: 3,
    });
    let completed = |id: &str| (id.to_owned(), "completed".to_owned());
    forger.story.ledger.uploads = ["a.jsonl", "b.jsonl", "m"].map(completed).into();
    forger
}

type Forgery = fn(&mut Forger);

fn event(forger: &mut Forger, call: Call, key_ends: &str) -> usize {
    let is_it = |event: &Event| event.seen.call == call && event.seen.key.ends_with(key_ends);
    forger.story.events.iter().position(is_it).unwrap()
}

fn manifest(forger: &mut Forger) -> &mut Bytes {
    forger.story.objects.get_mut(&("acme-data".to_owned(), key("_manifest.json"))).unwrap()
}

/// Exchanges when two events happened.
fn swap(forger: &mut Forger, one: usize, other: usize) {
    let events = &mut forger.story.events;
    let [first, second] = events.get_disjoint_mut([one, other]).unwrap();
    std::mem::swap(&mut first.seen, &mut second.seen);
    std::mem::swap(&mut first.carried_out.as_mut().unwrap().1, &mut second.carried_out.as_mut().unwrap().1);
}

fn says(forger: &mut Forger, old: &str, new: &str) {
    let text = String::from_utf8(manifest(forger).to_vec()).unwrap();
    assert!(text.contains(old), "{text}");
    *manifest(forger) = text.replacen(old, new, 1).into();
}

/// Each rule with the ways to break it.
const FORGERIES: &[(Rule, Forgery)] = &[
    (Rule::Rights, |forger| {
        forger.asks(Method::GET, &format!("/acme-data/{}", key("a.jsonl")), &[], "", Answer::new(200, Vec::new(), ""));
    }),
    (Rule::Rights, |forger| {
        forger.asks(Method::PUT, &format!("/acme-data/{}", key("a.jsonl")), &[], "", Answer::new(200, Vec::new(), ""));
    }),
    (Rule::Owner, |forger| {
        let part = event(forger, Call::Part, "b.jsonl");
        forger.story.events[part].seen.headers.remove(OWNER.0);
    }),
    (Rule::Owner, |forger| {
        let completion = event(forger, Call::Complete, "_manifest.json");
        let headers = &mut forger.story.events[completion].seen.headers;
        headers.insert(OWNER.0, HeaderValue::from_static("100000000002"));
    }),
    (Rule::Prefix, |forger| forger.creates("inn/a.jsonl", "outside")),
    (Rule::Prefix, |forger| {
        forger.story.objects.insert(("acme-data".to_owned(), "out/_manifest.json".to_owned()), "{}".into());
    }),
    (Rule::Session, |forger| {
        let create = event(forger, Call::Create, "a.jsonl");
        let other = HeaderValue::from_static("AWS4-HMAC-SHA256 Credential=ASIA2/20200101/x");
        forger.story.events[create].seen.headers.insert("authorization", other);
        let beta = forger.story.profiles[1].clone();
        forger.assumes(&beta, "ASIA2");
    }),
    (Rule::ExternalId, |forger| {
        let acme = Profile { external_id: "another".to_owned(), ..forger.story.profiles[0].clone() };
        forger.assumes(&acme, "ASIA3");
    }),
    (Rule::SessionPolicy, |forger| {
        // Of the whole bucket.
        let acme = Profile { prefix: String::new(), ..forger.story.profiles[0].clone() };
        forger.assumes(&acme, "ASIA3");
    }),
    (Rule::SessionPolicy, |forger| {
        let body = &mut forger.story.events[0].seen.body;
        let text = String::from_utf8(body.to_vec()).unwrap();
        *body = text.split("&Policy=").next().unwrap().to_owned().into();
    }),
    (Rule::Foreign, |forger| {
        // Also in what never becomes an object.
        forger.creates(&key("a.jsonl"), "given-up");
        forger.fills(&key("a.jsonl"), "given-up", canary("beta"));
        let first = event(forger, Call::Create, "a.jsonl");
        let strays: Vec<Event> = forger.story.events.split_off(forger.story.events.len() - 2);
        // Before the first completion, or it would break more than one rule.
        for mut stray in strays {
            stray.began = 0;
            forger.story.events.insert(first, stray);
        }
    }),
    (Rule::Seal, |forger| {
        let (part, completion) = (event(forger, Call::Part, "b.jsonl"), event(forger, Call::Complete, "a.jsonl"));
        swap(forger, part, completion);
    }),
    (Rule::Seal, |forger| {
        // Its answer never came.
        let part = event(forger, Call::Part, "b.jsonl");
        forger.story.events[part].told = None;
    }),
    (Rule::ManifestLast, |forger| {
        let (object, put) = (event(forger, Call::Complete, "b.jsonl"), event(forger, Call::Complete, "_manifest.json"));
        // Not done at all, so that nothing changes after the manifest.
        let answer = &mut forger.story.events[object].carried_out.as_mut().unwrap().1;
        *answer = Answer::new(200, Vec::new(), s3_error("InternalError", "not done"));
        assert!(object < put);
    }),
    (Rule::ManifestCondition, |forger| {
        let put = event(forger, Call::Complete, "_manifest.json");
        forger.story.events[put].seen.headers.remove(WHERE_NONE_IS.0);
    }),
    (Rule::OneManifest, |forger| {
        forger.creates(&key("_manifest.json"), "m2");
        forger.completes(&key("_manifest.json"), "m2", &[WHERE_NONE_IS]);
    }),
    (Rule::Unchanged, |forger| {
        // By another run, which may upload what it likes.
        let acme = forger.story.profiles[0].clone();
        forger.assumes(&acme, "ASIA9");
        let last = forger.story.events.len() - 1;
        let body = &mut forger.story.events[last].seen.body;
        *body = String::from_utf8(body.to_vec()).unwrap().replace(RUN, "another").into();
        let from = forger.story.events.len();
        forger.uploads(&key("a.jsonl"), "a.jsonl-2");
        for event in &mut forger.story.events[from..] {
            let other = HeaderValue::from_static("AWS4-HMAC-SHA256 Credential=ASIA9/20200101/x");
            event.seen.headers.insert("authorization", other);
        }
        // With the same content, so that only the order tells.
        says(forger, "whole-a.jsonl", "whole-a.jsonl-2");
    }),
    (Rule::Content, |forger| {
        let object = forger.story.objects.get_mut(&("acme-data".to_owned(), key("a.jsonl"))).unwrap();
        *object = canary("acme").repeat(3).into();
    }),
    (Rule::Content, |forger| {
        // As many bytes, and not the same.
        let object = forger.story.objects.get_mut(&("acme-data".to_owned(), key("a.jsonl"))).unwrap();
        *object = "x".repeat(object.len()).into();
    }),
    (Rule::Content, |forger| {
        forger.story.objects.remove(&("acme-data".to_owned(), key("b.jsonl")));
    }),
    (Rule::Content, |forger| {
        // One row less than the customer has.
        says(forger, "\"rows\":1", "\"rows\":0");
        says(forger, "\"rows\":3", "\"rows\":2");
        forger.story.ledger.deliveries[0].rows = 2;
    }),
    (Rule::Content, |forger| says(forger, "whole-b.jsonl", "whole-other")),
    (Rule::Unnamed, |forger| {
        forger.story.objects.insert(("acme-data".to_owned(), key("c.jsonl")), canary("acme").into());
    }),
    (Rule::Ledger, |forger| forger.story.ledger.deliveries[0].run = "another".to_owned()),
    (Rule::Ledger, |forger| {
        // Nothing was there to be delivered.
        let mut more = forger.story.ledger.deliveries[0].clone();
        (more.slot, more.manifest_key) = ("1".to_owned(), "in/rows/2020-01-02/_manifest.json".to_owned());
        forger.story.ledger.deliveries.push(more);
    }),
    (Rule::Ledger, |forger| {
        let mut more = forger.story.ledger.deliveries[0].clone();
        (more.state, more.manifest_key) = ("sealed".to_owned(), String::new());
        forger.story.ledger.deliveries.push(more);
    }),
    (Rule::Uploads, |forger| {
        forger.story.uploads.insert("a.jsonl".to_owned(), 0);
    }),
    (Rule::Uploads, |forger| {
        forger.story.ledger.uploads.push(("open".to_owned(), "created".to_owned()));
    }),
    (Rule::Uploads, |forger| {
        // A death is no excuse for parts.
        forger.story.kills = 9;
        forger.story.uploads.insert("unknown".to_owned(), 1);
    }),
    (Rule::Uploads, |forger| {
        // Nobody died, and its answer was not lost.
        forger.story.uploads.insert("unknown".to_owned(), 0);
    }),
    (Rule::Slots, |forger| {
        forger.story.ledger.slots.insert(("rows".to_owned(), "86400".to_owned(), "acme".to_owned()));
    }),
];

fn rules(story: &Story) -> Vec<Rule> {
    let mut rules: Vec<Rule> = story.breaches().iter().map(|breach| breach.rule).collect();
    rules.dedup();
    rules
}

#[test]
fn faults_a_history_without_a_breach_has_none() {
    let mut forger = good();
    assert_eq!(rules(&forger.story), []);
    // A lost answer and its repeat are none, nor is an upload whose creation was answered to nobody.
    let completion = event(&mut forger, Call::Complete, "a.jsonl");
    forger.story.events[completion].told = None;
    forger.completes(&key("a.jsonl"), "a.jsonl", &[]);
    forger.creates(&key("b.jsonl"), "unheard");
    let mut last = forger.story.events.pop().unwrap();
    (last.told, last.fault, last.began) = (None, Some(Fault::LoseReply), 0);
    forger.story.events.insert(1, last);
    forger.story.uploads.insert("unheard".to_owned(), 0);
    assert_eq!(rules(&forger.story), []);
}

#[test]
fn faults_each_breach_of_a_promise_is_found() {
    for (number, (rule, forge)) in FORGERIES.iter().enumerate() {
        let mut forger = good();
        forge(&mut forger);
        let found = rules(&forger.story);
        assert!(found.contains(rule), "forgery {number}: {rule:?} is not among {found:?}");
    }
    let forged = |rule: &&Rule| FORGERIES.iter().any(|(of, _)| of == *rule);
    assert_eq!(Rule::ALL.iter().filter(forged).count(), Rule::ALL.len(), "each rule has its forgery");
}
