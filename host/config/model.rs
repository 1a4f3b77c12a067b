//! The validated configuration, as everything else sees it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use url::Url;

use crate::calendar::{Calendar, Jitter};
use crate::clock::Instant;
use crate::domain::{
    AccountId, BucketName, CustomerName, CustomerPrefix, DatasetName, ExternalId, GroupName, KeyTemplate, Mode,
    OciReference, ParamValue, PluginName, Principal, ProfileHash, Region, RoleArn, ShareName, TableName,
};
use crate::limits::{Isolation, Limits};

use super::credentials::{Credentials, Reference};
use super::environment::Environment;
use super::ledger::Database;
use super::origin::Origin;
use super::pins::Pin;
use super::report::Problem;

/// A whole, validated configuration. Every reference in it resolves.
#[derive(Clone, Debug)]
pub struct Config {
    pub daemon: Daemon,
    pub ledger: LedgerSettings,
    pub aws: Aws,
    pub datasets: BTreeMap<DatasetName, Arc<Dataset>>,
    /// Those of `[plugins]` and the shipped ones that shares use.
    pub plugins: BTreeMap<PluginName, Arc<Plugin>>,
    /// By host and port.
    pub registries: BTreeMap<String, Registry>,
    /// None: nobody need have signed.
    pub signatures: Option<Signatures>,
    pub customers: BTreeMap<CustomerName, Arc<Customer>>,
    pub shares: BTreeMap<ShareName, Arc<Share>>,
    /// What was probably not meant; nothing that keeps consign from working.
    pub warnings: Vec<Problem>,
    /// The file of pins, whether or not it is there.
    pub lock_path: PathBuf,
    /// The folder that docker keeps its logins in.
    pub docker_dir: Option<PathBuf>,
    /// Where everything stands in the files.
    pub origin: Origin,
}

/// `[daemon]`
#[derive(Clone, Debug)]
pub struct Daemon {
    /// Holds the ledger. Default `/var/lib/consign`, or `$STATE_DIRECTORY`.
    pub state_dir: PathBuf,
    /// Holds compiled plugins and spill files. Default `/var/cache/consign`, or `$CACHE_DIRECTORY`.
    pub cache_dir: PathBuf,
    /// Another user's cache, out of which pulled plugins are read as well: the configured one of
    /// a command that may not write there.
    pub read_cache_dir: Option<PathBuf>,
    /// Deliveries at work at the same time.
    pub concurrency: usize,
    /// Of these, those of one share, through one plugin that is not shipped, to one
    /// customer and into one bucket. None for what their number allows.
    pub share_concurrency: Option<usize>,
    pub plugin_concurrency: Option<usize>,
    pub customer_concurrency: Option<usize>,
    pub bucket_concurrency: Option<usize>,
    /// Memory that all queries together may use before they spill to disk.
    pub query_memory_bytes: usize,
    /// Plugin instances at work from which on no piece begins before its turn. None for the machine's cores.
    pub piece_concurrency: Option<usize>,
    /// Memory that rows which are read ahead for pieces may use, of all deliveries.
    pub piece_memory_bytes: usize,
    /// How long SIGTERM waits for running deliveries.
    pub drain_timeout: Duration,
    /// Read again by itself when its files have changed.
    pub watch: bool,
    pub preflight: Preflight,
}

/// When customers are looked at before anything is delivered to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preflight {
    /// Before the first delivery to each.
    #[default]
    First,
    /// That, and all of them at each start.
    Start,
    /// Only once a delivery was refused.
    Never,
}

impl Preflight {
    pub const ALL: [Preflight; 3] = [Preflight::First, Preflight::Start, Preflight::Never];
    pub const NAMES: [&str; 3] = ["first", "start", "never"];

    pub(super) fn parse(text: &str) -> Option<Self> {
        let named = Self::NAMES.iter().zip(Self::ALL).find(|(name, _)| **name == text);
        named.map(|(_, preflight)| preflight)
    }
}

/// `[ledger]`
#[derive(Clone, Debug)]
pub struct LedgerSettings {
    /// How long what has ended is remembered.
    pub retention: Duration,
    /// Where it is, unless it is a file in `state_dir`.
    pub database: Option<Database>,
}

/// `[aws]`: the vendor's side.
#[derive(Clone, Debug)]
pub struct Aws {
    /// Region of the vendor's own calls, if it is said here.
    pub region: Option<Region>,
    /// Another S3 and STS than AWS's: the sandbox, or a compatible store.
    pub endpoint_url: Option<Url>,
    /// Only STS elsewhere.
    pub sts_endpoint_url: Option<Url>,
    /// `http://host/bucket/key` instead of `http://bucket.host/key`. Default true with `endpoint_url`.
    pub path_style: bool,
    /// The vendor's own keys; default is the SDK's chain (environment, profile, web identity, container, instance).
    pub credentials: Option<Credentials>,
    /// Profile of the shared AWS config files.
    pub profile: Option<String>,
    /// Whom customers' trust policies name, if it is said here.
    pub principal: Option<Principal>,
    /// Length of an assumed session, 15 min to 12 h.
    pub session_duration: Duration,
    /// One request without an answer is given up after this.
    pub attempt_timeout: Duration,
    /// One operation, its retries included.
    pub operation_timeout: Duration,
    /// Parts of one object on their way at the same time.
    pub part_concurrency: usize,
    /// Smallest part, 5 MiB or more; grows with the object.
    pub part_bytes: u64,
}

impl Default for Aws {
    fn default() -> Self {
        Self {
            region: None,
            endpoint_url: None,
            sts_endpoint_url: None,
            path_style: false,
            credentials: None,
            profile: None,
            principal: None,
            session_duration: Duration::from_secs(3600),
            attempt_timeout: Duration::from_secs(60),
            operation_timeout: Duration::from_secs(300),
            part_concurrency: 4,
            part_bytes: 8 << 20,
        }
    }
}

/// `[customers.NAME]`: a profile.
#[derive(Clone, Debug)]
pub struct Customer {
    pub name: CustomerName,
    pub role_arn: RoleArn,
    /// Absent only with `allow_missing_external_id = true`.
    pub external_id: Option<ExternalId>,
    /// What takes its place once the customer's role accepts it.
    pub next_external_id: Option<ExternalId>,
    /// All profiles of this role, this one too, by name; empty where it is the only one.
    pub sharers: Arc<[Sharer]>,
    /// Whom the role's trust policy is to name: `[aws] principal`, if it is said.
    pub trusts: Option<Principal>,
    pub bucket: BucketName,
    /// Default: the role's account.
    pub bucket_owner: AccountId,
    pub region: Region,
    pub prefix: CustomerPrefix,
    pub groups: Vec<GroupName>,
    pub params: BTreeMap<String, ParamValue>,
    pub encryption: Encryption,
    /// S3 storage class such as `STANDARD_IA`; the bucket's default when absent.
    pub storage_class: Option<String>,
    /// Only `bucket-owner-full-control` makes sense; none by default.
    pub acl: Option<String>,
    /// Object tags, at most 10.
    pub tags: BTreeMap<String, String>,
}

impl Customer {
    /// Another one than before has to be tried before it is delivered by.
    pub fn hash(&self) -> ProfileHash {
        let encryption = match &self.encryption {
            Encryption::Bucket => None,
            Encryption::S3 => Some("s3".to_owned()),
            Encryption::Kms { key: None } => Some("kms".to_owned()),
            Encryption::Kms { key: Some(key) } => Some(format!("kms {key}")),
        };
        let settings = [
            ("role_arn", Some(self.role_arn.to_string())),
            ("external_id", self.external_id.as_ref().map(ToString::to_string)),
            ("bucket", Some(self.bucket.to_string())),
            ("bucket_owner", Some(self.bucket_owner.to_string())),
            ("region", Some(self.region.to_string())),
            ("prefix", Some(self.prefix.to_string())),
            ("encryption", encryption),
            ("storage_class", self.storage_class.clone()),
            ("acl", self.acl.clone()),
        ];
        let tags =
            self.tags.iter().flat_map(|(key, value)| [("tag", Some(key.clone())), ("value", Some(value.clone()))]);
        ProfileHash::of(settings.into_iter().chain(tags))
    }
}

/// One of the profiles that name the same role, which has one trust policy for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharer {
    pub name: CustomerName,
    /// Sessions for it are opened with one, as of now.
    pub has_external_id: bool,
    /// The one until now and the next, as far as there are any.
    pub external_ids: Vec<ExternalId>,
}

/// Server-side encryption asked for in each upload.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Encryption {
    /// The bucket's own default.
    #[default]
    Bucket,
    /// SSE-S3 (`AES256`).
    S3,
    /// SSE-KMS with this key (id, ARN or alias), or the account's default key.
    Kms { key: Option<String> },
}

/// `[datasets.NAME]`
#[derive(Clone, Debug)]
pub enum Dataset {
    Tables(TableDataset),
    Files(FileDataset),
}

/// Rows, from tables and an optional query.
#[derive(Clone, Debug)]
pub struct TableDataset {
    pub name: DatasetName,
    pub tables: BTreeMap<TableName, TableSource>,
    /// SQL over the tables, with `$name`, `$interval_start`, `$interval_end`, `$customer.param`.
    /// Absent: every row of the only table.
    pub query: Option<String>,
    pub tenant: Option<Tenant>,
    /// Every customer may see every row of the result: said so by the vendor.
    pub shared: bool,
}

/// Which rows are whose.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Column of the query's result that names the tenant.
    pub column: String,
    /// The customer's `params` key with its value (or list of values). Default: the column's name.
    pub param: String,
}

/// Where a table's rows are.
#[derive(Clone, Debug)]
pub struct TableSource {
    /// A file, a glob, a directory (ending in `/`), or `s3://bucket/…` of those. Relative
    /// paths are relative to the file that names them, and absolute here.
    pub path: String,
    pub format: FileFormat,
    /// Hive partition columns (`dir/day=2024-01-01/`), in order.
    pub partitions: Vec<String>,
    /// SQL types of columns in CSV and NDJSON files, instead of inferred ones.
    pub columns: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileFormat {
    Parquet,
    Csv {
        header: bool,
        delimiter: u8,
        quote: u8,
    },
    /// One JSON object a line.
    Ndjson,
    ArrowIpc,
    Avro,
}

/// An asset: whole files, passed through unread.
#[derive(Clone, Debug)]
pub struct FileDataset {
    pub name: DatasetName,
    /// A glob, absolute here; or `s3://bucket/…`. May hold `{customer}` and `{param.NAME}`.
    pub files: String,
}

/// `[plugins.NAME]`, or a shipped one.
#[derive(Clone, Debug)]
pub struct Plugin {
    pub name: PluginName,
    pub source: PluginSource,
    pub isolation: Isolation,
    pub limits: Limits,
    /// Deliveries in a row that end by its own fault, until nothing more of it is started; 0 for never.
    pub quarantine_after: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// In the binary, as [`SHIPPED`](super::SHIPPED) names them.
    Shipped,
    /// A component's file, and the sha256 (64 hex digits) it must have.
    File { path: PathBuf, sha256: Option<String> },
    /// In a registry, and what `consign.lock` pins the plugin to. (The pin may be
    /// of an earlier reference.)
    Oci { reference: OciReference, pin: Option<Pin> },
}

/// `[registries.HOST]`
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// If it is said here.
    pub login: Option<RegistryLogin>,
    /// Plain HTTP, if it is said.
    pub insecure: Option<bool>,
}

/// Who to log in as.
#[derive(Clone)]
pub struct RegistryLogin {
    pub username: String,
    pub(super) password: Reference,
    pub(super) environment: Environment,
}

/// `[signatures]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatures {
    /// Files of public keys.
    pub keys: Vec<PathBuf>,
    pub is_required: bool,
}

/// `[shares.NAME]`
#[derive(Clone, Debug)]
pub struct Share {
    pub name: ShareName,
    /// As written.
    pub schedule: String,
    pub timezone: Tz,
    /// The two, understood, from the share's start to its end.
    pub calendar: Calendar,
    pub jitter: Jitter,
    pub catch_up: CatchUp,
    pub overlap: Overlap,
    /// After a slot's instant its deliveries have this long.
    pub deadline: Option<Duration>,
    pub dataset: DatasetName,
    /// None for assets.
    pub plugin: Option<PluginName>,
    /// The plugin's options: JSON text, always an object.
    pub options: String,
    /// In place of all the plugin's, with those that the share does not say. None for the plugin's.
    pub limits: Option<Box<Limits>>,
    pub compression: Compression,
    /// Split objects at this size, before compression.
    pub max_object_bytes: Option<u64>,
    /// Format pieces of so many rows side by side, each into objects of its own.
    pub piece_rows: Option<NonZeroU64>,
    pub empty: Empty,
    pub mode: Mode,
    pub key: KeyTemplate,
    /// `_SUCCESS` comes after the manifest.
    pub success_marker: bool,
    /// Where `latest.json` is that leads to the newest slot, if the share has one.
    pub latest_pointer: Option<KeyTemplate>,
    pub retry: RetryPolicy,
    /// Who gets it, resolved from names and groups, sorted.
    pub to: Vec<CustomerName>,
}

impl Share {
    /// Whether its slots go to a customer one at a time, whoever asks for them.
    pub fn is_in_order(&self) -> bool {
        self.mode == Mode::Replace || self.latest_pointer.is_some()
    }

    /// Whether a slot is made up for that could not be delivered at its time: for the window, and at least until
    /// the next one is there, which may be in a month.
    pub fn makes_up_for(&self, at: Instant, now: Instant) -> bool {
        now < at + self.catch_up.window || self.calendar.next(at).is_some_and(|next| now < next)
    }

    pub fn goes_to(&self, customer: &CustomerName) -> bool {
        self.to.binary_search(customer).is_ok()
    }
}

/// Which slots are made up for that were missed while consign was down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchUp {
    pub missed: Missed,
    /// What was missed longer ago is skipped.
    pub window: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// The last one, for all.
    Latest,
    All,
    None,
}

impl Default for CatchUp {
    fn default() -> Self {
        Self { missed: Missed::Latest, window: Duration::from_secs(24 * 3600) }
    }
}

/// What becomes of a slot, for a customer to whom an earlier one of the share is
/// still being delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// It is left out.
    #[default]
    Skip,
    /// It waits.
    Queue,
    /// The earlier one is given up for it.
    Cancel,
    /// Both go on.
    Allow,
}

impl Overlap {
    pub const ALL: [Overlap; 4] = [Overlap::Skip, Overlap::Queue, Overlap::Cancel, Overlap::Allow];

    /// What each is called, in the same order.
    pub const NAMES: [&str; 4] = {
        let [a, b, c, d] = Self::ALL;
        [a.as_str(), b.as_str(), c.as_str(), d.as_str()]
    };

    pub const fn as_str(self) -> &'static str {
        match self {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
            Overlap::Cancel => "cancel",
            Overlap::Allow => "allow",
        }
    }
}

/// How often a delivery is tried whose failure may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// In all, from 1.
    pub attempts: u32,
    /// Before the second attempt; doubles with each further one.
    pub backoff: Duration,
    pub max_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 8, backoff: Duration::from_secs(30), max_backoff: Duration::from_secs(3600) }
    }
}

/// Compression of each object by the host, after the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    #[default]
    None,
    /// Level 1–9.
    Gzip { level: u32 },
    /// Level 1–19.
    Zstd { level: i32 },
}

/// What a dataset without rows becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Empty {
    /// What the plugin writes without rows: an empty file, with its header.
    #[default]
    Header,
    /// No object, only the manifest.
    Skip,
    /// A failed delivery.
    Fail,
}
