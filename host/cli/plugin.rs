//! `consign plugin`: making, looking at and trying components.

mod bench;
mod build;
mod conformance;
mod inspect;
mod isolation;
mod new;
mod pinned;
mod pins;
mod pull;
mod push;
mod release;
mod test;
mod upgrade;
mod workbench;

use clap::Subcommand;

use super::output::{CliError, Exit};
use super::{Global, setup};
use crate::config::Config;
use crate::domain::PluginName;

#[derive(Subcommand)]
pub enum PluginCommand {
    /// Make a project: a plugin that builds and passes its tests at once.
    ///
    /// It has everything but the language's own tools in it; docs/plugins.md leads
    /// from there to a delivery.
    New(new::NewArgs),
    /// Build a project's component, and look at it.
    ///
    /// Runs the language's own tools and shows what they say: cargo for Rust,
    /// componentize-py for Python, componentize-js for JavaScript, zig for C.
    Build(build::BuildArgs),
    /// Show what a component is: name, version, digest, options, what it asks for.
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
    /// Fetch plugins from their registries, and pin what they are.
    ///
    /// Asks what each reference names now, holds what comes against its digest and
    /// its signature, keeps it in the cache, and writes `consign.lock` beside the
    /// configuration: commit it. Nothing that is not pinned there is ever run.
    Pull(pull::PullArgs),
    /// Push a component to a registry, as `pull` expects it there.
    Push(push::PushArgs),
    /// Hold every plugin against what it is pinned to and who must have signed it.
    Verify(pinned::VerifyArgs),
    /// Show plugins, where they are from and which shares use them.
    List,
    /// Put another component in a plugin's place, once every share that uses it takes it.
    ///
    /// With `oci`: fetches what the reference names now, verifies its signature, asks it
    /// about the options and columns of each of its shares, and pins it in `consign.lock`,
    /// which remembers the earlier one. With `path`: the same with FILE, which takes the
    /// place of the plugin's file; the earlier one is kept beside it.
    Upgrade(upgrade::UpgradeArgs),
    /// Put the component back that a plugin was before; the one that it is now is kept.
    ///
    /// Out of the cache or from beside the file, so without the registry.
    Rollback(upgrade::RollbackArgs),
    /// Let a plugin go that is in quarantine: what waits for it begins.
    ///
    /// It came there because deliveries in a row ended by its own fault; `consign
    /// status` tells of the last one. As many again, and it is back.
    Release(release::ReleaseArgs),
}

pub fn plugin(global: &Global, command: &PluginCommand) -> Result<Exit, CliError> {
    match command {
        PluginCommand::New(args) => new::new(global, args),
        PluginCommand::Build(args) => build::build(global, args),
        PluginCommand::Inspect(args) => inspect::inspect(global, args),
        PluginCommand::Isolation => isolation::isolation(global),
        PluginCommand::Bench(args) => setup::block_on(bench::bench(global, args)),
        PluginCommand::Conformance(args) => setup::block_on(conformance::conformance(global, args)),
        PluginCommand::Test(args) => setup::block_on(test::test(global, args)),
        PluginCommand::Pull(args) => setup::block_on(pull::pull(global, args)),
        PluginCommand::Push(args) => setup::block_on(push::push(global, args)),
        PluginCommand::Verify(args) => pinned::verify(global, args),
        PluginCommand::List => pinned::list(global),
        PluginCommand::Upgrade(args) => setup::block_on(upgrade::upgrade(global, args)),
        PluginCommand::Rollback(args) => setup::block_on(upgrade::rollback(global, args)),
        PluginCommand::Release(args) => setup::block_on(release::release(global, args)),
    }
}

/// The plugins of these names, or else all.
fn named(config: &Config, names: &[String]) -> Result<Vec<PluginName>, CliError> {
    if names.is_empty() {
        return Ok(config.plugins.keys().cloned().collect());
    }
    let known = |name: &String| {
        let found = config.plugins.keys().find(|known| known.as_str() == name);
        found.cloned().ok_or_else(|| {
            let near = crate::config::near(name, config.plugins.keys().map(PluginName::as_str));
            let help = near.map(|near| format!("did you mean `{near}`?")).unwrap_or_default();
            CliError::new(Exit::Usage, format!("there is no plugin `{name}` in the configuration"), help)
        })
    };
    names.iter().map(known).collect()
}
