//! Whose turn it is. Deliveries wait here for a place, and a place is given to
//! whoever keeps within every limit: of all, of the late ones, of its share, of its
//! plugin, of its customer, of its customer's bucket, and of its share and plugin there.
//! So none of these can hold up the others, not those of one customer either.
//!
//! Those on time come before the late ones. Among equals shares take turns,
//! within a share its buckets, within a bucket its customers, and the deliveries
//! of one customer go in order. That is a tree: shares, buckets, customers.
//!
//! Nothing is looked through to find who may begin. A branch whose limit is
//! reached is set aside at that limit, and the first one that was set aside there
//! comes back when a place is given back. So what waits costs nothing, however much it is.

mod limits;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeSet, HashMap, VecDeque};

pub(super) use limits::Limits;
use tree::{Branch, ROOT, Tree};

use crate::clock::Instant;
use crate::domain::{BucketName, CustomerName, PluginName, ShareName};
use crate::ledger::{DeliveryId, Wanted};

/// What a delivery needs a place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub share: ShareName,
    /// None without one, and for one that is part of consign, which does not hang.
    pub plugin: Option<PluginName>,
    /// None when the customer is gone: it fails without asking any bucket.
    pub bucket: Option<BucketName>,
    pub customer: CustomerName,
    /// Caught up or filled in: behind all that is on time.
    pub late: bool,
}

impl Place {
    /// Where the delivery goes.
    pub fn bucket(&self) -> Option<Of> {
        self.0.bucket.clone().map(Of::Bucket)
    }

    /// Whose role it goes under.
    pub fn customer(&self) -> Of {
        Of::Customer(self.0.customer.clone())
    }

    pub fn asks(&self, of: &Of) -> bool {
        self.0.asks(of)
    }
}

/// A place at work, to be given back with [`Queue::done`].
#[derive(Debug)]
#[must_use = "a place that is not given back is lost"]
pub(super) struct Place(Turn);

/// Something of which only so many deliveries are at work at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Of {
    Share(ShareName),
    Plugin(PluginName),
    Bucket(BucketName),
    Customer(CustomerName),
    /// The first, of the places of the second.
    Within(Box<[Of; 2]>),
}

const ON_TIME: usize = 0;
const LATE: usize = 1;
const LANES: [usize; 2] = [ON_TIME, LATE];

/// After so many places, branches that may have been left aside are looked at, also
/// when there is enough else to do.
const MENDED_EACH: u64 = 16;

/// Who waits in memory. Beyond that what is planned stays in the ledger, but for the
/// first slot of each share: a share with very many customers is in nobody's way.
const WAITING_MAX: usize = 100_000;

/// Shares that are passed over when the ledger is asked.
const EXCEPT_MAX: usize = 10_000;

struct Waiting<J> {
    job: J,
    turn: Turn,
    deadline: Option<Instant>,
    /// The order in which they came.
    number: u64,
    leaf: Branch,
}

/// Jobs `J`, one for each delivery, that wait for a place.
pub(super) struct Queue<J> {
    limits: Limits,
    waiting: HashMap<DeliveryId, Waiting<J>>,
    /// Of those that are to be taken out then.
    deadlines: BTreeSet<(Instant, DeliveryId)>,
    lanes: [Tree; 2],
    /// How many wait of each share, in each lane.
    of_share: [HashMap<ShareName, usize>; 2],
    at_work: usize,
    late_at_work: usize,
    /// What has places at work, and how many.
    uses: HashMap<Of, usize>,
    /// Branches of each lane whose limit was reached.
    aside: HashMap<Of, [VecDeque<Branch>; 2]>,
    /// What had a place left when more was set aside there.
    unsure: BTreeSet<Of>,
    /// Buckets and customers with fewer places than the others, for now.
    narrowed: HashMap<Of, usize>,
    numbers: u64,
    given: u64,
}

impl<J> Queue<J> {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: HashMap::new(),
            deadlines: BTreeSet::new(),
            lanes: [Tree::default(), Tree::default()],
            of_share: Default::default(),
            at_work: 0,
            late_at_work: 0,
            uses: HashMap::new(),
            aside: HashMap::new(),
            unsure: BTreeSet::new(),
            narrowed: HashMap::new(),
            numbers: 0,
            given: 0,
        }
    }

    pub fn at_work(&self) -> usize {
        self.at_work
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn has(&self, id: DeliveryId) -> bool {
        self.waiting.contains_key(&id)
    }

    /// With a `deadline` the job is to be taken out when it has passed.
    pub fn push(&mut self, id: DeliveryId, turn: Turn, deadline: Option<Instant>, job: J) {
        // Twice in it, it would never leave.
        drop(self.remove(id));
        let path = turn.path();
        let leaf = self.lanes[turn.lane()].push(id, path);
        *self.of_share[turn.lane()].entry(turn.share.clone()).or_default() += 1;
        self.deadlines.extend(deadline.map(|at| (at, id)));
        let number = self.numbers;
        self.numbers += 1;
        self.waiting.insert(id, Waiting { job, turn, deadline, number, leaf });
    }

    /// The next that may begin, with its place.
    pub fn next(&mut self) -> Option<(J, Place)> {
        if self.at_work >= self.limits.all {
            return None;
        }
        for lane in LANES {
            if lane == LATE && self.late_at_work >= self.limits.late {
                return None;
            }
            loop {
                if let Some(id) = self.pick(lane, ROOT) {
                    return self.begin(id);
                }
                if !self.look_again(lane) {
                    break;
                }
            }
        }
        None
    }

    /// Gives a place back.
    pub fn done(&mut self, place: Place) {
        let Place(turn) = place;
        self.at_work -= 1;
        self.late_at_work -= usize::from(turn.late);
        for of in turn.path() {
            if let Some(uses) = self.uses.get_mut(&of) {
                *uses -= 1;
                if *uses == 0 {
                    self.uses.remove(&of);
                }
            }
            for lane in LANES {
                self.come_back(&of, lane);
            }
        }
    }

    /// Lets a bucket or a customer have so many places at most, also 0; None for as many as usual.
    pub fn narrow(&mut self, of: &Of, places: Option<usize>) {
        match places {
            Some(places) => self.narrowed.insert(of.clone(), places),
            None => self.narrowed.remove(of),
        };
        // Nothing is given back that would bring them.
        for lane in LANES {
            while self.come_back(of, lane) {}
        }
    }

    /// Takes out one that waits: it is told to end.
    pub fn remove(&mut self, id: DeliveryId) -> Option<J> {
        let Waiting { job, turn, deadline, leaf, .. } = self.waiting.remove(&id)?;
        self.deadlines.remove(&(deadline.unwrap_or_default(), id));
        self.lanes[turn.lane()].forget(leaf);
        let of_share = &mut self.of_share[turn.lane()];
        if let Some(waiting) = of_share.get_mut(&turn.share) {
            *waiting -= 1;
            if *waiting == 0 {
                of_share.remove(&turn.share);
            }
        }
        Some(job)
    }

    /// Takes out those of which this is so, in the order in which they came.
    pub fn take(&mut self, which: impl Fn(&J) -> bool) -> Vec<J> {
        let taken = self.waiting.iter().filter(|(_, waiting)| which(&waiting.job));
        let mut taken: Vec<_> = taken.map(|(id, waiting)| (waiting.number, *id)).collect();
        taken.sort_unstable();
        taken.into_iter().filter_map(|(_, id)| self.remove(id)).collect()
    }

    /// Takes out one whose deadline has passed.
    pub fn overdue(&mut self, now: Instant) -> Option<J> {
        let (_, id) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now)?;
        self.remove(id)
    }

    /// What to claim, on time and late, so that places do not stay empty: a slot for
    /// each place that is left, and a few so that the next place is taken at once. Not
    /// of shares that have enough here: the slots behind theirs may be other shares'.
    pub fn wanted(&self) -> [Wanted; 2] {
        let left = self.limits.all.saturating_sub(self.at_work);
        let late_left = self.limits.late.saturating_sub(self.late_at_work);
        let ahead = (self.limits.all / 2).max(1);
        let on_time = self.wanted_of(ON_TIME, left + ahead);
        let late = if late_left == 0 { 0 } else { late_left.min(left) + 1 };
        [on_time, self.wanted_of(LATE, late)]
    }

    fn wanted_of(&self, lane: usize, wanted: usize) -> Wanted {
        let slots = wanted.saturating_sub(self.lanes[lane].turns());
        let is_full = self.waiting.len() >= WAITING_MAX;
        if slots == 0 || (is_full && self.of_share[lane].len() > EXCEPT_MAX) {
            return Wanted::default();
        }
        let full = self.uses.iter().filter(|(of, uses)| **uses >= self.limit(of)).filter_map(|(of, _)| of.share());
        let except: BTreeSet<&ShareName> = match is_full {
            true => self.of_share[lane].keys().chain(full).collect(),
            false => self.lanes[lane].ready().filter_map(Of::share).chain(full).collect(),
        };
        Wanted { slots, except: except.into_iter().cloned().collect() }
    }

    /// Goes on with other limits, and with what each that waits now needs a place of.
    pub fn renew(&mut self, limits: Limits, turn: impl Fn(&J) -> Turn) {
        let mut waiting: Vec<_> = self.waiting.drain().collect();
        waiting.sort_unstable_by_key(|(_, waiting)| waiting.number);
        self.limits = limits;
        self.lanes = [Tree::default(), Tree::default()];
        self.of_share = Default::default();
        self.aside.clear();
        self.unsure.clear();
        self.deadlines.clear();
        for (id, Waiting { job, deadline, .. }) in waiting {
            self.push(id, turn(&job), deadline, job);
        }
    }

    fn limit(&self, of: &Of) -> usize {
        match of {
            Of::Share(_) => self.limits.share,
            Of::Plugin(_) => self.limits.plugin,
            Of::Bucket(_) => self.limits.bucket,
            Of::Customer(_) => self.limits.customer,
            Of::Within(of) => self.limits.within(self.limit(&of[0]), self.limit(&of[1])),
        }
    }

    fn is_full(&self, of: &Of) -> bool {
        let narrowed = self.narrowed.get(of).copied();
        let limit = narrowed.map_or(self.limit(of), |narrowed| narrowed.min(self.limit(of)));
        self.uses.get(of).copied().unwrap_or_default() >= limit
    }

    /// The next below a branch, in turn. What turns out to be full is set aside.
    fn pick(&mut self, lane: usize, branch: Branch) -> Option<DeliveryId> {
        loop {
            if let Some(id) = self.lanes[lane].next_job(branch, |id| self.waiting.contains_key(id)) {
                return Some(id);
            }
            let (child, of) = self.lanes[lane].next_child(branch)?;
            if self.is_full(&of) {
                self.lanes[lane].set_aside(child);
                self.aside.entry(of).or_default()[lane].push_back(child);
                continue;
            }
            let picked = self.pick(lane, child);
            self.lanes[lane].had_its_turn(child);
            if picked.is_some() {
                return picked;
            }
        }
    }

    fn begin(&mut self, id: DeliveryId) -> Option<(J, Place)> {
        let turn = self.waiting.get(&id)?.turn.clone();
        self.at_work += 1;
        self.late_at_work += usize::from(turn.late);
        for of in turn.path() {
            *self.uses.entry(of).or_default() += 1;
        }
        let job = self.remove(id)?;
        self.given += 1;
        if self.given.is_multiple_of(MENDED_EACH) {
            for lane in LANES {
                self.look_again(lane);
            }
        }
        Some((job, Place(turn)))
    }

    /// The first that was set aside here takes its turns again, if there is a place.
    fn come_back(&mut self, of: &Of, lane: usize) -> bool {
        if self.is_full(of) {
            return false;
        }
        let Some(aside) = self.aside.get_mut(of) else { return false };
        let mut came = false;
        while let Some(branch) = aside[lane].pop_front() {
            if self.lanes[lane].come_back(branch) {
                came = true;
                break;
            }
        }
        if aside.iter().all(VecDeque::is_empty) {
            self.aside.remove(of);
            self.unsure.remove(of);
        } else {
            self.unsure.insert(of.clone());
        }
        came
    }

    /// Whoever came back may not have used its place, because another limit of its
    /// was reached. Then the place is for the next one that was set aside there.
    fn look_again(&mut self, lane: usize) -> bool {
        let unsure = std::mem::take(&mut self.unsure);
        let mut came = false;
        for of in unsure {
            came |= self.come_back(&of, lane);
        }
        came
    }
}

impl Turn {
    /// Who is asked for it: STS for its customer's role, and its bucket.
    pub fn asked(&self) -> [Option<Of>; 2] {
        [self.bucket.as_ref().map(|_| Of::Customer(self.customer.clone())), self.bucket.clone().map(Of::Bucket)]
    }

    pub fn asks(&self, of: &Of) -> bool {
        self.asked().contains(&Some(of.clone()))
    }

    fn lane(&self) -> usize {
        if self.late { LATE } else { ON_TIME }
    }

    /// From the share down.
    fn path(&self) -> Vec<Of> {
        let work = [Some(Of::Share(self.share.clone())), self.plugin.clone().map(Of::Plugin)];
        let places = [self.bucket.clone().map(Of::Bucket), Some(Of::Customer(self.customer.clone()))];
        let mut path: Vec<Of> = work.iter().flatten().cloned().collect();
        for place in places.into_iter().flatten() {
            path.extend(work.iter().flatten().map(|of| Of::Within(Box::new([of.clone(), place.clone()]))));
            path.push(place);
        }
        path
    }
}

/// As who does not answer.
impl std::fmt::Display for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Of::Bucket(bucket) => write!(f, "bucket '{bucket}'"),
            Of::Customer(customer) => write!(f, "STS for customer '{customer}'"),
            Of::Share(share) => write!(f, "share {share}"),
            Of::Plugin(plugin) => write!(f, "plugin {plugin}"),
            Of::Within(of) => write!(f, "{} in {}", of[0], of[1]),
        }
    }
}

impl Of {
    fn share(&self) -> Option<&ShareName> {
        match self {
            Of::Share(share) => Some(share),
            Of::Plugin(_) | Of::Bucket(_) | Of::Customer(_) | Of::Within(_) => None,
        }
    }
}
