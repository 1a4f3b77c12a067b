//! Writes that depend on what is there.

use s3s::dto::ETagCondition;
use s3s::{S3Error, S3Result, s3_error};

use super::Shared;
use super::store::{Reservation, StoredObject};

/// `If-None-Match` and `If-Match` of a write.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>
pub(super) enum Condition {
    None,
    Absent,
    Matches(ETagCondition),
}

impl Condition {
    pub fn new(if_match: Option<ETagCondition>, if_none_match: Option<ETagCondition>) -> S3Result<Self> {
        match (if_match, if_none_match) {
            (None, None) => Ok(Self::None),
            (None, Some(ETagCondition::Any)) => Ok(Self::Absent),
            (Some(etag), None) => Ok(Self::Matches(etag)),
            _ => Err(s3_error!(NotImplemented, "A header you provided implies functionality that is not implemented")),
        }
    }

    /// Refuses early what can be refused early, and keeps other conditional writes of the key out.
    pub fn begin<'a>(&self, shared: &'a Shared, bucket: &str, key: &str) -> S3Result<Option<Reservation<'a>>> {
        if matches!(self, Self::None) {
            return Ok(None);
        }
        let conflict =
            "A conflicting conditional operation is currently in progress against this resource. Please try again.";
        let reservation =
            shared.store.reserve(bucket, key).ok_or_else(|| s3_error!(ConditionalRequestConflict, "{conflict}"))?;
        self.holds(shared.store.object(bucket, key).as_ref())?;
        Ok(Some(reservation))
    }

    pub fn check(&self, before: Option<&StoredObject>) -> Result<(), CommitError> {
        self.holds(before).map_err(CommitError)
    }

    fn holds(&self, before: Option<&StoredObject>) -> S3Result<()> {
        match (self, before) {
            (Self::None, _) | (Self::Absent, None) | (Self::Matches(ETagCondition::Any), Some(_)) => Ok(()),
            (Self::Matches(ETagCondition::ETag(etag)), Some(before)) if etag.value() == before.etag => Ok(()),
            (Self::Matches(_), None) => Err(s3_error!(NoSuchKey, "The specified key does not exist.")),
            _ => Err(precondition_failed()),
        }
    }
}

/// Lets a commit fail for the disk's reasons or for S3's.
pub(super) struct CommitError(S3Error);

impl From<std::io::Error> for CommitError {
    fn from(error: std::io::Error) -> Self {
        Self(S3Error::internal_error(error))
    }
}

impl From<CommitError> for S3Error {
    fn from(error: CommitError) -> Self {
        error.0
    }
}

pub(super) fn precondition_failed() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}
