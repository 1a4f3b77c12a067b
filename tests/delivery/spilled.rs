//! Parts that are larger than what may be in memory: gathered in a file without a
//! name, sent from there, and gone however the delivery ends.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use consign::clock::Clock;
use consign::config::{Aws, Compression, Customer};
use consign::delivery::{Delivery, DeliverySpec, Target, Vendor};
use consign::domain::{CustomerName, Failure, Layer, Retry, SealedObject};
use sha2::{Digest as _, Sha256};

use super::wire::{Call, Fault, Wire, crc, s3_error};
use super::world::*;
use crate::support::disk::SmallDisk;

/// Too large for the memory.
const PART: usize = 12 * MIB;

/// Long enough for three parts and a last one that is small.
fn contents() -> Bytes {
    let mut seed = 1u64;
    let mut word = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.to_le_bytes()
    };
    (0..(3 * PART + MIB) / 8).flat_map(|_| word()).collect()
}

async fn begin(wire: &Wire, dir: &Path, journal: Arc<Journal>) -> Delivery {
    begin_with(wire, dir, journal, Duration::from_secs(3)).await
}

/// Each request may take so long.
async fn begin_with(wire: &Wire, dir: &Path, journal: Arc<Journal>, attempt_timeout: Duration) -> Delivery {
    let aws = Aws { part_bytes: PART as u64, attempt_timeout, ..aws(&wire.url) };
    let target = Target::bucket(&vendor(&aws).await, &Arc::new(customer()), run_id()).unwrap();
    let spec = DeliverySpec { spill_dir: dir.join("spill"), ..spec(Compression::None) };
    Delivery::begin(target, spec, journal).await.unwrap()
}

/// One object, in pieces as a plugin's.
async fn write(delivery: &Delivery, contents: &Bytes) -> Result<(), Failure> {
    delivery.accept(create(0, "a.bin")).await?;
    for at in (0..contents.len()).step_by(MIB) {
        delivery.accept(bytes(0, contents.slice(at..at + MIB))).await?;
    }
    delivery.accept(finish(0)).await
}

/// The files without a name below `dir` that this process has open.
pub fn spilled(dir: &Path) -> Vec<PathBuf> {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| entry.path());
    open.filter(|file| fs::read_link(file).is_ok_and(|target| target.starts_with(dir))).collect()
}

/// Soon there is no such file, and there never was one with a name.
async fn all_gone(dir: &Path) {
    let gone = async {
        while !spilled(dir).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("files of parts are left");
    assert_eq!(fs::read_dir(dir.join("spill")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_large_part_is_sent_again_as_it_was() {
    let (_dir, dir) = scratch();
    let most = Arc::new(AtomicUsize::new(0));
    let (watched, seen_most) = (dir.clone(), most.clone());
    let wire = Wire::start(move |seen, before| {
        seen_most.fetch_max(spilled(&watched).len(), Ordering::Relaxed);
        let fault = match before {
            0 => Fault::Answer(503, vec![], s3_error("SlowDown", "Please reduce your request rate.")),
            1 => Fault::Reset,
            2 => Fault::Stall,
            4 => Fault::Answer(400, vec![], s3_error("ExpiredToken", "The provided token has expired.")),
            _ => return None,
        };
        (seen.call == Call::Part).then_some(fault)
    })
    .await;
    let (contents, journal) = (contents(), Arc::new(Journal::default()));
    // Only what stalls takes as long, however busy the machine is: the others are counted.
    let delivery = begin_with(&wire, &dir, journal.clone(), Duration::from_secs(20)).await;
    write(&delivery, &contents).await.unwrap();
    delivery.seal().await.unwrap().complete().await.unwrap();
    assert!(wire.objects()[&format!("{FOLDER}a.bin")] == contents);
    assert!(most.load(Ordering::Relaxed) > 0, "no part was in a file");

    let mut times = BTreeMap::<usize, u32>::new();
    for seen in wire.seen().into_iter().filter(|seen| seen.call == Call::Part) {
        let number: usize = seen.query["partNumber"].parse().unwrap();
        let part = &contents[(number - 1) * PART..contents.len().min(number * PART)];
        assert!(seen.body == part, "part {number}");
        let header = |name: &str| seen.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-length"), part.len().to_string());
        assert_eq!(header("x-amz-checksum-crc64nvme"), crc(part));
        let sha256: String = Sha256::digest(part).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(header("x-amz-content-sha256"), sha256, "signed by what it carries");
        assert!(!seen.headers.contains_key("content-encoding") && !seen.headers.contains_key("transfer-encoding"));
        *times.entry(number).or_default() += 1;
    }
    assert_eq!((times.len(), times.values().sum::<u32>()), (4, 8), "{times:?}");
    let sealed: Vec<SealedObject> = journal.sealed.lock().unwrap().clone().unwrap();
    for (number, part) in (1..).zip(&sealed[0].parts) {
        let bytes = &contents[(number - 1) * PART..contents.len().min(number * PART)];
        assert_eq!((&part.etag, &part.checksum_crc64nvme), (&format!("\"etag-{number}\""), &crc(bytes)));
    }
    all_gone(&dir).await;
}

#[tokio::test]
async fn files_of_parts_are_gone_however_a_delivery_ends() {
    let contents = contents();
    let (_dir, dir) = scratch();
    let wire = Wire::start(|seen, _| {
        let forbidden = || Fault::Answer(403, vec![], s3_error("AccessDenied", "Access Denied"));
        (seen.call == Call::Part && seen.query["partNumber"] == "3").then(forbidden)
    })
    .await;
    let delivery = begin(&wire, &dir, Arc::default()).await;
    let refused = match write(&delivery, &contents).await {
        Ok(()) => delivery.seal().await.err(),
        Err(failure) => delivery.abort().await.map_or_else(Some, |()| Some(failure)),
    };
    assert_eq!(refused.unwrap().layer, Layer::RolePolicy);
    all_gone(&dir).await;

    let wire = Wire::start(|seen, _| (seen.call == Call::Part).then_some(Fault::Stall)).await;
    for aborted in [true, false] {
        let delivery = begin(&wire, &dir, Arc::default()).await;
        write(&delivery, &contents).await.unwrap();
        while wire.count(Call::Part) < 4 || spilled(&dir).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        match aborted {
            true => delivery.abort().await.unwrap(),
            false => drop(delivery),
        }
        all_gone(&dir).await;
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_costs_nothing_but_the_attempt() {
    let (_dir, dir) = scratch();
    let Some(disk) = SmallDisk::mount(&dir, 30) else { return };
    let slow = Arc::new(AtomicBool::new(true));
    let stalls = slow.clone();
    let wire =
        Wire::start(move |seen, _| (seen.call == Call::Part && stalls.load(Ordering::Relaxed)).then_some(Fault::Stall))
            .await;
    let contents = contents();
    let delivery = begin(&wire, &dir, Arc::default()).await;
    let failure = write(&delivery, &contents).await.unwrap_err();
    delivery.abort().await.unwrap();
    assert_eq!((failure.layer, failure.retry), (Layer::Local, Retry::Later), "{failure:?}");
    let place = dir.join("spill").display().to_string();
    for says in ["a.bin", &place, "No space left on device"] {
        assert!(failure.message.contains(says), "{failure:?}");
    }
    for says in ["make room", "daemon.cache_dir", "Nothing is lost"] {
        assert!(failure.remedy.contains(says), "{failure:?}");
    }
    assert_eq!((wire.objects().len(), wire.open_uploads()), (0, 0));
    all_gone(&dir).await;

    slow.store(false, Ordering::Relaxed);
    disk.resize(80);
    let delivery = begin(&wire, &dir, Arc::default()).await;
    write(&delivery, &contents).await.unwrap();
    delivery.seal().await.unwrap().complete().await.unwrap();
    assert!(wire.objects()[&format!("{FOLDER}a.bin")] == contents);
}

/// The network is not blamed for a disk that fails.
#[tokio::test]
async fn a_part_that_cannot_be_read_back_is_the_disks_failure() {
    let (_dir, dir) = scratch();
    let cut = dir.clone();
    let wire = Wire::start(move |seen, before| {
        (seen.call == Call::Part && before == 0).then(|| {
            for file in spilled(&cut) {
                fs::OpenOptions::new().write(true).open(file).unwrap().set_len(MIB as u64).unwrap();
            }
            Fault::Answer(503, vec![], s3_error("SlowDown", "Please reduce your request rate."))
        })
    })
    .await;
    let delivery = begin(&wire, &dir, Arc::default()).await;
    write(&delivery, &contents().slice(..PART)).await.unwrap();
    let failure = delivery.seal().await.err().unwrap();
    assert_eq!((failure.layer, failure.retry), (Layer::Local, Retry::Later), "{failure:?}");
    assert!(failure.message.contains("could not be read back"), "{failure:?}");
    assert!(failure.remedy.contains("nothing is lost"), "{failure:?}");
    assert_eq!((wire.objects().len(), wire.open_uploads()), (0, 0));
    all_gone(&dir).await;
}

/// A delivery that has a part of each of so many objects to send.
async fn with_parts(vendor: &Vendor, customer: Arc<Customer>, objects: u32) -> Delivery {
    let target = Target::bucket(vendor, &customer, run_id()).unwrap();
    let spec = spec(Compression::None);
    let delivery = Delivery::begin(target, spec, Arc::new(Journal::default())).await.unwrap();
    for object in 0..objects {
        delivery.accept(create(object, &format!("{object}.bin"))).await.unwrap();
        delivery.accept(bytes(object, vec![1; 10 * MIB])).await.unwrap();
    }
    delivery
}

/// Nothing that is on its way is sent again.
fn patient(wire: &Wire) -> Aws {
    let hour = Duration::from_secs(3600);
    Aws { attempt_timeout: hour, operation_timeout: hour, ..aws(&wire.url) }
}

/// How many parts are on their way, when there are `most` of them and a while has gone by.
async fn parts_under_way(wire: &Wire, most: usize) -> usize {
    let reached = async {
        while wire.count(Call::Part) < most {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("fewer parts are on their way");
    tokio::time::sleep(Duration::from_millis(200)).await;
    wire.count(Call::Part)
}

/// As many as `part_concurrency` of an object, twice as many of a delivery, eight
/// times as many over all.
#[tokio::test]
async fn parts_on_their_way_have_a_bound() {
    for (deliveries, objects, most) in [(1, 1, 1), (1, 3, 2), (5, 2, 8)] {
        let wire = Wire::start(|seen, _| (seen.call == Call::Part).then_some(Fault::Stall)).await;
        let vendor = vendor(&Aws { part_concurrency: 1, ..patient(&wire) }).await;
        let mut begun = Vec::new();
        for _ in 0..deliveries {
            begun.push(with_parts(&vendor, Arc::new(customer()), objects).await);
        }
        assert_eq!(parts_under_way(&wire, most).await, most, "{deliveries} deliveries of {objects} objects");
    }
}

/// One of several customers has only some of the places, so that one whose bucket
/// does not answer leaves some to the others.
#[tokio::test]
async fn parts_of_one_customer_leave_places_to_the_others() {
    let wire = Wire::start(|seen, _| (seen.call == Call::Part).then_some(Fault::Stall)).await;
    let vendor = Vendor::new(&Aws { part_concurrency: 2, ..patient(&wire) }, 4, Clock::system()).await.unwrap();
    let mut begun = Vec::new();
    // 16 parts may be on their way, of each customer 4.
    for (name, deliveries, most) in [("acme", 5, 4), ("globex", 1, 8)] {
        let customer = Arc::new(Customer { name: CustomerName::parse(name).unwrap(), ..customer() });
        for _ in 0..deliveries {
            begun.push(with_parts(&vendor, customer.clone(), 4).await);
        }
        assert_eq!(parts_under_way(&wire, most).await, most, "{name}");
    }
}
