//! What a customer is handed, set up as it says, lets deliveries in, and nothing else.

use std::process::Command;

use super::packs::{VARIANTS, pack_in, world_of};
use super::*;
use crate::cli::sweeps::in_lanes;
use crate::cli::world::{MANIFEST, files};
use crate::support::ministack::{ACCOUNT, Ministack, OTHER_ACCOUNT, element};

fn send(world: &World, at: &str) -> super::super::world::Ran {
    world.run(&["send", "flights", "--at", at])
}

/// `consign sandbox`, which enforces trust, external ID, role and prefix.
#[test]
fn a_pack_set_up_in_the_sandbox_delivers_and_lets_nothing_else_in() {
    let world = vendor_with(&SHARE.replace("\"airlines\"", "\"west\""));
    let args: Vec<&str> = SOUTHWEST.iter().map(|arg| if *arg == "airlines" { "west" } else { arg }).collect();
    world.run(&args).ended(0);
    let pack = world.run(&["customer", "pack", "southwest", "--vendor", "999999999999", "--json"]).ended(0).json();
    let (_sandbox, endpoint) = sandbox(&world, &set_up(&pack));
    at(&world, &endpoint);
    send(&world, SLOT).ended(0);
    let delivered = super::super::world::manifests(&world.path("buckets/southwest-lake"));
    let manifest = &delivered["consign/southwest/flights/2014-01-01/050000Z/_manifest.json"];
    assert_eq!(manifest["rows"], 12_275);

    // Outside of the prefix: the role's policy.
    let profile = fs::read_to_string(world.path("customers.d/southwest.toml")).unwrap();
    world.write("customers.d/southwest.toml", profile.replace("consign/southwest/", "consign/southwest2/"));
    send(&world, "2015-01-01T05:00:00Z").ended(1).out_says(&["FAILED  role policy"]);
    // Without and with another external ID: the trust policy.
    let id = pack["external_id"].as_str().unwrap();
    for other in ["external_id = \"c0ns1gn-guessed\"", "allow_missing_external_id = true"] {
        world.write("customers.d/southwest.toml", profile.replace(&format!("external_id = \"{id}\""), other));
        send(&world, "2015-01-01T05:00:00Z").ended(1).out_says(&["FAILED  trust policy"]);
    }
    assert_eq!(super::super::world::manifests(&world.path("buckets/southwest-lake")).len(), 1);
    world.write("customers.d/southwest.toml", profile);
    send(&world, "2015-01-01T05:00:00Z").ended(0);
}

/// What a customer may have besides what its profile says, as far as that changes what it needs.
fn keys_for(pack: &Value) -> Vec<Option<Key>> {
    let key = |by_iam, is_default| Some(Key { by_iam, is_default });
    // Across accounts a key's own policy has to let in whoever uses it.
    let is_far = key_owner(pack) != pack["account"].as_str().unwrap();
    let (has_statement, is_the_buckets) = (!pack["kms_key_statement"].is_null(), !pack["kms_policy"].is_null());
    let mut keys = match (has_statement, is_the_buckets) {
        (true, true) => vec![None, key(true, true), key(false, true)],
        (true, false) => vec![key(true, false), key(false, false)],
        (false, _) => vec![None],
    };
    keys.retain(|key| !is_far || key.is_none_or(|key| !key.by_iam));
    keys
}

/// Whether something is missed without this action.
type Needs<'a> = &'a dyn Fn(&str) -> bool;

/// The pack without one thing that is needed, and what that is.
fn without_each(pack: &Value, key: Option<Key>) -> Vec<(String, Value)> {
    let is_far = key_owner(pack) != pack["account"].as_str().unwrap();
    // Whoever the key lets in by name needs nothing of its own account for that.
    let is_needed = |action: &str| match action {
        // Whoever began an upload may abort it.
        "s3:AbortMultipartUpload" => false,
        action if action.starts_with("kms:") => key.is_some_and(|key| key.by_iam || is_far),
        _ => true,
    };
    let of_key = |_: &str| true;
    let statements: [(&str, bool, Needs<'_>); 4] = [
        ("/permissions_policy/Statement", true, &is_needed),
        ("/bucket_policy/Statement", pack["bucket_policy_required"] == true, &is_needed),
        ("/kms_policy/Statement", key.is_some_and(|key| key.is_default), &is_needed),
        ("/kms_key_statement", key.is_some_and(|key| !key.by_iam), &of_key),
    ];
    let mut found = Vec::new();
    for (place, _, is_needed) in statements.into_iter().filter(|(_, is_applied, _)| *is_applied) {
        let all = pack.pointer(place).unwrap();
        let places = match all.as_array() {
            Some(all) => (0..all.len()).map(|number| format!("{place}/{number}/Action")).collect(),
            None => vec![format!("{place}/Action")],
        };
        for place in places {
            let actions = pack.pointer(&place).unwrap().as_array().unwrap();
            for action in actions.iter().filter(|action| is_needed(action.as_str().unwrap())) {
                let mut less = pack.clone();
                less.pointer_mut(&place).unwrap().as_array_mut().unwrap().retain(|of| of != action);
                found.push((format!("{} of {place}", action.as_str().unwrap()), less));
            }
        }
    }
    let mut less = pack.clone();
    less["trust_policy"]["Statement"][0]["Principal"]["AWS"] = "arn:aws:iam::111122223333:root".into();
    found.push(("sts:AssumeRole of the vendor".to_owned(), less));
    found
}

/// Applied as it is, each pack lets deliveries in, of whatever profile it is; without any one of its actions none gets in, and
/// the preflight says which is missing.
#[test]
fn packs_of_all_profiles_deliver_and_nothing_of_them_is_spare() {
    in_lanes(2, &VARIANTS, |(variant, more)| {
        let pack = pack_in(&world_of(variant, more), &["--json"]).json();
        for key in keys_for(&pack) {
            let world = world_of(variant, more);
            let bucket = world.path("buckets/united-data");
            for (missing, less) in without_each(&pack, key) {
                let (_sandbox, endpoint) = sandbox(&world, &set_up_with(&less, key));
                at(&world, &endpoint);
                let told = || format!("{variant}, {key:?}, without {missing}");
                let report = world.run(&["preflight", "united", "--json"]);
                assert_eq!(report.code, 1, "{}: {}", told(), report.stdout);
                let report = report.json();
                let checks = report["customers"][0]["checks"].as_array().unwrap();
                let mut remedies = checks.iter().map(|check| check["remedy"].as_str().unwrap());
                let action = missing.split(' ').next().unwrap();
                assert!(remedies.any(|remedy| remedy.contains(action)), "{}: {report:#}", told());
                let sent = send(&world, SLOT);
                assert!(sent.code == 1 && files(&bucket).is_empty(), "{}: {sent:?}", told());
            }
            let (_sandbox, endpoint) = sandbox(&world, &set_up_with(&pack, key));
            at(&world, &endpoint);
            let report = world.run(&["preflight", "united", "--json"]).ended(0).json();
            let checks = report["customers"][0]["checks"].as_array().unwrap();
            assert!(checks.iter().all(|check| check["outcome"] == "ok"), "{variant}, {key:?}: {report:#}");
            let sent = send(&world, SLOT);
            assert_eq!(sent.code, 0, "{variant}, {key:?}: {sent:?}");
            let delivered = files(&bucket).into_keys().filter(|key| key.ends_with(MANIFEST)).count();
            assert_eq!(delivered, 1, "{variant}, {key:?}");
        }
    });
}

/// Who has no external ID in the way is told so, whatever else is right.
#[test]
fn a_pack_without_its_external_id_is_critical() {
    let world = vendor();
    let mut pack = pack_in(&world, &["--json"]).json();
    pack["trust_policy"]["Statement"][0].as_object_mut().unwrap().remove("Condition");
    let (_sandbox, endpoint) = sandbox(&world, &set_up(&pack));
    at(&world, &endpoint);
    world.run(&["preflight", "united"]).ended(1).out_says(&["2 critical", "\"sts:ExternalId\": \"demo-1f0c-united\""]);
}

/// A vendor and a customer of ministack's, in two accounts. The profile's role is not there yet.
struct Scene {
    server: &'static Ministack,
    world: World,
    keys: (String, String),
}

impl Scene {
    fn new(name: &str, account: &str, more: &[&str]) -> Self {
        let server = Ministack::shared();
        let allow =
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}"#;
        let keys = server.user(&format!("vendor-of-{name}"), allow);
        let config = SHARE
            .replace("{ groups = [\"airlines\"] }", &format!("{{ customers = [\"{name}\"] }}"))
            .replace("@AWS@", AWS)
            .replace("@ENDPOINT@", &server.url());
        let world = World::new(&config);
        including(&world);
        fs::create_dir(world.path("customers.d")).unwrap();
        let bucket = format!("{name}-data");
        let args = ["customer", "add", name, "--account", account, "--bucket", &bucket, "--region", "us-east-1"];
        world.run(&[&args[..], &["--param", "carrier=WN"], more].concat()).ended(0);
        let key = if account == ACCOUNT { "root" } else { account };
        assert_eq!(server.s3(key, "PUT", &format!("/{bucket}"), b"").status, 200);
        Self { server, world, keys }
    }

    /// Exit code and output of a delivery by the binary.
    fn send(&self, at: &str) -> (i32, String) {
        let (id, secret) = &self.keys;
        let mut command = command(self.world.dir(), &["--config", "consign.toml", "send", "flights", "--at", at]);
        let output = command.env("VENDOR_ID", id).env("VENDOR_SECRET", secret).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }

    fn rows_delivered(&self, account: &str, path: &str) -> Option<Value> {
        let answer = self.server.s3(account, "GET", path, b"");
        (answer.status == 200).then(|| serde_json::from_slice::<Value>(&answer.body).unwrap()["rows"].clone())
    }
}

const AWS: &str = r#"[aws]
region = "us-east-1"
principal = "000000000000"
endpoint_url = "@ENDPOINT@"
access_key_id = { env = "VENDOR_ID" }
secret_access_key = { env = "VENDOR_SECRET" }
"#;

#[test]
fn a_pack_set_up_in_ministack_delivers_and_lets_nothing_else_in() {
    let scene = Scene::new("packed", ACCOUNT, &["--prefix", "in/té d'or/"]);
    let pack = scene.world.run(&["customer", "pack", "packed", "--json"]).ended(0).json();
    let policies = scene.world.run(&["customer", "pack", "packed", "--dir", "out", "--json"]).ended(0).json();
    assert!(policies["written"].as_array().unwrap().len() > 8);
    // As the files have them, which is what a customer pastes.
    let file = |name: &str| fs::read_to_string(scene.world.path("out").join(name)).unwrap();
    let arn = scene.server.role("consign-packed", &file("trust-policy.json"), &file("permissions-policy.json"));
    assert_eq!(pack["role_arn"], *arn);
    let (code, said) = scene.send(SLOT);
    assert_eq!(code, 0, "{said}");
    let manifest = "/packed-data/in/t%C3%A9%20d'or/flights/2014-01-01/050000Z/_manifest.json";
    assert_eq!(scene.rows_delivered("root", manifest), Some(12_275.into()));

    let profile = fs::read_to_string(scene.world.path("customers.d/packed.toml")).unwrap();
    scene.world.write("customers.d/packed.toml", profile.replace("in/té d'or/", "in/other/"));
    let (code, said) = scene.send("2015-01-01T05:00:00Z");
    assert!(code == 1 && said.contains("role policy"), "{said}");
    let id = pack["external_id"].as_str().unwrap();
    for other in ["external_id = \"c0ns1gn-guessed\"", "allow_missing_external_id = true"] {
        scene.world.write("customers.d/packed.toml", profile.replace(&format!("external_id = \"{id}\""), other));
        let (code, said) = scene.send("2015-01-01T05:00:00Z");
        assert!(code == 1 && said.contains("trust policy"), "{said}");
    }
}

/// ministack takes uploads with ACL, tags and key without asking for a right to them. Of a bucket of the role's account it asks
/// the policy, too; of other accounts' buckets it knows no roles.
#[test]
fn a_pack_of_a_larger_profile_set_up_in_ministack_delivers() {
    let key = "arn:aws:kms:us-east-1:000000000000:key/0a1b";
    let more = ["--acl", "bucket-owner-full-control", "--tag", "a=b", "--encryption", key];
    let scene = Scene::new("adorned", ACCOUNT, &more);
    let pack = scene.world.run(&["customer", "pack", "adorned", "--json"]).ended(0).json();
    let policy = |of: &str| pack[of].to_string();
    let other = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#;
    scene.server.role("consign-adorned", &policy("trust_policy"), other);
    let is_refused = |at: &str| {
        let (code, said) = scene.send(at);
        assert!(code == 1 && said.contains("role policy"), "{said}");
    };
    let delivers = |at: &str| {
        let (code, said) = scene.send(at);
        assert_eq!(code, 0, "{said}");
    };
    is_refused(SLOT);
    let bucket = |method: &str, body: &str| scene.server.s3("root", method, "/adorned-data?policy", body.as_bytes());
    assert_eq!(bucket("PUT", &policy("bucket_policy")).status, 204);
    delivers(SLOT);
    let manifest = "/adorned-data/consign/adorned/flights/2014-01-01/050000Z/_manifest.json";
    assert_eq!(scene.rows_delivered("root", manifest), Some(12_275.into()));
    // The role's own policy does without it.
    assert_eq!(bucket("DELETE", "").status, 204);
    is_refused("2015-01-01T05:00:00Z");
    let permissions = policy("permissions_policy");
    let named = [("RoleName", "consign-adorned"), ("PolicyName", "p"), ("PolicyDocument", &permissions)];
    scene.server.iam("PutRolePolicy", &named);
    delivers("2015-01-01T05:00:00Z");
}

/// A command with the AWS CLI within reach, in the customer's account.
fn in_account(scene: &Scene, aws: &Path, account: &str, command: &[&str]) -> Command {
    let path = format!("{}:{}", aws.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut words = Command::new(command[0]);
    words.args(&command[1..]).current_dir(scene.world.dir()).env_clear();
    words.env("PATH", path).env("HOME", scene.world.dir()).env("AWS_DEFAULT_REGION", "us-east-1");
    words.env("AWS_ENDPOINT_URL", scene.server.url()).env("AWS_SECRET_ACCESS_KEY", "any");
    words.env("AWS_ACCESS_KEY_ID", account);
    words
}

/// The template, as a stack in the customer's account.
#[test]
fn the_template_sets_up_an_account_as_a_stack() {
    let Some(aws) = tool("aws") else { return };
    let scene = Scene::new("stacked", OTHER_ACCOUNT, &[]);
    scene.world.run(&["customer", "pack", "stacked", "--dir", "out", "--format", "cloudformation"]).ended(0);
    let deploy = "aws cloudformation deploy --stack-name consign-stacked --template-file out/consign-stacked.yaml \
                  --capabilities CAPABILITY_NAMED_IAM";
    let output = in_account(&scene, &aws, OTHER_ACCOUNT, &["sh", "-c", deploy]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (code, said) = scene.send(SLOT);
    assert_eq!(code, 0, "{said}");
    let manifest = "/stacked-data/consign/stacked/flights/2014-01-01/050000Z/_manifest.json";
    assert_eq!(scene.rows_delivered(OTHER_ACCOUNT, manifest), Some(12_275.into()));
    let profile = fs::read_to_string(scene.world.path("customers.d/stacked.toml")).unwrap();
    scene.world.write("customers.d/stacked.toml", profile.replace("consign/stacked/", "consign/other/"));
    let (code, said) = scene.send("2015-01-01T05:00:00Z");
    assert!(code == 1 && said.contains("role policy"), "{said}");
}

/// The script, by the AWS CLI itself, in the customer's account.
#[test]
fn the_script_sets_up_an_account_by_the_aws_cli() {
    let Some(aws) = tool("aws") else { return };
    let scene = Scene::new("scripted", OTHER_ACCOUNT, &[]);
    scene.world.run(&["customer", "pack", "scripted", "--dir", "out", "--format", "cli"]).ended(0);
    let run = |account: &str, more: &[(&str, &str)]| {
        let mut command = in_account(&scene, &aws, account, &["sh", "out/setup.sh"]);
        command.envs(more.iter().copied());
        let output = command.output().unwrap();
        let [stdout, stderr] =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        (output.status.success(), stdout, stderr)
    };
    // In another account it does nothing.
    let (done, _, why) = run("333333333333", &[]);
    assert!(!done && why.contains("222222222222 is needed"), "{why}");
    let (done, said, why) = run(OTHER_ACCOUNT, &[("BUCKET_POLICY", "yes")]);
    assert!(done, "{said}\n{why}");
    assert!(said.contains("arn:aws:iam::222222222222:role/consign-scripted"), "{said}");
    let rules = scene.server.s3(OTHER_ACCOUNT, "GET", "/scripted-data?lifecycle", b"");
    let rules = String::from_utf8(rules.body).unwrap();
    assert_eq!(element(&rules, "ID"), "consign-scripted", "{rules}");
    assert_eq!(element(&rules, "DaysAfterInitiation"), "7");
    let (code, said) = scene.send(SLOT);
    assert_eq!(code, 0, "{said}");
    let manifest = "/scripted-data/consign/scripted/flights/2014-01-01/050000Z/_manifest.json";
    assert_eq!(scene.rows_delivered(OTHER_ACCOUNT, manifest), Some(12_275.into()));

    // Once more is no harm, and what somebody else has set is kept.
    let (done, _, why) = run(OTHER_ACCOUNT, &[("BUCKET_POLICY", "yes")]);
    assert!(done && !why.contains("by hand"), "{why}");
    let other = "<LifecycleConfiguration><Rule><ID>theirs</ID><Status>Enabled</Status><Filter><Prefix>x/</Prefix></Filter>\
                 <Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>";
    assert_eq!(scene.server.s3(OTHER_ACCOUNT, "PUT", "/scripted-data?lifecycle", other.as_bytes()).status, 200);
    let (done, _, why) = run(OTHER_ACCOUNT, &[("KMS_KEY_ARN", "arn:aws:kms:us-east-1:222222222222:key/0a-1b")]);
    assert!(done && why.contains("has lifecycle rules already") && why.contains("consign-scripted"), "{why}");
    let rules = scene.server.s3(OTHER_ACCOUNT, "GET", "/scripted-data?lifecycle", b"");
    assert!(String::from_utf8(rules.body).unwrap().contains("theirs"));
    let (done, _, why) = run(OTHER_ACCOUNT, &[("KMS_KEY_ARN", "\", \"x\": \"")]);
    assert!(!done && why.contains("not the ARN of a key"), "{why}");
}

/// What the script finds and has not made stays, and it is said what differs.
#[test]
fn the_script_tells_what_is_there_and_differs() {
    let Some(aws) = tool("aws") else { return };
    let scene = Scene::new("rescripted", OTHER_ACCOUNT, &[]);
    let run = |more: &[(&str, &str)]| {
        scene.world.run(&["customer", "pack", "rescripted", "--dir", "out", "--format", "cli"]).ended(0);
        let mut command = in_account(&scene, &aws, OTHER_ACCOUNT, &["sh", "out/setup.sh"]);
        let output = command.env("BUCKET_POLICY", "yes").envs(more.iter().copied()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run(&[]), (true, String::new()));
    // Another prefix: statement and rule of those names are there, and are no longer right.
    let profile = fs::read_to_string(scene.world.path("customers.d/rescripted.toml")).unwrap();
    scene.world.write("customers.d/rescripted.toml", profile.replace("consign/rescripted/", "other/"));
    let (done, why) = run(&[]);
    let says = ["ConsignRescripted is another statement", "rescripted-data/other/*", "rule consign-rescripted"];
    assert!(done && says.iter().all(|phrase| why.contains(phrase)), "{why}");
    // Another external ID: whoever the role trusts now would be locked out.
    let id = profile.split("external_id = \"").nth(1).unwrap().split('"').next().unwrap();
    scene.world.write("customers.d/rescripted.toml", profile.replace(id, "another-id"));
    let trusted = || {
        let ask = ["aws", "iam", "get-role", "--role-name", "consign-rescripted", "--output", "json"];
        String::from_utf8(in_account(&scene, &aws, OTHER_ACCOUNT, &ask).output().unwrap().stdout).unwrap()
    };
    let (done, why) = run(&[]);
    assert!(!done && why.contains(id) && why.contains("another-id") && why.contains("REPLACE_TRUST=yes"), "{why}");
    assert!(trusted().contains(id));
    let more = [("REPLACE_TRUST", "yes"), ("BUCKET_POLICY", "no"), ("LIFECYCLE", "no")];
    assert_eq!(run(&more), (true, String::new()));
    assert!(trusted().contains("another-id") && !trusted().contains(id), "{}", trusted());
}
