//! What the contract asks of a plugin and no sandbox can see to, tried one by one.
//!
//! Each check runs the component in the daemon's engine and says in a sentence
//! what it wants, what was found, and what to do about it.

mod ends;
mod options;
mod rows;
mod shapes;
mod values;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::future::BoxFuture;
use futures::stream;

use super::bench::Data;
use super::diff::Difference;
use super::rig::{self, Keep, Object, Ran, Taking};
use crate::config::CaseSettings;
use crate::limits::Limits;
use crate::plugin::{Cause, Component, Failed, Job};

/// Output of one run that is kept for comparison.
const KEPT_BYTES_MAX: u64 = 256 << 20;

/// No check computes or waits for longer: a plugin that is this slow over a few
/// rows is of no use.
const PATIENCE: Duration = Duration::from_secs(60);

/// A plugin, its options and rows that it takes.
pub struct Suite {
    component: Component,
    /// JSON text, an object.
    options: String,
    limits: Limits,
    schema: SchemaRef,
    /// Some hundreds of rows, in one batch.
    rows: RecordBatch,
    /// The rows are the author's: the plugin may want just these columns.
    own: bool,
}

/// One thing that is asked of a plugin.
pub struct Check {
    pub name: &'static str,
    /// What is wanted, in a sentence without its period.
    pub wants: &'static str,
    /// What to do where it is not so.
    pub remedy: &'static str,
    run: for<'a> fn(&'a Suite) -> BoxFuture<'a, Finding>,
}

/// What came of one check.
pub struct Checked {
    pub check: &'static Check,
    pub verdict: Verdict,
    pub took: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With what else there is to know; may be empty.
    Passed(String),
    Failed(String),
    /// It does not apply.
    Skipped(String),
}

/// A note if all is well.
type Finding = Result<String, Verdict>;

/// In the order in which they are run: what is simple comes first.
pub static CHECKS: [&[Check]; 4] = [&options::CHECKS, &rows::CHECKS, &shapes::CHECKS, &ends::CHECKS];

impl Suite {
    /// `data` are rows that the plugin takes with these options; without any, some are made up.
    pub fn new(component: Component, options: &str, limits: &Limits, data: Option<&Data>) -> Result<Self, ArrowError> {
        let rows = match data {
            Some(data) => concat_batches(&data.schema, &data.batches)?,
            None => values::sample()?,
        };
        let limits = Limits {
            cpu_time: limits.cpu_time.min(PATIENCE),
            wall_time: limits.wall_time.min(PATIENCE),
            ..limits.clone()
        };
        Ok(Self { component, options: options.to_owned(), limits, schema: rows.schema(), rows, own: data.is_some() })
    }

    /// The columns that its rows have.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub async fn run(&self, check: &'static Check) -> Checked {
        let began = Instant::now();
        let verdict = match (check.run)(self).await {
            Ok(note) => Verdict::Passed(note),
            Err(verdict) => verdict,
        };
        Checked { check, verdict, took: began.elapsed() }
    }

    /// All rows, in one batch, as any share would have them.
    fn usual(&self) -> Try<'_> {
        self.over(vec![self.rows.clone()])
    }

    fn over(&self, batches: Vec<RecordBatch>) -> Try<'_> {
        Try {
            suite: self,
            settings: CaseSettings::default(),
            options: self.options.clone(),
            limits: self.limits.clone(),
            schema: batches.first().map_or_else(|| self.schema.clone(), RecordBatch::schema),
            batches,
        }
    }

    /// Whether `check` lets these columns pass.
    fn takes(&self, options: &str, schema: &SchemaRef) -> Result<bool, Verdict> {
        let said = tokio::task::block_in_place(|| self.component.check(options, schema));
        let said = said.map_err(|error| {
            Verdict::Failed(format!("`check` did not end well: {}", crate::domain::Failure::chain(&error)))
        })?;
        Ok(!said.iter().any(|said| said.severity == crate::plugin::Severity::Error))
    }
}

/// A run that is about to be.
struct Try<'a> {
    suite: &'a Suite,
    settings: CaseSettings,
    options: String,
    limits: Limits,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Try<'_> {
    fn job(&self) -> Job {
        Job {
            facts: rig::facts(&self.settings).list(),
            options: self.options.clone(),
            schema: self.schema.clone(),
            limits: self.limits.clone(),
            slot_at: self.settings.slot,
            span: tracing::Span::current(),
        }
    }

    async fn run(self) -> Ran {
        self.run_taking(Taking::Prompt).await
    }

    async fn run_taking(self, taking: Taking) -> Ran {
        let (job, component) = (self.job(), &self.suite.component);
        let batches = stream::iter(self.batches.into_iter().map(Ok));
        rig::run_taking(component, job, batches, Keep::Bytes(KEPT_BYTES_MAX), taking).await
    }

    /// Its objects, if it ends well.
    async fn objects(self) -> Result<Vec<Object>, Verdict> {
        let ran = self.run().await;
        match ran.ended {
            Ok(_) => Ok(ran.objects),
            Err(failed) => Err(bad(&failed)),
        }
    }
}

/// A run that should have ended well.
fn bad(failed: &Failed) -> Verdict {
    Verdict::Failed(told(failed))
}

fn told(failed: &Failed) -> String {
    let mut text = format!("{}: {}", failed.cause, failed.message);
    if failed.batch_number > 0 {
        text.push_str(&format!(" (at batch {})", failed.batch_number));
    }
    // The innermost of a panic is what ends it, and the message has its place.
    if let Some(frame) = failed.frames.first().filter(|_| failed.cause != Cause::Panic) {
        text.push_str(&format!(", in {frame}"));
    }
    text
}

/// Two runs have to have written the same; `other` says which is the second.
fn same(objects: &[Object], again: &[Object], other: &str) -> Result<(), Verdict> {
    let names = |objects: &[Object]| {
        let mut names: Vec<String> = objects.iter().map(|object| object.name.clone()).collect();
        names.sort();
        names
    };
    let (first, second) = (names(objects), names(again));
    if first != second {
        let why = format!("{other}, it wrote {} instead of {}", listed(&second), listed(&first));
        return Err(Verdict::Failed(why));
    }
    for object in objects {
        let Some(twin) = again.iter().find(|twin| twin.name == object.name) else { continue };
        if let Some(difference) = Difference::between(&object.bytes, &twin.bytes) {
            let lines = difference.lines.iter().take(8).map(|line| format!("\n{line}")).collect::<String>();
            return Err(Verdict::Failed(format!("{other}, {} differs {}{lines}", object.name, difference.place)));
        }
        if object.rows != twin.rows {
            return Err(Verdict::Failed(format!("{other}, {} has other numbers of rows", object.name)));
        }
    }
    Ok(())
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "no objects".into(),
        [one, two, .., last] if names.len() > 3 => format!("{} objects ({one}, {two}, … {last})", names.len()),
        names => names.join(", "),
    }
}

/// Rows of a batch, repeated to at least this many.
fn repeated(rows: &RecordBatch, least: usize) -> Result<RecordBatch, Verdict> {
    let times = least.div_ceil(rows.num_rows().max(1));
    let batches: Vec<&RecordBatch> = std::iter::repeat_n(rows, times).collect();
    concat_batches(&rows.schema(), batches).map_err(|error| unmade(&error))
}

/// The check could not be made for these rows.
fn unmade(error: &ArrowError) -> Verdict {
    Verdict::Skipped(format!("no such rows can be made: {error}"))
}

/// A batch of columns of these names; all of them may have nulls.
fn batch(columns: Vec<(String, arrow::array::ArrayRef)>) -> Result<RecordBatch, Verdict> {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).map_err(|error| unmade(&error))
}

/// The same columns, this one with other values.
fn with_column(rows: &RecordBatch, index: usize, array: arrow::array::ArrayRef) -> Result<RecordBatch, Verdict> {
    let mut columns = rows.columns().to_vec();
    columns[index] = array;
    RecordBatch::try_new(Arc::clone(&rows.schema()), columns).map_err(|error| unmade(&error))
}
