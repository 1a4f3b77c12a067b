//! What an answer proves, and what it does not: completions whose outcome is in doubt
//! (`docs/decisions/0022-what-an-answer-proves.md`).

use std::sync::Arc;

use chrono::TimeDelta;
use consign::config::{Compression, Customer};
use consign::delivery::{Committed, Delivery, DeliverySpec, Left, Sealed, Target};
use consign::domain::{Asked, Completion, Failure, Layer, Leaves, Mode, Retry, RunId};

use super::first::put_first;
use super::wire::{Call, Fault, Seen, Wire, s3_error, sts_error};
use super::world::*;

pub(super) const A: &str = "uploads/us/orders/2024-05-01/060000Z/a.csv";

fn internal() -> Fault {
    Fault::Answer(500, vec![], s3_error("InternalError", "We encountered an internal error."))
}

fn slow_down() -> Fault {
    Fault::Answer(503, vec![], s3_error("SlowDown", "Please reduce your request rate."))
}

fn refused() -> Fault {
    Fault::Answer(403, vec![], s3_error("AccessDenied", "Access Denied"))
}

pub(super) fn precondition_failed() -> Fault {
    Fault::Answer(412, vec![], s3_error("PreconditionFailed", "a pre-condition did not hold"))
}

pub(super) fn is(seen: &Seen, call: Call, key: &str) -> bool {
    seen.call == call && seen.key == key
}

/// One delivery, try by try.
pub(super) struct Case {
    pub(super) wire: Wire,
    pub(super) customer: Arc<Customer>,
    pub(super) run: RunId,
    mode: Mode,
    pub(super) journal: Arc<Journal>,
}

impl Case {
    pub(super) async fn new(mode: Mode, script: impl FnMut(&Seen, usize) -> Option<Fault> + Send + 'static) -> Self {
        let (wire, customer) = (Wire::start(script).await, Arc::new(customer()));
        if mode == Mode::Replace {
            wire.put(MANIFEST, "the slot before");
        }
        Self { wire, customer, run: run_id(), mode, journal: Arc::default() }
    }

    async fn target(&self) -> Target {
        Target::bucket(&vendor(&aws(&self.wire.url)).await, &self.customer, self.run).unwrap()
    }

    async fn first(&self) -> Result<Committed, Failure> {
        let (of, spec) = ((self.run, self.mode), spec(Compression::None));
        let events = object(0, "a.csv", b"a");
        deliver_as(self.target().await, &self.customer, of, self.journal.clone(), spec, events).await
    }

    pub(super) async fn again(&self) -> Result<Committed, Failure> {
        resume_as(self.target().await, &self.customer, (self.run, self.mode), &self.journal).await
    }

    pub(super) async fn sealed(&self) -> Sealed {
        self.sealed_as(&["a.csv"]).await
    }

    pub(super) async fn sealed_as(&self, names: &[&str]) -> Sealed {
        let begun = Delivery::begin(self.target().await, spec(Compression::None), self.journal.clone()).await.unwrap();
        for event in names.iter().zip(0..).flat_map(|(name, number)| object(number, name, b"a")) {
            begun.accept(event).await.unwrap();
        }
        begun.seal().await.unwrap()
    }

    pub(super) async fn resume(&self, left: Left) -> Result<Sealed, Failure> {
        Delivery::resume(self.target().await, self.journal.clone(), std::env::temp_dir(), left).await
    }

    /// Delivered, by this run, and nothing is left.
    pub(super) fn is_done(&self, committed: &Committed) {
        assert!(committed.left.is_empty() && committed.lacking.is_none(), "{committed:?}");
        let manifest: serde_json::Value = serde_json::from_slice(&self.wire.objects()[MANIFEST]).unwrap();
        assert_eq!(manifest["run"], self.run.to_string());
        assert_eq!(self.wire.objects()[A], "a");
        assert_eq!(self.wire.open_uploads(), 0);
    }

    /// No manifest of this delivery is there.
    fn is_not_done(&self) {
        let there = self.wire.objects().get(MANIFEST).cloned();
        assert_eq!(there.is_some(), self.mode == Mode::Replace, "{there:?}");
    }
}

const MODES: [Mode; 2] = [Mode::Slot, Mode::Replace];

/// Nothing says that it was carried out, and the answer to an abort would not say that it was not.
#[tokio::test]
async fn a_manifest_in_doubt_is_neither_taken_for_there_nor_given_up() {
    for mode in MODES {
        let case = Case::new(mode, |seen, _| match seen.call {
            Call::Complete if seen.key == MANIFEST => Some(internal()),
            Call::Abort => Some(Fault::LoseReply),
            _ => None,
        })
        .await;
        for failure in [case.first().await.unwrap_err(), case.again().await.unwrap_err()] {
            assert_eq!((failure.retry, failure.leaves), (Retry::Later, Leaves::InDoubt), "{failure:?}");
        }
        case.is_not_done();
        assert_eq!(case.wire.count(Call::Abort), 0);
        case.wire.heal();
        case.is_done(&case.again().await.unwrap());
        assert_eq!(case.journal.upload_ids().len(), 2, "it has become what it was to become");
    }
}

/// Where the slot before has left its manifest, nothing else says so.
#[tokio::test]
async fn a_manifest_whose_part_failed_is_put_by_the_next_try() {
    for mode in MODES {
        let case = Case::new(mode, |seen, _| match seen.call {
            Call::Part if seen.key == MANIFEST => Some(slow_down()),
            Call::Abort => Some(Fault::LoseReply),
            _ => None,
        })
        .await;
        let failure = case.first().await.unwrap_err();
        assert_eq!((failure.retry, failure.leaves), (Retry::Later, Leaves::Whole), "nobody has asked for it");
        case.wire.heal();
        case.is_done(&case.again().await.unwrap());
    }
}

/// It took the manifest as its part, and is said to be gone when that is to become visible: the delivery is not given up.
#[tokio::test]
async fn a_manifest_whose_upload_goes_at_the_last_moment_is_put_all_the_same() {
    for mode in MODES {
        let mut told = false;
        let gone = || Fault::Answer(404, vec![], s3_error("NoSuchUpload", "The specified upload does not exist."));
        let script = move |seen: &Seen, _| {
            let is_first = is(seen, Call::Complete, MANIFEST) && !std::mem::replace(&mut told, true);
            is_first.then(gone)
        };
        let case = Case::new(mode, script).await;
        let committed = case.first().await.unwrap();
        case.is_done(&committed);
    }
}

/// Somebody else has ended its upload: what is gone has not become the manifest.
#[tokio::test]
async fn a_manifest_whose_upload_is_gone_is_put_by_another() {
    for mode in MODES {
        let case = Case::new(mode, |seen, _| is(seen, Call::Complete, MANIFEST).then(internal)).await;
        case.first().await.unwrap_err();
        case.wire.end(MANIFEST);
        // That one is gone does not say that the next one, of which nothing is known either, is there.
        assert_eq!(case.again().await.unwrap_err().leaves, Leaves::InDoubt);
        case.is_not_done();
        case.wire.heal();
        case.is_done(&case.again().await.unwrap());

        // Also before anybody has asked for it.
        let case = Case::new(mode, |_, _| None).await;
        let sealed = case.sealed().await;
        case.wire.end(MANIFEST);
        let completed = sealed.complete().await.unwrap();
        let text = consign::domain::Manifest { mode, ..manifest(&case.customer, case.run, completed.objects()) };
        case.is_done(&completed.manifest(&text).await.unwrap().mark().await.unwrap());
    }
}

/// While an object is to be completed, nobody has asked for the manifest.
#[tokio::test]
async fn a_refusal_before_all_objects_are_there_leaves_no_manifest_in_doubt() {
    for mode in MODES {
        let case = Case::new(mode, |seen, _| is(seen, Call::Complete, A).then(refused)).await;
        assert_eq!(case.first().await.unwrap_err().leaves, Leaves::Whole);
        case.wire.obey(|seen, _| (seen.call == Call::AssumeRole).then(refused));
        let failure = case.again().await.unwrap_err();
        assert_eq!(failure.leaves, Leaves::Whole, "{failure:?}");
        case.wire.heal();
        case.is_done(&case.again().await.unwrap());
    }
}

/// Of a delivery without objects it is written down when its manifest is asked for: nothing else would tell.
#[tokio::test]
async fn the_manifest_of_nothing_is_in_doubt_once_it_may_have_been_asked_for() {
    let role = |seen: &Seen, _: usize| (seen.call == Call::AssumeRole).then(refused);
    let case = Case::new(Mode::Slot, |_, _| None).await;
    // What comes after the manifest is no object of it.
    let spec = DeliverySpec { success_marker: true, ..spec(Compression::None) };
    let begun = Delivery::begin(case.target().await, spec, case.journal.clone()).await.unwrap();
    drop(begun.seal().await.unwrap());
    case.wire.obey(role);
    assert_eq!(case.again().await.unwrap_err().leaves, Leaves::Whole, "nobody has asked for it");
    case.wire.obey(|seen, _| is(seen, Call::Complete, MANIFEST).then(internal));
    assert_eq!(case.again().await.unwrap_err().leaves, Leaves::InDoubt);
    case.wire.obey(role);
    assert_eq!(case.again().await.unwrap_err().leaves, Leaves::InDoubt);
    case.wire.heal();
    assert_eq!(case.again().await.unwrap().objects, []);
    assert_eq!((case.wire.objects().len(), case.wire.open_uploads()), (2, 0));
}

/// For whoever comes after a crash of this process, it may have been.
#[tokio::test]
async fn what_is_about_to_be_asked_for_is_in_doubt_on_record() {
    let case = Case::new(Mode::Slot, |seen, _| is(seen, Call::Complete, A).then(refused)).await;
    case.first().await.unwrap_err();
    let left = case.journal.left();
    assert_eq!(left.objects[0].completion, Completion::Open);
    let resumed = case.resume(left).await.unwrap();
    assert_eq!(case.journal.left().objects[0].completion, Completion::InDoubt);
    assert_eq!(resumed.objects()[0].completion, Completion::Open, "this process knows better");
}

#[tokio::test]
async fn a_manifest_of_somebody_else_is_none_of_ours_after_a_failed_try() {
    let case = Case::new(Mode::Slot, |seen, _| match seen.call {
        Call::Part if seen.key == MANIFEST => Some(slow_down()),
        Call::Abort => Some(Fault::LoseReply),
        _ => None,
    })
    .await;
    case.first().await.unwrap_err();
    case.wire.put(MANIFEST, "theirs");
    case.wire.heal();
    let failure = case.again().await.unwrap_err();
    assert_eq!((failure.layer, failure.retry), (Layer::Conflict, Retry::Never), "{failure:?}");
    assert_eq!(case.wire.objects()[MANIFEST], "theirs");
}

/// The reply to this completion is lost, the repeat meets it, and then the line is cut.
pub(super) fn cut_off_after(completion: usize) -> impl FnMut(&Seen, usize) -> Option<Fault> {
    let mut was_refused = false;
    move |seen, before| {
        let is_cut = was_refused;
        let is_repeat = (seen.call, before) == (Call::Complete, completion + 1);
        was_refused |= is_repeat;
        match (seen.call, before) {
            (Call::Complete, before) if before == completion => Some(Fault::LoseReply),
            _ if is_repeat => Some(precondition_failed()),
            _ => is_cut.then_some(Fault::Reset),
        }
    }
}

#[tokio::test]
async fn a_412_that_cannot_be_asked_about_is_no_conflict() {
    let case = Case::new(Mode::Slot, cut_off_after(1)).await;
    let failure = case.first().await.unwrap_err();
    assert_eq!(failure.leaves, Leaves::InDoubt, "{failure:?}");
    case.wire.heal();
    case.is_done(&case.again().await.unwrap());
}

/// A proxy may have passed a request on and then say 503; S3's own SlowDown says that it has not looked.
#[tokio::test]
async fn only_slow_down_is_a_503_that_proves_something() {
    let unavailable = || Fault::Answer(503, vec![], "<html>no server is available</html>".to_owned());
    let asked: [(fn() -> Fault, Leaves); 2] = [(slow_down, Leaves::Whole), (unavailable, Leaves::InDoubt)];
    for (fault, leaves) in asked {
        let case = Case::new(Mode::Slot, move |seen, _| is(seen, Call::Complete, MANIFEST).then(fault)).await;
        let failure = case.first().await.unwrap_err();
        assert_eq!((failure.retry, failure.leaves), (Retry::Later, leaves), "{failure:?}");
        case.wire.heal();
        case.is_done(&case.again().await.unwrap());
    }
}

/// Nor does a refusal that names no error: what says no may have looked at the answer, not at the request.
#[tokio::test]
async fn a_refusal_by_a_proxy_proves_nothing() {
    for key in [A, MANIFEST] {
        let blocked = || Fault::Answer(403, vec![], "<html>blocked by policy</html>".to_owned());
        let case = Case::new(Mode::Slot, move |seen, _| is(seen, Call::Complete, key).then(blocked)).await;
        let failure = case.first().await.unwrap_err();
        assert_eq!((failure.layer, failure.retry), (Layer::Network, Retry::Later), "{failure:?}");
        let leaves = if key == MANIFEST { Leaves::InDoubt } else { Leaves::Whole };
        assert_eq!(failure.leaves, leaves, "{failure:?}");
        // It had been carried out.
        let sealed = case.journal.sealed.lock().unwrap().clone().unwrap();
        let open = sealed.iter().filter(|object| object.completion == Completion::Open).count();
        assert_eq!(open, 0, "{sealed:?}");
        case.wire.heal();
        case.is_done(&case.again().await.unwrap());
    }
    // STS alone is behind it: what is sealed is as it was.
    let case = Case::new(Mode::Slot, |_, _| None).await;
    drop(case.sealed().await);
    case.wire.obey(|seen, _| {
        (seen.call == Call::AssumeRole).then(|| Fault::Answer(403, vec![], "<html>blocked by policy</html>".to_owned()))
    });
    let failure = case.again().await.unwrap_err();
    assert_eq!((failure.layer, failure.retry, failure.leaves), (Layer::Network, Retry::Later, Leaves::Whole));
    assert_eq!(failure.asked, Some(Asked::Sts), "an outage of STS costs what is on schedule none of its tries");
    case.wire.heal();
    case.is_done(&case.again().await.unwrap());
}

/// A store that has no such request has not carried it out.
#[tokio::test]
async fn what_is_not_implemented_is_not_in_doubt() {
    let lacks = || Fault::Answer(501, vec![], s3_error("NotImplemented", "If-None-Match is not implemented"));
    let case = Case::new(Mode::Slot, move |seen, _| is(seen, Call::Complete, MANIFEST).then(lacks)).await;
    let failure = case.first().await.unwrap_err();
    assert_eq!((failure.layer, failure.retry, failure.leaves), (Layer::Config, Retry::Never, Leaves::Whole));
}

/// Whatever the attempts before it were told.
#[tokio::test]
async fn at_each_412_the_upload_is_asked_for() {
    let case = Case::new(Mode::Slot, |seen, before| match (seen.call, before) {
        (Call::Complete, 1) => Some(precondition_failed()),
        // The object's, the manifest's, and the question.
        (Call::Part, 2) => Some(Fault::Answer(404, vec![], s3_error("NoSuchUpload", "it has completed"))),
        _ => None,
    })
    .await;
    assert_eq!(case.first().await.unwrap().manifest_key.as_str(), MANIFEST);
}

#[tokio::test]
async fn somebody_who_writes_the_same_key_costs_another_upload() {
    let contended = || Fault::Answer(409, vec![], s3_error("ConditionalRequestConflict", "a conflict"));
    let case =
        Case::new(Mode::Slot, move |seen, before| (seen.call == Call::Complete && before == 1).then(contended)).await;
    case.is_done(&case.first().await.unwrap());
    assert_eq!(case.journal.aborted_ids().len(), 1);
}

/// Its reply was lost, and the repeat met somebody else's: it may be there, and its upload is what tells.
#[tokio::test]
async fn a_manifest_in_doubt_is_not_given_up_for_somebody_who_writes_the_same_key() {
    let contended = || Fault::Answer(409, vec![], s3_error("ConditionalRequestConflict", "a conflict"));
    let case = Case::new(Mode::Slot, move |seen, before| match (seen.call, before) {
        (Call::Complete, 1) => Some(Fault::LoseReply),
        (Call::Complete, 2) => Some(contended()),
        _ => None,
    })
    .await;
    case.is_done(&case.first().await.unwrap());
    assert!(case.journal.aborted_ids().is_empty());
}

/// No request of ours is in doubt: somebody else has ended it, and its object is not there.
#[tokio::test]
async fn an_upload_that_is_gone_leaves_nothing_to_complete() {
    let case = Case::new(Mode::Slot, |_, _| None).await;
    let sealed = case.sealed().await;
    case.wire.end(A);
    let failure = sealed.complete().await.err().unwrap();
    assert_eq!((failure.retry, failure.leaves), (Retry::Later, Leaves::Torn), "{failure:?}");
}

/// That it is gone is no doubt of its own, however it is told.
#[tokio::test]
async fn nor_does_it_when_a_200_says_so() {
    let gone = || Fault::Answer(200, vec![], s3_error("NoSuchUpload", "The specified upload does not exist."));
    let case = Case::new(Mode::Slot, move |seen, _| is(seen, Call::Complete, A).then(gone)).await;
    let sealed = case.sealed().await;
    case.wire.end(A);
    let failure = sealed.complete().await.err().unwrap();
    assert_eq!((failure.retry, failure.leaves), (Retry::Later, Leaves::Torn), "{failure:?}");
    assert_eq!(case.journal.left().objects[0].completion, Completion::Open);
}

#[tokio::test]
async fn nor_does_it_when_the_first_try_was_refused() {
    let case = Case::new(Mode::Slot, |seen, _| is(seen, Call::Complete, A).then(slow_down)).await;
    assert_eq!(case.first().await.unwrap_err().leaves, Leaves::Whole);
    case.wire.end(A);
    case.wire.heal();
    for _ in 0..2 {
        let failure = case.again().await.unwrap_err();
        assert_eq!((failure.retry, failure.leaves), (Retry::Later, Leaves::Torn), "{failure:?}");
    }
    assert!(case.wire.objects().is_empty());
}

#[tokio::test]
async fn nor_does_it_when_it_is_so_old_that_a_rule_may_have_ended_it() {
    let case = Case::new(Mode::Slot, |_, _| None).await;
    drop(case.sealed().await);
    case.wire.end(A);
    let mut left = case.journal.left();
    left.objects.iter_mut().for_each(|object| object.created -= TimeDelta::hours(25));
    let failure = case.resume(left).await.unwrap().complete().await.err().unwrap();
    assert_eq!((failure.retry, failure.leaves), (Retry::Later, Leaves::Torn), "{failure:?}");
}

#[tokio::test]
async fn an_object_that_became_something_else_is_made_anew() {
    let other = "<CompleteMultipartUploadResult><ETag>\"x\"</ETag><ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME>\
                 </CompleteMultipartUploadResult>";
    let case = Case::new(Mode::Slot, move |seen, _| {
        is(seen, Call::Complete, A).then(|| Fault::Answer(200, vec![], other.to_owned()))
    })
    .await;
    assert_eq!(case.first().await.unwrap_err().leaves, Leaves::Torn);
    case.wire.end(A);
    case.wire.heal();
    for _ in 0..2 {
        assert_eq!(case.journal.left().objects[0].completion, Completion::Spoiled, "something of it can be seen");
        assert_eq!(case.again().await.unwrap_err().leaves, Leaves::Torn, "nor is it taken for the right one later");
    }
}

/// A part that came once more and too late has another ETag: no try would ever complete it.
#[tokio::test]
async fn an_object_whose_parts_are_no_more_what_was_sent_is_made_anew() {
    for code in ["InvalidPart", "BadDigest", "XAmzContentChecksumMismatch"] {
        let wrong = move || Fault::Answer(400, vec![], s3_error(code, "as the script has it"));
        let case = Case::new(Mode::Slot, move |seen, _| is(seen, Call::Complete, A).then(wrong)).await;
        let failure = case.first().await.unwrap_err();
        assert_eq!((failure.retry, failure.leaves), (Retry::Later, Leaves::Torn), "{failure:?}");
        assert!(!failure.is_silence(), "S3 has answered: {failure:?}");
        assert_eq!(case.journal.left().objects[0].completion, Completion::Open, "nothing of it can be seen");
    }
    // The manifest's only part is stored again with each try.
    let wrong = || Fault::Answer(400, vec![], s3_error("InvalidPart", "as the script has it"));
    let case = Case::new(Mode::Slot, move |seen, _| is(seen, Call::Complete, MANIFEST).then(wrong)).await;
    let failure = case.first().await.unwrap_err();
    assert_eq!((failure.retry, failure.leaves), (Retry::Later, Leaves::Whole), "{failure:?}");
    case.wire.heal();
    case.is_done(&case.again().await.unwrap());
}

/// What is in doubt in one try is so in the next.
#[tokio::test]
async fn an_object_whose_reply_was_lost_is_found_by_the_next_try() {
    let case = Case::new(Mode::Slot, |seen, before| {
        is(seen, Call::Complete, A).then_some(if before == 0 { Fault::LoseReply } else { Fault::Reset })
    })
    .await;
    case.first().await.unwrap_err();
    case.wire.heal();
    case.is_done(&case.again().await.unwrap());
}

/// What is known to be done is not asked for again, and keeps its ETag.
#[tokio::test]
async fn objects_that_are_done_are_left_alone_by_the_next_try() {
    let case = Case::new(Mode::Slot, |seen, _| is(seen, Call::Complete, MANIFEST).then(slow_down)).await;
    case.first().await.unwrap_err();
    let sealed = case.journal.sealed.lock().unwrap().clone().unwrap();
    assert_eq!(sealed[0].completion, Completion::Done("whole-upload-1".into()));
    case.wire.heal();
    let committed = case.again().await.unwrap();
    assert_eq!(committed.objects[0].etag, "whole-upload-1");
    assert_eq!(case.wire.seen().iter().filter(|seen| is(seen, Call::Complete, A)).count(), 1);
}

#[tokio::test]
async fn a_manifest_that_may_not_be_written_fails_the_delivery_before_anything_is_visible() {
    let case = Case::new(Mode::Slot, |seen, _| is(seen, Call::Create, MANIFEST).then(refused)).await;
    let failure = case.first().await.unwrap_err();
    assert_eq!((failure.layer, failure.retry), (Layer::RolePolicy, Retry::Never), "{failure:?}");
    assert!(case.wire.objects().is_empty());
    assert_eq!(case.wire.open_uploads(), 0);
}

/// A role that refuses by now does not tell whether the manifest is there.
#[tokio::test]
async fn a_refusal_does_not_settle_a_doubt() {
    let case = Case::new(Mode::Slot, |seen, before| {
        is(seen, Call::Complete, MANIFEST).then_some(if before == 1 { Fault::LoseReply } else { Fault::Reset })
    })
    .await;
    // The question is not answered either.
    case.wire.obey(|seen, before| match seen.call {
        Call::Complete if before > 1 => Some(Fault::Reset),
        Call::Complete if before == 1 => Some(Fault::LoseReply),
        Call::Part if before > 1 => Some(Fault::Reset),
        _ => None,
    });
    assert_eq!(case.first().await.unwrap_err().leaves, Leaves::InDoubt);
    for call in [Call::AssumeRole, Call::Part, Call::Create] {
        let refused = move || match call {
            Call::AssumeRole => Fault::Answer(403, vec![], sts_error("AccessDenied", "not any more")),
            _ => refused(),
        };
        case.wire.obey(move |seen, _| (seen.call == call).then(refused));
        let failure = case.again().await.unwrap_err();
        assert_eq!(failure.leaves, Leaves::InDoubt, "{call:?}: {failure:?}");
    }
    case.wire.heal();
    case.is_done(&case.again().await.unwrap());
}

/// The manifest is there, and what else was to become it is not forgotten.
#[tokio::test]
async fn an_upload_of_the_manifest_that_cannot_be_aborted_is_told() {
    let case = Case::new(Mode::Slot, |_, _| None).await;
    case.first().await.unwrap();
    case.wire.obey(|seen, _| (seen.call == Call::Abort).then(refused));
    let committed = case.again().await.unwrap();
    let ids = case.journal.upload_ids();
    assert_eq!((committed.left.as_slice(), case.wire.open()), (&ids[2..], vec![MANIFEST.to_owned()]));
}

/// A lifecycle rule may have ended it: that it is gone proves nothing.
#[tokio::test]
async fn an_old_upload_of_the_manifest_is_no_proof_and_is_not_forgotten() {
    let old = |case: &Case| {
        let mut left = case.journal.left();
        left.manifest_uploads.iter_mut().for_each(|(_, created)| *created -= TimeDelta::hours(25));
        left
    };
    let put = async |case: &Case| {
        let completed = case.resume(old(case)).await.unwrap().complete().await.unwrap();
        let manifest = manifest(&case.customer, case.run, completed.objects());
        completed.manifest(&manifest).await?.mark().await
    };
    let case = Case::new(Mode::Slot, |_, _| None).await;
    case.first().await.unwrap();
    let failure = put(&case).await.unwrap_err();
    assert_eq!(
        (failure.layer, failure.leaves),
        (Layer::Conflict, Leaves::InDoubt),
        "it is this one's: that it failed were untrue"
    );
    assert!(failure.message.contains("cannot be told") && failure.remedy.contains("\"run\""), "{failure:?}");
    // Nor has it failed where nobody can be asked any more.
    case.wire.obey(|seen, _| is(seen, Call::Create, MANIFEST).then(refused));
    assert_eq!(put(&case).await.unwrap_err().leaves, Leaves::InDoubt);

    for can_be_aborted in [false, true] {
        let case = Case::new(Mode::Slot, |_, _| None).await;
        drop(case.sealed().await);
        case.wire.obey(move |seen, _| (seen.call == Call::Abort && !can_be_aborted).then(refused));
        let committed = put(&case).await.unwrap();
        assert_eq!((committed.left.len(), case.wire.open_uploads()), if can_be_aborted { (0, 0) } else { (1, 1) });
    }
}

/// The reply to a creation was lost, and the delivery fails when it was sealed.
#[tokio::test]
async fn strays_are_ended_after_a_failure_too_and_nothing_else() {
    let case = Case::new(Mode::Slot, |seen, before| match seen.call {
        Call::Create if before == 0 => Some(Fault::LoseReply),
        Call::Complete => Some(refused()),
        _ => None,
    })
    .await;
    case.first().await.unwrap_err();
    let mut open = case.wire.open();
    open.sort();
    assert_eq!(open, [MANIFEST, A], "those that the journal has");
    case.wire.heal();
    case.is_done(&case.again().await.unwrap());
}

/// By its status or by its code.
#[tokio::test]
async fn a_412_is_one_with_half_of_its_signs() {
    for conflict in [
        || Fault::Answer(412, vec![], String::new()),
        || Fault::Answer(200, vec![], s3_error("PreconditionFailed", "a pre-condition did not hold")),
    ] {
        let case = Case::new(Mode::Slot, move |seen, _| is(seen, Call::Complete, MANIFEST).then(conflict)).await;
        case.wire.put(MANIFEST, "theirs");
        let failure = case.first().await.unwrap_err();
        assert_eq!((failure.layer, failure.retry), (Layer::Conflict, Retry::Never), "{failure:?}");
    }
}

/// It was sealed by a consign that kept less, which may have put the manifest.
#[tokio::test]
async fn what_an_earlier_version_left_goes_on() {
    let case = Case::new(Mode::Slot, |_, _| None).await;
    case.first().await.unwrap();
    for object in case.journal.sealed.lock().unwrap().iter_mut().flatten() {
        object.completion = Completion::default();
    }
    // Its manifest is still its own where an object cannot be asked about.
    case.wire.obey(|seen, _| is(seen, Call::Complete, A).then(slow_down));
    case.again().await.unwrap_err();
    // Nor is it taken for one whose manifest was not asked for, also where it is asked whether it is the first.
    let resumed = case.resume(case.journal.left()).await.unwrap();
    put_first(&case, resumed).await.unwrap_err();
    assert_eq!(case.journal.left().objects[0].completion, Completion::default());
    case.wire.heal();
    let committed = case.again().await.unwrap();
    assert_eq!(committed.objects[0].etag, "", "it is not known any more");
    case.is_done(&committed);
}
