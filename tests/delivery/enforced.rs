//! Against ministack, which enforces trust, role, session and bucket policies.
//! The vendor is an IAM user that may assume roles and nothing else.

use std::sync::Arc;

use chrono::TimeDelta;
use consign::clock::Clock;
use consign::config::{Aws, Compression, Credentials, Customer, StaticCredentials};
use consign::delivery::{Check, Delivery, Outcome, Preflight, Probe, Target, Vendor};
use consign::domain::{
    AccountId, BucketName, CustomerName, CustomerPrefix, ExternalId, Failure, Layer, Manifest, Region, RoleArn, Secret,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::world::*;
use crate::sandbox::raw::client_at;
use crate::sandbox::session::{code, granted, proxy};
use crate::support::ministack::{ACCOUNT, Ministack, OTHER_ACCOUNT};

/// A vendor and one customer with a role and a bucket, all of this test's own.
struct Scene {
    server: &'static Ministack,
    aws: Aws,
    customer: Customer,
}

impl Scene {
    async fn new(name: &'static str) -> Scene {
        tokio::task::spawn_blocking(move || Scene::make(name)).await.unwrap()
    }

    fn make(name: &str) -> Scene {
        let server = Ministack::shared();
        let allow = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*" }
        ]});
        let vendor = format!("vendor-{name}");
        let (key, secret) = server.user(&vendor, &allow.to_string());
        let trust = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:user/{vendor}") },
            "Action": "sts:AssumeRole",
            "Condition": { "StringEquals": { "sts:ExternalId": format!("ext-{name}") } },
        }]});
        let bucket = format!("bucket-{name}");
        // Wider than the prefix, so that what keeps a session inside it is the session policy.
        let role = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*" }
        ]});
        let arn = server.role(&format!("role-{name}"), &trust.to_string(), &role.to_string());
        assert_eq!(server.s3("root", "PUT", &format!("/{bucket}"), b"").status, 200);
        let aws = Aws {
            credentials: Some(Credentials::from(StaticCredentials {
                access_key_id: Secret::new(key),
                secret_access_key: Secret::new(secret),
                session_token: None,
            })),
            ..aws(&server.url())
        };
        let customer = Customer {
            name: CustomerName::parse("acme").unwrap(),
            role_arn: RoleArn::parse(&arn).unwrap(),
            external_id: Some(ExternalId::parse(&format!("ext-{name}")).unwrap()),
            bucket: BucketName::parse(&bucket).unwrap(),
            bucket_owner: AccountId::parse(ACCOUNT).unwrap(),
            region: Region::parse("us-east-1").unwrap(),
            ..customer()
        };
        Scene { server, aws, customer }
    }

    async fn deliver(&self) -> Result<(), Failure> {
        let vendor = vendor(&self.aws).await;
        deliver(&vendor, &Arc::new(self.customer.clone()), object(0, "a.csv", b"1,2\n")).await.map(drop)
    }

    async fn preflight(&self) -> Preflight {
        let probe = Probe::new(vendor(&self.aws).await, CancellationToken::new()).await;
        probe.customer(&Arc::new(self.customer.clone())).await
    }

    async fn read(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let (server, path) = (self.server, format!("/{bucket}/{key}"));
        let answer = tokio::task::spawn_blocking(move || server.s3("root", "GET", &path, b"")).await.unwrap();
        (answer.status == 200).then_some(answer.body)
    }
}

#[tokio::test]
async fn the_right_external_id_delivers() {
    let scene = Scene::new("right").await;
    let vendor = vendor(&scene.aws).await;
    let contents: Vec<u8> = (0..12 * MIB).map(|i| (i % 251) as u8).collect();
    let events = object(0, "a.csv", &contents).into_iter().chain(object(1, "b.csv", b"")).collect();
    let committed = deliver(&vendor, &Arc::new(scene.customer.clone()), events).await.unwrap();

    assert!(scene.read("bucket-right", &format!("{FOLDER}a.csv")).await.unwrap() == contents);
    assert_eq!(scene.read("bucket-right", &format!("{FOLDER}b.csv")).await.unwrap(), b"");
    let read: Manifest = serde_json::from_slice(&scene.read("bucket-right", MANIFEST).await.unwrap()).unwrap();
    assert_eq!(read.objects, committed.objects);

    let failure = scene.deliver().await.unwrap_err();
    assert_eq!(failure.layer, Layer::Conflict, "the slot is delivered: {failure:?}");
    assert_eq!(
        scene.read("bucket-right", MANIFEST).await.map(|m| serde_json::from_slice::<Manifest>(&m).unwrap()),
        Some(read)
    );
}

#[tokio::test]
async fn a_wrong_or_missing_external_id_is_refused() {
    let mut scene = Scene::new("wrong").await;
    for id in [Some(ExternalId::parse("ext-other").unwrap()), None] {
        scene.customer.external_id = id;
        let failure = scene.deliver().await.unwrap_err();
        assert_eq!(failure.layer, Layer::TrustPolicy, "{failure:?}");
        assert!(failure.remedy.contains("sts:AssumeRole"), "{failure:?}");
    }
    assert!(scene.read("bucket-wrong", MANIFEST).await.is_none());
}

/// The role may write anywhere; the session may not.
#[tokio::test]
async fn a_session_cannot_write_outside_the_prefix() {
    let mut scene = Scene::new("outside").await;
    let (sts, heard) = proxy(scene.server.url().trim_start_matches("http://").parse().unwrap()).await;
    scene.aws.sts_endpoint_url = Some(sts);
    scene.deliver().await.unwrap();
    // What its keys are good for.
    let s3 = client_at(&scene.server.url(), "us-east-1", &granted(&heard));
    let put = |key: &str| s3.put_object().bucket("bucket-outside").key(key).body(b"x".to_vec().into()).send();
    put("uploads/us/other.csv").await.unwrap();
    for key in ["outside.csv", "uploads/other.csv", "uploads/usa/a.csv", "elsewhere/a.csv"] {
        assert_eq!(code(put(key).await), "AccessDenied", "{key}");
        assert!(scene.read("bucket-outside", key).await.is_none(), "{key}");
    }
    let own = s3.get_object().bucket("bucket-outside").key(format!("{FOLDER}a.csv")).send().await;
    assert_eq!(code(own), "AccessDenied");
    scene.aws.sts_endpoint_url = None;
    let vendor = vendor(&scene.aws).await;
    // The same role under a prefix that it may not write to by its own policy.
    let narrow = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::bucket-outside/elsewhere/*" }
    ]});
    let server = scene.server;
    tokio::task::spawn_blocking(move || {
        let name = ("RoleName", "role-outside");
        server.iam("PutRolePolicy", &[name, ("PolicyName", "p"), ("PolicyDocument", &narrow.to_string())])
    })
    .await
    .unwrap();
    let failure = scene.deliver().await.unwrap_err();
    assert_eq!(failure.layer, Layer::RolePolicy, "{failure:?}");
    assert!(failure.remedy.contains("arn:aws:s3:::bucket-outside/uploads/us/*"), "{failure:?}");
    let elsewhere = Customer { prefix: CustomerPrefix::parse("elsewhere").unwrap(), ..scene.customer.clone() };
    deliver(&vendor, &Arc::new(elsewhere), object(0, "a.csv", b"x")).await.unwrap();
}

/// Nothing else is asked of it while all goes well.
#[tokio::test]
async fn a_role_that_may_only_put_objects_is_enough() {
    let scene = Scene::new("putting").await;
    let server = scene.server;
    let put = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::bucket-putting/uploads/us/*" }
    ]});
    let narrow = move || {
        let name = ("RoleName", "role-putting");
        server.iam("PutRolePolicy", &[name, ("PolicyName", "p"), ("PolicyDocument", &put.to_string())])
    };
    tokio::task::spawn_blocking(narrow).await.unwrap();
    let contents: Vec<u8> = (0..6 * MIB).map(|i| (i % 251) as u8).collect();
    let events = object(0, "a.csv", &contents).into_iter().chain(object(1, "b.csv", b"")).collect();
    deliver(&vendor(&scene.aws).await, &Arc::new(scene.customer.clone()), events).await.unwrap();
    assert!(scene.read("bucket-putting", &format!("{FOLDER}a.csv")).await.unwrap() == contents);
    assert!(scene.read("bucket-putting", MANIFEST).await.is_some());
}

#[tokio::test]
async fn another_customers_bucket_is_refused() {
    let mut scene = Scene::new("foreign").await;
    let server = scene.server;
    let made =
        tokio::task::spawn_blocking(move || server.s3(OTHER_ACCOUNT, "PUT", "/bucket-of-others", b"")).await.unwrap();
    assert_eq!(made.status, 200);
    scene.customer.bucket = BucketName::parse("bucket-of-others").unwrap();
    let failure = scene.deliver().await.unwrap_err();
    assert!(matches!(failure.layer, Layer::RolePolicy | Layer::Bucket), "{failure:?}");
    assert!(failure.message.contains("AccessDenied"), "{failure:?}");
}

#[tokio::test]
async fn a_bucket_policy_that_denies_is_named() {
    let scene = Scene::new("denied").await;
    let server = scene.server;
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::bucket-denied/*"
    }]});
    let put = move || server.s3("root", "PUT", "/bucket-denied?policy", policy.to_string().as_bytes());
    assert!(tokio::task::spawn_blocking(put).await.unwrap().status < 300);
    let failure = scene.deliver().await.unwrap_err();
    assert_eq!(failure.layer, Layer::Bucket, "{failure:?}");
    // Not the list of everybody who can have refused, which has a Deny too.
    assert!(failure.remedy.contains("a Deny statement in the policy of bucket 'bucket-denied' matches"), "{failure:?}");
}

#[tokio::test]
async fn a_missing_bucket_and_a_wrong_region_are_named() {
    let mut scene = Scene::new("missing").await;
    scene.customer.bucket = BucketName::parse("bucket-that-is-not").unwrap();
    assert_eq!(scene.deliver().await.unwrap_err().layer, Layer::Bucket);

    scene.customer.bucket = BucketName::parse("bucket-missing").unwrap();
    scene.customer.region = Region::parse("eu-west-1").unwrap();
    let failure = scene.deliver().await.unwrap_err();
    assert_eq!(failure.layer, Layer::Region, "{failure:?}");
    assert!(failure.remedy.contains("us-east-1"), "{failure:?}");
}

/// What one session has begun another one of the same run goes on with. Nothing
/// here waits for real time: consign's clock is moved past the first one's life.
#[tokio::test]
async fn an_upload_goes_on_under_the_next_session() {
    let scene = Scene::new("next").await;
    let clock = Clock::fixed(Clock::system().now());
    let vendor = Vendor::new(&scene.aws, 1, clock.clone()).await.unwrap();
    let customer = Arc::new(scene.customer.clone());
    let run = run_id();
    let target = Target::bucket(&vendor, &customer, run).unwrap();
    let delivery = Delivery::begin(target, spec(Compression::None), Arc::new(Journal::default())).await.unwrap();
    delivery.accept(create(0, "a.csv")).await.unwrap();
    let mut expected = Vec::new();
    for number in 0..3 {
        let part = vec![number; 5 * MIB];
        expected.extend_from_slice(&part);
        delivery.accept(bytes(0, part)).await.unwrap();
        let (mut progress, stored) = (delivery.progress(), expected.len() as u64);
        progress.wait_for(|done| done.stored_bytes == stored).await.unwrap();
        clock.set(clock.now() + TimeDelta::minutes(58));
    }
    delivery.accept(finish(0)).await.unwrap();
    let completed = delivery.seal().await.unwrap().complete().await.unwrap();
    let written = manifest(&customer, run, completed.objects());
    completed.manifest(&written).await.unwrap().mark().await.unwrap();
    assert!(scene.read("bucket-next", &format!("{FOLDER}a.csv")).await.unwrap() == expected);
}

/// A preflight of a server that is not ours finds the same, and leaves nothing there.
#[tokio::test]
async fn preflight_leaves_nothing_and_finds_what_is_enforced() {
    let scene = Scene::new("preflight").await;
    let outcome = |found: &Preflight, check: Check| {
        let finding = found.checks.iter().find(|finding| finding.check == check).unwrap();
        (finding.outcome, finding.remedy.clone())
    };
    let found = scene.preflight().await;
    let good = [Check::Identity, Check::Clock, Check::Role, Check::WithoutExternalId, Check::WrongExternalId];
    for check in good.into_iter().chain([Check::Region, Check::Write, Check::NothingLeft]) {
        assert_eq!(outcome(&found, check).0, Outcome::Ok, "{check:?} in {found:#?}");
    }
    let (outside, remedy) = outcome(&found, Check::Outside);
    assert_eq!(outside, Outcome::Warning, "its role may write anywhere: {found:#?}");
    assert!(remedy.contains("arn:aws:s3:::bucket-preflight/uploads/us/*"), "{remedy}");
    assert_eq!(outcome(&found, Check::Owner).0, Outcome::Warning, "it takes any owner");

    // A narrow role that anybody can name.
    let (server, vendor) = (scene.server, "vendor-preflight");
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:user/{vendor}") },
        "Action": "sts:AssumeRole",
    }]});
    let narrow = json!({ "Version": "2012-10-17", "Statement": [
        // AWS lets the initiator abort without the second; ministack does not.
        { "Effect": "Allow", "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
          "Resource": "arn:aws:s3:::bucket-preflight/uploads/us/*" }
    ]});
    tokio::task::spawn_blocking(move || {
        let name = ("RoleName", "role-preflight");
        server.iam("UpdateAssumeRolePolicy", &[name, ("PolicyDocument", &trust.to_string())]);
        server.iam("PutRolePolicy", &[name, ("PolicyName", "p"), ("PolicyDocument", &narrow.to_string())])
    })
    .await
    .unwrap();
    let found = scene.preflight().await;
    assert_eq!(outcome(&found, Check::Outside).0, Outcome::Ok, "{found:#?}");
    for check in [Check::WithoutExternalId, Check::WrongExternalId] {
        let (outcome, remedy) = outcome(&found, check);
        assert_eq!(outcome, Outcome::Critical, "{found:#?}");
        assert!(remedy.contains("\"sts:ExternalId\": \"ext-preflight\""), "{remedy}");
    }

    let left = |path: &'static str| {
        tokio::task::spawn_blocking(move || String::from_utf8(server.s3("root", "GET", path, b"").body).unwrap())
    };
    let (objects, uploads) =
        (left("/bucket-preflight").await.unwrap(), left("/bucket-preflight?uploads").await.unwrap());
    assert!(objects.contains("<ListBucketResult") && !objects.contains("<Key>"), "{objects}");
    assert!(uploads.contains("<ListMultipartUploadsResult") && !uploads.contains("<UploadId>"), "{uploads}");
}
