//! The configuration: TOML files → described shapes → validated values. Pure but
//! for reading its own files (and credentials they name); no network.
//!
//! [`Config::load`] reports everything that is wrong at once, each with its
//! place. Who understands a text better (a query, a plugin's options) asks
//! [`Config::locate`] for its place and reports in the same way.

mod environment;
mod model;
mod origin;
mod report;
mod source;

mod files;
mod keys;
mod known;
mod schema;
mod section;
mod shape;
mod tree;
mod units;

mod aws;
mod case;
mod credentials;
mod customer;
mod daemon;
mod dataset;
mod ledger;
mod limits;
mod pins;
mod plugin;
mod regions;
mod registry;
mod share;
mod timing;

mod cross;
mod edits;
mod watch;

use std::collections::BTreeMap;
use std::path::Path;

pub use case::{CaseSettings, PluginOptions, limits};
pub use credentials::{Credentials, StaticCredentials};
pub use customer::HalfOpen;
pub use edits::Edits;
pub use environment::Environment;
pub use ledger::{Database, DatabaseUrl, Tls};
pub use model::{
    Aws, CatchUp, Compression, Config, Customer, Daemon, Dataset, Empty, Encryption, FileDataset, FileFormat,
    LedgerSettings, Missed, Overlap, Plugin, PluginSource, Preflight, Registry, RegistryLogin, RetryPolicy, Share,
    Sharer, Signatures, TableDataset, TableSource, Tenant,
};
pub use origin::Origin;
pub use pins::{Pin, lock_text, read as read_lock};
pub use plugin::SHIPPED;
pub(crate) use regions::partition;
pub use report::{ConfigErrors, Problem, SHOWN_MAX, Severity, rendered};
pub(crate) use report::{listed, near, quote};
pub use schema::{reference, schema};
pub use source::Location;
pub(crate) use source::sounds_secret;
pub use watch::{Look, Watched};

// The sandbox's own file is described, read and reported in the same way.
pub(crate) use files::read as read_file;
pub(crate) use report::Problems;
pub(crate) use section::Section;
pub(crate) use shape::{Kind, Shape, TEXT, check_root, default, optional, required};
pub(crate) use source::{SourceFile, Span};
pub(crate) use tree::Value;

use crate::limits::Limits;
use shape::Names;

static ROOT: Shape = Shape {
    noun: "the configuration",
    doc: "The configuration of consign.",
    keys: &[
        optional(
            "include",
            Kind::List(&TEXT),
            r#"["customers.d/*.toml", "shares.d/*.toml"]"#,
            "Further files: paths or globs, relative to this file, read in sorted order. A glob may match nothing. \
             Only the main file includes.",
        ),
        optional("daemon", Kind::Table(&daemon::DAEMON), "{ concurrency = 8 }", "The process itself."),
        optional("ledger", Kind::Table(&ledger::LEDGER), r#"{ retention = "90d" }"#, "What is remembered."),
        optional("aws", Kind::Table(&aws::AWS), r#"{ region = "eu-west-1" }"#, "The vendor's side of S3 and STS."),
        optional(
            "datasets",
            Kind::Map(&dataset::DATASETS),
            r#"{ orders = { tables.orders = "lake/orders/*.parquet" } }"#,
            "What is delivered: `[datasets.NAME]`.",
        ),
        optional(
            "plugins",
            Kind::Map(&plugin::PLUGINS),
            r#"{ nacha = { path = "plugins/nacha.wasm" } }"#,
            "Formatters of your own, and limits: `[plugins.NAME]`. Those that are shipped need no table.",
        ),
        optional(
            "registries",
            Kind::Map(&registry::REGISTRIES),
            r#"{ "registry.example.com" = { username = "robot", password = { env = "REGISTRY_PASSWORD" } } }"#,
            "How OCI registries are talked to: `[registries.\"HOST\"]`. Most need no table.",
        ),
        optional(
            "signatures",
            Kind::Table(&registry::SIGNATURES),
            r#"{ keys = ["/etc/consign/cosign.pub"] }"#,
            "Who must have signed plugins from registries.",
        ),
        optional(
            "customers",
            Kind::Map(&customer::CUSTOMERS),
            r#"{ acme = { bucket = "acme-data" } }"#,
            "Where deliveries go: `[customers.NAME]`.",
        ),
        optional(
            "shares",
            Kind::Map(&share::SHARES),
            r#"{ daily-orders = { schedule = "0 6 * * *" } }"#,
            "What goes to whom, when and how: `[shares.NAME]`.",
        ),
    ],
    synonyms: &[
        ("customer", "customers"),
        ("share", "shares"),
        ("dataset", "datasets"),
        ("plugin", "plugins"),
        ("registry", "registries"),
    ],
};

impl Config {
    /// Reads `path` and what it includes. Err holds all that is wrong, at once.
    pub fn load(path: &Path, env: &Environment) -> Result<Self, ConfigErrors> {
        let (config, found) = Self::survey(path, env)?;
        Ok(Config { warnings: found.warnings()?, ..config })
    }

    /// As [`Config::load`], for who has more to check: all that was found, and
    /// of the datasets, plugins, customers and shares those that are whole.
    /// Err: the files cannot be read as TOML.
    pub fn survey(path: &Path, env: &Environment) -> Result<(Self, ConfigErrors), ConfigErrors> {
        Self::survey_with(path, env, &Edits::default())
    }

    /// The same of what `path` would be with these changes.
    pub fn survey_with(path: &Path, env: &Environment, edits: &Edits) -> Result<(Self, ConfigErrors), ConfigErrors> {
        let (origin, mut problems) = files::read_with(path, edits)?;
        let root = origin.root();
        shape::check_root(&ROOT, root, &mut problems);

        let table = |key: &str| root.get(key).and_then(|entry| entry.node.table());
        let base = |file: usize| origin.directory(file);
        let daemon = table("daemon").map(|t| section("daemon", root, t, &daemon::DAEMON));
        let daemon = daemon::read(daemon, env, base, &mut problems);
        let ledger = table("ledger").map(|t| section("ledger", root, t, &ledger::LEDGER));
        let ledger = ledger::read(ledger, env, &mut problems);
        let aws = aws::read(table("aws").map(|t| section("aws", root, t, &aws::AWS)), env, &mut problems);
        let datasets = dataset::read(table("datasets"), base, &mut problems);
        let lock_path = pins::path(path);
        let pinned = if is_any_of_a_registry(table("plugins")) { pins::read(&lock_path) } else { Ok(BTreeMap::new()) };
        let (pins, unlocked) =
            pinned.map_or_else(|errors| (BTreeMap::new(), errors), |pins| (pins, ConfigErrors::new()));
        let plugins = plugin::read(table("plugins"), base, &pins, &mut problems);
        let registries = registry::read(table("registries"), env, &mut problems);
        let signatures = table("signatures").map(|t| section("signatures", root, t, &registry::SIGNATURES));
        let signatures = registry::signatures(signatures, base, &mut problems);
        let customers =
            customer::read(table("customers"), aws.endpoint_url.is_none(), aws.principal.as_ref(), &mut problems);
        let shares = share::read(root, &mut problems);
        let plugins = plugin::with_shipped(plugins, shares.values().filter_map(|share| share.plugin.as_ref()));

        let mut config = Config {
            daemon,
            ledger,
            aws,
            datasets,
            plugins,
            registries,
            signatures,
            customers,
            shares,
            warnings: Vec::new(),
            lock_path,
            docker_dir: env.docker_dir(),
            origin,
        };
        let mut broken = problems.errors();
        broken.sort_unstable();
        cross::check(&config, &mut problems);
        config.keep_whole(&broken);
        let mut found = problems.sorted();
        unlocked.problems().iter().for_each(|problem| found.push(problem.clone()));
        Ok((config, found))
    }

    /// What a share's plugin may use up in one delivery of it; None without a plugin.
    pub fn limits<'a>(&'a self, share: &'a Share) -> Option<&'a Limits> {
        let plugin = self.plugins.get(share.plugin.as_ref()?)?;
        Some(share.limits.as_deref().unwrap_or(&plugin.limits))
    }

    /// Takes out what has an error in it; their places are sorted.
    fn keep_whole(&mut self, broken: &[Span]) {
        if broken.is_empty() {
            return;
        }
        let origin = self.origin.clone();
        let whole = |table: &str, name: &str| {
            let entry = origin.root().get(table).and_then(|entry| entry.node.table()?.get(name));
            !entry.is_some_and(|entry| entry.holds_any(broken))
        };
        self.datasets.retain(|name, _| whole("datasets", name.as_str()));
        self.plugins.retain(|name, _| whole("plugins", name.as_str()));
        self.customers.retain(|name, _| whole("customers", name.as_str()));
        self.shares.retain(|name, _| whole("shares", name.as_str()));
    }
}

fn is_any_of_a_registry(plugins: Option<&tree::Table>) -> bool {
    plugins
        .into_iter()
        .flat_map(tree::Table::iter)
        .any(|(_, plugin)| plugin.node.table().is_some_and(|plugin| plugin.contains_key("oci")))
}

fn section<'a>(name: &'a str, root: &tree::Table, table: &'a tree::Table, shape: &'static Shape) -> Section<'a> {
    let name_span = root.get(name).map_or(Span::START, |entry| entry.key);
    Section { name, name_span, table, shape }
}

/// `[NAME]` tables by this rule.
const fn names(noun: &'static str, rule: fn(&str) -> Result<(), crate::domain::Invalid>, value: Kind) -> Names {
    Names { noun, rule, pattern: shape::NAME_PATTERN, value }
}
