//! The log on stderr: text for people or a JSON object a line, and what journald
//! wants of either.

use std::fmt;
use std::io::IsTerminal;
use std::sync::LazyLock;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, format};
use tracing_subscriber::registry::LookupSpan;

use super::output;

/// How much a line matters, as syslog counts.
#[derive(Clone, Copy)]
pub enum Priority {
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

/// Starts the log. A filter that does not parse is said and replaced.
pub fn start(filter: Option<&str>, default: &str, json: bool) {
    let wanted = filter.unwrap_or(default);
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|error| {
        output::stderr(
            Priority::Warning,
            &format!("warning: --log '{wanted}' is not understood ({error}); using '{default}'"),
        );
        EnvFilter::new(default)
    });
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let lines = format().with_target(false);
    // The event's own fields at the top, those of its delivery in `span`.
    let objects = || lines.clone().json().flatten_event(true).with_span_list(false);
    let result = match (json, is_journal()) {
        (true, true) => log.json().event_format(ForJournal(objects())).try_init(),
        (true, false) => log.json().event_format(objects()).try_init(),
        (false, true) => log.with_ansi(false).event_format(ForJournal(lines.without_time())).try_init(),
        (false, false) => log.with_ansi(std::io::stderr().is_terminal()).event_format(lines).try_init(),
    };
    match result {
        Ok(()) => log_panics(),
        Err(error) => output::stderr(Priority::Warning, &format!("warning: the log could not be set up: {error}")),
    }
}

/// A panic is a line of the log like any other, with its priority.
fn log_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !tracing::enabled!(Level::ERROR) {
            return usual(panic);
        }
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("no message");
        // As RUST_BACKTRACE says.
        let trace = std::backtrace::Backtrace::capture();
        match trace.status() {
            std::backtrace::BacktraceStatus::Captured => {
                tracing::error!(place, "a fault in consign, please report it: {what}\n{trace}");
            }
            _ => tracing::error!(place, "a fault in consign, please report it: {what}"),
        }
    }));
}

/// Whether stderr is journald's, as systemd.exec(5) says to find out: a child of
/// a service inherits the variable, but may write elsewhere.
fn is_journal() -> bool {
    static IS_JOURNAL: LazyLock<bool> = LazyLock::new(|| {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let stderr = rustix::fs::fstat(std::io::stderr());
        stderr.is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
    });
    *IS_JOURNAL
}

/// As it is, or for journald: to that each line is an entry, and `<N>` its priority.
pub fn for_stderr(priority: Priority, text: &str) -> String {
    if is_journal() { prefixed(priority, text) } else { text.to_owned() }
}

fn prefixed(priority: Priority, text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("<{}>{line}", priority as u8)).collect();
    lines.join("\n")
}

/// Another format, with the priority before each line.
struct ForJournal<F>(F);

impl<S, N, F> FormatEvent<S, N> for ForJournal<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        let priority = match *event.metadata().level() {
            Level::ERROR => Priority::Error,
            Level::WARN => Priority::Warning,
            Level::INFO => Priority::Info,
            Level::DEBUG | Level::TRACE => Priority::Debug,
        };
        writeln!(writer, "{}", prefixed(priority, &text))
    }
}

#[cfg(test)]
mod tests {
    use super::{Priority, prefixed};

    #[test]
    fn each_line_has_its_priority() {
        assert_eq!(prefixed(Priority::Warning, "one\n  two\n"), "<4>one\n<4>  two");
    }
}
