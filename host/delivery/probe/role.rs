//! Whether the role can be assumed by the vendor, and only with its external ID; and for how long.

use std::sync::Arc;
use std::time::Duration;

use super::{Check, Finding, Outcome, Probe};
use crate::config::Customer;
use crate::delivery::failure::paste;
use crate::delivery::policy;
use crate::delivery::session::Session;
use crate::delivery::vendor::Vendor;
use crate::domain::{ExternalId, Failure, Layer, Retry};

/// As short as STS grants them (STS API Reference, AssumeRole, `DurationSeconds`).
pub(super) const SHORTEST: Duration = Duration::from_secs(900);
/// As long as a role's sessions can be, from the same page.
const HOURS_MAX: u64 = 12;

pub(super) const CHECKS: [Check; 4] = [Check::Role, Check::WithoutExternalId, Check::WrongExternalId, Check::Session];

/// What was found, and a session by which uploads can be tried, or why there is none.
pub(super) async fn look(
    probe: &Probe,
    customer: &Arc<Customer>,
) -> (Vec<Finding>, Result<Arc<Session>, &'static str>) {
    let none = |failure: Failure, why: &'static str| {
        let mut found = vec![Finding::failed(Check::Role, failure)];
        found.extend(CHECKS[1..].iter().map(|check| Finding::not_tried(*check, why)));
        (found, Err(why))
    };
    if let Some(failure) = probe.caller.arn().and_then(|arn| in_another_partition(customer, arn)) {
        return none(failure, "the role cannot be assumed");
    }
    let policy = match policy::session(customer) {
        Ok(policy) => policy,
        Err(failure) => return none(failure, "no session can be narrowed to the prefix"),
    };
    let asked = Asked { vendor: &probe.vendor, customer, policy };
    let session = asked.session(customer.clone(), SHORTEST);
    if let Err(failure) = session.credentials().await {
        return none(failure, "the role cannot be assumed");
    }
    let with = match &customer.external_id {
        Some(id) => format!("{} with external ID {id}", customer.role_arn),
        None => format!("{} without an external ID", customer.role_arn),
    };
    let found = vec![
        Finding::ok(Check::Role, with),
        asked.without_external_id(probe).await,
        asked.with_a_wrong_one(probe).await,
        asked.length(probe).await,
    ];
    (found, Ok(session))
}

/// What is wrong with a role that lets in whoever names it; None if it asks for the profile's external
/// ID, or if the profile has none.
///
/// # Errors
/// STS did not say.
pub async fn exposure(vendor: &Vendor, customer: &Arc<Customer>) -> Result<Option<Failure>, Failure> {
    let Some(id) = &customer.external_id else { return Ok(None) };
    let asked = Asked { vendor, customer, policy: policy::session(customer)? };
    for (id, how) in [(None, WITHOUT), (wrong(id), WITH_ANY)] {
        match asked.stranger(id).await {
            Stranger::LetIn => {
                let caller = if customer.trusts.is_none() { vendor.caller().await.ok() } else { None };
                return Ok(Some(confused_deputy(customer, caller.as_deref(), how)));
            }
            Stranger::Refused | Stranger::Unasked => {}
            Stranger::Unknown(failure) => return Err(failure),
        }
    }
    Ok(None)
}

const WITHOUT: &str = "without any external ID";
const WITH_ANY: &str = "with any external ID";

/// All sessions are narrowed, so that one which should not have been granted is good for nothing more.
struct Asked<'a> {
    vendor: &'a Vendor,
    customer: &'a Arc<Customer>,
    policy: String,
}

/// What becomes of who comes with another external ID than the customer's.
enum Stranger {
    LetIn,
    Refused,
    /// The vendor's own policy is in the way, whatever the role says.
    Unasked,
    Unknown(Failure),
}

impl Asked<'_> {
    fn session(&self, customer: Arc<Customer>, duration: Duration) -> Arc<Session> {
        let request = super::request(&customer, Some(self.policy.clone()));
        self.vendor.session_of(super::AssumeRole { duration, ..request })
    }

    async fn without_external_id(&self, probe: &Probe) -> Finding {
        let check = Check::WithoutExternalId;
        if self.customer.external_id.is_none() {
            let message = "the profile has none, so nothing tells this customer from another one who names the role";
            let remedy = format!(
                "agree on an external ID of this customer's own: set external_id for customer '{}', and have the customer ask for \
                 it in the role's trust policy",
                self.customer.name
            );
            return Finding::warning(check, Layer::TrustPolicy, message, remedy);
        }
        self.refused(probe, check, None, WITHOUT).await
    }

    async fn with_a_wrong_one(&self, probe: &Probe) -> Finding {
        let Some(id) = &self.customer.external_id else {
            return Finding::left_out(Check::WrongExternalId, "the profile has none");
        };
        self.refused(probe, Check::WrongExternalId, wrong(id), WITH_ANY).await
    }

    async fn refused(&self, probe: &Probe, check: Check, id: Option<ExternalId>, how: &str) -> Finding {
        if let Some(why) = probe.stopped() {
            return Finding::not_tried(check, why);
        }
        match self.stranger(id).await {
            Stranger::LetIn => {
                let failure = confused_deputy(self.customer, probe.caller.arn(), how);
                Finding::of(check, Outcome::Critical, failure)
            }
            Stranger::Refused => Finding::ok(check, "refused, as it should be"),
            Stranger::Unasked => {
                Finding::left_out(check, "the vendor's own policy refuses it before the role is asked")
            }
            Stranger::Unknown(failure) => Finding::not_tried(check, failure.message),
        }
    }

    async fn stranger(&self, id: Option<ExternalId>) -> Stranger {
        let stranger = Customer { external_id: id, ..Customer::clone(self.customer) };
        match self.session(Arc::new(stranger), SHORTEST).credentials().await {
            Ok(_) => Stranger::LetIn,
            Err(failure) if failure.layer == Layer::TrustPolicy => Stranger::Refused,
            Err(failure) if failure.is_of_vendor() => Stranger::Unasked,
            Err(failure) => Stranger::Unknown(failure),
        }
    }

    /// Whether sessions last as long as they are asked for, and how long they could.
    async fn length(&self, probe: &Probe) -> Finding {
        let wanted = self.vendor.aws().session_duration;
        match self.lasts(wanted).await {
            Ok(()) => {
                let longer = self.longest(probe, wanted.as_secs() / 3600 + 1, HOURS_MAX).await;
                let more = longer.map_or("no longer".to_owned(), |hours| format!("up to {hours} h would be granted"));
                Finding::ok(Check::Session, format!("{}, as configured; {more}", told(wanted)))
            }
            Err(failure) if is_too_long(&failure) => {
                let hours = self.longest(probe, 1, wanted.as_secs().saturating_sub(1) / 3600).await;
                let longest = hours.map_or(SHORTEST, |hours| Duration::from_secs(hours * 3600));
                let remedy = format!("the longest that is granted is {}; {}", told(longest), failure.remedy);
                Finding::failed(Check::Session, Failure { remedy, ..failure })
            }
            Err(failure) => Finding::failed(Check::Session, failure),
        }
    }

    async fn lasts(&self, duration: Duration) -> Result<(), Failure> {
        self.session(self.customer.clone(), duration).credentials().await.map(drop)
    }

    /// The most whole hours that are granted, from `least` to `most`. Usually the first try
    /// says that it is none.
    async fn longest(&self, probe: &Probe, least: u64, most: u64) -> Option<u64> {
        let (mut granted, mut next, mut most) = (None, least, most);
        while next <= most && probe.stopped().is_none() {
            match self.lasts(Duration::from_secs(next * 3600)).await {
                Ok(()) => granted = Some(next),
                Err(_) => most = next - 1,
            }
            next = granted.map_or(least, |granted| granted + (most - granted).div_ceil(2).max(1));
        }
        granted
    }
}

/// STS there knows nobody of the vendor's partition, and says so as if a key were wrong.
fn in_another_partition(customer: &Customer, caller: &str) -> Option<Failure> {
    let (own, theirs) = (caller.split(':').nth(1)?, customer.role_arn.partition());
    (own != theirs).then(|| {
        let message = format!("{} is in the partition {theirs}, and the vendor, {caller}, in {own}", customer.role_arn);
        let remedy = format!(
            "no role can be assumed from another partition: deliver to customer '{}' by a consign of its own, whose identity is in \
             {theirs}",
            customer.name
        );
        Failure::new(Layer::Config, Retry::Never, message, remedy)
    })
}

fn confused_deputy(customer: &Customer, caller: Option<&str>, how: &str) -> Failure {
    let Customer { name, role_arn, bucket, .. } = customer;
    let message = format!(
        "the vendor can assume {role_arn} {how}: whoever else has consign deliver to that ARN gets into bucket '{bucket}' \
         of customer '{name}' (a confused deputy)"
    );
    let remedy = paste(
        &format!(
            "do not deliver by this role; ask the customer to make this its trust policy{}",
            policy::also_trusts(customer)
        ),
        &policy::trust(customer, caller),
    );
    Failure::new(Layer::TrustPolicy, Retry::Never, message, remedy)
}

fn is_too_long(failure: &Failure) -> bool {
    ["DurationSeconds", "role chaining"].iter().any(|word| failure.message.contains(word))
}

/// Another one that a pattern which is too wide may let in.
fn wrong(id: &ExternalId) -> Option<ExternalId> {
    let mut text = id.as_str().to_owned();
    let last = text.pop()?;
    text.push(if last == 'x' { 'y' } else { 'x' });
    ExternalId::parse(&text).ok()
}

/// Whole hours as such, all else in minutes.
fn told(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds % 3600 {
        0 => format!("{} h", seconds / 3600),
        _ => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_external_id_is_another_one() {
        for id in ["c0ns1gn-7f0c", "ends-in-x", "xx"] {
            let id = ExternalId::parse(id).unwrap();
            assert_ne!(wrong(&id).unwrap(), id);
        }
    }
}
