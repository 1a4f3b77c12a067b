//! Deliveries in doubt of which somebody knows what became of them.

use tokio::sync::oneshot;

use super::ask::Judged;
use super::office::stopping;
use super::{Caller, Office, Order};
use crate::daemon::settling::{Named, Settling};
use crate::domain::{Refused, RunId};
use crate::ledger::{DeliveryDetail, DeliveryState, RunDetail, Saying, Settlement, Unsettled, Verdict};
use crate::run::wanted;

/// Characters of a reason.
const REASON_MAX: usize = 500;

impl Office {
    pub(super) async fn settle(
        &self,
        (run, named): (&str, &[String]),
        verdict: Verdict,
        reason: Option<&str>,
        caller: &Caller,
    ) -> Result<Judged, Refused> {
        let reader = self.ledger.reader();
        let detail = reader.run(wanted::run(reader, run).await?).await?;
        let run = detail.run.run;
        if let Some(node) = self.ledger.who_else_has(run).await? {
            return Err(unsettled(run, Unsettled::Elsewhere(node)));
        }
        let deliveries = to_settle(&detail, named, verdict)?;
        let saying = saying(&caller.name(), verdict, reason);
        let (done, settled) = oneshot::channel();
        self.order(Order::Settle(Box::new(Settling { run, deliveries, saying, done }))).await?;
        let settled = settled.await.map_err(|_| stopping())??;
        Ok(Judged::of(run, verdict, settled))
    }
}

impl Judged {
    pub fn of(run: RunId, verdict: Verdict, settled: Vec<Settlement>) -> Self {
        let lacking = settled.iter().flat_map(|settled| settled.lacking.clone()).collect();
        let customers = settled.into_iter().map(|settled| settled.customer).collect();
        Self { run, verdict, customers, lacking }
    }
}

impl Named {
    fn of(delivery: &DeliveryDetail) -> Self {
        let has_ended = delivery.state.has_ended();
        Self { customer: delivery.customer.clone(), delivery: delivery.id, has_ended }
    }
}

/// What somebody says, and who.
pub fn saying(who: &str, verdict: Verdict, reason: Option<&str>) -> Saying {
    Saying { verdict, by: who.to_owned(), reason: in_a_line(reason) }
}

/// Those that are named, or the only one that is in doubt: of several nobody knows all without looking.
pub fn to_settle(detail: &RunDetail, named: &[String], verdict: Verdict) -> Result<Vec<Named>, Refused> {
    let customers = wanted::customers_of(detail, named)?;
    let (run, all) = (detail.run.run, detail.deliveries.iter());
    if !named.is_empty() {
        let named = all.filter(|delivery| customers.contains(&delivery.customer));
        let settled = |delivery: &DeliveryDetail| match delivery.state {
            DeliveryState::Sealed => Ok(Named::of(delivery)),
            DeliveryState::Committed if verdict == Verdict::Failed => Ok(Named::of(delivery)),
            state => Err(unsettled(run, Unsettled::Is(delivery.customer.clone(), state))),
        };
        return named.map(settled).collect();
    }
    let in_doubt: Vec<_> = all.filter(|delivery| delivery.in_doubt.is_some()).collect();
    match in_doubt[..] {
        [one] => Ok(vec![Named::of(one)]),
        [] => {
            let message = format!("no delivery of run {run} is in doubt");
            Err(Refused::request(message, format!("`consign show {run}` tells how it stands")))
        }
        _ => {
            let names: Vec<&str> = in_doubt.iter().map(|delivery| delivery.customer.as_str()).collect();
            let message = format!("several deliveries of run {run} are in doubt: those to {}", names.join(", "));
            Err(Refused::request(message, "name whose you know of: --customer"))
        }
    }
}

/// Why nothing was settled, and what to do instead.
pub fn unsettled(run: RunId, why: Unsettled) -> Refused {
    let (message, help) = match why {
        Unsettled::Elsewhere(node) => (
            format!("{node} has run {run}"),
            "settle it there, or, if that is no more, when another consign has taken it over".to_owned(),
        ),
        Unsettled::Is(customer, DeliveryState::Committed) => (
            format!("the delivery to {customer} is not in doubt: it is committed"),
            "nothing is to be done; one that is there no more is said so by --failed".to_owned(),
        ),
        Unsettled::Is(customer, DeliveryState::Failed) => (
            format!("the delivery to {customer} is not in doubt: it has failed"),
            format!("`consign retry {run} --customer {customer}` begins it again"),
        ),
        Unsettled::Is(customer, state) => (
            format!("the delivery to {customer} is not in doubt: it is {state}, and nothing of it can be seen"),
            format!("`consign cancel {run} --customer {customer}` ends it"),
        ),
        Unsettled::Unasked(customer) => (
            format!(
                "the delivery to {customer} is not in doubt: its objects have yet to complete, before its manifest"
            ),
            format!("it goes on by itself, or fails; `consign show {run}` tells how it stands"),
        ),
        Unsettled::Manifested(customer) => (
            format!("the delivery to {customer} is not in doubt: its manifest is known to be there"),
            "it commits by itself, with what comes after the manifest or without that".to_owned(),
        ),
    };
    Refused::request(message, help)
}

/// A reason as records have it.
pub(super) fn in_a_line(reason: Option<&str>) -> Option<String> {
    let reason: String = reason.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect();
    Some(reason).filter(|reason| !reason.is_empty())
}
