//! The configuration that the daemon works with, and how it goes over to another.

use std::sync::Arc;

use crate::config::Config;
use crate::run::Parts;

/// A configuration and what was built from it. A delivery ends under the one that
/// it began with.
pub struct Generation {
    /// From 1.
    pub number: u64,
    pub config: Arc<Config>,
    pub parts: Arc<Parts>,
}

/// The keys that have changed and cannot change while the daemon runs.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (before, after) = (&old.ledger.database, &new.ledger.database);
    let both = before.as_ref().zip(after.as_ref());
    let changed = [
        ("daemon.state_dir", old.daemon.state_dir != new.daemon.state_dir),
        ("daemon.cache_dir", old.daemon.cache_dir != new.daemon.cache_dir),
        ("ledger.url", both.map_or(before != after, |(before, after)| !before.has_url_of(after))),
        ("ledger.schema", both.is_some_and(|(before, after)| before.schema != after.schema)),
        ("ledger.lease", both.is_some_and(|(before, after)| before.lease != after.lease)),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}
