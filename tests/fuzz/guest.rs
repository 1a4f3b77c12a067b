//! The components that are begun with.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use consign::domain::PluginName;
use consign::limits::Limits;
use consign::plugin::{Component, PluginError, PluginHost};

/// What `tests/fuzz/run` builds before.
pub fn echo() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/wasm32-wasip2/plugin/guest_echo.wasm");
    std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}; run `make fuzz` once", path.display()))
}

/// Little of everything: what takes more has found nothing.
pub fn limits() -> Limits {
    Limits {
        memory_bytes: 32 << 20,
        cpu_time: Duration::from_secs(2),
        wall_time: Duration::from_secs(10),
        ..Limits::default()
    }
}

/// Without a word of it kept: each is loaded from its bytes.
pub fn load(bytes: &[u8]) -> Result<Component, PluginError> {
    static HOST: LazyLock<(tempfile::TempDir, PluginHost)> = LazyLock::new(|| {
        let dir = tempfile::tempdir().expect("a folder for the cache");
        let host = PluginHost::new(dir.path()).expect("an engine");
        (dir, host)
    });
    let loaded = HOST.1.load(&PluginName::parse("fuzzed").expect("a name"), bytes, &limits());
    HOST.1.forget(8);
    loaded
}
