//! `[ledger]`

use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

use super::credentials::{Reference, reference};
use super::environment::Environment;
use super::model::LedgerSettings;
use super::report::Problems;
use super::section::Section;
use super::shape::{Kind, Shape, default};
use crate::domain::{Invalid, Secret};

const DAY: u64 = 24 * 3_600;
const LEASE: Duration = Duration::from_secs(30);
const EXAMPLE: &str = "write for example \"postgres://consign@db.example.com/consign\"";

pub(crate) static LEDGER: Shape = Shape {
    noun: "ledger",
    doc: "What is remembered.",
    keys: &[
        default(
            "retention",
            Kind::Duration(DAY * 1000, 1000 * 366 * DAY * 1000),
            r#""90d""#,
            r#""400d""#,
            "How long slots and their runs are remembered after they ended. The daemon then forgets them. A slot that is \
             forgotten is not planned again; sent by hand, it is refused by the first of its objects that is there, and \
             nothing is replaced. The last slot of each share is kept, and the newest that a customer has got with \
             `mode = \"replace\"` or `latest_pointer`.",
        ),
        default(
            "url",
            Kind::Either(&[Kind::Text("^postgres(ql)?://"), Kind::Secret]),
            "an SQLite file in `state_dir`",
            r#"{ credential = "ledger-url" }"#,
            "A PostgreSQL database (15 or newer) that several consign share, as `postgres://user@host/database`. With a \
             password it is a reference, as for `secret_access_key`. `sslmode` is `verify-full` (default; `sslrootcert` \
             names a file of certificates to trust instead of the system's) or `disable` (default for this machine).",
        ),
        default(
            "schema",
            Kind::Text("^[a-z_][a-z0-9_]{0,62}$"),
            r#""consign""#,
            r#""consign""#,
            "The schema of its tables in that database. It is made when it is missing.",
        ),
        default(
            "lease",
            Kind::Duration(1_000, 3_600_000),
            r#""30s""#,
            r#""30s""#,
            "For how long a consign that does not give any sign of life keeps its work. After that another one on the \
             same database takes it over.",
        ),
    ],
    synonyms: &[("keep", "retention"), ("retain", "retention"), ("database", "url")],
};

/// A ledger in PostgreSQL.
#[derive(Clone, PartialEq)]
pub struct Database {
    at: At,
    pub schema: String,
    pub lease: Duration,
}

#[derive(Clone, PartialEq)]
enum At {
    Here(Secret),
    Referred { reference: Reference, environment: Environment },
}

/// Where the database is.
#[derive(Clone)]
pub struct DatabaseUrl {
    /// With user and password, and without what is in `tls`.
    pub url: Secret,
    pub tls: Tls,
    /// For messages: without user and password.
    pub place: String,
}

/// How the connection is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    Off,
    /// The certificate is of the host, and signed by one of `root`, or of the system's.
    Verified {
        root: Option<PathBuf>,
    },
}

impl Database {
    /// Of a plain URL.
    pub fn new(url: &str, schema: &str, lease: Duration) -> Self {
        Self { at: At::Here(Secret::new(url)), schema: schema.to_owned(), lease }
    }

    /// The URL as it is now: a file in the credentials directory may change.
    pub fn resolve(&self) -> Result<DatabaseUrl, Invalid> {
        match &self.at {
            At::Here(url) => parse(url.reveal()),
            At::Referred { reference, environment } => parse(reference.value(environment)?.reveal()),
        }
    }

    /// Whether both have the same `url`, as it is written.
    pub fn has_url_of(&self, other: &Self) -> bool {
        self.at == other.at
    }

    /// Where it is referred to, if it is.
    pub(super) fn reference(&self) -> Option<&Reference> {
        match &self.at {
            At::Here(_) => None,
            At::Referred { reference, .. } => Some(reference),
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database(..)")
    }
}

pub(crate) fn read(section: Option<Section<'_>>, env: &Environment, problems: &mut Problems) -> LedgerSettings {
    let retention = section.and_then(|s| s.duration("retention")).unwrap_or(Duration::from_secs(90 * DAY));
    let database = section.and_then(|section| database(&section, env, problems));
    LedgerSettings { retention, database }
}

fn database(section: &Section<'_>, env: &Environment, problems: &mut Problems) -> Option<Database> {
    if !section.has("url") {
        section.refuse(&["schema", "lease"], "is of a ledger in PostgreSQL", "add `url`, or remove it", problems);
        return None;
    }
    let schema = section.parse("schema", schema, problems).unwrap_or_else(|| "consign".to_owned());
    let lease = section.duration("lease").unwrap_or(LEASE);
    let Some(url) = section.text("url") else {
        let (reference, environment) = (reference(section, "url")?, env.clone());
        return Some(Database { at: At::Referred { reference, environment }, schema, lease });
    };
    // What is wrong with it is told without it: it may hold a password.
    let problem = match Url::parse(url) {
        Ok(parsed) if has_password(&parsed) => Some((
            "has a password in plain text".to_owned(),
            "write `url = { credential = \"NAME\" }` or `url = { env = \"NAME\" }`, and the whole URL there".to_owned(),
        )),
        _ => parse(url).err().map(|why| {
            let (why, help) = super::shape::in_two(&why);
            (why.to_owned(), help)
        }),
    };
    if let Some((why, help)) = problem {
        problems.error(section.key_span("url"), format!("`url` {why}"), help);
        return None;
    }
    Some(Database::new(url, &schema, lease))
}

fn has_password(url: &Url) -> bool {
    url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password")
}

fn schema(text: &str) -> Result<String, Invalid> {
    let letters = |c: char| c.is_ascii_lowercase() || c == '_';
    let named = text.starts_with(letters) && text.chars().all(|c| letters(c) || c.is_ascii_digit()) && text.len() <= 63;
    match named && !text.starts_with("pg_") {
        true => Ok(text.to_owned()),
        false => Err(Invalid::new("is no name for a schema; use a-z, 0-9 and _, and not pg_ at the start")),
    }
}

/// None of the errors shows the URL.
fn parse(text: &str) -> Result<DatabaseUrl, Invalid> {
    let url = Url::parse(text).map_err(|error| Invalid::new(format!("is not a URL ({error}); {EXAMPLE}")))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(Invalid::new(format!("is not a URL of PostgreSQL; {EXAMPLE}")));
    }
    let (mut mode, mut root, mut host) = (None, None, url.host_str().map(str::to_owned));
    for (key, value) in url.query_pairs() {
        match &*key {
            "sslmode" => mode = Some(value.into_owned()),
            "sslrootcert" => root = Some(PathBuf::from(value.into_owned())),
            "host" => host = Some(value.into_owned()),
            "port" | "user" | "password" | "dbname" => {}
            _ => {
                let known = "only host, port, user, password, dbname, sslmode and sslrootcert are known";
                return Err(Invalid::new(format!("has the parameter '{key}' in it; {known}")));
            }
        }
    }
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return Err(Invalid::new(format!("has no host; {EXAMPLE}")));
    };
    let tls = match mode.as_deref() {
        Some("disable") => Tls::Off,
        None if root.is_none() && is_here(&host) => Tls::Off,
        None | Some("verify-full") => Tls::Verified { root },
        Some(mode @ ("allow" | "prefer" | "require" | "verify-ca")) => {
            let help = "write verify-full (with sslrootcert for a certificate authority of your own), or disable";
            return Err(Invalid::new(format!("has sslmode={mode}, which does not check who answers; {help}")));
        }
        Some(_) => return Err(Invalid::new("has an sslmode that does not exist; write verify-full or disable")),
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let place = format!("postgres://{host}{port}{}", url.path());
    Ok(DatabaseUrl { url: Secret::new(without_tls(&url)), tls, place })
}

/// This machine: nobody is in between.
fn is_here(host: &str) -> bool {
    let is_loopback = match Host::parse(host) {
        Ok(Host::Ipv4(address)) => address.is_loopback(),
        Ok(Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    };
    host == "localhost" || host.starts_with('/') || is_loopback
}

fn without_tls(url: &Url) -> String {
    let kept = |pair: &&str| !pair.starts_with("sslmode=") && !pair.starts_with("sslrootcert=");
    let query: Vec<&str> = url.query().unwrap_or_default().split('&').filter(kept).collect();
    let mut url = url.clone();
    url.set_query(Some(&query.join("&")).filter(|query| !query.is_empty()).map(String::as_str));
    url.into()
}
