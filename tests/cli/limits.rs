//! Limits of a share's own, in the place of its plugin's.

use super::world::World;
use crate::plugin::support::guest;

/// Shares of one plugin: as it is, and with limits of their own.
const CONFIG: &str = r#"
[plugins.hostile]
path = "hostile.wasm"
limits = { output_bytes = "1 MiB", objects = 7 }
[customers.acme]
role_arn = "arn:aws:iam::123456789012:role/consign-delivery"
external_id = "c0ns1gn-7f0c2b9e"
bucket = "acme-data"
region = "eu-west-1"
[datasets.numbers]
tables.numbers = "numbers.csv"
shared = true
[shares.shallow]
schedule = "0 6 * * *"
dataset = "numbers"
plugin = "hostile"
options = { behaviour = "deep_recursion" }
to = { all = true }
[shares.deep]
schedule = "0 6 * * *"
dataset = "numbers"
plugin = "hostile"
options = { behaviour = "deep_recursion" }
limits = { stack = "32 MiB" }
to = { all = true }
[shares.small]
schedule = "0 6 * * *"
dataset = "numbers"
plugin = "hostile"
options = { behaviour = "none" }
limits = { output_bytes = "5 B" }
to = { all = true }
[shares.tiny]
schedule = "0 6 * * *"
dataset = "numbers"
plugin = "csv"
limits = { memory = "1 MiB" }
to = { all = true }
"#;

#[test]
fn a_share_has_the_limits_that_it_says_and_otherwise_its_plugins() {
    let world = World::new(CONFIG.split("[shares.tiny]").next().unwrap());
    world.write("hostile.wasm", guest("hostile"));
    world.write("numbers.csv", "n,m\n1,2\n");
    world.run(&["check"]).ended(0).out_says(&[
        "limits of a share's own",
        "  deep: stack 32.0 MiB instead of 1.0 MiB\n",
        "  small: output_bytes 5 B instead of 1.0 MiB\n",
    ]);
    let said = world.run(&["check", "--json"]).ended(0).json();
    let limits = |share: &str| {
        let shares = said["shares"].as_array().unwrap();
        let limits = &shares.iter().find(|of| of["share"] == share).unwrap()["limits"];
        ["output_bytes", "objects", "stack_bytes", "cpu_time_ms"].map(|key| limits[key].as_u64().unwrap())
    };
    assert_eq!(limits("shallow"), [1 << 20, 7, 1 << 20, 1_800_000]);
    assert_eq!(limits("deep"), [1 << 20, 7, 32 << 20, 1_800_000]);
    assert_eq!(limits("small"), [5, 7, 1 << 20, 1_800_000]);

    let send = |share: &str| world.run(&["send", share, "--at", "2026-01-01T06:00:00Z", "--dry-run", share]);
    send("shallow").ended(1).out_says(&["used up its stack"]);
    send("deep").ended(0);
    send("small").ended(1).out_says(&["wrote more than 5 B of output", "of the plugin or of this share"]);
}

/// What the plugin cannot even begin within is found before it costs a delivery.
#[test]
fn check_asks_the_plugin_within_the_shares_limits() {
    let world = World::new(CONFIG);
    world.write("hostile.wasm", guest("hostile"));
    world.write("numbers.csv", "n,m\n1,2\n");
    let said = world.run(&["check", "--json"]).ended(3).json();
    let problems = said["error"]["problems"].as_array().unwrap();
    let [problem] = &problems[..] else { panic!("{said:#}") };
    let message = problem["message"].as_str().unwrap();
    assert!(message.starts_with("plugin csv failed in `check`: wanted "), "{message}");
    assert!(message.ends_with("of memory; its limit is 1.0 MiB"), "{message}");
}
