//! How a plugin can end badly, told apart so that the daemon knows what to
//! retry and the operator what to change.

use std::fmt;

use serde::{Deserialize, Serialize};
use wasmtime::{FrameInfo, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::engine::FRAMES_MAX;
use super::words::printable;
use crate::domain::{Failure, Layer, PluginName, Retry};
use crate::limits::Limits;

/// Which rule, limit or fault ended the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// The plugin says its options are wrong.
    InvalidOptions,
    /// The plugin says a type or a value cannot be said in its format.
    Unsupported,
    /// The plugin says a limit of its format is reached.
    Quota,
    /// The plugin says another attempt is worth it.
    Retryable,
    /// The plugin says something else is wrong.
    Other,
    Panic,
    Exit,
    Trap,
    Memory,
    Table,
    CpuTime,
    WallTime,
    Stack,
    /// More output bytes than allowed.
    Output,
    Objects,
    Logs,
    /// More bytes in one call than allowed.
    Call,
    ObjectName,
    /// A rule of the contract was broken.
    Protocol,
    /// Reading the data failed, not the plugin.
    Input,
    /// Nobody takes the output any more: the upload has failed.
    OutputClosed,
    /// The run was given up.
    Cancelled,
    /// The process that the plugin ran in was ended from outside.
    Worker,
    /// consign itself.
    Host,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::InvalidOptions => "invalid options",
            Cause::Unsupported => "unsupported",
            Cause::Quota => "quota",
            Cause::Retryable => "retryable",
            Cause::Other => "other",
            Cause::Panic => "panic",
            Cause::Exit => "exit",
            Cause::Trap => "trap",
            Cause::Memory => "memory",
            Cause::Table => "table",
            Cause::CpuTime => "CPU time",
            Cause::WallTime => "wall time",
            Cause::Stack => "stack",
            Cause::Output => "output",
            Cause::Objects => "objects",
            Cause::Logs => "logs",
            Cause::Call => "call size",
            Cause::ObjectName => "object name",
            Cause::Protocol => "protocol",
            Cause::Input => "input",
            Cause::OutputClosed => "output closed",
            Cause::Cancelled => "cancelled",
            Cause::Worker => "worker",
            Cause::Host => "host",
        }
    }

    /// Whether the plugin itself says what is wrong, by a case of the contract.
    pub fn is_said(self) -> bool {
        use Cause::{InvalidOptions, Other, Quota, Retryable, Unsupported};
        matches!(self, InvalidOptions | Unsupported | Quota | Retryable | Other)
    }

    /// Whether the same work may succeed later: a plugin is deterministic, so
    /// only what came from outside it is tried again.
    pub fn retry(self) -> Retry {
        match self {
            Cause::Retryable
            | Cause::WallTime
            | Cause::OutputClosed
            | Cause::Cancelled
            | Cause::Worker
            | Cause::Host => Retry::Later,
            _ => Retry::Never,
        }
    }

    /// Whether the plugin is at fault. Not when it says itself what is wrong, nor when
    /// it waited for others: its data, its bucket.
    pub fn is_fault(self) -> bool {
        use Cause::{Cancelled, Host, Input, OutputClosed, WallTime};
        !self.is_said() && !matches!(self, WallTime | Input | OutputClosed | Cancelled | Host)
    }

    /// Whether what ended a plugin within `limits` is a limit that it usually need not
    /// keep: a larger one is among `usual`.
    pub fn is_narrower(self, limits: &Limits, usual: &Limits) -> bool {
        match self {
            Cause::Memory => limits.memory_bytes < usual.memory_bytes,
            Cause::Table => limits.table_elements < usual.table_elements,
            Cause::CpuTime => limits.cpu_time < usual.cpu_time,
            Cause::Stack => limits.stack_bytes < usual.stack_bytes,
            Cause::Output => limits.output_bytes < usual.output_bytes,
            Cause::Objects => limits.objects < usual.objects,
            Cause::Logs => limits.log_lines < usual.log_lines,
            Cause::Call => limits.call_bytes < usual.call_bytes,
            _ => false,
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Cause::InvalidOptions => "correct the share's `options`; `consign check` shows every problem at once",
            Cause::Unsupported => "cast or leave out the column in the dataset's query, or choose another format",
            Cause::Quota => "deliver less at once, or split objects with the share's `max_object_size`",
            Cause::Memory => {
                "raise the `memory` limit of the plugin or of this share, or give it smaller objects or batches"
            }
            Cause::CpuTime => "raise the `cpu_time` limit of the plugin or of this share if the dataset has grown",
            Cause::WallTime => {
                "look at the dataset's and the bucket's speed, or raise the `wall_time` limit of the plugin or of this share"
            }
            Cause::Output => "raise the `output_bytes` limit of the plugin or of this share if the dataset has grown",
            Cause::Objects => {
                "raise the `objects` limit of the plugin or of this share, or the share's `max_object_size` or `piece_rows`"
            }
            Cause::Logs => "make the plugin log less, or raise its `log_lines` limit",
            Cause::Stack => "report it to the plugin's author, or raise its `stack` limit if it has to recurse deeply",
            Cause::Table => "report it to the plugin's author, or raise its `table_elements` limit",
            Cause::Call => "report it to the plugin's author, or raise its `call_bytes` limit",
            Cause::Panic | Cause::Exit | Cause::Trap => {
                "this is a defect of the plugin: report it to its author with the frames and the stderr tail"
            }
            Cause::ObjectName | Cause::Protocol => {
                "the plugin breaks a rule of wit/v1/format.wit: report it to its author"
            }
            Cause::Worker => "look who ended it: `journalctl -k` shows whether the kernel was short of memory",
            Cause::Retryable | Cause::Other => "these are the plugin's own words: its author knows what it asks for",
            Cause::Host => {
                "give consign the threads, processes and memory that it was refused; `consign plugin isolation` tells whether \
                 plugins can have processes here"
            }
            // What came before them is told instead.
            Cause::Input | Cause::OutputClosed | Cause::Cancelled => "",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A run that did not end well.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Failed {
    pub cause: Cause,
    /// Added at the end of the run.
    #[serde(skip)]
    pub plugin: Option<PluginName>,
    /// What happened, without the plugin's name and the batch.
    pub message: String,
    /// The guest's call stack, innermost first, demangled; at most 20.
    pub frames: Vec<String>,
    /// The last lines of the guest's stderr, at most 20.
    pub stderr_tail: Vec<String>,
    /// Batches begun when it ended: 0 before the first.
    pub batch_number: u64,
    /// Of the delivery's rows, where it has several; added at the end of the run.
    #[serde(skip)]
    pub piece: Option<u32>,
    /// The failure of the batch stream, when that was the cause.
    #[serde(skip)]
    pub input: Option<Box<Failure>>,
}

impl Failed {
    /// `message` may have the plugin's own words in it.
    pub fn new(cause: Cause, message: impl AsRef<str>) -> Self {
        Self {
            cause,
            plugin: None,
            message: printable(message.as_ref().as_bytes()),
            frames: Vec::new(),
            stderr_tail: Vec::new(),
            batch_number: 0,
            piece: None,
            input: None,
        }
    }

    /// The stream of batches failed; the plugin is not to blame.
    pub(super) fn input(failure: Failure) -> Self {
        Self { message: failure.to_string(), input: Some(Box::new(failure)), ..Self::new(Cause::Input, "") }
    }
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Failed::new(stop.cause, stop.message)
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        if let Some(failure) = failed.input {
            return *failure;
        }
        let mut message = match &failed.plugin {
            Some(plugin) => format!("{plugin}: {}", failed.message),
            None => failed.message,
        };
        match (failed.batch_number, failed.piece) {
            (0, None) => {}
            (0, Some(piece)) => message.push_str(&format!(" (in piece {piece})")),
            (batch, None) => message.push_str(&format!(" (at batch {batch})")),
            (batch, Some(piece)) => message.push_str(&format!(" (at batch {batch} of piece {piece})")),
        }
        if let Some(frame) = failed.frames.first() {
            message.push_str(&format!(", in {frame}"));
        }
        let failure = Failure::new(Layer::Plugin, failed.cause.retry(), message, failed.cause.remedy());
        Failure { plugin_fault: failed.cause.is_fault(), ..failure }
    }
}

/// Ends a guest from inside a host function, with the reason.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Stop {
    pub cause: Cause,
    pub message: String,
}

impl Stop {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into() }
    }
}

/// Tells why the runtime ended a guest. `stderr_tail` decides between a panic
/// and a plain `unreachable`, and holds the panic's text.
pub fn classify(error: &wasmtime::Error, stderr_tail: Vec<String>) -> Failed {
    let (cause, message) = cause(error, &stderr_tail);
    Failed { frames: frames(error), stderr_tail, ..Failed::new(cause, message) }
}

fn cause(error: &wasmtime::Error, stderr_tail: &[String]) -> (Cause, String) {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return (stop.cause, stop.message.clone());
    }
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return (Cause::Exit, format!("called exit({code}); a plugin ends by returning"));
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return match trap {
            Trap::StackOverflow => (Cause::Stack, "used up its stack: endless or too deep recursion".into()),
            Trap::UnreachableCodeReached => match panic_text(stderr_tail) {
                Some(text) => (Cause::Panic, text),
                None => (Cause::Trap, trap.to_string()),
            },
            trap => (Cause::Trap, trap.to_string()),
        };
    }
    let text = format!("{:#}", error);
    // The runtime has no types for these two; tests/plugin.rs holds the texts.
    if text.contains("fuel allocated for hostcalls") {
        return (Cause::Call, "passed more bytes in one call than the host takes; write in smaller pieces".into());
    }
    if text.contains("borrow handles still remain") {
        return (Cause::Protocol, "kept a batch or a sink that was lent to it for one call".into());
    }
    if text.contains("unknown handle index") || text.contains("resource table has no free keys") {
        return (Cause::Protocol, format!("misused a handle: {}", error.root_cause()));
    }
    (Cause::Trap, error.root_cause().to_string())
}

/// What Rust's panic handler printed: the place and the lines after it.
fn panic_text(stderr_tail: &[String]) -> Option<String> {
    let at = stderr_tail.iter().rposition(|line| line.contains("panicked at"))?;
    let place = stderr_tail[at].split_once("panicked at ").map_or("", |(_, place)| place.trim_end_matches(':'));
    let said: Vec<&str> =
        stderr_tail[at + 1..].iter().map(String::as_str).filter(|line| !line.starts_with("note: ")).collect();
    Some(format!("panicked at {place}: {}", said.join(" ")))
}

fn frames(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    backtrace.frames().iter().take(FRAMES_MAX).map(frame).collect()
}

/// What a frame is of, demangled.
pub fn function(frame: &FrameInfo) -> String {
    match frame.func_name() {
        // Without the hash that rustc appends. The names are the plugin's own.
        Some(name) => printable(format!("{:#}", rustc_demangle::demangle(name)).as_bytes()),
        None => format!("function {}", frame.func_index()),
    }
}

/// A function, and the line where it is known.
fn frame(frame: &FrameInfo) -> String {
    let name = function(frame);
    let line = frame.symbols().first().and_then(|symbol| Some((symbol.file()?, symbol.line()?)));
    match line {
        Some((file, line)) => format!("{name} ({}:{line})", printable(file.as_bytes())),
        None => name,
    }
}
