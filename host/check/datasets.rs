//! Plans every query for everyone who gets it, and looks for the files.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::SchemaRef;

use super::{one_of, places, refuse};
use crate::config::{
    Config, ConfigErrors, Customer, Dataset, FileDataset, Location, Problem, TableDataset, listed, near,
};
use crate::dataset::{DatasetError, Kind};
use crate::domain::{DatasetName, Failure, ParamValue};
use crate::run::Parts;

#[derive(Default)]
pub(super) struct Read {
    pub schemas: BTreeMap<DatasetName, SchemaRef>,
    /// Datasets behind the network.
    pub not_read: Vec<DatasetName>,
}

pub(super) async fn check(config: &Config, parts: &Parts, found: &mut ConfigErrors) -> Read {
    let mut read = Read::default();
    for (name, dataset) in &config.datasets {
        match &**dataset {
            Dataset::Tables(dataset) => {
                if dataset.tables.values().any(|table| table.path.starts_with("s3://")) {
                    read.not_read.push(name.clone());
                } else if let Some(schema) = rows(config, parts, dataset, found).await {
                    read.schemas.insert(name.clone(), schema);
                }
            }
            Dataset::Files(dataset) if dataset.files.starts_with("s3://") => read.not_read.push(name.clone()),
            Dataset::Files(dataset) => files(config, parts, dataset, found).await,
        }
    }
    read
}

/// Everyone who gets the dataset by some share.
fn recipients<'a>(config: &'a Config, dataset: &DatasetName) -> Vec<&'a Customer> {
    let shares = config.shares.values().filter(|share| share.dataset == *dataset);
    let names: BTreeSet<_> = shares.flat_map(|share| &share.to).collect();
    names.into_iter().filter_map(|name| config.customers.get(name)).map(|customer| &**customer).collect()
}

/// Customers whose params plan alike.
struct Alike<'a> {
    customers: Vec<&'a Customer>,
    planned: Result<SchemaRef, DatasetError>,
}

/// Plans the query with everyone's params, and tells the columns of the result.
async fn rows(config: &Config, parts: &Parts, dataset: &TableDataset, found: &mut ConfigErrors) -> Option<SchemaRef> {
    let named = recipients(config, &dataset.name);
    let nobody = named.is_empty();
    let customers = if nobody { config.customers.values().map(|customer| &**customer).collect() } else { named };
    // That a tenant's own value is missing has been told already.
    let has_value = |customer: &&Customer| match &dataset.tenant {
        Some(tenant) => customer.params.get(&tenant.param).is_some_and(|value| *value != ParamValue::List(Vec::new())),
        None => true,
    };
    let mut groups: BTreeMap<String, Vec<&Customer>> = BTreeMap::new();
    for customer in customers.into_iter().filter(has_value) {
        groups.entry(likeness(dataset, customer)).or_default().push(customer);
    }
    let mut planned = Vec::new();
    for customers in groups.into_values() {
        let params = customers.first().map(|customer| &customer.params);
        let result = parts.datasets.check(dataset, params).await;
        let is_everybodys = result.as_ref().is_err_and(|error| !matches!(error.kind, Kind::Parameter | Kind::Query));
        planned.push(Alike { customers, planned: result });
        if is_everybodys {
            break;
        }
    }
    if planned.is_empty() {
        planned.push(Alike { customers: Vec::new(), planned: parts.datasets.check(dataset, None).await });
    }
    tell(config, dataset, &planned, nobody, found);
    planned.into_iter().find_map(|alike| alike.planned.ok())
}

/// A customer's fault where only some fail, or else the dataset's.
fn tell(config: &Config, dataset: &TableDataset, planned: &[Alike<'_>], nobody: bool, found: &mut ConfigErrors) {
    let some_work = planned.iter().any(|alike| alike.planned.is_ok());
    if nobody && some_work {
        return;
    }
    let mut told = BTreeSet::new();
    for Alike { customers, planned } in planned {
        let Err(error) = planned else { continue };
        let of_customer = error.kind == Kind::Parameter || (some_work && error.kind == Kind::Query);
        let place = places::of(config, dataset, error);
        match customers.first().filter(|_| of_customer && !nobody) {
            Some(customer) => {
                let failure = Failure::from(error.clone());
                let message = format!("{}: {}", one_of(&customer.name, customers.len()), failure.message);
                let at = param_place(config, dataset, customer, &error.message);
                found.push(Problem::error(at, message, failure.remedy).and(place, "needed here"));
            }
            // What nobody gets is wrong once, whoever might have got it.
            None if nobody => return dataset_fault(dataset, place, error, found),
            None if told.insert(error.message.clone()) => dataset_fault(dataset, place, error, found),
            None => {}
        }
    }
}

fn dataset_fault(dataset: &TableDataset, place: Location, error: &DatasetError, found: &mut ConfigErrors) {
    let mut failure = Failure::from(error.clone());
    if is_of_the_data(error.kind) {
        // Other shares must not wait for it, and it may be right by the time its own fire.
        found.push(Problem::warning(place, failure.message, failure.remedy));
        return;
    }
    let wrong = failure.message.split_once("has no table '").and_then(|(_, rest)| rest.split_once('\''));
    if let Some((wrong, _)) = wrong.filter(|_| !failure.message.contains("did you mean")) {
        let tables = || dataset.tables.keys().map(|table| table.as_str());
        failure.remedy = match near(wrong, tables()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("its tables are {}", listed(tables())),
        };
    }
    refuse(found, place, failure);
}

/// Whether the files are at fault, which come and go, and not what is configured.
fn is_of_the_data(kind: Kind) -> bool {
    match kind {
        Kind::Missing | Kind::Data | Kind::Changed | Kind::Memory | Kind::Disk | Kind::Access | Kind::Network => true,
        Kind::Query | Kind::Parameter | Kind::Tenant | Kind::Config | Kind::Internal => false,
    }
}

/// The param that the message names, or where it is missing.
fn param_place(config: &Config, dataset: &TableDataset, customer: &Customer, message: &str) -> Location {
    let name = customer.name.as_str();
    let in_query = message
        .split_once("$customer.")
        .map(|(_, rest)| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default());
    let param = in_query.or(dataset.tenant.as_ref().map(|tenant| tenant.param.as_str()));
    match param {
        Some(param) if config.has(&["customers", name, "params", param]) => {
            config.locate(&["customers", name, "params", param])
        }
        _ if config.has(&["customers", name, "params"]) => config.locate_key(&["customers", name, "params"]),
        _ => config.locate(&["customers", name]),
    }
}

/// Two customers of the same likeness have params of the same names and types,
/// and values that fit the same columns, as far as the dataset can use them.
fn likeness(dataset: &TableDataset, customer: &Customer) -> String {
    let tenant = dataset.tenant.as_ref().map(|tenant| tenant.param.as_str());
    let query = dataset.query.as_deref().unwrap_or_default();
    let used =
        customer.params.iter().filter(|(name, _)| Some(name.as_str()) == tenant || query.contains(name.as_str()));
    used.map(|(name, value)| format!("{name}: {}\n", kind(value))).collect()
}

/// What decides whether a value fits a column.
fn kind(value: &ParamValue) -> String {
    let bits = |number: i64| {
        let magnitude = if number < 0 { !number } else { number };
        let bits = i64::BITS - magnitude.leading_zeros();
        let class = [7, 8, 15, 16, 31, 32].into_iter().find(|limit| bits <= *limit).unwrap_or(63);
        format!("{} integer of {class} bits", if number < 0 { "negative" } else { "positive" })
    };
    match value {
        ParamValue::Bool(_) => "boolean".into(),
        ParamValue::Int(number) => bits(*number),
        ParamValue::Float(number) => format!("float, whole: {}", number.fract() == 0.0),
        ParamValue::Instant(at) => format!("instant, midnight: {}", at.timestamp() % 86_400 == 0),
        ParamValue::Text(text) => match (text.parse::<i64>(), text.parse::<chrono::NaiveDate>()) {
            (Ok(number), _) => format!("text of a {}", bits(number)),
            (_, Ok(_)) => "text of a date".into(),
            _ if text.parse::<crate::clock::Instant>().is_ok() => "text of an instant".into(),
            _ => "text".into(),
        },
        ParamValue::List(list) => {
            let kinds: BTreeSet<String> = list.iter().map(kind).collect();
            format!("list of {}", kinds.into_iter().collect::<Vec<_>>().join(", "))
        }
    }
}

/// Whether everybody's files are there. They may come later, which is a warning;
/// that params do not fit into the path has been found already.
async fn files(config: &Config, parts: &Parts, dataset: &FileDataset, found: &mut ConfigErrors) {
    let place = || config.locate(&["datasets", dataset.name.as_str(), "files"]);
    let mut missing = Vec::new();
    let mut told = BTreeSet::new();
    for customer in recipients(config, &dataset.name) {
        match parts.datasets.files(dataset, &customer.name, &customer.params).await {
            Ok(_) => {}
            Err(error) if error.kind == Kind::Parameter => {}
            Err(error) if error.kind == Kind::Missing => missing.push((customer, error)),
            Err(error) if !told.insert(error.message.clone()) => {}
            Err(error) if is_of_the_data(error.kind) => {
                let failure = Failure::from(error);
                found.push(Problem::warning(place(), failure.message, failure.remedy));
            }
            Err(error) => refuse(found, place(), error.into()),
        }
    }
    if let Some((customer, error)) = missing.first() {
        let message = format!("{}: {}", one_of(&customer.name, missing.len()), error.message);
        let help = "right if the files come before the share fires; otherwise correct `files`";
        found.push(Problem::warning(place(), message, help));
    }
}
