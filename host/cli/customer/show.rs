//! `consign customer show`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::{By, named, shares_of};
use crate::cli::output::{self, CliError, Exit, bytes, line, thousands};
use crate::cli::{Global, setup};
use crate::clock::{exact, to_the_second};
use crate::config::{Config, Customer, Encryption};
use crate::domain::{CustomerName, Failure, ParamValue, RunId, ShareName};
use crate::ledger::{DeliveryDetail, History, RunDetail};

#[derive(Args)]
pub struct ShowArgs {
    /// The customer.
    name: String,
}

/// Deliveries that are shown.
const SHOWN: usize = 5;

#[derive(Serialize)]
struct Delivered {
    run: RunId,
    share: ShareName,
    slot: String,
    state: String,
    rows: Option<u64>,
    bytes: Option<u64>,
    started: String,
    manifest: Option<String>,
    failure: Option<String>,
}

#[derive(Serialize)]
struct Shown<'a> {
    customer: &'a CustomerName,
    file: PathBuf,
    line: usize,
    profile: Value,
    shares: Vec<ShareName>,
    /// The last ones, newest first. None: the ledger cannot be read.
    deliveries: Option<Vec<Delivered>>,
}

pub async fn show(global: &Global, args: &ShowArgs) -> Result<Exit, CliError> {
    let config = setup::config_as_it_is(global)?;
    let customer = named(&config, &args.name)?;
    let shares = shares_of(&config, customer);
    let deliveries = deliveries(&config, &customer.name).await;
    let place = config.locate(&["customers", customer.name.as_str()]);
    if global.json {
        let deliveries = deliveries.inspect_err(|error| output::warn(&error.message)).ok();
        output::json(&Shown {
            customer: &customer.name,
            file: place.path().to_owned(),
            line: place.line(),
            profile: profile(customer),
            shares: shares.into_iter().map(|(share, _)| share).collect(),
            deliveries,
        });
        return Ok(Exit::Done);
    }
    line(&format!("customer     {}  ({}:{})", customer.name, place.path().display(), place.line()));
    print_profile(customer);
    print_shares(&config, &shares);
    match deliveries {
        Ok(deliveries) => print_deliveries(&deliveries),
        Err(error) => output::warn(&format!("its deliveries are not known: {}", error.message)),
    }
    Ok(Exit::Done)
}

fn profile(customer: &Customer) -> Value {
    let params: serde_json::Map<String, Value> =
        customer.params.iter().map(|(name, value)| (name.clone(), plain(value))).collect();
    json!({
        "role_arn": customer.role_arn.as_str(),
        "account": customer.role_arn.account_id().as_str(),
        "external_id": customer.external_id.as_ref().map(|id| id.as_str()),
        "next_external_id": customer.next_external_id.as_ref().map(|id| id.as_str()),
        "bucket": customer.bucket.as_str(),
        "bucket_owner": customer.bucket_owner.as_str(),
        "region": customer.region.as_str(),
        "prefix": customer.prefix.as_str(),
        "groups": customer.groups,
        "params": params,
        "encryption": encryption(&customer.encryption),
        "storage_class": customer.storage_class,
        "acl": customer.acl,
        "tags": customer.tags,
    })
}

fn plain(value: &ParamValue) -> Value {
    match value {
        ParamValue::Bool(value) => (*value).into(),
        ParamValue::Int(number) => (*number).into(),
        ParamValue::Float(number) => (*number).into(),
        ParamValue::Text(text) => text.as_str().into(),
        ParamValue::Instant(at) => exact(*at).into(),
        ParamValue::List(items) => items.iter().map(plain).collect(),
    }
}

fn encryption(encryption: &Encryption) -> Option<String> {
    match encryption {
        Encryption::Bucket => None,
        Encryption::S3 => Some("s3".into()),
        Encryption::Kms { key: None } => Some("kms".into()),
        Encryption::Kms { key: Some(key) } => Some(format!("kms with {key}")),
    }
}

fn print_profile(customer: &Customer) {
    let say = |what: &str, text: Option<String>| {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            line(&format!("{what:<13}{text}"));
        }
    };
    say("role", Some(customer.role_arn.to_string()));
    let id = customer.external_id.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    say("external ID", Some(id));
    let next = customer.next_external_id.as_ref();
    say("  next", next.map(|id| format!("{id}  (`consign customer rotate-external-id {} --finish`)", customer.name)));
    say("writes to", Some(format!("s3://{}/{} in {}", customer.bucket, customer.prefix, customer.region)));
    let foreign = customer.bucket_owner != customer.role_arn.account_id();
    say("bucket of", foreign.then(|| format!("account {}", customer.bucket_owner)));
    let groups: Vec<String> = customer.groups.iter().map(ToString::to_string).collect();
    say("groups", Some(groups.join(", ")));
    for (name, value) in &customer.params {
        say("param", Some(format!("{name} = {}", plain(value))));
    }
    say("encryption", encryption(&customer.encryption));
    say("storage", customer.storage_class.clone());
    say("ACL", customer.acl.clone());
    for (name, value) in &customer.tags {
        say("tag", Some(format!("{name} = {value}")));
    }
}

fn print_shares(config: &Config, shares: &[(ShareName, By)]) {
    line("");
    if shares.is_empty() {
        line("no share goes to it");
        return;
    }
    line("shares");
    let row = |(share, by): &(ShareName, By)| {
        let schedule = config.shares.get(share).map(|share| format!("{} {}", share.schedule, share.timezone));
        vec![format!("  {share}"), schedule.unwrap_or_default(), by.to_string()]
    };
    output::rows(&shares.iter().map(row).collect::<Vec<_>>());
}

fn print_deliveries(deliveries: &[Delivered]) {
    line("");
    if deliveries.is_empty() {
        line("nothing was delivered to it yet");
        return;
    }
    line("last deliveries");
    let row = |delivered: &Delivered| {
        vec![
            format!("  {}", delivered.share),
            delivered.slot.clone(),
            delivered.state.clone(),
            delivered.rows.map(|rows| format!("{} rows", thousands(rows))).unwrap_or_default(),
            delivered.bytes.map(bytes).unwrap_or_default(),
            delivered.failure.clone().unwrap_or_default(),
        ]
    };
    output::rows(&deliveries.iter().map(row).collect::<Vec<_>>());
}

/// From the ledger, whose run of a share is one delivery to the customer.
async fn deliveries(config: &Config, customer: &CustomerName) -> Result<Vec<Delivered>, CliError> {
    let Some(reader) = setup::reader(config)? else { return Ok(Vec::new()) };
    let filter = History { customer: Some(customer.clone()), limit: SHOWN, ..History::default() };
    let mut found = Vec::new();
    for run in reader.history(filter).await? {
        let detail = reader.run(run.run).await?;
        let own = detail.deliveries.iter().find(|delivery| delivery.customer == *customer);
        found.extend(own.map(|delivery| delivered(&detail, delivery)));
    }
    Ok(found)
}

fn delivered(detail: &RunDetail, delivery: &DeliveryDetail) -> Delivered {
    let run = &detail.run;
    let first_line = |failure: &Failure| failure.to_string().lines().next().unwrap_or_default().to_owned();
    Delivered {
        run: run.run,
        share: run.share.clone(),
        slot: exact(run.slot),
        state: delivery.state.to_string(),
        rows: delivery.rows,
        bytes: delivery.bytes,
        started: to_the_second(run.started),
        manifest: delivery.manifest_key.as_ref().map(ToString::to_string),
        failure: delivery.failure.as_ref().map(first_line),
    }
}
