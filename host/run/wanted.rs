//! What somebody asks for by its name, looked up: shares, customers, slots, runs.

pub mod tiles;

use std::sync::Arc;

use chrono::TimeDelta;

use crate::calendar::{Calendar, When};
use crate::clock::{Instant, ago, exact, to_the_second};
use crate::config::{Config, Share};
use crate::domain::{CustomerName, Mode, Refused, RunId, Slot};
use crate::ledger::{LedgerError, OnRecord, Reader, RunDetail};
use tiles::Tiles;

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

/// What the ledger knows of the slot at `at`, or of the latest one.
pub async fn known(reader: &Reader, share: &Share, at: Option<Instant>, now: Instant) -> Result<OnRecord, LedgerError> {
    let at = at.unwrap_or_else(|| share.calendar.within(Instant::MIN_UTC, now).map_or(now, |(_, last)| last));
    reader.on_record(share.name.clone(), (at, at), SLOTS_MAX).await
}

/// The slot at `at`, or the latest one, as the ledger has it or will have it. With `early` it may be yet to come.
pub fn slot(share: &Share, at: Option<Instant>, early: bool, now: Instant, known: &OnRecord) -> Result<Slot, Refused> {
    let Some(at) = at else {
        let never = || Refused::request(format!("share {} has never fired", share.name), "give --at INSTANT");
        return latest(share, now, known).ok_or_else(never);
    };
    let new = || {
        // What is of another schedule than the slots on record around it is somebody's wish, and a whole one.
        let is_firing = previous(share, at) == Some(at);
        let firing = || Slot { share: share.name.clone(), at, interval: share.calendar.slot_at(at) };
        tiles(share, known).between(at, at).next().or_else(|| is_firing.then(firing))
    };
    let slot = known.at(at).cloned().or_else(new).ok_or_else(|| no_slot(share, at, known))?;
    if at > now && !early {
        let what = format!("the slot {} of share {} is yet to come", exact(at), share.name);
        let help = match previous(share, now) {
            Some(last) => format!("its data are complete at that time only; the latest firing was {}", exact(last)),
            None => "its data are complete at that time only".to_owned(),
        };
        return Err(Refused::request(what, help));
    }
    Ok(slot)
}

/// The last firing, or a later slot that another schedule had. None for a share that is yet to fire.
fn latest(share: &Share, now: Instant, known: &OnRecord) -> Option<Slot> {
    let firing = previous(share, now)?;
    let (from, to) = share.calendar.within(Instant::MIN_UTC, now)?;
    let last = known.slots.iter().rfind(|slot| from <= slot.at && slot.at <= to);
    match last {
        Some(last) if firing <= last.at => Some(last.clone()),
        // One that is planned ahead of the clock may cover it.
        _ => tiles(share, known).between(firing, firing).next().or_else(|| last.cloned()),
    }
}

/// The last firing, also one of this very moment.
fn previous(share: &Share, at: Instant) -> Option<Instant> {
    share.calendar.previous(at.checked_add_signed(TimeDelta::microseconds(1))?)
}

fn no_slot(share: &Share, at: Instant, known: &OnRecord) -> Refused {
    let on_record = || known.slots.iter().map(|slot| slot.at);
    let is_covered = |Slot { interval, .. }: &Slot, at| interval.start < at && at < interval.end;
    let is_free = |at: &Instant| !known.slots.iter().any(|slot| is_covered(slot, *at));
    let firing = [previous(share, at), share.calendar.next(at)].map(|firing| firing.filter(is_free));
    let before = firing[0].into_iter().chain(on_record().filter(|other| *other < at)).max();
    let after = firing[1].into_iter().chain(on_record().filter(|other| at < *other)).min();
    let around = before.into_iter().chain(after).map(exact).collect::<Vec<_>>();
    let what = format!("share {} does not fire at {}", share.name, exact(at));
    let help = format!(
        "a slot is one firing of the share's schedule, or of an earlier one that is on record; the nearest: {}",
        around.join(" and ")
    );
    Refused::request(what, help)
}

fn tiles<'a>(share: &'a Share, record: &'a OnRecord) -> Tiles<'a> {
    Tiles { share: &share.name, calendar: &share.calendar, record }
}

/// The same slots with the intervals that they have on record, or will have.
pub async fn as_recorded(reader: &Reader, mut slots: Vec<Slot>) -> Result<Vec<Slot>, LedgerError> {
    let Some(share) = slots.first().map(|slot| slot.share.clone()) else { return Ok(slots) };
    // The first one after a change of the schedule begins where the schedule before has got to.
    let last = reader.last_planned(share).await?;
    slots.iter_mut().for_each(|slot| slot.interval = slot.interval.after(last));
    let standing = reader.standing(slots, Vec::new()).await?;
    Ok(standing.into_iter().map(|standing| standing.slot).collect())
}

/// The stretch of time whose slots are to be filled in.
pub fn range(share: &Share, (from, to): (When, When), now: Instant) -> Result<(Instant, Instant), Refused> {
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
    if from > now {
        return Err(no_past_slot(share, (from, to), now));
    }
    Ok((from, to))
}

/// The past slots of a [`range`], in order: those on record, and the firings where nothing is. There is at least one.
pub async fn slots(
    reader: Option<&Reader>,
    share: &Share,
    (from, to): (Instant, Instant),
    now: Instant,
) -> Result<Vec<Slot>, Refused> {
    let past = (from, to.min(now));
    let record = match reader {
        Some(reader) => reader.on_record(share.name.clone(), past, SLOTS_MAX + 1).await?,
        None => OnRecord::default(),
    };
    let slots: Vec<Slot> = tiles(share, &record).between(past.0, past.1).take(SLOTS_MAX + 1).collect();
    if slots.len() > SLOTS_MAX {
        let last = exact(slots[SLOTS_MAX - 1].at);
        let what = format!("the range has more than {SLOTS_MAX} slots");
        return Err(Refused::request(what, format!("take it in pieces, the first one up to {last}")));
    }
    if slots.is_empty() {
        return Err(no_past_slot(share, (from, to), now));
    }
    Ok(slots)
}

fn no_past_slot(share: &Share, (from, to): (Instant, Instant), now: Instant) -> Refused {
    let what = format!("share {} has no past slot from {} to {}", share.name, to_the_second(from), to_the_second(to));
    let help = previous(share, now).map_or(String::new(), |last| format!("its latest one was {}", exact(last)));
    Refused::request(what, help)
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
