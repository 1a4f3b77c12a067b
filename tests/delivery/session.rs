//! What becomes of a delivery while its session is renewed and STS refuses or hangs.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use consign::clock::Clock;
use consign::config::{Aws, Compression};
use consign::delivery::{Delivery, Target, Vendor};

use super::wire::{Call, Fault, Wire, s3_error};
use super::world::*;

/// A session of an hour has been opened, and is to be renewed.
async fn to_be_renewed(aws: &Aws) -> (Delivery, Clock) {
    let clock = Clock::fixed(Clock::system().now());
    let vendor = Vendor::new(aws, 1, clock.clone()).await.unwrap();
    let target = Target::bucket(&vendor, &Arc::new(customer()), run_id()).unwrap();
    let delivery = Delivery::begin(target, spec(Compression::None), Arc::new(Journal::default())).await.unwrap();
    clock.set(clock.now() + TimeDelta::minutes(56));
    (delivery, clock)
}

/// Stores so many objects, each of which asks for credentials several times.
async fn stores(delivery: &Delivery, objects: std::ops::Range<u32>) {
    for number in objects {
        let stored = delivery.progress().borrow().stored_parts;
        for event in object(number, &format!("{number}.csv"), b"x") {
            delivery.accept(event).await.unwrap();
        }
        delivery.progress().wait_for(|done| done.stored_parts > stored).await.unwrap();
    }
}

/// Each request would ask STS again, for all that is left of the old session.
#[tokio::test]
async fn a_renewal_that_fails_is_left_alone_for_a_while() {
    let refused = || Fault::Answer(403, vec![], s3_error("AccessDenied", "no longer"));
    let wire = Wire::start(move |seen, before| (seen.call == Call::AssumeRole && before > 0).then(refused)).await;
    let (delivery, clock) = to_be_renewed(&aws(&wire.url)).await;
    stores(&delivery, 0..20).await;
    assert_eq!(wire.count(Call::AssumeRole), 2, "once, under a clock that stands");
    // A little later it is tried again, and no more often than that.
    for number in 20..26 {
        clock.set(clock.now() + TimeDelta::seconds(31));
        stores(&delivery, number..number + 1).await;
    }
    let renewals = wire.count(Call::AssumeRole);
    assert!((3..=8).contains(&renewals), "{renewals}");
    delivery.seal().await.unwrap().complete().await.unwrap();
}

/// An upload of many hours goes through one session after the other.
#[tokio::test]
async fn a_session_that_was_renewed_is_renewed_again() {
    let wire = Wire::healthy().await;
    let (delivery, clock) = to_be_renewed(&aws(&wire.url)).await;
    for number in 0..3 {
        stores(&delivery, number..number + 1).await;
        let renewed = async {
            while wire.count(Call::AssumeRole) < number as usize + 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), renewed).await.expect("it is not renewed");
        // The answer is there; that it is taken is not to be seen.
        stores(&delivery, 10 + number..11 + number).await;
        clock.set(clock.now() + TimeDelta::minutes(56));
    }
    delivery.seal().await.unwrap().complete().await.unwrap();
}

#[tokio::test]
async fn nobody_waits_for_a_renewal_while_the_old_session_is_good() {
    let wire = Wire::start(|seen, before| (seen.call == Call::AssumeRole && before > 0).then_some(Fault::Stall)).await;
    let hours = Duration::from_secs(24 * 3600);
    let (delivery, _clock) =
        to_be_renewed(&Aws { attempt_timeout: hours, operation_timeout: hours, ..aws(&wire.url) }).await;
    let goes_on = async {
        stores(&delivery, 0..3).await;
        delivery.seal().await.unwrap().complete().await.map(drop)
    };
    tokio::time::timeout(Duration::from_secs(60), goes_on).await.expect("it waits").unwrap();
    assert_eq!(wire.count(Call::AssumeRole), 2);
}
