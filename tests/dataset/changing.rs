//! Files that change while they are read.

use std::fs;

use consign::config::TableDataset;
use consign::dataset::Request;
use consign::domain::{Failure, Layer, Retry};
use futures::TryStreamExt;

use super::world::*;

/// What a reader of the whole table meets when `change` comes after its first batch.
async fn met(world: &World, dataset: &TableDataset, change: impl FnOnce()) -> Result<usize, Failure> {
    let params = params(&[]);
    let plan = world.datasets.plan(dataset, &Request { interval: interval(), params: &params }).await.unwrap();
    let mut batches = plan.stream().unwrap();
    let mut rows = batches.try_next().await.unwrap().unwrap().num_rows();
    change();
    while let Some(batch) = batches.try_next().await? {
        rows += batch.num_rows();
    }
    Ok(rows)
}

/// Rewritten, grown or gone: the rows would be of two files.
#[tokio::test]
async fn a_table_that_changes_while_it_is_read_is_an_error() {
    let world = World::new();
    let text = "id,name\n".to_owned() + &"1,some text that takes room\n".repeat(400_000);
    let dataset = dataset(vec![("t", world.table("t.csv"))], "");
    let path = world.write("t.csv", &text);
    assert_eq!(met(&world, &dataset, || {}).await.unwrap(), 400_000);
    type Change<'a> = Box<dyn Fn() + 'a>;
    let changes: [(&str, Change); 3] = [
        ("grown", Box::new(|| fs::write(&path, text.clone() + "2,b\n").unwrap())),
        (
            "replaced",
            Box::new(|| {
                fs::write(world.path("new.csv"), &text).unwrap();
                fs::rename(world.path("new.csv"), &path).unwrap();
            }),
        ),
        ("cut", Box::new(|| fs::write(&path, &text[..text.len() / 28 * 14]).unwrap())),
    ];
    for (what, change) in changes {
        world.write("t.csv", &text);
        let failure = met(&world, &dataset, change).await.unwrap_err();
        assert_eq!(failure.layer, Layer::Dataset, "{what}: {failure:?}");
        if what != "cut" {
            assert_eq!(failure.retry, Retry::Later, "{what}: {failure:?}");
            assert!(failure.message.contains("changed while it was read"), "{what}: {failure:?}");
        }
        assert!(failure.message.contains("dataset 'orders', table 't', file /"), "{what}: {failure:?}");
    }
}
