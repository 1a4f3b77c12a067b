//! What every run works with, built once from the configuration.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use super::components::{self, BadPlugin, Components};
use super::ready::Readiness;
use crate::clock::Clock;
use crate::config::{Config, Daemon, Share};
use crate::dataset::{Datasets, VendorCredentials, VendorKeys, VendorStore};
use crate::delivery::{DeliveryError, Vendor};
use crate::domain::{ContentDigest, Failure, Layer, PluginName, Retry};
use crate::ledger::Formatter;
use crate::limits::Limits;
use crate::plugin::{Component, Crew};
use crate::registry::Fetch;

/// The peers, ready for work. Cheap to share behind an `Arc`.
pub struct Parts {
    pub clock: Clock,
    pub datasets: Datasets,
    pub vendor: Vendor,
    /// For what does not fit in memory: `<cache_dir>/spill`.
    pub spill_dir: PathBuf,
    components: Components,
    pub(super) readiness: Readiness,
    /// For shares whose rows are formatted in pieces.
    pub crew: Crew,
}

impl Parts {
    /// Finds the vendor's identity, makes the query engine, compiles every plugin
    /// or takes it from the cache. No network, but for pinned plugins that are to be
    /// fetched. Blocks while plugins compile.
    pub async fn build(config: &Config, clock: Clock) -> Result<Self, Failure> {
        let (parts, bad) = Self::build_leniently(config, clock, Fetch::Missing, None).await?;
        match bad.into_iter().next() {
            Some(bad) => Err(bad.failure),
            None => Ok(parts),
        }
    }

    /// As [`Parts::build`], but tells every plugin that cannot be used.
    /// What bounds memory is in common with `earlier` parts, whose deliveries may still be at work.
    pub async fn build_leniently(
        config: &Config,
        clock: Clock,
        fetch: Fetch,
        earlier: Option<&Self>,
    ) -> Result<(Self, Vec<BadPlugin>), Failure> {
        let settings = |error: DeliveryError| {
            Failure::new(Layer::Config, Retry::Never, error.to_string(), "correct it in the configuration")
        };
        let vendor = Vendor::new(&config.aws, config.customers.len(), clock.clone()).await.map_err(settings)?;
        let vendor = match earlier {
            Some(earlier) => vendor.beside(&earlier.vendor),
            None => vendor,
        };
        // First of all that is under `cache_dir`, because it is particular about who may write there.
        let (components, bad) = components::load(config, fetch).await?;
        let spill_dir = config.daemon.cache_dir.join("spill");
        let datasets = datasets(config, &vendor, &spill_dir, earlier)?;
        let crew = crew(&config.daemon, earlier);
        let readiness = Readiness::beside(earlier.map(|earlier| &earlier.readiness));
        Ok((Self { clock, datasets, vendor, spill_dir, crew, components, readiness }, bad))
    }

    /// Customers are being looked at before the first delivery to them.
    pub fn is_looking(&self) -> bool {
        self.readiness.is_looking()
    }

    /// The share's plugin and what it may use up.
    pub fn component(&self, config: &Config, share: &Share) -> Result<(Component, Limits), Failure> {
        let found = || {
            let (name, limits) = (share.plugin.clone()?, config.limits(share)?.clone());
            Some((self.components.get(&(name, limits.stack_bytes))?.clone(), limits))
        };
        match found() {
            Some(found) => Ok(found),
            None => {
                let message = format!("share {} has rows but no usable plugin", share.name);
                Err(Failure::new(Layer::Config, Retry::Never, message, "run `consign check`"))
            }
        }
    }

    /// Of a plugin's component, if it could be loaded.
    pub fn digest(&self, plugin: &PluginName) -> Option<ContentDigest> {
        let of_this = (plugin.clone(), 0)..=(plugin.clone(), usize::MAX);
        self.components.range(of_this).next().map(|(_, component)| component.content_digest().clone())
    }

    /// What formats the share's rows; None for files.
    pub fn formatter(&self, config: &Config, share: &Share) -> Option<Formatter> {
        let plugin = config.plugins.get(share.plugin.as_ref()?)?;
        let (name, digest) = (plugin.name.clone(), self.digest(&plugin.name)?);
        Some(Formatter { plugin: name, digest, quarantine_after: plugin.quarantine_after })
    }
}

fn datasets(config: &Config, vendor: &Vendor, spill_dir: &Path, earlier: Option<&Parts>) -> Result<Datasets, Failure> {
    let store = VendorStore {
        endpoint: config.aws.endpoint_url.clone(),
        region: vendor.region().to_owned(),
        path_style: config.aws.path_style,
        credentials: Arc::new(FromVendor(vendor.clone())),
    };
    let earlier = earlier.map(|earlier| &earlier.datasets);
    Ok(Datasets::beside(earlier, config.daemon.query_memory_bytes, spill_dir, store)?)
}

fn crew(daemon: &Daemon, earlier: Option<&Parts>) -> Crew {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let instances = daemon.piece_concurrency.unwrap_or_else(cores);
    Crew::beside(earlier.map(|earlier| &earlier.crew), instances, daemon.piece_memory_bytes)
}

/// Datasets in the vendor's own buckets are read with the vendor's own keys.
struct FromVendor(Vendor);

impl VendorCredentials for FromVendor {
    fn keys(&self) -> Pin<Box<dyn Future<Output = Result<VendorKeys, Failure>> + Send + '_>> {
        let keys = self.0.keys()();
        Box::pin(async move {
            let keys = keys.await?;
            Ok(VendorKeys {
                access_key_id: keys.access_key_id,
                secret: keys.secret_access_key,
                token: keys.session_token,
            })
        })
    }
}
