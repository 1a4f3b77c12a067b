//! `consign customer`: what it writes, what it refuses, and that what it hands to a
//! customer works.

mod adding;
mod enforced;
mod hostile;
mod importing;
mod packs;
mod removing;
mod rotating;
mod showing;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::world::{Running, World, checkout, command, serving};

/// One of the slots of [`SHARE`], whose data the demo has.
const SLOT: &str = "2014-01-01T05:00:00Z";

/// The demo's flights for everybody in the group.
const SHARE: &str = r#"@AWS@
[datasets.flights]
tables.flights = "@FLIGHTS@"
query = "select * from flights where time_hour >= $interval_start and time_hour < $interval_end order by time_hour, flight"
tenant_column = "carrier"
# Who gets it.
[shares.flights]
schedule = "0 0 1 1 *"
timezone = "America/New_York"
dataset = "flights"
plugin = "jsonl"
to = { groups = ["airlines"] }
"#;

/// A customer who is in that group, so that the share has somebody.
const UNITED: &str = r#"# Our first customer.

# Signed in March.
[customers.united]
role_arn = "arn:aws:iam::100000000001:role/flight-data" # theirs
external_id = "demo-1f0c-united"
bucket = "united-data"
region = "us-east-1"
prefix = "in/"
groups = ["airlines"]
params = { carrier = "UA" }
"#;

/// What `add` is told of the one more.
const SOUTHWEST: [&str; 14] = [
    "customer",
    "add",
    "southwest",
    "--account",
    "100000000002",
    "--bucket",
    "southwest-lake",
    "--region",
    "us-west-2",
    "--groups",
    "airlines",
    "--param",
    "carrier=WN",
    "--json",
];

/// A vendor with one customer, whose profile is in a file of its own.
fn vendor() -> World {
    vendor_with(SHARE)
}

fn vendor_with(config: &str) -> World {
    let world = World::new(config);
    including(&world);
    fs::create_dir(world.path("customers.d")).unwrap();
    world.write("customers.d/united.toml", UNITED);
    world
}

/// Has the configuration include customers.
fn including(world: &World) {
    world.write("consign.toml", format!("include = [\"customers.d/*.toml\"]\n{}", world.text()));
}

/// Has the configuration name another endpoint.
fn at(world: &World, endpoint: &str) {
    let text = world.text();
    let (before, rest) = text.split_once("endpoint_url = \"").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    world.write("consign.toml", format!("{before}endpoint_url = \"{endpoint}\"{after}"));
}

/// What is in the files of the configuration.
fn profiles(world: &World) -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(world.path("customers.d")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.push(world.path("consign.toml"));
    files.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// A sandbox that serves a file, and its endpoint.
fn sandbox(world: &World, file: &str) -> (Running, String) {
    world.write("sandbox.toml", file);
    let (said, log) = (world.path("served.json"), world.path("served.log"));
    let mut command = command(world.dir(), &["sandbox", "--file", "sandbox.toml", "--listen", "127.0.0.1:0", "--json"]);
    serving(&mut command, &said, &log)
}

/// The file of a sandbox in which a customer has set up exactly what its pack says.
fn set_up(pack: &Value) -> String {
    let trust = &pack["trust_policy"]["Statement"][0];
    let ids = &trust["Condition"]["StringEquals"]["sts:ExternalId"];
    let name = pack["role_arn"].as_str().unwrap().rsplit('/').next().unwrap();
    format!(
        r#"dir = "buckets"
[vendor]
access_key_id = "AKIACONSIGNSANDBOX00"
secret_access_key = "consign-sandbox-secret"
[[accounts]]
id = {account}
[[accounts.roles]]
name = "{name}"
policy = '''{policy}'''
[accounts.roles.trust]
principal = {principal}
external_id = {ids}
[[accounts.buckets]]
name = {bucket}
region = {region}
"#,
        account = pack["account"],
        policy = pack["permissions_policy"],
        principal = trust["Principal"]["AWS"],
        bucket = pack["bucket"],
        region = pack["region"],
    )
}

/// A program of the checkout's virtual environment; `make test` puts it there.
fn tool(name: &str) -> Option<PathBuf> {
    let path = checkout(".venv/bin").join(name);
    if path.exists() {
        return Some(path);
    }
    crate::support::needs::not_tested(&format!("{} is missing (`make .venv/readers`)", path.display()));
    None
}
