//! `consign send --verify`: what was delivered, made again and compared.

use super::world::{Running, World, checkout, customer, flights};

const SEND: [&str; 4] = ["send", "flights", "--at", "2026-01-01T00:00:00Z"];
const VERIFY: [&str; 5] = ["send", "flights", "--at", "2026-01-01T00:00:00Z", "--verify"];

/// Two customers, gzip and several objects: all that may change bytes.
fn delivered() -> (World, Running) {
    let customers = customer("alaska", 1, "us-east-1", "\"AS\"") + &customer("delta", 2, "us-east-1", "\"DL\"");
    let keys = "schedule = \"0 0 * * *\"\nend = 2026-01-04\nmax_object_size = \"100 kB\"\ncompression = \"gzip\"\n\
                to = { customers = [\"alaska\", \"delta\"] }";
    let config = flights(&customers, "flights", keys)
        .replace("tables.flights = \"@FLIGHTS@\"", "tables.flights = \"flights.parquet\"");
    let world = World::new(&config);
    std::fs::copy(checkout("config/demo/flights.parquet"), world.path("flights.parquet")).unwrap();
    let sandbox = world.sandbox();
    world.run(&SEND).ended(0);
    (world, sandbox)
}

#[test]
fn the_same_data_make_the_same_bytes() {
    let (world, sandbox) = delivered();
    // Nobody is asked for anything.
    drop(sandbox);
    let before = super::world::files(&world.path("buckets"));
    world.run(&VERIFY).ended(0).out_says(&["alaska", "the same as run", "delta"]);
    let json = world.run(&[&VERIFY[..], &["--json"]].concat()).ended(0).json();
    assert_eq!(json["outcomes"][0]["state"], "same");
    assert!(json["outcomes"][0]["differences"].is_null());
    assert_eq!(super::world::files(&world.path("buckets")), before);
    assert_eq!(world.runs().len(), 1, "it is no run");
}

#[test]
fn what_has_changed_is_told() {
    let (world, sandbox) = delivered();
    drop(sandbox);
    let changed = world.text().replace(
        "tenant_column = \"carrier\"",
        "tenant_column = \"carrier\"\nquery = \"select * from flights order by flight desc\"",
    );
    world.write("consign.toml", changed);
    let says = ["DIFFERS from what run", "/flights-00001.jsonl.gz", "delivered  ", "now        ", "crc64nvme"];
    world.run(&VERIFY).ended(1).out_says(&says);
    let fewer = world.text().replace("order by", "where carrier = 'AS' limit 3 -- order by");
    world.write("consign.toml", fewer);
    let json = world.run(&[&VERIFY[..], &["--json"]].concat()).ended(1).json();
    let of_alaska = json["outcomes"][0]["differences"].as_array().unwrap();
    let rows = of_alaska.iter().find(|difference| difference["of"] == "rows").unwrap();
    assert_eq!(rows["now"], "3");
    assert!(of_alaska.iter().any(|difference| difference["now"].is_null()), "an object is not made again");
}

#[test]
fn another_plugin_is_told() {
    let (world, sandbox) = delivered();
    drop(sandbox);
    world.write("consign.toml", world.text().replace("plugin = \"jsonl\"", "plugin = \"csv\""));
    world.run(&VERIFY).ended(1).out_says(&["    plugin", "delivered  jsonl ", "now        csv ", "nothing"]);
}

#[test]
fn what_is_not_on_record_cannot_be_compared() {
    let (world, sandbox) = delivered();
    drop(sandbox);
    let other = ["send", "flights", "--at", "2026-01-02T00:00:00Z", "--verify"];
    world.run(&other).ended(1).out_says(&["alaska", "FAILED", "no delivery of this slot to compare with"]);
    world.run(&[&VERIFY[..], &["--dry-run", "out"]].concat()).ended(2);
}

/// A running daemon has the ledger; it is only read.
#[test]
fn a_delivery_is_verified_beside_a_daemon() {
    let (world, _sandbox) = delivered();
    let daemon = world.daemon();
    super::world::until("the daemon listens", super::world::SOON, || world.path("state/consign.sock").exists());
    world.run(&VERIFY).ended(0).out_says(&["the same as run"]);
    super::world::stop(daemon);
}
