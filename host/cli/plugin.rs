//! `consign plugin`: making, looking at and trying components.

mod inspect;

use clap::Subcommand;

use super::Global;
use super::output::{CliError, Exit};

#[derive(Subcommand)]
pub enum PluginCommand {
    /// Show what a component is: name, version, digest, options.
    ///
    /// A component that consign cannot run is refused with what it imports or
    /// exports and what consign offers.
    Inspect(inspect::InspectArgs),
}

pub fn plugin(global: &Global, command: &PluginCommand) -> Result<Exit, CliError> {
    match command {
        PluginCommand::Inspect(args) => inspect::inspect(global, args),
    }
}
