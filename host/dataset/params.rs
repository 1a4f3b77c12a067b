//! Parameters of a query: `$interval_start`, `$interval_end` and `$customer.NAME`.
//!
//! They are found by SQL's own tokenizer, so that strings, comments and quoted
//! names are left alone, and bound as typed values: what a customer's profile
//! holds can never become SQL.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::error::{DatasetError, Kind, near};
use crate::clock::Instant;
use crate::domain::{Interval, ParamValue};

/// A query whose parameters have become placeholders that DataFusion can parse.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub sql: String,
    /// Placeholder (with its `$`) → parameter.
    pub used: BTreeMap<String, Parameter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    IntervalStart,
    IntervalEnd,
    /// Key of the customer's `params`.
    Customer(String),
}

/// Where values come from. What is not known yet is NULL, for planning alone.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub interval: Option<Interval>,
    pub params: Option<&'a BTreeMap<String, ParamValue>>,
}

/// Replaces `$customer.NAME` (or `$customer."NAME"`) by a placeholder, and
/// refuses placeholders that are no parameter.
pub(super) fn rewrite(sql: &str) -> Result<Rewritten, DatasetError> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().map_err(|error| {
        DatasetError::new(Kind::Query, format!("the query is not valid SQL: {error}"), "correct the dataset's `query`")
    })?;
    one_statement(&tokens)?;
    let lines = Lines::of(sql);
    let mut out = String::with_capacity(sql.len());
    let mut used = BTreeMap::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let Token::Placeholder(name) = &token.token else {
            at += 1;
            continue;
        };
        let (parameter, length) = parameter(name, &tokens[at..])?;
        let last = tokens.get(at + length - 1).unwrap_or(token);
        let placeholder = match &parameter {
            Parameter::IntervalStart | Parameter::IntervalEnd => name.clone(),
            Parameter::Customer(_) => match used.iter().find(|(_, known)| **known == parameter) {
                Some((placeholder, _)) => String::clone(placeholder),
                None => format!("$customer_{}", used.len()),
            },
        };
        out.push_str(&sql[copied..lines.offset(token.span.start)]);
        out.push_str(&placeholder);
        copied = lines.offset(last.span.end);
        used.insert(placeholder, parameter);
        at += length;
    }
    out.push_str(&sql[copied..]);
    Ok(Rewritten { sql: out, used })
}

fn one_statement(tokens: &[TokenWithSpan]) -> Result<(), DatasetError> {
    let mut after = tokens.iter().skip_while(|token| token.token != Token::SemiColon);
    after.next();
    match after.find(|token| !matches!(token.token, Token::Whitespace(_) | Token::SemiColon | Token::EOF)) {
        None => Ok(()),
        Some(token) => {
            let what = format!("the query has a second statement{}", place(token.span.start));
            Err(DatasetError::new(Kind::Query, what, "write one SELECT; WITH names intermediate results"))
        }
    }
}

/// The parameter that begins at the placeholder `name`, and how many tokens it takes.
fn parameter(name: &str, tokens: &[TokenWithSpan]) -> Result<(Parameter, usize), DatasetError> {
    match name {
        "$interval_start" => return Ok((Parameter::IntervalStart, 1)),
        "$interval_end" => return Ok((Parameter::IntervalEnd, 1)),
        "$customer" => {
            if let [_, dot, word, ..] = tokens
                && dot.token == Token::Period
                && let Token::Word(word) = &word.token
            {
                return Ok((Parameter::Customer(word.value.clone()), 3));
            }
            let message = "the query has '$customer' without a parameter's name";
            return Err(DatasetError::new(
                Kind::Query,
                message,
                "write $customer.NAME, with a key of the customer's `params`",
            ));
        }
        _ => {}
    }
    let at = tokens.first().map(|token| token.span.start).map(place).unwrap_or_default();
    let what = match near(name, ["$interval_start", "$interval_end", "$customer"].into_iter()) {
        Some(near) => format!("the query has the unknown parameter '{name}'{at}; did you mean '{near}'?"),
        None => format!("the query has the unknown parameter '{name}'{at}"),
    };
    let remedy = "there are $interval_start, $interval_end and $customer.NAME for each of the customer's `params`";
    Err(DatasetError::new(Kind::Query, what, remedy))
}

fn place(at: Location) -> String {
    format!(" at line {}, column {}", at.line, at.column)
}

/// The values of the parameters that a query uses.
pub(super) fn values(
    used: &BTreeMap<String, Parameter>,
    from: Values<'_>,
) -> Result<BTreeMap<String, ScalarValue>, DatasetError> {
    used.iter()
        .map(|(placeholder, parameter)| {
            let value = match (parameter, from) {
                (Parameter::IntervalStart, Values { interval, .. }) => instant(interval.map(|i| i.start)),
                (Parameter::IntervalEnd, Values { interval, .. }) => instant(interval.map(|i| i.end)),
                (Parameter::Customer(name), Values { params: Some(params), .. }) => customer(name, params)?,
                (Parameter::Customer(_), Values { params: None, .. }) => ScalarValue::Null,
            };
            Ok((placeholder.clone(), value))
        })
        .collect()
}

fn customer(name: &str, params: &BTreeMap<String, ParamValue>) -> Result<ScalarValue, DatasetError> {
    let Some(value) = params.get(name) else {
        let names: Vec<&str> = params.keys().map(String::as_str).collect();
        let what = match near(name, names.iter().copied()) {
            Some(near) => {
                format!("the query uses $customer.{name}, which the customer has not; did you mean $customer.{near}?")
            }
            None if names.is_empty() => format!("the query uses $customer.{name}, and the customer has no `params`"),
            None => format!("the query uses $customer.{name}; the customer has {}", names.join(", ")),
        };
        return Err(DatasetError::new(Kind::Parameter, what, format!("add `{name}` to the customer's `params`")));
    };
    scalar(value).ok_or_else(|| {
        let what = format!("the query uses $customer.{name}, which is a list");
        DatasetError::new(Kind::Parameter, what, "use a single value; lists are for `tenant_column` alone")
    })
}

/// A parameter's value as DataFusion knows it; none for lists.
pub(super) fn scalar(value: &ParamValue) -> Option<ScalarValue> {
    Some(match value {
        ParamValue::Bool(value) => ScalarValue::Boolean(Some(*value)),
        ParamValue::Int(value) => ScalarValue::Int64(Some(*value)),
        ParamValue::Float(value) => ScalarValue::Float64(Some(*value)),
        ParamValue::Text(value) => ScalarValue::Utf8(Some(value.clone())),
        ParamValue::Instant(value) => instant(Some(*value)),
        ParamValue::List(_) => return None,
    })
}

fn instant(at: Option<Instant>) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(at.map(|at| at.timestamp_micros()), Some("UTC".into()))
}

/// Puts the values where the placeholders are. A value takes the type of what it
/// is compared with whenever nothing of it is lost, so that the comparison
/// needs no cast and reaches the files' statistics.
pub(super) fn bind(plan: LogicalPlan, values: &BTreeMap<String, ScalarValue>) -> Result<LogicalPlan, DataFusionError> {
    let bound = plan.transform_up_with_subqueries(|plan| {
        let schema = Arc::clone(plan.schema());
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let (expr, has_placeholder) = expr.infer_placeholder_types(&schema)?;
            if !has_placeholder {
                return Ok(Transformed::no(expr));
            }
            let name = names.save(&expr);
            let replaced = expr.transform_up(|expr| replace(expr, values))?;
            Ok(replaced.update_data(|expr| name.restore(expr)))
        })?
        .map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(bound.data)
}

fn replace(expr: Expr, values: &BTreeMap<String, ScalarValue>) -> Result<Transformed<Expr>, DataFusionError> {
    let Expr::Placeholder(Placeholder { id, field }) = &expr else {
        return Ok(Transformed::no(expr));
    };
    let Some(value) = values.get(id) else {
        return Err(DataFusionError::Plan(format!("the query has the unknown parameter '{id}'")));
    };
    let value = match field {
        Some(field) => fit(value, field.data_type()).unwrap_or_else(|| value.clone()),
        None => value.clone(),
    };
    Ok(Transformed::yes(Expr::Literal(value, None)))
}

/// `value` as a value of type `to`, if the two are of a kind and the way back gives the same value.
pub(super) fn fit(value: &ScalarValue, to: &DataType) -> Option<ScalarValue> {
    let to = match to {
        DataType::Dictionary(_, values) => values.as_ref(),
        to => to,
    };
    let from = value.data_type();
    let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let date = |t: &DataType| matches!(t, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..));
    let of_a_kind = match &from {
        DataType::Null => true,
        DataType::Boolean => *to == DataType::Boolean,
        DataType::Int64 | DataType::Float64 => to.is_numeric(),
        DataType::Utf8 => text(to) || date(to) || to.is_integer(),
        DataType::Timestamp(..) => date(to),
        _ => false,
    };
    if !of_a_kind {
        return None;
    }
    let cast = value.cast_to(to).ok()?;
    let back = cast.cast_to(&from).ok()?;
    (back == *value).then_some(cast)
}

/// Byte offsets of the tokenizer's lines and columns, both counted from 1, columns in characters.
struct Lines<'a> {
    sql: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(sql: &'a str) -> Self {
        let starts = std::iter::once(0).chain(sql.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { sql, starts }
    }

    fn offset(&self, at: Location) -> usize {
        let line = usize::try_from(at.line).unwrap_or(usize::MAX).saturating_sub(1);
        let column = usize::try_from(at.column).unwrap_or(usize::MAX).saturating_sub(1);
        let start = self.starts.get(line).copied().unwrap_or(self.sql.len());
        let rest = &self.sql[start..];
        start + rest.char_indices().nth(column).map_or(rest.len(), |(offset, _)| offset)
    }
}
