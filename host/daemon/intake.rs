//! From the schedule to the queue: what is due is planned in the ledger, and what
//! is pending there is claimed as places come free.

use std::collections::HashMap;
use std::sync::Arc;

use super::calls::Answer;
use super::desk::Desk;
use super::job::{Delivery, Job, Task};
use super::left_out;
use crate::clock::{Instant, exact};
use crate::config::{Config, Overlap, Share};
use crate::crash::{self, Point};
use crate::domain::{CustomerName, Failure, ShareName};
use crate::ledger::{Claim, Claims, DeliveryId, Ledger, LedgerError, Planned, Recorded};
use crate::schedule::{Due, Plan, Planner, Recurring};

/// How far planning and claiming are.
pub(super) struct Intake {
    planner: Planner,
    /// Something may be due that is not planned.
    due: bool,
    /// The ledger has a plan and has not answered.
    planning: bool,
    /// That plan is the planner's of before.
    is_of_before: bool,
    /// Something may be pending in the ledger.
    pending: bool,
    claiming: bool,
    /// Shares are planned ahead of the clock, and it has been said.
    ahead: bool,
    /// Why the ledger did not take a plan, or a claim.
    unable: [Option<&'static str>; 2],
}

const PLAN: usize = 0;
const CLAIM: usize = 1;

impl Intake {
    pub async fn open(ledger: &Ledger, config: &Config, now: Instant) -> Result<Self, LedgerError> {
        let planner = planner(ledger, config, now).await?;
        Ok(Self {
            planner,
            due: true,
            planning: false,
            is_of_before: false,
            pending: true,
            claiming: false,
            ahead: false,
            unable: [None; 2],
        })
    }

    /// Plans by another configuration from now on. Returns the planner of before.
    pub fn adopt(&mut self, mut planner: Planner, now: Instant) -> Planner {
        planner.go_on_from(&self.planner, now);
        self.plan_anew(planner)
    }

    /// Plans from where this one begins, also if that is earlier: what is on record is
    /// not planned again. Returns the planner of before.
    pub fn plan_anew(&mut self, planner: Planner) -> Planner {
        self.is_of_before = self.planning;
        self.look();
        std::mem::replace(&mut self.planner, planner)
    }

    /// Has the schedule and the ledger looked at.
    pub fn look(&mut self) {
        self.due = true;
        self.pending = true;
    }

    /// Says so when the clock has been put back behind what is planned.
    pub fn look_at_clock(&mut self, now: Instant) {
        let was_ahead = std::mem::replace(&mut self.ahead, self.planner.is_ahead(now));
        if self.ahead && !was_ahead {
            let ahead = self.planner.ahead(now);
            let (shares, until) = (ahead.len(), ahead.iter().map(|(_, at)| *at).max().unwrap_or(now));
            let share = ahead.iter().map(|(share, _)| share.as_str()).min().unwrap_or_default();
            let (until, remedy) = (exact(until), "`consign ledger rewind` has them fire from now on");
            tracing::warn!(
                shares,
                share,
                until,
                remedy,
                "the clock was ahead: shares do not fire until it is there again"
            );
        }
        if was_ahead && !self.ahead {
            tracing::info!("no share is planned ahead of the clock any more");
        }
    }

    pub fn look_for_pending(&mut self) {
        self.pending = true;
    }

    /// Why nothing new can be recorded.
    pub fn unable(&self) -> Option<&'static str> {
        self.unable[PLAN].or(self.unable[CLAIM])
    }

    pub fn next_slot(&self) -> Option<Instant> {
        self.planner.next()
    }

    /// The next slots that are due, with their shares.
    pub fn coming(&self, limit: usize) -> Vec<(ShareName, Instant)> {
        self.planner.coming(limit)
    }

    /// A disk without room, or a database that does not answer, stops new work and
    /// not the daemon: the next tick tries again.
    fn recorded<T>(&mut self, what: usize, answer: Result<T, LedgerError>) -> Result<Option<T>, LedgerError> {
        match answer {
            Ok(answer) => {
                self.is_able(what);
                Ok(Some(answer))
            }
            Err(error) if error.passes().is_some() => {
                let was_able = self.unable().is_none();
                self.unable[what] = error.passes();
                if was_able {
                    tracing::error!(error = Failure::chain(&error), "cannot record slots");
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn is_able(&mut self, what: usize) {
        if self.unable[what].take().is_some() && self.unable().is_none() {
            tracing::info!("the ledger can be written again");
        }
    }
}

impl Desk {
    /// Has what is due recorded.
    pub fn plan(&mut self, now: Instant) {
        if !self.intake.due || self.intake.planning {
            return;
        }
        self.intake.due = false;
        let plan = self.intake.planner.due(now);
        if plan.is_empty() {
            // What it could not take is no longer wanted.
            return self.intake.is_able(PLAN);
        }
        self.intake.planning = true;
        let planned = self.to_plan(&plan.due);
        let ledger = self.ledger.clone();
        self.calls.ask(async move {
            let planned = ledger.plan(planned, plan.cursors.clone()).await;
            Answer::Planned(plan, planned)
        });
    }

    fn to_plan(&self, due: &[Due]) -> Vec<Planned> {
        // A list for each share, whose slots have it in common.
        let of_one_share = due.chunk_by(|one, other| one.slot.share == other.slot.share);
        let planned = of_one_share.flat_map(|due| {
            let share = due.first().and_then(|due| self.generation.config.shares.get(&due.slot.share));
            let customers: Arc<[CustomerName]> = share.map(|share| share.to.as_slice()).unwrap_or_default().into();
            due.iter().map(move |due| Planned {
                slot: due.slot.clone(),
                customers: customers.clone(),
                origin: due.origin,
                overlap: share.map_or(Overlap::Allow, |share| self.overlap(share)),
                deadline: share.and_then(|share| share.deadline).map(|deadline| due.slot.at + deadline),
                skip: due.skip,
            })
        });
        planned.collect()
    }

    /// What is due while nothing of a share is started is not left out for what waits already.
    fn overlap(&self, share: &Share) -> Overlap {
        match share.overlap {
            Overlap::Skip if self.quarantine.holds(&share.name) => Overlap::Queue,
            overlap => overlap,
        }
    }

    pub fn planned(&mut self, plan: &Plan, planned: Result<Recorded, LedgerError>) -> Result<(), LedgerError> {
        self.intake.planning = false;
        let is_of_before = std::mem::take(&mut self.intake.is_of_before);
        let Some(recorded) = self.intake.recorded(PLAN, planned)? else { return Ok(()) };
        crash::point(Point::Planned);
        match is_of_before {
            true => self.intake.planner.catch_up(&plan.cursors),
            false => self.intake.planner.recorded(plan),
        }
        self.intake.due |= plan.more;
        self.intake.pending = true;
        self.tally.left_out += left_out::tell(&recorded.left_out);
        Ok(())
    }

    /// Has slots begun in the ledger for which there are places.
    pub fn claim(&mut self) {
        if !self.intake.pending || self.intake.claiming {
            return;
        }
        let [mut on_time, mut late] = self.queue.wanted();
        if on_time.slots + late.slots == 0 {
            return;
        }
        for wanted in [&mut on_time, &mut late] {
            wanted.except.extend_from_slice(self.quarantine.shares());
        }
        self.intake.claiming = true;
        // What becomes pending from here on may be too late for this look.
        self.intake.pending = false;
        let ledger = self.ledger.clone();
        self.calls.ask(async move { Answer::Claimed(ledger.claim(on_time, late).await) });
    }

    pub fn claimed(&mut self, claims: Result<Claims, LedgerError>) -> Result<(), LedgerError> {
        self.intake.claiming = false;
        let Some(claims) = self.intake.recorded(CLAIM, claims)? else { return Ok(()) };
        if !claims.runs.is_empty() {
            crash::point(Point::Claimed);
        }
        if claims.runs.is_empty() && claims.looked_at > 0 {
            crash::point(Point::Held);
        }
        if !claims.skipped.is_empty() {
            crash::point(Point::LeftOut);
        }
        if !claims.cancelled.is_empty() {
            crash::point(Point::Marked);
        }
        self.intake.pending |= claims.looked_at > 0;
        self.tally.left_out += left_out::tell(&claims.skipped);
        for delivery in claims.cancelled {
            self.look_at_cancelled(delivery);
        }
        for claim in claims.runs {
            self.take_in(claim);
        }
        Ok(())
    }

    /// Has a delivery ended that is marked for it.
    pub fn look_at_cancelled(&mut self, delivery: DeliveryId) {
        let ledger = self.ledger.clone();
        self.calls.ask(async move { Answer::Cancelled(delivery, ledger.open_delivery(delivery).await.map(Box::new)) });
    }

    /// The deliveries of a run wait for their places.
    pub fn take_in(&mut self, claim: Claim) {
        let Claim { run, slot, origin, deadline, deliveries } = claim;
        let (share, at) = (&slot.share, exact(slot.at));
        tracing::info!(%run, %share, slot = %at, deliveries = deliveries.len(), "run begins");
        if deliveries.is_empty() {
            return self.finish(run, share.clone());
        }
        self.open.insert(run, deliveries.len());
        for (customer, id) in deliveries {
            let late = origin.is_late();
            let delivery = Delivery { id, run, slot: slot.clone(), customer, origin, late, deadline };
            self.enqueue(Job { delivery, task: Task::Deliver });
        }
    }
}

/// Each share goes on from where the ledger knows it to be. Takes long with many
/// shares: not to be done in the loop.
pub(super) async fn planner(ledger: &Ledger, config: &Config, now: Instant) -> Result<Planner, LedgerError> {
    let cursors: HashMap<ShareName, _> = ledger.cursors().await?.into_iter().collect();
    let recurring = config.shares.iter().map(|(name, share)| {
        let (calendar, jitter, catch_up) = (share.calendar.clone(), share.jitter, share.catch_up);
        let (cursor, last) = (cursors.get(name).map(|cursor| cursor.at), cursors.get(name).and_then(|of| of.last));
        Recurring { share: name.clone(), calendar, jitter, catch_up, cursor, last, customers: share.to.len() }
    });
    Ok(tokio::task::block_in_place(|| Planner::new(recurring, now)))
}
