//! How long the others wait while one hangs.

use std::thread::sleep;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::guests::guest;
use super::stall::Stall;
use super::world::{self, World};
use super::{Target, row};

/// Of these many slots, a second apart.
const SLOTS: usize = 60;

/// The slots that the hanging ones need to take all places that they can get.
const SETTLING: usize = 10;

const CUSTOMERS: [&str; 3] = ["acme", "globex", "initech"];

#[derive(Clone, Copy, PartialEq)]
enum Hangs {
    Nobody,
    Bucket,
    Plugin,
}

pub fn fairness() {
    let nobody = quantiles(lateness(Hangs::Nobody));
    let show = |what: &str, [median, p99]: [f64; 2]| {
        row(&format!("from slot to manifest, {what}, median"), median, "s", Target::None);
        row("  99 of 100", p99, "s", Target::None);
    };
    show("nobody hangs", nobody);
    for (what, hangs) in
        [("a bucket never answers", Hangs::Bucket), ("a plugin of two shares never ends", Hangs::Plugin)]
    {
        let those = quantiles(lateness(hangs));
        show(what, those);
        row("  99 of 100, against when nobody hangs", those[1] / nobody[1], "times", Target::Under(2.0));
    }
}

fn quantiles(mut of: Vec<f64>) -> [f64; 2] {
    of.sort_unstable_by(f64::total_cmp);
    [of[of.len() / 2], of[of.len() * 99 / 100]]
}

/// Seconds from each slot to the manifest of each of those that do not hang.
fn lateness(hangs: Hangs) -> Vec<f64> {
    let customer = |(n, name): (u8, &str)| world::customer(name, n, "us-east-1", "\"AS\"");
    let profiles: String = (1..).zip(CUSTOMERS.into_iter().chain(["stalled"])).map(customer).collect();
    let schedule = "schedule = \"* * * * * *\"\noverlap = \"allow\"\n";
    let list = |names: &[&str]| format!("{schedule}to = {{ customers = {names:?} }}\n");
    let good = match hangs {
        Hangs::Bucket => list(&[&CUSTOMERS[..], &["stalled"]].concat()),
        Hangs::Nobody | Hangs::Plugin => list(&CUSTOMERS),
    };
    let mut config = world::flights(&profiles, "tick", &good);
    if hangs == Hangs::Plugin {
        config.push_str("[plugins.hostile]\npath = \"hostile.wasm\"\n");
        for share in ["hangs", "hangs-too"] {
            config.push_str(&format!(
                "[shares.{share}]\ndataset = \"flights\"\nplugin = \"hostile\"\n\
                 options = {{ behaviour = \"sleep\" }}\n{}",
                list(&CUSTOMERS)
            ));
        }
    }
    let world = World::new(&config);
    world.write("hostile.wasm", guest("hostile"));
    let _sandbox = world.sandbox();
    let text = world.text();
    let behind = text.split("endpoint_url = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("an endpoint");
    // In the way of all, so that it costs all the same.
    let stall = Stall::start(behind, "/stalled-data");
    world.write("consign.toml", text.replace(behind, &stall.endpoint));
    let mut daemon = world.daemon();
    sleep(Duration::from_secs((SETTLING + SLOTS + 5) as u64));
    assert!(daemon.is_running(), "{}", world.log());
    drop(daemon);
    CUSTOMERS.iter().flat_map(|customer| of_customer(&world, customer)).collect()
}

fn of_customer(world: &World, customer: &str) -> Vec<f64> {
    let bucket = world.path(&format!("buckets/{customer}-data"));
    let files = world::files(&bucket).into_keys().filter(|key| key.ends_with(world::MANIFEST));
    let mut manifests: Vec<[DateTime<Utc>; 2]> = files
        .filter_map(|key| serde_json::from_slice::<Value>(&std::fs::read(bucket.join(key)).ok()?).ok())
        .filter(|manifest| manifest["share"] == "tick")
        .map(|manifest| {
            ["slot", "finished"].map(|key| manifest[key].as_str().expect("a text").parse().expect("an instant"))
        })
        .collect();
    manifests.sort_unstable();
    assert!(manifests.len() >= SETTLING + SLOTS, "{customer} has {} slots", manifests.len());
    let wanted = manifests.iter().skip(SETTLING).take(SLOTS);
    wanted.map(|[slot, finished]| (*finished - *slot).as_seconds_f64()).collect()
}
