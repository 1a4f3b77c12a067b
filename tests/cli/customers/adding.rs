//! One profile.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;

#[test]
fn a_new_customer_has_a_file_and_an_external_id_of_its_own() {
    let world = vendor();
    let before = profiles(&world);
    let said = world.run(&SOUTHWEST).ended(0).json();
    let added = &said["customers"][0];
    assert_eq!(added["role_arn"], "arn:aws:iam::100000000002:role/consign-southwest");
    assert_eq!(added["prefix"], "consign/southwest/");
    assert_eq!(added["file"], "customers.d/southwest.toml");
    let id = added["external_id"].as_str().unwrap();
    let digits = id.strip_prefix("c0ns1gn-").unwrap();
    assert!(digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");

    let text = fs::read_to_string(world.path("customers.d/southwest.toml")).unwrap();
    let wanted = format!(
        r#"# Written by `consign customer add`; next: `consign customer pack southwest`.
[customers.southwest]
role_arn = "arn:aws:iam::100000000002:role/consign-southwest"
external_id = "{id}"
bucket = "southwest-lake"
region = "us-west-2"
prefix = "consign/southwest/"
groups = ["airlines"]
params = {{ carrier = "WN" }}
"#
    );
    assert_eq!(text, wanted);
    let after = profiles(&world);
    assert_eq!(after.iter().filter(|file| file.0 != "southwest.toml").cloned().collect::<Vec<_>>(), before);
    world.run(&["check", "--quiet"]).ended(0);
    assert!(fs::read_dir(world.path("customers.d")).unwrap().count() == 2, "no temporary file is left");

    // Again is a slip.
    world
        .run(&SOUTHWEST)
        .ended(1)
        .out_says(&["there is a customer 'southwest' already, in customers.d/southwest.toml:2"]);
    assert_eq!(profiles(&world), after);
}

#[test]
fn what_comes_next_is_said() {
    let world = vendor();
    let args: Vec<&str> = SOUTHWEST.into_iter().filter(|arg| *arg != "--json").collect();
    world.run(&args).ended(0).out_says(&[
        "customer southwest is in customers.d/southwest.toml",
        "    external ID  c0ns1gn-",
        "    writes to    s3://southwest-lake/consign/southwest/ in us-west-2",
        "consign customer pack southwest",
        "consign preflight southwest",
        "consign reload",
    ]);
}

#[test]
fn external_ids_are_never_the_same() {
    let world = vendor();
    let ids: BTreeSet<String> = (0..20)
        .map(|_| {
            let said = world.run(&[&SOUTHWEST[..], &["--dry-run"]].concat()).ended(0).json();
            assert_eq!(said["written"], false);
            said["customers"][0]["external_id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 20);
    assert!(!world.path("customers.d/southwest.toml").exists());
}

#[test]
fn values_are_what_they_read_as() {
    let world = vendor();
    let more = [
        "--param",
        "id=42",
        "--param",
        "code=\"42\"",
        "--param",
        "old=007",
        "--param",
        "ids=[1, 2]",
        "--param",
        "negative=-7",
        "--param",
        "price=1.5",
        "--param",
        "since=2024-01-01T00:00:00Z",
        "--param",
        "is_big=true",
        "--param",
        "note=it's \"so\" = $HOME",
        "--encryption",
        "alias/their-key",
        "--tag",
        "source=consign",
        "--storage-class",
        "STANDARD_IA",
        "--bucket-owner",
        "100000000009",
    ];
    world.run(&[&SOUTHWEST[..], &more].concat()).ended(0);
    let shown = world.run(&["customer", "show", "southwest", "--json"]).ended(0).json();
    let wanted = serde_json::json!({
        "carrier": "WN", "id": 42, "code": "42", "old": "007", "ids": [1, 2], "since": "2024-01-01T00:00:00Z", "is_big": true,
        "negative": -7, "price": 1.5, "note": "it's \"so\" = $HOME",
    });
    assert_eq!(shown["profile"]["params"], wanted);
    assert_eq!(shown["profile"]["encryption"], "kms with alias/their-key");
    assert_eq!(shown["profile"]["tags"]["source"], "consign");
    assert_eq!(shown["profile"]["bucket_owner"], "100000000009");
    world
        .run(&["customer", "add", "x", "--param", "novalue", "--account", "1", "--bucket", "b", "--region", "r"])
        .ended(2);
}

/// TOML reads them as numbers, and as those of other tenants.
#[test]
fn a_number_that_would_be_written_otherwise_stays_what_was_typed() {
    let world = vendor();
    let ids =
        ["42_7", "0x10", "0o17", "0b11", "+5", "-0", "1e3", "1.50", "1_0.5", "42 # old", "9223372036854775808", "inf"];
    let typed: Vec<String> = (0..).zip(ids).map(|(number, id)| format!("id{number}={id}")).collect();
    let more = typed.iter().flat_map(|typed| ["--param", typed]).chain(["--param", "ids=[ 42_7,+5 ]"]);
    world.run(&SOUTHWEST.into_iter().chain(more).collect::<Vec<_>>()).ended(0);
    let shown = world.run(&["customer", "show", "southwest", "--json"]).ended(0).json();
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(shown["profile"]["params"][format!("id{number}")], *id);
    }
    assert_eq!(shown["profile"]["params"]["ids"], serde_json::json!(["42_7", "+5"]));
}

#[test]
fn with_an_error_nothing_is_written_and_all_is_told() {
    let world = vendor();
    let before = profiles(&world);
    let args = ["customer", "add", "southwest", "--account", "12", "--bucket", "Southwest_Lake", "--region", "mars-1"];
    let args = [&args[..], &["--groups", "airlines"]].concat();
    let said = world.run(&args).ended(3).err_says(&[
        "customers.d/southwest.toml:3:12",
        "has no 12-digit account id",
        "`Southwest_Lake`",
        "`mars-1`",
        "help: nothing is written",
    ]);
    assert!(said.stdout.is_empty());
    // What only shows beside others: the tenant's value, the folder.
    let args =
        ["customer", "add", "delta", "--account", "100000000001", "--bucket", "united-data", "--region", "us-east-1"];
    let args = [&args[..], &["--prefix", "in/delta", "--groups", "airlines"]].concat();
    world.run(&args).ended(3).err_says(&["`in/` and `in/delta/` overlap", "has no param `carrier`"]);
    assert_eq!(profiles(&world), before);
    world.run(&["customer", "add", "No Name", "--account", "1", "--bucket", "b", "--region", "r"]).ended(2);
    world.run(&["customer", "add", "--bucket", "b"]).ended(2);
}

#[test]
fn a_profile_joins_the_others_where_there_is_no_folder() {
    let world = World::new(&format!("{SHARE}\n{UNITED}# The end.\n"));
    let before = world.text();
    let said = world.run(&SOUTHWEST).ended(0).json();
    assert_eq!(said["customers"][0]["file"], "consign.toml");
    let after = world.text();
    // Every line that was there is there still, in its order.
    let mut left = after.lines();
    for line in before.lines() {
        assert!(left.any(|other| other == line), "`{line}` is gone or moved in\n{after}");
    }
    world.run(&["check", "--quiet"]).ended(0);

    let world = World::new(&SHARE.replace("groups = [\"airlines\"]", "all = true"));
    let before = world.text();
    world.run(&SOUTHWEST).ended(3).out_says(&["no place for the profile", "include = [\\\"customers.d/*.toml\\\"]"]);
    assert_eq!(world.text(), before);
    including(&world);
    world.run(&SOUTHWEST).ended(0);
    assert!(world.path("customers.d/southwest.toml").exists(), "the folder is made");
}

#[test]
fn files_keep_their_rights_and_new_ones_have_those_of_the_main_one() {
    let world = vendor();
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().mode() & 0o7777;
    let set = |name: &str, mode| fs::set_permissions(world.path(name), fs::Permissions::from_mode(mode)).unwrap();
    set("consign.toml", 0o640);
    world.run(&SOUTHWEST).ended(0);
    assert_eq!(mode("customers.d/southwest.toml"), 0o640);
    // A daemon that is another user reads what all may read.
    set("consign.toml", 0o644);
    let delta: Vec<&str> = SOUTHWEST.iter().map(|arg| if *arg == "southwest" { "delta" } else { arg }).collect();
    let delta: Vec<&str> = delta.iter().map(|arg| if *arg == "southwest-lake" { "delta-data" } else { arg }).collect();
    world.run(&delta).ended(0);
    assert_eq!(mode("customers.d/delta.toml"), 0o644);
    set("customers.d/southwest.toml", 0o600);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(world.path("customers.d/southwest.toml"), Some(12345), Some(54321)).unwrap();
    }
    let owner = |name: &str| fs::metadata(world.path(name)).map(|found| (found.uid(), found.gid())).unwrap();
    let before = owner("customers.d/southwest.toml");
    world.run(&["customer", "rotate-external-id", "southwest", "--vendor", "999999999999"]).ended(0);
    assert!(fs::read_to_string(world.path("customers.d/southwest.toml")).unwrap().contains("next_external_id"));
    assert_eq!((mode("customers.d/southwest.toml"), owner("customers.d/southwest.toml")), (0o600, before));
}

/// The daemon may be another user than who adds a customer, and has to get into the folder.
#[test]
fn a_new_folder_has_the_rights_and_the_owner_of_the_main_files() {
    let world = World::new(&SHARE.replace("groups = [\"airlines\"]", "all = true"));
    including(&world);
    fs::set_permissions(world.dir(), fs::Permissions::from_mode(0o2750)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(world.dir(), Some(12345), Some(54321)).unwrap();
        std::os::unix::fs::chown(world.path("consign.toml"), Some(12345), Some(54321)).unwrap();
    }
    let args = [&["--config", "consign.toml"], &SOUTHWEST[..]].concat();
    let mut words = vec!["umask 077; exec \"$0\" \"$@\"".to_owned()];
    let command = command(world.dir(), &args);
    words.push(command.get_program().to_str().unwrap().to_owned());
    words.extend(command.get_args().map(|arg| arg.to_str().unwrap().to_owned()));
    let output = std::process::Command::new("sh").arg("-c").args(words).current_dir(world.dir()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let of = |path: &Path| fs::metadata(path).map(|found| (found.mode() & 0o7777, found.uid(), found.gid())).unwrap();
    assert_eq!(of(&world.path("customers.d")), of(world.dir()));
}

/// The role's ARN names the partition that the bucket's region is in.
#[test]
fn roles_are_in_the_partition_of_the_region() {
    let world = vendor();
    for (region, partition) in [
        ("eu-west-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eusc-de-east-1", "aws-eusc"),
    ] {
        let args: Vec<&str> = SOUTHWEST.iter().map(|arg| if *arg == "us-west-2" { region } else { arg }).collect();
        let said = world.run(&[&args[..], &["--dry-run"]].concat()).ended(0).json();
        let role = said["customers"][0]["role_arn"].as_str().unwrap();
        assert_eq!(role, format!("arn:{partition}:iam::100000000002:role/consign-southwest"));
    }
}

/// Whatever is killed, each file is whole: as before, or as after.
#[test]
fn a_file_is_replaced_at_once() {
    let world = vendor();
    let link = world.path("customers.d/united.toml");
    fs::rename(&link, world.path("elsewhere.toml")).unwrap();
    std::os::unix::fs::symlink("../elsewhere.toml", &link).unwrap();
    let inode = |name: &str| fs::metadata(world.path(name)).unwrap().ino();
    let before = inode("elsewhere.toml");
    world.run(&["customer", "rotate-external-id", "united", "--vendor", "999999999999"]).ended(0);
    assert!(inode("elsewhere.toml") != before, "written in place");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "a link stays one");
    assert!(fs::read_to_string(&link).unwrap().contains("next_external_id"));
}
