//! The keys of a share that say when, its schedule aside.

use super::model::{CatchUp, Missed, Overlap};
use super::report::Problems;
use super::section::Section;
use super::shape::in_two;
use super::tree::Value;
use crate::calendar::{Calendar, Jitter, When};
use crate::clock::{Instant, exact};
use crate::domain::ShareName;

/// The calendar from `start` to `end`.
pub(super) fn between(section: &Section<'_>, calendar: Calendar, problems: &mut Problems) -> Calendar {
    let zone = calendar.zone();
    let start = when(section, "start", problems).and_then(|when| when.first(zone));
    let end = when(section, "end", problems).and_then(|when| when.last(zone));
    let between = calendar.between(start, end);
    if let (Some(start), Some(end)) = (start, end) {
        if end < start {
            let message = format!("`end` is before `start`, which is {}", exact(start));
            problems.error(section.span("end"), message, "write an end after the start, or remove it");
        } else if between.next(Instant::MIN_UTC).is_none() {
            let message = "the schedule has no slot from `start` to `end`";
            let help = "correct one of the three; `consign next` lists slots to come";
            problems.error(section.span("end"), message, help);
        }
    }
    between
}

fn when(section: &Section<'_>, key: &str, problems: &mut Problems) -> Option<When> {
    let Value::Time(time) = &section.node(key)?.value else { return None };
    time.date?;
    match When::parse(&time.to_string()) {
        Ok(when) => Some(when),
        Err(why) => {
            let (why, help) = in_two(&why);
            problems.error(section.span(key), format!("`{key}` {why}"), help);
            None
        }
    }
}

/// What contradicts itself.
pub(super) fn check(section: &Section<'_>, problems: &mut Problems) {
    if section.text("catch_up") == Some("none") {
        let why = "is of no use, because nothing is made up for";
        section.refuse(&["catch_up_window"], why, "remove it, or write `catch_up = \"latest\"`", problems);
    }
    if let (Some(jitter), Some(deadline)) = (section.duration("jitter"), section.duration("deadline"))
        && deadline <= jitter
    {
        let message = "`deadline` is not longer than `jitter`, so it could pass before the work begins";
        problems.error(section.span("deadline"), message, "write a longer deadline, or a shorter jitter");
    }
}

pub(super) fn jitter(section: &Section<'_>, share: &ShareName) -> Jitter {
    Jitter::new(share, section.duration("jitter").unwrap_or_default())
}

pub(super) fn catch_up(section: &Section<'_>) -> CatchUp {
    let usual = CatchUp::default();
    CatchUp {
        missed: match section.text("catch_up") {
            Some("all") => Missed::All,
            Some("none") => Missed::None,
            _ => usual.missed,
        },
        window: section.duration("catch_up_window").unwrap_or(usual.window),
    }
}

pub(super) fn overlap(section: &Section<'_>) -> Overlap {
    let written = section.text("overlap");
    Overlap::ALL.into_iter().find(|overlap| written == Some(overlap.as_str())).unwrap_or_default()
}
