//! Slots of one share that take each other's place: one at a time, and never back.

use consign::domain::{CustomerName, Destination};
use consign::ledger::{AttemptId, DeliveryId, Ledger, LedgerError, Order};

use super::{customers, deliver, open, passing, slot, start};

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

fn behind(refused: Result<AttemptId, LedgerError>) -> i64 {
    match refused {
        Err(LedgerError::NotYet { behind }) => (behind.at - start()).num_hours(),
        other => panic!("{other:?}"),
    }
}

fn overtaken(refused: Result<AttemptId, LedgerError>) -> i64 {
    match refused {
        Err(LedgerError::Overtaken { by }) => (by.at - start()).num_hours(),
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
    attempt(&ledger, Order::OneByOne, acme).await.unwrap();
    let of_globex = ledger.attempt_by(None, Order::OneByOne, globex, Some(destination("globex"))).await.unwrap();
    deliver(&ledger, &slot("a", 2), of_globex.id, "u2").await.unwrap();
    assert_eq!(behind(attempt(&ledger, Order::OneByOne, acme_again).await), 2);
}

#[tokio::test]
async fn an_earlier_slot_is_not_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let [acme, globex] = begin(&ledger, 2).await;
    let late = ledger.attempt_by(None, Order::OneByOne, acme, Some(destination("2"))).await.unwrap();
    assert!(ledger.is_newest(late.id).await.unwrap());
    deliver(&ledger, &slot("a", 2), late.id, "u2").await.unwrap();
    let of_globex = ledger.attempt_started(globex, None).await.unwrap();
    ledger.failed(of_globex.id, passing(), None).await.unwrap();
    let [acme, globex] = begin(&ledger, 1).await;
    for (delivery, is_newest) in [(acme, false), (globex, true)] {
        let early = ledger.attempt_by(None, Order::OneByOne, delivery, Some(destination("1"))).await.unwrap();
        assert_eq!(ledger.is_newest(early.id).await.unwrap(), is_newest);
        ledger.failed(early.id, passing(), None).await.unwrap();
    }
}

/// What one share replaces is not another's to replace, and not another customer's.
#[tokio::test]
async fn a_key_belongs_to_one_share_and_customer() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let [acme, globex] = begin(&ledger, 1).await;
    let first = attempt(&ledger, Order::Forward, acme).await.unwrap();
    assert!(matches!(attempt(&ledger, Order::Forward, globex).await, Err(LedgerError::KeyTaken { .. })));
    deliver(&ledger, &slot("a", 1), first, "u1").await.unwrap();
    let other = ledger.start_manual(slot("b", 2), vec![CustomerName::parse("acme").unwrap()]).await.unwrap();
    let other = other.claim.unwrap().deliveries[0].1;
    assert!(matches!(attempt(&ledger, Order::Forward, other).await, Err(LedgerError::KeyTaken { .. })));
}

on_postgres! {
    slots_in_order_have_one_key_and_go_one_at_a_time,
    one_that_failed_is_in_nobodys_way,
    customers_are_apart,
    an_earlier_slot_is_not_the_newest,
    a_key_belongs_to_one_share_and_customer,
}
