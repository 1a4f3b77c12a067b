//! What an operator asks of the ledger, and has it do.

use chrono::TimeDelta;
use consign::clock::Clock;
use consign::domain::{CustomerName, Failure, Layer, Mode, Retry, RunId, ShareName, SkipReason};
use consign::ledger::{DeliveryState, FailedShare, Failing, Ledger, LedgerError, Planned, Rewound, RunState};

use super::{any, customers, deliver, key, lasting, open, open_at, passing, planned, share, slot, start};

fn why() -> Failure {
    Failure::new(Layer::Schedule, Retry::Never, "cancelled by root", "`consign retry` begins it again")
}

/// A run with a delivery in each state that is not an end, and two that have ended.
async fn run_in_all_states(ledger: &Ledger) -> RunId {
    let slot = slot("orders", 1);
    let names = ["committed", "failed", "pending", "sealed", "waiting", "working"];
    ledger.plan(vec![planned(slot.clone(), &names)], vec![(share("orders"), slot.at)]).await.unwrap();
    let claim = ledger.claim(1, 0).await.unwrap().runs.remove(0);
    for (customer, id) in &claim.deliveries {
        if customer.as_str() == "pending" {
            continue;
        }
        let attempt = ledger.attempt_started(*id, None).await.unwrap().id;
        match customer.as_str() {
            "committed" => deliver(ledger, &slot, attempt, "u1").await.unwrap(),
            "sealed" => ledger.sealed(attempt, &[]).await.unwrap(),
            "waiting" => {
                ledger.failed(attempt, passing(), Some(start() + TimeDelta::hours(3))).await.unwrap();
            }
            "failed" => ledger.failed(attempt, lasting(), None).await.unwrap(),
            _ => {}
        }
    }
    claim.run
}

async fn states(ledger: &Ledger, run: RunId) -> Vec<(String, DeliveryState)> {
    let detail = ledger.reader().run(run).await.unwrap();
    detail.deliveries.into_iter().map(|delivery| (delivery.customer.to_string(), delivery.state)).collect()
}

#[tokio::test]
async fn a_cancelled_run_marks_what_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let run = run_in_all_states(&ledger).await;
    let before = states(&ledger, run).await;
    let cancelled = ledger.cancel(run, Vec::new(), why()).await.unwrap();
    let marked: Vec<String> = cancelled.marked.iter().map(|(customer, _)| customer.to_string()).collect();
    assert_eq!(marked, ["pending", "waiting", "working"]);
    assert_eq!((cancelled.sealed, cancelled.ended), (customers(&["sealed"]), customers(&["committed", "failed"])));
    // Whoever has them at work ends them: their states are as before.
    assert_eq!(states(&ledger, run).await, before);
    for (_, delivery) in cancelled.marked {
        assert_eq!(ledger.open_delivery(delivery).await.unwrap().cancel, Some(why()));
    }
    let one = ledger.cancel(run, customers(&["sealed"]), why()).await.unwrap();
    assert_eq!((one.marked.len(), one.sealed.len(), one.ended.len()), (0, 1, 0));
}

#[tokio::test]
async fn what_nobody_has_at_work_is_given_up_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let run = run_in_all_states(&ledger).await;
    ledger.give_up(run, Vec::new(), why()).await.unwrap();
    let failed: Vec<String> = states(&ledger, run)
        .await
        .into_iter()
        .filter(|(_, state)| *state == DeliveryState::Failed)
        .map(|(customer, _)| customer)
        .collect();
    // What was cut off is ended by the next start, which aborts its uploads.
    assert_eq!(failed, ["failed", "pending", "waiting"]);
    assert_eq!(ledger.reader().run(run).await.unwrap().run.state, RunState::Running);

    let slot = slot("orders", 2);
    ledger.plan(vec![planned(slot.clone(), &["acme"])], vec![(share("orders"), slot.at)]).await.unwrap();
    let alone = ledger.claim(1, 0).await.unwrap().runs.remove(0).run;
    ledger.give_up(alone, Vec::new(), why()).await.unwrap();
    let detail = ledger.reader().run(alone).await.unwrap();
    assert_eq!((detail.run.state, &detail.deliveries[0].failure), (RunState::Failed, &Some(why())));
    // And it can be sent again.
    assert!(ledger.start_manual(slot, customers(&["acme"])).await.unwrap().claim.is_some());
}

#[tokio::test]
async fn what_there_is_to_do_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let run = run_in_all_states(&ledger).await;
    let reader = ledger.reader();
    let now = reader.standing_now(10, start()).await.unwrap();
    let names = |list: &[consign::ledger::Open]| list.iter().map(|open| open.customer.to_string()).collect::<Vec<_>>();
    assert_eq!((names(&now.at_work), now.at_work_count), (vec!["sealed".into(), "working".into()], 2));
    assert_eq!((names(&now.again), now.again_count, now.pending), (vec!["waiting".into()], 1, 1));
    assert_eq!((now.again[0].run, now.again[0].attempt), (run, Some(1)));
    assert_eq!((&now.again[0].failure, now.again[0].due), (&Some(passing()), Some(start() + TimeDelta::hours(3))));
    // Of that one another test tells.
    let but_failed = |_: &ShareName, of: &CustomerName| (of.as_str() != "failed").then_some(Mode::Slot);
    let later = slot("orders", 2);
    ledger.plan(vec![planned(later.clone(), &["acme"])], vec![(share("orders"), later.at)]).await.unwrap();
    assert_eq!(reader.standing_now(0, start()).await.unwrap().slots, 1);
    assert_eq!(
        reader.standing_now(1, start()).await.unwrap().at_work.len(),
        1,
        "a list has its limit, a count has none"
    );
    assert_eq!(reader.failing(but_failed, 10).await.unwrap(), Failing::default());
    let alone = ledger.claim(1, 0).await.unwrap().runs.remove(0).run;
    ledger.give_up(alone, Vec::new(), why()).await.unwrap();
    let failing = reader.failing(but_failed, 10).await.unwrap();
    let [FailedShare { runs: 1, last: failed }] = &failing.list[..] else { panic!("{failing:?}") };
    assert_eq!((failed.run, failed.failed, &failed.failure), (alone, 1, &Some(why())));
    let counted = reader.failing(but_failed, 0).await.unwrap();
    assert_eq!((counted.shares, counted.list.len()), (1, 0), "a list has its limit, a count has none");
    // Delivered all the same, it is nothing to see to.
    let again = ledger.start_manual(later.clone(), customers(&["acme"])).await.unwrap().claim.unwrap();
    let attempt = ledger.attempt_started(again.deliveries[0].1, None).await.unwrap();
    assert_eq!(reader.failing(but_failed, 10).await.unwrap().shares, 1, "not delivered yet");
    deliver(&ledger, &later, attempt.id, "u-again").await.unwrap();
    assert_eq!(reader.failing(but_failed, 10).await.unwrap(), Failing::default());
    let unknown = reader.run(RunId::new(start())).await;
    assert!(matches!(unknown, Err(LedgerError::Unknown { .. })));
}

/// One slot for these customers, of whom some do not get it.
async fn slot_of(ledger: &Ledger, name: &str, n: i64, names: &[&str], fail: &[&str]) -> RunId {
    let slot = slot(name, n);
    ledger.plan(vec![planned(slot.clone(), names)], vec![(share(name), slot.at)]).await.unwrap();
    let claim = ledger.claim(1, 0).await.unwrap().runs.remove(0);
    for (customer, delivery) in &claim.deliveries {
        let attempt = ledger.attempt_started(*delivery, None).await.unwrap().id;
        match fail.contains(&customer.as_str()) {
            true => ledger.failed(attempt, lasting(), None).await.unwrap(),
            false => deliver(ledger, &slot, attempt, &format!("u-{customer}")).await.unwrap(),
        }
    }
    ledger.run_finished(claim.run).await.unwrap();
    claim.run
}

/// However long others of its run go on.
#[tokio::test]
async fn what_failed_is_told_while_others_of_the_run_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slot = slot("orders", 1);
    ledger.plan(vec![planned(slot.clone(), &["acme", "globex"])], vec![(share("orders"), slot.at)]).await.unwrap();
    let claim = ledger.claim(1, 0).await.unwrap().runs.remove(0);
    assert_eq!(lacking(&ledger, any).await, Vec::<String>::new());
    let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap().id;
    ledger.failed(attempt, lasting(), None).await.unwrap();
    assert_eq!(lacking(&ledger, any).await, ["orders: acme 1/1"]);
    let Failing { list, .. } = ledger.reader().failing(any, 9).await.unwrap();
    assert_eq!((list[0].last.run, list[0].last.finished), (claim.run, start()));
}

fn replaced(_: &ShareName, _: &CustomerName) -> Option<Mode> {
    Some(Mode::Replace)
}

/// `share: customer failed/runs`, as `consign status` lists them.
async fn lacking(
    ledger: &Ledger,
    mode: impl Fn(&ShareName, &CustomerName) -> Option<Mode> + Send + 'static,
) -> Vec<String> {
    let Failing { list, .. } = ledger.reader().failing(mode, 9).await.unwrap();
    let line =
        |FailedShare { runs, last }: FailedShare| format!("{}: {} {}/{runs}", last.share, last.customer, last.failed);
    list.into_iter().map(line).collect()
}

/// However long ago it failed, and whatever was delivered since.
#[tokio::test]
async fn what_somebody_lacks_is_told_until_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let both = ["acme", "globex"];
    slot_of(&ledger, "weekly", 1, &both, &["globex"]).await;
    for n in 1..30 {
        slot_of(&ledger, "hourly", n, &["acme"], &["acme"]).await;
    }
    assert_eq!(lacking(&ledger, any).await, ["hourly: acme 1/29", "weekly: globex 1/1"]);
    // Each slot has keys of its own: a later one does not make up for it.
    slot_of(&ledger, "weekly", 200, &both, &[]).await;
    assert_eq!(lacking(&ledger, any).await, ["hourly: acme 1/29", "weekly: globex 1/1"]);
    // Nobody lacks what is delivered no more.
    let but_weekly = |share: &ShareName, _: &CustomerName| (share.as_str() != "weekly").then_some(Mode::Slot);
    assert_eq!(lacking(&ledger, but_weekly).await, ["hourly: acme 1/29"]);
    let again = ledger.start_manual(slot("weekly", 1), customers(&["globex"])).await.unwrap().claim.unwrap();
    let attempt = ledger.attempt_started(again.deliveries[0].1, None).await.unwrap().id;
    deliver(&ledger, &slot("weekly", 1), attempt, "u-again").await.unwrap();
    assert_eq!(lacking(&ledger, any).await, ["hourly: acme 1/29"]);
}

/// Only the newest slot counts, for each customer by itself.
#[tokio::test]
async fn what_is_replaced_is_lacking_until_a_later_slot_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let both = ["acme", "globex"];
    slot_of(&ledger, "list", 1, &both, &["acme", "globex"]).await;
    slot_of(&ledger, "list", 2, &both, &["acme"]).await;
    assert_eq!(lacking(&ledger, any).await, ["list: acme 1/2"]);
    assert_eq!(lacking(&ledger, replaced).await, ["list: acme 1/1"]);
    slot_of(&ledger, "list", 3, &["globex"], &["globex"]).await;
    // Of acme's slot 2 and globex's slot 3 none has a later one.
    assert_eq!(lacking(&ledger, replaced).await, ["list: globex 1/2"]);
    slot_of(&ledger, "list", 4, &both, &[]).await;
    assert_eq!(lacking(&ledger, replaced).await, Vec::<String>::new());
}

/// What a rule, or somebody, has left out was not to be delivered: it is told until the next slot.
#[tokio::test]
async fn what_was_left_out_is_told_until_a_later_slot_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let one = slot("orders", 1);
    ledger.plan(vec![planned(one.clone(), &["acme"])], vec![(share("orders"), one.at)]).await.unwrap();
    let run = ledger.claim(1, 0).await.unwrap().runs.remove(0).run;
    ledger.give_up(run, Vec::new(), why()).await.unwrap();
    assert_eq!(lacking(&ledger, any).await, ["orders: acme 1/1"]);
    slot_of(&ledger, "orders", 2, &["acme"], &["acme"]).await;
    assert_eq!(lacking(&ledger, any).await, ["orders: acme 1/1"], "only the one that failed");
    slot_of(&ledger, "orders", 3, &["acme"], &[]).await;
    assert_eq!(lacking(&ledger, any).await, ["orders: acme 1/1"], "which is lacking still");
}

/// What was planned and had not begun is left out too: it is before the pause.
#[tokio::test]
async fn the_first_slot_that_a_pause_left_out_may_be_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |n| slot("orders", n).at;
    let clock = Clock::fixed(at(0));
    let ledger = open_at(dir.path(), clock.clone());
    let plan = async |n: i64| {
        let slot = slot("orders", n);
        ledger.plan(vec![planned(slot.clone(), &["acme"])], vec![(share("orders"), slot.at)]).await.unwrap();
        slot.at
    };
    let first = async |since| ledger.reader().first_left_out(share("orders"), since).await.unwrap();
    let first_at = plan(1).await;
    clock.set(at(2));
    ledger.pause(share("orders")).await.unwrap();
    let since = ledger.resume(share("orders")).await.unwrap().unwrap();
    assert_eq!((since > first_at, first(since).await), (true, Some(first_at)));
    // That of the pause before is not this one's.
    clock.set(at(3));
    ledger.pause(share("orders")).await.unwrap();
    clock.set(at(5));
    let since = ledger.resume(share("orders")).await.unwrap().unwrap();
    assert_eq!(first(since).await, None);
    ledger.pause(share("orders")).await.unwrap();
    let sixth = plan(6).await;
    let since = ledger.resume(share("orders")).await.unwrap().unwrap();
    assert_eq!(first(since).await, Some(sixth));
}

/// The clock was ten hours ahead for a while: what it planned then is taken back, but
/// for what somebody has got.
#[tokio::test]
async fn what_was_planned_ahead_of_the_clock_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(slot("orders", 10).at);
    let ledger = open_at(dir.path(), clock.clone());
    let skipped = |n| Planned { skip: Some(SkipReason::Missed), ..planned(slot("orders", n), &["acme"]) };
    let mut all: Vec<Planned> = (1..9).map(skipped).collect();
    all.extend([9, 10].map(|n| planned(slot("orders", n), &["acme"])));
    ledger
        .plan(all, vec![(share("orders"), slot("orders", 10).at), (share("late"), slot("late", 0).at)])
        .await
        .unwrap();
    let claim = ledger.claim(1, 0).await.unwrap().runs.remove(0);
    assert_eq!(claim.slot.at, slot("orders", 9).at);
    let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap().id;
    deliver(&ledger, &claim.slot, attempt, "u1").await.unwrap();
    ledger.run_finished(claim.run).await.unwrap();
    // A pause that began and ended meanwhile would leave out slots in nine hours.
    ledger.pause(share("orders")).await.unwrap();
    clock.set(slot("orders", 12).at);
    ledger.resume(share("orders")).await.unwrap();

    let now = slot("orders", 2).at;
    clock.set(now);
    let ahead = ledger.reader().ahead(now).await.unwrap();
    assert_eq!(ahead, [(share("orders"), slot("orders", 10).at)]);
    let rewound = ledger.rewind().await.unwrap();
    let from = Some(slot("orders", 10).at);
    assert_eq!(rewound, Rewound { to: now, shares: 1, from, forgotten: 7, kept: 1 });
    assert_eq!(ledger.reader().ahead(now).await.unwrap(), []);
    assert_eq!(ledger.cursor(&share("orders")).await.unwrap(), Some(now));
    assert_eq!(ledger.cursor(&share("late")).await.unwrap(), Some(slot("late", 0).at));
    let left: Vec<_> =
        ledger.reader().skipped(None, None, 99).await.unwrap().into_iter().map(|slot| slot.slot.at).collect();
    assert_eq!(left, [2, 1].map(|n| slot("orders", n).at), "what is past stays on record");
    let again = ledger.rewind().await.unwrap();
    assert_eq!(again, Rewound { to: now, shares: 0, from: None, forgotten: 0, kept: 0 });

    // In their time they are planned, and what somebody has got is not begun again.
    let mut begun = Vec::new();
    for n in 3..=11 {
        let slot = slot("orders", n);
        clock.set(slot.at);
        ledger.plan(vec![planned(slot.clone(), &["acme"])], vec![(share("orders"), slot.at)]).await.unwrap();
        begun.extend(ledger.claim(9, 9).await.unwrap().runs.into_iter().map(|claim| claim.slot.at));
    }
    assert_eq!(begun, [3, 4, 5, 6, 7, 8, 10, 11].map(|n| slot("orders", n).at));
    assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
}

on_postgres! {
    a_cancelled_run_marks_what_is_not_stored,
    what_nobody_has_at_work_is_given_up_at_once,
    what_there_is_to_do_is_told,
    what_somebody_lacks_is_told_until_it_is_there,
    what_failed_is_told_while_others_of_the_run_go_on,
    what_is_replaced_is_lacking_until_a_later_slot_is_there,
    what_was_left_out_is_told_until_a_later_slot_is_there,
    the_first_slot_that_a_pause_left_out_may_be_before_it,
    what_was_planned_ahead_of_the_clock_is_taken_back,
    a_run_is_found_by_how_its_id_begins,
    uploads_of_ended_runs_are_told_and_those_at_work_are_not,
}

#[tokio::test]
async fn a_run_is_found_by_how_its_id_begins() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let mut ids = Vec::new();
    for hour in 0..12 {
        let started = ledger.start_manual(slot("orders", hour), customers(&["acme"])).await.unwrap();
        ids.push(started.claim.unwrap().run.to_string());
    }
    ids.sort();
    let found = async |text: &str| -> Vec<String> {
        let found = ledger.reader().runs_beginning(text, 5).await.unwrap();
        found.iter().map(ToString::to_string).collect()
    };
    for id in &ids {
        for length in 0..=id.len() {
            let begins = |other: &&String| other.starts_with(&id[..length]);
            let all: Vec<String> = ids.iter().filter(begins).take(5).cloned().collect();
            assert_eq!(found(&id[..length]).await, all, "{}", &id[..length]);
        }
    }
    for none in ["%", "_", "nope", "0' OR 1=1", "ffff", &format!("{}0", ids[0])] {
        assert_eq!(found(none).await, Vec::<String>::new(), "{none}");
    }
}

#[tokio::test]
async fn uploads_of_ended_runs_are_told_and_those_at_work_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slot = slot("orders", 1);
    ledger.plan(vec![planned(slot.clone(), &["acme", "globex"])], vec![(share("orders"), slot.at)]).await.unwrap();
    let claim = ledger.claim(1, 0).await.unwrap().runs.remove(0);
    let mut attempts = Vec::new();
    for (_, delivery) in &claim.deliveries {
        let attempt = ledger.attempt_started(*delivery, None).await.unwrap().id;
        ledger.upload_created(attempt, &key(&slot, "a.csv"), "u1").await.unwrap();
        attempts.push(attempt);
    }
    ledger.failed(attempts[0], lasting(), None).await.unwrap();
    assert!(ledger.ended_with_uploads().await.unwrap().is_empty());
    ledger.upload_aborted(attempts[1], "u1").await.unwrap();
    ledger.failed(attempts[1], lasting(), None).await.unwrap();
    ledger.run_finished(claim.run).await.unwrap();
    let left = ledger.ended_with_uploads().await.unwrap();
    assert_eq!((left.len(), left[0].run, left[0].deliveries.len()), (1, claim.run, 1));
    assert_eq!(left[0].deliveries[0].uploads[0].upload_id, "u1");
    ledger.upload_aborted(attempts[0], "u1").await.unwrap();
    assert!(ledger.ended_with_uploads().await.unwrap().is_empty());
}
