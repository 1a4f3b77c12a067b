//! One delivery as the daemon has it before it, and at work.

use std::panic::AssertUnwindSafe;

use chrono::SecondsFormat;
use futures::FutureExt as _;

use super::generation::Generation;
use super::queue::Turn;
use crate::clock::Instant;
use crate::config::{Config, PluginSource};
use crate::domain::{CustomerName, Failure, Leaves, Origin, RunId, Slot};
use crate::ledger::{DeliveryId, Ledger, LedgerError, OpenDelivery};
use crate::run::{Fared, Finished, Gauge, Outcome, Recorder, Retrying, Stop, Work, way_out};

/// One delivery of a run, and what is to be done for it.
pub(super) struct Job {
    pub delivery: Delivery,
    pub task: Task,
}

/// Which delivery it is.
#[derive(Clone)]
pub(super) struct Delivery {
    pub id: DeliveryId,
    pub run: RunId,
    pub slot: Slot,
    pub customer: CustomerName,
    pub origin: Origin,
    /// Waits behind what is on time.
    pub late: bool,
    pub deadline: Option<Instant>,
}

/// How a delivery is begun.
pub(super) enum Task {
    Deliver,
    /// As the ledger has it by then: it was tried before, perhaps in this process.
    Again {
        /// Something of it may be in a bucket.
        begun: bool,
    },
    /// An earlier process left it like this.
    Resume(Box<OpenDelivery>),
    /// The task that it had has died, and nobody has written that down.
    Died,
    /// It is delivered, which the ledger could not take.
    WriteDown(Box<Finished>),
}

/// What became of a delivery's task.
pub(super) enum Progress {
    Waits {
        due: Instant,
        sealed: bool,
        failure: Failure,
    },
    /// None when it cannot be told where, because the configuration has changed.
    Delivered(Option<Box<Fared>>),
    Failed(Failure),
    /// It had ended before; only uploads were left of it.
    Tidied,
    /// Left to the next process, with its uploads aborted.
    Interrupted,
    /// It waits until its plugin is let go.
    Quarantined,
    /// Another slot of its share goes first, or its own time has not come.
    NotYet,
    /// It waits until its customer is ready.
    Held {
        failure: Failure,
        sealed: bool,
    },
    /// It is delivered, and for this reason the ledger could not take that.
    Unrecorded {
        finished: Box<Finished>,
        why: &'static str,
    },
}

impl Job {
    /// What it needs a place of, as things are configured.
    pub fn turn(&self, config: &Config) -> Turn {
        let Delivery { slot, customer, late, .. } = &self.delivery;
        let bucket = config.customers.get(customer).map(|customer| customer.bucket.clone());
        let plugin = config.shares.get(&slot.share).and_then(|share| config.plugins.get(share.plugin.as_ref()?));
        let plugin = plugin.filter(|plugin| plugin.source != PluginSource::Shipped).map(|plugin| plugin.name.clone());
        Turn { share: slot.share.clone(), plugin, bucket, customer: customer.clone(), late: *late }
    }

    /// Something of it is in a bucket. Otherwise its end only has to be recorded,
    /// which needs no place.
    pub fn has_begun(&self) -> bool {
        match &self.task {
            Task::Deliver => false,
            Task::Again { begun } => *begun,
            Task::Resume(open) => open.has_begun(),
            Task::Died | Task::WriteDown(_) => true,
        }
    }

    /// When it is too late for it. What is in a bucket already is looked at in its turn, however late.
    pub fn deadline(&self) -> Option<Instant> {
        self.delivery.deadline.filter(|_| !self.has_begun())
    }
}

/// One try, and what the log says of it.
pub(super) async fn carry_out(
    generation: &Generation,
    ledger: &Ledger,
    delivery: &Delivery,
    (stop, gauge): (Stop, Gauge),
    task: Task,
) -> Result<Progress, LedgerError> {
    let Delivery { id, run, slot, customer, .. } = delivery;
    let Generation { config, parts, .. } = generation;
    let (run, retrying) = (*run, Retrying::of(delivery.origin));
    let is_repeated = matches!(task, Task::WriteDown(_));
    let recorder = Recorder { parts, ledger, config, run, slot, customer, retrying, stop, gauge };
    let work = async {
        match task {
            Task::Deliver => recorder.deliver(*id).await.map(Some),
            Task::Again { .. } => recorder.resume(ledger.open_delivery(*id).await?).await,
            Task::Resume(open) => recorder.resume(*open).await,
            Task::Died => recorder.died(*id).await.map(Some),
            Task::WriteDown(finished) => recorder.write_down(finished).await.map(Some),
        }
    };
    // A fault costs tries of this delivery, and not the slots that would wait for it.
    let outcome = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(outcome) => outcome?,
        Err(_) => Some(recorder.died(*id).await?),
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
            let work = Work::new(config, slot, customer, run).ok();
            Ok(Progress::Delivered(work.map(|work| Box::new(Fared::committed(&work, *manifest)))))
        }
        Outcome::Waits { failure, due, sealed } => {
            let (layer, due_at) = (failure.layer.as_str(), due.to_rfc3339_opts(SecondsFormat::Millis, true));
            let remedy = match failure.leaves == Leaves::InDoubt && failure.is_of_setup() {
                true => format!("{}; {}", failure.logged_remedy(), way_out(run, customer)),
                false => failure.logged_remedy().to_owned(),
            };
            tracing::warn!(layer, due = due_at, remedy, "to be tried again: {}", failure.message);
            Ok(Progress::Waits { due, sealed, failure })
        }
        Outcome::Interrupted(_) => Ok(Progress::Interrupted),
        Outcome::Unrecorded { finished, error, why } => {
            let error = Failure::chain(&error);
            // It is tried every few seconds, of each of them.
            match is_repeated {
                true => tracing::debug!(error, "it is delivered, and that could still not be recorded"),
                false => tracing::error!(error, "it is delivered, and that could not be recorded yet"),
            }
            Ok(Progress::Unrecorded { finished, why })
        }
        Outcome::Quarantined(why) => {
            tracing::debug!("not begun: {}", why.message);
            Ok(Progress::Quarantined)
        }
        Outcome::NotYet(why) => {
            tracing::debug!("not begun: {}", why.message);
            Ok(Progress::NotYet)
        }
        Outcome::Held { failure, sealed } => {
            tracing::debug!("waits for its customer to be ready: {}", failure.message);
            Ok(Progress::Held { failure, sealed })
        }
        Outcome::Failed(failure) => {
            let layer = failure.layer.as_str();
            tracing::error!(layer, remedy = failure.logged_remedy(), "delivery failed: {}", failure.message);
            Ok(Progress::Failed(failure))
        }
    }
}
