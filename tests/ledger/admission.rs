//! Which planned slots begin: overlap, what is late, deadlines, pauses, backfill.

use chrono::TimeDelta;
use consign::clock::Clock;
use consign::config::Overlap;
use consign::domain::{Origin, SkipReason, Slot};
use consign::ledger::{
    Backlog, Claim, Claims, DeliveryId, DeliveryState, Filling, History, Ledger, Planned, RunState, Wanted,
};

use super::{customers, deliver, hour, lasting, open, open_at, passing, planned, share, slot, start};

/// Plans the share's slots of these hours.
async fn plan(ledger: &Ledger, overlap: Overlap, origin: Origin, hours: &[i64], names: &[&str]) {
    let plan = |hour: &i64| Planned { overlap, ..Planned::new(slot("a", *hour), customers(names), origin) };
    ledger.plan(hours.iter().map(plan).collect(), Vec::new()).await.unwrap();
}

/// `hour: customers` of each run that began.
fn begun(claims: &Claims) -> Vec<String> {
    let names = |claim: &Claim| claim.deliveries.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(" ");
    claims.runs.iter().map(|claim| format!("{}: {}", hour(&claim.slot), names(claim))).collect()
}

fn skipped(claims: &Claims) -> Vec<(i64, SkipReason)> {
    claims.skipped.iter().map(|(slot, reason)| (hour(slot), *reason)).collect()
}

async fn commit(ledger: &Ledger, slot: &Slot, delivery: DeliveryId) {
    let attempt = ledger.attempt_started(delivery, None).await.unwrap();
    deliver(ledger, slot, attempt.id, &format!("u{}", attempt.number)).await.unwrap();
}

/// Claims so many on time and late, again and again, until there is nothing to look at.
/// Returns how many were looked at, and what began.
async fn claim_all(ledger: &Ledger, slots: usize) -> (usize, Vec<Claim>) {
    let (mut looked_at, mut runs) = (0, Vec::new());
    loop {
        let claims = ledger.claim(slots, slots).await.unwrap();
        if claims.looked_at == 0 {
            return (looked_at, runs);
        }
        looked_at += claims.looked_at;
        runs.extend(claims.runs);
    }
}

/// Commits every delivery of a run and ends it.
async fn finish(ledger: &Ledger, claim: &Claim) {
    for (_, delivery) in &claim.deliveries {
        commit(ledger, &claim.slot, *delivery).await;
    }
    ledger.run_finished(claim.run).await.unwrap();
}

#[tokio::test]
async fn skip_leaves_out_what_would_overlap_customer_by_customer() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    plan(&ledger, Overlap::Skip, Origin::Schedule, &[1], &["acme", "globex"]).await;
    let first = ledger.claim(1, 0).await.unwrap();
    assert_eq!(begun(&first), ["1: acme globex"]);
    // Both are at work: nobody gets the next one.
    plan(&ledger, Overlap::Skip, Origin::Schedule, &[2], &["acme", "globex"]).await;
    let second = ledger.claim(9, 0).await.unwrap();
    assert_eq!((begun(&second).len(), skipped(&second)), (0, vec![(2, SkipReason::Overlap)]));
    let on_record = ledger.reader().skipped(None, None, 9).await.unwrap();
    assert_eq!((on_record.len(), on_record[0].reason), (1, SkipReason::Overlap));
    // acme is slow. globex has the third one, and it is on record that acme has not.
    commit(&ledger, &first.runs[0].slot, first.runs[0].deliveries[1].1).await;
    plan(&ledger, Overlap::Skip, Origin::Schedule, &[3], &["acme", "globex"]).await;
    let third = ledger.claim(9, 0).await.unwrap();
    assert_eq!((begun(&third), skipped(&third)), (vec!["3: globex".to_owned()], vec![(3, SkipReason::Overlap)]));
    assert!(second.cancelled.is_empty() && third.cancelled.is_empty(), "who is slow goes on");
    let newest = ledger.reader().history(History { limit: 1, ..History::default() }).await.unwrap();
    let left_out = ledger.reader().run(newest[0].run).await.unwrap();
    assert_eq!((left_out.run.state, left_out.deliveries[0].customer.as_str()), (RunState::Failed, "acme"));
    let why = left_out.deliveries[0].failure.as_ref().unwrap();
    assert!(why.message.contains("another slot of the share was at work") && why.remedy.contains("consign send a"));
    // By hand it can have it.
    let sent = ledger.start_manual(slot("a", 3), customers(&["acme", "globex"])).await.unwrap();
    assert_eq!((sent.claim.unwrap().deliveries.len(), sent.busy.len()), (1, 1));
}

#[tokio::test]
async fn what_waits_for_another_try_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    for (hour, overlap) in [(1, Overlap::Skip), (2, Overlap::Skip), (3, Overlap::Queue)] {
        plan(&ledger, overlap, Origin::Schedule, &[hour], &["acme"]).await;
        let claims = ledger.claim(9, 0).await.unwrap();
        assert_eq!((begun(&claims), &claims.cancelled), (vec![format!("{hour}: acme")], &Vec::new()));
        let attempt = ledger.attempt_started(claims.runs[0].deliveries[0].1, None).await.unwrap();
        ledger.failed(attempt.id, passing(), Some(start())).await.unwrap();
    }
}

#[tokio::test]
async fn queue_waits_customer_by_customer_also_through_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    plan(&ledger, Overlap::Queue, Origin::Schedule, &[1, 2, 3], &["acme", "globex"]).await;
    let first = ledger.claim(9, 0).await.unwrap();
    assert_eq!((begun(&first), first.looked_at), (vec!["1: acme globex".to_owned()], 3));
    assert_eq!(first.cancelled, [], "nobody makes room");
    assert_eq!(ledger.claim(9, 0).await.unwrap().looked_at, 0, "what is held is not looked at");
    // globex is done: it goes on, and acme holds nobody up.
    commit(&ledger, &first.runs[0].slot, first.runs[0].deliveries[1].1).await;
    let second = ledger.claim(9, 0).await.unwrap();
    assert_eq!(begun(&second), ["2: globex"]);
    drop(ledger);
    let ledger = open(dir.path());
    commit(&ledger, &first.runs[0].slot, first.runs[0].deliveries[0].1).await;
    ledger.run_finished(first.runs[0].run).await.unwrap();
    let acme = ledger.claim(9, 0).await.unwrap();
    assert_eq!(begun(&acme), ["2: acme"]);
    finish(&ledger, &acme.runs[0]).await;
    finish(&ledger, &second.runs[0]).await;
    let last = ledger.claim(9, 0).await.unwrap();
    assert_eq!(begun(&last), ["3: acme globex"]);
    finish(&ledger, &last.runs[0]).await;
    assert!(ledger.unfinished().await.unwrap().is_empty());
    assert_eq!(ledger.claim(9, 9).await.unwrap().looked_at, 0);
}

/// A slot that waits for one customer is not begun again for another who failed with it.
#[tokio::test]
async fn who_fails_while_a_slot_is_held_for_another_is_not_begun_again() {
    for (overlap, origin) in [(Overlap::Queue, Origin::Schedule), (Overlap::Queue, Origin::Backfill)] {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        plan(&ledger, overlap, origin, &[1, 2], &["acme", "globex"]).await;
        let first = ledger.claim(1, 1).await.unwrap();
        assert_eq!(begun(&first), ["1: acme globex"]);
        commit(&ledger, &first.runs[0].slot, first.runs[0].deliveries[0].1).await;
        let second = ledger.claim(9, 9).await.unwrap();
        assert_eq!(begun(&second), ["2: acme"], "globex has the first one at work");
        let attempt = ledger.attempt_started(second.runs[0].deliveries[0].1, None).await.unwrap();
        ledger.failed(attempt.id, lasting(), None).await.unwrap();
        ledger.run_finished(second.runs[0].run).await.unwrap();
        assert_eq!(begun(&ledger.claim(9, 9).await.unwrap()), [""; 0], "acme has had its turn");
        commit(&ledger, &first.runs[0].slot, first.runs[0].deliveries[1].1).await;
        ledger.run_finished(first.runs[0].run).await.unwrap();
        let third = ledger.claim(9, 9).await.unwrap();
        assert_eq!(begun(&third), ["2: globex"]);
        finish(&ledger, &third.runs[0]).await;
        assert!(ledger.unfinished().await.unwrap().is_empty());
        let again = ledger.start_manual(slot("a", 2), customers(&["acme", "globex"])).await.unwrap();
        assert_eq!((again.claim.unwrap().deliveries.len(), again.committed.len()), (1, 1), "by hand it is tried again");
    }
}

#[tokio::test]
async fn cancel_gives_up_the_earlier_one_unless_it_is_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    plan(&ledger, Overlap::Cancel, Origin::Schedule, &[1], &["acme", "globex"]).await;
    let first = ledger.claim(9, 0).await.unwrap();
    let (acme, globex) = (first.runs[0].deliveries[0].1, first.runs[0].deliveries[1].1);
    let attempt = ledger.attempt_started(acme, None).await.unwrap();
    let sealed = ledger.attempt_started(globex, None).await.unwrap();
    ledger.sealed(sealed.id, &[]).await.unwrap();
    plan(&ledger, Overlap::Cancel, Origin::Schedule, &[2], &["acme", "globex"]).await;
    let second = ledger.claim(9, 0).await.unwrap();
    assert_eq!((begun(&second).len(), second.cancelled), (0, vec![acme]));
    drop(ledger);
    // Whoever takes it up after a crash knows, too.
    let ledger = open(dir.path());
    let left = ledger.unfinished().await.unwrap();
    let why = left[0].deliveries[0].cancel.clone().unwrap();
    assert!(why.message.contains(&format!("given up for slot {}", slot("a", 2))), "{why}");
    assert_eq!((left[0].deliveries[1].state, &left[0].deliveries[1].cancel), (DeliveryState::Sealed, &None));
    ledger.failed(attempt.id, why, None).await.unwrap();
    let acme = ledger.claim(9, 0).await.unwrap();
    assert_eq!(begun(&acme), ["2: acme"]);
    // The newest counts: of two that wait, the older one never begins.
    plan(&ledger, Overlap::Cancel, Origin::Schedule, &[3, 4], &["acme", "globex"]).await;
    let newest = ledger.claim(9, 0).await.unwrap();
    assert!(skipped(&newest).contains(&(3, SkipReason::Overlap)), "{newest:?}");
    assert_eq!(newest.cancelled, [acme.runs[0].deliveries[0].1]);
}

#[tokio::test]
async fn allow_lets_both_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    plan(&ledger, Overlap::Allow, Origin::Schedule, &[1, 2, 3], &["acme"]).await;
    assert_eq!(begun(&ledger.claim(9, 0).await.unwrap()), ["1: acme", "2: acme", "3: acme"]);
}

#[tokio::test]
async fn what_is_late_goes_one_by_one_behind_what_is_on_time() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    plan(&ledger, Overlap::Allow, Origin::CatchUp, &[1, 2, 3], &["acme"]).await;
    ledger.backfill(vec![slot("a", -5)], customers(&["acme"])).await.unwrap();
    plan(&ledger, Overlap::Allow, Origin::Schedule, &[4, 5], &["acme"]).await;
    // No place for what is late: only what is on time begins.
    let on_time = ledger.claim(1, 0).await.unwrap();
    assert_eq!(begun(&on_time), ["4: acme"]);
    let claims = ledger.claim(9, 9).await.unwrap();
    assert_eq!(begun(&claims), ["5: acme", "1: acme"]);
    finish(&ledger, &on_time.runs[0]).await;
    finish(&ledger, &claims.runs[0]).await;
    assert_eq!(claims.runs.iter().map(|run| run.origin).collect::<Vec<_>>(), [Origin::Schedule, Origin::CatchUp]);
    let mut late = claims.runs[1].clone();
    let mut order = Vec::new();
    loop {
        finish(&ledger, &late).await;
        let next = ledger.claim(9, 9).await.unwrap();
        assert!(next.runs.len() <= 1, "more than one late slot at work");
        order.extend(begun(&next));
        let Some(next) = next.runs.into_iter().next() else { break };
        late = next;
    }
    assert_eq!(order, ["2: acme", "3: acme", "-5: acme"]);
}

/// What is caught up and what is filled in have one number together.
#[tokio::test]
async fn no_more_of_what_is_late_is_looked_at_than_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    plan(&ledger, Overlap::Queue, Origin::CatchUp, &[1], &["acme"]).await;
    plan(&ledger, Overlap::Queue, Origin::Backfill, &[2, 3], &["globex"]).await;
    let claims = ledger.claim(9, 2).await.unwrap();
    assert_eq!((begun(&claims), claims.looked_at), (vec!["1: acme".to_owned(), "2: globex".to_owned()], 2));
    let claims = ledger.claim(9, 2).await.unwrap();
    assert_eq!((begun(&claims), claims.looked_at), (Vec::new(), 1), "3 waits for 2");
}

/// A slot on time is not left out because an old one is being made up for.
#[tokio::test]
async fn what_is_late_never_costs_a_slot_on_time() {
    for overlap in [Overlap::Skip, Overlap::Queue, Overlap::Cancel] {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        plan(&ledger, overlap, Origin::CatchUp, &[1, 2], &["acme"]).await;
        let late = ledger.claim(9, 9).await.unwrap();
        assert_eq!(begun(&late), ["1: acme"]);
        plan(&ledger, overlap, Origin::Schedule, &[9], &["acme"]).await;
        let claims = ledger.claim(9, 9).await.unwrap();
        assert_eq!((begun(&claims).len(), claims.skipped, claims.cancelled), (0, vec![], vec![]), "{overlap:?}");
        finish(&ledger, &late.runs[0]).await;
        // It goes before the rest of what is late.
        assert_eq!(begun(&ledger.claim(9, 9).await.unwrap()), ["9: acme"], "{overlap:?}");
    }
}

/// However many of them wait for it: none is then left out for another that has waited with it.
#[tokio::test]
async fn what_has_waited_for_what_is_late_is_delivered_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    plan(&ledger, Overlap::Skip, Origin::CatchUp, &[1], &["acme"]).await;
    let late = ledger.claim(9, 9).await.unwrap();
    assert_eq!(begun(&late), ["1: acme"]);
    let hours: Vec<i64> = (2..=150).collect();
    plan(&ledger, Overlap::Skip, Origin::Schedule, &hours, &["acme"]).await;
    let (looked_at, runs) = claim_all(&ledger, 8).await;
    assert_eq!((looked_at, runs.len()), (hours.len(), 0));
    finish(&ledger, &late.runs[0]).await;
    for expected in hours {
        let (looked_at, runs) = claim_all(&ledger, 8).await;
        assert!(looked_at <= 33, "{looked_at} were looked at");
        assert_eq!(runs.iter().map(|run| hour(&run.slot)).collect::<Vec<_>>(), [expected]);
        // One that has not waited meets a slot on time.
        if expected == 2 {
            plan(&ledger, Overlap::Skip, Origin::Schedule, &[151], &["acme"]).await;
            assert_eq!(skipped(&ledger.claim(9, 9).await.unwrap()), [(151, SkipReason::Overlap)]);
        }
        finish(&ledger, &runs[0]).await;
    }
    assert_eq!(ledger.reader().skipped(None, None, 99).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_slot_whose_deadline_has_passed_does_not_begin() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(start());
    let ledger = open_at(dir.path(), clock.clone());
    let deadline = Some(start() + TimeDelta::minutes(10));
    let plan = |n| Planned { deadline, overlap: Overlap::Queue, ..planned(slot("a", n), &["acme", "globex"]) };
    ledger.plan(vec![plan(0), plan(1), plan(2)], Vec::new()).await.unwrap();
    let first = ledger.claim(2, 0).await.unwrap();
    assert_eq!((begun(&first), first.runs[0].deadline), (vec!["0: acme globex".to_owned()], deadline));
    commit(&ledger, &first.runs[0].slot, first.runs[0].deliveries[0].1).await;
    assert_eq!(begun(&ledger.claim(1, 0).await.unwrap()), ["1: acme"]);
    clock.set(start() + TimeDelta::minutes(10));
    commit(&ledger, &first.runs[0].slot, first.runs[0].deliveries[1].1).await;
    let late = ledger.claim(9, 0).await.unwrap();
    assert_eq!((begun(&late).len(), skipped(&late)), (0, vec![(1, SkipReason::Deadline), (2, SkipReason::Deadline)]));
    // The one that acme is getting was not skipped as a whole: globex's part has failed.
    let on_record = ledger.reader().skipped(None, None, 9).await.unwrap();
    let on_record: Vec<_> = on_record.into_iter().map(|of| (hour(&of.slot), of.reason, of.customers)).collect();
    let globex = Some(customers(&["globex"]));
    assert_eq!(on_record, [(2, SkipReason::Deadline, None), (1, SkipReason::Deadline, globex)]);
    let runs = ledger.reader().history(History { state: Some(RunState::Failed), limit: 9, ..History::default() });
    let runs = runs.await.unwrap();
    assert_eq!((runs.len(), runs[0].slot), (1, slot("a", 1).at));
}

#[tokio::test]
async fn a_paused_share_leaves_its_slots_out_and_does_not_make_up_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let to = |n| slot("a", n).at;
    let clock = Clock::fixed(to(1));
    let ledger = open_at(dir.path(), clock.clone());
    let plan = async |n| ledger.plan(vec![planned(slot("a", n), &["acme"])], vec![(share("a"), to(n))]).await.unwrap();
    plan(1).await;
    let at_work = ledger.claim(9, 0).await.unwrap();
    plan(2).await;
    clock.set(to(2) + TimeDelta::minutes(30));
    assert_eq!(ledger.pause(share("a")).await.unwrap().earlier, None);
    assert_eq!(ledger.pause(share("a")).await.unwrap().earlier, Some(clock.now()));
    assert_eq!(plan(3).await.left_out, [(slot("a", 3), SkipReason::Paused)]);
    assert_eq!(plan(3).await.left_out, [], "that was told");
    clock.set(to(3));
    ledger.plan(vec![planned(slot("b", 3), &["acme"])], Vec::new()).await.unwrap();
    let claims = ledger.claim(9, 9).await.unwrap();
    assert_eq!(claims.runs.iter().map(|run| run.slot.share.as_str()).collect::<Vec<_>>(), ["b"]);
    let left_out = async || {
        let slots = ledger.reader().skipped(Some(share("a")), None, 9).await.unwrap();
        slots.iter().map(|skipped| (hour(&skipped.slot), skipped.reason)).collect::<Vec<_>>()
    };
    assert_eq!(left_out().await, [(3, SkipReason::Paused), (2, SkipReason::Paused)]);
    // What had begun goes on, and a person can have more.
    finish(&ledger, &at_work.runs[0]).await;
    assert!(ledger.start_manual(slot("a", 2), customers(&["acme"])).await.unwrap().claim.is_some());
    clock.set(to(5) + TimeDelta::minutes(30));
    assert_eq!(ledger.resume(share("a")).await.unwrap(), Some(to(2) + TimeDelta::minutes(30)));
    assert_eq!(ledger.resume(share("a")).await.unwrap(), None);
    // Planned after the pause, as after downtime: a slot of the pause stays left out.
    plan(4).await;
    plan(6).await;
    clock.set(to(6));
    assert_eq!(begun(&ledger.claim(9, 9).await.unwrap()), ["6: acme"]);
    assert_eq!(left_out().await, [(4, SkipReason::Paused), (3, SkipReason::Paused)]);
}

/// A slot that waits for another one has not begun.
#[tokio::test]
async fn a_pause_leaves_out_what_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    plan(&ledger, Overlap::Queue, Origin::Schedule, &[1, 2], &["acme"]).await;
    let first = ledger.claim(9, 0).await.unwrap();
    assert_eq!((begun(&first), first.looked_at), (vec!["1: acme".to_owned()], 2));
    assert_eq!(ledger.pause(share("a")).await.unwrap().left_out, [(slot("a", 2), SkipReason::Paused)]);
    finish(&ledger, &first.runs[0]).await;
    assert_eq!(ledger.claim(9, 9).await.unwrap().looked_at, 0);
}

#[tokio::test]
async fn a_pause_has_the_slot_at_which_it_begins_and_not_that_at_which_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(slot("a", 3).at);
    let ledger = open_at(dir.path(), clock.clone());
    ledger.pause(share("a")).await.unwrap();
    clock.set(slot("a", 5).at);
    ledger.resume(share("a")).await.unwrap();
    plan(&ledger, Overlap::Allow, Origin::Schedule, &[2, 3, 4, 5], &["acme"]).await;
    assert_eq!(begun(&ledger.claim(9, 9).await.unwrap()), ["2: acme", "5: acme"]);
}

#[tokio::test]
async fn backfill_plans_what_nobody_has_and_leaves_the_rest_alone() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    plan(&ledger, Overlap::Queue, Origin::Schedule, &[1, 2], &["acme", "globex"]).await;
    let first = ledger.claim(1, 0).await.unwrap();
    commit(&ledger, &first.runs[0].slot, first.runs[0].deliveries[0].1).await;
    let failed = ledger.attempt_started(first.runs[0].deliveries[1].1, None).await.unwrap();
    ledger.failed(failed.id, super::lasting(), None).await.unwrap();
    ledger.run_finished(first.runs[0].run).await.unwrap();
    let skip = Planned { skip: Some(SkipReason::Missed), ..planned(slot("a", 3), &["acme"]) };
    ledger.plan(vec![skip], Vec::new()).await.unwrap();

    let slots = || (0..4).map(|n| slot("a", n)).collect::<Vec<_>>();
    let all = || customers(&["acme", "globex"]);
    let look = |filled: &[Filling]| {
        let lens = |one: &Filling| (one.to_deliver.len(), one.committed.len(), one.under_way.len());
        filled.iter().map(lens).collect::<Vec<_>>()
    };
    let expected = [(2, 0, 0), (1, 1, 0), (0, 0, 2), (2, 0, 0)];
    assert_eq!(look(&ledger.reader().standing(slots(), all()).await.unwrap()), expected);
    assert_eq!(look(&ledger.backfill(slots(), all()).await.unwrap()), expected);
    let again = [(0, 0, 2), (0, 1, 1), (0, 0, 2), (0, 0, 2)];
    assert_eq!(look(&ledger.backfill(slots(), all()).await.unwrap()), again, "twice plans nothing twice");

    assert_eq!(begun(&ledger.claim(9, 9).await.unwrap()), ["2: acme globex"]);
    ledger.release_held().await.unwrap();
    let mut order = Vec::new();
    let on_time = ledger.unfinished().await.unwrap().remove(0);
    for delivery in &on_time.deliveries {
        commit(&ledger, &on_time.slot, delivery.id).await;
    }
    ledger.run_finished(on_time.run).await.unwrap();
    loop {
        let claims = ledger.claim(9, 9).await.unwrap();
        if claims.runs.is_empty() {
            break;
        }
        order.extend(begun(&claims));
        for run in &claims.runs {
            assert_eq!(run.origin, Origin::Backfill);
            finish(&ledger, run).await;
        }
    }
    assert_eq!(order, ["0: acme globex", "1: globex", "3: acme", "3: globex"]);
    assert_eq!(look(&ledger.backfill(slots(), all()).await.unwrap()), [(0, 2, 0); 4]);
}

/// What the schedule has planned it does not plan again where it was taken back: whoever failed is not on the way.
#[tokio::test]
async fn who_failed_at_a_slot_beyond_the_cursor_can_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let plan = planned(slot("a", 3), &["acme", "globex"]);
    ledger.plan(vec![plan], vec![(share("a"), slot("a", 2).at)]).await.unwrap();
    let run = ledger.claim(1, 0).await.unwrap().runs.remove(0);
    let failed = ledger.attempt_started(run.deliveries[0].1, None).await.unwrap();
    ledger.failed(failed.id, lasting(), None).await.unwrap();
    ledger.start_manual(slot("a", 4), customers(&["globex"])).await.unwrap().claim.unwrap();
    let slots = vec![slot("a", 3), slot("a", 4), slot("a", 5)];
    let standing = ledger.reader().standing(slots, customers(&["acme"])).await.unwrap();
    let counts: Vec<_> = standing.iter().map(|one| (one.to_deliver.len(), one.under_way.len())).collect();
    assert_eq!(counts, [(1, 0), (0, 1), (0, 1)], "sent by hand or not at all, it is planned for acme yet");
}

/// It is none of what is filled in.
#[tokio::test]
async fn a_slot_that_is_filled_in_keeps_the_deadline_of_what_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(start());
    let ledger = open_at(dir.path(), clock.clone());
    let deadline = start() + TimeDelta::hours(2);
    let plan = Planned { deadline: Some(deadline), ..planned(slot("a", 1), &["acme", "globex"]) };
    ledger.plan(vec![plan], Vec::new()).await.unwrap();
    let first = ledger.claim(1, 0).await.unwrap().runs.remove(0);
    let failed = ledger.attempt_started(first.deliveries[1].1, None).await.unwrap();
    ledger.failed(failed.id, lasting(), None).await.unwrap();
    ledger.backfill(vec![slot("a", 1)], customers(&["globex"])).await.unwrap();
    clock.set(deadline);
    assert_eq!(ledger.keep_waiting(vec![share("a")]).await.unwrap(), [], "nor is it late while its plugin is halted");
    let filled = ledger.claim(9, 9).await.unwrap();
    assert_eq!((begun(&filled), skipped(&filled)), (vec!["1: globex".to_owned()], vec![]));
    assert_eq!((first.deadline, filled.runs[0].deadline), (Some(deadline), None));
    drop(ledger);
    let ledger = open_at(dir.path(), clock);
    let left = ledger.unfinished().await.unwrap();
    let deadlines: Vec<_> = left.iter().map(|left| (left.origin, left.deadline)).collect();
    assert_eq!(deadlines, [(Origin::Schedule, Some(deadline)), (Origin::Backfill, None)]);
}

/// Also with thousands of slots of one share at work: each look at a slot stays cheap.
#[tokio::test]
async fn a_long_backlog_is_claimed_in_good_time() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let hours: Vec<i64> = (0..5_000).collect();
    plan(&ledger, Overlap::Allow, Origin::Schedule, &hours, &["acme"]).await;
    let clock = std::time::Instant::now();
    assert_eq!(ledger.claim(usize::MAX, 0).await.unwrap().runs.len(), 5_000);
    // Much longer if others were looked through every time, and as long on a machine that has other things to do.
    assert!(clock.elapsed().as_secs() < 120, "{:?}", clock.elapsed());
}

/// Filled in for one customer it would be known, and the others would never get it.
#[tokio::test]
async fn what_the_schedule_is_yet_to_plan_is_not_filled_in() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let both = || vec![planned(slot("a", 1), &["acme", "globex"])];
    ledger.plan(both(), vec![(share("a"), slot("a", 1).at)]).await.unwrap();
    finish(&ledger, &ledger.claim(1, 0).await.unwrap().runs[0]).await;
    let filled = ledger.backfill(vec![slot("a", 2)], customers(&["acme"])).await.unwrap();
    assert_eq!((filled[0].to_deliver.len(), filled[0].under_way.len()), (0, 1));
    plan(&ledger, Overlap::Skip, Origin::Schedule, &[2], &["acme", "globex"]).await;
    assert_eq!(begun(&ledger.claim(9, 9).await.unwrap()), ["2: acme globex"]);
}

/// A long backfill is not held whole, only to be released and held again.
#[tokio::test]
async fn of_a_long_backfill_only_some_is_held_and_all_of_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slots = (-200..0).map(|hour| slot("a", hour)).collect();
    ledger.backfill(slots, customers(&["acme"])).await.unwrap();
    for expected in -200..0 {
        let (looked_at, runs) = claim_all(&ledger, 1).await;
        assert!(looked_at <= 33, "{looked_at} were looked at");
        assert_eq!(runs.iter().map(|run| hour(&run.slot)).collect::<Vec<_>>(), [expected]);
        finish(&ledger, &runs[0]).await;
    }
}

/// Nor are all looked at again and again of a share whose deliveries take longer than there is time between its
/// slots, which would hide what others have due.
#[tokio::test]
async fn of_a_long_queue_only_some_is_let_go_and_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let hours: Vec<i64> = (1..=100).collect();
    plan(&ledger, Overlap::Queue, Origin::Schedule, &hours, &["acme"]).await;
    ledger.plan(vec![planned(slot("b", 200), &["acme"])], Vec::new()).await.unwrap();
    for expected in 1..=100 {
        let (looked_at, runs) = claim_all(&ledger, 8).await;
        let most = if expected == 1 { hours.len() + 1 } else { 33 };
        assert!(looked_at <= most, "{looked_at} were looked at");
        let of =
            |name: &str| runs.iter().filter(|run| run.slot.share == share(name)).map(|run| hour(&run.slot)).collect();
        let (a, b): (Vec<i64>, Vec<i64>) = (of("a"), of("b"));
        assert_eq!((a, b.len()), (vec![expected], usize::from(expected == 1)));
        finish(&ledger, runs.iter().find(|run| run.slot.share == share("a")).unwrap()).await;
    }
    let waiting = ledger.reader().backlogs(0, start()).await.unwrap();
    assert_eq!(waiting, []);
}

/// Nor does one customer whose delivery takes long keep the others of the share from theirs.
#[tokio::test]
async fn who_is_slow_keeps_nobody_else_of_the_share_waiting() {
    for (overlap, first) in [(Overlap::Queue, Origin::Schedule), (Overlap::Skip, Origin::CatchUp)] {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        plan(&ledger, overlap, first, &[1], &["acme"]).await;
        let slow = ledger.claim(9, 9).await.unwrap().runs.remove(0);
        for expected in 2..=60 {
            plan(&ledger, overlap, Origin::Schedule, &[expected], &["acme", "globex"]).await;
            let (looked_at, runs) = claim_all(&ledger, 8).await;
            assert_eq!((looked_at, runs.len()), (1, 1), "{overlap:?} {expected}");
            assert_eq!((hour(&runs[0].slot), runs[0].deliveries[0].0.as_str()), (expected, "globex"));
            finish(&ledger, &runs[0]).await;
        }
        // What is slow catches up, and not all that waits is looked at each time.
        let mut last = slow;
        for expected in 2..=60 {
            finish(&ledger, &last).await;
            let (looked_at, runs) = claim_all(&ledger, 8).await;
            assert!(looked_at <= 33, "{looked_at} were looked at");
            assert_eq!((runs.len(), hour(&runs[0].slot)), (1, expected), "{overlap:?}");
            last = runs[0].clone();
        }
        finish(&ledger, &last).await;
        assert_eq!(ledger.reader().skipped(None, None, 99).await.unwrap(), []);
        assert_eq!(ledger.reader().pending(start()).await.unwrap(), 0);
    }
}

/// Nor where all of it is late, and both have a long way to go.
#[tokio::test]
async fn who_is_slow_keeps_nobody_else_of_a_backfill_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let hours: Vec<i64> = (1..=100).collect();
    plan(&ledger, Overlap::Queue, Origin::Backfill, &hours, &["acme", "globex"]).await;
    let (_, runs) = claim_all(&ledger, 4).await;
    assert_eq!(runs.len(), 1);
    let [acme, globex] = [0, 1].map(|of| runs[0].deliveries[of].1);
    commit(&ledger, &runs[0].slot, globex).await;
    for (expected, name) in hours[1..].iter().map(|hour| (*hour, "globex")) {
        let (looked_at, runs) = claim_all(&ledger, 4).await;
        assert!(looked_at <= 40, "{looked_at} were looked at");
        assert_eq!((runs.len(), hour(&runs[0].slot), runs[0].deliveries[0].0.as_str()), (1, expected, name));
        finish(&ledger, &runs[0]).await;
    }
    commit(&ledger, &runs[0].slot, acme).await;
    ledger.run_finished(runs[0].run).await.unwrap();
    for (expected, name) in hours[1..].iter().map(|hour| (*hour, "acme")) {
        let (looked_at, runs) = claim_all(&ledger, 4).await;
        assert!(looked_at <= 40, "{looked_at} were looked at");
        assert_eq!((runs.len(), hour(&runs[0].slot), runs[0].deliveries[0].0.as_str()), (1, expected, name));
        finish(&ledger, &runs[0]).await;
    }
    assert_eq!(ledger.claim(9, 9).await.unwrap().looked_at, 0);
}

/// Where what was let go comes to nothing, what waits behind it is let go.
#[tokio::test]
async fn what_waits_behind_slots_that_are_left_out_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(start());
    let ledger = open_at(dir.path(), clock.clone());
    let deadline = start() + TimeDelta::minutes(10);
    let plan = |n| Planned {
        deadline: (n <= 50).then_some(deadline),
        overlap: Overlap::Skip,
        ..planned(slot("a", n), &["acme"])
    };
    let late = Planned { origin: Origin::CatchUp, ..planned(slot("a", 1), &["acme"]) };
    ledger.plan(vec![late], Vec::new()).await.unwrap();
    let late = ledger.claim(9, 9).await.unwrap().runs.remove(0);
    ledger.plan((2..=60).map(plan).collect(), Vec::new()).await.unwrap();
    assert_eq!(claim_all(&ledger, 8).await.1, []);
    // One of them is given by hand meanwhile, and then nothing is left of it to begin.
    let by_hand = ledger.start_manual(slot("a", 51), customers(&["acme"])).await.unwrap().claim.unwrap();
    finish(&ledger, &by_hand).await;
    clock.set(deadline);
    finish(&ledger, &late).await;
    for expected in 52..=60 {
        let (_, runs) = claim_all(&ledger, 8).await;
        assert_eq!(runs.iter().map(|run| hour(&run.slot)).collect::<Vec<_>>(), [expected]);
        finish(&ledger, &runs[0]).await;
    }
    assert_eq!(ledger.reader().skipped(None, None, 99).await.unwrap().len(), 49);
}

#[tokio::test]
async fn shares_that_get_more_than_they_deliver_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    plan(&ledger, Overlap::Queue, Origin::Schedule, &(1..=20).collect::<Vec<_>>(), &["acme"]).await;
    plan(&ledger, Overlap::Queue, Origin::Backfill, &(30..=99).collect::<Vec<_>>(), &["acme"]).await;
    let first = ledger.claim(5, 0).await.unwrap();
    assert_eq!(begun(&first), ["1: acme"]);
    // Planned by a clock that was ahead: it does not wait, its time has not come.
    ledger
        .plan(vec![planned(Slot { at: start() + TimeDelta::hours(1), ..slot("a", 100) }, &["acme"])], Vec::new())
        .await
        .unwrap();
    let told = ledger.reader().backlogs(18, start()).await.unwrap();
    assert_eq!(told, [Backlog { share: share("a"), slots: 19, oldest: slot("a", 2).at }], "held or pending, on time");
    assert_eq!(ledger.reader().backlogs(19, start()).await.unwrap(), []);
}

/// However many slots of a share wait that has enough already, the others' are claimed.
#[tokio::test]
async fn slots_of_shares_that_are_not_wanted_hide_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let planned = |name: &str, hour: i64, origin| Planned::new(slot(name, hour), customers(&["acme"]), origin);
    let origins = [Origin::Schedule, Origin::CatchUp, Origin::Backfill];
    let of_a = (1..=30).map(|hour| planned("a", hour, origins[usize::try_from(hour).unwrap() % 3]));
    let of_others = [planned("b", 40, Origin::Schedule), planned("c", 41, Origin::Backfill)];
    ledger.plan(of_a.chain(of_others).collect(), Vec::new()).await.unwrap();
    let but = |names: &[&str]| Wanted { slots: 2, except: names.iter().map(|name| share(name)).collect() };
    let began = |claims: &Claims| claims.runs.iter().map(|run| run.slot.share.to_string()).collect::<Vec<_>>();
    let claims = ledger.claim(but(&["a", "x"]), but(&["a"])).await.unwrap();
    assert_eq!((began(&claims), claims.looked_at), (vec!["b".to_owned(), "c".to_owned()], 2));
    let claims = ledger.claim(but(&["a"]), 0).await.unwrap();
    assert_eq!((began(&claims), claims.looked_at), (vec![], 0));
    let claims = ledger.claim(but(&["b"]), 0).await.unwrap();
    assert_eq!((began(&claims), claims.looked_at), (vec!["a".to_owned(); 2], 2));
}

on_postgres! {
    skip_leaves_out_what_would_overlap_customer_by_customer,
    what_waits_for_another_try_is_in_nobodys_way,
    queue_waits_customer_by_customer_also_through_a_restart,
    who_fails_while_a_slot_is_held_for_another_is_not_begun_again,
    cancel_gives_up_the_earlier_one_unless_it_is_sealed,
    allow_lets_both_go_on,
    what_is_late_goes_one_by_one_behind_what_is_on_time,
    no_more_of_what_is_late_is_looked_at_than_was_asked_for,
    what_is_late_never_costs_a_slot_on_time,
    a_slot_whose_deadline_has_passed_does_not_begin,
    a_paused_share_leaves_its_slots_out_and_does_not_make_up_for_them,
    what_has_waited_for_what_is_late_is_delivered_one_after_the_other,
    who_is_slow_keeps_nobody_else_of_the_share_waiting,
    who_is_slow_keeps_nobody_else_of_a_backfill_waiting,
    what_waits_behind_slots_that_are_left_out_goes_on,
    a_pause_leaves_out_what_is_held,
    a_pause_has_the_slot_at_which_it_begins_and_not_that_at_which_it_ends,
    backfill_plans_what_nobody_has_and_leaves_the_rest_alone,
    a_slot_that_is_filled_in_keeps_the_deadline_of_what_is_under_way,
    a_long_backlog_is_claimed_in_good_time,
    what_the_schedule_is_yet_to_plan_is_not_filled_in,
    of_a_long_backfill_only_some_is_held_and_all_of_it_begins,
    of_a_long_queue_only_some_is_let_go_and_others_go_on,
    shares_that_get_more_than_they_deliver_are_told,
    slots_of_shares_that_are_not_wanted_hide_no_others,
}

/// Planned by a clock that was ahead, as catching up and by hand too.
#[tokio::test]
async fn what_is_ahead_of_the_clock_waits_for_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(slot("a", 0).at);
    let ledger = open_at(dir.path(), clock.clone());
    // The newest one gives the one before it up, in its time.
    plan(&ledger, Overlap::Cancel, Origin::Schedule, &[0, 1], &["acme"]).await;
    plan(&ledger, Overlap::Allow, Origin::CatchUp, &[2], &["globex"]).await;
    let claims = ledger.claim(9, 9).await.unwrap();
    assert_eq!((begun(&claims), skipped(&claims), claims.looked_at), (vec!["0: acme".to_owned()], Vec::new(), 1));
    clock.set(slot("a", 1).at - TimeDelta::minutes(6));
    assert_eq!(ledger.claim(9, 9).await.unwrap(), Claims::default());
    // Clocks are put right by as much all the time.
    clock.set(slot("a", 1).at - TimeDelta::minutes(5));
    assert_eq!(ledger.claim(9, 9).await.unwrap().cancelled, [claims.runs[0].deliveries[0].1]);
    clock.set(slot("a", 2).at);
    assert_eq!(begun(&ledger.claim(9, 9).await.unwrap()), ["2: globex"]);
}
