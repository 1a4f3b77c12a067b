//! The vendor's side: its identity, its region, and what all deliveries share.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{IdentityCache, Region, SharedHttpClient};
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use super::identity::{Identity, credentials, surroundings};
use super::parts::{PART_BYTES_MAX, PART_BYTES_MIN};
use super::session::{AssumeRole, Session};
use super::{DeliveryError, policy, proxy};
use crate::clock::{Clock, Instant};
use crate::config::{Aws, Customer, StaticCredentials};
use crate::domain::{BucketName, CustomerName, Failure, Layer, Retry, RunId, Secret};
use crate::limits::places_of_one;

/// Requests for one operation, the first one included.
const ATTEMPTS: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Parts on their way or waiting for a retry, over all deliveries, as a
/// multiple of those of one object. Bounds memory: each has at most
/// `buffer::PART_MEMORY_BYTES` there.
const OBJECTS_AT_ONCE: usize = 8;
/// Where STS cannot be switched off (IAM User Guide, "AWS STS Regions and endpoints").
const REGION_DEFAULT: &str = "us-east-1";

/// Reads the vendor's current access keys, for those who read `s3://` with them.
pub type VendorKeys = Arc<dyn Fn() -> BoxFuture<'static, Result<StaticCredentials, Failure>> + Send + Sync>;

/// The vendor's identity and everything that deliveries share. Clones are the same vendor.
#[derive(Clone)]
pub struct Vendor(Arc<Shared>);

struct Shared {
    aws: Aws,
    began: Instant,
    clock: Clock,
    http: SharedHttpClient,
    identity: Mutex<Identity>,
    /// Of AWS's endpoints, not of one that is configured.
    use_fips: Option<bool>,
    use_dual_stack: Option<bool>,
    region: String,
    places: Arc<Semaphore>,
    /// Of these, one customer's.
    places_of_one: usize,
    /// By customer, while a delivery of theirs holds it.
    places_of: Arc<Mutex<HashMap<CustomerName, Weak<Semaphore>>>>,
    /// Buckets whose customers were to be given advice.
    advised: Arc<Mutex<BTreeSet<BucketName>>>,
}

/// Who of STS is asked for a customer's role.
pub(super) struct Stses {
    /// Near the customer.
    pub(super) near: aws_sdk_sts::Client,
    /// Of the vendor's own region, should the other be switched off for one of the two.
    pub(super) elsewhere: Option<aws_sdk_sts::Client>,
    /// With which of the vendor's identities.
    pub(super) identity: u64,
}

impl Vendor {
    /// Finds out who the vendor is; asks nobody yet but local files and the environment.
    /// The more `customers` there are, the fewer parts of one of them are on their way
    /// at the same time, so that a bucket that does not answer leaves some to the others.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub async fn new(aws: &Aws, customers: usize, clock: Clock) -> Result<Self, DeliveryError> {
        if !(PART_BYTES_MIN..=PART_BYTES_MAX).contains(&aws.part_bytes) {
            return Err(DeliveryError::PartBytes(aws.part_bytes));
        }
        if aws.part_concurrency == 0 {
            return Err(DeliveryError::PartConcurrency);
        }
        let http = proxy::client();
        let region = region(aws).await;
        let surroundings = surroundings(aws, &region, &http).await;
        let places = aws.part_concurrency * OBJECTS_AT_ONCE;
        Ok(Self(Arc::new(Shared {
            aws: aws.clone(),
            began: clock.now(),
            clock,
            http,
            identity: Mutex::new(Identity::new(credentials(&surroundings), 1)),
            use_fips: surroundings.use_fips(),
            use_dual_stack: surroundings.use_dual_stack(),
            region,
            places: Arc::new(Semaphore::new(places)),
            places_of_one: places_of_one(places, customers),
            places_of: Arc::default(),
            advised: Arc::default(),
        })))
    }

    /// Has the places for parts in common with an `earlier` vendor, whose deliveries
    /// may still be at work, if there are as many.
    #[must_use]
    pub fn beside(mut self, earlier: &Self) -> Self {
        let is_alike = |own: &Shared| {
            (own.aws.part_concurrency, own.places_of_one) == (earlier.0.aws.part_concurrency, earlier.0.places_of_one)
        };
        if let Some(own) = Arc::get_mut(&mut self.0) {
            own.began = earlier.0.began;
            own.advised = earlier.0.advised.clone();
            if is_alike(own) {
                own.places = earlier.0.places.clone();
                own.places_of = earlier.0.places_of.clone();
            }
        }
        self
    }

    /// The region of the vendor's own calls.
    pub fn region(&self) -> &str {
        &self.0.region
    }

    /// A closure that reads the vendor's own keys, fresh at each call.
    pub fn keys(&self) -> VendorKeys {
        let vendor = self.clone();
        Arc::new(move || {
            let identity = vendor.identity().credentials.clone();
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

    /// Nothing of this process's was asked for before.
    pub(super) fn began(&self) -> Instant {
        self.0.began
    }

    /// Whether to advise on a bucket: once for each.
    pub(super) fn advises(&self, bucket: &BucketName) -> bool {
        self.0.advised.lock().unwrap_or_else(PoisonError::into_inner).insert(bucket.clone())
    }

    /// Places for parts of all deliveries on their way.
    pub(super) fn places(&self) -> Arc<Semaphore> {
        self.0.places.clone()
    }

    /// Places for the parts of a customer's deliveries on their way.
    pub(super) fn places_of(&self, customer: &CustomerName) -> Arc<Semaphore> {
        let mut all = self.0.places_of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = all.get(customer).and_then(Weak::upgrade) {
            return places;
        }
        let places = Arc::new(Semaphore::new(self.0.places_of_one));
        all.insert(customer.clone(), Arc::downgrade(&places));
        places
    }

    /// A session of this customer's role, opened at its first use and gone with
    /// whoever holds it. The customer reads the run in CloudTrail, as its name.
    pub(super) fn session(&self, customer: &Arc<Customer>, run: RunId) -> Result<Arc<Session>, Failure> {
        Ok(self.session_of(self.narrowed(policy::session(customer)?, customer, run)))
    }

    /// The same, by whichever key of KMS what it goes on with is encrypted. Where there is no room for that, by the profile's.
    pub(super) fn session_for_any_key(&self, customer: &Arc<Customer>, run: RunId) -> Result<Arc<Session>, Failure> {
        let policy = policy::session_for_any_key(customer).or_else(|_| policy::session(customer))?;
        Ok(self.session_of(self.narrowed(policy, customer, run)))
    }

    /// Opens a session as a delivery does, and lets it go.
    ///
    /// # Errors
    /// STS's refusal, as a layer.
    pub async fn can_assume(&self, customer: &Arc<Customer>, run: RunId) -> Result<(), Failure> {
        self.session(customer, run)?.credentials().await.map(drop)
    }

    /// One that may list unfinished uploads too, if the role may.
    pub(super) fn listing_session(&self, customer: &Arc<Customer>, run: RunId) -> Result<Arc<Session>, Failure> {
        Ok(self.session_of(self.narrowed(policy::listing_session(customer)?, customer, run)))
    }

    fn narrowed(&self, policy: String, customer: &Arc<Customer>, run: RunId) -> AssumeRole {
        let (policy, duration) = (Some(policy), self.0.aws.session_duration);
        AssumeRole { policy, name: run.to_string(), duration, customer: customer.clone() }
    }

    /// The same, of whatever is asked for.
    pub(super) fn session_of(&self, request: AssumeRole) -> Arc<Session> {
        Arc::new(Session::new(request, Some(self.clone()), self.0.clock.as_it_is()))
    }

    pub(super) fn stses(&self, customer: &Customer) -> Stses {
        let (near, home) = (customer.region.as_str(), self.region());
        let mut identity = self.identity();
        let is_another = home != near && partition(home) == partition(near);
        let elsewhere = is_another.then(|| self.sts_of(&mut identity, home));
        Stses { near: self.sts_of(&mut identity, near), elsewhere, identity: identity.number }
    }

    /// STS does not take the credentials of this identity: whether there are others by now to ask with. So whoever
    /// has renewed a profile file needs to do nothing more.
    pub(super) fn has_other_than(&self, refused: u64) -> bool {
        let Shared { aws, region, http, .. } = &*self.0;
        let mut identity = self.identity();
        identity.number != refused || identity.read_anew(aws, region, http)
    }

    fn identity(&self) -> MutexGuard<'_, Identity> {
        self.0.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// STS in that region: tokens of a regional endpoint are good in every region,
    /// those of the global one are not (IAM User Guide, "Manage AWS STS in an AWS Region").
    pub(super) fn sts(&self, region: &str) -> aws_sdk_sts::Client {
        self.sts_of(&mut self.identity(), region)
    }

    fn sts_of(&self, identity: &mut Identity, region: &str) -> aws_sdk_sts::Client {
        let Identity { credentials, sts, .. } = identity;
        sts.entry(region.to_owned()).or_insert_with(|| self.new_sts(credentials.clone(), region)).clone()
    }

    fn new_sts(&self, credentials: SharedCredentialsProvider, region: &str) -> aws_sdk_sts::Client {
        let aws = &self.0.aws;
        let endpoint = aws.sts_endpoint_url.as_ref().or(aws.endpoint_url.as_ref());
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.0.http.clone())
            .credentials_provider(credentials)
            .region(Region::new(region.to_owned()))
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(self.timeouts(1));
        match endpoint {
            Some(url) => config = config.endpoint_url(url.as_str().trim_end_matches('/')),
            None => {
                config.set_use_fips(self.0.use_fips).set_use_dual_stack(self.0.use_dual_stack);
            }
        }
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
        match &aws.endpoint_url {
            Some(url) => config = config.endpoint_url(url.as_str().trim_end_matches('/')),
            None => {
                config.set_use_fips(self.0.use_fips).set_use_dual_stack(self.0.use_dual_stack);
            }
        }
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// Without these the SDK waits for ever on a server that stalls. `weight`
    /// stretches them for what takes longer than usual. There is no read timeout:
    /// the attempt's covers it, and the HTTP client would keep a pool of
    /// connections for each value.
    pub(super) fn timeouts(&self, weight: u32) -> TimeoutConfig {
        let aws = &self.0.aws;
        TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(aws.attempt_timeout))
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

/// The configured region, else the environment's, the profile's or the default.
/// The SDK would ask the instance metadata too, for seconds where there is none.
async fn region(aws: &Aws) -> String {
    let configured = aws.region.as_ref().map(|region| Region::new(region.as_str().to_owned()));
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &aws.profile {
        profile = profile.profile_name(name);
    }
    let chain = RegionProviderChain::first_try(configured)
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build());
    let found = chain.region().await.map(|region| region.as_ref().to_owned());
    found.filter(|region| !region.is_empty()).unwrap_or_else(|| REGION_DEFAULT.to_owned())
}

/// What a region's name begins with outside of the partition `aws`. STS of one
/// partition knows nobody of another.
fn partition(region: &str) -> Option<&'static str> {
    ["cn-", "us-gov-", "us-iso-", "us-isob-", "us-isof-", "eu-isoe-", "eusc-"]
        .into_iter()
        .find(|beginning| region.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn regions_have_one_client_of_sts_each() {
        let aws = Aws { region: crate::domain::Region::parse("eu-north-1").ok(), ..Aws::default() };
        let vendor = Vendor::new(&aws, 1, Clock::system()).await.unwrap();
        for region in ["eu-west-1", "eu-north-1"].into_iter().cycle().take(100) {
            vendor.sts(region);
        }
        assert_eq!(vendor.identity().sts.len(), 2);
    }

    /// Of all who find at once that credentials are no good the first has them read anew, and not again at once.
    #[tokio::test]
    async fn credentials_that_are_refused_are_read_anew_once_in_a_while() {
        let aws = Aws { region: crate::domain::Region::parse("eu-north-1").ok(), ..Aws::default() };
        let vendor = Vendor::new(&aws, 1, Clock::system()).await.unwrap();
        vendor.sts("eu-north-1");
        assert!(!vendor.has_other_than(1), "they have just been read");
        vendor.identity().grow_old();
        assert!(vendor.has_other_than(1) && vendor.has_other_than(1));
        let known = |vendor: &Vendor| {
            let identity = vendor.identity();
            (identity.number, identity.sts.len())
        };
        assert_eq!(known(&vendor), (2, 0), "a client remembers them");
        assert!(!vendor.has_other_than(2));
        vendor.identity().grow_old();
        assert!(vendor.has_other_than(2));
    }

    /// What TLS does not protect on its way is signed. AWS's own endpoints have it.
    #[tokio::test]
    async fn what_goes_without_tls_is_signed() {
        for (endpoint, signs) in
            [(None, false), (Some("https://minio.example"), false), (Some("http://127.0.0.1:9000"), true)]
        {
            let region = crate::domain::Region::parse("eu-north-1").ok();
            let endpoint_url = endpoint.map(|url| url.parse().unwrap());
            let vendor =
                Vendor::new(&Aws { region, endpoint_url, ..Aws::default() }, 1, Clock::system()).await.unwrap();
            assert_eq!(vendor.signs_payload(), signs, "{endpoint:?}");
        }
    }

    #[test]
    fn partitions_are_told_apart_by_their_regions() {
        assert_eq!(partition("eu-west-1"), partition("us-east-1"));
        assert_ne!(partition("us-gov-west-1"), partition("us-west-1"));
        assert_ne!(partition("us-iso-east-1"), partition("us-isob-east-1"));
        assert_eq!(partition("cn-north-1"), partition("cn-northwest-1"));
    }

    #[tokio::test]
    async fn places_are_common_where_there_are_as_many() {
        let aws = Aws { region: crate::domain::Region::parse("eu-north-1").ok(), ..Aws::default() };
        let new = async |aws: &Aws, customers| Vendor::new(aws, customers, Clock::system()).await.unwrap();
        let first = new(&aws, 8).await;
        let acme = CustomerName::parse("acme").unwrap();
        let of_acme = first.places_of(&acme);
        let second = new(&aws, 9).await.beside(&first);
        assert!(Arc::ptr_eq(&first.places(), &second.places()) && Arc::ptr_eq(&of_acme, &second.places_of(&acme)));
        let more = Aws { part_concurrency: aws.part_concurrency + 1, ..aws.clone() };
        let third = new(&more, 9).await.beside(&second);
        assert!(!Arc::ptr_eq(&first.places(), &third.places()));
        let alone = new(&aws, 1).await.beside(&second);
        assert!(!Arc::ptr_eq(&of_acme, &alone.places_of(&acme)), "the only customer has more of them");
    }
}
