//! Whole numbers that Avro says in another unit: exactly the same value, or none.

use consign_sdk::{Column, DataType, Error, Native, Values};

use crate::types::Conversion;

const DAY_MILLISECONDS: i64 = 24 * 60 * 60 * 1000;

/// The values of a column as Avro says them, those that are null as anything.
pub(crate) fn convert(column: &Column<'_>, conversion: Conversion) -> Result<Vec<i64>, Error> {
    match column.data_type() {
        DataType::UInt64 => each(column, column.u64s()?, |value| i64::try_from(value).ok(), conversion),
        DataType::Time32(_) => each(column, column.i32s()?, |value| conversion.of(value.into()), conversion),
        _ => each(column, column.i64s()?, |value| conversion.of(value), conversion),
    }
}

fn each<T: Native>(
    column: &Column<'_>,
    values: Values<'_, T>,
    convert: impl Fn(T) -> Option<i64>,
    conversion: Conversion,
) -> Result<Vec<i64>, Error> {
    let converted = values.iter().map(|value| value.map_or(Some(0), &convert)).collect::<Option<Vec<i64>>>();
    converted.ok_or_else(|| Error::Unsupported(format!("column `{}`: {}", column.name(), conversion.refusal())))
}

impl Conversion {
    fn of(self, value: i64) -> Option<i64> {
        let whole = |part: i64| if value % part == 0 { Some(value / part) } else { None };
        match self {
            Conversion::OfU64 => Some(value),
            Conversion::Days => whole(DAY_MILLISECONDS),
            Conversion::TimesThousand => value.checked_mul(1000),
            Conversion::ByThousand => whole(1000),
        }
    }

    fn refusal(self) -> &'static str {
        match self {
            Conversion::OfU64 => "a number is beyond what Avro's long can hold: cast it to decimal(20, 0) in the query",
            Conversion::Days => {
                "a date has a time of day, which Avro's dates have not: cast it to a timestamp in the query"
            }
            Conversion::TimesThousand => "a time is beyond what milliseconds can count: filter it in the query",
            Conversion::ByThousand => {
                "a value has nanoseconds, which Avro's microseconds cannot hold: cut it in the query \
                 (`date_trunc('microsecond', …)`), or for timestamps set options.nanoseconds to \"nanos\""
            }
        }
    }
}
