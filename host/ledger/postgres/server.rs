//! Where the database is, and how it is reached: by writers and readers on
//! threads of their own, by the heart of a node without blocking.

use std::sync::Arc;
use std::time::Duration;

use postgres::config::SslMode;
use postgres::{Client, NoTls, SimpleQueryMessage};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::super::LedgerError;
use crate::config::{Database, DatabaseUrl, Tls};
use crate::domain::Failure;

/// A connection that is not made by then is not made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What was sent and is not acknowledged by then was sent to nobody.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);
/// Whether the other side is still there is asked after this much silence, and then
/// this often: as long as Linux has a SEND_TIMEOUT to go by, until that is over.
const SILENCE: Duration = Duration::from_secs(5);
const PROBES_EVERY: Duration = Duration::from_secs(3);
const PROBES: u32 = 3;

/// The database of a ledger, with all that it takes to connect.
#[derive(Clone)]
pub(in super::super) struct Server {
    config: tokio_postgres::Config,
    tls: Option<MakeRustlsConnect>,
    pub(super) schema: String,
    pub(super) lease: Duration,
    /// For messages: without user and password.
    pub(super) place: String,
}

/// A session of the server.
pub(super) struct Connection {
    pub(super) client: Client,
    /// Of the server, which answered first.
    pub(super) process: String,
}

/// The same, on the runtime of who has it.
pub(super) struct Unblocked {
    pub(super) client: tokio_postgres::Client,
    /// What it ends with is told to whoever asks next.
    _connection: AbortOnDropHandle<Result<(), postgres::Error>>,
}

impl Server {
    pub(in super::super) fn new(database: &Database) -> Result<Self, LedgerError> {
        let unusable = |place: &str, why: String| {
            let remedy = "correct `url` of [ledger]".to_owned();
            LedgerError::Unreachable { place: place.to_owned(), why, remedy }
        };
        let found = database.resolve().map_err(|why| unusable("the database", format!("its `url` {}", why.0)))?;
        let DatabaseUrl { url, tls, place } = found;
        let unusable = |why| unusable(&place, why);
        let config = url.reveal().parse::<tokio_postgres::Config>();
        // Its error would show the URL.
        let mut config = config.map_err(|_| unusable("its `url` is not understood".to_owned()))?;
        config.application_name("consign");
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(SEND_TIMEOUT);
        config.keepalives_idle(SILENCE).keepalives_interval(PROBES_EVERY).keepalives_retries(PROBES);
        let tls = match &tls {
            Tls::Off => {
                config.ssl_mode(SslMode::Disable);
                None
            }
            Tls::Verified { root } => {
                config.ssl_mode(SslMode::Require);
                Some(MakeRustlsConnect::new(verifying(root.as_deref()).map_err(unusable)?))
            }
        };
        Ok(Self { config, tls, schema: database.schema.clone(), lease: database.lease, place })
    }

    /// A connection whose session is set up for the ledger.
    pub(super) fn connect(&self) -> Result<Connection, postgres::Error> {
        let config = postgres::Config::from(self.config.clone());
        let mut client = match &self.tls {
            None => config.connect(NoTls)?,
            Some(tls) => config.connect(tls.clone())?,
        };
        let process = client.simple_query(&self.setup())?.into_iter().filter_map(last_column).next_back();
        Ok(Connection { client, process: process.unwrap_or_default() })
    }

    /// The same for who waits for no answer longer than `patience`. It is closed when it is dropped.
    pub(super) async fn connect_unblocked(&self, patience: Duration) -> Result<Unblocked, postgres::Error> {
        let (client, connection) = match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                (client, tokio::spawn(connection))
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                (client, tokio::spawn(connection))
            }
        };
        let unblocked = Unblocked { client, _connection: AbortOnDropHandle::new(connection) };
        let setup = format!("{}; SET statement_timeout = {}", self.setup(), patience.as_millis());
        unblocked.client.batch_execute(&setup).await?;
        Ok(unblocked)
    }

    /// Whatever the server, the database or the role have for these is not for the
    /// ledger: what it asks is short, or takes as long as it takes. It ends with the
    /// number of the server's process.
    fn setup(&self) -> String {
        let Self { schema, lease, .. } = self;
        // A process that stands still in a transaction must not keep its lease, nor its locks.
        format!(
            "SET search_path TO \"{schema}\"; SET idle_in_transaction_session_timeout = {}; SET lock_timeout = '20s';
             SET statement_timeout = 0; SET idle_session_timeout = 0;
             SET client_min_messages TO warning; SET jit TO off;
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
             SELECT set_config('transaction_timeout', '0', false)
             WHERE current_setting('transaction_timeout', true) IS NOT NULL;
             SELECT pg_backend_pid()",
            lease.as_millis()
        )
    }

    /// Why it cannot be opened, for whoever sets it up.
    pub(super) fn refused(&self, error: &postgres::Error) -> LedgerError {
        let code = error.code().map_or("", |code| code.code());
        let remedy = match code {
            "28000" | "28P01" => "correct user and password in `url` of [ledger], or the server's pg_hba.conf",
            "3D000" => "make it with `createdb`, or correct `url` of [ledger]",
            "42501" => "grant the user CREATE on the database, or USAGE and CREATE on the schema",
            "55P03" => "another consign brings the ledger up to date; start this one again in a moment",
            "53300" => "raise the server's max_connections; each consign has six",
            _ if code.is_empty() && error.to_string().contains("TLS") => {
                "name the host as its certificate does, and whoever signed it with `sslrootcert` in `url`"
            }
            _ if code.is_empty() => "check that the server runs and listens there, and that nothing is in between",
            _ => "see the server's log",
        };
        let why = match error.as_db_error() {
            Some(told) => told.message().to_owned(),
            None => Failure::chain(error),
        };
        LedgerError::Unreachable { place: self.place.clone(), why, remedy: remedy.to_owned() }
    }
}

/// The text that a row ends with.
fn last_column(message: SimpleQueryMessage) -> Option<String> {
    match message {
        SimpleQueryMessage::Row(row) => row.get(row.len().checked_sub(1)?).map(str::to_owned),
        _ => None,
    }
}

/// The server's certificate must be of its host, and signed by who is trusted.
fn verifying(root: Option<&std::path::Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match root {
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
        Some(path) => {
            use rustls::pki_types::{CertificateDer, pem::PemObject};
            let unreadable = |why: String| format!("{}: {why}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|why| unreadable(why.to_string()))? {
                let certificate = certificate.map_err(|why| unreadable(why.to_string()))?;
                roots.add(certificate).map_err(|why| unreadable(why.to_string()))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(|why| why.to_string())?.with_root_certificates(roots).with_no_client_auth())
}
