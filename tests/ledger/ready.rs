//! Customers who are not ready: what is due to them waits, and nobody else does.

use chrono::TimeDelta;
use consign::clock::Clock;
use consign::domain::{CustomerName, Failure, Layer, ProfileHash, Retry};
use consign::ledger::{Begun, DeliveryId, DeliveryState, Ledger, Order, Setback, Unready};

use super::{customers, deliver, lasting, open, open_at, passing, planned, read_only, slot, start};

fn refusal() -> Failure {
    Failure::new(Layer::TrustPolicy, Retry::Never, "AssumeRole was refused", "this trust policy: …")
}

/// By which all is found.
fn profile() -> ProfileHash {
    ProfileHash::of([("role_arn", Some("one".to_owned()))])
}

fn customer(name: &str) -> CustomerName {
    customers(&[name]).remove(0)
}

/// A run of the `n`-th hour for these has begun; their deliveries, by name.
async fn begins(ledger: &Ledger, n: i64, names: &[&str]) -> Vec<DeliveryId> {
    ledger.plan(vec![planned(slot("a", n), names)], Vec::new()).await.unwrap();
    let mut runs = ledger.claim(9, 0).await.unwrap().runs;
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs.remove(0).deliveries.into_iter().map(|(_, delivery)| delivery).collect()
}

async fn attempt(ledger: &Ledger, delivery: DeliveryId) -> Result<consign::ledger::Attempt, Unready> {
    match ledger.attempt_when_ready(None, Order::Any, delivery, None).await.unwrap() {
        Begun::Attempt(attempt) => Ok(attempt),
        Begun::Held(unready) => Err(*unready),
    }
}

async fn state(ledger: &Ledger, delivery: DeliveryId) -> (DeliveryState, Option<consign::clock::Instant>) {
    let open = ledger.open_delivery(delivery).await.unwrap();
    (open.state, open.due)
}

#[tokio::test]
async fn what_its_customers_set_up_refuses_waits_and_holds_back_what_follows() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let [acme, globex] = begins(&ledger, 1, &["acme", "globex"]).await[..] else { panic!() };
    let tried = attempt(&ledger, acme).await.unwrap();
    assert_eq!(ledger.refused(tried.id, profile(), refusal(), None).await.unwrap(), Setback::Held);
    assert_eq!(state(&ledger, acme).await, (DeliveryState::Waiting, None));
    // The next slot begins: what waits is not in its way, and its delivery to acme waits too.
    let next = begins(&ledger, 2, &["acme", "globex"]).await;
    let held = attempt(&ledger, next[0]).await.unwrap_err();
    assert_eq!((held.customer, held.since, held.looks, held.failure), (customer("acme"), start(), 0, refusal()));
    assert_eq!(state(&ledger, next[0]).await, (DeliveryState::Waiting, None));
    let delivers = attempt(&ledger, globex).await.unwrap();
    deliver(&ledger, &slot("a", 1), delivers.id, "u1").await.unwrap();
    drop(ledger);

    let ledger = open(dir.path());
    let unready = read_only(dir.path()).unready().await.unwrap();
    assert_eq!(
        unready.iter().map(|(found, waits)| (&found.customer, *waits)).collect::<Vec<_>>(),
        [(&customer("acme"), 2)]
    );
    assert!(attempt(&ledger, acme).await.is_err(), "it waits still");
    // By hand it is tried all the same.
    let by_hand = ledger.attempt_by(None, Order::Any, next[0], None).await.unwrap();
    ledger.failed(by_hand.id, refusal(), None).await.unwrap();
    assert!(ledger.ready(customer("acme"), profile()).await.unwrap());
    assert!(!ledger.ready(customer("acme"), profile()).await.unwrap(), "once");
    assert_eq!(ledger.unready().await.unwrap(), []);
    let again = attempt(&ledger, acme).await.unwrap();
    assert_eq!((again.number, again.tries), (2, 0), "what its customer refused is none of its own tries");
}

/// Who is exposed is written down, and holds back nothing.
#[tokio::test]
async fn who_is_exposed_is_remembered_and_gets_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    assert!(!ledger.let_go(customer("acme")).await.unwrap());
    assert!(!ledger.has_seen(customer("acme"), profile()).await.unwrap(), "nothing is known of it");
    assert!(!ledger.exposed_by(customer("acme"), profile(), refusal()).await.unwrap());
    let [acme] = begins(&ledger, 1, &["acme"]).await[..] else { panic!() };
    let tried = attempt(&ledger, acme).await.unwrap();
    deliver(&ledger, &slot("a", 1), tried.id, "u1").await.unwrap();
    drop(ledger);

    let ledger = open(dir.path());
    let exposed = read_only(dir.path()).exposed().await.unwrap();
    let found: Vec<_> = exposed.iter().map(|found| (&found.customer, &found.failure, found.looked)).collect();
    assert_eq!(found, [(&customer("acme"), &refusal(), start())]);
    assert_eq!(ledger.unready().await.unwrap(), []);
    assert!(!ledger.let_go(customer("acme")).await.unwrap());
    assert_eq!(ledger.exposed().await.unwrap().len(), 1);
    // Who is not ready is that first of all.
    ledger.not_ready(customer("acme"), profile(), refusal()).await.unwrap();
    assert_eq!(ledger.exposed().await.unwrap(), []);
    assert!(ledger.let_go(customer("acme")).await.unwrap());
    ledger.exposed_by(customer("acme"), profile(), refusal()).await.unwrap();
    assert!(!ledger.ready(customer("acme"), profile()).await.unwrap());
    assert_eq!(ledger.exposed().await.unwrap(), []);
}

/// The customer was found to be ready, and refuses this one alone: as any failure that may pass.
#[tokio::test]
async fn what_is_refused_by_who_is_ready_does_not_wait_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let delivery = begins(&ledger, 1, &["acme"]).await[0];
    let again = start() + TimeDelta::minutes(1);
    let first = attempt(&ledger, delivery).await.unwrap();
    assert_eq!(ledger.refused(first.id, profile(), refusal(), Some(again)).await.unwrap(), Setback::Held);
    ledger.ready(customer("acme"), profile()).await.unwrap();
    let second = attempt(&ledger, delivery).await.unwrap();
    assert_eq!(ledger.refused(second.id, profile(), refusal(), Some(again)).await.unwrap(), Setback::Again);
    assert_eq!(state(&ledger, delivery).await, (DeliveryState::Waiting, Some(again)));
    assert_eq!(ledger.unready().await.unwrap(), [], "others are not held back for it");
    // While it waits, its customer becomes unready after all.
    ledger.not_ready(customer("acme"), profile(), refusal()).await.unwrap();
    assert!(attempt(&ledger, delivery).await.is_err());
    assert_eq!(state(&ledger, delivery).await, (DeliveryState::Waiting, None));
    ledger.ready(customer("acme"), profile()).await.unwrap();
    let last = attempt(&ledger, delivery).await.unwrap();
    assert_eq!(ledger.refused(last.id, profile(), refusal(), None).await.unwrap(), Setback::Failed);
    assert_eq!(state(&ledger, delivery).await.0, DeliveryState::Failed);
}

/// What was found by one profile says nothing of another.
#[tokio::test]
async fn another_profile_was_never_seen() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let other = || ProfileHash::of([("role_arn", Some("another".to_owned()))]);
    let seen = async |by: ProfileHash| ledger.has_seen(customer("acme"), by).await.unwrap();
    ledger.ready(customer("acme"), profile()).await.unwrap();
    assert!(seen(profile()).await && !seen(other()).await);
    ledger.exposed_by(customer("acme"), other(), refusal()).await.unwrap();
    assert!(!seen(profile()).await && seen(other()).await);
    ledger.not_ready(customer("acme"), profile(), refusal()).await.unwrap();
    assert!(seen(profile()).await && !seen(other()).await);
    // Nobody has tried it by another one: who was let go is still seen by that which was tried.
    ledger.let_go(customer("acme")).await.unwrap();
    assert!(seen(profile()).await && !seen(other()).await);
    let delivery = begins(&ledger, 1, &["acme"]).await[0];
    let tried = attempt(&ledger, delivery).await.unwrap();
    ledger.refused(tried.id, other(), refusal(), None).await.unwrap();
    assert!(!seen(profile()).await && seen(other()).await);
}

#[tokio::test]
async fn who_is_not_configured_any_more_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    for name in ["acme", "globex", "initech"] {
        ledger.not_ready(customer(name), profile(), refusal()).await.unwrap();
    }
    ledger.exposed_by(customer("initech"), profile(), refusal()).await.unwrap();
    let all = |names: &[&str]| customers(names).into_iter().collect();
    ledger.keep_customers(all(&["acme", "globex", "initech", "hooli"])).await.unwrap();
    assert_eq!((ledger.unready().await.unwrap().len(), ledger.exposed().await.unwrap().len()), (2, 1));
    ledger.keep_customers(all(&["globex"])).await.unwrap();
    let left: Vec<_> = ledger.unready().await.unwrap().into_iter().map(|found| found.customer).collect();
    assert_eq!((left, ledger.exposed().await.unwrap().len()), (vec![customer("globex")], 0));
    assert!(!ledger.has_seen(customer("acme"), profile()).await.unwrap());
    ledger.keep_customers(all(&[])).await.unwrap();
    assert_eq!(ledger.unready().await.unwrap(), []);
}

#[tokio::test]
async fn customers_are_looked_at_by_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(start());
    let ledger = open_at(dir.path(), clock.clone());
    let acme = || customer("acme");
    assert!(!ledger.has_seen(acme(), profile()).await.unwrap());
    let at = |minutes| start() + TimeDelta::minutes(minutes);
    assert!(!ledger.look_begins(acme(), at(1), true).await.unwrap(), "of whom nothing is known");
    ledger.not_ready(acme(), profile(), refusal()).await.unwrap();
    assert!(ledger.has_seen(acme(), profile()).await.unwrap());
    assert!(ledger.look_begins(acme(), at(1), false).await.unwrap());
    assert!(!ledger.look_begins(acme(), at(1), false).await.unwrap(), "somebody has");
    assert!(ledger.look_begins(acme(), at(2), true).await.unwrap(), "unless at once");
    clock.set(at(2));
    let other = Failure::new(Layer::Kms, Retry::Never, "the key is disabled", "");
    ledger.not_ready(acme(), profile(), other.clone()).await.unwrap();
    let unready = ledger.unready().await.unwrap();
    let [found] = &unready[..] else { panic!("{unready:?}") };
    assert_eq!((found.since, found.looked, found.looks, found.next), (start(), at(2), 2, at(2)));
    assert_eq!(found.failure, other, "what was found last");
    assert!(ledger.look_begins(acme(), at(4), false).await.unwrap());
    ledger.ready(acme(), profile()).await.unwrap();
    assert!(!ledger.look_begins(acme(), at(9), true).await.unwrap(), "who is ready is not looked at");
}

#[tokio::test]
async fn who_gets_something_by_hand_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    ledger.not_ready(customer("acme"), profile(), refusal()).await.unwrap();
    ledger.not_ready(customer("globex"), profile(), refusal()).await.unwrap();
    let claim = ledger.start_manual(slot("a", 1), customers(&["acme"])).await.unwrap().claim.unwrap();
    let attempt = ledger.attempt_by(None, Order::Any, claim.deliveries[0].1, None).await.unwrap();
    deliver(&ledger, &slot("a", 1), attempt.id, "u1").await.unwrap();
    let left: Vec<CustomerName> = ledger.unready().await.unwrap().into_iter().map(|found| found.customer).collect();
    assert_eq!(left, [customer("globex")]);
}

/// It is told with its customer, and is due when that one is ready.
#[tokio::test]
async fn what_waits_for_its_customer_is_not_counted_as_to_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let due = start() + TimeDelta::minutes(1);
    let [acme, globex, _] = begins(&ledger, 1, &["acme", "globex", "initech"]).await[..] else { panic!() };
    let refused = attempt(&ledger, acme).await.unwrap();
    assert_eq!(ledger.refused(refused.id, profile(), refusal(), Some(due)).await.unwrap(), Setback::Held);
    let failed = attempt(&ledger, globex).await.unwrap();
    ledger.failed(failed.id, passing(), Some(due)).await.unwrap();
    let reader = ledger.reader();
    let now = reader.standing_now(9, start()).await.unwrap();
    let again: Vec<_> = now.again.iter().map(|open| (open.customer.clone(), open.due)).collect();
    assert_eq!((again, now.again_count), (vec![(customer("globex"), Some(due))], 1));
    assert_eq!((now.pending, now.at_work, now.at_work_count), (1, vec![], 0));
    let unready: Vec<_> = reader.unready().await.unwrap().into_iter().map(|(of, waits)| (of.customer, waits)).collect();
    assert_eq!(unready, [(customer("acme"), 1)]);
}

/// It is on its way to its end, whoever it is for.
#[tokio::test]
async fn what_is_to_be_ended_is_not_held() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    ledger.plan(vec![planned(slot("a", 1), &["acme"])], Vec::new()).await.unwrap();
    let claim = ledger.claim(9, 0).await.unwrap().runs.remove(0);
    let (run, delivery) = (claim.run, claim.deliveries[0].1);
    ledger.not_ready(customer("acme"), profile(), refusal()).await.unwrap();
    assert!(attempt(&ledger, delivery).await.is_err());
    ledger.cancel(run, customers(&["acme"]), lasting()).await.unwrap();
    let told = attempt(&ledger, delivery).await.unwrap();
    assert_eq!(told.cancel, Some(lasting()));
}

on_postgres!(
    what_its_customers_set_up_refuses_waits_and_holds_back_what_follows,
    who_is_exposed_is_remembered_and_gets_its_own,
    what_is_refused_by_who_is_ready_does_not_wait_for_ever,
    another_profile_was_never_seen,
    who_is_not_configured_any_more_is_forgotten,
    customers_are_looked_at_by_one_at_a_time,
    who_gets_something_by_hand_is_ready,
    what_waits_for_its_customer_is_not_counted_as_to_be_tried_again,
    what_is_to_be_ended_is_not_held,
);
