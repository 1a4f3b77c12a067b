//! The sandbox's own file: its keys, and what they become. Everything wrong is told at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::SandboxError;
use super::actions::misspelt;
use super::config::{Account, Bucket, Key, KeyPair, Role, SandboxConfig, Trust};
use super::policy::{Policy, PolicyError};
use crate::config::{
    Kind, Location, Problem, Problems, Section, Shape, Span, TEXT, Value, check_root, default, optional, read_file,
    required,
};
use crate::domain::{AccountId, BucketName, ExternalId, Failure, Invalid, Region, Secret};

/// A string of JSON, or a table of the same shape.
const POLICY: Kind = Kind::Either(&[TEXT, Kind::Free]);
const POLICY_EXAMPLE: &str = r#"'{ "Statement": [{ "Effect": "Allow", "Action": "s3:PutObject", "Resource": "…" }] }'"#;
const ROLE_EXAMPLE: &str = r#"{ principal = "999999999999", external_id = "c0ns1gn-7f0c2b9e" }"#;
const SECONDS: Kind = Kind::Int(1, 43_200);

static SANDBOX: Shape = Shape {
    noun: "the sandbox",
    doc: "What a sandbox serves.",
    keys: &[
        required("dir", TEXT, r#""sandbox""#, "Where objects are kept."),
        default("listen", TEXT, "127.0.0.1:0", r#""127.0.0.1:5580""#, "A loopback address."),
        required(
            "vendor",
            Kind::Table(&KEYS),
            r#"{ access_key_id = "AKIAVENDOR0000000000", secret_access_key = "vendor-secret" }"#,
            "The vendor's keys.",
        ),
        default("vendor_policy", POLICY, "everything", POLICY_EXAMPLE, "What the vendor itself may do."),
        default("session_seconds_min", SECONDS, "900", "900", "The shortest session."),
        optional("accounts", Kind::List(&Kind::Table(&ACCOUNT)), r#"[{ id = "123456789012" }]"#, "The customers."),
    ],
    synonyms: &[("account", "accounts")],
};

static KEYS: Shape = Shape {
    noun: "keys",
    doc: "A long-lived access key.",
    keys: &[
        required("access_key_id", TEXT, r#""AKIAVENDOR0000000000""#, "Its public half."),
        required("secret_access_key", TEXT, r#""vendor-secret""#, "Its other half."),
    ],
    synonyms: &[],
};

static ACCOUNT: Shape = Shape {
    noun: "accounts",
    doc: "An AWS account.",
    keys: &[
        required("id", TEXT, r#""123456789012""#, "Its number."),
        optional(
            "root",
            Kind::Table(&KEYS),
            r#"{ access_key_id = "AKIAACMEROOT00000000", secret_access_key = "acme-root-secret" }"#,
            "Who may do everything in it.",
        ),
        optional("roles", Kind::List(&Kind::Table(&ROLE)), "[]", "Its roles."),
        optional("buckets", Kind::List(&Kind::Table(&BUCKET)), r#"[{ name = "acme-data" }]"#, "Its buckets."),
        optional("keys", Kind::List(&Kind::Table(&KMS_KEY)), r#"[{ id = "7f0c2b9e" }]"#, "Its KMS keys."),
    ],
    synonyms: &[("role", "roles"), ("bucket", "buckets"), ("key", "keys")],
};

static ROLE: Shape = Shape {
    noun: "roles",
    doc: "A role.",
    keys: &[
        required("name", TEXT, r#""consign-delivery""#, "Without the path."),
        default("path", TEXT, "/", r#""/team/""#, "The path in its ARN."),
        required("trust", Kind::Table(&TRUST), ROLE_EXAMPLE, "Who may assume it."),
        required("policy", POLICY, POLICY_EXAMPLE, "What it may do."),
        default("session_seconds_max", SECONDS, "3600", "3600", "The longest session."),
    ],
    synonyms: &[],
};

static TRUST: Shape = Shape {
    noun: "trust",
    doc: "Who may assume a role.",
    keys: &[
        required("principal", TEXT, r#""arn:aws:iam::999999999999:user/consign""#, "Whom it trusts."),
        optional(
            "external_id",
            Kind::Either(&[TEXT, Kind::List(&TEXT)]),
            r#""c0ns1gn-7f0c2b9e""#,
            "What `sts:ExternalId` must be, or be one of.",
        ),
    ],
    synonyms: &[("external_ids", "external_id")],
};

static BUCKET: Shape = Shape {
    noun: "buckets",
    doc: "A bucket.",
    keys: &[
        required("name", TEXT, r#""acme-data""#, "Its name."),
        default("region", TEXT, "us-east-1", r#""eu-west-1""#, "Where it is."),
        optional("policy", POLICY, POLICY_EXAMPLE, "The bucket policy."),
        default("acl_enabled", Kind::Bool, "false", "true", "Whether ACLs work."),
        optional(
            "kms_key",
            TEXT,
            r#""arn:aws:kms:eu-west-1:123456789012:key/7f0c2b9e""#,
            "The key for what says nothing of its encryption.",
        ),
    ],
    synonyms: &[],
};

static KMS_KEY: Shape = Shape {
    noun: "keys",
    doc: "A KMS key.",
    keys: &[
        required("id", TEXT, r#""7f0c2b9e""#, "The end of its ARN."),
        default("region", TEXT, "us-east-1", r#""eu-west-1""#, "Where it is."),
        optional("alias", TEXT, r#""data""#, "Its other name, without the `alias/`."),
        optional("policy", POLICY, POLICY_EXAMPLE, "The key policy."),
        default("enabled", Kind::Bool, "true", "false", "Whether it can be used."),
    ],
    synonyms: &[],
};

impl SandboxConfig {
    /// Reads a sandbox from a TOML file, with warnings about what was probably not meant.
    ///
    /// # Errors
    /// Everything that is wrong with the file, at once; or that it cannot be read.
    pub fn load(path: &Path) -> Result<(Self, Vec<Problem>), SandboxError> {
        // Asked here because the help about a missing file is another than for the configuration.
        std::fs::File::open(path).map_err(|source| SandboxError::Unreadable { path: path.to_owned(), source })?;
        let (origin, mut problems) = read_file(path).map_err(SandboxError::File)?;
        let root = origin.root();
        check_root(&SANDBOX, root, &mut problems);
        let start = Span::START;
        let section = Section { name: "", name_span: start, table: root, shape: &SANDBOX };
        let config = sandbox(&section, &mut problems);
        let mut found = problems.sorted();
        for problem in config.problems() {
            let (message, help) = problem.split_once("; ").unwrap_or((&problem, ""));
            found.at(Location::file(path), message, help);
        }
        Ok((config, found.warnings().map_err(SandboxError::File)?))
    }
}

/// What of it can be read. The rest has been reported.
fn sandbox(section: &Section<'_>, problems: &mut Problems) -> SandboxConfig {
    let vendor = section.section("vendor", &KEYS).and_then(|section| keys(&section));
    let unread = || KeyPair { access_key_id: "unread".into(), secret_access_key: Secret::new("unread") };
    SandboxConfig {
        dir: section.text("dir").map(PathBuf::from).unwrap_or_default(),
        listen: section.parse("listen", loopback, problems).unwrap_or(([127, 0, 0, 1], 0).into()),
        vendor: vendor.unwrap_or_else(unread),
        vendor_policy: policy(section, "vendor_policy", problems).unwrap_or_else(Policy::allow_all),
        session_seconds_min: section.int("session_seconds_min").unwrap_or(900),
        accounts: tables(section, "accounts", &ACCOUNT).filter_map(|section| account(&section, problems)).collect(),
    }
}

fn keys(section: &Section<'_>) -> Option<KeyPair> {
    let (id, secret) = (section.text("access_key_id"), section.text("secret_access_key"));
    Some(KeyPair { access_key_id: id?.to_owned(), secret_access_key: Secret::new(secret?) })
}

fn account(section: &Section<'_>, problems: &mut Problems) -> Option<Account> {
    let id = section.parse("id", AccountId::parse, problems);
    let roles = tables(section, "roles", &ROLE).filter_map(|section| role(&section, problems)).collect();
    let buckets = tables(section, "buckets", &BUCKET).filter_map(|section| bucket(&section, problems)).collect();
    let kms = tables(section, "keys", &KMS_KEY).filter_map(|section| kms_key(&section, problems)).collect();
    let root = section.section("root", &KEYS).and_then(|section| keys(&section));
    Some(Account { id: id?.to_string(), root, roles, buckets, keys: kms })
}

fn kms_key(section: &Section<'_>, problems: &mut Problems) -> Option<Key> {
    let region = section.parse("region", Region::parse, problems);
    let policy = policy(section, "policy", problems);
    Some(Key {
        id: section.text("id")?.to_owned(),
        region: region.map_or_else(|| "us-east-1".to_owned(), |region| region.to_string()),
        alias: section.text("alias").map(str::to_owned),
        policy,
        enabled: section.bool("enabled").unwrap_or(true),
    })
}

fn role(section: &Section<'_>, problems: &mut Problems) -> Option<Role> {
    let policy = policy(section, "policy", problems);
    let trust = section.section("trust", &TRUST).and_then(|section| trust(&section, problems));
    Some(Role {
        path: section.text("path").unwrap_or("/").to_owned(),
        name: section.text("name")?.to_owned(),
        trust: trust?,
        policy: policy?,
        session_seconds_max: section.int("session_seconds_max").unwrap_or(3600),
    })
}

fn trust(section: &Section<'_>, problems: &mut Problems) -> Option<Trust> {
    let mut external_ids: Vec<String> = section.texts("external_id").into_iter().map(|(id, _)| id.to_owned()).collect();
    external_ids.extend(section.parse("external_id", ExternalId::parse, problems).map(|id| id.to_string()));
    Some(Trust { principal: section.text("principal")?.to_owned(), external_ids })
}

fn bucket(section: &Section<'_>, problems: &mut Problems) -> Option<Bucket> {
    let name = section.parse("name", BucketName::parse, problems);
    let region = section.parse("region", Region::parse, problems);
    let policy = policy(section, "policy", problems);
    Some(Bucket {
        name: name?.to_string(),
        region: region.map_or_else(|| "us-east-1".to_owned(), |region| region.to_string()),
        policy,
        acl_enabled: section.bool("acl_enabled").unwrap_or(false),
        kms_key: section.text("kms_key").map(str::to_owned),
    })
}

fn policy(section: &Section<'_>, key: &str, problems: &mut Problems) -> Option<Policy> {
    let node = section.node(key)?;
    let parsed = match &node.value {
        Value::Text(text) => Policy::parse(text),
        Value::Table(_) => Policy::from_json(node.to_json().ok()?),
        _ => return None,
    };
    let policy = parsed.map_err(|error| wrong_policy(section.span(key), key, &error, problems)).ok()?;
    for action in policy.actions() {
        if let Some(help) = misspelt(action) {
            problems.warn(section.span(key), format!("`{key}` names the unknown action `{action}`"), help);
        }
    }
    Some(policy)
}

fn wrong_policy(span: Span, key: &str, error: &PolicyError, problems: &mut Problems) {
    let example = format!("write for example `{key} = {POLICY_EXAMPLE}`");
    problems.error(span, format!("`{key}`: {}", Failure::chain(error)), example);
}

/// The tables of an array of tables.
fn tables<'a>(
    section: &Section<'a>,
    key: &'static str,
    shape: &'static Shape,
) -> impl Iterator<Item = Section<'a>> + use<'a> {
    let list = match section.node(key).map(|node| &node.value) {
        Some(Value::List(list)) => &**list,
        _ => &[],
    };
    list.iter().filter_map(move |node| Some(Section { name: key, name_span: node.span, table: node.table()?, shape }))
}

fn loopback(text: &str) -> Result<SocketAddr, Invalid> {
    const HELP: &str = "write 127.0.0.1:PORT, with port 0 for a free one";
    let address: SocketAddr = text.parse().map_err(|_| Invalid::new(format!("is not an address; {HELP}")))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(Invalid::new(format!("is not a loopback address; {HELP}")))
    }
}
