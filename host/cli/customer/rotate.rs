//! `consign customer rotate-external-id`: another external ID, in two steps.
//!
//! AWS cannot change a trust policy and a profile at the same moment. So the role first
//! accepts both IDs, then consign goes over to the new one, and only then does the old
//! one leave the trust policy: at no moment is a session refused.

use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::add::not_edited;
use super::change::Change;
use super::edit;
use super::named;
use super::pack::principal;
use super::profile::new_external_id;
use crate::cli::history::parsed;
use crate::cli::output::{self, CliError, Exit, line};
use crate::cli::{Global, setup};
use crate::clock::Clock;
use crate::config::{Config, Customer};
use crate::delivery::Vendor;
use crate::domain::{Principal, RunId};
use crate::policy;

#[derive(Args)]
pub struct RotateArgs {
    /// The customer.
    name: String,
    /// The customer's role accepts both IDs: try the new one, and go over to it.
    #[arg(long)]
    finish: bool,
    /// Go over without trying whether the role accepts the new ID.
    #[arg(long, requires = "finish")]
    untried: bool,
    /// Forget the new ID; the one until now stays.
    #[arg(long, conflicts_with = "finish")]
    abandon: bool,
    /// Whom the trust policy names, as for `pack`.
    #[arg(long, value_name = "ARN", value_parser = parsed(Principal::parse))]
    vendor: Option<Principal>,
}

pub async fn rotate(global: &Global, args: &RotateArgs) -> Result<Exit, CliError> {
    let change = Change::begin(global)?;
    let config = setup::config_as_it_is(global)?;
    let customer = named(&config, &args.name)?.clone();
    match (args.finish, args.abandon) {
        (true, _) => finish(global, args, change, &config, &customer).await,
        (_, true) => abandon(global, change, &config, &customer),
        _ => begin(global, args, change, &config, &customer).await,
    }
}

/// The first step. Said again it prints the same again.
async fn begin(
    global: &Global,
    args: &RotateArgs,
    change: Change,
    config: &Config,
    customer: &Arc<Customer>,
) -> Result<Exit, CliError> {
    // Asked before anything is written.
    let principal = principal(config, customer, args.vendor.as_ref()).await?;
    let is_new = customer.next_external_id.is_none();
    let customer = if is_new {
        let id = new_external_id()?;
        let config = written(change, config, customer, &[("next_external_id", Some(&id))])?;
        named(&config, customer.name.as_str())?.clone()
    } else {
        customer.clone()
    };
    let trusting = Customer { trusts: Some(principal), ..Customer::clone(&customer) };
    let trust = policy::trust(&trusting, None);
    if global.json {
        output::json(&told(&customer, is_new, &trust));
        return Ok(Exit::Done);
    }
    let name = &customer.name;
    let next = customer.next_external_id.as_ref().map(ToString::to_string).unwrap_or_default();
    line(&format!("the next external ID of {name} is {next}{}", if is_new { "" } else { " already" }));
    line("");
    if customer.external_id.is_some() {
        line(&format!(
            "1. ask the customer to make this the trust policy of {}; it takes both IDs{}:",
            customer.role_arn,
            policy::also_trusts(&customer)
        ));
        line("");
        line(&policy::pretty(&trust));
        line("");
        line("   deliveries go on with the ID until now; nothing has to be reloaded.");
    } else if customer.role_asks() {
        line(&format!(
            "1. unless {} asks for no external ID at all so far, ask the customer to make this its trust policy{}:",
            customer.role_arn,
            policy::also_trusts(&customer)
        ));
        line("");
        line(&policy::pretty(&trust));
    } else {
        line("1. the role asks for no external ID so far, so it takes the new one already; nothing to do.");
    }
    line("");
    line(&format!("2. then: consign customer rotate-external-id {name} --finish"));
    Ok(Exit::Done)
}

/// The second step: the new ID takes the place of the old one.
async fn finish(
    global: &Global,
    args: &RotateArgs,
    change: Change,
    config: &Config,
    customer: &Arc<Customer>,
) -> Result<Exit, CliError> {
    let name = &customer.name;
    let Some(next) = &customer.next_external_id else {
        let message = format!("customer {name} has no next external ID to go over to");
        let help = format!("`consign customer rotate-external-id {name}` makes one");
        return Err(CliError::new(Exit::Failed, message, help));
    };
    let then = Customer { external_id: Some(next.clone()), next_external_id: None, ..Customer::clone(customer) };
    if !args.untried {
        accepted(config, &Arc::new(then.clone()), customer).await?;
    }
    let principal = principal(config, customer, args.vendor.as_ref()).await?;
    written(
        change,
        config,
        customer,
        &[("external_id", Some(next.as_str())), ("next_external_id", None), ("allow_missing_external_id", None)],
    )?;
    let trust = policy::trust(&Customer { trusts: Some(principal), ..then.clone() }, None);
    if global.json {
        output::json(&told(&then, true, &trust));
        return Ok(Exit::Done);
    }
    let tried = if args.untried { "; whether its role accepts it was not tried" } else { ", which its role accepts" };
    line(&format!("the external ID of {name} is {next}{tried}"));
    line("");
    line("1. consign reload --wait");
    line("2. when what began before has ended (`consign status`): ask the customer to make this the trust");
    line(&format!("   policy of {}, without the old ID{}:", customer.role_arn, policy::also_trusts(customer)));
    line("");
    line(&policy::pretty(&trust));
    Ok(Exit::Done)
}

/// A session with the new ID is opened, and let go.
async fn accepted(config: &Config, then: &Arc<Customer>, now: &Customer) -> Result<(), CliError> {
    let clock = Clock::system();
    let run = RunId::new(clock.now());
    let vendor = Vendor::new(&config.aws, 1, clock).await.map_err(|error| CliError::internal("[aws]", &error))?;
    vendor.can_assume(then, run).await.map_err(|failure| {
        let message = format!("nothing is changed, because the new external ID does not open a session: {failure}");
        // The trust policy that takes both, not the new one alone.
        let help = format!(
            "the role has to accept both IDs first; `consign customer rotate-external-id {}` prints the trust policy for that",
            now.name
        );
        CliError::new(Exit::Failed, message, help)
    })
}

fn abandon(global: &Global, change: Change, config: &Config, customer: &Customer) -> Result<Exit, CliError> {
    let is_there = customer.next_external_id.is_some();
    if is_there {
        written(change, config, customer, &[("next_external_id", None)])?;
    }
    if global.json {
        output::json(&json!({ "customer": customer.name, "changed": is_there }));
    } else if is_there {
        line(&format!("customer {} keeps its external ID; the next one is forgotten", customer.name));
    } else {
        line(&format!("customer {} has no next external ID", customer.name));
    }
    Ok(Exit::Done)
}

/// Sets and removes keys of the profile. Returns the configuration as it is then. What is wrong
/// elsewhere in it is no reason to leave an external ID as it is.
fn written(
    mut change: Change,
    config: &Config,
    customer: &Customer,
    keys: &[(&str, Option<&str>)],
) -> Result<Config, CliError> {
    let name = customer.name.as_str();
    let path = config.locate(&["customers", name]).path().to_owned();
    let (_, already) = change.survey()?;
    for (key, to) in keys {
        let text = edit::set(&change.text(&path)?, name, key, *to).map_err(|error| not_edited(&path, &error))?;
        change.set(&path, text);
    }
    let config = change.checked_besides(&already)?;
    change.write()?;
    Ok(config)
}

fn told(customer: &Customer, changed: bool, trust: &Value) -> Value {
    json!({
        "customer": customer.name,
        "changed": changed,
        "external_id": customer.external_id.as_ref().map(|id| id.as_str()),
        "next_external_id": customer.next_external_id.as_ref().map(|id| id.as_str()),
        "role_arn": customer.role_arn.as_str(),
        "trust_policy": trust,
    })
}
