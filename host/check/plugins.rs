//! Plugins that cannot be used, and what each says of a share's options.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::SchemaRef;

use super::refuse;
use crate::config::{Config, ConfigErrors, Location, Problem};
use crate::domain::{DatasetName, Failure};
use crate::plugin::{Described, Diagnostic, Severity, described};
use crate::run::{BadPlugin, Parts};

pub(super) fn unusable(config: &Config, unusable: Vec<BadPlugin>, found: &mut ConfigErrors) {
    for BadPlugin { plugin, mut failure } in unusable {
        let key = if failure.message.contains("is pinned") { "sha256" } else { "path" };
        if failure.remedy.is_empty() {
            failure.remedy =
                "name a component that was built for the world of wit/v1, as plugins/sdk/README.md shows; \
                              `consign plugin inspect FILE` tells what a file is"
                    .into();
        }
        refuse(found, config.locate(&["plugins", plugin.as_str(), key]), failure);
    }
}

/// Asks every plugin about its options and the columns it will get, once where
/// many shares say the same.
pub(super) fn options(
    config: &Config,
    parts: &Parts,
    schemas: &BTreeMap<DatasetName, SchemaRef>,
    found: &mut ConfigErrors,
) {
    let (mut answers, mut options_of) = (HashMap::new(), HashMap::new());
    for (name, share) in &config.shares {
        let Some(schema) = schemas.get(&share.dataset) else { continue };
        let Ok((component, _)) = parts.component(config, share) else { continue };
        let ask = || tokio::task::block_in_place(|| component.check(&share.options, schema));
        let question = (&share.plugin, share.options.as_str(), &share.dataset);
        match answers.entry(question).or_insert_with(|| ask().map_err(|error| Failure::chain(&error))) {
            Ok(said) => {
                let schema = || described(&component.description().options_schema);
                let options = options_of.entry(&share.plugin).or_insert_with(schema);
                let place = |path: &str, key| config.locate_option(name, path, key);
                said.iter().for_each(|said| found.push(told(place, options, said.clone())));
            }
            Err(why) => {
                let place = config.locate(&["shares", name.as_str(), "plugin"]);
                found.at(place, why.clone(), "");
            }
        }
    }
}

/// A plugin's finding with the option's name in it, and what the option takes.
/// `place` tells where an option's key or value stands, by its JSON Pointer.
pub(crate) fn told(place: impl Fn(&str, bool) -> Location, described: &[Described], said: Diagnostic) -> Problem {
    let name = said.path.split('/').nth(1).unwrap_or_default().replace("~1", "/").replace("~0", "~");
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
