//! Preflights: each line in its good case and in its bad one, and nothing is left in the bucket.

use std::sync::Arc;

use chrono::TimeDelta;
use consign::clock::Clock;
use consign::config::{Customer, Encryption};
use consign::delivery::{Check, Finding, Outcome, Preflight, Probe, Vendor, essential};
use consign::domain::{AccountId, BucketName, CustomerPrefix, ExternalId, Layer, Region, RoleArn, Secret};
use consign::sandbox::{Key, Policy, Sandbox, SandboxConfig};
use tokio_util::sync::CancellationToken;

use super::world::*;

const WRONG_WAYS: [&str; 3] = ["_consign-preflight", "uploads/_consign-preflight", "uploads/us_consign-preflight"];
const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/data";

impl Scene {
    async fn preflight(&self) -> Preflight {
        let probe = Probe::new(self.vendor().await, CancellationToken::new()).await;
        probe.customer(&Arc::new(self.customer.clone())).await
    }

    /// The same, which leaves nothing.
    async fn looked_at(&self) -> Preflight {
        let found = self.preflight().await;
        assert_eq!((self.keys(), self.sandbox.uploads(BUCKET).len()), (Vec::new(), 0), "{found:#?}");
        assert_eq!(found.left, []);
        let order: Vec<Check> = found.checks.iter().map(|finding| finding.check).collect();
        assert!(order.is_sorted(), "{order:?}");
        found
    }
}

fn outcome(found: &Preflight, check: Check) -> Outcome {
    line(found, check).outcome
}

fn line(found: &Preflight, check: Check) -> &Finding {
    let mut of = found.checks.iter().filter(|finding| finding.check == check);
    let first = of.next().unwrap_or_else(|| panic!("no {check:?} in {found:#?}"));
    assert!(of.next().is_none(), "{check:?} twice");
    first
}

/// The only one that is not fine; it has this outcome and layer, and says these things.
fn only(found: &Preflight, check: Check, outcome: Outcome, layer: Layer, says: &[&str]) {
    let fine = |finding: &&Finding| matches!(finding.outcome, Outcome::Ok | Outcome::NotTried);
    let bad: Vec<Check> = found.checks.iter().filter(|finding| !fine(finding)).map(|finding| finding.check).collect();
    assert_eq!(bad, [check], "{found:#?}");
    let finding = line(found, check);
    assert_eq!((finding.outcome, finding.layer), (outcome, Some(layer)), "{finding:#?}");
    let told = format!("{}\n{}", finding.message, finding.remedy);
    for phrase in says {
        assert!(told.contains(phrase), "no `{phrase}` in {told}");
    }
    assert_eq!(found.ready, outcome == Outcome::Warning);
}

fn tried(found: &Preflight) -> Vec<Check> {
    found.checks.iter().filter(|finding| finding.outcome != Outcome::NotTried).map(|finding| finding.check).collect()
}

fn policy(statements: &str) -> Policy {
    Policy::parse(&format!("{{ \"Version\": \"2012-10-17\", \"Statement\": [{statements}] }}")).unwrap()
}

/// On the bucket, for everybody.
fn deny(action: &str, condition: &str) -> Policy {
    policy(&format!(
        r#"{{ "Effect": "Deny", "Principal": "*", "Action": "{action}", "Resource": "arn:aws:s3:::acme-data/*"{condition} }}"#
    ))
}

fn allow(actions: &str, resource: &str) -> String {
    format!(r#"{{ "Effect": "Allow", "Action": [{actions}], "Resource": "{resource}" }}"#)
}

fn whole_profile(customer: &mut Customer) {
    customer.encryption = Encryption::Kms { key: Some(KEY.into()) };
    customer.storage_class = Some("STANDARD_IA".into());
    customer.acl = Some("bucket-owner-full-control".into());
    customer.tags = [("team".to_owned(), "data".to_owned())].into();
}

/// A role that allows all of it, but for these actions.
fn role_for_whole_profile(config: &mut SandboxConfig, but: &str) {
    let all = ["s3:PutObject", "s3:PutObjectAcl", "s3:PutObjectTagging"];
    let objects: Vec<String> =
        all.iter().filter(|action| **action != but).map(|action| format!("\"{action}\"")).collect();
    let mut statements = vec![allow(&objects.join(","), "arn:aws:s3:::acme-data/uploads/us/*")];
    let kms = ["kms:GenerateDataKey", "kms:Decrypt"];
    let kms: Vec<String> = kms.iter().filter(|action| **action != but).map(|action| format!("\"{action}\"")).collect();
    statements.push(allow(&kms.join(","), KEY));
    config.accounts[0].roles[0].policy = policy(&statements.join(","));
    config.accounts[0].keys =
        vec![Key { id: "data".into(), region: "eu-west-1".into(), alias: None, policy: None, enabled: true }];
}

#[tokio::test]
async fn preflight_of_what_is_ready() {
    let scene = Scene::start().await;
    let found = scene.looked_at().await;
    assert!(found.ready && found.checks.iter().all(|finding| finding.outcome == Outcome::Ok), "{found:#?}");
    assert_eq!(line(&found, Check::Identity).message, "arn:aws:iam::999999999999:user/consign");
    assert_eq!(line(&found, Check::Session).message, "1 h, as configured; no longer");
    let keys: Vec<String> = scene.sandbox.journal().into_iter().filter_map(|entry| entry.key).collect();
    assert!(keys.iter().any(|key| key == "uploads/us/_consign-preflight"), "{keys:?}");
    assert!(WRONG_WAYS.iter().all(|key| keys.iter().any(|tried| tried == key)), "{keys:?}");
    // What customers grant, and nothing else.
    let asked: std::collections::BTreeSet<String> =
        scene.sandbox.journal().into_iter().map(|entry| entry.operation).collect();
    let allowed = ["AbortMultipartUpload", "AssumeRole", "CreateMultipartUpload", "GetCallerIdentity", "UploadPart"];
    assert_eq!(asked, allowed.map(str::to_owned).into());
    assert!(essential(&scene.vendor().await, &Arc::new(scene.customer.clone())).await.is_ok());
}

#[tokio::test]
async fn preflight_of_a_vendor_whom_nobody_knows() {
    let mut scene = Scene::start().await;
    let mut keys = scene.aws.credentials.as_ref().unwrap().resolve().unwrap();
    keys.secret_access_key = Secret::new("typo");
    scene.aws.credentials = Some(keys.into());
    let found = scene.looked_at().await;
    only(&found, Check::Identity, Outcome::Failed, Layer::Identity, &["GetCallerIdentity", "access key"]);
    assert_eq!(tried(&found), [Check::Identity, Check::Clock]);
    assert!(!format!("{found:?}").contains("typo"));
}

#[tokio::test]
async fn preflight_of_a_clock_that_is_off() {
    for (minutes, outcome, ready) in
        [(2, Outcome::Warning, true), (-2, Outcome::Warning, true), (20, Outcome::Failed, false)]
    {
        let dir = tempfile::tempdir().unwrap();
        let ahead = Clock::fixed(Clock::system().now() + TimeDelta::minutes(minutes));
        let sandbox = Sandbox::start(config(&dir), ahead).await.unwrap();
        let aws = crate::delivery::world::aws(sandbox.endpoint().as_str());
        let vendor = Vendor::new(&aws, 1, Clock::system()).await.unwrap();
        let probe = Probe::new(vendor, CancellationToken::new()).await;
        let found = probe.customer(&Arc::new(customer())).await;
        let clock = line(&found, Check::Clock);
        assert_eq!((clock.outcome, clock.layer, found.ready), (outcome, Some(Layer::Clock), ready), "{found:#?}");
        let which = if minutes > 0 { "behind that of STS" } else { "ahead of that of STS" };
        assert!(clock.message.contains(which) && clock.remedy.contains("NTP"), "{clock:?}");
    }
}

#[tokio::test]
async fn preflight_of_a_role_that_is_not_there_or_trusts_another_id() {
    let mut scene = Scene::start().await;
    let right = scene.customer.clone();
    scene.customer.role_arn = RoleArn::parse("arn:aws:iam::123456789012:role/gone").unwrap();
    let gone = scene.looked_at().await;
    scene.customer = Customer { external_id: Some(ExternalId::parse("another").unwrap()), ..right };
    let other = scene.looked_at().await;
    for found in [gone, other] {
        let says = ["sts:AssumeRole", "\"Principal\"", ":root", "when the role does not exist"];
        only(&found, Check::Role, Outcome::Failed, Layer::TrustPolicy, &says);
        assert_eq!(tried(&found), [Check::Identity, Check::Clock, Check::Role]);
        assert_eq!(line(&found, Check::Write).message, "the role cannot be assumed");
    }
}

#[tokio::test]
async fn preflight_of_a_role_that_asks_for_no_external_id() {
    let open = |config: &mut SandboxConfig| config.accounts[0].roles[0].trust.external_ids.clear();
    let found = Scene::with(open).await.looked_at().await;
    assert!(!found.ready);
    for check in [Check::WithoutExternalId, Check::WrongExternalId] {
        let Finding { outcome, layer, message, remedy, .. } = line(&found, check);
        assert_eq!((*outcome, *layer), (Outcome::Critical, Some(Layer::TrustPolicy)));
        assert!(message.contains("confused deputy"), "{message}");
        assert!(remedy.contains("\"sts:ExternalId\": \"c0ns1gn-7f0c\"") && remedy.contains(":root"), "{remedy}");
    }
    assert_eq!(outcome(&found, Check::Write), Outcome::Ok);
}

/// Said to be so by the vendor, who is told what it means.
#[tokio::test]
async fn preflight_of_a_profile_without_an_external_id() {
    let mut scene = Scene::with(|config| config.accounts[0].roles[0].trust.external_ids.clear()).await;
    scene.customer.external_id = None;
    let found = scene.looked_at().await;
    only(
        &found,
        Check::WithoutExternalId,
        Outcome::Warning,
        Layer::TrustPolicy,
        &["the profile has none", "external_id"],
    );
    assert_eq!(outcome(&found, Check::WrongExternalId), Outcome::NotTried);
}

#[tokio::test]
async fn preflight_tells_how_long_sessions_may_last() {
    let mut scene = Scene::with(|config| config.accounts[0].roles[0].session_seconds_max = 5 * 3600).await;
    let found = scene.looked_at().await;
    assert_eq!(line(&found, Check::Session).message, "1 h, as configured; up to 5 h would be granted");
    assert!(scene.answers("AssumeRole").len() < 12, "{:?}", scene.answers("AssumeRole"));
    scene.aws.session_duration = std::time::Duration::from_secs(12 * 3600);
    let found = scene.looked_at().await;
    let says = ["the longest that is granted is 5 h", "session_duration", "--max-session-duration"];
    only(&found, Check::Session, Outcome::Failed, Layer::RolePolicy, &says);
    assert_eq!(outcome(&found, Check::Write), Outcome::Ok, "what is tried needs no long session");
}

#[tokio::test]
async fn preflight_of_a_wrong_region() {
    let mut scene = Scene::start().await;
    scene.customer.region = Region::parse("us-west-2").unwrap();
    let found = scene.looked_at().await;
    only(&found, Check::Region, Outcome::Failed, Layer::Region, &["set region = \"eu-west-1\""]);
    for check in [Check::Owner, Check::Write, Check::Outside] {
        assert_eq!(outcome(&found, check), Outcome::NotTried);
    }
}

#[tokio::test]
async fn preflight_of_a_bucket_that_is_not_there() {
    let mut scene = Scene::start().await;
    scene.customer.bucket = BucketName::parse("acme-dta").unwrap();
    let found = scene.looked_at().await;
    only(&found, Check::Write, Outcome::Failed, Layer::Bucket, &["NoSuchBucket", "'acme-dta'"]);
    assert_eq!(line(&found, Check::Owner).message, "there is no such bucket");
}

#[tokio::test]
async fn preflight_of_a_bucket_of_another_account() {
    let mut scene = Scene::start().await;
    scene.customer.bucket_owner = AccountId::parse(OTHER_ACCOUNT).unwrap();
    let found = scene.looked_at().await;
    only(&found, Check::Owner, Outcome::Failed, Layer::Owner, &["bucket_owner", OTHER_ACCOUNT]);
    assert_eq!(outcome(&found, Check::Write), Outcome::NotTried);
    assert_eq!(outcome(&found, Check::Outside), Outcome::NotTried);
}

#[tokio::test]
async fn preflight_of_a_role_that_may_not_write() {
    let elsewhere = |config: &mut SandboxConfig| {
        config.accounts[0].roles[0].policy = Policy::write_only(BUCKET, "uploads/others");
    };
    let mut scene = Scene::with(elsewhere).await;
    let says = ["\"s3:PutObject\"", "arn:aws:s3:::acme-data/uploads/us/*"];
    let found = scene.looked_at().await;
    only(&found, Check::Write, Outcome::Failed, Layer::RolePolicy, &says);
    assert_eq!(outcome(&found, Check::Region), Outcome::Ok);
    let why = line(&found, Check::Owner).message.clone();
    assert_eq!(why, "the upload is refused, whoever the bucket belongs to");
    whole_profile(&mut scene.customer);
    let found = scene.looked_at().await;
    only(&found, Check::Write, Outcome::Failed, Layer::RolePolicy, &says);
    assert_eq!(outcome(&found, Check::Tags), Outcome::NotTried);
}

#[tokio::test]
async fn preflight_of_a_bucket_policy_that_denies() {
    let scene = Scene::with(|config| config.accounts[0].buckets[0].policy = Some(deny("s3:PutObject", ""))).await;
    let found = scene.looked_at().await;
    assert_eq!(outcome(&found, Check::Write), Outcome::Failed, "{found:#?}");
}

#[tokio::test]
async fn preflight_of_all_that_a_profile_adds() {
    let acls = |config: &mut SandboxConfig| {
        role_for_whole_profile(config, "");
        config.accounts[0].buckets[0].acl_enabled = true;
    };
    let mut scene = Scene::with(acls).await;
    whole_profile(&mut scene.customer);
    let found = scene.looked_at().await;
    assert!(found.ready && found.checks.iter().all(|finding| finding.outcome == Outcome::Ok), "{found:#?}");
    assert_eq!(found.checks.len(), 15);
    assert_eq!(line(&found, Check::StorageClass).message, "STANDARD_IA");
}

/// Each alone is refused, and told apart from the others.
#[tokio::test]
async fn preflight_tells_what_of_the_profile_is_refused() {
    let refused = [
        ("s3:PutObjectAcl", Check::Acl, Layer::Acl, vec!["remove acl", "s3:PutObjectAcl"]),
        ("s3:PutObjectTagging", Check::Tags, Layer::RolePolicy, vec!["\"s3:PutObjectTagging\""]),
        ("kms:GenerateDataKey", Check::Encryption, Layer::Kms, vec!["kms:GenerateDataKey", KEY, "kms:ViaService"]),
        // Found by the part alone: the upload begins.
        ("kms:Decrypt", Check::Encryption, Layer::Kms, vec!["UploadPart", "kms:Decrypt"]),
    ];
    for (action, check, layer, says) in refused {
        let mut scene = Scene::with(|config| role_for_whole_profile(config, action)).await;
        whole_profile(&mut scene.customer);
        let found = scene.looked_at().await;
        only(&found, check, Outcome::Failed, layer, &says);
        assert_eq!(outcome(&found, Check::Write), Outcome::Ok, "{found:#?}");
        assert!(line(&found, Check::Write).message.contains("without the profile's"), "{found:#?}");
    }
    let condition = r#", "Condition": { "StringEquals": { "s3:x-amz-storage-class": "STANDARD_IA" } }"#;
    let denies = |config: &mut SandboxConfig| {
        role_for_whole_profile(config, "");
        config.accounts[0].buckets[0].policy = Some(deny("s3:PutObject", condition));
    };
    let mut scene = Scene::with(denies).await;
    whole_profile(&mut scene.customer);
    let found = scene.looked_at().await;
    only(&found, Check::StorageClass, Outcome::Failed, Layer::Bucket, &["storage classes", "remove storage_class"]);
}

#[tokio::test]
async fn preflight_tells_two_things_of_the_profile_that_are_refused() {
    let disabled = |config: &mut SandboxConfig| {
        role_for_whole_profile(config, "s3:PutObjectTagging");
        config.accounts[0].keys[0].enabled = false;
    };
    let mut scene = Scene::with(disabled).await;
    whole_profile(&mut scene.customer);
    let found = scene.looked_at().await;
    for (check, expected) in [
        (Check::Write, Outcome::Ok),
        (Check::Encryption, Outcome::Failed),
        (Check::StorageClass, Outcome::Ok),
        (Check::Acl, Outcome::Ok),
        (Check::Tags, Outcome::Failed),
    ] {
        assert_eq!(outcome(&found, check), expected, "{check:?} in {found:#?}");
    }
    assert!(line(&found, Check::Encryption).message.contains("KMS.DisabledException"));
}

#[tokio::test]
async fn preflight_of_a_role_that_is_too_wide() {
    let wide = [
        ("acme-data/*", &WRONG_WAYS[..]),
        ("acme-data/uploads/*", &WRONG_WAYS[1..]),
        // Without the last slash.
        ("acme-data/uploads/us*", &WRONG_WAYS[2..]),
    ];
    for (resource, taken) in wide {
        let role = policy(&allow("\"s3:PutObject\"", &format!("arn:aws:s3:::{resource}")));
        let scene = Scene::with(|config| config.accounts[0].roles[0].policy = role).await;
        let found = scene.looked_at().await;
        let says = [taken.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", ")];
        let says: Vec<&str> = says.iter().map(String::as_str).chain(["arn:aws:s3:::acme-data/uploads/us/*"]).collect();
        only(&found, Check::Outside, Outcome::Warning, Layer::RolePolicy, &says);
    }
}

/// What the profile adds may be allowed in the prefix alone, and objects anywhere.
#[tokio::test]
async fn preflight_of_a_role_that_is_too_wide_without_tags() {
    let statements = [
        allow("\"s3:PutObject\"", "arn:aws:s3:::acme-data/*"),
        allow("\"s3:PutObjectTagging\"", "arn:aws:s3:::acme-data/uploads/us/*"),
    ];
    let role = policy(&statements.join(","));
    let mut scene = Scene::with(|config| config.accounts[0].roles[0].policy = role).await;
    scene.customer.tags = [("team".to_owned(), "data".to_owned())].into();
    let found = scene.looked_at().await;
    only(&found, Check::Outside, Outcome::Warning, Layer::RolePolicy, &["'_consign-preflight'"]);
}

#[tokio::test]
async fn preflight_of_a_prefix_that_is_the_whole_bucket() {
    let whole = policy(&allow("\"s3:PutObject\"", "arn:aws:s3:::acme-data/*"));
    let mut scene = Scene::with(|config| config.accounts[0].roles[0].policy = whole).await;
    scene.customer.prefix = CustomerPrefix::parse("").unwrap();
    let found = scene.looked_at().await;
    assert!(found.ready, "{found:#?}");
    assert_eq!(line(&found, Check::Outside).message, "the prefix is the whole bucket");
}

#[tokio::test]
async fn preflight_tells_what_it_could_not_take_away() {
    let kept = deny("s3:AbortMultipartUpload", "");
    let scene = Scene::with(|config| config.accounts[0].buckets[0].policy = Some(kept)).await;
    let found = scene.preflight().await;
    let uploads = scene.sandbox.uploads(BUCKET);
    assert_eq!((uploads.len(), found.left.len()), (1, 1), "{found:#?}");
    let (upload, left) = (&uploads[0], &found.left[0]);
    assert_eq!((&*left.bucket, &left.key, &left.upload_id), (BUCKET, &upload.key, &upload.id));
    let says = ["abort-multipart-upload", &*upload.id, "AbortIncompleteMultipartUpload", "acme-data"];
    only(&found, Check::NothingLeft, Outcome::Failed, Layer::RolePolicy, &says);
    assert_eq!(outcome(&found, Check::Write), Outcome::Ok);
}

/// A prefix is the customer's words, and the command is pasted into a shell.
#[tokio::test]
async fn preflight_quotes_what_is_pasted_into_a_shell() {
    let folder = "it's `id`; x & y";
    let mut scene = Scene::with(|config| {
        config.accounts[0].roles[0].policy = Policy::write_only(BUCKET, folder);
        config.accounts[0].buckets[0].policy = Some(deny("s3:AbortMultipartUpload", ""));
    })
    .await;
    scene.customer.prefix = CustomerPrefix::parse(folder).unwrap();
    let found = scene.preflight().await;
    let remedy = &line(&found, Check::NothingLeft).remedy;
    let command = remedy.lines().find(|line| line.starts_with("aws s3api")).unwrap();
    let script = format!("aws() {{ printf '%s\\n' \"$@\"; }}\n{command}");
    let said = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let words: Vec<&str> = said.lines().collect();
    let upload = &found.left[0].upload_id;
    let values = ["eu-west-1", BUCKET, ACCOUNT, &format!("{folder}/_consign-preflight"), upload];
    let names = ["--region", "--bucket", "--expected-bucket-owner", "--key", "--upload-id"];
    let wanted = names.into_iter().zip(values).flat_map(|(name, value)| [name, value]);
    assert_eq!(words, ["s3api", "abort-multipart-upload"].into_iter().chain(wanted).collect::<Vec<_>>());
}

#[tokio::test]
async fn preflight_that_is_stopped_tries_nothing_more() {
    let scene = Scene::start().await;
    let stop = CancellationToken::new();
    let probe = Probe::new(scene.vendor().await, stop.clone()).await;
    stop.cancel();
    let found = probe.customer(&Arc::new(scene.customer.clone())).await;
    assert!(!found.ready);
    assert_eq!(tried(&found), [Check::Identity, Check::Clock]);
    assert_eq!(scene.answers("AssumeRole"), []);
}

#[tokio::test]
async fn essentials_fail_as_a_delivery_would() {
    let mut scene = Scene::start().await;
    let right = scene.customer.clone();
    let wrong = [
        (Customer { external_id: Some(ExternalId::parse("another").unwrap()), ..right.clone() }, Layer::TrustPolicy),
        (Customer { prefix: CustomerPrefix::parse("other").unwrap(), ..right.clone() }, Layer::RolePolicy),
        (Customer { acl: Some("bucket-owner-full-control".into()), ..right.clone() }, Layer::Acl),
        (Customer { bucket: BucketName::parse("nobodys-data").unwrap(), ..right }, Layer::Bucket),
    ];
    for (customer, layer) in wrong {
        scene.customer = customer;
        let found = essential(&scene.vendor().await, &Arc::new(scene.customer.clone())).await.unwrap_err();
        assert_eq!(found.layer, layer, "{found:?}");
        assert_eq!(scene.refused().await.layer, layer);
    }
}
