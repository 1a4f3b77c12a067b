//! Everything that is wrong with a configuration, in the manner of rustc.

use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet, renderer::DEFAULT_TERM_WIDTH};

use super::model::Config;
use super::source::{Location, SourceFile, Span, mask, passwords, within};
use crate::domain::{Blame, Refused};

/// Problems of a configuration. `Display` shows all of them without colour,
/// over several lines.
#[derive(Clone, Default)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

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

    /// Puts what several passes found in the order of the files and lines.
    pub fn sort(&mut self, config: &Config) {
        let files = config.origin.files();
        let place = |problem: &Problem| {
            let file = files.iter().position(|file| file == problem.location.path());
            (file, problem.location.span.as_ref().map(|span| span.start), problem.severity)
        };
        self.problems.sort_by_key(place);
    }

    /// As `Display`, with terminal colours if asked for.
    pub fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        for problem in &self.problems {
            text.push_str(&problem.render(colour));
            text.push_str("\n\n");
        }
        if self.has_errors() {
            text.push_str(&self.summary());
        }
        text.truncate(text.trim_end().len());
        text
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
        let problems = errors.problems().iter().map(Problem::to_json).collect();
        Self { problems, text: errors.render(false), ..Self::new(Blame::Config, errors.summary(), "") }
    }
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

    /// One snippet for each file, that of the problem first.
    fn snippets(&self) -> Vec<Snippet<'_, annotate_snippets::Annotation<'_>>> {
        let mut files: Vec<(&Arc<SourceFile>, Vec<annotate_snippets::Annotation<'_>>)> = Vec::new();
        let primary = self.location.span.clone().map(|span| (&self.location.file, AnnotationKind::Primary.span(span)));
        let others = self.also.iter().filter_map(|(place, label)| {
            let span = place.span.clone()?;
            Some((&place.file, AnnotationKind::Context.span(span).label(label.as_str())))
        });
        for (file, annotation) in primary.into_iter().chain(others) {
            match files.iter_mut().find(|(known, _)| Arc::ptr_eq(known, file)) {
                Some((_, annotations)) => annotations.push(annotation),
                None => files.push((file, vec![annotation])),
            }
        }
        let mut snippets = Vec::new();
        for (file, annotations) in files {
            let snippet = Snippet::source(file.text.as_str()).path(file.path.display().to_string());
            snippets.push(snippet.annotations(annotations));
        }
        snippets
    }
}

/// Collects what the passes over one configuration find.
pub(crate) struct Problems {
    files: Vec<Arc<SourceFile>>,
    found: Vec<(Span, Problem)>,
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

    pub fn add(&mut self, severity: Severity, span: Span, message: String, help: String, also: &[(Span, String)]) {
        let mut problem = Problem::new(severity, self.location(span), message, help);
        problem.also = also.iter().map(|(span, label)| (self.location(*span), label.clone())).collect();
        self.found.push((span, problem));
    }

    /// All of them, errors and warnings, in the order of files and lines.
    pub fn sorted(mut self) -> ConfigErrors {
        self.found.sort_by_key(|(span, problem)| (*span, problem.severity));
        ConfigErrors { problems: self.found.into_iter().map(|(_, problem)| problem).collect() }
    }

    /// Where the errors are that were found so far.
    pub fn errors(&self) -> Vec<Span> {
        self.found.iter().filter(|(_, problem)| problem.severity == Severity::Error).map(|(span, _)| *span).collect()
    }

    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|(_, p)| p.severity == Severity::Error)
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
    let close = (word.chars().count() / 3).max(1);
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
    candidates.into_iter().map(|c| (distance(c), c)).filter(|(d, _)| *d <= close).min().map(|(_, c)| c)
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
