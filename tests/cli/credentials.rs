//! The vendor's own credentials, renewed under a running daemon.

use std::fs;

use super::world::{self, SOON, World, stop, until};

/// The SDK reads a profile file once; consign has it read again when STS refuses what it had.
#[test]
fn credentials_of_a_profile_file_are_read_again_when_sts_refuses_them() {
    let keys = "schedule = \"* * * * * *\"\nto = { customers = [\"acme\"] }\n";
    let config = world::flights(&world::customer("acme", 1, "us-east-1", "\"AS\""), "tick", keys);
    let world = World::new(&config);
    let _sandbox = world.sandbox();
    let written = |line: &&str| !line.starts_with("access_key_id") && !line.starts_with("secret_access_key");
    world.write("consign.toml", world.text().lines().filter(written).collect::<Vec<_>>().join("\n"));
    let profile = |id: &str| {
        let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = consign-sandbox-secret\n");
        world.write(".aws/credentials", text);
    };
    fs::create_dir(world.path(".aws")).unwrap();
    profile("AKIACONSIGNNOBODY000");
    let daemon = world.daemon();
    let refused = "STS does not accept the vendor's own credentials";
    until("they are refused", SOON, || world.log().contains("InvalidClientTokenId"));
    assert!(world.log().contains(refused) || world.log().contains("A profile file that is renewed"), "{}", world.log());
    profile("AKIACONSIGNSANDBOX00");
    until("a slot is delivered", SOON * 2, || world.runs().iter().any(|run| run["state"] == "succeeded"));
    let status = world.run(&["status", "--json"]).ended(0).json();
    assert_eq!(status["daemon"]["now"]["generation"], 1, "nobody has asked for a reload");
    stop(daemon);
}
