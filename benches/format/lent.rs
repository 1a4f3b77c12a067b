//! Arrow's batches as the SDK's, for formatters that run natively.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use consign_sdk::{BatchSource, RawColumn};

/// A batch without nested columns as the host hands it over.
pub struct Lent<'a>(pub &'a RecordBatch);

impl BatchSource for Lent<'_> {
    fn rows(&self) -> usize {
        self.0.num_rows()
    }

    fn columns(&self) -> Vec<RawColumn> {
        self.0.columns().iter().map(raw_column).collect()
    }

    fn arrow_ipc(&self) -> Vec<u8> {
        Vec::new()
    }

    fn json_lines(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// One copy of each buffer, like `host/plugin/v1/lower.rs`.
fn raw_column(array: &ArrayRef) -> RawColumn {
    let (length, null_count) = (array.len(), array.null_count());
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
    let validity = nulls.map(|nulls| nulls.inner().sliced().as_slice()[..length.div_ceil(8)].to_vec());
    let (offsets, values) = match array.as_string_opt::<i32>() {
        Some(texts) => {
            let (first, last) = (texts.offsets()[0], texts.offsets()[length]);
            assert_eq!(first, 0, "the batch is not a slice");
            (Some(texts.offsets().inner().inner().as_slice().to_vec()), texts.value_data()[..last as usize].to_vec())
        }
        None => {
            let (data, width) = (array.to_data(), array.data_type().primitive_width().expect("a plain type"));
            (None, data.buffers()[0].as_slice()[data.offset() * width..][..length * width].to_vec())
        }
    };
    RawColumn { length, null_count, validity, offsets, values }
}

pub fn schema(schema: &Schema) -> consign_sdk::Schema {
    consign_sdk::Schema { fields: schema.fields().iter().map(|field| plain(field)).collect() }
}

fn plain(field: &Field) -> consign_sdk::Field {
    use consign_sdk::DataType as Plain;
    let data_type = match field.data_type() {
        DataType::Int16 => Plain::Int16,
        DataType::Int32 => Plain::Int32,
        DataType::Int64 => Plain::Int64,
        DataType::Decimal128(precision, scale) => Plain::Decimal128 { precision: *precision, scale: *scale },
        DataType::Date32 => Plain::Date32,
        DataType::Timestamp(TimeUnit::Millisecond, zone) => Plain::Timestamp {
            unit: consign_sdk::TimeUnit::Millisecond,
            timezone: zone.as_ref().map(|zone| zone.to_string()),
        },
        DataType::Utf8 => Plain::Utf8,
        other => panic!("there is no {other} in the datasets"),
    };
    consign_sdk::Field { name: field.name().clone(), data_type, nullable: field.is_nullable() }
}
