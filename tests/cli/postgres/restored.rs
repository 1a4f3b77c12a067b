//! A ledger in PostgreSQL that is restored from a dump.

use rustix::process::Signal;

use super::super::restored::{config, nothing_is_delivered_twice};
use super::super::world::{self, SOON, until};
use super::Pair;
use crate::support::postgres::Postgres;

fn node_ids(pair: &Pair) -> u64 {
    pair.psql("SELECT max(id) FROM nodes").parse().unwrap()
}

#[test]
fn postgres_restored_from_a_dump_delivers_nothing_twice() {
    let Some(server) = Postgres::shared() else { return };
    let pair = Pair::with_nobody(&server.url(), &config());
    let dump = pair.world.path("dump.sql");
    let backup = || Postgres::dump(&pair.url, &pair.schema, &dump);
    nothing_is_delivered_twice(&pair.world, backup, || {
        let ids = node_ids(&pair);
        Postgres::restore(&pair.url, &pair.schema, &dump);
        assert!(node_ids(&pair) < ids, "they are given once more");
        for command in [&["run"][..], &["send", "tick"], &["pause", "tick"]] {
            pair.world.run(command).ended(4).err_says(&["was restored from a copy", "`consign ledger restored`"]);
        }
        pair.world.run(&["ledger", "restore", "dump.sql"]).ended(2).err_says(&["pg_restore", "ledger restored"]);
        let told = pair.world.run(&["ledger", "restored"]);
        assert!(node_ids(&pair) > ids, "no process that is left from before has the number of another one");
        told
    });
}

/// Nobody has stopped it: what it has at work is not its own any more, and it writes nothing into what was restored.
#[test]
fn postgres_a_daemon_that_lives_through_a_restoration_ends() {
    let Some(server) = Postgres::shared() else { return };
    let pair = Pair::new(&server.url(), "").with_short_lease();
    let dump = pair.world.path("dump.sql");
    let (mut daemon, node) = pair.daemon();
    until("it delivers", SOON, || pair.has(&node, "succeeded") > 0);
    pair.world.run(&["ledger", "restored"]).ended(4).err_says(&["is held by", &format!("process {}", daemon.id())]);
    // Its node is in there, and alive.
    Postgres::dump(&pair.url, &pair.schema, &dump);
    // What it has begun in the database is over when its lease is, and is in nobody's way.
    daemon.signal(Signal::STOP);
    until("it stands still", SOON, || world::is_stopped(&daemon));
    Postgres::restore(&pair.url, &pair.schema, &dump);
    daemon.signal(Signal::CONT);
    let runs = pair.psql("SELECT count(*) FROM runs");
    assert_eq!(daemon.wait(SOON).code(), Some(4), "{}", pair.world.log());
    world::says(&pair.world.log(), &["was restored from a copy"]);
    assert_eq!(pair.psql("SELECT count(*) FROM runs"), runs);
    // It was killed otherwise, and the lease that it had in the dump is over soon.
    until("it is told", SOON, || pair.world.run(&["ledger", "restored"]).code == 0);
    let (daemon, node) = pair.daemon();
    until("it goes on", SOON, || pair.has(&node, "succeeded") > 0);
    world::stop(daemon);
    // Neither freezing nor writing a table anew makes another ledger of it.
    for how in ["FREEZE", "FULL"] {
        Postgres::ask(&pair.url, &format!("VACUUM {how} {}.consign_ledger", pair.schema));
    }
    let (daemon, node) = pair.daemon();
    until("it goes on", SOON, || pair.has(&node, "succeeded") > 0);
    world::stop(daemon);
    pair.is_sound();
}
