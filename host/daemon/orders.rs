//! What the loop does for callers of the socket.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::admin::ask::{Event, Reloaded};
use super::admin::{LastReload, Moving, Now, Order, Shut, Unasked, Watch};
use super::desk::{AtWork, Desk};
use super::generation::Generation;
use super::left_out;
use super::notify::Manager;
use super::queue::Of;
use super::reload::{Loaded, stopping};
use crate::clock::Instant;
use crate::domain::Refused;
use crate::ledger::{DeliveryId, Unready};
use crate::run::Reading;

/// Slots to come that are listed.
const COMING: usize = 5;

/// What callers know of the loop, and it of them.
pub(super) struct Callers {
    /// Who hears of a delivery.
    watches: HashMap<DeliveryId, Vec<Watch>>,
    pub current: watch::Sender<Arc<Generation>>,
    pub stopping: Arc<AtomicBool>,
    /// When the generation began.
    since: Instant,
    last: Option<LastReload>,
}

impl Callers {
    pub fn new(first: Arc<Generation>, now: Instant) -> Self {
        let (current, _) = watch::channel(first);
        Self { watches: HashMap::new(), current, stopping: Arc::default(), since: now, last: None }
    }

    /// Somebody wants to hear of it, as others may.
    fn watch(&mut self, delivery: DeliveryId, watch: Watch) {
        self.watches.entry(delivery).or_default().push(watch);
    }

    /// Tells those who want to hear of it. None: nothing more is to be heard.
    pub fn tell(&mut self, delivery: DeliveryId, event: Option<Event>) {
        let is_last = !matches!(event, Some(Event::Waits { .. }));
        if let (Some(watches), Some(event)) = (self.watches.get_mut(&delivery), event) {
            // Who asked may be gone.
            watches.retain(|watch| watch.send(event.clone()).is_ok());
        }
        if is_last {
            self.watches.remove(&delivery);
        }
    }

    /// Why the configuration that was read last is not the one that runs.
    pub fn refused(&self) -> Option<String> {
        let refused = self.last.as_ref()?.refused.as_ref()?;
        Some(refused.message.clone())
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl Desk {
    pub fn obey(&mut self, order: Order, manager: &mut Manager) {
        match order {
            Order::Tell(tell) => drop(tell.send(self.now())),
            // It is in the ledger, and the next start goes on with it.
            Order::Begin { .. } | Order::TryNow { .. } | Order::Settle(_) | Order::Reloading
                if self.callers.is_stopping() => {}
            Order::Begin { claim, watch } => {
                for (_, delivery) in &claim.deliveries {
                    self.callers.watch(*delivery, watch.clone());
                }
                self.take_in(claim);
            }
            Order::TryNow { deliveries, watch, done } => {
                let mut here = Vec::new();
                for delivery in deliveries.into_iter().filter(|delivery| self.has(*delivery)).collect::<Vec<_>>() {
                    self.callers.watch(delivery, watch.clone());
                    here.push(delivery);
                    if let Some(job) = self.retries.remove(delivery) {
                        self.enqueue_now(job);
                    } else if let Some(parked) = self.quarantine.parked(delivery).cloned() {
                        self.tell_parked(&parked);
                    }
                    if let Some(Unready { customer, failure, next, .. }) = self.waiting.customer_of(delivery).cloned() {
                        let event = Event::Waits { customer: customer.clone(), due: next, failure };
                        self.callers.tell(delivery, Some(event));
                        self.waiting.look_at([customer]);
                    }
                }
                drop(done.send(here));
            }
            Order::Cancel(deliveries) => {
                for delivery in deliveries {
                    self.look_at_cancelled(delivery);
                }
            }
            Order::Settle(settling) => self.settle(settling),
            Order::PlanAnew { planner } => {
                let before = self.intake.plan_anew(*planner);
                // With many shares this takes a while.
                drop(tokio::task::spawn_blocking(move || drop(before)));
            }
            Order::LetGo => self.quarantine.look(),
            Order::LookAt(customers) => self.waiting.look_at(customers),
            Order::LeftOut(slots) => self.tally.left_out += left_out::tell(&slots),
            Order::Reloading => manager.reloading(),
            Order::Reloaded { loaded, done } => {
                let ended = self.reloaded(loaded);
                if !self.callers.is_stopping() {
                    manager.ready(&self.status());
                }
                drop(done.send(ended));
            }
        }
    }

    fn reloaded(&mut self, loaded: Result<Box<Loaded>, Refused>) -> Result<Reloaded, Refused> {
        if self.callers.is_stopping() {
            return Err(stopping());
        }
        let now = self.clock.now();
        let ended = match loaded {
            Ok(loaded) => {
                let Loaded { config, parts, planner, warnings, added, removed } = *loaded;
                let generation = self.adopt(config, parts, planner);
                for warning in &warnings {
                    tracing::warn!("{warning}");
                }
                for (names, what) in [(&added, "come with it"), (&removed, "are gone with it")] {
                    if !names.is_empty() {
                        tracing::info!(generation, %names, "shares or customers {what}");
                    }
                }
                self.callers.since = now;
                let shares = self.generation.config.shares.len();
                Ok(Reloaded { generation, done: true, shares, warnings, added, removed })
            }
            Err(refused) => {
                let told = if refused.text.is_empty() { &refused.message } else { &refused.text };
                let generation = self.generation.number;
                tracing::error!(generation, "the new configuration is refused, and the old one runs on: {told}");
                Err(refused)
            }
        };
        self.callers.last = Some(LastReload { at: now, refused: ended.as_ref().err().cloned() });
        ended
    }

    pub(super) fn now(&self) -> Now {
        let config = &self.generation.config;
        let (mut shut, mut unasked) = (Vec::new(), Vec::new());
        for (of, until) in self.breakers.shut() {
            match of {
                Of::Bucket(bucket) => shut.push(Shut { bucket: bucket.to_string(), until }),
                Of::Customer(customer) => {
                    let why = self.breakers.why(of).map(|why| why.message.clone());
                    unasked.push(Unasked { customer: customer.clone(), until, why });
                }
                Of::Share(_) | Of::Plugin(_) | Of::Within(_) => {}
            }
        }
        shut.sort_unstable();
        unasked.sort_unstable();
        Now {
            generation: self.generation.number,
            since: self.callers.since,
            stopping: self.callers.is_stopping(),
            unable: self.unable().map(str::to_owned),
            shares: config.shares.len(),
            customers: config.customers.len(),
            concurrency: config.daemon.concurrency,
            delivered: self.tally.delivered,
            failed: self.tally.failed,
            left_out: self.tally.left_out,
            shut,
            unasked,
            at_work: self.at_work.values().map(moving).collect(),
            next: self.intake.coming(COMING),
            reload: self.callers.last.clone(),
        }
    }
}

fn moving(at_work: &AtWork) -> Moving {
    let (delivery, Reading { rows, bytes, parts, still }) = (&at_work.delivery, at_work.gauge.read());
    let (run, customer, generation) = (delivery.run, delivery.customer.clone(), at_work.generation);
    Moving { run, customer, generation, rows, bytes, parts, still_seconds: still.map(|still| still.as_secs()) }
}
