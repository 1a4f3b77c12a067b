//! The policy that narrows consign's own sessions; the others are in [`crate::policy`].

use serde_json::{Value, json};

pub(super) use crate::policy::{also_trusts, assume, bucket, kms, lifecycle, objects, of_key, pretty, trust};

use crate::config::Customer;
use crate::domain::{Failure, Layer, Retry};
use crate::policy;

/// STS API Reference, AssumeRole, `Policy`: at most 2,048 characters, none above U+00FF.
const SESSION_POLICY_CHARS_MAX: usize = 2048;

/// What a session of the customer's role may do at most: write and abort under
/// the customer's prefix. The effective rights are those of the role *and* of
/// this policy, so it can only take away.
pub(super) fn session(customer: &Customer) -> Result<String, Failure> {
    narrowing(customer, policy::session(customer))
}

/// The same for what is only tried, whichever key the bucket encrypts with.
pub(super) fn session_for_any_key(customer: &Customer) -> Result<String, Failure> {
    narrowing(customer, policy::session_for_any_key(customer))
}

/// The same for a session that looks for uploads which nobody knows of.
pub(super) fn listing_session(customer: &Customer) -> Result<String, Failure> {
    let mut policy = policy::session(customer);
    let bucket = format!("arn:{}:s3:::{}", customer.role_arn.partition(), customer.bucket);
    if let Some(Value::Array(statements)) = policy.get_mut("Statement") {
        statements.push(json!({ "Effect": "Allow", "Action": "s3:ListBucketMultipartUploads", "Resource": bucket }));
    }
    narrowing(customer, policy)
}

fn narrowing(customer: &Customer, policy: Value) -> Result<String, Failure> {
    let policy = policy::ascii(&policy.to_string());
    let length = policy.len();
    if length > SESSION_POLICY_CHARS_MAX {
        return Err(Failure::new(
            Layer::Config,
            Retry::Never,
            format!(
                "the session policy for customer '{}' has {length} characters, STS takes at most {SESSION_POLICY_CHARS_MAX}",
                customer.name
            ),
            format!(
                "shorten the prefix '{}' by {}; what is not ASCII in it counts as 6 characters (\\uXXXX), or 12",
                customer.prefix,
                length - SESSION_POLICY_CHARS_MAX
            ),
        ));
    }
    Ok(policy)
}
