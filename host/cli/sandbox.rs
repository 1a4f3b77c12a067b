//! `consign sandbox`: S3 and STS on loopback, for trying things.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{CliError, Exit, line};
use super::{Global, serve, setup};
use crate::clock::Clock;
use crate::config::{Config, Customer};
use crate::domain::Secret;
use crate::sandbox::{Account, Bucket, KeyPair, Policy, Role, Sandbox, SandboxConfig, SandboxError, Trust, VENDOR_ARN};

#[derive(Args)]
pub struct SandboxArgs {
    /// What to serve; default: a role and a bucket for each customer of `--config`.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where objects are kept, as DIR/BUCKET/KEY.
    /// [default: what FILE says, or `sandbox`]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A loopback address; port 0 takes a free one.
    /// [default: what FILE says, or 127.0.0.1:5580]
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    listen: Option<SocketAddr>,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "write an address and a port, as in 127.0.0.1:0".to_owned())?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("the sandbox's keys are known to everyone, so it listens on 127.0.0.1 or [::1] only".into()),
    }
}

const DIR: &str = "sandbox";
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5580);

/// The vendor's keys at a sandbox that nobody else configured. They open nothing else.
pub const ACCESS_KEY_ID: &str = "AKIACONSIGNSANDBOX00";
pub const SECRET_ACCESS_KEY: &str = "consign-sandbox-secret";

pub async fn sandbox(global: &Global, args: &SandboxArgs) -> Result<Exit, CliError> {
    let config = match &args.file {
        Some(file) => from_file(file, args)?,
        None => {
            let dir = args.dir.as_deref().unwrap_or(Path::new(DIR));
            for_customers(&setup::config(global)?, dir, args.listen.unwrap_or(LISTEN))?
        }
    };
    let dir = config.dir.clone();
    let (key, secret) = (config.vendor.access_key_id.clone(), config.vendor.secret_access_key.clone());
    let buckets: Vec<String> =
        config.accounts.iter().flat_map(|account| &account.buckets).map(|bucket| bucket.name.clone()).collect();
    let sandbox = start(config).await?;
    let endpoint = sandbox.endpoint().to_string();
    let endpoint = endpoint.trim_end_matches('/');
    if global.json {
        line(&serde_json::json!({ "endpoint": endpoint, "dir": dir, "buckets": buckets }).to_string());
    } else {
        line(&format!("S3 and STS at {endpoint}, objects in {}", dir.display()));
        line(&format!("buckets: {}", buckets.join(", ")));
        line(&format!("  [aws] endpoint_url = \"{endpoint}\""));
        // These keys open the sandbox and nothing else, so showing them is the point.
        line(&format!("  AWS_ACCESS_KEY_ID={key}"));
        line(&format!("  AWS_SECRET_ACCESS_KEY={}", secret.reveal()));
        line("stop with Ctrl-C");
    }
    serve::told_to_stop().await?;
    sandbox.shutdown().await;
    Ok(Exit::Done)
}

pub async fn start(config: SandboxConfig) -> Result<Sandbox, CliError> {
    Sandbox::start(config, Clock::system()).await.map_err(|error| match error {
        SandboxError::Config(_) => CliError::new(Exit::Config, error.to_string(), "see docs/sandbox.md"),
        error => CliError::internal("the sandbox did not start", &error),
    })
}

fn from_file(file: &Path, args: &SandboxArgs) -> Result<SandboxConfig, CliError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let message = format!("cannot read {}: {}", file.display(), error.kind());
        CliError::new(Exit::Config, message, "write what to serve into it; see docs/sandbox.md")
    })?;
    let mut config = SandboxConfig::from_toml(&text)
        .map_err(|error| CliError::new(Exit::Config, format!("{}: {error}", file.display()), "see docs/sandbox.md"))?;
    if let Some(dir) = &args.dir {
        config.dir.clone_from(dir);
    }
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    Ok(config)
}

/// For each customer an account with the role that the profile names (trusting
/// this vendor with that external ID, allowed to put objects under the prefix)
/// and the bucket.
pub fn for_customers(config: &Config, dir: &Path, listen: SocketAddr) -> Result<SandboxConfig, CliError> {
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    for customer in config.customers.values() {
        let id = customer.role_arn.account_id().to_string();
        let empty = Account { id: id.clone(), root: None, roles: Vec::new(), buckets: Vec::new() };
        let account = accounts.entry(id).or_insert(empty);
        let role = customer.role_arn.as_str().rsplit('/').next().unwrap_or_default().to_owned();
        if !account.roles.iter().any(|known| known.name == role) {
            account.roles.push(Role {
                name: role,
                trust: Trust {
                    principal: VENDOR_ARN.into(),
                    external_id: customer.external_id.as_ref().map(|id| id.to_string()),
                },
                policy: may_deliver(customer)?,
                session_seconds_max: 3600,
            });
        }
        if !account.buckets.iter().any(|known| known.name == customer.bucket.as_str()) {
            account.buckets.push(Bucket {
                name: customer.bucket.to_string(),
                region: customer.region.to_string(),
                policy: None,
                acl_enabled: false,
            });
        }
    }
    let vendor = KeyPair { access_key_id: ACCESS_KEY_ID.into(), secret_access_key: Secret::new(SECRET_ACCESS_KEY) };
    Ok(SandboxConfig {
        dir: dir.to_owned(),
        listen,
        vendor,
        vendor_policy: Policy::allow_all(),
        session_seconds_min: 900,
        accounts: accounts.into_values().collect(),
    })
}

/// What consign asks of a customer, and nothing more.
fn may_deliver(customer: &Customer) -> Result<Policy, CliError> {
    let Customer { bucket, prefix, acl, tags, .. } = customer;
    let mut actions = vec!["s3:PutObject"];
    actions.extend(acl.as_ref().map(|_| "s3:PutObjectAcl"));
    actions.extend(tags.first_key_value().map(|_| "s3:PutObjectTagging"));
    let document = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Action": actions,
            "Resource": format!("arn:aws:s3:::{bucket}/{prefix}*"),
        }],
    });
    serde_json::from_value(document).map_err(|error| CliError::internal("the sandbox's own policy is wrong", &error))
}
