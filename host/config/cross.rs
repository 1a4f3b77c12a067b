//! What only shows when tables are seen together. Most of it keeps one
//! customer's rows from another.

use std::collections::BTreeMap;

use super::dataset::placeholders;
use super::model::{Config, Customer, Dataset, Share, TableDataset};
use super::report::{Problems, Severity};
use super::source::Span;
use super::tree::{Node, Value};
use crate::domain::ParamValue;

pub(crate) fn check(config: &Config, problems: &mut Problems) {
    external_ids(config, problems);
    prefixes(config, problems);
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
    let mut first = BTreeMap::new();
    for customer in config.customers.values() {
        let Some(id) = &customer.external_id else { continue };
        let span = place(config, &["customers", customer.name.as_str(), "external_id"]);
        match first.get(id) {
            None => {
                first.insert(id, (customer, span));
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
    for customer in recipients(config, share) {
        for param in &params {
            let value = customer.params.get(*param);
            let span = place(config, &["customers", customer.name.as_str(), "params", param]);
            let message = match value {
                None => {
                    format!("customer `{}` has no param `{param}`, which is in the path of its files", customer.name)
                }
                Some(ParamValue::Text(text)) if !is_step(text) => {
                    format!("param `{param}` of customer `{}` cannot be part of a path", customer.name)
                }
                Some(ParamValue::Text(_) | ParamValue::Int(_)) => continue,
                Some(_) => format!("param `{param}` of customer `{}` is not a string or an integer", customer.name),
            };
            let help = format!("write `{param} = \"…\"`, of letters, digits, '-', '_' and '.'");
            let also = [(at, "used here".to_owned())];
            problems.add(Severity::Error, span, message, help, &also);
        }
    }
    let shared = config.origin.root().get("datasets").and_then(|datasets| datasets.node.table());
    let shared = shared.and_then(|datasets| datasets.get(dataset)?.node.table()?.get("shared"));
    let shared = shared.is_some_and(|entry| matches!(entry.node.value, Value::Bool(true)));
    if share.to.len() > 1 && !files.contains('{') && !shared {
        let message = format!("share `{}` gives each of {} customers the same files", share.name, share.to.len());
        let help = format!("put `{{customer}}` into the path, or say `shared = true` in [datasets.{dataset}]");
        problems.add(Severity::Warning, at, message, help, &[]);
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
    let mut span = Span { file: 0, start: 0, end: 0 };
    let mut table = Some(config.origin.root());
    for step in path {
        let Some(entry) = table.and_then(|table| table.get(*step)) else { break };
        table = Node::table(&entry.node);
        span = if table.is_some() { entry.key } else { entry.node.span };
    }
    span
}
