//! What a good delivery leaves, and what one that is given up does not.

use std::sync::Arc;

use consign::config::Compression;
use consign::delivery::{Delivery, DeliverySpec, Target};
use consign::domain::{Layer, Manifest, OutputEvent, Retry};
use consign::sandbox::{Algorithm, Coverage, Policy};

use super::world::*;
use crate::delivery::world::{run_id, spec};

#[test]
fn the_checksum_of_these_tests_is_the_published_one() {
    // The check value of the catalogue of parametrised CRCs: 0xae8b14860a799888.
    assert_eq!(crc64nvme(b"123456789"), "rosUhgp5mIg=");
}

#[tokio::test]
async fn a_good_delivery_is_all_there() {
    let scene = Scene::start().await;
    let contents = [noise(12 * MIB + 7), b"x,y\n".to_vec(), Vec::new()];
    let names = ["a.csv", "b c+é.csv", "empty.csv"];
    let events = contents.iter().zip(names).zip(0..).flat_map(|((contents, name), n)| object(n, name, contents));
    let committed = scene.deliver(events.collect()).await.unwrap();

    let mut keys: Vec<String> = names.iter().map(|name| format!("{FOLDER}{name}")).collect();
    assert_eq!(committed.objects.iter().map(|object| object.key.clone()).collect::<Vec<_>>(), keys);
    keys.push(MANIFEST.into());
    keys.sort();
    assert_eq!(scene.keys(), keys);
    for (delivered, contents) in committed.objects.iter().zip(&contents) {
        assert!(scene.contents(&delivered.key) == *contents, "{} differs", delivered.key);
        assert_eq!(delivered.bytes, contents.len() as u64);
        assert_eq!(delivered.checksum_crc64nvme, crc64nvme(contents), "{}", delivered.key);
        let stored = scene.sandbox.list(BUCKET).into_iter().find(|stored| stored.key == delivered.key).unwrap();
        assert_eq!(stored.checksums.get(&Algorithm::Crc64Nvme), Some(&delivered.checksum_crc64nvme));
        assert_eq!((stored.coverage, &stored.etag), (Coverage::FullObject, &delivered.etag));
        assert_eq!(stored.attributes.media_type.as_deref(), Some("text/csv"));
    }
    let read: Manifest = serde_json::from_slice(&scene.contents(MANIFEST)).unwrap();
    assert_eq!(read.objects, committed.objects);
    assert_eq!(scene.sandbox.uploads(BUCKET).len(), 0);
}

/// S3 User Guide, "Enforce conditional writes on Amazon S3 buckets": nothing is to be replaced.
#[tokio::test]
async fn a_bucket_that_wants_conditional_writes_gets_the_whole_of_a_first_attempt() {
    let policy = r#"{ "Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::acme-data/*",
        "Condition": { "Null": { "s3:if-none-match": "true" }, "Bool": { "s3:ObjectCreationOperation": "true" } } }] }"#;
    let policy = Policy::parse(policy).unwrap();
    let scene = Scene::with(|config| config.accounts[0].buckets[0].policy = Some(policy)).await;
    let journal = Arc::new(Journal::default());
    let (customer, run) = (Arc::new(scene.customer.clone()), run_id());
    let target = Target::bucket(&scene.vendor().await, &customer, run).unwrap();
    let spec = DeliverySpec { success_marker: true, ..spec(Compression::None) };
    let begun = Delivery::begin(target, spec, journal).await.unwrap();
    for event in ["a.csv", "b.csv"].into_iter().zip(0..).flat_map(|(name, number)| object(number, name, b"x")) {
        begun.accept(event).await.unwrap();
    }
    let completed = begun.seal().await.unwrap().if_new(true).complete().await.unwrap();
    let written = manifest(&customer, run, completed.objects());
    let committed = completed.manifest(&written).await.unwrap().mark().await.unwrap();
    assert!(committed.left.is_empty() && committed.lacking.is_none(), "{committed:?}");
    assert_eq!(scene.keys(), ["_SUCCESS", "_manifest.json", "a.csv", "b.csv"].map(|name| format!("{FOLDER}{name}")));
    // What would replace is refused.
    let failure = scene.deliver(object(0, "c.csv", b"x")).await.unwrap_err();
    assert!(failure.message.contains("AccessDenied"), "{failure:?}");
}

/// One session, of the customer's role and named after the run; the manifest last.
#[tokio::test]
async fn the_customer_sees_one_session_that_writes_the_manifest_last() {
    let scene = Scene::start().await;
    scene.deliver(object(0, "a.csv", &noise(11 * MIB))).await.unwrap();
    let read: Manifest = serde_json::from_slice(&scene.contents(MANIFEST)).unwrap();
    let session = format!("arn:aws:sts::{ACCOUNT}:assumed-role/consign-delivery/");
    let journal = scene.sandbox.journal();
    assert_eq!(scene.answers("AssumeRole"), [(200, None)]);
    for entry in journal.iter().filter(|entry| entry.operation != "AssumeRole") {
        let caller = entry.caller.as_deref().unwrap();
        assert!(caller.starts_with(&session) && caller.contains(&read.run.to_string()), "{entry:?}");
        assert!(entry.status < 300, "{entry:?}");
    }
    let writes = journal.iter().filter(|entry| matches!(&*entry.operation, "CompleteMultipartUpload" | "PutObject"));
    let keys: Vec<_> = writes.filter_map(|entry| entry.key.clone()).collect();
    assert_eq!(keys, [format!("{FOLDER}a.csv"), MANIFEST.to_owned()]);
}

#[tokio::test]
async fn a_slot_is_committed_once() {
    let scene = Scene::start().await;
    scene.deliver(object(0, "a.csv", b"first\n")).await.unwrap();
    let before = scene.contents(MANIFEST);
    let failure = scene.deliver(object(0, "a.csv", b"first\n")).await.unwrap_err();
    assert_eq!((failure.layer, failure.retry), (Layer::Conflict, Retry::Never), "{failure:?}");
    assert!(failure.message.contains(MANIFEST), "{failure:?}");
    assert!(failure.remedy.contains(&format!("delete '{MANIFEST}' first")), "{failure:?}");
    assert!(scene.contents(MANIFEST) == before, "the manifest was overwritten");
    assert_eq!(scene.sandbox.uploads(BUCKET).len(), 1, "the manifest's is left to whoever writes the failure down");
}

#[tokio::test]
async fn of_deliveries_at_the_same_time_one_commits() {
    let scene = Scene::start().await;
    let same = || scene.deliver(object(0, "a.csv", b"1,2\n"));
    let results: [_; 4] = tokio::join!(same(), same(), same(), same()).into();
    let committed = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(committed, 1, "{results:?}");
    for failure in results.into_iter().filter_map(Result::err) {
        assert_eq!(failure.layer, Layer::Conflict, "{failure:?}");
    }
    assert_eq!(scene.keys(), [MANIFEST.to_owned(), format!("{FOLDER}a.csv")]);
    assert_eq!(scene.sandbox.uploads(BUCKET).len(), 3, "the manifests' are left to whoever writes the failures down");
}

#[tokio::test]
async fn a_delivery_that_is_aborted_leaves_nothing() {
    let scene = Scene::start().await;
    let journal = Arc::new(Journal::default());
    let (delivery, _) = scene.begin(&journal).await.unwrap();
    delivery.accept(create(0, "a.csv")).await.unwrap();
    delivery.accept(create(1, "b.csv")).await.unwrap();
    for _ in 0..3 {
        delivery.accept(bytes(0, &noise(6 * MIB))).await.unwrap();
        delivery.accept(bytes(1, &noise(6 * MIB))).await.unwrap();
    }
    delivery.accept(OutputEvent::Finish { object: 1, rows: 1 }).await.unwrap();
    assert_eq!(scene.keys(), [] as [String; 0], "visible before the end");
    assert!(!scene.sandbox.uploads(BUCKET).is_empty());
    delivery.abort().await.unwrap();
    assert_eq!(scene.keys(), [] as [String; 0]);
    assert_eq!(scene.sandbox.uploads(BUCKET).len(), 0);
    assert_eq!(journal.upload_ids(), journal.aborted_ids());
    assert_eq!(journal.upload_ids().len(), 2);
}

/// An object that its plugin never finished is no object.
#[tokio::test]
async fn a_delivery_that_is_incomplete_leaves_nothing() {
    let scene = Scene::start().await;
    let (delivery, _) = scene.begin(&Arc::default()).await.unwrap();
    for event in object(0, "a.csv", &noise(7 * MIB)) {
        delivery.accept(event).await.unwrap();
    }
    delivery.accept(create(1, "b.csv")).await.unwrap();
    delivery.accept(bytes(1, &noise(7 * MIB))).await.unwrap();
    let Err(failure) = delivery.seal().await else { panic!("sealed") };
    assert_eq!(failure.layer, Layer::Plugin, "{failure:?}");
    assert!(failure.message.contains("b.csv' was never finished"), "{failure:?}");
    assert_eq!(scene.keys(), [] as [String; 0]);
    assert_eq!(scene.sandbox.uploads(BUCKET).len(), 0);
}

/// Sealed is stored, not visible; the journal knows each upload that is there.
#[tokio::test]
async fn a_sealed_delivery_is_not_visible() {
    let scene = Scene::start().await;
    let journal = Arc::new(Journal::default());
    let (delivery, run) = scene.begin(&journal).await.unwrap();
    for event in object(0, "a.csv", &noise(7 * MIB)) {
        delivery.accept(event).await.unwrap();
    }
    let sealed = delivery.seal().await.unwrap();
    assert_eq!(scene.keys(), [] as [String; 0]);
    let open: Vec<String> = scene.sandbox.uploads(BUCKET).into_iter().map(|upload| upload.id).collect();
    assert_eq!(open, journal.upload_ids());
    let completed = sealed.complete().await.unwrap();
    assert_eq!(scene.keys(), [format!("{FOLDER}a.csv")], "the manifest is not there yet");
    let written = manifest(&scene.customer, run, completed.objects());
    completed.manifest(&written).await.unwrap().mark().await.unwrap();
    assert!(scene.keys().contains(&MANIFEST.to_owned()));
}
