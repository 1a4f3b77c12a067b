//! A running query as a stream of guarded batches.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::error::DatasetError;
use super::tenant::Guard;
use crate::domain::{DatasetName, Failure, Layer, Retry};

/// Rows of a batch, at most.
pub const BATCH_ROWS: usize = 8192;

/// Batches that wait for their reader, so that the query and the formatter work side by side.
const AHEAD: usize = 2;

/// The rows of one customer. Ends after its first failure; dropping it stops the query.
pub struct Batches {
    schema: SchemaRef,
    receiver: mpsc::Receiver<Result<RecordBatch, Failure>>,
    /// None once the end has been told.
    task: Option<AbortOnDropHandle<()>>,
    dataset: DatasetName,
}

impl Batches {
    pub(super) fn start(
        physical: Arc<dyn ExecutionPlan>,
        task: Arc<TaskContext>,
        guard: Option<Guard>,
        dataset: DatasetName,
    ) -> Result<Self, DatasetError> {
        let schema = physical.schema();
        let rows = execute_stream(physical, task).map_err(|error| DatasetError::engine(&error).of(&dataset))?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let task = tokio::spawn(pump(rows, guard, dataset.clone(), sender));
        Ok(Self { schema, receiver, task: Some(AbortOnDropHandle::new(task)), dataset })
    }

    /// Columns of every batch.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

async fn pump(
    mut rows: SendableRecordBatchStream,
    mut guard: Option<Guard>,
    dataset: DatasetName,
    sender: mpsc::Sender<Result<RecordBatch, Failure>>,
) {
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|error| DatasetError::engine(&error).of(&dataset).into());
        let checked = batch.and_then(|batch| match &mut guard {
            Some(guard) => guard.check(&batch).map(|()| batch),
            None => Ok(batch),
        });
        match checked {
            Ok(batch) => {
                for part in parts(batch) {
                    if sender.send(Ok(part)).await.is_err() {
                        return;
                    }
                }
            }
            Err(failure) => {
                // Nobody listens to a stream that was dropped.
                let _ = sender.send(Err(failure)).await;
                return;
            }
        }
    }
}

/// A batch in pieces of at most [`BATCH_ROWS`]; none for an empty one.
fn parts(batch: RecordBatch) -> VecDeque<RecordBatch> {
    let rows = batch.num_rows();
    let starts = (0..rows).step_by(BATCH_ROWS);
    starts.map(|start| batch.slice(start, BATCH_ROWS.min(rows - start))).collect()
}

impl Stream for Batches {
    type Item = Result<RecordBatch, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(task) = &mut this.task else {
            return Poll::Ready(None);
        };
        // The channel closes when the task ends, and only the task knows whether it ended well.
        let ended = match this.receiver.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(batch))) => return Poll::Ready(Some(Ok(batch))),
            Poll::Ready(Some(Err(failure))) => Some(Err(failure)),
            Poll::Ready(None) => match task.poll_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => None,
                Poll::Ready(Err(error)) => Some(Err(Failure::new(
                    Layer::Dataset,
                    Retry::Never,
                    format!("dataset '{}': the query engine broke off: {error}", this.dataset),
                    "report this with the dataset's query",
                ))),
            },
        };
        this.task = None;
        Poll::Ready(ended)
    }
}
