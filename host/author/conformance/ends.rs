//! Runs that are long, slow, short of memory, or told to end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use futures::{FutureExt, Stream, stream};
use tokio::sync::{mpsc, oneshot};

use super::{Check, Finding, PATIENCE, Suite, Verdict, bad, repeated, same, told};
use crate::author::rig::{self, Keep, Taking};
use crate::domain::Failure;
use crate::limits::Limits;
use crate::plugin::{self, Cause};

/// As a dataset gives them.
const BATCH_ROWS: usize = 8192;

/// How long a plugin may take to be gone.
const GONE: Duration = Duration::from_secs(10);

pub static CHECKS: [Check; 5] = [
    Check {
        name: "slow-output",
        wants: "output that is taken slowly changes no byte",
        remedy: "`write` may block; let nothing hang on how long it takes",
        run: |suite| slow_output(suite).boxed(),
    },
    Check {
        name: "closed-output",
        wants: "a run whose upload has failed ends at once",
        remedy: "do not compute on without end between two calls of the host",
        run: |suite| closed_output(suite).boxed(),
    },
    Check {
        name: "small-memory",
        wants: "with half of the memory that it uses it ends for that reason",
        remedy: "do not wait for memory, or look for it in a loop",
        run: |suite| small_memory(suite).boxed(),
    },
    Check {
        name: "cancel",
        wants: "a run that is given up in the middle is gone within seconds",
        remedy: "a run has no end before its last batch: do not stop early, and bound nothing by a count of batches",
        run: |suite| cancel(suite).boxed(),
    },
    Check {
        name: "large",
        wants: "memory does not grow with the rows: more of them than it has memory are no failure",
        remedy: "write out what is done with, and keep no rows; where the format has to gather, do so up to a bound",
        run: |suite| large(suite).boxed(),
    },
];

async fn slow_output(suite: &Suite) -> Finding {
    let objects = suite.usual().objects().await?;
    let ran = suite.usual().run_taking(Taking::Slow(Duration::from_millis(20))).await;
    match &ran.ended {
        Ok(_) => same(&objects, &ran.objects, "slowly").map(|()| String::new()),
        Err(failed) => Err(bad(failed)),
    }
}

async fn closed_output(suite: &Suite) -> Finding {
    match suite.usual().run_taking(Taking::Closed { after: 1 }).await.ended {
        // What it had to say was on its way by then.
        Ok(_) => Ok(String::new()),
        Err(failed) if failed.cause == Cause::OutputClosed => Ok(String::new()),
        Err(failed) => Err(bad(&failed)),
    }
}

async fn small_memory(suite: &Suite) -> Finding {
    let usual = suite.usual().run().await;
    if let Err(failed) = &usual.ended {
        return Err(bad(failed));
    }
    let mut attempt = suite.usual();
    attempt.limits.memory_bytes = usual.observed.peak_memory_bytes / 2;
    match attempt.run().await.ended {
        Ok(_) => Ok(String::new()),
        Err(failed) if failed.cause == Cause::Memory => Ok(failed.message),
        Err(failed) => Err(bad(&failed)),
    }
}

async fn cancel(suite: &Suite) -> Finding {
    let (alive, gone) = oneshot::channel();
    let batches = Endless { batch: suite.rows.clone(), _alive: alive };
    let (sender, mut events) = mpsc::channel(1);
    let job = suite.usual().job();
    let formatting = plugin::observe(suite.component.clone(), job, batches, sender);
    let taking = async {
        while events.recv().await.is_some() {}
        std::future::pending::<()>().await;
    };
    // Dropped when the time is over, and that is how a run is given up.
    let early = tokio::select! {
        (ended, _) = formatting => Some(ended),
        () = taking => None,
        () = tokio::time::sleep(Duration::from_millis(500)) => None,
    };
    match early {
        Some(Err(failed)) => return Err(Verdict::Failed(format!("it ended before: {}", told(&failed)))),
        Some(Ok(_)) => return Err(Verdict::Failed("it ended before, while there were rows to come".into())),
        None => {}
    }
    match tokio::time::timeout(GONE, gone).await {
        Ok(_) => Ok(String::new()),
        Err(_) => Err(Verdict::Failed(format!("it was still there after {GONE:?}"))),
    }
}

/// The same rows again and again; tells when it is dropped.
struct Endless {
    batch: RecordBatch,
    _alive: oneshot::Sender<()>,
}

impl Stream for Endless {
    type Item = Result<RecordBatch, Failure>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Ok(self.batch.clone())))
    }
}

async fn large(suite: &Suite) -> Finding {
    if suite.rows.num_rows() == 0 {
        return Err(Verdict::Skipped("there are no rows".into()));
    }
    let batch = repeated(&suite.rows, BATCH_ROWS)?;
    let sizes = batch.columns().iter().map(|array| array.to_data().get_slice_memory_size().unwrap_or(0));
    let bytes = sizes.sum::<usize>().max(1) as u64;
    let memory = suite.limits.memory_bytes;
    let times = usize::try_from((memory + memory / 4).div_ceil(bytes)).unwrap_or(usize::MAX);
    let mut job = suite.over(Vec::new()).job();
    // On a busy machine as well; what is slow is what computes for long.
    job.limits = Limits { objects: u32::MAX, wall_time: 10 * PATIENCE, ..job.limits };
    let batches = stream::iter(std::iter::repeat_n(batch, times).map(Ok));
    let ran = rig::run(&suite.component, job, batches, Keep::Sizes).await;
    let shown = |bytes: u64| bytesize::ByteSize(bytes).display().iec().to_string();
    match &ran.ended {
        Ok(_) => {
            let peak = shown(ran.observed.peak_memory_bytes);
            Ok(format!("{} of rows with at most {peak} of {}", shown(bytes * times as u64), shown(memory)))
        }
        // Slow is not wrong.
        Err(failed) if matches!(failed.cause, Cause::CpuTime | Cause::WallTime) => Err(Verdict::Skipped(format!(
            "not done with {} of rows in time: {}",
            shown(bytes * times as u64),
            failed.message
        ))),
        Err(failed) => Err(bad(failed)),
    }
}
