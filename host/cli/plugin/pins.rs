//! Writes `consign.lock`, of which other commands may be writing other entries.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::super::output::{CliError, Exit};
use crate::config::{Config, Pin, PluginSource, lock_text, read_lock};
use crate::domain::PluginName;
use crate::replace::{folder, replace};

/// Pins these plugins, each with what was pinned until now to go back to, and forgets what is of no
/// registry any more. All else stays as it is there now, which may be minutes after `config` was read.
pub fn pin(config: &Config, pins: impl IntoIterator<Item = (PluginName, Pin)>) -> Result<(), CliError> {
    let path = &config.lock_path;
    let _alone = alone(path)?;
    let before = read_lock(path)?;
    let mut all = before.clone();
    all.retain(|name, _| configured(config, name).is_some());
    for (name, pin) in pins {
        let now = before.get(&name);
        if now.is_some_and(|now| now.is_same(&pin) && now.reference == pin.reference) {
            continue;
        }
        if now != configured(config, &name).flatten() {
            let message = format!("somebody else has pinned plugin {name} in {} meanwhile", path.display());
            return Err(CliError::new(Exit::Failed, message, "look at what it is now, and repeat this"));
        }
        all.insert(name, pin.after(now));
    }
    write(path, &all)
}

/// What a plugin of a registry was pinned to when the configuration was read.
fn configured<'c>(config: &'c Config, name: &PluginName) -> Option<Option<&'c Pin>> {
    match &config.plugins.get(name)?.source {
        PluginSource::Oci { pin, .. } => Some(pin.as_ref()),
        PluginSource::Shipped | PluginSource::File { .. } => None,
    }
}

/// Whole or not at all. A file that says the same is left alone.
fn write(path: &Path, pins: &BTreeMap<PluginName, Pin>) -> Result<(), CliError> {
    let text = lock_text(pins);
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    replace(path, text.as_bytes())
        .map_err(|error| CliError::internal(&format!("cannot write {}", path.display()), &error))
}

/// Nobody else writes until the file is closed. It is the folder's, because the file itself is replaced.
fn alone(path: &Path) -> Result<File, CliError> {
    let folder = folder(path);
    let failed = |error| CliError::internal(&format!("cannot open {}", folder.display()), &error);
    let folder = File::open(folder).map_err(failed)?;
    // Some network file systems have no such locks; there two commands must not end in the same millisecond.
    let _ = flock(&folder, FlockOperation::LockExclusive);
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::domain::{ContentDigest, OciReference};

    fn some(version: &str) -> Pin {
        let reference = OciReference::parse("registry.example.com/fmt:1").unwrap();
        let digest = ContentDigest::of(version.as_bytes());
        Pin { reference, manifest: digest.clone(), component: digest, previous: None }
    }

    fn name(text: &str) -> PluginName {
        PluginName::parse(text).unwrap()
    }

    /// A configuration of the plugins `a` and `b`, as somebody reads it now.
    fn config(dir: &Path) -> Config {
        let path = dir.join("consign.toml");
        let plugin = |name: &str| format!("[plugins.{name}]\noci = \"registry.example.com/fmt:1\"\n");
        std::fs::write(&path, plugin("a") + &plugin("b")).unwrap();
        Config::load(&path, &Environment::default()).unwrap()
    }

    #[test]
    fn two_commands_at_once_lose_no_pin() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (config(dir.path()), config(dir.path()));
        pin(&one, [(name("a"), some("1"))]).unwrap();
        pin(&other, [(name("b"), some("2"))]).unwrap();
        let pins = config(dir.path()).plugins;
        let pinned = |name: &str| match &pins[&PluginName::parse(name).unwrap()].source {
            PluginSource::Oci { pin, .. } => pin.clone(),
            _ => None,
        };
        assert_eq!((pinned("a"), pinned("b")), (Some(some("1")), Some(some("2"))));
        // The same plugin is what they must not both decide; that both say the same is no matter.
        pin(&other, [(name("a"), some("1"))]).unwrap();
        let refused = pin(&other, [(name("a"), some("3"))]).unwrap_err();
        assert!(refused.message.contains("somebody else has pinned plugin a"), "{refused:?}");
        pin(&config(dir.path()), [(name("a"), some("3"))]).unwrap();
        let now = read_lock(&one.lock_path).unwrap();
        assert_eq!(now[&name("a")].previous.as_deref(), Some(&some("1")));
    }

    #[test]
    fn one_writes_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = config(dir.path());
        let held = alone(&first.lock_path).unwrap();
        let (done, is_done) = std::sync::mpsc::channel();
        let second = std::thread::spawn(move || {
            pin(&first, [(name("a"), some("1"))]).unwrap();
            done.send(()).unwrap();
        });
        let waiting = is_done.recv_timeout(std::time::Duration::from_millis(200));
        assert!(waiting.is_err(), "it does not wait");
        drop(held);
        second.join().unwrap();
        assert!(dir.path().join("consign.lock").exists());
    }
}
