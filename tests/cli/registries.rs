//! Plugins from registries: pulled, pinned, kept, signed; against the registry
//! that Debian packages, and against one that lies.

mod liar;
mod signed;
mod tls;

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use serde_json::{Value, json};

use super::options::with_options;
use super::world::{SOON, World, consign, says, stop, until};
use crate::support::registry::{PASSWORD, Registry, USERNAME, digest};

/// Two components of different digests.
fn component(number: u8) -> Vec<u8> {
    with_options(&json!({ "type": "object", "description": format!("number {number}") }).to_string())
}

/// A world whose plugin `fmt` is this reference, with a cache of its own and a
/// share of a few numbers; `more` is put at the end of its configuration.
fn world(reference: &str, more: &str) -> World {
    let config = format!(
        r#"[plugins.fmt]
oci = "{reference}"
[customers.acme]
role_arn = "arn:aws:iam::123456789012:role/consign-delivery"
external_id = "c0ns1gn-7f0c2b9e"
bucket = "acme-data"
region = "eu-west-1"
[datasets.numbers]
tables.numbers = "numbers.csv"
shared = true
[shares.numbers]
schedule = "0 6 * * *"
dataset = "numbers"
plugin = "fmt"
to = {{ all = true }}
{more}"#
    );
    let world = World::new(&config);
    world.own_cache();
    world.write("numbers.csv", "n,m\n1,2\n");
    world
}

fn lock(world: &World) -> toml::Table {
    fs::read_to_string(world.path("consign.lock")).unwrap().parse().unwrap()
}

/// What the manifest of a dry run says of its plugin.
fn delivered(world: &World, out: &str) -> Value {
    world.run(&["send", "numbers", "--at", "2026-01-01T06:00:00Z", "--dry-run", out]).ended(0);
    let mut folders = vec![world.path(out)];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.ends_with("_manifest.json") {
                return serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap()["plugin"].clone();
            }
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    panic!("no manifest in {out}");
}

fn cached(world: &World, manifest: &str, file: &str) -> PathBuf {
    world.path("cache/components").join(manifest.strip_prefix("sha256:").unwrap()).join(file)
}

#[test]
fn what_is_pulled_is_pinned_and_nothing_else_is_run() {
    let Some(registry) = Registry::start() else { return };
    let (one, two) = (component(1), component(2));
    let first = registry.push("team/fmt", "1.4", &one);
    let reference = format!("{}/team/fmt:1.4", registry.host());
    let world = world(&reference, "");
    let quoted = format!("oci = \"{reference}\"");

    // Nothing runs before it is pinned, and looking asks nobody.
    world.run(&["check"]).ended(3).err_says(&[
        "plugin fmt is not in ",
        "consign.lock, so ",
        &quoted,
        "^^^^",
        "consign plugin pull fmt",
    ]);
    let listed = world.run(&["plugin", "list", "--json"]).ended(0).json();
    assert_eq!((&listed[0]["state"], &listed[0]["digest"]), (&json!("not pinned"), &Value::Null));

    let pulled = world.run(&["plugin", "pull", "--json"]).ended(0).json();
    assert_eq!(pulled[0]["manifest"], *first);
    let expected: toml::Table = toml::from_str(&format!(
        "version = 1\n[plugins.fmt]\noci = \"{reference}\"\nmanifest = \"{first}\"\ncomponent = \"{}\"\n",
        digest(&one)
    ))
    .unwrap();
    assert_eq!(lock(&world), expected);
    world.run(&["check"]).ended(0);
    world.run(&["plugin", "list"]).ended(0).out_says(&["fmt", &reference, "cached", "numbers", &digest(&one)[..19]]);
    let told = json!({
        "name": "echo",
        "version": "1.0.0",
        "digest": digest(&one),
        "reference": format!("{reference}@{first}"),
    });
    assert_eq!(delivered(&world, "out-1"), told);

    // The tag moves; what runs does not, until somebody pulls.
    let second = registry.push("team/fmt", "1.4", &two);
    assert_eq!(delivered(&world, "out-2"), told);
    world.run(&["plugin", "pull", "--locked"]).ended(0).out_says(&["1 plugin as pinned"]);
    assert_eq!(lock(&world), expected);
    // What is pinned is fetched by its digest where the cache has lost it; `check` only says so.
    fs::remove_dir_all(world.path("cache/components")).unwrap();
    world.run(&["check"]).ended(0).err_says(&["plugin fmt is not in the cache", "consign plugin pull --locked"]);
    assert!(!world.path("cache/components").exists());
    assert_eq!(delivered(&world, "out-3"), told);
    assert!(cached(&world, &first, "component.wasm").exists());

    let pulled = world.run(&["plugin", "pull", "fmt", "--json"]).ended(0).json();
    assert_eq!((&pulled[0]["manifest"], &pulled[0]["before"]), (&json!(second), &json!(first)));
    assert_eq!(delivered(&world, "out-4")["digest"], *digest(&two));

    // Without the registry everything but a pull goes on.
    drop(registry);
    assert_eq!(delivered(&world, "out-5")["digest"], *digest(&two));
    world.run(&["plugin", "verify"]).ended(0).out_says(&[&second, "as pinned", "1 plugin verified"]);
    world.run(&["plugin", "pull"]).ended(1).err_says(&["plugin fmt: no answer from 127.0.0.1"]);
    assert_eq!(lock(&world)["plugins"]["fmt"]["manifest"].as_str(), Some(second.as_str()));

    // A pin is of a reference; another one is another plugin.
    world.write("consign.toml", world.text().replace("fmt:1.4", "fmt:1.5"));
    world.run(&["check"]).ended(3).err_says(&["consign.lock pins plugin fmt to ", "fmt:1.4, not to ", "fmt:1.5"]);
}

/// The lock file is one of the configuration's: a reload fetches what it pins.
#[test]
fn a_running_daemon_takes_over_what_is_pinned_now() {
    let Some(registry) = Registry::start() else { return };
    registry.push("fmt", "1", &component(1));
    let world = world(&format!("{}/fmt:1", registry.host()), "");
    world.run(&["plugin", "pull"]).ended(0);
    let daemon = world.daemon();
    until("the daemon answers", SOON, || world.run(&["status"]).code == 0);
    let second = registry.push("fmt", "1", &component(2));
    world.run(&["plugin", "pull"]).ended(0);
    fs::remove_dir_all(world.path("cache/components")).unwrap();
    world.run(&["reload", "--wait"]).ended(0);
    assert!(cached(&world, &second, "component.wasm").exists());
    // What cannot be had is refused, and the daemon goes on with what it has.
    let lock = fs::read_to_string(world.path("consign.lock")).unwrap();
    world.write("consign.lock", lock.replace(&second, &digest(b"nothing")));
    world.run(&["reload", "--wait"]).ended(3).err_says(&["plugin fmt: ", "is not there", "oci = "]);
    world.run(&["status"]).ended(0);
    stop(daemon);
}

#[test]
fn a_changed_byte_is_refused() {
    let Some(registry) = Registry::start() else { return };
    let component = component(1);
    let manifest = registry.push("fmt", "1", &component);
    let world = world(&format!("{}/fmt:1", registry.host()), "");
    world.run(&["plugin", "pull"]).ended(0);
    let (file, sum) = (cached(&world, &manifest, "component.wasm"), digest(&component));
    let mut other = component.clone();
    *other.last_mut().unwrap() ^= 1;

    fs::write(&file, &other).unwrap();
    let changed = [file.to_str().unwrap(), &digest(&other), &sum, "is pinned", "find out who changed it"];
    world.run(&["check"]).ended(3).err_says(&changed);
    let sent = world.run(&["send", "numbers", "--dry-run", "out"]);
    assert_ne!(sent.code, 0);
    says(&sent.stderr, &changed);
    world.run(&["plugin", "verify"]).ended(1).out_says(&["fmt  FAILED", &sum, "1 of 1 plugin failed"]);
    // Another manifest with the same component would be another artifact.
    fs::write(&file, &component).unwrap();
    let kept = cached(&world, &manifest, "manifest.json");
    let text = fs::read_to_string(&kept).unwrap();
    fs::write(&kept, text.replace("wasip2", "wasip9").replace("\"schemaVersion\":2", "\"schemaVersion\": 2")).unwrap();
    world.run(&["check"]).ended(3).err_says(&["manifest.json has the digest", "is pinned"]);
    fs::remove_dir_all(world.path("cache/components")).unwrap();

    // The registry's disk is not trusted either.
    fs::write(registry.blob_file(&sum), &other).unwrap();
    let refused = world.run(&["plugin", "pull", "--locked"]).ended(1);
    says(
        &refused.stderr,
        &["plugin fmt: 127.0.0.1:", " gave sha256:", &format!("when asked for {sum}"), "do not use it"],
    );
    let refused = world.run(&["send", "numbers", "--dry-run", "out"]);
    assert_ne!(refused.code, 0);
    assert!(!world.path("cache/components").exists());

    // Somebody has edited the lock file by hand.
    fs::write(registry.blob_file(&sum), &component).unwrap();
    let lock = fs::read_to_string(world.path("consign.lock")).unwrap();
    world.write("consign.lock", lock.replace(&sum, &digest(b"other")));
    world
        .run(&["plugin", "pull", "--locked"])
        .ended(1)
        .err_says(&["names the component", "somebody has changed the file"]);
}

#[test]
fn what_is_no_plugin_is_not_pinned() {
    let Some(registry) = Registry::start() else { return };
    registry.push("fmt", "core", b"\0asm\x01\0\0\0");
    let config = registry.descriptor("fmt", "application/vnd.oci.empty.v1+json", b"{}");
    let layer = registry.descriptor("fmt", "application/vnd.oci.image.layer.v1.tar+gzip", b"not wasm");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let image = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
    registry.push_manifest("fmt", "image", &image);
    let text = image.to_string();
    let kind = "application/vnd.oci.image.index.v1+json";
    let entry = json!({ "mediaType": image["mediaType"], "digest": digest(text.as_bytes()), "size": text.len() });
    registry.push_manifest("fmt", "index", &json!({ "schemaVersion": 2, "mediaType": kind, "manifests": [entry] }));
    let cases = [
        ("core", "is not a WebAssembly component"),
        ("image", "has not one layer of the type application/wasm; its layers are [\"application/vnd.oci"),
        ("index", "is an index of several"),
        ("gone", "fmt:gone is not there"),
    ];
    for (tag, why) in cases {
        let world = world(&format!("{}/fmt:{tag}", registry.host()), "");
        world.run(&["plugin", "pull"]).ended(1).err_says(&[why, "help: "]);
        assert!(!world.path("consign.lock").exists());
    }
}

/// There and back, with a login and without a configuration; the same bytes have
/// the same digest, whoever pushes them.
#[test]
fn what_is_pushed_can_be_pulled() {
    let Some(registry) = Registry::start_with_login() else { return };
    let (host, one) = (registry.host(), component(1));
    let reference = format!("{host}/team/fmt:1.4");
    let world = world(&reference, "");
    world.write("fmt.wasm", &one);
    world.write("core.wasm", b"\0asm\x01\0\0\0");
    let push =
        |file: &str, to: &str| consign(world.dir(), &["--config", "none.toml", "plugin", "push", file, to, "--json"]);
    let refused = |file: &str, to: &str, exit: i32| push(file, to).ended(exit).json()["error"].to_string();
    says(&refused("fmt.wasm", &reference, 1), &["does not let anybody without a login into team/fmt", "docker login"]);
    login(&world, &host);
    says(&refused("core.wasm", &reference, 1), &["is not a WebAssembly component"]);
    says(&refused("fmt.wasm", "fmt:1", 2), &["does not begin with the name of a registry"]);
    let pushed = push("fmt.wasm", &reference).ended(0).json();
    assert_eq!((&pushed["oci"], &pushed["component"]), (&json!(reference), &json!(digest(&one))));
    assert_eq!(push("fmt.wasm", &format!("{host}/other/name:2")).ended(0).json()["manifest"], pushed["manifest"]);
    assert_eq!(world.run(&["plugin", "pull", "--json"]).ended(0).json()[0]["manifest"], pushed["manifest"]);
    assert_eq!(delivered(&world, "out")["digest"], *digest(&one));
}

/// As `docker login` leaves it.
fn login(world: &World, host: &str) {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{USERNAME}:{PASSWORD}"));
    fs::create_dir_all(world.path(".docker")).unwrap();
    world.write(".docker/config.json", json!({ "auths": { host: { "auth": pair } } }).to_string());
}

#[test]
fn a_registry_that_asks_for_a_login_gets_one() {
    let Some(registry) = Registry::start_with_login() else { return };
    registry.push("team/fmt", "1", &component(1));
    let host = registry.host();
    let reference = format!("{host}/team/fmt:1");
    let configured = |username: &str, variable: &str| {
        format!("[registries.\"{host}\"]\nusername = \"{username}\"\npassword = {{ env = \"{variable}\" }}\n")
    };
    let none = world(&reference, "");
    none.run(&["plugin", "pull"]).ended(1).err_says(&[
        "does not let anybody without a login into team/fmt",
        &format!("[registries.\"{host}\"]"),
        &format!("docker login {host}"),
    ]);
    // Which is what `docker login` writes; a helper it would run is not run.
    fs::create_dir(none.path(".docker")).unwrap();
    none.write(".docker/config.json", json!({ "credHelpers": { &*host: "pass" } }).to_string());
    none.run(&["plugin", "pull"]).ended(1).err_says(&["docker-credential-pass, which consign does not run"]);
    login(&none, &host);
    none.run(&["plugin", "pull"]).ended(0);

    world(&reference, &configured(USERNAME, "CONSIGN_DEMO_SECRET_ACCESS_KEY")).run(&["plugin", "pull"]).ended(0);
    let wrong =
        world(&reference, &configured("mallory", "CONSIGN_DEMO_SECRET_ACCESS_KEY")).run(&["plugin", "pull"]).ended(1);
    says(&wrong.stderr, &["does not let mallory into team/fmt", "correct the password"]);
    assert!(!wrong.stderr.contains(PASSWORD));
    let unset = world(&reference, &configured(USERNAME, "NOT_SET"));
    unset.run(&["plugin", "pull"]).ended(1).err_says(&["its password is not set in the environment"]);
    unset.run(&["check"]).err_says(&["password `NOT_SET` is not set", "consign.toml:"]);
}
