//! `consign plugin`: looking at components.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::Global;
use super::output::{self, CliError, Exit, bytes, line};
use crate::domain::{Failure, PluginName};
use crate::limits::Limits;
use crate::plugin::PluginHost;

#[derive(Subcommand)]
pub enum PluginCommand {
    /// Show what a component is: name, version, digest, options.
    ///
    /// A component that consign cannot run is refused with what it imports or
    /// exports and what consign offers.
    Inspect {
        /// A component's file, or the name of a shipped plugin: csv, jsonl, parquet.
        file: PathBuf,
    },
}

#[derive(Serialize)]
struct Inspection {
    name: String,
    version: String,
    sha256: String,
    bytes: u64,
    extension: String,
    media_type: String,
    options_schema: serde_json::Value,
}

pub fn plugin(global: &Global, command: &PluginCommand) -> Result<Exit, CliError> {
    let PluginCommand::Inspect { file } = command;
    let shipped = file.to_str().and_then(crate::plugin::shipped);
    let component = match shipped {
        Some(component) => component.to_vec(),
        None => std::fs::read(file)
            .map_err(|error| CliError::internal(&format!("cannot read {}", file.display()), &error))?,
    };
    let inspection = inspect(&component)?;
    if global.json {
        output::json(&inspection);
    } else {
        inspection.print();
    }
    Ok(Exit::Done)
}

fn inspect(component: &[u8]) -> Result<Inspection, CliError> {
    // A cache of its own, thrown away: looking at a component must not put it
    // among those that the daemon runs.
    let cache = tempfile::tempdir().map_err(|error| CliError::internal("cannot make a temporary directory", &error))?;
    let refused = |error: &dyn std::error::Error| {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        CliError::new(Exit::Failed, text, "")
    };
    let host = PluginHost::new(cache.path()).map_err(|error| refused(&error))?;
    let name = PluginName::parse("inspected").map_err(|why| {
        CliError::from(Failure::new(crate::domain::Layer::Local, crate::domain::Retry::Never, why.to_string(), ""))
    })?;
    let loaded = host.load(&name, component, &Limits::default()).map_err(|error| refused(&error))?;
    let said = loaded.description();
    Ok(Inspection {
        name: said.name.clone(),
        version: said.version.clone(),
        sha256: loaded.digest().to_owned(),
        bytes: component.len() as u64,
        extension: said.extension.clone(),
        media_type: said.media_type.clone(),
        options_schema: serde_json::from_str(&said.options_schema).unwrap_or_default(),
    })
}

impl Inspection {
    fn print(&self) {
        line(&format!("name        {} {}", self.name, self.version));
        line("contract    consign:format@1");
        line(&format!("sha256      {}", self.sha256));
        line(&format!("size        {}", bytes(self.bytes)));
        line(&format!("writes      .{}  {}", self.extension, self.media_type));
        line("options");
        let properties = self.options_schema.get("properties").and_then(|value| value.as_object());
        let described = |schema: &serde_json::Value| {
            let text = schema.get("description").and_then(|text| text.as_str()).unwrap_or_default();
            text.lines().next().unwrap_or_default().to_owned()
        };
        let rows: Vec<_> = properties
            .into_iter()
            .flatten()
            .map(|(key, schema)| {
                let default = schema.get("default").map(ToString::to_string).unwrap_or_default();
                vec![format!("  {key}"), default, described(schema)]
            })
            .collect();
        output::rows(&rows);
    }
}
