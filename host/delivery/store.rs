//! Where a delivery goes: a customer's bucket, a directory that looks like one, or
//! nowhere, to see what it would be.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::bucket::{Bucket, Completing, Incomplete, Part};
use super::contents::Contents;
use super::directory::Directory;
use super::nowhere::Nowhere;
use super::parts::PARTS_MAX;
use super::policy;
use super::vendor::Vendor;
use crate::clock::Instant;
use crate::config::Customer;
use crate::domain::{
    Completion, Failure, Invalid, Layer, Leaves, ObjectKey, Retry, Role, RunId, SealedObject, SealedPart,
};

/// Where a delivery goes.
#[derive(Clone)]
pub struct Target(pub(super) Arc<Store>);

pub(super) enum Store {
    Bucket(Box<Bucket>),
    Directory(Directory),
    Nowhere(Nowhere),
}

/// An upload that has no parts yet.
#[derive(Clone, Debug)]
pub(super) struct Created {
    pub(super) upload_id: String,
    pub(super) created: Instant,
    /// The store will check the whole object's checksum.
    pub(super) full_checksum: bool,
}

/// What the store says of a complete object.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Without quotes; empty when the reply that said it was lost.
    pub(super) etag: String,
}

impl Target {
    /// Whether a session can be narrowed to this profile's prefix. Asks nobody.
    ///
    /// # Errors
    /// When the prefix does not fit a session policy.
    pub fn check(customer: &Customer) -> Result<(), Failure> {
        policy::session(customer).map(drop)
    }

    /// The customer's bucket, under a session of the customer's role named after the run.
    ///
    /// # Errors
    /// When the prefix does not fit a session policy.
    pub fn bucket(vendor: &Vendor, customer: &Arc<Customer>, run: RunId) -> Result<Self, Failure> {
        Ok(Self(Arc::new(Store::Bucket(Box::new(Bucket::new(vendor, customer, run)?)))))
    }

    /// The same for what is stored there already, by whichever key of KMS that is encrypted: the profile may name another
    /// one since.
    ///
    /// # Errors
    /// When the prefix does not fit a session policy.
    pub fn stored(vendor: &Vendor, customer: &Arc<Customer>, run: RunId) -> Result<Self, Failure> {
        Ok(Self(Arc::new(Store::Bucket(Box::new(Bucket::stored(vendor, customer, run)?)))))
    }

    /// Files at `root/BUCKET/KEY`, so that several customers' deliveries fit in one directory.
    pub fn directory(vendor: &Vendor, root: PathBuf, customer: &Arc<Customer>) -> Self {
        let root = root.join(customer.bucket.as_str());
        Self(Arc::new(Store::Directory(Directory::new(root, customer.clone(), vendor.clone()))))
    }

    /// Reads, formats, compresses and adds up as for the bucket, and keeps nothing.
    pub fn nowhere(vendor: &Vendor, customer: &Arc<Customer>) -> Self {
        Self(Arc::new(Store::Nowhere(Nowhere { customer: customer.clone(), vendor: vendor.clone() })))
    }

    /// Opens the customer's session, which is else opened at its first use.
    ///
    /// # Errors
    /// The role cannot be assumed.
    pub async fn open(&self) -> Result<(), Failure> {
        self.0.open().await
    }

    /// Aborts an upload that an earlier process left behind. One that is gone is no error.
    ///
    /// # Errors
    /// The key is outside the profile's prefix, or the store refuses.
    pub async fn abort_upload(&self, key: &str, upload_id: &str) -> Result<(), Failure> {
        self.0.recorded(key)?;
        self.0.abort(key, upload_id).await
    }
}

impl Store {
    pub(super) fn customer(&self) -> &Arc<Customer> {
        match self {
            Store::Bucket(bucket) => &bucket.customer,
            Store::Directory(directory) => &directory.customer,
            Store::Nowhere(nowhere) => &nowhere.customer,
        }
    }

    pub(super) fn vendor(&self) -> &Vendor {
        match self {
            Store::Bucket(bucket) => &bucket.vendor,
            Store::Directory(directory) => &directory.vendor,
            Store::Nowhere(nowhere) => &nowhere.vendor,
        }
    }

    /// Whether a key that an earlier process wrote down is still under the prefix.
    pub(super) fn recorded(&self, key: &str) -> Result<ObjectKey, Failure> {
        let customer = self.customer();
        customer.prefix.recorded(key).map_err(|Invalid(why)| {
            let remedy = format!(
                "the prefix of customer '{}' has changed since; put it back until this delivery is done",
                customer.name
            );
            Failure::new(Layer::Config, Retry::Never, format!("'{key}', as recorded, {why}"), remedy)
        })
    }

    /// Whether an upload of this age is there unless somebody ended it.
    pub(super) fn is_young(&self, created: Instant) -> bool {
        match self {
            Store::Bucket(bucket) => bucket.is_young(created),
            Store::Directory(_) | Store::Nowhere(_) => true,
        }
    }

    pub(super) async fn open(&self) -> Result<(), Failure> {
        match self {
            Store::Bucket(bucket) => bucket.open().await,
            Store::Directory(directory) => directory.open().await,
            Store::Nowhere(_) => Ok(()),
        }
    }

    pub(super) async fn create(&self, key: &ObjectKey, media_type: &str) -> Result<Created, Failure> {
        match self {
            Store::Bucket(bucket) => bucket.create(key, media_type).await,
            Store::Directory(directory) => directory.create(key).await,
            Store::Nowhere(nowhere) => Ok(nowhere.create(key)),
        }
    }

    pub(super) async fn part(&self, part: Part<'_>, contents: Contents) -> Result<SealedPart, Failure> {
        match self {
            Store::Bucket(bucket) => bucket.part(part, contents).await,
            Store::Directory(directory) => directory.part(part, contents).await,
            Store::Nowhere(nowhere) => Ok(nowhere.part(&contents)),
        }
    }

    /// Stores an object that fits into one part.
    pub(super) async fn whole(
        &self,
        role: Role,
        key: &ObjectKey,
        media_type: &str,
        created: Created,
        contents: Bytes,
    ) -> Result<SealedObject, Failure> {
        let contents = Contents::in_memory(contents);
        let (bytes, checksum) = (contents.len(), contents.checksum);
        let Created { upload_id, created, full_checksum } = created;
        let part = Part { key, upload_id: &upload_id, number: 1, offset: 0 };
        let part = self.part(part, contents).await?;
        Ok(SealedObject {
            key: key.to_string(),
            role,
            upload_id,
            created,
            media_type: media_type.to_owned(),
            rows: 0,
            bytes,
            checksum_crc64nvme: checksum.base64(),
            full_checksum,
            parts: vec![part],
            completion: Completion::InDoubt,
        })
    }

    pub(super) async fn complete(&self, object: &SealedObject, how: Completing) -> Result<Stored, Incomplete> {
        match self {
            Store::Bucket(bucket) => bucket.complete(object, how).await,
            Store::Directory(directory) => directory.complete(object, how).await,
            Store::Nowhere(nowhere) => Ok(nowhere.complete()),
        }
    }

    /// Whether the upload of an object is there no more. Asked with a part, which it takes only while it is there,
    /// and which no completion names.
    pub(super) async fn is_gone(&self, object: &SealedObject) -> Result<bool, Failure> {
        let key = self.recorded(&object.key)?;
        let number = u32::try_from(object.parts.len()).unwrap_or(PARTS_MAX).saturating_add(1).min(PARTS_MAX);
        let part = Part { key: &key, upload_id: &object.upload_id, number, offset: object.bytes };
        match self.part(part, Contents::in_memory(Bytes::from_static(b"?"))).await {
            Ok(_) => Ok(false),
            Err(gone) if gone.leaves == Leaves::Torn => Ok(true),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn abort(&self, key: &str, upload_id: &str) -> Result<(), Failure> {
        match self {
            Store::Bucket(bucket) => bucket.abort(key, upload_id).await,
            Store::Directory(directory) => directory.abort(key).await,
            Store::Nowhere(_) => Ok(()),
        }
    }
}
