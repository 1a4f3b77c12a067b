//! Whether a customer's set-up would take a delivery, found out without leaving anything in the
//! bucket: sessions that are thrown away, and uploads that are begun and aborted.
//!
//! Only what deliveries need is asked for: `sts:AssumeRole`, `s3:PutObject`, and the right to abort
//! what one has begun. Nothing is read, listed or looked up, because customers do not grant that.

mod caller;
mod role;
mod uploads;

use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use caller::Caller;

use super::bucket::Bucket;
use super::vendor::Vendor;
use super::{policy, session::AssumeRole};
use crate::config::Customer;
use crate::domain::{CustomerName, Failure, Layer, Retry};
pub use role::exposure;
use uploads::Uploads;

/// The name of its sessions, which customers read in CloudTrail.
const SESSION_NAME: &str = "consign-preflight";

/// What is looked at, in the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    Identity,
    Clock,
    Role,
    WithoutExternalId,
    WrongExternalId,
    Session,
    Region,
    Owner,
    Write,
    Encryption,
    StorageClass,
    Acl,
    Tags,
    Outside,
    NothingLeft,
}

impl Check {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Check::Identity => "identity of the vendor",
            Check::Clock => "clock",
            Check::Role => "role can be assumed",
            Check::WithoutExternalId => "not without external ID",
            Check::WrongExternalId => "not with a wrong one",
            Check::Session => "length of sessions",
            Check::Region => "region",
            Check::Owner => "bucket owner",
            Check::Write => "write in the prefix",
            Check::Encryption => "encryption",
            Check::StorageClass => "storage class",
            Check::Acl => "ACL",
            Check::Tags => "tags",
            Check::Outside => "not outside of it",
            Check::NothingLeft => "nothing left behind",
        }
    }
}

/// What came of a check, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Ok,
    /// Another check has to do well first.
    NotTried,
    /// Deliveries work, and something should be set right all the same.
    Warning,
    /// Deliveries cannot work.
    Failed,
    /// Deliveries may work, and somebody else may get at the customer's data.
    Critical,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::NotTried => "not tried",
            Outcome::Warning => "warning",
            Outcome::Failed => "failed",
            Outcome::Critical => "critical",
        }
    }
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: Check,
    pub outcome: Outcome,
    /// What was found, or why it was not tried.
    pub message: String,
    /// What to start from; None where nothing is wrong.
    pub layer: Option<Layer>,
    /// What to do, with the policy to paste; empty where nothing is to be done.
    pub remedy: String,
    /// It cannot be tried of this customer, and deliveries need it not: that keeps nobody from being ready.
    #[serde(skip)]
    left_out: bool,
}

impl Finding {
    fn ok(check: Check, message: impl Into<String>) -> Self {
        Self {
            check,
            outcome: Outcome::Ok,
            message: message.into(),
            layer: None,
            remedy: String::new(),
            left_out: false,
        }
    }

    fn not_tried(check: Check, why: impl Into<String>) -> Self {
        Self { outcome: Outcome::NotTried, ..Self::ok(check, why) }
    }

    fn left_out(check: Check, why: impl Into<String>) -> Self {
        Self { left_out: true, ..Self::not_tried(check, why) }
    }

    fn of(check: Check, outcome: Outcome, failure: Failure) -> Self {
        let Failure { layer, message, remedy, .. } = failure;
        Self { check, outcome, message, layer: Some(layer), remedy, left_out: false }
    }

    fn failed(check: Check, failure: Failure) -> Self {
        Self::of(check, Outcome::Failed, failure)
    }

    fn warning(check: Check, layer: Layer, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::of(check, Outcome::Warning, Failure::new(layer, Retry::Never, message, remedy))
    }
}

/// An upload that could not be aborted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftUpload {
    pub bucket: String,
    pub key: String,
    pub upload_id: String,
}

/// What was found of one customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Preflight {
    pub customer: CustomerName,
    pub role_arn: String,
    pub bucket: String,
    pub bucket_owner: String,
    pub region: String,
    pub prefix: String,
    /// Deliveries work, and nobody else gets in: that was tried, too.
    pub ready: bool,
    /// In the order of [`Check`]; those that the profile does not ask for are left out.
    pub checks: Vec<Finding>,
    /// Uploads that stay in the bucket.
    pub left: Vec<LeftUpload>,
}

impl Preflight {
    fn new(customer: &Customer, mut checks: Vec<Finding>, left: Vec<LeftUpload>) -> Self {
        checks.sort_by_key(|finding| finding.check);
        let is_fine = |finding: &Finding| matches!(finding.outcome, Outcome::Ok | Outcome::Warning);
        Self {
            customer: customer.name.clone(),
            role_arn: customer.role_arn.to_string(),
            bucket: customer.bucket.to_string(),
            bucket_owner: customer.bucket_owner.to_string(),
            region: customer.region.to_string(),
            prefix: customer.prefix.to_string(),
            ready: checks.iter().all(|finding| is_fine(finding) || finding.left_out),
            checks,
            left,
        }
    }

    pub fn count(&self, outcome: Outcome) -> usize {
        self.checks.iter().filter(|finding| finding.outcome == outcome).count()
    }
}

/// Looks at customers, one at a time or several.
pub struct Probe {
    vendor: Vendor,
    caller: Caller,
    stop: CancellationToken,
}

impl Probe {
    /// Asks STS who the vendor is, and what time it is. `stop` has no further check begin.
    pub async fn new(vendor: Vendor, stop: CancellationToken) -> Self {
        let caller = Caller::ask(&vendor).await;
        Self { vendor, caller, stop }
    }

    pub async fn customer(&self, customer: &Arc<Customer>) -> Preflight {
        let mut checks = self.caller.findings();
        if let Some(why) = self.caller.in_the_way().or(self.stopped()) {
            checks.extend(role::CHECKS.map(|check| Finding::not_tried(check, why)));
            checks.extend(uploads::checks(customer).into_iter().map(|check| Finding::not_tried(check, why)));
            return Preflight::new(customer, checks, Vec::new());
        }
        let (found, assumed) = role::look(self, customer).await;
        checks.extend(found);
        let mut uploads = match assumed {
            Ok(session) => Uploads::new(self, customer, session),
            Err(why) => {
                checks.extend(uploads::checks(customer).into_iter().map(|check| Finding::not_tried(check, why)));
                return Preflight::new(customer, checks, Vec::new());
            }
        };
        uploads.look().await;
        let (found, left) = uploads.end();
        checks.extend(found);
        Preflight::new(customer, checks, left)
    }

    fn stopped(&self) -> Option<&'static str> {
        self.stop.is_cancelled().then_some("stopped")
    }
}

/// A session of this role; `policy` narrows it.
fn request(customer: &Arc<Customer>, policy: Option<String>) -> AssumeRole {
    let (name, duration) = (SESSION_NAME.to_owned(), role::SHORTEST);
    AssumeRole { policy, name, duration, customer: customer.clone() }
}

/// What a delivery needs before anything else: the role, and an upload in the prefix that is begun,
/// filled and aborted. Leaves nothing, as far as that can be known.
///
/// # Errors
/// What keeps deliveries from working, as they would tell it.
pub async fn essential(vendor: &Vendor, customer: &Arc<Customer>) -> Result<(), Failure> {
    let request = AssumeRole {
        policy: Some(policy::session(customer)?),
        name: SESSION_NAME.to_owned(),
        duration: vendor.aws().session_duration,
        customer: customer.clone(),
    };
    let bucket = Bucket::under(vendor, customer, vendor.session_of(request));
    bucket.open().await?;
    let (tried, left) = uploads::one(&bucket).await;
    // A delivery does not abort what goes well.
    if let Some((LeftUpload { bucket, key, upload_id }, failure)) = left {
        tracing::warn!(bucket, key, upload_id, failure = %failure, "an upload that was only tried could not be aborted");
    }
    for key in bucket.doubtful() {
        let Customer { name, bucket, .. } = &**customer;
        tracing::warn!(
            customer = %name, %bucket, key,
            "S3 did not answer when an upload was begun that was only tried: one may be left, invisible and empty, until a rule of the \
             bucket's lifecycle ends it"
        );
    }
    tried
}
