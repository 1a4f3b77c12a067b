//! `consign backfill`: past slots of a share, for whoever has not got them.

use clap::Args;
use serde::Serialize;

use super::client::Client;
use super::log::Priority;
use super::output::{self, CliError, Exit, count, line};
use super::{Global, setup};
use crate::calendar::When;
use crate::clock::{Clock, Instant, exact, to_the_second};
use crate::crash::{self, Point};
use crate::daemon::admin::ask::{Ask, Backfilled, Event};
use crate::domain::{CustomerName, ShareName, Slot};
use crate::ledger::{Filling, LedgerError, Reader};
use crate::run::wanted;

/// Slots that are listed for people.
const SHOWN: usize = 20;

#[derive(Args)]
pub struct BackfillArgs {
    /// The share.
    share: String,

    /// The first slot, or an instant or date before it: `2026-03-01T06:00:00Z`,
    /// `2026-03-01T06:00:00` or `2026-03-01` in the share's time zone.
    #[arg(long, value_name = "WHEN", value_parser = Written::parse)]
    from: Written,

    /// The last slot, or an instant after it, or a date, which is included whole.
    #[arg(long, value_name = "WHEN", value_parser = Written::parse)]
    to: Written,

    /// Only for this customer; may be given more than once.
    #[arg(long = "customer", value_name = "CUSTOMER")]
    customers: Vec<String>,

    /// Show what would be planned, and plan nothing.
    #[arg(long)]
    dry_run: bool,
}

/// An instant or a day, and how it was written.
#[derive(Clone)]
struct Written {
    text: String,
    when: When,
}

impl Written {
    fn parse(text: &str) -> Result<Self, String> {
        let when = When::parse(text).map_err(|why| format!("'{text}' {why}"))?;
        Ok(Self { text: text.to_owned(), when })
    }
}

#[derive(Serialize)]
struct Report {
    share: ShareName,
    dry_run: bool,
    slots: Vec<Filling>,
}

pub async fn backfill(global: &Global, args: &BackfillArgs) -> Result<Exit, CliError> {
    let client = if args.dry_run { None } else { Client::connect(global).await? };
    let report = match client {
        // The daemon's configuration counts, whatever the files say by now.
        Some(client) => ask(client, args).await?,
        None => by_itself(global, args).await?,
    };
    if global.json {
        output::json(&report);
    } else {
        report.print();
    }
    Ok(Exit::Done)
}

async fn by_itself(global: &Global, args: &BackfillArgs) -> Result<Report, CliError> {
    let config = setup::config(global)?;
    let share = wanted::share(&config, &args.share)?;
    let customers = wanted::customers(&share, &args.customers)?;
    let clock = Clock::system();
    let now = clock.now();
    let range = wanted::range(&share, (args.from.when, args.to.when), now)?;
    let slots = match args.dry_run {
        true => {
            let reader = setup::reader(&config)?;
            let slots = wanted::slots(reader.as_ref(), &share, range, now).await?;
            warn(wanted::forgotten_before(&config, &slots, now));
            look(reader.as_ref(), slots, customers).await?
        }
        false => {
            // Whoever asks for what is no slot makes no ledger.
            if matches!(setup::reader(&config), Ok(None)) {
                wanted::slots(None, &share, range, now).await?;
            }
            let ledger = setup::idle_ledger(&config, &clock)?;
            let slots = wanted::slots(Some(ledger.reader()), &share, range, now).await?;
            warn(wanted::forgotten_before(&config, &slots, now));
            let mut filled = Vec::with_capacity(slots.len());
            for piece in wanted::pieces(&slots, customers.len()) {
                filled.extend(ledger.backfill(piece, customers.clone()).await?);
                crash::point(Point::Backfilled);
            }
            filled
        }
    };
    Ok(Report { share: share.name.clone(), dry_run: args.dry_run, slots })
}

async fn ask(client: Client, args: &BackfillArgs) -> Result<Report, CliError> {
    let mut slots = Vec::new();
    let ask = Ask::Backfill {
        share: args.share.clone(),
        from: args.from.text.clone(),
        to: args.to.text.clone(),
        customers: args.customers.clone(),
    };
    let hear = |event| {
        if let Event::Planned(piece) = event {
            slots.extend(piece);
        }
    };
    let Backfilled { share, forgotten_before } = client.ask(ask, None, hear).await?;
    warn(forgotten_before);
    Ok(Report { share, dry_run: false, slots })
}

/// Who has got a slot that the ledger has forgotten only the bucket knows.
fn warn(forgotten_before: Option<Instant>) {
    let Some(oldest) = forgotten_before else { return };
    let text = format!(
        "warning: slots before {} are older than `ledger.retention`: who has got them may be forgotten, and such a \
         delivery is then refused by the first of its objects that is there; nothing is replaced",
        to_the_second(oldest)
    );
    output::stderr(Priority::Warning, &text);
}

async fn look(
    reader: Option<&Reader>,
    slots: Vec<Slot>,
    customers: Vec<CustomerName>,
) -> Result<Vec<Filling>, LedgerError> {
    match reader {
        Some(reader) => reader.standing(slots, customers).await,
        None => {
            let nobody =
                |slot| Filling { slot, to_deliver: customers.clone(), committed: Vec::new(), under_way: Vec::new() };
            Ok(slots.into_iter().map(nobody).collect())
        }
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
        let row = |slot: &Filling| vec![exact(slot.slot.at), exact(slot.slot.interval.start), names(&slot.to_deliver)];
        let rows: Vec<_> = open_slots().take(SHOWN).map(row).collect();
        if rows.is_empty() {
            return;
        }
        line("");
        output::table(&["SLOT", "DATA FROM", "TO"], &rows);
        let more = open_slots().count() - rows.len();
        if more > 0 {
            line(&format!("… and {more} more"));
        }
        if !self.dry_run {
            line("");
            line("the daemon delivers them one after another, behind what is on time");
        }
    }
}

fn deliveries(number: usize) -> String {
    match number {
        1 => "1 delivery".to_owned(),
        _ => format!("{} deliveries", output::thousands(number as u64)),
    }
}
