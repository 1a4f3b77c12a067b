//! Compression by the host.

use std::io::Read as _;
use std::sync::Arc;

use consign::config::Compression;
use consign::delivery::{Delivery, Target};
use consign::domain::Layer;

use super::wire::Wire;
use super::world::*;

fn text() -> Vec<u8> {
    (0..60_000).flat_map(|i| format!("{i},{},row\n", i * 7919 % 10_007).into_bytes()).collect()
}

async fn compressed(compression: Compression, name: &str) -> (Wire, Vec<u8>) {
    let wire = Wire::healthy().await;
    let vendor = vendor(&aws(&wire.url)).await;
    let target = Target::bucket(&vendor, &Arc::new(customer()), run_id()).unwrap();
    let mut delivery = Delivery::begin(target, spec(compression), Arc::new(Journal::default())).await.unwrap();
    delivery.accept(create(0, "a.csv")).await.unwrap();
    for piece in text().chunks(10_007) {
        delivery.accept(bytes(0, piece.to_vec())).await.unwrap();
    }
    delivery.accept(finish(0)).await.unwrap();
    let completed = delivery.seal().await.unwrap().complete().await.unwrap();
    let stored = wire.objects()[&format!("{FOLDER}{name}")].to_vec();
    assert_eq!(completed.objects()[0].bytes, stored.len() as u64, "the manifest has what is stored");
    (wire, stored)
}

#[tokio::test]
async fn gzip_is_readable_named_and_the_same_every_time() {
    let (wire, stored) = compressed(Compression::Gzip { level: 6 }, "a.csv.gz").await;
    let mut read = Vec::new();
    flate2::read::GzDecoder::new(&stored[..]).read_to_end(&mut read).unwrap();
    assert!(read == text());
    assert_eq!(wire.content_type(&format!("{FOLDER}a.csv.gz")), "application/gzip");
    assert_eq!(stored[4..8], [0; 4], "no time in the header");
    let (_, again) = compressed(Compression::Gzip { level: 6 }, "a.csv.gz").await;
    assert!(stored == again);
}

#[tokio::test]
async fn zstd_is_readable_named_and_the_same_every_time() {
    let (wire, stored) = compressed(Compression::Zstd { level: 3 }, "a.csv.zst").await;
    assert!(zstd::decode_all(&stored[..]).unwrap() == text());
    assert_eq!(wire.content_type(&format!("{FOLDER}a.csv.zst")), "application/zstd");
    let (_, again) = compressed(Compression::Zstd { level: 3 }, "a.csv.zst").await;
    assert!(stored == again);
}

#[tokio::test]
async fn a_name_that_has_no_room_for_the_suffix_is_the_plugins_failure() {
    let wire = Wire::healthy().await;
    let vendor = vendor(&aws(&wire.url)).await;
    let target = Target::bucket(&vendor, &Arc::new(customer()), run_id()).unwrap();
    let compression = Compression::Gzip { level: 1 };
    let mut delivery = Delivery::begin(target, spec(compression), Arc::new(Journal::default())).await.unwrap();
    let failure = delivery.accept(create(0, &"n".repeat(199))).await.unwrap_err();
    assert_eq!(failure.layer, Layer::Plugin, "{failure:?}");
}

/// Each open object has a thread and an encoder. What is finished makes room,
/// also while its upload goes on.
#[tokio::test]
async fn more_open_objects_than_encoders_are_the_plugins_failure() {
    for (compression, limit) in [(Compression::Gzip { level: 6 }, 64), (Compression::Zstd { level: 19 }, 4)] {
        let wire = Wire::healthy().await;
        let mut delivery = begin(&wire, compression).await;
        for number in 0..limit {
            delivery.accept(create(number, &format!("{number}.csv"))).await.unwrap();
        }
        let failure = delivery.accept(create(limit, "other.csv")).await.unwrap_err();
        assert_eq!(failure.layer, Layer::Plugin, "{failure:?}");
        assert!(failure.message.contains(&format!("more than {limit} objects")), "{failure:?}");
        delivery.abort().await.unwrap();
        assert_eq!(wire.open_uploads(), 0);

        let mut delivery = begin(&wire, compression).await;
        for number in 0..limit * 3 {
            for event in object(number, &format!("{number}.csv"), b"text") {
                delivery.accept(event).await.unwrap();
            }
        }
        assert_eq!(delivery.seal().await.unwrap().objects().len(), limit as usize * 3);
    }
}

async fn begin(wire: &Wire, compression: Compression) -> Delivery {
    let vendor = vendor(&aws(&wire.url)).await;
    let target = Target::bucket(&vendor, &Arc::new(customer()), run_id()).unwrap();
    Delivery::begin(target, spec(compression), Arc::new(Journal::default())).await.unwrap()
}
