//! When the configuration is read again by itself.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::super::Generation;
use super::super::admin::Order;
use super::super::reload::Reloader;
use super::*;
use crate::domain::{Blame, Refused};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_what_may_pass_is_read_again_and_what_is_wrong_is_not() {
    let world = World::new();
    let config = world.config("watch = true\n", "old", &["a"]);
    let parts = world.parts(&config).await;
    let (_now, current) = watch::channel(Arc::new(Generation { number: 1, config, parts }));
    let (orders, mut ordered) = mpsc::channel(8);
    let path = world.dir.path().join("consign.toml");
    let ledger = Ledger::open(&world.dir.path().join("state"), world.clock.clone()).unwrap();
    let reloader = Arc::new(Reloader::new(path, world.clock.clone(), ledger, orders, current));
    let keeping = tokio::spawn(reloader.keep(signal(SignalKind::hangup()).unwrap()));
    let mut refuse = async |why: Blame| {
        let soon = Duration::from_secs(15);
        loop {
            let order = timeout(soon, ordered.recv()).await.expect("it is not read").unwrap();
            if let Order::Reloaded { done, .. } = order {
                return drop(done.send(Err(Refused::new(why, "refused", ""))));
            }
        }
    };
    world.config("watch = true\nconcurrency = 4\n", "old", &["a"]);
    refuse(Blame::Ledger).await;
    refuse(Blame::Machine).await;
    refuse(Blame::Config).await;
    assert!(timeout(Duration::from_secs(12), ordered.recv()).await.is_err(), "it is wrong, and read again");
    keeping.abort();
}
