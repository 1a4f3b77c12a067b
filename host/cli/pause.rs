//! `consign pause` and `consign resume`: a share's schedule, stopped and gone on with.

use clap::Args;
use serde::Serialize;

use super::client::{AT_ONCE, Client};
use super::output::{self, CliError, Exit, count, line};
use super::{Global, setup};
use crate::clock::{Clock, Instant, exact, to_the_second};
use crate::crash::{self, Point};
use crate::daemon::admin::ask::{Ask, Paused, Resumed};
use crate::daemon::by_hand;
use crate::domain::ShareName;
use crate::run::wanted;

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
    /// Slots that were planned and had not begun, and are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<u64>,
}

pub async fn pause(global: &Global, args: &PauseArgs) -> Result<Exit, CliError> {
    let share = args.share.clone();
    let paused = match Client::connect(global).await? {
        Some(client) => client.ask(Ask::Pause { share }, AT_ONCE, drop).await?,
        None => {
            let config = setup::config(global)?;
            let share = wanted::share(&config, &share)?.name.clone();
            let clock = Clock::system();
            let (paused, _) = by_hand::pause(&setup::idle_ledger(&config, &clock)?, &clock, share).await?;
            crash::point(Point::Paused);
            paused
        }
    };
    let Paused { share, since, changed, left_out } = paused;
    match (global.json, changed) {
        (true, _) => {
            output::json(&Report { share: &share, changed, paused_since: Some(since), left_out: Some(left_out) });
        }
        (_, false) => line(&format!("share {share} was paused already, since {}", to_the_second(since))),
        (_, true) => line(&format!("share {share} is paused: its slots are left out until `consign resume`")),
    }
    if left_out > 0 && !global.json {
        let slots = count(usize::try_from(left_out).unwrap_or(usize::MAX), "slot");
        line(&format!(
            "  {slots} had been planned and not begun, left out as well: consign history --skipped --share {share}"
        ));
    }
    Ok(Exit::Done)
}

pub async fn resume(global: &Global, args: &PauseArgs) -> Result<Exit, CliError> {
    let share = args.share.clone();
    let resumed = match Client::connect(global).await? {
        Some(client) => client.ask(Ask::Resume { share }, AT_ONCE, drop).await?,
        None => {
            let config = setup::config(global)?;
            let share = wanted::share(&config, &share)?.name.clone();
            let resumed = by_hand::resume(&setup::idle_ledger(&config, &Clock::system())?, share).await?;
            crash::point(Point::Resumed);
            resumed
        }
    };
    let Resumed { share, since, first_left_out } = resumed;
    if global.json {
        output::json(&Report { share: &share, changed: since.is_some(), paused_since: None, left_out: None });
        return Ok(Exit::Done);
    }
    match since {
        Some(since) => line(&format!("share {share} goes on; it was paused since {}", to_the_second(since))),
        None => line(&format!("share {share} was not paused")),
    }
    if let Some(first) = first_left_out {
        let from = exact(first);
        line(&format!("  `consign backfill {share} --from {from} --to …` delivers what was left out"));
    }
    Ok(Exit::Done)
}
