//! `consign status`: what a daemon does, what is wrong first. 80 columns are enough.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;

use super::client::{AT_ONCE, Client};
use super::output::{self, CliError, Exit, bytes, count, line, thousands};
use super::{Global, setup};
use crate::clock::{Clock, Instant, to_the_second};
use crate::daemon::admin::ask::Ask;
use crate::daemon::admin::{Halted, Kept, Moving, NotReady, Now, Overview, Running, Shut, Unasked};
use crate::domain::Blame;
use crate::ledger::{DeliveryState, Exposed, FailedRun, FailedShare, Open, Quarantine, Unready};
use crate::run::component_digest;

/// Entries of each list for people.
const SHOWN: usize = 10;

const WIDTH: usize = 80;

/// Errors of refused files that are shown.
const PROBLEMS: usize = 3;

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
    let wrong = wrong(overview.daemon.as_ref(), overview.ledger.as_ref());
    match global.json {
        true => output::json(&overview),
        false => print(&overview, &wrong, Clock::system().now()),
    }
    let is_well = overview.daemon.is_some() && (!args.check || wrong.is_empty());
    Ok(if is_well { Exit::Done } else { Exit::Failed })
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

fn print(overview: &Overview, wrong: &[String], now: Instant) {
    let Overview { daemon, ledger } = overview;
    match daemon {
        Some(daemon) => print_daemon(daemon, now),
        None => line("no consign runs; this is what its ledger knows"),
    }
    let state = daemon.as_ref().and_then(|daemon| daemon.now.as_ref());
    head("wrong", wrong.is_empty());
    wrong.iter().for_each(|text| line(&cut(&format!("  {text}"))));
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

fn again(until: Option<Instant>) -> String {
    until.map_or("one delivery tries it".to_owned(), |until| format!("tried again at {}", to_the_second(until)))
}

/// All that is wrong, in lines.
fn wrong(daemon: Option<&Running>, kept: Option<&Kept>) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(daemon) = daemon {
        wrong_of_daemon(&mut wrong, daemon);
    }
    if let Some(kept) = kept {
        wrong_of_ledger(&mut wrong, kept);
    }
    wrong
}

fn wrong_of_daemon(wrong: &mut Vec<String>, daemon: &Running) {
    match &daemon.now {
        None => wrong.push("its loop does not answer: journalctl -u consign, and the machine's disks".to_owned()),
        Some(now) => {
            if let Some(why) = &now.unable {
                wrong.push(format!("{why}, and nothing new begins; once that is mended it goes on by itself"));
            }
            for Shut { bucket, until } in now.shut.iter().take(SHOWN) {
                wrong.push(format!("bucket {bucket} does not answer; {}", again(*until)));
            }
            more(wrong, now.shut.len() as u64);
            for Unasked { customer, until, why } in now.unasked.iter().take(SHOWN) {
                let why = why.as_deref().map_or("STS does not answer".into(), |why| both_ends(why, WIDTH));
                wrong.push(format!("{why} (customer {customer}); {}", again(*until)));
            }
            more(wrong, now.unasked.len() as u64);
            if now.stopping {
                wrong.push("it is stopping: what is at work ends, and nothing new begins".to_owned());
            }
            if let Some(refused) = now.reload.as_ref().and_then(|last| Some((last.at, last.refused.as_ref()?))) {
                let (at, refused) = (to_the_second(refused.0), refused.1);
                wrong.push(format!("its files were refused at {at}: {}", refused.message));
                let remedy = match refused.blame {
                    // Nor is it for `check` to say.
                    Blame::Config if !refused.help.is_empty() && !refused.problems.is_empty() => refused.help.as_str(),
                    Blame::Config => "`consign check` tells what is wrong",
                    // Nothing is wrong with the files themselves.
                    _ => "once that is over, `consign reload` takes them",
                };
                let problems = refused.problems.iter().filter(|problem| problem["severity"] == "error");
                let told = problems.take(PROBLEMS).filter_map(|problem| problem["message"].as_str());
                wrong.extend(told.map(|message| both_ends(&format!("  {message}"), WIDTH - 2)));
                wrong.push(format!("  the generation above runs on; {remedy}"));
            }
        }
    }
}

fn wrong_of_ledger(wrong: &mut Vec<String>, kept: &Kept) {
    for ahead in kept.ahead.iter().take(SHOWN) {
        let until = ahead.fires.map_or("never again".to_owned(), |fires| format!("next at {}", to_the_second(fires)));
        wrong.push(format!("share {} fires {until}: the clock was ahead", ahead.share));
    }
    more(wrong, kept.ahead_count);
    if kept.ahead_count > 0 {
        wrong.push("  `consign ledger rewind` has it fire from now on".to_owned());
    }
    kept.quarantined.iter().take(SHOWN).for_each(|halted| wrong.extend(told(halted)));
    more(wrong, kept.quarantined.len() as u64);
    kept.unready.iter().take(SHOWN).for_each(|found| wrong.extend(told_unready(found)));
    more(wrong, kept.unready.len() as u64);
    kept.exposed.iter().take(SHOWN).for_each(|found| wrong.extend(told_exposed(found)));
    more(wrong, kept.exposed.len() as u64);
    for pause in kept.paused.iter().take(SHOWN) {
        wrong.push(format!("share {} is paused since {}", pause.share, to_the_second(pause.since)));
    }
    more(wrong, kept.paused.len() as u64);
    for FailedShare { runs, last } in kept.failed.iter().take(SHOWN) {
        let FailedRun { run, share, customer, failed, failure, finished, .. } = last;
        let others = if *failed > 1 { format!(" and {} more", failed - 1) } else { String::new() };
        wrong.push(format!("{} {share} failed for {customer}{others}", to_the_second(*finished)));
        if let Some(failure) = failure {
            wrong.push(both_ends(&format!("  {failure}"), WIDTH - 2));
        }
        wrong.push(format!("  consign show {run}"));
        if *runs > 1 {
            let runs = thousands(*runs);
            wrong.push(format!("  in {runs} of its runs: consign history --share {share} --state failed"));
        }
    }
    more(wrong, kept.failed_count);
    let in_doubt = &kept.standing.in_doubt;
    for Open { share, customer, run, .. } in in_doubt.iter().take(SHOWN) {
        wrong.push(format!("{share} to {customer} is in doubt: its manifest may be in the bucket"));
        wrong.push(format!("  consign show {run}"));
    }
    more(wrong, in_doubt.len() as u64);
}

/// Which, since when, why, what waits, what to do.
fn told(Halted { quarantine, waiting, .. }: &Halted) -> [String; 6] {
    let Quarantine { plugin, digest, since, deliveries, failure, failed } = quarantine;
    let some = |deliveries: u64| match deliveries {
        1 => "1 delivery".to_owned(),
        some => format!("{} deliveries", thousands(some)),
    };
    let last = both_ends(&format!("    {}", failure.message), WIDTH - 2);
    let (waits, slots) =
        (some(waiting.deliveries), count(usize::try_from(waiting.slots).unwrap_or(usize::MAX), "slot"));
    [
        format!("plugin {plugin} is in quarantine since {}", to_the_second(*since)),
        format!("  {digest}"),
        format!("  {} in a row ended by its fault, the last at {}:", some(*deliveries), to_the_second(*failed)),
        last,
        format!("  nothing more of it is started: {waits} and {slots} wait"),
        format!("  another component ends it, or `consign plugin release {plugin}`"),
    ]
}

/// Which, since when, why, what waits, when it is looked at again, what to do.
fn told_unready(NotReady { unready, waiting }: &NotReady) -> Vec<String> {
    let Unready { customer, since, failure, looks, next, .. } = unready;
    let (since, next) = (to_the_second(*since), to_the_second(*next));
    let remedy = failure.remedy.lines().next().unwrap_or_default();
    vec![
        format!("customer {customer} is not ready since {since}: {}", some(*waiting, "wait", "waits")),
        both_ends(&format!("  {failure}"), WIDTH - 2),
        both_ends(&format!("  {}", remedy.trim_end_matches(':')), WIDTH - 2),
        format!("  looked at {looks} times in vain, again at {next}"),
        format!("  consign preflight {customer}"),
    ]
}

/// Which, why, what to do. Nothing waits.
fn told_exposed(Exposed { customer, failure, .. }: &Exposed) -> [String; 3] {
    [
        format!("customer {customer}: critical: its role lets in whoever names it"),
        both_ends(&format!("  {failure}"), WIDTH - 2),
        format!("  deliveries go on all the same; consign preflight {customer}"),
    ]
}

/// `1 delivery waits`, `2 deliveries wait`.
fn some(deliveries: u64, several: &str, one: &str) -> String {
    match deliveries {
        1 => format!("1 delivery {one}"),
        some => format!("{} deliveries {several}", thousands(some)),
    }
}

fn more(list: &mut Vec<String>, all: u64) {
    let left = all.saturating_sub(SHOWN as u64);
    if left > 0 {
        list.push(format!("… and {} more", thousands(left)));
    }
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
