//! `consign plugin`: making, looking at and trying components.

mod bench;
mod conformance;
mod inspect;
mod test;
mod workbench;

use clap::Subcommand;

use super::Global;
use super::output::{CliError, Exit};
use super::setup;

#[derive(Subcommand)]
pub enum PluginCommand {
    /// Show what a component is: name, version, digest, options, what it asks for.
    ///
    /// A component that consign cannot run is refused with what it imports or
    /// exports and what consign offers.
    Inspect(inspect::InspectArgs),
    /// Run the cases of a plugin and compare what it writes, byte by byte.
    ///
    /// A case is a folder with an input, options, and what is to become of it.
    /// The component runs in the daemon's engine, under the daemon's limits; see
    /// docs/plugin-testing.md.
    Test(test::TestArgs),
    /// Measure how fast a plugin is, in turns with the shipped csv over the same rows.
    Bench(bench::BenchArgs),
    /// Try what the contract asks of every plugin, one thing after another.
    ///
    /// Each check says what it wants, and what to do where it fails. The list is in
    /// docs/plugin-testing.md.
    Conformance(conformance::ConformanceArgs),
}

pub fn plugin(global: &Global, command: &PluginCommand) -> Result<Exit, CliError> {
    match command {
        PluginCommand::Inspect(args) => inspect::inspect(global, args),
        PluginCommand::Bench(args) => setup::block_on(bench::bench(global, args)),
        PluginCommand::Conformance(args) => setup::block_on(conformance::conformance(global, args)),
        PluginCommand::Test(args) => setup::block_on(test::test(global, args)),
    }
}
