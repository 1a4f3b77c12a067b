//! Why a plugin cannot be used, and what to do about it.

use super::{CacheError, Failed, InspectError};
use crate::domain::{Failure, PluginName};

/// Why a plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    #[error("cannot start the plugin engine")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("plugin {plugin} {why}")]
    Inspect { plugin: PluginName, why: InspectError },
    #[error("plugin {plugin} does not compile")]
    Compile { plugin: PluginName, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("plugin {plugin} does not fit the contract of wit/v1; build it against the published one")]
    Contract { plugin: PluginName, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("plugin {plugin} failed in `{function}`")]
    Call { plugin: PluginName, function: &'static str, source: Box<Failed> },
    #[error("plugin {plugin} describes itself wrongly: {why}")]
    Description { plugin: PluginName, why: String },
}

impl PluginError {
    pub fn remedy(&self) -> String {
        let remedy = match self {
            Self::Engine(_) => {
                "let consign start threads, map memory to execute and reserve address space: TasksMax, MemoryDenyWriteExecute and \
                 LimitAS of the unit"
            }
            Self::Cache(CacheError::Io { .. }) => {
                "let consign read and write there, or set daemon.cache_dir to where it may"
            }
            Self::Cache(CacheError::NotOurs { .. }) => "run consign as the user whose cache it is",
            Self::Inspect { .. } => {
                "name a component that was built for the world of wit/v1, as docs/plugins.md shows; `consign plugin inspect FILE` \
                 tells what a file is"
            }
            Self::Compile { .. } => "build it again: it is damaged, or needs more of WebAssembly than consign has",
            Self::Contract { .. } => "build it again with the `wit/v1` that `consign plugin new` writes into a project",
            Self::Call { source, .. } => return Failure::from((**source).clone()).remedy,
            Self::Description { .. } => {
                "correct what its `describe` says; `consign plugin conformance FILE description` tries it"
            }
        };
        remedy.to_owned()
    }
}
