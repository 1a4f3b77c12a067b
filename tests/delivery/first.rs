//! A delivery that is the first of its slot as far as anybody knows: nothing is replaced that is there all the same
//! (`docs/decisions/0022-what-an-answer-proves.md`).

use chrono::TimeDelta;
use consign::delivery::{Committed, Sealed};
use consign::domain::{Completion, Failure, Layer, Leaves, Mode, Retry};

use super::answers::{A, Case, cut_off_after, is, precondition_failed};
use super::wire::{Call, Fault, s3_error};
use super::world::*;

/// The first object of a delivery of which nothing is there yet, as far as anybody knows.
pub(super) async fn put_first(case: &Case, sealed: Sealed) -> Result<Committed, Failure> {
    let completed = sealed.if_new(true).complete().await?;
    let manifest = manifest(&case.customer, case.run, completed.objects());
    completed.manifest(&manifest).await?.mark().await
}

/// The ledger was lost, or has forgotten the slot: what its customer has stays as it is.
#[tokio::test]
async fn nothing_is_replaced_by_a_delivery_that_is_the_first_as_far_as_anybody_knows() {
    let case = Case::new(Mode::Slot, |_, _| None).await;
    case.wire.put(A, "theirs");
    let failure = put_first(&case, case.sealed().await).await.unwrap_err();
    assert_eq!((failure.layer, failure.retry, failure.leaves), (Layer::Conflict, Retry::Never, Leaves::Whole));
    assert!(failure.message.contains("nothing was replaced"), "{failure:?}");
    assert_eq!((&case.wire.objects()[A][..], case.wire.objects().len()), (&b"theirs"[..], 1));
    let left = case.journal.left();
    assert_eq!(left.objects[0].completion, Completion::Open, "none of it is there, and who tries again knows");
    // What an earlier attempt may have left is taken for its own.
    case.is_done(&case.again().await.unwrap());
}

#[tokio::test]
async fn the_first_object_goes_before_all_others_and_each_where_nothing_is() {
    let case = Case::new(Mode::Slot, |_, _| None).await;
    put_first(&case, case.sealed_as(&["a.csv", "b.csv", "c.csv"]).await).await.unwrap();
    let completions: Vec<_> = case.wire.seen().into_iter().filter(|seen| seen.call == Call::Complete).collect();
    let if_new: Vec<bool> = completions.iter().map(|seen| seen.header("if-none-match") == Some("*")).collect();
    assert_eq!((completions[0].key.as_str(), if_new), (A, vec![true; 4]));
    assert_eq!(completions[3].key, MANIFEST);
}

/// It had another first object then.
#[tokio::test]
async fn no_other_object_is_replaced_by_a_delivery_that_is_the_first_as_far_as_anybody_knows() {
    let b = A.replace("a.csv", "b.csv");
    let case = Case::new(Mode::Slot, |_, _| None).await;
    case.wire.put(&b, "theirs");
    let failure = put_first(&case, case.sealed_as(&["a.csv", "b.csv"]).await).await.unwrap_err();
    assert_eq!((failure.layer, failure.retry, failure.leaves), (Layer::Conflict, Retry::Never, Leaves::Whole));
    assert!(failure.message.contains("b.csv"), "{failure:?}");
    assert_eq!(case.wire.objects()[&b], "theirs");
    assert!(!case.wire.objects().contains_key(MANIFEST));
    // Nor is one of ours taken for somebody else's.
    let mut told = 0;
    let case = Case::new(Mode::Slot, move |seen, _| {
        let is_b = seen.call == Call::Complete && seen.key.ends_with("b.csv");
        told += usize::from(is_b);
        match (is_b, told) {
            (true, 1) => Some(Fault::LoseReply),
            (true, _) => Some(precondition_failed()),
            _ => None,
        }
    })
    .await;
    put_first(&case, case.sealed_as(&["a.csv", "b.csv"]).await).await.unwrap();
    assert_eq!((case.wire.objects().len(), case.wire.open_uploads()), (3, 0));
}

/// Its reply was lost, and the repeat meets it: its upload tells whose it is.
#[tokio::test]
async fn a_first_object_whose_reply_is_lost_is_known_for_ours() {
    for repeat in [None, Some(precondition_failed as fn() -> Fault)] {
        let case = Case::new(Mode::Slot, move |seen, before| match (seen.call, before) {
            (Call::Complete, 0) => Some(Fault::LoseReply),
            (Call::Complete, 1) => repeat.map(|repeat| repeat()),
            _ => None,
        })
        .await;
        let sealed = case.sealed().await;
        case.is_done(&put_first(&case, sealed).await.unwrap());
    }
    // Also by whoever comes after a crash.
    let case = Case::new(Mode::Slot, |_, _| None).await;
    let sealed = case.sealed().await;
    let left = case.journal.left();
    drop(sealed.if_new(true).complete().await.unwrap());
    case.wire.obey(|seen, _| is(seen, Call::Complete, A).then(precondition_failed));
    let resumed = case.resume(left).await.unwrap();
    case.is_done(&put_first(&case, resumed).await.unwrap());
}

/// Nothing is said of it that is not known.
#[tokio::test]
async fn a_first_object_that_cannot_be_asked_about_is_no_conflict() {
    let case = Case::new(Mode::Slot, cut_off_after(0)).await;
    let sealed = case.sealed().await;
    let failure = put_first(&case, sealed).await.unwrap_err();
    assert_eq!((failure.layer, failure.retry, failure.leaves), (Layer::Network, Retry::Later, Leaves::Whole));
    assert_eq!(case.journal.left().objects[0].completion, Completion::InDoubt);
    case.wire.heal();
    let resumed = case.resume(case.journal.left()).await.unwrap();
    case.is_done(&put_first(&case, resumed).await.unwrap());

    // A day later that its upload is gone proves nothing: it is made anew, and may replace what is its own.
    let case = Case::new(Mode::Slot, |_, _| None).await;
    drop(case.sealed().await.if_new(true).complete().await.unwrap());
    let mut old = case.journal.left();
    old.objects.iter_mut().for_each(|object| {
        (object.created, object.completion) = (object.created - TimeDelta::hours(25), Completion::InDoubt);
    });
    case.wire.obey(|seen, _| is(seen, Call::Complete, A).then(precondition_failed));
    let resumed = case.resume(old).await.unwrap();
    let failure = put_first(&case, resumed).await.unwrap_err();
    assert_eq!((failure.retry, failure.leaves), (Retry::Later, Leaves::Torn), "{failure:?}");
    assert_eq!(case.journal.left().objects[0].completion, Completion::InDoubt);
}

/// S3 wants another upload then, and the bytes are there no more.
#[tokio::test]
async fn a_first_object_that_somebody_writes_at_that_moment_is_made_anew() {
    let contended = || Fault::Answer(409, vec![], s3_error("ConditionalRequestConflict", "a conflict"));
    let case = Case::new(Mode::Slot, move |seen, _| is(seen, Call::Complete, A).then(contended)).await;
    let sealed = case.sealed().await;
    let failure = put_first(&case, sealed).await.unwrap_err();
    assert_eq!((failure.retry, failure.leaves), (Retry::Later, Leaves::Torn), "{failure:?}");
    assert_eq!(case.journal.left().objects[0].completion, Completion::Open);
}
