//! Everything that is wrong with a configuration, in the manner of rustc.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet, renderer::DEFAULT_TERM_WIDTH};

use super::model::Config;
use super::source::{Location, SourceFile, Span, mask, passwords, within};
use crate::domain::{Blame, Refused};

/// Problems of a configuration. `Display` shows the first of them without colour,
/// over several lines.
#[derive(Clone, Default)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

/// Problems that are laid out for people, and that a daemon keeps: nobody reads
/// more, and a mistake in a template is in every share that was made from it.
pub const SHOWN_MAX: usize = 100;

/// Files that are named for what is not shown.
const FILES_MAX: usize = 10;

/// One thing that is wrong, or that was probably not meant.
#[derive(Clone, Debug)]
pub struct Problem {
    pub severity: Severity,
    pub location: Location,
    /// A fragment without period, such as ``region `eu-west` is not a region code``.
    pub message: String,
    /// What to write instead; may be empty.
    pub help: String,
    /// Other places that matter, each with what is there.
    pub also: Vec<(Location, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

impl ConfigErrors {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an error found by whoever reads the text at `location`.
    pub fn at(&mut self, location: Location, message: impl Into<String>, help: impl Into<String>) {
        self.push(Problem::new(Severity::Error, location, message, help));
    }

    pub fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// In order of files and lines, as far as they were found by one pass.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Ok when there is nothing to report.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }

    /// The warnings, if there is no error; or else all of it.
    pub fn warnings(self) -> Result<Vec<Problem>, Self> {
        if self.has_errors() { Err(self) } else { Ok(self.problems) }
    }

    /// Without the errors that were there `earlier`, wherever they are in their files by now.
    #[must_use]
    pub fn besides(mut self, earlier: &Self) -> Self {
        let is_error = |problem: &Problem| problem.severity == Severity::Error;
        let mut known: HashMap<&Path, HashMap<&str, usize>> = HashMap::new();
        for problem in earlier.problems.iter().filter(|problem| is_error(problem)) {
            *known.entry(problem.location.path()).or_default().entry(&problem.message).or_default() += 1;
        }
        self.problems.retain(|problem| {
            let of_file = known.get_mut(problem.location.path());
            let left = of_file.and_then(|known| known.get_mut(problem.message.as_str()));
            match left.filter(|left| is_error(problem) && **left > 0) {
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => true,
            }
        });
        self
    }

    /// Puts what several passes found in the order of the files and lines.
    pub fn sort(&mut self, config: &Config) {
        let files = config.origin.files();
        let numbers: HashMap<&Path, usize> = files.iter().map(PathBuf::as_path).zip(0..).collect();
        self.problems.sort_by_cached_key(|problem| {
            let start = problem.location.span.as_ref().map(|span| span.start);
            (numbers.get(problem.location.path()).copied(), start, problem.severity)
        });
    }

    /// As `Display`, with terminal colours if asked for.
    pub fn render(&self, colour: bool) -> String {
        let mut parts = rendered(&self.problems, colour);
        if self.has_errors() {
            parts.push(self.summary());
        }
        parts.join("\n\n")
    }

    /// How many errors there are.
    pub fn summary(&self) -> String {
        match self.problems.iter().filter(|problem| problem.severity == Severity::Error).count() {
            1 => "1 error in the configuration".into(),
            errors => format!("{errors} errors in the configuration"),
        }
    }
}

impl std::fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::fmt::Debug for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.problems).finish()
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigErrors> for Refused {
    fn from(errors: ConfigErrors) -> Self {
        Self::from(&errors)
    }
}

impl From<&ConfigErrors> for Refused {
    fn from(errors: &ConfigErrors) -> Self {
        let shown = shown(&errors.problems);
        let omitted = errors.problems.len() - shown.len();
        let problems = shown.into_iter().map(|at| errors.problems[at].to_json()).collect();
        Self { problems, omitted, text: errors.render(false), ..Self::new(Blame::Config, errors.summary(), "") }
    }
}

/// The problems laid out for people, one by one: the first of them, and then how
/// many more there are and where.
pub fn rendered(problems: &[Problem], colour: bool) -> Vec<String> {
    let shown = shown(problems);
    let mut parts: Vec<String> = shown.iter().map(|at| problems[*at].render(colour)).collect();
    parts.extend(others(problems, &shown));
    parts
}

/// Which are shown: the first, and no warning instead of an error.
fn shown(problems: &[Problem]) -> BTreeSet<usize> {
    let of = |severity| (0..problems.len()).filter(move |at| problems[*at].severity == severity);
    of(Severity::Error).chain(of(Severity::Warning)).take(SHOWN_MAX).collect()
}

/// What is said of the others, if there are any.
fn others(problems: &[Problem], shown: &BTreeSet<usize>) -> Option<String> {
    let others = || problems.iter().enumerate().filter(|(at, _)| !shown.contains(at)).map(|(_, problem)| problem);
    let count = |severity, noun: &str| match others().filter(|problem| problem.severity == severity).count() {
        0 => None,
        1 => Some(format!("1 more {noun}")),
        more => Some(format!("{more} more {noun}s")),
    };
    let counts = [count(Severity::Error, "error"), count(Severity::Warning, "warning")];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    if counts.is_empty() {
        return None;
    }
    let mut files: Vec<(&Path, usize)> = Vec::new();
    let mut places = HashMap::new();
    for path in others().map(|problem| problem.location.path()) {
        let place = *places.entry(path).or_insert_with(|| {
            files.push((path, 0));
            files.len() - 1
        });
        files[place].1 += 1;
    }
    let mut text = format!("… and {}:", counts.join(" and "));
    for (path, more) in files.iter().take(FILES_MAX) {
        text.push_str(&format!("\n  {more} in {}", path.display()));
    }
    if let Some(rest) = files.get(FILES_MAX..).filter(|rest| !rest.is_empty()) {
        let more: usize = rest.iter().map(|(_, more)| more).sum();
        text.push_str(&format!("\n  {more} in {} more files", rest.len()));
    }
    Some(text)
}

impl Problem {
    pub fn new(severity: Severity, location: Location, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity, location, message: message.into(), help: help.into(), also: Vec::new() }
    }

    pub fn error(location: Location, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Severity::Error, location, message, help)
    }

    pub fn warning(location: Location, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Severity::Warning, location, message, help)
    }

    /// Adds another place that matters, with what is there.
    pub fn and(mut self, location: Location, what: impl Into<String>) -> Self {
        self.also.push((location, what.into()));
        self
    }

    /// For machines: `severity`, `file`, `line`, `column`, `message`, `help` and
    /// `also`, other places with a `message` of their own.
    pub fn to_json(&self) -> serde_json::Value {
        let place = |location: &Location| {
            serde_json::json!({
                "file": location.path().display().to_string(),
                "line": location.line(),
                "column": location.column(),
            })
        };
        let also = self.also.iter().map(|(location, what)| {
            let mut also = place(location);
            also["message"] = what.as_str().into();
            also
        });
        let mut json = place(&self.location);
        json["severity"] = if self.severity == Severity::Error { "error" } else { "warning" }.into();
        json["message"] = self.message.as_str().into();
        json["help"] = self.help.as_str().into();
        json["also"] = also.collect();
        json
    }

    pub fn render(&self, colour: bool) -> String {
        let level = if self.severity == Severity::Error { Level::ERROR } else { Level::WARNING };
        let mut group = level.primary_title(self.message.as_str()).elements(self.snippets());
        if self.location.span.is_none() {
            group = group.element(Origin::path(self.location.path().display().to_string()));
        }
        if !self.help.is_empty() {
            group = group.element(Level::HELP.message(annotate_snippets::normalize_untrusted_str(&self.help)));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.term_width(DEFAULT_TERM_WIDTH).render(&[group])
    }

    /// What is underlined, that of the problem first: for each stretch of a file
    /// the lines that have it, because a file may be long.
    fn snippets(&self) -> Vec<Snippet<'_, annotate_snippets::Annotation<'_>>> {
        let mut stretches: Vec<Stretch<'_>> = Vec::new();
        let primary = std::iter::once((&self.location, None));
        for (place, label) in primary.chain(self.also.iter().map(|(place, label)| (place, Some(label.as_str())))) {
            let Some(span) = &place.span else { continue };
            let mark = (span.clone(), label);
            match stretches.iter_mut().find(|stretch| stretch.is_near(place, span)) {
                Some(stretch) => stretch.add(mark),
                None => stretches.push(Stretch { file: &place.file, range: span.clone(), marks: vec![mark] }),
            }
        }
        stretches.into_iter().map(Stretch::snippet).collect()
    }
}

/// Part of a file that is shown in one piece.
struct Stretch<'a> {
    file: &'a SourceFile,
    range: Range<usize>,
    /// What is underlined; with a label if it is not the problem itself.
    marks: Vec<(Range<usize>, Option<&'a str>)>,
}

impl<'a> Stretch<'a> {
    /// Bytes between two marks that are shown in one piece, most of them left out.
    const GAP_MAX: usize = 64 << 10;

    fn is_near(&self, place: &Location, span: &Range<usize>) -> bool {
        let gap = span.start.saturating_sub(self.range.end).max(self.range.start.saturating_sub(span.end));
        std::ptr::eq(self.file, &*place.file) && gap <= Self::GAP_MAX
    }

    fn add(&mut self, mark: (Range<usize>, Option<&'a str>)) {
        self.range = self.range.start.min(mark.0.start)..self.range.end.max(mark.0.end);
        self.marks.push(mark);
    }

    fn snippet(self) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let (lines, number) = self.file.around(&self.range);
        let annotations = self.marks.into_iter().map(|(span, label)| {
            let span = span.start - lines.start..span.end - lines.start;
            match label {
                None => AnnotationKind::Primary.span(span),
                Some(label) => AnnotationKind::Context.span(span).label(label),
            }
        });
        let text = self.file.text.get(lines.clone()).unwrap_or("");
        let snippet = Snippet::source(text).line_start(number).path(self.file.path.display().to_string());
        snippet.annotations(annotations.collect::<Vec<_>>())
    }
}

/// Names of which one may have been meant.
pub(crate) struct Candidates {
    names: Vec<String>,
    /// What to do when none of them is near.
    otherwise: String,
}

impl Candidates {
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, otherwise: impl Fn(&[&str]) -> String) -> Self {
        let names: BTreeSet<&str> = names.into_iter().collect();
        let names: Vec<&str> = names.into_iter().collect();
        let otherwise = otherwise(&names);
        Self { names: names.into_iter().map(str::to_owned).collect(), otherwise }
    }
}

/// Collects what the passes over one configuration find.
pub(crate) struct Problems {
    files: Vec<Arc<SourceFile>>,
    found: Vec<Found>,
}

struct Found {
    span: Span,
    problem: Problem,
    /// What is written, and the names of which it is none.
    unknown: Option<(String, Arc<Candidates>)>,
}

impl Problems {
    pub fn new(files: Vec<Arc<SourceFile>>) -> Self {
        Self { files, found: Vec::new() }
    }

    pub fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Error, span, message.into(), help.into(), &[]);
    }

    pub fn warn(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Warning, span, message.into(), help.into(), &[]);
    }

    /// An error about a name that is none of these.
    pub fn unknown(&mut self, span: Span, message: String, name: &str, candidates: &Arc<Candidates>) {
        self.error(span, message, candidates.otherwise.clone());
        if let Some(found) = self.found.last_mut() {
            found.unknown = Some((name.to_owned(), candidates.clone()));
        }
    }

    pub fn add(&mut self, severity: Severity, span: Span, message: String, help: String, also: &[(Span, String)]) {
        let mut problem = Problem::new(severity, self.location(span), message, help);
        problem.also = also.iter().map(|(span, label)| (self.location(*span), label.clone())).collect();
        self.found.push(Found { span, problem, unknown: None });
    }

    /// All of them, errors and warnings, in the order of files and lines.
    pub fn sorted(mut self) -> ConfigErrors {
        self.found.sort_by_key(|found| (found.span, found.problem.severity));
        // Looking through ten thousand names takes milliseconds: done for those that are shown.
        for found in self.found.iter_mut().filter(|found| found.unknown.is_some()).take(SHOWN_MAX) {
            let Some((name, candidates)) = &found.unknown else { continue };
            if let Some(meant) = near(name, candidates.names.iter().map(String::as_str)) {
                found.problem.help = format!("did you mean `{meant}`?");
            }
        }
        ConfigErrors { problems: self.found.into_iter().map(|found| found.problem).collect() }
    }

    /// Where the errors are that were found so far.
    pub fn errors(&self) -> Vec<Span> {
        let errors = self.found.iter().filter(|found| found.problem.severity == Severity::Error);
        errors.map(|found| found.span).collect()
    }

    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|found| found.problem.severity == Severity::Error)
    }

    /// The part of a string's value, or the whole string when the part cannot be told.
    pub fn inside(&self, literal: Span, value: &str, part: &std::ops::Range<usize>) -> Span {
        let found = self.files.get(literal.file()).and_then(|file| within(file, &literal.range(), value, part));
        found.map_or(literal, |found| Span::new(literal.file(), found))
    }

    pub fn location(&self, span: Span) -> Location {
        locate(&self.files, span)
    }
}

pub(crate) fn locate(files: &[Arc<SourceFile>], span: Span) -> Location {
    match files.get(span.file()) {
        Some(file) => Location { file: file.clone(), span: Some(span.range()) },
        None => Location::file("".as_ref()),
    }
}

/// A value as part of a message: whole, but never several lines or a flood.
pub(crate) fn quote(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut text = text.to_owned();
    let passwords = passwords(&text);
    mask(&mut text, &passwords);
    let escaped: String = text.chars().flat_map(escape).collect();
    if escaped.chars().count() > SHOWN {
        return format!("`{}…`", escaped.chars().take(SHOWN).collect::<String>());
    }
    format!("`{escaped}`")
}

fn escape(c: char) -> Box<dyn Iterator<Item = char>> {
    let invisible = c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    if invisible { Box::new(c.escape_unicode()) } else { Box::new(std::iter::once(c)) }
}

/// The candidate that was probably meant.
pub(crate) fn near<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    let close = (length / 3).max(1);
    // So much longer or shorter is so much further away.
    let may_be = candidates.into_iter().filter(|candidate| candidate.chars().count().abs_diff(length) <= close);
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
    may_be.map(|c| (distance(c), c)).filter(|(d, _)| *d <= close).min().map(|(_, c)| c)
}

/// `a, b and c`, each in backquotes; the first few of many.
pub(crate) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 25;
    let words: Vec<&str> = words.into_iter().collect();
    let quoted: Vec<String> = words.iter().take(SHOWN).map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => "none".into(),
        Some((last, [])) => last.clone(),
        Some(_) if words.len() > SHOWN => format!("{} and {} more", quoted.join(", "), words.len() - SHOWN),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}
