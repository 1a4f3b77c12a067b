//! Which plugins are in quarantine, as they are configured: the ledger knows
//! components, by their digests.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Parts;
use crate::clock::to_the_second;
use crate::config::{Config, Plugin, Share};
use crate::domain::{ContentDigest, Failure, Layer, PluginName, Refused, Retry, ShareName};
use crate::ledger::Quarantine;

/// Plugins whose component is in quarantine now, among `all` that are.
pub fn quarantined(
    config: &Config,
    digest: impl Fn(&Plugin) -> Option<ContentDigest>,
    all: &[Quarantine],
) -> BTreeMap<PluginName, Quarantine> {
    if all.is_empty() {
        return BTreeMap::new();
    }
    let of = |plugin: &Arc<Plugin>| {
        let digest = digest(plugin)?;
        Some((plugin.name.clone(), all.iter().find(|quarantine| quarantine.digest == digest)?.clone()))
    };
    config.plugins.values().filter(|plugin| plugin.quarantine_after > 0).filter_map(of).collect()
}

/// Shares that one of these plugins formats.
pub fn shares_of(config: &Config, plugins: &BTreeMap<PluginName, Quarantine>) -> Vec<ShareName> {
    if plugins.is_empty() {
        return Vec::new();
    }
    let is_of = |share: &&Arc<Share>| share.plugin.as_ref().is_some_and(|plugin| plugins.contains_key(plugin));
    config.shares.values().filter(is_of).map(|share| share.name.clone()).collect()
}

/// Whether somebody may begin a run of this share by hand, while `all` these are in quarantine.
pub fn may_begin(config: &Config, parts: &Parts, share: &Share, all: &[Quarantine]) -> Result<(), Refused> {
    let plugins = quarantined(config, |plugin| parts.digest(&plugin.name), all);
    let found = share.plugin.as_ref().and_then(|plugin| Some((plugin, plugins.get(plugin)?)));
    match found {
        None => Ok(()),
        Some((plugin, Quarantine { since, .. })) => {
            let message =
                format!("plugin {plugin} of share {} is in quarantine since {}", share.name, to_the_second(*since));
            Err(Refused::request(message, remedy(plugin)))
        }
    }
}

/// Why nothing of a plugin is started.
pub fn waits(plugin: Option<&PluginName>, digest: &ContentDigest) -> Failure {
    let (name, remedy) = plugin.map_or(Default::default(), |plugin| (format!(" {plugin}"), remedy(plugin)));
    Failure::new(Layer::Plugin, Retry::Later, format!("plugin{name} is in quarantine ({digest})"), remedy)
}

/// The deadline has passed of what waits for a plugin in quarantine.
pub fn passed_in(plugin: &PluginName, quarantine: &Quarantine, passed: Failure) -> Failure {
    let since = to_the_second(quarantine.since);
    let message = format!("{}; its plugin {plugin} is in quarantine since {since}", passed.message);
    Failure { message, ..passed }
}

/// What ends a quarantine.
pub fn remedy(plugin: &PluginName) -> String {
    format!(
        "report what `consign status` tells to its author; another component ends it, or `consign plugin release {plugin}`"
    )
}
