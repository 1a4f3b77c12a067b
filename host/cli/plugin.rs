//! `consign plugin`: looking at components.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::Global;
use super::output::{self, CliError, Exit, bytes, line};
use crate::domain::{Failure, PluginName};
use crate::limits::Limits;
use crate::plugin::{self, PluginHost};

#[derive(Subcommand)]
pub enum PluginCommand {
    /// Show what a component is: name, version, digest, options.
    ///
    /// A component that consign cannot run is refused with what it imports or
    /// exports and what consign offers.
    Inspect {
        /// A component's file, or the name of a shipped plugin, such as csv.
        file: PathBuf,
    },
}

const CONTRACT: &str = "consign:format@1";

#[derive(Serialize)]
struct Inspection {
    contract: &'static str,
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
        None => std::fs::read(file).map_err(|error| {
            let mut failed = CliError::internal(&format!("cannot read {}", file.display()), &error);
            if error.kind() == std::io::ErrorKind::NotFound {
                failed.exit = Exit::Failed;
                failed.help = format!("name a component's file, or a shipped plugin: {}", plugin::SHIPPED.join(", "));
            }
            failed
        })?,
    };
    // By the file's name, as one would in the configuration.
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_ascii_lowercase();
    let name = PluginName::parse(&stem).or_else(|_| PluginName::parse("component"));
    let name = name.map_err(|why| CliError::new(Exit::Internal, format!("'component' {why}"), ""))?;
    let inspection = inspect(&name, &component)?;
    if global.json {
        output::json(&inspection);
    } else {
        inspection.print();
    }
    Ok(Exit::Done)
}

fn inspect(name: &PluginName, component: &[u8]) -> Result<Inspection, CliError> {
    // A cache of its own, thrown away: looking at a component must not put it
    // among those that the daemon runs.
    let cache = tempfile::tempdir().map_err(|error| CliError::internal("cannot make a temporary directory", &error))?;
    let refused = |error: &(dyn std::error::Error + 'static)| {
        let help = "plugins/sdk/README.md shows how to build a component for the world of wit/v1";
        CliError::new(Exit::Failed, Failure::chain(error), help)
    };
    let host = PluginHost::new(cache.path()).map_err(|error| refused(&error))?;
    let loaded = host.load(name, component, &Limits::default()).map_err(|error| refused(&error))?;
    let said = loaded.description();
    Ok(Inspection {
        contract: CONTRACT,
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
        line(&format!("contract    {}", self.contract));
        line(&format!("sha256      {}", self.sha256));
        line(&format!("size        {}", bytes(self.bytes)));
        line(&format!("writes      .{}  {}", self.extension, self.media_type));
        let options = plugin::described(&self.options_schema.to_string());
        if options.is_empty() {
            return line("options     none");
        }
        line("options");
        for option in options {
            let takes = if option.takes.is_empty() { String::new() } else { format!("  {}", option.takes) };
            let default = option.default.map(|default| format!("; default {default}")).unwrap_or_default();
            line(&format!("  {}{takes}{default}", option.name));
            wrapped(&option.doc).iter().for_each(|text| line(&format!("      {text}")));
        }
    }
}

/// Lines of at most about 90 characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + word.chars().count() < 90) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}
