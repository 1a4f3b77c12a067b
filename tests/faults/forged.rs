//! Forged histories, each with one breach, which is found; and the one without a
//! breach, in which none is.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::json;
use url::form_urlencoded;

use crate::cli::world::crc64nvme;
use crate::support::promises::{LATEST, Ledger, PROBE, Profile, Recorded, Rule, Share, Story};
use crate::support::proxy::{canary, stamp};
use crate::support::wire::{Answer, Call, Event, Fault, Seen, s3_error};

/// Of the first delivery.
const FOLDER: &str = "in/rows/2020-01-01";
const RUN: &str = "rows-1";

/// Of a day of January 2020.
fn second(day: u32) -> i64 {
    let date = chrono::NaiveDate::from_ymd_opt(2020, 1, day).unwrap();
    date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp()
}

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
    /// Of the session that requests are made under.
    access_key: String,
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
        self.assumes_for(RUN, profile, access_key);
    }

    fn assumes_for(&mut self, run: &str, profile: &Profile, access_key: &str) {
        let granted = Answer::new(200, Vec::new(), format!("<AccessKeyId>{access_key}</AccessKeyId>"));
        self.asks_for_session(run, profile, Some(&profile.external_id), granted);
    }

    fn asks_for_session(&mut self, run: &str, profile: &Profile, external_id: Option<&str>, answer: Answer) {
        let objects = format!("arn:aws:s3:::{}/{}*", profile.bucket, profile.prefix);
        let statement = json!({ "Effect": "Allow", "Action": ["s3:PutObject"], "Resource": objects });
        let policy = json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", "AssumeRole")
            .append_pair("RoleArn", &profile.role_arn)
            .append_pair("RoleSessionName", run)
            .extend_pairs(external_id.map(|id| ("ExternalId", id)))
            .append_pair("Policy", &policy)
            .finish();
        let seen = Seen::new(Method::POST, "/".to_owned(), HeaderMap::new(), form.into());
        self.answered(seen, answer);
    }

    /// A delivery of which an upload is gone when it is to complete, or whose first object somebody else writes at that
    /// moment, and which the same run begins anew.
    fn delivers_anew(&mut self, day: u32, code: &str) {
        let (acme, key) = (self.story.profiles[0].clone(), &format!("in/rows/2020-01-0{day}/a.jsonl"));
        let session = format!("ASIA-first-{day}");
        self.assumes_for(&format!("rows-{day}"), &acme, &session);
        self.under(&session, |forger| {
            forger.creates(key, "gone");
            forger.fills(key, "gone", canary("acme"));
            let part = "<Part><ETag>&quot;part-gone&quot;</ETag><PartNumber>1</PartNumber></Part>";
            let status = if code == "NoSuchUpload" { 404 } else { 409 };
            let answer = Answer::new(status, Vec::new(), s3_error(code, "not this one"));
            let if_new = [("if-none-match", "*")];
            forger.asks(Method::POST, &format!("/acme-data/{key}?uploadId=gone"), &if_new, part, answer);
        });
        self.delivers("rows", day, TWO);
    }

    /// Looks whether acme takes an upload, and whether its role lets in strangers.
    fn looks(&mut self) {
        let acme = self.story.profiles[0].clone();
        self.assumes_for(PROBE, &acme, LOOK);
        self.under(LOOK, |forger| {
            forger.creates(TRIED, "tried");
            forger.fills(TRIED, "tried", "consign preflight".to_owned());
            forger.asks(
                Method::DELETE,
                &format!("/acme-data/{TRIED}?uploadId=tried"),
                &[],
                "",
                Answer::new(204, Vec::new(), ""),
            );
        });
        for id in [None, Some(WRONG)] {
            self.asks_for_session(PROBE, &acme, id, Answer::new(403, Vec::new(), "<Code>AccessDenied</Code>"));
        }
    }

    /// Does something under another session.
    fn under(&mut self, access_key: &str, does: impl FnOnce(&mut Self)) {
        let session = std::mem::replace(&mut self.access_key, access_key.to_owned());
        does(self);
        self.access_key = session;
    }

    fn asks(&mut self, method: Method, target: &str, headers: &[(&str, &str)], body: impl Into<Bytes>, answer: Answer) {
        let signed = format!("AWS4-HMAC-SHA256 Credential={}/20200101/x", self.access_key);
        let usual = [("authorization", signed.as_str()), OWNER];
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

    /// Has an object in the end, as the ledger knows.
    fn has(&mut self, key: &str, id: &str, body: &str) {
        self.story.objects.insert(("acme-data".to_owned(), key.to_owned()), body.to_owned().into());
        self.story.ledger.uploads.push((id.to_owned(), "completed".to_owned()));
    }

    /// A whole delivery as it should be: these objects with so many rows, their manifest, and
    /// its markers. In `newest` it takes the place of the one before, and has none.
    fn delivers(&mut self, share: &str, day: u32, rows: &[(&str, u64)]) {
        let (run, replaces) = (format!("{share}-{day}"), share == "newest");
        let folder = if replaces { format!("in/{share}") } else { format!("in/{share}/2020-01-{day:02}") };
        let key = |name: &str| format!("{folder}/{name}");
        let now = self.now;
        let id = |name: &str| if run == RUN { name.to_owned() } else { format!("{name}-{now}") };
        let (acme, session) = (self.story.profiles[0].clone(), std::mem::take(&mut self.access_key));
        self.access_key = format!("ASIA-{run}");
        self.assumes_for(&run, &acme, &self.access_key.clone());
        let row = canary("acme") + &stamp(second(day));
        let bodies = rows.iter().map(|(_, rows)| row.repeat(usize::try_from(*rows).unwrap()));
        let objects: Vec<_> = rows.iter().zip(bodies).map(|((name, _), body)| (key(name), id(name), body)).collect();
        let named = objects.iter().zip(rows).map(|((key, id, body), (_, rows))| {
            json!({
                "key": key, "bytes": body.len(), "rows": rows,
                "checksum_crc64nvme": crc64nvme(body.as_bytes()), "etag": format!("whole-{id}"),
            })
        });
        let (named, slot): (Vec<_>, _) = (named.collect(), format!("2020-01-{day:02}T00:00:00Z"));
        let total: u64 = rows.iter().map(|(_, rows)| rows).sum();
        let manifest =
            json!({ "customer": "acme", "run": run, "slot": slot, "rows": total, "plugin": {}, "objects": named });
        let manifest = (key("_manifest.json"), id("m"), manifest.to_string());
        let pointer = json!({ "slot": slot, "manifest": manifest.0 }).to_string();
        let markers =
            [(key("_SUCCESS"), id("s"), String::new()), (format!("in/{share}/latest.json"), id("l"), pointer)];
        let markers = if replaces { &[] } else { &markers[..] };
        for (key, id, body) in objects.iter().chain(markers) {
            self.creates(key, id);
            self.fills(key, id, body.clone());
        }
        for (key, id, _) in &objects {
            self.completes(key, id, &[]);
        }
        self.creates(&manifest.0, &manifest.1);
        self.fills(&manifest.0, &manifest.1, manifest.2.clone());
        self.completes(&manifest.0, &manifest.1, if replaces { &[] } else { &[WHERE_NONE_IS] });
        for (key, id, _) in markers {
            self.completes(key, id, &[]);
        }
        for (key, id, body) in objects.iter().chain([&manifest]).chain(markers) {
            self.has(key, id, body);
        }
        let (slot, customer) = ((second(day) * 1_000_000).to_string(), "acme".to_owned());
        self.story.ledger.slots.insert((share.to_owned(), slot.clone(), customer.clone()));
        let planned = self.story.ledger.planned.entry(share.to_owned()).or_default();
        planned.insert(second(day) * 1_000_000, String::new());
        let (share, state) = (share.to_owned(), "committed".to_owned());
        let manifest_key = manifest.0;
        self.story.ledger.deliveries.push(Recorded { share, slot, customer, run, state, manifest_key, rows: total });
        self.access_key = session;
    }
}

const OWNER: (&str, &str) = ("x-amz-expected-bucket-owner", "100000000001");
const WHERE_NONE_IS: (&str, &str) = ("if-none-match", "*");

fn key(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// The session of a look, the key that it tries, and an external ID that is not acme's.
const LOOK: &str = "ASIA-look";
const TRIED: &str = "in/_consign-preflight";
const WRONG: &str = "test-acmx";

const TWO: &[(&str, u64)] = &[("a.jsonl", 2), ("b.jsonl", 1)];

/// Deliveries as they should be: of two slots that have keys of their own, and of two of
/// which the second takes the place of the first and has one object less. Then the customer is looked at.
fn good() -> Forger {
    let share = |name: &str, replaces| Share {
        name: name.to_owned(),
        replaces,
        success: !replaces,
        latest: !replaces,
        every: Some(2 * 86_400),
    };
    let story = Story {
        profiles: vec![profile("acme", 1), profile("beta", 2)],
        shares: vec![share("rows", false), share("newest", true)],
        events: Vec::new(),
        objects: Default::default(),
        uploads: Default::default(),
        ledger: Ledger::default(),
        kills: 0,
    };
    let mut forger = Forger { story, now: 0, access_key: format!("ASIA-{RUN}") };
    forger.delivers("rows", 1, TWO);
    forger.delivers("rows", 3, TWO);
    forger.delivers("newest", 1, TWO);
    forger.delivers("newest", 3, &[("a.jsonl", 3)]);
    forger.looks();
    forger
}

type Forgery = fn(&mut Forger);

fn event(forger: &mut Forger, call: Call, key_ends: &str) -> usize {
    let is_it = |event: &Event| event.seen.call == call && event.seen.key.ends_with(key_ends);
    forger.story.events.iter().position(is_it).unwrap()
}

fn object<'a>(forger: &'a mut Forger, key: &str) -> &'a mut Bytes {
    forger.story.objects.get_mut(&("acme-data".to_owned(), key.to_owned())).unwrap()
}

fn manifest(forger: &mut Forger) -> &mut Bytes {
    object(forger, &key("_manifest.json"))
}

fn remove(forger: &mut Forger, key: &str) {
    forger.story.objects.remove(&("acme-data".to_owned(), key.to_owned())).unwrap();
}

/// The first request for a session that only tries.
fn look(forger: &Forger) -> usize {
    let is_it = |event: &Event| event.seen.form().get("RoleSessionName").is_some_and(|name| name == PROBE);
    forger.story.events.iter().position(is_it).unwrap()
}

/// That request does not narrow it.
fn is_wide(forger: &mut Forger, request: usize) {
    let body = &mut forger.story.events[request].seen.body;
    let text = String::from_utf8(body.to_vec()).unwrap();
    *body = text.split("&Policy=").next().unwrap().to_owned().into();
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
    (Rule::Prefix, |forger| {
        // Whose uploads these are is others' business.
        forger.asks(Method::GET, "/acme-data?uploads&prefix=inn%2F", &[], "", Answer::new(200, Vec::new(), ""));
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
    (Rule::SessionPolicy, |forger| is_wide(forger, 0)),
    // What only tries keeps to the same rules.
    (Rule::Rights, |forger| forger.under(LOOK, |forger| forger.completes(TRIED, "tried", &[]))),
    (Rule::Owner, |forger| {
        let create = event(forger, Call::Create, TRIED);
        forger.story.events[create].seen.headers.remove(OWNER.0);
    }),
    (Rule::Owner, |forger| {
        let part = event(forger, Call::Part, TRIED);
        let headers = &mut forger.story.events[part].seen.headers;
        headers.insert(OWNER.0, HeaderValue::from_static("100000000002"));
    }),
    (Rule::Prefix, |forger| forger.under(LOOK, |forger| forger.creates("_consign-preflight", "outside"))),
    // Nor where objects are to be.
    (Rule::Prefix, |forger| forger.under(LOOK, |forger| forger.creates(&key("a.jsonl"), "inside"))),
    (Rule::Session, |forger| {
        let part = event(forger, Call::Part, TRIED);
        forger.story.events[part].seen.bucket = "beta-data".to_owned();
    }),
    (Rule::Session, |forger| {
        // The role has let in a stranger, and that is made use of.
        let acme = forger.story.profiles[0].clone();
        let granted = Answer::new(200, Vec::new(), "<AccessKeyId>ASIA-stranger</AccessKeyId>");
        forger.asks_for_session(PROBE, &acme, Some(WRONG), granted);
        forger.under("ASIA-stranger", |forger| forger.creates(TRIED, "by-a-stranger"));
    }),
    (Rule::ExternalId, |forger| {
        let acme = forger.story.profiles[0].clone();
        let refused = Answer::new(403, Vec::new(), "<Code>AccessDenied</Code>");
        forger.asks_for_session(PROBE, &acme, Some("test-beta"), refused);
    }),
    (Rule::SessionPolicy, |forger| {
        let look = look(forger);
        is_wide(forger, look);
    }),
    // A stranger's above all: it might be granted.
    (Rule::SessionPolicy, |forger| {
        let last = forger.story.events.len() - 1;
        is_wide(forger, last);
    }),
    (Rule::Foreign, |forger| {
        let part = event(forger, Call::Part, TRIED);
        forger.story.events[part].seen.body = canary("beta").into();
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
        // What is begun anew keeps to it, too: the second attempt uploads when it has completed something.
        forger.delivers_anew(5, "NoSuchUpload");
        forger.under("ASIA-rows-5", |forger| forger.creates("in/rows/2020-01-05/b.jsonl", "late"));
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
    (Rule::Unchanged, |forger| {
        // The slot that is there is sent once more in its own place.
        forger.delivers("newest", 3, &[("a.jsonl", 3)]);
    }),
    (Rule::OneManifest, |forger| forger.delivers("newest", 3, &[("a.jsonl", 3)])),
    // With the ledger, manifest and all.
    (Rule::Forward, |forger| forger.delivers("newest", 2, TWO)),
    (Rule::Forward, |forger| {
        // One object of a delivery that was given up.
        forger.delivers("newest", 2, TWO);
        let from = forger.story.events.iter().rposition(|event| event.seen.key.ends_with("b.jsonl")).unwrap();
        forger.story.events.truncate(from);
        forger.story.ledger.deliveries.last_mut().unwrap().state = "failed".to_owned();
    }),
    (Rule::Forward, |forger| {
        // The pointer alone.
        forger.delivers("rows", 2, TWO);
    }),
    (Rule::Forward, |forger| {
        // It is of the newest slot, and stayed where it was.
        let earlier = object(forger, "in/rows/latest.json").clone();
        forger.delivers("rows", 4, TWO);
        *object(forger, "in/rows/latest.json") = earlier;
    }),
    (Rule::Forward, |forger| {
        // In the end the manifest is of an earlier one, whoever put it back.
        let earlier = object(forger, "in/newest/_manifest.json").clone();
        forger.delivers("newest", 4, TWO);
        *object(forger, "in/newest/_manifest.json") = earlier;
    }),
    (Rule::OneByOne, |forger| {
        // Of a later slot, which has begun before the one that is there was done.
        forger.delivers("newest", 5, TWO);
        let began = event(forger, Call::Complete, "newest/a.jsonl");
        let create = forger.story.events.iter().rposition(|event| event.seen.call == Call::Create).unwrap();
        forger.story.events[create].began = forger.story.events[began].began + 1;
    }),
    (Rule::Marker, |forger| {
        let (put, marker) =
            (event(forger, Call::Complete, "_manifest.json"), event(forger, Call::Complete, "_SUCCESS"));
        swap(forger, put, marker);
    }),
    (Rule::Marker, |forger| {
        let (put, marker) = (event(forger, Call::Complete, "_manifest.json"), event(forger, Call::Complete, LATEST));
        swap(forger, put, marker);
    }),
    (Rule::Marker, |forger| {
        // While the manifest's completion is on its way.
        let (put, marker) =
            (event(forger, Call::Complete, "_manifest.json"), event(forger, Call::Complete, "_SUCCESS"));
        forger.story.events[marker].began = forger.story.events[put].began;
    }),
    (Rule::Marker, |forger| remove(forger, &key("_SUCCESS"))),
    (Rule::Marker, |forger| remove(forger, "in/rows/latest.json")),
    (Rule::Marker, |forger| *object(forger, &key("_SUCCESS")) = "more".into()),
    (Rule::Marker, |forger| {
        let pointer = object(forger, "in/rows/latest.json");
        *pointer = String::from_utf8(pointer.to_vec()).unwrap().replace("2020-01-03/", "2020-01-02/").into();
    }),
    (Rule::Marker, |forger| {
        // There is such a manifest, of another slot than it says.
        let pointer = object(forger, "in/rows/latest.json");
        *pointer = String::from_utf8(pointer.to_vec()).unwrap().replace("2020-01-03/", "2020-01-01/").into();
    }),
    (Rule::Seal, |forger| {
        // What leads to the manifest is stored before anything can be seen, as all else.
        let (part, completion) = (event(forger, Call::Part, LATEST), event(forger, Call::Complete, "a.jsonl"));
        swap(forger, part, completion);
    }),
    (Rule::Content, |forger| {
        // As many rows as there should be, of another slot.
        let object = object(forger, &key("a.jsonl"));
        let text = String::from_utf8(object.to_vec()).unwrap();
        let (old, new) = (text.replace(&stamp(second(1)), &stamp(second(2))), text);
        *object = old.clone().into();
        says(forger, &crc64nvme(new.as_bytes()), &crc64nvme(old.as_bytes()));
    }),
    (Rule::Content, |forger| {
        let object = object(forger, &key("a.jsonl"));
        *object = canary("acme").repeat(3).into();
    }),
    (Rule::Content, |forger| {
        // As many bytes, and not the same.
        let object = object(forger, &key("a.jsonl"));
        *object = "x".repeat(object.len()).into();
    }),
    (Rule::Content, |forger| {
        remove(forger, &key("b.jsonl"));
    }),
    (Rule::Content, |forger| {
        // One row less than the customer has.
        says(forger, "\"rows\":1", "\"rows\":0");
        says(forger, "\"rows\":3", "\"rows\":2");
        forger.story.ledger.deliveries[0].rows = 2;
    }),
    (Rule::Content, |forger| says(forger, "whole-b.jsonl", "whole-other")),
    (Rule::Unnamed, |forger| {
        // There since before the manifest, and of no earlier slot.
        let of_this = forger.story.events.iter().rposition(|event| event.seen.key == "in/newest/a.jsonl").unwrap();
        forger.story.events[of_this].seen.key = "in/newest/b.jsonl".to_owned();
    }),
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
    (Rule::Ledger, |forger| {
        // Nobody put a manifest of that.
        let mut more = forger.story.ledger.deliveries.last().unwrap().clone();
        (more.slot, more.run) = ((second(2) * 1_000_000).to_string(), "newest-2".to_owned());
        forger.story.ledger.deliveries.push(more);
    }),
    (Rule::Planned, |forger| {
        // It went on two firings later.
        forger.delivers("rows", 7, TWO);
    }),
    (Rule::Planned, |forger| {
        let planned = forger.story.ledger.planned.get_mut("rows").unwrap();
        planned.insert(second(5) * 1_000_000, "missed while down".to_owned());
    }),
    (Rule::Slots, |forger| {
        // An earlier one, and nobody knows why it was left out.
        let slot = (second(2) * 1_000_000).to_string();
        forger.story.ledger.slots.insert(("newest".to_owned(), slot, "acme".to_owned()));
    }),
    (Rule::Slots, |forger| {
        // The newest was given up.
        let mut more = forger.story.ledger.deliveries.last().unwrap().clone();
        (more.slot, more.state) = ((second(4) * 1_000_000).to_string(), "failed".to_owned());
        forger.story.ledger.slots.insert((more.share.clone(), more.slot.clone(), more.customer.clone()));
        forger.story.ledger.deliveries.push(more);
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
    forger.story.events.last_mut().unwrap().began = forger.story.events[completion].began;
    forger.creates(&key("b.jsonl"), "unheard");
    let mut last = forger.story.events.pop().unwrap();
    (last.told, last.fault, last.began) = (None, Some(Fault::LoseReply), 0);
    forger.story.events.insert(1, last);
    forger.story.uploads.insert("unheard".to_owned(), 0);
    assert_eq!(rules(&forger.story), []);
    // Nor is a slot that a later one has overtaken, and that was refused therefore.
    let mut more = forger.story.ledger.deliveries.last().unwrap().clone();
    (more.slot, more.run, more.state) =
        ((second(2) * 1_000_000).to_string(), "newest-2".to_owned(), "failed".to_owned());
    forger.story.ledger.slots.insert((more.share.clone(), more.slot.clone(), more.customer.clone()));
    forger.story.ledger.deliveries.push(more);
    assert_eq!(rules(&forger.story), []);
    // Nor is what a run begins anew when an upload of it is gone, or somebody else writes its first object.
    for (day, code) in [(5, "NoSuchUpload"), (7, "ConditionalRequestConflict")] {
        forger.delivers_anew(day, code);
        assert_eq!(rules(&forger.story), [], "{code}");
    }
    // Nor is a marker that S3 refused when its manifest was there.
    let marker = event(&mut forger, Call::Complete, "_SUCCESS");
    let refused = &mut forger.story.events[marker];
    (refused.carried_out, refused.told) = (None, Some((refused.began, 403)));
    remove(&mut forger, &key("_SUCCESS"));
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
