//! Which files a path names: one file, a glob, or a directory, on disk or in S3.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use glob::{MatchOptions, Pattern};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::error::{DatasetError, Kind, READ_RIGHTS};
use super::store::{self, VendorStore};

/// The files that a path named when it was looked at, sorted by path.
#[derive(Clone)]
pub(super) struct Found {
    pub url: ObjectStoreUrl,
    pub store: Arc<dyn ObjectStore>,
    /// What stands before an object's path: `/` or `s3://bucket/`.
    pub root: String,
    pub files: Vec<ObjectMeta>,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} files under {}", self.files.len(), self.root)
    }
}

/// Wildcards stay inside one segment (`**` crosses them), and hidden files are named explicitly.
pub(super) const MATCH: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Finds at least one file, or fails.
pub(super) async fn find(path: &str, vendor: &VendorStore, runtime: &RuntimeEnv) -> Result<Found, DatasetError> {
    let mut found = match path.strip_prefix("s3://") {
        Some(rest) => {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            let (url, store) = store::bucket(vendor, runtime, bucket)?;
            let files = in_bucket(store.as_ref(), key).await?;
            Found { url, store, root: format!("s3://{bucket}/"), files }
        }
        None => {
            let url = ObjectStoreUrl::local_filesystem();
            let store = runtime.object_store(&url).map_err(|error| DatasetError::engine(&error))?;
            let files = on_disk(store.as_ref(), path).await?;
            Found { url, store, root: "/".into(), files }
        }
    };
    if found.files.is_empty() {
        return Err(DatasetError::new(
            Kind::Missing,
            format!("nothing is at {path}"),
            if path.ends_with('/') || path.contains('*') {
                "put files there, or correct the table's `path`"
            } else {
                "put the file there, or correct the table's `path`; a directory's ends in '/'"
            },
        ));
    }
    found.files.sort_by(|a, b| a.location.as_ref().cmp(b.location.as_ref()));
    Ok(found)
}

/// Markers, checksums and half-written files begin with `_` or `.`, by the convention of Hive and Spark.
fn hidden(relative: &str) -> bool {
    relative.split('/').any(|segment| (segment.starts_with('_') && !segment.contains('=')) || segment.starts_with('.'))
}

fn has_wildcard(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

fn pattern(path: &str) -> Result<Pattern, DatasetError> {
    Pattern::new(path).map_err(|error| {
        DatasetError::new(
            Kind::Config,
            format!("'{path}' is not a glob: {error}"),
            "write a path with *, ?, [a-z] or **",
        )
    })
}

async fn in_bucket(store: &dyn ObjectStore, key: &str) -> Result<Vec<ObjectMeta>, DatasetError> {
    let parse = |key: &str| {
        Path::parse(key).map_err(|error| DatasetError::new(Kind::Config, format!("'{key}' is not a key: {error}"), ""))
    };
    let directory = key.is_empty() || key.ends_with('/');
    if !directory && !has_wildcard(key) {
        let key = parse(key)?;
        return match store.head(&key).await {
            Ok(meta) => Ok(vec![meta]),
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            // The answer to HEAD has no body that says what is wrong; that to a listing has one.
            Err(error) => match store.list(Some(&key)).next().await {
                Some(Err(told)) => Err(DatasetError::store(&told)),
                _ => Err(DatasetError::store(&error)),
            },
        };
    }
    // A directory is a name, whatever it looks like; before a glob's first wildcard nothing has to be listed.
    let fixed = match directory {
        true => key.to_owned(),
        false => key.split('/').take_while(|segment| !has_wildcard(segment)).collect::<Vec<_>>().join("/"),
    };
    let prefix = parse(fixed.trim_end_matches('/'))?;
    let pattern = (!directory).then(|| pattern(key)).transpose()?;
    let listed: Vec<ObjectMeta> =
        store.list(Some(&prefix)).try_collect().await.map_err(|error| DatasetError::store(&error))?;
    Ok(listed
        .into_iter()
        .filter(|meta| match &pattern {
            Some(pattern) => pattern.matches_with(meta.location.as_ref(), MATCH),
            None => !hidden(meta.location.as_ref()[prefix.as_ref().len()..].trim_start_matches('/')),
        })
        .collect())
}

async fn on_disk(store: &dyn ObjectStore, path: &str) -> Result<Vec<ObjectMeta>, DatasetError> {
    let owned = path.to_owned();
    let found = tokio::task::spawn_blocking(move || walk(&owned));
    let paths = found.await.map_err(|error| DatasetError::new(Kind::Internal, error.to_string(), ""))??;
    stream::iter(paths)
        // Boxed, so that the whole can be sent between threads (rust-lang/rust#102211).
        .map(|path| {
            async move {
                let at = Path::from_absolute_path(&path).map_err(|error| {
                    let what = format!("'{}' has a name that cannot be read: {error}", path.display());
                    DatasetError::new(Kind::Data, what, "rename the file, or leave it out")
                })?;
                store.head(&at).await.map_err(|error| DatasetError::store(&error))
            }
            .boxed()
        })
        .buffered(16)
        .try_collect()
        .await
}

/// Paths of regular files, symlinks followed.
fn walk(path: &str) -> Result<Vec<std::path::PathBuf>, DatasetError> {
    let plain = std::path::Path::new(path);
    let unreadable = |path: &std::path::Path, error: &std::io::Error| {
        let what = format!("{} cannot be looked at: {error}", path.display());
        DatasetError::new(Kind::Disk, what, READ_RIGHTS)
    };
    match std::fs::metadata(plain) {
        Ok(meta) if meta.is_file() => return Ok(vec![plain.to_owned()]),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(unreadable(plain, &error)),
        Ok(_) | Err(_) => {}
    }
    let (text, base) = match path.strip_suffix('/') {
        Some(directory) => (format!("{}/**/*", Pattern::escape(directory)), Some(path)),
        None if has_wildcard(path) => (path.to_owned(), None),
        None => return Ok(Vec::new()),
    };
    let options = if base.is_some() { MatchOptions { require_literal_leading_dot: false, ..MATCH } } else { MATCH };
    pattern(&text)?;
    let entries =
        glob::glob_with(&text, options).map_err(|error| DatasetError::new(Kind::Config, error.to_string(), ""))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| unreadable(error.path(), error.error()))?;
        let relative = base.and_then(|base| file.strip_prefix(base).ok()).and_then(|rest| rest.to_str());
        if file.is_file() && !relative.is_some_and(hidden) {
            files.push(file);
        }
    }
    Ok(files)
}

/// The values of Hive partition columns in a file's path, as text.
pub(super) fn partition_values(path: &str, columns: &[String]) -> Result<Vec<ScalarValue>, DatasetError> {
    columns
        .iter()
        .map(|column| {
            let value = path.split('/').rev().skip(1).find_map(|segment| {
                let (name, value) = segment.split_once('=')?;
                (name == column).then_some(value)
            });
            match value {
                // What Hive, Spark and DuckDB write for NULL.
                Some("__HIVE_DEFAULT_PARTITION__") => Ok(ScalarValue::Utf8(None)),
                Some(value) => Ok(ScalarValue::Utf8(Some(unescape(value)))),
                None => Err(DatasetError::new(
                    Kind::Data,
                    format!("the path has no '{column}=…' directory"),
                    "move the file into its partition, or correct `partitions`",
                )),
            }
        })
        .collect()
}

/// Hive writes what a directory cannot hold as `%XX`.
fn unescape(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = value.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| value.into())
}
