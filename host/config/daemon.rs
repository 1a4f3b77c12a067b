//! `[daemon]`

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment::Environment;
use super::files::{self, Glimpse};
use super::model::{Config, Daemon, Preflight};
use super::report::{ConfigErrors, Problems};
use super::section::Section;
use super::shape::{Kind, Shape, TEXT, default};
use crate::limits::CONCURRENCY_MAX;

const STATE_DIR: &str = "/var/lib/consign";

/// How many places there may be, and one may have.
const PLACES: Kind = Kind::Int(1, CONCURRENCY_MAX as i64);

pub(crate) static DAEMON: Shape = Shape {
    noun: "daemon",
    doc: "The process itself.",
    keys: &[
        default(
            "state_dir",
            TEXT,
            "`$STATE_DIRECTORY`, or `/var/lib/consign`",
            r#""/var/lib/consign""#,
            "Folder of the ledger. It must outlive restarts and belong to consign alone.",
        ),
        default(
            "cache_dir",
            TEXT,
            "`$CACHE_DIRECTORY`, or `/var/cache/consign`",
            r#""/var/cache/consign""#,
            "Folder of compiled plugins, of what queries spill and of large parts on their way. It may be emptied while consign is stopped.",
        ),
        default("concurrency", PLACES, "8", "8", "Deliveries at work at the same time."),
        default(
            "share_concurrency",
            PLACES,
            "all of `concurrency` for the only share, otherwise 3/4 of it",
            "6",
            "Of these, deliveries of one share, so that one whose plugin or dataset hangs does not hold up the others.",
        ),
        default(
            "plugin_concurrency",
            PLACES,
            "all of `concurrency` if all shares have the same plugin, otherwise 3/4 of it",
            "6",
            "Of these, deliveries through one plugin of your own, so that one that hangs holds up only the shares that use it. The shipped ones have no such limit.",
        ),
        default(
            "customer_concurrency",
            PLACES,
            "`concurrency` shared out among the customers, but at least 1/4 of it and 2",
            "2",
            "Of these, deliveries to one customer, so that one whose bucket does not answer does not hold up the others.",
        ),
        default(
            "bucket_concurrency",
            PLACES,
            "`concurrency` shared out among the buckets, but at least 1/4 of it and 2",
            "2",
            "Of these, deliveries into one bucket, whichever customers they are for.",
        ),
        default(
            "query_memory",
            Kind::Size(16 << 20, 1 << 50),
            r#""256 MiB""#,
            r#""512 MiB""#,
            "Memory that all queries together may use before they spill to disk.",
        ),
        default(
            "piece_concurrency",
            PLACES,
            "as many as the machine has cores",
            "4",
            "Plugin instances at work, of all deliveries. While there are fewer, shares with `piece_rows` have more than one in a delivery.",
        ),
        default(
            "piece_memory",
            Kind::Size(1 << 20, 1 << 40),
            r#""256 MiB""#,
            r#""1 GiB""#,
            "Memory for rows that wait for their piece, of all deliveries together. It should hold as many pieces as are formatted at the same time, but for one.",
        ),
        default(
            "drain_timeout",
            Kind::Duration(0, 24 * 3_600_000),
            r#""30s""#,
            r#""30s""#,
            "How long SIGTERM waits for running deliveries. What is cut off aborts its uploads, for which it has 5 seconds more, and begins anew with the next start.",
        ),
        default(
            "watch",
            Kind::Bool,
            "false",
            "true",
            "Whether the configuration is read again by itself, 2 to 4 seconds after its files were last changed. One with an error, or from which most shares or customers are gone, is not taken, and the log says why.",
        ),
        default(
            "preflight",
            Kind::Choice(&Preflight::NAMES),
            r#""first""#,
            r#""start""#,
            "When it is tried, without leaving anything, whether a customer's role and bucket take deliveries: before the `first` one to each; that and of all customers at each `start`; or `never` before a delivery was refused. What is due to one who is not ready waits.",
        ),
    ],
    synonyms: &[("workers", "concurrency"), ("memory", "query_memory"), ("data_dir", "state_dir")],
};

pub(crate) fn read(
    section: Option<Section<'_>>,
    env: &Environment,
    base: impl Fn(usize) -> PathBuf,
    problems: &mut Problems,
) -> Daemon {
    for key in ["state_dir", "cache_dir"] {
        if let Some(section) = section.filter(|section| section.text(key).is_some_and(|text| text.trim().is_empty())) {
            problems.error(section.span(key), format!("`{key}` is empty"), "write a folder, or remove the key");
        }
    }
    let int = |key| section.and_then(|s| s.int(key));
    let bytes = |key| section.and_then(|s| s.size(key)).and_then(|bytes| usize::try_from(bytes).ok());
    let memory = |key| bytes(key).unwrap_or(256 << 20);
    let path = |key: &str, variable: &str, fallback: &str| match section.and_then(|s| Some((s.text(key)?, s.span(key))))
    {
        Some((text, span)) => base(span.file()).join(text),
        None => env.directory(variable).unwrap_or_else(|| Path::new(fallback).into()),
    };
    Daemon {
        state_dir: path("state_dir", "STATE_DIRECTORY", STATE_DIR),
        cache_dir: path("cache_dir", "CACHE_DIRECTORY", "/var/cache/consign"),
        read_cache_dir: None,
        concurrency: int("concurrency").unwrap_or(8),
        share_concurrency: int("share_concurrency"),
        plugin_concurrency: int("plugin_concurrency"),
        customer_concurrency: int("customer_concurrency"),
        bucket_concurrency: int("bucket_concurrency"),
        query_memory_bytes: memory("query_memory"),
        piece_concurrency: int("piece_concurrency"),
        piece_memory_bytes: memory("piece_memory"),
        drain_timeout: section.and_then(|s| s.duration("drain_timeout")).unwrap_or(Duration::from_secs(30)),
        watch: section.and_then(|s| s.bool("watch")).unwrap_or(false),
        preflight: section.and_then(|s| Preflight::parse(s.text("preflight")?)).unwrap_or_default(),
    }
}

impl Config {
    /// Where the daemon of this configuration keeps its state, however wrong the
    /// rest of it is: it may run with what was there before. Err: it says where,
    /// and that cannot be read.
    pub fn state_dir(path: &Path, env: &Environment) -> Result<PathBuf, ConfigErrors> {
        match files::glimpse(path, "daemon", "state_dir") {
            Glimpse::Says { file, text } => {
                let file = std::path::absolute(&file).unwrap_or(file);
                Ok(file.parent().unwrap_or(Path::new("")).join(text))
            }
            Glimpse::Silent => Ok(env.directory("STATE_DIRECTORY").unwrap_or_else(|| STATE_DIR.into())),
            Glimpse::Illegible(place) => {
                let mut errors = ConfigErrors::new();
                let message = "`state_dir` cannot be read here, so the running consign cannot be found by it";
                errors.at(place, message, "correct it, or name the consign.sock in its state directory with --socket");
                Err(errors)
            }
        }
    }
}
