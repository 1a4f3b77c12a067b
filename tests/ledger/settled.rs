//! Deliveries in doubt of which somebody says what became of them.

use chrono::TimeDelta;
use consign::config::Overlap;
use consign::domain::{
    Completion, ContentDigest, Failure, Layer, PluginName, ProfileHash, Retry, Role, SealedObject, Slot,
};
use consign::ledger::{
    AttemptId, AttemptState, Claim, DeliveryState, Formatter, Ledger, Order, Planned, RunState, Saying, Settled,
    Unsettled, UploadState, Verdict,
};

use super::nodes::{Shared, TAKE_FOR_DEAD};
use super::{customers, destination, draft, key, lasting, object, open, passing, planned, share, slot, start};

on_postgres! {
    what_is_said_to_be_there_is_committed_without_what_is_not_known_to_be,
    what_is_said_not_to_be_there_has_failed_and_begins_again,
    nothing_is_settled_where_one_is_in_no_doubt,
    what_was_delivered_and_is_there_no_more_has_failed,
    what_waited_for_it_is_looked_at_again,
    a_word_says_nothing_of_customers_and_plugins,
}

fn says(verdict: Verdict) -> Saying {
    Saying { verdict, by: "root".to_owned(), reason: Some("looked into the bucket".to_owned()) }
}

fn done(object: SealedObject) -> SealedObject {
    SealedObject { completion: Completion::Done("e1".into()), ..object }
}

/// Everything of it is stored, and the manifest may have been asked for.
async fn seal(ledger: &Ledger, slot: &Slot, attempt: AttemptId, manifest: &str) {
    let manifest = key(slot, manifest);
    let marker = SealedObject { role: Role::SuccessMarker, ..object(&key(slot, "_SUCCESS"), "marker") };
    let objects = [object(&key(slot, "rows.csv"), "data"), marker];
    for (key, upload) in [(&key(slot, "rows.csv"), "data"), (&key(slot, "_SUCCESS"), "marker"), (&manifest, "manifest")]
    {
        ledger.upload_created(attempt, key, upload).await.unwrap();
    }
    ledger.drafted(attempt, &draft(slot)).await.unwrap();
    ledger.sealed(attempt, &objects).await.unwrap();
    ledger.completions(attempt, &[done(objects[0].clone())]).await.unwrap();
}

/// The `n`-th slot by hand, in doubt for all of these and waiting for its next try.
async fn in_doubt(ledger: &Ledger, n: i64, names: &[&str]) -> Claim {
    let claim = ledger.start_manual(slot("a", n), customers(names)).await.unwrap().claim.unwrap();
    for (customer, delivery) in &claim.deliveries {
        let to = destination(key(&slot("a", n), &format!("{customer}.json")).as_str());
        let attempt = ledger.attempt_started(*delivery, Some(to)).await.unwrap().id;
        seal(ledger, &slot("a", n), attempt, &format!("{customer}.json")).await;
        ledger.failed(attempt, passing(), Some(start() + TimeDelta::hours(1))).await.unwrap();
    }
    claim
}

fn settled() -> Option<Settled> {
    Some(Settled { by: "root".into(), at: start(), reason: Some("looked into the bucket".into()) })
}

#[tokio::test]
async fn what_is_said_to_be_there_is_committed_without_what_is_not_known_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let claim = in_doubt(&ledger, 1, &["acme"]).await;
    let manifest = key(&slot("a", 1), "acme.json").to_string();
    let before = ledger.reader().run(claim.run).await.unwrap().deliveries.remove(0);
    assert_eq!((before.in_doubt.as_deref(), before.settled), (Some(manifest.as_str()), None));
    assert_eq!(
        ledger.reader().standing_now(9, start()).await.unwrap().again[0].in_doubt.as_deref(),
        Some(manifest.as_str())
    );
    let all = ledger.settle(claim.run, customers(&["acme"]), says(Verdict::Committed)).await.unwrap().unwrap();
    assert_eq!((all.len(), &all[0].lacking), (1, &vec![key(&slot("a", 1), "_SUCCESS").to_string()]));
    let made = all[0].outcome.as_ref().unwrap();
    assert_eq!((made.rows, made.objects.len(), made.objects[0].etag.as_str()), (3, 1, "e1"));
    let after = ledger.reader().run(claim.run).await.unwrap();
    // Whoever is at work ends the run.
    assert_eq!(after.run.state, RunState::Running);
    let delivery = &after.deliveries[0];
    assert_eq!((delivery.state, &delivery.failure, delivery.due), (DeliveryState::Committed, &None, None));
    assert_eq!((delivery.manifest_key.as_ref(), delivery.rows, delivery.bytes), (Some(&manifest), Some(3), Some(40)));
    assert_eq!((&delivery.in_doubt, &delivery.settled), (&None, &settled()));
    assert_eq!((delivery.attempts[0].state, delivery.attempts[0].ended), (AttemptState::Committed, Some(start())));
    // Nobody knows what has become of the other two.
    let states: Vec<_> = delivery.attempts[0].uploads.iter().map(|upload| upload.state).collect();
    assert_eq!(states, [UploadState::Completed, UploadState::Created, UploadState::Created]);
    assert_eq!(ledger.run_finished(claim.run).await.unwrap(), RunState::Succeeded);
    let left = ledger.ended_with_uploads().await.unwrap();
    let left: Vec<_> = left[0].deliveries[0].uploads.iter().map(|upload| upload.upload_id.as_str()).collect();
    assert_eq!(left, ["marker", "manifest"]);
    assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_said_not_to_be_there_has_failed_and_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let claim = in_doubt(&ledger, 1, &["acme", "globex"]).await;
    let all = ledger.settle_idle(claim.run, customers(&["acme"]), says(Verdict::Failed)).await.unwrap().unwrap();
    let failure = all[0].outcome.clone().unwrap_err();
    assert_eq!(failure.message, "settled by root, as its manifest is not in the bucket: looked into the bucket");
    assert_eq!(failure.remedy, format!("`consign retry {} --customer acme` begins it again", claim.run));
    let after = ledger.reader().run(claim.run).await.unwrap();
    assert_eq!(after.run.state, RunState::Running, "the other one is in doubt still");
    let delivery = &after.deliveries[0];
    assert_eq!((delivery.state, delivery.due), (DeliveryState::Failed, None));
    assert_eq!((&delivery.failure, &delivery.attempts[0].failure), (&Some(failure.clone()), &Some(failure)));
    assert_eq!((&delivery.in_doubt, &delivery.settled), (&None, &settled()));
    assert!(delivery.attempts[0].uploads.iter().all(|upload| upload.state == UploadState::Created));
    let again = ledger.start_manual(slot("a", 1), customers(&["acme", "globex"])).await.unwrap();
    assert_eq!((again.claim.unwrap().deliveries.len(), again.busy.len()), (1, 1));
    // With the last one the run ends, for who is not at work.
    ledger.settle_idle(claim.run, customers(&["globex"]), says(Verdict::Committed)).await.unwrap().unwrap();
    assert_eq!(ledger.reader().run(claim.run).await.unwrap().run.state, RunState::Failed);
    assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_settled_where_one_is_in_no_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let doubtful = in_doubt(&ledger, 1, &["acme", "globex"]).await;
    let other = ledger.start_manual(slot("a", 2), customers(&["acme", "globex", "initech"])).await.unwrap();
    let other = other.claim.unwrap();
    let begin = async |of: usize| {
        let to = destination(key(&slot("a", 2), &format!("{of}.json")).as_str());
        ledger.attempt_started(other.deliveries[of].1, Some(to)).await.unwrap().id
    };
    let is = async |customer: &str, expected: Unsettled| {
        for verdict in [Verdict::Committed, Verdict::Failed] {
            let said = ledger.settle(other.run, customers(&[customer]), says(verdict)).await.unwrap();
            assert_eq!(said, Err(expected.clone()));
        }
    };
    let named = |customer: &str| customers(&[customer]).remove(0);
    is("acme", Unsettled::Is(named("acme"), DeliveryState::Pending)).await;
    let acme = begin(0).await;
    is("acme", Unsettled::Is(named("acme"), DeliveryState::Working)).await;
    ledger.failed(acme, lasting(), None).await.unwrap();
    is("acme", Unsettled::Is(named("acme"), DeliveryState::Failed)).await;
    // An object of it has yet to complete.
    let globex = begin(1).await;
    let rows = object(&key(&slot("a", 2), "rows.csv"), "u1");
    ledger.upload_created(globex, &key(&slot("a", 2), "rows.csv"), "u1").await.unwrap();
    ledger.drafted(globex, &draft(&slot("a", 2))).await.unwrap();
    ledger.sealed(globex, std::slice::from_ref(&rows)).await.unwrap();
    is("globex", Unsettled::Unasked(named("globex"))).await;
    let open = SealedObject { completion: Completion::Open, ..rows };
    ledger.completions(globex, &[open]).await.unwrap();
    is("globex", Unsettled::Unasked(named("globex"))).await;
    assert_eq!(ledger.reader().run(other.run).await.unwrap().deliveries[1].in_doubt, None);
    // Of this one it is known.
    let initech = begin(2).await;
    seal(&ledger, &slot("a", 2), initech, "2.json").await;
    ledger.manifested(initech, "manifest").await.unwrap();
    is("initech", Unsettled::Manifested(named("initech"))).await;

    let both = customers(&["acme", "globex"]);
    let one = ledger.settle(doubtful.run, customers(&["globex"]), says(Verdict::Committed)).await.unwrap();
    assert_eq!(one.unwrap().len(), 1);
    let said = ledger.settle(doubtful.run, both, says(Verdict::Committed)).await.unwrap();
    assert_eq!(said, Err(Unsettled::Is(named("globex"), DeliveryState::Committed)));
    let acme = &ledger.reader().run(doubtful.run).await.unwrap().deliveries[0];
    assert_eq!((acme.state, &acme.settled), (DeliveryState::Sealed, &None));
}

/// Whoever has lost it gets it by another attempt, which is the first one that can find anything there.
#[tokio::test]
async fn what_was_delivered_and_is_there_no_more_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let start_manual = async |names: &[&str]| ledger.start_manual(slot("a", 1), customers(names)).await.unwrap();
    let claim = start_manual(&["acme", "globex"]).await.claim.unwrap();
    let to = |customer: &str| destination(key(&slot("a", 1), &format!("{customer}.json")).as_str());
    for (customer, delivery) in &claim.deliveries {
        let attempt = ledger.attempt_started(*delivery, Some(to(customer.as_str()))).await.unwrap().id;
        super::deliver(&ledger, &slot("a", 1), attempt, customer.as_str()).await.unwrap();
    }
    ledger.run_finished(claim.run).await.unwrap();
    let acme = || customers(&["acme"]);
    let told = ledger.settle_idle(claim.run, acme(), says(Verdict::Failed)).await.unwrap().unwrap();
    assert!(told[0].outcome.is_err() && told[0].lacking.is_empty(), "{told:?}");
    // Once more it is known.
    let again = ledger.settle(claim.run, acme(), says(Verdict::Failed)).await.unwrap();
    assert_eq!(again, Err(Unsettled::Is(acme().remove(0), DeliveryState::Failed)));
    let shown = ledger.reader().run(claim.run).await.unwrap();
    let states: Vec<_> = shown.deliveries.iter().map(|delivery| delivery.state).collect();
    assert_eq!((shown.run.state, states), (RunState::Failed, vec![DeliveryState::Failed, DeliveryState::Committed]));
    assert_eq!((&shown.deliveries[0].settled, &shown.deliveries[1].settled), (&settled(), &None));
    assert_eq!(ledger.reader().delivered(&share("a"), slot("a", 1).at).await.unwrap().len(), 1);
    assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());

    let started = start_manual(&["acme", "globex"]).await;
    assert_eq!(started.committed.len(), 1);
    let delivery = started.claim.unwrap().deliveries[0].1;
    let attempt = ledger.attempt_started(delivery, Some(to("acme"))).await.unwrap();
    assert!(attempt.is_first, "it replaces nothing");
    super::deliver(&ledger, &slot("a", 1), attempt.id, "again").await.unwrap();
    assert_eq!(ledger.reader().delivered(&share("a"), slot("a", 1).at).await.unwrap().len(), 2);
}

/// With `overlap = "queue"`, where one that was being completed is in the way of the next.
#[tokio::test]
async fn what_waited_for_it_is_looked_at_again() {
    for verdict in [Verdict::Committed, Verdict::Failed] {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        let queued = |n| Planned { overlap: Overlap::Queue, ..planned(slot("a", n), &["acme"]) };
        ledger.plan(vec![queued(1), queued(2)], Vec::new()).await.unwrap();
        let claims = ledger.claim(9, 0).await.unwrap();
        let [first] = &claims.runs[..] else { panic!("{claims:?}") };
        let to = destination(key(&slot("a", 1), "acme.json").as_str());
        let attempt = ledger.attempt_started(first.deliveries[0].1, Some(to)).await.unwrap().id;
        seal(&ledger, &slot("a", 1), attempt, "acme.json").await;
        assert!(ledger.claim(9, 0).await.unwrap().runs.is_empty(), "the first one is in its way");
        // The process died just then.
        ledger.settle_idle(first.run, customers(&["acme"]), says(verdict)).await.unwrap().unwrap();
        assert_eq!(ledger.claim(9, 0).await.unwrap().runs.len(), 1, "{verdict:?}");
        assert_eq!(ledger.reader().check().await.unwrap().findings, Vec::<String>::new());
    }
}

/// Nothing was delivered to the customer then, nor formatted.
#[tokio::test]
async fn a_word_says_nothing_of_customers_and_plugins() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let claim = in_doubt(&ledger, 1, &["acme"]).await;
    let profile = ProfileHash::of([("role_arn", Some("one".to_owned()))]);
    let refusal = Failure::new(Layer::TrustPolicy, Retry::Never, "AssumeRole was refused", "");
    ledger.not_ready(customers(&["acme"]).remove(0), profile, refusal).await.unwrap();
    // One more fault of its component, and that is halted.
    let by = || {
        let (plugin, digest) = (PluginName::parse("fmt").unwrap(), ContentDigest::of(b"bad"));
        Some(Formatter { plugin, digest, quarantine_after: 2 })
    };
    let fault = || Failure { plugin_fault: true, ..Failure::new(Layer::Plugin, Retry::Never, "fmt: unreachable", "") };
    let begun = async |n| {
        let claim = ledger.start_manual(slot("a", n), customers(&["acme"])).await.unwrap().claim.unwrap();
        let to = destination(&format!("in/{n}.json"));
        (claim.run, ledger.attempt_by(by(), Order::Any, claim.deliveries[0].1, Some(to)).await.unwrap().id)
    };
    let (_, first) = begun(2).await;
    assert!(!ledger.failed_by(by(), first, fault(), None).await.unwrap());
    let (doubtful, attempt) = begun(3).await;
    seal(&ledger, &slot("a", 3), attempt, "acme.json").await;
    for run in [claim.run, doubtful] {
        ledger.settle(run, customers(&["acme"]), says(Verdict::Committed)).await.unwrap().unwrap();
    }
    assert_eq!(ledger.unready().await.unwrap().len(), 1);
    let (_, second) = begun(4).await;
    assert!(ledger.failed_by(by(), second, fault(), None).await.unwrap());
}

/// Whose node is alive settles it itself; what a dead one left anybody may, and not the dead one.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_settle_what_no_other_has() {
    let Some(shared) = Shared::new() else { return };
    let (next, late) = (shared.open(), shared.open());
    let claim = in_doubt(&late, 1, &["acme"]).await;
    let name = next.who_else_has(claim.run).await.unwrap().unwrap();
    assert_eq!(late.who_else_has(claim.run).await.unwrap(), None);
    for said in [
        next.settle(claim.run, customers(&["acme"]), says(Verdict::Failed)).await.unwrap(),
        next.settle_idle(claim.run, customers(&["acme"]), says(Verdict::Failed)).await.unwrap(),
    ] {
        assert_eq!(said, Err(Unsettled::Elsewhere(name.clone())));
    }
    shared.psql(TAKE_FOR_DEAD);
    next.settle_idle(claim.run, customers(&["acme"]), says(Verdict::Committed)).await.unwrap().unwrap();
    // Nobody else takes it over meanwhile.
    assert_eq!(shared.psql("SELECT count(*) FROM runs WHERE node = (SELECT min(id) FROM nodes)"), "1");
    assert!(super::nodes::is_fenced(late.settle(claim.run, customers(&["acme"]), says(Verdict::Failed)).await));
    let detail = next.reader().run(claim.run).await.unwrap();
    assert_eq!((detail.run.state, detail.deliveries[0].state), (RunState::Succeeded, DeliveryState::Committed));
    shared.is_sound().await;
}
