//! The plugins of a configuration, from where they are, ready to run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use tokio::task::JoinError;

use crate::config::{Config, Plugin, PluginSource};
use crate::domain::{ContentDigest, Failure, Layer, PluginName, Retry};
use crate::limits::Limits;
use crate::plugin::{Component, PluginError, PluginHost};
use crate::registry::{Depot, Fetch};

/// A plugin that cannot be used, and which.
pub struct BadPlugin {
    pub plugin: PluginName,
    pub failure: Failure,
    /// Nothing is wrong with it: it is not here, and was not to be fetched.
    pub is_absent: bool,
}

/// By plugin and by the stack, in bytes, that it was loaded with: mostly one of each plugin.
pub(super) type Components = BTreeMap<(PluginName, usize), Component>;

/// Those that can be used, and those that cannot, by name.
pub(super) async fn load(config: &Config, fetch: Fetch) -> Result<(Components, Vec<BadPlugin>), Failure> {
    let host = tokio::task::block_in_place(|| PluginHost::new(&config.daemon.cache_dir));
    let host = host.map_err(unusable)?;
    let depot = Depot::new(config);
    let stacks = stacks(config);
    let one = |plugin: &Arc<Plugin>| one(&host, &depot, plugin.clone(), stacks.get(&plugin.name).cloned(), fetch);
    let all = side_by_side(at_once(), config.plugins.values().map(one).collect()).await;
    let mut components = Components::new();
    let mut bad = Vec::new();
    for (plugin, loaded) in config.plugins.keys().cloned().zip(all) {
        match loaded {
            Ok(Some(loaded)) => components.extend(loaded),
            Ok(None) => bad.push(BadPlugin { failure: absent(&plugin), plugin, is_absent: true }),
            Err(failure) => bad.push(BadPlugin { plugin, failure, is_absent: false }),
        }
    }
    Ok((components, bad))
}

/// None: it is not here, and was not to be fetched.
async fn one(
    host: &PluginHost,
    depot: &Depot<'_>,
    plugin: Arc<Plugin>,
    stacks: Option<BTreeSet<usize>>,
    fetch: Fetch,
) -> Result<Option<Components>, Failure> {
    let Some(bytes) = bytes(depot, &plugin, fetch).await? else { return Ok(None) };
    let (host, span) = (host.clone(), tracing::Span::current());
    // On a thread of its own, so that the others go on.
    let loading =
        tokio::task::spawn_blocking(move || span.in_scope(|| each_stack(&host, &plugin, &bytes, stacks.as_ref())));
    loading.await.map_err(unloaded)?.map(Some).map_err(unusable)
}

/// Plugins that are loaded at the same time: a process of its own mostly waits for the kernel to start it.
fn at_once() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).clamp(4, 16)
}

/// What comes of each, in their order, with so many of them at work at the same time.
async fn side_by_side<T>(at_once: usize, all: Vec<impl Future<Output = T>>) -> Vec<T> {
    stream::iter(all).buffered(at_once).collect().await
}

/// The stacks that shares want of their plugins, where it is not what the plugin has.
fn stacks(config: &Config) -> BTreeMap<&PluginName, BTreeSet<usize>> {
    let mut stacks: BTreeMap<_, BTreeSet<usize>> = BTreeMap::new();
    for share in config.shares.values() {
        if let (Some(plugin), Some(limits)) = (&share.plugin, &share.limits) {
            stacks.entry(plugin).or_default().insert(limits.stack_bytes);
        }
    }
    stacks
}

/// A plugin with its own stack, and with each that a share wants. It is compiled once for all.
fn each_stack(
    host: &PluginHost,
    plugin: &Plugin,
    bytes: &[u8],
    others: Option<&BTreeSet<usize>>,
) -> Result<Components, PluginError> {
    let own = plugin.limits.stack_bytes;
    let stacks = std::iter::once(own).chain(others.into_iter().flatten().copied().filter(|other| *other != own));
    let load = |stack_bytes| {
        let limits = Limits { stack_bytes, ..plugin.limits.clone() };
        let component = host.load_in(plugin.isolation, &plugin.name, bytes, &limits)?;
        Ok(((plugin.name.clone(), stack_bytes), component))
    };
    stacks.map(load).collect()
}

fn unusable(error: PluginError) -> Failure {
    Failure::new(Layer::Plugin, Retry::Never, Failure::chain(&error), error.remedy())
}

fn unloaded(error: JoinError) -> Failure {
    let message = format!("loading a plugin ended: {error}");
    Failure::new(Layer::Plugin, Retry::Later, message, "start consign again; if it is so again, report it with the log")
}

fn absent(plugin: &PluginName) -> Failure {
    let message = format!("plugin {plugin} is not in the cache, so the options of its shares were not checked");
    let remedy = "the daemon fetches what is pinned when it starts; `consign plugin pull --locked` does it now";
    Failure::new(Layer::Plugin, Retry::Later, message, remedy)
}

/// The component's bytes, which must be those that are pinned; None if they are not here.
async fn bytes(depot: &Depot<'_>, plugin: &Plugin, fetch: Fetch) -> Result<Option<Vec<u8>>, Failure> {
    match &plugin.source {
        PluginSource::Shipped => match crate::plugin::shipped(plugin.name.as_str()) {
            Some(bytes) => Ok(Some(bytes.to_vec())),
            None => Err(failed(format!("plugin {} is not shipped", plugin.name), "name its file with `path`")),
        },
        PluginSource::File { path, sha256 } => file(plugin, path, sha256.as_deref()).map(Some),
        PluginSource::Oci { reference, pin } => depot.component(&plugin.name, reference, pin.as_ref(), fetch).await,
    }
}

/// Of a plugin's component, without looking whether it is what it should be; None if it is not here.
pub(crate) fn digest(plugin: &Plugin) -> Option<ContentDigest> {
    match &plugin.source {
        PluginSource::Shipped => crate::plugin::shipped(plugin.name.as_str()).map(ContentDigest::of),
        PluginSource::File { path, .. } => std::fs::read(path).ok().map(|bytes| ContentDigest::of(&bytes)),
        PluginSource::Oci { pin, .. } => pin.as_ref().map(|pin| pin.component.clone()),
    }
}

/// Of what `consign plugin rollback` puts in its place; None if there is nothing.
pub(crate) fn earlier(plugin: &Plugin) -> Option<ContentDigest> {
    match &plugin.source {
        PluginSource::Shipped => None,
        PluginSource::File { path, .. } => std::fs::read(previous(path)).ok().map(|bytes| ContentDigest::of(&bytes)),
        PluginSource::Oci { reference, pin } => {
            let earlier = pin.as_ref()?.previous.as_ref()?;
            (earlier.reference == *reference).then(|| earlier.component.clone())
        }
    }
}

/// What an upgrade of a plugin's file keeps: `acme.wasm.previous` beside `acme.wasm`.
pub(crate) fn previous(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".previous");
    name.into()
}

/// What is in a plugin's file, if it is what it should be.
pub(crate) fn file(plugin: &Plugin, path: &Path, pinned: Option<&str>) -> Result<Vec<u8>, Failure> {
    let (name, shown) = (&plugin.name, path.display());
    let bytes = std::fs::read(path)
        .map_err(|error| failed(format!("cannot read plugin {name} from {shown}: {error}"), "correct `path`"))?;
    let digest = ContentDigest::of(&bytes);
    match pinned {
        Some(pinned) if pinned != digest.digits() => {
            let found = digest.digits();
            let message = format!("plugin {name} in {shown} has the sha256 {found}, but {pinned} is pinned");
            Err(failed(message, "put the pinned file back, or check the new one and pin its sha256"))
        }
        _ => Ok(bytes),
    }
}

fn failed(message: String, remedy: &str) -> Failure {
    Failure::new(Layer::Plugin, Retry::Never, message, remedy)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Barrier;

    use super::*;

    /// Each waits for another, which one after the other would have them wait for ever.
    #[tokio::test]
    async fn several_are_loaded_at_the_same_time_and_told_in_their_order() {
        let two = Barrier::new(2);
        let one = async |number: u64| {
            two.wait().await;
            tokio::time::sleep(Duration::from_millis(5 * (6 - number))).await;
            number
        };
        let all = side_by_side(2, (0..6).map(one).collect());
        let all = tokio::time::timeout(Duration::from_secs(60), all).await.expect("two at the same time");
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
    }
}
