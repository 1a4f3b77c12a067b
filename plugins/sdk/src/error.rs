use std::fmt;

/// Why a formatter could not do its work.
///
/// The host decides by the case whether a later attempt may succeed. The text
/// is shown to the operator: say what was wrong, where, and what to do instead,
/// as a lowercase fragment without a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The options are wrong, one entry for each problem. Never retried.
    InvalidOptions(Vec<Problem>),
    /// The schema or a value cannot be said in this format. Never retried.
    Unsupported(String),
    /// A limit of the format itself was reached. Never retried.
    Quota(String),
    /// Worth another attempt.
    Retryable(String),
    /// Anything else. Never retried.
    Other(String),
}

/// One problem with the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where in the options, as a JSON Pointer (`/delimiter`); empty for the
    /// options as a whole.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// How much a [`Diagnostic`] weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The delivery works, though perhaps not as meant.
    Warning,
    /// The delivery would fail.
    Error,
}

/// One finding of [`Formatter::check`](crate::Formatter::check).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it weighs.
    pub severity: Severity,
    /// Where in the options, as a JSON Pointer; empty for the options as a
    /// whole or for a finding about the schema.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Error {
    /// One wrong option: `path` is a JSON Pointer into the options.
    pub fn invalid_option(path: impl Into<String>, message: impl Into<String>) -> Self {
        Error::InvalidOptions(vec![Problem { path: path.into(), message: message.into() }])
    }

    /// The findings that say the same as this error.
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        match self {
            Error::InvalidOptions(problems) => problems
                .into_iter()
                .map(|p| Diagnostic { severity: Severity::Error, path: p.path, message: p.message })
                .collect(),
            Error::Unsupported(message) | Error::Quota(message) | Error::Retryable(message) | Error::Other(message) => {
                vec![Diagnostic { severity: Severity::Error, path: String::new(), message }]
            }
        }
    }
}

impl Diagnostic {
    /// A finding that does not stop the delivery.
    pub fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidOptions(problems) => {
                for (i, problem) in problems.iter().enumerate() {
                    if i > 0 {
                        f.write_str("; ")?;
                    }
                    problem.fmt(f)?;
                }
                Ok(())
            }
            Error::Unsupported(message) | Error::Quota(message) | Error::Retryable(message) | Error::Other(message) => {
                f.write_str(message)
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "`{}`: {}", self.path, self.message) }
    }
}

impl std::error::Error for Error {}
