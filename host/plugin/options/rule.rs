//! The rules of a compiled schema, and how JSON's values compare.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Number, Value};

/// A subschema, by its place in the list of all.
pub(super) type Id = usize;

/// One subschema.
pub(super) struct Node {
    /// Where it is in the schema: a JSON Pointer.
    pub at: String,
    pub rules: Vec<Rule>,
}

/// One keyword, or several that mean something only together.
pub(super) enum Rule {
    /// The schema `false`.
    Never,
    Type(Vec<Kind>),
    Enum(Vec<Value>),
    Minimum(Number),
    Maximum(Number),
    Above(Number),
    Below(Number),
    MultipleOf(Number),
    MinLength(u64),
    MaxLength(u64),
    Pattern(Regex),
    MinItems(u64),
    MaxItems(u64),
    Unique,
    Items {
        prefix: Vec<Id>,
        rest: Option<Id>,
    },
    Contains {
        item: Id,
        min: u64,
        max: Option<u64>,
    },
    MinProperties(u64),
    MaxProperties(u64),
    Required(Vec<String>),
    Properties {
        named: BTreeMap<String, Id>,
        patterns: Vec<(Regex, Id)>,
        rest: Option<Id>,
    },
    Names(Id),
    DependentRequired(BTreeMap<String, Vec<String>>),
    DependentSchemas(BTreeMap<String, Id>),
    Ref(Id),
    All(Vec<Id>),
    Any(Vec<Id>),
    One(Vec<Id>),
    Not(Id),
    If {
        condition: Id,
        then: Option<Id>,
        otherwise: Option<Id>,
    },
    UnevaluatedProperties(Id),
    UnevaluatedItems(Id),
}

impl Rule {
    /// The values that may be chosen from.
    pub fn choices(&self) -> &[Value] {
        if let Rule::Enum(choices) = self { choices } else { &[] }
    }
}

/// JSON's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    String,
    Integer,
    Number,
    Array,
    Object,
}

impl Kind {
    pub const ALL: [Kind; 7] =
        [Kind::Null, Kind::Boolean, Kind::String, Kind::Integer, Kind::Number, Kind::Array, Kind::Object];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Array => "array",
            Kind::Object => "object",
        }
    }

    /// What a value of this type is called in TOML, with its article.
    pub fn in_toml(self) -> &'static str {
        match self {
            Kind::Null => "nothing",
            Kind::Boolean => "true or false",
            Kind::String => "a string",
            Kind::Integer => "an integer",
            Kind::Number => "a number",
            Kind::Array => "an array",
            Kind::Object => "a table",
        }
    }

    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Boolean,
            Value::String(_) => Kind::String,
            Value::Number(number) if is_whole(number) => Kind::Integer,
            Value::Number(_) => Kind::Number,
            Value::Array(_) => Kind::Array,
            Value::Object(_) => Kind::Object,
        }
    }

    pub fn takes(self, value: &Value) -> bool {
        let kind = Self::of(value);
        kind == self || (self == Kind::Number && kind == Kind::Integer)
    }
}

/// `2.0` is an integer in JSON Schema.
fn is_whole(number: &Number) -> bool {
    whole(number).is_some() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

pub(super) fn compare(a: &Number, b: &Number) -> Ordering {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => {
            // Zero is added so that there is one zero.
            let float = |number: &Number| number.as_f64().unwrap_or(f64::NAN) + 0.0;
            float(a).total_cmp(&float(b))
        }
    }
}

pub(super) fn is_multiple(number: &Number, step: &Number) -> bool {
    if let (Some(number), Some(step)) = (whole(number), whole(step)) {
        return number % step == 0;
    }
    match (number.as_f64(), step.as_f64()) {
        (Some(number), Some(step)) => {
            let times = number / step;
            // 0.0075 is 75 times 0.0001, though not to the last bit.
            times.is_finite() && (times - times.round()).abs() <= 1e-9 * times.abs().max(1.0)
        }
        _ => false,
    }
}

/// Equal as JSON Schema has it: `1` and `1.0` are the same number. Counts the
/// values that were looked at.
pub(super) fn same(a: &Value, b: &Value, looked: &mut u32) -> bool {
    *looked = looked.saturating_add(1);
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b) == Ordering::Equal,
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, looked)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b, looked)))
        }
        _ => a == b,
    }
}
