//! The plugins of a configuration, from where they are, ready to run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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

/// Those that can be used, and those that cannot.
pub(super) async fn load(config: &Config, fetch: Fetch) -> Result<(Components, Vec<BadPlugin>), Failure> {
    let host = tokio::task::block_in_place(|| PluginHost::new(&config.daemon.cache_dir));
    let host = host.map_err(|error| unusable(&error))?;
    let depot = Depot::new(config);
    let stacks = stacks(config);
    let mut components = Components::new();
    let mut bad = Vec::new();
    for (name, plugin) in &config.plugins {
        let loaded = match bytes(&depot, plugin, fetch).await {
            Ok(Some(bytes)) => tokio::task::block_in_place(|| each_stack(&host, plugin, &bytes, stacks.get(name)))
                .map_err(|error| unusable(&error)),
            Ok(None) => {
                let failure = absent(name);
                bad.push(BadPlugin { plugin: name.clone(), failure, is_absent: true });
                continue;
            }
            Err(failure) => Err(failure),
        };
        match loaded {
            Ok(loaded) => components.extend(loaded),
            Err(failure) => bad.push(BadPlugin { plugin: name.clone(), failure, is_absent: false }),
        }
    }
    Ok((components, bad))
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

fn unusable(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(Layer::Plugin, Retry::Never, Failure::chain(error), "")
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
