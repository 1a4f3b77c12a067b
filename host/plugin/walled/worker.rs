//! A worker, seen from the daemon.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::confine::WallLayer;
use super::lanes::Lanes;
use super::wire::{self, Answer, Heard, Request};
use super::{Failed, GRACE, nonsense};
use crate::limits::Limits;
use crate::plugin::compiled::Compiled;
use crate::plugin::failed::Cause;
use crate::plugin::logs::Logs;

/// What consign is started as, with the bytes of the plugin's stack and, if it is not for the
/// daemon's runs, with its [`Purpose`].
pub const COMMAND: &str = "plugin-worker";

/// What a worker is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// What the daemon asks.
    Runs,
    /// The same for the plugin's author, who is told more of it.
    Observed,
    /// To try what one layer holds alone. None of the plugin's code ever runs in it.
    Layer(WallLayer),
}

const OBSERVED: &str = "observed";

impl Purpose {
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Runs => None,
            Self::Observed => Some(OBSERVED),
            Self::Layer(layer) => Some(layer.as_str()),
        }
    }

    /// What the words after the bytes of the stack say.
    pub fn parse(word: Option<&str>) -> Option<Self> {
        match word {
            None => Some(Self::Runs),
            Some(OBSERVED) => Some(Self::Observed),
            Some(word) => WallLayer::ALL.into_iter().find(|layer| layer.as_str() == word).map(Self::Layer),
        }
    }
}

/// What a worker may use beside the plugin's linear memory: its own code, batches,
/// what calls hand over.
const MEMORY_BESIDE: u64 = 1 << 30;

/// How much of what it printed is worth showing.
const PRINTED_BYTES: u64 = 2 << 10;

/// A worker's socket until a moment, however little of it comes at a time.
struct Until {
    socket: UnixStream,
    end: Instant,
}

impl Until {
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::WouldBlock.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Until {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        self.socket.read(buffer)
    }
}

impl Write for Until {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A process that is killed when this is dropped.
pub struct Worker {
    child: Child,
    socket: UnixStream,
    pub lanes: Lanes,
}

impl Worker {
    /// The socket is the worker's stdin, the compiled component its stdout: so it
    /// has them and nothing else from its first instruction on.
    pub fn start(program: &Path, code: &Compiled, stack_bytes: usize, purpose: Purpose) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let lanes = Lanes::make(&socket)?;
        let child = Command::new(program)
            .args([COMMAND, &stack_bytes.to_string()])
            .args(purpose.word())
            .env_clear()
            .current_dir("/")
            .stdin(std::os::fd::OwnedFd::from(theirs))
            .stdout(code.memory()?)
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self { child, socket, lanes })
    }

    /// What the kernel holds it to, should it forget the plugin's limits.
    pub fn bound_memory(&self, limits: &Limits) {
        self.bound(Resource::Data, limits.memory_bytes.saturating_add(MEMORY_BESIDE));
    }

    /// The same for what it computes in all.
    pub fn bound_cpu_time(&self, limits: &Limits) {
        self.bound(Resource::Cpu, limits.cpu_time.as_secs() + 2 * GRACE.as_secs());
    }

    fn bound(&self, resource: Resource, most: u64) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        if let Err(error) = prlimit(pid, resource, limit) {
            tracing::debug!(%error, ?resource, "cannot bound the plugin's process");
        }
    }

    /// Asks what moves no data, and waits for the answer.
    pub fn answer(
        mut self,
        request: &Request,
        schema: Option<&Schema>,
        timeout: Duration,
        logs: &Logs,
    ) -> Result<(Self, Answer), Failed> {
        let late = || Failed::new(Cause::WallTime, "did not answer in time");
        let mut frames = Vec::new();
        let mut until = Until {
            socket: self.socket.try_clone().map_err(|error| self.died(&error))?,
            end: Instant::now() + timeout,
        };
        match wire::request(&mut frames, request, schema).and_then(|()| until.write_all(&frames)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
            Err(error) => return Err(self.died(&error)),
        }
        loop {
            match wire::hear_blocking(&mut until) {
                Ok(Heard::Answer(answer)) => return Ok((self, answer)),
                Ok(Heard::Line(source, text)) => logs.line(source, &text)?,
                Ok(Heard::Output(_) | Heard::Lent { .. } | Heard::Begun(_) | Heard::Freed(_)) => {
                    return Err(nonsense("wrote output to a question"));
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(nonsense(&error.to_string())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
                Err(error) => return Err(self.died(&error)),
            }
        }
    }

    /// What its process has computed; None when it is gone.
    pub fn cpu_time(&self) -> Option<Duration> {
        let pid = libc::pid_t::try_from(self.child.id()).ok()?;
        let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
        // SAFETY: each writes to the place that it is given, and nothing else.
        let is_told = unsafe {
            libc::clock_getcpuclockid(pid, &raw mut clock) == 0 && libc::clock_gettime(clock, &raw mut time) == 0
        };
        let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
        is_told.then(|| Duration::new(seconds, nanos))
    }

    /// Its socket, for a run.
    pub fn socket(&self) -> io::Result<tokio::net::UnixStream> {
        let socket = self.socket.try_clone()?;
        socket.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(socket)
    }

    /// Why it cannot be talked to any more.
    pub fn died(&mut self, error: &io::Error) -> Failed {
        // It has closed its side, and so has ended, or is about to.
        let _ = self.child.kill();
        let ended = match self.child.wait() {
            Ok(status) => status,
            Err(wait) => return Failed::new(Cause::Host, format!("cannot wait for the plugin's process: {wait}")),
        };
        let mut printed = Vec::new();
        if let Some(stderr) = &mut self.child.stderr {
            let _ = stderr.take(PRINTED_BYTES).read_to_end(&mut printed);
        }
        let printed = String::from_utf8_lossy(&printed);
        let printed: Vec<&str> = printed.split_whitespace().collect();
        let (cause, mut message) = told(ended, error);
        if !printed.is_empty() {
            message.push_str(": ");
            message.push_str(&printed.join(" "));
        }
        Failed::new(cause, message)
    }
}

fn told(ended: ExitStatus, error: &io::Error) -> (Cause, String) {
    match (ended.signal().and_then(Signal::from_named_raw), ended.code()) {
        (Some(Signal::XCPU), _) => (Cause::CpuTime, "its process used up its CPU time".into()),
        (Some(Signal::SYS), _) => (Cause::Trap, "its process did what it may not and was ended for it".into()),
        (Some(signal), _) => (Cause::Worker, format!("its process was ended by signal {}", signal.as_raw())),
        (None, Some(code)) => (Cause::Worker, format!("its process ended with {code}")),
        (None, None) => (Cause::Worker, format!("its process cannot be talked to: {error}")),
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
