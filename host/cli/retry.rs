//! `consign retry`: what failed of a run, once more.

use std::sync::Arc;

use clap::Args;

use super::client::Client;
use super::output::{CliError, Exit};
use super::progress::Progress;
use super::send::{self, Sending};
use super::{Global, setup, waiting};
use crate::clock::Clock;
use crate::daemon::admin;
use crate::daemon::admin::ask::Ask;
use crate::run::{Parts, wanted};

#[derive(Args)]
pub struct RetryArgs {
    /// The run's id, from `consign history`; its first characters will do if no other run has them.
    run: String,
    /// Only for this customer; may be given more than once.
    #[arg(long = "customer", value_name = "CUSTOMER")]
    customers: Vec<String>,
    /// Return as soon as the running daemon has begun it.
    #[arg(long)]
    detach: bool,
}

pub async fn retry(global: &Global, args: &RetryArgs) -> Result<Exit, CliError> {
    if let Some(client) = Client::connect(global).await? {
        let (run, customers) = (args.run.clone(), args.customers.clone());
        return waiting::run(global, client, Ask::Retry { run, customers, wait: !args.detach }).await;
    }
    if args.detach {
        return Err(waiting::nobody());
    }
    let config = Arc::new(setup::config(global)?);
    config.check_secrets().into_result()?;
    let clock = Clock::system();
    let ledger = setup::ledger(&config, &clock)?;
    let reader = ledger.reader();
    let detail = reader.run(wanted::run(reader, &args.run).await?).await?;
    let customers = wanted::customers_of(&detail, &args.customers)?;
    let (mut customers, waiting) = admin::to_retry(&detail, &customers)?;
    let waits = |delivery: &&crate::ledger::DeliveryDetail| waiting.contains(&delivery.id);
    customers.extend(detail.deliveries.iter().filter(waits).map(|delivery| delivery.customer.clone()));
    let parts = Arc::new(Parts::build(&config, clock).await?);
    let slot = detail.run.whole_slot();
    let progress = Progress::start(!global.json, &slot.share, customers.len());
    let made = Sending { config, parts, slot, customers }.to_buckets(&ledger, &progress).await?;
    progress.finish();
    Ok(send::show(global, &made))
}
