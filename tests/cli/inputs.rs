//! Bad and empty data, and what becomes of it: `consign send --dry-run`.

use std::fs;

use serde_json::Value;

use super::flights;
use super::world::{self, Ran, World, says};

const SLOT: &str = "2026-01-01T06:00:00Z";
const FOLDER: &str = "acme-data/uploads/your-team/s/2026-01-01/060000Z";

/// One share of one CSV file; `more` is added to it.
fn world(csv: impl AsRef<[u8]>, more: &str) -> World {
    let config = format!(
        r#"
[customers.acme]
role_arn = "arn:aws:iam::123456789012:role/consign-delivery"
external_id = "c0ns1gn-7f0c2b9e"
bucket = "acme-data"
region = "eu-west-1"
prefix = "uploads/your-team/"
[datasets.d]
tables.t = "t.csv"
[shares.s]
schedule = "0 6 * * *"
dataset = "d"
to = {{ customers = ["acme"] }}
{more}
"#
    );
    let world = World::new(&config);
    world.write("t.csv", csv);
    world
}

fn send(world: &World) -> Ran {
    world.run(&["send", "s", "--at", SLOT, "--dry-run", "out", "--json"])
}

/// The failure's message and remedy; nothing is to be seen, nothing recorded.
fn refused(csv: impl AsRef<[u8]>, more: &str) -> (String, String) {
    let world = world(csv, more);
    let said = send(&world).ended(1).json();
    let outcome = &said["outcomes"][0];
    assert_eq!((&outcome["state"], &outcome["failure"]["layer"]), (&"failed".into(), &"dataset".into()), "{said}");
    assert_eq!(world::files(&world.path("out")).into_keys().collect::<Vec<_>>(), [""; 0]);
    assert!(!world.path("state").exists());
    let text = |key: &str| outcome["failure"][key].as_str().unwrap().to_owned();
    let failure = (text("message"), text("remedy"));
    // The same in words.
    let shown = world.run(&["send", "s", "--at", SLOT, "--dry-run", "out"]).ended(1);
    says(&shown.stdout, &["acme           FAILED  dataset: ", &failure.0, "help: "]);
    failure
}

fn manifest(world: &World) -> Value {
    let said = send(world).ended(0).json();
    let manifests = world::manifests(&world.path("out/acme-data"));
    // In a directory the keys are still those of the bucket.
    let manifest = manifests.get(&format!("{}/_manifest.json", FOLDER.split_once('/').unwrap().1)).unwrap();
    assert_eq!(*manifest, said["outcomes"][0]["manifest"]);
    assert_eq!(said["outcomes"][0]["state"], "written");
    assert_eq!(manifests.len(), 1);
    manifest.clone()
}

#[test]
fn input_ragged_csv() {
    let (message, remedy) = refused("id,name,amount\n1,a,2.5\n2,b\n", "plugin = \"csv\"");
    says(
        &message,
        &["dataset 'd', table 't', file ", "/t.csv", "malformed CSV: line 3 has 2 fields, the first line has 3"],
    );
    says(&remedy, &["as many fields as the header"]);
    let mut late = "id,name\n".to_owned() + &"1,a\n".repeat(20_000);
    late.push_str("1,a,b\n");
    let (message, remedy) = refused(late, "plugin = \"csv\"");
    says(&message, &["/t.csv", "malformed CSV", "line 20002"]);
    says(&remedy, &["as many fields as the header"]);
}

#[test]
fn input_csv_that_is_not_utf8() {
    let (message, remedy) = refused(b"id,name\n1,a\n2,\xff\xfe\n", "plugin = \"csv\"");
    says(&message, &["dataset 'd', table 't', file ", "/t.csv", "malformed CSV", "UTF-8", "line 3"]);
    assert_eq!(remedy, "write the file as UTF-8");
}

#[test]
fn input_csv_that_ends_inside_quotes() {
    let (message, remedy) = refused("id,name\n1,a\n2,\"b\n3,c\n", "plugin = \"csv\"");
    says(&message, &["dataset 'd', table 't', file ", "/t.csv", "the file ends inside the quotes that open on line 3"]);
    says(&remedy, &["close the quotes"]);
}

/// Text then, rather than a loss.
#[test]
fn input_csv_with_a_value_of_another_type() {
    let csv = "id,name\n".to_owned() + &"1,a\n".repeat(5_000) + "00123,b\n";
    let world = world(csv.clone(), "plugin = \"csv\"");
    assert_eq!(manifest(&world)["schema"][0]["type"], "Utf8");
    assert_eq!(fs::read_to_string(world.path("out").join(FOLDER).join("s.csv")).unwrap(), csv);
}

#[test]
fn input_without_rows_becomes_a_header() {
    let world = world("id,name\n", "plugin = \"csv\"\nempty = \"header\"");
    let manifest = manifest(&world);
    assert_eq!((&manifest["rows"], manifest["objects"].as_array().unwrap().len()), (&0.into(), 1));
    assert_eq!(fs::read_to_string(world.path("out").join(FOLDER).join("s.csv")).unwrap(), "id,name\n");
}

#[test]
fn input_without_rows_is_skipped() {
    let world = world("id,name\n", "plugin = \"csv\"\nempty = \"skip\"");
    let manifest = manifest(&world);
    assert_eq!((&manifest["rows"], &manifest["objects"]), (&0.into(), &serde_json::json!([])));
    assert_eq!(world::files(&world.path("out")).len(), 1);
}

#[test]
fn input_without_rows_fails() {
    let (message, remedy) = refused("id,name\n", "plugin = \"csv\"\nempty = \"fail\"");
    says(&message, &["dataset d has nothing for this slot", "empty = \"fail\""]);
    says(&remedy, &["\"header\" or \"skip\""]);
}

#[test]
fn input_is_split_into_whole_files() {
    let csv: String = (0..9_000).map(|i| format!("{i},\"a, \"\"quoted\"\"\n{i}\"\n")).collect();
    let world = world("id,name\n".to_owned() + &csv, "plugin = \"csv\"\nmax_object_size = \"32 KiB\"");
    let manifest = manifest(&world);
    let objects = manifest["objects"].as_array().unwrap();
    assert!(objects.len() > 5, "{}", objects.len());
    let mut rows = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        assert!(object["bytes"].as_u64().unwrap() <= 32 << 10, "{object}");
        let path = world.path("out/acme-data").join(object["key"].as_str().unwrap());
        assert!(path.ends_with(format!("s-{number:05}.csv")), "{}", path.display());
        let mut read = flights::csv(&path);
        assert_eq!(read.remove(0), ["id", "name"]);
        assert_eq!(object["rows"], read.len());
        rows.extend(read);
    }
    let expected: Vec<Vec<String>> = (0..9_000).map(|i| vec![i.to_string(), format!("a, \"quoted\"\n{i}")]).collect();
    assert_eq!(rows, expected);
    assert_eq!(manifest["rows"], 9_000);
}
