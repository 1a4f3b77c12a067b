//! Every misconfiguration that has a known answer, as it looks on the wire, and
//! the layer and remedy it must become.

use std::sync::Arc;

use consign::config::{Aws, Customer, Encryption};
use consign::domain::{AccountId, Failure, Layer, Region, Retry};

use super::wire::{Call, Fault, Seen, Wire, s3_error, sts_error};
use super::world::*;

/// A refusal on the wire.
struct Row {
    call: Call,
    status: u16,
    code: &'static str,
    message: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    profile: fn(&mut Customer),
    layer: Layer,
    retry: Retry,
    /// Texts that the remedy must have.
    remedy: &'static [&'static str],
}

fn row(
    call: Call,
    status: u16,
    code: &'static str,
    message: &'static str,
    layer: Layer,
    remedy: &'static [&'static str],
) -> Row {
    Row { call, status, code, message, headers: Vec::new(), profile: |_| {}, layer, retry: Retry::Never, remedy }
}

/// What the vendor sets right in one place.
fn own(row: Row) -> Row {
    Row { retry: Retry::Later, ..row }
}

async fn outcome(row: &Row) -> (Failure, Wire) {
    let (call, status) = (row.call, row.status);
    let body = match row.call {
        Call::AssumeRole => sts_error(row.code, row.message),
        _ => s3_error(row.code, row.message),
    };
    let headers = row.headers.clone();
    let wire =
        Wire::start(move |seen, _| (seen.call == call).then(|| Fault::Answer(status, headers.clone(), body.clone())))
            .await;
    let mut customer = customer();
    (row.profile)(&mut customer);
    let failure =
        deliver(&vendor(&aws(&wire.url)).await, &Arc::new(customer), object(0, "a.csv", b"x")).await.unwrap_err();
    (failure, wire)
}

async fn check(rows: Vec<Row>) {
    for row in rows {
        let (failure, wire) = outcome(&row).await;
        let name = format!("{:?} {} {} \"{}\"", row.call, row.status, row.code, row.message);
        assert_eq!(failure.layer, row.layer, "{name}: {failure:?}");
        assert_eq!(failure.retry, row.retry, "{name}: {failure:?}");
        let is_own = row.layer == Layer::Identity && row.code == "AccessDenied";
        assert_eq!((failure.is_of_vendor(), is_own && !failure.is_elsewhere()), (is_own, false), "{name}: {failure:?}");
        for text in row.remedy {
            assert!(failure.remedy.contains(text), "{name}: no {text:?} in {}", failure.remedy);
        }
        assert!(row.code.is_empty() || failure.message.contains(row.code), "{name}: {failure:?}");
        assert!(failure.message.contains("acme"), "{name} names no customer: {failure:?}");
        assert!(!wire.objects().contains_key(MANIFEST), "{name}");
    }
}

const ASSUME: &str = "User: arn:aws:sts::111122223333:assumed-role/vendor-app/i-0abc is not authorized to perform: \
                      sts:AssumeRole on resource: arn:aws:iam::123456789012:role/consign-delivery";
const ASSUME_OWN: &str = "User: arn:aws:iam::111122223333:user/vendor is not authorized to perform: sts:AssumeRole on resource: \
                          arn:aws:iam::123456789012:role/consign-delivery because no identity-based policy allows the \
                          sts:AssumeRole action";
const ASSUME_SCP: &str = "User: arn:aws:iam::111122223333:user/vendor is not authorized to perform: sts:AssumeRole on resource: \
                          arn:aws:iam::123456789012:role/consign-delivery with an explicit deny in a service control policy";
const ASSUME_RCP: &str = "User: arn:aws:iam::111122223333:user/vendor is not authorized to perform: sts:AssumeRole on resource: \
                          arn:aws:iam::123456789012:role/consign-delivery with an explicit deny in a resource control policy";
const TAGGED: &str = "User: arn:aws:sts::111122223333:assumed-role/consign/pod is not authorized to perform: sts:TagSession on resource: \
                      arn:aws:iam::123456789012:role/consign-delivery";
const CHAINED: &str =
    "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining";

fn clock(message: &'static str) -> Row {
    let row = row(Call::AssumeRole, 403, "SignatureDoesNotMatch", message, Layer::Clock, &["NTP"]);
    Row { retry: Retry::Later, ..row }
}

#[tokio::test]
async fn refusals_by_sts() {
    use Call::AssumeRole;
    check(vec![
        row(
            AssumeRole,
            403,
            "AccessDenied",
            ASSUME,
            Layer::TrustPolicy,
            &[
                "\"sts:ExternalId\": \"c0ns1gn-7f0c\"",
                "\"AWS\": \"arn:aws:iam::111122223333:root\"",
                "\"Resource\": \"arn:aws:iam::123456789012:role/consign-delivery\"",
            ],
        ),
        Row {
            profile: |customer| customer.external_id = None,
            ..row(AssumeRole, 403, "AccessDenied", ASSUME, Layer::TrustPolicy, &["without an external ID"])
        },
        own(row(AssumeRole, 403, "AccessDenied", ASSUME_OWN, Layer::Identity, &["\"Action\": \"sts:AssumeRole\""])),
        own(row(AssumeRole, 403, "AccessDenied", ASSUME_SCP, Layer::Identity, &["the vendor's own", "SCP"])),
        row(AssumeRole, 403, "AccessDenied", ASSUME_RCP, Layer::TrustPolicy, &["RCP", "the customer's organisation"]),
        own(row(
            AssumeRole,
            403,
            "AccessDenied",
            TAGGED,
            Layer::Identity,
            &["disableSessionTags", "trust policy allow sts:TagSession", "\"sts:TagSession\"\n"],
        )),
        // It keeps everything from this customer, until somebody on its side sets it right.
        row(
            AssumeRole,
            400,
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            Layer::RolePolicy,
            &["session_duration", "--role-name consign-delivery"],
        ),
        row(AssumeRole, 400, "ValidationError", CHAINED, Layer::Config, &["\"1h\""]),
        row(
            AssumeRole,
            400,
            "ValidationError",
            "1 validation error detected: Value at 'externalId' failed to satisfy constraint",
            Layer::Config,
            &["check role_arn, external_id and prefix"],
        ),
        row(
            AssumeRole,
            400,
            "PackedPolicyTooLarge",
            "Packed size of session policy: 140%",
            Layer::Config,
            &["uploads/us/"],
        ),
        row(
            AssumeRole,
            403,
            "RegionDisabledException",
            "STS is not activated in this region",
            Layer::Region,
            &["STS in eu-west-1 for account 123456789012", "[aws] region"],
        ),
        Row {
            retry: Retry::Later,
            ..row(
                AssumeRole,
                403,
                "InvalidClientTokenId",
                "The security token included in the request is invalid",
                Layer::Identity,
                &["access key"],
            )
        },
        Row {
            retry: Retry::Later,
            ..row(
                AssumeRole,
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match",
                Layer::Identity,
                &["secret"],
            )
        },
        // STS says so of a time that is wrong, and S3 in other words.
        clock("Signature expired: 20260301T060000Z is now earlier than 20260301T061000Z (20260301T062500Z - 15 min.)"),
        clock("Signature not yet current: 20260301T070000Z is still later than 20260301T063500Z (20260301T062000Z + 15 min.)"),
        clock("Signature not valid at this time: 20260301T070000Z is not within 15 min. of 20260301T062000Z"),
        Row {
            retry: Retry::Later,
            ..row(
                AssumeRole,
                400,
                "ExpiredToken",
                "The security token included in the request is expired",
                Layer::Identity,
                &["vendor's own"],
            )
        },
        Row { retry: Retry::Later, ..row(AssumeRole, 400, "Throttling", "Rate exceeded", Layer::Network, &["fewer"]) },
    ])
    .await;
}

fn kms_now(call: Call, status: u16, code: &'static str) -> Row {
    Row { retry: Retry::Later, ..row(call, status, code, "try again", Layer::Kms, &["deliver again later"]) }
}

/// The role and the key's policy both have to agree, and AWS mostly says which does not.
#[tokio::test]
async fn refusals_by_kms() {
    use Call::{Create, Part};
    let kms = "User: arn:aws:sts::123456789012:assumed-role/consign-delivery/r is not authorized to perform: kms:GenerateDataKey on \
               resource: arn:aws:kms:eu-west-1:123456789012:key/k because no identity-based policy allows the kms:GenerateDataKey action";
    let kms_key = "User: u is not authorized to perform: kms:GenerateDataKey on resource: k because no resource-based policy allows the \
                   kms:GenerateDataKey action";
    let kms_deny = "User: u is not authorized to perform: kms:Decrypt on resource: k with an explicit deny in a resource-based policy";
    check(vec![
        Row {
            profile: |customer| {
                customer.encryption = Encryption::Kms { key: Some("arn:aws:kms:eu-west-1:123456789012:key/k".into()) }
            },
            ..row(
                Part,
                403,
                "AccessDenied",
                kms,
                Layer::Kms,
                &["kms:Decrypt", "arn:aws:kms:eu-west-1:123456789012:key/k"],
            )
        },
        row(
            Create,
            403,
            "AccessDenied",
            kms_key,
            Layer::Kms,
            &["to the key's policy:", "\"Principal\"", "\"kms:GenerateDataKey\"", "\"Resource\": \"*\""],
        ),
        row(Create, 403, "AccessDenied", kms_deny, Layer::Kms, &["Deny statement in the key's policy"]),
        row(
            Create,
            400,
            "KMS.NotFoundException",
            "Key does not exist",
            Layer::Kms,
            &["kms:GenerateDataKey", "to the role's policy:", "\"Principal\""],
        ),
        // KMS is asked by S3, and has bad moments of its own.
        kms_now(Create, 400, "KMS.ThrottlingException"),
        kms_now(Part, 503, "KMS.DependencyTimeoutException"),
        kms_now(Part, 500, "KMS.KMSInternalException"),
        kms_now(Create, 400, "KMS.KMSInternalException"),
        kms_now(Create, 500, "KMS.KeyUnavailableException"),
        kms_now(Create, 503, "KMS.SomethingNew"),
        kms_now(Create, 500, "KMS.SomethingNew"),
        row(Create, 400, "KMS.DisabledException", "the key is disabled", Layer::Kms, &["must be enabled"]),
        row(Create, 400, "KMS.KMSInvalidStateException", "pending deletion", Layer::Kms, &["must be enabled"]),
        Row {
            profile: |customer| customer.encryption = Encryption::Kms { key: None },
            ..row(Create, 403, "AccessDenied", kms_key, Layer::Kms, &["policy of aws/s3 cannot be changed"])
        },
    ])
    .await;
    // Nor is anybody told to change it where KMS names no policy.
    let own = Row {
        profile: |customer| customer.encryption = Encryption::Kms { key: None },
        ..row(Create, 400, "KMS.DisabledException", "The key is disabled", Layer::Kms, &[])
    };
    let (failure, _) = outcome(&own).await;
    assert!(failure.remedy.contains("to the role's policy:"), "{failure:?}");
    assert!(!failure.remedy.contains("key's policy"), "{failure:?}");
}

#[tokio::test]
async fn refusals_by_s3() {
    use Call::{Create, Part};
    let role = "User: arn:aws:sts::123456789012:assumed-role/consign-delivery/r is not authorized to perform: s3:PutObject on resource: \
                arn:aws:s3:::acme-data/uploads/us/x because no identity-based policy allows the s3:PutObject action";
    let deny = "User: u is not authorized to perform: s3:PutObject on resource: r with an explicit deny in a resource-based policy";
    let foreign = "User: u is not authorized to perform: s3:PutObject on resource: r because no resource-based policy allows the s3:PutObject action";
    let scp = "User: u is not authorized to perform: s3:PutObject on resource: r with an explicit deny in a service control policy";
    let rcp = "User: u is not authorized to perform: s3:PutObject on resource: r with an explicit deny in a resource control policy";
    let vpc = "User: u is not authorized to perform: s3:PutObject on resource: r because no VPC endpoint policy allows the s3:PutObject action";
    let acl = "User: u is not authorized to perform: s3:PutObjectAcl on resource: r because no identity-based policy allows it";
    let session = "User: u is not authorized to perform: s3:PutObject on resource: r because no session policy allows the s3:PutObject action";
    check(vec![
        row(
            Create,
            403,
            "AccessDenied",
            role,
            Layer::RolePolicy,
            &["arn:aws:s3:::acme-data/uploads/us/*", "\"s3:PutObject\""],
        ),
        row(
            Create,
            403,
            "AccessDenied",
            deny,
            Layer::Bucket,
            &["Deny", "arn:aws:iam::123456789012:role/consign-delivery"],
        ),
        row(Create, 403, "AccessDenied", foreign, Layer::Bucket, &["\"Principal\""]),
        row(Create, 403, "AccessDenied", scp, Layer::RolePolicy, &["SCP", "account 123456789012"]),
        Row {
            profile: |customer| customer.bucket_owner = AccountId::parse("999999999999").unwrap(),
            ..row(Create, 403, "AccessDenied", rcp, Layer::Bucket, &["RCP", "account 999999999999"])
        },
        own(row(Create, 403, "AccessDenied", vpc, Layer::Identity, &["where consign runs", "\"s3:PutObject\""])),
        row(Create, 403, "AccessDenied", session, Layer::RolePolicy, &["session policy"]),
        Row {
            profile: |customer| customer.acl = Some("bucket-owner-full-control".into()),
            ..row(Create, 403, "AccessDenied", acl, Layer::Acl, &["s3:PutObjectAcl", "remove acl"])
        },
        row(
            Create,
            400,
            "AccessControlListNotSupported",
            "The bucket does not allow ACLs",
            Layer::Acl,
            &["remove acl"],
        ),
        row(Create, 404, "NoSuchBucket", "The specified bucket does not exist", Layer::Bucket, &["acme-data"]),
        Row {
            headers: vec![("x-amz-bucket-region", "eu-central-1")],
            ..row(
                Create,
                301,
                "PermanentRedirect",
                "must be addressed using the specified endpoint",
                Layer::Region,
                &["region = \"eu-central-1\""],
            )
        },
        row(
            Create,
            400,
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region 'eu-west-1' is wrong; expecting 'ap-south-1'",
            Layer::Region,
            &["region = \"ap-south-1\""],
        ),
        row(
            Create,
            400,
            "InvalidStorageClass",
            "The storage class you specified is not valid",
            Layer::Config,
            &["storage_class"],
        ),
        Row { retry: Retry::Later, ..row(Part, 400, "BadDigest", "did not match", Layer::Network, &["proxy"]) },
        Row {
            retry: Retry::Later,
            ..row(Create, 403, "InvalidAccessKeyId", "does not exist in our records", Layer::Region, &["opt-in"])
        },
        row(Create, 400, "InvalidArgument", "of a header", Layer::Config, &["names the setting"]),
        row(Create, 403, "NeverHeardOf", "forbidden", Layer::RolePolicy, &["ask the customer"]),
        // Also under the session that was opened because of it.
        Row {
            retry: Retry::Later,
            ..row(Create, 400, "ExpiredToken", "The provided token has expired", Layer::Identity, &["clock"])
        },
        Row {
            retry: Retry::Later,
            ..row(
                Create,
                409,
                "OperationAborted",
                "A conflicting operation is in progress",
                Layer::Conflict,
                &["another"],
            )
        },
        row(Create, 412, "PreconditionFailed", "a pre-condition did not hold", Layer::Conflict, &[]),
        row(Part, 400, "EntityTooSmall", "smaller than the minimum", Layer::Local, &["report"]),
        Row { retry: Retry::Later, ..row(Create, 429, "", "", Layer::Network, &["fewer"]) },
        row(
            Create,
            501,
            "NotImplemented",
            "A header you provided implies functionality that is not implemented",
            Layer::Config,
            &["endpoint_url"],
        ),
    ])
    .await;
    // Who has refused is named: nobody else is.
    let (failure, _) = outcome(&row(Create, 403, "AccessDenied", role, Layer::RolePolicy, &[])).await;
    assert!(!failure.remedy.contains("S3 does not say who"), "{failure:?}");
}

/// The longest answers: S3 says no more than "Access Denied".
#[tokio::test]
async fn a_bare_refusal_lists_everyone_who_can_have_said_it() {
    let all: fn(&mut Customer) = |customer| customer.acl = Some("bucket-owner-full-control".into());
    let (failure, _) = outcome(&Row {
        profile: all,
        ..row(Call::Create, 403, "AccessDenied", "Access Denied", Layer::RolePolicy, &[])
    })
    .await;
    assert_eq!((failure.layer, failure.retry), (Layer::RolePolicy, Retry::Never));
    for suspect in ["1. role policy", "2. bucket policy", "3. ACL", "4. KMS", "5. bucket owner"] {
        assert!(failure.remedy.contains(&format!("\n{suspect}")), "{suspect}: {}", failure.remedy);
    }
    let foreign: fn(&mut Customer) = |customer| customer.bucket_owner = AccountId::parse("999999999999").unwrap();
    let (failure, _) = outcome(&Row {
        profile: foreign,
        ..row(Call::Create, 403, "AccessDenied", "Access Denied", Layer::RolePolicy, &[])
    })
    .await;
    assert!(failure.remedy.contains("1. bucket owner"), "the likeliest first: {}", failure.remedy);
    assert!(failure.remedy.contains("\"Principal\""), "{}", failure.remedy);
}

/// A firewall, an egress proxy or a portal says no, or leads somewhere else, where AWS was asked.
/// That is no customer's fault, and nobody is to be told to change a policy.
#[tokio::test]
async fn a_refusal_that_is_none_of_awss_is_the_networks() {
    let html = "<html><head><title>403 Forbidden</title></head><body><h1>Blocked by policy</h1></body></html>";
    let bodies = [html, "<!DOCTYPE html><p>Blocked<br>by policy", "{\"message\":\"Forbidden\"}", "", "<Error></Error>"];
    for call in [Call::AssumeRole, Call::Create, Call::Part, Call::Complete] {
        let answers = bodies.map(|body| (403, body)).into_iter();
        for (status, body) in answers.chain([(301, html), (307, html), (400, html), (404, html), (407, html)]) {
            let wire = Wire::start(move |seen, _| {
                (seen.call == call).then(|| Fault::Answer(status, vec![("content-type", "text/html")], body.to_owned()))
            })
            .await;
            let vendor = vendor(&aws(&wire.url)).await;
            let failure = deliver(&vendor, &Arc::new(customer()), object(0, "a.csv", b"x")).await.unwrap_err();
            let name = format!("{call:?} {status} {body}: {failure:?}");
            assert_eq!((failure.layer, failure.retry), (Layer::Network, Retry::Later), "{name}");
            assert!(failure.is_silence() && !failure.is_of_setup(), "{name}");
            assert!(failure.remedy.contains("proxies") && failure.message.contains(&status.to_string()), "{name}");
            assert!(!failure.remedy.contains("ask the customer"), "{name}");
        }
    }
}

/// S3 says where the bucket is in a header too.
#[tokio::test]
async fn a_redirect_that_is_s3s_is_the_regions() {
    let wire = Wire::start(|seen, _| {
        let headers = vec![("x-amz-bucket-region", "eu-central-1")];
        (seen.call == Call::Create).then(|| Fault::Answer(301, headers, String::new()))
    })
    .await;
    let failure = deliver(&vendor(&aws(&wire.url)).await, &Arc::new(customer()), object(0, "a.csv", b"x")).await;
    let failure = failure.unwrap_err();
    assert_eq!((failure.layer, failure.retry), (Layer::Region, Retry::Never), "{failure:?}");
    assert!(failure.remedy.contains("region = \"eu-central-1\""), "{failure:?}");
}

/// The SDK corrects its clock from the answer and tries again; a server that
/// still refuses is reported as the clock's failure.
#[tokio::test]
async fn a_clock_that_is_off() {
    let skewed = row(
        Call::Create,
        403,
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
        Layer::Clock,
        &["NTP"],
    );
    check(vec![Row { retry: Retry::Later, ..skewed }]).await;
}

#[tokio::test]
async fn no_credentials_at_all() {
    let wire = Wire::healthy().await;
    let mut settings = aws(&wire.url);
    settings.credentials = None;
    settings.profile = Some("consign-no-such-profile".into());
    let failure = deliver(&vendor(&settings).await, &Arc::new(customer()), object(0, "a.csv", b"x")).await.unwrap_err();
    assert_eq!((failure.layer, failure.retry), (Layer::Identity, Retry::Later), "{failure:?}");
    assert!(failure.remedy.contains("AWS_*"), "{failure:?}");
}

/// What STS near the customer refuses, STS of the vendor's region may grant: it is switched off for the customer's account,
/// or the vendor's account, which has not opted into the region, is unknown there.
#[tokio::test]
async fn sts_that_is_switched_off_near_the_customer_is_asked_elsewhere() {
    let scope = |seen: &Seen| seen.headers["authorization"].to_str().unwrap().split('/').nth(2).unwrap().to_owned();
    let unknown = "The security token included in the request is invalid";
    for (code, message, layer) in [
        ("RegionDisabledException", "STS is not activated in this region", Layer::Region),
        ("InvalidClientTokenId", unknown, Layer::Identity),
        ("UnrecognizedClientException", unknown, Layer::Identity),
    ] {
        for (near, home) in [
            ("me-south-1", Some("eu-central-1")),
            ("me-south-1", None),
            ("me-south-1", Some("me-south-1")),
            ("cn-north-1", None),
        ] {
            let off = sts_error(code, message);
            let there = near.to_owned();
            let wire = Wire::start(move |seen, _| {
                (seen.call == Call::AssumeRole && scope(seen) == there).then(|| Fault::Answer(403, vec![], off.clone()))
            })
            .await;
            let settings = Aws { region: home.map(|home| Region::parse(home).unwrap()), ..aws(&wire.url) };
            let customer = Customer { region: Region::parse(near).unwrap(), ..customer() };
            let vendor = vendor(&settings).await;
            let delivered = deliver(&vendor, &Arc::new(customer), object(0, "a.csv", b"x")).await;
            let asked: Vec<_> = wire.seen().iter().filter(|seen| seen.call == Call::AssumeRole).map(scope).collect();
            if near.starts_with("cn-") || home == Some(near) {
                let failure = delivered.unwrap_err();
                assert_eq!(failure.layer, layer, "{code}: {failure:?}");
                assert!(
                    failure.remedy.contains(near) && failure.remedy.contains("[aws] region"),
                    "{code}: {failure:?}"
                );
                assert_eq!(asked, [near], "there is no other to ask, or it does not know the role");
            } else {
                delivered.unwrap();
                assert_eq!(asked, [near, vendor.region()], "{code}");
                assert!(home.is_none_or(|home| home == vendor.region()));
            }
        }
    }
}
