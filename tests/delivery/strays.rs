//! Uploads of which nobody was told.

use std::sync::Arc;

use consign::delivery::Target;
use consign::domain::CustomerPrefix;

use super::wire::{Call, Fault, Wire, s3_error};
use super::world::*;

async fn target(wire: &Wire) -> Target {
    Target::bucket(&vendor(&aws(&wire.url)).await, &Arc::new(customer()), run_id()).unwrap()
}

async fn delivers(wire: &Wire) {
    deliver_to(target(wire).await, &customer(), run_id(), Arc::default(), object(0, "a.csv", b"x")).await.unwrap();
}

#[tokio::test]
async fn an_upload_whose_reply_was_lost_is_found_and_aborted() {
    for faults in [1, 3] {
        let wire =
            Wire::start(move |seen, before| (seen.call == Call::Create && before < faults).then_some(Fault::LoseReply))
                .await;
        delivers(&wire).await;
        assert_eq!(wire.open_uploads(), 0, "after {faults} lost replies");
        assert_eq!(wire.objects().len(), 2);
        assert!(wire.count(Call::List) > 0);
    }
}

#[tokio::test]
async fn nothing_is_looked_for_where_every_reply_came() {
    let refused = || Fault::Answer(503, vec![], s3_error("SlowDown", "Please reduce your request rate."));
    let wire = Wire::start(move |seen, before| (seen.call == Call::Create && before == 0).then(refused)).await;
    delivers(&wire).await;
    assert_eq!((wire.count(Call::List), wire.count(Call::AssumeRole)), (0, 1));
}

#[tokio::test]
async fn a_customer_who_allows_no_listing_is_delivered_to_all_the_same() {
    let wire = Wire::start(|seen, before| match seen.call {
        Call::Create if before == 0 => Some(Fault::LoseReply),
        Call::List => Some(Fault::Answer(403, vec![], s3_error("AccessDenied", "Access Denied"))),
        _ => None,
    })
    .await;
    delivers(&wire).await;
    assert_eq!((wire.objects().len(), wire.open_uploads(), wire.count(Call::List)), (2, 1, 1));
}

#[tokio::test]
async fn what_a_dead_process_may_have_left_is_ended_and_nothing_else() {
    let wire = Wire::healthy().await;
    let own = ["a.csv", "b.csv", "c.csv", "_manifest.json"].map(|leaf| format!("{FOLDER}{leaf}"));
    let others = [
        "uploads/us/orders/2024-05-01/070000Z/a.csv".to_owned(),
        "uploads/us/orders/latest.json".to_owned(),
        format!("{FOLDER}deeper/a.csv"),
    ];
    own.iter().chain(&others).for_each(|key| wire.create(key));
    let fenced = Journal { is_fenced: true, ..Journal::default() };
    target(&wire).await.end_strays(MANIFEST, None, &fenced).await;
    assert_eq!(wire.open().len(), 7, "another process may have begun them");
    target(&wire).await.end_strays(MANIFEST, None, &Journal::default()).await;
    let mut left = wire.open();
    left.sort();
    let mut expected = others.to_vec();
    expected.sort();
    assert_eq!(left, expected);
    let listing = wire.seen().into_iter().find(|seen| seen.call == Call::List).unwrap();
    assert_eq!(listing.headers["x-amz-expected-bucket-owner"], "123456789012");
    assert_eq!(listing.query["prefix"], FOLDER);
}

/// The pointer that all slots of a share have is a folder above, and what a look at the customer has left is at the
/// top of the prefix. Of the latter somebody else may be at work.
#[tokio::test]
async fn what_a_dead_process_may_have_left_elsewhere_is_ended_too() {
    let wire = Wire::healthy().await;
    let prefix = CustomerPrefix::parse("uploads/us").unwrap();
    let (probe, latest) = (prefix.probe(), prefix.recorded("uploads/us/orders/latest.json").unwrap());
    let others = ["uploads/us/orders/latest.json.gz", "uploads/us/_consign-preflight2", "uploads/us/other/latest.json"];
    others.iter().chain(&[probe.as_str(), latest.as_str()]).for_each(|key| wire.create(key));
    let target = target(&wire).await;
    wire.create_now(probe.as_str());
    target.end_strays(MANIFEST, Some(&latest), &Journal::default()).await;
    let mut left = wire.open();
    left.sort();
    let mut expected = others.map(str::to_owned).to_vec();
    expected.push(probe.to_string());
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(wire.count(Call::AssumeRole), 2, "one session looks, one aborts");
}

#[tokio::test]
async fn only_the_session_that_looks_may_list() {
    let wire = Wire::start(|seen, before| (seen.call == Call::Create && before == 0).then_some(Fault::LoseReply)).await;
    delivers(&wire).await;
    let policies: Vec<bool> = wire
        .seen()
        .iter()
        .filter(|seen| seen.call == Call::AssumeRole)
        .map(|seen| String::from_utf8_lossy(&seen.body).contains("ListBucketMultipartUploads"))
        .collect();
    assert_eq!(policies, [false, true]);
}
