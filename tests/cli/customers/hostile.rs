//! What customers call their folders and keys stays what it is in every format.

use std::collections::BTreeMap;
use std::process::Command;

use consign::config::{Customer, Encryption};
use consign::domain::{AccountId, BucketName, CustomerName, CustomerPrefix, ExternalId, Principal, Region, RoleArn};
use consign::pack::{Format, Pack};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;

/// What ends a string, a comment, a line or a block in one format or another, or begins
/// something in it.
static PARTS: [&str; 40] = [
    "'",
    "\"",
    "`",
    "```",
    "\n",
    "\n\n",
    "\r\n",
    "\u{0}",
    "\u{1}",
    "\u{2}",
    "\u{1b}[31m",
    "$",
    "$(id)",
    "${x}",
    "%{ if x }",
    "#",
    "\n#",
    "\nJSON\n",
    "\n  JSON\n",
    "EOF",
    "\\",
    "\\'",
    "\\\"",
    ": ",
    "- ",
    "!Ref x",
    "{{",
    "}}",
    "<!--",
    "--",
    ";",
    "|",
    "&",
    "*/",
    "é",
    "数据",
    "🦀",
    "\u{2028}",
    "a b",
    "\u{202e}",
];

fn hostile() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![prop::sample::select(PARTS.as_slice()).prop_map(str::to_owned), "[a-z/]{1,4}"],
        1..8,
    )
    .prop_map(|parts| parts.concat())
}

/// What the configuration takes: all keys, and prefixes by their rule.
fn customer(prefix: &str, key: &str, number: usize) -> Option<Customer> {
    let prefix = CustomerPrefix::parse(prefix).ok()?;
    Some(Customer {
        name: CustomerName::parse("acme").unwrap(),
        role_arn: RoleArn::parse("arn:aws:iam::123456789012:role/x/consign+=,.@_-").unwrap(),
        external_id: ExternalId::parse("_+=,.@:/-").ok(),
        next_external_id: None,
        sharers: Default::default(),
        trusts: None,
        bucket: BucketName::parse("acme-data").unwrap(),
        bucket_owner: AccountId::parse(if number.is_multiple_of(2) { "123456789012" } else { "210987654321" }).unwrap(),
        region: Region::parse("eu-west-1").unwrap(),
        prefix,
        groups: Vec::new(),
        params: BTreeMap::new(),
        encryption: match number % 3 {
            0 => Encryption::Bucket,
            1 => Encryption::Kms { key: Some(key.to_owned()) },
            _ => Encryption::Kms { key: Some(format!("arn:aws:kms:eu-west-1:123456789012:key/{key}")) },
        },
        storage_class: None,
        acl: None,
        tags: BTreeMap::new(),
    })
}

fn customers(count: usize) -> Vec<Customer> {
    let mut runner = TestRunner::deterministic();
    let both = (hostile(), hostile());
    let values = (0..).map(|number| (number, both.new_tree(&mut runner).unwrap().current()));
    values.filter_map(|(number, (prefix, key))| customer(&prefix, &key, number)).take(count).collect()
}

fn packs(customers: &[Customer]) -> impl Iterator<Item = (&Customer, Pack<'_>)> {
    let vendor = Principal::parse("arn:aws:iam::111122223333:role/a+=,.@_-").unwrap();
    customers.iter().map(move |customer| (customer, Pack::new(customer, &vendor, 3600)))
}

/// A shell in the place of the AWS CLI writes down each argument: they are the policies, and
/// nothing else is run.
#[test]
fn no_value_gets_out_of_the_script() {
    const STUB: &str = r#"
aws() {
    case "$1 $2" in
    "sts get-caller-identity") echo 123456789012 ;;
    "iam get-role") case $* in *AssumeRolePolicyDocument*) echo NoSuchEntity; return 1 ;; esac ;;
    "s3api get-bucket-"*) echo NoSuchLifecycleConfiguration NoSuchBucketPolicy; return 1 ;;
    *) for argument; do printf '%s\0' "$argument" >>"$LOG"; done; printf '\0' >>"$LOG" ;;
    esac
}
"#;
    let dir = tempfile::tempdir().unwrap();
    for (customer, pack) in packs(&customers(60)) {
        let script = pack.write(Format::Cli);
        fs::write(dir.path().join("script"), format!("{STUB}{script}")).unwrap();
        let log = dir.path().join("log");
        let _ = fs::remove_file(&log);
        let output = Command::new("bash")
            .arg("script")
            .current_dir(dir.path())
            .env("LOG", &log)
            .env("BUCKET_POLICY", "yes")
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{script}\n{output:?}");
        assert_eq!(output.stdout, b"Done. Send us the ARN of the role:\n", "{script}");
        assert_eq!(output.stderr, b"", "{script}");
        let said = String::from_utf8(fs::read(&log).unwrap()).unwrap();
        let said: Vec<&str> = said.split('\0').filter(|argument| argument.starts_with('{')).collect();
        let json: Vec<Value> = said.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let all = pack.to_json();
        let own = customer.bucket_owner.as_str() == "123456789012";
        let mut wanted = vec![all["trust_policy"].clone(), all["permissions_policy"].clone()];
        wanted.extend(own.then(|| [all["bucket_policy"].clone(), all["lifecycle"].clone()]).into_iter().flatten());
        assert_eq!(json, wanted, "{script}");
        assert!(said.iter().all(|text| text.is_ascii()), "IAM takes no other");
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?} {script}");
    }
}

/// Other people's parsers find what was put in.
#[test]
fn no_value_gets_out_of_templates_and_modules() {
    let dir = tempfile::tempdir().unwrap();
    let customers = customers(150);
    let (mut yaml, mut hcl, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (customer, pack)) in packs(&customers).enumerate() {
        for (format, files) in [(Format::CloudFormation, &mut yaml), (Format::Terraform, &mut hcl)] {
            let path = dir.path().join(format!("{number}.{format:?}"));
            fs::write(&path, pack.write(format)).unwrap();
            files.push(path);
        }
        wanted.push((customer.prefix.as_str(), pack.to_json()));
    }
    let (Some(python), Some(_), Some(_)) = (tool("python"), tool("cfn-lint"), tool("hcl2tojson")) else { return };
    let read = |kind: &str, files: &[PathBuf]| -> Vec<Value> {
        let output =
            Command::new(&python).arg(checkout("tests/support/packs.py")).arg(kind).args(files).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    for (template, (prefix, pack)) in read("yaml", &yaml).iter().zip(&wanted) {
        let resources = &template["Resources"];
        let role = &resources["DeliveryRole"]["Properties"];
        assert_eq!(role["AssumeRolePolicyDocument"], pack["trust_policy"]);
        assert_eq!(role["Policies"][0]["PolicyDocument"], pack["permissions_policy"]);
        assert_eq!(role["RoleName"], "consign+=,.@_-");
        let known = ["DeliveryRole", "KmsPolicy", "DeliveryBucket", "DeliveryBucketPolicy"];
        assert!(resources.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())));
        let rule = &resources["DeliveryBucket"]["Properties"]["LifecycleConfiguration"]["Rules"][0];
        assert!(rule.is_null() || rule["Prefix"] == *prefix, "{rule}");
    }
    for (module, (_, pack)) in read("hcl", &hcl).iter().zip(&wanted) {
        let locals = &module["locals"][0];
        let policy = |key: &str| serde_json::from_str::<Value>(locals[key].as_str().unwrap()).unwrap();
        assert_eq!(policy("consign_acme_trust_policy"), pack["trust_policy"]);
        assert_eq!(policy("consign_acme_permissions"), pack["permissions_policy"]);
        let known = ["variable", "locals", "resource", "output"];
        assert!(module.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{module}");
    }
}

/// A letter has the headings, lines and blocks of any other.
#[test]
fn no_value_gets_out_of_the_instructions() {
    for (customer, pack) in packs(&customers(150)) {
        for format in [Format::Text, Format::Markdown] {
            let text = pack.write(format);
            let is_shown = |c: char| !c.is_control() || c == '\n';
            assert!(text.chars().all(is_shown), "{text:?}");
            let wild = |c: char| matches!(c, '\u{2028}' | '\u{202e}');
            assert!(!text.contains(wild), "{text:?}");
            let markdown = format == Format::Markdown;
            let heads = text.lines().filter(|line| line.starts_with(if markdown { "## " } else { "1. " })).count();
            let steps = 5 + pack.policies().len() - 4;
            assert_eq!(heads, if markdown { steps } else { 1 }, "{text}");
            if !markdown {
                continue;
            }
            let fences = text.lines().filter(|line| line.trim_start().starts_with("```")).collect::<Vec<_>>();
            let pairs = ["```json", "```"].repeat(steps - 1);
            assert_eq!(fences, pairs, "{text}");
            let blocks: Vec<Value> = text
                .split("\n```json\n")
                .skip(1)
                .map(|rest| serde_json::from_str(rest.split("\n```\n").next().unwrap()).unwrap())
                .collect();
            let policies: Vec<Value> = pack.policies().into_iter().map(|(_, policy)| policy).collect();
            assert!(policies.iter().all(|policy| blocks.contains(policy)), "{} {text}", customer.prefix);
        }
    }
}
