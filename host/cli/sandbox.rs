//! `consign sandbox`: S3 and STS on loopback, for trying things.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{self, CliError, Exit, line};
use super::{Global, serve, setup};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::{Failure, Secret};
use crate::sandbox::{KeyPair, Sandbox, SandboxConfig, SandboxError};

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
    // Before it is said that the sandbox is there, or a signal might come too early.
    let stop = serve::told_to_stop()?;
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
    stop.await;
    sandbox.shutdown().await;
    Ok(Exit::Done)
}

pub async fn start(config: SandboxConfig) -> Result<Sandbox, CliError> {
    Sandbox::start(config, Clock::system()).await.map_err(refused)
}

fn from_file(file: &Path, args: &SandboxArgs) -> Result<SandboxConfig, CliError> {
    let (mut config, warnings) = SandboxConfig::load(file).map_err(refused)?;
    output::warnings(&warnings);
    if let Some(dir) = &args.dir {
        config.dir.clone_from(dir);
    }
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    Ok(config)
}

/// A role and a bucket for each customer, and the vendor with the keys above.
pub fn for_customers(config: &Config, dir: &Path, listen: SocketAddr) -> Result<SandboxConfig, CliError> {
    let vendor = KeyPair { access_key_id: ACCESS_KEY_ID.into(), secret_access_key: Secret::new(SECRET_ACCESS_KEY) };
    SandboxConfig::for_customers(config, vendor, dir.to_owned(), listen).map_err(refused)
}

fn refused(error: SandboxError) -> CliError {
    match error {
        SandboxError::File(errors) => errors.into(),
        SandboxError::Config(problems) => {
            CliError::new(Exit::Config, problems.join("; "), "correct it, or serve another set-up with --file")
        }
        SandboxError::Unreadable { .. } => {
            CliError::new(Exit::Config, Failure::chain(&error), "name the sandbox's file with --file")
        }
        SandboxError::Held { .. } | SandboxError::Dir { .. } | SandboxError::Listen { .. } => {
            CliError::new(Exit::Internal, Failure::chain(&error), "")
        }
        SandboxError::Service { .. } => CliError::internal("the sandbox did not start", &error),
    }
}
