//! Where plugins from registries come from: what is pinned, out of the cache, or
//! out of the registry into the cache, and signed as the configuration asks.

use std::path::PathBuf;

use super::client::Registries;
use super::layout::Artifact;
use super::signature::{Keys, SignatureError};
use super::store::{Store, StoreError};
use crate::config::{Config, Pin, Signatures};
use crate::domain::{Failure, Layer, OciReference, PluginName, Retry};

/// Whether what is pinned and not in the cache is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    Missing,
    Never,
}

/// The cache, the registries behind it, and what is asked of signatures.
pub struct Depot<'a> {
    config: &'a Config,
    store: Store,
}

/// A plugin that was pulled, verified and kept.
pub struct Pulled {
    pub artifact: Artifact,
    pub pin: Pin,
    /// The file of the key that signed it, if signatures are asked for.
    pub signed_by: Option<PathBuf>,
}

impl<'a> Depot<'a> {
    pub fn new(config: &'a Config) -> Self {
        let daemon = &config.daemon;
        Self { config, store: Store::new(&daemon.cache_dir, daemon.read_cache_dir.as_deref()) }
    }

    /// The component that a plugin is pinned to; None if it is not here, and not to be fetched.
    pub async fn component(
        &self,
        plugin: &PluginName,
        reference: &OciReference,
        pin: Option<&Pin>,
        fetch: Fetch,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let pin = self.pin(plugin, reference, pin)?;
        if let Some(kept) = self.kept(plugin, pin)? {
            return Ok(Some(kept.into_bytes()));
        }
        match fetch {
            Fetch::Never => Ok(None),
            Fetch::Missing => {
                tracing::info!(plugin = plugin.as_str(), %reference, digest = %pin.manifest, "fetching a pinned plugin");
                let pulled = self.pull(plugin, reference, Some(pin)).await?;
                Ok(Some(pulled.artifact.into_bytes()))
            }
        }
    }

    /// What a plugin is pinned to, if that is what its reference names.
    pub fn pin<'p>(
        &self,
        plugin: &PluginName,
        reference: &OciReference,
        pin: Option<&'p Pin>,
    ) -> Result<&'p Pin, Failure> {
        let lock = self.config.lock_path.display();
        let wrong = |message: String| {
            let remedy = format!("run `consign plugin pull {plugin}`, and commit what it writes");
            Failure::new(Layer::Config, Retry::Never, message, remedy)
        };
        match pin {
            None => Err(wrong(format!("plugin {plugin} is not in {lock}, so {reference} may be anything"))),
            Some(pin) if pin.reference != *reference => {
                Err(wrong(format!("{lock} pins plugin {plugin} to {}, not to {reference}", pin.reference)))
            }
            Some(pin) if reference.digest().is_some_and(|written| *written != pin.manifest) => Err(wrong(format!(
                "{lock} pins plugin {plugin} to {}, and {reference} is another digest",
                pin.manifest
            ))),
            Some(pin) => Ok(pin),
        }
    }

    /// What is kept of a pin, whole and signed as asked for; None if there is nothing.
    pub fn kept(&self, plugin: &PluginName, pin: &Pin) -> Result<Option<Artifact>, Failure> {
        let damaged = |error: StoreError| {
            let text = format!("plugin {plugin}: {}", Failure::chain(&error));
            Failure::new(Layer::Plugin, Retry::Never, text, error.remedy())
        };
        let Some(kept) = self.store.get(pin).map_err(damaged)? else { return Ok(None) };
        self.signer(plugin, &kept)?;
        Ok(Some(kept))
    }

    /// Whether something is kept for a pin.
    pub fn has(&self, pin: &Pin) -> bool {
        self.store.has(pin)
    }

    /// Whether anything was ever pulled into the cache.
    pub fn has_pulled(&self) -> bool {
        self.store.has_any()
    }

    /// Pulls what a reference names, or what it is pinned to, and keeps it.
    pub async fn pull(
        &self,
        plugin: &PluginName,
        reference: &OciReference,
        pinned: Option<&Pin>,
    ) -> Result<Pulled, Failure> {
        let of = |failure: Failure| Failure { message: format!("plugin {plugin}: {}", failure.message), ..failure };
        let registries = Registries::new(self.config).map_err(Failure::from).map_err(of)?;
        let with_signatures = self.config.signatures.is_some();
        let manifest = pinned.map(|pin| &pin.manifest);
        let artifact =
            registries.pull(reference, manifest, with_signatures).await.map_err(Failure::from).map_err(of)?;
        let (manifest, component) = (artifact.manifest(), artifact.component());
        let pin = Pin { reference: reference.clone(), manifest, component, previous: None };
        if let Some(pinned) = pinned.filter(|pinned| pinned.component != pin.component) {
            let message = format!(
                "plugin {plugin}: the manifest {} names the component {}, but {} is pinned in {}",
                pin.manifest,
                pin.component,
                pinned.component,
                self.config.lock_path.display()
            );
            let remedy = format!("somebody has changed the file; run `consign plugin pull {plugin}` to write it anew");
            return Err(Failure::new(Layer::Config, Retry::Never, message, remedy));
        }
        let signed_by = self.signer(plugin, &artifact)?;
        let kept = |error: StoreError| Failure::new(Layer::Local, Retry::Later, Failure::chain(&error), error.remedy());
        self.store.put(&artifact).map_err(kept)?;
        Ok(Pulled { artifact, pin, signed_by })
    }

    /// The file of the key that signed it; None if none need have.
    pub fn signer(&self, plugin: &PluginName, artifact: &Artifact) -> Result<Option<PathBuf>, Failure> {
        let Some(Signatures { keys, is_required: true }) = &self.config.signatures else { return Ok(None) };
        let signed = Keys::read(keys).and_then(|keys| keys.verify(artifact));
        signed.map(Some).map_err(|error| {
            let (layer, remedy) = match &error {
                SignatureError::Key { .. } | SignatureError::NotAKey { .. } => (Layer::Config, "correct `signatures.keys`"),
                SignatureError::Unsigned | SignatureError::Strange(_) | SignatureError::Other(_) => (
                    Layer::Plugin,
                    "have its digest signed with `cosign sign --key` by somebody whose key is in `signatures.keys`, and \
                     pull it again; or do not use it",
                ),
            };
            let message = match layer {
                Layer::Config => Failure::chain(&error),
                _ => format!("plugin {plugin} ({}) {}", artifact.manifest(), Failure::chain(&error)),
            };
            Failure::new(layer, Retry::Never, message, remedy)
        })
    }
}
