//! Whether a configuration can be carried out: everything that can be known
//! without network, all at once.
//!
//! What is wrong with the configuration is an error. What is wrong with the data
//! that it names is a warning: it may be right by the time a share fires, and
//! must not keep the other shares from running.

mod datasets;
mod keys;
mod places;
mod plugins;

use crate::clock::Clock;
use crate::config::{Config, ConfigErrors, Location, Problem, Severity, Share};
use crate::delivery::Target;
use crate::domain::{DatasetName, Failure, PluginName, ShareName};
use crate::policy;
use crate::registry::Fetch;
use crate::run::Parts;

pub use keys::firings;
pub use plugins::Earlier;
pub(crate) use plugins::{judge, told};

/// A configuration that can be carried out.
pub struct Checked {
    pub parts: Parts,
    pub warnings: Vec<Problem>,
    /// Datasets whose files are behind the network, so that only their text was checked.
    pub not_read: Vec<DatasetName>,
    /// Shares whose plugins were not asked, because nothing tells the columns that they will get.
    pub not_asked: Vec<ShareName>,
}

/// Why a configuration cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Unsound {
    #[error("{}", .0.summary())]
    Config(ConfigErrors),
    /// The machine, or the vendor's identity.
    #[error("{0}")]
    Failure(Failure),
}

/// Plans every query, asks every plugin about its options, makes every session
/// policy. `found` is what is known to be wrong already, `running` what deliveries work with now,
/// `earlier` what plugins were until now; only where pinned plugins are to be fetched is there any
/// network.
pub async fn check(
    config: &Config,
    clock: &Clock,
    mut found: ConfigErrors,
    fetch: Fetch,
    running: Option<&Parts>,
    earlier: impl Fn(&PluginName) -> Option<Earlier>,
) -> Result<Checked, Unsound> {
    keys::check(config, clock, &mut found);
    profiles(config, &mut found);
    let (parts, unusable) = match Parts::build_leniently(config, clock.clone(), fetch, running).await {
        Ok(built) => built,
        Err(_) if found.has_errors() => return Err(Unsound::Config(found)),
        Err(failure) => return Err(Unsound::Failure(failure)),
    };
    plugins::unusable(config, unusable, &mut found);
    let read = datasets::check(config, &parts, &mut found).await;
    let is_asked = |share: &Share| share.plugin.is_none() || read.schemas.contains_key(&share.dataset);
    let not_asked = config.shares.values().filter(|share| !is_asked(share)).map(|share| share.name.clone()).collect();
    let refusing = plugins::options(config, &parts, &read.schemas, &mut found);
    plugins::refused(config, &parts, refusing, earlier, &mut found);
    found.sort(config);
    let warnings = found.warnings().map_err(Unsound::Config)?;
    Ok(Checked { parts, warnings, not_read: read.not_read, not_asked })
}

/// A profile of which no session policy can be made would fail every delivery. A trust policy that the customer cannot
/// put in place fails none until then.
fn profiles(config: &Config, found: &mut ConfigErrors) {
    for (name, customer) in &config.customers {
        // Once for each role.
        let is_first = customer.sharers.first().is_none_or(|first| first.name == *name);
        if let Some((message, help)) = policy::too_long(customer).filter(|_| is_first) {
            let place = config.locate(&["customers", name.as_str(), "role_arn"]);
            found.push(Problem::new(Severity::Warning, place, message, help));
        }
        if let Err(failure) = Target::check(customer) {
            refuse(found, config.locate(&["customers", name.as_str(), "prefix"]), failure);
        }
    }
}

/// `customer `a` and 2 more`, for what is wrong in the same way with all of them.
fn one_of<T: std::fmt::Display>(first: T, all: usize) -> String {
    match all {
        0 | 1 => format!("customer `{first}`"),
        _ => format!("customer `{first}` and {} more", all - 1),
    }
}

/// Puts one problem of a profile, dataset, share or plugin among the others.
fn refuse(found: &mut ConfigErrors, place: Location, failure: Failure) {
    found.push(Problem::error(place, failure.message, failure.remedy));
}
