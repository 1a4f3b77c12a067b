//! What a customer is handed, set up as it says, lets deliveries in, and nothing else.

use std::process::Command;

use super::*;
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
