//! A session of one customer's role, for one run.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use chrono::TimeDelta;
use tokio::sync::Mutex;

use super::failure::{self, Fault, Operation};
use crate::clock::{Clock, Instant};
use crate::config::Customer;
use crate::domain::{Failure, Layer, Retry};

/// A session is renewed this long before it ends; a short one at half its life.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

/// What is asked of STS.
pub(super) struct AssumeRole {
    /// What narrows it. Nothing does only where a session is made to see what the role allows.
    pub(super) policy: Option<String>,
    /// What the customer reads in CloudTrail.
    pub(super) name: String,
    pub(super) duration: Duration,
    pub(super) customer: Arc<Customer>,
}

/// Opened at its first use, renewed ahead of its end, by one caller at a time.
pub(super) struct Session {
    request: AssumeRole,
    /// STS near the customer, then the vendor's own region, should the former be switched off.
    clients: Vec<aws_sdk_sts::Client>,
    clock: Clock,
    lease: RwLock<Option<Lease>>,
    renewing: Mutex<()>,
}

#[derive(Clone)]
struct Lease {
    credentials: Credentials,
    renew_at: Instant,
    ends: Instant,
    number: u64,
}

impl Session {
    pub(super) fn new(request: AssumeRole, clients: Vec<aws_sdk_sts::Client>, clock: Clock) -> Self {
        Self { request, clients, clock, lease: RwLock::default(), renewing: Mutex::default() }
    }

    /// Credentials that are good for now.
    ///
    /// # Errors
    /// STS's refusal, as a layer.
    pub(super) async fn credentials(&self) -> Result<Credentials, Failure> {
        let seen = self.lease();
        let now = self.clock.now();
        match &seen {
            Some(lease) if now < lease.renew_at => return Ok(lease.credentials.clone()),
            // Somebody is renewing already; until then the old ones do.
            Some(lease) if now < lease.ends && self.renewing.try_lock().is_err() => {
                return Ok(lease.credentials.clone());
            }
            _ => {}
        }
        match self.renew(self.number()).await {
            Ok(()) => {}
            Err(failure) => match seen {
                Some(lease) if self.clock.now() < lease.ends => {
                    tracing::warn!(customer = %self.request.customer.name, failure = %failure, "session not renewed yet");
                    return Ok(lease.credentials);
                }
                _ => return Err(failure),
            },
        }
        match self.lease() {
            Some(lease) => Ok(lease.credentials),
            None => Err(Failure::new(Layer::Identity, Retry::Later, "the session vanished while it was renewed", "")),
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

    fn lease(&self) -> Option<Lease> {
        self.lease.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn assume(&self, number: u64) -> Result<Lease, Failure> {
        let mut refusal = None;
        for client in &self.clients {
            match self.assume_at(client, number).await {
                Ok(lease) => return Ok(lease),
                Err(fault) => {
                    let elsewhere = fault.region_disabled();
                    refusal = Some(fault);
                    if !elsewhere {
                        break;
                    }
                }
            }
        }
        let customer = &self.request.customer;
        Err(match refusal {
            Some(fault) => failure::diagnose(&fault, Operation::AssumeRole, customer.role_arn.as_str(), customer),
            None => Failure::new(Layer::Config, Retry::Never, "there is no STS to ask", ""),
        })
    }

    async fn assume_at(&self, client: &aws_sdk_sts::Client, number: u64) -> Result<Lease, Fault> {
        let AssumeRole { policy, name, duration, customer } = &self.request;
        let asked_at = self.clock.now();
        let answer = client
            .assume_role()
            .role_arn(customer.role_arn.as_str())
            .role_session_name(name)
            .set_external_id(customer.external_id.as_ref().map(|id| id.as_str().to_owned()))
            .set_policy(policy.clone())
            .duration_seconds(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX))
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
