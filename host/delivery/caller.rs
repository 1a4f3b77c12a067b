//! Who the vendor is to STS, and whether a role lets it in.

use std::sync::Arc;

use super::failure::{Fault, no_caller};
use super::vendor::Vendor;
use crate::config::Customer;
use crate::domain::{Failure, RunId};

impl Vendor {
    /// The ARN of whoever consign is, by its own credentials.
    ///
    /// # Errors
    /// There are no credentials, or STS refuses them or does not answer.
    pub async fn caller(&self) -> Result<String, Failure> {
        let answer = self
            .sts(self.region())
            .get_caller_identity()
            .send()
            .await
            .map_err(|error| no_caller(&Fault::of(&error)))?;
        answer.arn().map(str::to_owned).ok_or_else(|| no_caller(&Fault::garbled("STS named nobody")))
    }

    /// Opens a session as a delivery does, and lets it go.
    ///
    /// # Errors
    /// STS's refusal, as a layer.
    pub async fn can_assume(&self, customer: &Arc<Customer>, run: RunId) -> Result<(), Failure> {
        self.session(customer, run)?.credentials().await.map(drop)
    }
}
