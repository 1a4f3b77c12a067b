//! One delivery as the daemon has it at work.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use chrono::SecondsFormat;
use futures::FutureExt as _;

use crate::clock::Instant;
use crate::config::Config;
use crate::domain::{CustomerName, RunId, Slot};
use crate::ledger::{DeliveryId, Ledger, LedgerError, OpenDelivery};
use crate::run::{Outcome, Parts, Recorder, Retrying, Stop, Stopper};

/// One delivery of a run.
#[derive(Clone)]
pub(super) struct Job {
    pub run: RunId,
    pub slot: Slot,
    pub customer: CustomerName,
    pub delivery: DeliveryId,
    /// Waits behind what is on time.
    pub late: bool,
    pub deadline: Option<Instant>,
    pub stopper: Arc<Stopper>,
}

/// What became of a delivery's task.
pub(super) enum Progress {
    /// The daemon was stopping: the next start begins it.
    NotBegun,
    Waits(Instant),
    Delivered,
    Failed,
    /// It had ended before; only uploads were left of it.
    Tidied,
}

/// How a delivery is begun.
pub(super) enum Task {
    Deliver,
    Resume(Box<OpenDelivery>),
}

/// One try, and what the log says of it.
pub(super) async fn carry_out(
    config: &Arc<Config>,
    parts: &Parts,
    ledger: &Ledger,
    job: &Job,
    stop: Stop,
    task: Task,
) -> Result<Progress, LedgerError> {
    let Job { run, slot, customer, delivery, .. } = job;
    let recorder = Recorder { parts, ledger, config, run: *run, slot, customer, retrying: Retrying::Daemon, stop };
    let work = async {
        match task {
            Task::Deliver => recorder.deliver(*delivery).await.map(Some),
            Task::Resume(open) => recorder.resume(*open).await,
        }
    };
    // A fault costs tries of this delivery, and not the slots that would wait for it.
    let outcome = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(outcome) => outcome?,
        Err(_) => Some(recorder.died(*delivery).await?),
    };
    let Some(outcome) = outcome else { return Ok(Progress::Tidied) };
    match outcome {
        Outcome::Committed(manifest) => {
            let bytes: u64 = manifest.objects.iter().map(|object| object.bytes).sum();
            tracing::info!(
                output.objects = manifest.objects.len(),
                output.rows = manifest.rows,
                output.size_bytes = bytes,
                "delivered"
            );
            Ok(Progress::Delivered)
        }
        Outcome::Waits { failure, due } => {
            let (layer, due_at) = (failure.layer.as_str(), due.to_rfc3339_opts(SecondsFormat::Millis, true));
            tracing::warn!(layer, due = due_at, remedy = failure.remedy, "to be tried again: {}", failure.message);
            Ok(Progress::Waits(due))
        }
        Outcome::Failed(failure) => {
            let layer = failure.layer.as_str();
            tracing::error!(layer, remedy = failure.remedy, "delivery failed: {}", failure.message);
            Ok(Progress::Failed)
        }
    }
}
