//! What can go wrong with a dataset, and how DataFusion's errors read once it is
//! known which table and file they are about.

use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::parquet::errors::ParquetError;

use crate::domain::{Asked, DatasetName, Failure, Layer, Retry, TableName};

/// What kind of trouble it is. Callers branch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The query cannot be planned, or does what a query of a dataset may not do.
    Query,
    /// A parameter that the customer does not have, or whose value has the wrong type.
    Parameter,
    /// The tenant column is missing or cannot name tenants.
    Tenant,
    /// A path that matches nothing.
    Missing,
    /// A file that is truncated, malformed, unlike its siblings or not named as it may be, or a value that the query
    /// cannot use.
    Data,
    /// A file that changed while it was read.
    Changed,
    /// The query needs more memory than the pool has, and cannot spill.
    Memory,
    /// Spill files or local files cannot be read or written.
    Disk,
    /// The object store refuses the vendor's credentials.
    Access,
    /// The object store does not answer.
    Network,
    /// A path, name or setting that makes no sense.
    Config,
    /// A fault in consign or in the query engine.
    Internal,
}

/// Why a dataset cannot be read: what was wrong, where, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct DatasetError {
    pub kind: Kind,
    pub message: String,
    /// Empty when nobody can know.
    pub remedy: String,
}

/// A DataFusion error on its way up, with the file that it is about.
#[derive(Debug, thiserror::Error)]
#[error("table '{table}', file {file}")]
pub(super) struct InFile {
    pub table: TableName,
    pub file: String,
    #[source]
    pub source: DataFusionError,
}

impl DatasetError {
    pub(super) fn new(kind: Kind, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, message: printable(&message.into()), remedy: remedy.into() }
    }

    /// Puts the dataset's name in front, once.
    pub(super) fn of(mut self, dataset: &DatasetName) -> Self {
        let place = format!("dataset '{dataset}'");
        if !self.message.starts_with(&place) {
            let joint = if self.message.starts_with("table '") { ", " } else { ": " };
            self.message = format!("{place}{joint}{}", self.message);
        }
        self
    }

    /// Puts a table's name, and a file of it, in front.
    pub(super) fn in_table(mut self, table: &TableName, file: Option<&str>) -> Self {
        let place = match file {
            Some(file) => format!("table '{table}', file {file}"),
            None => format!("table '{table}'"),
        };
        if !self.message.starts_with("table '") {
            self.message = format!("{}: {}", printable(&place), self.message);
        }
        self
    }

    /// Translates an error of planning or running.
    pub(super) fn engine(error: &DataFusionError) -> Self {
        let seen = Seen::of(error);
        let message = match &seen.place {
            Some(place) => format!("{place}: {}", seen.text),
            None => seen.text,
        };
        Self::new(seen.kind, message, remedy(seen.kind, &seen.hint))
    }

    pub(super) fn store(error: &object_store::Error) -> Self {
        let seen = Seen::store(error);
        Self::new(seen.kind, seen.text, remedy(seen.kind, &seen.hint))
    }
}

impl From<DatasetError> for Failure {
    fn from(error: DatasetError) -> Self {
        let (layer, retry) = match error.kind {
            Kind::Query | Kind::Data | Kind::Internal => (Layer::Dataset, Retry::Never),
            Kind::Missing | Kind::Changed | Kind::Memory => (Layer::Dataset, Retry::Later),
            Kind::Parameter | Kind::Config => (Layer::Config, Retry::Never),
            Kind::Tenant => (Layer::Tenant, Retry::Never),
            Kind::Disk => (Layer::Local, Retry::Later),
            Kind::Access => (Layer::Identity, Retry::Later),
            Kind::Network => (Layer::Network, Retry::Later),
        };
        let is_elsewhere = matches!(error.kind, Kind::Disk | Kind::Access | Kind::Network);
        let asked = is_elsewhere.then_some(Asked::Vendor);
        Failure { asked, ..Failure::new(layer, retry, error.message, error.remedy) }
    }
}

/// What a walk down an error's wrappers found.
struct Seen {
    kind: Kind,
    place: Option<String>,
    text: String,
    hint: Option<String>,
}

impl Seen {
    fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, place: None, text: text.into(), hint: None }
    }

    fn hint(self, hint: &str) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn of(error: &DataFusionError) -> Self {
        match error {
            DataFusionError::ArrowError(error, _) => Self::arrow(error),
            DataFusionError::ParquetError(error) => Self::parquet(error),
            DataFusionError::ObjectStore(error) => Self::store(error),
            DataFusionError::IoError(error) => Self::io(error),
            DataFusionError::SQL(error, _) => {
                let text = error.to_string();
                Self::new(Kind::Query, format!("the query is not valid SQL: {}", strip(&text, "sql parser error: ")))
            }
            DataFusionError::Plan(text) => Self::new(Kind::Query, unknown_table(text).unwrap_or_else(|| text.clone())),
            // The query engine takes a file that is neither of IPC's two forms for a fault of its own.
            DataFusionError::Internal(text) if text.starts_with("Failed to parse Arrow file") => {
                Self::new(Kind::Data, "malformed Arrow IPC: it is neither a whole file nor a whole stream")
            }
            DataFusionError::NotImplemented(text) => Self::new(Kind::Query, format!("not supported: {text}")),
            DataFusionError::SchemaError(error, _) => Self::schema(error),
            DataFusionError::Configuration(text) => Self::new(Kind::Internal, text),
            DataFusionError::Execution(text) => Self::new(Kind::Data, bounded(text)),
            DataFusionError::ResourcesExhausted(text) => Self::exhausted(text),
            DataFusionError::ExecutionJoin(error) => Self::new(Kind::Internal, error.to_string()),
            DataFusionError::External(error) => Self::external(error.as_ref()),
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => Self::of(inner),
            DataFusionError::Shared(inner) => Self::of(inner),
            DataFusionError::Collection(errors) => match errors.first() {
                Some(first) => Self::of(first),
                None => Self::new(Kind::Internal, "an empty list of errors"),
            },
            other => Self::new(Kind::Internal, other.strip_backtrace()),
        }
    }

    fn arrow(error: &ArrowError) -> Self {
        match error {
            ArrowError::ExternalError(error) => Self::external(error.as_ref()),
            ArrowError::IoError(_, error) => Self::io(error),
            ArrowError::CsvError(text) => Self::new(Kind::Data, format!("malformed CSV: {}", bounded(text))),
            ArrowError::ParseError(text) | ArrowError::CastError(text) | ArrowError::ComputeError(text) => {
                Self::new(Kind::Data, bounded(text))
            }
            ArrowError::JsonError(text) => Self::new(Kind::Data, format!("malformed JSON: {}", bounded(text))),
            ArrowError::IpcError(text) => Self::new(Kind::Data, format!("malformed Arrow IPC: {text}")),
            ArrowError::AvroError(text) => Self::new(Kind::Data, format!("malformed Avro: {text}")),
            ArrowError::ParquetError(text) => Self::new(Kind::Data, format!("malformed Parquet: {text}")),
            ArrowError::DivideByZero => Self::new(Kind::Data, "the query divides by zero"),
            ArrowError::MemoryError(text) => Self::new(Kind::Memory, text),
            other => Self::new(Kind::Data, bounded(&other.to_string())),
        }
    }

    fn parquet(error: &ParquetError) -> Self {
        match error {
            ParquetError::External(error) => Self::external(error.as_ref()),
            other => {
                let text = other.to_string();
                let text = ["Parquet error: ", "EOF: ", "Arrow: "].iter().fold(text.as_str(), |t, p| strip(t, p));
                Self::new(Kind::Data, format!("malformed Parquet: {text}"))
            }
        }
    }

    fn io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        if let Some(inner) = error.get_ref() {
            let seen = Self::external(inner);
            if seen.kind != Kind::Internal {
                return seen;
            }
        }
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::new(Kind::Data, format!("the file ends too early: {error}")),
            ErrorKind::InvalidData | ErrorKind::InvalidInput => Self::new(Kind::Data, error.to_string()),
            ErrorKind::NotFound => Self::new(Kind::Missing, error.to_string()),
            ErrorKind::PermissionDenied => Self::new(Kind::Disk, error.to_string()).hint(READ_RIGHTS),
            // Decoders report what they cannot decode as an error of no kind.
            ErrorKind::Other => Self::new(Kind::Data, error.to_string()),
            _ => Self::new(Kind::Disk, error.to_string()),
        }
    }

    fn schema(error: &SchemaError) -> Self {
        let mut seen = Self::new(Kind::Query, error.to_string().trim_end_matches('.').to_owned());
        if let SchemaError::FieldNotFound { field, valid_fields } = error {
            let names: Vec<&str> = valid_fields.iter().map(|field| field.name.as_str()).collect();
            let near = near(&field.name, names.iter().copied());
            seen.text = match near {
                Some(near) => format!("there is no column '{}'; did you mean '{near}'?", field.name),
                None => format!("there is no column '{}'; there are {}", field.name, names.join(", ")),
            };
            if near.is_some_and(|near| near.eq_ignore_ascii_case(&field.name) && near != near.to_lowercase()) {
                seen.hint = Some("names are lowercased unless quoted: write the column in double quotes".into());
            }
        }
        seen
    }

    fn exhausted(text: &str) -> Self {
        if text.contains("disk") || text.contains("max_temp_directory_size") {
            return Self::new(Kind::Disk, format!("the query's spill files outgrow their limit: {text}"));
        }
        let first = text.lines().next().unwrap_or_default();
        Self::new(Kind::Memory, format!("the query needs more memory than daemon.query_memory: {first}"))
    }

    fn external(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Self {
        if let Some(found) = error.downcast_ref::<InFile>() {
            let mut seen = Self::of(&found.source);
            seen.place.get_or_insert_with(|| found.to_string());
            return seen;
        }
        if let Some(error) = error.downcast_ref::<DataFusionError>() {
            return Self::of(error);
        }
        if let Some(error) = error.downcast_ref::<ArrowError>() {
            return Self::arrow(error);
        }
        if let Some(error) = error.downcast_ref::<ParquetError>() {
            return Self::parquet(error);
        }
        if let Some(error) = error.downcast_ref::<object_store::Error>() {
            return Self::store(error);
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Self::io(error);
        }
        if let Some(error) = error.downcast_ref::<DatasetError>() {
            return Self::new(error.kind, &error.message).hint(&error.remedy);
        }
        Self::new(Kind::Internal, error.to_string())
    }

    fn store(error: &object_store::Error) -> Self {
        use object_store::Error;
        let inner = |source: &(dyn std::error::Error + 'static)| chain(source);
        match error {
            Error::NotFound { path, .. } => Self::new(Kind::Missing, format!("there is no object {path}")),
            Error::PermissionDenied { path, source } => {
                Self::new(Kind::Access, format!("access to {path} is denied: {}", inner(source.as_ref())))
            }
            Error::Unauthenticated { path, source } => {
                Self::new(Kind::Access, format!("the credentials are refused for {path}: {}", inner(source.as_ref())))
            }
            Error::Generic { store, source } => match source.downcast_ref::<DatasetError>() {
                Some(error) => Self::new(error.kind, &error.message).hint(&error.remedy),
                None => Self::generic(*store == "LocalFileSystem", source.as_ref()),
            },
            Error::Precondition { path, .. } => Self::new(Kind::Changed, format!("{path} changed while it was read")),
            Error::InvalidPath { source } => Self::new(Kind::Config, source.to_string()),
            other => Self::new(Kind::Internal, other.to_string()),
        }
    }

    /// What object_store has no type for; a listing's refusals are told by their status alone.
    fn generic(local: bool, source: &(dyn std::error::Error + 'static)) -> Self {
        let text = chain(source);
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if has(&["AuthorizationHeaderMalformed", "PermanentRedirect", "redirect without LOCATION"]) {
            let what = format!("the bucket is in another region than consign asks for it: {text}");
            return Self::new(Kind::Config, what).hint("set `[aws] region` to the bucket's region");
        }
        if has(&["status code: 401", "status code: 403"]) {
            return Self::new(Kind::Access, text);
        }
        if has(&["status code: 404"]) {
            return Self::new(Kind::Missing, text);
        }
        let mut next = Some(source);
        while let Some(cause) = next.filter(|_| local) {
            let io = cause.downcast_ref::<std::io::Error>();
            if let Some(io) = io.filter(|io| io.kind() != std::io::ErrorKind::Other) {
                return Self { text, ..Self::io(io) };
            }
            next = cause.source();
        }
        Self::new(Kind::Network, text)
    }
}

/// The remedy when a local file may not be read.
pub(super) const READ_RIGHTS: &str = "let the daemon's user read the file";

fn remedy(kind: Kind, hint: &Option<String>) -> String {
    if let Some(hint) = hint {
        return hint.clone();
    }
    match kind {
        Kind::Query => "correct the dataset's `query`; `consign check` plans it without running it",
        Kind::Missing => "put the file where the path points, or correct the table's `path`",
        Kind::Data => "write the file again, whole and in one format, or leave it out of the table's `path`",
        Kind::Changed => "write data files elsewhere and rename them into place",
        Kind::Memory => "raise daemon.query_memory, or let the query keep fewer rows at once",
        Kind::Disk => "free or enlarge the disk under daemon.cache_dir",
        Kind::Access => {
            "let the vendor's own AWS identity list the bucket and read its objects (s3:ListBucket, s3:GetObject)"
        }
        Kind::Network => "look at the way to the object store",
        Kind::Parameter | Kind::Tenant | Kind::Config | Kind::Internal => "",
    }
    .into()
}

/// The query engine's `table 'datafusion.public.NAME' not found`, as people write names.
fn unknown_table(text: &str) -> Option<String> {
    let name = text.strip_prefix("table 'datafusion.")?.strip_suffix("' not found")?;
    Some(format!("the dataset has no table '{}'", strip(name, "public.")))
}

/// The name most like `wrong`, if one is near enough to be what was meant.
pub(super) fn near<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    names
        .map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().max(wrong.len()) / 4)
        .min()
        .map(|(_, name)| name)
}

fn strip<'a>(text: &'a str, prefix: &str) -> &'a str {
    text.strip_prefix(prefix).unwrap_or(text)
}

/// A library's words about data, which may be another customer's: without the row, and not at any length.
fn bounded(text: &str) -> String {
    const CHARS: usize = 240;
    let text = text.split(". Row data:").next().unwrap_or_default().trim_end_matches('.');
    match text.char_indices().nth(CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into(),
    }
}

/// Without control characters, which a terminal would obey.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// The causes of an error as one line, without those that their wrapper has told already.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(error: ArrowError) -> DatasetError {
        DatasetError::engine(&DataFusionError::ArrowError(Box::new(error), None))
    }

    /// The row reader's errors have the whole row in them.
    #[test]
    fn a_message_does_not_carry_a_row() {
        let text = "Error while parsing value 'x' as type 'Int64' for column 0 at line 7. Row data: '[x,secret]'";
        for error in [ArrowError::ParseError(text.into()), ArrowError::CsvError(text.into())] {
            let error = engine(error);
            assert!(error.message.contains("'x'") && !error.message.contains("secret"), "{error:?}");
        }
        let error = engine(ArrowError::CastError("v".repeat(1 << 20)));
        assert!(error.message.len() < 300, "{} bytes", error.message.len());
        let error = engine(ArrowError::CastError("a\u{1b}[31m\nb".into()));
        assert_eq!(error.message, "a\\u{1b}[31m\\nb");
    }

    #[test]
    fn a_file_that_may_not_be_read_needs_rights_and_no_room() {
        let source = Box::new(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        let error = DatasetError::store(&object_store::Error::Generic { store: "LocalFileSystem", source });
        assert_eq!((error.kind, error.remedy.as_str()), (Kind::Disk, READ_RIGHTS));
    }
}
