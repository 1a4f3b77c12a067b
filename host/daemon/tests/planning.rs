//! What planning takes for shares that go to very many customers.

use super::*;
use crate::config::Share;

const SHARES: usize = 20;
const CUSTOMERS: usize = 500;
const SLOTS: i64 = 1_000;

/// The most memory that the process has had since this was last asked, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// `cargo test --lib -- --ignored --nocapture daemon::tests::planning`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn planning_for_many_customers() {
    let world = World::new();
    let names: Vec<String> = (0..SHARES).map(|n| format!("share-{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut config = Config::clone(&world.scheduled("* * * * *", "", "old", &names));
    let to: Vec<_> = (0..CUSTOMERS).map(|n| CustomerName::parse(&format!("customer-{n:05}")).unwrap()).collect();
    for share in config.shares.values_mut() {
        *share = Arc::new(Share { to: to.clone(), ..Share::clone(share) });
    }
    let mut desk = world.desk(Arc::new(config)).await;
    let now = start() + TimeDelta::minutes(SLOTS);
    world.clock.set(now);
    desk.tick();
    peak();
    let (before, began, mut plans) = (peak(), std::time::Instant::now(), 0);
    loop {
        desk.plan(now);
        if desk.calls.is_empty() {
            break;
        }
        answered(&mut desk, "a plan is recorded").await;
        plans += 1;
    }
    let (took, more) = (began.elapsed(), peak().saturating_sub(before));
    let bytes = desk.ledger.reader().bytes().await.unwrap() >> 20;
    println!(
        "{SHARES} shares of {CUSTOMERS} customers, {SLOTS} slots each: {plans} plans in {took:?}, \
         {more} MiB more than before at the most; a ledger of {bytes} MiB"
    );
}
