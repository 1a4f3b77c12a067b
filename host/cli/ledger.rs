//! `consign ledger`: looking after the record of what was done.

mod restore;

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;

use super::client::Client;
use super::output::{self, CliError, Exit, bytes, line, thousands};
use super::{Global, setup};
use crate::clock::{Clock, ago, to_the_second};
use crate::config::Config;
use crate::daemon::admin::ask::Ask;
use crate::ledger::{Checked, Ledger, LedgerError, Origins, Reader, Rewound};

#[derive(Subcommand)]
pub enum LedgerCommand {
    /// Read the whole ledger and tell what is wrong with it.
    ///
    /// Also while the daemon runs. Nothing is repaired. A damaged file needs a
    /// backup; what can never be and is, is a fault in consign, and deliveries go on.
    Check,
    /// Copy the ledger to a new file, as it is at one instant.
    ///
    /// Also while the daemon runs. `consign ledger restore` puts it back; nothing
    /// is delivered by a copy that is put there in another way.
    Backup {
        /// The new file.
        file: PathBuf,
    },
    /// Put a backup in the place of the ledger, and say so in it.
    ///
    /// With consign stopped. The ledger that is there is kept beside it. What was
    /// delivered since the backup was made is not known: what it had open is ended,
    /// what was due since is left out, and each share goes on from now. Nothing of
    /// that is delivered by itself; what a person has to look after is told.
    Restore {
        /// What `consign ledger backup` made.
        file: PathBuf,
    },
    /// Say in a ledger that it was restored in another way.
    ///
    /// Such as a ledger in PostgreSQL from a dump, or one that came back with the
    /// disk or machine that it is on. With every consign on it stopped. Then as
    /// with `restore`.
    Restored,
    /// Forget slots and runs that ended long ago, and give the room back.
    ///
    /// The daemon does this by itself each hour, as `ledger.retention` says. Not
    /// while it runs, unless the ledger is in PostgreSQL.
    Prune {
        /// Forget what ended longer ago than this; default: `ledger.retention`.
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        older_than: Option<Duration>,
        /// Only say how much it would be.
        #[arg(long)]
        dry_run: bool,
    },
    /// Have shares fire again that were planned ahead of the clock.
    ///
    /// A clock that jumps far ahead counts as downtime, and what is due until then is
    /// planned. Put right, it leaves shares that do not fire until it is there again:
    /// `consign status` names them. This takes them back to now, and forgets what was
    /// planned later than now and has not begun. What has begun is not begun again.
    Rewind,
}

pub async fn ledger(global: &Global, command: &LedgerCommand) -> Result<Exit, CliError> {
    let config = || setup::config(global);
    match command {
        LedgerCommand::Check => {
            let checked = Reader::of(&config()?)?.check().await?;
            match global.json {
                true => output::json(&checked),
                false => print(&checked),
            }
            Ok(if checked.is_sound() { Exit::Done } else { Exit::Ledger })
        }
        LedgerCommand::Backup { file } => {
            let config = config()?;
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
        LedgerCommand::Restore { file } => restore::restore(global, file).await,
        LedgerCommand::Restored => restore::restored(global).await,
        LedgerCommand::Rewind => rewind(global).await,
        LedgerCommand::Prune { older_than, dry_run } => {
            let (config, clock) = (config()?, Clock::system());
            let before = ago(clock.now(), older_than.unwrap_or(config.ledger.retention));
            let (slots, freed) = if *dry_run {
                (Reader::of(&config)?.prunable(before).await?, None)
            } else {
                let ledger = to_prune(&config, &clock)?;
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

/// The daemon prunes by itself, so that nobody should stop it for that.
fn to_prune(config: &Config, clock: &Clock) -> Result<Ledger, CliError> {
    Ledger::of(config, clock.clone()).map_err(|error| match error {
        LedgerError::Held { dir, holder } => {
            let message = format!("the ledger in {} is held by {holder}", dir.display());
            let help =
                "a daemon prunes by itself each hour: `ledger.retention` says what, and `consign reload` tells it";
            CliError::new(Exit::Ledger, message, help)
        }
        error => error.into(),
    })
}

async fn rewind(global: &Global) -> Result<Exit, CliError> {
    let rewound: Rewound = match Client::connect(global).await? {
        // Whatever the configuration says by now.
        Some(client) => client.ask(Ask::Rewind, None, drop).await?,
        None => setup::idle_ledger(&setup::config(global)?, &Clock::system())?.rewind().await?,
    };
    if global.json {
        output::json(&rewound);
        return Ok(Exit::Done);
    }
    let Rewound { to, shares, from, forgotten, kept } = rewound;
    let Some(from) = from else {
        line("no share is planned ahead of the clock");
        return Ok(Exit::Done);
    };
    let (to, from) = (to_the_second(to), to_the_second(from));
    line(&format!("shares that fire again from {to} on: {}; they were planned until {from}", thousands(shares)));
    line(&format!(
        "  slots later than that: {} forgotten, {} had begun and stay",
        thousands(forgotten),
        thousands(kept)
    ));
    line("  `consign backfill` makes up for what was left out before");
    line("  with the ledger in PostgreSQL: `consign reload` has the others on it see that");
    Ok(Exit::Done)
}

/// `, made 2026-03-01T06:00:00Z`, as far as it is known.
pub(super) fn since(origins: Origins) -> String {
    let Origins { made, restored } = origins;
    let told = [("made", made), ("restored", restored)];
    told.into_iter().filter_map(|(what, at)| Some(format!(", {what} {}", to_the_second(at?)))).collect()
}

fn print(checked: &Checked) {
    let Checked { slots, runs, deliveries, bytes: size, origins, damage, findings } = checked;
    damage.iter().for_each(|found| line(&format!("damaged: {found}")));
    findings.iter().for_each(|found| line(&format!("wrong: {found}")));
    let what = match (damage.is_empty(), findings.is_empty()) {
        (false, _) => "the ledger is damaged",
        (true, false) => "the ledger's file is whole, and it says what can never be",
        (true, true) => "the ledger is whole",
    };
    let counts = [(*slots, "slots"), (*runs, "runs"), (*deliveries, "deliveries")];
    let counts: Vec<_> = counts.map(|(count, of)| format!("{} {of}", thousands(count))).into();
    line(&format!("{what}; {}, {}{}", counts.join(", "), bytes(*size), since(*origins)));
    if !damage.is_empty() {
        line("  stop consign, see to the disk, and put a backup in its place: `consign ledger restore FILE`");
    }
    if damage.is_empty() && !findings.is_empty() {
        line("  a fault in consign, and none of the disk: no backup mends it. Deliveries go on; what is named here");
        line("  may stay as it is. Please report it, with these lines and the log of that time");
    }
}
