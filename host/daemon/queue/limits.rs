//! How many places there are, and how many of them one may have.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::limits::places_of_one;

/// Places at work at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Limits {
    pub all: usize,
    /// Of these, for what is caught up or filled in. The rest is kept for what is on time.
    pub late: usize,
    /// Of one share, of one plugin of the vendor's own, of one customer, of one bucket.
    pub share: usize,
    pub plugin: usize,
    pub customer: usize,
    pub bucket: usize,
}

impl Limits {
    /// Those that the configuration names, and otherwise such that none takes all
    /// places from the others. Who has no others may have them all.
    pub fn of(config: &Config) -> Self {
        let (daemon, all) = (&config.daemon, config.daemon.concurrency);
        let buckets: BTreeSet<_> = config.customers.values().map(|customer| &customer.bucket).collect();
        let plugins: BTreeSet<_> = config.shares.values().map(|share| &share.plugin).collect();
        let (share, plugin) = (most_of(config.shares.len(), all), most_of(plugins.len(), all));
        let (customer, bucket) = (one_of(config.customers.len(), all), one_of(buckets.len(), all));
        Self {
            all,
            late: (all / 2).max(1),
            share: daemon.share_concurrency.unwrap_or(share).min(all),
            plugin: daemon.plugin_concurrency.unwrap_or(plugin).min(all),
            customer: daemon.customer_concurrency.unwrap_or(customer).min(all),
            bucket: daemon.bucket_concurrency.unwrap_or(bucket).min(all),
        }
    }

    /// Of the places of a customer or bucket, for one share or plugin that may have `of_one`
    /// places in all: one that hangs leaves some to the customer's others.
    pub fn within(&self, of_one: usize, places: usize) -> usize {
        if of_one < self.all { most(places) } else { places }
    }
}

/// All places but a quarter, if there are others.
fn most_of(others: usize, all: usize) -> usize {
    if others > 1 { most(all) } else { all }
}

fn most(places: usize) -> usize {
    (places * 3 / 4).max(1)
}

/// Its part of all places, which is a quarter at the least, and two if that leaves one for another.
fn one_of(others: usize, all: usize) -> usize {
    places_of_one(all, others).max(2.min(all.saturating_sub(1))).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_among_others_never_has_all_places_but_the_only_one_does() {
        for all in 1..=1024 {
            assert_eq!(one_of(1, all), all);
            assert_eq!(one_of(0, all), all);
            for others in 2..6 {
                let part = one_of(others, all);
                assert!(part < all || all == 1, "{part} of {all}");
                assert!(part * others.min(4) >= all, "{part} of {all} for {others} leaves places empty");
            }
        }
        assert_eq!((one_of(2, 8), one_of(3, 8), one_of(4, 8), one_of(100, 8)), (4, 3, 2, 2));
        assert_eq!((one_of(9, 1), one_of(9, 2), one_of(9, 3), one_of(9, 4), one_of(9, 64)), (1, 1, 2, 2, 16));
    }
}
