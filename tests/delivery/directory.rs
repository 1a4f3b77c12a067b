//! A directory in the place of a bucket.

use std::path::Path;
use std::sync::Arc;

use consign::config::{Aws, Compression};
use consign::delivery::{Delivery, Target};
use consign::domain::Layer;

use super::world::*;

fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path.to_string_lossy().into_owned()),
        }
    }
    found
}

#[tokio::test]
async fn files_have_the_keys_as_paths_and_appear_when_complete() {
    let (_dir, root) = scratch();
    // Nobody is asked: there is no server at this address. The first part is too large for the memory.
    let vendor = vendor(&Aws { part_bytes: 12 << 20, ..aws("http://127.0.0.1:1") }).await;
    let (customer, run) = (Arc::new(customer()), run_id());
    let target = Target::directory(&vendor, root.clone(), &customer);
    let delivery =
        Delivery::begin(target.clone(), spec(Compression::None), Arc::new(Journal::default())).await.unwrap();
    let contents: Vec<u8> = (0..13 * MIB).map(|i| (i / 1000) as u8).collect();
    for event in object(0, "a.csv", &contents).into_iter().chain(object(1, "b.csv", b"")) {
        delivery.accept(event).await.unwrap();
    }
    let sealed = delivery.seal().await.unwrap();
    assert!(files(&root).iter().all(|file| file.contains("_manifest.unfinished.")), "{:?}", files(&root));
    let completed = sealed.complete().await.unwrap();
    let written = manifest(&customer, run, completed.objects());
    completed.manifest(&written).await.unwrap().mark().await.unwrap();

    let folder = root.join("acme-data").join(FOLDER);
    assert!(std::fs::read(folder.join("a.csv")).unwrap() == contents);
    assert_eq!(std::fs::read(folder.join("b.csv")).unwrap(), b"");
    assert!(folder.join("_manifest.json").exists());
    assert_eq!(files(&root).len(), 3);

    let again = deliver_to(target, &customer, run, Arc::new(Journal::default()), object(0, "a.csv", b"x")).await;
    assert_eq!(again.unwrap_err().layer, Layer::Conflict);
}

#[tokio::test]
async fn an_aborted_delivery_leaves_no_file() {
    let (_dir, root) = scratch();
    let vendor = vendor(&aws("http://127.0.0.1:1")).await;
    let target = Target::directory(&vendor, root.clone(), &Arc::new(customer()));
    let delivery = Delivery::begin(target, spec(Compression::None), Arc::new(Journal::default())).await.unwrap();
    delivery.accept(create(0, "a.csv")).await.unwrap();
    delivery.accept(bytes(0, vec![1; 6 * MIB])).await.unwrap();
    delivery.progress().wait_for(|done| done.stored_parts == 1).await.unwrap();
    assert!(!files(&root).is_empty(), "there is something to remove");
    delivery.abort().await.unwrap();
    assert_eq!(files(&root), Vec::<String>::new());
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_a_local_failure() {
    let (_dir, root) = scratch();
    std::fs::write(root.join("file"), "").unwrap();
    let vendor = vendor(&aws("http://127.0.0.1:1")).await;
    let target = Target::directory(&vendor, root.join("file"), &Arc::new(customer()));
    let begun = Delivery::begin(target, spec(Compression::None), Arc::new(Journal::default())).await;
    let failure = begun.err().unwrap();
    assert_eq!(failure.layer, Layer::Local);
    assert!(failure.message.contains("file/acme-data"), "{failure:?}");
}
