//! Queries larger than the memory they may have.

use std::sync::Arc;

use arrow::array::{Int64Array, StringArray};
use consign::dataset::Request;
use consign::domain::{Layer, Retry};
use futures::{StreamExt, TryStreamExt};

use super::world::*;

const ROWS: i64 = 400_000;

/// Rows of some 90 bytes whose key is in no order.
fn large(world: &World) -> consign::config::TableSource {
    let batches: Vec<_> = (0..ROWS / 20_000)
        .map(|part| {
            let ids = (part * 20_000..(part + 1) * 20_000).map(|id| id * 7_919 % ROWS);
            let pads: Vec<String> = ids.clone().map(|id| format!("{id:08}{}", "x".repeat(72))).collect();
            batch(vec![("id", Arc::new(Int64Array::from_iter_values(ids))), ("pad", Arc::new(StringArray::from(pads)))])
        })
        .collect();
    world.write("large.parquet", parquet_of(&batches, 20_000));
    world.table("large.parquet")
}

#[tokio::test]
async fn a_sort_larger_than_the_pool_spills_and_cleans_up() {
    let world = World::with_memory(8 << 20);
    let dataset = dataset(vec![("t", large(&world))], "select id, pad from t order by id");
    let params = params(&[]);
    let plan = world.datasets.plan(&dataset, &Request { interval: interval(), params: &params }).await.unwrap();
    let mut batches = plan.stream().unwrap();
    let first = batches.next().await.unwrap().unwrap();
    let spilled = bytes_below(&world.path("spill"));
    assert!(spilled > 8 << 20, "only {spilled} bytes are in spill files");

    let mut next = first.num_rows() as i64;
    while let Some(batch) = batches.try_next().await.unwrap() {
        let ids = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        assert!(ids.values().iter().copied().eq(next..next + batch.num_rows() as i64), "out of order after {next}");
        next += batch.num_rows() as i64;
    }
    assert_eq!(next, ROWS);
    drop(batches);
    assert_eq!(bytes_below(&world.path("spill")), 0, "spill files are left");
}

#[tokio::test]
async fn a_stream_that_is_dropped_leaves_no_spill_files() {
    let world = World::with_memory(8 << 20);
    let dataset = dataset(vec![("t", large(&world))], "select id, pad from t order by id");
    let params = params(&[]);
    let plan = world.datasets.plan(&dataset, &Request { interval: interval(), params: &params }).await.unwrap();
    let mut batches = plan.stream().unwrap();
    batches.next().await.unwrap().unwrap();
    drop(batches);
    for _ in 0..100 {
        if bytes_below(&world.path("spill")) == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{} bytes of spill files are left", bytes_below(&world.path("spill")));
}

/// A hash join keeps one side in memory, and says so when it cannot.
#[tokio::test]
async fn what_cannot_spill_asks_for_memory() {
    let world = World::with_memory(4 << 20);
    let query = "select a.id, b.pad from t a join t b on a.id = b.id";
    let failure = world.run_failure(&dataset(vec![("t", large(&world))], query), &params(&[])).await;
    assert_eq!((failure.layer, failure.retry), (Layer::Dataset, Retry::Later), "{failure:?}");
    assert!(failure.message.contains("more memory than daemon.query_memory"), "{failure:?}");
    assert!(failure.remedy.contains("raise daemon.query_memory"), "{failure:?}");
}
