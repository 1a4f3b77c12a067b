//! `pack`: its forms agree with each other, and other people's programs read them.

use std::fs::File;
use std::process::{Command, Output};

use super::*;

const VENDOR: &str = "999999999999";

/// Variants of a profile, by name.
pub(super) const VARIANTS: [(&str, &str); 10] = [
    ("plain", ""),
    ("kms-key", "encryption = { kms = \"arn:aws:kms:us-east-1:100000000001:key/0a1b\" }\n"),
    ("kms-alias", "encryption = { kms = \"alias/theirs\" }\n"),
    ("kms-default", "encryption = \"kms\"\n"),
    ("s3", "encryption = \"s3\"\nacl = \"bucket-owner-full-control\"\ntags = { a = \"b\" }\n"),
    ("elsewhere", "bucket_owner = \"100000000009\"\n"),
    ("odd", "bucket_owner = \"100000000009\"\nencryption = \"s3\"\nnext_external_id = \"demo-next\"\n"),
    ("path", ""),
    ("kms-id", "encryption = { kms = \"0a1b\" }\n"),
    (
        "handed-over",
        "bucket_owner = \"100000000009\"\nencryption = { kms = \"arn:aws:kms:us-east-1:100000000001:key/0a1b\" }\n\
         acl = \"bucket-owner-full-control\"\ntags = { a = \"b\" }\n",
    ),
];

/// A vendor whose customer `united` is this variant.
pub(super) fn world_of(variant: &str, more: &str) -> World {
    let world = vendor_with(&SHARE.replace("[datasets.flights]", "[datasets.flights] # all"));
    let mut profile = format!("{UNITED}{more}");
    if variant == "path" {
        profile =
            profile.replace("role/flight-data", "role/team/x/flight-data").replace("\"in/\"", "\"in/d%{a}té/it's/\"");
    }
    world.write("customers.d/united.toml", profile);
    world
}

pub(super) fn pack_in(world: &World, more: &[&str]) -> super::super::world::Ran {
    world.run(&[&["customer", "pack", "united", "--vendor", VENDOR], more].concat()).ended(0)
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn succeeds(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = output(command);
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout
}

/// What `tests/support/packs.py` reads from files.
fn read_by_others(kind: &str, files: &[PathBuf]) -> Option<Vec<Value>> {
    let python = tool("python")?;
    // What `tool` looked for is there, the libraries may not be.
    tool(if kind == "yaml" { "cfn-lint" } else { "hcl2tojson" })?;
    let text = succeeds(Command::new(python).arg(checkout("tests/support/packs.py")).arg(kind).args(files));
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn instructions_hold_the_policies_and_what_they_are_for() {
    let world = vendor();
    let pack = pack_in(&world, &["--json"]).json();
    assert_eq!(pack["principal"], "arn:aws:iam::999999999999:root");
    let objects = "arn:aws:s3:::united-data/in/*";
    assert_eq!(
        pack["permissions_policy"],
        serde_json::json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": ["s3:PutObject", "s3:AbortMultipartUpload"], "Resource": objects },
        ]})
    );
    let trust = &pack["trust_policy"]["Statement"][0];
    assert_eq!(trust["Condition"]["StringEquals"]["sts:ExternalId"], "demo-1f0c-united");
    let text = pack_in(&world, &[]).stdout;
    let markdown = pack_in(&world, &["--format", "markdown"]).stdout;
    for format in [&text, &markdown] {
        // Wherever lines end.
        let format = &format.replace('\n', " ");
        super::super::world::says(
            format,
            &[
                "s3://united-data/in/",
                "flight-data",
                "999999999999",
                "demo-1f0c-united",
                objects,
                "AbortIncompleteMultipartUpload",
                "\"kms:GenerateDataKey\"",
                "in the console or with any tool",
                "Tell us",
            ],
        );
        assert!(!format.contains("PutObjectAcl"));
    }
    assert_eq!(blocks(&markdown)[0], pack["trust_policy"]);
    assert_eq!(blocks(&markdown)[1], pack["permissions_policy"]);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");

    let s3 = world_of("s3", VARIANTS[4].1);
    let pack = pack_in(&s3, &["--json"]).json();
    let actions = &pack["permissions_policy"]["Statement"][0]["Action"];
    let wanted = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:PutObjectAcl", "s3:PutObjectTagging"];
    assert_eq!(*actions, serde_json::json!(wanted));
    assert!(!pack_in(&s3, &[]).stdout.contains("kms:"));
}

/// Whoever knows the key makes the policy narrow, and whoever owns the bucket gets what is in it.
#[test]
fn a_key_without_an_arn_and_a_bucket_of_another_account_are_spoken_of() {
    let resource = |variant: &str, more: &str| {
        let world = world_of(variant, more);
        let text = in_one_line(&pack_in(&world, &[]).stdout);
        let resource = pack_in(&world, &["--json"]).json()["permissions_policy"]["Statement"][1]["Resource"].clone();
        (resource, text.contains("in the place of the star, so that the role may use no other"))
    };
    let key = serde_json::json!("arn:aws:kms:us-east-1:100000000001:key/0a1b");
    assert_eq!(resource("kms-key", VARIANTS[1].1), (key.clone(), false));
    assert_eq!(resource("kms-id", VARIANTS[8].1), (key, false));
    assert_eq!(resource("kms-alias", VARIANTS[2].1), ("*".into(), true));
    assert_eq!(resource("kms-default", VARIANTS[3].1), ("*".into(), true));

    let [here, elsewhere, handed_over] =
        ["", VARIANTS[5].1, "bucket_owner = \"100000000009\"\nacl = \"bucket-owner-full-control\"\n"].map(|more| {
            let world = world_of("elsewhere", more);
            let template = pack_in(&world, &["--format", "cloudformation"]).stdout;
            let says = |text: String| in_one_line(&text).contains("Object Ownership: bucket owner enforced");
            [pack_in(&world, &[]).stdout, template].map(says)
        });
    assert_eq!([here, elsewhere, handed_over], [[false; 2], [true; 2], [false; 2]]);
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The JSON of a Markdown text's blocks.
fn blocks(markdown: &str) -> Vec<Value> {
    let blocks = markdown.split("\n```json\n").skip(1).map(|rest| rest.split("\n```\n").next().unwrap());
    blocks.map(|block| serde_json::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}"))).collect()
}

#[test]
fn who_the_vendor_is_is_never_made_up() {
    let world = vendor();
    world.run(&["customer", "pack", "united"]).ended(1).err_says(&[
        "it is not known whom customers are to trust",
        "GetCallerIdentity of the vendor's own identity did not get through",
        "principal = \"<the account's 12 digits>\"",
    ]);
    for (said, help) in [("12", "12 digits"), ("arn:aws:sts::111122223333:assumed-role/a/b", "is a session")] {
        world.run(&["customer", "pack", "united", "--vendor", said]).ended(2).err_says(&[help]);
    }
    // The configuration's, an account or a role.
    let text = world.text();
    for (said, arn) in [
        ("111122223333", "arn:aws:iam::111122223333:root"),
        ("arn:aws:iam::111122223333:role/team/consign", "arn:aws:iam::111122223333:role/team/consign"),
    ] {
        world.write("consign.toml", text.replace("[aws]\n", &format!("[aws]\nprincipal = \"{said}\"\n")));
        let pack = world.run(&["customer", "pack", "united", "--json"]).ended(0).json();
        assert_eq!(pack["trust_policy"]["Statement"][0]["Principal"]["AWS"], arn);
    }
    // Or whoever STS says it is: its account, and that is said.
    world.write("consign.toml", text);
    let (_sandbox, endpoint) = sandbox(&world, &set_up(&pack_in(&world, &["--json"]).json()));
    at(&world, &endpoint);
    let said = world.run(&["customer", "pack", "united"]).ended(0);
    said.out_says(&["\"AWS\": \"arn:aws:iam::999999999999:root\""])
        .err_says(&["consign is arn:aws:iam::999999999999:user/consign here", "`[aws] principal`"]);
}

/// It would be an account of the same number that has nothing to do with the vendor.
#[test]
fn a_role_of_another_partition_trusts_nobody() {
    let world = vendor();
    let (_sandbox, endpoint) = sandbox(&world, &set_up(&pack_in(&world, &["--json"]).json()));
    at(&world, &endpoint);
    world
        .write("customers.d/united.toml", UNITED.replace("arn:aws:", "arn:aws-cn:").replace("us-east-1", "cn-north-1"));
    let rotate = ["customer", "rotate-external-id", "united"];
    for args in [&["customer", "pack", "united"][..], &rotate] {
        let said = ["customer united is in the partition aws-cn", "arn:aws:iam::999999999999:root in aws"];
        world.run(args).ended(1).err_says(&said);
        let role = ["--vendor", "arn:aws:iam::111122223333:role/consign"];
        world
            .run(&[args, &role].concat())
            .ended(1)
            .err_says(&["arn:aws:iam::111122223333:role/consign in aws", "help: "]);
    }
    // Of digits alone nobody knows.
    pack_in(&world, &[]).out_says(&["arn:aws-cn:iam::999999999999:root"]);
}

#[test]
fn a_directory_gets_everything() {
    let world = vendor();
    pack_in(&world, &["--dir", "out"]);
    let mut names: Vec<String> = fs::read_dir(world.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let wanted = [
        "README.md",
        "bucket-policy.json",
        "consign-united.tf",
        "consign-united.yaml",
        "instructions.txt",
        "kms-key-statement.json",
        "kms-policy.json",
        "lifecycle.json",
        "permissions-policy.json",
        "setup.sh",
        "trust-policy.json",
    ];
    assert_eq!(names, wanted);
    let pack = pack_in(&world, &["--json"]).json();
    let file =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(world.path("out").join(name)).unwrap()).unwrap() };
    assert_eq!(file("trust-policy.json"), pack["trust_policy"]);
    assert_eq!(file("permissions-policy.json"), pack["permissions_policy"]);
    assert_eq!(file("lifecycle.json"), pack["lifecycle"]);
    let only = pack_in(&world, &["--dir", "one", "--format", "cli", "--json"]).json();
    assert_eq!(only["written"], serde_json::json!(["one/setup.sh"]));
}

/// CloudFormation's own linter finds nothing, and another parser the same policies.
#[test]
fn templates_of_cloudformation_are_sound() {
    let worlds: Vec<_> = VARIANTS.iter().map(|(name, more)| (name, world_of(name, more))).collect();
    let files: Vec<PathBuf> = worlds
        .iter()
        .map(|(_, world)| {
            pack_in(world, &["--dir", "out", "--format", "cloudformation"]);
            world.path("out/consign-united.yaml")
        })
        .collect();
    let (Some(lint), Some(templates)) = (tool("cfn-lint"), read_by_others("yaml", &files)) else { return };
    succeeds(Command::new(lint).args(["--regions", "us-east-1", "--"]).args(&files));
    for ((name, world), template) in worlds.iter().zip(templates) {
        let pack = pack_in(world, &["--json"]).json();
        let role = &template["Resources"]["DeliveryRole"]["Properties"];
        assert_eq!(role["AssumeRolePolicyDocument"], pack["trust_policy"], "{name}");
        assert_eq!(role["Policies"][0]["PolicyDocument"], pack["permissions_policy"], "{name}");
        let arn = pack["role_arn"].as_str().unwrap();
        let (path, role_name) = (role["Path"].as_str().unwrap(), role["RoleName"].as_str().unwrap());
        assert!(arn.ends_with(&format!(":role{path}{role_name}")), "{arn} {path} {role_name}");
        let bucket = &template["Resources"]["DeliveryBucketPolicy"]["Properties"]["PolicyDocument"];
        match pack["bucket_policy_required"] == true {
            true => assert!(bucket.is_null(), "the stack is in another account than the bucket"),
            false => assert_eq!(*bucket, pack["bucket_policy"]),
        }
        let mut kms = template["Resources"]["KmsPolicy"]["Properties"]["PolicyDocument"].clone();
        if !kms.is_null() {
            assert_eq!(kms["Statement"][0]["Resource"], serde_json::json!({ "!Ref": "KmsKeyArn" }));
            kms["Statement"][0]["Resource"] = "*".into();
        }
        assert_eq!(kms, pack["kms_policy"], "{name}");
    }
}

/// Another parser finds the same policies, and so does Terraform itself where it is there.
#[test]
fn modules_of_terraform_are_sound() {
    let worlds: Vec<_> = VARIANTS.iter().map(|(name, more)| (name, world_of(name, more))).collect();
    let files: Vec<PathBuf> = worlds
        .iter()
        .map(|(_, world)| {
            pack_in(world, &["--dir", "out", "--format", "terraform"]);
            world.path("out/consign-united.tf")
        })
        .collect();
    let Some(modules) = read_by_others("hcl", &files) else { return };
    for (((name, world), module), file) in worlds.iter().zip(modules).zip(&files) {
        let pack = pack_in(world, &["--json"]).json();
        let locals = &module["locals"][0];
        let policy = |key: &str| -> Value {
            locals[key].as_str().map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
        };
        assert_eq!(policy("consign_united_trust_policy"), pack["trust_policy"], "{name}");
        assert_eq!(policy("consign_united_permissions"), pack["permissions_policy"], "{name}");
        assert_eq!(policy("consign_united_kms_policy"), pack["kms_policy"], "{name}");
        let elsewhere = pack["bucket_policy_required"] == true;
        assert_eq!(
            policy("consign_united_bucket_policy"),
            if elsewhere { Value::Null } else { pack["bucket_policy"].clone() }
        );
        as_terraform_has_it(file, &pack);
    }
}

/// All statements are in all forms: what one cannot set up by itself it has as a comment.
#[test]
fn forms_tell_what_is_left_to_be_done_by_hand() {
    for (name, more) in VARIANTS {
        let world = world_of(name, more);
        let pack = pack_in(&world, &["--json"]).json();
        let is_elsewhere = pack["bucket_policy_required"] == true;
        for format in ["cloudformation", "terraform", "cli"] {
            let text = pack_in(&world, &["--format", format]).stdout;
            let by_hand = commented(&text);
            let has = |part: &str| by_hand.contains(&pack[part]);
            assert_eq!(has("kms_key_statement"), !pack["kms_key_statement"].is_null(), "{name} {format} {by_hand:?}");
            assert_eq!(has("bucket_policy"), is_elsewhere, "{name} {format} {by_hand:?}");
            assert_eq!(has("lifecycle"), is_elsewhere || format == "cloudformation", "{name} {format} {by_hand:?}");
        }
    }
}

/// The JSON in comments.
fn commented(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| line.strip_prefix("#   ").unwrap_or(if line == "#" { "" } else { "\n" }));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    text.split("\n\n").filter_map(|block| serde_json::from_str(block).ok()).collect()
}

/// Files of several customers are put beside each other, and beside others that say which providers they need.
#[test]
fn modules_of_several_customers_are_one_module() {
    let world = vendor();
    world.run(&SOUTHWEST).ended(0);
    let united = pack_in(&world, &["--format", "terraform"]).stdout;
    let southwest =
        world.run(&["customer", "pack", "southwest", "--vendor", VENDOR, "--format", "terraform"]).ended(0).stdout;
    let labels = |text: &str| -> Vec<String> {
        let is_label = |line: &&str| ["resource ", "variable ", "output "].iter().any(|word| line.starts_with(word));
        text.lines().filter(is_label).map(str::to_owned).collect()
    };
    assert_eq!(labels(&united).len(), 9, "{united}");
    assert!(labels(&united).iter().all(|label| !labels(&southwest).contains(label)), "{united}\n{southwest}");
    assert!(!united.contains("terraform {"), "a module says once what it needs: {united}");

    // As Terraform itself has it, which finds what is there twice before it looks for providers.
    if Command::new("terraform").arg("version").output().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("cli.tfrc", "provider_installation {\n  filesystem_mirror {\n    path = \"nowhere\"\n  }\n}\n");
    write("versions.tf", "terraform {\n  required_providers {\n    aws = { source = \"hashicorp/aws\" }\n  }\n}\n");
    let init = || {
        let mut command = Command::new("terraform");
        command.args(["init", "-backend=false", "-input=false", "-no-color"]).current_dir(dir.path());
        command.env("CHECKPOINT_DISABLE", "1").env("TF_CLI_CONFIG_FILE", "cli.tfrc");
        String::from_utf8(output(&mut command).stderr).unwrap()
    };
    write("united.tf", &united);
    write("southwest.tf", &southwest);
    let said = init();
    assert!(!said.contains("Duplicate") && said.contains("provider"), "{said}");
    write("again.tf", &united);
    assert!(init().contains("Duplicate"), "what is there twice is found");
}

/// A role has one trust policy: whichever of its profiles is set up last must not lock out the others.
#[test]
fn a_role_of_two_profiles_trusts_both() {
    let world = vendor();
    let other = UNITED.replace("united]", "united-eu]").replace("demo-1f0c-united", "demo-2f0c-eu");
    world.write("customers.d/united-eu.toml", other.replace("united-data", "united-eu").replace("\"UA\"", "\"UE\""));
    let pack = |name: &str, more: &[&str]| {
        world.run(&[&["customer", "pack", name, "--vendor", VENDOR], more].concat()).ended(0)
    };
    let (first, second) = (pack("united", &["--json"]).json(), pack("united-eu", &["--json"]).json());
    assert_eq!(first["trust_policy"], second["trust_policy"]);
    let ids = &first["trust_policy"]["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"];
    assert_eq!(*ids, serde_json::json!(["demo-1f0c-united", "demo-2f0c-eu"]));
    // Nor does one policy take the place of the other's.
    for (name, other) in [("united", "'united-eu'"), ("united-eu", "'united'")] {
        for (format, line) in [
            ("cloudformation", format!("PolicyName: consign-delivery-{name}\n")),
            ("terraform", format!("\"consign-delivery-{name}\"\n")),
            ("cli", format!("--policy-name consign-delivery-{name} ")),
        ] {
            pack(name, &["--format", format]).out_says(&[&line, &format!("# The role is that of {other} too")]);
        }
        pack(name, &[]).out_says(&["If that is not so, do not put this in place"]);
    }
    // Also while one of them changes.
    let said = world.run(&["customer", "rotate-external-id", "united", "--vendor", VENDOR, "--json"]).ended(0).json();
    let ids = said["trust_policy"]["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"].clone();
    let next = said["next_external_id"].as_str().unwrap();
    assert_eq!(ids, serde_json::json!(["demo-1f0c-united", next, "demo-2f0c-eu"]));
    world.run(&["check"]).ended(0).err_says(&["customers `united` and `united-eu` have the same role"]);
}

/// One trust policy cannot ask for an external ID and for none: it would open the role to whoever names it, or shut it.
#[test]
fn no_profile_opens_a_role_that_another_has_shut() {
    let world = vendor();
    let open = UNITED.replace("united]", "united-eu]").replace("united-data", "united-eu").replace("\"UA\"", "\"UE\"");
    let open = open.replace("external_id = \"demo-1f0c-united\"", "allow_missing_external_id = true");
    world.write("customers.d/united-eu.toml", open);
    let said = ["`united-eu` has no external ID", "same role as customer `united`", "rotate-external-id united-eu"];
    world.run(&["check"]).ended(3).err_says(&said);
    for name in ["united", "united-eu"] {
        world.run(&["customer", "pack", name, "--vendor", VENDOR]).ended(3).err_says(&said);
    }
    // With one on the way it is shut for both, and the configuration is taken.
    let rotate = ["customer", "rotate-external-id", "united-eu", "--vendor", VENDOR];
    let next = world.run(&[&rotate[..], &["--json"]].concat()).ended(0).json()["next_external_id"].clone();
    for name in ["united", "united-eu"] {
        let pack = world.run(&["customer", "pack", name, "--vendor", VENDOR, "--json"]).ended(0).json();
        let ids = &pack["trust_policy"]["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"];
        assert_eq!(*ids, serde_json::json!(["demo-1f0c-united", next]));
    }
    world.run(&rotate).ended(0).out_says(&["unless", "asks for no external ID at all", "\"sts:ExternalId\": ["]);
    let letter = world.run(&["customer", "pack", "united-eu", "--vendor", VENDOR]).ended(0).stdout;
    assert!(in_one_line(&letter).contains("and only with one of these external IDs"), "{letter}");
    world.run(&["check"]).ended(0);
    world.run(&[&rotate[..], &["--finish", "--untried"]].concat()).ended(0).out_says(&["was not tried"]);
    world.run(&["check"]).ended(0);
}

/// Whichever of them is applied first makes the role, and the others are told not to.
#[test]
fn packs_of_one_role_can_both_be_applied() {
    for more in ["", "bucket_owner = \"100000000009\"\n", "encryption = \"s3\"\n"] {
        let world = vendor();
        let profile = format!("{UNITED}{more}");
        world.write("customers.d/united.toml", &profile);
        let other = profile.replace("united]", "united-eu]").replace("demo-1f0c-united", "demo-2f0c-eu");
        world
            .write("customers.d/united-eu.toml", other.replace("united-data", "united-eu").replace("\"UA\"", "\"UE\""));
        pack_in(&world, &["--dir", "out"]);
        let (yaml, module) = (world.path("out/consign-united.yaml"), world.path("out/consign-united.tf"));
        let pack = pack_in(&world, &["--json"]).json();
        if let (Some(lint), Some(templates)) = (tool("cfn-lint"), read_by_others("yaml", std::slice::from_ref(&yaml))) {
            succeeds(Command::new(lint).args(["--regions", "us-east-1", "--"]).arg(&yaml));
            let resources = &templates[0]["Resources"];
            let role = &resources["DeliveryRole"];
            assert_eq!(role["Condition"], "MakesRole");
            assert_eq!(role["Properties"]["AssumeRolePolicyDocument"], pack["trust_policy"]);
            assert!(role["Properties"]["Policies"].is_null(), "it would not be there without the role");
            let policy = &resources["DeliveryPolicy"];
            assert_eq!(policy["Properties"]["PolicyDocument"], pack["permissions_policy"]);
            let of = serde_json::json!([{ "!If": ["MakesRole", { "!Ref": "DeliveryRole" }, "flight-data"] }]);
            assert!(policy["Condition"].is_null() && policy["Properties"]["Roles"] == of, "{policy}");
            let kms = &resources["KmsPolicy"]["Properties"]["Roles"];
            assert!(*kms == of || pack["kms_policy"].is_null(), "{kms}");
        }
        as_terraform_has_it(&module, &pack);
        let text = fs::read_to_string(&module).unwrap();
        let count = text.lines().filter(|line| line.contains("= var.consign_united_make_role ? 1 : 0")).count();
        assert_eq!(count, 1, "{text}");
        let role =
            "role   = var.consign_united_make_role ? aws_iam_role.consign_united_delivery[0].id : \"flight-data\"\n";
        assert_eq!(text.matches(role).count(), 1 + usize::from(!pack["kms_policy"].is_null()), "{text}");
        for (format, told) in [("cloudformation", "MakeRole=false"), ("terraform", "consign_united_make_role = false")]
        {
            pack_in(&world, &["--format", format]).out_says(&[told]);
        }
    }
}

#[test]
fn a_trust_policy_that_iam_may_not_take_is_warned_of() {
    let world = vendor();
    let id = |number: usize| format!("c0ns1gn-{number:032}");
    for number in 0..45 {
        let other = UNITED.replace("united]", &format!("u{number}]")).replace("demo-1f0c-united", &id(number));
        world.write(&format!("customers.d/u{number}.toml"), other.replace("\"in/\"", &format!("\"in{number}/\"")));
        if number == 30 {
            assert!(!pack_in(&world, &[]).stderr.contains("characters"));
        }
    }
    let said = ["the trust policy of arn:aws:iam::100000000001:role/flight-data has 2", "IAM takes 2048"];
    pack_in(&world, &[]).err_says(&said);
    let checked = world.run(&["check"]).ended(0).err_says(&said);
    assert_eq!(checked.stderr.matches("IAM takes 2048").count(), 1, "once for each role: {}", checked.stderr);
}

/// Stacks and statements have names of their own rules, and two customers two of them.
#[test]
fn an_underscore_in_a_name_is_one_that_aws_takes() {
    let world = vendor();
    let mut names = Vec::new();
    for name in ["united_eu", "united-eu"] {
        let other = UNITED.replace("united]", &format!("{name}]")).replace("demo-1f0c-united", name);
        world.write(&format!("customers.d/{name}.toml"), other.replace("\"in/\"", &format!("\"{name}/\"")));
        let pack =
            |format: &[&str]| world.run(&[&["customer", "pack", name, "--vendor", VENDOR], format].concat()).ended(0);
        let template = pack(&["--format", "cloudformation"]).stdout;
        let stack = template.split("--stack-name ").nth(1).unwrap().split_whitespace().next().unwrap();
        assert!(stack.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{stack}");
        let sid = pack(&["--json"]).json()["bucket_policy"]["Statement"][0]["Sid"].as_str().unwrap().to_owned();
        assert!(sid.chars().all(|c| c.is_ascii_alphanumeric()), "{sid}");
        names.push((stack.to_owned(), sid));
    }
    assert!(names[0].0 != names[1].0 && names[0].1 != names[1].1, "{names:?}");
}

/// `terraform validate` would fetch half a gigabyte of provider: its formatter parses the
/// whole, and its console evaluates what we have quoted.
fn as_terraform_has_it(file: &Path, pack: &Value) {
    let terraform = || {
        let mut command = Command::new("terraform");
        command.env("CHECKPOINT_DISABLE", "1").env_remove("TF_CLI_CONFIG_FILE");
        command
    };
    if terraform().arg("version").output().is_err() {
        return;
    }
    succeeds(terraform().args(["fmt", "-check", "-diff"]).arg(file));
    let text = fs::read_to_string(file).unwrap();
    let (_, locals) = text.split_once("\nlocals {\n").unwrap();
    let (locals, _) = locals.split_once("\n}\n").unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("main.tf"), format!("locals {{\n{locals}\n}}\n")).unwrap();
    let ask = dir.path().join("ask");
    fs::write(&ask, "jsonencode(jsondecode(local.consign_united_permissions))\n").unwrap();
    let said = succeeds(terraform().arg("console").current_dir(dir.path()).stdin(File::open(ask).unwrap()));
    let said: String = serde_json::from_str(said.trim()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), pack["permissions_policy"]);
}

#[test]
fn scripts_are_ones_that_a_shell_reads() {
    for (name, more) in VARIANTS {
        let world = world_of(name, more);
        pack_in(&world, &["--dir", "out", "--format", "cli"]);
        for shell in ["bash", "sh"] {
            succeeds(Command::new(shell).arg("-n").arg(world.path("out/setup.sh")));
        }
    }
}

/// A customer without an external ID is one that others can write to.
#[test]
fn a_missing_external_id_is_said_loudly() {
    let world = vendor();
    let open = UNITED.replace("external_id = \"demo-1f0c-united\"", "allow_missing_external_id = true");
    world.write("customers.d/united.toml", open);
    pack_in(&world, &[]).err_says(&["customer united has no external ID", "rotate-external-id united"]);
    world.run(&["customer", "pack", "unitde", "--vendor", VENDOR]).ended(1).err_says(&["did you mean 'united'?"]);
}

/// Sessions longer than roles allow by themselves have to be allowed.
#[test]
fn a_longer_session_is_asked_for() {
    let world = vendor();
    let plain = pack_in(&world, &["--format", "terraform"]).stdout;
    assert!(!plain.contains("max_session_duration"));
    world.write("consign.toml", world.text().replace("[aws]\n", "[aws]\nsession_duration = \"2h\"\n"));
    pack_in(&world, &["--format", "terraform"]).out_says(&["  max_session_duration = 7200\n"]);
    pack_in(&world, &["--format", "cloudformation"]).out_says(&["      MaxSessionDuration: 7200\n"]);
    pack_in(&world, &["--format", "cli"]).out_says(&["--max-session-duration 7200"]);
    pack_in(&world, &[]).out_says(&["7200 seconds"]);
}
