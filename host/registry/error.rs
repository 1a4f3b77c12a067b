//! What can go wrong between here and a registry.

use std::time::Duration;

use crate::domain::{ContentDigest, Failure, Layer, OciReference, Retry};

/// Why a plugin could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("no answer from {registry}")]
    Network { registry: String, source: reqwest::Error },
    #[error("{reference} had not come after {} minutes", limit.as_secs() / 60)]
    Slow { reference: OciReference, limit: Duration },
    #[error("{registry} answered {status} when asked for {what}{said}")]
    Status { registry: String, status: reqwest::StatusCode, what: String, said: String },
    /// With what was found out about logins.
    #[error("{registry} does not let {who} into {repository}")]
    Denied { registry: String, repository: String, who: String, remedy: String },
    #[error("{registry} asks for a login in a way that consign does not follow: {why}")]
    Challenge { registry: String, why: String },
    #[error("cannot log in to {registry}: {why}")]
    Login { registry: String, why: String },
    #[error("{reference} is not there")]
    Missing { reference: String },
    #[error("{reference} {why}")]
    NotAPlugin { reference: OciReference, why: String },
    #[error("{registry} gave {found} when asked for {expected}")]
    Changed { registry: String, expected: ContentDigest, found: ContentDigest },
    #[error("{registry} gave more than {max} bytes for {what}")]
    TooLarge { registry: String, what: String, max: u64 },
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let (layer, retry, remedy) = match &error {
            RegistryError::Client(_) => (Layer::Local, Retry::Later, ""),
            RegistryError::Network { .. } => (
                Layer::Network,
                Retry::Later,
                "look at the network, a proxy (`HTTPS_PROXY`) and the registry's certificate; a registry without TLS needs \
                 `insecure = true` in its `[registries]` table",
            ),
            RegistryError::Slow { .. } => {
                (Layer::Network, Retry::Later, "try again later, or where the network is faster")
            }
            RegistryError::Status { status, .. } if status.is_server_error() || status.as_u16() == 429 => {
                (Layer::Network, Retry::Later, "try again later")
            }
            RegistryError::Status { .. } => (Layer::Plugin, Retry::Never, "look at the reference and the registry"),
            RegistryError::Denied { remedy, .. } => {
                let text = Failure::chain(&error);
                return Failure::new(Layer::Plugin, Retry::Never, text, remedy.clone());
            }
            RegistryError::Challenge { .. } => (
                Layer::Plugin,
                Retry::Never,
                "give `username` and `password` in the `[registries]` table of the registry",
            ),
            RegistryError::Login { .. } => {
                (Layer::Config, Retry::Never, "correct the `[registries]` table of the registry")
            }
            RegistryError::Missing { .. } => (Layer::Plugin, Retry::Never, "correct `oci`, or push what it names"),
            RegistryError::NotAPlugin { .. } => (
                Layer::Plugin,
                Retry::Never,
                "push a component, as with `oras push REFERENCE fmt.wasm:application/wasm` or `wkg oci push`",
            ),
            RegistryError::Changed { .. } | RegistryError::TooLarge { .. } => (
                Layer::Plugin,
                Retry::Never,
                "do not use it: the registry, or something on the way, changes what it gives",
            ),
        };
        Failure::new(layer, retry, Failure::chain(&error), remedy)
    }
}
