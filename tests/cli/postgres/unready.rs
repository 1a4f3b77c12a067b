//! A customer who is not ready is so for all daemons of a ledger, and each lets go what it has.

use super::super::unready::{WRONG, config};
use super::super::world::{SOON, stop, until};
use super::Pair;
use crate::support::postgres::Postgres;

#[test]
fn postgres_two_daemons_agree_on_who_is_not_ready() {
    let Some(server) = Postgres::shared() else { return };
    let mut pair = Pair::with(&server.url(), "", &config("catch_up = \"all\"\noverlap = \"allow\""));
    drop(pair.sandbox.take());
    let wrong = pair.world.sandbox_of(&WRONG);
    let daemons = [pair.daemon(), pair.daemon()];
    let count = |sql: &str| pair.psql(&format!("SELECT count(*) FROM {sql}")).parse::<usize>().unwrap();
    let unready = || count("customers WHERE unready_since IS NOT NULL");
    let of =
        |customer: &str, state: &str| count(&format!("deliveries WHERE customer = '{customer}' AND state = '{state}'"));
    let waits =
        "(SELECT DISTINCT r.node FROM runs r JOIN deliveries d ON d.run = r.seq WHERE d.state = 'waiting') AS n";
    until("both have something that waits", 3 * SOON, || count(waits) == 2);
    assert_eq!((unready(), of("acme", "committed"), of("acme", "failed")), (1, 0, 0));
    let before = of("globex", "committed");
    until("the other customer gets its own", SOON, || of("globex", "committed") >= before + 4);
    drop(wrong);
    let _right = pair.world.sandbox_of(&[]);
    let waited = of("acme", "waiting");
    pair.psql("UPDATE customers SET next_at = 0");
    until("acme is found to be ready", SOON, || unready() == 0);
    until("what waited is delivered", SOON, || of("acme", "committed") >= waited);
    daemons.into_iter().for_each(|(daemon, _)| stop(daemon));
    pair.is_sound();
}
