//! Deliveries in doubt that somebody settles, and what waits behind them.

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::admin::Order;
use super::super::admin::ask::Event;
use super::super::job::{Delivery, Job, Task};
use super::super::notify::Manager;
use super::super::settling::{Named, Settling};
use super::ends::{draft, no_answer, watch};
use super::*;
use crate::domain::{Destination, Refused};
use crate::ledger::{Saying, Settlement, Verdict};
use crate::run::Fate;

/// Slots by hand of one share, the first one at work, and the others at none.
async fn begun(desk: &mut Desk, hours: i64) -> Vec<Delivery> {
    let (share, acme) = (ShareName::parse("a").unwrap(), CustomerName::parse("acme").unwrap());
    let mut begun = Vec::new();
    for hour in 0..hours {
        let at = start() + TimeDelta::hours(hour - hours);
        let slot = Slot { share: share.clone(), at, interval: Interval { start: at - TimeDelta::hours(1), end: at } };
        let claim = desk.ledger.start_manual(slot.clone(), vec![acme.clone()]).await.unwrap().claim.unwrap();
        let (id, run, customer) = (claim.deliveries[0].1, claim.run, acme.clone());
        begun.push(Delivery { id, run, slot, customer, origin: Origin::Manual, late: false, deadline: None });
        desk.take_in(claim);
        desk.queue.remove(id).unwrap();
    }
    let config = desk.generation.config.clone();
    let to = Destination {
        endpoint: config.aws.endpoint_url.as_ref().map(ToString::to_string),
        bucket: config.customers[&acme].bucket.clone(),
        owner: config.customers[&acme].bucket_owner.clone(),
        manifest_key: "in/manifest.json".to_owned(),
    };
    let attempt = desk.ledger.attempt_started(begun[0].id, Some(to)).await.unwrap().id;
    desk.ledger.drafted(attempt, &draft(&begun[0])).await.unwrap();
    begun
}

async fn seal(desk: &Desk, delivery: &Delivery) {
    let attempt = desk.ledger.open_delivery(delivery.id).await.unwrap().attempt.unwrap().id;
    desk.ledger.sealed(attempt, &[]).await.unwrap();
    desk.ledger.failed(attempt, no_answer(), Some(start() + TimeDelta::hours(1))).await.unwrap();
}

/// Has them wait for a time that does not come.
fn wait(desk: &mut Desk, delivery: &Delivery, begun: bool) {
    let job = Job { delivery: delivery.clone(), task: Task::Again { begun } };
    desk.retries.push(start() + TimeDelta::hours(1), job);
}

fn settle(
    desk: &mut Desk,
    delivery: &Delivery,
    verdict: Verdict,
) -> oneshot::Receiver<Result<Vec<Settlement>, Refused>> {
    let (done, settled) = oneshot::channel();
    let saying = Saying { verdict, by: "root".to_owned(), reason: None };
    let named = Named { customer: delivery.customer.clone(), delivery: delivery.id, has_ended: false };
    let deliveries = vec![named];
    let settling = Settling { run: delivery.run, deliveries, saying, done };
    desk.obey(Order::Settle(Box::new(settling)), &mut Manager::of_process());
    settled
}

/// What it was answered by now.
fn refused(mut settled: oneshot::Receiver<Result<Vec<Settlement>, Refused>>) -> Refused {
    settled.try_recv().expect("it is not answered").unwrap_err()
}

/// Under a clock that stands: nothing goes on because its time has come.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_is_told_and_what_waits_behind_it_goes_on() {
    for (verdict, fate, ended) in
        [(Verdict::Committed, Fate::Committed, RunState::Succeeded), (Verdict::Failed, Fate::Failed, RunState::Failed)]
    {
        let world = World::new();
        let mut desk = world.desk(world.config("", "old", &["a"])).await;
        let [first, behind] = &begun(&mut desk, 2).await[..] else { panic!("two of them") };
        seal(&desk, first).await;
        wait(&mut desk, first, true);
        wait(&mut desk, behind, false);
        // Somebody has it tried now and waits for its end; it has not begun yet.
        let mut heard = watch(&mut desk, first).await;
        assert_eq!((desk.queue.waiting(), desk.retries.len()), (1, 1));
        let settled = settle(&mut desk, first, verdict);
        assert_eq!((desk.queue.waiting(), desk.has(first.id)), (0, true), "nobody begins a try meanwhile");
        let twice = refused(settle(&mut desk, first, verdict));
        assert!(twice.message.contains("to acme is at work"), "{twice:?}");
        answered(&mut desk, "it is settled").await;
        assert_eq!(settled.await.unwrap().unwrap().len(), 1);
        let Ok(Event::Ended(fared)) = heard.try_recv() else { panic!("it is not told") };
        assert_eq!(fared.state, fate);
        assert!(heard.recv().await.is_none(), "nothing more is to come");
        assert_eq!(
            (desk.tally.delivered, desk.tally.failed),
            (u64::from(fate == Fate::Committed), u64::from(fate == Fate::Failed))
        );
        assert_eq!(
            (desk.queue.waiting(), desk.retries.len()),
            (2, 0),
            "its uploads are aborted, and the other one tried"
        );
        until(&mut desk, "its run has ended, and the other one is at work", |desk| {
            desk.open.len() == 1 && desk.is_at_work(behind.id) && desk.calls.is_empty()
        })
        .await;
        assert_eq!((runs(&desk, "a", ended).await, runs(&desk, "a", RunState::Running).await), (1, 1));
    }
}

/// It goes on as it did before.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_settled_goes_on() {
    let world = World::new();
    let mut desk = world.desk(world.config("", "old", &["a"])).await;
    let [first, other] = &begun(&mut desk, 2).await[..] else { panic!("two of them") };
    wait(&mut desk, first, true);
    let settled = settle(&mut desk, first, Verdict::Failed);
    answered(&mut desk, "it is not settled").await;
    let why = refused(settled);
    assert!(why.message.contains("it is working, and nothing of it can be seen"), "{why:?}");
    assert_eq!((desk.queue.waiting(), desk.settling.len(), desk.tally.failed), (1, 0, 0));
    assert_eq!(desk.ledger.open_delivery(first.id).await.unwrap().state, DeliveryState::Working);
    // What is not here is not settled here.
    let why = refused(settle(&mut desk, other, Verdict::Failed));
    assert!(why.message.contains("is not at hand here"), "{why:?}");
    desk.unrecorded.job(Job { delivery: other.clone(), task: Task::Again { begun: true } }, "the disk is full");
    let why = refused(settle(&mut desk, other, Verdict::Failed));
    assert!(why.message.contains("could not be written down yet"), "{why:?}");
    desk.callers.stopping.store(true, std::sync::atomic::Ordering::Relaxed);
    let ended = settle(&mut desk, first, Verdict::Failed).try_recv();
    assert_eq!(ended.unwrap_err(), TryRecvError::Closed, "nothing new begins in a daemon that stops");
}
