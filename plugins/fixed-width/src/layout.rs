//! The layout of the lines, worked out once from the options.

use std::collections::BTreeSet;

use consign_sdk::text::{Buffer, Pattern, PatternKind};
use consign_sdk::{DataType, Diagnostic, Error, Field, Problem, RunFacts, Schema, options};

use crate::cell::{Rule, is_decimal, is_number, is_text};
use crate::options::{Align, Fact, Options, Overflow, Pad, Place, Sign};
use crate::place::{Fit, Misfit};

/// Characters of a place.
const WIDTHS: std::ops::RangeInclusive<u32> = 1..=65_536;

/// What each line of an object is made of.
pub(crate) struct Layout {
    pub parts: Vec<Part>,
    /// The line before the rows, or nothing.
    pub header: Vec<u8>,
    pub trailer: Trailer,
    pub line_ending: &'static [u8],
}

/// The line behind the rows, or nothing.
#[derive(Clone)]
pub(crate) struct Trailer {
    parts: Vec<Part>,
    line_ending: &'static [u8],
}

/// One place of a line.
#[derive(Clone)]
pub(crate) struct Part {
    pub place: Fit,
    content: Content,
    name: String,
}

#[derive(Clone)]
enum Content {
    Column(usize, Rule),
    /// As wide as the place.
    Fixed(Vec<u8>),
    /// The number of rows.
    Rows,
}

/// Which line a place is in.
#[derive(Clone, Copy, PartialEq)]
enum Line {
    Header,
    Row,
    Trailer,
}

impl Layout {
    /// The layout that the options say, or every problem with them.
    pub fn of(options: &Options, schema: &Schema, run: &RunFacts) -> Result<Self, Error> {
        let mut build = Build { options, schema, run, problems: Vec::new() };
        if options.columns.is_empty() {
            let message = "say where each column is: `columns = [{ column = \"id\", width = 8 }, …]`";
            build.wrong("/columns".into(), message);
        }
        let line_ending = options.line_ending.bytes();
        let parts = build.line(&options.columns, "columns", Line::Row);
        let header = Trailer { parts: build.line(&options.header, "header", Line::Header), line_ending };
        let trailer = Trailer { parts: build.line(&options.trailer, "trailer", Line::Trailer), line_ending };
        if !build.problems.is_empty() {
            return Err(Error::InvalidOptions(build.problems));
        }
        Ok(Layout { parts, header: header.line(0)?, trailer, line_ending })
    }
}

/// Columns of the dataset that no place names: they are not delivered.
pub(crate) fn left_out(options: &str, schema: &Schema) -> Option<Diagnostic> {
    let options: Options = options::parse(options).ok()?;
    let used: BTreeSet<&str> = options.columns.iter().filter_map(|place| place.column.as_deref()).collect();
    let unused = schema.fields.iter().map(|field| field.name.as_str()).filter(|name| !used.contains(name));
    let unused: Vec<String> = unused.map(|name| format!("`{name}`")).collect();
    let message = || format!("no place has the column {}: it is not delivered", unused.join(", "));
    (!unused.is_empty()).then(|| Diagnostic::warning("/columns", message()))
}

impl Trailer {
    /// The whole line, with its end; nothing when it has no places.
    pub fn line(&self, rows: u64) -> Result<Vec<u8>, Error> {
        let mut line = Buffer::new();
        for part in &self.parts {
            match &part.content {
                Content::Rows => {
                    let written = part.place.plain(rows.to_string().as_bytes(), &mut line);
                    written.map_err(|Misfit(why)| Error::Unsupported(format!("the trailer's number of rows {why}")))?;
                }
                _ => line.extend(part.fixed()),
            }
        }
        if !self.parts.is_empty() {
            line.extend(self.line_ending);
        }
        Ok(line.as_bytes().to_vec())
    }
}

impl Part {
    /// The column that is here, by its number, and how its values are written.
    pub fn column(&self) -> Option<(usize, &Rule)> {
        match &self.content {
            Content::Column(index, rule) => Some((*index, rule)),
            _ => None,
        }
    }

    /// What is always here.
    pub fn fixed(&self) -> &[u8] {
        match &self.content {
            Content::Fixed(text) => text,
            _ => &[],
        }
    }

    /// The error for a value that cannot be here.
    #[cold]
    pub fn failed(&self, Misfit(why): Misfit, row: u64) -> Error {
        Error::Unsupported(format!("column `{}` of row {row} {why}", self.name))
    }
}

struct Build<'a> {
    options: &'a Options,
    schema: &'a Schema,
    run: &'a RunFacts,
    problems: Vec<Problem>,
}

impl Build<'_> {
    fn wrong(&mut self, path: String, message: impl Into<String>) {
        self.problems.push(Problem { path, message: message.into() });
    }

    fn line(&mut self, places: &[Place], key: &str, line: Line) -> Vec<Part> {
        let part = |(index, place)| self.part(place, &format!("/{key}/{index}"), line);
        places.iter().enumerate().filter_map(part).collect()
    }

    /// The place, unless there is a problem with it.
    fn part(&mut self, place: &Place, path: &str, line: Line) -> Option<Part> {
        let before = self.problems.len();
        if !WIDTHS.contains(&place.width) {
            let (min, max) = (WIDTHS.start(), WIDTHS.end());
            self.wrong(format!("{path}/width"), format!("`width` must be from {min} to {max}, not {}", place.width));
        }
        let mut part = match (&place.column, &place.text, place.fact) {
            (Some(name), None, None) => self.column(place, name, path, line),
            (None, Some(text), None) => {
                self.only_of_columns(place, path);
                self.fixed(place, text, path)
            }
            (None, None, Some(fact)) => {
                self.only_of_columns(place, path);
                self.fact(place, fact, path, line)
            }
            _ => {
                self.wrong(path.into(), "write one of `column`, `text` and `fact` in each place");
                None
            }
        };
        if self.problems.len() > before {
            part = None;
        }
        part
    }

    fn fit(&self, place: &Place, number: bool, cut: bool) -> Fit {
        let Options { encoding, control_characters: controls, .. } = *self.options;
        Fit {
            width: place.width as usize,
            right: place.align.map_or(number, |align| align == Align::Right),
            pad: place.pad.map_or(b' ', |Pad(pad)| pad),
            cut,
            remedy: "widen it",
            encoding,
            controls,
        }
    }

    fn column(&mut self, place: &Place, name: &str, path: &str, line: Line) -> Option<Part> {
        if line != Line::Row {
            self.wrong(format!("{path}/column"), "columns are in `columns`; write `text` or `fact` here");
            return None;
        }
        let found = self.schema.fields.iter().enumerate().find(|(_, field)| field.name == name);
        let Some((index, field)) = found else {
            let names: Vec<String> = self.schema.fields.iter().map(|field| format!("`{}`", field.name)).collect();
            let message = format!("the dataset has no column `{name}`; it has {}", names.join(", "));
            self.wrong(format!("{path}/column"), message);
            return None;
        };
        let pattern = self.pattern(place, field, path);
        self.suits(place, field, path);
        let text = is_text(&field.data_type);
        let overflow = place.overflow.unwrap_or(self.options.overflow);
        let mut fit = self.fit(place, is_number(&field.data_type), text && overflow == Overflow::Truncate);
        if text {
            fit.remedy = "widen it, shorten it in the query, or write overflow = \"truncate\"";
        }
        let blank = Fit { pad: b' ', cut: false, ..fit.clone() };
        let null = self.fitted(&blank, place.null.as_deref().unwrap_or(""), &format!("{path}/null"));
        let Options { booleans, binary, .. } = self.options;
        let (point, sign) = (place.point, place.sign);
        let rule = Rule { pattern, point, sign, null, booleans: booleans.clone(), binary: *binary };
        Some(Part { place: fit, content: Content::Column(index, rule), name: name.into() })
    }

    /// Whether what is said of the place makes sense for the column's type.
    fn suits(&mut self, place: &Place, field: &Field, path: &str) {
        let Field { name, data_type, .. } = field;
        let nested = !field.children().is_empty()
            || matches!(data_type, DataType::Struct(_) | DataType::SparseUnion { .. } | DataType::DenseUnion { .. });
        if nested {
            let message =
                format!("column `{name}` is {data_type}, which has no width: select its parts, or text, in the query");
            self.wrong(format!("{path}/column"), message);
        }
        if place.overflow == Some(Overflow::Truncate) && !is_text(data_type) {
            let message = format!("column `{name}` is {data_type}, of which nothing can be cut: widen its place");
            self.wrong(format!("{path}/overflow"), message);
        }
        if !place.point && !is_decimal(data_type) {
            let message = format!("column `{name}` is {data_type}; only decimals can leave their point out");
            self.wrong(format!("{path}/point"), message);
        }
        if place.sign == Sign::Both && !is_number(data_type) {
            self.wrong(format!("{path}/sign"), format!("column `{name}` is {data_type}; only numbers have a sign"));
        }
    }

    fn pattern(&mut self, place: &Place, field: &Field, path: &str) -> Option<Pattern> {
        let format = place.format.as_deref()?;
        let kind = match field.data_type {
            DataType::Date32 | DataType::Date64 => PatternKind::Date,
            DataType::Time32(_) | DataType::Time64(_) => PatternKind::Time,
            DataType::Timestamp { .. } => PatternKind::Timestamp,
            _ => {
                let message = format!(
                    "column `{}` is {}; only dates, times and timestamps have a format",
                    field.name, field.data_type
                );
                self.wrong(format!("{path}/format"), message);
                return None;
            }
        };
        let parsed = Pattern::parse(format, kind).map_err(|message| self.wrong(format!("{path}/format"), message));
        parsed.ok()
    }

    fn only_of_columns(&mut self, place: &Place, path: &str) {
        let said = [
            (place.overflow.is_some(), "overflow"),
            (place.null.is_some(), "null"),
            (!place.point, "point"),
            (place.sign != Sign::Minus, "sign"),
            (place.format.is_some() && !place.fact.is_some_and(Fact::is_instant), "format"),
        ];
        for (_, key) in said.into_iter().filter(|(said, _)| *said) {
            self.wrong(format!("{path}/{key}"), format!("`{key}` means nothing here: remove it"));
        }
    }

    fn fixed(&mut self, place: &Place, text: &str, path: &str) -> Option<Part> {
        let fit = self.fit(place, false, false);
        let fixed = self.fitted(&fit, text, &format!("{path}/text"));
        Some(Part { place: fit, content: Content::Fixed(fixed), name: text.into() })
    }

    fn fact(&mut self, place: &Place, fact: Fact, path: &str, line: Line) -> Option<Part> {
        let name = fact.key().to_owned();
        if fact == Fact::Rows {
            if line != Line::Trailer {
                self.wrong(format!("{path}/fact"), "`rows` is known in the trailer only");
            }
            return Some(Part { place: self.fit(place, true, false), content: Content::Rows, name });
        }
        // There is none while options are only checked.
        let mut text = self.run.get(&name).unwrap_or_default();
        if let Some(format) = place.format.as_deref().filter(|_| fact.is_instant()) {
            match (Pattern::parse(format, PatternKind::Timestamp), seconds(&text)) {
                (Err(message), _) => self.wrong(format!("{path}/format"), message),
                (Ok(pattern), Some(seconds)) => {
                    let mut written = Buffer::new();
                    pattern.write(&mut written, seconds, 0, true);
                    text = String::from_utf8_lossy(written.as_bytes()).into_owned();
                }
                (Ok(_), None) => {}
            }
        }
        let fit = self.fit(place, false, false);
        let fixed = self.fitted(&fit, &text, &format!("{path}/fact"));
        Some(Part { place: fit, content: Content::Fixed(fixed), name })
    }

    /// The text in its place; a problem when it does not fit.
    fn fitted(&mut self, fit: &Fit, text: &str, path: &str) -> Vec<u8> {
        let mut fitted = Buffer::new();
        if let Err(Misfit(why)) = fit.text(text.as_bytes(), &mut fitted) {
            self.wrong(path.into(), why);
        }
        fitted.as_bytes().to_vec()
    }
}

/// Seconds since 1970 of an instant as the host writes it, in RFC 3339 and UTC.
fn seconds(instant: &str) -> Option<i64> {
    let number = |from: usize, to: usize| instant.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Years that begin in March have the leap day at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = days + (153 * month + 2) / 5 + day - 719_469;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}
