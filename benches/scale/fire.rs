//! `consign run` itself, with every share due in the same minute, and with
//! deliveries that do nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, DurationRound as _, TimeDelta, Timelike as _, Utc};
use consign::clock::Clock;
use consign::domain::{Interval, Origin, ShareName, Slot};
use consign::ledger::{Ledger, Planned};

use super::config::{self, Daemon};
use super::{Target, customer_name, row, runtime};

/// What the daemon has to read the configuration and to be ready.
const START: TimeDelta = TimeDelta::seconds(20);

/// How long after the minute the last slot may come at all.
const PATIENCE: Duration = Duration::from_secs(180);

/// From the minute to the last of the slots in the ledger, as the ledger itself says.
pub fn minute(dir: &Path, shares: usize) {
    let one = TimeDelta::minutes(1);
    let minute = (Clock::system().now() + START + one).duration_trunc(one).expect("a whole minute");
    let when = format!("schedule = \"{} {} * * *\"\ntimezone = \"UTC\"\n", minute.minute(), minute.hour());
    config::write(dir, shares, &|_| when.clone());
    let mut daemon = Daemon::start(dir);
    let ready = Clock::system().now();
    assert!(ready < minute, "it was ready at {ready}, after the minute: start it on a machine with less to do");
    let ledger = open(dir);
    let count = |sql: &str| ledger.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    let deadline = Instant::now() + (minute - ready).to_std().expect("a time to come") + PATIENCE;
    while count("SELECT count(*) FROM slots") < shares as i64 {
        daemon.assert_running();
        assert!(Instant::now() < deadline, "{} of {shares} slots are planned", count("SELECT count(*) FROM slots"));
        std::thread::sleep(Duration::from_millis(100));
    }
    // What is planned twice would come with the next ticks.
    std::thread::sleep(Duration::from_secs(3));
    let at = minute.timestamp_micros();
    let last = count("SELECT max(planned_at) FROM slots");
    let slots = count(&format!("SELECT count(DISTINCT share) FROM slots WHERE at = {at} AND state <> 'skipped'"));
    let begun_twice = count("SELECT count(*) FROM (SELECT slot FROM runs GROUP BY slot HAVING count(*) > 1)");
    assert_eq!((count("SELECT count(*) FROM slots"), slots), (shares as i64, shares as i64), "slots lost or doubled");
    assert_eq!(begun_twice, 0, "slots begun twice");
    drop(daemon);
    let late = (last - at) as f64 / 1e6;
    row(&format!("`consign run`, from the minute to the last of its {shares} slots"), late, "s", Target::Under(2.0));
}

/// Deliveries that fail before they ask anybody, because their share is gone: what the
/// daemon and its ledger can do.
pub fn nothing() {
    const SLOTS: i64 = 20_000;
    for (concurrency, shares) in [(8, 1_000), (64, 1_000), (1_024, 1_000), (64, 1)] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        config::write(dir.path(), 1, &config::never);
        let keys = format!("concurrency = {concurrency}\nshare_concurrency = 1024\ncustomer_concurrency = 1024\n");
        config::add_to_daemon(dir.path(), &keys);
        plan(dir.path(), SLOTS, shares);
        let daemon = Daemon::start(dir.path());
        let ledger = open(dir.path());
        let ended = || {
            let sql = "SELECT count(*), max(finished_at) - min(started_at) FROM runs WHERE state = 'failed'";
            ledger
                .query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)))
                .expect("two numbers")
        };
        let deadline = Instant::now() + PATIENCE;
        while ended().0 < SLOTS {
            assert!(Instant::now() < deadline, "{} of {SLOTS} deliveries have ended", ended().0);
            std::thread::sleep(Duration::from_millis(100));
        }
        let seconds = ended().1.expect("a time") as f64 / 1e6;
        drop(daemon);
        let figure = format!("`consign run`, deliveries of nothing, {concurrency} at once, of {shares} shares");
        row(&figure, SLOTS as f64 / seconds, "/s", Target::None);
    }
}

fn plan(dir: &Path, slots: i64, shares: i64) {
    let state = dir.join("state");
    std::fs::create_dir(&state).expect("a directory");
    let ledger = Ledger::open(&state, Clock::system()).expect("a ledger");
    let first: DateTime<Utc> = Clock::system().now() - TimeDelta::days(1);
    let planned = (0..slots).map(|n| {
        let at = first + TimeDelta::seconds(n / shares);
        let share = ShareName::parse(&format!("gone-{}", n % shares)).expect("a name");
        let slot = Slot { share, at, interval: Interval { start: at - TimeDelta::seconds(1), end: at } };
        Planned::new(slot, vec![customer_name(0)], Origin::Schedule)
    });
    let planned = runtime().block_on(ledger.plan(planned.collect(), Vec::new())).expect("slots are planned");
    assert_eq!(planned.new, slots as usize);
}

fn open(dir: &Path) -> rusqlite::Connection {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    rusqlite::Connection::open_with_flags(dir.join("state/ledger.db"), flags).expect("the daemon's ledger")
}
