//! Slots of one share that take each other's place: one at a time, and never back.

use std::path::Path;

use chrono::TimeDelta;
use consign::clock::Clock;
use consign::domain::{Destination, Role, SealedObject};
use consign::ledger::{AttemptId, DeliveryId, DeliveryState, Ledger, LedgerError, Order};

use super::{customers, deliver, hour, open_at, passing, slot, start};

/// At a time when all its slots are past.
fn open(dir: &Path) -> Ledger {
    open_at(dir, Clock::fixed(start() + TimeDelta::days(1)))
}

/// A run by hand of the share's slot at this hour, for acme and globex.
async fn begin(ledger: &Ledger, hour: i64) -> [DeliveryId; 2] {
    let started = ledger.start_manual(slot("a", hour), customers(&["acme", "globex"])).await.unwrap();
    let claim = started.claim.unwrap();
    [claim.deliveries[0].1, claim.deliveries[1].1]
}

fn destination(name: &str) -> Destination {
    super::destination(&format!("{name}/_manifest.json"))
}

async fn attempt(ledger: &Ledger, order: Order, delivery: DeliveryId) -> Result<AttemptId, LedgerError> {
    let attempt = ledger.attempt_by(None, order, delivery, Some(destination("acme"))).await;
    attempt.map(|attempt| attempt.id)
}

/// With a pointer in the folder of all of a customer's slots.
fn one_by_one(customer: &str) -> Order {
    Order::OneByOne { pointer: format!("{customer}/latest.json") }
}

fn object(upload_id: &str, role: Role) -> SealedObject {
    let object = super::object(&super::key(&slot("a", 1), "rows.csv"), upload_id);
    match role {
        Role::LatestPointer => SealedObject { key: "acme/latest.json".into(), role, ..object },
        _ => object,
    }
}

fn behind(refused: Result<AttemptId, LedgerError>) -> i64 {
    match refused {
        Err(LedgerError::NotYet { behind }) => hour(&behind),
        other => panic!("{other:?}"),
    }
}

fn overtaken(refused: Result<AttemptId, LedgerError>) -> i64 {
    match refused {
        Err(LedgerError::Overtaken { by }) => hour(&by),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn slots_in_order_have_one_key_and_go_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let ([second, _], [first, _], [third, _]) =
        (begin(&ledger, 2).await, begin(&ledger, 1).await, begin(&ledger, 3).await);
    let at_work = attempt(&ledger, Order::Forward, second).await.unwrap();
    for other in [first, third] {
        assert_eq!(behind(attempt(&ledger, Order::Forward, other).await), 2);
    }
    ledger.sealed(at_work, &[]).await.unwrap();
    assert_eq!(behind(attempt(&ledger, Order::Forward, third).await), 2, "what is stored comes before it");
    ledger.committed(at_work, super::receipt(&[])).await.unwrap();
    assert_eq!(overtaken(attempt(&ledger, Order::Forward, first).await), 2);
    let newest = attempt(&ledger, Order::Forward, third).await.unwrap();
    assert!(ledger.is_newest(newest).await.unwrap());
}

#[tokio::test]
async fn one_that_failed_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let ([first, _], [second, _]) = (begin(&ledger, 1).await, begin(&ledger, 2).await);
    let at_work = attempt(&ledger, Order::Forward, first).await.unwrap();
    ledger.failed(at_work, passing(), Some(start())).await.unwrap();
    let at_work = attempt(&ledger, Order::Forward, second).await.unwrap();
    deliver(&ledger, &slot("a", 2), at_work, "u2").await.unwrap();
    assert_eq!(overtaken(attempt(&ledger, Order::Forward, first).await), 2, "its next try would take it back");
}

#[tokio::test]
async fn customers_are_apart() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let ([acme, globex], [acme_again, _]) = (begin(&ledger, 2).await, begin(&ledger, 1).await);
    attempt(&ledger, one_by_one("acme"), acme).await.unwrap();
    let of_globex = ledger.attempt_by(None, one_by_one("globex"), globex, Some(destination("globex"))).await.unwrap();
    deliver(&ledger, &slot("a", 2), of_globex.id, "u2").await.unwrap();
    assert_eq!(behind(attempt(&ledger, one_by_one("acme"), acme_again).await), 2);
}

/// Customers who have a bucket in common have folders of their own in it.
#[tokio::test]
async fn pointers_of_two_customers_in_one_bucket_are_apart() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let ([_, globex], [acme, _]) = (begin(&ledger, 2).await, begin(&ledger, 1).await);
    ledger.attempt_by(None, one_by_one("globex"), globex, Some(destination("globex/2"))).await.unwrap();
    ledger.attempt_by(None, one_by_one("acme"), acme, Some(destination("acme/1"))).await.unwrap();
}

#[tokio::test]
async fn an_earlier_slot_is_not_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let [acme, globex] = begin(&ledger, 2).await;
    let late = ledger.attempt_by(None, one_by_one("acme"), acme, Some(destination("2"))).await.unwrap();
    assert!(ledger.is_newest(late.id).await.unwrap());
    deliver(&ledger, &slot("a", 2), late.id, "u2").await.unwrap();
    let of_globex = ledger.attempt_started(globex, None).await.unwrap();
    ledger.failed(of_globex.id, passing(), None).await.unwrap();
    let [acme, globex] = begin(&ledger, 1).await;
    for (delivery, is_newest) in [(acme, false), (globex, true)] {
        let early = ledger.attempt_by(None, one_by_one("acme"), delivery, Some(destination("1"))).await.unwrap();
        assert_eq!(ledger.is_newest(early.id).await.unwrap(), is_newest);
        ledger.failed(early.id, passing(), None).await.unwrap();
    }
}

/// Who goes to the same place goes in its order, whatever it is called; another share never does.
#[tokio::test]
async fn a_place_belongs_to_one_share() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let ([acme, _], [later, _]) = (begin(&ledger, 1).await, begin(&ledger, 2).await);
    let first = attempt(&ledger, Order::Forward, acme).await.unwrap();
    let renamed = ledger.start_manual(slot("a", 3), customers(&["globex"])).await.unwrap().claim.unwrap();
    assert_eq!(behind(attempt(&ledger, Order::Forward, renamed.deliveries[0].1).await), 1);
    deliver(&ledger, &slot("a", 1), first, "u1").await.unwrap();
    let at_work = attempt(&ledger, Order::Forward, renamed.deliveries[0].1).await.unwrap();
    deliver(&ledger, &slot("a", 3), at_work, "u3").await.unwrap();
    assert_eq!(overtaken(attempt(&ledger, Order::Forward, later).await), 3);
    let other = ledger.start_manual(slot("b", 4), customers(&["acme"])).await.unwrap().claim.unwrap();
    let taken = attempt(&ledger, Order::Forward, other.deliveries[0].1).await;
    assert!(matches!(taken, Err(LedgerError::KeyTaken { .. })), "{taken:?}");
}

/// Its objects are there, and newer, though nobody says so.
#[tokio::test]
async fn what_was_seen_of_a_later_slot_is_not_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let ([first, _], [second, _], [third, _]) =
        (begin(&ledger, 1).await, begin(&ledger, 2).await, begin(&ledger, 3).await);
    let at_work = attempt(&ledger, Order::Forward, first).await.unwrap();
    ledger.failed(at_work, passing(), Some(start())).await.unwrap();
    let at_work = attempt(&ledger, Order::Forward, second).await.unwrap();
    ledger.failed(at_work, passing(), Some(start())).await.unwrap();
    let at_work = attempt(&ledger, Order::Forward, first).await.unwrap();
    ledger.failed(at_work, passing(), Some(start())).await.unwrap();
    let at_work = attempt(&ledger, Order::Forward, second).await.unwrap();
    ledger.sealed(at_work, &[object("u2", Role::Data)]).await.unwrap();
    ledger.failed(at_work, super::lasting(), None).await.unwrap();
    assert_eq!(overtaken(attempt(&ledger, Order::Forward, first).await), 2);
    attempt(&ledger, Order::Forward, third).await.unwrap();
}

/// A customer may be called otherwise by now: what counts is where the pointer is.
#[tokio::test]
async fn a_pointer_is_one_whatever_its_customer_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let begins = async |hour: i64, name: &str| {
        let claim = ledger.start_manual(slot("a", hour), customers(&[name])).await.unwrap().claim.unwrap();
        claim.deliveries[0].1
    };
    let attempt = async |delivery, hour: i64| {
        let to = Some(destination(&format!("acme/hour-{hour}")));
        ledger.attempt_by(None, one_by_one("acme"), delivery, to).await.map(|attempt| attempt.id)
    };
    let (second, first, third) = (begins(2, "acme").await, begins(1, "acme-inc").await, begins(3, "acme-inc").await);
    let at_work = attempt(second, 2).await.unwrap();
    assert_eq!(behind(attempt(first, 1).await), 2);
    ledger.sealed(at_work, &[object("u2", Role::LatestPointer)]).await.unwrap();
    assert_eq!(behind(attempt(third, 3).await), 2);
    assert!(ledger.is_newest(at_work).await.unwrap());
    ledger.committed(at_work, super::receipt(&[])).await.unwrap();
    for (delivery, hour, is_newest) in [(first, 1, false), (third, 3, true)] {
        let at_work = attempt(delivery, hour).await.unwrap();
        ledger.sealed(at_work, &[object("u", Role::LatestPointer)]).await.unwrap();
        assert_eq!(ledger.is_newest(at_work).await.unwrap(), is_newest, "{hour}");
        ledger.failed(at_work, super::lasting(), None).await.unwrap();
    }
}

/// The clock was ahead when it was delivered, and is right again.
#[tokio::test]
async fn a_slot_yet_to_come_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(slot("a", 24 * 300).at);
    let ledger = open_at(dir.path(), clock.clone());
    let ([ahead, _], [right, _]) = (begin(&ledger, 24 * 200).await, begin(&ledger, 2).await);
    let at_work = attempt(&ledger, Order::Forward, ahead).await.unwrap();
    deliver(&ledger, &slot("a", 24 * 200), at_work, "u1").await.unwrap();
    assert_eq!(overtaken(attempt(&ledger, Order::Forward, right).await), 24 * 200);
    clock.set(slot("a", 3).at);
    attempt(&ledger, Order::Forward, right).await.unwrap();
}

/// It has waited without a try, and is in no other slot's way.
#[tokio::test]
async fn what_waits_for_its_bucket_has_used_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let [acme, globex] = begin(&ledger, 1).await;
    let at_work = ledger.attempt_started(globex, None).await.unwrap();
    let due = start() + TimeDelta::minutes(1);
    ledger.put_off(vec![acme, globex], passing(), due).await.unwrap();
    let [of_acme, of_globex] = [ledger.open_delivery(acme).await.unwrap(), ledger.open_delivery(globex).await.unwrap()];
    assert_eq!((of_acme.state, of_acme.tries), (DeliveryState::Waiting, 0));
    assert_eq!(of_globex.state, DeliveryState::Working, "what is at work stays so");
    deliver(&ledger, &slot("a", 1), at_work.id, "u1").await.unwrap();
    let again = ledger.attempt_started(acme, None).await.unwrap();
    assert_eq!((again.number, again.tries), (1, 0));
}

on_postgres! {
    slots_in_order_have_one_key_and_go_one_at_a_time,
    one_that_failed_is_in_nobodys_way,
    customers_are_apart,
    pointers_of_two_customers_in_one_bucket_are_apart,
    an_earlier_slot_is_not_the_newest,
    a_place_belongs_to_one_share,
    what_was_seen_of_a_later_slot_is_not_taken_back,
    a_pointer_is_one_whatever_its_customer_is_called,
    a_slot_yet_to_come_is_in_nobodys_way,
    what_waits_for_its_bucket_has_used_up_nothing,
}
