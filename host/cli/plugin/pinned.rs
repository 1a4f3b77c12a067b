//! `consign plugin list` and `consign plugin verify`: what plugins are, where they
//! are from, and whether they still are what they were. Neither asks anybody.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::super::Global;
use super::super::output::{self, CliError, Exit, count, line, table};
use super::super::setup;
use super::named;
use crate::config::{Config, Plugin, PluginSource};
use crate::domain::{ContentDigest, Failure, PluginName, ShareName};
use crate::registry::Depot;
use crate::run::component_file;

#[derive(Args)]
pub struct VerifyArgs {
    /// Only these plugins; default: all.
    #[arg(value_name = "NAME")]
    plugins: Vec<String>,
}

#[derive(Serialize)]
struct Listed {
    plugin: PluginName,
    /// `shipped`, a path or a reference.
    from: String,
    /// Of the component; none if it is not known yet.
    digest: Option<String>,
    /// Of the manifest in the registry.
    manifest: Option<String>,
    state: &'static str,
    shares: Vec<ShareName>,
}

#[derive(Serialize)]
struct Verified {
    plugin: PluginName,
    ok: bool,
    /// What was found to be so, or what is wrong.
    message: String,
    help: String,
}

pub fn list(global: &Global) -> Result<Exit, CliError> {
    let config = setup::config_as_it_is(global)?;
    let depot = Depot::new(&config);
    let mut shares: BTreeMap<&PluginName, Vec<ShareName>> = BTreeMap::new();
    for (name, share) in &config.shares {
        share.plugin.iter().for_each(|plugin| shares.entry(plugin).or_default().push(name.clone()));
    }
    let listed: Vec<Listed> = config
        .plugins
        .values()
        .map(|plugin| Listed { shares: shares.remove(&plugin.name).unwrap_or_default(), ..listed(&depot, plugin) })
        .collect();
    if global.json {
        output::json(&listed);
        return Ok(Exit::Done);
    }
    if listed.is_empty() {
        line("no share uses a plugin, and none is configured");
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = listed
        .iter()
        .map(|row| {
            let digest = row.digest.as_deref().map_or("-", |digest| &digest[..digest.len().min(19)]);
            let shares: Vec<&str> = row.shares.iter().map(ShareName::as_str).collect();
            let shares = if shares.is_empty() { "-".to_owned() } else { shares.join(", ") };
            vec![row.plugin.to_string(), row.from.clone(), digest.to_owned(), row.state.to_owned(), shares]
        })
        .collect();
    table(&["PLUGIN", "FROM", "DIGEST", "STATE", "SHARES"], &rows);
    Ok(Exit::Done)
}

fn listed(depot: &Depot<'_>, plugin: &Plugin) -> Listed {
    let row = |from: String, digest: Option<String>, state| Listed {
        plugin: plugin.name.clone(),
        from,
        digest,
        manifest: None,
        state,
        shares: Vec::new(),
    };
    match &plugin.source {
        PluginSource::Shipped => {
            let bytes = crate::plugin::shipped(plugin.name.as_str()).unwrap_or_default();
            row("shipped".into(), Some(ContentDigest::of(bytes).to_string()), "shipped")
        }
        PluginSource::File { path, sha256 } => {
            let state = match (path.is_file(), sha256) {
                (false, _) => "missing",
                (true, Some(_)) => "pinned",
                (true, None) => "not pinned",
            };
            row(path.display().to_string(), sha256.as_ref().map(|digits| format!("sha256:{digits}")), state)
        }
        PluginSource::Oci { reference, pin } => match depot.pin(&plugin.name, reference, pin.as_ref()) {
            Ok(pin) => {
                let state = if depot.has(pin) { "cached" } else { "not cached" };
                let manifest = Some(pin.manifest.to_string());
                Listed { manifest, ..row(reference.to_string(), Some(pin.component.to_string()), state) }
            }
            Err(_) => row(reference.to_string(), None, "not pinned"),
        },
    }
}

pub fn verify(global: &Global, args: &VerifyArgs) -> Result<Exit, CliError> {
    let config = setup::config(global)?;
    let plugins = named(&config, &args.plugins)?;
    let depot = Depot::new(&config);
    let plugins = plugins.iter().filter_map(|name| config.plugins.get(name));
    let verified: Vec<Verified> = plugins.map(|plugin| verified(&config, &depot, plugin)).collect();
    let wrong = verified.iter().filter(|row| !row.ok).count();
    if global.json {
        output::json(&verified);
    } else {
        for Verified { plugin, ok, message, help } in &verified {
            line(&format!("{plugin}  {}{message}", if *ok { "" } else { "FAILED  " }));
            if !help.is_empty() {
                line(&format!("    {help}"));
            }
        }
        line(&match wrong {
            0 => format!("{} verified", count(verified.len(), "plugin")),
            wrong => format!("{wrong} of {} failed", count(verified.len(), "plugin")),
        });
    }
    Ok(if wrong == 0 { Exit::Done } else { Exit::Failed })
}

fn verified(config: &Config, depot: &Depot<'_>, plugin: &Plugin) -> Verified {
    let (ok, message, help) = match state(config, depot, plugin) {
        Ok(message) => (true, message, String::new()),
        Err(failure) => (false, failure.message, failure.remedy),
    };
    Verified { plugin: plugin.name.clone(), ok, message, help }
}

fn state(config: &Config, depot: &Depot<'_>, plugin: &Plugin) -> Result<String, Failure> {
    match &plugin.source {
        PluginSource::Shipped => Ok("part of consign".into()),
        PluginSource::File { path, sha256 } => {
            let digest = ContentDigest::of(&component_file(plugin, path, sha256.as_deref())?);
            let pinned = if sha256.is_some() { "as pinned" } else { "(not pinned)" };
            Ok(format!("{digest} {pinned}"))
        }
        PluginSource::Oci { reference, pin } => {
            let pin = depot.pin(&plugin.name, reference, pin.as_ref())?;
            let Some(kept) = depot.kept(&plugin.name, pin)? else {
                return Ok(format!("{} is pinned and not in {}", pin.manifest, config.daemon.cache_dir.display()));
            };
            let signer = depot.signer(&plugin.name, &kept)?;
            let signed = signer.map(|key| format!(", signed by {}", key.display())).unwrap_or_default();
            Ok(format!("{} as pinned{signed}", pin.manifest))
        }
    }
}
