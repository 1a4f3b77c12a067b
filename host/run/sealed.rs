//! What is stored whole, gone on with: it is not read again. Where its manifest is, or may be, nothing
//! takes its place, whatever the configuration has become (`docs/decisions/0022-what-an-answer-proves.md`).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::record::{Outcome, Recorder, Try, say_attempt};
use super::{Delivered, Work, leads_to};
use crate::config::{Customer, Dataset, FileDataset, TableDataset, Tenant};
use crate::crash::{self, Point};
use crate::delivery::{Delivery, Left, Target};
use crate::domain::{
    CustomerName, Destination, Draft, Failure, Layer, Leaves, Manifest, ProfileHash, Retry, Role, RunId,
};
use crate::ledger::{AttemptState, LedgerError, OpenAttempt, OpenUpload};

/// What completes a sealed attempt.
pub(super) struct Stored {
    pub(super) left: Left,
    /// What the manifest is to say, its objects aside.
    draft: Manifest,
    /// By what it was decided whose rows these are, if that is known.
    source: Option<String>,
    to: Destination,
    /// Of it, and of no object: whoever had another one made for `_SUCCESS` did not get to its end.
    others: Vec<String>,
    number: u32,
    is_first: bool,
}

impl Stored {
    /// None of an attempt that is not sealed.
    pub(super) fn of(attempt: &OpenAttempt, uploads: &[OpenUpload]) -> Option<Self> {
        if attempt.state != AttemptState::Sealed {
            return None;
        }
        let (Draft { manifest: draft, source, unasked }, to) = (attempt.draft.clone()?, attempt.destination.clone()?);
        let own = uploads.iter().filter(|upload| upload.attempt == attempt.id);
        let (manifests, others): (Vec<_>, Vec<_>) = own.partition(|upload| upload.key == to.manifest_key);
        let manifest_uploads = manifests.iter().map(|upload| (upload.upload_id.clone(), upload.created)).collect();
        let (objects, manifested) = (attempt.objects.clone(), attempt.manifested);
        let of_objects: HashSet<&str> = objects.iter().map(|object| object.upload_id.as_str()).collect();
        let others = others.into_iter().filter(|upload| !of_objects.contains(upload.upload_id.as_str()));
        let others = others.map(|upload| upload.upload_id.clone()).collect();
        let left = Left { objects, manifest_key: to.manifest_key.clone(), manifest_uploads, manifested, unasked };
        Some(Self { left, draft, source, to, others, number: attempt.number, is_first: attempt.is_first })
    }
}

impl Work {
    /// Tells apart by what it is decided whose rows these are: where they come from, and those of the customer's `params`
    /// that this names. By the names of the settings, so that another version of consign has the same.
    pub(super) fn source(&self) -> String {
        let mut settings = BTreeMap::new();
        match self.config.datasets.get(&self.share.dataset).map(|dataset| &**dataset) {
            Some(Dataset::Tables(TableDataset { tables, query, tenant, .. })) => {
                settings.extend(tables.iter().map(|(name, table)| (format!("tables.{name}"), table.path.clone())));
                settings.extend(query.iter().map(|query| ("query".to_owned(), query.clone())));
                if let Some(Tenant { column, param }) = tenant {
                    settings.insert("tenant_column".to_owned(), column.clone());
                    settings.insert("tenant_param".to_owned(), param.clone());
                }
            }
            Some(Dataset::Files(FileDataset { files, .. })) => drop(settings.insert("files".to_owned(), files.clone())),
            None => {}
        }
        let is_named = |name: &str| settings.values().any(|setting| setting.contains(name));
        let params = self.customer.params.iter().filter(|(name, _)| is_named(name));
        let params =
            params.map(|(name, value)| (format!("params.{name}"), serde_json::to_string(value).unwrap_or_default()));
        let params: Vec<_> = params.collect();
        settings.extend(params);
        let settings = settings.iter().map(|(name, value)| (name.as_str(), Some(value.clone())));
        ProfileHash::of(settings).as_str().to_owned()
    }
}

/// What a person can do about a delivery whose manifest may be there.
pub fn way_out(run: RunId, customer: &CustomerName) -> String {
    format!(
        "who has looked into the bucket, or asked the customer, says by `consign settle {run} --customer {customer} \
         --committed` that the manifest is there, or with `--failed` that it is not"
    )
}

impl Recorder<'_> {
    /// Tells of it what a person can do, too. Not what is kept: a customer's failure is no delivery's.
    pub(super) fn with_way_out(&self, mut failure: Failure) -> Failure {
        if failure.leaves == Leaves::InDoubt {
            // A policy to paste is on lines of its own.
            let after = if failure.remedy.contains('\n') { "\n" } else { "; " };
            let after = if failure.remedy.is_empty() { "" } else { after };
            failure.remedy = format!("{}{after}{}", failure.remedy, way_out(self.run, self.customer));
        }
        failure
    }

    /// Completes it, if the profile leads to where it was stored, and its rows are those that are to go there. Where that
    /// is not so, or nothing more is to be delivered, only what has its manifest, or may have it. None of any other, which
    /// ends here.
    pub(super) async fn go_on(
        &self,
        at_work: Try,
        stored: Stored,
        configured: Option<&Work>,
    ) -> Result<Option<Outcome>, LedgerError> {
        let leads = |profile: &Arc<Customer>| leads_to(self.config, profile, &stored.to, &stored.to.manifest_key);
        let may_be_there = stored.left.manifested || stored.left.may_be_manifested();
        // Rows that were another's by a mistake that was put right are nobody's: they are read again.
        let is_its = |work: &Work| stored.source.as_ref().is_none_or(|source| may_be_there || *source == work.source());
        let work = configured.filter(|work| leads(&work.customer) && is_its(work));
        say_attempt(stored.number);
        if work.is_none() && stored.left.manifested {
            return self.commit_as_it_is(at_work, stored).await.map(Some);
        }
        let profile = match work {
            Some(work) => Some(&work.customer),
            None if may_be_there => self.config.customers.get(self.customer).filter(|profile| leads(profile)),
            None => return Ok(None),
        };
        let finished = match profile {
            Some(profile) => {
                self.ledger.is_ours().await?;
                if self.stop.in_vain().is_none()
                    && work.is_some_and(|work| self.holds(work))
                    && let Some(unready) = self.ledger.hold(at_work.delivery).await?
                {
                    crash::point(Point::HeldBack);
                    return Ok(Some(Outcome::Held { failure: unready.failure, sealed: true }));
                }
                self.roll_forward(at_work, profile, stored).await
            }
            None => Err(self.out_of_reach(&stored.to)),
        };
        self.record(at_work, configured, true, finished).await.map(Some)
    }

    async fn roll_forward(
        &self,
        at_work: Try,
        profile: &Arc<Customer>,
        Stored { left, draft, others, is_first, .. }: Stored,
    ) -> Result<Delivered, Failure> {
        let target = Target::stored(&self.parts.vendor, profile, self.run);
        let target = target.map_err(|failure| if left.may_be_manifested() { failure.in_doubt() } else { failure })?;
        let journal = self.journal(at_work.attempt, true);
        let sealed = Delivery::resume(target, journal, self.parts.spill_dir.clone(), left).await?;
        let mut delivered = super::finish(self.parts, sealed, draft, is_first).await?;
        delivered.committed.left.extend(others);
        Ok(delivered)
    }

    /// It is delivered, though nobody can see to what comes after the manifest.
    async fn commit_as_it_is(&self, at_work: Try, stored: Stored) -> Result<Outcome, LedgerError> {
        let Stored { left, draft, others, .. } = stored;
        let Left { objects, manifest_key, manifest_uploads, .. } = left;
        let (objects, markers): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| object.role == Role::Data);
        let mut left: Vec<String> =
            manifest_uploads.into_iter().map(|(upload_id, _)| upload_id).chain(others).collect();
        for marker in markers.into_iter().filter(|marker| !marker.completion.is_done()) {
            tracing::warn!(key = marker.key, "delivered, but without this object: no profile leads there");
            left.push(marker.upload_id);
        }
        let objects = objects.into_iter().map(Into::into).collect();
        let manifest = Manifest { objects, finished: self.parts.clock.now(), ..draft };
        self.commit(at_work, manifest, manifest_key, left).await
    }

    /// Its manifest may be there, and nobody can ask.
    fn out_of_reach(&self, to: &Destination) -> Failure {
        let message = format!(
            "'{}' may be in {to}, where no profile of customer {} leads any more: whether it is cannot be found out",
            to.manifest_key, self.customer
        );
        let remedy = "put back what led there, which is the customer's `bucket`, `bucket_owner` and `prefix`, and \
                      `aws.endpoint_url`, until this delivery has ended; nothing is delivered in its place before that";
        Failure::new(Layer::Config, Retry::Never, message, remedy).in_doubt()
    }
}
