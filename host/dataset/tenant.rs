//! Whose rows are delivered: a filter that the query engine carries out, and a
//! guard that does not trust it.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowDictionaryKeyType, ArrowNativeType, ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type,
    Decimal64Type, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use super::error::{DatasetError, Kind, near};
use super::params::{fit, scalar};
use crate::config::Tenant;
use crate::domain::{DatasetName, Failure, Layer, ParamValue, Retry};

/// Checks that every row of a result belongs to the customer, batch by batch,
/// without the query engine's help.
#[derive(Clone, Debug)]
pub struct Guard {
    dataset: DatasetName,
    column: String,
    index: usize,
    allowed: Allowed,
    rows_seen: u64,
}

/// The customer's values, in the form that the column stores.
#[derive(Clone, Debug)]
enum Allowed {
    /// Whole numbers; for decimals, dates and timestamps their stored number.
    Numbers(HashSet<i128>),
    Texts(HashSet<String>),
    Bools {
        yes: bool,
        no: bool,
    },
}

/// Adds `column IN (values)` on top of the query, so that DataFusion pushes it
/// down, and returns the guard for its result.
pub(super) fn confine(
    plan: LogicalPlan,
    tenant: &Tenant,
    params: &BTreeMap<String, ParamValue>,
    dataset: &DatasetName,
) -> Result<(LogicalPlan, Guard), DatasetError> {
    let values = values(tenant, params)?;
    let index = find(&plan, tenant)?;
    let (qualifier, field) = plan.schema().qualified_field(index);
    let data_type = field.data_type().clone();
    let guard = Guard::new(dataset, &tenant.column, index, &data_type, values)?;
    let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
    let list = values.iter().map(|value| typed(value, &data_type, tenant).map(lit)).collect::<Result<Vec<_>, _>>()?;
    let filtered = LogicalPlanBuilder::from(plan)
        .filter(column.in_list(list, false))
        .and_then(LogicalPlanBuilder::build)
        .map_err(|error| DatasetError::engine(&error))?;
    Ok((filtered, guard))
}

/// Where the tenant column is in the query's result.
pub(super) fn find(plan: &LogicalPlan, tenant: &Tenant) -> Result<usize, DatasetError> {
    let fields = plan.schema().fields();
    let mut found = fields.iter().enumerate().filter(|(_, field)| *field.name() == tenant.column);
    match (found.next(), found.next()) {
        (Some((index, field)), None) => {
            kind_of(field.data_type(), &tenant.column)?;
            Ok(index)
        }
        (Some(_), Some(_)) => Err(DatasetError::new(
            Kind::Tenant,
            format!("the query's result has more than one column '{}', the tenant column", tenant.column),
            "give the columns names of their own with AS",
        )),
        (None, _) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            let what = match near(&tenant.column, names.iter().copied()) {
                Some(near) => format!(
                    "the query's result has no column '{}', the tenant column; did you mean '{near}'?",
                    tenant.column
                ),
                None => format!(
                    "the query's result has no column '{}', the tenant column; it has {}",
                    tenant.column,
                    names.join(", ")
                ),
            };
            Err(DatasetError::new(
                Kind::Tenant,
                what,
                "select the tenant column in `query`, or correct `tenant_column`",
            ))
        }
    }
}

fn values<'a>(tenant: &Tenant, params: &'a BTreeMap<String, ParamValue>) -> Result<&'a [ParamValue], DatasetError> {
    let remedy =
        || format!("add `{}`, the customer's value of column '{}', to its `params`", tenant.param, tenant.column);
    match params.get(&tenant.param) {
        None => {
            let what = format!("the customer has no parameter '{}', which says which rows are its own", tenant.param);
            Err(DatasetError::new(Kind::Parameter, what, remedy()))
        }
        Some(ParamValue::List(list)) if list.is_empty() => {
            let what = format!("the customer's parameter '{}' is an empty list, so no row is its own", tenant.param);
            Err(DatasetError::new(Kind::Parameter, what, remedy()))
        }
        Some(ParamValue::List(list)) => Ok(list),
        Some(one) => Ok(std::slice::from_ref(one)),
    }
}

/// A value as a literal of the column's type.
fn typed(value: &ParamValue, to: &DataType, tenant: &Tenant) -> Result<ScalarValue, DatasetError> {
    let text = match (value, plain(to)) {
        // A number may be kept as text in the files; text compares as text.
        (ParamValue::Int(number), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => {
            ScalarValue::Utf8(Some(number.to_string()))
        }
        _ => scalar(value).ok_or_else(|| mismatch(value, to, &tenant.column))?,
    };
    fit(&text, to).ok_or_else(|| mismatch(value, to, &tenant.column))
}

fn mismatch(value: &ParamValue, to: &DataType, column: &str) -> DatasetError {
    let shown = match value {
        ParamValue::Bool(_) => "a boolean",
        ParamValue::Int(_) => "a whole number",
        ParamValue::Float(_) => "a number with a fraction",
        ParamValue::Text(_) => "a text",
        ParamValue::Instant(_) => "an instant",
        ParamValue::List(_) => "a list in a list",
    };
    DatasetError::new(
        Kind::Parameter,
        format!(
            "the tenant column '{column}' has the type {to}, and the customer's value is {shown} that does not fit it"
        ),
        "write the customer's parameter as a value of the column's type",
    )
}

fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        other => other,
    }
}

enum ColumnKind {
    Number,
    Text,
    Bool,
}

/// Refuses types in which two tenants cannot be told apart for certain.
fn kind_of(data_type: &DataType, column: &str) -> Result<ColumnKind, DatasetError> {
    use DataType::*;
    match plain(data_type) {
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 => Ok(ColumnKind::Number),
        Date32 | Date64 | Timestamp(..) | Decimal32(..) | Decimal64(..) | Decimal128(..) => Ok(ColumnKind::Number),
        Utf8 | LargeUtf8 | Utf8View => Ok(ColumnKind::Text),
        Boolean => Ok(ColumnKind::Bool),
        other => Err(DatasetError::new(
            Kind::Tenant,
            format!("the tenant column '{column}' has the type {other}, which cannot name tenants"),
            "use a column of whole numbers, text, booleans, dates, timestamps or decimals, or cast it in `query`",
        )),
    }
}

impl Guard {
    /// A guard over column number `index` of batches, which has `data_type` and
    /// may hold `values` and nothing else, not even NULL.
    pub fn new(
        dataset: &DatasetName,
        column: &str,
        index: usize,
        data_type: &DataType,
        values: &[ParamValue],
    ) -> Result<Self, DatasetError> {
        let bad = |value: &ParamValue| mismatch(value, data_type, column);
        let allowed = match kind_of(data_type, column)? {
            ColumnKind::Number => Allowed::Numbers(
                values
                    .iter()
                    .map(|value| stored_number(value, plain(data_type)).ok_or_else(|| bad(value)))
                    .collect::<Result<_, _>>()?,
            ),
            ColumnKind::Text => Allowed::Texts(
                values
                    .iter()
                    .map(|value| match value {
                        ParamValue::Text(text) => Ok(text.clone()),
                        ParamValue::Int(number) => Ok(number.to_string()),
                        other => Err(bad(other)),
                    })
                    .collect::<Result<_, _>>()?,
            ),
            ColumnKind::Bool => {
                let has = |wanted: bool| values.iter().any(|v| matches!(v, ParamValue::Bool(b) if *b == wanted));
                if let Some(other) = values.iter().find(|v| !matches!(v, ParamValue::Bool(_))) {
                    return Err(bad(other));
                }
                Allowed::Bools { yes: has(true), no: has(false) }
            }
        };
        Ok(Self { dataset: dataset.clone(), column: column.into(), index, allowed, rows_seen: 0 })
    }

    /// Fails on the first row that is not the customer's. The failure names the
    /// row by number only: its values are another customer's.
    pub fn check(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let named = batch.schema_ref().fields().get(self.index).is_some_and(|field| *field.name() == self.column);
        if !named {
            return Err(self.failure("a batch came without the tenant column"));
        }
        match first_foreign(batch.column(self.index).as_ref(), &self.allowed) {
            Ok(None) => {
                self.rows_seen += batch.num_rows() as u64;
                Ok(())
            }
            Ok(Some(row)) => {
                let null = batch.column(self.index).logical_nulls().is_some_and(|nulls| nulls.is_null(row));
                let number = self.rows_seen + row as u64 + 1;
                let what = if null { "belongs to nobody (NULL)" } else { "belongs to another customer" };
                Err(self.failure(&format!("row {number} of the result {what}")))
            }
            Err(found) => Err(self.failure(&format!("a batch came with the type {found}"))),
        }
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(
            Layer::Tenant,
            Retry::Never,
            format!("dataset '{}', tenant column '{}': {what}", self.dataset, self.column),
            "nothing was delivered; report this, because the filter on the tenant column should have kept the row out",
        )
    }
}

/// The number that a column of `to` stores for `value`, found without DataFusion.
fn stored_number(value: &ParamValue, to: &DataType) -> Option<i128> {
    use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
    let instant = |value: &ParamValue| -> Option<DateTime<Utc>> {
        match value {
            ParamValue::Instant(at) => Some(*at),
            ParamValue::Text(text) => match text.parse::<NaiveDate>() {
                Ok(date) => Some(date.and_time(NaiveTime::MIN).and_utc()),
                Err(_) => text.parse::<DateTime<Utc>>().ok(),
            },
            _ => None,
        }
    };
    match to {
        DataType::Date32 | DataType::Date64 => {
            let at = instant(value)?;
            let day = at.timestamp().div_euclid(86_400);
            (at.time() == NaiveTime::MIN).then_some(())?;
            Some(i128::from(if *to == DataType::Date32 { day } else { day * 86_400_000 }))
        }
        DataType::Timestamp(unit, _) => {
            let nanos = i128::from(instant(value)?.timestamp()) * 1_000_000_000
                + i128::from(instant(value)?.timestamp_subsec_nanos());
            let per = match unit {
                TimeUnit::Second => 1_000_000_000,
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Microsecond => 1_000,
                TimeUnit::Nanosecond => 1,
            };
            (nanos % per == 0).then_some(nanos / per)
        }
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => match value {
            ParamValue::Int(number) => {
                i128::from(*number).checked_mul(10i128.checked_pow(u32::try_from(*scale).ok()?)?)
            }
            _ => None,
        },
        _ => match value {
            ParamValue::Int(number) => Some(i128::from(*number)),
            ParamValue::Text(text) => text.parse::<i128>().ok().filter(|number| number.to_string() == *text),
            _ => None,
        },
    }
}

/// Row number of the first value that is NULL or not allowed; the column's type if it is none of `allowed`'s.
fn first_foreign(column: &dyn Array, allowed: &Allowed) -> Result<Option<usize>, DataType> {
    if let DataType::Dictionary(..) = column.data_type() {
        return dictionary(column, allowed);
    }
    let found = match allowed {
        Allowed::Numbers(numbers) => numbers_in(column, numbers),
        Allowed::Texts(texts) => {
            let ok = |text: Option<&str>| text.is_some_and(|text| texts.contains(text));
            match column.data_type() {
                DataType::Utf8 => Some(column.as_string::<i32>().iter().position(|text| !ok(text))),
                DataType::LargeUtf8 => Some(column.as_string::<i64>().iter().position(|text| !ok(text))),
                DataType::Utf8View => Some(column.as_string_view().iter().position(|text| !ok(text))),
                _ => None,
            }
        }
        Allowed::Bools { yes, no } => column
            .as_boolean_opt()
            .map(|bools| bools.iter().position(|value| !value.is_some_and(|value| if value { *yes } else { *no }))),
    };
    found.ok_or_else(|| column.data_type().clone())
}

fn numbers_in(column: &dyn Array, allowed: &HashSet<i128>) -> Option<Option<usize>> {
    fn scan<T: ArrowPrimitiveType>(column: &dyn Array, allowed: &HashSet<i128>) -> Option<Option<usize>>
    where
        T::Native: Into<i128>,
    {
        let values = column.as_primitive_opt::<T>()?;
        // Runs of one tenant are the rule: the set is asked once per change.
        let mut last = None;
        Some(values.iter().position(|value| match value {
            None => true,
            Some(value) if last == Some(value) => false,
            Some(value) => {
                last = Some(value);
                !allowed.contains(&value.into())
            }
        }))
    }
    match column.data_type() {
        DataType::Int8 => scan::<Int8Type>(column, allowed),
        DataType::Int16 => scan::<Int16Type>(column, allowed),
        DataType::Int32 => scan::<Int32Type>(column, allowed),
        DataType::Int64 => scan::<Int64Type>(column, allowed),
        DataType::UInt8 => scan::<UInt8Type>(column, allowed),
        DataType::UInt16 => scan::<UInt16Type>(column, allowed),
        DataType::UInt32 => scan::<UInt32Type>(column, allowed),
        DataType::UInt64 => scan::<UInt64Type>(column, allowed),
        DataType::Date32 => scan::<Date32Type>(column, allowed),
        DataType::Date64 => scan::<Date64Type>(column, allowed),
        DataType::Timestamp(TimeUnit::Second, _) => scan::<TimestampSecondType>(column, allowed),
        DataType::Timestamp(TimeUnit::Millisecond, _) => scan::<TimestampMillisecondType>(column, allowed),
        DataType::Timestamp(TimeUnit::Microsecond, _) => scan::<TimestampMicrosecondType>(column, allowed),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => scan::<TimestampNanosecondType>(column, allowed),
        DataType::Decimal32(..) => scan::<Decimal32Type>(column, allowed),
        DataType::Decimal64(..) => scan::<Decimal64Type>(column, allowed),
        DataType::Decimal128(..) => scan::<Decimal128Type>(column, allowed),
        _ => None,
    }
}

fn dictionary(column: &dyn Array, allowed: &Allowed) -> Result<Option<usize>, DataType> {
    fn scan<K: ArrowDictionaryKeyType>(column: &dyn Array, allowed: &Allowed) -> Result<Option<usize>, DataType> {
        let Some(dictionary) = column.as_dictionary_opt::<K>() else {
            return Err(column.data_type().clone());
        };
        let values = dictionary.values();
        // A dictionary may hold values that no row uses, so each is judged alone.
        let good = (0..values.len())
            .map(|at| Ok(first_foreign(values.slice(at, 1).as_ref(), allowed)?.is_none()))
            .collect::<Result<Vec<bool>, DataType>>()?;
        let ok = |key: Option<K::Native>| key.is_some_and(|key| good.get(key.as_usize()).copied().unwrap_or(false));
        Ok(dictionary.keys().iter().position(|key| !ok(key)))
    }
    match column.data_type() {
        DataType::Dictionary(key, _) => match key.as_ref() {
            DataType::Int8 => scan::<Int8Type>(column, allowed),
            DataType::Int16 => scan::<Int16Type>(column, allowed),
            DataType::Int32 => scan::<Int32Type>(column, allowed),
            DataType::Int64 => scan::<Int64Type>(column, allowed),
            DataType::UInt8 => scan::<UInt8Type>(column, allowed),
            DataType::UInt16 => scan::<UInt16Type>(column, allowed),
            DataType::UInt32 => scan::<UInt32Type>(column, allowed),
            DataType::UInt64 => scan::<UInt64Type>(column, allowed),
            other => Err(other.clone()),
        },
        other => Err(other.clone()),
    }
}
