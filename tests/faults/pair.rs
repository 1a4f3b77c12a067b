//! Two daemons on one ledger in PostgreSQL, with faults, deaths and takeovers.

use super::seeds::{draw, pair};
use crate::support::postgres::Postgres;

/// Of `make test`.
const FEW: u64 = 6;

#[test]
fn faults_at_random_with_two_daemons() {
    let Some(server) = Postgres::shared() else { return };
    draw("two daemons", FEW, |seed| pair(seed, server));
}
