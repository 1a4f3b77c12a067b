//! Components that end by their own fault: counted in a row, halted, let go.

use chrono::TimeDelta;
use consign::clock::Clock;
use consign::config::Overlap;
use consign::domain::{ContentDigest, Failure, Layer, PluginName, Retry, SealedObject, SkipReason};
use consign::ledger::{Attempt, Claim, Committed, Formatter, Ledger, LedgerError, Order, Planned, Waiting};

use super::{customers, deliver, key, lasting, object, open, open_at, planned, read_only, receipt, share, slot, start};

fn formatter(component: &str, quarantine_after: u32) -> Formatter {
    let plugin = PluginName::parse("fmt").unwrap();
    Formatter { plugin, digest: ContentDigest::of(component.as_bytes()), quarantine_after }
}

fn fault() -> Failure {
    Failure { plugin_fault: true, ..Failure::new(Layer::Plugin, Retry::Never, "fmt: unreachable", "report it") }
}

/// A delivery of the `n`-th hour fails like this; true when its component is in quarantine then.
async fn fails(ledger: &Ledger, n: i64, by: &Formatter, failure: Failure) -> Result<bool, LedgerError> {
    let claim = ledger.start_manual(slot("a", n), customers(&["acme"])).await.unwrap().claim.unwrap();
    let attempt = match ledger.attempt_by(Some(by.clone()), Order::Any, claim.deliveries[0].1, None).await {
        Ok(attempt) => attempt,
        Err(refused) => {
            let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap();
            ledger.failed(attempt.id, lasting(), None).await.unwrap();
            ledger.run_finished(claim.run).await.unwrap();
            return Err(refused);
        }
    };
    let halted = ledger.failed_by(Some(by.clone()), attempt.id, failure, None).await.unwrap();
    ledger.run_finished(claim.run).await.unwrap();
    Ok(halted)
}

/// An attempt at the `n`-th hour's delivery.
async fn at_work(ledger: &Ledger, n: i64, by: &Formatter) -> (Claim, Attempt) {
    let claim = ledger.start_manual(slot("a", n), customers(&["acme"])).await.unwrap().claim.unwrap();
    let attempt = ledger.attempt_by(Some(by.clone()), Order::Any, claim.deliveries[0].1, None).await.unwrap();
    (claim, attempt)
}

async fn succeeds(ledger: &Ledger, n: i64, by: &Formatter) {
    let (claim, attempt) = at_work(ledger, n, by).await;
    deliver(ledger, &claim.slot, attempt.id, "u1").await.unwrap();
    ledger.run_finished(claim.run).await.unwrap();
}

#[tokio::test]
async fn faults_in_a_row_halt_a_component_until_it_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let (bad, other) = (formatter("bad", 3), formatter("other", 3));
    assert!(!fails(&ledger, 1, &bad, fault()).await.unwrap());
    assert!(!fails(&ledger, 2, &bad, fault()).await.unwrap());
    assert_eq!(ledger.quarantined().await.unwrap(), []);
    assert!(fails(&ledger, 3, &bad, fault()).await.unwrap());
    let refused = fails(&ledger, 4, &bad, fault()).await.unwrap_err();
    assert!(matches!(&refused, LedgerError::Quarantined { digest } if *digest == bad.digest), "{refused:?}");
    // Others are not concerned, nor who says that it never is.
    assert!(!fails(&ledger, 5, &other, fault()).await.unwrap());
    assert!(!fails(&ledger, 6, &formatter("bad", 0), fault()).await.unwrap());
    drop(ledger);

    let ledger = open(dir.path());
    let halted = read_only(dir.path()).quarantined().await.unwrap();
    assert_eq!(halted, ledger.quarantined().await.unwrap());
    let [halted] = &halted[..] else { panic!("{halted:?}") };
    assert_eq!((&halted.plugin, &halted.digest), (&bad.plugin, &bad.digest));
    assert_eq!((halted.since, halted.deliveries, &halted.failure), (start(), 3, &fault()));
    ledger.prune(start() + chrono::TimeDelta::days(1)).await.unwrap();
    assert!(fails(&ledger, 7, &bad, fault()).await.is_err(), "it is not forgotten");
    let elsewhere = PluginName::parse("elsewhere").unwrap();
    assert_eq!(ledger.release(elsewhere.clone(), None).await.unwrap(), []);
    assert_eq!(ledger.release(elsewhere, Some(bad.digest.clone())).await.unwrap().len(), 1, "by what it is");
    assert_eq!(ledger.release(bad.plugin.clone(), None).await.unwrap(), [], "once");
    // It begins from nothing.
    assert!(!fails(&ledger, 8, &bad, fault()).await.unwrap());
    assert!(!fails(&ledger, 9, &bad, fault()).await.unwrap());
    assert!(fails(&ledger, 10, &bad, fault()).await.unwrap());
    assert_eq!(ledger.release(bad.plugin.clone(), None).await.unwrap().len(), 1, "by what it was called");
}

#[tokio::test]
async fn a_success_in_between_is_a_new_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let bad = formatter("bad", 2);
    for n in 0..6 {
        assert!(!fails(&ledger, 2 * n + 1, &bad, fault()).await.unwrap());
        succeeds(&ledger, 2 * n + 2, &bad).await;
    }
    assert!(!fails(&ledger, 20, &bad, fault()).await.unwrap());
    // What is no fault of its own neither counts nor forgives.
    assert!(!fails(&ledger, 21, &bad, lasting()).await.unwrap());
    succeeds(&ledger, 22, &formatter("other", 2)).await;
    assert!(fails(&ledger, 23, &bad, fault()).await.unwrap());
}

#[tokio::test]
async fn faults_of_long_ago_are_not_in_a_row_with_those_of_now() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let bad = formatter("bad", 2);
    assert!(!fails(&ledger, 1, &bad, fault()).await.unwrap());
    ledger.prune(start() + TimeDelta::days(1)).await.unwrap();
    assert!(!fails(&ledger, 2, &bad, fault()).await.unwrap(), "the first one is forgotten");
    ledger.prune(start()).await.unwrap();
    assert!(fails(&ledger, 3, &bad, fault()).await.unwrap(), "that one is not");
}

/// With `empty = "skip"` a delivery without rows is one without its plugin: nothing is known of it by that.
#[tokio::test]
async fn a_delivery_without_rows_neither_counts_nor_forgives() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let bad = formatter("bad", 2);
    assert!(!fails(&ledger, 1, &bad, fault()).await.unwrap());
    let (claim, attempt) = at_work(&ledger, 2, &bad).await;
    ledger.sealed(attempt.id, &[]).await.unwrap();
    let nothing = Committed { rows: 0, bytes: 0, ..receipt(&[]) };
    ledger.committed(attempt.id, nothing).await.unwrap();
    ledger.run_finished(claim.run).await.unwrap();
    assert!(fails(&ledger, 3, &bad, fault()).await.unwrap());
}

/// A header, or the end of a container: its plugin was asked, and has done well.
#[tokio::test]
async fn an_object_without_rows_is_a_new_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let bad = formatter("bad", 2);
    assert!(!fails(&ledger, 1, &bad, fault()).await.unwrap());
    let (claim, attempt) = at_work(&ledger, 2, &bad).await;
    let header = [SealedObject { rows: 0, ..object(&key(&slot("a", 2), "rows.csv"), "u1") }];
    ledger.sealed(attempt.id, &header).await.unwrap();
    ledger.committed(attempt.id, Committed { rows: 0, ..receipt(&header) }).await.unwrap();
    ledger.run_finished(claim.run).await.unwrap();
    assert!(!fails(&ledger, 3, &bad, fault()).await.unwrap());
    assert!(fails(&ledger, 4, &bad, fault()).await.unwrap());
}

/// What had begun before may end well; that does not end the quarantine.
#[tokio::test]
async fn what_was_at_work_does_not_let_it_go() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let bad = formatter("bad", 1);
    let early = slot("a", 9);
    let claim = ledger.start_manual(early.clone(), customers(&["acme"])).await.unwrap().claim.unwrap();
    let attempt = ledger.attempt_by(Some(bad.clone()), Order::Any, claim.deliveries[0].1, None).await.unwrap();
    assert!(fails(&ledger, 1, &bad, fault()).await.unwrap());
    deliver(&ledger, &early, attempt.id, "u1").await.unwrap();
    assert_eq!(ledger.quarantined().await.unwrap().len(), 1);
    let shown = ledger.reader().run(claim.run).await.unwrap();
    assert_eq!(shown.deliveries[0].attempts[0].digest.as_deref(), Some(&*bad.digest.to_string()));
}

/// Its process is ended from outside, and each delivery is tried again: one that is
/// tried often does not stand for many.
#[tokio::test]
async fn each_delivery_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let bad = formatter("bad", 2);
    let claim = ledger.start_manual(slot("a", 1), customers(&["acme"])).await.unwrap().claim.unwrap();
    for _ in 0..5 {
        let attempt = ledger.attempt_by(Some(bad.clone()), Order::Any, claim.deliveries[0].1, None).await.unwrap();
        let halted = ledger.failed_by(Some(bad.clone()), attempt.id, fault(), Some(start())).await.unwrap();
        assert!(!halted);
    }
    assert!(fails(&ledger, 2, &bad, fault()).await.unwrap());
    // It waits as it is.
    let refused = ledger.attempt_by(Some(bad), Order::Any, claim.deliveries[0].1, None).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Quarantined { .. }), "{refused:?}");
    let shown = ledger.reader().run(claim.run).await.unwrap();
    assert_eq!(shown.deliveries[0].attempts.len(), 5);
}

#[tokio::test]
async fn what_waits_is_kept_and_heeds_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let skip = |n| Planned { overlap: Overlap::Skip, ..planned(slot("a", n), &["acme"]) };
    let late = Planned { deadline: Some(start()), ..skip(2) };
    let other = Planned { overlap: Overlap::Skip, ..planned(slot("b", 1), &["acme"]) };
    ledger.plan(vec![skip(1), late, skip(3), other], Vec::new()).await.unwrap();
    let left_out = ledger.keep_waiting(vec![share("a")]).await.unwrap();
    assert_eq!(left_out, [(slot("a", 2), SkipReason::Quarantine)]);
    assert_eq!(ledger.keep_waiting(vec![share("a")]).await.unwrap(), [], "it was told");
    let skipped = ledger.reader().skipped(None, None, 9).await.unwrap();
    assert_eq!((skipped.len(), skipped[0].reason), (1, SkipReason::Quarantine));
    let waiting = |share_name: &str| ledger.reader().waiting(vec![share(share_name)]);
    assert_eq!(waiting("a").await.unwrap(), Waiting { deliveries: 0, slots: 2 });
    assert_eq!(waiting("b").await.unwrap(), Waiting { deliveries: 0, slots: 1 });
    // One after the other, where "skip" would have left out the second one.
    let [first, of_other] = &ledger.claim(9, 0).await.unwrap().runs[..] else { panic!("two runs") };
    assert_eq!((first.slot.clone(), of_other.slot.clone()), (slot("a", 1), slot("b", 1)));
    assert_eq!(waiting("a").await.unwrap(), Waiting { deliveries: 1, slots: 1 });
    let attempt = ledger.attempt_started(first.deliveries[0].1, None).await.unwrap();
    deliver(&ledger, &slot("a", 1), attempt.id, "u1").await.unwrap();
    let claims = ledger.claim(9, 0).await.unwrap();
    assert_eq!(claims.runs[0].slot, slot("a", 3));
    assert_eq!(ledger.reader().skipped(None, None, 9).await.unwrap().len(), 1);
}

/// A slot that is held waits for a delivery which waits for the plugin: it is as late as the others.
#[tokio::test]
async fn a_slot_that_waits_for_another_one_heeds_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(start());
    let ledger = open_at(dir.path(), clock.clone());
    let deadline = start() + TimeDelta::hours(1);
    let queued = |n| Planned { overlap: Overlap::Queue, deadline: Some(deadline), ..planned(slot("a", n), &["acme"]) };
    let patient = Planned { deadline: None, ..queued(3) };
    ledger.plan(vec![Planned { deadline: None, ..queued(1) }, queued(2), patient], Vec::new()).await.unwrap();
    let claims = ledger.claim(9, 0).await.unwrap();
    assert_eq!((claims.runs.len(), claims.looked_at), (1, 3), "the others are held");
    assert_eq!(ledger.keep_waiting(vec![share("a")]).await.unwrap(), []);
    clock.set(deadline);
    assert_eq!(ledger.keep_waiting(vec![share("b")]).await.unwrap(), []);
    assert_eq!(ledger.keep_waiting(vec![share("a")]).await.unwrap(), [(slot("a", 2), SkipReason::Quarantine)]);
    assert_eq!(ledger.keep_waiting(vec![share("a")]).await.unwrap(), [], "it was told");
    assert_eq!(ledger.reader().waiting(vec![share("a")]).await.unwrap(), Waiting { deliveries: 1, slots: 1 });
    let attempt = ledger.attempt_started(claims.runs[0].deliveries[0].1, None).await.unwrap();
    deliver(&ledger, &slot("a", 1), attempt.id, "u1").await.unwrap();
    assert_eq!(ledger.claim(9, 0).await.unwrap().runs[0].slot, slot("a", 3));
}

/// A daemon that has not heard of the quarantine claims a slot, and another one's delivery of before
/// waits for the plugin: that is no reason to leave the slot out.
#[tokio::test]
async fn what_waits_for_a_plugin_is_not_in_the_way_of_a_later_slot() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let bad = formatter("bad", 1);
    let skip = |n| Planned { overlap: Overlap::Skip, ..planned(slot("a", n), &["acme"]) };
    ledger.plan(vec![skip(1)], Vec::new()).await.unwrap();
    let first = ledger.claim(9, 0).await.unwrap().runs.remove(0);
    // Until it is known whose fault it is, a delivery that has not begun is in the way.
    ledger.plan(vec![skip(2)], Vec::new()).await.unwrap();
    assert_eq!(ledger.claim(9, 0).await.unwrap().skipped, [(slot("a", 2), SkipReason::Overlap)]);
    assert!(fails(&ledger, 10, &bad, fault()).await.unwrap());
    ledger.plan(vec![skip(3)], Vec::new()).await.unwrap();
    let claims = ledger.claim(9, 0).await.unwrap();
    assert_eq!((claims.runs.len(), claims.skipped.len(), claims.looked_at), (0, 0, 1), "it is held");
    // It stays so when the other slots of the share are many by then.
    assert_eq!(ledger.keep_waiting(vec![share("a")]).await.unwrap(), []);
    ledger.release(bad.plugin.clone(), None).await.unwrap();
    let attempt = ledger.attempt_by(Some(bad.clone()), Order::Any, first.deliveries[0].1, None).await.unwrap();
    // What has begun is as slow as it ever was.
    ledger.plan(vec![skip(4)], Vec::new()).await.unwrap();
    assert_eq!(ledger.claim(9, 0).await.unwrap().skipped, [(slot("a", 4), SkipReason::Overlap)]);
    deliver(&ledger, &slot("a", 1), attempt.id, "u1").await.unwrap();
    assert_eq!(ledger.claim(9, 0).await.unwrap().runs[0].slot, slot("a", 3));
}

/// Who has begun is slow, whatever others of the share wait for.
#[tokio::test]
async fn only_who_has_not_begun_waits_for_a_plugin() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let (bad, other) = (formatter("bad", 1), formatter("other", 1));
    let skip = |n| Planned { overlap: Overlap::Skip, ..planned(slot("a", n), &["acme", "globex"]) };
    ledger.plan(vec![skip(1)], Vec::new()).await.unwrap();
    let first = ledger.claim(9, 0).await.unwrap().runs.remove(0);
    let (acme, globex) = (first.deliveries[0].1, first.deliveries[1].1);
    ledger.attempt_by(Some(other), Order::Any, acme, None).await.unwrap();
    assert!(fails(&ledger, 10, &bad, fault()).await.unwrap());
    ledger.plan(vec![skip(2)], Vec::new()).await.unwrap();
    assert_eq!(ledger.claim(9, 0).await.unwrap().skipped, [(slot("a", 2), SkipReason::Overlap)]);
    let skipped = ledger.reader().skipped(Some(share("a")), None, 9).await.unwrap();
    assert_eq!((skipped.len(), skipped[0].customers.clone()), (1, Some(customers(&["acme"]))));
    // The other one goes on when it is let go.
    ledger.release(bad.plugin.clone(), None).await.unwrap();
    let attempt = ledger.attempt_by(Some(bad), Order::Any, globex, None).await.unwrap();
    deliver(&ledger, &slot("a", 1), attempt.id, "u1").await.unwrap();
    let next = ledger.claim(9, 0).await.unwrap().runs.remove(0);
    assert_eq!((next.slot, &next.deliveries[0].0), (slot("a", 2), &customers(&["globex"])[0]));
}

on_postgres! {
    faults_in_a_row_halt_a_component_until_it_is_let_go,
    a_success_in_between_is_a_new_beginning,
    faults_of_long_ago_are_not_in_a_row_with_those_of_now,
    a_delivery_without_rows_neither_counts_nor_forgives,
    an_object_without_rows_is_a_new_beginning,
    what_was_at_work_does_not_let_it_go,
    each_delivery_counts_once,
    what_waits_is_kept_and_heeds_its_deadline,
    a_slot_that_waits_for_another_one_heeds_its_deadline,
    what_waits_for_a_plugin_is_not_in_the_way_of_a_later_slot,
    only_who_has_not_begun_waits_for_a_plugin,
}
