//! `consign customer add --from`: the profiles of a list, all or none. What is wrong with
//! one is told where it stands in the list.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::add::put;
use super::change::Change;
use super::profile::{Profile, param};
use super::rows::{self, Cell, Row, Unread};
use crate::cli::output::{CliError, Exit};
use crate::config::{Config, ConfigErrors, Encryption, Location, Problem, Severity, SourceFile, listed, near, quote};
use crate::domain::{CustomerName, ParamValue, shell_word};

/// What a column can be, and how its heading may be spelt, without case, blanks and punctuation.
const FIELDS: [(Field, &[&str]); 12] = [
    (Field::Name, &["name", "customer", "customername", "profile", "enduser", "tenant"]),
    (Field::RoleArn, &["rolearn", "role", "arn", "iamrole", "iamrolearn", "awsrolearn", "assumerolearn"]),
    (Field::Account, &["account", "accountid", "awsaccount", "awsaccountid", "accountnumber"]),
    (Field::Bucket, &["bucket", "bucketname", "s3bucket", "s3bucketname", "awsbucket"]),
    (Field::BucketOwner, &["bucketowner", "bucketaccount", "expectedbucketowner"]),
    (Field::Region, &["region", "awsregion", "bucketregion", "s3region"]),
    (Field::Prefix, &["prefix", "s3prefix", "keyprefix", "path", "folder", "bucketprefix"]),
    (Field::Groups, &["groups", "group", "grouptags", "grouptag"]),
    (Field::Encryption, &["encryption", "kmskey", "kmskeyarn", "kmskeyid"]),
    (Field::StorageClass, &["storageclass"]),
    (Field::Acl, &["acl"]),
    (Field::ExternalId, &["externalid", "stsexternalid"]),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    RoleArn,
    Account,
    Bucket,
    BucketOwner,
    Region,
    Prefix,
    Groups,
    Encryption,
    StorageClass,
    Acl,
    ExternalId,
}

impl Field {
    fn column(self) -> &'static str {
        if self == Field::Account { "account" } else { self.key() }
    }

    /// The key of a profile that it becomes.
    fn key(self) -> &'static str {
        match self {
            Field::Name => "name",
            Field::RoleArn | Field::Account => "role_arn",
            Field::Bucket => "bucket",
            Field::BucketOwner => "bucket_owner",
            Field::Region => "region",
            Field::Prefix => "prefix",
            Field::Groups => "groups",
            Field::Encryption => "encryption",
            Field::StorageClass => "storage_class",
            Field::Acl => "acl",
            Field::ExternalId => "external_id",
        }
    }
}

/// A profile, and from where each of its keys came.
struct Listed {
    profile: Profile,
    at: Range<usize>,
    /// By key; of params `params.NAME`.
    places: Vec<(String, Range<usize>)>,
    /// What has been said of it.
    taken: BTreeSet<String>,
}

/// The list as it is read.
struct List {
    file: Arc<SourceFile>,
    /// Text is text then, and numbers are numbers.
    is_json: bool,
    found: Vec<Problem>,
}

/// New profiles and their files, those that were there already, and the configuration that it makes.
pub type Imported = (Vec<(CustomerName, PathBuf)>, Vec<CustomerName>, Config);

/// Puts the list's profiles into `change`. Err: everything that is wrong with any.
pub fn import(change: &mut Change, before: &Config, path: &Path, ignored: &[String]) -> Result<Imported, CliError> {
    let text = std::fs::read(path).map_err(|error| {
        CliError::new(Exit::Failed, format!("cannot read {}: {error}", path.display()), "name a CSV or JSON file")
    })?;
    let text = String::from_utf8(text).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        CliError::new(Exit::Failed, format!("{} is not UTF-8 in line {line}", path.display()), "save it as UTF-8")
    })?;
    // Spreadsheets and editors put this before UTF-8. No place in the list counts it.
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let read = if is_json { rows::json(&text) } else { rows::csv(&text) };
    let mut list = List { file: Arc::new(SourceFile::new(path, text)), is_json, found: Vec::new() };
    let rows = match read {
        Ok(rows) => rows,
        Err(faults) => {
            faults.into_iter().for_each(|Unread { at, message, help }| list.error(at, message, help));
            return Err(list.refused());
        }
    };
    let columns = list.headings(&rows, ignored);
    let all: Vec<Listed> = rows.iter().filter_map(|row| list.row(row, ignored)).collect();
    if all.is_empty() && !list.has_errors() {
        list.error(0..0, "there is no customer in the list".into(), String::new());
    }
    let mut first: BTreeMap<CustomerName, Range<usize>> = BTreeMap::new();
    // An empty cell of a spreadsheet's column says that there are none.
    let has_groups = |listed: &Listed| listed.says("groups") || columns.contains("groups");
    let (mut new, mut unchanged, mut places) = (Vec::new(), Vec::new(), BTreeMap::new());
    for listed in &all {
        let name = &listed.profile.name;
        if let Some(earlier) = first.get(name) {
            list.twice(listed, earlier.clone());
            continue;
        }
        first.insert(name.clone(), listed.place("name"));
        if before.customers.contains_key(name) && listed.is_as_it_is(before, has_groups(listed)) {
            unchanged.push(name.clone());
            continue;
        }
        match put(change, before, &listed.profile) {
            Ok(path) => {
                places.insert(name.as_str(), listed);
                new.push((name.clone(), path));
            }
            Err(error) => list.error(listed.place("name"), error.message, error.help),
        }
    }
    let (config, found) = change.survey()?;
    for problem in found.problems() {
        let placed = list.placed(problem, &config, &places);
        list.found.push(placed);
    }
    if list.has_errors() {
        return Err(list.refused());
    }
    Ok((new, unchanged, Config { warnings: list.found, ..config }))
}

impl List {
    fn error(&mut self, at: Range<usize>, message: String, help: String) {
        self.found.push(Problem::new(Severity::Error, Location::within(&self.file, at), message, help));
    }

    fn has_errors(&self) -> bool {
        self.found.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// In the order of the list.
    fn refused(mut self) -> CliError {
        self.found.sort_by_cached_key(|problem| {
            let at = &problem.location;
            (at.path() != self.file.path, at.line(), at.column())
        });
        let mut found = ConfigErrors::new();
        self.found.into_iter().for_each(|problem| found.push(problem));
        let (summary, errors) = (found.summary(), found.problems().iter());
        let errors = errors.filter(|problem| problem.severity == Severity::Error).count();
        let message =
            if errors == 1 { "1 error in the list".to_owned() } else { format!("{errors} errors in the list") };
        let refused = CliError::from(found);
        let text = refused.text.replacen(&summary, &message, 1);
        CliError { message, text, help: "nothing is written".into(), ..refused }
    }

    /// Tells each heading that says nothing, once, and columns that say the same. Returns what the columns
    /// of a spreadsheet say.
    fn headings(&mut self, rows: &[Row], ignored: &[String]) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut columns: BTreeMap<String, &Cell> = BTreeMap::new();
        for cell in rows.iter().flat_map(|row| &row.cells).filter(|cell| !is_ignored(cell, ignored)) {
            // Customers of JSON may spell their keys differently, each by itself.
            let place = if self.is_json { 0 } else { cell.heading_at.start };
            if !seen.insert((place, cell.heading.as_str())) {
                continue;
            }
            if !self.is_json
                && let Some(means) = means(&cell.heading)
                && let Some(first) = columns.insert(means.clone(), cell)
            {
                let message =
                    format!("columns {} and {} both say `{means}`", quote(&first.heading), quote(&cell.heading));
                let help = format!("leave one out: --ignore {}", shell_word(&cell.heading));
                self.error(cell.heading_at.clone(), message, help);
            }
            if field(&cell.heading) == Some(Field::ExternalId) {
                self.own_external_ids(cell);
            }
            let (message, help) = match (field(&cell.heading), param_name(&cell.heading)) {
                (Some(_), _) | (None, Some(_)) => continue,
                (None, None) => {
                    let columns = || FIELDS.iter().map(|(field, _)| *field);
                    let known = || columns().map(Field::column);
                    let hint = match near(&cell.heading, known()) {
                        Some(meant) => format!("did you mean `{meant}`? Or leave it out: "),
                        None => {
                            format!("write one of {}, or `params.NAME`; or leave it out: ", listed(known()))
                        }
                    };
                    (
                        format!("unknown column {}", quote(&cell.heading)),
                        format!("{hint}--ignore {}", shell_word(&cell.heading)),
                    )
                }
            };
            self.error(cell.heading_at.clone(), message, help);
        }
        columns.into_keys().collect()
    }

    /// Roles may ask for those already. Who has made them is not to be seen.
    fn own_external_ids(&mut self, cell: &Cell) {
        let message = "the external IDs of the list are taken as they are";
        let help = format!(
            "they must be of the vendor's own making, another one for each customer: whoever chooses its own could name that of \
             another. Otherwise have consign make them: --ignore {}",
            shell_word(&cell.heading)
        );
        let at = Location::within(&self.file, cell.heading_at.clone());
        self.found.push(Problem::warning(at, message, help));
    }

    fn row(&mut self, row: &Row, ignored: &[String]) -> Option<Listed> {
        let cells = || row.cells.iter().filter(|cell| !is_ignored(cell, ignored));
        let name = cells().find(|cell| field(&cell.heading) == Some(Field::Name));
        let Some(name) = name else {
            self.error(row.at.clone(), "this customer has no name".into(), "give the list a column `name`".into());
            return None;
        };
        let text = text_of(&name.value).unwrap_or_default();
        let parsed = match CustomerName::parse(&text) {
            Ok(parsed) => parsed,
            Err(why) => {
                let help = match near_name(&text) {
                    Some(meant) => format!("write \"{meant}\""),
                    None => String::new(),
                };
                self.error(name.at.clone(), format!("the name {} {why}", quote(&text)), help);
                return None;
            }
        };
        let profile = match Profile::new(parsed) {
            Ok(profile) => profile,
            Err(error) => {
                self.error(row.at.clone(), error.message, error.help);
                return None;
            }
        };
        let mut listed = Listed { profile, at: row.at.clone(), places: Vec::new(), taken: BTreeSet::new() };
        for cell in cells() {
            if let Err((message, help)) = listed.take(cell, self.is_json) {
                self.error(cell.at.clone(), message, help);
            }
        }
        if let (Some(role), Some(account)) = (&listed.profile.role_arn, &listed.profile.account)
            && role.split(':').nth(4).is_some_and(|other| other != account)
        {
            let message = format!("the role is not in the account {} of this customer", quote(account));
            self.error(listed.place("role_arn"), message, "correct one of them, or leave the account out".into());
        }
        Some(listed)
    }

    fn twice(&mut self, listed: &Listed, earlier: Range<usize>) {
        let message = format!("customer `{}` is in the list twice", listed.profile.name);
        let at = Location::within(&self.file, listed.place("name"));
        let problem = Problem::new(Severity::Error, at, message, "keep one of them");
        self.found.push(problem.and(Location::within(&self.file, earlier), "the first is here"));
    }

    /// A problem of the profiles' texts, where it stands in the list.
    fn placed(&self, problem: &Problem, config: &Config, places: &BTreeMap<&str, &Listed>) -> Problem {
        let place = |location: &Location| self.origin(location, config, places).unwrap_or_else(|| location.clone());
        let also = problem.also.iter().map(|(location, what)| (place(location), what.clone())).collect();
        Problem { location: place(&problem.location), also, ..problem.clone() }
    }

    fn origin(&self, location: &Location, config: &Config, places: &BTreeMap<&str, &Listed>) -> Option<Location> {
        let (name, key) = config.customer_at(location)?;
        let listed = places.get(name.as_str())?;
        let at = listed.place(key.as_deref().unwrap_or("name"));
        Some(Location::within(&self.file, at))
    }
}

impl Listed {
    fn says(&self, key: &str) -> bool {
        self.places.iter().any(|(known, _)| known == key)
    }

    /// Where the key came from, or else its customer's name.
    fn place(&self, key: &str) -> Range<usize> {
        let of = |key: &str| self.places.iter().find(|(known, _)| known == key).map(|(_, at)| at.clone());
        let first_param = || self.places.iter().find(|(known, _)| known.starts_with(key)).map(|(_, at)| at.clone());
        of(key).or_else(first_param).or_else(|| of("name")).unwrap_or_else(|| self.at.clone())
    }

    /// Whether the profile that is there says what the list does.
    fn is_as_it_is(&self, config: &Config, has_groups: bool) -> bool {
        let profile = &self.profile;
        let Some(there) = config.customers.get(&profile.name) else { return false };
        let is = |said: &Option<String>, is: Option<&str>| said.is_none() || said.as_deref() == is;
        let folder = |said: &str| said.trim_matches('/') == there.prefix.as_str().trim_matches('/');
        let groups: BTreeSet<&str> = profile.groups.iter().map(String::as_str).collect();
        let groups_there: BTreeSet<&str> = there.groups.iter().map(|group| group.as_str()).collect();
        let encryption = profile.encryption.as_deref().is_none_or(|said| match &there.encryption {
            Encryption::Bucket => false,
            Encryption::S3 => said == "s3",
            Encryption::Kms { key } => said == key.as_deref().unwrap_or("kms"),
        });
        is(&profile.role(), Some(there.role_arn.as_str()))
            && (!self.says("external_id")
                || there.external_id.as_ref().is_some_and(|id| id.as_str() == profile.external_id))
            && is(&profile.bucket, Some(there.bucket.as_str()))
            && is(&profile.region, Some(there.region.as_str()))
            && profile.prefix.as_deref().is_none_or(folder)
            && is(&profile.bucket_owner, Some(there.bucket_owner.as_str()))
            && encryption
            && is(&profile.storage_class, there.storage_class.as_deref())
            && is(&profile.acl, there.acl.as_deref())
            && (!has_groups || groups == groups_there)
            && profile.params.iter().all(|(name, value)| there.params.get(name).is_some_and(|is| is_same(is, value)))
    }

    fn take(&mut self, cell: &Cell, is_json: bool) -> Result<(), (String, String)> {
        // Of two columns the headings have told already.
        let is_the_name = || text_of(&cell.value).as_deref() == Some(self.profile.name.as_str());
        if is_json
            && let Some(means) = means(&cell.heading)
            && !self.taken.insert(means.clone())
            && !(means == Field::Name.column() && is_the_name())
        {
            return Err((format!("`{means}` is said twice of this customer"), "keep one of them".into()));
        }
        let profile = &mut self.profile;
        let Some(field) = field(&cell.heading) else {
            let Some(name) = param_name(&cell.heading) else { return Ok(()) };
            let value = value_of(&cell.value, is_json).ok_or_else(|| {
                ("this is no value for queries".to_owned(), "write text, a number or an array of them".to_owned())
            })?;
            self.places.push((format!("params.{name}"), cell.at.clone()));
            profile.params.push((name, value));
            return Ok(());
        };
        if field == Field::Groups {
            profile.groups = groups_of(&cell.value);
            self.places.push((field.key().into(), cell.at.clone()));
            return Ok(());
        }
        let text = text_of(&cell.value).ok_or_else(|| ("this is no text".to_owned(), "write a string".to_owned()))?;
        let slot = match field {
            Field::Name | Field::Groups => {
                self.places.push((field.key().into(), cell.at.clone()));
                return Ok(());
            }
            Field::ExternalId => {
                profile.external_id = text;
                self.places.push((field.key().into(), cell.at.clone()));
                return Ok(());
            }
            Field::RoleArn => &mut profile.role_arn,
            Field::Account => &mut profile.account,
            Field::Bucket => &mut profile.bucket,
            Field::BucketOwner => &mut profile.bucket_owner,
            Field::Region => &mut profile.region,
            Field::Prefix => &mut profile.prefix,
            Field::Encryption => &mut profile.encryption,
            Field::StorageClass => &mut profile.storage_class,
            Field::Acl => &mut profile.acl,
        };
        *slot = Some(text);
        // An account only matters where there is no role.
        if field != Field::Account || self.profile.role_arn.is_none() {
            self.places.retain(|(key, _)| key != field.key());
            self.places.push((field.key().into(), cell.at.clone()));
        }
        Ok(())
    }
}

fn is_same(there: &ParamValue, value: &toml_edit::Value) -> bool {
    match there {
        ParamValue::Bool(is) => value.as_bool() == Some(*is),
        ParamValue::Int(is) => value.as_integer() == Some(*is),
        ParamValue::Float(is) => value.as_float() == Some(*is),
        ParamValue::Text(is) => value.as_str() == Some(is),
        ParamValue::Instant(is) => value
            .as_datetime()
            .and_then(|time| chrono::DateTime::parse_from_rfc3339(&time.to_string()).ok())
            .is_some_and(|time| time == *is),
        ParamValue::List(items) => value.as_array().is_some_and(|array| {
            array.len() == items.len() && items.iter().zip(array.iter()).all(|(item, value)| is_same(item, value))
        }),
    }
}

/// What a heading says, however it is spelt: a column, or `params.NAME`.
fn means(heading: &str) -> Option<String> {
    let column = field(heading).map(|field| field.column().to_owned());
    column.or_else(|| param_name(heading).map(|name| format!("params.{name}")))
}

fn is_ignored(cell: &Cell, ignored: &[String]) -> bool {
    let heading = cell.heading.split('.').next().unwrap_or_default();
    ignored.iter().any(|ignored| *ignored == cell.heading || ignored == heading)
}

fn field(heading: &str) -> Option<Field> {
    let plain: String = heading.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    FIELDS.iter().find(|(_, spellings)| spellings.contains(&plain.as_str())).map(|(field, _)| *field)
}

/// Of `params.NAME`, `param.NAME`, `param:NAME` and the like.
fn param_name(heading: &str) -> Option<String> {
    let (head, name) = heading.split_once(['.', ':', ' '])?;
    let is_param = ["param", "params", "parameter", "parameters"].contains(&head.to_lowercase().as_str());
    (is_param && !name.trim().is_empty()).then(|| name.trim().to_owned())
}

/// An account's number may have been taken for one.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn groups_of(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(text_of).collect(),
        value => {
            let text = text_of(value).unwrap_or_default();
            text.split([',', ';', '|', ' ']).filter(|group| !group.is_empty()).map(str::to_owned).collect()
        }
    }
}

/// From here on several whole numbers are the same `f64`.
const EXACT_MAX: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;

/// Text of JSON is text; of CSV it is read as `--param` is, because there it may be anything.
fn value_of(value: &Value, is_json: bool) -> Option<toml_edit::Value> {
    Some(match value {
        Value::String(text) if is_json => text.into(),
        Value::String(text) => param(text),
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            // A larger one may be another tenant's already.
            None => number.as_f64().filter(|number| number.abs() < EXACT_MAX)?.into(),
        },
        Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| value_of(item, is_json)).collect();
            toml_edit::Array::from_iter(items?).into()
        }
        Value::Null | Value::Object(_) => return None,
    })
}

/// A name as it can be, from one as people write it.
fn near_name(text: &str) -> Option<String> {
    let plain: String = text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = plain.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    CustomerName::parse(&name).is_ok().then_some(name)
}
