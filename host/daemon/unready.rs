//! Customers who are not ready, what waits for them, and who looks at them again. The
//! ledger decides, with each attempt; what is known here has customers looked at, and has
//! everything begin again when one is ready.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time;

use super::admin::ask::Event;
use super::calls::Answer;
use super::desk::Desk;
use super::job::Job;
use crate::clock::{Instant, to_the_second};
use crate::config::{Config, Customer, Missed, Overlap, Preflight};
use crate::crash::{self, Point};
use crate::domain::{CustomerName, Failure, Origin, ShareName, spread};
use crate::ledger::{DeliveryId, Exposed, Ledger, LedgerError, Unready};
use crate::run::{Parts, passed, ready};

/// Customers who are looked at at the same time.
const LOOKS_AT_ONCE: usize = 4;

/// Until a customer is looked at again. Doubles each time; up to half of it is taken off.
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(30 * 60);

/// What a look found; None if it says nothing of the customer, or another consign looks.
pub(super) type Look = (CustomerName, Result<Option<Result<(), Failure>>, LedgerError>);

#[derive(Default)]
pub(super) struct Waiting {
    /// As the ledger had it, when it was last asked.
    unready: BTreeMap<CustomerName, Unready>,
    /// Who is ready and should not be: looked at again when there is reason to.
    exposed: BTreeSet<CustomerName>,
    /// What has begun in the ledger and waits here.
    jobs: BTreeMap<DeliveryId, Job>,
    /// What no longer waits and has not ended: what waits behind it is its share's next to the customer.
    out: BTreeMap<(ShareName, CustomerName), DeliveryId>,
    looks: JoinSet<Look>,
    /// Who is looked at at this moment, and whether nobody has done so before.
    looking: BTreeMap<CustomerName, bool>,
    /// To be looked at without a pause.
    at_once: BTreeSet<CustomerName>,
    /// To be looked at because this process has begun.
    first: VecDeque<CustomerName>,
    /// Something may have changed.
    unsure: bool,
    /// The ledger could not say, and is asked again with the next tick.
    postponed: bool,
    /// Nor could it forget who is not configured any more.
    to_forget: bool,
    asking: bool,
    asked: Option<time::Instant>,
}

impl Waiting {
    /// Who is not ready, of those that are configured.
    pub fn customers_of(&self, config: &Config) -> impl Iterator<Item = &CustomerName> {
        self.unready.keys().filter(|customer| config.customers.contains_key(*customer))
    }

    pub fn has(&self, delivery: DeliveryId) -> bool {
        self.jobs.contains_key(&delivery)
    }

    pub fn remove(&mut self, delivery: DeliveryId) -> Option<Job> {
        self.jobs.remove(&delivery)
    }

    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Who is to be ready for what waits here, and what was found last.
    pub fn customer_of(&self, delivery: DeliveryId) -> Option<&Unready> {
        self.unready.get(&self.jobs.get(&delivery)?.delivery.customer)
    }

    /// Those of these who are not ready, or exposed, are looked at as soon as can be.
    pub fn look_at(&mut self, customers: impl IntoIterator<Item = CustomerName>) {
        self.at_once.extend(customers);
        self.unsure = true;
    }

    /// The next look that ends; None while there is none.
    pub async fn looked(&mut self) -> Option<Result<Look, JoinError>> {
        self.looks.join_next().await
    }

    fn is_looking(&self) -> bool {
        !self.looks.is_empty()
    }

    /// Whom to look at next: who is to be looked at at once, then whoever has waited longest. The last place is
    /// for those whom nobody has looked at yet, unless one of them has a place: so they wait for nobody who does not answer.
    fn next(&mut self, now: Instant, is_configured: impl Fn(&CustomerName) -> bool) -> Option<Turn> {
        let Waiting { unready, exposed, looks, looking, at_once, first, .. } = self;
        let is_there = |customer: &CustomerName| !looking.contains_key(customer) && is_configured(customer);
        let there = || unready.values().filter(|unready| is_there(&unready.customer));
        let of = |found: &Unready| Turn { customer: found.customer.clone(), at_once: false, looks: Some(found.looks) };
        let asked = there().filter(|unready| at_once.contains(&unready.customer)).min_by_key(|unready| unready.next);
        let due = there().filter(|unready| unready.next <= now).min_by_key(|unready| unready.next);
        let new =
            there().filter(|unready| unready.next <= now && unready.looks == 0).min_by_key(|unready| unready.next);
        let shown = exposed.iter().find(|customer| at_once.contains(*customer) && is_there(customer));
        let shown = shown.map(|customer| Turn { customer: customer.clone(), at_once: false, looks: None });
        let mut unknown = || {
            let customer = std::iter::from_fn(|| first.pop_front()).find(|customer| is_there(customer))?;
            Some(Turn { customer, at_once: false, looks: None })
        };
        let mut next = None;
        if looks.len() + 1 >= LOOKS_AT_ONCE && !looking.values().any(|is_new| *is_new) {
            next = new.map(of).or_else(&mut unknown);
        }
        let next = next.or(asked.map(of)).or(shown).or(due.map(of)).or_else(unknown)?;
        let at_once = at_once.remove(&next.customer);
        Some(Turn { at_once, ..next })
    }

    /// This customer's look begins.
    fn takes(&mut self, customer: &CustomerName, looks: Option<u32>) {
        let is_new = looks.map_or(!self.exposed.contains(customer), |looks| looks == 0);
        self.looking.insert(customer.clone(), is_new);
    }

    /// What has waited too long, or for what is no longer configured, each with why.
    fn in_vain(&self, config: &Config, now: Instant) -> Vec<(DeliveryId, Option<Failure>)> {
        let mut newest: BTreeMap<(&ShareName, &CustomerName), Instant> = BTreeMap::new();
        for job in self.jobs.values().filter(|job| is_made_up_for(job)) {
            let (of, at) = ((&job.delivery.slot.share, &job.delivery.customer), job.delivery.slot.at);
            newest.entry(of).and_modify(|newest| *newest = at.max(*newest)).or_insert(at);
        }
        let why = |job: &Job, unready: Option<&Unready>| {
            let (slot, customer) = (&job.delivery.slot, &job.delivery.customer);
            if let Some(deadline) = job.deadline().filter(|deadline| *deadline <= now) {
                return Some(passed(slot, deadline).message);
            }
            let share = config.shares.get(&slot.share)?;
            let catch_up = share.catch_up;
            if !is_made_up_for(job) || unready.is_none() {
                return None;
            }
            if !share.makes_up_for(slot.at, now) {
                return Some(ready::too_old(slot.at, catch_up.window));
            }
            // What is stored whole only has to complete.
            if job.has_begun() {
                return None;
            }
            let newer = newest.get(&(&slot.share, customer)).filter(|newest| **newest > slot.at)?;
            let newer = to_the_second(*newer);
            (catch_up.missed == Missed::Latest).then(|| format!("only the latest slot, {newer}, is made up for"))
        };
        let told = |(id, job): (&DeliveryId, &Job)| {
            let unready = self.unready.get(&job.delivery.customer);
            // Its task finds why.
            if !is_configured(config, job) {
                return Some((*id, None));
            }
            let why = why(job, unready)?;
            Some((*id, unready.map(|unready| gives_up(job, unready, &why))))
        };
        self.jobs.iter().filter_map(told).collect()
    }

    /// Takes out what waits for nobody any more, in the order of its slots; of a share one at a
    /// time for each customer, as of what is made up for, unless they may go on side by side.
    fn free(&mut self, config: &Config) -> Vec<Job> {
        let is_free = |(_, job): &(&DeliveryId, &Job)| !self.unready.contains_key(&job.delivery.customer);
        let mut free: Vec<_> = self.jobs.iter().filter(is_free).map(|(id, job)| (job.delivery.slot.at, *id)).collect();
        free.sort_unstable();
        let may_begin = |(_, id): (Instant, DeliveryId)| {
            let delivery = &self.jobs.get(&id)?.delivery;
            let share = config.shares.get(&delivery.slot.share);
            let of = (delivery.slot.share.clone(), delivery.customer.clone());
            let alone = share.is_some_and(|share| share.overlap != Overlap::Allow);
            if alone && self.out.contains_key(&of) {
                return None;
            }
            self.out.insert(of, id);
            self.jobs.remove(&id)
        };
        free.into_iter().filter_map(may_begin).collect()
    }

    /// It is no longer at work. Whether something waits behind it.
    fn is_over(&mut self, delivery: DeliveryId) -> bool {
        let before = self.out.len();
        self.out.retain(|_, out| *out != delivery);
        self.out.len() < before && !self.jobs.is_empty()
    }
}

/// Who is looked at, and how.
struct Turn {
    customer: CustomerName,
    /// Without a pause.
    at_once: bool,
    /// How often that was done in vain; None of one for whom nothing waits.
    looks: Option<u32>,
}

/// What a delivery is told that has waited in vain. What is stored is tried once more, and says itself
/// what is wrong.
fn gives_up(job: &Job, unready: &Unready, why: &str) -> Failure {
    match job.has_begun() {
        true => Failure { message: ready::waited(unready, why), ..unready.failure.clone() },
        false => ready::given_up(unready, why),
    }
}

/// Its share is there, and goes to its customer.
fn is_configured(config: &Config, job: &Job) -> bool {
    let share = config.shares.get(&job.delivery.slot.share);
    share.is_some_and(|share| share.goes_to(&job.delivery.customer))
}

/// Nobody has asked for this slot by itself: the share's `catch_up` says what becomes of it.
fn is_made_up_for(job: &Job) -> bool {
    matches!(job.delivery.origin, Origin::Schedule | Origin::CatchUp)
}

impl Desk {
    /// Some customer is being looked at, which is not cut off: it would leave an upload.
    pub fn is_looking(&self) -> bool {
        self.waiting.is_looking() || self.generation.parts.is_looking()
    }

    /// Has customers looked at, as far as there is anything to look for.
    pub fn look_at_customers(&mut self) {
        let Waiting { unsure, asking, asked, .. } = self.waiting;
        let is_due = self.ledger.heartbeat().is_some_and(|every| asked.is_none_or(|asked| asked.elapsed() >= every));
        if !asking && (unsure || is_due) {
            (self.waiting.asking, self.waiting.unsure) = (true, false);
            let ledger = self.ledger.clone();
            self.calls.ask(async move { Answer::Unready(wanting(&ledger).await) });
        }
        self.begin_looks();
    }

    /// At the start of the process: who is not as should be is looked at at once, and all if that is configured.
    pub async fn resume_customers(&mut self) -> Result<(), LedgerError> {
        let forgot = self.ledger.keep_customers(self.configured()).await;
        self.forgot(forgot)?;
        let wanting = wanting(&self.ledger).await;
        self.unready(wanting)?;
        self.look_at_all_customers();
        let config = &self.generation.config;
        if config.daemon.preflight == Preflight::Start {
            let goes_to: BTreeSet<&CustomerName> = config.shares.values().flat_map(|share| &share.to).collect();
            self.waiting.first = goes_to.into_iter().cloned().collect();
        }
        Ok(())
    }

    pub fn unready(&mut self, all: Result<(Vec<Unready>, Vec<Exposed>), LedgerError>) -> Result<(), LedgerError> {
        (self.waiting.asking, self.waiting.asked) = (false, Some(time::Instant::now()));
        match all {
            Ok((all, exposed)) => {
                // What has waited too long does not begin because its customer is ready at last.
                self.end_what_waits_in_vain();
                let all = all.into_iter().map(|unready| (unready.customer.clone(), unready)).collect();
                let before = std::mem::replace(&mut self.waiting.unready, all);
                tell(&self.generation.config, &before, &self.waiting.unready);
                self.waiting.exposed = exposed.into_iter().map(|exposed| exposed.customer).collect();
                let Waiting { unready, exposed, at_once, .. } = &mut self.waiting;
                at_once.retain(|customer| unready.contains_key(customer) || exposed.contains(customer));
                self.go_by_customers();
            }
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                tracing::debug!(error = Failure::chain(&error), "customers who are not ready could not be read");
                self.waiting.postponed = true;
            }
        }
        Ok(())
    }

    /// Its customer is not ready, because of this: it waits, unless it was told to end meanwhile.
    pub fn wait_for_customer(&mut self, job: Job, failure: Failure, is_told: bool) {
        let (id, customer) = (job.delivery.id, job.delivery.customer.clone());
        let due = self.waiting.unready.get(&customer).map_or_else(|| self.clock.now(), |unready| unready.next);
        self.callers.tell(id, Some(Event::Waits { customer, due, failure }));
        self.waiting.jobs.insert(id, job);
        self.waiting.unsure = true;
        if is_told {
            self.look_at_cancelled(id);
        }
    }

    /// Has begin what waits for nobody any more.
    fn go_by_customers(&mut self) {
        for job in self.waiting.free(&self.generation.config) {
            self.enqueue(job);
        }
    }

    /// A delivery is no longer at work, whichever way.
    pub fn go_on_behind(&mut self, delivery: DeliveryId) {
        if self.waiting.is_over(delivery) {
            self.go_by_customers();
        }
    }

    /// The configuration is another one: what it says of customers may be right now.
    pub fn look_at_all_customers(&mut self) {
        let all: Vec<CustomerName> = self.waiting.unready.keys().chain(&self.waiting.exposed).cloned().collect();
        self.waiting.look_at(all);
    }

    /// What was found of customers who are gone is forgotten: what waits for them fails, and says so.
    pub fn forget_customers(&mut self) {
        let (ledger, all) = (self.ledger.clone(), self.configured());
        self.calls.ask(async move { Answer::Forgot(ledger.keep_customers(all).await) });
    }

    pub fn forgot(&mut self, forgot: Result<(), LedgerError>) -> Result<(), LedgerError> {
        self.waiting.unsure = true;
        match forgot {
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                tracing::debug!(error = Failure::chain(&error), "customers who are gone could not be forgotten");
                self.waiting.to_forget = true;
            }
            Ok(()) => {}
        }
        Ok(())
    }

    fn configured(&self) -> BTreeSet<CustomerName> {
        self.generation.config.customers.keys().cloned().collect()
    }

    /// Each second: what has waited too long ends.
    pub fn end_what_waits_in_vain(&mut self) {
        self.waiting.unsure |= std::mem::take(&mut self.waiting.postponed);
        if std::mem::take(&mut self.waiting.to_forget) {
            self.forget_customers();
        }
        for (id, why) in self.waiting.in_vain(&self.generation.config, self.clock.now()) {
            let Some(job) = self.waiting.remove(id) else { continue };
            self.end(job, why);
        }
    }

    fn begin_looks(&mut self) {
        let now = self.clock.now();
        while self.waiting.looks.len() < LOOKS_AT_ONCE {
            let config = &self.generation.config;
            let turn = self.waiting.next(now, |customer| config.customers.contains_key(customer));
            let Some(Turn { customer, at_once, looks }) = turn else { return };
            let Some(profile) = config.customers.get(&customer).cloned() else { continue };
            self.waiting.takes(&customer, looks);
            let (ledger, parts) = (self.ledger.clone(), self.generation.parts.clone());
            let next = now + pause(&customer, looks);
            // Until the ledger says so.
            if let Some(known) = self.waiting.unready.get_mut(&customer) {
                known.next = next;
            }
            self.waiting.looks.spawn(async move {
                let looked = match looks {
                    None => ready::look(&ledger, &parts.vendor, &profile).await,
                    Some(_) => look_again(&ledger, &parts, &profile, next, at_once).await,
                };
                (customer, looked)
            });
        }
    }

    /// What a look found is in the ledger, which is asked for it.
    pub fn looked(&mut self, looked: Result<Look, JoinError>) -> Result<(), LedgerError> {
        self.waiting.unsure = true;
        let (customer, found) = match looked {
            Ok(looked) => looked,
            Err(died) => {
                tracing::error!(error = %died, "looking at a customer died; this is a fault in consign");
                self.waiting.looking.clear();
                return Ok(());
            }
        };
        self.waiting.looking.remove(&customer);
        match found {
            Ok(Some(Ok(()))) => crash::point(Point::Ready),
            Ok(_) => {}
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                tracing::debug!(error = Failure::chain(&error), %customer, "what was found of a customer is not recorded");
            }
        }
        Ok(())
    }
}

/// Who is not as should be.
async fn wanting(ledger: &Ledger) -> Result<(Vec<Unready>, Vec<Exposed>), LedgerError> {
    Ok((ledger.unready().await?, ledger.exposed().await?))
}

/// Of several on one ledger, one looks.
async fn look_again(
    ledger: &Ledger,
    parts: &Parts,
    profile: &Arc<Customer>,
    next: Instant,
    at_once: bool,
) -> Result<Option<Result<(), Failure>>, LedgerError> {
    match ledger.look_begins(profile.name.clone(), next, at_once).await? {
        true => ready::look(ledger, &parts.vendor, profile).await,
        false => Ok(None),
    }
}

/// Grows with each look in vain. Customers who became unready together are not looked at together.
fn pause(customer: &CustomerName, looks: Option<u32>) -> Duration {
    let looks = looks.unwrap_or(0);
    let whole = PAUSE.saturating_mul(1_u32.checked_shl(looks).unwrap_or(u32::MAX)).min(PAUSE_MAX);
    spread(whole, 0.5, (customer, looks))
}

/// Of those that are configured.
fn tell(config: &Config, before: &BTreeMap<CustomerName, Unready>, now: &BTreeMap<CustomerName, Unready>) {
    let is_there = |customer: &CustomerName| config.customers.contains_key(customer);
    let new = now.values().filter(|now| is_there(&now.customer) && !before.contains_key(&now.customer));
    for Unready { customer, failure, .. } in new {
        let (layer, failure, remedy) = (failure.layer.as_str(), &failure.message, failure.logged_remedy());
        tracing::warn!(%customer, layer, failure, remedy, "a customer is not ready: what is due to it waits");
    }
    for customer in before.keys().filter(|customer| is_there(customer) && !now.contains_key(*customer)) {
        tracing::info!(%customer, "a customer is ready: what waited for it goes on");
    }
}

#[cfg(test)]
mod tests;
