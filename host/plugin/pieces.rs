//! One delivery by several instances of its plugin, so that a large one uses every core.
//!
//! The rows are cut into pieces of a number that the share says. Each piece has an
//! instance of its own and makes objects of its own, whose names carry its number; so
//! the output follows from the rows, however many instances there are at the same time.
//!
//! ```text
//!            ┌─ piece 0 ─▶ instance ─▶ objects STEM-00000…
//! batches ──▶┼─ piece 1 ─▶ instance ─▶ objects STEM-00001…
//!  read once └─ piece 2 …
//! ```
//!
//! A piece begins when all before it have ended, or earlier when the [`Crew`] has an
//! instance to spare. While a piece is formatted, the rest of it and then the next ones
//! are read ahead into the crew's memory. When there is none left, the reader waits for
//! the piece that it is in, which always goes on with what it is handed directly: so
//! pieces of any size come through, and only large ones get less help.

mod crew;
mod cut;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::future::OptionFuture;
use futures::{FutureExt as _, Stream, TryFutureExt as _};
use tokio::sync::{mpsc, watch};

use super::guest::Ends;
use super::spent::Spent;
use super::{Component, Failed, Formatted, Job, instance, meter};
use crate::domain::{Failure, Layer, OutputEvent};

pub use crew::Crew;
use cut::Piece;
pub use cut::first_rows;

/// Output of one piece that waits to be taken, in events of up to 512 KiB.
const OUTPUT_QUEUE: usize = 8;

/// How a delivery is cut.
#[derive(Clone, Debug)]
pub struct Pieces {
    /// Rows of each but the last.
    pub rows: NonZeroU64,
    /// At the same time, at most, whatever the crew has to spare.
    pub at_once: usize,
}

/// Runs a plugin over a stream of batches in pieces, whose output `take` takes, for each
/// piece by its number, until the channel is closed. There is always a first piece, if
/// only an empty one.
///
/// # Errors
/// What is wrong with the first of the pieces, in the order of the rows: those before
/// one that fails are brought to their end, those after it are given up. But when output
/// cannot be stored, that at once.
pub async fn in_pieces<S, T>(
    component: Component,
    job: Job,
    batches: S,
    (pieces, crew): (&Pieces, &Crew),
    take: impl Fn(u32, mpsc::Receiver<OutputEvent>) -> T,
) -> Result<Formatted, Lost>
where
    S: Stream<Item = Result<RecordBatch, Failure>> + Send + Unpin + 'static,
    T: Future<Output = Result<(), Failure>>,
{
    let (plugin, span, wall_time) = (component.name().clone(), job.span.clone(), job.limits.wall_time);
    let delivery = Several { component, job, spent: Arc::default(), take };
    let ended = tokio::time::timeout(wall_time, delivery.whole(batches, pieces, crew)).await;
    let (formatted, count) = ended.unwrap_or_else(|_| {
        let failed: Failed = meter::wall_time(wall_time).into();
        Err(Lost::Formatting(Failed { plugin: Some(plugin.clone()), ..failed }))
    })?;
    formatted.log(&plugin, &span, Some(count));
    Ok(formatted)
}

struct Several<T> {
    component: Component,
    job: Job,
    spent: Arc<Spent>,
    take: T,
}

/// Why formatting did not end well.
#[derive(Debug)]
pub enum Lost {
    /// The plugin failed, or its input.
    Formatting(Failed),
    /// Its output could not be stored.
    Storing(Failure),
}

impl<F, T> Several<F>
where
    F: Fn(u32, mpsc::Receiver<OutputEvent>) -> T,
    T: Future<Output = Result<(), Failure>>,
{
    /// What all of them made, and how many they were.
    async fn whole<S>(&self, batches: S, pieces: &Pieces, crew: &Crew) -> Result<(Formatted, u32), Lost>
    where
        S: Stream<Item = Result<RecordBatch, Failure>> + Send + Unpin + 'static,
    {
        let (begin, begun) = mpsc::channel(1);
        // How many have ended, from the first on without a gap.
        let ended = watch::Sender::new(0);
        let cutting = Box::pin(cut::pieces(batches, pieces, crew, (begin, ended.subscribe())));
        // None once no more rows or pieces are wanted.
        let (mut cutting, mut begun) = (Some(cutting), Some(begun));
        let mut at_work = BTreeMap::new();
        let (mut all, mut count) = (nothing(), 0);
        let mut failure = None;
        loop {
            tokio::select! {
                biased;
                (number, result) = next_ended(&mut at_work), if !at_work.is_empty() => match result {
                    Ok(formatted) => add(&mut all, &formatted),
                    Err(lost) => {
                        if let Lost::Storing(failure) = &lost && failure.layer != Layer::Plugin {
                            return Err(lost);
                        }
                        // Those before it have all of their rows. What was read further, and what it
                        // holds of the crew, is not to wait for their ends.
                        (cutting, begun) = (None, None);
                        drop(at_work.split_off(&number));
                        failure = Some(lost.of_piece(number));
                    }
                },
                Some(Some(piece)) = OptionFuture::from(begun.as_mut().map(mpsc::Receiver::recv)) => {
                    count += 1;
                    at_work.insert(piece.number, Box::pin(self.one(piece)));
                }
                Some(()) = OptionFuture::from(cutting.as_mut()) => cutting = None,
                else => break,
            }
            let first = at_work.keys().next().copied();
            ended.send_replace(first.unwrap_or(count));
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok((all, count)),
        }
    }

    /// One piece, until all of its output is taken.
    async fn one(&self, piece: Piece) -> Result<Formatted, Lost> {
        let Piece { number, rows, place } = piece;
        let (output, events) = mpsc::channel(OUTPUT_QUEUE);
        let mut job = self.job.clone();
        job.span = tracing::info_span!(parent: &self.job.span, "piece", piece = number);
        let mut stem = None;
        for (_, value) in job.facts.iter_mut().filter(|(key, _)| key == "object-stem") {
            *value = format!("{value}-{number:05}");
            stem = Some(value.clone());
        }
        let ends = Ends { spent: self.spent.clone(), stem, ..Ends::of(output) };
        let formatting = instance(self.component.clone(), job, rows, ends);
        // When taking fails that is the cause, and whatever the plugin is at is given up.
        let taking = (self.take)(number, events).map_err(Lost::Storing);
        let ((formatted, _), ()) = tokio::try_join!(formatting.map(Ok), taking)?;
        drop(place);
        formatted.map_err(Lost::Formatting)
    }
}

/// The next of them to end; of several, the first.
async fn next_ended<F: Future>(at_work: &mut BTreeMap<u32, Pin<Box<F>>>) -> (u32, F::Output) {
    let (number, output) = poll_fn(|context| {
        for (number, piece) in at_work.iter_mut() {
            if let Poll::Ready(output) = piece.as_mut().poll(context) {
                return Poll::Ready((*number, output));
            }
        }
        Poll::Pending
    })
    .await;
    at_work.remove(&number);
    (number, output)
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Formatting(failed) => failed.into(),
            Lost::Storing(failure) => failure,
        }
    }
}

impl Lost {
    fn of_piece(self, number: u32) -> Self {
        match self {
            Lost::Formatting(failed) => Lost::Formatting(Failed { piece: Some(number), ..failed }),
            Lost::Storing(_) => self,
        }
    }
}

fn nothing() -> Formatted {
    Formatted { rows: 0, objects: 0, bytes_out: 0, cpu_time: Duration::ZERO, peak_memory_bytes: 0 }
}

/// Of one instance the memory is the largest, and all else the sum.
fn add(all: &mut Formatted, one: &Formatted) {
    all.rows += one.rows;
    all.objects += one.objects;
    all.bytes_out += one.bytes_out;
    all.cpu_time += one.cpu_time;
    all.peak_memory_bytes = all.peak_memory_bytes.max(one.peak_memory_bytes);
}
