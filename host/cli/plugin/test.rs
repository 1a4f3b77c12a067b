//! `consign plugin test`: the cases of a plugin, run and compared.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::Instrument as _;

use super::super::Global;
use super::super::output::{self, CliError, Exit, bytes, count, line};
use super::workbench::{self, About};
use crate::author::{self, Broken, Case, Change, Done, Fault, Figures, Outcome, Ran, Refusal, Rig, Subject, Trial};
use crate::config::{self, ConfigErrors, Problem};
use crate::domain::Failure;
use crate::limits::{Isolation, Limits};
use crate::plugin::{Component, Observe};

#[derive(Args)]
pub struct TestArgs {
    /// A plugin's project, or a component's file.
    ///
    /// The cases are in `cases` of the project; of the current folder, for a file.
    #[arg(default_value = ".", value_name = "DIR|FILE")]
    path: PathBuf,

    /// Names of cases; without any, all of them.
    #[arg(value_name = "CASE")]
    names: Vec<String>,

    /// Take what is written now for what is expected from now on.
    ///
    /// `git diff` shows what that changes. A plugin that traps or reaches a limit is not blessed.
    #[arg(long)]
    bless: bool,

    /// Run this component over the project's cases: a file, another project, or a shipped plugin.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,

    /// Where the cases are.
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,

    /// A limit, as in `[plugins.NAME.limits]`: `--limits memory="32 MiB"`. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    limits: Vec<String>,

    /// Where its code runs, as in `[plugins.NAME]`: `process`, but for a shipped plugin, or `in-process`.
    ///
    /// Core dumps and profiles are made of what runs in-process.
    #[arg(long, value_name = "WHERE", value_parser = workbench::isolation)]
    isolation: Option<Isolation>,

    /// Write what each case writes to DIR/CASE.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Write a WebAssembly core dump of a plugin that is ended to DIR/CASE.coredump; it has rows in it.
    #[arg(long, value_name = "DIR")]
    coredump: Option<PathBuf>,

    /// Profile each case, to DIR/CASE.json (for profiler.firefox.com) and DIR/CASE.folded (for flame graphs).
    #[arg(long, value_name = "DIR")]
    profile: Option<PathBuf>,
}

/// What came of all of them.
#[derive(Serialize)]
struct Report {
    plugin: About,
    cases: Vec<Told>,
    passed: usize,
    failed: usize,
}

/// What came of one case.
#[derive(Serialize)]
struct Told {
    case: String,
    outcome: Verdict,
    /// What is not as expected.
    faults: Vec<Value>,
    /// What `--bless` changed.
    changes: Vec<Value>,
    /// What the plugin's `check` says of the options.
    findings: Vec<Value>,
    objects: Vec<Value>,
    figures: Option<Figures>,
    #[serde(skip)]
    text: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Passed,
    Failed,
    Blessed,
}

pub async fn test(global: &Global, args: &TestArgs) -> Result<Exit, CliError> {
    let limits = workbench::limits(&args.limits)?;
    let folder = match &args.cases {
        Some(cases) => cases.clone(),
        None if args.path.is_dir() => args.path.join("cases"),
        None => PathBuf::from("cases"),
    };
    let names = chosen(&folder, &args.names)?;
    let subject = workbench::subject(args.plugin.as_ref().unwrap_or(&args.path))?;
    for dir in [&args.output, &args.coredump, &args.profile].into_iter().flatten() {
        fs::create_dir_all(dir).map_err(|error| cannot_write(dir, &error))?;
    }
    let observe = Observe { coredump: args.coredump.is_some(), profile: args.profile.is_some() };
    let isolation = isolation(args, observe, &subject)?;
    let (rig, _cache) = workbench::rig(Some(observe))?;
    let component = workbench::load(&rig, isolation, &subject, &limits)?;
    let about = About::of(&component, &subject);
    if !global.json {
        let file = subject.file.as_ref().map_or("shipped".to_owned(), |file| file.display().to_string());
        line(&format!("{} {}  {file}  sha256 {}…", about.name, about.version, &about.sha256[..12]));
    }
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut report = Report { plugin: about, cases: Vec::new(), passed: 0, failed: 0 };
    for name in &names {
        let span = tracing::info_span!("case", case = name.as_str());
        let told = one(args, &rig, &component, &limits, (&folder, name)).instrument(span).await?;
        if !global.json {
            print(&told, width);
        }
        *if told.outcome == Verdict::Failed { &mut report.failed } else { &mut report.passed } += 1;
        report.cases.push(told);
    }
    if global.json {
        output::json(&report);
    } else {
        let done = if args.bless { "blessed" } else { "passed" };
        line(&format!("{} {done}, {} failed", count(report.passed, "case"), report.failed));
    }
    Ok(if report.failed > 0 { Exit::Failed } else { Exit::Done })
}

/// Where a daemon would have the plugin run, but for what is seen in this process alone.
fn isolation(args: &TestArgs, observe: Observe, subject: &Subject) -> Result<Isolation, CliError> {
    match (args.isolation, observe != Observe::default()) {
        (Some(Isolation::Process), true) => {
            let message = "core dumps and profiles are not made of what runs in a process of its own";
            Err(CliError::new(Exit::Usage, message, "leave out --isolation, or --coredump and --profile"))
        }
        (None, true) => Ok(Isolation::InProcess),
        (asked, _) => Ok(asked.unwrap_or_else(|| subject.isolation())),
    }
}

/// The cases that are asked for, by the names of their folders.
fn chosen(folder: &Path, asked: &[String]) -> Result<Vec<String>, CliError> {
    let make = "a case is a folder with input.csv (or .parquet, .jsonl, .avro): make one, and run this with --bless";
    let all = author::cases(folder).map_err(|error| {
        let message = format!("cannot read the cases in {}: {error}", folder.display());
        CliError::new(Exit::Failed, message, make)
    })?;
    if all.is_empty() {
        return Err(CliError::new(Exit::Failed, format!("there are no cases in {}", folder.display()), make));
    }
    // As a shell completes them, too.
    let leaf = |name: &String| Path::new(name).file_name().map_or(name.clone(), |leaf| leaf.to_string_lossy().into());
    let names: Vec<String> = asked.iter().map(leaf).collect();
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        let message = format!("there is no case '{unknown}' in {}", folder.display());
        let known = all.iter().map(String::as_str);
        let help = match config::near(unknown, known.clone()) {
            Some(meant) => format!("did you mean '{meant}'?"),
            None => format!("the cases are {}", config::listed(known)),
        };
        return Err(CliError::new(Exit::Failed, message, help));
    }
    Ok(if names.is_empty() { all } else { names })
}

async fn one(
    args: &TestArgs,
    rig: &Rig,
    component: &Component,
    limits: &Limits,
    (folder, name): (&Path, &str),
) -> Result<Told, CliError> {
    let case = match Case::read(folder, name) {
        Ok(case) => case,
        Err(broken) => return Ok(Told::broken(name, &broken)),
    };
    let trial = match author::trial(rig, component, limits, &case).await {
        Ok(trial) => trial,
        Err(failure) => return Ok(Told::of(name, Verdict::Failed).fault(of_failure(&failure))),
    };
    let mut told = Told::of(name, Verdict::Passed);
    for finding in &trial.findings {
        told.findings.push(finding.to_json());
        told.text.extend(rendered(finding));
    }
    if let Some(ran) = &trial.ran {
        told.figures = Some(ran.figures());
        let object = |object: &author::Object| json!({ "name": object.name, "bytes": object.size_bytes, "rows": object.rows, "media_type": object.media_type });
        told.objects = ran.objects.iter().map(object).collect();
        told.text.extend(keep(args, name, ran)?);
    }
    if args.bless && !is_defect(&trial) {
        told.outcome = Verdict::Blessed;
        match author::bless(&case, &trial) {
            Ok(changes) => changes.iter().for_each(|change| told.change(change)),
            Err(broken) => return Ok(Told::broken(name, &broken)),
        }
        return Ok(told);
    }
    let faults = match (&trial.outcome, args.bless) {
        (Outcome::Refused(refusal), true) => vec![Fault::Refused(refusal.clone())],
        _ => author::judge(&case.expected, &trial),
    };
    if faults.is_empty() && trial.ran.is_none() {
        // Refused as expected: there is nothing more to say.
        told.text.clear();
    }
    Ok(faults.iter().fold(told, |told, fault| told.fault(of_fault(fault, &trial))))
}

/// Nobody expects a trap.
fn is_defect(trial: &Trial) -> bool {
    matches!(&trial.outcome, Outcome::Refused(refusal) if !refusal.said)
}

/// Writes what was asked for of a run. What is to be told of it.
fn keep(args: &TestArgs, name: &str, ran: &Ran) -> Result<Vec<String>, CliError> {
    let mut text = Vec::new();
    let write = |path: &Path, bytes: &[u8]| fs::write(path, bytes).map_err(|error| cannot_write(path, &error));
    if let Some(dir) = &args.output {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).map_err(|error| cannot_write(&dir, &error))?;
        for object in &ran.objects {
            write(&dir.join(&object.name), &object.bytes)?;
        }
    }
    if let (Some(dir), Some(coredump)) = (&args.coredump, &ran.observed.coredump) {
        let path = dir.join(format!("{name}.coredump"));
        write(&path, coredump)?;
        text.push(format!("core dump: {}", path.display()));
    }
    if let (Some(dir), Some(profile)) = (&args.profile, &ran.observed.profile) {
        write(&dir.join(format!("{name}.folded")), profile.folded().as_bytes())?;
        let path = dir.join(format!("{name}.json"));
        write(&path, &profile.firefox)?;
        text.push(format!("profile: {}", path.display()));
        let hottest = profile.hottest(5).into_iter();
        text.extend(hottest.map(|(function, part)| format!("{:>6.1} %  {function}", part * 100.0)));
    }
    Ok(text)
}

fn cannot_write(path: &Path, error: &std::io::Error) -> CliError {
    CliError::internal(&format!("cannot write {}", path.display()), error)
}

/// A fault for machines, and for people.
type Faulty = (Value, Vec<String>);

fn of_failure(failure: &Failure) -> Faulty {
    let mut text = vec![failure.to_string()];
    text.extend((!failure.remedy.is_empty()).then(|| format!("help: {}", failure.remedy)));
    (json!({ "kind": "input", "message": failure.to_string(), "help": failure.remedy }), text)
}

fn of_fault(fault: &Fault, trial: &Trial) -> Faulty {
    let objects = trial.objects().len();
    match fault {
        Fault::Unsaid => {
            let said = match &trial.outcome {
                Outcome::Wrote => format!("it wrote {}", count(objects, "object")),
                Outcome::Refused(refusal) => format!("it was refused: {}", refusal.text),
            };
            let message = format!("nothing says what is expected, neither expected/ nor error.txt; {said}");
            let help = "run this with --bless, and look at what it takes";
            (json!({ "kind": "unsaid", "message": message, "help": help }), vec![message, format!("help: {help}")])
        }
        Fault::Refused(refusal) => {
            let (mut value, mut text) = of_refusal(refusal);
            value["kind"] = "refused".into();
            text[0] = format!("it was refused: {}", text[0]);
            (value, text)
        }
        Fault::NotRefused { expected } => {
            let wrote = count(objects, "object");
            let message = format!("it wrote {wrote}, and was to be refused: {expected}");
            (json!({ "kind": "not-refused", "message": message }), vec![message])
        }
        Fault::OtherRefusal { difference, refusal } => {
            let (mut value, more) = of_refusal(refusal);
            let message = format!("it was refused in other words than error.txt has, {}", difference.place);
            value["kind"] = "other-refusal".into();
            value["diff"] = json!(difference.lines);
            let text = std::iter::once(message).chain(difference.lines.clone()).chain(more.into_iter().skip(1));
            (value, text.collect())
        }
        Fault::Missing { object } => {
            let message = format!("expected/{object} was not written");
            (json!({ "kind": "missing", "object": object, "message": message }), vec![message])
        }
        Fault::Unexpected { object, size_bytes } => {
            let message = format!("{object} ({}) was written, and is not in expected/", bytes(*size_bytes));
            (json!({ "kind": "unexpected", "object": object, "message": message }), vec![message])
        }
        Fault::Differs { object, difference } => {
            let message = format!("expected/{object} differs {}", difference.place);
            let value = json!({ "kind": "differs", "object": object, "message": message, "diff": difference.lines });
            (value, std::iter::once(message).chain(difference.lines.clone()).collect())
        }
    }
}

fn of_refusal(refusal: &Refusal) -> Faulty {
    let Refusal { text, remedy, frames, stderr_tail, batch_number, .. } = refusal;
    let value = json!({
        "message": text, "help": remedy, "frames": frames, "stderr_tail": stderr_tail, "batch_number": batch_number,
    });
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        lines.push("without a word".into());
    }
    lines.extend((*batch_number > 0).then(|| format!("at batch {batch_number}")));
    lines.extend((!remedy.is_empty()).then(|| format!("help: {remedy}")));
    lines.extend(frames.iter().map(|frame| format!("  in {frame}")));
    if !stderr_tail.is_empty() {
        lines.push("its last lines on stderr:".into());
        lines.extend(stderr_tail.iter().map(|line| format!("  {line}")));
    }
    (value, lines)
}

impl Told {
    fn of(name: &str, outcome: Verdict) -> Self {
        Self {
            case: name.to_owned(),
            outcome,
            faults: Vec::new(),
            changes: Vec::new(),
            findings: Vec::new(),
            objects: Vec::new(),
            figures: None,
            text: Vec::new(),
        }
    }

    /// A case that cannot be run.
    fn broken(name: &str, broken: &Broken) -> Self {
        let mut told = Self::of(name, Verdict::Failed);
        match broken {
            Broken::Settings(errors) => {
                for problem in ConfigErrors::problems(errors) {
                    let mut value = problem.to_json();
                    value["kind"] = "case".into();
                    told = told.fault((value, rendered(problem)));
                }
                told
            }
            broken => {
                let message = Failure::chain(broken);
                told.fault((json!({ "kind": "case", "message": message }), vec![message]))
            }
        }
    }

    fn fault(mut self, (value, text): Faulty) -> Self {
        self.outcome = Verdict::Failed;
        self.faults.push(value);
        self.text.extend(text);
        self
    }

    fn change(&mut self, change: &Change) {
        let Change { file, done, size_bytes } = change;
        let word = match done {
            Done::Added => "added",
            Done::Replaced => "replaced",
            Done::Removed => "removed",
        };
        self.changes.push(json!({ "file": file, "done": word, "bytes": size_bytes }));
        self.text.push(format!("{word} {file} ({})", bytes(*size_bytes)));
    }
}

fn rendered(problem: &Problem) -> Vec<String> {
    problem.render(false).lines().map(str::to_owned).collect()
}

fn print(told: &Told, width: usize) {
    let word = match told.outcome {
        Verdict::Passed => "pass ",
        Verdict::Failed => "FAIL ",
        Verdict::Blessed => "bless",
    };
    let figures = told.figures.as_ref().map(workbench::figures).unwrap_or_default();
    line(format!("  {word}  {:<width$}  {figures}", told.case).trim_end());
    told.text.iter().for_each(|text| line(&format!("         {text}")));
}
