//! Has what failed together not come back together.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// `whole` with a part of it taken off, less than the `most`th of it: as much for the same
/// `of` each time, and evenly over all that there are.
pub(crate) fn spread(whole: Duration, most: f64, of: impl Hash) -> Duration {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    // As many bits as are exact in a float, and more than enough.
    let part = (hasher.finish() >> 40) as f64 / f64::from(1 << 24);
    whole.mul_f64(1.0 - most * part)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn up_to_so_much_is_taken_off_and_evenly() {
        let whole = Duration::from_secs(40);
        let all: BTreeSet<Duration> = (0..1000).map(|of| spread(whole, 0.25, ("name", of))).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|one| (Duration::from_secs(30)..=whole).contains(one)), "{all:?}");
        let less = all.iter().filter(|one| **one < Duration::from_secs(35)).count();
        assert!((450..550).contains(&less), "{less} of 1000 have more than half of it taken off");
        assert_eq!(spread(whole, 0.25, "one"), spread(whole, 0.25, "one"));
    }
}
