//! Values of the types that Parquet says differently.

use consign_sdk::{Column, DataType, Error, Native, TimeUnit, Values};

const DAY_MILLISECONDS: i64 = 24 * 60 * 60 * 1000;

/// New values for the types that Parquet says differently.
pub(crate) fn convert(column: &Column<'_>) -> Result<Option<Vec<u8>>, Error> {
    let name = column.name();
    match column.data_type() {
        DataType::Timestamp { unit: TimeUnit::Second, .. } => {
            let beyond = || format!("column `{name}`: a timestamp is beyond what milliseconds can count");
            each(column.i64s()?, beyond, |second| second.checked_mul(1000).map(i64::to_le_bytes))
        }
        DataType::Time32(TimeUnit::Second) => {
            let beyond = || format!("column `{name}`: a time is not within a day");
            each(column.i32s()?, beyond, |second| second.checked_mul(1000).map(i32::to_le_bytes))
        }
        DataType::Date64 => {
            let beyond = || {
                format!(
                    "column `{name}`: a date has a time of day, which Parquet's dates have not: cast it to a timestamp"
                )
            };
            each(column.i64s()?, beyond, |milliseconds| match milliseconds % DAY_MILLISECONDS {
                0 => i32::try_from(milliseconds / DAY_MILLISECONDS).ok().map(i32::to_le_bytes),
                _ => None,
            })
        }
        _ => Ok(None),
    }
}

fn each<T: Native, const WIDTH: usize>(
    values: Values<'_, T>,
    beyond: impl Fn() -> String,
    convert: impl Fn(T) -> Option<[u8; WIDTH]>,
) -> Result<Option<Vec<u8>>, Error> {
    let mut bytes = Vec::with_capacity(values.len() * WIDTH);
    for value in values.iter() {
        match value.map(&convert) {
            None => bytes.extend_from_slice(&[0; WIDTH]),
            Some(Some(value)) => bytes.extend_from_slice(&value),
            Some(None) => return Err(Error::Unsupported(beyond())),
        }
    }
    Ok(Some(bytes))
}
