//! What the commands print, how errors end the process.

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use serde::Serialize;

use super::log::{self, Priority};
use crate::check::Unsound;
use crate::clock::{Clock, exact};
use crate::config::{ConfigErrors, Problem, rendered};
use crate::domain::{Failure, Refused};
use crate::ledger::LedgerError;

/// How the process ends. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    Failed,
    Usage,
    Config,
    Ledger,
    Internal,
}

impl Exit {
    /// The number that the shell sees.
    pub fn number(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Config => 3,
            Exit::Ledger => 4,
            Exit::Internal => 5,
        }
    }

    pub fn code(self) -> ExitCode {
        ExitCode::from(self.number())
    }
}

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub struct CliError {
    pub exit: Exit,
    /// The whole chain, causes joined by `: `.
    pub message: String,
    /// What to do; may be empty.
    pub help: String,
    /// What is wrong with the configuration, one by one; may be empty.
    pub problems: Vec<serde_json::Value>,
    /// How many more there are.
    pub omitted: usize,
    /// The same for people, laid out; may be empty.
    pub text: String,
    /// All of them, where they were found by this process.
    pub found: Option<Box<ConfigErrors>>,
}

impl CliError {
    pub fn new(exit: Exit, message: impl Into<String>, help: impl Into<String>) -> Self {
        let (message, help) = (message.into(), help.into());
        Self { exit, message, help, problems: Vec::new(), omitted: 0, text: String::new(), found: None }
    }

    /// What was asked for could not be done.
    pub fn failed(failure: Failure) -> Self {
        Self::new(Exit::Failed, failure.message, failure.remedy)
    }

    /// A failure of the machine or of consign, with its causes.
    pub fn internal(what: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(Exit::Internal, format!("{what}: {}", Failure::chain(error)), "")
    }

    /// For machines. One line of a log has not room for everything.
    fn to_json(&self, to: Tell) -> serde_json::Value {
        let Self { exit, message, help, problems, omitted, found, .. } = self;
        let (problems, omitted) = match (to, found) {
            (Tell::Machines, Some(found)) => (found.problems().iter().map(Problem::to_json).collect(), 0),
            _ => (problems.clone(), *omitted),
        };
        serde_json::json!({
            "exit": exit.number(), "message": message, "help": help, "problems": problems, "omitted": omitted,
        })
    }
}

impl From<ConfigErrors> for CliError {
    fn from(errors: ConfigErrors) -> Self {
        let text = errors.render(on_terminal());
        let refused = Refused::from(&errors);
        Self { text, found: Some(Box::new(errors)), ..refused.into() }
    }
}

impl From<LedgerError> for CliError {
    fn from(error: LedgerError) -> Self {
        Refused::from(error).into()
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Refused::from(failure).into()
    }
}

impl From<Unsound> for CliError {
    fn from(unsound: Unsound) -> Self {
        match unsound {
            Unsound::Config(errors) => errors.into(),
            Unsound::Failure(failure) => failure.into(),
        }
    }
}

/// Where an error is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// People, on stderr.
    People,
    /// Machines, on stdout, as `{"error": {"exit", "message", "help", "problems", "omitted"}}`.
    Machines,
    /// The log on stderr, in one line, as `run --json` writes it.
    JsonLog,
}

/// Tells an error, the one place where that happens.
pub fn error(error: &CliError, to: Tell) {
    match to {
        Tell::Machines => json(&serde_json::json!({ "error": error.to_json(to) })),
        Tell::JsonLog => {
            let mut line = serde_json::json!({ "timestamp": exact(Clock::system().now()), "level": "ERROR" });
            if let (Some(line), Some(error)) = (line.as_object_mut(), error.to_json(to).as_object()) {
                line.extend(error.clone());
            }
            stderr(Priority::Error, &line.to_string());
        }
        Tell::People => {
            let CliError { message, help, text, .. } = error;
            match text.trim_end() {
                "" => stderr(Priority::Error, &format!("error: {message}")),
                // Has its sum at the end.
                text => stderr(Priority::Error, text),
            }
            if !help.is_empty() {
                stderr(Priority::Error, &format!("help: {help}"));
            }
        }
    }
}

/// What kept stdout from being written.
static LOST: OnceLock<String> = OnceLock::new();

/// One line to stdout. A closed pipe ends the printing, not the process in a panic.
pub fn line(text: &str) {
    if let Err(error) = writeln!(std::io::stdout().lock(), "{text}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        // The first is the cause of all others.
        let _ = LOST.set(error.to_string());
    }
}

/// An error if something that was printed did not arrive.
pub fn arrived() -> Result<(), CliError> {
    match LOST.get() {
        None => Ok(()),
        Some(why) => Err(CliError::new(Exit::Internal, format!("cannot write to stdout: {why}"), "")),
    }
}

/// One or more lines to stderr.
pub fn stderr(priority: Priority, text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", log::for_stderr(priority, text));
}

/// Something to know, in one line, to stderr.
pub fn warn(text: &str) {
    stderr(Priority::Warning, &format!("warning: {text}"));
}

/// What was probably not meant, to stderr.
pub fn warnings(warnings: &[Problem]) {
    for warning in rendered(warnings, on_terminal()) {
        stderr(Priority::Warning, &warning);
    }
}

/// A value as indented JSON to stdout.
pub fn json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(&text),
        Err(error) => stderr(Priority::Error, &format!("error: cannot print as JSON: {error}")),
    }
}

/// Whether a person is watching stderr.
pub fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// `1 share`, `2 shares`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number as u64), if number == 1 { "" } else { "s" })
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes for people: `1.2 MiB`.
pub fn bytes(number: u64) -> String {
    bytesize::ByteSize(number).display().iec().to_string()
}

/// Rows under a header, columns as wide as they need to be.
pub fn table(header: &[&str], rows: &[Vec<String>]) {
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let widths = widths(rows.iter().chain([&header]));
    print_row(&header, &widths);
    for row in rows {
        print_row(row, &widths);
    }
}

/// Rows alone, columns as wide as they need to be.
pub fn rows(rows: &[Vec<String>]) {
    let widths = widths(rows.iter());
    for row in rows {
        print_row(row, &widths);
    }
}

fn widths<'a>(rows: impl Iterator<Item = &'a Vec<String>>) -> Vec<usize> {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(row.len().max(widths.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    widths
}

fn print_row(cells: &[String], widths: &[usize]) {
    let text: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    line(text.join("  ").trim_end());
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn thousands_are_set_apart_by_commas() {
        let texts: Vec<String> = [0, 999, 1000, 336_776, 1_000_000].map(thousands).into();
        assert_eq!(texts, ["0", "999", "1,000", "336,776", "1,000,000"]);
    }
}
