//! `consign plugin release`: a plugin in quarantine is let go.

use clap::Args;
use serde::Serialize;

use crate::cli::client::{AT_ONCE, Client};
use crate::cli::output::{self, CliError, Exit, line};
use crate::cli::{Global, setup};
use crate::clock::{Clock, to_the_second};
use crate::crash::{self, Point};
use crate::daemon::admin::ask::{Ask, Released};
use crate::daemon::by_hand;
use crate::domain::PluginName;
use crate::ledger::Quarantine;
use crate::run::component_digest;

#[derive(Args)]
pub struct ReleaseArgs {
    /// The plugin, as it is configured.
    name: String,
}

#[derive(Serialize)]
struct Report<'a> {
    plugin: &'a PluginName,
    /// Whether anything changed.
    changed: bool,
    released: &'a [Quarantine],
}

pub async fn release(global: &Global, args: &ReleaseArgs) -> Result<Exit, CliError> {
    let plugin = args.name.clone();
    let Released { plugin, released } = match Client::connect(global).await? {
        Some(client) => client.ask(Ask::Release { plugin }, AT_ONCE, drop).await?,
        None => {
            let config = setup::config(global)?;
            let ledger = setup::idle_ledger(&config, &Clock::system())?;
            let released = by_hand::release(&ledger, &config, &plugin, component_digest).await?;
            crash::point(Point::LetGo);
            released
        }
    };
    if global.json {
        output::json(&Report { plugin: &plugin, changed: !released.is_empty(), released: &released });
        return Ok(Exit::Done);
    }
    if released.is_empty() {
        line(&format!("plugin {plugin} was not in quarantine"));
    }
    for Quarantine { digest, since, deliveries, .. } in &released {
        line(&format!("plugin {plugin} goes on; it was in quarantine since {}", to_the_second(*since)));
        line(&format!("  {digest}, after {deliveries} deliveries in a row"));
    }
    Ok(Exit::Done)
}
