//! What only shows when tables are seen together. Most of it keeps one
//! customer's rows from another.

use std::collections::BTreeMap;

use super::dataset::placeholders;
use super::model::{Config, Customer, Dataset, Share, TableDataset};
use super::regions::known;
use super::report::{Problems, Severity};
use super::source::Span;
use super::tree::{Node, Value};
use crate::domain::{BucketName, CustomerName, ExternalId, ParamValue, Principal};

pub(crate) fn check(config: &Config, problems: &mut Problems) {
    external_ids(config, problems);
    roles(config, problems);
    partitions(config, problems);
    prefixes(config, problems);
    buckets(config, problems);
    for share in config.shares.values() {
        match config.datasets.get(&share.dataset).map(|dataset| &**dataset) {
            Some(Dataset::Tables(dataset)) => rows(config, share, dataset, problems),
            Some(Dataset::Files(dataset)) => files(config, share, &dataset.files, problems),
            None => {}
        }
    }
}

/// STS must be able to tell customers apart: "The confused deputy problem", IAM User Guide.
fn external_ids(config: &Config, problems: &mut Problems) {
    let mut first: BTreeMap<&ExternalId, (&Customer, Span)> = BTreeMap::new();
    let ids = config.customers.values().flat_map(|customer| {
        let own = customer.external_id.iter().map(|id| (id, "external_id"));
        own.chain(customer.next_external_id.iter().map(|id| (id, "next_external_id"))).map(move |id| (customer, id))
    });
    for (customer, (id, key)) in ids {
        let span = place(config, &["customers", customer.name.as_str(), key]);
        match first.get(id) {
            None => {
                first.insert(id, (customer, span));
            }
            Some((other, other_span)) if other.name == customer.name => {
                let message = format!("`next_external_id` of customer `{}` is the one that it has", customer.name);
                let help = "remove it; `consign customer rotate-external-id` makes another one".into();
                let also = [(*other_span, "it is here".to_owned())];
                problems.add(Severity::Error, span, message, help, &also);
            }
            Some((other, other_span)) => {
                let message = format!("customers `{}` and `{}` have the same external ID", other.name, customer.name);
                let help =
                    "give each customer one of its own (`uuidgen` makes one), and tell it to the customer".into();
                let also = [(*other_span, format!("that of `{}`", other.name))];
                problems.add(Severity::Error, span, message, help, &also);
            }
        }
    }
}

/// Two customers never write into the same folder of the same bucket.
fn prefixes(config: &Config, problems: &mut Problems) {
    let mut customers: Vec<&Customer> = config.customers.values().map(|customer| &**customer).collect();
    customers.sort_by_key(|c| (c.bucket.clone(), c.prefix.as_str().to_owned(), c.name.clone()));
    // In this order a folder comes just before everything below it.
    let mut outer: Option<&Customer> = None;
    for customer in customers {
        match outer.filter(|outer| outer.bucket == customer.bucket && outer.prefix.overlaps(&customer.prefix)) {
            None => outer = Some(customer),
            Some(other) => {
                let span = place(config, &["customers", customer.name.as_str(), "prefix"]);
                let message = match other.prefix.as_str() {
                    "" => format!(
                        "customer `{}` has the whole bucket `{}`, and so also what customer `{}` has of it",
                        other.name, customer.bucket, customer.name
                    ),
                    prefix => format!(
                        "customers `{}` and `{}` share a folder of the bucket `{}`: `{prefix}` and `{}` overlap",
                        other.name, customer.name, customer.bucket, customer.prefix
                    ),
                };
                let help = "give each a prefix that is not inside the other's".into();
                let other_span = place(config, &["customers", other.name.as_str(), "prefix"]);
                problems.add(
                    Severity::Error,
                    span,
                    message,
                    help,
                    &[(other_span, format!("that of `{}`", other.name))],
                );
            }
        }
    }
}

/// A role has one trust policy. It has to accept the external IDs of all who name the role, and
/// whoever learns an ARN could have been made a customer by it. It cannot both ask for one and ask for none.
fn roles(config: &Config, problems: &mut Problems) {
    for customer in config.customers.values() {
        let [first, second, rest @ ..] = &*customer.sharers else { continue };
        // Once for each role.
        if customer.name != second.name {
            continue;
        }
        let at = |name: &CustomerName| place(config, &["customers", name.as_str(), "role_arn"]);
        if let Some(half_open) = customer.half_open() {
            let also = [(at(&half_open.shut), format!("that of `{}`", half_open.shut))];
            problems.add(Severity::Error, at(&half_open.open), half_open.message(), half_open.help(), &also);
            continue;
        }
        let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
        let message = format!("customers `{}` and `{}`{more} have the same role", first.name, second.name);
        let mut help =
            "right only if they are the same company; its trust policy then has to accept the external IDs of all, \
                        as `consign customer pack` prints it"
                .to_owned();
        if let Some(open) = customer.sharers.iter().find(|sharer| sharer.external_ids.is_empty()) {
            help.push_str(&format!(
                ". It cannot, because `{0}` has none: `consign customer rotate-external-id {0}`",
                open.name
            ));
        }
        let also = [(at(&first.name), format!("that of `{}`", first.name))];
        problems.add(Severity::Warning, at(&second.name), message, help, &also);
    }
}

/// No role trusts anybody of another partition: IAM there knows none of them.
fn partitions(config: &Config, problems: &mut Problems) {
    let aws = &config.aws;
    let of_principal = aws.principal.as_ref().and_then(Principal::partition).map(|partition| (partition, "principal"));
    // Elsewhere regions are called as somebody likes, and one that nobody knows may be a slip.
    let region = aws.region.as_ref().filter(|_| aws.endpoint_url.is_none());
    let of_region = || region.and_then(|region| known(region.as_str())).map(|own| (own, "region"));
    let Some((own, key)) = of_principal.or_else(of_region) else { return };
    for customer in config.customers.values().filter(|customer| customer.role_arn.partition() != own) {
        let theirs = customer.role_arn.partition();
        let message =
            format!("the role of customer `{}` is in the partition {theirs}, and consign in {own}", customer.name);
        let help = format!(
            "no role can be assumed from another partition: deliver to it by a consign of its own, whose identity is in {theirs}"
        );
        let also = [(place(config, &["aws", key]), format!("this is in {own}"))];
        problems.add(
            Severity::Error,
            place(config, &["customers", customer.name.as_str(), "role_arn"]),
            message,
            help,
            &also,
        );
    }
}

/// A bucket is in one region and belongs to one account.
fn buckets(config: &Config, problems: &mut Problems) {
    let mut first: BTreeMap<&BucketName, &Customer> = BTreeMap::new();
    for customer in config.customers.values() {
        let other = *first.entry(&customer.bucket).or_insert(customer);
        let mut differ = |key: &str, what: &str, here: &str, there: &str, help: &str| {
            if here == there {
                return;
            }
            let message = format!(
                "bucket `{}` {what} {there} for customer `{}` and {here} for customer `{}`",
                customer.bucket, other.name, customer.name
            );
            // An owner that is not written is the role's account.
            let at = |name: &str| {
                let role = ["customers", name, "role_arn"];
                let written = ["customers", name, key];
                place(config, if config.has(&written) { &written } else { &role })
            };
            let also = [(at(other.name.as_str()), format!("that of `{}`", other.name))];
            problems.add(Severity::Error, at(customer.name.as_str()), message, help.to_owned(), &also);
        };
        let help = "a bucket is in one region; correct the other";
        differ("region", "is in", customer.region.as_str(), other.region.as_str(), help);
        let (here, there) = (customer.bucket_owner.as_str(), other.bucket_owner.as_str());
        let help = "a bucket has one owner; write that account as the `bucket_owner` of both";
        differ("bucket_owner", "belongs to account", here, there, help);
    }
}

fn rows(config: &Config, share: &Share, dataset: &TableDataset, problems: &mut Problems) {
    let to = place(config, &["shares", share.name.as_str(), "to"]);
    let Some(tenant) = &dataset.tenant else {
        if share.to.len() > 1 && !dataset.shared {
            let message = format!(
                "share `{}` would give each of {} customers every row of dataset `{}`",
                share.name,
                share.to.len(),
                dataset.name
            );
            let help = format!(
                "name the column that says whose row it is: `tenant_column = \"customer_id\"` in \
                 [datasets.{0}]; or, if all may see every row, `shared = true`",
                dataset.name
            );
            let also = [(place(config, &["datasets", dataset.name.as_str()]), "has no `tenant_column`".to_owned())];
            problems.add(Severity::Error, to, message, help, &also);
        }
        return;
    };
    let column = place(config, &["datasets", dataset.name.as_str(), "tenant_column"]);
    let mut seen: BTreeMap<String, &Customer> = BTreeMap::new();
    for customer in recipients(config, share) {
        let span = place(config, &["customers", customer.name.as_str(), "params", &tenant.param]);
        let Some(value) = customer.params.get(&tenant.param) else {
            // One of a wrong type has been reported as that.
            if config.has(&["customers", customer.name.as_str(), "params", &tenant.param]) {
                continue;
            }
            let message = format!(
                "customer `{}` has no param `{}`, which says which rows of dataset `{}` are its own",
                customer.name, tenant.param, dataset.name
            );
            let help = format!("add `params = {{ {} = … }}` to [customers.{}]", tenant.param, customer.name);
            let also = [(column, "the tenant column".to_owned()), (to, format!("`{}` is to get it here", share.name))];
            problems.add(Severity::Error, span, message, help, &also);
            continue;
        };
        let values = match value {
            ParamValue::List(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        if values.is_empty() {
            let message =
                format!("param `{}` of customer `{}` is empty, so no row is its own", tenant.param, customer.name);
            problems.error(span, message, "write at least one value");
        }
        for value in values {
            let Some(other) = seen.insert(format!("{value:?}"), customer).filter(|other| other.name != customer.name)
            else {
                continue;
            };
            let message = format!(
                "customers `{}` and `{}` get the same rows of dataset `{}`: both have this `{}`",
                other.name, customer.name, dataset.name, tenant.param
            );
            let other = place(config, &["customers", other.name.as_str(), "params", &tenant.param]);
            let help = "right only if both are the same company".into();
            problems.add(Severity::Warning, span, message, help, &[(other, "the first is here".into())]);
        }
    }
}

fn files(config: &Config, share: &Share, files: &str, problems: &mut Problems) {
    let dataset = share.dataset.as_str();
    let at = place(config, &["datasets", dataset, "files"]);
    let params = placeholders(files).unwrap_or_default();
    let shared = config.origin.root().get("datasets").and_then(|datasets| datasets.node.entry(&[dataset, "shared"]));
    let shared = shared.is_some_and(|entry| matches!(entry.node.value, Value::Bool(true)));
    if share.to.len() > 1 && !files.contains('{') && !shared {
        let message = format!("share `{}` would give each of {} customers the same files", share.name, share.to.len());
        let help = format!(
            "put `{{customer}}` or `{{param.NAME}}` into the path; or, if every customer may see every file, write \
             `shared = true` in [datasets.{dataset}]"
        );
        let to = place(config, &["shares", share.name.as_str(), "to"]);
        problems.add(Severity::Error, to, message, help, &[(at, "one path for all".to_owned())]);
    }
    let mut seen: BTreeMap<String, &Customer> = BTreeMap::new();
    for customer in recipients(config, share) {
        let mut path = files.replace("{customer}", customer.name.as_str());
        let mut last = place(config, &["customers", customer.name.as_str()]);
        for param in &params {
            last = place(config, &["customers", customer.name.as_str(), "params", param]);
            match step(config, customer, param) {
                Ok(step) => path = path.replace(&format!("{{param.{param}}}"), &step),
                Err(message) => {
                    path.clear();
                    let help = format!("write `{param} = \"…\"`, of letters, digits, '-', '_' and '.'");
                    let also = [(at, "used here".to_owned())];
                    if let Some(message) = message {
                        problems.add(Severity::Error, last, message, help, &also);
                    }
                }
            }
        }
        if path.is_empty() || shared || !files.contains('{') {
            continue;
        }
        if let Some(other) = seen.insert(path, customer) {
            let message = format!(
                "customers `{}` and `{}` get the same files of dataset `{dataset}`: their params make the same path",
                other.name, customer.name
            );
            let help = "right only if both are the same company".to_owned();
            problems.add(Severity::Warning, last, message, help, &[(at, "the path".to_owned())]);
        }
    }
}

/// What a param is in a path; Err(None) when it has been reported already.
fn step(config: &Config, customer: &Customer, param: &str) -> Result<String, Option<String>> {
    match customer.params.get(param) {
        Some(ParamValue::Text(text)) if is_step(text) => Ok(text.clone()),
        Some(ParamValue::Text(_)) => {
            Err(Some(format!("param `{param}` of customer `{}` cannot be part of a path", customer.name)))
        }
        Some(ParamValue::Int(number)) => Ok(number.to_string()),
        Some(_) => Err(Some(format!("param `{param}` of customer `{}` is not a string or an integer", customer.name))),
        None if config.has(&["customers", customer.name.as_str(), "params", param]) => Err(None),
        None => {
            Err(Some(format!("customer `{}` has no param `{param}`, which is in the path of its files", customer.name)))
        }
    }
}

/// One step of a path, which stays where it is put.
fn is_step(text: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
    !text.is_empty() && text.chars().all(letter) && !text.starts_with('.')
}

fn recipients<'a>(config: &'a Config, share: &'a Share) -> impl Iterator<Item = &'a Customer> {
    share.to.iter().filter_map(|name| config.customers.get(name)).map(|customer| &**customer)
}

/// Where the value at this path stands, or the nearest name above it.
fn place(config: &Config, path: &[&str]) -> Span {
    let mut span = Span::START;
    let mut table = Some(config.origin.root());
    for step in path {
        let Some(entry) = table.and_then(|table| table.get(step)) else { break };
        table = Node::table(&entry.node);
        span = if table.is_some() { entry.key } else { entry.node.span };
    }
    span
}
