//! `consign sandbox`: how it ends and what it refuses.

use rustix::process::Signal;

use super::world::{SOON, World, consign};

const CONFIG: &str = r#"
@AWS@

[customers.acme]
role_arn = "arn:aws:iam::123456789012:role/consign"
external_id = "acme-0001"
bucket = "acme-data"
region = "eu-west-1"
prefix = "in/"
"#;

#[test]
fn sandbox_ends_well_when_it_is_told_to() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = World::new(CONFIG);
        let mut sandbox = world.sandbox();
        // The directory is taken while it runs, and free again afterwards.
        let args = ["sandbox", "--dir", "buckets", "--listen", "127.0.0.1:0"];
        let second = world.run(&args).ended(5);
        second.err_says(&["buckets is held by another sandbox", &format!("process {}", sandbox.id())]);
        sandbox.signal(signal);
        assert_eq!(sandbox.wait(SOON).code(), Some(0));
        drop(world.sandbox());
    }
}

#[test]
fn sandbox_says_what_it_cannot_use() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| consign(dir.path(), &[&["sandbox"], args].concat());
    run(&["--listen", "0.0.0.0:5580"]).ended(2).err_says(&["not a loopback address"]);
    run(&["--file", "gone.toml"]).ended(3).err_says(&["cannot read gone.toml", "--file"]);
    std::fs::write(dir.path().join("s.toml"), "dirr = \"x\"\n[[accounts]]\nid = 1\n").unwrap();
    let said = ["s.toml:1:1", "did you mean `dir`?", "s.toml:3:6", "has no `vendor`", "3 errors"];
    run(&["--file", "s.toml"]).ended(3).err_says(&said);
}
