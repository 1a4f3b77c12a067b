use std::collections::BTreeMap;

use crate::Error;

/// The facts of the run that a formatter is part of.
///
/// There are none while options are only checked
/// ([`Formatter::check`](crate::Formatter::check)).
#[derive(Debug, Clone, Default)]
pub struct RunFacts {
    source: Source,
}

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    None,
    Host,
    Memory(BTreeMap<String, String>),
}

impl RunFacts {
    /// No facts at all.
    pub fn none() -> Self {
        RunFacts::default()
    }

    /// The facts that the host has.
    #[cfg_attr(not(target_arch = "wasm32"), expect(dead_code, reason = "the host is only there in wasm"))]
    pub(crate) fn of_host() -> Self {
        RunFacts { source: Source::Host }
    }

    /// Facts of a test.
    pub fn of<K: Into<String>, V: Into<String>>(facts: impl IntoIterator<Item = (K, V)>) -> Self {
        let facts = facts.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        RunFacts { source: Source::Memory(facts) }
    }

    /// The fact `key`: `share`, `customer`, `dataset`, `run`, `attempt`,
    /// `slot`, `interval-start`, `interval-end`, `timezone`, `object-stem` or
    /// `max-object-bytes`. `run` and `attempt` differ between attempts: written
    /// into an object, they would make two attempts differ.
    pub fn get(&self, key: &str) -> Option<String> {
        match &self.source {
            Source::None => None,
            Source::Host => host_fact(key),
            Source::Memory(facts) => facts.get(key).cloned(),
        }
    }

    /// The share's name.
    pub fn share(&self) -> Option<String> {
        self.get("share")
    }

    /// The customer's name.
    pub fn customer(&self) -> Option<String> {
        self.get("customer")
    }

    /// The scheduled instant, RFC 3339 in UTC.
    pub fn slot(&self) -> Option<String> {
        self.get("slot")
    }

    /// What to name objects, without extension.
    pub fn object_stem(&self) -> String {
        self.get("object-stem").filter(|stem| !stem.is_empty()).unwrap_or_else(|| "data".into())
    }

    /// Bytes that no object should exceed, none when the share does not split.
    pub fn max_object_bytes(&self) -> Result<Option<u64>, Error> {
        match self.get("max-object-bytes") {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(bytes) if bytes > 0 => Ok(Some(bytes)),
                _ => Err(Error::Other(format!(
                    "the host said `max-object-bytes` is `{text}`, which is not a size in bytes"
                ))),
            },
        }
    }
}

#[cfg(target_arch = "wasm32")]
fn host_fact(key: &str) -> Option<String> {
    crate::bindings::consign::format::run::get(key)
}

#[cfg(not(target_arch = "wasm32"))]
fn host_fact(_key: &str) -> Option<String> {
    None
}

/// Lines in the daemon's log, with the run's fields. Lines over 4 KiB are cut;
/// too many lines end the plugin. Outside of a host they go nowhere.
pub mod log {
    macro_rules! levels {
        ($($(#[$doc:meta])* $name:ident, $level:ident;)*) => {$(
            $(#[$doc])*
            pub fn $name(message: impl AsRef<str>) {
                #[cfg(target_arch = "wasm32")]
                {
                    use crate::bindings::consign::format::run;
                    run::log(run::Level::$level, message.as_ref());
                }
                #[cfg(not(target_arch = "wasm32"))]
                let _ = message;
            }
        )*};
    }

    levels! {
        /// The finest detail.
        trace, Trace;
        /// What helps to find a mistake.
        debug, Debug;
        /// What an operator wants to know.
        info, Info;
        /// What an operator should look at.
        warn, Warn;
        /// What went wrong. To end the delivery, return an [`Error`](crate::Error).
        error, Error;
    }
}
