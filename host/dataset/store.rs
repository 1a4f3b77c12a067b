//! The vendor's own S3, reached with credentials that somebody else refreshes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::client::{ClientOptions, CredentialProvider};
use object_store::limit::LimitStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use url::Url;

use super::error::{DatasetError, Kind};
use crate::domain::{BucketName, Failure, Secret};

/// How the vendor's buckets are reached.
#[derive(Clone)]
pub struct VendorStore {
    /// Another S3 than AWS's. The only way to plain `http://`.
    pub endpoint: Option<Url>,
    /// Region of the vendor's buckets.
    pub region: String,
    /// `http://host/bucket/key` instead of `http://bucket.host/key`.
    pub path_style: bool,
    pub credentials: Arc<dyn VendorCredentials>,
}

/// Access keys of the vendor's own identity, as good for the next minutes.
#[derive(Clone)]
pub struct VendorKeys {
    pub access_key_id: Secret,
    pub secret: Secret,
    pub token: Option<Secret>,
}

/// Hands out the vendor's keys, refreshed ahead of their expiry; asked before each request.
pub trait VendorCredentials: Send + Sync {
    fn keys(&self) -> Pin<Box<dyn Future<Output = Result<VendorKeys, Failure>> + Send + '_>>;
}

impl VendorCredentials for VendorKeys {
    fn keys(&self) -> Pin<Box<dyn Future<Output = Result<VendorKeys, Failure>> + Send + '_>> {
        let keys = self.clone();
        Box::pin(async move { Ok(keys) })
    }
}

/// Requests to one bucket at the same time, over all queries.
const REQUESTS_MAX: usize = 32;

/// The store of a bucket, made when it is first named.
pub(super) fn bucket(
    vendor: &VendorStore,
    runtime: &RuntimeEnv,
    bucket: &str,
) -> Result<(ObjectStoreUrl, Arc<dyn ObjectStore>), DatasetError> {
    let bad = |what: String| DatasetError::new(Kind::Config, what, "write s3://bucket/key");
    BucketName::parse(bucket).map_err(|why| bad(format!("the bucket '{bucket}' {why}")))?;
    let url = ObjectStoreUrl::parse(format!("s3://{bucket}")).map_err(|error| bad(error.to_string()))?;
    if let Ok(store) = runtime.object_store(&url) {
        return Ok((url, store));
    }
    let plain_http = vendor.endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme() == "http");
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&vendor.region)
        .with_allow_http(plain_http)
        .with_virtual_hosted_style_request(!vendor.path_style)
        .with_retry(retries())
        .with_client_options(
            // A read may take long; a connection that gives nothing for this long is dead.
            ClientOptions::new()
                .with_allow_http(plain_http)
                .with_connect_timeout(Duration::from_secs(10))
                .with_timeout(Duration::from_secs(120)),
        )
        .with_credentials(Arc::new(Provider(vendor.credentials.clone())));
    if let Some(endpoint) = &vendor.endpoint {
        let mut endpoint = endpoint.clone();
        if !vendor.path_style
            && let Some(host) = endpoint.host_str().map(|host| format!("{bucket}.{host}"))
        {
            endpoint.set_host(Some(&host)).map_err(|error| bad(format!("the endpoint takes no bucket: {error}")))?;
        }
        builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/'));
    }
    let store = builder.build().map_err(|error| DatasetError::store(&error))?;
    let store: Arc<dyn ObjectStore> = Arc::new(LimitStore::new(store, REQUESTS_MAX));
    runtime.register_object_store(url.as_ref(), store.clone());
    Ok((url, store))
}

fn retries() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 5, retry_timeout: Duration::from_secs(60) }
}

/// The vendor's keys, as object_store asks for them.
struct Provider(Arc<dyn VendorCredentials>);

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

#[async_trait]
impl CredentialProvider for Provider {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let keys = self.0.keys().await.map_err(|failure| object_store::Error::Generic {
            store: "S3",
            source: Box::new(DatasetError::new(
                Kind::Access,
                format!("the vendor's own credentials are not to be had: {}", failure.message),
                failure.remedy,
            )),
        })?;
        Ok(Arc::new(AwsCredential {
            key_id: keys.access_key_id.reveal().into(),
            secret_key: keys.secret.reveal().into(),
            token: keys.token.map(|token| token.reveal().into()),
        }))
    }
}
