//! `consign ledger restore` and `restored`: a backup in the place of the ledger, and what is not known by it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::output::{self, CliError, Exit, count, line, thousands};
use super::super::{Global, setup};
use crate::clock::{Clock, Instant, exact, to_the_second};
use crate::config::Config;
use crate::daemon::restored::{self, Restored, Share};
use crate::domain::{Failure, Mode};
use crate::ledger::{Ledger, LedgerError, Unknown};

/// What was done, for machines.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    restored: Restored,
    /// Where the ledger is that was there before, if one was put in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<PathBuf>,
}

pub async fn restore(global: &Global, file: &Path) -> Result<Exit, CliError> {
    let (config, clock) = (setup::config(global)?, Clock::system());
    if config.ledger.database.is_some() {
        let message = "the ledger is in PostgreSQL, which restores its databases itself";
        let help = "stop every consign on it, drop the schema, restore the dump with `psql` or `pg_restore`, then run \
                    `consign ledger restored`";
        return Err(CliError::new(Exit::Usage, message, help));
    }
    let dir = &config.daemon.state_dir;
    let (ledger, kept) = tokio::task::block_in_place(|| Ledger::restore(dir, file, clock.clone())).map_err(refused)?;
    tell(global, &config, &ledger, clock.now(), kept).await
}

pub async fn restored(global: &Global) -> Result<Exit, CliError> {
    let (config, clock) = (setup::config(global)?, Clock::system());
    let ledger = tokio::task::block_in_place(|| Ledger::of_restored(&config, clock.clone())).map_err(refused)?;
    tell(global, &config, &ledger, clock.now(), None).await
}

async fn tell(
    global: &Global,
    config: &Config,
    ledger: &Ledger,
    now: Instant,
    kept: Option<PathBuf>,
) -> Result<Exit, CliError> {
    let restored = restored::restored(ledger, config, now).await.map_err(|error| not_told(error, kept.as_deref()))?;
    match global.json {
        true => output::json(&Report { restored, kept }),
        false => print(config, &restored, kept.as_deref()),
    }
    Ok(Exit::Done)
}

/// What somebody goes on with is not restored under his feet.
fn refused(error: LedgerError) -> CliError {
    match error {
        // Otherwise a full disk is a reason not to put the backup in its place.
        LedgerError::Full { .. } => not_told(error, None),
        LedgerError::Held { dir, holder } => {
            let message = format!("the ledger in {} is held by {holder}", dir.display());
            let help = "stop every consign on this ledger first (`systemctl stop consign`), and repeat this. One in \
                        PostgreSQL that was killed is waited for until its lease has run out";
            CliError::new(Exit::Ledger, message, help)
        }
        error => error.into(),
    }
}

/// The backup is in its place by then, and does not go on by itself.
fn not_told(error: LedgerError, kept: Option<&Path>) -> CliError {
    if let LedgerError::Held { .. } = error {
        return refused(error);
    }
    let why = error.passes().map_or_else(|| Failure::chain(&error), str::to_owned);
    let kept = kept.map(|kept| format!("; the ledger that was there is kept as {}", kept.display()));
    let message = format!("the ledger was restored, and cannot be told so yet: {why}");
    let help = format!(
        "see to that, and run `consign ledger restored`: until then nothing is delivered by it{}",
        kept.unwrap_or_default()
    );
    CliError::new(Exit::Ledger, message, help)
}

fn print(config: &Config, restored: &Restored, kept: Option<&Path>) {
    let is_known = |share: &&Share| share.unknown == Unknown::default() && share.known_until.is_some();
    let (known, unknown): (Vec<_>, Vec<_>) = restored.shares.iter().partition(is_known);
    line(&format!(
        "what was delivered since the backup is not known; shares go on from {}",
        to_the_second(restored.at)
    ));
    unknown.iter().for_each(|share| print_share(config, share));
    if !known.is_empty() {
        line(&format!("  {} more had nothing open, and nothing due since", count(known.len(), "share")));
    }
    for share in restored.shares.iter().filter(|share| share.paused) {
        line(&format!("  share {} is paused, as it was in the backup", share.share));
    }
    if let Some(kept) = kept {
        line(&format!("the ledger that was there: {}", kept.display()));
    }
    if unknown.is_empty() {
        return;
    }
    line("nothing of it is delivered by itself: `consign history --skipped` lists it");
    line("  have the customers say which of these slots they lack: the slot's manifest is not there. Only these:");
    line(
        "  `consign backfill SHARE --from INSTANT --to INSTANT --customer NAME`. Another one is refused by what is there.",
    );
    line("  Pauses since the backup are gone too: `consign pause` again");
}

fn print_share(config: &Config, share: &Share) {
    let Share { share: name, known_until, unknown: Unknown { deliveries, slots, first, last }, .. } = share;
    let until = known_until.map_or("not in the backup".to_owned(), |at| format!("known until {}", to_the_second(at)));
    let mut parts = vec![until];
    if *deliveries > 0 {
        parts.push(format!("open deliveries ended: {}", thousands(*deliveries)));
    }
    if let (Some(first), Some(last)) = (first, last) {
        let range = if first == last { exact(*first) } else { format!("{} to {}", exact(*first), exact(*last)) };
        parts.push(format!("slots left out: {}, {range}", thousands(*slots)));
    }
    line(&format!("  share {name}: {}", parts.join("; ")));
    match config.shares.get(name).map(|share| share.mode) {
        Some(Mode::Replace) => line("    mode = \"replace\": nothing is to be done, the next slot takes its place"),
        None => line("    it is not in the configuration: its slots since are not on record"),
        Some(Mode::Slot) => {}
    }
}
