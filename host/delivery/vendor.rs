//! The vendor's side: its identity, the HTTP client, and the sessions of
//! customers' roles that are open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{IdentityCache, Region, SharedHttpClient};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use super::parts::{PART_BYTES_MAX, PART_BYTES_MIN};
use super::session::{AssumeRole, Session, SessionKey};
use super::{DeliveryError, policy};
use crate::clock::Clock;
use crate::config::{self, Aws, Customer, StaticCredentials};
use crate::domain::{Failure, Layer, Retry, RunId, Secret};

/// Requests for one operation, the first one included.
const ATTEMPTS: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Parts on their way or waiting for a retry, over all deliveries, as a
/// multiple of those of one object. Bounds memory.
const OBJECTS_AT_ONCE: usize = 8;

/// Reads the vendor's current access keys, for those who read `s3://` with them.
pub type VendorKeys = Arc<dyn Fn() -> BoxFuture<'static, Result<StaticCredentials, Failure>> + Send + Sync>;

/// The vendor's identity and everything that deliveries share. Clones are the same vendor.
#[derive(Clone)]
pub struct Vendor(Arc<Shared>);

struct Shared {
    aws: Aws,
    clock: Clock,
    http: SharedHttpClient,
    identity: SharedCredentialsProvider,
    parts: Arc<Semaphore>,
    sessions: Mutex<HashMap<SessionKey, Arc<Session>>>,
}

impl Vendor {
    /// Finds out who the vendor is; asks nobody yet but local files and the environment.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub async fn new(aws: &Aws, clock: Clock) -> Result<Self, DeliveryError> {
        if !(PART_BYTES_MIN..=PART_BYTES_MAX).contains(&aws.part_bytes) {
            return Err(DeliveryError::PartBytes(aws.part_bytes));
        }
        if aws.part_concurrency == 0 {
            return Err(DeliveryError::PartConcurrency);
        }
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let identity = identity(aws, &http).await;
        let parts = Arc::new(Semaphore::new(aws.part_concurrency * OBJECTS_AT_ONCE));
        let shared = Shared { aws: aws.clone(), clock, http, identity, parts, sessions: Mutex::default() };
        Ok(Self(Arc::new(shared)))
    }

    /// A closure that reads the vendor's own keys, fresh at each call.
    pub fn keys(&self) -> VendorKeys {
        let identity = self.0.identity.clone();
        Arc::new(move || {
            let identity = identity.clone();
            Box::pin(async move {
                let keys = identity.provide_credentials().await.map_err(|error| {
                    let remedy = "give consign an AWS identity of its own: [aws] credentials or profile, the AWS_* environment, \
                                  or an instance, container or web identity role";
                    Failure::new(Layer::Identity, Retry::Later, Failure::chain(&error), remedy)
                })?;
                Ok(StaticCredentials {
                    access_key_id: Secret::new(keys.access_key_id()),
                    secret_access_key: Secret::new(keys.secret_access_key()),
                    session_token: keys.session_token().map(Secret::new),
                })
            })
        })
    }

    pub(super) fn aws(&self) -> &Aws {
        &self.0.aws
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Permits for parts in flight, one for each `part_bytes` of a part.
    pub(super) fn parts(&self) -> &Arc<Semaphore> {
        &self.0.parts
    }

    /// The session of this customer's role in this run, opened at its first use.
    ///
    /// The run is part of the key because it is the session's name, which the
    /// customer reads in CloudTrail: one AssumeRole per run and customer, shared
    /// by all attempts, objects and parts.
    pub(super) fn session(&self, customer: &Arc<Customer>, run: RunId) -> Result<Arc<Session>, Failure> {
        let key = SessionKey {
            role: customer.role_arn.clone(),
            external_id: customer.external_id.clone(),
            policy: policy::session(customer)?,
            run,
        };
        let now = self.0.clock.now();
        let mut sessions = self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| Arc::strong_count(session) > 1 || session.is_live(now));
        if let Some(session) = sessions.get(&key) {
            return Ok(session.clone());
        }
        let mut clients = vec![self.sts(customer.region.as_str())];
        if let Some(home) = &self.0.aws.region
            && *home != customer.region
        {
            clients.push(self.sts(home.as_str()));
        }
        let request =
            AssumeRole { key: key.clone(), duration: self.0.aws.session_duration, customer: customer.clone() };
        let session = Arc::new(Session::new(request, clients, self.0.clock.clone()));
        sessions.insert(key, session.clone());
        Ok(session)
    }

    /// STS in that region: tokens of a regional endpoint are good in every region,
    /// those of the global one are not (IAM User Guide, "Manage AWS STS in an AWS Region").
    fn sts(&self, region: &str) -> aws_sdk_sts::Client {
        let aws = &self.0.aws;
        let endpoint = aws.sts_endpoint_url.as_ref().or(aws.endpoint_url.as_ref());
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.0.http.clone())
            .credentials_provider(self.0.identity.clone())
            .region(Region::new(region.to_owned()))
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(self.timeouts(1));
        config.set_endpoint_url(endpoint.map(|url| url.as_str().trim_end_matches('/').to_owned()));
        aws_sdk_sts::Client::from_conf(config.build())
    }

    /// S3 as seen by a session. Retries are budgeted per bucket, so that one
    /// customer's outage does not use up the patience for all.
    pub(super) fn s3(&self, customer: &Customer, session: Arc<Session>) -> aws_sdk_s3::Client {
        let aws = &self.0.aws;
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.0.http.clone())
            .credentials_provider(SharedCredentialsProvider::new(super::session::Provider(session)))
            // The session caches, and knows when to let go.
            .identity_cache(IdentityCache::no_cache())
            .region(Region::new(customer.region.as_str().to_owned()))
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .retry_partition(RetryPartition::new(format!("s3/{}", customer.bucket)))
            .timeout_config(self.timeouts(1))
            .force_path_style(aws.path_style);
        config.set_endpoint_url(aws.endpoint_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned()));
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// Without these the SDK waits for ever on a server that stalls. `weight`
    /// stretches them for parts that are larger than the usual ones.
    pub(super) fn timeouts(&self, weight: u32) -> TimeoutConfig {
        let aws = &self.0.aws;
        TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(aws.attempt_timeout))
            .read_timeout(aws.attempt_timeout.saturating_mul(weight))
            .operation_attempt_timeout(aws.attempt_timeout.saturating_mul(weight))
            .operation_timeout(aws.operation_timeout.saturating_mul(weight))
            .build()
    }

    /// Over TLS the bytes need no signature of their own: they carry a checksum,
    /// and hashing them would cost half of an upload's CPU time.
    pub(super) fn signs_payload(&self) -> bool {
        self.0.aws.endpoint_url.as_ref().is_some_and(|url| url.scheme() != "https")
    }
}

/// The configured keys, else the SDK's chain.
async fn identity(aws: &Aws, http: &SharedHttpClient) -> SharedCredentialsProvider {
    if let Some(keys) = &aws.credentials {
        return SharedCredentialsProvider::new(Written(keys.clone()));
    }
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
    if let Some(profile) = &aws.profile {
        loader = loader.profile_name(profile);
    }
    // Every call names its own region; this one only keeps the chain from asking
    // the instance metadata for one.
    let region = RegionProviderChain::first_try(aws.region.as_ref().map(|r| Region::new(r.as_str().to_owned())))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else("us-east-1");
    let loaded = loader.region(region).load().await;
    loaded.credentials_provider().unwrap_or_else(|| SharedCredentialsProvider::new(Nobody))
}

/// The configured keys, read when they are first asked for: not every command needs them.
#[derive(Debug)]
struct Written(config::Credentials);

impl ProvideCredentials for Written {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let keys = self.0.resolve().map(|keys| {
            let token = keys.session_token.as_ref().map(|token| token.reveal().to_owned());
            let (id, secret) = (keys.access_key_id.reveal(), keys.secret_access_key.reveal());
            Credentials::new(id, secret, token, None::<SystemTime>, "consign.toml")
        });
        let keys = keys.map_err(aws_credential_types::provider::error::CredentialsError::invalid_configuration);
        aws_credential_types::provider::future::ProvideCredentials::ready(keys)
    }
}

/// What the SDK's chain is when even that is missing.
#[derive(Debug)]
struct Nobody;

impl ProvideCredentials for Nobody {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let error = aws_credential_types::provider::error::CredentialsError::not_loaded_no_source();
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(error))
    }
}
