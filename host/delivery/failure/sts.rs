//! What STS says: of a customer's role, and of the vendor's own credentials.

use super::{CLOCK, Fault, Kind, Verdict, denied, later, never, of_both, role_name};
use crate::config::Customer;
use crate::domain::Layer;

impl Fault {
    /// STS is switched off in that region for the role's account; or the vendor's account, which has not enabled a region
    /// that has to be opted into, is unknown there (IAM User Guide, "Manage AWS STS in an AWS Region"). STS of another region
    /// may grant the role.
    pub(in crate::delivery) fn is_of_region(&self) -> bool {
        self.code == "RegionDisabledException" || self.is_unknown_key()
    }

    /// The vendor's own credentials are none, or none that are good now: others may be there by then.
    pub(in crate::delivery) fn is_of_vendor(&self) -> bool {
        let is_refused = matches!(
            self.code.as_str(),
            "ExpiredToken" | "ExpiredTokenException" | "InvalidAccessKeyId" | "SignatureDoesNotMatch"
        );
        is_refused || self.is_unknown_key() || matches!(self.kind, Kind::NoIdentity)
    }

    /// Nobody has that access key, or nobody in that region.
    pub(in crate::delivery) fn is_unknown_key(&self) -> bool {
        matches!(self.code.as_str(), "InvalidClientTokenId" | "UnrecognizedClientException")
    }
}

/// What it says when a role is asked for.
pub(super) fn role(fault: &Fault, customer: &Customer) -> Verdict {
    let message = fault.message.as_str();
    match fault.code.as_str() {
        "AccessDenied" | "AccessDeniedException" => denied::assume_role(message, customer),
        "ValidationError" if message.contains("role chaining") => never(
            Layer::Config,
            "consign runs as a role itself, and a role assumed by a role lasts an hour at most: set [aws] session_duration = \"1h\" or less",
        ),
        // A property of the customer's role, which keeps everything from it until somebody sets it right.
        "ValidationError" if message.contains("DurationSeconds") => never(
            Layer::RolePolicy,
            format!(
                "set [aws] session_duration to what the role allows (1h unless its owner raised it), or ask the customer to raise \
                 the maximum session duration: aws iam update-role --role-name {} --max-session-duration <seconds>",
                role_name(customer)
            ),
        ),
        "ValidationError" => never(Layer::Config, "check role_arn, external_id and prefix of the customer's profile"),
        "PackedPolicyTooLarge"
        | "PackedPolicyTooLargeException"
        | "MalformedPolicyDocument"
        | "MalformedPolicyDocumentException" => never(
            Layer::Config,
            format!("shorten or simplify the prefix '{}': it is part of the session policy", customer.prefix),
        ),
        // IAM User Guide, "Manage AWS STS in an AWS Region": it matters where the credentials are made.
        "RegionDisabledException" => never(
            Layer::Region,
            format!(
                "ask the customer to activate STS in {} for account {}, which the role is in (IAM console, Account settings), or \
                 set [aws] region to one where that account has it active. A region that has to be opted into must be enabled for \
                 the vendor's account too",
                customer.region,
                customer.role_arn.account_id()
            ),
        ),
        _ => keys(fault),
    }
}

/// Where there is no other STS to ask, which could tell one from the other.
pub(in crate::delivery) fn unknown_to_the_only_one(customer: &Customer) -> String {
    let region = &customer.region;
    format!(
        "if {region} is a region that has to be opted into, enable it for the vendor's account (aws account enable-region \
         --region-name {region}), or set [aws] region to another one of its partition, whose STS is asked then. Otherwise check \
         the access key, its secret and that it is active, and that it is of the partition of {region}. {RENEWED}"
    )
}

/// What then takes what was renewed.
const RENEWED: &str = "A profile file that is renewed is read again by itself; a new secret of /etc/consign/credentials, \
                       or of the environment, needs a restart of consign";

/// What STS says of the vendor's own credentials. It concerns every delivery alike and is set right in one place, and a new
/// key is not known everywhere at once: so all of them are tried again.
pub(super) fn keys(fault: &Fault) -> Verdict {
    // A signature has the time in it. S3 has a code of its own for one that is off.
    let of_time = ["Signature expired", "Signature not yet current", "not valid at this time"];
    match fault.code.as_str() {
        "SignatureDoesNotMatch" if of_time.iter().any(|words| fault.message.contains(words)) => {
            later(Layer::Clock, CLOCK)
        }
        "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "InvalidIdentityToken" => later(
            Layer::Identity,
            format!(
                "STS does not accept the vendor's own credentials: check the access key, its secret and that it is active. {RENEWED}"
            ),
        ),
        "ExpiredToken" | "ExpiredTokenException" => later(
            Layer::Identity,
            format!("the vendor's own session has expired: renew what consign runs as. {RENEWED}"),
        ),
        _ => of_both(fault),
    }
}
