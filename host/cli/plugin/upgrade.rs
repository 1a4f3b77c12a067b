//! `consign plugin upgrade` and `consign plugin rollback`: another component, once
//! every share that uses it takes it, and the earlier one again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use tempfile::NamedTempFile;

use super::pins;
use crate::check::{self, Earlier};
use crate::cli::output::{self, CliError, Exit, count, line};
use crate::cli::{Global, setup};
use crate::clock::Clock;
use crate::config::{Config, ConfigErrors, Environment, Pin, Plugin, PluginSource};
use crate::domain::{ContentDigest, OciReference, PluginName, ShareName};
use crate::registry::{Depot, Fetch};
use crate::replace;
use crate::run::{component_digest, previous_component as previous};

#[derive(Args)]
pub struct UpgradeArgs {
    /// The plugin, as it is configured.
    name: String,
    /// The component: a file for one with `path`; for one with `oci` what its reference names
    /// now, or a digest in its repository (`REGISTRY/REPOSITORY@sha256:…`).
    #[arg(value_name = "FILE|REFERENCE")]
    to: Option<String>,
}

#[derive(Args)]
pub struct RollbackArgs {
    /// The plugin, as it is configured.
    name: String,
}

/// What has become of a plugin.
#[derive(Serialize)]
struct Report {
    plugin: PluginName,
    changed: bool,
    /// Of the components.
    before: Option<ContentDigest>,
    after: ContentDigest,
    /// Shares that use it and take it: all but those that could not be asked.
    shares: usize,
    not_asked: Vec<ShareName>,
    signed_by: Option<PathBuf>,
    /// What to commit, or where the file is.
    written: PathBuf,
}

pub async fn upgrade(global: &Global, args: &UpgradeArgs) -> Result<Exit, CliError> {
    let (config, _cache) = setup::with_cache(config(global)?)?;
    let plugin = plugin(&config, &args.name)?;
    let report = match (&plugin.source, &args.to) {
        (PluginSource::Shipped, _) => return Err(shipped(&plugin.name)),
        (PluginSource::Oci { reference, pin }, to) => {
            from_registry(&config, &plugin, reference, pin.as_ref(), to.as_deref()).await?
        }
        (PluginSource::File { path, sha256 }, Some(to)) => {
            let new = temporary(path, &read(Path::new(to))?)?;
            put(&config, &plugin, (path, sha256.as_deref()), new).await?
        }
        (PluginSource::File { path, .. }, None) => {
            let message = format!("plugin {} is the file {}", plugin.name, path.display());
            let help = format!("name the one to put in its place: `consign plugin upgrade {} FILE`", plugin.name);
            return Err(CliError::new(Exit::Usage, message, help));
        }
    };
    setup::tell_not_kept(&config);
    show(global, &report);
    Ok(Exit::Done)
}

pub async fn rollback(global: &Global, args: &RollbackArgs) -> Result<Exit, CliError> {
    let (config, _cache) = setup::with_cache(config(global)?)?;
    let plugin = plugin(&config, &args.name)?;
    let report = match &plugin.source {
        PluginSource::Shipped => return Err(shipped(&plugin.name)),
        PluginSource::Oci { reference, pin } => back(&config, &plugin, reference, pin.as_ref()).await?,
        PluginSource::File { path, sha256 } => {
            let earlier = previous(path);
            if !earlier.exists() {
                let message = format!(
                    "no earlier component of plugin {} is known: there is no {}",
                    plugin.name,
                    earlier.display()
                );
                let help = format!("`consign plugin upgrade {} FILE` keeps what it replaces there", plugin.name);
                return Err(CliError::new(Exit::Failed, message, help));
            }
            let new = temporary(path, &read(&earlier)?)?;
            put(&config, &plugin, (path, sha256.as_deref()), new).await?
        }
    };
    setup::tell_not_kept(&config);
    show(global, &report);
    Ok(Exit::Done)
}

/// What is wrong with it is told with what the other component makes wrong.
fn config(global: &Global) -> Result<Config, CliError> {
    let (config, found) = Config::survey(&global.config, &Environment::of_process())?;
    found.into_result()?;
    Ok(config)
}

fn plugin(config: &Config, name: &str) -> Result<Arc<Plugin>, CliError> {
    let name = super::named(config, &[name.to_owned()])?.remove(0);
    config.plugins.get(&name).cloned().ok_or_else(|| shipped(&name))
}

fn shipped(name: &PluginName) -> CliError {
    let message = format!("plugin {name} is part of consign, and changes with it");
    CliError::new(Exit::Usage, message, "name a plugin of your own, with `path` or `oci`")
}

/// Pins what the reference names now, or the digest that is asked for.
async fn from_registry(
    config: &Config,
    plugin: &Plugin,
    reference: &OciReference,
    before: Option<&Pin>,
    to: Option<&str>,
) -> Result<Report, CliError> {
    let wanted = match to {
        None => reference.clone(),
        Some(to) => within(config, plugin, reference, to)?,
    };
    let pulled = Depot::new(config).pull(&plugin.name, &wanted, None).await.map_err(CliError::failed)?;
    let after = Pin { reference: reference.clone(), ..pulled.pin };
    pin(config, plugin, before, after, pulled.signed_by).await
}

/// Another tag is a change of the configuration, which is yours; and so is another digest
/// where one is written there.
fn within(config: &Config, plugin: &Plugin, configured: &OciReference, to: &str) -> Result<OciReference, CliError> {
    let name = &plugin.name;
    let wrong = |why: String, help: String| CliError::new(Exit::Usage, why, help);
    let wanted = OciReference::parse(to).map_err(|why| wrong(format!("'{to}' {why}"), String::new()))?;
    let is_same_place = (wanted.registry(), wanted.repository()) == (configured.registry(), configured.repository());
    let may_be = |digest| configured.digest().is_none_or(|written| written == digest);
    if wanted == *configured || (is_same_place && wanted.digest().is_some_and(may_be)) {
        return Ok(wanted);
    }
    let place = config.locate(&["plugins", name.as_str(), "oci"]);
    let message = format!("plugin {name} is {configured}, not {wanted}");
    let help = format!(
        "write `oci = \"{wanted}\"` in {}:{}, then `consign plugin upgrade {name}`",
        place.path().display(),
        place.line()
    );
    Err(wrong(message, help))
}

/// Pins what was pinned before.
async fn back(
    config: &Config,
    plugin: &Plugin,
    reference: &OciReference,
    pinned: Option<&Pin>,
) -> Result<Report, CliError> {
    let name = &plugin.name;
    let earlier = pinned.and_then(|pin| Some((pin, pin.previous.as_deref()?)));
    let Some((now, earlier)) = earlier else {
        let message = format!("no earlier component of plugin {name} is known in {}", config.lock_path.display());
        let help = format!(
            "name its digest: `consign plugin upgrade {name} {}/{}@sha256:…`",
            reference.registry(),
            reference.repository()
        );
        return Err(CliError::new(Exit::Failed, message, help));
    };
    if earlier.reference != *reference {
        let place = config.locate(&["plugins", name.as_str(), "oci"]);
        let message = format!(
            "the earlier component of plugin {name} is of {}, and {reference} is configured",
            earlier.reference
        );
        let help = format!(
            "write `oci = \"{}\"` in {}:{}, then `consign plugin rollback {name}`",
            earlier.reference,
            place.path().display(),
            place.line()
        );
        return Err(CliError::new(Exit::Failed, message, help));
    }
    // Out of the cache; from the registry only what is not there.
    Depot::new(config).component(name, reference, Some(earlier), Fetch::Missing).await.map_err(CliError::failed)?;
    pin(config, plugin, Some(now), earlier.clone(), None).await
}

/// Writes the lock file, once all shares take what is to be pinned. It then remembers what it was.
async fn pin(
    config: &Config,
    plugin: &Plugin,
    before: Option<&Pin>,
    after: Pin,
    signed_by: Option<PathBuf>,
) -> Result<Report, CliError> {
    let (reference, pin) = (after.reference.clone(), Some(after.clone()));
    let (shares, not_asked) = taken(config, plugin, PluginSource::Oci { reference, pin }).await?;
    let changed = before.is_none_or(|before| !before.is_same(&after));
    pins::pin(config, [(plugin.name.clone(), after.clone())])?;
    Ok(Report {
        plugin: plugin.name.clone(),
        changed,
        before: before.map(|before| before.component.clone()),
        after: after.component,
        shares,
        not_asked,
        signed_by,
        written: config.lock_path.clone(),
    })
}

/// Puts a component in the place of a plugin's file, once all shares take it. What was
/// there is kept beside it.
async fn put(
    config: &Config,
    plugin: &Plugin,
    (path, pinned): (&Path, Option<&str>),
    new: NamedTempFile,
) -> Result<Report, CliError> {
    let bytes = read(new.path())?;
    let (after, before) = (ContentDigest::of(&bytes), component_digest(plugin));
    if let Some(pinned) = pinned.filter(|pinned| *pinned != after.digits()) {
        let place = config.locate(&["plugins", plugin.name.as_str(), "sha256"]);
        let message = format!("plugin {} is pinned to the sha256 {pinned}", plugin.name);
        let help = format!(
            "write `sha256 = \"{}\"` in {}:{}, and repeat this",
            after.digits(),
            place.path().display(),
            place.line()
        );
        return Err(CliError::new(Exit::Failed, message, help));
    }
    // The very bytes that are put there.
    let source = PluginSource::File { path: new.path().to_owned(), sha256: None };
    let (shares, not_asked) = taken(config, plugin, source).await?;
    let changed = before.as_ref() != Some(&after);
    if changed {
        take_place(path, new, &bytes).map_err(|error| unwritten(path, &error))?;
    }
    let (plugin, written) = (plugin.name.clone(), path.to_owned());
    Ok(Report { plugin, changed, before, after, shares, not_asked, signed_by: None, written })
}

/// A component in the place of the one at `path`, which is kept. At no instant is there none under
/// that name, or no way back; where it cannot be done, all is as it was.
fn take_place(path: &Path, new: NamedTempFile, bytes: &[u8]) -> io::Result<()> {
    let previous = previous(path);
    if !path.exists() {
        return replace::persist(new, path);
    }
    // What comes back changes places with what is there, so that neither is ever nowhere.
    let comes_back = std::fs::read(&previous).is_ok_and(|kept| kept == bytes);
    if comes_back && replace::exchange(&previous, path)? {
        return Ok(());
    }
    let there = replace::beside(path, &std::fs::read(path)?)?;
    if comes_back {
        replace::persist(new, path)?;
        return replace::persist(there, &previous);
    }
    let (kept, is_first) = (there.path().to_owned(), !previous.exists());
    if is_first || !replace::exchange(&kept, &previous)? {
        replace::persist(there, &previous)?;
        return replace::persist(new, path).inspect_err(|_| {
            if is_first {
                let _ = std::fs::remove_file(&previous);
            }
        });
    }
    // Until the new one is in its place, what was kept before is still there.
    replace::persist(new, path).inspect_err(|_| {
        let _ = replace::exchange(&kept, &previous);
    })
}

/// How many shares take it, and which cannot say. Err: one of them does not take it, or something else is wrong
/// for which the daemon would not go over to it.
async fn taken(config: &Config, plugin: &Plugin, source: PluginSource) -> Result<(usize, Vec<ShareName>), CliError> {
    let mut config = config.clone();
    let before = component_digest(plugin);
    config.plugins.insert(plugin.name.clone(), Arc::new(Plugin { source, ..plugin.clone() }));
    let earlier = |name: &PluginName| {
        let digest = before.clone().filter(|_| *name == plugin.name)?;
        Some(Earlier { digest, keep: "leave it at that: nothing was changed".into() })
    };
    let found = ConfigErrors::new();
    let checked = check::check(&config, &Clock::system(), found, Fetch::Missing, None, earlier).await;
    let checked = checked.map_err(|unsound| CliError { exit: Exit::Failed, ..unsound.into() })?;
    output::warnings(&checked.warnings);
    let shares = config.shares.values().filter(|share| share.plugin.as_ref() == Some(&plugin.name));
    let (not_asked, taking): (Vec<_>, Vec<_>) =
        shares.map(|share| share.name.clone()).partition(|share| checked.not_asked.contains(share));
    Ok((taking.len(), not_asked))
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|error| {
        CliError::new(Exit::Failed, format!("cannot read {}: {error}", path.display()), "name a component's file")
    })
}

/// To be put in the place of `path`.
fn temporary(path: &Path, bytes: &[u8]) -> Result<NamedTempFile, CliError> {
    replace::beside(path, bytes).map_err(|error| unwritten(path, &error))
}

fn unwritten(path: &Path, error: &io::Error) -> CliError {
    CliError::internal(&format!("cannot write beside {}", path.display()), error)
}

fn show(global: &Global, report: &Report) {
    if global.json {
        return output::json(report);
    }
    let Report { plugin, changed, before, after, shares, not_asked, signed_by, written } = report;
    if !changed {
        line(&format!("plugin {plugin} is {after} already"));
        return;
    }
    line(&format!("plugin {plugin} is {after}"));
    if let Some(before) = before {
        line(&format!("    was        {before}"));
    }
    if let Some(key) = signed_by {
        line(&format!("    signed by  {}", key.display()));
    }
    line(&format!("    taken by   {}", count(*shares, "share")));
    if !not_asked.is_empty() {
        let names: Vec<&str> = not_asked.iter().map(ShareName::as_str).collect();
        line(&format!(
            "    not asked  {}: the columns of the dataset are not known before it is read",
            names.join(", ")
        ));
    }
    line(&format!("{} is written; `consign reload` has the daemon go over to it", written.display()));
}
