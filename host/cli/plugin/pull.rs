//! `consign plugin pull`: from registries into the cache, and pinned.

use clap::Args;
use serde::Serialize;

use super::super::Global;
use super::super::output::{self, CliError, Exit, count, line};
use super::super::setup;
use super::named;
use super::pins::pin;
use crate::config::{Config, Pin, PluginSource};
use crate::domain::{Failure, PluginName};
use crate::plugin::PluginHost;
use crate::registry::{Depot, Pulled};

#[derive(Args)]
pub struct PullArgs {
    /// Only these plugins; default: all that have `oci`.
    #[arg(value_name = "NAME")]
    plugins: Vec<String>,

    /// Fetch only what `consign.lock` pins, and change nothing in it.
    #[arg(long)]
    locked: bool,
}

#[derive(Serialize)]
struct Row {
    plugin: PluginName,
    oci: String,
    manifest: String,
    component: String,
    version: String,
    /// The manifest that was pinned before, if it was another.
    before: Option<String>,
    signed_by: Option<String>,
}

pub async fn pull(global: &Global, args: &PullArgs) -> Result<Exit, CliError> {
    let config = setup::config(global)?;
    let plugins = named(&config, &args.plugins)?;
    let (config, _cache) = setup::with_cache(config)?;
    let depot = Depot::new(&config);
    let (mut rows, mut pins, mut failed) = (Vec::new(), Vec::new(), None);
    for name in &plugins {
        match one(&config, &depot, name, args.locked).await {
            Ok(Some((row, pin))) => {
                rows.push(row);
                pins.push((name.clone(), pin));
            }
            Ok(None) => {}
            Err(failure) if failed.is_none() => failed = Some(CliError::failed(failure)),
            Err(failure) => output::warn(&format!("{}: {}", failure.message, failure.remedy)),
        }
    }
    // All or nothing: half of an update would be one that nobody has tried.
    if let Some(failed) = failed {
        return Err(failed);
    }
    if !args.locked {
        pin(&config, pins)?;
    }
    setup::tell_not_kept(&config);
    show(global, &config, &rows, args.locked);
    Ok(Exit::Done)
}

/// None: the plugin is of no registry.
async fn one(
    config: &Config,
    depot: &Depot<'_>,
    name: &PluginName,
    locked: bool,
) -> Result<Option<(Row, Pin)>, Failure> {
    let plugin = config.plugins.get(name);
    let Some((plugin, PluginSource::Oci { reference, pin })) = plugin.map(|plugin| (plugin, &plugin.source)) else {
        return Ok(None);
    };
    let pinned = if locked { Some(depot.pin(name, reference, pin.as_ref())?) } else { None };
    let Pulled { artifact, pin: new, signed_by } = depot.pull(name, reference, pinned).await?;
    // What cannot be run is not pinned; and it is compiled when it is needed.
    let loaded = tokio::task::block_in_place(|| {
        PluginHost::new(&config.daemon.cache_dir)?.load_in(plugin.isolation, name, artifact.bytes(), &plugin.limits)
    });
    let loaded = loaded.map_err(|error| {
        let remedy = "`consign plugin inspect FILE` tells what a component is; nothing was pinned";
        Failure::new(crate::domain::Layer::Plugin, crate::domain::Retry::Never, Failure::chain(&error), remedy)
    })?;
    let before = pin.as_ref().filter(|before| before.manifest != new.manifest);
    let row = Row {
        plugin: name.clone(),
        oci: reference.to_string(),
        manifest: new.manifest.to_string(),
        component: new.component.to_string(),
        version: loaded.description().version.clone(),
        before: before.map(|before| before.manifest.to_string()),
        signed_by: signed_by.map(|path| path.display().to_string()),
    };
    Ok(Some((row, new)))
}

fn show(global: &Global, config: &Config, rows: &[Row], locked: bool) {
    if global.json {
        return output::json(&rows);
    }
    for row in rows {
        let change = match &row.before {
            Some(before) => format!("was {before}"),
            None => "as it was".to_owned(),
        };
        line(&format!("{} {}  {}", row.plugin, row.version, row.oci));
        line(&format!("    manifest   {}  {change}", row.manifest));
        line(&format!("    component  {}", row.component));
        if let Some(key) = &row.signed_by {
            line(&format!("    signed by  {key}"));
        }
    }
    match (rows.len(), locked) {
        (0, _) => line("no plugin has `oci`"),
        (pulled, true) => line(&format!("{} as pinned", count(pulled, "plugin"))),
        (pulled, false) => line(&format!("{} pinned in {}", count(pulled, "plugin"), config.lock_path.display())),
    }
}
