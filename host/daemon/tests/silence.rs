//! Who does not answer is left alone for a while, and asked again on time.

use tokio::sync::mpsc;

use super::super::admin::Order;
use super::super::breaker::Sign;
use super::super::generation::Generation;
use super::super::job::Progress;
use super::super::notify::Manager;
use super::super::queue::Of;
use super::*;
use crate::config::Aws;
use crate::domain::{Asked, BucketName, Failure, Layer, Retry};

fn silent() -> [Of; 2] {
    let (bucket, acme) = (BucketName::parse("acme-data").unwrap(), CustomerName::parse("acme").unwrap());
    [Of::Bucket(bucket), Of::Customer(acme)]
}

/// Three tries in vain, after which nothing is begun there until the instant that this returns.
fn shut(desk: &mut Desk, of: &Of) -> Instant {
    let now = desk.clock.now();
    (0..3).for_each(|_| desk.hear_of(of, (Sign::Silent, None), now));
    until_when(desk)
}

/// Of the share `a`, at the start.
fn slot_for_acme() -> (Slot, CustomerName) {
    let (share, interval) = (ShareName::parse("a").unwrap(), Interval { start: start(), end: start() });
    (Slot { share, at: start(), interval }, CustomerName::parse("acme").unwrap())
}

fn until_when(desk: &Desk) -> Instant {
    desk.breakers.shut().next().unwrap().1.unwrap()
}

/// So many seconds go by, each with a slot, of which nothing begins.
async fn puts_off(world: &World, desk: &mut Desk, slots: usize) {
    for second in 1..=slots {
        world.second(desk, i64::try_from(second).unwrap());
        until(desk, "it waits", |desk| desk.retries.len() == second && desk.calls.is_empty()).await;
    }
}

fn counts(desk: &Desk) -> (usize, usize, usize) {
    (desk.queue.at_work(), desk.queue.waiting(), desk.retries.len())
}

/// The loop is woken by whatever happens, and not by ticks alone.
#[tokio::test(flavor = "multi_thread")]
async fn one_tries_as_soon_as_the_pause_is_over() {
    for of in silent() {
        let world = World::new();
        let mut desk = world.desk(world.config("", "old", &["a"])).await;
        let again = shut(&mut desk, &of);
        puts_off(&world, &mut desk, 3).await;
        assert_eq!(world.silence.asked_for("old"), 0, "{of}");

        world.clock.set(again - TimeDelta::milliseconds(1));
        desk.go_on();
        assert_eq!(counts(&desk), (0, 0, 3), "{of}");
        world.clock.set(again);
        desk.go_on();
        assert_eq!(counts(&desk), (1, 2, 0), "{of}: one, without a tick");
        // In vain: the others wait for longer, and have used up none of their tries.
        desk.hear_of(&of, (Sign::Silent, None), again);
        assert_eq!(counts(&desk), (1, 0, 2), "{of}");
        let later = until_when(&desk);
        assert!(later - again > again - start(), "{of}: {later}");
        world.clock.set(later);
        desk.go_on();
        assert_eq!(counts(&desk), (2, 1, 0), "{of}: another one, beside the first");
        desk.hear_of(&of, (Sign::Answers, None), later);
        desk.go_on();
        assert_eq!(counts(&desk), (3, 0, 0), "{of}: there is an answer");
        assert_eq!(desk.breakers.shut().count(), 0, "{of}");
    }
}

/// The configuration with the customer and its bucket called otherwise.
fn renamed(world: &World) -> Arc<Config> {
    let path = world.dir.path().join("consign.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("customers.acme]", "customers.beta]").replace("\"acme", "\"beta")).unwrap();
    let env = Environment::from_pairs([("KEY", "AKIAEXAMPLE"), ("SECRET", "secret")]);
    Arc::new(Config::load(&path, &env).unwrap_or_else(|errors| panic!("{errors}")))
}

/// No answer of theirs would come any more, and `status` would tell of them until the next start.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_configured_no_more_is_not_said_to_be_silent() {
    let world = World::new();
    let mut desk = world.desk(world.config("", "old", &["a"])).await;
    world.second(&mut desk, 1);
    until(&mut desk, "one is at work", |desk| desk.at_work.len() == 1).await;
    let [bucket, customer] = silent();
    shut(&mut desk, &bucket);
    shut(&mut desk, &customer);
    // Each is tried by then.
    let again = start() + TimeDelta::minutes(1);
    world.clock.set(again);
    desk.go_on();
    assert_eq!(desk.breakers.shut().count(), 2);
    let (config, parts, planner) = world.loaded(&desk, &renamed(&world)).await;
    desk.adopt(config, parts, planner);
    let told = desk.now();
    assert_eq!((told.shut.len(), told.unasked.len()), (0, 0));
    // Nor when what has begun before comes to its end.
    let place = desk.at_work.values_mut().find_map(|at_work| at_work.place.take()).unwrap();
    let why = Failure::new(Layer::Network, Retry::Later, "no answer", "");
    for asked in [Asked::S3, Asked::Sts] {
        let ended = Progress::Failed(Failure { asked: Some(asked), ..why.clone() });
        (0..3).for_each(|_| desk.look_at_answers(&place, Some(&ended), again));
    }
    assert_eq!(desk.breakers.shut().count(), 0);
    desk.queue.done(place);
}

/// Nobody is asked for what is too late, and it does not wait for the pause to end.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_off_heeds_its_deadline() {
    let world = World::new();
    let share = "[shares.a]\nschedule = \"* * * * * *\"\ndeadline = \"5s\"\ndataset = \"files\"\noverlap = \"allow\"\n\
                 to = { customers = [\"acme\"] }\n";
    let mut desk = world.desk(world.config(share, "old", &[])).await;
    let again = shut(&mut desk, &silent()[0]);
    puts_off(&world, &mut desk, 1).await;
    world.clock.set(start() + TimeDelta::seconds(6));
    assert!(again > desk.clock.now());
    until(&mut desk, "it has failed", |desk| desk.tally.failed == 1 && desk.calls.is_empty()).await;
    assert_eq!(counts(&desk), (0, 0, 0));
    let run = desk.ledger.reader().history(History { limit: 9, ..History::default() }).await.unwrap().remove(0).run;
    let failure = desk.ledger.reader().run(run).await.unwrap().deliveries.remove(0).failure.unwrap();
    assert!(failure.message.contains("the deadline"), "{failure:?}");
    assert_eq!((world.silence.asked_for("old"), desk.breakers.shut().count()), (0, 1));
}

/// What it said before is no reason to leave anybody unasked.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_put_back_has_all_who_wait_tried() {
    for of in silent() {
        let world = World::new();
        let mut desk = world.desk(world.config("", "old", &["a"])).await;
        shut(&mut desk, &of);
        puts_off(&world, &mut desk, 3).await;
        world.second(&mut desk, -30);
        desk.go_on();
        assert_eq!(counts(&desk), (0, 0, 3), "{of}: by so much clocks are put right all the time");
        world.second(&mut desk, -8 * 3600);
        desk.go_on();
        assert_eq!(counts(&desk), (1, 2, 0), "{of}");
    }
}

/// An earlier process went by it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_clock_that_was_ahead_put_off_is_tried_in_time() {
    let world = World::new();
    let mut desk = world.desk(world.scheduled("0 0 1 1 *", "", "old", &["a"])).await;
    let (slot, acme) = slot_for_acme();
    desk.ledger.plan(vec![Planned::new(slot, vec![acme], Origin::Schedule)], Vec::new()).await.unwrap();
    let delivery = desk.ledger.claim(1, 0).await.unwrap().runs.remove(0).deliveries[0].1;
    let failure = Failure::new(Layer::Network, Retry::Later, "no answer", "nothing, if it passes");
    desk.ledger.put_off(vec![delivery], failure, start() + TimeDelta::days(300)).await.unwrap();
    desk.resume().await.unwrap();
    assert_eq!(counts(&desk), (0, 0, 1));
    world.second(&mut desk, 3600);
    desk.go_on();
    assert_eq!(counts(&desk), (1, 0, 0));
}

/// Who has to do something is told what.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_off_says_what_is_wrong_here() {
    let world = World::new();
    let mut desk = world.desk(world.config("", "old", &["a"])).await;
    let gone = Failure::new(Layer::Identity, Retry::Later, "STS knows no such key", "put another key there");
    let [_, acme] = silent();
    (0..3).for_each(|_| desk.hear_of(&acme, (Sign::Silent, Some(&gone)), start()));
    puts_off(&world, &mut desk, 1).await;
    let run = desk.ledger.reader().history(History { limit: 9, ..History::default() }).await.unwrap().remove(0).run;
    let told = desk.ledger.reader().run(run).await.unwrap().deliveries.remove(0).failure.unwrap();
    assert_eq!((told.layer, told.remedy.as_str()), (Layer::Identity, "put another key there"));
    assert!(told.message.starts_with("STS knows no such key; STS for customer 'acme' is not asked"), "{told:?}");
    assert_eq!(desk.now().unasked[0].why.as_deref(), Some("STS knows no such key"));
    // It is known again, and does not answer.
    let silent = Failure::new(Layer::Network, Retry::Later, "no answer", "");
    desk.hear_of(&acme, (Sign::Silent, Some(&silent)), start());
    assert_eq!(desk.now().unasked[0].why, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_by_hand_asks_at_once() {
    for of in silent() {
        let world = World::new();
        let mut desk = world.desk(world.config("", "old", &["a"])).await;
        shut(&mut desk, &of);
        let (slot, acme) = slot_for_acme();
        let claim = desk.ledger.start_manual(slot, vec![acme]).await.unwrap().claim.unwrap();
        let (watch, _heard) = mpsc::unbounded_channel();
        desk.obey(Order::Begin { claim, watch }, &mut Manager::of_process());
        desk.go_on();
        assert_eq!(counts(&desk), (1, 0, 0), "{of}");
    }
}

/// Each of them would ask for as long as the first.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_not_ended_one_by_one_where_sts_does_not_answer() {
    let world = World::new();
    let mut desk = world.desk(world.config("", "old", &["a"])).await;
    // Nobody waits for its answer for long.
    let hasty = Duration::from_millis(200);
    let aws = Aws { attempt_timeout: hasty, operation_timeout: hasty, ..desk.generation.config.aws.clone() };
    let hasty = Arc::new(Config { aws, ..Config::clone(&desk.generation.config) });
    let parts = world.parts(&hasty).await;
    desk.generation = Arc::new(Generation { number: 1, config: hasty, parts });
    let left = ends::with_uploads(&desk, 30).await;
    ends::fails(&desk, left).await;
    desk.sweep();
    until(&mut desk, "it is at work", |desk| desk.queue.at_work() == 1).await;
    until(&mut desk, "it has ended", |desk| desk.queue.at_work() == 0 && desk.calls.is_empty()).await;
    let asked = world.silence.asked_for("old");
    assert!(asked <= 4, "{asked}");
    let left = desk.ledger.ended_with_uploads().await.unwrap();
    assert_eq!(left[0].deliveries[0].uploads.len(), 30);
}
