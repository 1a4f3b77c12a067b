//! What a guest says: log calls, stdout and stderr, line by line.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tracing::{Level, Span};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::failed::{Cause, Stop};
use super::spent::Spent;
use super::words::printable;
use crate::limits::SAID_BYTES_MAX;

/// Lines of stderr kept for the failure.
const TAIL_LINES: usize = 20;

/// The log of one run. Clones write into the same one; it outlives the guest.
#[derive(Clone)]
pub struct Logs(Arc<Mutex<Inner>>);

struct Inner {
    to: To,
    limit: u32,
    spent: Arc<Spent>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    stderr_tail: VecDeque<String>,
}

type HandOn = Box<dyn FnMut(Source, &str) + Send>;

/// Where lines go.
enum To {
    Log {
        plugin: String,
        span: Span,
    },
    /// To the process that has the log.
    Daemon(HandOn),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Call(Level),
    Stdout,
    Stderr,
}

impl Logs {
    pub fn new(plugin: String, span: Span, limit: u32) -> Self {
        Self::beside(Arc::default(), plugin, span, limit)
    }

    /// A log whose lines are counted with those of others.
    pub fn beside(spent: Arc<Spent>, plugin: String, span: Span, limit: u32) -> Self {
        Self::with(To::Log { plugin, span }, limit, spent)
    }

    /// Hands each line on.
    pub fn handed_on(to: impl FnMut(Source, &str) + Send + 'static, limit: u32) -> Self {
        Self::with(To::Daemon(Box::new(to)), limit, Arc::default())
    }

    fn with(to: To, limit: u32, spent: Arc<Spent>) -> Self {
        let (stdout, stderr, stderr_tail) = (Vec::new(), Vec::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Inner { to, limit, spent, stdout, stderr, stderr_tail })))
    }

    /// A whole line of the guest, as another process heard it.
    pub fn line(&self, source: Source, text: &[u8]) -> Result<(), Stop> {
        self.lock().line(source, text)
    }

    /// One line by `run.log`.
    pub fn log(&self, level: Level, message: &str) -> Result<(), Stop> {
        self.lock().line(Source::Call(level), message.as_bytes())
    }

    /// A stream of the guest; `source` is stdout or stderr.
    pub fn stream(&self, source: Source) -> impl StdoutStream + 'static {
        Stream { logs: self.clone(), source }
    }

    /// Writes out lines that have no end yet, and returns the last lines of stderr.
    pub fn finish(&self) -> Vec<String> {
        let mut inner = self.lock();
        for source in [Source::Stdout, Source::Stderr] {
            let rest = std::mem::take(inner.pending(source));
            if !rest.is_empty() {
                // The run is over; a limit reached now ends nothing.
                let _ = inner.line(source, &rest);
            }
        }
        inner.stderr_tail.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    fn pending(&mut self, source: Source) -> &mut Vec<u8> {
        if source == Source::Stdout { &mut self.stdout } else { &mut self.stderr }
    }

    fn write(&mut self, source: Source, bytes: &[u8]) -> Result<(), Stop> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let pending = self.pending(source);
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            // One byte more than is shown, so that the cut is seen.
            let room = (SAID_BYTES_MAX + 1).saturating_sub(pending.len());
            pending.extend_from_slice(&text[..text.len().min(room)]);
            if text.len() < part.len() {
                let line = std::mem::take(pending);
                self.line(source, &line)?;
            }
        }
        Ok(())
    }

    fn line(&mut self, source: Source, bytes: &[u8]) -> Result<(), Stop> {
        let text = printable(bytes);
        if source == Source::Stderr {
            if self.stderr_tail.len() == TAIL_LINES {
                self.stderr_tail.pop_front();
            }
            self.stderr_tail.push_back(text.clone());
        }
        if !self.spent.log(self.limit) {
            return Err(Stop::new(Cause::Logs, format!("wrote more than {} log lines", self.limit)));
        }
        match &mut self.to {
            To::Log { plugin, span } => span.in_scope(|| tell(plugin, source, &text)),
            To::Daemon(hand_on) => hand_on(source, &text),
        }
        Ok(())
    }
}

fn tell(plugin: &str, source: Source, text: &str) {
    match source {
        Source::Call(Level::ERROR) => tracing::error!(target: "consign::plugin", plugin, "{text}"),
        Source::Call(Level::WARN) => tracing::warn!(target: "consign::plugin", plugin, "{text}"),
        Source::Call(Level::INFO) => tracing::info!(target: "consign::plugin", plugin, "{text}"),
        Source::Call(Level::DEBUG) => tracing::debug!(target: "consign::plugin", plugin, "{text}"),
        Source::Call(_) => tracing::trace!(target: "consign::plugin", plugin, "{text}"),
        Source::Stdout => tracing::info!(target: "consign::plugin", plugin, stream = "stdout", "{text}"),
        Source::Stderr => tracing::warn!(target: "consign::plugin", plugin, stream = "stderr", "{text}"),
    }
}

#[derive(Clone)]
struct Stream {
    logs: Logs,
    source: Source,
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this one, and that is not offered.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.logs.lock().write(self.source, &bytes).map_err(|stop| StreamError::Trap(stop.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_cut_and_made_harmless() {
        let logs = Logs::new("p".into(), Span::none(), 100);
        let write = |text: &str| logs.lock().write(Source::Stderr, text.as_bytes()).unwrap();
        write("one\ntw");
        write("o\r\n\x1b[31mred\n");
        write(&"x".repeat(5000));
        write("more\nlast");
        let tail = logs.finish();
        assert_eq!(tail[..3], ["one", "two", "\\u{1b}[31mred"]);
        assert_eq!(tail[3], format!("{} …(cut)", "x".repeat(4096)));
        assert_eq!(tail[4], "last");
    }

    #[test]
    fn the_tail_keeps_the_last_lines_and_the_limit_holds() {
        let logs = Logs::new("p".into(), Span::none(), 30);
        let stop = (0..).find_map(|i| logs.lock().write(Source::Stderr, format!("{i}\n").as_bytes()).err()).unwrap();
        assert_eq!(stop.cause, Cause::Logs);
        let tail = logs.finish();
        assert_eq!((tail.len(), tail[0].as_str(), tail[19].as_str()), (20, "11", "30"));
    }
}
