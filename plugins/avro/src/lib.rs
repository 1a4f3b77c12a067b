//! The avro format: object container files (Avro specification 1.11), every
//! column with its own type.
//!
//! Rows are encoded into a block, which is compressed and handed to the host
//! when it is full, so memory depends on the size of a block, never on the
//! dataset.

mod codec;
mod container;
mod convert;
mod encode;
mod options;
mod types;

use consign_sdk::{Batch, Diagnostic, Error, Formatter, Output, RunFacts, Schema};

use container::Container;
use encode::Encoder;
pub use options::{Compression, Nanoseconds, Options};
use types::Type;

/// The avro format.
pub struct Avro {
    columns: Vec<Type>,
    container: Container,
}

impl Formatter for Avro {
    const NAME: &'static str = "avro";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const EXTENSION: &'static str = "avro";
    /// The Avro specification names none for container files; this is the usual one.
    const MEDIA_TYPE: &'static str = "application/avro";

    type Options = Options;

    fn open(options: Options, schema: &Schema, run: &RunFacts) -> Result<Self, Error> {
        options.check()?;
        let columns = types::columns(schema, &options)?;
        let json = types::schema_json(&options.name, schema, &columns);
        Ok(Avro { columns, container: Container::new(&options, json, run)? })
    }

    fn write(&mut self, batch: &Batch<'_>, out: &mut Output<'_>) -> Result<(), Error> {
        let columns = batch.columns()?;
        let encoders = columns.iter().zip(&self.columns).map(|(column, to)| Encoder::of(column, to));
        let encoders = encoders.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.rows() {
            let block = self.container.row();
            for encoder in &encoders {
                encoder.write(row, block);
            }
            self.container.end_row(out)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        self.container.finish(out)
    }

    fn check(options: &str, schema: &Schema) -> Vec<Diagnostic> {
        let mut findings = consign_sdk::options::check::<Self>(options, schema);
        findings.extend(types::warnings(schema));
        findings
    }
}

consign_sdk::export!(Avro);
