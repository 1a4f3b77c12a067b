//! `consign cancel`: the deliveries of a run are ended.

use clap::Args;

use super::client::{AT_ONCE, Client};
use super::output::{self, CliError, Exit, line};
use super::{Global, setup};
use crate::clock::Clock;
use crate::crash::{self, Point};
use crate::daemon::admin::ask::{Ask, Told};
use crate::daemon::by_hand;
use crate::domain::CustomerName;
use crate::ledger::Cancelled;
use crate::run::wanted;

#[derive(Args)]
pub struct CancelArgs {
    /// The run's id, from `consign status`; its first characters will do if no other run has them.
    run: String,
    /// Only for this customer; may be given more than once.
    #[arg(long = "customer", value_name = "CUSTOMER")]
    customers: Vec<String>,
    /// Why, for those who read the record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub async fn cancel(global: &Global, args: &CancelArgs) -> Result<Exit, CliError> {
    let told = match Client::connect(global).await? {
        Some(client) => {
            let (run, customers, reason) = (args.run.clone(), args.customers.clone(), args.reason.clone());
            client.ask(Ask::Cancel { run, customers, reason }, AT_ONCE, drop).await?
        }
        None => in_the_ledger(global, args).await?,
    };
    if global.json {
        output::json(&told);
        return Ok(Exit::Done);
    }
    let Told { run, cancelled, sealed, ended, elsewhere } = told;
    let say = |customers: &[CustomerName], what: &str| {
        customers.iter().for_each(|customer| line(&format!("  {customer:<14} {what}")));
    };
    line(&format!("run {run}"));
    match &elsewhere {
        None => say(&cancelled, "is ended"),
        Some(node) => say(&cancelled, &format!("is to be ended by {node}, which has it")),
    }
    say(&sealed, "is stored whole, and completes; `consign show` tells of one in doubt");
    say(&ended, "had ended before");
    Ok(Exit::Done)
}

/// Nobody is at work here, so that there is only the record to change.
async fn in_the_ledger(global: &Global, args: &CancelArgs) -> Result<Told, CliError> {
    let config = setup::config(global)?;
    let ledger = setup::idle_ledger(&config, &Clock::system())?;
    let reader = ledger.reader();
    let detail = reader.run(wanted::run(reader, &args.run).await?).await?;
    by_hand::is_open(&detail)?;
    let customers = wanted::customers_of(&detail, &args.customers)?;
    let run = detail.run.run;
    let who = by_hand::named(rustix::process::geteuid().as_raw());
    let why = by_hand::cancelled_by(&who, args.reason.as_deref(), run);
    let Cancelled { marked, sealed, ended, elsewhere } = ledger.give_up(run, customers, why).await?;
    crash::point(Point::GivenUp);
    let cancelled = marked.into_iter().map(|(customer, _)| customer).collect();
    Ok(Told { run, cancelled, sealed, ended, elsewhere })
}
