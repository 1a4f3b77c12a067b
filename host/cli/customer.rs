//! `consign customer`: profiles, from the first word with a customer to the last.

mod add;
mod change;
mod edit;
mod import;
mod list;
mod pack;
mod profile;
mod remove;
mod rotate;
mod rows;
mod show;

use std::sync::Arc;

use clap::Subcommand;

use super::output::{CliError, Exit};
use super::{Global, setup};
use crate::config::{Config, Customer, near};
use crate::domain::{CustomerName, ShareName};

#[derive(Subcommand)]
pub enum CustomerCommand {
    /// Write a new customer's profile, with an external ID of its own; or many from a list.
    ///
    /// All of the configuration is checked with it first; with an error in it nothing is
    /// written. docs/onboarding.md leads from there to the first delivery.
    Add(Box<add::AddArgs>),
    /// List the customers, where their data goes and which shares they get.
    List,
    /// Show one customer: profile, shares, last deliveries.
    Show(show::ShowArgs),
    /// Give a customer another external ID, in two steps, without a delivery that fails.
    ///
    /// The first time it makes the new ID and prints the trust policy that takes both.
    /// When the customer has put that in place, `--finish` tries the new ID and goes over
    /// to it.
    RotateExternalId(rotate::RotateArgs),
    /// Remove a customer's profile.
    Remove(remove::RemoveArgs),
    /// Print all that a customer needs to set up its side: role, policies, instructions.
    Pack(pack::PackArgs),
}

pub fn customer(global: &Global, command: &CustomerCommand) -> Result<Exit, CliError> {
    match command {
        CustomerCommand::Add(args) => add::add(global, args),
        CustomerCommand::List => list::list(global),
        CustomerCommand::Show(args) => setup::block_on(show::show(global, args)),
        CustomerCommand::RotateExternalId(args) => setup::block_on(rotate::rotate(global, args)),
        CustomerCommand::Remove(args) => remove::remove(global, args),
        CustomerCommand::Pack(args) => setup::block_on(pack::pack(global, args)),
    }
}

/// The customer of this name, or which was probably meant.
pub(super) fn named<'a>(config: &'a Config, name: &str) -> Result<&'a Arc<Customer>, CliError> {
    if let Some(customer) = config.customers.get(name) {
        return Ok(customer);
    }
    if config.has(&["customers", name]) {
        let message = format!("the profile of customer '{name}' has an error in it");
        return Err(CliError::new(Exit::Config, message, "`consign check` tells it"));
    }
    let names = || config.customers.keys().map(CustomerName::as_str);
    let help = match near(name, names()) {
        Some(meant) => format!("did you mean '{meant}'?"),
        None if config.customers.is_empty() => "`consign customer add` makes the first one".to_owned(),
        None => "`consign customer list` lists them".to_owned(),
    };
    Err(CliError::new(Exit::Failed, format!("there is no customer '{name}'"), help))
}

/// How a share comes to a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    /// It is named.
    Name,
    /// It is in these groups.
    Groups(Vec<String>),
    /// All get it.
    All,
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            By::Name => f.write_str("by name"),
            By::Groups(groups) => {
                write!(f, "by {} {}", if groups.len() == 1 { "group" } else { "groups" }, groups.join(", "))
            }
            By::All => f.write_str("as all do"),
        }
    }
}

/// The shares that go to a customer, and how each comes to it.
fn shares_of(config: &Config, customer: &Customer) -> Vec<(ShareName, By)> {
    let to_it = config.shares.values().filter(|share| share.goes_to(&customer.name));
    to_it.map(|share| (share.name.clone(), how(config, &share.name, customer))).collect()
}

fn how(config: &Config, share: &ShareName, customer: &Customer) -> By {
    let to = config.texts(&["shares", share.as_str(), "to", "customers"]);
    if to.iter().any(|name| name == customer.name.as_str()) {
        return By::Name;
    }
    let groups = config.texts(&["shares", share.as_str(), "to", "groups"]);
    let own = |group: &String| customer.groups.iter().any(|own| own.as_str() == group);
    match groups.into_iter().filter(own).collect::<Vec<_>>() {
        groups if groups.is_empty() => By::All,
        groups => By::Groups(groups),
    }
}
