//! An S3 and STS server on loopback, for trying a configuration without an account and for tests.
//!
//! It enforces what a wrong set-up meets at AWS: trust policies with external IDs, role, session
//! and bucket policies, expiry, regions, expected owners, checksums, conditional writes.
//! `docs/sandbox.md` lists what it does and what it leaves out.
//!
//! ```text
//! gate    every request: clock, key, token, region; journal
//! sts     AssumeRole, GetCallerIdentity          access  may this caller do that to this?
//! s3      objects     multipart  uploads         policy, identity
//! store   files and sidecars                     ingest, checksum, keys, lock
//! config  what is served                         file, customers
//! ```

mod access;
mod actions;
mod answer;
mod attributes;
mod checksum;
mod condition;
mod config;
mod customers;
mod file;
mod gate;
mod identity;
mod ingest;
mod journal;
mod keys;
mod listing;
mod multipart;
mod policy;
mod s3;
mod store;
mod sts;
mod xml;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use self::identity::Identities;
use self::journal::Journal;
use self::store::Store;
use crate::clock::Clock;
use crate::config::ConfigErrors;
use crate::lock::{Lock, NotTaken};

pub use self::checksum::{Algorithm, Coverage, Sums};
pub use self::config::{Account, Bucket, Key, KeyPair, Role, SandboxConfig, Trust, VENDOR_ACCOUNT, VENDOR_ARN};
pub use self::journal::Entry;
pub use self::policy::{Policy, PolicyError};
pub use self::store::{Attributes, StoredObject, StoredPart, StoredUpload};

/// How long [`Sandbox::shutdown`] lets requests finish.
const DRAIN: Duration = Duration::from_secs(5);

/// A running server. Dropping it stops it too, without waiting for requests to finish.
pub struct Sandbox {
    shared: Shared,
    address: SocketAddr,
    endpoint: Url,
    stop: CancellationToken,
    kill: CancellationToken,
    tasks: TaskTracker,
}

/// Why a sandbox does not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("the sandbox's configuration is wrong: {}", .0.join("; "))]
    Config(Vec<String>),
    /// Everything that is wrong in a file, laid out over several lines.
    #[error("{0}")]
    File(ConfigErrors),
    #[error("cannot read {}, which says what to serve", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is held by another sandbox ({holder}); stop it, or give this one a directory of its own", dir.display())]
    Held { dir: PathBuf, holder: String },
    #[error("cannot use {} for the sandbox's objects; give a directory you may write to", dir.display())]
    Dir { dir: PathBuf, source: io::Error },
    #[error("cannot listen on {address}; choose another port, or port 0 for a free one")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot set up the S3 service on {address}")]
    Service { address: SocketAddr, source: Box<dyn std::error::Error + Send + Sync> },
}

/// What all parts of one sandbox see.
#[derive(Clone)]
struct Shared(Arc<State>);

struct State {
    config: SandboxConfig,
    clock: Clock,
    identities: Identities,
    store: Store,
    /// Requests may outlive the [`Sandbox`] by a moment, so it is theirs too.
    _lock: Lock,
    journal: Journal,
    requests: AtomicU64,
}

impl Deref for Shared {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl State {
    /// A bucket and the account that owns it.
    fn bucket(&self, name: &str) -> Option<(&Account, &Bucket)> {
        let mut all = self.config.accounts.iter().flat_map(|account| account.buckets.iter().map(move |b| (account, b)));
        all.find(|(_, bucket)| bucket.name == name)
    }
}

impl Sandbox {
    /// Checks the configuration, opens the directory and begins to serve.
    ///
    /// # Errors
    /// Says everything that is wrong with the configuration at once; or which directory or
    /// address cannot be used.
    pub async fn start(config: SandboxConfig, clock: Clock) -> Result<Self, SandboxError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(SandboxError::Config(problems));
        }
        let buckets = config.accounts.iter().flat_map(|account| &account.buckets).map(|bucket| bucket.name.as_str());
        let lock = lock(&config.dir)?;
        let store = Store::open(&config.dir, buckets)
            .map_err(|source| SandboxError::Dir { dir: config.dir.clone(), source })?;
        let listen = |source| SandboxError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let endpoint = Url::parse(&format!("http://{address}"))
            .map_err(|source| SandboxError::Service { address, source: Box::new(source) })?;

        let state = State {
            identities: Identities::new(&config),
            config,
            clock,
            store,
            _lock: lock,
            journal: Journal::default(),
            requests: AtomicU64::new(0),
        };
        let sandbox = Self {
            shared: Shared(Arc::new(state)),
            address,
            endpoint,
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        sandbox.tasks.spawn(accept(
            listener,
            sandbox.shared.clone(),
            sandbox.stop.clone(),
            sandbox.kill.clone(),
            sandbox.tasks.clone(),
        ));
        Ok(sandbox)
    }

    /// Where both S3 (path style) and STS answer.
    pub fn endpoint(&self) -> Url {
        self.endpoint.clone()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The objects of a bucket, by key.
    pub fn list(&self, bucket: &str) -> Vec<StoredObject> {
        self.shared.store.list(bucket)
    }

    /// The multipart uploads of a bucket that are neither completed nor aborted.
    pub fn uploads(&self, bucket: &str) -> Vec<StoredUpload> {
        self.shared.store.uploads(bucket)
    }

    /// The file that holds an object's bytes.
    pub fn file_of(&self, bucket: &str, object: &StoredObject) -> PathBuf {
        self.shared.config.dir.join(bucket).join(&object.path)
    }

    /// The latest requests, oldest first.
    pub fn journal(&self) -> Vec<Entry> {
        self.shared.journal.entries()
    }

    /// Stops taking requests, lets the running ones finish, and cuts off those that take too long.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            self.kill.cancel();
            self.tasks.wait().await;
        }
    }
}

/// What is written on condition is only sure within one process, and each sandbox
/// clears away what it finds half-written.
fn lock(dir: &Path) -> Result<Lock, SandboxError> {
    let unusable = |source| SandboxError::Dir { dir: dir.to_owned(), source };
    let inner = dir.join(".sandbox");
    fs::create_dir_all(&inner).map_err(unusable)?;
    Lock::take(&inner.join("lock"), 0o666).map_err(|why| match why {
        NotTaken::Held(holder) => SandboxError::Held { dir: dir.to_owned(), holder },
        NotTaken::Open(error) | NotTaken::Lock(error) => unusable(error),
    })
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop.cancel();
        self.kill.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    shared: Shared,
    stop: CancellationToken,
    kill: CancellationToken,
    tasks: TaskTracker,
) {
    let service = service(&shared);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve(stream, shared.clone(), service.clone(), stop.clone());
                let kill = kill.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        () = kill.cancelled() => {}
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: give connections time to end.
                tracing::warn!(%error, "sandbox could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Shared, service: S3Service, stop: CancellationToken) {
    let handle = hyper::service::service_fn(move |request| {
        let (shared, service) = (shared.clone(), service.clone());
        async move { Ok::<_, std::convert::Infallible>(gate::handle(&shared, &service, request).await) }
    });
    let io = hyper_util::rt::TokioIo::new(stream);
    let mut connection = std::pin::pin!(hyper::server::conn::http1::Builder::new().serve_connection(io, handle));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "sandbox connection ended early");
    }
}

fn service(shared: &Shared) -> S3Service {
    let mut config = S3Config::default();
    // The gate compares times with the injected clock; s3s only knows the machine's.
    config.presigned_url_max_skew_time_secs = u32::MAX;
    let mut builder = S3ServiceBuilder::new(shared.clone());
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_auth(shared.clone());
    builder.set_access(shared.clone());
    builder.set_route(shared.clone());
    builder.build()
}
