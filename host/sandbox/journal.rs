//! The last requests, for tests, for `consign sandbox -v` and for a person who wonders.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Instant;

/// Entries kept; older ones are forgotten.
const ENTRIES_MAX: usize = 10_000;

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: Instant,
    /// Like `PutObject` or `AssumeRole`; the HTTP method if the request was refused before that was known.
    pub operation: String,
    pub bucket: Option<String>,
    pub key: Option<String>,
    /// ARN of the caller, if its key was known.
    pub caller: Option<String>,
    pub status: u16,
    /// The error code of the answer.
    pub code: Option<String>,
}

#[derive(Default)]
pub(super) struct Journal(Mutex<VecDeque<Entry>>);

impl Journal {
    pub fn add(&self, entry: Entry) {
        tracing::info!(
            target: "consign::sandbox",
            operation = entry.operation,
            bucket = entry.bucket,
            key = entry.key,
            caller = entry.caller,
            status = entry.status,
            code = entry.code,
            "sandbox request"
        );
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() == ENTRIES_MAX {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// What is learnt about a request while it is served; travels in its extensions.
#[derive(Clone, Default)]
pub(super) struct Draft(Arc<Mutex<Option<String>>>);

impl Draft {
    pub fn set_operation(&self, name: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.to_owned());
    }

    pub fn operation(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
