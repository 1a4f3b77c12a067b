//! `consign status`: what a daemon does, what is wrong first. 80 columns are enough.

mod wrong;

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::client::{AT_ONCE, Client};
use super::output::{self, CliError, Exit, bytes, count, line, thousands};
use super::{Global, setup};
use crate::clock::{Clock, Instant, to_the_second};
use crate::daemon::admin::ask::Ask;
use crate::daemon::admin::{Kept, Moving, Now, Overview, Running};
use crate::ledger::{DeliveryState, Open};
use crate::run::component_digest;
use wrong::{Group, Wrong};

/// Entries of each list for people.
const SHOWN: usize = 10;

const WIDTH: usize = 80;

#[derive(Args)]
pub struct StatusArgs {
    /// End with 1 also when anything is wrong, for what watches over consign.
    #[arg(long)]
    check: bool,
}

pub async fn status(global: &Global, args: &StatusArgs) -> Result<Exit, CliError> {
    let overview = match Client::connect(global).await? {
        Some(client) => client.ask(Ask::Status, AT_ONCE, drop).await?,
        None => without_daemon(global).await?,
    };
    let wrong = wrong::all(&overview);
    match global.json {
        true => output::json(&Told::of(&overview, &wrong)),
        false => print(&overview, &wrong, Clock::system().now()),
    }
    let is_well = overview.daemon.is_some() && (!args.check || wrong.is_empty());
    Ok(if is_well { Exit::Done } else { Exit::Failed })
}

/// For machines: what is wrong as people are told it, and what it is taken from.
#[derive(Serialize)]
struct Told<'a> {
    wrong: Vec<&'a Wrong>,
    daemon: Option<&'a Running>,
    ledger: Option<&'a Kept>,
}

impl<'a> Told<'a> {
    fn of(overview: &'a Overview, wrong: &'a [Group]) -> Self {
        let wrong = wrong.iter().flat_map(|group| &group.list).collect();
        Self { wrong, daemon: overview.daemon.as_ref(), ledger: overview.ledger.as_ref() }
    }
}

/// What its ledger knows all the same.
async fn without_daemon(global: &Global) -> Result<Overview, CliError> {
    let config = Arc::new(setup::config_as_it_is(global)?);
    let ledger = match setup::reader(&config)? {
        Some(reader) => Some(Kept::read(&reader, &config, component_digest, Clock::system().now()).await?),
        None => None,
    };
    Ok(Overview { daemon: None, ledger })
}

fn print(overview: &Overview, wrong: &[Group], now: Instant) {
    let Overview { daemon, ledger } = overview;
    match daemon {
        Some(daemon) => print_daemon(daemon, now),
        None => line("no consign runs; this is what its ledger knows"),
    }
    let state = daemon.as_ref().and_then(|daemon| daemon.now.as_ref());
    head("wrong", wrong.is_empty());
    wrong.iter().for_each(Group::print);
    let Some(kept) = ledger else {
        line("there is no ledger yet: nothing has run");
        return;
    };
    print_work(kept, state, now);
    if let Some(Now { next, .. }) = state {
        head("next slots", next.is_empty());
        output::rows(
            &next
                .iter()
                .map(|(share, at)| vec![format!("  {}", to_the_second(*at)), share.to_string()])
                .collect::<Vec<_>>(),
        );
    }
    line("");
    if let Some(last) = &kept.last {
        let at = to_the_second(last.started);
        line(&cut(&format!("last run: {at} {}, {}/{} delivered", last.share, last.committed, last.deliveries)));
    }
    line(&format!("ledger: {}{}", bytes(kept.size_bytes), super::ledger::since(kept.origins)));
}

fn print_daemon(daemon: &Running, now: Instant) {
    let Running { pid, version, config, started, now: state, .. } = daemon;
    line(&format!("consign {version}, process {pid}, up {}", lasting(now, *started)));
    line(&format!("  {}", config.display()));
    let Some(state) = state else { return };
    let (shares, customers) = (count(state.shares, "share"), count(state.customers, "customer"));
    let since = to_the_second(state.since);
    line(&format!("  generation {} since {since}: {shares}, {customers}", state.generation));
    let [delivered, failed, left_out] = [state.delivered, state.failed, state.left_out].map(thousands);
    for (generation, deliveries) in earlier(state) {
        line(&format!("  generation {generation} still has {deliveries} at work"));
    }
    line(&format!("  since the start {delivered} delivered, {failed} failed, {left_out} slots left out"));
}

/// Generations before the one that runs, with what they still have at work.
fn earlier(state: &Now) -> BTreeMap<u64, usize> {
    let mut earlier = BTreeMap::new();
    for moving in state.at_work.iter().filter(|moving| moving.generation < state.generation) {
        *earlier.entry(moving.generation).or_default() += 1;
    }
    earlier
}

fn print_work(kept: &Kept, state: Option<&Now>, now: Instant) {
    let standing = &kept.standing;
    let of = state.map(|state| format!(" of {}", state.concurrency)).unwrap_or_default();
    head(&format!("at work: {}{of}", standing.at_work_count), false);
    for open in standing.at_work.iter().take(SHOWN) {
        let what = match open.state {
            DeliveryState::Sealed => "completing",
            _ if open.cancelled => "being ended",
            _ => "streaming",
        };
        let since = open.since.map(|since| format!(" for {}", lasting(now, since))).unwrap_or_default();
        print_open(open, &format!("{what}{since}"));
        let is_it = |moving: &&Moving| moving.run == open.run && moving.customer == open.customer;
        if let Some(moving) = state.and_then(|state| state.at_work.iter().find(is_it)) {
            line(&format!("    {}", moved(moving)));
        }
    }
    rest(standing.at_work_count, standing.at_work.len());
    if standing.again_count > 0 {
        head(&format!("to be tried again: {}", standing.again_count), false);
        for open in standing.again.iter().take(SHOWN) {
            print_open(open, &open.due.map(|due| format!("at {}", to_the_second(due))).unwrap_or_default());
            if let Some(failure) = &open.failure {
                line(&both_ends(&format!("    {failure}"), WIDTH));
            }
            if open.in_doubt.is_some() {
                line("    its manifest may be there: `consign settle` says so; show tells how");
            }
        }
        rest(standing.again_count, standing.again.len());
    }
    line("");
    let (pending, slots) = (thousands(standing.pending), thousands(standing.slots));
    line(&format!("waiting for a place: {pending} deliveries, {slots} slots"));
    for (share, slots) in standing.held.iter().take(SHOWN) {
        line(&cut(&format!(
            "  {share}: {} for another slot of its own",
            count(usize::try_from(*slots).unwrap_or(usize::MAX), "slot")
        )));
    }
}

fn print_open(open: &Open, what: &str) {
    let attempt = open.attempt.filter(|attempt| *attempt > 1).map(|attempt| format!(", attempt {attempt}"));
    let slot = to_the_second(open.slot);
    line(&cut(&format!("  {} {slot} to {}: {what}{}", open.share, open.customer, attempt.unwrap_or_default())));
    line(&format!("    run {}", open.run));
}

/// What tells a slow one from one that hangs.
fn moved(Moving { rows, bytes: size, parts, still_seconds, .. }: &Moving) -> String {
    let Some(still) = still_seconds else { return "nothing has moved yet".to_owned() };
    let [rows, parts] = [*rows, *parts].map(thousands);
    format!("{rows} rows, {}, {parts} parts stored; moved {} ago", bytes(*size), rough(*still))
}

fn rest(all: u64, listed: usize) {
    let shown = listed.min(SHOWN) as u64;
    if all > shown {
        line(&format!("  … and {} more", thousands(all - shown)));
    }
}

fn head(text: &str, is_empty: bool) {
    if !is_empty {
        line("");
        line(text);
    }
}

/// `3h 2m`, as much of it as matters.
fn lasting(now: Instant, since: Instant) -> String {
    rough((now - since).num_seconds().max(0).cast_unsigned())
}

fn rough(seconds: u64) -> String {
    let text = humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// No wider than the terminal that one has at three in the morning.
fn cut(text: &str) -> String {
    let text = text.replace(char::is_control, " ");
    match text.chars().count() > WIDTH {
        true => text.chars().take(WIDTH - 1).chain(['…']).collect(),
        false => text,
    }
}

/// The same for a failure, which says at its end why.
fn both_ends(text: &str, width: usize) -> String {
    let text = text.replace(char::is_control, " ");
    let (all, half) = (text.chars().count(), width / 2);
    match all > width {
        true => text.chars().take(half - 1).chain(['…']).chain(text.chars().skip(all - (width - half))).collect(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::both_ends;

    #[test]
    fn a_long_failure_shows_both_its_ends() {
        assert_eq!(both_ends("layer: it is short", 20), "layer: it is short");
        assert_eq!(both_ends("network: a lot of words: refused", 20), "network: …s: refused");
        assert_eq!(both_ends("é€😀é€😀é€😀", 5), "é…é€😀");
    }
}
