//! A plugin in quarantine is so for all daemons of a ledger.

use super::super::quarantine::config;
use super::super::world::{SOON, stop, until};
use super::Pair;
use crate::plugin::support::guest;
use crate::support::postgres::Postgres;

#[test]
fn postgres_two_daemons_agree_on_quarantine() {
    let Some(server) = Postgres::shared() else { return };
    let pair = Pair::with(&server.url(), "", &config("overlap = \"queue\""));
    pair.world.write("bad.wasm", guest("hostile"));
    let daemons = [pair.daemon(), pair.daemon()];
    let count = |sql: &str| pair.psql(&format!("SELECT count(*) FROM {sql}")).parse::<usize>().unwrap();
    let halted = || count("faults WHERE quarantined_at IS NOT NULL");
    let failed = || count("deliveries d JOIN runs r ON r.seq = d.run WHERE r.share = 'halting' AND d.state = 'failed'");
    let delivered =
        || count("deliveries d JOIN runs r ON r.seq = d.run WHERE r.share = 'fine' AND d.state = 'committed'");
    let both_go_on = || {
        let before = delivered();
        until("the other share goes on", SOON, || delivered() >= before + 4);
    };
    let said = |what: &str| pair.world.log().matches(what).count();
    until("the plugin is in quarantine", SOON, || halted() == 1);
    until("both say so", SOON, || said("a plugin is in quarantine: nothing more of it is started") >= 2);
    both_go_on();
    assert_eq!(failed(), 3);
    // Let go by who is none of them, it is back after as many failures.
    pair.configure("nobodys");
    pair.world.run(&["plugin", "release", "bad"]).ended(0).out_says(&["plugin bad goes on"]);
    until("it is back", SOON, || halted() == 1);
    until("both say so again", SOON, || said("a plugin is in quarantine: nothing more of it is started") >= 4);
    both_go_on();
    assert_eq!(failed(), 6);
    daemons.into_iter().for_each(|(daemon, _)| stop(daemon));
    pair.is_sound();
}
