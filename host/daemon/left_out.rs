//! Slots that nobody gets, or not everybody, as the log tells them: a line for
//! each share and reason, because after a long downtime there are many.

use std::collections::HashMap;

use crate::clock::{Instant, exact};
use crate::domain::{ShareName, SkipReason, Slot};

struct Range {
    slots: u64,
    first: Instant,
    last: Instant,
}

/// Logs them; returns how many they are.
pub(super) fn tell(slots: &[(Slot, SkipReason)]) -> u64 {
    let mut ranges: HashMap<(&ShareName, SkipReason), Range> = HashMap::new();
    for (slot, reason) in slots {
        let new = Range { slots: 0, first: slot.at, last: slot.at };
        let range = ranges.entry((&slot.share, *reason)).or_insert(new);
        range.slots += 1;
        range.first = range.first.min(slot.at);
        range.last = range.last.max(slot.at);
    }
    let mut ranges: Vec<_> = ranges.into_iter().collect();
    ranges.sort_unstable_by_key(|((share, _), range)| (*share, range.first));
    for ((share, reason), Range { slots, first, last }) in ranges {
        let (first, last, reason) = (exact(first), exact(last), reason.as_str());
        match slots {
            1 => tracing::warn!(%share, slot = first, reason, "slot skipped"),
            _ => tracing::warn!(%share, slots, first, last, reason, "slots skipped"),
        }
    }
    u64::try_from(slots.len()).unwrap_or(u64::MAX)
}
