//! `consign settle`: somebody knows what became of a delivery in doubt, or that one is there no more.

use clap::Args;

use super::client::{AT_ONCE, Client};
use super::output::{self, CliError, Exit, line};
use super::{Global, setup};
use crate::clock::Clock;
use crate::crash::{self, Point};
use crate::daemon::admin::ask::{Ask, Judged};
use crate::daemon::by_hand;
use crate::ledger::Verdict;
use crate::run::wanted;

#[derive(Args)]
pub struct SettleArgs {
    /// The run's id, from `consign status`; its first characters will do if no other run has them.
    run: String,
    /// Only for this customer; may be given more than once. Needed where several deliveries are in doubt, and
    /// of one that is on record as committed.
    #[arg(long = "customer", value_name = "CUSTOMER")]
    customers: Vec<String>,
    /// The manifest is in the bucket: the delivery is on record as committed.
    #[arg(long, required_unless_present = "failed")]
    committed: bool,
    /// The manifest is not there: the delivery has failed, and `retry` begins it again. Also of one that is
    /// on record as committed, and that the customer has lost or deleted.
    #[arg(long, conflicts_with = "committed")]
    failed: bool,
    /// How that is known, for those who read the record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub async fn settle(global: &Global, args: &SettleArgs) -> Result<Exit, CliError> {
    let verdict = if args.committed { Verdict::Committed } else { Verdict::Failed };
    let judged = match Client::connect(global).await? {
        Some(client) => {
            let (run, customers, reason) = (args.run.clone(), args.customers.clone(), args.reason.clone());
            client.ask(Ask::Settle { run, customers, verdict, reason }, AT_ONCE, drop).await?
        }
        None => in_the_ledger(global, args, verdict).await?,
    };
    if global.json {
        output::json(&judged);
        return Ok(Exit::Done);
    }
    let Judged { run, customers, lacking, .. } = judged;
    line(&format!("run {run}"));
    for customer in customers {
        match verdict {
            Verdict::Committed => line(&format!("  {customer:<14} is on record as delivered")),
            Verdict::Failed => {
                let again = format!("`consign retry {run} --customer {customer}` begins it again");
                line(&format!("  {customer:<14} is on record as failed: {again}"));
            }
        }
    }
    for key in lacking {
        line(&format!("  what comes after the manifest may be missing: {key}"));
    }
    Ok(Exit::Done)
}

/// Nobody is at work here, so that there is only the record to change.
async fn in_the_ledger(global: &Global, args: &SettleArgs, verdict: Verdict) -> Result<Judged, CliError> {
    let config = setup::config(global)?;
    let ledger = setup::idle_ledger(&config, &Clock::system())?;
    let reader = ledger.reader();
    let detail = reader.run(wanted::run(reader, &args.run).await?).await?;
    let run = detail.run.run;
    let deliveries = by_hand::to_settle(&detail, &args.customers, verdict)?;
    let customers = deliveries.into_iter().map(|named| named.customer).collect();
    let who = by_hand::named(rustix::process::geteuid().as_raw());
    let saying = by_hand::saying(&who, verdict, args.reason.as_deref());
    match ledger.settle_idle(run, customers, saying).await? {
        Ok(settled) => {
            crash::point(Point::Settled);
            Ok(Judged::of(run, verdict, settled))
        }
        Err(why) => Err(by_hand::unsettled(run, why).into()),
    }
}
