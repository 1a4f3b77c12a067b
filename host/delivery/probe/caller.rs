//! Who the vendor is, and how far this machine's clock is off.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use chrono::{DateTime, TimeDelta};

use super::{Check, Finding};
use crate::clock::Clock;
use crate::delivery::failure::{CLOCK, Fault, no_caller};
use crate::delivery::vendor::Vendor;
use crate::domain::{Failure, Layer, Retry};

/// What should be looked after.
const SKEW_NOTICED: TimeDelta = TimeDelta::seconds(60);
/// What AWS does not take: S3 API Reference, "Error responses", `RequestTimeTooSkewed`.
const SKEW_MAX: TimeDelta = TimeDelta::minutes(15);

/// What STS says of the vendor.
pub(super) struct Caller {
    arn: Result<String, Failure>,
    /// By how much its clock is ahead of this machine's; None where no answer had the time.
    skew: Option<TimeDelta>,
}

impl Vendor {
    /// The ARN of whoever consign is, by its own credentials.
    ///
    /// # Errors
    /// There are no credentials, or STS refuses them or does not answer.
    pub async fn caller(&self) -> Result<String, Failure> {
        Caller::ask(self).await.arn
    }
}

impl Caller {
    pub(super) async fn ask(vendor: &Vendor) -> Self {
        let time = Time { clock: vendor.clock().clone(), skew: Arc::default() };
        let skew = time.skew.clone();
        let answer = vendor.sts(vendor.region()).get_caller_identity().customize().interceptor(time).send().await;
        let arn = match answer.as_ref().map(|answer| answer.arn()) {
            Ok(Some(arn)) => Ok(arn.to_owned()),
            Ok(None) => Err(no_caller(&Fault::garbled("the answer names nobody"))),
            Err(error) => Err(no_caller(&Fault::of(error))),
        };
        let skew = *skew.lock().unwrap_or_else(PoisonError::into_inner);
        Self { arn, skew }
    }

    /// None where it is not known.
    pub(super) fn arn(&self) -> Option<&str> {
        self.arn.as_deref().ok()
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        vec![self.identity(), self.clock()]
    }

    fn identity(&self) -> Finding {
        match &self.arn {
            Ok(arn) => Finding::ok(Check::Identity, arn),
            Err(_) if self.is_off() => {
                Finding::not_tried(Check::Identity, "STS takes no request while the clock is off")
            }
            Err(failure) => Finding::failed(Check::Identity, failure.clone()),
        }
    }

    fn clock(&self) -> Finding {
        let Some(skew) = self.skew else {
            return Finding::left_out(Check::Clock, "no answer of STS told the time");
        };
        let seconds = skew.num_seconds().abs();
        let which = if skew < TimeDelta::zero() { "ahead of" } else { "behind" };
        let message = format!("this machine's clock is {seconds} s {which} that of STS");
        if self.is_off() {
            return Finding::failed(Check::Clock, Failure::new(Layer::Clock, Retry::Later, message, CLOCK));
        }
        match skew.abs() > SKEW_NOTICED {
            true => Finding::warning(Check::Clock, Layer::Clock, message, CLOCK),
            false => Finding::ok(Check::Clock, format!("{seconds} s off")),
        }
    }

    fn is_off(&self) -> bool {
        self.skew.is_some_and(|skew| skew.abs() > SKEW_MAX)
    }

    /// Why no customer's role need be asked for. STS near a customer may answer where that of
    /// the vendor's region does not.
    pub(super) fn in_the_way(&self) -> Option<&'static str> {
        match &self.arn {
            Err(_) if self.is_off() => Some("this machine's clock is off"),
            Err(failure) if failure.layer == Layer::Clock => Some("this machine's clock is off"),
            Err(failure) if failure.layer != Layer::Network => Some("the vendor has no identity that STS knows"),
            _ => None,
        }
    }
}

/// Compares the `Date` of the first answer with the clock.
struct Time {
    clock: Clock,
    skew: Arc<Mutex<Option<TimeDelta>>>,
}

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

impl Intercept for Time {
    fn name(&self) -> &'static str {
        "Time"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().and_then(|response| response.headers().get("date"));
        if let Some(date) = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()) {
            let skew = date.to_utc() - self.clock.now();
            self.skew.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(skew);
        }
        Ok(())
    }
}
