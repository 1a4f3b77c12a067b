//! Whom to look at next, and when.

use super::super::job::{Delivery, Task};
use super::*;
use crate::domain::{Interval, Layer, Retry, RunId, Slot};

fn at(minutes: i64) -> Instant {
    "2026-03-01T06:00:00Z".parse::<Instant>().unwrap() + chrono::TimeDelta::minutes(minutes)
}

fn name(name: &str) -> CustomerName {
    CustomerName::parse(name).unwrap()
}

fn unready(customer: &str, looks: u32, next: Instant) -> (CustomerName, Unready) {
    let failure = Failure::new(Layer::TrustPolicy, Retry::Never, "refused", "correct the trust policy");
    let (customer, since, looked) = (name(customer), at(0), at(0));
    (customer.clone(), Unready { customer, since, failure, looked, looks, next })
}

/// Looks that do not end begin, until all places are taken.
fn begin(waiting: &mut Waiting, now: Instant) -> Vec<String> {
    let mut begun = Vec::new();
    while waiting.looks.len() < LOOKS_AT_ONCE
        && let Some(Turn { customer, looks, .. }) = waiting.next(now, |customer| customer.as_str() != "gone")
    {
        waiting.takes(&customer, looks);
        waiting.looks.spawn(std::future::pending());
        begun.push(customer.to_string());
    }
    begun
}

fn end(waiting: &mut Waiting) {
    (waiting.looks, waiting.looking) = (JoinSet::new(), BTreeMap::new());
}

/// None of them answers, and each is to be looked at every half hour, which is more than there are places for.
#[tokio::test]
async fn whoever_has_waited_longest_is_looked_at_next() {
    let mut waiting = Waiting::default();
    let names: Vec<String> = (0..40).map(|number| format!("c{number:02}")).collect();
    waiting.unready = names.iter().map(|name| unready(name, 7, at(0))).collect();
    let mut seen = BTreeSet::new();
    for now in (0..).step_by(5).map(at).take(10) {
        let begun = begin(&mut waiting, now);
        assert_eq!(begun.len(), LOOKS_AT_ONCE);
        for customer in &begun {
            waiting.unready.get_mut(&name(customer)).unwrap().next = now + PAUSE_MAX;
        }
        seen.extend(begun);
        end(&mut waiting);
    }
    assert_eq!(seen.len(), 40, "{seen:?}");
}

#[tokio::test]
async fn who_was_never_looked_at_has_a_place() {
    let mut waiting = Waiting::default();
    let old = |customer: &str| unready(customer, 7, at(0));
    waiting.unready = ["a", "b", "c", "d", "gone"].map(old).into();
    waiting.unready.extend([unready("new", 0, at(9)), unready("later", 0, at(11))]);
    waiting.first = [name("gone"), name("unknown")].into();
    assert_eq!(begin(&mut waiting, at(10)), ["a", "b", "c", "new"]);
    end(&mut waiting);
    waiting.unready.remove(&name("new"));
    waiting.at_once = ["a", "b", "c", "d"].map(name).into();
    assert_eq!(begin(&mut waiting, at(10)), ["a", "b", "c", "unknown"], "who is asked for goes first");
    assert_eq!(waiting.at_once, BTreeSet::from([name("d")]));
    end(&mut waiting);
    // Who is exposed gets its turn among those who do not answer.
    waiting.exposed = [name("exposed")].into();
    waiting.at_once.insert(name("exposed"));
    assert_eq!(begin(&mut waiting, at(10)), ["d", "exposed", "a", "b"]);
    end(&mut waiting);
    // One of them is being looked at: the other places are everybody's.
    waiting.first = ["x", "y"].map(name).into();
    waiting.takes(&name("z"), Some(0));
    waiting.looks.spawn(std::future::pending());
    assert_eq!(begin(&mut waiting, at(10)), ["a", "b", "c"]);
}

/// What its customer keeps from being delivered is made up for as long as `catch_up_window` says, and until the share's
/// next slot: of a weekly share for a week.
#[test]
fn what_waits_is_not_given_up_before_the_next_slot() {
    let dir = tempfile::tempdir().unwrap();
    let hours = |hours: i64| at(0) + chrono::TimeDelta::hours(hours);
    for (schedule, window, waits) in [("0 6 * * 0", "24h", 7 * 24), ("0 6 * * *", "24h", 24), ("0 * * * *", "3h", 3)] {
        let path = dir.path().join("consign.toml");
        let text = format!(
            "[customers.acme]\nrole_arn = \"arn:aws:iam::100000000001:role/r\"\nexternal_id = \"an-id\"\n\
             bucket = \"acme-data\"\nregion = \"us-east-1\"\nprefix = \"in/\"\n[datasets.files]\nfiles = \"*.txt\"\n\
             [shares.a]\nschedule = \"{schedule}\"\ncatch_up_window = \"{window}\"\ndataset = \"files\"\n\
             to = {{ customers = [\"acme\"] }}\n"
        );
        std::fs::write(&path, text).unwrap();
        let env = crate::config::Environment::from_pairs::<String, String>([]);
        let config = Config::load(&path, &env).unwrap_or_else(|errors| panic!("{errors}"));
        let (share, customer) = (ShareName::parse("a").unwrap(), name("acme"));
        // 2026-03-01 is a Sunday.
        let slot = Slot { share, at: at(0), interval: Interval { start: hours(-1), end: at(0) } };
        let (id, run) = (DeliveryId(1), RunId::new(at(0)));
        let delivery = Delivery { id, run, slot, customer, origin: Origin::Schedule, late: false, deadline: None };
        let jobs = [(id, Job { delivery, task: Task::Deliver })].into();
        let waiting = Waiting { jobs, unready: [unready("acme", 1, at(0))].into(), ..Waiting::default() };
        let just_before = hours(waits) - chrono::TimeDelta::seconds(1);
        assert!(waiting.in_vain(&config, just_before).is_empty(), "{schedule}");
        let [(_, Some(failure))] = &waiting.in_vain(&config, hours(waits))[..] else { panic!("{schedule}") };
        assert!(failure.message.contains("a later one is due"), "{failure:?}");
    }
}

#[test]
fn pauses_grow_up_to_half_an_hour_and_are_apart() {
    let name = |number: u32| CustomerName::parse(&format!("c{number}")).unwrap();
    for (looks, least, most) in [(0, 30, 60), (1, 60, 120), (4, 480, 960), (5, 900, 1800), (400, 900, 1800)] {
        let pauses: BTreeSet<Duration> = (0..100).map(|number| pause(&name(number), Some(looks))).collect();
        assert!(pauses.len() > 90);
        assert!(pauses.iter().all(|pause| (least..=most).contains(&pause.as_secs())), "{looks}: {pauses:?}");
    }
}
