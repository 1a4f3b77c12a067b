//! Compression by the host.

use std::io::Read as _;
use std::sync::Arc;

use consign::config::Compression;
use consign::delivery::{Delivery, DeliverySpec, Target};
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
    let delivery = Delivery::begin(target, spec(compression), Arc::new(Journal::default())).await.unwrap();
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
    let delivery = Delivery::begin(target, spec(compression), Arc::new(Journal::default())).await.unwrap();
    let failure = delivery.accept(create(0, &"n".repeat(199))).await.unwrap_err();
    assert_eq!(failure.layer, Layer::Plugin, "{failure:?}");
}

/// Each open object has a thread and an encoder. What is finished makes room,
/// also while its upload goes on.
#[tokio::test]
async fn more_open_objects_than_encoders_are_the_plugins_failure() {
    for (compression, limit) in [(Compression::Gzip { level: 6 }, 64), (Compression::Zstd { level: 19 }, 4)] {
        let wire = Wire::healthy().await;
        let delivery = begin(&wire, compression).await;
        for number in 0..limit {
            delivery.accept(create(number, &format!("{number}.csv"))).await.unwrap();
        }
        let failure = delivery.accept(create(limit, "other.csv")).await.unwrap_err();
        assert_eq!(failure.layer, Layer::Plugin, "{failure:?}");
        assert!(failure.message.contains(&format!("more than {limit} objects")), "{failure:?}");
        delivery.abort().await.unwrap();
        assert_eq!(wire.open_uploads(), 0);

        let delivery = begin(&wire, compression).await;
        for number in 0..limit * 3 {
            for event in object(number, &format!("{number}.csv"), b"text") {
                delivery.accept(event).await.unwrap();
            }
        }
        assert_eq!(delivery.seal().await.unwrap().objects().len(), limit as usize * 3);
    }
}

/// What one piece may have open does not follow from how many come at the same time,
/// and all that may come have encoders.
#[tokio::test]
async fn pieces_share_the_encoders() {
    for (compression, pieces, limit) in
        [(Compression::Gzip { level: 6 }, 16, 4), (Compression::Zstd { level: 19 }, 4, 1)]
    {
        let wire = Wire::healthy().await;
        let delivery = begin_pieces(&wire, compression).await;
        assert_eq!(delivery.pieces_at_once(), pieces);
        for piece in 0..pieces as u32 {
            for number in 0..limit {
                delivery.accept_of(piece, create(number, &format!("{piece}-{number}.csv"))).await.unwrap();
            }
        }
        let failure = delivery.accept_of(3, create(limit, "other.csv")).await.unwrap_err();
        let text = format!("more than {limit} objects of one piece were open");
        assert!(failure.layer == Layer::Plugin && failure.message.contains(&text), "{failure:?}");
        delivery.abort().await.unwrap();
        assert_eq!(wire.open_uploads(), 0);
    }
    let wire = Wire::healthy().await;
    assert_eq!(begin_pieces(&wire, Compression::None).await.pieces_at_once(), usize::MAX);
}

async fn begin(wire: &Wire, compression: Compression) -> Delivery {
    begin_as(wire, spec(compression)).await
}

async fn begin_pieces(wire: &Wire, compression: Compression) -> Delivery {
    begin_as(wire, DeliverySpec { in_pieces: true, ..spec(compression) }).await
}

async fn begin_as(wire: &Wire, spec: DeliverySpec) -> Delivery {
    let vendor = vendor(&aws(&wire.url)).await;
    let target = Target::bucket(&vendor, &Arc::new(customer()), run_id()).unwrap();
    Delivery::begin(target, spec, Arc::new(Journal::default())).await.unwrap()
}
