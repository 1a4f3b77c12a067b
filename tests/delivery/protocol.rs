//! The protocol itself: what is asked for, in which order, and what results.

use std::fs;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use chrono::TimeDelta;
use consign::clock::Clock;
use consign::config::{Compression, Customer, Encryption};
use consign::delivery::{Delivery, DeliverySpec, Progress, Target, Vendor};
use consign::domain::{Completion, CustomerPrefix, Layer, Manifest, OutputEvent, SealedObject};
use proptest::prelude::*;

use super::spilled::spilled;
use super::wire::{Call, Fault, Seen, Wire, crc};
use super::world::*;

#[tokio::test]
async fn a_delivery_is_invisible_until_sealed_and_the_manifest_comes_last() {
    let wire = Wire::healthy().await;
    let vendor = vendor(&aws(&wire.url)).await;
    let (customer, run, journal) = (Arc::new(customer()), run_id(), Arc::new(Journal::default()));
    let target = Target::bucket(&vendor, &customer, run).unwrap();

    let delivery = Delivery::begin(target, spec(Compression::None), journal.clone()).await.unwrap();
    let progress = delivery.progress();
    for event in object(0, "a.csv", &vec![7; 12 * MIB]).into_iter().chain(object(1, "b.csv", b"small")).chain(object(
        2,
        "empty.csv",
        b"",
    )) {
        delivery.accept(event).await.unwrap();
    }
    let sealed = delivery.seal().await.unwrap();
    assert!(wire.objects().is_empty(), "sealed is not visible");
    let kept = journal.sealed.lock().unwrap().clone().unwrap();
    assert!(kept.iter().all(|object| object.completion == Completion::InDoubt), "nobody knows after a crash");
    let open = kept.into_iter().map(|object| SealedObject { completion: Completion::Open, ..object });
    assert_eq!(open.collect::<Vec<_>>(), sealed.objects());
    assert_eq!(journal.uploads.lock().unwrap().len(), 4, "the manifest's too");
    let bytes = 12 * MIB as u64 + 5;
    let moved = progress.borrow().moved;
    assert!(moved.is_some());
    let all = Progress { objects: 3, accepted_bytes: bytes, stored_bytes: bytes, stored_parts: 5, moved };
    assert_eq!(*progress.borrow(), all);

    let completed = sealed.complete().await.unwrap();
    assert!(!wire.objects().contains_key(MANIFEST));
    let written = manifest(&customer, run, completed.objects());
    let committed = completed.manifest(&written).await.unwrap().mark().await.unwrap();

    let objects = wire.objects();
    assert_eq!(objects.len(), 4);
    assert_eq!(objects[&format!("{FOLDER}b.csv")], "small");
    assert_eq!(objects[&format!("{FOLDER}empty.csv")], "");
    assert_eq!(committed.manifest_key.as_str(), MANIFEST);
    let read: Manifest = serde_json::from_slice(&objects[MANIFEST]).unwrap();
    assert_eq!(read, written);
    assert_eq!(read.objects[0].checksum_crc64nvme, crc(&vec![7; 12 * MIB]));
    assert_eq!(read.objects[0].bytes, 12 * MIB as u64);
    assert!(read.objects[0].etag.starts_with("whole-"), "{:?}", read.objects[0]);
    assert_eq!(wire.content_type(MANIFEST), "application/json");
    assert_eq!(wire.open_uploads(), 0);

    let last = wire.seen().pop().unwrap();
    assert_eq!((last.call, last.headers["if-none-match"].to_str().unwrap()), (Call::Complete, "*"));
    assert_eq!(wire.count(Call::AssumeRole), 1, "one session for the whole delivery");
}

#[tokio::test]
async fn the_session_names_the_run_and_is_narrowed_to_the_prefix() {
    let wire = Wire::healthy().await;
    let customer = Arc::new(customer());
    deliver(&vendor(&aws(&wire.url)).await, &customer, object(0, "a.csv", b"x")).await.unwrap();
    let assume = wire.seen().into_iter().find(|seen| seen.call == Call::AssumeRole).unwrap();
    let form: std::collections::HashMap<_, _> = url::form_urlencoded::parse(&assume.body).into_owned().collect();
    assert_eq!(form["RoleArn"], customer.role_arn.as_str());
    assert_eq!(form["ExternalId"], "c0ns1gn-7f0c");
    assert_eq!(form["DurationSeconds"], "3600");
    assert!(consign::domain::RunId::parse(&form["RoleSessionName"]).is_ok(), "{}", form["RoleSessionName"]);
    let policy: serde_json::Value = serde_json::from_str(&form["Policy"]).unwrap();
    assert_eq!(policy["Statement"][0]["Resource"], "arn:aws:s3:::acme-data/uploads/us/*");
    assert_eq!(policy["Statement"][0]["Action"], serde_json::json!(["s3:PutObject", "s3:AbortMultipartUpload"]));
    assert_eq!(policy["Statement"][1]["Condition"]["StringEquals"]["kms:ViaService"], "s3.eu-west-1.amazonaws.com");
    let scope = assume.headers["authorization"].to_str().unwrap();
    assert!(scope.contains("/eu-west-1/sts/"), "regional: {scope}");
}

#[tokio::test]
async fn a_session_is_renewed_ahead_of_its_end_while_the_upload_goes_on() {
    let wire = Wire::healthy().await;
    let clock = Clock::fixed(Clock::system().now());
    let vendor = Vendor::new(&aws(&wire.url), 1, clock.clone()).await.unwrap();
    let delivery = begin(&vendor, &Arc::new(customer())).await;
    delivery.accept(create(0, "a.csv")).await.unwrap();
    for minutes in [0, 54, 56] {
        clock.set(clock.now() + TimeDelta::minutes(minutes));
        let part = usize::try_from(delivery.progress().borrow().stored_bytes).unwrap() / (5 * MIB) + 1;
        delivery.accept(bytes(0, vec![1; 5 * MIB])).await.unwrap();
        let stored = delivery.progress().wait_for(|done| done.stored_bytes == (5 * part * MIB) as u64).await.map(drop);
        stored.unwrap();
    }
    delivery.accept(finish(0)).await.unwrap();
    delivery.seal().await.unwrap().complete().await.unwrap();
    let token = |seen: Seen| seen.headers["x-amz-security-token"].to_str().unwrap().to_owned();
    let used: Vec<_> = wire.seen().into_iter().filter(|seen| seen.call != Call::AssumeRole).map(token).collect();
    // Created and two parts before the 55th minute; a part, the manifest's creation and the completion after it.
    assert_eq!(used, ["token-1", "token-1", "token-1", "token-2", "token-2", "token-2"]);
    assert_eq!(wire.count(Call::AssumeRole), 2);
}

#[tokio::test]
async fn a_session_is_gone_with_its_delivery() {
    let wire = Wire::healthy().await;
    let vendor = vendor(&aws(&wire.url)).await;
    let (customer, run) = (Arc::new(customer()), run_id());
    for times in 1..=3 {
        let target = Target::bucket(&vendor, &customer, run).unwrap();
        let delivery = Delivery::begin(target, spec(Compression::None), Arc::new(Journal::default())).await.unwrap();
        delivery.abort().await.unwrap();
        assert_eq!(wire.count(Call::AssumeRole), times, "nothing is kept of the one before");
    }
}

/// STS takes nothing above U+00FF in a policy.
#[tokio::test]
async fn a_prefix_in_any_script_is_ascii_in_the_session_policy() {
    let wire = Wire::healthy().await;
    let prefix = CustomerPrefix::parse("数据/für uns/🦀").unwrap();
    let customer = Customer { prefix: prefix.clone(), ..customer() };
    deliver(&vendor(&aws(&wire.url)).await, &Arc::new(customer), object(0, "a.csv", b"x")).await.unwrap();
    let assume = wire.seen().into_iter().find(|seen| seen.call == Call::AssumeRole).unwrap();
    let form: std::collections::HashMap<_, _> = url::form_urlencoded::parse(&assume.body).into_owned().collect();
    assert!(form["Policy"].is_ascii(), "{}", form["Policy"]);
    let policy: serde_json::Value = serde_json::from_str(&form["Policy"]).unwrap();
    assert_eq!(policy["Statement"][0]["Resource"], format!("arn:aws:s3:::acme-data/{prefix}*"));
}

#[tokio::test]
async fn what_the_profile_asks_for_is_in_each_upload() {
    let wire = Wire::healthy().await;
    let mut customer = customer();
    customer.encryption = Encryption::Kms { key: Some("alias/data".into()) };
    customer.storage_class = Some("STANDARD_IA".into());
    customer.acl = Some("bucket-owner-full-control".into());
    customer.tags = [("team".to_owned(), "data & co".to_owned()), ("a+b".to_owned(), "c".to_owned())].into();
    deliver(&vendor(&aws(&wire.url)).await, &Arc::new(customer), object(0, "a.csv", b"x")).await.unwrap();
    let creates: Vec<_> = wire.seen().into_iter().filter(|seen| seen.call == Call::Create).collect();
    assert_eq!(creates.len(), 2, "the object and the manifest");
    for create in creates {
        let header = |name: &str| create.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-amz-server-side-encryption"), "aws:kms");
        assert_eq!(header("x-amz-server-side-encryption-aws-kms-key-id"), "alias/data");
        assert_eq!(header("x-amz-storage-class"), "STANDARD_IA");
        assert_eq!(header("x-amz-acl"), "bucket-owner-full-control");
        assert_eq!(header("x-amz-tagging"), "a%2Bb=c&team=data%20%26%20co");
    }
}

#[tokio::test]
async fn the_expected_owner_is_in_every_call() {
    let wire = Wire::healthy().await;
    let vendor = vendor(&aws(&wire.url)).await;
    let customer = Arc::new(customer());
    let delivery = begin(&vendor, &customer).await;
    for event in object(0, "a.csv", &vec![1; 6 * MIB]) {
        delivery.accept(event).await.unwrap();
    }
    delivery.abort().await.unwrap();
    deliver(&vendor, &customer, object(0, "a.csv", b"x")).await.unwrap();
    for seen in wire.seen().iter().filter(|seen| seen.call != Call::AssumeRole) {
        assert_eq!(seen.headers["x-amz-expected-bucket-owner"], "123456789012", "{seen:?}");
    }
}

#[tokio::test]
async fn abort_leaves_nothing() {
    let wire = Wire::healthy().await;
    let vendor = vendor(&aws(&wire.url)).await;
    let delivery = begin(&vendor, &Arc::new(customer())).await;
    delivery.accept(create(0, "a.csv")).await.unwrap();
    delivery.accept(bytes(0, vec![1; 11 * MIB])).await.unwrap();
    delivery.accept(create(1, "b.csv")).await.unwrap();
    delivery.abort().await.unwrap();
    assert!(wire.objects().is_empty());
    assert_eq!(wire.open_uploads(), 0);
}

/// S3 keeps a part that comes after the abort of its upload.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_abort_comes_after_the_last_word_of_every_part() {
    let (let_go, gate) = mpsc::channel();
    let wire = Wire::start(move |seen, _| {
        if seen.call == Call::Part {
            gate.recv().unwrap();
        }
        None
    })
    .await;
    let vendor = vendor(&aws(&wire.url)).await;
    let delivery = begin(&vendor, &Arc::new(customer())).await;
    delivery.accept(create(0, "a.csv")).await.unwrap();
    delivery.accept(bytes(0, vec![1; 5 * MIB])).await.unwrap();
    // Whoever reads how far it is has the part's task stand still when its answer is there.
    let (read, reads) = mpsc::channel();
    let (go_on, stands) = mpsc::channel::<()>();
    let (held, waits) = (delivery.progress(), delivery.progress());
    let holder = std::thread::spawn(move || {
        let progress = held.borrow();
        read.send(()).unwrap();
        stands.recv().unwrap();
        drop(progress);
    });
    reads.recv().unwrap();
    let_go.send(()).unwrap();
    // It waits to write once nobody else gets to read.
    let is_written = move || {
        let (read, reads) = mpsc::channel();
        let waits = waits.clone();
        std::thread::spawn(move || read.send(waits.borrow().stored_parts));
        reads.recv_timeout(Duration::from_secs(1)).is_err()
    };
    tokio::task::block_in_place(|| while !is_written() {});
    let abort = tokio::spawn(delivery.abort());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (asked, has_ended) = (wire.count(Call::Abort), abort.is_finished());
    go_on.send(()).unwrap();
    abort.await.unwrap().unwrap();
    holder.join().unwrap();
    assert_eq!((asked, has_ended), (0, false), "the part is at work");
    assert_eq!((wire.count(Call::Abort), wire.open_uploads()), (1, 0));
}

#[tokio::test]
async fn misuse_by_a_plugin_is_the_plugins_failure_and_leaves_nothing() {
    let cases: [(&str, Vec<OutputEvent>); 4] = [
        ("two objects", vec![create(0, "a.csv"), create(1, "a.csv")]),
        ("not open", vec![bytes(0, "x")]),
        ("not open", object(0, "a.csv", b"x").into_iter().chain([bytes(0, "y")]).collect()),
        ("never finished", vec![create(0, "a.csv"), bytes(0, "x")]),
    ];
    for (says, events) in cases {
        let wire = Wire::healthy().await;
        let failure = deliver(&vendor(&aws(&wire.url)).await, &Arc::new(customer()), events).await.unwrap_err();
        assert_eq!(failure.layer, Layer::Plugin, "{failure:?}");
        assert!(failure.message.contains(says), "{failure:?}");
        assert_eq!((wire.objects().len(), wire.open_uploads()), (0, 0));
    }
}

#[tokio::test]
async fn a_sealed_delivery_rolls_forward_in_another_process() {
    let wire = Wire::healthy().await;
    let vendor = vendor(&aws(&wire.url)).await;
    let (customer, run, journal) = (Arc::new(customer()), run_id(), Arc::new(Journal::default()));
    let target = || Target::bucket(&vendor, &customer, run).unwrap();
    let delivery = Delivery::begin(target(), spec(Compression::None), journal.clone()).await.unwrap();
    for event in object(0, "a.csv", b"a").into_iter().chain(object(1, "b.csv", b"b")) {
        delivery.accept(event).await.unwrap();
    }
    drop(delivery.seal().await.unwrap());

    // Three processes, each of which dies a step further on.
    let resume =
        async || Delivery::resume(target(), journal.clone(), std::env::temp_dir(), journal.left()).await.unwrap();
    drop(resume().await.complete().await.unwrap());
    assert_eq!(wire.objects().len(), 2);
    let completed = resume().await.complete().await.unwrap();
    let first = manifest(&customer, run, completed.objects());
    completed.manifest(&first).await.unwrap().mark().await.unwrap();
    // The ledger did not hear of the commit: the next process finds it to be its own.
    let completed = resume().await.complete().await.unwrap();
    let again = manifest(&customer, run_id(), completed.objects());
    completed.manifest(&again).await.unwrap().mark().await.unwrap();
    let read: Manifest = serde_json::from_slice(&wire.objects()[MANIFEST]).unwrap();
    assert_eq!(read, first, "the first manifest stays");
}

#[tokio::test]
async fn an_upload_left_behind_is_aborted_later_and_only_under_the_prefix() {
    let wire = Wire::healthy().await;
    let vendor = vendor(&aws(&wire.url)).await;
    let (customer, journal) = (Arc::new(customer()), Arc::new(Journal::default()));
    let target = Target::bucket(&vendor, &customer, run_id()).unwrap();
    let delivery = Delivery::begin(target.clone(), spec(Compression::None), journal.clone()).await.unwrap();
    delivery.accept(create(0, "a.csv")).await.unwrap();
    delivery.accept(bytes(0, vec![1; 6 * MIB])).await.unwrap();
    // Only what S3 has heard of can be left behind.
    while wire.open_uploads() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(delivery);
    let begun = async {
        while journal.uploads.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), begun).await.expect("the journal hears of it all the same");
    let uploads = journal.uploads.lock().unwrap().clone();
    assert_eq!(uploads.len(), 1);
    for (key, id) in &uploads {
        target.abort_upload(key, id).await.unwrap();
        target.abort_upload(key, id).await.unwrap();
    }
    assert_eq!(wire.open_uploads(), 0);
    let failure = target.abort_upload("other/a.csv", "upload-1").await.unwrap_err();
    assert_eq!(failure.layer, Layer::Config);
}

#[tokio::test]
async fn another_committed_delivery_is_a_conflict_and_stays() {
    let wire = Wire::healthy().await;
    wire.put(MANIFEST, "theirs");
    let failure =
        deliver(&vendor(&aws(&wire.url)).await, &Arc::new(customer()), object(0, "a.csv", b"x")).await.unwrap_err();
    assert_eq!(failure.layer, Layer::Conflict, "{failure:?}");
    assert!(failure.message.contains("this attempt did not write it"), "{failure:?}");
    assert!(failure.remedy.contains("Objects with the keys of this slot may have been replaced"), "{failure:?}");
    assert_eq!(wire.objects()[MANIFEST], "theirs");
    assert_eq!(wire.open(), [MANIFEST], "left to whoever writes the failure down");
}

/// A plugin may open thousands of objects in an instant.
#[tokio::test]
async fn uploads_are_created_a_few_at_a_time() {
    let wire = Wire::start(|seen, _| (seen.call == Call::Create).then_some(Fault::Stall)).await;
    let delivery = begin(&vendor(&aws(&wire.url)).await, &Arc::new(customer())).await;
    for number in 0..50 {
        delivery.accept(create(number, &format!("{number}.csv"))).await.unwrap();
    }
    while wire.count(Call::Create) < 8 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(wire.count(Call::Create), 8);
}

#[tokio::test]
async fn many_open_objects_wait_in_files_rather_than_in_memory() {
    let wire = Wire::healthy().await;
    let vendor = vendor(&aws(&wire.url)).await;
    let (_dir, dir) = scratch();
    let target = Target::bucket(&vendor, &Arc::new(customer()), run_id()).unwrap();
    let spec = DeliverySpec { spill_dir: dir.join("spill"), ..spec(Compression::None) };
    let delivery = Delivery::begin(target, spec, Arc::new(Journal::default())).await.unwrap();
    let in_files =
        || -> u64 { spilled(&dir).iter().filter_map(|file| fs::metadata(file).ok()).map(|is| is.len()).sum() };
    let count = 20;
    for object in 0..count {
        delivery.accept(create(object, &format!("{object}.csv"))).await.unwrap();
    }
    for turn in 0..12u8 {
        // Of the 90 MiB that wait no more than 64 are in memory, and no part is whole yet.
        if turn == 9 {
            let waits = async {
                while in_files() < 25 * MIB as u64 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let waits = tokio::time::timeout(Duration::from_secs(20), waits).await;
            assert!(waits.is_ok(), "{} bytes are in files", in_files());
            assert_eq!(wire.count(Call::Part), 0);
        }
        for object in 0..count {
            delivery.accept(bytes(object, vec![turn ^ object as u8; MIB / 2])).await.unwrap();
        }
    }
    for object in 0..count {
        delivery.accept(finish(object)).await.unwrap();
    }
    delivery.seal().await.unwrap().complete().await.unwrap();
    let objects = wire.objects();
    for object in 0..count {
        let expected: Vec<u8> = (0..12u8).flat_map(|turn| vec![turn ^ object as u8; MIB / 2]).collect();
        assert!(objects[&format!("{FOLDER}{object}.csv")] == expected, "object {object}");
    }
}

/// Whichever piece comes first, the manifest has them in the order of their rows.
#[tokio::test]
async fn objects_of_pieces_are_in_the_order_of_the_pieces() {
    let wire = Wire::healthy().await;
    let vendor = vendor(&aws(&wire.url)).await;
    let delivery = begin(&vendor, &Arc::new(customer())).await;
    for piece in [2, 0, 1] {
        let names = [format!("{piece}-0.csv"), format!("{piece}-1.csv")];
        for event in (0..).zip(&names).flat_map(|(number, name)| object(number, name, name.as_bytes())) {
            delivery.accept_of(piece, event).await.unwrap();
        }
    }
    let failure = delivery.accept_of(3, create(0, "1-1.csv")).await.unwrap_err();
    assert_eq!(failure.message, "two objects have the name '1-1.csv'");
    let sealed = delivery.seal().await.unwrap();
    let names: Vec<&str> = sealed.objects().iter().filter_map(|object| object.key.strip_prefix(FOLDER)).collect();
    assert_eq!(names, ["0-0.csv", "0-1.csv", "1-0.csv", "1-1.csv", "2-0.csv", "2-1.csv"]);
    sealed.complete().await.unwrap();
    assert!(wire.objects()[&format!("{FOLDER}1-1.csv")] == b"1-1.csv"[..]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 50, ..ProptestConfig::default() })]

    /// Objects written in any turns and pieces arrive as they were written, in
    /// parts that S3 takes.
    #[test]
    fn what_is_written_is_what_arrives(writes in proptest::collection::vec((0u32..4, 0usize..3 * MIB), 1..24)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let wire = Wire::healthy().await;
            let vendor = vendor(&aws(&wire.url)).await;
            let mut expected = std::collections::BTreeMap::<u32, Vec<u8>>::new();
            let mut events = Vec::new();
            for (turn, (object, size)) in writes.into_iter().enumerate() {
                let contents = expected.entry(object).or_insert_with(|| {
                    events.push(create(object, &format!("{object}.bin")));
                    Vec::new()
                });
                let piece: Vec<u8> = (0..size).map(|i| (i * 31 + turn) as u8).collect();
                contents.extend_from_slice(&piece);
                events.push(bytes(object, piece));
            }
            events.extend(expected.keys().map(|object| finish(*object)));
            deliver(&vendor, &Arc::new(customer()), events).await.unwrap();
            let (objects, sizes) = (wire.objects(), wire.part_sizes());
            assert_eq!(objects.len(), expected.len() + 1);
            for (object, contents) in expected {
                let key = format!("{FOLDER}{object}.bin");
                assert!(objects[&key] == contents, "object {object}");
                let (last, full) = sizes[&key].split_last().unwrap();
                assert!(full.iter().all(|size| *size == 5 * MIB), "{full:?}");
                assert!(*last <= 5 * MIB && (full.is_empty() || *last > 0), "{last}");
            }
        });
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let clock = consign::clock::Clock::system;
    let mut settings = aws("http://127.0.0.1:1");
    settings.part_bytes = 1 << 20;
    assert!(consign::delivery::Vendor::new(&settings, 1, clock()).await.is_err());
    settings.part_bytes = 8 << 20;
    settings.part_concurrency = 0;
    assert!(consign::delivery::Vendor::new(&settings, 1, clock()).await.is_err());
}

#[tokio::test]
async fn the_vendors_own_keys_can_be_lent() {
    let keys = vendor(&aws("http://127.0.0.1:1")).await.keys();
    let lent = keys().await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(lent.access_key_id.reveal(), "AKIAVENDOR");
    assert_eq!(lent.secret_access_key.reveal(), "vendorsecret");
    assert!(lent.session_token.is_none());
}

#[tokio::test]
async fn a_prefix_too_long_for_a_session_policy_is_refused_before_anything() {
    let vendor = vendor(&aws("http://127.0.0.1:1")).await;
    let mut customer = customer();
    // Every character that JSON has to escape counts more than once.
    customer.prefix = consign::domain::CustomerPrefix::parse(&"\"".repeat(500)).unwrap();
    let fits = Target::bucket(&vendor, &Arc::new(customer.clone()), run_id());
    assert!(fits.is_ok(), "{:?}", fits.err());
    customer.encryption =
        Encryption::Kms { key: Some(format!("arn:aws:kms:eu-west-1:123456789012:key/{}", "k".repeat(900))) };
    let failure = Target::bucket(&vendor, &Arc::new(customer), run_id()).err().unwrap();
    assert_eq!(failure.layer, Layer::Config);
    assert!(failure.message.contains("2048"), "{failure:?}");
    // And what is not ASCII counts six times.
    let mut customer = self::customer();
    customer.encryption =
        Encryption::Kms { key: Some(format!("arn:aws:kms:eu-west-1:123456789012:key/{}", "k".repeat(200))) };
    for (letter, fits) in [("a", true), ("ж", false)] {
        customer.prefix = CustomerPrefix::parse(&letter.repeat(255)).unwrap();
        let target = Target::bucket(&vendor, &Arc::new(customer.clone()), run_id());
        assert_eq!(target.err().map(|failure| failure.layer), (!fits).then_some(Layer::Config), "{letter}");
    }
}

async fn begin(vendor: &consign::delivery::Vendor, customer: &Arc<consign::config::Customer>) -> Delivery {
    let target = Target::bucket(vendor, customer, run_id()).unwrap();
    let begun = Delivery::begin(target, spec(Compression::None), Arc::new(Journal::default()));
    tokio::time::timeout(Duration::from_secs(20), begun).await.unwrap().unwrap()
}
