//! `consign customer list`

use serde::Serialize;

use super::shares_of;
use crate::cli::output::{self, CliError, Exit, line, table};
use crate::cli::{Global, setup};
use crate::config::{Config, Customer};
use crate::domain::{CustomerName, ShareName};

#[derive(Serialize)]
struct Listed {
    customer: CustomerName,
    account: String,
    role_arn: String,
    bucket: String,
    region: String,
    prefix: String,
    groups: Vec<String>,
    shares: Vec<ShareName>,
    /// `yes`, `no`, or `changing` while there is a next one.
    external_id: &'static str,
}

pub fn list(global: &Global) -> Result<Exit, CliError> {
    let config = setup::config_as_it_is(global)?;
    let listed: Vec<Listed> = config.customers.values().map(|customer| listed(&config, customer)).collect();
    if global.json {
        output::json(&listed);
        return Ok(Exit::Done);
    }
    if listed.is_empty() {
        line("no customers yet; `consign customer add` makes the first one");
        return Ok(Exit::Done);
    }
    let row = |row: &Listed| {
        let joined = |words: &[&str]| if words.is_empty() { "-".to_owned() } else { words.join(", ") };
        let prefix = if row.prefix.is_empty() { "(whole bucket)" } else { &row.prefix };
        vec![
            row.customer.to_string(),
            row.account.clone(),
            row.bucket.clone(),
            row.region.clone(),
            prefix.to_owned(),
            joined(&row.groups.iter().map(String::as_str).collect::<Vec<_>>()),
            joined(&row.shares.iter().map(ShareName::as_str).collect::<Vec<_>>()),
            row.external_id.to_owned(),
        ]
    };
    table(
        &["CUSTOMER", "ACCOUNT", "BUCKET", "REGION", "PREFIX", "GROUPS", "SHARES", "EXTERNAL ID"],
        &listed.iter().map(row).collect::<Vec<_>>(),
    );
    Ok(Exit::Done)
}

fn listed(config: &Config, customer: &Customer) -> Listed {
    Listed {
        customer: customer.name.clone(),
        account: customer.role_arn.account_id().to_string(),
        role_arn: customer.role_arn.to_string(),
        bucket: customer.bucket.to_string(),
        region: customer.region.to_string(),
        prefix: customer.prefix.to_string(),
        groups: customer.groups.iter().map(ToString::to_string).collect(),
        shares: shares_of(config, customer).into_iter().map(|(share, _)| share).collect(),
        external_id: match (&customer.external_id, &customer.next_external_id) {
            (_, Some(_)) => "changing",
            (Some(_), None) => "yes",
            (None, None) => "no",
        },
    }
}
