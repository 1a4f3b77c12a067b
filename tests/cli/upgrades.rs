//! Another component in a plugin's place: asked by every share before it is swapped
//! in, remembered, and put back.

use std::fs;
use std::os::unix::fs::lchown;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::options::with_options;
use super::world::{self, SOON, World, says, stop, until};
use crate::support::needs::not_tested;
use crate::support::registry::{Registry, digest};
use crate::support::strace::may_trace;

/// A share of every second through the plugin `fmt`, and one that is paused and has another option.
fn config(source: &str) -> String {
    let customer = world::customer("acme", 1, "us-east-1", "\"AS\"");
    format!(
        r#"@AWS@
{customer}
[plugins.fmt]
{source}
[datasets.flights]
tables.flights = "@FLIGHTS@"
tenant_column = "carrier"
[shares.tick]
schedule = "* * * * * *"
overlap = "allow"
dataset = "flights"
plugin = "fmt"
to = {{ customers = ["acme"] }}
[shares.yearly]
schedule = "@yearly"
dataset = "flights"
plugin = "fmt"
options = {{ level = 3 }}
to = {{ customers = ["acme"] }}
"#
    )
}

/// Versions of one plugin: all of them take `level`, which may be up to this.
fn component(number: u8, level_max: u8) -> Vec<u8> {
    let level = json!({ "type": "integer", "maximum": level_max });
    with_options(
        &json!({ "type": "object", "title": format!("{number}"), "properties": { "level": level } }).to_string(),
    )
}

/// What the daemon says of its last reload.
fn refused(world: &World) -> Value {
    world.run(&["status", "--json"]).ended(0).json()["daemon"]["now"]["reload"]["refused"].clone()
}

/// Digests of what the deliveries of the share were formatted by, in order of their slots.
fn delivered(world: &World) -> Vec<String> {
    let bucket = world.path("buckets/acme-data");
    let manifests = world::files(&bucket).into_keys().filter(|key| key.ends_with(world::MANIFEST));
    let read = |key: String| serde_json::from_slice::<Value>(&fs::read(bucket.join(key)).unwrap()).unwrap();
    manifests.map(|key| read(key)["plugin"]["digest"].as_str().unwrap().to_owned()).collect()
}

fn wait_for(world: &World, component: &[u8]) {
    let wanted = digest(component);
    // The newest is last, by its key; what is half there is not counted.
    let is_there = || {
        let runs = world.runs();
        let newest = runs.iter().find(|run| run["state"] == "succeeded").cloned();
        let Some(run) = newest else { return false };
        let shown = world.run(&["show", run["run"].as_str().unwrap(), "--json"]).ended(0).json();
        shown["deliveries"][0]["attempts"][0]["digest"] == *wanted
    };
    until("a delivery is formatted by it", SOON, is_there);
}

/// By file: what every share takes is put there, what one refuses is not, and the
/// earlier one comes back.
#[test]
fn a_file_is_upgraded_and_rolled_back() {
    let world = World::new(&config("path = \"fmt.wasm\""));
    let _sandbox = world.sandbox();
    let (one, two, narrow) = (component(1, 9), component(2, 9), component(3, 2));
    world.write("fmt.wasm", &one);
    world.write("two.wasm", &two);
    world.write("narrow.wasm", &narrow);
    let daemon = world.daemon();
    wait_for(&world, &one);
    world.run(&["plugin", "upgrade", "fmt"]).ended(2).err_says(&["plugin fmt is the file", "upgrade fmt FILE"]);
    world.run(&["plugin", "upgrade", "csv", "two.wasm"]).ended(2).err_says(&["there is no plugin `csv`"]);
    world.run(&["plugin", "rollback", "fmt"]).ended(1).err_says(&["no earlier component of plugin fmt is known"]);

    // One share does not take it: nothing changes.
    let told = ["share yearly refuses the new component of plugin fmt", &digest(&one), &digest(&narrow), "level = 3"];
    let narrow_refused = world.run(&["plugin", "upgrade", "fmt", "narrow.wasm"]).ended(1).err_says(&told);
    says(&narrow_refused.stderr, &["correct the share, or leave it at that: nothing was changed"]);
    assert!(fs::read(world.path("fmt.wasm")).unwrap() == one);
    assert!(!world.path("fmt.wasm.previous").exists());
    // Nor when somebody has put it there by hand: the daemon goes on with what it has.
    world.write("fmt.wasm", &narrow);
    world.run(&["reload", "--wait"]).ended(3).err_says(&told);
    says(&refused(&world)["problems"].to_string(), &told[..1]);
    // A rollback would put something else there, if anything: what it has is of the last upgrade.
    world.write("fmt.wasm.previous", &two);
    world.run(&["reload", "--wait"]).ended(3).err_says(&["or put that back as /", "/fmt.wasm"]);
    world.write("fmt.wasm.previous", &one);
    world.run(&["reload", "--wait"]).ended(3).err_says(&["or keep that (`consign plugin rollback fmt`)"]);
    fs::remove_file(world.path("fmt.wasm.previous")).unwrap();
    world.run(&["status"]).ended(0).out_says(&["its files were refused", "share yearly refuses the new comp"]);
    let before = delivered(&world).len();
    until("the old one delivers", SOON, || delivered(&world).len() >= before + 2);
    assert!(delivered(&world).iter().all(|formatted| *formatted == digest(&one)));
    world.write("fmt.wasm", &one);
    world.run(&["reload", "--wait"]).ended(0);

    // All take it.
    let upgraded = world.run(&["plugin", "upgrade", "fmt", "two.wasm", "--json"]).ended(0).json();
    assert_eq!((&upgraded["before"], &upgraded["after"]), (&json!(digest(&one)), &json!(digest(&two))));
    assert_eq!((&upgraded["changed"], &upgraded["shares"]), (&json!(true), &json!(2)));
    assert!(fs::read(world.path("fmt.wasm")).unwrap() == two);
    assert!(fs::read(world.path("fmt.wasm.previous")).unwrap() == one);
    world.run(&["reload", "--wait"]).ended(0);
    wait_for(&world, &two);
    world.run(&["plugin", "upgrade", "fmt", "two.wasm"]).ended(0).out_says(&["plugin fmt is sha256:", "already"]);
    assert!(fs::read(world.path("fmt.wasm.previous")).unwrap() == one, "it is still what to go back to");

    // And back, and forth again.
    let back = ["plugin fmt is sha256:", "was        sha256:", "taken by   2 shares", "consign reload"];
    world.run(&["plugin", "rollback", "fmt"]).ended(0).out_says(&back);
    world.run(&["reload", "--wait"]).ended(0);
    wait_for(&world, &one);
    world.run(&["plugin", "rollback", "fmt"]).ended(0);
    assert!(fs::read(world.path("fmt.wasm")).unwrap() == two);
    stop(daemon);

    // What the configuration pins is not changed behind its back.
    let (old, new) = (digest(&two), digest(&one));
    world.write(
        "consign.toml",
        world.text().replace("path = \"fmt.wasm\"", &format!("path = \"fmt.wasm\"\nsha256 = \"{old}\"")),
    );
    let pinned = world.run(&["plugin", "rollback", "fmt"]).ended(1);
    says(&pinned.stderr, &["plugin fmt is pinned to the sha256", &format!("write `sha256 = \"{}\"`", &new[7..])]);
    assert!(fs::read(world.path("fmt.wasm")).unwrap() == two);
    world.write("consign.toml", world.text().replace(&old, &new));
    world.run(&["plugin", "rollback", "fmt"]).ended(0);
    assert!(fs::read(world.path("fmt.wasm")).unwrap() == one);
    world.run(&["check"]).ended(0);
}

/// A delivery at work is formatted to its end by the component that it began with.
#[test]
fn what_is_at_work_ends_with_the_component_that_it_began_with() {
    let world = World::new(&config("path = \"fmt.wasm\""));
    let sandbox = world.sandbox();
    let (one, two) = (component(1, 9), component(2, 9));
    world.write("fmt.wasm", &one);
    world.write("two.wasm", &two);
    let daemon = world.daemon();
    wait_for(&world, &one);
    sandbox.signal(Signal::STOP);
    let at_work = || {
        let standing = world.run(&["status", "--json"]).ended(0).json()["ledger"]["standing"]["at_work"].clone();
        let working = standing.as_array().unwrap().iter().filter(|open| open["state"] == "working");
        working.map(|open| open["run"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("a delivery is at work", SOON, || !at_work().is_empty());
    let before = at_work();
    world.run(&["plugin", "upgrade", "fmt", "two.wasm"]).ended(0);
    world.run(&["reload", "--wait"]).ended(0);
    sandbox.signal(Signal::CONT);
    for run in &before {
        let shown = || world.run(&["show", run, "--json"]).ended(0).json();
        until("what was at work has ended", SOON, || shown()["run"]["state"] != "running");
        let first = shown()["deliveries"][0]["attempts"][0].clone();
        assert_eq!((&first["state"], &first["digest"]), (&json!("committed"), &json!(digest(&one))));
    }
    wait_for(&world, &two);
    stop(daemon);
    // Manifests say which it was, from one to the other.
    let mut digests = delivered(&world);
    digests.dedup();
    assert!(digests.contains(&digest(&one)) && digests.contains(&digest(&two)), "{digests:?}");
}

/// From a registry: pinned when all take it, remembered in the lock file, and put
/// back without the registry.
#[test]
fn a_pin_is_upgraded_and_rolled_back_offline() {
    let Some(registry) = Registry::start() else { return };
    let (one, two, narrow) = (component(1, 9), component(2, 9), component(3, 2));
    let first = registry.push("team/fmt", "1", &one);
    let reference = format!("{}/team/fmt:1", registry.host());
    let world = World::new(&config(&format!("oci = \"{reference}\"")));
    let _sandbox = world.sandbox();
    world.own_cache();
    let pinned = || -> toml::Table {
        let lock: toml::Table = fs::read_to_string(world.path("consign.lock")).unwrap().parse().unwrap();
        lock["plugins"]["fmt"].as_table().unwrap().clone()
    };
    let is = |pin: &toml::Table, manifest: &str| pin["manifest"].as_str() == Some(manifest);

    // The first one has nothing before it.
    world.run(&["plugin", "upgrade", "fmt"]).ended(0);
    assert!(is(&pinned(), &first) && !pinned().contains_key("previous"));
    world.run(&["plugin", "rollback", "fmt"]).ended(1).err_says(&["no earlier component", "/team/fmt@sha256:…"]);
    let daemon = world.daemon();
    wait_for(&world, &one);

    let third = registry.push("team/fmt", "1", &narrow);
    world
        .run(&["plugin", "upgrade", "fmt"])
        .ended(1)
        .err_says(&["share yearly refuses the new component of plugin fmt"]);
    assert!(is(&pinned(), &first), "nothing was pinned");
    // Pinned by hand it is refused as well, and the daemon goes on with the old one.
    world.run(&["plugin", "pull"]).ended(0);
    assert!(is(&pinned(), &third) && is(pinned()["previous"].as_table().unwrap(), &first));
    world.run(&["reload", "--wait"]).ended(3).err_says(&["share yearly refuses the new component of plugin fmt"]);
    wait_for(&world, &one);
    world.run(&["plugin", "rollback", "fmt"]).ended(0);
    assert!(is(&pinned(), &first) && is(pinned()["previous"].as_table().unwrap(), &third));

    let second = registry.push("team/fmt", "2", &two);
    let elsewhere = format!("{}/team/fmt:2", registry.host());
    let other_tag = [&format!("write `oci = \"{elsewhere}\"`"), "consign plugin upgrade fmt"];
    world.run(&["plugin", "upgrade", "fmt", &elsewhere]).ended(2).err_says(&other_tag);
    let by_digest = format!("{}/team/fmt@{second}", registry.host());
    let upgraded = world.run(&["plugin", "upgrade", "fmt", &by_digest, "--json"]).ended(0).json();
    assert_eq!((&upgraded["before"], &upgraded["after"]), (&json!(digest(&one)), &json!(digest(&two))));
    assert!(is(&pinned(), &second) && is(pinned()["previous"].as_table().unwrap(), &first));
    world.run(&["reload", "--wait"]).ended(0);
    wait_for(&world, &two);

    // The registry is gone, and so it need not be asked.
    drop(registry);
    world.run(&["plugin", "rollback", "fmt"]).ended(0).out_says(&[&digest(&one), "consign.lock is written"]);
    world.run(&["reload", "--wait"]).ended(0);
    wait_for(&world, &one);
    stop(daemon);
    // Where it is in no cache either, it is said.
    fs::remove_dir_all(world.path("cache/components")).unwrap();
    world.run(&["plugin", "rollback", "fmt"]).ended(1).err_says(&["plugin fmt: no answer from 127.0.0.1"]);
    assert!(is(&pinned(), &first));
}

/// As an operator has it whose daemon is another user: what it has pulled is taken from
/// there, nothing is written there, and what is fetched is not kept.
#[test]
fn a_cache_of_another_user_is_read_and_not_written() {
    if !rustix::process::geteuid().is_root() {
        return not_tested("only root can give files to another user");
    }
    let Some(registry) = Registry::start() else { return };
    let (one, two, three) = (component(1, 9), component(2, 9), component(3, 9));
    let first = registry.push("team/fmt", "1", &one);
    let world = World::new(&config(&format!("oci = \"{}/team/fmt:1\"", registry.host())));
    world.own_cache();
    world.run(&["plugin", "upgrade", "fmt"]).ended(0);
    registry.push("team/fmt", "1", &two);
    world.run(&["plugin", "upgrade", "fmt"]).ended(0);
    let cache = world.path("cache");
    let mut folders = vec![cache.clone()];
    while let Some(path) = folders.pop() {
        lchown(&path, Some(4711), Some(4711)).unwrap();
        if path.is_dir() {
            folders.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    let before = world::files(&cache);

    registry.push("team/fmt", "1", &three);
    let upgraded = world.run(&["plugin", "upgrade", "fmt"]).ended(0).out_says(&[&digest(&three)]);
    says(&upgraded.stderr, &["is not there or not this user's, so nothing was kept"]);
    world.run(&["plugin", "upgrade", "fmt", &format!("{}/team/fmt@{first}", registry.host())]).ended(0);
    world.run(&["plugin", "upgrade", "fmt"]).ended(0);

    drop(registry);
    let back = world.run(&["plugin", "rollback", "fmt"]).ended(0).out_says(&[&digest(&one)]);
    assert!(!back.stderr.contains("nothing was kept"), "there was nothing to keep: {back:?}");
    let looked = world.run(&["check"]).ended(0);
    assert!(!looked.stderr.contains("is not in the cache"), "{looked:?}");
    assert!(world::files(&cache) == before);
    // Every byte is held against its digest, whoever it belongs to.
    let kept = cache.join("components").join(first.strip_prefix("sha256:").unwrap()).join("component.wasm");
    fs::write(kept, &two).unwrap();
    world.run(&["check"]).ended(3).err_says(&[&format!("has the digest {}, but", digest(&two)), &digest(&one)]);
}

/// A digest that is written in the configuration is what runs, whatever is asked for or pinned.
#[test]
fn a_digest_in_the_configuration_is_not_overridden() {
    let Some(registry) = Registry::start() else { return };
    let (first, second) =
        (registry.push("team/fmt", "1", &component(1, 9)), registry.push("team/fmt", "2", &component(2, 9)));
    let at = |digest: &str| format!("{}/team/fmt@{digest}", registry.host());
    let world = World::new(&config(&format!("oci = \"{}\"", at(&first))));
    world.own_cache();
    world.run(&["plugin", "upgrade", "fmt"]).ended(0);
    world.run(&["plugin", "upgrade", "fmt", &at(&first)]).ended(0).out_says(&["already"]);
    let lock = fs::read_to_string(world.path("consign.lock")).unwrap();
    let told = [&format!("plugin fmt is {}, not {}", at(&first), at(&second)), "write `oci = ", "consign.toml:"];
    world.run(&["plugin", "upgrade", "fmt", &at(&second)]).ended(2).err_says(&told);
    assert_eq!(fs::read_to_string(world.path("consign.lock")).unwrap(), lock);

    let other = lock.replace(&format!("manifest = \"{first}\""), &format!("manifest = \"{second}\""));
    let other = other.replace(&digest(&component(1, 9)), &digest(&component(2, 9)));
    world.write("consign.lock", other);
    let told =
        [&format!("consign.lock pins plugin fmt to {second}, and "), "is another digest", "consign plugin pull fmt"];
    world.run(&["check"]).ended(3).err_says(&told);
    world.run(&["plugin", "pull"]).ended(0);
    world.run(&["check"]).ended(0);
}

/// Each of the renames is where the process dies, or cannot.
#[test]
fn no_component_is_lost_whenever_it_ends() {
    if !may_trace() {
        return;
    }
    let world = World::new(&config("path = \"fmt.wasm\""));
    let (one, two, three) = (component(1, 9), component(2, 9), component(3, 9));
    world.write("three.wasm", &three);
    let read = |name: &str| fs::read(world.path(name)).unwrap();
    let (upgrade, rollback) = (&["plugin", "upgrade", "fmt", "three.wasm"][..], &["plugin", "rollback", "fmt"][..]);
    // They are compiled, which is in files of its own.
    for args in [upgrade, rollback] {
        world.write("fmt.wasm", &two);
        world.write("fmt.wasm.previous", &one);
        world.run(args).ended(0);
    }
    for (args, fault) in
        [(upgrade, "signal=KILL"), (upgrade, "error=EBUSY"), (rollback, "signal=KILL"), (rollback, "error=EBUSY")]
    {
        for number in 1.. {
            assert!(number < 10, "{args:?} {fault}");
            world.write("fmt.wasm", &two);
            world.write("fmt.wasm.previous", &one);
            let renames = "rename,renameat,renameat2";
            let strace =
                format!("strace -D -f -qq -o /dev/null -e trace={renames} -e inject={renames}:{fault}:when={number}");
            let strace: Vec<String> = strace.split(' ').map(str::to_owned).collect();
            let status = world.start(&strace, args, &[]).wait(SOON);
            let (now, kept) = (read("fmt.wasm"), read("fmt.wasm.previous"));
            let is = |pair: [&Vec<u8>; 2]| [&now, &kept] == pair;
            let is_done = is(if args == upgrade { [&three, &two] } else { [&one, &two] });
            if status.success() {
                assert!(is_done && number > 1, "{args:?} {fault} {number}");
                break;
            }
            let is_as_before = is([&two, &one]);
            // There is a way back to what is there, by its name.
            let is_between = args == upgrade && fault.contains("KILL") && is([&two, &two]);
            assert!(is_done || is_as_before || is_between, "{args:?} {fault} {number}");
            if fault.contains("EBUSY") {
                assert!(is_as_before, "{args:?} {number}: nothing was done");
                let left = fs::read_dir(world.dir()).unwrap().map(|entry| entry.unwrap().file_name());
                let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with(".consign-")).collect();
                assert!(left.is_empty(), "{args:?} {number}: {left:?}");
            }
            for entry in fs::read_dir(world.dir()).unwrap().map(|entry| entry.unwrap()) {
                if entry.file_name().to_string_lossy().starts_with(".consign-") {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
        }
    }
}

/// Nothing tells the columns of what is in a bucket, so nobody can say that its share takes it.
#[test]
fn shares_that_could_not_be_asked_are_named() {
    let lake = r#"
[datasets.lake]
tables.lake = "s3://acme-lake/orders.parquet"
shared = true
[shares.lake]
schedule = "@daily"
dataset = "lake"
plugin = "fmt"
options = { level = 3 }
to = { customers = ["acme"] }
"#;
    let world = World::new(&(config("path = \"fmt.wasm\"") + lake));
    for (name, component) in [("fmt", component(1, 9)), ("two", component(2, 9)), ("narrow", component(3, 2))] {
        world.write(&format!("{name}.wasm"), component);
    }
    let upgraded = world.run(&["plugin", "upgrade", "fmt", "two.wasm", "--json"]).ended(0).json();
    assert_eq!((&upgraded["shares"], &upgraded["not_asked"]), (&json!(2), &json!(["lake"])));
    let told = ["taken by   2 shares", "not asked  lake: the columns of the dataset are not known"];
    world.run(&["plugin", "rollback", "fmt"]).ended(0).out_says(&told);
    // The schema of the options is held against them nevertheless.
    let refused = world.run(&["plugin", "upgrade", "fmt", "narrow.wasm"]).ended(1);
    says(&refused.stderr, &["share lake (and 1 more) refuses the new component"]);
}
