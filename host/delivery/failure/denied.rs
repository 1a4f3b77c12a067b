//! `AccessDenied` has many authors. AWS's longer messages name them; where they
//! do not, the remedy lists who is left.
//!
//! The wordings are those of the IAM User Guide, "Troubleshoot access denied
//! error messages", and of the S3 User Guide, "Troubleshoot access denied (403
//! Forbidden) errors".

use super::{Verdict, later, never, paste};
use crate::config::{Customer, Encryption};
use crate::delivery::policy;
use crate::domain::Layer;

/// What the vendor's own policies refuse is set right in one place, for all whom it concerns: so it is tried again.
///
/// STS answers a wrong external ID, a missing trust policy and a vendor without
/// permission alike.
pub(super) fn assume_role(message: &str, customer: &Customer) -> Verdict {
    let vendor = message.split_once("User: ").and_then(|(_, rest)| rest.split_whitespace().next());
    if action_in(message) == Some("sts:TagSession") {
        return later(Layer::Identity, tag_session(customer));
    }
    let own_policy = paste("the vendor's own identity needs this statement", &policy::assume(customer));
    if message.contains("no identity-based policy allows") || message.contains("in an identity-based policy") {
        return later(Layer::Identity, own_policy);
    }
    match outer_policy(message) {
        Some((Of::Caller | Of::Way, name)) => {
            return later(
                Layer::Identity,
                format!("the vendor's own {name} forbids sts:AssumeRole on {}", customer.role_arn),
            );
        }
        Some((Of::Resource, name)) => {
            return never(
                Layer::TrustPolicy,
                format!(
                    "a {name} of the customer's organisation forbids sts:AssumeRole on {}; only the customer can change that",
                    customer.role_arn
                ),
            );
        }
        None => {}
    }
    let id = match &customer.external_id {
        Some(id) => format!("with the external ID '{id}'"),
        None => "without an external ID, as the profile has none".to_owned(),
    };
    let trust = paste(
        &format!(
            "the customer's role must trust the vendor {id}; ask the customer to make this the role's trust policy{}",
            policy::also_trusts(customer)
        ),
        &policy::trust(customer, vendor),
    );
    never(
        Layer::TrustPolicy,
        format!("{trust}\nSTS gives the same answer when the role does not exist. And {own_policy}"),
    )
}

/// Tags of the vendor's own session are passed on to every role that it assumes (EKS User Guide, "Grant
/// Pod Identity access to AWS resources based on tags"; IAM User Guide, "Pass session tags in AWS STS").
fn tag_session(customer: &Customer) -> String {
    let mut statement = policy::assume(customer);
    statement["Action"] = serde_json::json!(["sts:AssumeRole", "sts:TagSession"]);
    paste(
        &format!(
            "consign's own session has tags that are passed on to {}, as those of EKS Pod Identity are. Switch them off: set \
             disableSessionTags of the pod identity association. Or have the customer's trust policy allow sts:TagSession \
             beside sts:AssumeRole, and the vendor's own identity by this statement",
            customer.role_arn
        ),
        &statement,
    )
}

/// What was asked for, where AWS names it.
fn action_in(message: &str) -> Option<&str> {
    message.split_once("not authorized to perform: ")?.1.split_whitespace().next()
}

/// A refusal by S3.
pub(super) fn object(message: &str, customer: &Customer) -> Verdict {
    let action = action_in(message);
    match outer_policy(message) {
        Some((Of::Caller, name)) => {
            return never(
                Layer::RolePolicy,
                format!(
                    "the {name} over {} forbids it, for account {}; only the customer can change that",
                    customer.role_arn,
                    customer.role_arn.account_id()
                ),
            );
        }
        Some((Of::Resource, name)) => {
            return never(
                Layer::Bucket,
                format!(
                    "a {name} over bucket '{}' forbids it, for account {}; only the customer can change that",
                    customer.bucket, customer.bucket_owner
                ),
            );
        }
        Some((Of::Way, name)) => {
            return later(
                Layer::Identity,
                paste(
                    &format!(
                        "the {name} where consign runs forbids it: have the vendor's own network allow this to {}",
                        customer.role_arn
                    ),
                    &policy::objects(customer),
                ),
            );
        }
        None => {}
    }
    if action.is_some_and(|a| a.starts_with("kms:")) {
        return kms(message, customer);
    }
    if message.contains("explicit deny in a resource-based policy") {
        return never(
            Layer::Bucket,
            format!(
                "a Deny statement in the policy of bucket '{}' matches: ask the customer to except {} from it",
                customer.bucket, customer.role_arn
            ),
        );
    }
    if message.contains("no resource-based policy allows") {
        return never(
            Layer::Bucket,
            paste("ask the customer to add this statement to the bucket's policy", &policy::bucket(customer)),
        );
    }
    if message.contains("session policy") {
        return never(
            Layer::RolePolicy,
            format!(
                "consign's own session policy allows no more than writing under '{}'; if the action is one it should allow, report this",
                customer.prefix
            ),
        );
    }
    if action == Some("s3:PutObjectAcl") || message.contains("BlockPublicAcls") {
        return never(
            Layer::Acl,
            paste(
                &format!("remove acl from customer '{}', or have the role allow it", customer.name),
                &policy::objects(customer),
            ),
        );
    }
    if message.contains("identity-based policy") || action == Some("s3:PutObjectTagging") {
        return never(Layer::RolePolicy, role_statement(customer));
    }
    never(Layer::RolePolicy, suspects(customer))
}

/// The role and the key's own policy both have to agree. AWS mostly says which does not.
pub(in crate::delivery) fn kms(message: &str, customer: &Customer) -> Verdict {
    let key = match &customer.encryption {
        Encryption::Kms { key: Some(key) } => format!("key '{key}'"),
        Encryption::Kms { key: None } => "the account's default S3 key (aws/s3)".to_owned(),
        Encryption::Bucket | Encryption::S3 => "the key of the bucket's default encryption".to_owned(),
    };
    let of_role = || paste("ask the customer to add this statement to the role's policy", &policy::kms(customer));
    let of_key = |what: &str| paste(what, &policy::of_key(customer));
    let is_aws_own = customer.encryption == Encryption::Kms { key: None };
    let remedy = if message.contains("explicit deny in a resource-based policy") {
        format!(
            "a Deny statement in the key's policy matches: ask the customer to except {} from it",
            customer.role_arn
        )
    } else if message.contains("no resource-based policy allows") && is_aws_own {
        format!(
            "the policy of aws/s3 cannot be changed: set encryption of customer '{}' to a key of its own",
            customer.name
        )
    } else if message.contains("no resource-based policy allows") {
        of_key("ask the customer to add this statement to the key's policy")
    } else if message.contains("identity-based policy") || is_aws_own {
        of_role()
    } else {
        format!("{}\n{}", of_role(), of_key("and this one to the key's policy, if that does not leave it to IAM"))
    };
    never(
        Layer::Kms,
        format!(
            "{key} must be enabled, in {}, and usable by {}. kms:Decrypt is needed because uploads are multipart. {remedy}",
            customer.region, customer.role_arn
        ),
    )
}

/// Whom a policy is laid upon (IAM User Guide, "Policy evaluation logic"; AWS
/// Organizations User Guide, "Resource control policies").
#[derive(Clone, Copy)]
enum Of {
    /// The identity that asks: the vendor's own at STS, the customer's role at S3.
    Caller,
    /// What is asked for: the role at STS, the bucket at S3. Both are the customer's.
    Resource,
    /// The endpoint that the request goes through, which is in the vendor's network.
    Way,
}

/// Policies above identity and resource, which neither shows.
fn outer_policy(message: &str) -> Option<(Of, &'static str)> {
    [
        ("service control policy", (Of::Caller, "service control policy (SCP)")),
        ("resource control policy", (Of::Resource, "resource control policy (RCP)")),
        ("permissions boundary", (Of::Caller, "permissions boundary")),
        ("VPC endpoint policy", (Of::Way, "VPC endpoint policy")),
    ]
    .into_iter()
    .find_map(|(needle, found)| message.contains(needle).then_some(found))
}

pub(in crate::delivery) fn role_statement(customer: &Customer) -> String {
    paste(
        &format!("ask the customer to add this statement to the policy of {}", customer.role_arn),
        &policy::objects(customer),
    )
}

/// S3 said no more than "Access Denied": everyone who can have said it, likeliest first.
fn suspects(customer: &Customer) -> String {
    let mut text = String::from("S3 does not say who refused. In this order, ask the customer to check:\n");
    let mut number = 0;
    let mut add = |line: String| {
        number += 1;
        text.push_str(&format!("{number}. {line}\n"));
    };
    let cross_account = customer.bucket_owner != customer.role_arn.account_id();
    let owner = format!(
        "bucket owner: bucket '{}' must belong to account {}; set bucket_owner if it belongs to another",
        customer.bucket, customer.bucket_owner
    );
    if cross_account {
        add(owner.clone());
    }
    add(format!("role policy: {}", role_statement(customer)));
    let bucket = if cross_account {
        paste(
            "bucket policy: the role is of another account, so the bucket needs this statement",
            &policy::bucket(customer),
        )
    } else {
        "bucket policy: no Deny statement may match the role".to_owned()
    };
    add(bucket);
    if customer.acl.is_some() {
        add(format!(
            "ACL: the profile asks for one; remove acl from customer '{}' or allow s3:PutObjectAcl",
            customer.name
        ));
    } else if cross_account {
        add(format!(
            "ACL: the bucket's policy may demand bucket-owner-full-control; then set acl of customer '{}'",
            customer.name
        ));
    }
    if customer.encryption != Encryption::S3 {
        let role = paste(
            "KMS: if the objects are encrypted with a KMS key, the role needs this statement",
            &policy::kms(customer),
        );
        let key = paste("and the key's policy this one, if it does not leave it to IAM", &policy::of_key(customer));
        add(format!("{role}\n{key}"));
    }
    if !cross_account {
        add(owner);
    }
    text.truncate(text.trim_end().len());
    text
}
