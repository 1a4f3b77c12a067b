//! `consign reload`: the running daemon reads its configuration again.

use clap::Args;

use super::Global;
use super::client::{AT_ONCE, Client};
use super::log::Priority;
use super::output::{self, CliError, Exit, count, line};
use crate::daemon::admin::ask::{Ask, Reloaded};

#[derive(Args)]
pub struct ReloadArgs {
    /// Return when the new configuration runs, or with all that is wrong with it.
    #[arg(long)]
    wait: bool,
    /// Take it also if it has no share any more, or most shares or customers are gone from it.
    #[arg(long)]
    remove: bool,
}

pub async fn reload(global: &Global, args: &ReloadArgs) -> Result<Exit, CliError> {
    let client = Client::needed(global).await?;
    let patience = if args.wait { None } else { AT_ONCE };
    let reloaded: Reloaded =
        client.ask(Ask::Reload { wait: args.wait, may_remove: args.remove }, patience, drop).await?;
    if global.json {
        output::json(&reloaded);
        return Ok(Exit::Done);
    }
    for warning in &reloaded.warnings {
        output::stderr(Priority::Warning, warning);
    }
    let Reloaded { generation, done, shares, added, removed, .. } = reloaded;
    match done {
        true => {
            line(&format!("generation {generation} of the configuration runs: {}", count(shares, "share")));
            for (names, what) in [(added, "added"), (removed, "removed")] {
                if !names.is_empty() {
                    line(&format!("  {what:<8} {names}"));
                }
            }
        }
        false => line("the configuration is being read; the log and `consign status` tell how that ends"),
    }
    Ok(Exit::Done)
}
