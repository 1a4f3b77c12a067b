use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { all: 8, late: 4, share: 6, plugin: 5, customer: 2, bucket: 3 };

fn turn(share: u32, customer: u32) -> Turn {
    let bucket = BucketName::parse(&format!("bucket-{}", customer / 2)).unwrap();
    Turn {
        share: ShareName::parse(&format!("s{share}")).unwrap(),
        plugin: None,
        bucket: Some(bucket),
        customer: CustomerName::parse(&format!("c{customer}")).unwrap(),
        late: false,
    }
}

fn through(plugin: &str, turn: Turn) -> Turn {
    Turn { plugin: Some(PluginName::parse(plugin).unwrap()), ..turn }
}

fn late(share: u32, customer: u32) -> Turn {
    Turn { late: true, ..turn(share, customer) }
}

/// A queue of numbered jobs, which are their own deliveries.
fn queue(limits: Limits, turns: impl IntoIterator<Item = Turn>) -> Queue<i64> {
    let mut queue = Queue::new(limits);
    for (id, turn) in (0..).zip(turns) {
        queue.push(DeliveryId(id), turn, None, id);
    }
    queue
}

/// Gives out places until nobody may begin.
fn begin_all(queue: &mut Queue<i64>) -> Vec<(i64, Place)> {
    std::iter::from_fn(|| queue.next()).collect()
}

fn begun(queue: &mut Queue<i64>) -> Vec<i64> {
    begin_all(queue).into_iter().map(|(id, _)| id).collect()
}

/// How many places the thousand that hang have taken when the other thousand is done.
fn places_of(hanging: impl Iterator<Item = Turn>, good: impl Iterator<Item = Turn>) -> usize {
    let mut queue = queue(LIMITS, hanging.chain(good));
    let (mut stuck, mut done) = (Vec::new(), BTreeSet::new());
    while done.len() < 1000 {
        let begun = begin_all(&mut queue);
        assert!(!begun.is_empty(), "places stay empty after {} deliveries", done.len());
        for (id, place) in begun {
            match id < 1000 {
                true => stuck.push(place),
                false => {
                    assert!(done.insert(id));
                    queue.done(place);
                }
            }
        }
    }
    stuck.len()
}

#[test]
fn shares_take_turns_and_so_do_their_customers() {
    let many = (0..40).map(|n| turn(0, n % 4 * 2));
    let mut queue = queue(
        Limits { all: 100, late: 50, share: 100, plugin: 100, customer: 100, bucket: 100 },
        many.chain([turn(1, 8), turn(2, 8)]),
    );
    let order = begun(&mut queue);
    assert_eq!(order[..3], [0, 40, 41], "one of each share");
    assert_eq!(order[3..8], [1, 2, 3, 4, 5], "one of each customer, and of each the first");
}

#[test]
fn a_share_that_hangs_leaves_places_to_the_others() {
    let hanging = (0..1000).map(|n| turn(0, n * 2));
    let good = (0..1000).map(|n| turn(1 + n % 10, n * 2));
    assert_eq!(places_of(hanging, good), LIMITS.share);
}

#[test]
fn a_plugin_of_several_shares_that_hangs_leaves_places_to_the_others() {
    let hanging = (0..1000).map(|n| through("hangs", turn(n % 3, n * 2)));
    let good = (0..1000).map(|n| turn(3 + n % 10, n * 2)).map(|good| match good.share.as_str() {
        "s3" => through("good", good),
        _ => good,
    });
    assert_eq!(places_of(hanging, good), LIMITS.plugin);
}

/// Or a share of three customers would take all places that the three may have.
#[test]
fn a_share_and_a_plugin_that_hang_leave_each_customer_a_place_for_its_others() {
    let good = || (0..1000).map(|n| turn(3 + n % 10, n % 3 * 2));
    assert_eq!(places_of((0..1000).map(|n| turn(0, n % 3 * 2)), good()), 3);
    assert_eq!(places_of((0..1000).map(|n| through("hangs", turn(n % 3, n % 3 * 2))), good()), 3);
}

#[test]
fn a_customer_and_a_bucket_that_hang_leave_places_to_the_others() {
    // Customers 0 and 1 have one bucket.
    let hanging = (0..1000).map(|n| turn(n % 50, n % 2));
    let good = (0..1000).map(|n| turn(n % 50, 2 + n % 20));
    assert_eq!(places_of(hanging, good), LIMITS.bucket);
}

#[test]
fn what_is_late_comes_behind_and_has_half_of_the_places() {
    let turns = (0..20).map(|n| late(n, n * 2)).chain((20..23).map(|n| turn(n, n * 2)));
    let mut queue = queue(LIMITS, turns);
    let mut at_work = begin_all(&mut queue);
    let order: Vec<i64> = at_work.iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [20, 21, 22, 0, 1, 2, 3], "and one place is kept for what comes on time");
    queue.push(DeliveryId(100), turn(23, 46), None, 100);
    assert_eq!(begun(&mut queue), [100]);
    queue.done(at_work.pop().unwrap().1);
    assert_eq!(begun(&mut queue), [4]);
}

#[test]
fn what_is_told_to_end_or_too_late_is_taken_out_at_once() {
    let at = |secs| Instant::from_timestamp(secs, 0).unwrap();
    let mut queue = queue(LIMITS, []);
    for (id, deadline) in [(0, None), (1, Some(at(20))), (2, Some(at(10))), (3, Some(at(30)))] {
        queue.push(DeliveryId(id), turn(0, 0), deadline, id);
    }
    assert_eq!((queue.overdue(at(9)), queue.overdue(at(25)), queue.overdue(at(25))), (None, Some(2), Some(1)));
    assert_eq!(queue.overdue(at(25)), None);
    assert_eq!((queue.remove(DeliveryId(0)), queue.remove(DeliveryId(0))), (Some(0), None));
    assert_eq!((begun(&mut queue), queue.waiting()), (vec![3], 0));
}

#[test]
fn what_is_put_in_twice_is_in_it_once() {
    let mut queue = queue(LIMITS, [turn(0, 0), turn(1, 1)]);
    queue.push(DeliveryId(0), late(0, 0), None, 7);
    assert_eq!(queue.waiting(), 2);
    assert_eq!((begun(&mut queue), queue.waiting()), (vec![1, 7], 0));
}

#[test]
fn other_limits_are_for_all_that_waits() {
    // One share among others would have a part of these only.
    let limits = Limits { share: LIMITS.all, ..LIMITS };
    let mut queue = queue(limits, (0..10).map(|_| turn(0, 0)));
    let mut at_work = begin_all(&mut queue);
    assert_eq!(at_work.len(), limits.customer);
    queue.renew(Limits { customer: 4, bucket: 8, ..limits }, |_| turn(0, 0));
    at_work.extend(begin_all(&mut queue));
    assert_eq!(at_work.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1, 2, 3]);
    queue.renew(Limits { customer: 1, ..limits }, |_| turn(0, 0));
    for (at_work, place) in at_work {
        let left = 3 - at_work;
        queue.done(place);
        assert_eq!(queue.next().is_some(), left == 0, "{left} at work of the other limit");
    }
    // The customer has moved: its new bucket is nobody's yet.
    queue.renew(limits, |_| turn(0, 9));
    assert_eq!(begun(&mut queue), [5, 6]);
}

#[test]
fn slots_are_wanted_of_shares_that_have_none_here() {
    let mut queue = queue(LIMITS, (0..20).map(|n| turn(0, n * 2)).chain([turn(1, 0)]));
    let names = |wanted: &Wanted| wanted.except.iter().map(ToString::to_string).collect::<Vec<_>>();
    let [on_time, late] = queue.wanted();
    assert_eq!((on_time.slots, names(&on_time)), (8 + 4 - 2, vec!["s0".to_owned(), "s1".to_owned()]));
    assert_eq!((late.slots, names(&late)), (5, vec![]));
    let at_work = begin_all(&mut queue);
    assert_eq!(at_work.len(), 7);
    let [on_time, late] = queue.wanted();
    assert_eq!((on_time.slots, names(&on_time)), (5, vec!["s0".to_owned()]), "a share that is full waits here enough");
    assert_eq!((late.slots, names(&late)), (2, vec!["s0".to_owned()]));
}

/// However much waits, and whatever is full: each branch is looked at a few times for each delivery.
#[test]
fn nothing_is_looked_through() {
    const JOBS: u32 = 100_000;
    let limits = Limits { all: 64, late: 32, share: 8, plugin: 12, customer: 4, bucket: 6 };
    type World = (&'static str, fn(u32) -> Turn);
    let worlds: [World; 6] = [
        ("one share", |n| turn(0, n)),
        ("one plugin", |n| through("own", turn(n, n))),
        ("one customer", |n| turn(n, 0)),
        ("one bucket", |n| turn(n, n % 2)),
        ("many of each", |n| turn(n % 1000, n / 1000)),
        ("few of each, half of them late", |n| Turn { late: n % 2 == 0, ..turn(n % 3, n % 11) }),
    ];
    for (world, turn) in worlds {
        let mut queue = queue(limits, (0..JOBS).map(turn));
        let mut at_work = VecDeque::new();
        for done in 0..JOBS {
            at_work.extend(begin_all(&mut queue));
            let (_, place) = at_work.pop_front().unwrap_or_else(|| panic!("{world}: nothing begins after {done}"));
            queue.done(place);
        }
        assert_eq!((queue.waiting(), queue.at_work(), queue.aside.len()), (0, 0, 0), "{world}");
        let looks = queue.lanes.iter().map(|lane| lane.looks).sum::<u64>();
        assert!(looks < 20 * u64::from(JOBS), "{world}: {looks} looks");
        let branches = queue.lanes.iter().map(Tree::len).sum::<usize>();
        assert!(branches <= 3, "{world}: {branches} branches are left");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push { share: u32, customer: u32, late: bool },
    Begin,
    Done(prop::sample::Index),
    Remove(prop::sample::Index),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..4u32, 0..6u32, any::<bool>()).prop_map(|(share, customer, late)| Op::Push { share, customer, late }),
        3 => Just(Op::Begin),
        2 => any::<prop::sample::Index>().prop_map(Op::Done),
        1 => any::<prop::sample::Index>().prop_map(Op::Remove),
    ]
}

/// What a queue may do, found by looking at everything.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<i64, Turn>,
    at_work: Vec<(Turn, Place)>,
}

impl Model {
    fn may_begin(&self, turn: &Turn, limits: &Limits) -> bool {
        let count = |same: &dyn Fn(&Turn) -> bool| self.at_work.iter().filter(|(turn, _)| same(turn)).count();
        count(&|_| true) < limits.all
            && (!turn.late || count(&|other| other.late) < limits.late)
            && count(&|other| other.share == turn.share) < limits.share
            && (turn.plugin.is_none() || count(&|other| other.plugin == turn.plugin) < limits.plugin)
            && count(&|other| other.customer == turn.customer) < limits.customer
            && count(&|other| other.bucket == turn.bucket) < limits.bucket
            && self.may_begin_there(turn, limits)
    }

    /// Of the places of its customer and bucket.
    fn may_begin_there(&self, turn: &Turn, limits: &Limits) -> bool {
        let at_work = || self.at_work.iter().map(|(turn, _)| turn);
        let most = |of_one, places: usize| if of_one < limits.all { (places * 3 / 4).max(1) } else { places };
        let keeps = |places: usize, is_there: &dyn Fn(&Turn) -> bool| {
            let share = at_work().filter(|other| is_there(other) && other.share == turn.share).count();
            let plugin = at_work().filter(|other| is_there(other) && other.plugin == turn.plugin).count();
            share < most(limits.share, places) && (turn.plugin.is_none() || plugin < most(limits.plugin, places))
        };
        keeps(limits.customer, &|other| other.customer == turn.customer)
            && keeps(limits.bucket, &|other| other.bucket == turn.bucket)
    }

    fn begin(&mut self, queue: &mut Queue<i64>, limits: &Limits) {
        let may: Vec<i64> =
            self.waiting.iter().filter(|(_, turn)| self.may_begin(turn, limits)).map(|(id, _)| *id).collect();
        let Some((id, place)) = queue.next() else {
            assert!(may.is_empty(), "{may:?} may begin and nobody does");
            return;
        };
        assert!(may.contains(&id), "{id} begins, but only {may:?} may");
        let turn = self.waiting.remove(&id).unwrap();
        let on_time = may.iter().filter_map(|id| self.waiting.get(id)).any(|turn| !turn.late);
        assert!(!turn.late || !on_time, "{id} is late and begins before one on time");
        assert!(!self.waiting.iter().any(|(other, of)| *other < id && *of == turn), "{id} begins before its time");
        self.at_work.push((turn, place));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every limit is kept, no place stays empty that somebody may have, and everybody has a turn.
    #[test]
    fn whoever_may_begin_does(
        ops in prop::collection::vec(op(), 1..150),
        limits in (1..7usize, 1..4usize, 1..5usize, 1..4usize, 1..4usize, 1..4usize),
    ) {
        let (all, late, share, plugin, customer, bucket) = limits;
        let limits = Limits { all, late, share, plugin, customer, bucket };
        let (mut queue, mut model) = (Queue::new(limits), Model::default());
        for (id, op) in (0..).zip(ops) {
            match op {
                Op::Push { share, customer, late } => {
                    let turn = Turn { late, ..turn(share, customer) };
                    // A share has one plugin, or none.
                    let turn = if share < 2 { through("own", turn) } else { turn };
                    queue.push(DeliveryId(id), turn.clone(), None, id);
                    model.waiting.insert(id, turn);
                }
                Op::Begin => model.begin(&mut queue, &limits),
                Op::Done(_) if model.at_work.is_empty() => {}
                Op::Done(which) => {
                    let (_, place) = model.at_work.swap_remove(which.index(model.at_work.len()));
                    queue.done(place);
                }
                Op::Remove(_) if model.waiting.is_empty() => {}
                Op::Remove(which) => {
                    let id = *model.waiting.keys().nth(which.index(model.waiting.len())).unwrap();
                    model.waiting.remove(&id);
                    assert_eq!(queue.remove(DeliveryId(id)), Some(id));
                }
            }
        }
        while !model.waiting.is_empty() {
            let before = model.waiting.len();
            let begins = |model: &mut Model, queue: &mut Queue<i64>| {
                let waiting = model.waiting.len();
                model.begin(queue, &limits);
                model.waiting.len() < waiting
            };
            while begins(&mut model, &mut queue) {}
            assert!(model.waiting.len() < before || !model.at_work.is_empty());
            for (_, place) in model.at_work.drain(..) {
                queue.done(place);
            }
        }
        for (_, place) in model.at_work {
            queue.done(place);
        }
        // Which also forgets what was set aside where nobody waits any more.
        assert!(queue.next().is_none());
        assert_eq!((queue.waiting(), queue.at_work(), queue.aside.len()), (0, 0, 0));
    }
}

#[test]
fn a_share_with_very_many_customers_leaves_the_others_their_slots() {
    let many = u32::try_from(WAITING_MAX).unwrap();
    let mut queue = queue(LIMITS, (0..many).map(|n| turn(0, n)).chain([turn(1, 0)]));
    let names = |wanted: &Wanted| wanted.except.iter().map(ToString::to_string).collect::<Vec<_>>();
    let [on_time, late] = queue.wanted();
    assert!(on_time.slots > 0 && late.slots > 0, "{on_time:?} {late:?}");
    assert_eq!((names(&on_time), names(&late)), (vec!["s0".to_owned(), "s1".to_owned()], Vec::new()));
    // With nothing in memory any more, its next slot comes in.
    queue.remove(DeliveryId(i64::from(many)));
    assert_eq!(names(&queue.wanted()[ON_TIME]), ["s0"]);
}

#[test]
fn a_bucket_that_is_narrowed_has_so_many_places_and_all_again_afterwards() {
    let bucket = Of::Bucket(BucketName::parse("bucket-0").unwrap());
    let limits = Limits { all: 100, late: 50, share: 100, plugin: 100, customer: 100, bucket: 3 };
    for lane in [turn, late] {
        let jobs = (0..6).map(|n| lane(n % 3, 0)).chain((0..4).map(|n| lane(n, 2)));
        let mut queue = queue(limits, jobs);
        queue.narrow(&bucket, Some(0));
        assert_eq!(begun(&mut queue), [6, 7, 8], "the others' bucket has all of its places");
        assert_eq!(queue.waiting(), 7);
        queue.narrow(&bucket, Some(1));
        let mut tried = begin_all(&mut queue);
        assert_eq!(tried.len(), 1);
        queue.done(tried.remove(0).1);
        let tried = begin_all(&mut queue);
        assert_eq!(tried.len(), 1, "whoever tries next");
        queue.narrow(&bucket, None);
        let more = begin_all(&mut queue);
        assert_eq!(more.len(), 2, "with the one that is at work, as many as before");
        for (_, place) in tried.into_iter().chain(more) {
            queue.done(place);
        }
        assert_eq!(begun(&mut queue).len(), 2);
        assert_eq!(queue.waiting(), 1, "the one of the other bucket");
    }
}
