//! A sandbox for the customers of a configuration: to each what its profile asks for, and no more.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::SandboxError;
use super::config::{Account, Bucket, KeyPair, Role, SandboxConfig, Trust, VENDOR_ARN};
use super::policy::{Policy, PolicyError};
use crate::config::{Config, Customer};
use crate::domain::Failure;

/// A role and what its customers want of it; several may share one.
#[derive(Default)]
struct WantedRole {
    external_ids: Vec<String>,
    /// Somebody comes without an external ID, so that none can be asked for.
    is_open: bool,
    statements: Vec<Value>,
}

struct WantedBucket<'a> {
    /// Who wanted it first, and so where and whose it is.
    first: &'a Customer,
    /// Lets roles of other accounts in.
    statements: Vec<Value>,
    acl_enabled: bool,
}

impl SandboxConfig {
    /// For each customer the role that the profile names, trusting the vendor with that external ID
    /// and allowed to put objects under the prefix; and the bucket, in the account of its owner.
    ///
    /// # Errors
    /// Says which profiles cannot be served.
    pub fn for_customers(
        config: &Config,
        vendor: KeyPair,
        dir: PathBuf,
        listen: SocketAddr,
    ) -> Result<Self, SandboxError> {
        let mut problems = Vec::new();
        let (mut roles, mut buckets) = (BTreeMap::new(), BTreeMap::new());
        for customer in config.customers.values() {
            want_role(customer, &mut roles, &mut problems);
            want_bucket(customer, &mut buckets);
        }
        if !problems.is_empty() {
            return Err(SandboxError::Config(problems));
        }
        let longest = u32::try_from(config.aws.session_duration.as_secs()).unwrap_or(u32::MAX);
        let accounts = accounts(roles, buckets, longest.max(3600))
            .map_err(|error| SandboxError::Config(vec![Failure::chain(&error)]))?;
        Ok(Self { dir, listen, vendor, vendor_policy: Policy::allow_all(), session_seconds_min: 900, accounts })
    }
}

fn want_role<'a>(customer: &'a Customer, roles: &mut BTreeMap<&'a str, WantedRole>, problems: &mut Vec<String>) {
    if customer.role_arn.partition() != "aws" {
        problems.push(format!(
            "customer {}: role {} is not in the partition `aws`, the only one that the sandbox has",
            customer.name, customer.role_arn
        ));
    }
    let role = roles.entry(customer.role_arn.as_str()).or_default();
    match &customer.external_id {
        Some(id) => {
            role.external_ids
                .extend([Some(id), customer.next_external_id.as_ref()].into_iter().flatten().map(ToString::to_string));
        }
        None => role.is_open = true,
    }
    role.statements.push(may_deliver(customer));
}

/// All its customers agree whose it is and where: the configuration has made sure.
fn want_bucket<'a>(customer: &'a Customer, buckets: &mut BTreeMap<&'a str, WantedBucket<'a>>) {
    let new = || WantedBucket { first: customer, statements: Vec::new(), acl_enabled: false };
    let bucket = buckets.entry(customer.bucket.as_str()).or_insert_with(new);
    bucket.acl_enabled |= customer.acl.is_some();
    if customer.bucket_owner != customer.role_arn.account_id() {
        let mut statement = may_deliver(customer);
        statement["Principal"] = json!({ "AWS": customer.role_arn.as_str() });
        bucket.statements.push(statement);
    }
}

/// What consign asks of a customer, and nothing more.
fn may_deliver(customer: &Customer) -> Value {
    let Customer { bucket, prefix, acl, tags, .. } = customer;
    let mut actions = vec!["s3:PutObject"];
    actions.extend(acl.as_ref().map(|_| "s3:PutObjectAcl"));
    actions.extend(tags.first_key_value().map(|_| "s3:PutObjectTagging"));
    json!({ "Effect": "Allow", "Action": actions, "Resource": format!("arn:aws:s3:::{bucket}/{prefix}*") })
}

fn accounts(
    roles: BTreeMap<&str, WantedRole>,
    buckets: BTreeMap<&str, WantedBucket<'_>>,
    session_seconds_max: u32,
) -> Result<Vec<Account>, PolicyError> {
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    for (arn, wanted) in roles {
        // As its parser has made sure: `arn:aws:iam::ACCOUNT:role/PATH/NAME`.
        let (head, name) = arn.rsplit_once('/').unwrap_or_default();
        let (id, path) = head.trim_start_matches("arn:aws:iam::").split_once(":role").unwrap_or_default();
        let role = Role {
            path: format!("{path}/"),
            name: name.to_owned(),
            trust: Trust {
                principal: VENDOR_ARN.to_owned(),
                external_ids: if wanted.is_open { Vec::new() } else { wanted.external_ids },
            },
            policy: policy(wanted.statements)?,
            session_seconds_max,
        };
        entry(&mut accounts, id).roles.push(role);
    }
    for (name, wanted) in buckets {
        let bucket = Bucket {
            name: name.to_owned(),
            region: wanted.first.region.to_string(),
            policy: if wanted.statements.is_empty() { None } else { Some(policy(wanted.statements)?) },
            acl_enabled: wanted.acl_enabled,
            kms_key: None,
        };
        entry(&mut accounts, wanted.first.bucket_owner.as_str()).buckets.push(bucket);
    }
    Ok(accounts.into_values().collect())
}

fn entry<'a>(accounts: &'a mut BTreeMap<String, Account>, id: &str) -> &'a mut Account {
    let empty = Account { id: id.to_owned(), root: None, roles: Vec::new(), buckets: Vec::new(), keys: Vec::new() };
    accounts.entry(id.to_owned()).or_insert(empty)
}

fn policy(statements: Vec<Value>) -> Result<Policy, PolicyError> {
    Policy::from_json(json!({ "Version": "2012-10-17", "Statement": statements }))
}
