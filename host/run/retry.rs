//! When a delivery that failed is tried again.

use std::time::Duration;

use crate::clock::Instant;
use crate::config::RetryPolicy;
use crate::domain::{Failure, Leaves, Origin, Retry, spread};

/// Who tries again.
#[derive(Clone, Copy, Debug)]
pub enum Retrying {
    /// The daemon, as the share says.
    Daemon,
    /// The same, of what is on schedule: what its customer's own set-up refuses waits until that is right.
    Schedule,
    /// Nobody: a person asked for one try, and sees what came of it.
    Person,
}

impl Retrying {
    /// What a run is tried by: who asks for one wants to know at once what keeps it from working.
    pub fn of(origin: Origin) -> Self {
        if origin == Origin::Manual { Self::Daemon } else { Self::Schedule }
    }
}

/// When, after a failure that came on top of `tries` others; None for never.
/// What is sealed is never given up by a person's one try: it waits for the next. What may have its
/// manifest is never given up.
pub(super) fn again(
    retrying: Retrying,
    policy: &RetryPolicy,
    failure: &Failure,
    (sealed, tries): (bool, u32),
    (now, seed): (Instant, u64),
) -> Option<Instant> {
    let (is_last, in_doubt) = (tries + 1 >= policy.attempts, failure.leaves == Leaves::InDoubt);
    let retry = if in_doubt { Retry::Later } else { failure.retry };
    match (retry, retrying) {
        (Retry::Never, _) => None,
        (Retry::Later, Retrying::Person) => sealed.then_some(now),
        (Retry::Later, Retrying::Daemon | Retrying::Schedule) if is_last && !in_doubt => None,
        (Retry::Later, Retrying::Daemon | Retrying::Schedule) => Some(now + wait(policy, tries, seed)),
    }
}

/// Doubles with each try. Up to half of it is taken off by `seed`, so that what
/// failed together does not come back together.
pub(super) fn wait(policy: &RetryPolicy, tries: u32, seed: u64) -> Duration {
    let whole = policy.backoff.saturating_mul(1_u32.checked_shl(tries).unwrap_or(u32::MAX)).min(policy.max_backoff);
    spread(whole, 0.5, (seed, tries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Layer;

    fn policy() -> RetryPolicy {
        RetryPolicy { attempts: 4, backoff: Duration::from_secs(10), max_backoff: Duration::from_secs(25) }
    }

    fn due(retrying: Retrying, retry: Retry, sealed: bool, tries: u32, seed: u64) -> Option<Duration> {
        let (now, failure) = (Instant::UNIX_EPOCH, Failure::new(Layer::Network, retry, "no answer", ""));
        let again = again(retrying, &policy(), &failure, (sealed, tries), (now, seed))?;
        Some((again - now).to_std().unwrap())
    }

    #[test]
    fn the_wait_doubles_up_to_its_maximum_and_ends() {
        for seed in 0..1000 {
            let secs = |tries| due(Retrying::Daemon, Retry::Later, false, tries, seed).map(|wait| wait.as_secs_f64());
            assert!((5.0..=10.0).contains(&secs(0).unwrap()), "{:?}", secs(0));
            assert!((10.0..=20.0).contains(&secs(1).unwrap()), "{:?}", secs(1));
            assert!((12.5..=25.0).contains(&secs(2).unwrap()), "{:?}", secs(2));
            assert_eq!((secs(3), secs(40)), (None, None));
        }
    }

    #[test]
    fn what_failed_together_comes_back_apart() {
        let waits: std::collections::BTreeSet<_> =
            (0..100).map(|seed| due(Retrying::Daemon, Retry::Later, false, 0, seed)).collect();
        assert_eq!(waits.len(), 100);
    }

    #[test]
    fn what_may_have_its_manifest_is_never_given_up() {
        let failure = Failure::new(Layer::RolePolicy, Retry::Never, "Access Denied", "").in_doubt();
        for tries in [3, 40, u32::MAX - 1] {
            let now = Instant::UNIX_EPOCH;
            assert!(again(Retrying::Daemon, &policy(), &failure, (true, tries), (now, 0)).is_some());
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert_eq!(due(Retrying::Daemon, Retry::Never, true, 0, 0), None);
        assert_eq!(due(Retrying::Person, Retry::Later, false, 0, 0), None);
        assert_eq!(due(Retrying::Person, Retry::Later, true, 9, 0), Some(Duration::ZERO));
    }
}
