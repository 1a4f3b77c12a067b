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

use std::collections::BTreeMap;
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

/// A KMS key that a customer has, with this id and alias.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Key {
    /// Its policy leaves it to IAM, as that of a new one does; else it has the pack's statement, and no other.
    by_iam: bool,
    /// The bucket encrypts by it what says nothing of that.
    is_default: bool,
}

const KEY_ID: &str = "0a1b";
const KEY_ALIAS: &str = "theirs";

/// The file of a sandbox in which a customer has set up exactly what its pack says.
fn set_up(pack: &Value) -> String {
    set_up_with(pack, None)
}

/// The same, of what the pack says for whoever has such a key.
fn set_up_with(pack: &Value, key: Option<Key>) -> String {
    let text = |name: &str| pack[name].as_str().unwrap();
    let trust = &pack["trust_policy"]["Statement"][0];
    let ids = &trust["Condition"]["StringEquals"]["sts:ExternalId"];
    let (path, name) = text("role_arn").split_once(":role").unwrap().1.rsplit_once('/').unwrap();
    let mut permissions = pack["permissions_policy"].clone();
    if key.is_some_and(|key| key.is_default) {
        let more = pack["kms_policy"]["Statement"].as_array().unwrap().clone();
        permissions["Statement"].as_array_mut().unwrap().extend(more);
    }
    let role = format!(
        "[[accounts.roles]]\nname = \"{name}\"\npath = \"{path}/\"\npolicy = '''{permissions}'''\n\
         [accounts.roles.trust]\nprincipal = {}\n{}",
        trust["Principal"]["AWS"],
        if ids.is_null() { String::new() } else { format!("external_id = {ids}\n") },
    );
    let mut bucket = format!("[[accounts.buckets]]\nname = {}\nregion = {}\n", pack["bucket"], pack["region"]);
    if pack["bucket_policy_required"] == true {
        bucket += &format!("policy = '''{}'''\n", pack["bucket_policy"]);
    }
    let mut accounts: BTreeMap<&str, String> = BTreeMap::new();
    *accounts.entry(text("account")).or_default() += &role;
    if let Some(key) = key {
        let owner = key_owner(pack);
        if key.is_default {
            bucket += &format!("kms_key = \"arn:aws:kms:{}:{owner}:key/{KEY_ID}\"\n", text("region"));
        }
        let mut says =
            format!("[[accounts.keys]]\nid = \"{KEY_ID}\"\nalias = \"{KEY_ALIAS}\"\nregion = {}\n", pack["region"]);
        if !key.by_iam {
            let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": [pack["kms_key_statement"]] });
            says += &format!("policy = '''{policy}'''\n");
        }
        *accounts.entry(owner).or_default() += &says;
    }
    *accounts.entry(text("bucket_owner")).or_default() += &bucket;
    let accounts = accounts.iter().map(|(id, has)| format!("[[accounts]]\nid = \"{id}\"\n{has}"));
    let vendor = "[vendor]\naccess_key_id = \"AKIACONSIGNSANDBOX00\"\nsecret_access_key = \"consign-sandbox-secret\"\n";
    format!("dir = \"buckets\"\n{vendor}{}", accounts.collect::<String>())
}

/// Whose key it is: the one of which the pack has the ARN, or else one beside the bucket.
fn key_owner(pack: &Value) -> &str {
    let statements = pack["permissions_policy"]["Statement"].as_array().unwrap();
    let mut keys =
        statements.iter().filter_map(|statement| statement["Resource"].as_str()?.strip_prefix("arn:aws:kms:"));
    keys.next().map_or(pack["bucket_owner"].as_str().unwrap(), |rest| rest.split(':').nth(1).unwrap())
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
