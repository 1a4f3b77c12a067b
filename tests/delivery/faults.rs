//! What goes wrong on the line, and what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use consign::config::Aws;
use consign::domain::{Layer, Retry};

use super::wire::{Call, Fault, Wire, s3_error};
use super::world::*;

/// Small patience, so that what hangs ends soon. Only for what hangs: on a busy machine
/// other requests may take as long.
fn impatient(wire: &Wire) -> Aws {
    Aws { attempt_timeout: Duration::from_millis(400), operation_timeout: Duration::from_secs(3), ..aws(&wire.url) }
}

/// Fails the first `times` calls of a kind.
async fn failing(call: Call, times: usize, mut fault: impl FnMut() -> Fault + Send + 'static) -> Wire {
    Wire::start(move |seen, before| (seen.call == call && before < times).then(&mut fault)).await
}

async fn delivers(wire: &Wire) {
    let contents = vec![9; 7 * MIB];
    let vendor = vendor(&aws(&wire.url)).await;
    deliver(&vendor, &Arc::new(customer()), object(0, "a.csv", &contents)).await.unwrap();
    assert!(wire.objects()[&format!("{FOLDER}a.csv")] == contents);
    assert!(wire.objects().contains_key(MANIFEST));
}

fn slow_down() -> Fault {
    Fault::Answer(503, vec![], s3_error("SlowDown", "Please reduce your request rate."))
}

#[tokio::test]
async fn a_stalled_server_ends_by_timeout() {
    for call in [Call::AssumeRole, Call::Create, Call::Part, Call::Complete] {
        let wire = failing(call, usize::MAX, || Fault::Stall).await;
        let vendor = vendor(&impatient(&wire)).await;
        let began = Instant::now();
        let failure = deliver(&vendor, &Arc::new(customer()), object(0, "a.csv", b"x")).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(20), "{call:?} took {:?}", began.elapsed());
        assert_eq!((failure.layer, failure.retry), (Layer::Network, Retry::Later), "{failure:?}");
        assert!(failure.message.contains("in time"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_stall_that_passes_is_retried() {
    let wire = failing(Call::Part, 1, || Fault::Stall).await;
    let patience = Aws { attempt_timeout: Duration::from_secs(2), ..aws(&wire.url) };
    deliver(&vendor(&patience).await, &Arc::new(customer()), object(0, "a.csv", b"x")).await.unwrap();
    assert!(wire.count(Call::Part) >= 3, "the manifest has one too");
    assert!(wire.objects().contains_key(MANIFEST));
}

/// S3 may take minutes to put many parts together.
#[tokio::test]
async fn a_completion_has_longer_than_other_requests() {
    let wire = failing(Call::Complete, 1, || Fault::Late(Duration::from_secs(4))).await;
    let patience = Aws { attempt_timeout: Duration::from_secs(3), ..aws(&wire.url) };
    deliver(&vendor(&patience).await, &Arc::new(customer()), object(0, "a.csv", b"x")).await.unwrap();
    assert_eq!(wire.count(Call::Complete), 2, "the object's and the manifest's, neither of them twice");
}

#[tokio::test]
async fn a_reset_is_retried() {
    for call in [Call::AssumeRole, Call::Create, Call::Part, Call::Complete] {
        let wire = failing(call, 1, || Fault::Reset).await;
        delivers(&wire).await;
        assert!(wire.count(call) >= 2, "{call:?}");
    }
}

#[tokio::test]
async fn throttling_is_waited_out_and_reported_as_worth_another_try() {
    let wire = failing(Call::Part, 2, slow_down).await;
    delivers(&wire).await;

    let wire = failing(Call::Part, usize::MAX, slow_down).await;
    let vendor = vendor(&aws(&wire.url)).await;
    let failure = deliver(&vendor, &Arc::new(customer()), object(0, "a.csv", b"x")).await.unwrap_err();
    assert_eq!((failure.layer, failure.retry), (Layer::Network, Retry::Later), "{failure:?}");
    assert!(failure.message.contains("SlowDown"), "{failure:?}");
    assert_eq!((wire.objects().len(), wire.open_uploads()), (0, 0), "a failed delivery leaves nothing");
}

#[tokio::test]
async fn an_error_in_a_200_is_retried_and_never_taken_for_success() {
    let internal = || Fault::Answer(200, vec![], s3_error("InternalError", "We encountered an internal error."));
    let wire = failing(Call::Complete, 1, internal).await;
    delivers(&wire).await;

    let wire = failing(Call::Complete, usize::MAX, internal).await;
    let vendor = vendor(&aws(&wire.url)).await;
    let failure = deliver(&vendor, &Arc::new(customer()), object(0, "a.csv", b"x")).await.unwrap_err();
    assert_eq!((failure.layer, failure.retry), (Layer::Network, Retry::Later), "{failure:?}");
    assert!(failure.message.contains("InternalError"), "{failure:?}");
    assert!(!wire.objects().contains_key(MANIFEST));
}

#[tokio::test]
async fn a_completion_whose_reply_is_lost_is_a_completion() {
    // The first completion is the object's, the manifest's comes after its retry.
    for lost in [0, 1, 2] {
        let wire = Wire::start(move |seen, before| {
            (seen.call == Call::Complete && before == lost).then_some(Fault::LoseReply)
        })
        .await;
        delivers(&wire).await;
        assert_eq!(wire.open_uploads(), 0);
    }
}

#[tokio::test]
async fn a_completion_whose_reply_is_truncated_is_a_completion() {
    for cut in [0, 1, 2] {
        let wire =
            Wire::start(move |seen, before| (seen.call == Call::Complete && before == cut).then_some(Fault::Truncate))
                .await;
        delivers(&wire).await;
    }
}

#[tokio::test]
async fn a_manifest_whose_reply_is_lost_answers_412_and_is_still_ours() {
    let refused = || Fault::Answer(412, vec![], s3_error("PreconditionFailed", "a pre-condition did not hold"));
    let mut completions = 0;
    let wire = Wire::start(move |seen, _| {
        // The object's may be tried again, too, for whatever reason.
        let is_of_manifest = seen.call == Call::Complete && seen.key == MANIFEST;
        completions += usize::from(is_of_manifest);
        match completions {
            1 if is_of_manifest => Some(Fault::LoseReply),
            2 if is_of_manifest => Some(refused()),
            _ => None,
        }
    })
    .await;
    delivers(&wire).await;
    let of_manifest = wire.seen().iter().filter(|seen| seen.call == Call::Complete && seen.key == MANIFEST).count();
    assert!(of_manifest >= 2, "its reply was lost");
}

#[tokio::test]
async fn an_upload_that_vanishes_is_not_taken_for_completed() {
    let gone = || Fault::Answer(404, vec![], s3_error("NoSuchUpload", "The specified upload does not exist."));
    let wire = failing(Call::Complete, 1, gone).await;
    let vendor = vendor(&aws(&wire.url)).await;
    let failure = deliver(&vendor, &Arc::new(customer()), object(0, "a.csv", b"x")).await.unwrap_err();
    assert_eq!((failure.layer, failure.retry), (Layer::Bucket, Retry::Later), "{failure:?}");
}

#[tokio::test]
async fn an_expired_session_is_renewed_once_and_the_upload_goes_on() {
    let expired = || Fault::Answer(400, vec![], s3_error("ExpiredToken", "The provided token has expired."));
    let wire = failing(Call::Part, 1, expired).await;
    delivers(&wire).await;
    assert_eq!(wire.count(Call::AssumeRole), 2);

    let wire = failing(Call::Part, usize::MAX, expired).await;
    let vendor = vendor(&aws(&wire.url)).await;
    let failure = deliver(&vendor, &Arc::new(customer()), object(0, "a.csv", b"x")).await.unwrap_err();
    assert!(failure.message.contains("ExpiredToken"), "{failure:?}");
    assert_eq!(wire.count(Call::Part), 2, "once more, and no more");
}

#[tokio::test]
async fn parts_that_expire_together_share_one_new_session() {
    let wire = Wire::start(|seen, _| {
        let old = seen.headers.get("x-amz-security-token").is_some_and(|token| token == "token-1");
        (seen.call == Call::Part && old)
            .then(|| Fault::Answer(400, vec![], s3_error("ExpiredToken", "The provided token has expired.")))
    })
    .await;
    let vendor = vendor(&aws(&wire.url)).await;
    deliver(&vendor, &Arc::new(customer()), object(0, "a.csv", &vec![1; 22 * MIB])).await.unwrap();
    assert_eq!(wire.count(Call::AssumeRole), 2);
}

#[tokio::test]
async fn a_dead_port_is_the_network() {
    let wire_less = aws("http://127.0.0.1:1");
    let vendor = vendor(&Aws { operation_timeout: Duration::from_secs(3), ..wire_less }).await;
    let failure = deliver(&vendor, &Arc::new(customer()), object(0, "a.csv", b"x")).await.unwrap_err();
    assert_eq!((failure.layer, failure.retry), (Layer::Network, Retry::Later), "{failure:?}");
}
