//! Buckets that do not answer, and customers for whom STS does not: after some failures in
//! a row nothing more is begun there for a while, then one delivery, to see. So what is down
//! is asked little, its deliveries do not use up their tries, and the others have the places.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::TimeDelta;

use super::admin::ask::Event;
use super::calls::Answer;
use super::desk::{AtWork, Desk};
use super::job::{Delivery, Job, Progress, Task};
use super::queue::{Of, Place};
use crate::clock::{Instant, exact};
use crate::crash::{self, Point};
use crate::domain::{Asked, BucketName, Failure, Layer, Origin, Retry, spread};
use crate::ledger::LedgerError;
use crate::run::{Stopper, yet_to_come};

/// Failures in a row, of whichever deliveries.
const FAILURES: u32 = 3;

/// For how long nothing is begun at first; twice as long after each try in vain.
const FIRST: Duration = Duration::from_secs(15);
pub(super) const LONGEST: Duration = Duration::from_secs(10 * 60);

/// What the end of a try says of whom it has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Answers,
    Silent,
    /// It came to its end elsewhere.
    None,
}

/// Of STS and of S3: without a session nobody gets as far as the bucket.
fn signs(failure: &Failure) -> [Sign; 2] {
    let sign = if failure.is_silence() { Sign::Silent } else { Sign::Answers };
    match failure.asked {
        Some(Asked::Sts) => [sign, Sign::None],
        Some(Asked::S3) => [Sign::Answers, sign],
        Some(Asked::Vendor) | None => [Sign::None; 2],
    }
}

/// What an end says of them, and the failure that says it.
fn signs_of_end(progress: &Progress) -> ([Sign; 2], Option<&Failure>) {
    match progress {
        Progress::Delivered(_) | Progress::Unrecorded { .. } => ([Sign::Answers; 2], None),
        Progress::Waits { failure, .. } | Progress::Failed(failure) | Progress::Held { failure, .. } => {
            (signs(failure), Some(failure))
        }
        Progress::Tidied | Progress::Interrupted | Progress::Quarantined | Progress::NotYet => ([Sign::None; 2], None),
    }
}

/// What changes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing is begun there until then.
    Shut(Instant),
    /// As many deliveries as usual.
    Open,
}

#[derive(Debug, Default)]
struct Breaker {
    /// In a row.
    failures: u32,
    /// How often it was shut since it last answered.
    shut: u32,
    /// None while deliveries may begin.
    until: Option<Instant>,
    /// Since when one may that is to try.
    tried: Option<Instant>,
    /// Parts stored (bucket) or sessions open (customer) at the last look; None before the first look
    /// after it was shut.
    seen: Option<u64>,
    /// How the last try failed.
    why: Option<Failure>,
}

/// Buckets, and customers by their roles, of which the last that is known is a failure.
#[derive(Debug, Default)]
pub(super) struct Breakers(HashMap<Of, Breaker>);

impl Breakers {
    /// A try has ended that `began` then and had its place there.
    fn saw(&mut self, of: &Of, sign: Sign, began: Instant, now: Instant) -> Option<Change> {
        match sign {
            Sign::None => None,
            Sign::Answers => self.0.remove(of).filter(|breaker| breaker.shut > 0).map(|_| Change::Open),
            Sign::Silent => {
                let breaker = self.0.entry(of.clone()).or_default();
                // What had begun before it was shut says nothing new.
                if breaker.until.is_some() || breaker.tried.is_some_and(|tried| began < tried) {
                    return None;
                }
                breaker.failures += 1;
                if breaker.failures < FAILURES && breaker.shut == 0 {
                    return None;
                }
                let until = now + pause(of, breaker.shut);
                breaker.shut = breaker.shut.saturating_add(1);
                (breaker.until, breaker.tried) = (Some(until), None);
                Some(Change::Shut(until))
            }
        }
    }

    /// This is how a try there has failed.
    fn notes(&mut self, of: &Of, why: &Failure) {
        if let Some(breaker) = self.0.get_mut(of) {
            breaker.why = Some(why.clone());
        }
    }

    /// Why nothing is begun there, if it is not for want of an answer.
    pub fn why(&self, of: &Of) -> Option<&Failure> {
        self.0.get(of)?.why.as_ref().filter(|why| why.layer != Layer::Network)
    }

    /// The clock is behind what it said before: no instant that was reckoned by it holds.
    pub fn were_told_wrong(&mut self, now: Instant) {
        for breaker in self.0.values_mut() {
            breaker.until = breaker.until.map(|until| until.min(now));
            breaker.tried = breaker.tried.map(|tried| tried.min(now));
        }
    }

    /// What is at work there has so many parts stored, or sessions open.
    fn sees(&mut self, of: &Of, now: u64) -> Option<Change> {
        let before = self.0.get_mut(of)?.seen.replace(now);
        // What there was before says nothing new.
        if before.is_none_or(|before| now <= before) {
            return None;
        }
        self.0.remove(of).map(|_| Change::Open)
    }

    /// Those whose time is over: each is tried.
    fn due(&mut self, now: Instant) -> Vec<Of> {
        let mut due = Vec::new();
        for (of, breaker) in &mut self.0 {
            if breaker.until.is_some_and(|until| until <= now) {
                (breaker.until, breaker.tried) = (None, Some(now));
                due.push(of.clone());
            }
        }
        due
    }

    /// Where nothing begins, and until when; None while one is trying.
    pub fn shut(&self) -> impl Iterator<Item = (&Of, Option<Instant>)> {
        self.0.iter().filter(|(_, breaker)| breaker.shut > 0).map(|(of, breaker)| (of, breaker.until))
    }

    fn until(&self, of: &Of) -> Option<Instant> {
        self.0.get(of)?.until
    }

    /// Forgets those whom nobody asks any more, and tells them.
    fn forget(&mut self, is_asked: impl Fn(&Of) -> bool) -> Vec<Of> {
        self.0.extract_if(|of, _| !is_asked(of)).map(|(of, _)| of).collect()
    }
}

/// Up to a quarter is taken off by the name, so that those that went down together are not
/// tried together.
fn pause(of: &Of, shut: u32) -> Duration {
    spread(FIRST.saturating_mul(1 << shut.min(10)).min(LONGEST), 0.25, of)
}

impl Desk {
    /// What a try that had this place says of whom it has asked.
    pub fn look_at_answers(&mut self, place: &Place, ended: Option<&Progress>, began: Instant) {
        let Some(ended) = ended else { return };
        // What began under an earlier configuration may have asked whom nobody asks any more.
        let Of::Customer(name) = place.customer() else { return };
        let Some(profile) = self.generation.config.customers.get(&name) else { return };
        let bucket = place.bucket().filter(|of| *of == Of::Bucket(profile.bucket.clone()));
        let asked = [Some(place.customer()), bucket];
        let (signs, failure) = signs_of_end(ended);
        for (of, sign) in asked.into_iter().zip(signs) {
            of.into_iter().for_each(|of| self.hear_of(&of, (sign, failure), began));
        }
    }

    /// A try that `began` then says this of whom it has asked, by how it failed.
    pub fn hear_of(&mut self, of: &Of, (sign, failure): (Sign, Option<&Failure>), began: Instant) {
        let change = self.breakers.saw(of, sign, began, self.clock.now());
        if let (Sign::Silent, Some(failure)) = (sign, failure) {
            self.breakers.notes(of, failure);
        }
        change.into_iter().for_each(|change| self.change(of, change));
    }

    /// Who is configured no more is not asked, so that no answer would have him open again.
    pub fn forget_unconfigured(&mut self) {
        let config = self.generation.config.clone();
        let buckets: HashSet<&BucketName> = config.customers.values().map(|profile| &profile.bucket).collect();
        let gone = self.breakers.forget(|of| match of {
            Of::Bucket(bucket) => buckets.contains(bucket),
            Of::Customer(customer) => config.customers.contains_key(customer),
            Of::Share(_) | Of::Plugin(_) | Of::Within(_) => true,
        });
        gone.iter().for_each(|of| self.queue.narrow(of, None));
    }

    /// Each second: who stores parts, or has got a session, however long a delivery takes.
    pub fn look_at_work(&mut self) {
        let shut: Vec<Of> = self.breakers.shut().map(|(of, _)| of.clone()).collect();
        for of in &shut {
            let there = self.at_work.values().filter(|at_work| at_work.asks(of)).map(|at_work| &at_work.gauge);
            let seen: u64 = match of {
                Of::Customer(_) => there.map(|gauge| u64::from(gauge.has_session())).sum(),
                _ => there.map(|gauge| gauge.read().parts).sum(),
            };
            let change = self.breakers.sees(of, seen);
            change.into_iter().for_each(|change| self.change(of, change));
        }
    }

    /// Has one delivery begin where it is time to see whether there is an answer again.
    pub fn try_again(&mut self, now: Instant) {
        for of in self.breakers.due(now) {
            tracing::debug!("one delivery tries whether {of} answers");
            // Besides what had begun before, which may take long.
            let began = self.at_work.values().filter(|at_work| at_work.asks(&of)).count();
            self.queue.narrow(&of, Some(began + 1));
        }
    }

    fn change(&mut self, of: &Of, change: Change) {
        match change {
            Change::Shut(until) => {
                let again = exact(until);
                match self.breakers.why(of) {
                    None => {
                        tracing::warn!(until = again, "{of} does not answer: nothing more is begun there for a while");
                    }
                    Some(why) => {
                        let (error, remedy) = (&why.message, why.logged_remedy());
                        tracing::warn!(
                            until = again,
                            error,
                            remedy,
                            "{of} is not asked: nothing more is begun there for a while"
                        );
                    }
                }
                let config = self.generation.config.clone();
                let jobs = self.queue.take(|job: &Job| job.turn(&config).asks(of));
                let why = self.unasked(of, until);
                self.put_off(jobs, &why, until);
            }
            Change::Open => {
                tracing::info!("{of} answers again");
                self.queue.narrow(of, None);
            }
        }
    }

    /// Who is not asked for a job, and until when. What is too late for that ends without asking,
    /// and who sends something by hand wants to know.
    pub fn shut_until(&self, job: &Job) -> Option<(Of, Instant)> {
        let is_wanted_now = job.delivery.origin == Origin::Manual && matches!(job.task, Task::Deliver);
        if is_wanted_now || job.deadline().is_some_and(|deadline| deadline <= self.clock.now()) {
            return None;
        }
        let turn = job.turn(&self.generation.config);
        let shut =
            turn.asked().into_iter().flatten().filter_map(|of| self.breakers.until(&of).map(|until| (of, until)));
        shut.max_by_key(|(_, until)| *until)
    }

    /// Why nothing is begun that asks there.
    pub fn unasked(&self, of: &Of, until: Instant) -> Failure {
        match self.breakers.why(of) {
            Some(why) => {
                let message = format!("{}; {of} is not asked before {}", why.message, exact(until));
                Failure::new(why.layer, Retry::Later, message, why.remedy.clone())
            }
            None => {
                let message = format!("{of} does not answer, and is not asked before {}", exact(until));
                let remedy = "nothing, if it passes; `consign status` lists who does not answer, and `consign retry` asks at once";
                Failure::new(Layer::Network, Retry::Later, message, remedy)
            }
        }
    }

    /// Has deliveries wait as one does that has failed, but without a try: so they are in
    /// no other slot's way.
    pub fn put_off(&mut self, jobs: Vec<Job>, failure: &Failure, until: Instant) {
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
            let (ledger, failure) = (self.ledger.clone(), failure.clone());
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

    /// It is another slot's turn, or its own time has not come.
    pub fn wait_for_turn(&mut self, delivery: Delivery, stopper: &Stopper) {
        let (now, id, slot) = (self.clock.now(), delivery.id, delivery.slot.clone());
        let job = Job { delivery, task: Task::Again { begun: false } };
        match slot.is_early(now) {
            true => self.put_off(vec![job], &yet_to_come(&slot), slot.at),
            false => self.retries.push(now + TimeDelta::seconds(15), job),
        }
        self.look_whether_told(id, stopper);
    }
}

impl AtWork {
    fn asks(&self, of: &Of) -> bool {
        self.place.as_ref().is_some_and(|place| place.asks(of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::UNIX_EPOCH;

    fn bucket() -> Of {
        Of::Bucket(BucketName::parse("acme-data").unwrap())
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
    fn a_clock_that_is_put_back_keeps_nobody_from_being_asked() {
        let (mut breakers, ahead) = (Breakers::default(), START + TimeDelta::hours(8));
        for _ in 0..3 {
            breakers.saw(&bucket(), Sign::Silent, ahead, ahead);
        }
        assert_eq!(breakers.due(START), []);
        breakers.were_told_wrong(START);
        assert_eq!(breakers.due(START), [bucket()]);
        // What begins from now on says something, also where it was tried by the wrong time.
        let (mut breakers, tried) = tried();
        breakers.were_told_wrong(tried - TimeDelta::hours(8));
        let began = tried - TimeDelta::hours(7);
        assert!(matches!(breakers.saw(&bucket(), Sign::Silent, began, began), Some(Change::Shut(_))));
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
        assert_eq!(breakers.sees(&bucket(), 7), None, "what was stored before it was shut");
        assert_eq!(breakers.sees(&bucket(), 7), None);
        assert_eq!(breakers.sees(&bucket(), 3), None, "one that had stored some has ended");
        assert_eq!(breakers.sees(&bucket(), 4), Some(Change::Open));
        assert_eq!(breakers.sees(&bucket(), 5), None, "it is open");
    }

    #[test]
    fn whoever_was_asked_last_has_answered_or_not() {
        let of = |asked, layer, retry| signs(&Failure { asked, ..Failure::new(layer, retry, "", "") });
        assert_eq!(of(Some(Asked::S3), Layer::Network, Retry::Later), [Sign::Answers, Sign::Silent]);
        assert_eq!(of(Some(Asked::S3), Layer::RolePolicy, Retry::Never), [Sign::Answers, Sign::Answers]);
        assert_eq!(of(Some(Asked::Sts), Layer::Network, Retry::Later), [Sign::Silent, Sign::None]);
        assert_eq!(of(Some(Asked::Sts), Layer::TrustPolicy, Retry::Never), [Sign::Answers, Sign::None]);
        // Nobody knows who the vendor is; or STS does, and the vendor may not ask.
        assert_eq!(of(Some(Asked::Sts), Layer::Identity, Retry::Later), [Sign::Silent, Sign::None]);
        assert_eq!(of(Some(Asked::Sts), Layer::Identity, Retry::Never), [Sign::Answers, Sign::None]);
        // It takes no request whose time is wrong; nor does S3, but it has been reached.
        assert_eq!(of(Some(Asked::Sts), Layer::Clock, Retry::Later), [Sign::Silent, Sign::None]);
        assert_eq!(of(Some(Asked::S3), Layer::Clock, Retry::Later), [Sign::Answers, Sign::Answers]);
        for layer in [Layer::Dataset, Layer::Network, Layer::Conflict, Layer::Ledger] {
            assert_eq!(of(None, layer, Retry::Later), [Sign::None; 2], "{layer}");
        }
    }
}
