//! IAM policies: parsing and evaluation, as far as the sandbox goes.
//!
//! What is not understood never widens access: an element this module does not know refuses the
//! whole document, a condition it does not know keeps an Allow from applying and makes a Deny apply.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A policy document.
#[derive(Clone, Debug)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error(
        "the policy is not JSON of the expected shape (statements of Effect, Principal, Action, Resource, Condition)"
    )]
    Shape(#[source] serde_json::Error),
    #[error("statement {index} has no {element}; add one")]
    Missing { index: usize, element: &'static str },
    #[error(
        "statement {index} uses the variable in {text:?}, which the sandbox does not fill in; write the value itself"
    )]
    Variable { index: usize, text: String },
}

/// One action on one resource, and what conditions may ask about it.
#[derive(Debug)]
pub struct Question<'a> {
    /// Like `s3:PutObject`.
    pub action: &'a str,
    /// The ARN of a bucket, object or role.
    pub resource: &'a str,
    /// Condition keys in lower case. A key the request could have but has not is absent.
    pub context: &'a BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// No statement allows it.
    Silent,
    /// A Deny statement forbids it.
    Denied,
}

/// Condition keys that [`Question::context`] answers; all others are unknown.
const KEYS: [&str; 16] = [
    "aws:principalaccount",
    "aws:principalarn",
    "aws:resourceaccount",
    "aws:securetransport",
    "kms:viaservice",
    "s3:delimiter",
    "s3:if-none-match",
    "s3:objectcreationoperation",
    "s3:prefix",
    "s3:resourceaccount",
    "s3:x-amz-acl",
    "s3:x-amz-server-side-encryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "s3:x-amz-storage-class",
    "sts:externalid",
    "sts:rolesessionname",
];

impl Policy {
    pub fn parse(json: &str) -> Result<Self, PolicyError> {
        serde_json::from_str(json).map_err(PolicyError::Shape).and_then(Self::build)
    }

    /// As [`Policy::parse`], of a document that is parsed already.
    pub fn from_json(json: Value) -> Result<Self, PolicyError> {
        serde_json::from_value(json).map_err(PolicyError::Shape).and_then(Self::build)
    }

    /// Allows everything, like `AdministratorAccess`.
    pub fn allow_all() -> Self {
        Self { statements: vec![Statement { actions: Match::all(), resources: Match::all(), ..Statement::allow() }] }
    }

    /// What a customer's role carries: writing below `prefix` of `bucket`, and nothing else.
    pub fn write_only(bucket: &str, prefix: &str) -> Self {
        let only = |text: String| Match { wanted: true, patterns: vec![text] };
        let resources = only(format!("arn:aws:s3:::{bucket}/{}/*", prefix.trim_end_matches('/')));
        Self {
            statements: vec![Statement { actions: only("s3:PutObject".to_owned()), resources, ..Statement::allow() }],
        }
    }

    /// Asks a policy of an identity (or of a session), which names no principal.
    pub fn ask(&self, question: &Question<'_>) -> Verdict {
        self.judge(question, |_| true)
    }

    /// Asks a policy of a resource on behalf of a caller known by these ARNs and account ids.
    pub fn ask_for(&self, principals: &[&str], question: &Question<'_>) -> Verdict {
        self.judge(question, |statement| {
            statement.principals.iter().flatten().any(|named| named == "*" || principals.contains(&named.as_str()))
        })
    }

    fn judge(&self, question: &Question<'_>, named: impl Fn(&Statement) -> bool) -> Verdict {
        let mut verdict = Verdict::Silent;
        for statement in self.statements.iter().filter(|s| named(s) && s.covers(question)) {
            let holds =
                statement.conditions.iter().try_fold(true, |all, c| c.holds(question.context).map(|one| all && one));
            match (statement.allow, holds) {
                (true, Some(true)) => verdict = Verdict::Allowed,
                (false, Some(true) | None) => return Verdict::Denied,
                _ => {}
            }
        }
        verdict
    }

    fn build(raw: RawPolicy) -> Result<Self, PolicyError> {
        let statements = match raw.statement {
            Value::Array(statements) => statements,
            one => vec![one],
        };
        let build = |(index, raw)| Statement::build(index, serde_json::from_value(raw).map_err(PolicyError::Shape)?);
        Ok(Self { statements: statements.into_iter().enumerate().map(build).collect::<Result<_, _>>()? })
    }

    /// Every Action and NotAction, as written.
    pub(super) fn actions(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().flat_map(|statement| &statement.actions.patterns).map(String::as_str)
    }

    /// Whether every statement says whom it is about, as a bucket policy has to.
    pub(super) fn names_principals(&self) -> bool {
        self.statements.iter().all(|statement| statement.principals.is_some())
    }
}

#[derive(Clone, Debug)]
struct Statement {
    allow: bool,
    principals: Option<Vec<String>>,
    actions: Match,
    resources: Match,
    conditions: Vec<Condition>,
}

impl Statement {
    fn allow() -> Self {
        Self { allow: true, principals: None, actions: Match::all(), resources: Match::all(), conditions: Vec::new() }
    }

    fn build(index: usize, raw: RawStatement) -> Result<Self, PolicyError> {
        let actions = Match::either(raw.action, raw.not_action)
            .ok_or(PolicyError::Missing { index, element: "Action (or has both Action and NotAction)" })?;
        let resources = Match::either(raw.resource, raw.not_resource)
            .ok_or(PolicyError::Missing { index, element: "Resource (or has both Resource and NotResource)" })?;
        if let Some(text) = resources.patterns.iter().find(|pattern| pattern.contains("${")) {
            return Err(PolicyError::Variable { index, text: text.clone() });
        }
        let mut conditions = Vec::new();
        for (operator, keys) in raw.condition {
            for (key, values) in keys {
                let values = values.into_strings();
                if let Some(text) = values.iter().find(|value| value.contains("${")) {
                    return Err(PolicyError::Variable { index, text: text.clone() });
                }
                conditions.push(Condition { operator: operator.clone(), key: key.to_ascii_lowercase(), values });
            }
        }
        let principals = raw.principal.map(RawPrincipal::into_names);
        Ok(Self { allow: matches!(raw.effect, Effect::Allow), principals, actions, resources, conditions })
    }

    fn covers(&self, question: &Question<'_>) -> bool {
        let action = question.action.to_ascii_lowercase();
        self.actions.matches(|pattern| glob(&pattern.to_ascii_lowercase(), &action))
            && self.resources.matches(|pattern| glob(pattern, question.resource))
    }
}

/// `Action` or `NotAction`, `Resource` or `NotResource`.
#[derive(Clone, Debug)]
struct Match {
    wanted: bool,
    patterns: Vec<String>,
}

impl Match {
    fn all() -> Self {
        Self { wanted: true, patterns: vec!["*".to_owned()] }
    }

    fn either(yes: Option<Strings>, no: Option<Strings>) -> Option<Self> {
        match (yes, no) {
            (Some(yes), None) => Some(Self { wanted: true, patterns: yes.into_strings() }),
            (None, Some(no)) => Some(Self { wanted: false, patterns: no.into_strings() }),
            _ => None,
        }
    }

    fn matches(&self, fits: impl Fn(&str) -> bool) -> bool {
        self.patterns.iter().any(|pattern| fits(pattern)) == self.wanted
    }
}

#[derive(Clone, Debug)]
struct Condition {
    operator: String,
    key: String,
    values: Vec<String>,
}

impl Condition {
    /// `None` if the operator or the key is not known here.
    fn holds(&self, context: &BTreeMap<String, String>) -> Option<bool> {
        if !KEYS.contains(&self.key.as_str()) {
            return None;
        }
        let actual = context.get(&self.key);
        let (operator, if_exists) = match self.operator.strip_suffix("IfExists") {
            Some(operator) => (operator, true),
            None => (self.operator.as_str(), false),
        };
        if operator == "Null" {
            return Some(self.values.iter().any(|value| (value == "true") == actual.is_none()));
        }
        let (compare, wanted): (fn(&str, &str) -> bool, bool) = match operator {
            "StringEquals" => (|p, a| p == a, true),
            "StringNotEquals" => (|p, a| p == a, false),
            "StringEqualsIgnoreCase" | "Bool" => (|p, a| p.eq_ignore_ascii_case(a), true),
            "StringNotEqualsIgnoreCase" => (|p, a| p.eq_ignore_ascii_case(a), false),
            "StringLike" | "ArnLike" | "ArnEquals" => (glob, true),
            "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => (glob, false),
            _ => return None,
        };
        Some(match actual {
            // A missing key fails a positive comparison and passes a negated one.
            None => if_exists || !wanted,
            Some(actual) => self.values.iter().any(|value| compare(value, actual)) == wanted,
        })
    }
}

/// Matches `*` (any run of characters) and `?` (one character) in `pattern`.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut resume: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                resume = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match resume {
                Some((star, from)) => {
                    resume = Some((star, from + 1));
                    p = star + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawPolicy {
    #[serde(default, rename = "Version")]
    _version: Option<String>,
    #[serde(default, rename = "Id")]
    _id: Option<String>,
    /// One statement or a list of them.
    statement: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawStatement {
    #[serde(default, rename = "Sid")]
    _sid: Option<String>,
    effect: Effect,
    #[serde(default)]
    principal: Option<RawPrincipal>,
    #[serde(default)]
    action: Option<Strings>,
    #[serde(default)]
    not_action: Option<Strings>,
    #[serde(default)]
    resource: Option<Strings>,
    #[serde(default)]
    not_resource: Option<Strings>,
    #[serde(default)]
    condition: BTreeMap<String, BTreeMap<String, Strings>>,
}

#[derive(Deserialize)]
enum Effect {
    Allow,
    Deny,
}

/// IAM's own shape: one value or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Strings {
    Text(String),
    Flag(bool),
    List(Vec<String>),
}

impl Strings {
    fn into_strings(self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text],
            Self::Flag(flag) => vec![flag.to_string()],
            Self::List(list) => list,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawPrincipal {
    Anyone(String),
    Named(BTreeMap<String, Strings>),
}

impl RawPrincipal {
    /// ARNs, account ids or `*`; an account's root stands for its id. Principals that are no AWS
    /// identities (services, federations) name nobody here.
    fn into_names(self) -> Vec<String> {
        let names = match self {
            Self::Anyone(text) => vec![text],
            Self::Named(mut kinds) => kinds.remove("AWS").map(Strings::into_strings).unwrap_or_default(),
        };
        names.into_iter().map(|name| account_of_root(&name).map_or(name.clone(), str::to_owned)).collect()
    }
}

/// The account id in `arn:aws:iam::ACCOUNT:root`.
pub(super) fn account_of_root(arn: &str) -> Option<&str> {
    arn.strip_prefix("arn:aws:iam::")?.strip_suffix(":root")
}
