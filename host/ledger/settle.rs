//! Deliveries in doubt, and what a person says of them who has looked into the bucket, or has asked
//! the customer (`docs/decisions/0022-what-an-answer-proves.md`).

use serde::{Deserialize, Serialize};

use super::admin::deliveries;
use super::db::{Db, values};
use super::read::{OpenAttempt, open_attempt, open_delivery};
use super::row::{state, step, to_json};
use super::state::{DeliveryEvent, RunEvent};
use super::{AttemptState, Committed, DeliveryId, DeliveryState, Ledger, LedgerError, RunState, shared, write};
use crate::clock::Instant;
use crate::domain::{
    CustomerName, Destination, Failure, Layer, Manifest, ManifestObject, Retry, Role, RunId, SealedObject,
};

/// What has become of a delivery in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Its manifest is in the bucket.
    Committed,
    /// It is not, or no more.
    Failed,
}

/// What somebody says of deliveries in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    pub verdict: Verdict,
    pub by: String,
    pub reason: Option<String>,
}

/// Who has said it, as records have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    pub by: String,
    pub at: Instant,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// A delivery that was settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    pub customer: CustomerName,
    pub delivery: DeliveryId,
    /// As it is on record, or why it has failed.
    pub outcome: Result<Box<Manifest>, Failure>,
    /// Keys of what comes after the manifest, and is not known to be there.
    pub lacking: Vec<String>,
}

/// Why nothing was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// Another consign has the run.
    Elsewhere(String),
    /// It is in no such doubt, but this.
    Is(CustomerName, DeliveryState),
    /// Its manifest has not been asked for yet.
    Unasked(CustomerName),
    /// Its manifest is known to be there.
    Manifested(CustomerName),
}

/// What is known of a delivery in doubt.
struct Doubt {
    attempt: OpenAttempt,
    draft: Manifest,
    to: Destination,
}

impl Ledger {
    /// Records what somebody knows of these deliveries of a run: of all of them, or, if one of them is not in
    /// doubt, of none. Nobody may be at work on them. What is on record as committed may be lost since.
    pub async fn settle(
        &self,
        run: RunId,
        customers: Vec<CustomerName>,
        saying: Saying,
    ) -> Result<Result<Vec<Settlement>, Unsettled>, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| settle(ledger, now, run, &customers, &saying)).await
    }

    /// The same for who is not at work itself: with the last delivery it ends the run. Not where another
    /// process has the run.
    pub async fn settle_idle(
        &self,
        run: RunId,
        customers: Vec<CustomerName>,
        saying: Saying,
    ) -> Result<Result<Vec<Settlement>, Unsettled>, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| settle_idle(ledger, now, run, &customers, &saying)).await
    }

    /// The name of another process that has a run that has not ended.
    pub async fn who_else_has(&self, run: RunId) -> Result<Option<String>, LedgerError> {
        self.writer.run(move |ledger| shared::has(ledger, run)).await
    }
}

fn settle_idle(
    ledger: &Db,
    now: Instant,
    run: RunId,
    customers: &[CustomerName],
    saying: &Saying,
) -> Result<Result<Vec<Settlement>, Unsettled>, LedgerError> {
    shared::take_over_run(ledger, run)?;
    let settled = settle(ledger, now, run, customers, saying)?;
    let is_over = deliveries(ledger, run)?.into_iter().all(|(_, _, state)| state.has_ended());
    if settled.is_ok() && is_over && matches!(run_state(ledger, run)?, Some((_, RunState::Running))) {
        write::run_finished(ledger, now, run)?;
    }
    Ok(settled)
}

fn settle(
    ledger: &Db,
    now: Instant,
    run: RunId,
    customers: &[CustomerName],
    saying: &Saying,
) -> Result<Result<Vec<Settlement>, Unsettled>, LedgerError> {
    if let Some(node) = shared::has(ledger, run)? {
        return Ok(Err(Unsettled::Elsewhere(node)));
    }
    let Saying { verdict, by, reason } = saying;
    let mut known = Vec::new();
    for (id, customer, state) in deliveries(ledger, run)? {
        let id = DeliveryId(id);
        if !customers.contains(&customer) {
            continue;
        }
        if (state, *verdict) == (DeliveryState::Committed, Verdict::Failed) {
            known.push((id, customer, None));
            continue;
        }
        match doubt(ledger, id, &customer, state)? {
            Ok(doubt) => known.push((id, customer, Some(doubt))),
            Err(why) => return Ok(Err(why)),
        }
    }
    let settled = to_json(&Settled { by: by.clone(), at: now, reason: reason.clone() })?;
    let mut all = Vec::new();
    for (delivery, customer, doubt) in known {
        let (outcome, lacking) = match (verdict, doubt) {
            (Verdict::Committed, Some(doubt)) => {
                let (manifest, lacking) = commit(ledger, now, delivery, doubt)?;
                (Ok(Box::new(manifest)), lacking)
            }
            (_, doubt) => {
                let why = saying.failure(run, &customer);
                match doubt {
                    Some(doubt) => write::ended(ledger, now, doubt.attempt.id, (&why, 0), None)?,
                    None => lose(ledger, run, delivery, &why)?,
                }
                (Err(why), Vec::new())
            }
        };
        ledger.execute("UPDATE deliveries SET settled = ?2 WHERE id = ?1", values![delivery.0, &settled])?;
        all.push(Settlement { customer, delivery, outcome, lacking });
    }
    Ok(Ok(all))
}

impl Saying {
    /// As a delivery has it whose manifest is not there.
    fn failure(&self, run: RunId, customer: &CustomerName) -> Failure {
        let reason = self.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let message = format!("settled by {}, as its manifest is not in the bucket{reason}", self.by);
        let remedy = format!("`consign retry {run} --customer {customer}` begins it again");
        Failure::new(Layer::Schedule, Retry::Never, message, remedy)
    }
}

/// It is there no more. Its attempt is on record as it was.
fn lose(ledger: &Db, run: RunId, delivery: DeliveryId, why: &Failure) -> Result<(), LedgerError> {
    let also = "failure = ?3, manifest_key = NULL, rows = NULL, bytes = NULL";
    step::<DeliveryState>(ledger, delivery.0, DeliveryEvent::Lose, also, values![&to_json(why)?])?;
    match run_state(ledger, run)? {
        Some((seq, RunState::Succeeded)) => step::<RunState>(ledger, seq, RunEvent::Lose, "", &[]),
        _ => Ok(()),
    }
}

fn run_state(ledger: &Db, run: RunId) -> Result<Option<(i64, RunState)>, LedgerError> {
    let select = "SELECT seq, state FROM runs WHERE id = ?1";
    ledger.first(select, values![&run.to_string()], |row| Ok((row.get("seq")?, state(row, "state")?)))
}

/// Uploads that may not have become anything are left to be aborted.
fn commit(
    ledger: &Db,
    now: Instant,
    delivery: DeliveryId,
    doubt: Doubt,
) -> Result<(Manifest, Vec<String>), LedgerError> {
    let Doubt { attempt, draft, to } = doubt;
    let (data, markers): (Vec<_>, Vec<_>) = attempt.objects.into_iter().partition(|object| object.role == Role::Data);
    let (done, lacking): (Vec<_>, Vec<_>) = markers.into_iter().partition(|marker| marker.completion.is_done());
    let became: Vec<&str> = data.iter().chain(&done).map(|object| object.upload_id.as_str()).collect();
    let open = open_delivery(ledger, delivery)?.uploads.into_iter().map(|upload| upload.upload_id);
    let left = open.filter(|upload_id| !became.contains(&upload_id.as_str())).collect();
    let objects: Vec<ManifestObject> = data.into_iter().map(ManifestObject::from).collect();
    let bytes = objects.iter().map(|object| object.bytes).sum();
    let manifest = Manifest { objects: objects.clone(), finished: now, ..draft };
    let committed = Committed { manifest_key: to.manifest_key, rows: manifest.rows, bytes, objects, left };
    write::is_delivered(ledger, now, attempt.id, &committed)?;
    Ok((manifest, lacking.into_iter().map(|marker| marker.key).collect()))
}

/// The key of a delivery's manifest, if that is in doubt.
pub(super) fn in_doubt(ledger: &Db, delivery: DeliveryId, state: DeliveryState) -> Result<Option<String>, LedgerError> {
    if state != DeliveryState::Sealed {
        return Ok(None);
    }
    let sealed = open_attempt(ledger, delivery)?.filter(is_in_doubt);
    Ok(sealed.and_then(|attempt| attempt.destination).map(|to| to.manifest_key))
}

fn is_in_doubt(attempt: &OpenAttempt) -> bool {
    let is_sealed = attempt.state == AttemptState::Sealed && attempt.draft.is_some();
    let unasked = attempt.draft.as_ref().is_some_and(|draft| draft.unasked);
    is_sealed && !attempt.manifested && SealedObject::may_be_manifested(&attempt.objects, unasked)
}

fn doubt(
    ledger: &Db,
    delivery: DeliveryId,
    customer: &CustomerName,
    state: DeliveryState,
) -> Result<Result<Doubt, Unsettled>, LedgerError> {
    if state != DeliveryState::Sealed {
        return Ok(Err(Unsettled::Is(customer.clone(), state)));
    }
    let unasked = || Unsettled::Unasked(customer.clone());
    let Some(attempt) = open_attempt(ledger, delivery)? else { return Ok(Err(unasked())) };
    if attempt.manifested {
        return Ok(Err(Unsettled::Manifested(customer.clone())));
    }
    let doubt = match (attempt.draft.clone(), attempt.destination.clone()) {
        (Some(draft), Some(to)) if is_in_doubt(&attempt) => Ok(Doubt { attempt, draft: draft.manifest, to }),
        _ => Err(unasked()),
    };
    Ok(doubt)
}
