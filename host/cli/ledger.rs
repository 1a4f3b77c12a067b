//! `consign ledger`: looking after the record of what was done.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;

use super::output::{self, CliError, Exit, bytes, line, thousands};
use super::{Global, setup};
use crate::clock::{Clock, ago, to_the_second};
use crate::ledger::{Checked, Ledger, Reader};

#[derive(Subcommand)]
pub enum LedgerCommand {
    /// Read the whole ledger and tell what is wrong with it.
    ///
    /// Also while the daemon runs. Nothing is repaired.
    Check,
    /// Copy the ledger to a new file, as it is at one instant.
    ///
    /// Also while the daemon runs. To restore it, stop consign and put the copy
    /// in the place of `ledger.db`, without a `ledger.db-wal` beside it. What was
    /// delivered after the copy is then not known: its slots count as missed.
    Backup {
        /// The new file.
        file: PathBuf,
    },
    /// Forget slots and runs that ended long ago, and give the room back.
    ///
    /// The daemon does this by itself each hour, as `ledger.retention` says. Not
    /// while it runs.
    Prune {
        /// Forget what ended longer ago than this; default: `ledger.retention`.
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        older_than: Option<Duration>,
        /// Only say how much it would be.
        #[arg(long)]
        dry_run: bool,
    },
}

pub async fn ledger(global: &Global, command: &LedgerCommand) -> Result<Exit, CliError> {
    let config = setup::config(global)?;
    match command {
        LedgerCommand::Check => {
            let checked = Reader::of(&config)?.check().await?;
            match global.json {
                true => output::json(&checked),
                false => print(&checked),
            }
            Ok(if checked.findings.is_empty() { Exit::Done } else { Exit::Ledger })
        }
        LedgerCommand::Backup { file } => {
            if config.ledger.database.is_some() {
                let message = "the ledger is in PostgreSQL, which copies its databases itself";
                let help = "run `pg_dump --schema` with the `schema` of [ledger] (`consign`, unless it says otherwise)";
                return Err(CliError::new(Exit::Usage, message, help));
            }
            tokio::task::block_in_place(|| Ledger::backup(&config.daemon.state_dir, file))?;
            match global.json {
                true => output::json(&json!({ "file": file })),
                false => line(&format!("copied to {}", file.display())),
            }
            Ok(Exit::Done)
        }
        LedgerCommand::Prune { older_than, dry_run } => {
            let clock = Clock::system();
            let before = ago(clock.now(), older_than.unwrap_or(config.ledger.retention));
            let (slots, freed) = if *dry_run {
                (Reader::of(&config)?.prunable(before).await?, None)
            } else {
                let ledger = setup::ledger(&config, &clock)?;
                let size = ledger.reader().bytes().await?;
                let slots = ledger.prune(before).await?;
                (slots as u64, Some(size.saturating_sub(ledger.reader().bytes().await?)))
            };
            let at = to_the_second(before);
            match (global.json, freed) {
                (true, _) => output::json(&json!({ "before": at, "slots": slots, "freed": freed })),
                (false, None) => line(&format!("{} slots ended before {at}", thousands(slots))),
                (false, Some(freed)) => {
                    line(&format!("forgot {} slots that ended before {at}; {} freed", thousands(slots), bytes(freed)));
                }
            }
            Ok(Exit::Done)
        }
    }
}

fn print(checked: &Checked) {
    let Checked { slots, runs, deliveries, bytes: size, findings } = checked;
    for finding in findings {
        line(&format!("wrong: {finding}"));
    }
    let what = if findings.is_empty() { "the ledger is whole" } else { "the ledger is damaged: restore a backup" };
    let counts = [(*slots, "slots"), (*runs, "runs"), (*deliveries, "deliveries")];
    let counts: Vec<_> = counts.map(|(count, of)| format!("{} {of}", thousands(count))).into();
    line(&format!("{what}; {}, {}", counts.join(", "), bytes(*size)));
}
