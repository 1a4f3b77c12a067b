//! The format described: which keys a table has, what each holds, and why. The
//! reader, the JSON Schema and the reference in the documentation all come from
//! these descriptions.

use crate::domain::Invalid;

use super::report::{Problems, listed, near, quote};
use super::source::Span;
use super::tree::{Node, Table, Value};
use super::units;

/// A table with fixed keys.
pub(crate) struct Shape {
    /// What a person calls it: `customer`, `share`.
    pub noun: &'static str,
    pub doc: &'static str,
    pub keys: &'static [Key],
    /// Words from elsewhere, and the key that was probably meant.
    pub synonyms: &'static [(&'static str, &'static str)],
}

pub(crate) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub need: Need,
    /// Full sentences: meaning, unit, rule.
    pub doc: &'static str,
    /// A value as written in TOML.
    pub example: &'static str,
}

pub(crate) enum Need {
    Required,
    Optional,
    /// As TOML where the default is a value, otherwise in words.
    Default(&'static str),
}

pub(crate) enum Kind {
    /// With the pattern that JSON Schema shows; empty for any text.
    Text(&'static str),
    Choice(&'static [&'static str]),
    Bool,
    Int(i64, i64),
    /// Bytes, at least and at most.
    Size(u64, u64),
    /// Milliseconds, at least and at most.
    Duration(u64, u64),
    /// A date, or a date and time.
    Date,
    Secret,
    /// A scalar, or an array of scalars.
    Param,
    /// Any table.
    Free,
    List(&'static Kind),
    Table(&'static Shape),
    Map(&'static Names),
    /// One of these, each of another TOML type.
    Either(&'static [Kind]),
}

/// A table whose keys are names.
pub(crate) struct Names {
    pub noun: &'static str,
    pub rule: fn(&str) -> Result<(), Invalid>,
    /// The rule as a regular expression.
    pub pattern: &'static str,
    pub value: Kind,
}

pub(crate) const TEXT: Kind = Kind::Text("");
pub(crate) const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9_-]{0,62}$";

pub(crate) const fn required(name: &'static str, kind: Kind, example: &'static str, doc: &'static str) -> Key {
    Key { name, kind, need: Need::Required, doc, example }
}

pub(crate) const fn optional(name: &'static str, kind: Kind, example: &'static str, doc: &'static str) -> Key {
    Key { name, kind, need: Need::Optional, doc, example }
}

pub(crate) const fn default(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key { name, kind, need: Need::Default(default), doc, example }
}

/// Where a value stands and what it is called, for messages.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The key or name.
    name: &'a str,
    name_span: Span,
    /// What to write, as `key = value`.
    example: &'a str,
}

/// Reports all that does not fit the shape: unknown and missing keys, wrong
/// types, numbers out of range, words that are no choice.
pub(crate) fn check_root(shape: &'static Shape, table: &Table, problems: &mut Problems) {
    let start = Span::START;
    check_table(shape, table, Place { name: "", name_span: start, example: "" }, problems);
}

fn check_table(shape: &Shape, table: &Table, place: Place<'_>, problems: &mut Problems) {
    let owner = match (place.name, shape.noun) {
        ("", noun) => noun.to_owned(),
        (name, noun) if noun == name => format!("`{name}`"),
        (name, noun) => format!("{noun} {}", quote(name)),
    };
    let mut meant = Vec::new();
    for (name, entry) in table.iter() {
        if let Some(key) = shape.keys.iter().find(|key| key.name == name) {
            let example = format!("{} = {}", key.name, key.example);
            check(&key.kind, &entry.node, Place { name, name_span: entry.key, example: &example }, problems);
            continue;
        }
        if name == "include" {
            let help = "it belongs above the first `[table]`, because what stands below a header is part of that table";
            problems.error(entry.key, format!("`include` is not a key of {owner}"), help);
            continue;
        }
        let synonym = shape.synonyms.iter().find(|(word, _)| *word == name).map(|(_, key)| *key);
        let help = match synonym.or_else(|| near(name, shape.keys.iter().map(|key| key.name))) {
            // Two tables of one name may be written apart by mistake; two values may not.
            Some(key) if !table.contains_key(key) || entry.node.table().is_some() => {
                meant.push(key);
                format!("did you mean `{key}`?")
            }
            _ => format!("its keys are {}", listed(shape.keys.iter().map(|key| key.name))),
        };
        problems.error(entry.key, format!("unknown key {} in {owner}", quote(name)), help);
    }
    for key in shape.keys {
        if matches!(key.need, Need::Required) && !table.contains_key(key.name) && !meant.contains(&key.name) {
            let message = format!("{owner} has no `{}`", key.name);
            problems.error(place.name_span, message, format!("add `{} = {}`", key.name, key.example));
        }
    }
}

fn check(kind: &Kind, node: &Node, place: Place<'_>, problems: &mut Problems) {
    match (kind, &node.value) {
        (Kind::Text(_), Value::Text(_)) | (Kind::Bool, Value::Bool(_)) | (Kind::Free, Value::Table(_)) => {}
        (Kind::Choice(words), Value::Text(text)) => check_choice(words, text, node, place, problems),
        (Kind::Int(min, max), Value::Int(number)) if !(min..=max).contains(&number) => {
            let message = format!("`{}` is {number}, which is out of range", place.name);
            problems.error(node.span, message, format!("write {min} to {max}"));
        }
        (Kind::Int(..), Value::Int(_)) => {}
        (Kind::Size(min, max), Value::Text(text)) => {
            if let Err(why) = units::size_in(text, *min, *max) {
                invalid(node.span, place.name, text, &why, place.example, problems);
            }
        }
        (Kind::Duration(min, max), Value::Text(text)) => {
            if let Err(why) = units::duration_in(text, *min, *max) {
                invalid(node.span, place.name, text, &why, place.example, problems);
            }
        }
        (Kind::Date, Value::Time(time)) if time.date.is_some() => {}
        (Kind::Secret, _) => check_secret(node, place, problems),
        (Kind::Param, _) => check_param(node, place, problems),
        (Kind::List(kind), Value::List(list)) => list.iter().for_each(|item| {
            if kind.takes(&item.value) {
                let name_span = if item.table().is_some() { item.span } else { place.name_span };
                check(kind, item, Place { name_span, ..place }, problems);
            } else {
                let message =
                    format!("{} has {} among its values, not {}", quote(place.name), item.type_name(), kind.words());
                problems.error(item.span, message, format!("write for example `{}`", place.example));
            }
        }),
        (Kind::Table(shape), Value::Table(table)) => check_table(shape, table, place, problems),
        (Kind::Map(names), Value::Table(table)) => {
            for (name, entry) in table.iter() {
                if let Err(why) = (names.rule)(name) {
                    invalid(entry.key, names.noun, name, &why, "", problems);
                }
                let header = format!("[{}.{name}]", place.name);
                let example = if matches!(names.value, Kind::Table(_)) { &header } else { place.example };
                check(&names.value, &entry.node, Place { name, name_span: entry.key, example }, problems);
            }
        }
        (Kind::Either(kinds), _) => match kinds.iter().find(|kind| kind.takes(&node.value)) {
            Some(kind) => check(kind, node, place, problems),
            None => wrong_type(kind, node, place, problems),
        },
        _ => wrong_type(kind, node, place, problems),
    }
}

fn wrong_type(kind: &Kind, node: &Node, place: Place<'_>, problems: &mut Problems) {
    let message = format!("{} is {}, not {}", quote(place.name), node.type_name(), kind.words());
    let help = if place.example.is_empty() { String::new() } else { format!("write for example `{}`", place.example) };
    let span = if node.table().is_some() { place.name_span } else { node.span };
    problems.error(span, message, help);
}

fn check_choice(words: &[&str], text: &str, node: &Node, place: Place<'_>, problems: &mut Problems) {
    if words.contains(&text) {
        return;
    }
    let help = match near(text, words.iter().copied()) {
        _ if words.len() == 1 => format!("write \"{}\", or remove it", words[0]),
        Some(word) => format!("did you mean \"{word}\"? It is one of {}", listed(words.iter().copied())),
        None => format!("write one of {}", listed(words.iter().copied())),
    };
    problems.error(node.span, format!("`{}` cannot be {}", place.name, quote(text)), help);
}

fn check_secret(node: &Node, place: Place<'_>, problems: &mut Problems) {
    let key = place.name;
    let help = format!("write `{key} = {{ env = \"NAME\" }}` or `{key} = {{ credential = \"NAME\" }}`");
    let Some(table) = node.table() else {
        let message = match node.text() {
            Some(_) => format!("`{key}` is a secret in plain text"),
            None => format!("`{key}` is {}, not a reference to a secret", node.type_name()),
        };
        return problems.error(place.name_span, message, help);
    };
    const WORDS: [&str; 2] = ["env", "credential"];
    let one = table.iter().next().filter(|_| table.len() == 1);
    match one {
        Some((word, entry)) if WORDS.contains(&word) && entry.node.text().is_some() => {}
        Some((word, entry)) if let Some(meant) = near(word, WORDS).filter(|meant| *meant != word) => {
            problems.error(
                entry.key,
                format!("unknown key {} in `{key}`", quote(word)),
                format!("did you mean `{meant}`?"),
            );
        }
        _ => problems.error(place.name_span, format!("`{key}` is not a reference to a secret"), help),
    }
}

fn check_param(node: &Node, place: Place<'_>, problems: &mut Problems) {
    let name = quote(place.name);
    match &node.value {
        Value::List(list) => {
            for item in list {
                match &item.value {
                    Value::List(_) => {
                        problems.error(item.span, format!("{name} has an array in an array"), "write one array")
                    }
                    _ => check_param(item, place, problems),
                }
                if item.type_name() != list.first().map_or("", Node::type_name) {
                    let message = format!("{name} has values of several types");
                    problems.error(item.span, message, "write an array of one type");
                }
            }
        }
        Value::Table(_) => {
            let message = format!("{name} is a table, not a value to bind in a query");
            problems.error(
                place.name_span,
                message,
                "write a string, a number, a boolean, an instant or an array of these",
            );
        }
        Value::Float(number) if !number.is_finite() => {
            problems.error(node.span, format!("{name} is not a finite number"), "write a number");
        }
        Value::Time(time) if time.date.is_none() || time.time.is_none() || time.offset.is_none() => {
            let message = format!("{name} is a date or time without an offset, so not an instant");
            problems.error(node.span, message, "write for example 2026-01-31T00:00:00Z, or a string");
        }
        _ => {}
    }
}

/// `region `eu-west` is not a region code` with the remedy as help.
pub(crate) fn invalid(span: Span, what: &str, text: &str, why: &Invalid, example: &str, problems: &mut Problems) {
    let (why, mut help) = in_two(why);
    if help.is_empty() && !example.is_empty() {
        help = format!("write for example `{example}`");
    }
    problems.error(span, format!("{what} {} {why}", quote(text)), help);
}

/// What is wrong, and what to write instead.
pub(crate) fn in_two(why: &Invalid) -> (&str, String) {
    let (why, help) = why.0.split_once("; ").unwrap_or((&why.0, ""));
    (why, help.to_owned())
}

impl Kind {
    fn takes(&self, value: &Value) -> bool {
        match self {
            Kind::Text(_) | Kind::Choice(_) | Kind::Size(..) | Kind::Duration(..) => matches!(value, Value::Text(_)),
            Kind::Bool => matches!(value, Value::Bool(_)),
            Kind::Int(..) => matches!(value, Value::Int(_)),
            Kind::List(_) => matches!(value, Value::List(_)),
            Kind::Free | Kind::Table(_) | Kind::Map(_) => matches!(value, Value::Table(_)),
            Kind::Date => matches!(value, Value::Time(_)),
            Kind::Secret | Kind::Param => true,
            Kind::Either(kinds) => kinds.iter().any(|kind| kind.takes(value)),
        }
    }

    /// What a person calls such a value, with its article.
    pub fn words(&self) -> String {
        match self {
            Kind::Text(_) | Kind::Choice(_) => "a string".into(),
            Kind::Bool => "true or false".into(),
            Kind::Int(..) => "an integer".into(),
            Kind::Size(..) => "a size (a string with a unit)".into(),
            Kind::Duration(..) => "a duration (a string with a unit)".into(),
            Kind::Date => "a date (without quotes)".into(),
            Kind::Secret => "a reference to a secret".into(),
            Kind::Param => "a value or an array of values".into(),
            Kind::List(kind) => match **kind {
                Kind::Text(_) | Kind::Choice(_) => "an array of strings".into(),
                _ => "an array".into(),
            },
            Kind::Free | Kind::Table(_) | Kind::Map(_) => "a table".into(),
            Kind::Either(kinds) => kinds.iter().map(Kind::words).collect::<Vec<_>>().join(" or "),
        }
    }
}
