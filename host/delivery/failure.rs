//! What the SDK reports → which layer failed, and what to do about it.
//!
//! `docs/delivery.md` has the same as a table; `tests/delivery/layers.rs` holds
//! the rows of it that matter most against answers on the wire.

pub(super) mod denied;
pub(super) mod sts;

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::policy;
use crate::config::Customer;
use crate::domain::{Asked, Failure, Layer, Leaves, Retry};

/// What was being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    AssumeRole,
    CreateUpload,
    UploadPart,
    CompleteUpload,
    AbortUpload,
    ListUploads,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::AssumeRole => "AssumeRole",
            Operation::CreateUpload => "CreateMultipartUpload",
            Operation::UploadPart => "UploadPart",
            Operation::CompleteUpload => "CompleteMultipartUpload",
            Operation::AbortUpload => "AbortMultipartUpload",
            Operation::ListUploads => "ListMultipartUploads",
        }
    }
}

/// An SDK error, stripped of its type.
#[derive(Debug)]
pub(super) struct Fault {
    kind: Kind,
    pub(super) code: String,
    message: String,
    pub(super) status: u16,
    request_id: Option<String>,
    /// `x-amz-bucket-region`.
    region: Option<String>,
}

#[derive(Debug)]
enum Kind {
    /// Our own credentials provider has already said why.
    Known(Failure),
    /// The SDK found no credentials of the vendor's own.
    NoIdentity,
    /// The request was never made.
    Request,
    Timeout,
    Connection,
    /// An answer that is none.
    Garbled,
    Answer,
}

impl Fault {
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let header = |name| error.raw_response().and_then(|r| r.headers().get(name)).map(str::to_owned);
        let service = error.as_service_error();
        let kind = match (known(error), error) {
            (Some(failure), _) => Kind::Known(failure.clone()),
            _ if no_identity(error) => Kind::NoIdentity,
            (_, SdkError::ConstructionFailure(_)) => Kind::Request,
            (_, SdkError::TimeoutError(_)) => Kind::Timeout,
            (_, SdkError::DispatchFailure(f)) if f.is_timeout() => Kind::Timeout,
            (_, SdkError::DispatchFailure(f)) if f.is_user() => Kind::Request,
            (_, SdkError::DispatchFailure(_)) => Kind::Connection,
            (_, SdkError::ServiceError(_)) => Kind::Answer,
            _ => Kind::Garbled,
        };
        Self {
            kind,
            code: service.and_then(|e| e.code()).unwrap_or_default().to_owned(),
            message: match service.and_then(|e| e.message()) {
                Some(message) => message.to_owned(),
                None => causes(error),
            },
            status: error.raw_response().map_or(0, |r| r.status().as_u16()),
            request_id: header("x-amz-request-id").or_else(|| header("x-amzn-requestid")),
            region: header("x-amz-bucket-region"),
        }
    }

    /// A failure that was diagnosed elsewhere.
    pub(super) fn known(failure: Failure) -> Self {
        Self { kind: Kind::Known(failure), ..Self::garbled("") }
    }

    /// An answer that says yes and holds nothing.
    pub(super) fn garbled(message: &str) -> Self {
        Self {
            kind: Kind::Garbled,
            code: String::new(),
            message: message.to_owned(),
            status: 200,
            request_id: None,
            region: None,
        }
    }

    /// The session's token is no longer good; a new session may be.
    pub(super) fn wants_new_session(&self) -> bool {
        matches!(self.code.as_str(), "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired")
    }

    /// AWS names what is wrong. A proxy, firewall or portal that answers in its place does not.
    fn is_of_aws(&self) -> bool {
        !self.code.is_empty() || self.region.is_some()
    }

    /// What KMS could not do passes by itself (KMS API Reference, "Common errors" and "GenerateDataKey"; S3 has its codes
    /// with `KMS.` before them).
    fn is_of_kms_now(&self) -> bool {
        self.status >= 500
            || self.status == 429
            || matches!(
                self.code.as_str(),
                "KMS.ThrottlingException"
                    | "KMS.DependencyTimeoutException"
                    | "KMS.KMSInternalException"
                    | "KMS.KeyUnavailableException"
            )
    }

    pub(super) fn no_such_upload(&self) -> bool {
        self.code == "NoSuchUpload"
    }

    pub(super) fn precondition_failed(&self) -> bool {
        self.code == "PreconditionFailed" || self.status == 412
    }

    pub(super) fn concurrent_write(&self) -> bool {
        self.code == "ConditionalRequestConflict"
    }

    /// S3 has looked at the bytes, and they are not those that it was told of.
    fn is_of_bytes(&self) -> bool {
        matches!(
            self.code.as_str(),
            "BadDigest"
                | "InvalidDigest"
                | "XAmzContentChecksumMismatch"
                | "XAmzContentSHA256Mismatch"
                | "InvalidPart"
                | "IncompleteBody"
        )
    }

    /// The upload is there, nothing has completed it, and its parts never become what was sent: one of them may have
    /// been stored once more by a request that came late, under another ETag.
    fn never_completes(&self) -> bool {
        matches!(
            self.code.as_str(),
            "InvalidPart" | "BadDigest" | "XAmzContentChecksumMismatch" | "InvalidPartOrder" | "EntityTooSmall"
        )
    }
}

/// Turns a fault into what the ledger keeps and the operator reads. `on` is the
/// key or role that the operation was about.
pub(super) fn diagnose(fault: &Fault, operation: Operation, on: &str, customer: &Customer) -> Failure {
    if let Kind::Known(failure) = &fault.kind {
        return failure.clone();
    }
    let (layer, retry, remedy) = match no_answer(&fault.kind) {
        Some(verdict) => verdict,
        None if operation == Operation::AssumeRole => sts::role(fault, customer),
        None => of_s3(fault, customer),
    };
    let asked = match operation {
        // By a policy of the vendor's.
        _ if layer == Layer::Identity && fault.code.starts_with("AccessDenied") => Asked::Vendor,
        Operation::AssumeRole => Asked::Sts,
        _ => Asked::S3,
    };
    let is_torn = fault.no_such_upload() || (operation == Operation::CompleteUpload && fault.never_completes());
    let leaves = if is_torn { Leaves::Torn } else { Leaves::Whole };
    Failure {
        asked: Some(asked),
        answered: fault.is_of_bytes(),
        leaves,
        ..Failure::new(layer, retry, describe(fault, operation, on, customer), remedy)
    }
}

/// Why the vendor does not get to know who it is.
pub(super) fn no_caller(fault: &Fault) -> Failure {
    if let Kind::Known(failure) = &fault.kind {
        return failure.clone();
    }
    let (layer, retry, remedy) = match no_answer(&fault.kind) {
        Some(verdict) => verdict,
        None => sts::keys(fault),
    };
    Failure::new(layer, retry, told("GetCallerIdentity of the vendor's own identity", fault), remedy)
}

pub(super) const CLOCK: &str =
    "set this machine's clock: run an NTP client; AWS refuses requests more than 15 minutes off";

const IN_ITS_PLACE: &str = "something between here and the endpoint answered in its place, or cut the answer off";

/// What no answer of AWS's means.
fn no_answer(kind: &Kind) -> Option<Verdict> {
    Some(match kind {
        // The service that has it may be down, or it is being renewed: no customer's slot is given up for that.
        Kind::NoIdentity => (
            Layer::Identity,
            Retry::Later,
            "give consign an AWS identity of its own: [aws] credentials or profile, the AWS_* environment, or an instance, \
             container or web identity role"
                .to_owned(),
        ),
        Kind::Request => (Layer::Config, Retry::Never, "the request could not even be built; check [aws]".to_owned()),
        Kind::Timeout => (
            Layer::Network,
            Retry::Later,
            "check the way to the endpoint, or raise [aws] attempt_timeout and operation_timeout on slow lines".to_owned(),
        ),
        Kind::Connection => (
            Layer::Network,
            Retry::Later,
            "check DNS, routes, firewall and TLS roots between here and the endpoint".to_owned(),
        ),
        Kind::Garbled => (Layer::Network, Retry::Later, IN_ITS_PLACE.to_owned()),
        Kind::Known(_) | Kind::Answer => return None,
    })
}

pub(super) type Verdict = (Layer, Retry, String);

fn of_s3(fault: &Fault, customer: &Customer) -> Verdict {
    match fault.code.as_str() {
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => denied::object(&fault.message, customer),
        code if code.starts_with("KMS.") && fault.is_of_kms_now() => later(
            Layer::Kms,
            "KMS of the customer's account could not do it at this moment: deliver again later, and fewer at a time if it says that it \
             is throttled",
        ),
        code if code.starts_with("KMS.") => denied::kms(&fault.message, customer),
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "Redirect" => wrong_region(fault, customer),
        // A proxy redirects too. S3 says where to, or at least that it is S3.
        _ if matches!(fault.status, 301 | 307 | 308) && fault.is_of_aws() => wrong_region(fault, customer),
        "NoSuchBucket" => never(
            Layer::Bucket,
            format!(
                "check the bucket name '{}' of the profile; if it is right, the customer has deleted the bucket",
                customer.bucket
            ),
        ),
        "NoSuchUpload" => later(
            Layer::Bucket,
            "somebody else has ended the upload: a lifecycle rule that ends uploads after a day or more is right, anything \
             faster is not. The delivery begins anew",
        ),
        "AccessControlListNotSupported" => {
            never(Layer::Acl, format!("the bucket has ACLs disabled: remove acl from customer '{}'", customer.name))
        }
        "InvalidStorageClass" => never(Layer::Config, "set storage_class to one that this bucket's region has"),
        "InvalidTag" => never(
            Layer::Config,
            "check tags: at most 10, keys of 1-128 and values of 0-256 letters, digits and + - = . _ : / @",
        ),
        "InvalidAccessKeyId" | "InvalidToken" => later(
            Layer::Region,
            "S3 does not know the session's token: the customer's region may be an opt-in region that has not learnt of it yet, or \
             the STS endpoint belongs to another partition",
        ),
        "ExpiredToken" => later(
            Layer::Identity,
            "sessions expire as soon as they begin: check this machine's clock and [aws] session_duration",
        ),
        _ if fault.is_of_bytes() => later(
            Layer::Network,
            "bytes were changed on their way, or came once more and too late. What was stored of the delivery begins anew; if that \
             does not help, suspect a proxy or this machine's memory",
        ),
        "EntityTooSmall" | "EntityTooLarge" | "InvalidPartOrder" => never(
            Layer::Local,
            "consign has cut parts in a way the store refuses: please report this with the store's name",
        ),
        "OperationAborted" | "ConditionalRequestConflict" => later(
            Layer::Conflict,
            "somebody else writes the same key at this moment; is another consign running with this profile?",
        ),
        "PreconditionFailed" => never(Layer::Conflict, String::new()),
        "NotImplemented" => never(
            Layer::Config,
            "the store behind [aws] endpoint_url lacks something that S3 has; the message names it",
        ),
        _ => of_both(fault),
    }
}

/// What STS and S3 say in the same words.
fn of_both(fault: &Fault) -> Verdict {
    match fault.code.as_str() {
        "RequestTimeTooSkewed" | "RequestExpired" | "InvalidSignatureException" => later(Layer::Clock, CLOCK),
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "BandwidthLimitExceeded" => {
            later(Layer::Network, "AWS asks for fewer requests: deliver again later, and fewer at a time if it stays")
        }
        "RequestTimeout" => later(Layer::Network, "the endpoint gave up waiting for bytes: check the line"),
        _ if fault.status == 429 => later(Layer::Network, "the endpoint asks for fewer requests: deliver again later"),
        _ if fault.status >= 500 || fault.status == 200 => {
            later(Layer::Network, "a fault on the other side: deliver again later")
        }
        "SignatureDoesNotMatch" => never(
            Layer::Identity,
            "something on the way rewrites requests, or the secret key is wrong: check proxies and [aws]",
        ),
        "InvalidRequest" | "InvalidArgument" | "MalformedXML" | "InvalidBucketName" | "MethodNotAllowed"
        | "KeyTooLongError" => never(Layer::Config, "the message names the setting that the store does not take"),
        // Every request of consign's has an error's code in its answer, if AWS has answered: none is a HEAD, whose answers have no body.
        "" => later(
            Layer::Network,
            format!("{IN_ITS_PLACE}: look at proxies, firewalls and VPN on the way, and have them let this through"),
        ),
        // An unknown refusal is no reason to give up a slot for good, but 403 does not heal by itself.
        _ if fault.status == 403 => {
            never(Layer::RolePolicy, "the message is all there is; ask the customer what refuses the role")
        }
        _ => later(Layer::Network, "the message is all there is"),
    }
}

fn wrong_region(fault: &Fault, customer: &Customer) -> Verdict {
    // AuthorizationHeaderMalformed: "... the region 'us-east-1' is wrong; expecting 'eu-west-1'".
    let told = || fault.message.split_once("expecting '")?.1.split_once('\'').map(|(region, _)| region.to_owned());
    match fault.region.clone().or_else(told) {
        Some(region) => never(
            Layer::Region,
            format!("set region = \"{region}\" for customer '{}': that is where the bucket is", customer.name),
        ),
        None => never(
            Layer::Region,
            format!(
                "ask the customer for the region of bucket '{}' and set it; it is not {}",
                customer.bucket, customer.region
            ),
        ),
    }
}

fn never(layer: Layer, remedy: impl Into<String>) -> Verdict {
    (layer, Retry::Never, remedy.into())
}

fn later(layer: Layer, remedy: impl Into<String>) -> Verdict {
    (layer, Retry::Later, remedy.into())
}

/// `UploadPart of uploads/x.csv in bucket 'b' was refused: 403 AccessDenied, Access Denied (request id R)`
fn describe(fault: &Fault, operation: Operation, on: &str, customer: &Customer) -> String {
    let place = match operation {
        Operation::AssumeRole => format!("of {on} for customer '{}'", customer.name),
        _ => format!("of '{on}' in bucket '{}' of customer '{}'", customer.bucket, customer.name),
    };
    told(&format!("{} {place}", operation.name()), fault)
}

fn told(request: &str, fault: &Fault) -> String {
    let what = match &fault.kind {
        Kind::NoIdentity => "could not be signed, because there are no vendor credentials".to_owned(),
        Kind::Request => "could not be made".to_owned(),
        Kind::Timeout => "got no answer in time".to_owned(),
        Kind::Connection => "did not get through".to_owned(),
        Kind::Garbled => "got an answer that is no answer of AWS's".to_owned(),
        Kind::Known(_) | Kind::Answer => {
            let code = if fault.code.is_empty() { "no error code" } else { &fault.code };
            format!("was answered with {} {code}", fault.status)
        }
    };
    let mut text = format!("{request} {what}");
    if !fault.message.is_empty() {
        text.push_str(": ");
        text.push_str(fault.message.trim_end_matches('.'));
    }
    if let Some(id) = &fault.request_id {
        text.push_str(&format!(" (request id {id})"));
    }
    text
}

fn role_name(customer: &Customer) -> &str {
    customer.role_arn.as_str().rsplit('/').next().unwrap_or_default()
}

/// The causes of an SDK error, without the SDK's own frame around them.
fn causes(error: &(dyn Error + 'static)) -> String {
    error.source().map(Failure::chain).unwrap_or_else(|| error.to_string())
}

fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |e: &&'a (dyn Error + 'static)| (*e).source())
}

fn known<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Failure> {
    sources(error).find_map(|e| e.downcast_ref::<Failure>())
}

fn no_identity(error: &(dyn Error + 'static)) -> bool {
    sources(error).any(|e| e.is::<aws_credential_types::provider::error::CredentialsError>())
}

/// The text of a conflict, which only the manifest can have.
pub(super) fn conflict(on: &str, customer: &Customer, provable: bool) -> Failure {
    let message = if provable {
        format!("'{on}' is already in bucket '{}', and this attempt did not write it", customer.bucket)
    } else {
        format!(
            "'{on}' is already in bucket '{}', and whether an earlier request of this attempt wrote it cannot be told without \
             reading, which customers do not grant",
            customer.bucket
        )
    };
    if !provable {
        let remedy = "have the customer look at the field \"run\" in it: it says whose it is";
        return Failure::new(Layer::Conflict, Retry::Never, message, remedy);
    }
    Failure::new(
        Layer::Conflict,
        Retry::Never,
        message,
        format!(
            "a delivery for this slot and customer '{}' is committed there. Look at the field \"run\" in it: if it is this run, all is \
             well; otherwise another consign delivers with this profile, or the ledger was lost, or restored without \
             `consign ledger restored`. Objects with the keys of this slot may have been replaced by this try: where the data have changed \
             since, they are not those of the manifest any more. To deliver again, have the customer delete '{on}' first",
            customer.name
        ),
    )
}

/// The same of an object that is to be new: the ledger knows of none that may have put it there.
pub(super) fn taken(on: &str, customer: &Customer) -> Failure {
    Failure::new(
        Layer::Conflict,
        Retry::Never,
        format!(
            "'{on}' is already in bucket '{}', and as far as the ledger knows nothing of this slot was delivered to customer '{}'; \
             nothing was replaced",
            customer.bucket, customer.name
        ),
        "have the customer look for the slot's _manifest.json beside it. If that is there, the slot was delivered: by another consign \
         with this profile, or by this one before its ledger was lost, restored or pruned, and nothing is to be done. If it is not \
         there, this is what a delivery left that never ended: have the customer delete the objects of the slot, and deliver it again",
    )
}

/// A statement for a remedy.
pub(super) fn paste(what: &str, statement: &serde_json::Value) -> String {
    format!("{what}:\n{}", policy::pretty(statement))
}
