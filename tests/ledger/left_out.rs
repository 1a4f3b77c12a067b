//! Slots that some customers have and others were left out of: it is on record who,
//! and why, whichever of the two came first.

use consign::clock::Clock;
use consign::domain::{Origin, SkipReason, Slot};
use consign::ledger::{FailedShare, Ledger, Planned, RunState, Skipped};

use super::{any, customers, deliver, hour, open, open_at, planned, share, slot, start};

/// Sent by hand to these, and delivered.
async fn sent(ledger: &Ledger, slot: &Slot, names: &[&str]) {
    let claim = ledger.start_manual(slot.clone(), customers(names)).await.unwrap().claim.unwrap();
    assert_eq!(claim.deliveries.len(), names.len());
    for (customer, delivery) in &claim.deliveries {
        let attempt = ledger.attempt_started(*delivery, None).await.unwrap();
        deliver(ledger, slot, attempt.id, &format!("u-{customer}")).await.unwrap();
    }
    assert_eq!(ledger.run_finished(claim.run).await.unwrap(), RunState::Succeeded);
}

fn missed(slot: &Slot, names: &[&str]) -> Planned {
    Planned { skip: Some(SkipReason::Missed), ..planned(slot.clone(), names) }
}

/// `hour: customers` with the reason, as `consign history --skipped` lists them.
async fn left_out(ledger: &Ledger) -> Vec<(String, SkipReason)> {
    let all = ledger.reader().skipped(None, None, 99).await.unwrap();
    assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
    all.iter().map(|of| (line(of), of.reason)).collect()
}

/// The same with `--customer`.
async fn of(ledger: &Ledger, customer: &str) -> Vec<String> {
    let customer = Some(customers(&[customer]).remove(0));
    ledger.reader().skipped(None, customer, 99).await.unwrap().iter().map(line).collect()
}

fn line(of: &Skipped) -> String {
    let names = of.customers.as_ref().map(|names| names.iter().map(|name| name.as_str()).collect::<Vec<_>>());
    format!("{}: {}", hour(&of.slot), names.map_or("all".to_owned(), |names| names.join(" ")))
}

#[tokio::test]
async fn a_slot_sent_early_by_hand_and_then_missed_leaves_out_the_others_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let (one, two) = (slot("a", 1), slot("a", 2));
    sent(&ledger, &one, &["acme"]).await;
    sent(&ledger, &two, &["acme", "globex"]).await;
    let plan = || vec![missed(&one, &["acme", "globex", "initech"]), missed(&two, &["acme", "globex"])];
    let recorded = ledger.plan(plan(), vec![(share("a"), two.at)]).await.unwrap();
    assert_eq!((recorded.new, recorded.left_out), (0, vec![(one.clone(), SkipReason::Missed)]));
    assert_eq!(left_out(&ledger).await, [("1: globex initech".to_owned(), SkipReason::Missed)]);
    let again = ledger.plan(plan(), Vec::new()).await.unwrap();
    assert_eq!((again.new, again.left_out), (0, vec![]), "that was told");
    assert_eq!(ledger.claim(9, 9).await.unwrap().looked_at, 0);
    // A run tells, and how they get it all the same.
    let failing = ledger.reader().failing(any, 9).await.unwrap();
    let [FailedShare { last: run, runs: 1 }] = &failing.list[..] else { panic!("{failing:?}") };
    let why = run.failure.as_ref().unwrap();
    assert!(why.message.contains("missed while down") && why.remedy.contains("consign send a"), "{why}");
    let shown = ledger.reader().run(run.run).await.unwrap();
    let names: Vec<_> = shown.deliveries.iter().map(|delivery| delivery.customer.as_str()).collect();
    assert_eq!((shown.run.origin, names), (Origin::Schedule, vec!["globex", "initech"]));
    sent(&ledger, &one, &["globex"]).await;
    assert_eq!(left_out(&ledger).await, [("1: initech".to_owned(), SkipReason::Missed)]);
    sent(&ledger, &one, &["initech"]).await;
    assert_eq!(left_out(&ledger).await, []);
}

#[tokio::test]
async fn a_slot_being_sent_by_hand_when_a_pause_leaves_it_out() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(start());
    let ledger = open_at(dir.path(), clock.clone());
    let slot = slot("a", 1);
    let claim = ledger.start_manual(slot.clone(), customers(&["acme"])).await.unwrap().claim.unwrap();
    ledger.pause(share("a")).await.unwrap();
    let recorded = ledger.plan(vec![planned(slot.clone(), &["acme", "globex"])], vec![]).await.unwrap();
    assert_eq!(recorded.left_out, [(slot.clone(), SkipReason::Paused)]);
    assert_eq!(left_out(&ledger).await, [("1: globex".to_owned(), SkipReason::Paused)]);
    let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap();
    deliver(&ledger, &slot, attempt.id, "u1").await.unwrap();
    assert_eq!(ledger.run_finished(claim.run).await.unwrap(), RunState::Succeeded);
    assert_eq!(left_out(&ledger).await, [("1: globex".to_owned(), SkipReason::Paused)]);
    // What is to be filled in after the pause begins with it.
    let since = ledger.resume(share("a")).await.unwrap().unwrap();
    assert_eq!(ledger.reader().first_left_out(share("a"), since).await.unwrap(), Some(slot.at));
    sent(&ledger, &slot, &["globex"]).await;
    assert_eq!(ledger.reader().first_left_out(share("a"), since).await.unwrap(), None);
}

#[tokio::test]
async fn a_skipped_slot_sent_to_some_stays_skipped_for_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slot = slot("a", 1);
    let names = ["acme", "globex", "hooli", "initech"];
    ledger.plan(vec![missed(&slot, &names)], vec![(share("a"), slot.at)]).await.unwrap();
    assert_eq!(left_out(&ledger).await, [("1: all".to_owned(), SkipReason::Missed)]);
    // Nor is one the other whose name begins like it.
    assert_eq!(of(&ledger, "acme").await, ["1: all"]);
    assert_eq!(of(&ledger, "acm").await, Vec::<String>::new());
    sent(&ledger, &slot, &["acme"]).await;
    assert_eq!(left_out(&ledger).await, [("1: globex hooli initech".to_owned(), SkipReason::Missed)]);
    assert_eq!(of(&ledger, "hooli").await, ["1: hooli"]);
    assert_eq!(of(&ledger, "acme").await, Vec::<String>::new());
    // Filled in for some of them, it is theirs; and it is told of the others while it waits.
    ledger.backfill(vec![slot.clone()], customers(&["globex"])).await.unwrap();
    assert_eq!(left_out(&ledger).await, [("1: globex hooli initech".to_owned(), SkipReason::Missed)]);
    let claims = ledger.claim(9, 9).await.unwrap();
    assert_eq!(claims.runs[0].deliveries[0].0, customers(&["globex"])[0]);
    assert_eq!(left_out(&ledger).await, [("1: hooli initech".to_owned(), SkipReason::Missed)]);
    sent(&ledger, &slot, &["hooli", "initech"]).await;
    assert_eq!(left_out(&ledger).await, []);
}

#[tokio::test]
async fn a_skipped_slot_filled_in_for_some_stays_skipped_for_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slot = slot("a", 1);
    ledger.plan(vec![missed(&slot, &["acme", "globex", "initech"])], vec![(share("a"), slot.at)]).await.unwrap();
    let filled = ledger.backfill(vec![slot.clone()], customers(&["globex"])).await.unwrap();
    assert_eq!(filled[0].to_deliver, customers(&["globex"]));
    assert_eq!(left_out(&ledger).await, [("1: acme initech".to_owned(), SkipReason::Missed)]);
    ledger.backfill(vec![slot.clone()], customers(&["initech"])).await.unwrap();
    let claims = ledger.claim(9, 9).await.unwrap();
    let names: Vec<_> = claims.runs[0].deliveries.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((claims.runs.len(), names), (1, vec!["globex", "initech"]));
    assert_eq!(left_out(&ledger).await, [("1: acme".to_owned(), SkipReason::Missed)]);
}

/// Many at once, some of them there, left out, sent by hand or twice in the plan.
#[tokio::test]
async fn a_long_plan_tells_each_slot_once() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    sent(&ledger, &slot("a", 7), &["acme"]).await;
    sent(&ledger, &slot("a", 3000), &["acme"]).await;
    ledger.plan(vec![missed(&slot("a", 9), &["acme"])], vec![]).await.unwrap();
    let plan = |hour: i64| match hour % 1000 {
        0 | 7 => missed(&slot("a", hour), &["acme", "globex"]),
        _ => planned(slot("a", hour), &["acme", "globex"]),
    };
    let all = (1..=4000).chain([5, 1000]).map(plan).collect::<Vec<_>>();
    let recorded = ledger.plan(all.clone(), vec![(share("a"), slot("a", 4000).at); 2]).await.unwrap();
    let mut hours: Vec<_> = recorded.left_out.iter().map(|(slot, _)| hour(slot)).collect();
    hours.sort_unstable();
    assert_eq!((recorded.new, hours), (3997, vec![7, 1000, 1007, 2000, 2007, 3000, 3007, 4000]));
    assert_eq!(ledger.plan(all, vec![(share("a"), slot("a", 3000).at)]).await.unwrap(), Default::default());
    assert_eq!(ledger.cursor(&share("a")).await.unwrap(), Some(slot("a", 4000).at));
    let told = left_out(&ledger).await;
    assert_eq!((told.len(), told[2].0.as_str(), told[8].0.as_str()), (9, "3000: globex", "7: globex"));
}

on_postgres! {
    a_slot_sent_early_by_hand_and_then_missed_leaves_out_the_others_on_record,
    a_slot_being_sent_by_hand_when_a_pause_leaves_it_out,
    a_skipped_slot_sent_to_some_stays_skipped_for_the_others,
    a_skipped_slot_filled_in_for_some_stays_skipped_for_the_others,
    a_long_plan_tells_each_slot_once,
}
