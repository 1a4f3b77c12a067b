//! One run for one customer: dataset → plugin → delivery, on one screen.
//!
//! Nothing is decided twice: the dataset knows rows, the plugin formats, the
//! delivery stores, the ledger remembers. This module only connects them.

mod components;
mod gauge;
mod journal;
mod parts;
pub mod quarantine;
pub mod ready;
mod record;
mod report;
mod retry;
mod sealed;
mod stop;
mod uploads;
mod verify;
pub mod wanted;

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{FutureExt as _, Stream, StreamExt, TryFutureExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;

use crate::clock::exact;
use crate::config::{Config, Customer, Dataset, Empty, FileDataset, PluginSource, Share, TableDataset};
use crate::crash::{self, Point};
use crate::dataset::Request;
use crate::delivery::{Committed, Delivery, DeliverySpec, Sealed, Target};
use crate::domain::{
    CustomerName, Destination, Draft, Failure, Invalid, KeyFacts, KeyTemplate, Layer, LeafName, Manifest,
    ManifestField, ManifestInterval, ManifestPlugin, Mode, ObjectKey, OutputEvent, Retry, RunId, Slot, UploadJournal,
};
use crate::ledger::{Holder, Order};
use crate::limits::Limits;
use crate::plugin::{self, Component, Facts, Formatted, Job, Lost, Pieces};

pub use components::BadPlugin;
pub(crate) use components::{
    digest as component_digest, earlier as earlier_component, file as component_file, previous as previous_component,
};
pub use gauge::{Gauge, Reading};
pub use journal::NoJournal;
pub use parts::Parts;
pub use record::{Finished, Outcome, Recorder, yet_to_come};
pub use report::{Fared, Fate, Report};
pub use retry::Retrying;
pub use sealed::way_out;
pub use stop::{Stop, Stopper, passed};
pub use verify::{Difference, verify};

/// What is to be delivered: one slot of one share, to one customer.
#[derive(Clone)]
pub struct Work {
    pub config: Arc<Config>,
    pub share: Arc<Share>,
    pub customer: Arc<Customer>,
    pub slot: Slot,
    pub run: RunId,
}

/// A delivery that is in the bucket, manifest and all.
pub struct Delivered {
    pub manifest: Manifest,
    pub committed: Committed,
}

/// Which of a delivery's attempts it is.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// From 1.
    pub attempt: u32,
    /// Nothing of the slot is there yet, as far as is known: what is there all the same is somebody else's, and stays.
    pub is_first: bool,
}

impl Turn {
    /// Where nothing is kept of what went before.
    pub const ALONE: Self = Self { attempt: 1, is_first: false };
}

/// What flowed through, for the manifest.
struct Streamed {
    rows: u64,
    schema: Vec<ManifestField>,
    plugin: Option<ManifestPlugin>,
}

/// Output waiting between the plugin and the upload, in events of up to 1 MiB.
const OUTPUT_QUEUE: usize = 8;

/// Delivers to `target`, from the first row to the manifest. When it fails, or
/// is stopped before it is sealed, nothing is visible, and `journal` knows every
/// upload that may be left.
pub async fn deliver(
    parts: &Parts,
    work: &Work,
    Turn { attempt, is_first }: Turn,
    target: Target,
    journal: Arc<dyn UploadJournal>,
    (stop, gauge): (&Stop, &Gauge),
) -> Result<Delivered, Failure> {
    let started = parts.clock.now();
    let mut delivery = tokio::select! {
        begun = Delivery::begin(target, work.spec(parts), journal.clone()) => begun?,
        why = stop.told() => return Err(why),
    };
    gauge.follows(delivery.progress());
    let storing = async {
        let streamed = match work.dataset()? {
            Dataset::Tables(dataset) => rows(parts, work, attempt, dataset, (&delivery, gauge)).await,
            Dataset::Files(dataset) => files(parts, work, dataset, &delivery).await,
        };
        let streamed = streamed?;
        delivery.settle().await?;
        Ok::<_, Failure>(streamed)
    };
    let streamed = tokio::select! {
        streamed = storing => streamed,
        why = stop.told() => Err(why),
    };
    let streamed = match streamed {
        Ok(streamed) => streamed,
        Err(failure) => {
            if let Err(left) = delivery.abort().await {
                tracing::warn!(failure = %left, "uploads are left behind, and are tried again later");
            }
            return Err(failure);
        }
    };
    let draft = Manifest {
        manifest_version: 1,
        share: work.share.name.clone(),
        slot: work.slot.at,
        interval: ManifestInterval { start: work.slot.interval.start, end: work.slot.interval.end },
        customer: work.customer.name.clone(),
        mode: work.share.mode,
        run: work.run,
        rows: streamed.rows,
        objects: Vec::new(),
        schema: streamed.schema,
        plugin: streamed.plugin,
        consign_version: env!("CARGO_PKG_VERSION").into(),
        started,
        finished: started,
    };
    let kept = Draft { source: Some(work.source()), unasked: true, ..Draft::from(&draft) };
    journal.drafted(&kept).await?;
    finish(parts, delivery.seal().await?, draft, is_first).await
}

/// Makes a sealed delivery visible, its manifest last.
async fn finish(parts: &Parts, sealed: Sealed, draft: Manifest, is_first: bool) -> Result<Delivered, Failure> {
    // Where slots replace each other, the one before is there.
    let completed = sealed.if_new(is_first && draft.mode == Mode::Slot).complete().await?;
    crash::point(Point::Completed);
    let objects = completed.objects().to_vec();
    let manifest = Manifest { objects, finished: parts.clock.now(), ..draft };
    let manifested = completed.manifest(&manifest).await?;
    crash::point(Point::Manifest);
    Ok(Delivered { manifest, committed: manifested.mark().await? })
}

/// Rows of a dataset, through the share's plugin.
async fn rows(
    parts: &Parts,
    work: &Work,
    attempt: u32,
    dataset: &TableDataset,
    (delivery, gauge): (&Delivery, &Gauge),
) -> Result<Streamed, Failure> {
    let (component, limits) = parts.component(&work.config, &work.share)?;
    let request = Request { interval: work.slot.interval, params: &work.customer.params };
    let plan = parts.datasets.plan(dataset, &request).await?;
    let schema = plan.schema();
    let mut batches = plan.stream()?;
    let first = plugin::first_rows(&mut batches).await.transpose()?;
    let mut streamed = Streamed {
        rows: 0,
        schema: schema.fields().iter().map(|field| described(field)).collect(),
        plugin: Some(provenance(work, &component)),
    };
    if first.is_none() {
        match work.share.empty {
            Empty::Header => {}
            Empty::Skip => return Ok(streamed),
            Empty::Fail => return Err(work.no_rows()),
        }
    }
    let (gauge, within) = (gauge.clone(), limits.clone());
    let batches = stream::iter(first.map(Ok)).chain(batches).inspect_ok(move |batch| gauge.rows(batch.num_rows()));
    let job = Job {
        facts: work.facts(attempt),
        options: work.share.options.clone(),
        schema,
        limits,
        slot_at: work.slot.at,
        span: tracing::Span::current(),
    };
    let formatted = match work.share.piece_rows {
        None => {
            let _place = parts.crew.own();
            whole(component, job, batches, delivery).await
        }
        Some(rows) => {
            let pieces = Pieces { rows, at_once: delivery.pieces_at_once() };
            let store = |piece, events| store(delivery, piece, events);
            plugin::in_pieces(component, job, batches, (&pieces, &parts.crew), store).await
        }
    };
    streamed.rows = formatted.map_err(|lost| work.blame(lost, &within))?.rows;
    Ok(streamed)
}

/// All rows, through one instance of the plugin.
async fn whole<S>(component: Component, job: Job, batches: S, delivery: &Delivery) -> Result<Formatted, Lost>
where
    S: Stream<Item = Result<RecordBatch, Failure>> + Send + Unpin + 'static,
{
    let (sender, events) = mpsc::channel(OUTPUT_QUEUE);
    let formatting = plugin::format(component, job, batches, sender);
    // When storing fails that is the cause, and whatever the plugin is at is given up.
    let storing = store(delivery, 0, events).map_err(Lost::Storing);
    let (formatted, ()) = tokio::try_join!(formatting.map(Ok), storing)?;
    formatted.map_err(Lost::Formatting)
}

/// Takes the output of one piece of the rows, or of all.
async fn store(delivery: &Delivery, piece: u32, mut events: mpsc::Receiver<OutputEvent>) -> Result<(), Failure> {
    while let Some(event) = events.recv().await {
        delivery.accept_of(piece, event).await?;
    }
    Ok(())
}

/// Whole files, unread.
async fn files(parts: &Parts, work: &Work, dataset: &FileDataset, delivery: &Delivery) -> Result<Streamed, Failure> {
    let found = parts.datasets.files(dataset, &work.customer.name, &work.customer.params).await?;
    if found.is_empty() && work.share.empty == Empty::Fail {
        return Err(work.no_rows());
    }
    for (object, file) in (0..).zip(found) {
        let media_type = file.media_type.clone();
        delivery.accept(OutputEvent::Create { object, name: file.name.clone(), media_type }).await?;
        let mut contents = file.open();
        while let Some(bytes) = contents.next().await.transpose()? {
            delivery.accept(OutputEvent::Bytes { object, bytes }).await?;
        }
        delivery.accept(OutputEvent::Finish { object, rows: 0 }).await?;
    }
    Ok(Streamed { rows: 0, schema: Vec::new(), plugin: None })
}

fn described(field: &arrow::datatypes::Field) -> ManifestField {
    ManifestField {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
        nullable: field.is_nullable(),
    }
}

fn provenance(work: &Work, component: &Component) -> ManifestPlugin {
    let description = component.description();
    let reference = match work.config.plugins.get(component.name()).map(|plugin| &plugin.source) {
        Some(PluginSource::Oci { reference, pin: Some(pin) }) => Some(reference.pinned_to(&pin.manifest)),
        _ => None,
    };
    ManifestPlugin {
        name: description.name.clone(),
        version: description.version.clone(),
        digest: component.content_digest().to_string(),
        reference,
    }
}

fn bucket_of(config: &Config, customer: &Customer, manifest_key: String) -> Destination {
    let endpoint = config.aws.endpoint_url.as_ref().map(ToString::to_string);
    Destination { endpoint, bucket: customer.bucket.clone(), owner: customer.bucket_owner.clone(), manifest_key }
}

fn leads_to(config: &Config, customer: &Customer, destination: &Destination, key: &str) -> bool {
    let here = bucket_of(config, customer, String::new());
    here.is_same_bucket(destination) && customer.prefix.recorded(key).is_ok()
}

impl Work {
    /// Looks up a slot's share and a customer. Either may have gone from the
    /// configuration since the slot was recorded, or the customer from the share.
    pub fn new(config: &Arc<Config>, slot: &Slot, customer: &CustomerName, run: RunId) -> Result<Self, Failure> {
        let gone = |what: String, else_to_do: String| {
            let remedy = format!("put it back into the configuration, {else_to_do}or leave the slot undelivered");
            Failure::new(Layer::Config, Retry::Never, what, remedy)
        };
        let no_share = || gone(format!("share {} is no longer configured", slot.share), String::new());
        let share = config.shares.get(&slot.share).ok_or_else(no_share)?;
        // By another name it is another customer, who has not got the slot.
        let renamed = || {
            let at = exact(slot.at);
            format!("deliver it by `consign send {} --at {at} --customer NAME` to whom it is now, ", share.name)
        };
        if !share.goes_to(customer) {
            return Err(gone(format!("share {} no longer goes to customer {customer}", share.name), renamed()));
        }
        let no_customer = || gone(format!("customer {customer} is no longer configured"), renamed());
        let customer = config.customers.get(customer).ok_or_else(no_customer)?;
        let (config, share, customer) = (config.clone(), share.clone(), customer.clone());
        Ok(Self { config, share, customer, slot: slot.clone(), run })
    }

    /// Where the manifest goes.
    pub fn manifest_key(&self) -> Result<ObjectKey, Invalid> {
        self.key(&self.share.key, &LeafName::manifest())
    }

    fn key(&self, template: &KeyTemplate, name: &LeafName) -> Result<ObjectKey, Invalid> {
        let facts = KeyFacts {
            share: &self.share.name,
            customer: &self.customer.name,
            slot: self.slot.at,
            interval: self.slot.interval,
        };
        self.customer.prefix.key(template, &facts, name)
    }

    /// Where the delivery goes, to be written down.
    fn destination(&self) -> Result<Destination, Invalid> {
        let manifest_key = self.manifest_key()?.to_string();
        Ok(bucket_of(&self.config, &self.customer, manifest_key))
    }

    /// Whether what an earlier process stored there under `key` can be finished with today's profile.
    fn leads_to(&self, destination: &Destination, key: &str) -> bool {
        leads_to(&self.config, &self.customer, destination, key)
    }

    fn key_taken(&self, key: &str, by: &Holder) -> Failure {
        let Holder { slot, customer, has_it } = by;
        let conflict = |message, remedy: String| Failure::new(Layer::Conflict, Retry::Never, message, remedy);
        if (&slot.share, slot.at) == (&self.slot.share, self.slot.at) {
            // Of one place they are two names.
            return match has_it {
                true => conflict(
                    format!("customer {customer} has got slot {slot}, at the same key '{key}'"),
                    format!("nothing is left to do if customer {} was called {customer} then", self.customer.name),
                ),
                false => conflict(
                    format!("customer {customer} is getting slot {slot}, at the same key '{key}'"),
                    "wait until that has ended; `consign status` shows what is at work".to_owned(),
                ),
            };
        }
        let message = format!("'{key}' belongs to slot {slot}, and this slot would overwrite it");
        if slot.share != self.share.name {
            let remedy = "give the share a `key` of its own, such as one that begins with {share}; where it was called \
                          otherwise before, what it has delivered stays there";
            return conflict(message, remedy.to_owned());
        }
        let remedy = format!(
            "give the `key` of share {} what tells its slots apart, such as {{slot:%Y-%m-%d/%H%M%S}}; \
             `consign check` says which slots have the same key",
            self.share.name
        );
        conflict(message, remedy)
    }

    /// How the share's slots are to each other.
    fn order(&self) -> Order {
        match (self.share.mode, &self.share.latest_pointer) {
            (Mode::Replace, _) => Order::Forward,
            (Mode::Slot, Some(_)) => match self.pointer() {
                Some(pointer) => Order::OneByOne { pointer: pointer.to_string() },
                // It fails before it asks for an upload.
                None => Order::Any,
            },
            (Mode::Slot, None) => Order::Any,
        }
    }

    /// What all slots of the share have in common in the bucket, if there is to be such a thing.
    fn pointer(&self) -> Option<ObjectKey> {
        self.key(self.share.latest_pointer.as_ref()?, &LeafName::latest()).ok()
    }

    fn overtaken(&self, by: &Slot) -> Failure {
        let message = format!(
            "slot {by}, which is later, has been delivered, at least in part (or may have been, where the ledger was \
             restored since), and slot {} would replace it",
            self.slot
        );
        let remedy = format!(
            "nothing, if the latest is all that is wanted; with mode = \"slot\" each slot of share {} has keys of its own",
            self.share.name
        );
        Failure::new(Layer::Schedule, Retry::Never, message, remedy)
    }

    fn not_yet(&self, behind: &Slot) -> Failure {
        let message =
            format!("slot {behind} is on its way to the same customer, and share {} goes in order", self.share.name);
        let remedy = "wait until it has ended; `consign status` shows what is at work";
        Failure::new(Layer::Schedule, Retry::Later, message, remedy)
    }

    fn dataset(&self) -> Result<&Dataset, Failure> {
        match self.config.datasets.get(&self.share.dataset) {
            Some(dataset) => Ok(dataset),
            None => {
                let message = format!("share {} names the unknown dataset {}", self.share.name, self.share.dataset);
                Err(Failure::new(Layer::Config, Retry::Never, message, "run `consign check`"))
            }
        }
    }

    /// A limit that is narrower for this share than the plugin's says nothing of the plugin.
    fn blame(&self, lost: Lost, within: &Limits) -> Failure {
        let failed = match lost {
            Lost::Formatting(failed) => failed,
            Lost::Storing(failure) => return failure,
        };
        let usual = self.share.plugin.as_ref().and_then(|name| self.config.plugins.get(name));
        let is_narrower = usual.is_some_and(|plugin| failed.cause.is_narrower(within, &plugin.limits));
        let failure = Failure::from(failed);
        Failure { plugin_fault: failure.plugin_fault && !is_narrower, ..failure }
    }

    fn spec(&self, parts: &Parts) -> DeliverySpec {
        DeliverySpec {
            share: self.share.name.clone(),
            slot: self.slot.at,
            interval: self.slot.interval,
            template: self.share.key.clone(),
            success_marker: self.share.success_marker,
            latest_pointer: self.share.latest_pointer.clone(),
            compression: self.share.compression,
            in_pieces: self.share.piece_rows.is_some(),
            spill_dir: parts.spill_dir.clone(),
        }
    }

    /// What the plugin may know of the run.
    fn facts(&self, attempt: u32) -> Vec<(String, String)> {
        let facts = Facts {
            share: self.share.name.as_str(),
            customer: self.customer.name.as_str(),
            dataset: self.share.dataset.as_str(),
            run: self.run.to_string(),
            attempt,
            slot: self.slot.at,
            interval: self.slot.interval,
            timezone: self.share.timezone,
            max_object_bytes: self.share.max_object_bytes,
        };
        facts.list()
    }

    fn no_rows(&self) -> Failure {
        let message =
            format!("dataset {} has nothing for this slot, and the share says empty = \"fail\"", self.share.dataset);
        Failure::new(Layer::Dataset, Retry::Later, message, "wait for the data, or set empty to \"header\" or \"skip\"")
    }
}
