//! The policy that narrows consign's own sessions; the others are in [`crate::policy`].

pub(super) use crate::policy::{assume, bucket, kms, objects, pretty, trust};

use crate::config::Customer;
use crate::domain::{Failure, Layer, Retry};
use crate::policy;

/// STS API Reference, AssumeRole, `Policy`: at most 2,048 characters, none above U+00FF.
const SESSION_POLICY_CHARS_MAX: usize = 2048;

/// What a session of the customer's role may do at most: write and abort under
/// the customer's prefix. The effective rights are those of the role *and* of
/// this policy, so it can only take away.
pub(super) fn session(customer: &Customer) -> Result<String, Failure> {
    let policy = policy::ascii(&policy::session(customer).to_string());
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
