//! Plugins that cannot be used, and what each says of a share's options.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::SchemaRef;
use serde_json::Value;

use super::refuse;
use crate::config::{Config, ConfigErrors, Location, PluginSource, Problem, Share};
use crate::domain::{ContentDigest, DatasetName, Failure, PluginName, ShareName};
use crate::plugin::{Described, Diagnostic, Endless, Misfit, OptionsSchema, Severity};
use crate::run::{BadPlugin, Parts, earlier_component};

pub(super) fn unusable(config: &Config, unusable: Vec<BadPlugin>, found: &mut ConfigErrors) {
    for BadPlugin { plugin, failure, is_absent } in unusable {
        let key = match source_key(config, &plugin) {
            "path" if failure.message.contains("is pinned") => "sha256",
            key => key,
        };
        let place = config.locate(&["plugins", plugin.as_str(), key]);
        if is_absent {
            found.push(Problem::warning(place, failure.message, failure.remedy));
            continue;
        }
        refuse(found, place, failure);
    }
}

/// The key that says where a plugin's component is.
fn source_key(config: &Config, plugin: &PluginName) -> &'static str {
    match config.plugins.get(plugin).map(|plugin| &plugin.source) {
        Some(PluginSource::Oci { .. }) => "oci",
        _ => "path",
    }
}

/// What can be said of options without data.
pub(crate) struct Judged {
    pub misfits: Vec<Misfit>,
    /// The options that are right, if they are enough to ask the plugin about.
    pub rest: Option<String>,
}

impl Judged {
    /// Whether the plugin's finding is about an option that was left out: what is
    /// wrong with that has been said.
    pub fn has_told(&self, said: &Diagnostic) -> bool {
        self.misfits.iter().any(|misfit| top(&misfit.pointer) == top(&said.path))
    }
}

/// The shares that do not take their plugins as they are, and the first reason of each.
type Refusing = BTreeMap<PluginName, Vec<(ShareName, String)>>;

/// Holds every share's options against its plugin's schema, and asks the plugin
/// about them and the columns it will get; once where many shares say the same.
pub(super) fn options(
    config: &Config,
    parts: &Parts,
    schemas: &BTreeMap<DatasetName, SchemaRef>,
    found: &mut ConfigErrors,
) -> Refusing {
    let mut refusing = Refusing::new();
    let (mut judged, mut answers, mut options_of) = (HashMap::new(), HashMap::new(), HashMap::new());
    for (name, share) in &config.shares {
        let Ok((component, limits)) = parts.component(config, share) else { continue };
        let judged = judged
            .entry((&share.plugin, share.options.as_str()))
            .or_insert_with(|| judge(component.options(), &share.options));
        let judged = match judged {
            Ok(judged) => &*judged,
            Err(endless) => {
                let place = config.locate(&["shares", name.as_str(), "plugin"]);
                let message = format!("the options schema of plugin {} {endless}", component.name());
                found.at(place, message, "report it to the plugin's author; its options cannot be checked");
                continue;
            }
        };
        let mut refuses = |why: &str| {
            let shares = refusing.entry(component.name().clone()).or_default();
            if shares.last().is_none_or(|(last, _)| last != name) {
                shares.push((name.clone(), why.to_owned()));
            }
        };
        for misfit in &judged.misfits {
            refuses(&misfit.message);
            found.push(misfit_of(config, share, misfit.clone()));
        }
        let (Some(schema), Some(options)) = (schemas.get(&share.dataset), &judged.rest) else { continue };
        let ask = || tokio::task::block_in_place(|| component.check_within(&limits, options, schema));
        let question = (&share.plugin, share.options.as_str(), &share.dataset, &share.limits);
        match answers.entry(question).or_insert_with(|| ask().map_err(|error| Failure::chain(&error))) {
            Ok(said) => {
                let options = options_of.entry(&share.plugin).or_insert_with(|| component.options().described());
                let place = |path: &str, key| config.locate_option(name, path, key);
                for said in said.iter().filter(|said| !judged.has_told(said)) {
                    let problem = told(place, options, said.clone());
                    if said.severity == Severity::Error {
                        refuses(&problem.message);
                    }
                    found.push(problem);
                }
            }
            Err(why) => {
                refuses(why);
                let place = config.locate(&["shares", name.as_str(), "plugin"]);
                found.at(place, why.clone(), "");
            }
        }
    }
    refusing
}

/// What a plugin was until now, and what to do so that it stays so.
pub struct Earlier {
    pub digest: ContentDigest,
    pub keep: String,
}

impl Earlier {
    /// Of a running daemon, when somebody has put another component there.
    pub fn running(config: &Config, plugin: &PluginName, digest: ContentDigest) -> Self {
        let plugin = config.plugins.get(plugin);
        let keep = match plugin.map(|plugin| (plugin, &plugin.source)) {
            Some((plugin, _)) if earlier_component(plugin).as_ref() == Some(&digest) => {
                format!("keep that (`consign plugin rollback {}`)", plugin.name)
            }
            // Put there by hand: what a rollback has is something else.
            Some((_, PluginSource::File { path, .. })) => format!("put that back as {}", path.display()),
            _ => format!("put that back into {}", config.lock_path.display()),
        };
        Self { digest, keep }
    }
}

/// Of a plugin that is to become another component: that shares do not take it, which
/// is why it stays what it is.
pub(super) fn refused(
    config: &Config,
    parts: &Parts,
    refusing: Refusing,
    earlier: impl Fn(&PluginName) -> Option<Earlier>,
    found: &mut ConfigErrors,
) {
    for (plugin, shares) in refusing {
        let (Some(Earlier { digest: before, keep }), Some(after)) = (earlier(&plugin), parts.digest(&plugin)) else {
            continue;
        };
        let Some((share, why)) = shares.first().filter(|_| before != after) else { continue };
        let more = match shares.len() {
            1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        let place = config.locate(&["plugins", plugin.as_str(), source_key(config, &plugin)]);
        let message = format!("share {share}{more} refuses the new component of plugin {plugin}: {why}");
        let help = format!("it is {after}, and {before} until now: correct the share, or {keep}");
        found.at(place, message, help);
    }
}

/// Everything that does not fit the schema; and what is left when the options
/// with a misfit are taken out, so that the plugin can be asked about the others
/// at once.
pub(crate) fn judge(schema: &OptionsSchema, options: &str) -> Result<Judged, Endless> {
    let whole: Value = serde_json::from_str(options).unwrap_or_default();
    let misfits = schema.judge(&whole)?;
    if misfits.is_empty() {
        return Ok(Judged { misfits, rest: Some(options.to_owned()) });
    }
    let mut rest = whole;
    if let Some(object) = rest.as_object_mut() {
        object.retain(|key, _| !misfits.iter().any(|misfit| top(&misfit.pointer) == *key));
    }
    let rest = schema.judge(&rest)?.is_empty().then(|| rest.to_string());
    Ok(Judged { misfits, rest })
}

/// The option that a JSON Pointer leads into; empty for the whole.
fn top(pointer: &str) -> String {
    pointer.split('/').nth(1).unwrap_or_default().replace("~1", "/").replace("~0", "~")
}

fn misfit_of(config: &Config, share: &Share, misfit: Misfit) -> Problem {
    let Misfit { pointer, of_key, message, help } = misfit;
    Problem::error(config.locate_option(&share.name, &pointer, of_key), message, help)
}

/// A plugin's finding with the option's name in it, and what the option takes.
/// `place` tells where an option's key or value stands, by its JSON Pointer.
pub(crate) fn told(place: impl Fn(&str, bool) -> Location, described: &[Described], said: Diagnostic) -> Problem {
    let name = top(&said.path);
    let option = described.iter().find(|option| option.name == name);
    let unknown = option.is_none() && !name.is_empty();
    let place = place(&said.path, unknown);
    let named = name.is_empty() || said.message.contains(&format!("`{name}`"));
    let message = if named { said.message } else { format!("option `{name}`: {}", said.message) };
    let help = option.map(Described::help).unwrap_or_default();
    match said.severity {
        Severity::Error => Problem::error(place, message, help),
        Severity::Warning => Problem::warning(place, message, help),
    }
}
