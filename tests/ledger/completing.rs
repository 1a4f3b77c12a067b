//! How far a sealed attempt's objects are on their way to be seen.

use consign::domain::{Completion, Draft, Failure, Leaves, Role, SealedObject};
use consign::ledger::{Attempt, DeliveryState, LedgerError, Saying, Unsettled, UploadState, Verdict};

use super::{customers, deliver, destination, draft, key, lasting, object, open, passing, slot, start};

/// Whether an attempt may replace what is there.
#[tokio::test]
async fn an_attempt_is_the_first_unless_another_one_may_have_left_something_to_see() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let start = async |hour: i64| {
        let claim = ledger.start_manual(slot("a", hour), customers(&["acme"])).await.unwrap().claim.unwrap();
        claim.deliveries[0].1
    };
    let attempt = async |delivery, to: &str| ledger.attempt_started(delivery, Some(destination(to))).await.unwrap();
    let sealed = async |attempt: &Attempt, id: &str, completion: Completion| {
        let at = key(&slot("a", 1), "rows.csv");
        ledger.upload_created(attempt.id, &at, id).await.unwrap();
        let one = SealedObject { completion: Completion::InDoubt, ..object(&at, id) };
        let marker = key(&slot("a", 1), "_SUCCESS");
        let marker = SealedObject { role: Role::SuccessMarker, ..object(&marker, &format!("{id}-marker")) };
        ledger.sealed(attempt.id, &[one.clone(), marker]).await.unwrap();
        ledger.completions(attempt.id, &[SealedObject { completion, ..one }]).await.unwrap();
    };
    let torn = || Failure { leaves: Leaves::Torn, ..passing() };
    let one = start(1).await;
    // Nothing was stored, then nothing completed; then it may have.
    let first = attempt(one, "a/_manifest.json").await;
    ledger.failed(first.id, passing(), Some(super::start())).await.unwrap();
    let second = attempt(one, "a/_manifest.json").await;
    sealed(&second, "u2", Completion::Open).await;
    assert!(ledger.open_delivery(one).await.unwrap().attempt.unwrap().is_first, "it is none but itself");
    ledger.failed(second.id, torn(), Some(super::start())).await.unwrap();
    let third = attempt(one, "a/_manifest.json").await;
    sealed(&third, "u3", Completion::InDoubt).await;
    assert!(ledger.open_delivery(one).await.unwrap().attempt.unwrap().is_first);
    ledger.failed(third.id, lasting(), None).await.unwrap();
    assert!([&first, &second, &third].iter().all(|attempt| attempt.is_first));
    // By another delivery of the slot to the customer; but not elsewhere, and not another slot.
    let again = start(1).await;
    let fourth = attempt(again, "a/_manifest.json").await;
    assert!(!fourth.is_first);
    assert!(!ledger.open_delivery(again).await.unwrap().attempt.unwrap().is_first);
    ledger.failed(fourth.id, passing(), Some(super::start())).await.unwrap();
    assert!(attempt(again, "elsewhere/_manifest.json").await.is_first);
    let other = start(2).await;
    assert!(attempt(other, "b/_manifest.json").await.is_first);
}

/// What was open in a backup may have been delivered since: what is there of it stays.
#[tokio::test]
async fn an_attempt_at_what_a_backup_had_open_is_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let attempt = async || {
        let claim = ledger.start_manual(slot("a", 1), customers(&["acme"])).await.unwrap().claim.unwrap();
        let to = destination("a/_manifest.json");
        ledger.attempt_started(claim.deliveries[0].1, Some(to)).await.unwrap()
    };
    let left = attempt().await;
    ledger.sealed(left.id, &[object(&key(&slot("a", 1), "rows.csv"), "u1")]).await.unwrap();
    ledger.end_open().await.unwrap();
    ledger.restored(Vec::new()).await.unwrap();
    assert!(attempt().await.is_first);
}

on_postgres! {
    an_attempt_is_the_first_unless_another_one_may_have_left_something_to_see,
    how_far_each_object_is_outlives_the_process,
    a_manifest_that_is_there_is_known_to_be,
    whether_a_manifest_may_have_been_asked_for_is_known,
    what_is_torn_begins_anew,
    an_upload_ends_in_one_way,
}

fn is(completion: Completion, object: SealedObject) -> SealedObject {
    SealedObject { completion, ..object }
}

#[tokio::test]
async fn how_far_each_object_is_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let claim = ledger.start_manual(slot("a", 1), customers(&["acme"])).await.unwrap().claim.unwrap();
    let id = claim.deliveries[0].1;
    let attempt = ledger.attempt_started(id, None).await.unwrap().id;
    let [one, two] = ["one", "two"].map(|name| object(&key(&slot("a", 1), name), name));
    let unknown = ledger.completions(attempt, std::slice::from_ref(&one)).await;
    assert!(matches!(unknown, Err(LedgerError::Unknown { .. })), "it is not sealed");
    ledger.sealed(attempt, &[one.clone(), two.clone()]).await.unwrap();
    let (one, two) = (is(Completion::Done("e1".into()), one), is(Completion::Open, two));
    ledger.completions(attempt, &[one.clone(), two.clone()]).await.unwrap();
    ledger.failed(attempt, passing(), Some(start())).await.unwrap();
    drop(ledger);
    let ledger = open(dir.path());
    assert_eq!(ledger.open_delivery(id).await.unwrap().attempt.unwrap().objects, [one.clone(), two.clone()]);
    let shown = ledger.reader().run(claim.run).await.unwrap();
    let etags: Vec<_> = shown.deliveries[0].attempts[0].objects.iter().map(|object| object.etag.as_deref()).collect();
    assert_eq!(etags, [Some("e1"), None]);
    // It is asked for once more: whoever comes next cannot know.
    let two = is(Completion::InDoubt, two);
    ledger.completions(attempt, std::slice::from_ref(&two)).await.unwrap();
    assert_eq!(ledger.open_delivery(id).await.unwrap().attempt.unwrap().objects, [one, two]);
}

#[tokio::test]
async fn a_manifest_that_is_there_is_known_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let claim = ledger.start_manual(slot("a", 1), customers(&["acme"])).await.unwrap().claim.unwrap();
    let id = claim.deliveries[0].1;
    let manifest = key(&slot("a", 1), "rows.csv");
    let attempt = ledger.attempt_started(id, Some(destination(manifest.as_str()))).await.unwrap().id;
    ledger.upload_created(attempt, &key(&slot("a", 1), "other.csv"), "u1").await.unwrap();
    ledger.upload_created(attempt, &manifest, "m1").await.unwrap();
    ledger.sealed(attempt, &[]).await.unwrap();
    let is_there = async || ledger.open_delivery(id).await.unwrap().attempt.unwrap().manifested;
    ledger.manifested(attempt, "u1").await.unwrap();
    assert!(!is_there().await, "that is another object's");
    for _ in 0..2 {
        ledger.manifested(attempt, "m1").await.unwrap();
        assert!(is_there().await);
    }
    let shown = ledger.reader().run(claim.run).await.unwrap();
    assert_eq!(shown.deliveries[0].attempts[0].uploads[1].state, UploadState::Completed);
}

/// Where there is no object to tell.
#[tokio::test]
async fn whether_a_manifest_may_have_been_asked_for_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slot = slot("a", 1);
    let claim = ledger.start_manual(slot.clone(), customers(&["acme"])).await.unwrap().claim.unwrap();
    let id = claim.deliveries[0].1;
    let to = destination("a/_manifest.json");
    let attempt = ledger.attempt_started(id, Some(to)).await.unwrap().id;
    let kept = Draft { source: Some("a hash".into()), unasked: true, ..Draft::from(draft(&slot)) };
    ledger.drafted(attempt, kept.clone()).await.unwrap();
    ledger.sealed(attempt, &[]).await.unwrap();
    let now = async || ledger.open_delivery(id).await.unwrap().attempt.unwrap().draft.unwrap();
    assert_eq!(now().await, kept);
    let saying = || Saying { verdict: Verdict::Failed, by: "ops".into(), reason: None };
    let settled = ledger.settle(claim.run, customers(&["acme"]), saying()).await.unwrap();
    assert!(matches!(settled, Err(Unsettled::Unasked(_))), "{settled:?}");
    for _ in 0..2 {
        ledger.manifest_is_next(attempt).await.unwrap();
        assert_eq!(now().await, Draft { unasked: false, ..kept.clone() });
    }
    ledger.settle(claim.run, customers(&["acme"]), saying()).await.unwrap().unwrap();
}

/// Nothing is left to go on with, so that its retry is another attempt.
#[tokio::test]
async fn what_is_torn_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let claim = ledger.start_manual(slot("a", 1), customers(&["acme"])).await.unwrap().claim.unwrap();
    let id = claim.deliveries[0].1;
    let attempt = ledger.attempt_started(id, None).await.unwrap().id;
    ledger.sealed(attempt, &[object(&key(&slot("a", 1), "rows.csv"), "u1")]).await.unwrap();
    let torn = Failure { leaves: Leaves::Torn, ..passing() };
    ledger.failed(attempt, torn, Some(start())).await.unwrap();
    let open = ledger.open_delivery(id).await.unwrap();
    assert_eq!((open.state, open.tries, open.due, open.attempt), (DeliveryState::Waiting, 1, Some(start()), None));
    assert_eq!(ledger.attempt_started(id, None).await.unwrap().number, 2);
}

/// What is an object now was not aborted, whoever says so.
#[tokio::test]
async fn an_upload_ends_in_one_way() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let slot = slot("a", 1);
    let claim = ledger.start_manual(slot.clone(), customers(&["acme"])).await.unwrap().claim.unwrap();
    let attempt = ledger.attempt_started(claim.deliveries[0].1, None).await.unwrap().id;
    ledger.upload_created(attempt, &key(&slot, "rows.csv"), "u0").await.unwrap();
    ledger.upload_aborted(attempt, "u0").await.unwrap();
    deliver(&ledger, &slot, attempt, "u1").await.unwrap();
    for (upload, again) in [("u0", true), ("u1", false)] {
        let aborted = ledger.upload_aborted(attempt, upload).await;
        assert_eq!(aborted.is_ok(), again, "{upload}: {aborted:?}");
        let abandoned = ledger.upload_abandoned(attempt, upload).await;
        for refused in [aborted, abandoned].into_iter().filter_map(Result::err) {
            assert!(matches!(refused, LedgerError::Illegal { .. }), "{upload}: {refused:?}");
        }
    }
    let shown = ledger.reader().run(claim.run).await.unwrap();
    let uploads = &shown.deliveries[0].attempts[0].uploads;
    assert_eq!(uploads.iter().map(|u| u.state).collect::<Vec<_>>(), [UploadState::Aborted, UploadState::Completed]);
}
