//! `consign customer remove`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::add::not_edited;
use super::change::Change;
use super::{By, edit, named, shares_of};
use crate::cli::output::{self, CliError, Exit, line};
use crate::cli::{Global, setup};
use crate::config::{Config, Customer};
use crate::domain::ShareName;

#[derive(Args)]
pub struct RemoveArgs {
    /// The customer.
    name: String,
    /// Take it out of the `to` of shares that name it, too.
    #[arg(long)]
    force: bool,
    /// Check and tell what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

pub fn remove(global: &Global, args: &RemoveArgs) -> Result<Exit, CliError> {
    let mut change = Change::begin(global)?;
    let config = setup::config_as_it_is(global)?;
    let customer = named(&config, &args.name)?.clone();
    let shares = shares_of(&config, &customer);
    let naming: Vec<&ShareName> = shares.iter().filter(|(_, by)| *by == By::Name).map(|(share, _)| share).collect();
    if !naming.is_empty() && !args.force {
        return Err(named_still(&config, &customer, &naming));
    }
    for share in &naming {
        leave_out(&mut change, &config, share, &customer)?;
    }
    let file = take_out(&mut change, &config, &customer)?;
    change.checked()?;
    if !args.dry_run {
        change.write()?;
    }
    let name = &customer.name;
    if global.json {
        output::json(&json!({
            "customer": name,
            "written": !args.dry_run,
            "file": file,
            "left_out_of": naming,
            "role_arn": customer.role_arn.as_str(),
            "bucket": customer.bucket.as_str(),
            "prefix": customer.prefix.as_str(),
        }));
        return Ok(Exit::Done);
    }
    let done = if args.dry_run { "would be removed from" } else { "is removed from" };
    line(&format!("customer {name} {done} {}", file.display()));
    for (share, by) in &shares {
        match by {
            By::Name => line(&format!("    share {share} names it no more")),
            by => line(&format!("    share {share} went to it {by}")),
        }
    }
    line("");
    line("next:");
    line("  consign reload        what is at work for it still ends");
    line("  the customer may then delete, if nothing else uses them:");
    line(&format!("    the role {} and its policies", customer.role_arn));
    line(&format!("    in bucket {}: the statement for the role in its policy", customer.bucket));
    line("    in the policy of its KMS key: the statement for the role");
    line(&format!(
        "    8 days later, in bucket {}: the lifecycle rule consign-{name}, which ends what",
        customer.bucket
    ));
    line("    uploads consign can end no more");
    line(&format!("  what was delivered stays: s3://{}/{} is the customer's", customer.bucket, customer.prefix));
    Ok(Exit::Done)
}

fn named_still(config: &Config, customer: &Customer, naming: &[&ShareName]) -> CliError {
    let place = |share: &&ShareName| {
        let at = config.locate(&["shares", share.as_str(), "to", "customers"]);
        format!("{share} ({}:{})", at.path().display(), at.line())
    };
    let shares: Vec<String> = naming.iter().map(place).collect();
    let noun = if shares.len() == 1 { "share names" } else { "shares name" };
    let message = format!("{} {noun} customer {}: {}", shares.len(), customer.name, shares.join(", "));
    CliError::new(Exit::Failed, message, "nothing is written; take it out of their `to`, or have --force do that")
}

fn leave_out(change: &mut Change, config: &Config, share: &ShareName, customer: &Customer) -> Result<(), CliError> {
    let path = config.locate(&["shares", share.as_str()]).path().to_owned();
    let text = edit::left_out(&change.text(&path)?, share.as_str(), customer.name.as_str());
    match text.map_err(|error| not_edited(&path, &error))? {
        Some(text) => change.set(&path, text),
        None => {
            let message = format!("share {share} names {} in a way that cannot be edited here", customer.name);
            return Err(CliError::new(Exit::Failed, message, "nothing is written; do it with an editor"));
        }
    }
    Ok(())
}

/// A file that then says nothing more goes too, unless it is named one by one.
fn take_out(change: &mut Change, config: &Config, customer: &Customer) -> Result<PathBuf, CliError> {
    let path = config.locate(&["customers", customer.name.as_str()]).path().to_owned();
    let text = change.text(&path)?;
    let (rest, is_empty) = edit::without(&text, customer.name.as_str()).map_err(|error| not_edited(&path, &error))?;
    if is_empty
        && path != config.path()
        && config.includes(&path)
        && path.file_stem().is_some_and(|stem| stem == customer.name.as_str())
    {
        change.remove(&path);
    } else {
        change.set(&path, rest);
    }
    Ok(path)
}
