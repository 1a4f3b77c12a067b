//! Where a delivery goes, as it is written down: profiles change, and an upload
//! is only where it was made.

use super::{AccountId, BucketName};

/// A customer's bucket, and the key that the delivery's manifest has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// `aws.endpoint_url`; None for AWS itself.
    pub endpoint: Option<String>,
    pub bucket: BucketName,
    pub owner: AccountId,
    /// Full key in the bucket.
    pub manifest_key: String,
}

impl Destination {
    /// Whether what was stored there is found from here.
    pub fn is_same_bucket(&self, other: &Destination) -> bool {
        (&self.endpoint, &self.bucket, &self.owner) == (&other.endpoint, &other.bucket, &other.owner)
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bucket '{}' of account {}", self.bucket, self.owner)?;
        match &self.endpoint {
            Some(endpoint) => write!(f, " at {endpoint}"),
            None => Ok(()),
        }
    }
}
