//! What somebody asks for by its name, looked up: shares, customers, slots, runs.

use std::sync::Arc;

use chrono::TimeDelta;

use crate::calendar::{Calendar, When};
use crate::clock::{Clock, Instant, ago, exact, to_the_second};
use crate::config::{Config, Share};
use crate::domain::{CustomerName, Mode, Refused, RunId, Slot};
use crate::ledger::{LedgerError, Reader, RunDetail};

/// Slots of one call, so that a slip of the pen does not plan a century.
const SLOTS_MAX: usize = 100_000;

/// Slots that are planned in one transaction, so that others get their turn, and customers of all of them.
const PIECE: usize = 1_000;
const PIECE_CUSTOMERS: usize = 250_000;

pub fn share(config: &Config, name: &str) -> Result<Arc<Share>, Refused> {
    config.shares.get(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = config.shares.keys().map(|name| name.as_str()).collect();
        Refused::request(format!("there is no share '{name}'"), format!("shares are: {}", names.join(", ")))
    })
}

/// All of the share's when none is named.
pub fn customers(share: &Share, wanted: &[String]) -> Result<Vec<CustomerName>, Refused> {
    some_of(&share.to, wanted, |stranger| format!("share {} does not go to '{stranger}'", share.name))
}

/// All of the run's when none is named.
pub fn customers_of(run: &RunDetail, wanted: &[String]) -> Result<Vec<CustomerName>, Refused> {
    let all: Vec<CustomerName> = run.deliveries.iter().map(|delivery| delivery.customer.clone()).collect();
    some_of(&all, wanted, |stranger| format!("run {} has no delivery to '{stranger}'", run.run.run))
}

/// Those of `all`, which are in order, that are named, or all of them.
fn some_of(
    all: &[CustomerName],
    named: &[String],
    unknown: impl Fn(&str) -> String,
) -> Result<Vec<CustomerName>, Refused> {
    let names = || all.iter().map(CustomerName::as_str);
    if let Some(stranger) = named.iter().find(|name| !names().any(|known| known == *name)) {
        let help = format!("it goes to: {}", names().collect::<Vec<_>>().join(", "));
        return Err(Refused::request(unknown(stranger), help));
    }
    let is_named = |customer: &&CustomerName| named.is_empty() || named.iter().any(|name| name == customer.as_str());
    Ok(all.iter().filter(is_named).cloned().collect())
}

/// The slot of the firing at `at`, or of the latest one. With `early` it may be yet to come.
pub fn slot(share: &Share, at: Option<Instant>, early: bool, clock: &Clock) -> Result<Slot, Refused> {
    let (calendar, now) = (&share.calendar, clock.now());
    let never = || Refused::request(format!("share {} has never fired", share.name), "give --at INSTANT");
    // `previous` is strictly before, and a firing of this very second counts.
    let latest = |at: Instant| calendar.previous(at.checked_add_signed(TimeDelta::microseconds(1))?);
    let at = match at {
        None => latest(now).ok_or_else(never)?,
        Some(at) if latest(at) == Some(at) => at,
        Some(at) => {
            let around = [latest(at), calendar.next(at)].into_iter().flatten().map(exact).collect::<Vec<_>>();
            let what = format!("share {} does not fire at {}", share.name, exact(at));
            let help = format!("a slot is one firing of the share's schedule; the nearest: {}", around.join(" and "));
            return Err(Refused::request(what, help));
        }
    };
    if at > now && !early {
        let what = format!("the slot {} of share {} is yet to come", exact(at), share.name);
        let help = match latest(now) {
            Some(last) => format!("its data are complete at that time only; the latest firing was {}", exact(last)),
            None => "its data are complete at that time only".to_owned(),
        };
        return Err(Refused::request(what, help));
    }
    Ok(Slot { share: share.name.clone(), at, interval: calendar.slot_at(at) })
}

/// With the interval that it has or will have: the one on record, if the ledger knows the slot.
pub async fn as_recorded(reader: &Reader, slot: Slot) -> Result<Slot, LedgerError> {
    let recorded = all_as_recorded(reader, vec![slot.clone()]).await?;
    Ok(recorded.into_iter().next().unwrap_or(slot))
}

/// The same of several slots of one share.
pub async fn all_as_recorded(reader: &Reader, slots: Vec<Slot>) -> Result<Vec<Slot>, LedgerError> {
    let standing = reader.standing(as_planned(reader, slots).await?, Vec::new()).await?;
    Ok(standing.into_iter().map(|standing| standing.slot).collect())
}

/// With the intervals that slots of one share will have if the ledger does not know them: the first one after
/// a change of the schedule begins where the schedule before has got to.
pub async fn as_planned(reader: &Reader, mut slots: Vec<Slot>) -> Result<Vec<Slot>, LedgerError> {
    let Some(share) = slots.first().map(|slot| slot.share.clone()) else { return Ok(slots) };
    let last = reader.last_planned(share).await?;
    slots.iter_mut().for_each(|slot| slot.interval = slot.interval.after(last));
    Ok(slots)
}

/// The past slots of a range, in order. There is at least one.
pub fn slots(share: &Share, (from, to): (When, When), now: Instant) -> Result<Vec<Slot>, Refused> {
    if share.mode == Mode::Replace {
        let what =
            format!("share {} has mode = \"replace\": a past slot would take the place of a later one", share.name);
        return Err(Refused::request(what, format!("`consign send {}` delivers the latest slot", share.name)));
    }
    let (Some(from), Some(to)) = (from.first(share.timezone), to.last(share.timezone)) else {
        return Err(Refused::request("the range is beyond what a calendar holds", "write other dates"));
    };
    if to < from {
        let what = format!("the range ends at {}, before it begins at {}", to_the_second(to), to_the_second(from));
        return Err(Refused::request(what, "exchange --from and --to"));
    }
    let slot = |at| Slot { share: share.name.clone(), at, interval: share.calendar.slot_at(at) };
    let past = firings(&share.calendar, from).take_while(|at| *at <= to && *at <= now);
    let slots: Vec<Slot> = past.take(SLOTS_MAX + 1).map(slot).collect();
    if slots.len() > SLOTS_MAX {
        let last = exact(slots[SLOTS_MAX - 1].at);
        let what = format!("the range has more than {SLOTS_MAX} slots");
        return Err(Refused::request(what, format!("take it in pieces, the first one up to {last}")));
    }
    if slots.is_empty() {
        let (from, to) = (to_the_second(from), to_the_second(to));
        let what = format!("share {} has no past slot from {from} to {to}", share.name);
        let nearest = share.calendar.previous(now + TimeDelta::microseconds(1)).map(exact);
        let help = nearest.map_or(String::new(), |last| format!("its latest one was {last}"));
        return Err(Refused::request(what, help));
    }
    Ok(slots)
}

/// Who has got slots earlier than that, as some are, the ledger may have forgotten.
pub fn forgotten_before(config: &Config, slots: &[Slot], now: Instant) -> Option<Instant> {
    let oldest = ago(now, config.ledger.retention);
    slots.first().is_some_and(|slot| slot.at < oldest).then_some(oldest)
}

/// Slots to be planned, a piece for each transaction.
pub fn pieces(slots: &[Slot], customers: usize) -> impl Iterator<Item = Vec<Slot>> {
    slots.chunks((PIECE_CUSTOMERS / customers.max(1)).clamp(1, PIECE)).map(<[Slot]>::to_vec)
}

/// The firings at `from` and after it.
pub fn firings(calendar: &Calendar, from: Instant) -> impl Iterator<Item = Instant> + use<'_> {
    let first = from.checked_sub_signed(TimeDelta::nanoseconds(1)).and_then(|before| calendar.next(before));
    std::iter::successors(first, |at| calendar.next(*at))
}

/// The run with this id, or the one whose id begins so.
pub async fn run(reader: &Reader, text: &str) -> Result<RunId, Refused> {
    if let Ok(run) = RunId::parse(text) {
        return Ok(run);
    }
    match reader.runs_beginning(text, 2).await?[..] {
        [run] => Ok(run),
        [_, ..] => Err(Refused::request(format!("several runs begin with '{text}'"), "give more of the id")),
        [] => Err(Refused::request(format!("there is no run '{text}'"), "`consign history` lists them")),
    }
}
