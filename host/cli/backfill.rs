//! `consign backfill`: past slots of a share, for whoever has not got them.

use chrono::TimeDelta;
use clap::Args;
use serde::Serialize;

use super::log::Priority;
use super::output::{self, CliError, Exit, count, line};
use super::{Global, next, send, setup};
use crate::calendar::When;
use crate::clock::{Clock, Instant, ago, exact, to_the_second};
use crate::config::{Config, Share};
use crate::domain::{CustomerName, ShareName, Slot};
use crate::ledger::{Filling, LedgerError, Reader};

/// Slots of one call, so that a slip of the pen does not plan a century.
const SLOTS_MAX: usize = 100_000;

/// Slots of one transaction, so that others get their turn.
const PIECE: usize = 1_000;

/// Slots that are listed for people.
const SHOWN: usize = 20;

#[derive(Args)]
pub struct BackfillArgs {
    /// The share.
    share: String,

    /// The first slot, or an instant or date before it: `2026-03-01T06:00:00Z`,
    /// `2026-03-01T06:00:00` or `2026-03-01` in the share's time zone.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    from: When,

    /// The last slot, or an instant after it, or a date, which is included whole.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    to: When,

    /// Only for this customer; may be given more than once.
    #[arg(long = "customer", value_name = "CUSTOMER")]
    customers: Vec<String>,

    /// Show what would be planned, and plan nothing.
    #[arg(long)]
    dry_run: bool,
}

fn when(text: &str) -> Result<When, String> {
    When::parse(text).map_err(|why| format!("'{text}' {why}"))
}

#[derive(Serialize)]
struct Report {
    share: ShareName,
    dry_run: bool,
    slots: Vec<Filling>,
}

pub async fn backfill(global: &Global, args: &BackfillArgs) -> Result<Exit, CliError> {
    let config = setup::config(global)?;
    let share = send::share(&config, &args.share)?;
    let customers = send::customers(&share, &args.customers)?;
    let clock = Clock::system();
    let slots = slots(&share, args, clock.now())?;
    forgotten(&config, &slots, clock.now());
    let filled = match args.dry_run {
        true => look(&config, slots, customers).await?,
        false => {
            let ledger = setup::idle_ledger(&config, &clock)?;
            let mut filled = Vec::with_capacity(slots.len());
            for piece in slots.chunks(PIECE) {
                filled.extend(ledger.backfill(piece.to_vec(), customers.clone()).await?);
            }
            filled
        }
    };
    let report = Report { share: share.name.clone(), dry_run: args.dry_run, slots: filled };
    if global.json {
        output::json(&report);
    } else {
        report.print();
    }
    Ok(Exit::Done)
}

/// The past slots of the range, in order.
fn slots(share: &Share, args: &BackfillArgs, now: Instant) -> Result<Vec<Slot>, CliError> {
    let refused = |what: String, help: &str| CliError::new(Exit::Failed, what, help);
    let (Some(from), Some(to)) = (args.from.first(share.timezone), args.to.last(share.timezone)) else {
        return Err(refused("the range is beyond what a calendar holds".into(), "write other dates"));
    };
    if to < from {
        let what = format!("the range ends at {}, before it begins at {}", exact(to), exact(from));
        return Err(refused(what, "exchange --from and --to"));
    }
    let slot = |at| Slot { share: share.name.clone(), at, interval: share.calendar.slot_at(at) };
    let past = next::slots(share, from).take_while(|at| *at <= to && *at <= now);
    let slots: Vec<Slot> = past.take(SLOTS_MAX + 1).map(slot).collect();
    if slots.len() > SLOTS_MAX {
        let last = exact(slots[SLOTS_MAX - 1].at);
        let what = format!("the range has more than {} slots", output::thousands(SLOTS_MAX as u64));
        return Err(refused(what, &format!("take it in pieces, the first one up to {last}")));
    }
    if slots.is_empty() {
        let what = format!("share {} has no past slot from {} to {}", share.name, exact(from), exact(to));
        let nearest = share.calendar.previous(now + TimeDelta::microseconds(1)).map(exact);
        let help = nearest.map_or(String::new(), |last| format!("its latest one was {last}"));
        return Err(refused(what, &help));
    }
    Ok(slots)
}

/// Who has got a slot that the ledger has forgotten only the bucket knows.
fn forgotten(config: &Config, slots: &[Slot], now: Instant) {
    let oldest = ago(now, config.ledger.retention);
    if slots.first().is_none_or(|slot| slot.at >= oldest) {
        return;
    }
    let text = format!(
        "warning: slots before {} are older than `ledger.retention`: who has got them may be forgotten, and is then \
         found only when the manifest is there already",
        to_the_second(oldest)
    );
    output::stderr(Priority::Warning, &text);
}

async fn look(config: &Config, slots: Vec<Slot>, customers: Vec<CustomerName>) -> Result<Vec<Filling>, CliError> {
    match Reader::of(config) {
        Ok(reader) => Ok(reader.standing(slots, customers).await?),
        Err(LedgerError::Missing { .. }) => {
            let nobody =
                |slot| Filling { slot, to_deliver: customers.clone(), committed: Vec::new(), under_way: Vec::new() };
            Ok(slots.into_iter().map(nobody).collect())
        }
        Err(error) => Err(error.into()),
    }
}

impl Report {
    fn print(&self) {
        let sum = |list: fn(&Filling) -> &Vec<CustomerName>| self.slots.iter().map(|slot| list(slot).len()).sum();
        let (open, done) = (sum(|slot| &slot.to_deliver), sum(|slot| &slot.committed));
        let word = if self.dry_run { "would be planned" } else { "planned" };
        let slots = count(self.slots.len(), "slot");
        line(&format!("{}: {slots}, {} {word}", self.share, deliveries(open)));
        if done > 0 {
            line(&format!("  {} committed before, and left alone", deliveries(done)));
        }
        let under_way = sum(|slot| &slot.under_way);
        if under_way > 0 {
            line(&format!("  {} under way already, or planned when the daemon starts", deliveries(under_way)));
        }
        let names = |names: &[CustomerName]| match names {
            [] => "–".to_owned(),
            names => names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
        };
        let open_slots = || self.slots.iter().filter(|slot| !slot.to_deliver.is_empty());
        let rows: Vec<_> =
            open_slots().take(SHOWN).map(|slot| vec![exact(slot.slot.at), names(&slot.to_deliver)]).collect();
        if rows.is_empty() {
            return;
        }
        line("");
        output::table(&["SLOT", "TO"], &rows);
        let more = open_slots().count() - rows.len();
        if more > 0 {
            line(&format!("… and {more} more"));
        }
        if !self.dry_run {
            line("");
            line("`consign run` delivers them one after another, behind what is on time");
        }
    }
}

fn deliveries(number: usize) -> String {
    match number {
        1 => "1 delivery".to_owned(),
        _ => format!("{} deliveries", output::thousands(number as u64)),
    }
}
