//! The worker's side: everything that happens in its process.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::{FileDecoder, StreamDecoder};
use arrow::ipc::{Block, MetadataVersion};
use futures::stream;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::runtime::Runtime;
use wasmtime::component::Component;

use super::home::Home;
use super::lanes::{self, Lane, Lanes, Slots};
use super::wire::{self, Answer, Format, Request};
use super::{Purpose, Wall, attempt, confine};
use crate::domain::{Failure, Layer, PluginName, Retry};
use crate::plugin::failed::{Cause, Failed};
use crate::plugin::guest::Code;
use crate::plugin::logs::Logs;
use crate::plugin::output::Outlet;
use crate::plugin::spent::Spent;
use crate::plugin::{Ends, Job, Machine, Observe, WallLayer, engine, v1};

/// A worker that is asked nothing for this long ends.
const IDLE: Duration = Duration::from_secs(10);

/// Where the compiled component is: see [`super::worker::Worker::start`].
const CODE: &str = "/proc/self/fd/1";

/// Serves the daemon at the other end of stdin until it is gone.
pub fn serve(stack_bytes: usize, purpose: Purpose) -> io::Result<()> {
    keep_memory();
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_read_timeout(Some(IDLE))?;
    let Lanes { rows, output } = Lanes::take(&socket)?;
    let (slots, frees) = Slots::new(output);
    // Before it may no longer make another of it.
    let home = Home::new(socket.try_clone()?, slots);
    let (code, wall, runtime, rows) = match prepare((stack_bytes, purpose), &socket, frees, rows) {
        Ok(ready) => ready,
        Err(why) => {
            // It is answered in place of the question.
            let failed = Failed::new(Cause::Host, format!("its process cannot be made ready: {why}"));
            return home.answer(&Answer::Failed(failed));
        }
    };
    Server { code, wall, runtime, from: socket, home, rows: Some(rows) }.run()
}

/// Chunks of output come and go all the time: what the C library gave back to the kernel
/// after each, it would have to ask for again, and the kernel to make it zero.
fn keep_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: both take any number, and there is one thread yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}

/// Loads the component, which is trusted; then gives up everything that only that needed.
fn prepare(
    (stack_bytes, purpose): (usize, Purpose),
    socket: &UnixStream,
    frees: SyncSender<u8>,
    rows: Lane,
) -> wasmtime::Result<(Code, Wall, Runtime, Rows)> {
    let observe = (purpose == Purpose::Observed).then(Observe::default);
    let only = if let Purpose::Layer(layer) = purpose { Some(layer) } else { None };
    let Machine { engine, linker } = Machine::at_rest(stack_bytes, observe)?;
    // SAFETY: the daemon wrote what its own engine had compiled into this memory and
    // then sealed it.
    let component = unsafe { Component::deserialize_file(&engine, CODE)? };
    component.initialize_copy_on_write_image()?;
    let prepared = v1::Prepared::new(linker.instantiate_pre(&component)?)?;
    // What core dumps and profiles would call it, which are not made here.
    let name = PluginName::parse("plugin").map_err(|why| wasmtime::format_err!("{why}"))?;
    let mut wall = confine::process(only);
    engine::tick(&engine, observe)?;
    end_with(socket.try_clone()?)?;
    let rows = Rows::start(socket.try_clone()?, frees, rows)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    if only.is_none_or(|only| only == WallLayer::Seccomp) {
        confine::calls(&mut wall)?;
    }
    let observed = observe.map(|observe| (observe, name));
    Ok((Code { engine, prepared, observed }, wall, runtime, rows))
}

/// Ends this process when the daemon's end of the socket is closed, whatever the
/// plugin does at that time.
fn end_with(socket: UnixStream) -> io::Result<()> {
    let watch = move || {
        let mut gone = [PollFd::new(&socket, PollFlags::RDHUP)];
        while poll(&mut gone, None).is_err() {}
        std::process::exit(0);
    };
    std::thread::Builder::new().name("plugin-watch".into()).spawn(watch).map(drop)
}

struct Server {
    code: Code,
    wall: Wall,
    runtime: Runtime,
    from: UnixStream,
    home: Home,
    /// Until the only run has them.
    rows: Option<Rows>,
}

impl Server {
    fn run(mut self) -> io::Result<()> {
        loop {
            let request = match wire::told(&mut self.from) {
                Ok((wire::REQUEST, payload)) => wire::read(&payload)?,
                Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
                // Nobody asks any more.
                Err(_) => return Ok(()),
            };
            let last = matches!(request, Request::Format(_));
            let answer = self.answer(request).unwrap_or_else(Answer::Failed);
            self.home.answer(&answer)?;
            if last {
                return Ok(());
            }
        }
    }

    fn answer(&mut self, request: Request) -> Result<Answer, Failed> {
        if !self.wall.seccomp && !matches!(request, Request::Attempt(Some(_))) {
            return Err(Failed::new(Cause::Host, "nothing else is done where system calls are not filtered"));
        }
        match request {
            Request::Describe { limits } => {
                let logs = self.logs(limits.log_lines);
                let described = async |store: &mut _| v1::describe(store, &self.code.prepared).await;
                self.runtime
                    .block_on(self.code.call(&limits, &logs, described))
                    .map(|description| Answer::Described(description, self.wall.clone()))
            }
            Request::Check { limits, options } => {
                let (logs, schema) = (self.logs(limits.log_lines), self.schema()?);
                let checked = async |store: &mut _| v1::check(store, &self.code.prepared, &options, &schema).await;
                self.runtime.block_on(self.code.call(&limits, &logs, checked)).map(Answer::Checked)
            }
            Request::Format(format) => self.format(format),
            Request::Attempt(None) => Ok(Answer::Attempted(self.wall.clone(), attempt::all())),
            Request::Attempt(Some(outside)) => {
                Ok(Answer::Attempted(self.wall.clone(), attempt::without_filter(&outside)))
            }
        }
    }

    fn format(&mut self, format: Format) -> Result<Answer, Failed> {
        let Format { facts, options, limits, slot_at, stem, cpu_time_spent } = format;
        let (logs, schema) = (self.logs(limits.log_lines), self.schema()?);
        let job = Job { facts, options, schema, limits, slot_at, span: tracing::Span::none() };
        let spent = Arc::new(Spent::from_cpu_time(cpu_time_spent));
        let ends = Ends { spent, stem, ..Ends::of(Outlet::Daemon(self.home.clone())) };
        let batch_number = Cell::new(0);
        let rows = self.rows.take().ok_or_else(|| Failed::new(Cause::Host, "a process formats once"))?;
        let batches = stream::iter(rows.batches(&self.home, job.schema.clone(), &batch_number)?);
        let (formatted, observed) = self.runtime.block_on(self.code.format(&job, batches, logs, ends));
        // As the daemon counts, which may have cut a batch into several.
        let counted = |failed: Failed| Failed { batch_number: failed.batch_number.min(batch_number.get()), ..failed };
        Ok(Answer::Ran(formatted.map_err(counted), observed))
    }

    fn schema(&mut self) -> Result<SchemaRef, Failed> {
        let host = |why: String| Failed::new(Cause::Host, format!("its process got no schema: {why}"));
        let payload = match wire::told(&mut self.from) {
            Ok((wire::SCHEMA, payload)) => payload,
            Ok((kind, _)) => return Err(host(format!("a frame of kind {kind}"))),
            Err(error) => return Err(host(error.to_string())),
        };
        let mut decoder = StreamDecoder::new();
        decoder.decode(&mut Buffer::from_vec(payload)).map_err(|error| host(error.to_string()))?;
        decoder.schema().ok_or_else(|| host("it is empty".into()))
    }

    fn logs(&self, limit: u32) -> Logs {
        let home = self.home.clone();
        // Should the daemon be gone, so is this process, any moment now.
        let hand_on = move |source, text: &str| drop(home.line(source, text));
        Logs::handed_on(hand_on, limit)
    }
}

/// A frame from the daemon.
type Frame = io::Result<(u8, Vec<u8>)>;

/// What the daemon sends in a run. A thread reads it, which is there before the plugin's code is,
/// because none may be made then: the guest may be waiting for what comes after a batch.
struct Rows {
    /// Has the frames of a run read.
    reads: SyncSender<()>,
    /// What is read, but for what the output waits for.
    frames: Receiver<Frame>,
    lane: Arc<Lane>,
}

/// What a batch is in, until the plugin is done with it: then there is room for another.
struct Held {
    _lane: Arc<Lane>,
    /// What came through the socket instead.
    _sent: Option<Buffer>,
    home: Home,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.home.done();
    }
}

impl Rows {
    fn start(mut from: UnixStream, frees: SyncSender<u8>, lane: Lane) -> io::Result<Self> {
        let (reads, begins) = sync_channel(1);
        // All that may be sent, the end and an error: who reads must not wait for the guest.
        let (ahead, frames) = sync_channel(lanes::BATCHES + 2);
        let read = move || {
            // Until then what comes are requests.
            if begins.recv().is_err() {
                return;
            }
            loop {
                let frame = wire::told_patiently(&mut from);
                let is_last = frame.is_err();
                // Whoever is gone needs nothing any more.
                match frame {
                    Ok((wire::FREED, slots)) => slots.into_iter().for_each(|slot| {
                        let _ = frees.try_send(slot);
                    }),
                    frame => drop(ahead.try_send(frame)),
                }
                if is_last {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("plugin-reads".into()).spawn(read)?;
        Ok(Self { reads, frames, lane: Arc::new(lane) })
    }

    /// The batches, as they come. Blocks: there is nothing else to do meanwhile.
    fn batches(
        self,
        home: &Home,
        schema: SchemaRef,
        batch_number: &Cell<u64>,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, Failure>>, Failed> {
        let Self { reads, frames, lane } = self;
        reads.send(()).map_err(|_| Failed::new(Cause::Host, "what reads the batches has ended"))?;
        // SAFETY: the other end is the daemon, which encodes arrays that are valid.
        let decoder = unsafe { FileDecoder::new(schema, MetadataVersion::V5).with_skip_validation(true) };
        let mut lent = 0;
        let mut place = move |kind: u8, payload: Vec<u8>| -> Option<(u64, Buffer)> {
            let held = |sent| Arc::new(Held { _lane: lane.clone(), _sent: sent, home: home.clone() });
            Some(if kind == wire::LENT {
                let (number, bytes) = wire::lent(&payload)?;
                let slot = lent % lanes::BATCHES;
                lent += 1;
                // SAFETY: the daemon writes a slot again when it is told that it is free, as it is
                // when its holder is dropped.
                (number, unsafe { lane.lend(slot, bytes, held(None)) }?)
            } else {
                let mut buffer = Buffer::from_vec(payload);
                let (number, _) = buffer.split_first_chunk()?;
                let number = u64::from_le_bytes(*number);
                buffer.advance(size_of::<u64>());
                let (start, bytes) = (std::ptr::NonNull::from(buffer.as_slice()).cast(), buffer.len());
                // SAFETY: it is what its holder has.
                (number, unsafe { Buffer::from_custom_allocation(start, bytes, held(Some(buffer))) })
            })
        };
        let mut next = move |kind: u8, payload: Vec<u8>| -> Result<RecordBatch, String> {
            let (number, message) = place(kind, payload).ok_or("it is not where it should be")?;
            // A batch may come in several messages.
            let told = if batch_number.replace(number) == number { home.freed() } else { home.begun(number) };
            told.map_err(|error| error.to_string())?;
            let block = block(&message).ok_or("it has no beginning")?;
            let decoded = decoder.read_record_batch(&block, &message).map_err(|error| error.to_string())?;
            decoded.ok_or_else(|| "it is no batch".into())
        };
        // Mostly one is there already. Before it waits for one, the daemon has to know that it may send it.
        let wait = move || match frames.try_recv() {
            Err(TryRecvError::Empty) => home.freed().and_then(|()| frames.recv().map_err(io::Error::other)?),
            there => there.map_err(io::Error::other)?,
        };
        Ok(std::iter::from_fn(move || {
            let batch = match wait() {
                Ok((kind @ (wire::BATCH | wire::LENT), payload)) => next(kind, payload),
                Ok((wire::END, _)) => return None,
                Ok((kind, _)) => Err(format!("a frame of kind {kind} came instead")),
                Err(error) => Err(error.to_string()),
            };
            let host = |why| {
                let remedy = "report it, with the versions of consign and of the plugin";
                Failure::new(Layer::Plugin, Retry::Later, format!("its process got no batch: {why}"), remedy)
            };
            Some(batch.map_err(host))
        }))
    }
}

/// What of a message in Arrow's stream tells of it, and what is in it: after a mark comes the
/// length of the former.
fn block(message: &Buffer) -> Option<Block> {
    let (_mark, rest) = message.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk()?;
    let told = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|told| *told <= rest.len())?;
    let begin = i32::try_from(message.len() - rest.len() + told).ok()?;
    Some(Block::new(0, begin, i64::try_from(rest.len() - told).ok()?))
}
