//! Plugins behind a second wall: in a process that can do nothing but compute.
//!
//! The daemon starts `consign plugin-worker` with one end of a pair of sockets and
//! the compiled component, and nothing else: no credentials, no environment, no
//! configuration. The worker gives up what it could do ([`confine`]) before any of
//! the plugin's code runs. Then requests go one way, and output, log lines and the
//! answer come back ([`wire`]). A run has a worker of its own, which ends with it.
//!
//! Whatever the worker says is taken for the plugin's word: it is held against
//! the same limits here as in the daemon's own process.

mod attempt;
mod confine;
mod home;
mod lanes;
mod serve;
mod wire;
mod worker;

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::StreamEncoder;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::Semaphore;

use super::compiled::Compiled;
use super::engine::FRAMES_MAX;
use super::failed::{Cause, Failed, Stop};
use super::logs::Logs;
use super::output::Output;
use super::{Description, Diagnostic, Ends, Formatted, Job, Observed, Severity, guest, meter, plain, words};
use crate::domain::{Failure, OutputEvent};
use crate::limits::Limits;

pub use attempt::Attempt;
pub use confine::{Wall, WallLayer};
pub use home::Home;
pub use lanes::Slot;
pub use serve::serve;
pub use wire::heard_all;
pub use worker::{COMMAND, Purpose};

use attempt::Listening;
use lanes::Lanes;
use wire::{Answer, Format, Heard, Request};
use worker::Worker;

/// What a worker may take longer than the plugin's wall time, to start and to end.
const GRACE: Duration = Duration::from_secs(10);

/// How often it is looked what a worker has computed.
const LOOK: Duration = Duration::from_millis(200);

/// A component that runs in processes of its own.
pub struct Walled {
    program: PathBuf,
    code: Compiled,
    stack_bytes: usize,
    purpose: Purpose,
    /// Answers what moves no data, and ends by itself when it is not asked for a while.
    quick: Mutex<Option<Worker>>,
}

impl Walled {
    pub fn new(program: &Path, code: Compiled, stack_bytes: usize, purpose: Purpose) -> Self {
        Self { program: program.into(), code, stack_bytes, purpose, quick: Mutex::new(None) }
    }

    pub fn describe(&self, limits: &Limits, logs: &Logs) -> Result<Description, Failed> {
        match self.ask((limits, logs), &Request::Describe { limits: limits.clone() }, None)? {
            Answer::Described(description, Wall { seccomp, landlock, namespaces }) => {
                tracing::info!(plugin = description.name, seccomp, landlock, namespaces, "has processes of its own");
                Ok(description)
            }
            _ => Err(other()),
        }
    }

    /// `schema` is plain.
    pub fn check(
        &self,
        limits: &Limits,
        logs: &Logs,
        options: &str,
        schema: &Schema,
    ) -> Result<Vec<Diagnostic>, Failed> {
        if let Some(column) = plain::union(schema) {
            let finding = Diagnostic { severity: Severity::Error, path: String::new(), message: no_unions(column) };
            return Ok(vec![finding]);
        }
        let request = Request::Check { limits: limits.clone(), options: options.into() };
        match self.ask((limits, logs), &request, Some(schema))? {
            Answer::Checked(diagnostics) => Ok(diagnostics.into_iter().map(shown).collect()),
            _ => Err(other()),
        }
    }

    /// Starts a worker and has it try what none may do; behind `only` one of the layers, what that one holds.
    pub fn attempts(&self, only: Option<WallLayer>) -> Result<(Wall, Vec<Attempt>), Failed> {
        let logs = Logs::new(String::new(), tracing::Span::none(), 0);
        let listening = match only {
            None | Some(WallLayer::Seccomp) => None,
            Some(_) => Some(Listening::start().map_err(|error| Failed::new(Cause::Host, error.to_string()))?),
        };
        let (outside, _listening) = listening.map(Listening::split).unzip();
        let worker = self.start_for(only.map_or(Purpose::Runs, Purpose::Layer))?;
        match worker.answer(&Request::Attempt(outside), None, GRACE, &logs)?.1 {
            Answer::Attempted(wall, attempts) => Ok((wall, attempts)),
            Answer::Failed(failed) => Err(failed),
            _ => Err(other()),
        }
    }

    fn start(&self) -> Result<Worker, Failed> {
        self.start_for(self.purpose)
    }

    fn start_for(&self, purpose: Purpose) -> Result<Worker, Failed> {
        Worker::start(&self.program, &self.code, self.stack_bytes, purpose)
            .map_err(|error| Failed::new(Cause::Host, format!("cannot start a process for the plugin: {error}")))
    }

    /// Asks what moves no data. One at a time.
    fn ask(
        &self,
        (limits, logs): (&Limits, &Logs),
        request: &Request,
        schema: Option<&Schema>,
    ) -> Result<Answer, Failed> {
        let timeout = limits.wall_time + GRACE;
        let mut quick = self.quick.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let answer = |worker: Worker| {
            // Its CPU time is that of several questions.
            worker.bound_memory(limits);
            worker.answer(request, schema, timeout, logs)
        };
        let answered = match quick.take().map(answer) {
            // It had just ended, having had nothing to do.
            None | Some(Err(Failed { cause: Cause::Worker, .. })) => answer(self.start()?),
            Some(answered) => answered,
        };
        let stderr_tail = logs.finish();
        let answer = answered.and_then(|(worker, answer)| {
            *quick = Some(worker);
            match answer {
                Answer::Failed(failed) => Err(harmless(failed)),
                answer => Ok(answer),
            }
        });
        answer.map_err(|failed| if failed.stderr_tail.is_empty() { Failed { stderr_tail, ..failed } } else { failed })
    }

    pub async fn format<S>(
        &self,
        job: &Job,
        batches: S,
        logs: Logs,
        ends: Ends,
    ) -> (Result<Formatted, Failed>, Observed)
    where
        S: Stream<Item = Result<RecordBatch, Failure>> + Unpin,
    {
        let seen = Seen::default();
        let ended = self.run(job, batches, (&logs, &ends, &seen)).await;
        // Rows and batches are those that were read here.
        (ended, Observed { rows: seen.rows.get(), batches: seen.sent.get(), ..seen.told.into_inner() })
    }

    async fn run<S>(
        &self,
        job: &Job,
        batches: S,
        (logs, ends, seen): (&Logs, &Ends, &Seen),
    ) -> Result<Formatted, Failed>
    where
        S: Stream<Item = Result<RecordBatch, Failure>> + Unpin,
    {
        let plain = Arc::new(plain::schema(&job.schema));
        if let Some(column) = plain::union(&plain) {
            return Err(Failed::new(Cause::Unsupported, no_unions(column)));
        }
        let mut worker = self.start()?;
        worker.bound_memory(&job.limits);
        worker.bound_cpu_time(&job.limits);
        let charged = Cell::new(Duration::ZERO);
        let work = async {
            tokio::select! {
                ended = exchange(&worker, (job, &plain), batches, (logs, ends, seen)) => ended,
                stop = charge(&worker, ends, job.limits.cpu_time, &charged) => Err(Lost::Here(stop.into())),
            }
        };
        let ended = ends.unless_ended(job.limits.wall_time, work).await;
        let stderr_tail = logs.finish();
        let batch_number = seen.batch_number.get();
        match ended {
            Ok(Ok(formatted)) => {
                ends.spent.compute(formatted.cpu_time.saturating_sub(charged.get()));
                Ok(formatted)
            }
            Ok(Err(Lost::Said(failed))) => Err(harmless(failed)),
            Ok(Err(Lost::Here(failed))) => Err(Failed { stderr_tail, batch_number, ..failed }),
            Ok(Err(Lost::Died(error))) => Err(Failed { stderr_tail, batch_number, ..worker.died(&error) }),
            Err(stop) => Err(Failed { stderr_tail, batch_number, ..stop.into() }),
        }
    }
}

/// What is seen of a run in a worker.
#[derive(Default)]
struct Seen {
    /// Which batch the plugin is at.
    batch_number: Cell<u64>,
    /// Batches that are on their way or were, and their rows.
    sent: Cell<u64>,
    rows: Cell<u64>,
    /// By the worker, at its end.
    told: RefCell<Observed>,
}

/// How a run in a worker is lost.
enum Lost {
    /// As the worker tells it.
    Said(Failed),
    /// As it is seen from here.
    Here(Failed),
    /// The worker cannot be talked to.
    Died(io::Error),
}

/// Charges to the delivery what one of several workers computes, until that is too much. They
/// do not see each other, and each was told only what had been used up when it began.
async fn charge(worker: &Worker, ends: &Ends, limit: Duration, charged: &Cell<Duration>) -> Stop {
    if ends.stem.is_none() {
        return std::future::pending().await;
    }
    let before = worker.cpu_time().unwrap_or_default();
    loop {
        // Whatever else the task has done by now.
        tokio::task::unconstrained(tokio::time::sleep(LOOK)).await;
        let now = worker.cpu_time().unwrap_or_default().saturating_sub(before);
        ends.spent.compute(now.saturating_sub(charged.replace(now)));
        if ends.spent.cpu_time() >= limit {
            return meter::cpu_time(limit);
        }
    }
}

/// Sends the batches and takes what comes back, both at once.
async fn exchange<S>(
    worker: &Worker,
    (job, plain): (&Job, &SchemaRef),
    batches: S,
    (logs, ends, seen): (&Logs, &Ends, &Seen),
) -> Result<Formatted, Lost>
where
    S: Stream<Item = Result<RecordBatch, Failure>> + Unpin,
{
    // Held to the end: its half closed, the worker would take the daemon for gone.
    let (reader, writer) = worker.socket().map_err(Lost::Died)?.into_split();
    let to = To {
        lanes: &worker.lanes,
        writer: tokio::sync::Mutex::new(writer),
        batches: Semaphore::new(lanes::BATCHES),
        lent: Cell::new(0),
    };
    let feed = async {
        match feed(&to, (job, plain, ends), batches, seen).await {
            // It has heard all; or it has ended, and why comes from its side.
            Ok(()) | Err(Lost::Died(_)) => std::future::pending().await,
            Err(lost) => lost,
        }
    };
    let mut output = Output::new(ends, &job.limits);
    let said = tokio::select! {
        lost = feed => return Err(lost),
        said = take(BufReader::with_capacity(64 << 10, reader), &to, &mut output, (logs, seen)) => said?,
    };
    let rows = seen.rows.get();
    output.end(rows).map_err(|stop| Lost::Here(stop.into()))?;
    Ok(Formatted { rows, objects: output.objects(), bytes_out: output.bytes(), ..said })
}

/// The way to a worker.
struct To<'a> {
    lanes: &'a Lanes,
    /// Sometimes what takes the output has a word to send too.
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    /// How many batches may be sent now.
    batches: Semaphore,
    /// How many went through the lane.
    lent: Cell<usize>,
}

impl To<'_> {
    async fn send(&self, bytes: &[u8]) -> Result<(), Lost> {
        self.writer.lock().await.write_all(bytes).await.map_err(Lost::Died)
    }

    /// Sends a batch, once there is room for it.
    async fn batch(&self, number: u64, buffers: &[Buffer]) -> Result<(), Lost> {
        // Nobody closes it.
        if let Ok(room) = self.batches.acquire().await {
            room.forget();
        }
        let (rows, bytes) = (&self.lanes.rows, wire::length(buffers));
        if !rows.fits(bytes) {
            return wire::send_batch(&mut *self.writer.lock().await, number, buffers).await.map_err(Lost::Died);
        }
        let slot = self.lent.replace(self.lent.get() + 1) % lanes::BATCHES;
        let lent = rows
            .write(slot, 0, buffers.iter().map(Buffer::as_slice))
            .and_then(|()| wire::lent_frame(number, bytes, None));
        self.send(&lent.map_err(Lost::Died)?).await
    }
}

async fn feed<S>(
    to: &To<'_>,
    (job, plain, ends): (&Job, &SchemaRef, &Ends),
    mut batches: S,
    seen: &Seen,
) -> Result<(), Lost>
where
    S: Stream<Item = Result<RecordBatch, Failure>> + Unpin,
{
    let host = |error: arrow::error::ArrowError| Lost::Here(Failed::new(Cause::Host, error.to_string()));
    let format = Format {
        facts: job.facts.clone(),
        options: job.options.clone(),
        limits: job.limits.clone(),
        slot_at: job.slot_at,
        stem: ends.stem.clone(),
        cpu_time_spent: ends.spent.cpu_time(),
    };
    let mut opening = Vec::new();
    wire::request(&mut opening, &Request::Format(format), Some(plain)).map_err(Lost::Died)?;
    to.send(&opening).await?;
    let mut encoder = StreamEncoder::try_new(plain).map_err(host)?;
    // The schema comes with the first: it is there already.
    encoder.encode(&RecordBatch::new_empty(plain.clone())).map_err(host)?;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|failure| {
            // The plugin may not have got all of them yet, but it is this one that fails.
            seen.batch_number.set(seen.sent.get());
            Lost::Here(Failed::input(failure))
        })?;
        let sent = seen.sent.get() + 1;
        seen.sent.set(sent);
        seen.rows.set(seen.rows.get() + batch.num_rows() as u64);
        for part in guest::parts(&batch, plain) {
            let buffers = encoder.encode(&part.map_err(Lost::Here)?).map_err(host)?;
            to.batch(sent, &buffers).await?;
        }
    }
    to.send(&wire::end_frame().map_err(Lost::Died)?).await
}

/// Takes what the worker says until it has ended.
async fn take(
    mut reader: BufReader<impl AsyncRead + Unpin>,
    to: &To<'_>,
    output: &mut Output,
    (logs, seen): (&Logs, &Seen),
) -> Result<Formatted, Lost> {
    let mut freed = Vec::with_capacity(lanes::CHUNKS_FREED.into());
    loop {
        let stopped = |stop: Stop| Lost::Here(stop.into());
        match wire::hear(&mut reader).await {
            Ok(Heard::Output(event)) => accept(output, event).await?,
            Ok(Heard::Lent { object, bytes, slot }) => {
                let Some(chunk) = to.lanes.output.copy(slot.into(), bytes).filter(|chunk| !chunk.is_empty()) else {
                    return Err(Lost::Here(nonsense("sent a chunk that is in no slot")));
                };
                freed.push(slot);
                // Some at once: each is a word that wakes the worker.
                if freed.len() == usize::from(lanes::CHUNKS_FREED) {
                    let frame = wire::freed_frame(&freed).map_err(Lost::Died)?;
                    freed.clear();
                    // A worker that is done listens no more, and has more to say.
                    drop(to.send(&frame).await);
                }
                accept(output, OutputEvent::Bytes { object, bytes: chunk.into() }).await?;
            }
            Ok(Heard::Freed(count)) if count > 0 && to.batches.available_permits() + count <= lanes::BATCHES => {
                to.batches.add_permits(count);
            }
            Ok(Heard::Freed(_)) => return Err(Lost::Here(nonsense("freed what it was not sent"))),
            Ok(Heard::Line(source, text)) => logs.line(source, &text).map_err(stopped)?,
            Ok(Heard::Begun(number)) if number > seen.batch_number.get() && number <= seen.sent.get() => {
                seen.batch_number.set(number);
            }
            Ok(Heard::Begun(_)) => return Err(Lost::Here(nonsense("began a batch that it was not sent"))),
            Ok(Heard::Answer(Answer::Ran(ended, observed))) => {
                *seen.told.borrow_mut() = observed;
                return ended.map_err(Lost::Said);
            }
            Ok(Heard::Answer(Answer::Failed(failed))) => return Err(Lost::Said(failed)),
            Ok(Heard::Answer(_)) => return Err(Lost::Here(other())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Lost::Here(nonsense(&error.to_string())));
            }
            Err(error) => return Err(Lost::Died(error)),
        }
    }
}

/// Hands on what the plugin writes, once it keeps to the rules.
async fn accept(output: &mut Output, event: OutputEvent) -> Result<(), Lost> {
    let stopped = |stop: Stop| Lost::Here(stop.into());
    output.accept(event).map_err(stopped)?;
    while let Some((event, outlet)) = output.next() {
        outlet.send(event).await.map_err(stopped)?;
    }
    Ok(())
}

/// Arrow's stream loses track of the rows of unions that are cut out of longer ones.
fn no_unions(column: &str) -> String {
    format!(
        "column {} has a union in it, which cannot be handed to a process of its own: \
         set isolation = \"in-process\" for the plugin, or cast it in the query",
        words::shown(column)
    )
}

/// What a worker says was made fit for the log by the worker, which need not be true.
fn harmless(failed: Failed) -> Failed {
    let all = |texts: Vec<String>| texts.into_iter().take(FRAMES_MAX).map(|text| words::kept(&text)).collect();
    let (message, frames, stderr_tail) = (words::kept(&failed.message), all(failed.frames), all(failed.stderr_tail));
    Failed { message, frames, stderr_tail, ..failed }
}

fn shown(said: Diagnostic) -> Diagnostic {
    Diagnostic { path: words::kept(&said.path), message: words::kept(&said.message), ..said }
}

fn other() -> Failed {
    nonsense("answered another question")
}

/// A worker that keeps to nothing is the work of its plugin.
fn nonsense(what: &str) -> Failed {
    Failed::new(Cause::Protocol, format!("its process {what}"))
}
