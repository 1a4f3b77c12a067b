//! `consign customer pack`: what a customer is handed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::named;
use crate::cli::history::parsed;
use crate::cli::output::{self, CliError, Exit, line};
use crate::cli::{Global, setup};
use crate::clock::Clock;
use crate::config::{Aws, Config, Customer};
use crate::delivery::Vendor;
use crate::domain::Principal;
use crate::pack::{self, Pack};
use crate::policy;

#[derive(Args)]
pub struct PackArgs {
    /// The customer.
    name: String,
    /// What to print; with --dir: what to write, otherwise all of it.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write files into this directory instead; it is made when it is not there.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Whom the trust policy names: an account's 12 digits, or the ARN of a role or user.
    /// [default: `[aws] principal`, or the account that consign runs as, which STS is asked for]
    #[arg(long, value_name = "ARN", value_parser = parsed(Principal::parse))]
    vendor: Option<Principal>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Instructions with policies to paste (default).
    Text,
    /// The same for a mail or a ticket.
    Markdown,
    /// A CloudFormation template in YAML.
    #[value(name = "cloudformation")]
    CloudFormation,
    /// A Terraform module.
    Terraform,
    /// A shell script of AWS CLI commands.
    Cli,
}

impl From<Format> for pack::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Markdown => Self::Markdown,
            Format::CloudFormation => Self::CloudFormation,
            Format::Terraform => Self::Terraform,
            Format::Cli => Self::Cli,
        }
    }
}

pub async fn pack(global: &Global, args: &PackArgs) -> Result<Exit, CliError> {
    let config = setup::config_as_it_is(global)?;
    let customer = named(&config, &args.name)?;
    // What is handed out to be put in place must not open, or shut, the role of another.
    if let Some(half_open) = customer.half_open() {
        return Err(CliError::new(Exit::Config, half_open.message(), half_open.help()));
    }
    if customer.external_id.is_none() && customer.next_external_id.is_none() {
        output::warn(&format!(
            "customer {} has no external ID, so that the role would trust whoever has consign name it; \
             `consign customer rotate-external-id {}` makes one",
            customer.name, customer.name
        ));
    }
    if let Some((message, help)) = policy::too_long(customer) {
        output::warn(&format!("{message}; {help}"));
    }
    let principal = principal(&config, customer, args.vendor.as_ref()).await?;
    let pack = Pack::new(customer, &principal, config.aws.session_duration.as_secs());
    if let Some(dir) = &args.dir {
        let written = write(&pack, args.format, dir)?;
        if global.json {
            output::json(&serde_json::json!({ "written": written }));
        } else {
            written.iter().for_each(|path| line(&path.display().to_string()));
        }
        return Ok(Exit::Done);
    }
    if global.json {
        output::json(&pack.to_json());
    } else {
        line(pack.write(args.format.unwrap_or(Format::Text).into()).trim_end());
    }
    Ok(Exit::Done)
}

/// Whom the customer's role is to trust: never made up.
pub async fn principal(config: &Config, customer: &Customer, said: Option<&Principal>) -> Result<Principal, CliError> {
    let principal = known(config, said).await?;
    let theirs = customer.role_arn.partition();
    match principal.partition().filter(|own| *own != theirs) {
        Some(own) => {
            let message = format!(
                "the role of customer {} is in the partition {theirs}, and {} in {own}: it can trust nobody there",
                customer.name,
                principal.arn(own)
            );
            let help = format!("deliver to it by a consign of its own, whose identity is in {theirs}");
            Err(CliError::new(Exit::Failed, message, help))
        }
        None => Ok(principal),
    }
}

async fn known(config: &Config, said: Option<&Principal>) -> Result<Principal, CliError> {
    if let Some(principal) = said.or(config.aws.principal.as_ref()) {
        return Ok(principal.clone());
    }
    let caller = caller(&config.aws).await.map_err(|error| {
        let message = format!(
            "it is not known whom customers are to trust, and STS does not tell who consign is: {}",
            error.message
        );
        let help = "write `principal = \"<the account's 12 digits>\"` in [aws], or give --vendor";
        CliError::new(Exit::Failed, message, help)
    })?;
    let principal = Principal::of_caller(&caller).ok_or_else(|| {
        let message = format!("STS says that consign is '{caller}', which names no account");
        CliError::new(
            Exit::Failed,
            message,
            "write `principal = \"<the account's 12 digits>\"` in [aws], or give --vendor",
        )
    })?;
    output::warn(&format!(
        "consign is {caller} here, so customers are to trust its account, {}; `[aws] principal` says so for good",
        principal.account_id()
    ));
    Ok(principal)
}

async fn caller(aws: &Aws) -> Result<String, CliError> {
    let vendor = Vendor::new(aws, 1, Clock::system()).await.map_err(|error| CliError::internal("[aws]", &error))?;
    vendor.caller().await.map_err(CliError::failed)
}

fn write(pack: &Pack<'_>, format: Option<Format>, dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut files: Vec<(String, String)> = Vec::new();
    let formats = format.map_or(Format::value_variants().to_vec(), |format| vec![format]);
    for format in formats.into_iter().map(pack::Format::from) {
        files.push((pack.file_name(format), pack.write(format)));
    }
    if format.is_none() {
        let policies = pack.policies().into_iter();
        files.extend(policies.map(|(name, policy)| (name.to_owned(), policy::pretty(&policy) + "\n")));
    }
    let failed =
        |path: &Path, error: &std::io::Error| CliError::internal(&format!("cannot write {}", path.display()), error);
    std::fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
    let mut written = Vec::new();
    for (name, text) in files {
        let path = dir.join(&name);
        std::fs::write(&path, text).map_err(|error| failed(&path, &error))?;
        if name.ends_with(".sh") {
            let runs = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&path, runs).map_err(|error| failed(&path, &error))?;
        }
        written.push(path);
    }
    Ok(written)
}
