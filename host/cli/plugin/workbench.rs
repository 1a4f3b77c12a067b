//! What the commands that run a plugin have in common.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use arrow::datatypes::Schema;
use serde::Serialize;

use super::super::output::{self, CliError, Exit, bytes, count, thousands};
use crate::author::{Figures, ProjectError, Rig, Subject, SubjectError};
use crate::check;
use crate::config::{self, ConfigErrors, PluginOptions};
use crate::domain::Failure;
use crate::limits::{Isolation, Limits};
use crate::plugin::{Component, Diagnostic, Failed, Observe, PluginError, PluginHost, SHIPPED, Severity, described};

/// Where compiled components are kept: `consign/plugins` of the user's cache, or
/// a temporary folder where that cannot be.
pub struct Cache {
    pub dir: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Cache {
    pub fn open() -> Result<Self, CliError> {
        if let Some(dir) = of_user() {
            return Ok(Self { dir, _temporary: None });
        }
        let temporary = tempfile::tempdir()
            .map_err(|error| CliError::internal("cannot make a temporary folder for compiled plugins", &error))?;
        Ok(Self { dir: temporary.path().to_owned(), _temporary: Some(temporary) })
    }
}

/// The user's own, and never the daemon's: what is only tried must not be among what is run.
fn of_user() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    let dir = cache.join("consign/author");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    PluginHost::new(&dir).ok().map(|_| dir)
}

/// Which plugin was run.
#[derive(Serialize)]
pub struct About {
    pub name: String,
    pub version: String,
    pub sha256: String,
    pub file: Option<PathBuf>,
}

impl About {
    pub fn of(component: &Component, subject: &Subject) -> Self {
        let said = component.description();
        let (name, version) = (said.name.clone(), said.version.clone());
        Self { name, version, sha256: component.digest().to_owned(), file: subject.file.clone() }
    }
}

/// A rig, with the cache that it has to outlive.
pub fn rig(observe: Option<Observe>) -> Result<(Rig, Cache), CliError> {
    let cache = Cache::open()?;
    let rig = Rig::new(&cache.dir, observe)?;
    Ok((rig, cache))
}

/// Compiles a component, and asks it who it is.
pub fn load(rig: &Rig, isolation: Isolation, subject: &Subject, limits: &Limits) -> Result<Component, CliError> {
    let loaded = tokio::task::block_in_place(|| rig.load(isolation, subject, limits));
    loaded.map_err(|error| refused(&error))
}

/// For a look at a component, which runs where a daemon would have it run.
pub fn look(subject: &Subject) -> Result<Component, CliError> {
    let cache = Cache::open()?;
    let host = PluginHost::new(&cache.dir).map_err(|error| refused(&error))?;
    let loaded = host.load_in(subject.isolation(), &subject.name, &subject.bytes, &Limits::default());
    loaded.map_err(|error| refused(&error))
}

/// What `--isolation` says.
pub fn isolation(text: &str) -> Result<Isolation, String> {
    let found = Isolation::ALL.into_iter().find(|isolation| isolation.as_str() == text);
    found.ok_or_else(|| format!("it is one of {}", Isolation::NAMES.join(", ")))
}

pub fn refused(error: &PluginError) -> CliError {
    CliError::new(Exit::Failed, Failure::chain(error), error.remedy())
}

/// The component that a command line names.
pub fn subject(path: &std::path::Path) -> Result<Subject, CliError> {
    Subject::find(path).map_err(|error| {
        let message = Failure::chain(&error);
        match error {
            SubjectError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                let shipped = SHIPPED.join(", ");
                let help = format!("name a plugin's project, a component's file, or a shipped plugin: {shipped}");
                CliError::new(Exit::Failed, message, help)
            }
            SubjectError::Unreadable { .. } | SubjectError::Project(ProjectError::Unreadable { .. }) => {
                CliError::new(Exit::Internal, message, "")
            }
            SubjectError::Project(_) => CliError::new(Exit::Failed, message, ""),
            SubjectError::Name(_) => CliError::new(Exit::Internal, message, ""),
        }
    })
}

/// What `--limits` says.
pub fn limits(settings: &[String]) -> Result<Limits, CliError> {
    config::limits(settings).map_err(|errors: ConfigErrors| {
        let text = config::rendered(errors.problems(), output::on_terminal()).join("\n\n");
        let message = "the limits of the command line are wrong".to_owned();
        CliError { exit: Exit::Usage, message, text, ..errors.into() }
    })
}

/// The plugin takes these options and columns; else what it says of them.
pub fn accepts(component: &Component, options: &PluginOptions, schema: &Schema, own: bool) -> Result<(), CliError> {
    let said =
        tokio::task::block_in_place(|| component.check(options.json(), schema)).map_err(|error| refused(&error))?;
    let known = described(&component.description().options_schema);
    let problem = |said: &Diagnostic| check::told(|path, key| options.locate(path, key), &known, said.clone());
    let problems = said.iter().filter(|said| said.severity == Severity::Error).map(problem);
    let problems: Vec<String> = problems.map(|problem| problem.message).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let columns = if own { "these columns" } else { "the columns of the rows that are made up for it" };
    let message = format!("the plugin does not take these options and {columns}: {}", problems.join("; "));
    Err(CliError::new(
        Exit::Failed,
        message,
        "give it others with --options FILE, or rows of its own with --input FILE",
    ))
}

/// A run that should have gone well.
pub fn failed(failed: Failed) -> CliError {
    let frames: String = failed.frames.iter().map(|frame| format!("\n  in {frame}")).collect();
    let failure = Failure::from(failed);
    CliError::new(Exit::Failed, format!("{failure}{frames}"), failure.remedy)
}

/// `12 rows, 1 object of 345 B, …`
pub fn figures(figures: &Figures) -> String {
    let Figures { rows, batches, objects, bytes: size, cpu_ms, peak_memory_bytes, host_calls, host_ms, .. } = figures;
    let rows = count(usize::try_from(*rows).unwrap_or(usize::MAX), "row");
    let batches = match batches {
        1 => "1 batch".to_owned(),
        batches => format!("{} batches", thousands(*batches)),
    };
    format!(
        "{rows} in {batches}, {} of {}; {cpu_ms:.1} ms of CPU, {host_ms:.1} ms of it in {}; {} of memory",
        count(*objects, "object"),
        bytes(*size),
        count(usize::try_from(*host_calls).unwrap_or(usize::MAX), "host call"),
        bytes(*peak_memory_bytes)
    )
}
