//! `consign pause` and `consign resume`: a share's schedule, stopped and gone on with.

use clap::Args;
use serde::Serialize;

use super::output::{self, CliError, Exit, line};
use super::{Global, send, setup};
use crate::clock::{Clock, Instant, exact};
use crate::crash::{self, Point};
use crate::domain::ShareName;

#[derive(Args)]
pub struct PauseArgs {
    /// The share.
    share: String,
}

#[derive(Serialize)]
struct Report<'a> {
    share: &'a ShareName,
    /// Whether anything changed.
    changed: bool,
    paused_since: Option<Instant>,
}

pub async fn pause(global: &Global, args: &PauseArgs) -> Result<Exit, CliError> {
    let config = setup::config(global)?;
    let share = send::share(&config, &args.share)?;
    let clock = Clock::system();
    let now = clock.now();
    let earlier = setup::idle_ledger(&config, &clock)?.pause(share.name.clone()).await?;
    crash::point(Point::Paused);
    let since = earlier.unwrap_or(now);
    if global.json {
        output::json(&Report { share: &share.name, changed: earlier.is_none(), paused_since: Some(since) });
        return Ok(Exit::Done);
    }
    match earlier {
        Some(since) => line(&format!("share {} was paused already, since {}", share.name, exact(since))),
        None => line(&format!("share {} is paused: its slots are left out until `consign resume`", share.name)),
    }
    Ok(Exit::Done)
}

pub async fn resume(global: &Global, args: &PauseArgs) -> Result<Exit, CliError> {
    let config = setup::config(global)?;
    let share = send::share(&config, &args.share)?;
    let clock = Clock::system();
    let since = setup::idle_ledger(&config, &clock)?.resume(share.name.clone()).await?;
    crash::point(Point::Resumed);
    if global.json {
        output::json(&Report { share: &share.name, changed: since.is_some(), paused_since: None });
        return Ok(Exit::Done);
    }
    match since {
        Some(since) => {
            line(&format!("share {} goes on; it was paused since {}", share.name, exact(since)));
            let from = exact(since);
            line(&format!("  `consign backfill {} --from {from} --to …` delivers what was left out", share.name));
        }
        None => line(&format!("share {} was not paused", share.name)),
    }
    Ok(Exit::Done)
}
