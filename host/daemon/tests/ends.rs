//! What ends otherwise than it should: deliveries, uploads, the daemon itself.

use tokio::sync::{mpsc, oneshot};
use tokio::task::Id;
use tokio::time::{Instant, timeout};

use super::super::admin::ask::Event;
use super::super::admin::{Order, Watch};
use super::super::calls::Answer;
use super::super::job::{Delivery, Progress};
use super::super::notify::Manager;
use super::super::{DRAIN_GRACE, backlog, drain};
use super::*;
use crate::domain::{
    Destination, Failure, KeyFacts, Layer, LeafName, Manifest, ManifestInterval, PluginName, Retry, RunId,
};
use crate::ledger::{AttemptId, Committed, DeliveryId, LedgerError, Quarantine};
use crate::run::{Fate, Finished, Outcome};

/// A daemon with one delivery at work, which waits for an answer of the endpoint.
async fn at_work(world: &World, daemon: &str) -> Desk {
    let mut desk = world.desk(world.config(daemon, "old", &["a"])).await;
    world.second(&mut desk, 1);
    until(&mut desk, "a delivery is at work", |_| world.silence.asked_for("old") == 1).await;
    desk
}

/// The same, and what becomes of the delivery is said by the test.
async fn with_one_at_work(world: &World) -> (Desk, Id, Delivery) {
    let mut desk = at_work(world, "").await;
    let (id, at_work) = desk.at_work.iter().next().unwrap();
    let (id, delivery) = (*id, at_work.delivery.clone());
    desk.work.abort_all();
    while desk.work.join_next().await.is_some() {}
    (desk, id, delivery)
}

/// The same, and its task has died, as is heard.
async fn with_one_died(world: &World) -> (Desk, Delivery, mpsc::UnboundedReceiver<Event>) {
    let mut desk = at_work(world, "").await;
    let delivery = desk.at_work.values().next().unwrap().delivery.clone();
    let heard = watch(&mut desk, &delivery).await;
    desk.work.abort_all();
    let died = desk.work.join_next_with_id().await.unwrap();
    desk.ended(died).unwrap();
    (desk, delivery, heard)
}

pub(super) async fn watch(desk: &mut Desk, delivery: &Delivery) -> mpsc::UnboundedReceiver<Event> {
    let (watch, heard): (Watch, _) = mpsc::unbounded_channel();
    let (done, here) = oneshot::channel();
    // Another delivery is not here.
    let deliveries = vec![delivery.id, DeliveryId(4711)];
    desk.obey(Order::TryNow { deliveries, watch, done }, &mut Manager::of_process());
    assert_eq!(here.await.unwrap(), [delivery.id]);
    heard
}

pub(super) fn draft(delivery: &Delivery) -> Manifest {
    Manifest {
        manifest_version: 1,
        share: delivery.slot.share.clone(),
        slot: delivery.slot.at,
        interval: ManifestInterval { start: delivery.slot.interval.start, end: delivery.slot.interval.end },
        customer: delivery.customer.clone(),
        mode: crate::domain::Mode::Slot,
        run: delivery.run,
        rows: 0,
        objects: Vec::new(),
        schema: Vec::new(),
        plugin: None,
        consign_version: "0.1.0".to_owned(),
        started: start(),
        finished: start(),
    }
}

pub(super) fn no_answer() -> Failure {
    Failure::new(Layer::Network, Retry::Later, "no answer", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_meets_a_failure_does_not_wait_for_the_next_try() {
    let world = World::new();
    let (mut desk, id, delivery) = with_one_at_work(&world).await;
    let attempt = desk.ledger.open_delivery(delivery.id).await.unwrap().attempt.unwrap().id;
    let due = start() + TimeDelta::hours(1);
    desk.ledger.failed(attempt, no_answer(), Some(due)).await.unwrap();
    let why = Failure::new(Layer::Schedule, Retry::Never, "cancelled by root", "");
    desk.ledger.cancel(delivery.run, Vec::new(), why.clone()).await.unwrap();
    desk.at_work[&id].stopper.stop(why);
    desk.ended(Ok((id, Ok(Progress::Waits { due, sealed: false, failure: no_answer() })))).unwrap();
    until(&mut desk, "it has ended", |desk| desk.tally.failed == 1 && desk.calls.is_empty()).await;
    assert_eq!(runs(&desk, "a", RunState::Failed).await, 1);
    assert_eq!(desk.retries.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_wait_hear_of_a_delivery_that_cannot_be_recorded_and_its_run_is_let_go() {
    let world = World::new();
    let (mut desk, id, delivery) = with_one_at_work(&world).await;
    let mut all = [watch(&mut desk, &delivery).await, watch(&mut desk, &delivery).await];
    let event = "commit".to_owned();
    let illegal = LedgerError::Illegal { record: "attempt 1".to_owned(), state: "failed", event };
    desk.ended(Ok((id, Err(illegal)))).unwrap();
    // Left open, it would keep the share's later slots from the customer.
    until(&mut desk, "it has failed", |desk| desk.tally.failed == 1 && desk.calls.is_empty()).await;
    assert_eq!(runs(&desk, "a", RunState::Failed).await, 1);
    for heard in &mut all {
        let Some(Event::Ended(fared)) = heard.recv().await else { panic!("it is not told") };
        assert_eq!(fared.state, Fate::Failed);
        assert!(fared.failure.unwrap().message.contains("attempt 1 is failed"));
        assert!(heard.recv().await.is_none(), "nothing more is to come");
    }
    assert!(desk.open.is_empty());
}

/// It may take days until the plugin is let go: nobody hangs at a terminal for so long.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_delivery_is_told_that_its_plugin_is_in_quarantine() {
    let world = World::new();
    let share = "[plugins.jsonl]\nquarantine_after = 1\n[datasets.rows]\ntables.rows = \"rows.csv\"\nshared = true\n\
                 [shares.rows]\nschedule = \"@yearly\"\ndataset = \"rows\"\nplugin = \"jsonl\"\n\
                 to = { customers = [\"acme\"] }\n";
    let mut desk = world.desk(world.config(share, "old", &[])).await;
    let (share, acme) = (ShareName::parse("rows").unwrap(), CustomerName::parse("acme").unwrap());
    let mut begun = Vec::new();
    for hour in 0..2 {
        let at = start() - TimeDelta::hours(hour);
        let slot = Slot { share: share.clone(), at, interval: Interval { start: at - TimeDelta::hours(1), end: at } };
        let claim = desk.ledger.start_manual(slot.clone(), vec![acme.clone()]).await.unwrap().claim.unwrap();
        let (id, run, customer) = (claim.deliveries[0].1, claim.run, acme.clone());
        begun.push(Delivery { id, run, slot, customer, origin: Origin::Manual, late: false, deadline: None });
        desk.take_in(claim);
    }
    let [waits, again] = &begun[..] else { panic!("two of them") };
    let job = desk.queue.remove(again.id).unwrap();
    desk.retries.push(start() + TimeDelta::hours(1), job);
    let first = watch(&mut desk, waits).await;
    let plugin = PluginName::parse("jsonl").unwrap();
    let digest = desk.generation.parts.digest(&plugin).unwrap();
    let (since, failed) = (start(), start());
    desk.quarantined(Ok(vec![Quarantine { plugin, digest, since, deliveries: 1, failure: no_answer(), failed }]))
        .unwrap();
    // The first one was in the queue, the second one waits for its next try, the third asks for what waits already.
    let mut all = [first, watch(&mut desk, again).await, watch(&mut desk, waits).await];
    for heard in &mut all {
        let Some(Event::Ended(fared)) = heard.recv().await else { panic!("it is not told") };
        assert_eq!(fared.state, Fate::Waiting);
        let failure = fared.failure.unwrap();
        assert!(failure.message.contains("plugin jsonl is in quarantine"), "{failure:?}");
        assert!(failure.remedy.contains("consign plugin release jsonl"), "{failure:?}");
        assert!(heard.recv().await.is_none(), "nothing more is to come");
    }
    assert_eq!((desk.quarantine.len(), desk.retries.len(), desk.queue.waiting()), (2, 0, 0));
}

/// Outside of what the task itself gets over. Left at work, it would keep its run open, and later slots from its customer.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_whose_task_died_is_tried_again() {
    let world = World::new();
    let (mut desk, delivery, mut heard) = with_one_died(&world).await;
    until(&mut desk, "it waits for its next try", |desk| desk.retries.len() == 1 && desk.work.is_empty()).await;
    let Some(Event::Waits { failure, .. }) = heard.recv().await else { panic!("it is not told") };
    assert_eq!((failure.layer, failure.retry), (Layer::Local, Retry::Later));
    assert_eq!((desk.tally.failed, desk.queue.at_work(), desk.open.len()), (0, 0, 1));
    let open = desk.ledger.open_delivery(delivery.id).await.unwrap();
    assert_eq!((open.state, open.tries), (DeliveryState::Waiting, 1));
}

/// Whoever only writes that down dies too: nobody tries for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_whose_end_cannot_be_written_down_is_let_go() {
    let world = World::new();
    let (mut desk, _, mut heard) = with_one_died(&world).await;
    let records = *desk.at_work.keys().next().unwrap();
    let recording = desk.at_work.remove(&records).unwrap();
    desk.work.abort_all();
    while desk.work.join_next().await.is_some() {}
    let dies = desk.work.spawn(std::future::pending());
    desk.at_work.insert(dies.id(), recording);
    dies.abort();
    let died = desk.work.join_next_with_id().await.unwrap();
    desk.ended(died).unwrap();
    let Some(Event::Ended(fared)) = heard.recv().await else { panic!("it is not told") };
    assert_eq!((fared.state, desk.open.len(), desk.queue.at_work()), (Fate::Failed, 0, 0));
}

/// What was found of who is no longer configured is of no use to anybody.
#[tokio::test(flavor = "multi_thread")]
async fn customers_who_are_gone_are_forgotten() {
    let world = World::new();
    let config = world.config("", "old", &["a"]);
    let mut desk = world.desk(config.clone()).await;
    let name = |name: &str| CustomerName::parse(name).unwrap();
    let refused = || Failure::new(Layer::TrustPolicy, Retry::Never, "refused", "");
    let profile = config.customers[&name("acme")].hash();
    let unready = async |desk: &Desk| desk.ledger.unready().await.unwrap().len();
    for customer in ["acme", "gone"].map(name) {
        desk.ledger.not_ready(customer, profile.clone(), refused()).await.unwrap();
    }
    desk.resume().await.unwrap();
    assert_eq!((desk.status().unready, unready(&desk).await), (vec![name("acme")], 1));
    // One that was still at work has found it once more.
    desk.ledger.not_ready(name("gone"), profile.clone(), refused()).await.unwrap();
    desk.waiting.look_at([]);
    until(&mut desk, "the ledger is asked", |desk| desk.calls.is_empty()).await;
    assert_eq!((desk.status().unready, unready(&desk).await), (vec![name("acme")], 2));
    let (new, parts, planner) = world.loaded(&desk, &config).await;
    desk.adopt(new, parts, planner);
    until(&mut desk, "it is forgotten", |desk| desk.calls.is_empty()).await;
    assert_eq!((desk.status().unready, unready(&desk).await), (vec![name("acme")], 1));
}

/// A disk that stands still: neither is it vouched for, nor waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_when_the_ledger_does_not_answer() {
    let world = World::new();
    let mut desk = world.desk(world.config("drain_timeout = \"1s\"\n", "old", &["a"])).await;
    desk.calls.ask(std::future::pending());
    until(&mut desk, "it does not answer", |desk| !desk.is_alive()).await;
    let (mut manager, began) = (Manager::watching(), Instant::now());
    let (_orders, mut ordered) = mpsc::channel(1);
    let ended = timeout(Duration::from_secs(30), drain(desk, &mut manager, &mut ordered)).await;
    ended.expect("it does not end").unwrap();
    let lasted = began.elapsed();
    assert!(lasted >= DRAIN_GRACE && lasted < DRAIN_GRACE + Duration::from_secs(4), "{lasted:?}");
    assert!(!manager.has_heard());
}

/// It has nothing in the bucket yet, and is the next start's.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_leaves_what_it_cuts_off_to_the_next_start() {
    let world = World::new();
    let desk = at_work(&world, "drain_timeout = \"1s\"\n").await;
    let (ledger, delivery) = (desk.ledger.clone(), desk.at_work.values().next().unwrap().delivery.id);
    let (_orders, mut ordered) = mpsc::channel(1);
    let began = Instant::now();
    drain(desk, &mut Manager::of_process(), &mut ordered).await.unwrap();
    assert!(began.elapsed() < DRAIN_GRACE, "{:?}", began.elapsed());
    let open = ledger.open_delivery(delivery).await.unwrap();
    assert_eq!((open.state, open.tries, open.uploads.len()), (DeliveryState::Pending, 0, 0));
}

/// Each of its answers takes longer than anybody waits for one, and they come.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_ledger_that_answers_is_vouched_for() {
    let world = World::new();
    let mut desk = world.desk(world.config("", "old", &["a"])).await;
    let after = |tenths: u64| async move {
        tokio::time::sleep(Duration::from_millis(100 * tenths)).await;
        Answer::Released(Ok(()))
    };
    desk.calls.ask(after(4));
    desk.calls.ask(after(8));
    desk.calls.ask(after(12));
    for _ in 0..3 {
        assert!(desk.is_alive());
        desk.calls.answer().await.unwrap();
    }
    assert!(desk.is_alive());
}

/// What is stored whole completes: a mark does not cost it its tries.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_leaves_what_is_sealed_to_complete() {
    let world = World::new();
    let (mut desk, id, delivery) = with_one_at_work(&world).await;
    let attempt = desk.ledger.open_delivery(delivery.id).await.unwrap().attempt.unwrap().id;
    let why = Failure::new(Layer::Schedule, Retry::Never, "cancelled by root", "");
    desk.ledger.cancel(delivery.run, Vec::new(), why).await.unwrap();
    desk.ledger.drafted(attempt, &draft(&delivery)).await.unwrap();
    desk.ledger.sealed(attempt, &[]).await.unwrap();
    desk.look_at_cancelled(delivery.id);
    answered(&mut desk, "the mark is looked at").await;
    assert!(!desk.at_work[&id].stopper.is_told());
    let due = start() + TimeDelta::hours(1);
    desk.ledger.failed(attempt, no_answer(), Some(due)).await.unwrap();
    desk.ended(Ok((id, Ok(Progress::Waits { due, sealed: true, failure: no_answer() })))).unwrap();
    desk.look_at_cancelled(delivery.id);
    answered(&mut desk, "the mark is looked at").await;
    assert_eq!((desk.retries.len(), desk.queue.waiting()), (1, 0), "it waits for its time");
}

/// The customer may have taken it away by then: nobody is to put its manifest once more.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_and_could_not_be_recorded_is_only_written_down() {
    let world = World::new();
    let (mut desk, id, delivery) = with_one_at_work(&world).await;
    let attempt = desk.ledger.open_delivery(delivery.id).await.unwrap().attempt.unwrap().id;
    desk.ledger.drafted(attempt, &draft(&delivery)).await.unwrap();
    desk.ledger.sealed(attempt, &[]).await.unwrap();
    // More than there is room for in what the file has.
    let manifest_key = "k".repeat(1 << 20);
    let committed = Committed { manifest_key, rows: 0, bytes: 0, objects: Vec::new(), left: Vec::new() };
    let finished = Box::new(Finished { attempt, committed, manifest: draft(&delivery) });
    desk.ledger.limit_bytes(4096).await.unwrap();
    let written = async |retrying| {
        let Delivery { run, slot, customer, .. } = &delivery;
        let (parts, config, ledger) = (&*desk.generation.parts, &desk.generation.config, &desk.ledger);
        let (run, stop, gauge) = (*run, Stopper::default().listen(None), Gauge::default());
        let recorder = Recorder { parts, ledger, config, run, slot, customer, retrying, stop, gauge };
        recorder.write_down(finished.clone()).await
    };
    assert!(matches!(written(Retrying::Person).await, Err(LedgerError::Full { .. })), "nobody would do it later");
    let Ok(Outcome::Unrecorded { finished, why, .. }) = written(Retrying::Schedule).await else { panic!("recorded") };
    let mut heard = watch(&mut desk, &delivery).await;
    desk.ended(Ok((id, Ok(Progress::Unrecorded { finished, why })))).unwrap();
    assert_eq!((desk.unable(), desk.has(delivery.id)), (Some("the disk of the ledger is full"), true));
    // In vain once more, and without a place.
    desk.write_down();
    assert!(desk.is_at_work(delivery.id));
    until(&mut desk, "it is kept again", |desk| desk.work.is_empty() && desk.unrecorded.has(delivery.id)).await;
    desk.ledger.limit_bytes(1 << 30).await.unwrap();
    until(&mut desk, "it is on record", |desk| desk.tally.delivered == 1 && desk.calls.is_empty()).await;
    let Some(Event::Ended(fared)) = heard.recv().await else { panic!("it is not told") };
    assert_eq!((fared.state, desk.unable()), (Fate::Committed, None));
    assert_eq!((world.silence.asked_for("old"), runs(&desk, "a", RunState::Succeeded).await), (1, 1));
}

/// The mark was there before the delivery was here to be told.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_was_cancelled_on_its_way_here_ends_when_it_begins() {
    let world = World::new();
    let mut desk = world.desk(world.config("", "old", &["a"])).await;
    let share = ShareName::parse("a").unwrap();
    let interval = Interval { start: start() - TimeDelta::seconds(1), end: start() };
    let slot = Slot { share, at: start(), interval };
    let acme = CustomerName::parse("acme").unwrap();
    let claim = desk.ledger.start_manual(slot, vec![acme]).await.unwrap().claim.unwrap();
    let (run, delivery) = (claim.run, claim.deliveries[0].1);
    let why = Failure::new(Layer::Schedule, Retry::Never, "cancelled by root", "");
    desk.ledger.cancel(run, Vec::new(), why.clone()).await.unwrap();
    desk.look_at_cancelled(delivery);
    until(&mut desk, "the mark is looked at", |desk| desk.calls.is_empty()).await;
    desk.take_in(claim);
    until(&mut desk, "it has ended", |desk| desk.tally.failed == 1 && desk.calls.is_empty()).await;
    assert_eq!(world.silence.asked_for("old"), 0, "it was begun");
    let shown = desk.ledger.reader().run(run).await.unwrap();
    assert_eq!(shown.deliveries[0].failure, Some(why));
}

/// A run by hand whose only attempt has so many uploads.
pub(super) async fn with_uploads(desk: &Desk, uploads: usize) -> (RunId, AttemptId) {
    let config = desk.generation.config.clone();
    let (share, acme) = (ShareName::parse("a").unwrap(), CustomerName::parse("acme").unwrap());
    let interval = Interval { start: start() - TimeDelta::seconds(1), end: start() };
    let slot = Slot { share: share.clone(), at: start(), interval };
    let claim = desk.ledger.start_manual(slot, vec![acme.clone()]).await.unwrap().claim.unwrap();
    let profile = &config.customers[&acme];
    let facts = KeyFacts { share: &share, customer: &acme, slot: start(), interval };
    let key = profile.prefix.key(&config.shares[&share].key, &facts, &LeafName::manifest()).unwrap();
    let destination = Destination {
        endpoint: config.aws.endpoint_url.as_ref().map(ToString::to_string),
        bucket: profile.bucket.clone(),
        owner: profile.bucket_owner.clone(),
        manifest_key: key.to_string(),
    };
    let attempt = desk.ledger.attempt_started(claim.deliveries[0].1, Some(destination)).await.unwrap().id;
    for number in 0..uploads {
        desk.ledger.upload_created(attempt, &key, &format!("upload-{number}")).await.unwrap();
    }
    (claim.run, attempt)
}

pub(super) async fn fails(desk: &Desk, (run, attempt): (RunId, AttemptId)) {
    desk.ledger.failed(attempt, no_answer(), None).await.unwrap();
    desk.ledger.run_finished(run).await.unwrap();
}

/// The abort failed with the delivery, so that the customer pays for what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_an_ended_run_left_are_tried_again() {
    let world = World::new();
    let mut desk = world.desk(world.config("", "old", &["a"])).await;
    let left = with_uploads(&desk, 1).await;
    desk.sweep();
    until(&mut desk, "the ledger is asked", |desk| desk.calls.is_empty()).await;
    assert_eq!(desk.queue.at_work(), 0, "what is at work is left alone");
    fails(&desk, left).await;

    desk.sweep();
    until(&mut desk, "the role is asked for", |_| world.silence.asked_for("old") == 1).await;
    assert_eq!(desk.queue.at_work(), 1);
    desk.sweep();
    until(&mut desk, "the ledger is asked", |desk| desk.calls.is_empty()).await;
    assert_eq!((desk.queue.at_work(), desk.queue.waiting()), (1, 0), "it is at work already");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_counts_what_is_still_in_the_ledger() {
    let world = World::new();
    let desk = world.desk(world.config("", "old", &["a"])).await;
    let slots = (0..7).map(|second| {
        let at = start() - TimeDelta::seconds(second);
        let interval = Interval { start: at - TimeDelta::seconds(1), end: at };
        let slot = Slot { share: ShareName::parse("a").unwrap(), at, interval };
        Planned::new(slot, vec![CustomerName::parse("acme").unwrap()], Origin::Schedule)
    });
    desk.ledger.plan(slots.collect(), Vec::new()).await.unwrap();
    let watch = backlog::watch(desk.ledger.reader().clone(), desk.clock.clone(), desk.behind.clone());
    let counted = async {
        while desk.status().behind == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = watch => {}
        counted = timeout(Duration::from_secs(20), counted) => counted.expect("it is counted"),
    }
    assert!(desk.status().to_string().contains("0 waiting and 7 slots behind"), "{}", desk.status());
}
