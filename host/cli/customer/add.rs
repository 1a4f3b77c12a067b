//! `consign customer add`: one profile, or those of a list.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::change::Change;
use super::edit::{self, NotEdited};
use super::import;
use super::profile::{Profile, pair, param, place};
use crate::cli::Global;
use crate::cli::history::parsed;
use crate::cli::output::{self, CliError, Exit, count, line, table};
use crate::config::Config;
use crate::domain::CustomerName;

#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["name", "from"]))]
pub struct AddArgs {
    /// What the customer is called here: a-z, 0-9, '-' and '_'.
    #[arg(value_parser = parsed(CustomerName::parse))]
    name: Option<CustomerName>,
    /// Import many: a CSV with a line of headings, or JSON. docs/onboarding.md has both.
    ///
    /// All of them or none: every mistake is told with its line and column. What is there
    /// already as it is in the list is left alone.
    #[arg(long, value_name = "FILE", conflicts_with_all = OF_ONE)]
    from: Option<PathBuf>,
    /// Leave this column of the list out.
    #[arg(long, value_name = "COLUMN", requires = "from")]
    ignore: Vec<String>,
    /// The role that consign takes on, in the customer's account.
    #[arg(long, value_name = "ARN", conflicts_with = "account", required_unless_present_any = ["account", "from"])]
    role_arn: Option<String>,
    /// The customer's account, 12 digits, if the role is yet to be made: it is then called consign-NAME.
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// One that the vendor has made for this customer before, and that the role asks for. Never
    /// one that the customer has chosen. [default: a new one]
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// The customer's bucket.
    #[arg(long, required_unless_present = "from")]
    bucket: Option<String>,
    /// The bucket's region.
    #[arg(long, required_unless_present = "from")]
    region: Option<String>,
    /// The folder in the bucket that consign may write to; '' is the whole bucket.
    /// [default: consign/NAME/]
    #[arg(long)]
    prefix: Option<String>,
    /// Tags by which shares name many customers.
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    groups: Vec<String>,
    /// A value for queries and tenant columns. What reads as a number, boolean, instant or
    /// array of TOML is one; anything else is text, as is what is between double quotes, and
    /// a number that is written in another way than usual (007, 42_7, 0x10, +5, 1.50).
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
    /// The account that the bucket belongs to, if it is not that of the role.
    #[arg(long, value_name = "ID")]
    bucket_owner: Option<String>,
    /// `s3`, `kms`, or the key of KMS to encrypt with. [default: the bucket's own]
    #[arg(long, value_name = "KEY")]
    encryption: Option<String>,
    /// S3 storage class.
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,
    /// `bucket-owner-full-control`, which is mostly not needed.
    #[arg(long)]
    acl: Option<String>,
    /// A tag of each object.
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// Check and tell what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What makes no sense with a list.
const OF_ONE: [&str; 14] = [
    "name",
    "role_arn",
    "account",
    "external_id",
    "bucket",
    "region",
    "prefix",
    "groups",
    "params",
    "bucket_owner",
    "encryption",
    "storage_class",
    "acl",
    "tags",
];

/// A profile that was written, or would be.
#[derive(Serialize)]
pub struct Added {
    customer: CustomerName,
    file: PathBuf,
    external_id: String,
    role_arn: String,
    bucket: String,
    region: String,
    prefix: String,
}

#[derive(Serialize)]
struct Report {
    /// False with `--dry-run`.
    written: bool,
    customers: Vec<Added>,
    /// Those of the list that were there already.
    unchanged: Vec<CustomerName>,
}

pub fn add(global: &Global, args: &AddArgs) -> Result<Exit, CliError> {
    let mut change = Change::begin(global)?;
    let before = change.survey()?.0;
    let (new, unchanged, config) = match (&args.from, &args.name) {
        (Some(list), _) => import::import(&mut change, &before, list, &args.ignore)?,
        (None, Some(name)) => {
            let profile = asked_for(args, name)?;
            let path = put(&mut change, &before, &profile)?;
            let config = change.checked()?;
            (vec![(profile.name, path)], Vec::new(), config)
        }
        (None, None) => return Err(CliError::new(Exit::Usage, "nobody is named", "give a NAME, or --from FILE")),
    };
    output::warnings(&config.warnings);
    let customers: Vec<Added> = new.into_iter().filter_map(|(name, path)| added(&config, &name, path)).collect();
    if !args.dry_run {
        change.write()?;
    }
    show(global, &Report { written: !args.dry_run, customers, unchanged });
    Ok(Exit::Done)
}

fn asked_for(args: &AddArgs, name: &CustomerName) -> Result<Profile, CliError> {
    let new = Profile::new(name.clone())?;
    Ok(Profile {
        role_arn: args.role_arn.clone(),
        account: args.account.clone(),
        external_id: args.external_id.clone().unwrap_or(new.external_id),
        bucket: args.bucket.clone(),
        bucket_owner: args.bucket_owner.clone(),
        region: args.region.clone(),
        prefix: args.prefix.clone(),
        groups: args.groups.clone(),
        params: args.params.iter().map(|(name, value)| (name.clone(), param(value))).collect(),
        encryption: args.encryption.clone(),
        storage_class: args.storage_class.clone(),
        acl: args.acl.clone(),
        tags: args.tags.clone(),
        ..new
    })
}

/// Puts a profile where it belongs, and says where that is.
pub fn put(change: &mut Change, config: &Config, profile: &Profile) -> Result<PathBuf, CliError> {
    let name = profile.name.as_str();
    if config.has(&["customers", name]) {
        let there = config.locate(&["customers", name]);
        let message = format!("there is a customer '{name}' already, in {}:{}", there.path().display(), there.line());
        let help = format!("`consign customer show {name}` shows it; give the new one another name");
        return Err(CliError::new(Exit::Failed, message, help));
    }
    let path = place(config, &profile.name)?;
    let text = change.text(&path)?;
    let text = if text.is_empty() { edit::new_file(profile) } else { edit::with(&text, profile) };
    change.set(&path, text.map_err(|error| not_edited(&path, &error))?);
    Ok(path)
}

pub fn not_edited(path: &Path, error: &NotEdited) -> CliError {
    let message = format!("cannot edit {}: {error}", path.display());
    CliError::new(Exit::Failed, message, "nothing is written; do it with an editor")
}

fn added(config: &Config, name: &CustomerName, file: PathBuf) -> Option<Added> {
    let customer = config.customers.get(name)?;
    Some(Added {
        customer: name.clone(),
        file,
        external_id: customer.external_id.as_ref()?.to_string(),
        role_arn: customer.role_arn.to_string(),
        bucket: customer.bucket.to_string(),
        region: customer.region.to_string(),
        prefix: customer.prefix.to_string(),
    })
}

fn show(global: &Global, report: &Report) {
    if global.json {
        return output::json(report);
    }
    let Report { written, customers, unchanged } = report;
    if let ([one], true) = (customers.as_slice(), unchanged.is_empty()) {
        show_one(one, *written);
    } else {
        if !customers.is_empty() {
            let row = |added: &Added| {
                let file = added.file.display().to_string();
                vec![added.customer.to_string(), added.role_arn.clone(), added.external_id.clone(), file]
            };
            table(&["CUSTOMER", "ROLE", "EXTERNAL ID", "FILE"], &customers.iter().map(row).collect::<Vec<_>>());
        }
        let done = if *written { "added" } else { "would be added" };
        let left = match unchanged.len() {
            0 => String::new(),
            there => {
                format!(", {} there already", if there == 1 { "1 was".to_owned() } else { format!("{there} were") })
            }
        };
        line(&format!("{} {done}{left}", count(customers.len(), "customer")));
    }
    if *written && !customers.is_empty() {
        let name = if let [one] = customers.as_slice() { one.customer.as_str() } else { "NAME" };
        line("");
        line("next:");
        output::rows(
            &[
                [format!("  consign customer pack {name}"), "what the customer sets up on its side".to_owned()],
                [
                    format!("  consign preflight {name}"),
                    "once that is done: does it work, and nothing else?".to_owned(),
                ],
                ["  consign reload".to_owned(), "the running daemon goes over to it".to_owned()],
            ]
            .map(Vec::from),
        );
    }
}

fn show_one(added: &Added, written: bool) {
    let done = if written { "is in" } else { "would be in" };
    line(&format!("customer {} {done} {}", added.customer, added.file.display()));
    line(&format!("    role         {}", added.role_arn));
    // Of a dry run it is another one each time.
    if written {
        line(&format!("    external ID  {}", added.external_id));
    }
    line(&format!("    writes to    s3://{}/{} in {}", added.bucket, added.prefix, added.region));
}
