//! Buckets that do not answer: after some failures in a row nothing more is begun
//! there for a while, then one delivery, to see. So a bucket that is down is asked
//! little, its deliveries do not use up their tries, and the others have the places.

use std::collections::HashMap;
use std::time::Duration;

use chrono::TimeDelta;

use super::admin::ask::Event;
use super::calls::Answer;
use super::desk::{AtWork, Desk};
use super::job::{Delivery, Job, Progress, Task};
use crate::clock::{Instant, exact};
use crate::crash::{self, Point};
use crate::domain::{Asked, BucketName, Failure, Layer, Retry};
use crate::ledger::LedgerError;
use crate::run::Stopper;

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
    fn of(failure: &Failure) -> Self {
        match failure.asked {
            Some(Asked::S3) if failure.layer == Layer::Network && failure.retry == Retry::Later => Sign::Silent,
            Some(Asked::S3) => Sign::Answers,
            Some(Asked::Sts) | None => Sign::None,
        }
    }

    fn of_end(progress: &Progress) -> Self {
        match progress {
            Progress::Delivered(_) => Sign::Answers,
            Progress::Waits { failure, .. } | Progress::Failed(failure) | Progress::Held(failure) => Sign::of(failure),
            Progress::Tidied | Progress::Interrupted | Progress::Quarantined | Progress::NotYet => Sign::None,
        }
    }
}

/// What changes for a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing is begun there until then.
    Shut(Instant),
    /// As many deliveries as usual.
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
    /// Since when one may that is to try.
    tried: Option<Instant>,
    /// Parts that the deliveries at work there had stored when they were looked at last.
    parts: u64,
}

/// Those of which the last that is known is a failure.
#[derive(Debug, Default)]
pub(super) struct Breakers(HashMap<BucketName, Breaker>);

impl Breakers {
    /// A try has ended that `began` then and had its place there.
    fn saw(&mut self, bucket: &BucketName, sign: Sign, began: Instant, now: Instant) -> Option<Change> {
        match sign {
            Sign::None => None,
            Sign::Answers => self.0.remove(bucket).filter(|breaker| breaker.shut > 0).map(|_| Change::Open),
            Sign::Silent => {
                let breaker = self.0.entry(bucket.clone()).or_default();
                // What had begun before it was shut says nothing new.
                if breaker.until.is_some() || breaker.tried.is_some_and(|tried| began < tried) {
                    return None;
                }
                breaker.failures += 1;
                if breaker.failures < FAILURES && breaker.shut == 0 {
                    return None;
                }
                let until = now + pause(bucket, breaker.shut);
                *breaker =
                    Breaker { shut: breaker.shut.saturating_add(1), until: Some(until), tried: None, ..*breaker };
                Some(Change::Shut(until))
            }
        }
    }

    /// What is at work there has stored so many parts.
    fn stored(&mut self, bucket: &BucketName, parts: u64) -> Option<Change> {
        let breaker = self.0.get_mut(bucket)?;
        let before = std::mem::replace(&mut breaker.parts, parts);
        if parts <= before {
            return None;
        }
        self.0.remove(bucket).map(|_| Change::Open)
    }

    /// Those whose time is over: each is tried.
    fn due(&mut self, now: Instant) -> Vec<BucketName> {
        let mut due = Vec::new();
        for (bucket, breaker) in &mut self.0 {
            if breaker.until.is_some_and(|until| until <= now) {
                (breaker.until, breaker.tried) = (None, Some(now));
                due.push(bucket.clone());
            }
        }
        due
    }

    /// Where nothing begins, and until when; None while one is trying.
    pub fn shut(&self) -> impl Iterator<Item = (&BucketName, Option<Instant>)> {
        self.0.iter().filter(|(_, breaker)| breaker.shut > 0).map(|(bucket, breaker)| (bucket, breaker.until))
    }

    fn until(&self, bucket: &BucketName) -> Option<Instant> {
        self.0.get(bucket)?.until
    }
}

/// Up to a quarter is taken off by the bucket's name, so that those that went down
/// together are not tried together.
fn pause(bucket: &BucketName, shut: u32) -> Duration {
    let whole = FIRST.saturating_mul(1 << shut.min(10)).min(LONGEST);
    let hash = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bucket.as_str().as_bytes());
    whole - whole / 4 * u32::try_from(hash % 1000).unwrap_or_default() / 1000
}

impl Desk {
    /// What a try that had its place there says of its bucket.
    pub fn look_at_bucket(&mut self, bucket: Option<&BucketName>, ended: Option<&Progress>, began: Instant) {
        let (Some(bucket), Some(ended)) = (bucket, ended) else { return };
        let change = self.breakers.saw(bucket, Sign::of_end(ended), began, self.clock.now());
        change.into_iter().for_each(|change| self.change_bucket(bucket, change));
    }

    /// Each second: who is to be tried again, and who stores parts, however long a delivery takes.
    pub fn look_at_buckets(&mut self) {
        let shut: Vec<BucketName> = self.breakers.shut().map(|(bucket, _)| bucket.clone()).collect();
        for bucket in &shut {
            let there = self.at_work.values().filter(|at_work| at_work.bucket() == Some(bucket));
            let parts = there.map(|at_work| at_work.gauge.read().parts).sum();
            let change = self.breakers.stored(bucket, parts);
            change.into_iter().for_each(|change| self.change_bucket(bucket, change));
        }
        for bucket in self.breakers.due(self.clock.now()) {
            tracing::debug!(%bucket, "one delivery tries whether the bucket answers");
            // Besides what had begun before, which may take long.
            let began = self.at_work.values().filter(|at_work| at_work.bucket() == Some(&bucket)).count();
            self.queue.narrow(&bucket, Some(began + 1));
        }
    }

    fn change_bucket(&mut self, bucket: &BucketName, change: Change) {
        match change {
            Change::Shut(until) => {
                let again = exact(until);
                tracing::warn!(%bucket, until = again, "a bucket does not answer: nothing more is begun there for a while");
                let config = self.generation.config.clone();
                let is_there = |job: &Job| job.turn(&config).bucket.as_ref() == Some(bucket);
                let jobs = self.queue.take(is_there);
                self.put_off(jobs, bucket, until);
            }
            Change::Open => {
                tracing::info!(%bucket, "the bucket answers again");
                self.queue.narrow(bucket, None);
            }
        }
    }

    /// Until when nothing is begun in a job's bucket.
    pub fn shut_until(&self, job: &Job) -> Option<(BucketName, Instant)> {
        let bucket = job.turn(&self.generation.config).bucket?;
        let until = self.breakers.until(&bucket)?;
        Some((bucket, until))
    }

    /// Has deliveries wait as one does that has failed, but without a try: so they are in
    /// no other slot's way.
    pub fn put_off(&mut self, jobs: Vec<Job>, bucket: &BucketName, until: Instant) {
        let message = format!("bucket '{bucket}' does not answer, and is not asked before {}", exact(until));
        let remedy = "nothing, if it passes; `consign status` lists such buckets, and `consign retry` asks at once";
        let failure = Failure::new(Layer::Network, Retry::Later, message, remedy);
        let mut not_begun = Vec::new();
        for job in jobs {
            let begun = job.has_begun();
            let Job { delivery, .. } = job;
            if !begun {
                not_begun.push(delivery.id);
            }
            let (customer, due, failure) = (delivery.customer.clone(), until, failure.clone());
            self.callers.tell(delivery.id, Some(Event::Waits { customer, due, failure }));
            self.retries.push(until, Job { delivery, task: Task::Again { begun } });
        }
        if !not_begun.is_empty() {
            let ledger = self.ledger.clone();
            self.calls.ask(async move { Answer::PutOff(ledger.put_off(not_begun, failure, until).await) });
        }
    }

    pub fn were_put_off(&self, put_off: Result<(), LedgerError>) -> Result<(), LedgerError> {
        match put_off {
            Ok(()) => crash::point(Point::Waiting),
            Err(error) if error.is_fatal() => return Err(error),
            // They are begun again all the same.
            Err(error) => tracing::debug!(error = Failure::chain(&error), "what waits for its bucket is not on record"),
        }
        Ok(())
    }

    /// It is another slot's turn.
    pub fn wait_for_turn(&mut self, delivery: Delivery, stopper: &Stopper) {
        let (due, id) = (self.clock.now() + TimeDelta::seconds(15), delivery.id);
        self.retries.push(due, Job { delivery, task: Task::Again { begun: false } });
        self.look_whether_told(id, stopper);
    }
}

impl AtWork {
    fn bucket(&self) -> Option<&BucketName> {
        self.place.as_ref()?.bucket()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::UNIX_EPOCH;

    fn bucket() -> BucketName {
        BucketName::parse("acme-data").unwrap()
    }

    fn shut(change: Option<Change>, now: Instant) -> Duration {
        match change {
            Some(Change::Shut(until)) => (until - now).to_std().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Shut by three failures, and tried for the first time.
    fn tried() -> (Breakers, Instant) {
        let mut breakers = Breakers::default();
        let last = (0..3).filter_map(|_| breakers.saw(&bucket(), Sign::Silent, START, START)).last();
        let now = START + shut(last, START);
        assert_eq!(breakers.due(now), [bucket()]);
        (breakers, now)
    }

    #[test]
    fn failures_in_a_row_shut_it_for_longer_and_longer_until_it_answers() {
        let (mut breakers, mut now) = (Breakers::default(), START);
        assert_eq!(breakers.saw(&bucket(), Sign::Silent, now, now), None);
        assert_eq!(breakers.saw(&bucket(), Sign::Silent, now, now), None);
        let mut pauses = vec![shut(breakers.saw(&bucket(), Sign::Silent, now, now), now)];
        for _ in 0..9 {
            assert_eq!(breakers.saw(&bucket(), Sign::Silent, now, now), None, "what had begun before");
            assert_eq!(breakers.due(now), []);
            let before = now;
            now += *pauses.last().unwrap();
            assert_eq!(breakers.due(now), [bucket()]);
            assert_eq!(breakers.saw(&bucket(), Sign::Silent, before, now), None, "nor does it say anything later");
            pauses.push(shut(breakers.saw(&bucket(), Sign::Silent, now, now), now));
        }
        assert!(pauses[0] > FIRST * 3 / 4 - Duration::from_secs(1) && pauses[0] <= FIRST, "{pauses:?}");
        assert!(pauses.windows(2).all(|two| two[0] <= two[1]) && pauses[9] <= LONGEST, "{pauses:?}");
        assert!(pauses[9] > LONGEST / 2);
        assert_eq!(breakers.saw(&bucket(), Sign::Answers, now, now), Some(Change::Open));
        assert_eq!(breakers.saw(&bucket(), Sign::Silent, now, now), None, "it is counted from the beginning");
    }

    #[test]
    fn a_success_between_failures_keeps_it_open() {
        let mut breakers = Breakers::default();
        for sign in [Sign::Silent, Sign::Silent, Sign::Answers].into_iter().cycle().take(30) {
            assert_eq!(breakers.saw(&bucket(), sign, START, START), None);
        }
    }

    #[test]
    fn what_fails_elsewhere_says_nothing() {
        let (mut breakers, now) = tried();
        assert_eq!(breakers.saw(&bucket(), Sign::None, now, now), None);
        assert_eq!(breakers.shut().collect::<Vec<_>>(), [(&bucket(), None)], "it is still tried");
    }

    #[test]
    fn a_part_that_is_stored_is_an_answer() {
        let (mut breakers, _) = tried();
        assert_eq!(breakers.stored(&bucket(), 0), None);
        assert_eq!(breakers.stored(&bucket(), 1), Some(Change::Open));
        assert_eq!(breakers.stored(&bucket(), 2), None, "it is open");
    }

    #[test]
    fn only_s3_that_does_not_answer_is_silence() {
        let sign = |asked, layer, retry| Sign::of(&Failure { asked, ..Failure::new(layer, retry, "", "") });
        assert_eq!(sign(Some(Asked::S3), Layer::Network, Retry::Later), Sign::Silent);
        assert_eq!(sign(Some(Asked::S3), Layer::RolePolicy, Retry::Never), Sign::Answers);
        assert_eq!(sign(Some(Asked::Sts), Layer::Network, Retry::Later), Sign::None);
        for layer in [Layer::Dataset, Layer::Network, Layer::Conflict, Layer::Ledger] {
            assert_eq!(sign(None, layer, Retry::Later), Sign::None, "{layer}");
        }
    }
}
