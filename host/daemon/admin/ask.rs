//! What is said over the socket. Each side writes lines of JSON: the caller one,
//! the daemon any number of events and then its answer.

use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::config::Config;
use crate::domain::{CustomerName, Failure, PluginName, Refused, RunId, ShareName, Slot};
use crate::ledger::{Filling, Quarantine, Verdict};
use crate::run::Fared;

/// Of this language. A caller of another version is told so.
pub const VERSION: u32 = 1;

/// Bytes of a caller's line.
pub const LINE_MAX: usize = 64 << 10;

/// A caller's line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    pub version: u32,
    /// The caller's consign.
    pub consign: String,
    pub ask: Ask,
}

/// The part of a line that every version has.
#[derive(Debug, Deserialize)]
pub struct Preamble {
    pub version: u32,
    #[serde(default)]
    pub consign: String,
}

/// Names are as somebody wrote them: the daemon knows what they stand for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Answered by [`super::Overview`].
    Status,
    /// Answered by [`Reloaded`]. Without `wait` as soon as it has begun.
    Reload {
        wait: bool,
        /// Whether most of what runs may go.
        #[serde(default)]
        may_remove: bool,
    },
    /// Answered by [`Paused`].
    Pause { share: String },
    /// Answered by [`Resumed`].
    Resume { share: String },
    /// Answered by a [`crate::run::Report`], after events of each delivery.
    Send {
        share: String,
        /// A slot; None for the latest.
        at: Option<Instant>,
        customers: Vec<String>,
        /// Whether somebody waits for the end of it.
        wait: bool,
    },
    /// Answered by [`Backfilled`], after events with what was planned.
    Backfill { share: String, from: String, to: String, customers: Vec<String> },
    /// As `Send`.
    Retry { run: String, customers: Vec<String>, wait: bool },
    /// Answered by [`Told`].
    Cancel { run: String, customers: Vec<String>, reason: Option<String> },
    /// Answered by [`Judged`]. Without customers: of the only one that is in doubt.
    Settle { run: String, customers: Vec<String>, verdict: Verdict, reason: Option<String> },
    /// Answered by [`crate::ledger::Rewound`].
    Rewind,
    /// Answered by [`Released`].
    Release { plugin: String },
    /// Answered with nothing. Customers who may be ready; none for all.
    LookAt { customers: Vec<String> },
}

/// A line of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    Event(Event),
    /// The last line, if it went well.
    Ok(serde_json::Value),
    /// The last line, if it did not.
    Error(Refused),
}

/// Something on the way to an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A run has begun, for so many customers.
    Begun { run: RunId, slot: Slot, deliveries: usize },
    /// A customer's delivery is to be tried again.
    Waits { customer: CustomerName, due: Instant, failure: Failure },
    /// A customer's delivery has come to its end.
    Ended(Box<Fared>),
    /// Slots were planned.
    Planned(Vec<Filling>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The generation that runs.
    pub generation: u64,
    /// False while it is still being read.
    pub done: bool,
    pub shares: usize,
    /// What was probably not meant, each laid out for people.
    pub warnings: Vec<String>,
    /// Against the generation before.
    #[serde(default)]
    pub added: Named,
    #[serde(default)]
    pub removed: Named,
}

/// Shares and customers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub shares: Names,
    pub customers: Names,
}

/// How many there are, and the first of them by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    pub count: usize,
    pub first: Vec<String>,
}

/// Names that are told.
const NAMES_MAX: usize = 5;

impl Named {
    /// What of `config` the `other` one has not.
    pub fn missing(config: &Config, other: &Config) -> Self {
        let shares = config.shares.keys().filter(|name| !other.shares.contains_key(*name));
        let customers = config.customers.keys().filter(|name| !other.customers.contains_key(*name));
        Self { shares: Names::of(shares), customers: Names::of(customers) }
    }

    pub fn is_empty(&self) -> bool {
        self.shares.count + self.customers.count == 0
    }
}

impl Names {
    pub fn of(names: impl Iterator<Item = impl ToString>) -> Self {
        let mut all = Self::default();
        for name in names {
            all.count += 1;
            if all.first.len() < NAMES_MAX {
                all.first.push(name.to_string());
            }
        }
        all
    }

    /// `2 shares (a, b)`; None for none.
    pub fn told(&self, noun: &str) -> Option<String> {
        let Self { count, first } = self;
        let more = match count - first.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let ending = if *count == 1 { "" } else { "s" };
        (*count > 0).then(|| format!("{count} {noun}{ending} ({}{more})", first.join(", ")))
    }
}

impl std::fmt::Display for Named {
    /// `2 shares (a, b), 1 customer (acme)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let told = [self.shares.told("share"), self.customers.told("customer")];
        f.write_str(&told.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    pub share: ShareName,
    pub since: Instant,
    /// False when it was paused already.
    pub changed: bool,
    /// Slots that were planned and had not begun, and are left out.
    #[serde(default)]
    pub left_out: u64,
}

/// What was planned is told piece by piece before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfilled {
    pub share: ShareName,
    /// Some of the slots are earlier, and the ledger may have forgotten who has got them.
    pub forgotten_before: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    pub share: ShareName,
    /// None when it was not paused.
    pub since: Option<Instant>,
    /// The first slot that the pause left out.
    pub first_left_out: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    pub plugin: PluginName,
    /// What was in quarantine; nothing if it was not.
    pub released: Vec<Quarantine>,
}

/// What became of deliveries that are to be ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub run: RunId,
    /// Are ended, or are being so.
    pub cancelled: Vec<CustomerName>,
    /// Every byte of them is stored, so that they complete.
    pub sealed: Vec<CustomerName>,
    /// Had ended before.
    pub ended: Vec<CustomerName>,
    /// Another consign that has the run, and ends it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub elsewhere: Option<String>,
}

/// What became of deliveries in doubt of which somebody knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    pub run: RunId,
    pub verdict: Verdict,
    pub customers: Vec<CustomerName>,
    /// Keys of what comes after their manifests, and is not known to be there.
    #[serde(default)]
    pub lacking: Vec<String>,
}
