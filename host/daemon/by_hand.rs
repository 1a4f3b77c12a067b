//! What a person asks for by hand, as it is done by the daemon, and without one by the command itself.

use super::admin::ask::{Judged, Paused, Released, Resumed};
use super::settling::Named;
use crate::clock::Clock;
use crate::config::{Config, Plugin};
use crate::domain::{
    ContentDigest, CustomerName, Failure, Layer, PluginName, Refused, Retry, RunId, ShareName, SkipReason, Slot,
};
use crate::ledger::{
    DeliveryDetail, DeliveryId, DeliveryState, Ledger, Pausing, RunDetail, RunState, Saying, Settlement, Unsettled,
    Verdict,
};
use crate::run::wanted;

/// Deliveries that wait for their next try.
pub(super) type Waiting = Vec<(CustomerName, DeliveryId)>;

/// Characters of a reason.
const REASON_MAX: usize = 500;

/// Who asked, as records name it.
pub fn named(user: u32) -> String {
    match user {
        0 => "root".to_owned(),
        user => format!("user {user}"),
    }
}

/// Begins a pause, unless the share is paused already.
pub async fn pause(
    ledger: &Ledger,
    clock: &Clock,
    share: ShareName,
) -> Result<(Paused, Vec<(Slot, SkipReason)>), Refused> {
    let now = clock.now();
    let Pausing { earlier, left_out } = ledger.pause(share.clone()).await?;
    let (since, changed) = (earlier.unwrap_or(now), earlier.is_none());
    Ok((Paused { share, since, changed, left_out: left_out.len() as u64 }, left_out))
}

/// Lets a plugin go, whichever its component was. `digest` is of what is configured.
pub async fn release(
    ledger: &Ledger,
    config: &Config,
    plugin: &str,
    digest: impl Fn(&Plugin) -> Option<ContentDigest>,
) -> Result<Released, Refused> {
    let unknown = || {
        let names: Vec<&str> = config.plugins.keys().map(PluginName::as_str).collect();
        Refused::request(format!("there is no plugin '{plugin}'"), format!("plugins are: {}", names.join(", ")))
    };
    let name = PluginName::parse(plugin).map_err(|_| unknown())?;
    let configured = config.plugins.get(&name);
    let released = ledger.release(name.clone(), configured.and_then(|plugin| digest(plugin))).await?;
    match configured.is_none() && released.is_empty() {
        true => Err(unknown()),
        false => Ok(Released { plugin: name, released }),
    }
}

/// Ends a pause, and tells what it left out.
pub async fn resume(ledger: &Ledger, share: ShareName) -> Result<Resumed, Refused> {
    let since = ledger.resume(share.clone()).await?;
    let first_left_out = match since {
        Some(since) => ledger.reader().first_left_out(share.clone(), since).await?,
        None => None,
    };
    Ok(Resumed { share, since, first_left_out })
}

/// What of a run can be tried again: who failed, and what waits for its next try or its customer.
pub fn to_retry(detail: &RunDetail, customers: &[CustomerName]) -> Result<(Vec<CustomerName>, Waiting), Refused> {
    let (mut failed, mut waiting) = (Vec::new(), Vec::new());
    for delivery in detail.deliveries.iter().filter(|delivery| customers.contains(&delivery.customer)) {
        match delivery.state {
            DeliveryState::Failed => failed.push(delivery.customer.clone()),
            // Without a time it waits for its customer.
            DeliveryState::Waiting => waiting.push((delivery.customer.clone(), delivery.id)),
            DeliveryState::Sealed if delivery.due.is_some() => {
                waiting.push((delivery.customer.clone(), delivery.id));
            }
            _ => {}
        }
    }
    if failed.is_empty() && waiting.is_empty() {
        let message = format!("nothing of run {} has failed", detail.run.run);
        return Err(Refused::request(message, format!("`consign show {}` tells how it stands", detail.run.run)));
    }
    Ok((failed, waiting))
}

/// Whether there is something of a run that could be ended.
pub fn is_open(detail: &RunDetail) -> Result<(), Refused> {
    let run = &detail.run;
    match run.state {
        RunState::Running => Ok(()),
        state => {
            let message = format!("run {} has ended already: it {state}", run.run);
            Err(Refused::request(message, "what is delivered stays in the bucket"))
        }
    }
}

/// As deliveries that somebody ended have it in the ledger.
pub fn cancelled_by(who: &str, reason: Option<&str>, run: RunId) -> Failure {
    let message = match in_a_line(reason) {
        None => format!("cancelled by {who}"),
        Some(reason) => format!("cancelled by {who}: {reason}"),
    };
    Failure::new(Layer::Schedule, Retry::Never, message, format!("`consign retry {run}` begins it again"))
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
fn in_a_line(reason: Option<&str>) -> Option<String> {
    let reason: String = reason.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect();
    Some(reason).filter(|reason| !reason.is_empty())
}
