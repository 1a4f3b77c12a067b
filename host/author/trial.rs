//! A case run, and what is to be said of it.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;

use super::case::{Case, Expected};
use super::diff::Difference;
use super::rig::{self, Keep, Object, Ran, Rig};
use crate::check;
use crate::config::Problem;
use crate::domain::Failure;
use crate::limits::Limits;
use crate::plugin::{Cause, Component, Diagnostic, Failed, Job, Misfit, PluginError, Severity, described};

/// Output of one case that is kept in memory.
const KEPT_BYTES_MAX: u64 = 1 << 30;

/// What came of a case.
pub struct Trial {
    /// What `check` says, with its place in the options.
    pub findings: Vec<Problem>,
    pub outcome: Outcome,
    /// None where `check` refused, so that no data were read.
    pub ran: Option<Ran>,
}

/// How it ended.
#[derive(Debug)]
pub enum Outcome {
    /// Its objects are those of the run.
    Wrote,
    Refused(Refusal),
}

/// What consign says of a run that was refused or failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// What is compared: the cause and the message, or what `check` says, line by line.
    pub text: String,
    /// What the operator is told to do.
    pub remedy: String,
    /// The plugin says so itself; else it trapped, or a limit or a rule ended it.
    pub said: bool,
    /// The guest's call stack, innermost first.
    pub frames: Vec<String>,
    pub stderr_tail: Vec<String>,
    pub batch_number: u64,
}

/// One thing that is not as expected.
#[derive(Debug)]
pub enum Fault {
    /// Nothing says what is to come out.
    Unsaid,
    /// Was to write objects.
    Refused(Refusal),
    /// Was to be refused.
    NotRefused {
        expected: String,
    },
    /// Was refused in other words.
    OtherRefusal {
        difference: Difference,
        refusal: Refusal,
    },
    Missing {
        object: String,
    },
    Unexpected {
        object: String,
        size_bytes: u64,
    },
    Differs {
        object: String,
        difference: Difference,
    },
}

/// Checks the options, then runs the component over the input, as a delivery does.
/// Err: the input cannot be read.
pub async fn trial(rig: &Rig, component: &Component, limits: &Limits, case: &Case) -> Result<Trial, Failure> {
    let settings = &case.settings;
    let plan = rig.plan(&settings.dataset, case.input.clone(), settings.query.clone(), settings.interval).await?;
    let schema = plan.schema();
    let options = case.options.json();
    let said = match findings(component, options, &schema) {
        Ok(said) => said,
        Err(refusal) => return Ok(Trial { findings: Vec::new(), outcome: Outcome::Refused(refusal), ran: None }),
    };
    let known = described(&component.description().options_schema);
    let findings =
        said.iter().map(|said| check::told(|path, key| case.options.locate(path, key), &known, said.clone()));
    let findings = findings.collect();
    if said.iter().any(|said| said.severity == Severity::Error) {
        return Ok(Trial { findings, outcome: Outcome::Refused(Refusal::of_check(&said)), ran: None });
    }
    let job = Job {
        facts: rig::facts(settings).list(),
        options: options.to_owned(),
        schema,
        limits: limits.clone(),
        slot_at: settings.slot,
        span: tracing::Span::current(),
    };
    let ran = rig::run(component, job, plan.stream()?, Keep::Bytes(KEPT_BYTES_MAX)).await;
    let outcome = match &ran.ended {
        Ok(_) => Outcome::Wrote,
        Err(Failed { cause: Cause::Input, input: Some(failure), .. }) => return Err((**failure).clone()),
        Err(failed) => Outcome::Refused(Refusal::of_run(failed)),
    };
    Ok(Trial { findings, outcome, ran: Some(ran) })
}

/// As `consign check` has it: what the options' schema says, then what the plugin
/// says of the others.
fn findings(component: &Component, options: &str, schema: &Schema) -> Result<Vec<Diagnostic>, Refusal> {
    let judged = check::judge(component.options(), options).map_err(|endless| Refusal {
        text: format!("the options schema {endless}"),
        remedy: "mend the schema; options cannot be checked by it".into(),
        ..Refusal::default()
    })?;
    let misfit = |misfit: &Misfit| Diagnostic {
        severity: Severity::Error,
        path: misfit.pointer.clone(),
        message: misfit.message.clone(),
    };
    let mut all: Vec<Diagnostic> = judged.misfits.iter().map(misfit).collect();
    if let Some(rest) = &judged.rest {
        let said = tokio::task::block_in_place(|| component.check(rest, schema)).map_err(failed_check)?;
        all.extend(said.into_iter().filter(|said| !judged.has_told(said)));
    }
    Ok(all)
}

/// Everything that is not as expected.
pub fn judge(expected: &Expected, trial: &Trial) -> Vec<Fault> {
    match (expected, &trial.outcome) {
        // Nobody will expect a trap.
        (Expected::Unsaid, Outcome::Refused(refusal)) if !refusal.said => vec![Fault::Refused(refusal.clone())],
        (Expected::Unsaid, _) => vec![Fault::Unsaid],
        (Expected::Objects(_), Outcome::Refused(refusal)) => vec![Fault::Refused(refusal.clone())],
        (Expected::Refusal(text), Outcome::Wrote) => vec![Fault::NotRefused { expected: text.trim_end().to_owned() }],
        (Expected::Refusal(text), Outcome::Refused(refusal)) => {
            let difference = Difference::between(text.trim_end().as_bytes(), refusal.text.as_bytes());
            let other = |difference| Fault::OtherRefusal { difference, refusal: refusal.clone() };
            difference.map(other).into_iter().collect()
        }
        (Expected::Objects(expected), Outcome::Wrote) => compare(expected, trial.objects()),
    }
}

fn compare(expected: &BTreeMap<String, Vec<u8>>, objects: &[Object]) -> Vec<Fault> {
    let found: BTreeMap<&str, &Object> = objects.iter().map(|object| (object.name.as_str(), object)).collect();
    let mut faults = Vec::new();
    for (name, bytes) in expected {
        match found.get(name.as_str()) {
            None => faults.push(Fault::Missing { object: name.clone() }),
            Some(object) => faults.extend(
                Difference::between(bytes, &object.bytes)
                    .map(|difference| Fault::Differs { object: name.clone(), difference }),
            ),
        }
    }
    let unexpected = objects.iter().filter(|object| !expected.contains_key(&object.name));
    faults.extend(
        unexpected.map(|object| Fault::Unexpected { object: object.name.clone(), size_bytes: object.size_bytes }),
    );
    faults
}

impl Trial {
    /// What was written; none where it was refused before.
    pub fn objects(&self) -> &[Object] {
        self.ran.as_ref().map_or(&[], |ran| &ran.objects)
    }
}

impl Refusal {
    fn of_check(said: &[Diagnostic]) -> Self {
        let line = |said: &Diagnostic| {
            let severity = if said.severity == Severity::Error { "error" } else { "warning" };
            let place = if said.path.is_empty() { String::new() } else { format!(" at {}", said.path) };
            format!("{severity}{place}: {}", said.message)
        };
        let text = said.iter().map(line).collect::<Vec<_>>().join("\n");
        let remedy = "correct the options, or what `check` says of them".to_owned();
        Self { text, remedy, said: true, ..Self::default() }
    }

    pub fn of_run(failed: &Failed) -> Self {
        Self {
            text: format!("{}: {}", failed.cause, failed.message),
            remedy: Failure::from(failed.clone()).remedy,
            said: failed.cause.is_said(),
            frames: failed.frames.clone(),
            stderr_tail: failed.stderr_tail.clone(),
            batch_number: failed.batch_number,
        }
    }
}

fn failed_check(error: PluginError) -> Refusal {
    match error {
        PluginError::Call { source, function, .. } => {
            let refusal = Refusal::of_run(&source);
            Refusal { text: format!("{} in `{function}`", refusal.text), ..refusal }
        }
        error => Refusal { text: Failure::chain(&error), ..Refusal::default() },
    }
}
