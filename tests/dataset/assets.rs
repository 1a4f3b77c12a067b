//! Assets: whole files, and only those that are the customer's.

use std::fs;
use std::os::unix::fs::symlink;

use consign::config::FileDataset;
use consign::dataset::{AssetFile, DatasetError, Kind};
use consign::domain::{CustomerName, DatasetName, Layer, Retry};
use futures::TryStreamExt;

use super::world::*;

fn assets(files: String) -> FileDataset {
    FileDataset { name: DatasetName::parse("reports").unwrap(), files }
}

async fn find(world: &World, files: &str, params: &Params) -> Result<Vec<AssetFile>, DatasetError> {
    let customer = CustomerName::parse("acme").unwrap();
    world.datasets.files(&assets(world.path(files)), &customer, params).await
}

async fn names(world: &World, files: &str, params: &Params) -> Vec<String> {
    find(world, files, params).await.unwrap().iter().map(|file| file.name.as_str().to_owned()).collect()
}

async fn refused(world: &World, files: &str, params: &Params, kind: Kind, says: &[&str]) {
    let error = match find(world, files, params).await {
        Ok(found) => panic!("{files}: {} files", found.len()),
        Err(error) => error,
    };
    assert_eq!(error.kind, kind, "{error:?}");
    for phrase in says {
        assert!(error.message.contains(phrase), "`{phrase}` is not in {error:?}");
    }
}

/// The customer's name and its values fill the path, and are taken by letter.
#[tokio::test]
async fn a_customer_gets_the_files_of_its_name() {
    let world = World::new();
    for name in ["in/acme/b.pdf", "in/acme/a.pdf", "in/acme/a.txt", "in/globex/g.pdf", "in/star[*]/s.pdf"] {
        world.write(name, name);
    }
    assert_eq!(names(&world, "in/{customer}/*.pdf", &params(&[])).await, ["a.pdf", "b.pdf"]);
    let team = |value| params(&[("team", text(value))]);
    assert_eq!(names(&world, "in/{param.team}/*.pdf", &team("globex")).await, ["g.pdf"]);
    assert_eq!(names(&world, "in/{param.team}/*.pdf", &team("star[*]")).await, ["s.pdf"]);
    refused(&world, "in/{param.team}/*.pdf", &team("*"), Kind::Missing, &["in/"]).await;
    // A folder is a name, whatever it looks like.
    assert_eq!(names(&world, "in/{param.team}/", &team("star[*]")).await, ["s.pdf"]);
    refused(&world, "in/{param.team}/", &team("*"), Kind::Missing, &["in/*/"]).await;
    refused(&world, "*/{customer}/", &params(&[]), Kind::Missing, &["*/acme/"]).await;
}

#[tokio::test]
async fn assets_stay_in_their_directory() {
    let world = World::new();
    world.write("secret/key.pdf", "not for customers");
    world.write("in/acme/own.pdf", "own");
    for (link, target) in [("file.pdf", "secret/key.pdf"), ("folder", "secret")] {
        let link = world.path(&format!("in/acme/{link}"));
        symlink(world.path(target), &link).unwrap();
        refused(&world, "in/{customer}/**/*.pdf", &params(&[]), Kind::Data, &["is a link out of", "in/acme/"]).await;
        fs::remove_file(link).unwrap();
    }
    // A link that stays inside is a file like another.
    symlink(world.path("in/acme/own.pdf"), world.path("in/acme/same.pdf")).unwrap();
    assert_eq!(names(&world, "in/{customer}/*.pdf", &params(&[])).await, ["own.pdf", "same.pdf"]);
    for value in ["..", ".", "a/b", "a\\b", "", "../secret"] {
        let params = params(&[("team", text(value))]);
        refused(&world, "in/{param.team}/*.pdf", &params, Kind::Parameter, &["cannot be part of a path"]).await;
    }
    let dots = params(&[("team", text("."))]);
    refused(&world, "in/.{param.team}/*.pdf", &dots, Kind::Parameter, &["path"]).await;
}

#[tokio::test]
async fn assets_that_cannot_be_named_are_refused() {
    let world = World::new();
    world.write("in/a/x.pdf", "1");
    world.write("in/b/x.pdf", "2");
    refused(&world, "in/*/x.pdf", &params(&[]), Kind::Data, &["in/a/x.pdf", "in/b/x.pdf", "the same name"]).await;
    refused(&world, "in/none/*.pdf", &params(&[]), Kind::Missing, &["in/none/"]).await;
    let params = params(&[("team", text("a"))]);
    refused(&world, "in/{param.taem}/*.pdf", &params, Kind::Parameter, &["did you mean {param.team}?"]).await;
}

/// Before its first byte, and after its last.
#[tokio::test]
async fn an_asset_that_changes_while_it_is_read_is_an_error() {
    let world = World::new();
    let path = world.write("in/acme/a.pdf", vec![b'x'; 1 << 20]);
    let [file] = find(&world, "in/{customer}/*.pdf", &params(&[])).await.unwrap().try_into().ok().unwrap();
    let whole: usize = file.open().try_fold(0, |all, bytes| async move { Ok(all + bytes.len()) }).await.unwrap();
    assert_eq!(whole, 1 << 20);

    let mut bytes = file.open();
    bytes.try_next().await.unwrap().unwrap();
    fs::write(&path, b"longer and later".repeat(1 << 18)).unwrap();
    let failure = loop {
        match bytes.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("read to its end"),
            Err(failure) => break failure,
        }
    };
    assert_eq!((failure.layer, failure.retry), (Layer::Dataset, Retry::Later), "{failure:?}");
    assert!(failure.message.contains("changed while it was read"), "{failure:?}");

    let failure = file.open().try_collect::<Vec<_>>().await.unwrap_err();
    assert!(failure.message.contains("changed while it was read"), "{failure:?}");

    let [file] = find(&world, "in/{customer}/*.pdf", &params(&[])).await.unwrap().try_into().ok().unwrap();
    let mut bytes = file.open();
    bytes.try_next().await.unwrap().unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(1 << 15).unwrap();
    let failure = bytes.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(failure.message.contains("changed while it was read"), "{failure:?}");
}
