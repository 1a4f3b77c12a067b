//! What it takes before a plugin's first row: its code and its instance. In wall
//! time, of the fastest of several: what else the machine does makes the others slower.

use std::path::Path;
use std::time::{Duration, Instant};

use consign::domain::PluginName;
use consign::limits::{Isolation, Limits};
use consign::plugin::{Component, PluginHost, SHIPPED, shipped};

use crate::{Data, Sandbox};

/// Plugins that a daemon has, for the target of its start.
const MANY: usize = 50;

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
/// shipped formats again and again, each time with another digest.
pub fn many() -> Duration {
    let cache = tempfile::tempdir().expect("a temporary directory");
    let plugins: Vec<(&str, Vec<u8>)> = SHIPPED.into_iter().cycle().take(MANY).enumerate().map(distinct).collect();
    let load_all = || {
        let host = PluginHost::new(cache.path()).expect("the plugin engine starts");
        let started = Instant::now();
        plugins.iter().for_each(|(format, bytes)| drop(load(&host, format, bytes, Isolation::InProcess)));
        started.elapsed()
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
