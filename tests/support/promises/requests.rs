//! What holds of each request, and of their order.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::{Breach, LATEST, MANIFEST, PROBE, PROBE_LEAF, Profile, Rule, SUCCESS, Story, leaf, say};
use crate::support::proxy::canaries;
use crate::support::wire::{Call, Event, element};

/// Whose role a session is of, and its name, which is that of the run.
struct Session {
    role_arn: String,
    run: String,
    /// With which it was asked for.
    external_id: Option<String>,
}

/// One run's work in one bucket: a run is of one slot of one share.
#[derive(Default)]
struct Work<'a> {
    creates: Vec<&'a Event>,
    parts: Vec<&'a Event>,
    completions: Vec<&'a Event>,
}

impl Story {
    /// Each by itself.
    pub(super) fn requests(&self, found: &mut Vec<Breach>) {
        let sessions = self.sessions();
        for event in &self.events {
            let seen = &event.seen;
            let who = format!("{:?} {}/{} at {}", seen.call, seen.bucket, seen.key, event.began);
            if seen.call == Call::AssumeRole {
                self.session(event, found);
                continue;
            }
            if seen.call == Call::Other {
                say(found, Rule::Rights, format!("{} {}", seen.method, seen.target));
            }
            let session = sessions.get(seen.access_key());
            let is_probe = session.is_some_and(|session| session.run == PROBE);
            if is_probe && !matches!(seen.call, Call::Create | Call::Part | Call::Abort) {
                say(found, Rule::Rights, format!("{who}, to try something"));
            }
            let Some(profile) = self.profile(&seen.bucket) else {
                say(found, Rule::Prefix, format!("{who}: a bucket of nobody's"));
                continue;
            };
            if seen.header("x-amz-expected-bucket-owner") != Some(&profile.owner) {
                say(found, Rule::Owner, who.clone());
            }
            // What is tried has a key of its own. Outside of the prefix only `consign preflight` tries, which no story has.
            let is_there = if is_probe {
                seen.key == probe_key(profile)
            } else {
                let place = if seen.call == Call::List { seen.query.get("prefix") } else { Some(&seen.key) };
                place.is_some_and(|place| place.starts_with(&profile.prefix))
            };
            if !is_there {
                say(found, Rule::Prefix, who.clone());
            }
            // Nor does anything go by a session that should have been refused.
            let is_its = |session: &&Session| {
                session.role_arn == profile.role_arn && session.external_id.as_ref() == Some(&profile.external_id)
            };
            if session.filter(is_its).is_none() {
                say(found, Rule::Session, who.clone());
            }
            if canaries(&seen.body).iter().any(|name| *name != profile.name) {
                say(found, Rule::Foreign, who);
            }
        }
    }

    /// How a session is asked for.
    fn session(&self, event: &Event, found: &mut Vec<Breach>) {
        let asked = event.seen.form();
        let role = asked.get("RoleArn").map_or("", String::as_str);
        let Some(profile) = self.profiles.iter().find(|profile| profile.role_arn == role) else {
            return say(found, Rule::Session, format!("the role {role} is nobody's"));
        };
        let id = asked.get("ExternalId");
        // Whether the role lets in whoever names it is tried without one, and with the one that differs in its last letter.
        let is_probe = asked.get("RoleSessionName").is_some_and(|name| name == PROBE);
        let is_stranger = is_probe && id.is_none_or(|id| *id == wrong(&profile.external_id));
        if id != Some(&profile.external_id) && !is_stranger {
            say(found, Rule::ExternalId, format!("{role} at {}", event.began));
        }
        let policy = asked.get("Policy").and_then(|policy| serde_json::from_str(policy).ok());
        if !policy.is_some_and(|policy| is_narrow(&policy, profile)) {
            say(found, Rule::SessionPolicy, format!("{role} at {}: {:?}", event.began, asked.get("Policy")));
        }
    }

    /// By access key.
    fn sessions(&self) -> HashMap<String, Session> {
        let granted = self.events.iter().filter(|event| event.seen.call == Call::AssumeRole).filter_map(|event| {
            let (_, answer) = event.carried_out.as_ref()?;
            let key = element(std::str::from_utf8(&answer.body).ok()?, "AccessKeyId")?;
            let asked = event.seen.form();
            let (role_arn, run) = (asked.get("RoleArn")?.clone(), asked.get("RoleSessionName")?.clone());
            Some((key, Session { role_arn, run, external_id: asked.get("ExternalId").cloned() }))
        });
        granted.collect()
    }

    /// Whether an upload was begun only to see whether it can be.
    pub(super) fn is_probe(&self, upload_id: &str) -> bool {
        let sessions = self.sessions();
        let mut creations = self.events.iter().filter(|event| event.seen.call == Call::Create);
        creations.any(|event| {
            let text = event.carried_out.as_ref().map(|(_, answer)| String::from_utf8_lossy(&answer.body).into_owned());
            text.and_then(|text| element(&text, "UploadId")).is_some_and(|id| id == upload_id)
                && sessions.get(event.seen.access_key()).is_some_and(|session| session.run == PROBE)
        })
    }

    pub(super) fn order(&self, found: &mut Vec<Breach>) {
        let sessions = self.sessions();
        let attempts = self.attempts();
        let mut works: BTreeMap<(&str, &str, usize), Work<'_>> = BTreeMap::new();
        let is_data = |event: &&Event| event.seen.call != Call::AssumeRole && !event.seen.key.ends_with(MANIFEST);
        // Only the empty marker may be had again, and only once its upload is said to be gone.
        let is_gone = |event: &&Event| leaf(&event.seen.key) == SUCCESS && event.told.is_some_and(|(_, is)| is == 404);
        let gone: Vec<&Event> = self.completions().filter(is_gone).collect();
        let is_had_again = |event: &&Event| {
            let place = |event: &Event| (event.seen.bucket.clone(), event.seen.key.clone());
            gone.iter().any(|gone| gone.began < event.began && place(gone) == place(event))
        };
        for event in self.events.iter().filter(is_data).filter(|event| !is_had_again(event)) {
            let seen = &event.seen;
            let run = sessions.get(event.seen.access_key()).map_or("", |session| session.run.as_str());
            let work = works.entry((&seen.bucket, run, attempts(event))).or_default();
            match seen.call {
                Call::Create => work.creates.push(event),
                Call::Part => work.parts.push(event),
                Call::Complete => work.completions.push(event),
                _ => {}
            }
        }
        for ((bucket, run, attempt), work) in &works {
            work.is_sealed_first(&format!("{bucket} by {run}, {attempt} before it"), found);
        }
        for event in self.completions().filter(|event| event.seen.key.ends_with(MANIFEST)) {
            let seen = &event.seen;
            if !self.replaces(&seen.bucket, &seen.key) && seen.header("if-none-match") != Some("*") {
                say(found, Rule::ManifestCondition, format!("{} at {}", seen.key, event.began));
            }
        }
    }

    /// How many attempts of its run were before that of a request. One ends when S3 says of an upload that was to
    /// complete that it is gone, or of an object that is to be new that somebody else writes it at that moment; what is
    /// begun then is of the next.
    fn attempts(&self) -> impl Fn(&Event) -> usize {
        let run_of = self.runs();
        let is_new = |event: &Event| {
            let seen = &event.seen;
            seen.header("if-none-match") == Some("*") && ![MANIFEST, SUCCESS, LATEST].contains(&leaf(&seen.key))
        };
        let is_gone =
            |event: &&Event| event.told.is_some_and(|(_, status)| status == 404 || (status == 409 && is_new(event)));
        let place = |event: &Event| (event.seen.bucket.clone(), run_of(event));
        let ends: Vec<_> = self.completions().filter(is_gone).map(|event| (place(event), event.told)).collect();
        let before = move |event: &Event| {
            let is_earlier = |told: &Option<(u64, u16)>| told.is_some_and(|(at, _)| at < event.began);
            let of = (event.seen.bucket.clone(), run_of(event));
            ends.iter().filter(|(place, told)| *place == of && is_earlier(told)).count()
        };
        let creations = self.events.iter().filter(|event| event.seen.call == Call::Create);
        let begun = creations.filter_map(|event| {
            let (_, answer) = event.carried_out.as_ref()?;
            Some((element(std::str::from_utf8(&answer.body).ok()?, "UploadId")?, before(event)))
        });
        let begun: HashMap<String, usize> = begun.collect();
        move |event: &Event| begun.get(event.seen.upload_id()).copied().unwrap_or_else(|| before(event))
    }

    /// The run that a request was made for.
    pub(super) fn runs(&self) -> impl Fn(&Event) -> String {
        let sessions = self.sessions();
        move |event: &Event| {
            sessions.get(event.seen.access_key()).map(|session| session.run.clone()).unwrap_or_default()
        }
    }

    pub(super) fn completions(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| event.seen.call == Call::Complete)
    }
}

impl Work<'_> {
    /// All parts of all that completes are acknowledged before anything completes.
    fn is_sealed_first(&self, who: &str, found: &mut Vec<Breach>) {
        let Some(first) = self.completions.iter().map(|event| event.began).min() else { return };
        for event in self.creates.iter().chain(&self.parts).filter(|event| event.began > first) {
            say(found, Rule::Seal, format!("{who}: {} at {}, after {first}", event.seen.key, event.began));
        }
        for completion in &self.completions {
            for (number, etag) in listed(completion) {
                let is_it = |part: &&&Event| {
                    let seen = &part.seen;
                    seen.upload_id() == completion.seen.upload_id() && seen.query.get("partNumber") == Some(&number)
                };
                let is_stored = |part: &Event| {
                    let answer = part.carried_out.as_ref().map(|(_, answer)| answer);
                    let told = part.told.is_some_and(|(at, status)| status == 200 && at < first);
                    told && answer.is_some_and(|answer| {
                        answer.is_success() && answer.header("etag").is_some_and(|of| bare(of) == bare(&etag))
                    })
                };
                if !self.parts.iter().filter(is_it).any(|part| is_stored(part)) {
                    let key = &completion.seen.key;
                    say(found, Rule::Seal, format!("{who}: part {number} of {key} was not acknowledged at {first}"));
                }
            }
        }
    }
}

/// Where it is tried whether a customer takes an upload (docs/preflight.md).
fn probe_key(profile: &Profile) -> String {
    format!("{}{PROBE_LEAF}", profile.prefix)
}

/// Which external ID is tried in the place of the right one.
fn wrong(id: &str) -> String {
    let (rest, last) = id.split_at(id.len() - 1);
    format!("{rest}{}", if last == "x" { "y" } else { "x" })
}

/// Number and ETag of the parts that a completion names.
pub(super) fn listed(completion: &Event) -> Vec<(String, String)> {
    let body = String::from_utf8_lossy(&completion.seen.body).into_owned();
    let parts = body.split("<Part>").skip(1);
    parts
        .map(|part| (element(part, "PartNumber").unwrap_or_default(), element(part, "ETag").unwrap_or_default()))
        .collect()
}

pub(super) fn bare(etag: &str) -> &str {
    etag.trim_matches('"')
}

/// The server did it.
pub(super) fn is_done(event: &Event) -> bool {
    event.carried_out.as_ref().is_some_and(|(_, answer)| answer.is_success())
}

/// When.
pub(super) fn at(event: &Event) -> u64 {
    event.carried_out.as_ref().map_or(u64::MAX, |(at, _)| *at)
}

/// Nothing but the customer's folder, and keys by way of S3.
fn is_narrow(policy: &Value, profile: &Profile) -> bool {
    let texts = |value: &Value| -> Vec<String> {
        match value {
            Value::String(one) => vec![one.clone()],
            Value::Array(all) => all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        }
    };
    let bucket = format!("arn:aws:s3:::{}", profile.bucket);
    let is_narrow = |statement: &Value| {
        let (actions, resources) = (texts(&statement["Action"]), texts(&statement["Resource"]));
        let all = |prefix: &str| !actions.is_empty() && actions.iter().all(|action| action.starts_with(prefix));
        if statement["Effect"] != "Allow" || resources.is_empty() {
            return false;
        }
        if all("kms:") {
            return statement["Condition"]["StringEquals"]["kms:ViaService"].is_string();
        }
        if all("s3:ListBucketMultipartUploads") {
            return resources == [bucket.clone()];
        }
        let objects = format!("{bucket}/{}*", profile.prefix);
        all("s3:") && !actions.iter().any(|action| action.contains('*')) && resources == [objects]
    };
    policy["Statement"].as_array().is_some_and(|statements| !statements.is_empty() && statements.iter().all(is_narrow))
}
