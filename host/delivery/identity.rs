//! What the vendor runs as: keys of the configuration, or whatever the SDK finds.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::{Region, SharedHttpClient};
use tokio::sync::OnceCell;

use crate::config::{self, Aws};

/// How long credentials that STS does not take are left alone before they are read anew.
const READ_ANEW_AFTER: Duration = Duration::from_secs(15);

/// The vendor's own credentials, and who asks STS with them.
pub(super) struct Identity {
    pub(super) credentials: SharedCredentialsProvider,
    /// By region: one client is larger than all else that a session is made of. Each remembers credentials.
    pub(super) sts: HashMap<String, aws_sdk_sts::Client>,
    /// Goes up with each that takes the place of another.
    pub(super) number: u64,
    since: tokio::time::Instant,
}

impl Identity {
    pub(super) fn new(credentials: SharedCredentialsProvider, number: u64) -> Self {
        Self { credentials, sts: HashMap::new(), number, since: tokio::time::Instant::now() }
    }

    /// Others take the place of these, unless they have just been read: the SDK's chain reads a profile file once and
    /// for all, and a client of STS remembers credentials for a quarter of an hour. Both begin anew, as with a reload.
    pub(super) fn read_anew(&mut self, aws: &Aws, region: &str, http: &SharedHttpClient) -> bool {
        if self.since.elapsed() < READ_ANEW_AFTER {
            return false;
        }
        let (aws, region, http) = (aws.clone(), region.to_owned(), http.clone());
        let chain = Chain { aws, region, http, read: OnceCell::new() };
        *self = Self::new(SharedCredentialsProvider::new(chain), self.number + 1);
        tracing::debug!("the vendor's own credentials are read anew");
        true
    }

    #[cfg(test)]
    pub(super) fn grow_old(&mut self) {
        self.since -= READ_ANEW_AFTER;
    }
}

/// The configured keys, else the SDK's chain; and which of AWS's endpoints the environment or the profile asks for.
pub(super) async fn surroundings(aws: &Aws, region: &str, http: &SharedHttpClient) -> SdkConfig {
    let region = Region::new(region.to_owned());
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone()).region(region);
    if let Some(keys) = &aws.credentials {
        loader = loader.credentials_provider(Written(keys.clone()));
    }
    if let Some(profile) = &aws.profile {
        loader = loader.profile_name(profile);
    }
    loader.load().await
}

pub(super) fn credentials(surroundings: &SdkConfig) -> SharedCredentialsProvider {
    surroundings.credentials_provider().unwrap_or_else(|| SharedCredentialsProvider::new(Nobody))
}

/// The configured keys or the SDK's chain, as they are when they are first asked for.
struct Chain {
    aws: Aws,
    http: SharedHttpClient,
    region: String,
    read: OnceCell<SharedCredentialsProvider>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chain(..)")
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let read = async { credentials(&surroundings(&self.aws, &self.region, &self.http).await) };
        future::ProvideCredentials::new(async move { self.read.get_or_init(|| read).await.provide_credentials().await })
    }
}

/// The configured keys, read when they are first asked for: not every command needs them.
#[derive(Debug)]
struct Written(config::Credentials);

impl ProvideCredentials for Written {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let keys = self.0.resolve().map(|keys| {
            let token = keys.session_token.as_ref().map(|token| token.reveal().to_owned());
            let (id, secret) = (keys.access_key_id.reveal(), keys.secret_access_key.reveal());
            Credentials::new(id, secret, token, None::<SystemTime>, "consign.toml")
        });
        let keys = keys.map_err(CredentialsError::invalid_configuration);
        future::ProvideCredentials::ready(keys)
    }
}

/// What the SDK's chain is when even that is missing.
#[derive(Debug)]
struct Nobody;

impl ProvideCredentials for Nobody {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let error = CredentialsError::not_loaded_no_source();
        future::ProvideCredentials::ready(Err(error))
    }
}
