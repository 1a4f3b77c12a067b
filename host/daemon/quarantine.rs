//! Plugins in quarantine, and what waits for them. The ledger decides, with each
//! attempt: what is known here keeps deliveries from asking in vain, and has
//! everything begin again when it is over.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::admin::ask::Event;
use super::calls::Answer;
use super::desk::Desk;
use super::generation::Generation;
use super::job::{Delivery, Job, Task};
use super::left_out;
use crate::config::Config;
use crate::crash::{self, Point};
use crate::domain::{Failure, PluginName, ShareName, SkipReason, Slot};
use crate::ledger::{DeliveryId, LedgerError, Quarantine};
use crate::run::{Fared, Fate, passed, quarantine};

#[derive(Default)]
pub(super) struct Quarantined {
    /// As the ledger had it, when it was last asked.
    all: Vec<Quarantine>,
    /// Of those, the ones that are configured now.
    plugins: BTreeMap<PluginName, Quarantine>,
    shares: Vec<ShareName>,
    /// What has begun in the ledger and waits here.
    waiting: BTreeMap<DeliveryId, Job>,
    /// Something may have changed.
    unsure: bool,
    /// The ledger could not say, and is asked again with the next tick.
    postponed: bool,
    asking: bool,
    asked: Option<Instant>,
    keeping: bool,
}

impl Quarantined {
    /// Nothing of these is to be begun in the ledger.
    pub fn shares(&self) -> &[ShareName] {
        &self.shares
    }

    pub fn holds(&self, share: &ShareName) -> bool {
        self.shares.binary_search(share).is_ok()
    }

    pub fn plugins(&self) -> impl Iterator<Item = &PluginName> {
        self.plugins.keys()
    }

    pub fn look(&mut self) {
        self.unsure = true;
    }

    pub fn has(&self, delivery: DeliveryId) -> bool {
        self.waiting.contains_key(&delivery)
    }

    /// One that waits here.
    pub fn parked(&self, delivery: DeliveryId) -> Option<&Delivery> {
        self.waiting.get(&delivery).map(|job| &job.delivery)
    }

    pub fn remove(&mut self, delivery: DeliveryId) -> Option<Job> {
        self.waiting.remove(&delivery)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// As a delivery has it in the end for which it was too late.
    fn passed(&self, config: &Config, job: &Job) -> Option<Failure> {
        let (slot, deadline) = (&job.delivery.slot, job.delivery.deadline?);
        let plugin = config.shares.get(&slot.share)?.plugin.as_ref()?;
        Some(quarantine::passed_in(plugin, self.plugins.get(plugin)?, passed(slot, deadline)))
    }

    /// Goes over to what the ledger has, and to what is configured. Returns plugins that
    /// have come into quarantine, and those that no longer are.
    fn renew(&mut self, generation: &Generation) -> (Vec<Quarantine>, Vec<PluginName>) {
        let Generation { config, parts, .. } = generation;
        let now = quarantine::quarantined(config, |plugin| parts.digest(&plugin.name), &self.all);
        self.shares = quarantine::shares_of(config, &now);
        let before = std::mem::replace(&mut self.plugins, now);
        let is_new = |(name, found): &(&PluginName, &Quarantine)| {
            before.get(*name).is_none_or(|before| (&before.digest, before.since) != (&found.digest, found.since))
        };
        let begun = self.plugins.iter().filter(is_new).map(|(_, found)| found.clone()).collect();
        (begun, before.into_keys().filter(|name| !self.plugins.contains_key(name)).collect())
    }
}

impl Desk {
    /// Asks the ledger when there may be news, and with each heartbeat if others write it too.
    pub fn look_at_quarantine(&mut self) {
        let Quarantined { unsure, asking, asked, .. } = self.quarantine;
        let is_due = self.ledger.heartbeat().is_some_and(|every| asked.is_none_or(|asked| asked.elapsed() >= every));
        if asking || !(unsure || is_due) {
            return;
        }
        (self.quarantine.asking, self.quarantine.unsure) = (true, false);
        let ledger = self.ledger.clone();
        self.calls.ask(async move { Answer::Quarantined(ledger.quarantined().await) });
    }

    pub fn quarantined(&mut self, all: Result<Vec<Quarantine>, LedgerError>) -> Result<(), LedgerError> {
        (self.quarantine.asking, self.quarantine.asked) = (false, Some(Instant::now()));
        match all {
            Ok(all) => {
                self.quarantine.all = all;
                self.go_by_quarantine();
            }
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                tracing::debug!(error = Failure::chain(&error), "plugins in quarantine could not be read");
                // What waits here must not wait for nothing.
                self.quarantine.postponed = true;
            }
        }
        Ok(())
    }

    /// Has wait what is to wait, and begin what no longer is to.
    pub fn go_by_quarantine(&mut self) {
        let (begun, over) = self.quarantine.renew(&self.generation);
        for Quarantine { plugin, digest, deliveries, failure, .. } in begun {
            let remedy = quarantine::remedy(&plugin);
            let failure = failure.message;
            tracing::warn!(%plugin, %digest, deliveries, failure, remedy, "a plugin is in quarantine: nothing more of it is started");
        }
        for plugin in &over {
            tracing::info!(%plugin, "a plugin is no longer in quarantine: what waited for it goes on");
        }
        if self.quarantine.plugins.is_empty() && self.quarantine.waiting.is_empty() && over.is_empty() {
            return;
        }
        let is_held = |job: &Job| self.quarantine.holds(&job.delivery.slot.share) && !job.has_begun();
        for job in self.queue.take(is_held) {
            self.park(job);
        }
        let goes_on = |job: &Job| !self.quarantine.holds(&job.delivery.slot.share);
        let free: Vec<DeliveryId> =
            self.quarantine.waiting.iter().filter(|(_, job)| goes_on(job)).map(|(id, _)| *id).collect();
        for id in free {
            if let Some(job) = self.quarantine.remove(id) {
                self.enqueue(job);
            }
        }
        self.intake.look_for_pending();
    }

    /// A plugin's fault may have been one too many.
    pub fn look_at_fault(&mut self, failure: &Failure) {
        if failure.plugin_fault {
            self.quarantine.look();
        }
    }

    /// Its attempt was refused: it waits, and the ledger is asked why.
    pub fn wait_in_quarantine(&mut self, job: Job) {
        self.park(job);
        self.quarantine.look();
    }

    /// It waits for its plugin, and nobody with it: that may take days.
    pub fn park(&mut self, job: Job) {
        self.tell_parked(&job.delivery);
        self.quarantine.waiting.insert(job.delivery.id, job);
    }

    /// Tells who wants to hear of a delivery what it waits for.
    pub fn tell_parked(&mut self, Delivery { id, slot, customer, .. }: &Delivery) {
        let Generation { config, parts, .. } = &*self.generation;
        let plugin = config.shares.get(&slot.share).and_then(|share| share.plugin.as_ref());
        let digest = plugin.and_then(|plugin| parts.digest(plugin));
        let why = digest.map(|digest| quarantine::waits(plugin, &digest));
        let fared = why.map(|why| Box::new(Fared::failed(customer.clone(), Fate::Waiting, why)));
        self.callers.tell(*id, fared.map(Event::Ended));
    }

    /// Each second: what waits in the ledger is kept, and what is too late for its
    /// deadline ends.
    pub fn keep_what_waits(&mut self) {
        self.quarantine.unsure |= std::mem::take(&mut self.quarantine.postponed);
        let now = self.clock.now();
        let is_late = |job: &Job| job.delivery.deadline.is_some_and(|deadline| deadline <= now);
        let late: Vec<DeliveryId> =
            self.quarantine.waiting.iter().filter(|(_, job)| is_late(job)).map(|(id, _)| *id).collect();
        for id in late {
            let Some(job) = self.quarantine.remove(id) else { continue };
            let why = self.quarantine.passed(&self.generation.config, &job);
            self.end(Job { task: Task::Again { begun: false }, ..job }, why);
        }
        if self.quarantine.shares.is_empty() || self.quarantine.keeping {
            return;
        }
        self.quarantine.keeping = true;
        let (ledger, shares) = (self.ledger.clone(), self.quarantine.shares.clone());
        self.calls.ask(async move { Answer::Kept(ledger.keep_waiting(shares).await) });
    }

    pub fn kept(&mut self, kept: Result<Vec<(Slot, SkipReason)>, LedgerError>) -> Result<(), LedgerError> {
        self.quarantine.keeping = false;
        match kept {
            Ok(left_out) => {
                if !left_out.is_empty() {
                    crash::point(Point::LeftOut);
                }
                self.tally.left_out += left_out::tell(&left_out);
            }
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => tracing::debug!(error = Failure::chain(&error), "what waits for a plugin could not be kept"),
        }
        Ok(())
    }
}
