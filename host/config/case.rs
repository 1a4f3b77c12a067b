//! What the author of a plugin writes down to run it: the options and the run of
//! a case, limits on a command line. The keys are those of shares and plugins.

use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use chrono_tz::Tz;

use super::files::read_alone;
use super::limits::{OF_PLUGIN, read};
use super::model::TableSource;
use super::origin::Origin;
use super::report::{ConfigErrors, Problem, Problems};
use super::section::Section;
use super::shape::{Kind, NAME_PATTERN, Shape, TEXT, check_root, default, in_two};
use super::source::{Location, Span};
use super::tree::Value;
use crate::calendar::When;
use crate::clock::Instant;
use crate::domain::{Interval, ShareName};
use crate::limits::Limits;

/// The run of a case: `case.toml`.
#[derive(Clone, Debug)]
pub struct CaseSettings {
    /// A name as a share may have it, and so the next two.
    pub share: String,
    pub customer: String,
    pub dataset: String,
    pub slot: Instant,
    pub interval: Interval,
    pub timezone: Tz,
    pub attempt: u32,
    pub max_object_bytes: Option<u64>,
    /// None: the file `input.*` beside it.
    pub input: Option<TableSource>,
    /// SQL over the table `input`.
    pub query: Option<String>,
}

static CASE: Shape = Shape {
    noun: "the case",
    doc: "What is another than usual in the run of a case.",
    keys: &[
        default(
            "share",
            Kind::Text(NAME_PATTERN),
            r#""example""#,
            r#""orders""#,
            "The share, which names the objects.",
        ),
        default("customer", Kind::Text(NAME_PATTERN), r#""acme""#, r#""acme""#, "Whom it is for."),
        default("dataset", Kind::Text(NAME_PATTERN), r#""example""#, r#""orders""#, "What the dataset is called."),
        default("slot", Kind::Date, "2024-01-02T00:00:00Z", "2024-01-02T00:00:00Z", "The instant that it is due at."),
        default("interval_start", Kind::Date, "a day before `slot`", "2024-01-01T00:00:00Z", "Where its data begin."),
        default("interval_end", Kind::Date, "`slot`", "2024-01-02T00:00:00Z", "Where its data end."),
        default("timezone", TEXT, r#""UTC""#, r#""America/New_York""#, "The share's zone."),
        default("attempt", Kind::Int(1, 1000), "1", "2", "Which attempt it is."),
        default("max_object_size", Kind::Size(1, 5 << 40), "one object", r#""1 MiB""#, "Splits the output."),
        default(
            "input",
            Kind::Either(&[TEXT, Kind::Table(&super::dataset::TABLE)]),
            "the file `input.*` beside this one",
            r#"{ path = "input.csv", columns = { amount = "decimal(12, 2)" } }"#,
            "Where the rows are: a path relative to this file, or what a dataset's table has.",
        ),
        default(
            "query",
            TEXT,
            "every row of the input",
            r#""select id, cast(name as varchar) as name from input order by id""#,
            "SQL over the table `input`.",
        ),
    ],
    synonyms: &[("tz", "timezone"), ("max_object_bytes", "max_object_size"), ("sql", "query"), ("path", "input")],
};

impl CaseSettings {
    /// Reads `case.toml`. Err holds all that is wrong with it, at once.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let (origin, mut problems) = read_alone(path, bytes(path)?)?;
        let root = origin.root();
        check_root(&CASE, root, &mut problems);
        let section = Section { name: "", name_span: Span::START, table: root, shape: &CASE };
        let settings = Self::of(&section, |file| origin.directory(file), &mut problems);
        problems.sorted().into_result().map(|()| settings)
    }

    fn of(section: &Section<'_>, base: impl Fn(usize) -> PathBuf, problems: &mut Problems) -> Self {
        let usual = Self::default();
        let timezone = section.parse("timezone", super::known::zone, problems).unwrap_or(usual.timezone);
        let slot = instant(section, "slot", timezone, problems).unwrap_or(usual.slot);
        let end = instant(section, "interval_end", timezone, problems).unwrap_or(slot);
        let start = instant(section, "interval_start", timezone, problems).unwrap_or(end - TimeDelta::days(1));
        if start > end {
            let message = "`interval_start` is after the interval's end";
            problems.error(
                section.span("interval_start"),
                message,
                "write an earlier start, or a later `interval_end`",
            );
        }
        let input = section.table.get_key_value("input");
        let mut name = |key: &str, usual: String| {
            let rule = |text: &str| ShareName::parse(text).map(|name| name.to_string());
            section.parse(key, rule, problems).unwrap_or(usual)
        };
        Self {
            share: name("share", usual.share),
            customer: name("customer", usual.customer),
            dataset: name("dataset", usual.dataset),
            slot,
            interval: Interval { start, end },
            timezone,
            attempt: section.int("attempt").unwrap_or(usual.attempt),
            max_object_bytes: section.size("max_object_size"),
            input: input.and_then(|(name, entry)| super::dataset::source(name, entry, &base, problems)),
            query: section.text("query").map(str::to_owned),
        }
    }
}

impl Default for CaseSettings {
    fn default() -> Self {
        // 2024-01-02T00:00:00Z
        let slot = Instant::UNIX_EPOCH + TimeDelta::days(19_724);
        Self {
            share: "example".into(),
            customer: "acme".into(),
            dataset: "example".into(),
            slot,
            interval: Interval { start: slot - TimeDelta::days(1), end: slot },
            timezone: Tz::UTC,
            attempt: 1,
            max_object_bytes: None,
            input: None,
            query: None,
        }
    }
}

fn instant(section: &Section<'_>, key: &str, zone: Tz, problems: &mut Problems) -> Option<Instant> {
    let Value::Time(time) = &section.node(key)?.value else { return None };
    time.date?;
    match When::parse(&time.to_string()) {
        Ok(when) => when.first(zone),
        Err(why) => {
            let (why, help) = in_two(&why);
            problems.error(section.span(key), format!("`{key}` {why}"), help);
            None
        }
    }
}

/// The options of a plugin as a file has them: `options.toml`, the keys of a
/// share's `options`.
#[derive(Clone, Default)]
pub struct PluginOptions {
    /// JSON text, an object; empty for none.
    json: String,
    origin: Origin,
}

impl PluginOptions {
    /// Reads a TOML file. Err holds all that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let (origin, mut problems) = read_alone(path, bytes(path)?)?;
        match origin.to_json() {
            Ok(json) => Ok(Self { json: json.to_string(), origin }),
            Err(span) => {
                problems.error(span, "there is a number that JSON cannot hold", "write a finite number, or a string");
                Err(problems.sorted())
            }
        }
    }

    /// JSON text, an object.
    pub fn json(&self) -> &str {
        if self.json.is_empty() { "{}" } else { &self.json }
    }

    /// Where a part of them stands, by its JSON Pointer: the option's key, or its value.
    pub fn locate(&self, pointer: &str, key: bool) -> Location {
        self.origin.locate_pointer(&[], pointer, key)
    }
}

/// Limits as a command line has them: `KEY=VALUE`, with the keys and values of `[plugins.NAME.limits]`.
pub fn limits(settings: &[String]) -> Result<Limits, ConfigErrors> {
    let line = |setting: &String| {
        let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
        let (key, value) = (key.trim(), value.trim());
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let value = if is_number || value.starts_with('"') { value.to_owned() } else { format!("{value:?}") };
        format!("{key} = {value}\n")
    };
    let text: String = settings.iter().map(line).collect();
    let (origin, mut problems) = read_alone("--limits".as_ref(), text.into_bytes())?;
    let root = origin.root();
    check_root(&OF_PLUGIN, root, &mut problems);
    let section = Section { name: "limits", name_span: Span::START, table: root, shape: &OF_PLUGIN };
    problems.sorted().into_result().map(|()| read(&section, &Limits::default()))
}

fn bytes(path: &Path) -> Result<Vec<u8>, ConfigErrors> {
    std::fs::read(path).map_err(|error| {
        let mut errors = ConfigErrors::new();
        let message = format!("cannot read {}: {error}", path.display());
        errors.push(Problem::error(Location::file(path), message, ""));
        errors
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_a_command_line_are_those_of_the_configuration() {
        let set = |settings: &[&str]| limits(&settings.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let read = set(&["memory=32 MiB", "cpu_time=2s", "objects=7"]).unwrap();
        let usual = Limits::default();
        assert_eq!((read.memory_bytes, read.cpu_time.as_secs(), read.objects), (32 << 20, 2, 7));
        assert_eq!((read.wall_time, read.call_bytes), (usual.wall_time, usual.call_bytes));
        assert_eq!(set(&[]).unwrap(), usual);
        for (wrong, said) in [
            ("memroy=1 MiB", "did you mean `memory`?"),
            ("memory=1", "`memory` is an integer"),
            ("memory=1 KiB", "write \"1 MiB\" or more"),
            ("objects=0", "write 1 to 1000000"),
            ("objects=many", "not an integer"),
            ("memory", "is not a size"),
        ] {
            let errors = set(&[wrong]).unwrap_err().to_string();
            assert!(errors.contains(said) && errors.contains("--limits"), "{wrong}: {errors}");
        }
    }

    #[test]
    fn the_default_slot_is_as_documented() {
        assert_eq!(crate::clock::exact(CaseSettings::default().slot), "2024-01-02T00:00:00Z");
    }
}
