//! `[datasets.NAME]`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::model::{Dataset, FileDataset, FileFormat, TableDataset, TableSource, Tenant};
use super::report::{Problems, quote};
use super::section::Section;
use super::shape::{Kind, Names, Shape, TEXT, default, invalid, optional, required};
use super::source::Span;
use super::tree::{Entry, Table};
use crate::domain::{BucketName, DatasetName, Invalid, TableName};

pub(crate) static DATASETS: Names =
    super::names("dataset", |text| DatasetName::parse(text).map(drop), Kind::Table(&DATASET));

static DATASET: Shape = Shape {
    noun: "dataset",
    doc: "What is delivered: rows of tables, or whole files. Either `tables` or `files`.",
    keys: &[
        optional(
            "tables",
            Kind::Map(&TABLES),
            r#"{ orders = "lake/orders/*.parquet" }"#,
            "Tables by the name that SQL sees; each a path, or a table with more to say.",
        ),
        default(
            "query",
            TEXT,
            "every row of the only table",
            r#""select * from orders where day >= $interval_start and day < $interval_end""#,
            "SQL over the tables. `$interval_start`, `$interval_end` and `$customer.PARAM` are bound as values.",
        ),
        optional(
            "tenant_column",
            TEXT,
            r#""customer_id""#,
            "Column of the result that says whose row it is. Each customer gets its own rows only; a foreign row ends \
             the delivery before anything is visible.",
        ),
        default(
            "tenant_param",
            TEXT,
            "the name in `tenant_column`",
            r#""customer_id""#,
            "Key in a customer's `params` with its value, or list of values, of the tenant column.",
        ),
        default(
            "shared",
            Kind::Bool,
            "false",
            "true",
            "Says that every customer may see every row. Needed for a share to several customers without `tenant_column`.",
        ),
        optional(
            "files",
            TEXT,
            r#""reports/{customer}/*.pdf""#,
            "An asset: whole files, passed through unread. A path or glob, relative to this file, or `s3://bucket/…`; \
             may hold `{customer}` and `{param.NAME}`.",
        ),
    ],
    synonyms: &[
        ("sql", "query"),
        ("table", "tables"),
        ("tenant", "tenant_column"),
        ("path", "tables"),
        ("file", "files"),
    ],
};

static TABLES: Names = Names {
    noun: "table",
    rule: |text| TableName::parse(text).map(drop),
    pattern: "^[a-z][a-z0-9_]{0,62}$",
    value: Kind::Either(&[TEXT, Kind::Table(&TABLE)]),
};

pub(super) static TABLE: Shape = Shape {
    noun: "table",
    doc: "Where a table's rows are.",
    keys: &[
        required(
            "path",
            TEXT,
            r#""lake/orders/*.parquet""#,
            "A file, a glob, a directory (ending in `/`), or `s3://bucket/…` of those. Relative to this file.",
        ),
        default(
            "format",
            Kind::Choice(&["parquet", "csv", "ndjson", "arrow", "avro"]),
            "from the extension: `.parquet`, `.csv` or `.tsv`, `.ndjson` or `.jsonl`, `.arrow`, `.feather` or `.ipc`, \
             `.avro`; text also `.gz`, `.bz2`, `.xz` or `.zst`",
            r#""parquet""#,
            "`ndjson` is one JSON object a line, `arrow` is Arrow IPC.",
        ),
        default("header", Kind::Bool, "true", "true", "CSV: whether the first line names the columns."),
        default("delimiter", TEXT, r#"",""#, r#"";""#, "CSV: one ASCII character. A tab for `.tsv`."),
        default("quote", TEXT, r#""\"""#, r#""'""#, "CSV: one ASCII character."),
        optional(
            "partitions",
            Kind::List(&TEXT),
            r#"["year", "month"]"#,
            "Columns that folders name (`year=2026/month=01/`), in their order.",
        ),
        optional(
            "columns",
            Kind::Map(&COLUMNS),
            r#"{ zip = "varchar", amount = "decimal(12, 2)" }"#,
            "CSV and NDJSON: SQL types of columns whose type should not follow from their values.",
        ),
    ],
    synonyms: &[("location", "path"), ("type", "format"), ("separator", "delimiter"), ("partition_by", "partitions")],
};

static COLUMNS: Names = Names { noun: "column", rule: |_| Ok(()), pattern: "^.+$", value: TEXT };

pub(crate) fn read(
    datasets: Option<&Table>,
    base: impl Fn(usize) -> PathBuf,
    problems: &mut Problems,
) -> BTreeMap<DatasetName, Arc<Dataset>> {
    let mut read = BTreeMap::new();
    for section in Section::each(datasets, &DATASET) {
        let Ok(name) = DatasetName::parse(section.name) else { continue };
        let what = format!("dataset {}", quote(section.name));
        match (section.node("tables"), section.node("files")) {
            (Some(_), Some(_)) => {
                let message = format!("{what} has both `tables` and `files`");
                problems.error(section.key_span("files"), message, "make two datasets of it");
            }
            (None, None) => {
                let help = "add `tables.NAME = \"lake/*.parquet\"`, or `files = \"reports/*.pdf\"` for whole files";
                problems.error(section.name_span, format!("{what} has neither `tables` nor `files`"), help);
            }
            (Some(_), None) => {
                let dataset = tables(&section, name.clone(), &base, problems);
                read.insert(name, Arc::new(Dataset::Tables(dataset)));
            }
            (None, Some(_)) => {
                let rows = ["query", "tenant_column", "tenant_param"];
                section.refuse(&rows, "is about rows, but `files` pass through unread", "remove it", problems);
                if let Some(files) = files(&section, &base, problems) {
                    read.insert(name.clone(), Arc::new(Dataset::Files(FileDataset { name, files })));
                }
            }
        }
    }
    read
}

fn tables(
    section: &Section<'_>,
    name: DatasetName,
    base: &impl Fn(usize) -> PathBuf,
    problems: &mut Problems,
) -> TableDataset {
    let mut sources = BTreeMap::new();
    for (name, entry) in section.node("tables").and_then(|node| node.table()).into_iter().flat_map(Table::iter) {
        if let (Ok(table), Some(source)) = (TableName::parse(name), source(name, entry, base, problems)) {
            sources.insert(table, source);
        }
    }
    let written = section.node("tables").and_then(|node| node.table()).map_or(0, Table::len);
    let query = section.parse("query", query, problems);
    if written == 0 && section.node("tables").is_some_and(|node| node.table().is_some()) {
        let message = format!("dataset {} has no table", quote(section.name));
        problems.error(section.key_span("tables"), message, "add `tables.NAME = \"lake/*.parquet\"`");
    }
    if written > 1 && !section.has("query") {
        let message = format!("dataset {} has {written} tables and no `query` to join them", quote(section.name));
        problems.error(section.name_span, message, "add `query = \"select …\"`, or make a dataset of each table");
    }
    let tenant = section
        .parse("tenant_column", column, problems)
        .map(|column| Tenant { param: section.text("tenant_param").unwrap_or(&column).to_owned(), column });
    if section.has("tenant_param") && !section.has("tenant_column") {
        let help = "add `tenant_column`, the column that it is compared with";
        problems.error(section.key_span("tenant_param"), "`tenant_param` is given without `tenant_column`", help);
    }
    let shared = section.bool("shared").unwrap_or(false);
    if shared && section.has("tenant_column") {
        let message = "`shared` says that all may see every row, `tenant_column` that each sees its own";
        problems.error(section.key_span("shared"), message, "keep one of them");
    }
    TableDataset { name, tables: sources, query, tenant, shared }
}

fn query(text: &str) -> Result<String, Invalid> {
    if text.trim().is_empty() {
        return Err(Invalid::new("is empty; write a select, or remove the key for every row of the only table"));
    }
    Ok(text.into())
}

fn column(text: &str) -> Result<String, Invalid> {
    if text.is_empty() { Err(Invalid::new("is empty; name a column of the result")) } else { Ok(text.into()) }
}

pub(super) fn source(
    name: &str,
    entry: &Entry,
    base: &impl Fn(usize) -> PathBuf,
    problems: &mut Problems,
) -> Option<TableSource> {
    if let Some(path) = entry.node.text() {
        let place = place(path, entry.node.span, base, problems)?;
        let format = named_format(path, entry.node.span, problems)?;
        return Some(TableSource { path: place, format, partitions: Vec::new(), columns: BTreeMap::new() });
    }
    let section = Section { name, name_span: entry.key, table: entry.node.table()?, shape: &TABLE };
    let (path, span) = (section.text("path")?, section.span("path"));
    let format = match section.text("format") {
        Some(format) => of_format(format, path),
        None => named_format(path, span, problems),
    };
    let header = section.bool("header");
    let delimiter = section.parse("delimiter", ascii, problems);
    let quote = section.parse("quote", ascii, problems);
    let format = match format? {
        FileFormat::Csv { header: h, delimiter: d, quote: q } => {
            let (delimiter, quote) = (delimiter.unwrap_or(d), quote.unwrap_or(q));
            if delimiter == quote {
                let key = if section.has("quote") { "quote" } else { "delimiter" };
                let message = format!("`delimiter` and `quote` are both {:?}", char::from(quote));
                problems.error(section.span(key), message, "give them characters of their own");
            }
            FileFormat::Csv { header: header.unwrap_or(h), delimiter, quote }
        }
        other => {
            let help = "remove it, or write `format = \"csv\"`";
            section.refuse(&["header", "delimiter", "quote"], "is about CSV, which this table is not", help, problems);
            other
        }
    };
    let partitions = section.texts("partitions").into_iter().map(|(column, _)| column.to_owned()).collect();
    let columns = section.node("columns").and_then(|node| node.table()).into_iter().flat_map(Table::iter);
    let columns = columns.filter_map(|(name, entry)| Some((name.to_owned(), entry.node.text()?.to_owned()))).collect();
    Some(TableSource { path: place(path, span, base, problems)?, format, partitions, columns })
}

fn ascii(text: &str) -> Result<u8, Invalid> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Ok(*byte),
        _ => Err(Invalid::new("is not one ASCII character; write one such as \",\", \";\", \"|\" or \"\\t\"")),
    }
}

fn of_format(format: &str, path: &str) -> Option<FileFormat> {
    let delimiter = if path.split('.').any(|part| part == "tsv") { b'\t' } else { b',' };
    Some(match format {
        "parquet" => FileFormat::Parquet,
        "csv" => FileFormat::Csv { header: true, delimiter, quote: b'"' },
        "ndjson" => FileFormat::Ndjson,
        "arrow" => FileFormat::ArrowIpc,
        "avro" => FileFormat::Avro,
        _ => return None,
    })
}

impl FileFormat {
    /// By the path's extension, under that of a compression.
    pub fn of_path(path: &str) -> Option<Self> {
        let leaf = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        let mut extensions = leaf.rsplit('.');
        let mut last = extensions.next().unwrap_or("");
        if matches!(last, "gz" | "bz2" | "xz" | "zst") {
            last = extensions.next().unwrap_or("");
        }
        let format = match last {
            "parquet" => "parquet",
            "csv" | "tsv" => "csv",
            "ndjson" | "jsonl" => "ndjson",
            "arrow" | "feather" | "ipc" => "arrow",
            "avro" => "avro",
            _ => return None,
        };
        of_format(format, &leaf)
    }
}

fn named_format(path: &str, span: Span, problems: &mut Problems) -> Option<FileFormat> {
    let format = FileFormat::of_path(path);
    if format.is_none() {
        let message = format!("the format of {} cannot be told from its extension", quote(path));
        let help = format!("write `{{ path = \"{path}\", format = \"parquet\" }}` (or csv, ndjson, arrow, avro)");
        problems.error(span, message, help);
    }
    format
}

const WILDCARDS: [char; 3] = ['*', '?', '['];

/// Absolute, or `s3://` as it is.
fn place(path: &str, span: Span, base: &impl Fn(usize) -> PathBuf, problems: &mut Problems) -> Option<String> {
    let refused = |why: &str| Invalid::new(format!("{why}; write a path, or s3://bucket/path"));
    let why = match path.split_once("://") {
        _ if path.trim().is_empty() => refused("is empty"),
        _ if path.ends_with('/') && path.contains(WILDCARDS) => Invalid::new(format!(
            "is a directory by its '/', and has a wildcard; write `{path}**/*` for all files below"
        )),
        Some(("s3", rest)) => match in_bucket(rest) {
            Ok(()) => return Some(path.into()),
            Err(why) => why,
        },
        Some(_) => refused("is a URL that consign does not read"),
        None => match base(span.file()).join(path).to_str() {
            Some(text) => return Some(keep_slash(text, path)),
            None => refused("is in a folder whose name is not UTF-8"),
        },
    };
    invalid(span, "path", path, &why, "", problems);
    None
}

/// `bucket/key` as S3 has them. A bucket with a placeholder is known later.
fn in_bucket(rest: &str) -> Result<(), Invalid> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(Invalid::new("names no bucket; write s3://bucket/path"));
    }
    if !bucket.contains('{') {
        BucketName::parse(bucket).map_err(|why| Invalid::new(format!("names the bucket '{bucket}', which {why}")))?;
    }
    match key.split('/').find(|step| matches!(*step, "." | "..")) {
        Some(step) => {
            Err(Invalid::new(format!("has the step '{step}', which keys in S3 do not have; write the key without it")))
        }
        None => Ok(()),
    }
}

fn keep_slash(joined: &str, written: &str) -> String {
    let tidy: PathBuf = Path::new(joined).components().filter(|c| *c != std::path::Component::CurDir).collect();
    let text = tidy.to_string_lossy().into_owned();
    if written.ends_with('/') && !text.ends_with('/') { text + "/" } else { text }
}

fn files(section: &Section<'_>, base: &impl Fn(usize) -> PathBuf, problems: &mut Problems) -> Option<String> {
    let text = section.parse("files", |text| placeholders(text).and_then(|_| own_folder(text)), problems)?;
    place(&text, section.span("files"), base, problems)
}

/// A wildcard beside a placeholder would go on where a customer's name ends: `acme*` has the files of `acmecorp`.
fn own_folder(text: &str) -> Result<String, Invalid> {
    match text.split('/').find(|step| step.contains('{') && step.contains(WILDCARDS)) {
        None => Ok(text.into()),
        Some(step) => Err(Invalid::new(format!(
            "has a placeholder and a wildcard side by side in '{step}', which can match another customer's files; \
             give each customer a folder: `{{customer}}/*.pdf`"
        ))),
    }
}

/// The params that a path of files names, `{customer}` aside.
pub(crate) fn placeholders(text: &str) -> Result<Vec<&str>, Invalid> {
    let mut params = Vec::new();
    let mut rest = text;
    while let Some((_, inside)) = rest.split_once('{') {
        let Some((word, after)) = inside.split_once('}') else {
            return Err(Invalid::new("has a '{' without its '}'; write {customer} or {param.NAME}"));
        };
        match word.strip_prefix("param.") {
            Some(param) if !param.is_empty() => params.push(param),
            _ if word == "customer" => {}
            _ => {
                let help = "there are {customer} and {param.NAME}";
                return Err(Invalid::new(format!("has the unknown placeholder '{{{word}}}'; {help}")));
            }
        }
        rest = after;
    }
    Ok(params)
}
