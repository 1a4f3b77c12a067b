//! A new profile, as it was asked for: not yet known to be right. What is wrong with it
//! the configuration's own rules say, of the text that it makes.

use std::path::{Path, PathBuf};

use toml_edit::{Array, InlineTable, Table, Value, value};

use crate::cli::output::{CliError, Exit};
use crate::config::{Config, partition, quote};
use crate::domain::{CustomerName, hex};

#[derive(Clone, Debug)]
pub struct Profile {
    pub name: CustomerName,
    pub external_id: String,
    /// Unless there is an account.
    pub role_arn: Option<String>,
    pub account: Option<String>,
    pub bucket: Option<String>,
    pub bucket_owner: Option<String>,
    pub region: Option<String>,
    /// Unless said, [`default_prefix`].
    pub prefix: Option<String>,
    pub groups: Vec<String>,
    pub params: Vec<(String, Value)>,
    /// `s3`, `kms` or a key.
    pub encryption: Option<String>,
    pub storage_class: Option<String>,
    pub acl: Option<String>,
    pub tags: Vec<(String, String)>,
}

/// The role that a customer is asked to make, unless it has one: a name of its own for
/// each profile, so that one account may have several.
pub fn default_role(account: &str, region: Option<&str>, name: &CustomerName) -> String {
    let partition = region.map_or("aws", partition);
    format!("arn:{partition}:iam::{account}:role/consign-{name}")
}

/// Never the whole bucket by mistake, and never that of another profile.
pub fn default_prefix(name: &CustomerName) -> String {
    format!("consign/{name}/")
}

/// 128 bits of the system's, in the characters that STS takes. Not a secret, but nobody
/// may have another customer's, and nobody can guess one.
pub fn new_external_id() -> Result<String, CliError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| CliError::internal("the system has no random numbers", &error))?;
    Ok(format!("c0ns1gn-{}", hex(&bytes)))
}

impl Profile {
    pub fn new(name: CustomerName) -> Result<Self, CliError> {
        Ok(Self {
            name,
            external_id: new_external_id()?,
            role_arn: None,
            account: None,
            bucket: None,
            bucket_owner: None,
            region: None,
            prefix: None,
            groups: Vec::new(),
            params: Vec::new(),
            encryption: None,
            storage_class: None,
            acl: None,
            tags: Vec::new(),
        })
    }

    pub fn role(&self) -> Option<String> {
        let by_account = || Some(default_role(self.account.as_deref()?, self.region.as_deref(), &self.name));
        self.role_arn.clone().or_else(by_account)
    }

    /// The table of `[customers.NAME]`, in the order of the documents.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        let mut put = |key: &str, text: Option<&str>| {
            if let Some(text) = text {
                table.insert(key, value(text));
            }
        };
        put("role_arn", self.role().as_deref());
        put("external_id", Some(&self.external_id));
        put("bucket", self.bucket.as_deref());
        put("bucket_owner", self.bucket_owner.as_deref());
        put("region", self.region.as_deref());
        put("prefix", Some(&self.prefix.clone().unwrap_or_else(|| default_prefix(&self.name))));
        put("storage_class", self.storage_class.as_deref());
        put("acl", self.acl.as_deref());
        match self.encryption.as_deref() {
            Some(key) if key != "s3" && key != "kms" => {
                table.insert("encryption", value(InlineTable::from_iter([("kms", key)])));
            }
            said => put("encryption", said),
        }
        if !self.groups.is_empty() {
            table.insert("groups", value(Array::from_iter(&self.groups)));
        }
        if !self.params.is_empty() {
            table.insert("params", value(InlineTable::from_iter(self.params.iter().cloned())));
        }
        if !self.tags.is_empty() {
            table.insert("tags", value(InlineTable::from_iter(self.tags.iter().cloned())));
        }
        table
    }
}

/// A value of `params` as people type it: what TOML knows as a number, a boolean, an
/// instant or an array is one, and all else is text. `"42"`, with its quotes, is text.
/// So is a number that would be written otherwise: `42_7` is not the tenant 427.
pub fn param(text: &str) -> Value {
    let text = text.trim();
    match text.parse::<Value>() {
        Ok(value) if !value.is_inline_table() => as_written(value, text),
        _ => text.into(),
    }
}

/// The value, unless it is a number that has another text than this.
fn as_written(mut value: Value, text: &str) -> Value {
    let is_text = match &value {
        Value::Integer(number) => number.value().to_string() != text,
        // NaN and the infinities are words, and no query takes them.
        Value::Float(number) => !number.value().is_finite() || format!("{:?}", number.value()) != text,
        _ => false,
    };
    if is_text {
        return text.into();
    }
    if let Value::Array(items) = &mut value {
        for item in items.iter_mut() {
            let (text, decor) = (item.clone().decorated("", "").to_string(), item.decor().clone());
            *item = as_written(item.clone(), &text);
            *item.decor_mut() = decor;
        }
    }
    value.decor_mut().clear();
    value
}

/// `NAME=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(format!("{} is not NAME=VALUE", quote(text))),
    }
}

/// Where a new profile goes: into a file of its own if `include` has a place for it, or
/// else to the others, if all of them are in one file.
pub fn place(config: &Config, name: &CustomerName) -> Result<PathBuf, CliError> {
    let main = config.path();
    let beside = main.parent().unwrap_or(Path::new("")).to_owned();
    let of_others: Vec<PathBuf> = {
        let mut files: Vec<PathBuf> = config
            .customers
            .keys()
            .map(|name| config.locate(&["customers", name.as_str()]).path().to_owned())
            .collect();
        files.sort();
        files.dedup();
        files
    };
    let usual = beside.join("customers.d");
    let folders = of_others.iter().filter(|file| **file != main).filter_map(|file| file.parent().map(Path::to_owned));
    let own = std::iter::once(usual).chain(folders).map(|folder| folder.join(format!("{name}.toml")));
    for path in own {
        if config.includes(&path) {
            return if path.exists() { Err(taken(&path, name)) } else { Ok(path) };
        }
    }
    match of_others.as_slice() {
        [only] => Ok(only.clone()),
        _ => {
            let message = format!("no place for the profile of '{name}': `include` does not name customers.d");
            let help = format!("add `include = [\"customers.d/*.toml\"]` at the top of {}", main.display());
            Err(CliError::new(Exit::Config, message, help))
        }
    }
}

fn taken(path: &Path, name: &CustomerName) -> CliError {
    let message = format!("{} is there already, and has no profile of '{name}' in it", path.display());
    CliError::new(Exit::Failed, message, "rename it, or give the customer another name")
}
