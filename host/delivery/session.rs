//! A session of one customer's role, for one run.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_sts::config::retry::RetryPartition;
use chrono::TimeDelta;
use tokio::sync::Mutex;
use tracing::Instrument as _;

use super::Vendor;
use super::failure::{self, Fault, Operation};
use super::vendor::Stses;
use crate::clock::{Clock, Instant};
use crate::config::Customer;
use crate::domain::{Failure, Layer, Retry, spread};

/// A session is renewed this long before it ends; a short one at half its life.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

/// How long a renewal that failed is left alone, but for up to half of it: the old one does meanwhile.
const AGAIN: Duration = Duration::from_secs(30);

/// What is asked of STS.
pub(super) struct AssumeRole {
    /// What narrows it. Nothing does only where a session is made to see what the role allows.
    pub(super) policy: Option<String>,
    /// What the customer reads in CloudTrail.
    pub(super) name: String,
    pub(super) duration: Duration,
    pub(super) customer: Arc<Customer>,
}

/// Opened at its first use, and renewed ahead of its end while all go on with the old one.
pub(super) struct Session {
    request: AssumeRole,
    /// None: there is no STS to ask.
    vendor: Option<Vendor>,
    clock: Clock,
    lease: RwLock<Option<Lease>>,
    renewing: Arc<Mutex<()>>,
}

#[derive(Clone)]
struct Lease {
    credentials: Credentials,
    renew_at: Instant,
    ends: Instant,
    number: u64,
}

impl Session {
    pub(super) fn new(request: AssumeRole, vendor: Option<Vendor>, clock: Clock) -> Self {
        Self { request, vendor, clock, lease: RwLock::default(), renewing: Arc::default() }
    }

    /// Credentials that are good for now.
    ///
    /// # Errors
    /// STS's refusal, as a layer.
    pub(super) async fn credentials(self: &Arc<Self>) -> Result<Credentials, Failure> {
        let now = self.clock.now();
        if let Some(lease) = self.lease().filter(|lease| now < lease.ends) {
            if now >= lease.renew_at {
                self.renew_meanwhile(lease.number);
            }
            return Ok(lease.credentials);
        }
        self.renew(self.number()).await?;
        match self.lease() {
            Some(lease) => Ok(lease.credentials),
            None => {
                let remedy = "the delivery can be made again; if it ends so again, report it with the log";
                Err(Failure::new(Layer::Identity, Retry::Later, "the session vanished while it was renewed", remedy))
            }
        }
    }

    /// Which lease is in use; goes up with each renewal.
    pub(super) fn number(&self) -> u64 {
        self.lease().map_or(0, |lease| lease.number)
    }

    /// Opens a new session unless somebody else has done so since `seen`.
    pub(super) async fn renew(&self, seen: u64) -> Result<(), Failure> {
        let _turn = self.renewing.lock().await;
        if self.number() != seen {
            return Ok(());
        }
        let lease = self.assume(seen + 1).await?;
        *self.lease.write().unwrap_or_else(PoisonError::into_inner) = Some(lease);
        Ok(())
    }

    /// The same beside all that goes on, unless somebody does so already.
    fn renew_meanwhile(self: &Arc<Self>, seen: u64) {
        let Ok(turn) = self.renewing.clone().try_lock_owned() else { return };
        let now = self.clock.now();
        // Somebody else has been at it since.
        if self.lease().is_none_or(|lease| lease.number != seen || now < lease.renew_at) {
            return;
        }
        let this = self.clone();
        let renewing = async move {
            let renewed = this.assume(seen + 1).await;
            let mut lease = this.lease.write().unwrap_or_else(PoisonError::into_inner);
            match (renewed, lease.as_mut()) {
                (Ok(renewed), _) => *lease = Some(renewed),
                (Err(failure), Some(lease)) => {
                    tracing::warn!(customer = %this.request.customer.name, %failure, "session not renewed yet");
                    lease.renew_at = this.clock.now() + spread(AGAIN, 0.5, (&this.request.name, lease.renew_at));
                }
                (Err(_), None) => {}
            }
            drop(turn);
        };
        tokio::spawn(renewing.in_current_span());
    }

    fn lease(&self) -> Option<Lease> {
        self.lease.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn assume(&self, number: u64) -> Result<Lease, Failure> {
        let customer = &self.request.customer;
        let Some(vendor) = &self.vendor else {
            let remedy = "set region in [aws], whose STS is asked, and the customer's region";
            return Err(Failure::new(Layer::Config, Retry::Never, "there is no STS to ask", remedy));
        };
        let mut stses = vendor.stses(customer);
        let mut asked = self.assume_at_one(&stses, number).await;
        if asked.as_ref().is_err_and(|fault| fault.is_of_vendor()) && vendor.has_other_than(stses.identity) {
            stses = vendor.stses(customer);
            asked = self.assume_at_one(&stses, number).await;
        }
        asked.map_err(|fault| {
            let failure = failure::diagnose(&fault, Operation::AssumeRole, customer.role_arn.as_str(), customer);
            match stses.elsewhere.is_none() && fault.is_unknown_key() {
                true => Failure { remedy: failure::sts::unknown_to_the_only_one(customer), ..failure },
                false => failure,
            }
        })
    }

    async fn assume_at_one(&self, stses: &Stses, number: u64) -> Result<Lease, Fault> {
        match (self.assume_at(&stses.near, number).await, &stses.elsewhere) {
            (Err(fault), Some(elsewhere)) if fault.is_of_region() => self.assume_at(elsewhere, number).await,
            (asked, _) => asked,
        }
    }

    async fn assume_at(&self, client: &aws_sdk_sts::Client, number: u64) -> Result<Lease, Fault> {
        let AssumeRole { policy, name, duration, customer } = &self.request;
        let asked_at = self.clock.now();
        // One customer's outage does not use up the patience for all.
        let budget = RetryPartition::new(format!("sts/{}", customer.role_arn));
        let answer = client
            .assume_role()
            .role_arn(customer.role_arn.as_str())
            .role_session_name(name)
            .set_external_id(customer.external_id.as_ref().map(|id| id.as_str().to_owned()))
            .set_policy(policy.clone())
            .duration_seconds(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX))
            .customize()
            .config_override(aws_sdk_sts::Config::builder().retry_partition(budget))
            .send()
            .await
            .map_err(|error| Fault::of(&error))?;
        let Some(granted) = answer.credentials() else {
            return Err(Fault::garbled("STS granted the role without credentials"));
        };
        // The shorter of what was asked for and what the server's clock says: so a
        // local clock that is off makes sessions shorter, never longer.
        let asked = TimeDelta::from_std(*duration).unwrap_or(TimeDelta::MAX);
        let said = Instant::from_timestamp(granted.expiration().secs(), 0).map_or(asked, |end| end - asked_at);
        let lasts = asked.min(said).max(TimeDelta::zero());
        let ends = asked_at + lasts;
        tracing::debug!(
            customer = %customer.name,
            role = %customer.role_arn,
            session = name,
            until = %ends,
            token.used_percent = answer.session_token_utilization(),
            "session opened"
        );
        Ok(Lease {
            credentials: Credentials::new(
                granted.access_key_id(),
                granted.secret_access_key(),
                Some(granted.session_token().to_owned()),
                Some(ends.into()),
                "consign session",
            ),
            renew_at: ends - AHEAD.min(lasts / 2),
            ends,
            number,
        })
    }
}

/// Hands a session's credentials to the S3 client. Its errors carry our own
/// [`Failure`], so that a refusal by STS is still one when it surfaces from S3.
pub(super) struct Provider(pub(super) Arc<Session>);

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Provider").field(&self.0.request.customer.role_arn).finish()
    }
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.0.credentials().await.map_err(CredentialsError::provider_error) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Encryption;
    use crate::domain::{AccountId, BucketName, CustomerName, CustomerPrefix, Region, RoleArn};

    fn customer() -> Customer {
        Customer {
            name: CustomerName::parse("acme").unwrap(),
            role_arn: RoleArn::parse("arn:aws:iam::123456789012:role/consign-delivery").unwrap(),
            external_id: None,
            next_external_id: None,
            sharers: Arc::default(),
            trusts: None,
            bucket: BucketName::parse("acme-data").unwrap(),
            bucket_owner: AccountId::parse("123456789012").unwrap(),
            region: Region::parse("eu-west-1").unwrap(),
            prefix: CustomerPrefix::parse("uploads/us").unwrap(),
            groups: Vec::new(),
            params: BTreeMap::new(),
            encryption: Encryption::Bucket,
            storage_class: None,
            acl: None,
            tags: BTreeMap::new(),
        }
    }

    const NUMBER: u64 = 7;

    /// One that is open under a clock that stands, and that no STS renews.
    fn open(clock: &Clock, renew_at: Instant, ends: Instant) -> Arc<Session> {
        let (name, duration) = (String::from("run"), Duration::from_secs(3600));
        let request = AssumeRole { policy: None, name, duration, customer: Arc::new(customer()) };
        let session = Session::new(request, None, clock.clone());
        let credentials = Credentials::new("ASIA7", "s", None, None, "test");
        *session.lease.write().unwrap() = Some(Lease { credentials, renew_at, ends, number: NUMBER });
        Arc::new(session)
    }

    /// When it is to be renewed, once nobody is at it any more.
    async fn renew_at(session: &Session) -> Instant {
        let _turn = session.renewing.lock().await;
        session.lease().unwrap().renew_at
    }

    /// Many find at once that it is time, and look again when it is their turn.
    #[tokio::test]
    async fn who_comes_late_does_not_renew_again() {
        let clock = Clock::fixed(Clock::system().now());
        let now = clock.now();
        let again = now + TimeDelta::seconds(15)..=now + TimeDelta::seconds(30);
        for (seen, due_in, is_tried) in [
            (NUMBER, -1, true),
            (NUMBER, 0, true),
            (NUMBER, 20, false),
            (NUMBER - 1, -1, false),
            (NUMBER - 1, 0, false),
            (NUMBER - 1, 20, false),
        ] {
            let due = now + TimeDelta::seconds(due_in);
            let session = open(&clock, due, now + TimeDelta::minutes(4));
            session.renew_meanwhile(seen);
            let then = renew_at(&session).await;
            match is_tried {
                true => assert!(again.contains(&then), "{due_in}: {then} is not in {again:?}"),
                false => assert_eq!(then, due, "{seen} was renewed already"),
            }
        }
    }

    #[tokio::test]
    async fn it_is_renewed_from_an_instant_on_and_used_until_it_ends() {
        let clock = Clock::fixed(Clock::system().now());
        let (due, ends) = (clock.now(), clock.now() + TimeDelta::minutes(5));
        for (at, is_tried) in [(due - TimeDelta::milliseconds(1), false), (due, true)] {
            clock.set(at);
            let session = open(&clock, due, ends);
            session.credentials().await.unwrap();
            assert_eq!(renew_at(&session).await != due, is_tried, "{at}");
        }
        let session = open(&clock, due, ends);
        clock.set(ends - TimeDelta::milliseconds(1));
        session.credentials().await.unwrap();
        clock.set(ends);
        let failure = session.credentials().await.unwrap_err();
        assert_eq!(failure.message, "there is no STS to ask");
    }
}
