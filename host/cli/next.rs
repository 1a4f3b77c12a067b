//! `consign next`: the coming slots of a share.

use chrono::SecondsFormat;
use clap::Args;
use serde::Serialize;

use super::log::Priority;
use super::output::{self, CliError, Exit, line};
use super::{Global, setup};
use crate::calendar::Change;
use crate::clock::{Clock, Instant, ahead_from, exact};
use crate::config::{Config, Share};
use crate::domain::{Failure, Interval, ShareName, Slot};
use crate::ledger::{LedgerError, Reader};
use crate::run::wanted;

#[derive(Args)]
pub struct NextArgs {
    /// The share.
    share: String,

    /// At most this many.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    limit: usize,

    /// From this instant on, such as `2026-03-01T06:00:00Z`; default: now.
    #[arg(long, value_name = "INSTANT")]
    from: Option<Instant>,
}

#[derive(Serialize)]
struct Report<'a> {
    share: &'a ShareName,
    schedule: &'a str,
    timezone: &'a str,
    /// What the schedule starts is left out until the share is resumed.
    paused_since: Option<Instant>,
    /// The clock was ahead: nothing fires until then.
    planned_until: Option<Instant>,
    slots: Vec<Coming>,
}

#[derive(Serialize)]
struct Coming {
    slot: Instant,
    /// The slot as the share's zone shows it.
    local: String,
    interval: Interval,
    /// When it begins: later than the slot by the share's jitter.
    due: Instant,
    /// On the slot's local day.
    clock_change: Option<ClockChange>,
}

#[derive(Serialize)]
struct ClockChange {
    at: Instant,
    /// Forward; back when negative.
    seconds: i64,
}

pub async fn next(global: &Global, args: &NextArgs) -> Result<Exit, CliError> {
    let config = setup::config(global)?;
    let share = wanted::share(&config, &args.share)?;
    let now = Clock::system().now();
    let from = args.from.unwrap_or(now);
    let Known { reader, paused_since, planned_until } = match known(&config, &share.name, now).await {
        Ok(known) => known,
        // Who only looks at the calendar needs no ledger.
        Err(error) => {
            let text = format!("warning: whether the share is paused is not known: {}", Failure::chain(&error));
            output::stderr(Priority::Warning, &text);
            Known::default()
        }
    };
    let will_fire = |at: &Instant| *at <= now || planned_until.is_none_or(|until| until < *at);
    let from = match planned_until {
        // Nothing in between is worth a look.
        Some(until) if from >= now => from.max(until),
        _ => from,
    };
    let firings = wanted::firings(&share.calendar, from).filter(will_fire);
    let slot = |at| Slot { share: share.name.clone(), at, interval: share.calendar.slot_at(at) };
    let mut slots: Vec<Slot> = firings.take(args.limit).map(slot).collect();
    if let Some(reader) = &reader {
        slots = wanted::as_recorded(reader, slots).await?;
    }
    let report = Report {
        share: &share.name,
        schedule: &share.schedule,
        timezone: share.timezone.name(),
        paused_since,
        planned_until,
        slots: slots.into_iter().map(|slot| Coming::new(&share, slot)).collect(),
    };
    if global.json {
        output::json(&report);
    } else {
        report.print(&share);
    }
    Ok(Exit::Done)
}

/// What the ledger knows of the share, if there is one.
#[derive(Default)]
struct Known {
    reader: Option<Reader>,
    paused_since: Option<Instant>,
    /// If that is later than now.
    planned_until: Option<Instant>,
}

async fn known(config: &Config, share: &ShareName, now: Instant) -> Result<Known, LedgerError> {
    let reader = match Reader::of(config) {
        Ok(reader) => reader,
        // Nothing has run yet.
        Err(LedgerError::Missing { .. }) => return Ok(Known::default()),
        Err(error) => return Err(error),
    };
    let paused = reader.pauses().await?.into_iter().find(|pause| pause.share == *share);
    let ahead = reader.ahead(ahead_from(now)).await?.into_iter().find(|(ahead, _)| ahead == share);
    let (paused_since, planned_until) = (paused.map(|pause| pause.since), ahead.map(|(_, until)| until));
    Ok(Known { reader: Some(reader), paused_since, planned_until })
}

impl Coming {
    fn new(share: &Share, Slot { at, interval, .. }: Slot) -> Self {
        let change = |Change { at, by }| ClockChange { at, seconds: by.num_seconds() };
        Self {
            slot: at,
            local: at.with_timezone(&share.timezone).to_rfc3339_opts(SecondsFormat::Secs, false),
            interval,
            due: share.jitter.due(&share.calendar, at),
            clock_change: share.calendar.change_on_day_of(at).map(change),
        }
    }

    fn row(&self, share: &Share) -> Vec<String> {
        let local = self.slot.with_timezone(&share.timezone).format("%a %Y-%m-%d %H:%M:%S %Z");
        let change = self.clock_change.as_ref().map(|change| {
            let (way, seconds) =
                if change.seconds < 0 { ("back", -change.seconds) } else { ("forward", change.seconds) };
            let by = std::time::Duration::from_secs(seconds.unsigned_abs());
            format!("clocks go {way} {} at {}", humantime::format_duration(by), exact(change.at))
        });
        let change = change.unwrap_or_default();
        vec![exact(self.slot), local.to_string(), exact(self.interval.start), exact(self.due), change]
    }
}

impl Report<'_> {
    fn print(&self, share: &Share) {
        if let Some(since) = self.paused_since {
            line(&format!(
                "paused since {}: its slots are left out until `consign resume {}`",
                exact(since),
                self.share
            ));
        }
        if let Some(until) = self.planned_until {
            let until = exact(until);
            line(&format!("the clock was ahead: nothing fires until {until}, or `consign ledger rewind`"));
        }
        if self.slots.is_empty() {
            line(&format!("share {} has no slot to come", self.share));
            return;
        }
        let rows: Vec<_> = self.slots.iter().map(|slot| slot.row(share)).collect();
        output::table(&["SLOT", "LOCAL", "DATA FROM", "BEGINS", ""], &rows);
    }
}
