//! Uploads that nobody has written down: the reply to their creation was lost, or
//! the process that got it died. They hold nothing, but S3 keeps them.
//!
//! They can be found only where the customer's role may list uploads, which no
//! delivery needs. Where it may not, a lifecycle rule has to end them.

use std::collections::BTreeSet;

use super::bucket::Bucket;
use super::failure::{Fault, Operation};
use super::policy;
use super::store::{Store, Target};
use super::uploads::Uploads;
use crate::crash::{self, Point};
use crate::domain::{Failure, UploadJournal};

/// Pages of up to 1,000 uploads that are looked at.
const PAGES_MAX: usize = 20;

impl Target {
    /// Aborts whatever uploads there are of a delivery that is to begin anew, next to its
    /// manifest. What cannot be found or aborted is left to a lifecycle rule.
    pub async fn end_strays(&self, manifest_key: &str, journal: &dyn UploadJournal) {
        let Store::Bucket(bucket) = self.0.as_ref() else { return };
        if self.0.recorded(manifest_key).is_err() {
            return;
        }
        let Some(end) = manifest_key.rfind('/') else { return };
        let folder = &manifest_key[..=end];
        let is_of_it = |key: &str, _: &str| key.strip_prefix(folder).is_some_and(|leaf| !leaf.contains('/'));
        bucket.end_strays_of(folder, is_of_it, journal).await;
    }
}

impl Store {
    /// Aborts uploads that this delivery may have created without having been told, and none that it knows of.
    pub(super) async fn end_strays(&self, uploads: &Uploads) {
        let Store::Bucket(bucket) = self else { return };
        let known = uploads.known();
        for key in bucket.doubtful() {
            let is_stray = |found: &str, id: &str| found == key && !known.contains(id);
            bucket.end_strays_of(&key, is_stray, uploads.journal()).await;
        }
    }
}

impl Bucket {
    async fn end_strays_of(&self, prefix: &str, which: impl Fn(&str, &str) -> bool, journal: &dyn UploadJournal) {
        let ended = self.try_to_end(prefix, which, journal).await;
        let (bucket, customer) = (&self.customer.bucket, &self.customer.name);
        match ended {
            Ok(0) => {}
            Ok(uploads) => tracing::info!(uploads, prefix, "uploads were aborted whose creation nobody was told of"),
            Err(failure) if self.vendor.advises(bucket) => {
                let remedy = format!(
                    "have the customer give the bucket this lifecycle rule, which ends them:\n{}",
                    policy::pretty(&policy::lifecycle(&self.customer))
                );
                let message = "an upload may be left in the bucket, empty, and cannot be looked for";
                tracing::warn!(%customer, %bucket, prefix, %failure, remedy, "{message}");
            }
            Err(failure) => tracing::debug!(%customer, %bucket, prefix, %failure, "strays cannot be looked for"),
        }
    }

    async fn try_to_end(
        &self,
        prefix: &str,
        which: impl Fn(&str, &str) -> bool,
        journal: &dyn UploadJournal,
    ) -> Result<usize, Failure> {
        let Some(run) = self.run else { return Ok(0) };
        // A session of its own: all others may do no more than a delivery needs.
        let client = self.vendor.s3(&self.customer, self.vendor.listing_session(&self.customer, run)?);
        let mut strays = BTreeSet::new();
        let mut next = (None, None);
        for _ in 0..PAGES_MAX {
            let page = client
                .list_multipart_uploads()
                .bucket(self.customer.bucket.as_str())
                .expected_bucket_owner(self.customer.bucket_owner.as_str())
                .prefix(prefix)
                .set_key_marker(next.0.take())
                .set_upload_id_marker(next.1.take())
                .send()
                .await
                .map_err(|error| self.failure(&Fault::of(&error), Operation::ListUploads, prefix))?;
            let uploads = page.uploads().iter().filter_map(|upload| upload.key().zip(upload.upload_id()));
            let of_it = uploads.filter(|(key, id)| which(key, id)).map(|(key, id)| (key.to_owned(), id.to_owned()));
            strays.extend(of_it);
            if page.is_truncated() != Some(true) {
                break;
            }
            next = (page.next_key_marker().map(str::to_owned), page.next_upload_id_marker().map(str::to_owned));
        }
        if strays.is_empty() {
            return Ok(0);
        }
        // Whoever has taken over since has uploads of its own there, which are not on the list.
        journal.is_ours().await?;
        for (key, upload_id) in &strays {
            crash::point(Point::Aborting);
            self.abort(key, upload_id).await?;
        }
        Ok(strays.len())
    }
}
