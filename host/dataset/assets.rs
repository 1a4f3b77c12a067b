//! Assets: whole files that are passed through unread.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use glob::Pattern;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt};

use super::error::{DatasetError, Kind, READ_RIGHTS, near};
use super::named::{same, shortened};
use super::source::{self, Found};
use super::store::VendorStore;
use crate::config::FileDataset;
use crate::domain::{CustomerName, DatasetName, Failure, LeafName, ParamValue};

/// One file of an asset, as it was when it was listed.
#[derive(Clone)]
pub struct AssetFile {
    pub name: LeafName,
    /// By the name's suffix; `application/octet-stream` when that says nothing.
    pub media_type: String,
    pub bytes: u64,
    dataset: DatasetName,
    path: String,
    meta: ObjectMeta,
    store: Arc<dyn ObjectStore>,
}

impl AssetFile {
    /// The file's bytes. Fails if the file is no longer what was listed, before
    /// the first byte or after the last.
    pub fn open(&self) -> BoxStream<'static, Result<Bytes, Failure>> {
        let file = self.clone();
        stream::once(file.read()).try_flatten().boxed()
    }

    async fn read(self) -> Result<BoxStream<'static, Result<Bytes, Failure>>, Failure> {
        let options = GetOptions { if_match: self.meta.e_tag.clone(), ..GetOptions::default() };
        let got = self.store.get_opts(&self.meta.location, options).await.map_err(|error| self.failure(&error))?;
        let end = self.clone();
        let bytes = got.into_stream().map(move |chunk| match chunk {
            Ok(bytes) if bytes.is_empty() => Err(self.about(shortened())),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(self.failure(&error)),
        });
        let end = stream::once(async move { end.unchanged().await });
        Ok(bytes.chain(end.filter_map(|checked| async move { checked.err().map(Err) })).boxed())
    }

    async fn unchanged(self) -> Result<(), Failure> {
        let now = self.store.head(&self.meta.location).await.map_err(|error| self.failure(&error))?;
        same(&self.meta.location, (self.meta.size, self.meta.last_modified), (now.size, now.last_modified))
            .map_err(|error| error.of(&self.dataset).into())
    }

    fn failure(&self, error: &object_store::Error) -> Failure {
        let mut error = DatasetError::store(error);
        if error.kind == Kind::Missing {
            error.kind = Kind::Changed;
        }
        self.about(error)
    }

    fn about(&self, mut error: DatasetError) -> Failure {
        error.message = format!("file {}: {}", self.path, error.message);
        error.of(&self.dataset).into()
    }
}

/// Finds a customer's files, sorted by name.
pub(super) async fn find(
    dataset: &FileDataset,
    customer: &CustomerName,
    params: &BTreeMap<String, ParamValue>,
    vendor: &VendorStore,
    runtime: &RuntimeEnv,
) -> Result<Vec<AssetFile>, DatasetError> {
    let path = fill(&dataset.files, customer, params)?;
    let found = source::find(&path, vendor, runtime).await?;
    if found.root == "/" {
        let files: Vec<PathBuf> = found.files.iter().map(|meta| format!("/{}", meta.location).into()).collect();
        tokio::task::spawn_blocking(move || stay_inside(&path, &files))
            .await
            .map_err(|error| DatasetError::new(Kind::Internal, error.to_string(), ""))??;
    }
    name_all(dataset, &found)
}

fn name_all(dataset: &FileDataset, found: &Found) -> Result<Vec<AssetFile>, DatasetError> {
    let mut named: BTreeMap<LeafName, AssetFile> = BTreeMap::new();
    for meta in &found.files {
        let path = format!("{}{}", found.root, meta.location);
        let leaf = meta.location.filename().unwrap_or_default();
        let name = LeafName::parse(leaf).map_err(|why| {
            let what = format!("the file {path} cannot be delivered: its name {why}");
            DatasetError::new(Kind::Data, what, "rename the file, or leave it out of `files`")
        })?;
        if let Some(other) = named.get(&name) {
            let what = format!("the files {} and {path} have the same name", other.path);
            let remedy = "rename one of them: objects are named by the file's name alone";
            return Err(DatasetError::new(Kind::Data, what, remedy));
        }
        let media_type = mime_guess::from_path(leaf).first_raw().unwrap_or("application/octet-stream").to_owned();
        let file = AssetFile {
            name: name.clone(),
            media_type,
            bytes: meta.size,
            dataset: dataset.name.clone(),
            path,
            meta: meta.clone(),
            store: found.store.clone(),
        };
        named.insert(name, file);
    }
    Ok(named.into_values().collect())
}

/// Fills `{customer}` and `{param.NAME}`. A value is a literal piece of a
/// name: no wildcard in it matches, and it leads to no other folder. That it
/// does not begin another customer's name is the configuration's care: it
/// refuses a wildcard beside a placeholder.
fn fill(
    template: &str,
    customer: &CustomerName,
    params: &BTreeMap<String, ParamValue>,
) -> Result<String, DatasetError> {
    // A directory is no pattern.
    let literally = |value: &str| if template.ends_with('/') { value.to_owned() } else { Pattern::escape(value) };
    let mut path = String::new();
    let mut rest = template;
    while let Some((literal, inside)) = rest.split_once('{') {
        let bad = |what: String| DatasetError::new(Kind::Config, what, "there are {customer} and {param.NAME}");
        let Some((placeholder, after)) = inside.split_once('}') else {
            return Err(bad(format!("`files` = '{template}' has a '{{' without its '}}'")));
        };
        path.push_str(literal);
        match placeholder.strip_prefix("param.") {
            Some(name) => path.push_str(&literally(&piece(name, params)?)),
            None if placeholder == "customer" => path.push_str(&literally(customer.as_str())),
            None => return Err(bad(format!("`files` = '{template}' has the unknown placeholder '{{{placeholder}}}'"))),
        }
        rest = after;
    }
    path.push_str(rest);
    let steps = |path: &str| path.split('/').filter(|segment| matches!(*segment, "." | "..")).count();
    if steps(&path) != steps(template) {
        let what = format!("the customer's values make '{path}' of `files`, which has a path step");
        return Err(DatasetError::new(Kind::Parameter, what, "use a plain name as the parameter's value"));
    }
    Ok(path)
}

fn piece(name: &str, params: &BTreeMap<String, ParamValue>) -> Result<String, DatasetError> {
    let value = match params.get(name) {
        Some(ParamValue::Text(text)) => text.clone(),
        Some(ParamValue::Int(number)) => number.to_string(),
        Some(ParamValue::Bool(value)) => value.to_string(),
        Some(_) => {
            let what = format!("`files` uses {{param.{name}}}, whose value cannot be part of a path");
            return Err(DatasetError::new(Kind::Parameter, what, "use a text or a whole number"));
        }
        None => {
            let what = match near(name, params.keys().map(String::as_str)) {
                Some(near) => {
                    format!("`files` uses {{param.{name}}}, which the customer has not; did you mean {{param.{near}}}?")
                }
                None => format!("`files` uses {{param.{name}}}, which the customer has not"),
            };
            return Err(DatasetError::new(Kind::Parameter, what, format!("add `{name}` to the customer's `params`")));
        }
    };
    let separates = |c: char| c == '/' || c == '\\' || c.is_control();
    if value.is_empty() || value.contains(separates) || matches!(value.as_str(), "." | "..") {
        let what = format!(
            "the customer's parameter '{name}' cannot be part of a path: it is empty, a step, or has a separator"
        );
        return Err(DatasetError::new(Kind::Parameter, what, "use a plain name as the parameter's value"));
    }
    Ok(value)
}

/// Refuses files that a symbolic link brought in from outside the directory before the first wildcard.
fn stay_inside(path: &str, files: &[PathBuf]) -> Result<(), DatasetError> {
    let io = |what: String| DatasetError::new(Kind::Disk, what, READ_RIGHTS);
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    // An escaped character of a value looks like a wildcard; it only makes the directory wider.
    let fixed = directory.split('/').take_while(|segment| !segment.contains(['*', '?', '['])).collect::<Vec<_>>();
    let base = PathBuf::from(format!("{}/", fixed.join("/")));
    let real = base.canonicalize().map_err(|error| io(format!("{}: {error}", base.display())))?;
    for file in files {
        let target = file.canonicalize().map_err(|error| io(format!("{}: {error}", file.display())))?;
        if !target.starts_with(&real) {
            let what = format!("the file {} is a link out of {}", file.display(), base.display());
            return Err(DatasetError::new(Kind::Data, what, "put the file itself there, or leave it out of `files`"));
        }
    }
    Ok(())
}
