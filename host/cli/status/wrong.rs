//! What is wrong, in the order in which it is told.

use serde::Serialize;

use super::{SHOWN, WIDTH, both_ends, cut};
use crate::cli::output::{count, line, thousands};
use crate::clock::{Instant, to_the_second};
use crate::daemon::admin::{Halted, Kept, NotReady, Overview, Running, Shut, Unasked};
use crate::domain::{Blame, Refused};
use crate::ledger::{Exposed, FailedRun, FailedShare, Open, Quarantine, Unready};

/// Errors of refused files that are told.
const PROBLEMS: usize = 3;

/// One thing that is wrong. For people it is cut to the width of a terminal; for machines it is whole.
#[derive(Debug, Serialize)]
pub(super) struct Wrong {
    kind: Kind,
    message: String,
    /// What was found, line by line.
    why: Vec<String>,
    /// What goes on meanwhile, and what to do, line by line.
    help: Vec<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Loop,
    Ledger,
    Bucket,
    Sts,
    Stopping,
    Configuration,
    Ahead,
    Quarantine,
    Unready,
    Exposed,
    Paused,
    Failed,
    InDoubt,
}

/// What is wrong in one way.
pub(super) struct Group {
    pub list: Vec<Wrong>,
    /// However many are listed.
    all: u64,
}

/// None of them is empty.
pub(super) fn all(overview: &Overview) -> Vec<Group> {
    let of_daemon = overview.daemon.iter().flat_map(of_daemon);
    let of_ledger = overview.ledger.iter().flat_map(of_ledger);
    of_daemon.chain(of_ledger).filter(|group| !group.list.is_empty()).collect()
}

impl Wrong {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), why: Vec::new(), help: Vec::new() }
    }
}

impl Group {
    fn of(list: impl IntoIterator<Item = Wrong>) -> Self {
        let list: Vec<Wrong> = list.into_iter().collect();
        Self { all: list.len() as u64, list }
    }

    pub fn print(&self) {
        let mut shown = self.list.iter().take(SHOWN).peekable();
        while let Some(Wrong { message, why, help, .. }) = shown.next() {
            line(&cut(&format!("  {message}")));
            why.iter().for_each(|why| line(&format!("  {}", both_ends(&format!("  {why}"), WIDTH - 2))));
            // What is to be done about several of them is said once.
            if shown.peek().is_none_or(|next| next.help != *help) {
                help.iter().for_each(|help| line(&cut(&format!("    {help}"))));
            }
        }
        let left = self.all.saturating_sub(SHOWN as u64);
        if left > 0 {
            line(&format!("  … and {} more", thousands(left)));
        }
    }
}

fn of_daemon(daemon: &Running) -> Vec<Group> {
    let Some(now) = &daemon.now else {
        let message = "its loop does not answer: journalctl -u consign, and the machine's disks";
        return vec![Group::of([Wrong::new(Kind::Loop, message)])];
    };
    let unable = now.unable.iter().map(|why| {
        let message = format!("{why}, and nothing new begins; once that is mended it goes on by itself");
        Wrong::new(Kind::Ledger, message)
    });
    let shut = now.shut.iter().map(|Shut { bucket, until }| {
        Wrong::new(Kind::Bucket, format!("bucket {bucket} does not answer; {}", again(*until)))
    });
    let stopping = now
        .stopping
        .then(|| Wrong::new(Kind::Stopping, "it is stopping: what is at work ends, and nothing new begins"));
    let refused = now.reload.as_ref().and_then(|last| Some(refused(last.at, last.refused.as_ref()?)));
    vec![
        Group::of(unable),
        Group::of(shut),
        Group::of(now.unasked.iter().map(unasked)),
        Group::of(stopping),
        Group::of(refused),
    ]
}

fn again(until: Option<Instant>) -> String {
    until.map_or("one delivery tries it".to_owned(), |until| format!("tried again at {}", to_the_second(until)))
}

fn unasked(Unasked { customer, until, why }: &Unasked) -> Wrong {
    let again = again(*until);
    match why {
        None => Wrong::new(Kind::Sts, format!("STS does not answer (customer {customer}); {again}")),
        Some(why) => {
            let message = format!("STS gives no session for customer {customer}; {again}");
            Wrong { why: vec![why.clone()], ..Wrong::new(Kind::Sts, message) }
        }
    }
}

fn refused(at: Instant, refused: &Refused) -> Wrong {
    let remedy = match refused.blame {
        // Nor is it for `check` to say.
        Blame::Config if !refused.help.is_empty() && !refused.problems.is_empty() => refused.help.as_str(),
        Blame::Config => "`consign check` tells what is wrong",
        // Nothing is wrong with the files themselves.
        _ => "once that is over, `consign reload` takes them",
    };
    let errors = refused.problems.iter().filter(|problem| problem["severity"] == "error");
    let why = errors.take(PROBLEMS).filter_map(|problem| problem["message"].as_str()).map(str::to_owned).collect();
    let message = format!("its files were refused at {}: {}", to_the_second(at), refused.message);
    let help = vec![format!("the generation above runs on; {remedy}")];
    Wrong { why, help, ..Wrong::new(Kind::Configuration, message) }
}

fn of_ledger(kept: &Kept) -> Vec<Group> {
    let ahead = kept.ahead.iter().map(|ahead| {
        let until = ahead.fires.map_or("never again".to_owned(), |fires| format!("next at {}", to_the_second(fires)));
        let message = format!("share {} fires {until}: the clock was ahead", ahead.share);
        let help = vec!["`consign ledger rewind` has it fire from now on".to_owned()];
        Wrong { help, ..Wrong::new(Kind::Ahead, message) }
    });
    let paused = kept.paused.iter().map(|pause| {
        Wrong::new(Kind::Paused, format!("share {} is paused since {}", pause.share, to_the_second(pause.since)))
    });
    vec![
        Group { all: kept.ahead_count, ..Group::of(ahead) },
        Group::of(kept.quarantined.iter().map(halted)),
        Group::of(kept.unready.iter().map(unready)),
        Group::of(kept.exposed.iter().map(exposed)),
        Group::of(paused),
        Group { all: kept.failed_count, ..Group::of(kept.failed.iter().map(failed)) },
        Group::of(kept.standing.in_doubt.iter().map(in_doubt)),
    ]
}

fn failed(FailedShare { runs, last }: &FailedShare) -> Wrong {
    let FailedRun { run, share, customer, failed, failure, finished, .. } = last;
    let others = if *failed > 1 { format!(" and {} more", failed - 1) } else { String::new() };
    let message = format!("{} {share} failed for {customer}{others}", to_the_second(*finished));
    let mut help = vec![format!("consign show {run}")];
    if *runs > 1 {
        let runs = thousands(*runs);
        help.push(format!("in {runs} of its runs: consign history --share {share} --state failed"));
    }
    let why = failure.iter().map(ToString::to_string).collect();
    Wrong { why, help, ..Wrong::new(Kind::Failed, message) }
}

fn in_doubt(Open { share, customer, run, .. }: &Open) -> Wrong {
    let message = format!("{share} to {customer} is in doubt: its manifest may be in the bucket");
    Wrong { help: vec![format!("consign show {run}")], ..Wrong::new(Kind::InDoubt, message) }
}

/// Which, since when, why, what waits, what to do.
fn halted(Halted { quarantine, waiting, .. }: &Halted) -> Wrong {
    let Quarantine { plugin, digest, since, deliveries, failure, failed } = quarantine;
    let (waits, slots) =
        (several(waiting.deliveries), count(usize::try_from(waiting.slots).unwrap_or(usize::MAX), "slot"));
    let (several, last) = (several(*deliveries), to_the_second(*failed));
    let why = vec![
        digest.to_string(),
        format!("{several} in a row ended by its fault, the last at {last}:"),
        format!("  {}", failure.message),
    ];
    let help = vec![
        format!("nothing more of it is started: {waits} and {slots} wait"),
        format!("another component ends it, or `consign plugin release {plugin}`"),
    ];
    let message = format!("plugin {plugin} is in quarantine since {}", to_the_second(*since));
    Wrong { why, help, ..Wrong::new(Kind::Quarantine, message) }
}

/// Which, since when, why, what waits, when it is looked at again, what to do.
fn unready(NotReady { unready, waiting }: &NotReady) -> Wrong {
    let Unready { customer, since, failure, looks, next, .. } = unready;
    let (since, next) = (to_the_second(*since), to_the_second(*next));
    let wait = if *waiting == 1 { "waits" } else { "wait" };
    let message = format!("customer {customer} is not ready since {since}: {} {wait}", several(*waiting));
    let remedy = failure.remedy.lines().next().unwrap_or_default();
    let why = vec![failure.to_string(), remedy.trim_end_matches(':').to_owned()];
    let help =
        vec![format!("looked at {looks} times in vain, again at {next}"), format!("consign preflight {customer}")];
    Wrong { why, help, ..Wrong::new(Kind::Unready, message) }
}

/// Which, why, what to do. Nothing waits.
fn exposed(Exposed { customer, failure, .. }: &Exposed) -> Wrong {
    let message = format!("customer {customer}: critical: its role lets in whoever names it");
    let help = vec![format!("deliveries go on all the same; consign preflight {customer}")];
    Wrong { why: vec![failure.to_string()], help, ..Wrong::new(Kind::Exposed, message) }
}

/// `1 delivery`, `2 deliveries`.
fn several(deliveries: u64) -> String {
    match deliveries {
        1 => "1 delivery".to_owned(),
        some => format!("{} deliveries", thousands(some)),
    }
}
