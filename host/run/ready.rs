//! Whether customers were looked at before the first delivery to them. The ledger
//! remembers; what is known here keeps deliveries from asking again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::TaskTracker;

use crate::clock::{Instant, to_the_second};
use crate::config::Customer;
use crate::delivery::{self, Vendor};
use crate::domain::{CustomerName, Failure};
use crate::ledger::{Ledger, LedgerError, Unready};

pub struct Readiness {
    /// By the profiles that there are now.
    seen: Mutex<HashMap<CustomerName, Arc<Seen>>>,
    looks: TaskTracker,
}

/// True once the ledger knows of the customer. Whoever looks has others wait.
type Seen = tokio::sync::Mutex<bool>;

impl Readiness {
    /// Knows of the looks that go on beside an `earlier` one's.
    pub(super) fn beside(earlier: Option<&Self>) -> Self {
        Self { seen: Mutex::default(), looks: earlier.map(|earlier| earlier.looks.clone()).unwrap_or_default() }
    }

    /// Looks at a customer of whom nothing is known yet, by this profile, and writes down what was found, if that
    /// says something of the customer. Goes on to its end when nobody waits for it any more: a look
    /// that is cut off leaves an upload in the bucket that nobody knows of.
    pub(super) async fn look_first(
        &self,
        ledger: &Ledger,
        vendor: &Vendor,
        customer: &Arc<Customer>,
    ) -> Result<(), LedgerError> {
        let mut seen = self.of(&customer.name).lock_owned().await;
        if *seen {
            return Ok(());
        }
        let (ledger, vendor, customer) = (ledger.clone(), vendor.clone(), customer.clone());
        let looked = self.looks.spawn(async move {
            *seen = ledger.has_seen(customer.name.clone(), customer.hash()).await?
                || look(&ledger, &vendor, &customer).await?.is_some();
            Ok::<_, LedgerError>(())
        });
        // Without it the delivery itself finds out.
        looked.await.unwrap_or(Ok(()))
    }

    /// Some look has not come to its end.
    pub(super) fn is_looking(&self) -> bool {
        !self.looks.is_empty()
    }

    fn of(&self, customer: &CustomerName) -> Arc<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(customer.clone()).or_default().clone()
    }
}

/// Tries what a delivery needs, and records what that says of the customer. None if it says
/// nothing: there was no answer, or the fault is the vendor's.
pub async fn look(
    ledger: &Ledger,
    vendor: &Vendor,
    customer: &Arc<Customer>,
) -> Result<Option<Result<(), Failure>>, LedgerError> {
    match delivery::essential(vendor, customer).await {
        Ok(()) => is_ready(ledger, vendor, customer).await,
        Err(failure) if failure.is_of_setup() => {
            ledger.not_ready(customer.name.clone(), customer.hash(), failure.clone()).await?;
            Ok(Some(Err(failure)))
        }
        Err(failure) => {
            tracing::debug!(customer = %customer.name, "not known to be ready: {failure}");
            Ok(None)
        }
    }
}

/// Deliveries work. Whether they would for anybody who names the customer's role is written down, too,
/// and keeps none from going on.
async fn is_ready(
    ledger: &Ledger,
    vendor: &Vendor,
    customer: &Arc<Customer>,
) -> Result<Option<Result<(), Failure>>, LedgerError> {
    let (name, profile) = (customer.name.clone(), customer.hash());
    match delivery::exposure(vendor, customer).await {
        Ok(None) => ledger.ready(name, profile).await?,
        Ok(Some(failure)) => {
            let (layer, why, remedy) = (failure.layer.as_str(), &failure.message, failure.logged_remedy());
            tracing::error!(customer = %name, layer, failure = why, remedy, "critical: a role lets in whoever names it");
            ledger.exposed_by(name, profile, failure).await?
        }
        // Who has not been seen is looked at again before the next delivery.
        Err(failure) => {
            tracing::debug!(customer = %name, "whether others get in is not known: {failure}");
            return Ok(ledger.let_go(name).await?.then_some(Ok(())));
        }
    };
    Ok(Some(Ok(())))
}

/// As a delivery has it in the end that waited for its customer in vain.
pub fn given_up(unready: &Unready, why: &str) -> Failure {
    let message = format!("{}; {}", unready.failure.message, waited(unready, why));
    Failure { message, ..unready.failure.clone() }
}

/// Why it is not waited for any longer.
pub fn waited(unready: &Unready, why: &str) -> String {
    format!("it waited, because the customer is not ready since {}, and {why}", to_the_second(unready.since))
}

/// Why what waited has to end: nothing older than this is made up for.
pub fn too_old(at: Instant, window: std::time::Duration) -> String {
    let (at, window) = (to_the_second(at), humantime::format_duration(window));
    format!("slot {at} is longer ago than catch_up_window ({window}), and a later one is due")
}
