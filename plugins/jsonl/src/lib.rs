//! The jsonl format: one JSON object a row.

use consign_sdk::json::{JsonObjects, JsonOptions};
use consign_sdk::{Batch, DataType, Error, Field, Formatter, Output, RowWriter, RunFacts, Schema};

/// The jsonl format.
pub struct Jsonl {
    options: JsonOptions,
    rows: RowWriter,
}

impl Formatter for Jsonl {
    const NAME: &'static str = "jsonl";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const EXTENSION: &'static str = "jsonl";
    const MEDIA_TYPE: &'static str = "application/x-ndjson";

    type Options = JsonOptions;

    fn open(options: JsonOptions, schema: &Schema, _: &RunFacts) -> Result<Self, Error> {
        distinct_names(&schema.fields, "")?;
        Ok(Jsonl { options, rows: RowWriter::new("") })
    }

    fn write(&mut self, batch: &Batch<'_>, out: &mut Output<'_>) -> Result<(), Error> {
        let columns = batch.columns()?;
        let objects = JsonObjects::of(&columns, &self.options)?;
        self.rows.write_columns(batch.rows(), out, |block| objects.write_lines(block))
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        self.rows.finish(out)
    }
}

consign_sdk::export!(Jsonl);

/// An object with a key twice loses one of the values in most readers.
fn distinct_names(fields: &[Field], inside: &str) -> Result<(), Error> {
    let mut names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    names.sort_unstable();
    if let Some([twice, _]) = names.array_windows().find(|[a, b]| a == b) {
        return Err(Error::Unsupported(format!(
            "two columns{inside} are named `{twice}`, which a JSON object cannot have: rename one in the query"
        )));
    }
    for field in fields {
        let here = format!(" of `{}`", field.name);
        match &field.data_type {
            DataType::Struct(members) => distinct_names(members, &here)?,
            _ => field.children().iter().try_for_each(|child| distinct_names(std::slice::from_ref(child), &here))?,
        }
    }
    Ok(())
}
