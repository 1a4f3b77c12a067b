//! What does not fit, in words: what is there, and what to write instead.

use serde_json::Value;

use super::judge::{Fault, SEVERAL};
use super::rule::{Kind, Rule};
use super::{Misfit, OptionsSchema};
use crate::config::{listed, near, quote, sounds_secret};

/// What stands on the share itself and is easily put among the options.
const SET_ON_THE_SHARE: [&str; 4] = ["compression", "max_object_size", "key", "empty"];

pub(super) fn tell(schema: &OptionsSchema, fault: &Fault<'_, '_>) -> Misfit {
    let (message, meant) = said(schema, fault);
    let own = described(schema, fault);
    let help = match (meant, own) {
        (Some(meant), Some(own)) if meant.ends_with('?') => format!("{meant} {own}"),
        (Some(meant), Some(own)) => format!("{meant}; {own}"),
        (Some(meant), None) => meant,
        (None, Some(own)) => own,
        (None, None) => String::new(),
    };
    Misfit { pointer: fault.pointer.clone(), of_key: fault.of_key, message, help }
}

/// What is wrong, and what to write if that can be told from the rule alone.
fn said(schema: &OptionsSchema, fault: &Fault<'_, '_>) -> (String, Option<String>) {
    let Fault { value, detail, .. } = fault;
    let subject = subject(fault);
    let but = |what: String| (format!("{subject} {what}"), None);
    let with = |what: String, help: String| (format!("{subject} {what}"), Some(help));
    let shown = || shown(fault);
    match fault.rule {
        Rule::Properties { .. } | Rule::UnevaluatedProperties(_) => unknown(schema, fault),
        Rule::Never | Rule::UnevaluatedItems(_) => with("cannot be given here".into(), "remove it".into()),
        Rule::Type(kinds) => but(format!("is {}, not {}", kind(value), named(kinds))),
        Rule::Enum(choices) => {
            cannot_be(fault, choices.iter().chain(fault.also.iter().flat_map(|rule| rule.choices())).collect())
        }
        Rule::One(_) if *detail == Some(SEVERAL) => but(format!("is {}, which fits several of its forms", shown())),
        Rule::Any(branches) | Rule::One(branches) if value.is_string() => cannot_be(fault, schema.choices(branches)),
        Rule::Any(_) | Rule::One(_) => {
            let (is, takes) = (kind(value), schema.described_at(&fault.pointer, fault.node, "").takes);
            but(match takes.is_empty() || takes.contains(is) {
                true => format!("is {is} that fits none of its forms"),
                false => format!("is {is}, not {takes}"),
            })
        }
        Rule::Minimum(least) => {
            with(format!("is {value}, which is less than {least}"), format!("write {least} or more"))
        }
        Rule::Maximum(most) => with(format!("is {value}, which is more than {most}"), format!("write {most} or less")),
        Rule::Above(limit) => {
            with(format!("is {value}, which is not above {limit}"), format!("write more than {limit}"))
        }
        Rule::Below(limit) => {
            with(format!("is {value}, which is not below {limit}"), format!("write less than {limit}"))
        }
        Rule::MultipleOf(step) => {
            with(format!("is {value}, which is not a multiple of {step}"), format!("write a multiple of {step}"))
        }
        Rule::MinLength(1) => but("is empty".into()),
        Rule::MinLength(least) => but(too_few(value, "character", *least)),
        Rule::MaxLength(most) => but(format!("has {}, more than {most}", length(value, "character"))),
        Rule::Pattern(pattern) => {
            with(format!("is {}, which does not match", shown()), format!("write what matches `{pattern}`"))
        }
        Rule::MinItems(least) => but(too_few(value, "value", *least)),
        Rule::MaxItems(most) => but(format!("has {}, more than {most}", length(value, "value"))),
        Rule::Unique => with(format!("is {}, which is there twice", shown()), "remove one of them".into()),
        Rule::Contains { min, max, .. } => match max {
            Some(max) => but(format!("has not {min} to {max} of the values that it must have")),
            None => but("has not the value that it must have".into()),
        },
        Rule::MinProperties(least) => but(too_few(value, "key", *least)),
        Rule::MaxProperties(most) => but(format!("has {}, more than {most}", length(value, "key"))),
        Rule::Required(_) => missing(schema, fault, detail.unwrap_or_default()),
        Rule::DependentRequired(_) => {
            let name = detail.unwrap_or_default();
            with(format!("is given without `{name}`"), format!("add `{name}`, or remove this"))
        }
        Rule::Names(node) => {
            let pattern = schema
                .rules_of(*node)
                .find_map(|rule| if let Rule::Pattern(pattern) = rule { Some(pattern) } else { None });
            let help = pattern.map(|pattern| format!("write a name that matches `{pattern}`"));
            (format!("{subject} cannot have this name"), help)
        }
        Rule::Not(_) => but(format!("cannot be {}", shown())),
        Rule::Items { .. } | Rule::DependentSchemas(_) | Rule::Ref(_) | Rule::All(_) | Rule::If { .. } => {
            but("does not fit".into())
        }
    }
}

fn subject(fault: &Fault<'_, '_>) -> String {
    if fault.name.is_empty() { "`options`".into() } else { format!("option `{}`", fault.name) }
}

fn cannot_be(fault: &Fault<'_, '_>, choices: Vec<&Value>) -> (String, Option<String>) {
    let message = format!("{} cannot be {}", subject(fault), shown(fault));
    let words: Vec<&str> = choices.iter().filter_map(|choice| choice.as_str()).collect();
    let meant = fault.value.as_str().and_then(|text| near(text, words.iter().copied()));
    (message, meant.map(|meant| format!("did you mean \"{meant}\"?")))
}

/// The value, unless its key sounds as if nobody should see it.
fn shown(fault: &Fault<'_, '_>) -> String {
    match fault.value {
        _ if sounds_secret(&fault.name) => "`…`".into(),
        Value::String(text) => quote(text),
        other => quote(&other.to_string()),
    }
}

/// An option that the schema does not have.
fn unknown(schema: &OptionsSchema, fault: &Fault<'_, '_>) -> (String, Option<String>) {
    let key = fault.key();
    let message = format!("unknown option `{}`", fault.name);
    let known = schema.keys_of(fault.node);
    let is_top = fault.pointer.matches('/').count() == 1;
    let help = match near(&key, known.iter().copied()) {
        _ if is_top && SET_ON_THE_SHARE.contains(&key.as_str()) => "write it on the share, next to `options`".into(),
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => "remove it: nothing of the kind can be set".into(),
        None => format!("{} are {}", if is_top { "its options" } else { "the keys there" }, listed(known)),
    };
    (message, Some(help))
}

fn missing(schema: &OptionsSchema, fault: &Fault<'_, '_>, name: &str) -> (String, Option<String>) {
    let message = match fault.name.as_str() {
        "" => format!("option `{name}` is missing"),
        above => format!("option `{above}` has no `{name}`"),
    };
    let help = match schema.described_key(fault.node, name) {
        Some(option) => format!("add it: {}", option.help()),
        None => format!("add `{name}`"),
    };
    (message, Some(help))
}

/// What the value should be, as the schema says.
fn described(schema: &OptionsSchema, fault: &Fault<'_, '_>) -> Option<String> {
    if fault.of_key || fault.name.is_empty() || matches!(fault.rule, Rule::Required(_) | Rule::Never) {
        return None;
    }
    if !fault.also.is_empty() {
        let words = std::iter::once(fault.rule).chain(fault.also.iter().copied()).flat_map(Rule::choices);
        return Some(format!("write {}", words.map(ToString::to_string).collect::<Vec<_>>().join(" or ")));
    }
    let help = schema.described_at(&fault.pointer, fault.node, &fault.key()).help();
    (!help.is_empty()).then_some(help)
}

/// What a value is, with its article.
fn kind(value: &Value) -> &'static str {
    if value.is_boolean() { "a boolean" } else { Kind::of(value).in_toml() }
}

fn named(kinds: &[Kind]) -> String {
    let words: Vec<&str> = kinds.iter().filter(|kind| **kind != Kind::Null).map(|kind| kind.in_toml()).collect();
    if words.is_empty() { "one that TOML can say".into() } else { words.join(" or ") }
}

fn too_few(value: &Value, noun: &str, least: u64) -> String {
    match least {
        1 => format!("has no {noun}, but needs one"),
        _ => format!("has {}, but needs {least}", length(value, noun)),
    }
}

fn length(value: &Value, noun: &str) -> String {
    let length = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(list) => list.len(),
        Value::Object(object) => object.len(),
        _ => 0,
    };
    match length {
        0 => format!("no {noun}"),
        1 => format!("1 {noun}"),
        length => format!("{length} {noun}s"),
    }
}
