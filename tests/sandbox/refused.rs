//! What a wrong set-up meets, and the layer and remedy that consign makes of it.

use consign::config::Customer;
use consign::domain::{AccountId, BucketName, CustomerPrefix, ExternalId, Layer, Region, Retry, RoleArn};
use consign::sandbox::Policy;

use super::world::*;

fn denied() -> Option<String> {
    Some("AccessDenied".into())
}

#[tokio::test]
async fn a_wrong_or_missing_external_id_is_the_trust_policys() {
    let mut scene = Scene::start().await;
    for (id, remedy) in [(Some("someone-elses"), "'someone-elses'"), (None, "without an external ID")] {
        scene.customer.external_id = id.map(|id| ExternalId::parse(id).unwrap());
        let failure = scene.refused().await;
        assert_eq!((failure.layer, failure.retry), (Layer::TrustPolicy, Retry::Never), "{failure:?}");
        assert!(failure.remedy.contains(remedy), "{failure:?}");
        assert!(failure.remedy.contains("\"AWS\": \"arn:aws:iam::999999999999:root\""), "{failure:?}");
    }
    assert_eq!(scene.answers("AssumeRole"), [(403, denied()), (403, denied())]);
    assert!(scene.sandbox.journal().iter().all(|entry| entry.bucket.is_none()), "S3 was asked");
}

#[tokio::test]
async fn a_role_that_trusts_somebody_else_or_is_not_there() {
    let scene =
        Scene::with(|config| config.accounts[0].roles[0].trust.principal = "arn:aws:iam::111111111111:root".into())
            .await;
    assert_eq!(scene.refused().await.layer, Layer::TrustPolicy);
    let mut scene = Scene::start().await;
    scene.customer.role_arn = RoleArn::parse("arn:aws:iam::123456789012:role/gone").unwrap();
    let failure = scene.refused().await;
    assert_eq!(failure.layer, Layer::TrustPolicy, "{failure:?}");
    assert!(failure.remedy.contains("the same answer when the role does not exist"), "{failure:?}");
}

/// The trust may be right and the vendor's own side wrong: STS says the same.
#[tokio::test]
async fn a_vendor_that_may_not_assume_roles() {
    let other = r#"{ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::123456789012:role/other" } ] }"#;
    let scene = Scene::with(|config| config.vendor_policy = Policy::parse(other).unwrap()).await;
    let failure = scene.refused().await;
    assert_eq!(failure.layer, Layer::TrustPolicy, "{failure:?}");
    assert!(failure.remedy.contains("the vendor's own identity needs this statement"), "{failure:?}");
}

#[tokio::test]
async fn vendor_keys_that_are_wrong() {
    let mut scene = Scene::start().await;
    let mut keys = scene.aws.credentials.as_ref().unwrap().resolve().unwrap();
    keys.secret_access_key = consign::domain::Secret::new("typo");
    scene.aws.credentials = Some(keys.clone().into());
    let failure = scene.refused().await;
    assert_eq!((failure.layer, failure.retry), (Layer::Identity, Retry::Later), "{failure:?}");
    assert!(failure.message.contains("SignatureDoesNotMatch"), "{failure:?}");
    keys.access_key_id = consign::domain::Secret::new("AKIANOBODY");
    scene.aws.credentials = Some(keys.into());
    let failure = scene.refused().await;
    assert_eq!(failure.layer, Layer::Identity, "{failure:?}");
    assert!(failure.message.contains("InvalidClientTokenId"), "{failure:?}");
}

#[tokio::test]
async fn a_session_longer_than_the_role_allows() {
    let mut scene = Scene::start().await;
    scene.aws.session_duration = std::time::Duration::from_secs(7200);
    let failure = scene.refused().await;
    assert_eq!((failure.layer, failure.retry), (Layer::RolePolicy, Retry::Never), "{failure:?}");
    assert!(failure.remedy.contains("session_duration"), "{failure:?}");
}

#[tokio::test]
async fn a_role_whose_policy_lacks_the_prefix() {
    for policy in [Policy::write_only(BUCKET, "uploads/others"), Policy::write_only("acme-private", "uploads/us")] {
        let scene = Scene::with(|config| config.accounts[0].roles[0].policy = policy).await;
        let failure = scene.refused().await;
        assert_eq!((failure.layer, failure.retry), (Layer::RolePolicy, Retry::Never), "{failure:?}");
        assert!(failure.remedy.contains("\"arn:aws:s3:::acme-data/uploads/us/*\""), "{failure:?}");
        assert!(failure.remedy.contains("\"s3:PutObject\""), "{failure:?}");
        assert_eq!(scene.answers("CreateMultipartUpload"), [(403, denied())]);
    }
}

/// A prefix is a folder: `uploads/us` allows nothing in `uploads/usa`.
#[tokio::test]
async fn a_prefix_ends_at_its_slash() {
    let mut scene = Scene::start().await;
    scene.customer.prefix = CustomerPrefix::parse("uploads/usa").unwrap();
    assert_eq!(scene.refused().await.layer, Layer::RolePolicy);
}

#[tokio::test]
async fn a_deny_in_the_bucket_policy() {
    let deny = r#"{ "Version": "2012-10-17", "Statement": [{ "Effect": "Deny", "Principal": "*",
        "Action": "s3:PutObject", "Resource": "arn:aws:s3:::acme-data/*" }] }"#;
    let scene = Scene::with(|config| config.accounts[0].buckets[0].policy = Some(Policy::parse(deny).unwrap())).await;
    let failure = scene.refused().await;
    assert!(matches!(failure.layer, Layer::Bucket | Layer::RolePolicy), "{failure:?}");
    assert!(failure.message.contains("explicit deny"), "{failure:?}");
}

/// The name is taken, the account is another's: S3 itself refuses because of the expected owner.
#[tokio::test]
async fn a_bucket_of_another_owner_gets_nothing() {
    let open = r#"{ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Principal": "*",
        "Action": "s3:*", "Resource": "arn:aws:s3:::other-data/*" }] }"#;
    let mut scene = Scene::with(|config| {
        config.accounts[1].buckets[0].policy = Some(Policy::parse(open).unwrap());
        config.accounts[0].roles[0].policy = Policy::allow_all();
    })
    .await;
    scene.customer.bucket = BucketName::parse("other-data").unwrap();
    let failure = scene.refused().await;
    assert_eq!((failure.layer, failure.retry), (Layer::RolePolicy, Retry::Never), "{failure:?}");
    assert!(failure.remedy.contains("bucket owner: bucket 'other-data' must belong to account 123456789012"));
    assert!(scene.sandbox.list("other-data").is_empty() && scene.sandbox.uploads("other-data").is_empty());

    // With the owner told, the same set-up delivers.
    scene.customer.bucket_owner = AccountId::parse(OTHER_ACCOUNT).unwrap();
    scene.deliver(object(0, "a.csv", b"1\n")).await.unwrap();
    assert_eq!(scene.sandbox.list("other-data").len(), 2);
}

#[tokio::test]
async fn an_owner_that_is_told_wrong_is_suspected_first() {
    let mut scene = Scene::start().await;
    scene.customer.bucket_owner = AccountId::parse(OTHER_ACCOUNT).unwrap();
    let failure = scene.refused().await;
    assert_eq!((failure.layer, failure.retry), (Layer::RolePolicy, Retry::Never), "{failure:?}");
    let first = "1. bucket owner: bucket 'acme-data' must belong to account 210987654321; set bucket_owner";
    assert!(failure.remedy.contains(first), "{failure:?}");
}

#[tokio::test]
async fn a_bucket_elsewhere_or_nowhere() {
    let mut scene = Scene::start().await;
    scene.customer.region = Region::parse("us-east-1").unwrap();
    let failure = scene.refused().await;
    assert_eq!((failure.layer, failure.retry), (Layer::Region, Retry::Never), "{failure:?}");
    assert!(failure.remedy.contains("region = \"eu-west-1\""), "{failure:?}");

    let gone = BucketName::parse("acme-gone").unwrap();
    scene.customer = Customer { bucket: gone, ..customer() };
    let failure = scene.refused().await;
    assert_eq!(failure.layer, Layer::Bucket, "{failure:?}");
    assert!(failure.message.contains("NoSuchBucket"), "{failure:?}");
}

#[tokio::test]
async fn an_acl_that_the_bucket_or_the_role_does_not_take() {
    let mut scene = Scene::start().await;
    scene.customer.acl = Some("bucket-owner-full-control".into());
    let failure = scene.refused().await;
    assert_eq!(failure.layer, Layer::Acl, "the role lacks s3:PutObjectAcl: {failure:?}");
    let mut scene = Scene::with(|config| config.accounts[0].roles[0].policy = Policy::allow_all()).await;
    scene.customer.acl = Some("public-read".into());
    let failure = scene.refused().await;
    assert_eq!(failure.layer, Layer::Acl, "the bucket has no ACLs: {failure:?}");
    assert!(failure.remedy.contains("remove acl"), "{failure:?}");
}
