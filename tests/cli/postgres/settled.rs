//! A delivery in doubt is settled by the daemon that has it, or, when that is no more, by anybody.

use rustix::process::Signal;

use super::super::world::{self, MANIFEST, SOON, stop, until};
use super::Pair;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::wire::{Call, Fault, s3_error};

const SLOT: &str = "2026-01-01T00:00:00Z";

/// A pair, of which one has a delivery in doubt that is not tried again.
fn pair(server: &Postgres) -> (Pair, Proxy) {
    let keys = "retry = { attempts = 1, backoff = \"1h\", max_backoff = \"1h\" }";
    let share = format!("schedule = \"@daily\"\nend = 2026-01-04\n{keys}\nto = {{ customers = [\"acme\"] }}\n");
    let customer = world::customer("acme", 1, "us-east-1", "\"AS\"");
    let pair = Pair::with(&server.url(), "", &world::flights(&customer, "daily", &share));
    let proxy = Proxy::start(&pair.world.endpoint());
    pair.world.configure(&proxy.endpoint, "", "");
    let internal = || Fault::Answer(500, vec![], s3_error("InternalError", "We encountered an internal error."));
    proxy.obey(move |seen, _| (seen.call == Call::Complete && seen.key.ends_with(MANIFEST)).then(internal));
    (pair, proxy)
}

impl Pair {
    /// Asked in this state directory.
    fn settles(&self, state: &str, run: &str) -> world::Ran {
        self.configure(state);
        self.world.run(&["settle", run, "--failed"])
    }

    fn until_in_doubt(&self) -> String {
        self.world.run(&["send", "daily", "--at", SLOT, "--detach"]).ended(0);
        let doubtful = "SELECT r.id FROM runs r JOIN deliveries d ON d.run = r.seq
                        WHERE d.state = 'sealed' AND d.due_at IS NOT NULL";
        until("it is in doubt", SOON, || !self.psql(doubtful).is_empty());
        self.psql(doubtful)
    }

    fn is(&self, run: &str) -> String {
        self.psql(&format!("SELECT state FROM runs WHERE id = '{run}'"))
    }
}

#[test]
fn postgres_a_delivery_in_doubt_is_settled_where_it_is() {
    let Some(server) = Postgres::shared() else { return };
    let (pair, proxy) = pair(server);
    let (second, _) = pair.daemon_in("second", &[]);
    let (first, _) = pair.daemon_in("first", &[]);
    for state in ["second", "first"] {
        pair.configure(state);
        until("it can be asked", SOON, || pair.world.run(&["status"]).code == 0);
    }
    let run = pair.until_in_doubt();
    let has = format!("process {} has run {run}", first.id());
    for state in ["second", "nobody"] {
        pair.settles(state, &run).ended(1).err_says(&[&has, "settle it there"]);
        assert_eq!(pair.is(&run), "running");
    }
    proxy.heal();
    pair.settles("first", &run).ended(0).out_says(&["acme           is on record as failed"]);
    until("its run has ended", SOON, || pair.is(&run) == "failed");
    pair.world.run(&["retry", &run]).ended(0).out_says(&["delivered"]);
    stop(first);
    stop(second);
    pair.is_sound();
}

/// Nobody takes over while nobody runs.
#[test]
fn postgres_a_delivery_in_doubt_of_a_dead_daemon_is_settled_without_one() {
    let Some(server) = Postgres::shared() else { return };
    let (pair, _proxy) = pair(server);
    let (mut daemon, node) = pair.daemon_in("first", &[]);
    until("it can be asked", SOON, || pair.world.run(&["status"]).code == 0);
    let run = pair.until_in_doubt();
    daemon.signal(Signal::KILL);
    daemon.wait(SOON);
    // As any other node says when its lease has run out.
    pair.psql(&format!("UPDATE nodes SET state = 'dead', ended_at = clock_timestamp() WHERE id = {node}"));
    pair.settles("nobody", &run).ended(0).out_says(&["acme           is on record as failed"]);
    assert_eq!(pair.is(&run), "failed");
    pair.is_sound();
}
