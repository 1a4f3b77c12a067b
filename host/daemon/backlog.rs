//! Says which shares get more slots than they deliver, before somebody wonders.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clock::{Clock, exact};
use crate::domain::{Failure, ShareName};
use crate::ledger::{Backlog, Reader};

const EVERY: Duration = Duration::from_secs(60);

/// A share is told again when so much time has gone by, or twice as many wait.
const AGAIN_AFTER: Duration = Duration::from_secs(6 * 3600);

/// So many slots on time may wait of one share.
const SLOTS_MAX: u64 = 10;

/// Never ends. `behind` is then how many slots of all shares wait.
pub(super) async fn watch(ledger: Reader, clock: Clock, behind: Arc<AtomicU64>) {
    let mut told = Told::default();
    loop {
        match ledger.pending(clock.now()).await {
            Ok(slots) => behind.store(slots, Ordering::Relaxed),
            Err(error) => tracing::debug!(error = Failure::chain(&error), "cannot count the slots that wait"),
        }
        sleep(EVERY).await;
        match ledger.backlogs(SLOTS_MAX, clock.now()).await {
            Ok(backlogs) => told.news(&backlogs, Instant::now()).into_iter().for_each(tell),
            Err(error) => tracing::debug!(error = Failure::chain(&error), "cannot count the slots that wait"),
        }
    }
}

fn tell(backlog: &Backlog) {
    let Backlog { share, slots, oldest } = backlog;
    let oldest = exact(*oldest);
    let remedy = "its deliveries take longer than there is time between two slots: have it fire less often, give it a \
                  `deadline`, or let its `overlap` be \"skip\"; if it waits for places, raise `daemon.share_concurrency`";
    tracing::warn!(%share, slots, oldest, remedy, "more slots of a share wait than are delivered");
}

/// When each share was told, and how many waited then.
#[derive(Default)]
struct Told(HashMap<ShareName, (Instant, u64)>);

impl Told {
    /// Those that are to be told now.
    fn news<'a>(&mut self, backlogs: &'a [Backlog], now: Instant) -> Vec<&'a Backlog> {
        self.0.retain(|share, _| backlogs.iter().any(|backlog| backlog.share == *share));
        let is_news = |backlog: &&Backlog| match self.0.get(&backlog.share) {
            Some((at, slots)) => now - *at >= AGAIN_AFTER || backlog.slots >= 2 * slots,
            None => true,
        };
        let news: Vec<&Backlog> = backlogs.iter().filter(is_news).collect();
        self.0.extend(news.iter().map(|backlog| (backlog.share.clone(), (now, backlog.slots))));
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_when_there_is_news_of_it() {
        let (mut told, start) = (Told::default(), Instant::now());
        let mut tell = |hour: u64, waiting: &[(&str, u64)]| {
            let backlogs: Vec<Backlog> = waiting
                .iter()
                .map(|(share, slots)| {
                    let (share, oldest) = (ShareName::parse(share).unwrap(), crate::clock::Instant::UNIX_EPOCH);
                    Backlog { share, slots: *slots, oldest }
                })
                .collect();
            let now = start + Duration::from_secs(hour * 3600);
            told.news(&backlogs, now).into_iter().map(|backlog| backlog.share.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(tell(0, &[("a", 11)]), ["a"]);
        assert_eq!(tell(1, &[("a", 12), ("b", 11)]), ["b"]);
        assert_eq!(tell(2, &[("a", 22), ("b", 12)]), ["a"], "twice as many");
        assert_eq!(tell(8, &[("a", 23), ("b", 12)]), ["a", "b"], "after six hours");
        assert_eq!(tell(9, &[("b", 12)]), Vec::<String>::new());
        assert_eq!(tell(10, &[("a", 11)]), ["a"], "it was well meanwhile");
    }
}
