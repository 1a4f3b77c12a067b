//! `consign send` into the buckets of `consign sandbox`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use rustix::process::Signal;

use super::world::{self, Running, SOON, World, says};

const SHARE: &str = r#"
schedule = "@daily"
to = { all = true }
"#;

fn config() -> String {
    let alaska = world::customer("alaska", 1, "us-east-1", "\"AS\"");
    world::flights(&(alaska + &world::customer("hawaiian", 2, "us-west-2", "\"HA\"")), "flights", SHARE)
}

const SEND: [&str; 5] = ["send", "flights", "--at", "2026-01-01T00:00:00Z", "--json"];

/// The states of Alaska's and Hawaiian's delivery.
fn states(said: &serde_json::Value) -> [&str; 2] {
    let [alaska, hawaiian] = said["outcomes"].as_array().unwrap().as_slice() else { panic!("{said}") };
    [alaska, hawaiian].map(|outcome| outcome["state"].as_str().unwrap())
}

fn contents(world: &World) -> Vec<(String, String)> {
    world::files(&world.path("buckets")).into_iter().map(|(name, (_, sum, _))| (name, sum)).collect()
}

#[test]
fn send_delivers_once_also_when_the_ledger_is_lost() {
    let world = World::new(&config());
    let mut sandbox = world.sandbox();
    let said = world.run(&SEND).ended(0).json();
    assert_eq!(states(&said), ["committed", "committed"]);
    let delivered = contents(&world);
    assert_eq!(delivered.len(), 4, "{delivered:?}");
    for (bucket, rows) in [("alaska-data", 714), ("hawaiian-data", 342)] {
        let manifests = world::manifests(&world.path("buckets").join(bucket));
        assert_eq!(manifests["in/flights/2026-01-01/000000Z/_manifest.json"]["rows"], rows);
    }
    let again = world.run(&SEND).ended(0).json();
    assert_eq!(states(&again), ["already-committed", "already-committed"]);
    assert_eq!(again["outcomes"][0]["earlier"], said["run"]);

    fs::remove_dir_all(world.path("state")).unwrap();
    let lost = world.run(&SEND).ended(1).json();
    assert_eq!(states(&lost), ["failed", "failed"]);
    assert_eq!(lost["outcomes"][0]["failure"]["layer"], "conflict");
    assert_eq!(contents(&world), delivered);
    assert_eq!(fs::read_dir(world.path("buckets/.sandbox/uploads")).unwrap().count(), 0);
    // And the ledger knows that nothing is left.
    let run = lost["run"].as_str().unwrap();
    let shown = world.run(&["show", run, "--json"]).ended(0).json();
    for delivery in shown["deliveries"].as_array().unwrap() {
        let uploads = delivery["attempts"][0]["uploads"].as_array().unwrap();
        let open = uploads.iter().filter(|upload| {
            upload["state"] == "created" && upload["key"].as_str().unwrap().ends_with(world::MANIFEST)
        });
        assert_eq!(open.count(), 0, "{uploads:?}");
    }

    sandbox.signal(Signal::INT);
    assert_eq!(sandbox.wait(SOON).code(), Some(0));
    // Nobody is there any more: an error of the network, and the slot stays to be sent.
    let gone = ["send", "flights", "--at", "2026-01-02T00:00:00Z", "--customer", "alaska", "--json"];
    let said = world.run(&gone).ended(1).json();
    assert_eq!(said["outcomes"][0]["failure"]["layer"], "network", "{said}");
}

#[test]
fn send_with_a_wrong_external_id_writes_nothing_there_and_all_elsewhere() {
    let world = World::new(&config());
    let _sandbox = world.sandbox();
    let right = world.text();
    world.write("consign.toml", right.replace("test-2f-hawaiian", "test-2f-unknown"));
    let said = world.run(&SEND).ended(1).json();
    assert_eq!(states(&said), ["committed", "failed"]);
    let failure = &said["outcomes"][1]["failure"];
    assert_eq!(failure["layer"], "trust-policy");
    says(failure["remedy"].as_str().unwrap(), &["external ID 'test-2f-unknown'"]);
    assert!(world::files(&world.path("buckets/hawaiian-data")).is_empty());
    assert_eq!(world::manifests(&world.path("buckets/alaska-data")).len(), 1);
    let alaska = world::files(&world.path("buckets/alaska-data"));
    // With the right one, the same slot goes to whom it did not reach, and to nobody else.
    world.write("consign.toml", &right);
    let said = world.run(&SEND).ended(0).json();
    assert_eq!(states(&said), ["already-committed", "committed"]);
    assert_eq!(world::files(&world.path("buckets/alaska-data")), alaska);
    assert_eq!(world::manifests(&world.path("buckets/hawaiian-data")).len(), 1);
}

/// A slot is a firing, and one that is to come has no whole data yet.
#[test]
fn send_takes_no_instant_that_is_no_slot() {
    let world = World::new(&config());
    for (at, says) in [
        (
            "2026-01-01T07:13:00Z",
            ["does not fire at 2026-01-01T07:13:00Z", "2026-01-01T00:00:00Z and 2026-01-02T00:00:00Z"],
        ),
        (
            "2026-01-01T00:00:00.5Z",
            ["does not fire at 2026-01-01T00:00:00.500Z", "2026-01-01T00:00:00Z and 2026-01-02T00:00:00Z"],
        ),
        ("2126-01-01T00:00:00Z", ["2126-01-01T00:00:00Z of share flights is yet to come", "the latest firing was 20"]),
    ] {
        world.run(&["send", "flights", "--at", at]).ended(1).err_says(&says);
    }
    assert!(!world.path("state").exists());
    world.run(&["send", "flights", "--at", "2126-01-01T00:00:00Z", "--dry-run", "out"]).ended(0);
}

/// `[aws] region`, the environment, the profile, and last the default.
#[test]
fn send_reads_the_vendors_buckets_in_the_region_that_is_said_first() {
    let world = World::new(&config().replace("@FLIGHTS@", "s3://lake/flights.parquet"));
    fs::create_dir(world.path(".aws")).unwrap();
    let profile = "[default]\nregion = ap-south-1\n";
    let dry = ["--customer", "alaska", "--dry-run", "out"];
    let args = [&["--config", "consign.toml"], &SEND[..], &dry[..]].concat();
    let rows: [(&str, &str, Option<&str>, &str); 4] = [
        ("region = \"us-east-1\"\nendpoint", profile, Some("eu-north-1"), "us-east-1"),
        ("endpoint", profile, Some("eu-north-1"), "eu-north-1"),
        ("endpoint", profile, None, "ap-south-1"),
        ("endpoint", "", None, "us-east-1"),
    ];
    for (said, profile, variable, expected) in rows {
        world.write(".aws/config", profile);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        world.configure(&endpoint, "region = \"us-east-1\"\nendpoint", said);
        let mut command = world::command(world.dir(), &args);
        command.envs(variable.map(|region| ("AWS_REGION", region))).stdout(Stdio::null()).stderr(Stdio::null());
        let mut sending = Running::start(&mut command);
        let mut accepted = None;
        world::until("a request", SOON, || {
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        let (mut stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        let (mut head, mut piece) = (Vec::new(), [0; 4096]);
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0);
            head.extend_from_slice(&piece[..count]);
        }
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        let head = String::from_utf8(head).unwrap().to_lowercase();
        says(&head, &["lake", &format!("/{expected}/s3/aws4_request")]);
        drop((stream, listener));
        assert_eq!(sending.wait(SOON).code(), Some(1));
    }
}
