//! The worker's side: everything that happens in its process.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use futures::stream;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use wasmtime::component::Component;

use super::lanes::{self, Lane, Lanes};
use super::wire::{self, Answer, Format, Request};
use super::{Purpose, Wall, attempt, confine};
use crate::domain::{Failure, Layer, OutputEvent, PluginName, Retry};
use crate::plugin::failed::{Cause, Failed};
use crate::plugin::guest::Code;
use crate::plugin::logs::Logs;
use crate::plugin::spent::Spent;
use crate::plugin::{Ends, Job, Machine, Observe, WallLayer, engine, v1};

/// A worker that is asked nothing for this long ends.
const IDLE: Duration = Duration::from_secs(10);

/// Output that waits until the guest lets go of the thread, in events.
const OUTPUT_QUEUE: usize = 8;

/// Where the compiled component is: see [`super::worker::Worker::start`].
const CODE: &str = "/proc/self/fd/1";

/// Serves the daemon at the other end of stdin until it is gone.
pub fn serve(stack_bytes: usize, purpose: Purpose) -> io::Result<()> {
    keep_memory();
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_read_timeout(Some(IDLE))?;
    // Before it may no longer make another of it.
    let to = Arc::new(Mutex::new(socket.try_clone()?));
    let lanes = Lanes::take(&socket)?;
    let (code, wall, runtime, helpers) = match prepare((stack_bytes, purpose), &socket, &to, lanes) {
        Ok(ready) => ready,
        Err(why) => {
            // It is answered in place of the question.
            let failed = Failed::new(Cause::Host, format!("its process cannot be made ready: {why}"));
            return wire::tell_answer(&mut &socket, &Answer::Failed(failed));
        }
    };
    Server { code, wall, runtime, from: socket, to, helpers: Some(helpers) }.run()
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
    to: &Arc<Mutex<UnixStream>>,
    lanes: Lanes,
) -> wasmtime::Result<(Code, Wall, Runtime, Helpers)> {
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
    let helpers = Helpers::start(socket.try_clone()?, to, lanes)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    if only.is_none_or(|only| only == WallLayer::Seccomp) {
        confine::calls(&mut wall)?;
    }
    let observed = observe.map(|observe| (observe, name));
    Ok((Code { engine, prepared, observed }, wall, runtime, helpers))
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
    to: Arc<Mutex<UnixStream>>,
    /// Until the only run has them.
    helpers: Option<Helpers>,
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
            wire::tell_answer(&mut *lock(&self.to), &answer)?;
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
        let (output, events) = mpsc::channel(OUTPUT_QUEUE);
        let spent = Arc::new(Spent::from_cpu_time(cpu_time_spent));
        let ends = Ends { spent, stem, ..Ends::of(output) };
        let batch_number = Cell::new(0);
        let host = |why: &str| Failed::new(Cause::Host, why);
        let Helpers { reads, frames, events: hands_on, handed_on, rows } =
            self.helpers.take().ok_or_else(|| host("a process formats once"))?;
        reads.send(()).map_err(|_| host("what reads the batches has ended"))?;
        hands_on.send(events).map_err(|_| host("what hands on the output has ended"))?;
        let batches = stream::iter(batches((frames, rows), &self.to, &batch_number));
        let (formatted, observed) = self.runtime.block_on(self.code.format(&job, batches, logs, ends));
        // The output's only sender is gone.
        let handed_on = handed_on.recv().map_err(|_| host("what hands on the output has ended"))?;
        handed_on.map_err(|error| host(&error.to_string()))?;
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
        let to = self.to.clone();
        // Should the daemon be gone, so is this process, any moment now.
        let hand_on = move |source, text: &str| drop(wire::tell_line(&mut *lock(&to), source, text));
        Logs::handed_on(hand_on, limit)
    }
}

/// A frame from the daemon.
type Frame = io::Result<(u8, Vec<u8>)>;

/// Threads that copy what comes and goes while the guest computes. They are there before the
/// plugin's code is, because none may be made then.
struct Helpers {
    /// Has the batches of a run read.
    reads: SyncSender<()>,
    /// What is read, but for what the output waits for.
    frames: Receiver<Frame>,
    /// Takes the output of a run.
    events: SyncSender<mpsc::Receiver<OutputEvent>>,
    /// All of it is sent.
    handed_on: Receiver<io::Result<()>>,
    rows: Arc<Lane>,
}

impl Helpers {
    fn start(mut from: UnixStream, to: &Arc<Mutex<UnixStream>>, lanes: Lanes) -> io::Result<Self> {
        let Lanes { rows, output } = lanes;
        let (reads, begins) = sync_channel(1);
        // All that may be sent, the end and an error: who reads must not wait for the guest, which may be waiting
        // for room for its output.
        let (ahead, frames) = sync_channel(lanes::BATCHES + 2);
        let (frees, freed) = sync_channel(lanes::CHUNKS);
        let read = move || {
            // Until then what comes are requests.
            if begins.recv().is_err() {
                return;
            }
            loop {
                let frame = wire::told_patiently(&mut from);
                let is_last = frame.is_err();
                // Whoever is gone needs nothing any more.
                match &frame {
                    Ok((wire::FREED, count)) => {
                        for _ in 0..wire::freed(count).unwrap_or(0) {
                            let _ = frees.try_send(());
                        }
                    }
                    _ => drop(ahead.try_send(frame)),
                }
                if is_last {
                    return;
                }
            }
        };
        let (events, runs) = sync_channel::<mpsc::Receiver<OutputEvent>>(1);
        let (all_sent, handed_on) = sync_channel(1);
        let to = to.clone();
        let write = move || {
            let Ok(events) = runs.recv() else { return };
            // Whoever waits for it may be gone.
            drop(all_sent.send(hand_on(events, &to, (&output, &freed))));
        };
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
        };
        spawn("plugin-reads", Box::new(read))?;
        spawn("plugin-writes", Box::new(write))?;
        Ok(Self { reads, frames, events, handed_on, rows: Arc::new(rows) })
    }
}

/// Sends what the guest writes.
fn hand_on(
    mut events: mpsc::Receiver<OutputEvent>,
    to: &Mutex<UnixStream>,
    (lane, freed): (&Lane, &Receiver<()>),
) -> io::Result<()> {
    let mut free = lanes::CHUNKS;
    while let Some(event) = events.blocking_recv() {
        match event {
            OutputEvent::Bytes { object, bytes } if lane.fits(bytes.len()) => {
                while freed.try_recv().is_ok() {
                    free += 1;
                }
                if free == 0 {
                    freed.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
                    free += 1;
                }
                free -= 1;
                lane.write(std::iter::once(&bytes[..]))?;
                lock(to).write_all(&wire::lent_frame(object.into(), bytes.len())?)?;
            }
            event => wire::tell_output(&mut *lock(to), event)?,
        }
    }
    lock(to).flush()
}

/// What a batch is in, until the plugin is done with it: then there is room for another.
struct Held {
    _lane: Arc<Lane>,
    /// What came through the socket instead.
    _sent: Option<Buffer>,
    to: Arc<Mutex<UnixStream>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Should the daemon be gone, so is this process, any moment now.
        drop(wire::freed_frame(1).and_then(|frame| lock(&self.to).write_all(&frame)));
    }
}

/// The batches, as they come. Blocks: there is nothing else to do meanwhile.
fn batches(
    (frames, rows): (Receiver<Frame>, Arc<Lane>),
    to: &Arc<Mutex<UnixStream>>,
    batch_number: &Cell<u64>,
) -> impl Iterator<Item = Result<RecordBatch, Failure>> {
    // SAFETY: the other end is the daemon, which encodes arrays that are valid.
    let mut decoder = unsafe { StreamDecoder::new().with_skip_validation(true) };
    let place = move |kind: u8, payload: Vec<u8>| -> Option<(u64, Buffer)> {
        let held = |sent| Arc::new(Held { _lane: rows.clone(), _sent: sent, to: to.clone() });
        Some(if kind == wire::LENT {
            let (number, bytes) = wire::lent(&payload)?;
            // SAFETY: the daemon writes a slot again when it is told that it is free, as it is
            // when its holder is dropped.
            (number, unsafe { rows.lend(bytes, held(None)) }?)
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
        let (number, mut buffer) = place(kind, payload).ok_or("it is not where it should be")?;
        batch_number.set(number);
        wire::tell_begun(&mut *lock(to), number).map_err(|error| error.to_string())?;
        let mut decoded = decoder.decode(&mut buffer).map_err(|error| error.to_string())?;
        if decoded.is_none() {
            // A body without a byte is read when there is more to read, which then stays.
            decoded = decoder.decode(&mut Buffer::from_vec(vec![0u8])).map_err(|error| error.to_string())?;
        }
        decoded.ok_or_else(|| "it has no end".into())
    };
    std::iter::from_fn(move || {
        let batch = match frames.recv() {
            Ok(Ok((kind @ (wire::BATCH | wire::LENT), payload))) => next(kind, payload),
            Ok(Ok(_)) | Err(_) => return None,
            Ok(Err(error)) => Err(error.to_string()),
        };
        let host = |why| {
            let remedy = "report it, with the versions of consign and of the plugin";
            Failure::new(Layer::Plugin, Retry::Later, format!("its process got no batch: {why}"), remedy)
        };
        Some(batch.map_err(host))
    })
}

fn lock(to: &Mutex<UnixStream>) -> MutexGuard<'_, UnixStream> {
    to.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
