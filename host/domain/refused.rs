//! Why something that somebody asked for is not done, in words for who asked.

use serde::{Deserialize, Serialize};

use super::{Failure, Layer};

/// Whose fault it is. Who asked from a command line sees it as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// What was asked for is not there, or cannot be now.
    Request,
    Config,
    Ledger,
    /// The machine's, or consign's.
    Machine,
}

/// A refusal that can cross a process's border.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub blame: Blame,
    /// The whole chain, causes joined by `: `.
    pub message: String,
    /// What to do instead; may be empty.
    pub help: String,
    /// What is wrong with the configuration, one by one, for machines; may be empty.
    #[serde(default)]
    pub problems: Vec<serde_json::Value>,
    /// How many more there are.
    #[serde(default)]
    pub omitted: usize,
    /// The same for people, laid out over several lines; may be empty.
    #[serde(default)]
    pub text: String,
}

impl Refused {
    pub fn new(blame: Blame, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            blame,
            message: message.into(),
            help: help.into(),
            problems: Vec::new(),
            omitted: 0,
            text: String::new(),
        }
    }

    /// What was asked for is not there, or cannot be now.
    pub fn request(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Blame::Request, message, help)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let blame = match failure.layer {
            Layer::Config => Blame::Config,
            Layer::Ledger => Blame::Ledger,
            Layer::Local => Blame::Machine,
            _ => Blame::Request,
        };
        Self::new(blame, failure.to_string(), failure.remedy)
    }
}
