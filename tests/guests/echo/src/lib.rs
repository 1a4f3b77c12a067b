//! Gives back what it is given, so that the host's tests can compare: the
//! schema as text (object `schema`), and each batch as one object
//! (`batch-0`, `batch-1`, …) in the view that the options name.

use std::cell::Cell;

wit_bindgen::generate!({ path: "../../../wit/v1", world: "consign:format/format-plugin" });

use consign::format::data::Batch;
use consign::format::output::Sink;
use consign::format::types::{
    Column, DataType, Description, Diagnostic, Error, Field, IntervalUnit, Severity, TimeUnit,
};
use exports::consign::format::formatter::{Formatter, Guest, GuestFormatter};

struct Echo;

struct Open {
    options: String,
    schema: Vec<Field>,
    batches: Cell<u32>,
    rows: Cell<u64>,
}

export!(Echo);

impl Guest for Echo {
    type Formatter = Open;

    fn describe() -> Description {
        Description {
            name: "echo".into(),
            version: "1.0.0".into(),
            extension: "bin".into(),
            media_type: "application/octet-stream".into(),
            // Followed by blanks, so that a test can put another in its place.
            options_schema: include_str!("schema.json").into(),
        }
    }

    fn check(options: String, schema: Vec<Field>) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        if schema.is_empty() {
            found.push(Diagnostic { severity: Severity::Warning, path: String::new(), message: "no columns".into() });
        }
        if options.contains("\"wrong\"") {
            found.push(Diagnostic { severity: Severity::Error, path: "/wrong".into(), message: "is wrong".into() });
        }
        found
    }
}

impl GuestFormatter for Open {
    fn open(options: String, schema: Vec<Field>) -> Result<Formatter, Error> {
        Ok(Formatter::new(Open { options, schema, batches: Cell::new(0), rows: Cell::new(0) }))
    }

    fn write(&self, batch: &Batch, sink: &Sink) -> Result<(), Error> {
        let number = self.batches.replace(self.batches.get() + 1);
        let object = sink.create(&format!("batch-{number}"), "application/octet-stream");
        let bytes = if self.options.contains("arrow-ipc") {
            batch.arrow_ipc()
        } else if self.options.contains("json-lines") {
            batch.json_lines()
        } else {
            encode(&batch.columns())
        };
        for piece in bytes.chunks(1 << 20) {
            object.write(piece);
        }
        object.finish(batch.rows().into());
        self.rows.set(self.rows.get() + u64::from(batch.rows()));
        Ok(())
    }

    fn finish(&self, sink: &Sink) -> Result<(), Error> {
        let object = sink.create("schema", "text/plain");
        for field in &self.schema {
            let nullable = if field.nullable { "null" } else { "not null" };
            let kind = name(&field.data_type);
            object.write(format!("{}|{kind}|{nullable}|{}\n", field.name, field.children).as_bytes());
        }
        object.finish(0);
        Ok(())
    }
}

/// For each column: length, null count, then validity, offsets and values,
/// each as length + 1 (0 when absent) and bytes. All numbers are u32 little-endian.
fn encode(columns: &[Column]) -> Vec<u8> {
    let mut out = Vec::new();
    for column in columns {
        out.extend(column.length.to_le_bytes());
        out.extend(column.null_count.to_le_bytes());
        for buffer in [column.validity.as_deref(), column.offsets.as_deref(), Some(&column.values[..])] {
            out.extend(buffer.map_or(0, |bytes| bytes.len() as u32 + 1).to_le_bytes());
            out.extend(buffer.unwrap_or_default());
        }
    }
    out
}

fn name(kind: &DataType) -> String {
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    };
    match kind {
        DataType::Null => "null".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "int8".into(),
        DataType::Int16 => "int16".into(),
        DataType::Int32 => "int32".into(),
        DataType::Int64 => "int64".into(),
        DataType::Uint8 => "uint8".into(),
        DataType::Uint16 => "uint16".into(),
        DataType::Uint32 => "uint32".into(),
        DataType::Uint64 => "uint64".into(),
        DataType::Float16 => "float16".into(),
        DataType::Float32 => "float32".into(),
        DataType::Float64 => "float64".into(),
        DataType::Decimal32(d) => format!("decimal32({},{})", d.precision, d.scale),
        DataType::Decimal64(d) => format!("decimal64({},{})", d.precision, d.scale),
        DataType::Decimal128(d) => format!("decimal128({},{})", d.precision, d.scale),
        DataType::Decimal256(d) => format!("decimal256({},{})", d.precision, d.scale),
        DataType::Date32 => "date32".into(),
        DataType::Date64 => "date64".into(),
        DataType::Time32(u) => format!("time32({})", unit(u)),
        DataType::Time64(u) => format!("time64({})", unit(u)),
        DataType::Timestamp(t) => format!("timestamp({},{})", unit(&t.unit), t.timezone.as_deref().unwrap_or("-")),
        DataType::Duration(u) => format!("duration({})", unit(u)),
        DataType::Interval(IntervalUnit::YearMonth) => "interval(ym)".into(),
        DataType::Interval(IntervalUnit::DayTime) => "interval(dt)".into(),
        DataType::Interval(IntervalUnit::MonthDayNano) => "interval(mdn)".into(),
        DataType::Binary => "binary".into(),
        DataType::Utf8 => "utf8".into(),
        DataType::LargeBinary => "large-binary".into(),
        DataType::LargeUtf8 => "large-utf8".into(),
        DataType::FixedSizeBinary(size) => format!("fixed-size-binary({size})"),
        DataType::ListOf => "list".into(),
        DataType::LargeListOf => "large-list".into(),
        DataType::FixedSizeListOf(size) => format!("fixed-size-list({size})"),
        DataType::StructOf => "struct".into(),
        DataType::MapOf(sorted) => format!("map({sorted})"),
        DataType::SparseUnionOf(ids) => format!("sparse-union({ids:?})"),
        DataType::DenseUnionOf(ids) => format!("dense-union({ids:?})"),
    }
}
