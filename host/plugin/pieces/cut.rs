//! Cuts a stream of batches into pieces, each a stream of its own.

use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::Pieces;
use super::crew::{Crew, Place};
use crate::domain::Failure;
use crate::plugin::plain;

/// Batches that every piece may be handed without the crew's memory.
const HANDED: usize = 2;

type Batch = Result<RecordBatch, Failure>;

/// One piece, whose instance is to begin.
pub struct Piece {
    pub number: u32,
    pub rows: Rows,
    pub place: Place,
}

/// A batch, and the memory that it has until it is taken.
type Read = (Batch, OwnedSemaphorePermit);

/// The rows of one piece.
pub type Rows = stream::BoxStream<'static, Batch>;

/// Reads the batches to their end. `ended` tells how many pieces have.
pub async fn pieces<S>(
    mut batches: S,
    pieces: &Pieces,
    crew: &Crew,
    (begin, mut ended): (mpsc::Sender<Piece>, watch::Receiver<u32>),
) where
    S: Stream<Item = Batch> + Send + Unpin,
{
    let mut first = None;
    for number in 0.. {
        let place = place(number, pieces, crew, &mut ended).await;
        let (feed, rows) = feed(crew);
        if begin.send(Piece { number, rows, place }).await.is_err() {
            return;
        }
        first = feed.fill(first, &mut batches, pieces.rows).await;
        if first.is_none() {
            return;
        }
    }
}

/// When a piece may begin: in its turn, or before it with an instance that others leave.
async fn place(number: u32, pieces: &Pieces, crew: &Crew, ended: &mut watch::Receiver<u32>) -> Place {
    let at_once = u32::try_from(pieces.at_once).unwrap_or(u32::MAX).max(1);
    // Whoever tells of ends goes away only with this.
    let _ = ended.wait_for(|ended| number - ended < at_once).await;
    tokio::select! {
        biased;
        _ = ended.wait_for(|ended| *ended == number) => crew.own(),
        place = crew.spare() => place,
    }
}

struct Feed<'a> {
    to: mpsc::UnboundedSender<Read>,
    handed: Arc<Semaphore>,
    crew: &'a Crew,
}

/// Unbounded, because what is on its way is bounded by its permits.
fn feed(crew: &Crew) -> (Feed<'_>, Rows) {
    let (to, mut from) = mpsc::unbounded_channel::<Read>();
    let rows = stream::poll_fn(move |context| from.poll_recv(context)).map(|(batch, _)| batch);
    (Feed { to, handed: Arc::new(Semaphore::new(HANDED)), crew }, rows.boxed())
}

impl Feed<'_> {
    /// Hands over `rows` rows, or all that are left. Returns the first batch of the next
    /// piece, if there is one.
    async fn fill(
        self,
        mut first: Option<Batch>,
        batches: &mut (impl Stream<Item = Batch> + Unpin),
        rows: NonZeroU64,
    ) -> Option<Batch> {
        let mut missing = rows.get();
        while missing > 0 {
            let next = match first.take() {
                Some(first) => Some(first),
                None => batches.next().await,
            };
            match next? {
                Err(failure) => {
                    self.hand_over(Err(failure), 0).await?;
                    return None;
                }
                Ok(batch) => {
                    let now = batch.num_rows().min(usize::try_from(missing).unwrap_or(usize::MAX));
                    missing -= now as u64;
                    if now < batch.num_rows() {
                        first = Some(Ok(batch.slice(now, batch.num_rows() - now)));
                    }
                    let batch = batch.slice(0, now);
                    let bytes = batch.columns().iter().map(plain::held).sum();
                    self.hand_over(Ok(batch), bytes).await?;
                }
            }
        }
        // Its instance need not wait to hear that it has all rows.
        drop(self);
        match first {
            Some(first) => Some(first),
            None => first_rows(batches).await,
        }
    }

    /// Waits until the instance is near, or there is memory. None when it has ended.
    async fn hand_over(&self, batch: Batch, bytes: usize) -> Option<()> {
        let permit = tokio::select! {
            biased;
            handed = self.handed.clone().acquire_owned() => handed.ok(),
            ahead = self.crew.ahead(bytes) => ahead,
        };
        self.to.send((batch, permit?)).ok()
    }
}

/// The first batch that has rows, or cannot be read.
pub async fn first_rows(batches: &mut (impl Stream<Item = Batch> + Unpin)) -> Option<Batch> {
    loop {
        match batches.next().await? {
            Ok(batch) if batch.num_rows() == 0 => {}
            batch => return Some(batch),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use futures::FutureExt as _;

    use super::*;

    /// 8 KiB each, of 1024 rows.
    fn batches(count: usize, read: Arc<AtomicUsize>) -> impl Stream<Item = Batch> + Send + Unpin {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(0..1024))]).unwrap();
        stream::iter((0..count).map(move |_| {
            read.fetch_add(1, Ordering::Relaxed);
            Ok(batch.clone())
        }))
    }

    fn of(batches: u64) -> Pieces {
        Pieces { rows: NonZeroU64::new(batches * 1024).unwrap(), at_once: 4 }
    }

    /// Nobody takes rows: what is read of them is what is bounded.
    fn read_ahead(pieces: &Pieces, crew: &Crew) -> usize {
        let (read, (begin, _begun)) = (Arc::new(AtomicUsize::new(0)), mpsc::channel(100));
        let ended = watch::Sender::new(0);
        let cutting = super::pieces(batches(10_000, read.clone()), pieces, crew, (begin, ended.subscribe()));
        assert!(cutting.now_or_never().is_none());
        read.load(Ordering::Relaxed)
    }

    #[test]
    fn no_more_is_read_than_there_is_memory_for() {
        // Two are handed over, and one is in the reader's hand.
        assert_eq!(read_ahead(&of(1000), &Crew::new(8, 0)), 2 + 1);
        assert_eq!(read_ahead(&of(1000), &Crew::new(8, 160 << 10)), 2 + 20 + 1);
        assert_eq!(read_ahead(&of(10), &Crew::new(8, 160 << 10)), 3 * 2 + 20 + 1, "two of each piece");
        // As far as the next piece would begin.
        assert_eq!(read_ahead(&of(10), &Crew::new(1, 1 << 20)), 10 + 1);
        assert_eq!(read_ahead(&of(10), &Crew::new(3, 1 << 20)), 30 + 1);
        assert_eq!(read_ahead(&of(10), &Crew::new(8, 1 << 20)), 40 + 1, "four at once");
    }

    /// Deliveries share it, and one whose bucket is slow takes nothing that others
    /// need to go on.
    #[tokio::test]
    async fn without_memory_left_each_piece_goes_on() {
        let crew = Crew::new(8, 160 << 10);
        let (read, (begin, _begun)) = (Arc::new(AtomicUsize::new(0)), mpsc::channel(100));
        let (of_slow, ended) = (of(1000), watch::Sender::new(0));
        let mut slow = pin!(super::pieces(batches(10_000, read), &of_slow, &crew, (begin, ended.subscribe())));
        assert!(slow.as_mut().now_or_never().is_none());
        assert_eq!(read_ahead(&of(1000), &crew), 2 + 1);

        let (begin, mut begun) = mpsc::channel(1);
        let (pieces, ended) = (of(10), watch::Sender::new(0));
        let cutting = super::pieces(batches(35, Arc::default()), &pieces, &crew, (begin, ended.subscribe()));
        let taking = async {
            let mut rows = Vec::new();
            while let Some(piece) = begun.recv().await {
                rows.push(piece.rows.map(|batch| batch.unwrap().num_rows()).collect::<Vec<_>>().await.len());
                ended.send_modify(|ended| *ended += 1);
            }
            rows
        };
        let ((), rows) = tokio::join!(cutting, taking);
        assert_eq!(rows, [10, 10, 10, 5]);
    }

    #[test]
    fn places_are_for_those_that_others_leave() {
        let crew = Crew::new(2, 0);
        let first = crew.own();
        let spare = crew.spare().now_or_never().unwrap();
        assert!(crew.spare().now_or_never().is_none());
        let own = crew.own();
        drop(spare);
        assert!(crew.spare().now_or_never().is_none(), "a delivery's own instance counts");
        drop((first, own));
        assert!(crew.spare().now_or_never().is_some());
    }

    #[test]
    fn crews_of_the_same_size_are_the_same() {
        let earlier = Crew::new(1, 0);
        let _own = earlier.own();
        assert!(Crew::beside(Some(&earlier), 1, 0).spare().now_or_never().is_none());
        assert!(Crew::beside(Some(&earlier), 2, 0).spare().now_or_never().is_some());
    }
}
