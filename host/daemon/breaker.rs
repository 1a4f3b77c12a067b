//! Buckets that do not answer: after some failures in a row nothing more is begun
//! there for a while, then one delivery, to see. So a bucket that is down is asked
//! little, its deliveries do not use up their tries, and the others have the places.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Instant;
use crate::domain::{BucketName, Failure, Layer, Retry};

/// Failures in a row, of whichever deliveries.
const FAILURES: u32 = 3;

/// For how long nothing is begun at first; twice as long after each try in vain.
const FIRST: Duration = Duration::from_secs(15);
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// What the end of a try says of its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Answers,
    Silent,
    /// It came to its end elsewhere.
    None,
}

impl Sign {
    pub fn of(failure: &Failure) -> Self {
        match failure.layer {
            Layer::Network if failure.retry == Retry::Later => Sign::Silent,
            Layer::RolePolicy | Layer::Bucket | Layer::Kms | Layer::Acl | Layer::Owner | Layer::Conflict => {
                Sign::Answers
            }
            _ => Sign::None,
        }
    }
}

/// What changes for a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing is begun there until then.
    Shut(Instant),
    /// One delivery at a time.
    Try,
    /// As many as usual.
    Open,
}

#[derive(Clone, Copy, Debug, Default)]
struct Breaker {
    /// In a row.
    failures: u32,
    /// How often it was shut since it last answered.
    shut: u32,
    /// None while deliveries may begin.
    until: Option<Instant>,
}

/// Those of which the last that is known is a failure.
#[derive(Debug, Default)]
pub(super) struct Breakers(HashMap<BucketName, Breaker>);

impl Breakers {
    /// A try has ended that had its place there.
    pub fn saw(&mut self, bucket: &BucketName, sign: Sign, now: Instant) -> Option<Change> {
        match sign {
            Sign::None => None,
            Sign::Answers => self.0.remove(bucket).filter(|breaker| breaker.shut > 0).map(|_| Change::Open),
            Sign::Silent => {
                let breaker = self.0.entry(bucket.clone()).or_default();
                // What had begun before it was shut says nothing new.
                if breaker.until.is_some() {
                    return None;
                }
                breaker.failures += 1;
                if breaker.failures < FAILURES && breaker.shut == 0 {
                    return None;
                }
                let until = now + pause(bucket, breaker.shut);
                breaker.shut = breaker.shut.saturating_add(1);
                breaker.until = Some(until);
                Some(Change::Shut(until))
            }
        }
    }

    /// Those whose time is over: each is tried.
    pub fn due(&mut self, now: Instant) -> Vec<BucketName> {
        let mut due = Vec::new();
        for (bucket, breaker) in &mut self.0 {
            if breaker.until.is_some_and(|until| until <= now) {
                breaker.until = None;
                due.push(bucket.clone());
            }
        }
        due
    }

    /// Where nothing begins, and until when; None while one is trying.
    pub fn shut(&self) -> impl Iterator<Item = (&BucketName, Option<Instant>)> {
        self.0.iter().filter(|(_, breaker)| breaker.shut > 0).map(|(bucket, breaker)| (bucket, breaker.until))
    }
}

/// Up to a quarter is taken off by the bucket's name, so that those that went down
/// together are not tried together.
fn pause(bucket: &BucketName, shut: u32) -> Duration {
    let whole = FIRST.saturating_mul(1 << shut.min(10)).min(LONGEST);
    let hash = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bucket.as_str().as_bytes());
    whole - whole / 4 * u32::try_from(hash % 1000).unwrap_or_default() / 1000
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn bucket() -> BucketName {
        BucketName::parse("acme-data").unwrap()
    }

    fn shut(change: Option<Change>, now: Instant) -> Duration {
        match change {
            Some(Change::Shut(until)) => (until - now).to_std().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failures_in_a_row_shut_it_for_longer_and_longer_until_it_answers() {
        let (mut breakers, mut now) = (Breakers::default(), Instant::UNIX_EPOCH);
        assert_eq!(breakers.saw(&bucket(), Sign::Silent, now), None);
        assert_eq!(breakers.saw(&bucket(), Sign::Silent, now), None);
        let mut pauses = vec![shut(breakers.saw(&bucket(), Sign::Silent, now), now)];
        for _ in 0..9 {
            assert_eq!(breakers.saw(&bucket(), Sign::Silent, now), None, "what had begun before");
            assert_eq!(breakers.due(now), []);
            now += *pauses.last().unwrap();
            assert_eq!(breakers.due(now), [bucket()]);
            pauses.push(shut(breakers.saw(&bucket(), Sign::Silent, now), now));
        }
        assert!(pauses[0] > FIRST * 3 / 4 - Duration::from_secs(1) && pauses[0] <= FIRST, "{pauses:?}");
        assert!(pauses.windows(2).all(|two| two[0] <= two[1]) && pauses[9] <= LONGEST, "{pauses:?}");
        assert!(pauses[9] > LONGEST / 2);
        assert_eq!(breakers.saw(&bucket(), Sign::Answers, now), Some(Change::Open));
        assert_eq!(breakers.saw(&bucket(), Sign::Silent, now), None, "it is counted from the beginning");
    }

    #[test]
    fn a_success_between_failures_keeps_it_open() {
        let (mut breakers, now) = (Breakers::default(), Instant::UNIX_EPOCH);
        for sign in [Sign::Silent, Sign::Silent, Sign::Answers].into_iter().cycle().take(30) {
            assert_eq!(breakers.saw(&bucket(), sign, now), None);
        }
    }

    #[test]
    fn what_fails_elsewhere_says_nothing() {
        let (mut breakers, mut now) = (Breakers::default(), Instant::UNIX_EPOCH);
        let pause = (0..3).filter_map(|_| breakers.saw(&bucket(), Sign::Silent, now)).last();
        now += TimeDelta::from_std(shut(pause, now)).unwrap();
        assert_eq!(breakers.due(now), [bucket()]);
        assert_eq!(breakers.saw(&bucket(), Sign::None, now), None);
        assert_eq!(breakers.shut().collect::<Vec<_>>(), [(&bucket(), None)], "it is still tried");
    }

    #[test]
    fn only_no_answer_is_silence() {
        let sign = |layer, retry| Sign::of(&Failure::new(layer, retry, "", ""));
        assert_eq!(sign(Layer::Network, Retry::Later), Sign::Silent);
        assert_eq!(sign(Layer::RolePolicy, Retry::Never), Sign::Answers);
        for layer in [Layer::Dataset, Layer::Plugin, Layer::TrustPolicy, Layer::Local, Layer::Ledger] {
            assert_eq!(sign(layer, Retry::Later), Sign::None);
        }
    }
}
