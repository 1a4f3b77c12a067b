//! `consign plugin`: making, looking at and trying components.

mod inspect;
mod isolation;

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
    /// Try what a plugin's process may not do: read files, use the network, start programs.
    ///
    /// Plugins with `isolation = "process"` run in processes that have given all of it
    /// up. This starts one, has it try, and shows what the kernel answers. Ends with 1
    /// where something is possible.
    Isolation,
}

pub fn plugin(global: &Global, command: &PluginCommand) -> Result<Exit, CliError> {
    match command {
        PluginCommand::Inspect(args) => inspect::inspect(global, args),
        PluginCommand::Isolation => isolation::isolation(global),
    }
}
