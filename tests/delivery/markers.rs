//! What comes after the manifest, and slots that take each other's place.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use consign::config::Compression;
use consign::delivery::{Delivery, DeliverySpec, Manifested, Target};
use consign::domain::{KeyTemplate, Mode};
use serde_json::Value;

use super::wire::{Call, Fault, Seen, Wire, s3_error, sts_error};
use super::world::*;

const SUCCESS: &str = "uploads/us/orders/2024-05-01/060000Z/_SUCCESS";
const LATEST: &str = "uploads/us/orders/latest.json";

fn marked() -> DeliverySpec {
    let template = KeyTemplate::default();
    DeliverySpec { success_marker: true, latest_pointer: template.above_slots(), ..spec(Compression::None) }
}

async fn target(wire: &Wire) -> Target {
    Target::bucket(&vendor(&aws(&wire.url)).await, &Arc::new(customer()), run_id()).unwrap()
}

/// A delivery whose manifest is there.
async fn manifested(wire: &Wire, journal: &Arc<Journal>) -> Manifested {
    let delivery = Delivery::begin(target(wire).await, marked(), journal.clone()).await.unwrap();
    for event in object(0, "a.csv", b"x") {
        delivery.accept(event).await.unwrap();
    }
    let done = delivery.seal().await.unwrap().complete().await.unwrap();
    let written = manifest(&customer(), run_id(), done.objects());
    done.manifest(&written).await.unwrap()
}

fn completed(wire: &Wire) -> Vec<String> {
    wire.seen().into_iter().filter(|seen| seen.call == Call::Complete).map(|seen| seen.key).collect()
}

#[tokio::test]
async fn markers_are_stored_with_all_else_and_come_after_the_manifest() {
    let wire = Wire::healthy().await;
    let (customer, run) = (customer(), run_id());
    let journal = Arc::new(Journal::default());
    let delivery = Delivery::begin(target(&wire).await, marked(), journal.clone()).await.unwrap();
    for event in object(0, "a.csv", b"x") {
        delivery.accept(event).await.unwrap();
    }
    let sealed = delivery.seal().await.unwrap();
    assert_eq!(journal.sealed.lock().unwrap().as_ref().unwrap().len(), 3, "a later process knows of them");
    assert_eq!(sealed.objects().len(), 1, "the manifest does not name them");
    assert_eq!(wire.open_uploads(), 4, "the manifest's too");
    let done = sealed.complete().await.unwrap();
    let written = manifest(&customer, run, done.objects());
    let manifested = done.manifest(&written).await.unwrap();
    assert!(!wire.objects().contains_key(SUCCESS) && !wire.objects().contains_key(LATEST));
    manifested.mark().await.unwrap();
    assert_eq!(completed(&wire)[1..], [MANIFEST, SUCCESS, LATEST]);
    assert_eq!(wire.objects()[SUCCESS], "");
    assert_eq!([SUCCESS, LATEST].map(|key| wire.content_type(key)), ["application/octet-stream", "application/json"]);
    let latest: Value = serde_json::from_slice(&wire.objects()[LATEST]).unwrap();
    assert_eq!((&latest["manifest"], &latest["slot"]), (&MANIFEST.into(), &"2024-05-01T06:00:00Z".into()));
    assert_eq!(wire.open_uploads(), 0);
}

/// Nothing is in `_SUCCESS`, so that it is had again, unless it is there. The pointer comes with the next slot: what is
/// gone never completes.
#[tokio::test]
async fn a_marker_whose_upload_is_gone_keeps_no_delivery_from_its_end() {
    for (gone, there, left) in [(SUCCESS, false, 1), (SUCCESS, true, 2), (LATEST, false, 1)] {
        let wire = Wire::healthy().await;
        let manifested = manifested(&wire, &Arc::default()).await;
        wire.end(gone);
        if there {
            wire.put(gone, "");
        }
        let committed = manifested.mark().await.unwrap();
        assert_eq!((committed.lacking, committed.left.len()), (None, left), "{gone} {there}");
        let objects = wire.objects();
        assert_eq!(objects.get(SUCCESS).map(|bytes| bytes.len()), Some(0), "{gone} {there}");
        assert_eq!(objects.contains_key(LATEST), gone == SUCCESS, "{gone} {there}");
        // What was had again for nothing is aborted with what is left.
        assert_eq!(wire.open_uploads(), usize::from(there), "{gone} {there}");
    }
}

/// Nothing is in it: whoever has put it, it is as it should be. A bucket's policy may want that it is asked for so.
#[tokio::test]
async fn a_marker_that_is_there_is_left_alone() {
    for there in [false, true] {
        let wire = Wire::healthy().await;
        let manifested = manifested(&wire, &Arc::default()).await;
        if there {
            wire.put(SUCCESS, "theirs");
        }
        let committed = manifested.mark().await.unwrap();
        assert_eq!((committed.lacking, committed.left.len()), (None, usize::from(there)));
        assert_eq!(wire.objects()[SUCCESS], if there { "theirs" } else { "" });
        let seen = wire.seen().into_iter().find(|seen| seen.call == Call::Complete && seen.key == SUCCESS).unwrap();
        assert_eq!(seen.header("if-none-match"), Some("*"));
    }
}

/// Nor is what could not be had again taken for what completed.
#[tokio::test]
async fn a_marker_that_cannot_be_had_again_is_left_to_be_aborted() {
    for (call, lacking) in [(Call::Create, 1), (Call::Part, 2), (Call::Complete, 2)] {
        let wire = Wire::healthy().await;
        let manifested = manifested(&wire, &Arc::default()).await;
        wire.end(SUCCESS);
        let of_marker = move |seen: &Seen| seen.call == call && seen.key == SUCCESS;
        let told = std::sync::atomic::AtomicUsize::new(0);
        wire.obey(move |seen, _| {
            // The first completion is that of the upload that is gone.
            let is_first = call == Call::Complete && of_marker(seen) && told.fetch_add(1, Ordering::Relaxed) == 0;
            let refused = || Fault::Answer(403, vec![], s3_error("AccessDenied", "not any more"));
            (of_marker(seen) && !is_first).then(refused)
        });
        let committed = manifested.mark().await.unwrap();
        assert_eq!((committed.lacking, committed.left.len()), (None, lacking), "{call:?}");
        assert!(!wire.objects().contains_key(SUCCESS) && wire.objects().contains_key(LATEST), "{call:?}");
    }
}

/// What was begun for it is gone on with, and no other upload is made.
#[tokio::test]
async fn a_marker_that_is_had_again_is_completed_by_another_process() {
    let wire = Wire::healthy().await;
    let journal = Arc::new(Journal::default());
    let manifested = manifested(&wire, &journal).await;
    wire.end(SUCCESS);
    let told = std::sync::atomic::AtomicUsize::new(0);
    wire.obey(move |seen, _| {
        let is_marker = seen.call == Call::Complete && seen.key == SUCCESS;
        let fails = is_marker && told.fetch_add(1, Ordering::Relaxed) > 0;
        fails.then(|| Fault::Answer(503, vec![], s3_error("SlowDown", "not now")))
    });
    assert!(manifested.mark().await.unwrap().lacking.is_some());

    wire.heal();
    let second = resume_as(target(&wire).await, &customer(), (run_id(), Mode::Slot), &journal).await.unwrap();
    assert!(second.lacking.is_none() && second.left.is_empty(), "{second:?}");
    assert_eq!(wire.objects()[SUCCESS], "");
    assert_eq!(wire.open_uploads(), 0);
    let created = wire.seen().into_iter().filter(|seen| seen.call == Call::Create && seen.key == SUCCESS);
    assert_eq!(created.count(), 2);
}

#[tokio::test]
async fn the_pointer_is_left_alone_where_a_later_slot_is_delivered() {
    let wire = Wire::healthy().await;
    wire.put(LATEST, "newer");
    let journal = Arc::new(Journal { is_old: true, ..Journal::default() });
    let (customer, of) = (customer(), (run_id(), Mode::Slot));
    deliver_as(target(&wire).await, &customer, of, journal.clone(), marked(), object(0, "a.csv", b"x")).await.unwrap();
    assert_eq!(wire.objects()[LATEST], "newer");
    assert!(wire.objects().contains_key(SUCCESS));
    assert_eq!((wire.open_uploads(), journal.aborted_ids().len()), (0, 1));
}

#[tokio::test]
async fn markers_that_did_not_complete_are_completed_by_another_process() {
    for key in [SUCCESS, LATEST] {
        let wire = Wire::start(move |seen, _| {
            let fails = seen.call == Call::Complete && seen.key == key;
            fails.then(|| Fault::Answer(503, vec![], s3_error("SlowDown", "not now")))
        })
        .await;
        let (customer, of, journal) = (customer(), (run_id(), Mode::Slot), Arc::new(Journal::default()));
        let events = object(0, "a.csv", b"x");
        let first = deliver_as(target(&wire).await, &customer, of, journal.clone(), marked(), events).await.unwrap();
        assert!(first.lacking.unwrap().message.contains(key));
        assert!(first.left.len() == if key == SUCCESS { 2 } else { 1 }, "{:?}", first.left);

        wire.heal();
        let asked = wire.seen().len();
        let second = resume_as(target(&wire).await, &customer, of, &journal).await.unwrap();
        assert!(second.lacking.is_none() && second.left.is_empty(), "{second:?}");
        assert!(wire.objects().contains_key(SUCCESS) && wire.objects().contains_key(LATEST), "{key}");
        assert_eq!(wire.open_uploads(), 0, "{key}");
        let again = wire.seen().split_off(asked);
        assert!(again.iter().all(|seen| ![MANIFEST, "a.csv"].iter().any(|key| seen.key.ends_with(key))), "{again:?}");
    }
}

/// Who refuses what comes after the manifest does not undo it, not even by refusing the role.
#[tokio::test]
async fn a_delivery_whose_manifest_is_there_commits_whoever_refuses_it_then() {
    let wire = Wire::start(|seen, _| {
        let fails = seen.call == Call::Complete && seen.key == SUCCESS;
        fails.then(|| Fault::Answer(503, vec![], s3_error("SlowDown", "not now")))
    })
    .await;
    let (customer, of, journal) = (customer(), (run_id(), Mode::Slot), Arc::new(Journal::default()));
    let events = object(0, "a.csv", b"x");
    deliver_as(target(&wire).await, &customer, of, journal.clone(), marked(), events).await.unwrap();
    wire.obey(|seen, _| {
        let refused = || Fault::Answer(403, vec![], sts_error("AccessDenied", "not any more"));
        (seen.call == Call::AssumeRole).then(refused)
    });
    let second = resume_as(target(&wire).await, &customer, of, &journal).await.unwrap();
    assert!(second.lacking.is_none(), "{second:?}");
    assert_eq!(second.left.len(), 2, "they are aborted later");
}

/// The manifest is there, and a repeat would only meet it.
#[tokio::test]
async fn a_marker_that_is_refused_in_the_end_does_not_undo_the_manifest() {
    let wire = Wire::start(move |seen, _| {
        let fails = seen.call == Call::Complete && seen.key == SUCCESS;
        fails.then(|| Fault::Answer(403, vec![], s3_error("AccessDenied", "Access Denied")))
    })
    .await;
    let (customer, of) = (customer(), (run_id(), Mode::Slot));
    let events = object(0, "a.csv", b"x");
    let delivered = deliver_as(target(&wire).await, &customer, of, Arc::default(), marked(), events).await.unwrap();
    assert_eq!(delivered.left.len(), 1, "it is aborted later");
    assert!(wire.objects().contains_key(LATEST) && wire.objects().contains_key(MANIFEST));
    assert_eq!(wire.open(), [SUCCESS]);
}

#[tokio::test]
async fn a_marker_that_is_refused_fails_the_delivery_before_anything_is_visible() {
    let wire = Wire::start(|seen, _| {
        let refused = seen.call == Call::Create && seen.key == LATEST;
        refused.then(|| Fault::Answer(403, vec![], s3_error("AccessDenied", "Access Denied")))
    })
    .await;
    let (customer, of) = (customer(), (run_id(), Mode::Slot));
    let journal = Arc::new(Journal::default());
    deliver_as(target(&wire).await, &customer, of, journal, marked(), object(0, "a.csv", b"x")).await.unwrap_err();
    assert!(wire.objects().is_empty());
    assert_eq!(wire.open_uploads(), 0);
}

#[tokio::test]
async fn a_plugin_cannot_take_the_markers_name() {
    let wire = Wire::healthy().await;
    let (customer, of) = (customer(), (run_id(), Mode::Slot));
    let journal = Arc::new(Journal::default());
    let events = object(0, "_SUCCESS", b"x");
    let failure = deliver_as(target(&wire).await, &customer, of, journal, marked(), events).await.unwrap_err();
    assert!(failure.message.contains("_SUCCESS"), "{failure:?}");
    assert!(wire.objects().is_empty());
}

#[tokio::test]
async fn a_slot_takes_the_place_of_the_one_before() {
    let wire = Wire::healthy().await;
    let customer = customer();
    for (day, contents) in [("2024-05-01", "old"), ("2024-05-02", "new")] {
        let slot = format!("{day}T06:00:00Z").parse().unwrap();
        let template = KeyTemplate::default_replaced();
        let spec = DeliverySpec { slot, template, ..spec(Compression::None) };
        let (of, journal) = ((run_id(), Mode::Replace), Arc::new(Journal::default()));
        let events = object(0, "latest.csv", contents.as_bytes());
        deliver_as(target(&wire).await, &customer, of, journal, spec, events).await.unwrap();
        assert_eq!(wire.objects()["uploads/us/orders/latest.csv"], contents);
        let manifest: Value = serde_json::from_slice(&wire.objects()["uploads/us/orders/_manifest.json"]).unwrap();
        assert_eq!(
            (&manifest["mode"], &manifest["slot"]),
            (&"replace".into(), &slot.to_rfc3339_opts(chrono::SecondsFormat::Secs, true).into())
        );
    }
    assert_eq!(wire.open_uploads(), 0);
    assert!(wire.seen().iter().all(|seen| !seen.headers.contains_key("if-none-match")));
}
