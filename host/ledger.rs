//! The durable record of slots, runs, deliveries, attempts and uploads: an
//! SQLite file that one process writes and any may read, or a PostgreSQL
//! database that several write.
//!
//! A row exists before the side effect that it records, and an answer means
//! that the change is on disk. `docs/ARCHITECTURE.md` draws the states;
//! `state.rs` holds every step between states.

mod admin;
mod claim;
mod completing;
mod cursor;
mod db;
mod delivered;
mod error;
mod faults;
mod on_record;
mod open;
mod order;
mod place;
mod postgres;
mod read;
mod reader;
mod ready;
mod restore;
mod restored;
mod row;
mod settle;
mod shared;
mod slots;
mod state;
mod upkeep;
mod write;
mod writer;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Instant};
use crate::config::Overlap;
use crate::domain::{
    CustomerName, Destination, Draft, Failure, ManifestObject, ObjectKey, Origin, RunId, SealedObject, ShareName,
    SkipReason, Slot,
};
pub use admin::{Cancelled, FailedRun, FailedShare, Failing, Open, Rewound, Standing};
pub use cursor::Cursor;
use db::Db;
pub use delivered::Delivered;
pub use error::{Holder, LedgerError};
pub use faults::{Formatter, Quarantine, Waiting};
pub use on_record::OnRecord;
pub use order::Order;
pub use read::{
    AttemptDetail, DeliveryDetail, History, ObjectDetail, OpenAttempt, OpenDelivery, OpenUpload, RunDetail, RunSummary,
    Skipped, Unfinished, UploadDetail,
};
pub use reader::Reader;
pub use ready::{Begun, Exposed, Setback, Unready};
pub use restored::{Origins, Unknown};
pub use settle::{Saying, Settled, Settlement, Unsettled, Verdict};
pub use slots::{Pausing, Recorded};
use state::UploadEvent;
pub use state::{AttemptState, DeliveryState, RunState, SlotState, UploadState};
pub use upkeep::Checked;
use writer::Writer;

/// The ledger, open for writing. Clones share the one writer; when the last is
/// dropped, what was sent is committed and the lock released.
#[derive(Clone)]
pub struct Ledger {
    // Dropped before the writer, whose connection folds the journal into the file when it is the last.
    reader: Reader,
    /// What deliveries ask while they have their places: nobody's question comes before theirs.
    own: Reader,
    writer: Arc<Writer>,
    clock: Clock,
}

/// A slot to record, with who gets it, or why nobody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub slot: Slot,
    /// Slots of one share have it in common: there may be thousands of each.
    pub customers: Arc<[CustomerName]>,
    pub origin: Origin,
    /// What becomes of it when another slot of the share is at work.
    pub overlap: Overlap,
    /// What is not committed then has failed.
    pub deadline: Option<Instant>,
    pub skip: Option<SkipReason>,
}

impl Planned {
    /// A slot that nothing keeps from its customers.
    pub fn new(slot: Slot, customers: impl Into<Arc<[CustomerName]>>, origin: Origin) -> Self {
        Self { slot, customers: customers.into(), origin, overlap: Overlap::Allow, deadline: None, skip: None }
    }
}

/// A run that has begun, with the deliveries to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub run: RunId,
    /// As recorded: instants in whole microseconds.
    pub slot: Slot,
    pub origin: Origin,
    /// What is not committed then has failed.
    pub deadline: Option<Instant>,
    /// In order of the customers' names.
    pub deliveries: Vec<(CustomerName, DeliveryId)>,
}

/// How many pending slots to look at, and of which shares none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub slots: usize,
    pub except: Vec<ShareName>,
}

impl From<usize> for Wanted {
    fn from(slots: usize) -> Self {
        Self { slots, except: Vec::new() }
    }
}

/// What came of looking at pending slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub runs: Vec<Claim>,
    /// Deliveries that are to be ended, to make room: [`OpenDelivery::cancel`] says why.
    pub cancelled: Vec<DeliveryId>,
    /// Slots that nobody gets, or not everybody.
    pub skipped: Vec<(Slot, SkipReason)>,
    /// Slots looked at. None of them is pending any more.
    pub looked_at: usize,
}

/// How a past slot stands. Every customer asked for is in exactly one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filling {
    pub slot: Slot,
    /// Have not got it.
    pub to_deliver: Vec<CustomerName>,
    pub committed: Vec<CustomerName>,
    /// Are getting it, or are going to.
    pub under_way: Vec<CustomerName>,
}

/// A time in which a share's slots are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub share: ShareName,
    pub since: Instant,
}

/// Slots of a share, on time, that nobody has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    pub share: ShareName,
    pub slots: u64,
    pub oldest: Instant,
}

/// What came of asking for a run by hand. Every customer asked for is in exactly one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// None when nobody is left to deliver to.
    pub claim: Option<Claim>,
    /// As recorded; a slot that is already there keeps its interval.
    pub slot: Slot,
    /// Already delivered, by this run.
    pub committed: Vec<(CustomerName, RunId)>,
    /// Being delivered, by this run.
    pub busy: Vec<(CustomerName, RunId)>,
}

/// A delivery in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct DeliveryId(pub(crate) i64);

impl DeliveryId {
    /// A number that no other delivery of this ledger has.
    pub fn seed(self) -> u64 {
        self.0.cast_unsigned()
    }
}

/// An attempt in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct AttemptId(pub(crate) i64);

/// One try at a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub id: AttemptId,
    /// From 1, within its delivery.
    pub number: u32,
    /// Of the delivery, that have failed before.
    pub tries: u32,
    /// Why the delivery is to be ended, if it is.
    pub cancel: Option<Failure>,
    /// As far as the ledger knows, nothing of the slot is there for the customer to see.
    pub is_first: bool,
}

/// What a committed delivery left in the bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    pub manifest_key: String,
    pub rows: u64,
    /// Over all objects, as stored, the manifest not counted.
    pub bytes: u64,
    /// As in the manifest, in the order in which they were sealed.
    pub objects: Vec<ManifestObject>,
    /// Uploads that are of no use and may be there still: all others are complete.
    pub left: Vec<String>,
}

impl Ledger {
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Records slots and moves cursors in one transaction. Doing it again changes
    /// nothing, and tells of nothing. Cursors never go back.
    /// Slots of a share that is paused are left out.
    pub async fn plan(
        &self,
        planned: Vec<Planned>,
        cursors: Vec<(ShareName, Instant)>,
    ) -> Result<Recorded, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| slots::plan(ledger, now, &planned, &cursors)).await
    }

    /// Looks at up to `on_time` pending slots of the schedule and up to `late`
    /// of those that are caught up or filled in, oldest first, and begins their
    /// runs as far as other slots of their shares let them. Customers who already
    /// have the slot, or are getting it, are not in its run.
    pub async fn claim(&self, on_time: impl Into<Wanted>, late: impl Into<Wanted>) -> Result<Claims, LedgerError> {
        let (clock, on_time, late) = (self.clock.clone(), on_time.into(), late.into());
        // Its turn is when it is carried out: a run that it waited for has ended before.
        self.writer.run(move |ledger| claim::claim(ledger, clock.now(), &on_time, &late)).await
    }

    /// Has every slot looked at again that waits for another one: for a process that begins.
    pub async fn release_held(&self) -> Result<(), LedgerError> {
        self.writer.run(claim::release_all).await
    }

    /// Leaves out the share's slots from now on; those that were planned and not
    /// begun too.
    pub async fn pause(&self, share: ShareName) -> Result<Pausing, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| slots::pause(ledger, now, &share)).await
    }

    /// Returns since when the share was paused; None if it was not.
    pub async fn resume(&self, share: ShareName) -> Result<Option<Instant>, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| slots::resume(ledger, now, &share)).await
    }

    /// Plans past slots for those of `customers` who have not got them, behind
    /// all that is on time. Returns how each stood before.
    pub async fn backfill(&self, slots: Vec<Slot>, customers: Vec<CustomerName>) -> Result<Vec<Filling>, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| slots::backfill(ledger, now, &slots, &customers)).await
    }

    /// Begins a run by hand, of a new slot or of one that is there already.
    pub async fn start_manual(&self, slot: Slot, customers: Vec<CustomerName>) -> Result<Started, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| slots::start_manual(ledger, now, &slot, &customers)).await
    }

    /// Begins the next attempt at a delivery that is pending, or waiting after a
    /// failure. `destination` is None for one that fails before it has any.
    /// [`LedgerError::KeyTaken`] when another slot's delivery has the same manifest.
    pub async fn attempt_started(
        &self,
        delivery: DeliveryId,
        destination: Option<Destination>,
    ) -> Result<Attempt, LedgerError> {
        self.attempt_by(None, Order::Any, delivery, destination).await
    }

    /// Records an upload that exists in the bucket. Once more changes nothing.
    pub async fn upload_created(
        &self,
        attempt: AttemptId,
        key: &ObjectKey,
        upload_id: &str,
    ) -> Result<(), LedgerError> {
        let (now, key, upload_id) = (self.clock.now(), key.to_string(), upload_id.to_owned());
        self.writer.run(move |ledger| write::upload_created(ledger, now, attempt, &key, &upload_id)).await
    }

    /// Records that an upload is gone from the bucket, whatever became of its attempt.
    pub async fn upload_aborted(&self, attempt: AttemptId, upload_id: &str) -> Result<(), LedgerError> {
        let (now, upload_id) = (self.clock.now(), upload_id.to_owned());
        self.writer.run(move |ledger| write::upload_ended(ledger, now, attempt, &upload_id, UploadEvent::Abort)).await
    }

    /// Gives an upload up that is no longer within reach.
    pub async fn upload_abandoned(&self, attempt: AttemptId, upload_id: &str) -> Result<(), LedgerError> {
        let (now, upload_id) = (self.clock.now(), upload_id.to_owned());
        let work = move |ledger: &Db| write::upload_ended(ledger, now, attempt, &upload_id, UploadEvent::Abandon);
        self.writer.run(work).await
    }

    /// Keeps what the manifest is to say, so that a sealed attempt can roll
    /// forward without its source.
    pub async fn drafted(&self, attempt: AttemptId, draft: impl Into<Draft>) -> Result<(), LedgerError> {
        let draft = draft.into();
        self.writer.run(move |ledger| write::drafted(ledger, attempt, &draft)).await
    }

    /// Every byte of every object is stored: from here the attempt rolls forward.
    pub async fn sealed(&self, attempt: AttemptId, objects: &[SealedObject]) -> Result<(), LedgerError> {
        let objects = objects.to_vec();
        self.writer.run(move |ledger| write::sealed(ledger, attempt, &objects)).await
    }

    /// The manifest is in the bucket. Only a sealed attempt commits; its uploads are complete.
    pub async fn committed(&self, attempt: AttemptId, committed: Committed) -> Result<(), LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| write::committed(ledger, now, attempt, &committed)).await
    }

    /// Has those of these deliveries wait until `due` that have not begun, without a try.
    pub async fn put_off(
        &self,
        deliveries: Vec<DeliveryId>,
        failure: Failure,
        due: Instant,
    ) -> Result<(), LedgerError> {
        self.writer.run(move |ledger| write::put_off(ledger, &deliveries, &failure, due)).await
    }

    /// Records a failure. With `again` the delivery is to be tried then: a sealed
    /// attempt stays sealed, any other is over. Without it the delivery has failed.
    pub async fn failed(
        &self,
        attempt: AttemptId,
        failure: Failure,
        again: Option<Instant>,
    ) -> Result<(), LedgerError> {
        self.failed_by(None, attempt, failure, again).await.map(drop)
    }

    /// Ends an attempt that neither worked nor failed: its process died or was
    /// told to stop. The delivery is pending again.
    pub async fn interrupted(&self, attempt: AttemptId) -> Result<(), LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| write::interrupted(ledger, now, attempt)).await
    }

    /// Ends a run, and gives up those of its deliveries that wait for another
    /// attempt. Refused while one is pending, working or sealed.
    pub async fn run_finished(&self, run: RunId) -> Result<RunState, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| write::run_finished(ledger, now, run)).await
    }

    /// Forgets the slots that ended before `before`, with all that belongs to
    /// them, and pauses, and gives the room back; returns how many slots. What may still be in a
    /// bucket is kept, and so are cursors, with the slots at which they are: no slot is planned
    /// again, and the next one covers what comes after the last.
    pub async fn prune(&self, before: Instant) -> Result<usize, LedgerError> {
        self.writer.run(move |ledger| upkeep::forget_pauses(ledger, before)).await?;
        self.writer.run(move |ledger| faults::forget(ledger, before)).await?;
        let mut forgotten = 0;
        loop {
            match self.writer.run(move |ledger| upkeep::forget(ledger, before)).await? {
                0 => break,
                some => forgotten += some,
            }
        }
        while self.writer.run(upkeep::shrink).await? {}
        Ok(forgotten)
    }

    /// What an earlier process left: runs that did not end, and uploads that may
    /// still be in a bucket. Ask before anything is claimed. Of several processes
    /// each has its own: this one gets what those left that are no more, and has
    /// it from then on.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>, LedgerError> {
        self.left(None, None).await
    }

    /// The same, of one slot, or of all slots of its share.
    pub async fn unfinished_of(&self, slot: &Slot, all: bool) -> Result<Vec<Unfinished>, LedgerError> {
        self.left(None, Some((slot.share.clone(), (!all).then_some(slot.at)))).await
    }

    /// The same while work goes on: `known` is what this process has at work.
    pub async fn left_by_others(&self, known: BTreeSet<RunId>) -> Result<Vec<Unfinished>, LedgerError> {
        self.left(Some(known), None).await
    }

    async fn left(
        &self,
        known: Option<BTreeSet<RunId>>,
        of: Option<(ShareName, Option<Instant>)>,
    ) -> Result<Vec<Unfinished>, LedgerError> {
        self.writer.run(move |ledger| read::unfinished(ledger, known.as_ref(), of.as_ref())).await
    }

    /// Runs of this process that have ended, but whose uploads may still be in a bucket.
    pub async fn ended_with_uploads(&self) -> Result<Vec<Unfinished>, LedgerError> {
        self.writer.run(read::ended_with_uploads).await
    }

    /// What there is to go on with of one delivery.
    pub async fn open_delivery(&self, delivery: DeliveryId) -> Result<OpenDelivery, LedgerError> {
        self.own.read(move |ledger| read::open_delivery(ledger, delivery)).await
    }

    /// Keeps the file from growing beyond about `bytes`, as a full disk would. For tests.
    #[doc(hidden)]
    pub async fn limit_bytes(&self, bytes: u64) -> Result<(), LedgerError> {
        self.writer.run(move |ledger| upkeep::limit_bytes(ledger, bytes)).await
    }
}

impl Reader {
    /// Runs, newest first.
    pub async fn history(&self, filter: History) -> Result<Vec<RunSummary>, LedgerError> {
        self.read(move |ledger| read::history(ledger, &filter)).await
    }

    /// Skipped slots, and those that some customers were left out of, newest first. Of one customer: those that
    /// were planned for it.
    pub async fn skipped(
        &self,
        share: Option<ShareName>,
        customer: Option<CustomerName>,
        limit: usize,
    ) -> Result<Vec<Skipped>, LedgerError> {
        self.read(move |ledger| read::skipped(ledger, share.as_ref(), customer.as_ref(), limit)).await
    }

    /// How past slots stand for `customers`.
    pub async fn standing(&self, slots: Vec<Slot>, customers: Vec<CustomerName>) -> Result<Vec<Filling>, LedgerError> {
        self.read(move |ledger| slots.iter().map(|slot| slots::standing(ledger, slot, &customers)).collect()).await
    }

    /// Shares that are paused, by name.
    pub async fn pauses(&self) -> Result<Vec<Pause>, LedgerError> {
        self.read(admin::pauses).await
    }

    /// Shares of which more than `slots` wait that are due and on time, the most first.
    pub async fn backlogs(&self, slots: u64, now: Instant) -> Result<Vec<Backlog>, LedgerError> {
        self.read(move |ledger| admin::backlogs(ledger, slots, now)).await
    }

    /// All there is about a run.
    pub async fn run(&self, run: RunId) -> Result<RunDetail, LedgerError> {
        self.read(move |ledger| read::run(ledger, run)).await
    }

    /// Reads the whole file, and tells what can never be.
    pub async fn check(&self) -> Result<Checked, LedgerError> {
        self.read(upkeep::check).await
    }

    /// How many slots [`Ledger::prune`] would forget.
    pub async fn prunable(&self, before: Instant) -> Result<u64, LedgerError> {
        self.read(move |ledger| upkeep::forgettable(ledger, before)).await
    }

    /// Bytes of the file.
    pub async fn bytes(&self) -> Result<u64, LedgerError> {
        self.read(upkeep::bytes).await
    }
}
