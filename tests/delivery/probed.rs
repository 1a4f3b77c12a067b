//! Preflights against answers that no sandbox gives.

use std::sync::Arc;

use chrono::{SubsecRound as _, TimeDelta};
use consign::clock::Clock;
use consign::config::{Customer, Encryption};
use consign::delivery::{Check, Finding, Outcome, Preflight, Probe, Vendor, exposure};
use consign::domain::{Layer, Region, RoleArn};
use tokio_util::sync::CancellationToken;

use super::wire::{Call, Fault, Seen, Wire, s3_error};
use super::world::*;

const CALLER: &str = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                      <Arn>arn:aws:iam::111122223333:user/vendor</Arn><Account>111122223333</Account>\
                      </GetCallerIdentityResult></GetCallerIdentityResponse>";
const OUTSIDE: [&str; 3] = ["_consign-preflight", "uploads/_consign-preflight", "uploads/us_consign-preflight"];
const XML: (&str, &str) = ("content-type", "text/xml");

fn sts_error(status: u16, code: &str, message: &str) -> Fault {
    let body = format!("<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>");
    Fault::Answer(status, vec![XML], body)
}

fn denied(action: &str, because: &str) -> Fault {
    let message = format!("User: u is not authorized to perform: {action} on resource: r {because}");
    Fault::Answer(403, Vec::new(), s3_error("AccessDenied", &message))
}

/// What a form of STS's has, decoded.
fn form(seen: &Seen, name: &str) -> Option<String> {
    let query = format!("?{}", String::from_utf8_lossy(&seen.body));
    let seen = Seen::new(seen.method.clone(), query, seen.headers.clone(), seen.body.clone());
    seen.query.get(name).cloned()
}

/// AWS as it is where all is set up well: STS asks for the external ID, and S3 lets nobody write outside of the
/// prefix. The `script` goes first; it is told the policy of the session that asks.
async fn aws_where(mut script: impl FnMut(&Seen, &str) -> Option<Fault> + Send + 'static) -> Wire {
    let mut policies: Vec<String> = Vec::new();
    Wire::start(move |seen, _| {
        if form(seen, "Action").as_deref() == Some("GetCallerIdentity") {
            return Some(Fault::Answer(200, vec![XML], CALLER.to_owned()));
        }
        let token = seen.headers.get("x-amz-security-token").and_then(|token| token.to_str().ok()).unwrap_or_default();
        let number: usize = token.strip_prefix("token-").map_or(0, |number| number.parse().unwrap());
        let policy = policies.get(number.wrapping_sub(1)).cloned().unwrap_or_default();
        if let Some(fault) = script(seen, &policy) {
            return Some(fault);
        }
        match seen.call {
            Call::AssumeRole if form(seen, "ExternalId").as_deref() != Some("c0ns1gn-7f0c") => Some(sts_error(
                403,
                "AccessDenied",
                "User: u is not authorized to perform: sts:AssumeRole on resource: r",
            )),
            Call::AssumeRole => {
                policies.push(form(seen, "Policy").unwrap_or_default());
                None
            }
            Call::Create if OUTSIDE.contains(&&*seen.key) => {
                Some(denied("s3:PutObject", "because no identity-based policy allows the s3:PutObject action"))
            }
            _ => None,
        }
    })
    .await
}

async fn preflight(wire: &Wire, customer: Customer) -> Preflight {
    let probe = Probe::new(vendor(&aws(&wire.url)).await, CancellationToken::new()).await;
    let found = probe.customer(&Arc::new(customer)).await;
    assert_eq!((wire.open_uploads(), found.left.len()), (0, 0), "{found:#?}");
    found
}

fn line(found: &Preflight, check: Check) -> &Finding {
    found.checks.iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("no {check:?} in {found:#?}"))
}

fn outcome(found: &Preflight, check: Check) -> Outcome {
    line(found, check).outcome
}

#[tokio::test]
async fn who_is_set_up_well_is_ready() {
    let found = preflight(&aws_where(|_, _| None).await, customer()).await;
    assert!(found.ready && found.checks.iter().all(|finding| finding.outcome == Outcome::Ok), "{found:#?}");
}

/// Whether others get in is not known: that is not the same as that they do not.
#[tokio::test]
async fn who_could_not_be_tried_without_its_external_id_is_not_ready() {
    for (wrong, check) in [(false, Check::WithoutExternalId), (true, Check::WrongExternalId)] {
        let script = move |seen: &Seen, _: &str| {
            let id = form(seen, "ExternalId");
            let is_it = seen.call == Call::AssumeRole && id.as_deref() != Some("c0ns1gn-7f0c") && id.is_some() == wrong;
            is_it.then(|| sts_error(403, "RegionDisabledException", "STS is not activated in this region"))
        };
        let wire = aws_where(script).await;
        let found = preflight(&wire, customer()).await;
        assert_eq!((outcome(&found, check), found.ready), (Outcome::NotTried, false), "{found:#?}");
        let of = Arc::new(customer());
        let unknown = exposure(&vendor(&aws(&wire.url)).await, &of).await.unwrap_err();
        assert_eq!(unknown.layer, Layer::Region);
    }
    // The vendor's own policy names the external ID too, so that the role is never asked.
    let own = "User: u is not authorized to perform: sts:AssumeRole on resource: r because no identity-based policy allows the \
               sts:AssumeRole action";
    let script = move |seen: &Seen, _: &str| {
        let is_it = seen.call == Call::AssumeRole && form(seen, "ExternalId").as_deref() != Some("c0ns1gn-7f0c");
        is_it.then(|| sts_error(403, "AccessDenied", own))
    };
    let wire = aws_where(script).await;
    let found = preflight(&wire, customer()).await;
    assert_eq!((outcome(&found, Check::WrongExternalId), found.ready), (Outcome::NotTried, true), "{found:#?}");
    assert_eq!(exposure(&vendor(&aws(&wire.url)).await, &Arc::new(customer())).await, Ok(None));
}

/// Ctrl-C in the middle of it is no verdict either.
#[tokio::test]
async fn who_was_looked_at_in_part_is_not_ready() {
    let stop = CancellationToken::new();
    let stops = stop.clone();
    let wire = aws_where(move |seen, _| {
        if seen.call == Call::AssumeRole {
            stops.cancel();
        }
        None
    })
    .await;
    let probe = Probe::new(vendor(&aws(&wire.url)).await, stop).await;
    let found = probe.customer(&Arc::new(customer())).await;
    assert_eq!(
        (outcome(&found, Check::Role), outcome(&found, Check::WrongExternalId)),
        (Outcome::Ok, Outcome::NotTried)
    );
    assert!(!found.ready, "{found:#?}");
}

/// The bucket wants its own key, and so the retry without the profile's encryption needs it.
#[tokio::test]
async fn a_bucket_that_wants_another_encryption_is_told_to() {
    let script = |seen: &Seen, policy: &str| {
        let inside = seen.call == Call::Create && seen.key == "uploads/us/_consign-preflight";
        match seen.headers.get("x-amz-server-side-encryption") {
            Some(_) if inside => Some(denied("s3:PutObject", "with an explicit deny in a resource-based policy")),
            None if inside && !policy.contains("kms:GenerateDataKey") => {
                Some(denied("kms:GenerateDataKey", "because no session policy allows the kms:GenerateDataKey action"))
            }
            _ => None,
        }
    };
    let wire = aws_where(script).await;
    let found = preflight(&wire, Customer { encryption: Encryption::S3, ..customer() }).await;
    let Finding { outcome: refused, layer, .. } = line(&found, Check::Encryption);
    assert_eq!((*refused, *layer), (Outcome::Failed, Some(Layer::Bucket)), "{found:#?}");
    assert_eq!(outcome(&found, Check::Write), Outcome::Ok, "{found:#?}");
    // Deliveries' own sessions stay as narrow as they were.
    let policies = wire.seen().iter().filter_map(|seen| form(seen, "Policy")).collect::<Vec<_>>();
    assert!(!policies[0].contains("kms:"), "{policies:?}");
}

/// What is wrong with an upload says nothing of where the role may write.
#[tokio::test]
async fn only_what_refuses_the_key_shows_that_a_role_is_narrow() {
    let kms =
        || denied("kms:GenerateDataKey", "because no identity-based policy allows the kms:GenerateDataKey action");
    let is_outside = |seen: &Seen| seen.call == Call::Create && OUTSIDE.contains(&&*seen.key);
    let with_key = || Customer { encryption: Encryption::Kms { key: Some("alias/theirs".into()) }, ..customer() };
    // With the key it is refused for the key, and without it the role writes anywhere.
    let script = move |seen: &Seen, _: &str| match seen.headers.contains_key("x-amz-server-side-encryption") {
        true if is_outside(seen) => Some(kms()),
        false if is_outside(seen) => Some(Fault::Late(std::time::Duration::ZERO)),
        _ => None,
    };
    let found = preflight(&aws_where(script).await, with_key()).await;
    assert_eq!((outcome(&found, Check::Outside), found.ready), (Outcome::Warning, true), "{found:#?}");
    // Of a storage class nothing is known.
    let script = move |seen: &Seen, _: &str| {
        is_outside(seen).then(|| Fault::Answer(400, Vec::new(), s3_error("InvalidStorageClass", "not valid")))
    };
    let found = preflight(&aws_where(script).await, customer()).await;
    assert_eq!((outcome(&found, Check::Outside), found.ready), (Outcome::NotTried, true), "{found:#?}");
    assert!(line(&found, Check::Outside).message.contains("InvalidStorageClass"), "{found:#?}");
    // And who does not answer may have let it in.
    let script = move |seen: &Seen, _: &str| {
        is_outside(seen).then(|| Fault::Answer(400, Vec::new(), s3_error("ExpiredToken", "expired")))
    };
    let found = preflight(&aws_where(script).await, customer()).await;
    assert_eq!((outcome(&found, Check::Outside), found.ready), (Outcome::NotTried, false), "{found:#?}");
    // What was let in before that is told all the same.
    let script = move |seen: &Seen, _: &str| match is_outside(seen) {
        true if seen.key == OUTSIDE[0] => Some(Fault::Late(std::time::Duration::ZERO)),
        true => Some(Fault::Answer(400, Vec::new(), s3_error("ExpiredToken", "expired"))),
        false => None,
    };
    let found = preflight(&aws_where(script).await, customer()).await;
    assert_eq!((outcome(&found, Check::Outside), found.ready), (Outcome::Warning, true), "{found:#?}");
    assert!(line(&found, Check::Outside).message.contains("'_consign-preflight' would"), "{found:#?}");
}

/// STS near the customer may do so.
#[tokio::test]
async fn customers_are_looked_at_where_sts_near_the_vendor_does_not_answer() {
    let is_it = |seen: &Seen| form(seen, "Action").as_deref() == Some("GetCallerIdentity");
    let wire = Wire::start(move |seen, _| is_it(seen).then(|| Fault::Answer(429, Vec::new(), String::new()))).await;
    let found = preflight(&wire, customer()).await;
    assert_eq!((outcome(&found, Check::Identity), outcome(&found, Check::Role)), (Outcome::Failed, Outcome::Ok));
    assert_eq!(outcome(&found, Check::Write), Outcome::Ok, "{found:#?}");
    assert!(!found.ready);
}

/// Neither that the region is right nor whose the bucket is.
#[tokio::test]
async fn an_s3_that_does_not_answer_says_nothing_of_the_bucket() {
    let tagged = Customer { tags: [("team".to_owned(), "data".to_owned())].into(), ..customer() };
    let wire =
        aws_where(|seen, _| (seen.call == Call::Create).then(|| Fault::Answer(429, Vec::new(), String::new()))).await;
    let found = preflight(&wire, tagged).await;
    for (check, expected) in [
        (Check::Write, Outcome::Failed),
        (Check::Region, Outcome::NotTried),
        (Check::Owner, Outcome::NotTried),
        (Check::Tags, Outcome::NotTried),
        (Check::Outside, Outcome::NotTried),
        (Check::NothingLeft, Outcome::Warning),
    ] {
        assert_eq!(outcome(&found, check), expected, "{check:?}: {found:#?}");
    }
    assert!(!found.ready);
}

/// Who is in `aws` is nobody in `aws-cn`: STS there would say that the key is wrong.
#[tokio::test]
async fn a_role_of_another_partition_is_told_to_be_out_of_reach() {
    let wire = aws_where(|_, _| None).await;
    let theirs = Customer {
        role_arn: RoleArn::parse("arn:aws-cn:iam::123456789012:role/consign-delivery").unwrap(),
        region: Region::parse("cn-north-1").unwrap(),
        ..customer()
    };
    let found = preflight(&wire, theirs).await;
    let role = line(&found, Check::Role);
    assert_eq!((role.outcome, role.layer, found.ready), (Outcome::Failed, Some(Layer::Config), false), "{found:#?}");
    assert!(role.message.contains("partition aws-cn") && role.remedy.contains("identity is in aws-cn"), "{role:?}");
    assert_eq!(outcome(&found, Check::Write), Outcome::NotTried);
    assert!(wire.seen().iter().all(|seen| form(seen, "Action").as_deref() == Some("GetCallerIdentity")));
}

/// What STS refuses then says nothing of who asks. AWS takes what is off by as much as it says, and no more.
#[tokio::test]
async fn who_is_refused_while_the_clock_is_off_is_told_of_the_clock() {
    for (off, is_off) in [(900, false), (901, true), (-900, false), (-901, true)] {
        let now = Clock::system().now();
        let date = (now + TimeDelta::seconds(off)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let date: &'static str = date.leak();
        let wire = Wire::start(move |seen, _| {
            let refused = || {
                let body = "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>The security token included in \
                            the request is invalid.</Message></Error></ErrorResponse>";
                Fault::Answer(403, vec![XML, ("date", date)], body.to_owned())
            };
            (form(seen, "Action").as_deref() == Some("GetCallerIdentity")).then(refused)
        })
        .await;
        // STS tells whole seconds.
        let clock = Clock::fixed(now.trunc_subsecs(0));
        let vendor = Vendor::new(&aws(&wire.url), 1, clock).await.unwrap();
        let found = Probe::new(vendor, CancellationToken::new()).await.customer(&Arc::new(customer())).await;
        let (identity, clock) = (line(&found, Check::Identity), line(&found, Check::Clock));
        let expected = match is_off {
            true => ((Outcome::NotTried, None), (Outcome::Failed, Some(Layer::Clock))),
            false => ((Outcome::Failed, Some(Layer::Identity)), (Outcome::Warning, Some(Layer::Clock))),
        };
        assert_eq!(((identity.outcome, identity.layer), (clock.outcome, clock.layer)), expected, "{off}: {found:#?}");
        let which = if off < 0 { "ahead of" } else { "behind" };
        assert!(clock.message.contains(&format!("{} s {which} that of STS", off.abs())), "{clock:?}");
        let why = if is_off { "clock is off" } else { "no identity that STS knows" };
        let role = line(&found, Check::Role);
        assert!(role.outcome == Outcome::NotTried && role.message.contains(why), "{off}: {role:?}");
        assert!(!found.ready);
    }
}

/// A shorter one would be refused as well, so that none is looked for.
#[tokio::test]
async fn a_session_that_is_refused_for_something_else_is_not_told_to_be_too_long() {
    let is_long = |seen: &Seen| {
        seen.call == Call::AssumeRole
            && form(seen, "DurationSeconds").is_some_and(|seconds| seconds.parse::<u64>().unwrap() > 900)
    };
    let message = "STS is not activated in this region";
    let wire =
        aws_where(move |seen, _| is_long(seen).then(|| sts_error(403, "RegionDisabledException", message))).await;
    let found = preflight(&wire, customer()).await;
    let session = line(&found, Check::Session);
    assert_eq!((outcome(&found, Check::Role), session.outcome), (Outcome::Ok, Outcome::Failed), "{found:#?}");
    assert_eq!(session.layer, Some(Layer::Region), "{session:?}");
    assert!(
        session.message.contains(message) && !session.remedy.contains("the longest that is granted"),
        "{session:?}"
    );
    let wanted: Vec<_> =
        wire.seen().iter().filter(|seen| is_long(seen)).filter_map(|seen| form(seen, "DurationSeconds")).collect();
    assert!(wanted.iter().all(|seconds| *seconds == wanted[0]), "{wanted:?}");
}

/// S3 has begun it, and its answer was lost; what was begun when it was asked again is not that one.
#[tokio::test]
async fn an_upload_whose_creation_was_asked_for_twice_may_be_left() {
    for key in ["uploads/us/_consign-preflight", OUTSIDE[0]] {
        let mut before = 0;
        let wire = aws_where(move |seen, _| {
            let is_it = seen.call == Call::Create && seen.key == key;
            before += usize::from(is_it);
            (is_it && before == 1).then_some(Fault::LoseReply)
        })
        .await;
        let probe = Probe::new(vendor(&aws(&wire.url)).await, CancellationToken::new()).await;
        let found = probe.customer(&Arc::new(customer())).await;
        assert_eq!((wire.open(), found.left.len()), (vec![key.to_owned()], 0), "{found:#?}");
        assert_eq!(
            (outcome(&found, Check::Write), outcome(&found, Check::NothingLeft)),
            (Outcome::Ok, Outcome::Warning)
        );
        let left = line(&found, Check::NothingLeft);
        assert!(
            left.message.contains("not known") && left.remedy.contains("AbortIncompleteMultipartUpload"),
            "{left:#?}"
        );
        assert!(found.ready, "{found:#?}");
    }
}
