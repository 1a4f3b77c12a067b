//! Shares with `piece_rows`, end to end: whatever the machine has to spare, customers
//! get the same objects, each its own rows in their order.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::world::{self, Running, World, customer};
use crate::plugin::support::guest;
use crate::support::ministack::{ACCOUNT, Ministack};

const SEND: [&str; 5] = ["send", "orders", "--at", "2026-01-01T00:00:00Z", "--json"];
const CUSTOMERS: [(&str, u64); 2] = [("acme", 5_400), ("beta", 2_700)];
const FOLDER: &str = "in/orders/2026-01-01/000000Z";

/// Rows of three tenants in turns, of whom the last is nobody's. Each row has its
/// tenant's canary in it.
fn rows() -> String {
    let rows = (0..10_800).map(|n| {
        let tenant = ["acme", "beta", "acme", "nobody"][n % 4];
        format!("{n},{tenant},canary of {tenant} {n}\n")
    });
    "id,carrier,text\n".to_owned() + &rows.collect::<String>()
}

/// A share of them to two customers.
fn orders(share: &str, more: &str) -> World {
    let customers: String =
        CUSTOMERS.iter().zip(1..).map(|((name, _), n)| customer(name, n, "us-east-1", &format!("{name:?}"))).collect();
    let config = format!(
        "@AWS@\n{customers}\n[datasets.orders]\ntables.orders = \"orders.csv\"\ntenant_column = \"carrier\"\n\
         [shares.orders]\nschedule = \"0 0 * * *\"\ndataset = \"orders\"\nto = {{ all = true }}\n{share}\n{more}"
    );
    let world = World::new(&config);
    world.write("orders.csv", rows());
    world
}

/// So many instances may be at work before a piece has to wait for its turn.
fn with_instances(world: &World, instances: usize) {
    let config = world.text().replacen("[daemon]\n", &format!("[daemon]\npiece_concurrency = {instances}\n"), 1);
    world.write("consign.toml", config);
}

fn delivered(world: &World) -> Vec<(String, Vec<u8>)> {
    let buckets = world.path("buckets");
    let files = world::files(&buckets).into_keys().filter(|name| !name.ends_with(world::MANIFEST));
    files.map(|name| (name.clone(), fs::read(buckets.join(&name)).unwrap())).collect()
}

fn manifest(world: &World, customer: &str) -> Value {
    let manifests = world::manifests(&world.path(&format!("buckets/{customer}-data")));
    let [(_, manifest)] = Vec::from_iter(manifests).try_into().unwrap();
    manifest
}

fn unzipped(path: &Path) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text
}

/// What a customer got: objects of `piece_rows` rows in their order, with names that
/// sort like them, and nobody else's rows.
fn audit(world: &World, customer: &str, rows: u64, piece_rows: u64) {
    let manifest = manifest(world, customer);
    assert_eq!(manifest["rows"], rows);
    let mut ids = Vec::new();
    for (number, object) in manifest["objects"].as_array().unwrap().iter().enumerate() {
        let key = object["key"].as_str().unwrap();
        assert_eq!(key, format!("{FOLDER}/orders-{number:05}.csv.gz"));
        let text = unzipped(&world.path(&format!("buckets/{customer}-data/{key}")));
        let mut lines = text.lines();
        assert_eq!(lines.next().unwrap(), "id,carrier,text");
        let before = ids.len();
        for line in lines {
            let id = line.split(',').next().unwrap();
            assert_eq!(line, format!("{id},{customer},canary of {customer} {id}"));
            ids.push(id.parse::<u64>().unwrap());
        }
        let expected = piece_rows.min(rows - number as u64 * piece_rows);
        assert_eq!((&object["rows"], ids.len() - before), (&expected.into(), usize::try_from(expected).unwrap()));
    }
    assert_eq!(ids.len() as u64, rows);
    assert!(ids.is_sorted(), "in the order of the file");
}

#[test]
fn pieces_are_the_same_objects_whatever_the_machine_has_to_spare() {
    let world = orders("plugin = \"csv\"\ncompression = \"gzip\"\npiece_rows = 1000", "");
    let mut before = None;
    for instances in [1, 2, 5] {
        // A ledger and buckets of its own each time.
        for folder in ["state", "buckets"] {
            let _ = fs::remove_dir_all(world.path(folder));
        }
        let sandbox = world.sandbox();
        with_instances(&world, instances);
        world.run(&SEND).ended(0);
        drop(sandbox);
        for (customer, rows) in CUSTOMERS {
            audit(&world, customer, rows, 1_000);
        }
        let now = delivered(&world);
        assert_eq!(now.len(), 6 + 3);
        assert!(before.is_none_or(|before| before == now), "{instances} instances change it");
        before = Some(now);
        // Made again with what another machine has to spare.
        world.write("consign.toml", world.text().replace("piece_concurrency = ", "piece_concurrency = 1"));
        world.run(&[&SEND[..], &["--verify"]].concat()).ended(0);
    }
}

/// A delivery of plugins in processes of their own, and in this one.
#[test]
fn pieces_are_the_same_objects_in_both_isolations() {
    let share = "plugin = \"own\"\npiece_rows = 700";
    let mut before = None;
    for isolation in ["process", "in-process"] {
        let (world, sandbox) = own(share, &format!("isolation = \"{isolation}\""), "sloppy");
        with_instances(&world, 3);
        world.run(&SEND).ended(0);
        drop(sandbox);
        assert_eq!(manifest(&world, "acme")["objects"].as_array().unwrap().len(), 8);
        let now = delivered(&world);
        assert!(before.is_none_or(|before| before == now));
        before = Some(now);
    }
}

/// Found out with the first rows, and not when there are many for once.
#[test]
fn a_plugin_that_names_objects_as_it_likes_cannot_make_pieces() {
    let share = "plugin = \"own\"\noptions = { behaviour = \"none\" }\npiece_rows = 1000000";
    let (world, _sandbox) = own(share, "", "hostile");
    let said = world.run(&SEND).ended(1).json();
    let failure = &said["outcomes"][0]["failure"];
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("does not begin with its `object-stem` orders-00000"), "{said}");
    assert!(message.contains("`piece_rows`"), "{said}");
    assert_eq!(delivered(&world), [], "nothing is left");
    assert_eq!(fs::read_dir(world.path("buckets/.sandbox/uploads")).unwrap().count(), 0);
}

#[test]
fn no_rows_are_one_object_with_the_header() {
    let world = orders("plugin = \"csv\"\npiece_rows = 1000", "");
    world.write("orders.csv", "id,carrier,text\n1,nobody,none\n");
    let _sandbox = world.sandbox();
    world.run(&SEND).ended(0);
    let delivered = delivered(&world);
    let names: Vec<&str> = delivered.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, CUSTOMERS.map(|(name, _)| format!("{name}-data/{FOLDER}/orders-00000.csv")));
    assert!(delivered.iter().all(|(_, bytes)| bytes == b"id,carrier,text\n"), "{delivered:?}");
}

/// With roles whose sessions the server holds to their policies.
#[test]
fn each_tenant_gets_its_own_rows_from_a_server_that_enforces_policies() {
    let server = Ministack::shared();
    let assume = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*" }
    ]});
    let (key, secret) = server.user("vendor-pieces", &assume.to_string());
    let all = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*" }
    ]});
    let mut config = orders("plugin = \"csv\"\npiece_rows = 500", "").text();
    config = config.split_once("[aws]").unwrap().1.to_owned();
    config = config.replace("http://127.0.0.1:1", &server.url());
    for (customer, number) in CUSTOMERS.iter().map(|(name, _)| name).zip(1..) {
        let trust = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:user/vendor-pieces") },
            "Action": "sts:AssumeRole",
            "Condition": { "StringEquals": { "sts:ExternalId": format!("test-{number}f-{customer}") } },
        }]});
        let role = server.role(&format!("pieces-{customer}"), &trust.to_string(), &all.to_string());
        config = config.replace(&format!("arn:aws:iam::1000000000{number:02}:role/flight-data"), &role);
        config = config.replace(&format!("{customer}-data"), &format!("pieces-{customer}"));
        assert_eq!(server.s3("root", "PUT", &format!("/pieces-{customer}"), b"").status, 200);
    }
    let world = World::new(&format!("[aws]{config}"));
    world.write("orders.csv", rows());
    with_instances(&world, 3);
    let keys = [("CONSIGN_DEMO_ACCESS_KEY_ID", &*key), ("CONSIGN_DEMO_SECRET_ACCESS_KEY", &*secret)];
    let ended = world.start(&[], &SEND, &keys).wait(world::SOON);
    assert!(ended.success(), "{}", world.log());
    for (customer, rows) in CUSTOMERS {
        let read = |name: &str| {
            let answer = server.s3("root", "GET", &format!("/pieces-{customer}/{FOLDER}/{name}"), b"");
            assert_eq!(answer.status, 200, "{name}");
            answer.body
        };
        let manifest: Value = serde_json::from_slice(&read(world::MANIFEST)).unwrap();
        let objects = manifest["objects"].as_array().unwrap();
        assert_eq!((objects.len() as u64, manifest["rows"].as_u64()), (rows.div_ceil(500), Some(rows)));
        let texts = (0..objects.len()).map(|piece| String::from_utf8(read(&format!("orders-{piece:05}.csv"))).unwrap());
        let got: String = texts.map(|text| text.strip_prefix("id,carrier,text\n").unwrap().to_owned()).collect();
        let theirs = format!(",{customer},");
        let expected = self::rows()
            .lines()
            .filter(|line| line.contains(&theirs))
            .fold(String::new(), |all, line| all + line + "\n");
        assert!(got == expected, "{customer} got other rows than its own");
    }
}

/// A plugin of one's own for the share.
fn own(share: &str, keys: &str, name: &str) -> (World, Running) {
    let world = orders(share, &format!("[plugins.own]\npath = \"own.wasm\"\n{keys}"));
    world.write("own.wasm", guest(name));
    let sandbox = world.sandbox();
    (world, sandbox)
}

/// CPU seconds of a command, with what it started, and what it said.
fn computed(world: &World, args: &[&str]) -> (f64, String) {
    let command = world::command(world.dir(), &[&["--config", "consign.toml"], args].concat());
    let mut shell = Command::new("sh");
    shell
        .current_dir(world.dir())
        .env_clear()
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.args(["-c", "\"$@\" >said 2>&1; times >times", "sh"]).arg(command.get_program()).args(command.get_args());
    assert!(shell.status().unwrap().success());
    let read = |name: &str| fs::read_to_string(world.path(name)).unwrap();
    let (times, said) = (read("times"), read("said"));
    // Of the shell, and then of what it has waited for: user's and system's, as in `0m1.25s 0m0.50s`.
    let seconds = |time: &str| {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
        60.0 * minutes.parse::<f64>().unwrap() + seconds.parse::<f64>().unwrap()
    };
    (times.lines().nth(1).unwrap().split(' ').map(seconds).sum(), said)
}

/// They compute at the same time, each in a call that has no end.
#[test]
fn instances_of_a_delivery_share_its_cpu_time() {
    for isolation in ["in-process", "process"] {
        let share = "plugin = \"bad\"\noptions = { behaviour = \"endless_loop\" }\npiece_rows = 2000";
        let plugin = format!(
            "[plugins.bad]\npath = \"bad.wasm\"\nisolation = {isolation:?}\nlimits = {{ cpu_time = \"2s\" }}\n"
        );
        let world = orders(share, &plugin);
        with_instances(&world, 3);
        world.write("bad.wasm", guest("hostile"));
        // It is compiled by this.
        world.run(&["check"]).ended(0);
        let (seconds, said) = computed(&world, &[&SEND[..4], &["--customer", "acme", "--dry-run", "out"]].concat());
        world::says(&said, &["used up its 2s of CPU time"]);
        // With 2 s for each of them it would be 6 and more.
        assert!((2.0..5.9).contains(&seconds), "{isolation}: {seconds} s\n{said}");
    }
}
