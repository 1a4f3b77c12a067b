//! Uploads that nobody has written down: the reply to their creation was lost, or
//! the process that got it died. They hold nothing, but S3 keeps them.
//!
//! They can be found only where the customer's role may list uploads, which no
//! delivery needs. Where it may not, a lifecycle rule has to end them.

use std::collections::BTreeSet;

use aws_sdk_s3::Client;
use chrono::TimeDelta;

use super::bucket::Bucket;
use super::failure::{Fault, Operation};
use super::policy;
use super::store::{Store, Target};
use super::uploads::Uploads;
use crate::clock::Instant;
use crate::crash::{self, Point};
use crate::domain::{Failure, ObjectKey, UploadJournal};

/// Pages of up to 1,000 uploads that are looked at.
const PAGES_MAX: usize = 20;

/// An upload that is there.
struct Found<'a> {
    key: &'a str,
    upload_id: &'a str,
    /// By S3's clock.
    begun: Option<Instant>,
}

/// Uploads of keys that begin so, if they are strays by what is known here.
struct Sought<'a> {
    prefix: &'a str,
    is_stray: &'a (dyn Fn(&Found<'_>) -> bool + Sync),
}

impl Target {
    /// Aborts whatever uploads there are of a delivery that is to begin anew: next to its manifest, and of the
    /// `pointer` that its share's slots have in common, one at a time. So are those that a process before this one
    /// has left when it looked whether the customer is ready. What cannot be found or aborted is left to a lifecycle rule.
    pub async fn end_strays(&self, manifest_key: &str, pointer: Option<&ObjectKey>, journal: &dyn UploadJournal) {
        let Store::Bucket(bucket) = self.0.as_ref() else { return };
        if self.0.recorded(manifest_key).is_err() {
            return;
        }
        let Some(end) = manifest_key.rfind('/') else { return };
        let folder = &manifest_key[..=end];
        let is_of_it = |found: &Found<'_>| found.key.strip_prefix(folder).is_some_and(|leaf| !leaf.contains('/'));
        let probe = bucket.customer.prefix.probe();
        // Somebody else may be trying at this moment. S3 may tell whole seconds.
        let began = bucket.vendor.began() - TimeDelta::seconds(1);
        let is_old_probe =
            |found: &Found<'_>| found.key == probe.as_str() && found.begun.is_some_and(|begun| begun < began);
        let is_pointer = |found: &Found<'_>| pointer.is_some_and(|pointer| found.key == pointer.as_str());
        let mut sought = vec![
            Sought { prefix: folder, is_stray: &is_of_it },
            Sought { prefix: probe.as_str(), is_stray: &is_old_probe },
        ];
        sought.extend(pointer.map(|pointer| Sought { prefix: pointer.as_str(), is_stray: &is_pointer }));
        bucket.end_strays_of(&sought, journal).await;
    }
}

impl Store {
    /// Aborts uploads that this delivery may have created without having been told, and none that it knows of.
    pub(super) async fn end_strays(&self, uploads: &Uploads) {
        let Store::Bucket(bucket) = self else { return };
        let known = uploads.known();
        for key in bucket.doubtful() {
            let is_stray = |found: &Found<'_>| found.key == key && !known.contains(found.upload_id);
            bucket.end_strays_of(&[Sought { prefix: &key, is_stray: &is_stray }], uploads.journal()).await;
        }
    }
}

impl Bucket {
    async fn end_strays_of(&self, sought: &[Sought<'_>], journal: &dyn UploadJournal) {
        let ended = self.try_to_end(sought, journal).await;
        let prefix = sought.first().map_or("", |sought| sought.prefix);
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

    async fn try_to_end(&self, sought: &[Sought<'_>], journal: &dyn UploadJournal) -> Result<usize, Failure> {
        let Some(run) = self.run else { return Ok(0) };
        // A session of its own: all others may do no more than a delivery needs.
        let client = self.vendor.s3(&self.customer, self.vendor.listing_session(&self.customer, run)?);
        let mut strays = BTreeSet::new();
        for sought in sought {
            self.find(&client, sought, &mut strays).await?;
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

    /// Adds keys and ids to `strays`.
    async fn find(
        &self,
        client: &Client,
        sought: &Sought<'_>,
        strays: &mut BTreeSet<(String, String)>,
    ) -> Result<(), Failure> {
        let mut next = (None, None);
        for _ in 0..PAGES_MAX {
            let page = client
                .list_multipart_uploads()
                .bucket(self.customer.bucket.as_str())
                .expected_bucket_owner(self.customer.bucket_owner.as_str())
                .prefix(sought.prefix)
                .set_key_marker(next.0.take())
                .set_upload_id_marker(next.1.take())
                .send()
                .await
                .map_err(|error| self.failure(&Fault::of(&error), Operation::ListUploads, sought.prefix))?;
            for upload in page.uploads() {
                let (Some(key), Some(upload_id)) = (upload.key(), upload.upload_id()) else { continue };
                let begun = upload.initiated().and_then(|at| Instant::from_timestamp(at.secs(), at.subsec_nanos()));
                if (sought.is_stray)(&Found { key, upload_id, begun }) {
                    strays.insert((key.to_owned(), upload_id.to_owned()));
                }
            }
            if page.is_truncated() != Some(true) {
                break;
            }
            next = (page.next_key_marker().map(str::to_owned), page.next_upload_id_marker().map(str::to_owned));
        }
        Ok(())
    }
}
