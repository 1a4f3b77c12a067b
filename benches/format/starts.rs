//! What it takes before a plugin's first row: its code and its instance. In wall
//! time, of the fastest of several: what else the machine does makes the others slower.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use consign::domain::PluginName;
use consign::limits::{Isolation, Limits};
use consign::plugin::{Component, PluginHost, SHIPPED, shipped};

use crate::{Data, Sandbox};

/// Plugins that a daemon has, for the target of its start.
const MANY: usize = 50;

/// How many it loads at the same time, on as few cores as there are.
const AT_ONCE: usize = 4;

/// A run of no rows: a store, an instance, `open`, `finish`, and the object with the
/// header.
pub fn run_of_nothing(sandbox: &Sandbox, component: &Component, data: &Data) -> Duration {
    let nothing = data.without_rows();
    fastest((0..200).map(|_| crate::wall(|| sandbox.write(component, &nothing, "{}"))))
}

/// Loading a plugin that was compiled before, by a host that has not loaded it yet.
/// It is asked who it is, as always.
pub fn cached(format: &str, isolation: Isolation, worker: &Path) -> Duration {
    let cache = tempfile::tempdir().expect("a temporary directory");
    load(&host(cache.path(), worker), format, bytes(format), isolation);
    fastest((0..20).map(|_| {
        let host = host(cache.path(), worker);
        crate::wall(|| load(&host, format, bytes(format), isolation))
    }))
}

/// Loading as many plugins as a large vendor has, all of them compiled before: the
/// shipped formats again and again, each time with another digest; so many at a time as a
/// daemon does that starts.
pub fn many(isolation: Isolation, worker: &Path) -> Duration {
    let cache = tempfile::tempdir().expect("a temporary directory");
    let plugins: Vec<(&str, Vec<u8>)> = SHIPPED.into_iter().cycle().take(MANY).enumerate().map(distinct).collect();
    let load_all = || {
        let host = host(cache.path(), worker);
        let started = Instant::now();
        let next = AtomicUsize::new(0);
        let one = || plugins.get(next.fetch_add(1, Ordering::Relaxed));
        let some = || -> Vec<Component> {
            std::iter::from_fn(one).map(|(format, bytes)| load(&host, format, bytes, isolation)).collect()
        };
        let loaded: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(some)).collect();
            threads.into_iter().map(|thread| thread.join().expect("plugins load")).collect()
        });
        // What they end with is not part of the start.
        let elapsed = started.elapsed();
        drop(loaded);
        elapsed
    };
    load_all();
    fastest((0..5).map(|_| load_all()))
}

fn fastest(times: impl Iterator<Item = Duration>) -> Duration {
    times.min().unwrap_or_default()
}

/// The same component with a custom section that nobody reads.
fn distinct((number, format): (usize, &str)) -> (&str, Vec<u8>) {
    let mut component = bytes(format).to_vec();
    component.extend([0, 3, 1, b'n', u8::try_from(number).expect("few plugins")]);
    (format, component)
}

fn host(cache: &Path, worker: &Path) -> PluginHost {
    PluginHost::new(cache).expect("the plugin engine starts").with_worker(worker)
}

fn load(host: &PluginHost, format: &str, bytes: &[u8], isolation: Isolation) -> Component {
    let name = PluginName::parse(format).expect("a plugin's name");
    host.load_in(isolation, &name, bytes, &Limits::default()).expect("a shipped format loads")
}

fn bytes(format: &str) -> &'static [u8] {
    shipped(format).expect("a shipped format")
}
